"""The door: a call is checked once, walks or goes strip by strip, and returns its value and its named gradients.

In:  a declaration (name, arguments, documentation) and two plain functions, ``name_forward`` and ``name_backward``.
Out: a callable that returns ``value, grads``, with one gradient per positional argument, named ``d`` + the argument.
Behind the door nobody asks again: a forward and a backward trust what they are given.

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
from difflib import get_close_matches
from functools import cached_property, update_wrapper
from typing import Any, Generic, NoReturn, ParamSpec, TypeAlias, TypeVar, get_args

from refcl.core.agreement import Call, floats
from refcl.core.arguments import ARGUMENTS, Check, diagonal
from refcl.core.arrays import ones

P = ParamSpec("P")
Value = TypeVar("Value")
Gradients = TypeVar("Gradients")
Result = TypeVar("Result")

# Fewer similarities than this are no work for any strips, which are not even imported for them.
ENTRIES_FOR_STRIPS = 1 << 12

_NOTHING = object()  # no argument is this


class Door:
    """Binds the arguments of a call to their names and asks each of them once.

    Parameters
    ----------
    function : callable
        Its signature names the arguments: positional ones, and keyword-only settings with their defaults.
    asks : dict
        What is asked of an argument where it is not what `refcl.core.arguments.ARGUMENTS` says: another shape, or
        another check. Under ``also`` a function of the call and of all arguments by name, for what no table can ask.
    """

    def __init__(self, function: Callable[..., Any], asks: dict[str, Any]) -> None:
        parameters = inspect.signature(function).parameters.values()
        self.name = function.__name__.removesuffix("_forward")
        self.function = function
        self.arguments = tuple([p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD])
        self.settings = tuple([p.name for p in parameters if p.kind is p.KEYWORD_ONLY])
        self.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        self._names = frozenset((*self.arguments, *self.settings))
        self._also = asks.get("also")
        asked = {name: _asked(name, asks.get(name)) for name in (*self.arguments, *self.settings)}
        self._floats = [(name, one) for name, one in asked.items() if hasattr(one, "each")]
        self.shapes = {name: one.shape for name, one in self._floats if hasattr(one, "shape")}
        others = {name: one for name, one in asked.items() if one and not hasattr(one, "each")}
        self._others = [(name, check, self._left_out(name, check)) for name, check in others.items()]
        # what a call without settings is asked: not what is left out and right as it is
        self._bare = [one for one in self._others if one[0] in (*self.arguments, "positive") or one[2] is _NOTHING]

    def __call__(self, inputs: tuple[Any, ...], settings: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
        """Return what is known of a call, and all its arguments by name, made ready."""
        ready = self.bind(inputs, settings)
        arrays: list[tuple[str, str, Any]] = []
        for name, asked in self._floats:
            value = ready[name]
            # None is "left out" where that is the default
            if value is not None or self.defaults.get(name, "") is not None:
                arrays += asked.each(self.name, name, value)
        call = floats(self.name, arrays) if arrays else Call(self.name, None, None, {})
        for name, check, left_out in self._others if settings else self._bare:
            value = ready[name]
            if value is not left_out:
                ready[name] = check(call, name, value)
            elif name == "positive" and ready.get("targets") is None:
                diagonal(call)
        if self._also is not None:
            self._also(call, ready)
        return call, ready

    def _left_out(self, name: str, check: Check) -> Any:
        """Return the default that needs no asking: None, or a setting that its check returns as it is."""
        default = self.defaults.get(name, _NOTHING)
        if default is None or default is _NOTHING:
            return default
        try:
            return default if check(Call(self.name, None, None, {}), name, default) is default else _NOTHING
        except (TypeError, ValueError, AttributeError, KeyError):  # it looks at the other arguments
            return _NOTHING

    def bind(self, inputs: tuple[Any, ...], settings: dict[str, Any]) -> dict[str, Any]:
        """Return all arguments by name, or raise what Python raises for a call that does not fit."""
        given = dict(zip(self.arguments, inputs, strict=False))
        ready = {**self.defaults, **given, **settings}
        if len(inputs) > len(self.arguments) or ready.keys() != self._names or not given.keys().isdisjoint(settings):
            self._refuse(inputs, settings)
        return ready

    def _refuse(self, inputs: tuple[Any, ...], settings: dict[str, Any]) -> NoReturn:
        for name in settings:
            if name not in self._names:
                near = get_close_matches(name, self._names, n=1)
                advice = f"did you mean {near[0]}?" if near else f"expected {', '.join(sorted(self._names))}."
                raise TypeError(f"{self.name}: there is no argument {name}; {advice}")
        try:
            inspect.signature(self.function).bind(*inputs, **settings)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}; see help(refcl.{self.name}).") from None
        raise AssertionError("a call that fits was refused")


def _asked(name: str, instead: Any) -> Any:
    """Return what is asked of an argument: the table's, or that with another shape, or something else."""
    if isinstance(instead, str):
        kind: Any = ARGUMENTS[name]
        return kind._replace(shape=instead)
    return ARGUMENTS.get(name) if instead is None else instead


