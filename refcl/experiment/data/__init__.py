"""Where the samples come from.

In:  the digits of the package, or a file or folder of anyone's own.
Out: a training and a held-out part, standardised on the training part, float32, one row a sample; what was recognised,
and what is odd about them.
"""

import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refcl.experiment.data.files import Found, read
from refcl.experiment.data.labels import Labels, classes_of
from refcl.experiment.data.layout import Layout, recognised
from refcl.experiment.errors import StudyError
from refcl.experiment.seeding import generator

LABELS_PER_CLASS = 5  # the few-label probe needs so many training samples of each class
TRAINING_TENTHS = 7  # of ten samples, for training
SPLIT_SEED = 0  # of the data, not of a run: every run of every study sees the same two parts
UNBALANCED = 3.0  # times an even share: of the largest class, from which on a word is said
AT_ONCE = 1024  # rows that are turned into numbers of another kind at a time
COUNTED = 10  # samples, from which on a feature that grows evenly is their number
MANY_CLASSES = 20  # from which on labels that hardly repeat are taken for a quantity
SHOWN = 12  # names of classes on one line
DIGITS = "digits"


class Source(NamedTuple):
    """Where data are, for whoever loads them again."""

    path: Path | None = None  # None is the digits
    test: Path | None = None
    x: tuple[str, ...] = ()
    y: str | None = None


class Part(NamedTuple):
    """Samples and their classes: what is trained on, or what is held out."""

    x: NDArray[np.float32]  # (N, F) standardised
    y: NDArray[np.int64]  # (N,) classes 0, 1, ...


class Data(NamedTuple):
    """A data set, split and standardised, and what was recognised of it."""

    source: Source
    name: str  # "digits", or the file's name
    fingerprint: str  # of X and y: whether two studies saw the same numbers
    training: Part
    held_out: Part
    image: tuple[int, ...] | None  # (height, width) where a sample is an image, (height, width, 3) where it has colours
    blank: float  # the value of an empty pixel; of a missing feature where samples are no images
    classes: tuple[str, ...] = ()
    said: str = ""  # what was recognised
    warnings: tuple[str, ...] = ()


