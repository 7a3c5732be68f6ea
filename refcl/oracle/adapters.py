"""Candidates of other libraries: functions of tensors, modules with parameters, functions without a gradient.

In:  what someone has written.  Out: a function of NumPy arrays that returns value and gradients, ready for `check`.
PyTorch and JAX are imported by their own adapters only.
"""

import functools
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refcl.oracle.companions import OPTIONAL
from refcl.oracle.gradcheck import STEPS, derivative
from refcl.oracle.raised import CannotJudge
from refcl.oracle.returned import gradients_wanted, numbers, signature_of

HOLDS = ("temperature", "log_scale", "scale")
GOOD_ENOUGH = 1e-9  # of what differences are judged to, a hundredth: then no other step is looked for


def _function(given: Any, adapter: str) -> None:
    """Refuse what is no function of arrays, with what to hand over instead."""
    if isinstance(given, type):
        of = f"{given.__name__}.apply" if hasattr(given, "apply") and hasattr(given, "backward") else ""
        line = of or f"{adapter}({given.__name__}(…))"
        raise TypeError(f"{adapter}: {given.__name__} is a class; hand over {'' if of else 'an instance, '}{line}.")
    if not callable(given):
        came = type(given).__name__
        raise TypeError(f"{adapter}: expected a function, got a {came}: hand over the function, not what it returned.")
    if hasattr(given, "adapter"):
        raise TypeError(f"{adapter}: it is wrapped already, by {given.adapter}; wrap the function itself, once.")


def from_torch(function: Callable[..., Any], *, device: str = "cpu", module: Any = None) -> Callable[..., Any]:
    """Wrap a function of PyTorch tensors; autograd supplies the gradients.

    Parameters
    ----------
    function : callable
        ``f(*tensors)`` or ``f(*tensors, temperature)``, returning a tensor. The temperature comes as a 0-d tensor that
        requires its gradient; labels and memories, where the loss has them, by name.
    device : str
        Where the tensors live.
    module : torch.nn.Module, optional
        Whose parameters are brought to the dtype of the tensors first.

    Returns
    -------
    candidate : callable
        Takes and returns NumPy arrays.

    Notes
    -----
    An input that the value does not depend on, or that was detached, has a gradient of zeros.
    """
    _function(function, "from_torch")
    torch: Any = importlib.import_module("torch")
    notes: dict[str, str] = {}

    @functools.wraps(function)
    def candidate(*arguments: Any, upstream: Any = None, **companions: Any) -> Any:
        arguments, given = _flat(function, arguments)
        dtype = torch.from_numpy(np.zeros(1, dtype=arguments[0].dtype)).dtype
        if module is not None:
            module.to(dtype=dtype, device=device)
        leaves = [torch.tensor(x, dtype=dtype, device=device, requires_grad=True) for x in arguments]
        by_name = _tensors(torch, companions, device)
        value = given(*leaves, **by_name)
        return _backward_torch(value, [*leaves, *_learned(by_name)], upstream, notes)

    candidate.notes, candidate.adapter = notes, "from_torch"  # type: ignore[attr-defined]
    return _taking_upstream(candidate, function)


