"""z, z' -> loss_i: the softmax loss a strip of anchors at a time, value and gradient in one pass.

In:  embeddings ``z`` (N, D) and ``other`` (M, D), the row of each anchor's positive, and what one loss is worth.
Out: the loss (N,) and, where asked for, dz, dother and dτ. A strip (rows, M) is all of S that ever exists.
A memory is a constant: for it there is no dother, and the third product is left out.

    E = exp(Z z'ᵀ/τ), 0 at the positive and where left out        so that sums hold negatives only
    Z⁻ = E 1,  gap = log Z⁻ − s⁺/τ,  loss = softplus(gap)         the walk's own penalty
    dz = σ (E z'/Z⁻ − z'_p)/τ,  dz' = Σ strips Eᵀ(σ z/(τ Z⁻))     E at the positive is −Z⁻ by now: it pulls
"""

import itertools
from typing import NamedTuple

from refcl.backend import Array, Namespace, namespace, row_dots
from refcl.penalty import SoftplusCache, softplus_backward, softplus_forward
from refcl.tiled import layout
from refcl.tiled.workers import crew, scratch, together


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
    slope: Array  # (N,) written: what each anchor adds to −τ dτ


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

    Where ``other`` is ``constant`` there is no dother among them.
    """
    xp = namespace(z)
    n, m = z.shape[0], other.shape[0]
    with crew(z, n * m) as workers:
        rows = layout.strip_rows(tile, z, m, workers)
        task = Task(
            z=z,
            other=other,
            temperature=temperature,
            positive=positive,
            ignore=ignore,
            alone=alone,
            shifted=not (unit and layout.needs_no_shift(z, temperature)),
            constant=constant,
            rows=rows,
            columns=layout.tile_columns(z, m, rows, workers),
            dloss=dloss,
            loss=xp.empty(n, dtype=z.dtype),
            dz=None if dloss is None else xp.empty_like(z),
            slope=None if dloss is None else xp.empty(n, dtype=z.dtype),
        )
        shares = [(task, *share) for share in layout.shares(n, workers)]
        partial = together(_strips, shares)
    if dloss is None:
        return task.loss, None
    dtemperature = xp.asarray(-xp.sum(task.slope) / temperature)
    if constant:
        return task.loss, (task.dz, dtemperature)
    dother = partial[0]
    for part in partial[1:]:
        dother += part
    return task.loss, (task.dz, dother, dtemperature)


class Strip(NamedTuple):
    anchors: slice
    scaled: Array  # (rows, D) z/τ
    partner: Array  # (rows, D) z'_p
    tiles: list[tuple[slice, Array]]  # which candidates, and (rows, columns) of scratch
    positives: list[tuple[Array, Array] | None]  # of each tile: rows and columns of the positives in it
    total: Array  # (rows,) Z⁻ over the exponential of what was taken out, once pooled
    pooled: Array  # (rows, D) E z', once pooled
    weighted: Array  # (rows, D) scratch


def _strips(task: Task, first: int, last: int) -> Array:
    """Walk the strips of anchors first, ..., last - 1; returns their part of dother (M, D), or None."""
    xp = namespace(task.z)
    m, d = task.other.shape
    cuts = layout.spans(0, m, task.columns)
    rows = min(task.rows, last - first)
    tiles = scratch("tiles", (len(cuts), rows, task.columns), task.z)
    wide = scratch("wide", (3, rows, d), task.z)
    product = scratch("product", (max(rows, task.columns), d), task.z)
    one = xp.ones(task.columns, dtype=task.z.dtype)
    dother = None if task.dloss is None or task.constant else xp.empty_like(task.other)
    for anchors in layout.spans(first, last, rows):
        strip = _start(xp, task, anchors, cuts, tiles, wide)
        top = _pool(xp, task, strip, one, product)
        share = _charge(xp, task, strip, top)
        if share is not None:
            _pull(xp, task, strip, share)
        if dother is not None:
            _give(xp, task, strip, share, dother, product, afresh=anchors.start == first)
    return dother


def _start(xp: Namespace, task: Task, anchors: slice, cuts: list[slice], memory: Array, wide: Array) -> Strip:
    height = anchors.stop - anchors.start
    tiles = [(cut, tile[:height, : cut.stop - cut.start]) for cut, tile in zip(cuts, memory, strict=True)]
    scaled, pooled, weighted = (part[:height] for part in wide)
    xp.divide(task.z[anchors], task.temperature, out=scaled)
    if task.positive is None:
        partner = task.other[anchors]
        positives = [band(xp, anchors, cut, 0) for cut in cuts]
    else:
        partner = task.other[task.positive[anchors]]
        positives = _by_tile(xp, task.positive[anchors], task.columns, len(cuts))
    total = xp.zeros(height, dtype=task.z.dtype)
    return Strip(anchors, scaled, partner, tiles, positives, total, pooled, weighted)


def _pool(xp: Namespace, task: Task, strip: Strip, one: Array, product: Array) -> Array | None:
    """Turn the strip into E, and write Z⁻ and E z'; returns what was taken out of s/τ (rows,), if anything was."""
    top = None
    if task.shifted:
        for c in range(len(strip.tiles)):
            _compare(xp, task, strip, c)
        top = xp.max(xp.stack([xp.max(tile, axis=1) for _, tile in strip.tiles]), axis=0)
        top = xp.where(top == -xp.inf, xp.zeros_like(top), top)  # a row without negatives
    for c, (cut, tile) in enumerate(strip.tiles):
        if top is None:
            _compare(xp, task, strip, c)
        else:
            tile -= top[:, None]
        xp.exp(tile, out=tile)
        total = strip.total
        total += tile @ one[: tile.shape[1]]
        if task.dloss is not None:
            gather(xp, tile, task.other[cut], strip.pooled, product, afresh=c == 0)
    return top


