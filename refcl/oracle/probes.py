"""Several small batches, chosen to tell mistakes apart.

In:  a question, and whether the candidate takes its scalar (temperature) as an argument.
Out: probes: inputs, scalar, upstream. Never τ = 1 unless it is asked, N ≠ D, unequal norms, asymmetric views.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refcl.oracle.batches import another_view, antipodal, futures, similarities, views
from refcl.oracle.companions import MEMORY
from refcl.oracle.question import FAR, Question

DEFAULT_TEMPERATURE = 0.2
DEFAULT_WEIGHT = 0.3
# What a batch is made to show.
ABOUT = {
    "class of one": "a row that is alone in its class has no positive: 0/0 is NaN, log 0 infinite",
    "no positives": "no anchor has a positive: 0/0 is NaN, log 0 infinite",
    "anchor without positives": "an anchor has no positive: 0/0 is NaN, log 0 infinite",
    "coinciding pairs": "the two rows of a pair coincide: the derivative of the root at distance 0 is infinite",
    "largest logits": "logits of ±1000: exp of them is infinite",
    "long and short rows": "rows of length 1e-20 and 1e20",
    "one anchor": "a batch of one row: there are no negatives",
    "anchor without negatives": "every negative of an anchor is ignored",
    "identical views": "cosines of 1, or by rounding a little more, where arccos is NaN; its slope is infinite",
}
# And what the coldest of the usual ones ask of arithmetic.
COLDEST = {
    "coldest": "τ = .001, where a probability is 1 or 0 to rounding: 1 - p, log p and log1p of them lose all digits",
    "coldest twins": "τ = .001 and positives that dominate: p is 1 to rounding, so that 1 - p and log p are 0",
}
OWN_BATCH = "your own"
FINITE_ONLY = ("coinciding pairs", "long and short rows", "identical views")  # anything finite is right there
NONE_TO_ADD = "divide by max(number of positives, 1), and take no logarithm of a sum of none: the loss is 0 there"
REMEDY = {
    "class of one": NONE_TO_ADD,
    "no positives": NONE_TO_ADD,
    "anchor without positives": NONE_TO_ADD,
    "coinciding pairs": "the derivative of the distance is 0 where it is 0: take the root of max(d², eps)",
    "largest logits": "subtract the largest logit first: log-sum-exp",
    "identical views": "cos(θ + α) = s cos α - √max((1 - s)(1 + s), 0) sin α, without its slope where the root is 0",
}


@dataclass(frozen=True)
class Probe:
    """One batch.

    Attributes
    ----------
    corner : bool
        Reported, but not decisive: right implementations differ here.
    stress : bool
        Chosen for what arithmetic does at extremes; names are found on the others first.
    """

    name: str
    inputs: tuple[Any, ...]
    scalar: float | None
    upstream: Any = None
    corner: bool = False
    stress: bool = False
    companions: Any = None  # labels, masks, memories of this batch, where they are not those that its shape makes

    @property
    def dtype(self) -> str:
        return str(self.inputs[0].dtype)

    @property
    def sizes(self) -> str:
        return " and ".join("×".join(map(str, x.shape)) for x in self.inputs)


def probes(
    question: Question,
    *,
    passes_scalar: bool,
    shape: tuple[int, int] | None = None,
    extra: int = 0,
    own: tuple[tuple[Any, ...], ...] = (),
    only_own: bool = False,
    few_shapes: bool = False,
) -> list[Probe]:
    """Return the batches on which a candidate is judged, the plainest first.

    Parameters
    ----------
    question : Question
        What is asked.
    passes_scalar : bool
        Whether other temperatures can be tried than the one of the question.
    shape, extra, own, only_own : optional
        As ``shape``, ``extra_keys``, ``inputs`` and ``only_inputs`` of `check`; ``own`` has one tuple for each batch.
    few_shapes : bool
        Let batches share their size where it does not matter, for candidates that are compiled anew for each.
    """
    found = [Probe(f"{OWN_BATCH} {k}", inputs, base_scalar(question)) for k, inputs in enumerate(own)]
    if not only_own:
        own_batches = {"futures": _predictive, "views": _many_views, "temperatures": _own_temperatures}
        usual = _embeddings if question.recipe.embeddings else _similarities
        batches = own_batches.get(question.row.batches, usual)
        made = batches(question, passes_scalar, shape, extra, few_shapes)
        if question.recipe.embeddings and len(question.inputs) == 1:
            # Both views stacked, or one alone where a memory stands for the other.
            stacked = not set(MEMORY) & set(question.companions_needed) and "bank" not in question.settings
            made = [replace(p, inputs=(np.concatenate(p.inputs) if stacked else p.inputs[0],)) for p in made]
        made = [*made, *_edges(question, shape, extra, few_shapes)]
        taken = [p for p in made if _is_taken(question, p)]
        if made and not taken and shape is None:
            _value_of(question, made[0])  # raises what is wrong with the question
        found += taken
    found = [_with_upstream(p, question) for p in found]
    return [replace(p, corner=True) if not p.corner and _rounding_chooses(question, p) else p for p in found]


def _rounding_chooses(question: Question, probe: Probe) -> bool:
    """Return whether the right gradient jumps where inputs move by some roundings: a choice between two that tie."""
    if question.recipe.hardest is None and not question.row.hinge:
        return False
    rng = np.random.default_rng(3)
    moves = [64 * np.finfo(x.dtype).eps * rng.uniform(-1, 1, x.shape) for x in probe.inputs]
    one, other = (
        question.answer(replace(probe, inputs=tuple(x * (1 + k * d) for x, d in zip(probe.inputs, moves, strict=True))))
        for k in (1, -1)
    )
    return any(np.max(np.abs(a - b)) > 1e-3 * np.max(np.abs(a)) for a, b in zip(one.grads, other.grads, strict=True))


def _is_taken(question: Question, probe: Probe) -> bool:
    """Return whether the loss is defined on a batch: an entropy, for one, needs negatives enough."""
    if question.recipe.pool != "pair":
        return True
    if "angular_margin" in question.recipe.freedoms and not question.recipe.embeddings:
        return bool(np.max(np.abs(probe.inputs[0])) < 1)  # of cosines; at 1 the angle has a tip
    try:
        _value_of(question, probe)
    except ValueError:
        return False
    return True


def _value_of(question: Question, probe: Probe) -> None:
    question.expected(probe.inputs, probe.scalar, _with_upstream(probe, question).upstream, value_only=True)


def _edges(question: Question, shape: tuple[int, int] | None, extra: int, few: bool) -> list[Probe]:
    """Batches where there is nothing to divide by, nothing between two rows, or very much of it."""
    base, needed, recipe = base_scalar(question), question.companions_needed, question.recipe
    if recipe.ranks > 1 or not question.row.by_rows:
        return []
    n, d = shape or _size(6, 5, few)
    found = []
    if "labels" in needed:
        x = np.concatenate(views(31, -(-n // 2), d))[:n]
        some = np.array([0, 0, 1, 1, 1, 2])[:n] if n <= 6 else np.minimum(np.arange(n) // 2, n // 2 - 1)
        some[-1] = 9
        found.append(Probe("class of one", (x,), base, companions={"labels": some}))
        found.append(Probe("no positives", (x,), base, companions={"labels": np.arange(n)}))
    if "positives" in needed:
        size = shape or (4, 6)
        batch = views(32, *size, extra=extra) if recipe.embeddings else (similarities(32, *size),)
        mask = np.zeros((size[0], size[0] + extra if recipe.embeddings else size[1]), dtype=bool)
        mask[0, :2] = mask[-2, 1] = True
        found.append(Probe("anchor without positives", batch, base, companions={"positives": mask}))
    if question.row.distances:
        a, b = views(33, n, d)
        b[0], b[1] = a[0], a[1]
        third = (another_view(37, a),) if len(question.inputs) > 2 else ()
        found.append(Probe("coinciding pairs", (a, b, *third), base, corner=True))
    if recipe.embeddings and "angular_margin" in recipe.freedoms:
        a, b = views(38, 9, d, extra=extra) if shape is None else views(38, n, d, extra=extra)
        b[: len(a)] = 1.7 * a
        found.append(Probe("identical views", (a, b), base, corner=True))
    if recipe.embeddings and recipe.normalization == "rows" and not needed and len(question.inputs) == 2:
        a, b = views(34, n, d, extra=extra)
        a[0] *= 1e-20
        b[1] *= 1e20
        found.append(Probe("long and short rows", (a, b), base, corner=True))
    softmax = recipe.pool == "softmax" or recipe.inside in ("decoupled", "supervised")
    if (
        not recipe.embeddings
        and softmax
        and question.scalar == "temperature"
        and not question.in_a_tuple
        and base is not None
    ):
        s = similarities(35, *(shape or (5, 5 + extra))) * 1000 * base
        found.append(Probe("largest logits", (s,), base, stress=True))
    if recipe.embeddings and recipe.normalization == "none" and recipe.pool == "softmax" and base is not None:
        a, b = views(36, n, d, extra=extra)
        t = question.temperature(base) or 1.0
        size = np.sqrt(900 * t / max(float(np.max(np.abs(a @ b.T))), 1e-300))
        found.append(Probe("largest logits", (a * size, b * size), base, stress=True))
    return found


def _size(n: int, d: int, few: bool) -> tuple[int, int]:
    """Return the size of a batch: one for all whose own does not matter, where each costs a compilation."""
    return (n, d) if not few or (n, d) in ((7, 4), (2, 5), (7, 7), (2, 2), (4, 9)) else (5, 8 if n != d else 5)


def base_scalar(question: Question) -> float | None:
    """Return the scalar of the question's own setting, or the default that every probe starts from."""
    if question.base is not None or question.scalar is None:
        return question.base
    if question.scalar == "weight":
        return None
    return -math.log(DEFAULT_TEMPERATURE) if question.scalar == "log_scale" else DEFAULT_TEMPERATURE


