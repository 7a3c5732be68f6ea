"""Similarities -> the losses of the anchors, with the way back, as a recipe has it.

In:  similarities (A, T), the scalar, the roles, and the settings of the loss.
Out: the losses, a function from their gradients to ds and dscalar, and how rounding grows on the way.
A loss without exponentials is asked itself, with another matrix. All others are

    L = log(Σ_k exp(α s_k) + n Σ_p exp(α' s_p) + …) − the positives' α'' s_p

where each α, n and whatever else stands in the sum may be wrong.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refcl.losses.sig_lip import pairwise_sigmoid_backward, pairwise_sigmoid_forward
from refcl.losses.simple_loss import simple_contrastive_backward, simple_contrastive_forward
from refcl.losses.triplet import triplet_backward, triplet_forward
from refcl.oracle.recipe import ONE, OVER_TEMPERATURE, Recipe
from refcl.oracle.roles import Roles
from refcl.walk.penalty import softplus, weighted_softplus
from refcl.walk.pooling.hardest import hardest_negatives
from refcl.walk.pooling.reweighted import debias, reweighted_soft_maximum, weight_shortfall

# The losses that are asked themselves, by what stands inside or by their pool.
ASKED: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "apart": (pairwise_sigmoid_forward, pairwise_sigmoid_backward),
    "simple": (simple_contrastive_forward, simple_contrastive_backward),
    "triplet": (triplet_forward, triplet_backward),
}
ESTIMATED = ("reweighted", "model aware")  # what stands inside where the negatives are more than added up
MOST_LOST = 1e5  # past five digits it is no rounding any more but a finding


class Pooled(NamedTuple):
    loss: Any  # (A,) or (A, A) where every positive meets every denominator
    back: Callable[[Any], tuple[Any, float | None, float]]  # dloss -> ds (A, T), dscalar, the size of its terms
    sharpness: float  # how steep a loss is in one similarity
    condition: float  # by how much rounding is magnified: the greatest logit, and what is lost where terms cancel
    rest: Callable[[Any], dict[str, Any]] | None = None  # dloss -> the gradients of what else was given, by name


def pool(recipe: Recipe, s: Any, scalar: float | None, roles: Roles, settings: dict[str, Any]) -> Pooled:
    negatives = roles.negatives
    if recipe.pool in ("simple", "triplet") and recipe.in_denominator == 2:
        negatives = roles.candidates
    if recipe.hardest is not None:
        negatives = hardest_negatives(s, negatives, hardest=recipe.hardest)
    if recipe.choose is not None:
        negatives = recipe.choose(s, s[np.arange(len(s)), roles.positive][:, None], negatives)
    roles = roles._replace(negatives=negatives)
    if (recipe.inside or recipe.pool) in ASKED:
        return _asked(recipe, s, scalar, roles, settings)
    assert scalar is not None
    if recipe.twice is not None:
        return _twice(recipe, s, float(scalar), roles)
    return _exponentials(recipe, s, float(scalar), roles, settings)


def _asked(recipe: Recipe, s: Any, scalar: float | None, roles: Roles, settings: dict[str, Any]) -> Pooled:
    """Ask the loss of similarities itself: the positive has a column of its own, where it may be a negative too."""
    rows, last, alpha, slope = np.arange(len(s)), s.shape[1], 1.0, 0.0
    more: dict[str, Any] = {}
    forward, backward = ASKED[recipe.inside or recipe.pool]
    if recipe.inside == "apart" and scalar is not None:
        alpha, slope = recipe.scale.at(scalar), recipe.scale.slope(scalar)
        more = {"log_scale": np.asarray(0.0), "bias": np.asarray(settings["bias"])}
        largest = float(np.max(np.abs(np.where(roles.candidates, alpha * s, 0.0)), initial=0.0))
        steep, condition = abs(alpha), last * (1 + largest + abs(settings["bias"]))
    elif recipe.pool == "simple":
        more = {"weight": None if scalar is None else np.asarray(scalar)}
        most = int(np.max(np.sum(roles.negatives, axis=1), initial=1))
        steep = 1.0 if scalar is None else max(abs(scalar) * most, 1.0)
        condition = 1 + float(np.max(np.abs(s))) * steep
    else:
        more = {"margin": recipe.margin}
        steep, condition = 1.0, 1 + float(np.max(np.abs(s))) + recipe.margin
    m = alpha * np.concatenate([s, s[rows, roles.positive][:, None]], axis=1)  # (A, T + 1)
    ignore = np.concatenate([~roles.negatives, np.zeros((len(s), 1), dtype=bool)], axis=1)
    loss, cache = forward(m, positive=np.full(len(s), last), ignore=ignore, reduction="none", **more)

    def back(dloss: Any) -> tuple[Any, float | None, float]:
        dm, *others = backward(dloss, cache) if recipe.pool != "triplet" else (backward(dloss, cache),)
        ds = alpha * dm[:, :last]
        ds[rows, roles.positive] += alpha * dm[:, last]
        if recipe.pool == "simple":
            size = np.sum(np.abs(dloss) * np.sum(np.abs(np.where(roles.negatives, s, 0.0)), axis=1))
            return ds, float(others[0]), float(size)
        terms = slope * (dm[:, :last] * s)
        terms[rows, roles.positive] += slope * dm[:, last] * s[rows, roles.positive]
        return ds, float(np.sum(terms)) if recipe.inside == "apart" else None, float(np.sum(np.abs(terms)))

    return Pooled(loss, back, steep, condition)


def _twice(recipe: Recipe, s: Any, t: float, roles: Roles) -> Pooled:
    """Cross-entropy of the softmax's own output: probabilities taken for similarities."""
    first, second = (ONE, recipe.scale) if "late" in str(recipe.twice) else (recipe.scale, ONE)
    _, (p,) = log_sum([Column(first.at(t) * s, roles.candidates)])  # (A, T) 0 where masked
    kept = roles.candidates if "masked" in str(recipe.twice) else np.ones_like(roles.candidates)
    total, (q,) = log_sum([Column(second.at(t) * p, kept)])
    at = np.arange(len(s)), roles.positive

    def back(dloss: Any) -> tuple[Any, float | None, float]:
        dagain = q * dloss[:, None]
        dagain[at] -= dloss
        dp = second.at(t) * dagain
        dlogits = p * (dp - np.sum(p * dp, axis=1, keepdims=True))
        terms = first.slope(t) * dlogits * s, second.slope(t) * dagain * p
        return first.at(t) * dlogits, float(sum(map(np.sum, terms))), float(sum(np.sum(np.abs(x)) for x in terms))

    steep = first.at(t) * second.at(t)
    return Pooled(total - second.at(t) * p[at], back, steep, 1 + float(np.max(np.abs(s))) * steep)


