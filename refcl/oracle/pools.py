"""Similarities -> the losses of the anchors, with the way back, as a recipe has it.

In:  similarities (A, T), the scalar and the roles.
Out: the losses, a function from their gradients to ds and dscalar, and how rounding grows on the way.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.recipe import ONE, Recipe
from refcl.oracle.roles import Roles
from refcl.walk.penalty import hinge, softplus
from refcl.walk.pooling.hardest import hardest_negatives
from refcl.walk.pooling.maximum import maximum
from refcl.walk.pooling.soft_maximum import soft_maximum
from refcl.walk.pooling.weighted_sum import weighted_sum


class Pooled(NamedTuple):
    loss: Any  # (A,) or (A, A) where every positive meets every denominator
    back: Callable[[Any], tuple[Any, float | None, float]]  # dloss -> ds (A, T), dscalar, the size of its terms
    sharpness: float  # how steep a loss is in one similarity
    condition: float  # by how much rounding is magnified: the greatest logit, and what is lost where terms cancel
    rest: Callable[[Any], dict[str, Any]] | None = None  # dloss -> the gradients of what else was given, by name


Pool = Callable[[Recipe, Any, float | None, Roles], Pooled]


def pool(recipe: Recipe, s: Any, scalar: float | None, roles: Roles) -> Pooled:
    rows = np.arange(len(s))
    s_pos = s[rows, roles.positive]  # (A,)
    negatives = roles.negatives
    if recipe.pool in ("simple", "triplet") and recipe.in_denominator == 2:
        negatives = roles.candidates
    if recipe.hardest is not None:
        negatives = hardest_negatives(s, negatives, hardest=recipe.hardest)
    if recipe.pool == "simple":
        return _pool_simple(s, s_pos, scalar, negatives, roles)
    if recipe.pool == "triplet":
        return _pool_triplet(recipe, s, s_pos, negatives, roles)
    assert scalar is not None
    if recipe.twice is not None:
        return _pool_twice(recipe, s, scalar, roles)
    return _pool_softmax(recipe, s, s_pos, float(scalar), negatives, roles)


def greatest(recipe: Recipe, logits: Any, roles: Roles) -> Any:
    """Return the greatest logit of each anchor (A,), which an extra term may stand above."""
    who = roles.candidates.copy()
    if recipe.extra is not None and recipe.extra.above_itself:
        who[np.arange(len(who)), roles.rows] = True
    return np.max(np.where(who, logits, -np.inf), axis=1)


def _pool_softmax(recipe: Recipe, s: Any, s_pos: Any, t: float, negatives: Any, roles: Roles) -> Pooled:
    """L = log(Σ_k exp(α s_k) + w exp(α' s_p) + extra) − α'' s_p, written as softplus of a soft maximum."""
    rows = np.arange(len(s))
    alpha = recipe.scale
    alpha_pos = recipe.scale_positive or alpha
    alpha_num = recipe.scale_numerator or alpha_pos
    logits, logit_pos, logit_num = alpha.at(t) * s, alpha_pos.at(t) * s_pos, alpha_num.at(t) * s_pos
    columns, counted = [logits], [negatives]
    if recipe.in_denominator == 2:
        columns.append(logit_pos[:, None])
        counted.append(np.ones((len(s), 1), dtype=bool))
    extra = recipe.extra
    if extra is not None:
        top = greatest(recipe, logits, roles)
        term = np.broadcast_to(extra.logit(t, top), (len(s),))  # (A,)
        # A term that is taken out is no column: it lessens the sum afterwards.
        columns.append((np.full_like(term, -np.inf) if extra.subtracted(t) else term)[:, None])
        counted.append(np.full((len(s), 1), not extra.subtracted(t)))
    pool, mask = np.concatenate(columns, axis=1), np.concatenate(counted, axis=1)
    outer = recipe.combine != "row by row"
    gap, pool_cache = soft_maximum.forward(np.zeros_like(logit_pos) if outer else logit_pos, pool, 1.0, negatives=mask)
    taken = np.zeros(len(s))  # (A,) part of the sum that is taken out
    if extra is not None and extra.subtracted(t):
        taken = np.exp(term - gap - (0.0 if outer else logit_pos))
        gap = gap + np.log1p(-taken)
    if outer:
        pairs = gap[None, :] - logit_pos[:, None]  # (A, A) denominators of j against positives of i
        flat, cache = softplus.forward(pairs.ravel())
        loss, slope = flat.reshape(pairs.shape), cache.slope.reshape(pairs.shape)
    elif recipe.in_denominator == 0:
        loss, slope = gap, np.ones_like(gap)
    else:
        loss, cache = softplus.forward(gap)
        slope = cache.slope
    loss = loss + ((logit_pos - logit_num)[:, None] if outer else logit_pos - logit_num)

    def back(dloss: Any) -> tuple[Any, float | None, float]:
        pushed = dloss * slope
        dnum = -(dloss.sum(axis=1) if outer else dloss)  # (A,)
        if "denominator" in recipe.detached:
            dlogits, dpos, gathered = np.zeros_like(pool), np.zeros_like(dnum), np.zeros_like(dnum)
        else:
            gathered = pushed.sum(axis=0) if outer else pushed
            _, dlogits, _ = soft_maximum.backward(gathered / (1 - taken), pool_cache)
            # log(Σ + w e^p) − p: what the negatives receive is what the positive gives
            dpos = -(pushed.sum(axis=1) if outer else pushed) - dnum
        given = logits.shape[1]
        ds = alpha.at(t) * dlogits[:, :given]  # (A, T)
        terms = [alpha.slope(t) * dlogits[:, :given] * s]
        if recipe.in_denominator == 2:
            dpos = dpos + dlogits[:, given]
        if extra is not None:
            dterm = -gathered * taken / (1 - taken) if extra.subtracted(t) else dlogits[:, -1]
            terms.append(extra.slope(t) * dterm)
        ds[rows, roles.positive] += alpha_pos.at(t) * dpos + alpha_num.at(t) * dnum
        terms.append((alpha_pos.slope(t) * dpos + alpha_num.slope(t) * dnum)[:, None] * s_pos[:, None])
        return ds, float(sum(np.sum(x) for x in terms)), float(sum(np.sum(np.abs(x)) for x in terms))

    steep = max(abs(alpha.at(t)), abs(alpha_num.at(t)), abs(alpha_pos.at(t)))
    largest = float(np.max(np.abs(np.where(roles.candidates, logits, 0.0)), initial=0.0))
    largest = max(largest, float(np.max(np.abs(logit_num))), float(np.max(np.abs(logit_pos))))
    lost = 1.0
    if recipe.embeddings and recipe.candidates == "all":
        # Whoever sums everything and then takes oneself out again loses what oneself is greater by.
        total = np.logaddexp(gap + (0.0 if outer else logit_pos), logit_pos)
        greater = max(float(np.max(np.max(logits, axis=1) - total)), 0.0)
        # Past five digits that is no rounding any more but a finding.
        lost = float(np.exp(greater)) if greater < np.log(1e5) else 1.0
    return Pooled(loss, back, steep, (1 + largest) * lost)


def _pool_twice(recipe: Recipe, s: Any, t: float, roles: Roles) -> Pooled:
    """Cross-entropy of the softmax's own output: probabilities taken for logits."""
    first, second = (ONE, recipe.scale) if "late" in str(recipe.twice) else (recipe.scale, ONE)
    rows = np.arange(len(s))
    logits = np.where(roles.candidates, first.at(t) * s, -np.inf)
    e = np.exp(logits - np.max(logits, axis=1, keepdims=True))
    p = e / np.sum(e, axis=1, keepdims=True)  # (A, T) 0 where masked
    kept = roles.candidates if "masked" in str(recipe.twice) else np.ones_like(roles.candidates)
    again = np.where(kept, second.at(t) * p, -np.inf)
    top = np.max(again, axis=1, keepdims=True)
    e2 = np.exp(again - top)
    q = e2 / np.sum(e2, axis=1, keepdims=True)
    loss = (top[:, 0] + np.log(np.sum(e2, axis=1))) - second.at(t) * p[rows, roles.positive]

    def back(dloss: Any) -> tuple[Any, float | None, float]:
        dagain = q * dloss[:, None]
        dagain[rows, roles.positive] -= dloss
        dp = second.at(t) * dagain
        dlogits = p * (dp - np.sum(p * dp, axis=1, keepdims=True))
        terms = first.slope(t) * dlogits * s, second.slope(t) * dagain * p
        return first.at(t) * dlogits, float(sum(map(np.sum, terms))), float(sum(np.sum(np.abs(x)) for x in terms))

    steep = first.at(t) * second.at(t)
    return Pooled(loss, back, steep, 1 + float(np.max(np.abs(s))) * steep)


def _pool_simple(s: Any, s_pos: Any, weight: float | None, negatives: Any, roles: Roles) -> Pooled:
    counts = np.maximum(np.sum(negatives, axis=1), 1)
    weights = 1.0 / counts if weight is None else np.full(len(s), float(weight))
    gap, cache = weighted_sum.forward(s_pos, s, weights, negatives=negatives)

    def back(dloss: Any) -> tuple[Any, float | None, float]:
        dpos, ds, dweight = weighted_sum.backward(dloss, cache)
        ds[np.arange(len(s)), roles.positive] += dpos
        size = np.sum(np.abs(dloss) * np.sum(np.abs(np.where(negatives, s, 0.0)), axis=1))
        return ds, float(np.sum(dweight)), float(size)

    heaviest = float(np.max(np.abs(weights) * counts, initial=1.0))
    return Pooled(gap, back, max(heaviest, 1.0), 1 + float(np.max(np.abs(s))) * max(heaviest, 1.0))


def _pool_triplet(recipe: Recipe, s: Any, s_pos: Any, negatives: Any, roles: Roles) -> Pooled:
    gap, pool_cache = maximum.forward(s_pos, s, negatives=negatives, margin=recipe.margin)
    loss, penalty_cache = hinge.forward(gap)

    def back(dloss: Any) -> tuple[Any, float | None, float]:
        dpos, ds = maximum.backward(hinge.backward(dloss, penalty_cache), pool_cache)
        ds[np.arange(len(s)), roles.positive] += dpos
        return ds, None, 0.0

    return Pooled(loss, back, 1.0, 1 + float(np.max(np.abs(s))) + recipe.margin)
