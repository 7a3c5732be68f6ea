"""z, z' -> loss_i: any loss on similarities a strip of anchors at a time, through the walk's own rooms.

In:  embeddings ``z`` (N, D) and ``other`` (M, D), and how a strip of similarities is walked.
Out: the loss (N,) and, where asked for, dz, dother and the gradients of the loss's parameters.
Every row of S is walked by itself, so a strip of rows can be walked by itself.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from refcl.core.arrays import Array, arange, namespace
from refcl.strips import layout
from refcl.strips.workers import Total, at_once, workers_for


class RowWalk(NamedTuple):
    forward: Callable[[Array, slice], tuple[Array, Any]]  # s (rows, M) of some anchors -> loss (rows,), cache
    backward: Callable[[Array, Any], tuple[Array, ...]]  # dloss (rows,), cache -> ds (rows, M), a () each parameter


def row_walk(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    *parameters: Array | None,
    positive: Array | None,
    ignore: Array | None,
    **settings: Any,
) -> RowWalk:
    """Return how a loss on similarities walks the anchors of a strip."""

    def forward_strip(s: Array, anchors: slice) -> tuple[Array, Any]:
        its_own = arange(anchors.stop, like=s)[anchors] if positive is None else positive[anchors]
        left_out = None if ignore is None else ignore[anchors]
        loss, cache = forward(s, *parameters, positive=its_own, ignore=left_out, reduction="none", **settings)
        return loss, cache

    return RowWalk(forward_strip, backward)


class Task(NamedTuple):
    z: Array  # (N, D)
    other: Array  # (M, D)
    walk: RowWalk
    rows: int
    dloss: Array | None  # (N,) None where no gradient is wanted
    loss: Array  # (N,) written
    dz: Array  # (N, D) written; None where no gradient is wanted


Part = tuple[Array, tuple[Array, ...]]  # what some anchors add to dother (M, D) and to the parameters' gradients


def room_strips(
    z: Array, other: Array, walk: RowWalk, *, tile: int | None, dloss: Array | None
) -> tuple[Array, tuple[Array, ...] | None]:
    """Return the loss of each anchor and, unless ``dloss`` is None, dz (N, D), dother (M, D) and a () a parameter."""
    xp = namespace(z)
    n, m = z.shape[0], other.shape[0]
    total = Total()
    with workers_for(z, n * m) as workers:
        task = Task(
            z,
            other,
            walk,
            layout.room_rows(tile, z, m),
            dloss,
            xp.empty(n, dtype=z.dtype),
            None if dloss is None else xp.empty_like(z),
        )
        shares = [(task, *share) for share in layout.shares(n, workers)]
        at_once(_strips, shares, workers=workers, take=total.take)
    if dloss is None:
        return task.loss, None
    dother, dparameters = total.sum
    return task.loss, (task.dz, dother, *map(xp.asarray, dparameters))


def _strips(task: Task, first: int, last: int) -> Part:
    """Walk the strips of anchors first, ..., last - 1; returns what they add to the gradients."""
    xp = namespace(task.z)
    dother = xp.zeros_like(task.other)
    dparameters: tuple[Array, ...] = ()
    for anchors in layout.spans(first, last, task.rows):
        s = task.z[anchors] @ task.other.T  # (rows, M)
        task.loss[anchors], cache = task.walk.forward(s, anchors)
        if task.dloss is not None:
            ds, *of_strip = task.walk.backward(task.dloss[anchors], cache)
            task.dz[anchors] = ds @ task.other
            dother += ds.T @ task.z[anchors]
            dparameters = _added(dparameters, tuple(of_strip))
    return dother, dparameters


def _added(some: tuple[Array, ...], more: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(a + b for a, b in zip(some, more, strict=True)) if some else more
