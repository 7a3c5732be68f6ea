"""What differs and is right all the same: a constant held in float32, an epsilon far below what counts.

In:  answers that are not right to rounding.
Out: a note with its size, or nothing.
"""

from typing import Any

import numpy as np

from refcl.oracle.compare import agrees
from refcl.oracle.evidence import Result
from refcl.oracle.question import Question, ask

SMALL = 1e-6  # relative: below it a deviation is a note
HALF_ULP = 1.3e-7  # relative: what rounding a constant to float32 may move it by


def harmless(question: Question, results: list[Result], judged: list[Any]) -> list[str]:
    """Return notes that say why answers that are off are right, or nothing where they are not.

    Parameters
    ----------
    question : Question
        What was asked.
    results : list of Result
        Every decisive answer.
    judged : list of Judged
        The same with how each part fared.
    """
    if not all(r.outcome.finite for r in results):
        return []
    detached = _detached_in_the_paper(question, results)
    if detached:
        return [detached]
    held = _held_in_float32(question, results)
    if held:
        return [held]
    sizes = [relative_error(r) for r in results]
    worst = max(sizes)
    if worst < SMALL:
        where = results[int(np.argmax(sizes))].probe.name
        return [
            f"It is off by up to {worst:.1e} of the right answer (on {where}): an epsilon, a threshold or single"
            " precision inside; that is below 1e-6 and counts as right."
        ]
    tiny = _tiny_shift(question, results, worst)
    return [tiny] if tiny else []


def _held_in_float32(question: Question, results: list[Result]) -> str:
    """Return a note where every answer is right at a scalar that differs as a float32 constant would."""
    if not question.recipe.scaled:
        return ""
    moved = 0.0
    first = ""
    for r in results:
        if agrees(r.right, r.outcome):
            continue
        scalar = float(r.probe.scalar or 0.0)
        fits = None
        for other in _as_float32(question, scalar):
            answer = question.under(r.probe).expected(r.probe.inputs, other, r.probe.upstream)
            if agrees(answer, r.outcome):
                fits = other
                break
        if fits is None:
            return ""
        moved = max(moved, abs(fits - scalar) / max(abs(scalar), 1e-300))
        first = first or f"{question.scalar} {fits:.17g} instead of {scalar:.17g}"
    return f"It holds a constant in float32: {first}, a relative error of {moved:.1e}." if first else ""


def _detached_in_the_paper(question: Question, results: list[Result]) -> str:
    """Return a note where an input gets no gradient that gets none in the paper either."""
    names = question.row.often_detached
    if not names or set(names) <= set(question.asked.get("detached", ())):
        return ""
    other = ask(question.loss, **(question.asked | {"detached": names}))
    if not all(agrees(other.answer(r.probe), r.outcome) for r in results):
        return ""
    return (
        f"{' and '.join(names)} gets no gradient, as in the paper (it is the other encoder's);"
        f" detached=({names[0]!r},) asks for just that."
    )


def _as_float32(question: Question, scalar: float) -> list[float]:
    found = [float(np.float32(scalar))]
    if question.scalar == "log_scale":
        found += [float(np.log(float(np.exp(np.float32(scalar))))), float(np.log(float(np.float32(np.exp(scalar)))))]
        found += [float(-np.log(float(np.float32(np.exp(-scalar)))))]
    else:
        found += [1 / float(np.float32(1 / scalar)), float(1 / np.float64(np.float32(1) / np.float32(scalar)))]
        found += [
            float(np.exp(np.float64(np.float32(np.log(scalar))))),
            float(np.exp(-np.float64(np.float32(-np.log(scalar))))),
        ]
        found += [1 / float(np.exp(np.float32(-np.log(scalar))))]
    return found


def relative_error(r: Result) -> float:
    """Return the largest error of an answer, each part relative to its own largest entry, where it is no rounding."""
    if agrees(r.right, r.outcome):
        return 0.0
    off = [_one(r.outcome.value, r.right.value, r.right.value_size, r.outcome.eps)]
    if r.outcome.grads is not None:
        off += [
            _one(g, w, s, r.outcome.eps)
            for g, w, s in zip(r.outcome.grads, r.right.grads, r.right.grad_sizes, strict=True)
        ]
    if r.outcome.dscalar is not None and r.right.dscalar is not None:
        off.append(_one(r.outcome.dscalar, r.right.dscalar, r.right.dscalar_size, r.outcome.eps))
    off += [
        _one(g, w, s, r.outcome.eps)
        for g, w, s in zip(r.outcome.dmore, r.right.dmore, r.right.dmore_sizes, strict=False)
        if g is not None
    ]
    return max(off)


def _one(got: Any, want: Any, size: Any, eps: float) -> float:
    error = np.maximum(np.abs(np.asarray(got) - want) - 32 * eps * size, 0.0)
    if not np.all(np.isfinite(error)):
        return np.inf  # what is not a number is never small
    largest = float(np.max(np.abs(want)))
    return float(np.max(error)) / largest if largest else (np.inf if np.max(error) > 0 else 0.0)


def _tiny_shift(question: Question, results: list[Result], worst: float) -> str:
    """Return a note where 1e-6 or less was added to every coordinate of the difference of a pair's rows."""
    e = added_to_differences(question, results) if len(question.inputs) == 2 else 0.0
    return f"{SHIFTED.format(e, worst)}: right but for that." if e else ""


SHIFTED = (
    "It adds an eps of {:.0e} to every coordinate of the difference of two rows, as PyTorch's pairwise_distance and"
    " TripletMarginLoss do, and is off by up to {:.1e} of the answer"
)


def added_to_differences(question: Question, results: list[Result]) -> float:
    """Return what is added to every coordinate of the first input less each other, or 0: the same as to its rows."""
    distances = question.settings.get("distance", "cosine" if question.recipe.normalization == "rows" else "euclidean")
    if distances == "cosine" or len(question.inputs) < 2 or question.scalar is not None:
        return 0.0
    for e in (1e-6, -1e-6, 1e-8, 1e-7):
        for r in results:
            moved = (r.wide[0] + e, *r.wide[1:])
            if not agrees(question.under(r.probe).expected(moved, r.probe.scalar, r.probe.upstream), r.outcome):
                break
        else:
            return abs(e)
    return 0.0
