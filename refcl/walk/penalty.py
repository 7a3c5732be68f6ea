"""gap -> loss_i: how much an anchor is charged for its gap.

In:  ``gap`` (N,), the pooled negatives less the positive; −inf where there are none.
Out: ``loss`` (N,), in nats where the gap is a log-ratio.
The slope of the penalty, ∂loss/∂gap, is the one number by which an anchor scales everything it sends back.
"""

from typing import NamedTuple

from refcl.core.arrays import Array, constant, namespace
from refcl.core.pair import room


class SoftplusCache(NamedTuple):
    slope: Array  # (N,) the sigmoid of the gap


def softplus_forward(gap: Array) -> tuple[Array, SoftplusCache]:
    r"""Charge the softplus of the gap: the softmax loss.

    Parameters
    ----------
    gap : (N,) array of float32 or float64
        Soft maximum of (s_k − s_p)/τ over the negatives, in nats.

    Returns
    -------
    loss : (N,) array
        :math:`\log(1 + e^{gap}) = -\log P^+`, in nats.
    grads : named tuple
        dgap.

    Notes
    -----
    With :math:`q = e^{-|gap|} \le 1` the loss is :math:`\max(gap, 0) + \log(1 + q)` and its slope
    :math:`e^{\min(gap, 0)}/(1 + q)`, 1 or q over 1 + q: nothing overflows, and where the positive dominates (gap → −∞)
    both are :math:`e^{gap}` to the last digit, where :math:`-\log` of a probability near 1 would be 0.

    References
    ----------
    Eq. 1 is softplus of the soft maximum; Eq. 6 writes it as log[1 + Σ exp((s_k − s_p)/τ)].

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.penalty import softplus
    >>> loss, grads = softplus(np.array([0.0, -100.0]))
    >>> loss, grads.dgap
    (array([6.93147181e-01, 3.72007598e-44]), array([5.00000000e-01, 3.72007598e-44]))
    """
    xp = namespace(gap)
    q = xp.exp(-xp.abs(gap))  # (N,) in [0, 1]
    loss = xp.maximum(gap, 0.0) + xp.log1p(q)  # (N,)
    return loss, SoftplusCache(xp.exp(xp.minimum(gap, 0.0)) / (1 + q))


def softplus_backward(dloss: Array, cache: SoftplusCache) -> Array:
    """Return dgap = σ(gap) dloss: σ = 1 − P⁺ is how much this anchor still has to learn."""
    return dloss * cache.slope


def identity_forward(gap: Array) -> tuple[Array, None]:
    """Charge the gap itself: the simple loss.

    Parameters
    ----------
    gap : (N,) array of float32 or float64
        Any gap.

    Returns
    -------
    loss : (N,) array
        The gap.
    grads : named tuple
        dgap.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.penalty import identity
    >>> identity(np.array([-0.5]))[0]
    array([-0.5])
    """
    return gap, None


def identity_backward(dloss: Array, cache: None) -> Array:
    """Return dgap = dloss: every anchor pushes with full weight, however well it does."""
    return dloss


class PairSoftplusCache(NamedTuple):
    positives: SoftplusCache
    negatives: SoftplusCache  # of the (N M,) negatives, row after row


def pair_softplus_forward(gap_pos: Array, gap_neg: Array) -> tuple[Array, PairSoftplusCache]:
    """Charge every pair the softplus of its gap, and each anchor the sum over its pairs."""
    xp = namespace(gap_neg)
    own, positives = softplus_forward(gap_pos)  # (N,)
    others, negatives = softplus_forward(xp.reshape(gap_neg, (-1,)))  # (N M,)
    return own + xp.sum(xp.reshape(others, gap_neg.shape), axis=1), PairSoftplusCache(positives, negatives)


