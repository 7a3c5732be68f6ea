"""s -> L and a, b -> L: the softmax loss against negatives that were drawn from unlabelled data, debiased and HCL.

In:  similarities ``s`` (N, M), or two views ``a`` and ``b`` (N, D).
Out: a loss and its gradient. Only the gap differs from the softmax loss: its pool may weigh near negatives more (HCL),
and what positives among them are expected to add is taken out of it.
"""

from typing import Any, NamedTuple

from refcl import validate
from refcl.backend import Array, constant, namespace
from refcl.losses.two_views import check_similarities, check_views, stack_backward, stack_forward
from refcl.pair import Pair
from refcl.pairing import PairingCache, pairing_backward, pairing_forward
from refcl.penalty import SoftplusCache, softplus_backward, softplus_forward
from refcl.pooling import SoftMaximumCache
from refcl.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.reweighting import (
    DebiasCache,
    debias_backward,
    debias_forward,
    reweighted_soft_maximum_backward,
    reweighted_soft_maximum_forward,
)


class ReweightedCache(NamedTuple):
    pairing: PairingCache
    pool: SoftMaximumCache
    debias: DebiasCache
    penalty: SoftplusCache
    reduced: ReduceCache


def reweighted_contrastive_forward(
    s: Array,
    temperature: Any,
    *,
    tau_plus: float,
    beta: float = 0.0,
    detach: bool = False,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, ReweightedCache]:
    r"""Softmax contrastive loss whose negatives are weighed by hardness and corrected for positives among them.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Similarities, cosines: anchors by candidates.
    temperature : float or () array
        τ > 0, dimensionless.
    tau_plus : float
        τ⁺ in [0, 1): the share of samples that are of an anchor's own class.
    beta : float
        β >= 0: a negative is weighed by :math:`e^{\beta s_k/\tau}`.
    detach : bool
        Whether these weights are constants in the gradient.
    positive : (N,) array of integers, optional
        Column of each anchor's positive; by default the diagonal.
    ignore : (N, M) array of booleans, optional
        True where a candidate is neither positive nor negative. The positive wins over it.
    reduction : str
        "mean", "sum" or "none"; with "none" the pair takes ``upstream``, an (N,) array.

    Returns
    -------
    loss : () array, or (N,) array where the reduction is "none"
        In nats, >= 0.
    cache : ReweightedCache
        What the backward reads; the pair returns the gradients ds (N, M) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

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
    name = "reweighted_contrastive"
    temperature = check_similarities(name, s, temperature, positive=positive, ignore=ignore, reduction=reduction)
    tau_plus, beta = _check(name, tau_plus, beta)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    xp = namespace(s)
    counted = pairing.negatives & (s_neg != -xp.inf)  # (N, M) a similarity of −∞ is none
    count = xp.sum(xp.where(counted, constant(1.0, like=s), constant(0.0, like=s)), axis=1)  # (N,) K
    pooled, pool = reweighted_soft_maximum_forward(
        s_pos, s_neg, temperature, negatives=counted, beta=beta, detach=detach
    )
    gap, debias = debias_forward(pooled, s_pos, temperature, count=count, tau_plus=tau_plus)
    loss, penalty = softplus_forward(gap)
    value, reduced = reduce_forward(loss, reduction=reduction)
    return value, ReweightedCache(pairing, pool, debias, penalty, reduced)


def reweighted_contrastive_backward(dvalue: Array, cache: ReweightedCache) -> tuple[Array, Array]:
    """Return ds and dτ: through the pool where the estimate holds, through the floor to s⁺ and τ where it does not."""
    dgap = softplus_backward(reduce_backward(dvalue, cache.reduced), cache.penalty)
    dpooled, ds_floor, dtemperature_floor = debias_backward(dgap, cache.debias)
    ds_pos, ds_neg, dtemperature = reweighted_soft_maximum_backward(dpooled, cache.pool)
    xp = namespace(dtemperature)
    ds = pairing_backward(ds_pos + ds_floor, ds_neg, cache.pairing)
    return ds, xp.asarray(dtemperature + dtemperature_floor)


def debiased_forward(
    a: Array,
    b: Array,
    temperature: Any = 0.5,
    *,
    tau_plus: float,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> tuple[Array, Any]:
    r"""Debiased contrastive loss of two views: NT-Xent less what positives among the negatives are expected to add.

    Parameters
    ----------
    a, b : (N, D) array of float32 or float64
        Two views: row i of one is the positive of row i of the other.
    temperature : float or () array
        τ > 0, dimensionless.
    tau_plus : float
        τ⁺ in [0, 1): the share of samples that are of an anchor's own class; .1 in the authors' code.
    ignore : (2N, 2N) array of booleans, optional
        True where a candidate is neither positive nor negative, a's rows before b's. Self is always left out.
    reduction : str
        "mean" over the 2N anchors, "sum" or "none"; with "none" the pair takes ``upstream``, a (2N,) array.
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines, as the floor presumes.
    eps : float
        Shortest length to divide by when normalizing, > 0.

    Returns
    -------
    loss : () array, or (2N,) array where the reduction is "none"
        In nats, >= 0; a's anchors before b's.
    cache : tuple
        What the backward reads; the pair returns the gradients da (N, D), db (N, D) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

    Notes
    -----
    `reweighted_contrastive` with β = 0 and the pairing of `nt_xent`: K = 2N − 2. At the kink, where the estimate equals
    the floor, the gradient is the estimate's. In the authors' code τ is a number; here the floor's
    :math:`e^{-1/\tau}` takes part in dtemperature. With τ⁺ = 0 it is `nt_xent`.

    References
    ----------
    Chuang, Robinson, Yen-Chen, Torralba and Jegelka, "Debiased Contrastive Learning", NeurIPS 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import debiased, nt_xent
    >>> a, b = np.random.default_rng(0).standard_normal((2, 4, 8))
    >>> bool(debiased(a, b, 0.5, tau_plus=0.0)[0] == nt_xent(a, b, 0.5)[0])
    True
    """
    temperature = check_views("debiased", a, b, temperature, ignore=ignore, reduction=reduction, eps=eps)
    tau_plus, _ = _check("debiased", tau_plus, 0.0)
    (s, roles), stacked = stack_forward(a, b, ignore=ignore, normalize=normalize, eps=eps)
    value, walk = reweighted_contrastive_forward(
        s, temperature, tau_plus=tau_plus, positive=roles.positive, ignore=roles.ignore, reduction=reduction
    )
    return value, (stacked, walk)


def debiased_backward(dvalue: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Return da, db and dτ: each row receives as an anchor and as everyone else's candidate."""
    stacked, walk = cache
    ds, dtemperature = reweighted_contrastive_backward(dvalue, walk)
    return *stack_backward(ds, stacked), dtemperature


