"""s -> L and a, b -> L: the losses that leave the positive out of the denominator, DCL and DCLW.

In:  similarities ``s`` (N, M), or two views ``a`` and ``b`` (N, D).
Out: a loss and its gradient. Only the penalty differs from the softmax loss: the identity, so that no anchor pushes
less for doing well. DCLW also weighs what pulls the positives.
"""

from typing import Any, NamedTuple

from refcl import tiled, validate
from refcl.backend import Array, constant, namespace
from refcl.losses.two_views import Roles, check_similarities, check_views, roles_of, stack_backward, stack_forward
from refcl.pair import Pair
from refcl.pairing import PairingCache, pairing_backward, pairing_forward
from refcl.penalty import identity_backward, identity_forward
from refcl.pooling import SoftMaximumCache, soft_maximum_backward, soft_maximum_forward
from refcl.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.reweighting import UnevennessCache, unevenness_backward, unevenness_forward

POOLS = ("together", "by_view")
NORMALIZERS = ("mean", "sum")


class DecoupledCache(NamedTuple):
    pairing: PairingCache
    pool: SoftMaximumCache
    apart: SoftMaximumCache | None  # the second pool; None where all negatives are in one
    counted: Array  # (N,) False where a pool is empty
    reduced: ReduceCache


def decoupled_contrastive_forward(
    s: Array,
    temperature: Any,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    apart: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, DecoupledCache]:
    r"""Decoupled contrastive loss: the softmax loss without the positive in the denominator.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    temperature : float or () array
        τ > 0, dimensionless.
    positive : (N,) array of integers, optional
        Column of each anchor's positive; by default the diagonal.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    apart : (N, M) array of booleans, optional
        True where a negative goes to a second pool, whose logarithm is added to the first's; by default there is one.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats; either sign.
    cache : DecoupledCache
        What the backward reads; the pair returns the gradients ds (N, M) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

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
    temperature = check_similarities(
        "decoupled_contrastive", s, temperature, positive=positive, ignore=ignore, reduction=reduction
    )
    if apart is not None:
        validate.companion("decoupled_contrastive", "apart", apart, kind="boolean", shape=s.shape, like=s)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    gap, pool, second, counted = _pools_forward(s_pos, s_neg, temperature, pairing.negatives, apart)
    loss, _ = identity_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, DecoupledCache(pairing, pool, second, counted, reduced)


def decoupled_contrastive_backward(dvalue: Array, cache: DecoupledCache) -> tuple[Array, Array]:
    """Return ds and dτ: ∂L/∂s_k = r_k/τ, ∂L/∂s_p = −1/τ, ∂L/∂τ = −E_r[d]/τ²."""
    dloss = reduce_backward(dvalue, cache.reduced)
    dgap = identity_backward(dloss, None)
    ds_pos, ds_neg, dtemperature = _pools_backward(dgap, cache.pool, cache.apart, cache.counted)
    return pairing_backward(ds_pos, ds_neg, cache.pairing), dtemperature


class WeightedDecoupledCache(NamedTuple):
    walk: DecoupledCache
    s_pos: Array  # (N,)
    shortfall: Array  # (N,) 1 − w
    weighting: UnevennessCache | None  # None where the weights are constants
    temperature: Array  # ()


def weighted_decoupled_contrastive_forward(
    s: Array,
    temperature: Any,
    *,
    sigma: float = 0.5,
    detach: bool = False,
    mass: float | None = None,
    positive: Array | None = None,
    ignore: Array | None = None,
    apart: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, WeightedDecoupledCache]:
    r"""Decoupled contrastive loss with von Mises-Fisher weights: near positives are pulled less than far ones.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    temperature : float or () array
        τ > 0, dimensionless.
    sigma : float
        σ > 0: width of the weighting.
    detach : bool
        Whether the weights are constants in the gradient.
    mass : float, optional
        m > 0: the weights are :math:`w_i = 2 - m\, e^{s_i^+/\sigma}/\sum_j e^{s_j^+/\sigma}`. By default N, so that
        they average 1.
    positive : (N,) array of integers, optional
        Column of each anchor's positive; by default the diagonal.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    apart : (N, M) array of booleans, optional
        True where a negative goes to a second pool, whose logarithm is added to the first's; by default there is one.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats; either sign.
    cache : WeightedDecoupledCache
        What the backward reads; the pair returns the gradients ds (N, M) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    .. math:: L_i = -w_i \frac{s_{ip}}\tau + \log\sum_k e^{s_{ik}/\tau}
              = \log\sum_k e^{(s_{ik}-s_{ip})/\tau} + (1 - w_i)\frac{s_{ip}}\tau

    Where all positives are equally near, w is 1 and this is `decoupled_contrastive`. The sum is over all anchors of
    the call; one without negatives takes part in it, and has loss 0 itself.

    References
    ----------
    Yeh et al., "Decoupled Contrastive Learning", ECCV 2022 (arXiv 2110.06848): the negative von Mises-Fisher weighting.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import weighted_decoupled_contrastive
    >>> s = np.array([[0.9, 0.1, 0.2], [0.3, 0.4, 0.1]])
    >>> loss, grads = weighted_decoupled_contrastive(s, 0.5, detach=True)
    >>> grads.ds[[0, 1], [0, 1]].round(6)
    array([-0.537883, -1.462117])
    """
    name = "weighted_decoupled_contrastive"
    temperature = check_similarities(name, s, temperature, positive=positive, ignore=ignore, reduction=reduction)
    validate.setting(name, "sigma", sigma, above=0.0)
    if mass is not None:
        validate.setting(name, "mass", mass, above=0.0)
    if apart is not None:
        validate.companion(name, "apart", apart, kind="boolean", shape=s.shape, like=s)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    xp = namespace(s)
    gap, pool, second, counted = _pools_forward(s_pos, s_neg, temperature, pairing.negatives, apart)
    shortfall, weighting = unevenness_forward(s_pos, sigma=sigma, mass=mass)
    slack = xp.where(counted, shortfall * s_pos / temperature, constant(0.0, like=s))  # (N,)
    loss, _ = identity_forward(gap + slack)
    value, reduced = reduce_forward(loss, reduction=reduction)
    walk = DecoupledCache(pairing, pool, second, counted, reduced)
    return value, WeightedDecoupledCache(walk, s_pos, shortfall, None if detach else weighting, temperature)


def weighted_decoupled_contrastive_backward(dvalue: Array, cache: WeightedDecoupledCache) -> tuple[Array, Array]:
    """Return ds and dτ: r_k/τ at a negative, −w/τ at the positive and, unless w is constant, what moves it.

    (1 − w) s⁺/τ is a product: its halves send dloss (1 − w)/τ to s⁺ and dloss s⁺/τ to 1 − w.
    """
    walk, s_pos, shortfall, weighting, temperature = cache
    xp = namespace(s_pos)
    dloss = identity_backward(reduce_backward(dvalue, walk.reduced), None)
    ds_pos, ds_neg, dtemperature = _pools_backward(dloss, walk.pool, walk.apart, walk.counted)
    share = xp.where(walk.counted, dloss / temperature, constant(0.0, like=s_pos))  # (N,)
    ds_pos = ds_pos + share * shortfall
    if weighting is not None:
        ds_pos = ds_pos + unevenness_backward(share * s_pos, weighting)
    dtemperature = dtemperature - xp.sum(share * shortfall * s_pos) / temperature
    return pairing_backward(ds_pos, ds_neg, walk.pairing), xp.asarray(dtemperature)


def dcl_forward(
    a: Array,
    b: Array,
    temperature: Any = 0.1,
    *,
    negatives: str = "together",
    add_views: bool = False,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
) -> tuple[Array, Any]:
    r"""Decoupled contrastive loss (DCL) of two views: NT-Xent without the positive in the denominator.

    Parameters
    ----------
    a, b : (N, D) array of float32 or float64
        Two views: row i of one is the positive of row i of the other.
    temperature : float or () array
        τ > 0, dimensionless.
    negatives : str
        "together": the logarithm of one sum over both views. "by_view": the logarithms of a sum over each view, added,
        as in the code of lightly.
    add_views : bool
        True: the mean is that over a's anchors plus that over b's, as in R. Nakhli's code: twice the mean over all.
    ignore : (2N, 2N) array of booleans, optional
        True where a candidate is neither positive nor negative, a's rows before b's. Self is always left out.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, a (2N,) array.
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines.
    eps : float
        Shortest length to divide by when normalizing, > 0.
    tile : int, optional
        Rows of a strip: S is computed a strip at a time, in memory proportional to N. None: dense where that is
        small, strips where it is not. NumPy and CuPy only; elsewhere None is dense.

    Returns
    -------
    loss : () array, or (2N,) array where the reduction is "none"
        In nats; either sign; a's anchors before b's.
    cache : tuple
        What the backward reads; the pair returns the gradients da (N, D), db (N, D) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    `decoupled_contrastive` with the pairing of `nt_xent`: 2N − 2 negatives an anchor. With N = 1 there are none, and
    loss and gradient are 0. The paper adds up all anchors. Nakhli's code takes rows as they are (``normalize=False``)
    and masks by adding log(1e−45) to the logits, so that :math:`e^{-103}` of what is masked leaks in.

    References
    ----------
    Yeh et al., "Decoupled Contrastive Learning", ECCV 2022 (arXiv 2110.06848), Eq. 6.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import dcl
    >>> a = np.eye(3)
    >>> bool(abs(dcl(a, a, 0.5)[0] - (np.log(4.0) - 2.0)) < 1e-15)
    True
    """
    temperature = check_views("dcl", a, b, temperature, ignore=ignore, reduction=reduction, eps=eps)
    factor = _check_pools("dcl", negatives, add_views, reduction)
    if tiled.pays("dcl", tile, a, b, rooms=True):
        both = namespace(a).concat((a, b), axis=0)  # (2N, D)
        strips = _strips_of(both, temperature, ignore, negatives)
        return tiled.forward(tiled.among_themselves, tile, both, 2, strips, factor, reduction, normalize, eps)
    (s, roles), stacked = stack_forward(a, b, ignore=ignore, normalize=normalize, eps=eps)
    value, walk = _walk_views(s, temperature, roles, negatives, reduction)
    return namespace(value).asarray(factor * value), (stacked, walk, factor)


def dcl_backward(dvalue: Array, cache: Any) -> tuple[Array, ...]:
    """Return da, db and dτ: each anchor is pulled to its positive by 1/τ, pushed from each negative by r_k/τ."""
    if isinstance(cache, tiled.Cache):
        return tiled.backward(dvalue, cache)
    stacked, walk, factor = cache
    ds, dtemperature = decoupled_contrastive_backward(namespace(dvalue).asarray(factor * dvalue), walk)
    return *stack_backward(ds, stacked), dtemperature


def _walk_views(
    s: Array, temperature: Array, roles: Roles, negatives: str, reduction: str
) -> tuple[Array, DecoupledCache]:
    """Walk from the similarities of stacked rows, all of them or a strip, in the parts that they play."""
    return decoupled_contrastive_forward(
        s,
        temperature,
        positive=roles.positive,
        ignore=roles.ignore,
        apart=roles.own_view if negatives == "by_view" else None,
        reduction=reduction,
    )


def _strips_of(both: Array, temperature: Array, ignore: Array | None, negatives: str) -> tiled.Walk:
    """Return how some of the stacked rows walk as anchors."""

    def forward(s: Array, anchors: slice) -> tuple[Array, DecoupledCache]:
        return _walk_views(s, temperature, roles_of(both, anchors, ignore=ignore), negatives, "none")

    return tiled.Walk(forward, decoupled_contrastive_backward)


def dclw_forward(
    a: Array,
    b: Array,
    temperature: Any = 0.1,
    *,
    sigma: float = 0.5,
    detach: bool = False,
    normalizer: str = "mean",
    negatives: str = "together",
    add_views: bool = False,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> tuple[Array, Any]:
    r"""Weighted decoupled contrastive loss (DCLW) of two views: DCL that pulls near positives less than far ones.

    Parameters
    ----------
    a, b : (N, D) array of float32 or float64
        Two views: row i of one is the positive of row i of the other.
    temperature : float or () array
        τ > 0, dimensionless.
    sigma : float
        σ > 0: width of the weighting.
    detach : bool
        Whether the weights are constants in the gradient: so in lightly's code, not so in R. Nakhli's.
    normalizer : str
        "mean": weights :math:`2 - e^{s_i^+/\sigma}/\operatorname{mean}_j e^{s_j^+/\sigma}` over the N pairs, as in the
        paper and in lightly's code; "sum": over the sum instead, as in Nakhli's, whose weights so are nearly 2.
    negatives : str
        "together": the logarithm of one sum over both views. "by_view": the logarithms of a sum over each view, added,
        as in the code of lightly.
    add_views : bool
        True: the mean is that over a's anchors plus that over b's, as in Nakhli's code: twice the mean over all.
    ignore : (2N, 2N) array of booleans, optional
        True where a candidate is neither positive nor negative, a's rows before b's. Self is always left out.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, a (2N,) array.
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines.
    eps : float
        Shortest length to divide by when normalizing, > 0.

    Returns
    -------
    loss : () array, or (2N,) array where the reduction is "none"
        In nats; either sign; a's anchors before b's.
    cache : tuple
        What the backward reads; the pair returns the gradients da (N, D), db (N, D) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    `weighted_decoupled_contrastive` with the pairing of `nt_xent`. A pair has one weight in both directions.

    References
    ----------
    Yeh et al., "Decoupled Contrastive Learning", ECCV 2022 (arXiv 2110.06848): the negative von Mises-Fisher weighting.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import dcl, dclw
    >>> a = np.eye(3)
    >>> bool(dclw(a, a, 0.5)[0] == dcl(a, a, 0.5)[0])
    True
    """
    temperature = check_views("dclw", a, b, temperature, ignore=ignore, reduction=reduction, eps=eps)
    factor = _check_pools("dclw", negatives, add_views, reduction)
    validate.setting("dclw", "sigma", sigma, above=0.0)
    validate.choice("dclw", "normalizer", normalizer, NORMALIZERS)
    (s, roles), stacked = stack_forward(a, b, ignore=ignore, normalize=normalize, eps=eps)
    value, walk = weighted_decoupled_contrastive_forward(
        s,
        temperature,
        sigma=sigma,
        detach=detach,
        # each pair stands twice among the 2N anchors
        mass=None if normalizer == "mean" else 2.0,
        positive=roles.positive,
        ignore=roles.ignore,
        apart=roles.own_view if negatives == "by_view" else None,
        reduction=reduction,
    )
    return namespace(value).asarray(factor * value), (stacked, walk, factor)


def dclw_backward(dvalue: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Return da, db and dτ: as for DCL, with the pull to the positive weighed."""
    stacked, walk, factor = cache
    ds, dtemperature = weighted_decoupled_contrastive_backward(namespace(dvalue).asarray(factor * dvalue), walk)
    return *stack_backward(ds, stacked), dtemperature


