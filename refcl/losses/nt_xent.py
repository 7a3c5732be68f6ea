"""a, b -> L: NT-Xent, the softmax loss where every row of both views is an anchor.

In:  two views (N, D), row i of one the positive of row i of the other.
Out: a loss over 2N anchors and the gradient of both views. Only the pairing differs from InfoNCE.
"""

from typing import Any, NamedTuple

from refcl.core.arguments import Reduction
from refcl.core.arrays import AnyArray, Array, Number, namespace
from refcl.core.pair import pair
from refcl.losses.info_nce import (
    SoftmaxContrastiveCache,
    one_kind_of_target,
    softmax_contrastive_backward,
    softmax_contrastive_forward,
)
from refcl.walk.similarity import (
    CosineSimilarityCache,
    OwnSimilarityCache,
    own_similarity_backward,
    own_similarity_forward,
)
from refcl.walk.two_views import two_view_similarity_backward, two_view_similarity_forward


class NTXentCache(NamedTuple):
    compared: CosineSimilarityCache  # the stacked rows with themselves
    own: OwnSimilarityCache | None
    walk: SoftmaxContrastiveCache
    factor: float  # 2 where the means of both views are added, else 1


def nt_xent_forward(
    a: Array,
    b: Array,
    temperature: Array,
    own_negatives: Array | None = None,
    log_weight: Array | None = None,
    targets: Array | None = None,
    anchor_weight: Array | None = None,
    *,
    ignore: Array | None = None,
    reduction: str = "mean",
    add_views: bool = False,
    normalize: bool = True,
    eps: float = 1e-12,
    **settings: Any,
) -> tuple[Array, NTXentCache]:
    """Stack the views and compare, then walk as `softmax_contrastive_forward` with every row as an anchor."""
    factor = 2.0 if add_views and reduction == "mean" else 1.0
    (s, roles), compared = two_view_similarity_forward(a, b, ignore=ignore, normalize=normalize, eps=eps)  # (2N, 2N)
    ignored, own = roles.ignore, None
    if own_negatives is not None:
        (s, log_weight, targets, ignored), own = own_similarity_forward(
            s, own_negatives, compared, log_weight, targets, ignored, normalize=normalize, eps=eps
        )
    value, walk = softmax_contrastive_forward(
        s,
        temperature,
        log_weight,
        targets,
        anchor_weight,
        positive=roles.positive,
        ignore=ignored,
        reduction=reduction,
        **settings,
    )
    return namespace(value).asarray(factor * value), NTXentCache(compared, own, walk, factor)


def nt_xent_backward(
    dvalue: Array, cache: NTXentCache
) -> tuple[Array, Array, Array, Array | None, Array | None, Array | None, Array | None]:
    """Return da, db and dτ: each row receives as an anchor and as everyone else's candidate."""
    compared, own, walk, factor = cache
    ds, dtemperature, dlog_weight, dtargets, danchor_weight = softmax_contrastive_backward(factor * dvalue, walk)
    if own is None:
        return *two_view_similarity_backward(ds, compared), dtemperature, None, dlog_weight, dtargets, danchor_weight
    ds, dz_own, down, dlog_weight, dtargets = own_similarity_backward(ds, compared, own, dlog_weight, dtargets)
    da, db = two_view_similarity_backward(ds, compared)
    n = da.shape[0]
    return da + dz_own[:n, :], db + dz_own[n:, :], dtemperature, down, dlog_weight, dtargets, danchor_weight


class NTXentGrads(NamedTuple):
    da: Array  # (N, D)
    db: Array  # (N, D)
    dtemperature: Array  # ()
    down_negatives: Array | None = None  # (2N, H, D) each of these None where it was not given
    dlog_weight: Array | None = None  # (2N, 2N)
    dtargets: Array | None = None  # (2N, 2N)
    danchor_weight: Array | None = None  # (2N,)


@pair(
    ignore="2N 2N",
    own_negatives="2N H D",
    log_weight="2N 2N",
    targets="2N 2N",
    anchor_weight="2N",
    also=one_kind_of_target,
)
def nt_xent(
    a: AnyArray,
    b: AnyArray,
    temperature: Number = 0.5,
    own_negatives: AnyArray | None = None,
    log_weight: AnyArray | None = None,
    targets: AnyArray | None = None,
    anchor_weight: AnyArray | None = None,
    *,
    ignore: AnyArray | None = None,
    label_smoothing: float = 0.0,
    margin: float = 0.0,
    angular_margin: float = 0.0,
    reduction: Reduction = "mean",
    add_views: bool = False,
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
    upstream: AnyArray | None = None,
) -> tuple[Array, NTXentGrads]:
    r"""SimCLR's NT-Xent: every row of both views is an anchor, and all the others are its candidates.

    Parameters
    ----------
    a, b : (N, D) array of float32 or float64
        Two views: row i of one is the positive of row i of the other.
    temperature : optional
        As in `softmax_contrastive`.
    own_negatives : (2N, H, D) array, optional
        H more candidates of each row alone, as `info_nce` has them; a's rows before b's, as everywhere below.
    log_weight, targets : (2N, 2N) array, optional
        Those of `softmax_contrastive`. A row itself stays left out: it is no target.
    anchor_weight : (2N,) array, optional
        What each row's loss is multiplied by.
    ignore : (2N, 2N) array of booleans, optional
        True where a candidate is neither positive nor negative, a's rows before b's. The positive wins over it; self
        is always left out.
    label_smoothing, margin, angular_margin : optional
        As in `softmax_contrastive`, each row itself left out.
    reduction : str
        "mean" over the 2N anchors, "sum" or "none".
    add_views : bool
        True: the mean is that over a's anchors plus that over b's, as in the official TensorFlow code: twice the
        paper's, value and gradients. It says how to average, and changes nothing where the reduction does not.
    normalize, eps, tile : optional
        As in `info_nce`.
    upstream : (2N,) array, optional
        With the reduction "none": what each anchor's loss is worth in the gradients, a's before b's; by default 1.

    Returns
    -------
    loss : () array, or (2N,) array where the reduction is "none"
        In nats, >= 0; a's anchors before b's.
    grads : NTXentGrads
        da (N, D), db (N, D), dtemperature (), and where they were given down_negatives (2N, H, D),
        dlog_weight (2N, 2N), dtargets (2N, 2N) and danchor_weight (2N,).

    Notes
    -----
    .. math:: L_i = -\log\frac{e^{s_{ip}/\tau}}{\sum_{k \ne i} e^{s_{ik}/\tau}}, \qquad L = \frac1{2N}\sum_i L_i

    over the stacked rows :math:`z = [a; b]`, :math:`p = i \pm N`: 2N − 2 negatives each. With N = 1 there are none, and
    loss and gradient are 0.

    References
    ----------
    Chen, Kornblith, Norouzi and Hinton (SimCLR), ICML 2020, Eq. 1.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import nt_xent
    >>> a = np.eye(3)
    >>> loss, grads = nt_xent(a, a, 0.5)
    >>> round(float(loss), 9) == round(float(np.log1p(4 * np.exp(-2.0))), 9)
    True
    """
