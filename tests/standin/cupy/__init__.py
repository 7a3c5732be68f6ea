"""A CuPy with NumPy inside, for machines without a GPU: what CuPy refuses it refuses, and what waits it records.

Every call is bound against the signatures of a real CuPy (``signatures.json``, written by ``tests/standin/dump.py``),
so that a keyword of NumPy's that CuPy does not have is a TypeError here too. Arrays of 0 dimensions stay arrays, an
index out of range wraps, and NumPy's arrays are taken by ``asarray`` and ``array`` only.

``waits`` lists what makes the host wait for the device (a number read, a mask counted, an array fetched or walked
through), ``copies`` what is copied from the host: each an entry of what happened, and the line that asked for it.
"""

import functools
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import cuda
from . import random as random

_KNOWN = json.loads((Path(__file__).parent / "signatures.json").read_text(encoding="utf-8"))
__version__ = _KNOWN["version"]

waits: list[str] = []
copies: list[str] = []


def _record(what: str, into: list[str]) -> None:
    frame = sys._getframe()
    while frame.f_code.co_filename == __file__:
        frame = frame.f_back
    into.append(f"{what} at {frame.f_code.co_filename}:{frame.f_lineno}")


def _signature(known: list[list[Any]]) -> inspect.Signature:
    return inspect.Signature(
        [
            inspect.Parameter(
                name, getattr(inspect.Parameter, kind), default=None if has_default else inspect.Parameter.empty
            )
            for name, kind, has_default in known
        ]
    )


def _host(x: Any) -> Any:
    """Return what NumPy calculates with in an argument's place; an array of NumPy's is refused, as CuPy does."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, tuple | list):
        return type(x)([_host(part) for part in x])
    return x


def _device(x: Any) -> Any:
    """Return a result as CuPy has it: what NumPy has as a scalar is an array of 0 dimensions."""
    if isinstance(x, np.ndarray | np.generic):
        return ndarray(np.asarray(x))
    return tuple([_device(part) for part in x]) if isinstance(x, tuple) else x


def _returning(result: Any, out: Any) -> Any:
    return out if out is not None else _device(result)


class ndarray:
    """An array of CuPy's, on no device at all."""

    __module__ = "cupy"
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 100

    def __init__(self, host: Any) -> None:
        self._host = host

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    base = property(lambda self: None if self._host.base is None else ndarray(self._host.base))
    T = property(lambda self: ndarray(self._host.T))
    mT = property(lambda self: ndarray(self._host.mT))
    device = property(lambda self: cuda.Device(0))

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array "
            "explicitly."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(x, np.ndarray) for x in inputs):
            raise TypeError(f"Unsupported type {np.ndarray}")
        return _device(getattr(ufunc, method)(*_host(inputs), **kwargs))

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self._host.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self._host.__dlpack_device__()

    def __len__(self) -> int:
        return len(self._host)

    def __repr__(self) -> str:
        return repr(self.get())

    def __getitem__(self, key: Any) -> Any:
        return ndarray(np.asarray(self._host[self._index(key)]))

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            _record("assignment of a NumPy array", copies)
            value = ndarray(value)
        self._host[self._index(key)] = _host(value) if not isinstance(value, np.ndarray) else value

    def _index(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        taken = sum(1 for part in parts if part is not None and part is not Ellipsis)
        made, axis = [], 0
        for part in parts:
            if part is Ellipsis:
                axis += self.ndim - taken
                made.append(part)
                continue
            if isinstance(part, np.ndarray | list):
                _record("an index of the host", copies)
                part = ndarray(np.asarray(part))
            if isinstance(part, ndarray):
                if part.dtype == bool:
                    _record("a boolean mask", waits)
                    made.append(part._host)
                    axis += part.ndim
                    continue
                made.append(part._host % self.shape[axis])  # CuPy wraps
            else:
                made.append(part)
            axis += part is not None
        return tuple(made)

    def __iter__(self) -> Any:
        _record("iteration", waits)
        return iter([self[i] for i in range(len(self))])

    def get(self, *args: Any, **kwargs: Any) -> Any:
        _bound("get", "methods").bind(*args, **kwargs)
        _record("get", waits)
        return self._host.copy()

    def item(self, *args: Any) -> Any:
        _record("item", waits)
        return self._host.item(*args)

    def tolist(self) -> Any:
        _record("tolist", waits)
        return self._host.tolist()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in _KNOWN["methods"]:
            raise AttributeError(f"'ndarray' object has no attribute {name!r}")
        return functools.partial(_method, name, self)


def _method(name: str, array: ndarray, *args: Any, **kwargs: Any) -> Any:
    _bound(name, "methods").bind(*args, **kwargs)
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    if name in ("nonzero",):
        _record(name, waits)
    result = getattr(array._host, name)(*_host(args), **{key: _host(value) for key, value in kwargs.items()})
    return _returning(result, kwargs.get("out"))


@functools.cache
def _bound(name: str, kind: str) -> inspect.Signature:
    return _signature(_KNOWN[kind][name])


def _reads(name: str, convert: Callable[[Any], Any]) -> None:
    def read(self: ndarray) -> Any:
        _record(name, waits)
        return convert(self._host)

    setattr(ndarray, f"__{name}__", read)


def _operator(name: str) -> None:
    def operate(self: ndarray, *other: Any) -> Any:
        if other and isinstance(other[0], np.ndarray) and not isinstance(other[0], np.generic):
            raise TypeError(f"Unsupported type {type(other[0])}")
        result = getattr(self._host, f"__{name}__")(*_host(other))
        return result if result is NotImplemented else _device(result)

    def in_place(self: ndarray, other: Any) -> Any:
        getattr(np, _UFUNCS[name])(self._host, _host(other), out=self._host, casting="same_kind")
        return self

    setattr(ndarray, f"__{name}__", operate)
    if name in _UFUNCS:
        setattr(ndarray, f"__r{name}__", lambda self, other: _device(getattr(self._host, f"__r{name}__")(_host(other))))
        setattr(ndarray, f"__i{name}__", in_place)


_UFUNCS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "matmul": "matmul", "lshift": "left_shift", "rshift": "right_shift",
}  # fmt: skip
for _name in (*_UFUNCS, "lt", "le", "eq", "ne", "gt", "ge", "neg", "pos", "abs", "invert"):
    _operator(_name)
