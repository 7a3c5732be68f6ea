"""x -> h -> L: a loss of a batch that the encoder takes a few rows at a time. GradCache.

In:  a loss of embeddings, and how many rows the encoder may see at once.
Out: a function of encoders and batches that returns the loss of the whole batch and its gradients.
"""

import numbers as kinds
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from refcl.core.agreement import array_library
from refcl.core.arrays import Array, namespace
from refcl.core.pair import AnyPair

Tower: TypeAlias = tuple[AnyPair, Array, tuple[Any, ...]]  # an encoder, what goes in (N, ...), and its parameters


class ChunkedGrads(NamedTuple):
    dtowers: tuple[tuple[Any, ...], ...]  # of each tower what its encoder's backward returns: dx and its parameters'
    dnumbers: tuple[Any, ...]  # of what the loss takes after the embeddings


def chunked(loss: Callable[..., Any], rows: int) -> Callable[..., tuple[Array, ChunkedGrads]]:
    r"""Return a loss of embeddings as one of encoders and their batches, with the encoder's memory of a few rows.

    Parameters
    ----------
    loss : callable
        A loss of embeddings, such as `info_nce` or `sup_con`, or a function that returns a value and gradients as they
        do.
    rows : int
        How many rows an encoder sees at once, >= 1.

    Returns
    -------
    step : callable
        ``step(towers, *numbers, **settings) -> value, grads``. A tower is (encoder, x, parameters): a pair such as
        `layers.linear`, its batch (N, ...), and a tuple of what it takes after the batch; one for each set of
        embeddings of the loss. ``numbers`` and settings are the loss's. ``grads.dtowers`` has, a tower, dx and the
        gradient of each parameter; ``grads.dnumbers`` those of the numbers. Add up what towers share.

    Notes
    -----
    Each anchor's loss needs all candidates, so a batch cannot be cut before it: the mean of the losses of its pieces is
    another loss, with fewer negatives. But what needs memory is the encoder's backward, and it needs dh alone:

    1. embed the batch, chunk by chunk, and keep no cache;
    2. take the loss of all embeddings, and its gradient dh;
    3. embed each chunk once more, and walk back from its rows of dh.

    The gradients are those of the whole batch, to the order of a sum, for one more forward. This wants an encoder that
    takes each row by itself, and twice alike: batch norm sees other batches, and dropout must draw the same again.

    References
    ----------
    Gao, Zhang, Han and Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP
    2021, Section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import chunked, info_nce
    >>> from refcl.walk.layers import linear
    >>> rng = np.random.default_rng(0)
    >>> x, other, weight, bias = (rng.standard_normal(shape) for shape in ((6, 5), (6, 5), (5, 3), (3,)))
    >>> towers = (linear, x, (weight, bias)), (linear, other, (weight, bias))
    >>> loss, grads = chunked(info_nce, 2)(towers, 0.1)
    >>> whole, _ = info_nce(x @ weight + bias, other @ weight + bias, 0.1)
    >>> bool(abs(loss - whole) < 1e-14), [d.shape for d in grads.dtowers[0]]
    (True, [(6, 5), (5, 3), (3,)])
    """
    if not callable(loss):
        raise TypeError(f"chunked: loss must be a loss such as refcl.info_nce, got {loss!r}.")
    if isinstance(rows, bool) or not isinstance(rows, kinds.Integral) or rows < 1:
        raise ValueError(f"chunked: rows must be an int >= 1, got {rows!r}.")

    def step(towers: Sequence[Tower], *numbers: Any, **settings: Any) -> tuple[Array, ChunkedGrads]:
        embedded = []
        for tower in towers:
            encoder, x, parameters = _ask_tower(tower)
            chunks = [encoder.forward(x[part, ...], *parameters)[0] for part in _spans(x, rows)]
            embedded.append(namespace(x).concat(chunks, axis=0))  # (N, D)
        value, grads = _ask_answer(loss(*embedded, *numbers, **settings), len(embedded))
        dtowers = [_backward(tower, dh, rows) for tower, dh in zip(towers, grads, strict=False)]
        return value, ChunkedGrads(tuple(dtowers), tuple(grads)[len(towers) :])

    return step


def _ask_tower(tower: Any) -> Tower:
    """Return a tower, or refuse what is none."""
    if not isinstance(tower, tuple | list) or len(tower) != 3 or not isinstance(tower[2], tuple | list):
        came = f"{len(tower)} things" if isinstance(tower, tuple | list) and len(tower) != 3 else type(tower).__name__
        if came in {"tuple", "list"}:
            came = f"parameters of type {type(tower[2]).__name__}"
        raise TypeError(
            f"chunked: expected towers ((encoder, x, parameters), ...), the parameters a tuple, got {came} for a tower."
        )
    encoder, x, _ = tower
    if not (hasattr(encoder, "forward") and hasattr(encoder, "backward")):
        raise TypeError(
            f"chunked: the encoder is {type(encoder).__name__}; expected a pair such as refcl.walk.layers.linear. "
            "Make one of your own with refcl.Pair(forward, backward)."
        )
    array_library("chunked", "x", x)
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(f"chunked: x must have rows; got shape {tuple(x.shape)}.")
    return tower[0], tower[1], tuple(tower[2])


def _ask_answer(answer: Any, n_towers: int) -> tuple[Any, Any]:
    """Return a value and gradients, or refuse what a loss gave in their place."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TypeError(f"chunked: the loss returned {type(answer).__name__}; expected a tuple (value, grads).")
    grads = answer[1]
    if not isinstance(grads, tuple | list) or len(grads) < n_towers:
        came = f"{len(grads)}" if isinstance(grads, tuple | list) else type(grads).__name__
        raise TypeError(
            f"chunked: the loss must return a tuple of gradients, one for each tower first; got {came} for {n_towers}."
        )
    return answer


def _backward(tower: Tower, dh: Array, rows: int) -> tuple[Any, ...]:
    """Return dx and the gradients of a tower's parameters, each chunk embedded once more."""
    encoder, x, parameters = tower
    dx, total = [], None
    for part in _spans(x, rows):
        _, cache = encoder.forward(x[part, ...], *parameters)
        grads = encoder.backward(dh[part, ...], cache)
        dchunk, *of_chunk = grads if isinstance(grads, tuple) else (grads,)
        dx.append(dchunk)
        total = tuple(of_chunk) if total is None else _added(total, tuple(of_chunk))
    return namespace(x).concat(dx, axis=0), *(total or ())


def _spans(x: Array, rows: int) -> list[slice]:
    return [slice(first, min(first + rows, x.shape[0])) for first in range(0, x.shape[0], rows)]


def _added(some: Any, more: Any) -> Any:
    """Return the sum of two trees of gradients."""
    if isinstance(some, tuple):
        return tuple([_added(a, b) for a, b in zip(some, more, strict=True)])
    return None if some is None else some + more
