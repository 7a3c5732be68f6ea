"""Rows of golden data: inputs on which float64 usually fails, and what a loss is there at 50 digits.

In:  a formula of `mpmath.mpf` numbers, from a card.
Out: inputs that are float64 numbers, written so that they come back the same; value and gradients as strings of 40
digits. Gradients are differences of the values at 110 digits: no derivative is written down.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from digits import Row, cosines, differentiate, exact
from digits import stacked as everyone_stacked
from mpmath import mp, mpf

DIGITS = 40
TEMPERATURES = {  # of each kind of similarities
    "plain": (0.07, 30.0, 1e6),
    "dominated": (0.01, 0.07),
    "hard": (0.002, 0.5),
    "ties": (0.05,),
    "collapsed": (1e-3,),
}
OF_EMBEDDINGS = ("plain", "dominated", "antipodal")
OF_SYSTEMS = [("plain", 0.07), ("plain", 30.0), ("dominated", 0.01)]
OF_SYSTEMS += [("hard", 0.002), ("hard", 0.5), ("collapsed", 1e-3)]
EXACT_AND_NOT = [*((*one, True) for one in OF_SYSTEMS), *((kind, 0.1, False) for kind in OF_EMBEDDINGS)]
OF_FAMILY = (("plain", 0.3), ("plain", 0.01), ("plain", 100.0), ("dominated", 0.01), ("dominated", 0.3))


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


def query_and_key(kind: str) -> list[Any]:
    query, key = embeddings(kind, 2), embeddings("plain", 3)
    if kind == "dominated":
        key[:2] = 0.5 * query
    elif kind == "antipodal":
        key[0] = -query[0]
    return [query, key]


def both_views(kind: str) -> list[Any]:
    a, b = embeddings(kind, 3), embeddings("plain", 3) + 0.1
    return [a, 0.5 * a if kind == "dominated" else b]


def independent_views(kind: str, n: int = 3, d: int = 2) -> list[Any]:
    rng = np.random.default_rng([7, n])
    a, b = (rng.standard_normal((n, d)) * rng.uniform(0.5, 3.0, (n, 1)) for _ in range(2))
    return [a, 0.5 * a + 0.01 if kind == "dominated" else b]


def freedoms(n: int, m: int, sides: int = 0) -> list[Any]:
    """Return weights of logits, targets and weights of anchors; the first target is all of one, which may dominate."""
    rng = np.random.default_rng([n, m])
    shape = (sides, n, m) if sides else (n, m)
    targets = rng.dirichlet(np.ones(m), shape[:-1])
    targets[..., 0, :] = np.eye(m)[0]
    return [rng.standard_normal(shape).round(3), targets, rng.uniform(0.5, 1.5, shape[:-1]).round(3)]


def of_stacked(value: Callable[..., mpf], **settings: Any) -> Callable[..., mpf]:
    """Return a value of similarities, of a number and of who is whose as one of two views of three rows."""
    return lambda x, y, number: value(cosines(x + y, x + y), number, everyone_stacked(3), **settings)


def golden(loss: str, inputs: list[Any], value: Callable[..., mpf], *, exact_s: bool, **settings: Any) -> Any:
    """Return a row: the inputs, the loss's value and its gradient by every number of the inputs.

    Where ``exact_s`` the similarities are the first input, or sums of it with 0 and 1: nothing is rounded before the
    loss begins.
    """
    host = [x.tolist() if isinstance(x, np.ndarray) else x for x in inputs]
    scale = min([mpf(1), *(abs(mpf(x)) for x in host if isinstance(x, float))])
    gradient = differentiate(lambda entries: value(*filled(host, iter(entries))), numbers_in(exact(host)), scale)
    with mp.workdps(110):  # exp(−d/τ) against 1 needs more than 50 digits where the positive dominates
        result = value(*exact(host))
    return {
        "loss": loss,
        "exact": exact_s,
        "inputs": written(host, lambda x: repr(float(x))),
        "settings": {name: x.tolist() if isinstance(x, np.ndarray) else x for name, x in settings.items()},
        "value": mp.nstr(result, DIGITS),
        "gradients": written(filled(host, iter(gradient)), lambda x: mp.nstr(x, DIGITS)),
    }


def numbers_in(tree: Any) -> Row:
    """Return the numbers of nested lists in one row."""
    return [number for branch in tree for number in numbers_in(branch)] if isinstance(tree, list) else [tree]


def filled(tree: Any, numbers: Any) -> Any:
    """Return nested lists of the form of a tree, of numbers taken in turn."""
    return [filled(branch, numbers) for branch in tree] if isinstance(tree, list) else next(numbers)


def written(tree: Any, how: Callable[[Any], str]) -> Any:
    return [written(branch, how) for branch in tree] if isinstance(tree, list) else how(tree)


def at_columns(s: Any, index: Any) -> Any:
    """Return similarities with each row's diagonal entry moved to the column ``index``; the others keep their order."""
    moved = np.zeros_like(s)
    for i, column in enumerate(index):
        moved[i] = np.insert(np.delete(s[i], i), column, s[i, i])
    return moved


def with_bank(kind: str, *, exact_s: bool) -> tuple[Any, Any, Any]:
    """Return queries, a bank, and whose row is whose; as similarities where exact."""
    index = np.array([2, 0, 1])
    if exact_s:
        return at_columns(similarities(kind), index), np.eye(4), index
    query, bank = embeddings(kind, 3), embeddings("plain", 4)
    if kind == "dominated":
        bank[index] = 0.5 * query
    return query, bank, index
