"""loss_i -> L: many losses to one number.

In:  one loss an anchor, of any shape.  Out: their mean or sum, a 0-d array, or the losses as they are.
Even the mean has its own backward.
"""

import math
from typing import NamedTuple

from refcl.core.arrays import Array, namespace, ones
from refcl.core.pair import room


class ReduceCache(NamedTuple):
    loss: Array  # (...) for its shape, dtype and device
    reduction: str


def reduce_forward(loss: Array, *, reduction: str = "mean") -> tuple[Array, ReduceCache]:
    """Reduce the losses of the anchors.

    Parameters
    ----------
    loss : (...) array of float32 or float64
        One entry an anchor.
    reduction : str
        "mean", "sum" or "none".

    Returns
    -------
    value : () array, or (...) array where the reduction is "none"
        The mean, the sum, or the losses themselves.
    grads : named tuple
        dloss.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.reduce import reduce
    >>> value, grads = reduce(np.array([1.0, 3.0]))
    >>> value, grads.dloss
    (array(2.), array([0.5, 0.5]))
    """
    xp = namespace(loss)
    cache = ReduceCache(loss, reduction)
    if reduction == "none":
        return loss, cache
    total = xp.sum(loss)
    return xp.asarray(total / math.prod(loss.shape) if reduction == "mean" else total), cache


def reduce_backward(dvalue: Array, cache: ReduceCache) -> Array:
    """Return dloss: dvalue for each anchor, over their number where the mean was taken."""
    loss, reduction = cache
    if reduction == "none":
        return dvalue
    count = math.prod(loss.shape) if reduction == "mean" else 1
    return ones(loss.shape, like=loss) * (dvalue / count)


class WeighCache(NamedTuple):
    loss: Array  # (N,)
    anchor_weight: Array  # (N,)


def weigh_forward(loss: Array, anchor_weight: Array) -> tuple[Array, WeighCache]:
    """Multiply the loss of each anchor by what it is worth."""
    return loss * anchor_weight, WeighCache(loss, anchor_weight)


def weigh_backward(dweighed: Array, cache: WeighCache) -> tuple[Array, Array]:
    """Return dloss = a dweighed and da = L dweighed."""
    return dweighed * cache.anchor_weight, dweighed * cache.loss


reduce = room(reduce_forward, reduce_backward)
