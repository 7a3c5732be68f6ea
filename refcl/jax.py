"""refcl's losses under JAX's transformations: the value alone, and refcl's own gradients in ``jax.grad``.

In:  JAX arrays, concrete or traced, and the settings of the function of the same name in ``refcl``.
Out: the loss, an array.

>>> import jax, jax.numpy as jnp
>>> import refcl.jax
>>> query, key = jnp.asarray([[1.0, 0.0], [0.0, 1.0]]), jnp.asarray([[1.0, 0.5], [0.5, 1.0]])
>>> gradient = jax.jit(jax.grad(refcl.jax.info_nce, argnums=(0, 2)))(query, key, 0.5)
>>> gradient[0].shape, bool(gradient[1] > 0)
((2, 2), True)

Where the loss is one number, one pass makes it and its gradients; with ``reduction="none"`` gradients are made once the
upstream gradient is there. Words, numbers and flags among the settings are constants of a trace: under ``jit`` close
over them. Second derivatives in reverse mode (``jacrev`` of ``jacrev``) are there for ``softmax_contrastive``,
``info_nce``, ``nt_xent`` and ``clip``; elsewhere they raise a NotImplementedError, as third ones do. Forward mode
(``jax.jvp``, ``jax.hessian``) is JAX's TypeError, as for every function with a backward of its own.
"""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from refcl import losses
from refcl.core.pair import AnyPair, P, Pair, value_signature
from refcl.losses.second_order import SECOND_ORDER, lacking


def _under_transformations(pair: Pair[P, Any, Any]) -> Callable[P, Any]:
    """Return the loss alone, as a function that JAX differentiates by refcl's backward."""

    def loss(*inputs: Any, **settings: Any) -> Any:
        if "upstream" in settings:
            raise TypeError(f"refcl.jax.{pair.__name__}: there is no argument upstream; jax.vjp passes it.")
        given = pair.bind(*inputs, **settings)
        places, arrays = _arrays_of({name: given.pop(name) for name in pair.arguments})
        roles = {name: jnp.asarray(value) for name, value in given.items() if isinstance(value, jax.Array | np.ndarray)}
        words = {name: value for name, value in given.items() if name not in roles}
        return _value_of(pair, places, words)(arrays, roles)

    update_wrapper(loss, pair.__wrapped__)
    loss.__module__ = __name__
    loss.__annotations__ = {}
    loss.__signature__ = value_signature(pair)  # type: ignore[attr-defined]
    loss.__doc__ = (
        f"`refcl.{pair.__name__}` of JAX arrays under transformations: its arguments but ``upstream``, its value "
        "alone.\n\nSee `refcl.jax` for second derivatives."
    )
    return loss


