"""What the paper claims, asked of a study.

In:  the measures of a study's columns and their resamples.
Out: every claim of the paper's section 5 and Table 1 that such runs can speak to, those that fail among them: the
numbers there, the numbers here, and a verdict with its evidence. The list was written before the runs. One function per
claim reads both sides, so neither is retold.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refcl.experiment.report.paper import CIFAR10, HARD, HARD_SIMPLE, SEPARATION, SIMPLE, SOFTMAX
from refcl.experiment.report.resampling import Resampled, Values, holm, interval, p_value
from refcl.experiment.results import Column

LARGE = 0.7  # where the paper's softmax is past its best, a temperature is large
FLAT = 0.1  # hard softmax is flat where its uniformity moves by less than this share of what softmax's moves
SIGNIFICANT = 0.05
AS_THERE, DIFFERS, CANNOT_TELL = "as there", "differs", "cannot tell"
PROBES = {"linear_accuracy": "linear", "few_label_accuracy": "few labels"}

Floats = NDArray[np.float64]


class Outcome(NamedTuple):
    """The answer to a claim in every resample."""

    margin: Floats  # (R,) > 0 where the claim holds, in the units of what it compares
    numbers: str  # of the first


class Claim(NamedTuple):
    """A claim of the paper as a question to any set of columns."""

    name: str
    sentence: str
    where: str  # in the paper
    ask: Callable[[Values, str], Outcome | None]  # None where a column that it needs was not run
    measure: str = ""  # "" where it is about accuracy, and asked of both probes


class Finding(NamedTuple):
    """The answer of a study to a claim."""

    name: str
    sentence: str
    where: str
    there: str  # the numbers of the paper
    here: str
    margin: float
    low: float  # the interval of the margin
    high: float
    p: float  # adjusted for the number of claims
    seeds: str  # such as "3 of 3 seeds"
    verdict: str
    why: str


def findings(study: Resampled) -> list[Finding]:
    """Return the answer to every claim that a study has the runs to look at.

    Parameters
    ----------
    study : Resampled
        Of `refcl.experiment.report.resampling.resample`.

    Returns
    -------
    list of Finding
        In the order of `CLAIMS`; claims about accuracy come twice, for the linear classifier and for few labels.

    Notes
    -----
    A verdict needs three things: more than one seed; every seed on its own on the same side; and p < .05 after Holm's
    correction for all claims that were asked. Whatever lacks one is "cannot tell". Where a claim is about the best of
    several columns, the best is chosen on one half of the samples and judged on the other, in every resample anew.
    """
    asked = []
    for claim in CLAIMS:
        for measure in [claim.measure] if claim.measure else list(PROBES):
            there, here = claim.ask(_papers(measure), measure), claim.ask(study.measured, measure)
            if there is None or here is None:
                continue
            by_seed, resampled = claim.ask(study.by_seed, measure), claim.ask(study.resampled, measure)
            assert by_seed is not None
            assert resampled is not None
            asked.append((claim, measure, there, here, by_seed.margin, resampled.margin))
    adjusted = holm([p_value(margins) for *_, margins in asked])
    found = []
    for (claim, measure, there, here, each, resampled_margin), p in zip(asked, adjusted, strict=True):
        margin, (low, high) = float(here.margin[0]), interval(resampled_margin)
        verdict, why = _verdict(margin, each, p)
        probe = f" ({PROBES[measure]})" if not claim.measure else ""
        name = claim.name if claim.measure else f"{claim.name}, {PROBES[measure]}"
        agreed = int(np.sum(np.sign(each) == np.sign(margin)))
        found.append(
            Finding(
                *(name, claim.sentence + probe, claim.where, there.numbers, here.numbers, margin, low, high, p),
                *(f"{agreed} of {each.size} {'seed' if each.size == 1 else 'seeds'}", verdict, why),
            )
        )
    return found


def _verdict(margin: float, by_seed: Floats, p: float) -> tuple[str, str]:
    if by_seed.size == 1:
        return CANNOT_TELL, "one seed says nothing about another"
    agreed = int(np.sum(np.sign(by_seed) == np.sign(margin)))
    if agreed < by_seed.size:
        return CANNOT_TELL, f"seeds disagree: {agreed} of {by_seed.size} on this side"
    if p >= SIGNIFICANT:
        return CANNOT_TELL, f"chance would do as much (p = {p:.2g} after Holm)"
    evidence = f"all {by_seed.size} seeds, p = {p:.2g} after Holm"
    return (AS_THERE if margin > 0.0 else DIFFERS), evidence


def _papers(measure: str) -> Values:
    """Return what the paper measured, as if its halves were alike; its accuracies stand for both probes."""
    if measure in ("separation_training", "positive_training"):
        rows = {
            c: s.positive - s.nearest if measure == "separation_training" else s.positive for c, s in SEPARATION.items()
        }
    else:
        field = "accuracy" if measure in PROBES else measure
        rows = {c: getattr(m, field) for c, m in CIFAR10.items()}
    table = np.array(list(rows.values()))
    return Values({c: k for k, c in enumerate(rows)}, {measure: np.tile(table, (1, 2, 1))}, np.array([0.5, 0.5]))


# --- what claims are made of ---


def _family(values: Values, loss: str) -> list[Column]:
    return sorted((c for c in values.places if c.loss == loss and c.temperature is not None), key=_temperature)


def _temperature(column: Column) -> float:
    return column.temperature or 0.0


def _best(values: Values, chosen: Sequence[Column], measure: str, sign: float = 1.0) -> tuple[Floats, Column]:
    """Return the best of some columns, chosen on one half and judged on the other, (R,), and which it is in all."""
    halves = sign * values.halves(chosen, measure)  # (R, 2, columns)
    pick = np.argmax(halves, axis=2)  # (R, 2)
    judged = np.take_along_axis(halves, pick[:, ::-1, None], axis=2)[..., 0]  # each half by the other's choice
    whole = [values.of(c, measure)[0] for c in chosen]
    return sign * (judged @ values.share), chosen[int(np.argmax(sign * np.array(whole)))]


def _shown(values: Values, column: Column, measure: str, *, at: bool = True) -> str:
    value = float(values.of(column, measure)[0])
    text = f"{100.0 * value:.1f}%" if measure in PROBES else f"{round(value, 3) + 0.0:.3g}".replace("-", "−")
    return f"{text} at τ = {column.temperature:g}" if at and column.temperature is not None else text


def _ends(values: Values, measure: str, loss: str, direction: float) -> Outcome | None:
    family = _family(values, loss)
    if len(family) < 2:
        return None
    first, last = family[0], family[-1]
    margin = direction * (values.of(last, measure) - values.of(first, measure))
    return Outcome(margin, f"{_shown(values, first, measure)}, {_shown(values, last, measure)}")


def _pair(values: Values, measure: str, better: Column, worse: Column) -> Outcome | None:
    if not {better, worse} <= values.places.keys():
        return None
    at = f" at τ = {better.temperature:g}" if better.temperature and worse.temperature else ""
    numbers = f"{_shown(values, better, measure, at=False)} against {_shown(values, worse, measure, at=False)}{at}"
    return Outcome(values.of(better, measure) - values.of(worse, measure), numbers)


def _shared(values: Values) -> list[float]:
    soft, hard = ({c.temperature for c in _family(values, loss)} for loss in (SOFTMAX, HARD))
    return sorted(t for t in soft & hard if t is not None)


# --- the claims ---


def falls(values: Values, measure: str) -> Outcome | None:
    """Ask whether a measure of softmax is smaller at its largest temperature than at its smallest."""
    return _ends(values, measure, SOFTMAX, -1.0)


def rises(values: Values, measure: str) -> Outcome | None:
    """Ask whether a measure of softmax is larger at its largest temperature than at its smallest."""
    return _ends(values, measure, SOFTMAX, 1.0)


def best_between(values: Values, measure: str) -> Outcome | None:
    """Ask whether softmax is best strictly between its smallest and its largest temperature."""
    family = _family(values, SOFTMAX)
    if len(family) < 3:
        return None
    (inside, best), (outside, end) = (_best(values, part, measure) for part in (family[1:-1], [family[0], family[-1]]))
    return Outcome(inside - outside, f"{_shown(values, best, measure)}, {_shown(values, end, measure)}")


def simple_below(values: Values, measure: str) -> Outcome | None:
    """Ask whether the simple loss has less of a measure than softmax at any temperature."""
    return _simple_and_softmax(values, measure, -1.0)


def simple_above(values: Values, measure: str) -> Outcome | None:
    """Ask whether the simple loss has more of a measure than softmax at any temperature."""
    return _simple_and_softmax(values, measure, 1.0)


def _simple_and_softmax(values: Values, measure: str, direction: float) -> Outcome | None:
    simple, family = Column(SIMPLE, None), _family(values, SOFTMAX)
    if simple not in values.places or not family:
        return None
    nearest, which = _best(values, family, measure, direction)
    margin = direction * (values.of(simple, measure) - nearest)
    return Outcome(margin, f"{_shown(values, simple, measure)}; softmax {_shown(values, which, measure)}")


def simple_is_worst(values: Values, measure: str) -> Outcome | None:
    """Ask whether the simple loss is the worst of the paper's columns."""
    simple = Column(SIMPLE, None)
    others = [c for c in values.places if c.loss in (SOFTMAX, HARD, HARD_SIMPLE)]
    if simple not in values.places or not others:
        return None
    lowest, which = _best(values, others, measure, -1.0)
    numbers = (
        f"{_shown(values, simple, measure)}; lowest other {_shown(values, which, measure, at=False)} ({which.label})"
    )
    return Outcome(lowest - values.of(simple, measure), numbers)


