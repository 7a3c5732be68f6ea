"""z, z' -> d: how far each row of one set is from the same row of another.

In:  two sets of rows (N, D), pair by pair.
Out: distances ``d`` (N,): of the rows as they are, squared or not, or of their directions alone.
"""

from typing import Literal, NamedTuple, TypeAlias

from refcl.core.arguments import choice
from refcl.core.arrays import Array, constant, namespace, row_dots
from refcl.core.pair import room
from refcl.walk.sphere import NormalizeCache, l2_normalize_backward, l2_normalize_forward

Distance: TypeAlias = Literal["euclidean", "squared", "cosine"]
a_distance = choice("euclidean", "squared", "cosine")


class RowDistanceCache(NamedTuple):
    difference: Array  # (N, D) z − z', of the directions where the distance is the cosine's
    length: Array | None  # (N,) the euclidean distance; None for the others
    spheres: tuple[NormalizeCache, NormalizeCache] | None  # None where rows were taken as they are


def row_distance_forward(z: Array, other: Array, *, distance: str = "euclidean") -> tuple[Array, RowDistanceCache]:
    r"""Return the distance of each row of one set from the same row of the other.

    Parameters
    ----------
    z, other : (N, D) array of float32 or float64
        Rows, pair by pair.
    distance : str
        "euclidean", the length of the difference; "squared", the square of it; "cosine", 1 less the cosine.

    Returns
    -------
    d : (N,) array
        :math:`\lVert z - z'\rVert`, :math:`\lVert z - z'\rVert^2` or :math:`1 - \cos(z, z')` in [0, 2].
    grads : named tuple
        dz, dother.

    Notes
    -----
    1 less a cosine near 1 would lose the digits of what is left. With directions u, v it is
    :math:`\tfrac12\lVert u - v\rVert^2`, in which near numbers are subtracted before anything is squared. A row shorter
    than 1e-12 has no direction, and is taken as in `sphere.l2_normalize`: a zero row is at distance 1 from all.

    The euclidean distance has a tip where two rows coincide. The gradient there is 0, the mean of all its slopes; the
    other two are smooth. It is divided by its largest entry before it is squared, so that it neither overflows nor
    vanishes where its square would: above 1e154 or below 1e-162 (1e19 and 1e-23 in float32).

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.distance import row_distance
    >>> z, other = np.array([[3.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 4.0], [1.0, 1.0]])
    >>> d, grads = row_distance(z, other)
    >>> d, grads.dz
    (array([5., 0.]), array([[ 0.6, -0.8],
           [ 0. ,  0. ]]))
    >>> row_distance(z, other, distance="cosine")[0]
    array([1., 0.])
    """
    xp = namespace(z)
    if distance != "cosine":
        difference = z - other  # (N, D)
        if distance == "squared":
            return xp.sum(difference**2, axis=1), RowDistanceCache(difference, None, None)
        largest = xp.max(xp.abs(difference), axis=1)  # (N,)
        by = xp.where((largest > 0) & (largest < xp.inf), largest, constant(1.0, like=z))  # (N,)
        length = by * xp.sqrt(xp.sum((difference / by[:, None]) ** 2, axis=1))  # (N,)
        return length, RowDistanceCache(difference, length, None)
    u, on_sphere = l2_normalize_forward(z)
    v, other_on_sphere = l2_normalize_forward(other)
    spheres = on_sphere, other_on_sphere
    twice = row_dots(u - v, u - v)  # (N,)
    for sphere in spheres:  # 1 − ‖u‖², which is rounding and no more where the row has a direction
        twice = twice + xp.where(sphere.on_sphere[:, 0], constant(0.0, like=z), 1 - row_dots(sphere.z, sphere.z))
    return twice / 2, RowDistanceCache(u - v, None, spheres)


def row_distance_backward(dd: Array, cache: RowDistanceCache) -> tuple[Array, Array]:
    """Return dz and dz' = −dz: dd (z − z')/d, or 2 dd (z − z'); of directions u, v: dd (u − v), off the sphere.

    ∂(1 − ⟨u, v⟩)/∂u is −v, and u − v differs from it along u only, which the sphere drops: it keeps more digits.
    """
    xp = namespace(dd)
    difference, length, spheres = cache
    if spheres is not None:
        moved = []
        for sphere, ahead, target in ((spheres[0], difference, spheres[1].z), (spheres[1], -difference, spheres[0].z)):
            dunit = dd[:, None] * xp.where(sphere.on_sphere, ahead, -target)  # (N, D)
            moved.append(l2_normalize_backward(dunit, sphere))
        return moved[0], moved[1]
    if length is None:
        dz = (2 * dd)[:, None] * difference
        return dz, -dz
    apart = xp.where(length == 0, constant(1.0, like=dd), length)  # (N,) where two coincide the difference is 0 itself
    dz = dd[:, None] * (difference / apart[:, None])  # (N, D)
    return dz, -dz


row_distance = room(row_distance_forward, row_distance_backward, other="N D", distance=a_distance)
