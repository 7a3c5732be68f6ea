"""z, z' -> s: how alike each anchor and each candidate are.

In:  anchors ``z`` (N, D) and candidates ``other`` (M, D), or (N, K, D) where each anchor has its own.
Out: similarities ``s`` (N, M) or (N, K); as inner products, cosines in [-1, 1] where both lie on the unit sphere.
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


class OwnProductCache(NamedTuple):
    z: Array  # (N, D)
    other: Array  # (N, K, D)


def own_product_forward(z: Array, other: Array) -> tuple[Array, OwnProductCache]:
    r"""Return the inner product of each anchor with the candidates that are its alone.

    Parameters
    ----------
    z : (N, D) array of float32 or float64
        Anchors.
    other : (N, K, D) array
        K candidates for each anchor.

    Returns
    -------
    s : (N, K) array
        :math:`s_{ik} = \langle z_i, z'_{ik}\rangle`.
    cache : OwnProductCache
        What the backward reads.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape.

    Notes
    -----
    `inner_product` shares its candidates among all anchors. Here none is shared: MoCo's positive keys, the noise that
    is drawn for each sample.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.similarity import own_product
    >>> s, grads = own_product(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[[0.6, 0.8]], [[0.6, 0.8]]]))
    >>> s
    array([[0.6],
           [0.8]])
    """
    floats("own_product", z=(z, "N D"), other=(other, "N K D"))
    return (other @ z[:, :, None])[:, :, 0], OwnProductCache(z, other)


def own_product_backward(ds: Array, cache: OwnProductCache) -> tuple[Array, Array]:
    """Return dz_i = Σ_k ds_ik z'_ik and dz'_ik = ds_ik z_i."""
    floats("own_product", ds=(ds, "N K"), z=(cache.z, "N D"), other=(cache.other, "N K D"))
    return (ds[:, None, :] @ cache.other)[:, 0, :], ds[:, :, None] * cache.z[:, None, :]


class BilinearCache(NamedTuple):
    z: Array  # (N, D)
    other: Array  # (M, E)
    weight: Array  # (D, E)


def bilinear_forward(z: Array, other: Array, weight: Array) -> tuple[Array, BilinearCache]:
    r"""Return the bilinear form of each anchor with each candidate.

    Parameters
    ----------
    z : (N, D) array of float32 or float64
        Anchors.
    other : (M, E) array
        Candidates, of a space of their own.
    weight : (D, E) array
        The form: what an anchor expects, :math:`z W`, lies in the candidates' space.

    Returns
    -------
    s : (N, M) array
        :math:`s_{ik} = z_i^\top W z'_k`, of any size: nothing is on a sphere.
    cache : BilinearCache
        What the backward reads.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape.

    References
    ----------
    van den Oord, Li and Vinyals (CPC), arXiv 1807.03748, Eq. 3.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.similarity import bilinear
    >>> s, grads = bilinear(np.array([[1.0, 2.0]]), np.array([[3.0]]), np.array([[1.0], [0.5]]))
    >>> s, grads.dweight
    (array([[6.]]), array([[3.],
           [6.]]))
    """
    floats("bilinear", z=(z, "N D"), other=(other, "M E"), weight=(weight, "D E"))
    return z @ weight @ other.T, BilinearCache(z, other, weight)


def bilinear_backward(ds: Array, cache: BilinearCache) -> tuple[Array, Array, Array]:
    """Return dz = ds z' Wᵀ, dz' = dsᵀ z W and dW = zᵀ ds z'.

    s is an inner product twice over, of zW with z' and of z with z'Wᵀ; and each entry of W meets every pair.
    """
    floats("bilinear", ds=(ds, "N M"), z=(cache.z, "N D"), other=(cache.other, "M E"))
    z, other, weight = cache
    pulled = ds @ other  # (N, E) what each anchor's expectation is pulled along
    return pulled @ weight.T, ds.T @ (z @ weight), z.T @ pulled


inner_product = Pair(inner_product_forward, inner_product_backward)
own_product = Pair(own_product_forward, own_product_backward)
bilinear = Pair(bilinear_forward, bilinear_backward)
