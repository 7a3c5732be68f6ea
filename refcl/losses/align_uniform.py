"""a, b -> L: alignment and uniformity, the two things that the softmax loss asks for, asked for by name.

In:  two views ``a`` and ``b`` (N, D), row i of one the positive of row i of the other.
Out: a loss and the gradient of both. No pairing, no pool: positives are drawn together, all rows of a view apart.
"""

from typing import NamedTuple

from refcl import validate
from refcl.backend import Array, namespace
from refcl.metrics import (
    AlignmentCache,
    UniformityCache,
    alignment_backward,
    alignment_forward,
    uniformity_backward,
    uniformity_forward,
)
from refcl.pair import Pair
from refcl.sphere import NormalizeCache, l2_normalize_backward, l2_normalize_forward


class AlignUniformCache(NamedTuple):
    spheres: tuple[NormalizeCache, NormalizeCache] | None  # None where rows were taken as they are
    alignment: AlignmentCache
    uniformity: tuple[UniformityCache, UniformityCache]
    weights: tuple[float, float]


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
    eps : float
        Shortest length to divide by when normalizing, > 0.

    Returns
    -------
    loss : () array
        Either sign. There is no loss an anchor: uniformity is one logarithm over all pairs.
    cache : AlignUniformCache
        What the backward reads; the pair returns the gradients da (N, D) and db (N, D) instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, N is 1 or a setting is out of its range.

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
    xp = validate.floats("align_uniform", a=(a, "N D"), b=(b, "N D"))
    align_weight = validate.setting("align_uniform", "align_weight", align_weight, above=0.0, at_least=True)
    uniform_weight = validate.setting("align_uniform", "uniform_weight", uniform_weight, above=0.0, at_least=True)
    alpha = validate.setting("align_uniform", "alpha", alpha, above=0.0)
    t = validate.setting("align_uniform", "t", t, above=0.0)
    validate.setting("align_uniform", "eps", eps, above=0.0)
    if a.shape[0] < 2:
        raise ValueError(f"align_uniform: one row makes no pair; expected at least 2 rows, got shape {tuple(a.shape)}.")
    spheres = None
    if normalize:
        a, sphere_a = l2_normalize_forward(a, eps=eps)
        b, sphere_b = l2_normalize_forward(b, eps=eps)
        spheres = (sphere_a, sphere_b)
    aligned, alignment = alignment_forward(a, b, alpha=alpha)
    uniform_a, uniformity_a = uniformity_forward(a, t=t)
    uniform_b, uniformity_b = uniformity_forward(b, t=t)
    value = xp.asarray(align_weight * aligned + (uniform_weight / 2) * (uniform_a + uniform_b))
    return value, AlignUniformCache(
        spheres, alignment, (uniformity_a, uniformity_b), (align_weight, uniform_weight / 2)
    )


def align_uniform_backward(dvalue: Array, cache: AlignUniformCache) -> tuple[Array, Array]:
    """Return da and db: each term's own way back, then the sphere's."""
    align_weight, uniform_weight = cache.weights
    xp = namespace(dvalue)
    to_alignment, to_uniformity = xp.asarray(align_weight * dvalue), xp.asarray(uniform_weight * dvalue)  # ()
    uniformity_a, uniformity_b = cache.uniformity
    da, db = alignment_backward(to_alignment, cache.alignment)
    da = da + uniformity_backward(to_uniformity, uniformity_a)
    db = db + uniformity_backward(to_uniformity, uniformity_b)
    if cache.spheres is not None:
        sphere_a, sphere_b = cache.spheres
        da, db = l2_normalize_backward(da, sphere_a), l2_normalize_backward(db, sphere_b)
    return da, db


align_uniform = Pair(align_uniform_forward, align_uniform_backward)
