"""s -> L: the softmax loss in which every anchor has a temperature of its own.

In:  similarities ``s`` (N, M) and temperatures (N,), or the entropy that every anchor's relative penalty shall have.
Out: a loss and its gradient. One room differs from the softmax loss: differences are divided by τ, then pooled.
"""

from typing import Any, NamedTuple

from refcl.core.arguments import Floats, Reduction
from refcl.core.arrays import AnyArray, Array, constant, namespace
from refcl.core.pair import pair
from refcl.hardness import temperature_for_entropy
from refcl.walk.pairing import PairingCache, pairing_backward, pairing_forward
from refcl.walk.penalty import SoftplusCache, softplus_backward, softplus_forward
from refcl.walk.pooling.soft_maximum import SoftMaximumCache, soft_maximum_backward, soft_maximum_forward
from refcl.walk.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.walk.similarity import CosineSimilarityCache, cosine_similarity_backward, cosine_similarity_forward


class PerAnchorContrastiveCache(NamedTuple):
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
) -> tuple[Array, PerAnchorContrastiveCache]:
    """Pair, divide differences by each anchor's τ, pool by the soft maximum at τ = 1, charge the softplus, reduce."""
    xp = namespace(s)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    d = (s_neg - s_pos[:, None]) / temperature[:, None]  # (N, M) in units of each anchor's own τ
    one = constant(1.0, like=s)
    gap, pool = soft_maximum_forward(xp.zeros_like(s_pos), d, one, negatives=pairing.negatives)
    loss, penalty = softplus_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, PerAnchorContrastiveCache(pairing, pool, penalty, reduced, temperature)


def per_anchor_contrastive_backward(dvalue: Array, cache: PerAnchorContrastiveCache) -> tuple[Array, Array]:
    """Return ds and dτ: σ r_k/τ at a negative, −σ/τ at the positive, and dτ_i = −σ E_r[d]/τ² for each anchor.

    The pool sees d/τ: its temperature is 1, and what it sends back is divided by τ once more.
    """
    pairing, pool, penalty, reduced, temperature = cache
    dloss = reduce_backward(dvalue, reduced)
    dgap = softplus_backward(dloss, penalty)
    xp = namespace(dgap)
    ds_pos, dd, _ = soft_maximum_backward(dgap, pool)
    dtemperature = xp.where(pool.occupied, -dgap * pool.mean_difference / temperature, dgap)  # (N,)
    return pairing_backward(ds_pos / temperature, dd / temperature[:, None], pairing), dtemperature


class PerAnchorContrastiveGrads(NamedTuple):
    ds: Array  # (N, M)
    dtemperature: Array  # (N,)


@pair(temperature=Floats("N"))
def per_anchor_contrastive(
    s: AnyArray,
    temperature: AnyArray,
    *,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, PerAnchorContrastiveGrads]:
    r"""Softmax contrastive loss with one temperature an anchor.

    Parameters
    ----------
    s : (N, M) array
        As in `softmax_contrastive`.
    temperature : (N,) array
        τ of each anchor, > 0, dimensionless.
    positive, ignore, reduction, upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    grads : PerAnchorContrastiveGrads
        ds (N, M) and dtemperature (N,).

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


class FixedEntropyContrastiveCache(NamedTuple):
    walk: PerAnchorContrastiveCache
    slope: Array | None  # (N, M) ∂τ_i/∂s_ik, 0 off the negatives; None where τ is a constant


def fixed_entropy_contrastive_forward(
    s: Array,
    *,
    entropy: float,
    detach: bool = True,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, FixedEntropyContrastiveCache]:
    """Find each anchor's temperature, then walk as `per_anchor_contrastive_forward`."""
    temperature = temperature_for_entropy(s, entropy, positive=positive, ignore=ignore)  # (N,)
    value, walk = per_anchor_contrastive_forward(s, temperature, positive=positive, ignore=ignore, reduction=reduction)
    slope = None if detach else _temperature_slope(s, temperature, walk.pool.relative)
    return value, FixedEntropyContrastiveCache(walk, slope)


