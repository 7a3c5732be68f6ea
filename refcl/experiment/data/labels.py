"""Labels of any kind -> classes 0, 1, ...

In:  integers, floats that name classes, booleans, text; one a sample, (N, 1), or one-hot (N, C).
Out: classes and their names, and what was recognised; every refusal says how to mend it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refcl.experiment.errors import StudyError

MANY = 0.5  # a share of different values above which floats are measurements, not classes


class Labels(NamedTuple):
    """The classes of samples, by number and by name."""

    y: NDArray[np.int64]  # (N,)
    classes: tuple[str, ...]  # the name of each class, sorted as the labels are
    said: str  # what was recognised, "" where there was nothing to recognise


def classes_of(labels: NDArray[np.generic], n: int, name: str) -> Labels:
    """Turn labels into classes.

    Parameters
    ----------
    labels : array
        As the file has them.
    n : int
        How many samples there are.
    name : str
        Of the data set, for messages.

    Returns
    -------
    Labels
        Classes 0 to C - 1.

    Raises
    ------
    StudyError
        Where they are no labels of these samples.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.data.labels import classes_of
    >>> classes_of(np.array(["dog", "cat", "dog"]), 3, "pets")
    Labels(y=array([1, 0, 1]), classes=('cat', 'dog'), said='labels are text')
    """
    labels, said = _one_each(labels, n, name)
    kind = labels.dtype.kind
    if kind == "f":
        if not np.all(np.isfinite(labels)):
            count = int(np.sum(~np.isfinite(labels)))
            raise StudyError(
                f"{name}: y is NaN or infinite for {count} of {n} samples; leave them out: "
                "keep = numpy.isfinite(y); X, y = X[keep], y[keep]."
            )
        found = np.unique(labels)
        if np.any(found != np.round(found)) and found.size > max(20, MANY * n):
            raise StudyError(
                f"{name}: y is {labels.dtype} with {found.size} different values in {n} samples, a quantity "
                "and no class; "
                "make classes of it: y = numpy.digitize(y, numpy.quantile(y, [1/3, 2/3]))."
            )
        said = said or "labels are floats"
    elif kind == "b":
        said = said or "labels are booleans"
    elif kind in "US":
        said = said or "labels are text"
    elif kind not in "iu":
        raise StudyError(
            f"{name}: y is {labels.dtype}; expected labels: integers, text, booleans or one-hot rows, such as "
            "numpy.unique(y, return_inverse=True)[1]."
        )
    values, y = np.unique(labels, return_inverse=True)
    if values.size < 2:
        raise StudyError(f"{name}: y holds one class; expected at least two.")
    return Labels(y.reshape(-1).astype(np.int64), tuple(map(_named, values)), said)


def _one_each(labels: NDArray[np.generic], n: int, name: str) -> tuple[NDArray[np.generic], str]:
    """Return labels (N,), whether they came so, as a column, or one-hot."""
    if labels.shape == (n,):
        return labels, ""
    if labels.shape == (n, 1) or labels.shape == (1, n):
        return labels.reshape(-1), f"labels came as {labels.shape}"
    if labels.ndim == 2 and labels.shape[0] == n and labels.dtype.kind in "biuf":
        ones = labels == 1
        if np.all(ones | (labels == 0)) and np.all(ones.sum(axis=1) == 1):
            return ones.argmax(axis=1), f"labels are one-hot, {labels.shape[1]} wide"
        raise StudyError(
            f"{name}: y has shape {labels.shape} and is not one-hot; expected one label a sample: take a "
            "column, such as "
            "y[:, 0], or y.argmax(axis=1)."
        )
    if labels.ndim == 1 and labels.size and n % labels.size == 0 and labels.size < n:
        advice = f"numpy.repeat(y, {n // labels.size}) if they repeat"
    else:
        advice = f"y.ravel() or X[:{labels.shape[0] if labels.ndim else 0}] if that is what belongs together"
    raise StudyError(f"{name}: y has shape {labels.shape}; expected ({n},), one label for each sample of X: {advice}.")


def _named(value: np.generic) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    plain = value.item()
    return f"{plain:g}" if isinstance(plain, float) else str(plain)
