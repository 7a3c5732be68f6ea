"""query -> L: the softmax loss against a memory, which is a constant.

In:  anchors ``query`` (N, D), and candidates of earlier steps: the ``bank`` (M, D), one row a sample, or the ``queue``.
Out: a loss and the gradient of everything but the memory: what it holds was computed by weights that are gone.
Only the pairing differs from InfoNCE: where the positive comes from, and who the negatives are.
"""

from typing import Any, NamedTuple

from refcl import tiled, validate
from refcl.backend import Array
from refcl.losses.on_similarities import softmax_contrastive_backward, softmax_contrastive_forward
from refcl.pair import Pair
from refcl.pairing import all_but_ignored
from refcl.penalty import SoftplusCache, softplus_backward, softplus_forward
from refcl.pooling import SoftMaximumCache, soft_maximum_backward, soft_maximum_forward
from refcl.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.similarity import OwnProductCache, inner_product_forward, own_product_backward, own_product_forward
from refcl.sphere import NormalizeCache, l2_normalize_backward, l2_normalize_forward


class RecallCache(NamedTuple):
    on_sphere: NormalizeCache | None  # of the anchors; None where rows were taken as they are
    memory: Array  # (M, D) as it was compared


def inst_disc_forward(
    query: Array,
    temperature: Any = 0.07,
    *,
    bank: Array,
    index: Array,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
) -> tuple[Array, Any]:
    r"""Instance discrimination: every sample is a class of its own, and the bank holds one vector for each.

    Parameters
    ----------
    query : (N, D) array of float32 or float64
        Anchors: the samples as the encoder sees them now.
    temperature : float or () array
        τ > 0, dimensionless.
    bank : (M, D) array
        The samples as they were seen before, all of them; a constant.
    index : (N,) array of integers
        Row of the bank that is each anchor's own, in [0, M).
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.
    normalize : bool
        Whether rows, the bank's too, are brought to length 1 first, so that similarities are cosines.
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
        What the backward reads; the pair returns the gradients dquery (N, D) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    .. math:: L_i = -\log\frac{e^{\langle z_i, v_{index(i)}\rangle/\tau}}{\sum_{k=1}^M e^{\langle z_i, v_k\rangle/\tau}}

    `info_nce` with the bank as keys and no gradient to them. The sum runs over the whole bank, as in the experiments of
    Wang and Liu; the original draws some of it, `nce`. The original's bank starts with rows whose length is 1 only on
    average and takes them as they are until their first update: for that, normalize the query alone, by
    `refcl.sphere.l2_normalize`, and pass ``normalize=False``.

    References
    ----------
    Wu, Xiong, Yu and Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018, Eq. 2
    and 3; Wang and Liu, CVPR 2021, Eq. 1 and Section 5.1.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import info_nce, inst_disc
    >>> rng = np.random.default_rng(0)
    >>> query, bank, index = rng.standard_normal((2, 8)), rng.standard_normal((5, 8)), np.array([3, 1])
    >>> loss, grads = inst_disc(query, 0.1, bank=bank, index=index)
    >>> grads._fields
    ('dquery', 'dtemperature')
    >>> bool(loss == info_nce(query, bank, 0.1, positive=index)[0])
    True
    """
    validate.floats("inst_disc", query=(query, "N D"), bank=(bank, "M D"))
    validate.companion("inst_disc", "index", index, kind="integer", shape=query.shape[:1], like=query)
    if ignore is not None:
        shape = (query.shape[0], bank.shape[0])
        validate.companion("inst_disc", "ignore", ignore, kind="boolean", shape=shape, like=query)
    validate.reduction("inst_disc", reduction)
    validate.setting("inst_disc", "eps", eps, above=0.0)
    temperature = validate.scalar("inst_disc", "temperature", temperature, like=query, positive=True)
    if tiled.pays("inst_disc", tile, query, bank):
        return tiled.forward(tiled.inst_disc, tile, query, bank, temperature, index, ignore, reduction, normalize, eps)
    _, s, recall = _recall_forward(query, bank, normalize=normalize, eps=eps)
    value, walk = softmax_contrastive_forward(s, temperature, positive=index, ignore=ignore, reduction=reduction)
    return value, (recall, walk)


