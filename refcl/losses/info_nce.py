"""s -> L and query, key -> L: the softmax contrastive loss, InfoNCE. Start reading here.

In:  similarities ``s`` (N, M), anchors by candidates, or anchors ``query`` (N, D) and candidates ``key`` (M, D).
Out: a loss and its gradient. Pool: soft maximum, which is log-sum-exp; penalty: softplus.
Read a backward upwards: it is its forward.
"""

from typing import Any, NamedTuple

from refcl.core.agreement import Call
from refcl.core.arguments import Reduction
from refcl.core.arrays import AnyArray, Array, Number, constant, namespace
from refcl.core.pair import pair
from refcl.walk.logit_margin import LogitMarginCache, logit_margin_backward, logit_margin_forward
from refcl.walk.pairing import PairingCache, among_first, not_ignored, pairing_backward, pairing_forward
from refcl.walk.penalty import SoftplusCache, softplus_backward, softplus_forward
from refcl.walk.pooling.soft_cross_entropy import (
    SoftCrossEntropyCache,
    soft_cross_entropy_backward,
    soft_cross_entropy_forward,
)
from refcl.walk.pooling.soft_maximum import SoftMaximumCache, soft_maximum_backward, soft_maximum_forward
from refcl.walk.reduce import ReduceCache, WeighCache, reduce_backward, reduce_forward, weigh_backward, weigh_forward
from refcl.walk.similarity import (
    CosineSimilarityCache,
    OwnSimilarityCache,
    cosine_similarity_backward,
    cosine_similarity_forward,
    own_similarity_backward,
    own_similarity_forward,
)


class SoftTargetsCache(NamedTuple):
    charged: SoftCrossEntropyCache
    given: bool  # whether there were targets; else the positive is all of one


class SoftmaxContrastiveCache(NamedTuple):
    pairing: PairingCache
    gap: tuple[SoftMaximumCache, SoftplusCache] | SoftTargetsCache  # pool and penalty, or both in one
    reduced: ReduceCache
    margin: LogitMarginCache | None = None
    weighed: WeighCache | None = None


def softmax_contrastive_forward(
    s: Array,
    temperature: Array,
    log_weight: Array | None = None,
    targets: Array | None = None,
    anchor_weight: Array | None = None,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    label_smoothing: float = 0.0,
    margin: float = 0.0,
    angular_margin: float = 0.0,
    reduction: str = "mean",
) -> tuple[Array, SoftmaxContrastiveCache]:
    """Pair, pool by the soft maximum, charge the softplus, reduce; other targets than one are charged in one room."""
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    lowered = weighed = None
    if margin or angular_margin:
        s_pos, lowered = logit_margin_forward(s_pos, margin=margin, angular_margin=angular_margin)
    gap: tuple[SoftMaximumCache, SoftplusCache] | SoftTargetsCache
    if targets is None and log_weight is None and not label_smoothing:
        above, pool = soft_maximum_forward(s_pos, s_neg, temperature, negatives=pairing.negatives)
        loss, penalty = softplus_forward(above)
        gap = pool, penalty
    else:
        if targets is not None:
            everyone = not_ignored(s, ignore)
            pairing = PairingCache(~everyone & everyone, everyone)  # nobody is the positive
        loss, charged = soft_cross_entropy_forward(
            *_with_positive(s, s_pos, targets, pairing),
            temperature,
            log_weight,
            counted=pairing.is_positive | pairing.negatives,
            label_smoothing=label_smoothing,
        )
        gap = SoftTargetsCache(charged, targets is not None)
    if anchor_weight is not None:
        loss, weighed = weigh_forward(loss, anchor_weight)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, SoftmaxContrastiveCache(pairing, gap, reduced, lowered, weighed)


def softmax_contrastive_backward(
    dvalue: Array, cache: SoftmaxContrastiveCache
) -> tuple[Array, Array, Array | None, Array | None, Array | None]:
    """Return ds and dτ: ∂L/∂s_k = σ r_k/τ, ∂L/∂s_p = −σ/τ, ∂L/∂τ = −σ E_r[d]/τ²; and what else was given."""
    pairing, gap, reduced, lowered, weighed = cache
    dloss = reduce_backward(dvalue, reduced)
    dlog_weight = dtargets = danchor_weight = None
    if weighed is not None:
        dloss, danchor_weight = weigh_backward(dloss, weighed)
    if isinstance(gap, SoftTargetsCache):
        ds_neg, dtargets, dtemperature, dlog_weight = soft_cross_entropy_backward(dloss, gap.charged)
        dtargets = dtargets if gap.given else None
        xp = namespace(dloss)
        ds_pos = xp.sum(xp.where(pairing.is_positive, ds_neg, constant(0.0, like=ds_neg)), axis=1)
    else:
        pool, penalty = gap
        ds_pos, ds_neg, dtemperature = soft_maximum_backward(softplus_backward(dloss, penalty), pool)
    if lowered is not None:
        ds_pos = logit_margin_backward(ds_pos, lowered)
    return pairing_backward(ds_pos, ds_neg, pairing), dtemperature, dlog_weight, dtargets, danchor_weight