def _embeddings(question: Question, passes: bool, shape: tuple[int, int] | None, extra: int, few: bool) -> list[Probe]:
    base = base_scalar(question)
    unit = question.recipe.ranks
    normalized = question.recipe.normalization == "rows"

    def size(n: int, d: int) -> tuple[int, int]:
        n, d = shape or _size(n, d, few)
        n = -(-n // unit) * unit
        return n, d + 1 if shape is None and d == n else d

    def pair(seed: int, n: int, d: int, **how: Any) -> tuple[Any, Any]:
        return views(seed, *size(n, d), extra=extra, **how)

    found = [
        Probe("ordinary", pair(1, 5, 12), base),
        Probe("prime batch", pair(2, 7, 4), base),
        Probe("two rows", pair(3, 2, 5), base),
        Probe("duplicates", pair(4, 6, 3, repeat=True), base),
        Probe("dominated", pair(5, 4, 7, near=True), base),
        Probe("large norms", pair(6, 3, 8, norms=1e3 if normalized else 3.0), base),
        Probe("antipodal", antipodal(7, *size(4, 6), extra=extra), base),
        Probe("float32", tuple(x.astype(np.float32) for x in pair(8, 5, 8)), base),
    ]
    if passes and question.scalar != "weight":
        at = (lambda t: -math.log(t)) if question.scalar == "log_scale" else (lambda t: t)
        found += [
            Probe("warm", pair(9, 5, 3), at(1.7)),
            Probe("cool", pair(10, 6, 9), at(0.07)),
            Probe("cold antipodal", antipodal(11, *size(3, 5), extra=extra), at(0.05), stress=True),
            Probe(
                "cold float32",
                tuple(x.astype(np.float32) for x in antipodal(12, *size(4, 6), extra=extra)),
                at(0.01),
                stress=True,
            ),
            Probe("coldest", antipodal(13, *size(4, 6), extra=extra), at(0.001), stress=True),
            Probe("coldest twins", pair(15, 3, 7, twins=True), at(0.001), stress=True),
        ]
    elif passes:
        found += [Probe("heavy", pair(9, 5, 3), 0.9), Probe("light", pair(10, 6, 9), 0.07)]
    if passes and question.settings.get("clamp") is not None:
        found += _around_the_clamp(question, size(5, 4), extra)
    zero = pair(14, 4, 5)
    zero[0][1] = 0.0
    if normalized:
        found.append(Probe("zero row", zero, base, corner=True))
    return found


def _similarities(
    question: Question, passes: bool, shape: tuple[int, int] | None, extra: int, few: bool
) -> list[Probe]:
    base = base_scalar(question)

    def s(seed: int, n: int, m: int, **how: Any) -> tuple[Any, ...]:
        n, m = _size(n, m, few)
        rows = -(-n // question.recipe.ranks) * question.recipe.ranks
        n, m = rows, max(m, rows)
        return (similarities(seed, *(shape or (n, m + extra)), **how),)

    found = [
        Probe("ordinary", s(1, 6, 6), base),
        Probe("prime batch", s(2, 7, 7), base),
        Probe("two rows", s(3, 2, 2), base),
        Probe("more candidates", s(4, 4, 9), base),
        Probe("duplicates", s(5, 5, 5, repeat=True), base),
        Probe("dominated", s(6, 4, 4, near=True), base),
        Probe("large", s(7, 3, 3, scale=20.0), base),
        Probe("far below", s(8, 4, 4, below=True), base),
        Probe("float32", (s(9, 5, 5)[0].astype(np.float32),), base),
    ]
    if passes and question.scalar == "temperature":
        found += [
            Probe("warm", s(10, 5, 5), 1.7),
            Probe("cool", s(11, 6, 6), 0.07),
            Probe("cold", s(12, 4, 4, below=True), 0.05, stress=True),
            Probe("cold float32", (s(13, 4, 4)[0].astype(np.float32),), 0.01, stress=True),
            Probe("coldest", s(14, 4, 4), 0.001, stress=True),
        ]
    elif passes and question.scalar == "weight":
        found += [Probe("heavy", s(10, 5, 5), 0.9), Probe("light", s(11, 6, 6), 0.07)]
    return found


def _predictive(question: Question, passes: bool, shape: tuple[int, int] | None, extra: int, few: bool) -> list[Probe]:
    """Contexts, their futures at several steps, the form of each step: there is no scalar, and norms are all heat."""

    def batch(seed: int, n: int, d: int, steps: int, **how: Any) -> tuple[Any, ...]:
        return futures(seed, *(shape or (n, d)), steps, extra=extra, **how)

    return [
        Probe("ordinary", batch(1, 5, 4, 2), None),
        Probe("prime batch", batch(2, 7, 3, 3), None),
        Probe("two rows", batch(3, 2, 5, 2), None),
        Probe("one step", batch(4, 4, 6, 1), None),
        Probe("duplicates", batch(5, 5, 3, 2, repeat=True), None),
        Probe("hot", batch(6, 4, 7, 2, norms=0.2), None),
        Probe("large norms", batch(7, 3, 5, 2, norms=12.0), None),
        Probe("float32", tuple(x.astype(np.float32) for x in batch(8, 5, 4, 2)), None),
        Probe("largest norms", batch(9, 4, 3, 2, norms=400.0), None, stress=True),
    ]


def _many_views(question: Question, passes: bool, shape: tuple[int, int] | None, extra: int, few: bool) -> list[Probe]:
    """Two views as anywhere else, and the further ones of the same samples."""
    count = len(question.inputs)
    return [
        replace(p, inputs=(*p.inputs, *(another_view(20 + k, p.inputs[0]) for k in range(2, count))))
        for p in _embeddings(question, passes, shape, 0, few)
    ]


def _own_temperatures(
    question: Question, passes: bool, shape: tuple[int, int] | None, extra: int, few: bool
) -> list[Probe]:
    """Similarities as anywhere else, with temperatures that differ from anchor to anchor."""
    found = [
        replace(p, inputs=_with_temperatures(p, 0.1, 0.8)) for p in _similarities(question, passes, shape, extra, few)
    ]
    more = (("warm", 16, 1.2, 2.5, False), ("cool", 17, 0.05, 0.09, False), ("coldest", 18, 0.001, 0.002, True))
    for name, seed, low, high, stress in more:
        probe = Probe(name, (similarities(seed, *(shape or (5, 5 + extra))),), None, stress=stress)
        found.append(replace(probe, inputs=_with_temperatures(probe, low, high)))
    return found


def _with_temperatures(probe: Probe, low: float, high: float) -> tuple[Any, Any]:
    n = len(probe.inputs[0])
    return probe.inputs[0], np.random.default_rng(n).uniform(low, high, n).astype(probe.dtype)


def _around_the_clamp(question: Question, shape: tuple[int, int] | None, extra: int) -> list[Probe]:
    """Log-scales beyond both bounds of CLIP's clamp, and on one, where frameworks differ in the gradient."""
    low, high = question.settings["clamp"]
    beyond = [("below the clamp", 16, low - 0.5, False), ("above the clamp", 17, high + 0.5, False)]
    on = [("on the clamp", 18, high, True)]
    beyond = [b for b, bound in zip(beyond, (low, high), strict=True) if abs(bound) < FAR]
    on = on if abs(high) < FAR else []
    return [
        Probe(name, views(seed, *(shape or (5, 4)), extra=extra), at, corner=corner)
        for name, seed, at, corner in beyond + on
    ]


def _with_upstream(probe: Probe, question: Question) -> Probe:
    if question.recipe.reduction != "none":
        return probe
    entries = int(np.prod(question.value_shape(probe.inputs, probe.scalar)))
    rng = np.random.default_rng(99)
    upstream = (rng.uniform(0.4, 1.8, entries) * rng.choice([1.0, 1.0, -1.0], entries)).astype(probe.dtype)
    return replace(probe, upstream=upstream)
