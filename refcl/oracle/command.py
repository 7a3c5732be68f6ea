"""The oracle on the command line: ``refcl check``, ``refcl vectors`` and ``refcl verify``.

In:  words of a shell.
Out: the report (or JSON) on standard output, everything else on standard error, and an exit status: 0 correct, 1 wrong,
2 where nothing could be judged.
"""

import argparse
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from refcl.oracle.candidates.child import NoAnswer, answer_of, answer_with
from refcl.oracle.exercise_command import add_verb as add_exercise

CORRECT, WRONG, NOT_JUDGED = 0, 1, 2
FRAMEWORKS = ("numpy", "torch", "jax", "numeric")

CHECK = """Hold a loss against refcl's and say what is wrong with it. This imports the module and RUNS ITS CODE, with
your rights, in a process of its own. Exit status: 0 correct, 1 wrong, 2 could not be judged."""
VECTORS = """Write test vectors for implementations in any language: inputs, values and gradients computed at 50 digits
and rounded once, as JSON with its schema and as .npz."""
VERIFY = """Judge the answers that a program filled into the test vectors, and name the mistakes in them. Exit status:
0 all answered and correct, 1 wrong, 2 could not be judged, or not all answered."""


def add_verbs(verbs: Any) -> None:
    """Add the verbs of this wing to the command line's.

    Parameters
    ----------
    verbs : argparse's action of subparsers
        Each verb sets ``function``, which takes the parsed arguments and returns the exit status.
    """
    _add_check(verbs.add_parser("check", help="is my loss right?", description=CHECK, allow_abbrev=False))
    vectors = verbs.add_parser("vectors", help="test vectors", description=VECTORS, allow_abbrev=False)
    vectors.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder, made where it is not there")
    vectors.set_defaults(function=vectors_command)
    verify = verbs.add_parser("verify", help="judge answers", description=VERIFY, allow_abbrev=False)
    verify.add_argument("file", type=Path, metavar="FILE", help="contrastive.json with its answers filled in")
    verify.add_argument("--json", action="store_true", help="print the reports as JSON")
    verify.add_argument("--partial", action="store_true", help="what is not answered is left out on purpose")
    verify.set_defaults(function=verify_command)
    add_exercise(verbs)


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("candidate", metavar="MODULE:FUNCTION", help="package.module:function or path/file.py:function")
    parser.add_argument("--loss", required=True, metavar="NAME", help="any loss of refcl: nt_xent, clip, moco, cpc …")
    parser.add_argument("--framework", choices=FRAMEWORKS, default="numpy", help="whose arrays it takes [numpy]")
    parser.add_argument("--temperature", type=float, metavar="T", help="that is baked in, or to start from")
    parser.add_argument("--log-scale", type=float, metavar="T", help="the same for clip: log(1/temperature)")
    parser.add_argument("--weight", type=float, metavar="W", help="of the simple losses")
    parser.add_argument("--reduction", choices=("mean", "sum", "none"), help="[mean]")
    parser.add_argument("--direction", choices=("first", "second", "both"), help="whose rows are anchors")
    parser.add_argument(
        "--no-normalize", dest="normalize", action="store_false", default=None, help="raw inner products"
    )
    parser.add_argument("--hardest", type=_hardest, metavar="K", help="how many negatives, or which part, is kept")
    parser.add_argument("--margin", type=float, metavar="M", help="of the triplet loss")
    parser.add_argument("--detached", action="append", metavar="INPUT", help="gets no gradient on purpose; repeatable")
    parser.add_argument("--scale", metavar="C", help="factor that is meant: a number, or 2, N/(N-1), tau/0.07 …")
    parser.add_argument(
        "--set",
        dest="more",
        type=_named_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting of the loss, its value as JSON: tau_plus=0.1, core=true, clamp=[0,4.6]; repeatable",
    )
    parser.add_argument(
        "--passes-scalar",
        action="store_true",
        default=None,
        help="it takes the temperature; where its signature hides it",
    )
    parser.add_argument("--shape", type=_shape, metavar="N,D", help="of every batch, for code that is built for one")
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="seconds after which it is cut off [60]"
    )
    parser.add_argument("--ranks", choices=("mpi",), help="judge this program of mpiexec: all ranks' rows together")
    parser.add_argument(
        "--gradients",
        choices=("whole", "averaged", "added"),
        default="whole",
        help="with --ranks: whether a rank returns the whole loss's, or they are yet to be averaged or added [whole]",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report, with its picture, as a page")
    parser.set_defaults(function=check_command)


SETTINGS = (
    "temperature",
    "log_scale",
    "weight",
    "reduction",
    "direction",
    "normalize",
    "hardest",
    "margin",
    "detached",
    "scale",
    "shape",
    "passes_scalar",
)


def check_command(arguments: argparse.Namespace) -> int:
    """Check a candidate in a process of its own, which is cut off when its time is up."""
    if not arguments.timeout > 0:
        return fail("check", f"--timeout must be > 0, got {arguments.timeout:g}.")
    given = {name: getattr(arguments, name) for name in SETTINGS if getattr(arguments, name) is not None}
    given |= dict(arguments.more)
    work = {
        "candidate": arguments.candidate,
        "loss": arguments.loss,
        "framework": arguments.framework,
        "json": arguments.json,
        "html": None if arguments.html is None else str(arguments.html.resolve()),
        "settings": given,
    }
    if arguments.ranks:
        if arguments.framework == "numeric":
            return fail("check", "--ranks needs gradients: --framework must be numpy, torch or jax, got numeric.")
        from refcl.oracle.ranks_command import check_on_ranks

        return check_on_ranks(work, arguments.timeout, arguments.gradients)
    try:
        answer = Answer(*answer_of("refcl.oracle.command", [json.dumps(work)], arguments.timeout))
    except NoAnswer as ended:
        return fail("check", f"{arguments.candidate} {ended}.")
    return said(answer)


class Answer(NamedTuple):
    """What a check comes to."""

    status: int
    report: str = ""  # for standard output
    reason: str = ""  # why nothing could be judged, for standard error


def said(answer: Answer) -> int:
    """Print an answer; returns its exit status."""
    if answer.report:
        print(answer.report)
    if answer.reason:
        return fail("check", answer.reason)
    return answer.status


def check_here(work: dict[str, Any]) -> Answer:
    """Check a candidate in this process.

    Parameters
    ----------
    work : dict
        candidate, loss, framework, json and settings, as `check_command` hands them over.

    Returns
    -------
    answer : Answer
        The exit status, and what is to be printed.
    """
    from refcl.oracle.check import check

    candidate = loaded(work)
    if isinstance(candidate, Answer):
        return candidate
    return judged(work, lambda **settings: check(candidate, work["loss"], **settings))


def loaded(work: dict[str, Any], before: Callable[[Any], Any] = lambda function: function) -> Any:
    """Return the candidate as a function of NumPy arrays, or the answer that there is none."""
    try:
        return _adapted(before(_made(load_candidate(work["candidate"]), work["candidate"])), work["framework"])
    except CandidateError as error:
        return Answer(NOT_JUDGED, reason=str(error))
    except ImportError as error:
        return Answer(NOT_JUDGED, reason=f"--framework {work['framework']}: {error}.")
    except BaseException as error:  # an instance that can't be made, a module that can't be wrapped
        return _raised("while it was made ready", error)


def judged(work: dict[str, Any], check: Callable[..., Any]) -> Answer:
    """Return what a check, given its settings, comes to."""
    settings = work["settings"]
    settings = {name: tuple(x) if isinstance(x, list) else x for name, x in settings.items()}
    if "scale" in settings:
        settings["scale"] = _number_or_name(settings["scale"])
    try:
        report = check(**settings)
    except (TypeError, ValueError, RuntimeError) as error:
        return Answer(NOT_JUDGED, reason=str(error).removeprefix("check: ").removeprefix("world: "))
    except BaseException as error:  # Ctrl-C does not reach this process: it is the candidate's own
        return _raised("while it was called", error)
    status = (CORRECT if report.ok else WRONG) if report.judged else NOT_JUDGED
    if work.get("html"):
        begun = Path(work["html"] + ".part")
        try:
            begun.write_text(report.to_html(), encoding="utf-8")
            begun.replace(work["html"])
        except OSError as error:
            return Answer(NOT_JUDGED, reason=f"--html: {error.filename}: {error.strerror}.")
    if work["json"]:
        return Answer(status, report.to_json())
    if report.judged:
        return Answer(status, str(report))
    return Answer(status, reason=report.reason + (f"\n\n{report.trace}" if report.trace else ""))


def _raised(when: str, error: BaseException) -> Answer:
    from refcl.oracle.raised import shortened

    said = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    return Answer(NOT_JUDGED, reason=f"the candidate raised {said} {when}.\n\n{shortened(error)}")


class CandidateError(Exception):
    """The candidate can't be found or imported; the message says why in one line, then where."""


def load_candidate(name: str) -> Any:
    """Import a function by name.

    Parameters
    ----------
    name : str
        "package.module:function", "package.module:object.method" or "path/file.py:function". Modules are looked for in
        the current folder first.

    Raises
    ------
    CandidateError
        Where there is no such module or function, or importing it raises.
    """
    from refcl.oracle.raised import shortened

    where, colon, what = name.replace("::", ":").rpartition(":")
    if where.endswith(".ipynb"):
        raise CandidateError(f"{where}: a notebook can't be imported; export it as a .py file.")
    if not colon or not where or not what or ".py:" in where:
        raise CandidateError(f"{name}: expected MODULE:FUNCTION.")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = _import_file(where) if where.endswith(".py") else importlib.import_module(where)
    except CandidateError:
        raise
    except BaseException as error:
        first = (str(error).splitlines() or [""])[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name is not None and where.startswith(error.name)
        trace = "" if missing else f"\n\n{shortened(error)}"
        if "no known parent package" in first:
            first += f"; name it as a module, PACKAGE.{Path(where).stem}:{what}, from the folder that holds PACKAGE"
        raise CandidateError(f"can't import {where}: {type(error).__name__}: {first}{trace}") from None
    for part in what.split("."):
        if not hasattr(found, part):
            there = ", ".join(n for n in vars(found) if not n.startswith("_")) if hasattr(found, "__dict__") else ""
            raise CandidateError(f"{where} has no {what}" + (f"; it has {there[:200]}." if there else "."))
        found = getattr(found, part)
    return found


def _made(found: Any, name: str) -> Any:
    """Return an instance of a class that needs no arguments; say so where it needs some."""
    if not isinstance(found, type) or (hasattr(found, "apply") and hasattr(found, "backward")):
        return found  # or a class that is never made, PyTorch's autograd.Function
    try:
        return found()
    except TypeError as error:
        raise CandidateError(
            f"{name} is a class, and could not be made without arguments ({error}); name an instance, such as"
            f" {name.lower()} = …"
        ) from None


def _import_file(path: str) -> Any:
    if not Path(path).is_file():
        raise CandidateError(f"{path}: no such file.")
    sys.path.insert(0, str(Path(path).resolve().parent))
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise CandidateError(f"{path}: not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _adapted(candidate: Any, framework: str) -> Any:
    from refcl.oracle.adapters import from_jax, from_module, from_torch, numeric

    if framework == "torch":
        return from_module(candidate) if hasattr(candidate, "named_parameters") else from_torch(candidate)
    return {"numpy": lambda f: f, "jax": from_jax, "numeric": numeric}[framework](candidate)


def vectors_command(arguments: argparse.Namespace) -> int:
    """Write the test vectors."""
    from refcl.oracle.vectors import copy_vectors

    try:
        written = copy_vectors(arguments.out)
    except OSError as error:
        return fail("vectors", f"{error.filename or arguments.out}: {error.strerror or error}.")
    print("\n".join(map(str, written)))
    return CORRECT


def verify_command(arguments: argparse.Namespace) -> int:
    """Judge a file of answers."""
    from refcl.oracle.verify import judge_answers

    try:
        reports, missing = judge_answers(arguments.file)
    except OSError as error:
        return fail("verify", f"{arguments.file}: {error.strerror or error}.")
    except ValueError as error:
        return fail("verify", str(error))
    if arguments.json:
        print(json.dumps([json.loads(report.to_json()) for report in reports], indent=2, ensure_ascii=False))
    else:
        print("\n".join(map(str, reports)))
    if any(not report.ok and report.judged for report in reports):
        return WRONG
    if missing and not arguments.partial:
        return fail("verify", f"{arguments.file}: {missing}; --partial judges the rest alone.")
    return CORRECT if all(report.ok for report in reports) else NOT_JUDGED


def fail(verb: str, reason: str) -> int:
    """Say why nothing could be judged; returns that exit status."""
    print(f"refcl {verb}: {reason}", file=sys.stderr)
    return NOT_JUDGED


def _hardest(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)


def _named_value(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        if equals and name.isidentifier():
            return name, json.loads(value)
    except ValueError:
        if value.replace("_", "").replace("-", "").isalnum():
            return name, value  # a word needs no quotation marks
    raise argparse.ArgumentTypeError(f'expected NAME=VALUE with a value in JSON, such as core=true; got "{text}"')


def _shape(text: str) -> tuple[int, int]:
    n, comma, d = text.partition(",")
    if not comma or not n.isdigit() or not d.isdigit():
        raise argparse.ArgumentTypeError(f"expected N,D, got {text!r}")
    return int(n), int(d)


def _number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


if __name__ == "__main__":
    answer_with(lambda: check_here(json.loads(sys.argv[1])))
