"""Files -> samples and labels as they are there.

In:  the path of a file or of a folder.  Out: an array of samples and one of labels, of any layout and kind, and a line
that says what was recognised. What a sample means is for `layout` and `labels` to say.
"""

import errno
import gzip
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refcl.experiment.data.tables import read_table
from refcl.experiment.errors import StudyError

# Keys under which data sets are commonly kept, and those of their own test part.
KNOWN_KEYS = (
    (("X", "y"), ("X_test", "y_test")),
    (("x", "y"), ("x_test", "y_test")),
    (("x_train", "y_train"), ("x_test", "y_test")),
    (("X_train", "y_train"), ("X_test", "y_test")),
    (("train_images", "train_labels"), ("test_images", "test_labels")),
    (("images", "labels"), ("test_images", "test_labels")),
    (("data", "target"), ("", "")),
    (("data", "labels"), ("", "")),
)
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
TABLES = {".csv", ".tsv", ".txt"}
IDX_KINDS = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # the third byte of an IDX file
CIFAR_SIDE, CIFAR_PIXELS = 32, 3072


class Found(NamedTuple):
    """What a file or a folder holds."""

    x: NDArray[Any]
    labels: NDArray[Any]
    said: str  # what the file is
    test: "Found | None" = None  # its own test part, where it has one
    given_image: bool = False  # whether the format says that samples are pictures, channels last


def read(path: Path, x: Sequence[str] = (), y: str | None = None) -> Found:
    """Read a file or a folder of samples.

    Parameters
    ----------
    path : pathlib.Path
        An ``.npz``; a table (``.csv``, ``.tsv``); an IDX file, as MNIST has; a CIFAR binary file or the folder of them;
        a folder of pictures with one folder a class. What it is, its content says where it can.
    x, y : optional
        Which arrays of an ``.npz``, or which columns of a table, hold the samples and the labels; of an IDX file, ``y``
        is the file of labels.

    Returns
    -------
    Found
        Samples and labels.

    Raises
    ------
    StudyError
        Where the file cannot be used, with what it holds and how to mend it.
    """
    try:
        if path.is_dir():
            return _read_folder(path)
        with path.open("rb") as stream:
            start = stream.read(4)
        if start[:2] == b"\x1f\x8b":
            with gzip.open(path, "rb") as unpacked:
                start = unpacked.read(4)
        if path.suffix.lower() in TABLES:
            return Found(*read_table(path, x, y))
        if zipfile.is_zipfile(path):
            return _read_npz(path, x, y)
        if start[:2] == b"\0\0" and len(start) == 4 and start[2] in IDX_KINDS and 1 <= start[3] <= 4:
            return _read_idx_pair(path, y)
        if path.suffix.lower() == ".bin":
            return _read_cifar([path])
    except FileNotFoundError as error:
        missing = error.filename or path
        raise StudyError(f"{missing}: no such file; give --data the path of a file or folder of samples.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise StudyError(f"{path}: is cut short or broken; fetch or write it again.") from None
    except MemoryError:
        raise StudyError(f"{path}: does not fit into memory; give fewer samples, or smaller ones.") from None
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror or error}.") from None
    raise StudyError(
        f"{path}: neither an .npz, a .csv, an IDX or CIFAR file nor a folder of pictures; write one with "
        "numpy.savez(file, X=X, y=y)."
    )


# --- .npz ---


def _read_npz(path: Path, x: Sequence[str], y: str | None) -> Found:
    refusal = StudyError(f"{path}: not an .npz file of arrays; write one with numpy.savez(file, X=X, y=y).")
    if len(x) > 1:
        raise StudyError(f"{path}: expected one --x, the key of the samples, got {' '.join(x)}.")
    try:
        with np.load(path, allow_pickle=False) as file:
            keys = _keys(path, file, x[0] if x else None, y)
            own_test = next((test for known, test in KNOWN_KEYS if known == keys and not (x or y)), ("", ""))
            part = _pair(file, keys, refusal)
            said = f"arrays {keys[0]} and {keys[1]}" if keys != ("X", "y") else ""
            if not set(own_test) <= set(file.files):
                return Found(*part, said)
            test = Found(*_pair(file, own_test, refusal), "")
            return Found(*part, f"arrays {keys[0]} and {keys[1]}; held out are {' and '.join(own_test)}", test)
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        if "allow_pickle" in str(error):
            raise StudyError(
                f"{path}: holds pickled objects, which can run code; save X as numbers and y as numbers or text, "
                "such as y.astype(str)."
            ) from None
        raise refusal from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # a place before the file's first byte, from a broken list of contents
            raise refusal from None
        raise


