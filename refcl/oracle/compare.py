"""Do two answers agree to rounding?

In:  what was expected, with the sizes of its terms, and what came.
Out: how far they are apart in each part, in units of what rounding may do: up to 1 is agreement.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.candidate import Outcome
from refcl.oracle.recipe import Expected

ROUNDINGS = 32.0  # how many roundings of the terms' own size are forgiven


class Part(NamedTuple):
    """One part of an answer: the value, or the gradient of one argument."""

    name: str  # "value" or the argument
    distance: float  # worst |got − wanted| / tolerance; up to 1 is agreement
    error: float  # relative to the largest entry wanted
    where: tuple[int, ...]
    got: float
    wanted: float
    ratio: float  # <g, g*>/<g*, g*>
    cosine: float


def compare(expected: Expected, outcome: Outcome, names: tuple[str, ...]) -> list[Part]:
    """Compare every part that the outcome has.

    Parameters
    ----------
    expected : Expected
        What it should be.
    outcome : Outcome
        What it is.
    names : tuple of str
        The array arguments, the scalar where there is one, then further scalars.
    """
    return [
        _part("value" if place is None else names[place], got, wanted, size, outcome.eps, noise)
        for _, place, got, wanted, size, noise in parts(expected, outcome)
    ]


def parts(expected: Expected, outcome: Outcome) -> Iterator[tuple[str, int | None, Any, Any, Any, float]]:
    """Yield what can be compared: its kind, its place among the names, what came and what was expected.

    With the unit of its rounding, and the relative error that it may have besides.
    """
    yield "value", None, outcome.value, expected.value, expected.value_size, 0.0
    if outcome.grads is not None:
        for k, (got, wanted, size) in enumerate(zip(outcome.grads, expected.grads, expected.grad_sizes, strict=False)):
            yield "grads", k, got, wanted, size, outcome.noise
    if outcome.dscalar is not None and expected.dscalar is not None:
        yield "scalar", len(expected.grads), outcome.dscalar, expected.dscalar, expected.dscalar_size, outcome.noise
    of_more = zip(outcome.dmore, expected.dmore, expected.dmore_sizes, strict=False)
    for k, (d, wanted, size) in enumerate(of_more):
        if d is not None:
            yield "more", k - len(expected.dmore), d, wanted, size, outcome.noise


def agrees(
    expected: Expected, outcome: Outcome, *, scalar: bool = True, value: bool = True, grads: bool = True
) -> bool:
    """Return whether an outcome is what was expected, to rounding: the quick form of `compare`."""
    kinds = {"value": value, "grads": grads, "scalar": scalar, "more": grads}
    return all(
        _close(got, wanted, size, outcome.eps, noise)
        for kind, _, got, wanted, size, noise in parts(expected, outcome)
        if kinds[kind]
    )


def _allowed(size: Any, wanted: Any, eps: float, noise: float) -> Any:
    # What is exactly zero, because nothing contributes to it, may be that and nothing else.
    return ROUNDINGS * eps * size + noise * (np.max(np.abs(wanted)) + size) + np.finfo(np.float64).tiny


def _close(got: Any, wanted: Any, size: Any, eps: float, noise: float) -> bool:
    # What is not finite agrees with nothing: infinite sizes would forgive anything.
    if not (np.all(np.isfinite(wanted)) and np.all(np.isfinite(size)) and np.all(np.isfinite(got))):
        return False
    return bool(np.all(np.abs(got - wanted) <= _allowed(size, wanted, eps, noise)))


def _part(name: str, got: Any, wanted: Any, size: Any, eps: float, noise: float) -> Part:
    got, wanted = np.asarray(got), np.asarray(wanted)
    if not (np.all(np.isfinite(wanted)) and np.all(np.isfinite(size))):
        return Part(name, np.inf, np.inf, (), float("nan"), float("nan"), float("nan"), float("nan"))
    error = np.abs(got - wanted)
    distance = np.where(np.isfinite(error), error / _allowed(size, wanted, eps, noise), np.inf)
    where = np.unravel_index(int(np.argmax(distance)), distance.shape) if distance.ndim else ()
    largest = float(np.max(np.abs(wanted)))
    dot, square = float(np.sum(got * wanted)), float(np.sum(wanted * wanted))
    length = float(np.sqrt(np.sum(got * got) * square))
    return Part(
        name,
        float(distance[where]),
        float(np.max(np.where(np.isfinite(error), error, np.inf))) / (largest or 1.0),
        tuple(int(k) for k in where),
        float(got[where]),
        float(wanted[where]),
        dot / square if square else float("nan"),
        dot / length if length else float("nan"),
    )


def coarseness(precision: str | None) -> float:
    """Return the spacing that a precision is held to; intermediate results carry a few roundings, not 32 of them."""
    known = {None: 0.0, "bfloat16": 2.0**-12, "float16": 2.0**-15, "float32": 2.0**-23}
    if precision not in known:
        raise ValueError(f'check: precision must be "bfloat16", "float16" or "float32", got {precision!r}.')
    return known[precision]
