"""Losses that estimate the sum of the negatives: importance weights, a correction, a floor.

In:  what they are made of on a probe.
Out: the menu of their parts; sums are in units of exp(s_p/τ).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from refcl.oracle.constants import Facts
from refcl.oracle.measure.menus.given import Given, Menu, row_mean


def _loss(g: Given, exponent: Any, of: Any, over: Any, correct: Any, divide: Any, count: Any, least: Any) -> Any:
    w, plus = of(exponent(g, float(g.set.get("beta", 0.0)))), g.set["tau_plus"]
    in_correction, in_floor = count(g, np.sum(g.off, axis=1))
    total = np.sum(np.where(g.off, w / over(w, g) * np.exp((g.s - g.pos[:, None]) / g.tau), 0.0), axis=1)
    one = np.exp(-g.pos / g.tau)
    estimate = divide(total, correct(g, one) * in_correction, plus)
    return np.log1p(least(estimate, in_floor * one, one, g.tau, plus))


def _counts() -> dict[str, Any]:
    """Return what may stand for the number of negatives, in the correction and in the floor."""
    menu: dict[str, Callable[[Facts], float]] = {
        "N": lambda f: f.n,
        "N - 1": lambda f: f.n - 1,
        "2N": lambda f: 2 * f.n,
        "2N - 1": lambda f: 2 * f.n - 1,
        "2(N - 2)": lambda f: 2 * f.n - 4,
        "M, all candidates": lambda f: f.m,
        "1": lambda f: 1,
    }
    found: dict[str, Any] = {"K, all but oneself and the positive": lambda g, k: (k, k)}
    for name, of in menu.items():
        found[f"{name}, in the correction"] = lambda g, k, of=of: (of(g.facts), k)
        if name != "1":
            found[f"{name}, in the floor"] = lambda g, k, of=of: (k, of(g.facts))
        found[f"{name}, in the correction and in the floor"] = lambda g, k, of=of: (of(g.facts), of(g.facts))
    return found


MENU = Menu(
    _loss,
    {
        "the exponent of the importance weights of the negatives is": {
            "β s/τ": lambda g, beta: beta * g.s / g.tau,
            "β s: the temperature is missing in it": lambda g, beta: beta * g.s,
            "s/τ: beta is not in it": lambda g, beta: g.s / g.tau,
            "s/β: beta is inverted": lambda g, beta: g.s / beta,
            "s: neither beta nor the temperature is in it": lambda g, beta: g.s,
            "-β s/τ: its sign is turned, far negatives weigh more": lambda g, beta: -beta * g.s / g.tau,
            "(β + 1) s/τ: exp(s/τ) counts once too often": lambda g, beta: (1 + beta) * g.s / g.tau,
            "0: beta has no effect, all negatives weigh the same": lambda g, beta: 0 * g.s,
        },
        "the importance weights of the negatives are": {
            "exp of their exponent": np.exp,
            "their exponent itself: they are not exponentiated": lambda x: x,
        },
        "the importance weights of the negatives are divided by": {
            "their mean, over each anchor's own negatives": lambda w, g: row_mean(w, g.off),
            "nothing: they are not divided by their mean": lambda w, g: 1.0,
            "their sum: not by their mean, so that K is missing": lambda w, g: (
                row_mean(w, g.off) * g.off.sum(1)[:, None]
            ),
            "their mean over the whole batch: one for all anchors, not each anchor's own": lambda w, g: w[g.off].mean(),
            "their mean over all but oneself: the positive is among them": lambda w, g: row_mean(w, g.candidates),
            "their mean over all, oneself among them": lambda w, g: row_mean(w, np.ones_like(g.off)),
            "their mean over a column: along the wrong axis": lambda w, g: row_mean(w.T, g.off.T).T,
            "their largest, not their mean": lambda w, g: np.max(np.where(g.off, w, -np.inf), axis=1, keepdims=True),
            "{c:.6g} times their mean": lambda c, w, g: c * row_mean(w, g.off),
        },
        "the correction for false negatives, added to the negatives' sum, is": {
            "-τ⁺ K exp(s_p/τ)": lambda g, one: -g.set["tau_plus"],
            "+τ⁺ K exp(s_p/τ): it is added, not subtracted, its sign is turned": lambda g, one: g.set["tau_plus"],
            "-K exp(s_p/τ): τ⁺ is missing in it": lambda g, one: -1.0,
            "-(1 - τ⁺) K exp(s_p/τ): not τ⁺": lambda g, one: g.set["tau_plus"] - 1,
            "-τ⁺ K exp(s_p): no temperature in it": lambda g, one: -g.set["tau_plus"] * np.exp(g.pos) * one,
            "-τ⁺ K s_p/τ: it is not exponentiated": lambda g, one: -g.set["tau_plus"] * g.pos / g.tau * one,
            "-τ⁺ K: the positive is missing in it": lambda g, one: -g.set["tau_plus"] * one,
            "-τ⁺ K mean exp(s_p/τ): over all positives, not the anchor's own": (
                lambda g, one: -g.set["tau_plus"] * np.mean(1 / one) * one
            ),
            "0: it is left out (missing)": lambda g, one: 0.0,
            "-{c:.6g} K exp(s_p/τ)": lambda c, g, one: -c,
        },
        "the estimate of the negatives, C their correction, is": {
            "(sum + C)/(1 - τ⁺)": lambda total, c, plus: (total + c) / (1 - plus),
            "sum + C: the division by 1 - τ⁺ is missing": lambda total, c, plus: total + c,
            "(sum + C)(1 - τ⁺): multiplied, not divided": lambda total, c, plus: (total + c) * (1 - plus),
            "(sum + C)/τ⁺: divided by τ⁺ itself, not by 1 - τ⁺": lambda total, c, plus: (total + c) / plus,
            "(sum + C)/(1 + τ⁺): the sign in the divisor is turned": lambda total, c, plus: (total + c) / (1 + plus),
            "sum/(1 - τ⁺) + C: the correction is not divided": lambda total, c, plus: total / (1 - plus) + c,
            "sum + C/(1 - τ⁺): the sum is not divided": lambda total, c, plus: total + c / (1 - plus),
            "{c:.6g} (sum + C)": lambda x, total, c, plus: x * (total + c),
        },
        "the number of negatives that counts is": _counts(),
        "the floor (clamp) of the estimate is": {
            "K exp(-1/τ)": lambda x, k, one, t, plus: np.maximum(x, k * np.exp(-1 / t)),
            "missing: there is none": lambda x, k, one, t, plus: x,
            "0": lambda x, k, one, t, plus: np.maximum(x, 0),
            "exp(-1/τ): K is missing in it": lambda x, k, one, t, plus: np.maximum(x, np.exp(-1 / t) * one),
            "1": lambda x, k, one, t, plus: np.maximum(x, one),
            "K exp(1/τ): its sign is turned": lambda x, k, one, t, plus: np.maximum(x, k * np.exp(1 / t)),
            "K exp(-τ): τ stands where 1/τ belongs": lambda x, k, one, t, plus: np.maximum(x, k * np.exp(-t)),
            "K": lambda x, k, one, t, plus: np.maximum(x, k),
            "K exp(-1/τ)/(1 - τ⁺): put before the division": (
                lambda x, k, one, t, plus: np.maximum(x, k * np.exp(-1 / t) / (1 - plus))
            ),
            "a bound from above: min stands where max belongs": lambda x, k, one, t, plus: np.minimum(
                x, k * np.exp(-1 / t)
            ),
            "K exp(-1/τ), and is added: not the greater of both": lambda x, k, one, t, plus: x + k * np.exp(-1 / t),
            "{c:.6g}": lambda c, x, k, one, t, plus: np.maximum(x, c * one),
            "{c:.6g} K": lambda c, x, k, one, t, plus: np.maximum(x, c * k),
            "{c:.6g} K exp(-1/τ)": lambda c, x, k, one, t, plus: np.maximum(x, c * k * np.exp(-1 / t)),
        },
    },
)
