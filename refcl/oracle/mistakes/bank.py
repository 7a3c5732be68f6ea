"""The bank of deliberate mistakes: each is one choice of a recipe made wrongly.

In:  the recipe of a loss.  Out: the recipes of everything that is nearly that loss.
One name can be earned in several ways: a temperature is missing "on the positive" in the numerator alone or everywhere.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refcl.oracle.mistakes.freed import FREED, OWN_GRADIENT
from refcl.oracle.recipe import ONE, OVER_TEMPERATURE, Extra, Recipe, Scale


@dataclass(frozen=True)
class Variation:
    """One way to earn a name."""

    id: str
    detail: str
    vary: Callable[[Recipe], Recipe | None]  # None where the mistake can't be made in this recipe


def variations(recipe: Recipe) -> Iterator[tuple[Variation, Recipe]]:
    """Yield every mistake that can be made in a recipe, and the recipe made."""
    for variation in BANK:
        changed = variation.vary(recipe)
        if changed is not None and changed != recipe:
            yield variation, changed


def _if(holds: Callable[[Recipe], bool], **change: Any) -> Callable[[Recipe], Recipe | None]:
    return lambda r: replace(r, **change) if holds(r) else None


def _softmax(r: Recipe) -> bool:
    """A pool of exponentials: the paper's, or one of the descendants'."""
    return r.pool == "softmax" or r.inside in ("decoupled", "reweighted", "model aware", "supervised", "freed")


def _plain(r: Recipe) -> bool:
    """The loss of an anchor is -log p of its one positive, whatever else the denominator holds."""
    return r.pool == "softmax" or r.inside in ("decoupled", "reweighted")


def _walked(r: Recipe) -> bool:
    """From similarities on, the rooms are known."""
    return r.pool != "pair" or r.inside not in (None, "uniform")


def _reweighted(r: Recipe) -> bool:
    return r.inside == "reweighted"


def _everyone(r: Recipe) -> bool:
    return r.embeddings and r.candidates == "all" and _softmax(r)


def _both(r: Recipe) -> bool:
    return r.embeddings and r.anchors == "both"


def _both_reduced(r: Recipe) -> bool:
    return _both(r) and r.reduction != "none" and _walked(r)


def _by_rows(r: Recipe) -> bool:
    return r.reduction != "none" and r.combine == "row by row" and (r.pool != "pair" or _plain(r))


def _can_be_outer(r: Recipe) -> bool:
    # log Σ − s_p, without the positive in the sum, has the same mean over all (i, j) as over i.
    in_the_sum = r.pool == "softmax" or _reweighted(r)
    return r.reduction != "none" and in_the_sum and r.log_of_mean is None and r.twice is None


def _can_be_twice(r: Recipe) -> bool:
    return r.pool == "softmax" and r.combine == "row by row"


def _two_inputs(r: Recipe) -> bool:
    return r.embeddings and not r.single


def _one_positive(r: Recipe) -> bool:
    return r.inside != "supervised" and r.form != "targets"


def _in_denominator(r: Recipe) -> bool:
    return _softmax(r) and r.in_denominator == 1


def _on_sphere(r: Recipe) -> bool:
    return r.embeddings and r.normalization == "rows"


def _detach(r: Recipe, what: str) -> Recipe:
    return replace(r, detached=r.detached | {what})


# Which column is the positive.


def rolled(by: int) -> Callable[[Any, int, int], Any]:
    """Return the columns that lie ``by`` further on, within the same input."""

    def columns(right: Any, n: int, m: int) -> Any:
        return np.where(right >= n, n + (right - n + by) % m, (right + by) % max(n, 1))

    return columns


def rolled_apart(by: int) -> Callable[[Any, int, int], Any]:
    """Return the columns of two views of which one is ``by`` rows late: on in the one, back in the other."""

    def columns(right: Any, n: int, m: int) -> Any:
        return np.where(right >= n, n + (right - n + by) % m, (right - by) % max(n, 1))

    return columns


def _reversed(right: Any, n: int, m: int) -> Any:
    return np.where(right >= n, 2 * n + m - 1 - right, n - 1 - right)


def _first(right: Any, n: int, m: int) -> Any:
    return np.where(right >= n, n, 0)


def _interleaved(right: Any, n: int, m: int) -> Any:
    return np.arange(len(right)) ^ 1


def _without_rank_offset(ranks: int) -> Callable[[Any, int, int], Any]:
    def columns(right: Any, n: int, m: int) -> Any:
        return np.where(right >= n, n + (right - n) % max(m // ranks, 1), right % max(n // ranks, 1))

    return columns


# What similarities are multiplied by.


def _inverted(r: Recipe) -> Scale:
    if r.scalar == "log_scale":
        return Scale("exp(-θ)", lambda t: math.exp(-t), lambda t: -math.exp(-t))
    return Scale("τ", lambda t: t, lambda t: 1.0)


def _not_exponentiated(r: Recipe) -> Scale:
    if r.scalar == "log_scale":
        return Scale("θ", lambda t: t, lambda t: 1.0)
    return Scale("log(1/τ)", lambda t: -math.log(t), lambda t: -1 / t)


def _scaled(**change: Callable[[Recipe], Scale]) -> Callable[[Recipe], Recipe | None]:
    def vary(r: Recipe) -> Recipe | None:
        whole = r.pool == "pair" and r.scalar in ("temperature", "log_scale") and list(change) == ["scale"]
        return replace(r, **{k: f(r) for k, f in change.items()}) if _softmax(r) or whole else None  # type: ignore[arg-type]

    return vary


def _one(r: Recipe) -> Scale:
    return ONE


def _right(r: Recipe) -> Scale:
    return r.scale


# What else stands in the denominator.


def _e_subtracted(r: Recipe) -> Recipe | None:
    """Σ_k exp(α s_k) with oneself, less e: beside the others stands exp(α) − e, which is negative where α < 1."""
    if not (_everyone(r) and _on_sphere(r)) or r.inside in ("reweighted", "model aware"):
        return None
    alpha, slope = r.scale.at, r.scale.slope

    def logit(t: float, top: Any) -> Any:
        a = alpha(t)
        return np.log1p(-np.exp(1.0 - a)) + a if a > 1 else np.log1p(-np.exp(a - 1.0)) + 1.0

    def by_scalar(t: float) -> float:
        # d log|exp(α) − e|; at α = 1 the term is not there
        return slope(t) / (1.0 - math.exp(1.0 - alpha(t))) if alpha(t) != 1 else 0.0

    return replace(r, extra=Extra(logit, by_scalar, lambda t: alpha(t) < 1))


def constant_term(c: float) -> Extra:
    """Return one more term exp(c)."""
    return Extra(lambda t, top: np.asarray(c))


def _rows(k: int) -> str:
    return f"{abs(k)} row{'s' if abs(k) > 1 else ''} {'on' if k > 0 else 'back'}"


BANK = (
    Variation("self-in-denominator", "", _if(_everyone, itself=True)),
    Variation(
        "self-in-denominator",
        "it is one of its own positives too",
        _if(lambda r: _everyone(r) and r.inside == "supervised", slip="oneself is a positive"),
    ),
    Variation(
        "self-in-denominator",
        "in the uniformity, where a row's pair with itself adds exp(0) = 1",
        _if(lambda r: r.inside == "uniform", slip="own pairs"),
    ),
    Variation(
        "self-in-denominator",
        "and K counts it",
        _if(lambda r: _everyone(r) and _reweighted(r), itself=True, slip="count what is there"),
    ),
    Variation("self-masked-with-zero", "", _if(_everyone, extra=constant_term(0.0))),
    Variation(
        "self-masked-with-zero",
        "and K counts it",
        _if(lambda r: _everyone(r) and _reweighted(r), extra=constant_term(0.0), slip="count what is there"),
    ),
    Variation("self-term-wrong-constant", "", _e_subtracted),
    Variation(
        "positive-missing-from-denominator",
        "",
        _if(lambda r: _in_denominator(r) and r.inside != "model aware", in_denominator=0),
    ),
    Variation("positive-counted-twice", "", _if(_in_denominator, in_denominator=2)),
    Variation(
        "positive-counted-twice",
        "it is one of the K negatives too",
        _if(lambda r: _in_denominator(r) and _reweighted(r), in_denominator=2, slip="count what is there"),
    ),
    Variation("positive-among-negatives", "", _if(lambda r: _softmax(r) and r.in_denominator == 0, in_denominator=1)),
    Variation(
        "positive-among-negatives",
        "",
        _if(lambda r: r.pool == "simple" or (r.pool == "triplet" and r.margin > 0), in_denominator=2),
    ),
    Variation("cross-view-only", "", _if(lambda r: _both(r) and r.candidates == "all", candidates="other")),
    Variation("one-direction", "the first input's rows are the anchors", _if(_both_reduced, anchors="first")),
    Variation("one-direction", "the second input's rows are the anchors", _if(_both_reduced, anchors="second")),
    *(
        Variation(
            "one-direction",
            f"the uniformity is the {which} view's alone",
            _if(lambda r: r.inside == "uniform", slip=f"uniformity of the {which} view"),
        )
        for which in ("first", "second")
    ),
    Variation("temperature-missing", "", _scaled(scale=_one)),
    Variation("temperature-missing", "but in the floor", _if(_reweighted, scale=ONE, slip="the floor is right")),
    Variation("temperature-inverted", "", _scaled(scale=_inverted)),
    Variation("log-scale-not-exponentiated", "", _scaled(scale=_not_exponentiated)),
    Variation(
        "temperature-missing-on-positive", "in the numerator only", _scaled(scale_positive=_right, scale_numerator=_one)
    ),
    Variation("temperature-missing-on-positive", "in numerator and denominator", _scaled(scale_positive=_one)),
    Variation("temperature-missing-on-negatives", "", _scaled(scale=_one, scale_positive=_right)),
    Variation(
        "temperature-missing-on-negatives",
        "but in the floor",
        _if(_reweighted, scale=ONE, scale_positive=OVER_TEMPERATURE, slip="the floor is right"),
    ),
    Variation(
        "temperature-missing-on-negatives",
        "nor is the positive in the denominator",
        _scaled(scale=_one, scale_positive=_one, scale_numerator=_right),
    ),
    Variation("not-normalized", "", _if(_on_sphere, normalization="none")),
    Variation("normalized-whole-tensor", "each input by its own norm", _if(_on_sphere, normalization="whole")),
    Variation("normalized-whole-tensor", "both inputs stacked", _if(_on_sphere, normalization="whole stack")),
    Variation("normalized-wrong-axis", "in each input", _if(_on_sphere, normalization="columns")),
    Variation("normalized-wrong-axis", "in both inputs stacked", _if(_on_sphere, normalization="columns of the stack")),
    Variation("normalization-jacobian-missing", "dh = dz", _if(_on_sphere, jacobian="none")),
    Variation(
        "normalization-jacobian-missing",
        "dh = dz/|h|: the projection (I - zzᵀ) is missing",
        _if(_on_sphere, jacobian="no projection"),
    ),
    Variation(
        "normalization-jacobian-missing",
        "dh = (I - zzᵀ) dz: the division by |h| is missing",
        _if(_on_sphere, jacobian="no length"),
    ),
    Variation("log-of-mean", "", _if(_by_rows, log_of_mean="all")),
    Variation(
        "log-of-mean",
        "over the positives of an anchor: the form with the mean inside the logarithm",
        _if(lambda r: r.inside == "supervised" and r.form == "out", form="in"),
    ),
    Variation("log-of-mean", "in each direction", _if(lambda r: _by_rows(r) and _both(r), log_of_mean="by direction")),
    Variation("broadcast-outer", "", _if(_can_be_outer, combine="outer")),
    Variation(
        "broadcast-outer",
        "in each direction",
        _if(lambda r: _can_be_outer(r) and _both(r), combine="outer by direction"),
    ),
    Variation("double-softmax", "", _if(_can_be_twice, twice="masked")),
    Variation(
        "double-softmax",
        "masked entries come back as 0",
        _if(lambda r: _everyone(r) and _can_be_twice(r), twice="zeros"),
    ),
    Variation(
        "double-softmax", "the temperature in the second only", _if(_can_be_twice, twice="masked, late temperature")
    ),
    Variation(
        "keys-detached",
        "",
        lambda r: _detach(r, "candidates") if r.embeddings and _walked(r) else None,
    ),
    Variation(
        "keys-detached", "the second input gets none", lambda r: _detach(r, "second") if _two_inputs(r) else None
    ),
    Variation(
        "keys-detached",
        "the first input gets none",
        lambda r: _detach(r, "first") if _both(r) or r.inside == "apart" else None,
    ),
    Variation(
        "denominator-detached",
        "",
        lambda r: _detach(r, "denominator") if _softmax(r) and r.inside != "model aware" else None,
    ),
    Variation("positives-interleaved", "", _if(lambda r: _both(r) and r.candidates == "all", positive=_interleaved)),
    *(
        Variation("positives-permuted", f"{_rows(k)} in every direction", _if(_one_positive, positive=rolled(k)))
        for k in (1, -1, 2, -2)
    ),
    *(
        Variation("positives-permuted", f"one input is {_rows(k)}", _if(_both, positive=rolled_apart(k)))
        for k in (1, -1, 2, -2)
    ),
    Variation("positives-permuted", "in reverse order", _if(_one_positive, positive=_reversed)),
    Variation("positives-permuted", "the first row for everyone", _if(_one_positive, positive=_first)),
    Variation(
        "normalization-jacobian-missing",
        "of own_negatives: dh = dz",
        _if(lambda r: _on_sphere(r) and "own_negatives" in r.freedoms, slip=OWN_GRADIENT),
    ),
    *(Variation(id_, how, _if(holds, slip=f"{name}: {how}")) for id_, name, holds, ways in FREED for how in ways),
    Variation("remote-gradients-dropped", "", lambda r: _detach(r, "remote") if r.ranks > 1 else None),
    Variation(
        "rank-offset-missing",
        "",
        lambda r: replace(r, positive=_without_rank_offset(r.ranks)) if r.ranks > 1 else None,
    ),
)
