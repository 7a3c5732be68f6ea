"""query, key -> L: the losses of the paper end to end, from embeddings, in one direction.

In:  anchors ``query`` (N, D) and candidates ``key`` (M, D).
Out: a loss and the gradient of both. Each is the walk sphere, similarity, and then a loss on similarities.
``key`` may have more rows than ``query``: the rest are negatives shared by all anchors, a memory bank or a queue.
"""

from typing import Any, NamedTuple

from refcl import tiled, validate
from refcl.backend import Array
from refcl.losses.on_similarities import (
    hard_simple_contrastive_backward,
    hard_simple_contrastive_forward,
    hard_softmax_contrastive_backward,
    hard_softmax_contrastive_forward,
    simple_contrastive_backward,
    simple_contrastive_forward,
    softmax_contrastive_backward,
    softmax_contrastive_forward,
)
from refcl.pair import Pair
from refcl.pairing import check_roles
from refcl.similarity import InnerProductCache, inner_product_backward, inner_product_forward
from refcl.sphere import NormalizeCache, l2_normalize_backward, l2_normalize_forward


def info_nce_forward(
    query: Array,
    key: Array,
    temperature: Any = 0.1,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
) -> tuple[Array, Any]:
    r"""InfoNCE in one direction: the softmax contrastive loss of embeddings.

    Parameters
    ----------
    query : (N, D) array of float32 or float64
        Anchors.
    key : (M, D) array
        Candidates, M >= N unless ``positive`` is given.
    temperature : float or () array
        τ > 0, dimensionless.
    positive : (N,) array of integers, optional
        Row of ``key`` that is each anchor's positive; by default 0, 1, ..., N − 1.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines.
    eps : float
        Shortest length to divide by when normalizing, > 0.
    tile : int, optional
        Rows of a strip: S is computed a strip at a time, in memory proportional to N + M. None: dense where that is
        small, strips where it is not. NumPy and CuPy only; elsewhere None is dense.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    cache : tuple
        What the backward reads; the pair returns the gradients dquery (N, D), dkey (M, D) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    `softmax_contrastive` with :math:`s_{ik} = \langle z_i, z'_k\rangle`. Where query and key play the same part, `clip`
    takes the mean of both directions, and `nt_xent` has each view's rows as negatives of the other's and of its own.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 1; van den Oord, Li and Vinyals, arXiv 1807.03748, Eq. 4; He et al. (MoCo), CVPR 2020,
    Eq. 1.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import info_nce
    >>> rng = np.random.default_rng(0)
    >>> loss, grads = info_nce(rng.standard_normal((4, 8)), rng.standard_normal((6, 8)), 0.1)
    >>> grads.dquery.shape, grads.dkey.shape, grads.dtemperature.shape
    ((4, 8), (6, 8), ())
    """
    _check("info_nce", query, key, positive, ignore, reduction, eps)
    temperature = validate.scalar("info_nce", "temperature", temperature, like=query, positive=True)
    if tiled.pays("info_nce", tile, query, key):
        return tiled.forward(tiled.info_nce, tile, query, key, temperature, positive, ignore, reduction, normalize, eps)
    s, compared = compare_forward(query, key, normalize=normalize, eps=eps)
    value, walk = softmax_contrastive_forward(s, temperature, positive=positive, ignore=ignore, reduction=reduction)
    return value, (compared, walk)


def info_nce_backward(dvalue: Array, cache: Any) -> tuple[Array, ...]:
    """Return dquery, dkey and dτ: an anchor is pulled to its positive by σ/τ, pushed from each negative by σ r_k/τ."""
    if isinstance(cache, tiled.Cache):
        return tiled.backward(dvalue, cache)
    compared, walk = cache
    ds, dtemperature = softmax_contrastive_backward(dvalue, walk)
    return *compare_backward(ds, compared), dtemperature


