"""A loss that has no pool of the recipe's own: its rooms where they are known, else its pair, entered wrongly.

In:  a pair, a recipe, the inputs and the scalar.
Out: the same as of `recipe.evaluate`: value, gradients and their rounding sizes.
What can be made wrongly around any pair: the sphere, the temperature, which row is whose positive, what is detached.
What can be made wrongly inside: see `descendants`.
"""

import math
from typing import Any

import numpy as np

from refcl.oracle.descendants import SLIPS, pool_of
from refcl.oracle.normalizing import denormalize, normalize
from refcl.oracle.recipe import Expected, Recipe, evaluate
from refcl.pair import Pair

SLACK = 4.0  # nothing is known about the inside of the loss, so that its roundings are counted generously


def evaluate_pair(
    recipe: Recipe,
    pair: Pair,
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
        return evaluate(
            recipe,
            inputs,
            scalar,
            upstream=None if upstream is None else upstream.reshape(-1),
            positive=settings.get("positive"),
            ignore=settings.get("ignore"),
            value_only=value_only,
            pool=pool_of(pair.__name__, settings, more_scalars),
        )
    if recipe.positive is not None and len(inputs) != 2:
        return _nothing(inputs)
    order = _order(recipe, inputs)
    moved = inputs if order is None else _reordered(inputs, order)
    sphere = None
    if "normalize" in pair.settings:
        moved, sphere = normalize(moved, recipe.normalization, recipe.eps)
        settings = settings | {"normalize": False}
    effective, by_scalar = _effective(recipe, scalar)
    arguments = (*moved, *(() if effective is None else (effective,)), *more_scalars)
    with np.errstate(all="ignore"):
        try:
            called = pair if recipe.slip is None else SLIPS[recipe.slip]
            value, grads = called(*arguments, **settings, **({} if upstream is None else {"upstream": upstream}))
        except ValueError:
            return _nothing(inputs)
    k = len(inputs)
    dmoved = denormalize(tuple(grads[:k]), sphere, recipe.jacobian)
    given = dmoved if order is None else _put_back(dmoved, order)
    places = ("first", "second")
    grads_of = tuple(
        np.zeros_like(g) if place in recipe.detached else np.asarray(g) for place, g in zip(places, given, strict=False)
    )
    dscalar = float(grads[k]) * by_scalar if effective is not None else None
    return _sized(recipe, np.asarray(value), grads_of, dscalar, moved, sphere, effective, upstream)


def _effective(recipe: Recipe, scalar: float | None) -> tuple[float | None, float]:
    """Return the scalar that makes the scale of the recipe, and its derivative by the scalar that was given."""
    if scalar is None or recipe.scalar not in ("temperature", "log_scale"):
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


def _sized(
    recipe: Recipe,
    value: Any,
    grads: tuple[Any, ...],
    dscalar: float | None,
    moved: tuple[Any, ...],
    sphere: Any,
    effective: float | None,
    upstream: Any,
) -> Expected:
    longest = [float(np.max(np.linalg.norm(x, axis=1))) for x in moved]
    nearest = max(longest) ** 2 if recipe.embeddings else float(np.max(np.abs(moved[0])))
    steep = 1.0
    if effective is not None and recipe.scalar in ("temperature", "log_scale"):
        steep = math.exp(effective) if recipe.scalar == "log_scale" else 1 / effective
    condition = SLACK * (1 + nearest * steep)
    count = len(moved[0]) if recipe.reduction == "mean" else 1
    total = len(moved[0]) if recipe.reduction == "sum" else 1
    heaviest = 1.0 if upstream is None else float(np.max(np.abs(upstream)))
    floor = steep * heaviest / count * (max(longest) if recipe.embeddings else 1.0)
    lengths = sphere.lengths if sphere is not None else (1.0,) * len(grads)
    flat = value.reshape(-1) if value.ndim else value
    value_size = total * condition + float(np.max(np.abs(value))) * SLACK
    sizes = tuple(
        np.maximum(np.max(np.abs(g), axis=1, keepdims=True), floor / length) * condition
        for g, length in zip(grads, lengths, strict=True)
    )
    return Expected(flat, grads, dscalar, value_size, sizes, max(abs(dscalar or 0.0), value_size * steep) * condition)


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
