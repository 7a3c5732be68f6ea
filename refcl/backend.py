"""Which array library is this? In the walk, the only file that knows NumPy and CuPy apart.

In:  arrays.  Out: the namespace whose functions work on them (``xp`` everywhere else), and new arrays born beside them.
Everything past this file is written against what NumPy >= 2, CuPy >= 14 and the array API standard share.
"""

import sys
from typing import Any, NamedTuple, TypeAlias

import numpy as np

# An array of any library: what it must be able to do is the array API standard, which no type of Python's names.
Array: TypeAlias = Any
Namespace: TypeAlias = Any


class Library(NamedTuple):
    name: str  # how error messages call it
    xp: Namespace  # its functions


_NUMPY = Library("numpy", np)


def library_of(x: Any) -> Library | None:
    """Return the library that an object is an array of, or None where it is no array.

    CuPy is looked up among the modules that are already imported: whoever holds a CuPy array has imported it.
    """
    if isinstance(x, np.ndarray):
        return _NUMPY
    root = type(x).__module__.partition(".")[0]
    if root == "cupy" and "cupy" in sys.modules:
        return Library("cupy", sys.modules["cupy"])
    if hasattr(x, "__array_namespace__") and not isinstance(x, np.generic):
        return Library(root, x.__array_namespace__())
    return None


def namespace(x: Array) -> Namespace:
    """Return the functions that work on ``x``."""
    library = library_of(x)
    if library is None:
        raise TypeError(f"expected an array, got {type(x).__name__}; convert it with numpy.asarray(...) first.")
    return library.xp


def _beside(like: Array) -> tuple[Namespace, dict[str, Any]]:
    """Return a namespace, and what its creation functions must be told to put an array where ``like`` is."""
    xp = namespace(like)
    # NumPy has one device, and CuPy's functions take none: they use the current one, where `like` lives.
    return xp, {} if xp is np or xp.__name__ == "cupy" else {"device": like.device}


def constant(value: Any, *, like: Array) -> Array:
    """Return numbers of the host as an array of the dtype and device of ``like``."""
    xp, device = _beside(like)
    return xp.asarray(value, dtype=like.dtype, **device)


def integers(values: Any, *, like: Array) -> Array:
    """Return integers of the host as an array of the library's index type on the device of ``like``."""
    xp, device = _beside(like)
    return xp.asarray(values, dtype=xp.int64, **device)


def arange(n: int, *, like: Array) -> Array:
    """Return 0, 1, ..., n - 1 as integers on the device of ``like``."""
    xp, device = _beside(like)
    return xp.arange(n, dtype=xp.int64, **device)


def ones(shape: tuple[int, ...], *, like: Array) -> Array:
    """Return ones of the dtype and device of ``like``."""
    xp, device = _beside(like)
    return xp.ones(shape, dtype=like.dtype, **device)


def zeros(shape: tuple[int, ...], *, like: Array) -> Array:
    """Return zeros of the dtype and device of ``like``."""
    xp, device = _beside(like)
    return xp.zeros(shape, dtype=like.dtype, **device)


def row_dots(a: Array, b: Array) -> Array:
    """Return the inner product of each row of one matrix with that of another (N,); CuPy has no ``vecdot`` yet."""
    xp = namespace(a)
    return xp.vecdot(a, b) if hasattr(xp, "vecdot") else xp.sum(a * b, axis=-1)


def column_sums(a: Array) -> Array:
    """Return the sum of the rows of a matrix (D,); as a product BLAS has it in a third of the time."""
    return ones(a.shape[:1], like=a) @ a


def to_host(x: Array) -> Any:
    """Return an array's numbers as a NumPy array. It waits for the device: never called on the walk."""
    library = library_of(x)
    if library is None or library.name == "numpy":
        return np.asarray(x)
    return library.xp.asnumpy(x) if library.name == "cupy" else np.from_dlpack(x)
