"""What only some losses have: distances, matrices for each step, and parts that have a menu.

In:  calls of the candidate, and its answers.
Out: differences.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from refcl.oracle.compare import agrees
from refcl.oracle.evidence import Result
from refcl.oracle.measure import penalty, settings
from refcl.oracle.measure.lab import Lab
from refcl.oracle.measure.menus import parts_otherwise
from refcl.oracle.measure.numbers import answer_of_none
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say


def special(lab: Lab, tried: list[Result]) -> list[Difference]:
    """Look at what some losses have beside similarities."""
    found = []
    for steps in (_pairs_by_distance, _triplets_by_distance, _parameters, _parts):
        found += steps(lab, tried)
        if found:
            return found
    return found


def _pairs_by_distance(lab: Lab, tried: list[Result]) -> list[Difference]:
    """Sweep the distance of one pair that is alike, and of one that is not."""
    q = lab.question
    if q.companions_needed != ("same",) and "same" not in q.settings:
        return []
    apart = _means_of_both_kinds(q, tried)
    if apart:
        return apart
    rng = np.random.default_rng(2)
    n = 4
    a, b = rng.standard_normal((n, 3)), rng.standard_normal((n, 3))
    same = np.array([True, False, True, False])
    u = rng.standard_normal(3)
    u /= np.linalg.norm(u)
    margin = float(q.settings.get("margin", 1.0))
    cosine = q.setting("distance") == "cosine"
    found = []
    curves = {}
    for which, alike in ((0, True), (1, False)):

        def at(d: float, which: int = which, right: bool = False) -> float:
            x = b.copy()
            x[which] = _at_angle(a[which], u, 1 - d) if cosine else a[which] - d * u
            f = lab.right_value if right else lab.value
            return n * f((a, x), None, {"same": same})

        inside, outside = np.linspace(0.15, 0.85, 13) * margin, np.linspace(1.2, 2.2, 7) * margin
        if cosine:  # up to 2
            inside, outside = np.minimum(inside, 1.9), np.minimum(outside, np.linspace(1.7, 1.95, 7))
        curves[alike] = [
            (
                np.array([at(d) - at(1.1 * margin) for d in grid]),
                np.array([at(d, right=True) - at(1.1 * margin, right=True) for d in grid]),
                grid,
            )
            for grid in (inside, outside)
        ]
    swapped = all(
        np.allclose(np.diff(curves[alike][k][0]), np.diff(curves[not alike][k][1]), rtol=1e-6, atol=1e-9)
        for alike in (True, False)
        for k in (0, 1)
    )
    if swapped:
        return [say("pairs swapped")]
    for alike, parts in curves.items():
        who = "pairs that are the same (alike)" if alike else "different (dissimilar, negative) pairs"
        for got, want, grid in parts:
            if np.allclose(np.diff(got), np.diff(want), rtol=1e-5, atol=1e-7):
                continue
            for most in (len(grid), 8):  # a kink, as of a hinge, may lie beyond
                p = _polynomial(grid[:most], got[:most])
                if p is not None:
                    break
            told = "" if alike or p is None else _said_of(p, margin)
            laws = (_law_of(grid[:most], got[:most]), _law_of(grid[:most], want[:most]))
            found.append(_another_law(who, grid[:most], laws, "d²/2 where same, max(m - d, 0)²/2 where not", told))
            break
    one, other = (np.diff(curves[alike][0][0]) for alike in (True, False))
    if len(found) == 2 and np.allclose(one, other, rtol=1e-5, atol=1e-7):
        return [say("both kinds alike", law=found[0].measured)]
    return found


def _means_of_both_kinds(q: Any, tried: list[Result]) -> list[Difference]:
    """See whether like and unlike pairs are divided by something else than the number of all pairs."""
    other = None if q.recipe.reduction != "mean" else settings.changed(q, reduction="none")
    parts = [] if other is None else [(answer_of_none(other, r), _alike(q, r)) for r in tried]
    if not parts or any(x is None or len(x) != len(same) for x, same in parts):
        return []
    for (like, f), (unlike, g) in product(PAIRS.items(), PAIRS.items()):
        for r, (x, same) in zip(tried, parts, strict=True):
            count = len(same), max(np.sum(same), 1), max(np.sum(~same), 1)
            value = np.sum(x[same]) / f(*count) + np.sum(x[~same]) / g(*count)
            if not agrees(r.right._replace(value=value), r.outcome, scalar=False, grads=False):
                break
        else:
            return [say("means of both kinds", like=like, unlike=unlike)]
    return []


def _alike(q: Any, r: Result) -> Any:
    held = q.settings | q.companions(r.wide) | (r.probe.companions or {})
    return np.asarray(held["same"], dtype=bool)


# By what the losses of one kind of pairs may be divided, of N pairs, P of them like and Q unlike.
PAIRS: dict[str, Callable[[int, int, int], float]] = {
    "N": lambda n, p, q: n,
    "P": lambda n, p, q: p,
    "Q": lambda n, p, q: q,
    "2P": lambda n, p, q: 2 * p,
    "2Q": lambda n, p, q: 2 * q,
    "1": lambda n, p, q: 1,
    "2N": lambda n, p, q: 2 * n,
    "N/2": lambda n, p, q: n / 2,
}


def _triplets_by_distance(lab: Lab, tried: list[Result]) -> list[Difference]:
    """Sweep the distance of one triplet's negative, at two of its positive: what is the loss a function of?"""
    q = lab.question
    if not q.row.distances or len(q.inputs) != 3:
        return []
    rng = np.random.default_rng(2)
    rows = tuple(rng.standard_normal((4, 3)) for _ in range(3))
    u = rng.standard_normal(3)
    u /= np.linalg.norm(u)
    margin, how = float(q.more_scalars[0]), q.setting("distance")
    gaps = np.array([-1.03, -0.73, -0.41, -0.17, 0.07, 0.13, 0.31, 0.57, 0.93]) - margin

    def value(d_pos: float, gap: float) -> float:
        anchor, positive, negative = (x.copy() for x in rows)
        for x, d, toward in ((positive, d_pos, -u), (negative, d_pos - gap, u)):
            length = math.sqrt(d) if how == "squared" else d
            x[0] = _at_angle(anchor[0], toward, 1 - d) if how == "cosine" else anchor[0] + length * toward
        return lab.value((anchor, positive, negative)) * (len(rows[0]) if q.recipe.reduction == "mean" else 1)

    near, far = (1.0, 1.1) if how == "cosine" else (1.5, 1.7)
    gaps = np.array([g for g in gaps if near - g > 0.05 and (how != "cosine" or far - g < 1.95)])
    here, there = (penalty.slopes(partial(value, d), gaps) for d in (near, far))
    alike = np.all(np.isfinite(here)) and np.allclose(here, there, atol=1e-5)
    batches = [tuple(rng.standard_normal((4, 3)) for _ in range(3)) for _ in range(4)]
    found = penalty.named_penalty(lab, partial(value, near), gaps, batches, rows[0].shape[1]) if alike else []
    return found or ([] if how == "cosine" else _by_side(lab, rows))


