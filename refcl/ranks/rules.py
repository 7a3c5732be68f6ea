"""What a block of candidates adds to each anchor's loss, and how the parts of all blocks are put together.

In:  similarities ``s`` (n, m) of some anchors to a block's candidates.
Out: maxima and sums of the block, the loss from those of all blocks, and then ds (n, m).

The soft maximum of blocks is the soft maximum of their soft maxima: the walk's own room, with blocks for candidates.
What every single similarity goes through is written here once more, in place, since the rooms make a dozen arrays of a
block's size. A block's pool is measured from its own highest entry, which is all that can be known of it then; what is
moved from there to the positive is a difference of similarities, as everywhere.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from refcl.core.arrays import Array, constant, namespace, ones, row_dots
from refcl.ranks.walk import Pushed, Roles, Rule
from refcl.walk.pairing import PairingCache, pairing_backward
from refcl.walk.penalty import (
    SoftplusCache,
    identity_forward,
    pair_softplus_backward,
    pair_softplus_forward,
    softplus_backward,
    softplus_forward,
)
from refcl.walk.pooling.pair_logits import pair_logits_backward, pair_logits_forward
from refcl.walk.pooling.several_positives import SpreadCache, spread_backward
from refcl.walk.pooling.soft_maximum import soft_maximum_forward


class Pool(NamedTuple):
    """The soft maximum of some entries of each row; −inf twice where there are none."""

    highest: Array  # (n,) the greatest of them
    above: Array  # (n,) log Σ exp((s − highest)/τ) >= 0


def pooled(s: Array, counted: Array, temperature: Array) -> Pool:
    """Pool the entries that count, measured from the highest of them."""
    xp = namespace(s)
    e = xp.where(counted, s, constant(-xp.inf, like=s))  # (n, m)
    highest = xp.max(e, axis=1)  # (n,)
    e -= _or_zero(highest)[:, None]
    e /= temperature
    total = xp.sum(xp.exp(e, out=e), axis=1)  # (n,) at least 1, the highest's own term
    occupied = highest != -xp.inf
    return Pool(highest, xp.where(occupied, xp.log(xp.where(occupied, total, 1.0)), -xp.inf))


def merged_pool(pools: list[Pool], temperature: Array) -> Pool:
    """Return the pool of all entries: the soft maximum of the soft maxima, in nats already and so at τ = 1."""
    xp = namespace(pools[0].above)
    highest = xp.max(xp.stack([pool.highest for pool in pools]), axis=0)
    terms = xp.stack([measured(pool, _or_zero(highest), temperature) for pool in pools], axis=1)  # (n, blocks)
    one = ones((), like=terms)
    above, _ = soft_maximum_forward(xp.zeros_like(highest), terms, one, negatives=terms != -xp.inf)
    return Pool(highest, above)


def measured(pool: Pool, reference: Array, temperature: Array) -> Array:
    """Return log Σ exp((s − reference)/τ) (n,)."""
    return pool.above + (pool.highest - reference) / temperature


def pushed(
    dgap: Array, reference: Array, pool: Pool, s: Array, counted: Array, temperature: Array
) -> tuple[Array, Array]:
    """Return a block's ds (n, m) and dτ () of a push on log Σ exp((s − reference)/τ), a ``pool`` of all blocks.

    An entry gets dgap r/τ, where r = exp((s − highest)/τ − above) is its relative penalty among those of all blocks.
    """
    xp = namespace(s)
    highest = _or_zero(pool.highest)  # (n,)
    d = s - highest[:, None]  # (n, m) <= 0 where it counts
    r = d / temperature
    r -= _or_zero(pool.above)[:, None]
    xp.copyto(r, -xp.inf, where=~counted)
    xp.exp(r, out=r)  # (n, m) rows of all blocks sum to 1
    share = dgap / temperature  # (n,)
    mean_difference = row_dots(r, d) + xp.sum(r, axis=1) * (highest - reference)  # (n,) this block's part of E_r[Δ]
    r *= share[:, None]
    return r, xp.asarray(-xp.sum(share * mean_difference) / temperature)


def _or_zero(x: Array) -> Array:
    """Return what there is, and 0 in place of the −inf of what is empty."""
    xp = namespace(x)
    return xp.where(x == -xp.inf, constant(0.0, like=x), x)


class NegativesSeen(NamedTuple):
    s_pos: Array  # (n,) 0 where the positive is elsewhere
    highest: Array  # (n,) of the negatives
    above: Array  # (n,)
    highest_apart: Array  # (n,) of the second pool, −inf where there is none
    above_apart: Array  # (n,)


class OnePositiveKnown(NamedTuple):
    s_pos: Array  # (n,)
    highest: Array  # (n,) of the negatives of all blocks
    above: Array  # (n,)
    highest_apart: Array  # (n,)
    above_apart: Array  # (n,)
    slope: Array  # (n,) of the penalty; 0 where a pool that there should be is empty


def one_positive(temperature: Array, *, decoupled: bool = False, two_pools: bool = False) -> Rule:
    """Return the rule of the softmax contrastive loss or, with the gap itself as the penalty, of the decoupled one."""

    def look(s: Array, roles: Roles) -> NegativesSeen:
        xp = namespace(s)
        s_pos = xp.sum(xp.where(roles.positives, s, constant(0.0, like=s)), axis=1)
        if roles.apart is None:
            nothing = xp.full_like(s_pos, -xp.inf)
            return NegativesSeen(s_pos, *pooled(s, roles.negatives, temperature), nothing, nothing)
        first, second = roles.negatives & ~roles.apart, roles.negatives & roles.apart
        return NegativesSeen(s_pos, *pooled(s, first, temperature), *pooled(s, second, temperature))

    def merged(parts: list[NegativesSeen]) -> NegativesSeen:
        xp = namespace(parts[0].s_pos)
        first = merged_pool([Pool(p.highest, p.above) for p in parts], temperature)
        second = merged_pool([Pool(p.highest_apart, p.above_apart) for p in parts], temperature)
        return NegativesSeen(xp.sum(xp.stack([p.s_pos for p in parts]), axis=0), *first, *second)

    def charge(seen: NegativesSeen) -> tuple[Array, OnePositiveKnown]:
        xp = namespace(seen.s_pos)
        gap = measured(Pool(seen.highest, seen.above), seen.s_pos, temperature)
        if not decoupled:
            loss, (slope,) = softplus_forward(gap)
            return loss, OnePositiveKnown(*seen, slope)
        if two_pools:
            gap = gap + measured(Pool(seen.highest_apart, seen.above_apart), xp.zeros_like(gap), temperature)
        occupied = gap != -xp.inf
        zero = constant(0.0, like=gap)
        loss, _ = identity_forward(xp.where(occupied, gap, zero))
        return loss, OnePositiveKnown(*seen, xp.where(occupied, loss - loss + 1, zero))  # 1, and NaN where the gap is

    def push(dloss: Array, s: Array, roles: Roles, known: OnePositiveKnown) -> Pushed:
        xp = namespace(s)
        dgap = softplus_backward(dloss, SoftplusCache(known.slope))
        pools = Pool(known.highest, known.above), Pool(known.highest_apart, known.above_apart)
        first = roles.negatives if roles.apart is None else roles.negatives & ~roles.apart
        ds, dtemperature = pushed(dgap, known.s_pos, pools[0], s, first, temperature)
        if roles.apart is not None:
            second = roles.negatives & roles.apart
            more, dtau_more = pushed(dgap, xp.zeros_like(dgap), pools[1], s, second, temperature)
            ds, dtemperature = ds + more, dtemperature + dtau_more
        # by as much as the negatives of all blocks are pushed
        xp.copyto(ds, (-dgap / temperature)[:, None], where=roles.positives)
        return Pushed(ds, (dtemperature,))

    return Rule(look, merged, charge, push, scalars=1)


class PositivesSeen(NamedTuple):
    highest: Array  # (n,) of the negatives
    above: Array  # (n,)
    nearest: Array  # (n,) highest of the positives
    within: Array  # (n,) their pool above it
    count: Array  # (n,) P
    fall: Array  # (n,) Σ_p (s_p − nearest) <= 0
    less: Array  # (n,) Σ_p expm1((s_p − nearest)/τ) <= 0


class SeveralPositivesKnown(NamedTuple):
    highest: Array  # (n,)
    above: Array  # (n,)
    nearest: Array  # (n,)
    within: Array  # (n,)
    contested: Array  # (n,) False where a row has no positives or no negatives
    slope: Array  # (n,)
    mean_less: Array  # (n,)


def several_positives(temperature: Array, *, form: str) -> Rule:
    """Return the rule of the supervised contrastive loss, in any form."""

    def look(s: Array, roles: Roles) -> PositivesSeen:
        xp = namespace(s)
        zero, one = constant(0.0, like=s), constant(1.0, like=s)
        positives = pooled(s, roles.positives, temperature)
        d = xp.where(roles.positives, s - _or_zero(positives.highest)[:, None], zero)  # (n, m) <= 0
        sums = (xp.where(roles.positives, one, zero), d, xp.expm1(d / temperature))
        return PositivesSeen(
            *pooled(s, roles.negatives, temperature), *positives, *(xp.sum(each, axis=1) for each in sums)
        )

    def merged(parts: list[PositivesSeen]) -> PositivesSeen:
        xp = namespace(parts[0].count)
        negatives = merged_pool([Pool(p.highest, p.above) for p in parts], temperature)
        positives = merged_pool([Pool(p.nearest, p.within) for p in parts], temperature)
        zero = constant(0.0, like=parts[0].count)
        count, fall, less = [], [], []
        for p in parts:  # moved from a block's nearest positive to the nearest of all: no term changes its sign
            lower = xp.where(p.count > 0, _or_zero(p.nearest) - _or_zero(positives.highest), zero)  # (n,) <= 0
            shrunk = xp.expm1(lower / temperature)
            count.append(p.count)
            fall.append(p.fall + p.count * lower)
            less.append(p.less * (1 + shrunk) + p.count * shrunk)
        sums = (xp.sum(xp.stack(each), axis=0) for each in (count, fall, less))
        return PositivesSeen(*negatives, *positives, *sums)

    def charge(seen: PositivesSeen) -> tuple[Array, SeveralPositivesKnown]:
        xp = namespace(seen.count)
        one = constant(1.0, like=seen.count)
        nearest, within = _or_zero(seen.nearest), _or_zero(seen.within)
        above = measured(Pool(seen.highest, seen.above), nearest, temperature)
        contested = (seen.count > 0) & (above != -xp.inf)
        loss, (slope,) = softplus_forward(xp.where(contested, above - within, constant(-xp.inf, like=above)))
        count = xp.maximum(seen.count, one)
        if form != "sum":
            loss = loss + (within - seen.fall / count / temperature if form == "out" else xp.log(count))
        return loss, SeveralPositivesKnown(*seen[:2], nearest, within, contested, slope, seen.less / count)

    def push(dloss: Array, s: Array, roles: Roles, known: SeveralPositivesKnown) -> Pushed:
        xp = namespace(s)
        zero = constant(0.0, like=s)
        dgap = xp.where(known.contested, softplus_backward(dloss, SoftplusCache(known.slope)), zero)
        negatives, positives = Pool(known.highest, known.above), Pool(known.nearest, known.within)
        ds_neg, dtau_neg = pushed(dgap, known.nearest, negatives, s, roles.negatives, temperature)
        ds_pos, dtau_pos = pushed(-dgap, known.nearest, positives, s, roles.positives, temperature)
        ds, dtemperature = ds_neg + ds_pos, dtau_neg + dtau_pos
        if form == "out":  # the block's part of the spread: q_p − 1/P as in `spread`, with sums over all blocks
            d = xp.where(roles.positives, s - known.nearest[:, None], zero)
            excess = (xp.expm1(d / temperature) - known.mean_less[:, None]) / xp.exp(known.within)[:, None]
            excess = xp.where(roles.positives, excess, zero)
            cache = SpreadCache(excess, xp.sum(excess * d, axis=1), temperature)
            ds_spread, dtau_spread = spread_backward(dloss, cache)
            ds, dtemperature = ds + ds_spread, dtemperature + dtau_spread
        return Pushed(ds, (xp.asarray(dtemperature),))

    return Rule(look, merged, charge, push, scalars=1)


def every_pair(scale: Array, bias: Array) -> Rule:
    """Return the rule of the pairwise sigmoid: no pair sees another, so one round has loss and gradient."""

    def push(dloss: Array, s: Array, roles: Roles, known: Any) -> Pushed:
        xp = namespace(s)
        zero, nothing = constant(0.0, like=s), constant(-xp.inf, like=s)
        s_pos = xp.sum(xp.where(roles.positives, s, zero), axis=1)
        (gap_pos, gap_neg), logits = pair_logits_forward(s_pos, s, scale, bias, negatives=roles.negatives)
        gap_pos = xp.where(xp.any(roles.positives, axis=1), gap_pos, nothing)  # it may be in another block
        loss, penalty = pair_softplus_forward(gap_pos, gap_neg)
        ds_pos, ds_neg, dscale, dbias = pair_logits_backward(*pair_softplus_backward(dloss, penalty), logits)
        return Pushed(pairing_backward(ds_pos, ds_neg, PairingCache(*roles[:2])), (dscale, dbias), loss)

    return Rule(None, _nothing, _nothing, push, scalars=2)


def _nothing(_: Any) -> Any:
    raise AssertionError("a rule that looks at nothing has nothing to put together")


RolesOf = Callable[[slice, Array], Roles]


def roles_by_number(
    positive: Array, *, ignore: Array | None, itself: Array | None, views: int | None = None
) -> RolesOf:
    """Return who is what where each anchor has the number of its positive, and perhaps one of its own as a candidate.

    ``views`` is the number of rows of a view where an anchor's own view is a pool apart.
    """

    def of(rows: slice, numbers: Array) -> Roles:
        positives = positive[rows, None] == numbers[None, :]
        others = ~positives
        if itself is not None:
            others = others & (itself[rows, None] != numbers[None, :])
        if ignore is not None:
            others = others & ~_columns(ignore[rows], numbers)
        if views is None or itself is None:
            return Roles(positives, others)
        return Roles(positives, others, itself[rows, None] // views == numbers[None, :] // views)

    return of


def roles_by_label(own: Array, everyone: Array, *, itself: Array, ignore: Array | None) -> RolesOf:
    """Return who is what where all other rows of an anchor's label are its positives."""

    def of(rows: slice, numbers: Array) -> Roles:
        others = itself[rows, None] != numbers[None, :]
        alike = own[rows, None] == everyone[numbers][None, :]
        negatives = others & ~alike
        if ignore is not None:
            negatives = negatives & ~_columns(ignore[rows], numbers)
        return Roles(alike & others, negatives)

    return of


def _columns(mask: Array, numbers: Array) -> Array:
    return namespace(mask).take(mask, numbers, axis=1)
