"""s+, s- -> gap: the soft maximum of the negatives, log-sum-exp, above the positive.

In:  ``s_pos`` (N,), ``s_neg`` (N, M) and the mask ``negatives`` of the entries that count.
Out: ``gap`` (N,) in nats, −inf for a row without negatives.
"""

from typing import NamedTuple

from refcl.core.arrays import Array, constant, namespace
from refcl.core.pair import room


class SoftMaximumCache(NamedTuple):
    relative: Array  # (N, M) relative penalty r: where a push on the gap lands; rows sum to 1, 0 where masked
    mean_difference: Array  # (N,) E_r[d], the mean of s_k − s_p under r
    occupied: Array  # (N,) False where a row has no negatives
    temperature: Array  # ()


def soft_maximum_forward(
    s_pos: Array, s_neg: Array, temperature: Array, *, negatives: Array
) -> tuple[Array, SoftMaximumCache]:
    r"""Pool the negatives by their soft maximum, in nats above the positive.

    Parameters
    ----------
    s_pos : (N,) array of float32 or float64
        Similarity to the positive.
    s_neg : (N, M) array
        Similarity to the candidates.
    temperature : float or () array
        τ > 0, dimensionless: the scale on which similarities count as different.
    negatives : (N, M) array of booleans
        Which candidates count.

    Returns
    -------
    gap : (N,) array
        :math:`gap_i = \log\sum_k e^{\Delta_{ik}/\tau}` with :math:`\Delta_{ik} = s_{ik} - s_{ip}`;
        −inf without negatives.
    grads : named tuple
        ds_pos, ds_neg, dtemperature.

    Notes
    -----
    Only differences of similarities enter, and a difference of near numbers is exact in floating point. The greatest is
    taken out of the sum, so that no exponential overflows and the greatest is 1:

    .. math:: gap = \Delta_{\max}/\tau + \log \sum_k e^{(\Delta_k - \Delta_{\max})/\tau}

    References
    ----------
    The inner sum of Eq. 6; its gradient is the relative penalty, Eq. 5.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.pooling.soft_maximum import soft_maximum
    >>> every = np.ones((1, 2), dtype=bool)
    >>> gap, grads = soft_maximum(np.array([0.5]), np.array([[0.5, 0.5]]), 0.1, negatives=every)
    >>> gap, grads.ds_neg
    (array([0.69314718]), array([[5., 5.]]))
    """
    xp = namespace(s_pos)
    zero, one, nothing = constant(0.0, like=s_neg), constant(1.0, like=s_neg), constant(-xp.inf, like=s_neg)
    d = xp.where(negatives, s_neg - s_pos[:, None], nothing)  # (N, M) −inf where masked
    top = xp.max(d, axis=1)  # (N,) d_max
    occupied = top != nothing  # (N,)
    top = xp.where(occupied, top, zero)  # (N,)
    e = xp.exp((d - top[:, None]) / temperature)  # (N, M) in [0, 1]
    total = xp.where(occupied, xp.sum(e, axis=1), one)  # (N,) at least 1
    gap = xp.where(occupied, top / temperature + xp.log(total), nothing)  # (N,)
    relative = e / total[:, None]  # (N, M)
    d = xp.where(relative > 0, d, zero)  # no 0 times −inf
    # E_r[d], once more about itself: tied negatives are all rounded the same way, and what is left of them is 0.
    mean_difference = xp.sum(relative * d, axis=1)  # (N,)
    mean_difference += xp.sum(relative * (d - mean_difference[:, None]), axis=1)
    return gap, SoftMaximumCache(relative, mean_difference, occupied, temperature)


def soft_maximum_backward(dgap: Array, cache: SoftMaximumCache) -> tuple[Array, Array, Array]:
    """Return ds⁺ = −dgap/τ, ds⁻ = dgap r/τ and dτ = −Σ dgap E_r[Δ]/τ².

    gap = log Σ exp(Δ_k/τ): its logarithmic derivative weighs d(Δ_k/τ) by r_k = exp(Δ_k/τ)/Σ, and r sums to 1. So what
    the negatives receive, Σ_k ds_k, is what the positive gives: the gradient balance.
    """
    xp = namespace(dgap)
    relative, mean_difference, occupied, temperature = cache
    share = xp.where(occupied, dgap / temperature, constant(0.0, like=dgap))  # (N,)
    dtemperature = xp.asarray(-xp.sum(share * mean_difference) / temperature)  # ()
    return -share, share[:, None] * relative, dtemperature


soft_maximum = room(soft_maximum_forward, soft_maximum_backward)
