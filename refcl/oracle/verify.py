"""Judging answers that a program in another language wrote back.

In:  the JSON of the test vectors, its ``answers`` filled in.
Out: one report for each group of tests that was answered.
"""

import importlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.candidate import Outcome
from refcl.oracle.check import judge
from refcl.oracle.evidence import Result
from refcl.oracle.probes import Probe
from refcl.oracle.question import Question, ask
from refcl.oracle.raised import CannotJudge
from refcl.oracle.report import Report
from refcl.oracle.vectors import load_schema, load_vectors

EPS = {"float64": float(np.finfo(np.float64).eps), "float32": float(np.finfo(np.float32).eps)}


class Verified(NamedTuple):
    """What judging a file of answers comes to."""

    reports: list[Report]
    missing: str  # what was not answered, in one sentence; empty where everything was


def verify(path: str | Path) -> list[Report]:
    """Judge a file of answers and name the mistakes in them.

    Parameters
    ----------
    path : str or Path
        Test vectors with ``answers``: ``[{"tcId": 1, "value": ..., "gradients": {...}}, ...]``. ``gradients`` may be
        left out, or the scalars' in it. ``"precision": "float32"`` at the top says that single precision computed
        them.

    Returns
    -------
    reports : list of Report
        One for each group that has answers, in the order of the file. The right answers are those of refcl's own
        vectors, whatever the file says.

    Raises
    ------
    OSError
        Where the file can't be read.
    ValueError
        Where it is no JSON, is not as the published schema says, or answers a test that does not exist.
    """
    return judge_answers(path).reports


def judge_answers(path: str | Path) -> Verified:
    """Judge a file of answers, as in `verify`, and say what of it was not answered."""
    filled = _read(path)
    answers = _answers(path, filled)
    reports, unanswered, bare, total = [], 0, 0, 0
    for group in load_vectors()["testGroups"]:
        answered = [(test, answers.pop(test["tcId"])) for test in group["tests"] if test["tcId"] in answers]
        total += len(group["tests"])
        unanswered += len(group["tests"]) - len(answered)
        bare += sum(not set(test["gradients"]) <= set(answer.get("gradients", {})) for test, answer in answered)
        if answered:
            reports.append(_judge_group(group, answered, filled.get("precision", "float64")))
    if answers:
        raise ValueError(f"{path}: there is no test with tcId {sorted(answers)[0]}.")
    lacking = [f"{unanswered} of {total} tests are not answered"] if unanswered else []
    lacking += [f"{bare} answers lack gradients"] if bare else []
    return Verified(reports, " and ".join(lacking))


def _read(path: str | Path) -> dict[str, Any]:
    """Return the answers of a file, which are as the published schema says; the rest of it is not looked at."""
    try:
        filled = json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=_no_name_twice)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error.msg} in line {error.lineno}.") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not JSON: the file is not text in UTF-8.") from None
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply to be answers.") from None
    except ValueError as error:  # a name twice, or an integer of thousands of digits
        raise ValueError(f"{path}: {str(error).partition(';')[0]}.") from None
    try:
        _validator()(filled)
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply to be answers.") from None
    except ValueError as error:
        raise ValueError(f"{path}: {_fault(error)}") from None
    return filled  # type: ignore[no-any-return]


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return found


@cache
def _validator() -> Callable[[Any], Any]:
    """Return what holds a file against the parts of the published schema that speak of answers."""
    fastjsonschema: Any = importlib.import_module("fastjsonschema")
    schema = load_schema()
    parts = {name: schema["properties"][name] for name in ("answers", "precision")}
    parts["answers"] = parts["answers"] | {"minItems": 1}
    whole = {"type": "object", "required": ["answers"], "properties": parts, "$defs": schema["$defs"]}
    return fastjsonschema.compile(whole, use_default=False)  # type: ignore[no-any-return]


