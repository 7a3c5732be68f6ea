"""Runs on a Dask cluster: any number of machines, reached through their scheduler.

In:  the scheduler's address.  Out: workers for a study.
The samples are sent once to every worker; a run and its encoder are little. A worker that is lost loses its run only:
Dask gives it to another one. Progress comes back as events.
"""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

from refcl.experiment.errors import StudyError
from refcl.experiment.info import machine
from refcl.experiment.objectives import Run
from refcl.experiment.study.job import Arrays, Outcome, Work, evaluate_run, train_run
from refcl.experiment.study.workers import Borrowed

TOPIC = "refcl"
WAIT_SECONDS = 10  # for the scheduler to answer
COUNT_SECONDS = 2.0  # how often the workers are counted


@contextmanager
def cluster_at(address: str, work: Work) -> Iterator["Cluster"]:
    """Connect to a cluster.

    Parameters
    ----------
    address : str
        The scheduler's, such as ``tcp://10.0.0.1:8786``.
    work : Work
        What the runs share; its data are the samples themselves, which are sent.

    Yields
    ------
    Cluster
        Workers for a study.

    Raises
    ------
    StudyError
        Where ``distributed`` is not installed, nobody answers at the address, there is no worker, or a worker has
        other versions or BLAS kernels and ``work.mixed`` is false.
    """
    try:
        import distributed
    except ImportError:
        raise StudyError(
            "--cluster needs the package distributed, which the extra cluster of refcl brings; "
            "--jobs runs on this machine."
        ) from None
    try:
        client = distributed.Client(address, timeout=WAIT_SECONDS, set_as_default=False)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StudyError(f"no scheduler answers at {address} ({reason}); give --cluster its address.") from None
    with client:
        _check_workers(client, work, address)
        name = f"refcl {uuid.uuid4()}"
        # Not scattered: Dask drops copies that nobody waits for, and what a lost worker held alone cancels every run.
        client.register_plugin(_carrier(name, work))
        try:
            yield Cluster(client, work, name)
        finally:
            with suppress(OSError):  # a scheduler that has gone holds nothing
                client.unregister_worker_plugin(name)


def _carrier(name: str, work: Work) -> Any:
    """Return what brings the work to every worker: those that are there, and those that join later."""
    from distributed import WorkerPlugin

    carrier = WorkerPlugin()
    carrier.name, carrier.work = name, work
    return carrier


def _check_workers(client: Any, work: Work, address: str) -> None:
    try:
        there = client.run(machine)
    except Exception as error:  # whatever a worker that cannot import refcl raises comes back as it is
        raise StudyError(
            f"a worker at {address} cannot run refcl ({type(error).__name__}: {error}); install it there."
        ) from None
    if not there:
        raise StudyError(f"the scheduler at {address} has no workers; start some with dask worker {address}.")
    for worker, found in there.items():
        for name in sorted({**work.machine, **found}):
            ours, theirs = work.machine.get(name, "none"), found.get(name, "none")
            if ours != theirs and not work.mixed:
                raise StudyError(
                    f"the worker {worker} has {name} {theirs}, and the study {ours}: it would give other bits; make "
                    "them alike, leave the worker out, or take it with --mixed."
                )


class Cluster(Borrowed):
    """The workers of a cluster."""

    def __init__(self, client: Any, work: Work, name: str) -> None:
        super().__init__(client.get_executor(pure=False), work)
        self.client, self.name = client, name
        self.done: dict[int, int] = {}
        self.counted, self.threads = -COUNT_SECONDS, 0
        client.subscribe_topic(TOPIC, self._heard)

    def width(self) -> int:
        # Twice the threads: a worker has its next half of a run at hand when it is done with one.
        if monotonic() - self.counted > COUNT_SECONDS:  # workers come and go
            self.counted, self.threads = monotonic(), sum(self.client.nthreads().values())
        return max(1, 2 * self.threads)

    def train(self, position: int, run: Run) -> Any:
        return self._noted(self.executor.submit(_train, self.name, run, position))

    def evaluate(self, run: Run, kept: Path, trained: Mapping[str, Any]) -> Any:
        return self._noted(self.executor.submit(_evaluate, self.name, run, dict(trained)))

    def epochs_done(self) -> int | None:
        return sum(self.done.values())

    def stop(self, *, now: bool) -> None:
        super().stop(now=now)
        self.client.unsubscribe_topic(TOPIC)

    def _heard(self, event: tuple[float, Any]) -> None:
        _, (position, epoch) = event
        self.done[position] = epoch


# --- on a worker ---


def _train(name: str, run: Run, position: int) -> Arrays:
    from distributed import get_worker

    worker = get_worker()
    return train_run(worker.plugins[name].work, run, lambda epoch: worker.log_event(TOPIC, (position, epoch)))


def _evaluate(name: str, run: Run, trained: dict[str, Any]) -> Outcome:
    from distributed import get_worker

    return evaluate_run(get_worker().plugins[name].work, run, trained)