def _pools_forward(
    s_pos: Array, s_neg: Array, temperature: Array, negatives: Array, apart: Array | None
) -> tuple[Array, SoftMaximumCache, SoftMaximumCache | None, Array]:
    """Return the gap, 0 where a pool is empty, the one or two pools, and where none is empty.

    The first pool is measured from the positive, the second, of which the loss has no positive to take, from 0.
    """
    xp, zero = namespace(s_neg), constant(0.0, like=s_neg)
    near = negatives if apart is None else negatives & ~apart  # (N, M)
    gap, pool = soft_maximum_forward(s_pos, s_neg, temperature, negatives=near)
    counted, second = pool.occupied, None
    if apart is not None:
        more, second = soft_maximum_forward(xp.zeros_like(s_pos), s_neg, temperature, negatives=negatives & apart)
        counted = counted & second.occupied
        gap = gap + more
    return xp.where(counted, gap, zero), pool, second, counted


def _pools_backward(
    dgap: Array, pool: SoftMaximumCache, second: SoftMaximumCache | None, counted: Array
) -> tuple[Array, Array, Array]:
    """Return ds⁺, ds⁻ and dτ: each pool's own way back; only the first pulls the positive."""
    xp = namespace(dgap)
    dgap = xp.where(counted, dgap, constant(0.0, like=dgap))
    ds_pos, ds_neg, dtemperature = soft_maximum_backward(dgap, pool)
    if second is not None:
        _, ds_apart, dtemperature_apart = soft_maximum_backward(dgap, second)
        ds_neg, dtemperature = ds_neg + ds_apart, dtemperature + dtemperature_apart
    return ds_pos, ds_neg, xp.asarray(dtemperature)


def _check_pools(name: str, negatives: str, add_views: bool, reduction: str) -> float:
    """Check how the negatives are pooled, and return the factor of the value."""
    validate.choice(name, "negatives", negatives, POOLS)
    return 2.0 if add_views and reduction == "mean" else 1.0


decoupled_contrastive = Pair(decoupled_contrastive_forward, decoupled_contrastive_backward)
weighted_decoupled_contrastive = Pair(weighted_decoupled_contrastive_forward, weighted_decoupled_contrastive_backward)
dcl = Pair(dcl_forward, dcl_backward)
dclw = Pair(dclw_forward, dclw_backward)
