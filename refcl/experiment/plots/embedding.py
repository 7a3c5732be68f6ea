"""What the embedding looks like.

In:  the records of a study and the embeddings of its runs.
Out: how far positives stand above the nearest negatives (Fig. 8), and the held-out samples in two dimensions (Fig. 2).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refcl.experiment.plots.look import AUTHORS, CLASS_COLOURS, INK, LIMITS, PALE, Shown, panels, shown_columns
from refcl.experiment.report.paper import SEPARATION
from refcl.experiment.results import Column, Record, columns, load_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.floating[Any]]

WHISKERS_AND_BOX = (5, 25, 50, 75, 95)  # percentiles


POINTS = 1500  # that a panel has room for


def draw_separation(shown: Shown) -> "Figure":
    """Similarity of the positive and of the nearest negatives, held-out anchors."""
    return _separation(shown, "")


def draw_separation_training(shown: Shown) -> "Figure":
    """The same for anchors of the training part, as Fig. 8 is; the authors' means beside the boxes."""
    return _separation(shown, "_training")


def rows_of(records: Sequence[Record], across: int = 4) -> list[list[tuple[Column, list[Record]]]]:
    """Return the columns that have a panel, in rows: a family of the paper each, then whatever else was run."""
    rows = [row for family in LIMITS.items() if (row := shown_columns(records, family))]
    known = {loss for family in LIMITS.items() for loss in family}
    others = [(c, runs) for c, runs in columns(records).items() if c.loss not in known]
    return rows + [others[k : k + across] for k in range(0, len(others), across)]


def _separation(shown: Shown, part: str) -> "Figure":
    rows = rows_of(shown.records)
    across = max(len(row) for row in rows)
    figure, axes = panels(len(rows), across, width=1.0 + 1.52 * across, height=2.5 * len(rows) + 0.4, share=True)
    grid = np.array(axes, dtype=object).reshape(len(rows), -1)
    for axis_row, row in zip(grid, rows, strict=True):
        for axis in axis_row[len(row) :]:
            axis.remove()
        for axis, (column, runs) in zip(axis_row, row, strict=False):
            _boxes(axis, [load_run(shown.folder, run, *similarities(part)) for run in runs], part)
            axis.set_title(column.label, fontsize=9)
            if part and shown.beside_paper and column in SEPARATION:
                means = SEPARATION[column]
                axis.plot(
                    [0, 1, 2, 9], [means.positive, means.nearest, means.second, means.ninth], "D",
                    color=AUTHORS, markersize=4.0, zorder=4,
                )  # fmt: skip
        axis_row[0].set_ylabel("similarity to the anchor")
    gap = "      " if across > 2 else "\n"  # narrow figures have room for half of it a line
    figure.supxlabel(f"+ positive{gap}1, 2, … nearest negatives", fontsize=9.5, color=INK)
    return figure


def similarities(part: str) -> tuple[str, str]:
    """Return the names of the arrays that a local separation is drawn from."""
    return f"positive_similarity{part}", f"nearest{part}"


def _boxes(axis: "Axes", runs: Sequence[Mapping[str, Any]], part: str) -> None:
    """Box plots by hand: matplotlib's own looks up its backend on the way, which loads pyplot."""
    positive = np.concatenate([run[f"positive_similarity{part}"] for run in runs])  # (anchors of all seeds,)
    nearest = np.concatenate([run[f"nearest{part}"] for run in runs])  # (anchors of all seeds, n)
    low, lower, middle, upper, high = np.percentile(np.column_stack([positive, nearest]), WHISKERS_AND_BOX, axis=0)
    n = nearest.shape[1]
    x = np.arange(n + 1)
    axis.vlines(x, low, high, color=INK, linewidth=0.7)
    axis.bar(x, upper - lower, bottom=lower, width=0.65, color=["#009E73"] + ["#A9A9A9"] * n, zorder=2)
    axis.hlines(middle, x - 0.32, x + 0.32, color=INK, linewidth=1.2, zorder=3)
    axis.use_sticky_edges = False  # the bars stand on a quartile, not on the ground
    axis.autoscale_view()
    axis.grid(visible=False, axis="x")
    ticks = sorted({0, max(n // 2, 1), n})
    axis.set_xticks(ticks, ["+"] + [str(tick) for tick in ticks[1:]])


def draw_embedding(shown: Shown) -> "Figure":
    """The held-out embedding before and after training on its first two principal axes, Fig. 2."""
    chosen = [(c, records[0]) for c, records in embedded_columns(shown.records)]
    runs = [load_run(shown.folder, record, "embedding_before", "embedding", "labels") for _, record in chosen]
    pictures = [("before training", runs[0]["embedding_before"], runs[0]["labels"])]
    pictures += [(c.label, run["embedding"], run["labels"]) for (c, _), run in zip(chosen, runs, strict=True)]
    across = min(3, len(pictures))
    down = -(-len(pictures) // across)
    figure, axes = panels(down, across, width=2.85 * across, height=2.95 * down)
    for axis in axes[len(pictures) :]:
        axis.remove()
    classes = chosen[0][1]["settings"].get("classes", [])
    for axis, (title, embedding, labels) in zip(axes, pictures, strict=False):
        plane, share = principal_plane(embedding)
        _classes(axis, plane, labels, classes)
        axis.set_title(f"{title}\n{share:.0%} of the variance", linespacing=1.3)
        axis.set(aspect="equal", xticks=[], yticks=[], adjustable="datalim")
        axis.grid(visible=False)
        axis.spines[:].set_visible(True)
        axis.spines[:].set_color(PALE)
    return figure


def embedded_columns(records: Sequence[Record]) -> list[tuple[Column, list[Record]]]:
    """Return the columns whose embedding is shown: five of the paper's, and one of every other loss."""
    softmax, hard = LIMITS.items()
    chosen = shown_columns(records, softmax, 2)
    chosen += shown_columns(records, hard, 2)[-2:]  # the largest τ: there the family matters
    seen = {loss for family in LIMITS.items() for loss in family}
    for column, runs in columns(records).items():
        if column.loss not in seen:
            seen.add(column.loss)
            chosen.append((column, runs))
    return chosen


def principal_plane(embedding: Floats) -> tuple[Floats, float]:
    """Return the coordinates on the first two principal axes, (N, 2), and the share of the variance that they hold."""
    centred = embedding - embedding.mean(axis=0, dtype=np.float64)
    variance, axes = np.linalg.eigh(centred.T @ centred)  # (D,) ascending, (D, D): D is small, N may be large
    plane = np.zeros((embedding.shape[0], 2))
    plane[:, : variance.size] = centred @ axes[:, :-3:-1]  # an embedding of one dimension lies on a line
    total = float(np.sum(variance))
    return plane, float(np.sum(variance[-2:])) / total if total > 0.0 else 0.0


def _classes(axis: "Axes", plane: Floats, labels: NDArray[np.integer[Any]], names: Sequence[str]) -> None:
    """Each point as its own label, so that colour is not all that tells the classes apart."""
    step = -(-labels.size // POINTS)
    plane, labels = plane[::step], labels[::step]
    for k, label in enumerate(np.unique(labels)):
        points = plane[labels == label]
        shade = CLASS_COLOURS[k % len(CLASS_COLOURS)]
        name = names[label] if label < len(names) else str(label)
        sign = name[:1] if name[:1].isalnum() and len({n[:1] for n in names}) == len(names) else str(label)
        axis.scatter(points[:, 0], points[:, 1], marker=f"${sign}$", color=shade, s=22, linewidths=0.1)
