"""One look for every figure.

In:  the shape of a figure, or records of which a figure has room for some.
Out: empty axes in the package's style, its colours and markers, the columns to be shown, and PNG files.
Matplotlib is imported when something is drawn, and pyplot never: nothing of its global state is touched.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from refcl.experiment.objectives import OBJECTIVES
from refcl.experiment.report.paper import HARD, HARD_SIMPLE, SIMPLE, SOFTMAX, beside_paper
from refcl.experiment.report.resampling import Resampled
from refcl.experiment.results import Column, Record, columns, load_run, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, PALE = "#2b2b2b", "#b8b8b8"
# Okabe and Ito's blue and vermilion tell the two families apart, Tol's muted set the classes.
FAMILY_COLOURS = {SOFTMAX: "#0072B2", SIMPLE: "#0072B2", HARD: "#D55E00", HARD_SIMPLE: "#D55E00"}
OTHER_COLOURS = ("#117733", "#AA4499", "#999933", "#882255", "#44AA99", "#DDCC77", "#332288", "#CC6677")
AUTHORS = "#8a6d3b"  # what was measured elsewhere
GUESS = "#777777"
CLASS_COLOURS = (
    *("#332288", "#DDCC77", "#117733", "#CC6677", "#88CCEE"),
    *("#882255", "#44AA99", "#AA4499", "#999933", "#777777"),
)
MARKERS = {SOFTMAX: "o", SIMPLE: "D", HARD: "s", HARD_SIMPLE: "X"}
# A loss that is not the paper's has the marker of its group, and its name beside it.
GROUPS = {"contrastive": "other contrastive", "supervised": "with labels", "pretext": "pretext task"}
GROUP_MARKERS = {"contrastive": "^", "supervised": "*", "pretext": "P"}
LIMITS = {SOFTMAX: SIMPLE, HARD: HARD_SIMPLE}  # what each family becomes at large temperature
STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#ececec",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
}
LABEL_SIZE = 8.5
DPI = 160
UNIFORMITY = r"$-\mathcal{L}_{\mathrm{uniformity}}$, t = 2"


class Shown(NamedTuple):
    """What figures are drawn from."""

    records: Sequence[Record]
    folder: Path  # the study's, with the arrays of its runs
    evidence: Resampled

    @property
    def dimension(self) -> int:
        """D, of the embeddings."""
        return int(load_run(self.folder, self.records[0], "embedding")["embedding"].shape[1])

    @property
    def guess(self) -> float:
        """The accuracy of guessing the largest class of the held-out part."""
        labels = load_run(self.folder, self.records[0], "labels")["labels"]
        return float(np.max(np.bincount(labels)) / labels.size)

    @property
    def beside_paper(self) -> bool:
        """Whether the paper's numbers stand beside these: for its own losses, on the default data."""
        return beside_paper(self.records) and any(r["loss"] in FAMILY_COLOURS for r in self.records)


@contextmanager
def style() -> Iterator[None]:
    """Draw in one look, whatever the user's own settings are, and leave those as they were."""
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]):
        yield


def save(figure: "Figure", path: Path) -> Path:
    """Write a figure as a PNG, whole or not at all; without a date, so that the same study gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    write_whole(path, buffer.getvalue())
    return path


def panels(
    down: int, across: int, *, width: float, height: float, share: bool = False
) -> tuple["Figure", list["Axes"]]:
    """Return a figure of so many inches and its axes, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharey=share)
    return figure, list(axes.ravel())


def key(colour: str, *, dotted: bool = False, marker: str = "") -> Any:
    """Return an entry for a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, linestyle=":" if dotted else "", linewidth=1.2, marker=marker, mec=INK)


def ramp(count: int) -> list[Any]:
    """Colours of a sequence that no colour blindness mixes up; the palest end, unreadable on white, is left out."""
    import matplotlib

    return list(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.82, count)))


def marker(loss: str) -> str:
    """Return the marker of a loss: its own where it is the paper's, else that of its group."""
    return MARKERS.get(loss) or GROUP_MARKERS[OBJECTIVES[loss].group]


def colour(loss: str) -> str:
    """Return the colour of a loss: its family's where it is the paper's, else one of a cycle, always the same."""
    others = [name for name in OBJECTIVES if name not in FAMILY_COLOURS]
    return FAMILY_COLOURS.get(loss) or OTHER_COLOURS[others.index(loss) % len(OTHER_COLOURS)]


def families(records: Sequence[Record]) -> list[str]:
    """Return the losses that were run at more than one temperature, in the table's order."""
    at: dict[str, set[float]] = {}
    for column in columns(records):
        if column.temperature is not None:
            at.setdefault(column.loss, set()).add(column.temperature)
    return [loss for loss, temperatures in at.items() if len(temperatures) > 1 or loss in LIMITS]


def spread(values: Sequence[float], count: int) -> list[float]:
    """Return at most ``count`` of the sorted values, the first and the last among them."""
    if len(values) <= count:
        return list(values)
    chosen = np.unique(np.round(np.linspace(0, len(values) - 1, count)).astype(int))
    return [values[i] for i in chosen]


def shown_columns(
    records: Sequence[Record], losses: Sequence[str], count: int = 4
) -> list[tuple[Column, list[Record]]]:
    """Return the columns of some losses, at most ``count`` temperatures each."""
    items = [(c, runs) for c, runs in columns(records).items() if c.loss in losses]
    kept = spread(sorted({c.temperature for c, _ in items if c.temperature is not None}), count)
    return [(c, runs) for c, runs in items if c.temperature is None or c.temperature in kept]
