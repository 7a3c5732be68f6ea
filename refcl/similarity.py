"""z, z' -> s: how alike each anchor and each candidate are.

In:  anchors ``z`` (N, D) and candidates ``other`` (M, D).
Out: similarities ``s`` (N, M); cosines in [-1, 1] where both lie on the unit sphere.
"""

from typing import NamedTuple

from refcl.backend import Array
from refcl.pair import Pair
from refcl.validate import floats


class InnerProductCache(NamedTuple):
    z: Array  # (N, D)
    other: Array  # (M, D)


def inner_product_forward(z: Array, other: Array) -> tuple[Array, InnerProductCache]:
    r"""Return the inner product of each anchor with each candidate.

    Parameters
    ----------
    z : (N, D) array of float32 or float64
        Anchors.
    other : (M, D) array
        Candidates.

    Returns
    -------
    s : (N, M) array
        :math:`s_{ik} = \langle z_i, z'_k\rangle`, Section 3 of the paper.
    cache : InnerProductCache
        What the backward reads.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.similarity import inner_product
    >>> s, grads = inner_product(np.array([[1.0, 0.0]]), np.array([[0.6, 0.8], [0.0, 1.0]]))
    >>> s
    array([[0.6, 0. ]])
    """
    floats("inner_product", z=(z, "N D"), other=(other, "M D"))
    return z @ other.T, InnerProductCache(z, other)


def inner_product_backward(ds: Array, cache: InnerProductCache) -> tuple[Array, Array]:
    """Return dz = ds z' and dz' = dsᵀ z: every pair pulls each of its two ends along the other."""
    floats("inner_product", ds=(ds, "N M"), z=(cache.z, "N D"), other=(cache.other, "M D"))
    return ds @ cache.other, ds.T @ cache.z


inner_product = Pair(inner_product_forward, inner_product_backward)