# Of a triangle anchor, positive, negative: which side is swept, from where to where, and the other two.
SIDES = (
    ("anchor and positive", 0, (1.0, 2.0), (0.6, 1.5)),
    ("anchor and negative", 1, (0.4, 1.4), (1.5, 1.8)),
    ("positive and negative", 2, (0.3, 1.3), (1.5, 1.4)),
)


def _by_side(lab: Lab, rows: tuple[Any, ...]) -> list[Difference]:
    """Say what a triplet's loss is a function of, side by side of its triangle, where the hinge is open."""
    found = []
    for who, side, (low, high), others in SIDES:
        grid = np.linspace(low, high, 13)
        values: list[tuple[float, float]] = []
        for d in grid:
            p, n, m = np.insert(others, side, d).tolist()
            x = (p * p + n * n - m * m) / (2 * p)  # the negative, seen from the anchor along the positive
            anchor, positive, negative = (y.copy() for y in rows)
            positive[0] = anchor[0] + (p, 0.0, 0.0)
            negative[0] = anchor[0] + (x, math.sqrt(n * n - x * x), 0.0)
            triplet = (anchor, positive, negative)
            values.append((lab.value(triplet), lab.right_value(triplet)))
        factor = len(rows[0]) if lab.question.recipe.reduction == "mean" else 1
        moved, right = factor * (np.array(values) - values[0]).T
        if not np.allclose(moved, right, rtol=1e-6, atol=1e-8):
            if _polynomial(grid, moved) is None:  # the hinge may close, or open, on the way
                cut = next(
                    (c for c in (slice(7), slice(-7, None)) if _polynomial(grid[c], moved[c]) is not None), slice(13)
                )
                grid, moved, right = grid[cut], moved[cut] - moved[cut][0], right[cut] - right[cut][0]
            laws = (_law_of(grid, moved), _law_of(grid, right))
            nearer = " (the nearer of the negative's two)" if side and lab.question.setting("swap") else ""
            found.append(_another_law(f"the distance of {who}{nearer}", grid, laws, "the distances as they are asked"))
    return found


