"""s, t -> loss_i: the softmax loss where the positive is a distribution over the candidates.

In:  similarities ``s`` (N, M), ``targets`` (N, M), weights of the logits and the mask ``counted`` of what counts.
Out: ``loss`` (N,) in nats, 0 for a row without candidates. Pool and penalty in one: every candidate is charged the
softplus of how far the others come up to it, as often as it is the target.
"""

from typing import NamedTuple

from refcl.core.arguments import Mask
from refcl.core.arrays import Array, Namespace, arange, constant, namespace
from refcl.core.pair import room


class SoftCrossEntropyCache(NamedTuple):
    excess: Array  # (N, M) T p_k − t_k, what a logit is pushed by; rows sum to 0, 0 where masked
    mean_difference: Array  # (N,) Σ_k (T p_k − t_k)(s_k − s_top)
    surprise: Array  # (N, M) −log p_k, 0 where masked
    temperature: Array  # ()
    label_smoothing: float
    weighted: bool  # whether log_weight was given


def soft_cross_entropy_forward(
    s: Array,
    targets: Array,
    temperature: Array,
    log_weight: Array | None = None,
    *,
    counted: Array,
    label_smoothing: float = 0.0,
) -> tuple[Array, SoftCrossEntropyCache]:
    r"""Charge the cross-entropy of a distribution over the candidates.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities of each anchor to all candidates.
    targets : (N, M) array
        t >= 0: how much of an anchor's positive each candidate is. A distribution, if a row sums to 1; taken as it is.
    temperature : optional
        As in `soft_maximum`.
    log_weight : (N, M) array, optional
        w, added to the logits s/τ: a candidate counts as :math:`e^w` of its kind.
    counted : (N, M) array of booleans
        Which of them count. What is masked is no target either.
    label_smoothing : float
        ε in [0, 1): the target is (1 − ε) t + ε/C, C the number of candidates that count.

    Returns
    -------
    loss : (N,) array
        :math:`-\sum_k t_k \log p_k` with :math:`p` the softmax of :math:`x = s/\tau + w`, in nats.
    grads : named tuple
        ds, dtargets, dtemperature, dlog_weight.

    Notes
    -----
    It is :math:`\sum_k t_k \operatorname{softplus}(gap_k)`, with :math:`gap_k` the soft maximum of all others above k:
    the softmax loss of a positive that is drawn from t. From the nearest candidate m, with :math:`T = \sum_k t_k`,

    .. math:: L = T \log\Bigl(1 + \sum_{k \ne m} e^{x_k - x_m}\Bigr) + \sum_k t_k (x_m - x_k)

    has terms >= 0 only, and so has each half of :math:`T p_k - t_k = p_k (T - t_k) - t_k (1 - p_k)`, where 1 − p and
    T − t are sums over the others: a target of all of T keeps its digits where p is all but 1.

    References
    ----------
    Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, Section 7, for ε.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.pooling.soft_cross_entropy import soft_cross_entropy
    >>> every, even = np.ones((1, 2), dtype=bool), np.array([[0.5, 0.5]])
    >>> soft_cross_entropy(np.array([[0.3, 0.3]]), even, 0.1, counted=every)[0]
    array([0.69314718])
    """
    xp = namespace(s)
    zero, one, nothing = constant(0.0, like=s), constant(1.0, like=s), constant(-xp.inf, like=s)
    number = xp.maximum(xp.sum(xp.where(counted, one, zero), axis=1), one)  # (N,) C
    t = xp.where(counted, (1 - label_smoothing) * targets + label_smoothing / number[:, None], zero)  # (N, M)
    x = s if log_weight is None else s / temperature + log_weight  # in the order of the logits
    nearest = _place_of_greatest(xp, xp.where(counted, x, nothing))  # (N, M) one True a row
    delta = xp.where(counted, s - _at(xp, nearest, s), zero)  # (N, M)
    d = delta / temperature
    if log_weight is not None:
        d = d + xp.where(counted, log_weight - _at(xp, nearest, log_weight), zero)
    e = xp.where(counted, xp.exp(d), zero)  # (N, M) 1 at the nearest
    total, others = _of_others(xp, e, nearest)
    total = xp.where(total > 0, total, xp.where(xp.isnan(total), total, one))  # (N,) at least 1
    behind = xp.log1p(xp.sum(xp.where(nearest, others, zero), axis=1))  # (N,) −log p of the nearest
    surprise = xp.where(counted, behind[:, None] - d, zero)  # (N, M)
    whole, other_targets = _of_others(xp, t, _place_of_greatest(xp, t))
    loss = whole * behind - xp.sum(t * xp.where(t == 0, zero, d), axis=1)  # (N,) no 0 times −inf
    excess = (e * other_targets - t * others) / total[:, None]  # (N, M)
    mean_difference = xp.sum(excess * xp.where(excess == 0, zero, delta), axis=1)  # (N,)
    return loss, SoftCrossEntropyCache(
        excess, mean_difference, surprise, temperature, label_smoothing, log_weight is not None
    )


def soft_cross_entropy_backward(dloss: Array, cache: SoftCrossEntropyCache) -> tuple[Array, Array, Array, Array | None]:
    """Return ds = dloss (T p − t)/τ, dt = −(1 − ε) dloss log p, dτ = −Σ dloss Σ_k (T p_k − t_k) s_k/τ² and dw.

    L = T log Σ e^x − Σ t x by x is T p − t; x = s/τ + w hands it on over τ, as it is, and for τ as −s/τ² takes it.
    """
    xp = namespace(dloss)
    dlog_weight = dloss[:, None] * cache.excess  # (N, M)
    dtemperature = -xp.sum(dloss * cache.mean_difference / cache.temperature) / cache.temperature  # ()
    dtargets = (1 - cache.label_smoothing) * dloss[:, None] * cache.surprise  # (N, M)
    given = dlog_weight if cache.weighted else None
    return dlog_weight / cache.temperature, dtargets, xp.asarray(dtemperature), given


def _place_of_greatest(xp: Namespace, x: Array) -> Array:
    """Return a mask (N, M) of the first greatest entry of each row."""
    return arange(x.shape[1], like=x) == xp.argmax(x, axis=1)[:, None]


def _at(xp: Namespace, place: Array, x: Array) -> Array:
    """Return what stands at each row's place (N, 1)."""
    return xp.sum(xp.where(place, x, constant(0.0, like=x)), axis=1)[:, None]


def _of_others(xp: Namespace, x: Array, greatest: Array) -> tuple[Array, Array]:
    """Return the sums of the rows (N,) and of each entry's others (N, M), for entries >= 0.

    All but the greatest are at most half of the sum, so that what is left without one of them has its digits.
    """
    rest = xp.sum(xp.where(greatest, constant(0.0, like=x), x), axis=1)  # (N,)
    total = rest + _at(xp, greatest, x)[:, 0]
    return total, xp.where(greatest, rest[:, None], total[:, None] - x)


soft_cross_entropy = room(soft_cross_entropy_forward, soft_cross_entropy_backward, counted=Mask("N M"))
