"""context, future -> L: contrastive predictive coding, the softmax loss of a bilinear form.

In:  contexts (N, D) and what came after them (N, E), or one such array a step ahead.
Out: a loss and the gradient of contexts, futures and the form. Only the similarity differs from InfoNCE: no sphere, no
temperature, since the form can learn both scale and direction.
"""

import math
import numbers
from typing import Any, NamedTuple

from refcl.core.agreement import Call, floats
from refcl.core.arguments import Floats, Reduction
from refcl.core.arrays import AnyArray, Array, namespace, ones
from refcl.core.pair import pair
from refcl.losses.info_nce import SoftmaxContrastiveCache, softmax_contrastive_backward, softmax_contrastive_forward
from refcl.walk.reduce import ReduceCache, reduce_backward, reduce_forward
from refcl.walk.similarity import BilinearCache, bilinear_backward, bilinear_forward


class StepCache(NamedTuple):
    form: BilinearCache
    walk: SoftmaxContrastiveCache


class CPCCache(NamedTuple):
    steps: tuple[StepCache, ...]  # one a step ahead
    reduced: ReduceCache


def cpc_forward(
    context: Array,
    future: Array,
    weight: Array,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, CPCCache]:
    """At each step compare by its form and walk as `softmax_contrastive_forward` with τ = 1; reduce."""
    xp = namespace(context)
    several = future.ndim == 3
    if not several:
        future, weight = future[None, :, :], weight[None, :, :]
    one = ones((), like=context)
    losses, steps = [], []
    for t in range(weight.shape[0]):
        s, form = bilinear_forward(context, future[t, :, :], weight[t, :, :])  # (N, M)
        loss, walk = softmax_contrastive_forward(s, one, positive=positive, ignore=ignore, reduction="none")  # (N,)
        losses.append(loss)
        steps.append(StepCache(form, walk))
    value, reduced = reduce_forward(xp.stack(losses) if several else losses[0], reduction=reduction)
    return value, CPCCache(tuple(steps), reduced)


def cpc_backward(dvalue: Array, cache: CPCCache) -> tuple[Array, Array, Array]:
    """Return dcontext, the sum over steps, and of each step dz = dsᵀ c W and dW = cᵀ ds z."""
    steps, reduced = cache
    dloss = reduce_backward(dvalue, reduced)  # (T, N) or (N,)
    xp = namespace(dloss)
    several = dloss.ndim == 2
    of_steps = []
    for t, (form, walk) in enumerate(steps):
        ds, *_ = softmax_contrastive_backward(dloss[t, :] if several else dloss, walk)
        of_steps.append(bilinear_backward(ds, form))
    dcontexts, dfutures, dweights = zip(*of_steps, strict=True)
    if not several:
        return dcontexts[0], dfutures[0], dweights[0]
    return xp.sum(xp.stack(dcontexts), axis=0), xp.stack(dfutures), xp.stack(dweights)


def _a_form_a_step(call: Call, arguments: dict[str, Any]) -> None:
    """Ask for one form where there is one step, for several where there are several."""
    future, weight = arguments["future"], arguments["weight"]
    if future.ndim != weight.ndim:
        floats(call.name, [("weight", "T D E" if future.ndim == 3 else "D E", weight)])


class CPCGrads(NamedTuple):
    dcontext: Array  # (N, D)
    dfuture: Array  # (T, M, E) or (M, E)
    dweight: Array  # (T, D, E) or (D, E)


@pair(context=Floats("N D"), future=Floats("M E | T M E"), weight=Floats("D E | T D E"), also=_a_form_a_step)
def cpc(
    context: AnyArray,
    future: AnyArray,
    weight: AnyArray,
    *,
    positive: AnyArray | None = None,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    upstream: AnyArray | None = None,
) -> tuple[Array, CPCGrads]:
    r"""CPC's InfoNCE: from a context, pick its own future among those of others.

    Parameters
    ----------
    context : (N, D) array of float32 or float64
        Anchors c, of any length.
    future : (T, M, E) array, or (M, E) array for one step
        Candidates z: at each of T steps ahead, row i is what came after context i; further rows are negatives of all.
    weight : (T, D, E) array, or (D, E) array for one step
        The form W of each step.
    positive, ignore : optional
        As in `softmax_contrastive`, at every step alike.
    reduction : str
        "mean" over steps and contexts, "sum" or "none".
    upstream : (T, N) array, or (N,) array for one step, optional
        With the reduction "none": what each loss is worth in the gradients, by default 1.

    Returns
    -------
    loss : () array, or (T, N) (one step: (N,)) array where the reduction is "none"
        In nats, >= 0.
    grads : CPCGrads
        dcontext, dfuture and dweight, each of its argument's shape.

    Notes
    -----
    .. math:: L = -\frac1{TN}\sum_{t, i} \log\frac{e^{s^t_{ip}}}{\sum_k e^{s^t_{ik}}}, \qquad
              s^t_{ik} = c_i^\top W_t z^t_k

    The paper writes :math:`z^\top W c`: its W is the transpose of this one, whose rows belong to the anchors, as
    everywhere here. It does not say how steps are put together; code that adds them up has T times this loss, and code
    that averages over features instead of adding them up (CPC_audio) has this loss with W/E.
    `mutual_information_bound` says what the loss is worth.

    References
    ----------
    van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding", arXiv 1807.03748, Eq. 3
    and 4.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import cpc
    >>> rng = np.random.default_rng(0)
    >>> context, future = rng.standard_normal((4, 3)), rng.standard_normal((2, 4, 5))
    >>> loss, grads = cpc(context, future, rng.standard_normal((2, 3, 5)))
    >>> grads.dcontext.shape, grads.dfuture.shape, grads.dweight.shape
    ((4, 3), (2, 4, 5), (2, 3, 5))
    """


def mutual_information_bound(loss: Any, n: int) -> Any:
    r"""Return how much contexts must know of their futures, at least, for InfoNCE to be this low.

    Parameters
    ----------
    loss : float or array
        Of `cpc`, or any InfoNCE against independent negatives, in nats: an expectation, or its estimate.
    n : int
        Number of candidates of each anchor, the positive included.

    Returns
    -------
    bound : float or array like ``loss``
        :math:`\log n - L`, in nats: the mutual information of anchor and positive is no smaller. Never above log n;
        below 0 where the loss is worse than guessing.

    Raises
    ------
    TypeError, ValueError
        Where n is no integer >= 1.

    Notes
    -----
    The bound is one of expectations, over positives drawn together with their anchors and negatives drawn without: one
    batch's value can lie above the truth, and a batch whose negatives hold the anchor's own class does not meet the
    assumption.

    References
    ----------
    van den Oord, Li and Vinyals, arXiv 1807.03748, Section 2.3 and Appendix A.1.

    Examples
    --------
    >>> from refcl import mutual_information_bound
    >>> round(mutual_information_bound(0.5, 128), 6)
    4.35203
    """
    if isinstance(n, bool) or not isinstance(n, numbers.Integral):
        raise TypeError(f"mutual_information_bound: n must be an int, got {type(n).__name__}.")
    if n < 1:
        raise ValueError(f"mutual_information_bound: n must be >= 1, got {n}.")
    return math.log(n) - loss
