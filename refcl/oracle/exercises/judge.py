"""Is this answer right, and if not, what is wrong with it?

In:  an exercise and the names that an answer's file defines.
Out: a `Judgement`: right or wrong, with a sentence that helps.
Known wrong answers are recognised by what they return, not by how they are written.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.exercises.text import Exercise

RELATIVE, ABSOLUTE = 1e-9, 1e-13


class Judgement(NamedTuple):
    """What an answer comes to."""

    right: bool
    text: str


class NotJudged(Exception):
    """The answer cannot be judged; the message says why."""


@dataclass(frozen=True)
class Function:
    """An answer that is a function: compared with ``reference`` on ``cases``.

    ``returns`` names what it returns, ``factors`` the numbers of a case by which one is easily wrong.
    """

    name: str
    reference: Callable[..., Any]
    cases: Callable[[np.random.Generator], list[tuple[Any, ...]]]
    returns: tuple[str, ...]
    factors: Callable[..., dict[str, float]] = lambda *case: {}
    absolute: float = ABSOLUTE  # error that is let pass, relative to the greatest entry


@dataclass(frozen=True)
class Value:
    """An answer that is a number or a word, under the name ``answer``."""

    expected: float | str
    tolerance: float = 0.0
    name: str = "answer"


@dataclass(frozen=True)
class Oracle:
    """An answer that is a loss: the oracle judges it. ``example`` is a case on which wrong answers are recognised."""

    name: str
    ask: Callable[[Callable[..., Any]], Any]
    example: Callable[[np.random.Generator], tuple[Any, ...]]
    returns: tuple[str, ...]
    before: Callable[[Callable[..., Any]], str] = lambda answer: ""


Judge = Function | Value | Oracle


def judge(exercise: Exercise, names: Mapping[str, Any]) -> Judgement:
    """Judge an answer.

    Parameters
    ----------
    exercise : Exercise
    names : mapping of str to object
        What the answer's file defines.

    Returns
    -------
    judgement : Judgement
        ``right``, and ``text`` for whoever wrote the answer.

    Raises
    ------
    NotJudged
        Where the name that is asked for is not there.

    Examples
    --------
    >>> from refcl.oracle.exercises import exercise, judge
    >>> judge(exercise(1), {"mean_backward": lambda dvalue, losses: dvalue + 0 * losses}).right
    False
    """
    from refcl.oracle.exercises.judges import JUDGES

    how = JUDGES[exercise.key]
    if how.name not in names:
        raise NotJudged(f"the file defines no {how.name}; keep the name that the gap has.")
    answer = names[how.name]
    if isinstance(how, Value):
        return _judge_value(how, answer, exercise)
    if not callable(answer):
        raise NotJudged(f"{how.name} is {type(answer).__name__}, not a function.")
    if isinstance(how, Function):
        return _judge_function(how, answer, exercise)
    return _judge_loss(how, answer, exercise)


def _judge_value(how: Value, answer: Any, exercise: Exercise) -> Judgement:
    if answer is None or answer is ...:
        return Judgement(False, "answer is still empty: put what you found in the place of the three dots.")
    if isinstance(how.expected, str):
        if not isinstance(answer, str):
            return Judgement(False, f"the answer is a word in quotes; got {answer!r}.")
        right = answer.strip().lower() == how.expected
    else:
        if isinstance(answer, bool) or not isinstance(answer, int | float | np.number):
            return Judgement(False, f"the answer is a number; got {answer!r}.")
        right = abs(float(answer) - how.expected) <= how.tolerance
    if right:
        return Judgement(True, "Right.")
    for wrong in exercise.wrong:
        if _run(wrong.code).get(how.name) == answer:
            return Judgement(False, wrong.says)
    return Judgement(
        False, f"{answer!r} is not it. Look at the hints: python -m refcl exercise {exercise.number} --hint 1"
    )


def _judge_function(how: Function, answer: Callable[..., Any], exercise: Exercise) -> Judgement:
    cases = how.cases(np.random.default_rng(exercise.number))
    expected = [flat(how.reference(*copy.deepcopy(case))) for case in cases]
    got: list[Any] = []
    for case in cases:
        given = copy.deepcopy(case)
        try:
            with np.errstate(all="ignore"):
                came = answer(*given)
        except Exception as error:
            return Judgement(False, f"{how.name} raised {type(error).__name__}: {error} on inputs {_shapes(case)}.")
        if came is None or came is ...:
            return Judgement(False, f"{how.name} returns nothing: the gap is still to be filled.")
        got.append(flat(came))
        if any(not np.array_equal(a, b, equal_nan=True) for a, b in zip(_arrays(case), _arrays(given), strict=True)):
            return Judgement(False, f"{how.name} writes into its inputs; make new arrays instead.")
    troubles = [
        trouble
        for case, found, true in zip(cases, got, expected, strict=True)
        if (trouble := _difference(how, case, found, true))
    ]
    if not troubles:
        return Judgement(True, f"Right, on {len(cases)} cases.")
    known = _recognised(how.name, cases, got, exercise)
    return Judgement(False, known or troubles[0])


def _judge_loss(how: Oracle, answer: Callable[..., Any], exercise: Exercise) -> Judgement:
    case = how.example(np.random.default_rng(exercise.number))
    try:
        with np.errstate(all="ignore"):
            came = answer(*copy.deepcopy(case))
    except Exception as error:
        return Judgement(False, f"{how.name} raised {type(error).__name__}: {error} on inputs {_shapes(case)}.")
    if came is None or came is ...:
        return Judgement(False, f"{how.name} returns nothing: the gap is still to be filled.")
    parts = flat(came)
    if len(parts) != len(how.returns):
        return Judgement(False, f"{how.name} is to return {_listed(how.returns)}; got {_counted(len(parts))}.")
    known = _recognised(how.name, [case], [parts], exercise)
    if trouble := how.before(answer):
        return Judgement(False, f"{known} {trouble}".strip())
    with np.errstate(all="ignore"):
        report = how.ask(answer)
    if report.ok:
        return Judgement(True, f"Right. The oracle says: {report.verdict}.")
    return Judgement(False, f"{known}\n\n{report}" if known else f"The oracle's verdict: {report.verdict}.\n\n{report}")


def _recognised(name: str, cases: list[tuple[Any, ...]], got: list[Any], exercise: Exercise) -> str:
    """Return what is to be said to a typical wrong answer, or nothing."""
    for wrong in exercise.wrong:
        function = _run(wrong.code).get(name)
        if function is None:
            continue
        try:
            with np.errstate(all="ignore"):
                theirs = [flat(function(*copy.deepcopy(case))) for case in cases]
        except Exception:
            continue
        if all(_same(a, b) for a, b in zip(got, theirs, strict=True)):
            return wrong.says
    return ""


def _run(code: str) -> dict[str, Any]:
    """Run code of ours, which stands in the exercise's file."""
    module = types.ModuleType("answer")
    exec(code, module.__dict__)
    return module.__dict__


