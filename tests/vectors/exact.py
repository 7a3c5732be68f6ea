"""The losses at 50 digits, for test vectors: plain loops over mpmath's numbers.

In:  inputs as nested lists of floats, taken as they are, and settings.
Out: value and gradients, each rounded once, to the nearest float64. mpmath is needed here and nowhere else.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

DIGITS = 50

Matrix = list[list[Any]]


class Pairs(NamedTuple):
    """Who is whose positive and negative, for each anchor."""

    positive: list[int]
    negatives: list[list[int]]


def answer(loss: str, settings: dict[str, Any], inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return value and gradients of a loss, correctly rounded.

    Parameters
    ----------
    loss : str
        Name of a loss.
    settings : dict
        Reduction, normalize, hardest, margin.
    inputs : dict
        Its arguments by name, and the upstream gradient where the reduction is "none".

    Returns
    -------
    value : float or list of floats
    gradients : dict
        By the name of the argument.
    """
    mp = _mpmath()
    with mp.workdps(DIGITS):
        exact = {name: _exact(mp.mpf, x) for name, x in inputs.items()}
        if "s" in inputs:
            value, gradients = _of_similarities(loss, settings, exact)
        else:
            value, gradients = _of_embeddings(loss, settings, exact)
        return _rounded(value), {name: _rounded(g) for name, g in gradients.items()}


