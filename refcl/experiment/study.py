"""A list of losses -> a folder of results.

In:  data, settings and a plan of runs.
Out: one record a run, in the plan's order, and the files of `results`, figures and a report.
Each run is trained in a process of its own kind: single-threaded, so that its bits do not depend on its neighbours.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from tqdm import tqdm

from refcl.experiment.catalogue import CATALOGUE, check_keys
from refcl.experiment.data import Data, load
from refcl.experiment.device import sender
from refcl.experiment.errors import StudyError
from refcl.experiment.evaluate import evaluate
from refcl.experiment.objectives import Run
from refcl.experiment.plots import draw_figures
from refcl.experiment.pretext.tasks import TASKS
from refcl.experiment.pretext.train import train_pretext
from refcl.experiment.report import write_report
from refcl.experiment.results import RESULTS, open_folder, run_name, run_path, write_json, write_run
from refcl.experiment.train import Settings, start_model, train

TRAINING = dict.fromkeys(TASKS, train_pretext)  # what is not trained by its loss
POLL_SECONDS = 0.1  # how often the progress bar looks at the workers

Record = dict[str, Any]


def plan_runs(
    losses: Sequence[str], temperatures: Sequence[float], hardest: float | int, seeds: Sequence[int]
) -> list[Run]:
    """Return every combination of losses, temperatures and seeds, as far as a loss has a temperature.

    Parameters
    ----------
    losses : sequence of str
        Names of `refcl.experiment.catalogue.CATALOGUE`.
    temperatures : sequence of float
        For the losses that have one.
    hardest : float or int
        Which negatives the hard losses keep, a fraction or a count.
    seeds : sequence of int
        One run each.

    Returns
    -------
    list of Run
        By loss, then temperature, then seed, each in the order given.

    Examples
    --------
    >>> from refcl.experiment.study import plan_runs
    >>> [(run.loss, run.temperature) for run in plan_runs(["softmax", "simple"], [0.07, 0.3], 0.1, [0])]
    [('softmax', 0.07), ('softmax', 0.3), ('simple', None)]
    """
    return [
        Run(loss, temperature, hardest if CATALOGUE[loss].hardest else None, seed)
        for loss in losses
        for temperature in (temperatures if CATALOGUE[loss].temperature else (None,))
        for seed in seeds
    ]


def run_study(
    data: Data, runs: Sequence[Run], settings: Settings, folder: Path, *, jobs: int, resume: bool, progress: bool
) -> list[Record]:
    """Train and measure every run of a plan, and write what a study leaves.

    Parameters
    ----------
    data : Data
        Both parts.
    runs : sequence of Run
        The plan.
    settings : Settings
        What the runs share.
    folder : pathlib.Path
        Where everything goes.
    jobs : int
        Processes, >= 1. The results do not depend on it.
    resume : bool
        Whether to go on with a study that the folder holds. Finished runs stay, others start again.
    progress : bool
        Whether to show a progress bar on standard error, where that is a terminal.

    Returns
    -------
    list of dict
        The records, in the plan's order.

    Raises
    ------
    StudyError
        Where the study cannot start or go on.
    OSError
        Where the folder cannot be written.
    """
    sender(settings.device)  # says at once, and once, that there is no GPU
    check_keys([run.loss for run in runs], settings.keys)
    for run in runs:
        if run.loss in TASKS:
            TASKS[run.loss](data, settings.views)  # says that these are no pictures
    if data.training.x.shape[0] < settings.batch:
        raise StudyError(
            f"{data.name}: {data.training.x.shape[0]} training samples are fewer than a batch of {settings.batch}; "
            "give a smaller --batch."
        )
    plan = [run_name(run.loss, run.temperature, run.seed) for run in runs]
    shared = _shared_settings(data, settings)
    hardest = next((run.hardest for run in runs if run.hardest is not None), None)
    there = open_folder(folder, shared | {"hardest": hardest, "runs": plan}, resume=resume)
    finished = {_name(record): record for record in there}
    missing = [run for run, name in zip(runs, plan, strict=True) if name not in finished]
    with closing(_work_through(data, missing, settings, jobs=jobs, progress=progress)) as outcomes:
        for numbers, arrays in outcomes:
            record = numbers | {"settings": shared}
            write_run(folder, record, arrays)  # first: a record promises that its arrays are there
            finished[_name(record)] = record
            write_json(folder / RESULTS, [finished[name] for name in plan if name in finished])
    records = [finished[name] for name in plan]
    draw_figures(records, folder)
    write_report(records, folder)
    return records


def _name(record: Mapping[str, Any]) -> str:
    return run_path(Path(), record).stem


def _shared_settings(data: Data, settings: Settings) -> dict[str, Any]:
    return {"data": data.name, "data_fingerprint": data.fingerprint, **_plain(settings)}


def _plain(value: Any) -> Any:
    """Return named tuples as dictionaries and other sequences as lists, as JSON gives them back."""
    if hasattr(value, "_asdict"):
        return {name: _plain(item) for name, item in value._asdict().items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


# --- in the study's own process ---


def _work_through(
    data: Data, runs: Sequence[Run], settings: Settings, *, jobs: int, progress: bool
) -> Generator[tuple[Record, dict[str, Any]], None, None]:
    """Yield the record and the arrays of each run as it is finished."""
    if not runs:
        return
    context = multiprocessing.get_context("spawn")
    epochs_done = context.RawArray("q", len(runs))  # one counter a run, written by its worker alone: no lock
    others = set(multiprocessing.active_children())
    # Little is sent, lest a pipe be full when the worker that reads it ends: the data are loaded again over there.
    pool = ProcessPoolExecutor(
        min(jobs, len(runs)), context, _start_worker, (data.source, data.fingerprint, settings, epochs_done)
    )
    try:
        with _interrupts_held_back():
            pending: set[Future[Any]] = {pool.submit(_train_and_measure, i, run) for i, run in enumerate(runs)}
        total = len(runs) * settings.epochs
        # disable=None: silent where standard error is no terminal
        with tqdm(total=total, unit="epoch", desc="training", disable=None if progress else True) as bar:
            while pending:
                done, pending = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                bar.update(sum(epochs_done) - bar.n)
                for future in done:
                    yield future.result()
    except BaseException as reason:  # an error, an interrupt, or nobody wants the rest: do not wait for epochs
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        if isinstance(reason, BrokenProcessPool):
            raise StudyError(
                "a worker process ended, perhaps for lack of memory; go on with fewer --jobs and --resume."
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start processes that never see Ctrl-C, which a terminal sends to all: the study's own process ends them.

    Children inherit this thread's mask. The signal may still reach one of BLAS's threads, for which Python would
    interrupt this one, and a child whose parent goes while it is being started complains: so it is noted and raised
    once all of them are there.
    """
    noted: list[int] = []
    here = threading.current_thread() is threading.main_thread()  # the only one that is interrupted
    answer = signal.signal(signal.SIGINT, lambda number, _: noted.append(number)) if here else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if here:
            signal.signal(signal.SIGINT, answer)
        if noted:
            signal.raise_signal(signal.SIGINT)


