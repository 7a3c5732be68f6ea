"""``refcl check --ranks mpi``: a candidate on the ranks of a program of mpiexec.

In:  the words of the shell, on every rank.
Out: the report on rank 0, and one exit status on all.
"""

import contextlib
import sys
from typing import Any

from refcl.oracle import command
from refcl.oracle.candidates import mpi
from refcl.oracle.world import world


def check_on_ranks(work: dict[str, Any], timeout: float, gradients: str) -> int:
    """Check a candidate on the ranks of this MPI program, in which each has a process already; rank 0 reports."""
    try:
        comm = mpi.world()
    except ImportError as error:
        return command.fail("check", f"--ranks mpi needs mpi4py and an MPI ({error}); run it under mpiexec.")
    first = comm.Get_rank() == 0
    late = f"{work['candidate']} took longer than {timeout:g} s and was cut off."
    with mpi.Deadline(comm, timeout, late), contextlib.redirect_stdout(sys.stderr):
        candidate = command.loaded(work, before=mpi.given_comm)
        answer = next(
            (x for x in comm.allgather(candidate if isinstance(candidate, command.Answer) else None) if x), None
        )
        if answer is None:
            how = {"whole": gradients == "whole", "averaged": gradients == "averaged", "framework": "mpi"}
            work |= {"settings": work["settings"] | how, "html": work["html"] if first else None}
            answer = command.judged(work, lambda **settings: world(candidate, work["loss"], **settings))
    if first:
        return command.said(answer)
    return answer.status
