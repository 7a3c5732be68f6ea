"""h -> L: what is asked of the encoder's representations in place of a contrastive loss.

In:  representations ``h``, the patches of a sample in rows of their own; then a head's outputs and the right answers.
Out: the patches' representations side by side; the loss of the outputs, a 0-d array.
The head itself is `refcl.walk.encoder.mlp`, of one linear layer or with a hidden one, and is thrown away after
"""

from typing import Any, NamedTuple

from refcl.core.agreement import Call
from refcl.core.arguments import Floats, Integers, Mask
from refcl.core.arrays import Array, constant, namespace, ones
from refcl.core.pair import room
from refcl.losses.info_nce import SoftmaxContrastiveCache, softmax_contrastive_backward, softmax_contrastive_forward


class SideBySideCache(NamedTuple):
    patches: int


def side_by_side_forward(h: Array, *, patches: int) -> tuple[Array, SideBySideCache]:
    """Lay the representations of a sample's patches side by side.

    Parameters
    ----------
    h : (M, D) array of float32 or float64
        All first patches, then all second ones, and so on: M is a multiple of their number.
    patches : int
        V, how many each sample has.

    Returns
    -------
    side : (N, C) array
        Row n holds the V representations of sample n: N = M / V and C = V D.
    grads : named tuple
        dh.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind, or its rows are no multiple of ``patches``.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.pretext.heads import side_by_side
    >>> side_by_side(np.array([[1.0], [2.0], [3.0], [4.0]]), patches=2)[0]
    array([[1., 3.],
           [2., 4.]])
    """
    xp = namespace(h)
    n = h.shape[0] // patches
    return xp.concat([h[p * n : (p + 1) * n, :] for p in range(patches)], axis=1), SideBySideCache(patches)


def side_by_side_backward(dside: Array, cache: SideBySideCache) -> Array:
    """Return dh: the same numbers, one patch below the other again."""
    xp = namespace(dside)
    d = dside.shape[1] // cache.patches
    return xp.concat([dside[:, p * d : (p + 1) * d] for p in range(cache.patches)], axis=0)


def _ask_patches(call: Call, arguments: dict[str, Any]) -> None:
    """Ask for rows that are a multiple of the patches."""
    patches, rows = arguments["patches"], call.sizes["M"]
    if rows % patches:
        raise ValueError(f"side_by_side: the rows of h must be a multiple of patches {patches}; got {rows}.")


def cross_entropy_forward(
    logits: Array, *, label: Array, reduction: str = "mean"
) -> tuple[Array, SoftmaxContrastiveCache]:
    r"""Charge the softmax of the logits for what it gives to other classes than the right one.

    Parameters
    ----------
    logits : (N, K) array of float32 or float64
        A column for each class.
    label : (N,) array of integers
        The right class of each row, in [0, K).
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    grads : named tuple
        dlogits.

    Notes
    -----
    .. math:: L_n = -\log\frac{e^{a_{ny}}}{\sum_k e^{a_{nk}}}

    It is `refcl.softmax_contrastive` at τ = 1: an anchor is a sample, a candidate is a class, and the right class is
    the positive. So it is exact where the right class dominates, where its logarithm would round to 0.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.pretext.heads import cross_entropy
    >>> loss, grads = cross_entropy(np.array([[60.0, 0.0]]), label=np.array([0]))
    >>> loss, grads.dlogits
    (array(8.75651076e-27), array([[-8.75651076e-27,  8.75651076e-27]]))
    """
    return softmax_contrastive_forward(logits, 1.0, positive=label, reduction=reduction)


def cross_entropy_backward(dvalue: Array, cache: SoftmaxContrastiveCache) -> Array:
    """Return dlogits = p − 1 at the right class and p elsewhere: σ r_k = p_k, and −σ = −Σ_k p_k."""
    dlogits, *_ = softmax_contrastive_backward(dvalue, cache)
    return dlogits


class SquaredErrorCache(NamedTuple):
    error: Array  # (N, P) prediction less target, 0 where nothing is asked
    number: Array  # () of the entries that are asked for, at least 1


def squared_error_forward(
    prediction: Array, *, target: Array, asked: Array | None = None
) -> tuple[Array, SquaredErrorCache]:
    r"""Charge the mean square of the difference to the target.

    Parameters
    ----------
    prediction : (N, P) array of float32 or float64
        P numbers a sample.
    target : (N, P) array
        What they should be.
    asked : (N, P) array of booleans, optional
        Which of them count; by default all.

    Returns
    -------
    loss : () array
        The mean over what counts, >= 0; 0 where nothing does.
    grads : named tuple
        dprediction.

    Notes
    -----
    .. math:: L = \frac1A \sum_{asked} (\hat t_{np} - t_{np})^2

    with A the number of entries asked for, in the whole batch: a sample counts by how much is asked of it.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.pretext.heads import squared_error
    >>> loss, grads = squared_error(np.array([[1.0, 3.0]]), target=np.array([[0.0, 1.0]]))
    >>> loss, grads.dprediction
    (array(2.5), array([[1., 2.]]))
    """
    xp = namespace(prediction)
    error = prediction - target
    one, zero = constant(1.0, like=error), constant(0.0, like=error)
    each = ones(error.shape, like=error)
    if asked is not None:
        each, error = xp.where(asked, each, zero), xp.where(asked, error, zero)
    number = xp.maximum(xp.asarray(xp.sum(each)), one)
    return xp.asarray(xp.sum(error * error) / number), SquaredErrorCache(error, number)


def squared_error_backward(dvalue: Array, cache: SquaredErrorCache) -> Array:
    """Return dprediction = 2 (prediction − target)/A where asked, and 0 elsewhere."""
    return cache.error * (2 * dvalue / cache.number)


side_by_side = room(side_by_side_forward, side_by_side_backward, h="M D", also=_ask_patches)
cross_entropy = room(
    cross_entropy_forward, cross_entropy_backward, logits=Floats("N K"), label=Integers("N", below="K")
)
squared_error = room(
    squared_error_forward, squared_error_backward, prediction=Floats("N P"), target=Floats("N P"), asked=Mask("N P")
)