# --- in a worker ---

_work: tuple[Path | None, str, Settings, Any]  # set once by _start_worker: a pool hands its tasks nothing else to share


def _start_worker(source: Path | None, fingerprint: str, settings: Settings, epochs_done: Any) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where the mask of _interrupts_held_back does not exist
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = source, fingerprint, settings, epochs_done


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _train_and_measure(position: int, run: Run) -> tuple[Record, dict[str, Any]]:
    source, fingerprint, settings, epochs_done = _work
    data = load(source)
    if data.fingerprint != fingerprint:
        raise StudyError(f"{data.name} changed during the study; run it again with another --out.")

    def tick(epoch: int) -> None:
        epochs_done[position] = epoch

    start = perf_counter()
    send = sender(settings.device)
    # An overflow is told once, by evaluate, and not by every operation after it.
    with threadpool_limits(limits=1, user_api="blas"), np.errstate(over="ignore", invalid="ignore"):
        model = TRAINING.get(run.loss, train)(data, run, settings, send, tick)
        before = start_model(run.seed, data.training.x.shape[1], settings, send)
        numbers, arrays = evaluate(model, before, data, run, settings, send)
    record = run._asdict() | {"keys": settings.keys, "epochs": settings.epochs} | numbers
    return record | {"seconds": round(perf_counter() - start, 3)}, arrays
