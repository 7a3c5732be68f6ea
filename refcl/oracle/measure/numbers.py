"""Is it right where one setting is another number, or a factor that the batch size makes?

In:  a question and answers that are not right.
Out: the setting, the law that it follows and the number; the factor of each batch.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from refcl.oracle.constants import Facts
from refcl.oracle.evidence import Result
from refcl.oracle.measure.lab import memory
from refcl.oracle.measure.settings import changed, fits_value, nice, roots, value_off
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.question import Question

# Numbers: what one setting is, as a law of what was asked and of the batch.
NUMBERS: tuple[tuple[str, Callable[[float, Any], float]], ...] = (
    ("0", lambda c, f: 0.0),
    ("1", lambda c, f: 1.0),
    ("-{}", lambda c, f: -c),
    ("1/{}", lambda c, f: 1 / c),
    ("{}²", lambda c, f: c * c),
    ("√{}", lambda c, f: math.sqrt(c)),
    ("2 {}", lambda c, f: 2 * c),
    ("{}/2", lambda c, f: c / 2),
    ("ln {}", lambda c, f: math.log(c)),
    ("exp({})", lambda c, f: math.exp(c)),
    ("ln 2 · {}: in bits", lambda c, f: c * math.log(2)),
    ("{}/ln 2", lambda c, f: c / math.log(2)),
    ("{} · π/180: in degrees", lambda c, f: c * math.pi / 180),
    ("{} · τ", lambda c, f: c * f.temperature),
    ("{}/τ", lambda c, f: c / f.temperature),
    ("τ", lambda c, f: f.temperature),
    ("1/τ", lambda c, f: 1 / f.temperature),
    ("N {}", lambda c, f: c * f.n),
    ("{}/N", lambda c, f: c / f.n),
    ("1/N", lambda c, f: 1 / f.n),
    ("τ²/{}", lambda c, f: f.temperature**2 / c),
    ("{} + ln(M/(M - 1))", lambda c, f: c + math.log(f.m / (f.m - 1))),
    ("{} + ln M", lambda c, f: c + math.log(f.m)),
    ("{} - ln M", lambda c, f: c - math.log(f.m)),
    ("{} - ln K", lambda c, f: c - math.log(f.negatives)),
    ("{} - ln(K/M)", lambda c, f: c - math.log(f.negatives / f.m)),
    ("{} - 2 ln(K/M)", lambda c, f: c - 2 * math.log(f.negatives / f.m)),
    ("-{} - 2 ln(K/M)", lambda c, f: -c - 2 * math.log(f.negatives / f.m)),
    ("1 - {}", lambda c, f: 1 - c),
    ("N", lambda c, f: float(f.n)),
    ("N/2", lambda c, f: f.n / 2),
    ("2N", lambda c, f: 2.0 * f.n),
    ("1/K, K all negatives", lambda c, f: 1 / f.negatives),
    ("1/(K+1), all candidates", lambda c, f: 1 / (f.negatives + 1)),
)


def numbers(question: Question) -> dict[str, float]:
    """Return the settings that are numbers, and what they are."""
    import inspect

    found = {}
    # A margin that was not asked for is told by how often the positive counts in the denominator.
    freed = "label_smoothing" in question.pair.settings
    unasked = {"margin", "angular_margin"} - set(question.asked) if freed else set()
    for p in inspect.signature(question.pair).parameters.values():
        now = question.asked.get(p.name, p.default)
        if p.kind is p.KEYWORD_ONLY and p.name not in ("eps", "tile", "hardest", *unasked):
            if isinstance(now, float | int) and not isinstance(now, bool):
                found[p.name] = float(now)
            elif p.name in ("base_temperature", "log_normalizer"):
                found[p.name] = float("nan")
    found |= dict(zip(question.more, question.more_scalars, strict=False))
    if "normalizer" in question.pair.settings:
        found["mass"] = float("nan")
    if question.scalar == "weight":
        found["weight"] = float("nan") if question.base is None else question.base
    return found


def other_numbers(question: Question, results: list[Result]) -> Iterator[tuple[str, str, Any]]:
    """Yield (setting, law, the number on the first batch) under which every value is right."""
    first = results[0]
    for name, now in numbers(question).items():
        found = None
        asked = [_own(question, name, now, r) for r in results]
        for law, f in NUMBERS:
            try:
                got = [f(c, _facts(question, r)) for c, r in zip(asked, results, strict=True)]
            except (ValueError, ZeroDivisionError, TypeError, OverflowError):
                continue
            if all(_value_is(question, name, c, r) for c, r in zip(got, results, strict=True)):
                found = (name, law.format(name), got[0])
                break
        if found is None:
            for c in roots(lambda c: _off(question, name, c, first), asked[0]):  # noqa: B023
                c = float(f"{c:.9g}") if abs(float(f"{c:.9g}") - c) < 1e-9 * abs(c) else c
                if all(_value_is(question, name, c, r) for r in results):
                    found = (name, f"{c:.6g}", c)
                    break
        if found is not None:
            yield found


def _facts(question: Question, r: Result) -> Facts:
    """Return the numbers that a setting can be made of; of a memory, M are its rows."""
    bank = memory(question, r.wide, r.probe.companions).get("bank")
    facts = question.facts(r.wide, r.probe.scalar)
    return facts if bank is None else facts._replace(m=len(bank))


def _own(question: Question, name: str, now: float, r: Result) -> float:
    if name == "log_normalizer":
        held = question.settings | question.companions(r.wide)
        return float(held[name]) if name in held else float("nan")
    return now


def _with_number(question: Question, name: str, c: float) -> tuple[Question | None, Callable[[Any], Any] | None]:
    """Return the question in which a setting is a number, and the law of its scalar, where that is the setting."""
    if c is None or not math.isfinite(c):
        return None, None
    if name == "weight":
        return question, lambda _: c
    if name == "mass":
        return replace(question, settings=question.settings | {"mass": c}, plain=False), None
    return changed(question, **{name: np.asarray(c) if name == "log_normalizer" else float(c)}), None


def _value_is(question: Question, name: str, c: float, r: Result) -> bool:
    other, law = _with_number(question, name, c)
    return other is not None and fits_value(other, [r], law)


def _off(question: Question, name: str, c: float, r: Result) -> float:
    other, law = _with_number(question, name, c)
    scalar = r.probe.scalar if law is None else law(c)
    return float("nan") if other is None else value_off(other, r, r.probe.inputs, scalar)


def scale_by_batch(question: Question, results: list[Result]) -> Difference | None:
    """Say by what the value is multiplied on each batch, where that is a number over N, or counts active anchors."""
    if any(np.ndim(r.outcome.value) for r in results):
        return None
    there = [(r, float(r.right.value)) for r in results if r.outcome.eps < 1e-10]
    ratios = [(r, float(r.outcome.value) / right) for r, right in there if abs(right) > 1e-12]
    found = law_by_batch(question, ratios)
    if found is None:
        return None
    return say("another factor by batch", what=found[1], factor=found[0], first=ratios[0][1])


def law_by_batch(question: Question, ratios: list[tuple[Result, float]]) -> tuple[str, str] | None:
    """Return what the factors of several batches are, a number over N or a count of active anchors, and why."""
    if len(ratios) < 3 or any(c == 0 for _, c in ratios):
        return None
    n = np.array([float(question.facts(r.wide, r.probe.scalar).anchors) for r, _ in ratios])
    for counts, formula, said in (
        (
            n,
            "N/{:.6g}",
            (
                "the sum over the batch is divided by a fixed number, {:.6g}, not by N: a batch size that is"
                " hard-coded (constant)"
            ),
        ),
        (1 / n, "{:.6g}/N", "the value is {:.6g}/N of what it should be: divided by the batch size once too often"),
        (
            n / np.array([_active(question, r) for r, _ in ratios]),
            "N/active",
            "the mean is taken over the active anchors only: those with a loss above zero (non-zero)",
        ),
    ):
        c = np.array([ratio for _, ratio in ratios]) / counts
        if np.all(np.isfinite(c)) and np.ptp(c) < 1e-9 * abs(c[0]) and np.ptp(counts) > 1e-6:
            number = nice(1 / c[0]) if formula.startswith("N/{") else nice(c[0])
            return formula.format(number), said.format(number)
    return None


def _active(question: Question, r: Result) -> float:
    other = changed(question, reduction="none")
    answer = None if other is None else answer_of_none(other, r)
    return float("nan") if answer is None else float(max(np.sum(np.abs(answer) > 1e-12), 1))


def answer_of_none(other: Question, r: Result) -> Any:
    """Return the losses of the anchors one by one."""
    try:
        return np.ravel(other.under(r.probe).expected(r.probe.inputs, r.probe.scalar, value_only=True).value)
    except (ValueError, TypeError):
        return None
