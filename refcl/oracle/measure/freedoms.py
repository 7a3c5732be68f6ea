"""What the law of an anchor should be where targets, weights or margins are free, and what was made of them.

In:  a bench.
Out: weights, targets and positives of all rows with all; differences of what was given from what was read.
"""

from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.freed import freed
from refcl.oracle.measure.bench import OWN, Bench, entry_name
from refcl.oracle.measure.lab import difference
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.roles import roles_of_matrix, roles_of_rows, with_own
from refcl.walk.logit_margin import logit_margin_forward


class Law(NamedTuple):
    """By rows as anchors (R,) and as candidates (T,); of similarities, by anchors and columns."""

    weight: Any  # (R, T) in the sum; 0 where nothing counts
    targets: Any  # (R, T)
    anchor: Any  # (R,)
    counted: Any  # (R, T)
    own_column: Any  # (R, T) where a loss of one positive has it
    positive: Any  # (R, T) the same, and nowhere where there are targets


def expected(bench: Bench) -> Law | None:
    """Return what the law of each anchor should be, or None where nothing is freed."""
    q = bench.right_question
    if q.recipe.inside != "freed":
        return None
    inputs, companions = bench.inputs(bench.draw(0))
    settings = q.settings | q.companions(inputs) | companions
    positive, ignore = settings.get("positive"), settings.get("ignore")
    if bench.gram:
        roles = roles_of_rows(q.recipe, len(inputs[0]), sum(len(x) for x in inputs[1:]), positive, ignore)
        own = len(bench.rows) - sum(len(x) for x in inputs)
        roles = with_own(roles, None, own, bench.each) if own else roles
    else:
        roles = roles_of_matrix(q.recipe, inputs[0], positive, ignore)
    found = freed(q.recipe, roles.candidates.shape[1], roles, settings)
    shape = (len(bench.rows), roles.candidates.shape[1])

    def spread(x: Any) -> Any:
        every = np.zeros(shape[: np.ndim(x)])
        every[roles.rows] = x
        return every

    at = np.zeros(roles.candidates.shape, dtype=bool)
    at[np.arange(len(at)), roles.positive] = True
    tau = q.temperature(bench.lab.scalar) or 1.0
    lowered = np.exp(-float(settings.get("margin", 0.0)) / tau * at)
    place = spread(at) > 0
    return Law(
        spread(np.where(roles.candidates, np.exp(found.log_weight), 0.0) * lowered),
        spread(found.targets),
        spread(found.anchor_weight),
        spread(roles.candidates) > 0,
        place,
        place & (q.recipe.form != "targets"),
    )


def both_ways(bench: Bench, x: Any) -> Any:
    """Return what each entry gets from the row as anchor and, of embeddings, from the column as anchor (E,)."""
    return np.array([x[i, j] + (x[j, i] if bench.gram and j < len(x) else 0.0) for i, j in bench.entries])


def targets_read(bench: Bench, law: Law, more: Any) -> Difference:
    """Say which targets were read.

    Parameters
    ----------
    bench : Bench
        Where they were measured.
    law : Law
        What they should be.
    more : (E,) array
        How much more target each entry has than it should.
    """
    want = both_ways(bench, law.anchor[:, None] * law.targets)
    got = want + more
    features = _features(bench, law, want)
    columns = np.stack(list(features.values()), axis=1)
    fit = np.linalg.lstsq(columns, got, rcond=None)[0]
    fit = np.where(np.abs(fit) < 1e-6, 0.0, fit)
    said = ""
    if np.max(np.abs(columns @ fit - got)) < 1e-5:
        said = " + ".join(f"{c:.4g} × {name}" for c, name in zip(fit, features, strict=True) if c)
    else:
        said = _power(bench, law, got)
    worst = np.argsort(-np.abs(more))[:4]
    some = "; ".join(f"{entry_name(bench, e)}: {got[e]:.4g} (expected {want[e]:.4g})" for e in worst)
    return say("other targets", some, what=f": they are {said}" if said else "", got=said or some)