def checked(**asks: Any) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Put a door before a function that has no gradient: its body gets every argument made ready.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.core.pair import checked
    >>> @checked(s="N M")
    ... def spread(s, *, reduction="mean"):
    ...     return float(s.max() - s.min())
    >>> spread(np.ones((2, 3), dtype=int))
    Traceback (most recent call last):
    TypeError: spread: s is int64; expected float32 or float64. Convert it to one of them first.
    """

    def behind_a_door(function: Callable[P, Result]) -> Callable[P, Result]:
        door = Door(function, asks)

        def call(*inputs: P.args, **settings: P.kwargs) -> Result:
            _, ready = door(inputs, settings)
            return function(**ready)  # type: ignore[call-arg]

        return update_wrapper(call, function)

    return behind_a_door


class Pair(Generic[P, Value, Gradients]):
    """A function and its gradient.

    Parameters
    ----------
    forward : callable
        ``forward(*inputs, **settings) -> value, cache``. Its positional parameters get gradients; its keyword-only
        parameters are settings.
    backward : callable
        ``backward(dvalue, cache) -> grads``: one gradient per positional parameter of ``forward``, in order. A forward
        whose value is a tuple has a backward that takes one upstream gradient for each.

    Notes
    -----
    Called, it returns ``value, grads`` for an ``upstream`` gradient, by default ones. Its methods ``forward`` and
    ``backward`` are the two halves, checked as the call is.

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

    __wrapped__: Callable[..., Any]

    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        *,
        declaration: Callable[P, tuple[Value, Gradients]] | None = None,
        asks: dict[str, Any] | None = None,
    ) -> None:
        self._forward, self._backward = forward, backward
        declared: Any = declaration or forward
        update_wrapper(self, declared)
        self.__name__ = self.__qualname__ = declared.__name__.removesuffix("_forward")
        signature = inspect.signature(declared)
        parameters = list(signature.parameters.values())
        self.arguments = tuple([p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD])
        self.settings = tuple([p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "upstream"])
        self._door = None if declaration is None else Door(declaration, asks or {})
        if "upstream" not in signature.parameters:
            upstream = inspect.Parameter("upstream", inspect.Parameter.KEYWORD_ONLY, default=None)
            last = next((i for i, p in enumerate(parameters) if p.kind is p.VAR_KEYWORD), len(parameters))
            self.__signature__ = signature.replace(parameters=[*parameters[:last], upstream, *parameters[last:]])

    @cached_property
    def Grads(self) -> Callable[..., Any]:
        """What a call returns its gradients in: the class that the declaration names, or else one made here."""
        returned = get_args(self.__wrapped__.__annotations__.get("return"))
        if self.__wrapped__ is not self._forward:
            return returned[1]  # type: ignore[no-any-return]
        fields = [f"d{argument}" for argument in self.arguments]
        made: Any = namedtuple("Grads", fields)  # type: ignore[misc]
        made.__module__, made.__qualname__ = self.__module__, f"{self.__qualname__}.Grads"  # by which it pickles
        return made

    def __call__(self, *inputs: P.args, **settings: P.kwargs) -> tuple[Value, Gradients]:
        options: dict[str, Any] = dict(settings)
        upstream = options.pop("upstream", None)  # asked when the value is there, which it must be like
        call, arguments, options = self._enter(inputs, options)
        tile = options.pop("tile", None)
        if upstream is not None and options.get("reduction", "none") != "none":
            raise ValueError(
                f'{self.__name__}: upstream goes with reduction="none" only; '
                "scale the gradients of a reduced loss yourself."
            )
        strips = None if call is None else self._strips(call, tile)
        if strips is not None and call is not None:
            if upstream is not None:
                floats(self.__name__, [("value", "...", call.like), ("upstream", "...", upstream)])
            value, grads = strips(*arguments, **options, tile=tile, upstream=upstream)
            if upstream is not None:
                self._upstreams(upstream, value)
            return value, self.Grads(*grads)
        value, cache = self._forward(*arguments, **options)
        grads = self._backward(*self._upstreams(upstream, value), cache)
        return value, self.Grads(*(grads if len(self.arguments) > 1 else (grads,)))

    @property
    def shapes(self) -> dict[str, str]:
        """The shape of each array of floats, as a word of letters."""
        return {} if self._door is None else self._door.shapes

    def bind(self, *inputs: Any, **settings: Any) -> dict[str, Any]:
        """Return all arguments of a call by name, those left out at their defaults, without looking at any of them."""
        door = self._door or Door(self.__wrapped__, {})
        bound = door.bind(inputs, settings)
        bound.pop("upstream", None)
        return bound

    def forward(self, *inputs: Any, **settings: Any) -> tuple[Any, Any]:
        """Check the arguments as a call does, and return the value and the cache that `backward` reads."""
        _, arguments, options = self._enter(inputs, settings)
        if options.pop("tile", None) is not None:
            raise TypeError(f"{self.__name__}.forward: there is no argument tile; the walk goes through whole rooms.")
        return self._forward(*arguments, **options)  # type: ignore[no-any-return]

    def backward(self, *dvalues_and_cache: Any, **settings: Any) -> Any:
        """Return the gradients, one per positional argument, for the upstream gradient of each value and a cache."""
        *dvalues, cache = dvalues_and_cache
        if self._door is not None:
            floats(self.__name__, [("upstream", "...", dvalue) for dvalue in dvalues])
        return self._backward(*dvalues, cache, **settings)

    def _enter(
        self, inputs: tuple[Any, ...], settings: dict[str, Any]
    ) -> tuple[Call | None, tuple[Any, ...], dict[str, Any]]:
        """Return what is known of a call, its positional arguments and its settings, all made ready."""
        if self._door is None:
            return None, inputs, settings
        call, ready = self._door(inputs, settings)
        ready.pop("upstream", None)
        return call, tuple(map(ready.pop, self.arguments)), ready

    def _strips(self, call: Call, tile: int | None) -> Callable[..., Any] | None:
        """Return the function that computes this call strip by strip, or None where it walks."""
        if "tile" not in self.settings:
            return None
        sizes = call.sizes
        if tile is None and sizes["N"] * sizes.get("M", sizes["N"]) < ENTRIES_FOR_STRIPS:
            return None
        from refcl import strips  # a wing of its own, which a small call does without

        return strips.chosen(call, tile)

    def _upstreams(self, upstream: Any, value: Any) -> list[Any]:
        """Return the upstream gradient of each value: ones, or those given, which must be like the values."""
        values = value if isinstance(value, tuple) else (value,)
        if upstream is None:
            return [ones(y.shape, like=y) for y in values]
        upstreams = list(upstream) if isinstance(value, tuple) else [upstream]
        for dvalue, y in zip(upstreams, values, strict=True):
            floats(self.__name__, [("value", "...", y), ("upstream", "...", dvalue)])
            if dvalue.shape != y.shape:
                raise ValueError(
                    f"{self.__name__}: upstream must have the shape of the value, {tuple(y.shape)}; "
                    f"got {tuple(dvalue.shape)}."
                )
        return upstreams

    def __reduce__(self) -> str:
        """Pickle a pair by its name: it is the one of its module, before a call and after it."""
        return str(self.__qualname__)

    def __repr__(self) -> str:
        plain = [p.replace(annotation=p.empty) for p in inspect.signature(self).parameters.values()]
        return f"<refcl pair {self.__name__}{inspect.Signature(plain)}>"


