"""Gradients -> new parameters.

In:  parameters, their gradients and the optimiser's state, all nested tuples of arrays.
Out: new parameters and a new state; what came in is left as it was.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from refcl.backend import namespace

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


class SgdState(NamedTuple):
    velocity: Tree


def start_sgd(params: Tree) -> SgdState:
    """Return the state of `sgd` before the first step."""
    return SgdState(tree_map(lambda p: p * 0, params))


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
    >>> from refcl.experiment.optim import sgd, start_sgd
    >>> params, state = sgd((1.0,), (2.0,), start_sgd((1.0,)), rate=0.1, weight_decay=0.0)
    >>> params
    (0.8,)
    """
    velocity = tree_map(lambda v, g, p: momentum * v + (g + weight_decay * p), state.velocity, grads, params)
    return tree_map(lambda p, v: p - rate * v, params, velocity), SgdState(velocity)


class AdamState(NamedTuple):
    """What a step adds to, each entry fading: a gradient of n steps ago counts β₁ⁿ, its square β₂ⁿ."""

    total: Tree
    square_total: Tree
    step: int


def start_adam(params: Tree) -> AdamState:
    """Return the state of `adam` before the first step."""
    zeros = tree_map(lambda p: p * 0, params)
    return AdamState(zeros, zeros, 0)


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
    >>> from refcl.experiment.optim import adam, start_adam
    >>> params = (np.array([1.0]),)
    >>> after, state = adam(params, (np.array([5.0]),), start_adam(params), rate=0.1)
    >>> after[0].round(6)  # the first step is as long as the rate, whatever the gradient's size
    array([0.9])
    """
    step = state.step + 1
    # A total over the sum of its weights, 1 + β + ... + β^(step − 1), is a mean. These sums are numbers of the host:
    # mean/(√square mean + eps) = total/(√square total + eps √square weight) · √square weight/weight.
    weight, square_weight = ((1.0 - beta**step) / (1.0 - beta) for beta in betas)
    root = square_weight**0.5
    if weight_decay:
        grads = tree_map(lambda g, p: g + weight_decay * p, grads, params)

    def faded(before: Tree, new: Tree, beta: float) -> Tree:
        total = beta * before
        total += new  # what was allocated is used again: an array comes cold from memory
        return total

    def moved(p: Tree, total: Tree, square_total: Tree) -> Tree:
        change = namespace(square_total).sqrt(square_total)
        change += eps * root
        change = total / change
        change *= -rate * root / weight
        change += p
        return change

    total = tree_map(lambda before, g: faded(before, g, betas[0]), state.total, grads)
    square_total = tree_map(lambda before, g: faded(before, g * g, betas[1]), state.square_total, grads)
    return tree_map(moved, params, total, square_total), AdamState(total, square_total, step)


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
