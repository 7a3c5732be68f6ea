"""A study of a few seconds, cut off in every way that a machine knows: ``python tests/robust/chaos.py``.

In:  how often (``--kills 100``), which part (``--only kills``), and a seed.
Out: the table of docs/reliability.md, and an exit status that is not 0 where anything was lost.

The study is two runs of one epoch, in two processes. What counts is ``results.json`` without its seconds, and the
arrays of every run: after each cut, ``--resume`` must end with the very same.

Power loss is simulated by a module ``sitecustomize`` that the study imports: it notes which files were synced, and at a
random write it empties every file that was written and not synced, and ends the process. Full disks are simulated by
the same module: after so many bytes a write raises ENOSPC. Memory is limited by RLIMIT_AS. The clock that goes back is
a patched ``time.time``.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
WORDS = (
    "study --epochs 1 --losses info_nce --temperatures .1 .3 --seeds 0 --batch 256 --widths 16 --dimension 8 --quiet"
)
PATCH = """
import errno, io, os, pathlib, sys, time
kind, number = os.environ.get("CHAOS", " ").split(" ")
if kind and sys.argv[0] != "-c":  # in the study's own process, and not in its workers
    opened = pathlib.Path.open
    state = {"left": int(number or 0), "dirty": {}}

    class Watched(io.BufferedWriter):
        def write(self, content):
            if kind == "power":
                state["left"] -= 1
                state["dirty"][self.fileno()] = self.watched
                if state["left"] <= 0:
                    super().write(content)
                    for path in state["dirty"].values():
                        os.truncate(path, 0) if os.path.exists(path) else None
                    os._exit(77)
            if kind == "full":
                part = bytes(content)[: state["left"]]
                super().write(part)
                state["left"] -= len(bytes(content))
                if state["left"] < 0:
                    state["left"] = 0
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.watched))
                return len(part)
            return super().write(content)

    def open_watched(self, mode="r", *rest, **more):
        if mode != "wb":
            return opened(self, mode, *rest, **more)
        file = Watched(io.FileIO(self, "wb"))
        file.watched = self
        return file

    pathlib.Path.open = open_watched
    synced = os.fsync

    def fsync(descriptor):
        synced(descriptor)
        state["dirty"].pop(descriptor, None)

    os.fsync = fsync
if kind == "clock":
    began, real = time.time(), time.time
    time.time = lambda: began - 1e6 * (real() - began)
"""


class Place:
    """Where studies are made: a folder, and the module that breaks things."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "sitecustomize.py").write_text(PATCH, encoding="utf-8")
        self.count = 0

    def fresh(self) -> Path:
        self.count += 1
        return self.home / f"study{self.count}"

    def start(
        self, out: Path, *words: str, chaos: str = "", jobs: int = 2, memory: int = 0
    ) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, "PYTHONPATH": f"{self.home}{os.pathsep}{ROOT}", "CHAOS": chaos or " "}
        environment |= {"MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1"}
        before = (lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory))) if memory else None
        return subprocess.Popen(
            [sys.executable, "-m", "refcl", *WORDS.split(), "--jobs", str(jobs), "--out", str(out), *words],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True, preexec_fn=before,
        )  # fmt: skip

    def run(self, out: Path, *words: str, **how: Any) -> tuple[int, str]:
        process = self.start(out, *words, **how)
        try:
            _, said = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return 124, "hung"
        return process.returncode, said.decode(errors="replace")


def made(folder: Path) -> Any:
    """Return what a study made, without its seconds."""
    records = json.loads((folder / "results.json").read_bytes())
    arrays = {}
    for path in sorted((folder / "runs").iterdir()):
        with np.load(path, allow_pickle=False) as file:
            arrays[path.name] = {name: file[name].tobytes() for name in file.files if "seconds" not in name}
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records], arrays


def same(folder: Path, want: Any) -> bool:
    try:
        return bool(made(folder) == want) and (folder / "report.html").is_file()
    except (OSError, ValueError, KeyError):
        return False


def after(place: Place, out: Path, want: Any, ended: tuple[int, str], allowed: tuple[int, ...]) -> str:
    """Return what became of a study that was cut off, once it was resumed."""
    status, said = ended
    if "Traceback" in said:
        return f"traceback: {said.strip().splitlines()[-1][:80]}"
    if status not in allowed:
        return f"status {status}: {said.strip()[:80]}"
    again, said = place.run(out, "--resume")
    if again:
        return f"--resume: status {again}: {said.strip()[:100]}"
    return "identical" if same(out, want) else "differs"


