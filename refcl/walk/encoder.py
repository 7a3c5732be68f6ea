"""x -> h: the first room, a small multilayer perceptron.

In:  a batch ``x`` (N, D_in) and the parameters, all of them explicit.
Out: representations ``h`` (N, D_out), any length, one row a sample; the sphere comes next.
Nothing is remembered between calls: running statistics go in as an argument and come out of a function of their own.
"""

from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

from refcl.core.agreement import Call, floats
from refcl.core.arguments import Floats, flag
from refcl.core.arrays import Array, ones, zeros
from refcl.core.pair import room
from refcl.walk.layers import (
    BatchNormCache,
    LinearCache,
    ReluCache,
    Statistics,
    batch_norm_backward,
    batch_norm_forward,
    linear_backward,
    linear_forward,
    relu_backward,
    relu_forward,
)

Layer: TypeAlias = tuple[Array, ...]  # (weight, bias), or (weight, bias, gamma, beta) where batch norm follows


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
    grads : named tuple
        dx, dparams.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.encoder import he_init, mlp
    >>> rng = np.random.default_rng(0)
    >>> params = he_init(rng, (4, 8, 3), batch_norm=True)
    >>> h, grads = mlp(rng.standard_normal((5, 4)), params)
    >>> h.shape, [tuple(d.shape for d in layer) for layer in grads.dparams]
    ((5, 3), [((4, 8), (8,), (8,), (8,)), ((8, 3), (3,))])
    """
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


def _ask_layers(call: Call, arguments: dict[str, Any]) -> None:
    """Ask for layers that fit the batch and each other, and for statistics where they are evaluated."""
    params, running = arguments["params"], arguments["running"]
    if not params or any(len(layer) not in (2, 4) for layer in params) or len(params[-1]) != 2:
        raise ValueError(
            "mlp: params must be layers (weight, bias) or (weight, bias, gamma, beta), the last (weight, bias); "
            f"got lengths {[len(layer) for layer in params]}."
        )
    if running is not None and len(running) != len(params):
        raise ValueError(f"mlp: running must have one entry a layer, {len(params)}; got {len(running)}.")
    arrays: list[tuple[str, str, Any]] = [("x", "N D0", arguments["x"])]
    for depth, layer in enumerate(params):
        width = f"D{depth + 1}"
        arrays.append((f"params[{depth}][0]", f"D{depth} {width}", layer[0]))
        arrays += [(f"params[{depth}][{i}]", width, x) for i, x in enumerate(layer) if i]
        if len(layer) == 4 and not arguments["training"]:
            statistics = running[depth] if running else None
            if not isinstance(statistics, tuple) or len(statistics) != 2:
                raise ValueError(
                    "mlp: evaluation needs running=(mean, variance) of each batch norm; see initial_running."
                )
            arrays += [(f"running[{depth}][{i}]", width, x) for i, x in enumerate(statistics)]
    floats(call.name, arrays)


def initial_running(params: tuple[Layer, ...]) -> tuple[Statistics, ...]:
    """Return running statistics to start from: mean 0 and variance 1 for each batch norm, ``()`` for other layers.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.encoder import he_init, initial_running
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
    >>> from refcl.walk.encoder import he_init, initial_running, mlp, updated_running
    >>> params = he_init(np.random.default_rng(0), (3, 2, 1), batch_norm=True)
    >>> h, cache = mlp.forward(np.eye(3), params)
    >>> (mean, variance), _ = updated_running(cache, initial_running(params), momentum=1.0)
    >>> bool(np.allclose(variance, params[0][0].var(axis=0, ddof=1)))  # the first layer's outputs are its weights
    True
    """
    if not 0.0 < momentum <= 1.0:
        raise ValueError(f"updated_running: momentum must be > 0 and <= 1, got {momentum}.")
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
        Where a width is below 1, fewer than two are given, or the dtype is another.

    References
    ----------
    He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", ICCV 2015, Eq. 10.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.encoder import he_init
    >>> [weight.shape for weight, bias in he_init(np.random.default_rng(0), (64, 256, 32))]
    [(64, 256), (256, 32)]
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"he_init: widths must be at least two numbers >= 1, got {tuple(widths)}.")
    if dtype not in ("float32", "float64"):
        raise ValueError(f'he_init: dtype must be "float64" or "float32", got {dtype!r}.')
    params: list[Layer] = []
    for depth, (fan_in, fan_out) in enumerate(pairwise(widths)):
        weight = (rng.standard_normal((fan_in, fan_out)) * (2.0 / fan_in) ** 0.5).astype(dtype)
        layer: Layer = (weight, zeros((fan_out,), like=weight))
        if batch_norm and depth < len(widths) - 2:
            layer = (*layer, ones((fan_out,), like=weight), zeros((fan_out,), like=weight))  # gamma, beta
        params.append(layer)
    return tuple(params)


mlp = room(mlp_forward, mlp_backward, x=Floats("N D_in"), training=flag, also=_ask_layers)
