"""Code that runs under mpiexec: rank 0 asks, and every rank answers with its own rows.

In:  on every rank of an MPI program the function that one rank runs.
Out: values and gradients of all ranks, as from the processes of torch.distributed; the report, on every rank.
"""

import inspect
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from refcl.oracle.raised import CannotJudge
from refcl.oracle.report import Report

PATIENCE = 5.0  # seconds for which a rank that raised waits for the others, which may wait for it


def world() -> Any:
    """Return MPI's communicator of all ranks; the first call starts MPI."""
    from mpi4py import MPI  # type: ignore[import-not-found, unused-ignore]

    return MPI.COMM_WORLD


def size() -> int:
    """Return how many ranks the program has."""
    return int(world().Get_size())


def given_comm(per_rank: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with the communicator of all ranks, where it asks for one by the name of comm."""
    try:
        comm = inspect.signature(per_rank).parameters.get("comm")
    except (TypeError, ValueError):
        return per_rank
    return per_rank if comm is None or comm.default is not comm.empty else partial(per_rank, comm=world())


def on_rank_0(judged: Callable[[Callable[[list[Any]], list[Any]]], Report], per_rank: Callable[..., Any]) -> Report:
    """Let rank 0 judge, while all ranks answer what it asks; every rank returns its report, or raises what it did."""
    comm = world().Dup()  # so that no message of the candidate's is taken for one of ours
    per_rank = given_comm(per_rank)
    outcome: Any = None
    if comm.Get_rank() == 0:
        try:
            outcome = judged(lambda shares: _asked(comm, per_rank, shares))
        except Exception as error:
            outcome = error
        comm.scatter([None] * comm.Get_size())
    else:
        while (share := comm.scatter(None)) is not None:
            _answered(comm, per_rank, share)
    outcome = comm.bcast(outcome)
    comm.Free()
    if isinstance(outcome, Exception):
        raise outcome
    report: Report = outcome
    return report


def _asked(comm: Any, per_rank: Callable[..., Any], shares: list[Any]) -> list[Any]:
    """Deal one batch to the ranks; returns what each answers."""
    answers: list[Any] = _answered(comm, per_rank, comm.scatter(shares))
    for rank, answer in enumerate(answers):
        if isinstance(answer, str):
            raise CannotJudge(f"rank {rank} {answer}")
    return answers


def _answered(comm: Any, per_rank: Callable[..., Any], share: Any) -> Any:
    """Answer with a value and gradients, or with a sentence; returns on rank 0 what all answer."""
    arrays, named = share
    try:
        answer: Any = per_rank(*arrays, **named)
    except Exception as error:
        answer = f"raised {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    patience = PATIENCE if isinstance(answer, str) else None
    with Deadline(comm, patience, f"rank {comm.Get_rank()} {answer}, and the others wait for it."):
        comm.barrier()
    return comm.gather(answer)


class Deadline:
    """Ends every rank of the program with status 2 and a sentence, where the block takes longer than it may."""

    def __init__(self, comm: Any, seconds: float | None, sentence: str) -> None:
        self.comm, self.sentence = comm, sentence
        self.timer = None if seconds is None else threading.Timer(seconds, self._end)

    def __enter__(self) -> None:
        if self.timer is not None:
            self.timer.daemon = True
            self.timer.start()

    def __exit__(self, *_: object) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def _end(self) -> None:
        print(f"refcl check: {self.sentence}", file=sys.stderr, flush=True)
        self.comm.Abort(2)
