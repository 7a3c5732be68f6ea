"""Where the samples come from.

In:  the digits of the package, or an ``.npz`` of anyone's own with ``X`` and ``y``.
Out: a training and a held-out part, standardised on the training part, float32, one row a sample.
"""

import hashlib
import zipfile
import zlib
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refcl.experiment.errors import StudyError
from refcl.experiment.seeding import generator

LABELS_PER_CLASS = 5  # the few-label probe needs so many training samples of each class
TRAINING_SHARE = 0.7
COLOURS = 3  # red, green and blue
SPLIT_SEED = 0  # of the data, not of a run: every run of every study sees the same two parts


class Part(NamedTuple):
    x: NDArray[np.float32]  # (N, F) standardised
    y: NDArray[np.int64]  # (N,) classes 0, 1, ...


class Data(NamedTuple):
    source: Path | None  # the file, or None for the digits
    name: str  # "digits", or the file's name
    fingerprint: str  # of X and y: whether two studies saw the same numbers
    training: Part
    held_out: Part
    image: tuple[int, ...] | None  # (height, width) where a sample is an image, (height, width, 3) where it has colours
    blank: float  # the value of an empty pixel; of a missing feature where samples are no images


def load(path: str | Path | None = None) -> Data:
    """Load, check, split and standardise a data set.

    Parameters
    ----------
    path : str or pathlib.Path, optional
        An ``.npz`` with ``X`` (N, F), (N, H, W) or (N, H, W, 3), and integer ``y`` (N,); None is the digits of the
        package.

    Returns
    -------
    Data
        Both parts. Images share one mean and one standard deviation, so that a shifted image is an image of the same
        kind; features have one of each a column, and a column that is constant becomes zeros.

    Raises
    ------
    StudyError
        Where the file or what it holds cannot be used.

    Examples
    --------
    >>> from refcl.experiment.data import load
    >>> digits = load()
    >>> digits.training.x.shape, digits.held_out.x.shape, digits.image
    ((1257, 64), (540, 64), (8, 8))
    """
    if path is None:
        with resources.as_file(resources.files("refcl.experiment") / "digits.npz") as file:
            x, labels = _read(file)
        name = "digits"
    else:
        x, labels = _read(Path(path))
        name = Path(path).name
    x = _checked_samples(x, name)
    y = _checked_labels(labels, x.shape[0], name)
    training, held_out = stratified_split(y)
    fewest = np.bincount(y[training], minlength=int(y.max()) + 1).min()
    if fewest < LABELS_PER_CLASS:
        raise StudyError(
            f"{name}: a class has {fewest} training samples; expected at least {LABELS_PER_CLASS}. "
            "Leave the class out or add samples."
        )
    image = x.shape[1:] if x.ndim > 2 else None
    with np.errstate(over="ignore", invalid="ignore"):  # told once, in words
        mean, deviation = _standardisation(x[training], image is not None)
        standardised = ((x - mean) / deviation).reshape(x.shape[0], -1).astype(np.float32)
    if not (np.all(np.isfinite(deviation)) and np.all(np.isfinite(standardised))):
        raise StudyError(
            f"{name}: X reaches {np.max(np.abs(x)):.3g}, too far to be standardised in float32; "
            "expected numbers of one scale: divide X by a number, or leave those samples out."
        )
    return Data(
        source=None if path is None else Path(path),
        name=name,
        fingerprint=_fingerprint(x, y),
        training=Part(standardised[training], y[training]),
        held_out=Part(standardised[held_out], y[held_out]),
        image=image,
        # rounded as the samples are: an empty pixel equals it
        blank=float(np.float32(-mean / deviation)) if image is not None else 0.0,
    )


def stratified_split(y: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split samples 70 to 30, each class alike, always the same way.

    Parameters
    ----------
    y : (N,) array of int64
        Classes 0, 1, ...

    Returns
    -------
    training, held_out : arrays of int64
        Sorted indices; floor(0.7 N) of them are for training. A class gives floor(0.7 of its samples) and the classes
        with the largest remainders one more, until the total is reached.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.data import stratified_split
    >>> training, held_out = stratified_split(np.repeat([0, 1], 10))
    >>> training.size, held_out.size
    (14, 6)
    """
    counts = np.bincount(y)
    shares = TRAINING_SHARE * counts
    taken = np.floor(shares).astype(np.int64)
    missing = int(TRAINING_SHARE * y.size) - int(taken.sum())
    taken[np.argsort(-(shares - taken), kind="stable")[:missing]] += 1
    rng = generator(SPLIT_SEED, "split")
    chosen = [rng.permutation(np.flatnonzero(y == label))[:size] for label, size in enumerate(taken)]
    training = np.sort(np.concatenate(chosen))
    return training, np.setdiff1d(np.arange(y.size), training)


def _read(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    refusal = StudyError(f"{path}: not an .npz file of arrays; write one with numpy.savez.")
    try:
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise refusal
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as file:
                missing = [key for key in ("X", "y") if key not in file.files]
                if missing:
                    raise StudyError(f"{path}: expected arrays X and y; there is no {' and no '.join(missing)}.")
                x, y = file["X"], file["y"]
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; give --data the path of an .npz file.") from None
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror or error}.") from None
    except (ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise StudyError(f"{path}: holds pickled objects, which can run code; save X and y as numbers.") from None
        raise refusal from None
    if not (isinstance(x, np.ndarray) and isinstance(y, np.ndarray)):  # numpy.load gives the bytes of anything else
        raise refusal
    return x, y


def _checked_samples(x: NDArray[Any], name: str) -> NDArray[np.float64]:
    if x.dtype.kind not in "biuf":
        raise StudyError(f"{name}: X is {x.dtype}; expected real numbers.")
    if x.ndim not in (2, 3, 4) or 0 in x.shape or (x.ndim == 4 and x.shape[3] != COLOURS):
        raise StudyError(
            f"{name}: X has shape {x.shape}; expected (N, features), (N, height, width) or "
            f"(N, height, width, {COLOURS})."
        )
    numbers = x.astype(np.float64)
    if not np.all(np.isfinite(numbers)):
        raise StudyError(f"{name}: X holds NaN or infinity; leave those samples out or fill them in.")
    return numbers


def _checked_labels(labels: NDArray[Any], n: int, name: str) -> NDArray[np.int64]:
    if labels.shape != (n,):
        raise StudyError(f"{name}: y has shape {labels.shape}; expected ({n},), one label for each sample of X.")
    if labels.dtype.kind not in "iu":
        raise StudyError(f"{name}: y is {labels.dtype}; expected integers.")
    classes, y = np.unique(labels, return_inverse=True)
    if classes.size < 2:
        raise StudyError(f"{name}: y holds one class; expected at least two.")
    return y.astype(np.int64)


def _standardisation(x: NDArray[np.float64], images: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    axis = None if images else 0
    deviation = np.asarray(np.std(x, axis=axis))
    return np.asarray(np.mean(x, axis=axis)), np.where(deviation > 0.0, deviation, 1.0)


def _fingerprint(x: NDArray[np.float64], y: NDArray[np.int64]) -> str:
    digest = hashlib.sha256(f"{x.shape}".encode())
    digest.update(np.ascontiguousarray(x).tobytes())
    digest.update(y.tobytes())
    return digest.hexdigest()[:16]
