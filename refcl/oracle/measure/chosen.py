"""Which negatives count where only some do?

In:  a question and answers that are not right.
Out: the rule under which every value is right to rounding.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.compare import agrees
from refcl.oracle.evaluate import compared
from refcl.oracle.evidence import Result
from refcl.oracle.measure.readings import READINGS
from refcl.oracle.measure.settings import answer_of, nice, roots, value_off
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.numerics import ROUND_MASKS
from refcl.oracle.question import Question, ask
from refcl.oracle.recipe import Choose, Extra
from refcl.oracle.roots import root
from refcl.walk.pooling.hardest import hardest_negatives

TIED = 1e-6  # where two similarities of an anchor are as near as that, rounding chooses


def _rank(x: Any, axis: int | None) -> Any:
    """Return the places from the largest on, halfway between counts: 0.5, 1.5 …"""
    flat = x.ravel() if axis is None else x
    order = np.argsort(np.argsort(-flat, axis=axis or 0, kind="stable"), axis=axis or 0)
    return order.reshape(x.shape) + 0.5


def _near(s: Any, p: Any, negatives: Any) -> Any:
    return np.where(negatives, s, -np.inf)


class Rule(NamedTuple):
    """Negatives count where a score is below a number."""

    said: str
    score: Callable[[Any, Any, Any], Any]  # s (A, T), s_p (A, 1), the negatives (A, T) -> (A, T)
    among: Callable[[Any], Any] | None = None  # the negatives -> of how many, where the score is a place among them


RULES = (
    Rule("those nearer than the positive are left out, s_k > s_p{}: a mask relative to s_p", lambda s, p, n: s - p),
    Rule("those farther off than the positive are left out, s_k < s_p{}", lambda s, p, n: p - s),
    Rule("those with s_k > {} are left out, one bound for all: a threshold", lambda s, p, n: s),
    Rule("those with s_k < {} are left out, one bound for all: a threshold, or a ReLU", lambda s, p, n: -s),
    Rule(
        "those nearer than the positive are left out, and those farther off by more than {}",
        lambda s, p, n: np.where(s < p, p - s, np.inf),
    ),
    Rule(
        "only the {} hardest of each anchor are kept",
        lambda s, p, n: _rank(_near(s, p, n), 1),
        lambda n: np.sum(n, axis=1, keepdims=True),
    ),
    Rule(
        "the {} hardest of each anchor are left out",
        lambda s, p, n: -_rank(_near(s, p, n), 1),
        lambda n: np.sum(n, axis=1, keepdims=True),
    ),
    Rule(
        "the {} hardest candidates of each anchor are kept, the positive among them: where it is one of these, one"
        " negative too few is kept",
        lambda s, p, n: _rank(_near(s, p, n), 1) + (p > s),
        lambda n: np.sum(n, axis=1, keepdims=True) + 1,
    ),
    Rule(
        "the {} hardest of the whole batch are kept: one threshold for all anchors, not one for each",
        lambda s, p, n: _rank(_near(s, p, n), None),
        lambda n: np.sum(n),
    ),
    Rule(
        "the {} hardest of each column are kept: the threshold is taken along the wrong axis",
        lambda s, p, n: _rank(_near(s, p, n), 0),
        lambda n: np.sum(n, axis=0, keepdims=True),
    ),
    Rule(
        "the {} easiest of each anchor (the least similar) are kept",
        lambda s, p, n: _rank(_near(-s, p, n), 1),
        lambda n: np.sum(n, axis=1, keepdims=True),
    ),
    Rule(
        "the first {} of each anchor are kept, in their order, whatever their similarity",
        lambda s, p, n: np.cumsum(n, axis=1) - 0.5,
        lambda n: np.sum(n, axis=1, keepdims=True),
    ),
)
# Of a triplet, which negative is met: among which, and which of these.
AMONG: dict[str, Callable[..., Any]] = {
    "of those farther off than the positive": lambda s, p, n, m: n & (s < p),
    "of those farther off than the positive, but by less than the margin": lambda s, p, n, m: n & (s < p) & (s > p - m),
    "of all, with no condition on the positive": lambda s, p, n, m: n,
    "of those nearer than the positive (the comparison is turned)": lambda s, p, n, m: n & (s > p),
}
PICKED: dict[str, Callable[[Any], Any]] = {
    "nearest": lambda s: s,
    "furthest (the easiest)": lambda s: -s,
    "first, in the order of the columns,": lambda s: -np.indices(s.shape)[1],
    "last, in the order of the columns,": lambda s: np.indices(s.shape)[1],
}
# Of a triplet, what an anchor's loss may be of gaps s_k - s_p + margin, minus infinity where there is no negative.
GAPS: dict[str, Callable[[Any, Any], Any]] = {
    "each has a hinge of its own, and the hinges are averaged": lambda g, k: np.sum(np.maximum(g, 0), 1) / k,
    "each has a hinge of its own, and the hinges are added up": lambda g, k: np.sum(np.maximum(g, 0), 1),
    "their mean stands in the place of the nearest": lambda g, k: np.maximum(
        np.sum(np.where(np.isfinite(g), g, 0), 1) / k, 0
    ),
}


def _alone(f: Callable[[Any], Any]) -> Callable[[Any, float], Any]:
    return lambda x, c: f(x)


ROUND_BOUNDS = (5.0, 10.0, 20.0, 50.0, 100.0)
BOUNDS = np.linspace(-30.25, 30.25, 122)  # between which it is looked for
# What may be read in the place of each logit, with a number that is looked for.
READ: dict[str, Callable[[Any, float], Any]] = {
    **{re.sub(r"\bs\b", "l", said): _alone(f) for said, f, _ in READINGS if not re.search("arccos|√|constant", said)},
    "max(l, {:.6g})": np.maximum,
    "min(l, {:.6g})": np.minimum,
    "l, held between ±{:.6g}": lambda x, c: np.clip(x, -c, c),
    "{:.6g} l": lambda x, c: (c if c > 0 else math.nan) * x,  # below 0 the labels are swapped
}


def chosen(question: Question, results: list[Result], every: list[Result]) -> list[Difference]:
    """Say by which rule negatives count, or what each pair's logit is read as; bounds may show at extremes only."""
    found = _logits_read(question, [r for r in every if r.outcome.finite])
    recipe, base = question.recipe, question
    if found is None and question.row.hinge:
        base = _triplet(question)
        found = next(_gaps_and_picks(question, base, results), None) or _one_more(question, results)
        recipe = base.recipe
    if found is None and recipe.walked and recipe.inside not in ("supervised", "freed", "uniform"):
        found = next(_rules(question, base, results), None) or _leak(question, results)
    return [] if found is None else [found]