def _with_positive(s: Array, s_pos: Array, targets: Array | None, pairing: PairingCache) -> tuple[Array, Array]:
    """Return similarities with the positive's, lowered by a margin, in its column; and targets, all of one there."""
    if targets is not None:
        return s, targets
    xp = namespace(s)
    one, none = constant(1.0, like=s), (s_pos - s_pos)[:, None]  # (N, 1) NaN for a column out of range
    return xp.where(pairing.is_positive, s_pos[:, None], s), xp.where(pairing.is_positive, one, none)


def one_kind_of_target(call: Call, ready: dict[str, Any]) -> None:
    """Refuse targets beside what says which candidate is the positive, or lowers it."""
    if ready["targets"] is None:
        return
    if ready.get("positive") is not None:
        raise ValueError(f"{call.name}: positive and targets both say what an anchor looks for; pass one of them.")
    if ready["margin"] or ready["angular_margin"]:
        raise ValueError(f"{call.name}: a margin is taken from one positive; with targets there is none. Pass 0.")


class SoftmaxContrastiveGrads(NamedTuple):
    ds: Array  # (N, M)
    dtemperature: Array  # ()
    dlog_weight: Array | None = None  # (N, M) each of these None where it was not given
    dtargets: Array | None = None  # (N, M)
    danchor_weight: Array | None = None  # (N,)


@pair(also=one_kind_of_target)
def softmax_contrastive(
    s: AnyArray,
    temperature: Number,
    log_weight: AnyArray | None = None,
    targets: AnyArray | None = None,
    anchor_weight: AnyArray | None = None,
    *,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    label_smoothing: float = 0.0,
    margin: float = 0.0,
    angular_margin: float = 0.0,
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, SoftmaxContrastiveGrads]:
    r"""Softmax contrastive loss: the cross-entropy of picking the positive among all candidates.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    temperature : float or () array
        τ > 0, dimensionless.
    log_weight : (N, M) array, optional
        Added to the logits s/τ, in nats: a candidate counts as :math:`e^w` of its kind. −inf leaves it out.
    targets : (N, M) array, optional
        Instead of one positive a distribution over the candidates, >= 0 and of rows that sum to 1; what they hold is
        not looked at. An ignored candidate is no target. For a constant leave their gradient.
    anchor_weight : (N,) array, optional
        What each anchor's loss is multiplied by. The mean is still over their number, not over the sum of the weights.
    positive : (N,) array of integers, optional
        Column of each anchor's positive, in [0, M); by default the diagonal. Out of range it is a ValueError where
        looking costs nothing (NumPy), and elsewhere the anchor's loss is NaN.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    label_smoothing : float
        ε in [0, 1): so much of the target is spread evenly over all candidates that count, the positive among them.
    margin, angular_margin : float
        m >= 0 and α in [0, π): the positive's cosine is lowered from cos θ to cos(θ + α) − m, as in `logit_margin`.
    reduction : str
        "mean", "sum" or "none" over the anchors.
    upstream : (N,) array, optional
        With the reduction "none": what each anchor's loss is worth in the gradients, by default 1.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    grads : SoftmaxContrastiveGrads
        ds (N, M), dtemperature (), and where they were given dlog_weight (N, M), dtargets (N, M) and
        danchor_weight (N,).

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    .. math:: L_i = -\log\frac{e^{s_{ip}/\tau}}{e^{s_{ip}/\tau} + \sum_k e^{s_{ik}/\tau}}
              = \operatorname{softplus}\Bigl(\log\sum_k e^{(s_{ik}-s_{ip})/\tau}\Bigr)

    Penalty softplus, pool soft maximum. The gradient at a negative is :math:`\sigma_i r_{ik}/\tau`, at the positive
    :math:`-\sigma_i/\tau`. An anchor without negatives has loss 0 and gradient 0. As τ → 0⁺, τ L tends to `triplet`
    with margin 0; as τ → ∞, τ (L − log(K + 1)) to K/(K + 1) times `simple_contrastive`.

    With targets it is what this loss is on average, if the positive is drawn from them: the cross-entropy
    :math:`-\sum_k t_k \log p_k`, of gradient :math:`(p_k - t_k)/\tau`, as in `soft_cross_entropy`. Soft targets leave a
    loss of at least their entropy.

    References
    ----------
    Wang and Liu, "Understanding the Behaviour of Contrastive Loss", CVPR 2021, Eq. 1, 2 and 4; for targets Li et al.
    (ALBEF), NeurIPS 2021, Eq. 6; for weights Gao, Yao and Chen (SimCSE), EMNLP 2021, the hard negatives of its
    appendix; for margins `logit_margin`.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import softmax_contrastive
    >>> loss, grads = softmax_contrastive(np.array([[0.8, 0.5, 0.1, -0.3, 0.7]]), 0.2)
    >>> round(float(loss), 9), round(float(grads.ds[0, 0]), 9)
    (0.622695196, -2.31751738)
    """