def hard_moves_less(values: Values, measure: str) -> Outcome | None:
    """Ask whether temperature moves a measure less with the hardest negatives than without."""
    ranges = _ranges(values, measure)
    return None if ranges is None else Outcome(ranges[0] - ranges[1], _moved(ranges))


def hard_is_flat(values: Values, measure: str) -> Outcome | None:
    """Ask whether temperature moves a measure next to nothing with the hardest negatives."""
    ranges = _ranges(values, measure)
    return None if ranges is None else Outcome(FLAT * ranges[0] - ranges[1], _moved(ranges))


def _ranges(values: Values, measure: str) -> tuple[Floats, Floats] | None:
    families = [_family(values, loss) for loss in (SOFTMAX, HARD)]
    if min(map(len, families)) < 2:
        return None
    soft, hard = (_best(values, f, measure)[0] - _best(values, f, measure, -1.0)[0] for f in families)
    return soft, hard


def _moved(ranges: tuple[Floats, Floats]) -> str:
    return f"hard moves by {ranges[1][0]:.2f}, softmax by {ranges[0][0]:.2f}"


def hard_above_at_large(values: Values, measure: str) -> Outcome | None:
    """Ask whether hard softmax has more of a measure at the largest temperature that both ran at, if that is large."""
    t = max(_shared(values), default=0.0)
    return None if t < LARGE else _pair(values, measure, Column(HARD, t), Column(SOFTMAX, t))


