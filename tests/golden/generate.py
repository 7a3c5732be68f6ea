"""Write the golden data: every loss at 50 digits, with inputs on which float64 usually fails.

    python tests/golden/generate.py

Values come from the formulas, gradients from differences of the values at 110 digits: no derivative is written down.
Inputs are float64 numbers, written so that they come back the same; results are strings of 40 digits.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mpmath import mp, mpf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from oracle_mpmath import (
    Matrix,
    Row,
    cosines,
    differentiate,
    everyone,
    exact,
    hardest_of,
    simple_value,
    softmax_value,
    triplet_value,
)

HERE = Path(__file__).resolve().parent
DIGITS = 40
Value = Callable[[list[Matrix], mpf | None], mpf]  # of the arrays, and of the number that has a gradient too


def similarities(kind: str, n: int = 3, m: int = 4) -> Any:
    """Return similarities (N, M) with the positives on the diagonal."""
    rng = np.random.default_rng(5)
    s = rng.uniform(-0.9, 0.9, (n, m))
    diagonal = np.arange(n), np.arange(n)
    if kind == "dominated":  # the positive is far above all others: 1 − P rounds to 0
        s = rng.uniform(-0.9, -0.3, (n, m))
        s[diagonal] = [0.99, 0.9, 0.95]
    elif kind == "hard":  # every negative is above the positive
        s = rng.uniform(0.5, 0.9, (n, m))
        s[diagonal] = [-0.6, -0.4, -0.9]
    elif kind == "ties":
        s = rng.choice([-0.5, 0.25, 0.75], (n, m))
    elif kind == "collapsed":  # all nearly equal
        s = 0.999 + 1e-9 * rng.standard_normal((n, m))
    return s


def embeddings(kind: str, n: int, d: int = 2) -> Any:
    """Return embeddings (N, D) of unequal length."""
    rng = np.random.default_rng([7, n])
    rows = rng.standard_normal((n, d)) * rng.uniform(0.5, 3.0, (n, 1))
    if kind == "antipodal":
        rows[1] = -2 * rows[0]
    return rows


def case(loss: str, arrays: list[Any], number: float | None, value: Value, **settings: Any) -> dict[str, Any]:
    """Return a case: inputs, the loss's value and the gradient by every entry."""
    inputs = [exact(x.tolist()) for x in arrays]
    given = None if number is None else mpf(number)
    sizes = [x.shape for x in arrays]

    def unravelled(entries: Row) -> tuple[list[Matrix], mpf | None]:
        rest = iter(entries)
        made = [[[next(rest) for _ in range(columns)] for _ in range(rows)] for rows, columns in sizes]
        return made, (None if given is None else next(rest))

    at = [entry for matrix in inputs for row in matrix for entry in row] + ([] if given is None else [given])
    scale = mpf(1) if given is None else min(mpf(1), abs(given))
    gradient = differentiate(lambda entries: value(*unravelled(entries)), at, scale)
    matrices, dnumber = unravelled(gradient)
    with mp.workdps(110):  # exp(−d/τ) against 1 needs more than 50 digits where the positive dominates
        result = value(inputs, given)
    return {
        "loss": loss,
        "inputs": [[[repr(float(v)) for v in row] for row in x.tolist()] for x in arrays],
        "number": None if number is None else repr(number),
        "settings": settings,
        "value": mp.nstr(result, DIGITS),
        "gradients": [[[mp.nstr(v, DIGITS) for v in row] for row in matrix] for matrix in matrices],
        "dnumber": None if dnumber is None else mp.nstr(dnumber, DIGITS),
    }


def on_similarities(loss: str, kind: str, number: float | None, **settings: Any) -> dict[str, Any]:
    """Return a case of a loss of similarities."""
    s = similarities(kind)
    who = everyone(*s.shape)
    if "hardest" in settings:
        who = hardest_of(exact(s.tolist()), who, settings["hardest"])  # the threshold is a constant
    if loss == "triplet":
        margin = mpf(settings["margin"])
        return case(loss, [s], None, lambda x, _: triplet_value(x[0], margin, who), **settings)
    if "softmax" in loss:
        return case(loss, [s], number, lambda x, tau: softmax_value(x[0], tau, who), **settings)
    return case(loss, [s], number, lambda x, weight: simple_value(x[0], weight, who), **settings)


def on_embeddings(loss: str, kind: str, number: float | None, **settings: Any) -> dict[str, Any]:
    """Return a case of a loss of embeddings."""
    query, key = embeddings(kind, 2), embeddings("plain", 3)
    if kind == "dominated":
        key[:2] = 0.5 * query
    elif kind == "antipodal":
        key[0] = -query[0]
    who = everyone(2, 3)
    if "hardest" in settings:
        who = hardest_of(cosines(exact(query.tolist()), exact(key.tolist())), who, settings["hardest"])
    if "nce" in loss:
        return case(loss, [query, key], number, lambda x, tau: softmax_value(cosines(*x), tau, who), **settings)
    return case(loss, [query, key], number, lambda x, weight: simple_value(cosines(*x), weight, who), **settings)


def two_sided(loss: str, kind: str, number: float) -> dict[str, Any]:
    """Return a case of NT-Xent or CLIP."""
    a, b = embeddings(kind, 3), embeddings("plain", 3) + 0.1
    if kind == "dominated":
        b = 0.5 * a
    n = 3
    if loss == "nt_xent":
        itself = [[i == k for k in range(2 * n)] for i in range(2 * n)]
        who = everyone(2 * n, 2 * n, [(i + n) % (2 * n) for i in range(2 * n)], itself)
        return case(loss, [a, b], number, lambda x, tau: softmax_value(cosines(x[0] + x[1], x[0] + x[1]), tau, who))

    def clip(x: list[Matrix], log_scale: mpf | None) -> mpf:
        assert log_scale is not None
        tau = mp.exp(-log_scale)
        both = softmax_value(cosines(*x), tau, everyone(n, n)) + softmax_value(cosines(x[1], x[0]), tau, everyone(n, n))
        return both / 2

    return case(loss, [a, b], number, clip)


TEMPERATURES = {
    "plain": (0.07, 30.0, 1e6),
    "dominated": (0.01, 0.07),
    "hard": (0.002, 0.5),
    "ties": (0.05,),
    "collapsed": (1e-3,),
}


def cases() -> list[dict[str, Any]]:
    """Return every case; the first ones are quick, for the test that makes one again."""
    made = []
    for kind, temperatures in TEMPERATURES.items():
        for temperature in temperatures:
            made.append(on_similarities("softmax_contrastive", kind, temperature))
            made.append(on_similarities("hard_softmax_contrastive", kind, temperature, hardest=2))
        made.append(on_similarities("simple_contrastive", kind, 0.3))
        made.append(on_similarities("hard_simple_contrastive", kind, None, hardest=2))
    made += [on_similarities("triplet", kind, None, margin=0.125) for kind in ("plain", "hard", "dominated")]
    for kind in ("plain", "dominated", "antipodal"):
        for temperature in (0.05, 20.0):
            made.append(on_embeddings("info_nce", kind, temperature))
            made.append(two_sided("nt_xent", kind, temperature))
        made.append(on_embeddings("hard_info_nce", kind, 0.1, hardest=1))
        made.append(two_sided("clip", kind, 3.0))
        made.append(on_embeddings("simple_loss", kind, 0.7))
        made.append(on_embeddings("hard_simple_loss", kind, None, hardest=1))
    return made


def main() -> None:
    """Write the file whole or not at all."""
    path = HERE / "losses.json"
    temporary = path.with_suffix(".partial")
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in cases())
    temporary.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
