"""s -> L: the softmax loss in which every anchor has a temperature of its own.

In:  similarities ``s`` (N, M) and temperatures (N,), or the entropy that every anchor's relative penalty shall have.
Out: a loss and its gradient. One room differs from the softmax loss: differences are divided by τ, then pooled.
"""

from typing import Any, NamedTuple

from refcl import validate
from refcl.backend import Array, constant, namespace
from refcl.hardness import temperature_for_entropy
from refcl.losses.on_embeddings import CompareCache, compare_backward, compare_forward
from refcl.pair import Pair
from refcl.pairing import PairingCache, check_roles, pairing_backward, pairing_forward
from refcl.penalty import SoftplusCache, softplus_backward, softplus_forward
from refcl.pooling import SoftMaximumCache, soft_maximum_backward, soft_maximum_forward
from refcl.reduce import ReduceCache, reduce_backward, reduce_forward


class PerAnchorCache(NamedTuple):
    pairing: PairingCache
    pool: SoftMaximumCache
    penalty: SoftplusCache
    reduced: ReduceCache
    temperature: Array  # (N,)


def per_anchor_contrastive_forward(
    s: Array,
    temperature: Array,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, PerAnchorCache]:
    r"""Softmax contrastive loss with one temperature an anchor.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    temperature : (N,) array
        τ of each anchor, > 0, dimensionless.
    positive : (N,) array of integers, optional
        Column of each anchor's positive; by default the diagonal.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    cache : PerAnchorCache
        What the backward reads; the pair returns the gradients ds (N, M) and dtemperature (N,) instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape.

    Notes
    -----
    .. math:: L_i = \operatorname{softplus}\Bigl(\log\sum_k e^{(s_{ik}-s_{ip})/\tau_i}\Bigr)

    With all temperatures equal it is `softmax_contrastive`, whose dtemperature is the sum of this one's.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import per_anchor_contrastive
    >>> s = np.array([[0.8, 0.5, 0.7], [0.1, 0.8, 0.3]])
    >>> loss, grads = per_anchor_contrastive(s, np.array([0.1, 0.5]), reduction="none")
    >>> loss.round(6), grads.dtemperature.round(6)
    (array([0.349012, 0.479011]), array([3.648535, 0.883401]))
    """
    xp = validate.floats("per_anchor_contrastive", s=(s, "N M"), temperature=(temperature, "N"))
    check_roles("per_anchor_contrastive", s, s.shape[1], positive=positive, ignore=ignore)
    validate.reduction("per_anchor_contrastive", reduction)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    d = (s_neg - s_pos[:, None]) / temperature[:, None]  # (N, M) in units of each anchor's own τ
    one = constant(1.0, like=s)
    gap, pool = soft_maximum_forward(xp.zeros_like(s_pos), d, one, negatives=pairing.negatives)
    loss, penalty = softplus_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, PerAnchorCache(pairing, pool, penalty, reduced, temperature)


def per_anchor_contrastive_backward(dvalue: Array, cache: PerAnchorCache) -> tuple[Array, Array]:
    """Return ds and dτ: σ r_k/τ at a negative, −σ/τ at the positive, and dτ_i = −σ E_r[d]/τ² for each anchor.

    The pool sees d/τ: its temperature is 1, and what it sends back is divided by τ once more.
    """
    dloss = reduce_backward(dvalue, cache.reduced)
    dgap = softplus_backward(dloss, cache.penalty)
    xp = namespace(dgap)
    ds_pos, dd, _ = soft_maximum_backward(dgap, cache.pool)
    temperature = cache.temperature
    dtemperature = xp.where(cache.pool.occupied, -dgap * cache.pool.mean_difference / temperature, dgap)  # (N,)
    return pairing_backward(ds_pos / temperature, dd / temperature[:, None], cache.pairing), dtemperature


class FixedEntropyCache(NamedTuple):
    walk: PerAnchorCache
    slope: Array | None  # (N, M) ∂τ_i/∂s_ik, 0 off the negatives; None where τ is a constant


