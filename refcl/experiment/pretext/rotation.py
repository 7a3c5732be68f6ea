"""Which way up? Each picture is turned by some quarters, and the encoder is asked by how many.

In:  pictures.  Out: turned pictures, and the number of quarter turns as their label.
"""

import numpy as np

from refcl.core.arrays import Array, integers
from refcl.experiment.errors import StudyError
from refcl.experiment.pretext.pictures import Picture, Table, changed, with_channels

TURNS = 4


def quarter_turns(picture: Picture) -> Table:
    """Return where each pixel comes from after no, one, two and three quarter turns to the left.

    Parameters
    ----------
    picture : Picture
        As high as it is wide.

    Returns
    -------
    (4, F) array of int64
        Row k is the picture after k quarter turns.

    Raises
    ------
    StudyError
        Where the picture is not square: turned, it would be of another shape, which tells the answer.

    Examples
    --------
    >>> from refcl.experiment.pretext.pictures import Picture
    >>> from refcl.experiment.pretext.rotation import quarter_turns
    >>> quarter_turns(Picture(2, 2))[1].reshape(2, 2)
    array([[1, 3],
           [0, 2]])
    """
    height, width, channels = picture
    if height != width:
        raise StudyError(
            f"rotation needs square pictures, and these are {height} x {width}: turned by a quarter, they would be "
            f"{width} x {height}. Crop or pad them, or give another loss."
        )
    pixels = np.arange(height * width, dtype=np.int64).reshape(height, width)
    return with_channels(np.stack([np.rot90(pixels, k).reshape(-1) for k in range(TURNS)]), channels)


def rotate(x: Array, rng: np.random.Generator, *, turns: Array) -> tuple[Array, Array]:
    """Turn each picture by a random number of quarters.

    Parameters
    ----------
    x : (N, F) array of float32 or float64
        A picture a row.
    rng : numpy.random.Generator or cupy.random.Generator
        Where the numbers come from; it moves on.
    turns : (4, F) array of int64
        Of `quarter_turns`.

    Returns
    -------
    turned : (N, F) array
        The pictures.
    label : (N,) array of int64
        How many quarter turns to the left each has made, uniform on 0, 1, 2, 3.
    """
    label = integers(rng.integers(0, TURNS, size=x.shape[0]), like=x)
    return changed(x, turns, label), label
