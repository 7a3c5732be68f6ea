"""query, key -> L: MoCo, the softmax loss against a queue of earlier keys.

In:  anchors ``query`` (N, D), their positives ``key`` (N, D) and the ``queue`` (K, D), a constant.
Out: a loss and the gradient of everything but the queue. Only the pairing differs from InfoNCE.
"""

from typing import NamedTuple

from refcl.core.arguments import Floats, Reduction
from refcl.core.arrays import AnyArray, Array, Number
from refcl.core.pair import pair
from refcl.walk.pairing import not_ignored
from refcl.walk.penalty import SoftplusCache, softplus_backward, softplus_forward
from refcl.walk.pooling.soft_maximum import SoftMaximumCache, soft_maximum_backward, soft_maximum_forward
from refcl.walk.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.walk.similarity import (
    MemorySimilarityCache,
    RowwiseProductCache,
    memory_similarity_backward,
    memory_similarity_forward,
    rowwise_product_backward,
    rowwise_product_forward,
)
from refcl.walk.sphere import NormalizeCache, l2_normalize_backward, l2_normalize_forward


class MoCoCache(NamedTuple):
    with_queue: MemorySimilarityCache
    key_on_sphere: NormalizeCache | None  # None where rows were taken as they are
    with_key: RowwiseProductCache
    pool: SoftMaximumCache
    penalty: SoftplusCache
    reduced: ReduceCache


def moco_forward(
    query: Array,
    key: Array,
    temperature: Array,
    *,
    queue: Array,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> tuple[Array, MoCoCache]:
    """Compare with the queue and with the key, pool by the soft maximum, charge the softplus, reduce."""
    z, s_neg, with_queue = memory_similarity_forward(query, queue, normalize=normalize, eps=eps)  # (N, D), (N, K)
    key_on_sphere = None
    if normalize:
        key, key_on_sphere = l2_normalize_forward(key, eps=eps)
    s_pos, with_key = rowwise_product_forward(z, key[:, None, :])  # (N, 1)
    negatives = not_ignored(s_neg, ignore)  # (N, K)
    gap, pool = soft_maximum_forward(s_pos[:, 0], s_neg, temperature, negatives=negatives)
    loss, penalty = softplus_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, MoCoCache(with_queue, key_on_sphere, with_key, pool, penalty, reduced)


def moco_backward(dvalue: Array, cache: MoCoCache) -> tuple[Array, Array, Array]:
    """Return dquery, dkey and dτ: the positive pulls both ends by σ/τ, the queue pushes the query alone."""
    with_queue, key_on_sphere, with_key, pool, penalty, reduced = cache
    dloss = reduce_backward(dvalue, reduced)
    dgap = softplus_backward(dloss, penalty)
    ds_pos, ds_neg, dtemperature = soft_maximum_backward(dgap, pool)
    dz, dkey = rowwise_product_backward(ds_pos[:, None], with_key)  # (N, D), (N, 1, D)
    dkey = dkey[:, 0, :]
    if key_on_sphere is not None:
        dkey = l2_normalize_backward(dkey, key_on_sphere)
    return memory_similarity_backward(dz, ds_neg, with_queue), dkey, dtemperature


class MoCoGrads(NamedTuple):
    dquery: Array  # (N, D)
    dkey: Array  # (N, D)
    dtemperature: Array  # ()


@pair(key="N D", queue=Floats("K D"), ignore="N K")
def moco(
    query: AnyArray,
    key: AnyArray,
    temperature: Number = 0.07,
    *,
    queue: AnyArray,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    upstream: AnyArray | None = None,
) -> tuple[Array, MoCoGrads]:
    r"""MoCo: one positive key for each anchor, and a queue of earlier keys as the negatives of all.

    Parameters
    ----------
    query : (N, D) array of float32 or float64
        Anchors, from the encoder.
    key : (N, D) array
        Row i is anchor i's positive, from the momentum encoder. No anchor's key is another's negative.
    temperature : float or () array
        τ > 0, dimensionless; .07 in MoCo, .2 in its second version.
    queue : (K, D) array
        Keys of earlier batches; a constant. This batch's keys enter it after the loss, not before.
    ignore : (N, K) array of booleans, optional
        True where a row of the queue is no negative.
    reduction, upstream : optional
        As in `softmax_contrastive`.
    normalize, eps : optional
        As in `info_nce`, for the queue's rows too.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    grads : MoCoGrads
        dquery (N, D), dkey (N, D) and dtemperature ().

    Notes
    -----
    .. math:: L_i = -\log\frac{e^{\langle q_i, k_i\rangle/\tau}}
              {e^{\langle q_i, k_i\rangle/\tau} + \sum_{j=1}^K e^{\langle q_i, k'_j\rangle/\tau}}

    The same number as `info_nce` with keys and queue stacked and the other anchors' keys ignored. MoCo itself sends
    nothing through the key, whose encoder follows the query's by a moving average: leave dkey out then. Its third
    version has no queue, both directions, and 2τ times the loss: 2τ (`info_nce` + `info_nce`).

    References
    ----------
    He, Fan, Wu, Xie and Girshick, "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020,
    Eq. 1.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import moco
    >>> query, queue = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, -1.0]])
    >>> loss, grads = moco(query, query, 0.5, queue=queue)
    >>> round(float(loss), 9) == round(float(np.log1p(2 * np.exp(-2.0))), 9)
    True
    """
