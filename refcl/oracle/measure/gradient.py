"""Is a gradient the gradient of the candidate's own value, and if not, in what does it differ?

In:  gradients as they came and as they should be, argument by argument.
Out: differences.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from refcl.oracle.companions import OPTIONAL
from refcl.oracle.constants import SCALES
from refcl.oracle.evidence import Result
from refcl.oracle.measure import settings, temperature
from refcl.oracle.measure.lab import Lab, difference, numeric_gradient
from refcl.oracle.measure.shares import of_rows
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
        of_one = [one for one in of_one if one[1] is not None]
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


def _one(question: Question, name: str, k: int, of_one: list[tuple[Result, Any, Any]]) -> Difference:
    where = f"d{name}"
    if all(not np.any(got) for _, got, _ in of_one):
        return say("no gradient", where, input=name)
    if any(not np.all(np.isfinite(got)) for _, got, _ in of_one):
        return say("gradient not finite", where, input=name)
    factor = _factor(question, of_one)
    if factor:
        return say("gradient scaled", where, input=name, factor=factor)
    turns: tuple[tuple[str, Callable[[Any], Any]], ...] = (
        ("transposed: its last two axes are swapped", lambda g: np.swapaxes(g, -1, -2)),
        ("reversed along its rows", lambda g: g[::-1]),
        ("rolled by one row", lambda g: np.roll(g, 1, axis=0)),
        ("rolled back by one row", lambda g: np.roll(g, -1, axis=0)),
    )
    for said, f in turns:
        if all(want.ndim > 1 and f(want).shape == got.shape and _same(got, f(want), r) for r, got, want in of_one):
            return say("gradient turned", where, input=name, turn=said)
    part = _part(question, k, of_one)
    if part is not None:
        return say("a part of the gradient", where, what=f"d{name}", part=part[0], times=part[1])
    for other in settings.other_settings(question):
        answers = [(settings.answer_of(other.question, r), r, got) for r, got, _ in of_one]
        if all(a is not None and k < len(a.grads) and _same(got, a.grads[k], r) for a, r, got in answers):
            return say(
                "gradient asked otherwise", where, input=name, typed=other.said, means=other.means, now=other.now
            )
    at = _another_temperature(question, name, k, of_one)
    if at is not None:
        return at
    by_row = _row_factor(question, name, k, of_one)
    if by_row:
        return say("gradient by row", where, input=name, factor=by_row)
    radial = _radial(question, name, k, of_one)
    if radial is not None:
        return radial
    shares = of_rows(question, name, k, of_one)
    if shares is not None:
        return shares
    _, got, want = max(of_one, key=lambda one: float(np.max(np.abs(one[1] - one[2]))))
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
        if factor:
            times = "" if factor == "1" else f", times {factor}"
            return say(
                "gradient at another temperature", f"d{name}", input=name, what=law.said, law=law.formula, times=times
            )
    return None


def _parts(question: Question, k: int, r: Result) -> dict[str, Any]:
    """Return what the right gradient of argument k is made of, under the words for it; of a mean over anchors.

    The losses of either input's anchors, and the pull of each row to its positive.
    """
    found: dict[str, Any] = {}
    none = settings.changed(question, reduction="none")
    if none is not None and question.two_sided and question.recipe.reduction == "mean":
        shape = none.under(r.probe).value_shape(r.wide, r.probe.scalar)
        for side, name in enumerate(question.inputs[:2]):
            u = np.zeros(int(np.prod(shape)))
            np.split(u, 2)[side][:] = 1 / u.size
            answer = none.under(r.probe).expected(r.wide, r.probe.scalar, u)
            found[f"what the losses of {name}'s rows as anchors send"] = (*answer.grads, answer.dscalar)[k]
    tau, x = question.temperature(r.probe.scalar), r.wide
    plain = (
        question.recipe.normalization == "rows" and question.positive is None and question.recipe.reduction == "mean"
    )
    if plain and tau and len(x) == 2 and k < 2 and x[0].shape == x[1].shape:
        length = [np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-12) for y in x]
        z, other = x[k] / length[k], x[1 - k] / length[1 - k]
        pull = -(other - z * np.sum(z * other, axis=1, keepdims=True)) / (length[k] * tau * len(z))
        found["the pull of the positive, -s_ip/τ,"] = pull
    return found


def _part(question: Question, k: int, of_one: list[tuple[Result, Any, Any]]) -> tuple[str, float] | None:
    """Return which part of a gradient counts otherwise than once, and how often, where the rest is right."""
    made = [_parts(question, k, r) for r, _, _ in of_one]
    for said in made[0]:
        if not all(said in parts for parts in made):
            continue
        times = []
        for (r, got, want), parts in zip(of_one, made, strict=True):
            off, part = np.asarray(got - want), np.asarray(parts[said])
            c = float(np.sum(off * part)) / max(float(np.sum(part * part)), 1e-300)
            if not _same(got, want + c * part, r):
                break
            times.append(1 + c)
        else:
            if np.ptp(times) < 1e-5:
                return said, round(times[0], 9) + 0.0
    return None


def named_factor(question: Question, r: Result, free: float) -> list[str]:
    """Return the names of the constants that a number may be on one batch."""
    facts = question.facts(r.wide, r.probe.scalar)
    found = []
    for named in SCALES:
        at = named.at(facts)
        if at is not None and abs(float(at) - free) <= 1e-6 * abs(free):
            found.append(named.name)
    return found


def _common_names(question: Question, numbers: list[tuple[Result, float]]) -> list[str]:
    """Return the names of the constants that the numbers of all batches may be, the shortest first."""
    names = [set(named_factor(question, r, c)) for r, c in numbers]
    return sorted(set.intersection(*names), key=lambda n: (len(n), n))


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
    return ""


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
    for r, got, want in of_one:
        c = np.sum(got * want, axis=1, keepdims=True) / np.maximum(np.sum(want * want, axis=1, keepdims=True), 1e-300)
        if not _same(got, c * want, r):
            return ""
    return f"times a number of its own: {', '.join(f'{x:.4g}' for x in np.ravel(c)[:6])}"


def _radial(question: Question, name: str, k: int, of_one: list[tuple[Result, Any, Any]]) -> Difference | None:
    """Say whether a gradient is wrong only along the rows themselves: the projection of the normalization."""
    if not question.recipe.embeddings or question.recipe.normalization != "rows":
        return None
    shared = True
    for r, got, want in of_one:
        x = _rows(question, name, k, r)
        if x is None:
            return None
        got, want = np.reshape(got, x.shape), np.reshape(want, x.shape)
        length = np.linalg.norm(x, axis=1, keepdims=True)
        z = x / np.maximum(length, 1e-12)
        off = got - want
        along = np.sum(off * z, axis=1, keepdims=True)
        if not _same(want + along * z, got, r):
            return None
        c = np.ravel(along * length)
        shared = (shared and bool(np.max(np.abs(c - c.mean())) <= 1e-6 * max(float(np.max(np.abs(c))), 1e-300))) or (
            _one_sum(got, z, length)
        )
    how = "takes one inner product ⟨z, dz⟩ over the whole batch, without an axis, not row by row"
    missing = "is wrong or missing"
    id_ = "" if shared else "normalization-jacobian-missing"
    return say("gradient along the rows", f"d{name}", name=id_, input=name, how=how if shared else missing)


def _one_sum(got: Any, z: Any, length: Any) -> bool:
    """Return whether dz - z c with one number c for all rows explains a gradient: c is Σ over rows of <z_i, dz_i>."""
    d = np.sum(got * z, axis=1) * length[:, 0]  # <z_i, dz_i> - c
    total = float(np.sum(d))
    n = len(d)
    if n < 2:
        return False
    c = total / (1 - n)
    inner = d + c
    return bool(abs(float(np.sum(inner)) - c) <= 1e-6 * max(1e-300, float(np.max(np.abs(inner))) * n))


def _together(found: list[Difference]) -> list[Difference]:
    """Say once what holds of every argument."""
    if len(found) < 2:
        return found
    kinds = {(f.what.replace(f.where[1:], "·"), f.name) for f in found}
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
    if not all(want and math.isfinite(got) for _, got, want in there):
        return say("another gradient of the scalar", f"d{name}", factor="", **first)
    factor = _common_names(question, [(r, got / want) for r, got, want in there])[:1]
    said = f": it is {factor[0]} times what it should be" if factor else ""
    part = (
        None
        if factor
        else _part(question, len(question.inputs), [(r, np.asarray(g), np.asarray(w)) for r, g, w in there])
    )
    if part is not None:
        said = f": {part[0]} counts {part[1]:.4g} times in it"
    return say("another gradient of the scalar", f"d{name}", factor=said, **first)


def numeric_pairs(lab: Lab, results: list[Result]) -> list[tuple[Result, tuple[Any, ...]]]:
    """Return the smallest answers with the gradient of the candidate's own value."""
    small = sorted(results, key=lambda r: sum(x.size for x in r.wide))[:2]
    return [(r, numeric_gradient(lab, r.wide, r.probe.scalar, r.probe.companions)) for r in small]
