"""s -> L and query, key -> L: the simple contrastive loss against the hardest negatives only.

In:  similarities ``s`` (N, M), or anchors ``query`` (N, D) and candidates ``key`` (M, D).
Out: a loss and its gradient. Before the pool the negatives are narrowed; the rest is the simple loss.
"""

from typing import Any, NamedTuple

from refcl.core.arguments import Reduction
from refcl.core.arrays import AnyArray, Array, Number
from refcl.core.pair import pair
from refcl.losses.simple_loss import SimpleContrastiveCache, simple_contrastive_backward, weight_of_each
from refcl.walk.pairing import pairing_forward
from refcl.walk.penalty import identity_forward
from refcl.walk.pooling.hardest import hardest_negatives
from refcl.walk.pooling.weighted_sum import weighted_sum_forward
from refcl.walk.reduce import reduce_forward
from refcl.walk.similarity import CosineSimilarityCache, cosine_similarity_backward, cosine_similarity_forward


def hard_simple_contrastive_forward(
    s: Array,
    weight: Array | None = None,
    *,
    hardest: float | int,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, SimpleContrastiveCache]:
    """Pair, keep the hardest negatives, weigh them alike, pool by the weighted sum, charge the gap itself, reduce."""
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    kept = hardest_negatives(s_neg, pairing.negatives, hardest=hardest)  # (N, M)
    weights = weight_of_each(weight, kept, like=s)  # (N,)
    gap, pool = weighted_sum_forward(s_pos, s_neg, weights, negatives=kept)
    loss, _ = identity_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, SimpleContrastiveCache(pairing, pool, reduced)


def hard_simple_contrastive_backward(dvalue: Array, cache: SimpleContrastiveCache) -> tuple[Array, Array]:
    """Return ds and dλ: the simple loss's own way back, since which negatives were kept is a constant."""
    return simple_contrastive_backward(dvalue, cache)


class HardSimpleContrastiveGrads(NamedTuple):
    ds: Array  # (N, M)
    dweight: Array  # ()


@pair()
def hard_simple_contrastive(
    s: AnyArray,
    weight: Number | None = None,
    *,
    hardest: float | int,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, HardSimpleContrastiveGrads]:
    r"""Simple contrastive loss against the hardest negatives only.

    Parameters
    ----------
    s : (N, M) array
        As in `softmax_contrastive`.
    weight : float or () array, optional
        λ, dimensionless. By default 1 over the number of negatives kept, a constant in the gradient.
    hardest : float or int
        As in `hard_softmax_contrastive`.
    positive, ignore, reduction, upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In units of similarity; either sign.
    grads : HardSimpleContrastiveGrads
        ds (N, M) and dweight ().

    Notes
    -----
    .. math:: L_i = -s_{ip} + \lambda \sum_{s_{ik}\ge s_\alpha^{(i)}} s_{ik}

    With ``hardest=1.0`` it is `simple_contrastive`.

    References
    ----------
    Wang and Liu, CVPR 2021, Section 5.5: Eq. 3 with the nearest 4095 features as negatives.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import hard_simple_contrastive
    >>> loss, grads = hard_simple_contrastive(np.array([[0.75, 0.5, 0.0, -0.25, 0.75]]), hardest=0.5)
    >>> float(loss), grads.ds
    (-0.125, array([[-1. ,  0.5,  0. ,  0. ,  0.5]]))
    """


class HardSimpleLossCache(NamedTuple):
    compared: CosineSimilarityCache
    walk: SimpleContrastiveCache


def hard_simple_loss_forward(
    query: Array,
    key: Array,
    weight: Array | None = None,
    *,
    normalize: bool = True,
    eps: float = 1e-12,
    **settings: Any,
) -> tuple[Array, HardSimpleLossCache]:
    """Compare, then walk as `hard_simple_contrastive_forward`, which takes the other settings."""
    s, compared = cosine_similarity_forward(query, key, normalize=normalize, eps=eps)  # (N, M)
    value, walk = hard_simple_contrastive_forward(s, weight, **settings)
    return value, HardSimpleLossCache(compared, walk)


def hard_simple_loss_backward(dvalue: Array, cache: HardSimpleLossCache) -> tuple[Array, Array, Array]:
    """Return dquery, dkey and dλ: as for the simple loss, with the push from the negatives that were kept."""
    compared, walk = cache
    ds, dweight = hard_simple_contrastive_backward(dvalue, walk)
    return *cosine_similarity_backward(ds, compared), dweight


class HardSimpleLossGrads(NamedTuple):
    dquery: Array  # (N, D)
    dkey: Array  # (M, D)
    dweight: Array  # ()


@pair()
def hard_simple_loss(
    query: AnyArray,
    key: AnyArray,
    weight: Number | None = None,
    *,
    hardest: float | int,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
    upstream: AnyArray | None = None,
) -> tuple[Array, HardSimpleLossGrads]:
    r"""Simple contrastive loss of embeddings against the hardest negatives only.

    Parameters
    ----------
    query, key : (N, D) and (M, D) array
        As in `info_nce`.
    weight : float or () array, optional
        As in `hard_simple_contrastive`.
    hardest : float or int
        As in `hard_softmax_contrastive`.
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
    grads : HardSimpleLossGrads
        dquery (N, D), dkey (M, D) and dweight ().

    Notes
    -----
    `hard_simple_contrastive` with :math:`s_{ik} = \langle z_i, z'_k\rangle`.

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
