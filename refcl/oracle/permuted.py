"""Which rows were taken for the positives? Any order, fitted on each probe by itself.

In:  a question and answers that are not right.
Out: for each way to mix rows up, the order that explains value and gradients of every probe to rounding, or nothing.
An order drawn anew for each batch is found like one that is always the same.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

import numpy as np

from refcl.oracle.compare import agrees
from refcl.oracle.evidence import Result
from refcl.oracle.question import Question
from refcl.oracle.recipe import Expected

MOST_TRIED = 5040  # orders, those of seven rows, that are all tried by their values
NEAREST = 3  # of them are held against everything: two orders may be equal but for a rounding
MOST_REFINED = 16  # rows around whose order exchanges of two are tried, which takes their square each time

Order = Any  # (N,) or (M,): which row stands where row i should


def any_order(question: Question, results: list[Result]) -> list[tuple[str, str]]:
    """Return the id and the detail of an order of the rows that explains every answer.

    Parameters
    ----------
    question : Question
        What was asked.
    results : list of Result
        Every probe with what came and what was right, those with the most digits first.

    Returns
    -------
    found : list of tuple of str
        ("positives-permuted", the order on the first probe), or nothing.
    """
    recipe = question.recipe
    if recipe.inside == "supervised" or (recipe.single and recipe.embeddings) or question.positive is not None:
        return []
    if recipe.pool == "pair" and recipe.inside is None and not (recipe.embeddings and len(question.inputs) == 2):
        return []  # nobody knows whose rows the positives are
    two_sided = recipe.embeddings and recipe.anchors == "both"
    ways = (_one_input, _every_direction) if two_sided else (_every_direction,)
    for way in ways:
        orders = _orders(question, results, way)
        if orders is not None:
            first = ", ".join(f"{i} → {j}" for i, j in enumerate(orders[0]) if i != j)
            return [("positives-permuted", f'on probe "{results[0].probe.name}" the positives of rows are {first}')]
    return []


# How an order changes which columns are the positives.


def _one_input(order: Order) -> Callable[[Any, int, int], Any]:
    """One input's rows come in another order: row i meets row order[i], and that one meets row i."""
    back = np.argsort(order)
    return lambda right, n, m: np.where(right >= n, n + order[(right - n) % len(order)], back[right % len(order)])


def _every_direction(order: Order) -> Callable[[Any, int, int], Any]:
    """Each direction looks up its positives by the same wrong order."""
    return lambda right, n, m: np.where(right >= n, n + order[(right - n) % len(order)], order[right % len(order)])


def _orders(question: Question, results: list[Result], way: Callable[..., Any]) -> list[Order] | None:
    found = []
    for r in results:
        fit = _Fit(question, r, way)
        order = next((o for o in fit.candidates() if agrees(fit(o), r.outcome)), None)
        if order is None:
            return None
        found.append(order)
    return found


class _Fit:
    """One probe, and what the loss makes of it in any order of the rows."""

    def __init__(self, question: Question, r: Result, way: Callable[..., Any]) -> None:
        self.question, self.r, self.way = question, r, way
        recipe = question.recipe
        # Which of the inputs has a row for each anchor; the order is one of the other's rows.
        self.anchors = 1 if recipe.anchors == "second" else 0
        inputs = r.wide
        self.rows = len(inputs[self.anchors])
        self.columns = len(inputs[1 - self.anchors]) if recipe.embeddings else inputs[0].shape[1]

    def __call__(self, order: Order, *, value_only: bool = False, **change: Any) -> Expected:
        recipe = replace(self.question.recipe, positive=self.way(order), **change)
        return self.question.made(recipe, self.r, value_only=value_only)

    def candidates(self) -> Iterator[Order]:
        """Yield the orders that may be the one, the likeliest first."""
        start = np.arange(self.columns)
        if self.rows > self.columns:
            return
        yield from self._by_value()
        if self._row_by_row(start) is None:
            return
        order = self._assigned()
        yield order
        if self.columns <= MOST_REFINED:
            yield self._exchanged(order)

    def _row_by_row(self, order: Order) -> Any:
        """Return how far the parts of an answer are off that tell of row i's pair (rows,); None where none does."""
        answer = self(order)
        outcome = self.r.outcome
        off, found = np.zeros(self.rows), False
        if np.ndim(outcome.value) == 1:
            off += ((answer.value - outcome.value)[: self.rows] / answer.value_size) ** 2
            found = True
        if outcome.grads is not None and np.any(outcome.grads[self.anchors]):
            k = self.anchors
            parts = [
                np.sum(((wanted - got) / size) ** 2, axis=1)
                for wanted, got, size in zip(answer.grads, outcome.grads, answer.grad_sizes, strict=True)
            ]
            off += parts[k]
            if len(parts) == 2:  # whom row i meets tells of the pair as well
                off += parts[1 - k][order[: self.rows]]
            found = True
        return off if found else None

    def _assigned(self) -> Order:
        """Return the order whose pairs (i, j) are the nearest, each judged by row i where all rows are rolled so far.

        Where denominators do not depend on the order, row i tells of nothing but its own pair.
        """
        from scipy.optimize import linear_sum_assignment  # the command line imports this file before it knows the verb

        cost = np.zeros((self.columns, self.columns))  # rows without an anchor cost nothing
        rows = np.arange(self.rows)
        for k in range(self.columns):
            cost[rows, (rows + k) % self.columns] = self._row_by_row(np.roll(np.arange(self.columns), -k))
        return linear_sum_assignment(np.where(np.isfinite(cost), cost, 1e300))[1]

    def _exchanged(self, order: Order) -> Order:
        """Return the nearest order that exchanges lead to, the best of all each time."""
        nearest = np.sum(self._row_by_row(order))
        for _ in range(2 * self.columns):
            found = None
            for i, j in combinations(range(self.columns), 2):
                tried = order.copy()
                tried[[i, j]] = order[[j, i]]
                off = np.sum(self._row_by_row(tried))
                if off < nearest:
                    found, nearest = tried, off
            if found is None:
                break
            order = found
        return order

    def _by_value(self) -> Iterator[Order]:
        """Yield the few orders whose values are the nearest, of all there are: a pair's losses depend on no other pair.

        Where they do, through a weight or a temperature of the whole batch, what is yielded is a guess like any other.
        """
        recipe = self.question.recipe
        if math.perm(self.columns, self.rows) > MOST_TRIED or recipe.reduction == "none" or not recipe.walked:
            return
        rows = np.arange(self.rows)
        of_pair = np.zeros((self.rows, self.columns))  # the loss of the anchors that (i, j) makes a pair of
        count = self.rows
        for k in range(self.columns):
            met = (rows + k) % self.columns
            losses = self(np.roll(np.arange(self.columns), -k), value_only=True, reduction="none").value
            of_pair[rows, met] = losses[: self.rows]
            if len(losses) > self.rows:
                of_pair[rows, met] += losses[self.rows :][met if self.way is _one_input else rows]
            count = len(losses)
        every = np.array(list(permutations(range(self.columns), self.rows)))  # (orders, N)
        values = np.sum(of_pair[rows, every], axis=1) / (count if recipe.reduction == "mean" else 1)
        with np.errstate(invalid="ignore"):
            off = np.abs(values - self.r.outcome.value)
        for k in np.argsort(off)[:NEAREST]:
            yield np.concatenate([every[k], np.setdiff1d(np.arange(self.columns), every[k])])
