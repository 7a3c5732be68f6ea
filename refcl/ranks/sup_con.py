"""z, labels -> L over ranks: SupCon, in which all other rows of a class are positives."""

from typing import Any, Literal

from refcl.core.arguments import Reduction, choice
from refcl.core.arrays import AnyArray, Array, Number, namespace, ones
from refcl.losses.sup_con import SupConGrads, mean_factor_of_labels
from refcl.ranks.call import ExchangeName, How, off_sphere, one_way, onto_sphere, totals, world_of, worth
from refcl.ranks.door import Plan, over_ranks
from refcl.ranks.exchange import gathered, numbered
from refcl.ranks.rules import roles_by_label, several_positives


@over_ranks(Plan(("z",)), form=choice("out", "in", "sum"), no_positive=choice("zero", "skip"))
def sup_con(
    z: AnyArray,
    temperature: Number = 0.1,
    *,
    labels: AnyArray,
    comm: Any,
    exchange: ExchangeName = "auto",
    ignore: AnyArray | None = None,
    form: Literal["out", "in", "sum"] = "out",
    no_positive: Literal["zero", "skip"] = "zero",
    base_temperature: float | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    upstream: AnyArray | None = None,
) -> tuple[Array, SupConGrads]:
    """Supervised contrastive loss (SupCon) over ranks.

    Parameters
    ----------
    z : (n, D) array of float32 or float64
        This rank's rows, each an anchor and a candidate of all others on all ranks.
    temperature : optional
        As in `info_nce`.
    labels : (n,) array of integers
        Class of each of this rank's rows. Every rank gathers them all, 8 bytes a row.
    comm, exchange : optional
        As in `info_nce`.
    ignore : (n, N) array of booleans, optional
        As in `refcl.sup_con`, this rank's rows by all.
    form, no_positive, base_temperature : optional
        As in `refcl.sup_con`.
    reduction, normalize, eps, upstream : optional
        As in `info_nce`.

    Returns
    -------
    loss : () array, or (n,) array where the reduction is "none"
        In nats.
    grads : SupConGrads
        dz (n, D) and dtemperature (), the sum over ranks.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.ranks import on_threads, sup_con
    >>> z, labels, rows = np.eye(4), np.array([0, 1, 0, 1]), [slice(0, 1), slice(1, 4)]
    >>> on_threads(2, lambda comm: round(float(sup_con(
    ...     z[rows[comm.Get_rank()]], 0.5, labels=labels[rows[comm.Get_rank()]], comm=comm)[0]), 6))
    [1.098612, 1.098612]
    """
    world, how = world_of(comm), How(exchange, reduction, upstream, normalize, eps)
    xp, rows = namespace(z), sum(world.anchors)
    labels = xp.astype(labels, xp.int64)
    everyone = gathered(world.comm, labels, world.anchors)
    u, on_sphere = onto_sphere(z, how)
    own = numbered([u.shape[0]], like=u, first=world.first)[0]
    factor = ones((), like=u)
    if no_positive == "skip" and reduction == "mean":
        factor = mean_factor_of_labels(everyone, like=u)
    scale = factor if base_temperature is None else factor * temperature / base_temperature
    roles = roles_by_label(labels, everyone, itself=own, ignore=ignore)
    rule = several_positives(temperature, form=form)
    walked = one_way(world, how, u, u, roles, rule, rows, factor=scale)
    (dtemperature,) = walked.scalars
    if base_temperature is not None:  # loss · τ/τ_base: the product rule's other half
        dloss = worth(how, walked.loss.shape, u, rows, factor)
        dtemperature = dtemperature + xp.sum(dloss * walked.loss) / base_temperature
    value, sums = totals(world, how, walked.loss * scale, [dtemperature], rows)
    return value, SupConGrads(off_sphere(walked.dz + walked.dother, on_sphere), *sums)
