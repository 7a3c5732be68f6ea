"""What runs under mpiexec: every case against one process, and every fault on one rank heard by all.

    mpiexec -n 4 python tests/ranks/under_mpi.py

Out: one line from rank 0, and status 1 on all ranks where something is wrong.
"""

import sys
import time
from typing import Any

import numpy as np
from rank_cases import failures

from refcl import ranks


def faults(comm: Any) -> list[str]:
    """Let each rank in turn pass what is wrong, and see that all ranks raise the same sentence soon."""
    rank, size = comm.Get_rank(), comm.Get_size()
    x = np.random.default_rng(0).standard_normal((3, 4))
    wrong = []
    for bad in range(size):
        start = time.monotonic()
        try:
            ranks.info_nce(x.astype(np.int64) if rank == bad else x, x, 0.1, comm=comm, exchange="ring")
            heard = "nothing"
        except TypeError as error:
            heard = str(error)
        if time.monotonic() - start > 5.0:
            wrong.append(f"rank {rank} waited for more than 5 s")
        expected = f"info_nce: rank {bad}: query is int64; expected float32 or float64."
        wrong += [f"rank {r} heard {h!r}" for r, h in enumerate(comm.allgather(heard)) if not h.startswith(expected)]
    return wrong


def main() -> int:
    from mpi4py import MPI  # which starts MPI: not before it runs under mpiexec

    comm = MPI.COMM_WORLD
    wrong = faults(comm)
    deals = ("unequal", "even", "last") if 1 < comm.Get_size() <= 4 else ("unequal",)
    for dtype in ("float64", "float32"):
        for how in ("gather", "ring"):
            for deal in deals if dtype == "float64" else deals[:1]:
                wrong += failures(comm, dtype, how, deal)
    if comm.Get_rank() == 0:
        print(*wrong, sep="\n")
        print(f"{comm.Get_size()} ranks: {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
