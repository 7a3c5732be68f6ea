"""x -> y: the layers that the encoder is built of.

In:  a batch ``x`` (N, D) and a layer's parameters.  Out: a batch.
Nothing is remembered between calls: batch norm's running statistics are an argument.
"""

from typing import Any, NamedTuple, TypeAlias

from refcl.core.agreement import Call, floats
from refcl.core.arguments import Floats, flag
from refcl.core.arrays import Array, column_sums, namespace
from refcl.core.pair import room

Statistics: TypeAlias = tuple[Array, ...]  # (mean, variance) of a layer's batch norm, or () where it has none


class LinearCache(NamedTuple):
    x: Array  # (N, D_in)
    weight: Array  # (D_in, D_out)


def linear_forward(x: Array, weight: Array, bias: Array) -> tuple[Array, LinearCache]:
    r"""Map each row by a matrix and add a bias.

    Parameters
    ----------
    x : (N, D_in) array of float32 or float64
        One row a sample.
    weight : (D_in, D_out) array
        A column for each output.
    bias : (D_out,) array
        Added to every row.

    Returns
    -------
    y : (N, D_out) array
        :math:`y = x W + b`.
    grads : named tuple
        dx, dweight, dbias.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.layers import linear
    >>> y, grads = linear(np.ones((1, 2)), np.array([[1.0], [2.0]]), np.array([0.5]))
    >>> y
    array([[3.5]])
    >>> grads.dweight
    array([[1.],
           [1.]])
    """
    y = x @ weight
    y += bias
    return y, LinearCache(x, weight)


def linear_backward(dy: Array, cache: LinearCache, *, to_input: bool = True) -> tuple[Array | None, Array, Array]:
    """Return dx = dy Wᵀ (None unless ``to_input``), dW = xᵀ dy and db, the sum of dy over the rows.

    y_nj = Σ_i x_ni W_ij + b_j: each entry of x meets a row of W, each entry of W a column of x, each bias all rows.
    """
    return dy @ cache.weight.T if to_input else None, cache.x.T @ dy, column_sums(dy)


class BatchNormCache(NamedTuple):
    centred: Array  # (N, D) x − μ
    gamma: Array  # (D,)
    mean: Array  # (D,) of the batch where training, else the running one
    variance: Array  # (D,) likewise; of the batch it is the biased one, the mean square
    training: bool  # whether the statistics depend on x
    eps: float


def batch_norm_forward(
    x: Array, gamma: Array, beta: Array, *, training: bool, running: Statistics | None = None, eps: float = 1e-5
) -> tuple[Array, BatchNormCache]:
    r"""Bring each column to mean ``beta`` and standard deviation ``gamma``.

    Parameters
    ----------
    x : (N, D) array of float32 or float64
        One row a sample.
    gamma, beta : (D,) array
        Scale and shift of each column.
    training : bool
        True: the statistics are the batch's own, and gradients flow through them. False: they are ``running``, and
        constants.
    running : tuple of two (D,) arrays, optional
        Mean and variance for evaluation. Required there, not looked at in training, changed in neither:
        `updated_running` returns the next ones.
    eps : float
        Added to the variance, > 0.

    Returns
    -------
    y : (N, D) array
        :math:`y = \gamma \hat x + \beta` with :math:`\hat x = (x - \mu)/\sqrt{v + \epsilon}`.
    grads : named tuple
        dx, dgamma, dbeta.

    Notes
    -----
    In training :math:`v` is the *biased* variance :math:`\frac1N\sum_n (x_n - \mu)^2`; the running variance is updated
    with the *unbiased* one, :math:`\frac{N}{N-1} v`, as in PyTorch. A batch of one row has :math:`x = \mu`: the output
    is ``beta`` and no gradient reaches ``x`` (PyTorch refuses it).

    References
    ----------
    Ioffe and Szegedy, "Batch Normalization", ICML 2015, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.layers import batch_norm
    >>> y, grads = batch_norm(np.array([[0.0], [2.0]]), np.ones(1), np.zeros(1), training=True, eps=1e-12)
    >>> y
    array([[-1.],
           [ 1.]])
    """
    xp = namespace(x)
    if training:
        mean = column_sums(x) / x.shape[0]
        centred = x - mean  # (N, D)
        variance = column_sums(centred * centred) / x.shape[0]
    else:
        mean, variance = running or ()
        centred = x - mean
    y = gamma / xp.sqrt(variance + eps) * centred  # (N, D) γ x̂: x̂ itself is never written
    y += beta
    return y, BatchNormCache(centred, gamma, mean, variance, training, eps)


def batch_norm_backward(dy: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """Return dx, dγ = Σ dy x̂ and dβ = Σ dy; in evaluation dx = γ dy / √(v + ε).

    In training x̂ does not change when a constant is added to x or, but for ε, when x is stretched. So from dy goes its
    mean over the rows, and its component along x̂: dx = (γ/√(v + ε)) (dy − mean(dy) − x̂ mean(dy x̂)).
    """
    centred, gamma, _, variance, training, eps = cache
    xp = namespace(dy)
    deviation = xp.sqrt(variance + eps)  # (D,) x̂ is centred over it
    dgamma = column_sums(dy * centred) / deviation
    dbeta = column_sums(dy)
    scale = gamma / deviation
    if not training:
        return dy * scale, dgamma, dbeta
    n = dy.shape[0]
    dx = dy - dbeta / n
    dx -= centred * (dgamma / (n * deviation))
    dx *= scale
    return dx, dgamma, dbeta


def _ask_running(call: Call, arguments: dict[str, Any]) -> None:
    """Ask for the statistics of evaluation."""
    if arguments["training"]:
        return
    running = arguments["running"]
    if not isinstance(running, tuple) or len(running) != 2:
        raise ValueError("batch_norm: evaluation needs running=(mean, variance); see initial_running.")
    mean, variance = running
    floats(call.name, [("x", "N D", call.like), ("running_mean", "D", mean), ("running_variance", "D", variance)])


class ReluCache(NamedTuple):
    slope: Array  # (N, D) 1 where x > 0, and 0 elsewhere


def relu_forward(x: Array) -> tuple[Array, ReluCache]:
    """Keep what is positive, and 0 elsewhere.

    Parameters
    ----------
    x : (N, D) array of float32 or float64
        Any values.

    Returns
    -------
    y : (N, D) array
        max(x, 0).
    grads : named tuple
        dx.

    Notes
    -----
    At the kink, x = 0, the gradient is 0. The backward multiplies by the slope, 0 or 1: an infinite upstream gradient
    comes out as NaN where x <= 0.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.layers import relu
    >>> y, grads = relu(np.array([[-1.0, 0.0, 2.0]]))
    >>> y, grads.dx
    (array([[0., 0., 2.]]), array([[0., 0., 1.]]))
    """
    xp = namespace(x)
    return xp.maximum(x, 0.0), ReluCache(xp.astype(x > 0, x.dtype))


def relu_backward(dy: Array, cache: ReluCache) -> Array:
    """Return dx = dy where x > 0, and 0 elsewhere."""
    return dy * cache.slope


linear = room(linear_forward, linear_backward, x=Floats("N D_in"), weight=Floats("D_in D_out"), bias=Floats("D_out"))
batch_norm = room(
    batch_norm_forward,
    batch_norm_backward,
    x=Floats("N D"),
    gamma=Floats("D"),
    beta=Floats("D"),
    training=flag,
    also=_ask_running,
)
relu = room(relu_forward, relu_backward, x=Floats("N D"))
