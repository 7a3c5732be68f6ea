"""s -> s+, s-: which entry is the positive, which are negatives, which are left out.

In:  similarities ``s`` (N, M), the column of each anchor's positive, and what to ignore.
Out: ``s_pos`` (N,), ``s_neg`` (N, M) and, in the cache, the mask of the entries of ``s_neg`` that count.
"""

from typing import NamedTuple

from refcl.backend import Array, arange, ones
from refcl.pair import Pair
from refcl.validate import companion, floats


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
        Column of each anchor's positive, in [0, M); by default the diagonal, 0, 1, ..., N − 1, which needs M >= N. A
        column out of range is not noticed here: that row then has no positive.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.

    Returns
    -------
    s_pos : (N,) array
        Similarity to the positive.
    s_neg : (N, M) array
        All similarities; those that count are marked in ``cache.negatives``.
    cache : PairingCache
        What the backward reads, and the mask ``negatives`` that the pools ask for.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.pairing import pairing
    >>> s = np.array([[0.9, 0.1, 0.2], [0.3, 0.8, 0.4]])
    >>> (s_pos, s_neg), cache = pairing.forward(s)
    >>> s_pos
    array([0.9, 0.8])
    >>> s_neg[cache.negatives]
    array([0.1, 0.2, 0.3, 0.4])
    """
    xp = floats("pairing", s=(s, "N M"))
    check_roles("pairing", s, s.shape[1], positive=positive, ignore=ignore)
    if positive is None:
        positive = arange(s.shape[0], like=s)
    is_positive = arange(s.shape[1], like=s) == positive[:, None]  # (N, M)
    negatives = ~is_positive if ignore is None else ~(is_positive | ignore)  # (N, M)
    s_pos = xp.sum(xp.where(is_positive, s, 0.0), axis=1)  # (N,)
    return (s_pos, s), PairingCache(is_positive, negatives)


def pairing_backward(ds_pos: Array, ds_neg: Array, cache: PairingCache) -> Array:
    """Return ds: ds⁺ in the positive's column, ds⁻ at the negatives, 0 where ignored."""
    xp = floats("pairing", ds_pos=(ds_pos, "N"), ds_neg=(ds_neg, "N M"))
    others = xp.where(cache.negatives, ds_neg, 0.0)  # (N, M)
    return xp.where(cache.is_positive, ds_pos[:, None], others)


def check_roles(name: str, like: Array, candidates: int, *, positive: Array | None, ignore: Array | None) -> None:
    """Check ``positive`` and ``ignore`` for the N rows of ``like`` and ``candidates`` columns."""
    anchors = like.shape[0]
    if positive is None:
        if candidates < anchors:
            raise ValueError(
                f"{name}: {anchors} anchors need at least as many candidates for positives on the diagonal; "
                f"got {candidates}. Pass positive=(N,) columns."
            )
    else:
        companion(name, "positive", positive, kind="integer", shape=(anchors,), like=like)
    if ignore is not None:
        companion(name, "ignore", ignore, kind="boolean", shape=(anchors, candidates), like=like)


def all_but_ignored(name: str, s_neg: Array, ignore: Array | None) -> Array:
    """Return the mask of the negatives where no candidate is a positive: MoCo's queue, the noise of NCE."""
    if ignore is None:
        return ones(s_neg.shape, like=s_neg) > 0  # (N, M)
    return ~companion(name, "ignore", ignore, kind="boolean", shape=s_neg.shape, like=s_neg)


pairing = Pair(pairing_forward, pairing_backward)
