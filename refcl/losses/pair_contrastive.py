"""a, b -> L: the contrastive loss of single pairs, which stops at a margin.

In:  two sets of embeddings (N, D) and whether each pair is of one kind.
Out: a loss and its gradient. Nothing is pooled: every pair stands by itself.
"""

from typing import Literal, NamedTuple

from refcl.core.arguments import Mask, Reduction, choice, number
from refcl.core.arrays import AnyArray, Array, constant, namespace
from refcl.core.pair import pair
from refcl.walk.distance import RowDistanceCache, row_distance_backward, row_distance_forward
from refcl.walk.reduce import ReduceCache, reduce_backward, reduce_forward


class PairContrastiveCache(NamedTuple):
    apart: RowDistanceCache  # of the squared distance, or of the cosine's
    slope: Array  # (N,) of the loss by that
    reduced: ReduceCache


def pair_contrastive_forward(
    a: Array, b: Array, *, same: Array, margin: float = 1.0, distance: str = "euclidean", reduction: str = "mean"
) -> tuple[Array, PairContrastiveCache]:
    """Take each pair's distance, charge half the square of it, or of its violation of the margin, reduce."""
    xp = namespace(a)
    zero, one = constant(0.0, like=a), constant(1.0, like=a)
    if distance == "euclidean":  # of like pairs the square is wanted, which is not to go through the root and back
        square, apart = row_distance_forward(a, b, distance="squared")  # (N,)
        length = xp.sqrt(square)  # (N,)
    else:
        length, apart = row_distance_forward(a, b, distance=distance)
        square = length**2
    violation = xp.maximum(margin - length, zero)  # (N,)
    if distance == "euclidean":
        coincide = length == 0  # (N,) there is no direction to push in
        push = xp.where(coincide, zero, -violation / xp.where(coincide, one, length))  # (N,)
        slope = xp.where(same, one, push) / 2  # (N,) by the square
    else:
        slope = xp.where(same, length, -violation)  # (N,)
    value, reduced = reduce_forward(xp.where(same, square, violation**2) / 2, reduction=reduction)
    return value, PairContrastiveCache(apart, slope, reduced)


def pair_contrastive_backward(dvalue: Array, cache: PairContrastiveCache) -> tuple[Array, Array]:
    """Return da and db: the slope d of a pair of one kind, −max(margin − d, 0) of one of two, through the distance.

    For the euclidean d that is a − b and −max(margin − d, 0) (a − b)/d, and db = −da.
    """
    apart, slope, reduced = cache
    return row_distance_backward(reduce_backward(dvalue, reduced) * slope, apart)


class PairContrastiveGrads(NamedTuple):
    da: Array  # (N, D)
    db: Array  # (N, D)


@pair(same=Mask("N"), margin=number(0.0), distance=choice("euclidean", "cosine"))
def pair_contrastive(
    a: AnyArray,
    b: AnyArray,
    *,
    same: AnyArray,
    margin: float = 1.0,
    distance: Literal["euclidean", "cosine"] = "euclidean",
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, PairContrastiveGrads]:
    r"""Contrastive loss of single pairs: draw like pairs together, hold unlike ones a margin apart.

    Parameters
    ----------
    a, b : (N, D) array of float32 or float64
        Embeddings, pair by pair, as they are.
    same : (N,) array of booleans
        True where a pair is of one kind.
    margin : float
        Distance at which an unlike pair is left alone, > 0.
    distance : str
        "euclidean", or "cosine", 1 less the cosine, as `distance.row_distance` has it.
    reduction, upstream : optional
        As in `softmax_contrastive`, with a pair for an anchor.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In units of the distance squared, >= 0.
    grads : PairContrastiveGrads
        da (N, D) and db (N, D).

    Notes
    -----
    With :math:`d_i = \lVert a_i - b_i\rVert` or :math:`1 - \cos(a_i, b_i)`

    .. math:: L_i = \tfrac12 d_i^2 \quad\text{or}\quad L_i = \tfrac12 \max(margin - d_i, 0)^2

    for a pair of one kind and of two. There is no pool: every pair stands by itself. The paper's label Y is 0 where
    ``same`` is True. Code that leaves out the ½ has twice this value and gradient. At d = margin the gradient is
    continuous, 0 on both sides; at d = 0 an unlike pair is at a tip, where every direction leads down, and the gradient
    is 0, which training does not leave: `info_nce` has no such place. The cosine's d is level there, as it is where two
    rows point opposite ways. sentence-transformers has the cosine and a margin of .5.

    References
    ----------
    Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006, Eq. 4, with
    the euclidean distance; Reimers and Gurevych, "Sentence-BERT", EMNLP 2019, whose code has the cosine's.

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