def _keys(path: Path, file: Any, x: str | None, y: str | None) -> tuple[str, str]:
    """Return the keys of the samples and of the labels: those asked for, or a pair that is common."""
    for key in filter(None, (x, y)):
        if key not in file.files:
            raise StudyError(f"{path}: holds no array {key!r}, but {_content(file)}; name one with --x and --y.")
    for known, _ in KNOWN_KEYS:
        keys = (x or known[0], y or known[1])
        if set(keys) <= set(file.files) and keys[0] != keys[1]:
            return keys
    missing = [key for key, given in (("X", x), ("y", y)) if given is None and key not in file.files]
    raise StudyError(
        f"{path}: expected arrays X and y; there is no {' and no '.join(missing)}, but {_content(file)}; "
        f"say which they are with {_likely(file) or '--x and --y'}."
    )


def _likely(file: Any) -> str:
    """Return the words for the two arrays that can only be samples and labels, "" where that is not plain."""
    try:
        shapes = {key: file[key].shape for key in file.files}
    except (ValueError, AttributeError):
        return ""
    if len(shapes) != 2 or {len(shape) > 1 for shape in shapes.values()} != {True, False}:
        return ""
    x, y = sorted(shapes, key=lambda key: -len(shapes[key]))
    return f"--x {x} --y {y}" if shapes[x][:1] == shapes[y] else ""


def _content(file: Any) -> str:
    def described(key: str) -> str:
        try:
            array = file[key]
            return f"{key} {array.shape} {array.dtype}" if isinstance(array, np.ndarray) else key
        except ValueError:
            return f"{key} (objects)"

    shown = [described(key) for key in file.files[:8]]
    return ", ".join([*shown, "..."] if len(file.files) > 8 else shown) or "nothing"


def _pair(file: Any, keys: tuple[str, str], refusal: StudyError) -> tuple[NDArray[Any], NDArray[Any]]:
    x, y = file[keys[0]], file[keys[1]]
    if not (isinstance(x, np.ndarray) and isinstance(y, np.ndarray)):  # numpy.load gives the bytes of anything else
        raise refusal
    return x, y


# --- IDX: MNIST and its family ---


def _read_idx_pair(path: Path, y: str | None) -> Found:
    labels = Path(y) if y else _labels_beside(path)
    x, of = _read_idx(path), _read_idx(labels)
    return Found(x, of, f"an IDX file, labels in {labels.name}", given_image=False)


def _labels_beside(path: Path) -> Path:
    """Return the file of labels that belongs to one of images, by the names that MNIST gave them."""
    name = path.name
    for images, labels in (("images-idx3", "labels-idx1"), ("images.idx3", "labels.idx1"), ("images", "labels")):
        if images in name:
            beside = path.with_name(name.replace(images, labels))
            other = beside.with_suffix("") if beside.suffix == ".gz" else beside.with_name(beside.name + ".gz")
            for candidate in (beside, other):
                if candidate.exists():
                    return candidate
    raise StudyError(f"{path}: an IDX file of samples without labels beside it; name the file of labels with --y.")


def _read_idx(path: Path) -> NDArray[Any]:
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        content = stream.read()
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_KINDS:
        raise StudyError(f"{path}: not an IDX file; expected one such as train-labels-idx1-ubyte.")
    start = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">u4")) if len(content) >= start else ()
    kind = np.dtype(IDX_KINDS[content[2]])
    if len(content) < start or len(content) - start != kind.itemsize * int(np.prod(shape, dtype=object)):
        raise StudyError(
            f"{path}: holds {len(content)} bytes, not those of an IDX file of shape {shape}; fetch it again."
        )
    return np.frombuffer(content, kind, offset=start).reshape(shape).astype(kind.newbyteorder("="))


