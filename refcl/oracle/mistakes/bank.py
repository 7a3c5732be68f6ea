"""The bank of deliberate mistakes: each is one choice of a recipe made wrongly.

In:  the recipe of a loss.  Out: the recipes of everything that is nearly that loss.
One name can be earned in several ways: a temperature is missing "on the positive" in the numerator alone or everywhere.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from refcl.oracle.mistakes.freed import FREED, OWN_GRADIENT
from refcl.oracle.recipe import ONE, OVER_TEMPERATURE, Extra, Recipe, Scale
from refcl.oracle.roles import RANK_0_MASKED, on_rank_0

Vary: TypeAlias = Callable[[Recipe], Recipe | None]  # None where the mistake can't be made in this recipe


class Variation(NamedTuple):
    """One way to earn a name."""

    id: str
    detail: str
    vary: Vary


def variations(recipe: Recipe) -> Iterator[tuple[Variation, Recipe]]:
    """Yield every mistake that can be made in a recipe, and the recipe made."""
    for variation in BANK:
        changed = variation.vary(recipe)
        if changed is not None and changed != recipe:
            yield variation, changed


def _if(holds: Callable[[Recipe], bool], **change: Any) -> Vary:
    return lambda r: replace(r, **change) if holds(r) else None


def _where(holds: Callable[[Recipe], bool], vary: Vary) -> Vary:
    return lambda r: vary(r) if holds(r) else None


def _all(*holds: Callable[[Recipe], bool]) -> Callable[[Recipe], bool]:
    return lambda r: all(h(r) for h in holds)


def _softmax(r: Recipe) -> bool:
    """A pool of exponentials: the paper's, or one of the descendants'."""
    return r.pool == "softmax" or r.inside in ("decoupled", "reweighted", "model aware", "supervised", "freed")


def _plain(r: Recipe) -> bool:
    """The loss of an anchor is -log p of its one positive, whatever else the denominator holds."""
    return r.pool == "softmax" or r.inside in ("decoupled", "reweighted")


def _reweighted(r: Recipe) -> bool:
    return r.inside == "reweighted"


def _everyone(r: Recipe) -> bool:
    return r.embeddings and r.candidates == "all" and _softmax(r)


def _both(r: Recipe) -> bool:
    return r.embeddings and r.anchors == "both"


def _both_views(r: Recipe) -> bool:
    return _both(r) and r.candidates == "all"


def _both_reduced(r: Recipe) -> bool:
    return _both(r) and r.reduction != "none" and r.walked


def _by_rows(r: Recipe) -> bool:
    return r.reduction != "none" and r.combine == "row by row" and (r.pool != "pair" or _plain(r))


def _can_be_outer(r: Recipe) -> bool:
    # log Σ − s_p, without the positive in the sum, has the same mean over all (i, j) as over i.
    in_the_sum = (r.pool == "softmax" or _reweighted(r)) and r.in_denominator > 0
    return r.reduction != "none" and in_the_sum and r.log_of_mean is None and r.twice is None


def _can_be_twice(r: Recipe) -> bool:
    return r.pool == "softmax" and r.combine == "row by row"


def _two_inputs(r: Recipe) -> bool:
    return r.embeddings and not r.single


def _supervised(r: Recipe) -> bool:
    return r.inside == "supervised"


def _one_positive(r: Recipe) -> bool:
    return not _supervised(r) and r.form != "targets"


def _uniform(r: Recipe) -> bool:
    return r.inside == "uniform"


def _over_ranks(r: Recipe) -> bool:
    return r.ranks > 1


def _in_denominator(r: Recipe) -> bool:
    return _softmax(r) and r.in_denominator == 1


def _on_sphere(r: Recipe) -> bool:
    return r.embeddings and r.normalization == "rows"


def _detached(what: str, holds: Callable[[Recipe], bool]) -> Vary:
    return lambda r: replace(r, detached=r.detached | {what}) if holds(r) else None


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


def _without_rank_offset(**more: Any) -> Vary:
    return lambda r: replace(r, positive=lambda right, n, m: on_rank_0(right, n, m, r.ranks), **more)


# What similarities are multiplied by.


def _inverted(r: Recipe) -> Scale:
    if r.scalar == "log_scale":
        return Scale("exp(-θ)", lambda t: math.exp(-t), lambda t: -math.exp(-t))
    return Scale("τ", lambda t: t, lambda t: 1.0)


def _not_exponentiated(r: Recipe) -> Scale:
    if r.scalar == "log_scale":
        return Scale("θ", lambda t: t, lambda t: 1.0)
    return Scale("log(1/τ)", lambda t: -math.log(t), lambda t: -1 / t)


def _scaled(**change: Callable[[Recipe], Scale]) -> Vary:
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


def _own_of_length_one(r: Recipe) -> Recipe | None:
    """Σ_k exp(α s_k) with oneself, less exp(α), which it is for rows of length 1 only."""
    if not _everyone(r) or r.normalization == "rows" or r.inside in ("reweighted", "model aware"):
        return None
    alpha, slope = r.scale.at, r.scale.slope
    return replace(r, itself=True, extra=Extra(lambda t, top: np.asarray(alpha(t)), slope, lambda t: True))


def constant_term(c: float) -> Extra:
    """Return one more term exp(c)."""
    return Extra(lambda t, top: np.asarray(c))


def _rows(k: int) -> str:
    return f"{abs(k)} row{'s' if abs(k) > 1 else ''} {'on' if k > 0 else 'back'}"


WAYS: dict[str, tuple[tuple[str, Vary], ...]] = {
    "self-in-denominator": (
        ("", _if(_everyone, itself=True)),
        ("it is one of its own positives too", _if(_all(_everyone, _supervised), slip="oneself is a positive")),
        ("in the uniformity, where a row's pair with itself adds exp(0) = 1", _if(_uniform, slip="own pairs")),
        ("and K counts it", _if(_all(_everyone, _reweighted), itself=True, slip="count what is there")),
    ),
    "self-masked-with-zero": (
        ("", _if(_everyone, extra=constant_term(0.0))),
        (
            "and K counts it",
            _if(_all(_everyone, _reweighted), extra=constant_term(0.0), slip="count what is there"),
        ),
    ),
    "self-term-wrong-constant": (
        ("", _e_subtracted),
        ("exp(1/τ) is taken out, which a row has with itself where its length is 1", _own_of_length_one),
    ),
    "positive-missing-from-denominator": (
        ("", _if(lambda r: _in_denominator(r) and r.inside != "model aware", in_denominator=0)),
    ),
    "positive-counted-twice": (
        ("", _if(_in_denominator, in_denominator=2)),
        (
            "it is one of the K negatives too",
            _if(_all(_in_denominator, _reweighted), in_denominator=2, slip="count what is there"),
        ),
    ),
    "positive-among-negatives": (
        ("", _if(lambda r: _softmax(r) and r.in_denominator == 0, in_denominator=1)),
        ("", _if(lambda r: r.pool == "simple" or (r.pool == "triplet" and r.margin > 0), in_denominator=2)),
    ),
    "cross-view-only": (("", _if(_both_views, candidates="other")),),
    "one-direction": (
        ("the first input's rows are the anchors", _if(_both_reduced, anchors="first")),
        ("the second input's rows are the anchors", _if(_both_reduced, anchors="second")),
        ("the uniformity is the first view's alone", _if(_uniform, slip="uniformity of the first view")),
        ("the uniformity is the second view's alone", _if(_uniform, slip="uniformity of the second view")),
    ),
    "temperature-missing": (
        ("", _scaled(scale=_one)),
        ("but in the floor", _if(_reweighted, scale=ONE, slip="the floor is right")),
    ),
    "temperature-inverted": (("", _scaled(scale=_inverted)),),
    "log-scale-not-exponentiated": (("", _scaled(scale=_not_exponentiated)),),
    "temperature-missing-on-positive": (
        ("in the numerator only", _scaled(scale_positive=_right, scale_numerator=_one)),
        ("in numerator and denominator", _scaled(scale_positive=_one)),
    ),
    "temperature-missing-on-negatives": (
        ("", _scaled(scale=_one, scale_positive=_right)),
        (
            "but in the floor",
            _if(_reweighted, scale=ONE, scale_positive=OVER_TEMPERATURE, slip="the floor is right"),
        ),
        (
            "nor is the positive in the denominator",
            _scaled(scale=_one, scale_positive=_one, scale_numerator=_right),
        ),
    ),
    "not-normalized": (("", _if(_on_sphere, normalization="none")),),
    "normalized-whole-tensor": (
        ("each input by its own norm", _if(_on_sphere, normalization="whole")),
        ("both inputs stacked", _if(_on_sphere, normalization="whole stack")),
    ),
    "normalized-wrong-axis": (
        ("in each input", _if(_on_sphere, normalization="columns")),
        ("in both inputs stacked", _if(_on_sphere, normalization="columns of the stack")),
    ),
    "normalization-jacobian-missing": (
        ("dh = dz", _if(_on_sphere, jacobian="none")),
        ("dh = dz/|h|: the projection (I - zzᵀ) is missing", _if(_on_sphere, jacobian="no projection")),
        ("dh = (I - zzᵀ) dz: the division by |h| is missing", _if(_on_sphere, jacobian="no length")),
        (
            "of own_negatives: dh = dz",
            _if(lambda r: _on_sphere(r) and "own_negatives" in r.freedoms, slip=OWN_GRADIENT),
        ),
    ),
    "log-of-mean": (
        ("", _if(_by_rows, log_of_mean="all")),
        (
            "over the positives of an anchor: the form with the mean inside the logarithm",
            _if(lambda r: _supervised(r) and r.form == "out", form="in"),
        ),
        ("in each direction", _if(_all(_by_rows, _both), log_of_mean="by direction")),
    ),
    "broadcast-outer": (
        ("", _if(_can_be_outer, combine="outer")),
        ("in each direction", _if(_all(_can_be_outer, _both), combine="outer by direction")),
    ),
    "double-softmax": (
        ("", _if(_can_be_twice, twice="masked")),
        ("masked entries come back as 0", _if(_all(_everyone, _can_be_twice), twice="zeros")),
        ("the temperature in the second only", _if(_can_be_twice, twice="masked, late temperature")),
    ),
    "keys-detached": (
        ("", _detached("candidates", lambda r: r.embeddings and r.walked)),
        ("the second input gets none", _detached("second", _two_inputs)),
        ("the first input gets none", _detached("first", lambda r: _both(r) or r.inside == "apart")),
    ),
    "denominator-detached": (("", _detached("denominator", lambda r: _softmax(r) and r.inside != "model aware")),),
    "positives-interleaved": (("", _if(_both_views, positive=_interleaved)),),
    "positives-permuted": (
        *((f"{_rows(k)} in every direction", _if(_one_positive, positive=rolled(k))) for k in (1, -1, 2, -2)),
        *((f"one input is {_rows(k)}", _if(_both, positive=rolled_apart(k))) for k in (1, -1, 2, -2)),
        ("in reverse order", _if(_one_positive, positive=_reversed)),
        ("the first row for everyone", _if(_one_positive, positive=_first)),
    ),
    "remote-gradients-dropped": (("", _detached("remote", _over_ranks)),),
    "rank-offset-missing": (
        ("", _where(_over_ranks, _without_rank_offset())),
        (
            "and each rank masks the row that is itself on rank 0",
            _where(_all(_everyone, _over_ranks), _without_rank_offset(slip=RANK_0_MASKED)),
        ),
    ),
}
BANK = (
    *(Variation(id_, detail, vary) for id_, ways in WAYS.items() for detail, vary in ways),
    *(Variation(id_, how, _if(holds, slip=f"{name}: {how}")) for id_, name, holds, ways in FREED for how in ways),
)
