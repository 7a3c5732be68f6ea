"""Is a gradient the gradient of the candidate's own value, and if not, in what does it differ?

In:  gradients as they came and as they should be, argument by argument.
Out: differences.
"""

import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from refcl.oracle.companions import OPTIONAL
from refcl.oracle.constants import BY_COLUMNS, SCALES, scale_named
from refcl.oracle.evidence import Result
from refcl.oracle.measure import parts, settings, temperature
from refcl.oracle.measure.lab import Lab, difference, numeric_gradient
from refcl.oracle.measure.numbers import law_by_batch
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.question import Question

CLOSE = 2e-6  # relative to the largest entry: what differences can tell


def consistent(lab: Lab, r: Result, *, right: bool = False) -> bool:
    """Return whether the gradients of one answer are those of its own value, along random directions.

    Those of the candidate; or the right ones, which are not where something is detached on purpose.
    """
    grads, eps = (r.right.grads, 2.0**-52) if right else (r.outcome.grads, lab.eps)
    if grads is None:
        return False
    rng = np.random.default_rng(3)
    weights = np.ones(np.shape(r.outcome.value)) if r.probe.upstream is None else r.probe.upstream
    for k, (x, g) in enumerate(zip(r.wide, grads, strict=True)):
        size = float(np.sqrt(np.mean(x * x))) or 1.0
        for _ in range(2):
            d = rng.standard_normal(x.shape)

            def along(t: float, k: int = k, d: Any = d) -> float:
                moved = tuple(y + t * d if j == k else y for j, y in enumerate(r.wide))
                ask = lab.right if right else lab.ask
                got = ask(moved, r.probe.scalar, r.probe.companions)
                return float("nan") if got is None else float(np.sum(np.ravel(weights) * np.ravel(got.value)))

            measured = difference(along, max(1e-3, lab.step / 8) * size)
            scale = float(np.linalg.norm(g)) * float(np.linalg.norm(d)) / math.sqrt(g.size) + abs(measured)
            if not abs(measured - float(np.sum(g * d))) <= max(3e-6, 1e4 * eps) * scale + 1e-10:
                return False
    return True


def wrong_value(r: Result) -> Difference:
    """Say of an answer that its gradients are right and its value is not."""
    got, want = (float(np.sum(x)) for x in (r.outcome.value, r.right.value))
    return say("wrong value of right gradients", "value", got=got, want=want)


def wrong_gradients(question: Question, pairs: list[tuple[Result, tuple[Any, ...]]]) -> list[Difference]:
    """Say in what gradients differ from what they should be.

    Parameters
    ----------
    question : Question
        What was asked.
    pairs : list of (Result, tuple of arrays)
        Answers and the gradients that they should have had.
    """
    names = question.inputs
    swapped = _swapped(names, pairs)
    if swapped is not None:
        return [swapped]
    found = []
    for k, name in enumerate((*names, *question.more)):
        of_one = [(r, all_of[k], np.asarray(right[k])) for r, all_of, right in _with_all(pairs) if len(right) > k]
        of_one = [(r, np.asarray(got), want) for r, got, want in of_one if got is not None]
        if of_one and not all(_same(got, want, r) for r, got, want in of_one):
            found.append(_one(question, name, k, of_one))
    return _together(found)


def _with_all(pairs: list[tuple[Result, tuple[Any, ...]]]) -> list[tuple[Result, list[Any], tuple[Any, ...]]]:
    """Return answers with all their gradients, of arrays, further scalars and what was given, and the right ones."""
    found = []
    for r, right in pairs:
        if r.outcome.grads is not None:
            more = [None if d is None else np.asarray(d) for d in r.outcome.dmore]
            missing = [None] * (len(right) - len(r.outcome.grads) - len(more))
            found.append((r, [*r.outcome.grads, *more, *missing], right))
    return found


def _same(got: Any, want: Any, r: Result) -> bool:
    scale = float(np.max(np.abs(want), initial=0.0))
    return bool(np.max(np.abs(got - want), initial=0.0) <= max(CLOSE, 1e4 * r.outcome.eps) * scale + 1e-12)


