"""Judging answers that a program in another language wrote back.

In:  the JSON of the test vectors, its ``answers`` filled in.
Out: one report for each group of tests that was answered.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from refcl.oracle.candidate import CannotJudge, Outcome
from refcl.oracle.check import judge
from refcl.oracle.evidence import Result
from refcl.oracle.probes import Probe
from refcl.oracle.question import Question, ask
from refcl.oracle.report import Report
from refcl.oracle.vectors import load_vectors

EPS = {"float64": float(np.finfo(np.float64).eps), "float32": float(np.finfo(np.float32).eps)}


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
        Where it is no JSON, has no answers, or answers a test that does not exist.
    """
    try:
        filled = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error.msg} in line {error.lineno}.") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not JSON: the file is not text.") from None
    answers = _answers(path, filled)
    precision = filled.get("precision", "float64")
    if precision not in EPS:
        raise ValueError(f'{path}: precision must be "float64" or "float32", got {precision!r}.')
    reports = []
    for group in load_vectors()["testGroups"]:
        answered = [(test, answers.pop(test["tcId"])) for test in group["tests"] if test["tcId"] in answers]
        if answered:
            reports.append(_judge_group(group, answered, precision))
    if answers:
        raise ValueError(f"{path}: there is no test with tcId {sorted(answers)[0]}.")
    return reports


def _answers(path: str | Path, filled: Any) -> dict[int, dict[str, Any]]:
    listed = filled.get("answers") if isinstance(filled, dict) else None
    if not isinstance(listed, list) or not listed:
        raise ValueError(
            f'{path}: no answers; expected "answers": [{{"tcId": 1, "value": ..., "gradients": ...}}, ...].'
        )
    found: dict[int, dict[str, Any]] = {}
    for k, answer in enumerate(listed):
        if not isinstance(answer, dict) or not isinstance(answer.get("tcId"), int) or "value" not in answer:
            raise ValueError(f"{path}: answers[{k}] must have a tcId and a value.")
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
    except (TypeError, ValueError):
        raise CannotJudge(f"{what} is not made of numbers.") from None
    if array.shape != shape:
        raise CannotJudge(f"{what} has shape {array.shape}; expected {shape}.")
    return array


def _without_null(x: Any) -> Any:
    if isinstance(x, list):
        return [_without_null(y) for y in x]
    return float("nan") if x is None else float(x)
