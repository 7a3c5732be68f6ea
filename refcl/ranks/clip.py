"""image, text -> L over ranks: CLIP, InfoNCE there and back with a learnable scale."""

from typing import Any

from refcl.core.arguments import Reduction
from refcl.core.arrays import AnyArray, Array, Number, namespace
from refcl.losses.clip import CLIPGrads, clamp_backward, clamp_forward, low_and_high
from refcl.ranks.call import ExchangeName, How, off_sphere, one_way, onto_sphere, totals, world_of
from refcl.ranks.door import Plan, over_ranks
from refcl.ranks.exchange import numbered, turned
from refcl.ranks.rules import one_positive, roles_by_number


@over_ranks(Plan(("image", "text"), upstream=lambda n: (2, n)), text="N D", clamp=low_and_high)
def clip(
    image: AnyArray,
    text: AnyArray,
    log_scale: Number,
    *,
    comm: Any,
    exchange: ExchangeName = "auto",
    clamp: tuple[float, float] | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    upstream: AnyArray | None = None,
) -> tuple[Array, CLIPGrads]:
    """CLIP over ranks: both directions, one after the other.

    Parameters
    ----------
    image, text : (n, D) array of float32 or float64
        This rank's pairs, row i of one the positive of row i of the other.
    log_scale : float or () array
        As in `refcl.clip`; the same on all ranks.
    comm, exchange : optional
        As in `info_nce`.
    clamp : tuple of two floats, optional
        As in `refcl.clip`.
    ignore : (n, N) array of booleans, optional
        As in `refcl.clip`, this rank's images by the texts of all ranks.
    reduction, normalize, eps : optional
        As in `info_nce`.
    upstream : (2, n) array, optional
        As in `refcl.clip`, for this rank's pairs.

    Returns
    -------
    loss : () array, or (2, n) array where the reduction is "none"
        In nats.
    grads : CLIPGrads
        dimage (n, D), dtext (n, D) and dlog_scale (), the sum over ranks.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.ranks import clip, on_threads
    >>> a = np.eye(4)
    >>> rows = [slice(0, 1), slice(1, 4)]
    >>> on_threads(2, lambda comm: round(float(clip(
    ...     a[rows[comm.Get_rank()]], a[rows[comm.Get_rank()]], 1.0, comm=comm)[0]), 6))
    [0.180277, 0.180277]
    """
    world, how = world_of(comm), How(exchange, reduction, upstream, normalize, eps)
    xp = namespace(image)
    clamped_scale, clamped = clamp_forward(log_scale, clamp)
    temperature = xp.asarray(xp.exp(-clamped_scale))
    z, of_image = onto_sphere(image, how)
    other, of_text = onto_sphere(text, how)
    own = numbered([z.shape[0]], like=z, first=world.first)[0]
    columns = None if ignore is None else turned(world.comm, ignore, world.anchors)
    rule, count = one_positive(temperature), 2 * sum(world.anchors)
    of_images, of_texts = (None, None) if how.upstream is None else (how.upstream[0, :], how.upstream[1, :])
    there = one_way(
        world, how._replace(upstream=of_images), z, other, roles_by_number(own, ignore=ignore, itself=None), rule, count
    )
    back = one_way(
        world, how._replace(upstream=of_texts), other, z, roles_by_number(own, ignore=columns, itself=None), rule, count
    )
    scalars = [a + b for a, b in zip(there.scalars, back.scalars, strict=True)]
    value, (dtemperature,) = totals(world, how, xp.stack((there.loss, back.loss)), scalars, count)
    dimage, dtext = there.dz + back.dother, there.dother + back.dz
    dlog_scale = clamp_backward(xp.asarray(-temperature * dtemperature), clamped)
    return value, CLIPGrads(off_sphere(dimage, of_image), off_sphere(dtext, of_text), dlog_scale)
