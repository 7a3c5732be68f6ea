"""One positive, and a gap that is more than a soft maximum: DCL and DCLW, debiased and HCL, MACL.

In:  similarities (A, T), who is whose positive and negative, and a recipe: which temperature stands where, how often
the positive stands in the denominator, what else does.
Out: the losses of the anchors, and the way back.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from refcl.oracle.descendants.sums import Column, LogSum, everywhere
from refcl.oracle.pools import Pooled, greatest
from refcl.oracle.recipe import OVER_TEMPERATURE, Recipe
from refcl.oracle.roles import Roles
from refcl.walk.penalty import identity, softplus, weighted_softplus
from refcl.walk.pooling.reweighted import debias, weight_shortfall

MOST_LOST = 1e5  # past five digits it is no rounding any more but a finding


@dataclass(frozen=True)
class Gap:
    """The settings of the losses with one positive; the defaults make the softmax loss."""

    factor: float = 1.0  # of the whole
    apart: Any = None  # (A, T) negatives of a second pool, whose logarithm is added
    tau_plus: float = 0.0
    beta: float = 0.0
    detach: bool = False
    sigma: float | None = None  # of DCLW's weights; None: the positives are not weighed
    mass: float | None = None
    alpha: float = 0.0  # how fast the temperature grows with the alignment
    alignment: float = 0.0


class Terms:
    """The logits of one call, and where their gradients gather: similarities and the scalar are behind them all."""

    def __init__(self, recipe: Recipe, s: Any, t: float, roles: Roles, growth: float) -> None:
        rows = np.arange(len(s))
        self.s, self.at, self.growth, self.t = s, (rows, roles.positive), growth, t
        self.s_pos = s[self.at]  # (A,)
        self.scale = recipe.scale
        self.scale_pos = recipe.scale_positive or self.scale
        self.scale_num = recipe.scale_numerator or self.scale_pos
        self.all, self.pos, self.num = (
            scale.at(t) / growth * x
            for scale, x in ((self.scale, s), (self.scale_pos, self.s_pos), (self.scale_num, self.s_pos))
        )

    def to_similarities(self, dall: Any, dpos: Any, dnum: Any) -> tuple[Any, list[Any], float]:
        """Return ds (A, T), what the scalar's gradient is a sum of, and the gradient of the growth."""
        t, growth = self.t, self.growth
        ds = self.scale.at(t) / growth * dall
        ds[self.at] += (self.scale_pos.at(t) * dpos + self.scale_num.at(t) * dnum) / growth
        terms = [
            self.scale.slope(t) / growth * dall * self.s,
            self.scale_pos.slope(t) / growth * dpos * self.s_pos,
            self.scale_num.slope(t) / growth * dnum * self.s_pos,
        ]
        dgrowth = -(np.sum(dall * self.all) + np.sum(dpos * self.pos) + np.sum(dnum * self.num)) / growth
        return ds, terms, float(dgrowth)

    @property
    def steepest(self) -> float:
        return max(abs(scale.at(self.t)) for scale in (self.scale, self.scale_pos, self.scale_num)) / self.growth


def pool_gap(recipe: Recipe, s: Any, t: float, roles: Roles, gap: Gap) -> Pooled:
    """L = penalty(log(Σ_k w_k exp(α s_k) + …) − α' s_p), and what DCLW adds; in MACL α follows the mean of s_p."""
    growth = 1.0 + gap.alpha * (float(np.mean(s[np.arange(len(s)), roles.positive])) - gap.alignment)
    logit = Terms(recipe, s, t, roles, growth)
    outer = recipe.combine != "row by row"
    above = np.zeros_like(logit.pos) if outer else logit.pos  # from where the pool is measured
    first, second = _sums(recipe, logit, roles, gap, above)
    occupied = first.occupied if second is None else first.occupied & second.occupied  # (A,)
    pooled = first.value if second is None else first.value + second.value
    over = logit.pos[:, None] if outer else np.zeros_like(logit.pos)
    gaps = np.where(occupied, pooled, -np.inf) - over  # (A,), or (A, A): denominators of j against positives of i
    charged, charge_back, lost = _charge(recipe, logit, roles, gap, gaps)
    shortfall, weighting = (
        (np.zeros(len(s)), None)
        if gap.sigma is None
        else weight_shortfall.forward(logit.s_pos, sigma=gap.sigma, mass=gap.mass)
    )
    added = np.where(occupied, logit.pos - logit.num + shortfall * logit.num, 0.0)  # (A,)
    loss = gap.factor * (charged + (added[:, None] if outer else added))

    def back(dloss: Any) -> tuple[Any, float | None, float]:
        dloss = gap.factor * dloss * (occupied[None, :] if outer else occupied)
        by_anchor = np.sum(dloss, axis=1) if outer else dloss  # (A,)
        dnum, dpos, dall = by_anchor * (shortfall - 1), np.zeros(len(s)), np.zeros_like(s)
        terms: list[Any] = []
        if "denominator" not in recipe.detached:
            dgaps, dfloor, dscalar = charge_back(dloss)
            dpos = by_anchor + dfloor - (np.sum(dgaps, axis=1) if outer else 0.0)
            gathered = np.sum(dgaps, axis=0) if outer else dgaps
            more_pos, dall, dextra = _sums_back(recipe, roles, gap, first, second, gathered)
            dpos = dpos + more_pos
            terms += [dscalar]
            if recipe.extra is not None:
                terms += [dextra * recipe.extra.slope(t)]
        ds, of_scalar, dgrowth = logit.to_similarities(dall, dpos, dnum)
        if weighting is not None and not gap.detach:
            ds[logit.at] += weight_shortfall.backward(by_anchor * logit.num, weighting)
        if gap.alpha and not gap.detach:
            ds[logit.at] += dgrowth * gap.alpha / len(s)
        terms += of_scalar
        return ds, float(sum(np.sum(x) for x in terms)), float(sum(np.sum(np.abs(x)) for x in terms))

    largest = float(np.max(np.abs(np.where(roles.candidates, logit.all, 0.0)), initial=0.0))
    largest = max(largest, float(np.max(np.abs(logit.num))), float(np.max(np.abs(logit.pos))))
    return Pooled(
        loss,
        back,
        gap.factor * logit.steepest * (1 + gap.beta),
        gap.factor * (1 + (1 + gap.beta) * largest) * max(lost, _lost_by_subtracting(recipe, logit, first, above)),
    )


