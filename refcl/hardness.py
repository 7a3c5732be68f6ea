"""About the walk: the paper's analysis of hardness, temperature and both limits.

In:  similarities ``s`` (N, M) and a temperature, or the gradient ``ds`` of any loss.
Out: how one anchor shares its push among its negatives, how peaked that is, and what the loss tends to at either end.
"""

from typing import NamedTuple

from refcl.core.arguments import Floats
from refcl.core.arrays import AnyArray, Array, Number, arange, constant, namespace, overflow_ignored, to_host
from refcl.core.pair import checked
from refcl.walk.pairing import pairing_forward
from refcl.walk.pooling.hardest import hardest_mask
from refcl.walk.pooling.maximum import maximum_forward
from refcl.walk.pooling.soft_maximum import soft_maximum_forward


@checked()
def relative_penalty(
    s: AnyArray,
    temperature: Number,
    *,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    hardest: float | int | None = None,
) -> Array:
    r"""Return how each anchor shares its push among its negatives.

    Parameters
    ----------
    s, temperature, positive, ignore : optional
        As in `softmax_contrastive`.
    hardest : float or int, optional
        Keep only a fraction (float) or a count (int) of the hardest negatives.

    Returns
    -------
    r : (N, M) array
        Rows sum to 1; 0 at the positive, where ignored and where not among the hardest. All 0 without negatives.

    Notes
    -----
    .. math:: r_i(s_{ik}) = \frac{|\partial L/\partial s_{ik}|}{|\partial L/\partial s_{ip}|}
              = \frac{e^{s_{ik}/\tau}}{\sum_l e^{s_{il}/\tau}}

    a Boltzmann distribution over the negatives: the nearer, the harder it is pushed, the more so the smaller τ is.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 5 and (``hardest``) 8.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.hardness import relative_penalty
    >>> relative_penalty(np.array([[0.8, 0.5, 0.1, 0.7]]), 0.1).round(3)
    array([[0.   , 0.119, 0.002, 0.879]])
    """
    return _shared_push(s, temperature, positive, ignore, hardest).relative


class _SharedPush(NamedTuple):
    relative: Array  # (N, M) relative penalty r
    below: Array  # (N, M) how far each negative that has a share is below the nearest; 0 elsewhere
    temperature: Array  # ()


