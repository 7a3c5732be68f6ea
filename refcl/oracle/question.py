"""What is asked: which loss, under which conventions, and what the right answer is.

In:  the name of a public loss and its settings.
Out: a `Question`, which answers any probe with the right value and gradients, and knows the recipe of the loss.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import refcl.losses
from refcl import validate
from refcl.oracle.constants import Facts, Named, scale_named
from refcl.oracle.recipe import EXP_LOG_SCALE, Expected, Recipe, evaluate
from refcl.pair import Pair

SCALARS = ("temperature", "log_scale", "weight")

_ON_SIMILARITIES = Recipe(embeddings=False)
RECIPES = {
    "softmax_contrastive": _ON_SIMILARITIES,
    "hard_softmax_contrastive": _ON_SIMILARITIES,
    "simple_contrastive": replace(_ON_SIMILARITIES, pool="simple", scalar="weight"),
    "hard_simple_contrastive": replace(_ON_SIMILARITIES, pool="simple", scalar="weight"),
    "triplet": replace(_ON_SIMILARITIES, pool="triplet", scalar=None),
    "info_nce": Recipe(),
    "hard_info_nce": Recipe(),
    "simple_loss": Recipe(pool="simple", scalar="weight"),
    "hard_simple_loss": Recipe(pool="simple", scalar="weight"),
    "nt_xent": Recipe(anchors="both", candidates="all"),
    "clip": Recipe(anchors="both", scalar="log_scale", scale=EXP_LOG_SCALE),
}


@dataclass(frozen=True)
class Question:
    """A loss under its conventions.

    Attributes
    ----------
    loss : str
        Its name in refcl.
    inputs : tuple of str
        Names of its array arguments.
    scalar : str or None
        Name of the scalar that may have a gradient.
    recipe : Recipe
        The choices that make it.
    """

    loss: str
    pair: Pair
    inputs: tuple[str, ...]
    scalar: str | None
    base: float | None  # the scalar of the user's own setting
    recipe: Recipe
    settings: dict[str, Any] = field(default_factory=dict)  # for the pair
    plain: bool = True  # the pair itself is the reference: no convention that it does not have
    factor: Named | None = None
    positive: Any = None
    ignore: Any = None

    @property
    def two_sided(self) -> bool:
        return self.recipe.anchors == "both"

    def temperature(self, scalar: float | None) -> float | None:
        """Return τ, whatever the scalar is."""
        if scalar is None or self.scalar == "weight":
            return None
        return math.exp(-scalar) if self.scalar == "log_scale" else scalar

    def facts(self, inputs: tuple[Any, ...], scalar: float | None) -> Facts:
        """Return the numbers that a factor can be made of."""
        n = inputs[0].shape[0]
        m = inputs[1].shape[0] if len(inputs) > 1 else inputs[0].shape[1]
        d = inputs[0].shape[1]
        anchors = n + m if self.two_sided else (m if self.recipe.anchors == "second" else n)
        negatives = n + m - 2 if self.recipe.candidates == "all" and self.recipe.embeddings else m - 1
        return Facts(n, m, d, anchors, negatives, self.temperature(scalar), self.recipe.ranks)

    def expected(self, inputs: tuple[Any, ...], scalar: float | None, upstream: Any = None) -> Expected:
        """Return the right value and gradients, in float64, scaled as the convention says."""
        wide = tuple(np.asarray(x, dtype=np.float64) for x in inputs)
        upstream = None if upstream is None else np.asarray(upstream, dtype=np.float64)
        answer = self.evaluate(self.recipe, wide, scalar, upstream)
        if self.plain:
            answer = self._by_pair(wide, scalar, upstream, answer)
        return scaled(answer, self.factor_at(wide, scalar))

    def evaluate(
        self,
        recipe: Recipe,
        inputs: tuple[Any, ...],
        scalar: float | None,
        upstream: Any = None,
        *,
        value_only: bool = False,
    ) -> Expected:
        """Return what a recipe makes of a probe, before any factor."""
        return evaluate(
            recipe,
            inputs,
            scalar,
            upstream=upstream,
            positive=self.positive,
            ignore=self.ignore,
            value_only=value_only,
        )

    def factor_at(self, inputs: tuple[Any, ...], scalar: float | None) -> float:
        """Return the factor of the convention."""
        factor = None if self.factor is None else self.factor.at(self.facts(inputs, scalar))
        return 1.0 if factor is None else float(factor)

    def _by_pair(self, inputs: tuple[Any, ...], scalar: float | None, upstream: Any, sizes: Expected) -> Expected:
        arguments = inputs if self.scalar is None else (*inputs, scalar)
        with np.errstate(all="ignore"):
            value, grads = self.pair(
                *arguments,
                **self.settings,
                **({} if upstream is None else {"upstream": self.shaped_upstream(upstream)}),
            )
        k = len(inputs)
        dscalar = float(grads[k]) if self.scalar is not None else None
        return sizes._replace(
            value=np.asarray(value).reshape(-1) if np.ndim(value) else np.asarray(value),
            grads=tuple(grads[:k]),
            dscalar=dscalar,
        )

    def shaped_upstream(self, upstream: Any) -> Any:
        """Return an upstream gradient, one entry an anchor, in the shape of the loss's own value."""
        return upstream.reshape(2, -1) if self.loss == "clip" else upstream


