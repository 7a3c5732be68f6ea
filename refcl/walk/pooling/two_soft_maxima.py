"""s+, s- -> gap: the soft maximum of the negatives, or of two groups of them, added.

In:  ``s_pos`` (N,), ``s_neg`` (N, M), the mask ``negatives`` and, where there are two pools, the mask of the second's.
Out: ``gap`` (N,) in nats, 0 for a row with an empty pool.
"""

from typing import NamedTuple

from refcl.core.arrays import Array, constant, namespace
from refcl.walk.pooling.soft_maximum import SoftMaximumCache, soft_maximum_backward, soft_maximum_forward


class TwoSoftMaximaCache(NamedTuple):
    first: SoftMaximumCache
    second: SoftMaximumCache | None  # None where all negatives are in one pool
    occupied: Array  # (N,) False where a pool is empty


def two_soft_maxima_forward(
    s_pos: Array, s_neg: Array, temperature: Array, *, negatives: Array, apart: Array | None
) -> tuple[Array, TwoSoftMaximaCache]:
    """Pool the negatives by their soft maximum, those ``apart`` by one of their own that is added.

    The first pool is measured from the positive, the second, of which the loss has no positive to take, from 0.
    """
    xp = namespace(s_neg)
    in_first = negatives if apart is None else negatives & ~apart  # (N, M)
    gap, first = soft_maximum_forward(s_pos, s_neg, temperature, negatives=in_first)
    occupied, second = first.occupied, None
    if apart is not None:
        from_zero, second = soft_maximum_forward(xp.zeros_like(s_pos), s_neg, temperature, negatives=negatives & apart)
        gap, occupied = gap + from_zero, occupied & second.occupied
    return xp.where(occupied, gap, constant(0.0, like=s_neg)), TwoSoftMaximaCache(first, second, occupied)


def two_soft_maxima_backward(dgap: Array, cache: TwoSoftMaximaCache) -> tuple[Array, Array, Array]:
    """Return ds⁺, ds⁻ and dτ: each pool's own way back; only the first pulls the positive."""
    xp = namespace(dgap)
    dgap = xp.where(cache.occupied, dgap, constant(0.0, like=dgap))
    ds_pos, ds_neg, dtemperature = soft_maximum_backward(dgap, cache.first)
    if cache.second is not None:
        _, ds_second, dtemperature_second = soft_maximum_backward(dgap, cache.second)
        ds_neg, dtemperature = ds_neg + ds_second, dtemperature + dtemperature_second
    return ds_pos, ds_neg, xp.asarray(dtemperature)