def _arrays_of(arguments: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Return the form of the positional arguments, and their arrays; a number becomes one beside the others."""
    leaves, form = jax.tree.flatten(tuple(arguments.values()))
    leaves = [jnp.asarray(x) if isinstance(x, np.ndarray) else x for x in leaves]  # as JAX's own functions do
    beside = next((x.dtype for x in leaves if isinstance(x, jax.Array)), None)
    if beside is None:
        return form, leaves
    return form, [jnp.asarray(x, dtype=beside) if isinstance(x, int | float | np.generic) else x for x in leaves]


def _value_of(pair: AnyPair, form: Any, words: dict[str, Any]) -> Any:
    """Return the loss as a function of its arrays, and of those settings that are arrays and get no gradient."""

    def answered(arrays: Any, roles: Any, upstream: Any = None) -> tuple[Any, list[Any]]:
        # What is made here is differentiated by the backwards below, never by what JAX sees of the walk.
        arrays, roles, upstream = jax.lax.stop_gradient((arrays, roles, upstream))
        inputs = jax.tree.unflatten(form, arrays)
        value, grads = pair(*inputs, **roles, **words, upstream=upstream)
        # What was left out gets no gradient, though some losses have one for its default.
        return value, jax.tree.leaves([None if x is None else d for x, d in zip(inputs, grads, strict=True)])

    @jax.custom_vjp
    def value_of(arrays: Any, roles: Any) -> Any:
        return answered(arrays, roles)[0]

    def with_residuals(arrays: Any, roles: Any) -> Any:
        value, grads = answered(arrays, roles)
        return value, (arrays, roles, grads if value.ndim == 0 else None)

    @jax.custom_vjp
    def gradients_of(dvalue: Any, arrays: Any, roles: Any, grads: Any) -> Any:
        return answered(arrays, roles, jnp.asarray(dvalue))[1] if grads is None else [grad * dvalue for grad in grads]

    def remembered(dvalue: Any, arrays: Any, roles: Any, grads: Any) -> Any:
        return gradients_of(dvalue, arrays, roles, grads), (dvalue, arrays, roles)

    def second_order(residuals: Any, moves: Any) -> Any:
        # The Hessian is symmetric: what the gradients' own gradients send back is how they move along them.
        ddvalue, moved = moved_along(moves, *residuals)
        return ddvalue, moved, None, None

    @jax.custom_vjp
    def moved_along(moves: Any, dvalue: Any, arrays: Any, roles: Any) -> Any:
        name = pair.__name__
        settings = {key: value for key, value in words.items() if key != "tile"}
        inputs, along = jax.tree.unflatten(form, arrays), jax.tree.unflatten(form, moves)
        if why := lacking(name, inputs, settings):
            raise NotImplementedError(f"refcl.jax.{name}: {why}")
        value, grads = SECOND_ORDER[name](inputs, along, dvalue, None, **roles, **settings)
        return value, jax.tree.leaves(grads)

    def no_third(*_: Any) -> Any:
        raise NotImplementedError(f"refcl.jax.{pair.__name__}: there is no third derivative of it.")

    moved_along.defvjp(no_third, no_third)
    gradients_of.defvjp(remembered, second_order)
    value_of.defvjp(with_residuals, lambda residuals, dvalue: (gradients_of(dvalue, *residuals), None))
    return value_of


align_uniform = _under_transformations(losses.align_uniform)
clip = _under_transformations(losses.clip)
cmc = _under_transformations(losses.cmc)
cpc = _under_transformations(losses.cpc)
dcl = _under_transformations(losses.dcl)
dclw = _under_transformations(losses.dclw)
debiased = _under_transformations(losses.debiased)
decoupled_contrastive = _under_transformations(losses.decoupled_contrastive)
fixed_entropy = _under_transformations(losses.fixed_entropy)
fixed_entropy_contrastive = _under_transformations(losses.fixed_entropy_contrastive)
hard_info_nce = _under_transformations(losses.hard_info_nce)
hard_simple_contrastive = _under_transformations(losses.hard_simple_contrastive)
hard_simple_loss = _under_transformations(losses.hard_simple_loss)
hard_softmax_contrastive = _under_transformations(losses.hard_softmax_contrastive)
hcl = _under_transformations(losses.hcl)
info_nce = _under_transformations(losses.info_nce)
inst_disc = _under_transformations(losses.inst_disc)
macl = _under_transformations(losses.macl)
moco = _under_transformations(losses.moco)
model_aware_contrastive = _under_transformations(losses.model_aware_contrastive)
multi_positive = _under_transformations(losses.multi_positive)
nce = _under_transformations(losses.nce)
nt_xent = _under_transformations(losses.nt_xent)
pair_contrastive = _under_transformations(losses.pair_contrastive)
per_anchor_contrastive = _under_transformations(losses.per_anchor_contrastive)
reweighted_contrastive = _under_transformations(losses.reweighted_contrastive)
semi_hard_triplet = _under_transformations(losses.semi_hard_triplet)
sig_lip = _under_transformations(losses.sig_lip)
simple_contrastive = _under_transformations(losses.simple_contrastive)
simple_loss = _under_transformations(losses.simple_loss)
softmax_contrastive = _under_transformations(losses.softmax_contrastive)
sup_con = _under_transformations(losses.sup_con)
supervised_contrastive = _under_transformations(losses.supervised_contrastive)
triplet = _under_transformations(losses.triplet)
triplet_margin = _under_transformations(losses.triplet_margin)
weighted_decoupled_contrastive = _under_transformations(losses.weighted_decoupled_contrastive)

__all__ = [name for name in losses.__all__ if name in globals()]
