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
from refcl.oracle.measure.settings import changed, nice
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.question import Question
from refcl.oracle.roles import several
from refcl.oracle.roots import root


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


# What may be made of each anchor's loss, with a number that is looked for.
MADE: dict[str, Callable[[Any, float], Any]] = {
    "max(L_i, {0:g}): losses below {0:g} are cut off (clamp, ReLU)": np.maximum,
    "min(L_i, {0:g}): losses above {0:g} are cut off": np.minimum,
    "|L_i|: its sign is lost, and it may be negative": lambda x, c: np.abs(x),
    "L_i²": lambda x, c: np.square(x),
}


def put_together(question: Question, results: list[Result]) -> Difference | None:
    """Say how the losses of the anchors are put together, where not by their mean or sum, or what is made of each."""
    apart = changed(question, reduction="none")
    flat = [] if apart is None else [answer_of_none(apart, r) for r in results]
    if apart is None or any(x is None or not np.sum(x) for x in flat):
        return None
    shapes = [apart.under(r.probe).value_shape(r.wide, r.probe.scalar) for r in results]
    losses = [np.atleast_2d(x.reshape(shape)) for x, shape in zip(flat, shapes, strict=True)]
    around = [float(r.right.value) / float(np.mean(x)) for r, x in zip(results, losses, strict=True)]
    for how, f in TOGETHER.items():
        with np.errstate(all="ignore"):
            if values_are(results, (f(x) for x in losses)):
                return say("put together", name="log-of-mean" if how.startswith("-log") else None, how=how)
    k = next(k for k, r in enumerate(results) if not agrees(r.right, r.outcome, scalar=False, grads=False))

    def off(made: Callable[[Any, float], Any], c: float) -> float:
        return float(np.mean(made(losses[k], c)) * around[k] - results[k].outcome.value)

    for said, made in MADE.items() if question.recipe.inside != "uniform" else ():
        low, high = float(np.min(losses[k])) - 1, float(np.max(losses[k])) + 1
        for c in (0.0, nice(root(partial(off, made), low, high))) if "{" in said else (0.0,):
            told = math.isfinite(c) and np.ptp(np.concatenate([made(x, c).ravel() for x in losses])) > 0  # no constant
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
    found = replace(found, form=recipe.form)
    paired = recipe.embeddings and len(r.wide) == 2 and len(r.wide[0]) == len(r.wide[1])
    return [replace(found, anchors=stack[roles.rows], views=tuple(np.split(stack, 2))) if paired else found]


def _together(x: Logits, mean: bool) -> Logits:
    """Let each anchor's sum hold the candidates of all anchors."""
    all_, a = np.broadcast_to(np.ravel(x.sum), (len(x.sum), x.sum.size)), math.log(len(x.sum)) if mean else 0.0
    counted = np.broadcast_to(np.ravel(x.counted), all_.shape)
    return replace(x, sum=all_ - a, counted=counted, numerator=x.sum)


def _row_and_column(x: Logits) -> Logits | None:
    """Let each anchor's sum run over its row, and down the column of its positive, over all anchors."""
    if np.any(np.sum(x.positives, axis=1) != 1):
        return None
    columns = np.argmax(x.positives, axis=1)
    met, counted = x.sum[:, columns].T, (x.counted | x.positives)[:, columns].T
    others = counted & ~np.eye(len(met), dtype=bool)
    return replace(x, sum=np.hstack((met, x.sum)), counted=np.hstack((others, x.counted)), numerator=x.sum)


def _down(x: Logits) -> Logits:
    """Take each entry's probability among those of its column, over all anchors."""
    return replace(x, sum=x.sum - log_sum(x.sum.T, (x.counted | x.positives).T), counted=None)


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


def _one_positive(x: Logits) -> Logits | None:
    """Let one logit, the mean of those of an anchor's positives, stand for all of them."""
    count = np.sum(x.positives, axis=1, keepdims=True)
    if np.max(count) < 2:
        return None
    mean = np.sum(np.where(x.positives, x.sum, 0.0), axis=1, keepdims=True) / np.maximum(count, 1)
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
OTHER: dict[str, Callable[[Logits], Logits | None]] = {
    WHOLE.format("there is one denominator for all, over all rows"): partial(_together, mean=False),
    WHOLE.format("there is one denominator for all, the mean of all rows'"): partial(_together, mean=True),
    "the softmax runs down the columns, over the anchors (the wrong axis), not over the candidates of each": _down,
    **{
        f"{what} the {who}": partial(_powered, which=which, power=power)
        for who, which in (("positives", True), ("negatives", False))
        for what, power in (("the temperature is applied twice to", 2.0), ("√τ stands for the temperature of", 0.5))
    },
    "one logit, the mean of those of an anchor's positives, stands for all of them, above and below": _one_positive,
    "each logit is multiplied by its softmax over the other axis (dual softmax)": partial(_times_softmax, down=True),
    "each logit is multiplied by its softmax over its own row": partial(_times_softmax, down=False),
    "the sum of an anchor holds its row and the column of its positive, others' similarities to it": _row_and_column,
}
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
            return say("read otherwise", reading=what) if what in READ else say("other logits", what=what)
    return None