def pair_softplus_backward(dloss: Array, cache: PairSoftplusCache) -> tuple[Array, Array]:
    """Return dgap of the positives (N,) and of the negatives (N, M): each anchor's push goes to all its pairs."""
    xp = namespace(dloss)
    anchors = dloss.shape[0]
    shape = (anchors, cache.negatives.slope.shape[0] // anchors)
    dothers = xp.reshape(xp.broadcast_to(dloss[:, None], shape), (-1,))  # (N M,)
    dgap_neg = xp.reshape(softplus_backward(dothers, cache.negatives), shape)  # (N, M)
    return softplus_backward(dloss, cache.positives), dgap_neg


class WeightedSoftplusCache(NamedTuple):
    slope: Array  # (N,)


def weighted_softplus_forward(gap: Array, *, detach: bool = True) -> tuple[Array, WeightedSoftplusCache]:
    r"""Charge the softplus of the gap over its own slope: no anchor falls silent by doing well.

    Parameters
    ----------
    gap : (N,) array of float32 or float64
        Soft maximum of (s_k − s_p)/τ over the negatives, in nats; −inf where there are none.
    detach : bool
        Whether the weight, 1 over the slope, is a constant in the gradient.

    Returns
    -------
    loss : (N,) array
        :math:`-\log P^+ / (1 - P^+)`, in nats, > 1 and tending to 1 where the positive dominates; 0 without negatives.
    grads : named tuple
        dgap.

    Notes
    -----
    With the weight detached the slope is 1, as for the identity. Otherwise it is, with :math:`x = e^{gap}`,
    :math:`1 - \log(1 + x)/x`, which vanishes with x. There :math:`x - \log(1 + x)` is summed as a series in
    :math:`r = x/(2 + x) \le 1/3`, since :math:`\log(1 + x) = 2\,\mathrm{artanh}\, r` and :math:`x - 2r = x r`:

    .. math:: \frac{x - \log(1 + x)}{x} = r - \frac{2 r^2}{2 + x} \sum_{j \ge 0} \frac{r^{2j}}{2j + 3}

    References
    ----------
    Huang et al., "Model-Aware Contrastive Learning: Towards Escaping the Dilemmas", ICML 2023 (arXiv 2207.07874).

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.penalty import weighted_softplus
    >>> loss, grads = weighted_softplus(np.array([0.0, -100.0]))
    >>> loss, grads.dgap
    (array([1.38629436, 1.        ]), array([1., 1.]))
    """
    xp = namespace(gap)
    zero, one = constant(0.0, like=gap), constant(1.0, like=gap)
    occupied = gap != -xp.inf
    q = xp.exp(-xp.abs(gap))  # (N,) in [0, 1]: x where gap < 0, 1/x elsewhere
    behind = xp.log1p(q) / xp.where(q > 0, q, one) + xp.where(q > 0, zero, one)  # (N,) log(1 + x)/x, 1 at x = 0
    ahead = xp.where(gap >= 0, gap, zero) + xp.log1p(q)  # (N,) softplus where gap >= 0
    loss = xp.where(occupied, xp.where(gap >= 0, ahead, behind) * (1 + q), zero)  # (N,)
    if detach:
        return loss, WeightedSoftplusCache(xp.where(occupied, one, zero))
    r = q / (2 + q)  # (N,) in [0, 1/3]
    series = xp.zeros_like(r)
    for j in range(SERIES_TERMS - 1, -1, -1):
        series = 1 / (2 * j + 3) + r * r * series
    slope = xp.where(gap >= 0, 1 - ahead * q, r - 2 * r * r * series / (2 + q))  # (N,)
    return loss, WeightedSoftplusCache(slope)


# r² <= 1/9: the first term left out is below 9⁻¹⁸ = 7e-18 of the first.
SERIES_TERMS = 18


def weighted_softplus_backward(dloss: Array, cache: WeightedSoftplusCache) -> Array:
    """Return dgap = dloss with the weight detached; else (1 − log(1 + x)/x) dloss, x = e^gap.

    softplus/σ has the slope σ/σ − softplus σ(1 − σ)/σ² = 1 − softplus (1 − σ)/σ, and (1 − σ)/σ = 1/x.
    """
    return dloss * cache.slope


class HingeCache(NamedTuple):
    open: Array  # (N,) where gap > 0
    closed: Array  # (N,) the slope elsewhere: 0, or NaN where the gap is


def hinge_forward(gap: Array) -> tuple[Array, HingeCache]:
    """Charge the gap where it is positive: the triplet loss.

    Parameters
    ----------
    gap : (N,) array of float32 or float64
        Maximum of s_k − s_p over the negatives, plus a margin.

    Returns
    -------
    loss : (N,) array
        max(gap, 0).
    grads : named tuple
        dgap.

    Notes
    -----
    At the kink, gap = 0, the gradient is 0.

    References
    ----------
    The limit of the softmax loss as τ → 0⁺, Eq. 6.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.penalty import hinge
    >>> loss, grads = hinge(np.array([-0.5, 0.0, 0.25]))
    >>> loss, grads.dgap
    (array([0.  , 0.  , 0.25]), array([0., 0., 1.]))
    """
    xp = namespace(gap)
    return xp.maximum(gap, 0.0), HingeCache(gap > 0, xp.where(gap <= 0, 0.0, gap))


def hinge_backward(dloss: Array, cache: HingeCache) -> Array:
    """Return dgap = dloss where the gap is positive, and 0 elsewhere."""
    xp = namespace(dloss)
    return xp.where(cache.open, dloss, cache.closed)


softplus = room(softplus_forward, softplus_backward)
identity = room(identity_forward, identity_backward)
weighted_softplus = room(weighted_softplus_forward, weighted_softplus_backward)
hinge = room(hinge_forward, hinge_backward)
