"""image, text -> L: CLIP, InfoNCE in both directions with a learnable scale.

In:  two sets of embeddings (N, D), row i of one the positive of row i of the other.
Out: a loss over 2N anchors and the gradient of both sets and of the scale.
"""

import math
from typing import Any, NamedTuple

from refcl.core.agreement import Call
from refcl.core.arguments import Floats, Reduction, number
from refcl.core.arrays import AnyArray, Array, Number, constant, namespace
from refcl.core.pair import pair
from refcl.losses.info_nce import (
    SoftmaxContrastiveCache,
    one_kind_of_target,
    softmax_contrastive_backward,
    softmax_contrastive_forward,
)
from refcl.walk.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.walk.similarity import (
    CosineSimilarityCache,
    OwnSimilarityCache,
    cosine_similarity_backward,
    cosine_similarity_forward,
    own_similarity_backward,
    own_similarity_forward,
)


class ClampCache(NamedTuple):
    outside: Array  # () whether the parameter lay outside its bounds


def clamp_forward(log_scale: Array, bounds: tuple[float, float] | None) -> tuple[Array, ClampCache]:
    """Bring the parameter into its bounds."""
    xp = namespace(log_scale)
    low, high = (-math.inf, math.inf) if bounds is None else bounds
    lowest, highest = constant(low, like=log_scale), constant(high, like=log_scale)
    outside = (log_scale < lowest) | (log_scale > highest)  # ()
    return xp.minimum(xp.maximum(log_scale, lowest), highest), ClampCache(outside)


def clamp_backward(dclamped: Array, cache: ClampCache) -> Array:
    """Return dθ: dclamped where θ lay within its bounds or on one of them, and 0 outside."""
    xp = namespace(dclamped)
    return xp.asarray(xp.where(cache.outside, constant(0.0, like=dclamped), dclamped))


class CLIPCache(NamedTuple):
    clamped: ClampCache
    temperature: Array  # ()
    compared: CosineSimilarityCache
    own: OwnSimilarityCache | None  # of the images' own negatives
    image_walk: SoftmaxContrastiveCache  # with the images as anchors
    text_walk: SoftmaxContrastiveCache  # with the texts
    reduced: ReduceCache


def clip_forward(
    image: Array,
    text: Array,
    log_scale: Array,
    own_negatives: Array | None = None,
    log_weight: Array | None = None,
    targets: Array | None = None,
    anchor_weight: Array | None = None,
    *,
    clamp: tuple[float, float] | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    **settings: Any,
) -> tuple[Array, CLIPCache]:
    """Clamp, compare, walk as `softmax_contrastive_forward` with images and with texts as anchors, reduce."""
    xp = namespace(image)
    log_scale, clamped = clamp_forward(log_scale, clamp)
    temperature = xp.asarray(xp.exp(-log_scale))  # ()
    s, compared = cosine_similarity_forward(image, text, normalize=normalize, eps=eps)  # (N, N)
    turned = None if ignore is None else ignore.T
    (image_w, text_w), (image_t, text_t), (image_a, text_a) = map(sides, (log_weight, targets, anchor_weight))
    from_images, own = (s, image_w, image_t, ignore), None
    if own_negatives is not None:
        from_images, own = own_similarity_forward(
            s, own_negatives, compared, image_w, image_t, ignore, normalize=normalize, eps=eps
        )
    seen, image_w, image_t, ignore = from_images
    image_loss, image_walk = softmax_contrastive_forward(
        seen, temperature, image_w, image_t, image_a, ignore=ignore, reduction="none", **settings
    )  # (N,)
    text_loss, text_walk = softmax_contrastive_forward(
        s.T, temperature, text_w, text_t, text_a, ignore=turned, reduction="none", **settings
    )  # (N,)
    value, reduced = reduce_forward(xp.stack((image_loss, text_loss)), reduction=reduction)
    return value, CLIPCache(clamped, temperature, compared, own, image_walk, text_walk, reduced)


def clip_backward(
    dvalue: Array, cache: CLIPCache
) -> tuple[Array, Array, Array, Array | None, Array | None, Array | None, Array | None]:
    """Return dimage, dtext and dθ = −τ dτ, or 0 where θ was clamped: τ = exp(−θ)."""
    clamped, temperature, compared, own, image_walk, text_walk, reduced = cache
    dloss = reduce_backward(dvalue, reduced)  # (2, N)
    ds_text, dtemperature_text, *text_rest = softmax_contrastive_backward(dloss[1, :], text_walk)
    ds_image, dtemperature_image, *image_rest = softmax_contrastive_backward(dloss[0, :], image_walk)
    down = None
    if own is not None:
        ds_image, dimage_own, down, *image_rest[:2] = own_similarity_backward(
            ds_image, compared, own, image_rest[0], image_rest[1]
        )
    dimage, dtext = cosine_similarity_backward(ds_image + ds_text.T, compared)
    if own is not None:
        dimage = dimage + dimage_own
    xp = namespace(dloss)
    dlog_scale = xp.asarray(-temperature * (dtemperature_image + dtemperature_text))  # ()
    rest = [None if x is None else xp.stack((x, y)) for x, y in zip(image_rest, text_rest, strict=True)]
    return dimage, dtext, clamp_backward(dlog_scale, clamped), down, *rest


