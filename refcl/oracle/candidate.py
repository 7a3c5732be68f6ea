"""Calling other people's code: what it returned, made comparable, or one sentence that says why it can't be judged.

In:  a callable and a probe.
Out: an `Outcome`: value, gradients and the precision that they can be held to. Its arguments are copies, and are looked
at afterwards.
"""

import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from refcl.oracle.companions import COMPANIONS, MEMORY, OPTIONAL
from refcl.oracle.probes import Probe
from refcl.oracle.question import Question
from refcl.oracle.raised import CannotJudge, remedy, shortened
from refcl.oracle.returned import alike, array_gradient, numbers, of_jax, said_shape, signature_of, spacing

# How people call the scalar, where it stands after the arrays with a default of its own.
SCALAR_NAMES = {
    "temperature": ("temperature", "temp", "tau", "t", "T"),
    "log_scale": ("log_scale", "logit_scale", "log_logit_scale", "theta"),
    "weight": ("weight", "lam", "lambda_", "w"),
}


@dataclass
class Outcome:
    """What a candidate returned for one probe.

    Attributes
    ----------
    value : float64 array
        () or (A,).
    grads : tuple of arrays or None
        One for each input; None where the gradient is not judged.
    dscalar : float or None
        Gradient by the scalar; None where it is not judged.
    eps : float
        Spacing of the precision that the numbers came in.
    """

    value: Any
    grads: tuple[Any, ...] | None
    dscalar: float | None
    eps: float
    noise: float = 0.0  # relative error that the gradients may have beside rounding: numeric differentiation
    dmore: tuple[Any, ...] = ()  # by what else has a gradient; empty where it is not judged, None where one is not

    @property
    def finite(self) -> bool:
        parts = [self.value, *(self.grads or ()), *(d for d in self.dmore if d is not None)]
        return all(bool(np.all(np.isfinite(x))) for x in parts)