class Column(NamedTuple):
    """One or more columns of logits, and which of them count."""

    logits: Any  # (A, T)
    counted: Any  # (A, T)
    sign: float = 1.0  # -1 where they are taken out of the sum


def log_sum(columns: list[Column]) -> tuple[Any, list[Any]]:
    """Return log Σ exp (A,), -inf where nothing counts, and the share of each logit in the sum."""
    tops = [np.max(np.where(c.counted, c.logits, -np.inf), axis=1, initial=-np.inf) for c in columns]
    top = np.where(np.isfinite(np.max(tops, axis=0)), np.max(tops, axis=0), 0.0)[:, None]  # (A, 1)
    exps = [c.sign * np.exp(np.where(c.counted, c.logits - top, -np.inf)) for c in columns]
    total = sum(np.sum(e, axis=1) for e in exps)  # (A,)
    return top[:, 0] + np.log(total), [e / np.where(total == 0, 1.0, total)[:, None] for e in exps]


class Scaled(NamedTuple):
    """Similarities times a scale, as they enter a loss in one role, and the gradient that comes back there."""

    logits: Any  # (R, T)
    s: Any  # (R, T)
    rows: Any  # (R,) whose anchor's similarities they are
    at: float
    slope: float


def _exponentials(recipe: Recipe, s: Any, t: float, roles: Roles, settings: dict[str, Any]) -> Pooled:
    """Walk from the numerators and the sums to the losses; in MACL every scale follows the mean of s_p."""
    anchors, supervised = len(s), recipe.inside == "supervised"
    outer = recipe.combine != "row by row"
    own, den = (np.indices((anchors, anchors)).reshape(2, -1)) if outer else (np.arange(anchors),) * 2
    growth, dgrowth = _growth(s, roles, settings)
    every, pos, num = (
        Scaled(scale.at(t) / growth * s[rows], s[rows], rows, scale.at(t) / growth, scale.slope(t) / growth)
        for scale, rows in zip(_scales(recipe), (den, own, own), strict=True)
    )
    positives = roles.positives[own]
    count = np.sum(positives, axis=1)  # (R,) P
    share = positives / np.maximum(count, 1)[:, None]
    # what is subtracted: the mean of the positives' logits, or that of their exponentials
    pulled, by_num = np.sum(np.where(positives, share * num.logits, 0.0), axis=1), share
    if supervised and recipe.form != "out":
        pulled, (by_num,) = log_sum([Column(num.logits, positives)])
        pulled = np.where(count > 0, pulled - (np.log(np.maximum(count, 1)) if recipe.form == "in" else 0.0), 0.0)
    weight, weighting = np.ones(anchors), None
    if "sigma" in settings:
        mass = len(roles.by_direction) if settings.get("normalizer") == "sum" else settings.get("mass")
        s_pos = s[np.arange(anchors), roles.positive]
        shortfall, weighting = weight_shortfall.forward(
            s_pos, sigma=settings["sigma"], mass=None if mass is None else float(mass)
        )
        weight = 1 - shortfall
    groups = _columns(recipe, t, roles, settings, every, pos)
    p = np.sum(np.where(positives, pos.logits, 0.0), axis=1)  # (R,) the positive's, where there is one
    below = _estimated(recipe, t, roles, settings, groups[0], p, den) if recipe.inside in ESTIMATED else _added(groups)
    counted = (count > 0) & np.any([np.any(c.counted, axis=1) for g in groups for c in g], axis=0)
    factor, dfactor = _factor(recipe, t, np.sum(roles.positives, axis=1), settings)
    plain = np.where(counted, below.value - weight[own] * pulled, 0.0)  # (R,)
    if recipe.in_log is not None:
        # the mean of -log(p + ε) over the positives: what it takes of each log p, both ways
        chance, eps = np.exp(weight[own][:, None] * num.logits - below.value[:, None]), recipe.in_log.eps  # (R, T)
        held = chance + eps if recipe.in_log.added else np.maximum(chance, eps)
        plain = np.where(counted, -np.sum(np.where(positives, share * np.log(held), 0.0), axis=1), 0.0)
        by_num = np.where(positives & (recipe.in_log.added | (chance > eps)), share * chance / held, 0.0)
    pushed = np.sum(by_num, axis=1)  # (R,) what the sum receives, 1 but for an ε
    shape = (anchors, anchors) if outer else (anchors,)

    def back(dloss: Any) -> tuple[Any, float | None, float]:
        d = np.where(counted, factor * dloss.ravel(), 0.0)  # (R,)
        dnum = -(d * weight[own])[:, None] * by_num
        dall, dpos, terms = np.zeros_like(every.s), np.zeros_like(pos.s), [dloss.ravel() * plain * dfactor]
        if "denominator" not in recipe.detached:
            parts, dp, of_floor = below.back(d * pushed)
            terms.append(of_floor)
            if recipe.extra is not None:
                terms.append(parts[-1].pop() * recipe.extra.slope(t))
            dall = sum(first for first, *_ in parts)
            dpos = sum(parts[0][1:], np.where(positives, dp[:, None], 0.0))
        ds, slow = np.zeros_like(s), 0.0
        for part, dlogits in ((every, dall), (pos, dpos), (num, dnum)):
            np.add.at(ds, part.rows, part.at * dlogits)
            slow -= float(np.sum(dlogits * part.logits)) / growth
        terms += [every.slope * dall * every.s, (pos.slope * dpos + num.slope * dnum) * pos.s]
        dpositive = np.full(anchors, slow * dgrowth / anchors)
        if weighting is not None and not settings["detach"]:
            dpositive += weight_shortfall.backward(np.bincount(own, d * pushed * pulled, anchors), weighting)
        ds[np.arange(anchors), roles.positive] += dpositive
        return ds, float(sum(np.sum(x) for x in terms)), float(sum(np.sum(np.abs(x)) for x in terms))

    beta = settings.get("beta", 0.0)
    steep = max(abs(part.at) for part in (every, pos, num)) * (1 + beta) * factor
    largest = [
        float(np.max(np.abs(np.where(who, x.logits, 0.0)), initial=0.0))
        for x, who in ((every, roles.candidates[den]), (pos, positives), (num, positives))
    ]
    lost = below.lost
    if recipe.embeddings and recipe.candidates == "all" and not supervised:
        # Whoever sums everything and then takes oneself out again loses what oneself is greater by.
        greater = max(float(np.max(np.max(every.logits, axis=1) - below.own)), 0.0)
        lost = max(lost, math.exp(greater) if greater < math.log(MOST_LOST) else 1.0)
    condition = (1 + (1 + beta) * max(largest)) * factor * lost
    return Pooled((factor * plain).reshape(shape), back, steep, condition)


