"""Who is taken for the positive, and with which weight?

In:  a bench, and the derivatives by its entries.
Out: differences of what stands outside the sum: smoothed, moved, several, chosen by rank.
"""

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.measure.bench import STEP, Bench, column_name
from refcl.oracle.measure.freedoms import expected, targets_read
from refcl.oracle.measure.pairs import Measured
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say


class Unit(NamedTuple):
    """What one target weighs."""

    size: float
    anchors: int


def unit(bench: Bench) -> Unit:
    q = bench.lab.question
    inputs, companions = bench.inputs(bench.draw(0))
    facts = q.under(bench.lab.probe(inputs, None, companions)).facts(inputs, bench.lab.scalar)
    tau = facts.temperature or 1.0
    anchors = bench.shape[0] if bench.steps else facts.anchors
    if q.recipe.reduction == "mean":
        return Unit(1 / (tau * anchors), anchors)
    return Unit(1 / tau, anchors)


def targets(bench: Bench, m: Measured) -> list[Difference]:
    """Say which targets differ, where candidate and right loss differ by something linear in the similarities."""
    off = m.got - m.want  # (K, E)
    mean = off.mean(axis=0)
    if np.max(np.abs(off - mean)) > 1e-5 * m.scale or np.max(np.abs(mean)) < 1e-5 * m.scale:
        return []
    if bench.lab.question.recipe.pool == "simple":
        return []
    u = unit(bench)
    per = -mean / u.size  # more target than there should be
    q = bench.lab.question
    freed = expected(bench)
    if freed is not None:
        return [targets_read(bench, freed, per)]
    pos = m.positive
    tau = q.temperature(bench.lab.scalar) or 1.0
    doubled = 2 if bench.gram and (q.two_sided or len(q.inputs) == 1) and not set(bench.companions) & {"index"} else 1
    per = per / doubled
    own = per[pos]
    elsewhere = per[~pos]
    if not np.any(np.abs(elsewhere) > 1e-5) and np.ptp(own) < 1e-5 and len(own):
        c = float(own[0])
        if abs(c + 1) < 1e-5:
            return [say("positive not subtracted")]
        if abs(c + 1 - tau) < 1e-5:
            return [say("no temperature in the numerator")]
        return [say("another target", target=1 + c)]
    smooth = _smoothing(per, pos, m.used)
    if smooth is not None:
        return [smooth]
    return _moved_targets(bench, m, per)


def _smoothing(per: Any, pos: Any, used: Any) -> Difference | None:
    others = per[~pos & (np.abs(per) > 1e-7)]
    own = per[pos]
    if not len(others) or np.ptp(others) > 1e-4 * np.max(np.abs(others)) or np.ptp(own) > 1e-4 or np.any(own >= 0):
        return None
    if np.any(others <= 0) or len(others) < np.sum(~pos & used) or -float(own[0]) > 0.95:
        return None
    each, lost = float(others[0]), float(-own[0])
    eps = lost + each
    return say("label smoothing", own=1 - lost, each=each, eps=eps, rest=1 - eps)


def _moved_targets(bench: Bench, m: Measured, per: Any) -> list[Difference]:
    rows: dict[int, dict[int, float]] = defaultdict(dict)  # anchor -> column -> how much more
    for e, (i, j) in enumerate(bench.entries):
        if abs(per[e]) > 1e-5:
            rows[i][j] = per[e]
            if bench.gram and bench.lab.question.recipe.candidates == "all":
                rows[j][i] = per[e]
    right = defaultdict(list)
    for e, (i, j) in enumerate(bench.entries):
        if m.positive[e]:
            right[i].append(j)
            if bench.gram and bench.lab.question.recipe.candidates == "all":
                right[j].append(i)
    several = any(len(p) > 1 for p in right.values())
    said, moved = [], {}
    for i in sorted(rows):
        lost = [j for j, c in rows[i].items() if c < 0]
        won = [j for j, c in rows[i].items() if c > 0]
        if len(lost) == 1 and len(won) == 1 and abs(rows[i][lost[0]] + rows[i][won[0]]) < 1e-5:
            moved[i] = (lost[0], won[0])
        said.append(
            f"{_row(bench, i)}: " + ", ".join(f"{_column(bench, j)} {c:+.4g}" for j, c in sorted(rows[i].items()))
        )
    if several:
        counted = {i: len(right[i]) for i in rows}
        if all(
            set(rows[i]) <= set(right[i]) and all(abs(c + 1 / p - 1 / (p + 1)) < 1e-4 for c in rows[i].values())
            for i, p in counted.items()
        ):
            return [say("oneself among the positives", "; ".join(said[:2]))]
        local = _labels_of_the_rank(bench, per)
        if local is not None:
            return [local]
        dropped = [i for i in rows if any(c < 0 for c in rows[i].values())]
        first = all(
            min(right[i], default=-1) not in [j for j, c in rows[i].items() if c < 0] for i in dropped
        ) and not any(c > 0 and j not in right[i] for i in rows for j, c in rows[i].items())
        outside = any(c > 0 and j not in right[i] for i in rows for j, c in rows[i].items())
        what = "the targets of the positives differ"
        if first and dropped:
            what = "only the first positive of each anchor counts, the others get no target: argmax of the mask"
        elif outside and all(len(rows[i]) >= len(right[i]) for i in rows):
            everyone = all(len({j for j, c in rows[i].items() if c > 0}) + 0 >= 1 for i in rows)
            what = "rows of other classes are counted as positives too" + (
                ": every other row is a positive, the labels are not used (ignored)"
                if everyone and _all(bench, rows, right)
                else ""
            )
        some = "; ".join(said[:2])
        return [say("other positives", some, what=what, some=some)]
    if moved and len(moved) == len(rows):
        some = ", ".join(
            f"{_row(bench, i)}'s positive is {_column(bench, b)}, expected {_column(bench, a)}"
            for i, (a, b) in list(moved.items())[:3]
        )
        inter = bench.gram and all(b == (i ^ 1) for i, (_, b) in moved.items())
        name = (
            "positives-interleaved" if inter and bench.lab.question.recipe.candidates == "all" else "positives-permuted"
        )
        gathered = _gathered_by_rank(bench, moved)
        return [say("positives moved", name=name, some=some, gathered=gathered)]
    return [say("targets moved", first="; ".join(said[:2]), some="; ".join(said[:3]))]


