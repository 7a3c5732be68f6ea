"""s, labels -> L: the softmax loss with any number of positives, all the samples of an anchor's class.

In:  similarities ``s`` (N, M) and a mask of positives, or embeddings ``z`` (N, D) and ``labels`` (N,).
Out: a loss over N anchors and its gradient. Pool: negatives against positives; penalty: softplus. What is added for
several positives depends on s in the "out" form only.
"""

from typing import Any, Literal, NamedTuple

from refcl.core.arguments import Reduction, choice
from refcl.core.arrays import AnyArray, Array, Number, arange, constant, namespace
from refcl.core.pair import pair
from refcl.walk.penalty import SoftplusCache, softplus_backward, softplus_forward
from refcl.walk.pooling.several_positives import (
    SoftMaximumDifferenceCache,
    SpreadCache,
    soft_maximum_difference_backward,
    soft_maximum_difference_forward,
    spread_backward,
    spread_forward,
)
from refcl.walk.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.walk.similarity import CosineSimilarityCache, cosine_similarity_backward, cosine_similarity_forward


class SupervisedContrastiveCache(NamedTuple):
    difference: SoftMaximumDifferenceCache
    penalty: SoftplusCache
    spread: SpreadCache | None  # None where the form is "in"
    unscaled: Array | None  # (N,) losses before the scale τ/τ_base; None without one
    base_temperature: float | None
    scale: Array  # () factor of each anchor: τ/τ_base, and what makes up for anchors left out of the mean
    mean_factor: Array  # () the latter alone
    reduced: ReduceCache


def supervised_contrastive_forward(
    s: Array,
    temperature: Array,
    *,
    positives: Array,
    ignore: Array | None = None,
    form: str = "out",
    no_positive: str = "zero",
    base_temperature: float | None = None,
    reduction: str = "mean",
) -> tuple[Array, SupervisedContrastiveCache]:
    """Pool negatives against positives, charge the softplus, add what several positives cost, scale, reduce."""
    xp = namespace(s)
    negatives = ~positives if ignore is None else ~(positives | ignore)  # (N, M)
    gap, difference = soft_maximum_difference_forward(s, temperature, positives=positives, negatives=negatives)
    loss, penalty = softplus_forward(gap)
    one = constant(1.0, like=s)
    count = xp.sum(xp.where(positives, one, constant(0.0, like=s)), axis=1)  # (N,) P
    spread = None
    if form == "out":
        above_mean, spread = spread_forward(s, temperature, positives=positives)
        loss = loss + above_mean
    elif form == "in":
        loss = loss + xp.log(xp.maximum(count, one))
    mean_factor = one
    if no_positive == "skip" and reduction == "mean":
        # () anchors over those with positives
        mean_factor = s.shape[0] / xp.maximum(xp.sum(xp.minimum(count, one)), one)
    scale = mean_factor if base_temperature is None else mean_factor * (temperature / base_temperature)
    unscaled = None if base_temperature is None else loss
    value, reduced = reduce_forward(loss * scale, reduction=reduction)
    return value, SupervisedContrastiveCache(
        difference, penalty, spread, unscaled, base_temperature, scale, mean_factor, reduced
    )


def supervised_contrastive_backward(dvalue: Array, cache: SupervisedContrastiveCache) -> tuple[Array, Array]:
    """Return ds and dτ: σ r_k/τ at a negative, −σ q_p/τ at a positive, and for "out" (q_p − 1/P)/τ more."""
    dscaled = reduce_backward(dvalue, cache.reduced)  # (N,)
    xp = namespace(dscaled)
    dloss = dscaled * cache.scale  # (N,)
    ds, dtemperature = soft_maximum_difference_backward(softplus_backward(dloss, cache.penalty), cache.difference)
    if cache.spread is not None:
        ds_spread, dtemperature_spread = spread_backward(dloss, cache.spread)
        ds, dtemperature = ds + ds_spread, dtemperature + dtemperature_spread
    if cache.unscaled is not None:
        # loss · τ/τ_base: the product rule's other half
        dtemperature = dtemperature + xp.sum(dscaled * cache.mean_factor * cache.unscaled) / cache.base_temperature
    return ds, xp.asarray(dtemperature)


