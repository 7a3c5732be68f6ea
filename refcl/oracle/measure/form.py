"""The general form of a row, fitted to measured derivatives: log Σ m exp(β s) less linear targets.

In:  a bench, and the derivatives by its entries at some similarities.
Out: weights, temperatures and targets, and what is left unexplained.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from refcl.oracle.measure.bench import OWN, Bench
from refcl.oracle.measure.pairs import Measured


@dataclass
class Form:
    """Which entry stands in which anchor's sum."""

    anchors: list[int]  # the row whose sum it is; once for each sum
    terms: list[tuple[int, int]]  # (position of the anchor in anchors, entry)
    count: int  # of entries

    def __post_init__(self) -> None:
        self.a = np.array([a for a, _ in self.terms])
        self.e = np.array([e for _, e in self.terms])
        self.one_hot = np.zeros((len(self.anchors), len(self.terms)))
        self.one_hot[self.a, np.arange(len(self.terms))] = 1.0
        self.to_entry = np.zeros((self.count, len(self.terms)))
        self.to_entry[self.e, np.arange(len(self.terms))] = 1.0


@dataclass
class Fitted:
    """The parameters of the form; weights of a row are relative to the usual one."""

    form: Form
    w: Any
    m: Any
    beta: Any
    c: Any
    target: Any
    residual: float

    def parted(self, count: int) -> tuple["Fitted", "Fitted"]:
        """Return the first sums, and the others."""
        form, found = self.form, []
        for sums in (slice(0, count), slice(count, None)):
            on = (form.a < count) == (sums.start == 0)
            terms = [(a - (sums.start or 0), e) for (a, e), here in zip(form.terms, on, strict=True) if here]
            part = Form(form.anchors[sums], terms, form.count)
            of = self.w[sums], self.m[on], self.beta[on], self.c[sums]
            found.append(Fitted(part, *of, self.target, self.residual))
        return found[0], found[1]


def with_numerators(form: Form, positives: Any) -> Form:
    """Return a form in which each anchor of several positives (A, E) has a sum of these besides."""
    several = [a for a, which in enumerate(positives) if np.sum(which) > 1]
    more = [(len(form.anchors) + k, int(e)) for k, a in enumerate(several) for e in np.flatnonzero(positives[a])]
    return Form([*form.anchors, *(form.anchors[a] for a in several)], [*form.terms, *more], form.count)


def form_of(bench: Bench, m: Measured) -> Form:
    q = bench.lab.question
    allowed = m.used | m.counted
    terms: list[tuple[int, int]] = []
    if not bench.gram:
        anchors = list(range(bench.shape[0]))
        terms = [(i, e) for e, (i, _) in enumerate(bench.entries) if allowed[e]]
        return Form(anchors, terms, len(bench.entries))
    memory = {k for k, (name, _) in enumerate(bench.rows) if name in ("bank", "queue")}
    one_sided = (q.recipe.anchors == "first" and q.recipe.candidates != "all" and len(q.inputs) > 1) or bool(memory)
    memory |= {k for k, (name, _) in enumerate(bench.rows) if name == OWN}  # they are nobody's anchors
    first = q.inputs[0]
    # Of many views, each other one has a sum of its own, whichever looks at which.
    by_view = q.in_a_tuple
    rows = [
        k for k, (name, _) in enumerate(bench.rows) if k not in memory and (name == first or not one_sided or by_view)
    ]
    place: dict[tuple[int, str], int] = {}
    for e, (i, j) in enumerate(bench.entries):
        if allowed[e]:
            for k, other in ((i, j), (j, i)):
                if k in rows:
                    whose = (k, bench.rows[other][0] if by_view else "")
                    terms.append((place.setdefault(whose, len(place)), e))
    return Form([k for k, _ in place], terms, len(bench.entries))


