"""x -> another view of x: what makes a positive.

In:  standardised samples (N, F) and a generator.
Out: as many samples, each changed at random in ways that leave its class alone.
The generator draws where the samples are, or on the host: then its numbers are moved.
"""

from typing import NamedTuple

import numpy as np

from refcl.core.arrays import Array, arange, constant, integers, namespace

AT_ONCE = 2048  # samples


class Strength(NamedTuple):
    """How much a view changes a sample; the data are standardised, so noise is in standard deviations."""

    shift: int = 1  # pixels, at most, up or down and left or right
    brightness: float = 0.3  # contrast against the empty pixel is scaled by a factor in [1 - b, 1 + b]
    noise: float = 0.4  # standard deviation
    dropout: float = 0.1  # share of pixels or features that become blank


def view(
    x: Array,
    rng: np.random.Generator,
    *,
    image: tuple[int, ...] | None,
    blank: float,
    strength: Strength = Strength(),  # noqa: B008 - a NamedTuple: immutable
) -> Array:
    """Change each sample at random.

    Parameters
    ----------
    x : (N, F) array of float32 or float64
        Standardised samples, of NumPy, CuPy or the array API standard.
    rng : numpy.random.Generator or cupy.random.Generator
        Where the numbers come from; it moves on.
    image : tuple of two or three int, or None
        Height and width where a sample is an image, row by row, and how many numbers a pixel has where it is more than
        one. Only images are shifted and change brightness.
    blank : float
        What moves in from outside, what a dropped pixel becomes, and what brightness is measured from.
    strength : Strength
        How much of each.

    Returns
    -------
    (N, F) array
        Shifted, brightened, with noise, with dropped pixels, in this order.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.views import Strength
    >>> from refcl.experiment.views import view
    >>> x = np.eye(4)[:1]
    >>> still = Strength(shift=0, brightness=0.0, noise=0.0, dropout=0.0)
    >>> view(x, np.random.default_rng(0), image=(2, 2), blank=0.0, strength=still)
    array([[1., 0., 0., 0.]])
    """
    xp = namespace(x)
    if x.shape[0] > AT_ONCE:  # random numbers and what comes between take memory of their own
        parts = [x[k : min(k + AT_ONCE, x.shape[0]), :] for k in range(0, x.shape[0], AT_ONCE)]
        return xp.concat([view(part, rng, image=image, blank=blank, strength=strength) for part in parts], axis=0)
    empty = constant(blank, like=x)
    if image is not None:
        x = _shifted(x, rng, image, empty, strength.shift)
        low, high = 1.0 - strength.brightness, 1.0 + strength.brightness
        factor = constant(low + (high - low) * rng.random((x.shape[0], 1)), like=x)
        x = x * factor + empty * (1.0 - factor)
    noise = rng.standard_normal(x.shape, dtype=np.float32)
    x = x + constant(strength.noise * noise, like=x)
    kept = rng.random(x.shape, dtype=np.float32) >= strength.dropout
    return xp.where(constant(kept, like=x) > 0, x, empty)


def _shifted(x: Array, rng: np.random.Generator, image: tuple[int, ...], empty: Array, most: int) -> Array:
    # A shift is a gather: each pixel's source is a pixel of x, or the extra one at the end where it is outside.
    height, width = image[:2]
    channels = x.shape[1] // (height * width)
    shift: Array = rng.integers(0, 2 * most + 1, size=(2, x.shape[0], 1, 1)) - most
    row = arange(height, like=shift)[:, None] - shift[0, ...]  # (N, H, 1), moved down
    column = arange(width, like=shift)[None, :] - shift[1, ...]  # (N, 1, W), moved right
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)  # (N, H, W)
    pixel = namespace(shift).where(inside, row * width + column, height * width)  # (N, H, W)
    source = namespace(shift).reshape(pixel[..., None] * channels + arange(channels, like=shift), x.shape)  # (N, F)
    xp = namespace(x)
    extended = xp.concat([x, xp.broadcast_to(empty, (x.shape[0], channels))], axis=1)  # (N, F + channels)
    return xp.take_along_axis(extended, integers(source, like=x), axis=1)