def _swapped(names: tuple[str, ...], pairs: list[tuple[Result, tuple[Any, ...]]]) -> Difference | None:
    for k, j in pairwise(range(len(names))):
        there = [(r, r.outcome.grads, right) for r, right in pairs if r.outcome.grads is not None]
        if not there or any(g[k].shape != g[j].shape for _, g, _ in there):
            continue
        crossed = all(_same(g[k], want[j], r) and _same(g[j], want[k], r) for r, g, want in there)
        if crossed and not all(_same(g[k], want[k], r) for r, g, want in there):
            return say("gradients swapped", f"d{names[k]}, d{names[j]}", a=names[k], b=names[j])
        for one, other in ((k, j), (j, k)):
            if all(
                _same(g[one], want[other], r) and _same(g[other], want[other], r) for r, g, want in there
            ) and not all(_same(g[one], want[one], r) for r, g, want in there):
                return say("gradient returned twice", f"d{names[one]}", a=names[one], b=names[other])
    return None


def _clipped(of_one: list[tuple[Result, Any, Any]]) -> str:
    """Return the bound that a gradient is held to, where it is the right one wherever that is within it."""
    size: tuple[tuple[str, Callable[[Any], Any]], ...] = (
        ("no entry is larger than", np.abs),
        ("no row is longer than", lambda g: np.linalg.norm(g, axis=-1, keepdims=True)),
        ("it is nowhere longer, as a whole, than", lambda g: np.linalg.norm(np.ravel(g))),
    )
    for said, f in size if of_one[0][1].ndim else ():
        c = max(float(np.max(f(got))) for _, got, _ in of_one)
        beyond = sum(int(np.sum(f(want) > 1.001 * c)) for _, _, want in of_one)  # of one alone any bound can be said
        if beyond > 1 and all(
            _same(got, want * np.minimum(1.0, c / np.maximum(f(want), 1e-300)), r) for r, got, want in of_one
        ):
            return f"{said} {c:.6g}"
    return ""


def _one(question: Question, name: str, k: int, of_one: list[tuple[Result, Any, Any]]) -> Difference:
    where = f"d{name}"
    if all(not np.any(got) for _, got, _ in of_one):
        return say("no gradient", where, input=name)
    if any(not np.all(np.isfinite(got)) for _, got, _ in of_one):
        return say("gradient not finite", where, input=name)
    bound = _clipped(of_one)
    if bound:
        return say("gradient clipped", where, input=name, bound=bound)
    factor = _factor(question, of_one)
    if factor:
        id_ = "" if factor.startswith((BATCHES, "N/active")) else None
        return say("gradient scaled", where, name=id_, input=name, factor=factor)
    turns: tuple[tuple[str, Callable[[Any], Any]], ...] = (
        ("transposed: its last two axes are swapped", lambda g: np.swapaxes(g, -1, -2) if g.ndim > 1 else g[:0]),
        ("reversed along its rows", lambda g: g[::-1]),
        ("rolled by one row", lambda g: np.roll(g, 1, axis=0)),
        ("rolled back by one row", lambda g: np.roll(g, -1, axis=0)),
        ("the mean of all its entries, in each of them", lambda g: np.full_like(g, np.mean(g))),
        ("the sum of all its entries, in each of them", lambda g: np.full_like(g, np.sum(g))),
    )
    for said, f in turns:
        if all(want.ndim > 0 and f(want).shape == got.shape and _same(got, f(want), r) for r, got, want in of_one):
            return say("gradient turned", where, input=name, turn=said)
    part = _part(question, k, of_one)
    if part:
        id_ = "keys-detached" if part == f"{parts.CANDIDATE} counts 0 times" else None
        return say("a part of the gradient", where, name=id_, what=f"d{name}", part=part)
    for other in (*settings.other_settings(question), *settings.other_backwards(question)):
        answers = [(settings.answer_of(other.question, r, other.scalar), r, got) for r, got, _ in of_one]
        if all(a is not None and k < len(a.grads) and _same(got, a.grads[k], r) for a, r, got in answers):
            return say(
                "gradient asked otherwise", where, input=name, typed=other.said, means=other.means, now=other.now
            )
    at = _another_temperature(question, name, k, of_one)
    if at is not None:
        return at
    by_row = _row_factor(question, name, k, of_one)
    if by_row:
        projected = question.recipe.normalization == "rows"
        change = "dx = (I - zzᵀ) dz/‖x‖, row by row" if projected else f"d{name} of the same sums as the value's"
        return say("gradient by row", where, input=name, factor=by_row, change=change)
    projection = _projection(question, name, k, of_one)
    if projection is not None:
        return projection
    _, got, want = max(of_one, key=lambda one: float(np.max(np.abs(one[1] - one[2]))))
    if not got.ndim:
        return say("another gradient", where, input=name, some="", got=float(got), want=float(want))
    wrong = np.abs(got - want) > 1e-5 * float(np.max(np.abs(want)))
    rows = np.unique(np.nonzero(wrong)[0])
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.abs(got - want))), got.shape))
    some = f" in {np.sum(wrong)} of {wrong.size} entries" + (
        f", rows {', '.join(map(str, rows))} of {len(got)}" if len(rows) < len(got) else ""
    )
    missing = [i for i in range(len(got)) if not np.any(got[i]) and np.any(want[i])]
    if missing and len(missing) < len(got):
        also = ", ".join(map(str, missing))
        return say("no gradient in rows", f"d{name}[{also}]", input=name, rows=also)
    return say("another gradient", f"d{name}{list(place)}", input=name, some=some, got=got[place], want=want[place])


