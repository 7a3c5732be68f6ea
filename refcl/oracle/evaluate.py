"""The walk that a recipe describes, and back.

In:  a recipe, the inputs and the scalar (temperature, log-scale or weight).
Out: value and gradients of the loss that its choices make, and the sizes that its rounding errors are measured by.
"""

from typing import Any

import numpy as np

from refcl.core.arrays import Array
from refcl.oracle.freed import pool_freed
from refcl.oracle.normalizing import Sphere, denormalize, normalize
from refcl.oracle.pools import pool
from refcl.oracle.recipe import Expected, Recipe, places
from refcl.oracle.roles import Roles, rank_of, roles_of_matrix, roles_of_rows, several, with_own
from refcl.walk.pooling.soft_maximum import soft_maximum
from refcl.walk.reduce import reduce


def evaluate(
    recipe: Recipe,
    inputs: tuple[Array, ...],
    scalar: float | None,
    *,
    upstream: Array | None = None,
    positive: Array | None = None,
    ignore: Array | None = None,
    value_only: bool = False,
    settings: dict[str, Any] | None = None,
    own: int = 0,
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
    settings : dict, optional
        Of a loss that is more than its pool: labels, weights, a share of false negatives.
    own : int
        The last input holds so many rows for each anchor, which no other meets.

    Returns
    -------
    expected : Expected
        Value, gradients and the sizes of their rounding errors.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.oracle.evaluate import evaluate
    >>> from refcl.oracle.recipe import Recipe
    >>> s = np.array([[0.8, 0.5, 0.1, -0.3, 0.7]])
    >>> round(float(evaluate(Recipe(embeddings=False), (s,), 0.2).value), 9)
    0.622695196
    """
    s, roles, stack, sphere = compared(recipe, inputs, positive, ignore, own)
    if recipe.inside == "supervised":
        roles = several(recipe, roles, settings or {})
    with np.errstate(all="ignore"):
        walk = pool_freed if recipe.inside == "freed" else pool
        pooled = walk(recipe, s, scalar, roles, settings or {})
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
            grads = _to_embeddings(recipe, ds, stack, sphere, roles, inputs)
            lengths: tuple[Any, ...] = () if sphere is None else sphere.lengths
            lengths += (1.0,) * (len(grads) - len(lengths))
        else:
            grads, lengths = (ds,), (1.0,)
        sizes = tuple(
            np.maximum(np.max(np.abs(g), axis=1, keepdims=True), floor / length) * pooled.condition
            for g, length in zip(grads, lengths, strict=True)
        )
        rest = {} if pooled.rest is None else pooled.rest(dloss)
    scalar_size = max(abs(dscalar or 0.0), dscalar_size, _steepest_by_scalar(recipe, scalar, s, heaviest * total))
    answer = Expected(value, grads, dscalar, value_size, sizes, scalar_size * pooled.condition)
    unit, k = float(np.max(np.abs(dloss), initial=0.0)) * pooled.condition, len(grads) - bool(own)
    return answer._replace(
        grads=grads[:k],
        grad_sizes=sizes[:k],
        dmore=(*grads[k:], *rest.values()),
        dmore_sizes=(*sizes[k:], *(max(unit, float(np.max(np.abs(d)))) for d in rest.values())),
    )


def compared(
    recipe: Recipe, inputs: tuple[Array, ...], positive: Array | None, ignore: Array | None, own: int = 0
) -> tuple[Array, Roles, Array, Sphere | None]:
    """Return the similarities (A, T), the roles, and what the similarities are of: all rows (T, D), normalized."""
    if not recipe.embeddings:
        return inputs[0], roles_of_matrix(recipe, inputs[0], positive, ignore), np.ones((1, 1)), None
    raw = 1 if own and recipe.slip == "own_negatives: not normalized" else 0
    z, sphere = normalize(inputs[: len(inputs) - raw], recipe.normalization, recipe.eps)
    z = (*z, *inputs[len(inputs) - raw :])
    shared = z[: len(z) - bool(own)]
    roles = roles_of_rows(recipe, len(z[0]), sum(len(x) for x in shared[1:]), positive, ignore)
    roles = with_own(roles, recipe.slip, len(z[-1]), own) if own else roles
    stack = np.concatenate(z)
    return stack[roles.rows] @ stack.T, roles, stack, sphere


def _steepest_by_scalar(recipe: Recipe, scalar: float | None, s: Array, weight: float) -> float:
    """Return how fast a logit moves with the scalar: probabilities carry a rounding of their own into that sum.

    The textbook's p = exp(l - lse) is off by eps max|l|, however little of the sum is left after the positive's share.
    """
    if scalar is None or not recipe.scaled:
        return 0.0
    return abs(recipe.scale.slope(float(scalar))) * float(np.max(np.abs(s))) * weight


def _penalize(recipe: Recipe, loss: Any, roles: Roles, upstream: Any) -> tuple[Any, Any]:
    """Return the value and, on the way back, dloss: what stands after the pool."""
    if recipe.log_of_mean is not None:
        return _log_of_mean(recipe, loss, roles)
    if recipe.combine == "outer by direction":
        # each direction broadcasts within itself
        inside = np.zeros_like(loss)
        for rows in roles.by_direction:
            inside[np.ix_(rows, rows)] = 1.0 / len(rows)
        weight = inside / (len(loss) if recipe.reduction == "mean" else 1.0 / len(roles.by_direction[0]))
        return np.sum(np.where(weight > 0, loss, 0.0) * weight), weight
    value, cache = reduce.forward(loss, reduction=recipe.reduction)
    dvalue = np.ones_like(value) if upstream is None or recipe.reduction != "none" else upstream
    return value, reduce.backward(dvalue, cache)


def _log_of_mean(recipe: Recipe, loss: Any, roles: Roles) -> tuple[Any, Any]:
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
    return np.asarray(value * factor), dloss * factor


def _to_embeddings(
    recipe: Recipe, ds: Any, stack: Any, sphere: Any, roles: Roles, inputs: tuple[Any, ...]
) -> tuple[Any, ...]:
    dz = ds.T @ stack[roles.rows]
    if "candidates" in recipe.detached:
        dz = np.zeros_like(dz)
    if "remote" in recipe.detached and len(inputs) == 2:
        rank = rank_of(len(inputs[0]), len(inputs[1]), recipe.ranks)
        dz = np.where(rank[roles.rows][:, None] == rank[None, :], ds, 0.0).T @ stack[roles.rows]
    np.add.at(dz, roles.rows, ds @ stack)
    dz_of = tuple(np.split(dz, np.cumsum([len(x) for x in inputs[:-1]])))
    if sphere is not None and recipe.slip == "own_negatives: the gradient is that of their normalized rows":
        sphere = sphere.without_the_last
    k = len(inputs) if sphere is None else sphere.inputs
    grads = (*denormalize(dz_of[:k], sphere, recipe.jacobian), *dz_of[k:])
    return tuple(
        np.zeros_like(g) if name in recipe.detached else g for name, g in zip(places(len(grads)), grads, strict=True)
    )
