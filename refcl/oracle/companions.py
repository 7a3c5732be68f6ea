"""What goes with a batch by name: labels, masks, a memory of earlier steps and who is whose in it; and what a call may
leave out, which has a gradient: own negatives, weights, targets.

In:  the names of what is needed, the batch, and what the user has settled.
Out: arrays by name. They follow from the shapes alone, so that a batch can be moved a little and keep them.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

LABELS = ("labels", "positives", "same")
MEMORY = ("bank", "index", "noise", "log_normalizer", "queue")
OPTIONAL = ("own_negatives", "log_weight", "targets", "anchor_weight")
COMPANIONS = (*LABELS, *MEMORY, *OPTIONAL)
DRAWS = 5  # rows of the bank that are drawn as noise for each anchor


def companions(
    needed: tuple[str, ...],
    inputs: tuple[Any, ...],
    settled: dict[str, Any],
    ranks: int = 1,
    shapes: dict[str, tuple[int, ...]] | None = None,
    itself: bool = True,
) -> dict[str, Any]:
    """Return what a loss needs beside a batch.

    Parameters
    ----------
    needed : tuple of str
        Names among ``COMPANIONS``.
    inputs : tuple of arrays
        The batch; what is made of numbers comes in its precision.
    settled : dict
        What the user has given: an index made here points into a bank of theirs.
    ranks : int
        Over how many ranks the rows are spread: no two of them may have the same labels, and some classes lie on both.
    shapes : dict
        The shapes of those that a call may leave out.
    itself : bool
        Whether an anchor's own column may be its target.

    Returns
    -------
    made : dict
        Arrays by name. The first half of the rows of a batch are one view of the second, so that labels come in pairs;
        where there are classes enough, two of them are one. The rows of a memory have length 1, as memories hold them.
        Weights are > 0, so that who takes one for the other gets a number; targets are soft and sum to 1.
    """
    n, width = inputs[0].shape[0], inputs[0].shape[-1]
    rows = _rows(n, settled, "bank")
    rng = np.random.default_rng((n, width))
    shape = (shapes or {}).__getitem__

    def drawn(name: str) -> np.random.Generator:  # whatever else is given
        return np.random.default_rng((n, width, OPTIONAL.index(name)))

    found: dict[str, Callable[[], Any]] = {
        "labels": lambda: _labels(n, ranks),
        "positives": lambda: _positives(n, width if len(inputs) == 1 else inputs[1].shape[0]),
        "same": lambda: np.arange(n) % (3 if ranks == 1 else 5) != 1,
        "bank": lambda: _on_sphere(rng, rows, width),
        "queue": lambda: _on_sphere(rng, _rows(n, settled, "queue"), width),
        "index": lambda: (3 * np.arange(n) + 1) % rows,
        "noise": lambda: rng.integers(0, rows, (n, DRAWS)),
        "log_normalizer": lambda: np.asarray(math.log(rows) + 1.0),
        "own_negatives": lambda: _unequal(drawn("own_negatives"), shape("own_negatives")),
        "log_weight": lambda: drawn("log_weight").uniform(0.2, 1.6, shape("log_weight")),
        "targets": lambda: _targets(drawn("targets"), shape("targets"), settled.get("ignore"), itself),
        "anchor_weight": lambda: drawn("anchor_weight").uniform(0.4, 2.2, shape("anchor_weight")),
    }
    made = {name: found[name]() for name in needed}
    return {name: x.astype(inputs[0].dtype) if x.dtype.kind == "f" else x for name, x in made.items()}


def candidates(memory: str, n: int, settled: dict[str, Any]) -> int | None:
    """Return how many candidates each of n anchors has, where a memory holds them; its positive is counted."""
    if memory == "noise":
        return (settled["noise"].shape[1] if "noise" in settled else DRAWS) + 1
    return _rows(n, settled, memory) + (memory == "queue") if memory else None  # the positive is no row of a queue


def _rows(n: int, settled: dict[str, Any], memory: str) -> int:
    return len(settled[memory]) if memory in settled else n + 4


def _labels(n: int, ranks: int) -> Any:
    classes = (np.arange(n) if ranks == 1 else (np.arange(n) + 1) // 2) % max(n // 2, 1)
    return np.where(classes == n // 2 - 1, 0, classes) if n >= 8 else classes


def _positives(n: int, m: int) -> Any:
    column, row = np.arange(m), np.arange(n)[:, None]
    return (column == row) | ((column == row + 1) & (row % 2 == 0))


def _unequal(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.standard_normal(shape) * rng.uniform(0.4, 1.6, (*shape[:-1], 1)) / math.sqrt(shape[-1])


def _targets(rng: np.random.Generator, shape: tuple[int, ...], ignore: Any, itself: bool) -> Any:
    t = np.exp(1.5 * rng.standard_normal(shape))
    if not itself:
        t = np.where(np.eye(shape[-1]) > 0, 0.0, t)
    if ignore is not None:
        t = np.where(ignore if t.ndim == 2 else np.stack((ignore, ignore.T)), 0.0, t)
    return t / np.maximum(np.sum(t, axis=-1, keepdims=True), np.finfo(t.dtype).tiny)


def _on_sphere(rng: np.random.Generator, rows: int, width: int) -> Any:
    x = rng.standard_normal((rows, width))
    return x / np.linalg.norm(x, axis=1, keepdims=True)
