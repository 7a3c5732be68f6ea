"""s+, s- -> gap: negatives that were drawn from unlabelled data, corrected for what hides among them.

In:  what a pool takes: ``s_pos`` (N,), ``s_neg`` (N, M), the mask ``negatives``.
Out: a gap whose pool counts near negatives for more (`reweighted_soft_maximum`), less the share of it that false
negatives are expected to add (`debias`); and, for a loss that weighs its positives, how far each one's weight falls
short of 1 (`weight_shortfall`).
"""

import math
from typing import Any, NamedTuple

from refcl.core.arguments import Floats
from refcl.core.arrays import Array, constant, namespace
from refcl.core.pair import room
from refcl.walk.pooling.soft_maximum import SoftMaximumCache, soft_maximum_backward


def reweighted_soft_maximum_forward(
    s_pos: Array, s_neg: Array, temperature: Any, *, negatives: Array, beta: float, detach: bool = False
) -> tuple[Array, SoftMaximumCache]:
    r"""Pool the negatives by a soft maximum in which each counts by its own hardness.

    Parameters
    ----------
    s_pos, s_neg, temperature, negatives : optional
        As in `soft_maximum`.
    beta : float
        β >= 0: a negative is weighed by :math:`e^{\beta s_k/\tau}`. 0 is `pooling.soft_maximum`.
    detach : bool
        Whether the weights are constants in the gradient.

    Returns
    -------
    gap : (N,) array
        :math:`\log\sum_k w_{ik} e^{\Delta_{ik}/\tau}` with :math:`\Delta_{ik} = s_{ik} - s_{ip}` and weights
        :math:`w_{ik} = e^{\beta s_{ik}/\tau} / \operatorname{mean}_l e^{\beta s_{il}/\tau}`, whose mean is 1; −inf
        without negatives.
    grads : named tuple
        ds_pos, ds_neg, dtemperature.

    Notes
    -----
    With q and p the Boltzmann distributions of the negatives at τ/(1 + β) and τ/β, the share of a negative is
    :math:`(1 + \beta) q_k - \beta p_k`: far negatives are pulled, since raising them would thin out the weight of the
    near ones. With weights detached it is :math:`q_k`, the softmax loss's relative penalty at a lower temperature.
    Either sums to 1.

    References
    ----------
    Robinson, Chuang, Sra and Jegelka, "Contrastive Learning with Hard Negative Samples", ICLR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.pooling.reweighted import reweighted_soft_maximum
    >>> every = np.ones((1, 2), dtype=bool)
    >>> gap, grads = reweighted_soft_maximum(np.array([0.5]), np.array([[0.5, 0.3]]), 0.1, negatives=every, beta=1.0)
    >>> gap.round(6), grads.ds_neg.round(6)
    (array([0.584376]), array([[10.832299, -0.832299]]))
    """
    xp = namespace(s_pos)
    zero, one, nothing = constant(0.0, like=s_neg), constant(1.0, like=s_neg), constant(-xp.inf, like=s_neg)
    d = xp.where(negatives, s_neg - s_pos[:, None], zero)  # (N, M)
    occupied = xp.any(negatives, axis=1)  # (N,)
    top = xp.where(occupied, xp.max(xp.where(negatives, d, nothing), axis=1), zero)  # (N,) d_max
    below = xp.where(negatives, (d - top[:, None]) / temperature, zero)  # (N, M) <= 0
    weight = xp.where(negatives, xp.exp(beta * below), zero)  # (N, M) in [0, 1]
    weighed = xp.where(negatives, xp.exp((1 + beta) * below), zero)  # (N, M) in [0, 1]
    total_weight = xp.where(occupied, xp.sum(weight, axis=1), one)  # (N,) at least 1
    total = xp.where(occupied, xp.sum(weighed, axis=1), one)  # (N,) at least 1
    count = xp.where(occupied, xp.sum(xp.where(negatives, one, zero), axis=1), one)  # (N,)
    gap = xp.where(occupied, top / temperature + xp.log(total * (count / total_weight)), nothing)  # (N,)
    relative = weighed / total[:, None]  # (N, M) q
    if not detach:
        relative = (1 + beta) * relative - beta * (weight / total_weight[:, None])
    return gap, SoftMaximumCache(relative, xp.sum(relative * d, axis=1), occupied, temperature)


