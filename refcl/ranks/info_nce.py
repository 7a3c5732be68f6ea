"""query, key -> L over ranks: InfoNCE, the anchors of each rank against the candidates of all. Start reading here."""

from typing import Any

from refcl.core.arguments import Reduction
from refcl.core.arrays import AnyArray, Array, Number
from refcl.losses.info_nce import InfoNCEGrads
from refcl.ranks.call import ExchangeName, How, off_sphere, one_way, onto_sphere, totals, world_of
from refcl.ranks.door import Plan, over_ranks
from refcl.ranks.exchange import Block, numbered
from refcl.ranks.rules import one_positive, roles_by_number


@over_ranks(Plan(("query", "key")))
def info_nce(
    query: AnyArray,
    key: AnyArray,
    temperature: Number = 0.1,
    *,
    comm: Any,
    exchange: ExchangeName = "auto",
    queue: AnyArray | None = None,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    upstream: AnyArray | None = None,
) -> tuple[Array, InfoNCEGrads]:
    r"""InfoNCE over ranks: the anchors of each against the keys of all.

    Parameters
    ----------
    query : (n, D) array of float32 or float64
        This rank's anchors, any number of them, none too.
    key : (m, D) array
        This rank's candidates. Those of all ranks, in order of rank, are the M candidates of every anchor.
    temperature : float or () array
        As in `refcl.softmax_contrastive`; the same on all ranks, as every setting is.
    comm : communicator
        Such as ``mpi4py.MPI.COMM_WORLD``, or one of `refcl.ranks.on_threads`. All its ranks must make the call.
    exchange : str
        "gather": all candidates come to every rank at once, memory O(M D) a rank. "ring": they come block by block,
        O((M/P) D). "auto": the first where both directions take at most 256 MiB a rank.
    queue : (Q, D) array, optional
        Further candidates, numbered after all ranks' keys: a queue or a bank, the same on every rank. It takes no
        gradient.
    positive : (n,) array of integers, optional
        Number of each anchor's positive among the candidates of all ranks and the queue; by default row i of the keys
        of the anchor's own rank.
    ignore : (n, M + Q) array of booleans, optional
        As in `refcl.softmax_contrastive`, this rank's rows.
    reduction : str
        "mean" or "sum" over the anchors of all ranks; "none" gives the losses of this rank's.
    normalize, eps : optional
        As in `refcl.info_nce`.
    upstream : (n,) array, optional
        As in `refcl.softmax_contrastive`, for this rank's anchors.

    Returns
    -------
    loss : () array, or (n,) array where the reduction is "none"
        In nats; a () is the same on all ranks, bit for bit.
    grads : InfoNCEGrads
        dquery (n, D) and dkey (m, D), whole: nothing is left to be added or averaged over ranks; dtemperature (), the
        sum over ranks, the same on all.

    Raises
    ------
    TypeError, ValueError
        As `refcl.info_nce`, on all ranks with the number of the one whose arguments are refused.

    Notes
    -----
    The loss is a function of all rows, and each rank gets the part of its gradient that belongs to its rows. An
    optimiser that averages parameters' gradients over P ranks must add them instead, or multiply by P.

    Examples
    --------
    >>> import numpy as np
    >>> import refcl
    >>> from refcl.ranks import info_nce, on_threads
    >>> query, key = np.random.default_rng(0).standard_normal((2, 6, 8))
    >>> def of_rank(comm):
    ...     rows = [slice(0, 4), slice(4, 6)][comm.Get_rank()]
    ...     return info_nce(query[rows], key[rows], 0.1, comm=comm, exchange="ring")
    >>> losses = [loss for loss, grads in on_threads(2, of_rank)]
    >>> bool(losses[0] == losses[1] and abs(losses[0] - refcl.info_nce(query, key, 0.1)[0]) < 1e-14)
    True
    """
    world, how = world_of(comm), How(exchange, reduction, upstream, normalize, eps)
    z, of_query = onto_sphere(query, how)
    other, of_key = onto_sphere(key, how)
    if positive is None:
        positive = numbered([z.shape[0]], like=z, first=world.first_candidate)[0]
    shared = None
    if queue is not None:
        numbers = numbered([queue.shape[0]], like=z, first=sum(world.candidates))[0]
        shared = Block(onto_sphere(queue, how)[0], numbers, constant=True)
    roles = roles_by_number(positive, ignore=ignore, itself=None)
    walked = one_way(world, how, z, other, roles, one_positive(temperature), sum(world.anchors), queue=shared)
    value, dtemperature = totals(world, how, walked.loss, walked.scalars, sum(world.anchors))
    return value, InfoNCEGrads(off_sphere(walked.dz, of_query), off_sphere(walked.dother, of_key), *dtemperature)
