"""The paper's figures, drawn from a study.

In:  the records of the runs and the folder with their embeddings.
Out: PNG files beside them. Figures for which a study holds no runs are left out.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from refcl.experiment.paper import Record
from refcl.experiment.plots.curves import draw_accuracy, draw_relative_penalty, draw_uniformity_tolerance
from refcl.experiment.plots.dilemma import draw_dilemma
from refcl.experiment.plots.embedding import draw_embedding, draw_separation
from refcl.experiment.plots.look import save, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plot(NamedTuple):
    """One figure of a study."""

    file: str
    title: str
    draw: Callable[[Sequence[Record], Path], "Figure | None"]  # None where the study holds nothing to show


PLOTS = (
    Plot("relative-penalty.png", "How the push is shared: relative penalty (Fig. 3)", draw_relative_penalty),
    Plot(
        "uniformity-tolerance.png",
        "Uniformity and tolerance against temperature (Figs. 4–7)",
        draw_uniformity_tolerance,
    ),
    Plot("dilemma.png", "The dilemma: tolerance against uniformity", draw_dilemma),
    Plot("accuracy.png", "Accuracy against temperature (Fig. 9)", draw_accuracy),
    Plot("local-separation.png", "Local separation: positives and nearest negatives (Fig. 8)", draw_separation),
    Plot("embedding.png", "The embedding before and after (Fig. 2)", draw_embedding),
)


def draw_figures(records: Sequence[Record], folder: Path) -> list[Path]:
    """Draw every figure that a study has runs for, each file whole or not at all.

    Parameters
    ----------
    records : sequence of mapping
        One record per run, as in ``results.json``.
    folder : Path
        The study's folder: embeddings are read from ``folder/runs``, pictures are written into ``folder``.

    Returns
    -------
    list of Path
        The pictures written.
    """
    written = []
    with style():
        for plot in PLOTS:
            figure = plot.draw(records, folder)
            if figure is not None:
                written.append(save(figure, folder / plot.file))
    return written
