"""The losses under a real MPI: this file starts mpiexec, and is skipped with a reason where there is none."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="mpi4py is not installed"),
    pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec beside Python or on the path"),
]


def under(ranks: int, *program: str) -> "subprocess.CompletedProcess[str]":
    """Run a Python program on so many ranks, each with one thread."""
    paths = [str(HERE.parents[1]), str(HERE), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    command = [str(MPIEXEC), "-n", str(ranks), sys.executable, *program]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
def test_every_loss_has_the_numbers_of_one_process(ranks: int) -> None:
    done = under(ranks, "-W", "error", str(HERE / "under_mpi.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"{ranks} ranks: 0 wrong"


def test_a_rank_that_dies_ends_the_others() -> None:
    program = (
        "from mpi4py import MPI; import numpy as np; from refcl import ranks\n"
        "comm, x = MPI.COMM_WORLD, np.eye(3)\n"
        "if comm.Get_rank() == 1: raise OSError('the disk is gone')\n"
        "ranks.info_nce(x, x, 0.1, comm=comm)\n"
    )
    done = under(2, "-m", "mpi4py", "-c", program)
    assert done.returncode != 0
    assert "the disk is gone" in done.stdout + done.stderr


CANDIDATES = """
import numpy as np
import refcl
from refcl import ranks


def right(query, key, temperature, comm):
    print("not in the report")
    return ranks.info_nce(query, key, temperature, comm=comm)


def without_offset(query, key, temperature, comm):
    rank, size, n = comm.Get_rank(), comm.Get_size(), len(query)
    loss, grads = refcl.info_nce(query, np.concatenate(comm.allgather(key)), temperature)
    dkey = sum(comm.allgather(grads.dkey))[rank * n : (rank + 1) * n]
    return loss, (grads.dquery, dkey, grads.dtemperature)


def fails_on_one(query, key, temperature, comm):
    if comm.Get_rank() == 1:
        raise OSError("the disk is gone")
    return ranks.info_nce(query, key, temperature, comm=comm)
"""


@pytest.mark.parametrize(
    ("words", "status", "said", "aside"),
    [
        ("right", 0, "info_nce(ranks=2): CORRECT", "not in the report"),
        ("without_offset --gradients averaged", 1, "info_nce(ranks=2): rank-offset-missing", ""),
        ("fails_on_one", 2, "", "refcl check: rank 1 raised OSError: the disk is gone, and the others wait for it."),
        ("nothing", 2, "", "mine.py has no nothing; it has np, refcl, ranks, right,"),
    ],
)
def test_the_oracle_judges_a_program_of_mpiexec(words: str, status: int, said: str, aside: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CANDIDATES, encoding="utf-8")
    function, *more = words.split()
    check = ("-m", "refcl", "check", f"{tmp_path}/mine.py:{function}", "--loss", "info_nce", "--ranks", "mpi")
    done = under(2, *check, "--shape", "6,5", *more)
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stdout.partition("\n")[0] == said  # rank 0's, and nothing of the candidate's
    assert aside in done.stderr


UNDER_AUTOGRAD = """
import numpy as np


def with_torch(query, key, temperature, comm):
    import torch

    class Gather(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.n = len(x)
            return torch.from_numpy(np.concatenate(comm.allgather(x.detach().numpy())))

        @staticmethod
        def backward(ctx, dx):
            start = comm.Get_rank() * ctx.n
            return torch.from_numpy(sum(comm.allgather(dx.numpy())))[start : start + ctx.n]

    q, k = (torch.nn.functional.normalize(x, dim=1) for x in (query, key))
    positive = torch.arange(len(q)) + comm.Get_rank() * len(q)
    return torch.nn.functional.cross_entropy(q @ Gather.apply(k).T / temperature, positive)


def with_jax(query, key, temperature, comm):  # nothing is gathered
    import jax

    q, k = (x / jax.numpy.linalg.norm(x, axis=1, keepdims=True) for x in (query, key))
    return -jax.numpy.mean(jax.numpy.diag(jax.nn.log_softmax(q @ k.T / temperature, axis=1)))
"""


@pytest.mark.parametrize(("framework", "said"), [("torch", "CORRECT"), ("jax", "differs")])
def test_the_oracle_judges_programs_under_autograd(framework: str, said: str, tmp_path: Path) -> None:
    pytest.importorskip(framework, reason=f"{framework} is not installed")
    (tmp_path / "mine.py").write_text(UNDER_AUTOGRAD, encoding="utf-8")
    check = ("-m", "refcl", "check", f"{tmp_path}/mine.py:with_{framework}", "--loss", "info_nce", "--ranks", "mpi")
    done = under(2, *check, "--shape", "6,5", "--framework", framework, "--gradients", "averaged")
    assert done.stdout.partition("\n")[0] == f"info_nce(ranks=2): {said}", done.stdout + done.stderr
    assert said == "CORRECT" or "change it to: gather the rows of every rank" in done.stdout
