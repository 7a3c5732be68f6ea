"""About the walk: what an embedding looks like, in the paper's measures.

In:  embeddings ``z`` (N, D), with labels or a second view, or similarities ``s`` (N, M).
Out: alignment and uniformity with their gradients; tolerance; local separation.
What looks at all pairs of rows goes through them a strip at a time, in memory O(N D).
"""

import math
import numbers
from collections.abc import Iterator
from typing import Any, NamedTuple

from refcl.core.agreement import Call
from refcl.core.arguments import flag, number
from refcl.core.arrays import AnyArray, Array, arange, constant, namespace, ones
from refcl.core.pair import checked, pair
from refcl.walk.differences import weighted_differences
from refcl.walk.pairing import pairing_forward
from refcl.walk.similarity import inner_product_forward

STRIP_ENTRIES = 1 << 20  # of a strip of pairs; there are several arrays of its size at a time


def _strips(rows: int, columns: int) -> list[slice]:
    """Cut the rows of a matrix into as few strips of about the same size as have STRIP_ENTRIES each."""
    step = -(-rows // -(-rows * columns // STRIP_ENTRIES))
    return [slice(first, min(first + step, rows)) for first in range(0, rows, step)]


class AlignmentCache(NamedTuple):
    difference: Array  # (N, D) a − b
    distance: Array  # (N, 1) its length
    alpha: float


def alignment_forward(a: Array, b: Array, *, alpha: float = 2.0) -> tuple[Array, AlignmentCache]:
    """Return the mean distance between positives, to a power."""
    xp = namespace(a)
    difference = a - b  # (N, D)
    distance = xp.sqrt(xp.sum(difference**2, axis=1, keepdims=True))  # (N, 1)
    return xp.asarray(xp.mean(distance**alpha)), AlignmentCache(difference, distance, alpha)


def alignment_backward(dvalue: Array, cache: AlignmentCache) -> tuple[Array, Array]:
    """Return da = dvalue α ‖a − b‖^(α − 2) (a − b)/N and db = −da."""
    difference, distance, alpha = cache
    xp = namespace(dvalue)
    coincide = distance == 0  # (N, 1)
    power = xp.where(coincide, 0.0, xp.where(coincide, 1.0, distance) ** (alpha - 2))  # (N, 1)
    da = (dvalue * (alpha / difference.shape[0])) * power * difference
    return da, -da


class AlignmentGrads(NamedTuple):
    """The gradients of the alignment."""

    da: Array  # (N, D)
    db: Array  # (N, D)


@pair()
def alignment(
    a: AnyArray, b: AnyArray, *, alpha: float = 2.0, upstream: AnyArray | None = None
) -> tuple[Array, AlignmentGrads]:
    r"""Return the mean distance between positives, to a power.

    Parameters
    ----------
    a, b : (N, D) array of float32 or float64
        Two views of the same samples, row by row, as they are: normalize them first.
    alpha : float
        Exponent, > 0.
    upstream : () array, optional
        What the value is worth in the gradients, by default 1.

    Returns
    -------
    value : () array
        :math:`\frac1N\sum_i \lVert a_i - b_i\rVert^\alpha`; for unit rows and α = 2 it is 2 − 2 s⁺, in [0, 4].
    grads : AlignmentGrads
        da (N, D) and db (N, D).

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


class UniformityCache(NamedTuple):
    z: Array  # (N, D)
    top: Array  # () the greatest exponent
    total: Array  # () the sum of exp(x − top) over ordered pairs
    t: float


def uniformity_forward(z: Array, *, t: float = 2.0) -> tuple[Array, UniformityCache]:
    """Return the log of the mean Gaussian potential over pairs."""
    xp = namespace(z)
    n = z.shape[0]
    centred, squares = _centred(z)
    tops, totals, shortfalls = [], [], []  # of each strip: max x, Σ exp(x − max x), Σ (exp(x) − 1)
    for rows in _strips(n, n):
        x, pairs = _exponents(centred, squares, rows, t=t)
        tops.append(xp.max(x))
        totals.append(xp.sum(xp.exp(x - tops[-1])))
        shortfalls.append(xp.sum(xp.expm1(xp.where(pairs, x, 0.0))))
    strip_tops = xp.stack(tops)  # (strips,)
    top = xp.asarray(xp.max(strip_tops))  # ()
    total = xp.asarray(xp.sum(xp.stack(totals) * xp.exp(strip_tops - top)))  # () at least 2
    count = n * (n - 1)  # every unordered pair twice, which leaves the mean as it is
    less = xp.sum(xp.stack(shortfalls)) / count  # () mean of exp(x), less 1
    near = less > -0.5  # else 1 + less has lost digits that the sum of exponentials still has
    value = xp.where(near, xp.log1p(xp.where(near, less, 0.0)), top + xp.log(total / count))
    return xp.asarray(value), UniformityCache(z, top, total, t)


def uniformity_backward(dvalue: Array, cache: UniformityCache) -> Array:
    """Return dz_p = −4t dvalue Σ_q w_pq (z_p − z_q): each row is pushed from each other by their share of the sum.

    The exponent −t‖z_p − z_q‖² has gradient −2t (z_p − z_q) at z_p, and stands in the sum twice, as (p, q) and (q, p).
    """
    return (-4 * cache.t * dvalue) * weighted_differences(_shares(cache), cache.z)


class UniformityGrads(NamedTuple):
    """The gradient of the uniformity."""

    dz: Array  # (N, D)


def _two_rows(call: Call, arguments: dict[str, Any]) -> None:
    """Refuse a single row."""
    if call.sizes["N"] < 2:
        raise ValueError(
            f"{call.name}: one row makes no pair; expected z with at least 2 rows, "
            f"got shape {tuple(arguments['z'].shape)}."
        )


@pair(also=_two_rows)
def uniformity(z: AnyArray, *, t: float = 2.0, upstream: AnyArray | None = None) -> tuple[Array, UniformityGrads]:
    r"""Return the log of the mean Gaussian potential over pairs: how evenly rows fill the sphere.

    Parameters
    ----------
    z : (N, D) array of float32 or float64
        Embeddings as they are: normalize them first. N >= 2.
    t : float
        Inverse width of the Gaussian, > 0.
    upstream : optional
        As in `alignment`.

    Returns
    -------
    value : () array
        :math:`\log \frac{2}{N(N-1)} \sum_{i<j} e^{-t\lVert z_i - z_j\rVert^2}`, <= 0; 0 where all rows coincide. The
        paper plots its negative. Compare with `uniform_law_uniformity`.
    grads : UniformityGrads
        dz (N, D).

    Raises
    ------
    ValueError
        Where ``z`` has one row only: it makes no pair.

    Notes
    -----
    Distances do not see a common shift: the mean row is taken out first, so that embeddings that have nearly collapsed
    lose no digits; likewise the logarithm is taken of 1 plus the mean of exp(x) − 1 where that is near 1. The matrix of
    distances is gone through a strip of rows at a time, once for the value and once for the gradient.

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


def _centred(z: Array) -> tuple[Array, Array]:
    """Return the rows less their mean (N, D), and the squares of their lengths (N,)."""
    xp = namespace(z)
    centred = z - xp.mean(z, axis=0)  # (N, D)
    return centred, xp.sum(centred**2, axis=1)


def _exponents(centred: Array, squares: Array, rows: slice, *, t: float) -> tuple[Array, Array]:
    """Return x = −t‖z_p − z_q‖² of a strip of rows p and all rows q, −inf where p is q; and where it is not."""
    xp = namespace(centred)
    row = arange(centred.shape[0], like=centred)
    pairs = row[rows, None] != row[None, :]  # (rows, N)
    gram, _ = inner_product_forward(centred[rows, :], centred)
    distance = xp.maximum(squares[rows, None] + squares[None, :] - 2 * gram, 0.0)  # (rows, N) squared
    return xp.where(pairs, -t * distance, -xp.inf), pairs


def _shares(cache: UniformityCache) -> Iterator[tuple[slice, Array]]:
    """Yield strips of rows and their w (rows, N): each ordered pair's share in the sum; all together they are 1."""
    z, top, total, t = cache
    xp = namespace(z)
    centred, squares = _centred(z)
    for rows in _strips(z.shape[0], z.shape[0]):
        x, _ = _exponents(centred, squares, rows, t=t)
        yield rows, xp.exp(x - top) / total


def uniform_law_uniformity(dimension: int, *, t: float = 2.0) -> float:
    r"""Return the uniformity of points spread evenly over the sphere: the least there is, and the yardstick.

    Parameters
    ----------
    dimension : int
        D >= 1 of the space whose unit sphere the points lie on.
    t : float
        As in `uniformity`.

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

    if isinstance(dimension, bool) or not isinstance(dimension, numbers.Integral) or dimension < 1:
        raise ValueError(f"uniform_law_uniformity: dimension must be an integer >= 1, got {dimension!r}.")
    t = number(0.0)(Call("uniform_law_uniformity", None, None, {}), "t", t)
    if t <= 100.0:
        return math.log(float(hyp0f1(dimension / 2, t * t))) - 2 * t
    # ₀F₁(; ν + 1; t²) = Γ(ν + 1) t^(−ν) I_ν(2t) overflows here; scipy's ive is I_ν(x) exp(−x).
    order = dimension / 2 - 1
    return float(gammaln(order + 1) - order * math.log(t) + math.log(float(ive(order, 2 * t))))


@checked(normalized=flag, self_pairs=flag)
def tolerance(z: AnyArray, labels: AnyArray, *, normalized: bool = True, self_pairs: bool = False) -> Array:
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
    xp = namespace(z)
    n = z.shape[0]
    strips = [_in_class(z, labels, rows, self_pairs=self_pairs) for rows in _strips(n, n)]
    total, count = (xp.concat(parts) for parts in zip(*strips, strict=True))  # (N,)
    if not normalized:
        pairs = n * n if self_pairs else n * (n - 1)
        return xp.asarray(xp.sum(total) / pairs) if pairs else constant(xp.nan, like=z)
    accompanied = xp.where(count > 0, ones((), like=z), 0.0)  # (N,)
    anchors = xp.sum(accompanied)  # ()
    mean = xp.sum(total / xp.maximum(count, 1.0)) / xp.maximum(anchors, 1.0)
    return xp.asarray(xp.where(anchors > 0, mean, xp.nan))


def _in_class(z: Array, labels: Array, rows: slice, *, self_pairs: bool) -> tuple[Array, Array]:
    """Return the sum of a strip of anchors' similarities to their own class (rows,), and of how many that is."""
    xp = namespace(z)
    alike = labels[rows, None] == labels[None, :]  # (rows, N)
    if not self_pairs:
        row = arange(z.shape[0], like=z)
        alike = alike & (row[rows, None] != row[None, :])
    s, _ = inner_product_forward(z[rows, :], z)  # (rows, N)
    total = xp.sum(xp.where(alike, s, 0.0), axis=1)  # (rows,)
    return total, xp.sum(xp.where(alike, ones((), like=z), 0.0), axis=1)


class LocalSeparation(NamedTuple):
    """How near each anchor's positive and nearest negatives are."""

    positive: Array  # (N,) similarity to the positive
    nearest: Array  # (N, nearest) to the nearest negatives, nearest first


def _negatives_at_most(call: Call, argument: str, value: Any) -> int:
    """Ask for a number of negatives that an anchor can have."""
    most = call.sizes["M"] - 1
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 1 <= int(value) <= most:
        raise ValueError(f"{call.name}: {argument} must be an integer from 1 to {most}, got {value!r}.")
    return int(value)


@checked(nearest=_negatives_at_most)
def local_separation(
    s: AnyArray, *, nearest: int = 10, positive: AnyArray | None = None, ignore: AnyArray | None = None
) -> LocalSeparation:
    """Return each anchor's similarity to its positive and to its nearest negatives.

    Parameters
    ----------
    s, positive, ignore : optional
        As in `softmax_contrastive`.
    nearest : int
        How many negatives, from 1 to M − 1.

    Returns
    -------
    separation : LocalSeparation
        ``positive`` (N,) and ``nearest`` (N, nearest), in descending order; NaN where a row has fewer negatives.

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
    xp = namespace(s)
    column = arange(s.shape[0], like=s) if positive is None else positive  # (N,)
    strips = [_separation(s, rows, column, ignore, nearest) for rows in _strips(*s.shape)]
    of_positive, of_nearest = zip(*strips, strict=True)
    return LocalSeparation(xp.concat(of_positive), xp.concat(of_nearest, axis=0))


def _separation(s: Array, rows: slice, column: Array, ignore: Array | None, nearest: int) -> tuple[Array, Array]:
    """Return some anchors' similarity to their positive (rows,) and to their nearest negatives (rows, nearest)."""
    xp = namespace(s)
    left_out = None if ignore is None else ignore[rows, :]
    (s_pos, s_neg), pairing = pairing_forward(s[rows, :], positive=column[rows], ignore=left_out)
    ascending = xp.sort(xp.where(pairing.negatives, s_neg, -xp.inf), axis=1)  # (rows, M)
    descending = xp.flip(ascending[:, s.shape[1] - nearest :], axis=1)  # (rows, nearest)
    return s_pos, xp.where(descending == -xp.inf, xp.nan, descending)
