"""s+, s- -> gap: the nearest negative alone, above the positive.

In:  ``s_pos`` (N,), ``s_neg`` (N, M) and the mask ``negatives`` of the entries that count.
Out: ``gap`` (N,) in units of similarity, −inf for a row without negatives.
"""

from typing import NamedTuple

from refcl.core.arrays import Array, constant, namespace
from refcl.core.pair import room


class MaximumCache(NamedTuple):
    share: Array  # (N, M) 1 at the greatest negative, 1/t at each of t tied ones, 0 elsewhere
    occupied: Array  # (N,) False where a row has no negatives


def maximum_forward(s_pos: Array, s_neg: Array, *, negatives: Array, margin: float = 0.0) -> tuple[Array, MaximumCache]:
    r"""Pool the negatives by the nearest one, plus a margin.

    Parameters
    ----------
    s_pos, s_neg, negatives : optional
        As in `soft_maximum`.
    margin : float
        Added to the gap, in units of similarity, >= 0.

    Returns
    -------
    gap : (N,) array
        :math:`\max_k s_{ik} - s_{ip} + margin`; −inf without negatives.
    grads : named tuple
        ds_pos, ds_neg.

    Notes
    -----
    Where several negatives tie for the nearest, the maximum has a kink; its gradient is shared among them equally.
    It is what τ times the soft maximum tends to as τ → 0⁺ (Eq. 6).

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.pooling.maximum import maximum
    >>> every = np.ones((1, 3), dtype=bool)
    >>> gap, grads = maximum(np.array([0.5]), np.array([[0.75, 0.75, 0.1]]), negatives=every)
    >>> gap, grads.ds_neg
    (array([0.25]), array([[0.5, 0.5, 0. ]]))
    """
    xp = namespace(s_pos)
    zero, one, nothing = constant(0.0, like=s_neg), constant(1.0, like=s_neg), constant(-xp.inf, like=s_neg)
    top = xp.max(xp.where(negatives, s_neg, nothing), axis=1)  # (N,)
    is_top = xp.where(negatives & (s_neg == top[:, None]), one, zero)  # (N, M)
    ties = xp.maximum(xp.sum(is_top, axis=1), one)  # (N,)
    return top - s_pos + margin, MaximumCache(is_top / ties[:, None], xp.any(negatives, axis=1))


def maximum_backward(dgap: Array, cache: MaximumCache) -> tuple[Array, Array]:
    """Return ds⁺ = −dgap and ds⁻ = dgap at the nearest negative, shared equally among ties."""
    xp = namespace(dgap)
    dgap = xp.where(cache.occupied, dgap, constant(0.0, like=dgap))
    return -dgap, dgap[:, None] * cache.share


maximum = room(maximum_forward, maximum_backward)
