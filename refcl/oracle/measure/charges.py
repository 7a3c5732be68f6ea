"""What is charged for each anchor, where it is not -log p of its positive?

In:  a question of one softmax an anchor, and answers that are not right.
Out: the formula under which every value is right, up to a factor that is the same on every batch.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.evaluate import compared
from refcl.oracle.evidence import Result
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.question import Question


class Anchors(NamedTuple):
    """What a formula is made of."""

    logits: Any  # (A, T) divided by the temperature
    s: Any  # (A, T)
    at: Any  # (A, T) the positive
    off: Any  # (A, T) the negatives
    p: Any  # (A, T) probabilities, 0 where masked

    @property
    def candidates(self) -> int:
        """Of candidates of the first anchor."""
        return int(np.sum(self.at[0] | self.off[0]))

    def of(self, x: Any) -> Any:
        """Return what an anchor has of its positive (A, 1)."""
        return np.sum(np.where(self.at, x, 0.0), axis=1, keepdims=True)


def _softplus(x: Any) -> Any:
    return np.logaddexp(0.0, x)


def _over(mask: Any, x: Any) -> Any:
    return np.sum(np.where(mask, x, 0.0), axis=1)


CHARGES: tuple[tuple[str, Callable[[Anchors], Any]], ...] = (
    (
        "Σ_k (p_k - t_k)², the squared error of the probabilities (Brier's score)",
        lambda x: _over(x.at | x.off, (x.p - x.at) ** 2),
    ),
    (
        "-log p_p - Σ_k log(1 - p_k): a binary cross-entropy of the softmax's probabilities",
        lambda x: -_over(x.at, np.log(np.where(x.at, x.p, 1.0))) - _over(x.off, np.log1p(-np.where(x.off, x.p, 0.0))),
    ),
    (
        "softplus(-l_p) + Σ_k softplus(l_k): a sigmoid for each candidate (binary cross-entropy), not one softmax",
        lambda x: _over(x.at, _softplus(-x.logits)) + _over(x.off, _softplus(x.logits)),
    ),
    ("Σ_k (l_k - t_k)², the squared error of the logits", lambda x: _over(x.at | x.off, (x.logits - x.at) ** 2)),
    ("Σ_k (s_k - t_k)², the squared error of the similarities", lambda x: _over(x.at | x.off, (x.s - x.at) ** 2)),
    (
        "Σ_k softplus(l_k - l_p): each negative against the positive by itself (logistic), not one softmax",
        lambda x: _over(x.off, _softplus(x.logits - x.of(x.logits))),
    ),
    (
        "Σ_k max(1 + l_k - l_p, 0), a hinge of each negative",
        lambda x: _over(x.off, np.maximum(1 + x.logits - x.of(x.logits), 0.0)),
    ),
    ("-p_p, the probability without its logarithm", lambda x: -_over(x.at, x.p)),
    ("-l_p: the positive alone, without the denominator", lambda x: -_over(x.at, x.logits)),
    (
        "softplus of the negatives' mean less the positive",
        lambda x: _softplus(_over(x.off, x.logits) / np.sum(x.off, axis=1) - x.of(x.logits)[:, 0]),
    ),
)


def charged(question: Question, results: list[Result]) -> Difference | None:
    """Say by which formula each anchor is charged, where one explains the values of all batches."""
    recipe = question.recipe
    several = recipe.inside is not None or any(np.ndim(r.outcome.value) for r in results)
    if recipe.pool != "softmax" or several or question.row.memory or not recipe.scaled or recipe.hardest is not None:
        return None
    made = [_anchors(question, r) for r in results]
    for formula, f in CHARGES:
        with np.errstate(all="ignore"):
            right = [float(np.sum(f(x))) / (len(x.s) if recipe.reduction == "mean" else 1) for x in made]
        # Where a formula gives 0, as a hinge may, so must the candidate.
        there = [k for k, (r, v) in enumerate(zip(results, right, strict=True)) if v or r.outcome.value]
        if len(there) < 3 or not all(results[k].outcome.value and right[k] and math.isfinite(right[k]) for k in there):
            continue
        factors = [float(results[k].outcome.value) / right[k] for k in there]
        # A mean over the M candidates stands for the sum as often as not.
        for c, times in (
            (factors, "{:.6g}"),
            ([f * made[k].candidates for f, k in zip(factors, there, strict=True)], "{:.6g}/M"),
        ):
            close = [max(1e-9, 1e3 * r.outcome.eps) * abs(c[0]) for r in (results[k] for k in there)]
            if all(abs(x - c[0]) <= e + close[0] for x, e in zip(c, close, strict=True)):
                said = times.format(c[0])
                return say("another charge", formula=formula, times="" if said == "1" else f", times {said}")
    return None


def soft_targets(question: Question, results: list[Result]) -> Difference | None:
    """Say of which similarities the targets are a softmax, where they are one of those within the inputs."""
    recipe = question.recipe
    if recipe.pool != "softmax" or recipe.candidates != "other" or not recipe.embeddings or len(question.inputs) != 2:
        return None
    if question.positive is not None or recipe.reduction != "mean":
        return None
    for which, share in (("both inputs", (0.5, 0.5)), ("its own input", (1.0, 0.0)), ("the other input", (0.0, 1.0))):
        for scale, power in ((", divided by τ", -1), (", times τ", 1), ("", 0)):
            for turned in ("", question.inputs[0], question.inputs[1]):
                if all(_softened(question, r, share, power, turned) for r in results):
                    return say(
                        "soft targets", which=which, scale=scale, turned=f", transposed for {turned}" * bool(turned)
                    )
    return None


def _softened(question: Question, r: Result, share: tuple[float, float], power: int, turned: str) -> bool:
    """Return whether a value is the cross-entropy with the softmax of similarities within the inputs."""
    n, tau = len(r.wide[0]), question.temperature(r.probe.scalar) or 1.0
    _, _, stack, _ = compared(question.recipe, r.wide, None, None)
    if len(stack) != 2 * n or np.ndim(r.outcome.value):
        return False
    within = [z @ z.T for z in np.split(stack, 2)]
    across = stack[:n] @ stack[n:].T / tau
    losses = []
    for k in range(2 if question.two_sided else 1):
        y = _softmax((share[0] * within[k] + share[1] * within[1 - k]) * tau**power)
        y = y.T if question.inputs[k] == turned else y
        losses.append(-np.mean(np.sum(y * np.log(_softmax(across.T if k else across)), axis=1)))
    got, want = float(r.outcome.value), float(np.mean(losses))
    return abs(got - want) <= max(1e-9, 1e3 * r.outcome.eps) * abs(want)


def _softmax(x: Any) -> Any:
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


def _anchors(question: Question, r: Result) -> Anchors:
    s, roles, _, _ = compared(question.recipe, r.wide, question.positive, question.ignore)
    counted = roles.candidates
    logits = s / (question.temperature(r.probe.scalar) or 1.0)
    e = np.exp(np.where(counted, logits - np.max(np.where(counted, logits, -np.inf), axis=1, keepdims=True), -np.inf))
    return Anchors(logits, s, counted & ~roles.negatives, roles.negatives, e / np.sum(e, axis=1, keepdims=True))