def load(
    path: str | Path | None = None,
    *,
    test: str | Path | None = None,
    x: Sequence[str] = (),
    y: str | None = None,
) -> Data:
    """Load, check, split and standardise a data set.

    Parameters
    ----------
    path : str or pathlib.Path, optional
        A file or folder that `refcl.experiment.data.files.read` knows; None is the digits of the package.
    test : str or pathlib.Path, optional
        Another one of the same kind, which is held out; all of ``path`` is then for training.
    x, y : optional
        Which arrays or columns hold samples and labels.

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
    source = Source(None if path is None else Path(path), None if test is None else Path(test), tuple(x), y)
    try:
        return _load(source)
    except MemoryError:
        raise StudyError(f"{path}: not enough memory to load it; give fewer samples, or smaller ones.") from None


def _load(source: Source) -> Data:
    if source.path is None:
        with resources.as_file(resources.files("refcl.experiment") / "digits.npz") as file:
            found, name = read(file), DIGITS
    else:
        found, name = read(source.path, source.x, source.y), source.path.resolve().name
    own_test = found.test
    if source.test is not None:
        own_test = read(source.test, source.x, source.y if source.path is None or not _is_file(source.y) else None)
    _check_roles(found, name)
    layout = _checked(recognised(found.x, name, channels_last=found.given_image), name)
    labels = classes_of(found.labels, layout.x.shape[0], name)
    if own_test is None:
        training, held_out = stratified_split(labels.y)
        parts = [(layout.x, training, labels.y[training]), (layout.x, held_out, labels.y[held_out])]
        split = f"{training.size} for training, {held_out.size} held out"
    else:
        parts, split = _with_test_part(layout, labels, own_test, source.test.name if source.test else name)
    _check_classes(parts[0][2], parts[1][2], labels.classes, name)
    mean, deviation = _standardisation(*parts[0][:2], images=layout.image is not None)
    standardised = [Part(_standardised(x, rows, mean, deviation, name), y) for x, rows, y in parts]
    said = "; ".join(filter(None, [layout.said, labels.said, found.said, _counted(labels.classes), split]))
    return Data(
        source=source,
        name=name,
        fingerprint=_fingerprint(parts),
        training=standardised[0],
        held_out=standardised[1],
        image=layout.image,
        # rounded as the samples are: an empty pixel equals it
        blank=float(np.float32(-mean / deviation)) if layout.image is not None else 0.0,
        classes=labels.classes,
        said=f"{name}: {said}.",
        warnings=tuple(_warnings(standardised, layout, labels.classes, name)),
    )


def _check_roles(found: Found, name: str) -> None:
    """Refuse samples and labels that changed places, and samples that lie in columns."""
    x, y = found.x, found.labels
    if x.ndim == 1 and y.ndim > 1 and x.shape[0] == y.shape[0]:
        raise StudyError(
            f"{name}: X has shape {x.shape} and y {y.shape}; expected samples and their labels: swap them."
        )
    if x.ndim == 2 and y.ndim == 1 and y.shape[0] == x.shape[1] != x.shape[0]:
        raise StudyError(f"{name}: X has shape {x.shape} and y {y.shape}; expected a sample a row: X.T.")


def _is_file(word: str | None) -> bool:
    return word is not None and Path(word).is_file()


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
    taken, remainders = np.divmod(TRAINING_TENTHS * counts, 10)  # whole numbers: .7 of 90 is 63, not 62.99...
    missing = TRAINING_TENTHS * y.size // 10 - int(taken.sum())
    taken[np.argsort(-remainders, kind="stable")[:missing]] += 1
    rng = generator(SPLIT_SEED, "split")
    chosen = [rng.permutation(np.flatnonzero(y == label))[:size] for label, size in enumerate(taken)]
    training = np.sort(np.concatenate(chosen))
    return training, np.setdiff1d(np.arange(y.size), training)


Rows = tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]  # samples, which of them, and the classes of those


def _with_test_part(layout: Layout, labels: Labels, test: Found, name: str) -> tuple[list[Rows], str]:
    """Return both parts where the held-out one is given."""
    other = _checked(recognised(test.x, name, channels_last=test.given_image), name)
    if other.x.shape[1:] != layout.x.shape[1:]:
        raise StudyError(
            f"{name}: its samples are {other.x.shape[1:]}, those of the training part {layout.x.shape[1:]}."
        )
    theirs = classes_of(test.labels, other.x.shape[0], name)
    unknown = [c for c in theirs.classes if c not in labels.classes]
    if unknown:
        raise StudyError(f"{name}: class {unknown[0]} is not in the training part; leave it out there or add it here.")
    same = np.array([labels.classes.index(c) for c in theirs.classes])
    everyone = np.arange(layout.x.shape[0]), np.arange(other.x.shape[0])
    parts = [(layout.x, everyone[0], labels.y), (other.x, everyone[1], same[theirs.y])]
    return parts, f"all {labels.y.size} for training, {theirs.y.size} of the test part held out"


def _checked(layout: Layout, name: str) -> Layout:
    """Refuse numbers that are none, and say which rows hold them."""
    if layout.x.dtype.kind == "f":
        bad = _rows_where(layout.x, lambda rows: ~np.isfinite(rows).all(axis=1))
        if bad.size:
            shown = ", ".join(map(str, bad[:5])) + (", ..." if bad.size > 5 else "")
            raise StudyError(
                f"{name}: X holds NaN or infinity in {bad.size} of {layout.x.shape[0]} samples (rows "
                f"{shown}); leave them "
                "out: keep = numpy.isfinite(X.reshape(len(X), -1)).all(axis=1); X, y = X[keep], y[keep]."
            )
    return layout


def _rows_where(x: NDArray[Any], asked: Any) -> NDArray[np.int64]:
    found = [
        start + np.flatnonzero(asked(x[start : start + AT_ONCE].reshape(min(AT_ONCE, x.shape[0] - start), -1)))
        for start in range(0, x.shape[0], AT_ONCE)
    ]
    return np.concatenate(found)


def _check_classes(
    training: NDArray[np.int64], held_out: NDArray[np.int64], classes: tuple[str, ...], name: str
) -> None:
    counts = np.bincount(training, minlength=len(classes))
    few = np.flatnonzero(counts < LABELS_PER_CLASS)
    if few.size:
        k = int(few[0])
        if 2 * few.size > len(classes) > MANY_CLASSES:
            raise StudyError(
                f"{name}: y has {len(classes)} different values, and {few.size} of them fewer than {LABELS_PER_CLASS} "
                "training samples: a quantity and no class; make classes of it: "
                "y = numpy.digitize(y, numpy.quantile(y, [1/3, 2/3]))."
            )
        more = f" (and {few.size - 1} other classes)" if few.size > 1 else ""
        sample = "sample" if counts[k] == 1 else "samples"
        raise StudyError(
            f"{name}: class {classes[k]} has {counts[k]} training {sample}{more}; expected at least "
            f"{LABELS_PER_CLASS}. "
            f"Leave such classes out, as by keep = y != {_written(classes[k])}; X, y = X[keep], y[keep], "
            "or add samples."
        )
    if held_out.size < 2:
        raise StudyError(f"{name}: {held_out.size} samples are held out; expected at least two.")


def _written(name: str) -> str:
    """Return the name of a class as it is written in Python: numbers and booleans as they are, text in quotes."""
    plain = name in ("True", "False") or name.lstrip("-").replace(".", "", 1).isdigit()
    return name if plain else repr(name)


# --- numbers ---


def _standardisation(
    x: NDArray[Any], rows: NDArray[np.int64], *, images: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and deviation of some rows, a strip at a time: of all numbers, or of each column."""
    with np.errstate(over="ignore", invalid="ignore"):  # told once, in words
        mean, count = _mean(x, rows, images, lambda part: part), 1
        square = _mean(x, rows, images, lambda part: (part - mean) ** 2)
        deviation = np.sqrt(square / count)
    # What is left of a constant column by rounding is no deviation.
    return mean, np.where(deviation > 1e-12 * np.abs(mean), deviation, 1.0)


