"""Ctrl-C while the command line is still being imported: one line and status 130, as at any later time.

In:  nothing.  Out: nothing; a program that only uses refcl is left as it is.
NumPy takes most of that time, and it is imported with the package, before a line of ``refcl.__main__`` runs.
"""

import os
import signal
import sys
from typing import Any


def guard_imports() -> None:
    """Answer Ctrl-C with one line from now on, where this process is refcl's command and nobody else answers it."""
    if _is_the_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def hand_back() -> None:
    """Answer Ctrl-C by KeyboardInterrupt again, which the verbs catch."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(*_: Any) -> None:
    # Nothing has begun that would have to be tidied up, and halfway through an import an exception could get lost.
    os.write(2, b"refcl: interrupted.\n")
    os._exit(130)


def _is_the_command() -> bool:
    """Say whether the shell was asked for ``refcl`` or ``python -m refcl``.

    Behind the program or the module's name stand as many words as behind ``sys.argv[0]``, which is only "-m" while a
    package is imported for its ``__main__``. A study's workers are started by other words.
    """
    words = len(getattr(sys, "argv", []))
    if not 0 < words <= len(sys.orig_argv):
        return False
    return os.path.basename(sys.orig_argv[-words]).removesuffix(".exe") == "refcl"
