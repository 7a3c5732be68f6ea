"""s+, s- -> one gap a pair: nothing is pooled, every pair is measured against a threshold that all share.

In:  ``s_pos`` (N,), ``s_neg`` (N, M), scale and bias of the logits, and the mask ``negatives`` of what counts.
Out: gaps of the positives (N,) and of the negatives (N, M), −inf where masked.
"""

from typing import NamedTuple

from refcl.core.arrays import Array, constant, namespace
from refcl.core.pair import room


class PairLogitsCache(NamedTuple):
    s_pos: Array  # (N,)
    s_neg: Array  # (N, M) 0 where masked
    negatives: Array  # (N, M) which candidates count
    scale: Array  # ()


def pair_logits_forward(
    s_pos: Array, s_neg: Array, scale: Array, bias: Array, *, negatives: Array
) -> tuple[tuple[Array, Array], PairLogitsCache]:
    r"""Pool nothing: measure every pair by itself, against a threshold that all share.

    Parameters
    ----------
    s_pos, s_neg : optional
        As in `soft_maximum`.
    scale : float or () array
        1/τ, dimensionless.
    bias : float or () array
        In nats: a pair counts as positive where :math:`scale \cdot s + bias > 0`.
    negatives : optional
        As in `soft_maximum`.

    Returns
    -------
    gap_pos : (N,) array
        :math:`-(scale \cdot s_{ip} + bias)`: how far the positive stays below the threshold.
    gap_neg : (N, M) array
        :math:`scale \cdot s_{ik} + bias`: how far a negative comes up to it; −inf where none counts.
    grads : named tuple
        ds_pos, ds_neg, dscale, dbias.

    Notes
    -----
    The one room in which similarities themselves enter, not their differences: adding a number to all of them changes
    the gaps, unless the bias takes it back.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.pooling.pair_logits import pair_logits
    >>> every = np.ones((1, 2), dtype=bool)
    >>> gaps, grads = pair_logits(np.array([0.75]), np.array([[0.5, 0.0]]), 4.0, -1.0, negatives=every)
    >>> gaps
    (array([-2.]), array([[ 1., -1.]]))
    >>> grads.ds_pos, grads.ds_neg
    (array([-4.]), array([[4., 4.]]))
    """
    xp = namespace(s_pos)
    s_neg = xp.where(negatives, s_neg, constant(0.0, like=s_neg))  # (N, M)
    gap_neg = xp.where(negatives, scale * s_neg + bias, constant(-xp.inf, like=s_neg))  # (N, M)
    return (-(scale * s_pos + bias), gap_neg), PairLogitsCache(s_pos, s_neg, negatives, scale)


def pair_logits_backward(dgap_pos: Array, dgap_neg: Array, cache: PairLogitsCache) -> tuple[Array, Array, Array, Array]:
    """Return ds⁺ = −scale dgap⁺, ds⁻ = scale dgap⁻, and for scale and bias the sums of ∓dgap s and of ∓dgap."""
    xp = namespace(dgap_pos)
    s_pos, s_neg, negatives, scale = cache
    dgap_neg = xp.where(negatives, dgap_neg, constant(0.0, like=dgap_neg))  # (N, M)
    dscale = xp.asarray(xp.sum(dgap_neg * s_neg) - xp.sum(dgap_pos * s_pos))  # ()
    dbias = xp.asarray(xp.sum(dgap_neg) - xp.sum(dgap_pos))  # ()
    return -scale * dgap_pos, scale * dgap_neg, dscale, dbias


pair_logits = room(pair_logits_forward, pair_logits_backward)