def kills(place: Place, want: Any, seconds: float, count: int, rng: random.Random) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for i in range(count):
        out = place.fresh()
        kind = ("SIGKILL", "SIGTERM", "SIGINT", "power loss")[i % 4]
        if kind == "power loss":
            ended = place.run(out, chaos=f"power {rng.randint(1, 12)}")
            allowed: tuple[int, ...] = (77, 0)
        else:
            process = place.start(out)
            time.sleep(rng.uniform(0.3, seconds))
            process.send_signal(signal.Signals[kind])
            _, said = process.communicate(timeout=120)
            ended = process.returncode, said.decode(errors="replace")
            allowed = {"SIGKILL": (-9, 0), "SIGTERM": (143, -15, 0), "SIGINT": (130, -2, 0)}[kind]
            if kind == "SIGINT" and "KeyboardInterrupt" in ended[1] and not out.exists():
                found.setdefault(kind, Counter())["before the first line of refcl: Python's own answer"] += 1
                continue
        became = after(place, out, want, ended, allowed)
        found.setdefault(kind, Counter())[became] += 1
        print(f"cut {i + 1} of {count}: {kind}: {became}", file=sys.stderr, flush=True)
        shutil.rmtree(out, ignore_errors=True)
    return found


def at_once(place: Place, want: Any) -> dict[str, Counter[str]]:
    out = place.fresh()
    four = [place.start(out, "--resume", jobs=1) for _ in range(4)]
    told = Counter[str]()
    for process in four:
        _, said = process.communicate(timeout=300)
        text = said.decode(errors="replace").strip()
        last = "" if process.returncode == 0 else f": {text.splitlines()[-1].replace(str(out), 'DIR')[:90]}"
        told[f"status {process.returncode}{last}"] += 1
    told["afterwards, --resume: " + after(place, out, want, (0, ""), (0,))] += 1
    return {"four studies at once": told}


def full(place: Place, want: Any, count: int) -> dict[str, Counter[str]]:
    whole = place.fresh()
    place.run(whole)
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    told = Counter[str]()
    for i in range(count):
        out = place.fresh()
        ended = place.run(out, chaos=f"full {int(size * (i + 0.5) / count)}")
        told[after(place, out, want, ended, (2,))] += 1
        shutil.rmtree(out, ignore_errors=True)
    return {"full disk": told}


def little_memory(place: Place, want: Any, count: int) -> dict[str, Counter[str]]:
    told = Counter[str]()
    for i in range(count):
        out = place.fresh()
        status, said = place.run(out, memory=int((0.1 + 0.15 * i) * 2**30))
        first = said.strip().splitlines()[:1]
        if "Traceback" in said or status not in (0, 2):
            # below what Python and NumPy need to start, the answer is theirs
            told[f"status {status}: {'not started' if not out.exists() else (first or [''])[0][:60]}"] += 1
        else:
            told[f"status {status}, then {after(place, out, want, (status, said), (0, 2))}"] += 1
        shutil.rmtree(out, ignore_errors=True)
    return {"memory limit": told}


def clock(place: Place, want: Any) -> dict[str, Counter[str]]:
    out = place.fresh()
    return {"a clock that goes back": Counter([after(place, out, want, place.run(out, chaos="clock 0"), (0,))])}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--sizes", type=int, default=20, help="of full disks")
    parser.add_argument("--limits", type=int, default=10, help="of memory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=["kills", "at_once", "full", "memory", "clock"])
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as home:
        place = Place(Path(home))
        first = place.fresh()
        began = time.monotonic()
        status, said = place.run(first)
        seconds = time.monotonic() - began
        if status:
            print(f"the study itself ended with status {status}: {said}")
            return 2
        want = made(first)
        parts: dict[str, Callable[[], dict[str, Counter[str]]]] = {
            "kills": lambda: kills(place, want, seconds, asked.kills, rng),
            "at_once": lambda: at_once(place, want),
            "full": lambda: full(place, want, asked.sizes),
            "memory": lambda: little_memory(place, want, asked.limits),
            "clock": lambda: clock(place, want),
        }
        print("| cut off by | times | what became of it |\n|---|---|---|")
        wrong = 0
        for name in asked.only:
            for kind, told in parts[name]().items():
                for result, times in sorted(told.items()):
                    print(f"| {kind} | {times} | {result} |", flush=True)
                    wrong += times * any(
                        word in result for word in ("differs", "traceback", "hung", "--resume: status")
                    )
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
