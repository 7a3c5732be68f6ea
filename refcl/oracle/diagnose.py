"""What is wrong? Layers of explanations, each held to rounding on every probe.

In:  a question, answers and, where it can be called again, the candidate.
Out: a `Diagnosis`: the names that explain value and gradients, or none, and what was noticed on the way.
"""

import contextlib
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from refcl.oracle.compare import agrees
from refcl.oracle.evidence import Call, Expectations, Invariant, Result, invariants
from refcl.oracle.factors import Fit, fit
from refcl.oracle.harmless import forgiven
from refcl.oracle.measure import instrument
from refcl.oracle.measure.gradient import wrong_scalar
from refcl.oracle.measure.instrument import Measurement
from refcl.oracle.measure.precision import few_digits
from refcl.oracle.measure.settings import usable
from refcl.oracle.mistakes import DISTRIBUTED, Variation, variations
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.numerics import cancellation, constant_inside, noise, raw_exponentials_fail
from refcl.oracle.permuted import any_order
from refcl.oracle.probes import ABOUT, REMEDY
from refcl.oracle.question import Question
from refcl.oracle.raised import CannotJudge
from refcl.oracle.recipe import Expected


@dataclass(frozen=True)
class Finding:
    """One explanation: a name, or two that were made together."""

    ids: tuple[str, ...]
    detail: str = ""
    convention: str | None = None

    @property
    def name(self) -> str:
        return " + ".join(self.ids)


@dataclass
class Diagnosis:
    """What explains the answers.

    Attributes
    ----------
    findings : list of Finding
        Each explains everything; several fit equally. Empty where nothing does.
    benign : str
        Why answers that are off in places are right all the same.
    evidence : list of str
        Sentences beside the names.
    """

    findings: list[Finding] = field(default_factory=list)
    benign: str = ""
    invariants: list[Invariant] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    measurement: Any = None


def diagnose(
    question: Question,
    results: list[Result],
    call: Call | None = None,
    *,
    shape: tuple[int, int] | None = None,
    extra: int = 0,
) -> Diagnosis:
    """Explain answers that are not right.

    Parameters
    ----------
    question : Question
        What was asked.
    results, call : list of Result, callable
        As in `check.judge`; of the results those that decide.
    shape, extra : optional
        As ``shape`` and ``extra_keys`` of `check`.

    Returns
    -------
    diagnosis : Diagnosis
        Names that explain all of it, differences that were measured, or nothing.
    """
    lost = _scalar_lost(question, results)
    if lost is not None:
        return _beside(lost, question, results, call, shape, extra)
    diagnosis = Diagnosis()
    broken = [r for r in results if not r.outcome.finite and not raw_exponentials_fail(question, r)]
    rest = [r for r in results if all(r is not x for x in broken)]
    not_finite = _not_finite(question, broken, rest) if broken else None
    if not_finite is not None and not any(r.outcome.finite and not agrees(r.right, r.outcome) for r in rest):
        diagnosis.measurement = Measurement([not_finite])
        return diagnosis
    judged, overflowed = _without_overflow(question, rest)
    for near, beside in ((judged, ""), (forgiven(judged), f"; {FORGIVEN}")):
        if overflowed and not broken and all(agrees(r.right, r.outcome) for r in near):
            diagnosis.findings = [Finding((_OVERFLOW,), overflowed + beside)]
            return diagnosis
    findings = _explain(question, judged)
    raw = any("not-normalized" in f.ids for f in findings)
    if not_finite is not None and raw and all(_overflows_off_the_sphere(question, r) for r in broken):
        not_finite = None
    benign = "" if findings or call is None or broken else _loses_digits(question, results, call, bool(overflowed))
    if benign:
        diagnosis.benign = "" if overflowed else benign
        diagnosis.evidence = [benign] if overflowed else []
        diagnosis.findings = [Finding((_OVERFLOW,), overflowed)] if overflowed else []
        return diagnosis
    if not findings:
        findings = _measured(diagnosis, question, judged, call, shape, extra)
    if overflowed:
        findings = [Finding((*f.ids, _OVERFLOW), "; ".join(filter(None, (f.detail, overflowed)))) for f in findings]
    diagnosis.findings = findings
    diagnosis.invariants = invariants(question, judged, call)
    if not findings and overflowed:
        diagnosis.evidence.append(f"Besides, {overflowed}.")
    if not_finite is not None:
        if findings:
            diagnosis.evidence.append(f"Besides, {not_finite.what}.")
        elif diagnosis.measurement is not None:
            diagnosis.measurement.differences.append(not_finite)
        else:
            diagnosis.measurement = Measurement([not_finite])
    return diagnosis


