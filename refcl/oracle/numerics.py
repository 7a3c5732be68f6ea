"""Mistakes of arithmetic: constants inside the logarithm, finite masks, overflow, lost digits.

In:  a question and answers that are not right.
Out: the constant that explains them, or what kind of noise they are.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.candidate import CannotJudge
from refcl.oracle.compare import agrees, compare
from refcl.oracle.evidence import Call, Result
from refcl.oracle.mistakes import constant_term
from refcl.oracle.question import Question, scaled
from refcl.oracle.recipe import Expected, Extra, Recipe
from refcl.oracle.roots import root

ROUND_CONSTANTS = (
    *(10.0**-k for k in range(1, 17)),
    1e-20,
    1e-30,
    float(np.finfo(np.float32).eps),
    float(np.finfo(np.float64).eps),
    float(np.finfo(np.float32).tiny),
    float(np.finfo(np.float64).tiny),
)
ROUND_MASKS = (-1.0, -2.0, -5.0, -9.0, -10.0, -15.0, -20.0, -50.0, -100.0, -1e3, -1e4, 1.0)


class Family(NamedTuple):
    """A constant that could stand somewhere in the loss, as a function of its logarithm or of itself."""

    id: str
    said: Callable[[float], str]
    recipe: Callable[[Recipe, float], Recipe]
    round_values: tuple[float, ...]  # what people write
    from_log: bool  # the constant is exp of what is searched


def _families(recipe: Recipe) -> Iterator[Family]:
    def with_log_plus(r: Recipe, log_eps: float) -> Recipe:
        return replace(r, log_plus=math.exp(log_eps))

    def with_clamp(r: Recipe, log_eps: float) -> Recipe:
        return replace(r, log_clamp=max(math.exp(log_eps), 1e-320))

    def with_term(r: Recipe, c: float) -> Recipe:
        return replace(r, extra=constant_term(c))

    def with_masked_similarity(r: Recipe, c: float) -> Recipe:
        alpha = r.scale
        return replace(r, extra=Extra(lambda t, top: np.asarray(c * alpha.at(t)), lambda t: c * alpha.slope(t)))

    def with_shifted_term(r: Recipe, log_eps: float) -> Recipe:
        return replace(r, extra=Extra(lambda t, top: top + log_eps))

    def with_term_above_itself(r: Recipe, log_eps: float) -> Recipe:
        # The greatest logit of all may be one's own: SupContrast's shift.
        return replace(r, extra=Extra(lambda t, top: top + log_eps, above_itself=True))

    logs = tuple(math.log(x) for x in ROUND_CONSTANTS)
    if recipe.embeddings and recipe.candidates == "all":
        yield Family(
            "finite-mask-leak",
            lambda c: f"the masked logit is {c:.6g}, after the temperature",
            with_term,
            ROUND_MASKS,
            False,
        )
        yield Family(
            "finite-mask-leak",
            lambda c: f"the masked similarity is {c:.6g}, before the temperature",
            with_masked_similarity,
            ROUND_MASKS,
            False,
        )
    if recipe.inside != "supervised":
        yield Family("epsilon-in-log", lambda e: f"-log(p + {e:.6g})", with_log_plus, logs, True)
        yield Family("epsilon-in-log", lambda e: f"-log(max(p, {e:.6g}))", with_clamp, logs, True)
    yield Family("epsilon-in-log", lambda e: f"the sum of raw exponentials has {e:.6g} added", with_term, logs, True)
    yield Family(
        "epsilon-in-log",
        lambda e: f"the sum of exponentials has {e:.6g} added, after the greatest logit was taken out",
        with_shifted_term,
        logs,
        True,
    )
    if recipe.embeddings and recipe.candidates == "all":
        yield Family(
            "epsilon-in-log",
            lambda e: f"the sum of exponentials has {e:.6g} added, after the greatest logit, one's own, was taken out",
            with_term_above_itself,
            logs,
            True,
        )


def constant_inside(question: Question, results: list[Result]) -> list[tuple[str, str]]:
    """Return the ids and details of constants in the logarithm or the mask that explain every answer."""
    recipe = question.recipe
    if recipe.pool != "softmax" and recipe.inside not in ("decoupled", "reweighted", "supervised"):
        return []
    names = (*question.inputs, *([question.scalar] if question.scalar else []))
    worst = max(results, key=lambda r: _finite(compare(r.right, r.outcome, names)[0].distance))
    if _finite(compare(worst.right, worst.outcome, names)[0].distance) <= 1.0:
        return []
    failing = sum(not agrees(r.right, r.outcome) for r in results)
    found: list[tuple[bool, str, str]] = []
    for family in _families(recipe):
        constant = _solve(question, family, worst)
        if constant is None:
            continue
        # What people write is tried first. An odd number is believed only where several answers ask for it: one
        # answer can be explained by some number, whatever is wrong with it.
        known = [c for c in family.round_values if abs(c - constant) < 0.05 * max(abs(constant), 1.0)]
        short = [float(f"{constant:.{d}g}") for d in (2, 3)] if not family.from_log else []
        for c in (*known, *short, *([constant] if failing >= 3 else [])):
            if _explains(question, family.recipe(recipe, c), results):
                detail = family.said(math.exp(c) if family.from_log else c)
                found.append((c in known or c in short, family.id, detail))
                break
        else:
            found += _of_the_dtype(question, family, results)
    return _plainest(found)


def _of_the_dtype(question: Question, family: Family, results: list[Result]) -> list[tuple[bool, str, str]]:
    """Try the constants that a precision brings along, which are other numbers in float32 than in float64."""
    for what in ("tiny", "eps") if family.from_log else ():
        if all(_explains(question, family.recipe(question.recipe, _of(r, what)), [r]) for r in results):
            return [(True, family.id, f"{family.said(math.exp(_of(results[0], what)))}: finfo(dtype).{what}")]
    return []


def _explains(question: Question, recipe: Recipe, results: list[Result]) -> bool:
    return all(
        agrees(_answer(question, recipe, r, value_only=True), r.outcome, scalar=False, grads=False)
        and agrees(_answer(question, recipe, r), r.outcome)
        for r in results
    )


def _of(r: Result, what: str) -> float:
    return math.log(float(getattr(np.finfo(r.probe.dtype), what)))


def _plainest(found: list[tuple[bool, str, str]]) -> list[tuple[str, str]]:
    """Keep one entry for each name, and round constants only where there are any."""
    any_round = any(is_round for is_round, _, _ in found)
    kept: dict[str, list[str]] = {}
    for is_round, id_, detail in found:
        if is_round or not any_round:
            kept.setdefault(id_, []).append(detail)
    return [(id_, ", or ".join(details)) for id_, details in kept.items()]


def _solve(question: Question, family: Family, r: Result) -> float | None:
    """Find the constant on one answer: every loss here moves one way with it."""

    def off(c: float) -> float:
        with np.errstate(all="ignore"):
            answer = _answer(question, family.recipe(question.recipe, c), r, value_only=True)
            return float(np.sum(answer.value - r.outcome.value))

    c = root(off, -745.0, 25.0 if not family.from_log else -0.5)
    return c if math.isfinite(c) else None


def _answer(question: Question, recipe: Recipe, r: Result, *, value_only: bool = False) -> Expected:
    answer = question.under(r.probe).evaluate(recipe, r.wide, r.probe.scalar, r.upstream, value_only=value_only)
    return scaled(answer, question.factor_at(r.wide, r.probe.scalar))


def _finite(x: float) -> float:
    return x if math.isfinite(x) else -1.0


def raw_exponentials_fail(question: Question, r: Result) -> bool:
    """Return whether exp(s/τ), written as it stands, leaves the range of this probe's numbers."""
    if not question.recipe.scaled or r.probe.scalar is None:
        return False
    logits = _logits(question, r)
    dtype = np.float32 if r.probe.dtype == "float32" or r.outcome.eps > 1e-10 else np.float64
    info = np.finfo(dtype)
    return bool(np.max(logits) > np.log(info.max) - 1 or np.min(logits) < np.log(info.tiny) + 1)


