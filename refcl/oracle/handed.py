"""What is handed over with a candidate: sizes, batches of one's own, a temperature that may be baked in.

In:  what the user passed.
Out: the same as it is worked with, or a sentence that says what is not right and what to type.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from refcl.oracle.candidate import SCALAR_NAMES, Candidate
from refcl.oracle.question import Question
from refcl.oracle.raised import CannotJudge


def ask_sizes(shape: Any, extra_keys: Any) -> None:
    """Refuse what is no size of a batch."""
    whole = isinstance(shape, tuple | list) and len(shape) == 2 and all(isinstance(n, int | np.integer) for n in shape)
    if shape is not None and not (whole and shape[0] > 1 and shape[1] > 0):
        raise ValueError(f"check: shape must be (N, D), two ints of which N is at least 2; got {shape!r}.")
    if not isinstance(extra_keys, int | np.integer) or extra_keys < 0:
        raise ValueError(f"check: extra_keys must be an int, at least 0; got {extra_keys!r}.")


def known_scalar(candidate: Candidate, question: Question) -> None:
    """Say that a candidate's temperature is not known, and where it may be."""
    if candidate.passes_scalar or question.base is not None or question.scalar in (None, "weight"):
        return
    raise CannotJudge(
        f"its {question.scalar} is baked in and not known; say which, {question.scalar}=…, or let the candidate take "
        f"it as an argument after the arrays.{_where_it_is(candidate.function, question)}"
    )


def _where_it_is(function: Callable[..., Any], question: Question) -> str:
    """Say what to type where a candidate holds or takes its scalar in another way than asked."""
    own, scalar, several = inspect.unwrap(function), str(question.scalar), getattr(function, "several", [])
    if several:
        held = ", ".join(several)
        return (
            f' Its module has {len(several)} parameters of one entry, {held}: from_module(…, parameter="{several[0]}").'
        )
    if any(True for _ in getattr(own, "named_parameters", tuple)()):
        return (
            " It is a module with parameters: from_module(module) sets the one that holds it, and judges its gradient."
        )
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return " Its signature can't be read: say passes_scalar=True where it takes it."
    named = next((p.name for p in parameters if p.name in SCALAR_NAMES[scalar] and p.kind is p.KEYWORD_ONLY), "")
    if named:
        arrays = ", ".join(question.inputs)
        return f" It takes {named} by name only: lambda {arrays}, {scalar}: mine({arrays}, {named}={scalar})."
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return " Its signature does not tell: say passes_scalar=True where it takes it."
    return ""


def own_batches(inputs: Any, question: Question) -> tuple[tuple[Any, ...], ...]:
    """Return the user\'s own batches as tuples of arrays."""
    if inputs is None:
        return ()
    batches = inputs if isinstance(inputs, list) else [inputs]
    found = []
    for batch in batches:
        given = batch if isinstance(batch, Sequence) else (batch,)
        if question.in_a_tuple and len(given) == 1:
            given = given[0]
        if isinstance(batch, Mapping):
            raise TypeError(
                f"check: inputs must be a tuple of {', '.join(question.inputs)}, in this order; got a dict."
            )
        arrays = tuple(np.asarray(x.detach().cpu() if hasattr(x, "detach") else x) for x in given)
        half = next((x.dtype for x in arrays if x.dtype not in (np.float32, np.float64)), None)
        if half is not None:
            raise TypeError(f"check: inputs must be float32 or float64, got {half}; convert them with astype.")
        if len(arrays) != len(question.inputs):
            raise ValueError(
                f"check: inputs of {question.loss} are {', '.join(question.inputs)}; got {len(arrays)} arrays."
            )
        found.append(arrays)
    return tuple(found)
