"""h -> z: each row to length 1.

In:  representations ``h`` (N, D) of any length.
Out: embeddings ``z`` (N, D) on the unit sphere, whose inner products are cosines.
"""

from typing import NamedTuple

from refcl.backend import Array, row_dots
from refcl.pair import Pair
from refcl.validate import floats, setting


class NormalizeCache(NamedTuple):
    z: Array  # (N, D)
    length: Array  # (N, 1) what each row was divided by
    on_sphere: Array  # (N, 1) where the row's own length reached eps, so that z has length 1


def l2_normalize_forward(h: Array, *, eps: float = 1e-12) -> tuple[Array, NormalizeCache]:
    r"""Divide each row by its length, or by ``eps`` where it is shorter.

    Parameters
    ----------
    h : (N, D) array of float32 or float64
        Representations.
    eps : float
        Shortest length to divide by, > 0, as in ``torch.nn.functional.normalize``.

    Returns
    -------
    z : (N, D) array
        :math:`z = h / \max(\lVert h\rVert, \epsilon)`.
    cache : NormalizeCache
        What the backward reads.

    Raises
    ------
    TypeError, ValueError
        Where ``h`` is no floating-point matrix or ``eps`` is not positive.

    Notes
    -----
    A row shorter than ``eps`` is not on the sphere: it is :math:`h/\epsilon`, linear in h, and a zero row stays zero
    with the finite gradient :math:`dz/\epsilon`. Lengths are computed from squares: a row longer than the square root
    of the largest number (1.8e19 in float32, 1.3e154 in float64) comes out as zeros, as in PyTorch, and NumPy warns of
    the overflow.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.sphere import l2_normalize
    >>> z, grads = l2_normalize(np.array([[3.0, 4.0]]))
    >>> z
    array([[0.6, 0.8]])
    """
    xp = floats("l2_normalize", h=(h, "N D"))
    shortest = setting("l2_normalize", "eps", eps, above=0.0)
    norm = xp.sqrt(row_dots(h, h))[:, None]  # (N, 1)
    length = xp.maximum(norm, shortest)  # (N, 1)
    z = h / length  # (N, D)
    return z, NormalizeCache(z, length, norm >= shortest)


def l2_normalize_backward(dz: Array, cache: NormalizeCache) -> Array:
    """Return dh = (dz − z⟨z, dz⟩)/‖h‖, or dz/ε where the row was shorter than ε.

    Moving h along itself does not move z, so the part of dz along z drops out; the rest turns the slower the longer h.
    """
    xp = floats("l2_normalize", dz=(dz, "N D"), z=(cache.z, "N D"))
    along = xp.where(cache.on_sphere, row_dots(cache.z, dz)[:, None], 0.0)  # (N, 1)
    dh = cache.z * -along  # (N, D)
    dh += dz
    dh /= cache.length
    return dh


l2_normalize = Pair(l2_normalize_forward, l2_normalize_backward)