def hard_below_at_large(values: Values, measure: str) -> Outcome | None:
    """Ask whether hard softmax has less of a measure at the largest temperature that both ran at, if that is large."""
    t = max(_shared(values), default=0.0)
    return None if t < LARGE else _pair(values, measure, Column(SOFTMAX, t), Column(HARD, t))


def soft_above_at_small(values: Values, measure: str) -> Outcome | None:
    """Ask whether softmax beats hard softmax at the smallest temperature that both ran at, if that is small."""
    t = min(_shared(values), default=1.0)
    return None if t > 0.1 else _pair(values, measure, Column(SOFTMAX, t), Column(HARD, t))


def hard_separates_more(values: Values, measure: str) -> Outcome | None:
    """Ask the same of a temperature in the middle, the largest up to .5 that both ran at."""
    t = max((t for t in _shared(values) if 0.2 <= t <= 0.5), default=None)
    return None if t is None else _pair(values, measure, Column(HARD, t), Column(SOFTMAX, t))


def hard_rises(values: Values, measure: str) -> Outcome | None:
    """Ask whether hard softmax is better at its largest temperature than at its smallest."""
    return _ends(values, measure, HARD, 1.0)


def best_hard_beats_best(values: Values, measure: str) -> Outcome | None:
    """Ask the headline: whether the best of the hard softmax beats the best of the ordinary one."""
    soft, hard = _family(values, SOFTMAX), _family(values, HARD)
    if not soft or not hard:
        return None
    (best_hard, h), (best_soft, s) = (_best(values, family, measure) for family in (hard, soft))
    numbers = f"{_shown(values, h, measure)} against {_shown(values, s, measure)}"
    return Outcome(best_hard - best_soft, numbers)