def fit(
    bench: Bench, form: Form, drawn: list[Any], got: Any, starts: list[dict[str, Any]], enough: float
) -> Fitted | None:
    """Return the best fit: of each set of anchors that share no entry with others by itself, which is far less work."""
    alone = np.setdiff1d(np.arange(form.count), form.e)  # entries in nobody's sum
    target = -np.mean(got, axis=0)
    left = float(np.max(np.abs(got[:, alone] + target[alone]), initial=0.0)) / float(np.max(np.abs(got)))
    w, m, beta, c = (starts[0][name].astype(float) for name in ("w", "m", "beta", "c"))
    whole = Fitted(form, w, m, beta, c, target, left)
    scale = float(np.max(np.abs(got)))
    for anchors in _apart(form):
        terms = np.flatnonzero(np.isin(form.a, anchors))
        entries = np.unique(form.e[terms])
        place = {int(a): k for k, a in enumerate(anchors)}
        part = Form(
            [form.anchors[a] for a in anchors],
            [(place[int(form.a[t])], int(np.searchsorted(entries, form.e[t]))) for t in terms],
            len(entries),
        )
        which = {"w": anchors, "c": anchors, "m": terms, "beta": terms, "target": entries}
        own_starts = [{name: start[name][which[name]] for name in which} for start in starts]
        own = np.array([[s[bench.entries[e]] for e in form.e[terms]] for s in drawn])  # (K, P)
        found = _fit(part, own, got[:, entries], own_starts, enough, scale)
        if found is None or found.residual > 1e3 * enough:
            return None  # what one anchor's sum does not explain is no law of all
        for name in which:
            getattr(whole, name)[which[name]] = getattr(found, name)
        whole.residual = max(whole.residual, found.residual)
    return whole


def _apart(form: Form) -> list[Any]:
    """Return the anchors (positions) in sets that have no entry in common."""
    of = np.arange(len(form.anchors))
    for e in np.unique(form.e):
        met = of[form.a[form.e == e]]
        of[np.isin(of, met)] = np.min(met)
    return [np.flatnonzero(of == k) for k in np.unique(of)]


def _fit(form: Form, s: Any, got: Any, starts: list[dict[str, Any]], enough: float, scale: float) -> Fitted | None:
    """Return the best fit from several places, the nearest first, up to one whose residual is small enough."""
    from scipy.optimize import least_squares

    a_count, p = len(form.anchors), len(form.terms)
    data = got / scale

    def unpack(x: Any) -> tuple[Any, ...]:
        cuts = np.cumsum([a_count, p, p, a_count])
        return tuple(np.split(x, cuts))

    def parts(x: Any) -> tuple[Any, ...]:
        w, mm, beta, c, target = unpack(x)
        ex = np.exp(np.clip(beta * s, -300, 300))  # (K, P)
        total = (mm * ex) @ form.one_hot.T + c  # (K, A)
        total = np.where(np.abs(total) < 1e-12, 1e-12, total)
        return w, mm, beta, target, ex, total

    def residuals(x: Any) -> Any:
        w, mm, beta, target, ex, total = parts(x)
        g = w[form.a] * mm * beta * ex / total[:, form.a]
        return (g @ form.to_entry.T - target - data).ravel()

    def jacobian(x: Any) -> Any:
        w, mm, beta, _, ex, total = parts(x)
        k, count = len(s), form.count
        q = ex / total[:, form.a]  # (K, P) dm of log total
        g = w[form.a] * mm * beta * q
        j = np.zeros((k, count, len(x)))
        # by w
        for col in range(a_count):
            on = form.a == col
            j[:, form.e[on], col] += (mm * beta * q)[:, on]
        own_m, own_b = w[form.a] * beta * q, w[form.a] * mm * q * (1 + beta * s)
        for t in range(p):
            same = np.flatnonzero(form.a == form.a[t])
            cross_m = -g[:, same] * q[:, [t]]
            cross_b = -g[:, same] * (mm[t] * s[:, [t]] * q[:, [t]])
            j[:, form.e[same], a_count + t] += cross_m
            j[:, form.e[same], a_count + p + t] += cross_b
            j[:, form.e[t], a_count + t] += own_m[:, t]
            j[:, form.e[t], a_count + p + t] += own_b[:, t]
        for col in range(a_count):
            on = np.flatnonzero(form.a == col)
            j[:, form.e[on], a_count + 2 * p + col] += -g[:, on] / total[:, [col]]
        j[:, np.arange(count), 2 * a_count + 2 * p + np.arange(count)] = -1.0
        return j.reshape(k * count, -1)

    places = [
        np.concatenate([start["w"] / scale, start["m"], start["beta"], start["c"], start["target"] / scale])
        for start in starts
    ]
    best = None
    for x0 in sorted(places, key=lambda x: float(np.linalg.norm(residuals(x)))):
        try:
            found = least_squares(
                residuals, x0, jacobian, method="trf", x_scale="jac", xtol=1e-15, ftol=1e-12, gtol=1e-15, max_nfev=120
            )
        except (np.linalg.LinAlgError, ValueError):
            continue  # it ran off to where nothing is a number; another place may not
        left = float(np.max(np.abs(found.fun)))
        if best is None or left < best.residual:
            w, mm, beta, c, target = unpack(found.x)
            best = Fitted(form, w * scale, mm, beta, c, target * scale, left)
        if best.residual < enough:
            break
    return best
