"""s -> L and a, b -> L: the softmax loss whose temperature follows the alignment of the batch, MACL.

In:  similarities ``s`` (N, M), or two views ``a`` and ``b`` (N, D).
Out: a loss and its gradient. Two rooms differ from the softmax loss: the temperature grows with the mean similarity of
the positives, and the penalty is the softplus over its own slope.
"""

import math
from typing import Any, Literal, NamedTuple

from refcl.core.agreement import Call
from refcl.core.arguments import Mask, Reduction, choice, number
from refcl.core.arrays import AnyArray, Array, Number, namespace
from refcl.core.pair import pair
from refcl.walk.pairing import PairingCache, pairing_backward, pairing_forward
from refcl.walk.penalty import WeightedSoftplusCache, weighted_softplus_backward, weighted_softplus_forward
from refcl.walk.pooling.soft_maximum import SoftMaximumCache, soft_maximum_backward, soft_maximum_forward
from refcl.walk.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.walk.similarity import CosineSimilarityCache, cosine_similarity_backward, cosine_similarity_forward
from refcl.walk.two_views import two_view_similarity_backward, two_view_similarity_forward


class ModelAwareContrastiveCache(NamedTuple):
    pairing: PairingCache
    pool: SoftMaximumCache
    penalty: WeightedSoftplusCache
    reduced: ReduceCache
    growth: Array  # () τ over the temperature passed
    slope: Array | None  # () ∂τ/∂s⁺ of one anchor; None where τ is a constant


def model_aware_contrastive_forward(
    s: Array,
    temperature: Array,
    *,
    alpha: float = 0.5,
    alignment: float = 0.0,
    law: str = "linear",
    detach: bool = True,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, ModelAwareContrastiveCache]:
    """Pair, let the temperature follow s⁺, pool by the soft maximum, charge the weighted softplus, reduce."""
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    xp = namespace(s)
    excess = xp.mean(s_pos) - alignment  # () A − A₀
    growth = xp.asarray(1 + alpha * excess if law == "linear" else xp.exp(math.log(alpha) * excess))  # ()
    gap, pool = soft_maximum_forward(s_pos, s_neg, xp.asarray(temperature * growth), negatives=pairing.negatives)
    loss, penalty = weighted_softplus_forward(gap, detach=detach)
    value, reduced = reduce_forward(loss, reduction=reduction)
    dgrowth = alpha if law == "linear" else math.log(alpha) * growth  # () ∂growth/∂A
    slope = None if detach else xp.asarray(temperature * (dgrowth / s.shape[0]))  # ()
    return value, ModelAwareContrastiveCache(pairing, pool, penalty, reduced, growth, slope)


def model_aware_contrastive_backward(dvalue: Array, cache: ModelAwareContrastiveCache) -> tuple[Array, Array]:
    """Return ds and dτ₀ = growth dτ: the softmax loss's way back, another penalty, and through τ unless detached."""
    pairing, pool, penalty, reduced, growth, slope = cache
    dgap = weighted_softplus_backward(reduce_backward(dvalue, reduced), penalty)
    ds_pos, ds_neg, dtemperature = soft_maximum_backward(dgap, pool)
    if slope is not None:
        # τ depends on the mean of s⁺: every positive moves it alike
        ds_pos = ds_pos + dtemperature * slope
    ds = pairing_backward(ds_pos, ds_neg, pairing)
    return ds, namespace(ds).asarray(dtemperature * growth)


def _another_argument_decides(call: Call, argument: str, value: Any) -> Any:
    """Leave the argument to what is asked of all of them together."""
    return value


def _alpha_by_law(call: Call, arguments: dict[str, Any]) -> None:
    """Ask for α > 0 where the law takes its logarithm, and for α >= 0 where it does not."""
    check = number(0.0, at_least=arguments["law"] == "linear")
    arguments["alpha"] = check(call, "alpha", arguments["alpha"])


class ModelAwareContrastiveGrads(NamedTuple):
    ds: Array  # (N, M)
    dtemperature: Array  # ()


