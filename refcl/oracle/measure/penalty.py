"""The slope of a loss along one similarity or one distance: which penalty is it, and where does it change?

In:  a bench, or a lab.
Out: differences: softplus for a hinge, no hinge, another margin, a square that is missing, a focal factor, a floor.
"""

import math
from typing import Any

import numpy as np

from refcl.oracle.measure import settings
from refcl.oracle.measure.bench import Bench
from refcl.oracle.measure.lab import difference
from refcl.oracle.measure.pairs import Measured
from refcl.oracle.names.difference import Difference


def swept(bench: Bench, m: Measured) -> list[Difference]:
    """Sweep the similarity of an anchor to its positive, and see what the loss is a function of."""
    q = bench.lab.question
    if bench.gram and (q.recipe.pool != "softmax" or q.recipe.anchors != "first"):
        return []
    if q.recipe.reduction == "none" or (len(q.inputs) > 1 and not bench.gram):
        return []
    if q.row.hinge:
        return _hinge(bench, m)
    if q.recipe.pool != "softmax":
        return []
    return _of_the_loss(bench, m)


def _own_loss(bench: Bench, s: Any, anchor: int) -> float:
    none = settings.changed(q := bench.right_question, reduction="none")
    assert none is not None
    inputs, companions = bench.inputs(s)
    probe = bench.lab.probe(inputs, None, companions)
    del q
    return float(np.ravel(none.under(probe).expected(inputs, bench.lab.scalar).value)[anchor])


def _of_the_loss(bench: Bench, m: Measured) -> list[Difference]:
    """See whether the value is a function φ of each anchor's right loss, and which."""
    if settings.changed(bench.right_question, reduction="none") is None:
        return []
    positive = [e for e in range(len(bench.entries)) if m.positive[e] and bench.entries[e][0] == 0]
    if len(positive) != 1:
        return []
    other = next(
        (e for e in range(len(bench.entries)) if bench.entries[e][0] == 0 and e not in positive and m.used[e]), None
    )
    if other is None:
        return []
    slopes = []
    for k in range(3):
        s = bench.draw(40 + k)
        for t in np.linspace(-0.25, 0.25, 4):
            here = bench.moved(s, bench.entries[positive[0]], float(t))
            if bench.gram and np.min(np.linalg.eigvalsh(here)) < 0.02:
                continue
            got, want = bench.gradient(here), bench.right_gradient(here)
            a, b = got[positive[0]] / want[positive[0]], got[other] / want[other]
            if not (math.isfinite(a) and math.isfinite(b)) or abs(a - b) > 1e-3 * max(abs(a), abs(b)):
                return []  # not a function of the anchor's loss alone
            slopes.append((_own_loss(bench, here, 0), a))
    if len(slopes) < 5:
        return []
    loss, slope = np.array(sorted(slopes)).T
    if np.ptp(slope) < 1e-4 * np.max(np.abs(slope)):
        return []
    p = np.exp(-loss)
    pushed = slope * (1 - p)  # σ(gap + margin), where it is a margin
    if np.all((pushed > 0) & (pushed < 1)):
        added = np.log(pushed / (1 - pushed)) - np.log((1 - p) / p)
        if np.ptp(added) < 1e-3 * max(1.0, abs(float(added[0]))):
            tau = q.temperature(bench.lab.scalar) if (q := bench.lab.question) else None
            m_s = float(np.median(added)) * (tau or 1.0)
            return [
                Difference(
                    f"an additive margin of {m_s:.4g} is subtracted from the similarity of the positive"
                    f" ({m_s / (tau or 1.0):.4g} on its logit)",
                    "",
                    f"(s_p - {m_s:.4g})/τ",
                    "s_p/τ",
                    "no margin",
                )
            ]
    for gamma in (0.5, 1.0, 2.0, 3.0, 5.0):
        focal = (1 - p) ** gamma + loss * gamma * (1 - p) ** (gamma - 1) * p
        if np.allclose(slope, focal, rtol=1e-3):
            return [
                Difference(
                    f"each anchor's loss is weighted by (1 - p)^{gamma:g}, p its own probability: a focal factor",
                    "",
                    f"-(1 - p)^{gamma:g} log p",
                    "-log p",
                    "-log p",
                )
            ]
    menu = (
        ("1 - p: the probability itself, without the logarithm", p),
        ("the square of -log p", 2 * loss),
        ("√(-log p)", 0.5 / np.sqrt(loss)),
        ("log(1 + L)", 1 / (1 + loss)),
    )
    for said, curve in menu:
        c = float(np.sum(slope * curve) / np.sum(curve * curve))
        if np.allclose(slope, c * curve, rtol=1e-3):
            return [Difference(f"the penalty of an anchor is {said}, not -log p", "", said, "-log p", "-log p")]
    shown = ", ".join(f"{b:.3g} at {a:.3g}" for a, b in zip(loss[::3], slope[::3], strict=False))
    return [
        Difference(
            "the value is another function of each anchor's loss: anchors are weighted by their own probability p"
            " (the slope depends on the loss)",
            "",
            f"slopes {shown}",
            "slope 1 at every loss",
            "-log p",
        )
    ]


