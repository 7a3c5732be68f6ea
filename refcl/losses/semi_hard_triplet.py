"""s -> L: the triplet loss against the nearest of the negatives that are further off than the positive.

In:  similarities ``s`` (N, M).
Out: a loss and its gradient. Before the pool the negatives are narrowed; the rest is the triplet loss.
"""

from typing import Literal, NamedTuple

from refcl.core.arguments import Reduction, choice
from refcl.core.arrays import AnyArray, Array, constant, namespace
from refcl.core.pair import pair
from refcl.losses.triplet import TripletCache, triplet_backward
from refcl.walk.pairing import pairing_forward
from refcl.walk.penalty import hinge_forward
from refcl.walk.pooling.maximum import maximum_forward
from refcl.walk.reduce import reduce_forward


def semi_hard_triplet_forward(
    s: Array,
    *,
    margin: float = 0.1,
    otherwise: str = "skip",
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, TripletCache]:
    """Pair, keep the negatives further off than the positive, pool by the maximum, charge the hinge, reduce."""
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    kept = _further_negatives(s_pos, s_neg, pairing.negatives, otherwise=otherwise)  # (N, M)
    gap, pool = maximum_forward(s_pos, s_neg, negatives=kept, margin=margin)
    loss, penalty = hinge_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, TripletCache(pairing, pool, penalty, reduced)


def semi_hard_triplet_backward(dvalue: Array, cache: TripletCache) -> Array:
    """Return ds: the triplet loss's own way back, since which negatives are further off is a constant."""
    return triplet_backward(dvalue, cache)


def _further_negatives(s_pos: Array, s_neg: Array, negatives: Array, *, otherwise: str) -> Array:
    """Narrow the negatives to those further off than the positive, or as told where there are none."""
    xp = namespace(s_neg)
    further = negatives & ~(s_neg >= s_pos[:, None])  # (N, M)
    if otherwise == "skip":
        return further
    fallback = negatives  # (N, M) of which the pool takes the nearest
    if otherwise == "easiest":
        furthest = xp.min(xp.where(negatives, s_neg, constant(xp.inf, like=s_neg)), axis=1)  # (N,)
        fallback = negatives & (s_neg == furthest[:, None])
    return xp.where(xp.any(further, axis=1, keepdims=True), further, fallback)


class SemiHardTripletGrads(NamedTuple):
    ds: Array  # (N, M)


@pair(otherwise=choice("skip", "easiest", "hardest"))
def semi_hard_triplet(
    s: AnyArray,
    *,
    margin: float = 0.1,
    otherwise: Literal["skip", "easiest", "hardest"] = "skip",
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, SemiHardTripletGrads]:
    r"""Triplet loss against the nearest of the negatives that are further off than the positive.

    Parameters
    ----------
    s : (N, M) array
        As in `softmax_contrastive`.
    margin : float
        By how much the positive should be nearer than that negative, in units of similarity, >= 0. FaceNet's .2 of
        squared distances is .1 here: :math:`\lVert a - b\rVert^2 = 2 - 2s` for unit rows.
    otherwise : str
        What becomes of an anchor all of whose negatives are as near as its positive, or nearer. "skip": loss and
        gradient 0, for no negative of it is semi-hard. "easiest": the furthest negative is taken, as in TensorFlow
        Addons. "hardest": the nearest is taken, as in `triplet`.
    positive, ignore : optional
        As in `softmax_contrastive`.
    reduction : str
        "mean" over all N anchors, those with loss 0 too, "sum" or "none".
    upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In units of similarity, >= 0.
    grads : SemiHardTripletGrads
        ds (N, M).

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