def reweighted_soft_maximum_backward(dgap: Array, cache: SoftMaximumCache) -> tuple[Array, Array, Array]:
    """Return ds⁺, ds⁻ and dτ: the soft maximum's own way back, with the shares (1 + β) q − β p for r.

    gap = log Σ exp((1 + β) Δ_k/τ) − log Σ exp(β Δ_k/τ) + log K: the slopes are (1 + β) q_k/τ and β p_k/τ.
    """
    return soft_maximum_backward(dgap, cache)


class DebiasCache(NamedTuple):
    slope: Array  # (N,) ∂gap'/∂gap: e^gap over what is left of it; 0 where the floor holds
    floored: Array  # (N,) where the estimate fell below the least it can be
    headroom: Array  # (N,) (1 + s⁺)/τ
    temperature: Array  # ()


def debias_forward(
    gap: Array, s_pos: Array, temperature: Any, *, count: Array, tau_plus: float
) -> tuple[Array, DebiasCache]:
    r"""Take out of the pooled negatives what positives among them are expected to add.

    Parameters
    ----------
    gap : (N,) array of float32 or float64
        Pooled negatives above the positive, in nats: a soft maximum, reweighted or not.
    s_pos : (N,) array
        Similarity to the positive, a cosine.
    temperature : optional
        As in `soft_maximum`.
    count : (N,) array
        K of each anchor: how many negatives were pooled.
    tau_plus : float
        τ⁺ in [0, 1): the share of samples that are of the anchor's own class.

    Returns
    -------
    corrected : (N,) array
        :math:`\log\max\bigl\{(e^{gap} - \tau^+ K)/(1 - \tau^+),\; K e^{-(1 + s^+)/\tau}\bigr\}`; −inf without
        negatives, and the gap itself with τ⁺ = 0, where nothing is taken out and no floor is needed.
    grads : named tuple
        dgap, ds_pos, dtemperature.

    Notes
    -----
    K negatives contain about τ⁺ K positives, each adding :math:`e^{s^+/\tau}`, which is 1 above the positive. The floor
    is the least that K cosines can add. Where it holds, the gap no longer counts: the negatives get no gradient, and
    the positive is pulled by the floor alone. At the kink, where both are equal, the gradient is the estimate's, as in
    ``torch.clamp``. Both are kept as logarithms: nothing overflows at a small τ.

    References
    ----------
    Chuang, Robinson, Yen-Chen, Torralba and Jegelka, "Debiased Contrastive Learning", NeurIPS 2020: the estimator g
    with one positive, M = 1.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.pooling.reweighted import debias
    >>> corrected, _ = debias(np.log([1.0]), np.array([0.5]), 0.5, count=np.array([2.0]), tau_plus=0.25)
    >>> np.exp(corrected).round(6)
    array([0.666667])
    """
    xp = namespace(gap)
    zero, one, nothing = constant(0.0, like=gap), constant(1.0, like=gap), constant(-xp.inf, like=gap)
    occupied = count > 0  # (N,)
    headroom = (1 + s_pos) / temperature  # (N,)
    if tau_plus == 0.0:
        return gap, DebiasCache(xp.where(occupied, one, zero), occupied & ~occupied, headroom, temperature)
    log_count = xp.log(xp.maximum(count, one))  # (N,)
    over = gap - log_count - math.log(tau_plus)  # (N,) log of e^gap over τ⁺ K
    left = xp.where(over <= 0, one, over)  # (N,)
    share_left = -xp.expm1(-left)  # (N,) 1 − τ⁺ K/e^gap, in (0, 1]
    estimate = xp.where(over <= 0, nothing, gap + xp.log(share_left) - math.log1p(-tau_plus))  # (N,)
    floor = log_count - headroom  # (N,)
    floored = occupied & (estimate < floor)
    corrected = xp.where(occupied, xp.where(floored, floor, estimate), nothing)
    slope = xp.where(occupied & ~floored, 1 / share_left, zero)  # (N,)
    return corrected, DebiasCache(slope, floored, headroom, temperature)


