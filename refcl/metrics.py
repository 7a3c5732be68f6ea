"""About the walk: what an embedding looks like, in the paper's measures.

In:  embeddings ``z`` (N, D), with labels or a second view, or similarities ``s`` (N, M).
Out: alignment and uniformity with their gradients; tolerance; local separation.
"""

import math
from typing import NamedTuple

from refcl import validate
from refcl.backend import Array, arange, constant, namespace
from refcl.pair import Pair
from refcl.pairing import check_roles, pairing_forward
from refcl.similarity import inner_product_forward


class AlignmentCache(NamedTuple):
    difference: Array  # (N, D) a − b
    distance: Array  # (N, 1) its length
    alpha: float


def alignment_forward(a: Array, b: Array, *, alpha: float = 2.0) -> tuple[Array, AlignmentCache]:
    r"""Return the mean distance between positives, to a power.

    Parameters
    ----------
    a, b : (N, D) array of float32 or float64
        Two views of the same samples, row by row, as they are: normalize them first.
    alpha : float
        Exponent, > 0.

    Returns
    -------
    value : () array
        :math:`\frac1N\sum_i \lVert a_i - b_i\rVert^\alpha`; for unit rows and α = 2 it is 2 − 2 s⁺, in [0, 4].
    cache : AlignmentCache
        What the backward reads; the pair returns the gradients da (N, D) and db (N, D) instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or α is not positive.

    Notes
    -----
    Where two rows coincide and α < 2 the norm has a kink (or, below 1, a cusp): the gradient is 0 there.

    References
    ----------
    Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity", ICML 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.metrics import alignment
    >>> value, grads = alignment(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    >>> value, grads.da
    (array(2.), array([[ 2., -2.]]))
    """
    xp = validate.floats("alignment", a=(a, "N D"), b=(b, "N D"))
    alpha = validate.setting("alignment", "alpha", alpha, above=0.0)
    difference = a - b  # (N, D)
    distance = xp.sqrt(xp.sum(difference**2, axis=1, keepdims=True))  # (N, 1)
    return xp.asarray(xp.mean(distance**alpha)), AlignmentCache(difference, distance, alpha)


def alignment_backward(dvalue: Array, cache: AlignmentCache) -> tuple[Array, Array]:
    """Return da = dvalue α ‖a − b‖^(α − 2) (a − b)/N and db = −da."""
    difference, distance, alpha = cache
    xp = validate.floats("alignment", dvalue=(dvalue, ""), difference=(difference, "N D"))
    zero, one = constant(0.0, like=distance), constant(1.0, like=distance)
    apart = xp.where(distance > 0, distance, one)  # (N, 1)
    power = xp.where(distance > 0, apart ** (alpha - 2), zero)  # (N, 1)
    da = (dvalue * (alpha / difference.shape[0])) * power * difference
    return da, -da


class UniformityCache(NamedTuple):
    z: Array  # (N, D)
    weight: Array  # (N, N) share of each ordered pair in the sum; 0 on the diagonal, all together 1
    t: float


def uniformity_forward(z: Array, *, t: float = 2.0) -> tuple[Array, UniformityCache]:
    r"""Return the log of the mean Gaussian potential over pairs: how evenly rows fill the sphere.

    Parameters
    ----------
    z : (N, D) array of float32 or float64
        Embeddings as they are: normalize them first. N >= 2.
    t : float
        Inverse width of the Gaussian, > 0.

    Returns
    -------
    value : () array
        :math:`\log \frac{2}{N(N-1)} \sum_{i<j} e^{-t\lVert z_i - z_j\rVert^2}`, <= 0; 0 where all rows coincide. The
        paper plots its negative. Compare with `uniform_law_uniformity`.
    cache : UniformityCache
        What the backward reads; the pair returns the gradient dz (N, D) instead.

    Raises
    ------
    TypeError, ValueError
        Where ``z`` is no floating-point matrix or has one row only, or t is not positive.

    Notes
    -----
    Distances do not see a common shift: the mean row is taken out first, so that embeddings that have nearly collapsed
    lose no digits; likewise the logarithm is taken of 1 plus the mean of exp(x) − 1 where that is near 1.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 10, with t = 2 as in the authors' code; Wang and Isola, ICML 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.metrics import uniformity
    >>> value, grads = uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    >>> value, grads.dz
    (array(-8.), array([[-8., -0.],
           [ 8., -0.]]))
    """
    xp = validate.floats("uniformity", z=(z, "N D"))
    t = validate.setting("uniformity", "t", t, above=0.0)
    n = z.shape[0]
    if n < 2:
        raise ValueError(
            f"uniformity: one row makes no pair; expected z with at least 2 rows, got shape {tuple(z.shape)}."
        )
    zero, nothing = constant(0.0, like=z), constant(-xp.inf, like=z)
    row = arange(n, like=z)
    pairs = row[:, None] != row[None, :]  # (N, N) every unordered pair twice, which leaves the mean as it is
    centred = z - xp.mean(z, axis=0)  # (N, D)
    squares = xp.sum(centred**2, axis=1)  # (N,)
    gram, _ = inner_product_forward(centred, centred)
    distance = xp.maximum(squares[:, None] + squares[None, :] - 2 * gram, zero)  # (N, N) squared
    x = xp.where(pairs, -t * distance, nothing)  # (N, N)
    top = xp.max(x)  # ()
    e = xp.exp(x - top)  # (N, N) in [0, 1]
    total = xp.sum(e)  # () at least 2
    count = n * (n - 1)
    less = xp.sum(xp.where(pairs, xp.expm1(xp.where(pairs, x, zero)), zero)) / count  # () mean of exp(x), less 1
    near = less > -0.5  # else 1 + less has lost digits that the sum of exponentials still has
    value = xp.where(near, xp.log1p(xp.where(near, less, zero)), top + xp.log(total / count))
    return xp.asarray(value), UniformityCache(z, e / total, t)


