"""What is charged for each anchor, where it is not -log p of its positive?

In:  a question of one softmax an anchor, and answers that are not right.
Out: the formula under which every value is right, up to a factor that is the same on every batch.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from refcl.oracle.evaluate import compared
from refcl.oracle.evidence import Result
from refcl.oracle.measure.logits import Logits, logits_of
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.question import Question


def _softplus(x: Any) -> Any:
    return np.logaddexp(0.0, x)


def _at(x: Logits, of: Any) -> Any:
    """Return what an anchor has of its positive (A,)."""
    return np.sum(np.where(x.positives, of, 0.0), axis=1)


def _off(x: Logits, of: Any) -> Any:
    """Return the sum over an anchor's negatives (A,)."""
    return np.sum(np.where(x.counted & ~x.positives, of, 0.0), axis=1)


def _both(x: Logits, of: Any) -> Any:
    return _at(x, of) + _off(x, of)


def _gap(x: Logits) -> Any:
    return x.sum - _at(x, x.sum)[:, None]


# Of logits l with probabilities p, the targets t being 1 on the positive.
CHARGES: dict[str, Callable[[Logits], Any]] = {
    "Σ_k (p_k - t_k)², the squared error of the probabilities (Brier's score)": lambda x: _both(
        x, (x.probabilities - x.positives) ** 2
    ),
    "-log p_p - Σ_k log(1 - p_k): a binary cross-entropy of the softmax's probabilities": lambda x: (
        -np.log(_at(x, x.probabilities)) - _off(x, np.log1p(-np.where(x.positives, 0.0, x.probabilities)))
    ),
    "softplus(-l_p) + Σ_k softplus(l_k): a sigmoid for each candidate (binary cross-entropy), not one softmax": (
        lambda x: _at(x, _softplus(-x.sum)) + _off(x, _softplus(x.sum))
    ),
    "Σ_k (l_k - t_k)², the squared error of the logits": lambda x: _both(x, (x.sum - x.positives) ** 2),
    "Σ_k (s_k - t_k)², the squared error of the similarities": lambda x: _both(x, (x.sum / x.scale - x.positives) ** 2),
    "Σ_k softplus(l_k - l_p): each negative against the positive by itself (logistic), not one softmax": lambda x: _off(
        x, _softplus(_gap(x))
    ),
    "Σ_k max(1 + l_k - l_p, 0), a hinge of each negative": lambda x: _off(x, np.maximum(1 + _gap(x), 0.0)),
    "-p_p, the probability without its logarithm": lambda x: -_at(x, x.probabilities),
    "-l_p: the positive alone, without the denominator": lambda x: -_at(x, x.sum),
    "softplus of the negatives' mean less the positive": lambda x: _softplus(_off(x, _gap(x)) / _off(x, 1.0)),
}


def charged(question: Question, results: list[Result]) -> Difference | None:
    """Say by which formula each anchor is charged, where one explains the values of all batches."""
    made = [logits_of(question, r) for r in results]
    if not all(made) or any(np.any(np.sum(x.positives, axis=1) != 1) for parts in made for x in parts):
        return None
    for formula, f in CHARGES.items():
        with np.errstate(all="ignore"):
            # what stands around all anchors alike is as it should be
            around = [
                float(r.right.value) / sum(x.value() for x in parts) for r, parts in zip(results, made, strict=True)
            ]
            right = [c * sum(float(np.mean(f(x))) for x in parts) for c, parts in zip(around, made, strict=True)]
        # Where a formula gives 0, as a hinge may, so must the candidate.
        there = [k for k, (r, v) in enumerate(zip(results, right, strict=True)) if v or r.outcome.value]
        if len(there) < 3 or not all(results[k].outcome.value and right[k] and math.isfinite(right[k]) for k in there):
            continue
        factors = np.array([float(results[k].outcome.value) / right[k] for k in there])
        candidates = np.array([np.sum(made[k][0].counted[0] | made[k][0].positives[0]) for k in there])
        close = np.array([max(1e-9, 1e3 * results[k].outcome.eps) for k in there])
        # A mean over the M candidates stands for the sum as often as not.
        for c, times in ((factors, "{:.6g}"), (factors * candidates, "{:.6g}/M")):
            if np.all(np.abs(c / c[0] - 1) <= close + close[0]):
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