def debias_backward(dcorrected: Array, cache: DebiasCache) -> tuple[Array, Array, Array]:
    """Return dgap = dcorrected e^gap/(e^gap − τ⁺ K); at the floor ds⁺ = −dcorrected/τ, dτ = Σ dcorrected (1 + s⁺)/τ².

    log(e^gap − c) has the slope e^gap/(e^gap − c) = 1/(1 − e^(log c − gap)): above 1, since what is taken out is fixed.
    """
    xp = namespace(dcorrected)
    at_floor = xp.where(cache.floored, dcorrected / cache.temperature, constant(0.0, like=dcorrected))  # (N,)
    dtemperature = xp.asarray(xp.sum(at_floor * cache.headroom))  # ()
    return dcorrected * cache.slope, -at_floor, dtemperature


class WeightShortfallCache(NamedTuple):
    share: Array  # (N,) p, the softmax of s⁺/σ over the anchors
    mass: float
    sigma: float


def weight_shortfall_forward(
    s_pos: Array, *, sigma: float = 0.5, mass: float | None = None
) -> tuple[Array, WeightShortfallCache]:
    r"""Return by how much each positive's von Mises-Fisher weight falls short of 1.

    Parameters
    ----------
    s_pos : optional
        As in `soft_maximum`.
    sigma : float
        σ > 0: width of the weighting.
    mass : float, optional
        m > 0: what the weights, together, are taken off 2. By default N, so that they average 1.

    Returns
    -------
    shortfall : (N,) array
        :math:`1 - w_i = m\, e^{s_i^+/\sigma}/\sum_j e^{s_j^+/\sigma} - 1`: greatest for the nearest positives, which
        then are pulled least. With m = N it averages 0.
    grads : named tuple
        ds_pos.

    Notes
    -----
    With m = N it is the difference of :math:`e^{(s_i^+ - s_{\max}^+)/\sigma} - 1` and its mean, over the mean
    exponential: exact where all positives are nearly equally near.

    References
    ----------
    Yeh et al., "Decoupled Contrastive Learning", ECCV 2022 (arXiv 2110.06848): the negative von Mises-Fisher weighting.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.pooling.reweighted import weight_shortfall
    >>> weight_shortfall(np.array([0.25, 0.25]))[0]
    array([0., 0.])
    """
    xp = namespace(s_pos)
    below = (s_pos - xp.max(s_pos)) / sigma  # (N,) <= 0
    e = xp.exp(below)  # (N,) in [0, 1]
    share = e / xp.sum(e)  # (N,)
    if mass is not None:
        return mass * share - 1, WeightShortfallCache(share, mass, sigma)
    less = xp.expm1(below)  # (N,)
    return (less - xp.mean(less)) / xp.mean(e), WeightShortfallCache(share, s_pos.shape[0], sigma)


def weight_shortfall_backward(dshortfall: Array, cache: WeightShortfallCache) -> Array:
    """Return ds⁺_j = m p_j (dshortfall_j − Σ_i p_i dshortfall_i)/σ: the softmax's Jacobian."""
    share, mass, sigma = cache
    xp = namespace(dshortfall)
    return (mass / sigma) * share * (dshortfall - xp.sum(share * dshortfall))


reweighted_soft_maximum = room(reweighted_soft_maximum_forward, reweighted_soft_maximum_backward)
debias = room(debias_forward, debias_backward, count=Floats("N"))
weight_shortfall = room(weight_shortfall_forward, weight_shortfall_backward)
