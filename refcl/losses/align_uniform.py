"""a, b -> L: alignment and uniformity, the two things that the softmax loss asks for, asked for by name.

In:  two views ``a`` and ``b`` (N, D), row i of one the positive of row i of the other.
Out: a loss and the gradient of both. No pairing, no pool: positives are drawn together, all rows of a view apart.
"""

from typing import Any, NamedTuple

from refcl.core.agreement import Call
from refcl.core.arguments import number
from refcl.core.arrays import AnyArray, Array, namespace
from refcl.core.pair import pair
from refcl.metrics import (
    AlignmentCache,
    UniformityCache,
    alignment_backward,
    alignment_forward,
    uniformity_backward,
    uniformity_forward,
)
from refcl.walk.sphere import NormalizeCache, l2_normalize_backward, l2_normalize_forward


class AlignUniformCache(NamedTuple):
    on_sphere: tuple[NormalizeCache, NormalizeCache] | None  # None where rows were taken as they are
    alignment: AlignmentCache
    uniformity: tuple[UniformityCache, UniformityCache]
    weights: tuple[float, float]  # of the alignment, and of each view's uniformity


def align_uniform_forward(
    a: Array,
    b: Array,
    *,
    align_weight: float = 1.0,
    uniform_weight: float = 1.0,
    alpha: float = 2.0,
    t: float = 2.0,
    normalize: bool = True,
    eps: float = 1e-12,
) -> tuple[Array, AlignUniformCache]:
    """Bring both views to the sphere, take their alignment and the uniformity of each, add up."""
    on_sphere = None
    if normalize:
        a, on_sphere_a = l2_normalize_forward(a, eps=eps)
        b, on_sphere_b = l2_normalize_forward(b, eps=eps)
        on_sphere = (on_sphere_a, on_sphere_b)
    aligned, alignment = alignment_forward(a, b, alpha=alpha)
    uniform_a, uniformity_a = uniformity_forward(a, t=t)
    uniform_b, uniformity_b = uniformity_forward(b, t=t)
    weights = (align_weight, uniform_weight / 2)
    xp = namespace(a)
    value = xp.asarray(weights[0] * aligned + weights[1] * (uniform_a + uniform_b))
    return value, AlignUniformCache(on_sphere, alignment, (uniformity_a, uniformity_b), weights)


def align_uniform_backward(dvalue: Array, cache: AlignUniformCache) -> tuple[Array, Array]:
    """Return da and db: each term's own way back, then the sphere's."""
    on_sphere, alignment, (uniformity_a, uniformity_b), weights = cache
    xp = namespace(dvalue)
    daligned, duniform = xp.asarray(weights[0] * dvalue), xp.asarray(weights[1] * dvalue)  # ()
    da, db = alignment_backward(daligned, alignment)
    da = da + uniformity_backward(duniform, uniformity_a)
    db = db + uniformity_backward(duniform, uniformity_b)
    if on_sphere is not None:
        on_sphere_a, on_sphere_b = on_sphere
        da, db = l2_normalize_backward(da, on_sphere_a), l2_normalize_backward(db, on_sphere_b)
    return da, db


def _two_rows(call: Call, arguments: dict[str, Any]) -> None:
    """Refuse views of one row, which have no uniformity."""
    if call.sizes["N"] < 2:
        raise ValueError(
            f"{call.name}: one row makes no pair; expected at least 2 rows, got shape {tuple(arguments['a'].shape)}."
        )


class AlignUniformGrads(NamedTuple):
    da: Array  # (N, D)
    db: Array  # (N, D)


@pair(align_weight=number(0.0, at_least=True), uniform_weight=number(0.0, at_least=True), also=_two_rows)
def align_uniform(
    a: AnyArray,
    b: AnyArray,
    *,
    align_weight: float = 1.0,
    uniform_weight: float = 1.0,
    alpha: float = 2.0,
    t: float = 2.0,
    normalize: bool = True,
    eps: float = 1e-12,
    upstream: AnyArray | None = None,
) -> tuple[Array, AlignUniformGrads]:
    r"""Alignment of the positives plus uniformity of both views.

    Parameters
    ----------
    a, b : (N, D) array of float32 or float64
        Two views: row i of one is the positive of row i of the other. N >= 2.
    align_weight, uniform_weight : float
        Weights of the two, >= 0.
    alpha : float
        Exponent of the alignment, > 0.
    t : float
        Inverse width of the uniformity's Gaussian, > 0.
    normalize : bool
        Whether rows are brought to length 1 first. The authors' code expects rows that are.
    eps : optional
        As in `info_nce`.
    upstream : () array, optional
        What the loss is worth in the gradients, by default 1.

    Returns
    -------
    loss : () array
        Either sign. There is no loss an anchor: uniformity is one logarithm over all pairs.
    grads : AlignUniformGrads
        da (N, D) and db (N, D).

    Raises
    ------
    ValueError
        Where N is 1: one row makes no pair.

    Notes
    -----
    .. math:: L = w_a \frac1N\sum_i\lVert a_i - b_i\rVert^\alpha
              + w_u \tfrac12\bigl(U(a) + U(b)\bigr), \qquad
              U(z) = \log\frac2{N(N-1)}\sum_{i<j}e^{-t\lVert z_i - z_j\rVert^2}

    On the sphere :math:`\lVert u - v\rVert^2 = 2 - 2\langle u, v\rangle`. As the number of negatives M grows, the
    softmax loss less log M tends to :math:`-\mathbb E\, s^+/\tau + \mathbb E_x \log \mathbb E_k\, e^{s_k/\tau}`:
    alignment with α = 2 and :math:`w_a = 1/(2\tau)`, and a uniformity with :math:`t = 1/(2\tau)` whose logarithm is
    inside the mean over anchors instead of outside.

    References
    ----------
    Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity", ICML 2020;
    Theorem 1 for the limit.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import align_uniform
    >>> a = np.array([[2.0, 0.0], [-1.0, 0.0]])
    >>> align_uniform(a, a)[0], align_uniform(a, -a, uniform_weight=0.0)[0]
    (array(-8.), array(4.))
    """