def _scales(recipe: Recipe) -> tuple[Any, Any, Any]:
    """Return what all similarities, the positive's in the sum, and that in the numerator are multiplied by."""
    pos = recipe.scale_positive or recipe.scale
    return recipe.scale, pos, recipe.scale_numerator or pos


def _growth(s: Any, roles: Roles, settings: dict[str, Any]) -> tuple[float, float]:
    """Return τ over the temperature passed, and its derivative by the mean of the positives, 0 where it is detached."""
    alpha = settings.get("alpha")
    if alpha is None:
        return 1.0, 0.0
    excess = float(np.mean(s[np.arange(len(s)), roles.positive])) - settings["alignment"]
    power = settings["law"] == "power"
    growth = alpha**excess if power else 1.0 + alpha * excess
    slope = math.log(alpha) * growth if power else alpha
    return growth, 0.0 if settings["detach"] else slope


def _factor(recipe: Recipe, t: float, count: Any, settings: dict[str, Any]) -> tuple[float, float]:
    """Return the factor of several positives' losses, and its derivative by the temperature."""
    factor = 1.0
    if settings.get("no_positive") == "skip" and recipe.reduction == "mean":
        factor *= len(count) / max(int(np.sum(count > 0)), 1)
    base = settings.get("base_temperature")
    return (factor, 0.0) if base is None else (factor * t / base, factor / base)


