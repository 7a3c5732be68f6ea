"""query -> L: noise-contrastive estimation against a bank, every pair by itself.

In:  anchors ``query`` (N, D), the ``bank`` (M, D), each anchor's own row of it and the rows drawn as noise.
Out: a loss and its gradient: logistic regression of data against noise, one softplus a pair.
"""

import math
from typing import NamedTuple

from refcl.core.arguments import Integers, Reduction, number
from refcl.core.arrays import AnyArray, Array, Number, constant, namespace
from refcl.core.pair import checked, pair
from refcl.walk.pairing import not_ignored
from refcl.walk.penalty import PairSoftplusCache, pair_softplus_backward, pair_softplus_forward
from refcl.walk.pooling.pair_logits import PairLogitsCache, pair_logits_backward, pair_logits_forward
from refcl.walk.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.walk.similarity import rowwise_product_forward
from refcl.walk.sphere import NormalizeCache, l2_normalize_backward, l2_normalize_forward


class DrawnSimilarityCache(NamedTuple):
    on_sphere: NormalizeCache | None  # of the anchors; None where rows were taken as they are
    own: Array  # (N, 1, D) each anchor's own row of the bank, as it was compared
    drawn: Array  # (N, K, D) and those drawn for it


def drawn_similarity_forward(
    query: Array, bank: Array, index: Array, noise: Array, *, normalize: bool, eps: float
) -> tuple[Array, Array, DrawnSimilarityCache]:
    """Compare each anchor with its own row of the bank and with the rows drawn for it: s⁺ (N,), s⁻ (N, K)."""
    xp = namespace(query)
    (own, of_bank), (drawn, drawn_of_bank) = _rows(bank, index[:, None]), _rows(bank, noise)  # (N, 1, D), (N, K, D)
    on_sphere = None
    if normalize:
        query, on_sphere = l2_normalize_forward(query, eps=eps)
        own, drawn = _each_row_on_sphere(own, eps=eps), _each_row_on_sphere(drawn, eps=eps)
    s_pos, _ = rowwise_product_forward(query, own)  # (N, 1)
    s_neg, _ = rowwise_product_forward(query, drawn)  # (N, K)
    s_pos, s_neg = xp.where(of_bank, s_pos, xp.nan), xp.where(drawn_of_bank, s_neg, xp.nan)
    return s_pos[:, 0], s_neg, DrawnSimilarityCache(on_sphere, own, drawn)


def drawn_similarity_backward(ds_pos: Array, ds_neg: Array, cache: DrawnSimilarityCache) -> Array:
    """Return dquery: the bank is a constant, and nothing is computed for its rows."""
    on_sphere, own, drawn = cache
    dz = ds_pos[:, None] * own[:, 0, :] + (ds_neg[:, None, :] @ drawn)[:, 0, :]  # (N, D)
    return dz if on_sphere is None else l2_normalize_backward(dz, on_sphere)


def _rows(bank: Array, number: Array) -> tuple[Array, Array]:
    """Return rows of the bank (M, D) by number (N, K), an (N, K, D) array, and where (N, K) there is such a row."""
    xp = namespace(bank)
    there = (number >= 0) & (number < bank.shape[0])  # (N, K)
    flat = xp.reshape(xp.where(there, number, 0), (-1,))  # (N K,)
    return xp.reshape(xp.take(bank, flat, axis=0), (*number.shape, bank.shape[1])), there


def _each_row_on_sphere(rows: Array, *, eps: float) -> Array:
    xp = namespace(rows)
    flat, _ = l2_normalize_forward(xp.reshape(rows, (-1, rows.shape[-1])), eps=eps)
    return xp.reshape(flat, rows.shape)


class NCECache(NamedTuple):
    compared: DrawnSimilarityCache
    temperature: Array  # ()
    logits: PairLogitsCache
    penalty: PairSoftplusCache
    reduced: ReduceCache


