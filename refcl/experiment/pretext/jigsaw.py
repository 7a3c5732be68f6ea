"""How were the pieces shuffled? Each picture is cut into a grid of tiles, and these are laid in another order.

In:  pictures.  Out: shuffled pictures, and the number of the permutation as their label.
Four tiles have 24 orders, and all of them are asked for. Nine have 362880; of these, 72 are, any two of which agree in
one tile at most.
"""

from itertools import permutations

import numpy as np

from refcl.core.arrays import Array, integers
from refcl.experiment.errors import StudyError
from refcl.experiment.pretext.pictures import Picture, Table, changed, with_channels

FEWEST_PIXELS = 2  # across a tile: of a single pixel no edge is left to fit
NINE_TILES_FROM = 12  # pixels across the picture: tiles of four
FIELD = [(a, b) for a in range(3) for b in range(3)]  # GF(9) as a + b i with i² = −1, number 3 a + b


def tiles_across(picture: Picture) -> int:
    """Return how many tiles a picture has room for, across and down: two, or three from twelve pixels on.

    Raises
    ------
    StudyError
        Where a tile would be of one pixel.
    """
    side = min(picture.height, picture.width)
    if side < 2 * FEWEST_PIXELS:
        raise StudyError(
            f"jigsaw needs pictures of at least {2 * FEWEST_PIXELS} x {2 * FEWEST_PIXELS} pixels, and these are "
            f"{picture.height} x {picture.width}; give another loss."
        )
    return 3 if side >= NINE_TILES_FROM else 2


def orders(across: int) -> Table:
    """Return the orders that the tiles of a grid are laid in.

    Parameters
    ----------
    across : int
        2 or 3.

    Returns
    -------
    (24, 4) or (72, 9) array of int64
        Row o says which tile lies at each place. The first is the order that the picture came in.

    Notes
    -----
    The 72 are the maps x -> u x + v with u ≠ 0 of the field of nine elements. Two different ones agree where
    (u − u') x = v' − v, in one x at most: eight of nine tiles differ, and no set of more than 9 · 8 orders has that.
    Noroozi and Favaro search for a set of large distances instead.

    Examples
    --------
    >>> from refcl.experiment.pretext.jigsaw import orders
    >>> orders(2)[:3]
    array([[0, 1, 2, 3],
           [0, 1, 3, 2],
           [0, 2, 1, 3]])
    """
    if across == 2:
        return np.array(list(permutations(range(4))), dtype=np.int64)
    maps = [(u, v) for u in FIELD[1:] for v in FIELD]
    maps.sort(key=lambda map_: map_ != ((1, 0), (0, 0)))  # what changes nothing comes first
    return np.array([[_image(u, v, x) for x in FIELD] for u, v in maps], dtype=np.int64)


def _image(u: tuple[int, int], v: tuple[int, int], x: tuple[int, int]) -> int:
    """Return the number of u x + v in GF(9)."""
    real = (u[0] * x[0] - u[1] * x[1] + v[0]) % 3
    imaginary = (u[0] * x[1] + u[1] * x[0] + v[1]) % 3
    return 3 * real + imaginary


def shuffles(picture: Picture) -> Table:
    """Return where each pixel comes from after each of the orders.

    Parameters
    ----------
    picture : Picture
        At least 4 x 4.

    Returns
    -------
    (24 or 72, F) array of int64
        Pixels that the grid leaves over at the bottom and on the right stay where they are.

    Raises
    ------
    StudyError
        Where the picture is too small.

    Examples
    --------
    >>> from refcl.experiment.pretext.jigsaw import shuffles
    >>> from refcl.experiment.pretext.pictures import Picture
    >>> shuffles(Picture(4, 4))[1].reshape(4, 4)  # the lower two tiles have changed places
    array([[ 0,  1,  2,  3],
           [ 4,  5,  6,  7],
           [10, 11,  8,  9],
           [14, 15, 12, 13]])
    """
    height, width, channels = picture
    across = tiles_across(picture)
    down, right = height // across, width // across  # of a tile
    corners = [(row * down, column * right) for row in range(across) for column in range(across)]
    order = orders(across)
    pixels = np.arange(height * width, dtype=np.int64).reshape(height, width)
    table = np.tile(pixels, (order.shape[0], 1, 1))  # (orders, H, W)
    for shuffled, tiles in zip(table, order, strict=True):
        for (row, column), tile in zip(corners, tiles, strict=True):
            from_row, from_column = corners[tile]
            piece = pixels[from_row : from_row + down, from_column : from_column + right]
            shuffled[row : row + down, column : column + right] = piece
    return with_channels(table.reshape(order.shape[0], -1), channels)


def shuffle(x: Array, rng: np.random.Generator, *, table: Array) -> tuple[Array, Array]:
    """Lay the tiles of each picture in a random order.

    Parameters
    ----------
    x : (N, F) array of float32 or float64
        A picture a row.
    rng : numpy.random.Generator or cupy.random.Generator
        Where the numbers come from; it moves on.
    table : (orders, F) array of int64
        Of `shuffles`.

    Returns
    -------
    shuffled : (N, F) array
        The pictures.
    label : (N,) array of int64
        The number of each one's order, uniform.
    """
    label = integers(rng.integers(0, table.shape[0], size=x.shape[0]), like=x)
    return changed(x, table, label), label