class Sum(NamedTuple):
    """The logarithm of the sum that stands below."""

    value: Any  # (R,)
    own: Any  # (R,) the same of the first view's negatives alone, where each view has a logarithm
    lost: float  # how much rounding it magnifies
    back: Callable[[Any], tuple[list[list[Any]], Any, Any]]  # dvalue -> its columns', the positive's, the scalar's


def _columns(
    recipe: Recipe, t: float, roles: Roles, settings: dict[str, Any], every: Scaled, pos: Scaled
) -> list[list[Column]]:
    """Return what stands in each sum that has a logarithm: all logits, then the positives' and whatever else."""
    negatives, positives = roles.negatives[every.rows], roles.positives[pos.rows]
    # the losses that estimate their negatives add the first positive afterwards
    again = recipe.in_denominator - (recipe.inside in ESTIMATED and recipe.in_denominator > 0)
    more, apart = [Column(pos.logits, positives)] * again, settings.get("apart")
    if settings.get("negatives") == "by_view":
        n = len(roles.negatives[0]) // 2
        apart = (roles.rows[:, None] < n) == (np.arange(2 * n)[None, :] < n)
    groups = [[Column(every.logits, negatives), *more]]
    if apart is not None:
        near = np.asarray(apart)[every.rows]
        groups = [[Column(every.logits, negatives & ~near), *more], [Column(every.logits, negatives & near)]]
    if recipe.extra is not None:
        top = greatest(recipe, every.logits, roles, every.rows)
        term = np.broadcast_to(recipe.extra.logit(t, top), (len(top),))[:, None]  # (R, 1)
        groups[-1].append(Column(term, np.ones_like(term, dtype=bool), -1.0 if recipe.extra.subtracted(t) else 1.0))
    return groups


