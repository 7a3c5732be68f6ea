"""Who trains: processes of this machine, or anyone's executor.

In:  the work that all runs share, and runs.
Out: futures of both halves of a run, and how many epochs are done.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from refcl.experiment.errors import StudyError
from refcl.experiment.objectives import Run
from refcl.experiment.study.job import Arrays, Outcome, Work, evaluate_run, train_run


class Workers(Protocol):
    """Whoever can be given runs."""

    def width(self) -> int:
        """Return how many halves of runs to hand out at once."""

    def train(self, position: int, run: Run) -> "Future[Arrays]":
        """Begin to train a run."""

    def evaluate(self, run: Run, kept: Path, trained: Mapping[str, Any]) -> "Future[Outcome]":
        """Begin to measure a run, whose encoder is in a file too."""

    def epochs_done(self) -> int | None:
        """Return how many epochs are done in all, or None where nobody counts them."""

    def stop(self, *, now: bool) -> None:
        """Let go of everything; at once where nobody wants the rest."""


class Borrowed:
    """Any executor: threads, processes, a cluster's. What it is given is pickled by whoever needs that."""

    def __init__(self, executor: Executor, work: Work) -> None:
        self.executor, self.work = executor, work
        self.futures: set[Future[Any]] = set()

    def width(self) -> int:
        return int(getattr(self.executor, "_max_workers", 0) or 1_000_000)

    def train(self, position: int, run: Run) -> "Future[Arrays]":
        return self._noted(self.executor.submit(train_run, self.work, run))

    def evaluate(self, run: Run, kept: Path, trained: Mapping[str, Any]) -> "Future[Outcome]":
        return self._noted(self.executor.submit(evaluate_run, self.work, run, dict(trained)))

    def epochs_done(self) -> int | None:
        return None

    def stop(self, *, now: bool) -> None:
        for future in list(self.futures):  # the executor itself is not ours to shut down
            future.cancel()  # which takes it out of the set, here or in a thread of the executor's

    def _noted(self, future: "Future[Any]") -> "Future[Any]":
        self.futures.add(future)
        future.add_done_callback(self.futures.discard)
        return future


class Pool:
    """Processes of this machine, which never outlive the study.

    Little is sent to them, lest a pipe be full when the worker that reads it ends: they load the data again, and read
    a trained encoder from its file.
    """

    def __init__(self, jobs: int, work: Work, runs: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.jobs = jobs
        self.counters = context.RawArray("q", runs)  # one a run, written by its worker alone: no lock
        self.others = set(multiprocessing.active_children())
        with _interrupts_held_back():  # half a pool would leave semaphores behind
            self.pool = ProcessPoolExecutor(jobs, context, _start_worker, (work, self.counters))
        self.lost: list[str] = []  # what ended threads of this process: without the pool's own no future is ever done
        self.hook = threading.excepthook
        threading.excepthook = lambda ended: self.lost.append(ended.exc_type.__name__)

    def width(self) -> int:
        return self.jobs

    def train(self, position: int, run: Run) -> "Future[Arrays]":
        with _interrupts_held_back():
            return self.pool.submit(_train, position, run)

    def evaluate(self, run: Run, kept: Path, trained: Mapping[str, Any]) -> "Future[Outcome]":
        with _interrupts_held_back():
            return self.pool.submit(_evaluate, run, kept)

    def epochs_done(self) -> int | None:
        if self.lost:
            raise StudyError(
                f"a thread of the study ended by {self.lost[0]}, perhaps for lack of memory; go on with fewer --jobs "
                "and --resume."
            )
        return int(sum(self.counters))

    def stop(self, *, now: bool) -> None:
        if now:  # an error, an interrupt, or nobody wants the rest: do not wait for epochs
            for process in set(multiprocessing.active_children()) - self.others:
                process.kill()
        self.pool.shutdown(cancel_futures=True)
        threading.excepthook = self.hook


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start processes that never see Ctrl-C, which a terminal sends to all: the study's own process ends them.

    Children inherit this thread's mask. The signal may still reach one of BLAS's threads, for which Python would
    interrupt this one, and a child whose parent goes while it is being started complains, after SIGTERM too: so both
    are noted and raised once all of them are there.
    """
    noted: list[int] = []
    here = threading.current_thread() is threading.main_thread()  # the only one that is interrupted
    ends = [end for end in (signal.SIGINT, signal.SIGTERM) if here and signal.getsignal(end) is not None]
    answers = {end: signal.signal(end, lambda number, _: noted.append(number)) for end in ends}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for end, answer in answers.items():
            signal.signal(end, answer)
        for number in noted[:1]:
            signal.raise_signal(number)


# --- in a worker of the pool ---

_work: Work  # set once by _start_worker: a pool hands its tasks nothing else to share
_counters: Any


def _start_worker(work: Work, counters: Any) -> None:
    global _work, _counters
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where the mask of _interrupts_held_back does not exist
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work, _counters = work, counters


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _train(position: int, run: Run) -> Arrays:
    def tick(epoch: int) -> None:
        _counters[position] = epoch

    return train_run(_work, run, tick)


def _evaluate(run: Run, kept: Path) -> Outcome:
    return evaluate_run(_work, run, kept)
