"""What all losses over ranks do: onto the sphere, candidates to anchors, sums over ranks, and back.

In:  what a door made ready.  Out: walked blocks, and the value and the gradients of shared scalars, alike on all ranks.
"""

from typing import Any, Literal, NamedTuple, TypeAlias

from refcl.core.arrays import Array, namespace, ones
from refcl.ranks.door import World
from refcl.ranks.exchange import Block, chosen, numbered
from refcl.ranks.rules import roles_by_number
from refcl.ranks.walk import Rule, Walked, over_blocks
from refcl.walk.sphere import NormalizeCache, l2_normalize_backward, l2_normalize_forward

ExchangeName: TypeAlias = Literal["auto", "gather", "ring"]


class How(NamedTuple):
    """The settings that all these losses share."""

    exchange: str
    reduction: str
    upstream: Array | None
    normalize: bool
    eps: float


def world_of(comm: Any) -> World:
    """Return what the door made of the communicator."""
    world: World = comm
    return world


def onto_sphere(h: Array, how: How) -> tuple[Array, NormalizeCache | None]:
    return l2_normalize_forward(h, eps=how.eps) if how.normalize and h.shape[0] else (h, None)


def off_sphere(dz: Array, cache: NormalizeCache | None) -> Array:
    return dz if cache is None else l2_normalize_backward(dz, cache)


def one_way(
    world: World,
    how: How,
    z: Array,
    other: Array,
    roles: Any,
    rule: Rule,
    count: int,
    *,
    factor: Any = 1.0,
    queue: Block | None = None,
    numbers: list[Array] | None = None,
) -> Walked:
    """Let all ranks' candidates ``other`` come to this rank's anchors ``z``; there are ``count`` losses in all."""
    if numbers is None:
        numbers = numbered(world.candidates, like=z)
    exchange = chosen(how.exchange, world.comm, other, numbers, queue)
    return over_blocks(z, roles, rule, exchange, worth(how, z.shape[:1], z, count, factor))


def worth(how: How, shape: tuple[int, ...], like: Array, count: int, factor: Any) -> Array:
    """Return what the loss of each of this rank's anchors is worth in the value, a mean being over those of all."""
    dloss = ones(shape, like=like) if how.upstream is None else how.upstream
    return factor * dloss / count if how.reduction == "mean" else factor * dloss


def totals(world: World, how: How, loss: Array, scalars: list[Array], count: int) -> tuple[Array, list[Array]]:
    """Return the value, and the gradients of the shared scalars, of all ranks together."""
    if how.reduction == "none":
        return loss, world.summed(scalars, like=loss)
    total, *sums = world.summed([namespace(loss).sum(loss), *scalars], like=loss)
    return namespace(total).asarray(total / count if how.reduction == "mean" else total), sums


def two_views(
    world: World, how: How, a: Array, b: Array, rule: Rule, ignore: Array | None, *, add_views: bool, apart: bool
) -> tuple[Array, tuple[Array, ...]]:
    """Return a loss in which every row of both views is an anchor, and da, db and dτ."""
    xp, n, pairs = namespace(a), a.shape[0], sum(world.anchors)
    z, on_sphere = onto_sphere(xp.concat((a, b), axis=0), how)
    per_rank = [
        xp.concat(numbers)
        for numbers in zip(numbered(world.anchors, like=z), numbered(world.anchors, like=z, first=pairs), strict=True)
    ]
    own = per_rank[world.rank]  # (2n,) a's rows of all ranks come before b's
    positive = (own + pairs) % (2 * pairs)
    roles = roles_by_number(positive, ignore=ignore, itself=own, views=pairs if apart else None)
    factor = 2.0 if add_views and how.reduction == "mean" else 1.0
    walked = one_way(world, how, z, z, roles, rule, 2 * pairs, factor=factor, numbers=per_rank)
    value, dtemperature = totals(world, how, factor * walked.loss, walked.scalars, 2 * pairs)
    dz = off_sphere(walked.dz + walked.dother, on_sphere)
    return value, (dz[:n, :], dz[n:, :], *dtemperature)
