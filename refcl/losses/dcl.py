"""s -> L and a, b -> L: the losses that leave the positive out of the denominator, DCL and DCLW.

In:  similarities ``s`` (N, M), or two views ``a`` and ``b`` (N, D).
Out: a loss and its gradient. Only the penalty differs from the softmax loss: the identity, so that no anchor pushes
less for doing well. DCLW also weighs what pulls the positives.
"""

from typing import Any, Literal, NamedTuple

from refcl.core.arguments import Mask, Reduction, choice
from refcl.core.arrays import AnyArray, Array, Number, constant, namespace
from refcl.core.pair import pair
from refcl.walk.pairing import PairingCache, pairing_backward, pairing_forward
from refcl.walk.penalty import identity_backward, identity_forward
from refcl.walk.pooling.reweighted import WeightShortfallCache, weight_shortfall_backward, weight_shortfall_forward
from refcl.walk.pooling.two_soft_maxima import TwoSoftMaximaCache, two_soft_maxima_backward, two_soft_maxima_forward
from refcl.walk.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.walk.similarity import CosineSimilarityCache
from refcl.walk.two_views import Roles, two_view_similarity_backward, two_view_similarity_forward


class DecoupledCache(NamedTuple):
    pairing: PairingCache
    pools: TwoSoftMaximaCache
    reduced: ReduceCache


def decoupled_contrastive_forward(
    s: Array, temperature: Array, *, apart: Array | None = None, reduction: str = "mean", **roles: Any
) -> tuple[Array, DecoupledCache]:
    """Pair, pool by one soft maximum or two, charge the gap itself, reduce."""
    (s_pos, s_neg), pairing = pairing_forward(s, **roles)
    gap, pools = two_soft_maxima_forward(s_pos, s_neg, temperature, negatives=pairing.negatives, apart=apart)
    loss, _ = identity_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, DecoupledCache(pairing, pools, reduced)


def decoupled_contrastive_backward(dvalue: Array, cache: DecoupledCache) -> tuple[Array, Array]:
    """Return ds and dτ: ∂L/∂s_k = r_k/τ, ∂L/∂s_p = −1/τ, ∂L/∂τ = −E_r[d]/τ²."""
    dgap = identity_backward(reduce_backward(dvalue, cache.reduced), None)
    ds_pos, ds_neg, dtemperature = two_soft_maxima_backward(dgap, cache.pools)
    return pairing_backward(ds_pos, ds_neg, cache.pairing), dtemperature


class DecoupledContrastiveGrads(NamedTuple):
    ds: Array  # (N, M)
    dtemperature: Array  # ()


@pair(apart=Mask("N M"))
def decoupled_contrastive(
    s: AnyArray,
    temperature: Number,
    *,
    apart: AnyArray | None = None,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, DecoupledContrastiveGrads]:
    r"""Decoupled contrastive loss: the softmax loss without the positive in the denominator.

    Parameters
    ----------
    s, temperature : (N, M) array, float or () array
        As in `softmax_contrastive`.
    apart : (N, M) array of booleans, optional
        True where a negative goes to a second pool, whose logarithm is added to the first's; by default there is one.
    positive, ignore, reduction, upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats; either sign.
    grads : DecoupledContrastiveGrads
        ds (N, M) and dtemperature ().

    Notes
    -----
    .. math:: L_i = -\frac{s_{ip}}\tau + \log\sum_k e^{s_{ik}/\tau} = \log\sum_k e^{(s_{ik}-s_{ip})/\tau}

    Penalty identity, pool soft maximum. The gradient at a negative is :math:`r_{ik}/\tau`, at the positive
    :math:`-1/\tau`, however near it is: it is `softmax_contrastive` plus :math:`\log(1 - P^+)`. An anchor without
    negatives, or with an empty pool of two, has loss 0 and gradient 0.

    References
    ----------
    Yeh et al., "Decoupled Contrastive Learning", ECCV 2022 (arXiv 2110.06848), Eq. 6.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import decoupled_contrastive
    >>> loss, grads = decoupled_contrastive(np.array([[0.8, 0.5, 0.1, -0.3, 0.7]]), 0.2)
    >>> round(float(loss), 6), round(float(grads.ds[0, 0]), 6)
    (-0.146306, -5.0)
    """


