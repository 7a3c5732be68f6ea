"""How fast and how lean InfoNCE is over two ranks: against one process of two threads, and against PyTorch's gloo.

    python tests/benchmarks/ranks.py --sizes 8192 16384

The contenders take turns, --rounds of them, and the median of the rounds counts.

In:  sizes; interpreters that have mpi4py and PyTorch, where this one has not.
Out: a table: seconds of a call that gives value and gradients (median), and MB that a rank needs beyond its inputs and
imports (its peak less what it had before the first call), with the time over that of one process. A contender that
cannot run is left out with the reason.
All have two cores in all: two ranks of one thread each, or one process of two threads.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
TEMPERATURE = 0.1
CONTENDERS = ("one process", "ranks, gather", "ranks, ring", "torch, gloo")


def inputs(n: int, d: int, rank: int, size: int) -> list[Any]:
    """Return this rank's query and key, drawn a row at a time: what is dropped would hide a call's needs."""
    rows = range(n * rank // size, n * (rank + 1) // size)
    query, key = np.empty((2, len(rows), d), dtype="float32")
    for i, row in enumerate(rows):
        query[i], key[i] = np.random.default_rng([n, row]).standard_normal((2, d))
    return [query, key]


def peak() -> float:
    """Return the most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(call: Callable[[], float], repeats: int) -> dict[str, float]:
    """Return the value, the median seconds and the MB beyond what there was; a first call counts if it takes long."""
    before, times = peak(), []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        value = call()
        times.append(time.perf_counter() - start)
    counted = times if times[0] > 1.0 else times[1:]
    return {"value": value, "seconds": float(np.median(counted)), "megabytes": peak() - before}


def child(options: argparse.Namespace) -> None:
    """Be one rank of a contender; rank 0 prints what was measured."""
    n, d = options.sizes[0], options.dimension
    if options.child == "one process":
        import refcl

        query, key = inputs(n, d, 0, 1)
        say([timed(lambda: float(refcl.info_nce(query, key, TEMPERATURE)[0]), options.repeats)])
    elif options.child.startswith("ranks"):
        from mpi4py import MPI

        from refcl import ranks

        comm: Any = MPI.COMM_WORLD
        query, key = inputs(n, d, comm.Get_rank(), comm.Get_size())
        how = options.child.partition(", ")[2]
        call = lambda: float(ranks.info_nce(query, key, TEMPERATURE, comm=comm, exchange=how)[0])  # noqa: E731
        everyone = comm.allgather(timed(call, options.repeats))
        if comm.Get_rank() == 0:
            say(everyone)
    else:
        gloo(options, n, d)


def gloo(options: argparse.Namespace, n: int, d: int) -> None:
    """Gather with autograd, each rank's anchors against all keys, and add the gradients as DDP would average them."""
    import torch
    import torch.distributed as dist
    from torch.distributed.nn.functional import all_gather

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{options.meeting}", rank=options.rank, world_size=2)
    query, key = (torch.tensor(x, requires_grad=True) for x in inputs(n, d, options.rank, 2))

    def call() -> float:
        z, other = (torch.nn.functional.normalize(x) for x in (query, key))
        everyone = torch.cat(list(all_gather(other)))
        target = torch.arange(len(z)) + options.rank * (n // 2)
        loss = torch.nn.functional.cross_entropy(z @ everyone.T / TEMPERATURE, target, reduction="sum") / n
        torch.autograd.grad(loss, (query, key))
        total = loss.detach().clone()
        dist.all_reduce(total)
        return float(total)

    everyone: list[Any] = [None, None]
    dist.all_gather_object(everyone, timed(call, options.repeats))
    if options.rank == 0:
        say(everyone)
    dist.destroy_process_group()


def say(everyone: list[dict[str, float]]) -> None:
    slowest, largest = (max(one[what] for one in everyone) for what in ("seconds", "megabytes"))
    print(json.dumps({"value": everyone[0]["value"], "seconds": slowest, "megabytes": largest}))


def measured(name: str, n: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run a contender in processes of its own; returns its numbers, or under "why" what kept it from running."""
    threads = "2" if name == "one process" else "1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    words = [str(Path(__file__)), "--child", name, "--sizes", str(n), "--dimension", str(options.dimension)]
    words += ["--repeats", str(options.repeats)]
    with tempfile.TemporaryDirectory() as folder:
        if name.startswith("torch"):
            words += ["--meeting", f"{folder}/meeting"]
            commands = [[options.torch_python, *words, "--rank", str(rank)] for rank in (0, 1)]
        elif name == "one process":
            commands = [[sys.executable, *words]]
        else:
            mpiexec = Path(options.mpi_python).parent / "mpiexec"
            start = str(mpiexec) if mpiexec.exists() else "mpiexec"
            commands = [[start, "-n", "2", options.mpi_python, *words]]
        try:
            running = [
                subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
                for c in commands
            ]
        except OSError as error:
            return {"why": str(error)}
        said = [process.communicate() for process in running]
    if any(process.returncode for process in running):
        return {"why": (said[0][1].strip().splitlines() or ["no reason given"])[-1]}
    numbers: dict[str, Any] = json.loads(said[0][0].strip().splitlines()[-1])
    return numbers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[8192, 16384])
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3, help="calls of a round after a first")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mpi-python", default=sys.executable, help="an interpreter that has mpi4py")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter that has PyTorch")
    parser.add_argument("--child", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--meeting", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return 0
    print(f"InfoNCE, float32, D = {options.dimension}, two cores in all; load average {os.getloadavg()[0]:.1f}")
    print(f"{'N':>6}  {'':<16}{'seconds':>10}{'ratio':>8}{'apart':>8}{'MB a rank':>12}")
    disagree = False
    for n in options.sizes:
        rounds = [{name: measured(name, n, options) for name in CONTENDERS} for _ in range(options.rounds)]
        values = []
        for name in CONTENDERS:
            numbers = [one[name] for one in rounds]
            why = next((x["why"] for x in numbers if "why" in x), None)
            if why is not None:
                print(f"{n:>6}  {name:<16}left out: {why}", flush=True)
                continue
            values += [x["value"] for x in numbers]
            seconds = [x["seconds"] for x in numbers]
            bases = [one["one process"].get("seconds", np.nan) for one in rounds]
            ratio = np.median([x / base for x, base in zip(seconds, bases, strict=True)])
            megabytes = max(x["megabytes"] for x in numbers)
            apart = max(seconds) / min(seconds) - 1  # how far the rounds are
            times = f"{np.median(seconds):>10.3f}{ratio:>8.2f}{apart:>8.0%}"
            print(f"{n:>6}  {name:<16}{times}{megabytes:>12.1f}", flush=True)
        disagree |= bool(values) and max(values) - min(values) > 1e-4 * max(values)
    print(f"load average at the end {os.getloadavg()[0]:.1f}")
    if disagree:
        print("FAULT: the contenders' values do not agree to a part in ten thousand")
    return 1 if disagree else 0


if __name__ == "__main__":
    sys.exit(main())
