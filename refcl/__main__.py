"""The command line: ``python -m refcl VERB`` or ``refcl VERB``.

In:  words of a shell.  Out: an exit status.
Every verb lives in its wing; here they are only put together, and what is heavy is imported by the verb that needs it.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import refcl
from refcl.experiment import command as experiment
from refcl.interrupt import hand_back
from refcl.oracle import command as oracle

WINGS = (experiment, oracle)  # each adds its verbs by add_verbs


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print one line on standard error and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs; what it parses has ``function``, which runs the verb.

    Examples
    --------
    >>> from refcl.__main__ import build_parser
    >>> build_parser().parse_args(["study", "--epochs", "2"]).epochs
    2
    """
    parser = Parser(prog="refcl", description="Contrastive losses with hand-derived gradients.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"refcl {refcl.__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for wing in WINGS:
        wing.add_verbs(verbs)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run a verb and return the exit status: 0, 2 where the input is wrong, 130 after Ctrl-C."""
    try:
        hand_back()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that has no τ shows a question mark
        arguments = build_parser().parse_args(words)
        status = int(arguments.function(arguments))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # who read it, such as head, has seen enough: the status of a program ended by SIGPIPE
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 141
    except KeyboardInterrupt:
        print("refcl: interrupted.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