def _scalar_lost(question: Question, results: list[Result]) -> Difference | None:
    """Say where the gradient of the scalar alone is NaN or infinite: 0 times infinity on the way back."""
    due = [r for r in results if r.outcome.finite and r.outcome.dscalar is not None and r.right.dscalar is not None]
    lost = [r for r in due if not np.isfinite(float(r.outcome.dscalar or 0.0))]
    if not lost:
        return None
    everywhere = len(lost) == len(due)
    why = (
        f": 0 times infinity, as where entries are masked with -∞ before the {question.scalar} is applied to them, "
        "which neither the value nor the other gradients show"
    )
    where = f"all {len(due)} batches" if everywhere else ", ".join(f'"{r.probe.name}"' for r in lost)
    came = "NaN" if np.isnan(float(lost[0].outcome.dscalar or 0.0)) else "infinite"
    said = {"scalar": question.scalar, "batches": where, "why": why, "came": came, "want": lost[0].right.dscalar}
    return say("gradient of the scalar not finite", f"d{question.scalar}", name=None, **said)


def _beside(
    lost: Difference,
    question: Question,
    results: list[Result],
    call: Call | None,
    shape: tuple[int, int] | None,
    extra: int,
) -> Diagnosis:
    """Explain what else is wrong, without gradients of the scalar that are no numbers, and say that they are none."""
    without = [
        r if np.isfinite(float(r.outcome.dscalar or 0.0)) else r._replace(outcome=replace(r.outcome, dscalar=None))
        for r in results
    ]
    if all(agrees(r.right, r.outcome) for r in forgiven(without)):
        return Diagnosis(measurement=Measurement([lost]))
    diagnosis = diagnose(question, without, call, shape=shape, extra=extra)
    if diagnosis.measurement is not None and diagnosis.measurement.differences:
        diagnosis.measurement.differences.append(lost)
    else:
        diagnosis.evidence.append(f"Besides, {lost.what}: {lost.change}.")
    return diagnosis


def _measured(
    diagnosis: Diagnosis,
    question: Question,
    judged: list[Result],
    call: Call | None,
    shape: tuple[int, int] | None,
    extra: int,
) -> list[Finding]:
    """Measure what has no name: what is exact first, then two names at once, then what is inside."""
    exact = instrument.exact(question, judged)
    if exact.differences:
        with contextlib.suppress(ValueError, np.linalg.LinAlgError, CannotJudge):  # then there is no picture
            exact.picture = instrument.picture(question, judged, call, shape, extra)
        diagnosis.measurement = exact
        return []
    rough = few_digits(question, judged, call) if call is not None else ""
    if rough:
        return [Finding(("low-precision",), rough)]
    # So much can be read wrongly where much is free that two at once are many: what is measured is quicker there.
    many = question.recipe.inside == "freed" or question.follows
    found = [] if many else _two(question, judged)
    if not found and exact.another is not None:
        exact.differences = [exact.another]
        diagnosis.measurement = exact
    elif not found:
        diagnosis.measurement = instrument.inside(question, judged, call, shape, extra)
        diagnosis.measurement.settings += exact.settings
        found = _two(question, judged) if many and not diagnosis.measurement.differences else []
    return found


_OVERFLOW = "overflow-at-small-temperature"


def _without_overflow(question: Question, results: list[Result]) -> tuple[list[Result], str]:
    """Set aside the probes whose answers are not finite; say where, if it is raw exponentials that overflow there."""
    broken = [r for r in results if not r.outcome.finite]
    if not broken:
        return results, ""
    kept = [r for r in results if r.outcome.finite]
    kept = [r for r in kept if not (r.probe.stress and raw_exponentials_fail(question, r))]
    if not kept:
        raise CannotJudge("it returned NaN or infinity on every probe.")
    where = ", ".join(f'"{r.probe.name}" ({r.probe.dtype}, {_at(question, r)})' for r in broken)
    return kept, f"NaN or infinity on {where}"


