"""h -> z: each row to length 1.

In:  representations ``h`` (N, D) of any length.
Out: embeddings ``z`` (N, D) on the unit sphere, whose inner products are cosines.
"""

from typing import NamedTuple

from refcl.core.arrays import Array, namespace, row_dots, row_lengths
from refcl.core.pair import room


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
    grads : named tuple
        dh.

    Notes
    -----
    A row shorter than ``eps`` is not on the sphere: it is :math:`h/\epsilon`, linear in h, and a zero row stays zero
    with the finite gradient :math:`dz/\epsilon`. Lengths are computed from squares: a row too long for that
    (1.8e19 in float32, 1.3e154 in float64) is divided by its largest entry first. PyTorch returns zeros for it.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.sphere import l2_normalize
    >>> z, grads = l2_normalize(np.array([[3.0, 4.0]]))
    >>> z
    array([[0.6, 0.8]])
    """
    xp = namespace(h)
    rows, norm, by = row_lengths(h)  # (N, D), (N, 1)
    length = xp.maximum(norm, eps)  # (N, 1)
    z = rows / length  # (N, D)
    return z, NormalizeCache(z, length * by, norm >= eps)


def l2_normalize_backward(dz: Array, cache: NormalizeCache) -> Array:
    """Return dh = (dz − z⟨z, dz⟩)/‖h‖, or dz/ε where the row was shorter than ε.

    Moving h along itself does not move z, so the part of dz along z drops out; the rest turns the slower the longer h.
    """
    xp = namespace(dz)
    along = xp.where(cache.on_sphere, row_dots(cache.z, dz)[:, None], 0.0)  # (N, 1)
    dh = cache.z * -along  # (N, D)
    dh += dz
    dh /= cache.length
    return dh


l2_normalize = room(l2_normalize_forward, l2_normalize_backward)
