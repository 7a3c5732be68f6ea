"""What is wrong? Layers of explanations, each held to rounding on every probe.

In:  a question, answers and, where it can be called again, the candidate.
Out: a `Diagnosis`: the names that explain value and gradients, or none, and what was noticed on the way.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refcl.oracle.candidate import CannotJudge
from refcl.oracle.compare import agrees
from refcl.oracle.evidence import Call, Invariant, Result, guesses, invariants
from refcl.oracle.factors import Fit, fit
from refcl.oracle.mistakes import DISTRIBUTED, Variation, variations
from refcl.oracle.numerics import cancellation, constant_inside, noise, raw_exponentials_fail
from refcl.oracle.permuted import any_order
from refcl.oracle.question import Question, scaled
from refcl.oracle.recipe import Expected, Recipe


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


class Expectations:
    """What a recipe makes of each probe, computed once."""

    def __init__(self, question: Question, results: list[Result], recipe: Recipe) -> None:
        self.question, self.results, self.recipe = question, results, recipe
        self.known: dict[int, Expected] = {}

    def __call__(self, k: int) -> Expected:
        if k not in self.known:
            r = self.results[k]
            answer = self.question.evaluate(self.recipe, r.wide, r.probe.scalar, r.upstream)
            self.known[k] = scaled(answer, self.question.factor_at(r.wide, r.probe.scalar))
        return self.known[k]


def diagnose(question: Question, results: list[Result], call: Call | None = None) -> Diagnosis:
    """Explain answers that are not right.

    Parameters
    ----------
    question : Question
        What was asked.
    results : list of Result
        Every decisive probe with what came and what was right.
    call : callable, optional
        The candidate, where it can be asked again.

    Returns
    -------
    diagnosis : Diagnosis
        Names that explain all of it, or none.

    Raises
    ------
    CannotJudge
        Where answers are NaN or infinite although nothing overflows.
    """
    far = [r for r in results if not r.outcome.finite and _overflows_off_the_sphere(question, r)]
    judged, overflowed = _without_overflow(question, [r for r in results if all(r is not x for x in far)])
    diagnosis = Diagnosis()
    if overflowed and not far and all(agrees(r.right, r.outcome) for r in judged):
        diagnosis.findings = [Finding((_OVERFLOW,), overflowed)]
        return diagnosis
    findings = _explain(question, judged)
    if far and not any("not-normalized" in f.ids for f in findings):
        raise _nothing_overflows(far[0])
    benign = "" if findings or call is None else _loses_digits(question, results, call, bool(overflowed))
    if benign:
        diagnosis.benign = "" if overflowed else benign
        diagnosis.evidence = [benign] if overflowed else []
        diagnosis.findings = [Finding((_OVERFLOW,), overflowed)] if overflowed else []
        return diagnosis
    if not findings and call is not None:
        findings = _few_digits(question, judged, call)
    if overflowed:
        findings = [Finding((*f.ids, _OVERFLOW), "; ".join(filter(None, (f.detail, overflowed)))) for f in findings]
    diagnosis.findings = findings
    diagnosis.invariants = invariants(question, judged, call)
    if not findings:
        diagnosis.evidence = guesses(question, judged)
        if overflowed:
            diagnosis.evidence.append(f"Besides, {overflowed}.")
    return diagnosis


_OVERFLOW = "overflow-at-small-temperature"


def _without_overflow(question: Question, results: list[Result]) -> tuple[list[Result], str]:
    """Set aside the probes whose answers are not finite; say where, if it is raw exponentials that overflow there."""
    broken = [r for r in results if not r.outcome.finite]
    if not broken:
        return results, ""
    for r in broken:
        if not raw_exponentials_fail(question, r) and not _cancels(question, r):
            raise _nothing_overflows(r)
    kept = [r for r in results if r.outcome.finite]
    if all(_cancels(question, r) for r in broken):
        return kept, ""
    kept = [r for r in kept if not (r.probe.stress and raw_exponentials_fail(question, r))]
    if not kept:
        raise CannotJudge("it returned NaN or infinity on every probe.")
    where = ", ".join(f'"{r.probe.name}" ({r.probe.dtype}, {_at(question, r)})' for r in broken)
    return kept, f"NaN or infinity on {where}"


def _nothing_overflows(r: Result) -> CannotJudge:
    return CannotJudge(f'it returned NaN or infinity on probe "{r.probe.name}", where nothing need overflow.')


def _overflows_off_the_sphere(question: Question, r: Result) -> bool:
    """Return whether exponentials of squared lengths leave the range, which only who does not normalize meets."""
    if question.recipe.normalization != "rows" or not question.recipe.embeddings or r.probe.stress:
        return False
    longest = max(float(np.max(np.sum(x * x, axis=1))) for x in r.wide)
    return longest > float(np.log(np.finfo(r.probe.inputs[0].dtype).max))


def _cancels(question: Question, r: Result) -> bool:
    """Return whether nothing is left where oneself is summed first and subtracted afterwards."""
    return r.probe.stress and cancellation(question, r) * r.outcome.eps > 1e-3


def _at(question: Question, r: Result) -> str:
    return f"τ = {question.temperature(r.probe.scalar):.4g}"


def _explain(question: Question, results: list[Result]) -> list[Finding]:
    """Try the explanations in order of how much they assume; stop at the first layer that fits."""
    # Those with gradients first, the sharpest of them before the others: they turn most explanations away.
    results = sorted(results, key=lambda r: (r.outcome.grads is None, r.outcome.eps))
    if all(agrees(r.right._replace(dmore=()), r.outcome) for r in results):
        return []  # the gradient of a further scalar alone is wrong, which has no name
    right = fit(question, results, lambda k: results[k].right)
    singles: list[Finding] = []
    if right is not None and not (right.exact and right.scalar_agrees):
        finding = _as_finding(question, right, (), "")
        if len(finding.ids) == 1:
            singles.append(finding)
        elif finding.ids:
            return [finding]
    bank = [(v, Expectations(question, results, r)) for v, r in variations(question.recipe)]
    singles += [Finding((v.id,), v.detail) for v, e in bank if _all_agree(results, e, scalar=True)]
    if not singles:
        singles = [
            Finding((id_,), detail)
            for id_, detail in (*constant_inside(question, results), *any_order(question, results))
        ]
    if singles:
        return _one_for_each_name(singles)
    with_factor = []
    for v, e in bank:
        found = fit(question, results, e)
        if found is not None:
            with_factor.append(_as_finding(question, found, (v.id,), v.detail))
    if with_factor:
        return _one_for_each_name(with_factor)
    return _one_for_each_name(_pairs(question, results, bank))


def _all_agree(results: list[Result], expected: Callable[[int], Expected], *, scalar: bool) -> bool:
    return all(agrees(expected(k), r.outcome, scalar=scalar) for k, r in enumerate(results))


def _as_finding(question: Question, found: Fit, first: tuple[str, ...], detail: str) -> Finding:
    ids = [_distributed(question, found, id_) for id_ in found.ids()]
    if found.scalar_agrees is False and question.scalar == "weight":
        ids = [id_ for id_ in ids if id_ != "temperature-gradient-wrong"]
    said = "; ".join(filter(None, (detail, found.said())))
    return Finding((*first, *ids), said, found.convention() if not first else None)


def _distributed(question: Question, found: Fit, id_: str) -> str:
    """Gradients alone, times or over the number of ranks: that factor has a name of its own."""
    world = {"world size", "1/world size"}
    if id_ == "scaled-by-constant" and question.recipe.ranks > 1 and found.value.is_one and found.gradient is not None:
        return "world-size-factor" if world & set(found.gradient.names) else id_
    return id_


def _pairs(question: Question, results: list[Result], bank: list[tuple[Variation, Expectations]]) -> list[Finding]:
    """Try every two mistakes at once: the choices of one recipe, made wrongly twice."""
    found = []
    first = results[0]
    for k, (v, _) in enumerate(bank):
        once = v.vary(question.recipe)
        for w, _ in bank[k + 1 :]:
            twice = w.vary(once) if once is not None and w.id != v.id else None
            if twice is None or twice == once or twice == w.vary(question.recipe):
                continue
            if not _value_fits(question, first, twice):
                continue
            expected = Expectations(question, results, twice)
            if agrees(expected(0), first.outcome, scalar=False) and _all_agree(results, expected, scalar=False):
                ids: tuple[str, ...] = (v.id, w.id)
                if not _all_agree(results, expected, scalar=True):
                    ids = (*ids, "temperature-gradient-wrong")
                found.append(Finding(ids, "; ".join(filter(None, (v.detail, w.detail)))))
    return found


def _value_fits(question: Question, r: Result, recipe: Recipe) -> bool:
    forward = question.evaluate(recipe, r.wide, r.probe.scalar, r.upstream, value_only=True)
    return agrees(scaled(forward, question.factor_at(r.wide, r.probe.scalar)), r.outcome, scalar=False, grads=False)


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


def _few_digits(question: Question, results: list[Result], call: Call) -> list[Finding]:
    """Name low precision where the error is rough: another one for every small move of the input."""
    # A scalar's gradient alone has no roughness to be seen.
    ordinary = [
        r
        for r in results
        if not r.probe.stress and r.probe.dtype == "float64" and not agrees(r.right._replace(dmore=()), r.outcome)
    ]
    if not ordinary:
        return []
    found = noise(question, ordinary, call, step=2.0**-9)
    if not found.rough or found.relative > 0.05:
        return []
    bits = -math.log2(max(found.relative, 1e-16))
    return [
        Finding(
            ("low-precision",),
            f"the error is up to {found.relative:.1e} of the largest entry, another one for every small move of the "
            f"input: about {bits:.0f} bits",
        )
    ]


def indistinguishable(question: Question, results: list[Result]) -> list[str]:
    """Return the names of mistakes that would have given the same answers on these probes."""
    names: list[str] = []
    for v, recipe in variations(question.recipe):
        if v.id in names or v.id in DISTRIBUTED:
            continue
        expected = Expectations(question, results, recipe)
        if all(_same(results[k], expected(k)) for k in range(len(results))):
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
