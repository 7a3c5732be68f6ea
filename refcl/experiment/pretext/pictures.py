"""Rows of numbers as pictures.

In:  samples (N, F), a picture a row, and a table that says for each of some changes where every pixel comes from.
Out: the samples changed. Turning, shuffling and cutting are all one gather, where the samples are.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refcl.core.arrays import Array, integers, namespace
from refcl.experiment.data import Data
from refcl.experiment.errors import StudyError

Table = NDArray[np.int64]  # (changes, F) the column that each entry of a changed row comes from; or moved to a device


class Picture(NamedTuple):
    """How a row of F = height * width * channels numbers is laid out: row by row, the channels of a pixel together."""

    height: int
    width: int
    channels: int = 1


def picture_of(data: Data, task: str) -> Picture:
    """Return the layout of a data set's pictures.

    Parameters
    ----------
    data : Data
        Read here: whether its samples are pictures, and its name.
    task : str
        Who asks.

    Returns
    -------
    Picture
        Height, width and channels.

    Raises
    ------
    StudyError
        Where the samples are no pictures.

    Examples
    --------
    >>> from refcl.experiment.data import load
    >>> from refcl.experiment.pretext.pictures import picture_of
    >>> picture_of(load(), "rotation")
    Picture(height=8, width=8, channels=1)
    """
    if data.image is None:
        raise StudyError(
            f"{task} needs pictures, and the samples of {data.name} are rows of features; "
            "give X of shape (N, height, width), or another loss."
        )
    return Picture(*data.image)


def with_channels(pixels: NDArray[np.int64], channels: int) -> Table:
    """Return a table of pixels (changes, height * width) as one of columns, each pixel with all of its channels."""
    return (pixels[:, :, None] * channels + np.arange(channels)).reshape(pixels.shape[0], -1)


def changed(x: Array, table: Array, which: Array) -> Array:
    """Change each sample in one of several ways.

    Parameters
    ----------
    x : (N, F) array of float32 or float64
        A picture a row.
    table : (changes, F) array of int64
        The column that each entry of a changed row comes from; on the device of ``x``, or on the host.
    which : (N,) array of int64
        The change of each sample, on the device of ``x``.

    Returns
    -------
    (N, F) array
        Entry f of row n is ``x[n, table[which[n], f]]``.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.pretext.pictures import changed
    >>> changed(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0, 1], [1, 0]]), np.array([0, 1]))
    array([[1., 2.],
           [4., 3.]])
    """
    xp = namespace(x)
    return xp.take_along_axis(x, xp.take(integers(table, like=x), which, axis=0), axis=1)
