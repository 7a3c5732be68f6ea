"""s -> L and a, b -> L: the softmax loss whose temperature follows the alignment of the batch, MACL.

In:  similarities ``s`` (N, M), or two views ``a`` and ``b`` (N, D).
Out: a loss and its gradient. Two rooms differ from the softmax loss: the temperature grows with the mean similarity of
the positives, and the penalty is the softplus over its own slope.
"""

import math
from typing import Any, NamedTuple

from refcl import validate
from refcl.backend import Array, namespace
from refcl.losses.on_embeddings import CompareCache, compare_backward, compare_forward
from refcl.losses.two_views import check_similarities, check_views, stack_backward, stack_forward
from refcl.pair import Pair
from refcl.pairing import PairingCache, pairing_backward, pairing_forward
from refcl.penalty import WeightedSoftplusCache, weighted_softplus_backward, weighted_softplus_forward
from refcl.pooling import SoftMaximumCache, soft_maximum_backward, soft_maximum_forward
from refcl.reduce import ReduceCache, reduce_backward, reduce_forward

CANDIDATES = ("both_views", "other_view")
LAWS = ("linear", "power")


class ModelAwareCache(NamedTuple):
    pairing: PairingCache
    pool: SoftMaximumCache
    penalty: WeightedSoftplusCache
    reduced: ReduceCache
    growth: Array  # () τ over the temperature passed
    slope: Array | None  # () ∂τ/∂s⁺ of one anchor; None where τ is a constant


def model_aware_contrastive_forward(
    s: Array,
    temperature: Any,
    *,
    alpha: float = 0.5,
    alignment: float = 0.0,
    law: str = "linear",
    detach: bool = True,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, ModelAwareCache]:
    r"""Model-aware contrastive loss: the better aligned the batch, the larger its temperature.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities: anchors by candidates.
    temperature : float or () array
        τ₀ > 0, dimensionless: the temperature where the mean similarity of the positives is ``alignment``.
    alpha : float
        How fast the temperature grows with it: α >= 0, or α > 0 for the law "power", which falls where α < 1.
    alignment : float
        A₀, in units of similarity.
    law : str
        "linear": τ = τ₀ (1 + α(A − A₀)), the paper's. "power": τ = τ₀ α^(A − A₀), the other one of the authors' code,
        where α is 2.
    detach : bool
        Whether the temperature's dependence on s and the weights are constants in the gradient, as in the paper.
    positive : (N,) array of integers, optional
        Column of each anchor's positive; by default the diagonal.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, > 1 and tending to 1 where the positive dominates; 0 without negatives.
    cache : ModelAwareCache
        What the backward reads; the pair returns the gradients ds (N, M) and dtemperature () instead, the latter in τ₀.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    .. math:: \tau = \tau_0 \bigl(1 + \alpha (A - A_0)\bigr) \text{ or } \tau_0\, \alpha^{A - A_0}, \quad
              A = \operatorname{mean}_i s_{ip}, \qquad L_i = \frac{-\log P_{ip}}{1 - P_{ip}}

    With the weight :math:`1/(1 - P)` detached, the gradient is that of `decoupled_contrastive`, at τ: :math:`-1/\tau`
    at the positive. The value then is not what the gradient is of: hold it against the loss with τ and weights frozen.
    With ``detach=False`` it is the gradient of the value. The linear law needs α(A − A₀) > −1, or τ is not positive:
    that is not looked at. lightly adds 1e-8 to 1 − P, which silences an anchor whose positive dominates.

    References
    ----------
    Huang et al., "Model-Aware Contrastive Learning: Towards Escaping the Dilemmas", ICML 2023 (arXiv 2207.07874).

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import model_aware_contrastive
    >>> loss, grads = model_aware_contrastive(np.array([[0.5, 0.1, 0.2]]), 0.2, alpha=0.5)
    >>> float(grads.ds[0, 0]), round(float(loss), 6)
    (-4.0, 1.218738)
    """
    name = "model_aware_contrastive"
    temperature = check_similarities(name, s, temperature, positive=positive, ignore=ignore, reduction=reduction)
    alpha, alignment = _check(name, alpha, alignment, law)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    xp = namespace(s)
    beyond = xp.mean(s_pos) - alignment  # () A − A₀
    growth = xp.asarray(1 + alpha * beyond if law == "linear" else xp.exp(math.log(alpha) * beyond))  # ()
    gap, pool = soft_maximum_forward(s_pos, s_neg, xp.asarray(temperature * growth), negatives=pairing.negatives)
    loss, penalty = weighted_softplus_forward(gap, detach=detach)
    value, reduced = reduce_forward(loss, reduction=reduction)
    steepness = alpha if law == "linear" else math.log(alpha) * growth  # ∂growth/∂A
    slope = None if detach else xp.asarray(temperature * (steepness / s.shape[0]))  # ()
    return value, ModelAwareCache(pairing, pool, penalty, reduced, growth, slope)


