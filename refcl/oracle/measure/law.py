"""The law of each anchor: weights, temperatures and targets, by a fit to the measured derivatives.

    F(s) = const + Σ_a w_a log(Σ_k m_ak exp(β_ak s_ak) + c_a) − Σ_e T_e s_e

Where several positives are added inside the logarithm, an anchor has a second sum, of these, with a weight below 0.

In:  a bench.
Out: the parameters where the form explains the derivatives, and the differences from what they should be.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from refcl.oracle.measure.bench import Bench
from refcl.oracle.measure.fitted import compare, numerators
from refcl.oracle.measure.form import Fitted, Form, fit, form_of, with_numerators
from refcl.oracle.measure.freedoms import both_ways, expected, weights_read
from refcl.oracle.measure.pairs import Measured
from refcl.oracle.measure.readings import READINGS
from refcl.oracle.measure.targets import unit
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say

DRAWS = 12
EXPLAINED = 3e-6  # the largest residual, relative to the largest derivative


def law(bench: Bench, m: Measured, *, summed: bool = False) -> tuple[Fitted | None, list[Difference]] | None:
    """Fit the form, and say in what the parameters differ; None where it does not explain the derivatives.

    Where several positives should be averaged outside the logarithm, their sum inside it (``summed``) is tried next.
    """
    q = bench.lab.question
    tau = 1.0 if bench.steps else q.temperature(bench.lab.scalar)
    freed = expected(bench)
    if tau is None or q.follows:  # the right loss itself is not of this form
        return None
    form = form_of(bench, m)
    if len(form.terms) > 140 or not form.terms:
        return None
    drawn, got = _enough(bench, form, m)
    if not np.all(np.isfinite(got)):
        return None
    u = unit(bench)
    outside = np.zeros(form.count)  # the targets where the mean over the positives stands outside the logarithm
    want_target = np.zeros(form.count)
    per_anchor = np.zeros((len(form.anchors), form.count), bool)
    for a, e in form.terms:
        if m.positive[e]:
            per_anchor[a, e] = True
    several = q.recipe.inside == "supervised"
    inside = several and (summed or q.recipe.form != "out")
    for which in map(np.flatnonzero, per_anchor):
        outside[which] += u.size / max(len(which), 1)
        want_target[which] += 0.0 if inside and len(which) > 1 else u.size / max(len(which), 1)
    own_sums = len(form.anchors)
    form = with_numerators(form, per_anchor) if inside else form
    expected_m, anchor = m.used[form.e].astype(float), np.where(np.arange(len(form.anchors)) < own_sums, 1.0, -1.0)
    if freed is not None:
        row = np.array([form.anchors[a] for a in form.a])
        ends = np.array([bench.entries[e] for e in form.e])
        column = np.where(ends[:, 0] == row, ends[:, 1], ends[:, 0]) if bench.gram else ends[:, 1]
        expected_m, anchor = freed.weight[row, column], freed.anchor[form.anchors]
        want_target = u.size * both_ways(bench, freed.anchor[:, None] * freed.targets)
    start = {
        "w": u.size * tau * anchor,
        "m": expected_m,
        "beta": np.full(len(form.terms), 1 / tau),
        "c": np.zeros(len(form.anchors)),
        "target": want_target,
    }
    angle = float(q.settings.get("angular_margin", 0.0))
    otherwise = _read_otherwise(bench, form, drawn, got, start, tau, angle)
    if otherwise is None and freed is None:
        otherwise = _picked(bench, form, drawn, got, start, per_anchor, u.size)
    if otherwise is not None or angle:
        return None if otherwise is None else (None, [otherwise])
    ones = np.ones(len(form.terms))
    changes = [{}, {"m": ones}, {"beta": ones}, *({"c": c * (anchor > 0)} for c in _oneself(bench, form, tau))]
    if inside:
        changes.append({"w": start["w"] * (anchor > 0), "target": outside})
    best = fit(bench, form, drawn, got, [start | change for change in changes], EXPLAINED)
    if best is None or best.residual > EXPLAINED * (1 if bench.lab.trusted else 30):
        found = law(bench, m, summed=True) if several and not inside else None
        return None if found is None else (found[0], [say("positives inside"), *found[1]])
    read: list[Difference] = []
    if freed is not None:
        terms = list(zip(row, column, strict=True))
        by = weights_read(bench, freed, terms, best.m, best.w / (u.size * tau), form.anchors)
        read = by.found
        right = np.where(expected_m > 0, expected_m, 1.0) ** by.candidates
        best = replace(best, m=best.m / right, w=best.w / np.where(anchor > 0, anchor, 1.0) ** by.anchors)
        every = np.where(freed.anchor > 0, freed.anchor, 1.0) ** by.anchors
        want_target = u.size * both_ways(bench, every[:, None] * freed.targets)
    if inside:
        best, upper = best.parted(own_sums)
        if np.all(np.abs(upper.w) < 1e-4 * u.size * tau):
            want_target = outside
            averaged = np.allclose(best.target, outside, atol=1e-4 * u.size)
            read = [say("mean of the positives' logits")] if averaged else []
        else:
            read = numerators(bench, upper, tau)
            b = upper.beta[np.abs(upper.m) > 1e-5]  # an only positive, whose sum is none, goes along
            want_target = want_target * tau * (b[0] if np.ptp(b) < 1e-4 * abs(b[0]) else 1 / tau)
    return best, read + compare(bench, m, best, want_target, u.size * tau, tau)


def _enough(bench: Bench, form: Form, m: Measured) -> tuple[list[Any], Any]:
    """Return similarities and derivatives for the fit: what was measured already, and more where that is too few."""
    if bench.lab.trusted:
        drawn = [bench.draw(100 + k) for k in range(DRAWS)]
        return drawn, np.array([bench.gradient(s) for s in drawn])
    # Derivatives by differences are dear: twice as many equations as there are parameters.
    parameters = 2 * len(form.anchors) + 2 * len(form.terms) + form.count
    wanted = min(-(-2 * parameters // form.count), DRAWS)
    more = [bench.draw(100 + k) for k in range(max(wanted - len(m.drawn), 0))]
    return [*m.drawn, *more], np.array([*m.got, *(bench.gradient(s) for s in more)])


def _oneself(bench: Bench, form: Form, tau: float) -> list[Any]:
    """Return the constants that oneself adds to the sums, exp(1/τ): in all of them, or in those of one input's rows."""
    if not bench.gram:
        return []
    side = np.array([bench.rows[i][0] for i in form.anchors])
    sides = sorted(set(side))
    parts = [np.ones(len(side), dtype=bool), *([side == name for name in sides] if len(sides) > 1 else [])]
    return [np.where(part, np.exp(1 / tau), 0.0) for part in parts]