def from_module(
    module: Any, *, parameter: str | None = None, holds: str = "temperature", device: str = "cpu"
) -> Callable[..., Any]:
    """Wrap a loss that is a PyTorch module, with a learnable temperature or log-scale among its parameters.

    Parameters
    ----------
    module : torch.nn.Module
        Called with the tensors alone.
    parameter : str, optional
        Name of the parameter that is set and whose gradient is judged; by default the module's only one that has one
        entry, if there is one.
    holds : str
        What the parameter is in terms of the temperature τ that `check` passes: "temperature", "log_scale" (log 1/τ)
        or "scale" (1/τ). For "clip", whose own scalar is the log-scale, leave it at "temperature": it is passed on.

    Returns
    -------
    candidate : callable
        ``candidate(*arrays)``, or ``candidate(*arrays, temperature)`` where there is such a parameter.

    Raises
    ------
    TypeError
        Where the module is none of PyTorch's.
    ValueError
        Where the parameter does not exist or ``holds`` is none of the three.
    """
    torch: Any = importlib.import_module("torch")

    if holds not in HOLDS:
        raise ValueError(f"from_module: holds must be one of {', '.join(HOLDS)}; got {holds!r}.")
    _function(module, "from_module")
    if not hasattr(module, "named_parameters"):
        raise TypeError(f"from_module: expected a torch.nn.Module; got a {type(module).__name__}.")
    parameters = dict(module.named_parameters())
    single = [name for name, p in parameters.items() if p.numel() == 1]
    name = parameter if parameter is not None else (single[0] if len(single) == 1 else None)
    if name is None:
        made = from_torch(_called(module), device=device, module=module)
        made.several = single  # type: ignore[attr-defined]
        return made
    if name not in parameters:
        raise ValueError(
            f"from_module: the module has no parameter {name!r}; it has {', '.join(parameters) or 'none'}."
        )
    learned = parameters[name]
    notes: dict[str, str] = {}

    def candidate(*arguments: Any, upstream: Any = None, **companions: Any) -> Any:
        (*arrays, scalar), given = _flat(module, arguments)
        dtype = torch.from_numpy(np.zeros(1, dtype=arrays[0].dtype)).dtype
        module.to(dtype=dtype, device=device)
        with torch.no_grad():
            learned.fill_(_held(holds, float(scalar))[0])
        leaves = [torch.tensor(x, dtype=dtype, device=device, requires_grad=True) for x in arrays]
        by_name = _tensors(torch, companions, device)
        held = learned.detach().clone()
        of = [*leaves, learned, *_learned(by_name)]
        value, grads = _backward_torch(given(*leaves, **by_name), of, upstream, notes)
        if grads is None:
            return value
        k = len(leaves)
        dscalar = grads[k].reshape(()) * _held(holds, float(scalar))[1]
        if not torch.equal(held, learned):
            notes["moved"] = (
                f"It moves its parameter {name} in place, as a clamp does: what was passed has no effect there, and its"
                " gradient is 0."
            )
            dscalar = dscalar * 0
        return value, (*grads[:k], dscalar, *grads[k + 1 :])

    candidate.takes_scalar, candidate.adapter = True, "from_module"  # type: ignore[attr-defined]
    candidate.notes = notes  # type: ignore[attr-defined]
    return _taking_upstream(candidate, _called(module))


def _tensors(torch: Any, companions: dict[str, Any], device: str) -> dict[str, Any]:
    """Return what comes by name as tensors, with a gradient where refcl's losses have one."""
    found = {name: torch.as_tensor(x, device=device) for name, x in companions.items()}
    return {name: x.requires_grad_() if name in OPTIONAL else x for name, x in found.items()}


def _learned(by_name: dict[str, Any]) -> list[Any]:
    return [by_name[name] for name in OPTIONAL if name in by_name]


def _called(module: Any) -> Callable[..., Any]:
    """Return a module as a function with the signature of its forward."""

    @functools.wraps(module.forward)
    def function(*tensors: Any, **companions: Any) -> Any:
        return module(*tensors, **companions)

    return function


def _held(holds: str, t: float) -> tuple[float, float]:
    """Return what a parameter holds at a temperature, and its derivative by the temperature."""
    if holds == "temperature":
        return t, 1.0
    return (-math.log(t), -1 / t) if holds == "log_scale" else (1 / t, -1 / t**2)


