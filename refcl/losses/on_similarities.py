"""s -> L: the losses of the paper, from similarities.

In:  similarities ``s`` (N, M), anchors by candidates, and which candidate is each anchor's positive.
Out: a loss and its gradient. Each is a walk: pairing, pooling, penalty, reduce.
Read a backward upwards: it is its forward.
"""

from typing import Any, NamedTuple

from refcl import validate
from refcl.backend import Array, constant, namespace
from refcl.pair import Pair
from refcl.pairing import PairingCache, check_roles, pairing_backward, pairing_forward
from refcl.penalty import (
    HingeCache,
    SoftplusCache,
    hinge_backward,
    hinge_forward,
    identity_backward,
    identity_forward,
    softplus_backward,
    softplus_forward,
)
from refcl.pooling import (
    MaximumCache,
    SoftMaximumCache,
    WeightedSumCache,
    hardest_negatives,
    maximum_backward,
    maximum_forward,
    soft_maximum_backward,
    soft_maximum_forward,
    weighted_sum_backward,
    weighted_sum_forward,
)
from refcl.reduce import ReduceCache, reduce_backward, reduce_forward


class SoftmaxContrastiveCache(NamedTuple):
    pairing: PairingCache
    pool: SoftMaximumCache
    penalty: SoftplusCache
    reduced: ReduceCache


def softmax_contrastive_forward(
    s: Array,
    temperature: Any,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, SoftmaxContrastiveCache]:
    r"""Softmax contrastive loss: the cross-entropy of picking the positive among all candidates.

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
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    cache : SoftmaxContrastiveCache
        What the backward reads; the pair returns the gradients ds (N, M) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    .. math:: L_i = -\log\frac{e^{s_{ip}/\tau}}{e^{s_{ip}/\tau} + \sum_k e^{s_{ik}/\tau}}
              = \operatorname{softplus}\Bigl(\log\sum_k e^{(s_{ik}-s_{ip})/\tau}\Bigr)

    Penalty softplus, pool soft maximum. The gradient at a negative is :math:`\sigma_i r_{ik}/\tau`, at the positive
    :math:`-\sigma_i/\tau`. An anchor without negatives has loss 0 and gradient 0. As τ → 0⁺, τ L tends to `triplet`
    with margin 0; as τ → ∞, τ (L − log(K + 1)) to K/(K + 1) times `simple_contrastive`.

    References
    ----------
    Wang and Liu, "Understanding the Behaviour of Contrastive Loss", CVPR 2021, Eq. 1, 2 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import softmax_contrastive
    >>> loss, grads = softmax_contrastive(np.array([[0.8, 0.5, 0.1, -0.3, 0.7]]), 0.2)
    >>> round(float(loss), 9), round(float(grads.ds[0, 0]), 9)
    (0.622695196, -2.31751738)
    """
    _check("softmax_contrastive", s, positive, ignore, reduction)
    temperature = validate.scalar("softmax_contrastive", "temperature", temperature, like=s, positive=True)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    gap, pool = soft_maximum_forward(s_pos, s_neg, temperature, negatives=pairing.negatives)
    loss, penalty = softplus_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, SoftmaxContrastiveCache(pairing, pool, penalty, reduced)


def softmax_contrastive_backward(dvalue: Array, cache: SoftmaxContrastiveCache) -> tuple[Array, Array]:
    """Return ds and dτ: ∂L/∂s_k = σ r_k/τ, ∂L/∂s_p = −σ/τ, ∂L/∂τ = −σ E_r[d]/τ²."""
    pairing, pool, penalty, reduced = cache
    dloss = reduce_backward(dvalue, reduced)
    dgap = softplus_backward(dloss, penalty)
    ds_pos, ds_neg, dtemperature = soft_maximum_backward(dgap, pool)
    return pairing_backward(ds_pos, ds_neg, pairing), dtemperature


