"""What a loss's name and its settings ask for: its pair, its recipe, what must be given.

In:  the name of a public loss and its settings.
Out: a pair, a `Recipe`, names; or a sentence that says what is not there.
"""

import inspect
import math
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from typing import Any

import numpy as np

import refcl.losses
from refcl.core.agreement import Call
from refcl.core.arguments import choice
from refcl.core.pair import AnyPair, Pair
from refcl.oracle.companions import OPTIONAL
from refcl.oracle.constants import Named, scale_named
from refcl.oracle.flat import VIEWS, flat
from refcl.oracle.questions import row_of
from refcl.oracle.recipe import EXP_LOG_SCALE, OVER_TEMPERATURE, Recipe, places

SCALARS = ("temperature", "log_scale", "weight")
# Settings of the softmax losses that free them as the arrays do that a call may leave out.
FREEDOMS = ("label_smoothing", "margin", "angular_margin")


# What others call a loss.
ALSO_CALLED = {
    "simclr": "nt_xent",
    "ntxent": "nt_xent",
    "nce_loss": "nce",
    "infonce": "info_nce",
    "ntxentloss": "nt_xent",
    "supcon": "sup_con",
    "supconloss": "sup_con",
    "siglip": "sig_lip",
    "contrastive": "pair_contrastive",
    "contrastive_loss": "pair_contrastive",
    "mil_nce": "multi_positive",
    "milnce": "multi_positive",
    "tripletmargin": "triplet_margin",
    "wang_isola": "align_uniform",
}
# What others call a setting, and what to say here.
INSTEAD = {
    "tau": "temperature=",
    "temp": "temperature=",
    "logit_scale": "log_scale=",
    "world_size": "world(…, ranks=…)",
    "num_ranks": "world(…, ranks=…)",
    "average": "world(…, averaged=…)",
    "framework": "check(from_torch(candidate), …) or check(from_jax(candidate), …)",
    "batch_size": "shape=(N, D)",
    "dim": "shape=(N, D)",
}


def unknown_setting(loss: str, name: str, known: list[str]) -> TypeError:
    """Return the error that says what there is instead of a setting."""
    near = [f"{x}=" for x in get_close_matches(name, known, n=1, cutoff=0.75)]
    instead = INSTEAD.get(name, *near or [""])
    hint = f"say {instead}." if instead else f"it has {', '.join(known)}."
    return TypeError(f"check: {loss} has no setting {name!r}; {hint}")


def ask_temperature(temperature: Any) -> None:
    """Refuse what is no temperature before anything is divided by it."""
    if isinstance(temperature, str | bool) or np.ndim(temperature):
        raise TypeError(f"check: temperature must be a number, got {type(temperature).__name__}.")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"check: temperature must be > 0 and finite, got {temperature}.")


def pair_of(loss: str, views: int | None) -> AnyPair:
    """Return the pair of a loss by its name, with an argument for each view where it takes a tuple of them."""
    if not isinstance(loss, str):
        raise TypeError(f'check: loss must be a name such as "info_nce", got {type(loss).__name__}.')
    pair = getattr(refcl.losses, loss, None)
    known = [name for name in refcl.losses.__all__ if isinstance(getattr(refcl.losses, name), Pair)]
    if not isinstance(pair, Pair):
        said = loss.lower().replace("-", "_")
        near = [ALSO_CALLED[said]] if said in ALSO_CALLED else get_close_matches(said, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}."
        raise ValueError(f"check: no loss is called {loss!r}; {hint}")
    if row_of(loss).in_a_tuple:
        return flat(pair, VIEWS if views is None else views)
    if views is not None:
        raise TypeError(f"check: {loss} has no setting 'views'; it is for losses of any number of views.")
    return pair


@cache
def defaults_of(pair: AnyPair) -> dict[str, Any]:
    parameters = inspect.signature(pair).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}


def required_of(pair: AnyPair) -> list[str]:
    parameters = inspect.signature(pair).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]


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
    return replace(recipe, form=(defaults_of(pair) | settings)["form"]) if row.inside == "supervised" else recipe


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
    if not isinstance(scale, int | float) or isinstance(scale, bool):
        raise TypeError(f"check: scale must be a number or the name of one, got {type(scale).__name__}.")
    number = float(scale)
    return Named(f"{number:g}", lambda facts: number)
