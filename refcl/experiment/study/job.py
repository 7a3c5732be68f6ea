"""One run, anywhere: train an encoder, measure it.

In:  what all runs of a study share, one run, and for the second half the trained encoder.
Out: arrays; then the record and the arrays of the run. Pure functions of what they are given, in two halves, so that
what was trained can be kept before anything else is asked of it. Whoever runs them, a pool, threads or a cluster, gets
the same bits, as long as versions and BLAS kernels are the same: where they are not, the first half says so.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from refcl.experiment.data import Data, Source, load
from refcl.experiment.device import sender
from refcl.experiment.errors import StudyError
from refcl.experiment.evaluate import encoder_of, evaluate, named_arrays
from refcl.experiment.info import machine, process_name
from refcl.experiment.objectives import Run
from refcl.experiment.pretext.tasks import TASKS
from refcl.experiment.pretext.train import train_pretext
from refcl.experiment.results import load_trained, run_name
from refcl.experiment.train import Settings, start_model, train
from refcl.strips.workers import one_blas_thread

SECONDS = "training_seconds"  # an array of the trained encoder's file
RESERVE = 31 << 20  # bytes; the most that glibc learns from are 32 MiB

Arrays = dict[str, Any]
Outcome = tuple[dict[str, Any], Arrays]  # the record, without the study's settings, and the arrays


class Work(NamedTuple):
    """What all runs of a study share."""

    data: Source | Data  # where they are, for workers that see the same files, or the samples themselves
    fingerprint: str
    settings: Settings
    machine: dict[str, str]  # versions and BLAS kernels of the study's own process
    mixed: bool = False  # whether others are taken


def train_run(work: Work, run: Run, tick: Callable[[int], None] | None = None) -> Arrays:
    """Train one encoder.

    Parameters
    ----------
    work : Work
        What the runs share.
    run : Run
        Which one.
    tick : callable, optional
        Called with the number of finished epochs after each.

    Returns
    -------
    dict of str to array
        The encoder, and ``training_seconds``.

    Raises
    ------
    StudyError
        Where the data changed, memory ran out, or this machine would give other bits.
    """
    _check_machine(work)
    with _ready(run, "train"):
        data = _data_of(work)
        start = perf_counter()
        trainer = train_pretext if run.loss in TASKS else train
        model = trainer(data, run, work.settings, sender(work.settings.device), tick or (lambda epoch: None))
        return {**named_arrays(model, run), SECONDS: np.array(perf_counter() - start)}


def evaluate_run(work: Work, run: Run, trained: Path | Mapping[str, Any]) -> Outcome:
    """Measure one encoder.

    Parameters
    ----------
    work : Work
        What the runs share.
    run : Run
        Which one.
    trained : pathlib.Path or mapping of str to array
        What `train_run` returned, or the file that it was written to.

    Returns
    -------
    record, arrays
        Without the study's settings.

    Raises
    ------
    StudyError
        Where the data changed, memory ran out, training diverged, or this machine would give other bits.
    """
    elsewhere = _check_machine(work)
    with _ready(run, "measure"):
        data, settings = _data_of(work), work.settings
        start = perf_counter()
        send = sender(settings.device)
        arrays = load_trained(trained) if isinstance(trained, Path) else dict(trained)
        if arrays is None:
            raise StudyError(f"{trained} is gone or broken; go on with --resume.")
        seconds = float(arrays.pop(SECONDS, 0.0))
        model = encoder_of(arrays, run, send)
        before = start_model(run.seed, data.training.x.shape[1], settings, send)
        numbers, measured = evaluate(model, before, data, run, settings, send)
    record = run._asdict() | {"keys": settings.keys, "epochs": settings.epochs} | numbers
    record |= {"seconds": round(seconds + perf_counter() - start, 3), "elsewhere": elsewhere}
    return record, {**arrays, **measured}


def _check_machine(work: Work) -> dict[str, str] | None:
    """Return what differs here from the study's own process; None where nothing does."""
    here = machine()
    if here == work.machine:
        return None
    differs = {
        name: here.get(name, "none") for name in {**work.machine, **here} if here.get(name) != work.machine.get(name)
    }
    if not work.mixed:
        name, value = next(iter(sorted(differs.items())))
        raise StudyError(
            f"the worker {process_name()} has {name} {value}, and the study {work.machine.get(name, 'none')}: it would "
            "give other bits; make them alike, leave the worker out, or take it with --mixed."
        )
    return {"worker": process_name(), **dict(sorted(differs.items()))}


@contextmanager
def _ready(run: Run, what: str) -> Iterator[None]:
    """Compute on one thread, and tell in one line that there was not the memory for it."""
    try:
        # glibc hands memory back to the system and fetches it again, page by page, at every step, until it has seen a
        # large block go: a step of Adam then takes a fifth of the time. The block's own pages are never touched.
        np.empty(RESERVE, dtype=np.uint8)
        # More threads would sum in another order. An overflow is told once, by evaluate, and not by all that follows.
        with one_blas_thread(alone=True), np.errstate(over="ignore", invalid="ignore"):
            yield
    except MemoryError:
        raise StudyError(
            f"not enough memory to {what} {run.loss} (seed {run.seed}); what was trained is kept: go on with --resume, "
            "fewer --jobs or a smaller --batch."
        ) from None


def _data_of(work: Work) -> Data:
    data = work.data if isinstance(work.data, Data) else _loaded(work.data)
    if data.fingerprint != work.fingerprint:
        raise StudyError(f"{data.name} changed during the study; run it again with another --out.")
    return data


@lru_cache(maxsize=1)  # a worker loads them once
def _loaded(source: Source) -> Data:
    return load(source.path, test=source.test, x=source.x, y=source.y)


def name_of_run(run: Run, settings: Settings) -> str:
    """Return the name of a run, as its files have it."""
    return run_name(run.loss, run.temperature, run.seed, settings.epochs)