def value_signature(pair: "AnyPair") -> inspect.Signature:
    """Return how a pair is called for its value alone, where a framework passes the upstream gradient by itself."""
    parameters = [p.replace(annotation=p.empty) for p in inspect.signature(pair).parameters.values()]
    return inspect.Signature([p for p in parameters if p.name != "upstream"])


def room(forward: Callable[..., Any], backward: Callable[..., Any], **asks: Any) -> "AnyPair":
    """Make a pair of two functions whose forward is its own declaration, with a door as `pair` gives it."""
    return Pair(forward, backward, declaration=forward, asks=asks)


AnyPair: TypeAlias = Pair[..., Any, Any]


def pair(**asks: Any) -> Callable[[Callable[P, tuple[Value, Gradients]]], Pair[P, Value, Gradients]]:
    """Make a pair of a declaration: a signature, a documentation and no body.

    Its two halves are the functions ``name_forward`` and ``name_backward`` that stand above it.

    Parameters
    ----------
    **asks
        What is asked of an argument where it is not what every argument of that name is asked: see `Door`.

    Examples
    --------
    >>> from refcl import triplet
    >>> triplet.arguments, triplet.settings
    (('s',), ('margin', 'positive', 'ignore', 'reduction'))
    """

    def of(declaration: Callable[P, tuple[Value, Gradients]]) -> Pair[P, Value, Gradients]:
        module: dict[str, Any] = declaration.__globals__
        forward, backward = (module[f"{declaration.__name__}_{half}"] for half in ("forward", "backward"))
        return Pair(forward, backward, declaration=declaration, asks=asks)

    return of
