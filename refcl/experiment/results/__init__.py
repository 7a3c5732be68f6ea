"""What a study leaves behind.

In:  records and arrays of finished runs.  Out: files in the study's folder, each whole or not at all.
A study that was cut short holds its settings, the runs that it finished and the encoders that it trained; nothing else
is needed to go on. Everything that is read back is looked at before it is believed.
"""

import errno
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from refcl.experiment.errors import StudyError
from refcl.experiment.results.records import (
    ARRAYS,
    RESULTS,
    RUNS,
    SETTINGS,
    Arrays,
    Column,
    Record,
    columns,
    fault_of,
    in_order,
    mean,
    name_of,
    run_name,
    run_path,
    schema,
    trained_path,
)

__all__ = [
    "RESULTS", "RUNS", "SETTINGS", "Arrays", "Column", "Record", "alone_in", "columns", "in_order", "load_run",
    "load_trained", "mean", "name_of", "open_folder", "read_records", "run_name", "run_path", "schema", "trained_path",
    "write_arrays", "write_json", "write_whole",
]  # fmt: skip

_UNFINISHED = ".part"  # ends the names of files that are being written


def load_run(folder: Path, record: Record, *names: str) -> dict[str, Any]:
    """Load the arrays of a run.

    Parameters
    ----------
    folder : pathlib.Path
        The study's.
    record : mapping
        The run's, of ``results.json``.
    *names : str
        Which arrays of `ARRAYS`, where not all are wanted: the others are not read.

    Returns
    -------
    dict of str to array
        Those of these names, or else all of `ARRAYS`, and the encoder's parameters and running statistics
        (``layer0_weight`` ...).

    Raises
    ------
    StudyError
        Where the file is not what a study wrote, as where it was cut short.
    """
    path = run_path(folder, record)
    arrays = _load_arrays(path, names)
    sizes: dict[str, int] = {}
    for name in names or ARRAYS:
        letters, _ = ARRAYS[name]
        array = arrays.get(name)
        if (
            not isinstance(array, np.ndarray)
            or array.dtype.kind not in "biuf"
            or array.ndim != len(letters)
            or any(sizes.setdefault(letter, size) != size for letter, size in zip(letters, array.shape, strict=True))
        ):
            raise _not_ours(path, f"{name} is missing or of another size")
    return arrays


def load_trained(path: Path) -> dict[str, Any] | None:
    """Load an encoder that waits to be measured; None where there is none, or none that is whole."""
    try:
        return _load_arrays(path) if path.exists() else None
    except StudyError:
        return None  # it is trained again


