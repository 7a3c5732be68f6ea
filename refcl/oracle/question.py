"""What is asked: which loss, under which conventions, and what the right answer is.

In:  the name of a public loss and its settings.
Out: a `Question`, which answers any probe with the right value and gradients, and knows the recipe of the loss.
"""

import inspect
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from refcl.core.pair import AnyPair
from refcl.oracle.asked import (
    ask_temperature,
    base_of,
    defaults_of,
    factor_of,
    given_of,
    pair_of,
    recipe_of,
    required_of,
    scalar_of,
    unknown_setting,
)
from refcl.oracle.companions import COMPANIONS, OPTIONAL, candidates, companions
from refcl.oracle.constants import Facts, Named
from refcl.oracle.evaluate import evaluate
from refcl.oracle.pair_recipe import evaluate_pair
from refcl.oracle.pools import ESTIMATED
from refcl.oracle.questions import Row, row_of
from refcl.oracle.recipe import Expected, Recipe

# Scalars that stand after the others and are taken as settings here.
MORE_SCALARS = {"bias": -10.0, "margin": 1.0}
FAR = 600.0  # a log-scale that no bound is needed beyond


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
    more : tuple of str
        What else has a gradient: further scalars, which stay as they are set, then arrays that a call may leave out.
    recipe : Recipe
        The choices that make it.
    """

    loss: str
    pair: AnyPair
    inputs: tuple[str, ...]
    scalar: str | None
    base: float | None  # the scalar of the user's own setting
    recipe: Recipe
    settings: dict[str, Any] = field(default_factory=dict)  # for the pair
    plain: bool = True  # the pair itself is the reference: no convention that it does not have
    factor: Named | None = None
    positive: Any = None
    ignore: Any = None
    more: tuple[str, ...] = ()  # names of what stands after it: scalars, then arrays
    more_scalars: tuple[float, ...] = ()  # and what the scalars are set to
    given: tuple[str, ...] = ()  # those of them that are arrays
    companions_needed: tuple[str, ...] = ()
    asked: dict[str, Any] = field(default_factory=dict)  # what `ask` was given
    not_learned: bool = False  # the scalar has no gradient on purpose
    constant: frozenset[str] = frozenset()  # nor have these arrays

    @property
    def names(self) -> tuple[str, ...]:
        """Of everything that has a gradient."""
        return (*self.inputs, *([self.scalar] if self.scalar else []), *self.more)

    @property
    def row(self) -> Row:
        return row_of(self.loss)

    @property
    def in_a_tuple(self) -> bool:
        """Whether candidates take the arrays as one tuple, and return their gradients as one."""
        return self.row.in_a_tuple

    @property
    def two_sided(self) -> bool:
        return self.recipe.anchors == "both"

    @property
    def follows(self) -> bool:
        """Whether weights, a temperature or what is made of all negatives together follow the similarities."""
        return self.recipe.inside in (*ESTIMATED, "uniform") or "detach" in self.pair.settings

    def setting(self, name: str) -> Any:
        """Return a setting as it was asked, or its default."""
        return self.settings.get(name, inspect.signature(self.pair).parameters[name].default)

    def temperature(self, scalar: float | None) -> float | None:
        """Return τ, whatever the scalar is."""
        if scalar is None or self.scalar == "weight":
            return None
        return math.exp(-float(self.clamped(scalar) or 0.0)) if self.scalar == "log_scale" else scalar

    def facts(self, inputs: tuple[Any, ...], scalar: float | None) -> Facts:
        """Return the numbers that a factor can be made of."""
        n = inputs[0].shape[0]
        m = candidates(self.row.memory, n, self.settings)
        if m is None and self.recipe.embeddings:
            m = inputs[1].shape[-2] if len(inputs) > 1 else 0
        elif m is None:
            m = inputs[0].shape[1]
        d = inputs[0].shape[1]
        anchors = n + m if self.two_sided else (m if self.recipe.anchors == "second" else n)
        negatives = n + m - 2 if self.recipe.candidates == "all" and self.recipe.embeddings else m - 1
        steps = 0 if self.row.batches != "futures" else len(inputs[1]) if inputs[1].ndim == 3 else 1
        views = 2 if self.row.batches == "futures" else len(inputs)
        return Facts(n, m, d, anchors, negatives, self.temperature(scalar), self.recipe.ranks, views, steps)

    def under(self, probe: Any) -> "Question":
        """Return the question with the companions of a probe that brings its own."""
        if not probe.companions:
            return self
        needed = tuple(name for name in self.companions_needed if name not in probe.companions)
        return replace(self, settings=self.settings | probe.companions, companions_needed=needed)

    def answer(self, probe: Any, *, value_only: bool = False) -> Expected:
        """Return the right value and gradients of a probe, or the value alone, which costs a third."""
        return self.under(probe).expected(probe.inputs, probe.scalar, probe.upstream, value_only=value_only)

    def expected(
        self, inputs: tuple[Any, ...], scalar: float | None, upstream: Any = None, *, value_only: bool = False
    ) -> Expected:
        """Return the right value and gradients, in float64, scaled as the convention says."""
        wide = tuple(np.asarray(x, dtype=np.float64) for x in inputs)
        upstream = None if upstream is None else np.asarray(upstream, dtype=np.float64)
        answer = self.evaluate(self.recipe, wide, scalar, upstream, value_only=value_only)
        if self.plain and value_only:
            answer = answer._replace(value=self._pair_value(wide, scalar))
        elif self.plain:
            answer = self._by_pair(wide, scalar, upstream, answer)
        answer = answer._replace(dscalar=None) if self.not_learned else answer
        return scaled(self._with_constants(answer), self.factor_at(wide, scalar))

    def made(self, recipe: Recipe, r: Any, *, value_only: bool = False) -> Expected:
        """Return what a recipe makes of the probe of a result, with the factor of the convention."""
        answer = self.under(r.probe).evaluate(recipe, r.wide, r.probe.scalar, r.upstream, value_only=value_only)
        return scaled(answer, self.factor_at(r.wide, r.probe.scalar))

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
        held = self.clamped(scalar)
        if not recipe.walked:
            pushed = None if upstream is None else self.shaped_upstream(upstream, inputs, scalar)
            answer = evaluate_pair(
                recipe,
                self.pair,
                inputs,
                held,
                upstream=pushed,
                settings=self.settings | self.companions(inputs),
                more_scalars=self.more_scalars,
                value_only=value_only,
            )
        else:
            inside = self.inside(inputs) if recipe.pool == "pair" else {}
            own = inside.get("own_negatives")
            answer = evaluate(
                recipe,
                inputs if own is None else (*inputs, own.reshape(-1, own.shape[-1])),
                held,
                upstream=upstream,
                positive=self.positive,
                ignore=self.ignore,
                value_only=value_only,
                settings=inside,
                own=0 if own is None else own.shape[1],
            )
            if own is not None and answer.dmore:
                first, size = answer.dmore[0].reshape(own.shape), answer.dmore_sizes[0].reshape(*own.shape[:2], 1)
                answer = answer._replace(dmore=(first, *answer.dmore[1:]), dmore_sizes=(size, *answer.dmore_sizes[1:]))
        if held != scalar and answer.dscalar is not None:
            answer = answer._replace(dscalar=0.0)
        return scaled(self._with_constants(answer), 2.0 if self._adds_views else 1.0)

    @property
    def _adds_views(self) -> bool:
        return self.recipe.walked and self.recipe.reduction == "mean" and self.settings.get("add_views", False)

    def _with_constants(self, answer: Expected) -> Expected:
        """Return an answer with no gradient of the arrays that have none on purpose."""
        return answer._replace(
            dmore=tuple(d * (n not in self.constant) for n, d in zip(self.more, answer.dmore, strict=False))
        )

    def clamped(self, scalar: float | None) -> float | None:
        """Return the log-scale that the loss is computed at, where it is held between bounds."""
        bounds = self.settings.get("clamp")
        return scalar if bounds is None or scalar is None else min(max(scalar, bounds[0]), bounds[1])

    def factor_at(self, inputs: tuple[Any, ...], scalar: float | None) -> float:
        """Return the factor of the convention."""
        factor = None if self.factor is None else self.factor.at(self.facts(inputs, scalar))
        return 1.0 if factor is None else float(factor)

    def value(self, inputs: tuple[Any, ...], scalar: float | None) -> Any:
        """Return the right value alone, without the size of its roundings: for searches of a root."""
        wide = tuple(np.asarray(x, dtype=np.float64) for x in inputs)
        if self.plain:
            return self._pair_value(wide, scalar) * self.factor_at(wide, scalar)
        return self.expected(wide, scalar, value_only=True).value

    def _pair_value(self, wide: tuple[Any, ...], scalar: float | None) -> Any:
        arguments = (*wide, *(() if self.scalar is None else (scalar,)), *self.more_scalars)
        with np.errstate(all="ignore"):
            value, _ = self.pair.forward(*arguments, **self.settings, **self.companions(wide))
        return np.asarray(value).reshape(-1) if np.ndim(value) else np.asarray(value)

    def _by_pair(self, inputs: tuple[Any, ...], scalar: float | None, upstream: Any, sizes: Expected) -> Expected:
        arguments = inputs if self.scalar is None else (*inputs, scalar)
        pushed = {} if upstream is None else {"upstream": self.shaped_upstream(upstream, inputs, scalar)}
        with np.errstate(all="ignore"):
            value, grads = self.pair(
                *arguments, *self.more_scalars, **self.settings, **self.companions(inputs), **pushed
            )
        k = len(inputs)
        dscalar = float(grads[k]) if self.scalar is not None else None
        where = [self.pair.arguments.index(name) for name in self.more]
        dmore = tuple(np.asarray(grads[i]) for i in where)
        sized = sizes.dmore_sizes or [sizes.value_size] * len(dmore)
        return sizes._replace(
            value=np.asarray(value).reshape(-1) if np.ndim(value) else np.asarray(value),
            grads=tuple(grads[:k]),
            dscalar=dscalar,
            dmore=dmore,
            dmore_sizes=tuple(np.maximum(float(np.max(np.abs(d))), size) for d, size in zip(dmore, sized, strict=True)),
        )

    def shaped_upstream(self, upstream: Any, inputs: tuple[Any, ...], scalar: float | None) -> Any:
        """Return an upstream gradient, one entry an anchor, in the shape of the loss's own value."""
        return upstream.reshape(self.value_shape(inputs, scalar))

    def value_shape(self, inputs: tuple[Any, ...], scalar: float | None) -> tuple[int, ...]:
        """Return the shape that the loss's own value has."""
        if self.recipe.reduction != "none":
            return ()
        if self.recipe.pool != "pair":
            anchors = self.facts(inputs, scalar).anchors
            return (2, anchors // 2) if self.row.directions_apart and self.two_sided else (anchors,)
        wide = tuple(np.asarray(x, dtype=np.float64) for x in inputs)
        arguments = (*wide, *(() if self.scalar is None else (scalar,)), *self.more_scalars)
        value, _ = self.pair.forward(*arguments, **self.settings, **self.companions(wide))
        return tuple(value.shape)

    def inside(self, inputs: tuple[Any, ...]) -> dict[str, Any]:
        """Return every setting of the loss as it was asked or by default, with what goes with a batch."""
        more = dict(zip(self.more, self.more_scalars, strict=False))
        return defaults_of(self.pair) | self.settings | self.companions(inputs) | more

    def companions(self, inputs: tuple[Any, ...]) -> dict[str, Any]:
        """Return the labels, the memory (or who is whose positive) that go with a batch, where the loss needs them."""
        made = [name for name in self.given if name in self.companions_needed]
        shapes = self._shapes(inputs, made) if made else {}
        itself = self.recipe.candidates != "all"
        return companions(self.companions_needed, inputs, self.settings, self.recipe.ranks, shapes, itself)

    def _shapes(self, inputs: tuple[Any, ...], names: list[str]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of arrays as the loss asks for them, from those of a batch."""
        asked = self.pair.shapes
        sizes = {"H": 2 if len(inputs[0]) != 2 else 3, "T": 2}
        for name, x in zip(self.inputs, inputs, strict=True):
            sizes |= dict(zip(asked[name].split(), x.shape, strict=True))
        return {n: tuple(sizes[w.lstrip("2")] * (1 + w.startswith("2")) for w in asked[n].split()) for n in names}


def ask(
    loss: str,
    *,
    direction: str | None = None,
    positive_in_denominator: bool = True,
    detached: tuple[str, ...] = (),
    scale: float | str | None = None,
    ranks: int = 1,
    views: int | None = None,
    given: tuple[str, ...] = (),
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
        Inputs that get no gradient on purpose, by name; also "candidates", "denominator", and the scalar.
    scale : float or str, optional
        Factor on value and gradients: a number, or a name such as "2", "N/(N-1)" or "τ/0.07".
    ranks : int
        Over how many ranks the rows are spread.
    views : int, optional
        Of "cmc": how many views there are; by default 3.
    given : tuple of str
        Arrays of the loss that a call may leave out and that are given here: "targets", "log_weight" and so on.
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
    detached = (detached,) if isinstance(detached, str) else detached
    own = {"direction": direction, "scale": scale, "views": views, **settings}
    asked = {name: x for name, x in own.items() if x is not None}
    asked |= {"ranks": ranks, "detached": detached, "positive_in_denominator": positive_in_denominator}
    asked |= {"given": given} if given else {}
    pair = pair_of(loss, views)
    scalar = scalar_of(loss, pair)
    inputs = tuple(a for a in pair.arguments if a != scalar and a not in (*MORE_SCALARS, *OPTIONAL))
    more = tuple(float(settings.pop(a, MORE_SCALARS[a])) for a in pair.arguments if a in MORE_SCALARS)
    given = given_of(loss, pair, given, settings, ranks)
    known = {*pair.settings, *(a for a in pair.arguments if a not in inputs)}
    if settings.get("temperature") is not None and (scalar or np.ndim(settings["temperature"]) == 0):
        ask_temperature(settings["temperature"])
    if "temperature" in settings and scalar == "log_scale":
        settings["log_scale"] = -math.log(settings.pop("temperature"))
    unknown = sorted(set(settings) - known)
    if unknown:
        raise unknown_setting(loss, unknown[0], sorted(known))
    needed = [name for name in (*required_of(pair), *given) if name not in settings]
    missing = [name for name in needed if name not in COMPANIONS]
    if isinstance(settings.get("clamp"), tuple | list):
        low, high = settings["clamp"]  # None: not bounded on that side
        settings["clamp"] = (-FAR if low is None else low, FAR if high is None else high)
    arrays = ("bank", "queue", *OPTIONAL)
    settings |= {name: np.asarray(settings[name], dtype=np.float64) for name in arrays if name in settings}
    if missing:
        raise TypeError(f"check: {loss} needs {missing[0]}=.")
    if settings.get("positive") is not None and np.asarray(settings["positive"]).dtype.kind not in "iu":
        raise TypeError("check: positive must be an (N,) array of integers, each anchor's column; left out, arange(N).")
    base = settings.pop(scalar, None) if scalar else None
    not_learned = scalar in detached
    constant = frozenset(detached) & frozenset(given)
    detached = tuple(name for name in detached if name != scalar and name not in given)
    recipe = recipe_of(loss, pair, settings, direction, positive_in_denominator, detached, inputs, ranks, given)
    anchors = base_of(loss, pair, settings, given).anchors
    plain = direction in (None, anchors) and positive_in_denominator and not recipe.detached
    return Question(
        loss,
        pair,
        inputs,
        scalar,
        None if base is None else float(base),
        recipe,
        settings,
        plain,
        factor_of(scale),
        settings.get("positive"),
        settings.get("ignore"),
        (*(a for a in pair.arguments if a in MORE_SCALARS), *given),
        more,
        given,
        tuple(needed),
        asked,
        not_learned,
        constant,
    )


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
        tuple(x * g for x in answer.dmore),
        tuple(x * (abs(g) or 1.0) for x in answer.dmore_sizes),
    )
