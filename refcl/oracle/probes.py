"""Several small batches, chosen to tell mistakes apart.

In:  a question, and whether the candidate takes its scalar (temperature) as an argument.
Out: probes: inputs, scalar, upstream. Never τ = 1 unless it is asked, N ≠ D, unequal norms, asymmetric views.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refcl.oracle.companions import MEMORY
from refcl.oracle.question import Question

DEFAULT_TEMPERATURE = 0.2
DEFAULT_WEIGHT = 0.3


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
) -> list[Probe]:
    """Return the batches on which a candidate is judged, the plainest first.

    Parameters
    ----------
    question : Question
        What is asked.
    passes_scalar : bool
        Whether other temperatures can be tried than the one of the question.
    shape : tuple of int, optional
        (N, D), or (N, M) of similarities: all batches get it, for candidates that are built for one size.
    extra : int
        How many rows ``key`` has more than ``query``.
    own : tuple of tuples of arrays
        The user's own inputs, one tuple for each batch.
    only_own : bool
        Leave the built-in batches out.
    """
    found = [Probe(f"your own {k}", inputs, base_scalar(question)) for k, inputs in enumerate(own)]
    if not only_own:
        own_batches = {"cpc": _predictive, "cmc": _many_views, "per_anchor_contrastive": _own_temperatures}
        batches = own_batches.get(question.loss, _embeddings if question.recipe.embeddings else _similarities)
        made = batches(question, passes_scalar, shape, extra)
        if question.recipe.embeddings and len(question.inputs) == 1:
            # Both views stacked, or one alone where a memory stands for the other.
            stacked = not set(MEMORY) & set(question.companions_needed) and "bank" not in question.settings
            made = [replace(p, inputs=(np.concatenate(p.inputs) if stacked else p.inputs[0],)) for p in made]
        found += [p for p in made if _is_taken(question, p)]
    return [_with_upstream(p, question) for p in found]


def _is_taken(question: Question, probe: Probe) -> bool:
    """Return whether the loss is defined on a batch: an entropy, for one, needs negatives enough."""
    if question.recipe.pool != "pair":
        return True
    try:
        question.value_shape(probe.inputs, probe.scalar)
        question.expected(probe.inputs, probe.scalar, _with_upstream(probe, question).upstream)
    except ValueError:
        return False
    return True


def base_scalar(question: Question) -> float | None:
    """Return the scalar of the question's own setting, or the default that every probe starts from."""
    if question.base is not None or question.scalar is None:
        return question.base
    if question.scalar == "weight":
        return None
    return -math.log(DEFAULT_TEMPERATURE) if question.scalar == "log_scale" else DEFAULT_TEMPERATURE


def _embeddings(question: Question, passes: bool, shape: tuple[int, int] | None, extra: int) -> list[Probe]:
    base = base_scalar(question)
    unit = question.recipe.ranks
    normalized = question.recipe.normalization == "rows"

    def size(n: int, d: int) -> tuple[int, int]:
        n, d = shape or (n, d)
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