def _mean(x: NDArray[Any], rows: NDArray[np.int64], images: bool, of: Any) -> NDArray[np.float64]:
    total: Any = 0.0
    for start in range(0, rows.size, AT_ONCE):
        part = of(_precise(x, rows[start : start + AT_ONCE]))
        total = total + (part.sum() if images else part.sum(axis=0))
    return np.asarray(total / (rows.size * (part.shape[1] if images else 1)))


def _precise(x: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return x[rows].reshape(rows.size, -1).astype(np.float64)


def _standardised(
    x: NDArray[Any], rows: NDArray[np.int64], mean: NDArray[np.float64], deviation: NDArray[np.float64], name: str
) -> NDArray[np.float32]:
    features = int(np.prod(x.shape[1:]))
    out = np.empty((rows.size, features), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, rows.size, AT_ONCE):
            out[start : start + AT_ONCE] = (_precise(x, rows[start : start + AT_ONCE]) - mean) / deviation
    if not (
        np.all(np.isfinite(deviation))
        and all(np.all(np.isfinite(out[k : k + AT_ONCE])) for k in range(0, rows.size, AT_ONCE))
    ):
        raise StudyError(
            f"{name}: X reaches {float(np.max(np.abs(x))):.3g}, too far to be standardised in float32; "
            "expected numbers of one scale: divide X by a number, or leave those samples out."
        )
    return out


def _fingerprint(parts: Sequence[Rows]) -> str:
    digest = hashlib.sha256()
    for x, rows, y in parts:
        digest.update(f"{x.shape[1:]} {rows.size}".encode())
        for start in range(0, rows.size, AT_ONCE):
            digest.update(_precise(x, rows[start : start + AT_ONCE]).tobytes())
        digest.update(y.tobytes())
    return digest.hexdigest()[:16]


# --- words ---


def _counted(classes: tuple[str, ...]) -> str:
    names = " ".join(classes) if len(classes) <= SHOWN else " ".join([*classes[: SHOWN - 1], "..."])
    return f"{len(classes)} classes: {names}"


def _counting(x: NDArray[Any]) -> list[int]:
    """Return the features that grow by the same step from sample to sample, as their number does."""
    first = x[: COUNTED + 1].astype(np.float64)
    step = np.diff(first, axis=0)
    if first.shape[0] <= COUNTED:
        return []
    likely = np.flatnonzero(np.all((step == step[0]) & (step != 0), axis=0))  # few, so that no large array is copied
    return [int(k) for k in likely if np.all(np.diff(x[:, k].astype(np.float64)) == step[0, k])]


def _warnings(parts: Sequence[Part], layout: Layout, classes: tuple[str, ...], name: str) -> list[str]:
    """Say what is odd, one line each; refuse where nothing could be learned."""
    training, held_out = parts
    rows = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for part in parts for row in part.x]
    different = len(set(rows))
    if different == 1:
        raise StudyError(f"{name}: every sample is the same, so that nothing can be learned; look at how X was made.")
    said = []
    if different < len(rows):
        shared = len(set(rows[: training.y.size]) & set(rows[training.y.size :]))
        both = f", {shared} of them in both parts" if shared else ""
        said.append(f"{len(rows) - different} of {len(rows)} samples are duplicates of others{both}.")
    if layout.image is None:
        for k in _counting(layout.x):
            said.append(f"feature {k} numbers the samples, and tells where they stand in the file; leave it out.")
        constant = int(np.sum(training.x.max(axis=0) == training.x.min(axis=0)))
        if constant:
            are, say = ("is", "says") if constant == 1 else ("are", "say")
            said.append(f"{constant} of {training.x.shape[1]} features {are} constant and {say} nothing.")
    counts = np.bincount(training.y, minlength=len(classes))
    largest = int(np.argmax(counts))
    if counts[largest] * len(classes) > UNBALANCED * training.y.size or counts.max() > UNBALANCED * counts.min():
        guess = np.mean(held_out.y == largest)
        said.append(
            f"classes are unbalanced, from {counts.min()} to {counts.max()} training samples: guessing the "
            "largest class, "
            f"{classes[largest]}, is right for {guess:.1%} of the held-out samples."
        )
    return [f"{name}: {line}" for line in said]
