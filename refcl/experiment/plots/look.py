"""One look for every figure.

In:  the shape of a figure, or records of which a figure has room for some.
Out: empty axes in the package's style, its colours and markers, the columns to be shown, and PNG files.
Matplotlib is imported when something is drawn, and pyplot never: nothing of its global state is touched.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refcl.experiment.catalogue import CATALOGUE
from refcl.experiment.paper import Column, Record, columns
from refcl.experiment.results import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, PALE = "#2b2b2b", "#b8b8b8"
# Okabe and Ito's blue and vermilion tell the two families apart, Tol's muted set the classes.
FAMILY_COLOURS = {"softmax": "#0072B2", "simple": "#0072B2", "hard-softmax": "#D55E00", "hard-simple": "#D55E00"}
CLASS_COLOURS = (
    *("#332288", "#DDCC77", "#117733", "#CC6677", "#88CCEE"),
    *("#882255", "#44AA99", "#AA4499", "#999933", "#777777"),
)
MARKERS = {"softmax": "o", "simple": "D", "hard-softmax": "s", "hard-simple": "X"}
# A loss that is not the paper's has the marker of its group, and its name beside it.
GROUPS = {"contrastive": "other contrastive", "supervised": "with labels", "pretext": "pretext task"}
GROUP_MARKERS = {"contrastive": "^", "supervised": "*", "pretext": "P"}
LIMITS = {"softmax": "simple", "hard-softmax": "hard-simple"}  # what each family becomes at large temperature
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
    return MARKERS.get(loss) or GROUP_MARKERS[CATALOGUE[loss].group]


def families(records: Sequence[Record]) -> list[str]:
    """Return the losses with a temperature that the study ran."""
    return [family for family in LIMITS if any(r["loss"] == family for r in records)]


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
