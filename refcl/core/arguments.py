"""Argument name -> what is asked of it, and the sentence that is said when the answer is no.

In:  what a caller passed.  Out: the value made ready; otherwise a TypeError or a ValueError that says what was
expected, what came and what to do.
Only the door calls this file (``refcl.core.pair``), once for every public call: what is behind it does not ask again.
Metadata and numbers of the host are looked at. What an array holds is looked at where that costs nothing: indices of
NumPy arrays and of guests on the CPU, outside any trace. Elsewhere reading would make a device wait, and an index out
of range comes out as NaN.
"""

import math
import numbers
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from refcl.core.agreement import Call, array_library, dtype_name, floats, one_library
from refcl.core.arrays import Array, Namespace, constant, library_of, looked_at

Reduction: TypeAlias = Literal["mean", "sum", "none"]

REAL = (float, int, numbers.Real)  # the first two are Python's own, which are what mostly comes and are known at once


class Floats(NamedTuple):
    """An array of float32 or float64. Those of one call are asked together, since they must agree."""

    shape: str  # a word of letters, "N D"; where several shapes will do, "M E | T M E"

    def each(self, name: str, argument: str, value: Any) -> list[tuple[str, str, Any]]:
        """Return what is asked together with the other arrays of a call: an (argument, shape, array) each."""
        return [(argument, self.shape, value)]


class Mask(NamedTuple):
    """An array of booleans."""

    shape: str

    def __call__(self, call: Call, argument: str, value: Any) -> Any:
        return _beside(call, argument, value, "boolean", self.shape)


class Integers(NamedTuple):
    """An array of integers; those that number things are from 0 to ``below``, a letter, less 1."""

    shape: str
    below: str | None = None

    def __call__(self, call: Call, argument: str, value: Any) -> Array:
        _beside(call, argument, value, "integer", self.shape)
        numbers_there = looked_at(value) if self.below is not None else None
        if self.below is not None and numbers_there is not None:
            wrong = (numbers_there < 0) | (numbers_there >= call.sizes[self.below])
            if wrong.any():
                where = tuple(int(i) for i in np.argwhere(wrong)[0])
                raise ValueError(
                    f"{call.name}: {argument}[{', '.join(map(str, where))}] is {numbers_there[where]}; "
                    f"expected a number from 0 to {call.sizes[self.below] - 1}."
                )
        return value


Check: TypeAlias = Callable[[Call, str, Any], Any]  # call, argument's name, value -> the value made ready
Asked: TypeAlias = Floats | Mask | Integers | Check


def diagonal(call: Call) -> None:
    """Refuse candidates that are too few for positives on the diagonal, where no columns were passed for them."""
    anchors, candidates = call.sizes["N"], call.sizes["M"]
    if candidates < anchors:
        raise ValueError(
            f"{call.name}: {anchors} anchors need at least as many candidates for positives on the diagonal; "
            f"got {candidates}. Pass positive=(N,) columns."
        )


def _beside(call: Call, argument: str, value: Any, kind: str, letters: str) -> Array:
    """Check an array of integers or booleans beside the arrays of floats; new letters of its shape are learnt."""
    library = array_library(call.name, argument, value)
    xp = one_library(call.name, [("the inputs", array_library(call.name, argument, call.like)), (argument, library)])
    shape, learnt, written = _shape_of(call, letters, tuple(value.shape))
    if not _is_of(xp, value.dtype, kind):
        raise TypeError(
            f"{call.name}: {argument} is {dtype_name(value)}; expected an array of {kind}s of shape {shape}."
        )
    if tuple(value.shape) != shape:
        raise ValueError(f"{call.name}: {argument} must have shape {written}; got {tuple(value.shape)}.")
    call.sizes.update(learnt)
    return value


def _shape_of(call: Call, letters: str, came: tuple[int, ...]) -> tuple[tuple[int, ...], dict[str, int], str]:
    """Return the shape that is asked for, what letters it teaches, and how it is written in a sentence."""
    words = letters.split()
    shape, learnt, written = [], {}, []
    for place, word in enumerate(words):
        letter = word.lstrip("2")
        if letter in call.sizes:
            shape.append(call.sizes[letter] * (2 if word != letter else 1))
            written.append(str(shape[-1]))
        else:
            size = came[place] if len(came) == len(words) else 0
            learnt[letter] = max(size, 1)
            shape.append(learnt[letter])
            written.append(letter)
    some = "".join(f", {letter} >= 1" for letter in learnt)
    return tuple(shape), learnt, f"({', '.join(written)}{',' if len(written) == 1 else ''}){some}"


@cache
def _is_of(xp: Namespace, dtype: Any, kind: str) -> bool:
    return bool(dtype == xp.bool if kind == "boolean" else xp.isdtype(dtype, "integral"))


def scalar(call: Call, argument: str, value: Any, *, positive: bool = False) -> Array:
    """Return a scalar, of Python, of NumPy or a 0-d array, as a 0-d array beside the others.

    A scalar of the host must be finite, and > 0 where ``positive``, in their dtype too. What a 0-d array holds is not
    looked at.
    """
    name, like = call.name, call.like
    if isinstance(value, REAL) and not isinstance(value, bool):
        number = value if type(value) is float else _number(value)
        if not math.isfinite(number) or (positive and number <= 0.0):
            raise ValueError(f"{name}: {argument} must be {'> 0 and ' if positive else ''}finite, got {value}.")
        smallest, largest = _normal_numbers(call.xp, like.dtype)
        if abs(number) > largest or (positive and number < smallest):
            bounds = f"between {smallest:.1e} and {largest:.1e}" if positive else f"at most {largest:.1e} in size"
            raise ValueError(f"{name}: {argument} must be {bounds} in {dtype_name(like)}, got {value}.")
        return constant(number, like=like)
    library = library_of(value)
    if library is None or value.ndim != 0:
        came = f"an array of shape {tuple(value.shape)}" if library else type(value).__name__
        raise TypeError(f"{name}: {argument} must be a number or a 0-d array, got {came}.")
    if library.xp is not call.xp:
        one_library(name, [("the inputs", array_library(name, "inputs", like)), (argument, library)])
    if value.dtype != like.dtype:
        raise TypeError(
            f"{name}: {argument} is {dtype_name(value)} and the inputs are {dtype_name(like)}; "
            "expected one dtype. Convert it first, or pass a number."
        )
    floats(name, [("inputs", "...", like), (argument, "", value)])
    return value


