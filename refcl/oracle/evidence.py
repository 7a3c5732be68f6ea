"""Facts that hold for a right answer whatever the numbers are, and guesses that are not names.

In:  a question, what a candidate returned and, where it can be called again, the candidate.
Out: sentences, for a report whose verdict needs company.
"""

import contextlib
import math
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.candidate import Outcome
from refcl.oracle.compare import agrees
from refcl.oracle.probes import Probe
from refcl.oracle.question import Question
from refcl.oracle.raised import CannotJudge
from refcl.oracle.recipe import Expected, Recipe

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


class Expectations:
    """What a recipe makes of each probe, computed once; without gradients where none came."""

    def __init__(self, question: Question, results: list[Result], recipe: Recipe) -> None:
        self.question, self.results, self.recipe = question, results, recipe
        self.known: dict[int, Expected] = {}
        self.values: dict[int, Expected] = {}

    def __call__(self, k: int) -> Expected:
        outcome = self.results[k].outcome
        if outcome.grads is None and outcome.dscalar is None:
            return self.value(k)
        if k not in self.known:
            self.known[k] = self.question.made(self.recipe, self.results[k])
        return self.known[k]

    def value(self, k: int) -> Expected:
        """Return the value alone, which is a third of the work and tells most recipes apart."""
        if k not in self.known and k not in self.values:
            self.values[k] = self.question.made(self.recipe, self.results[k], value_only=True)
        return self.known[k] if k in self.known else self.values[k]

    def held_to(self, results: list[Result]) -> "Expectations":
        """Return the same for other outcomes of the same probes."""
        other = copy(self)
        other.results = results
        return other

    def explain(self, *, scalar: bool = True) -> bool:
        """Return whether every answer is what the recipe makes: values first, gradients where they came."""
        return all(
            agrees(self.value(k), r.outcome, scalar=False, grads=False) and agrees(self(k), r.outcome, scalar=scalar)
            for k, r in enumerate(self.results)
        )


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
    recipe = question.recipe
    if question.positive is not None or question.ignore is not None or recipe.reduction == "none":
        return []
    if recipe.pool == "pair":
        return []
    tolerance = 1e4 * result.outcome.eps * (1 + abs(result.right.value_size))
    n = len(probe.inputs[0])
    turn = np.roll(np.arange(n), 1)
    moved: dict[str, tuple[Any, ...]] = {}
    if len(probe.inputs) == 2:
        a, b = probe.inputs
        d = a.shape[1]
        q = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0].astype(a.dtype)
        moved["the order of the rows does not matter"] = a[turn], b[np.concatenate([turn, np.arange(n, len(b))])]
        moved["a rotation of all embeddings does not matter"] = a @ q, b @ q
        if recipe.normalization == "rows":
            moved["the length of a row does not matter"] = np.concatenate([3.0 * a[:1], a[1:]]), b
    else:
        s = probe.inputs[0]
        columns = np.concatenate([turn, np.arange(n, s.shape[1])])
        moved["the order of the anchors does not matter"] = (s[turn][:, columns],)
        if recipe.pool == "softmax" or question.base is None:
            moved["only differences of similarities matter"] = (s + np.asarray(0.25, dtype=s.dtype),)
    for law, inputs in moved.items():
        found.append(_law(law, _gap(call(replace(probe, inputs=inputs)).value, value), tolerance))
    if len(probe.inputs) == 2:
        same = replace(probe, inputs=(np.ones_like(a), np.ones_like(b)))
        found.append(_collapse(question, same, call, tolerance))
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