def fixed_entropy_contrastive_backward(dvalue: Array, cache: FixedEntropyContrastiveCache) -> Array:
    """Return ds: the per-anchor loss's own and, unless τ is constant, dτ_i ∂τ_i/∂s_ik."""
    walk, slope = cache
    ds, dtemperature = per_anchor_contrastive_backward(dvalue, walk)
    return ds if slope is None else ds + dtemperature[:, None] * slope


def _temperature_slope(s: Array, temperature: Array, relative: Array) -> Array:
    """Return ∂τ_i/∂s_ik (N, M) where the entropy of each anchor's relative penalty r stays as it is."""
    xp = namespace(s)
    nearest = xp.max(xp.where(relative > 0, s, constant(-xp.inf, like=s)), axis=1, keepdims=True)  # (N, 1)
    below = xp.where(relative > 0, s - nearest, constant(0.0, like=s))  # (N, M) <= 0, from the nearest negative
    deviation = below - xp.sum(relative * below, axis=1, keepdims=True)  # (N, M) s_k − E_r[s]
    variance = xp.sum(relative * deviation**2, axis=1)  # (N,) > 0, or the entropy could not be had
    return relative * deviation * (temperature / variance)[:, None]


class FixedEntropyContrastiveGrads(NamedTuple):
    ds: Array  # (N, M)


@pair()
def fixed_entropy_contrastive(
    s: AnyArray,
    *,
    entropy: float,
    detach: bool = True,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, FixedEntropyContrastiveGrads]:
    r"""Softmax contrastive loss at the temperatures that give every anchor's relative penalty one entropy.

    Parameters
    ----------
    s : (N, M) array
        As in `softmax_contrastive`.
    entropy : float
        H in nats, above the log of the number of nearest negatives and below log K, in every row.
    detach : bool
        Whether the temperatures are constants in the gradient, as in the authors' code.
    positive, ignore, reduction, upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    grads : FixedEntropyContrastiveGrads
        ds (N, M).

    Raises
    ------
    ValueError
        Where a row cannot have that entropy at any temperature.

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
    >>> from refcl import fixed_entropy_contrastive
    >>> from refcl import softmax_contrastive
    >>> s = np.array([[0.8, 0.5, 0.1, -0.3, 0.7]])
    >>> loss, _ = fixed_entropy_contrastive(s, entropy=0.7405332574)
    >>> bool(abs(loss - softmax_contrastive(s, 0.2)[0]) < 1e-9)
    True
    """


class FixedEntropyCache(NamedTuple):
    compared: CosineSimilarityCache
    walk: FixedEntropyContrastiveCache


def fixed_entropy_forward(
    query: Array, key: Array, *, normalize: bool = True, eps: float = 1e-12, **settings: Any
) -> tuple[Array, FixedEntropyCache]:
    """Compare, then walk as `fixed_entropy_contrastive_forward`, which takes the other settings."""
    s, compared = cosine_similarity_forward(query, key, normalize=normalize, eps=eps)  # (N, M)
    value, walk = fixed_entropy_contrastive_forward(s, **settings)
    return value, FixedEntropyCache(compared, walk)


def fixed_entropy_backward(dvalue: Array, cache: FixedEntropyCache) -> tuple[Array, Array]:
    """Return dquery and dkey: as for InfoNCE, each anchor at its own temperature."""
    compared, walk = cache
    return cosine_similarity_backward(fixed_entropy_contrastive_backward(dvalue, walk), compared)


class FixedEntropyGrads(NamedTuple):
    dquery: Array  # (N, D)
    dkey: Array  # (M, D)


@pair()
def fixed_entropy(
    query: AnyArray,
    key: AnyArray,
    *,
    entropy: float,
    detach: bool = True,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    upstream: AnyArray | None = None,
) -> tuple[Array, FixedEntropyGrads]:
    r"""InfoNCE at the temperatures that give every anchor's relative penalty one entropy.

    Parameters
    ----------
    query, key : (N, D) and (M, D) array
        As in `info_nce`.
    entropy, detach : float and bool
        As in `fixed_entropy_contrastive`.
    positive, ignore, reduction : optional
        As in `softmax_contrastive`.
    normalize, eps : optional
        As in `info_nce`.
    upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    grads : FixedEntropyGrads
        dquery (N, D) and dkey (M, D).

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