def greatest(recipe: Recipe, logits: Any, roles: Roles, rows: Any = slice(None)) -> Any:
    """Return the greatest logit of some anchors' candidates (R,), which an extra term may stand above."""
    who = roles.candidates[rows]
    if recipe.extra is not None and recipe.extra.above_itself:
        who = who | (np.arange(who.shape[1]) == roles.rows[rows][:, None])
    return np.max(np.where(who, logits, -np.inf), axis=1)


def _added(groups: list[list[Column]]) -> Sum:
    sums = [log_sum(g) for g in groups]

    def back(d: Any) -> tuple[list[list[Any]], Any, Any]:
        return [[d[:, None] * share for share in shares] for _, shares in sums], np.zeros_like(d), 0.0

    return Sum(sum(value for value, _ in sums), sums[0][0], 1.0, back)


def _estimated(
    recipe: Recipe, t: float, roles: Roles, settings: dict[str, Any], columns: list[Column], p: Any, rows: Any
) -> Sum:
    """Weigh the negatives, take out of them what positives add, and charge what is left: debiased, HCL, MACL."""
    beta, detach = settings.get("beta", 0.0), settings.get("detach", False)
    logits, mask = (np.concatenate([c[k] for c in columns], axis=1) for k in (0, 1))
    count = np.sum(mask, axis=1).astype(float)  # (R,) K
    if recipe.slip != "count what is there":
        count = np.sum(roles.negatives, axis=1)[rows] - float(recipe.itself)
    floored_at = OVER_TEMPERATURE if recipe.slip == "the floor is right" else recipe.scale
    gap, pooled = reweighted_soft_maximum.forward(p, logits, 1.0, negatives=mask, beta=beta, detach=detach)
    # the floor is K exp(−1/τ): the headroom above it 1/τ + s⁺/τ
    corrected, debiased = debias.forward(
        gap, p + floored_at.at(t) - 1.0, 1.0, count=count, tau_plus=settings.get("tau_plus", 0.0)
    )
    if recipe.inside == "model aware":
        charged, charge = weighted_softplus.forward(corrected, detach=detach)
        lost = math.exp(min(max(-float(np.min(corrected)), 0.0), 700.0))  # 1/(1 − P), written as it stands
    else:
        charged, charge = softplus.forward(corrected) if recipe.in_denominator else (corrected, None)
        lost = float(np.max(debiased.slope, initial=1.0))

    def back(d: Any) -> tuple[list[list[Any]], Any, Any]:
        dgap, dfloor, _ = debias.backward(d if charge is None else d * charge.slope, debiased)
        dabove, dlogits, _ = reweighted_soft_maximum.backward(dgap, pooled)
        parts = np.split(dlogits, np.cumsum([c.logits.shape[1] for c in columns])[:-1], axis=1)
        return [parts], d + dfloor + dabove, floored_at.slope(t) * dfloor

    return Sum(p + charged, p + np.logaddexp(gap, 0.0), lost if lost < MOST_LOST else 1.0, back)
