"""What of the logits is another number, and how are the losses of the anchors put together?

In:  a question and answers that are not right.
Out: what was done to logits or losses, under which every value is right to rounding.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations, product
from typing import Any

import numpy as np

from refcl.oracle.compare import agrees
from refcl.oracle.evaluate import compared
from refcl.oracle.evidence import Result
from refcl.oracle.measure.lab import memory
from refcl.oracle.measure.menus.given import log_sum
from refcl.oracle.measure.met import unit_rows, values_are
from refcl.oracle.measure.numbers import answer_of_none
from refcl.oracle.measure.readings import READINGS
from refcl.oracle.measure.settings import GRID, changed, nice, roots
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.question import Question
from refcl.oracle.roles import several


def _log_mean_exp(x: Any) -> Any:
    return np.log(np.mean(np.exp(x - np.max(x)))) + np.max(x)


# Of the losses of all anchors (T, N), a row a step or direction where the loss has several.
TOGETHER: dict[str, Callable[[Any], Any]] = {
    "-log of the mean probability p of the positives": lambda x: -_log_mean_exp(-x),
    "-log of the mean probability p of the positives, row by row": lambda x: np.mean([-_log_mean_exp(-y) for y in x]),
    "log of the mean of exp(L_i)": _log_mean_exp,
    "the largest": np.max,
    "their median": np.median,
    "the lower of their two medians": lambda x: np.sort(x, None)[(x.size - 1) // 2],  # torch.median
    "the root of their mean square": lambda x: np.sqrt(np.mean(x * x)),
    "the mean of their squares": lambda x: np.mean(x * x),
    "those of the first step (direction) alone": lambda x: np.mean(x[0]),
    "those of the last step (direction) alone": lambda x: np.mean(x[-1]),
}


def _of_each(f: Callable[[Any], Any], x: Any) -> Any:
    return np.mean([f(y) for y in x])


def _first(x: Any, largest: bool, count: Callable[[int], Any], kept: bool) -> Any:
    """Return the mean of as many losses, the largest or the smallest; or their sum over the number of all."""
    k = min(max(int(count(x.size)), 1), x.size)
    return np.sum(np.sort(x, None)[:: -1 if largest else 1][:k]) / (k if kept else x.size)


SHARES = dict.fromkeys(
    (0.5, 0.25, 0.75, 1 / 3, 2 / 3, *(k / 10 for k in range(1, 10)), *(k / 20 for k in range(1, 20)))
)
ROUNDED = {"rounded down": math.floor, "rounded up": math.ceil, "rounded": round}
COUNTS: dict[str, Callable[[int], Any]] = {str(k): partial(min, k) for k in range(1, 17)}
for c, (how, to) in product(SHARES, ROUNDED.items()):
    COUNTS[f"{c:.4g} N ({how})"] = lambda n, c=c, to=to: to(round(c * n, 9))  # type: ignore[misc]
for kept, largest, (number, count) in product((True, False), (True, False), COUNTS.items()):
    some = f"the {number} {'largest (hardest anchors)' if largest else 'smallest (easiest anchors)'} alone"
    some = f"the mean of {some}" if kept else f"the sum of {some}, divided by the number of all"
    TOGETHER[some] = partial(_first, largest=largest, count=count, kept=kept)
    TOGETHER[f"{some}, direction by direction"] = partial(_of_each, TOGETHER[some])


def _by_class(x: Any, labels: Any) -> Any:
    """Return the mean over the classes of the mean of each."""
    every = np.tile(labels, x.size // len(labels)) if x.size % len(labels) == 0 else None
    return np.nan if every is None else np.mean([np.mean(x.ravel()[every == c]) for c in np.unique(every)])


# What may be made of each anchor's loss, with a number that is looked for.
MADE: dict[str, Callable[[Any, float], Any]] = {
    "max(L_i, {0:g}): losses below {0:g} are cut off (clamp, ReLU)": np.maximum,
    "min(L_i, {0:g}): losses above {0:g} are cut off": np.minimum,
    "|L_i|: its sign is lost, and it may be negative": lambda x, c: np.abs(x),
    "L_i²": lambda x, c: np.square(x),
    "L_i + {0:.6g} (1 - p_i), p_i = exp(-L_i): a poly-1 term": lambda x, c: x - c * np.expm1(-x),
    "(1 - p_i^q)/q with q = {0:.6g}, p_i = exp(-L_i): a generalized cross-entropy": lambda x, c: -np.expm1(-c * x) / c,
}


def put_together(question: Question, results: list[Result]) -> Difference | None:
    """Say how the losses of the anchors are put together, where not by their mean or sum, or what is made of each."""
    apart = changed(question, reduction="none")
    results = [r for r in results if r.right.value or r.outcome.value]  # where no anchor has a positive, all is 0
    flat = [] if apart is None else [answer_of_none(apart, r) for r in results]
    if apart is None or not flat or any(x is None or not np.sum(x) for x in flat):
        return None
    shapes = [apart.under(r.probe).value_shape(r.wide, r.probe.scalar) for r in results]
    losses = [np.atleast_2d(x.reshape(shape)) for x, shape in zip(flat, shapes, strict=True)]
    around = [float(r.right.value) / float(np.mean(x)) for r, x in zip(results, losses, strict=True)]
    for how, f in TOGETHER.items():
        with np.errstate(all="ignore"):
            if values_are(results, (f(x) for x in losses)):
                return say("put together", name="log-of-mean" if how.startswith("-log") else None, how=how)
    labels = [(q.settings | q.companions(r.wide)).get("labels") for r in results for q in [question.under(r.probe)]]
    if all(y is not None for y in labels) and values_are(results, map(_by_class, losses, labels)):
        return say("put together", how="the mean of each class is taken first, and then the mean over the classes")
    k = next(k for k, r in enumerate(results) if not agrees(r.right, r.outcome, scalar=False, grads=False))

    def off(made: Callable[[Any, float], Any], c: float) -> float:
        return float(np.mean(made(losses[k], c)) * around[k] - results[k].outcome.value)

    for said, made in MADE.items() if question.recipe.inside != "uniform" else ():
        grid = np.sort([float(np.min(losses[k])) - 1, float(np.max(losses[k])) + 1, *GRID])
        with np.errstate(all="ignore"):
            numbers = (0.0, *map(nice, roots(partial(off, made), math.nan, grid))) if "{" in said else (0.0,)
        for c in numbers:
            told = (c or "/q" not in said) and np.ptp(
                np.concatenate([made(x, c).ravel() for x in losses])
            ) > 0  # no constant
            if told and values_are(results, (np.mean(made(x, c)) * a for x, a in zip(losses, around, strict=True))):
                return say("another function of each loss", made=said.format(c))
    return None


@dataclass(frozen=True)
class Logits:
    """Logits of all anchors (A, T), whose positives and candidates are which, and what they are made of."""

    sum: Any
    positives: Any  # (A, T) as a mask
    counted: Any  # (A, T); None where the logits are those of probabilities already
    scale: float
    anchors: Any = None  # (A, D) on the sphere, where both views have a row for each sample
    rows: Any = None  # (T, D) the candidates on the sphere
    views: tuple[Any, ...] = ()
    numerator: Any = None  # where that has others
    form: str = "out"  # where the mean over several positives stands

    @property
    def probabilities(self) -> Any:
        """(A, T), 0 where masked."""
        kept = np.where(self.counted | self.positives, self.sum, -np.inf)
        e = np.exp(kept - np.max(kept, axis=1, keepdims=True))
        return e / np.sum(e, axis=1, keepdims=True)

    def value(self) -> float:
        """Return the mean of the anchors' losses, 0 where there is no positive."""
        above, count = self.sum if self.numerator is None else self.numerator, np.sum(self.positives, axis=1)
        if self.form == "out":
            pulled = np.sum(np.where(self.positives, above, 0.0), axis=1) / np.maximum(count, 1)
        else:
            pulled = log_sum(above, self.positives) - (np.log(count) if self.form == "in" else 0.0)
        below = 0.0 if self.counted is None else log_sum(self.sum, self.counted)
        return float(np.mean(np.where(count > 0, below - pulled, 0.0)))


