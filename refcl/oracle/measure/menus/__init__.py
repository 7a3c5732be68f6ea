"""What only losses have whose anchors are weighted or have temperatures, or whose negatives are estimated.

In:  a question and answers that are not right.
Out: which parts of the loss are made otherwise, from a menu for each part: the values are held to rounding.
"""

from collections.abc import Callable
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np

from refcl.oracle.evidence import Result
from refcl.oracle.measure.menus import estimates, temperatures, uniformity, weights
from refcl.oracle.measure.menus.given import Given, Menu
from refcl.oracle.measure.settings import nice, roots
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.question import Question


def _menu_of(q: Question) -> Menu | None:
    if q.recipe.inside == "decoupled":
        return weights.MENU if "sigma" in q.pair.settings else None
    if q.row.batches == "temperatures":
        return temperatures.BY_ANCHOR
    by_inside = {"reweighted": estimates.MENU, "model aware": temperatures.AWARE, "uniform": uniformity.MENU}
    return temperatures.FIXED_ENTROPY if "entropy" in q.pair.settings else by_inside.get(q.recipe.inside or "")


def parts_otherwise(q: Question, tried: list[Result]) -> list[Difference]:
    """Say which part of such a loss is made otherwise, or which two, if that makes every value."""
    menu = _menu_of(q)
    if menu is None:
        return []
    # Where little is told apart, as on two rows or where one term is all of the sum, nothing is to be asked.
    told = [r for r in tried if len(r.wide[0]) > 2 and (q.temperature(r.probe.scalar) or 1.0) > 0.03] or tried
    given = [Given(q.under(r.probe), r) for r in told]
    right = {said: next(iter(choices)) for said, choices in menu.parts.items()}

    def off(k: int, other: dict[str, Any], want: Any) -> Any:
        parts = [other.get(said, menu.parts[said][choice]) for said, choice in right.items()]
        with np.errstate(all="ignore"):
            made = given[k].reduced(menu.loss(given[k], *parts))
        return made - want if np.shape(made) == np.shape(want) else np.asarray(np.nan)

    def makes(other: dict[str, Any], of: Callable[[Result], Any] = lambda r: r.outcome.value) -> bool:
        sizes = (1e-9 * (1 + np.abs(of(r))) + 64 * r.outcome.eps * r.right.value_size for r in told)
        return all(np.all(np.abs(off(k, other, of(told[k]))) <= size) for k, size in enumerate(sizes))

    if not makes({}, lambda r: r.right.value):
        return []
    fixed, free = ([[(p, c) for c in list(menu.parts[p])[1:] if ("{" in c) == f] for p in right] for f in (False, True))
    worst = int(np.argmax([np.max(np.abs(r.outcome.value - r.right.value)) for r in told]))

    def found(chosen: tuple[tuple[str, str], ...]) -> list[Difference]:
        if makes({part: menu.parts[part][choice] for part, choice in chosen}):
            return [_said(part, choice, right[part]) for part, choice in chosen]
        return []

    def numbered(part: str, choice: str) -> list[Difference]:
        """Say the number with which a choice makes every value, if one does."""
        f = menu.parts[part][choice]
        want = told[worst].outcome.value
        for c in map(nice, roots(lambda c: float(np.sum(off(worst, {part: partial(f, c)}, want))), 1.0)):
            if makes({part: partial(f, c)}):
                return [_said(part, choice.format(c=c), right[part])]
        return []

    return (
        next((d for which in fixed for chosen in which if (d := found((chosen,)))), [])
        or next((d for which in free for chosen in which if (d := numbered(*chosen))), [])
        or next((d for which in combinations(fixed, 2) for chosen in product(*which) if (d := found(chosen))), [])
    )


def _said(part: str, choice: str, right: str) -> Difference:
    got, _, why = choice.partition(": ")
    return say(
        "another part", name=temperatures.NAMED.get(choice), part=part, got=got, want=right, why=why and f": {why}"
    )
