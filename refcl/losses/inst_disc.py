"""query -> L: instance discrimination, the softmax loss against a bank of all samples.

In:  anchors ``query`` (N, D) and the ``bank`` (M, D), a constant, one row a sample.
Out: a loss and the gradient of everything but the bank: what it holds was computed by weights that are gone.
"""

from typing import Any, NamedTuple

from refcl.core.arguments import Reduction
from refcl.core.arrays import AnyArray, Array, Number
from refcl.core.pair import pair
from refcl.losses.info_nce import SoftmaxContrastiveCache, softmax_contrastive_backward, softmax_contrastive_forward
from refcl.walk.similarity import MemorySimilarityCache, memory_similarity_backward, memory_similarity_forward


class InstDiscCache(NamedTuple):
    compared: MemorySimilarityCache
    walk: SoftmaxContrastiveCache


def inst_disc_forward(
    query: Array,
    temperature: Array,
    *,
    bank: Array,
    index: Array,
    normalize: bool = True,
    eps: float = 1e-12,
    **roles: Any,
) -> tuple[Array, InstDiscCache]:
    """Compare with the bank, then walk as `softmax_contrastive_forward`, which takes the other settings."""
    _, s, compared = memory_similarity_forward(query, bank, normalize=normalize, eps=eps)  # (N, M)
    value, walk = softmax_contrastive_forward(s, temperature, positive=index, **roles)
    return value, InstDiscCache(compared, walk)


def inst_disc_backward(dvalue: Array, cache: InstDiscCache) -> tuple[Array, Array]:
    """Return dquery and dτ: an anchor is pulled to its own row by σ/τ, pushed from each other by σ r_k/τ."""
    compared, walk = cache
    ds, dtemperature, *_ = softmax_contrastive_backward(dvalue, walk)
    return memory_similarity_backward(0.0, ds, compared), dtemperature


class InstDiscGrads(NamedTuple):
    dquery: Array  # (N, D)
    dtemperature: Array  # ()


@pair()
def inst_disc(
    query: AnyArray,
    temperature: Number = 0.07,
    *,
    bank: AnyArray,
    index: AnyArray,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
    upstream: AnyArray | None = None,
) -> tuple[Array, InstDiscGrads]:
    r"""Instance discrimination: every sample is a class of its own, and the bank holds one vector for each.

    Parameters
    ----------
    query : (N, D) array of float32 or float64
        Anchors: the samples as the encoder sees them now.
    temperature, ignore, reduction, upstream : optional
        As in `softmax_contrastive`.
    bank : (M, D) array
        The samples as they were seen before, all of them; a constant.
    index : (N,) array of integers
        Row of the bank that is each anchor's own, in [0, M); out of range as ``positive`` in `softmax_contrastive`.
    normalize, eps, tile : optional
        As in `info_nce`, for the bank's rows too.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    grads : InstDiscGrads
        dquery (N, D) and dtemperature ().

    Notes
    -----
    .. math:: L_i = -\log\frac{e^{\langle z_i, v_{index(i)}\rangle/\tau}}{\sum_{k=1}^M e^{\langle z_i, v_k\rangle/\tau}}

    `info_nce` with the bank as keys and no gradient to them. The sum runs over the whole bank, as in the experiments of
    Wang and Liu; the original draws some of it, `nce`. The original's bank starts with rows whose length is 1 only on
    average and takes them as they are until their first update: for that, normalize the query alone, by
    `refcl.walk.sphere.l2_normalize`, and pass ``normalize=False``.

    References
    ----------
    Wu, Xiong, Yu and Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018, Eq. 2
    and 3; Wang and Liu, CVPR 2021, Eq. 1 and Section 5.1.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import info_nce
    >>> from refcl import inst_disc
    >>> rng = np.random.default_rng(0)
    >>> query, bank, index = rng.standard_normal((2, 8)), rng.standard_normal((5, 8)), np.array([3, 1])
    >>> loss, grads = inst_disc(query, 0.1, bank=bank, index=index)
    >>> grads._fields
    ('dquery', 'dtemperature')
    >>> bool(loss == info_nce(query, bank, 0.1, positive=index)[0])
    True
    """