def logits_of(question: Question, r: Result) -> list[Logits]:
    """Return the logits of a softmax loss on a probe, of each step or pair of views, where it is one."""
    recipe, q = question.recipe, question.under(r.probe)
    futures = question.row.batches == "futures"
    t = 1.0 if futures else q.temperature(r.probe.scalar)
    rows = unit_rows if recipe.normalization == "rows" else np.asarray
    held = memory(question, r.wide, r.probe.companions)
    if (
        t is None
        or recipe.form == "targets"
        or recipe.inside not in (None, "decoupled", "supervised")
        or "noise" in held
    ):
        return []
    each: list[Any] = []  # similarities of all anchors (A, T), and the columns of their positives
    if futures:
        each = [(r.wide[0] @ w @ f.T, np.arange(len(r.wide[0]))) for f, w in zip(*r.wide[1:], strict=True)]
    elif question.in_a_tuple:
        each = [(x @ y.T, np.arange(len(x))) for x, y in permutations(map(rows, r.wide), 2)]
    elif "bank" in held:
        each = [(rows(r.wide[0]) @ rows(held["bank"]).T, held["index"])]
    elif "queue" in held:
        z, key = map(rows, r.wide)
        own = np.sum(z * key, axis=1, keepdims=True)
        each = [(np.hstack((own, z @ rows(held["queue"]).T)), np.zeros(len(z)))]
    if each:
        columns = np.arange(each[0][0].shape[1])
        return [Logits(s / t, columns == np.array(p)[:, None], np.ones(s.shape, bool), 1 / t) for s, p in each]
    if not recipe.walked or (recipe.inside is None and recipe.pool != "softmax"):
        return []
    s, roles, stack, _ = compared(recipe, r.wide, q.positive, q.ignore)
    roles = several(recipe, roles, q.inside(r.wide)) if recipe.inside == "supervised" else roles
    found = Logits(s / t, roles.positives, roles.candidates if recipe.in_denominator else roles.negatives, 1 / t)
    found = replace(found, form=recipe.form, rows=stack if recipe.embeddings else None)
    paired = recipe.embeddings and len(r.wide) == 2 and len(r.wide[0]) == len(r.wide[1])
    return [replace(found, anchors=stack[roles.rows], views=tuple(np.split(stack, 2))) if paired else found]