def _similarities(question: Question, passes: bool, shape: tuple[int, int] | None, extra: int) -> list[Probe]:
    base = base_scalar(question)
    ties = question.recipe.pool == "triplet" or question.recipe.hardest is not None

    def s(seed: int, n: int, m: int, **how: Any) -> tuple[Any, ...]:
        return (similarities(seed, *(shape or (n, m + extra)), **how),)

    found = [
        Probe("ordinary", s(1, 6, 6), base),
        Probe("prime batch", s(2, 7, 7), base),
        Probe("two rows", s(3, 2, 2), base),
        Probe("more candidates", s(4, 4, 9), base),
        Probe("duplicates", s(5, 5, 5, repeat=True), base, corner=ties),
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


def _predictive(question: Question, passes: bool, shape: tuple[int, int] | None, extra: int) -> list[Probe]:
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


def _many_views(question: Question, passes: bool, shape: tuple[int, int] | None, extra: int) -> list[Probe]:
    """Two views as anywhere else, and the further ones of the same samples."""
    count = len(question.inputs)
    return [
        replace(p, inputs=(*p.inputs, *(another_view(20 + k, p.inputs[0]) for k in range(2, count))))
        for p in _embeddings(question, passes, shape, 0)
    ]


def _own_temperatures(question: Question, passes: bool, shape: tuple[int, int] | None, extra: int) -> list[Probe]:
    """Similarities as anywhere else, with temperatures that differ from anchor to anchor."""
    found = [replace(p, inputs=_with_temperatures(p, 0.1, 0.8)) for p in _similarities(question, passes, shape, extra)]
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
    return [
        Probe(name, views(seed, *(shape or (5, 4)), extra=extra), at, corner=corner)
        for name, seed, at, corner in beyond + on
    ]


def views(
    seed: int,
    n: int,
    d: int,
    *,
    extra: int = 0,
    norms: float = 1.0,
    near: bool = False,
    repeat: bool = False,
    twins: bool = False,
) -> tuple[Any, Any]:
    """Return two correlated views with rows of unequal length.

    Some positives dominate where ``near``; the views look the same way, row by row, but for a little where ``twins``.
    """
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, d))
    b = 0.8 * a + rng.standard_normal((n, d))
    if near:
        half = max(1, n // 2)
        b[:half] = a[:half] + 0.01 * rng.standard_normal((half, d))
        a[half:], b[half:] = a[half:] - 0.5 * a[:1], b[half:] - 0.5 * a[:1]
    if repeat:
        a[-1], b[-1] = a[0], b[0]
    if twins:
        b = a + 1e-3 * rng.standard_normal((n, d))
        a[-1], b[-1] = a[0] + 1e-2, b[0] - 1e-2
    b = np.concatenate([b, rng.standard_normal((extra, d))])
    a *= norms * rng.uniform(0.3, 1.2, (n, 1)) / np.sqrt(d)
    b *= rng.uniform(0.5, 1.6, (n + extra, 1)) / np.sqrt(d)
    return a, b


def another_view(seed: int, like: Any) -> Any:
    """Return one more view of the samples of a view, with rows of its own lengths."""
    rng = np.random.default_rng(seed)
    n, d = like.shape
    length = np.linalg.norm(like, axis=1, keepdims=True)
    direction = like / np.where(length > 0, length, 1.0)
    more = 0.7 * direction + rng.standard_normal((n, d)) / np.sqrt(d)
    return (more * rng.uniform(0.4, 1.4, (n, 1))).astype(like.dtype)


def futures(
    seed: int, n: int, d: int, steps: int, *, extra: int = 0, norms: float = 1.0, repeat: bool = False
) -> tuple[Any, Any, Any]:
    """Return contexts (N, D), futures (T, M, E) that lie somewhat where their contexts point, and forms (T, D, E)."""
    rng = np.random.default_rng(seed)
    context = rng.standard_normal((n, d)) * rng.uniform(0.4, 1.5, (n, 1))
    weight = rng.standard_normal((steps, d, d + 1)) / np.sqrt(d)
    future = 0.5 * context @ weight + rng.standard_normal((steps, n, d + 1))
    future = np.concatenate([future, rng.standard_normal((steps, extra, d + 1))], axis=1)
    if repeat:
        context[-1], future[:, n - 1] = context[0], future[:, 0]
    return context * norms, future, weight


def antipodal(seed: int, n: int, d: int, *, extra: int = 0) -> tuple[Any, Any]:
    """Return views in which the first row looks away from everything else, its positive with them."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal(d)
    u /= np.linalg.norm(u)
    a = u + 0.1 * rng.standard_normal((n, d))
    b = u + 0.1 * rng.standard_normal((n + extra, d))
    a[0] = -u + 0.05 * rng.standard_normal(d)
    return a * rng.uniform(0.5, 1.5, (n, 1)), b * rng.uniform(0.6, 1.2, (n + extra, 1))


def similarities(
    seed: int, n: int, m: int, *, scale: float = 1.0, near: bool = False, repeat: bool = False, below: bool = False
) -> Any:
    """Return similarities in [-1, 1], times a scale: positives on the diagonal, somewhat nearer than the rest."""
    rng = np.random.default_rng(seed)
    s = rng.uniform(-1.0, 0.6, (n, m))
    s[np.arange(n), np.arange(n)] = rng.uniform(-0.2, 0.9, n)
    if near:
        s[0] -= 0.4
        s[0, 0] = 1.0
    if repeat:
        s[:, -1] = s[:, 0] + 0.0
        s[-1, -1] = 0.3
    if below:
        s[0] = -1.0 + 0.02 * rng.random(m)
    return s * scale


def _with_upstream(probe: Probe, question: Question) -> Probe:
    if question.recipe.reduction != "none":
        return probe
    entries = int(np.prod(question.value_shape(probe.inputs, probe.scalar)))
    rng = np.random.default_rng(99)
    upstream = (rng.uniform(0.4, 1.8, entries) * rng.choice([1.0, 1.0, -1.0], entries)).astype(probe.dtype)
    return Probe(probe.name, probe.inputs, probe.scalar, upstream, probe.corner, probe.stress)
