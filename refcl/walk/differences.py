"""Weighted sums of differences of rows, without what cancellation costs.

In:  weights w (N, N), a strip of rows at a time, and rows ``z`` (N, D).  Out: Σ_q w_pq (z_p − z_q) (N, D).
"""

import math
from collections.abc import Iterable, Iterator

from refcl.core.arrays import Array, namespace


def weighted_differences(weights: Iterable[tuple[slice, Array]], z: Array) -> Array:
    """Return Σ_q w_pq (z_p − z_q) (N, D), exact to the length of its terms however near two rows lie.

    Σ_q w_pq z_p less Σ_q w_pq z_q loses what z_p and z_q have in common. So both factors are cut into slices of so few
    digits that the products of two slices and their sums are exact, and so is the difference. Then only small things
    are rounded. It is a handful of matrix products; differences taken one by one would take D passes over (N, N).
    """
    n, d = z.shape
    xp = namespace(z)
    digits = round(1 - math.log2(xp.finfo(z.dtype).eps))  # 53 or 24
    each = max((digits - math.ceil(math.log2(n)) - 2) // 2, 1)  # two factors, N terms, and two to spare
    slices = -(-digits // each)
    cut = xp.concat(list(_cut(z, each, slices, digits, top=xp.max(xp.abs(z)))), axis=1)  # (N, slices D)
    strips = []
    for rows, weight in weights:  # (rows, N)
        total = xp.zeros_like(z[rows, :])
        # One slice more of the weights: it is what remains of those too small to be reached, the large being used up.
        for part in _cut(weight, each, slices + 1, digits, top=xp.max(weight, axis=1, keepdims=True)):
            apart = xp.sum(part, axis=1, keepdims=True) * cut[rows, :] - part @ cut  # (rows, slices D)
            for start in range(0, slices * d, d):  # the largest first: they cancel exactly
                total = total + apart[:, start : start + d]
        strips.append(total)
    return xp.concat(strips, axis=0)


def _cut(x: Array, each: int, slices: int, digits: int, *, top: Array) -> Iterator[Array]:
    """Yield slices that add up to x exactly, the first ones of ``each`` binary digits from those of ``top`` on."""
    unit = top * 2.0 ** (digits - each)
    for _ in range(slices - 1):
        high = (x + unit) - unit  # rounds x to the last place of the larger unit
        yield high
        x = x - high
        unit = unit * 2.0**-each
    yield x