def _another_temperature(
    question: Question, name: str, k: int, of_one: list[tuple[Result, Any, Any]]
) -> Difference | None:
    """Say whether a gradient is that of another law of the temperature, but for a factor."""
    for law in temperature.laws(question):
        answers = [(r, got, settings.answer_of(question, r, law.at)) for r, got, _ in of_one]
        there = [(r, got, np.asarray(a.grads[k])) for r, got, a in answers if a is not None and k < len(a.grads)]
        factor = _factor(question, there) if len(there) == len(of_one) else ""
        if factor and not factor.startswith(BATCHES):
            times = "" if factor == "1" else f", times {factor}"
            return say(
                "gradient at another temperature", f"d{name}", input=name, what=law.said, law=law.formula, times=times
            )
    return None


def _counted(question: Question, numbers: list[tuple[Result, float]]) -> tuple[str, Callable[[Result], float]] | None:
    """Return what the numbers of several batches are: a constant with a name, or the same; in words and by batch."""
    first = numbers[0][1]
    c = round(first, 5) + 0.0 if abs(first - round(first, 5)) < 1e-6 else first
    names = _common_names(question, numbers) if any(abs(x - 1) > 1e-6 for _, x in numbers) else []
    if names:
        said = names[0] if names[0] == f"{c:.6g}" else f"{names[0]} ({c:.6g})"
        return said, partial(_constant, question, names[0])
    return (f"{c:.6g}", lambda _: c) if all(abs(x - c) <= 1e-5 * max(abs(c), 1.0) for _, x in numbers) else None


def _constant(question: Question, name: str, r: Result) -> float:
    return float(scale_named(name).at(question.facts(r.wide, r.probe.scalar)) or 0.0)


def _part(question: Question, k: int, of_one: list[tuple[Result, Any, Any]]) -> str:
    """Say which parts of a gradient count otherwise than they should, where the rest is right."""
    found = parts.otherwise(question, k, of_one, partial(_counted, question))
    less, more = ([said for said, times in found if times == n] for n in ("0", "1"))
    if len(less) == len(more) == len(found) / 2:
        return ", and ".join(f"{b} stands where {a} belongs" for a, b in zip(less, more, strict=True))
    return ", and ".join(f"{said} counts {times} times" for said, times in found)


def named_factor(question: Question, r: Result, free: float) -> list[str]:
    """Return the names of the constants that a number may be on one batch."""
    facts = question.facts(r.wide, r.probe.scalar)
    found = []
    for named in SCALES:
        at = named.at(facts)
        if at is not None and abs(float(at) - free) <= 1e-6 * abs(free):
            found.append(named.name)
    weight = float(r.probe.scalar or 0.0) if question.scalar == "weight" else 0.0
    of_weight = (("λ", weight), ("1/λ", 1 / weight)) if weight else ()
    found += [name for name, x in of_weight if abs(x - free) <= 1e-6 * abs(free)]
    return found


def _common_names(question: Question, numbers: list[tuple[Result, float]]) -> list[str]:
    """Return the names of the constants that the numbers of all batches may be, the shortest first."""
    names = set.intersection(*(set(named_factor(question, r, c)) for r, c in numbers))
    by_rows = names - {named.name for named in BY_COLUMNS}
    return sorted(by_rows or names, key=lambda n: (len(n), n))


def _factor(question: Question, of_one: list[tuple[Result, Any, Any]]) -> str:
    numbers: list[float] = []
    for r, got, want in of_one:
        square = float(np.sum(want * want))
        c = float(np.sum(got * want)) / square if square else float("nan")
        if not math.isfinite(c) or not _same(got, c * want, r):
            return ""
        numbers.append(c)
    first = _common_names(question, [(r, c) for (r, _, _), c in zip(of_one, numbers, strict=True)])[:2]
    if first:
        number = f"{numbers[0]:.6g}"
        return " or ".join(first) if number in first else f"{' or '.join(first)} ({number})"
    if max(numbers) - min(numbers) < 1e-6 * abs(numbers[0]):
        return f"{numbers[0]:.6g}"
    there = [(r, c) for (r, _, _), c in zip(of_one, numbers, strict=True) if r.outcome.eps < 1e-10]
    law = law_by_batch(question, there)
    every = ", ".join(f'{c:.6g} on "{r.probe.name}"' for r, c in there[:4])
    each = f"{BATCHES} ({every})" if of_one[0][1].ndim else ""  # any two numbers have a factor
    return f"{law[0]} ({law[1]})" if law else each


