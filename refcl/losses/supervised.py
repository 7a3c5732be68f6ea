"""s, labels -> L: the softmax loss with any number of positives, all the samples of an anchor's class.

In:  similarities ``s`` (N, M) and a mask of positives, or embeddings ``z`` (N, D) and ``labels`` (N,).
Out: a loss over N anchors and its gradient. Pool: negatives against positives; penalty: softplus. What is added for
several positives depends on s in the "out" form only.
"""

from typing import Any, NamedTuple

from refcl import tiled, validate
from refcl.backend import Array, arange, constant, namespace
from refcl.losses.on_embeddings import compare_backward, compare_forward
from refcl.pair import Pair
from refcl.penalty import SoftplusCache, softplus_backward, softplus_forward
from refcl.positives import (
    ContestCache,
    SpreadCache,
    contest_backward,
    contest_forward,
    spread_backward,
    spread_forward,
)
from refcl.reduce import ReduceCache, reduce_backward, reduce_forward

FORMS = ("out", "in")
POLICIES = ("zero", "skip")


class SupervisedCache(NamedTuple):
    contest: ContestCache
    penalty: SoftplusCache
    spread: SpreadCache | None  # None where the form is "in"
    unscaled: Array | None  # (N,) losses before the scale τ/τ_base; None without one
    base_temperature: float | None
    scale: Array  # () or (N,) factor of each anchor: τ/τ_base, and what makes up for anchors left out of the mean
    counted: Array  # () or (N,) the latter factor alone
    reduced: ReduceCache


