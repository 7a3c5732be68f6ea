"""The slope of a loss along one similarity or one distance: which penalty is it, and where does it change?

In:  a bench, or a lab.
Out: differences: softplus for a hinge, no hinge, another margin, a square that is missing, a focal factor, a floor.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refcl.oracle.measure import settings
from refcl.oracle.measure.bench import Bench
from refcl.oracle.measure.lab import Lab, difference
from refcl.oracle.measure.pairs import Measured
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.question import Question


def swept(bench: Bench, m: Measured) -> list[Difference]:
    """Sweep the similarity of an anchor to its positive, and see what the loss is a function of."""
    q = bench.lab.question
    if not np.any(m.counted):
        return []  # a constant
    if bench.gram and (q.recipe.pool != "softmax" or q.recipe.anchors != "first"):
        return []
    if q.recipe.reduction == "none" or (len(q.inputs) > 1 and not bench.gram):
        return []
    if q.row.hinge:
        return _hinge(bench, m)
    if q.recipe.pool != "softmax":
        return []
    return _of_the_loss(bench, m)


def anchors_chosen(bench: Bench, m: Measured) -> list[Difference]:
    """Say which anchors have no loss where that depends on the batch: those with the largest loss, or the smallest."""
    q = bench.lab.question
    if q.recipe.anchors != "first" or (bench.gram and q.recipe.candidates == "all"):
        return []
    if settings.changed(bench.right_question, reduction="none") is None:
        return []
    owner = np.array([i for i, _ in bench.entries])
    anchors = [i for i in np.unique(owner) if not bench.gram or bench.rows[i][0] == q.inputs[0]]
    apart = [not bench.gram or bench.rows[i][0] != bench.rows[j][0] for i, j in bench.entries]
    its = [(owner == i) & apart for i in anchors]
    on, due = (
        np.array([np.max(np.abs(g[:, e]), axis=1) > t for e in its]).T
        for g, t in ((m.got, m.tell), (m.want, 1e3 * m.tell))
    )
    gone = due & ~on  # (K, N)
    if not np.any(gone) or np.any(np.all(gone, axis=0)):
        return []
    for k, its_on in enumerate(on):  # an anchor that is kept is what it should be, but for a factor
        kept = np.any(np.array(its)[its_on], axis=0) if np.any(its_on) else np.zeros(len(owner), dtype=bool)
        got, want = m.got[k, kept], m.want[k, kept]
        c = np.sum(got * want) / max(np.sum(want * want), 1e-300)
        if np.any(np.abs(got - c * want) > 1e-3 * np.max(np.abs(got), initial=0.0)):
            return []
    losses = np.array([[_own_loss(bench, s, a) for a in range(len(anchors))] for s in m.drawn])
    which = "which they are is not told by their loss"
    for said, x in (("the largest", losses), ("the smallest", -losses)):
        if all(np.min(a[g]) > np.max(a[~g]) for a, g in zip(x, gone, strict=True) if np.any(g) and not np.all(g)):
            which = f"those with {said} loss are left out"
    if q.row.hinge and "largest" not in which:
        return []  # their hinge is closed
    return [say("anchors chosen", which=which)]


def _own_loss(bench: Bench, s: Any, anchor: int) -> float:
    none = settings.changed(bench.right_question, reduction="none")
    assert none is not None
    inputs, companions = bench.inputs(s)
    probe = bench.lab.probe(inputs, None, companions)
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
            tau = bench.lab.question.temperature(bench.lab.scalar) or 1.0
            m_s = float(np.median(added)) * tau
            k = bench.lab.question.facts(bench.inputs(bench.draw(0))[0], bench.lab.scalar).negatives
            mean = abs(m_s / tau + math.log(k)) < 1e-3 and k > 1
            why = f": -ln {k}, so that the {k} negatives are averaged, not added" if mean else ""
            return [say("margin on the positive", m=m_s, logit=m_s / tau, why=why)]
    for gamma in (0.5, 1.0, 2.0, 3.0, 5.0):
        focal = (1 - p) ** gamma + loss * gamma * (1 - p) ** (gamma - 1) * p
        if np.allclose(slope, focal, rtol=1e-3):
            return [say("focal factor", gamma=gamma)]
    menu = (
        ("1 - p: the probability itself, without the logarithm", p),
        ("the square of -log p", 2 * loss),
        ("√(-log p)", 0.5 / np.sqrt(loss)),
        ("log(1 + L)", 1 / (1 + loss)),
    )
    for said, curve in menu:
        c = float(np.sum(slope * curve) / np.sum(curve * curve))
        if np.allclose(slope, c * curve, rtol=1e-3):
            return [say("another penalty", penalty=said)]
    shown = ", ".join(f"{b:.3g} at {a:.3g}" for a, b in zip(loss[::3], slope[::3], strict=False))
    return [say("slope depends on the loss", slopes=shown)]


def _hinge(bench: Bench, m: Measured) -> list[Difference]:
    """Read the penalty of a triplet off its slope along the positive, where one negative is nearer than all others."""
    q = bench.lab.question
    margin = float(q.setting("margin"))
    if not any(m.positive[e] and bench.entries[e] == (0, 0) for e in range(len(bench.entries))):
        return []
    s = bench.draw(60)
    s[0], s[0, 1] = -5.0, 0.3
    gaps = np.array([-1.03, -0.73, -0.41, -0.17, 0.07, 0.13, 0.31, 0.57, 0.93]) - margin
    if q.row.hinge == "semi-hard":  # a negative counts below the positive alone
        gaps = margin * np.array([-3.0, -2.1, -1.5, -1.2, -0.8, -0.5, -0.3, -0.1])
    scale = bench.shape[0] if q.recipe.reduction == "mean" else 1

    def value(gap: float) -> float:
        here = s.copy()
        here[0, 0] = 0.3 - gap
        return scale * bench.value(here)

    return named_penalty(bench.lab, value, gaps, [bench.inputs(x)[0] for x in m.drawn])


def slopes(value: Callable[[float], float], gaps: Any) -> Any:
    """Return the derivative of a loss at some gaps."""
    return np.array([difference(lambda t, g=g: value(float(g) + t), 2e-3) for g in gaps])  # type: ignore[misc]


def named_penalty(
    lab: Lab, value: Callable[[float], float], gaps: Any, batches: list[tuple[Any, ...]], columns: int = 0
) -> list[Difference]:
    """Say what stands in the place of the hinge max(gap + margin, 0), from the loss at some gaps, and on batches."""
    q = lab.question
    margin, d = float(q.more_scalars[0] if q.more_scalars else q.setting("margin")), slopes(value, gaps)
    want = (gaps + margin > 0).astype(float)
    if not np.all(np.isfinite(d)) or np.allclose(d, want, atol=1e-4):
        return []
    if np.all(d <= 1e-4) and np.any(d < -0.5):
        return []
    if np.allclose(d, 1.0, atol=1e-4):
        return [say("hinge missing")]
    closed = d[gaps + margin < 0]
    if (
        len(closed) > 1
        and np.ptp(closed) < 1e-4
        and abs(closed[0]) > 1e-3
        and np.allclose(d[gaps + margin > 0], 1.0, atol=1e-4)
    ):
        return [say("leaky hinge", slope=float(np.mean(closed)))]
    inside = (d > 1e-9) & (d < 1 - 1e-9)
    if np.all(inside) and np.ptp(d) > 1e-3:
        logit = np.log(d / (1 - d))
        line = np.polyfit(gaps, logit, 1)
        if np.allclose(np.polyval(line, gaps), logit, atol=1e-3) and line[0] > 0:
            warm = "" if abs(line[0] - 1) < 1e-3 else f", at temperature {1 / line[0]:.4g}"
            margin = round(line[1] / line[0], 6) + 0.0  # no -0
            return [say("softplus for a hinge", margin=margin, temperature=warm)]
    on = d > 1e-4
    if np.any(on) and np.all(np.abs(d[on] - 2 * (gaps[on] + margin)) < 1e-3):
        return [say("hinge squared")]
    c = float(d[-1])
    low, high = float(gaps[0]) if abs(d[0]) < 1e-4 else -margin - 4 * (1 + margin) / max(c, 0.05), float(gaps[-1])
    if c < 1e-3 or abs(slopes(value, [low])[0]) > 1e-4:
        return []
    m = round(value(high) - value(low) - c * high, 6) + 0.0  # of the line c gap + m
    if any(abs(lab.value(x) - _with_line(q, x, c, m)) > 1e-5 * (1 + abs(m)) for x in batches):
        return []
    if abs(c - 1) < 1e-4:
        why = "subtracted, not added" if abs(m + margin) < 1e-5 else "missing" if not m else "another"
        why = f": the margin is {why}"
    else:
        names = {2.0: "as with squared distances 2 - 2s"}
        names |= {columns**-k: f"1/{'√' * (k < 1)}D, a mean over the D columns, not a sum" for k in (1, 0.5) if columns}
        name = "".join(f" ({name})" for x, name in names.items() if abs(c - x) < 1e-4)
        why = f": the gap counts {c:.4g} times{name}"
        why += f", the margin {m / margin:.4g} times" if margin else ""
    times = f"{c:.4g} gap" if abs(c - 1) > 1e-4 else "gap"
    got = f"{times} {'-' if m < 0 else '+'} {abs(m):.4g}"
    return [say("another hinge", got=got, right=f"gap + {margin:.4g}", why=why)]


def _with_line(q: Question, batch: tuple[Any, ...], c: float, m: float) -> float:
    """Return what a batch costs with the hinge max(c gap + m, 0): at a large margin every hinge is open."""
    large = 100.0
    other = settings.changed(q, reduction="none", **({} if q.more_scalars else {"margin": large}))
    if other is None:
        return math.nan
    losses = (replace(other, more_scalars=(large,)) if q.more_scalars else other).value(batch, None)
    gaps = np.where(losses > 0, losses - large, -np.inf)
    return float((np.sum if q.recipe.reduction != "mean" else np.mean)(np.maximum(c * gaps + m, 0)))
