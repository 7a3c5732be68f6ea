"""In what does the law that was fitted differ from the right one?

In:  a bench and the fitted weights, temperatures and targets.
Out: differences.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from refcl.oracle.measure.bench import Bench, entry_name
from refcl.oracle.measure.form import Fitted
from refcl.oracle.measure.pairs import Measured, kinds, named, words
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say


def compare(bench: Bench, m: Measured, f: Fitted, want_target: Any, want_w: float, tau: float) -> list[Difference]:
    form, found = f.form, []
    f = _without_constants(f, tau)
    whole = _temperature_missing(m, f, want_target, tau)
    if whole is not None:
        return [whole]
    b = f.beta[np.abs(f.m) > 1e-5]
    if len(b) and np.ptp(b) < 1e-4 * abs(b[0]) and abs(b[0] * tau - 1) > 1e-4:  # everywhere: the rest is held to it
        found.append(_another_temperature(bench, "all similarities", b[0], tau))
        want_target, tau = want_target * b[0] * tau, 1 / b[0]
    by_kind = {}
    for kind, which in kinds(bench, m).items():
        for e in which:
            by_kind[e] = kind
    live = np.abs(f.w) > 1e-4 * want_w
    m_rel = f.m.copy()
    c_rel = f.c.copy()
    for a in range(len(form.anchors)):
        on = (form.a == a) & m.used[form.e]
        values = f.m[on & ~m.positive[form.e]] if np.any(on & ~m.positive[form.e]) else f.m[on]
        values = values[np.abs(values) > 1e-6 * np.max(np.abs(f.m[form.a == a]))] if len(values) else values
        ref = float(np.median(values)) if len(values) else 1.0
        own = f.m[(form.a == a) & m.positive[form.e]]
        if len(own) and own[0] and _whole(f.m[form.a == a] / own[0]) and not _whole(f.m[form.a == a] / ref):
            ref = float(own[0])  # a common factor of a row cannot be told: the one that makes whole numbers
        m_rel[form.a == a] /= ref
        c_rel[a] /= ref
    names = [bench.rows[i] if bench.gram else ("anchor", i) for i in form.anchors]
    found += _weights(bench, f, names, live, want_w)
    # multiplicities and temperatures, class by class
    groups: dict[tuple[Any, str], list[int]] = {}
    for t, (a, e) in enumerate(form.terms):
        if live[a] and by_kind.get(e) is not None:
            groups.setdefault((by_kind[e], names[a][0]), []).append(t)
    for (kind, side), ts in groups.items():
        said = words(bench, kind) + (
            f" in one direction only, the sums of {side}'s rows,"
            if bench.gram
            and len({n for n, _ in names}) > 1
            and len(groups) > 1
            and _sides_differ(groups, kind, m_rel, f.beta, tau)
            else ""
        )
        counts = np.abs(m_rel[ts]) > 1e-5
        used = m.used[form.e[ts]]
        mm, beta = m_rel[ts], f.beta[ts]
        positive = kind.relation == "positive"
        if np.any(used) and not np.any(counts[used]):
            name = "positive-missing-from-denominator" if positive else ""
            found.append(say("missing from the sum", name=name, entries=said))
            continue
        if not np.any(counts):
            continue
        b = beta[counts]
        if np.ptp(b) < 1e-4 * np.max(np.abs(b)) and abs(b[0] * tau - 1) > 1e-4:
            found.append(_another_temperature(bench, said, b[0], tau, positive))
            if positive and np.allclose(f.target[m.positive], want_target[m.positive] * b[0] * tau, rtol=1e-4):
                want_target = want_target * b[0] * tau  # in the numerator too
        mv = mm[counts]
        wrong = (counts & (np.abs(mm - used) > 1e-4)) | (used & ~counts)
        if not np.any(wrong):
            continue
        if np.ptp(mv) < 1e-4 * np.max(np.abs(mv)) and np.all(counts == (used | counts)):
            v = float(mv[0])
            counted = abs(v - round(v)) < 1e-4
            asked = float(bench.lab.question.settings.get("margin") or 0.0) if positive else 0.0
            m_s = asked - np.log(v) * tau if v > 0 else 0.0
            told = f", expected {asked:.4g}" if asked else ""
            margin = (
                f" (a margin of {m_s:.4g} on the similarity, {m_s / tau:.4g} on the logit{told})"
                if v > 0 and not counted
                else ""
            )
            often = {2: "twice", 3: "three times"}.get(round(v) if counted else 0, f"{v:.5g} times")
            name = "positive-counted-twice" if positive and often == "twice" else ""
            if positive and counted and v > 2:
                often += f" (or, but for a constant, the others 1/{v:.0f} each: they are averaged)"
            found.append(say("counted again", name=name, entries=said, times=often, margin=margin, weight=v))
        else:
            some = "; ".join(_term(bench, f, ts[k], m_rel) for k in np.flatnonzero(wrong)[:4])
            part = f"{np.sum(wrong)} of {len(ts)} of {said}"
            found.append(say("some weigh otherwise", some, entries=part, some=some))
    found += _constants(bench, names, c_rel, live, tau)
    shifted = _mask_of_another_rank(bench, f, m, names, c_rel, m_rel)
    if shifted is not None:
        return [shifted]
    # Targets go with the weight of their anchors, which has been said.
    at = np.bincount(form.e, (f.w / want_w)[form.a], form.count) / np.maximum(
        np.bincount(form.e, minlength=form.count), 1
    )
    along = found and np.allclose(f.target, want_target * at, atol=1e-4 * float(np.max(np.abs(want_target))))
    off = np.zeros(form.count) if along else f.target - want_target
    if np.max(np.abs(off)) > 1e-4 * np.max(np.abs(want_target)):
        worst = np.argsort(-np.abs(off))[:4]
        one = want_w / tau
        some = "; ".join(
            f"{entry_name(bench, e)}: {f.target[e] / one:.4g} (expected {want_target[e] / one:.4g})"
            for e in worst
            if abs(off[e]) > 1e-4 * np.max(np.abs(want_target))
        )
        found.append(say("targets differ", some, some=some))
    return found


def numerators(bench: Bench, f: Fitted, tau: float) -> list[Difference]:
    """Say in what the sums of the positives differ, where these are added inside the logarithm."""
    form, found = f.form, []
    live = np.abs(f.m) > 1e-5
    b = f.beta[live]
    if np.ptp(b) < 1e-4 * np.max(np.abs(b)) and abs(b[0] * tau - 1) > 1e-4:
        found.append(_another_temperature(bench, "the positives in the numerator", b[0], tau))
    # a common factor of a sum can't be told
    largest = [max(np.flatnonzero(form.a == a), key=lambda t: abs(f.m[t])) for a in range(len(form.anchors))]
    relative = f.m / f.m[largest][form.a]
    wrong = np.flatnonzero(np.abs(relative - 1) > 1e-4)
    if len(wrong):
        some = "; ".join(_term(bench, f, t, relative) for t in wrong[:4])
        part = f"{len(wrong)} of {len(relative)} of the positives in the numerator, log Σ exp(s_ip/τ) over its own,"
        found.append(say("some weigh otherwise", some, entries=part, some=some))
    return found


def _another_temperature(bench: Bench, who: str, b: float, tau: float, positive: bool = False) -> Difference:
    missing = abs(b - 1) < 1e-4
    names = [] if missing else named(bench, 1 / (b * tau))
    why = (
        " (the temperature is missing there)" if missing else f" ({' or '.join(names[:2])} times that)" if names else ""
    )
    name = "temperature-missing-on-positive" if positive and missing else ""
    return say("another temperature there", name=name, entries=who, t=1 / b, tau=tau, missing=why)


def _without_constants(f: Fitted, tau: float) -> Fitted:
    """Return the fit with what does not depend on its similarity, m exp(0 s), added to the constants of the sums."""
    flat = (np.abs(f.beta) < 1e-6 / tau) & (np.abs(f.m) > 1e-9)
    c = f.c + np.bincount(f.form.a, np.where(flat, f.m, 0.0), len(f.c))
    return replace(f, c=c, m=np.where(flat, 0.0, f.m))


def _mask_of_another_rank(
    bench: Bench, f: Fitted, m: Measured, names: list[Any], c_rel: Any, m_rel: Any
) -> Difference | None:
    """Say whether each rank leaves out the columns that are itself on rank 0, and keeps itself."""
    ranks = bench.lab.question.recipe.ranks
    if ranks < 2 or not bench.gram:
        return None
    local = sum(name == bench.rows[0][0] for name, _ in bench.rows) // ranks
    kept = {names[k] for k in np.flatnonzero(np.abs(c_rel) > 1e-5)}
    gone = [t for t in range(len(m_rel)) if m.used[f.form.e[t]] and abs(m_rel[t]) < 1e-5]
    left_out = set()
    for t in gone:
        a, e = f.form.terms[t]
        i, j = bench.entries[e]
        left_out.add((names[a], bench.rows[j if bench.rows[i] == names[a] else i]))
    elsewhere = {(name, i) for name, i in names if i >= local}
    if not kept or kept != elsewhere or left_out != {((name, i), (name, i % local)) for name, i in elsewhere}:
        return None
    name = names[0][0]
    return say("mask of another rank", f"{name} {local} without {name} 0, and with itself", local=local)


def _temperature_missing(m: Measured, f: Fitted, want_target: Any, tau: float) -> Difference | None:
    """Say where the temperature is missing: on the positive, or on the negatives, in sum and target as one."""
    positive = m.positive[f.form.e]
    if not np.all(want_target[m.positive]):  # where positives are added inside a logarithm, no target is theirs
        return None
    live = np.abs(f.m) > 1e-5
    b_pos, b_neg = f.beta[positive & live], f.beta[~positive & live]
    ratio = f.target[m.positive] / want_target[m.positive]
    if (
        not len(b_neg)
        or not len(ratio)
        or np.ptp(ratio) > 1e-4
        or np.ptp(b_neg) > 1e-3 / tau
        or (len(b_pos) and np.ptp(b_pos) > 1e-3 / tau)
    ):
        return None
    target_one, neg_right = abs(ratio[0] - tau) < 1e-4, abs(b_neg[0] * tau - 1) < 1e-4
    pos_one = not len(b_pos) or abs(b_pos[0] - 1) < 1e-4
    if target_one and neg_right and pos_one and abs(tau - 1) > 1e-3:
        return say("no temperature on the positive")
    pos_right = not len(b_pos) or abs(b_pos[0] * tau - 1) < 1e-4
    if abs(ratio[0] - 1) < 1e-4 and abs(b_neg[0] - 1) < 1e-4 and (pos_right or pos_one) and abs(tau - 1) > 1e-3:
        return say("no temperature on the negatives")
    return None


def _whole(x: Any) -> bool:
    return bool(np.all(np.abs(x - np.round(x)) < 1e-4))


def _sides_differ(groups: Any, kind: Any, m_rel: Any, beta: Any, tau: float) -> bool:
    sides = [ts for (k, _), ts in groups.items() if k == kind]
    if len(sides) < 2:
        return bool(kind.first != kind.second)  # those within a view are in no other's sums
    stats = [(round(float(np.median(m_rel[ts])), 4), round(float(np.median(beta[ts]) * tau), 4)) for ts in sides]
    return len(set(stats)) > 1


def _term(bench: Bench, f: Fitted, t: int, m_rel: Any) -> str:
    _, e = f.form.terms[t]
    return f"{entry_name(bench, e)} {m_rel[t] if abs(m_rel[t]) > 1e-4 else 0:.4g}"


def _weights(bench: Bench, f: Fitted, names: list[Any], live: Any, want_w: float) -> list[Difference]:
    r = f.w / want_w
    if np.max(np.abs(r - 1)) < 1e-4:
        return []
    shown = ", ".join(f"{x:.4g}" for x in np.where(np.abs(r) < 1e-6, 0.0, r))
    if not np.all(live):
        gone = [names[k] for k in np.flatnonzero(~live)]
        sides = {n for n, _ in gone}
        if len(sides) == 1 and all(n not in sides for n, _ in (names[k] for k in np.flatnonzero(live))):
            return [say("anchors of one view", view=next(iter(sides)), weights=shown)]
        who = ", ".join(f"{n} {i}" for n, i in gone)
        some = f"{'anchors' if len(gone) > 1 else 'anchor'} {who.replace('anchor ', '')}"
        return [say("anchors left out", who, anchors=some, most=float(np.max(r)), weights=shown)]
    if np.ptp(r) < 1e-4:
        return []
    labels = bench.companions.get("labels")
    why = ""
    if labels is not None:
        p = np.array([np.sum(labels == x) - 1 for x in labels], float)
        if np.allclose(r / r.mean(), p / p.mean(), atol=1e-3):
            why = (
                ": each anchor weighs as many as it has positives, one average over all positive pairs, not anchor by"
                " anchor"
            )
        if np.allclose(r, p, atol=1e-3):
            why = ": as many as it has positives (P), whose losses are added, not averaged: 1/P is missing"
        if np.allclose(r, p / (p + 1), atol=1e-3):
            why = ": P/(P + 1), the sum over its P positives is divided by P + 1, oneself counted among them"
    inputs, _ = bench.inputs(bench.draw(0))
    held = bench.lab.question.companions(inputs)
    if "positives" in held:
        p, columns = held["positives"].sum(1), bench.shape[1]
        if np.allclose(r, p / columns, atol=1e-3):
            why = (
                f": each positive has the target 1/M, averaged over all {columns} candidates (M), not over its P"
                " positives"
            )
    if len({n for n, _ in names}) > 1:
        shown = ", ".join(f"{n} {i}: {x:.4g}" for (n, i), x in sorted(zip(names, r, strict=True)))
    return [say("anchors weigh otherwise", why=why, weights=shown)]


def _constants(bench: Bench, names: list[Any], c_rel: Any, live: Any, tau: float) -> list[Difference]:
    there = live & (np.abs(c_rel) > 1e-5)
    if not np.any(there):
        return []
    values = c_rel[there]
    ignored = np.zeros(len(names)) if bench.lab.question.ignore is None else np.sum(bench.lab.question.ignore, axis=1)
    if len(ignored) == len(names) and np.array_equal(there, live & (ignored > 0)):
        each = values / ignored[there]
        if np.ptp(each) < 1e-4 * abs(each[0]) and each[0] > 0:
            return [say("ignored entries count", logit=round(float(np.log(each[0])), 6) + 0.0)]
    sides = sorted({names[k][0] for k in np.flatnonzero(there)})
    whole_sides = all(there[k] for k in np.flatnonzero(live) if names[k][0] in sides)
    some = ", ".join(f"{n} {i}" for n, i in (names[k] for k in np.flatnonzero(there)[:4]))
    which = (
        f"{' and '.join(sides)}'s rows only (one view)" if whole_sides else f"{some}{' …' if sum(there) > 4 else ''}"
    )
    part = f" of {which}" if not np.all(there[live]) else ""
    v = float(np.median(values))
    own = np.exp(1 / tau)
    eps = v / own
    if np.allclose(values, own, rtol=1e-3):
        return [say("oneself in the sums", name="" if part else None, part=part, constant=v)]
    if np.allclose(values, 1.0, rtol=1e-3):
        return [say("masked with 0", name="" if part else None, part=part)]
    if 0 < eps < 1e-3 and np.allclose(values, v, rtol=1e-3) and abs(float(f"{eps:.1g}") / eps - 1) < 1e-3:
        return [say("epsilon after the shift", eps=eps, part=part)]
    less = 1 / tau - np.log(abs(v))
    told = bench.gram and abs(float(f"{less:.2g}") - less) < 1e-4
    how = f", as where {less:.4g} is subtracted from one's own logit" if told else ""
    masked = float(np.log(abs(v))) * tau
    if not told and abs(round(masked, 2) - masked) < 1e-4:
        how = f", a similarity of {round(masked, 2):g} that is divided by the temperature"
    return [say("constant in the sums", constant=v, log=np.log(abs(v)), part=part, how=how)]
