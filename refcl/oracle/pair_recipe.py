"""A loss that has no pool of the recipe's own: its rooms where they are known, else its pair, entered wrongly.

In:  a pair, a recipe, the inputs and the scalar.
Out: the same as of `evaluate.evaluate`: value, gradients and their rounding sizes.
What can be made wrongly around any pair: the sphere, the temperature, which row is whose positive, what is detached.
What can be made wrongly inside: see `descendants`.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from refcl.core.pair import AnyPair
from refcl.oracle.descendants import SLIPS, pool_of
from refcl.oracle.evaluate import evaluate
from refcl.oracle.normalizing import denormalize, normalize
from refcl.oracle.questions import row_of
from refcl.oracle.recipe import Expected, Recipe, places
from refcl.walk.sphere import l2_normalize

SLACK = 4.0  # nothing is known about the inside of the loss, so that its roundings are counted generously


def evaluate_pair(
    recipe: Recipe,
    pair: AnyPair,
    inputs: tuple[Any, ...],
    scalar: float | None,
    *,
    upstream: Any = None,
    settings: dict[str, Any],
    more_scalars: tuple[float, ...] = (),
    value_only: bool = False,
) -> Expected:
    """Evaluate a pair under the choices of a recipe.

    Parameters
    ----------
    recipe : Recipe
        Where the rooms of the pair are not known, normalization, jacobian, scale, positive and detached are read.
    pair : Pair
        The loss.
    inputs : tuple of float64 arrays
        Its arrays.
    scalar : float or None
        Temperature or log-scale; None where it has none.
    upstream : array, optional
        In the shape of the value.
    settings : dict
        Passed on to the pair.
    more_scalars : tuple of float
        What stands after the scalar, such as a bias.
    value_only : bool
        Do not walk back, where there is a walk.
    """
    if recipe.inside not in (None, "uniform"):
        own = settings.get("own_negatives")
        answer = evaluate(
            recipe,
            inputs if own is None else (*inputs, np.asarray(own).reshape(-1, np.shape(own)[-1])),
            scalar,
            upstream=None if upstream is None else upstream.reshape(-1),
            positive=settings.get("positive"),
            ignore=settings.get("ignore"),
            value_only=value_only,
            pool=pool_of(pair.__name__, recipe.inside, settings, more_scalars),
            own=0 if own is None else np.shape(own)[1],
        )
        if own is None or not answer.dmore:
            return answer
        first, size = answer.dmore[0].reshape(np.shape(own)), answer.dmore_sizes[0].reshape(*np.shape(own)[:2], 1)
        return answer._replace(dmore=(first, *answer.dmore[1:]), dmore_sizes=(size, *answer.dmore_sizes[1:]))
    if recipe.positive is not None and not (recipe.embeddings and len(inputs) == 2):
        return _nothing(inputs)
    order = _order(recipe, inputs)
    moved = inputs if order is None else _reordered(inputs, order)
    sphere = None
    if "normalize" in pair.settings:
        moved, sphere = normalize(moved, recipe.normalization, recipe.eps)
        settings = settings | _remembered(settings, recipe.eps) | {"normalize": False}
    effective, by_scalar = _effective(recipe, scalar)
    arguments = (*moved, *(() if effective is None else (effective,)), *more_scalars)
    with np.errstate(all="ignore"):
        try:
            if value_only and recipe.slip is None:
                value, _ = pair.forward(*arguments, **settings)
                return _sized_value(recipe, np.asarray(value), moved, effective, _reach(pair, recipe, moved))
            called = pair if recipe.slip is None else SLIPS[recipe.slip]
            value, grads = called(*arguments, **settings, **({} if upstream is None else {"upstream": upstream}))
        except ValueError:
            return _nothing(inputs)
    k = len(inputs)
    dmoved = denormalize(tuple(grads[:k]), sphere, recipe.jacobian)
    given = dmoved if order is None else _put_back(dmoved, order)
    grads_of = tuple(
        np.zeros_like(g) if place in recipe.detached else np.asarray(g)
        for place, g in zip(places(k), given, strict=True)
    )
    dscalar = float(grads[k]) * by_scalar if effective is not None else None
    dmore = tuple(float(g) for g in grads[len(grads) - len(more_scalars) :])
    reach = _reach(pair, recipe, moved)
    answer = _sized(recipe, np.asarray(value), grads_of, dscalar, moved, sphere, effective, upstream, reach)
    return answer._replace(dmore=dmore, dmore_sizes=tuple(max(abs(d), answer.value_size) for d in dmore))


def _remembered(settings: dict[str, Any], eps: float) -> dict[str, Any]:
    """Return a memory that the pair itself would have brought to length 1, whatever was done to the inputs."""
    if not settings.get("normalize", True):
        return {}
    return {name: l2_normalize.forward(settings[name], eps=eps)[0] for name in ("bank", "queue") if name in settings}


class Reach(NamedTuple):
    """How large things can get before the scalar: a similarity, and each input's gradient by way of it."""

    similarity: float
    gradients: tuple[Any, ...]


