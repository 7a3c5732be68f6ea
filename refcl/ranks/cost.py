"""What a loss over ranks costs: time and memory of a step, predicted from a machine's few constants.

    python -m refcl.ranks.cost --rows 1e6 --dimension 512 --ranks 1024 --bandwidth 25e9 --latency 5e-6 --flops 5e13

In:  sizes, and constants of the machine, given or with ``--calibrate`` measured here.
Out: for gather and ring the seconds of products, entries and messages, the bytes a rank, and from which batch on so
many ranks pay. What no run here has checked is called an extrapolation.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from refcl.ranks.info_nce import info_nce
from refcl.ranks.threads import on_threads
from refcl.strips.layout import ROOM_ENTRIES

CHECKED_RANKS = 2  # up to so many the model is held against runs of this program
PRODUCTS = (1, 3)  # of each pair: s when it is looked at; s again, dz and the other side's when it is pushed
TILES = {1: 12, 2: 5}  # arrays of a tile's size, by rounds: the rooms of the pairwise sigmoid make a dozen
PAYS = 0.5  # of what P ranks could do at best, from which on they are said to pay


class Machine(NamedTuple):
    """The constants of one rank and of what joins it to the others."""

    flops: float  # products, in additions and multiplications a second
    entries: float  # similarities a second through all else: exponentials, masks, sums
    bandwidth: float  # bytes a second out of a rank and into it at once
    latency: float  # seconds a message


class Load(NamedTuple):
    """One call: N anchors against N candidates in all, dealt evenly."""

    rows: float  # N
    dimension: int  # D
    ranks: int  # P
    itemsize: int = 4
    rounds: int = 2  # 1 where pairs do not see each other
    directions: int = 1  # 2 for CLIP


class Cost(NamedTuple):
    """Seconds and bytes of one rank."""

    products: float
    entries: float
    messages: float  # alone
    total: float  # with what of the messages is not hidden behind the rest
    memory: float


def ring(load: Load, machine: Machine) -> Cost:
    """Predict a ring: while a block is worked on the next one comes, so a step takes the longer of the two."""
    hops = load.ranks - 1
    block = load.rows / load.ranks * load.dimension * load.itemsize
    message = block / machine.bandwidth + machine.latency
    products, entries = _work(load, machine)
    look, push = (work / load.ranks / load.directions for work in _rounds(load, machine))  # a block's
    seconds = hops * max(look, message) + look if load.rounds == 2 else 0.0
    seconds += hops * max(push, 2 * message) + push  # a block comes, and the gradient of the last one leaves
    messages = (load.rounds + 1) * hops * message
    if hops:  # the gradient's last way, home
        seconds, messages = seconds + message, messages + message
    # the block coming, and its gradients here, arriving and leaving
    memory = (_own(load) + 4 * (hops > 0)) * block + _strip(load, load.rows / load.ranks)
    return Cost(products, entries, load.directions * messages, load.directions * seconds, memory)


def gather(load: Load, machine: Machine) -> Cost:
    """Predict a gather: all rows come before the work and all gradients go after it, hidden behind nothing."""
    n = load.rows / load.ranks
    everything = load.rows * load.dimension * load.itemsize
    products, entries = _work(load, machine)
    hops = load.ranks - 1
    one = everything * hops / load.ranks / machine.bandwidth + machine.latency * hops
    messages = load.directions * 2 * one
    # all rows, their gradients, and the parts that arrive
    memory = _own(load) * n * load.dimension * load.itemsize + 3 * everything + _strip(load, load.rows)
    return Cost(products, entries, messages, products + entries + messages, memory)


def pays_from(load: Load, machine: Machine, *, part: float = PAYS) -> float:
    """Return the batch from which the ring on so many ranks does ``part`` of what they could do at best."""

    def efficiency(rows: float) -> float:
        alone = ring(load._replace(rows=rows, ranks=1), machine).total
        return alone / (load.ranks * ring(load._replace(rows=rows), machine).total)

    low, high = float(load.ranks), 1e15
    if efficiency(low) >= part:
        return low
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if efficiency(middle) >= part else (middle, high)
    return high


def _rounds(load: Load, machine: Machine) -> tuple[float, float]:
    """Return the seconds of a rank's work in the round that looks and in the one that pushes."""
    pairs = load.rows / load.ranks * load.rows * load.directions
    look, push = PRODUCTS
    seconds = [
        pairs * (products * 2 * load.dimension / machine.flops + 1 / machine.entries) for products in (look, push)
    ]
    return (seconds[0] if load.rounds == 2 else 0.0), seconds[1]


