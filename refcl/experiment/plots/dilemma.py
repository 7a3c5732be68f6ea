"""The dilemma: a uniform embedding is not tolerant, and a tolerant one not uniform.

In:  the records of a study.  Out: tolerance against uniformity, a point a run, labelled without overlaps.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refcl.experiment.objectives import OBJECTIVES, PAPERS
from refcl.experiment.plots.labels import place
from refcl.experiment.plots.look import (
    FAMILY_COLOURS,
    GROUP_MARKERS,
    GROUPS,
    INK,
    LABEL_SIZE,
    LIMITS,
    MARKERS,
    PALE,
    UNIFORMITY,
    Shown,
    colour,
    families,
    key,
    marker,
    panels,
    shown_columns,
)
from refcl.experiment.report.resampling import interval
from refcl.experiment.results import Column, Record, columns, mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.floating[Any]]


def draw_dilemma(shown: Shown) -> "Figure | None":
    """Tolerance against uniformity, one point a run, coloured by accuracy; pale crosses are intervals of the means."""
    records = shown.records
    if len(records) < 2:
        return None
    figure, (axis,) = panels(1, 1, width=7.2, height=4.6)
    accuracy = [100.0 * r["few_label_accuracy"] for r in records]
    losses = [loss for loss in OBJECTIVES if any(r["loss"] == loss for r in records)]
    paths = {family: _path(records, family) for family in families(records)}
    for family, path in paths.items():
        axis.plot(path[:, 0], path[:, 1], color=colour(family), alpha=0.35, linewidth=1.2, zorder=1)
    for column in shown.evidence.resampled.places:
        ends = [interval(shown.evidence.resampled.of(column, field)) for field in ("uniformity", "tolerance")]
        x, y = (mean(columns(records)[column], field) for field in ("uniformity", "tolerance"))
        axis.hlines(y, *ends[0], color=PALE, linewidth=0.9, zorder=0)
        axis.vlines(x, *ends[1], color=PALE, linewidth=0.9, zorder=0)
    for loss in losses:
        chosen = [r for r in records if r["loss"] == loss]
        points = axis.scatter(
            [r["uniformity"] for r in chosen],
            [r["tolerance"] for r in chosen],
            c=[100.0 * r["few_label_accuracy"] for r in chosen],
            vmin=min(accuracy),
            vmax=max(accuracy),
            marker=marker(loss),
            cmap="viridis",
            edgecolors=INK,
            linewidths=0.7,
            s=64,
            zorder=2,
        )
    axis.margins(0.1, 0.12)
    axis.set(xlabel=f"uniformity: {UNIFORMITY}", ylabel="tolerance: mean cosine within a class")
    if max(accuracy) > min(accuracy):
        figure.colorbar(points, ax=axis, label="few-label accuracy, %", pad=0.02)
    _legend(figure, losses)
    _label_columns(figure, axis, records, list(paths.values()))
    return figure


def _legend(figure: "Figure", losses: Sequence[str]) -> None:
    """Name the markers: those of the paper's losses, and of the groups that the others belong to."""
    named = {OBJECTIVES[loss].label: MARKERS[loss] for loss in losses if loss in PAPERS}
    others = {OBJECTIVES[loss].group for loss in losses if loss not in PAPERS}
    named |= {GROUPS[group]: GROUP_MARKERS[group] for group in GROUPS if group in others}
    handles = [key("none", marker=shape) for shape in named.values()]
    figure.legend(handles, list(named), loc="outside upper left", ncols=min(5, len(named)))


def _path(records: Sequence[Record], family: str) -> Floats:
    """Return where a family goes as τ grows, (temperatures, 2): the mean uniformity and tolerance over the seeds."""
    steps = [runs for column, runs in columns(records).items() if column.loss == family]
    return np.array([(mean(runs, "uniformity"), mean(runs, "tolerance")) for runs in steps])


def _label_columns(figure: "Figure", axis: "Axes", records: Sequence[Record], paths: Sequence[Floats]) -> None:
    """Write what each column is beside its first run, away from other labels, every point and every path."""
    shown = [(c, runs[0]) for family in LIMITS for c, runs in shown_columns(records, (family,), 6)]
    shown += [(c, runs[0]) for c, runs in columns(records).items() if c.loss not in PAPERS]
    if not shown:
        return
    figure.draw_without_rendering()  # the layout decides where the points are
    points = _in_points(figure, axis, [(run["uniformity"], run["tolerance"]) for _, run in shown])
    obstacles = [_in_points(figure, axis, [(r["uniformity"], r["tolerance"]) for r in records])]
    for path in paths:
        along = np.arange(0.0, len(path) - 0.95, 0.05)
        steps = [np.interp(along, np.arange(len(path)), path[:, k]) for k in (0, 1)]
        obstacles.append(_in_points(figure, axis, np.stack(steps, axis=-1)))
    texts = [_label(column, records) for column, _ in shown]
    sizes = np.array([_size(figure, text) for text in texts])
    frame = np.array(axis.bbox.extents) * 72.0 / figure.dpi
    centres = place(points, sizes, frame, np.concatenate(obstacles))
    for (column, run), text, point, centre, size in zip(shown, texts, points, centres, sizes, strict=True):
        far = bool(np.any(np.abs(centre - point) > size / 2.0 + 9.0))
        note = axis.annotate(
            text,
            (run["uniformity"], run["tolerance"]),
            xytext=tuple(centre - point),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=LABEL_SIZE,
            color=FAMILY_COLOURS.get(column.loss, INK),
            arrowprops={"arrowstyle": "-", "color": PALE, "linewidth": 0.8, "shrinkB": 4.0} if far else None,
        )
        note.set_in_layout(False)


def _label(column: Column, records: Sequence[Record]) -> str:
    """Return the temperature of the paper's losses, whose markers name them, and the name of any other."""
    if column.loss in PAPERS:
        return f"τ = {column.temperature:g}"
    one = len({record["temperature"] for record in records if record["loss"] == column.loss}) == 1
    return OBJECTIVES[column.loss].label if one else column.label


def _in_points(figure: "Figure", axis: "Axes", xy: Any) -> Floats:
    pixels: Floats = axis.transData.transform(np.asarray(xy))
    return pixels * 72.0 / figure.dpi


def _size(figure: "Figure", text: str) -> tuple[float, float]:
    trial = figure.text(0.0, 0.0, text, fontsize=LABEL_SIZE)
    box = trial.get_window_extent()
    trial.remove()
    return box.width * 72.0 / figure.dpi, box.height * 72.0 / figure.dpi
