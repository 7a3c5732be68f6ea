"""What only losses have that estimate their negatives: importance weights, and a floor.

In:  calls of the candidate, and its answers.
Out: differences.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from refcl.oracle.evidence import Result
from refcl.oracle.measure import settings
from refcl.oracle.measure.bench import Bench
from refcl.oracle.measure.lab import Lab
from refcl.oracle.measure.pairs import Measured
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.question import Question


def _estimated(
    q: Question, inputs: tuple[Any, ...], t: float, weights: Callable[[Any, Any], Any], more: float = 0.0
) -> tuple[Any, Any, Any]:
    """Return the positives' similarities, K and the estimate of the negatives' sum (A,), where weights(s, off) hold.

    The correction counts K + more negatives.
    """
    s_pos, s, off = q.similarities(inputs)
    count, plus = np.sum(off, axis=1), float(q.settings["tau_plus"])
    with np.errstate(all="ignore"):
        total = np.sum(np.where(off, weights(s, off) * np.exp(s / t), 0.0), axis=1)
        return s_pos, count, (total - plus * (count + more) * np.exp(s_pos / t)) / (1 - plus)


def importance(lab: Lab, tried: list[Result]) -> list[Difference]:
    """Try other importance weights of the negatives, and other counts of them, where the loss has some."""
    q = lab.question
    if q.recipe.inside != "reweighted" or q.recipe.reduction != "mean":
        return []
    beta = float(q.settings.get("beta") or 0.0)
    right: Callable[[Any, float], Any] = lambda s, t: np.exp(beta * s / t)  # noqa: E731
    menu = (
        ("exp(β s/τ)", "they are not divided by their mean", right),
        ("exp(β s)", "the temperature is missing in them", lambda s, t: np.exp(beta * s)),
        ("exp(s/τ)", "beta is not in the exponent", lambda s, t: np.exp(s / t)),
        ("exp(s/β)", "beta is inverted", lambda s, t: np.exp(s / beta)),
        ("β s/τ", "they are not exponentiated", lambda s, t: beta * s / t),
        ("s", "they are not exponentiated", lambda s, t: s),
        ("1", "beta has no effect", lambda s, t: np.ones_like(s)),
    )
    divisors = {
        "mean": _mean,
        "sum": lambda w, off: np.sum(np.where(off, w, 0.0), axis=1, keepdims=True),
        "mean over all but oneself, the positive among them": lambda w, off: _mean(w, np.eye(*off.shape) == 0),
        "mean over all, oneself among them": lambda w, off: _mean(w, np.ones_like(off)),
    }

    def value(r: Result, weight: Any, c: float, over: str, more: float = 0.0, floor: bool = False) -> float:
        t = q.temperature(r.probe.scalar) or 1.0
        divisor: Any = divisors.get(over, lambda w, off: 1.0)
        weights: Callable[[Any, Any], Any] = lambda s, off: c * weight(s, t) / divisor(weight(s, t), off)  # noqa: E731
        s_pos, count, estimate = _estimated(q, r.wide, t, weights, more)
        least = (count + more * floor) * math.exp(-1 / t)
        with np.errstate(all="ignore"):
            return float(np.mean(np.log1p(np.maximum(estimate, least) / np.exp(s_pos / t))))

    usable = [r for r in tried if len(r.wide[0]) > 2 and (q.temperature(r.probe.scalar) or 1.0) > 0.03] or tried

    def is_it(of: Callable[[Result], float]) -> bool:
        return all(
            abs(of(r) - float(r.outcome.value))
            <= 1e-9 * (1 + abs(float(r.outcome.value))) + 64 * r.outcome.eps * r.right.value_size
            for r in usable
        )

    def counting(counted: Callable[[Any], float], floor: bool, r: Result) -> float:
        facts = q.facts(r.wide, r.probe.scalar)
        return value(r, right, 1.0, "mean", counted(facts) - facts.negatives, floor)

    for formula, why, weight in menu if beta else ():
        for by in ("", *divisors):
            for c, factor in ((1.0, ""), (beta, f"{beta:g} × "), (1 / beta, f"{1 / beta:.4g} × ")):
                if is_it(lambda r: value(r, weight, c, by)):  # noqa: B023
                    over = f" over their {by}" if by else ""
                    why = "that is another mean" if by.startswith("mean over") else why
                    return [say("importance weights", "weights", weights=f"{factor}{formula}{over}", why=why)]
    for name, counted in COUNTS:
        for floor in (False, True):
            if is_it(partial(counting, counted, floor)):
                return [say("another count", "K", count=name, also=" and the floor" if floor else "")]
    return []


# What may stand for the number of negatives.
COUNTS: tuple[tuple[str, Callable[[Any], float]], ...] = (
    ("N", lambda f: f.n),
    ("N - 1", lambda f: f.n - 1),
    ("2N", lambda f: 2 * f.n),
    ("2N - 1", lambda f: 2 * f.n - 1),
    ("2(N - 2)", lambda f: 2 * f.n - 4),
    ("1", lambda f: 1),
)


def _mean(w: Any, off: Any) -> Any:
    return np.sum(np.where(off, w, 0.0), axis=1, keepdims=True) / np.sum(off, axis=1, keepdims=True)


def by_region(bench: Bench, m: Measured) -> list[Difference]:
    """Where the loss has a floor, see whether the two agree above it and differ below."""
    q = bench.lab.question
    tau = q.temperature(bench.lab.scalar)
    if q.recipe.inside != "reweighted" or tau is None:
        return []
    beta = float(q.settings.get("beta", 0.0))
    agree: list[float] = []
    differ: list[float] = []
    floored = None
    for k in range(24):
        rng, n = np.random.default_rng((5, k)), 3
        a = rng.standard_normal((n, 7)) + (2.5 * rng.random() if k % 2 else 0)
        inputs: tuple[Any, ...] = (a, a + (0.15 if k % 3 else 1.0) * rng.standard_normal((n, 7)))
        if not q.recipe.embeddings:
            s = rng.uniform(-0.9, 0.9, (n, 5)) - 0.5 * (k % 2)
            s[np.arange(n), np.arange(n)] = rng.uniform(0.2, 0.95, n)
            inputs = (s,)
        s_pos, count, estimate = _estimated(
            q, inputs, tau, lambda s, off: np.exp(beta * s / tau) / _mean(np.exp(beta * s / tau), off)
        )
        got, want = bench.lab.value(inputs), bench.lab.right_value(inputs)
        same = abs(got - want) < 1e-7 * (1 + abs(want))
        (agree if same else differ).append(float(np.min(estimate / count)))
        if np.all(estimate < count * math.exp(-1 / tau)) and math.isfinite(got):
            floored = s_pos, count, got
    if not agree or not differ or min(agree) < max(differ) or max(differ) > 1e3:
        return []
    told = ""
    if floored is not None and q.recipe.reduction == "mean":
        s_pos, count, got = floored
        for x in settings.roots(
            lambda x: float(np.mean(np.log1p(count * 10.0**x * np.exp(-s_pos / tau)))) - got,
            float("nan"),
            np.arange(-8.0, 3.0, 0.4),
        ):
            c = 10.0**x
            laws = {
                "exp(-τ)": math.exp(-tau),
                "exp(1/τ)": math.exp(1 / tau),
                "0": 0.0,
                "1": 1.0,
                "1/τ": 1 / tau,
                "exp(-1/τ)/K": math.exp(-1 / tau) / count[0],
            }
            law = next((f" = {name}" for name, v in laws.items() if abs(v - c) < 1e-6 * max(v, 1e-9)), "")
            right = f"expected K × exp(-1/τ) = K × {math.exp(-1 / tau):.5g}"
            told = f"; the floor (clamp) that is measured is K × {c:.5g}{law}, {right}"
    return [say("another floor", floor=told or ": the floor (clamp) is missing or not this one")]
