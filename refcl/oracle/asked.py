"""The recipe that a loss's name and its settings ask for.

In:  the name of a public loss, its pair and its settings.
Out: a `Recipe`.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from refcl.core.agreement import Call
from refcl.core.arguments import choice
from refcl.core.pair import AnyPair
from refcl.oracle.companions import OPTIONAL
from refcl.oracle.constants import Named, scale_named
from refcl.oracle.questions import row_of
from refcl.oracle.recipe import EXP_LOG_SCALE, OVER_TEMPERATURE, Recipe, places

SCALARS = ("temperature", "log_scale", "weight")
# Settings of the softmax losses that free them as the arrays do that a call may leave out.
FREEDOMS = ("label_smoothing", "margin", "angular_margin")


def scalar_of(loss: str, pair: AnyPair) -> str | None:
    return None if row_of(loss).all_arrays else next((a for a in pair.arguments if a in SCALARS), None)


def given_of(loss: str, pair: AnyPair, given: tuple[str, ...], settings: dict[str, Any], ranks: int) -> tuple[str, ...]:
    """Return the arrays that are given of those that a call may leave out, in the order of the loss's arguments."""
    names = (given,) if isinstance(given, str) else tuple(given)
    optional = [a for a in pair.arguments if a in OPTIONAL]
    for name in names:
        if name not in optional:
            raise ValueError(f"check: given: {loss} has no {name!r}; it has {', '.join(optional) or 'none'}.")
    found = tuple(a for a in optional if a in names or settings.get(a) is not None)
    if found and ranks > 1:
        raise ValueError(f"check: given: {found[0]} is not judged over ranks.")
    if "targets" in found:
        of_one = ("positive", "margin", "angular_margin")
        beside = next((name for name in of_one if np.any(settings.get(name, 0))), None)
        if beside:
            raise ValueError(f"check: {loss} takes targets or {beside}, not both.")
    return found


def base_of(loss: str, pair: AnyPair, settings: dict[str, Any], given: tuple[str, ...] = ()) -> Recipe:
    """Return the recipe of a loss: what its signature tells, and its row."""
    scalar, row = scalar_of(loss, pair), row_of(loss)
    recipe = Recipe(
        embeddings=pair.arguments[0] != "s",
        single=pair.arguments[0] in ("s", "z"),
        anchors="both" if pair.arguments[0] in ("a", "image") else "first",
        pool="pair",
        inside=row.inside,
        scalar=scalar,
        scale=EXP_LOG_SCALE if scalar == "log_scale" else OVER_TEMPERATURE,
    )
    recipe = replace(recipe, **row.recipe)
    if "label_smoothing" in pair.settings and (given or any(settings.get(name) for name in FREEDOMS)):
        form = "targets" if "targets" in given else recipe.form
        freedoms = frozenset((*given, *(name for name in FREEDOMS if settings.get(name))))
        return replace(recipe, pool="pair", inside="freed", form=form, freedoms=freedoms)
    if settings.get("candidates") == "other_view":
        recipe = replace(recipe, anchors="first", candidates="other")
    return replace(recipe, form=settings.get("form", "out")) if row.inside == "supervised" else recipe


def recipe_of(
    loss: str,
    pair: AnyPair,
    settings: dict[str, Any],
    direction: str | None,
    positive_in_denominator: bool,
    detached: tuple[str, ...],
    inputs: tuple[str, ...],
    ranks: int,
    given: tuple[str, ...] = (),
) -> Recipe:
    recipe = base_of(loss, pair, settings, given)
    if direction is not None:
        if not recipe.embeddings or recipe.pool == "pair" or direction not in ("first", "second", "both"):
            raise ValueError(f'check: direction must be "first", "second" or "both", of embeddings; got {direction!r}.')
        recipe = replace(recipe, anchors=direction)
    if not positive_in_denominator:
        if recipe.pool != "softmax":
            raise ValueError(
                f"check: positive_in_denominator is for losses with one softmax an anchor, not for {loss}."
            )
        recipe = replace(recipe, in_denominator=0)
    place_of = dict(zip(inputs, places(len(inputs)), strict=True))
    for name in detached:
        if name not in (*place_of, "candidates", "denominator"):
            known = ", ".join((*place_of, "candidates", "denominator"))
            raise ValueError(f"check: detached: {loss} has no {name!r}; it has {known}.")
    reduction = choice("mean", "sum", "none")(
        Call("check", None, None, {}), "reduction", settings.get("reduction", "mean")
    )
    return replace(
        recipe,
        detached=frozenset(place_of.get(name, name) for name in detached),
        reduction=reduction,
        normalization="rows" if "normalize" in pair.settings and settings.get("normalize", True) else "none",
        eps=settings.get("eps", 1e-12),
        hardest=settings.get("hardest"),
        margin=settings.get("margin", 0.0),
        ranks=ranks,
    )


def factor_of(scale: float | str | None) -> Named | None:
    if scale is None:
        return None
    if isinstance(scale, str):
        return scale_named(scale)
    number = float(scale)
    return Named(f"{number:g}", lambda facts: number)
