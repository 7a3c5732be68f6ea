"""Derivatives by differences: the judge of every backward.

In:  a function of a tree of host arrays, whose value is a number.
Out: its gradient, or its derivative along a direction, by 4th-order central differences in float64.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from backends import flat, leaves, map_leaves

Function = Callable[[Any], float]


def derivative(function: Callable[[float], float], step: float) -> float:
    """Return f'(0): off by step⁴ f⁽⁵⁾/30, and by the rounding of f over the step."""
    near = function(step) - function(-step)
    far = function(2 * step) - function(-2 * step)
    return (8 * near - far) / (12 * step)


def along(function: Function, inputs: Any, direction: Any, *, step: float) -> float:
    """Return the derivative of a function along a direction, a tree of the form of its inputs."""

    def moved(distance: float) -> float:
        moves = iter(list(leaves(direction)))
        return function(map_leaves(lambda x: x + distance * next(moves), inputs))

    return derivative(moved, step)


def gradient(function: Function, inputs: Any, *, step: float) -> Any:
    """Return the derivative by each entry of each input, a tree of the form of the inputs."""
    zeros = map_leaves(np.zeros_like, inputs)
    direction = [np.array(x) for x in leaves(zeros)]
    partial = [np.array(x) for x in direction]
    for moving, into in zip(direction, partial, strict=True):
        for index in np.ndindex(moving.shape):
            moving[index] = 1.0
            into[index] = along(function, inputs, tuple(direction), step=step)
            moving[index] = 0.0
    filled = iter(partial)
    return map_leaves(lambda _: next(filled), zeros)


def noise(function: Function, inputs: Any, *, step: float) -> float:
    """Return how far an entry of the differences may be off for the rounding of the function alone."""
    return float(200 * np.finfo(np.float64).eps * max(1.0, abs(function(inputs))) / step)


def check_against(got: tuple[Any, ...], numeric: tuple[Any, ...], rounding: float) -> None:
    """Check the gradient by each input: relative to its norm, but for the noise of the differences.

    An error of a part in 10⁸ is found, a gradient of zeros never passes for one that is not zero.
    """
    assert len(got) == len(numeric)
    for position, (mine, reference) in enumerate(zip(got, numeric, strict=True)):
        error = float(np.linalg.norm(flat(mine) - flat(reference)))
        allowed = 1e-8 * float(np.linalg.norm(flat(reference))) + rounding * flat(reference).size ** 0.5
        assert error <= allowed, (
            f"gradient {position} is off by {error:.3g}, allowed {allowed:.3g}:\n{mine}\nby differences\n{reference}"
        )


def check_gradient(got: tuple[Any, ...], function: Function, inputs: tuple[Any, ...], *, step: float) -> None:
    """Check gradients against differences."""
    check_against(got, gradient(function, inputs, step=step), noise(function, inputs, step=step))
