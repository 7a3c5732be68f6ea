"""Is my loss right? One call.

In:  a candidate, the name of the loss that it should be, and its settings.
Out: a `Report`.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from refcl.oracle.candidate import Candidate, Outcome, wrap
from refcl.oracle.candidates.shapes import as_function, stacked
from refcl.oracle.candidates.shapes import by_columns as columns
from refcl.oracle.compare import agrees, coarseness, compare
from refcl.oracle.diagnose import Diagnosis, diagnose, indistinguishable
from refcl.oracle.evidence import Result
from refcl.oracle.handed import ask_sizes, known_scalar, own_batches
from refcl.oracle.harmless import harmless
from refcl.oracle.measure.settings import right_for
from refcl.oracle.mistakes import CATALOGUE
from refcl.oracle.names.difference import Difference
from refcl.oracle.probes import ABOUT, FINITE_ONLY, OWN_BATCH, Probe, probes
from refcl.oracle.question import Question, ask
from refcl.oracle.raised import CannotJudge
from refcl.oracle.report import Judged, Report
from refcl.oracle.returned import value_alone
from refcl.strips.workers import one_blas_thread

FEW, FEW_NUMBERS = 4, 36  # batches of which differences are taken at least, and numbers in any other


def check(
    candidate: Callable[..., Any],
    loss: str,
    *,
    inputs: Any = None,
    only_inputs: bool = False,
    shape: tuple[int, int] | None = None,
    extra_keys: int = 0,
    passes_scalar: bool | None = None,
    precision: str | None = None,
    by_columns: tuple[str, ...] = (),
    **settings: Any,
) -> Report:
    r"""Hold someone's loss against refcl's, and say what is wrong with it.

    Parameters
    ----------
    candidate : callable
        ``candidate(*arrays)`` with its settings baked in, or ``candidate(*arrays, temperature)``, which lets other
        temperatures be tried. Labels and memories that a loss can't do without (``labels``, ``same``, ``queue``,
        ``bank``, ``index`` …) come by name; the views of "cmc" come as one tuple; SigLIP's ``bias`` after its
        log-scale; what ``given`` names, by its name. Returns a value, or ``value, grads`` with one gradient for each
        argument (that of the temperature, and of what stands after it, may be left out; those of the views of "cmc" are
        a tuple). Wrap functions of tensors in `from_torch`, `from_jax` or `from_module`; wrap a function that has no
        gradient in `numeric`.
    loss : str
        Name of a loss of refcl, such as "nt_xent", "info_nce", "clip" or "softmax_contrastive".
    inputs : tuple of arrays, list of such tuples, "stacked" or "views", optional
        Batches of your own beside the built-in ones. What comes by name is made for them, or is a setting. "stacked":
        the candidate takes its two views as one (2N, D) array; "views": as (N, V, D).
    only_inputs : bool
        Try your own batches only.
    shape : tuple of int, optional
        (N, D) for all built-in batches, or (N, M) for similarities: for a candidate built for one size.
    extra_keys : int
        How many rows ``key`` has more than ``query`` in the built-in batches.
    passes_scalar : bool, optional
        Whether the candidate takes the temperature after the arrays; by default read from its signature.
    precision : str, optional
        "bfloat16", "float16" or "float32": what that costs is accepted, and only what is worse is a mistake.
    by_columns : tuple of str
        Memories that the candidate takes as (D, K) instead of (K, D), such as ("queue",).
    **settings
        Of the loss (temperature, reduction, normalize, eps, hardest, margin, positive, ignore …) and conventions:
        ``given`` (what a call may leave out and does not: "targets", "log_weight", "anchor_weight", "own_negatives"),
        ``views`` (of "cmc", how many), ``direction`` ("first", "second", "both"), ``positive_in_denominator``,
        ``detached`` (names of inputs that get no gradient on purpose), ``scale`` (a number or a name such as "2",
        "τ/0.07").

    Returns
    -------
    report : Report
        ``report.ok``, ``report.verdict``, ``print(report)``, ``report.to_json()``.

    Raises
    ------
    TypeError, ValueError
        Where the question itself makes no sense: an unknown loss or setting.
    RuntimeError
        Where these probes would let a gradient of zeros or a doubled one pass.

    Notes
    -----
    Every part of an answer is compared relative to the size of the terms that it is made of and to the precision that
    it came in: up to 32 roundings are forgiven. A name is given only where it explains value and gradients to rounding
    on every probe; otherwise the verdict is "unknown". The candidate's code is run in this process.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.oracle import check
    >>> def mine(query, key):
    ...     query = query / np.linalg.norm(query, axis=1, keepdims=True)
    ...     key = key / np.linalg.norm(key, axis=1, keepdims=True)
    ...     s = query @ key.T
    ...     return np.mean(np.log(np.sum(np.exp(s / 0.2), axis=1)) - np.diag(s))
    >>> check(mine, "info_nce", temperature=0.2).verdict
    'temperature-missing-on-positive'
    """
    question = ask(loss, **settings)
    ask_sizes(shape, extra_keys)
    given = {k: v for k, v in settings.items() if v is not None}
    try:
        candidate = as_function(candidate)
        if isinstance(inputs, str):
            candidate, inputs = stacked(candidate, inputs, len(question.inputs)), None
        if by_columns:
            candidate = columns(candidate, by_columns)
        wrapped = wrap(candidate, question, passes_scalar=passes_scalar)
        wrapped.coarse = coarseness(precision)
        known_scalar(wrapped, question)
        tried = probes(
            question,
            passes_scalar=wrapped.passes_scalar,
            shape=shape,
            extra=extra_keys,
            own=own_batches(inputs, question),
            only_own=only_inputs,
            few_shapes=wrapped.few_shapes,
        )
        if precision is not None:
            tried = [p for p in tried if not p.stress and (question.temperature(p.scalar) or 1.0) > 0.05]
        if not tried:
            raise ValueError(f"check: {loss} is not defined on any of these batches; look at shape= and extra_keys=.")
        if question.recipe.reduction == "none" and not wrapped.passes_upstream:
            wrapped.notes["upstream"] = "It takes no upstream gradient: its gradients were compared for one of ones."
            tried = [Probe(p.name, p.inputs, p.scalar, None, p.corner, p.stress) for p in tried]
        results = _run(wrapped, question, tried)
        report = judge(question, results, call=wrapped, settings=given, shape=shape, extra=extra_keys)
    except CannotJudge as reason:
        return Report("not judged", loss, given, reason=reason.reason, trace=reason.trace)
    report.notes += wrapped.notes.values()
    return report


def assert_correct(candidate: Callable[..., Any], loss: str, **settings: Any) -> None:
    """Raise an AssertionError whose first line is the name of the mistake, unless the candidate is right.

    Parameters
    ----------
    candidate : callable
        As for `check`.
    loss : str
        As for `check`.
    **settings
        As for `check`.

    Examples
    --------
    >>> import refcl
    >>> from refcl.oracle import assert_correct
    >>> assert_correct(refcl.nt_xent, "nt_xent")
    """
    report = check(candidate, loss, **settings)
    if not report.ok:
        raise AssertionError(f"{report.verdict}\n{report}")


def judge(
    question: Question,
    results: list[Result],
    *,
    call: Callable[[Probe], Outcome] | None = None,
    settings: dict[str, Any] | None = None,
    shape: tuple[int, int] | None = None,
    extra: int = 0,
) -> Report:
    """Compare answers that are already there, and diagnose them.

    Parameters
    ----------
    question : Question
        What was asked.
    results : list of Result
        Each probe with what came and what is right.
    call : callable, optional
        The candidate, where it can be asked again.
    settings : dict, optional
        What the report repeats.
    """
    names = question.names
    compared = [(r, tuple(compare(r.right, r.outcome, names))) for r in results]
    judged = [
        Judged(r.probe.name, r.probe.sizes, r.probe.dtype, r.probe.scalar, not _decides(r), parts)
        for r, parts in compared
        if _decides(r) or r.probe.name not in FINITE_ONLY
    ]
    decisive = [r for r in results if _decides(r)]
    _controls(decisive, names)
    # Of differences, which are taken of some, what is not there was not asked for.
    due = [r for r in decisive if r.outcome.grads is not None or not r.outcome.noise]
    report = Report(
        "correct",
        question.loss,
        settings or {},
        gradient_judged=bool(due) and all(r.outcome.grads is not None for r in due),
        gradient_count=sum(r.outcome.grads is not None for r in decisive),
        scalar_judged=bool(due) and question.scalar is not None and all(r.outcome.dscalar is not None for r in due),
        scalar_name=question.scalar,
        more_judged=tuple(n for k, n in enumerate(question.more) if all(_more(r, k) for r in due)),
        more_names=question.more,
        probes=judged,
    )
    partly = _partly(question, due)
    if all(j.passed for j in judged if not j.corner):
        if partly:
            report.verdict, report.reason = "not judged", f"{partly} What came is right; return them on all batches."
            return report
        report.indistinguishable = indistinguishable(question, decisive)
        return report
    passing = harmless(question, decisive)
    if passing:
        report.notes += passing
        report.notes += [partly] if partly else []
        return report
    try:
        with one_blas_thread():  # small matrices, many times: threads would wait for each other more than they work
            _explain(report, diagnose(question, decisive, call, shape=shape, extra=extra))
    except CannotJudge:
        raise
    except Exception as error:  # whatever the candidate does, there is a report
        report.verdict = "unknown"
        report.evidence.append(f"The diagnosis itself ended with {type(error).__name__}: {error}. Please report it.")
    report.right_for += right_for(question, decisive, measured=not report.findings)
    report.notes += [partly] if partly else []
    return report


def _decides(r: Result) -> bool:
    """Return whether an answer decides: a corner does where anything finite is right, and what came is not finite."""
    exists = all(np.all(np.isfinite(x)) for x in (r.right.value, *r.right.grads))
    return not r.probe.corner or (
        r.probe.name in FINITE_ONLY and exists and not r.outcome.finite and r.outcome.eps < 1e-10
    )


def _partly(question: Question, decisive: list[Result]) -> str:
    """Say on how many batches gradients came, where it is neither all nor none."""
    asked = [r for r in decisive if r.probe.scalar is not None and r.right.dscalar is not None]
    came = (
        ("Gradients", [(r, r.outcome.grads is not None) for r in decisive]),
        (f"Gradients of the {question.scalar}", [(r, r.outcome.dscalar is not None) for r in asked]),
    )
    for what, there in came:
        without = [r.probe.name for r, came_here in there if not came_here]
        if 0 < len(without) < len(there):
            count = f"{len(there) - len(without)} of {len(there)}"
            return f'{what} were returned on {count} batches, not on "{without[0]}".'
    return ""


def _more(r: Result, k: int) -> bool:
    """Return whether one of what else has a gradient has it in the answer, and in what that is held against."""
    return len(r.right.dmore) > k < len(r.outcome.dmore) and r.outcome.dmore[k] is not None


def _explain(report: Report, diagnosis: Diagnosis) -> None:
    report.findings = diagnosis.findings
    report.differences = [
        Difference(
            CATALOGUE[id_].effect, f.detail, CATALOGUE[id_].wrong, CATALOGUE[id_].right, CATALOGUE[id_].right, id_
        )
        for f in diagnosis.findings
        for id_ in f.ids
    ]
    report.invariants = diagnosis.invariants
    report.evidence = diagnosis.evidence
    if diagnosis.benign:
        report.notes.append(diagnosis.benign)
    elif diagnosis.findings:
        report.verdict = " or ".join(f.name for f in diagnosis.findings)
    elif diagnosis.measurement is not None and (diagnosis.measurement.differences or diagnosis.measurement.settings):
        report.differences = diagnosis.measurement.differences
        named = list(dict.fromkeys(d.name for d in report.differences))
        report.verdict = " + ".join(named) if named and all(named) else "differs"
        report.notes += diagnosis.measurement.notes
        report.picture = diagnosis.measurement.picture
        report.right_for = diagnosis.measurement.settings
    else:
        report.verdict = "unknown"


def _run(candidate: Candidate, question: Question, tried: list[Probe]) -> list[Result]:
    results: list[Result] = []
    failed: list[tuple[Probe, CannotJudge]] = []
    due = _differentiated(tried) if candidate.noise else [p.name for p in tried]
    if len(due) < len(tried):
        candidate.notes["differences"] = (
            f"Its gradients are differences of its value, which are dear: taken on {len(due)} of {len(tried)} batches."
        )
    for probe in tried:
        try:
            with nullcontext() if probe.name in due else value_alone():
                outcome = candidate(probe)
        except CannotJudge as reason:
            if probe.corner:
                candidate.notes[probe.name] = f'On the corner probe "{probe.name}": {reason.reason}'
            elif reason.refused and probe.name in ABOUT:
                candidate.notes["refused"] = f"It refuses a batch, which was not judged: {reason.reason}"
            else:
                failed.append((probe, reason))
            continue
        results.append(Result(probe, outcome, question.answer(probe)))
    if failed:
        _some_failed(candidate, results, failed)
    _same_twice(candidate, next((r for r in results if r.probe.name in due), results[0]))
    return results


def _differentiated(tried: list[Probe]) -> list[str]:
    """Return the names of the batches on which differences are taken: the user's own and the small ones."""
    numbers = [sum(x.size for x in p.inputs) for p in tried]
    most = max(FEW_NUMBERS, *sorted(numbers)[:FEW])
    return [p.name for p, n in zip(tried, numbers, strict=True) if n <= most or p.name.startswith(OWN_BATCH)]


