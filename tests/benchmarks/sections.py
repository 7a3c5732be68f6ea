"""What is measured.

In:  sizes, rounds, contenders.
Out: records by contender: seconds, peak memory, value and gradients' norms, or the reason why one is left out.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import median, quantiles
from time import sleep
from typing import Any, NamedTuple

from children import ROOT, Child, Left, environment
from contenders import CONTENDERS
from machine import available_bytes

Record = dict[str, Any]
Records = dict[str, Record]
Tick = Callable[[str], None]

REST = 0.1  # seconds between two contenders: the threads of the one before spin for a while before they sleep
SHARE_OF_MEMORY = 0.8  # of what is available; a contender that would need more is left out
DENSE_REFCL = 6.0  # N × N matrices of the walk, where there is no tiled path


class Effort(NamedTuple):
    """How long to measure, and with what."""

    threads: int
    dimension: int
    rounds: int
    least: float  # seconds that a contender runs in each round, if one call does not take longer
    pause: float  # seconds before each call
    without: tuple[str, ...]


def compare(loss: str, rows: int, effort: Effort, tick: Tick) -> Records:
    """Measure every contender at one size, in turn, as many rounds as asked for."""
    names = [name for name, contender in CONTENDERS.items() if loss in contender.losses and name not in effort.without]
    tasks = {name: {"kind": "loss", "loss": loss, "contender": name, "rows": rows} for name in names}
    unfit = {name: reason for name in names if (reason := does_not_fit(name, rows))}
    return in_turn(tasks, unfit, effort, effort.rounds, lambda what: tick(f"{loss}, {rows} rows: {what}"))


def train(effort: Effort, tick: Tick) -> Records:
    """Measure one training step, refcl's, PyTorch's and bare NumPy's, in turn."""
    names = [name for name in ("refcl", "eager", "bare") if name not in effort.without]
    tasks = {name: {"kind": "training_step", "contender": name} for name in names}
    return in_turn(tasks, {}, effort, effort.rounds, lambda what: tick(f"training step: {what}"))


def weigh(rows: int, effort: Effort, tick: Tick) -> dict[str, Records]:
    """Measure the memory that one call of each contender needs at one size, nothing repeated."""
    found: dict[str, Records] = {}
    for loss in ("info_nce", "nt_xent"):
        found[loss] = {}
        for name, contender in CONTENDERS.items():
            if loss not in contender.losses or name in (*effort.without, "floor"):
                continue
            tick(f"memory of {loss}, {rows} rows: {contender.title}")
            if reason := does_not_fit(name, rows):
                found[loss][name] = {"left_out": reason}
                continue
            with Child(
                effort.threads, kind="loss", loss=loss, contender=name, rows=rows, dimension=effort.dimension
            ) as child:
                found[loss][name] = attempt(child.first)
    return found


def grow(few: int, many: int, effort: Effort, tick: Tick) -> dict[str, Records]:
    """Measure refcl alone at two sizes, in turn, a few rounds."""
    found: dict[str, Records] = {}
    for loss in ("info_nce", "nt_xent"):
        unfit = {str(rows): reason for rows in (few, many) if (reason := does_not_fit("refcl", rows))}
        tasks = {str(rows): {"kind": "loss", "loss": loss, "contender": "refcl", "rows": rows} for rows in (few, many)}
        tick(f"growth of {loss}")
        found[loss] = in_turn(tasks, unfit, effort, min(effort.rounds, 3), tick)
    return found


def imports(effort: Effort, tick: Tick) -> Records:
    """Measure the import of refcl and of NumPy, each time in a fresh process, in turn."""
    taken: dict[str, list[float]] = {"numpy": [], "refcl": []}
    kept = environment(effort.threads)
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # it would have refcl compiled at every import, and NumPy not
    for round_ in range(-1, 3 * effort.rounds):
        tick("imports")
        for module, seconds in taken.items():
            program = f"from time import perf_counter as t; a = t(); import {module}; print(t() - a)"
            done = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=kept, cwd=ROOT
            )
            if round_ >= 0:  # the first writes the bytecode and wakes the disk
                seconds.append(float(done.stdout))
    return {module: spread(seconds) for module, seconds in taken.items()}


def in_turn(tasks: dict[str, Record], unfit: dict[str, str], effort: Effort, rounds: int, tick: Tick) -> Records:
    """Start a process for each task, let them run one after the other, round by round."""
    records: Records = {}
    with ExitStack() as stack:
        ready: dict[str, Child] = {}
        for name, task in tasks.items():
            if name in unfit:
                records[name] = {"left_out": unfit[name]}
                continue
            ready[name] = stack.enter_context(Child(effort.threads, dimension=effort.dimension, **task))
        for name, child in list(ready.items()):
            tick(f"first call of {name}")
            records[name] = attempt(child.first)
            if "left_out" in records[name]:
                del ready[name]
        taken: dict[str, list[float]] = {name: [] for name in ready}
        for round_ in range(rounds):
            tick(f"round {round_ + 1} of {rounds}")
            for name, child in list(ready.items()):
                sleep(REST)
                try:
                    taken[name].append(median(child.seconds(effort.least, effort.pause)))
                except Left as reason:
                    records[name] = {"left_out": str(reason)}
                    del ready[name]
    return {
        name: record | spread(taken[name]) if "left_out" not in record else record for name, record in records.items()
    }


def attempt(first: Callable[[], Record]) -> Record:
    """Return what a child found, or why it found nothing."""
    try:
        return first()
    except Left as reason:
        return {"left_out": str(reason)}


def spread(rounds: Sequence[float]) -> Record:
    """Return the median of the rounds, how far apart their quartiles are (as a share of it), and the rounds."""
    middle = median(rounds)
    low, _, high = quantiles(rounds, method="inclusive") if len(rounds) > 1 else (middle,) * 3
    return {"seconds": middle, "spread": (high - low) / middle, "rounds": list(rounds)}


def does_not_fit(name: str, rows: int) -> str:
    """Return why a contender is not even started at a size, or nothing."""
    need, what = CONTENDERS[name].dense_bytes(rows), ""
    if name == "refcl" and importlib.util.find_spec("refcl") and not importlib.util.find_spec("refcl.strips"):
        need, what = 4.0 * DENSE_REFCL * rows**2, "without a tiled path, "
    if need <= SHARE_OF_MEMORY * available_bytes():
        return ""
    return f"{what}it would need about {need / 2**30:.0f} GiB; {available_bytes() / 2**30:.0f} GiB are free"
