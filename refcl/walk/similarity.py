"""z, z' -> s: how alike each anchor and each candidate are.

In:  anchors ``z`` (N, D) and candidates ``other`` (M, D), or (N, K, D) where each anchor has its own.
Out: similarities ``s`` (N, M) or (N, K); as inner products, cosines in [-1, 1] where both lie on the unit sphere.
"""

from typing import NamedTuple

from refcl.core.arguments import Floats
from refcl.core.arrays import Array, namespace
from refcl.core.pair import room
from refcl.walk.sphere import NormalizeCache, l2_normalize_backward, l2_normalize_forward


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
    grads : named tuple
        dz, dother.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.similarity import inner_product
    >>> s, grads = inner_product(np.array([[1.0, 0.0]]), np.array([[0.6, 0.8], [0.0, 1.0]]))
    >>> s
    array([[0.6, 0. ]])
    """
    return z @ other.T, InnerProductCache(z, other)


def inner_product_backward(ds: Array, cache: InnerProductCache) -> tuple[Array, Array]:
    """Return dz = ds z' and dz' = dsᵀ z: every pair pulls each of its two ends along the other."""
    return ds @ cache.other, ds.T @ cache.z


class RowwiseProductCache(NamedTuple):
    z: Array  # (N, D)
    other: Array  # (N, K, D)


def rowwise_product_forward(z: Array, other: Array) -> tuple[Array, RowwiseProductCache]:
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
    grads : named tuple
        dz, dother.

    Notes
    -----
    `inner_product` shares its candidates among all anchors. Here none is shared: MoCo's positive keys, the noise that
    is drawn for each sample.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.similarity import rowwise_product
    >>> s, grads = rowwise_product(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[[0.6, 0.8]], [[0.6, 0.8]]]))
    >>> s
    array([[0.6],
           [0.8]])
    """
    return (other @ z[:, :, None])[:, :, 0], RowwiseProductCache(z, other)


def rowwise_product_backward(ds: Array, cache: RowwiseProductCache) -> tuple[Array, Array]:
    """Return dz_i = Σ_k ds_ik z'_ik and dz'_ik = ds_ik z_i."""
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
    grads : named tuple
        dz, dother, dweight.

    References
    ----------
    van den Oord, Li and Vinyals (CPC), arXiv 1807.03748, Eq. 3.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.similarity import bilinear
    >>> s, grads = bilinear(np.array([[1.0, 2.0]]), np.array([[3.0]]), np.array([[1.0], [0.5]]))
    >>> s, grads.dweight
    (array([[6.]]), array([[3.],
           [6.]]))
    """
    return z @ weight @ other.T, BilinearCache(z, other, weight)


def bilinear_backward(ds: Array, cache: BilinearCache) -> tuple[Array, Array, Array]:
    """Return dz = ds z' Wᵀ, dz' = dsᵀ z W and dW = zᵀ ds z'.

    s is an inner product twice over, of zW with z' and of z with z'Wᵀ; and each entry of W meets every pair.
    """
    z, other, weight = cache
    pulled = ds @ other  # (N, E) what each anchor's expectation is pulled along
    return pulled @ weight.T, ds.T @ (z @ weight), z.T @ pulled


class CosineSimilarityCache(NamedTuple):
    query: NormalizeCache | None  # None where rows were taken as they are
    key: NormalizeCache | None
    product: InnerProductCache


def cosine_similarity_forward(
    query: Array, key: Array, *, normalize: bool, eps: float
) -> tuple[Array, CosineSimilarityCache]:
    """Walk from embeddings to similarities: sphere (unless ``normalize`` is False), then inner products."""
    on_sphere_query = on_sphere_key = None
    if normalize:
        query, on_sphere_query = l2_normalize_forward(query, eps=eps)
        key, on_sphere_key = l2_normalize_forward(key, eps=eps)
    s, product = inner_product_forward(query, key)
    return s, CosineSimilarityCache(on_sphere_query, on_sphere_key, product)


def cosine_similarity_backward(ds: Array, cache: CosineSimilarityCache) -> tuple[Array, Array]:
    """Return dquery and dkey: inner products, then the sphere, the other way round."""
    dquery, dkey = inner_product_backward(ds, cache.product)
    if cache.query is not None and cache.key is not None:
        dkey = l2_normalize_backward(dkey, cache.key)
        dquery = l2_normalize_backward(dquery, cache.query)
    return dquery, dkey


class OwnSimilarityCache(NamedTuple):
    on_sphere: NormalizeCache | None  # of the (N H, D) rows; None where they were taken as they are
    product: RowwiseProductCache
    shared: int  # M, the columns before them


def own_similarity_forward(
    s: Array,
    own: Array,
    compared: CosineSimilarityCache,
    log_weight: Array | None,
    targets: Array | None,
    ignore: Array | None,
    *,
    normalize: bool,
    eps: float,
) -> tuple[tuple[Array, Array | None, Array | None, Array | None], OwnSimilarityCache]:
    """Put each anchor's own candidates (N, H, D) behind those that all share, as negatives of weight 1."""
    xp, on_sphere, shape = namespace(s), None, own.shape
    if normalize:
        rows, on_sphere = l2_normalize_forward(xp.reshape(own, (-1, shape[2])), eps=eps)
        own = xp.reshape(rows, shape)
    s_own, product = rowwise_product_forward(compared.product.z, own)  # (N, H)
    none = xp.zeros_like(s_own)
    weight, target = (None if x is None else xp.concat((x, none), axis=1) for x in (log_weight, targets))
    left_out = None if ignore is None else xp.concat((ignore, none > 0), axis=1)
    more = xp.concat((s, s_own), axis=1), weight, target, left_out  # (N, M + H) each
    return more, OwnSimilarityCache(on_sphere, product, s.shape[1])


