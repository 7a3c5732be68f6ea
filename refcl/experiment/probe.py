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


def linear_accuracy(training: Floats, labels: NDArray[np.int64], held_out: Floats, truth: NDArray[np.int64]) -> float:
    r"""Return the accuracy of multinomial logistic regression, fitted on one part and measured on the other.

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
    float
        The share of the held-out samples whose largest logit is their class's.

    Notes
    -----
    Multinomial logistic regression is the softmax contrastive loss between a sample and the classes, at temperature 1,
    the sample's own class its positive. So the library's own loss is what L-BFGS minimises, in float64, with
    :math:`\frac{\lambda}{2}\lVert W\rVert^2` added for λ = 1e-4. Columns are standardised on the training part.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.probe import linear_accuracy
    >>> x, y = np.array([[1.0, 0.1], [0.9, 0.0], [0.0, 1.0], [0.1, 0.9]]), np.array([0, 0, 1, 1])
    >>> linear_accuracy(x, y, x, y)
    1.0
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
    return float(np.mean(np.argmax(logits, axis=1) == truth))


def few_label_accuracy(
    training: Floats, labels: NDArray[np.int64], held_out: Floats, truth: NDArray[np.int64], *, seed: int
) -> float:
    """Return the accuracy of the nearest labelled neighbour, with five labels a class, mean of ten draws of labels.

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
    float
        The share of the held-out samples whose nearest labelled sample, by cosine, is of their class.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.probe import few_label_accuracy
    >>> z, y = np.repeat(np.eye(2), 5, axis=0), np.repeat([0, 1], 5)
    >>> few_label_accuracy(z, y, z, y, seed=0)
    1.0
    """
    rng = generator(seed, "few labels")
    members = [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]
    accuracies = []
    for _ in range(DRAWS):
        known = np.concatenate([rng.choice(rows, LABELS_PER_CLASS, replace=False) for rows in members])
        nearest = known[np.argmax(held_out @ training[known].T, axis=1)]
        accuracies.append(np.mean(labels[nearest] == truth))
    return float(np.mean(accuracies))
