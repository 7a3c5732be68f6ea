"""A list of losses -> a folder of results.

In:  data, settings and a plan of runs.
Out: one record a run, by column and seed, and the files of `results`, figures and a report.
A run is a pure function of its settings: who computes it, and what was there before, does not show in its bits.
"""

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from refcl.experiment.data import Data
from refcl.experiment.device import sender
from refcl.experiment.errors import StudyError
from refcl.experiment.info import machine
from refcl.experiment.objectives import OBJECTIVES, Run, check_keys
from refcl.experiment.plots import draw_figures
from refcl.experiment.plots.look import Shown
from refcl.experiment.pretext.tasks import TASKS
from refcl.experiment.report.page import write_report
from refcl.experiment.report.resampling import resample
from refcl.experiment.results import (
    RESULTS,
    alone_in,
    in_order,
    load_trained,
    name_of,
    open_folder,
    run_path,
    trained_path,
    write_arrays,
    write_json,
)
from refcl.experiment.study.job import Arrays, Outcome, Work, name_of_run
from refcl.experiment.study.workers import Borrowed, Pool, Workers
from refcl.experiment.train import Settings

POLL_SECONDS = 0.1  # how often the progress bar looks at the workers

Record = dict[str, Any]


def plan_runs(
    losses: Sequence[str], temperatures: Sequence[float], hardest: float | int, seeds: Sequence[int]
) -> list[Run]:
    """Return every combination of losses, temperatures and seeds, as far as a loss has a temperature.

    Parameters
    ----------
    losses : sequence of str
        Names of `refcl.experiment.objectives.OBJECTIVES`.
    temperatures : sequence of float
        For the losses that have one.
    hardest : float or int
        Which negatives the hard losses keep, a fraction or a count.
    seeds : sequence of int
        One run each.

    Returns
    -------
    list of Run
        By seed, so that a study that is cut short has whole tables; within one by loss, then temperature, each in the
        order given.

    Examples
    --------
    >>> from refcl.experiment.study import plan_runs
    >>> [(run.loss, run.temperature) for run in plan_runs(["info_nce", "simple_loss"], [0.07, 0.3], 0.1, [0])]
    [('info_nce', 0.07), ('info_nce', 0.3), ('simple_loss', None)]
    """
    return [
        Run(loss, temperature, hardest if OBJECTIVES[loss].hardest else None, seed)
        for seed in seeds
        for loss in losses
        for temperature in (temperatures if OBJECTIVES[loss].temperature else (None,))
    ]


