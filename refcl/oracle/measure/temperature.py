"""Which temperature is it that the answers were computed at, as a law of the one that was passed?

In:  a question and answers that are not right.
Out: the law under which every value is right to rounding; from where on its gradient is missing.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np

from refcl.oracle.compare import agrees
from refcl.oracle.evidence import Result
from refcl.oracle.harmless import forgiven
from refcl.oracle.measure.settings import fits_value, nice, roots, value_off
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.question import Question

# Laws of the temperature. What is passed is t, whatever it is called.
LAWS: tuple[tuple[str, str, Callable[[float], float], str], ...] = (
    ("1", "the temperature has no effect: it is missing, as if it were 1", lambda t: 1.0, "temperature-missing"),
    ("1/τ", "the temperature is inverted", lambda t: 1 / t, "temperature-inverted"),
    ("τ²", "the temperature is applied twice: it is τ squared", lambda t: t * t, ""),
    (
        "τ/2",
        "the temperature is halved: logits are doubled, as from squared distances, ‖q - k‖² = 2 - 2s",
        lambda t: t / 2,
        "",
    ),
    ("2τ", "the temperature is doubled", lambda t: 2 * t, ""),
    ("√τ", "the temperature is √τ", lambda t: math.sqrt(t), ""),
    ("τ³", "the temperature is τ³: applied three times", lambda t: t**3, ""),
    (
        "exp(τ)",
        "the temperature is exponentiated: exp(τ), as if a log temperature were passed",
        lambda t: math.exp(t),
        "",
    ),
    ("exp(-τ)", "the scale is exp(τ): the temperature is exp(-τ), taken for a log-scale", lambda t: math.exp(-t), ""),
    ("1/ln(1/τ)", "the log-scale is not exponentiated", lambda t: 1 / math.log(1 / t), "log-scale-not-exponentiated"),
    ("-1/ln(1/τ)", "the log-scale is not exponentiated, and its sign is turned", lambda t: -1 / math.log(1 / t), ""),
    ("ln(1 + exp(τ))", "the temperature is softplus(τ)", lambda t: math.log1p(math.exp(t)), ""),
    ("1/ln(1 + 1/τ)", "the scale is softplus(θ), not exp(θ)", lambda t: 1 / math.log1p(1 / t), ""),
    ("sigmoid(τ)", "the temperature is sigmoid(τ)", lambda t: 1 / (1 + math.exp(-t)), ""),
    ("1 + τ", "the temperature is 1 + τ", lambda t: 1 + t, ""),
    (
        "1/⌊1/τ⌋",
        "the scale is 1//τ, a whole number (integer division), 0 from τ > 1 on",
        lambda t: 1 / max(1 // t, 1e-30),  # of .2 it is 4
        "",
    ),
)


def _to_tau(question: Question, scalar: float) -> float:
    return math.exp(-scalar) if question.scalar == "log_scale" else scalar


def _from_tau(question: Question, t: float) -> float:
    return -math.log(t) if question.scalar == "log_scale" else t


class Law(NamedTuple):
    said: str
    formula: str
    at: Callable[[float], float]  # scalar -> scalar
    name: str = ""


def laws(question: Question) -> list[Law]:
    """Return the laws that a temperature may obey, where there is one."""
    if not question.recipe.scaled:
        return []
    return [Law(said, formula, _law(question, partial(_alone, f), 0.0), name) for formula, said, f, name in LAWS]


def temperature_law(question: Question, results: list[Result]) -> Law | None:
    """Return how the temperature that is measured depends on the one that is passed, where it is a temperature."""
    if not question.recipe.scaled:
        return None
    for law in laws(question):
        if fits_value(question, results[:1], law.at) and fits_value(question, results, law.at):
            return law
    wrong = [r for r in results if not agrees(r.right, r.outcome, scalar=False, grads=False)]
    if any(np.ndim(r.outcome.value) for r in results) or not wrong:
        return None
    here = _to_tau(question, float(wrong[0].probe.scalar or 0.0))
    passed = {round(_to_tau(question, float(x.probe.scalar or 0.0)), 12) for x in results}
    found = _temperatures(question, wrong[0])
    return _with_a_number(question, results, here, found, len(passed))


def _temperatures(question: Question, r: Result) -> list[float]:
    """Return the temperatures at which the loss has the value of an answer."""
    here = math.log(_to_tau(question, float(r.probe.scalar or 0.0)))

    def off(log_t: float) -> float:
        return value_off(question, r, r.probe.inputs, _from_tau(question, math.exp(log_t)))

    return [math.exp(x) for x in roots(off, here, np.linspace(math.log(3e-4), math.log(3e3), 41))]


def _alone(f: Callable[[float], float], t: float, _: float) -> float:
    return f(t)


def _law(question: Question, f: Callable[[float, float], float], c: float) -> Callable[[float], float]:
    """Return the scalar that a law f(τ, c) makes of the one that is passed."""
    return lambda s: _from_tau(question, f(_to_tau(question, s), c))


# Laws with one number c, which one answer tells: from the temperature asked for and the one passed, and back.
ONE_NUMBER: tuple[tuple[str, str, Callable[[float, float], float], Callable[[float, float], float]], ...] = (
    (
        "the temperature that is passed is ignored: {:.6g} is hard-coded",
        "{:.6g}",
        lambda t, here: t,
        lambda here, c: c,
    ),
    ("the temperature is {:.6g} times what is passed", "{:.6g} τ", lambda t, here: t / here, lambda here, c: c * here),
    ("{:.6g} is added to the temperature", "τ + {:.6g}", lambda t, here: t - here, lambda here, c: here + c),
    (
        "the temperature is what is passed to the power {:.6g}",
        "τ^{:.6g}",
        lambda t, here: math.log(t) / math.log(here),
        lambda here, c: here**c,
    ),
)


def _with_a_number(
    question: Question, results: list[Result], here: float, found: list[float], passed: int
) -> Law | None:
    """Return the law through what one answer asks for, where all answers obey it."""
    for t in map(nice, found):
        for said, formula, number, law in ONE_NUMBER[1:2] if passed == 1 else ONE_NUMBER:
            c = nice(number(t, here))
            made = Law(said.format(c), formula.format(c), _law(question, law, c))
            if not fits_value(question, results, made.at):
                continue
            if passed == 1:
                said = f"it is the loss at another temperature: {t:.6g} instead of {here:.6g}"
                return made._replace(said=said, formula=f"{t:.6g}")
            if formula.startswith("τ^") and question.scalar == "log_scale":
                return made._replace(said=f"the scale is {math.exp(c):.6g}^θ", formula=f"{math.exp(c):.6g}^-θ")
            return made
    return None


def point_by_point(question: Question, results: list[Result]) -> Law | None:
    """Return the law as a table, where the answers at each temperature that is passed ask for one."""
    if not question.recipe.scaled or any(np.ndim(r.outcome.value) for r in results):
        return None
    groups: dict[float, list[Result]] = {}
    for r in results:
        groups.setdefault(float(r.probe.scalar or 0.0), []).append(r)
    if len(groups) < 2 or max(map(len, groups.values())) < 3:
        return None
    table: dict[float, float] = {}
    for s, group in groups.items():
        fitting = [t for t in _temperatures(question, group[0]) if fits_value(question, group, _always(question, t))]
        if not fitting and len(group) > 2:
            return None
        if len(fitting) != 1:
            continue  # one answer may be that of several temperatures, or of none that is finite
        t = fitting[0]
        if len(group) > 2 and abs(t / _to_tau(question, s) - 1) < 1e-9:
            return None  # several answers say that it is right there; elsewhere one answer tells nothing
        table[s] = t
    if len(table) < len(groups):  # then what one answer alone asks for is not believed either
        table = {s: t for s, t in table.items() if len(groups[s]) > 2}
    if not table:
        return None
    points = ", ".join(f"{table[s]:.4g} at {_to_tau(question, s):.4g}" for s in sorted(table))
    at = {s: _from_tau(question, t) for s, t in table.items()}
    return Law(f"the temperature is another function of what is passed: {points}", points, at.__getitem__)


def _always(question: Question, t: float) -> Callable[[float], float]:
    return lambda _: _from_tau(question, t)


def clamped(question: Question, results: list[Result]) -> Law | None:
    """Return the bounds between which the temperature is held, where all answers obey them; cold batches count too."""
    finite = forgiven([r for r in results if r.outcome.finite and r.probe.scalar is not None])
    tau = {id(r): _to_tau(question, float(r.probe.scalar or 0.0)) for r in finite}
    wrong = sorted(
        (r for r in finite if not agrees(r.right, r.outcome, scalar=False, grads=False)), key=lambda r: tau[id(r)]
    )
    if not question.recipe.scaled or not wrong or len(wrong) == len(finite) or np.ndim(wrong[0].outcome.value):
        return None
    coldest, warmest = wrong[0], wrong[-1]
    # A value may be that of two temperatures: people write the shorter number.
    lows = _shortest_first(t for t in _temperatures(question, coldest) if t > tau[id(coldest)])
    highs = _shortest_first(t for t in _temperatures(question, warmest) if t < tau[id(warmest)])
    if len(wrong) == 1:  # some bound explains one answer, whatever is wrong with it: a short number is believed
        lows, highs = ([t for t in ts if t == float(f"{t:.3g}")] for ts in (lows, highs))
    for low, high in product((*lows, 0.0), (*highs, math.inf)):
        law = Law(_bounds(low, high), f"min(max(τ, {low:.6g}), {high:.6g})", _between(question, low, high))
        if (low or high < math.inf) and fits_value(question, finite, law.at):
            return law
    return None


def _shortest_first(temperatures: Iterable[float]) -> list[float]:
    return sorted(map(nice, temperatures), key=lambda t: len(f"{t:.9g}"))


def _bounds(low: float, high: float) -> str:
    at_most = [f"at most {high:.6g}"] if high < math.inf else []
    at_least = [f"at least {low:.6g}, a scale of at most {1 / low:.6g}"] if low else []
    return f"the temperature is clamped: {', '.join(at_most + at_least)}"


def _between(question: Question, low: float, high: float) -> Callable[[float], float]:
    return lambda s: _from_tau(question, min(max(_to_tau(question, s), low), high))


def no_gradient_beyond(question: Question, results: list[Result]) -> Difference | None:
    """Say from where on the scalar gets no gradient, as where it is clamped; only cold batches may show it."""
    name = question.scalar
    asked = [r for r in results if r.outcome.dscalar is not None and r.right.dscalar is not None and r.probe.scalar]
    right = [float(r.probe.scalar or 0.0) for r in asked if agrees(r.right, r.outcome, value=False, grads=False)]
    wrong = [r for r in asked if not agrees(r.right, r.outcome, value=False, grads=False)]
    if not right or not wrong or any(r.outcome.dscalar != 0.0 or not r.right.dscalar for r in wrong):
        return None
    there = [float(r.probe.scalar or 0.0) for r in wrong]
    if min(there) >= max(right) - 1e-6:
        bound, side, most = min(there), "from {} on", "most"
    elif max(there) <= min(right) + 1e-6:
        bound, side, most = max(there), "up to {}", "least"
    else:
        return None
    scale = f", a scale of at {most} {math.exp(bound):.6g}" if name == "log_scale" else ""
    or_ask = ", or ask for it: clamp=(lowest, highest)" if "clamp" in question.pair.settings else ""
    return say(
        "no gradient beyond",
        f"d{name}",
        scalar=name,
        from_where=side.format(f"{bound:.4g}"),
        scale=scale,
        right=wrong[0].right.dscalar,
        or_ask=or_ask,
    )
