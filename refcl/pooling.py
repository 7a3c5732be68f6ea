"""s+, s- -> gap: how far the pooled negatives come up to the positive.

In:  ``s_pos`` (N,), ``s_neg`` (N, M) and the mask ``negatives`` of the entries that count.
Out: ``gap`` (N,): the soft maximum, the maximum or the weighted sum of the negatives, above the positive.
Which negatives count can be narrowed to the hardest first. A row without negatives has gap −inf (a weighted sum: −s⁺).
Last comes the room of the losses that pool nothing: each pair has a gap of its own.
"""

from functools import lru_cache
from typing import NamedTuple

from refcl import validate
from refcl.backend import Array, Namespace, constant, integers
from refcl.pair import Pair
from refcl.validate import companion, floats


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
        :math:`gap_i = \log\sum_k e^{d_{ik}/\tau}` with :math:`d_{ik} = s_{ik} - s_{ip}`; −inf without negatives.
    cache : SoftMaximumCache
        What the backward reads.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or τ is not positive and finite.

    Notes
    -----
    Only differences of similarities enter, and a difference of near numbers is exact in floating point. The greatest is
    taken out of the sum, so that no exponential overflows and the greatest is 1:

    .. math:: gap = d_{\max}/\tau + \log \sum_k e^{(d_k - d_{\max})/\tau}

    References
    ----------
    The inner sum of Eq. 6; its gradient is the relative penalty, Eq. 5.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.pooling import soft_maximum
    >>> every = np.ones((1, 2), dtype=bool)
    >>> gap, grads = soft_maximum(np.array([0.5]), np.array([[0.5, 0.5]]), 0.1, negatives=every)
    >>> gap, grads.ds_neg
    (array([0.69314718]), array([[5., 5.]]))
    """
    xp = floats("soft_maximum", s_pos=(s_pos, "N"), s_neg=(s_neg, "N M"))
    temperature = validate.scalar("soft_maximum", "temperature", temperature, like=s_neg, positive=True)
    companion("soft_maximum", "negatives", negatives, kind="boolean", shape=s_neg.shape, like=s_neg)
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
    """Return ds⁺ = −dgap/τ, ds⁻ = dgap r/τ and dτ = −Σ dgap E_r[d]/τ².

    gap = log Σ exp(d_k/τ): its logarithmic derivative weighs d(d_k/τ) by r_k = exp(d_k/τ)/Σ, and r sums to 1. So what
    the negatives receive, Σ_k ds_k, is what the positive gives: the gradient balance.
    """
    xp = floats("soft_maximum", dgap=(dgap, "N"), relative=(cache.relative, "N M"))
    relative, mean_difference, occupied, temperature = cache
    share = xp.where(occupied, dgap / temperature, constant(0.0, like=dgap))  # (N,)
    dtemperature = xp.asarray(-xp.sum(share * mean_difference) / temperature)  # ()
    return -share, share[:, None] * relative, dtemperature


class MaximumCache(NamedTuple):
    share: Array  # (N, M) 1 at the greatest negative, 1/t at each of t tied ones, 0 elsewhere
    occupied: Array  # (N,) False where a row has no negatives


def maximum_forward(s_pos: Array, s_neg: Array, *, negatives: Array, margin: float = 0.0) -> tuple[Array, MaximumCache]:
    r"""Pool the negatives by the nearest one, plus a margin.

    Parameters
    ----------
    s_pos : (N,) array of float32 or float64
        Similarity to the positive.
    s_neg : (N, M) array
        Similarity to the candidates.
    negatives : (N, M) array of booleans
        Which candidates count.
    margin : float
        Added to the gap, in units of similarity, >= 0.

    Returns
    -------
    gap : (N,) array
        :math:`\max_k s_{ik} - s_{ip} + margin`; −inf without negatives.
    cache : MaximumCache
        What the backward reads.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or the margin is negative.

    Notes
    -----
    Where several negatives tie for the nearest, the maximum has a kink; its gradient is shared among them equally.
    It is what τ times the soft maximum tends to as τ → 0⁺ (Eq. 6).

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.pooling import maximum
    >>> every = np.ones((1, 3), dtype=bool)
    >>> gap, grads = maximum(np.array([0.5]), np.array([[0.75, 0.75, 0.1]]), negatives=every)
    >>> gap, grads.ds_neg
    (array([0.25]), array([[0.5, 0.5, 0. ]]))
    """
    xp = floats("maximum", s_pos=(s_pos, "N"), s_neg=(s_neg, "N M"))
    companion("maximum", "negatives", negatives, kind="boolean", shape=s_neg.shape, like=s_neg)
    margin = validate.setting("maximum", "margin", margin, above=0.0, at_least=True)
    zero, one, nothing = constant(0.0, like=s_neg), constant(1.0, like=s_neg), constant(-xp.inf, like=s_neg)
    top = xp.max(xp.where(negatives, s_neg, nothing), axis=1)  # (N,)
    is_top = xp.where(negatives & (s_neg == top[:, None]), one, zero)  # (N, M)
    ties = xp.maximum(xp.sum(is_top, axis=1), one)  # (N,)
    return top - s_pos + margin, MaximumCache(is_top / ties[:, None], xp.any(negatives, axis=1))


def maximum_backward(dgap: Array, cache: MaximumCache) -> tuple[Array, Array]:
    """Return ds⁺ = −dgap and ds⁻ = dgap at the nearest negative, shared equally among ties."""
    xp = floats("maximum", dgap=(dgap, "N"), share=(cache.share, "N M"))
    dgap = xp.where(cache.occupied, dgap, constant(0.0, like=dgap))
    return -dgap, dgap[:, None] * cache.share


class WeightedSumCache(NamedTuple):
    negatives: Array  # (N, M) which candidates count
    total: Array  # (N,) Σ_k s_k
    weight: Array  # (N,)


def weighted_sum_forward(
    s_pos: Array, s_neg: Array, weight: Array, *, negatives: Array
) -> tuple[Array, WeightedSumCache]:
    r"""Pool the negatives by a weighted sum: every one counts the same, near or far.

    Parameters
    ----------
    s_pos : (N,) array of float32 or float64
        Similarity to the positive.
    s_neg : (N, M) array
        Similarity to the candidates.
    weight : (N,) array
        λ of each anchor, dimensionless.
    negatives : (N, M) array of booleans
        Which candidates count.

    Returns
    -------
    gap : (N,) array
        :math:`\lambda_i \sum_k s_{ik} - s_{ip}`; without negatives :math:`-s_{ip}`.
    cache : WeightedSumCache
        What the backward reads.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape.

    References
    ----------
    Eq. 3 of the paper.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.pooling import weighted_sum
    >>> every = np.ones((1, 2), dtype=bool)
    >>> gap, grads = weighted_sum(np.array([0.5]), np.array([[0.25, 0.75]]), np.array([0.5]), negatives=every)
    >>> gap, grads.ds_neg
    (array([0.]), array([[0.5, 0.5]]))
    """
    xp = floats("weighted_sum", s_pos=(s_pos, "N"), s_neg=(s_neg, "N M"), weight=(weight, "N"))
    companion("weighted_sum", "negatives", negatives, kind="boolean", shape=s_neg.shape, like=s_neg)
    total = xp.sum(xp.where(negatives, s_neg, constant(0.0, like=s_neg)), axis=1)  # (N,)
    return weight * total - s_pos, WeightedSumCache(negatives, total, weight)


def weighted_sum_backward(dgap: Array, cache: WeightedSumCache) -> tuple[Array, Array, Array]:
    """Return ds⁺ = −dgap, ds⁻ = λ dgap at every negative and dλ = dgap Σ_k s_k."""
    xp = floats("weighted_sum", dgap=(dgap, "N"), weight=(cache.weight, "N"))
    each = (dgap * cache.weight)[:, None]  # (N, 1)
    return -dgap, xp.where(cache.negatives, each, constant(0.0, like=dgap)), dgap * cache.total


class SeparateCache(NamedTuple):
    s_pos: Array  # (N,)
    s_neg: Array  # (N, M) 0 where masked
    negatives: Array  # (N, M) which candidates count
    scale: Array  # ()


def separate_forward(
    s_pos: Array, s_neg: Array, scale: Array, bias: Array, *, negatives: Array
) -> tuple[tuple[Array, Array], SeparateCache]:
    r"""Pool nothing: measure every pair by itself, against a threshold that all share.

    Parameters
    ----------
    s_pos : (N,) array of float32 or float64
        Similarity to the positive.
    s_neg : (N, M) array
        Similarity to the candidates.
    scale : float or () array
        1/τ, dimensionless.
    bias : float or () array
        In nats: a pair counts as positive where :math:`scale \cdot s + bias > 0`.
    negatives : (N, M) array of booleans
        Which candidates count.

    Returns
    -------
    gap_pos : (N,) array
        :math:`-(scale \cdot s_{ip} + bias)`: how far the positive stays below the threshold.
    gap_neg : (N, M) array
        :math:`scale \cdot s_{ik} + bias`: how far a negative comes up to it; −inf where none counts.
    cache : SeparateCache
        What the backward reads.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape.

    Notes
    -----
    The one room in which similarities themselves enter, not their differences: adding a number to all of them changes
    the gaps, unless the bias takes it back.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.pooling import separate
    >>> every = np.ones((1, 2), dtype=bool)
    >>> gaps, grads = separate(np.array([0.75]), np.array([[0.5, 0.0]]), 4.0, -1.0, negatives=every)
    >>> gaps
    (array([-2.]), array([[ 1., -1.]]))
    >>> grads.ds_pos, grads.ds_neg
    (array([-4.]), array([[4., 4.]]))
    """
    xp = floats("separate", s_pos=(s_pos, "N"), s_neg=(s_neg, "N M"))
    scale = validate.scalar("separate", "scale", scale, like=s_neg)
    bias = validate.scalar("separate", "bias", bias, like=s_neg)
    companion("separate", "negatives", negatives, kind="boolean", shape=s_neg.shape, like=s_neg)
    s_neg = xp.where(negatives, s_neg, constant(0.0, like=s_neg))  # (N, M)
    gap_neg = xp.where(negatives, scale * s_neg + bias, constant(-xp.inf, like=s_neg))  # (N, M)
    return (-(scale * s_pos + bias), gap_neg), SeparateCache(s_pos, s_neg, negatives, scale)


def separate_backward(dgap_pos: Array, dgap_neg: Array, cache: SeparateCache) -> tuple[Array, Array, Array, Array]:
    """Return ds⁺ = −scale dgap⁺, ds⁻ = scale dgap⁻, and for scale and bias the sums of ∓dgap s and of ∓dgap."""
    xp = floats("separate", dgap_pos=(dgap_pos, "N"), dgap_neg=(dgap_neg, "N M"))
    s_pos, s_neg, negatives, scale = cache
    dgap_neg = xp.where(negatives, dgap_neg, constant(0.0, like=dgap_neg))  # (N, M)
    dscale = xp.asarray(xp.sum(dgap_neg * s_neg) - xp.sum(dgap_pos * s_pos))  # ()
    dbias = xp.asarray(xp.sum(dgap_neg) - xp.sum(dgap_pos))  # ()
    return -scale * dgap_pos, scale * dgap_neg, dscale, dbias


def hardest_negatives(s_neg: Array, negatives: Array, *, hardest: float | int) -> Array:
    r"""Narrow the negatives to those nearest to the anchor.

    Parameters
    ----------
    s_neg : (N, M) array of float32 or float64
        Similarity to the candidates.
    negatives : (N, M) array of booleans
        Which candidates count.
    hardest : float or int
        A float α in (0, 1] keeps that fraction of each row's K negatives, max(1, round(α K)) of them; an int keeps that
        many, or all where a row has fewer.

    Returns
    -------
    kept : (N, M) array of booleans
        Negatives at or above the row's threshold :math:`s_\alpha`. Ties at the threshold are all kept.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or ``hardest`` is a bool, no number or out of range.

    Notes
    -----
    The threshold is a constant: no gradient flows through which negatives are kept. "Upper α quantile" in the paper
    means that a fraction α is kept.

    References
    ----------
    Section 3.3 of the paper, Eq. 8 and 9.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.pooling import hardest_negatives
    >>> every = np.ones((1, 4), dtype=bool)
    >>> hardest_negatives(np.array([[0.1, 0.4, 0.3, 0.2]]), every, hardest=0.5)
    array([[False,  True,  True, False]])
    """
    xp = floats("hardest_negatives", s_neg=(s_neg, "N M"))
    companion("hardest_negatives", "negatives", negatives, kind="boolean", shape=s_neg.shape, like=s_neg)
    hardest = validate.hardest("hardest_negatives", hardest)
    candidates = s_neg.shape[1]
    # The standard has no partition and no order statistic: sort each row upwards and read its threshold.
    ascending = xp.sort(xp.where(negatives, s_neg, constant(-xp.inf, like=s_neg)), axis=1)  # (N, M)
    keep = _how_many(xp, hardest, negatives)  # (N,) at least 1, at most M
    threshold = xp.take_along_axis(ascending, (candidates - keep)[:, None], axis=1)  # (N, 1)
    return negatives & (s_neg >= threshold)


def _how_many(xp: Namespace, hardest: float | int, negatives: Array) -> Array:
    table = integers(_kept_of(hardest, negatives.shape[1]), like=negatives)  # (M + 1,)
    return xp.take(table, xp.count_nonzero(negatives, axis=1))  # (N,)


@lru_cache(maxsize=16, typed=True)  # 1 is a count, 1.0 is all of them
def _kept_of(hardest: float | int, candidates: int) -> tuple[int, ...]:
    """Return how many negatives are kept of K, for K = 0, 1, ..., M.

    Rounded by Python, so that every library and either precision keeps the same negatives.
    """
    if isinstance(hardest, int):
        return (min(hardest, candidates),) * (candidates + 1)
    return tuple(max(1, round(hardest * k)) for k in range(candidates + 1))


soft_maximum = Pair(soft_maximum_forward, soft_maximum_backward)
maximum = Pair(maximum_forward, maximum_backward)
weighted_sum = Pair(weighted_sum_forward, weighted_sum_backward)
separate = Pair(separate_forward, separate_backward)
