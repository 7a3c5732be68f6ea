"""How much chance there is in a number.

In:  the records of a study and the arrays of its runs.
Out: every measure of every column, as it was measured and in many resamples: seeds are drawn first, with replacement,
then samples within each drawn seed. All columns see the same draws, so that differences between them are paired.
``scipy.stats.bootstrap`` resamples at one level only, so the draws are made here; what they are weighed with is exact
for means, and every measure is one: see `refcl.experiment.evaluate`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refcl.experiment.results import Column, Record, columns, load_run
from refcl.experiment.seeding import generator

RESAMPLES = 4999
BLOCKS = 600  # samples are put together to at most so many: a mean of random blocks varies as the mean of the samples
LEVEL = 0.95  # of intervals

Floats = NDArray[np.float64]
Scores = Callable[[Mapping[str, Any]], Floats]


class Measure(NamedTuple):
    """A number of a run as a function of a mean over samples."""

    unit: str  # measures of one unit are resampled together
    scores: Scores  # arrays of a run -> (samples,)
    of_mean: Callable[[Floats], Floats]


def _same(mean: Floats) -> Floats:
    return mean


def _minus_log(mean: Floats) -> Floats:
    return np.asarray(-np.log(np.maximum(mean, 1e-300)))


MEASURES = {
    "linear_accuracy": Measure("held out", lambda run: run["linear_correct"], _same),
    "few_label_accuracy": Measure("held out", lambda run: run["few_label_correct"], _same),
    "uniformity": Measure("held out", lambda run: run["uniformity_score"], _minus_log),
    "tolerance": Measure("held out", lambda run: run["tolerance_score"], _same),
    "separation": Measure("anchors", lambda run: run["positive_similarity"] - run["nearest"][:, 0], _same),
    "separation_training": Measure(
        "training", lambda run: run["positive_similarity_training"] - run["nearest_training"][:, 0], _same
    ),
    "positive_training": Measure("training", lambda run: run["positive_similarity_training"], _same),
}

SCORED = [f"{name}{part}" for part in ("", "_training") for name in ("positive_similarity", "nearest")]
SCORED += ["linear_correct", "few_label_correct", "uniformity_score", "tolerance_score"]  # what the measures read


class Values(NamedTuple):
    """Measures by column, each on two halves of the samples: what is chosen on one is judged on the other."""

    places: dict[Column, int]
    table: dict[str, Floats]  # of each measure, (R, 2, columns)
    share: Floats  # (2,) of the samples that are in each half

    def of(self, column: Column, measure: str) -> Floats:
        """Return a measure of a column, (R,): of both halves together."""
        return self.halves([column], measure)[..., 0] @ self.share

    def halves(self, chosen: Sequence[Column], measure: str) -> Floats:
        """Return a measure of some columns on either half, (R, 2, columns)."""
        return self.table[measure][..., [self.places[column] for column in chosen]]


class Resampled(NamedTuple):
    """A study and its resamples."""

    measured: Values  # R = 1
    by_seed: Values  # R = seeds
    resampled: Values  # R = RESAMPLES
    seeds: list[int]
    left_out: list[Column]  # columns that lack a seed which others have


def resample(records: Sequence[Record], folder: Path, *, resamples: int = RESAMPLES) -> Resampled:
    """Resample a study.

    Parameters
    ----------
    records : sequence of mapping
        Of one number of epochs.
    folder : pathlib.Path
        The study's.
    resamples : int
        How many.

    Returns
    -------
    Resampled
        The same for the same study.

    Notes
    -----
    Weights are Poisson(1), the limit of a multinomial draw. Only columns that were run with the seeds of the column
    that has the most are compared; the others are named.
    """
    by_column = columns(records)
    of_column = [{int(r["seed"]) for r in runs} for runs in by_column.values()]
    seeds = sorted(max(of_column, key=lambda found: len(list(found))))
    complete = [c for c, runs in by_column.items() if set(seeds) <= {int(r["seed"]) for r in runs}]
    scores = _scores(by_column, complete, seeds, folder)
    rng = generator(0, "resampling")
    drawn = rng.integers(0, len(seeds), (resamples, len(seeds)))  # which seed each place of a resample has
    own: dict[str, Floats] = {}
    table: dict[str, Floats] = {}
    share = np.array([0.5, 0.5])
    for unit in dict.fromkeys(measure.unit for measure in MEASURES.values()):
        names = [name for name, measure in MEASURES.items() if measure.unit == unit]
        stacked = [np.stack([scores[name][k] for name in names]) for k in range(len(seeds))]  # (measures, columns, n)
        size = stacked[0].shape[-1]
        halves = _halves(size)
        if unit == "held out":
            share = np.array([half.size / size for half in halves])
        unweighted = np.stack([[x[..., half].mean(axis=-1) for half in halves] for x in stacked])  # (S, 2, m, c)
        weighted = np.empty((resamples, len(seeds), 2, len(names), len(complete)))
        for k, x in enumerate(stacked):
            for j, half in enumerate(halves):
                flat = x[..., half].reshape(-1, half.size).T  # (n / 2, m c)
                for place in range(len(seeds)):  # a seed that is drawn twice has other samples the second time
                    rows = np.flatnonzero(drawn[:, place] == k)
                    weight = rng.poisson(1.0, (rows.size, half.size)).astype(np.float64)
                    total = np.maximum(weight.sum(axis=1, keepdims=True), 1.0)
                    weighted[rows, place, j] = (weight @ flat / total).reshape(rows.size, len(names), -1)
        for m, name in enumerate(names):
            of_mean = MEASURES[name].of_mean
            own[name] = of_mean(unweighted[:, :, m])  # (S, 2, c)
            table[name] = of_mean(weighted[:, :, :, m]).mean(axis=1)  # (R, 2, c): the mean over the seeds
    places = {column: k for k, column in enumerate(complete)}
    measured = {name: x.mean(axis=0, keepdims=True) for name, x in own.items()}
    return Resampled(
        Values(places, measured, share),
        Values(places, own, share),
        Values(places, table, share),
        seeds,
        [c for c in by_column if c not in complete],
    )


def _scores(
    by_column: Mapping[Column, Sequence[Record]], complete: Sequence[Column], seeds: Sequence[int], folder: Path
) -> dict[str, list[Floats]]:
    """Return the scores of each measure, of each seed (columns, blocks)."""
    found: dict[str, list[list[Floats]]] = {name: [[] for _ in seeds] for name in MEASURES}
    for column in complete:
        of_seed = {int(record["seed"]): record for record in by_column[column]}
        for k, seed in enumerate(seeds):
            run = load_run(folder, of_seed[seed], *SCORED)
            for name, measure in MEASURES.items():
                found[name][k].append(_blocks(np.asarray(measure.scores(run), dtype=np.float64)))
    return {name: [np.stack(rows) for rows in of_seeds] for name, of_seeds in found.items()}


def _blocks(scores: Floats) -> Floats:
    """Return means of random blocks of samples, the same ones for every run; samples alone in a class have no score."""
    scored = np.isfinite(scores)
    scores = np.where(scored, scores, scores[scored].mean() if np.any(scored) else 0.0)
    if scores.size <= BLOCKS:
        return scores
    order = generator(0, "blocks").permutation(scores.size)
    starts = np.arange(BLOCKS) * scores.size // BLOCKS
    return np.add.reduceat(scores[order], starts) / np.diff(starts, append=scores.size)


def _halves(size: int) -> list[NDArray[np.int64]]:
    order = generator(0, "halves").permutation(size)
    return [np.sort(order[: (size + 1) // 2]), np.sort(order[(size + 1) // 2 :])]


def interval(resamples: Floats) -> tuple[float, float]:
    """Return the percentile interval of a resampled number."""
    low, high = np.quantile(resamples, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return float(low), float(high)


def p_value(resamples: Floats) -> float:
    """Return twice the share of resamples on the side of zero that has fewer, the resample that is the study itself
    among them: how easily chance alone would turn the sign."""
    count = min(int(np.sum(resamples <= 0.0)), int(np.sum(resamples >= 0.0)))
    return min(1.0, 2.0 * (1 + count) / (1 + resamples.size))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that are right for all of them together.

    Parameters
    ----------
    p_values : sequence of float
        One a claim.

    Returns
    -------
    list of float
        Adjusted, in the same order; at most 1.

    References
    ----------
    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.

    Examples
    --------
    >>> from refcl.experiment.report.resampling import holm
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
