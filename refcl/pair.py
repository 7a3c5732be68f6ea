"""A forward and its backward as one value.

In:  two plain functions, ``name_forward`` and ``name_backward``.
Out: a callable that returns ``value, grads``, with one gradient per positional argument, named ``d`` + the argument.

>>> import numpy as np
>>> import refcl
>>> s = np.array([[0.8, 0.5, 0.1, -0.3, 0.7]])
>>> loss, grads = refcl.softmax_contrastive(s, 0.2)
>>> float(loss), float(grads.dtemperature)
(0.6226951958..., 2.0551268...)
"""

import inspect
from collections import namedtuple
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

from refcl.backend import Array, ones
from refcl.validate import floats


class Both(NamedTuple):
    """What a pair passes for ``tile``: the gradient will be asked for next, so one pass can make it with the value.

    Only losses that can be computed a strip at a time have that setting, and only their strips make use of it.
    """

    tile: Any  # what the caller passed
    upstream: Any  # None where it is 1


class Pair:
    """A function and its gradient.

    Parameters
    ----------
    forward : callable
        ``forward(*inputs, **settings) -> value, cache``. Its positional parameters get gradients; its keyword-only
        parameters are settings.
    backward : callable
        ``backward(dvalue, cache) -> grads``: one gradient per positional parameter of ``forward``, in order. A forward
        whose value is a tuple has a backward that takes one upstream gradient for each.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import Pair
    >>> def square_forward(x):
    ...     return x * x, x
    >>> def square_backward(dy, x):
    ...     return 2 * x * dy
    >>> square = Pair(square_forward, square_backward)
    >>> y, grads = square(np.array([3.0]))
    >>> grads.dx
    array([6.])
    """

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        signature = inspect.signature(forward)
        parameters = list(signature.parameters.values())
        self.forward = forward
        self.backward = backward
        self.arguments = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        self.settings = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
        self.__name__ = self.__qualname__ = forward.__name__.removesuffix("_forward")
        self.__module__ = forward.__module__
        self.__doc__ = forward.__doc__
        self.__wrapped__ = forward
        upstream = inspect.Parameter("upstream", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Array)
        self.__signature__ = signature.replace(parameters=[*parameters, upstream])

    @cached_property
    def Grads(self) -> Callable[..., Any]:
        """What a call returns its gradients in: a named tuple, made once it is needed, since a class takes its time."""
        return namedtuple("Grads", [f"d{argument}" for argument in self.arguments])

    def __call__(self, *inputs: Any, upstream: Any = None, **settings: Any) -> tuple[Any, Any]:
        if "tile" in self.settings:
            settings["tile"] = Both(settings.get("tile"), upstream)
        value, cache = self.forward(*inputs, **settings)
        several = isinstance(value, tuple)
        if upstream is None:
            upstreams = [ones(y.shape, like=y) for y in (value if several else (value,))]
        else:
            upstreams = list(upstream) if several else [upstream]
            self._check_upstream(upstreams, value if several else (value,), settings)
        grads = self.backward(*upstreams, cache)
        return value, self.Grads(*(grads if len(self.arguments) > 1 else (grads,)))

    def __repr__(self) -> str:
        return f"<refcl pair {self.__name__}{self.__signature__}>"

    def _check_upstream(self, upstreams: list[Any], values: tuple[Any, ...], settings: dict[str, Any]) -> None:
        if "reduction" in self.settings and settings.get("reduction", "mean") != "none":
            raise ValueError(
                f'{self.__name__}: upstream goes with reduction="none" only; '
                "scale the gradients of a reduced loss yourself."
            )
        for dvalue, value in zip(upstreams, values, strict=True):
            floats(self.__name__, value=(value, "..."), upstream=(dvalue, "..."))
            if dvalue.shape != value.shape:
                raise ValueError(
                    f"{self.__name__}: upstream must have the shape of the value, {tuple(value.shape)}; "
                    f"got {tuple(dvalue.shape)}."
                )
