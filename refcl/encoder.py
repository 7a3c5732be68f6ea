"""x -> h: the first room, a small multilayer perceptron.

In:  a batch ``x`` (N, D_in) and the parameters, all of them explicit.
Out: representations ``h`` (N, D_out), any length, one row a sample; the sphere comes next.
Nothing is remembered between calls: running statistics go in as an argument and come out of a function of their own.
"""

from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

from refcl.backend import Array, column_sums, ones, zeros
from refcl.pair import Pair
from refcl.validate import floats, setting

Layer: TypeAlias = tuple[Array, ...]  # (weight, bias), or (weight, bias, gamma, beta) where batch norm follows
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
    cache : LinearCache
        What the backward reads.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.encoder import linear
    >>> y, grads = linear(np.ones((1, 2)), np.array([[1.0], [2.0]]), np.array([0.5]))
    >>> y
    array([[3.5]])
    >>> grads.dweight
    array([[1.],
           [1.]])
    """
    floats("linear", x=(x, "N D_in"), weight=(weight, "D_in D_out"), bias=(bias, "D_out"))
    y = x @ weight
    y += bias
    return y, LinearCache(x, weight)


def linear_backward(dy: Array, cache: LinearCache, *, to_input: bool = True) -> tuple[Array | None, Array, Array]:
    """Return dx = dy Wᵀ (None unless ``to_input``), dW = xᵀ dy and db, the sum of dy over the rows.

    y_nj = Σ_i x_ni W_ij + b_j: each entry of x meets a row of W, each entry of W a column of x, each bias all rows.
    """
    floats("linear", dy=(dy, "N D_out"), x=(cache.x, "N D_in"))
    return dy @ cache.weight.T if to_input else None, cache.x.T @ dy, column_sums(dy)


class BatchNormCache(NamedTuple):
    centred: Array  # (N, D) x − μ
    gamma: Array  # (D,)
    mean: Array  # (D,) of the batch where training, else the running one
    variance: Array  # (D,) likewise; of the batch it is the biased one, the mean square
    training: bool  # whether the statistics depend on x
    eps: float


def batch_norm_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    training: bool,
    running: Statistics | None = None,
    eps: float = 1e-5,
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
    cache : BatchNormCache
        What the backward reads.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or ``running`` is missing in evaluation.

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
    >>> from refcl.encoder import batch_norm
    >>> y, grads = batch_norm(np.array([[0.0], [2.0]]), np.ones(1), np.zeros(1), training=True, eps=1e-12)
    >>> y
    array([[-1.],
           [ 1.]])
    """
    xp = floats("batch_norm", x=(x, "N D"), gamma=(gamma, "D"), beta=(beta, "D"))
    eps = setting("batch_norm", "eps", eps, above=0.0)
    if training:
        mean = column_sums(x) / x.shape[0]
        centred = x - mean  # (N, D)
        variance = column_sums(centred * centred) / x.shape[0]
    else:
        if not isinstance(running, tuple) or len(running) != 2:
            raise ValueError("batch_norm: evaluation needs running=(mean, variance); see initial_running.")
        mean, variance = running
        floats("batch_norm", x=(x, "N D"), running_mean=(mean, "D"), running_variance=(variance, "D"))
        centred = x - mean
    y = gamma / xp.sqrt(variance + eps) * centred  # (N, D) γ x̂: x̂ itself is never written
    y += beta
    return y, BatchNormCache(centred, gamma, mean, variance, bool(training), eps)


