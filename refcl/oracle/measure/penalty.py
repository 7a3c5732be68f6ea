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
from refcl.oracle.names.sentences import say


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
    losses = np.array([[_own_loss(bench, s, a) for a in range(len(anchors))] for s in m.drawn])
    which = "which they are is not told by their loss"
    for said, x in (("the largest", losses), ("the smallest", -losses)):
        if all(np.min(a[g]) > np.max(a[~g]) for a, g in zip(x, gone, strict=True) if np.any(g) and not np.all(g)):
            which = f"those with {said} loss are left out"
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
            return [say("margin on the positive", m=m_s, logit=m_s / tau)]
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
        return [say("hinge missing")]
    closed = d[gaps + margin < 0]
    if (
        len(closed) > 1
        and np.ptp(closed) < 1e-4
        and closed[0] > 1e-3
        and np.allclose(d[gaps + margin > 0], 1.0, atol=1e-4)
    ):
        return [say("leaky hinge", slope=float(np.mean(closed)))]
    inside = (d > 1e-9) & (d < 1 - 1e-9)
    if np.all(inside):
        logit = np.log(d / (1 - d))
        line = np.polyfit(gaps, logit, 1)
        if np.allclose(np.polyval(line, gaps), logit, atol=1e-3) and line[0] > 0:
            warm = "" if abs(line[0] - 1) < 1e-3 else f", at temperature {1 / line[0]:.4g}"
            margin = round(line[1] / line[0], 6) + 0.0  # no -0
            return [say("softplus for a hinge", margin=margin, temperature=warm)]
    on = d > 1e-4
    if np.any(on) and np.all(np.abs(d[on] - 2 * (gaps[on] + margin)) < 1e-3):
        return [say("hinge squared")]
    return []


def _semi_hard(bench: Bench, m: Measured) -> list[Difference]:
    """Say which negatives are chosen: nearer than the positive, or farther."""
    counts = np.zeros((2, 2), dtype=int)  # measured and expected: how often nearer and farther ones count
    furthest = []  # whether the one that counts is the last of several below the positive
    for k, s in enumerate(m.drawn):
        for i in range(bench.shape[0]):
            row = [e for e in range(len(bench.entries)) if bench.entries[e][0] == i]
            p = next(e for e in row if m.positive[e])
            below = [e for e in row if s[bench.entries[e]] < s[bench.entries[p]]]
            chosen = [e for e in below if abs(m.got[k, e]) > m.tell]
            if len(below) > 1 and len(chosen) == 1:
                furthest.append(chosen[0] == min(below, key=lambda e: s[bench.entries[e]]))
            for e in row:
                if e != p:
                    near = int(s[bench.entries[e]] <= s[bench.entries[p]])
                    counts[:, near] += abs(m.got[k, e]) > m.tell, abs(m.want[k, e]) > m.tell
    (got_near, got_far), (_, want_far) = counts
    if got_near and not got_far and want_far:
        return [say("nearer negatives")]
    if furthest and all(furthest):
        return [say("furthest semi-hard negative")]
    return _no_semi_hard(bench)


def _no_semi_hard(bench: Bench) -> list[Difference]:
    """Look at an anchor that has no negative below its positive."""
    s = bench.draw(3)
    s[0] = np.linspace(0.3, 0.9, bench.shape[1])
    s[0, 0] = 0.1
    got, want = bench.gradient(s), bench.right_gradient(s)
    row = [e for e in range(len(bench.entries)) if bench.entries[e][0] == 0]
    if np.allclose(got[row], want[row], atol=1e-6):
        return []
    chosen = [bench.entries[e][1] for e in row if abs(got[e]) > 1e-6]
    shown = ", ".join(map(str, chosen)) or "none"
    otherwise = bench.lab.question.settings.get("otherwise", "skip")
    return [say("no semi-hard negative", columns=shown, chosen=chosen, otherwise=otherwise)]
