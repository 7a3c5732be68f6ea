"""query, key -> L: the softmax loss of two sets of embeddings, with any number of positives an anchor.

In:  anchors ``query`` (N, D), candidates ``key`` (M, D) and a mask of positives.
Out: a loss over N anchors and its gradient. The supervised contrastive loss; what differs is who is compared.
"""

from typing import Any, Literal, NamedTuple

from refcl.core.arguments import Reduction, choice
from refcl.core.arrays import AnyArray, Array, Number
from refcl.core.pair import pair
from refcl.losses.sup_con import (
    SupervisedContrastiveCache,
    supervised_contrastive_backward,
    supervised_contrastive_forward,
)
from refcl.walk.similarity import CosineSimilarityCache, cosine_similarity_backward, cosine_similarity_forward


class MultiPositiveCache(NamedTuple):
    compared: CosineSimilarityCache
    walk: SupervisedContrastiveCache


def multi_positive_forward(
    query: Array,
    key: Array,
    temperature: Array,
    *,
    positives: Array,
    form: str = "sum",
    normalize: bool = True,
    eps: float = 1e-12,
    **settings: Any,
) -> tuple[Array, MultiPositiveCache]:
    """Compare, then walk as `supervised_contrastive_forward`, which takes the other settings."""
    s, compared = cosine_similarity_forward(query, key, normalize=normalize, eps=eps)  # (N, M)
    value, walk = supervised_contrastive_forward(s, temperature, positives=positives, form=form, **settings)
    return value, MultiPositiveCache(compared, walk)


def multi_positive_backward(dvalue: Array, cache: MultiPositiveCache) -> tuple[Array, Array, Array]:
    """Return dquery, dkey and dτ: an anchor is pulled by σ/τ in all, each positive by its share q of it."""
    compared, walk = cache
    ds, dtemperature = supervised_contrastive_backward(dvalue, walk)
    return *cosine_similarity_backward(ds, compared), dtemperature


class MultiPositiveGrads(NamedTuple):
    dquery: Array  # (N, D)
    dkey: Array  # (M, D)
    dtemperature: Array  # ()


@pair(form=choice("out", "in", "sum"), no_positive=choice("zero", "skip"))
def multi_positive(
    query: AnyArray,
    key: AnyArray,
    temperature: Number = 0.1,
    *,
    positives: AnyArray,
    ignore: AnyArray | None = None,
    form: Literal["out", "in", "sum"] = "sum",
    no_positive: Literal["zero", "skip"] = "zero",
    base_temperature: float | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
    upstream: AnyArray | None = None,
) -> tuple[Array, MultiPositiveGrads]:
    r"""InfoNCE with several positives: an anchor must find its way to any of them.

    Parameters
    ----------
    query : (N, D) array of float32 or float64
        Anchors.
    key : (M, D) array
        Candidates of all anchors.
    temperature : optional
        As in `softmax_contrastive`.
    positives, ignore, form, no_positive, base_temperature : optional
        As in `supervised_contrastive`.
    reduction : optional
        As in `softmax_contrastive`.
    normalize, eps, tile : optional
        As in `info_nce`.
    upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    grads : MultiPositiveGrads
        dquery (N, D), dkey (M, D) and dtemperature ().

    Notes
    -----
    `supervised_contrastive` with :math:`s_{ik} = \langle z_i, z'_k\rangle`, by default in the form "sum":

    .. math:: L_i = \log\sum_a e^{s_{ia}/\tau} - \log\sum_p e^{s_{ip}/\tau}

    over all candidates a and the positives p: −log of the probability of them all. With one positive it is `info_nce`;
    with labels of two sets, ``positives = labels[:, None] == labels[None, :]``, it is SupCon of two towers: "out" in
    CLIP-ReID and UniCL, which add the other direction. The gradient at a positive is :math:`-\sigma_i q_{ip}/\tau`,
    q the positives' softmax: the nearest gets most of it, and a wrong positive among them does little harm.

    References
    ----------
    Miech et al. (MIL-NCE), "End-to-End Learning of Visual Representations from Uncurated Instructional Videos", CVPR
    2020, Eq. 1; Goldberger et al., "Neighbourhood Components Analysis", NeurIPS 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import info_nce, multi_positive
    >>> query, key = np.random.default_rng(0).standard_normal((2, 4, 8))
    >>> one, two = np.eye(4, dtype=bool), np.eye(4, dtype=bool) | np.eye(4, k=1, dtype=bool)
    >>> bool(abs(multi_positive(query, key, 0.2, positives=one)[0] - info_nce(query, key, 0.2)[0]) < 1e-15)
    True
    >>> bool(multi_positive(query, key, 0.2, positives=two)[0] < info_nce(query, key, 0.2)[0])
    True
    """