def _triplet(question: Question) -> Question:
    kept = {k: v for k, v in question.asked.items() if k not in ("otherwise", "ranks", "views")}
    return ask("triplet", **kept)


def _expected(question: Question) -> str:
    """Say which negatives should count."""
    kept = question.recipe.hardest
    if kept is not None:
        part = f"the {kept} hardest" if isinstance(kept, int) else f"the hardest {kept:g}"
        return f"{part} of each anchor's own negatives"
    nearest = {"hardest": "the nearest of all", "semi-hard": AMONG_SEMI_HARD}
    return nearest.get(question.row.hinge, "all negatives")


AMONG_SEMI_HARD = f"the nearest {next(iter(AMONG))}"


def _told(question: Question, what: str) -> Difference:
    return say("which negatives count", what=what, right=_expected(question))


def _right(base: Question, r: Result, choose: Choose | None, extra: Extra | None = None) -> bool:
    recipe = replace(base.recipe, extra=extra)
    recipe = recipe if choose is None else replace(recipe, hardest=None, choose=choose)
    return agrees(base.made(recipe, r, value_only=True), r.outcome, scalar=False, grads=False)


def _tied(s: Any, p: Any, negatives: Any) -> bool:
    """Return whether two of the similarities that an anchor compares are the same to rounding."""
    x = np.sort(np.concatenate([np.where(negatives, s, np.nan), p], axis=1), axis=1)
    return bool(np.nanmin(np.diff(x, axis=1), initial=np.inf) < TIED)


def _compared(base: Question, r: Result) -> tuple[Any, Any, Any]:
    s, roles, _, _ = compared(base.recipe, r.wide, base.positive, base.ignore)
    return s, s[np.arange(len(s)), roles.positive][:, None], roles.negatives


def _untied(base: Question, results: list[Result]) -> list[Result]:
    return [r for r in results if not _tied(*_compared(base, r))]


