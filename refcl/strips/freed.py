"""z, z' -> loss_i: the softmax loss with other targets than one, weights, margins or own negatives, strip by strip.

In:  embeddings, who is what to whom, and what a call asks beside one positive.
Out: the loss (N,) and, where asked for, dz, dother, dτ and the gradients of what was given.
Through the dense rooms, whose arrays are of a strip's size; what belongs to a row is written where its anchor stands.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from refcl.core.arrays import Array, namespace
from refcl.losses.info_nce import softmax_contrastive_backward, softmax_contrastive_forward
from refcl.strips.rooms import RowWalk, room_strips
from refcl.walk.pairing import among_first
from refcl.walk.similarity import (
    CosineSimilarityCache,
    InnerProductCache,
    own_similarity_backward,
    own_similarity_forward,
)


class Freedom(NamedTuple):
    """What the softmax losses take beside one positive of each anchor."""

    own_negatives: Array | None
    log_weight: Array | None
    targets: Array | None
    label_smoothing: float
    margin: float
    angular_margin: float

    @property
    def unused(self) -> bool:
        """Whether nothing of it is asked for."""
        arrays_given = not (self.own_negatives is None and self.log_weight is None and self.targets is None)
        return not (arrays_given or self.label_smoothing or self.margin or self.angular_margin)


Roles = Callable[[slice], tuple[Array, Array | None]]  # some anchors -> their positives, what they ignore


def freed_strips(
    z: Array,
    other: Array,
    temperature: Array,
    freedom: Freedom,
    roles: Roles,
    *,
    unit: bool,
    eps: float,
    tile: int | None,
    dloss: Array | None,
) -> tuple[Array, tuple[Any, ...] | None]:
    """Return the loss of each anchor and, unless ``dloss`` is None, dz, dother, dτ, down, dlog_weight and dtargets."""
    xp = namespace(z)
    own, log_weight, targets, *settings = freedom
    names = dict(zip(Freedom._fields[3:], settings, strict=True))
    dz_own = None if own is None else xp.empty_like(z)
    by_row = [dz_own, *(None if x is None else xp.empty_like(x) for x in (own, log_weight, targets))]

    def forward(s: Array, anchors: slice) -> tuple[Array, Any]:
        own_rows, weight, target = (None if x is None else x[anchors, ...] for x in (own, log_weight, targets))
        positive, ignore = roles(anchors)
        compared, beside = CosineSimilarityCache(None, None, InnerProductCache(z[anchors, :], other)), None
        if own_rows is not None:
            (s, weight, target, ignore), beside = own_similarity_forward(
                s, own_rows, compared, weight, target, ignore, normalize=unit, eps=eps
            )
            positive = among_first(positive, other.shape[0])
        loss, walk = softmax_contrastive_forward(
            s, temperature, weight, target, positive=positive, ignore=ignore, reduction="none", **names
        )
        return loss, (anchors, compared, beside, walk)

    def backward(dloss: Array, cache: Any) -> tuple[Array, ...]:
        anchors, compared, beside, walk = cache
        ds, dtemperature, dweight, dtarget, _ = softmax_contrastive_backward(dloss, walk)
        dz_rows = down = None
        if beside is not None:
            ds, dz_rows, down, dweight, dtarget = own_similarity_backward(ds, compared, beside, dweight, dtarget)
        for whole, rows in zip(by_row, (dz_rows, down, dweight, dtarget), strict=True):
            if whole is not None:
                whole[anchors, ...] = rows
        return ds, dtemperature

    loss, grads = room_strips(z, other, RowWalk(forward, backward), tile=tile, dloss=dloss)
    if grads is None:
        return loss, None
    if dz_own is not None:
        grads[0][...] += dz_own
    return loss, (*grads, *by_row[1:])