class WeightedDecoupledCache(NamedTuple):
    unweighted: DecoupledCache
    s_pos: Array  # (N,)
    shortfall: Array  # (N,) 1 − w
    weighting: WeightShortfallCache | None  # None where the weights are constants
    temperature: Array  # ()


def weighted_decoupled_contrastive_forward(
    s: Array,
    temperature: Array,
    *,
    sigma: float = 0.5,
    detach: bool = False,
    mass: float | None = None,
    apart: Array | None = None,
    reduction: str = "mean",
    **roles: Any,
) -> tuple[Array, WeightedDecoupledCache]:
    """Pair and pool; charge the gap and (1 − w) s⁺/τ, by which the weight w changes the pull; reduce."""
    (s_pos, s_neg), pairing = pairing_forward(s, **roles)
    gap, pools = two_soft_maxima_forward(s_pos, s_neg, temperature, negatives=pairing.negatives, apart=apart)
    shortfall, weighting = weight_shortfall_forward(s_pos, sigma=sigma, mass=mass)
    correction = namespace(s).where(pools.occupied, shortfall * s_pos / temperature, constant(0.0, like=s))  # (N,)
    loss, _ = identity_forward(gap + correction)
    value, reduced = reduce_forward(loss, reduction=reduction)
    unweighted, let_through = DecoupledCache(pairing, pools, reduced), None if detach else weighting
    return value, WeightedDecoupledCache(unweighted, s_pos, shortfall, let_through, temperature)


def weighted_decoupled_contrastive_backward(dvalue: Array, cache: WeightedDecoupledCache) -> tuple[Array, Array]:
    """Return ds and dτ: r_k/τ at a negative, −w/τ at the positive and, unless w is constant, what moves it.

    (1 − w) s⁺/τ is a product: its halves send dloss (1 − w)/τ to s⁺ and dloss s⁺/τ to 1 − w.
    """
    (pairing, pools, reduced), s_pos, shortfall, weighting, temperature = cache
    xp = namespace(s_pos)
    dloss = identity_backward(reduce_backward(dvalue, reduced), None)
    ds_pos, ds_neg, dtemperature = two_soft_maxima_backward(dloss, pools)
    dproduct = xp.where(pools.occupied, dloss / temperature, constant(0.0, like=s_pos))  # (N,) of (1 − w) s⁺
    ds_pos = ds_pos + dproduct * shortfall
    if weighting is not None:
        ds_pos = ds_pos + weight_shortfall_backward(dproduct * s_pos, weighting)
    dtemperature = dtemperature - xp.sum(dproduct * shortfall * s_pos) / temperature
    return pairing_backward(ds_pos, ds_neg, pairing), xp.asarray(dtemperature)


class WeightedDecoupledContrastiveGrads(NamedTuple):
    ds: Array  # (N, M)
    dtemperature: Array  # ()