def _another_law(who: str, grid: Any, laws: tuple[str, str], change: str, why: str = "") -> Difference:
    where = f"d from {grid[0]:.3g} to {grid[-1]:.3g}"
    return say("another law of the distance", where, who=who, law=laws[0], right=laws[1], why=why, change=change)


def _law_of(x: Any, y: Any) -> str:
    """Write what is a polynomial of the distance, or the root of its square and an epsilon."""
    p = _polynomial(x, y)
    if p is not None:
        return _written(p)
    for sign in (1.0, -1.0):

        def off(log_e: float, sign: float = sign) -> Any:
            root = np.sqrt(x * x + 10.0**log_e)
            return sign * (root - root[0]) - y

        for log_e in settings.roots(lambda e: float(off(e)[-1]), float("nan"), np.arange(-9.0, 1.0, 0.5)):
            if np.max(np.abs(off(log_e))) < 1e-7:
                return f"{'-' if sign < 0 else '+'}√(d² + {10.0**log_e:.3g})"
    return "another function of d"


def _at_angle(x: Any, toward: Any, cosine: float) -> Any:
    """Return a row that makes an angle of this cosine with another, toward a third."""
    z = x / np.linalg.norm(x)
    across = toward - z * np.sum(z * toward)
    return cosine * z + math.sqrt(1 - cosine**2) * across / np.linalg.norm(across)


def _polynomial(x: Any, y: Any) -> Any:
    coefficients = np.polynomial.polynomial.polyfit(x, y, 4)
    off = y - np.polynomial.polynomial.polyval(x, coefficients)
    return np.where(np.abs(coefficients) < 1e-5, 0.0, coefficients) if np.max(np.abs(off)) < 1e-6 else None


def _written(p: Any) -> str:
    if p is None:
        return "another function"
    powers = ("", "d", "d²", "d³", "d⁴")
    terms = [f"{c:+.4g} {powers[k]}" for k, c in enumerate(p) if k and c]
    return " ".join(terms) or "0"


def _said_of(p: Any, margin: float) -> str:
    if p[1] and not p[2]:
        return ": the hinge max(m - d, 0) is not squared (linear)"
    if p[2] < 0 and not p[1] and not p[4]:
        return ": a hinge of the squared distance, max(m - d², 0), where the square of a hinge, max(m - d, 0)², belongs"
    if p[4] and p[2] < 0:
        return ": the square of max(m - d², 0): the hinge takes the squared distance"
    if p[1] and p[2]:
        m = -p[1] / (2 * p[2])
        if abs(m - margin) > 1e-4:
            return f": the margin is {m:.4g}, expected {margin:.4g}"
        return f": {2 * p[2]:.4g} times too much" if abs(2 * p[2] - 1) > 1e-4 else ""
    return ""


def _parameters(lab: Lab, tried: list[Result]) -> list[Difference]:
    """Where an input is a stack of matrices, one a step, see whether each of them counts."""
    q = lab.question
    if q.row.batches != "futures":
        return []
    r = max((r for r in tried if len(r.wide[1]) > 1), key=lambda r: len(r.wide[1]), default=None)
    if r is None:
        return []
    base = lab.value(r.wide, r.probe.scalar)
    found = []
    for k, name in ((1, "future"), (2, "weight")):
        unread = []
        for step in range(len(r.wide[k])):
            moved = r.wide[k].copy()
            moved[step] = moved[step][::-1] * 1.3 + 0.1
            if abs(
                lab.value(tuple(moved if j == k else x for j, x in enumerate(r.wide)), r.probe.scalar) - base
            ) < 1e-9 * abs(base):
                unread.append(step)
        if unread:
            rest = [s for s in range(len(r.wide[k])) if s not in unread]
            which = "the first" if rest == [0] else f"step {', '.join(map(str, rest))}"
            steps = ", ".join(map(str, unread))
            found.append(say("one step for all", name, input=name, unread=steps, used=which))
    return found


def _parts(lab: Lab, tried: list[Result]) -> list[Difference]:
    return parts_otherwise(lab.question, tried)
