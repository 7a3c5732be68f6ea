"""Each loss in terms of strips: the same arguments as the loss itself, and the rows of a strip.

In:  the arguments of a loss by its own names, ``tile`` and ``upstream`` (None where it is 1).
Out: the value and a tuple of gradients, which is None where ``upstream`` has not the shape of the value.
"""

from typing import Any, NamedTuple

from refcl.core.arrays import Array, arange, constant, namespace, ones
from refcl.losses.clip import clamp_backward, clamp_forward, sides
from refcl.losses.dcl import decoupled_contrastive_backward, decoupled_contrastive_forward, second_pool
from refcl.losses.hard_info_nce import hard_softmax_contrastive_backward, hard_softmax_contrastive_forward
from refcl.losses.hard_simple_loss import hard_simple_contrastive_backward, hard_simple_contrastive_forward
from refcl.losses.sig_lip import pairwise_sigmoid_backward, pairwise_sigmoid_forward
from refcl.losses.simple_loss import simple_contrastive_backward, simple_contrastive_forward
from refcl.losses.sup_con import (
    mean_factor_of_labels,
    roles_of_labels,
    supervised_contrastive_backward,
    supervised_contrastive_forward,
)
from refcl.strips import layout
from refcl.strips.freed import Freedom, Roles, freed_strips
from refcl.strips.rooms import RowWalk, room_strips, row_walk
from refcl.strips.softmax import softmax_strips
from refcl.strips.two_sided import softmax_tiles
from refcl.walk.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.walk.sphere import NormalizeCache, l2_normalize_backward, l2_normalize_forward
from refcl.walk.two_views import roles_of

Gradients = tuple[Any, ...]  # of the embeddings and the parameters; None for what was not given
Result = tuple[Array, Gradients | None]


class How(NamedTuple):
    """The settings that all these losses share, and what the door adds to them."""

    reduction: str
    normalize: bool
    eps: float
    tile: int | None
    upstream: Array | None  # None where it is 1


def info_nce(
    query: Array,
    key: Array,
    temperature: Array,
    own_negatives: Array | None,
    log_weight: Array | None,
    targets: Array | None,
    anchor_weight: Array | None,
    *,
    positive: Array | None,
    ignore: Array | None,
    **settings: Any,
) -> Result:
    """Return InfoNCE, and dquery, dkey, dτ and the gradients of what else was given."""
    how, freedom = _taken_apart(settings, own_negatives, log_weight, targets)
    z, query_sphere = _onto_sphere(query, how)
    other, key_sphere = _onto_sphere(key, how)
    worth = _worth(how, z, (z.shape[0],))
    one_way: dict[str, Any] = {"unit": how.normalize, "tile": how.tile, "dloss": _times(worth, anchor_weight)}
    if freedom.unused:
        loss, grads = softmax_strips(z, other, temperature, positive=positive, ignore=ignore, **one_way)
    else:
        roles = _of_columns(z, positive, ignore)
        loss, grads = freed_strips(z, other, temperature, freedom, roles, eps=how.eps, **one_way)
    loss, grads = _weighed(loss, grads, worth, anchor_weight)
    return _reduced(loss, how, grads, query_sphere, key_sphere)


def inst_disc(
    query: Array,
    temperature: Array,
    *,
    bank: Array,
    index: Array,
    ignore: Array | None = None,
    **settings: Any,
) -> Result:
    """Return InfoNCE against a bank, which takes no gradient, and dquery and dτ."""
    how = How(**settings)
    z, query_sphere = _onto_sphere(query, how)
    loss, grads = softmax_strips(
        z,
        _onto_sphere(bank, how)[0],
        temperature,
        positive=index,
        ignore=ignore,
        constant=True,
        unit=how.normalize,
        tile=how.tile,
        dloss=_worth(how, z, (z.shape[0],)),
    )
    return _reduced(loss, how, grads, query_sphere)


def hard_info_nce(
    query: Array, key: Array, temperature: Array, *, hardest: float | int, positive: Any, ignore: Any, **settings: Any
) -> Result:
    """Return InfoNCE against the hardest negatives, and dquery, dkey and dτ."""
    halves = hard_softmax_contrastive_forward, hard_softmax_contrastive_backward
    walk = row_walk(*halves, temperature, positive=positive, ignore=ignore, hardest=hardest)
    return _row_by_row(query, key, walk, How(**settings))


