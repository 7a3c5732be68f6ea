"""Batches of numbers: correlated views, their futures, rows that look away, similarities.

In:  a seed, sizes and what is special.
Out: arrays.
"""

from typing import Any

import numpy as np


def views(
    seed: int,
    n: int,
    d: int,
    *,
    extra: int = 0,
    norms: float = 1.0,
    near: bool = False,
    repeat: bool = False,
    twins: bool = False,
) -> tuple[Any, Any]:
    """Return two correlated views with rows of unequal length.

    Some positives dominate where ``near``; the views look the same way, row by row, but for a little where ``twins``.
    """
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, d))
    b = 0.8 * a + rng.standard_normal((n, d))
    if near:
        half = max(1, n // 2)
        b[:half] = a[:half] + 0.01 * rng.standard_normal((half, d))
        a[half:], b[half:] = a[half:] - 0.5 * a[:1], b[half:] - 0.5 * a[:1]
    if repeat:
        a[-1], b[-1] = a[0], b[0]
    if twins:
        b = a + 1e-3 * rng.standard_normal((n, d))
        a[-1], b[-1] = a[0] + 1e-2, b[0] - 1e-2
    b = np.concatenate([b, rng.standard_normal((extra, d))])
    a *= norms * rng.uniform(0.3, 1.2, (n, 1)) / np.sqrt(d)
    b *= rng.uniform(0.5, 1.6, (n + extra, 1)) / np.sqrt(d)
    return a, b


def another_view(seed: int, like: Any) -> Any:
    """Return one more view of the samples of a view, with rows of its own lengths."""
    rng = np.random.default_rng(seed)
    n, d = like.shape
    length = np.linalg.norm(like, axis=1, keepdims=True)
    direction = like / np.where(length > 0, length, 1.0)
    more = 0.7 * direction + rng.standard_normal((n, d)) / np.sqrt(d)
    return (more * rng.uniform(0.4, 1.4, (n, 1))).astype(like.dtype)


def futures(
    seed: int, n: int, d: int, steps: int, *, extra: int = 0, norms: float = 1.0, repeat: bool = False
) -> tuple[Any, Any, Any]:
    """Return contexts (N, D), futures (T, M, E) that lie somewhat where their contexts point, and forms (T, D, E)."""
    rng = np.random.default_rng(seed)
    context = rng.standard_normal((n, d)) * rng.uniform(0.4, 1.5, (n, 1))
    weight = rng.standard_normal((steps, d, d + 1)) / np.sqrt(d)
    future = 0.5 * context @ weight + rng.standard_normal((steps, n, d + 1))
    future = np.concatenate([future, rng.standard_normal((steps, extra, d + 1))], axis=1)
    if repeat:
        context[-1], future[:, n - 1] = context[0], future[:, 0]
    return context * norms, future, weight


def antipodal(seed: int, n: int, d: int, *, extra: int = 0) -> tuple[Any, Any]:
    """Return views in which the first row looks away from everything else, its positive with them."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal(d)
    u /= np.linalg.norm(u)
    a = u + 0.1 * rng.standard_normal((n, d))
    b = u + 0.1 * rng.standard_normal((n + extra, d))
    a[0] = -u + 0.05 * rng.standard_normal(d)
    return a * rng.uniform(0.5, 1.5, (n, 1)), b * rng.uniform(0.6, 1.2, (n + extra, 1))


def similarities(
    seed: int, n: int, m: int, *, scale: float = 1.0, near: bool = False, repeat: bool = False, below: bool = False
) -> Any:
    """Return similarities in [-1, 1], times a scale: positives on the diagonal, somewhat nearer than the rest."""
    rng = np.random.default_rng(seed)
    s = rng.uniform(-1.0, 0.6, (n, m))
    s[np.arange(n), np.arange(n)] = rng.uniform(-0.2, 0.9, n)
    if near:
        s[0] -= 0.4
        s[0, 0] = 1.0
    if repeat:
        s[:, -1] = s[:, 0] + 0.0
        s[-1, -1] = 0.3
    if below:
        s[0] = -1.0 + 0.02 * rng.random(m)
    return s * scale
