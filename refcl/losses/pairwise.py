"""query -> L, image, text -> L: every pair by itself, asked whether it is a positive.

In:  two sets of embeddings (NCE: one, and a bank).
Out: a loss of N anchors and its gradient. Each is the walk sphere, similarity, then no pool at all: the room
`separate`, and the softplus of every pair. What NCE fixes beforehand (Z, and how often noise comes) SigLIP learns: its
bias.
"""

import math
from typing import Any, NamedTuple

from refcl import tiled, validate
from refcl.backend import Array, constant, namespace
from refcl.losses.on_embeddings import CompareCache, compare_backward, compare_forward
from refcl.pair import Pair
from refcl.pairing import PairingCache, all_but_ignored, check_roles, pairing_backward, pairing_forward
from refcl.penalty import SoftplusCache, softplus_backward, softplus_forward
from refcl.pooling import SeparateCache, separate_backward, separate_forward
from refcl.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.similarity import own_product_forward
from refcl.sphere import NormalizeCache, l2_normalize_backward, l2_normalize_forward


class DrawCache(NamedTuple):
    on_sphere: NormalizeCache | None  # of the anchors; None where rows were taken as they are
    own: Array  # (N, 1, D) each anchor's own row of the bank, as it was compared
    noise: Array  # (N, K, D) and those drawn for it


class ChargeCache(NamedTuple):
    positives: SoftplusCache
    negatives: SoftplusCache  # of the (N M,) negatives, row after row


class NceCache(NamedTuple):
    draw: DrawCache
    temperature: Array  # ()
    separate: SeparateCache
    charge: ChargeCache
    reduced: ReduceCache