def _fault(error: Any) -> str:
    """Return where a file departs from the schema, and in what."""
    where = error.name.removeprefix("data").removeprefix(".") or "the file"
    said = error.message.removeprefix(error.name).strip()
    if error.rule == "anyOf":
        said = 'must be numbers, null, "NaN", "Infinity", "-Infinity", or lists of these'
    came = json.dumps(error.value, default=str)
    return f"{where} {said}; got {came if len(came) <= 60 else came[:57] + '...'}."


def _answers(path: str | Path, filled: dict[str, Any]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for answer in filled["answers"]:
        if answer["tcId"] in found:
            raise ValueError(f"{path}: tcId {answer['tcId']} is answered twice.")
        found[answer["tcId"]] = answer
    return found


def _judge_group(
    group: dict[str, Any], answered: list[tuple[dict[str, Any], dict[str, Any]]], precision: str
) -> Report:
    question = ask(group["loss"], **group["settings"])
    note = f"{len(answered)} of {len(group['tests'])} tests answered."
    try:
        results = [_result(question, test, answer, precision) for test, answer in answered]
        report = judge(question, results, settings=group["settings"])
    except CannotJudge as reason:
        return Report("not judged", group["loss"], group["settings"], reason=reason.reason, notes=[note])
    except RuntimeError as error:
        return Report("not judged", group["loss"], group["settings"], reason=str(error), notes=[note])
    report.notes.append(note)
    return report


def _result(question: Question, test: dict[str, Any], answer: dict[str, Any], precision: str) -> Result:
    inputs = tuple(np.array(test["inputs"][name]) for name in question.inputs)
    scalar = test["inputs"].get(question.scalar) if question.scalar else None
    upstream = np.array(test["inputs"]["upstream"]) if "upstream" in test["inputs"] else None
    stress = test["comment"].startswith("cold")
    probe = Probe(f"{test['comment']} (test {test['tcId']})", inputs, scalar, upstream, stress=stress)
    right = question.expected(inputs, scalar, upstream)
    gradients = test["gradients"]
    right = right._replace(
        value=np.array(test["value"]),
        grads=tuple(np.array(gradients[name]) for name in question.inputs),
        dscalar=gradients.get(question.scalar) if question.scalar else None,
    )
    return Result(probe, _outcome(question, test, answer, precision), right)


def _outcome(question: Question, test: dict[str, Any], answer: dict[str, Any], precision: str) -> Outcome:
    where = f"tcId {test['tcId']}"
    value = _numbers(answer["value"], np.shape(test["value"]), f"{where}: value")
    given = answer.get("gradients") or {}
    unknown = set(given) - set(test["gradients"])
    if unknown:
        raise CannotJudge(f"{where}: there is no gradient of {sorted(unknown)[0]!r}.")
    grads = None
    absent = [name for name in question.inputs if name not in given]
    if absent and len(absent) < len(question.inputs):
        raise CannotJudge(f"{where}: the gradient of {absent[0]} is missing; give those of all arrays, or of none.")
    if not absent:
        grads = tuple(
            _numbers(given[name], np.shape(test["gradients"][name]), f"{where}: the gradient of {name}")
            for name in question.inputs
        )
    dscalar = None
    if question.scalar in given:
        dscalar = float(_numbers(given[question.scalar], (), f"{where}: the gradient of {question.scalar}"))
    return Outcome(value, grads, dscalar, EPS[precision])


def _numbers(x: Any, shape: tuple[int, ...], what: str) -> Any:
    """Return an array of a shape; null and "NaN" are what a program writes that has no number."""
    try:
        array = np.array(_without_null(x), dtype=np.float64)
    except OverflowError:
        raise CannotJudge(f"{what} is not made of numbers that fit into float64.") from None
    except (RecursionError, TypeError, ValueError):
        raise CannotJudge(f"{what} is not made of numbers.") from None
    if array.shape != shape:
        raise CannotJudge(f"{what} has shape {array.shape}; expected {shape}.")
    return array


def _without_null(x: Any) -> Any:
    if isinstance(x, list):
        return [_without_null(y) for y in x]
    return float("nan") if x is None else float(x)