def supervised_contrastive_forward(
    s: Array,
    temperature: Any,
    *,
    positives: Array,
    ignore: Array | None = None,
    form: str = "out",
    no_positive: str = "zero",
    base_temperature: float | None = None,
    reduction: str = "mean",
) -> tuple[Array, SupervisedCache]:
    r"""Softmax contrastive loss with any number of positives an anchor.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    temperature : float or () array
        τ > 0, dimensionless.
    positives : (N, M) array of booleans
        True where a candidate is a positive of the anchor: none, one or many in a row.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. A positive wins over it.
    form : str
        "out": the mean over the positives outside the logarithm; "in": inside it.
    no_positive : str
        What becomes of an anchor without positives. "zero": loss 0, counted in the mean, as in the authors' code.
        "skip": left out of the mean, which is 0 where all are.
    base_temperature : float, optional
        :math:`\tau_{base}`: the loss is multiplied by :math:`\tau/\tau_{base}`, as in the authors' code, whose default
        is .07. Without it, as in the paper, by 1.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= log of the number of an anchor's positives.
    cache : SupervisedCache
        What the backward reads; the pair returns the gradients ds (N, M) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    With P positives p, negatives k and all of them a:

    .. math:: L^{out} = -\frac1P\sum_p\log\frac{e^{s_p/\tau}}{\sum_a e^{s_a/\tau}}
              = \log\sum_p e^{(s_p - \bar s)/\tau} + \operatorname{softplus}(gap), \qquad
              L^{in} = -\log\frac1P\sum_p\frac{e^{s_p/\tau}}{\sum_a e^{s_a/\tau}}
              = \log P + \operatorname{softplus}(gap)

    with :math:`gap = \log\sum_k e^{s_k/\tau} - \log\sum_p e^{s_p/\tau}`. Both forms push the negatives alike, by
    :math:`\sigma r_k/\tau`; "out" also evens out the positives, by :math:`(q_p - 1/P)/\tau`, where q is their softmax.
    Nothing is taken from 1, so an anchor whose positives dominate keeps its digits. By Jensen's inequality "in" is
    never above "out". With one positive both are `softmax_contrastive`. Without negatives softplus is 0.

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
    name = "supervised_contrastive"
    xp = validate.floats(name, s=(s, "N M"))
    validate.companion(name, "positives", positives, kind="boolean", shape=s.shape, like=s)
    if ignore is not None:
        validate.companion(name, "ignore", ignore, kind="boolean", shape=s.shape, like=s)
    temperature, base_temperature = _check(name, s, temperature, form, no_positive, base_temperature, reduction)
    negatives = ~positives if ignore is None else ~(positives | ignore)  # (N, M)
    gap, contest = contest_forward(s, temperature, positives=positives, negatives=negatives)
    loss, penalty = softplus_forward(gap)
    one = constant(1.0, like=s)
    count = xp.sum(xp.where(positives, one, constant(0.0, like=s)), axis=1)  # (N,) P
    spread = None
    if form == "out":
        unevenness, spread = spread_forward(s, temperature, positives=positives)
        loss = loss + unevenness
    else:
        loss = loss + xp.log(xp.maximum(count, one))
    counted = one
    if no_positive == "skip" and reduction == "mean":
        counted = s.shape[0] / xp.maximum(xp.sum(xp.minimum(count, one)), one)  # () anchors over those with positives
    scale = counted if base_temperature is None else counted * (temperature / base_temperature)
    unscaled = None if base_temperature is None else loss
    value, reduced = reduce_forward(loss * scale, reduction=reduction)
    cache = SupervisedCache(contest, penalty, spread, unscaled, base_temperature, scale, counted, reduced)
    return value, cache


def supervised_contrastive_backward(dvalue: Array, cache: SupervisedCache) -> tuple[Array, Array]:
    """Return ds and dτ: σ r_k/τ at a negative, −σ q_p/τ at a positive, and for "out" (q_p − 1/P)/τ more."""
    dscaled = reduce_backward(dvalue, cache.reduced)  # (N,)
    xp = namespace(dscaled)
    dloss = dscaled * cache.scale  # (N,)
    ds, dtemperature = contest_backward(softplus_backward(dloss, cache.penalty), cache.contest)
    if cache.spread is not None:
        ds_spread, dtemperature_spread = spread_backward(dloss, cache.spread)
        ds, dtemperature = ds + ds_spread, dtemperature + dtemperature_spread
    if cache.unscaled is not None:
        # loss · τ/τ_base: the product rule's other half
        dtemperature = dtemperature + xp.sum(dscaled * cache.counted * cache.unscaled) / cache.base_temperature
    return ds, xp.asarray(dtemperature)


def sup_con_forward(
    z: Array,
    temperature: Any = 0.1,
    *,
    labels: Array,
    ignore: Array | None = None,
    form: str = "out",
    no_positive: str = "zero",
    base_temperature: float | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
) -> tuple[Array, Any]:
    r"""Supervised contrastive loss (SupCon): all the other samples of an anchor's class are its positives.

    Parameters
    ----------
    z : (N, D) array of float32 or float64
        Embeddings: every row an anchor, and a candidate of all others. Stack the views of a batch, repeat its labels.
    temperature : float or () array
        τ > 0, dimensionless.
    labels : (N,) array of integers
        Class of each row. Rows of one label are positives of each other; a row itself is left out.
    ignore : (N, N) array of booleans, optional
        True where a candidate is neither positive nor negative. A positive wins over it.
    form : str
        "out": the mean over the positives outside the logarithm; "in": inside it.
    no_positive : str
        What becomes of a row alone in its class. "zero": loss 0, counted in the mean. "skip": left out of the mean.
    base_temperature : float, optional
        :math:`\tau_{base}`: the loss is multiplied by :math:`\tau/\tau_{base}`, and dtemperature is the derivative of
        the product.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines.
    eps : float
        Shortest length to divide by when normalizing, > 0.
    tile : int, optional
        Rows of a strip: S is computed a strip at a time, in memory proportional to N. None: dense where that is
        small, strips where it is not. NumPy and CuPy only; elsewhere None is dense.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= log of the number of an anchor's positives.
    cache : tuple
        What the backward reads; the pair returns the gradients dz (N, D) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

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
    validate.floats("sup_con", z=(z, "N D"))
    n = z.shape[0]
    validate.companion("sup_con", "labels", labels, kind="integer", shape=(n,), like=z)
    if ignore is not None:
        validate.companion("sup_con", "ignore", ignore, kind="boolean", shape=(n, n), like=z)
    temperature, base_temperature = _check("sup_con", z, temperature, form, no_positive, base_temperature, reduction)
    validate.setting("sup_con", "eps", eps, above=0.0)
    settings: dict[str, Any] = {"form": form, "base_temperature": base_temperature}
    if tiled.pays("sup_con", tile, z, z, rooms=True):
        strips = _strips_of(temperature, labels, ignore, settings)
        skipped = no_positive == "skip" and reduction == "mean"
        factor = _of_those_with_positives(labels, z) if skipped else 1.0
        return tiled.forward(tiled.among_themselves, tile, z, 1, strips, factor, reduction, normalize, eps)
    s, compared = compare_forward(z, z, normalize=normalize, eps=eps)
    positives, left_out = _roles_of(labels, slice(0, n), ignore)
    value, walk = supervised_contrastive_forward(
        s,
        temperature,
        positives=positives,
        ignore=left_out,
        no_positive=no_positive,
        reduction=reduction,
        **settings,
    )
    return value, (compared, walk)


