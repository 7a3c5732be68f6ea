"""Which losses have rooms of their own here, and the recipe that each starts from.

In:  the name of a loss and its settings.
Out: the choices that its recipe makes differently from InfoNCE's, and the pool for `evaluate.evaluate`.
"""

from typing import Any

import numpy as np

from refcl.oracle.descendants.apart import pool_apart
from refcl.oracle.descendants.gap import Gap, pool_gap
from refcl.oracle.descendants.supervised import pool_supervised
from refcl.oracle.pools import Pool
from refcl.oracle.recipe import Recipe
from refcl.oracle.roles import Roles

# The kind of rooms by the loss's name; "decoupled" leaves the positive out of the denominator.
KINDS = {
    "decoupled_contrastive": "decoupled",
    "weighted_decoupled_contrastive": "decoupled",
    "dcl": "decoupled",
    "dclw": "decoupled",
    "reweighted_contrastive": "reweighted",
    "debiased": "reweighted",
    "hcl": "reweighted",
    "model_aware_contrastive": "model aware",
    "macl": "model aware",
    "supervised_contrastive": "supervised",
    "sup_con": "supervised",
    "sig_lip": "apart",
    "align_uniform": "uniform",
}
TWO_VIEWS = ("dcl", "dclw", "debiased", "hcl", "macl")


def inner_choices(loss: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the recipe that a loss with rooms of its own sets; none for another."""
    kind = KINDS.get(loss)
    if kind is None:
        return {}
    found: dict[str, Any] = {"inside": kind}
    if kind == "supervised":
        found["form"] = settings.get("form", "out")
    if kind == "decoupled":
        found["in_denominator"] = 0
    if loss in TWO_VIEWS and settings.get("candidates") != "other_view":
        found |= {"anchors": "both", "candidates": "all"}
    elif loss == "sup_con":
        found["candidates"] = "all"
    elif loss != "align_uniform":
        found["anchors"] = "first"
    return found


def pool_of(loss: str, settings: dict[str, Any], more_scalars: tuple[float, ...]) -> Pool:
    """Return the rooms of a loss between similarities and the losses of its anchors."""
    kind = KINDS[loss]
    if kind == "supervised":
        return lambda recipe, s, t, roles: pool_supervised(recipe, s, float(t or 0.0), roles, settings)
    if kind == "apart":
        return lambda recipe, s, t, roles: pool_apart(recipe, s, float(t or 0.0), roles, more_scalars[0])
    return lambda recipe, s, t, roles: pool_gap(recipe, s, float(t or 0.0), roles, _gap(loss, recipe, roles, settings))


def _gap(loss: str, recipe: Recipe, roles: Roles, settings: dict[str, Any]) -> Gap:
    factor = 2.0 if settings.get("add_views") and recipe.reduction == "mean" else 1.0
    apart = settings.get("apart")
    if settings.get("negatives") == "by_view":
        n = len(roles.negatives[0]) // 2
        apart = (roles.rows[:, None] < n) == (np.arange(2 * n)[None, :] < n)
    weighted = loss in ("dclw", "weighted_decoupled_contrastive")
    return Gap(
        factor=factor,
        apart=apart,
        tau_plus=settings.get("tau_plus", 0.0),
        beta=settings.get("beta", 0.0),
        detach=settings.get("detach", recipe.inside == "model aware"),
        sigma=settings.get("sigma", 0.5) if weighted else None,
        mass=_mass(loss, roles, settings),
        alpha=settings.get("alpha", 0.5) if recipe.inside == "model aware" else 0.0,
        alignment=settings.get("alignment", 0.0),
    )


def _mass(loss: str, roles: Roles, settings: dict[str, Any]) -> float | None:
    if loss == "dclw" and settings.get("normalizer") == "sum":
        return float(len(roles.by_direction))  # a pair stands once in each direction
    mass = settings.get("mass")
    return None if mass is None else float(mass)
