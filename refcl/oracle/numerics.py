"""Mistakes of arithmetic: constants inside the logarithm, finite masks, overflow, lost digits.

In:  a question and answers that are not right.
Out: the constant that explains them, or what kind of noise they are.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.compare import agrees, compare, parts
from refcl.oracle.evidence import Call, Expectations, Result
from refcl.oracle.mistakes import constant_term
from refcl.oracle.question import Question
from refcl.oracle.raised import CannotJudge
from refcl.oracle.recipe import Extra, InLog, Recipe
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
    def adding(make: Callable[[Recipe, float], Extra]) -> Callable[[Recipe, float], Recipe]:
        return lambda r, c: replace(r, extra=make(r, c))

    def before_temperature(r: Recipe, c: float) -> Extra:
        return Extra(lambda t, top: np.asarray(c * r.scale.at(t)), lambda t: c * r.scale.slope(t))

    logs = tuple(math.log(x) for x in ROUND_CONSTANTS)
    everyone = recipe.embeddings and recipe.candidates == "all"
    after, added = adding(lambda r, c: constant_term(c)), "the sum of exponentials has {:.6g} added, after the greatest"
    if everyone:
        leak, masked = "finite-mask-leak", (ROUND_MASKS, False)
        yield Family(leak, "the masked logit is {:.6g}, after the temperature".format, after, *masked)
    before, one = adding(before_temperature), "" if everyone else ": one candidate more, as where the own key is masked"
    leaking = f"the masked similarity is {{:.6g}}, before the temperature{one}"
    yield Family("finite-mask-leak", leaking.format, before, ROUND_MASKS, False)
    eps = "epsilon-in-log"
    if recipe.inside != "supervised" or recipe.form == "out":
        yield Family(eps, "-log(p + {:.6g})".format, partial(_in_log, True), logs, True)
        yield Family(eps, "-log(max(p, {:.6g}))".format, partial(_in_log, False), logs, True)
    yield Family(eps, "the sum of raw exponentials has {:.6g} added".format, after, logs, True)
    shifted = adding(lambda r, c: Extra(lambda t, top: top + c))
    yield Family(eps, f"{added} logit was taken out".format, shifted, logs, True)
    if everyone:  # the greatest logit of all may be one's own: SupContrast's shift
        shifted = adding(lambda r, c: Extra(lambda t, top: top + c, above_itself=True))
        yield Family(eps, f"{added} logit, one's own, was taken out".format, shifted, logs, True)


def _in_log(added: bool, r: Recipe, log_eps: float) -> Recipe:
    return replace(r, in_log=InLog(max(math.exp(log_eps), 1e-320), added))


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
            if Expectations(question, results, family.recipe(recipe, c)).explain():
                detail = family.said(math.exp(c) if family.from_log else c)
                found.append((c in known or c in short, family.id, detail))
                break
        else:
            found += _of_the_dtype(question, family, results)
    return _plainest(found)


def _of_the_dtype(question: Question, family: Family, results: list[Result]) -> list[tuple[bool, str, str]]:
    """Try the constants that a precision brings along, which are other numbers in float32 than in float64."""
    for what in ("tiny", "eps") if family.from_log else ():
        recipes = [family.recipe(question.recipe, _of(r, what)) for r in results]
        if all(Expectations(question, [r], x).explain() for r, x in zip(results, recipes, strict=True)):
            return [(True, family.id, f"{family.said(math.exp(_of(results[0], what)))}: finfo(dtype).{what}")]
    return []


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
            answer = question.made(family.recipe(question.recipe, c), r, value_only=True)
            return float(np.sum(answer.value - r.outcome.value))

    c = root(off, -745.0, 25.0 if not family.from_log else -0.5)
    return c if math.isfinite(c) else None


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
        errors = [_error(r)]
        for _ in range(4):
            inputs = tuple((x * (1 + step * rng.uniform(-1, 1, x.shape))).astype(x.dtype) for x in r.probe.inputs)
            probe = replace(r.probe, inputs=inputs)
            try:
                outcome = call(probe)
            except CannotJudge:
                return Noise(False, math.inf)
            errors.append(_error(Result(probe, outcome, question.answer(probe))))
        stacked = np.array(errors)
        finite = np.all(np.isfinite(stacked), axis=1)
        if not np.all(finite):
            # Now a number and now none: as rough as it gets. Never a number: not noise.
            rough.append(bool(np.any(finite)))
            continue
        stacked = stacked[finite]
        spread = float(np.linalg.norm(stacked - stacked.mean(axis=0)))
        rough.append(spread > part * float(np.linalg.norm(stacked)))
        relative.append(float(np.max(np.abs(stacked))))
    return Noise(bool(rough) and all(rough), max(relative, default=math.inf))


def _error(r: Result) -> Any:
    """Return how far value and gradients are off, each relative to its own largest entry."""
    both = [(got, want) for kind, _, got, want, _, _ in parts(r.right, r.outcome) if kind in ("value", "grads")]
    return np.concatenate([np.ravel(got - want) / (float(np.max(np.abs(want))) or 1.0) for got, want in both])
