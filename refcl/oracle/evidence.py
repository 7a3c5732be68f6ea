"""Facts that hold for a right answer whatever the numbers are, and guesses that are not names.

In:  a question, what a candidate returned and, where it can be called again, the candidate.
Out: sentences, for a report whose verdict needs company.
"""

import contextlib
import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.candidate import CannotJudge, Outcome
from refcl.oracle.compare import agrees
from refcl.oracle.probes import Probe
from refcl.oracle.question import RECIPES, Question
from refcl.oracle.recipe import Expected

Call = Callable[[Probe], Outcome]


class Result(NamedTuple):
    """One probe, what came and what was right."""

    probe: Probe
    outcome: Outcome
    right: Expected

    @property
    def wide(self) -> tuple[Any, ...]:
        return tuple(np.asarray(x, dtype=np.float64) for x in self.probe.inputs)

    @property
    def upstream(self) -> Any:
        return None if self.probe.upstream is None else self.probe.upstream.astype(np.float64)


class Invariant(NamedTuple):
    """Something that a right answer obeys."""

    name: str
    holds: bool
    error: float  # relative

    def __str__(self) -> str:
        return f"{self.name}: {'holds' if self.holds else 'BROKEN'} ({self.error:.1e})"


def invariants(question: Question, results: list[Result], call: Call | None) -> list[Invariant]:
    """Return which laws the answers obey, on the first probe that was answered in finite numbers."""
    plain = [r for r in results if r.outcome.finite and not r.probe.stress]
    if not plain:
        return []
    result = next((r for r in plain if r.outcome.grads is not None), plain[0])
    found = [*_laws_of_the_gradient(question, result)]
    if call is not None:
        with contextlib.suppress(CannotJudge):
            found += _laws_of_the_value(question, result, call)
    return found


def _laws_of_the_gradient(question: Question, result: Result) -> list[Invariant]:
    grads, found = result.outcome.grads, []
    if grads is None:
        return []
    recipe, tolerance = question.recipe, 1e4 * result.outcome.eps
    if not recipe.embeddings and (recipe.pool != "simple" or question.base is None):
        total = np.abs(np.sum(grads[0], axis=1)) / (np.sum(np.abs(grads[0]), axis=1) + 1e-300)
        found.append(_law("each row of ds sums to 0", float(np.max(total)), tolerance))
    if recipe.embeddings and recipe.normalization == "rows":
        along = [np.abs(np.sum(h * g, axis=1)) for h, g in zip(result.wide, grads, strict=True)]
        size = [np.linalg.norm(h, axis=1) * np.linalg.norm(g, axis=1) for h, g in zip(result.wide, grads, strict=True)]
        worst = max(float(np.max(a / (s + 1e-300))) for a, s in zip(along, size, strict=True))
        found.append(_law("each row's gradient is orthogonal to the row, <h, dh> = 0", worst, tolerance))
    dscalar, scalar = result.outcome.dscalar, result.probe.scalar
    raw = not recipe.embeddings or recipe.normalization == "none"
    if dscalar is not None and scalar is not None and recipe.pool == "softmax" and raw and not recipe.detached:
        # moving every similarity by a factor is moving the temperature by its inverse
        moved = float(np.sum(result.wide[0] * grads[0]))
        if question.two_sided:
            moved = (moved + float(np.sum(result.wide[1] * grads[1]))) / 2
        wanted = moved if question.scalar == "log_scale" else -moved / scalar
        found.append(
            _law(
                f"d{question.scalar} follows from the others", abs(dscalar - wanted) / (abs(wanted) + 1e-300), tolerance
            )
        )
    return found


def _laws_of_the_value(question: Question, result: Result, call: Call) -> list[Invariant]:
    probe, value, found = result.probe, result.outcome.value, []
    if question.positive is not None or question.ignore is not None or question.recipe.reduction == "none":
        return []
    if question.recipe.pool == "pair":
        return []
    tolerance = 1e4 * result.outcome.eps * (1 + abs(result.right.value_size))
    n = len(probe.inputs[0])
    turn = np.roll(np.arange(n), 1)
    if len(probe.inputs) == 2:
        a, b = probe.inputs
        order = np.concatenate([turn, np.arange(n, len(b))])
        moved = replace(probe, inputs=(a[turn], b[order]))
        found.append(_law("the order of the rows does not matter", _gap(call(moved).value, value), tolerance))
        d = a.shape[1]
        q = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0].astype(a.dtype)
        turned = replace(probe, inputs=(a @ q, b @ q))
        found.append(_law("a rotation of all embeddings does not matter", _gap(call(turned).value, value), tolerance))
        if question.recipe.normalization == "rows":
            longer = a.copy()
            longer[0] *= 3.0
            stretched = replace(probe, inputs=(longer, b))
            found.append(_law("the length of a row does not matter", _gap(call(stretched).value, value), tolerance))
        same = replace(probe, inputs=(np.ones_like(a), np.ones_like(b)))
        found.append(_collapse(question, same, call, tolerance))
    else:
        s = probe.inputs[0]
        columns = np.concatenate([turn, np.arange(n, s.shape[1])])
        moved = replace(probe, inputs=(s[turn][:, columns],))
        found.append(_law("the order of the anchors does not matter", _gap(call(moved).value, value), tolerance))
        if question.recipe.pool == "softmax" or question.base is None:
            shifted = replace(probe, inputs=(s + np.asarray(0.25, dtype=s.dtype),))
            found.append(_law("only differences of similarities matter", _gap(call(shifted).value, value), tolerance))
    return found


