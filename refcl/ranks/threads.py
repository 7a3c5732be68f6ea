"""Ranks in one process: each is a thread, and messages are copies. For examples and tests; nothing gets faster.

In:  a number of ranks, and the function that each of them runs.
Out: what each returned. The communicator has the methods of mpi4py that `refcl.ranks` uses, and no others.
"""

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import numpy as np

from refcl.core.arrays import Array

Result = TypeVar("Result")
PATIENCE = 60.0  # seconds for which a rank waits for the others


class Shared:
    """What the ranks of one run have in common."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size, timeout=PATIENCE)
        self.table: list[Any] = [None] * size
        self.messages: defaultdict[tuple[int, int, int], SimpleQueue[Array]] = defaultdict(SimpleQueue)


class Sent:
    """A message that was copied when it was sent."""

    def Wait(self) -> None:
        """Return at once."""


class Awaited:
    """A message that is copied into a buffer once it is waited for."""

    def __init__(self, shared: Shared, address: tuple[int, int, int], buffer: Array) -> None:
        self.shared, self.address, self.buffer = shared, address, buffer

    def Wait(self) -> None:
        """Wait until it has come."""
        patience = PATIENCE
        while True:
            try:
                self.buffer[...] = self.shared.messages[self.address].get(timeout=min(0.1, patience))
            except Empty:
                patience -= 0.1
                if self.shared.barrier.broken or patience <= 0:
                    raise threading.BrokenBarrierError from None
            else:
                return


class ThreadCommunicator:
    """What one rank sees of the others, by mpi4py's names."""

    def __init__(self, rank: int, shared: Shared) -> None:
        self._rank, self._shared = rank, shared

    def Get_rank(self) -> int:
        """Return the number of this rank."""
        return self._rank

    def Get_size(self) -> int:
        """Return how many ranks there are."""
        return self._shared.size

    def allgather(self, x: Any) -> list[Any]:
        """Return what every rank passed, in order of rank."""
        self._shared.table[self._rank] = x
        self._shared.barrier.wait()
        everyone = list(self._shared.table)
        self._shared.barrier.wait()  # nobody overwrites the table before all have read it
        return everyone

    def Allgatherv(self, own: Array, everyone: Any) -> None:
        """Write every rank's array into a buffer, one after the other."""
        buffer, _ = everyone
        buffer.reshape(-1)[:] = np.concatenate([x.reshape(-1) for x in self.allgather(own.copy())])

    def Alltoallv(self, sent: Any, received: Any) -> None:
        """Send each rank its entries of an array, and receive one's own from each."""
        buffer, counts = sent
        ends = np.cumsum([0, *counts])
        pieces = [buffer.reshape(-1)[a:b].copy() for a, b in itertools.pairwise(ends)]
        everyone = self.allgather(pieces)
        received[0].reshape(-1)[:] = np.concatenate([of_one[self._rank] for of_one in everyone])

    def Isend(self, x: Array, dest: int, tag: int) -> Sent:
        """Send an array."""
        self._shared.messages[self._rank, dest, tag].put(x.copy())
        return Sent()

    def Irecv(self, buffer: Array, source: int, tag: int) -> Awaited:
        """Receive an array once it is waited for."""
        return Awaited(self._shared, (source, self._rank, tag), buffer)


def on_threads(ranks: int, function: Callable[[ThreadCommunicator], Result]) -> list[Result]:
    """Run a function on simulated ranks, and return what each returned; the first error of any is raised.

    Parameters
    ----------
    ranks : int
        How many, >= 1.
    function : callable
        ``function(comm)``, run once a rank.

    Returns
    -------
    results : list
        In order of rank.

    Examples
    --------
    >>> from refcl.ranks import on_threads
    >>> on_threads(3, lambda comm: sum(comm.allgather(comm.Get_rank())))
    [3, 3, 3]
    """
    if ranks < 1:
        raise ValueError(f"on_threads: ranks must be >= 1, got {ranks}.")
    shared = Shared(ranks)
    results: list[Any] = [None] * ranks
    errors: list[tuple[bool, int, BaseException]] = []

    def work(rank: int) -> None:
        try:
            results[rank] = function(ThreadCommunicator(rank, shared))
        except BaseException as error:
            errors.append((isinstance(error, threading.BrokenBarrierError), rank, error))
            shared.barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        waited, _, error = min(errors, key=lambda e: e[:2])  # who waited in vain comes after who failed
        if waited:
            raise RuntimeError("on_threads: the ranks did not all reach the same messages.") from error
        raise error
    return results
