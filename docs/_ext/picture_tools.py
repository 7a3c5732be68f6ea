"""What the pictures of the derivations share: colours, a look, a register, cells with numbers, arrows, bars.

In:  numbers.
Out: axes with something on them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

BLUE, ORANGE, GREEN, INK, PALE = "#0072b2", "#d55e00", "#009e73", "#555555", "#dddddd"
LOOK = {
    "svg.fonttype": "none",  # words stay words: small, and a search finds them
    "svg.hashsalt": "refcl",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}
PICTURES: dict[str, tuple[int, Callable[[Any], None], str]] = {}


def picture(panels: int = 1, *, of: str = "derivations") -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Enter a function under its own name, and whose picture it is; it is given one axes, or an array of them."""

    def enter(draw: Callable[[Any], None]) -> Callable[[Any], None]:
        PICTURES[draw.__name__] = panels, draw, of
        return draw

    return enter


def numbers(axes: Any, array: Any, title: str, *, digits: int = 1, colours: str = "RdBu_r") -> None:
    """Show a matrix as coloured cells with its numbers."""
    array = np.round(array, digits) + 0.0  # no minus before a zero
    most = np.abs(array).max() or 1.0
    axes.imshow(array, cmap=colours, vmin=-most, vmax=most, aspect="equal")
    for (i, j), value in np.ndenumerate(array):
        dark = abs(value) > 0.6 * most
        axes.text(j, i, f"{value:.{digits}f}", ha="center", va="center", size=7, color="white" if dark else "black")
    axes.set_title(title, size=9)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def arrow(axes: Any, start: Any, step: Any, colour: str, label: str = "") -> None:
    end = np.add(start, step)
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.8})
    axes.annotate(label, end, (4, 4), textcoords="offset points", color=colour)


def bars(axes: Any, rows: dict[str, Any], names: list[str], label: str) -> None:
    """Show several numbers for each of several things."""
    width = 0.8 / len(rows)
    for k, (name, values) in enumerate(rows.items()):
        places = np.arange(len(names)) + (k - (len(rows) - 1) / 2) * width
        axes.bar(places, values, width, label=name, color=(BLUE, ORANGE, GREEN)[k])
    axes.set_xticks(range(len(names)), names)
    axes.axhline(0, color=INK, lw=0.8)
    axes.set_ylabel(label)
    axes.legend()
