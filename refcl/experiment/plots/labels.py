"""Places for the labels of points, so that they cover neither each other nor a point.

In:  points, label sizes and the frame, in typographic points.  Out: the centre of each label, in the same unit.
Greedy: the most crowded point chooses first, among places on rings around it, the one that costs least.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

MARKER = 5.0  # a marker's radius
RINGS = (6.0, 9.0, 13.0, 18.0, 24.0, 31.0, 39.0, 48.0, 60.0)  # distances between a point and its label's edge
DIRECTIONS = 24


def place(points: Floats, sizes: Floats, frame: Floats, obstacles: Floats) -> Floats:
    """Return the centres of labels beside their points.

    Parameters
    ----------
    points : (n, 2) array of float
        The points to be labelled.
    sizes : (n, 2) array of float
        Width and height of each label.
    frame : (4,) array of float
        Left, bottom, right and top of the area that labels stay within.
    obstacles : (m, 2) array of float
        Everything that no label may cover: all points of the figure, and points along its lines.

    Returns
    -------
    (n, 2) array of float
        The centre of each label.

    Notes
    -----
    Cost of a place: overlaps (labels with labels, labels with obstacles, the frame) weigh far more than a leader line
    that crosses a label, and that more than distance. Where there is room there is no overlap.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.plots.labels import place
    >>> points = np.array([[50.0, 50.0], [52.0, 50.0]])
    >>> centres = place(points, np.full((2, 2), 10.0), np.array([0.0, 0.0, 100.0, 100.0]), points)
    >>> bool(np.max(np.abs(centres[0] - centres[1])) >= 10.0)
    True
    """
    n = points.shape[0]
    centres = np.array(points, dtype=np.float64)
    distances = np.linalg.norm(points[:, None] - obstacles[None], axis=-1)  # (n, m)
    crowding = np.sum(distances < RINGS[-1] / 2.0, axis=1)
    placed: list[int] = []
    for i in sorted(range(n), key=lambda i: -crowding[i]):
        options, ring = _around(points[i], sizes[i])
        cost = ring + 1e3 * _outside(options, sizes[i], frame) + 1e3 * _covered(options, sizes[i], obstacles)
        for j in placed:
            cost = cost + 1e3 * _overlap(options, sizes[i], centres[j], sizes[j])
            cost = cost + 2e2 * _crossed(points[i], options, centres[j], sizes[j])
            cost = cost + 2e2 * _crossed(points[j], centres[j][None], options, sizes[i])
        centres[i] = options[int(np.argmin(cost))]
        placed.append(i)
    return centres


def _around(point: Floats, size: Floats) -> tuple[Floats, Floats]:
    angle = 2.0 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=-1)  # (DIRECTIONS, 2)
    rings = np.asarray(RINGS)
    centres = point + direction[None] * (rings[:, None, None] + size / 2.0)  # (rings, DIRECTIONS, 2)
    return centres.reshape(-1, 2), np.repeat(rings, DIRECTIONS)


def _outside(centres: Floats, size: Floats, frame: Floats) -> Floats:
    beyond = np.maximum(frame[:2] - (centres - size / 2.0), 0.0) + np.maximum(centres + size / 2.0 - frame[2:], 0.0)
    return np.asarray(np.sum(beyond, axis=-1))


def _covered(centres: Floats, size: Floats, obstacles: Floats) -> Floats:
    room = size / 2.0 + MARKER
    inside = np.all(np.abs(centres[:, None] - obstacles[None]) < room, axis=-1)  # (options, m)
    return np.asarray(np.sum(inside, axis=1), dtype=np.float64)


def _overlap(centres: Floats, size: Floats, other: Floats, other_size: Floats) -> Floats:
    common = (size + other_size) / 2.0 + 1.0 - np.abs(centres - other)
    return np.asarray(np.prod(np.maximum(common, 0.0), axis=-1))


def _crossed(start: Floats, ends: Floats, boxes: Floats, size: Floats) -> Floats:
    """Return 1 where the line from ``start`` to an end runs through a box; ends and boxes broadcast."""
    steps = np.linspace(0.0, 1.0, 16)[:, None, None]
    along = start + steps * (ends - start)  # (16, options, 2)
    inside = np.all(np.abs(along - boxes) < size / 2.0, axis=-1)
    return np.asarray(np.any(inside, axis=0), dtype=np.float64)
