"""The questions asked of every input, and the sentences said when the answer is no.

In:  what a caller passed.  Out: the namespace of the arrays, or the value made ready; otherwise a TypeError or a
ValueError that says what was expected, what came and what to do.
Only metadata and Python scalars are looked at: reading what an array holds would make a GPU wait.
"""

import math
import numbers
from functools import cache
from typing import Any, NamedTuple, NoReturn

from refcl.backend import Array, Library, Namespace, constant, library_of, namespace

REDUCTIONS = ("mean", "sum", "none")
REAL = (float, int, numbers.Real)  # the first two are Python's own, which are what mostly comes and are known at once


class Asked(NamedTuple):
    """What is asked of one array."""

    argument: str
    letters: str  # its shape, a word of them; "..." where any will do
    dtype: Any
    shape: tuple[int, ...]
    device: str


_AGREED: dict[tuple[Any, ...], Namespace] = {}  # what went together before: it is not looked at again
_MOST_AGREED = 1024


def floats(name: str, /, **arrays: tuple[Any, str]) -> Namespace:
    """Check floating-point arrays against their shapes, and return their namespace.

    A shape is a word of letters, ``query=(query, "N D"), key=(key, "M D")``: a letter stands for one number throughout.
    All arrays must come from one library and one device and share one dtype, float32 or float64.
    """
    try:
        seen = tuple([(letters, type(x), x.dtype, x.shape, str(x.device)) for x, letters in arrays.values()])
        return _AGREED[seen]
    except (AttributeError, KeyError, TypeError, ValueError):
        pass  # no arrays, or new ones: they are looked at below, where no error has this one behind it
    xp = one_library([_library(name, argument, x) for argument, (x, _) in arrays.items()])
    _agree(name, xp, [Asked(n, letters, x.dtype, x.shape, str(x.device)) for n, (x, letters) in arrays.items()])
    if len(_AGREED) >= _MOST_AGREED:
        _AGREED.clear()
    _AGREED[seen] = xp
    return xp


def _agree(name: str, xp: Namespace, asked: list[Asked]) -> None:
    """Refuse arrays that do not go together."""
    first, *others = asked
    if first.dtype not in (xp.float32, xp.float64):
        _refuse_dtype(name, first)
    for other in others:
        if other.dtype != first.dtype:
            if other.dtype not in (xp.float32, xp.float64):
                _refuse_dtype(name, other)
            raise TypeError(
                f"{name}: {first.argument} is {_bare(first.dtype)} and {other.argument} is {_bare(other.dtype)}; "
                "expected one dtype. Convert one of them first."
            )
        if other.device != first.device:
            raise TypeError(
                f"{name}: {first.argument} is on device {first.device} and {other.argument} on {other.device}; "
                "move one of them first."
            )
    earlier: dict[str, tuple[int, Asked]] = {}
    for one in asked:
        if one.letters == "...":
            continue
        letters = one.letters.split()
        if len(one.shape) != len(letters):
            expected = f"({', '.join(letters)}{',' if len(letters) == 1 else ''})"
            raise ValueError(f"{name}: {one.argument} must have shape {expected}; got {one.shape}.")
        for letter, size in zip(letters, one.shape, strict=True):
            agreed, other = earlier.setdefault(letter, (size, one))
            if size != agreed:
                raise ValueError(
                    f"{name}: {other.argument} and {one.argument} must agree on {letter}; "
                    f"got {other.argument} {other.shape} and {one.argument} {one.shape}."
                )
            if size == 0:
                raise ValueError(f"{name}: {one.argument} is empty; got shape {one.shape}.")


def one_library(libraries: list[Library]) -> Namespace:
    """Return the namespace of libraries that must all be one."""
    first = libraries[0]
    for library in libraries:
        if library.name != first.name:
            names = {library.name for library in libraries}
            advice = "move one with cupy.asarray(...) or cupy.asnumpy(...)" if "cupy" in names else "convert one first"
            raise TypeError(f"expected arrays from one library, got {' and '.join(sorted(names))}; {advice}.")
    return first.xp


def companion(name: str, argument: str, x: Any, *, kind: str, shape: tuple[int, ...], like: Array) -> Array:
    """Check an array of integers or booleans that goes with the floating-point array ``like``."""
    library = _library(name, argument, x)
    xp = one_library([_library(name, argument, like), library])
    if not _is_of(xp, x.dtype, kind):
        raise TypeError(f"{name}: {argument} is {dtype_name(x)}; expected an array of {kind}s of shape {shape}.")
    if tuple(x.shape) != shape:
        raise ValueError(f"{name}: {argument} must have shape {shape}; got {tuple(x.shape)}.")
    return x


@cache
def _is_of(xp: Namespace, dtype: Any, kind: str) -> bool:
    return bool(dtype == xp.bool if kind == "boolean" else xp.isdtype(dtype, "integral"))


