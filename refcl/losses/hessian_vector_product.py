"""s, v -> H v: how the gradient of the softmax losses turns when the similarities move.

In:  similarities ``s`` (N, M), a direction ``v`` (N, M) and a temperature.
Out: the Hessian of the loss in s times v, (N, M). No anchor's gradient depends on another's row: H is a block a row.
"""

from typing import Literal

from refcl.core.arguments import Floats, Reduction, choice
from refcl.core.arrays import AnyArray, Array, Number, constant, namespace
from refcl.core.pair import checked
from refcl.walk.pairing import pairing_backward, pairing_forward
from refcl.walk.penalty import softplus_forward
from refcl.walk.pooling.hardest import hardest_negatives
from refcl.walk.pooling.soft_maximum import soft_maximum_forward


@checked(v=Floats("N M"), penalty=choice("softplus", "identity"))
def hessian_vector_product(
    s: AnyArray,
    v: AnyArray,
    temperature: Number,
    *,
    penalty: Literal["softplus", "identity"] = "softplus",
    hardest: float | int | None = None,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
) -> Array:
    r"""Return the Hessian of a softmax loss in the similarities, times a direction.

    Parameters
    ----------
    s : (N, M) array
        As in `softmax_contrastive`.
    v : (N, M) array
        Direction in which they move.
    temperature : float or () array
        As in `softmax_contrastive`.
    penalty : str
        "softplus": `softmax_contrastive`, or `hard_softmax_contrastive` with ``hardest``. "identity":
        `decoupled_contrastive`.
    hardest : float or int, optional
        As in `hard_softmax_contrastive`; by default every negative is kept.
    positive, ignore : optional
        As in `softmax_contrastive`.
    reduction : str
        "mean": of the mean loss over anchors. "sum" and "none": row i is of anchor i's own loss.

    Returns
    -------
    product : (N, M) array
        Row i is :math:`H_i v_i`. Rows sum to 0, as the gradient's do; 0 where ignored, and without negatives.

    Notes
    -----
    With P the probabilities of the positive and the negatives,

    .. math:: H v = \frac1{\tau^2}\bigl(P \circ v - P \langle P, v\rangle\bigr)

    With :math:`u_k = v_k - v_p` and σ = 1 − P_p, this is at a negative :math:`\sigma r_k (u_k - \sigma E_r[u])/\tau^2`
    and at the positive :math:`-\sigma (1 - \sigma) E_r[u]/\tau^2`: the curvature of the pool, σ times
    :math:`r_k (u_k - E_r[u])`, and that of the penalty, σ(1 − σ). Nothing is taken from 1: the block of an anchor whose
    positive dominates is small, not rounded away. For the identity σ is 1 where it stands for a slope, and the penalty
    has no curvature: :math:`r_k (u_k - E_r[u])/\tau^2`, and 0 at the positive.

    References
    ----------
    Second derivative of Eq. 1 of Wang and Liu, CVPR 2021; Eq. 4 is the first.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import hessian_vector_product
    >>> from refcl import softmax_contrastive
    >>> s, v = np.array([[0.8, 0.5, 0.1]]), np.array([[0.3, -0.2, 0.4]])
    >>> product = hessian_vector_product(s, v, 0.2)
    >>> step = 1e-4
    >>> ahead, behind = (softmax_contrastive(s + sign * step * v, 0.2)[1].ds for sign in (1, -1))
    >>> bool(np.max(np.abs((ahead - behind) / (2 * step) - product)) < 1e-6)
    True
    """
    xp = namespace(s)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    (v_pos, v_neg), _ = pairing_forward(v, positive=positive, ignore=ignore)
    kept = pairing.negatives  # (N, M)
    if hardest is not None:
        kept = hardest_negatives(s_neg, kept, hardest=hardest)
    gap, pool = soft_maximum_forward(s_pos, s_neg, temperature, negatives=kept)
    zero, one = constant(0.0, like=s), constant(1.0, like=s)
    slope, complement = xp.where(pool.occupied, one, zero), zero  # (N,) the penalty's slope σ, and 1 − σ
    if penalty == "softplus":
        slope, complement = softplus_forward(gap)[1].slope, softplus_forward(-gap)[1].slope  # each to its digits
    scale = slope / temperature / temperature  # (N,)
    if reduction == "mean":
        scale = scale / s.shape[0]
    u = xp.where(kept, v_neg - v_pos[:, None], zero)  # (N, M)
    mean = xp.sum(pool.relative * u, axis=1)  # (N,) E_r[u]
    deviation = u - (slope * mean)[:, None]  # (N, M) u_k − σ E_r[u]
    return pairing_backward(-scale * complement * mean, scale[:, None] * pool.relative * deviation, pairing)
