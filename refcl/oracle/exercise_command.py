"""Exercises on the command line: ``refcl exercise``.

In:  words of a shell, and a file that somebody filled in.
Out: the list, an exercise, a hint, a solution, or what the oracle says to an answer; exit status 0 right, 1 wrong,
2 where nothing could be judged.
"""

import argparse
import json
import sys
import textwrap
import traceback
from pathlib import Path
from typing import Any

from refcl.oracle.candidates.child import NoAnswer, answer_of, answer_with

RIGHT, WRONG, NOT_JUDGED = 0, 1, 2

EXERCISE = """Exercises in the order of the walk, from the gradient of a mean to NT-Xent's backward. Without a number
they are listed; with one, the exercise is printed as a Python file with a gap: refcl exercise 7 > mine.py. --check
imports the file that you name and RUNS ITS CODE, with your rights, in a process of its own. Exit status: 0 right,
1 wrong, 2 could not be judged."""


def add_verb(verbs: Any) -> None:
    """Add ``exercise`` to the command line's verbs.

    Parameters
    ----------
    verbs : argparse's action of subparsers
    """
    parser = verbs.add_parser(
        "exercise", help="exercises that check themselves", description=EXERCISE, allow_abbrev=False
    )
    parser.add_argument("number", nargs="?", metavar="N", help="its number, or its name")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", type=Path, metavar="FILE", help="judge the answer in FILE")
    what.add_argument("--hint", type=int, metavar="K", help="print the hints up to the K-th")
    what.add_argument("--solution", action="store_true", help="print a solution and its reasoning")
    parser.add_argument("--json", action="store_true", help="print the list or the judgement as JSON")
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="seconds after which it is cut off [60]"
    )
    parser.set_defaults(function=exercise_command)


def exercise_command(arguments: argparse.Namespace) -> int:
    """Do what ``refcl exercise`` was asked for, and return the exit status."""
    from refcl.oracle.exercises import exercise, exercises

    if arguments.number is None:
        if arguments.check or arguments.hint is not None or arguments.solution:
            return _fail("say which exercise: refcl exercise N --check FILE.")
        listed = [{"exercise": e.number, "key": e.key, "title": e.title, "read": e.read} for e in exercises()]
        lines = [f"{e.number:3}  {e.title}" for e in exercises()]
        lines += ["", "refcl exercise 1 > mine.py makes a file with a gap, refcl exercise 1 --check mine.py judges it."]
        print(json.dumps(listed, indent=1, ensure_ascii=False) if arguments.json else "\n".join(lines))
        return RIGHT
    try:
        one = exercise(arguments.number)
    except ValueError as error:
        return _fail(str(error).removeprefix("exercise: "))
    if arguments.check:
        return _check(one, arguments)
    if arguments.hint is not None:
        if not 1 <= arguments.hint <= len(one.hints):
            return _fail(f"exercise {one.number} has hints 1 to {len(one.hints)}; got {arguments.hint}.")
        for k, words in enumerate(one.hints[: arguments.hint], 1):
            print(f"{k}. {words}")
        return RIGHT
    if arguments.solution:
        print(f"{one.solution}\n{_as_comment(one.reasoning)}")
        return RIGHT
    print(as_file(one), end="")
    return RIGHT


def as_file(one: Any) -> str:
    """Return an exercise as a Python file: the question as a comment, and the gap.

    Parameters
    ----------
    one : Exercise

    Returns
    -------
    text : str

    Examples
    --------
    >>> from refcl.oracle.exercise_command import as_file
    >>> from refcl.oracle.exercises import exercise
    >>> as_file(exercise(1)).splitlines()[0]
    '# Exercise 1. The gradient of a mean'
    """
    read = f"Read first: docs/{one.read}.md."
    then = f"refcl exercise {one.number} --check FILE judges it; --hint 1 to {len(one.hints)} helps."
    head = f"Exercise {one.number}. {one.title}\n\n{one.question}\n\n{read}\n\n{then}"
    return f"{_as_comment(head)}\n\n{one.gap}"


def _as_comment(text: str) -> str:
    """Return text as a comment: paragraphs wrapped anew, rows of numbers as they are."""
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        rows = paragraph.splitlines()
        lines += rows if paragraph.startswith("    ") else textwrap.wrap(" ".join(rows), 100)
        lines.append("")
    return "\n".join(f"# {line}".rstrip() for line in lines[:-1])


def _check(one: Any, arguments: argparse.Namespace) -> int:
    """Judge an answer in a process of its own, which is cut off when its time is up."""
    if not arguments.timeout > 0:
        return _fail(f"--timeout must be > 0, got {arguments.timeout:g}.")
    if not arguments.check.is_file():
        return _fail(
            f"there is no file {arguments.check}; make one with: refcl exercise {one.number} > {arguments.check}"
        )
    status, text = _from_a_child(one, arguments.check, arguments.timeout)
    if arguments.json:
        word = {RIGHT: "right", WRONG: "wrong", NOT_JUDGED: "not judged"}[status]
        answer = {"exercise": one.number, "key": one.key, "file": str(arguments.check), "result": word, "text": text}
        print(json.dumps(answer, ensure_ascii=False))
    elif status == NOT_JUDGED:
        _fail(text)
    else:
        print(f"Exercise {one.number}: {text[0].lower() + text[1:] if status == RIGHT else f'not yet. {text}'}")
    return status


def _from_a_child(one: Any, file: Path, timeout: float) -> tuple[int, str]:
    try:
        status, text = answer_of("refcl.oracle.exercise_command", [one.key, str(file)], timeout)
    except NoAnswer as ended:
        return NOT_JUDGED, f"{file} {ended}."
    return int(status), str(text)


def _judge(key: str, file: Path) -> tuple[int, str]:
    """Run a file and judge what it defines."""
    from refcl.oracle.exercises import exercise, judge
    from refcl.oracle.exercises.judge import NotJudged

    names: dict[str, Any] = {"__name__": "answer", "__file__": str(file)}
    try:
        exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), names)
    except SyntaxError as error:
        return NOT_JUDGED, f"{file}, line {error.lineno}: {error.msg}."
    except BaseException as error:
        line = traceback.extract_tb(error.__traceback__)[-1].lineno
        return NOT_JUDGED, f"{file} raised {type(error).__name__}: {error} in line {line}, while it was read."
    try:
        found = judge(exercise(key), names)
    except NotJudged as error:
        return NOT_JUDGED, str(error)
    return (RIGHT if found.right else WRONG), found.text


def _fail(reason: str) -> int:
    print(f"refcl exercise: {reason}", file=sys.stderr)
    return NOT_JUDGED


if __name__ == "__main__":
    answer_with(lambda: _judge(sys.argv[1], Path(sys.argv[2])))