def _collapse(question: Question, probe: Probe, call: Call, tolerance: float) -> Invariant:
    wanted = question.expected(probe.inputs, probe.scalar)
    name = "the value where all embeddings are equal"
    if question.recipe.pool == "softmax":
        negatives = question.facts(probe.inputs, probe.scalar).negatives
        name += f" is ln {negatives + 1} = {math.log(negatives + 1):.6g}"
    got = call(probe).value
    return _law(f"{name} (it returned {float(got):.6g})", _gap(got, wanted.value), tolerance)


def _law(name: str, error: float, tolerance: float) -> Invariant:
    return Invariant(name, bool(error <= tolerance), error)


def _gap(a: Any, b: Any) -> float:
    error = float(np.max(np.abs(a - b)))
    return error if math.isfinite(error) else math.inf


def guesses(question: Question, results: list[Result]) -> list[str]:
    """Return what the candidate might be instead, where no name fits: another setting, another loss, another τ."""
    finite = [r for r in results if r.outcome.finite]
    if not finite:
        return []
    found = [f"It is right for {said}." for said, other in _other_settings(question) if _fits(other, finite)]
    found += [f"It is refcl.{said} to rounding." for said, other in _other_losses(question) if _fits(other, finite)]
    temperature = None if found else effective_temperature(question, finite)
    if temperature is not None:
        found.append(
            f"On every probe it is the loss at another temperature: {temperature:.6g} instead of "
            f"{question.temperature(finite[0].probe.scalar):.6g} on the first."
        )
    return found


def _fits(other: Question, results: list[Result]) -> bool:
    try:
        return all(
            agrees(other.expected(r.probe.inputs, r.probe.scalar, r.probe.upstream), r.outcome, scalar=False)
            for r in results
        )
    except (TypeError, ValueError):
        return False


def _other_settings(question: Question) -> list[tuple[str, Question]]:
    recipe, found = question.recipe, []
    if recipe.pool == "pair":
        return _other_switches(question)
    if recipe.embeddings:
        for direction in ("first", "second", "both"):
            if direction != recipe.anchors:
                found.append((f'direction="{direction}"', replace(recipe, anchors=direction)))
        other = "none" if recipe.normalization == "rows" else "rows"
        found.append((f"normalize={other == 'rows'}", replace(recipe, normalization=other)))
    if recipe.pool == "softmax" and recipe.in_denominator == 0:
        found.append(("positive_in_denominator=True", replace(recipe, in_denominator=1)))
    if recipe.hardest is not None:
        found.append(("hardest=1.0, all negatives", replace(recipe, hardest=None)))
    return [(said, replace(question, recipe=r, plain=False)) for said, r in found]


def _other_switches(question: Question) -> list[tuple[str, Question]]:
    """Return the question with each yes-or-no setting the other way; normalizing or not has names of its own."""
    found: list[tuple[str, Question]] = []
    for p in inspect.signature(question.pair.forward).parameters.values():
        now = question.settings.get(p.name, p.default)
        if p.kind is p.KEYWORD_ONLY and isinstance(now, bool) and p.name != "normalize" and question.plain:
            other = replace(question, settings=question.settings | {p.name: not now})
            found.append((f"{p.name}={not now}", other))
    return found


def _other_losses(question: Question) -> list[tuple[str, Question]]:
    found: list[tuple[str, Any]] = []
    for name, recipe in RECIPES.items() if question.recipe.pool != "pair" else ():
        if name == question.loss or recipe.embeddings != question.recipe.embeddings or name.startswith("hard"):
            continue
        shared = replace(
            recipe,
            reduction=question.recipe.reduction,
            normalization=question.recipe.normalization,
            eps=question.recipe.eps,
            detached=question.recipe.detached,
            scale=question.recipe.scale if question.recipe.pool == "softmax" else recipe.scale,
        )
        if recipe.pool == "softmax" and question.recipe.pool != "softmax":
            continue
        found.append((name, _WithoutWeight(replace(question, recipe=shared, plain=False))))
    return found


class _WithoutWeight:
    """A question about a loss that is not the one asked: a temperature is no weight."""

    def __init__(self, question: Question) -> None:
        self.question = question

    def expected(self, inputs: tuple[Any, ...], scalar: float | None, upstream: Any) -> Expected:
        simple = self.question.recipe.pool == "simple" and self.question.scalar != "weight"
        return self.question.expected(inputs, None if simple else scalar, upstream)


def effective_temperature(question: Question, results: list[Result]) -> float | None:
    """Return the temperature at which every answer is right, on the first probe, or None where there is none."""
    if question.recipe.pool != "softmax" or question.scalar != "temperature":
        return None
    found: list[float] = []
    for r in results:
        t = _temperature_of(question, r)
        if t is None or not agrees(question.expected(r.probe.inputs, t, r.probe.upstream), r.outcome, scalar=False):
            return None
        found.append(t)
    return found[0] if found else None


def _temperature_of(question: Question, r: Result) -> float | None:
    from scipy.optimize import brentq

    def off(log_t: float) -> float:
        return float(np.sum(question.expected(r.probe.inputs, math.exp(log_t), r.upstream).value - r.outcome.value))

    grid = np.linspace(math.log(1e-3), math.log(1e3), 25)
    values = [off(x) for x in grid]
    for low, high, f, g in zip(grid, grid[1:], values, values[1:], strict=False):
        if f * g < 0:
            t = math.exp(brentq(off, low, high, xtol=1e-15, rtol=1e-15))
            if agrees(question.expected(r.probe.inputs, t, r.probe.upstream), r.outcome, scalar=False):
                return t
    return None
