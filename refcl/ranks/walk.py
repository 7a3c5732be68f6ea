"""Anchors of this rank, candidates of all -> loss_i: a loss that sees its candidates a block at a time.

In:  this rank's anchors ``z`` (n, D), who is what to whom, a rule, an exchange, and what each anchor's loss is worth.
Out: the losses of these anchors (n,), dz (n, D), the gradient of this rank's candidates (m, D), and this rank's part of
the gradients of the shared scalars.

Two rounds, since a gradient needs the sums of its whole row first:
    look    every block once: what it adds to each anchor's maxima and sums; then the loss, and its slope
    push    every block again: what each pair sends to its two ends
A rule whose pairs do not see each other has nothing to look at, and needs one round.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

from refcl.core.arrays import Array, namespace, zeros
from refcl.ranks.exchange import Block, Exchange
from refcl.strips.layout import room_rows, spans, tile_side

# Of every anchor what so many blocks add is kept before it is put together: one addition, not a chain of roundings.
WAITING = 64


class Roles(NamedTuple):
    """What the candidates of a block are to some anchors."""

    positives: Array  # (n, m) booleans
    negatives: Array  # (n, m)
    apart: Array | None = None  # (n, m) negatives of a second pool; None where there is one pool


class Pushed(NamedTuple):
    ds: Array  # (n, m)
    scalars: tuple[Array, ...]  # a () for each shared scalar
    loss: Array | None = None  # (n,) what the block adds to the loss, where nothing was looked at before


class Rule(NamedTuple):
    """What a block adds. What is known of anchors is a named tuple of (n,) arrays."""

    look: Callable[[Array, Roles], Any] | None  # s (n, m), roles -> part; None where there is nothing to see
    merged: Callable[[list[Any]], Any]  # the parts of several blocks -> one part
    charge: Callable[[Any], tuple[Array, Any]]  # part of all blocks -> loss (n,), what is known
    push: Callable[[Array, Array, Roles, Any], Pushed]  # dloss (n,), s (n, m), roles, what is known
    scalars: int  # how many shared scalars have a gradient


class Walked(NamedTuple):
    loss: Array  # (n,)
    dz: Array  # (n, D)
    dother: Array  # (m, D)
    scalars: list[Array]


def over_blocks(
    z: Array, roles: Callable[[slice, Array], Roles], rule: Rule, exchange: Exchange, dloss: Array
) -> Walked:
    """Walk both rounds; ``roles`` says for some of the anchors, and candidates by their numbers, who is what."""
    xp = namespace(z)
    loss, known = zeros(z.shape[:1], like=z), ()
    if rule.look is not None:
        part = _looked(z, roles, rule, rule.look, exchange)
        if part is not None:
            loss, known = rule.charge(part)
    dz = zeros(z.shape, like=z)
    scalars = [zeros((), like=z)] * rule.scalars

    def push(block: Block) -> Array:
        nonlocal loss, scalars
        sent = zeros(block.rows.shape, like=z)
        for rows, columns in _tiles(z, block):
            other = block.rows[columns]
            s = z[rows] @ other.T  # (n, m)
            of_these = _rows_of(known, rows)
            pushed = rule.push(dloss[rows], s, roles(rows, block.numbers[columns]), of_these)
            dz[rows] += pushed.ds @ other
            if not block.constant:
                sent[columns] += pushed.ds.T @ z[rows]
            if pushed.loss is not None:
                loss[rows] += pushed.loss
            scalars = [xp.asarray(a + b) for a, b in zip(scalars, pushed.scalars, strict=True)]
        return sent

    dother = exchange.push(push)
    return Walked(loss, dz, dother, scalars)


def _looked(z: Array, roles: Any, rule: Rule, look: Any, exchange: Exchange) -> Any:
    """Return what all blocks together add to each anchor, None where this rank has no anchors."""
    parts: list[Any] = []

    def visit(block: Block) -> None:
        for _, tiles in itertools.groupby(_tiles(z, block), key=lambda tile: tile[1].start):
            seen = [
                look(z[rows] @ block.rows[columns].T, roles(rows, block.numbers[columns])) for rows, columns in tiles
            ]
            parts.append(type(seen[0])(*map(namespace(z).concat, zip(*seen, strict=True))))
            if len(parts) == WAITING:
                parts[:] = [rule.merged(parts)]

    exchange.look(visit)
    return rule.merged(parts) if parts else None


def _tiles(z: Array, block: Block) -> list[tuple[slice, slice]]:
    """Cut this rank's anchors by a block's candidates into tiles of similarities that stay small, column by column."""
    side = tile_side(None, z)
    rows = spans(0, z.shape[0], room_rows(None, z, side))
    return [(r, c) for c in spans(0, block.rows.shape[0], side) for r in rows]


def _rows_of(known: Any, rows: slice) -> Any:
    return type(known)(*(x[rows] for x in known)) if known else known
