"""Which array library is this? In the walk, the only file that knows one library from another.

In:  arrays.  Out: the namespace whose functions work on them (``xp`` everywhere else), and new arrays born beside them.
Everything past this file is written against what NumPy >= 2, CuPy >= 14 and the array API standard share. PyTorch and
JAX are guests: whoever holds one of their arrays has imported them, and array-api-compat says how they spell it.
"""

import importlib
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

# An array of any library: what it must be able to do is the array API standard, which no type of Python's names.
Array: TypeAlias = Any
Namespace: TypeAlias = Any


class AnyArray(Protocol):
    """What a caller may pass for an array, as far as a type checker can tell: no string, list or number."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def ndim(self) -> int: ...


Number: TypeAlias = float | AnyArray  # a scalar of Python or NumPy, or a 0-d array


class Library(NamedTuple):
    name: str  # how error messages call it
    xp: Namespace  # its functions


_NUMPY = Library("numpy", np)


def library_of(x: Any) -> Library | None:
    """Return the library that an object is an array of, or None where it is no array.

    All but NumPy are looked up among the modules that are already imported: whoever holds an array has imported its
    library. What stands for an array while a function is traced is one.
    """
    if isinstance(x, np.ndarray):
        return _NUMPY
    root = type(x).__module__.partition(".")[0]
    if root == "cupy" and "cupy" in sys.modules:
        return Library("cupy", sys.modules["cupy"])
    for guest, array, functions in GUESTS:
        if guest in sys.modules and isinstance(x, getattr(sys.modules[guest], array)):
            return Library(guest, _functions(functions))
    if hasattr(x, "__array_namespace__") and not isinstance(x, np.generic):
        return Library(root, x.__array_namespace__())
    return None


# Guests: a module, the type of its arrays, and the namespace of the standard's functions on them.
GUESTS = (("torch", "Tensor", "array_api_compat.torch"), ("jax", "Array", "jax.numpy"))


@cache
def _functions(name: str) -> Namespace:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"PyTorch's tensors need {error.name}; install it with: pip install array-api-compat.", name=error.name
        ) from None


def namespace(x: Array) -> Namespace:
    """Return the functions that work on ``x``."""
    if type(x) is np.ndarray:  # nearly always, and known at a glance
        return np
    library = library_of(x)
    if library is None:
        raise TypeError(f"expected an array, got {type(x).__name__}; convert it with numpy.asarray(...) first.")
    return library.xp


def device_of(x: Array) -> str:
    """Return where an array is, as error messages say it; JAX asks for itself, and what it traces is nowhere yet."""
    return "JAX's" if "jax" in sys.modules and isinstance(x, sys.modules["jax"].Array) else str(x.device)


def is_traced(x: Array) -> bool:
    """Return whether an array stands for others, whose numbers are not there to be looked at."""
    jax, torch = sys.modules.get("jax"), sys.modules.get("torch")
    if jax is not None and isinstance(x, jax.Array):
        return isinstance(x, jax.core.Tracer)
    if torch is None or not isinstance(x, torch.Tensor):
        return False
    stands_for_others = type(x) not in (
        torch.Tensor,
        torch.nn.Parameter,
    ) or torch._C._functorch.is_functorch_wrapped_tensor(x)
    return bool(stands_for_others or torch.compiler.is_compiling())


def looked_at(x: Array) -> Any | None:
    """Return a NumPy array of the same memory where looking costs nothing, else None."""
    if isinstance(x, np.ndarray):
        return x
    library = library_of(x)
    if library is None or library.name not in ("torch", "jax") or is_traced(x):
        return None
    if library.name == "torch":
        return x.detach().numpy() if x.device.type == "cpu" else None
    return np.asarray(x) if all(device.platform == "cpu" for device in x.devices()) else None


def lent(x: Array) -> Array | None:
    """Return an array of NumPy or CuPy on the memory of a guest's, None where there is none to lend."""
    on_host = looked_at(x)
    if on_host is not None or is_traced(x):
        return on_host
    try:
        return importlib.import_module("cupy").from_dlpack(x.detach() if hasattr(x, "detach") else x)
    except (ImportError, BufferError, RuntimeError, TypeError):  # no CuPy, or memory that is not its own
        return None


def given_back(x: Array, *, like: Array) -> Array:
    """Return an array of NumPy or CuPy as one of the library of ``like``, on the same memory."""
    return namespace(like).from_dlpack(x)