def _labels_of_the_rank(bench: Bench, per: Any) -> Difference | None:
    """Say whether each rank reads its own labels for the rows of all: they are not gathered."""
    ranks, labels = bench.lab.question.recipe.ranks, bench.companions.get("labels")
    if ranks < 2 or labels is None:
        return None

    def share(same: Any) -> Any:
        same = same & ~np.eye(len(labels), dtype=bool)
        return same / np.maximum(same.sum(1, keepdims=True), 1)

    own = np.concatenate(
        [np.tile(part, (len(part), ranks)) for part in np.split(labels, ranks)]
    )  # (N, N) as it is read
    off = share(labels[:, None] == own) - share(labels[:, None] == labels[None, :])
    if not all(abs((off[i, j] + off[j, i]) / 2 - c) < 1e-4 for (i, j), c in zip(bench.entries, per, strict=True)):
        return None
    return say("labels not gathered")


def _gathered_by_rank(bench: Bench, moved: dict[int, tuple[int, int]]) -> str:
    """Say whether rows were gathered rank by rank and are read as all of one view, then all of the other."""
    ranks, views = bench.lab.question.recipe.ranks, list(dict.fromkeys(name for name, _ in bench.rows))
    n = len(bench.rows) // len(views)
    if ranks < 2 or n % ranks:
        return ""
    place = np.arange(len(bench.rows)).reshape(len(views), ranks, -1).swapaxes(0, 1).ravel()  # as they were gathered
    met = dict(zip(place.tolist(), np.roll(place, n).tolist(), strict=True))
    if len(views) != 2 or any(met[i] != b for i, (_, b) in moved.items()):
        return ""
    return (
        "; so they lie where every rank's views are gathered together, [a_0; b_0; a_1; b_1; …], and read as [a; b]:"
        " gather each view for itself"
    )


def _all(bench: Bench, rows: Any, right: Any) -> bool:
    t = len(bench.rows)
    return all(len({j for j, c in rows[i].items() if c > 0} | set(right[i])) >= t - 1 for i in rows)


def _row(bench: Bench, i: int) -> str:
    return f"anchor {' '.join(map(str, bench.rows[i]))}" if bench.gram or bench.steps else f"anchor {i}"


def _column(bench: Bench, j: int) -> str:
    return column_name(bench, j) if not bench.gram else f"{bench.rows[j][0]} {bench.rows[j][1]}"


def ranks_of_chosen(bench: Bench, m: Measured) -> list[Difference]:
    """Say which of the negatives count where only some do: the hardest, the easiest, those below the positive."""
    got, want = _chosen(bench, m, m.got), _chosen(bench, m, m.want)
    if got is None or want is None or got == want:
        return []
    if len(want) >= _candidates(bench):
        return []
    total = _candidates(bench)

    def say_ranks(x: set[int]) -> str:
        return ", ".join(map(str, sorted(k + 1 for k in x)))

    which = ""
    if max(got) == total - 1 and 0 not in got:
        which = ": these are the easiest (the least similar), not the hardest"
    elif got < want:
        which = ": fewer than there should be"
    elif _as_many(bench, m):
        which = ": as many as there should be, chosen by something else than their similarity to the anchor"
    return [say("some ranks of the negatives", got=say_ranks(got), want=say_ranks(want), total=total, which=which)]


def _as_many(bench: Bench, m: Measured) -> bool:
    negative = ~m.positive
    got, want = (np.sum(np.abs(g[:, negative]) > m.tell, axis=1) for g in (m.got, m.want))
    return np.array_equal(got, want)


def _candidates(bench: Bench) -> int:
    return bench.shape[1] - 1 if not bench.gram else sum(name == bench.rows[-1][0] for name, _ in bench.rows) - 1


def _chosen(bench: Bench, m: Measured, grads: Any) -> set[int] | None:
    found: set[int] = set()
    q = bench.lab.question
    if bench.gram and (len(q.inputs) != 2 or q.recipe.anchors != "first"):
        return None
    for k, s in enumerate(m.drawn):
        by_anchor: dict[int, list[int]] = defaultdict(list)
        for e, (i, j) in enumerate(bench.entries):
            if (
                (not bench.gram or bench.rows[i][0] != bench.rows[j][0])
                and not m.positive[e]
                and not _diagonal(bench, e)
            ):
                by_anchor[i].append(e)
        for which in by_anchor.values():
            order = sorted(which, key=lambda e: -s[bench.entries[e]])
            if np.min(np.diff([-s[bench.entries[e]] for e in order]), initial=1.0) < 3 * STEP:
                continue  # a step of the differences may pass from one to the next
            found |= {place for place, e in enumerate(order) if abs(grads[k, e]) > m.tell}
    return found or None


def _diagonal(bench: Bench, e: int) -> bool:
    i, j = bench.entries[e]
    return (i == j) if not bench.gram else bench.rows[i][1] == bench.rows[j][1]