def fixed_entropy_contrastive_forward(
    s: Array,
    *,
    entropy: float,
    detach: bool = True,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, FixedEntropyCache]:
    r"""Softmax contrastive loss at the temperatures that give every anchor's relative penalty one entropy.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    entropy : float
        H in nats, above the log of the number of nearest negatives and below log K, in every row.
    detach : bool
        Whether the temperatures are constants in the gradient, as in the authors' code.
    positive : (N,) array of integers, optional
        Column of each anchor's positive; by default the diagonal.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    cache : FixedEntropyCache
        What the backward reads; the pair returns the gradient ds (N, M) instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a row cannot have that entropy at any temperature.

    Notes
    -----
    `hardness.temperature_for_entropy`, then `per_anchor_contrastive`: however hard an anchor's negatives are, as many
    of them share its push. The temperatures are found on the host: a device is waited for. The authors' unpublished
    objective (``fix_entropy``) bisects τ thirteen times between 0 and 10.

    With τ let through, the entropy stays as it is while s moves, so :math:`\partial H/\partial s_k + (dH/d\tau)\,
    \partial\tau/\partial s_k = 0`, and :math:`\partial\tau/\partial s_k = r_k (s_k - E_r[s])\, \tau /
    \mathrm{Var}_r(s)`.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import fixed_entropy_contrastive, softmax_contrastive
    >>> s = np.array([[0.8, 0.5, 0.1, -0.3, 0.7]])
    >>> loss, _ = fixed_entropy_contrastive(s, entropy=0.7405332574)
    >>> bool(abs(loss - softmax_contrastive(s, 0.2)[0]) < 1e-9)
    True
    """
    xp = validate.floats("fixed_entropy_contrastive", s=(s, "N M"))
    check_roles("fixed_entropy_contrastive", s, s.shape[1], positive=positive, ignore=ignore)
    validate.reduction("fixed_entropy_contrastive", reduction)
    entropy = validate.setting("fixed_entropy_contrastive", "entropy", entropy, above=0.0)
    temperature = temperature_for_entropy(s, entropy, positive=positive, ignore=ignore)  # (N,)
    value, walk = per_anchor_contrastive_forward(s, temperature, positive=positive, ignore=ignore, reduction=reduction)
    if detach:
        return value, FixedEntropyCache(walk, None)
    r = walk.pool.relative
    nearest = xp.max(xp.where(r > 0, s, constant(-xp.inf, like=s)), axis=1, keepdims=True)  # (N, 1)
    below = xp.where(r > 0, s - nearest, constant(0.0, like=s))  # (N, M) <= 0
    deviation = below - xp.sum(r * below, axis=1, keepdims=True)  # (N, M) s_k − E_r[s]
    variance = xp.sum(r * deviation**2, axis=1)  # (N,) > 0, or the entropy could not be had
    return value, FixedEntropyCache(walk, r * deviation * (temperature / variance)[:, None])


def fixed_entropy_contrastive_backward(dvalue: Array, cache: FixedEntropyCache) -> Array:
    """Return ds: the per-anchor loss's own and, unless τ is constant, dτ_i ∂τ_i/∂s_ik."""
    ds, dtemperature = per_anchor_contrastive_backward(dvalue, cache.walk)
    return ds if cache.slope is None else ds + dtemperature[:, None] * cache.slope


def fixed_entropy_forward(
    query: Array,
    key: Array,
    *,
    entropy: float,
    detach: bool = True,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> tuple[Array, tuple[CompareCache, FixedEntropyCache]]:
    r"""InfoNCE at the temperatures that give every anchor's relative penalty one entropy.

    Parameters
    ----------
    query : (N, D) array of float32 or float64
        Anchors.
    key : (M, D) array
        Candidates, M >= N unless ``positive`` is given.
    entropy : float
        H in nats, above the log of the number of nearest negatives and below log K, for every anchor.
    detach : bool
        Whether the temperatures are constants in the gradient, as in the authors' code.
    positive : (N,) array of integers, optional
        Row of ``key`` that is each anchor's positive; by default 0, 1, ..., N − 1.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines.
    eps : float
        Shortest length to divide by when normalizing, > 0.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    cache : tuple
        What the backward reads; the pair returns the gradients dquery (N, D) and dkey (M, D) instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or an anchor cannot have that entropy at any temperature.

    Notes
    -----
    `fixed_entropy_contrastive` with :math:`s_{ik} = \langle z_i, z'_k\rangle`.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import fixed_entropy
    >>> query, key = np.random.default_rng(0).standard_normal((2, 6, 8))
    >>> loss, grads = fixed_entropy(query, key, entropy=1.0)
    >>> grads.dquery.shape, grads.dkey.shape
    ((6, 8), (6, 8))
    """
    validate.floats("fixed_entropy", query=(query, "N D"), key=(key, "M D"))
    check_roles("fixed_entropy", query, key.shape[0], positive=positive, ignore=ignore)
    validate.reduction("fixed_entropy", reduction)
    entropy = validate.setting("fixed_entropy", "entropy", entropy, above=0.0)
    validate.setting("fixed_entropy", "eps", eps, above=0.0)
    s, compared = compare_forward(query, key, normalize=normalize, eps=eps)
    value, walk = fixed_entropy_contrastive_forward(
        s, entropy=entropy, detach=detach, positive=positive, ignore=ignore, reduction=reduction
    )
    return value, (compared, walk)


def fixed_entropy_backward(dvalue: Array, cache: Any) -> tuple[Array, Array]:
    """Return dquery and dkey: as for InfoNCE, each anchor at its own temperature."""
    compared, walk = cache
    return compare_backward(fixed_entropy_contrastive_backward(dvalue, walk), compared)


per_anchor_contrastive = Pair(per_anchor_contrastive_forward, per_anchor_contrastive_backward)
fixed_entropy_contrastive = Pair(fixed_entropy_contrastive_forward, fixed_entropy_contrastive_backward)
fixed_entropy = Pair(fixed_entropy_forward, fixed_entropy_backward)
