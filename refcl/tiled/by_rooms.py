"""z, z' -> loss_i: any loss on similarities a strip of anchors at a time, through the walk's own rooms.

In:  embeddings ``z`` (N, D) and ``other`` (M, D), the loss on similarities and its settings.
Out: the loss (N,) and, where asked for, dz, dother and the gradient of the loss's parameter.
Every row of S is walked by itself, so a strip of rows can be walked by itself.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from refcl.backend import Array, arange, namespace
from refcl.tiled import layout
from refcl.tiled.workers import crew, together


class Walk(NamedTuple):
    forward: Callable[..., Any]  # of a loss on similarities
    backward: Callable[..., Any]
    hardest: float | int | None = None


class Task(NamedTuple):
    z: Array  # (N, D)
    other: Array  # (M, D)
    walk: Walk
    parameter: Any  # τ or λ
    positive: Array  # (N,)
    ignore: Array | None  # (N, M)
    rows: int
    dloss: Array | None  # (N,) None where no gradient is wanted
    loss: Array  # (N,) written
    dz: Array  # (N, D) written; None where no gradient is wanted


def room_strips(
    z: Array,
    other: Array,
    walk: Walk,
    parameter: Any,
    *,
    positive: Array | None,
    ignore: Array | None,
    tile: int | None,
    dloss: Array | None,
) -> tuple[Array, tuple[Array, Array, Array] | None]:
    """Return the loss of each anchor and, unless ``dloss`` is None, dz (N, D), dother (M, D) and dparameter ()."""
    xp = namespace(z)
    n, m = z.shape[0], other.shape[0]
    with crew(z, n * m) as workers:
        task = Task(
            z,
            other,
            walk,
            parameter,
            arange(n, like=z) if positive is None else positive,
            ignore,
            layout.room_rows(tile, z, m),
            dloss,
            xp.empty(n, dtype=z.dtype),
            None if dloss is None else xp.empty_like(z),
        )
        shares = [(task, *share) for share in layout.shares(n, workers)]
        parts = together(_strips, shares)
    if dloss is None:
        return task.loss, None
    dother, dparameter = parts[0]
    for more_dother, more_dparameter in parts[1:]:
        dother += more_dother
        dparameter = dparameter + more_dparameter
    return task.loss, (task.dz, dother, xp.asarray(dparameter))


def _strips(task: Task, first: int, last: int) -> tuple[Array, Array]:
    """Walk the strips of anchors first, ..., last - 1; returns their part of dother and of the parameter's gradient."""
    xp = namespace(task.z)
    forward, backward, hardest = task.walk
    settings = {} if hardest is None else {"hardest": hardest}
    dother = xp.zeros_like(task.other)
    dparameter = xp.zeros((), dtype=task.z.dtype)
    for anchors in layout.spans(first, last, task.rows):
        s = task.z[anchors] @ task.other.T  # (rows, M)
        ignore = None if task.ignore is None else task.ignore[anchors]
        roles = {"positive": task.positive[anchors], "ignore": ignore}
        task.loss[anchors], cache = forward(s, task.parameter, **roles, reduction="none", **settings)
        if task.dloss is not None:
            ds, of_strip = backward(task.dloss[anchors], cache)
            task.dz[anchors] = ds @ task.other
            dother += ds.T @ task.z[anchors]
            dparameter = dparameter + of_strip
    return dother, dparameter
