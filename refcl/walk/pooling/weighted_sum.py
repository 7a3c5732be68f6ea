"""s+, s- -> gap: the negatives added up, each with the same weight, above the positive.

In:  ``s_pos`` (N,), ``s_neg`` (N, M), a weight an anchor and the mask ``negatives`` of the entries that count.
Out: ``gap`` (N,) in units of similarity, −s⁺ for a row without negatives.
"""

from typing import NamedTuple

from refcl.core.arguments import Floats
from refcl.core.arrays import Array, constant, namespace
from refcl.core.pair import room


class WeightedSumCache(NamedTuple):
    negatives: Array  # (N, M) which candidates count
    total: Array  # (N,) Σ_k s_k
    weight: Array  # (N,)


def weighted_sum_forward(
    s_pos: Array, s_neg: Array, weight: Array, *, negatives: Array
) -> tuple[Array, WeightedSumCache]:
    r"""Pool the negatives by a weighted sum: every one counts the same, near or far.

    Parameters
    ----------
    s_pos, s_neg : optional
        As in `soft_maximum`.
    weight : (N,) array
        λ of each anchor, dimensionless.
    negatives : optional
        As in `soft_maximum`.

    Returns
    -------
    gap : (N,) array
        :math:`\lambda_i \sum_k s_{ik} - s_{ip}`; without negatives :math:`-s_{ip}`.
    grads : named tuple
        ds_pos, ds_neg, dweight.

    References
    ----------
    Eq. 3 of the paper.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.pooling.weighted_sum import weighted_sum
    >>> every = np.ones((1, 2), dtype=bool)
    >>> gap, grads = weighted_sum(np.array([0.5]), np.array([[0.25, 0.75]]), np.array([0.5]), negatives=every)
    >>> gap, grads.ds_neg
    (array([0.]), array([[0.5, 0.5]]))
    """
    xp = namespace(s_pos)
    total = xp.sum(xp.where(negatives, s_neg, constant(0.0, like=s_neg)), axis=1)  # (N,)
    return weight * total - s_pos, WeightedSumCache(negatives, total, weight)


def weighted_sum_backward(dgap: Array, cache: WeightedSumCache) -> tuple[Array, Array, Array]:
    """Return ds⁺ = −dgap, ds⁻ = λ dgap at every negative and dλ = dgap Σ_k s_k."""
    xp = namespace(dgap)
    each = (dgap * cache.weight)[:, None]  # (N, 1)
    return -dgap, xp.where(cache.negatives, each, constant(0.0, like=dgap)), dgap * cache.total


weighted_sum = room(weighted_sum_forward, weighted_sum_backward, weight=Floats("N"))