def inst_disc_backward(dvalue: Array, cache: Any) -> tuple[Array, ...]:
    """Return dquery and dτ: an anchor is pulled to its own row by σ/τ, pushed from each other by σ r_k/τ."""
    if isinstance(cache, tiled.Cache):
        return tiled.backward(dvalue, cache)
    recall, walk = cache
    ds, dtemperature = softmax_contrastive_backward(dvalue, walk)
    return _recall_backward(0.0, ds, recall), dtemperature


class MocoCache(NamedTuple):
    recall: RecallCache
    key: NormalizeCache | None  # None where rows were taken as they are
    own: OwnProductCache
    pool: SoftMaximumCache
    penalty: SoftplusCache
    reduced: ReduceCache


def moco_forward(
    query: Array,
    key: Array,
    temperature: Any = 0.07,
    *,
    queue: Array,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> tuple[Array, MocoCache]:
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
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.
    normalize : bool
        Whether rows, the queue's too, are brought to length 1 first, so that similarities are cosines.
    eps : float
        Shortest length to divide by when normalizing, > 0.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    cache : MocoCache
        What the backward reads; the pair returns the gradients dquery (N, D), dkey (N, D) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

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
    validate.floats("moco", query=(query, "N D"), key=(key, "N D"), queue=(queue, "K D"))
    validate.reduction("moco", reduction)
    validate.setting("moco", "eps", eps, above=0.0)
    temperature = validate.scalar("moco", "temperature", temperature, like=query, positive=True)
    z, s_neg, recall = _recall_forward(query, queue, normalize=normalize, eps=eps)  # (N, D), (N, K)
    key_on_sphere = None
    if normalize:
        key, key_on_sphere = l2_normalize_forward(key, eps=eps)
    s_pos, own = own_product_forward(z, key[:, None, :])  # (N, 1)
    negatives = all_but_ignored("moco", s_neg, ignore)  # (N, K)
    gap, pool = soft_maximum_forward(s_pos[:, 0], s_neg, temperature, negatives=negatives)
    loss, penalty = softplus_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, MocoCache(recall, key_on_sphere, own, pool, penalty, reduced)


def moco_backward(dvalue: Array, cache: MocoCache) -> tuple[Array, Array, Array]:
    """Return dquery, dkey and dτ: the positive pulls both ends by σ/τ, the queue pushes the query alone."""
    recall, key_on_sphere, own, pool, penalty, reduced = cache
    dloss = reduce_backward(dvalue, reduced)
    dgap = softplus_backward(dloss, penalty)
    ds_pos, ds_neg, dtemperature = soft_maximum_backward(dgap, pool)
    dz, dkey = own_product_backward(ds_pos[:, None], own)  # (N, D), (N, 1, D)
    dkey = dkey[:, 0, :]
    if key_on_sphere is not None:
        dkey = l2_normalize_backward(dkey, key_on_sphere)
    return _recall_backward(dz, ds_neg, recall), dkey, dtemperature


def _recall_forward(query: Array, memory: Array, *, normalize: bool, eps: float) -> tuple[Array, Array, RecallCache]:
    """Walk from anchors to embeddings and to their similarities with a memory."""
    on_sphere = None
    if normalize:
        query, on_sphere = l2_normalize_forward(query, eps=eps)
        memory, _ = l2_normalize_forward(memory, eps=eps)
    s, _ = inner_product_forward(query, memory)
    return query, s, RecallCache(on_sphere, memory)


def _recall_backward(dz: Array | float, ds: Array, cache: RecallCache) -> Array:
    """Return dquery, from what the embeddings got elsewhere and the memory's pull: for the memory nothing is
    computed."""
    dz = dz + ds @ cache.memory  # (N, D)
    return dz if cache.on_sphere is None else l2_normalize_backward(dz, cache.on_sphere)


inst_disc = Pair(inst_disc_forward, inst_disc_backward)
moco = Pair(moco_forward, moco_backward)
