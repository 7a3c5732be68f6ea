"""Losses of one softmax an anchor whose temperature is no number that is passed, or one for each anchor.

In:  what they are made of on a probe.
Out: the menus of their parts.
"""

import math
from typing import Any

import numpy as np

from refcl.hardness import temperature_for_entropy
from refcl.oracle.measure.menus.given import Given, Menu, log_sum
from refcl.oracle.roots import root


def _softmax(g: Given, t: Any, weight: Any, read: Any = lambda x, over: x) -> Any:
    """Return weighted -log P (A,) at one temperature, (A,) of the anchors or (A, T) of all pairs."""
    t = np.broadcast_to(t if np.ndim(t) == 2 else np.reshape(t, (-1, 1)), g.s.shape)
    own = np.diagonal(t)  # of the positive, which is the own column where temperatures differ along a row
    logits = read(g.s / t, g.candidates)
    loss = np.logaddexp(0.0, log_sum(logits, g.off) - np.sum(logits, axis=1, where=g.candidates & ~g.off))
    return loss * weight(np.exp(-loss), own)


def _aware(g: Given, law: Any, alignment: Any, weight: Any) -> Any:
    growth = law(g.set["alpha"], alignment(g) - g.set["alignment"], g.set["law"] == "power")
    return _softmax(g, g.tau * growth, weight)


AWARE = Menu(
    _aware,
    {
        "with the alignment A the temperature is τ₀ times": {
            "what its law says": lambda c, a, power: c**a if power else 1 + c * a,
            "1 - α(A - A₀): it falls with the alignment, the sign of alpha is turned": lambda c, a, power: 1 - c * a,
            "α^(A₀ - A): the sign of the exponent is turned": lambda c, a, power: c**-a,
            "1/(1 + α(A - A₀)): divided, not multiplied, so that it falls": lambda c, a, power: 1 / (1 + c * a),
            "α(A - A₀): 1 + is missing": lambda c, a, power: c * a,
            "exp(α(A - A₀))": lambda c, a, power: np.exp(c * a),
            "1: it does not follow the alignment": lambda c, a, power: 1.0,
            "{c:.6g} + α(A - A₀)": lambda x, c, a, power: x + c * a,
        },
        "the alignment A, which the temperature follows, is the mean of": {
            "the positives' similarities": lambda g: np.mean(g.pos),
            "all candidates' similarities: all pairs, not the positives alone": lambda g: np.mean(g.s[g.candidates]),
            "all similarities, with oneself too: all pairs, not the positives alone": lambda g: np.mean(g.s),
            "the negatives' similarities": lambda g: np.mean(g.s[g.off]),
            "each anchor's own positive alone: a temperature for each anchor, not one for all": lambda g: g.pos,
            "each anchor's own similarities to all: a temperature for each anchor": lambda g: np.mean(g.s, axis=1),
            "the positives' logits: they are divided by the temperature before": lambda g: np.mean(g.pos) / g.tau,
            "the nearest positive alone: their largest": lambda g: np.max(g.pos),
            "the furthest positive alone: their smallest": lambda g: np.min(g.pos),
            "the median positive alone": lambda g: np.median(g.pos),
            "the positives' similarities times their number: their sum": lambda g: np.sum(g.pos),
            "the positives' sizes: |s_p|": lambda g: np.mean(np.abs(g.pos)),
            "minus the positives' squared distances: -‖a - b‖²": lambda g: 2 * np.mean(g.pos) - 2,
        },
        "each anchor's -log P is multiplied by the weight": {
            "1/(1 - P)": lambda p, t: 1 / (1 - p),
            "1: the weight 1/(1 - P) is missing": lambda p, t: 1.0,
            "1 - P: multiplied, not divided": lambda p, t: 1 - p,
            "1/P: P stands where 1 - P belongs": lambda p, t: 1 / p,
            "P": lambda p, t: p,
            "1/(1 + P): the sign of P is turned": lambda p, t: 1 / (1 + p),
            "1/(1 - P)²: it is squared": lambda p, t: (1 - p) ** -2,
            "1/√(1 - P)": lambda p, t: (1 - p) ** -0.5,
            "1/mean(1 - P): one for all anchors, not each anchor's own": lambda p, t: 1 / np.mean(1 - p),
            "mean 1/(1 - P): one for all anchors, not each anchor's own": lambda p, t: np.mean(1 / (1 - p)),
            "τ/(1 - P)": lambda p, t: t / (1 - p),
            "(1 - P)^{c:.6g}": lambda c, p, t: (1 - p) ** c,
            "1/({c:.6g} - P)": lambda c, p, t: 1 / (c - p),
        },
    },
)