def _reach(pair: AnyPair, recipe: Recipe, moved: tuple[Any, ...]) -> Reach:
    batches = row_of(pair.__name__).batches
    if batches == "temperatures":
        s, temperature = np.max(np.abs(moved[0]), axis=1), moved[1]  # (N,)
        return Reach(float(np.max(s / temperature)), (1 / temperature[:, None], s / temperature**2))
    longest = [float(np.max(np.linalg.norm(x, axis=-1))) for x in moved]
    if batches == "futures":
        context, future = longest[:2]
        form = float(np.max(np.linalg.norm(moved[2], axis=(-2, -1))))
        return Reach(context * form * future, (form * future, context * form, context * future))
    if not recipe.embeddings:
        return Reach(float(np.max(np.abs(moved[0]))), (1.0,))
    return Reach(max(longest) ** 2, (max(longest),) * len(moved))


def _effective(recipe: Recipe, scalar: float | None) -> tuple[float | None, float]:
    """Return the scalar that makes the scale of the recipe, and its derivative by the scalar that was given."""
    if scalar is None or not recipe.scaled:
        return scalar, 1.0
    at, slope = recipe.scale.at(scalar), recipe.scale.slope(scalar)
    if recipe.scalar == "log_scale":
        return (math.log(at), slope / at) if at > 0 else (math.nan, math.nan)
    return (1 / at, -slope / at**2) if at > 0 else (math.nan, math.nan)


def _order(recipe: Recipe, inputs: tuple[Any, ...]) -> Any:
    if recipe.positive is None:
        return None
    n, m = len(inputs[0]), len(inputs[1])
    return recipe.positive(n + np.arange(m), n, m) - n


def _reordered(inputs: tuple[Any, ...], order: Any) -> tuple[Any, ...]:
    return inputs[0], inputs[1][order]


def _put_back(grads: tuple[Any, ...], order: Any) -> tuple[Any, ...]:
    back = np.zeros_like(grads[1])
    np.add.at(back, order, grads[1])
    return grads[0], back


def _steep(recipe: Recipe, effective: float | None) -> float:
    if effective is None or not recipe.scaled:
        return 1.0
    return math.exp(effective) if recipe.scalar == "log_scale" else 1 / effective


def _sized_value(recipe: Recipe, value: Any, moved: tuple[Any, ...], effective: float | None, reach: Reach) -> Expected:
    total = len(moved[0]) if recipe.reduction == "sum" else 1
    size = total * SLACK * (1 + reach.similarity * _steep(recipe, effective)) + float(np.max(np.abs(value))) * SLACK
    return Expected(value.reshape(-1) if value.ndim else value, (), None, size, (), 0.0)


def _sized(
    recipe: Recipe,
    value: Any,
    grads: tuple[Any, ...],
    dscalar: float | None,
    moved: tuple[Any, ...],
    sphere: Any,
    effective: float | None,
    upstream: Any,
    reach: Reach,
) -> Expected:
    forward, steep = _sized_value(recipe, value, moved, effective, reach), _steep(recipe, effective)
    value_size, condition = forward.value_size, SLACK * (1 + reach.similarity * steep)
    count = len(moved[0]) if recipe.reduction == "mean" else 1
    heaviest = 1.0 if upstream is None else float(np.max(np.abs(upstream)))
    floors = [steep * heaviest / count * x for x in reach.gradients]
    lengths = sphere.lengths if sphere is not None else (1.0,) * len(grads)
    sizes = tuple(
        np.maximum(_largest_by_row(g), floor / length) * condition
        for g, floor, length in zip(grads, floors, lengths, strict=True)
    )
    return Expected(
        forward.value, grads, dscalar, value_size, sizes, max(abs(dscalar or 0.0), value_size * steep) * condition
    )


def _largest_by_row(g: Any) -> Any:
    return np.abs(g) if g.ndim == 1 else np.max(np.abs(g), axis=-1, keepdims=True)


def _nothing(inputs: tuple[Any, ...]) -> Expected:
    """Return an answer that agrees with none."""
    return Expected(
        np.asarray(np.nan),
        tuple(np.full_like(x, np.nan) for x in inputs),
        None,
        np.inf,
        tuple(np.inf for _ in inputs),
        0.0,
    )
