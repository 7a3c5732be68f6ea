"""The arrays of floats of one call: from one library, on one device, of one dtype, of shapes that agree.

In:  an (argument, shape, array) each.  Out: what is known of the call; otherwise a TypeError or a ValueError that says
what was expected, what came and what to do.
Only metadata is looked at, and what went together before is not looked at again.
"""

import sys
from typing import Any, NamedTuple, NoReturn

import numpy as np

from refcl.core.arrays import Array, Library, Namespace, device_of, library_of


class Call(NamedTuple):
    """What is known of a call once its arrays of floats have been asked."""

    name: str  # of the public function: every sentence begins with it
    xp: Namespace
    like: Array  # the first array of floats: the others have its library, dtype and device
    sizes: dict[str, int]  # what each letter of a shape stands for


class _Seen(NamedTuple):
    """One array of floats, and what is asked of it."""

    argument: str
    letters: str
    dtype: Any
    shape: tuple[int, ...]
    device: str


_AGREED: dict[tuple[Any, ...], tuple[Namespace, dict[str, int]]] = {}  # what went together before
_MOST_AGREED = 1024


def floats(name: str, arrays: list[tuple[str, str, Any]]) -> Call:
    """Ask all arrays of floats of a call, each an (argument, shape, array).

    They must come from one library and one device, and share one dtype. A letter of the shapes stands for one number
    throughout.
    """
    seen = None
    try:
        seen = tuple([(letters, type(x), x.dtype, x.shape, str(x.device)) for _, letters, x in arrays])
        xp, sizes = _AGREED[seen]
    except (AttributeError, KeyError, TypeError, ValueError):
        pass  # no arrays, or new ones: they are looked at below, where no error has this one behind it
    else:
        return Call(name, xp, arrays[0][2], dict(sizes))
    xp = one_library(name, [(argument, array_library(name, argument, x)) for argument, _, x in arrays])
    sizes = _agree(
        name,
        xp,
        [_Seen(n, _of_dimensions(letters, x.ndim), x.dtype, x.shape, device_of(x)) for n, letters, x in arrays],
    )
    if xp.__name__ == "array_api_compat.torch":  # whether one requires a gradient is asked each time
        _ask_tensors(name, arrays)
    elif seen is not None:
        _remember(seen, xp, sizes)
    return Call(name, xp, arrays[0][2], dict(sizes))


def _remember(seen: tuple[Any, ...], xp: Namespace, sizes: dict[str, int]) -> None:
    if len(_AGREED) >= _MOST_AGREED:
        _AGREED.clear()
    _AGREED[seen] = xp, sizes


def _ask_tensors(name: str, arrays: list[tuple[str, str, Any]]) -> None:
    """Refuse tensors of PyTorch without numbers, and those whose gradient would get lost."""
    recorded = sys.modules["torch"].is_grad_enabled()
    for argument, _, x in arrays:
        if x.device.type == "meta":
            raise TypeError(
                f"{name}: {argument} is on device meta, where no numbers are; create it on a device that holds some."
            )
        if recorded and x.requires_grad:
            raise TypeError(
                f"{name}: {argument} requires a gradient, which would not flow on from here; refcl.torch has the "
                f"losses under autograd, such as refcl.torch.info_nce; or pass {argument}.detach()."
            )


def _of_dimensions(letters: str, ndim: int) -> str:
    """Return which of several shapes has that many dimensions, the first where none has."""
    shapes = letters.split(" | ")
    return next((shape for shape in shapes if len(shape.split()) == ndim), shapes[0])


def _agree(name: str, xp: Namespace, asked: list[_Seen]) -> dict[str, int]:
    """Refuse arrays that do not go together; returns what each letter stands for."""
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
    earlier: dict[str, tuple[int, _Seen]] = {}
    for one in asked:
        if one.letters == "...":
            continue
        letters = one.letters.split()
        if len(one.shape) != len(letters):
            expected = f"({', '.join(letters)}{',' if len(letters) == 1 else ''})"
            raise ValueError(f"{name}: {one.argument} must have shape {expected}; got {tuple(one.shape)}.")
        for letter, size in zip(letters, one.shape, strict=True):
            twice = earlier.get(letter[1:]) if letter[0] == "2" else None  # "2N" goes by N
            agreed, other = (2 * twice[0], twice[1]) if twice else earlier.setdefault(letter, (size, one))
            if size != agreed:
                raise ValueError(
                    f"{name}: {other.argument} and {one.argument} must agree on {letter}; "
                    f"got {other.argument} {tuple(other.shape)} and {one.argument} {tuple(one.shape)}."
                )
            if size == 0:
                raise ValueError(f"{name}: {one.argument} is empty; got shape {tuple(one.shape)}.")
    return {letter: size for letter, (size, _) in earlier.items()}


def one_library(name: str, arrays: list[tuple[str, Library]]) -> Namespace:
    """Return the namespace of arrays that must all come from one library, each an (argument, library)."""
    (first, library), *others = arrays
    for argument, other in others:
        if other.name != library.name:
            both = {library.name, other.name}
            advice = "Move one with cupy.asarray(...) or cupy.asnumpy(...)" if "cupy" in both else "Convert one first"
            verb = "are" if first == "the inputs" else "is"
            raise TypeError(
                f"{name}: {first} {verb} from {library.name} and {argument} from {other.name}; "
                f"expected arrays from one library. {advice}."
            )
    return library.xp


def array_library(name: str, argument: str, x: Any) -> Library:
    """Return the library of an array, or refuse what is no plain one."""
    library = library_of(x)
    if library is None:
        raise TypeError(
            f"{name}: {argument} is {type(x).__name__}; expected an array of NumPy, CuPy, PyTorch, JAX or the array "
            "API standard. Convert it with numpy.asarray(...) first."
        )
    if isinstance(x, np.ma.MaskedArray | np.matrix):
        convert = "numpy.asarray(...)" if isinstance(x, np.matrix) else ".filled(...), and pass the mask as ignore,"
        raise TypeError(
            f"{name}: {argument} is numpy.{type(x).__name__}, whose arithmetic is another; expected a plain array. "
            f"Convert it with {convert} first."
        )
    return library


def _refuse_dtype(name: str, one: _Seen) -> NoReturn:
    came = _bare(one.dtype)
    advice = " Convert it to one of them first."
    if came in ("float16", "bfloat16"):
        advice = (
            " Sums of exponentials lose everything in half precision: convert to float32 first, and the gradients back."
        )
    raise TypeError(f"{name}: {one.argument} is {came}; expected float32 or float64.{advice}")


def dtype_name(x: Array) -> str:
    """Return the bare name of an array's dtype, alike in every library."""
    return _bare(x.dtype)


def _bare(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]
