"""Every loss of a study, side by side.

In:  the records of a study and its resamples.  Out: four measures of every column, as points with intervals.
"""

from typing import TYPE_CHECKING

import numpy as np

from refcl.experiment.plots.curves import guess
from refcl.experiment.plots.look import Shown, colour, marker, panels
from refcl.experiment.report.resampling import interval
from refcl.experiment.results import columns, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = (
    ("linear_accuracy", "linear classifier, %", 100.0),
    ("few_label_accuracy", "few labels, %", 100.0),
    ("uniformity", "uniformity", 1.0),
    ("tolerance", "tolerance", 1.0),
)


def draw_columns(shown: Shown) -> "Figure | None":
    """Four measures of every column: the mean of the seeds, its interval, and each seed as a pale point."""
    rows = list(columns(shown.records).items())
    if len(rows) < 2:
        return None
    figure, axes = panels(1, 4, width=9.4, height=1.1 + 0.25 * len(rows))
    place = np.arange(len(rows))[::-1]
    for axis, (field, title, scale) in zip(axes, MEASURES, strict=True):
        for y, (column, runs) in zip(place, rows, strict=True):
            shade = colour(column.loss)
            if len(runs) > 1:
                axis.plot([scale * r[field] for r in runs], [y] * len(runs), ".", color=shade, alpha=0.35)
            axis.plot([scale * mean(runs, field)], [y], marker(column.loss), color=shade)
            if column in shown.evidence.resampled.places:
                low, high = (scale * end for end in interval(shown.evidence.resampled.of(column, field)))
                axis.hlines(y, low, high, color=shade, linewidth=1.3)
        axis.set(title=title, ylim=(-0.7, len(rows) - 0.3))
        axis.set_yticks(place, [column.label for column, _ in rows] if axis is axes[0] else [""] * len(rows))
        axis.tick_params(axis="y", length=0)
        if field.endswith("accuracy"):
            guess(axis, shown, upright=True)
    return figure
