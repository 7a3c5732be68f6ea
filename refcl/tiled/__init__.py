"""The losses of embeddings a strip of rows at a time: the same functions, in memory proportional to N D, not N M.

In:  what a loss of ``refcl.losses`` was called with, already checked.  Out: its value, its gradients, its cache.
Not part of the walk: read this wing when you want to know how the same numbers are had fast.

``layout``     when strips pay, and their sizes
``workers``    who computes them
``one_way``    the softmax loss in one direction: one pass makes value and gradient
``both_ways``  NT-Xent and CLIP: two passes, where nothing is left out and exp needs no shift; else they go one way
``by_rooms``   every other loss, strip by strip through the dense rooms

Results agree with the dense walk to rounding. Bits repeat: partial gradients are added in a fixed order, which depends
on the sizes and on how many threads BLAS has, not on which thread was first. BLAS has one while any call has several
workers: the last bits of a small call in another thread may then be others than in quiet.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from refcl.backend import Array, arange, namespace, ones
from refcl.pair import Both
from refcl.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.sphere import NormalizeCache, l2_normalize_backward, l2_normalize_forward
from refcl.tiled import layout
from refcl.tiled.both_ways import softmax_tiles
from refcl.tiled.by_rooms import Walk, room_strips, walk_of
from refcl.tiled.layout import pays
from refcl.tiled.one_way import softmax_strips

__all__ = [
    "Cache",
    "Walk",
    "among_themselves",
    "backward",
    "clip",
    "forward",
    "info_nce",
    "inst_disc",
    "nt_xent",
    "pays",
    "row_by_row",
    "walk_of",
]


Gradients = tuple[Array, ...]  # of the embeddings and the parameters


class Cache(NamedTuple):
    kernel: Callable[..., Any]  # one of those below
    call: tuple[Any, ...]  # what it is called with
    tile: int | None
    grads: Gradients | None  # where they were made together with the value; else the backward computes again


def forward(kernel: Callable[..., Any], tile: Any, *call: Any) -> tuple[Array, Cache]:
    """Return the value and a cache, with the gradients in it where the pair asked for both at once."""
    upstream = None
    if isinstance(tile, Both):
        tile, upstream = tile
        if upstream is None:
            upstream = ones((), like=call[0])
        elif type(upstream) is not type(call[0]) or upstream.dtype != call[0].dtype:
            upstream = None  # the pair will say what is wrong with it
    value, grads = kernel(*call, tile=tile, upstream=upstream)
    return value, Cache(kernel, call, tile, grads)


def backward(dvalue: Array, cache: Cache) -> tuple[Array, ...]:
    """Return the gradients, a tuple: those made with the value, for the same upstream, or computed now."""
    if cache.grads is not None:
        return cache.grads
    _, grads = cache.kernel(*cache.call, tile=cache.tile, upstream=dvalue)
    return tuple(grads)


def info_nce(
    query: Array,
    key: Array,
    temperature: Array,
    positive: Array | None,
    ignore: Array | None,
    reduction: str,
    normalize: bool,
    eps: float,
    *,
    constant: bool = False,
    tile: int | None,
    upstream: Array | None,
) -> tuple[Array, Gradients | None]:
    """Return InfoNCE and its gradients dquery, dkey unless the keys are constant, and dτ."""
    z, on_sphere_query = _onto_sphere(query, normalize, eps)
    other, on_sphere_key = _onto_sphere(key, normalize, eps)
    dloss = _worth(upstream, z, (z.shape[0],), reduction)
    loss, grads = softmax_strips(
        z,
        other,
        temperature,
        positive=positive,
        ignore=ignore,
        constant=constant,
        unit=normalize,
        tile=tile,
        dloss=dloss,
    )
    on_spheres = (on_sphere_query,) if constant else (on_sphere_query, on_sphere_key)
    return _together(loss, reduction, grads, *on_spheres)


# Instance discrimination is InfoNCE against a bank, which takes no gradient.
inst_disc = partial(info_nce, constant=True)


def row_by_row(
    query: Array,
    key: Array,
    walk: Walk,
    reduction: str,
    normalize: bool,
    eps: float,
    *,
    tile: int | None,
    upstream: Array | None,
) -> tuple[Array, Gradients | None]:
    """Return any loss on similarities of embeddings, and its gradients dquery, dkey and those of its parameters."""
    z, on_sphere_query = _onto_sphere(query, normalize, eps)
    other, on_sphere_key = _onto_sphere(key, normalize, eps)
    dloss = _worth(upstream, z, (z.shape[0],), reduction)
    loss, grads = room_strips(z, other, walk, tile=tile, dloss=dloss)
    return _together(loss, reduction, grads, on_sphere_query, on_sphere_key)


def among_themselves(
    rows: Array,
    views: int,
    walk: Walk,
    factor: Any,
    reduction: str,
    normalize: bool,
    eps: float,
    *,
    tile: int | None,
    upstream: Array | None,
) -> tuple[Array, Gradients | None]:
    """Return a loss of rows (N, D) compared with each other, and its gradients: drows a view at a time, parameters."""
    n = rows.shape[0]
    z, on_sphere = _onto_sphere(rows, normalize, eps)
    dloss = _worth(None if upstream is None else factor * upstream, z, (n,), reduction)
    loss, grads = room_strips(z, z, walk, tile=tile, dloss=dloss)
    value, _ = reduce_forward(factor * loss, reduction=reduction)
    if grads is None:
        return value, None
    dz, dother, *dparameters = grads
    dz += dother  # each row receives as an anchor and as everyone else's candidate
    drows = _off_sphere(dz, on_sphere)
    return value, (*(drows[part] for part in layout.spans(0, n, n // views)), *dparameters)


def nt_xent(
    both: Array,
    temperature: Array,
    factor: float,
    ignore: Array | None,
    reduction: str,
    normalize: bool,
    eps: float,
    *,
    tile: int | None,
    upstream: Array | None,
) -> tuple[Array, Gradients | None]:
    """Return NT-Xent of the stacked rows of both views, and its gradients da, db and dτ."""
    n = both.shape[0] // 2
    z, on_sphere = _onto_sphere(both, normalize, eps)
    dloss = _worth(None if upstream is None else factor * upstream, z, (2 * n,), reduction)
    if ignore is None and _both_ways(z, z, temperature, normalize):
        dlosses = None if dloss is None else (dloss, dloss)
        (loss, _), grads = softmax_tiles(z, None, temperature, shift=n, tile=tile, dlosses=dlosses)
    else:
        partner = (arange(2 * n, like=z) + n) % (2 * n)
        loss, grads = softmax_strips(
            z, z, temperature, positive=partner, ignore=ignore, alone=True, unit=normalize, tile=tile, dloss=dloss
        )
        if grads is not None:
            grads[0][...] += grads[1]  # each row receives as an anchor and as everyone else's candidate
    value, _ = reduce_forward(factor * loss, reduction=reduction)
    if grads is None:
        return value, None
    dz = _off_sphere(grads[0], on_sphere)
    return value, (dz[:n, :], dz[n:, :], grads[2])


def clip(
    image: Array,
    text: Array,
    log_scale: Array,
    outside: Array,
    ignore: Array | None,
    reduction: str,
    normalize: bool,
    eps: float,
    *,
    tile: int | None,
    upstream: Array | None,
) -> tuple[Array, Gradients | None]:
    """Return CLIP's loss and its gradients dimage, dtext and dθ = −τ dτ, 0 where θ lay outside its bounds."""
    xp = namespace(image)
    temperature = xp.asarray(xp.exp(-log_scale))
    z, on_sphere_image = _onto_sphere(image, normalize, eps)
    other, on_sphere_text = _onto_sphere(text, normalize, eps)
    dloss = _worth(upstream, z, (2, z.shape[0]), reduction)
    dlosses = (None, None) if dloss is None else (dloss[0, :], dloss[1, :])
    if ignore is None and _both_ways(z, other, temperature, normalize):
        losses, grads = softmax_tiles(
            z, other, temperature, shift=0, tile=tile, dlosses=None if dloss is None else dlosses
        )
    else:
        columns = None if ignore is None else ignore.T
        of_image, rows = softmax_strips(
            z, other, temperature, ignore=ignore, unit=normalize, tile=tile, dloss=dlosses[0]
        )
        of_text, cols = softmax_strips(
            other, z, temperature, ignore=columns, unit=normalize, tile=tile, dloss=dlosses[1]
        )
        losses, grads = (of_image, of_text), None
        if rows is not None and cols is not None:
            grads = (rows[0] + cols[1], rows[1] + cols[0], rows[2] + cols[2])
    if grads is not None:
        grads = (grads[0], grads[1], xp.where(outside, xp.zeros_like(grads[2]), -temperature * grads[2]))
    return _together(xp.stack(losses), reduction, grads, on_sphere_image, on_sphere_text)