@pair(alpha=_another_argument_decides, alignment=number(), law=choice("linear", "power"), also=_alpha_by_law)
def model_aware_contrastive(
    s: AnyArray,
    temperature: Number,
    *,
    alpha: float = 0.5,
    alignment: float = 0.0,
    law: Literal["linear", "power"] = "linear",
    detach: bool = True,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, ModelAwareContrastiveGrads]:
    r"""Model-aware contrastive loss: the better aligned the batch, the larger its temperature.

    Parameters
    ----------
    s : (N, M) array
        As in `softmax_contrastive`.
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
    positive, ignore, reduction, upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, > 1 and tending to 1 where the positive dominates; 0 without negatives.
    grads : ModelAwareContrastiveGrads
        ds (N, M) and dtemperature (), in τ₀.

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


class MACLCache(NamedTuple):
    compared: CosineSimilarityCache
    walk: ModelAwareContrastiveCache
    both_views: bool  # whether the rows compared were those of both views, stacked


def macl_forward(
    a: Array,
    b: Array,
    temperature: Array,
    *,
    candidates: str = "both_views",
    ignore: Array | None = None,
    normalize: bool = True,
    eps: float = 1e-12,
    **settings: Any,
) -> tuple[Array, MACLCache]:
    """Compare, then walk as `model_aware_contrastive_forward`, which takes the other settings."""
    positive, both_views = None, candidates == "both_views"
    if both_views:
        (s, roles), compared = two_view_similarity_forward(a, b, ignore=ignore, normalize=normalize, eps=eps)
        positive, ignore = roles.positive, roles.ignore  # (2N,), (2N, 2N) as s is
    else:
        s, compared = cosine_similarity_forward(a, b, normalize=normalize, eps=eps)  # (N, N)
    value, walk = model_aware_contrastive_forward(s, temperature, positive=positive, ignore=ignore, **settings)
    return value, MACLCache(compared, walk, both_views)


def macl_backward(dvalue: Array, cache: MACLCache) -> tuple[Array, Array, Array]:
    """Return da, db and dτ₀: each row receives as an anchor and as a candidate."""
    compared, walk, both_views = cache
    ds, dtemperature = model_aware_contrastive_backward(dvalue, walk)
    da, db = two_view_similarity_backward(ds, compared) if both_views else cosine_similarity_backward(ds, compared)
    return da, db, dtemperature


def _alpha_by_law_and_ignore_by_candidates(call: Call, arguments: dict[str, Any]) -> None:
    """Ask also for a mask of the candidates that there are."""
    _alpha_by_law(call, arguments)
    if arguments["ignore"] is not None:
        mask = Mask("2N 2N" if arguments["candidates"] == "both_views" else "N N")
        mask(call, "ignore", arguments["ignore"])


class MACLGrads(NamedTuple):
    da: Array  # (N, D)
    db: Array  # (N, D)
    dtemperature: Array  # ()


@pair(
    alpha=_another_argument_decides,
    alignment=number(),
    law=choice("linear", "power"),
    candidates=choice("both_views", "other_view"),
    ignore=_another_argument_decides,
    also=_alpha_by_law_and_ignore_by_candidates,
)
def macl(
    a: AnyArray,
    b: AnyArray,
    temperature: Number = 0.1,
    *,
    alpha: float = 0.5,
    alignment: float = 0.0,
    law: Literal["linear", "power"] = "linear",
    detach: bool = True,
    candidates: Literal["both_views", "other_view"] = "both_views",
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    upstream: AnyArray | None = None,
) -> tuple[Array, MACLGrads]:
    r"""Model-aware contrastive loss (MACL) of two views.

    Parameters
    ----------
    a, b : (N, D) array
        As in `nt_xent`.
    temperature, alpha, alignment, law, detach : optional
        As in `model_aware_contrastive`.
    candidates : str
        "both_views": 2N anchors, as in `nt_xent` and in lightly's code. "other_view": a's rows are the anchors, b's the
        candidates, as in `info_nce` and in the authors' code.
    ignore : (2N, 2N) array of booleans, or (N, N) for "other_view", optional
        True where a candidate is neither positive nor negative; for "both_views" as in `nt_xent`.
    reduction : str
        "mean", "sum" or "none" over the anchors that there are.
    normalize, eps : optional
        As in `info_nce`.
    upstream : (2N,) array, or (N,) for "other_view", optional
        With the reduction "none": what each anchor's loss is worth in the gradients; by default 1.

    Returns
    -------
    loss : () array, or (2N,) array where the reduction is "none", (N,) array for "other_view"
        In nats, > 1 and tending to 1 where the positive dominates; a's anchors before b's.
    grads : MACLGrads
        da (N, D), db (N, D) and dtemperature (), in τ₀.

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
