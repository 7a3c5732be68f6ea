"""gap -> loss_i: how much an anchor is charged for its gap.

In:  ``gap`` (N,), how far the pooled negatives come up to the positive; −inf where there are none.
Out: ``loss`` (N,), in nats where the gap is a log-ratio.
The slope of the penalty, ∂loss/∂gap, is the one number by which an anchor scales everything it sends back.
"""

from typing import NamedTuple

from refcl.backend import Array, constant
from refcl.pair import Pair
from refcl.validate import floats


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
    cache : SoftplusCache
        What the backward reads.

    Notes
    -----
    With :math:`q = e^{-|gap|} \le 1` the loss is :math:`\max(gap, 0) + \log(1 + q)` and its slope is 1 or q, over
    1 + q: nothing overflows, and where the positive dominates (gap → −∞) both are :math:`e^{gap}` to the last digit,
    where :math:`-\log` of a probability near 1 would be 0.

    References
    ----------
    Eq. 1 is softplus of the soft maximum; Eq. 6 writes it as log[1 + Σ exp((s_k − s_p)/τ)].

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.penalty import softplus
    >>> loss, grads = softplus(np.array([0.0, -100.0]))
    >>> loss, grads.dgap
    (array([6.93147181e-01, 3.72007598e-44]), array([5.00000000e-01, 3.72007598e-44]))
    """
    xp = floats("softplus", gap=(gap, "N"))
    zero, one = constant(0.0, like=gap), constant(1.0, like=gap)
    q = xp.exp(-xp.abs(gap))  # (N,) in [0, 1]
    loss = xp.maximum(gap, zero) + xp.log1p(q)  # (N,)
    return loss, SoftplusCache(xp.where(gap >= 0, one, q) / (1 + q))


def softplus_backward(dloss: Array, cache: SoftplusCache) -> Array:
    """Return dgap = σ(gap) dloss: σ = 1 − P⁺ is how much this anchor still has to learn."""
    floats("softplus", dloss=(dloss, "N"), slope=(cache.slope, "N"))
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
    cache : None
        The backward needs nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.penalty import identity
    >>> identity(np.array([-0.5]))[0]
    array([-0.5])
    """
    floats("identity", gap=(gap, "N"))
    return gap, None


def identity_backward(dloss: Array, cache: None) -> Array:
    """Return dgap = dloss: every anchor pushes with full weight, however well it does."""
    floats("identity", dloss=(dloss, "N"))
    return dloss


class HingeCache(NamedTuple):
    open: Array  # (N,) where gap > 0


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
    cache : HingeCache
        What the backward reads.

    Notes
    -----
    At the kink, gap = 0, the gradient is 0.

    References
    ----------
    The limit of the softmax loss as τ → 0⁺, Eq. 6.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.penalty import hinge
    >>> loss, grads = hinge(np.array([-0.5, 0.0, 0.25]))
    >>> loss, grads.dgap
    (array([0.  , 0.  , 0.25]), array([0., 0., 1.]))
    """
    xp = floats("hinge", gap=(gap, "N"))
    return xp.maximum(gap, constant(0.0, like=gap)), HingeCache(gap > 0)


def hinge_backward(dloss: Array, cache: HingeCache) -> Array:
    """Return dgap = dloss where the gap is positive, and 0 elsewhere."""
    xp = floats("hinge", dloss=(dloss, "N"))
    return xp.where(cache.open, dloss, constant(0.0, like=dloss))


softplus = Pair(softplus_forward, softplus_backward)
identity = Pair(identity_forward, identity_backward)
hinge = Pair(hinge_forward, hinge_backward)