def hard_softmax_contrastive_forward(
    s: Array,
    temperature: Any,
    *,
    hardest: float | int,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, SoftmaxContrastiveCache]:
    r"""Softmax contrastive loss against the hardest negatives only.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    temperature : float or () array
        τ > 0, dimensionless.
    hardest : float or int
        A float α in (0, 1] keeps that fraction of each row's K negatives, max(1, round(α K)); an int keeps that many.
        Ties at the threshold are kept. The threshold is a constant in the gradient.
    positive : (N,) array of integers, optional
        Column of each anchor's positive; by default the diagonal.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0, never more than `softmax_contrastive`.
    cache : SoftmaxContrastiveCache
        What the backward reads; the pair returns the gradients ds (N, M) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    .. math:: L_i = -\log\frac{e^{s_{ip}/\tau}}{e^{s_{ip}/\tau} + \sum_{s_{ik}\ge s_\alpha^{(i)}} e^{s_{ik}/\tau}}

    The quantile is taken over the negatives alone, as the paper has it; the authors' code takes the top K of all
    candidates, the positive among them. With ``hardest=1.0`` it is `softmax_contrastive`.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 8 and 9.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import hard_softmax_contrastive
    >>> loss, grads = hard_softmax_contrastive(np.array([[0.8, 0.5, 0.1, -0.3, 0.7]]), 0.3, hardest=2)
    >>> round(float(loss), 9)
    0.734486202
    >>> np.flatnonzero(grads.ds)
    array([0, 1, 4])
    """
    _check("hard_softmax_contrastive", s, positive, ignore, reduction)
    temperature = validate.scalar("hard_softmax_contrastive", "temperature", temperature, like=s, positive=True)
    hardest = validate.hardest("hard_softmax_contrastive", hardest)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    kept = hardest_negatives(s_neg, pairing.negatives, hardest=hardest)
    gap, pool = soft_maximum_forward(s_pos, s_neg, temperature, negatives=kept)
    loss, penalty = softplus_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, SoftmaxContrastiveCache(pairing, pool, penalty, reduced)


def hard_softmax_contrastive_backward(dvalue: Array, cache: SoftmaxContrastiveCache) -> tuple[Array, Array]:
    """Return ds and dτ: the softmax loss's own way back, since which negatives were kept is a constant."""
    return softmax_contrastive_backward(dvalue, cache)


class SimpleContrastiveCache(NamedTuple):
    pairing: PairingCache
    pool: WeightedSumCache
    reduced: ReduceCache


def simple_contrastive_forward(
    s: Array,
    weight: Any = None,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, SimpleContrastiveCache]:
    r"""Simple contrastive loss: pull the positive, push every negative alike.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    weight : float or () array, optional
        λ, dimensionless. By default 1/K for an anchor with K negatives, so that pull and push are of one size.
    positive : (N,) array of integers, optional
        Column of each anchor's positive; by default the diagonal.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In units of similarity; either sign.
    cache : SimpleContrastiveCache
        What the backward reads; the pair returns the gradients ds (N, M) and dweight () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    .. math:: L_i = -s_{ip} + \lambda \sum_k s_{ik}

    Penalty identity, pool weighted sum: no negative counts more for being near. The paper leaves λ open; the authors'
    code averages over all candidates, the positive among them, which is (M − 1)/M times this loss with λ = 1/(M − 1).
    Without negatives the loss is −s_p. Where ``weight`` is left out, dweight is the derivative by an amount added to
    every anchor's 1/K.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 3; the limit of `softmax_contrastive` as τ → ∞, Eq. 7.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import simple_contrastive
    >>> loss, grads = simple_contrastive(np.array([[0.75, 0.5, 0.0, -0.25, 0.75]]))
    >>> float(loss), grads.ds
    (-0.5, array([[-1.  ,  0.25,  0.25,  0.25,  0.25]]))
    """
    _check("simple_contrastive", s, positive, ignore, reduction)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    weight = _weights("simple_contrastive", weight, pairing.negatives, like=s)
    gap, pool = weighted_sum_forward(s_pos, s_neg, weight, negatives=pairing.negatives)
    loss, _ = identity_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, SimpleContrastiveCache(pairing, pool, reduced)


def simple_contrastive_backward(dvalue: Array, cache: SimpleContrastiveCache) -> tuple[Array, Array]:
    """Return ds and dλ: −1 at the positive, λ at every negative; ∂L/∂λ = Σ_k s_k."""
    pairing, pool, reduced = cache
    dloss = reduce_backward(dvalue, reduced)
    dgap = identity_backward(dloss, None)
    ds_pos, ds_neg, dweights = weighted_sum_backward(dgap, pool)
    xp = namespace(dweights)
    return pairing_backward(ds_pos, ds_neg, pairing), xp.asarray(xp.sum(dweights))


