"""What a figure shows, in words, and how it looks, for who cannot see it.

In:  the records of a study, its resamples and the answers to the claims.
Out: one caption and one alternative text a figure. A caption interprets: it says what the numbers mean for the claim,
and how sure they are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from refcl.experiment.objectives import OBJECTIVES
from refcl.experiment.plots.columns import MEASURES
from refcl.experiment.plots.curves import penalty_curves, shown_temperatures
from refcl.experiment.plots.embedding import embedded_columns, rows_of, similarities
from refcl.experiment.plots.look import LIMITS, Shown, families
from refcl.experiment.report.claims import AS_THERE, DIFFERS, Finding
from refcl.experiment.report.paper import HARD, SEPARATION, SOFTMAX
from refcl.experiment.report.resampling import interval
from refcl.experiment.results import Column, Record, columns, load_run, mean

MINUS = "\u2212"


class Seen(NamedTuple):
    """What captions are written from."""

    shown: Shown
    found: Mapping[str, Finding]  # by the name of the claim

    def verdict(self, claim: str) -> str:
        """Return how sure a sentence about a claim is, in brackets; nothing where it was not asked."""
        finding = self.found.get(claim)
        if finding is None:
            return ""
        words = {AS_THERE: "as in the paper", DIFFERS: "unlike the paper"}.get(
            finding.verdict, "chance could do as much"
        )
        return f" ({words}: {finding.why})" if finding.verdict in (AS_THERE, DIFFERS) else f" ({words})"


def read_relative_penalty(seen: Seen) -> str:
    """Say which share of the push the nearest tenth of evenly spread negatives carries."""
    temperatures = shown_temperatures(seen.shown.records)
    similarity, push = penalty_curves(temperatures)
    shares = [
        f"{np.sum(curve[similarity >= 0.8]) / np.sum(curve):.0%} at τ = {temperature:g}"
        for temperature, curve in zip(temperatures, push, strict=True)
    ]
    return (
        f"Of negatives spread evenly over [{MINUS}1, 1], the nearest tenth takes this share of the push: "
        f"{_and(shares)}; under the simple loss, 10%. A small τ looks at the nearest alone, a large one at all alike: "
        "what hard mining does by hand. This is the formula, not a run."
    )


def read_columns(seen: Seen) -> str:
    """Say which column is best and worst by either probe, and by how much that is more than chance."""
    by_column = columns(seen.shown.records)
    parts = []
    for field, name, _ in MEASURES[:2]:
        best, worst = (f(by_column, key=lambda c: mean(by_column[c], field)) for f in (max, min))
        parts.append(
            f"{name.removesuffix(', %')}: {best.label} is highest with {100 * mean(by_column[best], field):.1f}%, "
            f"{worst.label} lowest with {100 * mean(by_column[worst], field):.1f}%{_sure(seen, best, worst, field)}"
        )
    return f"{_capital('; '.join(parts))}. Points are means of {_seeds(seen)}, lines {_intervals(seen)}."


def _sure(seen: Seen, best: Column, worst: Column, field: str) -> str:
    places = seen.shown.evidence.resampled.places
    if best not in places or worst not in places or best == worst:
        return ""
    values = seen.shown.evidence.resampled
    low, high = interval(values.of(best, field) - values.of(worst, field))
    return f" (the difference lies between {100 * low:.1f} and {100 * high:.1f} points)"


def read_uniformity_tolerance(seen: Seen) -> str:
    """Say where each family starts and ends, and what that trades for what."""
    parts = []
    for loss in families(seen.shown.records):
        family = [(c, runs) for c, runs in columns(seen.shown.records).items() if c.loss == loss]
        if len(family) < 2:
            continue
        (first, at_first), (last, at_last) = family[0], family[-1]
        u, t = (mean(at_last, f) - mean(at_first, f) for f in ("uniformity", "tolerance"))
        way = {
            (-1, 1): "gives up uniformity for tolerance",
            (1, -1): "gives up tolerance for uniformity",
            (1, 1): "gains both",
            (-1, -1): "loses both",
        }[1 if u > 0 else -1, 1 if t > 0 else -1]
        claims = {SOFTMAX: ("uniformity falls", "tolerance rises"), HARD: ("hard is flat", "hard moves less")}.get(
            loss, ()
        )
        sure = seen.verdict(claims[0]) if claims else ""
        parts.append(
            f"From τ = {first.temperature:g} to {last.temperature:g}, {OBJECTIVES[loss].label} {way}: uniformity "
            f"{_signed(mean(at_first, 'uniformity'))} to {_signed(mean(at_last, 'uniformity'))}, tolerance "
            f"{_signed(mean(at_first, 'tolerance'))} to {_signed(mean(at_last, 'tolerance'))}"
            + (f"; that it is flat in τ: {sure.strip(' ()')}" if loss == HARD and sure else sure)
        )
    dotted = "The dotted line is the uniformity of points spread evenly over the sphere"
    limits = any(record["loss"] in LIMITS.values() for record in seen.shown.records)
    dashed = "; a dashed line is the loss that its family becomes as τ grows" if limits else ""
    return f"{'. '.join(parts)}{'. ' if parts else ''}{dotted}{dashed}. Bars and bands are {_intervals(seen)}."


def read_dilemma(seen: Seen) -> str:
    """Say which column is the most accurate, and where it stands."""
    by_column = columns(seen.shown.records)
    best, worst = (f(by_column, key=lambda c: mean(by_column[c], "few_label_accuracy")) for f in (max, min))
    return (
        f"Each point is a run{_lines(seen.shown.records)}; up is tolerant, right is uniform, and no loss "
        "without labels "
        f"is known to have both. With few labels {_stands(seen, best)} is best and {_stands(seen, worst)} worst. Pale "
        f"crosses are {_intervals(seen)}."
    )


def _lines(records: Sequence[Record]) -> str:
    """Say what the lines join, where there are any."""
    joined = [[runs for c, runs in columns(records).items() if c.loss == family] for family in families(records)]
    drawn = [family for family in joined if len(family) > 1]
    if not drawn:
        return ""
    several = any(len(runs) > 1 for family in drawn for runs in family)
    return f", lines join {'the means over the seeds of ' if several else ''}a family as τ grows"


def read_accuracy(seen: Seen) -> str:
    """Say which temperature is best by either measure, and whether the headline holds."""
    parts = []
    for field, probe, name in (
        ("linear_accuracy", "linear", "with a linear classifier"),
        ("few_label_accuracy", "few labels", "with few labels"),
    ):
        by_column = {c: runs for c, runs in columns(seen.shown.records).items() if c.temperature is not None}
        best = max(by_column, key=lambda c: mean(by_column[c], field))
        text = f"{name}, {best.label} ({100.0 * mean(by_column[best], field):.1f}%)"
        finding = seen.found.get(f"headline, {probe}")
        if finding is not None:
            text += f"; that the best hard softmax beats the best softmax: {finding.verdict}, {finding.here}"
        parts.append(text)
    return (
        f"Most accurate: {'. '.join(map(_capital, parts))}. Bars and bands are {_intervals(seen)}; the axis "
        "does not start "
        "at 0, so look at the bars before the slopes."
    )


def read_separation_training(seen: Seen) -> str:
    """Say what temperature does to the distance between the positive and the nearest negatives."""
    return _separation(seen, "_training", "training samples, as in the paper's Fig. 8") + (
        " Diamonds are the authors' means on CIFAR-100, where the positive is the sample's own entry in the bank, an "
        "average over epochs: it lies nearer than another view does."
        if _diamonds(seen)
        else ""
    )


def _diamonds(seen: Seen) -> bool:
    return seen.shown.beside_paper and any(c in SEPARATION for row in rows_of(seen.shown.records) for c, _ in row)


def read_separation(seen: Seen) -> str:
    """Say the same of samples that the encoder has not seen, and what the difference means."""
    text = _separation(seen, "", "samples it has not seen")
    records = seen.shown.records
    seen_gap, unseen_gap = (
        {c: mean(runs, f) for c, runs in columns(records).items()} for f in ("separation_training", "separation")
    )
    below = [c for c, gap in unseen_gap.items() if gap < 0.0]
    worst = min(unseen_gap, key=lambda c: unseen_gap[c] - seen_gap[c])
    lost = seen_gap[worst] - unseen_gap[worst]
    text += (
        f" The gap is smaller than among training samples where the encoder has learned those by heart: most under "
        f"{worst.label}, by {lost:.2f}."
        if lost > 0.0
        else ""
    )
    if len(below) == len(unseen_gap):
        shown = "training samples too" if max(seen_gap.values()) < 0.0 else "what it tells apart are training samples"
        text += f" In every column another sample is on average nearer than the sample's own other view: {shown}."
    elif below:
        text += f" Another sample is on average nearer than the own other view under {_and([c.label for c in below])}."
    return text


def _separation(seen: Seen, part: str, of: str) -> str:
    gaps = []
    for row in rows_of(seen.shown.records):
        for column, runs in row[:: max(1, len(row) - 1)][:2]:
            loaded = [load_run(seen.shown.folder, run, *similarities(part)) for run in runs]
            positive = np.mean(np.concatenate([run[f"positive_similarity{part}"] for run in loaded]))
            nearest = np.mean(np.concatenate([run[f"nearest{part}"] for run in loaded])[:, 0])
            gaps.append(f"{_signed(positive - nearest)} ({column.label})")
    claim = seen.verdict("separation falls") if part else ""
    return (
        f"Mean similarity of the positive less that of the nearest negative, {of}: {'; '.join(gaps)}. The "
        "smaller τ, the more "
        f"the loss pushes the nearest away{claim}. Boxes hold the middle half, whiskers reach from the 5th to the 95th "
        "percentile of the anchors."
    )


def read_embedding(seen: Seen) -> str:
    """Say how the pictures came about."""
    return (
        "Held-out samples as their labels, on the first two principal axes of the embedding of their own panel: "
        "positions in one panel say nothing about another, and what the two axes leave out is not seen. A "
        "smaller share "
        "of the variance in two axes is a more uniform embedding."
    )


READINGS: dict[str, Callable[[Seen], str]] = {
    "relative-penalty.png": read_relative_penalty,
    "columns.png": read_columns,
    "uniformity-tolerance.png": read_uniformity_tolerance,
    "dilemma.png": read_dilemma,
    "accuracy.png": read_accuracy,
    "local-separation-training.png": read_separation_training,
    "local-separation.png": read_separation,
    "embedding.png": read_embedding,
}


# --- for who cannot see them ---


def alternative(file: str, seen: Seen) -> str:
    """Return what is to be seen in a figure, with its numbers."""
    return ALTERNATIVES[file](seen)


def _alternative_penalty(seen: Seen) -> str:
    at = ", ".join(f"{t:g}" for t in shown_temperatures(seen.shown.records))
    return (
        f"Curves that rise from left to right, the push on a negative against its similarity from {MINUS}1 to "
        "1, one for "
        f"each τ of {at}: the smaller τ, the flatter at 0 and the steeper at the right end. A dashed level at "
        "1: the simple loss."
    )


def _alternative_columns(seen: Seen) -> str:
    rows = [
        f"{c.label} {100 * mean(r, 'linear_accuracy'):.1f}%, {100 * mean(r, 'few_label_accuracy'):.1f}%, "
        f"{_signed(mean(r, 'uniformity'))}, {_signed(mean(r, 'tolerance'))}"
        for c, r in columns(seen.shown.records).items()
    ]
    return "Four rows of points with intervals, a line a loss: linear accuracy, few labels, uniformity, tolerance. " + (
        "; ".join(rows) + "."
    )


def _curves(seen: Seen, fields: Sequence[tuple[str, str, float]]) -> str:
    parts = []
    for field, name, scale in fields:
        for loss in families(seen.shown.records):
            rows = [(c, runs) for c, runs in columns(seen.shown.records).items() if c.loss == loss]
            values = ", ".join(f"{_signed(scale * mean(runs, field))} at {c.temperature:g}" for c, runs in rows)
            parts.append(f"{name}, {OBJECTIVES[loss].label}: {values}")
    beside = " Below, the authors' curves on CIFAR-10." if seen.shown.beside_paper else ""
    return f"Two panels of lines against τ on a logarithmic axis. {'; '.join(parts)}.{beside}"


def _alternative_dilemma(seen: Seen) -> str:
    rows = [f"{c.label} at {_place(r)}" for c, r in columns(seen.shown.records).items()]
    return f"Points in a plane, uniformity to the right and tolerance upwards, coloured by accuracy: {'; '.join(rows)}."


def _alternative_separation(part: str) -> Callable[[Seen], str]:
    def words(seen: Seen) -> str:
        rows = [
            f"{c.label} {_signed(mean(r, f'separation{part}'))}" for row in rows_of(seen.shown.records) for c, r in row
        ]
        return (
            "A panel a column; in each a green box for the positive at the left and grey boxes for the "
            "nearest negatives, which "
            f"sink to the right. The green box above the first grey one, in the mean: {'; '.join(rows)}."
        )

    return words


def _alternative_embedding(seen: Seen) -> str:
    names = ", ".join(c.label for c, _ in embedded_columns(seen.shown.records))
    return f"Clouds of labels in two dimensions, one colour a class: before training, then {names}."


ALTERNATIVES: dict[str, Callable[[Seen], str]] = {
    "relative-penalty.png": _alternative_penalty,
    "columns.png": _alternative_columns,
    "uniformity-tolerance.png": lambda seen: _curves(
        seen, [("uniformity", "uniformity", 1.0), ("tolerance", "tolerance", 1.0)]
    ),
    "dilemma.png": _alternative_dilemma,
    "accuracy.png": lambda seen: _curves(
        seen, [("linear_accuracy", "linear, %", 100.0), ("few_label_accuracy", "few labels, %", 100.0)]
    ),
    "local-separation-training.png": _alternative_separation("_training"),
    "local-separation.png": _alternative_separation(""),
    "embedding.png": _alternative_embedding,
}


# --- words ---


def _seeds(seen: Seen) -> str:
    count = len(seen.shown.evidence.seeds)
    return f"{count} seeds" if count > 1 else "one seed"


def _intervals(seen: Seen) -> str:
    if len(seen.shown.evidence.seeds) > 1:
        return "95% intervals over seeds and samples"
    return "95% intervals over samples alone, since one seed says nothing about another"


def _stands(seen: Seen, column: Column) -> str:
    runs = columns(seen.shown.records)[column]
    return f"{column.label} ({100.0 * mean(runs, 'few_label_accuracy'):.1f}%, {_place(runs)})"


def _place(runs: Sequence[Record]) -> str:
    return f"uniformity {_signed(mean(runs, 'uniformity'))}, tolerance {_signed(mean(runs, 'tolerance'))}"


def _signed(number: float) -> str:
    return f"{round(float(number), 2) + 0.0:.2f}".replace("-", MINUS)  # + 0.0: no minus before a zero


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
