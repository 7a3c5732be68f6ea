"""What are the right gradients of a batch made of?

In:  a question and one of its batches.
Out: what each anchor's loss sends to each row, or to each similarity, and which rows are positives of one another.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.companions import MEMORY, OPTIONAL
from refcl.oracle.evidence import Result
from refcl.oracle.measure import settings
from refcl.oracle.question import Question

TINY = 1e-6  # how far each row is moved along a direction of its own, in which the gradients of others then show it
MOST = 96  # anchors of a batch that are asked one by one


class Made(NamedTuple):
    """What the right gradients of a batch are made of."""

    by_anchor: list[tuple[Any, ...]]  # of every argument, the scalar's last, from each anchor's loss, or all at once
    losses: Any  # (A,), None where the anchors can't be told apart
    weight: Any  # (A,) of each loss in the value
    shape: tuple[int, ...]  # of the losses
    x: Any = None  # (T, D) all rows, of the inputs and then of a memory; or similarities
    place: Any = None  # (T,) whose rows; None of similarities
    names: tuple[str, ...] = ()
    c: Any = None  # (A, R, T) how much of row j each anchor's loss sends to row i; of similarities, dL/ds
    same: Any = None  # (R, T) whether j is a positive of i
    sizes: Any = None  # (T, T) what c is to be multiplied by to be dL/ds


def made_of(question: Question, r: Result) -> Made:
    """Return what the right gradients of a batch are made of."""
    under, recipe = question.under(r.probe), question.recipe
    under = replace(under, settings=under.settings | under.companions(r.wide), companions_needed=())
    scalar, k, d = r.probe.scalar, len(r.wide), r.wide[0].shape[-1]
    rows = question.row.by_inner_products and recipe.embeddings and all(y.shape[1:] == (d,) for y in r.wide)
    moved, x, place, names = _moved(under, r, rows=rows)
    inputs = r.wide if x is None else tuple(np.split(x, np.cumsum(np.bincount(place))[:-1])[:k])
    none = settings.changed(question, reduction="none")
    shape: tuple[int, ...] = ()
    losses, weight = None, r.upstream
    if none is not None:
        moved = replace(none, settings=none.settings | moved.settings | {"reduction": "none"}, companions_needed=())
        losses, shape = moved.expected(inputs, scalar, value_only=True).value, moved.value_shape(inputs, scalar)
        if weight is None:
            weight = np.full(len(losses), float(r.right.value) / float(np.sum(losses) or 1.0))
        losses = losses if len(losses) <= MOST else None
    asked = [weight] if losses is None else np.diag(weight)
    answers = [moved.expected(inputs, scalar, u) for u in asked]
    found = [(*a.grads, *map(np.asarray, a.dmore), np.asarray(a.dscalar or 0.0)) for a in answers]
    made = Made(found, losses, weight, shape)
    if rows:
        size = x[0, d]
        c = np.stack([np.concatenate([g[:, d:] for g in f[:k]]) for f in found]) / size
        found = [tuple(g[..., :d] if g.shape[-1:] == x.shape[1:] else g for g in f) for f in found]
        length = np.linalg.norm(x, axis=1) if recipe.normalization == "rows" else np.ones(len(x))
        same = _same_rows(under, place, names)[: c.shape[1]]
        return made._replace(
            by_anchor=found, x=x[:, :d], place=place, names=names, c=c, same=same, sizes=np.outer(length, length)
        )
    if question.row.batches == "futures" and r.wide[1].ndim == 3:
        s: Any = np.einsum("nd,tde,tme->tnm", *with_form(r))
        steps, n, m = s.shape
        alone = np.eye(n), np.stack([np.eye(m)] * steps), s
        c = np.stack([moved.expected(alone, scalar, u).grads[2].reshape(-1, m) for u in asked])
        return made._replace(c=c, x=s.reshape(-1, m), same=np.tile(_same_columns(under, (n, m)), (steps, 1)))
    if not recipe.embeddings and k == 1:
        c = np.stack([f[0] for f in found])
        return made._replace(c=c, x=r.wide[0], same=_same_columns(under, c.shape[1:]))
    return made


def with_form(r: Result) -> tuple[Any, Any, Any]:
    context, future, weight = r.wide
    return context, weight, future


def _moved(question: Question, r: Result, *, rows: bool) -> tuple[Question, Any, Any, tuple[str, ...]]:
    """Return the question with such a memory, all rows, each with a direction of its own, and whose they are."""
    if not rows:
        return question, None, None, ()
    memory = [str(n) for n in ("bank", "queue") if n in question.settings]
    every = [*r.wide, *(np.asarray(question.settings[n], dtype=np.float64) for n in memory)]
    x, place = np.concatenate(every), np.repeat(np.arange(len(every)), [len(y) for y in every])
    size = TINY * max(float(np.min(np.linalg.norm(x, axis=1))), 1e-300)
    x = np.concatenate([x, size * np.eye(len(x))], axis=1)
    wider = {name: x[place == len(r.wide) + j] for j, name in enumerate(memory)}
    if OPTIONAL[0] in question.settings:
        own = np.asarray(question.settings[OPTIONAL[0]])
        wider[OPTIONAL[0]] = np.concatenate([own, np.zeros((*own.shape[:-1], len(x)))], axis=-1)
    return replace(question, settings=question.settings | wider), x, place, (*question.inputs, *memory)


def _same_columns(question: Question, shape: tuple[int, ...]) -> Any:
    if "positives" in question.settings:
        return np.asarray(question.settings["positives"], dtype=bool)
    right = np.arange(shape[0]) if question.positive is None else np.asarray(question.positive)
    return right[:, None] == np.arange(shape[1])


def _same_rows(question: Question, place: Any, names: tuple[str, ...]) -> Any:
    """Return which rows are positives of one another: of one class, of the same number, or as is said by name."""
    t = len(place)
    number = np.concatenate([np.arange(np.sum(place == k)) for k in range(len(names))])
    same = (number[:, None] == number) & (place[:, None] != place)
    for k, name in enumerate(names):
        if name in MEMORY:
            same[place == k] = same[:, place == k] = False
    if "labels" in question.settings:
        labels = np.asarray(question.settings["labels"])
        same = (labels[:, None] == labels) & ~np.eye(t, dtype=bool)
    if "same" in question.settings:
        same &= np.tile(np.asarray(question.settings["same"], dtype=bool), len(names))
    if "index" in question.settings:
        n = int(np.sum(place == 0))
        same[np.arange(n), n + np.asarray(question.settings["index"])] = True
    if "positives" in question.settings:
        n = int(np.sum(place == 0))
        same[:n, n:] = np.asarray(question.settings["positives"])
        same[n:, :n] = same[:n, n:].T
    if question.positive is not None:
        of = np.asarray(question.positive) + (int(np.sum(place == 0)) if question.recipe.candidates == "other" else 0)
        same = np.zeros_like(same)
        same[np.arange(len(of)), of] = same[of, np.arange(len(of))] = True
    return same