def _compare(xp: Namespace, task: Task, strip: Strip, c: int) -> None:
    """Write s/τ into a tile, and −inf where a candidate is no negative."""
    cut, tile = strip.tiles[c]
    xp.matmul(strip.scaled, task.other[cut].T, out=tile)
    if strip.positives[c] is not None:
        tile[strip.positives[c]] = -xp.inf
    if task.ignore is not None:
        xp.copyto(tile, -xp.inf, where=task.ignore[strip.anchors, cut])
    itself = band(xp, strip.anchors, cut, 0) if task.alone else None
    if itself is not None:
        tile[itself] = -xp.inf


def _charge(xp: Namespace, task: Task, strip: Strip, top: Array | None) -> Array | None:
    """Write the loss; returns σ/τ times what the loss is worth (rows,), where a gradient is wanted."""
    s_pos = row_dots(strip.scaled, strip.partner)  # (rows,) over τ
    task.loss[strip.anchors], slope = charge(xp, strip.total, s_pos if top is None else s_pos - top)
    if task.dloss is None:
        return None
    return softplus_backward(task.dloss[strip.anchors], slope) / task.temperature


def charge(xp: Namespace, total: Array, s_pos: Array) -> tuple[Array, SoftplusCache]:
    """Return the loss, softplus(log Z⁻ − s⁺/τ), and what its backward reads; a Z⁻ of 0 becomes 1, to be divided by.

    The walk's own penalty: where the positive dominates, gap → −∞ and both loss and slope are exp(gap).
    """
    empty = total == 0
    total[empty] = 1
    gap = xp.log(total)
    gap -= s_pos
    gap[empty] = -xp.inf
    return softplus_forward(gap)


def _pull(xp: Namespace, task: Task, strip: Strip, share: Array) -> None:
    """Write the anchors' gradients."""
    pull = strip.pooled  # (rows, D) E z'/Z⁻ − z'_p, in place
    pull /= strip.total[:, None]
    pull -= strip.partner
    xp.multiply(share[:, None], pull, out=task.dz[strip.anchors])
    task.slope[strip.anchors] = share * row_dots(task.z[strip.anchors], pull)


def _give(
    xp: Namespace, task: Task, strip: Strip, share: Array, dother: Array, product: Array, *, afresh: bool
) -> None:
    """Give dother what the candidates receive from the strip's anchors."""
    total = strip.total
    weighted = xp.multiply((share / total)[:, None], task.z[strip.anchors], out=strip.weighted)
    for (cut, tile), positives in zip(strip.tiles, strip.positives, strict=True):
        if positives is not None:
            tile[positives] = -total[positives[0]]  # the positive is pulled by as much as all negatives are pushed
        gather(xp, tile.T, weighted, dother[cut], product, afresh=afresh)


def gather(xp: Namespace, weight: Array, rows: Array, total: Array, product: Array, *, afresh: bool) -> None:
    """Add ``weight @ rows`` to a total, or write it there where it is the first part."""
    if afresh:
        xp.matmul(weight, rows, out=total)
    else:
        total += xp.matmul(weight, rows, out=product[: weight.shape[0]])


def band(xp: Namespace, rows: slice, columns: slice, offset: int) -> tuple[Array, Array] | None:
    """Return where a tile holds entries (i, i + offset) of the whole matrix, None where it holds none."""
    first, last = max(rows.start, columns.start - offset), min(rows.stop, columns.stop - offset)
    if first >= last:
        return None
    i = xp.arange(first, last)
    return i - rows.start, i + (offset - columns.start)


def _by_tile(xp: Namespace, column: Array, columns: int, tiles: int) -> list[tuple[Array, Array] | None]:
    """Return rows and columns of the entries (i, column_i) of a strip, tile by tile."""
    if tiles == 1:
        return [(xp.arange(column.shape[0]), column)]
    order = xp.argsort(column // columns, stable=True)  # on the host only: on a GPU a strip has one tile
    ends = xp.searchsorted(column[order], columns * xp.arange(tiles + 1))
    rows = [order[a:b] for a, b in itertools.pairwise(ends.tolist())]
    return [(row, column[row] - columns * tile) for tile, row in enumerate(rows)]
