"""image, text -> L over ranks: SigLIP, whose pairs do not see each other."""

from typing import Any

from refcl.core.arguments import Reduction
from refcl.core.arrays import AnyArray, Array, Number, namespace
from refcl.losses.sig_lip import SigLIPGrads
from refcl.ranks.call import ExchangeName, How, off_sphere, one_way, onto_sphere, totals, world_of
from refcl.ranks.door import Plan, over_ranks
from refcl.ranks.exchange import numbered
from refcl.ranks.rules import every_pair, roles_by_number


@over_ranks(Plan(("image", "text")))
def sig_lip(
    image: AnyArray,
    text: AnyArray,
    log_scale: Number,
    bias: Number,
    *,
    comm: Any,
    exchange: ExchangeName = "auto",
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    upstream: AnyArray | None = None,
) -> tuple[Array, SigLIPGrads]:
    """SigLIP over ranks. No pair sees another, so a ring goes round once.

    Parameters
    ----------
    image, text : (n, D) array of float32 or float64, (m, D) array
        This rank's rows, as query and key in `info_nce`.
    log_scale, bias : float or () array
        As in `refcl.sig_lip`; the same on all ranks.
    comm, exchange : optional
        As in `info_nce`.
    positive, ignore, reduction, normalize, eps, upstream : optional
        As in `info_nce`.

    Returns
    -------
    loss : () array, or (n,) array where the reduction is "none"
        In nats.
    grads : SigLIPGrads
        dimage (n, D), dtext (m, D), and the sums over ranks dlog_scale () and dbias ().

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.ranks import on_threads, sig_lip
    >>> a = np.eye(4)
    >>> rows = [slice(0, 1), slice(1, 4)]
    >>> on_threads(2, lambda comm: round(float(sig_lip(
    ...     a[rows[comm.Get_rank()]], a[rows[comm.Get_rank()]], np.log(10.0), -5.0, comm=comm)[0]), 6))
    [0.02686, 0.02686]
    """
    world, how = world_of(comm), How(exchange, reduction, upstream, normalize, eps)
    z, of_image = onto_sphere(image, how)
    other, of_text = onto_sphere(text, how)
    if positive is None:
        positive = numbered([z.shape[0]], like=z, first=world.first_candidate)[0]
    scale = namespace(z).asarray(namespace(z).exp(log_scale))
    roles = roles_by_number(positive, ignore=ignore, itself=None)
    walked = one_way(world, how, z, other, roles, every_pair(scale, bias), sum(world.anchors))
    value, (dscale, dbias) = totals(world, how, walked.loss, walked.scalars, sum(world.anchors))
    dlog_scale = namespace(z).asarray(scale * dscale)
    return value, SigLIPGrads(off_sphere(walked.dz, of_image), off_sphere(walked.dother, of_text), dlog_scale, dbias)
