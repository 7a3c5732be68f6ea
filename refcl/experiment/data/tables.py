"""A table of text -> samples and labels.

In:  a ``.csv``, ``.tsv`` or ``.txt`` file, a row a sample, with or without a line of names.
Out: numbers, one column a feature, and the column of labels as it is written there.
"""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refcl.experiment.errors import StudyError

LABEL_NAMES = ("y", "label", "labels", "class", "target", "species", "category")  # of columns that hold labels
DELIMITERS = ",;\t"
SNIFFED = 8192  # characters that the delimiter is found by
MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "-"}  # how tables write that there is no number
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


def read_table(path: Path, x: Sequence[str] = (), y: str | None = None) -> tuple[NDArray[Any], NDArray[Any], str]:
    """Read a table.

    Parameters
    ----------
    path : pathlib.Path
        In UTF-8. Lines that start with ``#`` are comments; values stand between commas, semicolons, tabs or blanks.
    x : sequence of str
        Names of the columns of features; all but the labels by default.
    y : str, optional
        Name, or number from 0, of the column of labels. By default the one that is called y, label, class or target,
        else the last.

    Returns
    -------
    x, labels, said
        Numbers (N, F), text (N,), and what was recognised.

    Raises
    ------
    StudyError
        Where a row or a value cannot be used, with its place.
    """
    rows, said = _rows(path)
    named = bool(rows) and not any(map(_is_number, rows[0]))
    if len(rows) < 2 + named:
        raise StudyError(f"{path}: expected a table with a sample a row, got {len(rows)} lines.")
    width = len(rows[1])
    names = [name.strip() for name in rows[0]] if named else [str(k) for k in range(width)]
    body = rows[1:] if named else rows
    uneven = next((k for k, row in enumerate(body) if len(row) != len(names)), None)
    if uneven is not None:
        raise StudyError(
            f"{path}: line {uneven + 1 + named} of the table has {len(body[uneven])} values, expected {len(names)}."
        )
    label = _label_column(path, names, y, named)
    for name in x:
        if name not in names:
            raise StudyError(f"{path}: there is no column {name!r}; there are {_some(names)}.")
    kept = [names.index(name) for name in x] or [k for k in range(len(names)) if k != label]
    if named and not x and names[0] == "" and label != 0 and _numbers_rows([row[0] for row in body]):
        kept.remove(0)
        said += ", the numbers of the rows left out"
    if not kept or label in kept:
        raise StudyError(f"{path}: expected columns of features beside that of labels; name them with --x and --y.")
    features = np.empty((len(body), len(kept)))
    for at, k in enumerate(kept):
        features[:, at] = _numbers(path, names[k], [row[k] for row in body], named)
    labels = np.array([row[label].strip() for row in body])
    if np.any(labels == ""):
        first = int(np.argmax(labels == "")) + 1 + named
        raise StudyError(f"{path}: {np.sum(labels == '')} samples have no label (line {first}, ...); leave them out.")
    if all(map(_is_whole, labels)):
        labels = labels.astype(np.int64)
    elif all(map(_is_number, labels)):
        labels = labels.astype(np.float64)
    how = f"column {names[label]!r}" if named else f"the column {label} of {len(names)}"
    return features, labels, f"a table of {len(kept)} feature{'s' * (len(kept) > 1)}, labels from {how}{said}"


def _rows(path: Path) -> tuple[list[list[str]], str]:
    """Return the rows of a table, decimals written with points, and what was recognised about them."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise StudyError(f"{path}: is not text in UTF-8; save the table as UTF-8.") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    sample = "\n".join(lines)[:SNIFFED]
    delimiter = max(DELIMITERS, key=sample.count)
    try:
        if delimiter not in sample:
            return [line.split() for line in lines], ""
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error as error:
        raise StudyError(f"{path}: cannot be read as a table: {error}.") from None
    if delimiter == "," or not any(map(DECIMAL_COMMA.fullmatch, map(str.strip, rows[-1]))):
        return rows, ""
    return [[_with_point(value) for value in row] for row in rows], ", decimals with commas"


def _with_point(value: str) -> str:
    return value.replace(",", ".") if DECIMAL_COMMA.fullmatch(value.strip()) else value


def _numbers_rows(column: Sequence[str]) -> bool:
    """Say whether a column counts the rows, as tables of data frames do."""
    return all(map(_is_whole, column)) and [int(value) - int(column[0]) for value in column] == list(range(len(column)))


def _label_column(path: Path, names: Sequence[str], y: str | None, named: bool) -> int:
    if y is not None:
        if y in names:
            return names.index(y)
        raise StudyError(
            f"{path}: there is no column {y!r}; " + (f"there are {_some(names)}." if named else "columns are 0, 1, ...")
        )
    lowered = [name.lower() for name in names]
    return next((lowered.index(name) for name in LABEL_NAMES if named and name in lowered), len(names) - 1)


def _numbers(path: Path, name: str, column: Sequence[str], named: bool) -> NDArray[np.float64]:
    try:
        return np.array([np.nan if _is_missing(value) else float(value) for value in column])
    except ValueError:
        row = next(k for k, value in enumerate(column) if not _is_missing(value) and not _is_number(value))
        raise StudyError(
            f"{path}: column {name!r} holds {column[row].strip()[:40]!r} (line {row + 1 + named}), no number; "
            "leave the "
            "column out with --x, make numbers of it, or name it as the labels with --y."
        ) from None


def _is_missing(value: str) -> bool:
    return value.strip().lower() in MISSING


def _is_whole(value: str) -> bool:
    return re.fullmatch(r"[+-]?\d{1,18}", value.strip()) is not None


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:12], "..."] if len(names) > 12 else names)