def hard_simple_contrastive_forward(
    s: Array,
    weight: Any = None,
    *,
    hardest: float | int,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, SimpleContrastiveCache]:
    r"""Simple contrastive loss against the hardest negatives only.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    weight : float or () array, optional
        λ, dimensionless. By default 1 over the number of negatives kept, a constant in the gradient.
    hardest : float or int
        A float α in (0, 1] keeps that fraction of each row's K negatives, max(1, round(α K)); an int keeps that many.
        Ties at the threshold are kept. The threshold is a constant in the gradient.
    positive : (N,) array of integers, optional
        Column of each anchor's positive; by default the diagonal.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In units of similarity; either sign.
    cache : SimpleContrastiveCache
        What the backward reads; the pair returns the gradients ds (N, M) and dweight () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    .. math:: L_i = -s_{ip} + \lambda \sum_{s_{ik}\ge s_\alpha^{(i)}} s_{ik}

    With ``hardest=1.0`` it is `simple_contrastive`.

    References
    ----------
    Wang and Liu, CVPR 2021, Section 5.5: Eq. 3 with the nearest 4095 features as negatives.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import hard_simple_contrastive
    >>> loss, grads = hard_simple_contrastive(np.array([[0.75, 0.5, 0.0, -0.25, 0.75]]), hardest=0.5)
    >>> float(loss), grads.ds
    (-0.125, array([[-1. ,  0.5,  0. ,  0. ,  0.5]]))
    """
    _check("hard_simple_contrastive", s, positive, ignore, reduction)
    hardest = validate.hardest("hard_simple_contrastive", hardest)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    kept = hardest_negatives(s_neg, pairing.negatives, hardest=hardest)
    weight = _weights("hard_simple_contrastive", weight, kept, like=s)
    gap, pool = weighted_sum_forward(s_pos, s_neg, weight, negatives=kept)
    loss, _ = identity_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, SimpleContrastiveCache(pairing, pool, reduced)


def hard_simple_contrastive_backward(dvalue: Array, cache: SimpleContrastiveCache) -> tuple[Array, Array]:
    """Return ds and dλ: the simple loss's own way back, since which negatives were kept is a constant."""
    return simple_contrastive_backward(dvalue, cache)


class TripletCache(NamedTuple):
    pairing: PairingCache
    pool: MaximumCache
    penalty: HingeCache
    reduced: ReduceCache


def triplet_forward(
    s: Array,
    *,
    margin: float = 0.0,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, TripletCache]:
    r"""Triplet loss against the nearest negative.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    margin : float
        By how much the positive should be nearer than the nearest negative, in units of similarity, >= 0.
    positive : (N,) array of integers, optional
        Column of each anchor's positive; by default the diagonal.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In units of similarity, >= 0.
    cache : TripletCache
        What the backward reads; the pair returns the gradient ds (N, M) instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    .. math:: L_i = \max\bigl(\max_k s_{ik} - s_{ip} + margin,\; 0\bigr)

    Penalty hinge, pool maximum. At the kinks the gradient is 0 where the hinge closes, and shared equally among
    negatives that tie for the nearest. Without negatives the loss and its gradient are 0.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 6: with margin 0, the limit of τ times `softmax_contrastive` as τ → 0⁺.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import triplet
    >>> loss, grads = triplet(np.array([[0.75, 0.5, 0.625]]), margin=0.25)
    >>> float(loss), grads.ds
    (0.125, array([[-1.,  0.,  1.]]))
    """
    _check("triplet", s, positive, ignore, reduction)
    margin = validate.setting("triplet", "margin", margin, above=0.0, at_least=True)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    gap, pool = maximum_forward(s_pos, s_neg, negatives=pairing.negatives, margin=margin)
    loss, penalty = hinge_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, TripletCache(pairing, pool, penalty, reduced)


def triplet_backward(dvalue: Array, cache: TripletCache) -> Array:
    """Return ds: −1 at the positive and 1 at the nearest negative, where the hinge is open."""
    pairing, pool, penalty, reduced = cache
    dloss = reduce_backward(dvalue, reduced)
    dgap = hinge_backward(dloss, penalty)
    ds_pos, ds_neg = maximum_backward(dgap, pool)
    return pairing_backward(ds_pos, ds_neg, pairing)


def _check(name: str, s: Array, positive: Array | None, ignore: Array | None, reduction: str) -> None:
    validate.floats(name, s=(s, "N M"))
    check_roles(name, s, s.shape[1], positive=positive, ignore=ignore)
    validate.reduction(name, reduction)


def _weights(name: str, weight: Any, counted: Array, *, like: Array) -> Array:
    """Return λ for each anchor: the one given, or 1 over the number of negatives that count."""
    xp = namespace(like)
    one = constant(1.0, like=like)
    if weight is None:
        number = xp.sum(xp.where(counted, one, constant(0.0, like=like)), axis=1)  # (N,)
        return 1 / xp.maximum(number, one)
    return xp.broadcast_to(validate.scalar(name, "weight", weight, like=like), (like.shape[0],))


softmax_contrastive = Pair(softmax_contrastive_forward, softmax_contrastive_backward)
hard_softmax_contrastive = Pair(hard_softmax_contrastive_forward, hard_softmax_contrastive_backward)
simple_contrastive = Pair(simple_contrastive_forward, simple_contrastive_backward)
hard_simple_contrastive = Pair(hard_simple_contrastive_forward, hard_simple_contrastive_backward)
triplet = Pair(triplet_forward, triplet_backward)