def simple_loss(
    query: Array, key: Array, weight: Array | None, *, positive: Any, ignore: Any, **settings: Any
) -> Result:
    """Return the simple loss, and dquery, dkey and dλ."""
    halves = simple_contrastive_forward, simple_contrastive_backward
    walk = row_walk(*halves, weight, positive=positive, ignore=ignore)
    return _row_by_row(query, key, walk, How(**settings))


def hard_simple_loss(
    query: Array, key: Array, weight: Array | None, *, hardest: Any, positive: Any, ignore: Any, **settings: Any
) -> Result:
    """Return the simple loss against the hardest negatives, and dquery, dkey and dλ."""
    halves = hard_simple_contrastive_forward, hard_simple_contrastive_backward
    walk = row_walk(*halves, weight, positive=positive, ignore=ignore, hardest=hardest)
    return _row_by_row(query, key, walk, How(**settings))


def sig_lip(
    image: Array, text: Array, log_scale: Array, bias: Array, *, positive: Any, ignore: Any, **settings: Any
) -> Result:
    """Return SigLIP, and dimage, dtext, dθ and db."""
    halves = pairwise_sigmoid_forward, pairwise_sigmoid_backward
    walk = row_walk(*halves, log_scale, bias, positive=positive, ignore=ignore)
    return _row_by_row(image, text, walk, How(**settings))


def nt_xent(
    a: Array,
    b: Array,
    temperature: Array,
    own_negatives: Array | None,
    log_weight: Array | None,
    targets: Array | None,
    anchor_weight: Array | None,
    *,
    ignore: Array | None,
    add_views: bool,
    **settings: Any,
) -> Result:
    """Return NT-Xent, and da, db, dτ and the gradients of what else was given."""
    how, freedom = _taken_apart(settings, own_negatives, log_weight, targets)
    factor = 2.0 if add_views and how.reduction == "mean" else 1.0
    n = a.shape[0]
    z, on_sphere = _onto_sphere(namespace(a).concat((a, b), axis=0), how)
    worth = _worth(how, z, (2 * n,), factor)
    dloss = _times(worth, anchor_weight)
    one_way: dict[str, Any] = {"unit": how.normalize, "tile": how.tile, "dloss": dloss}
    if not freedom.unused:

        def roles(anchors: slice) -> tuple[Array, Array | None]:
            return roles_of(z, anchors, ignore=ignore)[:2]

        loss, grads = freed_strips(z, z, temperature, freedom, roles, eps=how.eps, **one_way)
    elif ignore is None and _two_sided(z, z, temperature, how.normalize):
        dlosses = None if dloss is None else (dloss, dloss)
        (loss, _), grads = softmax_tiles(z, None, temperature, shift=n, tile=how.tile, dlosses=dlosses)
    else:
        partner = (arange(2 * n, like=z) + n) % (2 * n)
        loss, grads = softmax_strips(z, z, temperature, positive=partner, ignore=ignore, alone=True, **one_way)
    if grads is not None and grads[0] is not grads[1]:
        grads[0][...] += grads[1]  # each row receives as an anchor and as everyone else's candidate
    loss, grads = _weighed(loss, grads, worth, anchor_weight)
    value, _ = reduce_forward(factor * loss, reduction=how.reduction)
    if grads is None:
        return value, None
    dz = _off_sphere(grads[0], on_sphere)
    return value, (dz[:n, :], dz[n:, :], *grads[2:])