def nce_forward(
    query: Array,
    temperature: Any = 0.07,
    *,
    bank: Array,
    index: Array,
    noise: Array,
    log_normalizer: Any,
    stabilizer: float = 0.0,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> tuple[Array, NceCache]:
    r"""Noise-contrastive estimation of instance discrimination: tell a sample's own row from rows drawn at random.

    Parameters
    ----------
    query : (N, D) array of float32 or float64
        Anchors: the samples as the encoder sees them now.
    temperature : float or () array
        τ > 0, dimensionless.
    bank : (M, D) array
        The samples as they were seen before, all of them; a constant.
    index : (N,) array of integers
        Row of the bank that is each anchor's own, in [0, M).
    noise : (N, K) array of integers
        Rows drawn for each anchor, uniformly and with replacement, in [0, M).
    log_normalizer : float or () array
        log Z, a constant: `nce_log_normalizer` estimates it from the first batch. The logarithm, since at τ below .0113
        Z itself has no place in float32.
    stabilizer : float
        ε >= 0, added to both denominators: 1e-7 in the original code; 0 is the formula.
    ignore : (N, K) array of booleans, optional
        True where a draw does not count. ``noise == index[:, None]`` leaves out noise that hit the anchor's own row;
        the original keeps it.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.
    normalize : bool
        Whether rows, those of the bank too, are brought to length 1 first, so that similarities are cosines.
    eps : float
        Shortest length to divide by when normalizing, > 0.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0: the sum over an anchor's 1 + K pairs.
    cache : NceCache
        What the backward reads; the pair returns the gradients dquery (N, D) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    With :math:`P_j = e^{\langle z_i, v_j\rangle/\tau}/Z` and noise of density 1/M,

    .. math:: L_i = -\log\frac{P_{index(i)}}{P_{index(i)} + K/M + \epsilon}
              - \sum_{k=1}^K \log\frac{K/M}{P_{noise(i, k)} + K/M + \epsilon}

    Each fraction is a sigmoid of :math:`\ell = s/\tau - \log Z - \log(K/M + \epsilon)`, so that the loss is
    :math:`\operatorname{softplus}(-\ell) + \sum_k \operatorname{softplus}(\ell_k)`, and
    :math:`\log(1 + \epsilon M/K)` more for each draw, which has no gradient: ε only moves the threshold. Unlike in
    `inst_disc` an anchor's pull and push do not balance. Z does not follow τ: dtemperature is that of the formula with
    Z held fixed.

    References
    ----------
    Wu, Xiong, Yu and Lin, CVPR 2018, Eq. 4 to 7; Gutmann and Hyvärinen, "Noise-contrastive estimation", AISTATS 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import nce, nce_log_normalizer
    >>> rng = np.random.default_rng(0)
    >>> query, bank = rng.standard_normal((2, 8)), rng.standard_normal((5, 8))
    >>> drawn = {"bank": bank, "index": np.array([3, 1]), "noise": rng.integers(0, 5, (2, 4))}
    >>> log_z = nce_log_normalizer(query, 0.1, **drawn)
    >>> loss, grads = nce(query, 0.1, **drawn, log_normalizer=log_z)
    >>> grads.dquery.shape, grads.dtemperature.shape
    ((2, 8), ())
    """
    xp = validate.floats("nce", query=(query, "N D"), bank=(bank, "M D"))
    validate.reduction("nce", reduction)
    validate.setting("nce", "eps", eps, above=0.0)
    temperature = validate.scalar("nce", "temperature", temperature, like=query, positive=True)
    log_normalizer = validate.scalar("nce", "log_normalizer", log_normalizer, like=query)
    stabilizer = validate.setting("nce", "stabilizer", stabilizer, above=0.0, at_least=True)
    s_pos, s_neg, draw = _draw_forward("nce", query, bank, index, noise, normalize=normalize, eps=eps)
    negatives = all_but_ignored("nce", s_neg, ignore)  # (N, K)
    rate = noise.shape[1] / bank.shape[0]  # K/M, how many draws a row of the bank can expect
    scale = xp.asarray(1 / temperature)  # ()
    bias = xp.asarray(-(log_normalizer + math.log(rate + stabilizer)))  # ()
    gaps, separate = separate_forward(s_pos, s_neg, scale, bias, negatives=negatives)
    loss, charge = _charge_forward(*gaps)
    one, zero = constant(1.0, like=query), constant(0.0, like=query)
    draws = xp.sum(xp.where(negatives, one, zero), axis=1)  # (N,)
    loss = loss + math.log1p(stabilizer / rate) * draws  # (N,)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, NceCache(draw, temperature, separate, charge, reduced)


def nce_backward(dvalue: Array, cache: NceCache) -> tuple[Array, Array]:
    """Return dquery and dτ = −dscale/τ²: the own row pulls by σ(−ℓ)/τ, each draw pushes by σ(ℓ_k)/τ."""
    draw, temperature, separate, charge, reduced = cache
    dloss = reduce_backward(dvalue, reduced)
    dgaps = _charge_backward(dloss, charge)
    ds_pos, ds_neg, dscale, _ = separate_backward(*dgaps, separate)
    xp = namespace(dscale)
    return _draw_backward(ds_pos, ds_neg, draw), xp.asarray(-dscale / temperature**2)


def nce_log_normalizer(
    query: Array,
    temperature: Any = 0.07,
    *,
    bank: Array,
    index: Array,
    noise: Array,
    normalize: bool = True,
    eps: float = 1e-12,
) -> Array:
    r"""Estimate log Z of `nce` from one batch, as the original does from its first and keeps ever after.

    Parameters
    ----------
    query : (N, D) array of float32 or float64
        Anchors of the first batch.
    temperature : float or () array
        τ > 0, dimensionless.
    bank : (M, D) array
        The samples as they were seen before.
    index : (N,) array of integers
        Row of the bank that is each anchor's own.
    noise : (N, K) array of integers
        Rows drawn for each anchor.
    normalize : bool
        As `nce` will be called.
    eps : float
        As `nce` will be called.

    Returns
    -------
    log_normalizer : () array
        :math:`\log M + \log\operatorname{mean} e^{s/\tau}`, the mean over all N (1 + K) pairs, positives included.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or τ out of its range.

    References
    ----------
    Wu, Xiong, Yu and Lin, CVPR 2018, Eq. 8, which has the draws alone; their code counts the positives in.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import nce_log_normalizer
    >>> one = np.array([[1.0, 0.0]])
    >>> drawn = {"index": np.array([0]), "noise": np.array([[0]])}
    >>> round(float(nce_log_normalizer(one, 0.1, bank=one, **drawn)), 6)
    10.0
    """
    xp = validate.floats("nce_log_normalizer", query=(query, "N D"), bank=(bank, "M D"))
    validate.setting("nce_log_normalizer", "eps", eps, above=0.0)
    temperature = validate.scalar("nce_log_normalizer", "temperature", temperature, like=query, positive=True)
    s_pos, s_neg, _ = _draw_forward("nce_log_normalizer", query, bank, index, noise, normalize=normalize, eps=eps)
    s = xp.concat((s_pos[:, None], s_neg), axis=1)  # (N, 1 + K)
    top = xp.max(s)  # ()
    return xp.asarray(top / temperature + xp.log(xp.mean(xp.exp((s - top) / temperature))) + math.log(bank.shape[0]))


class PairsCache(NamedTuple):
    pairing: PairingCache
    scale: Array  # ()
    separate: SeparateCache
    charge: ChargeCache
    reduced: ReduceCache


class SigLipCache(NamedTuple):
    compare: CompareCache
    pairs: PairsCache


def sig_lip_forward(
    image: Array,
    text: Array,
    log_scale: Any,
    bias: Any,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
) -> tuple[Array, Any]:
    r"""SigLIP: logistic regression on every pair of an image and a text.

    Parameters
    ----------
    image : (N, D) array of float32 or float64
        Anchors.
    text : (M, D) array
        Candidates; row i is the positive of image i, and further rows are negatives of all.
    log_scale : float or () array
        θ, the logarithm of the scale :math:`e^\theta = 1/\tau`; SigLIP starts at log 10.
    bias : float or () array
        b, in nats; SigLIP starts at −10, since nearly all pairs are negatives.
    positive : (N,) array of integers, optional
        Row of ``text`` that is each image's positive; by default 0, 1, ..., N − 1.
    ignore : (N, M) array of booleans, optional
        True where a pair is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean" over the images (not over the pairs), "sum" or "none"; with "none" the pair takes ``upstream``, an (N,)
        array.
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines.
    eps : float
        Shortest length to divide by when normalizing, > 0.
    tile : int, optional
        Rows of a strip: S is computed a strip at a time, in memory proportional to N + M. None: dense where that is
        small, strips where it is not. NumPy and CuPy only; elsewhere None is dense.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0: the sum over an image's pairs.
    cache : tuple
        What the backward reads; the pair returns the gradients dimage (N, D), dtext (M, D), dlog_scale () and dbias ()
        instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    .. math:: L = -\frac1N\sum_i\sum_j \log\sigma\bigl(y_{ij}(e^\theta s_{ij} + b)\bigr)

    with :math:`y_{ij} = 1` for a positive and −1 for a negative. No pair sees another: there is no normalization over
    candidates, and so neither a gradient balance nor a relative penalty; what a negative receives is
    :math:`e^\theta\sigma(\ell_{ij})/N`, however many there are. The loss of square input is the same with image and
    text changed over. The original code divides by the length plus 1e-8, which moves similarities by about 2e-8.

    References
    ----------
    Zhai, Mustafa, Kolesnikov and Beyer, "Sigmoid Loss for Language Image Pre-Training", ICCV 2023, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import sig_lip
    >>> a = np.eye(2)
    >>> loss, grads = sig_lip(a, a, np.log(10.0), -5.0)
    >>> round(float(loss), 9) == round(float(2 * np.log1p(np.exp(-5.0))), 9)
    True
    """
    xp = validate.floats("sig_lip", image=(image, "N D"), text=(text, "M D"))
    log_scale = validate.scalar("sig_lip", "log_scale", log_scale, like=image)
    bias = validate.scalar("sig_lip", "bias", bias, like=image)
    check_roles("sig_lip", image, text.shape[0], positive=positive, ignore=ignore)
    validate.reduction("sig_lip", reduction)
    validate.setting("sig_lip", "eps", eps, above=0.0)
    scale = xp.asarray(xp.exp(log_scale))  # ()
    if tiled.pays("sig_lip", tile, image, text, rooms=True):
        strips = tiled.walk_of(_pairs_forward, _pairs_backward, (scale, bias), positive=positive, ignore=ignore)
        return tiled.forward(tiled.row_by_row, tile, image, text, strips, reduction, normalize, eps)
    s, compare = compare_forward(image, text, normalize=normalize, eps=eps)  # (N, M)
    value, pairs = _pairs_forward(s, (scale, bias), positive=positive, ignore=ignore, reduction=reduction)
    return value, SigLipCache(compare, pairs)


def sig_lip_backward(dvalue: Array, cache: Any) -> tuple[Array, ...]:
    """Return dimage, dtext, dθ = scale·dscale and db: a pair's logit receives −y σ(−y ℓ)."""
    if isinstance(cache, tiled.Cache):
        return tiled.backward(dvalue, cache)
    ds, dlog_scale, dbias = _pairs_backward(dvalue, cache.pairs)
    return *compare_backward(ds, cache.compare), dlog_scale, dbias


def _pairs_forward(
    s: Array, line: tuple[Array, Array], *, positive: Array | None, ignore: Array | None, reduction: str
) -> tuple[Array, PairsCache]:
    """Walk from similarities, and the scale and bias of their logits, to the loss."""
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    gaps, separate = separate_forward(s_pos, s_neg, *line, negatives=pairing.negatives)
    loss, charge = _charge_forward(*gaps)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, PairsCache(pairing, line[0], separate, charge, reduced)


def _pairs_backward(dvalue: Array, cache: PairsCache) -> tuple[Array, Array, Array]:
    """Return ds, dθ = scale·dscale and db."""
    pairing, scale, separate, charge, reduced = cache
    dgaps = _charge_backward(reduce_backward(dvalue, reduced), charge)
    ds_pos, ds_neg, dscale, dbias = separate_backward(*dgaps, separate)
    return pairing_backward(ds_pos, ds_neg, pairing), namespace(dscale).asarray(scale * dscale), dbias


def _charge_forward(gap_pos: Array, gap_neg: Array) -> tuple[Array, ChargeCache]:
    """Charge every pair the softplus of its gap, and each anchor the sum over its pairs."""
    xp = namespace(gap_neg)
    own, positives = softplus_forward(gap_pos)  # (N,)
    others, negatives = softplus_forward(xp.reshape(gap_neg, (-1,)))  # (N M,)
    return own + xp.sum(xp.reshape(others, gap_neg.shape), axis=1), ChargeCache(positives, negatives)


def _charge_backward(dloss: Array, cache: ChargeCache) -> tuple[Array, Array]:
    """Return dgap of the positives (N,) and of the negatives (N, M): each anchor's push goes to all its pairs."""
    xp = namespace(dloss)
    anchors = dloss.shape[0]
    shape = (anchors, cache.negatives.slope.shape[0] // anchors)
    dothers = xp.reshape(xp.broadcast_to(dloss[:, None], shape), (-1,))  # (N M,)
    dgap_neg = xp.reshape(softplus_backward(dothers, cache.negatives), shape)  # (N, M)
    return softplus_backward(dloss, cache.positives), dgap_neg


def _draw_forward(
    name: str, query: Array, bank: Array, index: Array, noise: Array, *, normalize: bool, eps: float
) -> tuple[Array, Array, DrawCache]:
    """Compare each anchor with its own row of the bank and with the rows drawn for it: s⁺ (N,), s⁻ (N, K)."""
    anchors = query.shape[0]
    validate.companion(name, "index", index, kind="integer", shape=(anchors,), like=query)
    shape = tuple(getattr(noise, "shape", ()))
    validate.companion(name, "noise", noise, kind="integer", shape=shape, like=query)
    if len(shape) != 2 or shape[0] != anchors or shape[1] < 1:
        raise ValueError(f"{name}: noise must have shape ({anchors}, K), K >= 1; got {shape}.")
    own, drawn = _rows(bank, index[:, None]), _rows(bank, noise)  # (N, 1, D), (N, K, D)
    on_sphere = None
    if normalize:
        query, on_sphere = l2_normalize_forward(query, eps=eps)
        own, drawn = _each_row_on_sphere(own, eps=eps), _each_row_on_sphere(drawn, eps=eps)
    s_pos, _ = own_product_forward(query, own)  # (N, 1)
    s_neg, _ = own_product_forward(query, drawn)  # (N, K)
    return s_pos[:, 0], s_neg, DrawCache(on_sphere, own, drawn)


def _draw_backward(ds_pos: Array, ds_neg: Array, cache: DrawCache) -> Array:
    """Return dquery: the bank is a constant, and nothing is computed for its rows."""
    on_sphere, own, drawn = cache
    dz = ds_pos[:, None] * own[:, 0, :] + (ds_neg[:, None, :] @ drawn)[:, 0, :]  # (N, D)
    return dz if on_sphere is None else l2_normalize_backward(dz, on_sphere)


def _rows(bank: Array, columns: Array) -> Array:
    """Return rows of the bank (M, D) by number (N, K), as an (N, K, D) array."""
    xp = namespace(bank)
    return xp.reshape(xp.take(bank, xp.reshape(columns, (-1,)), axis=0), (*columns.shape, bank.shape[1]))


def _each_row_on_sphere(rows: Array, *, eps: float) -> Array:
    xp = namespace(rows)
    flat, _ = l2_normalize_forward(xp.reshape(rows, (-1, rows.shape[-1])), eps=eps)
    return xp.reshape(flat, rows.shape)


nce = Pair(nce_forward, nce_backward)
sig_lip = Pair(sig_lip_forward, sig_lip_backward)
