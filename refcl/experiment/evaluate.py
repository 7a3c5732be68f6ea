"""A trained encoder -> what a study reports of it.

In:  the encoder before and after training, and the data.
Out: the numbers of its record, and arrays, NumPy: what was measured of each sample, so that a number can be resampled.
Memory grows with the number of samples, never with its square.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refcl.core.arrays import Array, to_host
from refcl.experiment.data import Data
from refcl.experiment.errors import StudyError
from refcl.experiment.objectives import OBJECTIVES, Run
from refcl.experiment.probe import few_label_correct, linear_correct
from refcl.experiment.seeding import generator
from refcl.experiment.train import Model, Send, Settings, embed
from refcl.experiment.views import view
from refcl.metrics import alignment, local_separation, tolerance, uniformity
from refcl.walk.encoder import Layer
from refcl.walk.layers import Statistics

NEAREST = 10  # negatives that the local separation shows
ANCHORS = 2000  # samples of a part whose nearest others are looked for: the time grows with their number
STRIP = 512  # rows of similarities that are in memory at a time
KERNEL = 2.0  # t of the uniformity
LEAF_NAMES = ("weight", "bias", "gamma", "beta")
STATISTICS = ("running_mean", "running_variance")

Arrays = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]


def evaluate(
    model: Model, before: Model, data: Data, run: Run, settings: Settings, send: Send
) -> tuple[dict[str, float], Arrays]:
    """Measure an encoder.

    Parameters
    ----------
    model, before : Model
        Trained and untrained.
    data : Data
        Both parts: the probes learn on the training part, everything is measured on the held-out part; the local
        separation on the training part too.
    run : Run
        Read here: the seed, of views and of the labels that the few-label probe knows.
    settings : Settings
        Read here: the views.
    send : callable
        Moves a NumPy array to the device.

    Returns
    -------
    numbers : dict of str to float
        Those of `refcl.experiment.results.records.FIELDS` that are measured.
    arrays : dict of str to array
        Those of `refcl.experiment.results.records.ARRAYS`.

    Raises
    ------
    StudyError
        Where training diverged: an embedding is not of length 1, as where it is NaN or overflowed.
    """
    held_out, training = send(data.held_out.x), send(data.training.x)
    z = to_host(embed(model, held_out))  # (N, D) float32
    if not np.all(np.abs(np.linalg.norm(z, axis=1) - 1.0) < 1e-3):
        raise StudyError(f"training diverged under the {run.loss} loss; lower --learning-rate.")
    near = _separation(model, held_out, data, run, settings, "held-out views")
    near_training = _separation(model, training, data, run, settings, "training views")
    known = _precise(embed(model, training)), data.training.y
    measured = _precise(z), data.held_out.y
    linear = linear_correct(*known, *measured)
    few = few_label_correct(*known, *measured, seed=run.seed)
    numbers = {
        "uniformity": -float(uniformity.forward(measured[0])[0]),
        "tolerance": float(tolerance(*measured)),
        "alignment": near.alignment,
        "linear_accuracy": float(np.mean(linear)),
        "few_label_accuracy": float(np.mean(few)),
        "separation": float(np.mean(near.positive - near.nearest[:, 0])),
        "separation_training": float(np.mean(near_training.positive - near_training.nearest[:, 0])),
        "positive_training": float(np.mean(near_training.positive)),
    }
    arrays: Arrays = {
        "embedding": z,
        "embedding_before": to_host(embed(before, held_out)),
        "labels": data.held_out.y,
        "linear_correct": linear,
        "few_label_correct": few,
        "uniformity_score": uniformity_scores(measured[0]),
        "tolerance_score": tolerance_scores(*measured),
        "anchors": near.anchors,
        "positive_similarity": near.positive.astype(np.float32),
        "nearest": near.nearest.astype(np.float32),
        "anchors_training": near_training.anchors,
        "positive_similarity_training": near_training.positive.astype(np.float32),
        "nearest_training": near_training.nearest.astype(np.float32),
    }
    return numbers, arrays


class Near(NamedTuple):
    """Two views of some samples, and who is near."""

    anchors: NDArray[np.int64]  # (A,) which samples
    positive: Floats  # (A,)
    nearest: Floats  # (A, n) descending
    alignment: float  # of all samples


def _separation(model: Model, x: Array, data: Data, run: Run, settings: Settings, purpose: str) -> Near:
    rng = generator(run.seed, purpose)
    first, second = (
        _precise(embed(model, view(x, rng, image=data.image, blank=data.blank, strength=settings.views)))
        for _ in range(2)
    )
    size = first.shape[0]
    anchors = np.sort(generator(run.seed, "anchors").permutation(size)[:ANCHORS])
    positive, nearest = [], []
    for start in range(0, anchors.size, STRIP):
        rows = anchors[start : start + STRIP]
        near = local_separation(first[rows] @ second.T, nearest=min(NEAREST, size - 1), positive=rows)
        positive.append(near.positive)
        nearest.append(near.nearest)
    apart = float(alignment.forward(first, second)[0])
    return Near(anchors, np.concatenate(positive), np.concatenate(nearest), apart)


def uniformity_scores(z: Floats) -> Floats:
    r"""Return each sample's influence on :math:`e^{-uniformity}`, the mean of a kernel over pairs of samples.

    Parameters
    ----------
    z : (N, D) array of float64
        Embeddings of length 1, N >= 2.

    Returns
    -------
    (N,) array
        With :math:`u_i` the mean of :math:`e^{-2\lVert z_i - z_j\rVert^2}` over the other samples and U the mean of
        those, :math:`2 u_i - U`: the mean of a resample's is U there, to first order.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.evaluate import uniformity_scores
    >>> uniformity_scores(np.eye(3)).round(4)  # all distances are √2: exp(-4)
    array([0.0183, 0.0183, 0.0183])
    """
    own = []
    for start in range(0, z.shape[0], STRIP):
        s = z[start : start + STRIP] @ z.T
        kernel = np.exp(2.0 * KERNEL * (s - 1.0))
        np.put_along_axis(kernel, start + np.arange(kernel.shape[0])[:, None], 0.0, axis=1)
        own.append(kernel.sum(axis=1) / (z.shape[0] - 1))
    mean = np.concatenate(own)
    return np.asarray(2.0 * mean - mean.mean())


def tolerance_scores(z: Floats, labels: NDArray[np.int64]) -> Floats:
    """Return each sample's influence on the tolerance, the mean cosine within a class.

    Parameters
    ----------
    z : (N, D) array of float64
        Embeddings of length 1.
    labels : (N,) array of int64
        Classes.

    Returns
    -------
    (N,) array
        With t the mean cosine to the others of the class and T the mean of those over the class, 2 t − T: the mean of a
        resample's is the tolerance there, to first order. NaN for a sample that is alone in its class.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.evaluate import tolerance_scores
    >>> tolerance_scores(np.array([[1.0, 0.0], [0.6, 0.8]]), np.array([0, 0])).round(3)
    array([0.6, 0.6])
    """
    count = np.bincount(labels)
    sums = np.zeros((count.size, z.shape[1]))
    np.add.at(sums, labels, z)
    others = count[labels] - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        own = (np.sum(z * sums[labels], axis=1) - np.sum(z * z, axis=1)) / others  # (N,)
        of_class = np.bincount(labels, weights=own) / count
    return np.where(others > 0, 2.0 * own - of_class[labels], np.nan)


def _precise(z: object) -> Floats:
    return np.asarray(to_host(z), dtype=np.float64)


def named_arrays(model: Model, run: Run) -> Arrays:
    """Return an encoder, and what its loss learned, as flat named arrays: layer0_weight, layer0_running_mean, ..."""
    arrays: Arrays = {}
    for depth, (layer, statistics) in enumerate(zip(model.params, model.running, strict=True)):
        arrays |= {f"layer{depth}_{name}": to_host(leaf) for name, leaf in zip(LEAF_NAMES, layer, strict=False)}
        arrays |= {f"layer{depth}_{name}": to_host(leaf) for name, leaf in zip(STATISTICS, statistics, strict=False)}
    for (name, _), value in zip(OBJECTIVES[run.loss].learned, model.learned, strict=True):
        arrays[f"learned_{name}"] = to_host(value)
    return arrays


def encoder_of(arrays: Arrays, run: Run, send: Send) -> Model:
    """Return the encoder that `named_arrays` laid out, on a device."""
    layers: list[Layer] = []
    running: list[Statistics] = []
    while f"layer{len(layers)}_weight" in arrays:
        depth = len(layers)
        layers.append(_present(arrays, depth, LEAF_NAMES, send))
        running.append(_present(arrays, depth, STATISTICS, send))
    learned = tuple(send(arrays[f"learned_{name}"]) for name, _ in OBJECTIVES[run.loss].learned)
    return Model(tuple(layers), tuple(running), learned)


def _present(arrays: Arrays, depth: int, names: tuple[str, ...], send: Send) -> Any:
    return tuple(send(arrays[f"layer{depth}_{name}"]) for name in names if f"layer{depth}_{name}" in arrays)