def ask(
    loss: str,
    *,
    direction: str | None = None,
    positive_in_denominator: bool = True,
    detached: tuple[str, ...] = (),
    scale: float | str | None = None,
    ranks: int = 1,
    **settings: Any,
) -> Question:
    """Return the question that a loss's name and its settings ask.

    Parameters
    ----------
    loss : str
        Name of a public loss of refcl.
    direction : str, optional
        "first", "second" or "both": whose rows are anchors.
    positive_in_denominator : bool
        False for the decoupled loss, which leaves the positive out of the sum.
    detached : tuple of str
        Inputs that get no gradient on purpose, by name; also "candidates" and "denominator".
    scale : float or str, optional
        Factor on value and gradients: a number, or a name such as "2", "N/(N-1)" or "τ/0.07".
    ranks : int
        Over how many ranks the rows are spread.
    **settings
        Of the loss: temperature, reduction, normalize and so on.

    Returns
    -------
    question : Question
        What is asked.

    Raises
    ------
    TypeError, ValueError
        Where the loss or a setting is not known.
    """
    if loss not in RECIPES:
        raise ValueError(f"check: no loss is called {loss!r}; known are {', '.join(sorted(RECIPES))}.")
    pair: Pair = getattr(refcl.losses, loss)
    inputs = tuple(a for a in pair.arguments if a not in SCALARS)
    scalar = next((a for a in pair.arguments if a in SCALARS), None)
    known = {*pair.settings, *([scalar] if scalar else [])}
    if "temperature" in settings and scalar == "log_scale":
        settings["log_scale"] = -math.log(settings.pop("temperature"))
    unknown = sorted(set(settings) - known)
    if unknown:
        raise TypeError(f"check: {loss} has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    if "hardest" in pair.settings and "hardest" not in settings:
        raise TypeError(f"check: {loss} needs hardest=, how many of the negatives it keeps.")
    base = settings.pop(scalar, None) if scalar else None
    recipe = _recipe(loss, settings, direction, positive_in_denominator, detached, inputs, ranks)
    plain = direction in (None, RECIPES[loss].anchors) and positive_in_denominator and not recipe.detached
    return Question(
        loss,
        pair,
        inputs,
        scalar,
        None if base is None else float(base),
        recipe,
        settings,
        plain,
        _factor(scale),
        settings.get("positive"),
        settings.get("ignore"),
    )


def _recipe(
    loss: str,
    settings: dict[str, Any],
    direction: str | None,
    positive_in_denominator: bool,
    detached: tuple[str, ...],
    inputs: tuple[str, ...],
    ranks: int,
) -> Recipe:
    recipe = RECIPES[loss]
    if direction is not None:
        if not recipe.embeddings or direction not in ("first", "second", "both"):
            raise ValueError(f'check: direction must be "first", "second" or "both", of embeddings; got {direction!r}.')
        recipe = replace(recipe, anchors=direction)
    if not positive_in_denominator:
        if recipe.pool != "softmax":
            raise ValueError(f"check: {loss} has no denominator.")
        recipe = replace(recipe, in_denominator=0)
    places = dict(zip(inputs, ("first", "second"), strict=False))
    for name in detached:
        if name not in (*places, "candidates", "denominator"):
            raise ValueError(
                f"check: detached: {loss} has no {name!r}; it has {', '.join((*places, 'candidates', 'denominator'))}."
            )
    return replace(
        recipe,
        detached=frozenset(places.get(name, name) for name in detached),
        reduction=validate.reduction("check", settings.get("reduction", "mean")),
        normalization="rows" if settings.get("normalize", True) else "none",
        eps=settings.get("eps", 1e-12),
        hardest=settings.get("hardest"),
        margin=settings.get("margin", 0.0),
        ranks=ranks,
    )


def _factor(scale: float | str | None) -> Named | None:
    if scale is None:
        return None
    if isinstance(scale, str):
        return scale_named(scale)
    number = float(scale)
    return Named(f"{number:g}", lambda facts: number)


def scaled(answer: Expected, value_factor: float, gradient_factor: float | None = None) -> Expected:
    """Return an answer times a factor, its rounding sizes with it."""
    g = value_factor if gradient_factor is None else gradient_factor
    if value_factor == 1.0 and g == 1.0:
        return answer
    return Expected(
        answer.value * value_factor,
        tuple(x * g for x in answer.grads),
        None if answer.dscalar is None else answer.dscalar * g,
        answer.value_size * abs(value_factor),
        # Zeros are exact, but what came as zeros is still judged on the scale of what they stand for.
        tuple(x * (abs(g) or 1.0) for x in answer.grad_sizes),
        answer.dscalar_size * (abs(g) or 1.0),
    )
