"""How good is an embedding?

In:  embeddings of both parts, NumPy, rows of length 1, and their classes.
Out: the accuracy of a linear classifier on them, and of a nearest neighbour among a few labels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from refcl import softmax_contrastive
from refcl.experiment.data import LABELS_PER_CLASS
from refcl.experiment.seeding import generator

Floats = NDArray[np.floating[Any]]

PENALTY = 1e-4  # of the linear probe, on the squared weights
DRAWS = 10  # of labels, in the few-label probe
STRIP = 1024  # samples that are looked up at a time


def linear_accuracy(training: Floats, labels: NDArray[np.int64], held_out: Floats, truth: NDArray[np.int64]) -> float:
    """Return the accuracy of logistic regression: the mean of `linear_correct`.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.probe import linear_accuracy
    >>> x, y = np.array([[1.0, 0.1], [0.9, 0.0], [0.0, 1.0], [0.1, 0.9]]), np.array([0, 0, 1, 1])
    >>> linear_accuracy(x, y, x, y)
    1.0
    """
    return float(np.mean(linear_correct(training, labels, held_out, truth)))


def linear_correct(
    training: Floats, labels: NDArray[np.int64], held_out: Floats, truth: NDArray[np.int64]
) -> NDArray[np.bool_]:
    r"""Say where multinomial logistic regression is right, fitted on one part and asked about the other.

    Parameters
    ----------
    training : (N, D) array
        Embeddings to fit on.
    labels : (N,) array of int64
        Their classes, 0 to C - 1.
    held_out : (N', D) array
        Embeddings to measure on.
    truth : (N',) array of int64
        Their classes.

    Returns
    -------
    (N',) array of booleans
        True where the largest logit is that of the sample's class.

    Notes
    -----
    Multinomial logistic regression is the softmax contrastive loss between a sample and the classes, at temperature 1,
    the sample's own class its positive. So the library's own loss is what L-BFGS minimises, in float64, with
    :math:`\frac{\lambda}{2}\lVert W\rVert^2` added for λ = 1e-4. Columns are standardised on the training part.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.probe import linear_correct
    >>> x, y = np.array([[1.0, 0.1], [0.9, 0.0], [0.0, 1.0], [0.1, 0.9]]), np.array([0, 0, 1, 1])
    >>> linear_correct(x, y, x, np.array([0, 1, 1, 1]))
    array([ True, False,  True,  True])
    """
    mean, deviation = training.mean(axis=0, dtype=np.float64), training.std(axis=0, dtype=np.float64)
    scale = 1.0 / np.where(deviation > 0.0, deviation, 1.0)
    x = (training - mean) * scale  # (N, D) float64
    shape = (x.shape[1] + 1, int(labels.max()) + 1)  # the last row is the bias

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight = flat.reshape(shape)
        loss, grads = softmax_contrastive(x @ weight[:-1] + weight[-1], 1.0, positive=labels)
        dweight = np.vstack([x.T @ grads.ds + PENALTY * weight[:-1], grads.ds.sum(axis=0)])
        return float(loss) + 0.5 * PENALTY * float(np.sum(weight[:-1] ** 2)), dweight.ravel()

    start = np.zeros(shape).ravel()
    weight = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x.reshape(shape)
    logits = (held_out - mean) * scale @ weight[:-1] + weight[-1]
    return np.asarray(np.argmax(logits, axis=1) == truth)


def few_label_accuracy(
    training: Floats, labels: NDArray[np.int64], held_out: Floats, truth: NDArray[np.int64], *, seed: int
) -> float:
    """Return the accuracy of the nearest labelled neighbour: the mean of `few_label_correct`.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.probe import few_label_accuracy
    >>> z, y = np.repeat(np.eye(2), 5, axis=0), np.repeat([0, 1], 5)
    >>> few_label_accuracy(z, y, z, y, seed=0)
    1.0
    """
    return float(np.mean(few_label_correct(training, labels, held_out, truth, seed=seed)))


def few_label_correct(
    training: Floats, labels: NDArray[np.int64], held_out: Floats, truth: NDArray[np.int64], *, seed: int
) -> Floats:
    """Say how often the nearest labelled neighbour is right, with five labels a class, over ten draws of labels.

    Parameters
    ----------
    training : (N, D) array
        Embeddings that labels are drawn among, rows of length 1.
    labels : (N,) array of int64
        Their classes, 0 to C - 1, each at least five times.
    held_out : (N', D) array
        Embeddings to measure on, rows of length 1.
    truth : (N',) array of int64
        Their classes.
    seed : int
        Of the draws: runs with one seed are measured with the same labels.

    Returns
    -------
    (N',) array
        The share of the draws in which the nearest labelled sample, by cosine, is of the sample's class.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.probe import few_label_correct
    >>> z, y = np.repeat(np.eye(2), 5, axis=0), np.repeat([0, 1], 5)
    >>> few_label_correct(z, y, np.eye(2), np.array([0, 0]), seed=0)
    array([1., 0.])
    """
    rng = generator(seed, "few labels")
    members = [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]
    right = np.zeros(held_out.shape[0])
    for _ in range(DRAWS):
        known = np.concatenate([rng.choice(rows, LABELS_PER_CLASS, replace=False) for rows in members])
        for start in range(0, held_out.shape[0], STRIP):
            rows = slice(start, start + STRIP)
            nearest = known[np.argmax(held_out[rows] @ training[known].T, axis=1)]
            right[rows] += labels[nearest] == truth[rows]
    return right / DRAWS
