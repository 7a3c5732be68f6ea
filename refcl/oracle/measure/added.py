"""What is added to a right loss, of the inputs themselves?

In:  a question and answers that are not right.
Out: the term, and the number that it is multiplied by, the same on every batch.
"""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np

from refcl.oracle.evidence import Result
from refcl.oracle.measure.logits import Logits, logits_of
from refcl.oracle.measure.menus.given import log_sum
from refcl.oracle.measure.met import unit_rows
from refcl.oracle.measure.settings import nice
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.question import Question


def _length(x: Any) -> Any:
    return np.linalg.norm(x, axis=-1)


def _covariance(x: Any) -> Any:
    c = np.atleast_2d(np.cov(x.T))
    return np.sum(c * c) - np.sum(np.diag(c) ** 2)


# Of the rows of one input.
OF_ROWS: dict[str, Callable[[Any], Any]] = {
    "the mean squared length of its rows": lambda x: np.mean(_length(x) ** 2),
    "the mean length of its rows": lambda x: np.mean(_length(x)),
    "the sum of its squares (weight decay)": lambda x: np.sum(x * x),
    "the mean of its squares": lambda x: np.mean(x * x),
    "the mean of its absolute values": lambda x: np.mean(np.abs(x)),
    "the mean of (length - 1)²": lambda x: np.mean((_length(x) - 1) ** 2),
    "the hinge max(1 - standard deviation, 0) of its columns (VICReg's variance)": lambda x: np.mean(
        np.maximum(1 - x.std(0, ddof=1), 0)
    ),
    "the same hinge with the root of variance + 1e-4": lambda x: np.mean(
        np.maximum(1 - np.sqrt(x.var(0, ddof=1) + 1e-4), 0)
    ),
    "the squares off the diagonal of its covariance, over D": lambda x: _covariance(x) / x.shape[1],
    "the largest of its squared lengths": lambda x: np.max(_length(x) ** 2),
}
# Of two inputs whose rows go in pairs.
OF_PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "the mean squared distance of the pairs' rows": lambda x, y: np.mean(np.sum((x - y) ** 2, axis=1)),
    "the mean squared difference of the pairs' entries (mse)": lambda x, y: np.mean((x - y) ** 2),
    "the mean distance of the pairs' rows": lambda x, y: np.mean(_length(x - y)),
    "the mean inner product of the pairs": lambda x, y: np.mean(np.sum(x * y, axis=1)),
    "the mean of all inner products": lambda x, y: np.mean(x @ y.T),
    "the mean square of all inner products": lambda x, y: np.mean((x @ y.T) ** 2),
}


# Of the logits of an anchor, in each anchor's loss.
OF_LOGITS: dict[str, Callable[[Logits], Any]] = {
    "the squared log-sum-exp (a z-loss)": lambda x: log_sum(x.sum, x.counted) ** 2,
    "the entropy of its probabilities": lambda x: (
        -np.sum(x.probabilities * np.log(x.probabilities + (x.probabilities == 0)), axis=1)
    ),
    "the sum of its squared logits": lambda x: np.sum(np.where(x.counted, x.sum**2, 0.0), axis=1),
    "the sum of its logits": lambda x: np.sum(np.where(x.counted, x.sum, 0.0), axis=1),
}


def further(question: Question, results: list[Result]) -> Difference | None:
    """Say which term of its logits each anchor's loss has besides."""
    made = [logits_of(question, r) for r in results]
    for said, f in OF_LOGITS.items() if all(made) else ():
        with np.errstate(all="ignore"):
            right, values = (
                np.array([sum(of(x) for x in parts) for parts in made])
                for of in (Logits.value, lambda x, f=f: np.mean(f(x)))
            )
            around = np.array([float(r.right.value) for r in results]) / right
        c = _multiple(results, around * values)
        if c is not None:
            return say("a further term", c=c, term=said)
    return None


def added(question: Question, results: list[Result]) -> Difference | None:
    """Say which term stands beside the loss, where the values are right but for a multiple of it."""
    k, names = len(question.inputs), question.inputs
    if not question.recipe.embeddings or any(x.ndim != 2 for r in results for x in r.wide):
        return None
    terms: list[tuple[str, Callable[..., Any]]] = []
    for said, f in OF_ROWS.items():
        terms += [(f"{said}, of {names[j]}", lambda w, j=j, f=f: f(w[j])) for j in range(k)]
        terms += [(f"{said}, of each input", lambda w, f=f: sum(map(f, w)))] if k > 1 else []
    for (a, b), (said, g) in ((p, x) for p in combinations(range(k), 2) for x in OF_PAIRS.items()):
        for brought, of in (("", np.asarray), (", brought to length 1", unit_rows)):
            who = f"{said}{brought}, {names[a]} and {names[b]}"
            terms.append((who, lambda w, a=a, b=b, g=g, of=of: _paired(g, of(w[a]), of(w[b]))))
    for said, term in terms:
        with np.errstate(all="ignore"):
            c = _multiple(results, np.array([term(r.wide) for r in results]))
        if c is not None:
            return say("an added term", c=c, term=said)
    return None


def _multiple(results: list[Result], values: Any) -> float | None:
    """Return what a term is multiplied by where the values are off by that on every batch."""
    off = np.array([float(r.outcome.value - r.right.value) for r in results])
    size = np.array([64 * r.outcome.eps * (r.right.value_size + abs(float(r.outcome.value))) for r in results])
    told = np.isfinite(values) & (np.abs(values) > 1e-9)
    if np.sum(told) < 3 or np.ptp(values[told]) < 1e-9:
        return None
    c = nice(float(off[told][0] / values[told][0]))
    return c if c and np.all(np.abs(off - c * np.where(told, values, 0.0)) <= size * (1 + abs(c))) else None


def _paired(g: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
    n = min(len(x), len(y))
    return g(x[:n], y[:n])
