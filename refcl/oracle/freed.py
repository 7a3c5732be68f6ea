"""The softmax loss with what its callers may free: targets, weights of candidates and anchors, margins.

In:  similarities (A, T), who is whose positive and candidate, the settings, and a recipe: its slip says what of them is
read in another way.
Out: the losses of the anchors, and the way back to the similarities, the scalar and whatever was given.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.companions import OPTIONAL
from refcl.oracle.pools import Pooled, greatest
from refcl.oracle.recipe import Recipe
from refcl.oracle.roles import Roles
from refcl.walk.logit_margin import logit_margin_forward

# How the weight of a candidate gets into the denominator and into the numerator.
WEIGHED: dict[str, tuple[str, str]] = {
    "log_weight: left out at the positive": ("negatives", "negatives"),
    "log_weight: in the denominator only": ("added", "none"),
    "log_weight: before the temperature": ("before", "before"),
    "log_weight: taken for a weight": ("logarithm", "logarithm"),
    "log_weight: taken for a weight, in the denominator only": ("logarithm", "none"),
    "log_weight: a factor of the logit": ("factor", "factor"),
    "log_weight: its exponential a factor of the logit": ("exponential", "exponential"),
    "log_weight: subtracted": ("subtracted", "subtracted"),
    "log_weight: its exponential added": ("exponential added", "exponential added"),
}

# How what is given is laid out, and what a gradient is laid out as on the way back.
Turn = Callable[[Any], Any]
LAID_OUT: dict[str, tuple[Turn, Turn]] = {
    "transposed": (lambda x: np.swapaxes(x, -1, -2), lambda d: np.swapaxes(d, -1, -2)),
    "the images' for the texts too": (
        lambda x: np.stack((x[0], x[0])),
        lambda d: np.stack((d[0] + d[1], np.zeros_like(d[0]))),
    ),
    "the images', transposed, for the texts too": (
        lambda x: np.stack((x[0], x[0].T)),
        lambda d: np.stack((d[0] + d[1].T, np.zeros_like(d[0]))),
    ),
}


class Logits(NamedTuple):
    """One side of the fraction, and what it moves with."""

    x: Any  # (A, T)
    by_s: Any
    by_weight: Any
    by_scalar: Any


class Layout:
    """Where each entry of an array that was given stands among all anchors and candidates."""

    def __init__(self, recipe: Recipe, roles: Roles, columns: int, own: int) -> None:
        self.rows = roles.rows
        self.shape = (columns if recipe.embeddings else len(roles.rows), columns)
        self.views = columns - own  # rows that are anchors or shared candidates
        self.embeddings = recipe.embeddings

    def _places(self, shape: tuple[int, ...]) -> Any:
        """Return the place of each entry in the matrix of all rows with all rows."""
        row, column = np.arange(shape[-2])[:, None], np.arange(shape[-1])[None, :]
        width = self.shape[1]
        if not self.embeddings or shape[-2] == self.views:
            return row * width + column
        n, m = shape[-2:]
        there = row * width + n + column
        return there if len(shape) == 2 else np.stack((there, (n + column.T[:m]) * width + row.T[:, :n]))

    def spread(self, x: Any) -> Any:
        """Return what is given of each anchor with each candidate (A, T)."""
        whole = np.zeros(self.shape[0] * self.shape[1])
        whole[self._places(x.shape)] = x
        return whole.reshape(self.shape)[self.rows]

    def gather(self, d: Any, shape: tuple[int, ...]) -> Any:
        """Return the gradient of what was given."""
        whole = np.zeros(self.shape)
        whole[self.rows] = d
        return whole.reshape(-1)[self._places(shape)]


class Freed(NamedTuple):
    """What an anchor's loss is made of, beside its similarities."""

    log_weight: Any  # (A, T)
    targets: Any  # (A, T)
    anchor_weight: Any  # (A,)
    given: dict[str, Any]
    turned: dict[str, Any]  # the same as the slip lays it out
    layout: Layout


