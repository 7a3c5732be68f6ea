"""a, b -> s: two views stacked, so that every row of both is an anchor and a candidate.

In:  two views ``a`` and ``b`` (N, D), row i of one the positive of row i of the other.
Out: similarities ``s`` (2N, 2N), a's rows before b's, and who is whose positive, who is left out, who is of which view.
"""

from typing import Any, NamedTuple

from refcl import validate
from refcl.backend import Array, arange, namespace
from refcl.losses.on_embeddings import CompareCache, compare_backward, compare_forward
from refcl.pairing import check_roles


class Roles(NamedTuple):
    positive: Array  # (rows,) row of the other view
    ignore: Array  # (rows, 2N) an anchor itself, and what the caller leaves out
    own_view: Array  # (rows, 2N) where anchor and candidate are of one view


def stack_forward(
    a: Array, b: Array, *, ignore: Array | None, normalize: bool, eps: float
) -> tuple[tuple[Array, Roles], CompareCache]:
    """Walk from two views to the similarities of their stacked rows, and say which row plays which part."""
    z = namespace(a).concat((a, b), axis=0)  # (2N, D)
    s, compared = compare_forward(z, z, normalize=normalize, eps=eps)
    return (s, roles_of(z, slice(0, z.shape[0]), ignore=ignore)), compared


def roles_of(z: Array, anchors: slice, *, ignore: Array | None) -> Roles:
    """Return the parts that all stacked rows play for some of them as anchors."""
    both = z.shape[0]
    row = arange(both, like=z)  # (2N,)
    anchor = row[anchors]  # (rows,)
    n = both // 2
    itself = anchor[:, None] == row[None, :]  # (rows, 2N)
    left_out = itself if ignore is None else itself | ignore[anchors, :]
    return Roles((anchor + n) % both, left_out, anchor[:, None] // n == row[None, :] // n)


def stack_backward(ds: Array, cache: CompareCache) -> tuple[Array, Array]:
    """Return da and db: each row receives as an anchor and as everyone else's candidate."""
    as_anchor, as_candidate = compare_backward(ds, cache)  # (2N, D)
    dz = as_anchor + as_candidate  # (2N, D)
    n = dz.shape[0] // 2
    return dz[:n, :], dz[n:, :]


def check_views(
    name: str, a: Array, b: Array, temperature: Any, *, ignore: Array | None, reduction: str, eps: float
) -> Array:
    """Check what every loss of two views takes, and return τ."""
    validate.floats(name, a=(a, "N D"), b=(b, "N D"))
    rows = 2 * a.shape[0]
    if ignore is not None:
        validate.companion(name, "ignore", ignore, kind="boolean", shape=(rows, rows), like=a)
    validate.reduction(name, reduction)
    validate.setting(name, "eps", eps, above=0.0)
    return validate.scalar(name, "temperature", temperature, like=a, positive=True)


def check_similarities(
    name: str, s: Array, temperature: Any, *, positive: Array | None, ignore: Array | None, reduction: str
) -> Array:
    """Check what every loss of similarities takes, and return τ."""
    validate.floats(name, s=(s, "N M"))
    check_roles(name, s, s.shape[1], positive=positive, ignore=ignore)
    validate.reduction(name, reduction)
    return validate.scalar(name, "temperature", temperature, like=s, positive=True)
