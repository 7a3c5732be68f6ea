"""z, z' -> loss_i of both sides: every row of either side is an anchor, a tile at a time.

In:  embeddings ``z`` and ``other`` (N, D), and where the positives stand. ``other is z`` makes S symmetric.
Out: the losses of the rows and of the columns (N,) and, where asked for, dz, dother and dτ.

Two passes, since a gradient needs the sums of its row and of its column first:

    E = exp(Z z'ᵀ/τ), 0 at the positives and at self                    Z⁻ = E 1 of rows, Eᵀ 1 of columns
    G = E ∘ (u_i/Z⁻_i + u_k/Z⁻_k), −(u_i + u_k) at the positives        u = σ dloss/τ;  dz = G z',  dz' = Gᵀ z

Where S is symmetric, a tile above the diagonal serves the rows on both its sides, and those below are never computed.
"""

from typing import NamedTuple

from refcl.backend import Array, Namespace, namespace, row_dots
from refcl.penalty import softplus_backward
from refcl.tiled import layout
from refcl.tiled.one_way import Entries, band, charge, gather, part, put
from refcl.tiled.workers import crew, scratch, together


class Task(NamedTuple):
    z: Array  # (N, D)
    scaled: Array  # (N, D) z/τ
    other: Array  # (N, D)
    shift: int  # row i's positive is column (i + shift) mod N, and column k's is row (k + shift) mod N
    side: int
    tiles: list[tuple[slice, slice]]  # rows and columns, at most side of each
    kept: Array | None  # (tiles, side²) the first pass's E, where all of it fits

    @property
    def symmetric(self) -> bool:
        return self.other is self.z


class Weights(NamedTuple):
    push: Array  # (N,) u/Z⁻
    pull: Array  # (N,) u


Sides = tuple[Array, Array]  # one array for the rows and one for the columns: the same where S is symmetric


def softmax_tiles(
    z: Array, other: Array, temperature: Array, *, shift: int, tile: int | None, dlosses: Sides | None
) -> tuple[Sides, tuple[Array, Array, Array] | None]:
    """Return the losses of rows and columns and, unless ``dlosses`` is None, dz, dother and dτ.

    Rows have length 1, and τ is such that exp(s/τ) needs no shift.
    """
    xp = namespace(z)
    with crew(z, z.shape[0] * other.shape[0]) as workers:
        task = _task(xp, z, other, temperature, shift, tile)
        deal = [(task, w, workers) for w in range(workers)]
        totals = _sum(task, together(_totals, deal))
        s_pos = _own_positives(xp, task)
        rows = charge(xp, totals[0], s_pos)
        cols = rows if task.symmetric else charge(xp, totals[1], s_pos)
        losses = (rows[0], cols[0])
        if dlosses is None:
            return losses, None
        weights = []
        for dloss, total, (_, slope) in zip(dlosses, totals, (rows, cols), strict=True):
            pull = softplus_backward(dloss, slope) / temperature  # (N,)
            weights.append(Weights(pull / total, pull))
        dz, dother = _sum(task, together(_gradients, [(*share, *weights) for share in deal]))
    # ⟨z, dz⟩ = Σ_ik G_ik s_ik counts each anchor's Σ_k ds_k s_k once, and twice where a row is also a column.
    times = 2 if task.symmetric else 1
    return losses, (dz, dother, xp.asarray(-xp.sum(row_dots(z, dz)) / (times * temperature)))


def _task(xp: Namespace, z: Array, other: Array, temperature: Array, shift: int, tile: int | None) -> Task:
    n = z.shape[0]
    side = layout.tile_side(tile, z)
    cuts = layout.spans(0, n, side)
    tiles = [(r, c) for r in cuts for c in cuts if other is not z or c.start >= r.start]
    fits = len(tiles) * side * side * z.dtype.itemsize <= layout.KEPT_BYTES
    kept = scratch("tiles", (len(tiles), side * side), z) if fits else None
    return Task(z, z / temperature, other, shift, side, tiles, kept)


def _own_positives(xp: Namespace, task: Task) -> Array:
    """Return each row's s⁺/τ (N,)."""
    cut = task.z.shape[0] - task.shift
    halves = (task.scaled[:cut], task.other[task.shift :]), (task.scaled[cut:], task.other[: task.shift])
    return xp.concat([row_dots(*half) for half in halves])


def _totals(task: Task, worker: int, workers: int) -> Sides:
    """Return what a worker's tiles add to Z⁻ of rows and columns."""
    xp = namespace(task.z)
    n, dtype = task.z.shape[0], task.z.dtype
    row_total = xp.zeros(n, dtype=dtype)
    col_total = row_total if task.symmetric else xp.zeros(n, dtype=dtype)
    one = xp.ones(n, dtype=dtype)
    memory = _memory("tile", task)
    for number in range(worker, len(task.tiles), workers):
        rows, cols = task.tiles[number]
        e = _exponentials(xp, task, number, memory)  # (rows, columns)
        row_total[rows] += e @ one[cols]
        if not _own(task, rows, cols):
            col_total[cols] += one[rows] @ e
    return row_total, col_total


def _gradients(task: Task, worker: int, workers: int, row: Weights, col: Weights) -> Sides:
    """Return what a worker's tiles add to dz and dother."""
    xp = namespace(task.z)
    dz = xp.zeros_like(task.z)
    dother = dz if task.symmetric else xp.zeros_like(task.other)
    memory, weight = _memory("tile", task), _memory("weight", task)
    product = scratch("product", (task.side, task.z.shape[1]), task.z)
    afresh = len(task.tiles) == 1
    for number in range(worker, len(task.tiles), workers):
        rows, cols = task.tiles[number]
        g = _exponentials(xp, task, number, memory) if task.kept is None else part(task.kept[number], rows, cols)
        g *= xp.add(row.push[rows, None], col.push[cols], out=part(weight, rows, cols))
        for entries in _positives(task, rows, cols):
            put(g, entries, -(row.pull[rows][entries.rows] + col.pull[cols][entries.columns]))
        gather(xp, g, task.other[cols], dz[rows], product, afresh=afresh)
        if not _own(task, rows, cols):
            gather(xp, g.T, task.z[rows], dother[cols], product, afresh=afresh)
    return dz, dother


def _exponentials(xp: Namespace, task: Task, number: int, memory: Array) -> Array:
    """Write E into a tile."""
    rows, cols = task.tiles[number]
    e = part(memory if task.kept is None else task.kept[number], rows, cols)
    xp.matmul(task.scaled[rows], task.other[cols].T, out=e)
    xp.exp(e, out=e)
    for entries in _positives(task, rows, cols):
        put(e, entries, 0)
    itself = band(rows, cols, 0) if task.symmetric else None
    if itself is not None:
        put(e, itself, 0)
    return e


def _memory(role: str, task: Task) -> Array:
    return scratch(role, (task.side * task.side,), task.z)


def _positives(task: Task, rows: slice, cols: slice) -> list[Entries]:
    """Return where a tile holds positives."""
    offsets = (task.shift, task.shift - task.z.shape[0])
    return [entries for offset in offsets if (entries := band(rows, cols, offset)) is not None]


def _own(task: Task, rows: slice, cols: slice) -> bool:
    """Return whether a tile is its own mirror image, and so serves its rows only."""
    return task.symmetric and rows == cols


def _sum(task: Task, parts: list[Sides]) -> Sides:
    """Add the workers' parts, always in the same order."""
    rows, cols = parts[0]
    for more_rows, more_cols in parts[1:]:
        rows += more_rows
        if not task.symmetric:
            cols += more_cols
    return rows, cols
