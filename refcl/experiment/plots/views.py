"""What an encoder is shown: samples and views of them.

In:  a data set and how strongly a view changes a sample.  Out: one figure, a row a sample.
"""

from typing import TYPE_CHECKING

import numpy as np

from refcl.experiment.data import Data
from refcl.experiment.plots.look import INK, PALE, panels
from refcl.experiment.seeding import generator
from refcl.experiment.views import Strength, view

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES, VIEWS = 4, 5


def draw_views(data: Data, strength: Strength) -> "Figure":
    """A sample a row: itself first, then views of it; pictures as pictures, features as bars."""
    first = [int(np.flatnonzero(data.training.y == label)[0]) for label in range(min(SAMPLES, len(data.classes)))]
    rows = (first + [i for i in range(data.training.y.size) if i not in first])[:SAMPLES]
    x = data.training.x[rows]
    rng = generator(0, "picture of the views")
    shown = [x, *(view(x, rng, image=data.image, blank=data.blank, strength=strength) for _ in range(VIEWS))]
    figure, axes = panels(len(rows), 1 + VIEWS, width=8.2, height=1.45 * len(rows) + 0.3)
    low, high = float(np.min(x)), float(np.max(x))
    for k, axis in enumerate(axes):
        row, column = divmod(k, 1 + VIEWS)
        sample = shown[column][row]
        if data.image is None:
            axis.bar(np.arange(sample.size), sample, width=1.0, color=INK)
            axis.set_ylim(low - 1.0, high + 1.0)
        elif len(data.image) == 3:
            axis.imshow(np.clip((sample.reshape(data.image) - low) / max(high - low, 1e-9), 0.0, 1.0))
        else:
            axis.imshow(sample.reshape(data.image), cmap="gray_r", vmin=low, vmax=high)
        axis.set(xticks=[], yticks=[])
        axis.grid(visible=False)
        axis.spines[:].set_visible(True)
        axis.spines[:].set_color(PALE)
        if row == 0:
            axis.set_title("the sample" if column == 0 else f"view {column}", fontsize=9)
        if column == 0:
            axis.set_ylabel(data.classes[int(data.training.y[rows[row]])][:12], fontsize=9)
    return figure
