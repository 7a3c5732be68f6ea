"""s -> L and query, key -> L: the softmax contrastive loss against the hardest negatives only.

In:  similarities ``s`` (N, M), or anchors ``query`` (N, D) and candidates ``key`` (M, D).
Out: a loss and its gradient. Before the pool the negatives are narrowed; the rest is InfoNCE.
"""

from typing import Any, NamedTuple

from refcl.core.arguments import Reduction
from refcl.core.arrays import AnyArray, Array, Number
from refcl.core.pair import pair
from refcl.losses.info_nce import SoftmaxContrastiveCache, softmax_contrastive_backward
from refcl.walk.pairing import pairing_forward
from refcl.walk.penalty import softplus_forward
from refcl.walk.pooling.hardest import hardest_negatives
from refcl.walk.pooling.soft_maximum import soft_maximum_forward
from refcl.walk.reduce import reduce_forward
from refcl.walk.similarity import CosineSimilarityCache, cosine_similarity_backward, cosine_similarity_forward


def hard_softmax_contrastive_forward(
    s: Array,
    temperature: Array,
    *,
    hardest: float | int,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, SoftmaxContrastiveCache]:
    """Pair, keep the hardest negatives, pool them by the soft maximum, charge the softplus, reduce."""
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    kept = hardest_negatives(s_neg, pairing.negatives, hardest=hardest)  # (N, M)
    gap, pool = soft_maximum_forward(s_pos, s_neg, temperature, negatives=kept)
    loss, penalty = softplus_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, SoftmaxContrastiveCache(pairing, (pool, penalty), reduced)


def hard_softmax_contrastive_backward(dvalue: Array, cache: SoftmaxContrastiveCache) -> tuple[Array, Array]:
    """Return ds and dτ: the softmax loss's own way back, since which negatives were kept is a constant."""
    return softmax_contrastive_backward(dvalue, cache)[:2]


class HardSoftmaxContrastiveGrads(NamedTuple):
    ds: Array  # (N, M)
    dtemperature: Array  # ()


@pair()
def hard_softmax_contrastive(
    s: AnyArray,
    temperature: Number,
    *,
    hardest: float | int,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, HardSoftmaxContrastiveGrads]:
    r"""Softmax contrastive loss against the hardest negatives only.

    Parameters
    ----------
    s, temperature : (N, M) array, float or () array
        As in `softmax_contrastive`.
    hardest : float or int
        A float α in (0, 1] keeps that fraction of each row's K negatives, max(1, round(α K)); an int keeps that many.
        Ties at the threshold are kept. The threshold is a constant in the gradient.
    positive, ignore, reduction, upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0, never more than `softmax_contrastive`.
    grads : HardSoftmaxContrastiveGrads
        ds (N, M) and dtemperature ().

    Notes
    -----
    .. math:: L_i = -\log\frac{e^{s_{ip}/\tau}}{e^{s_{ip}/\tau} + \sum_{s_{ik}\ge s_\alpha^{(i)}} e^{s_{ik}/\tau}}

    The quantile is taken over the negatives alone, as the paper has it; the authors' code takes the top K of all
    candidates, the positive among them. With ``hardest=1.0`` it is `softmax_contrastive`.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 8 and 9.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import hard_softmax_contrastive
    >>> loss, grads = hard_softmax_contrastive(np.array([[0.8, 0.5, 0.1, -0.3, 0.7]]), 0.3, hardest=2)
    >>> round(float(loss), 9)
    0.734486202
    >>> np.flatnonzero(grads.ds)
    array([0, 1, 4])
    """


class HardInfoNCECache(NamedTuple):
    compared: CosineSimilarityCache
    walk: SoftmaxContrastiveCache


def hard_info_nce_forward(
    query: Array, key: Array, temperature: Array, *, normalize: bool = True, eps: float = 1e-12, **settings: Any
) -> tuple[Array, HardInfoNCECache]:
    """Compare, then walk as `hard_softmax_contrastive_forward`, which takes the other settings."""
    s, compared = cosine_similarity_forward(query, key, normalize=normalize, eps=eps)  # (N, M)
    value, walk = hard_softmax_contrastive_forward(s, temperature, **settings)
    return value, HardInfoNCECache(compared, walk)


def hard_info_nce_backward(dvalue: Array, cache: HardInfoNCECache) -> tuple[Array, Array, Array]:
    """Return dquery, dkey and dτ: as for InfoNCE, with r over the negatives that were kept."""
    compared, walk = cache
    ds, dtemperature = hard_softmax_contrastive_backward(dvalue, walk)
    return *cosine_similarity_backward(ds, compared), dtemperature


class HardInfoNCEGrads(NamedTuple):
    dquery: Array  # (N, D)
    dkey: Array  # (M, D)
    dtemperature: Array  # ()


@pair()
def hard_info_nce(
    query: AnyArray,
    key: AnyArray,
    temperature: Number = 0.1,
    *,
    hardest: float | int,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
    upstream: AnyArray | None = None,
) -> tuple[Array, HardInfoNCEGrads]:
    r"""InfoNCE against the hardest negatives only.

    Parameters
    ----------
    query, key : (N, D) and (M, D) array
        As in `info_nce`.
    temperature : float or () array, optional
        As in `softmax_contrastive`.
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
        In nats, >= 0.
    grads : HardInfoNCEGrads
        dquery (N, D), dkey (M, D) and dtemperature ().

    Notes
    -----
    `hard_softmax_contrastive` with :math:`s_{ik} = \langle z_i, z'_k\rangle`.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 9; α = .0819 on CIFAR.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import hard_info_nce
    >>> from refcl import info_nce
    >>> rng = np.random.default_rng(0)
    >>> query, key = rng.standard_normal((4, 8)), rng.standard_normal((6, 8))
    >>> bool(hard_info_nce(query, key, 0.1, hardest=2)[0] < info_nce(query, key, 0.1)[0])
    True
    """