def _hinge(bench: Bench, m: Measured) -> list[Difference]:
    """Read the penalty of a triplet off its slope along the positive."""
    q = bench.lab.question
    n = bench.shape[0]
    margin = float(q.setting("margin"))
    if q.row.hinge == "semi-hard":
        return _semi_hard(bench, m)
    s = bench.draw(60)
    entry = (0, 0)
    if not any(m.positive[e] and bench.entries[e] == entry for e in range(len(bench.entries))):
        return []
    top = float(np.max(np.delete(s[0], 0)))
    gaps = np.array([-1.03, -0.73, -0.41, -0.17, 0.07, 0.13, 0.31, 0.57, 0.93]) - margin
    scale = n if q.recipe.reduction == "mean" else 1

    def slope(gap: float) -> float:
        here = s.copy()
        here[entry] = top - gap
        return -scale * difference(lambda t: bench.value(bench.moved(here, entry, t)), 2e-3)

    return named_penalty(gaps, np.array([slope(float(g)) for g in gaps]), margin)


def named_penalty(gaps: Any, d: Any, margin: float) -> list[Difference]:
    """Say what stands in the place of the hinge max(gap + margin, 0), from the slopes at some gaps."""
    want = (gaps + margin > 0).astype(float)
    if not np.all(np.isfinite(d)) or np.allclose(d, want, atol=1e-4):
        return []
    if np.all(d <= 1e-4) and np.any(d < -0.5):
        return []
    if np.allclose(d, 1.0, atol=1e-4):
        return [
            Difference(
                "the hinge is missing: max(·, 0) is not applied, the loss goes below zero where the negative is far",
                "",
                "gap + margin",
                "max(gap + margin, 0)",
                "max(gap + margin, 0)",
            )
        ]
    inside = (d > 1e-9) & (d < 1 - 1e-9)
    if np.all(inside):
        logit = np.log(d / (1 - d))
        line = np.polyfit(gaps, logit, 1)
        if np.allclose(np.polyval(line, gaps), logit, atol=1e-3) and line[0] > 0:
            return [
                Difference(
                    "a softplus (soft margin, log(1 + exp)) stands where the hinge belongs: softplus of gap +"
                    f" {round(line[1] / line[0], 6) + 0.0:.4g}"
                    + ("" if abs(line[0] - 1) < 1e-3 else f", at temperature {1 / line[0]:.4g}"),
                    "",
                    "log(1 + exp(gap + margin))",
                    "max(gap + margin, 0)",
                    "max(gap + margin, 0)",
                )
            ]
    on = d > 1e-4
    if np.all(np.abs(d[on] - 2 * (gaps[on] + margin)) < 1e-3):
        return [
            Difference(
                "the hinge is squared", "", "max(gap + margin, 0)²", "max(gap + margin, 0)", "max(gap + margin, 0)"
            )
        ]
    return []


def _semi_hard(bench: Bench, m: Measured) -> list[Difference]:
    """Say which negatives are chosen: nearer than the positive, or farther."""
    got_near = got_far = want_near = want_far = 0
    without = {"got": 0, "want": 0}
    for k, s in enumerate(m.drawn):
        for i in range(bench.shape[0]):
            p = next(e for e in range(len(bench.entries)) if bench.entries[e][0] == i and m.positive[e])
            s_pos = s[bench.entries[p]]
            none = not any(
                s[bench.entries[e]] < s_pos for e in range(len(bench.entries)) if bench.entries[e][0] == i and e != p
            )
            for e in range(len(bench.entries)):
                if bench.entries[e][0] == i and e != p:
                    near = s[bench.entries[e]] > s_pos
                    got, want = abs(m.got[k, e]) > m.tell, abs(m.want[k, e]) > m.tell
                    got_near, got_far = got_near + (got and near), got_far + (got and not near)
                    want_near, want_far = want_near + (want and near), want_far + (want and not near)
                    without["got"] += got and none
                    without["want"] += want and none
    if got_near and not got_far and want_far:
        return [
            Difference(
                "the comparison is turned (reversed): the negatives that count are nearer (more similar) than the"
                " positive, s_k > s_p, where those farther belong, s_k < s_p",
                "",
                "s_k > s_p",
                "s_k < s_p",
                "the hardest negative below the positive",
            )
        ]
    return _no_semi_hard(bench)