@pair(apart=Mask("N M"))
def weighted_decoupled_contrastive(
    s: AnyArray,
    temperature: Number,
    *,
    sigma: float = 0.5,
    detach: bool = False,
    mass: float | None = None,
    apart: AnyArray | None = None,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, WeightedDecoupledContrastiveGrads]:
    r"""Decoupled contrastive loss, negative von Mises-Fisher weighting: near positives are pulled less than far ones.

    Parameters
    ----------
    s, temperature : (N, M) array, float or () array
        As in `softmax_contrastive`.
    sigma : float
        σ > 0: width of the weighting.
    detach : bool
        Whether the weights are constants in the gradient: so in lightly's code, not so in R. Nakhli's.
    mass : float, optional
        m > 0 in the weights :math:`w_i = 2 - m\, e^{s_i^+/\sigma}/\sum_j e^{s_j^+/\sigma}`; by default N: mean 1.
    apart : optional
        As in `decoupled_contrastive`.
    positive, ignore, reduction, upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats; either sign.
    grads : WeightedDecoupledContrastiveGrads
        ds (N, M) and dtemperature ().

    Notes
    -----
    .. math:: L_i = -w_i \frac{s_{ip}}\tau + \log\sum_k e^{s_{ik}/\tau}
              = \log\sum_k e^{(s_{ik}-s_{ip})/\tau} + (1 - w_i)\frac{s_{ip}}\tau

    Where all positives are equally near, w is 1 and this is `decoupled_contrastive`. The sum is over all anchors of
    the call; one without negatives takes part in it, and has loss 0 itself.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import weighted_decoupled_contrastive
    >>> s = np.array([[0.9, 0.1, 0.2], [0.3, 0.4, 0.1]])
    >>> weighted_decoupled_contrastive(s, 0.5, detach=True)[1].ds[[0, 1], [0, 1]].round(6)
    array([-0.537883, -1.462117])
    """


def second_pool(roles: Roles, negatives: str) -> Array | None:
    """Return who is pooled apart (anchors, 2N): an anchor's own view, where each view is pooled by itself."""
    return roles.own_view if negatives == "by_view" else None


def compare_views(
    a: Array,
    b: Array,
    *,
    negatives: str = "together",
    add_views: bool = False,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    **weights: Any,
) -> tuple[Array, dict[str, Any], CosineSimilarityCache, float]:
    """Return s (2N, 2N), the settings of the walk from there, a cache, and the factor of its value."""
    (s, roles), compared = two_view_similarity_forward(a, b, ignore=ignore, normalize=normalize, eps=eps)
    who = {"positive": roles.positive, "ignore": roles.ignore, "apart": second_pool(roles, negatives)}
    return s, {**who, **weights, "reduction": reduction}, compared, 2.0 if add_views and reduction == "mean" else 1.0


class DCLCache(NamedTuple):
    compared: CosineSimilarityCache
    walk: DecoupledCache
    factor: float  # 2 where the means over each view's anchors are added


def dcl_forward(a: Array, b: Array, temperature: Array, **settings: Any) -> tuple[Array, DCLCache]:
    """Compare all rows of both views, then walk as `decoupled_contrastive_forward`."""
    s, of_walk, compared, factor = compare_views(a, b, **settings)
    value, walk = decoupled_contrastive_forward(s, temperature, **of_walk)
    return namespace(value).asarray(factor * value), DCLCache(compared, walk, factor)


def dcl_backward(dvalue: Array, cache: DCLCache) -> tuple[Array, Array, Array]:
    """Return da, db and dτ: each anchor is pulled to its positive by 1/τ, pushed from each negative by r_k/τ."""
    ds, dtemperature = decoupled_contrastive_backward(namespace(dvalue).asarray(cache.factor * dvalue), cache.walk)
    return *two_view_similarity_backward(ds, cache.compared), dtemperature


class DCLGrads(NamedTuple):
    da: Array  # (N, D)
    db: Array  # (N, D)
    dtemperature: Array  # ()


@pair(negatives=choice("together", "by_view"), ignore="2N 2N")
def dcl(
    a: AnyArray,
    b: AnyArray,
    temperature: Number = 0.1,
    *,
    negatives: Literal["together", "by_view"] = "together",
    add_views: bool = False,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
    upstream: AnyArray | None = None,
) -> tuple[Array, DCLGrads]:
    r"""Decoupled contrastive loss (DCL) of two views: NT-Xent without the positive in the denominator.

    Parameters
    ----------
    a, b : (N, D) array
        As in `nt_xent`.
    temperature : optional
        As in `softmax_contrastive`.
    negatives : str
        "together": the logarithm of one sum over both views. "by_view": those of a sum over each, added, as in lightly.
    add_views : bool
        True: the mean is that over a's anchors plus that over b's, as in R. Nakhli's code: twice the mean over all.
    ignore, reduction : optional
        As in `nt_xent`.
    normalize, eps, tile : optional
        As in `info_nce`.
    upstream : optional
        As in `nt_xent`.

    Returns
    -------
    loss : () array, or (2N,) array where the reduction is "none"
        In nats; either sign; a's anchors before b's.
    grads : DCLGrads
        da (N, D), db (N, D) and dtemperature ().

    Notes
    -----
    `decoupled_contrastive` with the pairing of `nt_xent`: 2N − 2 negatives an anchor. The paper adds up all anchors.
    Nakhli's code takes rows as they are (``normalize=False``) and masks by adding log(1e−45) to the logits, so that
    :math:`e^{-103}` of what is masked leaks in.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import dcl
    >>> bool(abs(dcl(np.eye(3), np.eye(3), 0.5)[0] - (np.log(4.0) - 2.0)) < 1e-15)
    True
    """


