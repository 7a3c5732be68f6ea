"""a, b -> L: the softmax loss where both sides are anchors.

In:  two sets of embeddings (N, D), row i of one the positive of row i of the other.
Out: a loss over 2N anchors and the gradient of both sets. Only the pairing differs from InfoNCE.
"""

import math
from typing import Any

from refcl import tiled, validate
from refcl.backend import Array, constant, namespace
from refcl.losses.on_embeddings import compare_backward, compare_forward
from refcl.losses.on_similarities import softmax_contrastive_backward, softmax_contrastive_forward
from refcl.losses.two_views import stack_backward, stack_forward
from refcl.pair import Pair
from refcl.pairing import check_roles
from refcl.reduce import reduce_backward, reduce_forward


def nt_xent_forward(
    a: Array,
    b: Array,
    temperature: Any = 0.5,
    *,
    ignore: Array | None = None,
    reduction: str = "mean",
    add_views: bool = False,
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
) -> tuple[Array, Any]:
    r"""SimCLR's NT-Xent: every row of both views is an anchor, and all the others are its candidates.

    Parameters
    ----------
    a, b : (N, D) array of float32 or float64
        Two views: row i of one is the positive of row i of the other.
    temperature : float or () array
        τ > 0, dimensionless.
    ignore : (2N, 2N) array of booleans, optional
        True where a candidate is neither positive nor negative, a's rows before b's. Self is always left out.
    reduction : str
        "mean" over the 2N anchors, "sum" or "none"; with "none" the pair takes ``upstream``, a (2N,) array.
    add_views : bool
        True: the mean is that over a's anchors plus that over b's, as in the official TensorFlow code: twice the
        paper's, value and gradients. It says how to average, and changes nothing where the reduction does not.
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines.
    eps : float
        Shortest length to divide by when normalizing, > 0.
    tile : int, optional
        Rows of a strip: S is computed a strip at a time, in memory proportional to N + M. None: dense where that is
        small, strips where it is not. NumPy and CuPy only; elsewhere None is dense.

    Returns
    -------
    loss : () array, or (2N,) array where the reduction is "none"
        In nats, >= 0; a's anchors before b's.
    cache : tuple
        What the backward reads; the pair returns the gradients da (N, D), db (N, D) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    .. math:: L_i = -\log\frac{e^{s_{ip}/\tau}}{\sum_{k \ne i} e^{s_{ik}/\tau}}, \qquad L = \frac1{2N}\sum_i L_i

    over the stacked rows :math:`z = [a; b]`, :math:`p = i \pm N`: 2N − 2 negatives each. With N = 1 there are none, and
    loss and gradient are 0.

    References
    ----------
    Chen, Kornblith, Norouzi and Hinton (SimCLR), ICML 2020, Eq. 1.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import nt_xent
    >>> a = np.eye(3)
    >>> loss, grads = nt_xent(a, a, 0.5)
    >>> round(float(loss), 9) == round(float(np.log1p(4 * np.exp(-2.0))), 9)
    True
    """
    xp = validate.floats("nt_xent", a=(a, "N D"), b=(b, "N D"))
    temperature = validate.scalar("nt_xent", "temperature", temperature, like=a, positive=True)
    validate.reduction("nt_xent", reduction)
    validate.setting("nt_xent", "eps", eps, above=0.0)
    z = xp.concat((a, b), axis=0)  # (2N, D)
    check_roles("nt_xent", z, z.shape[0], positive=None, ignore=ignore)
    factor = 2.0 if add_views and reduction == "mean" else 1.0
    if tiled.pays("nt_xent", tile, z, z):
        return tiled.forward(tiled.nt_xent, tile, z, temperature, factor, ignore, reduction, normalize, eps)
    (s, roles), stacked = stack_forward(a, b, ignore=ignore, normalize=normalize, eps=eps)  # (2N, 2N)
    value, walk = softmax_contrastive_forward(
        s, temperature, positive=roles.positive, ignore=roles.ignore, reduction=reduction
    )
    return xp.asarray(factor * value), (stacked, walk, factor)


def nt_xent_backward(dvalue: Array, cache: Any) -> tuple[Array, ...]:
    """Return da, db and dτ: each row receives as an anchor and as everyone else's candidate."""
    if isinstance(cache, tiled.Cache):
        return tiled.backward(dvalue, cache)
    stacked, walk, factor = cache
    ds, dtemperature = softmax_contrastive_backward(factor * dvalue, walk)
    da, db = stack_backward(ds, stacked)
    return da, db, dtemperature