def _of_similarities(loss: str, settings: dict[str, Any], inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    s = inputs["s"]
    pairs = Pairs(list(range(len(s))), [[k for k in range(len(s[0])) if k != i] for i in range(len(s))])
    scalar_name = "temperature" if "softmax" in loss else ("weight" if "simple" in loss else None)
    scalar = inputs.get(scalar_name) if scalar_name else None
    losses, ds, dscalars = _anchors(loss, settings, s, pairs, scalar)
    value, weights = _reduced(losses, settings, inputs)
    gradients = {"s": [[w * x for x in row] for w, row in zip(weights, ds, strict=True)]}
    if scalar_name is not None and (scalar is not None or scalar_name == "temperature"):
        gradients[scalar_name] = _sum(w * x for w, x in zip(weights, dscalars, strict=True))
    return value, gradients


def _of_embeddings(loss: str, settings: dict[str, Any], inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Stack both inputs, let the anchors be compared with their candidates, and go back through the sphere."""
    mp = _mpmath()
    names = [name for name in inputs if name not in ("temperature", "log_scale", "weight", "upstream")]
    first, second = (inputs[name] for name in names)
    n, rows = len(first), first + second
    lengths = [mp.sqrt(_sum(x * x for x in row)) for row in rows]
    normalize = settings.get("normalize", True)
    z = [[x / length for x in row] for row, length in zip(rows, lengths, strict=True)] if normalize else rows
    anchors, pairs = _two_sided(loss, n, len(second))
    s = [[_sum(x * y for x, y in zip(z[i], other, strict=True)) for other in z] for i in anchors]
    scalar_name = next((x for x in ("temperature", "log_scale", "weight") if x in inputs), None)
    scalar: Any = inputs[scalar_name] if scalar_name else None
    if scalar_name == "log_scale":
        scalar = mp.exp(-scalar)
    losses, ds, dscalars = _anchors(loss, settings, s, pairs, scalar)
    value, weights = _reduced(losses, settings, inputs)
    dz = [[mp.mpf(0)] * len(rows[0]) for _ in rows]
    for i, w, row in zip(anchors, weights, ds, strict=True):
        for k, x in enumerate(row):
            for d in range(len(rows[0])):
                dz[i][d] += w * x * z[k][d]
                dz[k][d] += w * x * z[i][d]
    if normalize:
        dz = [_tangent(g, u, length) for g, u, length in zip(dz, z, lengths, strict=True)]
    gradients: dict[str, Any] = {names[0]: dz[:n], names[1]: dz[n:]}
    if scalar_name is not None:
        total = _sum(w * x for w, x in zip(weights, dscalars, strict=True))
        gradients[scalar_name] = -scalar * total if scalar_name == "log_scale" else total
    return value, gradients


def _two_sided(loss: str, n: int, m: int) -> tuple[list[int], Pairs]:
    """Return which of the stacked rows are anchors, and their candidates."""
    if loss == "nt_xent":
        anchors = list(range(n + m))
        positive = [(i + n) % (2 * n) for i in anchors]
        candidates: Callable[[int], list[int]] = lambda i: [k for k in range(n + m) if k != i]  # noqa: E731
    else:
        anchors = list(range(n + m if loss == "clip" else n))
        positive = [i + n if i < n else i - n for i in anchors]
        candidates = lambda i: list(range(n, n + m)) if i < n else list(range(n))  # noqa: E731
    return anchors, Pairs(positive, [[k for k in candidates(i) if k != positive[j]] for j, i in enumerate(anchors)])


def _anchors(
    loss: str, settings: dict[str, Any], s: Matrix, pairs: Pairs, scalar: Any
) -> tuple[list[Any], Matrix, list[Any]]:
    """Return each anchor's loss, its gradient by the similarities and by the scalar."""
    losses, ds, dscalars = [], [], []
    for row, p, others in zip(s, pairs.positive, pairs.negatives, strict=True):
        if "hardest" in settings:
            threshold = sorted((row[k] for k in others), reverse=True)[min(settings["hardest"], len(others)) - 1]
            others = [k for k in others if row[k] >= threshold]
        rule = _simple if "simple" in loss else (_triplet if loss == "triplet" else _softmax)
        value, gradient, dscalar = rule(row, p, others, scalar, settings)
        losses.append(value)
        ds.append(gradient)
        dscalars.append(dscalar)
    return losses, ds, dscalars


def _softmax(row: list[Any], p: int, others: list[int], t: Any, settings: dict[str, Any]) -> tuple[Any, list[Any], Any]:
    """log(1 + Σ exp(d/τ)), d = s_k − s_p."""
    mp = _mpmath()
    powers = {k: mp.exp((row[k] - row[p]) / t) for k in others}
    total = _sum(powers.values())
    ds = [powers.get(k, mp.mpf(0)) / (1 + total) / t for k in range(len(row))]
    ds[p] = -total / (1 + total) / t
    return mp.log1p(total), ds, -_sum(ds[k] * (row[k] - row[p]) for k in others) / t


def _simple(row: list[Any], p: int, others: list[int], w: Any, settings: dict[str, Any]) -> tuple[Any, list[Any], Any]:
    """−s_p + λ Σ s_k."""
    mp = _mpmath()
    weight = mp.mpf(1) / len(others) if w is None else w
    total = _sum(row[k] for k in others)
    ds = [weight if k in others else mp.mpf(0) for k in range(len(row))]
    ds[p] = mp.mpf(-1)
    return weight * total - row[p], ds, total


def _triplet(row: list[Any], p: int, others: list[int], _: Any, settings: dict[str, Any]) -> tuple[Any, list[Any], Any]:
    """max(max s_k − s_p + margin, 0)."""
    mp = _mpmath()
    nearest = max(others, key=lambda k: row[k])
    gap = row[nearest] - row[p] + mp.mpf(settings.get("margin", 0.0))
    ds = [mp.mpf(0)] * len(row)
    if gap > 0:
        ds[nearest], ds[p] = mp.mpf(1), mp.mpf(-1)
    return max(gap, mp.mpf(0)), ds, mp.mpf(0)


def _reduced(losses: list[Any], settings: dict[str, Any], inputs: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Return the value and what each anchor's loss weighs in it."""
    mp = _mpmath()
    reduction = settings.get("reduction", "mean")
    if reduction == "none":
        return losses, inputs["upstream"]
    weight = mp.mpf(1) / len(losses) if reduction == "mean" else mp.mpf(1)
    return weight * _sum(losses), [weight] * len(losses)


def _tangent(g: list[Any], u: list[Any], length: Any) -> list[Any]:
    along = _sum(x * y for x, y in zip(g, u, strict=True))
    return [(x - y * along) / length for x, y in zip(g, u, strict=True)]


def _mpmath() -> Any:
    """Return mpmath's context: imported here, by whoever generates, and by nobody who reads."""
    return importlib.import_module("mpmath").mp


def _sum(terms: Any) -> Any:
    return _mpmath().fsum(terms)


def _exact(number: Callable[[Any], Any], x: Any) -> Any:
    return [_exact(number, y) for y in x] if isinstance(x, list) else (None if x is None else number(x))


def _rounded(x: Any) -> Any:
    """Round to float64 once: Python reads decimals correctly, down into the subnormal numbers."""
    mp = _mpmath()
    return [_rounded(y) for y in x] if isinstance(x, list) else float(mp.nstr(x, DIGITS))
