"""s -> s+, s-: which entry is the positive, which are negatives, which are left out.

In:  similarities ``s`` (N, M), the column of each anchor's positive, and what to ignore.
Out: ``s_pos`` (N,), ``s_neg`` (N, M) and, in the cache, the mask of the entries of ``s_neg`` that count.
"""

from typing import NamedTuple

from refcl.core.arrays import Array, arange, namespace, ones
from refcl.core.pair import room


class PairingCache(NamedTuple):
    is_positive: Array  # (N, M) one True a row
    negatives: Array  # (N, M) True where a candidate is a negative


def pairing_forward(
    s: Array, *, positive: Array | None = None, ignore: Array | None = None
) -> tuple[tuple[Array, Array], PairingCache]:
    """Take the positive out of each anchor's candidates.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    positive : (N,) array of integers, optional
        Column of each anchor's positive, in [0, M); by default the diagonal, 0, 1, ..., N − 1, which needs M >= N. Out
        of range it is a ValueError where looking costs nothing (NumPy), and elsewhere s⁺ is NaN.
    ignore : (N, M) array of booleans, optional
        As in `softmax_contrastive`.

    Returns
    -------
    s_pos : (N,) array
        Similarity to the positive.
    s_neg : (N, M) array
        All similarities; those that count are marked in ``cache.negatives``.
    grads : named tuple
        ds.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.pairing import pairing
    >>> s = np.array([[0.9, 0.1, 0.2], [0.3, 0.8, 0.4]])
    >>> (s_pos, s_neg), cache = pairing.forward(s)
    >>> s_pos
    array([0.9, 0.8])
    >>> s_neg[cache.negatives]
    array([0.1, 0.2, 0.3, 0.4])
    """
    xp = namespace(s)
    candidates = s.shape[1]
    column = arange(s.shape[0], like=s) if positive is None else positive  # (N,)
    is_positive = arange(candidates, like=s) == column[:, None]  # (N, M)
    negatives = ~is_positive if ignore is None else ~(is_positive | ignore)  # (N, M)
    s_pos = xp.sum(xp.where(is_positive, s, 0.0), axis=1)  # (N,)
    if positive is not None:  # where the door could not look at it: a column out of range is no number's
        s_pos = xp.where((positive >= 0) & (positive < candidates), s_pos, xp.nan)
    return (s_pos, s), PairingCache(is_positive, negatives)


def pairing_backward(ds_pos: Array, ds_neg: Array, cache: PairingCache) -> Array:
    """Return ds: ds⁺ in the positive's column, ds⁻ at the negatives, 0 where ignored."""
    xp = namespace(ds_pos)
    others = xp.where(cache.negatives, ds_neg, 0.0)  # (N, M)
    return xp.where(cache.is_positive, ds_pos[:, None], others)


def among_first(positive: Array | None, candidates: int) -> Array | None:
    """Return the columns of the positives, and −1, which is out of range, in place of those past the first so many."""
    return None if positive is None else namespace(positive).where(positive < candidates, positive, -1)


def not_ignored(s_neg: Array, ignore: Array | None) -> Array:
    """Return the mask of the negatives where no candidate is a positive: MoCo's queue, the noise of NCE."""
    return ones(s_neg.shape, like=s_neg) > 0 if ignore is None else ~ignore  # (N, M)


pairing = room(pairing_forward, pairing_backward)