def uniformity_backward(dvalue: Array, cache: UniformityCache) -> Array:
    """Return dz_p = −4t dvalue Σ_q w_pq (z_p − z_q): each row is pushed from each other by their share of the sum.

    The exponent −t‖z_p − z_q‖² has gradient −2t (z_p − z_q) at z_p, and stands in the sum twice, as (p, q) and (q, p).
    """
    z, weight, t = cache
    validate.floats("uniformity", dvalue=(dvalue, ""), weight=(weight, "N N"), z=(z, "N D"))
    return (-4 * t * dvalue) * _weighted_differences(weight, z)


def _weighted_differences(weight: Array, z: Array) -> Array:
    """Return Σ_q w_pq (z_p − z_q) (N, D), exact to the length of its terms however near two rows lie.

    Σ_q w_pq z_p less Σ_q w_pq z_q loses what z_p and z_q have in common. So both factors are cut into slices of so few
    digits that the products of two slices and their sums are exact, and so is the difference. Then only small things
    are rounded. It is a handful of matrix products; differences taken one by one would take D passes over (N, N).
    """
    n, d = z.shape
    xp = namespace(z)
    digits = round(1 - math.log2(xp.finfo(z.dtype).eps))  # 53 or 24
    each = max((digits - math.ceil(math.log2(n)) - 2) // 2, 1)  # two factors, N terms, and two to spare
    slices = -(-digits // each)
    rows = xp.concat(_cut(z, each, slices, digits, top=xp.max(xp.abs(z))), axis=1)  # (N, slices D)
    total = xp.zeros_like(z)
    # One slice more of the weights: it is what remains of those too small to be reached, the large ones being used up.
    for part in _cut(weight, each, slices + 1, digits, top=xp.max(weight, axis=1, keepdims=True)):
        apart = xp.sum(part, axis=1, keepdims=True) * rows - part @ rows  # (N, slices D)
        for start in range(0, slices * d, d):  # the largest first: they cancel exactly
            total = total + apart[:, start : start + d]
    return total


def _cut(x: Array, each: int, slices: int, digits: int, *, top: Array) -> list[Array]:
    """Return slices that add up to x exactly, the first ones of ``each`` binary digits from those of ``top`` on."""
    found = []
    unit = top * 2.0 ** (digits - each)
    for _ in range(slices - 1):
        high = (x + unit) - unit  # rounds x to the last place of the larger unit
        found.append(high)
        x = x - high
        unit = unit * 2.0**-each
    return [*found, x]


def uniform_law_uniformity(dimension: int, *, t: float = 2.0) -> float:
    r"""Return the uniformity of points spread evenly over the sphere: the least there is, and the yardstick.

    Parameters
    ----------
    dimension : int
        D >= 1 of the space whose unit sphere the points lie on.
    t : float
        Inverse width of the Gaussian, > 0.

    Returns
    -------
    value : float
        :math:`\log {}_0F_1(; D/2; t^2) - 2t`. The expectation over two independent points of the uniform law; a finite
        sample, whose pairs leave out i = j, can lie below.

    Raises
    ------
    TypeError, ValueError
        Where the dimension is no integer >= 1 or t is not positive.

    Notes
    -----
    :math:`-t\lVert u - v\rVert^2 = 2t\langle u, v\rangle - 2t`, and the mean of :math:`e^{2t\langle u, v\rangle}` over
    the sphere is the hypergeometric function. In two dimensions it is log I₀(2t) − 2t.

    References
    ----------
    Wang and Isola, ICML 2020, Section 4.2, for the limit; closed form from the moment-generating function of the
    uniform law.

    Examples
    --------
    >>> from refcl.metrics import uniform_law_uniformity
    >>> round(uniform_law_uniformity(128), 6)
    -3.93753
    """
    from scipy.special import gammaln, hyp0f1, ive

    if isinstance(dimension, bool) or not isinstance(dimension, int) or dimension < 1:
        raise ValueError(f"uniform_law_uniformity: dimension must be an integer >= 1, got {dimension!r}.")
    t = validate.setting("uniform_law_uniformity", "t", t, above=0.0)
    if t <= 100.0:
        return math.log(float(hyp0f1(dimension / 2, t * t))) - 2 * t
    # ₀F₁(; ν + 1; t²) = Γ(ν + 1) t^(−ν) I_ν(2t) overflows here; scipy's ive is I_ν(x) exp(−x).
    order = dimension / 2 - 1
    return float(gammaln(order + 1) - order * math.log(t) + math.log(float(ive(order, 2 * t))))


def tolerance(z: Array, labels: Array, *, normalized: bool = True, self_pairs: bool = False) -> Array:
    r"""Return how near samples of one class lie: the paper's tolerance to semantically alike samples.

    Parameters
    ----------
    z : (N, D) array of float32 or float64
        Embeddings as they are: normalize them first.
    labels : (N,) array of integers
        Class of each row.
    normalized : bool
        True: the mean over an anchor's own class, then over anchors, as in the paper's Table 1 and the authors' code.
        False: Eq. 11 to the letter, where pairs of different classes count as 0 in the mean.
    self_pairs : bool
        Whether a row and itself make a pair.

    Returns
    -------
    value : () array
        In [−1, 1] for unit rows. Rows alone in their class are left out of the normalized mean; NaN where all are.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 11.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.metrics import tolerance
    >>> z = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> round(float(tolerance(z, np.array([0, 0, 1]))), 6)
    0.6
    """
    xp = validate.floats("tolerance", z=(z, "N D"))
    n = z.shape[0]
    labels = validate.companion("tolerance", "labels", labels, kind="integer", shape=(n,), like=z)
    zero, one = constant(0.0, like=z), constant(1.0, like=z)
    row = arange(n, like=z)
    alike = labels[:, None] == labels[None, :]  # (N, N)
    if not self_pairs:
        alike = alike & (row[:, None] != row[None, :])
    s, _ = inner_product_forward(z, z)  # (N, N)
    total = xp.sum(xp.where(alike, s, zero), axis=1)  # (N,)
    if not normalized:
        pairs = n * n if self_pairs else n * (n - 1)
        return xp.asarray(xp.sum(total) / pairs) if pairs else constant(xp.nan, like=z)
    count = xp.sum(xp.where(alike, one, zero), axis=1)  # (N,)
    accompanied = xp.where(count > 0, one, zero)  # (N,)
    anchors = xp.sum(accompanied)  # ()
    mean = xp.sum(total / xp.maximum(count, one)) / xp.maximum(anchors, one)
    return xp.asarray(xp.where(anchors > 0, mean, constant(xp.nan, like=z)))


class LocalSeparation(NamedTuple):
    positive: Array  # (N,) similarity to the positive
    nearest: Array  # (N, nearest) to the nearest negatives, nearest first


def local_separation(
    s: Array, *, nearest: int = 10, positive: Array | None = None, ignore: Array | None = None
) -> LocalSeparation:
    """Return each anchor's similarity to its positive and to its nearest negatives.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    nearest : int
        How many negatives, from 1 to M − 1.
    positive : (N,) array of integers, optional
        Column of each anchor's positive; by default the diagonal.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative.

    Returns
    -------
    separation : LocalSeparation
        ``positive`` (N,) and ``nearest`` (N, nearest), in descending order; NaN where a row has fewer negatives.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or ``nearest`` out of range.

    References
    ----------
    Wang and Liu, CVPR 2021, Figure 8.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.metrics import local_separation
    >>> local_separation(np.array([[0.9, 0.1, 0.4, 0.2]]), nearest=2)
    LocalSeparation(positive=array([0.9]), nearest=array([[0.4, 0.2]]))
    """
    xp = validate.floats("local_separation", s=(s, "N M"))
    candidates = s.shape[1]
    check_roles("local_separation", s, candidates, positive=positive, ignore=ignore)
    if isinstance(nearest, bool) or not isinstance(nearest, int) or not 1 <= nearest < candidates:
        raise ValueError(f"local_separation: nearest must be an integer from 1 to {candidates - 1}, got {nearest!r}.")
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    nothing = constant(-xp.inf, like=s)
    ascending = xp.sort(xp.where(pairing.negatives, s_neg, nothing), axis=1)  # (N, M)
    descending = xp.flip(ascending[:, candidates - nearest :], axis=1)  # (N, nearest)
    return LocalSeparation(s_pos, xp.where(descending == nothing, constant(xp.nan, like=s), descending))


alignment = Pair(alignment_forward, alignment_backward)
uniformity = Pair(uniformity_forward, uniformity_backward)