def nce_forward(
    query: Array,
    temperature: Array,
    *,
    bank: Array,
    index: Array,
    noise: Array,
    log_normalizer: Array,
    stabilizer: float = 0.0,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> tuple[Array, NCECache]:
    """Compare with the own row and the drawn ones, turn into logits, charge each pair the softplus, reduce."""
    xp = namespace(query)
    s_pos, s_neg, compared = drawn_similarity_forward(query, bank, index, noise, normalize=normalize, eps=eps)
    negatives = not_ignored(s_neg, ignore)  # (N, K)
    rate = noise.shape[1] / bank.shape[0]  # K/M, how many draws a row of the bank can expect
    scale = xp.asarray(1 / temperature)  # ()
    bias = xp.asarray(-(log_normalizer + math.log(rate + stabilizer)))  # ()
    gaps, logits = pair_logits_forward(s_pos, s_neg, scale, bias, negatives=negatives)
    loss, penalty = pair_softplus_forward(*gaps)
    one, zero = constant(1.0, like=query), constant(0.0, like=query)
    draws = xp.sum(xp.where(negatives, one, zero), axis=1)  # (N,)
    loss = loss + math.log1p(stabilizer / rate) * draws  # (N,)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, NCECache(compared, temperature, logits, penalty, reduced)


def nce_backward(dvalue: Array, cache: NCECache) -> tuple[Array, Array]:
    """Return dquery and dτ = −dscale/τ²: the own row pulls by σ(−ℓ)/τ, each draw pushes by σ(ℓ_k)/τ."""
    compared, temperature, logits, penalty, reduced = cache
    dloss = reduce_backward(dvalue, reduced)
    dgaps = pair_softplus_backward(dloss, penalty)
    ds_pos, ds_neg, dscale, _ = pair_logits_backward(*dgaps, logits)
    dtemperature = namespace(dscale).asarray(-dscale / temperature**2)  # ()
    return drawn_similarity_backward(ds_pos, ds_neg, compared), dtemperature


class NCEGrads(NamedTuple):
    dquery: Array  # (N, D)
    dtemperature: Array  # ()


@pair(noise=Integers("N K", below="M"), stabilizer=number(0.0, at_least=True), ignore="N K")
def nce(
    query: AnyArray,
    temperature: Number = 0.07,
    *,
    bank: AnyArray,
    index: AnyArray,
    noise: AnyArray,
    log_normalizer: Number,
    stabilizer: float = 0.0,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    upstream: AnyArray | None = None,
) -> tuple[Array, NCEGrads]:
    r"""Noise-contrastive estimation of instance discrimination: tell a sample's own row from rows drawn at random.

    Parameters
    ----------
    query, bank, index : (N, D), (M, D) and (N,) array
        As in `inst_disc`.
    temperature, reduction, upstream : optional
        As in `softmax_contrastive`.
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
    normalize, eps : optional
        As in `info_nce`, for the bank's rows too.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0: the sum over an anchor's 1 + K pairs.
    grads : NCEGrads
        dquery (N, D) and dtemperature ().

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
    >>> from refcl import nce
    >>> from refcl import nce_log_normalizer
    >>> rng = np.random.default_rng(0)
    >>> query, bank = rng.standard_normal((2, 8)), rng.standard_normal((5, 8))
    >>> drawn = {"bank": bank, "index": np.array([3, 1]), "noise": rng.integers(0, 5, (2, 4))}
    >>> log_z = nce_log_normalizer(query, 0.1, **drawn)
    >>> loss, grads = nce(query, 0.1, **drawn, log_normalizer=log_z)
    >>> grads.dquery.shape, grads.dtemperature.shape
    ((2, 8), ())
    """


@checked(noise=Integers("N K", below="M"))
def nce_log_normalizer(
    query: AnyArray,
    temperature: Number = 0.07,
    *,
    bank: AnyArray,
    index: AnyArray,
    noise: AnyArray,
    normalize: bool = True,
    eps: float = 1e-12,
) -> Array:
    r"""Estimate log Z of `nce` from one batch, as the original does from its first and keeps ever after.

    Parameters
    ----------
    query, bank, index : (N, D), (M, D) and (N,) array
        As in `inst_disc`, of the first batch.
    temperature : optional
        As in `softmax_contrastive`.
    noise : (N, K) array of integers
        As in `nce`.
    normalize, eps : optional
        As `nce` will be called.

    Returns
    -------
    log_normalizer : () array
        :math:`\log M + \log\operatorname{mean} e^{s/\tau}`, the mean over all N (1 + K) pairs, positives included.

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
    xp = namespace(query)
    s_pos, s_neg, _ = drawn_similarity_forward(query, bank, index, noise, normalize=normalize, eps=eps)
    s = xp.concat((s_pos[:, None], s_neg), axis=1)  # (N, 1 + K)
    top = xp.max(s)  # ()
    return xp.asarray(top / temperature + xp.log(xp.mean(xp.exp((s - top) / temperature))) + math.log(bank.shape[0]))
