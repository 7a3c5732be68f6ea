"""Processes, one for each contender.

In:  what to measure.  Out: what a process answered, or why it could not.
All start with the same environment: so many threads, no accelerator, no settings of OpenBLAS's kernels.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OF_THE_KERNELS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class Left(Exception):
    """Why a contender is left out."""


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a child: read by the libraries while they are imported, so set before."""
    kept = {name: value for name, value in os.environ.items() if name not in OF_THE_KERNELS}
    counts = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")
    return kept | {
        **{f"{library}_NUM_THREADS": str(threads) for library in counts},
        "NPROC": str(threads),  # what XLA sizes its thread pool by
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=true",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
        "PYTHONWARNINGS": "ignore",
    }


def cores(threads: int) -> list[int]:
    """Return the processors that children are kept to: as many as threads, of different cores where there are enough.

    Nothing is returned where there are no more processors than threads, or where the system cannot keep a process.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) <= threads:
        return []
    seen: dict[str, int] = {}
    for cpu in usable:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        seen.setdefault(siblings.read_text() if siblings.exists() else str(cpu), cpu)
    first = list(seen.values())
    return (first + [cpu for cpu in usable if cpu not in first])[:threads]


class Child:
    """A process that measures one contender whenever it is told to."""

    def __init__(self, threads: int, **task: Any) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "child.py"), json.dumps(task | {"cores": cores(threads)})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment(threads),
        )

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def first(self) -> dict[str, Any]:
        """Let the contender make its first call, and return what it found.

        Raises
        ------
        Left
            Where it cannot take part.
        """
        self._reply()
        return self._ask("begin")

    def seconds(self, least: float, pause: float) -> list[float]:
        """Let the contender run for at least so long, with a pause before each call, and return their seconds."""
        seconds: list[float] = self._ask(f"{least} {pause}")["seconds"]
        return seconds

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; its reply, or its last words, say why
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Left(self._last_words())
        reply: dict[str, Any] = json.loads(line)
        if "left_out" in reply:
            raise Left(reply["left_out"])
        return reply

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        ended = f"its process was ended by signal {-code}" if code < 0 else f"its process ended with status {code}"
        return ended + (f": {said[-1][:200]}" if said else "")