# --- CIFAR ---


def _read_cifar(paths: Sequence[Path], test: Sequence[Path] = ()) -> Found:
    x, labels, classes = zip(*(_read_cifar_file(path) for path in paths), strict=True)
    said = f"CIFAR-{max(classes)} binary, {len(paths)} file{'s' if len(paths) > 1 else ''}"
    part = None
    if test:
        part = _read_cifar(test)
        said += f"; held out is {', '.join(path.name for path in test)}"
    return Found(np.concatenate(x), np.concatenate(labels), said, part, given_image=True)


def _read_cifar_file(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int]:
    content = np.fromfile(path, np.uint8)
    for label_bytes, classes in ((1, 10), (2, 100)):  # of two labels the second is the fine one
        record = label_bytes + CIFAR_PIXELS
        if content.size and content.size % record == 0:
            rows = content.reshape(-1, record)
            planes = rows[:, label_bytes:].reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE)
            return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), rows[:, label_bytes - 1].copy(), classes
    raise StudyError(
        f"{path}: {content.size} bytes are no CIFAR records of {1 + CIFAR_PIXELS} (or, with two labels, "
        f"{2 + CIFAR_PIXELS}) bytes each; give the binary version."
    )


# --- folders ---


def _read_folder(path: Path) -> Found:
    batches = sorted(path.glob("data_batch_*.bin")) or [p for p in (path / "train.bin",) if p.exists()]
    if batches:
        return _read_cifar(batches, [p for p in (path / "test_batch.bin", path / "test.bin") if p.exists()])
    classes = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    names = [p.name.lower() for p in classes]
    if names and set(names) <= {"train", "test", "val", "valid"} and "train" in names:
        raise StudyError(
            f"{path}: holds the parts {', '.join(names)}; give --data {path}/train and --test {path}/test."
        )
    files = [(p, c.name) for c in classes for p in sorted(c.iterdir()) if p.suffix.lower() in PICTURES]
    if not files:
        raise StudyError(
            f"{path}: no folder of pictures; expected one folder a class with {' '.join(sorted(PICTURES))} files in it."
        )
    first = _picture(files[0][0])
    x = np.empty((len(files), *first.shape), np.uint8)
    for i, (file, _) in enumerate(files):
        picture = _picture(file)
        if picture.ndim != first.ndim and picture.shape[:2] == first.shape[:2]:
            x, first, picture = _in_colour(x), _in_colour(first), _in_colour(picture)
        if picture.shape != first.shape:
            raise StudyError(
                f"{file}: {picture.shape[1]} × {picture.shape[0]} pixels, and {files[0][0].name} has "
                f"{first.shape[1]} × {first.shape[0]}; make them one size, such as "
                f"PIL.Image.open(file).resize(({first.shape[1]}, {first.shape[0]})).save(file)."
            )
        x[i] = picture
    return Found(x, np.array([name for _, name in files]), "a folder of pictures, one folder a class", given_image=True)


def _picture(path: Path) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError  # comes with matplotlib

    try:
        with Image.open(path) as image:
            if image.mode in ("1", "L", "I", "F", "I;16"):
                return np.asarray(image.convert("L"))
            if "A" in image.mode or "transparency" in image.info:  # laid over black, the empty pixel
                clear = image.convert("RGBA")
                return np.asarray(
                    Image.alpha_composite(Image.new("RGBA", clear.size, (0, 0, 0, 255)), clear).convert("RGB")
                )
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, SyntaxError, ValueError):
        raise StudyError(f"{path}: not a picture that can be read; leave it out or save it again.") from None


def _in_colour(x: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give grey pictures three equal colours; leave coloured ones as they are."""
    return x if x.shape[-1] == 3 and x.ndim > 2 and x.shape[-2] != 3 else np.repeat(x[..., None], 3, axis=-1)
