"""anchor, positive, negative -> L: the triplet loss of embeddings that come as triplets.

In:  three sets of embeddings (N, D), row by row, and a margin.
Out: a loss and its gradient. The triplet loss with distances for similarities: pool maximum, penalty hinge.
"""

from typing import NamedTuple

from refcl.core.arguments import Floats, Reduction, flag, scalar
from refcl.core.arrays import AnyArray, Array, Number, namespace, ones
from refcl.core.pair import pair
from refcl.walk.distance import Distance, RowDistanceCache, a_distance, row_distance_backward, row_distance_forward
from refcl.walk.penalty import HingeCache, hinge_backward, hinge_forward
from refcl.walk.pooling.maximum import MaximumCache, maximum_backward, maximum_forward
from refcl.walk.reduce import ReduceCache, reduce_backward, reduce_forward


class TripletMarginCache(NamedTuple):
    near: RowDistanceCache  # of anchors and positives
    far: tuple[RowDistanceCache, ...]  # of anchors and negatives; of positives and negatives, where they are swapped
    pool: MaximumCache
    penalty: HingeCache
    reduced: ReduceCache


def triplet_margin_forward(
    anchor: Array,
    positive: Array,
    negative: Array,
    margin: Array,
    *,
    distance: str = "euclidean",
    swap: bool = False,
    reduction: str = "mean",
) -> tuple[Array, TripletMarginCache]:
    """Take the distances, pool the negative's by the smallest and add the margin, charge the hinge, reduce."""
    xp = namespace(anchor)
    d_pos, near = row_distance_forward(anchor, positive, distance=distance)  # (N,)
    measured = [row_distance_forward(end, negative, distance=distance) for end in (anchor, positive)[: 1 + swap]]
    s_neg = -xp.stack([d_neg for d_neg, _ in measured], axis=1)  # (N, 1), or (N, 2) where swapped
    gap, pool = maximum_forward(-d_pos, s_neg, negatives=ones(s_neg.shape, like=s_neg) > 0)
    loss, penalty = hinge_forward(gap + margin)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, TripletMarginCache(near, tuple([far for _, far in measured]), pool, penalty, reduced)


def triplet_margin_backward(dvalue: Array, cache: TripletMarginCache) -> tuple[Array, Array, Array, Array]:
    """Return danchor, dpositive, dnegative and dmargin: the hinge's slope at d⁺, less it at d⁻, and its sum."""
    near, far, pool, penalty, reduced = cache
    dgap = hinge_backward(reduce_backward(dvalue, reduced), penalty)  # (N,)
    xp = namespace(dgap)
    ds_pos, ds_neg = maximum_backward(dgap, pool)
    danchor, dpositive = row_distance_backward(-ds_pos, near)
    from_anchor, dnegative = row_distance_backward(-ds_neg[:, 0], far[0])
    danchor = danchor + from_anchor
    for swapped in far[1:]:
        from_positive, to_negative = row_distance_backward(-ds_neg[:, 1], swapped)
        dpositive, dnegative = dpositive + from_positive, dnegative + to_negative
    return danchor, dpositive, dnegative, xp.asarray(xp.sum(dgap))


class TripletMarginGrads(NamedTuple):
    danchor: Array  # (N, D)
    dpositive: Array  # (N, D)
    dnegative: Array  # (N, D)
    dmargin: Array  # ()


@pair(
    anchor=Floats("N D"),
    positive=Floats("N D"),
    negative=Floats("N D"),
    margin=scalar,
    distance=a_distance,
    swap=flag,
)
def triplet_margin(
    anchor: AnyArray,
    positive: AnyArray,
    negative: AnyArray,
    margin: Number = 1.0,
    *,
    distance: Distance = "euclidean",
    swap: bool = False,
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, TripletMarginGrads]:
    r"""Triplet loss of embeddings: the positive must be nearer than the negative, by a margin.

    Parameters
    ----------
    anchor, positive, negative : (N, D) array of float32 or float64
        Embeddings, triplet by triplet, as they are: normalize them first for the sphere.
    margin : float or () array
        By how much d⁺ should be below d⁻, in units of the distance. It has a gradient, for who learns it.
    distance : str
        As in `distance.row_distance`.
    swap : bool
        True: a negative is as far as it is from the nearer of anchor and positive.
    reduction, upstream : optional
        As in `softmax_contrastive`, with a triplet for an anchor.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In units of the distance, >= 0.
    grads : TripletMarginGrads
        danchor (N, D), dpositive (N, D), dnegative (N, D) and dmargin ().

    Notes
    -----
    .. math:: L_i = \max\bigl(d(a_i, p_i) - d(a_i, n_i) + \mathrm{margin}, 0\bigr)

    and where ``swap``, :math:`\min(d(a_i, n_i), d(p_i, n_i))` for the last distance; a tie of the two shares the
    gradient. It is `triplet` with −d for s and one negative an anchor. At the hinge's kink the gradient is 0, and where
    two rows coincide the euclidean distance has none to give. torch.nn.TripletMarginLoss adds 1e-6 to every entry of a
    difference, unless it is told ``eps=0``: its distances are off by some 1e-6, and 0 is none.

    References
    ----------
    Schroff, Kalenichenko and Philbin, "FaceNet", CVPR 2015, Eq. 2, with "squared"; Balntas et al., "Learning Local
    Feature Descriptors with Triplets and Shallow Convolutional Neural Networks", BMVC 2016, Section 2.2, with ``swap``.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import triplet_margin
    >>> anchor, positive, negative = np.array([[[0.0, 0.0]], [[0.5, 0.0]], [[0.0, 0.75]]])
    >>> loss, grads = triplet_margin(anchor, positive, negative, 0.5)
    >>> float(loss), grads.dpositive, float(grads.dmargin)
    (0.25, array([[1., 0.]]), 1.0)
    """
