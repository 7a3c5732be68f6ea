"""A loss as a list of choices, each made in one room of the walk.

In:  a recipe, the inputs and the scalar (temperature, log-scale or weight).
Out: value and gradients of the loss that these choices make, and the sizes that its rounding errors are measured by.
The right choices give refcl's losses; a deliberate mistake is one choice changed (`dataclasses.replace`), so that two
mistakes at once are two choices changed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from refcl.backend import Array
from refcl.oracle.normalizing import denormalize, normalize
from refcl.penalty import hinge, softplus
from refcl.pooling import hardest_negatives, maximum, soft_maximum, weighted_sum
from refcl.reduce import reduce
from refcl.similarity import inner_product


class Scale(NamedTuple):
    """What similarities are multiplied by, a function of the scalar, and its derivative."""

    name: str
    at: Callable[[float], float]
    slope: Callable[[float], float]


OVER_TEMPERATURE = Scale("1/τ", lambda t: 1 / t, lambda t: -1 / t**2)
EXP_LOG_SCALE = Scale("exp(θ)", lambda t: float(np.exp(t)), lambda t: float(np.exp(t)))
ONE = Scale("1", lambda t: 1.0, lambda t: 0.0)


class Extra(NamedTuple):
    """One more term exp(logit) in every denominator, a function of the scalar and the greatest logit of a row."""

    logit: Callable[[float, Any], Any]  # (scalar, greatest logit (A,), a constant in the gradient) -> (A,)
    slope: Callable[[float], float] = lambda t: 0.0  # by the scalar
    subtracted: Callable[[float], bool] = lambda t: False  # whether the term is taken out of the sum instead


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
    form: str = "out"  # of several positives: whether their mean is outside or inside the logarithm
    scalar: str | None = "temperature"
    hardest: float | int | None = None
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
    log_plus: float | None = None  # −log(p + this)
    log_clamp: float | None = None  # −log(max(p, this))
    log_of_mean: str | None = None  # "all" or "by direction"
    # the way back
    detached: frozenset[str] = frozenset()  # names of inputs, "candidates", "denominator", "remote"
    ranks: int = 1


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
    dmore: tuple[float, ...] = ()  # of further scalars, such as a bias
    dmore_sizes: tuple[float, ...] = ()


class Roles(NamedTuple):
    rows: Any  # (A,) which of all rows are anchors
    positive: Any  # (A,) column of the positive
    negatives: Any  # (A, T)
    candidates: Any  # (A, T) negatives and the positive
    by_direction: tuple[Any, ...]  # the anchors of each direction


def evaluate(
    recipe: Recipe,
    inputs: tuple[Array, ...],
    scalar: float | None,
    *,
    upstream: Array | None = None,
    positive: Array | None = None,
    ignore: Array | None = None,
    value_only: bool = False,
    pool: "Pool | None" = None,
) -> Expected:
    """Walk through the rooms as the recipe says, and back.

    Parameters
    ----------
    recipe : Recipe
        The choices.
    inputs : tuple of float64 arrays
        (query, key) or (similarities,).
    scalar : float or None
        Temperature, log-scale or weight; None is the default weight.
    upstream : (A,) array, optional
        Gradient by each anchor's loss where the reduction is "none"; by default ones.
    positive : (A,) array of integers, optional
        The right column of each anchor's positive among the candidates; by default the same row.
    ignore : (A, M) array of booleans, optional
        Candidates left out.
    value_only : bool
        Do not walk back.
    pool : callable, optional
        What stands between similarities and losses, where it is none of the recipe's own pools.

    Returns
    -------
    expected : Expected
        Value, gradients and the sizes of their rounding errors.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.oracle.recipe import Recipe, evaluate
    >>> s = np.array([[0.8, 0.5, 0.1, -0.3, 0.7]])
    >>> round(float(evaluate(Recipe(embeddings=False), (s,), 0.2).value), 9)
    0.622695196
    """
    if recipe.embeddings:
        z, sphere = normalize(inputs, recipe.normalization, recipe.eps)
        stack = np.concatenate(z)  # (T, D)
        roles = _roles(recipe, len(z[0]), sum(len(x) for x in z[1:]), positive, ignore)
        s, product = inner_product.forward(stack[roles.rows], stack)
    else:
        s, product, sphere = inputs[0], None, None
        stack = np.ones((1, 1))
        roles = _roles_of_matrix(recipe, s, positive, ignore)
    with np.errstate(all="ignore"):
        pooled = (pool or _pool)(recipe, s, scalar, roles)
        value, dloss = _penalize(recipe, pooled.loss, roles, upstream)
        worst = float(np.max(np.abs(pooled.loss))) if np.all(np.isfinite(pooled.loss)) else np.inf
        total = float(len(np.atleast_1d(pooled.loss))) if recipe.reduction == "sum" else 1.0
        value_size = total * max(worst, pooled.condition)
        if value_only:
            return Expected(value, (), None, value_size, (), 0.0)
        ds, dscalar, dscalar_size = pooled.back(dloss)
        # what a row's gradient is made of, before anything cancels
        longest = float(np.max(np.sqrt(np.sum(stack * stack, axis=1))))
        heaviest = 1.0 if upstream is None or recipe.reduction != "none" else float(np.max(np.abs(upstream)))
        floor = pooled.sharpness * longest * heaviest / (len(dloss) if recipe.reduction == "mean" else 1)
        if recipe.embeddings:
            grads = _to_embeddings(recipe, ds, product, sphere, roles, inputs)
            lengths = sphere.lengths if sphere is not None else (1.0,) * len(grads)
        else:
            grads, lengths = (ds,), (1.0,)
        sizes = tuple(
            np.maximum(np.max(np.abs(g), axis=1, keepdims=True), floor / length) * pooled.condition
            for g, length in zip(grads, lengths, strict=True)
        )
    return Expected(value, grads, dscalar, value_size, sizes, max(abs(dscalar or 0.0), dscalar_size) * pooled.condition)


class Pooled(NamedTuple):
    loss: Any  # (A,) or (A, A) where every positive meets every denominator
    back: Callable[[Any], tuple[Any, float | None, float]]  # dloss -> ds (A, T), dscalar, the size of its terms
    sharpness: float  # how steep a loss is in one similarity
    condition: float  # by how much rounding is magnified: the greatest logit, and what is lost where terms cancel


Pool = Callable[[Recipe, Any, float | None, Roles], Pooled]


def _pool(recipe: Recipe, s: Any, scalar: float | None, roles: Roles) -> Pooled:
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
        top = np.max(np.where(roles.candidates, logits, -np.inf), axis=1)
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


def _penalize(recipe: Recipe, loss: Any, roles: Roles, upstream: Any) -> tuple[Any, Any]:
    """Return the value and, on the way back, dloss: what stands after the pool."""
    slope = np.ones_like(loss)
    if recipe.log_plus is not None:
        p = np.exp(-loss)
        loss, slope = -np.log(p + recipe.log_plus), p / (p + recipe.log_plus)
    if recipe.log_clamp is not None:
        cap = -np.log(recipe.log_clamp)
        loss, slope = np.minimum(loss, cap), np.where(loss < cap, slope, 0.0)
    if recipe.log_of_mean is not None:
        return _log_of_mean(recipe, loss, slope, roles)
    if recipe.combine == "outer by direction":
        # each direction broadcasts within itself
        inside = np.zeros_like(loss)
        for rows in roles.by_direction:
            inside[np.ix_(rows, rows)] = 1.0 / len(rows)
        weight = inside / (len(loss) if recipe.reduction == "mean" else 1.0 / len(roles.by_direction[0]))
        return np.sum(np.where(weight > 0, loss, 0.0) * weight), weight * slope
    value, cache = reduce.forward(loss, reduction=recipe.reduction)
    dvalue = np.ones_like(value) if upstream is None or recipe.reduction != "none" else upstream
    return value, reduce.backward(dvalue, cache) * slope


def _log_of_mean(recipe: Recipe, loss: Any, slope: Any, roles: Roles) -> tuple[Any, Any]:
    groups = roles.by_direction if recipe.log_of_mean == "by direction" else (np.arange(len(loss)),)
    value, dloss = 0.0, np.zeros_like(loss)
    for rows in groups:
        # −log mean p = −log Σ exp(−L) + log n
        gap, cache = soft_maximum.forward(
            np.zeros(1), -loss[rows][None, :], 1.0, negatives=np.ones((1, len(rows)), dtype=bool)
        )
        value += float(np.log(len(rows)) - gap[0]) / len(groups)
        dloss[rows] = cache.relative[0] / len(groups)
    factor = float(len(loss)) if recipe.reduction == "sum" else 1.0
    return np.asarray(value * factor), dloss * slope * factor


def _to_embeddings(
    recipe: Recipe, ds: Any, product: Any, sphere: Any, roles: Roles, inputs: tuple[Any, ...]
) -> tuple[Any, ...]:
    dz_anchor, dz = inner_product.backward(ds, product)
    if "candidates" in recipe.detached:
        dz = np.zeros_like(dz)
    if "remote" in recipe.detached and len(inputs) == 2:
        rank = _rank(len(inputs[0]), len(inputs[1]), recipe.ranks)
        dz = np.where(rank[roles.rows][:, None] == rank[None, :], ds, 0.0).T @ product.z
    dz = dz.copy()
    np.add.at(dz, roles.rows, dz_anchor)
    n = len(inputs[0])
    grads = denormalize((dz[:n], dz[n:])[: len(inputs)], sphere, recipe.jacobian)
    return tuple(
        np.zeros_like(g) if name in recipe.detached else g for name, g in zip(("first", "second"), grads, strict=False)
    )


def _roles(recipe: Recipe, n: int, m: int, positive: Any, ignore: Any) -> Roles:
    """Say who is an anchor, a positive and a negative among the stacked rows of both inputs."""
    total = n + m
    first, second = np.arange(n), n + np.arange(m)
    if recipe.anchors == "first":
        rows: Any = first
        groups: tuple[Any, ...] = (first,)
    elif recipe.anchors == "second":
        rows, groups = second, (np.arange(m),)
    else:
        rows, groups = np.arange(total), (first, second)
    right = np.where(rows < n, rows + n, rows - n) if m else rows  # (A,)
    if positive is not None:
        right = np.asarray(positive) + (n if recipe.anchors == "first" and recipe.candidates == "other" else 0)
    candidates = np.ones((len(rows), total), dtype=bool)
    if recipe.candidates == "other":
        candidates = (rows[:, None] < n) != (np.arange(total)[None, :] < n)
    if ignore is not None:
        ignored = np.zeros_like(candidates)
        ignored[:, total - ignore.shape[1] :] = ignore[rows] if len(ignore) == total else ignore
        candidates &= ~ignored
    if not recipe.itself:
        candidates[np.arange(len(rows)), rows] = False
    else:
        candidates[np.arange(len(rows)), rows] = True
    return _with_positive(recipe, right, candidates, rows, groups, n, m)


def _with_positive(
    recipe: Recipe, right: Any, candidates: Any, rows: Any, groups: tuple[Any, ...], n: int, m: int
) -> Roles:
    column = right if recipe.positive is None else recipe.positive(right, n, m)
    is_positive = np.zeros_like(candidates)
    is_positive[np.arange(len(rows)), column] = True
    return Roles(rows, column, candidates & ~is_positive, candidates | is_positive, groups)


def _roles_of_matrix(recipe: Recipe, s: Any, positive: Any, ignore: Any) -> Roles:
    n, m = s.shape
    right = np.arange(n) if positive is None else np.asarray(positive)
    candidates = np.ones((n, m), dtype=bool) if ignore is None else ~np.asarray(ignore)
    rows = np.arange(n)
    # For similarities the columns stand for themselves: there is no second input whose rows come later.
    return _with_positive(recipe, right, candidates, rows, (rows,), 0, m)


def _rank(n: int, m: int, ranks: int) -> Any:
    """Return which rank each of the stacked rows lives on."""
    return np.concatenate([np.arange(n) // (n // ranks), np.arange(m) // (m // ranks)])
