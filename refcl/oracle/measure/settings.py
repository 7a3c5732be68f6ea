"""Is it right under another setting, another law of the temperature, another normalization, or as another loss?

In:  a question and answers that are not right.
Out: sentences, each with the question under which every value is right to rounding.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

import refcl.losses
from refcl.core.pair import Pair
from refcl.oracle.compare import agrees
from refcl.oracle.evidence import Result
from refcl.oracle.harmless import forgiven
from refcl.oracle.question import Question, ask
from refcl.oracle.questions import row_of
from refcl.oracle.roots import root

# What a setting may be instead, and what that does.
WORDS: dict[str, dict[Any, str]] = {
    "negatives": {
        "together": "one logarithm holds the negatives of both views",
        "by_view": "the negatives of each view have a logarithm of their own",
    },
    "normalizer": {
        "mean": "the weights are over their mean",
        "sum": "the weights are over their sum, so that nearly all are 2",
    },
    "candidates": {"both_views": "2N anchors, as in nt_xent", "other_view": "a's rows against b's, as in info_nce"},
    "law": {"linear": "τ = τ₀ (1 + α(A - A₀))", "power": "τ = τ₀ α^(A - A₀)"},
    "form": {
        "out": "the mean over the positives stands outside the logarithm",
        "in": "the mean over the positives stands inside the logarithm",
        "sum": "the positives are added up inside the logarithm, and 1/P, their number, is left out",
    },
    "no_positive": {
        "zero": "an anchor without positives counts in the mean, with loss 0",
        "skip": "an anchor without positives is left out of the mean",
    },
    "otherwise": {
        "skip": "an anchor without a semi-hard negative has loss 0",
        "easiest": "an anchor without a semi-hard negative takes the furthest",
        "hardest": "an anchor without a semi-hard negative takes the nearest",
    },
    "distance": {
        "euclidean": "the distance itself, a root",
        "squared": "the distance is squared, the root is missing",
        "cosine": "1 less the cosine, rows brought to length 1",
    },
    "reduction": {"mean": "the mean over the anchors", "sum": "the sum over the anchors, not divided by their number"},
    "direction": {
        "first": "the first input's rows alone are anchors",
        "second": "the second input's rows alone are anchors",
        "both": "the rows of both inputs are anchors, and their means are averaged",
    },
    "normalize": {
        True: "rows are brought to length 1 first",
        False: "rows are taken as they are, not brought to length 1",
    },
    "add_views": {
        True: "the means over the two views' anchors are added: twice the mean",
        False: "the mean over all anchors, half of the sum of both views' means",
    },
    "detach": {
        True: "weights (a factor of the loss) are detached, a constant in backward",
        False: "the gradient goes through the weights too",
    },
    "core": {True: "the first view is compared with each other one", False: "all pairs of views are compared"},
    "swap": {
        True: "a negative is as far as from the nearer of anchor and positive",
        False: "a negative is as far as it is from the anchor",
    },
    "positive_in_denominator": {False: "the positive is left out of the sum: the decoupled loss"},
    # what one can leave out
    "positive": {None: "each anchor's positive is its own row: positive= is not used"},
    "ignore": {None: "no candidate is left out: ignore= is not used"},
    "apart": {None: "all negatives share one logarithm: apart= is not used"},
    "clamp": {None: "the log-scale is not held between bounds"},
    "base_temperature": {None: "no factor τ/τ_base"},
    "mass": {None: "the weights have mean 1: mass= is not used"},
    "scale": {None: "without the factor that was asked for"},
}
HOW_MANY = (0.1, 0.25, 0.5, 0.75, 1.0, 1, 2, 3, 4, 5)


class Other(NamedTuple):
    """Another question: what to type for it, and what it does."""

    said: str
    question: Question
    scalar: Callable[[float], float] | None = None  # where the temperature is a law of what is passed
    means: str = ""
    now: str = ""  # what was asked instead


def usable(results: list[Result]) -> list[Result]:
    """Return the answers that a formula can be held against, those with most to tell first."""
    finite = [r for r in results if r.outcome.finite and not r.probe.stress and np.all(np.isfinite(r.right.value))]
    return sorted(finite, key=lambda r: r.outcome.eps > 1e-10)


def fits_value(other: Question, results: list[Result], law: Callable[[float], float] | None = None) -> bool:
    """Return whether every value is that of another question."""
    for r in results:
        answer = answer_of(other, r, law, value_only=True)
        if answer is None or not agrees(answer, r.outcome, scalar=False, grads=False):
            return False
    return bool(results)


def answer_of(
    other: Question,
    r: Result,
    law: Callable[[float], float] | None = None,
    *,
    inputs: tuple[Any, ...] | None = None,
    value_only: bool = False,
) -> Any:
    """Return what another question expects of a probe, or None where it is not defined or has another shape."""
    scalar = r.probe.scalar
    try:
        scalar = scalar if law is None else law(scalar)  # type: ignore[arg-type]
        with np.errstate(all="ignore"):
            held = r.probe.inputs if inputs is None else inputs
            answer = other.under(r.probe).expected(held, scalar, r.probe.upstream, value_only=value_only)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError, IndexError, AssertionError):
        return None
    return answer if np.shape(answer.value) == np.shape(r.outcome.value) else None


def value_off(question: Question, r: Result, inputs: tuple[Any, ...], scalar: float | None) -> float:
    """Return by how much a value is off that of a question on other inputs, or NaN where that is not defined."""
    try:
        with np.errstate(all="ignore"):
            return float(np.sum(r.outcome.value) - np.sum(question.under(r.probe).value(inputs, scalar)))
    except (ValueError, TypeError, OverflowError, ZeroDivisionError, IndexError, AssertionError):
        return float("nan")


def changed(question: Question, **change: Any) -> Question | None:
    """Return the question with other settings, or None where that makes no sense."""
    asked = {k: v for k, v in question.asked.items() if k not in change or change[k] is not None}
    asked |= {k: v for k, v in change.items() if v is not None}
    try:
        return ask(question.loss, **asked)
    except (ValueError, TypeError):
        return None


def other_settings(question: Question) -> Iterator[Other]:
    """Yield the question with one setting that is not a number otherwise."""

    def made(name: str, now: Any, to: Any, means: str) -> Iterator[Other]:
        other = changed(question, **{name: to})
        if other is not None:
            yield Other(_typed(name, to), other, None, means, _typed(name, now))

    parameters = inspect.signature(question.pair).parameters
    conventions = {"direction": question.recipe.anchors, "positive_in_denominator": True, "scale": None, "given": ()}
    for name in (*parameters, *conventions):
        if name in parameters and parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        now = question.asked.get(name, conventions[name] if name in conventions else parameters[name].default)
        for to, means in WORDS.get(name, {}).items():
            # a mask or a number can be left out only where there is one
            if (now is not None) if to is None else type(now) is type(to) and now != to:
                yield from made(name, now, to, means)
        for one in question.given if name == "given" else ():
            rest = tuple(x for x in now if x != one)
            yield from made(name, now, rest, f"{one} never read, without effect on the value")
        if name == "hardest":
            for k in HOW_MANY:
                if k != now or type(k) is not type(now):
                    part = f"{k:g} of the negatives" if isinstance(k, float) else f"the {k} hardest negatives"
                    yield from made(name, now, k, f"{part} of each anchor are kept")


def right_for(question: Question, results: list[Result], *, measured: bool) -> list[str]:
    """Return what to ask where answers are right, gradients too, but for one setting, or for what gets no gradient.

    Where they were measured, other settings have been tried.
    """
    there = forgiven(usable(results))
    if not there or all(agrees(r.right, r.outcome) for r in there):
        return []
    others = (*_without_gradient(question, there), *(() if measured else other_settings(question)))
    answers = ((other.said, [(answer_of(other.question, r), r.outcome) for r in there]) for other in others)
    return [said for said, pairs in answers if all(a is not None and agrees(a, came) for a, came in pairs)]


def _without_gradient(question: Question, results: list[Result]) -> Iterator[Other]:
    """Yield the question in which what has no gradient has none on purpose."""
    came = [r.outcome.grads for r in results if r.outcome.grads is not None]
    if len(came) < len(results):
        return
    silent = [
        name
        for k, name in enumerate(question.inputs)
        if not any(np.any(grads[k]) for grads in came) and any(np.any(r.right.grads[k]) for r in results)
    ]
    more = len(results[0].right.dmore)
    for k, name in enumerate(question.names[len(question.names) - more :]):
        given = [(r.outcome.dmore[k], r.right.dmore[k]) for r in results if len(r.outcome.dmore) == more]
        none = given and all(d is not None and not np.any(d) for d, _ in given)
        if name in question.given and none and any(np.any(want) for _, want in given):
            silent.append(name)
    if all(r.outcome.dscalar == 0.0 for r in results) and any(r.right.dscalar for r in results):
        silent.append(str(question.scalar))
    meant = (*question.asked.get("detached", ()), *silent)
    other = changed(question, detached=meant) if silent else None
    if other is not None:
        names = ", ".join(f'"{name}"' for name in meant)
        yield Other(f"detached=({names},)", other)


def _typed(name: str, to: Any) -> str:
    if hasattr(to, "shape"):
        return f"{name}=…"
    return f'{name}="{to}"' if isinstance(to, str) else f"{name}={to}"


def other_losses(question: Question) -> Iterator[Other]:
    """Yield every loss that takes the same arrays."""
    shared = {k: v for k, v in question.asked.items() if k in ("temperature", "log_scale", "reduction", "normalize")}
    for name in refcl.losses.__all__:
        pair = getattr(refcl.losses, name)
        if not isinstance(pair, Pair) or name == question.loss or not row_of(name).by_rows:
            continue
        for more in (
            {},
            {"hardest": 0.5},
            {"hardest": 1},
            {"tau_plus": 0.1},
            {"tau_plus": 0.1, "beta": 1.0},
            {"tau_plus": 0.0, "beta": 1.0},
        ):
            try:
                other = ask(name, **shared, **more)
            except (ValueError, TypeError):
                continue
            same = len(other.inputs) == len(question.inputs) and other.recipe.embeddings == question.recipe.embeddings
            same = same and (other.scalar in (None, "weight") or question.scalar is not None)
            if same and set(other.companions_needed) <= set(question.companions_needed) and not other.more:
                said = ", ".join(f"{k}={v}" for k, v in more.items())
                yield Other(f"refcl.{name}" + (f"({said})" if said else ""), other, _across(question, other))


def other_backwards(question: Question) -> Iterator[Other]:
    """Yield what a backward may have been copied from, or what may have been forgotten in it."""
    recipe, now = question.recipe, f"that of {question.loss}"
    if recipe.walked and not recipe.itself and recipe.candidates == "all":
        forgotten = replace(question, recipe=replace(recipe, itself=True), plain=False)
        said, means = "the same softmax with the anchor itself in it", "the mask of the forward is forgotten"
        yield Other(said, forgotten, None, means, now)
    for other in other_losses(question):
        yield other._replace(means=f"another loss stands in the place of {question.loss}", now=now)


def _across(question: Question, other: Question) -> Callable[[float], float] | None:
    if question.scalar == "temperature" and other.scalar == "log_scale":
        return lambda t: -math.log(t)
    if question.scalar == "log_scale" and other.scalar == "temperature":
        return lambda t: math.exp(-t)
    if question.scalar in ("temperature", "log_scale") and other.scalar in ("weight", None):
        return lambda t: None  # type: ignore[return-value]  # a temperature is no weight: the default one
    return None


GRID = (
    *(-(10.0**k) for k in (2, 1.5, 1, 0.6, 0.3, 0, -0.3, -1, -2)),
    0.0,
    *(10.0**k for k in np.arange(-3, 2.01, 0.2)),
)


def roots(f: Callable[[float], float], near: float, grid: Any = GRID) -> list[float]:
    """Return where a function of one number crosses zero."""
    points = sorted({*grid, *([near * 0.99, near * 1.01, near] if math.isfinite(near) else [])})
    values = [f(x) for x in points]
    found = [x for x, v in zip(points, values, strict=True) if v == 0.0]
    for a, b, u, v in zip(points, points[1:], values, values[1:], strict=False):
        if math.isfinite(u) and math.isfinite(v) and u * v < 0:
            c = root(f, a, b)
            found += [c] if math.isfinite(c) else []
    return found


def nice(x: float) -> float:
    """Return the shortest number that is this one to rounding."""
    if abs(x) < 1e-15:
        return 0.0
    for digits in (2, 3, 4):
        short = float(f"{x:.{digits}g}")
        if abs(short - x) < 1e-8 * abs(x):
            return short
    return x
