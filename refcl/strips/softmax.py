"""z, z' -> loss_i: the softmax loss a strip of anchors at a time, value and gradient in one pass.

In:  embeddings ``z`` (N, D) and ``other`` (M, D), the row of each anchor's positive, and what one loss is worth.
Out: the loss (N,) and, where asked for, dz, dother and dτ. A strip (rows, M) is all of S that ever exists.
A memory is a constant: for it there is no dother, and the third product is left out.

    E = exp(Z z'ᵀ/τ), 0 at the positive and where left out      so that sums hold negatives only
    Z⁻ = E 1,  gap = log Z⁻ − s⁺/τ,  loss = softplus(gap)       the walk's own penalty, of slope σ
    W = E, and −Z⁻ at the positive: pulled by as much as all negatives are pushed
    u = σ dloss/(τ Z⁻),  dz = u ∘ (W z'),  dz' = Σ strips Wᵀ(u ∘ z),  dτ = −Σ ⟨z, dz⟩/τ
"""

import itertools
from typing import Any, NamedTuple

from refcl.core.arrays import Array, Namespace, namespace, row_dots
from refcl.strips import layout
from refcl.strips.workers import Total, at_once, scratch, workers_for
from refcl.walk.penalty import SoftplusCache, softplus_backward, softplus_forward


class Entries(NamedTuple):
    """Some entries of a tile, one a row at most."""

    rows: slice | Array
    columns: slice | Array
    flat: slice | None = None  # of the tile as one long row, where they lie on a diagonal


class Task(NamedTuple):
    z: Array  # (N, D)
    other: Array  # (M, D)
    temperature: Array  # ()
    positive: Array | None  # (N,) None where it is the candidate of the anchor's own number
    ignore: Array | None  # (N, M)
    alone: bool  # whether candidate i is anchor i itself, and left out
    shifted: bool  # whether each row's maximum is taken out before the exponential
    constant: bool  # whether other takes no gradient
    rows: int
    columns: int
    dloss: Array | None  # (N,) None where no gradient is wanted
    loss: Array  # (N,) written
    dz: Array  # (N, D) written; None where no gradient is wanted


def softmax_strips(
    z: Array,
    other: Array,
    temperature: Array,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    alone: bool = False,
    constant: bool = False,
    unit: bool,
    tile: int | None,
    dloss: Array | None,
) -> tuple[Array, tuple[Array, ...] | None]:
    """Return the loss of each anchor and, unless ``dloss`` is None, dz (N, D), dother (M, D) and dτ ().

    ``unit`` says that all rows have length 1. Where ``other`` is ``constant`` there is no dother among them.
    """
    xp = namespace(z)
    mean = layout.mean_of_crowd(other, unit)
    if mean is not None:  # it adds the same to all similarities of an anchor, which changes nothing but roundings
        other, unit = other - mean, False
    n, m = z.shape[0], other.shape[0]
    total = Total()
    with workers_for(z, n * m) as workers:
        rows = layout.strip_rows(tile, z, m, workers)
        task = Task(
            z=z,
            other=other,
            temperature=temperature,
            positive=None if positive is None else xp.astype(positive, xp.int64, copy=False),
            ignore=ignore,
            alone=alone,
            shifted=not layout.needs_no_shift(z, temperature, layout.reach(z, other, unit)),
            constant=constant,
            rows=rows,
            columns=layout.tile_columns(z, m, rows, workers),
            dloss=dloss,
            loss=xp.empty(n, dtype=z.dtype),
            dz=None if dloss is None else xp.empty_like(z),
        )
        at_once(_strips, [(task, *share) for share in layout.shares(n, workers)], workers=workers, take=total.take)
    if dloss is None:
        return task.loss, None
    # Every s is over τ, and Σ_k ds_k s_k of an anchor is ⟨z, dz⟩.
    dtemperature = xp.asarray(-row_dots(z, task.dz).sum() / temperature)
    if constant:
        return task.loss, (task.dz, dtemperature)
    return task.loss, (task.dz, total.sum, dtemperature)


class Tile(NamedTuple):
    candidates: slice
    e: Array  # (rows, columns) of scratch: s/τ, then E, then W
    positives: Entries | None
    itself: Entries | None  # where candidates are the anchors themselves, to be left out


def _strips(task: Task, first: int, last: int) -> Array:
    """Walk the strips of anchors first, ..., last - 1; returns their part of dother (M, D), or None."""
    xp = namespace(task.z)
    m, d = task.other.shape
    cuts = layout.spans(0, m, task.columns)
    rows = min(task.rows, last - first)
    memory = scratch("tiles", (len(cuts), rows * task.columns), task.z)
    narrow = scratch("narrow", (rows, d), task.z)
    product = scratch("product", (max(rows, task.columns), d), task.z)
    one = xp.ones(task.columns, dtype=task.z.dtype)
    dother = None if task.dloss is None or task.constant else xp.empty_like(task.other)
    for anchors in layout.spans(first, last, rows):
        z = task.z[anchors]  # (rows, D)
        scaled = xp.divide(z, task.temperature, out=narrow[: z.shape[0]])
        tiles = _tiles(xp, task, anchors, cuts, memory)
        total, top = _exponentials(xp, task, anchors, scaled, tiles, one)
        partner = task.other[anchors if task.positive is None else task.positive[anchors]]  # (rows, D)
        s_pos = row_dots(scaled, partner)  # (rows,) over τ
        if task.positive is not None:  # a GPU wraps an index out of range, which the door could not look at
            column = task.positive[anchors]
            s_pos = xp.where((column >= 0) & (column < m), s_pos, xp.nan)
        task.loss[anchors], slope = charge(xp, total, s_pos if top is None else s_pos - top)
        if task.dloss is None:
            continue
        u = softplus_backward(task.dloss[anchors], slope)  # (rows,)
        u /= task.temperature
        u /= total
        dz = task.dz[anchors]
        weighted = None if dother is None else xp.multiply(u[:, None], z, out=scaled)  # scaled is no longer needed
        for tile in tiles:
            if tile.positives is not None:
                put(tile.e, tile.positives, -total[tile.positives.rows])
            gather(xp, tile.e, task.other[tile.candidates], dz, product, afresh=tile is tiles[0])
            if dother is not None:
                gather(xp, tile.e.T, weighted, dother[tile.candidates], product, afresh=anchors.start == first)
        dz *= u[:, None]
    return dother