def _not_finite(question: Question, broken: list[Result], rest: list[Result]) -> Difference:
    """Say where NaN or infinity came for a number that exists."""
    r = broken[0]
    parts = ["value"] if not np.all(np.isfinite(r.outcome.value)) else []
    grads = r.outcome.grads or ()
    parts += [f"d{n}" for n, g in zip(question.inputs, grads, strict=False) if not np.all(np.isfinite(g))]
    came = "NaN" if any(np.any(np.isnan(x)) for x in (r.outcome.value, *grads)) else "infinity"
    where = ", ".join(f'"{x.probe.name}"' for x in broken)
    right = all(agrees(x.right, x.outcome) for x in rest)
    also = "; it is right on the others" if right and rest else ""
    about = ABOUT.get(r.probe.name, "")
    said = f"{' and '.join(parts)} {'is' if len(parts) == 1 else 'are'} {came} on {where}, where a number exists{also}"
    wanted = f"{float(np.ravel(r.right.value)[0]):.6g}"
    change = REMEDY.get(r.probe.name, "")
    return Difference(said + (f": {about}" if about else ""), where, came, wanted, change)


def _overflows_off_the_sphere(question: Question, r: Result) -> bool:
    """Return whether exponentials of squared lengths leave the range, which only who does not normalize meets."""
    if question.recipe.normalization != "rows" or not question.recipe.embeddings or r.probe.stress:
        return False
    longest = max(float(np.max(np.sum(x * x, axis=1))) for x in r.wide)
    return longest > float(np.log(np.finfo(r.probe.inputs[0].dtype).max))


def _at(question: Question, r: Result) -> str:
    return f"τ = {question.temperature(r.probe.scalar):.4g}"


def _explain(question: Question, results: list[Result]) -> list[Finding]:
    """Look for names that explain every answer to rounding, or else all but what counts as right by itself."""
    # Those with gradients first, the sharpest of them before the others: they turn most explanations away.
    results = sorted(results, key=lambda r: (r.outcome.grads is None, r.outcome.eps))
    if all(agrees(r.right._replace(dmore=()), r.outcome) for r in results):
        return []  # the gradient of a further scalar alone is wrong, which has no name
    bank = [(v, Expectations(question, results, r)) for v, r in variations(question.recipe)]
    found = _named(question, results, bank, constants=True)
    rough = forgiven(results)
    if found or any(r.outcome.noise for r in results) or all(agrees(r.right, r.outcome) for r in rough):
        return found
    found = _named(question, rough, [(v, e.held_to(rough)) for v, e in bank], constants=False)
    return [replace(f, detail="; ".join(filter(None, (f.detail, FORGIVEN)))) for f in found]


FORGIVEN = "beside that it is off by less than 1e-6 (an epsilon, or a constant in float32), which counts as right"


def _named(
    question: Question, results: list[Result], bank: list[tuple[Variation, Expectations]], *, constants: bool
) -> list[Finding]:
    """Try the explanations in order of how much they assume; stop at the first layer that fits."""
    right = fit(question, results, lambda k: results[k].right)
    singles: list[Finding] = []
    if right is not None and not (right.exact and right.scalar_agrees):
        finding = _as_finding(question, right, (), "")
        if finding.ids == ("temperature-gradient-wrong",):
            there = [(r, r.right.dscalar) for r in usable(results) if r.right.dscalar and r.outcome.eps < 1e-10]
            measured = wrong_scalar(question, there)
            finding = replace(finding, detail="" if measured is None else measured.what)
        if len(finding.ids) == 1:
            singles.append(finding)
        elif finding.ids:
            return [finding]
    singles += [Finding((v.id,), v.detail) for v, e in bank if e.explain()]
    if not singles and constants:
        singles = [
            Finding((id_,), detail)
            for id_, detail in (*constant_inside(question, results), *any_order(question, results))
        ]
    if singles:
        return _one_for_each_name(singles)
    with_factor = []
    for v, e in bank:
        found = fit(question, results, e)
        # max(gap, 0) is without its margin, and no positive among the negatives less that margin
        if found is not None and (found.offset.is_zero or question.recipe.pool != "triplet"):
            with_factor.append(_as_finding(question, found, (v.id,), v.detail))
    return _one_for_each_name(with_factor)


