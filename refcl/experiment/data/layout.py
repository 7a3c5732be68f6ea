"""An array of samples -> rows of numbers, and what kind of thing a row is.

In:  (N, F) features; (N, H, W) pictures; with channels last or first; grey, coloured, with opacity.
Out: the same with channels last and opacity laid over black, and a line that says what was recognised.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refcl.experiment.errors import StudyError

CHANNELS = {1: "grey", 2: "grey with opacity", 3: "coloured", 4: "coloured with opacity"}
LEAST_SIDE = 5  # of a picture whose channels might stand first: below, a side could itself be a number of channels


class Layout(NamedTuple):
    """Samples with channels last, and whether they are pictures."""

    x: NDArray[Any]  # (N, F), (N, H, W) or (N, H, W, 3); the numbers as they came
    image: tuple[int, ...] | None  # (H, W) or (H, W, 3)
    said: str


def recognised(x: NDArray[Any], name: str, *, channels_last: bool = False) -> Layout:
    """Recognise the layout of samples.

    Parameters
    ----------
    x : array
        As the file has them.
    name : str
        Of the data set, for messages.
    channels_last : bool
        Whether that is known.

    Returns
    -------
    Layout
        Samples with channels last.

    Raises
    ------
    StudyError
        Where it is none that samples have, with the line of NumPy that mends it.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.data.layout import recognised
    >>> recognised(np.zeros((9, 3, 8, 8)), "mine").said
    '9 coloured pictures of 8 × 8 pixels, channels first'
    """
    if x.dtype.kind == "c":
        raise StudyError(
            f"{name}: X is {x.dtype}; expected real numbers: numpy.abs(X), or X.real and X.imag side by side."
        )
    if x.dtype.kind not in "biuf":
        raise StudyError(
            f"{name}: X is {x.dtype}; expected real numbers: X.astype(float), where it holds numbers as text."
        )
    if x.ndim == 0 or 0 in x.shape:
        raise StudyError(f"{name}: X has shape {x.shape}; expected at least one sample and one feature.")
    if x.ndim == 1:
        raise StudyError(
            f"{name}: X has shape {x.shape}; expected (N, features): X[:, None] for samples of one number."
        )
    n = x.shape[0]
    if x.ndim == 2:
        side = math.isqrt(x.shape[1])
        hint = (
            f" (if they are pictures, X.reshape(-1, {side}, {side}))"
            if side > LEAST_SIDE and side**2 == x.shape[1]
            else ""
        )
        return Layout(x, None, f"{n} samples of {x.shape[1]} feature{'s' * (x.shape[1] > 1)}{hint}")
    if x.ndim == 3:
        return Layout(x, x.shape[1:], f"{n} grey pictures of {_size(x)}")
    if x.ndim == 4:
        last = channels_last or x.shape[3] in CHANNELS
        first = not channels_last and x.shape[1] in CHANNELS and min(x.shape[2:]) >= LEAST_SIDE
        if first and (not last or x.shape[3] not in (1, 3, 4)):
            x = np.moveaxis(x, 1, 3)
            return _without_opacity(x, ", channels first")
        if last:
            return _without_opacity(x, "")
    raise StudyError(
        f"{name}: X has shape {x.shape}; expected (N, features), (N, height, width) or (N, height, width, "
        "channels) with "
        f"{', '.join(map(str, CHANNELS))} channels; X.reshape(len(X), -1) takes every number as a feature, and "
        "numpy.moveaxis(X, k, -1) puts channels last."
    )


def _without_opacity(x: NDArray[Any], said: str) -> Layout:
    channels = x.shape[3]
    words = f"{x.shape[0]} {CHANNELS[channels]} pictures of {_size(x)}{said}"
    if channels in (2, 4):
        opacity, colours = x[..., -1:], x[..., :-1]
        if np.all(opacity == opacity.flat[0]):
            x, words = colours, f"{words}, the same everywhere and left out"
        else:
            most = np.iinfo(x.dtype).max if x.dtype.kind in "iu" else max(1.0, float(np.max(opacity)))
            x, words = (colours * (opacity / most)).astype(np.float32), f"{words}, laid over black"
    if x.shape[3] == 1:
        x = x[..., 0]
    return Layout(x, x.shape[1:], words)


def _size(x: NDArray[Any]) -> str:
    return f"{x.shape[1]} × {x.shape[2]} pixels"