BATCHES = "another number on each batch"


def _rows(question: Question, name: str, k: int, r: Result) -> Any:
    """Return the rows that a gradient is of, or None where it is not one of rows."""
    if k < len(question.inputs):
        return r.wide[k] if r.wide[k].ndim == 2 else None
    if name != OPTIONAL[0]:
        return None
    x = (question.settings | question.under(r.probe).companions(r.wide))[name]
    return np.reshape(x, (-1, x.shape[-1]))


def _row_factor(question: Question, name: str, k: int, of_one: list[tuple[Result, Any, Any]]) -> str:
    laws: dict[str, Callable[[Any], Any]] = {
        "divided by its row's length ‖x‖ once too often: 1/‖x‖² stands where 1/‖x‖ belongs": lambda x: 1 / x,
        "not divided by its row's length ‖x‖": lambda x: x,
        "divided by its row's squared length ‖x‖² too much": lambda x: 1 / x**2,
        "multiplied by its row's squared length ‖x‖²": lambda x: x**2,
    }
    if not question.recipe.embeddings:
        return ""
    rows = [_rows(question, name, k, r) for r, _, _ in of_one]
    if any(x is None for x in rows):
        return ""
    of_one = [
        (r, np.reshape(got, x.shape), np.reshape(want, x.shape)) for (r, got, want), x in zip(of_one, rows, strict=True)
    ]
    for said, law in laws.items():
        if all(
            _same(got, want * law(np.linalg.norm(x, axis=-1, keepdims=True)), r)
            for (r, got, want), x in zip(of_one, rows, strict=True)
        ):
            return said
    for j, other in enumerate(question.inputs):
        if j != k and all(np.shape(r.wide[j]) == x.shape for (r, _, _), x in zip(of_one, rows, strict=True)):
            size = [
                np.linalg.norm(np.stack([x, r.wide[j]]), axis=2)[..., None]
                for (r, _, _), x in zip(of_one, rows, strict=True)
            ]
            if all(_same(got, want * n / m, r) for (r, got, want), (n, m) in zip(of_one, size, strict=True)):
                return f"divided by the length of its row of {other}, not of {name}"
    for r, got, want in of_one:
        c = np.sum(got * want, axis=1, keepdims=True) / np.maximum(np.sum(want * want, axis=1, keepdims=True), 1e-300)
        if not _same(got, c * want, r):
            return ""
    return f"times a number of its own: {', '.join(f'{x:.4g}' for x in np.ravel(c)[:6])}"


def _projection(question: Question, name: str, k: int, of_one: list[tuple[Result, Any, Any]]) -> Difference | None:
    """Say whether a gradient is right but for the projection of the normalization, and what stands in its place."""
    if not question.recipe.embeddings or question.recipe.normalization != "rows":
        return None
    if any(_rows(question, name, k, r) is None for r, _, _ in of_one):
        return None
    for power, also in ((0, ""), (1, ", and nothing is divided by ‖x‖"), (-1, ", and all is divided by ‖x‖ twice")):
        came, along = [], True
        for r, got, want in of_one:
            x = _rows(question, name, k, r)
            length = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
            z, got, want = x / length, np.reshape(got, x.shape) / length**power, np.reshape(want, x.shape)
            came.append((r, got, parts.unprojected(question, k, r, want), x, length))
            along = along and _same(want + np.sum((got - want) * z, axis=1, keepdims=True) * z, got, r)
        known = all(one[2] is not None for one in came)
        how = next((said for said in map(str, _in_its_place(question, k, came)) if said), "") if known else ""
        if how or (along and not power):
            id_ = "normalization-jacobian-missing" if how == MISSING or not known else ""
            return say("gradient along the rows", f"d{name}", name=id_, input=name, how=(how or "is wrong") + also)
    return None


MISSING = "is missing"


