"""Alignment with a uniformity that is made wrongly: over a row's pair with itself too, or of one view alone.

In:  two views, normalized, and the settings of `align_uniform`.
Out: a value and its gradients.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from refcl.losses import align_uniform
from refcl.metrics import uniformity


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
