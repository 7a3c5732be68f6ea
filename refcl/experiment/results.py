"""What a study leaves behind.

In:  records and arrays of finished runs.  Out: files in the study's folder, each whole or not at all.
A study that was cut short holds its settings and the runs that it finished; nothing else is needed to go on.
"""

import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from refcl.experiment.errors import StudyError

SETTINGS, RESULTS, RUNS = "settings.json", "results.json", "runs"
DRAWN = ("embedding", "embedding_before", "labels", "positive_similarity", "nearest")  # what figures are drawn from
_UNFINISHED = ".part"  # ends the names of files that are being written


def run_name(loss: str, temperature: float | None, seed: int) -> str:
    """Return the name of a run, which is also its file's.

    Parameters
    ----------
    loss : str
        By the name the command line gives it.
    temperature : float or None
        None where the loss has none.
    seed : int
        Of the run.

    Returns
    -------
    str
        Such as ``softmax-0.07-seed0``.

    Examples
    --------
    >>> from refcl.experiment.results import run_name
    >>> run_name("softmax", 0.07, 0), run_name("simple", None, 1)
    ('softmax-0.07-seed0', 'simple-seed1')
    """
    return "-".join([loss, *([] if temperature is None else [str(float(temperature))]), f"seed{seed}"])


def run_path(folder: Path, record: Mapping[str, Any]) -> Path:
    """Return where the arrays of a run are."""
    return folder / RUNS / f"{run_name(record['loss'], record['temperature'], record['seed'])}.npz"


def load_run(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Load the arrays of a run.

    Parameters
    ----------
    folder : pathlib.Path
        The study's.
    record : mapping
        The run's, of ``results.json``.

    Returns
    -------
    dict of str to array
        The encoder's parameters and running statistics (``layer0_weight`` ...), ``embedding`` (N, D) of the held-out
        part, ``embedding_before`` (N, D) of the untrained encoder, ``labels`` (N,), ``positive_similarity`` (N,) and
        ``nearest`` (N, n): see `evaluate`.

    Raises
    ------
    StudyError
        Where the file is not what a study wrote, as where it was cut short.
    """
    path = run_path(folder, record)
    refusal = StudyError(f"{path} is not the file that a study wrote; delete it and go on with --resume.")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = dict(file)
    except (TypeError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        raise refusal from None  # TypeError: an .npy is no file of arrays
    if not all(isinstance(arrays.get(name), np.ndarray) for name in DRAWN):
        raise refusal
    return arrays


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
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except BaseException as reason:
        unfinished.unlink(missing_ok=True)
        if isinstance(reason, OSError):
            reason.filename, reason.filename2 = str(path), None
        raise


def write_json(path: Path, content: Any) -> None:
    """Write JSON for people and machines, whole or not at all; NaN is refused, which JSON does not have."""
    write_whole(path, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_run(folder: Path, record: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write the arrays of a run as an ``.npz``; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_whole(run_path(folder, record), buffer.getvalue())


def open_folder(folder: Path, settings: Mapping[str, Any], *, resume: bool) -> list[dict[str, Any]]:
    """Make a folder ready for a study, or for the rest of one.

    Parameters
    ----------
    folder : pathlib.Path
        The study's; it is made where it does not exist.
    settings : mapping
        Everything that the results depend on, of JSON's types.
    resume : bool
        Whether to go on with a study that is there already. Where there is none, it starts.

    Returns
    -------
    list of dict
        Records of the runs that are finished.

    Raises
    ------
    StudyError
        Where the folder holds a study and ``resume`` is false, a study with other settings, or a broken file.
    OSError
        Where the folder cannot be written.
    """
    started = (folder / SETTINGS).exists() or (folder / RESULTS).exists()
    if started and not resume:
        raise StudyError(f"{folder} already holds a study; go on with it by --resume, or give another --out.")
    if started:
        _check_settings(folder, settings)
    (folder / RUNS).mkdir(parents=True, exist_ok=True)
    for unfinished in [*folder.glob(f".*{_UNFINISHED}"), *(folder / RUNS).glob(f".*{_UNFINISHED}")]:
        unfinished.unlink()
    if not started:
        write_json(folder / SETTINGS, settings)
        return []
    records = _read_json(folder / RESULTS) if (folder / RESULTS).exists() else []
    finished = [record for record in records if run_path(folder, record).is_file()]
    for record in finished:
        load_run(folder, record)  # says that a file is broken before hours of training, and not after
    return finished


def _check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    there = _read_json(folder / SETTINGS)
    for name in [*settings, *(name for name in there if name not in settings)]:
        if there.get(name) != settings.get(name):
            raise StudyError(
                f"{folder} holds a study with {name} {_shown(there.get(name))}, not {_shown(settings.get(name))}; "
                "resume it with its own settings, or give another --out."
            )


def _shown(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
    return shorten(text, 80, placeholder=" ...")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StudyError(f"{path} is missing, so this study cannot go on; give another --out.") from None
    except ValueError:
        raise StudyError(f"{path} is not the file that a study wrote; give another --out.") from None