@dataclass
class Candidate:
    """A callable under examination.

    Attributes
    ----------
    passes_scalar : bool
        Whether it takes the temperature (log-scale, weight) as an argument after the arrays.
    notes : dict
        Sentences about how it behaves, each said once.
    """

    function: Callable[..., Any]
    question: Question
    passes_scalar: bool
    passes_upstream: bool
    passes: tuple[str, ...] = ()  # which companions of a batch, such as labels or a bank
    passes_more: bool = False  # whether it takes further scalars, such as a bias, after the scalar
    noise: float = 0.0
    few_shapes: bool = False  # whether each shape costs a compilation
    coarse: float = 0.0  # spacing of a precision that is accepted on purpose
    needs_weight: bool = False  # whether it has no default of its own, 1/K, for the weight of the negatives
    notes: dict[str, str] = field(default_factory=dict)

    def __call__(self, probe: Probe) -> Outcome:
        if probe.companions:
            return replace(self, question=self.question.under(probe))(replace(probe, companions=None))
        given = [np.array(x, copy=True) for x in probe.inputs]
        arguments: list[Any] = [tuple(given)] if self.question.in_a_tuple else list(given)
        if self.passes_scalar:
            k = self.question.facts(probe.inputs, None).negatives if self.needs_weight and probe.scalar is None else 0
            arguments.append(1 / k if k else probe.scalar)
        if self.passes_more:
            arguments += self.question.more_scalars
        keywords = {}
        if self.passes_upstream and probe.upstream is not None:
            keywords["upstream"] = self.question.shaped_upstream(probe.upstream.copy(), probe.inputs, probe.scalar)
        companions = self.question.companions(probe.inputs)
        keywords |= {
            name: companions[name] if name in companions else self._settled(name, probe) for name in self.passes
        }
        returned = self._call(arguments, keywords, probe)
        for name, mine, theirs in zip(self.question.inputs, probe.inputs, given, strict=True):
            if not np.array_equal(mine, theirs, equal_nan=True):
                self.notes["in place"] = f"It changes its argument {name} in place."
        return self._outcome(returned, probe)

    def _settled(self, name: str, probe: Probe) -> Any:
        """Return a companion that the user has given, in the precision of the batch."""
        held = self.question.settings[name]
        if isinstance(held, int | float | str):
            return held  # a loss that must be told its hardest or tau_plus takes a number, no array
        x = np.asarray(held)
        return x.astype(probe.dtype) if x.dtype.kind == "f" else x.copy()

    def _call(self, arguments: list[Any], keywords: dict[str, Any], probe: Probe) -> Any:
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                return self.function(*arguments, **keywords)
        except (CannotJudge, KeyboardInterrupt):
            raise
        except BaseException as error:  # SystemExit, and what pytest raises, are no reason to have no report
            first = str(error).strip().splitlines()
            said = f"{type(error).__name__}: {first[0]}" if first else type(error).__name__
            where = f'on probe "{probe.name}" ({probe.sizes}, {probe.dtype})'
            last = traceback.extract_tb(error.__traceback__)[-1].line or ""
            wrapped = hasattr(self.function, "few_shapes")
            raise CannotJudge(
                f"the candidate raised {said} {where}.{remedy(said, wrapped)}",
                shortened(error),
                refused=last.lstrip().startswith(("raise", "assert")),
            ) from None

    def _outcome(self, returned: Any, probe: Probe) -> Outcome:
        value, given = self._split(returned, probe)
        if self.question.in_a_tuple and given and (isinstance(given[0], tuple | list) or np.ndim(given[0]) == 3):
            given = (*given[0], *given[1:])
        value_array = numbers(value, "the value", alone=given is None)
        precisions = [spacing(value_array), spacing(probe.inputs[0])]
        own = self.question.value_shape(probe.inputs, probe.scalar)
        shape = (int(np.prod(own)),) if own else ()
        if value_array.shape not in (own, *alike(shape)):
            each = ' If it is the loss of each anchor, say reduction="none".' if own == () and value_array.ndim else ""
            raise CannotJudge(
                f"the value has shape {value_array.shape}; expected {said_shape(own)} "
                f'with reduction="{self.question.recipe.reduction}".{each}'
            )
        grads: tuple[Any, ...] | None = None
        dscalar: float | None = None
        dmore: tuple[Any, ...] = ()
        if given is not None:
            arrays, dscalar, dmore = self._gradients(given, probe)
            precisions += [spacing(g) for g in arrays]
            grads = tuple(g.astype(np.float64) for g in arrays)
        eps = max(*precisions, self.coarse)
        return Outcome(value_array.astype(np.float64).reshape(shape), grads, dscalar, eps, self.noise, dmore)

    def _split(self, returned: Any, probe: Probe) -> tuple[Any, tuple[Any, ...] | None]:
        """Part what came back into value and gradients: value, (value, grads), or value and gradients in a row."""
        if returned is None:
            raise CannotJudge("it returned None; expected a value, or (value, grads).")
        if isinstance(returned, Mapping):
            if "loss" not in returned:
                raise CannotJudge(
                    f'it returned a dict with {", ".join(map(str, returned))}; expected a value, or "loss".'
                )
            self.notes["beside the loss"] = 'It returns a dict: its "loss" was judged.'
            returned = returned["loss"]
        if not isinstance(returned, tuple | list):
            return returned, None
        if len(returned) == 1:
            return returned[0], None
        if len(returned) == 0:
            raise CannotJudge("it returned nothing; expected a value, or (value, grads).")
        value, *rest = returned
        if len(rest) > 1:
            return value, tuple(rest)
        grads = rest[0]
        if self.question.given and hasattr(grads, "_asdict"):  # refcl's own: None where nothing was given
            grads = {name: g for name, g in grads._asdict().items() if g is not None}
        if isinstance(grads, Mapping):
            return value, self._by_name(grads)
        if grads is None:
            return value, None
        if isinstance(grads, tuple | list):
            known = len(self.question.names)  # what a call left out has no gradient: refcl's own say None
            return value, tuple(g for k, g in enumerate(grads) if k < known or g is not None)
        if np.ndim(grads) == 0:
            self.notes["beside the loss"] = "It returns a value and a number: the value alone was judged."
            return value, None
        if len(self.question.inputs) == 1:
            return value, (grads,)
        if len(grads) != len(self.question.inputs) or np.ndim(grads) != np.ndim(probe.inputs[0]) + 1:
            expected = ", ".join(f"d{name}" for name in self.question.inputs)
            raise CannotJudge(f"it returned one array of shape {np.shape(grads)} as gradients; expected ({expected}).")
        return value, tuple(grads)

    def _by_name(self, grads: Mapping[Any, Any]) -> tuple[Any, ...]:
        """Return the gradients of a dictionary in the order of the arguments; "query" and "dquery" are one name."""
        question = self.question
        scalars = tuple(n for n in question.names if n not in (*question.inputs, *question.given))
        arrays = ("views",) if question.in_a_tuple and {"views", "dviews"} & set(grads) else question.inputs
        names = (*arrays, *scalars, *question.given)
        spelt = {name: name for name in names} | {f"d{name}": name for name in names}
        spelt |= {
            f"{d}{alias}": str(question.scalar)
            for alias in SCALAR_NAMES.get(str(question.scalar), ())
            for d in ("", "d")
            if f"{d}{alias}" not in spelt
        }
        found: dict[str, Any] = {}
        for key, gradient in grads.items():
            expected = ", ".join(f"d{name}" for name in names)
            if key not in spelt:
                raise CannotJudge(f"it returned a gradient of {key!r}; expected {expected}.")
            if spelt[key] in found:
                raise CannotJudge(f"it returned two gradients of {spelt[key]}; expected {expected}.")
            found[spelt[key]] = gradient
        absent = [name for name in arrays if name not in found]
        if absent:
            came = ", ".join(map(str, grads)) or "none"
            raise CannotJudge(f"its gradients lack that of {absent[0]}; it returned {came}.")
        given = [name for name in scalars if name in found]
        if given != list(scalars[: len(given)]) and not (self.passes_more and not self.passes_scalar):
            raise CannotJudge(f"its gradients lack that of {scalars[0]}, but have that of {given[0]}.")
        rest = [found.get(name) for name in question.given]
        return tuple(found[name] for name in (*arrays, *given)) + (
            tuple(rest) if any(g is not None for g in rest) else ()
        )

    def _gradients(self, given: tuple[Any, ...], probe: Probe) -> tuple[list[Any], float | None, tuple[Any, ...]]:
        k = len(probe.inputs)
        names, more = self.question.inputs, self.question.more
        # A bias is given and not the scalar: then a gradient after those of the arrays is the bias's.
        fixed = self.passes_more and not self.passes_scalar
        if self.question.given and len(given) == k + len(more):
            fixed = not self.passes_scalar or np.size(given[k]) > 1
        has_scalar = self.question.scalar is not None and not fixed
        counts = [k, k + 1, *([k + has_scalar + len(more)] if more else [])]
        if len(given) not in counts:
            expected = ", ".join(f"d{n}" for n in self.question.names)
            said = " or ".join(map(str, dict.fromkeys(counts)))
            raise CannotJudge(f"it returned {len(given)} gradients; expected {said}: {expected}.")
        arrays = []
        for name, x, g in zip(names, probe.inputs, given, strict=False):
            if g is None:
                self.notes[f"none {name}"] = f"Its gradient of {name} is None: judged as zeros."
                arrays.append(np.zeros_like(x))
                continue
            arrays.append(array_gradient(g, name, x.shape))
        dscalar = self._scalar_gradient(given[k], str(self.question.scalar)) if has_scalar and len(given) > k else None
        rest = given[k + has_scalar :]
        held = self.question.settings | self.question.companions(probe.inputs) if rest else {}
        dmore = tuple(
            self._scalar_gradient(g, name)
            if name not in self.question.given
            else None
            if g is None
            else array_gradient(g, name, held[name].shape).astype(np.float64)
            for g, name in zip(rest, more, strict=False)
        )
        return arrays, dscalar, dmore

    def _scalar_gradient(self, given: Any, name: str) -> float:
        if given is None:
            return float("nan")
        number = numbers(given, f"the gradient of the {name}")
        if number.size != 1:
            raise CannotJudge(f"the gradient of the {name} has shape {number.shape}; expected ().")
        return float(number.reshape(()))