def model_aware_contrastive_backward(dvalue: Array, cache: ModelAwareCache) -> tuple[Array, Array]:
    """Return ds and dτ₀ = growth dτ: the softmax loss's way back, another penalty, and through τ unless detached."""
    dgap = weighted_softplus_backward(reduce_backward(dvalue, cache.reduced), cache.penalty)
    ds_pos, ds_neg, dtemperature = soft_maximum_backward(dgap, cache.pool)
    if cache.slope is not None:
        # τ depends on the mean of s⁺: every positive moves it alike
        ds_pos = ds_pos + dtemperature * cache.slope
    xp = namespace(dtemperature)
    return pairing_backward(ds_pos, ds_neg, cache.pairing), xp.asarray(dtemperature * cache.growth)


def macl_forward(
    a: Array,
    b: Array,
    temperature: Any = 0.1,
    *,
    alpha: float = 0.5,
    alignment: float = 0.0,
    law: str = "linear",
    detach: bool = True,
    candidates: str = "both_views",
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> tuple[Array, Any]:
    r"""Model-aware contrastive loss (MACL) of two views.

    Parameters
    ----------
    a, b : (N, D) array of float32 or float64
        Two views: row i of one is the positive of row i of the other.
    temperature : float or () array
        τ₀ > 0, dimensionless: the temperature where the mean similarity of the positives is ``alignment``.
    alpha : float
        How fast the temperature grows with it: α >= 0, or α > 0 for the law "power", which falls where α < 1.
    alignment : float
        A₀, in units of similarity.
    law : str
        "linear": τ = τ₀ (1 + α(A − A₀)), the paper's. "power": τ = τ₀ α^(A − A₀), the other one of the authors' code,
        where α is 2.
    detach : bool
        Whether the temperature's dependence on a and b and the weights are constants in the gradient, as in the paper.
    candidates : str
        "both_views": 2N anchors, as in `nt_xent` and in lightly's code. "other_view": a's rows are the anchors, b's the
        candidates, as in `info_nce` and in the authors' code.
    ignore : (2N, 2N) array of booleans, or (N, N) for "other_view", optional
        True where a candidate is neither positive nor negative, a's rows before b's. Self is always left out.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, a (2N,) array, or (N,) for "other_view".
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines.
    eps : float
        Shortest length to divide by when normalizing, > 0.

    Returns
    -------
    loss : () array, or (2N,) array where the reduction is "none", (N,) array for "other_view"
        In nats, > 1 and tending to 1 where the positive dominates; a's anchors before b's.
    cache : tuple
        What the backward reads; the pair returns the gradients da (N, D), db (N, D) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    `model_aware_contrastive` with the pairing of `nt_xent` or of `info_nce`.

    References
    ----------
    Huang et al., "Model-Aware Contrastive Learning: Towards Escaping the Dilemmas", ICML 2023 (arXiv 2207.07874).

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import dcl, macl
    >>> a, b = np.random.default_rng(0).standard_normal((2, 4, 8))
    >>> _, grads = macl(a, b, 0.2, alpha=0.0)
    >>> bool(np.max(np.abs(grads.da - dcl(a, b, 0.2)[1].da)) < 1e-12)
    True
    """
    validate.choice("macl", "candidates", candidates, CANDIDATES)
    alpha, alignment = _check("macl", alpha, alignment, law)
    positive, cross = None, candidates == "other_view"
    if cross:
        validate.floats("macl", a=(a, "N D"), b=(b, "N D"))
        validate.setting("macl", "eps", eps, above=0.0)
        s, stacked = compare_forward(a, b, normalize=normalize, eps=eps)  # (N, N)
        temperature = check_similarities("macl", s, temperature, positive=None, ignore=ignore, reduction=reduction)
    else:
        temperature = check_views("macl", a, b, temperature, ignore=ignore, reduction=reduction, eps=eps)
        (s, roles), stacked = stack_forward(a, b, ignore=ignore, normalize=normalize, eps=eps)  # (2N, 2N)
        positive, ignore = roles.positive, roles.ignore
    value, walk = model_aware_contrastive_forward(
        s,
        temperature,
        alpha=alpha,
        alignment=alignment,
        law=law,
        detach=detach,
        positive=positive,
        ignore=ignore,
        reduction=reduction,
    )
    return value, (stacked, walk, cross)


def macl_backward(dvalue: Array, cache: tuple[CompareCache, ModelAwareCache, bool]) -> tuple[Array, Array, Array]:
    """Return da, db and dτ₀: each row receives as an anchor and as a candidate."""
    stacked, walk, cross = cache
    ds, dtemperature = model_aware_contrastive_backward(dvalue, walk)
    da, db = compare_backward(ds, stacked) if cross else stack_backward(ds, stacked)
    return da, db, dtemperature


def _check(name: str, alpha: float, alignment: float, law: str) -> tuple[float, float]:
    linear = validate.choice(name, "law", law, LAWS) == "linear"
    alpha = validate.setting(name, "alpha", alpha, above=0.0, at_least=linear)
    return alpha, validate.setting(name, "alignment", alignment, above=-math.inf)


model_aware_contrastive = Pair(model_aware_contrastive_forward, model_aware_contrastive_backward)
macl = Pair(macl_forward, macl_backward)
