"""Time and memory against the number of rows.

In:  the records of a run.  Out: a PNG, as bytes.
"""

import io
from collections.abc import Mapping
from typing import Any

from contenders import CONTENDERS
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

# Okabe and Ito's colours, which no colour blindness mixes up; markers tell them apart in grey.
LOOK = {
    "refcl": ("#0072B2", "o", "-"),
    "eager": ("#D55E00", "s", "-"),
    "compile": ("#E69F00", "D", "-"),
    "jax": ("#009E73", "^", "-"),
    "metric-learning": ("#CC79A7", "v", "-"),
    "bare": ("#56B4E9", "P", "--"),
    "floor": ("#555555", "", ":"),
}
TITLES = {"info_nce": "info_nce, N anchors", "nt_xent": "nt_xent, N = both views"}


def draw(results: Mapping[str, Any]) -> bytes:
    """Draw a column for each loss: seconds above, peak memory below, on log axes."""
    losses = results["losses"]
    figure = Figure(figsize=(4.6 * len(losses), 7.0), dpi=160, layout="constrained")
    axes = figure.subplots(2, len(losses), squeeze=False, sharex="col", sharey="row")
    for column, (loss, sizes) in enumerate(losses.items()):
        upper, lower = axes[0][column], axes[1][column]
        curves(upper, sizes, "seconds", 1e-3)
        curves(lower, with_memory(results, loss, sizes), "peak_bytes", 2.0**20)
        upper.set_title(TITLES[loss])
        lower.set_xlabel("N, rows of the similarity")
    axes[0][0].set_ylabel("value and both gradients, ms")
    axes[1][0].set_ylabel("peak beyond inputs and gradients, MiB")
    entries: dict[str, Any] = {}
    for axis in axes.ravel():
        entries |= {text: line for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=3, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def with_memory(results: Mapping[str, Any], loss: str, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the records by size, with those of the large size at which only memory was measured."""
    more = results.get("memory", {}).get(loss)
    return {**sizes, **({str(results["settings"]["memory_rows"]): more} if more else {})}


def curves(axis: Axes, sizes: Mapping[str, Any], field: str, unit: float) -> None:
    """Draw one field of every contender that has it."""
    ordered = sorted(sizes.items(), key=lambda item: int(item[0]))
    for name, (colour, marker, line) in LOOK.items():
        points = [(int(rows), records[name].get(field)) for rows, records in ordered if name in records]
        points = [(rows, value / unit) for rows, value in points if value]
        if points:
            label = CONTENDERS[name].title
            axis.plot(*zip(*points, strict=True), color=colour, marker=marker, linestyle=line, label=label, ms=5)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(FixedLocator([int(rows) for rows, _ in ordered]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks([int(rows) for rows, _ in ordered], [rows for rows, _ in ordered], rotation=35)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(color="#ececec")
    axis.spines[["top", "right"]].set_visible(False)
