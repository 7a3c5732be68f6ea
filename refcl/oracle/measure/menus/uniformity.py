"""Alignment and uniformity of two views.

In:  rows of unit length.
Out: the menu of their parts.
"""

from typing import Any

import numpy as np

from refcl.oracle.measure.menus.given import Given, Menu


def _loss(g: Given, aligned: Any, logarithm: Any, joined: Any) -> Any:
    a, b = g.rows
    d = np.sqrt(np.sum((a - b) ** 2, axis=1))
    off = ~np.eye(len(a), dtype=bool)
    apart = [np.sum((z[:, None] - z) ** 2, axis=-1)[off].reshape(len(z), -1) for z in (a, b)]
    uniform = np.mean([joined(logarithm(x, g.set["t"])) for x in apart])
    return g.set["align_weight"] * aligned(d, g.set["alpha"], a.shape[1]) + g.set["uniform_weight"] * uniform


def _log_mean(x: Any, axis: int | None = None) -> Any:
    return np.log(np.mean(np.exp(x), axis=axis))


MENU = Menu(
    _loss,
    {
        "the alignment, d being ‖a - b‖ of a pair, is": {
            "mean d^α": lambda d, alpha, dims: np.mean(d**alpha),
            "(mean d)^α: the power stands outside the mean": lambda d, alpha, dims: np.mean(d) ** alpha,
            "(mean d²)^(α/2): a power stands outside the mean": lambda d, alpha, dims: np.mean(d * d) ** (alpha / 2),
            "(mean d^α)^(1/α): a root is taken of it": lambda d, alpha, dims: np.mean(d**alpha) ** (1 / alpha),
            "mean d^(2α): d² is raised to α": lambda d, alpha, dims: np.mean(d ** (2 * alpha)),
            "log mean d^α": lambda d, alpha, dims: np.log(np.mean(d**alpha)),
            "mean d^α/D: the mean runs over coordinates too": lambda d, alpha, dims: np.mean(d**alpha) / dims,
            "-mean d^α: the sign is turned, pairs are pushed apart": lambda d, alpha, dims: -np.mean(d**alpha),
            "max d^α": lambda d, alpha, dims: np.max(d**alpha),
            "median d^α": lambda d, alpha, dims: np.median(d**alpha),
        },
        "in the uniformity, exp is taken of": {
            "-t ‖z_i - z_j‖²": lambda x, t: -t * x,
            "-t ‖z_i - z_j‖: the distance is not squared": lambda x, t: -t * np.sqrt(x),
            "-t ‖z_i - z_j‖⁴: the squared distance is squared again": lambda x, t: -t * x * x,
            "t ‖z_i - z_j‖²: the sign is turned": lambda x, t: t * x,
            "-‖z_i - z_j‖²/t: t is inverted": lambda x, t: -x / t,
            "-‖z_i - z_j‖²/(2t²): t is taken for a width": lambda x, t: -x / (2 * t * t),
            "t ⟨z_i, z_j⟩: similarities, not squared distances": lambda x, t: t * (1 - x / 2),
        },
        "the uniformity of a view, e being these exponentials, is": {
            "log mean e over all pairs": _log_mean,
            "the mean over the anchors of log mean e: the logarithm is inside the mean, row by row, not outside": (
                lambda x: np.mean(_log_mean(x, 1))
            ),
            "the sum over the anchors of log mean e: the logarithm is inside, row by row, and nothing is averaged": (
                lambda x: np.sum(_log_mean(x, 1))
            ),
            "the mean over the anchors of log Σ e: the logarithm is inside the mean, row by row, of a sum": (
                lambda x: np.mean(np.log(np.sum(np.exp(x), axis=1)))
            ),
            "log Σ e over i ≠ j: a sum, not a mean over the pairs": lambda x: np.log(np.sum(np.exp(x))),
            "log Σ e over i < j: a sum, not a mean over the pairs": lambda x: np.log(np.sum(np.exp(x)) / 2),
            "log Σ e/N² over i ≠ j: divided by N², not by N(N - 1)": lambda x: np.log(np.sum(np.exp(x)) / len(x) ** 2),
            "mean e: the logarithm is missing": lambda x: np.mean(np.exp(x)),
            "mean log e: neither exponential nor logarithm": np.mean,
            "-log mean e: the sign is turned": lambda x: -_log_mean(x),
            "max log e: the nearest pair alone": np.max,
            "the mean over the anchors of max log e: each row's nearest alone": lambda x: np.mean(np.max(x, axis=1)),
        },
    },
)
