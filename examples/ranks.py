"""Over ranks, to the curve of one
===============================

Each rank encodes its share of the batch, and the loss is that of all.

Every rank holds the same encoder. It embeds its own digits, `refcl.ranks.info_nce` compares them with everyone's, and
what its backward gives for the weights is added over ranks: not averaged, since the loss is one function of all rows.
With ``--ranks`` the ranks are threads, without MPI, to see that the numbers are the same.

From a shell::

    mpiexec -n 4 python examples/ranks.py
    python examples/ranks.py --ranks 4
    python examples/ranks.py --ranks 4 --exchange ring --steps 100
"""

# sphinx_gallery_thumbnail_path = 'gallery_pictures/ranks.png'

import argparse

import numpy as np
from threadpoolctl import threadpool_limits

import refcl
from refcl import ranks
from refcl.experiment.data import load
from refcl.experiment.optim import adam, start_adam
from refcl.experiment.views import view
from refcl.walk.encoder import he_init, mlp


def added(trees):
    """Return the sum of nested tuples of arrays, in their order: the same bits on every rank."""
    if isinstance(trees[0], tuple):
        return tuple(added(parts) for parts in zip(*trees, strict=True))
    total = trees[0]
    for more in trees[1:]:
        total = total + more
    return total


def curve(options, comm=None):
    """Train, and return the loss of each step: alone, or as one rank of many."""
    rank, size = (0, 1) if comm is None else (comm.Get_rank(), comm.Get_size())
    digits, rng = load(), np.random.default_rng(0)  # every rank draws the same batches and views
    params = he_init(
        rng, (64, options.width, 32), dtype="float64"
    )  # no batch norm: its statistics would need ranks too
    state, losses = start_adam(params), []
    for _ in range(options.steps):
        batch = digits.training.x[rng.integers(0, 1257, options.batch)]
        views = [view(batch, rng, image=digits.image, blank=digits.blank).astype("float64") for _ in range(2)]
        own = slice(options.batch * rank // size, options.batch * (rank + 1) // size)
        h, cache = mlp.forward(np.concatenate([x[own] for x in views]), params)
        query, key = np.split(h, 2)
        if comm is None:
            loss, grads = refcl.info_nce(query, key, options.temperature)
        else:
            loss, grads = ranks.info_nce(query, key, options.temperature, comm=comm, exchange=options.exchange)
        _, dparams = mlp.backward(np.concatenate([grads.dquery, grads.dkey]), cache)
        if comm is not None:
            dparams = added(comm.allgather(dparams))
        params, state = adam(params, dparams, state, rate=3e-3)
        losses.append(float(loss))
    return losses


@threadpool_limits.wrap(limits=1, user_api="blas")
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ranks", type=int, help="that many threads; without it, the ranks of mpiexec")
    parser.add_argument("--exchange", choices=("auto", "gather", "ring"), default="auto")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.2)
    options = parser.parse_args(argv)

    if options.ranks is None:
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
        rank, size, together = comm.Get_rank(), comm.Get_size(), curve(options, comm)
    else:
        rank, size = 0, options.ranks
        together, *others = ranks.on_threads(size, lambda comm: curve(options, comm))
        assert all(other == together for other in others)  # bit for bit
    if rank == 0:
        alone = curve(options)
        for step in range(0, options.steps, max(1, options.steps // 8)):
            print(f"step {step:>4}: loss {together[step]:.12f} on {size} ranks, {alone[step]:.12f} on one")
        apart = max(abs(a - b) for a, b in zip(together, alone, strict=True))
        print(f"the curves are at most {apart:.1e} apart")


if __name__ == "__main__":
    main()
