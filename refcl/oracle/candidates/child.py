"""A process of its own for code that may hang, crash or leave things behind.

In:  a module to run there, and its words.
Out: the one line that it answers, or how it ended without one. Its whole process group ends with the question.

The answer travels on a pipe that was the child's standard output; what is printed there goes to standard error. This
guards against accidents. It is no guard against malice: the code runs in the process that writes the verdict.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any


class NoAnswer(Exception):
    """The process ended, or was ended, before it answered; the message says how, in the past tense."""


def answer_of(module: str, words: list[str], timeout: float) -> Any:
    """Run a module in a process of its own and return its answer as soon as it is there.

    Parameters
    ----------
    module : str
        Run with ``python -m``; it calls `answer_with` once.
    words : list of str
        Its words.
    timeout : float
        Seconds after which it is cut off.

    Returns
    -------
    answer : object
        What JSON holds.

    Raises
    ------
    NoAnswer
        Where it ended without an answer, or its time was up.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", module, *words],
        start_new_session=True,  # whatever it starts goes with it
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if sys.stderr else subprocess.DEVNULL,
    )
    lines: list[bytes] = []
    reader = threading.Thread(target=_read_line, args=(child, lines), daemon=True)
    reader.start()
    end = time.monotonic() + timeout
    try:
        # What the child has forked may hold the pipe open: its own end counts too.
        while reader.is_alive() and child.poll() is None and time.monotonic() < end:
            reader.join(0.02)
        reader.join(1.0 if child.poll() is not None else 0.0)
        status = child.poll()
    finally:
        _end(child)
        reader.join(1.0)
        if not reader.is_alive() and child.stdout is not None:  # a process that left the group may still hold the pipe
            child.stdout.close()
    if lines and lines[0].endswith(b"\n"):
        with contextlib.suppress(ValueError):
            return json.loads(lines[0])
    if status is None and time.monotonic() >= end:
        raise NoAnswer(f"took longer than {timeout:g} s and was cut off")
    raise NoAnswer(_how_it_ended(child.returncode if status is None else status))


def _read_line(child: "subprocess.Popen[bytes]", lines: list[bytes]) -> None:
    assert child.stdout is not None
    with contextlib.suppress(OSError, ValueError):
        lines.append(child.stdout.readline())


def answer_with(work: Callable[[], Any]) -> None:
    """Do the work, here in the child, and write what it returns as the answer.

    Parameters
    ----------
    work : callable
        Returns what JSON can hold. What it prints on standard output goes to standard error.
    """
    sys.stdout.flush()
    pipe = os.dup(1)  # no program that is started inherits it
    os.dup2(2, 1)
    written = json.dumps(work()).encode() + b"\n"
    with os.fdopen(pipe, "wb") as out:
        out.write(written)


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"ended its process, with status {status}, before anything could be judged"
    known = {int(s): s.name for s in signal.Signals}
    name = known.get(-status, f"signal {-status}")
    return f"crashed: its process was ended by {name} before anything could be judged"


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End a process, and what it has started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()
    child.wait()
