"""Any number of positives: SupCon, outside the logarithm and inside.

In:  similarities (A, T), the labels or the mask of positives, and a recipe.
Out: the losses of the anchors, and the way back.
"""

from typing import Any

import numpy as np

from refcl.oracle.descendants.sums import Column, LogSum, everywhere
from refcl.oracle.pools import Pooled, greatest
from refcl.oracle.recipe import Recipe
from refcl.oracle.roles import Roles


def pool_supervised(recipe: Recipe, s: Any, t: float, roles: Roles, settings: dict[str, Any]) -> Pooled:
    """L = log(Σ_k exp(α s_k) + Σ_p exp(α' s_p) + …) − mean_p α'' s_p, or − log mean_p (or Σ_p) exp(α'' s_p)."""
    positives, negatives = _who(recipe, s, settings)
    alpha = recipe.scale
    alpha_pos = recipe.scale_positive or alpha
    alpha_num = recipe.scale_numerator or alpha_pos
    logits, logits_pos, logits_num = alpha.at(t) * s, alpha_pos.at(t) * s, alpha_num.at(t) * s
    count = np.sum(positives, axis=1)  # (A,) P
    share = positives / np.maximum(count, 1)[:, None]  # (A, T)
    columns = [Column(logits, negatives), *[Column(logits_pos, positives)] * recipe.in_denominator]
    less = None
    if recipe.extra is not None:
        term = np.broadcast_to(recipe.extra.logit(t, greatest(recipe, logits, roles)), (len(s),))  # (A,)
        if recipe.extra.subtracted(t):
            less = term
        else:
            columns.append(everywhere(term))
    above = np.max(np.where(positives, logits_pos, -np.inf), axis=1, initial=-np.inf)
    above = np.where(count > 0, above, 0.0)
    below = LogSum(above, columns, less=less)
    inside = recipe.form != "out"
    averaged = np.log(np.maximum(count, 1)) if recipe.form == "in" else 0.0  # (A,)
    within = LogSum(np.zeros(len(s)), [Column(logits_num, positives)])
    pulled = within.value - averaged if inside else np.sum(share * logits_num, axis=1)
    counted = (count > 0) & below.occupied
    factor = _factor(recipe, t, count, settings)
    plain = np.where(counted, below.value + above - np.where(counted, pulled, 0.0), 0.0)  # (A,)

    def back(dloss: Any) -> tuple[Any, float | None, float]:
        d = np.where(counted, factor * dloss, 0.0)  # (A,)
        if inside:
            _, (dnum,), _ = within.back(-d)
        else:
            dnum = -d[:, None] * share
        dlogits, dpos, dterm = np.zeros_like(s), np.zeros_like(s), np.zeros(len(s))
        if "denominator" not in recipe.detached:
            # the reference is subtracted and added again: what it receives cancels
            _, columns, dterm = below.back(d)
            dlogits = columns[0]
            dpos = np.sum(columns[1 : 1 + recipe.in_denominator], axis=0) if recipe.in_denominator else dpos
            rest = columns[1 + recipe.in_denominator :]
            dterm = rest[0][:, 0] if rest else dterm
        ds = alpha.at(t) * dlogits + alpha_pos.at(t) * dpos + alpha_num.at(t) * dnum
        terms = [(alpha.slope(t) * dlogits + alpha_pos.slope(t) * dpos + alpha_num.slope(t) * dnum) * s]
        if recipe.extra is not None:
            terms.append(recipe.extra.slope(t) * dterm)
        if settings.get("base_temperature") is not None:
            terms.append(dloss * factor * plain / t)  # the product rule's other half: the factor is τ/τ_base
        return ds, float(sum(np.sum(x) for x in terms)), float(sum(np.sum(np.abs(x)) for x in terms))

    steep = max(abs(a.at(t)) for a in (alpha, alpha_pos, alpha_num)) * float(np.max(factor))
    largest = float(np.max(np.abs(np.where(positives | negatives, np.maximum(abs(logits), abs(logits_num)), 0.0))))
    return Pooled(factor * plain, back, steep, (1 + largest) * float(np.max(factor)))


def _who(recipe: Recipe, s: Any, settings: dict[str, Any]) -> tuple[Any, Any]:
    """Return the masks of positives and of negatives (A, T)."""
    ignored = np.zeros(s.shape, dtype=bool) if settings.get("ignore") is None else np.asarray(settings["ignore"])
    if not recipe.embeddings:
        positives = np.asarray(settings["positives"])
        return positives, ~(positives | ignored)
    labels = np.asarray(settings["labels"])
    itself = np.eye(len(labels), dtype=bool)
    positives = labels[:, None] == labels[None, :]
    if recipe.slip != "oneself is a positive":
        positives = positives & ~itself
    negatives = ~(positives | ignored)
    return positives, negatives | itself & ~positives if recipe.itself else negatives & ~itself


def _factor(recipe: Recipe, t: float, count: Any, settings: dict[str, Any]) -> float:
    factor = 1.0
    if settings.get("no_positive") == "skip" and recipe.reduction == "mean":
        factor *= len(count) / max(int(np.sum(count > 0)), 1)
    base = settings.get("base_temperature")
    return factor if base is None else factor * t / base