def sup_con_backward(dvalue: Array, cache: Any) -> tuple[Array, ...]:
    """Return dz and dτ: each row receives as an anchor and as everyone else's candidate."""
    if isinstance(cache, tiled.Cache):
        return tiled.backward(dvalue, cache)
    compared, walk = cache
    ds, dtemperature = supervised_contrastive_backward(dvalue, walk)
    as_anchor, as_candidate = compare_backward(ds, compared)
    return as_anchor + as_candidate, dtemperature


def _roles_of(labels: Array, anchors: slice, ignore: Array | None) -> tuple[Array, Array]:
    """Return which of all rows are positives (rows, N) of some as anchors, and which are neither that nor negatives."""
    row = arange(labels.shape[0], like=labels)  # (N,)
    itself = row[anchors, None] == row[None, :]  # (rows, N)
    positives = (labels[anchors, None] == labels[None, :]) & ~itself
    return positives, itself if ignore is None else itself | ignore[anchors, :]


def _strips_of(temperature: Array, labels: Array, ignore: Array | None, settings: dict[str, Any]) -> tiled.Walk:
    """Return how some rows walk as anchors."""

    def forward(s: Array, anchors: slice) -> tuple[Array, Any]:
        positives, left_out = _roles_of(labels, anchors, ignore)
        roles = {"positives": positives, "ignore": left_out}
        return supervised_contrastive_forward(s, temperature, **roles, **settings, reduction="none")

    return tiled.Walk(forward, supervised_contrastive_backward)


def _of_those_with_positives(labels: Array, like: Array) -> Array:
    """Return N over the number of rows that share their class (): a mean over all becomes one over those."""
    xp = namespace(like)
    in_order = xp.sort(labels)
    same = xp.searchsorted(in_order, labels, side="right") - xp.searchsorted(in_order, labels, side="left")  # (N,)
    sharing = xp.sum(xp.where(same > 1, constant(1.0, like=like), constant(0.0, like=like)))  # ()
    return xp.asarray(labels.shape[0] / xp.maximum(sharing, constant(1.0, like=like)))


def _check(
    name: str,
    like: Array,
    temperature: Any,
    form: str,
    no_positive: str,
    base_temperature: float | None,
    reduction: str,
) -> tuple[Array, float | None]:
    validate.choice(name, "form", form, FORMS)
    validate.choice(name, "no_positive", no_positive, POLICIES)
    validate.reduction(name, reduction)
    if base_temperature is not None:
        base_temperature = validate.setting(name, "base_temperature", base_temperature, above=0.0)
    return validate.scalar(name, "temperature", temperature, like=like, positive=True), base_temperature


supervised_contrastive = Pair(supervised_contrastive_forward, supervised_contrastive_backward)
sup_con = Pair(sup_con_forward, sup_con_backward)