def cancellation(question: Question, r: Result) -> float:
    """Return by what rounding is magnified where oneself is summed first and subtracted afterwards."""
    recipe = question.recipe
    if not (recipe.embeddings and recipe.candidates == "all" and recipe.pool == "softmax"):
        return 1.0
    logits = _logits(question, r)
    np.fill_diagonal(others := logits.copy(), -np.inf)
    top = np.max(others, axis=1)
    total = top + np.log(np.sum(np.exp(others - top[:, None]), axis=1))
    return float(np.exp(min(np.max(np.max(logits, axis=1) - total), 700.0)))


def _logits(question: Question, r: Result) -> Any:
    recipe, scalar = question.recipe, float(question.clamped(r.probe.scalar) or 0.0)
    inputs = r.wide
    if not recipe.embeddings:
        return recipe.scale.at(scalar) * inputs[0]
    if recipe.normalization == "rows":
        inputs = tuple(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), recipe.eps) for x in inputs)
    z = np.concatenate(inputs)
    held = question.settings | question.companions(r.wide)
    memory = held.get("bank", held.get("queue"))
    if memory is not None:
        z = np.concatenate([z, memory / np.linalg.norm(memory, axis=1, keepdims=True)])
        return recipe.scale.at(scalar) * (z @ z.T)
    return recipe.scale.at(scalar) * (
        z @ z.T if recipe.candidates == "all" or len(inputs) == 1 else inputs[0] @ inputs[1].T
    )