def hard_info_nce_forward(
    query: Array,
    key: Array,
    temperature: Any = 0.1,
    *,
    hardest: float | int,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
) -> tuple[Array, Any]:
    r"""InfoNCE against the hardest negatives only.

    Parameters
    ----------
    query : (N, D) array of float32 or float64
        Anchors.
    key : (M, D) array
        Candidates, M >= N unless ``positive`` is given.
    temperature : float or () array
        τ > 0, dimensionless.
    hardest : float or int
        A float α in (0, 1] keeps that fraction of each row's K negatives, max(1, round(α K)); an int keeps that many.
    positive : (N,) array of integers, optional
        Row of ``key`` that is each anchor's positive; by default 0, 1, ..., N − 1.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines.
    eps : float
        Shortest length to divide by when normalizing, > 0.
    tile : int, optional
        Rows of a strip: S is computed a strip at a time, in memory proportional to N + M. None: dense where that is
        small, strips where it is not. NumPy and CuPy only; elsewhere None is dense.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    cache : tuple
        What the backward reads; the pair returns the gradients dquery (N, D), dkey (M, D) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    `hard_softmax_contrastive` with :math:`s_{ik} = \langle z_i, z'_k\rangle`. Which negatives are the hardest is a
    constant in the gradient.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 9; α = .0819 on CIFAR.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import hard_info_nce, info_nce
    >>> rng = np.random.default_rng(0)
    >>> query, key = rng.standard_normal((4, 8)), rng.standard_normal((6, 8))
    >>> bool(hard_info_nce(query, key, 0.1, hardest=2)[0] < info_nce(query, key, 0.1)[0])
    True
    """
    _check("hard_info_nce", query, key, positive, ignore, reduction, eps)
    temperature = validate.scalar("hard_info_nce", "temperature", temperature, like=query, positive=True)
    hardest = validate.hardest("hard_info_nce", hardest)
    if tiled.pays("hard_info_nce", tile, query, key, rooms=True):
        strips = tiled.walk_of(
            hard_softmax_contrastive_forward,
            hard_softmax_contrastive_backward,
            temperature,
            hardest=hardest,
            positive=positive,
            ignore=ignore,
        )
        return tiled.forward(tiled.row_by_row, tile, query, key, strips, reduction, normalize, eps)
    s, compared = compare_forward(query, key, normalize=normalize, eps=eps)
    value, walk = hard_softmax_contrastive_forward(
        s, temperature, hardest=hardest, positive=positive, ignore=ignore, reduction=reduction
    )
    return value, (compared, walk)


def hard_info_nce_backward(dvalue: Array, cache: Any) -> tuple[Array, ...]:
    """Return dquery, dkey and dτ: as for InfoNCE, with r over the negatives that were kept."""
    if isinstance(cache, tiled.Cache):
        return tiled.backward(dvalue, cache)
    compared, walk = cache
    ds, dtemperature = hard_softmax_contrastive_backward(dvalue, walk)
    return *compare_backward(ds, compared), dtemperature


def simple_loss_forward(
    query: Array,
    key: Array,
    weight: Any = None,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
) -> tuple[Array, Any]:
    r"""Simple contrastive loss of embeddings.

    Parameters
    ----------
    query : (N, D) array of float32 or float64
        Anchors.
    key : (M, D) array
        Candidates, M >= N unless ``positive`` is given.
    weight : float or () array, optional
        λ, dimensionless; by default 1 over an anchor's number of negatives.
    positive : (N,) array of integers, optional
        Row of ``key`` that is each anchor's positive; by default 0, 1, ..., N − 1.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines.
    eps : float
        Shortest length to divide by when normalizing, > 0.
    tile : int, optional
        Rows of a strip: S is computed a strip at a time, in memory proportional to N + M. None: dense where that is
        small, strips where it is not. NumPy and CuPy only; elsewhere None is dense.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In units of similarity; either sign.
    cache : tuple
        What the backward reads; the pair returns the gradients dquery (N, D), dkey (M, D) and dweight () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    `simple_contrastive` with :math:`s_{ik} = \langle z_i, z'_k\rangle`.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 3.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import simple_loss
    >>> loss, grads = simple_loss(np.array([[2.0, 0.0]]), np.array([[3.0, 0.0], [0.0, 1.0]]))
    >>> float(loss), grads.dquery
    (-1.0, array([[0. , 0.5]]))
    """
    _check("simple_loss", query, key, positive, ignore, reduction, eps)
    weight = None if weight is None else validate.scalar("simple_loss", "weight", weight, like=query)
    if tiled.pays("simple_loss", tile, query, key, rooms=True):
        strips = tiled.walk_of(
            simple_contrastive_forward, simple_contrastive_backward, weight, positive=positive, ignore=ignore
        )
        return tiled.forward(tiled.row_by_row, tile, query, key, strips, reduction, normalize, eps)
    s, compared = compare_forward(query, key, normalize=normalize, eps=eps)
    value, walk = simple_contrastive_forward(s, weight, positive=positive, ignore=ignore, reduction=reduction)
    return value, (compared, walk)


def simple_loss_backward(dvalue: Array, cache: Any) -> tuple[Array, ...]:
    """Return dquery, dkey and dλ: an anchor is pulled to its positive by 1 and pushed from each negative by λ."""
    if isinstance(cache, tiled.Cache):
        return tiled.backward(dvalue, cache)
    compared, walk = cache
    ds, dweight = simple_contrastive_backward(dvalue, walk)
    return *compare_backward(ds, compared), dweight


