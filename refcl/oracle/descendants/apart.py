"""No pool: SigLIP, where every pair stands by itself, and alignment with uniformity.

In:  similarities and a recipe; for alignment and uniformity two views, and which slip is made.
Out: the losses of the anchors and the way back; a value and its gradients.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from refcl.losses import align_uniform
from refcl.metrics import uniformity
from refcl.oracle.pools import Pooled
from refcl.oracle.recipe import Recipe
from refcl.oracle.roles import Roles
from refcl.walk.penalty import softplus


def pool_apart(recipe: Recipe, s: Any, t: float, roles: Roles, bias: float) -> Pooled:
    """L = softplus(−(α s_p + b)) + Σ_k softplus(α s_k + b)."""
    sign = np.where(roles.negatives, 1.0, -1.0)  # (A, T)
    alpha = recipe.scale
    charged, cache = softplus.forward((sign * (alpha.at(t) * s + bias)).ravel())
    loss = np.sum(np.where(roles.candidates, charged.reshape(s.shape), 0.0), axis=1)

    def back(dloss: Any) -> tuple[Any, float | None, float]:
        upstream = np.where(roles.candidates, dloss[:, None], 0.0)
        dlogits = sign * softplus.backward(upstream.ravel(), cache).reshape(s.shape)
        terms = alpha.slope(t) * dlogits * s
        return alpha.at(t) * dlogits, float(np.sum(terms)), float(np.sum(np.abs(terms)))

    largest = float(np.max(np.abs(np.where(roles.candidates, alpha.at(t) * s, 0.0)), initial=0.0))
    return Pooled(loss, back, abs(alpha.at(t)), s.shape[1] * (1 + largest + abs(bias)))


def _uniformities(
    a: Any, b: Any, settings: dict[str, Any], of: Callable[[Any], tuple[Any, Any]], weights: tuple[float, float]
) -> tuple[Any, tuple[Any, Any]]:
    """Return alignment as it should be plus uniformities as they are, of rows that are normalized already."""
    value, grads = align_uniform(a, b, **settings | {"uniform_weight": 0.0})
    moved = []
    for weight, z, d in zip(weights, (a, b), grads, strict=True):
        weight = weight * settings.get("uniform_weight", 1.0)
        uniform, dz = of(z)
        value = value + weight * uniform
        moved.append(d + weight * dz)
    return value, (moved[0], moved[1])


def _with_own_pairs(a: Any, b: Any, **settings: Any) -> tuple[Any, tuple[Any, Any]]:
    """Uniformity over all N² pairs: those of a row with itself add N exp(0)."""
    n = len(a)

    def of(z: Any) -> tuple[Any, Any]:
        right, (dz,) = uniformity(z, t=settings.get("t", 2.0))
        total = (1 - 1 / n) * np.exp(right) + 1 / n
        return np.log(total), dz * (1 - 1 / n) * np.exp(right) / total

    return _uniformities(a, b, settings, of, (0.5, 0.5))


def _of_one_view(first: bool) -> Callable[..., tuple[Any, tuple[Any, Any]]]:
    def loss(a: Any, b: Any, **settings: Any) -> tuple[Any, tuple[Any, Any]]:
        def of(z: Any) -> tuple[Any, Any]:
            value, (dz,) = uniformity(z, t=settings.get("t", 2.0))
            return value, dz

        return _uniformities(a, b, settings, of, (1.0, 0.0) if first else (0.0, 1.0))

    return loss


# What stands in the place of the pair where a slip was made.
SLIPS: dict[str, Callable[..., tuple[Any, tuple[Any, Any]]]] = {
    "own pairs": _with_own_pairs,
    "uniformity of the first view": _of_one_view(True),
    "uniformity of the second view": _of_one_view(False),
}