def _together(x: Logits, mean: bool) -> Logits:
    """Let each anchor's sum hold the candidates of all anchors."""
    all_, a = np.broadcast_to(np.ravel(x.sum), (len(x.sum), x.sum.size)), math.log(len(x.sum)) if mean else 0.0
    counted = np.broadcast_to(np.ravel(x.counted), all_.shape)
    return replace(x, sum=all_ - a, counted=counted, numerator=x.sum)


def _row_and_column(x: Logits, twice: bool) -> Logits | None:
    """Let each anchor's sum run over its row, and down the column of its positive, over all anchors."""
    if np.any(np.sum(x.positives, axis=1) != 1):
        return None
    columns = np.argmax(x.positives, axis=1)
    met, counted = x.sum[:, columns].T, (x.counted | x.positives)[:, columns].T
    others = counted & (twice | ~np.eye(len(met), dtype=bool))
    return replace(x, sum=np.hstack((met, x.sum)), counted=np.hstack((others, x.counted)), numerator=x.sum)


def _down(x: Logits, again: bool) -> Logits:
    """Take each entry's probability among those of its column, over all anchors, and then among those of its row."""
    shifted = x.sum - log_sum(x.sum.T, (x.counted | x.positives).T)
    return replace(x, sum=shifted, counted=x.counted if again else None)


def _standardized(x: Logits, late: bool, ddof: int, eps: float, within: bool) -> Logits:
    """Give each row of similarities (logits, where that is late) the mean 0 and the deviation 1."""
    s = np.where(x.counted | x.positives, x.sum if late else x.sum / x.scale, np.nan)
    variance = np.nanvar(s, axis=1, keepdims=True, ddof=ddof)
    s = (s - np.nanmean(s, axis=1, keepdims=True)) / (np.sqrt(variance + eps) if within else np.sqrt(variance) + eps)
    return replace(x, sum=np.nan_to_num(s if late else s * x.scale))


