"""a, b -> L: the debiased contrastive loss.

In:  two views ``a`` and ``b`` (N, D).
Out: a loss and its gradient: HCL whose negatives all weigh the same.
"""

from typing import Any, NamedTuple

from refcl.core.arguments import Reduction
from refcl.core.arrays import AnyArray, Array, Number
from refcl.core.pair import pair
from refcl.losses.hcl import HCLCache, hcl_backward, hcl_forward


def debiased_forward(a: Array, b: Array, temperature: Array, **settings: Any) -> tuple[Array, HCLCache]:
    """Walk as `hcl_forward` with β = 0."""
    return hcl_forward(a, b, temperature, beta=0.0, **settings)


def debiased_backward(dvalue: Array, cache: HCLCache) -> tuple[Array, Array, Array]:
    """Return da, db and dτ: each row receives as an anchor and as everyone else's candidate."""
    return hcl_backward(dvalue, cache)


class DebiasedGrads(NamedTuple):
    da: Array  # (N, D)
    db: Array  # (N, D)
    dtemperature: Array  # ()


@pair(ignore="2N 2N")
def debiased(
    a: AnyArray,
    b: AnyArray,
    temperature: Number = 0.5,
    *,
    tau_plus: float,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    upstream: AnyArray | None = None,
) -> tuple[Array, DebiasedGrads]:
    r"""Debiased contrastive loss of two views: NT-Xent less what positives among the negatives are expected to add.

    Parameters
    ----------
    a, b : (N, D) array
        As in `nt_xent`.
    temperature : optional
        As in `softmax_contrastive`.
    tau_plus : float
        As in `hcl`.
    ignore, reduction : optional
        As in `nt_xent`.
    normalize : optional
        As in `hcl`.
    eps : optional
        As in `info_nce`.
    upstream : optional
        As in `nt_xent`.

    Returns
    -------
    loss : () array, or (2N,) array where the reduction is "none"
        In nats, >= 0; a's anchors before b's.
    grads : DebiasedGrads
        da (N, D), db (N, D) and dtemperature ().

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
