"""Is this backward the gradient of this forward? Differences of fourth order, with an error estimate of their own.

In:  a pair (forward, backward), or any function that returns value and gradients, and its inputs.
Out: a report: the worst entry of each argument, kinks that were met, and whether every gradient is right.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refcl.core.arrays import to_host
from refcl.core.pair import Pair

# Relative to the size of the input; the best is chosen by its own estimate.
STEPS: tuple[float, ...] = (1e-2, 2e-3, 4e-4, 8e-5, 1.6e-5)


@dataclass(frozen=True)
class Derivative:
    value: float  # of a function of one variable, at 0
    uncertainty: float  # how far it may be off
    kink: bool  # the two sides differ: there is no derivative
    step: float = 0.0  # with which it was found


@dataclass
class ArgumentCheck:
    """What was found for one argument."""

    name: str
    how: str  # "every entry" or "directions"
    compared: int = 0
    failed: int = 0
    error: float = 0.0  # worst |given − numeric|, relative to the gradient's size
    where: tuple[int, ...] = ()
    given: float = 0.0
    numeric: float = 0.0
    uncertainty: float = 0.0  # worst estimate of the differences' own error, relative to the gradient's size
    kinks: list[tuple[int, ...]] = field(default_factory=list)
    unresolved: list[tuple[int, ...]] = field(default_factory=list)


@dataclass
class GradcheckReport:
    """Whether a backward is the gradient of its forward.

    Attributes
    ----------
    ok : bool
        True where every entry that has a derivative agrees, and at least one entry of each argument was compared.
    arguments : list of ArgumentCheck
        One for each array among the inputs.
    """

    name: str
    tolerance: float
    arguments: list[ArgumentCheck]

    @property
    def ok(self) -> bool:
        return all(a.compared > 0 and a.failed == 0 for a in self.arguments)

    def __str__(self) -> str:
        lines = [f"gradcheck of {self.name}: {'correct' if self.ok else 'WRONG'}"]
        for a in self.arguments:
            entry = f"[{', '.join(map(str, a.where))}]"
            lines.append(
                f"  d{a.name}: {a.compared} {'entries' if a.how == 'every entry' else 'directions'} compared, "
                f"{a.failed} wrong; worst at {entry}: given {a.given:.12g}, numeric {a.numeric:.12g}, "
                f"relative error {a.error:.1e} (tolerance {self.tolerance:.0e}, "
                f"the differences' own error {a.uncertainty:.0e})"
            )
            if a.kinks:
                lines.append(f"    not judged, on a kink: {_some(a.kinks)}")
            if a.unresolved:
                lines.append(f"    not judged, too rough for differences: {_some(a.unresolved)}")
        return "\n".join(lines)


def gradcheck(
    pair: Any,
    *inputs: Any,
    tolerance: float = 1e-6,
    entries: int = 400,
    directions: int = 12,
    seed: int = 0,
    upstream: Any = None,
    **settings: Any,
) -> GradcheckReport:
    r"""Compare a hand-written backward with differences of its forward.

    Parameters
    ----------
    pair : Pair, or tuple of two callables, or callable
        A `refcl.Pair`; ``(forward, backward)`` with ``forward(*inputs, **settings) -> value, cache`` and
        ``backward(dvalue, cache) -> grads``; or a function that returns ``value, grads`` of a scalar value.
    *inputs : arrays, numbers or nested tuples of them
        Differentiated one and all, in float64; None and integers are passed on as they are.
    tolerance : float
        Largest accepted error of an entry, relative to the largest entry of its argument's gradient.
    entries : int
        Up to this size every entry of an argument is checked; a larger one along random directions.
    directions : int
        How many random directions.
    seed : int
        Of the upstream gradient and the directions.
    upstream : array or tuple of arrays, optional
        Gradient by the value (by each, where it is a tuple); by default random. Needed where parts of the value do not
        count, such as the entries of `pairing` that are no negatives.
    **settings
        Passed on to the pair.

    Returns
    -------
    report : GradcheckReport
        ``report.ok``; printed, it shows the worst entry of each argument.

    Raises
    ------
    TypeError, ValueError
        Where the pair is no pair, or its gradients do not have the shapes of its inputs.
    RuntimeError
        Where a gradient of zeros, or a doubled one, would have passed: the check could not have failed.

    Notes
    -----
    With a random upstream u, f = ⟨u, value⟩ is a function of one number along each entry:

    .. math:: f'(0) \approx \frac{8 (f_h - f_{-h}) - (f_{2h} - f_{-2h})}{12 h}, \quad \text{error } h^4 f^{(5)}/30

    The step is the one, among five, at which the result and that of half the step agree best; their difference is the
    error estimate. Where the left and the right derivative differ and do not draw together, the function has a kink:
    the entry is named and not judged. Along a random direction v the same number is ⟨u, J v⟩, and the backward's is
    ⟨Jᵀ u, v⟩: the dot-product test, whose cost does not grow with the size.

    Examples
    --------
    >>> import numpy as np
    >>> import refcl
    >>> from refcl.oracle import gradcheck
    >>> rng = np.random.default_rng(0)
    >>> report = gradcheck(refcl.info_nce, rng.standard_normal((4, 6)), rng.standard_normal((5, 6)), 0.2)
    >>> report.ok
    True
    """
    call, name = _as_call(pair, settings)
    rng = np.random.default_rng(seed)
    prepared = tuple(_prepare(x) for x in inputs)
    value, _ = call(prepared, None)
    if upstream is None:
        upstreams = [rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1.0, 1.0], y.shape) for y in value]
    else:
        upstreams = [
            np.asarray(u, dtype=np.float64) for u in (upstream if isinstance(upstream, tuple) else (upstream,))
        ]
    grads = call(prepared, upstreams)[1]
    names = _argument_names(pair, len(inputs))

    def objective(changed: tuple[Any, ...]) -> float:
        values, _ = call(changed, None)
        return float(sum(np.sum(np.where(np.isfinite(y), y, 0.0) * u) for y, u in zip(values, upstreams, strict=True)))

    checks = []
    for path, leaf in _leaves(prepared):
        label = names[path[0]] + "".join(f"[{k}]" for k in path[1:])
        gradient = _gradient_at(grads, path, label, leaf.shape)
        along = _along(objective, prepared, path, leaf)
        checks.append(_check_argument(label, gradient, leaf, along, tolerance, entries, directions, rng))
    if not checks:
        raise ValueError(f"gradcheck: {name} was given no floating-point input to differentiate.")
    return GradcheckReport(name, tolerance, checks)


def _check_argument(
    label: str,
    gradient: Any,
    leaf: Any,
    along: Callable[[Any], Callable[[float], float]],
    tolerance: float,
    entries: int,
    directions: int,
    rng: np.random.Generator,
) -> ArgumentCheck:
    every = leaf.size <= entries
    check = ArgumentCheck(label, "every entry" if every else "directions")
    seen: list[tuple[tuple[int, ...], float, Derivative]] = []
    for where, v in _units(leaf.shape) if every else _directions(leaf.shape, directions, rng):
        seen.append((where, float(np.sum(gradient * v)), derivative(along(v), _size(leaf, v) if every else 1.0)))
    exist = [(w, g, d) for w, g, d in seen if not d.kink]
    check.kinks = [w for w, _, d in seen if d.kink]
    scale = max((abs(d.value) for _, _, d in exist), default=0.0)
    if not every:
        scale = max(scale, float(np.linalg.norm(gradient)) / np.sqrt(leaf.size))
    floor = max((d.uncertainty for _, _, d in exist), default=0.0)
    allowed = tolerance * scale if scale > 1e3 * floor else max(tolerance * scale, 10 * floor)
    worst = -1.0
    for where, given, d in exist:
        if d.uncertainty > max(allowed, 1e-12):
            check.unresolved.append(where)
            continue
        check.compared += 1
        error = abs(given - d.value)
        check.failed += not error <= allowed
        check.uncertainty = max(check.uncertainty, d.uncertainty / (scale or 1.0))
        if error > worst or not np.isfinite(error):
            worst = error if np.isfinite(error) else np.inf
            check.where, check.given, check.numeric = where, given, d.value
            check.error = worst / (scale or 1.0)
    _controls(label, exist, allowed, floor)
    return check


def _size(leaf: Any, unit: Any) -> float:
    at = float(np.max(np.abs(leaf * unit)))
    # A lone number, such as a temperature, may have to stay positive: its steps are a part of itself.
    return (at or 1.0) if leaf.ndim == 0 else max(1.0, at)


def _controls(label: str, exist: list[tuple[tuple[int, ...], float, Derivative]], allowed: float, floor: float) -> None:
    """Raise where zeros would pass as the gradient, unless it is zero; twice the gradient is exactly as far off."""
    largest = max((abs(d.value) for _, _, d in exist), default=0.0)
    if largest > 1e3 * floor and largest <= allowed:
        raise RuntimeError(f"gradcheck: a gradient of zeros would pass for {label}; the tolerance is too large.")


def derivative(f: Callable[[float], float], size: float = 1.0, steps: tuple[float, ...] = STEPS) -> Derivative:
    """Differentiate a function of one variable at 0, choosing among steps by their own error estimate.

    Parameters
    ----------
    f : callable
        A float to a float.
    size : float
        The scale on which the argument counts as large.
    steps : tuple of float
        Parts of the scale, tried one after the other until one is good enough.

    Returns
    -------
    derivative : Derivative
        Its value, its uncertainty and whether the function has a kink here.

    Examples
    --------
    >>> import math
    >>> from refcl.oracle.gradcheck import derivative
    >>> abs(derivative(math.exp).value - 1.0) < 1e-10
    True
    >>> derivative(abs).kink
    True
    """
    best = Derivative(float("nan"), float("inf"), False)
    middle = f(0.0)
    for step in steps:
        h = step * size
        values = {k: f(k * h) for k in (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)}
        coarse = (8 * (values[1.0] - values[-1.0]) - (values[2.0] - values[-2.0])) / (12 * h)
        fine = (8 * (values[0.5] - values[-0.5]) - (values[1.0] - values[-1.0])) / (6 * h)
        noise = 4 * np.finfo(float).eps * max(abs(middle), abs(values[2.0]), abs(values[-2.0])) / h
        uncertainty = abs(fine - coarse) / 15 + noise
        if uncertainty < best.uncertainty:
            right = (-3 * middle + 4 * values[0.5] - values[1.0]) / h
            left = (3 * middle - 4 * values[-0.5] + values[-1.0]) / h
            further = (-3 * middle + 4 * values[1.0] - values[2.0] - 3 * middle + 4 * values[-1.0] - values[-2.0]) / (
                2 * h
            )
            jump, size_of = abs(right - left), max(abs(right), abs(left))
            # A smooth function's one-sided derivatives draw together as h²; across a kink they stay apart.
            kink = bool(jump > 1e-3 * size_of + 100 * noise and 0.7 < jump / (abs(further) + 1e-300) < 1.4)
            best = Derivative(fine, uncertainty, kink, h / 2)
        if best.uncertainty < 1e-11 * max(1.0, abs(best.value)):
            break
    return best


def _as_call(pair: Any, settings: dict[str, Any]) -> tuple[Callable[[tuple[Any, ...], Any], Any], str]:
    """Return ``call(inputs, upstream) -> list of values, grads`` for the three forms a pair can take."""
    if isinstance(pair, tuple) and len(pair) == 2 and all(callable(f) for f in pair):
        forward, backward = pair
    elif isinstance(pair, Pair) or (hasattr(pair, "forward") and hasattr(pair, "backward")):
        forward, backward = pair.forward, pair.backward
    elif callable(pair):
        return _value_and_grads(pair, settings), getattr(pair, "__name__", type(pair).__name__)
    else:
        raise TypeError(f"gradcheck: expected a pair or a callable, got {type(pair).__name__}.")

    arguments = len(pair.arguments) if isinstance(pair, Pair) else _positional(forward)

    def call(inputs: tuple[Any, ...], upstream: Any) -> tuple[list[Any], Any]:
        value, cache = _two(forward(*inputs, **settings), "a forward must return (value, cache)")
        several = isinstance(value, tuple)
        values = [to_host(y) for y in (value if several else (value,))]
        if upstream is None:
            return values, None
        grads = backward(*(np.asarray(u, dtype=y.dtype) for u, y in zip(upstream, values, strict=True)), cache)
        return values, grads if arguments > 1 else (grads,)

    return call, getattr(pair, "__name__", getattr(forward, "__name__", "pair").removesuffix("_forward"))


def _two(returned: Any, must: str) -> Any:
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        came = f"{len(returned)} things" if isinstance(returned, tuple | list) else f"a {type(returned).__name__}"
        raise TypeError(f"gradcheck: {must}; got {came}.")
    return returned


def _positional(forward: Callable[..., Any]) -> int:
    """Return how many gradients a backward owes: one for each positional argument of its forward."""
    parameters = inspect.signature(forward).parameters.values()
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _value_and_grads(function: Callable[..., Any], settings: dict[str, Any]) -> Callable[..., Any]:
    def call(inputs: tuple[Any, ...], upstream: Any) -> tuple[list[Any], Any]:
        value, grads = _two(function(*inputs, **settings), "a function must return (value, grads)")
        value = np.asarray(value)
        if value.ndim:
            raise ValueError(
                "gradcheck: a function that returns value and gradients must have a scalar value, got shape "
                f"{value.shape}; pass (forward, backward) instead."
            )
        scale = 1.0 if upstream is None else float(upstream[0])
        grads = grads if isinstance(grads, tuple | list) else (grads,)
        return [value], tuple(_scaled(g, scale) for g in grads)

    return call


def _scaled(grad: Any, scale: float) -> Any:
    if isinstance(grad, tuple | list):
        return tuple(_scaled(g, scale) for g in grad)
    return grad * scale


def _prepare(x: Any) -> Any:
    if isinstance(x, tuple | list):
        return tuple(_prepare(y) for y in x)
    if isinstance(x, float | np.floating) or (hasattr(x, "dtype") and np.issubdtype(to_host(x).dtype, np.floating)):
        return np.array(to_host(x), dtype=np.float64)
    return x


def _leaves(tree: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Any]]:
    if isinstance(tree, tuple):
        for k, branch in enumerate(tree):
            yield from _leaves(branch, (*path, k))
    elif isinstance(tree, np.ndarray) and np.issubdtype(tree.dtype, np.floating):
        yield path, tree


def _replaced(tree: Any, path: tuple[int, ...], leaf: Any) -> Any:
    if not path:
        return leaf
    return tuple(_replaced(branch, path[1:], leaf) if k == path[0] else branch for k, branch in enumerate(tree))


def _gradient_at(grads: Any, path: tuple[int, ...], label: str, shape: tuple[int, ...]) -> Any:
    for k in path:
        if not isinstance(grads, tuple | list) or k >= len(grads):
            raise ValueError(f"gradcheck: the backward returned no gradient for {label}.")
        grads = grads[k]
    gradient = np.asarray(to_host(grads))
    if gradient.shape != shape:
        raise ValueError(f"gradcheck: the gradient of {label} must have shape {shape}; got {gradient.shape}.")
    return gradient


def _along(
    objective: Callable[[tuple[Any, ...]], float], inputs: tuple[Any, ...], path: tuple[int, ...], leaf: Any
) -> Callable[[Any], Callable[[float], float]]:
    def line(v: Any) -> Callable[[float], float]:
        return lambda t: objective(_replaced(inputs, path, leaf + t * v))

    return line


def _units(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Any]]:
    for where in np.ndindex(*shape):
        unit = np.zeros(shape)
        unit[where] = 1.0
        yield where, unit


def _directions(shape: tuple[int, ...], count: int, rng: np.random.Generator) -> Iterator[tuple[tuple[int, ...], Any]]:
    for k in range(count):
        v = rng.standard_normal(shape)
        yield (k,), v / np.linalg.norm(v)


def _argument_names(pair: Any, count: int) -> list[str]:
    arguments = getattr(pair, "arguments", None)
    return list(arguments)[:count] if arguments is not None else [f"input{k}" for k in range(count)]


def _some(places: list[tuple[int, ...]]) -> str:
    shown = ", ".join(f"[{', '.join(map(str, p))}]" for p in places[:4])
    return shown + (f" and {len(places) - 4} more" if len(places) > 4 else "")