class DCLWCache(NamedTuple):
    compared: CosineSimilarityCache
    walk: WeightedDecoupledCache
    factor: float  # as for DCL


def dclw_forward(
    a: Array, b: Array, temperature: Array, *, normalizer: str = "mean", **settings: Any
) -> tuple[Array, DCLWCache]:
    """Compare all rows of both views, then walk as `weighted_decoupled_contrastive_forward`."""
    mass = None if normalizer == "mean" else 2.0  # each pair stands twice among the 2N anchors
    s, of_walk, compared, factor = compare_views(a, b, mass=mass, **settings)
    value, walk = weighted_decoupled_contrastive_forward(s, temperature, **of_walk)
    return namespace(value).asarray(factor * value), DCLWCache(compared, walk, factor)


def dclw_backward(dvalue: Array, cache: DCLWCache) -> tuple[Array, Array, Array]:
    """Return da, db and dτ: as for DCL, with the pull to the positive weighed."""
    compared, walk, factor = cache
    ds, dtemperature = weighted_decoupled_contrastive_backward(namespace(dvalue).asarray(factor * dvalue), walk)
    return *two_view_similarity_backward(ds, compared), dtemperature


class DCLWGrads(NamedTuple):
    da: Array  # (N, D)
    db: Array  # (N, D)
    dtemperature: Array  # ()


@pair(normalizer=choice("mean", "sum"), negatives=choice("together", "by_view"), ignore="2N 2N")
def dclw(
    a: AnyArray,
    b: AnyArray,
    temperature: Number = 0.1,
    *,
    sigma: float = 0.5,
    detach: bool = False,
    normalizer: Literal["mean", "sum"] = "mean",
    negatives: Literal["together", "by_view"] = "together",
    add_views: bool = False,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    upstream: AnyArray | None = None,
) -> tuple[Array, DCLWGrads]:
    r"""Weighted decoupled contrastive loss (DCLW) of two views: DCL that pulls near positives less than far ones.

    Parameters
    ----------
    a, b : (N, D) array
        As in `nt_xent`.
    temperature : optional
        As in `softmax_contrastive`.
    sigma, detach : optional
        As in `weighted_decoupled_contrastive`.
    normalizer : str
        "mean": weights :math:`2 - e^{s_i^+/\sigma}/\operatorname{mean}_j e^{s_j^+/\sigma}` over the N pairs, as in the
        paper and in lightly's code; "sum": over the sum instead, as in Nakhli's, whose weights so are nearly 2.
    negatives, add_views : optional
        As in `dcl`.
    ignore, reduction : optional
        As in `nt_xent`.
    normalize, eps : optional
        As in `info_nce`.
    upstream : optional
        As in `nt_xent`.

    Returns
    -------
    loss : () array, or (2N,) array where the reduction is "none"
        In nats; either sign; a's anchors before b's.
    grads : DCLWGrads
        da (N, D), db (N, D) and dtemperature ().

    Notes
    -----
    `weighted_decoupled_contrastive` with the pairing of `nt_xent`. A pair has one weight in both directions.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import dcl, dclw
    >>> bool(dclw(np.eye(3), np.eye(3), 0.5)[0] == dcl(np.eye(3), np.eye(3), 0.5)[0])
    True
    """