WEIGHTS: dict[str, dict[str, Any]] = {
    "each anchor's loss is multiplied (weighted, scaled) by": {
        "1": lambda p, t: 1.0,
        "its temperature τ_i": lambda p, t: t,
        "1/τ_i": lambda p, t: 1 / t,
        "τ_i²": lambda p, t: t * t,
        "√τ_i": lambda p, t: np.sqrt(t),
        "log τ_i": lambda p, t: np.log(t),
        "τ_i over the mean of all": lambda p, t: t / np.mean(t),
        "the mean of all temperatures over τ_i": lambda p, t: np.mean(t) / t,
        "1/τ_i over the mean of all 1/τ": lambda p, t: 1 / t / np.mean(1 / t),
        "the mean of all temperatures": lambda p, t: np.mean(t),
        "1 over the mean of all temperatures": lambda p, t: 1 / np.mean(t),
        "τ_i^{c:.6g}": lambda c, p, t: t**c,
        "τ_i + {c:.6g}": lambda c, p, t: t + c,
        "(1 - P)^{c:.6g}, P its probability: a focal factor": lambda c, p, t: (1 - p) ** c,
    },
}
ONE_OF = {
    "mean": np.mean,
    "smallest": np.min,
    "largest": np.max,
    "first": lambda t: t[0],
    "last": lambda t: t[-1],
    "median": np.median,
    "geometric mean": lambda t: np.exp(np.mean(np.log(t))),
    "harmonic mean": lambda t: 1 / np.mean(1 / t),
    "sum": np.sum,
}

MISSING = "1, whatever is given: the temperatures are missing"
INVERTED = "1/τ_i: inverted, s τ_i stands where s/τ_i belongs"
TWICE = "the probabilities of a softmax of s_ik/τ_i: a softmax of a softmax"
BY_ANCHOR = Menu(
    lambda g, tau, along, weight, read: _softmax(g, along(tau(g.r.wide[1]), g.s), weight, read),
    {
        "the temperature of an anchor is": {
            "τ_i": lambda t: t,
            **{
                f"the {k} of those given: one common temperature for all, not one for each": f
                for k, f in ONE_OF.items()
            },
            "τ_i over the mean of all: they are relative, normalized": lambda t: t / np.mean(t),
            "τ_i over the sum of all: they are relative, normalized": lambda t: t / np.sum(t),
            "τ_i over the largest: they are relative, normalized": lambda t: t / np.max(t),
            "τ_i over the smallest: they are relative, normalized": lambda t: t / np.min(t),
            "τ_i over the length ‖τ‖ of all: they are normalized": lambda t: t / np.linalg.norm(t),
            "a softmax of all τ": lambda t: np.exp(t) / np.sum(np.exp(t)),
            MISSING: np.ones_like,
            INVERTED: lambda t: 1 / t,
            "exp(τ_i): logarithms were expected": np.exp,
            "exp(-τ_i): log-scales were expected": lambda t: np.exp(-t),
            "τ_i²: it is squared, or divided by twice": lambda t: t * t,
            "√τ_i": np.sqrt,
            "1 + τ_i": lambda t: 1 + t,
            "log(1 + exp(τ_i)), a softplus": lambda t: np.logaddexp(0, t),
            "a sigmoid of τ_i": lambda t: 1 / (1 + np.exp(-t)),
            "that of the anchor before: shifted by a row": lambda t: np.roll(t, 1),
            "that of the anchor after: shifted by a row": lambda t: np.roll(t, -1),
            "that of the anchors in reverse order": lambda t: t[::-1],
            "that of the anchors in order of size: sorted": np.sort,
            "{c:.6g} τ_i": lambda c, t: c * t,
            "τ_i + {c:.6g}": lambda c, t: t + c,
            "τ_i^{c:.6g}": lambda c, t: t**c,
            "max(τ_i, {c:.6g}): clamped": lambda c, t: np.maximum(t, c),
            "min(τ_i, {c:.6g}): clamped": lambda c, t: np.minimum(t, c),
            "mixed with the mean of all, {c:.6g} of that": lambda c, t: (1 - c) * t + c * np.mean(t),
            "{c:.6g}, whatever is given: the temperatures have no effect": lambda c, t: c * np.ones_like(t),
        },
        "the temperatures divide": {
            "the rows, s_ik/τ_i": lambda t, s: t,
            "the columns, s_ik/τ_k: candidate k is read at its own, not anchor i's (a broadcast, last axis)": (
                lambda t, s: np.broadcast_to(t, s.shape) if np.shape(t) == s.shape[1:] else np.nan
            ),
            "rows and columns, s_ik/(τ_i τ_k)": lambda t, s: _outer(t, s),
            "rows and columns, s_ik/√(τ_i τ_k)": lambda t, s: np.sqrt(_outer(t, s)),
        },
        **WEIGHTS,
        "the softmax is taken of": {
            "the logits s_ik/τ_i": lambda x, over: x,
            TWICE: lambda x, over: np.exp(x - log_sum(x, over)[:, None]),
        },
    },
)
NAMED = {MISSING: "temperature-missing", INVERTED: "temperature-inverted", TWICE: "double-softmax"}