def hcl_forward(
    a: Array,
    b: Array,
    temperature: Any = 0.5,
    *,
    tau_plus: float,
    beta: float,
    detach: bool = False,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> tuple[Array, Any]:
    r"""Contrastive loss with hard negatives (HCL) of two views: the debiased loss with negatives weighed by hardness.

    Parameters
    ----------
    a, b : (N, D) array of float32 or float64
        Two views: row i of one is the positive of row i of the other.
    temperature : float or () array
        τ > 0, dimensionless.
    tau_plus : float
        τ⁺ in [0, 1): the share of samples that are of an anchor's own class; .1 in the authors' code.
    beta : float
        β >= 0: a negative is weighed by :math:`e^{\beta s_k/\tau}`; 1 in the authors' code.
    detach : bool
        Whether these weights are constants in the gradient. The authors' code lets the gradient through them.
    ignore : (2N, 2N) array of booleans, optional
        True where a candidate is neither positive nor negative, a's rows before b's. Self is always left out.
    reduction : str
        "mean" over the 2N anchors, "sum" or "none"; with "none" the pair takes ``upstream``, a (2N,) array.
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines, as the floor presumes.
    eps : float
        Shortest length to divide by when normalizing, > 0.

    Returns
    -------
    loss : () array, or (2N,) array where the reduction is "none"
        In nats, >= 0; a's anchors before b's.
    cache : tuple
        What the backward reads; the pair returns the gradients da (N, D), db (N, D) and dtemperature () instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

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
    temperature = check_views("hcl", a, b, temperature, ignore=ignore, reduction=reduction, eps=eps)
    tau_plus, beta = _check("hcl", tau_plus, beta)
    (s, roles), stacked = stack_forward(a, b, ignore=ignore, normalize=normalize, eps=eps)
    value, walk = reweighted_contrastive_forward(
        s,
        temperature,
        tau_plus=tau_plus,
        beta=beta,
        detach=detach,
        positive=roles.positive,
        ignore=roles.ignore,
        reduction=reduction,
    )
    return value, (stacked, walk)


def hcl_backward(dvalue: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Return da, db and dτ: each row receives as an anchor and as everyone else's candidate."""
    return debiased_backward(dvalue, cache)


def _check(name: str, tau_plus: float, beta: float) -> tuple[float, float]:
    return validate.share(name, "tau_plus", tau_plus), validate.setting(name, "beta", beta, above=0.0, at_least=True)


reweighted_contrastive = Pair(reweighted_contrastive_forward, reweighted_contrastive_backward)
debiased = Pair(debiased_forward, debiased_backward)
hcl = Pair(hcl_forward, hcl_backward)