def _some_failed(candidate: Candidate, results: list[Result], failed: list[tuple[Probe, CannotJudge]]) -> None:
    """Go on with the other batches where these show a mistake; otherwise nothing can be said."""
    probe, reason = failed[0]
    judged = [r for r in results if not r.probe.corner]
    wrong = [r for r in judged if not agrees(r.right, r.outcome)]
    size = {p.inputs[0].shape[0] for p, _ in failed}
    if judged and not {r.probe.inputs[0].shape[0] for r in judged} & size:
        n, d = judged[0].probe.inputs[0].shape[0], probe.inputs[0].shape[-1]
        hint = (
            f" It is built for batches of {n} rows, as it seems: say check(…, shape=({n}, {d})), or take N from the"
            " arrays."
        )
    elif (
        not judged
        and reason.trace
        and reason.reason.endswith(").")
        and ("shape" in reason.reason or "AssertionError" in reason.trace)
    ):
        hint = " If it is built for one batch size, say which: check(…, shape=(N, D))."
    else:
        hint = ""
    said = f"{reason.reason}{hint}"
    if not wrong:
        raise CannotJudge(said, reason.trace)
    candidate.notes["failed"] = (
        f"It could not be judged on {len(failed)} of {len(failed) + len(results)} batches: {said}"
    )