def _outer(t: Any, s: Any) -> Any:
    return t * t[:, None] if np.shape(t) == s.shape[1:] else np.nan


def _at_entropy(g: Given, entropy: Any, tau: Any, weight: Any) -> Any:
    try:
        return _softmax(g, tau(g, entropy(g.set["entropy"], np.sum(g.off, axis=1)) * np.ones(len(g.s))), weight)
    except ValueError:  # no temperature has that entropy
        return np.nan


def _own(g: Given, h: Any, over: Any = None) -> Any:
    """Return each row's temperature (A,) of an entropy over its negatives, or over other entries; found once."""
    key = h.tobytes(), over is None
    if key not in g.kept:
        s = np.concatenate([g.s, g.pos[:, None]], axis=1)  # the last column is the positive
        out = np.concatenate([~(g.off if over is None else over), np.zeros((len(s), 1), dtype=bool)], axis=1)
        found, last = np.zeros(len(s)), np.full(len(s), g.s.shape[1])
        for e in np.unique(h):
            rows = h == e
            found[rows] = temperature_for_entropy(s[rows], float(e), positive=last[rows], ignore=out[rows])
        g.kept[key] = found
    return g.kept[key]


def _together(g: Given, h: Any) -> Any:
    s = np.append(g.s[g.off], 0.0)[None, :]
    return temperature_for_entropy(s, float(h[0]), positive=np.array([s.shape[1] - 1]))


def _of_mean(g: Given, h: Any) -> Any:
    def off(x: float) -> float:
        logits = g.s / math.exp(x)
        p = np.where(g.off, np.exp(logits - log_sum(logits, g.off)[:, None]), 0.0)
        return float(np.mean(-np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=1) - h))

    return math.exp(root(off, -9.0, 12.0))


ONE = "one for the whole batch, not one for each anchor: "
FIXED_ENTROPY = Menu(
    _at_entropy,
    {
        "the entropy that the temperatures are found for is": {
            "H": lambda h, k: h,
            "H log K: H is taken for a share of the greatest": lambda h, k: h * np.log(k),
            "log K - H": lambda h, k: np.log(k) - h,
        },
        "the temperature of an anchor is": {
            "that at which its own negatives have the entropy": _own,
            "that at which all its candidates have the entropy: the positive is among them, and should not be": (
                lambda g, h: _own(g, h, g.candidates)
            ),
            f"{ONE}at it the mean of all anchors' entropies is that": _of_mean,
            f"{ONE}at it the negatives of all anchors together have it": _together,
            **{
                f"{ONE}the {k} of all anchors' temperatures": lambda g, h, f=f: f(_own(g, h)) for k, f in ONE_OF.items()
            },
            "the inverse of the one that has it": lambda g, h: 1 / _own(g, h),
            "that of the anchor before: shifted by a row": lambda g, h: np.roll(_own(g, h), 1),
            "{c:.6g} times that at which its own negatives have the entropy": lambda c, g, h: c * _own(g, h),
            "that at which its own negatives have the entropy, + {c:.6g}": lambda c, g, h: c + _own(g, h),
            "mixed with the mean of all, {c:.6g} of that": lambda c, g, h: (
                (1 - c) * _own(g, h) + c * np.mean(_own(g, h))
            ),
            "{c:.6g} for all: it does not follow the similarities": lambda c, g, h: np.full(len(g.s), c),
        },
        **WEIGHTS,
    },
)
