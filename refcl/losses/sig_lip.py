"""image, text -> L: SigLIP, logistic regression on every pair.

In:  two sets of embeddings, a learnable scale and bias.
Out: a loss and its gradient: one softplus a pair, and no pair sees another.
"""

from typing import Any, NamedTuple

from refcl.core.arguments import Reduction
from refcl.core.arrays import AnyArray, Array, Number, namespace
from refcl.core.pair import pair
from refcl.walk.pairing import PairingCache, pairing_backward, pairing_forward
from refcl.walk.penalty import PairSoftplusCache, pair_softplus_backward, pair_softplus_forward
from refcl.walk.pooling.pair_logits import PairLogitsCache, pair_logits_backward, pair_logits_forward
from refcl.walk.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.walk.similarity import CosineSimilarityCache, cosine_similarity_backward, cosine_similarity_forward


class PairwiseSigmoidCache(NamedTuple):
    pairing: PairingCache
    scale: Array  # ()
    logits: PairLogitsCache
    penalty: PairSoftplusCache
    reduced: ReduceCache


def pairwise_sigmoid_forward(
    s: Array,
    log_scale: Array,
    bias: Array,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, PairwiseSigmoidCache]:
    """Pair, turn each pair into a logit, charge each the softplus, reduce."""
    xp = namespace(s)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    scale = xp.asarray(xp.exp(log_scale))  # ()
    gaps, logits = pair_logits_forward(s_pos, s_neg, scale, bias, negatives=pairing.negatives)
    loss, penalty = pair_softplus_forward(*gaps)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, PairwiseSigmoidCache(pairing, scale, logits, penalty, reduced)


def pairwise_sigmoid_backward(dvalue: Array, cache: PairwiseSigmoidCache) -> tuple[Array, Array, Array]:
    """Return ds, dθ = scale·dscale and db: a pair's logit receives −y σ(−y ℓ)."""
    pairing, scale, logits, penalty, reduced = cache
    dloss = reduce_backward(dvalue, reduced)
    dgaps = pair_softplus_backward(dloss, penalty)
    ds_pos, ds_neg, dscale, dbias = pair_logits_backward(*dgaps, logits)
    dlog_scale = namespace(dscale).asarray(scale * dscale)  # ()
    return pairing_backward(ds_pos, ds_neg, pairing), dlog_scale, dbias


class SigLIPCache(NamedTuple):
    compared: CosineSimilarityCache
    walk: PairwiseSigmoidCache


def sig_lip_forward(
    image: Array,
    text: Array,
    log_scale: Array,
    bias: Array,
    *,
    normalize: bool = True,
    eps: float = 1e-12,
    **roles: Any,
) -> tuple[Array, SigLIPCache]:
    """Compare, then walk as `pairwise_sigmoid_forward`, which takes the other settings."""
    s, compared = cosine_similarity_forward(image, text, normalize=normalize, eps=eps)  # (N, M)
    value, walk = pairwise_sigmoid_forward(s, log_scale, bias, **roles)
    return value, SigLIPCache(compared, walk)


def sig_lip_backward(dvalue: Array, cache: SigLIPCache) -> tuple[Array, Array, Array, Array]:
    """Return dimage, dtext, dθ and db: each pair pulls or pushes its two ends by its own logit alone."""
    compared, walk = cache
    ds, dlog_scale, dbias = pairwise_sigmoid_backward(dvalue, walk)
    return *cosine_similarity_backward(ds, compared), dlog_scale, dbias


class SigLIPGrads(NamedTuple):
    dimage: Array  # (N, D)
    dtext: Array  # (M, D)
    dlog_scale: Array  # ()
    dbias: Array  # ()


@pair()
def sig_lip(
    image: AnyArray,
    text: AnyArray,
    log_scale: Number,
    bias: Number,
    *,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
    upstream: AnyArray | None = None,
) -> tuple[Array, SigLIPGrads]:
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
    positive, ignore, upstream : optional
        As in `softmax_contrastive`.
    reduction : str
        "mean" over the images (not over the pairs), "sum" or "none".
    normalize, eps, tile : optional
        As in `info_nce`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0: the sum over an image's pairs.
    grads : SigLIPGrads
        dimage (N, D), dtext (M, D), dlog_scale () and dbias ().

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
