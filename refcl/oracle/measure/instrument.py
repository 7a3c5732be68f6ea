"""All steps, in order: what is measured first is what explains most.

In:  a question, answers that no name explains, and the candidate.
Out: differences, and what else was seen.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refcl.oracle.candidate import Outcome
from refcl.oracle.compare import agrees
from refcl.oracle.evidence import Result
from refcl.oracle.harmless import forgiven
from refcl.oracle.measure import (
    added,
    charges,
    chosen,
    freedoms,
    geometry,
    gradient,
    law,
    logits,
    met,
    numbers,
    pairs,
    penalty,
    precision,
    rows,
    settings,
    special,
    sums,
    targets,
    temperature,
)
from refcl.oracle.measure.bench import Bench, bench
from refcl.oracle.measure.lab import Lab, lab
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.probes import ABOUT, COLDEST, Probe
from refcl.oracle.question import Question


@dataclass
class Measurement:
    """What came of it.

    Attributes
    ----------
    differences : list of Difference
        What explains the answers, the most telling first.
    settings : list of str
        Settings of the loss, or other losses, under which the candidate would be right.
    """

    differences: list[Difference] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    picture: dict[str, Any] = field(default_factory=dict)
    another: Difference | None = None  # another loss of which every value is, said where no two names explain it


def exact(question: Question, results: list[Result]) -> Measurement:
    """Say what is wrong with gradients of a right value, or under what other question the values would be right."""
    done = Measurement()
    tried = settings.usable(results)
    if not tried:
        return done
    if _values_right(tried):
        _gradients(question, tried, done)
        if not done.differences:
            law, beyond = temperature.clamped(question, results), temperature.no_gradient_beyond(question, results)
            extreme = _at_extremes(question, tried, results)
            done.differences += [_another_temperature(question, law)] if law else [beyond] if beyond else extreme
    else:
        _other_questions(question, tried, results, done)
    return done


def inside(
    question: Question,
    results: list[Result],
    call: Callable[[Probe], Outcome] | None,
    shape: tuple[int, int] | None = None,
    extra: int = 0,
) -> Measurement:
    """Measure what a candidate computes whose values are not right and have no name, where it can be asked again."""
    done = Measurement()
    tried = settings.usable(results)
    if not tried or call is None or _values_right(tried):
        return done
    bench_lab, with_grads = _lab(question, tried, call)
    untrusted = with_grads and not bench_lab.trusted
    if untrusted and all(agrees(r.right, r.outcome, value=False) for r in with_grads):
        done.differences.append(gradient.wrong_value(with_grads[0]))
    else:
        _inside(bench_lab, tried, done, shape, extra)
        if untrusted and gradient.consistent(bench_lab, with_grads[0], right=True):
            done.differences += gradient.wrong_gradients(question, gradient.numeric_pairs(bench_lab, with_grads))
    done.differences = list(dict.fromkeys(done.differences))
    if not any(d.name for d in done.differences):
        # What is as near as that is no other formula, whatever a fit makes of it.
        done.differences = precision.off_by_little(question, tried) or done.differences
    return done


def _lab(question: Question, tried: list[Result], call: Callable[[Probe], Outcome]) -> tuple[Lab, list[Result]]:
    """Return a lab that knows whether the gradients are to be trusted, and the answers that have some."""
    made = lab(question, call)
    with_grads = [r for r in tried if r.outcome.grads is not None and r.probe.dtype == "float64"]
    made.eps = max((r.outcome.eps for r in with_grads[:1]), default=made.eps)
    made.trusted = bool(with_grads) and gradient.consistent(made, with_grads[0])
    return made, with_grads


def picture(
    question: Question, results: list[Result], call: Callable[[Probe], Outcome] | None, shape: Any, extra: int
) -> dict[str, Any]:
    """Return the derivatives of one random batch, measured and expected, where what differs is in the values."""
    tried = settings.usable(results)
    if call is None or getattr(call, "few_shapes", False) or _values_right(tried):
        return {}  # or where each further shape is compiled
    table = bench(_lab(question, tried, call)[0], shape, extra)
    if table is None:
        return {}
    for s in map(table.draw, range(6)):
        got, want = table.gradient(s), table.right_gradient(s)
        if np.all(np.isfinite(got)) and not np.allclose(got, want, atol=1e-4 * float(np.max(np.abs(want)))):
            return _drawn(table, got, want)
    return {}


def _drawn(table: Bench, got: Any, want: Any) -> dict[str, Any]:
    both = {"measured": np.asarray(got), "expected": np.asarray(want)}
    return both | {"entries": table.entries, "rows": table.rows, "gram": table.gram}


def _values_right(tried: list[Result]) -> bool:
    return all(agrees(r.right, r.outcome, scalar=False, grads=False) for r in tried)


def _gradients(question: Question, tried: list[Result], done: Measurement) -> None:
    pairs_ = [(r, (*r.right.grads, *r.right.dmore)) for r in tried if r.outcome.grads is not None]
    for other in settings.other_settings(question):
        if _all_right(other.question, tried):
            _asked_otherwise(done, other, "the gradient is right for")
            return
    done.differences += gradient.wrong_gradients(question, pairs_)
    scalar = [(r, r.right.dscalar) for r in tried if r.outcome.dscalar is not None and r.right.dscalar is not None]
    if any(not agrees(r.right, r.outcome, value=False, grads=False) for r, _ in scalar):
        d = gradient.wrong_scalar(question, scalar)
        if d is not None:
            done.differences.append(d)


def _at_extremes(question: Question, tried: list[Result], results: list[Result]) -> list[Difference]:
    """Say on which batches, made for what arithmetic does at extremes, a loss is wrong that is right elsewhere."""
    wrong = [r for r in results if r.probe.stress and r.outcome.finite and not agrees(r.right, r.outcome)]
    if not wrong or not all(agrees(r.right, r.outcome) for r in tried):
        return []
    t = question.temperature(wrong[0].probe.scalar)
    batches = ", ".join(f'"{r.probe.name}"' for r in wrong) + (f" (τ = {t:.4g})" if t else "")
    about = (ABOUT | COLDEST).get(wrong[0].probe.name, "")
    got, want = (float(np.ravel(x.value)[0]) for x in (wrong[0].outcome, wrong[0].right))
    return [say("right but for extremes", batches, batches=batches, about=about and f": {about}", got=got, want=want)]


def _asked_otherwise(done: Measurement, other: settings.Other, so: str) -> None:
    """Say that it is right for another setting, what that does, and what there is to do."""
    done.settings.append(other.said)
    done.differences.append(say("asked otherwise", right_for=so, typed=other.said, means=other.means, now=other.now))


def _all_right(other: Question, tried: list[Result]) -> bool:
    for r in tried:
        answer = settings.answer_of(other, r)
        if answer is None or not agrees(answer, r.outcome):
            return False
    return True


def _another_temperature(question: Question, law: temperature.Law) -> Difference:
    return say("another law of the temperature", question.scalar or "", name=law.name, what=law.said, law=law.formula)


def _other_questions(question: Question, tried: list[Result], results: list[Result], done: Measurement) -> None:
    """Try every other question under which the values are right."""
    near = forgiven(tried)
    for other in settings.other_settings(question):
        if settings.fits_value(other.question, near):
            _asked_otherwise(done, other, "it is right for")
    if done.settings:
        return
    found = (
        temperature.temperature_law(question, near)
        or temperature.clamped(question, results)
        or temperature.point_by_point(question, near)
    )
    if found is not None:
        done.differences.append(_another_temperature(question, found))
        return
    scaled = numbers.scale_by_batch(question, tried)
    if scaled is not None:
        done.differences.append(scaled)
        return
    for name, formula, c in numbers.other_numbers(question, tried):
        done.settings.append(f"{name}={c:.6g}")
        done.differences.append(_number_said(name, formula, c, numbers.numbers(question).get(name, float("nan"))))
    if not done.settings:
        done.differences += list(rows.transforms(question, tried))
    if not done.settings and not done.differences and not any(np.ndim(r.outcome.value) for r in tried):
        done.differences += next(([d] for step in EXACT if (d := step(question, tried)) is not None), [])
    if not done.settings and not done.differences:
        done.differences += chosen.chosen(question, near, forgiven(results))
    if not done.differences:
        for other in settings.other_losses(question):
            if settings.fits_value(other.question, near, other.scalar):
                done.settings.append(other.said)
                done.another = say("another loss", loss=other.said, asked=question.loss)
                break


# What is looked for in the values of all batches, in this order.
EXACT: tuple[Callable[[Question, list[Result]], Difference | None], ...] = (
    added.added,
    added.further,
    charges.charged,
    charges.soft_targets,
    met.remembered,
    met.views,
    met.read_late,
    met.mixed,
    logits.put_together,
    logits.other_logits,
)
# What laws of log Z are: the bias of each logit is -(log Z + ln(K/M)).
OF_THE_NOISE = {
    "+ ln(M/(M - 1))": ": the noise has density 1/(M - 1), not 1/M, for M rows of the bank",
    "+ ln M": ": the density of the noise, 1/M for M rows of the bank, is forgotten: K stands where K/M belongs",
    "- ln M": ": the density of the noise, 1/M for M rows of the bank, counts twice: K/M² stands where K/M belongs",
    "- ln K": ": the number of draws K is forgotten: 1/M stands where K/M belongs",
    "- ln(K/M)": ": the rate of the noise is forgotten: 1 stands where K/M belongs, K draws of density 1/M",
    "- 2 ln(K/M)": ": the rate of the noise K/M is turned over: M/K stands in its place",
}


def _number_said(name: str, formula: str, c: float, now: float) -> Difference:
    asked = f", expected {now:.6g}" if now == now else ""
    value = "" if formula == f"{c:.6g}" else f" = {c:.6g}"
    words = {
        "margin": "the margin",
        "uniform_weight": "the weight of the uniformity",
        "align_weight": "the weight of the alignment",
        "log_normalizer": "the log_normalizer (ln Z)",
        "weight": "the weight λ of the negatives",
        "beta": "beta, of the weights,",
        "tau_plus": "tau_plus",
        "mass": "the mass of the weights, what the softmax is multiplied by (2N rows stacked, or one view's N),",
    }
    more = ""
    if name == "uniform_weight" and abs(c - 2 * now) < 1e-9:
        more = ": the uniformities of both views are added (summed, twice), not averaged"
    if name == "weight":
        more = ": divided by the number of all negatives, not of those kept" if "all" in formula else ""
    if name == "label_smoothing":
        more = ", or it is smoothed in one of two directions" if formula.endswith("/2") else ""
    if name == "log_normalizer":
        more = ": the logarithm is taken twice, ln Z stands where Z belongs" if formula.startswith("ln") else ""
        more = next((said for end, said in OF_THE_NOISE.items() if formula.endswith(end)), more)
    if name == "base_temperature" and formula.startswith("τ²"):
        more = ": the factor stands upside down, τ_base/τ in the place of τ/τ_base"
    return say(
        "another number",
        name,
        number=name,
        setting=words.get(name, name),
        value=f"{formula}{value}",
        asked=asked,
        more=more,
        formula=formula,
        expected=f"{name} = {now:.6g}" if now == now else name,
    )


def _law(table: Bench, m: pairs.Measured) -> list[Difference]:
    explained = law.law(table, m)
    return [] if explained is None else explained[1]


# What is looked for in the derivatives, in this order; the first that finds something has explained them.
STEPS: tuple[Callable[[Bench, pairs.Measured], list[Difference]], ...] = (
    pairs.all_turned,
    targets.targets,
    sums.residual,
    penalty.swept,
    pairs.signs,
    targets.ranks_of_chosen,
    penalty.anchors_chosen,
    pairs.who_meets_whom,
    pairs.weights,
    pairs.apart,
    _law,
    freedoms.margin_read,
    sums.shared_sums,
    freedoms.one_of_its_own,
)


def _inside(bench_lab: Lab, tried: list[Result], done: Measurement, shape: Any, extra: int) -> None:
    done.differences += geometry.geometry(bench_lab, tried[0]) or special.special(bench_lab, tried)
    wrong = [r.probe.scalar for r in tried if not agrees(r.right, r.outcome, scalar=False, grads=False)]
    if bench_lab.scalar not in wrong:
        bench_lab.scalar = wrong[-1]  # it is measured where it is wrong
    quick = bench_lab.trusted or tried[0].outcome.grads is None
    for odd in (False, True) if quick and not shape else (False,):
        table = None if done.differences else bench(bench_lab, shape, extra, odd=odd)
        m = (
            None
            if table is None
            else pairs.measured(table, max(2e-7 if bench_lab.trusted else 2e-6, 100 * bench_lab.eps))
        )
        if table is None or m is None:
            return
        done.differences += next((found for step in STEPS if (found := step(table, m))), [])
        done.picture = _drawn(table, m.got[0], m.want[0])