class Noise(NamedTuple):
    """How an error behaves where the input moves a little."""

    rough: bool  # it is another error each time: rounding
    relative: float  # its size, over what is wrong


def noise(question: Question, results: list[Result], call: Call, *, step: float, part: float = 0.5) -> Noise:
    """Move the inputs by a relative ``step`` and see whether the error moves with them or jumps.

    A wrong formula errs smoothly: its error hardly changes. Rounding to few digits errs anew each time. Rough is an
    error that changes by more than ``part`` of itself.
    """
    rough, relative = [], []
    rng = np.random.default_rng(7)
    for r in results[:4]:
        errors = [_error(r.right, r)]
        for _ in range(4):
            inputs = tuple((x * (1 + step * rng.uniform(-1, 1, x.shape))).astype(x.dtype) for x in r.probe.inputs)
            probe = replace(r.probe, inputs=inputs)
            try:
                outcome = call(probe)
            except CannotJudge:
                return Noise(False, math.inf)
            right = question.answer(probe)
            errors.append(_error(right, Result(probe, outcome, right)))
        stacked = np.array(errors)
        finite = np.all(np.isfinite(stacked), axis=1)
        if not np.all(finite):
            # Now a number and now none: as rough as it gets. Never a number: not noise.
            rough.append(bool(np.any(finite)))
            continue
        stacked = stacked[finite]
        spread = float(np.linalg.norm(stacked - stacked.mean(axis=0)))
        rough.append(spread > part * float(np.linalg.norm(stacked)))
        relative.append(float(np.max(np.abs(stacked))) / (float(np.max(np.abs(_answer_vector(r.right, r)))) or 1.0))
    return Noise(bool(rough) and all(rough), max(relative, default=math.inf))


def _answer_vector(right: Expected, r: Result) -> Any:
    parts = [np.atleast_1d(right.value)]
    if r.outcome.grads is not None:
        parts += [g.ravel() for g in right.grads]
    return np.concatenate([p / (np.max(np.abs(p)) or 1.0) for p in parts])


def _error(right: Expected, r: Result) -> Any:
    parts = [np.atleast_1d(r.outcome.value - right.value) / (np.max(np.abs(right.value)) or 1.0)]
    if r.outcome.grads is not None:
        parts += [
            (got - g).ravel() / (np.max(np.abs(g)) or 1.0) for got, g in zip(r.outcome.grads, right.grads, strict=True)
        ]
    return np.concatenate(parts)
