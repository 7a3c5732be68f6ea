"""About the walk: the paper's analysis of hardness, temperature and both limits.

In:  similarities ``s`` (N, M) and a temperature, or the gradient ``ds`` of any loss.
Out: how one anchor shares its push among its negatives, how peaked that is, and what the loss tends to at either end.
"""

from typing import Any, NamedTuple

from refcl import validate
from refcl.backend import Array, Namespace, arange, constant, namespace, to_host
from refcl.pairing import PairingCache, check_roles, pairing_forward
from refcl.pooling import hardest_negatives, maximum_forward, soft_maximum_forward


def relative_penalty(
    s: Array,
    temperature: Any,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    hardest: float | int | None = None,
) -> Array:
    r"""Return how each anchor shares its push among its negatives.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    temperature : float or () array
        τ > 0, dimensionless.
    positive : (N,) array of integers, optional
        Column of each anchor's positive; by default the diagonal.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative.
    hardest : float or int, optional
        Keep only a fraction (float) or a count (int) of the hardest negatives.

    Returns
    -------
    r : (N, M) array
        Rows sum to 1; 0 at the positive, where ignored and where not among the hardest. All 0 without negatives.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

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
    return _share("relative_penalty", s, temperature, positive, ignore, hardest).relative


def penalty_entropy(
    s: Array,
    temperature: Any,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    hardest: float | int | None = None,
) -> Array:
    r"""Return the entropy of the relative penalty: how many negatives share the push.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    temperature : float or () array
        τ > 0, dimensionless.
    positive, ignore, hardest : optional
        As in `relative_penalty`.

    Returns
    -------
    entropy : (N,) array
        H(r) in nats, from the log of the number of nearest negatives (τ → 0⁺) to log K (τ → ∞); 0 without negatives.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    :math:`H = -\sum_k r_k \log r_k`, computed as :math:`-\log r_{\max} + \sum_k r_k (s_{\max} - s_k)/\tau`: both terms
    are >= 0, so nothing cancels however peaked or flat r is. Where one negative takes nearly all,
    :math:`\log r_{\max}` comes from what is left to the others.

    References
    ----------
    Wang and Liu, CVPR 2021, Section 3.2: H decreases strictly as τ decreases.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.hardness import penalty_entropy
    >>> penalty_entropy(np.array([[0.8, 0.5, 0.1, -0.3, 0.7]]), 0.2)
    array([0.74053326])
    """
    return _entropy(_share("penalty_entropy", s, temperature, positive, ignore, hardest))


def _entropy(shared: "_Share") -> Array:
    xp, temperature, r, below = shared
    zero, one = constant(0.0, like=r), constant(1.0, like=r)
    largest = xp.max(r, axis=1)  # (N,)
    is_largest = arange(r.shape[1], like=r) == xp.argmax(r, axis=1)[:, None]  # (N, M) one of them where they tie
    others = xp.sum(xp.where(is_largest, zero, r), axis=1)  # (N,)
    surprise = xp.where(largest < 0.5, -xp.log(xp.where(largest > 0, largest, one)), -xp.log1p(-others))
    return surprise + xp.sum(r * below, axis=1) / temperature


def entropy_slope(
    s: Array,
    temperature: Any,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    hardest: float | int | None = None,
) -> Array:
    r"""Return how fast the entropy of the relative penalty grows with the temperature.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    temperature : float or () array
        τ > 0, dimensionless.
    positive, ignore, hardest : optional
        As in `relative_penalty`.

    Returns
    -------
    slope : (N,) array
        :math:`dH/d\tau = \mathrm{Var}_r(s)/\tau^3 \ge 0`, in nats; 0 only where all negatives are equally near.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.hardness import entropy_slope
    >>> entropy_slope(np.array([[0.8, 0.5, 0.1, -0.3, 0.7]]), 0.2)
    array([2.70752866])
    """
    return _slope(_share("entropy_slope", s, temperature, positive, ignore, hardest))


def _slope(shared: "_Share") -> Array:
    xp, temperature, r, below = shared
    mean = xp.sum(r * below, axis=1, keepdims=True)  # (N, 1)
    variance = xp.sum(r * (below - mean) ** 2, axis=1)  # (N,)
    return variance / temperature**3


def temperature_for_entropy(
    s: Array, entropy: float, *, positive: Array | None = None, ignore: Array | None = None
) -> Array:
    """Return each anchor's temperature at which its relative penalty has a given entropy.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    entropy : float
        Target H in nats, above the log of the number of nearest negatives and below log K, in every row.
    positive, ignore : optional
        As in `relative_penalty`.

    Returns
    -------
    temperature : (N,) array
        τ of each anchor. It is found on the host, in float64, so this function waits for a device.

    Raises
    ------
    ValueError
        Where a row cannot have that entropy at any temperature.
    TypeError
        Where an array is of another kind.

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
    _check("temperature_for_entropy", s, positive, ignore)
    entropy = validate.setting("temperature_for_entropy", "entropy", entropy, above=0.0)
    (_, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    similarities, negatives = to_host(s_neg), to_host(pairing.negatives)  # (N, M)
    xp = namespace(similarities)
    similarities = xp.astype(similarities, xp.float64)
    highest = xp.max(xp.where(negatives, similarities, -xp.inf), axis=1, keepdims=True)  # (N, 1)
    below = xp.where(negatives, highest - similarities, 0.0)  # (N, M) of the nearest
    spread, count = xp.max(below, axis=1), xp.sum(negatives, axis=1)  # (N,)
    ties = xp.sum(negatives & (below == 0.0), axis=1)  # (N,)
    log_ties, log_count = (xp.log(xp.maximum(number, 1)) for number in (ties, count))
    possible = (spread > 0.0) & (log_ties < entropy) & (entropy < log_count)
    if not xp.all(possible):
        row = int(xp.argmin(possible))
        raise ValueError(
            f"temperature_for_entropy: entropy must lie between log {ties[row]} and log {count[row]} "
            f"for row {row}, its nearest and all its negatives; got {entropy}."
        )
    return constant(xp.exp(_solve(xp, below, negatives, entropy, xp.log(spread))), like=s)


def _solve(xp: Namespace, below: Array, negatives: Array, entropy: float, start: Array) -> Array:
    """Return log τ (N,) of each row, in float64 on the host."""
    nobody = xp.zeros_like(below[:, :1])
    anchors = xp.concat([nobody, -below], axis=1)  # (N, 1 + M) behind a positive that plays no part
    positive, ignore = xp.zeros(below.shape[0], dtype=xp.int64), xp.concat([nobody > 0, ~negatives], axis=1)

    def excess(x: Array) -> tuple[Array, Array]:
        # H depends on s/τ alone, so that at τ = 1 its slope is the one in log τ.
        shared = _share("temperature_for_entropy", anchors * xp.exp(-x)[:, None], 1.0, positive, ignore, None)
        return _entropy(shared) - entropy, _slope(shared)

    low = high = start
    while xp.any(above := excess(low)[0] > 0.0):
        low = xp.where(above, low - 1.0, low)
    while xp.any(under := excess(high)[0] < 0.0):
        high = xp.where(under, high + 1.0, high)
    x = (low + high) / 2.0
    rounding = 2.0 * float(xp.finfo(xp.float64).eps) * entropy
    while True:
        missing, slope = excess(x)
        low, high = xp.where(missing < 0.0, x, low), xp.where(missing > 0.0, x, high)
        step = x - missing / xp.where(slope > 0.0, slope, 1.0)
        better = xp.where((slope > 0.0) & (low < step) & (step < high), step, (low + high) / 2.0)
        better = xp.where(xp.abs(missing) <= rounding, x, better)
        if xp.all(xp.abs(better - x) <= 1e-14):
            return better
        x = better


def balance(ds: Array, *, positive: Array | None = None) -> Array:
    r"""Return what the negatives of each anchor receive over what its positive gives: 1 where they balance.

    Parameters
    ----------
    ds : (N, M) array of float32 or float64
        Gradient of a loss in the similarities.
    positive : (N,) array of integers, optional
        Column of each anchor's positive; by default the diagonal.

    Returns
    -------
    ratio : (N,) array
        :math:`|\sum_k \partial L/\partial s_{ik}| \,/\, |\partial L/\partial s_{ip}|` over the negatives k; 0 where
        both are 0, infinite where only the positive's is.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape.

    Notes
    -----
    1 to rounding for the softmax losses, with all negatives or the hardest; λ K for the simple loss.

    References
    ----------
    Wang and Liu, CVPR 2021, Section 3.1, second observation.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import softmax_contrastive
    >>> from refcl.hardness import balance
    >>> balance(softmax_contrastive(np.array([[0.8, 0.5, 0.1, -0.3, 0.7]]), 0.2)[1].ds).round(12)
    array([1.])
    """
    xp = validate.floats("balance", ds=(ds, "N M"))
    check_roles("balance", ds, ds.shape[1], positive=positive, ignore=None)
    (ds_pos, ds_neg), pairing = pairing_forward(ds, positive=positive)
    zero, one = constant(0.0, like=ds), constant(1.0, like=ds)
    received = xp.abs(xp.sum(xp.where(pairing.negatives, ds_neg, zero), axis=1))  # (N,)
    given = xp.abs(ds_pos)  # (N,)
    alone = xp.where(received > 0, constant(xp.inf, like=ds), zero)  # (N,)
    return xp.where(given > 0, received / xp.where(given > 0, given, one), alone)


class Bound(NamedTuple):
    lower: Array  # (N,)
    upper: Array  # (N,)


def small_temperature_bound(
    s: Array, temperature: Any, *, positive: Array | None = None, ignore: Array | None = None
) -> Bound:
    r"""Return the two values between which each anchor's softmax loss lies, tight as τ → 0⁺.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    temperature : float or () array
        τ > 0, dimensionless.
    positive, ignore : optional
        As in `relative_penalty`.

    Returns
    -------
    bound : Bound
        ``lower`` (N,) and ``upper`` (N,), in nats.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    .. math:: 0 \le L_i - \max\bigl(0, \max_k d_{ik}/\tau\bigr) \le \log(K + 1)

    with :math:`d_{ik} = s_{ik} - s_{ip}`: a sum of K + 1 exponentials is at least the greatest and at most K + 1 times
    it. Hence τ L is within τ log(K + 1) of the triplet loss with margin 0.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 6.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.hardness import small_temperature_bound
    >>> lower, upper = small_temperature_bound(np.array([[0.5, 0.75, 0.25]]), 0.125)
    >>> lower, upper
    (array([2.]), array([3.09861229]))
    """
    xp = _check("small_temperature_bound", s, positive, ignore)
    temperature = validate.scalar("small_temperature_bound", "temperature", temperature, like=s, positive=True)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    gap, _ = maximum_forward(s_pos, s_neg, negatives=pairing.negatives)
    lower = xp.maximum(gap / temperature, constant(0.0, like=s))
    return Bound(lower, lower + xp.log1p(_count(xp, pairing, like=s)))


def large_temperature_form(
    s: Array, temperature: Any, *, positive: Array | None = None, ignore: Array | None = None
) -> Array:
    r"""Return the second-order form of each anchor's softmax loss as τ → ∞.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    temperature : float or () array
        τ > 0, dimensionless.
    positive, ignore : optional
        As in `relative_penalty`.

    Returns
    -------
    loss : (N,) array
        In nats; off by O(τ⁻³).

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    .. math:: L_i = \log(K + 1) - \frac{s_{ip} - \bar s_i}{\tau} + \frac{\mathrm{Var}(s_i)}{2\tau^2} + O(\tau^{-3})

    with mean and (biased) variance over all K + 1 candidates, the positive among them. The term of order 1/τ is
    K/(K + 1) times `simple_contrastive` with λ = 1/K.

    References
    ----------
    Wang and Liu, CVPR 2021, Eq. 7, to first order.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import softmax_contrastive
    >>> from refcl.hardness import large_temperature_form
    >>> s = np.array([[0.8, 0.5, 0.1, -0.3, 0.7]])
    >>> bool(abs(large_temperature_form(s, 100.0)[0] - softmax_contrastive(s, 100.0)[0]) < 1e-7)
    True
    """
    xp = _check("large_temperature_form", s, positive, ignore)
    temperature = validate.scalar("large_temperature_form", "temperature", temperature, like=s, positive=True)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    zero = constant(0.0, like=s)
    candidates = _count(xp, pairing, like=s) + 1  # (N,) K + 1
    d = xp.where(pairing.negatives, s_neg - s_pos[:, None], zero)  # (N, M), and 0 for the positive
    mean = xp.sum(d, axis=1) / candidates  # (N,)
    deviation = xp.where(pairing.negatives | pairing.is_positive, d - mean[:, None], zero)  # (N, M)
    variance = xp.sum(deviation**2, axis=1) / candidates  # (N,)
    return xp.log(candidates) + mean / temperature + variance / (2 * temperature**2)


def _check(name: str, s: Array, positive: Array | None, ignore: Array | None) -> Namespace:
    xp = validate.floats(name, s=(s, "N M"))
    check_roles(name, s, s.shape[1], positive=positive, ignore=ignore)
    return xp


class _Share(NamedTuple):
    xp: Namespace
    temperature: Array  # ()
    relative: Array  # (N, M) relative penalty
    below: Array  # (N, M) how far each negative that counts is below the nearest; 0 elsewhere


def _share(
    name: str,
    s: Array,
    temperature: Any,
    positive: Array | None,
    ignore: Array | None,
    hardest: float | int | None,
) -> _Share:
    xp = _check(name, s, positive, ignore)
    temperature = validate.scalar(name, "temperature", temperature, like=s, positive=True)
    (_, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    counted = pairing.negatives
    if hardest is not None:
        counted = hardest_negatives(s_neg, counted, hardest=validate.hardest(name, hardest))
    zero, nothing = constant(0.0, like=s), constant(-xp.inf, like=s)
    nearest = xp.max(xp.where(counted, s_neg, nothing), axis=1)  # (N,)
    nearest = xp.where(nearest == nothing, zero, nearest)  # a row without negatives
    # The shares do not depend on where the positive lies: measured from the nearest negative they lose no digits to it.
    _, pool = soft_maximum_forward(nearest, s_neg, temperature, negatives=counted)
    below = xp.where(counted, nearest[:, None] - s_neg, zero)  # (N, M)
    return _Share(xp, temperature, pool.relative, below)


def _count(xp: Namespace, pairing: PairingCache, *, like: Array) -> Array:
    """Return K of each anchor as a floating-point number."""
    return xp.sum(xp.where(pairing.negatives, constant(1.0, like=like), constant(0.0, like=like)), axis=1)