for _name, _convert in (("bool", bool), ("int", int), ("float", float), ("complex", complex), ("index", int)):
    _reads(_name, _convert)


def _array(name: str, value: Any, *args: Any, **kwargs: Any) -> Any:
    """Be ``asarray`` or ``array``: the two that take what is on the host."""
    _bound(name, "functions").bind(value, *args, **kwargs)
    settings = {key: x for key, x in kwargs.items() if key in ("dtype", "order", "copy", "ndmin") and x is not None}
    if isinstance(value, ndarray):
        return ndarray(getattr(np, name)(value._host, *args, **settings))
    if isinstance(value, list | tuple) and any(isinstance(x, ndarray) for x in value):
        value = [x._host for x in value]
    else:
        _record(f"{name} of {type(value).__name__}", copies)
    return ndarray(np.array(value, *args, **{**settings, "copy": True}))


def _function(name: str, *args: Any, **kwargs: Any) -> Any:
    _bound(name, "functions").bind(*args, **kwargs)
    if name == "searchsorted" and not isinstance(args[1], ndarray):
        raise NotImplementedError("Only int or ndarray are supported for v")
    if name in ("nonzero", "flatnonzero", "argwhere", "unique", "array_equal", "allclose") or (
        name == "where" and len(args) == 1
    ):
        _record(name, waits)
    if name in ("take", "take_along_axis"):
        args = (args[0], _wrapped(args[0], args[1], kwargs.get("axis", args[2] if len(args) > 2 else None)), *args[2:])
    if name in ("sort", "argsort"):
        kwargs.setdefault("kind", "stable")
    if name in ("asnumpy",):
        _record(name, waits)
        return np.array(_host(args[0]))
    result = getattr(np, name)(*_host(args), **{key: _host(value) for key, value in kwargs.items()})
    return _returning(result, kwargs.get("out"))


def _wrapped(array: ndarray, indices: Any, axis: int | None) -> ndarray:
    return ndarray(np.asarray(_host(indices) % (array.size if axis is None else array.shape[axis])))


def _ufunc(name: str, *args: Any, **kwargs: Any) -> Any:
    taken = _KNOWN["ufuncs"][name]
    if not taken <= len(args) <= taken + 1 or not kwargs.keys() <= set(_KNOWN["ufunc_keywords"]):
        raise TypeError(f"{name}: wrong arguments: {len(args)} and {sorted(kwargs)}")
    out = kwargs.get("out", args[taken] if len(args) > taken else None)
    result = getattr(np, name)(*_host(args), **{key: _host(value) for key, value in kwargs.items()})
    return _returning(result, out)


def from_dlpack(array: Any) -> ndarray:
    """Return an array on the memory of another library's."""
    return ndarray(np.from_dlpack(array))


_OF_NUMPY = ("errstate", "geterr", "seterr", "isdtype", "result_type", "can_cast", "promote_types", "broadcast_shapes")


class _Pool:
    """The memory that is not there."""

    def free_all_blocks(self) -> None: ...

    def used_bytes(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return 0


def get_default_memory_pool() -> _Pool:
    """Return a pool that holds nothing."""
    return _Pool()


def __getattr__(name: str) -> Any:
    if name in ("asarray", "array", "ascontiguousarray"):
        return functools.partial(_array, name)
    if name in _KNOWN["ufuncs"]:
        return functools.partial(_ufunc, name)
    if name in _OF_NUMPY:
        return getattr(np, name)
    if name in _KNOWN["functions"]:
        return functools.partial(_function, name)
    if name in _KNOWN["others"]:
        return getattr(np, name)
    raise AttributeError(f"module 'cupy' has no attribute {name!r}")
