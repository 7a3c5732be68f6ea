"""s -> L and a, b -> L: the losses that stop at a margin.

In:  similarities (N, M) and each anchor's positive, or two embeddings (N, D) and whether each pair is of one kind.
Out: a loss and its gradient, 0 once the margin is kept, and not smooth where it just is: each docstring says what holds
at its kinks. See `triplet` for the hardest negative.
"""

from typing import NamedTuple

from refcl import validate
from refcl.backend import Array, constant
from refcl.losses.on_similarities import TripletCache, triplet_backward
from refcl.pair import Pair
from refcl.pairing import check_roles, pairing_forward
from refcl.penalty import hinge_forward
from refcl.pooling import maximum_forward
from refcl.reduce import ReduceCache, reduce_backward, reduce_forward

OTHERWISE = ("skip", "easiest", "hardest")


def semi_hard_triplet_forward(
    s: Array,
    *,
    margin: float = 0.1,
    otherwise: str = "skip",
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, TripletCache]:
    r"""Triplet loss against the nearest of the negatives that are further off than the positive.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    margin : float
        By how much the positive should be nearer than that negative, in units of similarity, >= 0. FaceNet's .2 of
        squared distances is .1 here: :math:`\lVert a - b\rVert^2 = 2 - 2s` for unit rows.
    otherwise : str
        What becomes of an anchor all of whose negatives are as near as its positive, or nearer. "skip": loss and
        gradient 0, for no negative of it is semi-hard. "easiest": the furthest negative is taken, as in TensorFlow
        Addons. "hardest": the nearest is taken, as in `triplet`.
    positive : (N,) array of integers, optional
        Column of each anchor's positive; by default the diagonal.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean" over all N anchors, those with loss 0 too, "sum" or "none"; with "none" the pair takes ``upstream``, an
        (N,) array.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In units of similarity, >= 0.
    cache : TripletCache
        What the backward reads; the pair returns the gradient ds (N, M) instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    .. math:: L_i = \max\Bigl(\max_{s_{ik} < s_{ip}} s_{ik} - s_{ip} + margin,\; 0\Bigr)

    Semi-hard negatives lie in the band :math:`s_{ip} - margin < s_{ik} < s_{ip}`; the hinge leaves out what is beyond
    it, and with margin 0 the band is empty. FaceNet draws one of the band; here it is the hardest one, as in TensorFlow
    Addons. Penalty hinge, pool maximum over the negatives that are further off; which these are is a constant in the
    gradient, and where a negative passes the positive the loss jumps. At a tie with the positive a negative is not
    further off. Ties among the nearest share the gradient, and at the hinge's kink it is 0.

    References
    ----------
    Schroff, Kalenichenko and Philbin, "FaceNet", CVPR 2015, Eq. 4.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import semi_hard_triplet
    >>> loss, grads = semi_hard_triplet(np.array([[0.75, 0.875, 0.625, 0.5]]), margin=0.25)
    >>> float(loss), grads.ds
    (0.125, array([[-1.,  0.,  1.,  0.]]))
    """
    validate.floats("semi_hard_triplet", s=(s, "N M"))
    check_roles("semi_hard_triplet", s, s.shape[1], positive=positive, ignore=ignore)
    validate.reduction("semi_hard_triplet", reduction)
    margin = validate.setting("semi_hard_triplet", "margin", margin, above=0.0, at_least=True)
    if otherwise not in OTHERWISE:
        raise ValueError(f'semi_hard_triplet: otherwise must be "skip", "easiest" or "hardest", got {otherwise!r}.')
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    kept = _further_negatives(s_pos, s_neg, pairing.negatives, otherwise=otherwise)
    gap, pool = maximum_forward(s_pos, s_neg, negatives=kept, margin=margin)
    loss, penalty = hinge_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, TripletCache(pairing, pool, penalty, reduced)


def semi_hard_triplet_backward(dvalue: Array, cache: TripletCache) -> Array:
    """Return ds: the triplet loss's own way back, since which negatives are further off is a constant."""
    return triplet_backward(dvalue, cache)