def _no_semi_hard(bench: Bench) -> list[Difference]:
    """Look at an anchor that has no negative below its positive."""
    n, columns = bench.shape
    s = bench.draw(3)
    s[0] = np.linspace(0.3, 0.9, columns)
    s[0, 0] = 0.1
    got, want = bench.gradient(s), bench.right_gradient(s)
    row = [e for e in range(len(bench.entries)) if bench.entries[e][0] == 0]
    if np.allclose(got[row], want[row], atol=1e-6):
        return []
    chosen = [bench.entries[e][1] for e in row if abs(got[e]) > 1e-6]
    del n
    otherwise = bench.lab.question.settings.get("otherwise", "skip")
    return [
        Difference(
            "an anchor that has no semi-hard negative (none farther than its positive) falls back to column"
            f" {', '.join(map(str, chosen)) or 'none'}, "
            f'expected otherwise="{otherwise}"',
            "",
            f"columns {chosen}",
            f'otherwise="{otherwise}"',
            "skip such an anchor",
        )
    ]


def by_region(bench: Bench, m: Measured) -> list[Difference]:
    """Where the loss has a floor, see whether the two agree above it and differ below."""
    q = bench.lab.question
    if q.recipe.inside != "reweighted":
        return []
    tau = q.temperature(bench.lab.scalar)
    if tau is None:
        return []
    agree: list[float] = []
    differ: list[float] = []
    floored_value = None
    for k in range(24):
        rng = np.random.default_rng((5, k))
        n = 3
        a = rng.standard_normal((n, 7)) + (2.5 * rng.random() if k % 2 else 0)
        b = a + (0.15 if k % 3 else 1.0) * rng.standard_normal((n, 7))
        if q.recipe.embeddings:
            inputs: tuple[Any, ...] = (a, b)
            z = np.concatenate([x / np.linalg.norm(x, axis=1, keepdims=True) for x in inputs])
            s = z @ z.T
            pos = np.roll(np.arange(2 * n), n)
            off = ~np.eye(2 * n, dtype=bool)
        else:
            s = rng.uniform(-0.9, 0.9, (n, 5)) - 0.5 * (k % 2)
            s[np.arange(n), np.arange(n)] = rng.uniform(0.2, 0.95, n)
            inputs, pos, off = (s,), np.arange(n), np.ones_like(s, dtype=bool)
        rows = np.arange(len(s))
        off[rows, pos] = False
        e = np.where(off, np.exp(s / tau), 0.0)
        count = off.sum(1)
        beta = float(q.settings.get("beta", 0.0))
        w = np.where(off, np.exp(beta * s / tau), 0.0)
        rest = np.sum(w * e, 1) / (np.sum(w, 1) / count)
        plus = float(q.settings["tau_plus"])
        estimate = (rest - plus * count * np.exp(s[rows, pos] / tau)) / (1 - plus)
        below = estimate < count * math.exp(-1 / tau)
        got, want = bench.lab.value(inputs), bench.lab.right_value(inputs)
        same = abs(got - want) < 1e-7 * (1 + abs(want))
        (agree if same else differ).append(float(np.min(estimate / count)))
        if np.all(below) and math.isfinite(got):
            floored_value = (s[rows, pos], count, got)
    if not agree or not differ or min(agree) < max(differ) or max(differ) > 1e3:
        return []
    told = ""
    if floored_value is not None and q.recipe.reduction == "mean":
        s_pos, count, got = floored_value
        for x in settings.roots(
            lambda x: float(np.mean(np.log1p(count * 10.0**x * np.exp(-s_pos / tau)))) - got,
            float("nan"),
            np.arange(-8.0, 3.0, 0.4),
        ):
            c = 10.0**x
            laws = {
                "exp(-τ)": math.exp(-tau),
                "exp(1/τ)": math.exp(1 / tau),
                "0": 0.0,
                "1": 1.0,
                "1/τ": 1 / tau,
                "exp(-1/τ)/K": math.exp(-1 / tau) / count[0],
            }
            law = next((f" = {name}" for name, v in laws.items() if abs(v - c) < 1e-6 * max(v, 1e-9)), "")
            told = (
                f"; the floor (clamp) that is measured is K × {c:.5g}{law}, expected K × exp(-1/τ) = K ×"
                f" {math.exp(-1 / tau):.5g}"
            )
    if not told:
        told = ": the floor (clamp) is missing or not this one"
    return [
        Difference(
            "it is right while the estimate of the negatives is above its floor K exp(-1/τ), and wrong where it"
            f" falls below{told}",
            "",
            "",
            "max(estimate, K exp(-1/τ))",
            "clamp the estimate at K exp(-1/τ)",
        )
    ]
