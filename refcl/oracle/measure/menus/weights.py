"""Losses whose positives are weighted: each anchor's is log Σ_k exp(s_k/τ) - w s_p/τ.

In:  what they are made of on a probe.
Out: the menu of their parts.
"""

from typing import Any

import numpy as np

from refcl.oracle.measure.menus.given import Given, Menu


def _loss(g: Given, argument: Any, over: Any, form: Any, place: Any) -> Any:
    sides = len(g.pos) / len(g.r.wide[0])
    mass = sides if g.set.get("normalizer") == "sum" else g.set.get("mass") or len(g.pos)
    z, x = np.exp(g.pos / g.set["sigma"]), g.pos / g.tau
    of_negatives = g.right + (2 - mass * z / np.sum(z)) * x
    return place(form(mass / len(g.pos) * over(argument(g.pos, g.set["sigma"], g.tau))), of_negatives, x)


MENU = Menu(
    _loss,
    {
        "in the weights of the positives, in the place of s_p/σ, stands": {
            "s_p/σ": lambda s, sigma, t: s / sigma,
            "-s_p/σ: its sign is turned": lambda s, sigma, t: -s / sigma,
            "σ s_p: σ is inverted": lambda s, sigma, t: s * sigma,
            "s_p/τ: the temperature stands where σ belongs": lambda s, sigma, t: s / t,
            "s_p/(σ τ): it was divided by the temperature before": lambda s, sigma, t: s / (sigma * t),
            "s_p: σ is missing": lambda s, sigma, t: s,
        },
        "the weights of the positives are made of r, which is": {
            "exp(s_p/σ) over its mean (N softmax)": lambda z: np.exp(z) / np.mean(np.exp(z)),
            "exp(s_p/σ) over its sum: a softmax that is not multiplied by N": lambda z: np.exp(z) / np.sum(np.exp(z)),
            "exp(s_p/σ): it is not divided by its mean over the batch": np.exp,
            "exp(s_p/σ) over its largest": lambda z: np.exp(z - np.max(z)),
            "s_p over its mean: it is not exponentiated": lambda z: z / np.mean(z),
            "s_p/σ: it is not exponentiated, and not divided by a mean": lambda z: z,
            "a sigmoid of s_p/σ: no softmax over the batch": lambda z: 1 / (1 + np.exp(-z)),
            "that of the anchor before: shifted by a row": lambda z: np.roll(np.exp(z) / np.mean(np.exp(z)), 1),
        },
        "the weights w of the positives, r being exp(s_p/σ) over its mean (N softmax), are": {
            "2 - r": lambda r: 2 - r,
            'r: "2 -" is missing, near positives are pulled more, not less': lambda r: r,
            "2 + r: the sign of r is turned, near positives are pulled more": lambda r: 2 + r,
            "1 - r: 1 stands where 2 belongs": lambda r: 1 - r,
            "1 + r: near positives are pulled more": lambda r: 1 + r,
            "r - 2: the sign is turned": lambda r: r - 2,
            "1/r: inverted, not taken from 2": lambda r: 1 / r,
            "2 r": lambda r: 2 * r,
            "(2 - r)²: they are squared": lambda r: (2 - r) ** 2,
            "1: there are no weights": np.ones_like,
            "{c:.6g} - r": lambda c, r: c - r,
            "{c:.6g} (2 - r)": lambda c, r: c * (2 - r),
            "1 + {c:.6g} (1 - r): they are nearer to 1, or further": lambda c, r: 1 + c * (1 - r),
            "(2 - r)^{c:.6g}": lambda c, r: (2 - r) ** c,
            "r^{c:.6g}": lambda c, r: r**c,
            "max(2 - r, {c:.6g}): they are clamped": lambda c, r: np.maximum(2 - r, c),
            "{c:.6g}: they are all the same": lambda c, r: c,
        },
        "the weight w multiplies": {
            "the positive's term alone": lambda w, lse, x: lse - w * x,
            "the whole loss of an anchor: its negatives (the denominator) too": lambda w, negatives, x: (
                w * (negatives - x)
            ),
            "the logarithm of the negatives' sum: not the positive": lambda w, lse, x: w * lse - x,
            "nothing, the positive's term is divided by it": lambda w, lse, x: lse - x / w,
            "nothing, the whole loss of an anchor is divided by it": lambda w, lse, x: (lse - x) / w,
            "the positive's exponential: its logarithm is added": lambda w, lse, x: lse - x - np.log(w),
            "the negatives' exponentials: its logarithm is added": lambda w, lse, x: lse + np.log(w) - x,
        },
    },
)