def _further_negatives(s_pos: Array, s_neg: Array, negatives: Array, *, otherwise: str) -> Array:
    """Narrow the negatives to those further off than the positive, or as told where there are none."""
    xp = validate.floats("semi_hard_triplet", s_pos=(s_pos, "N"), s_neg=(s_neg, "N M"))
    further = negatives & (s_neg < s_pos[:, None])  # (N, M)
    if otherwise == "skip":
        return further
    instead = negatives
    if otherwise == "easiest":
        furthest = xp.min(xp.where(negatives, s_neg, constant(xp.inf, like=s_neg)), axis=1)  # (N,)
        instead = negatives & (s_neg == furthest[:, None])
    return xp.where(xp.any(further, axis=1, keepdims=True), further, instead)


class PairContrastiveCache(NamedTuple):
    difference: Array  # (N, D) a − b
    distance: Array  # (N,) its length
    missing: Array  # (N,) max(margin − distance, 0)
    same: Array  # (N,)
    reduced: ReduceCache


def pair_contrastive_forward(
    a: Array, b: Array, *, same: Array, margin: float = 1.0, reduction: str = "mean"
) -> tuple[Array, PairContrastiveCache]:
    r"""Contrastive loss of single pairs: draw like pairs together, hold unlike ones a margin apart.

    Parameters
    ----------
    a, b : (N, D) array of float32 or float64
        Embeddings, pair by pair, as they are: normalize them first for the sphere.
    same : (N,) array of booleans
        True where a pair is of one kind.
    margin : float
        Distance at which an unlike pair is left alone, > 0.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In units of squared distance, >= 0.
    cache : PairContrastiveCache
        What the backward reads; the pair returns the gradients da (N, D) and db (N, D) instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or the margin is not positive.

    Notes
    -----
    With :math:`d_i = \lVert a_i - b_i\rVert`

    .. math:: L_i = \tfrac12 d_i^2 \quad\text{or}\quad L_i = \tfrac12 \max(margin - d_i, 0)^2

    for a pair of one kind and of two. There is no pool: every pair stands by itself. The paper's label Y is 0 where
    ``same`` is True. Code that leaves out the ½ has twice this value and gradient. At d = margin the gradient is
    continuous, 0 on both sides; at d = 0 an unlike pair is at a tip, where every direction leads down, and the gradient
    is 0, which training does not leave: `info_nce` has no such place.

    References
    ----------
    Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006, Eq. 4.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import pair_contrastive
    >>> a, b = np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([[0.5, 0.0], [0.5, 0.0]])
    >>> loss, grads = pair_contrastive(a, b, same=np.array([True, False]), margin=0.75, reduction="none")
    >>> loss, grads.da
    (array([0.125  , 0.03125]), array([[-0.5 , -0.  ],
           [ 0.25,  0.  ]]))
    """
    xp = validate.floats("pair_contrastive", a=(a, "N D"), b=(b, "N D"))
    validate.companion("pair_contrastive", "same", same, kind="boolean", shape=a.shape[:1], like=a)
    margin = validate.setting("pair_contrastive", "margin", margin, above=0.0)
    validate.reduction("pair_contrastive", reduction)
    difference = a - b  # (N, D)
    square = xp.sum(difference**2, axis=1)  # (N,)
    distance = xp.sqrt(square)  # (N,)
    missing = xp.maximum(margin - distance, constant(0.0, like=a))  # (N,)
    value, reduced = reduce_forward(xp.where(same, square, missing**2) / 2, reduction=reduction)
    return value, PairContrastiveCache(difference, distance, missing, same, reduced)


def pair_contrastive_backward(dvalue: Array, cache: PairContrastiveCache) -> tuple[Array, Array]:
    """Return da and db = −da: a − b for a pair of one kind, −max(margin − d, 0) (a − b)/d for one of two."""
    difference, distance, missing, same, reduced = cache
    dloss = reduce_backward(dvalue, reduced)  # (N,)
    xp = validate.floats("pair_contrastive", dloss=(dloss, "N"), difference=(difference, "N D"))
    zero, one = constant(0.0, like=distance), constant(1.0, like=distance)
    apart = distance > 0
    push = xp.where(apart, -missing / xp.where(apart, distance, one), zero)  # (N,)
    da = (dloss * xp.where(same, one, push))[:, None] * difference
    return da, -da


semi_hard_triplet = Pair(semi_hard_triplet_forward, semi_hard_triplet_backward)
pair_contrastive = Pair(pair_contrastive_forward, pair_contrastive_backward)