def hard_rescues_simple(values: Values, measure: str) -> Outcome | None:
    """Ask whether the simple loss is better on the hardest negatives alone."""
    return _pair(values, measure, Column(HARD_SIMPLE, None), Column(SIMPLE, None))


def hard_simple_beats_best(values: Values, measure: str) -> Outcome | None:
    """Ask whether the simple loss on the hardest negatives beats the best of softmax."""
    simple, family = Column(HARD_SIMPLE, None), _family(values, SOFTMAX)
    if simple not in values.places or not family:
        return None
    best, which = _best(values, family, measure)
    numbers = f"{_shown(values, simple, measure)} against {_shown(values, which, measure)}"
    return Outcome(values.of(simple, measure) - best, numbers)


def above_zero(values: Values, measure: str) -> Outcome | None:
    """Ask whether a measure of softmax is above zero at its smallest temperature, if that is small."""
    family = _family(values, SOFTMAX)
    if not family or _temperature(family[0]) > 0.1:
        return None
    return Outcome(values.of(family[0], measure), _shown(values, family[0], measure))


_U, _T, _S, _P = "uniformity", "tolerance", "separation_training", "positive_training"
CLAIMS = (
    Claim(
        "headline", "The best hard softmax beats the best softmax", "abstract, 5.4, Fig. 9", best_hard_beats_best
    ),
    Claim("uniformity falls", "The larger the temperature, the less uniform is softmax", "5.2, Fig. 4", falls, _U),
    Claim("tolerance rises", "… and the more tolerant", "5.2, Fig. 5", rises, _T),
    Claim(
        "simple is the least uniform", "The simple loss is less uniform than any softmax", "Table 1", simple_below, _U
    ),
    Claim("simple is the most tolerant", "… and more tolerant", "Table 1", simple_above, _T),
    Claim(
        "hard moves less", "Temperature moves the uniformity of hard softmax less", "5.2, Fig. 6", hard_moves_less, _U
    ),
    Claim(
        "hard is flat", "… by less than a tenth of what softmax moves: it is flat", "5.2, Fig. 6", hard_is_flat, _U
    ),
    Claim(
        "hard is uniform", "At large temperature, hard softmax is more uniform", "5.2, Fig. 6", hard_above_at_large, _U
    ),
    Claim("hard is not tolerant", "… and less tolerant", "Fig. 7, Table 1", hard_below_at_large, _T),
    Claim("between", "Softmax is most accurate at a temperature in between", "5.4, Fig. 9", best_between),
    Claim("hard at large", "At large temperature, hard softmax beats softmax", "5.4, Fig. 9", hard_above_at_large),
    Claim("hard at small", "At small temperature it does not", "Table 1", soft_above_at_small),
    Claim("hard rises", "Hard softmax is better at its largest temperature than at its smallest", "Fig. 9", hard_rises),
    Claim("simple is worst", "The simple loss is the least accurate of all", "5.5, Table 1", simple_is_worst),
    Claim("hard mends simple", "… and the hardest negatives alone mend it", "5.5, Table 1", hard_rescues_simple),
    Claim(
        "hard simple beats the best", "… so far that it beats the best softmax", "5.5, Table 1", hard_simple_beats_best
    ),
    Claim(
        "separation falls", "The larger the temperature, the less the positive stands above the nearest negative",
        "5.3, Fig. 8", falls, _S,
    ),
    Claim("separation", "At small temperature the positive stands above it", "5.3, Fig. 8", above_zero, _S),
    Claim("alignment", "The larger the temperature, the nearer the positive", "5.3, Fig. 8", rises, _P),
    Claim("hard separates", "Hard softmax separates more than softmax", "5.3, Fig. 8", hard_separates_more, _S),
)  # fmt: skip


def as_json(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return findings as JSON keeps them, in ``claims.json``."""
    return [finding._asdict() for finding in found]
