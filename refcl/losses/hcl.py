"""s -> L and a, b -> L: negatives weighed by hardness and corrected for what hides among them, HCL.

In:  similarities ``s`` (N, M), or two views ``a`` and ``b`` (N, D).
Out: a loss and its gradient. Pool: reweighted soft maximum, then `debias`; penalty: softplus.
"""

from typing import Any, NamedTuple

from refcl.core.arguments import Reduction
from refcl.core.arrays import AnyArray, Array, Number, constant, namespace
from refcl.core.pair import pair
from refcl.walk.pairing import PairingCache, pairing_backward, pairing_forward
from refcl.walk.penalty import SoftplusCache, softplus_backward, softplus_forward
from refcl.walk.pooling.reweighted import (
    DebiasCache,
    debias_backward,
    debias_forward,
    reweighted_soft_maximum_backward,
    reweighted_soft_maximum_forward,
)
from refcl.walk.pooling.soft_maximum import SoftMaximumCache
from refcl.walk.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.walk.similarity import CosineSimilarityCache
from refcl.walk.two_views import two_view_similarity_backward, two_view_similarity_forward


class ReweightedContrastiveCache(NamedTuple):
    pairing: PairingCache
    pool: SoftMaximumCache
    debias: DebiasCache
    penalty: SoftplusCache
    reduced: ReduceCache


def reweighted_contrastive_forward(
    s: Array,
    temperature: Array,
    *,
    tau_plus: float,
    beta: float = 0.0,
    detach: bool = False,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, ReweightedContrastiveCache]:
    """Pair, pool the negatives weighed by their hardness, take out false negatives, charge the softplus, reduce."""
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    xp = namespace(s)
    negatives = pairing.negatives & (s_neg != -xp.inf)  # (N, M) a similarity of −∞ is none
    count = xp.sum(xp.where(negatives, constant(1.0, like=s), constant(0.0, like=s)), axis=1)  # (N,) K
    pooled, pool = reweighted_soft_maximum_forward(
        s_pos, s_neg, temperature, negatives=negatives, beta=beta, detach=detach
    )
    gap, debias = debias_forward(pooled, s_pos, temperature, count=count, tau_plus=tau_plus)
    loss, penalty = softplus_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, ReweightedContrastiveCache(pairing, pool, debias, penalty, reduced)


def reweighted_contrastive_backward(dvalue: Array, cache: ReweightedContrastiveCache) -> tuple[Array, Array]:
    """Return ds and dτ: through the pool where the estimate holds, through the floor to s⁺ and τ where it does not."""
    pairing, pool, debias, penalty, reduced = cache
    dgap = softplus_backward(reduce_backward(dvalue, reduced), penalty)
    dpooled, ds_floor, dtemperature_floor = debias_backward(dgap, debias)
    ds_pos, ds_neg, dtemperature = reweighted_soft_maximum_backward(dpooled, pool)
    ds = pairing_backward(ds_pos + ds_floor, ds_neg, pairing)
    return ds, namespace(ds).asarray(dtemperature + dtemperature_floor)


class ReweightedContrastiveGrads(NamedTuple):
    ds: Array  # (N, M)
    dtemperature: Array  # ()


@pair()
def reweighted_contrastive(
    s: AnyArray,
    temperature: Number,
    *,
    tau_plus: float,
    beta: float = 0.0,
    detach: bool = False,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, ReweightedContrastiveGrads]:
    r"""Softmax contrastive loss whose negatives are weighed by hardness and corrected for positives among them.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities, cosines as the floor presumes: anchors by candidates.
    temperature : float or () array
        As in `softmax_contrastive`.
    tau_plus : float
        τ⁺ in [0, 1): the share of samples that are of an anchor's own class.
    beta : float
        β >= 0: a negative is weighed by :math:`e^{\beta s_k/\tau}`.
    detach : bool
        Whether these weights are constants in the gradient.
    positive, ignore, reduction, upstream : optional
        As in `softmax_contrastive`.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    grads : ReweightedContrastiveGrads
        ds (N, M) and dtemperature ().

    Notes
    -----
    .. math:: L_i = -\log\frac{e^{s_{ip}/\tau}}{e^{s_{ip}/\tau} + N_g}, \qquad
              N_g = \max\Bigl\{\frac{\sum_k w_{ik} e^{s_{ik}/\tau} - \tau^+ K e^{s_{ip}/\tau}}{1 - \tau^+},\;
              K e^{-1/\tau}\Bigr\}, \qquad
              w_{ik} = \frac{e^{\beta s_{ik}/\tau}}{\operatorname{mean}_l e^{\beta s_{il}/\tau}}

    Pool `reweighted_soft_maximum`, then `debias`, penalty softplus. Where the positive dominates, the difference is
    negative and the floor holds: the negatives get no gradient, and τ gets the floor's. With β = 0 it is the debiased
    loss, with τ⁺ = 0 too `softmax_contrastive`. An anchor without negatives has loss 0 and gradient 0.

    References
    ----------
    Chuang et al., "Debiased Contrastive Learning", NeurIPS 2020; Robinson et al., "Contrastive Learning with Hard
    Negative Samples", ICLR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import reweighted_contrastive
    >>> s = np.array([[0.8, 0.5, 0.1, -0.3, 0.7]])
    >>> loss, _ = reweighted_contrastive(s, 0.5, tau_plus=0.1)
    >>> harder, _ = reweighted_contrastive(s, 0.5, tau_plus=0.1, beta=1.0)
    >>> round(float(loss), 6), round(float(harder), 6)
    (0.905092, 1.177747)
    """