def _same_twice(candidate: Candidate, first: Result) -> None:
    again = candidate(first.probe)
    if (first.outcome.grads is None) != (again.grads is None):
        raise CannotJudge("of two calls on the same input one returned gradients and one did not.")
    pairs = [(first.outcome.value, again.value), *zip(first.outcome.grads or (), again.grads or (), strict=True)]
    for was, now in pairs:
        difference = np.max(np.abs(was - now)) if np.all(np.isfinite(was)) and np.all(np.isfinite(now)) else 0.0
        if difference > 1e3 * first.outcome.eps * max(float(np.max(np.abs(was))), 1e-300):
            raise CannotJudge(
                f"two calls on the same input differ by {difference:.3g}: it is not deterministic "
                "(dropout, sampling, or state that it keeps)."
            )


def _controls(decisive: list[Result], names: tuple[str, ...]) -> None:
    """Judge a gradient of zeros and a doubled one by the same tolerances: both must fail."""
    moving = [r for r in decisive if any(np.any(g) for g in r.right.grads)]
    for factor in (0.0, 2.0):
        for r in moving:
            grads = tuple(g * factor for g in r.right.grads)
            fake = Outcome(r.right.value, grads, None, r.outcome.eps, r.outcome.noise)
            if any(p.distance > 1.0 for p in compare(r.right, fake, names)):
                break
        else:
            what = "zeros" if factor == 0.0 else "twice the gradient"
            raise RuntimeError(
                f"check: these probes would let a gradient of {what} pass; nothing can be judged on them."
            )
