"""s -> gap, spread: many positives instead of one.

In:  similarities ``s`` (N, M) and masks of each anchor's positives and negatives.
Out: ``gap`` (N,), how far the pooled negatives come up to the pooled positives, and ``spread`` (N,), how far the pooled
positives rise above their mean. With one positive the gap is the soft maximum's own, and the spread is 0.
"""

from typing import Any, NamedTuple

from refcl.core.arrays import Array, Namespace, constant, namespace
from refcl.core.pair import room
from refcl.walk.pooling.soft_maximum import SoftMaximumCache, soft_maximum_backward, soft_maximum_forward


class SoftMaximumDifferenceCache(NamedTuple):
    negatives: SoftMaximumCache  # pool of the negatives above the nearest positive
    positives: SoftMaximumCache  # pool of the positives above the nearest of them
    contested: Array  # (N,) False where a row has no positives or no negatives


def soft_maximum_difference_forward(
    s: Array, temperature: Any, *, positives: Array, negatives: Array
) -> tuple[Array, SoftMaximumDifferenceCache]:
    r"""Pool negatives and positives by their soft maxima, and take one from the other.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    temperature : optional
        As in `soft_maximum`.
    positives, negatives : (N, M) array of booleans
        Which candidates are positives of an anchor, and which are negatives.

    Returns
    -------
    gap : (N,) array
        :math:`\log\sum_k e^{s_{ik}/\tau} - \log\sum_p e^{s_{ip}/\tau}`, in nats; −inf where a row lacks either.
    grads : named tuple
        ds, dtemperature.

    Notes
    -----
    Both pools are measured from the nearest positive, so that only differences of similarities enter. With one positive
    the second pool is log 1 = 0 and the gap is `pooling.soft_maximum` to the last bit.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.pooling.several_positives import soft_maximum_difference
    >>> positives = np.array([[True, True, False, False]])
    >>> soft_maximum_difference(np.array([[0.5, 0.5, 0.5, 0.5]]), 0.1, positives=positives, negatives=~positives)[0]
    array([0.])
    """
    xp = namespace(s)
    nearest, accompanied = _nearest(xp, s, positives)
    above, pool_negatives = soft_maximum_forward(nearest, s, temperature, negatives=negatives)
    within, pool_positives = soft_maximum_forward(nearest, s, temperature, negatives=positives)
    contested = accompanied & pool_negatives.occupied
    gap = above - xp.where(accompanied, within, constant(0.0, like=s))  # (N,)
    gap = xp.where(contested, gap, constant(-xp.inf, like=s))
    return gap, SoftMaximumDifferenceCache(pool_negatives, pool_positives, contested)


def soft_maximum_difference_backward(dgap: Array, cache: SoftMaximumDifferenceCache) -> tuple[Array, Array]:
    """Return ds and dτ: dgap r_k/τ at a negative, −dgap q_p/τ at a positive, each pool's own way back.

    r shares the push among the negatives, q the pull among the positives, and both sum to 1: the gradient balance. What
    the two pools send to the point from which both are measured cancels.
    """
    xp = namespace(dgap)
    dgap = xp.where(cache.contested, dgap, constant(0.0, like=dgap))
    _, ds_neg, dtemperature_neg = soft_maximum_backward(dgap, cache.negatives)
    _, ds_pos, dtemperature_pos = soft_maximum_backward(-dgap, cache.positives)
    return ds_neg + ds_pos, xp.asarray(dtemperature_neg + dtemperature_pos)


class SpreadCache(NamedTuple):
    excess: Array  # (N, M) q_p − 1/P: share of a positive beyond an even one; rows sum to 0
    mean_difference: Array  # (N,) Σ_p (q_p − 1/P) s_p
    temperature: Array  # ()


def spread_forward(s: Array, temperature: Any, *, positives: Array) -> tuple[Array, SpreadCache]:
    r"""Return how far the soft maximum of the positives lies above their mean.

    Parameters
    ----------
    s : (N, M) array
        As in `soft_maximum_difference`.
    temperature : optional
        As in `soft_maximum`.
    positives : (N, M) array of booleans
        Which candidates are positives of an anchor.

    Returns
    -------
    spread : (N,) array
        :math:`\log\sum_p e^{(s_{ip} - \bar s_i)/\tau} \ge \log P_i`, in nats, with the mean :math:`\bar s_i` over the
        :math:`P_i` positives; equal where all are equally near, 0 with one positive or none.
    grads : named tuple
        ds, dtemperature.

    Notes
    -----
    With :math:`\delta_p = s_p - s_{\max} \le 0` it is :math:`\log\sum e^{\delta_p/\tau} - \bar\delta/\tau`: two terms
    that are >= 0. Its slope :math:`q_p - 1/P` is the difference of :math:`e^{\delta_p/\tau} - 1` and its mean, over the
    sum, which keeps its digits where the positives are nearly equal.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.pooling.several_positives import spread
    >>> positives = np.array([[True, True, False], [True, False, False]])
    >>> spread(np.array([[0.5, 0.5, 0.1], [0.5, 0.2, 0.1]]), 0.1, positives=positives)[0]
    array([0.69314718, 0.        ])
    """
    xp = namespace(s)
    zero, one = constant(0.0, like=s), constant(1.0, like=s)
    nearest, accompanied = _nearest(xp, s, positives)
    d = xp.where(positives, s - nearest[:, None], zero)  # (N, M) <= 0
    count = xp.maximum(xp.sum(xp.where(positives, one, zero), axis=1), one)  # (N,)
    total = xp.sum(xp.where(positives, xp.exp(d / temperature), zero), axis=1)  # (N,)
    total = xp.where(accompanied, total, one)  # at least 1
    spread = xp.log(total) - xp.sum(d, axis=1) / count / temperature  # (N,)
    less = xp.expm1(d / temperature)  # (N, M) in (−1, 0]
    mean_less = xp.sum(less, axis=1) / count  # (N,) 0 adds nothing where masked
    excess = xp.where(positives, (less - mean_less[:, None]) / total[:, None], zero)  # (N, M)
    return spread, SpreadCache(excess, xp.sum(excess * d, axis=1), temperature)


def spread_backward(dspread: Array, cache: SpreadCache) -> tuple[Array, Array]:
    """Return ds = dspread (q − 1/P)/τ at the positives and dτ = −Σ dspread Σ_p (q_p − 1/P) s_p/τ².

    log Σ exp(s_p/τ) has the slope q_p/τ, the mean 1/(P τ): nearer positives are pushed away from, farther ones pulled.
    """
    xp = namespace(dspread)
    share = dspread / cache.temperature  # (N,)
    dtemperature = -xp.sum(share * cache.mean_difference) / cache.temperature  # ()
    return share[:, None] * cache.excess, xp.asarray(dtemperature)


def _nearest(xp: Namespace, s: Array, positives: Array) -> tuple[Array, Array]:
    """Return each row's similarity to its nearest positive, 0 without one, and whether there is one."""
    accompanied = xp.any(positives, axis=1)  # (N,)
    nearest = xp.max(xp.where(positives, s, constant(-xp.inf, like=s)), axis=1)  # (N,)
    return xp.where(accompanied, nearest, constant(0.0, like=s)), accompanied


soft_maximum_difference = room(soft_maximum_difference_forward, soft_maximum_difference_backward)
spread = room(spread_forward, spread_backward)