positive_scalar = partial(scalar, positive=True)


@cache
def _normal_numbers(xp: Namespace, dtype: Any) -> tuple[float, float]:
    info = xp.finfo(dtype)
    return float(info.smallest_normal), float(info.max)


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer too large for any float
        return math.inf


def number(above: float = -math.inf, *, at_least: bool = False, below: float = math.inf) -> Check:
    """Ask for a real setting of the host: finite, > ``above`` (or >= it) and < ``below``."""

    def check(call: Call, argument: str, value: Any) -> float:
        if not isinstance(value, REAL) or isinstance(value, bool):
            raise TypeError(f"{call.name}: {argument} must be a number, got {type(value).__name__}.")
        came = value if type(value) is float else _number(value)
        if not math.isfinite(came) or came < above or (came == above and not at_least):
            bound = "" if above == -math.inf else f"{'>=' if at_least else '>'} {above:g} and "
            raise ValueError(f"{call.name}: {argument} must be {bound}finite, got {value}.")
        if came >= below:
            raise ValueError(f"{call.name}: {argument} must be < {below:g}, got {value}.")
        return came

    return check


def hardest(call: Call, argument: str, value: Any) -> float | int:
    """Return how many of the hardest negatives to keep: a float is a fraction in (0, 1], an int a count >= 1."""
    if isinstance(value, bool) or not isinstance(value, REAL):
        raise TypeError(
            f"{call.name}: {argument} must be a fraction (float in (0, 1]) or a count (int >= 1), "
            f"got {type(value).__name__}."
        )
    if isinstance(value, numbers.Integral):
        if value < 1:
            raise ValueError(f"{call.name}: {argument} as a count must be >= 1, got {value}.")
        return int(value)
    if not 0.0 < float(value) <= 1.0:
        raise ValueError(
            f"{call.name}: {argument} as a fraction must be in (0, 1], got {value}; pass an int to give a count."
        )
    return float(value)


def rows_of_a_strip(call: Call, argument: str, value: Any) -> int:
    """Return the rows of a strip, a count."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(
            f"{call.name}: {argument} must be a number of rows (int >= 1) or None, got {type(value).__name__}."
        )
    if value < 1:
        raise ValueError(f"{call.name}: {argument} must be a number of rows >= 1, got {value}.")
    return int(value)


def choice(*options: str) -> Check:
    """Ask for one of a few words."""

    def check(call: Call, argument: str, value: Any) -> str:
        if not isinstance(value, str) or value not in options:
            words = ", ".join(f'"{option}"' for option in options[:-1])
            raise ValueError(f'{call.name}: {argument} must be {words} or "{options[-1]}", got {value!r}.')
        return value

    return check


def flag(call: Call, argument: str, value: Any) -> bool:
    """Ask for True or False."""
    if not isinstance(value, bool | np.bool):
        raise TypeError(f"{call.name}: {argument} must be True or False, got {value!r}.")
    return bool(value)


# What is asked of an argument of this name, unless a function asks something else of it.
ARGUMENTS: dict[str, Asked] = {
    # embeddings, similarities, and what the rooms make of them
    "h": Floats("N D"),
    "query": Floats("N D"),
    "key": Floats("M D"),
    "image": Floats("N D"),
    "text": Floats("M D"),
    "a": Floats("N D"),
    "b": Floats("N D"),
    "z": Floats("N D"),
    "other": Floats("M D"),
    "bank": Floats("M D"),
    "s": Floats("N M"),
    "s_pos": Floats("N"),
    "s_neg": Floats("N M"),
    "own_negatives": Floats("N H D"),
    "log_weight": Floats("N M"),
    "targets": Floats("N M"),
    "anchor_weight": Floats("N"),
    "gap": Floats("N"),
    "loss": Floats("..."),
    # scalars with a gradient
    "temperature": positive_scalar,
    "weight": scalar,
    "scale": scalar,
    "log_scale": scalar,
    "bias": scalar,
    "log_normalizer": scalar,
    # who is what to whom
    "positive": Integers("N", below="M"),
    "index": Integers("N", below="M"),
    "labels": Integers("N"),
    "ignore": Mask("N M"),
    "positives": Mask("N M"),
    "negatives": Mask("N M"),
    "hardest": hardest,
    # numbers of the host
    "eps": number(0.0),
    "margin": number(0.0, at_least=True),
    "alpha": number(0.0),
    "beta": number(0.0, at_least=True),
    "tau_plus": number(0.0, at_least=True, below=1.0),
    "t": number(0.0),
    "sigma": number(0.0),
    "mass": number(0.0),
    "entropy": number(0.0),
    "base_temperature": number(0.0),
    "label_smoothing": number(0.0, at_least=True, below=1.0),
    "angular_margin": number(0.0, at_least=True, below=math.pi),
    # how
    "reduction": choice("mean", "sum", "none"),
    "normalize": flag,
    "detach": flag,
    "add_views": flag,
    "tile": rows_of_a_strip,
}