def _rules(question: Question, base: Question, results: list[Result]) -> Iterator[Difference]:
    """Try every rule at every number."""
    untied = _untied(base, results)
    if len(untied) < 3:
        return
    untied.sort(key=lambda r: agrees(r.right, r.outcome, scalar=False, grads=False))  # a wrong one tells most
    for rule in RULES:
        for share in (False, True) if rule.among else (False,):
            c = _bound(base, untied, rule, share)
            if c is None:
                continue
            if not rule.among:
                falls = rule.score(1.0, 0.0, None) < 0  # the score with s
                c = -c + 0.0 if falls else c
                number = (f" {'+' if c > 0 else '-'} {abs(c):.4g}" if c else "") if "s_p{}" in rule.said else f"{c:.4g}"
            else:
                number = f"{abs(c):.3g} (a share)" if share else f"{abs(c):.0f}"
            yield _told(question, rule.said.format(number))


def _bound(base: Question, results: list[Result], rule: Rule, share: bool) -> float | None:
    """Return the number under which a rule makes every value right, or None: it is narrowed down batch by batch."""
    low, high, asked = -math.inf, math.inf, base.recipe.hardest

    def score(s: Any, p: Any, n: Any) -> Any:
        return rule.score(s, p, n) / (np.maximum(rule.among(n), 1) if share and rule.among else 1)

    def right(r: Result, c: float) -> bool:
        return _right(base, r, lambda s, p, n: n & (score(s, p, n) < c))

    def rounded(s: Any, p: Any, n: Any) -> Any:  # of a share, as many as are asked
        assert rule.among is not None
        assert asked is not None
        return n & (rule.score(s, p, n) < np.maximum(np.round(asked * rule.among(n)), 1))

    if share and isinstance(asked, float) and all(_right(base, r, rounded) for r in results):
        return asked
    for r in results:
        s, p, negatives = _compared(base, r)
        x = np.unique(score(s, p, negatives)[negatives])
        cuts = [low, *x[(x > low) & (x < high)], high]
        fit = [part for part in pairwise(cuts) if right(r, _between(*part))]
        if not fit:
            return None
        low, high = fit[0][0], fit[-1][1]
    c = _between(low, high)
    return c if math.isfinite(low) and math.isfinite(high) and all(right(r, c) for r in results) else None


def _between(low: float, high: float) -> float:
    """Return the shortest number between two."""
    if math.isinf(low) or math.isinf(high):
        return 0.0 if math.isinf(low) and math.isinf(high) else high - 1 if math.isinf(low) else low + 1
    middle = (low + high) / 2
    short = (0.0, *(round(middle, d) for d in range(7)))
    return next((c for c in short if low < c < high), middle)


def _gaps_and_picks(question: Question, base: Question, results: list[Result]) -> Iterator[Difference]:
    """Of a triplet, try what may stand in the place of the negative that should be met."""
    untied = _untied(base, results)
    margin = float(question.setting("margin"))
    if len(untied) < 3:
        return
    for said, f in GAPS.items() if question.recipe.reduction != "none" else ():
        for r in untied:
            s, p, n = _compared(base, r)
            losses = f(np.where(n, s - p + margin, -np.inf), np.maximum(np.sum(n, axis=1), 1))
            value = np.sum(losses) / (len(losses) if question.recipe.reduction == "mean" else 1)
            if not agrees(r.right._replace(value=value), r.outcome, scalar=False, grads=False):
                break
        else:
            yield _told(question, said)
    asked = question.settings.get("otherwise", "skip")
    fallbacks = (
        asked,
        *(x for x in ("skip", "hardest", "easiest") if x != asked and "otherwise" in question.pair.settings),
    )
    for otherwise, (among, who), (pick, order) in product(fallbacks, AMONG.items(), PICKED.items()):

        def choose(s: Any, p: Any, n: Any, who: Any = who, order: Any = order, other: str = otherwise) -> Any:
            some = who(s, p, n, margin)
            key = np.where(some, order(s), -np.inf)
            if other != "skip":
                none = ~np.any(some, axis=1, keepdims=True)
                key = np.where(none & n, s if other == "hardest" else -s, key)
            return n & np.isfinite(key) & (np.arange(s.shape[1]) == np.argmax(key, axis=1)[:, None])

        if all(_right(base, r, choose) for r in untied):
            where_none = "" if otherwise == asked else f', with otherwise="{otherwise}" where there is none'
            yield _told(question, f"the {pick} {among} is met{where_none}")