def from_jax(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function of JAX arrays; ``jax.grad`` supplies the gradients, in double precision where inputs have it.

    Parameters
    ----------
    function : callable
        ``f(*arrays)`` or ``f(*arrays, temperature)``, returning a JAX array.

    Returns
    -------
    candidate : callable
        Takes and returns NumPy arrays.
    """
    _function(function, "from_jax")
    jax: Any = importlib.import_module("jax")
    notes: dict[str, str] = {}

    def value_and_grads(arrays: Any, scalars: Any, upstream: Any, companions: Any, fixed: tuple[float, ...]) -> Any:
        names = [name for name in OPTIONAL if name in companions]
        inputs = (*arrays, *scalars)

        def loss(*x: Any) -> Any:
            by_name = companions | dict(zip(names, x[len(inputs) :], strict=True))
            return loss_of(function(*x[: len(inputs)], *fixed, **by_name), jax.Array, notes)

        value, pull = jax.vjp(loss, *inputs, *(companions[name] for name in names))
        given = np.ones(value.shape) if upstream is None else jax.numpy.reshape(upstream, value.shape)
        return value, pull(jax.numpy.asarray(given, dtype=value.dtype))

    compiled = jax.jit(value_and_grads, static_argnums=4)
    traced = [True, False]  # where a scalar cannot be traced, it is handed over as a plain number

    @functools.wraps(function)
    def candidate(*arguments: Any, upstream: Any = None, **companions: Any) -> Any:
        tree = jax.tree_util
        with in_double():
            dtype = tree.tree_leaves(arguments)[0].dtype
            inputs = tree.tree_map(lambda x: np.asarray(x, dtype=dtype), arguments)
            k = sum(np.ndim(tree.tree_leaves(x)[0]) > 0 for x in inputs)
            numbers = tuple(float(x) for x in inputs[k:])
            try:
                if traced[0]:
                    value, grads = compiled(inputs[:k], inputs[k:], upstream, companions, ())
            except Exception as error:
                if not numbers or not _untraceable(jax, error):
                    raise
                traced.pop(0)
            if not traced[0]:
                value, grads = compiled(inputs[:k], (), upstream, companions, numbers)
                notes["a number"] = (
                    "What it takes after the arrays is a plain number to it, as a static or nondiff argument is: that"
                    " has no gradient."
                )
            return np.asarray(value), tree.tree_map(np.asarray, grads)

    candidate.few_shapes = True  # type: ignore[attr-defined]  # each costs a compilation
    candidate.notes, candidate.adapter = notes, "from_jax"  # type: ignore[attr-defined]
    return _taking_upstream(candidate, function)


def in_double() -> Any:
    """Return the context in which JAX computes in double precision where inputs have it."""
    jax: Any = importlib.import_module("jax")

    # Newer versions moved it out of the experimental corner.
    return getattr(jax if hasattr(jax, "enable_x64") else jax.experimental, "enable_x64")(True)  # noqa: B009


def _untraceable(jax: Any, error: Exception) -> bool:
    """Return whether a function asked a traced array for what only a number has: its truth, its hash, its digits."""
    kinds = (jax.errors.JAXTypeError, jax.errors.UnexpectedTracerError)
    return isinstance(error, kinds) or "Non-hashable static arguments" in str(error)


def numeric(function: Callable[..., Any]) -> Callable[..., Any]:
    """Differentiate a function of NumPy arrays numerically, where it has no gradient of its own.

    Parameters
    ----------
    function : callable
        ``f(*arrays)`` or ``f(*arrays, temperature)``, returning a scalar.

    Returns
    -------
    candidate : callable
        The same function, returning ``value, grads``. Its gradients are judged to about seven digits, and in float64:
        single precision is too coarse for differences. `check` takes them on its smaller batches and your own: of a
        function that is right everywhere, differences on one batch tell what they tell on the next.
    """

    _function(function, "numeric")

    @functools.wraps(function)
    def candidate(*arguments: Any, **companions: Any) -> Any:
        arguments, of_arrays = _flat(function, arguments)
        names = [name for name in OPTIONAL if name in companions]
        inputs = [np.array(x, dtype=np.float64) for x in (*arguments, *(companions[name] for name in names))]
        k = len(arguments)

        def given(*x: Any) -> Any:
            return of_arrays(*x[:k], **companions | dict(zip(names, x[k:], strict=True)))

        value = numbers(given(*inputs), "the value", alone=True)
        if np.ndim(value):
            raise CannotJudge("numeric: the function must return a scalar; its gradient is not defined otherwise.")
        if not gradients_wanted():
            return np.asarray(value, dtype=arguments[0].dtype)
        grads = []
        for i, x in enumerate(inputs):
            gradient, steps = np.zeros_like(x), STEPS
            for row in np.ndindex(*x.shape[:-1]):
                steps = _differentiate_row(given, inputs, i, row, gradient, steps)
            grads.append(gradient)
        # The difference quotients of what comes in single precision are no better than single precision.
        return np.asarray(value, dtype=arguments[0].dtype), tuple(g.astype(arguments[0].dtype) for g in grads)

    candidate.noise, candidate.adapter = 1e-7, "numeric"  # type: ignore[attr-defined]
    return candidate


def _flat(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[tuple[Any, ...], Callable[..., Any]]:
    """Return the arguments without the tuple that the first may be, and the function of them."""
    if not isinstance(arguments[0], tuple):
        return arguments, function
    k = len(arguments[0])
    return (*arguments[0], *arguments[1:]), lambda *x, **settings: function(x[:k], *x[k:], **settings)


def _differentiate_row(
    function: Callable[..., Any],
    inputs: list[Any],
    k: int,
    row: tuple[int, ...],
    gradient: Any,
    steps: tuple[float, ...],
) -> tuple[float, ...]:
    """Fill in one row of a gradient; its first entry decides how far to step. Return what to try first for the next."""
    x = inputs[k][row]
    size = (abs(float(x)) or 1.0) if np.ndim(x) == 0 else float(np.linalg.norm(x)) or 1.0
    first, *others = np.ndindex(*np.shape(x))
    f = _line(function, inputs, k, (*row, *first))
    found = derivative(f, size, steps)
    if not found.uncertainty * size <= GOOD_ENOUGH * max(abs(found.value) * size, 1.0):
        found = derivative(f, size)
    gradient[(*row, *first)], step = found.value, found.step
    if not step:  # nothing finite near here
        gradient[row] = np.nan
        return STEPS
    for where in others:
        f = _line(function, inputs, k, (*row, *where))
        near, far = (f(step) - f(-step)) / (2 * step), (f(2 * step) - f(-2 * step)) / (4 * step)
        gradient[(*row, *where)] = (4 * near - far) / 3
        if abs(near - far) > max(1e-2 * abs(near), 1e-3 * float(np.max(np.abs(gradient)))):
            gradient[(*row, *where)] = derivative(f, size).value  # a kink nearby, where another entry has none
    return (2 * step / size,)


def _line(function: Callable[..., Any], inputs: list[Any], k: int, where: tuple[int, ...]) -> Callable[[float], float]:
    def along(t: float) -> float:
        moved = inputs[k].copy()
        moved[where] += t
        return float(function(*(moved if j == k else x.copy() for j, x in enumerate(inputs))))

    return along


def loss_of(returned: Any, kind: Any, notes: dict[str, str]) -> Any:
    """Return the loss where it comes with other things: the first of a tuple, or what is called a loss."""
    if isinstance(returned, kind):
        return returned
    what = "nothing" if returned is None else f"a {type(returned).__name__}"
    if isinstance(returned, float | int):
        raise CannotJudge(f"it returned {what}, which has no gradient: return the {kind.__name__.lower()}, no .item().")
    if isinstance(returned, tuple | list) and returned:
        numbers_ = [k for k, x in enumerate(returned) if isinstance(x, kind) and x.ndim == 0]
        # logits often stand before the loss
        place = numbers_[0] if len(numbers_) == 1 and getattr(returned[0], "ndim", 2) > 1 else 0
        loss, said = returned[place], f"{len(returned)} things: the {'first' if not place else 'only number'} of them"
    else:
        held = dict(returned) if isinstance(returned, Mapping) else {}
        named = [key for key in held if "loss" in str(key).lower()]
        key = "loss" if "loss" in held or len(named) != 1 else named[0]
        loss, said = held.get(key, getattr(returned, key, None)), f'{what}: its "{key}"'
        what += f" with {', '.join(map(str, held))}" if held else ""
    if not isinstance(loss, kind):
        raise CannotJudge(
            f"the function returned {what}; expected a {kind.__name__.lower()} that is the loss, such as"
            ' lambda *x: mine(*x)["loss"] hands on.'
        )
    notes["beside the loss"] = f"It returns {said} was judged."
    return loss


def _backward_torch(value: Any, leaves: list[Any], upstream: Any, notes: dict[str, str]) -> Any:
    torch: Any = importlib.import_module("torch")

    value = loss_of(value, torch.Tensor, notes)
    host = _host(torch, value)
    if not gradients_wanted():
        return host, None
    if not value.requires_grad:
        return host, tuple(np.zeros(x.shape, dtype=host.dtype) for x in leaves)
    total = value
    if upstream is not None:
        total = value * torch.as_tensor(upstream, dtype=value.dtype, device=value.device).reshape(value.shape)
    # of a scalar: given an upstream of its own, PyTorch would import its symbolic shapes first
    grads = torch.autograd.grad(total.sum(), leaves, allow_unused=True)
    return host, tuple(
        np.zeros(x.shape, dtype=host.dtype) if g is None else _host(torch, g)
        for x, g in zip(leaves, grads, strict=True)
    )


def _host(torch: Any, x: Any) -> Any:
    """Return a tensor as an array; NumPy has no bfloat16."""
    return (x.float() if x.dtype == torch.bfloat16 else x).detach().cpu().numpy()


def _taking_upstream(candidate: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a candidate the signature of the function, and the upstream gradient that it can take."""
    try:
        parameters = list(signature_of(function).parameters.values())
    except (TypeError, ValueError):
        return candidate
    given = [p for p in parameters if p.kind is not p.VAR_KEYWORD and p.name != "upstream"]
    upstream = inspect.Parameter("upstream", inspect.Parameter.KEYWORD_ONLY, default=None)
    candidate.__signature__ = inspect.Signature([*given, upstream])  # type: ignore[attr-defined]
    return candidate