def _in_its_place(question: Question, k: int, came: list[tuple[Result, Any, Any, Any, Any]]) -> Iterator[str]:
    """Yield what may stand in the place of the projection: z ⟨z, dz⟩ of raw rows, of others, with another number."""
    instead: list[tuple[str, Callable[[Result, Any, Any, Any], Any]]] = [
        ("", lambda r, d, x, n: _onto(x / n, d)),
        ("holds the raw rows: x ⟨x, dz⟩ stands where z ⟨z, dz⟩ belongs", lambda r, d, x, n: _onto(x, d)),
        ("holds a raw row: x ⟨z, dz⟩ stands where z ⟨z, dz⟩ belongs", lambda r, d, x, n: _onto(x / n, d) * n),
        ("is divided by ‖x‖ again: z ⟨z, dz⟩/‖x‖", lambda r, d, x, n: _onto(x / n, d) / n),
        ("is divided by ‖x‖² again: z ⟨z, dz⟩/‖x‖²", lambda r, d, x, n: _onto(x / n, d) / n**2),
        (WHOLE, lambda r, d, x, n: x / n**2 * np.sum(x * d)),
        (f"{WHOLE} (their mean)", lambda r, d, x, n: x / n**2 * np.sum(x * d) / len(x)),
    ]
    for j, other in enumerate(question.inputs):
        if all(r.wide[j].shape == x.shape for r, _, _, x, _ in came) and j != k:
            said = f"is that of the rows of {other}: {{}} stands where z ⟨z, dz⟩ belongs"
            instead += [
                (said.format("y ⟨y, dz⟩, y of length 1,"), partial(_onto_others, _unit, j)),
                (said.format("y ⟨y, dz⟩, y raw,"), partial(_onto_others, np.asarray, j)),
            ]
    for said, part in instead:
        numbers = []
        for r, got, d, x, length in came:
            p = part(r, d, x, length)
            c = float(np.sum((d - got) * p)) / max(float(np.sum(p * p)), 1e-300)
            if not _same(got, d - c * p, r):
                break
            numbers += [c] if r.outcome.eps < 1e-10 else []
        else:
            if numbers and np.ptp(numbers) < 1e-5 and (abs(numbers[0] - 1) < 1e-5 or not said):
                c = round(numbers[0], 5) + 0.0
                yield said or {0.0: MISSING, -1.0: "has the other sign: z ⟨z, dz⟩ is added"}.get(
                    c, f"counts {c:g} times"
                )


WHOLE = "takes one inner product ⟨z, dz⟩ over the whole batch, without an axis, not row by row"


def _unit(x: Any) -> Any:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _onto_others(f: Callable[[Any], Any], j: int, r: Result, d: Any, *_: Any) -> Any:
    return _onto(f(r.wide[j]), d)


def _onto(y: Any, d: Any) -> Any:
    return y * np.sum(y * d, axis=1, keepdims=True)


def _together(found: list[Difference]) -> list[Difference]:
    """Say once what holds of every argument."""
    if len(found) < 2:
        return found
    kinds = {(re.sub(rf"\b{f.where}\b|(?<= of ){f.where[1:]}\b", "·", f.what), f.name) for f in found}
    if len(kinds) > 1:
        return found
    return [found[0]._replace(where=", ".join(f.where for f in found))]


def wrong_scalar(question: Question, pairs: list[tuple[Result, float]]) -> Difference | None:
    """Say in what the gradient of the temperature differs from what it should be."""
    name = question.scalar
    there = [(r, r.outcome.dscalar, want) for r, want in pairs if r.outcome.dscalar is not None]
    if not there:
        return None
    if all(got == 0.0 for _, got, _ in there) and any(abs(w) > 1e-9 for _, _, w in there):
        return say("no gradient of the scalar", f"d{name}", scalar=name, want=there[0][2])
    first: dict[str, Any] = {"scalar": name, "got": there[0][1], "want": there[0][2]}
    there = [(r, got, want) for r, got, want in there if got or want]
    if not all(want and math.isfinite(got) for _, got, want in there):
        return say("another gradient of the scalar", f"d{name}", factor="", **first)
    factor = _common_names(question, [(r, got / want) for r, got, want in there])[:1]
    said = f": it is {factor[0]} times what it should be" if factor else ""
    arrays = [(r, np.asarray(g), np.asarray(w)) for r, g, w in there]
    part = "" if factor else _part(question, parts.SCALAR, arrays)
    said = f": {part}" if part else said
    return say("another gradient of the scalar", f"d{name}", factor=said, **first)


def numeric_pairs(lab: Lab, results: list[Result]) -> list[tuple[Result, tuple[Any, ...]]]:
    """Return the smallest answers with the gradient of the candidate's own value."""
    small = sorted(results, key=lambda r: sum(x.size for x in r.wide))[:2]
    return [(r, numeric_gradient(lab, r.wide, r.probe.scalar, r.probe.companions)) for r in small]