def _read_otherwise(
    bench: Bench, form: Form, drawn: list[Any], got: Any, start: dict[str, Any], tau: float, angle: float
) -> Difference | None:
    """Say whether everything is as it should be but for what is read in the place of each similarity."""
    lowered = (
        f"cos(θ + {angle:g}), not in the place of the positive's alone",
        lambda s: np.cos(np.arccos(s) + angle),
        lambda s: np.sin(np.arccos(s) + angle) / np.sqrt(1 - s * s),
    )
    for said, f, slope in (*READINGS, *((lowered,) if angle else ())):
        off = 0.0
        for s, g in zip(drawn, got, strict=True):
            x = np.array([s[e] for e in bench.entries])
            with np.errstate(all="ignore"):
                y, d = f(x), slope(x)
            ex = start["m"] * np.exp(y[form.e] / tau)
            total = form.one_hot @ ex
            p = start["w"][form.a] / tau * ex / np.where(total[form.a] == 0, 1.0, total[form.a])
            off = max(off, float(np.max(np.abs((form.to_entry @ p - start["target"]) * d - g))))
            if not off < 1e-4 * float(np.max(np.abs(got))):
                break
        else:
            return say("read otherwise", reading=said)
    return None


def _picked(
    bench: Bench, form: Form, drawn: list[Any], got: Any, start: dict[str, Any], positives: Any, size: float
) -> Difference | None:
    """Say whether of an anchor's several positives (A, E) only the nearest counts, or only the furthest.

    Where it has one, whether that of all its candidates is taken for it.
    """
    one = np.max(np.sum(positives, axis=1)) < 2
    if one:
        positives = np.zeros_like(positives)
        positives[form.a, form.e] = True
    for which, far in (("largest", -np.inf), ("smallest", np.inf)):
        made = []
        for s in drawn:
            x = np.array([s[e] for e in bench.entries])
            ex = start["m"] * np.exp(start["beta"] * x[form.e])
            p = (start["w"] > 0)[form.a] * start["w"][form.a] * start["beta"] * ex / (form.one_hot @ ex)[form.a]
            others = np.where(positives, x, far)  # (A, E)
            best = np.argmax(others, axis=1) if far < 0 else np.argmin(others, axis=1)
            picked = np.bincount(best[np.any(positives, axis=1)], minlength=form.count)
            made.append(form.to_entry @ p - size * picked)
        if _alike(np.array(made), got):
            return say("positive picked", which=which) if one else say("one of several positives", which=which)
    return None


def _alike(a: Any, b: Any) -> bool:
    return bool(np.max(np.abs(a - b)) < 1e-5 * np.max(np.abs(b)))