class HCLCache(NamedTuple):
    compared: CosineSimilarityCache
    walk: ReweightedContrastiveCache


def hcl_forward(
    a: Array,
    b: Array,
    temperature: Array,
    *,
    ignore: Array | None = None,
    normalize: bool = True,
    eps: float = 1e-12,
    **settings: Any,
) -> tuple[Array, HCLCache]:
    """Compare all rows of both views, then walk as `reweighted_contrastive_forward`, which takes the other settings."""
    (s, roles), compared = two_view_similarity_forward(a, b, ignore=ignore, normalize=normalize, eps=eps)  # (2N, 2N)
    value, walk = reweighted_contrastive_forward(
        s, temperature, positive=roles.positive, ignore=roles.ignore, **settings
    )
    return value, HCLCache(compared, walk)


def hcl_backward(dvalue: Array, cache: HCLCache) -> tuple[Array, Array, Array]:
    """Return da, db and dτ: each row receives as an anchor and as everyone else's candidate."""
    compared, walk = cache
    ds, dtemperature = reweighted_contrastive_backward(dvalue, walk)
    return *two_view_similarity_backward(ds, compared), dtemperature


class HCLGrads(NamedTuple):
    da: Array  # (N, D)
    db: Array  # (N, D)
    dtemperature: Array  # ()


@pair(ignore="2N 2N")
def hcl(
    a: AnyArray,
    b: AnyArray,
    temperature: Number = 0.5,
    *,
    tau_plus: float,
    beta: float,
    detach: bool = False,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    upstream: AnyArray | None = None,
) -> tuple[Array, HCLGrads]:
    r"""Contrastive loss with hard negatives (HCL) of two views: the debiased loss with negatives weighed by hardness.

    Parameters
    ----------
    a, b : (N, D) array
        As in `nt_xent`.
    temperature : optional
        As in `softmax_contrastive`.
    tau_plus : float
        τ⁺ in [0, 1): the share of samples that are of an anchor's own class; .1 in the authors' code.
    beta : float
        β >= 0: a negative is weighed by :math:`e^{\beta s_k/\tau}`; 1 in the authors' code.
    detach : bool
        Whether these weights are constants in the gradient. The authors' code lets the gradient through them.
    ignore, reduction : optional
        As in `nt_xent`.
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines, as the floor presumes.
    eps : float
        As in `info_nce`.
    upstream : optional
        As in `nt_xent`.

    Returns
    -------
    loss : () array, or (2N,) array where the reduction is "none"
        In nats, >= 0; a's anchors before b's.
    grads : HCLGrads
        da (N, D), db (N, D) and dtemperature ().

    Notes
    -----
    `reweighted_contrastive` with the pairing of `nt_xent`: K = 2N − 2. With β = 0 it is `debiased`, with τ⁺ = 0 too
    `nt_xent`. With τ⁺ = 0 alone and weights detached, its negatives are pushed in the proportions of `nt_xent` at the
    temperature τ/(1 + β). With weights let through, a far negative is pulled, not pushed.

    References
    ----------
    Robinson, Chuang, Sra and Jegelka, "Contrastive Learning with Hard Negative Samples", ICLR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import debiased, hcl
    >>> a, b = np.random.default_rng(0).standard_normal((2, 4, 8))
    >>> bool(hcl(a, b, 0.5, tau_plus=0.1, beta=0.0)[0] == debiased(a, b, 0.5, tau_plus=0.1)[0])
    True
    """
