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
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

CORRECT, WRONG, NOT_JUDGED = 0, 1, 2
FRAMEWORKS = ("numpy", "torch", "jax", "numeric")

CHECK = """Hold a loss against refcl's and say what is wrong with it. This imports the module and RUNS ITS CODE, with
your rights, in a process of its own. Exit status: 0 correct, 1 wrong, 2 could not be judged."""
VECTORS = """Write test vectors for implementations in any language: inputs, values and gradients computed at 50 digits
and rounded once, as JSON with its schema and as .npz."""
VERIFY = """Judge the answers that a program filled into the test vectors, and name the mistakes in them. Exit status:
0 all correct, 1 wrong, 2 could not be judged."""


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
    verify.set_defaults(function=verify_command)


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
    parser.add_argument("--shape", type=_shape, metavar="N,D", help="of every batch, for code that is built for one")
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="seconds after which it is cut off [60]"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
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
)


def check_command(arguments: argparse.Namespace) -> int:
    """Check a candidate in a process of its own, which is cut off when its time is up."""
    if not arguments.timeout > 0:
        return _fail("check", f"--timeout must be > 0, got {arguments.timeout:g}.")
    given = {name: getattr(arguments, name) for name in SETTINGS if getattr(arguments, name) is not None}
    given |= dict(arguments.more)
    work = {
        "candidate": arguments.candidate,
        "loss": arguments.loss,
        "framework": arguments.framework,
        "json": arguments.json,
        "settings": given,
    }
    try:
        answer = _from_a_child(work, arguments.timeout)
    except subprocess.TimeoutExpired:
        return _fail("check", f"{arguments.candidate} took longer than {arguments.timeout:g} s and was cut off.")
    if answer.report:
        print(answer.report)
    if answer.reason:
        return _fail("check", answer.reason)
    return answer.status


class Answer(NamedTuple):
    """What a check comes to."""

    status: int
    report: str = ""  # for standard output
    reason: str = ""  # why nothing could be judged, for standard error


def _from_a_child(work: dict[str, Any], timeout: float) -> Answer:
    """Return the answer that a process of its own leaves in a file; its exit status may be the candidate's doing."""
    with tempfile.TemporaryDirectory() as folder:
        left = Path(folder, "answer.json")
        words = [sys.executable, "-m", "refcl.oracle.command", json.dumps(work), str(left)]
        # A session of its own, so that whatever the candidate started goes with it. What it prints goes to standard
        # error: standard output is the report's.
        out = 2 if sys.stderr else subprocess.DEVNULL
        child = subprocess.Popen(words, start_new_session=True, stdin=subprocess.DEVNULL, stdout=out)
        try:
            status = child.wait(timeout)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            _cut_off(child)
            raise
        if left.exists():
            return Answer(*json.loads(left.read_text(encoding="utf-8")))
    return Answer(NOT_JUDGED, reason=f"{work['candidate']} {_how_it_ended(status)} before anything could be judged.")


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"ended its process, with status {status},"
    known = {int(s): s.name for s in signal.Signals}
    return f"crashed: its process was ended by {known.get(-status, f'signal {-status}')}"


def _cut_off(child: "subprocess.Popen[bytes]") -> None:
    if hasattr(os, "killpg"):
        os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()
    child.wait()


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

    settings = work["settings"]
    settings = {name: tuple(x) if isinstance(x, list) else x for name, x in settings.items()}
    if "scale" in settings:
        settings["scale"] = _number_or_name(settings["scale"])
    try:
        candidate = _adapted(load_candidate(work["candidate"]), work["framework"])
    except CandidateError as error:
        return Answer(NOT_JUDGED, reason=str(error))
    except ImportError as error:
        return Answer(NOT_JUDGED, reason=f"--framework {work['framework']}: {error}.")
    try:
        report = check(candidate, work["loss"], **settings)
    except (TypeError, ValueError, RuntimeError) as error:
        return Answer(NOT_JUDGED, reason=str(error).removeprefix("check: "))
    status = (CORRECT if report.ok else WRONG) if report.judged else NOT_JUDGED
    if work["json"]:
        return Answer(status, report.to_json())
    if report.judged:
        return Answer(status, str(report))
    return Answer(status, reason=report.reason + (f"\n\n{report.trace}" if report.trace else ""))


def _leave_answer(work: str, file: str) -> None:
    """Check a candidate and leave the answer in a file, whole or not at all."""
    answer = check_here(json.loads(work))
    begun = Path(file + ".part")
    begun.write_text(json.dumps(answer), encoding="utf-8")
    begun.replace(file)


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
    from refcl.oracle.candidate import shortened

    where, colon, what = name.rpartition(":")
    if not colon or not where or not what:
        raise CandidateError(f"{name}: expected MODULE:FUNCTION.")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = _import_file(where) if where.endswith(".py") else importlib.import_module(where)
    except CandidateError:
        raise
    except (Exception, SystemExit) as error:
        first = (str(error).splitlines() or [""])[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name is not None and where.startswith(error.name)
        trace = "" if missing else f"\n\n{shortened(error)}"
        raise CandidateError(f"can't import {where}: {type(error).__name__}: {first}{trace}") from None
    for part in what.split("."):
        if not hasattr(found, part):
            there = ", ".join(n for n in vars(found) if not n.startswith("_")) if hasattr(found, "__dict__") else ""
            raise CandidateError(f"{where} has no {what}" + (f"; it has {there[:200]}." if there else "."))
        found = getattr(found, part)
    return found


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
        return _fail("vectors", f"{error.filename or arguments.out}: {error.strerror or error}.")
    print("\n".join(map(str, written)))
    return CORRECT


def verify_command(arguments: argparse.Namespace) -> int:
    """Judge a file of answers."""
    from refcl.oracle.verify import verify

    try:
        reports = verify(arguments.file)
    except OSError as error:
        return _fail("verify", f"{arguments.file}: {error.strerror or error}.")
    except ValueError as error:
        return _fail("verify", str(error))
    if arguments.json:
        print(json.dumps([json.loads(report.to_json()) for report in reports], indent=2, ensure_ascii=False))
    else:
        print("\n".join(map(str, reports)))
    if any(not report.ok and report.judged for report in reports):
        return WRONG
    return CORRECT if all(report.ok for report in reports) else NOT_JUDGED


def _fail(verb: str, reason: str) -> int:
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
        pass
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
    _leave_answer(*sys.argv[1:])
