"""A loss as a list of choices, each made in one room of the walk.

In:  nothing but the choices.
Out: a recipe, which `evaluate` walks, and what it then returns.
The right choices give refcl's losses; a deliberate mistake is one choice changed (`dataclasses.replace`), so that two
mistakes at once are two choices changed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np


class Scale(NamedTuple):
    """What similarities are multiplied by, a function of the scalar, and its derivative."""

    name: str
    at: Callable[[float], float]
    slope: Callable[[float], float]


OVER_TEMPERATURE = Scale("1/τ", lambda t: 1 / t, lambda t: -1 / t**2)
EXP_LOG_SCALE = Scale("exp(θ)", lambda t: float(np.exp(t)), lambda t: float(np.exp(t)))
ONE = Scale("1", lambda t: 1.0, lambda t: 0.0)


# Similarities (A, T), those of the positives (A, 1) and which are negatives (A, T) -> which of these count (A, T).
Choose: TypeAlias = Callable[[Any, Any, Any], Any]


class Extra(NamedTuple):
    """One more term exp(logit) in every denominator, a function of the scalar and the greatest logit of a row."""

    logit: Callable[[float, Any], Any]  # (scalar, greatest logit (A,), a constant in the gradient) -> (A,)
    slope: Callable[[float], float] = lambda t: 0.0  # by the scalar
    subtracted: Callable[[float], bool] = lambda t: False  # whether the term is taken out of the sum instead
    above_itself: bool = False  # whether the greatest logit may be that of the anchor with itself


class InLog(NamedTuple):
    """An ε inside the logarithm: −log(p + ε), or −log(max(p, ε))."""

    eps: float
    added: bool


@dataclass(frozen=True)
class Recipe:
    """The choices. The defaults make the softmax contrastive loss of Eq. 1."""

    embeddings: bool = True
    single: bool = False  # one input only, such as both views stacked
    anchors: str = "first"  # "first", "second" or "both" inputs' rows
    candidates: str = "other"  # "other": the other input's rows; "all": everything but oneself
    pool: str = "softmax"  # "softmax", "simple" or "triplet"; "pair": what a pair computes
    inside: str | None = None  # of a pair: what kind of rooms it has between similarities and loss, if they are known
    slip: str | None = None  # what is made wrongly in them and has no field of its own
    freedoms: frozenset[str] = frozenset()  # of targets, weights and margins: those that there are
    # of several positives: their mean outside the logarithm, inside, or their "sum" inside; or "targets"
    form: str = "out"
    scalar: str | None = "temperature"
    hardest: float | int | None = None
    choose: Choose | None = None  # a rule in its place
    margin: float = 0.0
    reduction: str = "mean"
    # the sphere
    normalization: str = "rows"  # "rows", "none", "whole", "whole stack", "columns", "columns of the stack"
    jacobian: str = "full"  # "full", "none", "no projection", "no length"
    eps: float = 1e-12
    # pairing
    positive: Callable[[Any, int, int], Any] | None = None  # (right columns (A,), A, T) -> columns (A,)
    itself: bool = False  # the anchor stays among its own candidates
    in_denominator: int = 1  # how often the positive stands there
    # pooling
    scale: Scale = OVER_TEMPERATURE  # of the negatives
    scale_positive: Scale | None = None  # of the positive in the denominator; None: as the negatives
    scale_numerator: Scale | None = None  # of the positive in the numerator; None: as in the denominator
    extra: Extra | None = None
    combine: str = "row by row"  # "outer", "outer by direction": every positive against every denominator
    twice: str | None = None  # a softmax of the softmax: "masked", "zeros", "masked, late temperature"
    # penalty and reduction
    in_log: InLog | None = None
    log_of_mean: str | None = None  # "all" or "by direction"
    # the way back
    detached: frozenset[str] = frozenset()  # names of inputs, "candidates", "denominator", "remote"
    ranks: int = 1

    @property
    def walked(self) -> bool:
        """Whether the rooms are known from similarities on, so that each can be entered wrongly."""
        return self.pool != "pair" or self.inside not in (None, "uniform")

    @property
    def scaled(self) -> bool:
        """Whether similarities are multiplied by a function of the scalar."""
        return self.scalar in ("temperature", "log_scale")


def places(count: int) -> tuple[str, ...]:
    """Return what the inputs are called by in ``detached``, whatever their names are."""
    return ("first", "second", *(f"input {k + 1}" for k in range(2, count)))[:count]


class Expected(NamedTuple):
    """A value and its gradients, with what counts as rounding in each."""

    value: Any  # () or (A,)
    grads: tuple[Any, ...]  # one for each input
    dscalar: float | None
    value_size: float  # unit of the value's rounding error, over eps
    grad_sizes: tuple[Any, ...]  # (rows, 1) the same for each row of each gradient
    dscalar_size: float
    dmore: tuple[Any, ...] = ()  # of further scalars, such as a bias, and of arrays that a call may leave out
    dmore_sizes: tuple[Any, ...] = ()
