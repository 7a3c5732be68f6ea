"""Which anchors share a sum, and what stands beside it that does not depend on the similarities?

In:  a bench, and the derivatives by its entries.
Out: differences.
"""

import math
from collections import defaultdict
from typing import Any

import numpy as np

from refcl.oracle.measure.bench import Bench, entry_name
from refcl.oracle.measure.pairs import Measured
from refcl.oracle.measure.targets import unit
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say


def shared_sums(bench: Bench, m: Measured) -> list[Difference]:
    """Say which entries share a sum: the derivative by one depends on the other exactly there."""
    s = m.drawn[0]
    got = _coupling(bench, s, bench.gradient) if bench.lab.trusted else _coupling_by_value(bench, s)
    if got is None or not np.all(np.isfinite(got)):
        return []
    want = _coupling(bench, s, bench.right_gradient)
    scale = max(float(np.max(np.abs(got))), float(np.max(np.abs(want)))) or 1.0
    tell = 1e-4 * scale
    e = len(bench.entries)
    off = ~np.eye(e, dtype=bool)
    g, w = (np.abs(got) > tell) & off, (np.abs(want) > tell) & off
    if not np.any(g) and np.any(w):
        if np.max(np.abs(np.diag(got))) < tell:
            return [say("linear")]
        return [say("pairs alone")]
    # Entries with a row in common may stand in its sum; a coupling too weak to be told is no news there.
    absent = (np.abs(got) <= (1e-7 if bench.lab.trusted else 1e-4) * scale) & off
    more, fewer = g & ~w & _apart(bench), (np.abs(want) > (1 if bench.lab.trusted else 30) * tell) & absent
    heavy = np.abs(m.got[0]) > 1e-2 * np.max(np.abs(m.got[0]))  # a sum shows in entries that both weigh in it
    fewer &= np.outer(heavy, heavy)
    found = []
    if np.any(more):
        ea, eb = (int(x) for x in np.argwhere(more)[0])
        share = np.sum(more) / max(np.sum(off & ~w & _apart(bench) & np.outer(m.counted, m.counted)), 1)
        where = f"{entry_name(bench, ea)} and {entry_name(bench, eb)}"
        if _one_softmax(got, g, 1e-3 if bench.lab.trusted else 3e-2):
            everywhere = " (the whole matrix: one softmax over all rows)" if share > 0.9 else ""
            found.append(say("one sum for several anchors", where, everywhere=everywhere))
        else:
            aware = bench.lab.question.recipe.inside == "model aware"
            found.append(say("anchors depend on each other", where, entries=where, also=AWARE if aware else ""))
    if np.any(fewer) and (bench.lab.trusted or not found):
        pairs = [(int(a), int(b)) for a, b in np.argwhere(fewer) if a < b]
        if not pairs:
            return found
        a, b = pairs[0]
        where = f"{entry_name(bench, a)} and {entry_name(bench, b)}"
        if bench.lab.question.follows:  # by weights and temperatures entries depend on each other too
            return [*found, say("taken over too few", where)]
        both_positive = all(m.positive[a] and m.positive[b] for a, b in pairs)
        what = (
            "the positives of one anchor do not share a denominator: each positive stands against itself and the"
            " negatives only, the other positives are left out of its denominator (sum)"
            if both_positive
            else "entries of one anchor do not share a sum: its denominator is split or lacks some of them"
        )
        found.append(say("sum split", where, what=what))
    return found


AWARE = "; the temperature, which all share, may depend on similarities that are no positives'"


def _one_softmax(h: Any, coupled: Any, close: float) -> bool:
    """Return whether entries that are coupled share a sum: -∂²L/∂s_e∂s_f is then the product of two numbers >= 0."""
    scale = close * float(np.max(np.abs(h)))
    left = set(np.flatnonzero(np.any(coupled, axis=1)).tolist())
    while left:
        one: set[int] = set()
        reached = {left.pop()}
        while reached - one:
            one |= reached
            reached = set(np.flatnonzero(np.any(coupled[list(one)], axis=0)).tolist())
        left -= one
        here, others = -h[np.ix_(list(one), list(one))], ~np.eye(len(one), dtype=bool)
        a, b = (int(k) for k in np.unravel_index(np.argmax(np.where(others, here, -np.inf)), here.shape))
        if len(one) < 3:
            return False
        c = max(set(range(len(one))) - {a, b}, key=lambda k: min(here[a, k], here[b, k]))
        if min(here[a, c], here[b, c]) <= 0:
            return False
        v = here[a] / math.sqrt(here[a, b] * here[a, c] / here[b, c])
        v[a] = here[a, b] / v[b]
        if np.any(np.abs(here - np.outer(v, v))[others] > scale) or np.any(v < -math.sqrt(scale)):
            return False
    return True


def _apart(bench: Bench) -> Any:
    """Return which entries (E, E) have no anchor in common."""
    rows = [set(e) if bench.gram else {e[0]} for e in bench.entries]
    return np.array([[not (a & b) for b in rows] for a in rows])


def _coupling(bench: Bench, s: Any, gradient: Any) -> Any:
    h = 1e-3
    rows = []
    for e in bench.entries:
        rows.append((gradient(bench.moved(s, e, h)) - gradient(bench.moved(s, e, -h))) / (2 * h))
    return np.array(rows)


def _coupling_by_value(bench: Bench, s: Any) -> Any:
    h = 2e-2
    n = len(bench.entries)
    found = np.zeros((n, n))
    if n > 45:
        return None
    for a in range(n):
        for b in range(a, n):
            total = 0.0
            for x in (h, -h):
                for y in (h, -h):
                    moved = bench.moved(bench.moved(s, bench.entries[a], x), bench.entries[b], y)
                    total += math.copysign(1.0, x * y) * bench.value(moved)
            found[a, b] = found[b, a] = total / (4 * h * h)
    return found


def residual(bench: Bench, m: Measured) -> list[Difference]:
    """Say what the difference of the two values is, where it is a maximum, a constant or a count."""
    off = m.got - m.want
    u = unit(bench)
    top = []
    if not bench.gram or bench.lab.question.recipe.anchors == "first":
        for k, s in enumerate(m.drawn):
            rows: dict[int, list[int]] = defaultdict(list)
            for e, (i, j) in enumerate(bench.entries):
                if not bench.gram or bench.rows[i][0] != bench.rows[j][0]:
                    rows[i].append(e)
            for which in rows.values():
                best = max(which, key=lambda e: s[bench.entries[e]])
                expected = np.zeros(len(which))
                expected[which.index(best)] = -u.size
                top.append(np.max(np.abs(off[k, which] - expected)) < 1e-4 * u.size)
        if top and all(top):
            return [say("maximum not added back")]
    values = [bench.value(s) - bench.right_value(s) for s in m.drawn]
    if (
        np.max(np.abs(off)) < 1e-5 * m.scale
        and np.ptp(values) < 1e-6 * max(1.0, abs(values[0]))
        and abs(values[0]) > 1e-7
    ):
        return [say("off by a constant", constant=values[0], why=_named_offset(bench, values[0]))]
    return []


def _named_offset(bench: Bench, c: float) -> str:
    labels = bench.companions.get("labels")
    if labels is not None:
        counts = np.array([np.sum(labels == x) - 1 for x in labels])
        mean = float(np.mean(np.where(counts > 0, np.log(np.maximum(counts, 1)), 0.0)))
        if abs(abs(c) - mean) < 1e-6:
            return (
                ": it is the mean of ln P, the logarithm of the number of positives: 1/P is missing (the positives"
                " are summed, not averaged)"
            )
    return ""
