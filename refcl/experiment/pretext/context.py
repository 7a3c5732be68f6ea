"""Where does the second patch lie? Two neighbouring patches are cut out of each picture, and each is seen by itself.

In:  pictures.  Out: first and second patches, brought to the size of a picture, and in which of eight directions the
second lay from the first as their label.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refcl.core.arrays import Array, integers, namespace
from refcl.experiment.errors import StudyError
from refcl.experiment.pretext.pictures import Picture, Table, changed, with_channels

DIRECTIONS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]  # down and right, in cells
FEWEST_PIXELS = 2  # across a patch
NINE_CELLS_FROM = 12  # pixels across the picture
PICTURE_PER_GAP = 16  # pixels across the picture for each pixel between two cells


class Pairs(NamedTuple):
    """All pairs of neighbouring cells, those of one direction together."""

    patches: Table  # (cells, F) a patch as large as the picture
    first: NDArray[np.int64]  # (pairs,) cells
    second: NDArray[np.int64]  # (pairs,) cells
    start: NDArray[np.int64]  # (8,) the first pair of each direction
    number: NDArray[np.int64]  # (8,) how many pairs lie in that direction
    multiple: int  # the least common one of these numbers


def pairs_of(picture: Picture) -> Pairs:
    """Return the pairs of patches that a picture has room for.

    Parameters
    ----------
    picture : Picture
        At least 4 x 4.

    Returns
    -------
    Pairs
        Of a grid of 2 x 2 cells, or of 3 x 3 from twelve pixels on.

    Raises
    ------
    StudyError
        Where the picture is too small.

    Notes
    -----
    Between two cells lie a sixteenth of the picture's pixels, rounded down, so that a line that goes on across a border
    does not tell the answer; a picture of fewer than sixteen has none to spare. A patch is brought to the size of the
    picture by repeating pixels: pixel (i, j) is pixel (⌊i h / H⌋, ⌊j w / W⌋) of a patch of h x w.

    Examples
    --------
    >>> from refcl.experiment.pretext.context import pairs_of
    >>> from refcl.experiment.pretext.pictures import Picture
    >>> pairs = pairs_of(Picture(4, 4))
    >>> pairs.patches[1].reshape(4, 4)
    array([[2, 2, 3, 3],
           [2, 2, 3, 3],
           [6, 6, 7, 7],
           [6, 6, 7, 7]])
    >>> pairs.number
    array([1, 2, 1, 2, 2, 1, 2, 1])
    """
    side = min(picture.height, picture.width)
    if side < 2 * FEWEST_PIXELS:
        raise StudyError(
            f"context needs pictures of at least {2 * FEWEST_PIXELS} x {2 * FEWEST_PIXELS} pixels, and these are "
            f"{picture.height} x {picture.width}; give another loss."
        )
    across = 3 if side >= NINE_CELLS_FROM else 2
    cells = [(row, column) for row in range(across) for column in range(across)]
    found = [
        (direction, first, cells.index((row + down, column + right)))
        for direction, (down, right) in enumerate(DIRECTIONS)
        for first, (row, column) in enumerate(cells)
        if (row + down, column + right) in cells
    ]
    direction, first, second = np.array(found, dtype=np.int64).T
    number = np.bincount(direction, minlength=len(DIRECTIONS))
    patches, multiple = _patches(picture, across), math.lcm(*number.tolist())
    return Pairs(patches, first, second, np.cumsum(number) - number, number, multiple)


def _patches(picture: Picture, across: int) -> Table:
    """Return where each pixel of each enlarged patch comes from, (cells, F)."""
    rows, columns = (_stretches(size, across) for size in (picture.height, picture.width))  # (across, H), (across, W)
    pixels = rows[:, None, :, None] * picture.width + columns[None, :, None, :]  # (across, across, H, W)
    return with_channels(pixels.reshape(across * across, -1), picture.channels)


def _stretches(size: int, across: int) -> NDArray[np.int64]:
    """Return for each cell along one side where its pixels come from once it is as long as the whole side."""
    gap = size // PICTURE_PER_GAP
    length = (size - gap * (across - 1)) // across
    return np.arange(across)[:, None] * (length + gap) + np.arange(size) * length // size


def cut(x: Array, rng: np.random.Generator, *, pairs: Pairs) -> tuple[Array, Array]:
    """Cut two neighbouring patches out of each picture.

    Parameters
    ----------
    x : (N, F) array of float32 or float64
        A picture a row.
    rng : numpy.random.Generator or cupy.random.Generator
        Where the numbers come from; it moves on.
    pairs : Pairs
        Of `pairs_of`.

    Returns
    -------
    patches : (2N, F) array
        All first patches, then all second ones.
    label : (N,) array of int64
        The number of each pair's direction, uniform on eight; among the pairs of a direction each is as likely.
    """
    xp, size = namespace(x), x.shape[0]
    first, second, start, number = (integers(each, like=x) for each in pairs[1:5])
    label, draw = (integers(rng.integers(0, n, size=size), like=x) for n in (len(DIRECTIONS), pairs.multiple))
    pair = xp.take(start, label) + draw % xp.take(number, label)  # even, as every number divides the multiple
    both = [changed(x, pairs.patches, xp.take(cells, pair)) for cells in (first, second)]
    return xp.concat(both, axis=0), label
