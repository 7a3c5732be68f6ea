"""a, b -> s: two views stacked, so that every row of both is an anchor and a candidate.

In:  two views ``a`` and ``b`` (N, D), row i of one the positive of row i of the other.
Out: similarities ``s`` (2N, 2N), a's rows before b's, and who is whose positive, who is left out, who is of which view.
"""

from typing import NamedTuple

from refcl.core.arrays import Array, arange, namespace
from refcl.walk.similarity import CosineSimilarityCache, cosine_similarity_backward, cosine_similarity_forward


class Roles(NamedTuple):
    positive: Array  # (rows,) the same sample's row of the other view
    ignore: Array  # (rows, 2N) an anchor itself, and what the caller leaves out
    own_view: Array  # (rows, 2N) where anchor and candidate are of one view


def roles_of(z: Array, anchors: slice, *, ignore: Array | None) -> Roles:
    """Return what all stacked rows are to some of them, the anchors."""
    candidate = arange(z.shape[0], like=z)  # (2N,)
    anchor = candidate[anchors]  # (rows,)
    n = z.shape[0] // 2
    itself = anchor[:, None] == candidate[None, :]  # (rows, 2N)
    left_out = itself if ignore is None else itself | ignore[anchors, :]  # (rows, 2N)
    own_view = anchor[:, None] // n == candidate[None, :] // n  # (rows, 2N)
    return Roles((anchor + n) % (2 * n), left_out, own_view)


def two_view_similarity_forward(
    a: Array, b: Array, *, ignore: Array | None, normalize: bool, eps: float
) -> tuple[tuple[Array, Roles], CosineSimilarityCache]:
    """Walk from two views to the similarities of their stacked rows, and say what each row is to each."""
    z = namespace(a).concat((a, b), axis=0)  # (2N, D)
    s, compared = cosine_similarity_forward(z, z, normalize=normalize, eps=eps)
    return (s, roles_of(z, slice(0, z.shape[0]), ignore=ignore)), compared


def two_view_similarity_backward(ds: Array, cache: CosineSimilarityCache) -> tuple[Array, Array]:
    """Return da and db: each row receives as an anchor and as everyone else's candidate."""
    as_anchor, as_candidate = cosine_similarity_backward(ds, cache)  # (2N, D)
    dz = as_anchor + as_candidate  # (2N, D)
    n = dz.shape[0] // 2
    return dz[:n, :], dz[n:, :]