def scalar(name: str, argument: str, value: Any, *, like: Array, positive: bool = False) -> Array:
    """Return a scalar, of Python, of NumPy or a 0-d array, as a 0-d array beside ``like``.

    A scalar of the host must be finite, and > 0 where ``positive``, in the dtype of ``like`` too. What a 0-d array
    holds is not looked at.
    """
    if isinstance(value, REAL) and not isinstance(value, bool):
        number = _number(value)
        if not math.isfinite(number) or (positive and number <= 0.0):
            raise ValueError(f"{name}: {argument} must be {'> 0 and ' if positive else ''}finite, got {value}.")
        smallest, largest = _normal_numbers(namespace(like), like.dtype)
        if abs(number) > largest or (positive and number < smallest):
            bounds = f"between {smallest:.1e} and {largest:.1e}" if positive else f"at most {largest:.1e} in size"
            raise ValueError(f"{name}: {argument} must be {bounds} in {dtype_name(like)}, got {value}.")
        return constant(number, like=like)
    library = library_of(value)
    if library is None or value.ndim != 0:
        came = f"an array of shape {tuple(value.shape)}" if library else type(value).__name__
        raise TypeError(f"{name}: {argument} must be a number or a 0-d array, got {came}.")
    if value.dtype != like.dtype:
        raise TypeError(
            f"{name}: {argument} is {dtype_name(value)} and the inputs are {dtype_name(like)}; "
            "expected one dtype. Convert it first, or pass a number."
        )
    floats(name, inputs=(like, "..."), **{argument: (value, "")})
    return value


@cache
def _normal_numbers(xp: Namespace, dtype: Any) -> tuple[float, float]:
    info = xp.finfo(dtype)
    return float(info.smallest_normal), float(info.max)


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer too large for any float
        return math.inf


def setting(name: str, argument: str, value: Any, *, above: float, at_least: bool = False) -> float:
    """Return a real setting of the host that must be finite and > ``above`` (or >= it)."""
    if not isinstance(value, REAL) or isinstance(value, bool):
        raise TypeError(f"{name}: {argument} must be a number, got {type(value).__name__}.")
    number = _number(value)
    if not math.isfinite(number) or number < above or (number == above and not at_least):
        bound = "" if above == -math.inf else f"{'>=' if at_least else '>'} {above:g} and "
        raise ValueError(f"{name}: {argument} must be {bound}finite, got {value}.")
    return number


def share(name: str, argument: str, value: Any) -> float:
    """Return a share of a whole that leaves something: a real setting in [0, 1)."""
    number = setting(name, argument, value, above=0.0, at_least=True)
    if number >= 1.0:
        raise ValueError(f"{name}: {argument} must be < 1, got {value}.")
    return number


def hardest(name: str, value: Any) -> float | int:
    """Return how many of the hardest negatives to keep: a float is a fraction in (0, 1], an int a count >= 1."""
    if isinstance(value, bool) or not isinstance(value, REAL):
        raise TypeError(
            f"{name}: hardest must be a fraction (float in (0, 1]) or a count (int >= 1), got {type(value).__name__}."
        )
    if isinstance(value, numbers.Integral):
        if value < 1:
            raise ValueError(f"{name}: hardest as a count must be >= 1, got {value}.")
        return int(value)
    if not 0.0 < float(value) <= 1.0:
        raise ValueError(f"{name}: hardest as a fraction must be in (0, 1], got {value}; pass an int to give a count.")
    return float(value)


def reduction(name: str, value: Any) -> str:
    """Return the name of a reduction."""
    if value not in REDUCTIONS:
        raise ValueError(f'{name}: reduction must be "mean", "sum" or "none", got {value!r}.')
    return str(value)


def choice(name: str, argument: str, value: Any, options: tuple[str, ...]) -> str:
    """Return a setting that is one of a few words."""
    if value not in options:
        words = ", ".join(f'"{option}"' for option in options[:-1])
        raise ValueError(f'{name}: {argument} must be {words} or "{options[-1]}", got {value!r}.')
    return str(value)


def dtype_name(x: Array) -> str:
    """Return the bare name of an array's dtype, alike in every library."""
    return _bare(x.dtype)


def _library(name: str, argument: str, x: Any) -> Library:
    library = library_of(x)
    if library is None:
        root = type(x).__module__.partition(".")[0]
        came = f"{root}.{type(x).__name__}" if root == "torch" else type(x).__name__
        convert = "tensor.detach().cpu().numpy()" if root == "torch" else "numpy.asarray(...)"
        raise TypeError(
            f"{name}: {argument} is {came}; expected an array of NumPy, CuPy or the array API standard. "
            f"Convert it with {convert} first."
        )
    return library


def _refuse_dtype(name: str, one: Asked) -> NoReturn:
    came = _bare(one.dtype)
    advice = " Convert it to one of them first."
    if came in ("float16", "bfloat16"):
        advice = (
            " Sums of exponentials lose everything in half precision: convert to float32 first, and the gradients back."
        )
    raise TypeError(f"{name}: {one.argument} is {came}; expected float32 or float64.{advice}")


def _bare(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]
