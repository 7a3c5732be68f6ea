"""How the work is cut: when strips pay, how many rows a strip has and how many columns a tile.

In:  sizes, dtype, library and temperature.  Out: numbers of the host, the same for the same input.
"""

import math
from contextlib import nullcontext
from functools import cache
from typing import Any

import numpy as np

from refcl.core.arrays import Array, Namespace, column_sums, namespace, row_dots

SOFTMAX_FROM = 1 << 14  # similarities from which strips are faster than the dense walk
ROOMS_FROM = 1 << 20  # from which the dense rooms no longer work in the cores' caches
ROWS = 1024  # a strip's rows: enough for its last product to be worth adding to the sum of all strips
SHARES = 4  # for each of several workers to draw, at most
SHARE_ROWS = 512  # of a share, at least
TILE_ENTRIES = 1 << 20  # of all workers' tiles together: product, exponential and pooling happen in a cache they share
SIDE = 512  # of a square tile, where two passes share its work between the rows on both its sides
STRIP_BYTES = 1 << 26  # of all workers' strips together: 64 MiB
KEPT_BYTES = 1 << 26  # two-sided losses keep their tiles for the second pass where all of them fit
DEVICE_BYTES = 1 << 28  # of the one strip on a GPU: long kernels keep it busy
CROWDED = 0.5  # of the mean square of rows, what their mean has where they count as crowded
SPHERE_ROWS = 4096  # that go through the sphere's backward at once
ROOM_ENTRIES = 1 << 19  # of a strip that the dense rooms walk, with a dozen arrays of its size


SOFTMAX = ("info_nce", "inst_disc", "nt_xent", "clip")  # the losses that have strips of their own


def faster(loss: str, sizes: dict[str, int]) -> bool:
    """Return whether strips are faster than the dense walk for a loss of so many anchors (N) and candidates (M)."""
    rows, candidates = sizes["N"], sizes.get("M", sizes["N"])
    if loss == "nt_xent":
        rows, candidates = 2 * rows, 2 * rows
    return rows * candidates >= (SOFTMAX_FROM if loss in SOFTMAX else ROOMS_FROM)


def on_host(like: Array) -> bool:
    """Return whether an array of NumPy or CuPy lives where indices can be looked at without waiting."""
    return isinstance(like, np.ndarray)


def strip_rows(tile: int | None, like: Array, candidates: int, workers: int) -> int:
    """Return the rows of a strip of similarities to all candidates."""
    anchors = like.shape[0]
    if tile is None:
        size = like.dtype.itemsize
        if on_host(like):
            tile = min(ROWS, STRIP_BYTES // (workers * candidates * size))
        else:
            tile = DEVICE_BYTES // (candidates * size)
        tile = min(tile, -(-anchors // workers))
    return int(max(1, min(tile, anchors)))


def tile_columns(like: Array, candidates: int, rows: int, workers: int) -> int:
    """Return the columns of a tile of a strip: all of them on a GPU, whose kernels want no cutting."""
    return min(max(1, TILE_ENTRIES // (workers * rows)), candidates) if on_host(like) else candidates


def tile_side(tile: int | None, like: Array) -> int:
    """Return the side of a square tile of similarities of all rows to all rows."""
    anchors = like.shape[0]
    if tile is None:  # on the host several for each worker
        tile = min(SIDE, max(256, anchors // 4)) if on_host(like) else math.isqrt(DEVICE_BYTES // like.dtype.itemsize)
    return int(max(1, min(tile, anchors)))


def shares(n: int, workers: int) -> list[tuple[int, int]]:
    """Cut 0, ..., n - 1 into shares to be drawn by the workers: first and last + 1 of each, none of them empty.

    Several a worker, so that a slower core draws fewer; but not so small that adding up their parts would cost more.
    """
    number = 1 if workers == 1 else max(min(n // SHARE_ROWS, SHARES * workers), min(workers, n))
    return [(n * i // number, n * (i + 1) // number) for i in range(number)]


def spans(first: int, last: int, step: int) -> list[slice]:
    """Cut first, ..., last - 1 into slices of ``step``."""
    return [slice(start, min(start + step, last)) for start in range(first, last, step)]


def reach(z: Array, other: Array, normalize: bool) -> float:
    """Return what no similarity is further from 0 than: 1 on the sphere, the longest rows' product off it.

    Infinity where looking at the rows would make a GPU wait.
    """
    if normalize:
        return 1.0
    if not on_host(z):
        return math.inf
    with np.errstate(over="ignore"):  # of rows that are too long to be squared
        return math.sqrt(float(row_dots(z, z).max())) * math.sqrt(float(row_dots(other, other).max()))


def mean_of_crowd(rows: Array, normalize: bool) -> Array | None:
    """Return the mean row (D,) where most of each row is that mean, else None.

    What counts in a row of S is differences, and of candidates that all point one way these are what their mean leaves.
    Without it no digit of them is lost. On a GPU, where looking would make it wait, every mean is returned.
    """
    xp = namespace(rows)
    with nullcontext() if normalize else np.errstate(over="ignore", invalid="ignore"):  # rows too long to be squared
        mean = column_sums(rows) / rows.shape[0]
        if on_host(rows):
            square = 1.0 if normalize else float(xp.mean(row_dots(rows, rows)))
            if not float(mean @ mean) > CROWDED * square:
                return None
    return mean


def needs_no_shift(like: Array, temperature: Any, reach: float) -> bool:
    """Return whether exp(s/τ), their sums and the reciprocals of those are all far from over- and underflow.

    Elsewhere each row's maximum is taken out first. What a temperature on a device holds is not looked at.
    """
    if not on_host(like):
        return False
    # σ/Z⁻ is as small as exp(−reach/τ) over the number of candidates; the rest is room for that and the upstream.
    return float(temperature) * 0.45 * _largest_exponent(namespace(like), like.dtype) > reach


@cache
def _largest_exponent(xp: Namespace, dtype: Any) -> float:
    return math.log(float(xp.finfo(dtype).max))


def room_rows(tile: int | None, like: Array, candidates: int) -> int:
    """Return the rows of a strip for the dense rooms to walk, which make a dozen arrays of its size."""
    if tile is None:
        tile = (ROOM_ENTRIES if on_host(like) else 16 * ROOM_ENTRIES) // candidates
    return int(max(1, min(tile, like.shape[0])))