def batch_norm_backward(dy: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """Return dx, dγ = Σ dy x̂ and dβ = Σ dy; in evaluation dx = γ dy / √(v + ε).

    In training x̂ does not change when a constant is added to x or, but for ε, when x is stretched. So from dy goes its
    mean over the rows, and its component along x̂: dx = (γ/√(v + ε)) (dy − mean(dy) − x̂ mean(dy x̂)).
    """
    centred, gamma, mean, variance, training, eps = cache
    xp = floats("batch_norm", dy=(dy, "N D"), centred=(centred, "N D"), mean=(mean, "D"))
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
    cache : ReluCache
        What the backward reads.

    Notes
    -----
    At the kink, x = 0, the gradient is 0. The backward multiplies by the slope, 0 or 1: an infinite upstream gradient
    comes out as NaN where x <= 0.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.encoder import relu
    >>> y, grads = relu(np.array([[-1.0, 0.0, 2.0]]))
    >>> y, grads.dx
    (array([[0., 0., 2.]]), array([[0., 0., 1.]]))
    """
    xp = floats("relu", x=(x, "N D"))
    return xp.maximum(x, 0.0), ReluCache(xp.astype(x > 0, x.dtype))


def relu_backward(dy: Array, cache: ReluCache) -> Array:
    """Return dx = dy where x > 0, and 0 elsewhere."""
    floats("relu", dy=(dy, "N D"), slope=(cache.slope, "N D"))
    return dy * cache.slope


class LayerCache(NamedTuple):
    linear: LinearCache
    batch_norm: BatchNormCache | None
    relu: ReluCache | None


def mlp_forward(
    x: Array,
    params: tuple[Layer, ...],
    *,
    training: bool = True,
    running: tuple[Statistics, ...] | None = None,
    eps: float = 1e-5,
) -> tuple[Array, tuple[LayerCache, ...]]:
    """Encode a batch: linear, batch norm where the layer has it, relu; the last layer is linear only.

    Parameters
    ----------
    x : (N, D_in) array of float32 or float64
        One row a sample.
    params : tuple of layers
        Each ``(weight, bias)``, or ``(weight, bias, gamma, beta)`` where batch norm stands between linear and relu; the
        last is ``(weight, bias)``. See `he_init`.
    training : bool
        Whether batch norm uses the batch's own statistics.
    running : tuple of statistics, optional
        One entry a layer, ``(mean, variance)`` or ``()``, for evaluation. See `initial_running` and `updated_running`.
    eps : float
        Of the batch norms, > 0.

    Returns
    -------
    h : (N, D_out) array
        The representations.
    cache : tuple of LayerCache
        What the backward reads.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or ``running`` does not fit the layers.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.encoder import he_init, mlp
    >>> rng = np.random.default_rng(0)
    >>> params = he_init(rng, (4, 8, 3), batch_norm=True)
    >>> h, grads = mlp(rng.standard_normal((5, 4)), params)
    >>> h.shape, [tuple(d.shape for d in layer) for layer in grads.dparams]
    ((5, 3), [((4, 8), (8,), (8,), (8,)), ((8, 3), (3,))])
    """
    if not params or any(len(layer) not in (2, 4) for layer in params) or len(params[-1]) != 2:
        raise ValueError(
            "mlp: params must be layers (weight, bias) or (weight, bias, gamma, beta), the last (weight, bias); "
            f"got lengths {[len(layer) for layer in params]}."
        )
    if running is not None and len(running) != len(params):
        raise ValueError(f"mlp: running must have one entry a layer, {len(params)}; got {len(running)}.")
    caches = []
    for depth, (weight, bias, *norm) in enumerate(params):
        x, linear_cache = linear_forward(x, weight, bias)
        norm_cache = relu_cache = None
        if norm:
            statistics = running[depth] if running else None
            x, norm_cache = batch_norm_forward(x, *norm, training=training, running=statistics, eps=eps)
        if depth < len(params) - 1:
            x, relu_cache = relu_forward(x)
        caches.append(LayerCache(linear_cache, norm_cache, relu_cache))
    return x, tuple(caches)


def mlp_backward(
    dh: Array, cache: tuple[LayerCache, ...], *, to_input: bool = True
) -> tuple[Array | None, tuple[Layer, ...]]:
    """Return dx and dparams: the layers' backwards, from the last to the first.

    Data take no gradient: without ``to_input``, dx is None, and the first layer's product for it is left out.
    """
    dparams = []
    for depth, (linear_cache, norm_cache, relu_cache) in reversed(list(enumerate(cache))):
        dnorm: tuple[Array, ...] = ()
        if relu_cache is not None:
            dh = relu_backward(dh, relu_cache)
        if norm_cache is not None:
            dh, *dscale = batch_norm_backward(dh, norm_cache)
            dnorm = tuple(dscale)
        dh, dweight, dbias = linear_backward(dh, linear_cache, to_input=to_input or depth > 0)
        dparams.append((dweight, dbias, *dnorm))
    return dh, tuple(reversed(dparams))


def initial_running(params: tuple[Layer, ...]) -> tuple[Statistics, ...]:
    """Return running statistics to start from: mean 0 and variance 1 for each batch norm, ``()`` for other layers.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.encoder import he_init, initial_running
    >>> initial_running(he_init(np.random.default_rng(0), (3, 2, 1), batch_norm=True))
    ((array([0., 0.]), array([1., 1.])), ())
    """
    return tuple(
        (zeros(norm[0].shape, like=norm[0]), ones(norm[0].shape, like=norm[0])) if norm else ()
        for _, _, *norm in params
    )


def updated_running(
    cache: tuple[LayerCache, ...], running: tuple[Statistics, ...], *, momentum: float = 0.1
) -> tuple[Statistics, ...]:
    """Return the running statistics after one more batch, an exponential moving average.

    Parameters
    ----------
    cache : tuple of LayerCache
        Of the `mlp_forward` in training that saw the batch, of at least two rows.
    running : tuple of statistics
        Before the batch; left as it is.
    momentum : float
        Weight of the new batch, in (0, 1]: PyTorch's convention, new = (1 − momentum) old + momentum batch.

    Returns
    -------
    running : tuple of statistics
        After the batch. The variance that enters is the unbiased one, N/(N − 1) times the batch's.

    Raises
    ------
    ValueError
        Where the batch has one row, whose variance is unknown, or momentum is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.encoder import he_init, initial_running, mlp, updated_running
    >>> params = he_init(np.random.default_rng(0), (3, 2, 1), batch_norm=True)
    >>> h, cache = mlp.forward(np.eye(3), params)
    >>> (mean, variance), _ = updated_running(cache, initial_running(params), momentum=1.0)
    >>> bool(np.allclose(variance, params[0][0].var(axis=0, ddof=1)))  # the first layer's outputs are its weights
    True
    """
    if setting("updated_running", "momentum", momentum, above=0.0) > 1.0:
        raise ValueError(f"updated_running: momentum must be <= 1, got {momentum}.")
    updated: list[Statistics] = []
    for (_, batch, _), statistics in zip(cache, running, strict=True):
        if batch is None:
            updated.append(())
            continue
        n = batch.centred.shape[0]
        if n < 2:
            raise ValueError("updated_running: the variance of one row is unknown; use batches of at least 2 rows.")
        mean, variance = statistics
        updated.append(
            (
                (1 - momentum) * mean + momentum * batch.mean,
                (1 - momentum) * variance + (momentum * n / (n - 1)) * batch.variance,
            )
        )
    return tuple(updated)


def he_init(
    rng: Any, widths: tuple[int, ...], *, batch_norm: bool = False, dtype: str = "float64"
) -> tuple[Layer, ...]:
    r"""Draw the parameters of an MLP so that signals keep their size through relu.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the numbers come from. The same seed gives the same weights in either precision.
    widths : tuple of int
        Of the input, the hidden layers and the output; at least two numbers.
    batch_norm : bool
        Whether hidden layers have batch norm.
    dtype : str
        "float64" or "float32".

    Returns
    -------
    params : tuple of layers, NumPy arrays
        For `mlp`. Weights are normal of variance :math:`2/D_{in}`, biases 0, gamma 1, beta 0.

    Raises
    ------
    ValueError
        Where a width is below 1 or fewer than two are given.

    References
    ----------
    He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", ICCV 2015, Eq. 10.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.encoder import he_init
    >>> [weight.shape for weight, bias in he_init(np.random.default_rng(0), (64, 256, 32))]
    [(64, 256), (256, 32)]
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"he_init: widths must be at least two numbers >= 1, got {tuple(widths)}.")
    params: list[Layer] = []
    for depth, (fan_in, fan_out) in enumerate(pairwise(widths)):
        weight = (rng.standard_normal((fan_in, fan_out)) * (2.0 / fan_in) ** 0.5).astype(dtype)
        layer: Layer = (weight, zeros((fan_out,), like=weight))
        if batch_norm and depth < len(widths) - 2:
            layer = (*layer, ones((fan_out,), like=weight), zeros((fan_out,), like=weight))  # gamma, beta
        params.append(layer)
    return tuple(params)


linear = Pair(linear_forward, linear_backward)
batch_norm = Pair(batch_norm_forward, batch_norm_backward)
relu = Pair(relu_forward, relu_backward)
mlp = Pair(mlp_forward, mlp_backward)
