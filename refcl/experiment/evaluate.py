"""A trained encoder -> what a study reports of it.

In:  the encoder before and after training, and the data.
Out: the numbers of its record, and the arrays that figures are drawn from; NumPy, on the held-out part.
"""

import numpy as np
from numpy.typing import NDArray

from refcl.backend import to_host
from refcl.experiment.data import Data
from refcl.experiment.errors import StudyError
from refcl.experiment.objectives import OBJECTIVES, Run
from refcl.experiment.probe import few_label_accuracy, linear_accuracy
from refcl.experiment.seeding import generator
from refcl.experiment.train import Model, Send, Settings, embed
from refcl.experiment.views import view
from refcl.metrics import alignment, local_separation, tolerance, uniformity

NEAREST = 10  # negatives that the local separation shows
LEAF_NAMES = ("weight", "bias", "gamma", "beta")


def evaluate(
    model: Model, before: Model, data: Data, run: Run, settings: Settings, send: Send
) -> tuple[dict[str, float], dict[str, NDArray[np.generic]]]:
    """Measure an encoder.

    Parameters
    ----------
    model, before : Model
        Trained and untrained.
    data : Data
        Both parts: the probes learn on the training part, everything is measured on the held-out part.
    run : Run
        Read here: the seed, of views and of the labels that the few-label probe knows.
    settings : Settings
        Read here: the views.
    send : callable
        Moves a NumPy array to the device.

    Returns
    -------
    numbers : dict of str to float
        ``uniformity`` (minus the loss of the paper's Eq. 10 at t = 2: larger is more uniform), ``tolerance`` and both
        accuracies of the samples as they are; ``alignment`` of two views of each.
    arrays : dict of str to array
        Parameters and running statistics; ``learned_log_scale`` (1,) and the like, where the loss learned something
        beside the encoder; ``embedding``, ``embedding_before`` (N, D) and ``labels`` (N,); ``positive_similarity``
        (N,), between a sample's two views, and ``nearest`` (N, 10), descending: the largest similarities of its first
        view to the second views of others. Ten, or all others where there are fewer.

    Raises
    ------
    StudyError
        Where training diverged: an embedding is not of length 1, as where it is NaN or overflowed.
    """
    held_out = send(data.held_out.x)
    z = to_host(embed(model, held_out))  # (N, D) float32
    if not np.all(np.abs(np.linalg.norm(z, axis=1) - 1.0) < 1e-3):
        raise StudyError(f"training diverged under the {run.loss} loss; lower --learning-rate.")
    rng = generator(run.seed, "held-out views")
    first, second = (
        _precise(embed(model, view(held_out, rng, image=data.image, blank=data.blank, strength=settings.views)))
        for _ in range(2)
    )
    positive, nearest = local_separation(first @ second.T, nearest=min(NEAREST, z.shape[0] - 1))
    known = _precise(embed(model, send(data.training.x))), data.training.y
    measured = _precise(z), data.held_out.y
    numbers = {
        "uniformity": -float(uniformity.forward(measured[0])[0]),
        "tolerance": float(tolerance(*measured)),
        "alignment": float(alignment.forward(first, second)[0]),
        "linear_accuracy": linear_accuracy(*known, *measured),
        "few_label_accuracy": few_label_accuracy(*known, *measured, seed=run.seed),
    }
    arrays = {
        **_named(model),
        **_learned(model, run),
        "embedding": z,
        "embedding_before": to_host(embed(before, held_out)),
        "labels": data.held_out.y,
        "positive_similarity": positive.astype(np.float32),
        "nearest": nearest.astype(np.float32),
    }
    return numbers, arrays


def _precise(z: object) -> NDArray[np.float64]:
    return np.asarray(to_host(z), dtype=np.float64)


def _learned(model: Model, run: Run) -> dict[str, NDArray[np.generic]]:
    if not model.learned:
        return {}
    names = [name for name, _ in OBJECTIVES[run.loss].learned]
    return {f"learned_{name}": to_host(value) for name, value in zip(names, model.learned, strict=True)}


def _named(model: Model) -> dict[str, NDArray[np.generic]]:
    """Return parameters and running statistics as flat named arrays: layer0_weight, layer0_running_mean, ..."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for depth, (layer, statistics) in enumerate(zip(model.params, model.running, strict=True)):
        arrays |= {f"layer{depth}_{name}": to_host(leaf) for name, leaf in zip(LEAF_NAMES, layer, strict=False)}
        names = ("running_mean", "running_variance")
        arrays |= {f"layer{depth}_{name}": to_host(leaf) for name, leaf in zip(names, statistics, strict=False)}
    return arrays
