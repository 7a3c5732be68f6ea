"""s -> L: the triplet loss against the nearest negative.

In:  similarities ``s`` (N, M).
Out: a loss and its gradient. Pool: maximum; penalty: hinge.
"""

from typing import NamedTuple

from refcl.core.arguments import Reduction
from refcl.core.arrays import AnyArray, Array
from refcl.core.pair import pair
from refcl.walk.pairing import PairingCache, pairing_backward, pairing_forward
from refcl.walk.penalty import HingeCache, hinge_backward, hinge_forward
from refcl.walk.pooling.maximum import MaximumCache, maximum_backward, maximum_forward
from refcl.walk.reduce import ReduceCache, reduce_backward, reduce_forward


class TripletCache(NamedTuple):
    pairing: PairingCache
    pool: MaximumCache
    penalty: HingeCache
    reduced: ReduceCache


def triplet_forward(
    s: Array,
    *,
    margin: float = 0.0,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, TripletCache]:
    """Pair, pool by the maximum and add the margin, charge the hinge, reduce."""
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    gap, pool = maximum_forward(s_pos, s_neg, negatives=pairing.negatives, margin=margin)
    loss, penalty = hinge_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, TripletCache(pairing, pool, penalty, reduced)


def triplet_backward(dvalue: Array, cache: TripletCache) -> Array:
    """Return ds: −1 at the positive and 1 at the nearest negative, where the hinge is open."""
    pairing, pool, penalty, reduced = cache
    dloss = reduce_backward(dvalue, reduced)
    dgap = hinge_backward(dloss, penalty)
    ds_pos, ds_neg = maximum_backward(dgap, pool)
    return pairing_backward(ds_pos, ds_neg, pairing)


class TripletGrads(NamedTuple):
    ds: Array  # (N, M)


@pair()
def triplet(
    s: AnyArray,
    *,
    margin: float = 0.0,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, TripletGrads]:
    r"""Triplet loss against the nearest negative.

    Parameters
    ----------
    s : (N, M) array
        As in `softmax_contrastive`.
    margin : float
        By how much the positive should be nearer than the nearest negative, in units of similarity, >= 0.
    positive, ignore, reduction, upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In units of similarity, >= 0.
    grads : TripletGrads
        ds (N, M).

    Notes
    -----
    .. math:: L_i = \max\bigl(\max_k s_{ik} - s_{ip} + margin,\; 0\bigr)

    Penalty hinge, pool maximum. At the kinks the gradient is 0 where the hinge closes, and shared equally among
    negatives that tie for the nearest. Without negatives the loss and its gradient are 0.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 6: with margin 0, the limit of τ times `softmax_contrastive` as τ → 0⁺.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import triplet
    >>> loss, grads = triplet(np.array([[0.75, 0.5, 0.625]]), margin=0.25)
    >>> float(loss), grads.ds
    (0.125, array([[-1.,  0.,  1.]]))
    """