def run_study(
    data: Data,
    runs: Sequence[Run],
    settings: Settings,
    folder: Path,
    *,
    jobs: int = 1,
    executor: Executor | None = None,
    cluster: str | None = None,
    mixed: bool = False,
    resume: bool = False,
    progress: bool = False,
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
        Processes of this machine, >= 1, where there is neither an executor nor a cluster.
    executor : concurrent.futures.Executor, optional
        Whoever is to compute instead. It is left open.
    cluster : str, optional
        The address of a Dask scheduler whose workers are to compute instead.
    mixed : bool
        Whether to take workers whose versions or BLAS kernels differ from this process's. What differs is then in the
        records.
    resume : bool
        Whether to go on with a study that the folder holds. Finished runs stay, encoders that were trained are
        measured, and what the plan has beyond that is trained.
    progress : bool
        Whether to show a progress bar on standard error, where that is a terminal.

    Returns
    -------
    list of dict
        All records of the folder, those of earlier plans among them, in the order of `in_order`. They depend neither
        on who computes nor on the order of things.

    Raises
    ------
    StudyError
        Where the study cannot start or go on.
    OSError
        Where the folder cannot be written.
    """
    check_plan(data, runs, settings)
    shared = shared_settings(data, settings)
    hardest = next((run.hardest for run in runs if run.hardest is not None), None)
    here = machine()
    with ExitStack() as stack:
        stack.enter_context(alone_in(folder))
        there = open_folder(folder, shared | {"hardest": hardest, "machine": here}, resume=resume)
        finished = {name_of(record): record for record in there}
        missing = [run for run in runs if name_of_run(run, settings) not in finished]
        work = Work(data.source, data.fingerprint, settings, here, mixed)
        workers: Workers | None = None
        if missing and cluster is not None:
            from refcl.experiment.study.cluster import cluster_at

            workers = stack.enter_context(cluster_at(cluster, work._replace(data=data)))
        elif missing and executor is not None:
            workers = Borrowed(executor, work._replace(data=data))
        elif missing:
            workers = Pool(min(jobs, len(missing)), work, len(missing))
        if workers is not None:
            outcomes = _work_through(folder, missing, settings, workers, progress=progress)
            for numbers, arrays in stack.enter_context(closing(outcomes)):
                record = numbers | {"settings": shared}
                write_arrays(run_path(folder, record), arrays)  # first: a record promises that its arrays are there
                finished[name_of(record)] = record
                write_json(folder / RESULTS, in_order(finished.values()))
                trained_path(folder, name_of(record)).unlink(missing_ok=True)
        records = [dict(record) for record in in_order(finished.values())]
        told = [record for record in records if record["epochs"] == settings.epochs]  # the report is about one of them
        try:
            shown = Shown(told, folder, resample(told, folder))
            draw_figures(shown)
            write_report(shown, others=len(records) - len(told))
        except MemoryError:
            raise StudyError("not enough memory to draw the report; all runs are kept: go on with --resume.") from None
    return records


def check_plan(data: Data, runs: Sequence[Run], settings: Settings) -> None:
    """Refuse a plan that cannot be run, before anything is.

    Parameters
    ----------
    data : Data
        Both parts.
    runs : sequence of Run
        The plan.
    settings : Settings
        What the runs share.

    Raises
    ------
    StudyError
        Where there is no such device, a loss goes with neither the keys nor the data, or a batch is too large.

    Examples
    --------
    >>> from refcl.experiment.data import load
    >>> from refcl.experiment.study import check_plan, plan_runs
    >>> from refcl.experiment.train import Settings
    >>> check_plan(load(), plan_runs(["info_nce"], [0.3], 0.1, [0]), Settings())
    """
    sender(settings.device)  # says at once, and once, that there is no GPU
    check_keys([run.loss for run in runs], settings.keys)
    for run in runs:
        if run.loss in TASKS:
            TASKS[run.loss](data, settings.views)  # says that these are no pictures
    samples = data.training.x.shape[0]
    if samples < settings.batch:
        raise StudyError(
            f"{data.name}: {samples} training samples are fewer than a batch of {settings.batch}; "
            f"give a smaller --batch, such as --batch {1 << samples.bit_length() - 1}."
        )


def shared_settings(data: Data, settings: Settings) -> dict[str, Any]:
    """Return what the numbers of every run depend on, as JSON gives it back; epochs are each run's own."""
    shared = _plain(settings)
    del shared["epochs"]
    counts = np.bincount(data.held_out.y, minlength=len(data.classes))
    return {
        "data": data.name,
        "data_fingerprint": data.fingerprint,
        "training_samples": int(data.training.y.size),
        "held_out_samples": int(data.held_out.y.size),
        "classes": list(data.classes),
        "guess_accuracy": float(np.max(counts) / data.held_out.y.size),
        **shared,
    }


def _plain(value: Any) -> Any:
    """Return named tuples as dictionaries and other sequences as lists, as JSON gives them back."""
    if hasattr(value, "_asdict"):
        return {name: _plain(item) for name, item in value._asdict().items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _work_through(
    folder: Path, runs: Sequence[Run], settings: Settings, workers: Workers, *, progress: bool
) -> Generator[Outcome, None, None]:
    """Yield the record and the arrays of each run as it is finished, and keep each encoder as soon as it is trained."""
    waiting = deque(enumerate(runs))
    pending: dict[Future[Any], tuple[int, Run, str]] = {}  # which half of which run
    counted = finished = 0
    now = True
    try:
        # disable=None: silent where standard error is no terminal
        total = len(runs) * settings.epochs
        with tqdm(total=total, unit="epoch", desc="training", disable=None if progress else True) as bar:
            while waiting or pending:
                while waiting and len(pending) < workers.width():
                    position, run = waiting.popleft()
                    kept = trained_path(folder, name_of_run(run, settings))
                    trained = load_trained(kept)
                    if trained is None:
                        pending[workers.train(position, run)] = position, run, "training"
                    else:
                        counted += settings.epochs
                        pending[workers.evaluate(run, kept, trained)] = position, run, "measuring"
                done, _ = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                epochs = workers.epochs_done()
                bar.update((counted + epochs if epochs is not None else finished * settings.epochs) - bar.n)
                for future in done:
                    position, run, half = pending.pop(future)
                    if half == "training":
                        arrays: Mapping[str, Any] = _result(future, run)
                        kept = trained_path(folder, name_of_run(run, settings))
                        write_arrays(kept, arrays)
                        pending[workers.evaluate(run, kept, arrays)] = position, run, "measuring"
                    else:
                        outcome = _result(future, run)
                        finished += 1
                        yield outcome
            now = False
    finally:
        workers.stop(now=now)


# What Dask raises where workers or the scheduler have gone; the package may not be there.
LOST = ("CancelledError", "KilledWorker", "FutureCancelledError", "CommClosedError", "SchedulerDisconnected")


def _result(future: "Future[Any]", run: Run) -> Any:
    try:
        return future.result()
    except BrokenProcessPool:
        raise StudyError(
            "a worker process ended, perhaps for lack of memory; go on with fewer --jobs and --resume."
        ) from None
    except (StudyError, KeyboardInterrupt):
        raise
    except Exception as error:
        kind = type(error).__name__
        if kind in LOST:
            raise StudyError(f"the cluster lost the run of {run.loss} ({kind}); go on with --resume.") from None
        raise


__all__ = ["Arrays", "check_plan", "plan_runs", "run_study", "shared_settings"]
