"""JAX code that communicates along a named axis: the ranks are mapped over it, in one process.

In:  the function that one rank runs, with its local arrays.
Out: the same as of simulated ranks: values and gradients of every rank, each by its own rows, as under ``jax.pmap``.
"""

import importlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from refcl.oracle.adapters import in_double, loss_of


def along_an_axis(per_rank: Callable[..., Any], notes: dict[str, str]) -> Callable[[list[Any]], list[Any]]:
    """Return what runs all ranks; the axis is called as the first collective that does not find it calls it.

    Parameters
    ----------
    per_rank : callable
        ``f(*local_arrays) -> value``, or with the temperature last. It may call what ``jax.lax`` has for a named axis.
    notes : dict
        Sentences about how it behaves are added here.
    """
    jax: Any = importlib.import_module("jax")

    def of_a_rank(leaves: Any, named: Any) -> Any:
        value, pull = jax.vjp(lambda *x: loss_of(per_rank(*x, **named), jax.Array, notes), *leaves)
        return value, pull(jax.numpy.ones_like(value))

    mapped = [jax.jit(jax.vmap(of_a_rank))]

    def run(shares: list[Any]) -> list[Any]:
        with in_double():
            given = jax.tree_util.tree_map(lambda *x: np.stack(x), *shares)
            try:
                values, grads = mapped[-1](*given)
            except NameError as error:
                axis = re.search("unbound axis name: (\\w+)", str(error))
                if axis is None or len(mapped) > 1:
                    raise
                mapped.append(jax.jit(jax.vmap(of_a_rank, axis_name=axis.group(1))))
                values, grads = mapped[-1](*given)
            return [(np.asarray(v), tuple(np.asarray(g[r]) for g in grads)) for r, v in enumerate(values)]

    return run
