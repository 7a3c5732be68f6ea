"""What came back from other people's code, as arrays of numbers, or one sentence that says what came instead.

In:  what a candidate returned, or its signature.
Out: NumPy arrays.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from refcl.oracle.raised import CannotJudge

_value_alone: ContextVar[bool] = ContextVar("_value_alone", default=False)


@contextmanager
def value_alone() -> Iterator[None]:
    """Let adapters leave gradients out: of most that is measured the value is all that is looked at."""
    before = _value_alone.set(True)
    try:
        yield
    finally:
        _value_alone.reset(before)


def gradients_wanted() -> bool:
    return not _value_alone.get()


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return a signature; a PyTorch module's is that of its forward."""
    return inspect.signature(getattr(function, "forward") if hasattr(function, "named_parameters") else function)  # noqa: B009


def of_jax(function: Callable[..., Any]) -> bool:
    """Return whether JAX's transformations stand around a function, or its modules in it: each shape is compiled."""
    own = inspect.unwrap(function)
    held = inspect.getclosurevars(own) if inspect.isfunction(own) else None
    inside = (
        [] if held is None else [getattr(x, "__name__", "") for x in (*held.nonlocals.values(), *held.globals.values())]
    )
    around = getattr(getattr(function, "__code__", None), "co_filename", "")
    known = any(str(x).partition(".")[0] in ("jax", "jaxlib") for x in (type(function).__module__, *inside))
    return known or "/jax/_src/" in around


def array_gradient(given: Any, name: str, shape: tuple[int, ...]) -> Any:
    array = numbers(given, f"the gradient of {name}")
    if array.shape != shape:
        turned = array.ndim > 1 and np.swapaxes(array, -1, -2).shape == shape
        hint = f" It is transposed: return swapaxes(d{name}, -1, -2)." if turned else ""
        raise CannotJudge(f"the gradient of {name} has shape {array.shape}; expected {shape}.{hint}")
    return array


def numbers(x: Any, what: str, *, alone: bool = False) -> Any:
    """Return an array of floating-point numbers, or say what came instead; alone is what came without gradients."""
    library = type(x).__module__.partition(".")[0]
    if hasattr(x, "detach"):
        raise CannotJudge(f"{what} is a {library} tensor; wrap the function in from_torch.")
    if alone and library in ("jax", "jaxlib"):
        raise CannotJudge(f"{what} is a JAX array; wrap the function in from_jax, which also takes its gradients.")
    try:
        array = np.asarray(x)
    except Exception as error:
        raise CannotJudge(f"{what} can't be read as an array: {type(error).__name__}.") from None
    if array.dtype == object or array.dtype.kind in "SUV":
        raise CannotJudge(f"{what} is a {type(x).__name__}, not a number or an array of numbers.")
    if array.dtype.kind == "c":
        raise CannotJudge(f"{what} is complex.")
    if array.dtype.kind in "iub":
        raise CannotJudge(f"{what} is made of integers ({array.dtype}): something was rounded or truncated.")
    return array


def spacing(x: Any) -> float:
    # Half precision is held to single: its own error is a finding, not an excuse.
    if x.dtype.kind != "f" or x.dtype.itemsize < 4:
        return float(np.finfo(np.float32).eps)
    return max(float(np.finfo(x.dtype).eps), float(np.finfo(np.float64).eps))


def alike(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    if shape == ():
        return (), (1,), (1, 1)
    return (shape, (*shape, 1), (2, shape[0] // 2))


def said_shape(shape: tuple[int, ...]) -> str:
    return "a scalar" if shape == () else str(shape)
