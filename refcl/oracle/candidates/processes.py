"""Code that calls ``torch.distributed`` itself: one process a rank, gloo on the loopback.

In:  the function that one rank runs, with its local tensors.
Out: the same as of simulated ranks: values and gradients of every rank. What communicates in backward runs as it is.
"""

import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from refcl.oracle.adapters import loss_of
from refcl.oracle.raised import CannotJudge, remedy

PATIENCE = 60.0  # seconds for one call
FAILED = 1.0  # for the others, where one rank has raised: they may wait for it, or say more


class Ranks:
    """The processes, which live as long as the check.

    Parameters
    ----------
    per_rank : callable
        ``f(*local_tensors) -> value``, or with the temperature last. It may call ``torch.distributed``.
    size : int
        How many.
    notes : dict
        Sentences about how it behaves are added here.
    """

    def __init__(self, per_rank: Callable[..., Any], size: int, notes: dict[str, str]) -> None:
        if "fork" not in multiprocessing.get_all_start_methods():
            raise CannotJudge(
                'processes of ranks are made by fork, which this system does not have; use framework="torch".'
            )
        context = multiprocessing.get_context("fork")
        port = _free_port()
        self.size = size
        self.notes = notes
        self.ends: list[Any] = []
        self.processes = []
        for rank in range(size):
            mine, theirs = context.Pipe()
            process = context.Process(target=_work, args=(per_rank, rank, size, port, theirs), daemon=True)
            process.start()
            theirs.close()
            self.ends.append(mine)
            self.processes.append(process)

    def __call__(self, shares: list[Any]) -> list[Any]:
        """Run one batch: a value and gradients for each rank."""
        for end, share in zip(self.ends, shares, strict=True):
            end.send(share)
        answers: dict[int, Any] = {}
        end_of_patience = time.monotonic() + PATIENCE
        while len(answers) < self.size:
            open_ends = [end for rank, end in enumerate(self.ends) if rank not in answers]
            ready = wait(open_ends, max(end_of_patience - time.monotonic(), 0.0))
            for rank, end in enumerate(self.ends):
                if end in ready:
                    try:
                        answers[rank] = end.recv()
                    except EOFError:
                        answers[rank] = "ended its process"
            if not ready:
                break
            if any(isinstance(answer, str) for answer in answers.values()):
                end_of_patience = min(end_of_patience, time.monotonic() + FAILED)
        said = [f"rank {rank} {answer}" for rank, answer in answers.items() if isinstance(answer, str)]
        if not said and len(answers) < self.size:
            silent = min(set(range(self.size)) - set(answers))
            said = [f"rank {silent} did not answer: the ranks do not all reach the same collectives"]
        if said:
            self.close()
            raise CannotJudge(f"{said[0]}{remedy(said[0])}")
        for _, _, notes in answers.values():
            self.notes.update(notes)
        return [answers[rank][:2] for rank in range(self.size)]

    def close(self) -> None:
        """End every process."""
        for end in self.ends:
            with suppress(OSError):
                end.close()
        for process in self.processes:
            process.terminate()
            process.join(5.0)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _work(per_rank: Callable[..., Any], rank: int, size: int, port: int, end: Any) -> None:
    """Be one rank: answer each batch that comes through the pipe with a value and gradients, or with a sentence."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(size)}
    dist.init_process_group("gloo", rank=rank, world_size=size)
    notes: dict[str, str] = {}
    while True:
        try:
            share, named = end.recv()
        except (EOFError, OSError):
            return
        leaves = [torch.tensor(x, requires_grad=True) for x in share]
        try:
            returned = per_rank(*leaves, **{name: torch.as_tensor(x) for name, x in named.items()})
            value = loss_of(returned, torch.Tensor, notes)
            grads = torch.autograd.grad(value, leaves, allow_unused=True)
            end.send(
                (
                    float(value.detach()),
                    [np.zeros(x.shape) if g is None else g.numpy() for x, g in zip(leaves, grads, strict=True)],
                    notes,
                )
            )
        except CannotJudge as reason:
            end.send(f"was not judged: {reason.reason}")
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            end.send(f"raised {type(error).__name__}: {first}")
