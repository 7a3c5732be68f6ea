"""What was done to the rows of an input instead of bringing each to length 1?

In:  a question and answers that are not right.
Out: what was done, to which inputs, under which every value is right to rounding.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.compare import agrees
from refcl.oracle.evidence import Result
from refcl.oracle.measure.lab import memory
from refcl.oracle.measure.settings import answer_of, changed, nice, roots, value_off
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.question import Question


# What may have been done to the rows of an input instead of bringing each to length 1.
def _length(x: Any) -> Any:
    return np.linalg.norm(x, axis=-1, keepdims=True)


def _rows(x: Any) -> Any:
    return x / np.maximum(_length(x), 1e-12)


def _standardized(x: Any, *, axis: int, ddof: int, eps: float, last: bool) -> Any:
    z = (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, ddof=ddof, keepdims=True) + eps)
    return _rows(z) if last else z


class Treatment(NamedTuple):
    """What is done to the rows of an input, and the id of the mistake, where it has one."""

    said: str
    of: Callable[[Any], Any]
    name: str = ""


TRANSFORMS = (
    Treatment("is not normalized: the value depends on the length of its rows", lambda x: x, "not-normalized"),
    Treatment(
        "is divided by the L1 norm of each row, not the L2 norm", lambda x: x / np.sum(np.abs(x), -1, keepdims=True)
    ),
    Treatment(
        "is divided by the largest entry of each row, not the L2 norm",
        lambda x: x / np.max(np.abs(x), -1, keepdims=True),
    ),
    Treatment("is divided by the squared norm (length) of each row", lambda x: x / _length(x) ** 2),
    Treatment("is divided by the square root of each row's norm", lambda x: x / np.sqrt(_length(x))),
    Treatment(
        "is divided by one norm for the whole tensor", lambda x: x / np.linalg.norm(x), "normalized-whole-tensor"
    ),
    Treatment(
        "is normalized along the wrong axis: columns to unit length",
        lambda x: x / np.linalg.norm(x, axis=0),
        "normalized-wrong-axis",
    ),
    Treatment("has its batch mean subtracted (centred) before it is normalized", lambda x: _rows(x - x.mean(0))),
    Treatment("has its batch mean subtracted (centred) and is not normalized", lambda x: x - x.mean(0)),
    *(
        Treatment(f"is standardized {over}{then}", partial(_standardized, axis=axis, ddof=ddof, eps=eps, last=last))
        for axis, over in (
            (0, "over the batch (batch norm: mean and standard deviation of each column)"),
            (-1, "row by row (layer norm)"),
        )
        for then, last in ((" before it is normalized", True), (", not brought to length 1", False))
        for ddof in (0, 1)
        for eps in (0.0, 1e-5)
    ),
    Treatment(
        "has each row's own mean subtracted before it is normalized (layer norm)",
        lambda x: _rows(x - x.mean(-1, keepdims=True)),
    ),
    Treatment("goes through tanh, coordinate by coordinate, instead of being normalized", np.tanh),
    Treatment("goes through tanh, coordinate by coordinate, before it is normalized", lambda x: _rows(np.tanh(x))),
    Treatment(
        "goes through a sigmoid, coordinate by coordinate, instead of being normalized", lambda x: 1 / (1 + np.exp(-x))
    ),
    Treatment("goes through ReLU before it is normalized", lambda x: _rows(np.maximum(x, 0))),
    Treatment("has the absolute values of its coordinates taken before it is normalized", lambda x: _rows(np.abs(x))),
    Treatment(
        "goes through a softmax over its coordinates instead of being normalized",
        lambda x: np.exp(x - x.max(-1, keepdims=True)) / np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True),
    ),
    Treatment(
        "goes through a softmax over its coordinates and is normalized then",
        lambda x: _rows(np.exp(x - x.max(-1, keepdims=True))),
    ),
    Treatment("is divided by √D times its norm", lambda x: _rows(x) / math.sqrt(x.shape[-1])),
)

ADDED = Treatment("has 1e-6 added to every coordinate", lambda x: x + 1e-6)
EPS_IN_NORM: tuple[tuple[str, Callable[[Any, float], Any]], ...] = (
    ("eps is added to the norm, ‖x‖ + eps", lambda x, e: x / (_length(x) + e)),
    ("eps is added under the root, √(‖x‖² + eps)", lambda x, e: x / np.sqrt(_length(x) ** 2 + e)),
    ("the norm is max(‖x‖, eps)", lambda x, e: x / np.maximum(_length(x), e)),
)


def _raw(question: Question) -> Question | None:
    return changed(question, normalize=False) if "normalize" in question.pair.settings else None


OTHER_ROWS = (
    Treatment("is met a row late: its row i - 1 where row i belongs", lambda x: np.roll(x, 1, 0)),
    Treatment("is met a row early: its row i + 1 where row i belongs", lambda x: np.roll(x, -1, 0)),
    Treatment("is reversed along its rows", lambda x: x[::-1]),
)
TOO_MUCH = Treatment("is brought to length 1, row by row, and should be taken as it is", _rows)
# Of stacks, an entry a step.
OTHER_STEPS = (
    Treatment("is a step late: its entry t - 1 meets entry t of the others", lambda x: np.roll(x, 1, 0)),
    Treatment("is a step early: its entry t + 1 meets entry t of the others", lambda x: np.roll(x, -1, 0)),
    Treatment("is reversed along its first axis, its steps", lambda x: x[::-1]),
)


def transforms(question: Question, results: list[Result]) -> Iterator[Difference]:
    """Yield what was done to which inputs, a memory among them, instead of bringing each row to length 1 or nothing."""
    raw = _raw(question)
    asked = raw is not None and question.recipe.normalization == "rows"
    names = (*question.inputs, *(n for n in memory(question, results[0].wide) if n in ("bank", "queue")))
    sets = [question.inputs, names[:2], *((n,) for n in names), names]
    subsets = list(dict.fromkeys(sets))
    if raw is None or not asked:
        if question.recipe.embeddings and not question.in_a_tuple:
            for subset in subsets:
                stacks = all(x.ndim == 3 for n, x in zip(names, results[0].wide, strict=False) if n in subset)
                moved = OTHER_STEPS if stacks else OTHER_ROWS if question.row.distances else ()
                treatments = (TOO_MUCH, *TRANSFORMS[1:], *moved)
                found = next((t for t in treatments if _after(question, results, subset, t.of)), None)
                if found is not None:
                    yield _treated(subset, found, "x as it is")
                    return
            yield from _multiplied(question, results)
        return
    raw_numerator = _raw_numerator(question, results)
    if raw_numerator is not None:
        yield raw_numerator
        return
    for subset in subsets:
        who = " and ".join(subset)
        for done in (*TRANSFORMS, ADDED):
            if _after(raw, results, subset, done.of, _rows):
                yield _treated(subset, done, "z = x/‖x‖, row by row")
                return
        for said, g in EPS_IN_NORM:
            eps = _eps_of(raw, results, subset, g)
            if eps is not None:
                right = question.recipe.eps
                yield say("epsilon in the norm", who, inputs=who, formula=said, eps=eps, right=right)
                return


def _multiplied(question: Question, results: list[Result]) -> Iterator[Difference]:
    """Yield by what number the first input is multiplied, as by a temperature that is none of the loss's."""
    r, name = results[0], question.inputs[0]
    for who in question.inputs[:2] if not question.row.distances else ():
        for law, power in (("1/√D", -0.5), ("1/D", -1.0), ("√D", 0.5)):
            if _after(question, results, (who,), partial(_times_width, power)):
                yield say("inputs multiplied by a width", who, law=law, input=who)
                return
    for c in roots(lambda c: value_off(question, r, (c * r.wide[0], *r.wide[1:]), r.probe.scalar), 1.0):
        c = nice(c)
        if _after(question, results, (name,), partial(np.multiply, c)):
            yield say("inputs multiplied", name, c=c, t=1 / c)
            return


