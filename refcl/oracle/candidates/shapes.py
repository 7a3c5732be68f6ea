"""The shapes of real code: a forward with its backward, stacked views, queues by columns, classes.

In:  what someone has written.
Out: a function of the arrays that the loss has, which returns value and gradients.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from refcl.oracle.raised import CannotJudge
from refcl.oracle.returned import gradients_wanted

STACKINGS = ("stacked", "views")


def as_function(candidate: Any) -> Callable[..., Any]:
    """Return a candidate as a function: a class is made, a forward and its backward are put together.

    Parameters
    ----------
    candidate : callable, (forward, backward), object with both, or class
        A forward returns ``value, cache`` and a backward takes ``dvalue, cache``.
    """
    if isinstance(candidate, type) and hasattr(candidate, "apply") and hasattr(candidate, "backward"):
        line = f"check(from_torch({candidate.__name__}.apply), …, passes_scalar=True)"
        raise CannotJudge(f"the candidate is an autograd.Function: {line}.")
    if isinstance(candidate, type):
        try:
            candidate = candidate()
        except TypeError as error:
            raise CannotJudge(
                f"the candidate is a class, {candidate.__name__}, that needs arguments ({error}); pass an instance."
            ) from None
        except (CannotJudge, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise CannotJudge(f"the candidate's class raised {type(error).__name__}: {error}.") from None
    if isinstance(candidate, tuple | list) and len(candidate) == 2 and all(callable(f) for f in candidate):
        return _together(*candidate)
    if (
        not callable(candidate)
        and callable(getattr(candidate, "forward", None))
        and callable(getattr(candidate, "backward", None))
    ):
        return _together(candidate.forward, candidate.backward)
    return candidate  # type: ignore[no-any-return]


def _together(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def function(*arguments: Any, **companions: Any) -> Any:
        returned = forward(*arguments, **companions)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise CannotJudge("the forward must return (value, cache), for the backward to take.")
        value, cache = returned
        if not gradients_wanted():
            return value
        grads = backward(np.ones_like(value), cache)
        return value, grads if isinstance(grads, tuple | list) else (grads,)

    return function


def stacked(function: Callable[..., Any], how: str, count: int) -> Callable[..., Any]:
    """Return a function of the views apart from one that takes them together.

    Parameters
    ----------
    function : callable
        Of one array: (2N, D) where ``how`` is "stacked", (N, V, D) where it is "views".
    how : str
        "stacked" or "views".
    count : int
        How many arrays there are.
    """
    if how not in STACKINGS:
        raise ValueError(f'check: inputs must be arrays, "stacked" or "views"; got {how!r}.')

    def apart(*arguments: Any, **companions: Any) -> Any:
        arrays, rest = arguments[:count], arguments[count:]
        x = np.concatenate(arrays) if how == "stacked" else np.stack(arrays, axis=1)
        returned = function(x, *rest, **companions)
        if not isinstance(returned, tuple) or len(returned) != 2 or returned[1] is None:
            return returned
        value, grads = returned
        first, *others = grads if isinstance(grads, tuple | list) else (grads,)
        cuts = np.cumsum([len(a) for a in arrays])[:-1]
        split = (
            np.split(np.asarray(first), cuts) if how == "stacked" else [np.asarray(first)[:, k] for k in range(count)]
        )
        return value, (*split, *others)

    names = [inspect.Parameter(f"view_{k}", inspect.Parameter.POSITIONAL_ONLY) for k in range(count)]
    try:
        others = list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):
        others = []
    apart.__signature__ = inspect.Signature([*names, *others])  # type: ignore[attr-defined]
    _like(apart, function)
    apart.together = how  # type: ignore[attr-defined]
    return apart


def by_columns(function: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
    """Return a function that gets some of its companions, such as a queue, as (D, K) instead of (K, D)."""

    @functools.wraps(function)
    def turned(*arguments: Any, **companions: Any) -> Any:
        return function(
            *arguments, **{k: np.ascontiguousarray(x.T) if k in names else x for k, x in companions.items()}
        )

    _like(turned, function)
    return turned


def _like(made: Callable[..., Any], function: Callable[..., Any]) -> None:
    """Give one function what the adapters say of another."""
    for name in ("takes_scalar", "noise", "few_shapes", "notes"):
        if hasattr(function, name):
            setattr(made, name, getattr(function, name))
