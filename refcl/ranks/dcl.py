"""a, b -> L over ranks: DCL, NT-Xent without the positive in the denominator."""

from typing import Any, Literal

from refcl.core.arguments import Mask, Reduction, choice
from refcl.core.arrays import AnyArray, Array, Number
from refcl.losses.dcl import DCLGrads
from refcl.ranks.call import ExchangeName, How, two_views, world_of
from refcl.ranks.door import Plan, over_ranks
from refcl.ranks.rules import one_positive


@over_ranks(
    Plan(("a", "b"), views=2, upstream=lambda n: (2 * n,)),
    ignore=Mask("2N K"),
    negatives=choice("together", "by_view"),
)
def dcl(
    a: AnyArray,
    b: AnyArray,
    temperature: Number = 0.1,
    *,
    comm: Any,
    exchange: ExchangeName = "auto",
    negatives: Literal["together", "by_view"] = "together",
    add_views: bool = False,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    upstream: AnyArray | None = None,
) -> tuple[Array, DCLGrads]:
    """Decoupled contrastive loss (DCL) over ranks, of two views.

    Parameters
    ----------
    a, b, temperature, comm, exchange, ignore, reduction, normalize, eps, upstream : optional
        As in `nt_xent`.
    negatives, add_views : optional
        As in `refcl.dcl`.

    Returns
    -------
    loss : () array, or (2n,) array where the reduction is "none"
        In nats; either sign.
    grads : DCLGrads
        da (n, D), db (n, D) and dtemperature (), the sum over ranks.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.ranks import dcl, on_threads
    >>> a = np.eye(3)
    >>> rows = [slice(0, 1), slice(1, 3)]
    >>> on_threads(2, lambda comm: round(float(dcl(
    ...     a[rows[comm.Get_rank()]], a[rows[comm.Get_rank()]], 0.5, comm=comm)[0]), 6))
    [-0.613706, -0.613706]
    """
    world, how = world_of(comm), How(exchange, reduction, upstream, normalize, eps)
    apart = negatives == "by_view"
    rule = one_positive(temperature, decoupled=True, two_pools=apart)
    value, grads = two_views(world, how, a, b, rule, ignore, add_views=add_views, apart=apart)
    return value, DCLGrads(*grads)
