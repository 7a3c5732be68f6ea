"""The paper's figures, drawn from a study.

In:  the records of the runs, the folder with their arrays, and resamples of both.
Out: PNG files beside them, for whatever losses were run; those against the temperature need a loss that has one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from refcl.experiment.plots.columns import draw_columns
from refcl.experiment.plots.curves import draw_accuracy, draw_relative_penalty, draw_uniformity_tolerance
from refcl.experiment.plots.dilemma import draw_dilemma
from refcl.experiment.plots.embedding import draw_embedding, draw_separation, draw_separation_training
from refcl.experiment.plots.look import Shown, save, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plot(NamedTuple):
    """One figure of a study."""

    file: str
    title: str
    draw: Callable[[Shown], "Figure | None"]  # None where the study holds nothing to show


PLOTS = (
    Plot("relative-penalty.png", "How the push is shared: relative penalty (Fig. 3)", draw_relative_penalty),
    Plot("columns.png", "Every loss, with intervals", draw_columns),
    Plot(
        "uniformity-tolerance.png",
        "Uniformity and tolerance against temperature (Figs. 4–7)",
        draw_uniformity_tolerance,
    ),
    Plot("dilemma.png", "The dilemma: tolerance against uniformity", draw_dilemma),
    Plot("accuracy.png", "Accuracy against temperature (Fig. 9)", draw_accuracy),
    Plot(
        "local-separation-training.png",
        "Local separation, training samples: positives and nearest negatives (Fig. 8)",
        draw_separation_training,
    ),
    Plot("local-separation.png", "Local separation, samples it has not seen", draw_separation),
    Plot("embedding.png", "The embedding before and after (Fig. 2)", draw_embedding),
)


def draw_figures(shown: Shown) -> list[Path]:
    """Draw every figure that a study has runs for, each file whole or not at all.

    Parameters
    ----------
    shown : Shown
        Records, as in ``results.json``, their folder and their resamples. Pictures are written into the folder, and
        those that an earlier report left there and this one does not have are taken away.

    Returns
    -------
    list of Path
        The pictures written.
    """
    written = []
    with style():
        for plot in PLOTS:
            figure = plot.draw(shown)
            if figure is None:
                (shown.folder / plot.file).unlink(missing_ok=True)
            else:
                written.append(save(figure, shown.folder / plot.file))
    return written
