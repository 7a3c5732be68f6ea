"""Gradients -> new parameters.

In:  parameters and their gradients, nested tuples of arrays alike, and the optimiser's state.
Out: new parameters and a new state; what came in is left as it was.
A step treats every number alike, so all of them are laid in one row first: ten small arrays cost ten times the calls.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from refcl.core.arrays import Array, namespace, zeros

OPTIMIZERS = ("adam", "sgd")

Tree: TypeAlias = Any  # an array, or a tuple of trees


def tree_map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply a function to the arrays of nested tuples of the same shape.

    Parameters
    ----------
    function : callable
        Takes one array of each tree.
    tree, *others : nested tuples of arrays
        All nested alike.

    Returns
    -------
    nested tuple
        Of what the function returned.

    Examples
    --------
    >>> from refcl.experiment.optim import tree_map
    >>> tree_map(lambda a, b: a + b, (1, (2, 3)), (10, (20, 30)))
    (11, (22, 33))
    """
    if isinstance(tree, tuple):
        return tuple(tree_map(function, *branches) for branches in zip(tree, *others, strict=True))
    return function(tree, *others)


def in_one_row(tree: Tree, like: Tree) -> Array:
    """Return the numbers of a tree in one row.

    Parameters
    ----------
    tree, like : nested tuples of arrays
        Their arrays have the same shapes, one by one.

    Returns
    -------
    (P,) array
        A copy.

    Raises
    ------
    ValueError
        Where the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.optim import in_one_row
    >>> params = np.eye(2), (np.array([5.0]),)
    >>> in_one_row(params, params)
    array([1., 0., 0., 1., 5.])
    """
    parts = _leaves(tree)
    came, expected = [x.shape for x in parts], [x.shape for x in _leaves(like)]
    if came != expected:
        raise ValueError(f"expected arrays of shapes {expected}, got {came}.")
    return namespace(parts[0]).concat(parts, axis=None)


def as_tree(row: Array, like: Tree) -> Tree:
    """Return a row nested and shaped like a tree: views of it.

    Parameters
    ----------
    row : (P,) array
        As many numbers as the tree holds.
    like : nested tuple of arrays
        Whose nesting and shapes the result has.

    Returns
    -------
    nested tuple
        Of arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.optim import as_tree
    >>> as_tree(np.arange(3.0), (np.zeros((2, 1)), (np.zeros(1),)))
    (array([[0.],
           [1.]]), (array([2.]),))
    """
    xp, start = namespace(row), 0

    def take(x: Array) -> Array:
        nonlocal start
        size = math.prod(x.shape)
        start += size
        return xp.reshape(row[start - size : start], x.shape)

    return tree_map(take, like)


class SgdState(NamedTuple):
    """What momentum keeps between two steps."""

    velocity: Array  # (P,) of all parameters in one row


def start_sgd(params: Tree) -> SgdState:
    """Return the state of `sgd` before the first step."""
    return SgdState(_at_rest(params))


def sgd(
    params: Tree, grads: Tree, state: SgdState, *, rate: float, momentum: float = 0.9, weight_decay: float = 5e-4
) -> tuple[Tree, SgdState]:
    """Take a step of stochastic gradient descent with momentum.

    Parameters
    ----------
    params, grads : nested tuples of arrays
        Parameters and the loss's gradients.
    state : SgdState
        Of the step before, or `start_sgd`.
    rate : float
        Learning rate.
    momentum, weight_decay : float
        v <- momentum v + (grad + weight_decay p); p <- p - rate v, as in PyTorch.

    Returns
    -------
    params, state
        After the step.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.optim import sgd
    >>> from refcl.experiment.optim import start_sgd
    >>> params = (np.array([1.0]),)
    >>> after, state = sgd(params, (np.array([2.0]),), start_sgd(params), rate=0.1, weight_decay=0.0)
    >>> after
    (array([0.8]),)
    """
    p, g = in_one_row(params, params), in_one_row(grads, params)  # (P,)
    velocity = momentum * state.velocity + (g + weight_decay * p)
    return as_tree(p - rate * velocity, params), SgdState(velocity)


class AdamState(NamedTuple):
    """Running means of the gradients and of their squares; both start at zero, towards which they are biased."""

    mean: Array  # (P,) of all parameters in one row
    square: Array  # (P,)
    step: int


def start_adam(params: Tree) -> AdamState:
    """Return the state of `adam` before the first step."""
    return AdamState(_at_rest(params), _at_rest(params), 0)


def adam(
    params: Tree,
    grads: Tree,
    state: AdamState,
    *,
    rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[Tree, AdamState]:
    """Take a step of Adam.

    Parameters
    ----------
    params, grads : nested tuples of arrays
        Parameters and the loss's gradients.
    state : AdamState
        Of the step before, or `start_adam`.
    rate : float
        Learning rate.
    betas : tuple of two float
        How much of the running mean and of the running square is kept.
    eps : float
        Added to the root of the square.
    weight_decay : float
        Added to the gradient as weight_decay p, as in torch.optim.Adam.

    Returns
    -------
    params, state
        After the step.

    References
    ----------
    Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.optim import adam
    >>> from refcl.experiment.optim import start_adam
    >>> params = (np.array([1.0]),)
    >>> after, state = adam(params, (np.array([5.0]),), start_adam(params), rate=0.1)
    >>> after[0].round(6)  # the first step is as long as the rate, whatever the gradient's size
    array([0.9])
    """
    step = state.step + 1
    p, g = in_one_row(params, params), in_one_row(grads, params)  # (P,)
    if weight_decay:
        g = g + weight_decay * p
    # In place where the array is this function's own: a step of a small encoder is mostly this.
    mean = betas[0] * state.mean
    mean += (1.0 - betas[0]) * g
    square = betas[1] * state.square
    square += (1.0 - betas[1]) * g * g
    change = mean / (1.0 - betas[0] ** step)
    change *= rate
    scale = namespace(p).sqrt(square / (1.0 - betas[1] ** step))
    scale += eps
    change /= scale
    p -= change
    return as_tree(p, params), AdamState(mean, square, step)


def _leaves(tree: Tree) -> list[Array]:
    return [leaf for branch in tree for leaf in _leaves(branch)] if isinstance(tree, tuple) else [tree]


def _at_rest(params: Tree) -> Array:
    row = in_one_row(params, params)
    return zeros(row.shape, like=row)


def step_schedule(
    rate: float, epoch: int, epochs: int, *, drops: tuple[float, ...] = (0.8, 0.95), factor: float = 0.1
) -> float:
    """Return the learning rate of an epoch: a tenth after 80 % of the epochs and again after 95 %.

    Parameters
    ----------
    rate : float
        At the start.
    epoch, epochs : int
        Which one, from 0, and how many there are.
    drops : tuple of float
        After which shares of the epochs it drops; the paper's 160 and 190 of 200 by default.
    factor : float
        What it is multiplied by at each drop.

    Returns
    -------
    float
        The rate of this epoch.

    Examples
    --------
    >>> from refcl.experiment.optim import step_schedule
    >>> [round(step_schedule(0.03, epoch, 200), 6) for epoch in (0, 159, 160, 190)]
    [0.03, 0.03, 0.003, 0.0003]
    """
    return rate * factor ** sum(epoch >= drop * epochs for drop in drops)