def hard_simple_loss_forward(
    query: Array,
    key: Array,
    weight: Any = None,
    *,
    hardest: float | int,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
) -> tuple[Array, Any]:
    r"""Simple contrastive loss of embeddings against the hardest negatives only.

    Parameters
    ----------
    query : (N, D) array of float32 or float64
        Anchors.
    key : (M, D) array
        Candidates, M >= N unless ``positive`` is given.
    weight : float or () array, optional
        λ, dimensionless; by default 1 over the number of negatives kept.
    hardest : float or int
        A float α in (0, 1] keeps that fraction of each row's K negatives, max(1, round(α K)); an int keeps that many.
    positive : (N,) array of integers, optional
        Row of ``key`` that is each anchor's positive; by default 0, 1, ..., N − 1.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines.
    eps : float
        Shortest length to divide by when normalizing, > 0.
    tile : int, optional
        Rows of a strip: S is computed a strip at a time, in memory proportional to N + M. None: dense where that is
        small, strips where it is not. NumPy and CuPy only; elsewhere None is dense.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In units of similarity; either sign.
    cache : tuple
        What the backward reads; the pair returns the gradients dquery (N, D), dkey (M, D) and dweight () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    `hard_simple_contrastive` with :math:`s_{ik} = \langle z_i, z'_k\rangle`. Which negatives are the hardest is a
    constant in the gradient.

    References
    ----------
    Wang and Liu, CVPR 2021, Section 5.5.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import hard_simple_loss
    >>> key = np.array([[3.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> loss, grads = hard_simple_loss(np.array([[2.0, 0.0]]), key, hardest=1)
    >>> float(loss), grads.dquery
    (-1.0, array([[0. , 0.5]]))
    """
    _check("hard_simple_loss", query, key, positive, ignore, reduction, eps)
    weight = None if weight is None else validate.scalar("hard_simple_loss", "weight", weight, like=query)
    hardest = validate.hardest("hard_simple_loss", hardest)
    if tiled.pays("hard_simple_loss", tile, query, key, rooms=True):
        strips = tiled.walk_of(
            hard_simple_contrastive_forward,
            hard_simple_contrastive_backward,
            weight,
            hardest=hardest,
            positive=positive,
            ignore=ignore,
        )
        return tiled.forward(tiled.row_by_row, tile, query, key, strips, reduction, normalize, eps)
    s, compared = compare_forward(query, key, normalize=normalize, eps=eps)
    value, walk = hard_simple_contrastive_forward(
        s, weight, hardest=hardest, positive=positive, ignore=ignore, reduction=reduction
    )
    return value, (compared, walk)


def hard_simple_loss_backward(dvalue: Array, cache: Any) -> tuple[Array, ...]:
    """Return dquery, dkey and dλ: as for the simple loss, with the push from the negatives that were kept."""
    if isinstance(cache, tiled.Cache):
        return tiled.backward(dvalue, cache)
    compared, walk = cache
    ds, dweight = hard_simple_contrastive_backward(dvalue, walk)
    return *compare_backward(ds, compared), dweight


class CompareCache(NamedTuple):
    query: NormalizeCache | None  # None where rows were taken as they are
    key: NormalizeCache | None
    product: InnerProductCache


def compare_forward(query: Array, key: Array, *, normalize: bool, eps: float) -> tuple[Array, CompareCache]:
    """Walk from embeddings to similarities: sphere (unless ``normalize`` is False), then inner products."""
    on_sphere_query = on_sphere_key = None
    if normalize:
        query, on_sphere_query = l2_normalize_forward(query, eps=eps)
        key, on_sphere_key = l2_normalize_forward(key, eps=eps)
    s, product = inner_product_forward(query, key)
    return s, CompareCache(on_sphere_query, on_sphere_key, product)


def compare_backward(ds: Array, cache: CompareCache) -> tuple[Array, Array]:
    """Return dquery and dkey: inner products, then the sphere, the other way round."""
    dquery, dkey = inner_product_backward(ds, cache.product)
    if cache.query is not None and cache.key is not None:
        dkey = l2_normalize_backward(dkey, cache.key)
        dquery = l2_normalize_backward(dquery, cache.query)
    return dquery, dkey


def _check(
    name: str, query: Array, key: Array, positive: Array | None, ignore: Array | None, reduction: str, eps: float
) -> None:
    validate.floats(name, query=(query, "N D"), key=(key, "M D"))
    check_roles(name, query, key.shape[0], positive=positive, ignore=ignore)
    validate.reduction(name, reduction)
    validate.setting(name, "eps", eps, above=0.0)


info_nce = Pair(info_nce_forward, info_nce_backward)
hard_info_nce = Pair(hard_info_nce_forward, hard_info_nce_backward)
simple_loss = Pair(simple_loss_forward, simple_loss_backward)
hard_simple_loss = Pair(hard_simple_loss_forward, hard_simple_loss_backward)