def sides(x: Array | None) -> tuple[Array | None, Array | None]:
    """Return what (2, N, ...) says of the images and of the texts."""
    return (None, None) if x is None else (x[0, ...], x[1, ...])


def asked_of_two_sides(call: Call, ready: dict[str, Any]) -> None:
    """Refuse what is not given for two sides, and targets beside a margin."""
    if call.sizes.get("T", 2) != 2:
        argument = next(name for name in ("log_weight", "targets", "anchor_weight") if ready[name] is not None)
        raise ValueError(
            f"{call.name}: {argument} must have two parts, for images and for texts as anchors; got "
            f"{tuple(ready[argument].shape)}."
        )
    one_kind_of_target(call, ready)


def low_and_high(call: Call, argument: str, value: Any) -> tuple[float, float]:
    """Ask for two bounds, a tuple in order."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(f"{call.name}: {argument} must be a tuple (low, high) or None, got {value!r}.")
    low, high = [number()(call, argument, bound) for bound in value]
    if low > high:
        raise ValueError(f"{call.name}: {argument} must have low <= high, got {value!r}.")
    return low, high


class CLIPGrads(NamedTuple):
    dimage: Array  # (N, D)
    dtext: Array  # (N, D)
    dlog_scale: Array  # ()
    down_negatives: Array | None = None  # (N, H, D) each of these None where it was not given
    dlog_weight: Array | None = None  # (2, N, N)
    dtargets: Array | None = None  # (2, N, N)
    danchor_weight: Array | None = None  # (2, N)


@pair(
    text="N D",
    clamp=low_and_high,
    ignore="N N",
    log_weight=Floats("T N N"),
    targets=Floats("T N N"),
    anchor_weight=Floats("T N"),
    also=asked_of_two_sides,
)
def clip(
    image: AnyArray,
    text: AnyArray,
    log_scale: Number,
    own_negatives: AnyArray | None = None,
    log_weight: AnyArray | None = None,
    targets: AnyArray | None = None,
    anchor_weight: AnyArray | None = None,
    *,
    clamp: tuple[float, float] | None = None,
    ignore: AnyArray | None = None,
    label_smoothing: float = 0.0,
    margin: float = 0.0,
    angular_margin: float = 0.0,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
    upstream: AnyArray | None = None,
) -> tuple[Array, CLIPGrads]:
    r"""CLIP's loss: InfoNCE in both directions, with a learnable scale.

    Parameters
    ----------
    image, text : (N, D) array of float32 or float64
        Two sets of embeddings: row i of one is the positive of row i of the other.
    log_scale : float or () array
        θ, the logarithm of the scale :math:`e^\theta = 1/\tau`; CLIP starts at log(1/.07).
    own_negatives : (N, H, D) array, optional
        Texts that only their image meets, as `info_nce` has them. No text has any.
    log_weight, targets : (2, N, N) array, optional
        Those of `softmax_contrastive`, for images by texts and for texts by images.
    anchor_weight : (2, N) array, optional
        What the losses of images and texts are multiplied by.
    clamp : tuple of two floats, optional
        Bounds (low, high) that θ is brought into, (0, log 100) in CLIP. Outside them dlog_scale is 0; at either bound
        it is that of the inside, as for ``torch.clamp``.
    ignore : (N, N) array of booleans, optional
        True where an image and a text are neither positives nor negatives of each other. The positive wins over it.
    label_smoothing, margin, angular_margin : optional
        As in `softmax_contrastive`, in both directions.
    reduction : optional
        As in `nt_xent`.
    normalize, eps, tile : optional
        As in `info_nce`.
    upstream : (2, N) array, optional
        With the reduction "none": what each anchor's loss is worth in the gradients, images in the first row, texts in
        the second; by default 1.

    Returns
    -------
    loss : () array, or (2, N) array where the reduction is "none"
        In nats, >= 0; images as anchors in the first row, texts in the second.
    grads : CLIPGrads
        dimage (N, D), dtext (N, D), dlog_scale (), and where they were given down_negatives (N, H, D),
        dlog_weight (2, N, N), dtargets (2, N, N) and danchor_weight (2, N).

    Notes
    -----
    The mean of `info_nce` (image, text) and `info_nce` (text, image) at :math:`\tau = e^{-\theta}`. The scale is the
    exponential of the parameter: passing log(1/.07) = 2.66 where the scale belongs is a temperature of .38.

    The original clamps the parameter after each step, not inside the loss: ``log_scale = clip(log_scale, 0, log 100)``,
    with ``clamp=None`` here. The loss then has its full gradient wherever θ is, which can lead it back from the bound.
    Clamped inside the loss, a θ that one step carried outside gets no gradient any more, and stays.

    References
    ----------
    Radford et al. (CLIP), ICML 2021, Figure 3.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import clip
    >>> rng = np.random.default_rng(0)
    >>> loss, grads = clip(rng.standard_normal((4, 8)), rng.standard_normal((4, 8)), np.log(1 / 0.07))
    >>> grads._fields[:3]
    ('dimage', 'dtext', 'dlog_scale')
    """
