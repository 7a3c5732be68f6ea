"""z, z' -> loss_i of both sides: every row of either side is an anchor, a tile at a time.

In:  embeddings ``z`` and ``other`` (N, D), and where the positives stand. Without ``other``, S = Z Zᵀ is symmetric.
Out: the losses of the rows and of the columns (N,) and, where asked for, dz, dother and dτ.

Two passes, since a gradient needs the sums of its row and of its column first:

    E = exp(Z z'ᵀ/τ), 0 at the positives and at self                    Z⁻ = E 1 of rows, Eᵀ 1 of columns
    G = E ∘ (u_i/Z⁻_i + u_k/Z⁻_k), −(u_i + u_k) at the positives        u = σ dloss/τ;  dz = G z',  dz' = Gᵀ z

Where S is symmetric, a tile above the diagonal serves the rows on both its sides, and those below are never computed.
"""

from typing import NamedTuple

from refcl.core.arrays import Array, Namespace, namespace, row_dots
from refcl.strips import layout
from refcl.strips.softmax import Entries, band, charge, gather, part, put
from refcl.strips.workers import Total, at_once, borrowing, scratch, workers_for
from refcl.walk.penalty import softplus_backward


class Tile(NamedTuple):
    rows: slice
    cols: slice
    positives: list[Entries]
    itself: Entries | None  # where S is symmetric, the entries of rows with themselves
    own: bool  # whether it is its own mirror image, and so serves its rows only


class Task(NamedTuple):
    z: Array  # (N, D)
    scaled: Array  # (N, D) z/τ
    other: Array  # (N, D) z itself where S is symmetric
    symmetric: bool
    shift: int  # row i's positive is column (i + shift) mod N, and column k's is row (k + shift) mod N
    side: int  # of a tile, at most
    tiles: list[Tile]
    kept: Array | None  # (tiles, side²) the first pass's E, where all of it fits


class Weights(NamedTuple):
    push: Array  # (N,) u/Z⁻
    pull: Array  # (N,) u


Sides = tuple[Array, ...]  # one array for the rows and one for the columns; where S is symmetric, one for both


def softmax_tiles(
    z: Array, other: Array | None, temperature: Array, *, shift: int, tile: int | None, dlosses: Sides | None
) -> tuple[Sides, tuple[Array, Array, Array] | None]:
    """Return the losses of rows and columns and, unless ``dlosses`` is None, dz, dother and dτ.

    τ is such that exp(s/τ) needs no shift.
    """
    xp = namespace(z)
    with borrowing(), workers_for(z, z.shape[0] ** 2) as workers:
        task = _task(xp, z, other, temperature, shift, tile)
        groups = 1 if workers == 1 else min(layout.SHARES * workers, len(task.tiles))
        shares = [(task, group, groups) for group in range(groups)]
        sums, gradients = Total(), Total()
        at_once(_totals, shares, workers=workers, take=sums.take)
        totals = sums.sum[0], sums.sum[-1]
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
        at_once(_gradients, [(*share, *weights) for share in shares], workers=workers, take=gradients.take)
        dz, dother = gradients.sum[0], gradients.sum[-1]
    # ⟨z, dz⟩ = Σ_ik G_ik s_ik counts each anchor's Σ_k ds_k s_k once, and twice where a row is also a column.
    times = 2 if task.symmetric else 1
    return losses, (dz, dother, xp.asarray(-xp.sum(row_dots(z, dz)) / (times * temperature)))


def _task(xp: Namespace, z: Array, other: Array | None, temperature: Array, shift: int, tile: int | None) -> Task:
    n, symmetric = z.shape[0], other is None
    side = layout.tile_side(tile, z)
    cuts = layout.spans(0, n, side)
    tiles = []
    for rows in cuts:
        for cols in cuts:
            if symmetric and cols.start < rows.start:
                continue
            positives = [entries for offset in (shift, shift - n) if (entries := band(rows, cols, offset)) is not None]
            tiles.append(
                Tile(rows, cols, positives, band(rows, cols, 0) if symmetric else None, symmetric and rows == cols)
            )
    fits = len(tiles) * side * side * z.dtype.itemsize <= layout.KEPT_BYTES
    kept = scratch("tiles", (len(tiles), side * side), z) if fits else None
    return Task(z, z / temperature, z if other is None else other, symmetric, shift, side, tiles, kept)


def _own_positives(xp: Namespace, task: Task) -> Array:
    """Return each row's s⁺/τ (N,)."""
    cut = task.z.shape[0] - task.shift
    halves = (task.scaled[:cut], task.other[task.shift :]), (task.scaled[cut:], task.other[: task.shift])
    return xp.concat([row_dots(*half) for half in halves])


def _totals(task: Task, group: int, groups: int) -> Sides:
    """Return what a group of tiles adds to Z⁻ of rows and columns."""
    xp = namespace(task.z)
    n, dtype = task.z.shape[0], task.z.dtype
    row_total = xp.zeros(n, dtype=dtype)
    col_total = row_total if task.symmetric else xp.zeros(n, dtype=dtype)
    one = xp.ones(n, dtype=dtype)
    for number in range(group, len(task.tiles), groups):
        tile = task.tiles[number]
        e = _memory(task, number)  # (rows, columns)
        _exponentials(xp, task, tile, e)
        row_total[tile.rows] += e @ one[tile.cols]
        if not tile.own:
            col_total[tile.cols] += one[tile.rows] @ e
    return (row_total,) if task.symmetric else (row_total, col_total)


def _gradients(task: Task, group: int, groups: int, row: Weights, col: Weights) -> Sides:
    """Return what a group of tiles adds to dz and dother."""
    xp = namespace(task.z)
    dz = xp.zeros_like(task.z)
    dother = dz if task.symmetric else xp.zeros_like(task.other)
    weight = scratch("weight", (task.side * task.side,), task.z)
    product = scratch("product", (task.side, task.z.shape[1]), task.z)
    whole = len(task.tiles) == 1
    for number in range(group, len(task.tiles), groups):
        tile = task.tiles[number]
        rows, cols = tile.rows, tile.cols
        g = _memory(task, number)  # (rows, columns)
        if task.kept is None:
            _exponentials(xp, task, tile, g)
        g *= xp.add(row.push[rows, None], col.push[cols], out=part(weight, rows, cols))
        for entries in tile.positives:
            put(g, entries, -(row.pull[rows][entries.rows] + col.pull[cols][entries.columns]))
        gather(xp, g, task.other[cols], dz[rows], product, afresh=whole)
        if not tile.own:
            gather(xp, g.T, task.z[rows], dother[cols], product, afresh=whole)
    return (dz,) if task.symmetric else (dz, dother)


def _memory(task: Task, number: int) -> Array:
    """Return a tile to write into: its own, or one that all of this thread's tiles share."""
    tile = task.tiles[number]
    memory = scratch("tile", (task.side * task.side,), task.z) if task.kept is None else task.kept[number]
    return part(memory, tile.rows, tile.cols)


def _exponentials(xp: Namespace, task: Task, tile: Tile, e: Array) -> None:
    """Write E into a tile."""
    xp.matmul(task.scaled[tile.rows], task.other[tile.cols].T, out=e)
    xp.exp(e, out=e)
    for entries in tile.positives:
        put(e, entries, 0)
    if tile.itself is not None:
        put(e, tile.itself, 0)
