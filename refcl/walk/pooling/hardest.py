"""s- -> mask: the negatives narrowed to those nearest to the anchor, before they are pooled.

In:  ``s_neg`` (N, M) and the mask ``negatives`` of the entries that count.
Out: the mask of those that are kept; a constant, through which no gradient flows.
"""

from functools import lru_cache

from refcl.core.arrays import AnyArray, Array, Namespace, constant, integers, namespace
from refcl.core.pair import checked


@checked()
def hardest_negatives(s_neg: AnyArray, negatives: AnyArray, *, hardest: float | int) -> Array:
    r"""Narrow the negatives to those nearest to the anchor.

    Parameters
    ----------
    s_neg : (N, M) array of float32 or float64
        Similarity to the candidates.
    negatives : optional
        As in `soft_maximum`.
    hardest : float or int
        A float α in (0, 1] keeps that fraction of each row's K negatives, max(1, round(α K)) of them; an int keeps that
        many, or all where a row has fewer.

    Returns
    -------
    kept : (N, M) array of booleans
        Negatives at or above the row's threshold :math:`s_\alpha`. Ties at the threshold are all kept.

    Notes
    -----
    The threshold is a constant: no gradient flows through which negatives are kept. "Upper α quantile" in the paper
    means that a fraction α is kept.

    References
    ----------
    Section 3.3 of the paper, Eq. 8 and 9.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.pooling.hardest import hardest_negatives
    >>> every = np.ones((1, 4), dtype=bool)
    >>> hardest_negatives(np.array([[0.1, 0.4, 0.3, 0.2]]), every, hardest=0.5)
    array([[False,  True,  True, False]])
    """
    return hardest_mask(s_neg, negatives, hardest=hardest)


def hardest_mask(s_neg: Array, negatives: Array, *, hardest: float | int) -> Array:
    """Return the mask of the hardest negatives, for who has asked already."""
    xp = namespace(s_neg)
    candidates = s_neg.shape[1]
    # The standard has no partition and no order statistic: sort each row upwards and read its threshold.
    ascending = xp.sort(xp.where(negatives, s_neg, constant(-xp.inf, like=s_neg)), axis=1)  # (N, M)
    keep = _how_many(xp, hardest, negatives)  # (N,) at least 1, at most M
    threshold = xp.take_along_axis(ascending, (candidates - keep)[:, None], axis=1)  # (N, 1)
    return negatives & ~(s_neg < threshold)  # NaN is kept: what it was is not known


def _how_many(xp: Namespace, hardest: float | int, negatives: Array) -> Array:
    table = integers(_kept_of(hardest, negatives.shape[1]), like=negatives)  # (M + 1,)
    return xp.take(table, xp.count_nonzero(negatives, axis=1))  # (N,)


@lru_cache(maxsize=16, typed=True)  # 1 is a count, 1.0 is all of them
def _kept_of(hardest: float | int, candidates: int) -> tuple[int, ...]:
    """Return how many negatives are kept of K, for K = 0, 1, ..., M.

    Rounded by Python, so that every library and either precision keeps the same negatives.
    """
    if isinstance(hardest, int):
        return (min(hardest, candidates),) * (candidates + 1)
    return tuple(max(1, round(hardest * k)) for k in range(candidates + 1))