def _both_ways(z: Array, other: Array, temperature: Array, normalize: bool) -> bool:
    """Return whether one exponential serves rows and columns: without a shift of their own, and without their means."""
    if not layout.needs_no_shift(z, temperature, layout.reach(z, other, normalize)):
        return False
    return all(layout.mean_of_crowd(rows, normalize) is None for rows in ((z,) if other is z else (z, other)))


def _worth(upstream: Array | None, like: Array, shape: tuple[int, ...], reduction: str) -> Array | None:
    """Return what each anchor's loss is worth in the value, None where no gradient is wanted."""
    if upstream is None or upstream.shape not in ((), shape):
        return None
    xp = namespace(like)
    dloss = reduce_backward(upstream, ReduceCache(xp.empty(shape, dtype=like.dtype), reduction))
    return dloss if dloss.shape == shape else xp.broadcast_to(dloss, shape)


def _together(
    loss: Array, reduction: str, grads: Gradients | None, *on_sphere: NormalizeCache | None
) -> tuple[Array, Gradients | None]:
    """Return the reduced loss and the gradients, the first of them of what was brought to the sphere."""
    value, _ = reduce_forward(loss, reduction=reduction)
    if grads is None:
        return value, None
    sides = len(on_sphere)
    return value, (*map(_off_sphere, grads[:sides], on_sphere), *grads[sides:])


def _onto_sphere(h: Array, normalize: bool, eps: float) -> tuple[Array, NormalizeCache | None]:
    return l2_normalize_forward(h, eps=eps) if normalize else (h, None)


def _off_sphere(dz: Array, cache: NormalizeCache | None) -> Array:
    """Turn dz into dh, some rows at a time where they are many."""
    if cache is None:
        return dz
    if dz.shape[0] <= layout.SPHERE_ROWS:
        return l2_normalize_backward(dz, cache)
    for rows in layout.spans(0, dz.shape[0], layout.SPHERE_ROWS):
        dz[rows] = l2_normalize_backward(dz[rows], NormalizeCache(*(part[rows] for part in cache)))
    return dz
