"""Right but for a factor or an offset: which one?

In:  answers and what was expected.
Out: the factors of value and gradient and the offset that make them agree on every probe, with their names.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from refcl.oracle.compare import agrees
from refcl.oracle.constants import BY_COLUMNS, CONVENTIONS, OFFSETS, SCALES, Named
from refcl.oracle.evidence import Result
from refcl.oracle.question import Question, scaled
from refcl.oracle.recipe import Expected


class Factor(NamedTuple):
    """A factor or an offset that fits on every probe."""

    names: tuple[str, ...]  # empty where it has none
    numbers: tuple[float, ...]  # one for each probe

    @property
    def is_one(self) -> bool:
        return all(x == 1.0 for x in self.numbers)

    @property
    def is_zero(self) -> bool:
        return all(x == 0.0 for x in self.numbers)

    def said(self) -> str:
        first = f"{self.numbers[0]:.6g}"
        if not self.names:
            return f"{first}, which is no constant that we know"
        named = " or ".join(n for n in self.names if n != first)
        return first if not named else f"{named} ({first} on the first probe)"


class Fit(NamedTuple):
    """How answers differ from what was expected."""

    value: Factor
    offset: Factor
    gradient: Factor | None  # None where no gradient was judged
    scalar_agrees: bool

    @property
    def exact(self) -> bool:
        return self.value.is_one and self.offset.is_zero and (self.gradient is None or self.gradient.is_one)

    def ids(self) -> tuple[str, ...]:
        """Return the names that this difference earns, for the one whose gradient is not the scalar's."""
        found: list[str] = []
        gradient = self.gradient
        if not self.value.is_one or (gradient is not None and gradient.numbers[0] not in (1.0, 0.0)):
            found.append("scaled-by-constant")
        if not self.offset.is_zero:
            found.append("offset-by-constant")
        if gradient is not None and gradient.is_zero:
            found.append("gradient-zero")
        if gradient is not None and all(x == -1.0 for x in gradient.numbers) and self.value.is_one:
            found = [*found[1:], "gradient-sign-flipped"]
        if gradient is not None and not self.scalar_agrees:
            found.append("temperature-gradient-wrong")
        return tuple(found)

    def convention(self, *, two_sided: bool) -> str | None:
        """Return who uses this factor on purpose, of two directions where there are two."""
        same = self.gradient is None or self.gradient.numbers == self.value.numbers
        known = [name for name in self.value.names if name in CONVENTIONS and (two_sided or name != "2")]
        return f"{known[0]}: {CONVENTIONS[known[0]]}" if known and same and self.offset.is_zero else None

    def said(self) -> str:
        parts = []
        gradient = self.gradient
        if gradient is not None and gradient.numbers == self.value.numbers and not self.value.is_one:
            parts.append(f"value and gradient are multiplied by {self.value.said()}")
        else:
            if not self.value.is_one:
                parts.append(f"the value is multiplied by {self.value.said()}")
            if gradient is not None and gradient.is_zero:
                parts.append("the gradient is zero")
            elif gradient is not None and not gradient.is_one:
                parts.append(f"the gradient is multiplied by {gradient.said()}")
        if not self.offset.is_zero:
            parts.append(f"the value is off by {self.offset.said()}")
        return "; ".join(parts)


def fit(question: Question, results: list[Result], expected: Callable[[int], Expected]) -> Fit | None:
    """Return the factors and the offset by which answers differ from ``expected(k)``, or None where they do not fit.

    The gradients of the arrays decide; whether the scalar's goes with them is said.
    """
    gradient: Factor | None = None
    if results[0].outcome.grads is not None:
        gradient = _gradient_factor(question, results, expected)
        if gradient is None:
            return None
    found = _value_factor(question, results, expected)
    if found is None:
        return None
    value, offset = found
    scalar_agrees = gradient is None or _scalar_goes_along(question, results, expected, value, gradient)
    return Fit(value, offset, gradient, scalar_agrees)


def _scalar_goes_along(
    question: Question, results: list[Result], expected: Callable[[int], Expected], value: Factor, gradient: Factor
) -> bool:
    for k, r in enumerate(results):
        plain = expected(k)
        e = scaled(plain, value.numbers[k], gradient.numbers[k])
        if agrees(e, r.outcome, value=False, grads=False):
            continue
        # The embeddings' gradients alone may be scaled, as where each rank keeps its own share of them.
        if value.is_one and agrees(plain, r.outcome, value=False, grads=False):
            continue
        # Where the factor is a power of τ, d(f L)/dτ = f dL/dτ + f' L.
        moved = _slope(question, r, value, k) * float(np.sum(plain.value if r.upstream is None else 0.0))
        dscalar, size = (e.dscalar or 0.0) + moved, e.dscalar_size + abs(moved)
        if gradient.numbers != value.numbers or not agrees(
            e._replace(dscalar=dscalar, dscalar_size=size), r.outcome, value=False, grads=False
        ):
            return False
    return True


