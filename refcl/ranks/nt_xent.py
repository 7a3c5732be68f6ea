"""a, b -> L over ranks: NT-Xent, in which every row of both views is an anchor."""

from typing import Any

from refcl.core.arguments import Mask, Reduction
from refcl.core.arrays import AnyArray, Array, Number
from refcl.losses.nt_xent import NTXentGrads
from refcl.ranks.call import ExchangeName, How, two_views, world_of
from refcl.ranks.door import Plan, over_ranks
from refcl.ranks.rules import one_positive


@over_ranks(Plan(("a", "b"), views=2, upstream=lambda n: (2 * n,)), ignore=Mask("2N K"))
def nt_xent(
    a: AnyArray,
    b: AnyArray,
    temperature: Number = 0.5,
    *,
    comm: Any,
    exchange: ExchangeName = "auto",
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    add_views: bool = False,
    normalize: bool = True,
    eps: float = 1e-12,
    upstream: AnyArray | None = None,
) -> tuple[Array, NTXentGrads]:
    """NT-Xent over ranks: every row of both views of all ranks is an anchor, and a candidate of all others.

    Parameters
    ----------
    a, b : (n, D) array of float32 or float64
        This rank's rows of two views: row i of one is the positive of row i of the other.
    temperature : optional
        As in `info_nce`.
    comm, exchange : optional
        As in `info_nce`.
    ignore : (2n, 2N) array of booleans, optional
        As in `refcl.nt_xent`: this rank's rows of a, then of b, by all ranks' rows of a, then all of b.
    reduction, add_views : optional
        As in `refcl.nt_xent`, over the anchors of all ranks.
    normalize, eps : optional
        As in `info_nce`.
    upstream : (2n,) array, optional
        As in `refcl.nt_xent`, for this rank's anchors.

    Returns
    -------
    loss : () array, or (2n,) array where the reduction is "none"
        In nats.
    grads : NTXentGrads
        da (n, D), db (n, D) and dtemperature (), the sum over ranks.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.ranks import nt_xent, on_threads
    >>> a = np.eye(3)
    >>> rows = [slice(0, 1), slice(1, 3)]
    >>> on_threads(2, lambda comm: round(float(nt_xent(
    ...     a[rows[comm.Get_rank()]], a[rows[comm.Get_rank()]], 0.5, comm=comm)[0]), 6))
    [0.432667, 0.432667]
    """
    world, how = world_of(comm), How(exchange, reduction, upstream, normalize, eps)
    value, grads = two_views(world, how, a, b, one_positive(temperature), ignore, add_views=add_views, apart=False)
    return value, NTXentGrads(*grads)