def _one_more(question: Question, results: list[Result]) -> Difference | None:
    """Say whether each anchor meets one more candidate, of a similarity that is a constant: what is masked with it."""
    r = next((r for r in results if not agrees(r.right, r.outcome, scalar=False, grads=False)), None)
    if r is None or question.ignore is not None or np.ndim(r.outcome.value):
        return None

    def with_it(x: Any, c: float) -> tuple[Any, ...]:
        return (np.concatenate([x, np.full((len(x), 1), c)], axis=1),)

    for c in map(nice, (0.0, *roots(lambda c: value_off(question, r, with_it(r.wide[0], c), None), 0.0))):
        answers = ((answer_of(question, x, inputs=with_it(x.wide[0], c), value_only=True), x) for x in results)
        if all(a is not None and agrees(a, x.outcome, scalar=False, grads=False) for a, x in answers):
            return say("one more candidate", c=c)
    return None


def _leak(question: Question, results: list[Result]) -> Difference | None:
    """Say whether the negatives that are not the hardest stay in the sum, at some logit."""
    kept = question.recipe.hardest
    if kept is None or not question.recipe.scaled:
        return None

    def extra(r: Result, c: float, before: bool) -> Extra:
        s, _, negatives = _compared(question, r)
        gone = np.sum(negatives & ~hardest_negatives(s, negatives, hardest=kept), axis=1)
        with np.errstate(divide="ignore"):
            return Extra(lambda t, top: np.log(gone) + c * (question.recipe.scale.at(t) if before else 1.0))

    untied = _untied(question, results)
    wrong = [r for r in untied if not agrees(r.right, r.outcome, scalar=False, grads=False)]
    if len(untied) < 3 or not wrong:
        return None

    def off(before: bool, c: float) -> float:
        recipe = replace(question.recipe, extra=extra(wrong[0], c, before))
        return float(np.sum(question.made(recipe, wrong[0], value_only=True).value - wrong[0].outcome.value))

    for before in (False, True):
        for c in (0.0, *ROUND_MASKS, nice(root(partial(off, before), -30.0, 30.0))):
            if math.isfinite(c) and all(_right(question, r, None, extra(r, c, before)) for r in untied):
                what = f"{'similarity' if before and c else 'logit'} {c:g}"
                term = f"exp({c:g}/τ)" if before and c else f"exp({c:g})"
                return say("left out with a number", number=what, term=term + (" = 1" if not c else ""))
    return None


def _logits_read(question: Question, results: list[Result]) -> Difference | None:
    """Say whether not the logit of each pair is judged, where no pair sees another, but a function of it."""
    recipe = question.recipe
    if recipe.inside != "apart" or recipe.reduction == "none":
        return None

    def value(f: Callable[[Any, float], Any], c: float, r: Result) -> float:
        s, p, negatives = _compared(question, r)
        scale, bias = recipe.scale.at(float(r.probe.scalar or 0.0)), question.more_scalars[0]
        with np.errstate(all="ignore"):
            pushed = np.where(negatives, np.logaddexp(0, f(scale * s + bias, c)), 0.0)
            total = np.sum(pushed) + np.sum(np.logaddexp(0, -f(scale * p + bias, c)))
        count = len(s) if recipe.reduction == "mean" else 1
        return float(total) / count * float(question.factor_at(r.wide, r.probe.scalar))

    first = results[0]

    def off(f: Callable[[Any, float], Any], c: float) -> float:
        return value(f, c, first) - float(first.outcome.value)

    for said, f in READ.items():
        numbers = (*ROUND_BOUNDS, *map(nice, roots(partial(off, f), math.nan, BOUNDS))) if "{" in said else (0.0,)
        for c in numbers:
            answers = ((r.right._replace(value=np.asarray(value(f, c, r))), r.outcome) for r in results)
            if all(agrees(a, came, scalar=False, grads=False) for a, came in answers):
                twice = (
                    ": a loss that takes logits is handed probabilities, a sigmoid twice" if "sigmoid" in said else ""
                )
                return say("logit read otherwise", reading=said.format(c), why=twice)
    return None