def flat(came: Any) -> tuple[Any, ...]:
    """Return what a function returned as a flat tuple; ``value, (grads)`` becomes ``value, *grads``."""
    if not isinstance(came, tuple | list):
        return (came,)
    flat: list[Any] = []
    for part in came:
        flat += part if isinstance(part, tuple) else [part]
    return tuple(flat)


def _same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    try:
        pairs = [(np.asarray(x, dtype=float), np.asarray(y, dtype=float)) for x, y in zip(a, b, strict=True)]
    except (TypeError, ValueError):
        return False
    return all(x.shape == y.shape and np.allclose(x, y, rtol=1e-7, atol=1e-12, equal_nan=True) for x, y in pairs)


def _difference(how: Function, case: tuple[Any, ...], found: tuple[Any, ...], true: tuple[Any, ...]) -> str:
    """Say in what an answer differs from the right one, or nothing where it does not."""
    if len(found) != len(true):
        return f"{how.name} is to return {_listed(how.returns)}; got {_counted(len(found))}."
    for name, x, y in zip(how.returns, found, true, strict=True):
        try:
            x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        except (TypeError, ValueError):
            return f"{name} is to be numbers; got {type(x).__name__}."
        if x.shape != y.shape:
            turned = " Transposed, it would fit." if x.shape == y.shape[::-1] else ""
            return f"{name} has shape {x.shape}, expected {y.shape} for inputs {_shapes(case)}.{turned}"
        if trouble := apart(name, x, y, how.factors(*case), how.absolute):
            return f"{trouble} Inputs: {_shapes(case)}."
    return ""


def apart(name: str, x: Any, y: Any, factors: dict[str, float], absolute: float) -> str:
    finite = np.isfinite(y)
    if np.any(~np.isfinite(x) & finite):
        return f"{name} is not finite where it should be: something overflows, or 0 is divided by 0."
    if np.any(np.isfinite(x) & ~finite):
        return f"{name} is finite where {y[~finite][0]} is expected."
    size = float(np.max(np.abs(y[finite]), initial=0.0))
    wrong = finite & ~(
        np.abs(x - np.where(finite, y, 0.0)) <= RELATIVE * np.abs(np.where(finite, y, 0.0)) + absolute * size
    )
    if not np.any(wrong):
        return ""
    if not np.any(x):
        return f"{name} is zero everywhere."
    where = np.unravel_index(int(np.argmax(np.where(wrong, np.abs(x - y), -1.0))), y.shape)
    entry = f"{name}[{', '.join(map(str, where))}]" if y.ndim else name
    told = f"{entry} is {x[where]:.6g}, expected {y[where]:.6g}."
    both = finite & (np.abs(y) > absolute * size)
    ratios = x[both] / y[both]
    if ratios.size and np.allclose(ratios, ratios[0], rtol=1e-7):
        ratio = float(ratios[0])
        if np.isclose(ratio, -1.0):
            return f"{name} has the wrong sign everywhere: {told}"
        for what, factor in factors.items():
            for words, value in (
                (what, factor),
                (f"1/{what}", 1 / factor),
                (f"−{what}", -factor),
                (f"−1/{what}", -1 / factor),
            ):
                if np.isclose(ratio, value, rtol=1e-7):
                    return f"{name} is the right one times {words}, everywhere: {told}"
        return f"{name} is {ratio:.6g} times the right one, everywhere: {told}"
    if y.ndim == 2 and y.shape[0] == y.shape[1] and np.allclose(x, y.T, rtol=1e-7):
        return f"{name} is transposed: {told}"
    part = f"{int(np.sum(wrong))} of {y.size} entries are wrong. " if y.ndim else ""
    return f"{part}{told}"


def _arrays(case: Any) -> list[Any]:
    return [part for part in case if isinstance(part, np.ndarray)]


def _shapes(case: tuple[Any, ...]) -> str:
    return ", ".join(str(part.shape) if isinstance(part, np.ndarray) else repr(part) for part in case)


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _counted(count: int) -> str:
    return "one thing" if count == 1 else f"{count} things"