class SupervisedContrastiveGrads(NamedTuple):
    ds: Array  # (N, M)
    dtemperature: Array  # ()


@pair(form=choice("out", "in", "sum"), no_positive=choice("zero", "skip"))
def supervised_contrastive(
    s: AnyArray,
    temperature: Number,
    *,
    positives: AnyArray,
    ignore: AnyArray | None = None,
    form: Literal["out", "in", "sum"] = "out",
    no_positive: Literal["zero", "skip"] = "zero",
    base_temperature: float | None = None,
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, SupervisedContrastiveGrads]:
    r"""Softmax contrastive loss with any number of positives an anchor.

    Parameters
    ----------
    s, temperature : (N, M) array, float or () array
        As in `softmax_contrastive`.
    positives : (N, M) array of booleans
        True where a candidate is a positive of the anchor: none, one or many in a row.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. A positive wins over it.
    form : str
        "out": the mean over the positives outside the logarithm; "in": inside it; "sum": their sum inside it.
    no_positive : str
        What becomes of an anchor without positives. "zero": loss 0, counted in the mean, as in the authors' code.
        "skip": left out of the mean, which is 0 where all are.
    base_temperature : float, optional
        :math:`\tau_{base}`: the loss is multiplied by :math:`\tau/\tau_{base}`, as in the authors' code, whose default
        is .07. Without it, as in the paper, by 1.
    reduction, upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= log of the number of an anchor's positives; >= 0 for the form "sum".
    grads : SupervisedContrastiveGrads
        ds (N, M) and dtemperature ().

    Notes
    -----
    With P positives p, negatives k and all of them a:

    .. math:: L^{out} = -\frac1P\sum_p\log\frac{e^{s_p/\tau}}{\sum_a e^{s_a/\tau}}
              = \log\sum_p e^{(s_p - \bar s)/\tau} + \operatorname{softplus}(gap), \qquad
              L^{in} = -\log\frac1P\sum_p\frac{e^{s_p/\tau}}{\sum_a e^{s_a/\tau}}
              = \log P + \operatorname{softplus}(gap), \qquad
              L^{sum} = L^{in} - \log P

    with :math:`gap = \log\sum_k e^{s_k/\tau} - \log\sum_p e^{s_p/\tau}`. All forms push the negatives alike, by
    :math:`\sigma r_k/\tau`; "out" also evens out the positives, by :math:`(q_p - 1/P)/\tau`, where q is their softmax.
    Nothing is taken from 1, so an anchor whose positives dominate keeps its digits. By Jensen's inequality "in" is
    never above "out". With one positive all are `softmax_contrastive`. Without negatives softplus is 0.

    The scale is part of the loss, so dtemperature includes its derivative, :math:`L/\tau_{base}`.

    References
    ----------
    Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, Eq. 2 (out) and 3 (in).

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import supervised_contrastive
    >>> s = np.array([[0.8, 0.6, 0.1, -0.3]])
    >>> positives = np.array([[True, True, False, False]])
    >>> outside, _ = supervised_contrastive(s, 0.2, positives=positives)
    >>> inside, _ = supervised_contrastive(s, 0.2, positives=positives, form="in")
    >>> round(float(outside), 6), round(float(inside), 6)
    (0.8384, 0.718285)
    """


def roles_of_labels(labels: Array, anchors: slice, *, ignore: Array | None) -> tuple[Array, Array]:
    """Return which of all rows are positives (anchors, N) of some, and which are neither that nor negatives."""
    row = arange(labels.shape[0], like=labels)  # (N,)
    itself = row[anchors, None] == row[None, :]  # (anchors, N)
    positives = (labels[anchors, None] == labels[None, :]) & ~itself
    return positives, itself if ignore is None else itself | ignore[anchors, :]


