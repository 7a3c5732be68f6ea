"""The command line: ``python -m refcl VERB`` or ``refcl VERB``.

In:  words of a shell.  Out: an exit status, which can be relied on.
Every verb lives in its wing; here they are only put together, and what is heavy is imported by the verb that needs it.
Whatever ends a verb early gets one line and a status of its own, from the first line of this file on: 130 after Ctrl-C,
143 after SIGTERM, 141 where nobody reads on, 2 where the answer can't be written or refcl itself fails. Before it,
while Python starts and imports the package, Python's own answers stand.
"""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any

ENDED: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}  # exit statuses, as shells have them


def build_parser() -> Any:
    """Return the parser of all verbs; what it parses has ``function``, which runs the verb.

    Examples
    --------
    >>> from refcl.__main__ import build_parser
    >>> build_parser().parse_args(["study", "--epochs", "2"]).epochs
    2
    """
    import argparse

    import refcl
    from refcl.experiment import command as experiment
    from refcl.oracle import command as oracle

    class Parser(argparse.ArgumentParser):
        """A parser that says what is wrong in one line."""

        def error(self, message: str) -> Any:
            """Print one line on standard error and exit with status 2."""
            self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

        def _print_message(self, message: str, file: Any = None) -> None:
            """Write, and let whoever called main know where that fails, which argparse would swallow."""
            if message:
                (file or sys.stderr).write(message)

    parser = Parser(prog="refcl", description="Contrastive losses with hand-derived gradients.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"refcl {refcl.__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for wing in (experiment, oracle):  # each adds its verbs
        wing.add_verbs(verbs)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run a verb and return the exit status: the verb's own, or what the first lines of this file say."""
    ending = _Ending()
    try:
        _open_what_is_closed()
        with ending:
            parser = build_parser()
            ending.waits_no_longer()
            try:
                arguments = parser.parse_args(words)
                status = int(arguments.function(arguments))
            finally:  # argparse leaves by SystemExit
                sys.stdout.flush()
        return ending.status if status == ENDED[signal.SIGINT] and ending.came else status
    except BrokenPipeError:  # who read it, such as head, has seen enough: the status of a program ended by SIGPIPE
        _drop_output()
        return 141
    except KeyboardInterrupt:
        return _say("terminated" if ending.status == ENDED[signal.SIGTERM] else "interrupted", ending.status)
    except OSError as error:
        _drop_output()
        return _say(f"{error.filename or 'standard output'}: {error.strerror or error}", 2)
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        frame = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(f"{type(error).__name__}: {error}".split())
        where = f"{frame.filename}, line {frame.lineno}"
        return _say(f"{said} ({where}): refcl's own fault; please report what python -X dev -m refcl says", 2)
    finally:
        # An interrupt of code that is run from a string, as every named tuple is made, has Python end by the signal
        # itself, whatever was caught; the next string that is run makes it forget.
        exec("pass")


class _Ending:
    """Ctrl-C and SIGTERM, both as KeyboardInterrupt, which a verb can clean up after.

    They wait for the second that imports take: a compiled module that is interrupted while it is initialised may
    swallow the exception or fail with another one. Handlers that a caller of main has set are left alone.
    """

    def __init__(self) -> None:
        self.waits = True
        self.came: list[int] = []
        self.before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) is default:
                    self.before[number] = signal.signal(number, self.note)

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def note(self, number: int, frame: FrameType | None) -> None:
        self.came.append(number)
        if not self.waits:
            raise KeyboardInterrupt

    def waits_no_longer(self) -> None:
        self.waits = False
        if self.came:
            raise KeyboardInterrupt

    @property
    def status(self) -> int:
        return ENDED[self.came[0]] if self.came else ENDED[signal.SIGINT]


def _open_what_is_closed() -> None:
    """Give a process that was started without standard input, output or error the null device instead.

    Otherwise the next file that is opened would become its standard output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.fstat(number)  # open, but not for Python
                continue
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # a terminal that has no τ shows a question mark


def _drop_output() -> None:
    """Let the flush at exit, of what could not be written, go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(reason: str, status: int) -> int:
    with contextlib.suppress(OSError):  # where nobody can be told, the status still tells
        print(f"refcl: {reason}.", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