def clip(
    image: Array,
    text: Array,
    log_scale: Array,
    own_negatives: Array | None,
    log_weight: Array | None,
    targets: Array | None,
    anchor_weight: Array | None,
    *,
    clamp: Any,
    ignore: Array | None,
    **settings: Any,
) -> Result:
    """Return CLIP's loss, and dimage, dtext, dθ = −τ dτ, 0 where θ lay outside its bounds, and those of the rest."""
    how, freedom = _taken_apart(settings, own_negatives, log_weight, targets)
    xp = namespace(image)
    log_scale, clamped = clamp_forward(log_scale, clamp)
    temperature = xp.asarray(xp.exp(-log_scale))
    z, image_sphere = _onto_sphere(image, how)
    other, text_sphere = _onto_sphere(text, how)
    worth = _worth(how, z, (2, z.shape[0]))
    dlosses = sides(_times(worth, anchor_weight))
    if freedom.unused and ignore is None and _two_sided(z, other, temperature, how.normalize):
        of_both = None if worth is None else dlosses
        losses, grads = softmax_tiles(z, other, temperature, shift=0, tile=how.tile, dlosses=of_both)
    else:
        parts = []
        of_texts = freedom._replace(own_negatives=None)
        for side, (anchors, candidates, mask, free) in enumerate(
            ((z, other, ignore, freedom), (other, z, None if ignore is None else ignore.T, of_texts))
        ):
            one_way: dict[str, Any] = {"unit": how.normalize, "tile": how.tile, "dloss": dlosses[side]}
            if freedom.unused:
                parts.append(softmax_strips(anchors, candidates, temperature, ignore=mask, **one_way))
                continue
            free = free._replace(log_weight=sides(log_weight)[side], targets=sides(targets)[side])
            roles = _of_columns(anchors, None, mask)
            parts.append(freed_strips(anchors, candidates, temperature, free, roles, eps=how.eps, **one_way))
        losses, grads = (parts[0][0], parts[1][0]), None
        (_, rows), (_, cols) = parts
        if rows is not None and cols is not None:
            rest = [None if x is None else xp.stack((x, y)) for x, y in zip(rows[4:], cols[4:], strict=True)]
            grads = (rows[0] + cols[1], rows[1] + cols[0], rows[2] + cols[2], *rows[3:4], *rest)
    if grads is not None:
        dlog_scale = clamp_backward(xp.asarray(-temperature * grads[2]), clamped)
        grads = (grads[0], grads[1], dlog_scale, *grads[3:])
    loss, grads = _weighed(xp.stack(losses), grads, worth, anchor_weight)
    return _reduced(loss, how, grads, image_sphere, text_sphere)


def dcl(
    a: Array,
    b: Array,
    temperature: Array,
    *,
    negatives: str,
    add_views: bool,
    ignore: Array | None,
    **settings: Any,
) -> Result:
    """Return DCL, and da, db and dτ."""
    how = How(**settings)
    both = namespace(a).concat((a, b), axis=0)  # (2N, D)

    def forward(s: Array, anchors: slice) -> tuple[Array, Any]:
        roles = roles_of(both, anchors, ignore=ignore)
        apart = second_pool(roles, negatives)
        return decoupled_contrastive_forward(
            s, temperature, positive=roles.positive, ignore=roles.ignore, apart=apart, reduction="none"
        )

    factor = 2.0 if add_views and how.reduction == "mean" else 1.0
    return _among_themselves(both, 2, RowWalk(forward, decoupled_contrastive_backward), factor, how)


def sup_con(
    z: Array,
    temperature: Array,
    *,
    labels: Array,
    ignore: Array | None,
    no_positive: str,
    form: str,
    base_temperature: float | None,
    **settings: Any,
) -> Result:
    """Return SupCon, and dz and dτ."""
    how = How(**settings)

    def forward(s: Array, anchors: slice) -> tuple[Array, Any]:
        positives, left_out = roles_of_labels(labels, anchors, ignore=ignore)
        return supervised_contrastive_forward(
            s,
            temperature,
            positives=positives,
            ignore=left_out,
            form=form,
            base_temperature=base_temperature,
            reduction="none",
        )

    skipped = no_positive == "skip" and how.reduction == "mean"
    factor = mean_factor_of_labels(labels, like=z) if skipped else 1.0
    return _among_themselves(z, 1, RowWalk(forward, supervised_contrastive_backward), factor, how)


def multi_positive(
    query: Array,
    key: Array,
    temperature: Array,
    *,
    positives: Array,
    ignore: Array | None,
    no_positive: str,
    **settings: Any,
) -> Result:
    """Return the softmax loss of several positives, and dquery, dkey and dτ."""
    shared = {name: settings.pop(name) for name in ("form", "base_temperature")}
    how = How(**settings)
    xp = namespace(query)

    def forward(s: Array, anchors: slice) -> tuple[Array, Any]:
        left_out = None if ignore is None else ignore[anchors, :]
        return supervised_contrastive_forward(
            s, temperature, positives=positives[anchors, :], ignore=left_out, reduction="none", **shared
        )

    factor: Any = 1.0
    if no_positive == "skip" and how.reduction == "mean":
        zero, one = (constant(x, like=query) for x in (0.0, 1.0))
        factor = query.shape[0] / xp.maximum(xp.sum(xp.where(xp.any(positives, axis=1), one, zero)), one)
    return _row_by_row(query, key, RowWalk(forward, supervised_contrastive_backward), how, factor)


def _taken_apart(settings: dict[str, Any], *arrays: Any) -> tuple[How, Freedom]:
    """Return the settings that all losses share, and what the softmax losses take beside one positive."""
    numbers = [settings.pop(name) for name in Freedom._fields[3:]]
    return How(**settings), Freedom(*arrays, *numbers)