def mean_factor_of_labels(labels: Array, *, like: Array) -> Array:
    """Return N over the number of rows that share their class (): a mean over all becomes one over those."""
    xp = namespace(like)
    in_order = xp.sort(labels)
    same = xp.searchsorted(in_order, labels, side="right") - xp.searchsorted(in_order, labels, side="left")  # (N,)
    sharing = xp.sum(xp.where(same > 1, constant(1.0, like=like), constant(0.0, like=like)))  # ()
    return xp.asarray(labels.shape[0] / xp.maximum(sharing, constant(1.0, like=like)))


class SupConCache(NamedTuple):
    compared: CosineSimilarityCache
    walk: SupervisedContrastiveCache


def sup_con_forward(
    z: Array,
    temperature: Array,
    *,
    labels: Array,
    ignore: Array | None = None,
    normalize: bool = True,
    eps: float = 1e-12,
    **settings: Any,
) -> tuple[Array, SupConCache]:
    """Compare all rows, then walk as `supervised_contrastive_forward`, which takes the other settings."""
    s, compared = cosine_similarity_forward(z, z, normalize=normalize, eps=eps)  # (N, N)
    positives, ignored = roles_of_labels(labels, slice(0, z.shape[0]), ignore=ignore)
    value, walk = supervised_contrastive_forward(s, temperature, positives=positives, ignore=ignored, **settings)
    return value, SupConCache(compared, walk)


def sup_con_backward(dvalue: Array, cache: SupConCache) -> tuple[Array, Array]:
    """Return dz and dτ: each row receives as an anchor and as everyone else's candidate."""
    compared, walk = cache
    ds, dtemperature = supervised_contrastive_backward(dvalue, walk)
    as_anchor, as_candidate = cosine_similarity_backward(ds, compared)
    return as_anchor + as_candidate, dtemperature


class SupConGrads(NamedTuple):
    dz: Array  # (N, D)
    dtemperature: Array  # ()


@pair(ignore="N N", form=choice("out", "in", "sum"), no_positive=choice("zero", "skip"))
def sup_con(
    z: AnyArray,
    temperature: Number = 0.1,
    *,
    labels: AnyArray,
    ignore: AnyArray | None = None,
    form: Literal["out", "in", "sum"] = "out",
    no_positive: Literal["zero", "skip"] = "zero",
    base_temperature: float | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
    upstream: AnyArray | None = None,
) -> tuple[Array, SupConGrads]:
    r"""Supervised contrastive loss (SupCon): all the other samples of an anchor's class are its positives.

    Parameters
    ----------
    z : (N, D) array of float32 or float64
        Embeddings: every row an anchor, and a candidate of all others. Stack the views of a batch, repeat its labels.
    temperature : optional
        As in `softmax_contrastive`.
    labels : (N,) array of integers
        Class of each row. Rows of one label are positives of each other; a row itself is left out.
    ignore : (N, N) array of booleans, optional
        As in `supervised_contrastive`.
    form, no_positive, base_temperature : optional
        As in `supervised_contrastive`; a row without positives is alone in its class.
    reduction : optional
        As in `softmax_contrastive`.
    normalize, eps, tile : optional
        As in `info_nce`.
    upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= log of the number of an anchor's positives; >= 0 for the form "sum".
    grads : SupConGrads
        dz (N, D) and dtemperature ().

    Notes
    -----
    `supervised_contrastive` with :math:`s_{ia} = \langle z_i, z_a\rangle`, each sample once a label: `nt_xent`. The
    paper sums over anchors; its authors' code takes the mean, "out", scaled by τ/.07, of rows that are normalized
    already, and adds 1e-9 to the sum in the logarithm: ``base_temperature=0.07, normalize=False``.
    pytorch-metric-learning leaves rows without positives out: ``no_positive="skip"``.

    References
    ----------
    Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, Eq. 2 (out) and 3 (in).

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import nt_xent, sup_con
    >>> a, b = np.random.default_rng(0).standard_normal((2, 4, 8))
    >>> z, labels = np.concatenate([a, b]), np.tile(np.arange(4), 2)
    >>> bool(abs(sup_con(z, 0.2, labels=labels)[0] - nt_xent(a, b, 0.2)[0]) < 1e-15)
    True
    """