def _not_rescaled(x: Logits, size: int) -> Logits:
    """Add up exponentials block by block, each less the maximum of then, as if that were the last."""
    kept = np.where(x.counted, x.sum, -np.inf)
    for rows in np.split(np.arange(len(kept)), 2 if len(kept) in range(4, 999, 2) else 1):  # a direction each
        there = np.flatnonzero(np.any(x.counted[rows], axis=0))
        block = kept[np.ix_(rows, there)]
        then = np.maximum.accumulate(block, axis=1)
        last = np.minimum(np.arange(len(there)) // size * size + size, len(there)) - 1
        kept[np.ix_(rows, there)] = block - then[:, last] + then[:, -1:]
    return replace(x, sum=kept, numerator=x.sum)


def _shared_positive(x: Logits, of: Callable[[Any], Any]) -> Logits | None:
    """Give all anchors one logit of the positive."""
    if np.any(np.sum(x.positives, axis=1) != 1):
        return None
    return replace(x, sum=np.where(x.positives, of(x.sum[x.positives]), x.sum))


def _times_softmax(x: Logits, down: bool) -> Logits:
    """Multiply each logit by its probability among those of its row, or down its column."""
    turned = replace(x, sum=x.sum.T, positives=x.positives.T, counted=x.counted.T)
    return replace(x, sum=x.sum * (turned.probabilities.T if down else x.probabilities))


def _by_column(x: Logits, what: Callable[..., Any], itself: bool, both: bool) -> Logits | None:
    """Subtract of each column what was taken of the row of its number."""
    a, columns = x.sum.shape
    if columns % a:
        return None
    own = np.arange(columns) % a
    if a == columns and x.views and not np.any(x.counted[0, 1 : a // 2]):  # a matrix a direction
        own = np.roll(own, a // 2)
    kept = x.counted | x.positives | (itself & (np.arange(a)[:, None] == np.arange(columns)))
    shifted = x.sum - what(np.where(kept, x.sum, np.nan), axis=1)[own]
    return replace(x, sum=shifted, numerator=None if both else x.sum)


def _one_positive(x: Logits, brought: bool) -> Logits | None:
    """Let one logit, that of the mean of an anchor's positives, stand for all of them."""
    count = np.sum(x.positives, axis=1, keepdims=True)
    if np.max(count) < 2:
        return None
    mean = np.sum(np.where(x.positives, x.sum, 0.0), axis=1, keepdims=True) / np.maximum(count, 1)
    if brought:
        if x.rows is None:
            return None
        center = x.positives @ x.rows / np.maximum(count, 1)
        mean = mean / np.where(count > 0, np.linalg.norm(center, axis=1, keepdims=True), 1.0)
    nobody = np.zeros_like(x.positives)
    others = x.counted & ~x.positives
    return replace(
        x,
        sum=np.hstack((mean, x.sum)),
        positives=np.hstack((count > 0, nobody)),
        counted=np.hstack((count > 0, others)),
    )


def _powered(x: Logits, which: bool, power: float) -> Logits:
    """Let the logits of the positives, or of the others, have another power of the scale."""
    return replace(x, sum=np.where(x.positives == which, x.sum * x.scale ** (power - 1), x.sum))


def _read(x: Logits, of: Callable[[Any], Any]) -> Logits:
    return replace(x, sum=of(x.sum / x.scale) * x.scale)


def _prototypes(x: Logits, brought: bool, own: bool) -> Logits | None:
    """Put the means of both views where the negatives stand, and where the positive does if that is not its own."""
    if not x.views or np.any(np.sum(x.positives, axis=1) != 1):
        return None
    mean = sum(x.views) / 2
    met = x.scale * x.anchors @ (unit_rows(mean) if brought else mean).T  # (A, N)
    itself = np.arange(len(met))[:, None] % len(mean) == np.arange(len(mean))
    if not own:
        return replace(x, sum=met, positives=itself, counted=np.ones_like(itself))
    sums = np.hstack((x.sum[x.positives][:, None], met))
    first = np.broadcast_to(np.arange(sums.shape[1]) == 0, sums.shape)
    return replace(x, sum=sums, positives=first, counted=np.hstack((first[:, :1], ~itself)))


WHOLE = "entries of different anchors share one sum: {} (the whole matrix)"
SHIFTED = (
    "{} of each row is subtracted by columns (keepdim forgotten): column j is lowered by that of row j, which does not"
    " cancel in row i"
)
MEANS = "the negatives are means (centroids) of both views, (z_a + z_b)/2{}, one a sample, not the views' own rows"
SHARED = "all anchors share one logit of the positive: the {} of theirs over the batch"
CROSS = "the sum of an anchor holds its row and the column of its positive, others' similarities to it"
BLOCKS = (
    "the sum runs over blocks of {} candidates, and what was summed is not rescaled when a later block raises the"
    " maximum (online softmax)"
)
DOWN = "the softmax runs down the columns, over the anchors (the wrong axis), not over the candidates of each"
AGAIN = "the log-sum-exp of each column, over the anchors, is subtracted before the softmax of each row"
ONE = "one logit, the mean of those of an anchor's positives, stands for all of them, above and below"
PROTOTYPE = "one row, the mean of an anchor's positives brought to length 1 (a prototype), stands for all of them"
TWICE = "a softmax of the softmax"
OTHER: dict[str, Callable[[Logits], Logits | None]] = {
    TWICE: lambda x: replace(x, sum=x.probabilities),
    "-exp(l_p) stands where the positive's -l_p belongs (it is read after the exponential was taken in place)": (
        lambda x: replace(x, numerator=np.exp(x.sum))
    ),
    "-p_p stands where the positive's -l_p belongs": lambda x: replace(x, numerator=x.probabilities),
    WHOLE.format("there is one denominator for all, over all rows"): partial(_together, mean=False),
    WHOLE.format("there is one denominator for all, the mean of all rows'"): partial(_together, mean=True),
    DOWN: partial(_down, again=False),
    AGAIN: partial(_down, again=True),
    ONE: partial(_one_positive, brought=False),
    PROTOTYPE: partial(_one_positive, brought=True),
    SHARED.format("sum"): partial(_shared_positive, of=np.sum),
    SHARED.format("mean"): partial(_shared_positive, of=np.mean),
    **{
        f"{what} the {who}": partial(_powered, which=which, power=power)
        for who, which in (("positives", True), ("negatives", False))
        for what, power in (("the temperature is applied twice to", 2.0), ("√τ stands for the temperature of", 0.5))
    },
    "each logit is multiplied by its softmax over the other axis (dual softmax)": partial(_times_softmax, down=True),
    "each logit is multiplied by its softmax over its own row": partial(_times_softmax, down=False),
    CROSS: partial(_row_and_column, twice=False),
    CROSS + ", so that the positive counts twice": partial(_row_and_column, twice=True),
    **{BLOCKS.format(size): partial(_not_rescaled, size=size) for size in (1, 2, 3, 4, 8, 16)},
}
for late, ddof, within, eps in product((False, True), (0, 1), (False, True), (0.0, 1e-12, 1e-8, 1e-6, 1e-5, 1e-3)):
    said = f"{'logits' if late else 'similarities'} are standardized in each row: mean 0, {'variance' * within}"
    said += f"{'standard deviation' * (not within)}{f' (+ {eps:g})' * (eps > 0)} 1{', over M - 1' * ddof}"
    OTHER[said] = partial(_standardized, late=late, ddof=ddof, eps=eps, within=within)
for both, alone in ((True, ""), (False, "; in the denominator alone")):
    for itself, too in ((False, ""), (True, ", itself included")):
        for name, what in (("the largest logit (maximum)", np.nanmax), ("the mean logit", np.nanmean)):
            OTHER[SHIFTED.format(name + too) + alone] = partial(_by_column, what=what, itself=itself, both=both)
for brought, own in product((True, False), repeat=2):
    said = MEANS.format(", brought to length 1" * brought) + "; the positive is its own mean too" * (not own)
    OTHER[said] = partial(_prototypes, brought=brought, own=own)


READ: dict[str, Callable[[Logits], Logits | None]] = {said: partial(_read, of=f) for said, f, _ in READINGS}


def other_logits(question: Question, results: list[Result]) -> Difference | None:
    """Say what was done to the logits of a softmax loss, or what stands in their place."""
    right = [logits_of(question, r) for r in results]
    for what, change in (OTHER | READ).items() if all(right) else ():
        for parts, r in zip(right, results, strict=True):
            with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
                base, moved = sum(x.value() for x in parts), [change(x) for x in parts]
                value = sum(np.nan if x is None else x.value() for x in moved)
            # what stands around all anchors alike, such as a base temperature, is as it should be
            if not values_are([r], [value * (float(r.right.value) / base if base else 1.0)]):
                break
        else:
            if what == TWICE:
                return say("softmax again")
            return say("read otherwise", reading=what) if what in READ else say("other logits", what=what)
    return None