def wrap(function: Callable[..., Any], question: Question, *, passes_scalar: bool | None = None) -> Candidate:
    """Look at a callable's signature and return it as a candidate.

    Parameters
    ----------
    function : callable
        ``f(*arrays)`` or ``f(*arrays, scalar)``, returning a value or ``value, grads``.
    question : Question
        What it is held against.
    passes_scalar : bool, optional
        Whether to pass the scalar; by default read from the signature.

    Raises
    ------
    CannotJudge
        Where it can't be called with the arrays of this loss.
    """
    if not callable(function):
        raise CannotJudge(f"the candidate is a {type(function).__name__}, which can't be called.")
    k = 1 if question.in_a_tuple else len(question.inputs)
    if passes_scalar is None and hasattr(function, "takes_scalar"):
        passes_scalar = bool(function.takes_scalar)
    try:
        parameters = list(signature_of(function).parameters.values())
    except (TypeError, ValueError):
        return Candidate(
            function,
            question,
            bool(passes_scalar),
            False,
            noise=getattr(function, "noise", 0.0),
            notes=getattr(function, "notes", {}),
        )
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    anything = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    takes_upstream = any(p.name == "upstream" for p in parameters)
    arrays = "a tuple of views" if question.in_a_tuple else ", ".join(question.inputs)
    if len(positional) < k and not anything:
        together = (
            ' Where it takes them together, say inputs="stacked" or inputs="views".' if positional and k > 1 else ""
        )
        raise CannotJudge(
            f"the candidate takes {len(positional)} positional arguments; {question.loss} gives it {k}: {arrays}."
            f"{together}"
        )
    scalars = [name for name in question.more if name not in question.given]
    passes_more = bool(scalars) and all(any(p.name == name for p in positional) for name in scalars)
    required = [p for p in required if p.name not in (*COMPANIONS, *question.more)]
    # A module that holds its temperature takes the arrays alone.
    given = bool(question.scalar) and not hasattr(function, "takes_scalar")
    if len(required) > k + given:
        also = f" and {question.scalar}" if given else ""
        if hasattr(function, "together"):
            raise CannotJudge(
                f'inputs="{function.together}" hands over one array{also}; the candidate requires '
                f"{', '.join(p.name for p in required[k:])} besides: leave inputs= out where it takes the views apart."
            )
        raise CannotJudge(
            f"the candidate requires {len(required)} positional arguments "
            f"({', '.join(p.name for p in required)}); {question.loss} gives it {arrays}{also}.{_by_name(question)}"
        )
    names = [p.name for p in positional]
    if passes_scalar is None:
        known = SCALAR_NAMES.get(str(question.scalar), ())
        stands = [i for i, name in enumerate(names) if name in known and (i > k or len(name) > 1)]
        if stands and k not in stands:
            one = ' Where its first holds all views, say inputs="stacked".' if len(positional) <= k else ""
            raise CannotJudge(_directly_after(question, str(question.scalar), arrays, True) + one)
        passes_scalar = question.scalar is not None and (len(required) > k or bool(stands))
    if passes_more and names[k + passes_scalar :][: len(scalars)] != scalars:
        raise CannotJudge(_directly_after(question, " and ".join(scalars), arrays, passes_scalar))
    taken = next((p.name for p in positional[:k] if p.name in ("labels", *MEMORY, *OPTIONAL)), None)
    if taken is not None:
        raise CannotJudge(f"its {taken} would be given one of {arrays}: {_line(question, bool(passes_scalar))}.")
    companions = tuple(
        p.name
        for p in parameters
        if p.name in question.companions_needed or (p.name in question.settings and p.default is p.empty)
    )
    unasked = next((p.name for p in parameters if p.name in OPTIONAL and p.default is p.empty), None)
    if unasked is not None and unasked not in question.given:
        raise CannotJudge(f"the candidate takes {unasked}, which was not asked for: say given=({unasked!r},).")
    missing = set(question.companions_needed) - set(companions)
    if missing:
        raise CannotJudge(
            f"{question.loss} needs {sorted(missing)[0]}: the candidate must take it by that name: "
            f"{_line(question, passes_scalar and question.base is None)}."
        )
    noise, notes = getattr(function, "noise", 0.0), getattr(function, "notes", {})
    few, default = getattr(function, "few_shapes", of_jax(function)), question.ignore is not None
    needs = question.scalar == "weight" and len(required) > k and not (default or question.recipe.hardest)
    passes = (passes_scalar, takes_upstream, companions, passes_more)
    return Candidate(function, question, *passes, noise, few, notes=notes, needs_weight=needs)


def _by_name(question: Question) -> str:
    """Return what to type where a loss hands something over by its name."""
    names = question.companions_needed
    return f" What else it needs comes by name, {', '.join(names)}: {_line(question, bool(question.scalar))}." * bool(
        names
    )


def _directly_after(question: Question, scalar: str, arrays: str, passes_scalar: bool) -> str:
    return f"the candidate must take its {scalar} directly after {arrays}: {_line(question, passes_scalar)}."


def _line(question: Question, passes_scalar: bool) -> str:
    """Return what to type around a function whose arguments stand otherwise."""
    arrays = ("views",) if question.in_a_tuple else question.inputs
    scalars = ([str(question.scalar)] if passes_scalar else []) + [n for n in question.more if n not in question.given]
    names = ", ".join((*arrays, *scalars, *question.companions_needed))
    return f"lambda {names}: mine(…), with its own arguments in their order"
