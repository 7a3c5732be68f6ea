"""What the paper found, asked of a study.

In:  the means of a study's columns.  Out: each of the paper's findings with the numbers of its CIFAR-10 row, the same
numbers here, and whether they point the same way. One function per finding reads both, so neither side is retold.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean
from typing import NamedTuple, TypeAlias

from refcl.experiment.paper import CIFAR10, Column, Measured, Record, columns, mean

LARGE = 0.7  # where the paper's softmax is past its best, a temperature is large

Means: TypeAlias = Mapping[Column, Measured]


class Outcome(NamedTuple):
    margin: float  # > 0 where the claim holds, in the units of what it compares
    numbers: str


class Claim(NamedTuple):
    """A finding of the paper as a question to any set of columns."""

    sentence: str
    ask: Callable[[Means], Outcome | None]  # None where a column that it needs was not run
    about_accuracy: bool = False


class Finding(NamedTuple):
    sentence: str
    paper: str  # the numbers of CIFAR-10
    here: str
    verdict: str  # "as there", "differs", or "too close to tell"


def findings(records: Iterable[Record], held_out: int) -> list[Finding]:
    """Return the paper's findings that a study has the runs to look at.

    Parameters
    ----------
    records : iterable of mapping
        Records of a study; several seeds of one column are averaged.
    held_out : int
        How many samples the accuracies were measured on.

    Returns
    -------
    list of Finding
        Claims about accuracy come twice, for the linear classifier and for few labels.

    Notes
    -----
    Means are compared as they are. Accuracies closer than one `standard_error` are too close to tell; uniformity and
    tolerance are not sampled in this sense, and always get a verdict.
    """
    by_column = columns(records)
    found = []
    for claim in CLAIMS:
        fields = (("linear_accuracy", "linear"), ("few_label_accuracy", "few labels"))
        for field, name in fields if claim.about_accuracy else fields[:1]:
            means = {
                c: Measured(mean(runs, field), mean(runs, "uniformity"), mean(runs, "tolerance"))
                for c, runs in by_column.items()
            }
            paper, here = claim.ask(CIFAR10), claim.ask(means)
            if paper is None or here is None:
                continue
            sentence = f"{claim.sentence} ({name})" if claim.about_accuracy else claim.sentence
            noise = standard_error(means, held_out) if claim.about_accuracy else 0.0
            found.append(Finding(sentence, paper.numbers, here.numbers, _verdict(here.margin, noise)))
    return found


def standard_error(means: Means, held_out: int) -> float:
    """Return how far chance moves an accuracy: that of a proportion, at the mean accuracy of the columns."""
    p = fmean(m.accuracy for m in means.values())
    return math.sqrt(p * (1.0 - p) / held_out)


def _verdict(margin: float, noise: float) -> str:
    if abs(margin) < noise:
        return "too close to tell"
    return "as there" if margin > 0.0 else "differs"


def uniformity_falls(means: Means) -> Outcome | None:
    """Ask whether softmax is less uniform at its largest temperature than at its smallest."""
    return _moves(means, "uniformity", -1.0)


def tolerance_rises(means: Means) -> Outcome | None:
    """Ask whether softmax is more tolerant at its largest temperature than at its smallest."""
    return _moves(means, "tolerance", 1.0)


def best_between(means: Means) -> Outcome | None:
    """Ask whether softmax is most accurate strictly between its smallest and its largest temperature."""
    family = _family(means, "softmax")
    if len(family) < 3:
        return None
    ends = [family[t].accuracy for t in (min(family), max(family))]
    between = [m.accuracy for t, m in family.items() if min(family) < t < max(family)]
    best = max(family, key=lambda t: family[t].accuracy)
    return Outcome(max(between) - max(ends), f"{_percent(family[best])} at τ = {best:g}")


def hard_is_flat(means: Means) -> Outcome | None:
    """Ask whether uniformity varies less over temperature with the hardest negatives than without."""
    ranges = []
    for loss in ("softmax", "hard-softmax"):
        values = [m.uniformity for m in _family(means, loss).values()]
        if len(values) < 2:
            return None
        ranges.append(max(values) - min(values))
    return Outcome(ranges[0] - ranges[1], f"varies by {ranges[1]:.2f}, softmax by {ranges[0]:.2f}")


def hard_is_better(means: Means) -> Outcome | None:
    """Ask whether hard softmax is the more accurate at the largest temperature that both ran at, if that is large."""
    soft, hard = _family(means, "softmax"), _family(means, "hard-softmax")
    shared = soft.keys() & hard.keys()
    t = max(shared, default=0.0)
    if t < LARGE:
        return None
    margin = hard[t].accuracy - soft[t].accuracy
    return Outcome(margin, f"{_percent(hard[t])} against {_percent(soft[t])} at τ = {t:g}")


def simple_is_worst(means: Means) -> Outcome | None:
    """Ask whether the simple loss is the least accurate of all columns."""
    simple = means.get(Column("simple", None))
    others = {c: m for c, m in means.items() if c.loss != "simple"}
    if simple is None or not others:
        return None
    second = min(others, key=lambda c: others[c].accuracy)
    margin = others[second].accuracy - simple.accuracy
    return Outcome(margin, f"{_percent(simple)}; lowest other {_percent(others[second])} ({second.label})")


def hard_rescues_simple(means: Means) -> Outcome | None:
    """Ask whether the simple loss is the more accurate on the hardest negatives alone."""
    simple, hard = means.get(Column("simple", None)), means.get(Column("hard-simple", None))
    if simple is None or hard is None:
        return None
    return Outcome(hard.accuracy - simple.accuracy, f"{_percent(hard)} against {_percent(simple)}")


CLAIMS = (
    Claim("The larger the temperature, the less uniform is softmax", uniformity_falls),
    Claim("… and the more tolerant", tolerance_rises),
    Claim("Softmax is most accurate at a temperature in between", best_between, about_accuracy=True),
    Claim("Temperature moves the uniformity of hard softmax less", hard_is_flat),
    Claim("At large temperature, hard softmax beats softmax", hard_is_better, about_accuracy=True),
    Claim("The simple loss is the least accurate of all", simple_is_worst, about_accuracy=True),
    Claim("… and the hardest negatives alone mend it", hard_rescues_simple, about_accuracy=True),
)


def _family(means: Means, loss: str) -> dict[float, Measured]:
    return {c.temperature: m for c, m in means.items() if c.loss == loss and c.temperature is not None}


def _moves(means: Means, field: str, direction: float) -> Outcome | None:
    family = _family(means, "softmax")
    if len(family) < 2:
        return None
    low, high = min(family), max(family)
    first, last = getattr(family[low], field), getattr(family[high], field)
    return Outcome(direction * (last - first), f"{first:.2f} at τ = {low:g}, {last:.2f} at τ = {high:g}")


def _percent(measured: Measured) -> str:
    return f"{100.0 * measured.accuracy:.1f}%"
