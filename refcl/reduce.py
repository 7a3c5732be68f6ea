"""loss_i -> L: many losses to one number.

In:  one loss an anchor, of any shape.  Out: their mean or sum, a 0-d array, or the losses as they are.
Even the mean has its own backward.
"""

from typing import NamedTuple

from refcl import validate
from refcl.backend import Array, ones
from refcl.pair import Pair


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
    cache : ReduceCache
        What the backward reads.

    Raises
    ------
    ValueError
        Where the reduction is none of the three.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.reduce import reduce
    >>> value, grads = reduce(np.array([1.0, 3.0]))
    >>> value, grads.dloss
    (array(2.), array([0.5, 0.5]))
    """
    xp = validate.floats("reduce", loss=(loss, "..."))
    reduction = validate.reduction("reduce", reduction)
    cache = ReduceCache(loss, reduction)
    if reduction == "none":
        return loss, cache
    total = xp.sum(loss)
    return xp.asarray(total / loss.size if reduction == "mean" else total), cache


def reduce_backward(dvalue: Array, cache: ReduceCache) -> Array:
    """Return dloss: dvalue for each anchor, over their number where the mean was taken."""
    loss, reduction = cache
    if reduction == "none":
        return dvalue
    count = loss.size if reduction == "mean" else 1
    return ones(loss.shape, like=loss) * (dvalue / count)


reduce = Pair(reduce_forward, reduce_backward)
