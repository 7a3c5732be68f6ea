"""s -> L and query, key -> L: the simple contrastive loss.

In:  similarities ``s`` (N, M), or anchors ``query`` (N, D) and candidates ``key`` (M, D).
Out: a loss and its gradient. Pool: weighted sum; penalty: identity.
"""

from typing import Any, NamedTuple

from refcl.core.arguments import Reduction
from refcl.core.arrays import AnyArray, Array, Number, constant, namespace
from refcl.core.pair import pair
from refcl.walk.pairing import PairingCache, pairing_backward, pairing_forward
from refcl.walk.penalty import identity_backward, identity_forward
from refcl.walk.pooling.weighted_sum import WeightedSumCache, weighted_sum_backward, weighted_sum_forward
from refcl.walk.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.walk.similarity import CosineSimilarityCache, cosine_similarity_backward, cosine_similarity_forward


class SimpleContrastiveCache(NamedTuple):
    pairing: PairingCache
    pool: WeightedSumCache
    reduced: ReduceCache


def simple_contrastive_forward(
    s: Array,
    weight: Array | None = None,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, SimpleContrastiveCache]:
    """Pair, weigh the negatives alike, pool by the weighted sum, charge the gap itself, reduce."""
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    weights = weight_of_each(weight, pairing.negatives, like=s)  # (N,)
    gap, pool = weighted_sum_forward(s_pos, s_neg, weights, negatives=pairing.negatives)
    loss, _ = identity_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, SimpleContrastiveCache(pairing, pool, reduced)


def simple_contrastive_backward(dvalue: Array, cache: SimpleContrastiveCache) -> tuple[Array, Array]:
    """Return ds and dλ: −1 at the positive, λ at every negative; ∂L/∂λ = Σ_k s_k."""
    pairing, pool, reduced = cache
    dloss = reduce_backward(dvalue, reduced)
    dgap = identity_backward(dloss, None)
    ds_pos, ds_neg, dweights = weighted_sum_backward(dgap, pool)
    xp = namespace(dweights)
    return pairing_backward(ds_pos, ds_neg, pairing), xp.asarray(xp.sum(dweights))


def weight_of_each(weight: Array | None, negatives: Array, *, like: Array) -> Array:
    """Return λ of each anchor (N,): the one given, or 1 over the number of negatives that count."""
    xp = namespace(like)
    one = constant(1.0, like=like)
    if weight is None:
        count = xp.sum(xp.where(negatives, one, constant(0.0, like=like)), axis=1)  # (N,)
        return 1 / xp.maximum(count, one)
    return xp.broadcast_to(weight, (like.shape[0],))


class SimpleContrastiveGrads(NamedTuple):
    ds: Array  # (N, M)
    dweight: Array  # ()


@pair()
def simple_contrastive(
    s: AnyArray,
    weight: Number | None = None,
    *,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, SimpleContrastiveGrads]:
    r"""Simple contrastive loss: pull the positive, push every negative alike.

    Parameters
    ----------
    s : (N, M) array
        As in `softmax_contrastive`.
    weight : float or () array, optional
        λ, dimensionless. By default 1/K for an anchor with K negatives, so that pull and push are of one size.
    positive, ignore, reduction, upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In units of similarity; either sign.
    grads : SimpleContrastiveGrads
        ds (N, M) and dweight ().

    Notes
    -----
    .. math:: L_i = -s_{ip} + \lambda \sum_k s_{ik}

    Penalty identity, pool weighted sum: no negative counts more for being near. The paper leaves λ open; the authors'
    code averages over all candidates, the positive among them, which is (M − 1)/M times this loss with λ = 1/(M − 1).
    Without negatives the loss is −s_p. Where ``weight`` is left out, every anchor has its own 1/K, and dweight
    says how fast the loss grows if one small number is added to all of them.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 3; the limit of `softmax_contrastive` as τ → ∞, Eq. 7.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import simple_contrastive
    >>> loss, grads = simple_contrastive(np.array([[0.75, 0.5, 0.0, -0.25, 0.75]]))
    >>> float(loss), grads.ds
    (-0.5, array([[-1.  ,  0.25,  0.25,  0.25,  0.25]]))
    """


class SimpleLossCache(NamedTuple):
    compared: CosineSimilarityCache
    walk: SimpleContrastiveCache


def simple_loss_forward(
    query: Array,
    key: Array,
    weight: Array | None = None,
    *,
    normalize: bool = True,
    eps: float = 1e-12,
    **roles: Any,
) -> tuple[Array, SimpleLossCache]:
    """Compare, then walk as `simple_contrastive_forward`, which takes the other settings."""
    s, compared = cosine_similarity_forward(query, key, normalize=normalize, eps=eps)  # (N, M)
    value, walk = simple_contrastive_forward(s, weight, **roles)
    return value, SimpleLossCache(compared, walk)


def simple_loss_backward(dvalue: Array, cache: SimpleLossCache) -> tuple[Array, Array, Array]:
    """Return dquery, dkey and dλ: an anchor is pulled to its positive by 1 and pushed from each negative by λ."""
    compared, walk = cache
    ds, dweight = simple_contrastive_backward(dvalue, walk)
    return *cosine_similarity_backward(ds, compared), dweight


class SimpleLossGrads(NamedTuple):
    dquery: Array  # (N, D)
    dkey: Array  # (M, D)
    dweight: Array  # ()


@pair()
def simple_loss(
    query: AnyArray,
    key: AnyArray,
    weight: Number | None = None,
    *,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
    upstream: AnyArray | None = None,
) -> tuple[Array, SimpleLossGrads]:
    r"""Simple contrastive loss of embeddings.

    Parameters
    ----------
    query, key : (N, D) and (M, D) array
        As in `info_nce`.
    weight : float or () array, optional
        As in `simple_contrastive`.
    positive, ignore, reduction : optional
        As in `softmax_contrastive`.
    normalize, eps, tile : optional
        As in `info_nce`.
    upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In units of similarity; either sign.
    grads : SimpleLossGrads
        dquery (N, D), dkey (M, D) and dweight ().

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
