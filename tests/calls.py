"""Running a case: forward, backward, and what a backward is the gradient of.

In:  a case and a backend.  Out: value, gradients and the upstream gradient that they were weighed by.
"""

from typing import Any

import numpy as np
from backends import NUMPY, Backend, flat, map_leaves
from cases import Case

from refcl.walk.pairing import PairingCache


def settings_on(case: Case, backend: Backend) -> dict[str, Any]:
    return {name: backend.arrays(value) for name, value in case.settings.items()}


def forward(case: Case, inputs: Any, backend: Backend = NUMPY) -> tuple[Any, Any]:
    return case.function.forward(*inputs, **settings_on(case, backend))  # type: ignore[no-any-return]


def upstream_for(value: Any, name: str) -> Any:
    """Draw upstream gradients, all of another size, for a value on the host."""
    rng = np.random.default_rng(len(name))
    return map_leaves(lambda y: np.array(rng.uniform(0.5, 1.5, np.shape(y)) * rng.choice([-1, 1], np.shape(y))), value)


def backward(case: Case, upstream: Any, cache: Any) -> tuple[Any, ...]:
    """Return the gradients as a tuple with one entry a positional argument."""
    grads = case.function.backward(*(upstream if isinstance(upstream, tuple) else (upstream,)), cache)
    return grads if len(case.function.arguments) > 1 else (grads,)


def weighed(case: Case, upstream: Any) -> Any:
    """Return the function of the inputs that were given whose gradient the backward is: ⟨upstream, value⟩."""

    def function(given: Any) -> float:
        rest = iter(given)
        inputs = [None if x is None else next(rest) for x in case.inputs]
        value, cache = forward(case, inputs)
        if isinstance(cache, PairingCache):  # of s_neg only the entries that count are values of the pairing
            value = value[0], np.where(cache.negatives, value[1], 0.0)
        return float(flat(upstream) @ flat(value))

    return function


def given(case: Case, grads: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
    """Return the inputs, or their gradients, of the arguments that were not left out."""
    of = case.inputs if grads is None else grads
    return tuple(g for g, x in zip(of, case.inputs, strict=True) if x is not None)


def run(case: Case, backend: Backend) -> tuple[Any, tuple[Any, ...], Any]:
    """Return value, gradients and upstream of a case on a backend, all of them that backend's arrays."""
    value, cache = forward(case, backend.arrays(case.inputs), backend)
    upstream = backend.arrays(upstream_for(backend.hosts(value), case.name))
    return value, backward(case, upstream, cache), upstream