def _of_columns(z: Array, positive: Array | None, ignore: Array | None) -> Roles:
    """Return who is what to some anchors, where each is given a column, or has that of its own number."""
    column = arange(z.shape[0], like=z) if positive is None else positive  # (N,)
    return lambda anchors: (column[anchors], None if ignore is None else ignore[anchors, :])


def _times(worth: Array | None, anchor_weight: Array | None) -> Array | None:
    return worth if worth is None or anchor_weight is None else worth * anchor_weight


def _weighed(
    loss: Array, grads: Gradients | None, worth: Array | None, anchor_weight: Array | None
) -> tuple[Array, Gradients | None]:
    """Return the losses times what each anchor counts, and all seven gradients: those of the weights are the last."""
    if grads is not None:
        danchor_weight = None if anchor_weight is None else loss * worth
        grads = (*grads, *[None] * (6 - len(grads)), danchor_weight)
    return loss if anchor_weight is None else loss * anchor_weight, grads


def _row_by_row(query: Array, key: Array, walk: RowWalk, how: How, factor: Any = 1.0) -> Result:
    """Return any loss on similarities of embeddings, and dquery, dkey and the gradients of its parameters."""
    z, query_sphere = _onto_sphere(query, how)
    other, key_sphere = _onto_sphere(key, how)
    loss, grads = room_strips(z, other, walk, tile=how.tile, dloss=_worth(how, z, (z.shape[0],), factor))
    return _reduced(factor * loss, how, grads, query_sphere, key_sphere)


def _among_themselves(rows: Array, views: int, walk: RowWalk, factor: Any, how: How) -> Result:
    """Return a loss of rows (N, D) compared with each other, and drows a view at a time and its parameters'."""
    n = rows.shape[0]
    z, on_sphere = _onto_sphere(rows, how)
    loss, grads = room_strips(z, z, walk, tile=how.tile, dloss=_worth(how, z, (n,), factor))
    value, _ = reduce_forward(factor * loss, reduction=how.reduction)
    if grads is None:
        return value, None
    dz, dother, *dparameters = grads
    dz += dother  # each row receives as an anchor and as everyone else's candidate
    drows = _off_sphere(dz, on_sphere)
    return value, (*(drows[part] for part in layout.spans(0, n, n // views)), *dparameters)


def _two_sided(z: Array, other: Array, temperature: Array, normalize: bool) -> bool:
    """Return whether one exponential serves rows and columns: without a shift of their own, and without their means."""
    if not layout.needs_no_shift(z, temperature, layout.reach(z, other, normalize)):
        return False
    return all(layout.mean_of_crowd(rows, normalize) is None for rows in ((z,) if other is z else (z, other)))


def _worth(how: How, like: Array, shape: tuple[int, ...], factor: Any = 1.0) -> Array | None:
    """Return what each anchor's loss is worth in the value, None where upstream has not the value's shape."""
    upstream = ones((), like=like) if how.upstream is None else how.upstream
    if how.upstream is not None and upstream.shape != shape:
        return None
    xp = namespace(like)
    dloss = reduce_backward(factor * upstream, ReduceCache(xp.empty(shape, dtype=like.dtype), how.reduction))
    return dloss if dloss.shape == shape else xp.broadcast_to(dloss, shape)


def _reduced(loss: Array, how: How, grads: Gradients | None, *on_sphere: NormalizeCache | None) -> Result:
    """Return the reduced loss and the gradients, the first of them of what was brought to the sphere."""
    value, _ = reduce_forward(loss, reduction=how.reduction)
    if grads is None:
        return value, None
    sides = len(on_sphere)
    return value, (*map(_off_sphere, grads[:sides], on_sphere), *grads[sides:])


def _onto_sphere(h: Array, how: How) -> tuple[Array, NormalizeCache | None]:
    return l2_normalize_forward(h, eps=how.eps) if how.normalize else (h, None)


def _off_sphere(dz: Array, cache: NormalizeCache | None) -> Array:
    """Turn dz into dh, some rows at a time where they are many."""
    if cache is None:
        return dz
    if dz.shape[0] <= layout.SPHERE_ROWS:
        return l2_normalize_backward(dz, cache)
    for rows in layout.spans(0, dz.shape[0], layout.SPHERE_ROWS):
        dz[rows] = l2_normalize_backward(dz[rows], NormalizeCache(*(part[rows] for part in cache)))
    return dz