def clip_forward(
    image: Array,
    text: Array,
    log_scale: Any,
    *,
    clamp: tuple[float, float] | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    tile: int | None = None,
) -> tuple[Array, Any]:
    r"""CLIP's loss: InfoNCE in both directions, with a learnable scale.

    Parameters
    ----------
    image, text : (N, D) array of float32 or float64
        Two sets of embeddings: row i of one is the positive of row i of the other.
    log_scale : float or () array
        θ, the logarithm of the scale :math:`e^\theta = 1/\tau`; CLIP starts at log(1/.07).
    clamp : tuple of two floats, optional
        Bounds (low, high) that θ is brought into, (0, log 100) in CLIP. Outside them dlog_scale is 0; at either bound
        it is that of the inside, as for ``torch.clamp``.
    ignore : (N, N) array of booleans, optional
        True where an image and a text are neither positives nor negatives of each other.
    reduction : str
        "mean" over the 2N anchors, "sum" or "none"; with "none" the pair takes ``upstream``, a (2, N) array.
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines.
    eps : float
        Shortest length to divide by when normalizing, > 0.
    tile : int, optional
        Rows of a strip: S is computed a strip at a time, in memory proportional to N + M. None: dense where that is
        small, strips where it is not. NumPy and CuPy only; elsewhere None is dense.

    Returns
    -------
    loss : () array, or (2, N) array where the reduction is "none"
        In nats, >= 0; images as anchors in the first row, texts in the second.
    cache : tuple
        What the backward reads; the pair returns the gradients dimage (N, D), dtext (N, D) and dlog_scale () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

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
    >>> grads._fields
    ('dimage', 'dtext', 'dlog_scale')
    """
    xp = validate.floats("clip", image=(image, "N D"), text=(text, "N D"))
    log_scale = validate.scalar("clip", "log_scale", log_scale, like=image)
    check_roles("clip", image, image.shape[0], positive=None, ignore=ignore)
    validate.reduction("clip", reduction)
    validate.setting("clip", "eps", eps, above=0.0)
    log_scale, outside = _clamped(log_scale, clamp)
    if tiled.pays("clip", tile, image, text):
        return tiled.forward(tiled.clip, tile, image, text, log_scale, outside, ignore, reduction, normalize, eps)
    temperature = xp.asarray(xp.exp(-log_scale))  # ()
    s, compared = compare_forward(image, text, normalize=normalize, eps=eps)  # (N, N)
    columns = None if ignore is None else ignore.T
    image_loss, rows = softmax_contrastive_forward(s, temperature, ignore=ignore, reduction="none")  # (N,)
    text_loss, cols = softmax_contrastive_forward(s.T, temperature, ignore=columns, reduction="none")  # (N,)
    value, reduced = reduce_forward(xp.stack((image_loss, text_loss)), reduction=reduction)
    return value, (compared, temperature, outside, rows, cols, reduced)


def clip_backward(dvalue: Array, cache: Any) -> tuple[Array, ...]:
    """Return dimage, dtext and dθ = −τ dτ, or 0 where θ was clamped: τ = exp(−θ)."""
    if isinstance(cache, tiled.Cache):
        return tiled.backward(dvalue, cache)
    compared, temperature, outside, rows, cols, reduced = cache
    dloss = reduce_backward(dvalue, reduced)  # (2, N)
    xp = namespace(dloss)
    ds_cols, dtemperature_cols = softmax_contrastive_backward(dloss[1, :], cols)
    ds_rows, dtemperature_rows = softmax_contrastive_backward(dloss[0, :], rows)
    dimage, dtext = compare_backward(ds_rows + ds_cols.T, compared)
    dlog_scale = -temperature * (dtemperature_rows + dtemperature_cols)  # ()
    return dimage, dtext, xp.asarray(xp.where(outside, constant(0.0, like=dloss), dlog_scale))


def _clamped(log_scale: Array, clamp: Any) -> tuple[Array, Array]:
    """Return θ brought into its bounds, and whether it lay outside, where it has no gradient."""
    low, high = (-math.inf, math.inf) if clamp is None else _bounds(clamp)
    lowest, highest = constant(low, like=log_scale), constant(high, like=log_scale)
    xp = validate.floats("clip", log_scale=(log_scale, ""))
    outside = (log_scale < lowest) | (log_scale > highest)  # ()
    return xp.minimum(xp.maximum(log_scale, lowest), highest), outside


def _bounds(clamp: Any) -> tuple[float, float]:
    if not isinstance(clamp, tuple) or len(clamp) != 2:
        raise TypeError(f"clip: clamp must be a tuple (low, high) or None, got {clamp!r}.")
    low, high = (validate.setting("clip", "clamp", bound, above=-math.inf) for bound in clamp)
    if low > high:
        raise ValueError(f"clip: clamp must have low <= high, got {clamp!r}.")
    return low, high


nt_xent = Pair(nt_xent_forward, nt_xent_backward)
clip = Pair(clip_forward, clip_backward)
