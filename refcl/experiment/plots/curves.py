"""What moves with the temperature.

In:  the records of a study and its resamples.  Out: relative penalty against similarity (Fig. 3); uniformity and
tolerance (Figs. 4 to 7) and accuracy (Fig. 9) against temperature, with intervals; beside them, on the default data,
the authors' own curves.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refcl.experiment.objectives import OBJECTIVES
from refcl.experiment.plots.look import (
    GUESS,
    INK,
    LIMITS,
    UNIFORMITY,
    Shown,
    colour,
    families,
    key,
    marker,
    panels,
    ramp,
    spread,
)
from refcl.experiment.report.paper import authors_curve
from refcl.experiment.report.resampling import interval
from refcl.experiment.results import Column, Record, columns, mean
from refcl.hardness import relative_penalty
from refcl.metrics import uniform_law_uniformity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.floating[Any]]


def draw_relative_penalty(shown: Shown) -> "Figure":
    """Relative penalty against similarity, Fig. 3: how the push on the negatives concentrates as τ falls."""
    temperatures = shown_temperatures(shown.records)
    figure, axes = panels(1, 1, width=6.4, height=3.9)
    similarity, push = penalty_curves(temperatures)
    for temperature, curve, shade in zip(temperatures, push, ramp(len(temperatures)), strict=True):
        axes[0].plot(similarity, curve, color=shade, label=f"τ = {temperature:g}")
    axes[0].axhline(1.0, color=INK, linestyle="--", linewidth=1.2, label="simple loss (τ → ∞)")
    axes[0].set(xlabel="similarity of the negative to the anchor", ylabel="relative penalty (1 = equal shares)")
    axes[0].set_xlim(-1.0, 1.0)
    axes[0].set_ylim(bottom=0.0)
    axes[0].legend(loc="upper left")
    return figure


def shown_temperatures(records: Sequence[Record]) -> list[float]:
    """Return the temperatures of a study that the figure shows; the paper's where the study had none."""
    return spread(sorted({r["temperature"] for r in records} - {None}), 5) or [0.07, 0.3, 0.7, 1.0]


def penalty_curves(temperatures: Sequence[float], negatives: int = 2001) -> tuple[Floats, Floats]:
    """Return similarities evenly spaced in [−1, 1] and, per temperature, their relative penalties times their number.

    The factor makes 1 the share of each negative where all are pushed alike, so that the curves do not depend on how
    many negatives the anchor has.
    """
    similarity = np.linspace(-1.0, 1.0, negatives)
    row = np.concatenate([[1.0], similarity])[None]  # (1, 1 + negatives): the positive stands first
    curves = [relative_penalty(row, temperature)[0, 1:] * negatives for temperature in temperatures]
    return similarity, np.stack(curves)


def draw_uniformity_tolerance(shown: Shown) -> "Figure | None":
    """Uniformity and tolerance against temperature, Figs. 4 to 7."""
    if not families(shown.records):
        return None
    figure, axes = _two_panels(shown)
    dimension = shown.dimension
    _against_temperature(axes[0], shown, "uniformity")
    axes[0].axhline(-float(uniform_law_uniformity(dimension)), color=INK, linestyle=":", linewidth=1.2)
    _against_temperature(axes[1], shown, "tolerance")
    axes[0].set(title="uniformity", ylabel=UNIFORMITY)
    axes[1].set(title="tolerance", ylabel="mean cosine within a class")
    if shown.beside_paper:
        _authors(axes[2], shown, "uniformity", "uniformity, the authors' on CIFAR-10", UNIFORMITY)
        _authors(axes[3], shown, "tolerance", "tolerance, the authors' on CIFAR-10", "mean cosine within a class")
    handles, labels = axes[0].get_legend_handles_labels()
    _legend(figure, [*handles, key(INK, dotted=True)], [*labels, f"uniform law, D = {dimension}"])
    return figure


def draw_accuracy(shown: Shown) -> "Figure | None":
    """Linear and few-label accuracy against temperature, Fig. 9."""
    if not families(shown.records):
        return None
    figure, axes = _two_panels(shown)
    titles = ("linear classifier, all labels", "nearest neighbour, few labels")
    for axis, field, title in zip(axes, ("linear_accuracy", "few_label_accuracy"), titles, strict=False):
        _against_temperature(axis, shown, field, scale=100.0)
        guess(axis, shown, upright=False)
        axis.set(title=title, ylabel="accuracy, %")
    if shown.beside_paper:
        on = "the authors' on CIFAR-10"
        _authors(axes[2], shown, "linear_accuracy", f"linear classifier, {on}", "accuracy, %", 100.0)
        _authors(axes[3], shown, "neighbour_accuracy", f"200 neighbours, {on}", "accuracy, %", 100.0)
    _legend(figure, *axes[0].get_legend_handles_labels())
    return figure