def _load_arrays(path: Path, names: Sequence[str] = ()) -> dict[str, Any]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in names or file.files if name in file.files}
    except (TypeError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        raise _not_ours(path) from None  # TypeError: an .npy is no file of arrays
    except OSError as error:
        if error.errno == errno.EINVAL:  # a place before the file's first byte, from a broken list of contents
            raise _not_ours(path) from None
        raise


def _not_ours(path: Path, detail: str = "") -> StudyError:
    told = f" ({detail})" if detail else ""
    return StudyError(f"{path} is not the file that a study wrote{told}; delete it and go on with --resume.")


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read ``results.json`` and hold it against the schema.

    Parameters
    ----------
    path : pathlib.Path
        Of the file.

    Returns
    -------
    list of dict
        The records.

    Raises
    ------
    StudyError
        Where the file holds anything else, with the place of the fault.
    """
    found = _read_json(path)
    fault = fault_of(found)
    if fault is None:
        return list(found)
    raise StudyError(f"{path} is not the file that a study wrote: {fault}; give another --out.")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StudyError(f"{path} is missing, so this study cannot go on; give another --out.") from None
    except (ValueError, RecursionError):
        raise StudyError(f"{path} is not the file that a study wrote; give another --out.") from None


# --- writing ---


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Parameters
    ----------
    path : pathlib.Path
        Where it goes; what was there is replaced in one step, once everything is written.
    content : bytes
        All of it.

    Raises
    ------
    OSError
        Where it cannot be written, as on a full disk; it names ``path``, and what was there before is still there.
    """
    unfinished = path.with_name(f".{path.name}{_UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # lest the new name reach the disk before what it names
        os.replace(unfinished, path)
    except BaseException as reason:
        unfinished.unlink(missing_ok=True)
        if isinstance(reason, OSError):
            reason.filename, reason.filename2 = str(path), None
        raise


def write_json(path: Path, content: Any) -> None:
    """Write JSON for people and machines, whole or not at all; NaN is refused, which JSON does not have."""
    write_whole(path, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write arrays as an ``.npz``; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_whole(path, buffer.getvalue())


# --- a folder ---


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made where it does not exist, so that no other study writes into it.

    Whoever holds it lets go when its process ends, however it ends. Where a system or a file system knows no such lock,
    nobody is kept out.

    Parameters
    ----------
    folder : pathlib.Path
        The study's.

    Raises
    ------
    StudyError
        Where another study is at work there.
    OSError
        Where the folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudyError(
                f"another study is at work in {folder}; wait for its end, or give another --out."
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(held)


def open_folder(folder: Path, settings: Mapping[str, Any], *, resume: bool) -> list[dict[str, Any]]:
    """Make a folder ready for a study, or for more of one.

    Parameters
    ----------
    folder : pathlib.Path
        The study's; it is made where it does not exist.
    settings : mapping
        Everything that the results of all runs depend on, of JSON's types. ``hardest`` is None where no loss looks at
        it; a study that had none may get one.
    resume : bool
        Whether to go on with a study that is there already. Where there is none, it starts.

    Returns
    -------
    list of dict
        Records of the runs that are finished.

    Raises
    ------
    StudyError
        Where the folder holds a study and ``resume`` is false, a study that cannot be joined, or a broken file.
    OSError
        Where the folder cannot be written.
    """
    started = (folder / SETTINGS).exists() or (folder / RESULTS).exists()
    if started and not resume:
        raise StudyError(f"{folder} already holds a study; go on with it by --resume, or give another --out.")
    if started:
        settings = _joined(folder, settings)
    records = read_records(folder / RESULTS) if (folder / RESULTS).exists() else []
    finished = [record for record in records if run_path(folder, record).is_file()]
    for record in finished:
        load_run(folder, record)  # says that a file is broken before hours of training, and not after
    (folder / RUNS).mkdir(parents=True, exist_ok=True)
    for unfinished in [*folder.glob(f".*{_UNFINISHED}"), *(folder / RUNS).glob(f".*{_UNFINISHED}")]:
        unfinished.unlink(missing_ok=True)
    if not started or settings != _read_json(folder / SETTINGS):
        write_json(folder / SETTINGS, settings)
    return finished


def _joined(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a study and of what joins it, or say which one keeps them apart."""
    there = _read_json(folder / SETTINGS)
    if not isinstance(there, dict):
        raise StudyError(f"{folder / SETTINGS} is not the file that a study wrote; give another --out.")
    for name in [*settings, *(name for name in there if name not in settings)]:
        before, now = there.get(name), settings.get(name)
        if name == "machine" or (name == "hardest" and None in (before, now)):
            continue
        # 1 is a count and 1.0 a share: equal to Python, and not the same
        if before != now or type(before) is not type(now):
            if isinstance(before, dict) and isinstance(now, dict):  # of several: the first that differs
                inner = next(key for key in {**before, **now} if before.get(key) != now.get(key))
                name, before, now = f"{name}: {inner}", before.get(inner), now.get(inner)
            raise StudyError(
                f"{folder} holds a study with {name} {_shown(before)}, not {_shown(now)}; "
                "resume it with its own settings, or give another --out."
            )
    hardest = there.get("hardest") if settings.get("hardest") is None else settings["hardest"]
    return {**there, "hardest": hardest}


def _shown(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
    return shorten(text, 80, placeholder=" ...")