def _born_beside(like: Array) -> tuple[Namespace, dict[str, Any], AbstractContextManager[Any]]:
    """Return a namespace, and what puts its new arrays where ``like`` is: an argument, or a region of CuPy's."""
    xp = namespace(like)
    if xp.__name__ == "cupy":
        return xp, {}, like.device
    # NumPy has one device, and JAX moves what is committed nowhere to what it meets.
    return xp, {} if xp is np or xp.__name__ == "jax.numpy" else {"device": like.device}, _ANYWHERE


_ANYWHERE = nullcontext()


def _index_type(xp: Namespace) -> Any:
    return int if xp.__name__ == "jax.numpy" else xp.int64  # JAX has no 64 bits unless it is told to


def constant(value: Any, *, like: Array) -> Array:
    """Return numbers of the host as an array of the dtype and device of ``like``."""
    if type(like) is np.ndarray:
        return np.asarray(value, dtype=like.dtype)
    xp, device, there = _born_beside(like)
    with there:
        if isinstance(value, int | float) and xp.__name__ == "cupy":  # written by the device: nothing is copied to it
            return xp.full((), value, dtype=like.dtype)
        return xp.asarray(value, dtype=like.dtype, **device)


def integers(values: Any, *, like: Array) -> Array:
    """Return integers of the host as an array of the library's index type on the device of ``like``."""
    xp, device, there = _born_beside(like)
    with there:
        return xp.asarray(values, dtype=_index_type(xp), **device)


def arange(n: int, *, like: Array) -> Array:
    """Return 0, 1, ..., n - 1 as integers on the device of ``like``."""
    if type(like) is np.ndarray:
        return np.arange(n, dtype=np.int64)
    xp, device, there = _born_beside(like)
    with there:
        return xp.arange(n, dtype=_index_type(xp), **device)


def ones(shape: tuple[int, ...], *, like: Array) -> Array:
    """Return ones of the dtype and device of ``like``."""
    if type(like) is np.ndarray:
        return np.ones(shape, dtype=like.dtype)
    xp, device, there = _born_beside(like)
    with there:
        return xp.ones(shape, dtype=like.dtype, **device)


def zeros(shape: tuple[int, ...], *, like: Array) -> Array:
    """Return zeros of the dtype and device of ``like``."""
    xp, device, there = _born_beside(like)
    with there:
        return xp.zeros(shape, dtype=like.dtype, **device)


def row_dots(a: Array, b: Array) -> Array:
    """Return the inner product of each row of one matrix with that of another (N,).

    CuPy has no ``vecdot`` yet, and PyTorch's does not go under ``vmap``.
    """
    if type(a) is np.ndarray:
        return np.vecdot(a, b)
    return namespace(a).sum(a * b, axis=-1)


def overflow_ignored() -> AbstractContextManager[Any]:
    """Return a context in which NumPy does not warn of overflow; other libraries never do."""
    return np.errstate(over="ignore")


def row_lengths(x: Array) -> tuple[Array, Array, Array | float]:
    """Return the rows of a matrix so that they can be squared, their lengths (N, 1), and what they were divided by.

    That is 1 but for rows so long that their squares overflow: these are divided by their largest entry.
    """
    if type(x) is np.ndarray:
        squares = _squares(x)  # (N,)
        if np.maximum.reduce(squares) < np.inf:
            return x, np.sqrt(squares)[:, None], 1.0
    xp = namespace(x)
    with np.errstate(over="ignore"):
        squares = row_dots(x, x)[:, None]  # (N, 1)
    largest = xp.max(xp.abs(x), axis=1, keepdims=True)  # (N, 1)
    by = xp.where((squares == xp.inf) & (largest < xp.inf), largest, constant(1.0, like=x))  # (N, 1)
    rows = x / by
    return rows, xp.sqrt(row_dots(rows, rows))[:, None], by


@np.errstate(over="ignore")  # as a decorator, which costs every small call less than a with statement
def _squares(x: Any) -> Any:
    return np.vecdot(x, x)


def column_sums(a: Array) -> Array:
    """Return the sum of the rows of a matrix (D,); as a product BLAS has it in a third of the time."""
    return ones(a.shape[:1], like=a) @ a


def to_host(x: Array) -> Any:
    """Return an array's numbers as a NumPy array. It waits for the device: never called on the walk."""
    library = library_of(x)
    if library is None or library.name == "numpy":
        return np.asarray(x)
    if is_traced(x):
        raise TypeError(
            "expected arrays whose numbers can be looked at, got one that is traced; call this outside jit, vmap and "
            "compile."
        )
    if library.name == "cupy":
        return library.xp.asnumpy(x)
    return x.detach().cpu().numpy() if library.name == "torch" else np.from_dlpack(x)