def _work(load: Load, machine: Machine) -> tuple[float, float]:
    """Return the seconds of a rank's products and of all else that its similarities go through."""
    no_entries, no_products = machine._replace(entries=math.inf), machine._replace(flops=math.inf)
    return sum(_rounds(load, no_entries)), sum(_rounds(load, no_products))


def _own(load: Load) -> int:
    """Return how many arrays of a rank's own rows there are: two inputs, on the sphere, and their gradients there."""
    return 7 if load.directions == 1 else 9  # the way back has gradients of its own


def _strip(load: Load, candidates: float) -> float:
    """Return the bytes of a tile of similarities, and of what is made of it."""
    return TILES[load.rounds] * min(ROOM_ENTRIES, load.rows / load.ranks * candidates) * load.itemsize


def calibrated(comm: Any = None, *, dimension: int = 128, rows: int = 2048, seconds: float = 0.5) -> Machine:
    """Measure this machine's constants: products and entries on one rank, messages between the first two.

    Parameters
    ----------
    comm : communicator, optional
        Where it has two ranks or more, bandwidth and latency are measured too; otherwise they are infinite and 0.
    dimension, rows : int
        Of the products and of the call that are timed.
    seconds : float
        For how long each is repeated; the least counts.
    """
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, rows, dimension)).astype("float32")
    weight = rng.standard_normal((rows, rows)).astype("float32")

    def products() -> None:
        a @ b.T
        a @ b.T
        weight @ b
        weight.T @ a

    of_products = _least(products, seconds)
    whole = _least(lambda: on_threads(1, lambda one: info_nce(a, b, 0.1, comm=one, exchange="ring")), seconds)
    flops = 8.0 * rows * rows * dimension / of_products
    entries = 2.0 * rows * rows / max(whole - of_products, 1e-9)
    bandwidth, latency = math.inf, 0.0
    if comm is not None and comm.Get_size() > 1:
        latency = _message(comm, 1, seconds)
        length = rows * dimension * 4
        bandwidth = length / max(_message(comm, length // 4, seconds) - latency, 1e-9)
    return Machine(flops, entries, bandwidth, latency)


def _message(comm: Any, entries: int, seconds: float) -> float:
    """Return the seconds of a message there and one back at the same time, between ranks 0 and 1."""
    rank = comm.Get_rank()
    sent, received = np.ones(entries, dtype="float32"), np.empty(entries, dtype="float32")

    def exchange() -> None:
        if rank < 2:
            arriving = comm.Irecv(received, source=1 - rank, tag=1)
            leaving = comm.Isend(sent, dest=1 - rank, tag=1)
            arriving.Wait()
            leaving.Wait()

    return _least(exchange, seconds, repeats=50)


def _least(work: Any, seconds: float, repeats: int | None = None) -> float:
    """Return the least seconds of a call, since what else a machine does only adds; repeats are alike on all ranks."""
    work()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < (repeats or 3) or (repeats is None and time.perf_counter() - start < seconds):
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    return min(times)


def report(load: Load, machine: Machine) -> str:
    """Return the prediction as lines."""
    lines = [
        f"{load.rows:.3g} rows of {load.dimension} on {load.ranks} ranks: {load.rows / load.ranks:.3g} a rank",
        f"machine: {machine.flops:.3g} flop/s, {machine.entries:.3g} entries/s, {machine.bandwidth:.3g} B/s, "
        f"{machine.latency:.3g} s a message",
        f"{'':8}{'products':>12}{'entries':>12}{'messages':>12}{'step':>12}{'memory a rank':>16}",
    ]
    for name, predict in (("gather", gather), ("ring", ring)):
        cost = predict(load, machine)
        seconds = "".join(f"{x:>10.3g} s" for x in cost[:4])
        lines.append(f"{name:<8}{seconds}{_bytes(cost.memory):>16}")
    whole = load.rows**2 * load.itemsize
    lines.append(f"all similarities at once would be {_bytes(whole)}, {_bytes(whole / load.ranks)} a rank")
    if load.ranks > 1:
        lines.append(
            f"{load.ranks} ranks do half of what they could at best, or more, from a batch of "
            f"{pays_from(load, machine):.2g} on"
        )
    if load.ranks > CHECKED_RANKS:
        lines.append(f"An extrapolation: the model is checked by runs on 1 and {CHECKED_RANKS} ranks.")
    return "\n".join(lines)


def _bytes(x: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if x < 1000:
            return f"{x:.3g} {unit}"
        x /= 1000
    return f"{x:.3g} PB"


def main(words: Sequence[str] | None = None) -> int:
    """Print a prediction, or, with ``--check``, predictions beside times measured here."""
    parser = argparse.ArgumentParser(prog="python -m refcl.ranks.cost", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=float, default=1e6, help="N, of the whole batch")
    parser.add_argument("--dimension", type=int, default=512, help="D")
    parser.add_argument("--ranks", type=int, default=1024, help="P")
    parser.add_argument("--bandwidth", type=float, default=25e9, help="bytes a second between ranks")
    parser.add_argument("--latency", type=float, default=5e-6, help="seconds a message")
    parser.add_argument("--flops", type=float, default=5e13, help="of a rank's products, a second")
    parser.add_argument("--entries", type=float, help="similarities a second; by default a 64th of the flops")
    parser.add_argument("--itemsize", type=int, choices=(4, 8), default=4, help="bytes of a number")
    parser.add_argument("--loss", choices=("info_nce", "clip", "sig_lip"), default="info_nce")
    parser.add_argument("--calibrate", action="store_true", help="measure this machine instead of being told")
    parser.add_argument("--check", action="store_true", help="under mpiexec: predict this run and time it")
    options = parser.parse_args(words)
    for name in ("rows", "dimension", "ranks", "bandwidth", "flops", "entries"):
        if getattr(options, name) is not None and not getattr(options, name) > 0:
            parser.error(f"--{name} must be > 0, got {getattr(options, name):g}")
    load = Load(
        options.rows,
        options.dimension,
        options.ranks,
        options.itemsize,
        rounds=1 if options.loss == "sig_lip" else 2,
        directions=2 if options.loss == "clip" else 1,
    )
    machine = Machine(options.flops, options.entries or options.flops / 64, options.bandwidth, options.latency)
    if options.check:
        return check(load)
    print(report(load, calibrated(dimension=options.dimension) if options.calibrate else machine))
    return 0


def check(load: Load) -> int:
    """Calibrate, predict both exchanges on the ranks of this MPI run, time them, and print both."""
    from mpi4py import MPI  # type: ignore[import-not-found, unused-ignore]

    comm: Any = MPI.COMM_WORLD
    rank, size = comm.Get_rank(), comm.Get_size()
    load = load._replace(ranks=size, rounds=2, directions=1)
    # Ranks calibrate at once, as they will work at once: on one machine they share caches and memory.
    machines = comm.allgather(calibrated(comm, dimension=load.dimension))
    machine = Machine(*(float(np.mean(x)) for x in zip(*machines, strict=True)))
    n = int(load.rows) // size
    query, key = np.random.default_rng(rank).standard_normal((2, n, load.dimension)).astype(f"f{load.itemsize}")
    if rank == 0:
        print(report(load._replace(rows=n * size), machine))
    for how, predict in (("gather", gather), ("ring", ring)):
        took = _least(lambda how=how: info_nce(query, key, 0.1, comm=comm, exchange=how), 0.0, repeats=5)
        slowest, predicted = max(comm.allgather(took)), predict(load._replace(rows=n * size), machine).total
        if rank == 0:
            print(f"{how}: predicted {predicted:.3g} s, measured {slowest:.3g} s, {predicted / slowest - 1:+.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