def _tiles(xp: Namespace, task: Task, anchors: slice, cuts: list[slice], memory: Array) -> list[Tile]:
    """Lay a strip's tiles out in memory, and find what is special in each."""
    if task.positive is None:
        positives = [band(anchors, cut, 0) for cut in cuts]
    else:
        positives = _by_tile(xp, task.positive[anchors], cuts)
    itself = [band(anchors, cut, 0) if task.alone else None for cut in cuts]
    return [Tile(cut, part(memory[c], anchors, cut), positives[c], itself[c]) for c, cut in enumerate(cuts)]


def _exponentials(
    xp: Namespace, task: Task, anchors: slice, scaled: Array, tiles: list[Tile], one: Array
) -> tuple[Array, Array | None]:
    """Turn the tiles into E; returns Z⁻ and what was taken out of s/τ before, each (rows,)."""
    top = None
    if task.shifted:
        for tile in tiles:
            _compare(xp, task, anchors, scaled, tile)
        top = xp.max(xp.stack([xp.max(tile.e, axis=1) for tile in tiles]), axis=0)
        top = xp.where(top == -xp.inf, xp.zeros_like(top), top)  # a row without negatives
    total = xp.zeros(scaled.shape[0], dtype=scaled.dtype)
    for tile in tiles:
        if top is None:
            _compare(xp, task, anchors, scaled, tile)
        else:
            e = tile.e
            e -= top[:, None]
        xp.exp(tile.e, out=tile.e)
        total += tile.e @ one[: tile.e.shape[1]]
    return total, top


def _compare(xp: Namespace, task: Task, anchors: slice, scaled: Array, tile: Tile) -> None:
    """Write s/τ into a tile, and −inf where a candidate is no negative."""
    xp.matmul(scaled, task.other[tile.candidates].T, out=tile.e)
    if tile.positives is not None:
        put(tile.e, tile.positives, -xp.inf)
    if tile.itself is not None:
        put(tile.e, tile.itself, -xp.inf)
    if task.ignore is not None:
        xp.copyto(tile.e, -xp.inf, where=task.ignore[anchors, tile.candidates])


def charge(xp: Namespace, total: Array, s_pos: Array) -> tuple[Array, SoftplusCache]:
    """Return the loss, softplus(log Z⁻ − s⁺/τ), and what its backward reads; a Z⁻ of 0 becomes 1, to be divided by.

    The walk's own penalty: where the positive dominates, gap → −∞ and both loss and slope are exp(gap).
    """
    empty = total == 0
    xp.copyto(total, 1, where=empty)  # not by a mask: a GPU would wait to count it
    gap = xp.log(total)
    gap -= s_pos
    xp.copyto(gap, -xp.inf, where=empty)
    return softplus_forward(gap)


def gather(xp: Namespace, weight: Array, rows: Array, total: Array, product: Array, *, afresh: bool) -> None:
    """Add ``weight @ rows`` to a total, or write it there where it is the first part."""
    if afresh:
        xp.matmul(weight, rows, out=total)
    else:
        total += xp.matmul(weight, rows, out=product[: weight.shape[0]])


def put(tile: Array, entries: Entries, value: Any) -> None:
    """Overwrite some entries of a tile."""
    if entries.flat is None:
        tile[entries.rows, entries.columns] = value
    else:
        tile.reshape(-1)[entries.flat] = value


def part(memory: Array, rows: slice, columns: slice) -> Array:
    """Return a tile for these rows and columns (rows, columns), without gaps in memory."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    return memory[: height * width].reshape(height, width)


def band(rows: slice, columns: slice, offset: int) -> Entries | None:
    """Return where a tile holds entries (i, i + offset) of the whole matrix, None where it holds none."""
    first, last = max(rows.start, columns.start - offset), min(rows.stop, columns.stop - offset)
    if first >= last:
        return None
    step = columns.stop - columns.start + 1
    row, column, count = first - rows.start, first + offset - columns.start, last - first
    start = row * (step - 1) + column
    return Entries(
        slice(row, row + count), slice(column, column + count), slice(start, start + (count - 1) * step + 1, step)
    )


def _by_tile(xp: Namespace, column: Array, cuts: list[slice]) -> list[Entries | None]:
    """Return the entries (i, column_i) of a strip, tile by tile."""
    if len(cuts) == 1:
        row = xp.arange(column.shape[0])
        return [Entries(row, column)]
    order = xp.argsort(column, stable=True)  # on the host only: on a GPU a strip has one tile
    ends = xp.searchsorted(column[order], [0, *(cut.stop for cut in cuts)])
    rows = [order[a:b] for a, b in itertools.pairwise(ends.tolist())]
    return [Entries(row, column[row] - cut.start) for row, cut in zip(rows, cuts, strict=True)]