def _shared_push(
    s: Array, temperature: Array, positive: Array | None, ignore: Array | None, hardest: float | int | None = None
) -> _SharedPush:
    xp = namespace(s)
    (_, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    negatives = pairing.negatives
    if hardest is not None:
        negatives = hardest_mask(s_neg, negatives, hardest=hardest)
    zero, nothing = constant(0.0, like=s), constant(-xp.inf, like=s)
    nearest = xp.max(xp.where(negatives, s_neg, nothing), axis=1)  # (N,)
    nearest = xp.where(nearest == nothing, zero, nearest)  # a row without negatives
    # The shares do not depend on where the positive lies: measured from the nearest negative they lose no digits to it.
    _, pool = soft_maximum_forward(nearest, s_neg, temperature, negatives=negatives)
    below = xp.where(pool.relative > 0, nearest[:, None] - s_neg, zero)  # (N, M) no 0 times infinity
    return _SharedPush(pool.relative, below, temperature)


@checked()
def penalty_entropy(
    s: AnyArray,
    temperature: Number,
    *,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    hardest: float | int | None = None,
) -> Array:
    r"""Return the entropy of the relative penalty: how many negatives share the push.

    Parameters
    ----------
    s, temperature, positive, ignore : optional
        As in `softmax_contrastive`.
    hardest : optional
        As in `relative_penalty`.

    Returns
    -------
    entropy : (N,) array
        H(r) in nats, from the log of the number of nearest negatives (τ → 0⁺) to log K (τ → ∞); 0 without negatives.

    Notes
    -----
    :math:`H = -\sum_k r_k \log r_k`, computed as :math:`-\log r_{\max} + \sum_k r_k (s_{\max} - s_k)/\tau`: both terms
    are >= 0, so nothing cancels however peaked or flat r is. Where one negative takes nearly all,
    :math:`\log r_{\max}` comes from what is left to the others. H falls strictly with τ: Section 3.2 of the paper.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.hardness import penalty_entropy
    >>> penalty_entropy(np.array([[0.8, 0.5, 0.1, -0.3, 0.7]]), 0.2)
    array([0.74053326])
    """
    return _entropy(_shared_push(s, temperature, positive, ignore, hardest))


def _entropy(shared: _SharedPush) -> Array:
    r, below, temperature = shared
    xp = namespace(r)
    zero, one = constant(0.0, like=r), constant(1.0, like=r)
    largest = xp.max(r, axis=1)  # (N,)
    is_largest = arange(r.shape[1], like=r) == xp.argmax(r, axis=1)[:, None]  # (N, M) one of them where they tie
    others = xp.sum(xp.where(is_largest, zero, r), axis=1)  # (N,)
    surprise = xp.where(largest < 0.5, -xp.log(xp.where(largest > 0, largest, one)), -xp.log1p(-others))
    return surprise + xp.sum(r * below, axis=1) / temperature


@checked()
def entropy_slope(
    s: AnyArray,
    temperature: Number,
    *,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    hardest: float | int | None = None,
) -> Array:
    r"""Return how fast the entropy of the relative penalty grows with the temperature.

    Parameters
    ----------
    s, temperature, positive, ignore : optional
        As in `softmax_contrastive`.
    hardest : optional
        As in `relative_penalty`.

    Returns
    -------
    slope : (N,) array
        :math:`dH/d\tau = \mathrm{Var}_r(s)/\tau^3 \ge 0`, in nats; 0 only where all negatives are equally near.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.hardness import entropy_slope
    >>> entropy_slope(np.array([[0.8, 0.5, 0.1, -0.3, 0.7]]), 0.2)
    array([2.70752866])
    """
    return _slope(_shared_push(s, temperature, positive, ignore, hardest))


def _slope(shared: _SharedPush) -> Array:
    r, below, temperature = shared
    xp = namespace(r)
    mean = xp.sum(r * below, axis=1, keepdims=True)  # (N, 1)
    variance = xp.sum(r * (below - mean) ** 2, axis=1)  # (N,)
    return variance / temperature**3


@checked()
def temperature_for_entropy(
    s: AnyArray, entropy: float, *, positive: AnyArray | None = None, ignore: AnyArray | None = None
) -> Array:
    """Return each anchor's temperature at which its relative penalty has a given entropy.

    Parameters
    ----------
    s : optional
        As in `softmax_contrastive`; a similarity of -inf is ignored.
    entropy : float
        Target H in nats, above the log of the number of nearest negatives and below log K, in every row.
    positive, ignore : optional
        As in `softmax_contrastive`.

    Returns
    -------
    temperature : (N,) array
        τ of each anchor. It is found on the host, in float64, so this function waits for a device.

    Raises
    ------
    ValueError
        Where a row cannot have that entropy at any temperature, or a negative is neither finite nor -inf.

    Notes
    -----
    H grows strictly with τ, so there is one solution: Newton's method on log τ, all rows at once, and bisection where a
    step would leave the bracket.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.hardness import temperature_for_entropy
    >>> temperature_for_entropy(np.array([[0.8, 0.5, 0.1, -0.3, 0.7]]), 0.7405332574).round(6)
    array([0.2])
    """
    (_, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    similarities, negatives = to_host(s_neg), to_host(pairing.negatives)  # (N, M)
    xp, numbers = namespace(similarities), namespace(s).finfo(s.dtype)
    # The temperature, up to 1e18 times a difference or down to 1e-3 of one, must be a normal number of the dtype of s.
    smallest, largest = float(numbers.smallest_normal), float(numbers.max)
    similarities = xp.astype(similarities, xp.float64)
    negatives = negatives & (similarities != -xp.inf)  # (N, M)
    usable = xp.all(~negatives | (xp.abs(similarities) <= 1e-20 * largest), axis=1)  # (N,)
    if not xp.all(usable):
        raise ValueError(
            f"temperature_for_entropy: negatives must be finite, at most 1e-20 of {largest:.1e} in size, or -inf; "
            f"row {int(xp.argmin(usable))} has others."
        )
    highest = xp.max(xp.where(negatives, similarities, -xp.inf), axis=1, keepdims=True)  # (N, 1)
    below = highest - xp.where(negatives, similarities, 0.0)  # (N, M)
    below = xp.where(negatives & (below >= 1e3 * smallest), below, 0.0)  # (N, M) of the nearest
    ties, count = xp.sum(negatives & (below == 0.0), axis=1), xp.sum(negatives, axis=1)  # (N,)
    log_ties, log_count = (xp.log(xp.maximum(number, 1)) for number in (ties, count))
    possible = (log_ties < entropy) & (entropy < log_count)
    if not xp.all(possible):
        row = int(xp.argmin(possible))
        raise ValueError(
            f"temperature_for_entropy: entropy must lie between log {ties[row]} and log {count[row]} "
            f"for row {row}, its nearest and all its negatives; got {entropy}."
        )
    return constant(xp.exp(_solve(below, negatives, entropy)), like=s)


def _solve(below: Array, negatives: Array, entropy: float) -> Array:
    """Return log τ (N,) of each row, in float64 on the host."""
    xp = namespace(below)
    nobody, one = xp.zeros_like(below[:, :1]), constant(1.0, like=below)
    anchors = xp.concat([nobody, -below], axis=1)  # (N, 1 + M) behind a positive that plays no part
    positive, ignore = xp.zeros(below.shape[0], dtype=xp.int64), xp.concat([nobody > 0, ~negatives], axis=1)

    def excess(x: Array) -> tuple[Array, Array]:
        # H depends on s/τ alone, so that at τ = 1 its slope is the one in log τ.
        shared = _shared_push(anchors * xp.exp(-x)[:, None], one, positive, ignore)
        return _entropy(shared) - entropy, _slope(shared)

    low = high = xp.log(xp.max(below, axis=1))  # (N,)
    # In float64 only the nearest have a share below the first of these, and all have the same above the second.
    lowest, highest = xp.log(xp.min(xp.where(below > 0.0, below, xp.inf), axis=1)) - 8.0, high + 40.0  # (N,)
    rounding = 2.0 * float(xp.finfo(xp.float64).eps) * entropy
    with overflow_ignored():  # infinitely far below is no share, and infinitely far is no step
        while xp.any(above := (excess(low)[0] > 0.0) & (low > lowest)):
            low = xp.where(above, low - 1.0, low)
        while xp.any(under := (excess(high)[0] < 0.0) & (high < highest)):
            high = xp.where(under, high + 1.0, high)
        x = (low + high) / 2.0
        for step in range(200):  # by halves alone 70 would do
            missing, slope = excess(x)
            low, high = xp.where(missing < 0.0, x, low), xp.where(missing > 0.0, x, high)
            newton = x - missing / xp.where(slope > 0.0, slope, 1.0)
            inside = (slope > 0.0) & (low < newton) & (newton < high) & (step < 100)
            better = xp.where(inside, newton, (low + high) / 2.0)
            better = xp.where(xp.abs(missing) <= rounding, x, better)
            moved, x = xp.abs(better - x), better
            if xp.all(moved <= 1e-14):
                break
    return x


@checked(ds=Floats("N M"))
def balance(ds: AnyArray, *, positive: AnyArray | None = None) -> Array:
    r"""Return what the negatives of each anchor receive over what its positive gives: 1 where they balance.

    Parameters
    ----------
    ds : (N, M) array of float32 or float64
        Gradient of a loss in the similarities.
    positive : optional
        As in `softmax_contrastive`.

    Returns
    -------
    ratio : (N,) array
        :math:`|\sum_k \partial L/\partial s_{ik}| \,/\, |\partial L/\partial s_{ip}|` over the negatives k; 0 where
        both are 0, infinite where only the positive's is.

    Notes
    -----
    1 to rounding for the softmax losses, with all negatives or the hardest (paper, Section 3.1); λ K for the simple.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import softmax_contrastive
    >>> from refcl.hardness import balance
    >>> balance(softmax_contrastive(np.array([[0.8, 0.5, 0.1, -0.3, 0.7]]), 0.2)[1].ds).round(12)
    array([1.])
    """
    xp = namespace(ds)
    (ds_pos, ds_neg), pairing = pairing_forward(ds, positive=positive)
    zero, one = constant(0.0, like=ds), constant(1.0, like=ds)
    received = xp.abs(xp.sum(xp.where(pairing.negatives, ds_neg, zero), axis=1))  # (N,)
    given = xp.abs(ds_pos)  # (N,)
    alone = xp.where(received > 0, constant(xp.inf, like=ds), received)  # (N,)
    return xp.where(given == 0, alone, received / xp.where(given == 0, one, given))


class Bound(NamedTuple):
    """Between what each anchor's loss lies, in nats."""

    lower: Array  # (N,)
    upper: Array  # (N,)


@checked()
def small_temperature_bound(
    s: AnyArray, temperature: Number, *, positive: AnyArray | None = None, ignore: AnyArray | None = None
) -> Bound:
    r"""Return the two values between which each anchor's softmax loss lies, tight as τ → 0⁺.

    Parameters
    ----------
    s, temperature, positive, ignore : optional
        As in `softmax_contrastive`.

    Returns
    -------
    bound : Bound
        ``lower`` (N,) and ``upper`` (N,), in nats.

    Notes
    -----
    .. math:: 0 \le L_i - \max\bigl(0, \max_k \Delta_{ik}/\tau\bigr) \le \log(K + 1)

    with :math:`\Delta_{ik} = s_{ik} - s_{ip}`: a sum of K + 1 exponentials is at least the greatest and at most
    K + 1 times it. Hence τ L is within τ log(K + 1) of the triplet loss with margin 0: Eq. 6 of the paper.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.hardness import small_temperature_bound
    >>> lower, upper = small_temperature_bound(np.array([[0.5, 0.75, 0.25]]), 0.125)
    >>> lower, upper
    (array([2.]), array([3.09861229]))
    """
    xp, zero, one = namespace(s), constant(0.0, like=s), constant(1.0, like=s)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    gap, _ = maximum_forward(s_pos, s_neg, negatives=pairing.negatives)
    lower = xp.maximum(gap / temperature, zero)
    return Bound(lower, lower + xp.log1p(xp.sum(xp.where(pairing.negatives, one, zero), axis=1)))


@checked()
def large_temperature_form(
    s: AnyArray, temperature: Number, *, positive: AnyArray | None = None, ignore: AnyArray | None = None
) -> Array:
    r"""Return the second-order form of each anchor's softmax loss as τ → ∞.

    Parameters
    ----------
    s, temperature, positive, ignore : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : (N,) array
        In nats; off by O(τ⁻³).

    Notes
    -----
    .. math:: L_i = \log(K + 1) - \frac{s_{ip} - \bar s_i}{\tau} + \frac{\mathrm{Var}(s_i)}{2\tau^2} + O(\tau^{-3})

    with mean and (biased) variance over all K + 1 candidates, the positive among them. The term of order 1/τ is
    K/(K + 1) times `simple_contrastive` with λ = 1/K: Eq. 7 of the paper.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import softmax_contrastive
    >>> from refcl.hardness import large_temperature_form
    >>> s = np.array([[0.8, 0.5, 0.1, -0.3, 0.7]])
    >>> bool(abs(large_temperature_form(s, 100.0)[0] - softmax_contrastive(s, 100.0)[0]) < 1e-7)
    True
    """
    xp, zero, one = namespace(s), constant(0.0, like=s), constant(1.0, like=s)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    candidates = xp.sum(xp.where(pairing.negatives, one, zero), axis=1) + 1  # (N,) K + 1
    d = xp.where(pairing.negatives, s_neg - s_pos[:, None], zero)  # (N, M), and 0 for the positive
    mean = xp.sum(d, axis=1) / candidates  # (N,)
    deviation = xp.where(pairing.negatives | pairing.is_positive, d - mean[:, None], zero)  # (N, M)
    variance = xp.sum(deviation**2, axis=1) / candidates  # (N,)
    tau: Array = temperature  # ()
    return xp.log(candidates) + mean / tau + variance / (2 * tau**2)