def own_similarity_backward(
    ds: Array,
    compared: CosineSimilarityCache,
    cache: OwnSimilarityCache,
    dlog_weight: Array | None,
    dtargets: Array | None,
) -> tuple[Array, Array, Array, Array | None, Array | None]:
    """Return ds (N, M), what the anchors get from their own candidates, down (N, H, D), and the rest cut to M."""
    dquery, down = rowwise_product_backward(ds[:, cache.shared :], cache.product)
    if compared.query is not None:
        dquery = l2_normalize_backward(dquery, compared.query)
    if cache.on_sphere is not None:
        rows = namespace(ds).reshape(down, (-1, down.shape[2]))
        down = namespace(ds).reshape(l2_normalize_backward(rows, cache.on_sphere), down.shape)
    weight, target = (None if x is None else x[:, : cache.shared] for x in (dlog_weight, dtargets))
    return ds[:, : cache.shared], dquery, down, weight, target


class MemorySimilarityCache(NamedTuple):
    on_sphere: NormalizeCache | None  # of the anchors; None where rows were taken as they are
    memory: Array  # (M, D) as it was compared


def memory_similarity_forward(
    query: Array, memory: Array, *, normalize: bool, eps: float
) -> tuple[Array, Array, MemorySimilarityCache]:
    """Walk from anchors to embeddings and to their similarities with a memory."""
    on_sphere = None
    if normalize:
        query, on_sphere = l2_normalize_forward(query, eps=eps)
        memory, _ = l2_normalize_forward(memory, eps=eps)
    s, _ = inner_product_forward(query, memory)
    return query, s, MemorySimilarityCache(on_sphere, memory)


def memory_similarity_backward(dz: Array | float, ds: Array, cache: MemorySimilarityCache) -> Array:
    """Return dquery, from what the embeddings got elsewhere and the memory's pull: for the memory nothing is
    computed."""
    dz = dz + ds @ cache.memory  # (N, D)
    return dz if cache.on_sphere is None else l2_normalize_backward(dz, cache.on_sphere)


inner_product = room(inner_product_forward, inner_product_backward)
rowwise_product = room(rowwise_product_forward, rowwise_product_backward, other="N K D")
bilinear = room(bilinear_forward, bilinear_backward, other="M E", weight=Floats("D E"))