def _features(bench: Bench, law: Law, want: Any) -> dict[str, Any]:
    """Return what the targets may be a sum of (E,)."""
    q, found = bench.lab.question, {}
    weighed = law.anchor[:, None] * law.targets
    if "targets" in q.given and q.two_sided and q.recipe.candidates != "all":
        first, own = (np.array([x[i, j] for i, j in bench.entries]) for x in (weighed, law.own_column))
        found = {f"the targets of {q.inputs[0]}": first, f"those of {q.inputs[1]}": want - first}
        return found | {"1 on the positive in one direction": own * 1.0}
    if "targets" in q.given:
        found = {"targets": want}
    found["1 on the positive"] = both_ways(bench, law.anchor[:, None] * law.own_column)
    return found | {"1 on every candidate": both_ways(bench, law.anchor[:, None] * law.counted)}


def _power(bench: Bench, law: Law, got: Any) -> str:
    """Say of which power or exponential of the given targets those are that were read, row by row."""
    there = [(e, i, j) for e, (i, j) in enumerate(bench.entries) if law.targets[i, j] > 0 and got[e] > 1e-5]
    rows = np.array([i for _, i, _ in there])
    if len(there) < 6:
        return ""
    t, log_got = np.array([law.targets[i, j] for _, i, j in there]), np.log([got[e] for e, _, _ in there])
    for name, x in (("t^{:.4g}, normalized row by row", np.log(t)), ("exp({:.4g} t), a softmax of the targets", t)):
        c = _slope(x, log_got, rows, 1e-3)
        if c:
            return name.format(c)
    return ""


def _slope(x: Any, y: Any, rows: Any, close: float = 1e-4) -> float | None:
    """Return c where y = c x + a constant of the row, or None."""
    dx, dy = (v - np.array([np.mean(v[rows == r]) for r in rows]) for v in (x, y))
    square = float(dx @ dx)
    if square < 1e-12:
        return None
    c = float(dx @ dy) / square
    return (c if abs(c) > close else 0.0) if np.max(np.abs(dy - c * dx)) < close * (1 + abs(c)) else None


class Read(NamedTuple):
    """As which powers weights were read, and the differences that these are."""

    candidates: float
    anchors: float
    found: list[Difference]


def weights_read(bench: Bench, law: Law, terms: Any, m: Any, w: Any, anchors: list[int]) -> Read:
    """Say as which power the weights were read that were given.

    Parameters
    ----------
    bench : Bench
        Where they were measured.
    law : Law
        What they should be.
    terms : list of (int, int)
        Row and column of each term of the sums.
    m : array
        The weight of each term that was measured.
    w : array
        The weight of each anchor, over what an unweighted one would have.
    anchors : list of int
        Whose they are.
    """
    found, by_candidates, by_anchors = [], 1.0, 1.0
    given = bench.lab.question.given
    row, column = np.array(terms).T
    right = law.weight[row, column]
    live = (right > 0) & (m > 0)
    if "log_weight" in given and np.all(live[right > 0]):
        c = _slope(np.log(right[live]), np.log(m[live]), row[live])
        if c is not None and abs(c - 1) > 1e-4:
            by_candidates = c
            found.append(say("log weight multiplied", "log_weight", c=c))
    if "anchor_weight" in given and np.all(w > 0):
        a = law.anchor[anchors]
        c = _slope(np.log(a), np.log(w), np.zeros(len(a)))
        if c is not None and abs(c - 1) > 1e-4:
            by_anchors = c
            what = f"is read as a^{c:.4g}: the weights of the anchors are its power"
            what = what if c else "is no weight of the anchors: they all weigh the same"
            found.append(say("anchor weight otherwise", "anchor_weight", what=what, c=c))
    return Read(by_candidates, by_anchors, found)


