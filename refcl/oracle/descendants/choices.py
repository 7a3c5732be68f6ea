"""The rooms between similarities and the losses of the anchors, by what stands there.

In:  a loss's row and its settings.
Out: the pool for `evaluate.evaluate`.
"""

from typing import Any

import numpy as np

from refcl.oracle.descendants.apart import pool_apart
from refcl.oracle.descendants.freed import pool_freed
from refcl.oracle.descendants.gap import Gap, pool_gap
from refcl.oracle.descendants.supervised import pool_supervised
from refcl.oracle.pools import Pool
from refcl.oracle.questions import Row, row_of
from refcl.oracle.recipe import Recipe
from refcl.oracle.roles import Roles


def pool_of(loss: str, inside: str | None, settings: dict[str, Any], more_scalars: tuple[float, ...]) -> Pool:
    """Return the rooms of a loss between similarities and the losses of its anchors."""
    row = row_of(loss)
    if inside == "freed":
        return lambda recipe, s, t, roles: pool_freed(recipe, s, float(t or 0.0), roles, settings)
    if row.inside == "supervised":
        return lambda recipe, s, t, roles: pool_supervised(recipe, s, float(t or 0.0), roles, settings)
    if row.inside == "apart":
        return lambda recipe, s, t, roles: pool_apart(recipe, s, float(t or 0.0), roles, more_scalars[0])
    return lambda recipe, s, t, roles: pool_gap(recipe, s, float(t or 0.0), roles, _gap(row, recipe, roles, settings))


def _gap(row: Row, recipe: Recipe, roles: Roles, settings: dict[str, Any]) -> Gap:
    apart, mass = settings.get("apart"), settings.get("mass")
    if settings.get("negatives") == "by_view":
        n = len(roles.negatives[0]) // 2
        apart = (roles.rows[:, None] < n) == (np.arange(2 * n)[None, :] < n)
    if settings.get("normalizer") == "sum":
        mass = len(roles.by_direction)  # a pair stands once in each direction
    return Gap(
        factor=2.0 if settings.get("add_views") and recipe.reduction == "mean" else 1.0,
        apart=apart,
        tau_plus=settings.get("tau_plus", 0.0),
        beta=settings.get("beta", 0.0),
        detach=settings.get("detach", recipe.inside == "model aware"),
        sigma=settings.get("sigma", 0.5) if row.weighted else None,
        mass=None if mass is None else float(mass),
        alpha=settings.get("alpha", 0.5) if recipe.inside == "model aware" else 0.0,
        alignment=settings.get("alignment", 0.0),
    )
