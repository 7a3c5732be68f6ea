"""What moves with the temperature.

In:  the records of a study.  Out: relative penalty against similarity (Fig. 3); uniformity, tolerance (Figs. 4 to 7)
and accuracy (Fig. 9) against temperature.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refcl.experiment.catalogue import CATALOGUE
from refcl.experiment.paper import Column, Record, columns, mean
from refcl.experiment.plots.look import (
    FAMILY_COLOURS,
    INK,
    LIMITS,
    MARKERS,
    UNIFORMITY,
    families,
    key,
    panels,
    ramp,
    spread,
)
from refcl.experiment.results import load_run
from refcl.hardness import relative_penalty
from refcl.metrics import uniform_law_uniformity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.floating[Any]]


def draw_relative_penalty(records: Sequence[Record], folder: Path) -> "Figure":
    """Relative penalty against similarity, Fig. 3: how the push on the negatives concentrates as τ falls."""
    temperatures = shown_temperatures(records)
    figure, axes = panels(1, 1, width=6.4, height=3.9)
    similarity, push = penalty_curves(temperatures)
    for temperature, curve, colour in zip(temperatures, push, ramp(len(temperatures)), strict=True):
        axes[0].plot(similarity, curve, color=colour, label=f"τ = {temperature:g}")
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


def draw_uniformity_tolerance(records: Sequence[Record], folder: Path) -> "Figure | None":
    """Uniformity and tolerance against temperature for both families, Figs. 4 to 7."""
    if not families(records):
        return None
    figure, axes = panels(1, 2, width=8.2, height=3.7)
    _against_temperature(axes[0], records, "uniformity")
    dimension = load_run(folder, records[0])["embedding"].shape[1]
    axes[0].axhline(-float(uniform_law_uniformity(dimension)), color=INK, linestyle=":", linewidth=1.2)
    _against_temperature(axes[1], records, "tolerance")
    axes[0].set(title="uniformity", ylabel=UNIFORMITY)
    axes[1].set(title="tolerance", ylabel="mean cosine within a class")
    handles, labels = axes[0].get_legend_handles_labels()
    handles.append(key(INK, dotted=True))
    labels.append(f"uniform law, D = {dimension}")
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def draw_accuracy(records: Sequence[Record], folder: Path) -> "Figure | None":
    """Linear and few-label accuracy against temperature, Fig. 9."""
    if not families(records):
        return None
    figure, axes = panels(1, 2, width=8.2, height=3.7)
    for axis, field, title in zip(
        axes,
        ("linear_accuracy", "few_label_accuracy"),
        ("linear classifier, all labels", "nearest neighbour, few labels"),
        strict=True,
    ):
        _against_temperature(axis, records, field, scale=100.0)
        axis.set(title=title, ylabel="accuracy, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _against_temperature(axis: "Axes", records: Sequence[Record], field: str, scale: float = 1.0) -> None:
    """One measure against τ: the mean of the seeds as a line, each seed as a pale point, the limit as a level."""
    by_column = columns(records)
    drawn = []
    for family in families(records):
        colour = FAMILY_COLOURS[family]
        rows = [(c.temperature, runs) for c, runs in by_column.items() if c.loss == family and c.temperature]
        drawn += [temperature for temperature, _ in rows]
        for temperature, runs in rows:
            if len(runs) > 1:
                axis.plot([temperature] * len(runs), [r[field] * scale for r in runs], ".", color=colour, alpha=0.35)
        middle = [mean(runs, field) * scale for _, runs in rows]
        axis.plot([t for t, _ in rows], middle, MARKERS[family] + "-", color=colour, label=CATALOGUE[family].label)
    for limit in LIMITS.values():
        level_runs = by_column.get(Column(limit, None))
        if level_runs:
            level = mean(level_runs, field) * scale
            label = CATALOGUE[limit].label
            axis.axhline(level, color=FAMILY_COLOURS[limit], linestyle="--", linewidth=1.2, label=label)
    _temperature_axis(axis, sorted(set(drawn)))


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