def freed(recipe: Recipe, columns: int, roles: Roles, settings: dict[str, Any]) -> Freed:
    """Return what an anchor's loss is made of, laid out as the similarities are."""
    given = {name: np.asarray(settings[name]) for name in OPTIONAL if settings.get(name) is not None}
    own = int(np.prod(given["own_negatives"].shape[:2])) if "own_negatives" in given else 0
    layout = Layout(recipe, roles, columns, own)
    turned = _turned(recipe, given)
    weight = layout.spread(turned["log_weight"]) if "log_weight" in given else np.zeros(roles.candidates.shape)
    targets = _targets(recipe, layout, turned, roles, settings)
    return Freed(weight, targets, _of_anchors(given, layout, len(roles.rows)), given, turned, layout)


def pool_freed(recipe: Recipe, s: Any, scalar: float | None, roles: Roles, settings: dict[str, Any]) -> Pooled:
    """L = a (T log Σ_k exp(x_k) − Σ_k t_k x_k), x = α s + w, with the positive's s lowered by a margin."""
    t = float(scalar or 0.0)
    weight, t_all, anchor, given, turned, layout = freed(recipe, s.shape[1], roles, settings)
    at, counted = (np.arange(len(s)), roles.positive), roles.candidates
    below, above = _fraction(recipe, s, t, at, weight, settings)
    total = np.sum(t_all, axis=1)  # (A,)
    logits, who = below.x.copy(), counted.copy()
    if recipe.in_denominator != 1:
        who[at] = recipe.in_denominator == 2
        logits[at] += np.log(2.0)
    columns = np.where(who, logits, -np.inf)
    less = None
    if recipe.extra is not None:
        term = np.broadcast_to(recipe.extra.logit(t, greatest(recipe, logits, roles)), (len(s),))
        less = term if recipe.extra.subtracted(t) else None
        columns = columns if less is not None else np.concatenate((columns, term[:, None]), axis=1)
    top = np.max(columns, axis=1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    e = np.exp(columns - top)
    taken = np.zeros(len(s)) if less is None else np.exp(less - top[:, 0])
    whole = np.sum(e, axis=1) - taken
    log_sum = np.where(np.any(who, axis=1), top[:, 0] + np.log(whole), 0.0)  # (A,)
    charged = total * log_sum - np.sum(np.where(t_all == 0, 0.0, t_all * above.x), axis=1)  # (A,)
    if recipe.slip == "targets: their entropy subtracted":
        charged = charged + np.sum(np.where(t_all > 0, t_all * np.log(np.maximum(t_all, 1e-300)), 0.0), axis=1)
    shares = _shares(recipe, anchor, roles)  # (A,) what a weighted loss is divided by, over the number of anchors
    loss = anchor * charged / shares

    def pushed(dloss: Any) -> tuple[Any, Any, Any]:
        d = dloss * anchor / shares
        p = np.where(np.any(who, axis=1), total * d, 0.0)[:, None] * e / whole[:, None]  # (A, T or T + 1)
        p = np.zeros_like(p) if "denominator" in recipe.detached else p
        return d, p, -d[:, None] * t_all

    def back(dloss: Any) -> tuple[Any, float | None, float]:
        d, p, numerator = pushed(dloss)
        dx = p[:, : s.shape[1]]
        terms = [np.where(dx == 0, 0.0, dx * below.by_scalar), numerator * above.by_scalar]
        if recipe.extra is not None:
            dterm = p[:, -1] if less is None else -total * d * taken / whole
            terms.append(recipe.extra.slope(t) * dterm)
        ds = dx * below.by_s + numerator * above.by_s
        return ds, float(sum(np.sum(x) for x in terms)), float(sum(np.sum(np.abs(x)) for x in terms))

    def rest(dloss: Any) -> dict[str, Any]:
        d, p, numerator = pushed(dloss)
        found = {}
        if "log_weight" in given:
            dw = p[:, : s.shape[1]] * below.by_weight + numerator * above.by_weight
            found["log_weight"] = dw
        if "targets" in given:
            surprise = np.where(counted & np.isfinite(above.x), log_sum[:, None] - above.x, 0.0)
            if recipe.slip == "targets: their entropy subtracted":
                surprise = surprise + np.where(t_all > 0, np.log(np.maximum(t_all, 1e-300)) + 1, 0.0)
            dt = d[:, None] * surprise * (1 - _epsilon(recipe, settings))
            found["targets"] = np.zeros_like(dt) if recipe.slip == "targets: the largest alone" else dt
        found = {k: _turned_back(recipe, k, layout.gather(x, turned[k].shape)) for k, x in found.items()}
        if "anchor_weight" in given:
            da = dloss * charged / shares
            if shares is not _ONE:
                for which in _directions(recipe, roles):
                    da[which] -= np.sum((dloss * loss)[which]) / np.sum(anchor[which])
            every = np.zeros(layout.shape[0])
            every[roles.rows] = da
            found["anchor_weight"] = every[: given["anchor_weight"].size].reshape(given["anchor_weight"].shape)
        return found

    live = np.where(counted, np.maximum(np.abs(below.x), np.abs(above.x)), 0.0)
    largest = float(np.max(np.where(np.isfinite(live), live, 0.0), initial=0.0))
    heavy = float(np.max(np.abs(anchor / shares), initial=0.0)) * max(float(np.max(np.abs(total), initial=0.0)), 1.0)
    steep = float(max(np.max(np.abs(below.by_s)), np.max(np.abs(above.by_s))))
    # who takes the angle loses what its cosine's slope is steep by, twice where that slope is taken
    tip = float(np.min(np.maximum((1 - s[at]) * (1 + s[at]), 1e-8))) if settings.get("angular_margin") else 1.0
    return Pooled(loss, back, steep * heavy, (1 + largest) * max(heavy, 1.0) / min(tip, 1.0), rest)


_ONE = np.ones(1)


def _turned(recipe: Recipe, given: dict[str, Any]) -> dict[str, Any]:
    name, _, how = str(recipe.slip).partition(": ")
    if how not in LAID_OUT or name not in given:
        return given
    turned = LAID_OUT[how][0](given[name])
    # Turned, a table of more candidates than anchors is none.
    return given | {name: turned if turned.shape == given[name].shape else np.full_like(given[name], np.nan)}


def _turned_back(recipe: Recipe, name: str, d: Any) -> Any:
    which, _, how = str(recipe.slip).partition(": ")
    return LAID_OUT[how][1](d) if which == name and how in LAID_OUT else d


def _of_anchors(given: dict[str, Any], layout: Layout, count: int) -> Any:
    if "anchor_weight" not in given:
        return np.ones(count)
    every = np.zeros(layout.shape[0])
    every[: given["anchor_weight"].size] = given["anchor_weight"].ravel()
    return every[layout.rows]


def _directions(recipe: Recipe, roles: Roles) -> tuple[Any, ...]:
    return roles.by_direction if "of each direction" in str(recipe.slip) else (np.arange(len(roles.rows)),)


def _shares(recipe: Recipe, anchor: Any, roles: Roles) -> Any:
    if not str(recipe.slip).startswith("anchor_weight: "):
        return _ONE
    shares = np.ones(len(anchor))
    for which in _directions(recipe, roles):
        shares[which] = np.mean(anchor[which])
    return shares


def _epsilon(recipe: Recipe, settings: dict[str, Any]) -> float:
    kept = recipe.slip == "label_smoothing: the target is not lowered"
    return 0.0 if kept else float(settings.get("label_smoothing", 0.0))


def _targets(recipe: Recipe, layout: Layout, given: dict[str, Any], roles: Roles, settings: dict[str, Any]) -> Any:
    """Return the targets (A, T), smoothed."""
    at, counted = (np.arange(len(roles.rows)), roles.positive), roles.candidates
    if "targets" in given:
        t = layout.spread(given["targets"])
        if recipe.slip == "targets: the largest alone":
            t = (t == np.max(t, axis=1, keepdims=True)).astype(float)
        t = np.where(counted, t, 0.0)
    else:
        t = np.zeros(counted.shape)
        t[at] = 1.0
    eps = float(settings.get("label_smoothing", 0.0))
    number, spread = np.maximum(np.sum(counted, axis=1), 1)[:, None], counted.astype(float)  # (A, 1), (A, T)
    if recipe.slip == "label_smoothing: spread over all but the positive":
        number = np.maximum(number - 1, 1)
        spread[at] = 0.0
    elif recipe.slip == "label_smoothing: not divided by the number of candidates":
        number = np.ones_like(number)
    elif recipe.slip == "label_smoothing: divided by one more":
        number = number + 1
    elif recipe.slip == "label_smoothing: the positive's share is left out":
        spread[at] = 0.0
    return (1 - _epsilon(recipe, settings)) * t + eps / number * spread


def _fraction(
    recipe: Recipe, s: Any, t: float, at: Any, weight: Any, settings: dict[str, Any]
) -> tuple[Logits, Logits]:
    """Return the logits of the denominator and those of the numerator."""
    m, angle = float(settings.get("margin", 0.0)), float(settings.get("angular_margin", 0.0))
    lowered, slope, shift = _lowered(recipe, s[at], m, angle)
    bare = s[at], np.ones(len(s)), 0.0
    in_both = (lowered, slope, shift)
    down, up = WEIGHED.get(str(recipe.slip), ("added", "added"))
    scale_pos = recipe.scale_positive or recipe.scale
    below = bare if recipe.slip == "margin: in the numerator only" else in_both
    over = bare if recipe.slip == "margin: in the denominator only" else in_both
    return (
        _side(t, s, at, (recipe.scale, scale_pos), below, weight, down),
        _side(
            t, s, at, (recipe.scale_numerator or recipe.scale, recipe.scale_numerator or scale_pos), over, weight, up
        ),
    )


def _lowered(recipe: Recipe, s_pos: Any, m: float, angle: float) -> tuple[Any, Any, float]:
    """Return the positives lowered, their slope, and what is taken from their logits."""
    if recipe.slip == "margin: not divided by the temperature":
        y, cache = logit_margin_forward(s_pos, margin=0.0, angular_margin=angle)
        return y, cache.slope, -m
    if recipe.slip == "margin: added":
        m, angle = -m, -angle
    y, cache = logit_margin_forward(s_pos, margin=m, angular_margin=angle)
    slope = cache.slope
    sine = np.sqrt(np.maximum((1 - s_pos) * (1 + s_pos), 0.0))
    if recipe.slip in ("margin: the cosine of the sum beyond π too", "margin: added"):
        y = s_pos * np.cos(angle) - sine * np.sin(angle) - m
        slope = np.cos(angle) + s_pos * np.sin(angle) / np.where(sine > 0, sine, np.inf)
    if recipe.slip == "margin: at acute angles only":
        y, slope = np.where(s_pos > 0, y, s_pos), np.where(s_pos > 0, slope, 1.0)
    return y, slope, 0.0


def _side(t: float, s: Any, at: Any, scales: Any, positive: tuple[Any, Any, float], weight: Any, way: str) -> Logits:
    alpha, dalpha, y, dy, shift = (np.full(s.shape, x) for x in (scales[0].at(t), scales[0].slope(t), 0.0, 1.0, 0.0))
    alpha[at], dalpha[at] = scales[1].at(t), scales[1].slope(t)
    y[...] = s
    y[at], dy[at], shift[at] = positive
    x, by_s, by_scalar, ones = alpha * y + shift, alpha * dy, dalpha * y, np.ones_like(s)
    if way == "none":
        return Logits(x, by_s, 0 * ones, by_scalar)
    if way == "negatives":
        kept = ones.copy()
        kept[at] = 0.0
        return Logits(x + kept * weight, by_s, kept, by_scalar)
    if way == "before":
        return Logits(x + alpha * weight, by_s, alpha, by_scalar + dalpha * weight)
    if way == "logarithm":
        w = np.where(weight == 0, 1.0, weight)  # own negatives and what is no candidate have none
        return Logits(x + np.log(w), by_s, 1 / w, by_scalar)
    if way == "exponential added":
        return Logits(x + np.exp(weight), by_s, np.exp(weight), by_scalar)
    if way == "subtracted":
        return Logits(x - weight, by_s, -ones, by_scalar)
    if way in ("factor", "exponential"):
        f, df = (weight, ones) if way == "factor" else (np.exp(weight), np.exp(weight))
        return Logits(x * f, by_s * f, x * df, by_scalar * f)
    return Logits(x + weight, by_s, ones, by_scalar)
