"""What the parts of a loss are made of on one probe, and what a menu of parts is.

In:  a question and an answer.
Out: similarities, who is a negative, the temperature, the settings.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.evaluate import compared
from refcl.oracle.evidence import Result
from refcl.oracle.normalizing import normalize
from refcl.oracle.question import Question


class Menu(NamedTuple):
    """The parts of a loss, and what they make: the anchors' losses (A,), or the value.

    Of each part it is said what it may be, with a why after a colon; the first is right.
    """

    loss: Callable[..., Any]
    parts: dict[str, dict[str, Any]]


@dataclass
class Given:
    """One probe, as the parts of a loss see it."""

    q: Question
    r: Result
    kept: dict[Any, Any] = field(default_factory=dict)  # what is dear to find and asked for again

    def __post_init__(self) -> None:
        self.s, roles, _, _ = compared(self.q.recipe, self.r.wide, self.q.positive, self.q.ignore)  # (A, T)
        own = np.arange(len(self.s)), roles.positive
        self.pos, self.off = self.s[own], roles.negatives  # (A,) similarities to the positives, (A, T) the negatives
        self.candidates = self.off.copy()  # (A, T) the positives among them
        self.candidates[own] = True
        self.tau = self.q.temperature(self.r.probe.scalar) or 1.0
        self.set = self.q.inside(self.r.wide)
        self.facts = self.q.facts(self.r.wide, self.r.probe.scalar)

    @property
    def rows(self) -> tuple[Any, ...]:
        """Of unit length, where that is asked."""
        return normalize(self.r.wide, self.q.recipe.normalization, self.q.recipe.eps)[0]

    @cached_property
    def right(self) -> Any:
        """(A,) the right losses of the anchors."""
        alone = replace(self.q.recipe, reduction="none")
        return self.q.evaluate(alone, self.r.wide, self.r.probe.scalar, value_only=True).value

    def reduced(self, losses: Any) -> Any:
        """Return the value that losses of the anchors make."""
        mean = self.q.recipe.reduction == "mean"
        factor = self.q.factor_at(self.r.wide, self.r.probe.scalar) * (1 + (mean and bool(self.set.get("add_views"))))
        reduce: Any = {"mean": np.mean, "sum": np.sum}.get(self.q.recipe.reduction, np.asarray)
        return factor * reduce(losses)


def row_mean(x: Any, over: Any) -> Any:
    """Return the mean of each row of an array over some of its entries (A, 1)."""
    return np.sum(np.where(over, x, 0.0), axis=1, keepdims=True) / np.sum(over, axis=1, keepdims=True)


def log_sum(x: Any, over: Any) -> Any:
    """Return log Σ exp (A,) of each row over some of its entries."""
    x = np.where(over, x, -np.inf)
    top = np.max(np.where(np.isfinite(x), x, -1e300), axis=1)
    return top + np.log(np.sum(np.exp(x - top[:, None]), axis=1))