def _sums(recipe: Recipe, logit: Terms, roles: Roles, gap: Gap, above: Any) -> tuple[LogSum, LogSum | None]:
    """Return the one pool, or the two: a positive among the negatives stands in the first, oneself in the last."""
    near = roles.negatives if gap.apart is None else roles.negatives & ~gap.apart
    columns = [Column(logit.all, near)]
    if _positive_again(recipe):
        columns.append(everywhere(logit.pos))
    last = columns if gap.apart is None else [Column(logit.all, roles.negatives & gap.apart)]
    less = None
    if recipe.extra is not None:
        top = greatest(recipe, logit.all, roles)
        term = np.broadcast_to(recipe.extra.logit(logit.t, top), (len(top),))  # (A,)
        if recipe.extra.subtracted(logit.t):
            less = term
        else:
            last.append(everywhere(term))
    if gap.apart is None:
        return LogSum(above, columns, less=less, beta=gap.beta, detach=gap.detach), None
    return LogSum(above, columns), LogSum(np.zeros_like(above), last, less=less)


def _sums_back(
    recipe: Recipe, roles: Roles, gap: Gap, first: LogSum, second: LogSum | None, d: Any
) -> tuple[Any, Any, Any]:
    """Return the gradients of the positive's logit (A,), of all logits (A, T) and of the extra term (A,)."""
    dabove, columns, dless = first.back(d)
    dpos = dabove if recipe.combine == "row by row" else np.zeros_like(dabove)
    dall = columns.pop(0)
    if _positive_again(recipe):
        dpos = dpos + columns.pop(0)[:, 0]
    if second is not None:
        _, columns, dless = second.back(d)
        dall = dall + columns.pop(0)
    return dpos, dall, columns[0][:, 0] if columns else dless


def _positive_again(recipe: Recipe) -> bool:
    """Return whether the positive stands among the negatives too."""
    return recipe.in_denominator > (0 if recipe.inside == "decoupled" else 1)


def _charge(recipe: Recipe, logit: Terms, roles: Roles, gap: Gap, gaps: Any) -> tuple[Any, Any, float]:
    """Return penalty(debias(gaps)), its way back to the gaps, the positives and the scalar, and what it loses."""
    shape = gaps.shape
    floored_at = OVER_TEMPERATURE if recipe.slip == "the floor is right" else recipe.scale
    floor = floored_at.at(logit.t)  # 1/τ; no loss with a floor has a temperature that grows
    # What is the positive's own is a row here, what is the denominator's a column.
    pos = np.broadcast_to(logit.pos[:, None], shape).ravel() if gaps.ndim == 2 else logit.pos
    count = np.sum(roles.negatives, axis=1).astype(float)  # (A,) K
    if recipe.itself and recipe.slip != "count what is there":
        count = count - 1
    elif recipe.slip == "count what is there":
        count = count + (recipe.extra is not None) + _positive_again(recipe)
    if gaps.ndim == 2:
        count = np.broadcast_to(count[None, :], shape).ravel()
    # the floor is K exp(−1/τ): the headroom above it 1/τ + s⁺/τ
    corrected, debiased = debias.forward(gaps.ravel(), pos + floor - 1.0, 1.0, count=count, tau_plus=gap.tau_plus)
    bare = recipe.inside == "decoupled" or recipe.in_denominator == 0
    if recipe.inside == "model aware":
        charged, cache = weighted_softplus.forward(corrected, detach=gap.detach)
    else:
        charged, cache = (np.where(count > 0, corrected, 0.0), None) if bare else softplus.forward(corrected)

    def back(dloss: Any) -> tuple[Any, Any, Any]:
        d = dloss.ravel()
        if recipe.inside == "model aware":
            d = weighted_softplus.backward(d, cache)
        else:
            d = identity.backward(d, None) if bare else softplus.backward(d, cache)
        dgaps, dheadroom, _ = debias.backward(d, debiased)
        dheadroom = dheadroom.reshape(shape)
        dscalar = floored_at.slope(logit.t) * np.sum(dheadroom)
        return dgaps.reshape(shape), np.sum(dheadroom, axis=1) if gaps.ndim == 2 else dheadroom, dscalar

    lost = float(np.max(debiased.slope, initial=1.0))
    if recipe.inside == "model aware":
        # 1/(1 − P), written as it stands
        lost = float(np.exp(min(max(-float(np.min(corrected)), 0.0), 700.0)))
    return charged.reshape(shape), back, lost if lost < MOST_LOST else 1.0


def _lost_by_subtracting(recipe: Recipe, logit: Terms, first: LogSum, above: Any) -> float:
    """Return by what rounding grows for whoever sums everything and then takes oneself and the positive out again."""
    if not (recipe.embeddings and recipe.candidates == "all"):
        return 1.0
    total = first.value + above
    if recipe.inside != "decoupled":
        total = np.logaddexp(total, logit.pos)
    greater = max(float(np.max(np.max(logit.all, axis=1) - total)), 0.0)
    return float(np.exp(greater)) if greater < np.log(MOST_LOST) else 1.0