def _slope(question: Question, r: Result, value: Factor, k: int) -> float:
    """Return the derivative of a factor that is a power of τ by the scalar."""
    named = next((s for s in SCALES if value.names and s.name == value.names[0]), None)
    facts = question.facts(r.probe.inputs, r.probe.scalar)
    if named is None or facts.temperature is None or r.probe.scalar is None:
        return 0.0
    twice = named.at(facts._replace(temperature=2 * facts.temperature))
    power = round(math.log2(abs(float(twice or 1.0) / value.numbers[k])))
    by_temperature = power * value.numbers[k] / facts.temperature
    return -facts.temperature * by_temperature if question.scalar == "log_scale" else by_temperature


def _value_factor(
    question: Question, results: list[Result], expected: Callable[[int], Expected]
) -> tuple[Factor, Factor] | None:
    ones, zeros = Factor(("1",), (1.0,) * len(results)), Factor(("0",), (0.0,) * len(results))

    def multiplied(numbers: tuple[float, ...], upto: int | None = None) -> bool:
        return all(
            agrees(scaled(expected(k), numbers[k]), results[k].outcome, scalar=False, grads=False)
            for k in range(upto or len(results))
        )

    def moved(numbers: tuple[float, ...], upto: int | None = None) -> bool:
        return all(
            agrees(
                (e := expected(k))._replace(value=e.value + numbers[k], value_size=e.value_size + abs(numbers[k])),
                results[k].outcome,
                scalar=False,
                grads=False,
            )
            for k in range(upto or len(results))
        )

    if multiplied(ones.numbers):
        return ones, zeros
    reference = np.atleast_1d(expected(0).value)
    at = int(np.argmax(np.abs(reference)))
    got = float(np.atleast_1d(results[0].outcome.value)[at])
    free = got / float(reference[at]) if reference[at] else float("nan")
    factor = _named(question, results, SCALES, free, multiplied)
    if factor is not None:
        return factor, zeros
    offset = _named(question, results, OFFSETS, got - float(reference[at]), moved)
    return None if offset is None else (ones, offset)


def _gradient_factor(question: Question, results: list[Result], expected: Callable[[int], Expected]) -> Factor | None:
    def fits(numbers: tuple[float, ...], upto: int | None = None) -> bool:
        return all(
            agrees(scaled(expected(k), 1.0, numbers[k]), results[k].outcome, scalar=False, value=False)
            for k in range(upto or len(results))
        )

    ones = (1.0,) * len(results)
    if fits(ones):
        return Factor(("1",), ones)
    if all(not np.any(g) for r in results for g in r.outcome.grads or ()):
        return Factor(("0",), (0.0,) * len(results))
    got = np.concatenate([g.ravel() for g in results[0].outcome.grads or ()])
    wanted = np.concatenate([g.ravel() for g in expected(0).grads])
    square = float(wanted @ wanted)
    return _named(question, results, SCALES, float(got @ wanted) / square if square else float("nan"), fits)


def _named(
    question: Question,
    results: list[Result],
    known: tuple[Named, ...],
    free: float,
    fits: Callable[..., bool],
) -> Factor | None:
    """Return the names whose numbers fit on every probe; the bare number of the first where none does."""
    # On one probe the bare number must fit by itself: the quick way out for what is no factor at all.
    if not np.isfinite(free) or free == 0.0 or not fits((free,), 1):
        return None
    names: list[str] = []
    numbers: tuple[float, ...] = ()
    facts = [question.facts(r.probe.inputs, r.probe.scalar) for r in results]
    for named in known:
        first = named.at(facts[0])
        if first is None or abs(float(first) - free) > 1e-4 * abs(free):
            continue
        at = [named.at(f) for f in facts]
        if any(x is None for x in at) or (named in BY_COLUMNS and names):
            continue
        exact = tuple(float(x or 0.0) for x in at)
        if fits(exact):
            names.append(named.name)
            numbers = numbers or exact
    if names:
        if len(set(numbers)) == 1 and all("τ" in name for name in names):
            names.append("a constant, which can't be told from it while τ is baked in")
        return Factor(tuple(names), numbers)
    constant = (round(free, 6) if abs(round(free, 6) - free) < 1e-9 * abs(free) else free,) * len(results)
    return Factor((), constant) if fits(constant) else None