class InfoNCECache(NamedTuple):
    compared: CosineSimilarityCache
    own: OwnSimilarityCache | None  # of each anchor's own negatives
    walk: SoftmaxContrastiveCache


def info_nce_forward(
    query: Array,
    key: Array,
    temperature: Array,
    own_negatives: Array | None = None,
    log_weight: Array | None = None,
    targets: Array | None = None,
    anchor_weight: Array | None = None,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    normalize: bool = True,
    eps: float = 1e-12,
    **settings: Any,
) -> tuple[Array, InfoNCECache]:
    """Compare, then walk as `softmax_contrastive_forward`, which takes the other settings."""
    s, compared = cosine_similarity_forward(query, key, normalize=normalize, eps=eps)  # (N, M)
    own = None
    if own_negatives is not None:
        (s, log_weight, targets, ignore), own = own_similarity_forward(
            s, own_negatives, compared, log_weight, targets, ignore, normalize=normalize, eps=eps
        )  # (N, M + H)
        positive = among_first(positive, key.shape[0])
    value, walk = softmax_contrastive_forward(
        s, temperature, log_weight, targets, anchor_weight, positive=positive, ignore=ignore, **settings
    )
    return value, InfoNCECache(compared, own, walk)


def info_nce_backward(
    dvalue: Array, cache: InfoNCECache
) -> tuple[Array, Array, Array, Array | None, Array | None, Array | None, Array | None]:
    """Return dquery, dkey and dτ: an anchor is pulled to its positive by σ/τ, pushed from each negative by σ r_k/τ."""
    compared, own, walk = cache
    ds, dtemperature, dlog_weight, dtargets, danchor_weight = softmax_contrastive_backward(dvalue, walk)
    if own is None:
        return *cosine_similarity_backward(ds, compared), dtemperature, None, dlog_weight, dtargets, danchor_weight
    ds, dquery_own, down, dlog_weight, dtargets = own_similarity_backward(ds, compared, own, dlog_weight, dtargets)
    dquery, dkey = cosine_similarity_backward(ds, compared)
    return dquery + dquery_own, dkey, dtemperature, down, dlog_weight, dtargets, danchor_weight


class InfoNCEGrads(NamedTuple):
    dquery: Array  # (N, D)
    dkey: Array  # (M, D)
    dtemperature: Array  # ()
    down_negatives: Array | None = None  # (N, H, D) each of these None where it was not given
    dlog_weight: Array | None = None  # (N, M)
    dtargets: Array | None = None  # (N, M)
    danchor_weight: Array | None = None  # (N,)


@pair(also=one_kind_of_target)
def info_nce(
    query: AnyArray,
    key: AnyArray,
    temperature: Number = 0.1,
    own_negatives: AnyArray | None = None,
    log_weight: AnyArray | None = None,
    targets: AnyArray | None = None,
    anchor_weight: AnyArray | None = None,
    *,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    label_smoothing: float = 0.0,
    margin: float = 0.0,
    angular_margin: float = 0.0,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
    upstream: AnyArray | None = None,
) -> tuple[Array, InfoNCEGrads]:
    r"""InfoNCE in one direction: the softmax contrastive loss of embeddings.

    Parameters
    ----------
    query : (N, D) array of float32 or float64
        Anchors.
    key : (M, D) array
        Candidates, M >= N unless ``positive`` is given. Rows that are nobody's positive are negatives that all share: a
        memory bank, a queue.
    temperature, log_weight, targets, anchor_weight : optional
        As in `softmax_contrastive`.
    own_negatives : (N, H, D) array, optional
        H more candidates of each anchor, which no other anchor meets: hard negatives that come with it. Their weight is
        1, they are no targets, and no mask leaves them out.
    positive, ignore, label_smoothing, margin, angular_margin, reduction, upstream : optional
        As in `softmax_contrastive`. Margins mean cosines: rows of length 1.
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
    grads : InfoNCEGrads
        dquery (N, D), dkey (M, D), dtemperature (), and where they were given down_negatives (N, H, D),
        dlog_weight (N, M), dtargets (N, M) and danchor_weight (N,).

    Notes
    -----
    `softmax_contrastive` with :math:`s_{ik} = \langle z_i, z'_k\rangle`. Where query and key play the same part, `clip`
    takes the mean of both directions, and `nt_xent` has each view's rows as negatives of the other's and of its own.
    Hard negatives that all anchors share, as in DPR, are rows of key beyond the first N.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 1; van den Oord, Li and Vinyals, arXiv 1807.03748, Eq. 4; He et al. (MoCo), CVPR 2020,
    Eq. 1; with hard negatives Karpukhin et al. (DPR), EMNLP 2020, Eq. 2.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import info_nce
    >>> rng = np.random.default_rng(0)
    >>> loss, grads = info_nce(rng.standard_normal((4, 8)), rng.standard_normal((6, 8)), 0.1)
    >>> grads.dquery.shape, grads.dkey.shape, grads.dtemperature.shape
    ((4, 8), (6, 8), ())
    """