def _times_width(power: float, x: Any) -> Any:
    return x * x.shape[-1] ** power


def _treated(subset: tuple[str, ...], done: Treatment, change: str) -> Difference:
    who, rows = " and ".join(subset), "each" if len(subset) > 1 else "it"
    return say("another treatment of rows", who, name=done.name, inputs=who, done=f"{rows} {done.said}", change=change)


def _raw_numerator(question: Question, results: list[Result]) -> Difference | None:
    """Say whether the positives alone are inner products of raw rows, in the numerator: that is linear in them."""
    recipe = question.recipe
    if recipe.inside not in (None, "decoupled") or recipe.pool == "simple" or len(question.inputs) != 2:
        return None
    if (
        question.positive is not None
        or recipe.reduction == "none"
        or question.scalar not in ("temperature", "log_scale")
    ):
        return None
    for r in results:
        n = len(r.wide[0])
        a, b = r.wide[0], r.wide[1][:n]
        moved = np.sum(_rows(a) * _rows(b), axis=1) - np.sum(a * b, axis=1)  # (N,)
        t = question.temperature(r.probe.scalar) or 1.0
        count = question.facts(r.wide, r.probe.scalar).anchors // n if recipe.reduction == "sum" else 1 / n
        off = float(np.sum(moved)) / t * count * question.factor_at(r.wide, r.probe.scalar)
        size = r.right.value_size + float(np.max(np.abs(a)) * np.max(np.abs(b)) * a.shape[1]) / t
        answer = r.right._replace(value=r.right.value + off, value_size=size)
        if not agrees(answer, r.outcome, scalar=False, grads=False):
            return None
    return say("raw numerator", "s_ip")


def _after(
    raw: Question,
    results: list[Result],
    subset: tuple[str, ...],
    f: Callable[[Any], Any],
    usual: Callable[[Any], Any] = lambda x: x,
) -> bool:
    for r in results:
        with np.errstate(all="ignore"):
            moved = tuple(f(x) if n in subset else usual(x) for n, x in zip(raw.inputs, r.wide, strict=True))
            held = memory(raw, r.wide, r.probe.companions)
            held = (r.probe.companions or {}) | {n: f(x) for n, x in held.items() if n in subset}
        there = r._replace(probe=replace(r.probe, companions=held)) if held else r
        answer = answer_of(raw, there, inputs=moved, value_only=True)
        if answer is None or not agrees(answer, r.outcome, scalar=False, grads=False):
            return False
    return bool(results)


def _second(g: Callable[[Any, float], Any], e: float, x: Any) -> Any:
    return g(x, e)


def _eps_of(raw: Question, results: list[Result], subset: tuple[str, ...], g: Any) -> float | None:
    r = results[0]
    if np.ndim(r.outcome.value):
        return None

    def off(log_e: float) -> float:
        moved = tuple(g(x, 10.0**log_e) if n in subset else _rows(x) for n, x in zip(raw.inputs, r.wide, strict=True))
        return value_off(raw, r, moved, r.probe.scalar)

    for log_e in roots(off, float("nan"), np.arange(-13.0, 2.1, 1.5)):
        e = float(f"{10.0**log_e:.2g}")
        for tried in (e, 10.0**log_e):
            if _after(raw, results, subset, partial(_second, g, tried), _rows):
                return tried
    return None