def _two(question: Question, results: list[Result]) -> list[Finding]:
    """Try every two mistakes at once, the choices of one recipe made wrongly twice; those with gradients first.

    What counts as right by itself may be beside them.
    """
    results = sorted(forgiven(results), key=lambda r: (r.outcome.grads is None, r.outcome.eps))
    found, recipe = [], question.recipe
    for (v, once), (w, other) in combinations(variations(recipe), 2):
        twice = w.vary(once) if w.id != v.id else None
        if twice is None or twice in (once, other):
            continue
        expected = Expectations(question, results, twice)
        if expected.explain(scalar=False):
            ids: tuple[str, ...] = (v.id, w.id)
            if not expected.explain():
                ids = (*ids, "temperature-gradient-wrong")
            found.append(Finding(ids, "; ".join(filter(None, (v.detail, w.detail)))))
    return _one_for_each_name(found)


def _as_finding(question: Question, found: Fit, first: tuple[str, ...], detail: str) -> Finding:
    ids = [_distributed(question, found, id_) for id_ in found.ids()]
    if found.scalar_agrees is False and question.scalar == "weight":
        ids = [id_ for id_ in ids if id_ != "temperature-gradient-wrong"]
    half = first == ("positive-counted-twice",) and "-ln 2" in found.offset.names
    also = "which is log(exp(s_ip/τ) + Σ/2): together the negatives count half" if half else ""
    said = "; ".join(filter(None, (detail, found.said(), also)))
    return Finding((*first, *ids), said, found.convention(two_sided=question.two_sided) if not first else None)


def _distributed(question: Question, found: Fit, id_: str) -> str:
    """Gradients alone, times or over the number of ranks: that factor has a name of its own."""
    world = {"world size", "1/world size"}
    if id_ == "scaled-by-constant" and question.recipe.ranks > 1 and found.value.is_one and found.gradient is not None:
        return "world-size-factor" if world & set(found.gradient.names) else id_
    return id_


def _one_for_each_name(findings: list[Finding]) -> list[Finding]:
    """Keep one finding for each name, and of those the ones with the fewest parts."""
    fewest = min((len(f.ids) for f in findings), default=0)
    kept: dict[frozenset[str], Finding] = {}
    for f in findings:
        if len(f.ids) == fewest:
            kept.setdefault(frozenset(f.ids), f)
    return list(kept.values())


def _loses_digits(question: Question, results: list[Result], call: Call, overflows: bool) -> str:
    """Return why answers that are off only where subtracting oneself cancels are right all the same."""
    off = [r for r in results if not agrees(r.right, r.outcome)]
    if overflows:
        off = [r for r in off if not raw_exponentials_fail(question, r)]
    if not off or not all(r.probe.stress and cancellation(question, r) * r.outcome.eps > 1e-9 for r in off):
        return ""
    numbers = [r for r in off if r.outcome.finite]
    step = 1e-12 if off[0].probe.dtype == "float64" else 1e-6
    if numbers and not noise(question, numbers, call, step=step, part=1e-3).rough:
        return ""
    where = ", ".join(f'"{r.probe.name}" ({_at(question, r)})' for r in off)
    return (
        f"On {where} it loses digits: one's own term is summed and taken out again, which cancels where "
        "everything else is far. Leave it out of the sum instead."
    )


def indistinguishable(question: Question, results: list[Result]) -> list[str]:
    """Return the names of mistakes that would have given the same answers on these probes."""
    names: list[str] = []
    for v, recipe in variations(question.recipe):
        if v.id in names or v.id in DISTRIBUTED:
            continue
        expected = Expectations(question, results, recipe)
        alike = all(
            agrees(r.right, replace(r.outcome, value=expected.value(k).value, grads=None, dscalar=None))
            and _same(r, expected(k))
            for k, r in enumerate(results)
        )
        if alike:
            names.append(v.id)
    return names


def _same(r: Result, other: Expected) -> bool:
    """Return whether another answer would have passed for the right one, with the parts that the candidate has."""
    outcome: Any = r.outcome
    stand_in = type(outcome)(
        other.value,
        None if outcome.grads is None else other.grads,
        None if outcome.dscalar is None else other.dscalar,
        outcome.eps,
        outcome.noise,
    )
    return agrees(r.right, stand_in)
