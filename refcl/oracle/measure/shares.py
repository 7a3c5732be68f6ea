"""Of which rows is a gradient made, and how much of each does it hold?

In:  the gradient of an input of embeddings, and the right one, on a batch with dimensions enough.
Out: in what the shares of the other rows differ. dh_i is made of what each row that meets i gives it, Σ_j ds_ij z_j.
"""

from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.evidence import Result
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.question import Question
from refcl.oracle.roles import rank_of


class Shares(NamedTuple):
    """How much of row j the gradient of row i holds, along the sphere: as it came, and as it should."""

    got: Any  # (N, T)
    want: Any  # (N, T)
    positive: Any  # (N, T) whether j is i's positive
    ranks: tuple[Any, Any]  # (N,), (T,) where each row lives


def of_rows(question: Question, name: str, k: int, of_one: list[tuple[Result, Any, Any]]) -> Difference | None:
    """Say in what the shares of the rows differ, where the same holds of all batches that can tell.

    Parameters
    ----------
    question : Question
        What was asked.
    name : str
        Of the input.
    k : int
        Its place.
    of_one : list of (Result, array, array)
        Answers, the input's gradient, and the right one.
    """
    recipe = question.recipe
    two = len(question.inputs) == 2 and recipe.candidates == "other"
    if not two or k > 1 or not recipe.embeddings or recipe.normalization != "rows":
        return None
    read = [_read(question, k, *one) for one in of_one if len(one[0].wide[1 - k]) < one[0].wide[k].shape[1]]
    if not read or any(x is None for x in read):
        return None
    said = {how for x in read if x is not None and (how := _how(x, question.recipe.ranks))}
    return say("shares of the rows", f"d{name}", input=name, how=said.pop()) if len(said) == 1 else None


def _read(question: Question, k: int, r: Result, got: Any, want: Any) -> Shares | None:
    mine, others = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (r.wide[k], r.wide[1 - k]))
    length = np.linalg.norm(r.wide[k], axis=1)
    found = np.zeros((2, len(mine), len(others)))
    for i, z in enumerate(mine):
        basis = np.concatenate([others, z[None]])
        both = np.stack([got[i], want[i]], axis=1) * length[i]
        shares = np.linalg.lstsq(basis.T, both, rcond=None)[0]
        if np.max(np.abs(basis.T @ shares - both)) > 1e-6 * max(np.max(np.abs(both)), 1e-300):
            return None  # it is made of something else besides
        found[:, i] = shares[:-1].T
    n, m = (len(x) for x in r.wide)
    ranks = np.split(rank_of(n, m, question.recipe.ranks), [n])
    return Shares(
        found[0], found[1], np.eye(n, m, dtype=bool) if k == 0 else np.eye(m, n, dtype=bool), (ranks[k], ranks[1 - k])
    )


def _how(x: Shares, ranks: int) -> str:
    """Return which rows' shares are missing, scaled, transposed, or those of another rank."""
    tell = 1e-5 * float(np.max(np.abs(x.want)))
    same, live = np.abs(x.got - x.want) <= tell, np.abs(x.want) > tell
    remote = x.ranks[0][:, None] != x.ranks[1][None, :]
    between = {"the other ranks' rows": remote, "the rank's own rows": ~remote} if ranks > 1 else {}
    for rows, mask in (between | {"the positives": x.positive, "the negatives": ~x.positive}).items():
        on = mask & live
        if not np.all(same[~mask]) or not np.any(on):
            continue
        times = x.got[on] / x.want[on]
        if np.ptp(times) <= 1e-4 * max(abs(times[0]), 1e-2):
            return f"the share of {rows} is " + ("missing" if abs(times[0]) < 1e-4 else f"held {times[0]:.6g} times")
    if x.got.shape == x.want.T.shape and np.all(np.abs(x.got - x.want.T) <= tell):
        return "∂L/∂s stands transposed in it: row i holds of row j what row j should hold of row i"
    return _of_other_ranks(x, ranks, tell)


def _of_other_ranks(x: Shares, ranks: int, tell: float) -> str:
    moved = []
    for to in range(ranks):
        for of in range(ranks):
            block = [x.ranks[0] == to, x.ranks[1] == of]
            fits = [
                other
                for other in (to, *range(ranks))
                if np.all(np.abs(x.got[np.ix_(*block)] - x.want[np.ix_(x.ranks[0] == other, block[1])]) <= tell)
            ]
            if not fits:
                return ""
            if fits[0] != to:
                moved.append(f"what rank {of}'s rows send to rank {fits[0]} arrives at rank {to}")
    return ", ".join(moved[:2])