def guess(axis: "Axes", shown: Shown, *, upright: bool) -> None:
    """Draw the accuracy of guessing the largest class: the level from which an accuracy says anything.

    Where it lies far below everything else it is written at the edge, lest it squeeze what there is to see.
    """
    level = 100.0 * shown.guess
    low, high = axis.get_xlim() if upright else axis.get_ylim()
    text = f"guessing the largest class: {level:.0f}%"
    if level >= low - 0.5 * (high - low):
        (axis.axvline if upright else axis.axhline)(
            level, color=GUESS, linestyle=(0, (1, 2)), linewidth=1.2, label=text
        )
    elif upright:
        axis.annotate(f"← {text}", (0.0, 0.0), (2, 3), "axes fraction", "offset points", fontsize=7.5, color=GUESS)
    else:
        axis.annotate(f"↓ {text}", (0.0, 0.0), (3, 3), "axes fraction", "offset points", fontsize=7.5, color=GUESS)


def _two_panels(shown: Shown) -> tuple["Figure", list["Axes"]]:
    down = 2 if shown.beside_paper else 1
    return panels(down, 2, width=8.2, height=0.6 + 3.1 * down)


def _legend(figure: "Figure", handles: Sequence[Any], labels: Sequence[str]) -> None:
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)))


def _against_temperature(axis: "Axes", shown: Shown, field: str, scale: float = 1.0) -> None:
    """One measure against τ: the mean of the seeds as a line with its interval, each seed as a pale point."""
    by_column = columns(shown.records)
    drawn: list[float] = []
    for family in families(shown.records):
        shade = colour(family)
        rows = [(c, runs) for c, runs in by_column.items() if c.loss == family and c.temperature]
        at = [c.temperature or 0.0 for c, _ in rows]
        drawn += at
        for c, runs in rows:
            if len(runs) > 1:
                axis.plot(
                    [c.temperature or 0.0] * len(runs), [r[field] * scale for r in runs], ".", color=shade, alpha=0.35
                )
        middle = [mean(runs, field) * scale for _, runs in rows]
        axis.plot(at, middle, marker(family) + "-", color=shade, label=OBJECTIVES[family].label)
        for (c, _), x in zip(rows, at, strict=True):
            if c in shown.evidence.resampled.places:
                low, high = (scale * end for end in interval(shown.evidence.resampled.of(c, field)))
                axis.vlines(x, low, high, color=shade, linewidth=1.1)
    for limit in LIMITS.values():
        level_runs = by_column.get(Column(limit, None))
        if level_runs:
            level = mean(level_runs, field) * scale
            label = OBJECTIVES[limit].label
            axis.axhline(level, color=colour(limit), linestyle="--", linewidth=1.2, label=label)
            if Column(limit, None) in shown.evidence.resampled.places:
                low, high = (scale * end for end in interval(shown.evidence.resampled.of(Column(limit, None), field)))
                axis.axhspan(low, high, color=colour(limit), alpha=0.1, linewidth=0)
    _temperature_axis(axis, sorted(set(drawn)))


def _authors(axis: "Axes", shown: Shown, measure: str, title: str, ylabel: str, scale: float = 1.0) -> None:
    """The authors' own curves: of the losses that the study ran, where they left any."""
    at: set[float] = set()
    for loss in (name for name in families(shown.records) if name in LIMITS):
        curve = authors_curve(measure, loss)
        if curve:
            x, y = zip(*curve, strict=True)
            axis.plot(
                x, [scale * value for value in y], marker(loss) + "-", color=colour(loss), markersize=3.5, linewidth=1.2
            )
            at |= set(x)
    axis.set(title=title, ylabel=ylabel)
    if at:
        _temperature_axis(axis, sorted(at))


def _temperature_axis(axis: "Axes", temperatures: Sequence[float]) -> None:
    """A logarithmic axis with ticks at the temperatures themselves, as many as have room."""
    from matplotlib.ticker import NullLocator

    low, high = temperatures[0] / 1.25, temperatures[-1] * 1.25
    ticks: list[float] = []
    for temperature in temperatures:
        if not ticks or np.log(temperature / ticks[-1]) > 0.09 * np.log(high / low):
            ticks.append(temperature)
    axis.set_xscale("log")
    axis.set_xlim(low, high)
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("temperature τ")