def one_of_its_own(bench: Bench, m: Any) -> list[Difference]:
    """Say whether it is right where each anchor has one negative of its own."""
    if not bench.each:
        return []
    for k in range(3):
        inputs, companions = bench.inputs(bench.draw(k))
        first = {name: x[:, :1] if name == OWN else x for name, x in companions.items()}
        got, want = bench.lab.value(inputs, None, first), bench.lab.right_value(inputs, None, first)
        if not abs(got - want) < 1e-9 * (1 + abs(want)):
            return []
    return [say("own negatives taken together", OWN)]


GRID = (-0.7, -0.45, -0.2, 0.05, 0.3, 0.55, 0.8)  # similarities of the positive


def margin_read(bench: Bench, m: Any) -> list[Difference]:
    """Say what stands in the denominator in the place of the positive's similarity, where a margin lowers that.

    The negatives' derivatives are their probabilities; what these leave of 1 is the positive's, and its logarithm over
    that of a negative is how far its logit is ahead.
    """
    q, law = bench.lab.question, expected(bench)
    if law is None or not q.recipe.freedoms & {"margin", "angular_margin"} or q.recipe.candidates == "all":
        return []
    tau = q.temperature(bench.lab.scalar)
    if tau is None or q.recipe.anchors != "first" or q.recipe.reduction == "none":
        return []
    column = {e: j for e, (i, j) in enumerate(bench.entries) if i == 0 and law.counted[0, j]}
    own = next(e for e, j in column.items() if law.positive[0, j])
    others = [e for e in column if e != own]
    one = float(law.anchor[0]) / (len(law.anchor[law.anchor > 0]) if q.recipe.reduction == "mean" else 1)
    read = []
    for x in GRID:
        here = bench.draw(70)
        here = bench.moved(here, bench.entries[own], x - float(here[bench.entries[own]]))
        if bench.gram and np.min(np.linalg.eigvalsh(here)) < 0.02:
            continue
        p = {e: _slope_by(bench, here, e) * tau / one + law.targets[0, column[e]] for e in others}
        rest = 1 - sum(p.values())
        near = max(others, key=lambda e: p[e])
        if not (0 < rest < 1 and 0 < p[near] < 1):
            return []
        logit = np.log(rest / p[near]) + here[bench.entries[near]] / tau + np.log(law.weight[0, column[near]])
        read.append((x, float(tau * logit - tau * _log_weight(bench, law, column[own], tau))))
    if len(read) < 3:
        return []
    x, got = np.array(read).T
    angle, less = float(q.settings.get("angular_margin", 0.0)), float(q.settings.get("margin", 0.0))
    want = logit_margin_forward(x, margin=less, angular_margin=angle)[0]
    if np.max(np.abs(got - want)) < 1e-5:
        return []
    said = _function(x, got + less) + (f" - {less:g}" if less else "")
    shown = "; ".join(f"{b:.4g} at {a:.2g} (expected {c:.4g})" for a, b, c in zip(x, got, want, strict=True))
    return [say("another margin", shown, what=said or "another function of it", got=said or shown)]


def _slope_by(bench: Bench, s: Any, e: int) -> float:
    return difference(lambda t: bench.value(bench.moved(s, bench.entries[e], t)))


def _log_weight(bench: Bench, law: Law, column: int, tau: float) -> float:
    """Return the weight of the first anchor's positive, without its margin."""
    margin = float(bench.lab.question.settings.get("margin", 0.0))
    return float(np.log(law.weight[0, column])) + margin / tau


def _function(x: Any, y: Any) -> str:
    """Return which function of a cosine it is, of those with one number."""
    inside = np.abs(y) < 1
    theta, everywhere = np.arccos(x), np.ones(len(x), dtype=bool)
    angle = np.arccos(np.where(inside, y, 0.0))
    for name, c, there in (
        ("s - {:.4g}", x - y, everywhere),
        ("cos(θ + {:.4g})", angle - theta, inside),
        ("cos({:.4g} θ)", angle / theta, inside),
        ("{:.4g} s", y / x, everywhere),
    ):
        if np.sum(there) > 2 and np.ptp(c[there]) < 1e-4:
            return name.format(float(np.median(c[there])))
    return ""
