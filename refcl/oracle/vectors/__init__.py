"""Test vectors for every other language: inputs, values and gradients, computed at 50 digits and rounded once.

In:  a folder.
Out: ``contrastive.json`` with its schema, and the same as ``contrastive.npz``.
"""

import io
import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

FILES = ("contrastive.json", "contrastive.schema.json", "contrastive.npz")


def load_vectors() -> dict[str, Any]:
    """Return the test vectors as JSON holds them.

    Returns
    -------
    vectors : dict
        As the schema says; ``vectors["testGroups"][0]["tests"][0]`` is a case.

    Examples
    --------
    >>> from refcl.oracle.vectors import load_vectors
    >>> load_vectors()["testGroups"][0]["loss"]
    'softmax_contrastive'
    """
    loaded: dict[str, Any] = json.loads(_read("contrastive.json"))
    return loaded


def load_schema() -> dict[str, Any]:
    """Return the JSON Schema of the test vectors and of the answers to them."""
    loaded: dict[str, Any] = json.loads(_read("contrastive.schema.json"))
    return loaded


def copy_vectors(out: str | Path) -> list[Path]:
    """Write the test vectors and their schema into a folder, which is made where it is not there.

    Parameters
    ----------
    out : str or Path
        The folder.

    Returns
    -------
    written : list of Path
        The files.

    Raises
    ------
    OSError
        Where the folder can't be made or written.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in FILES:
        write_whole(folder / name, to_npz(load_vectors()) if name.endswith(".npz") else _read(name))
        written.append(folder / name)
    return written


def to_npz(vectors: dict[str, Any]) -> bytes:
    """Return the same numbers as arrays, named "tcId/inputs/s", "tcId/value", "tcId/gradients/s" and so on."""
    arrays: dict[str, Any] = {}
    for group in vectors["testGroups"]:
        for test in group["tests"]:
            key = f"{test['tcId']:03d}"
            arrays[f"{key}/value"] = np.asarray(test["value"])
            for part in ("inputs", "gradients"):
                for name, x in test[part].items():
                    arrays[f"{key}/{part}/{name}"] = np.asarray(np.nan if x is None else x, dtype=np.float64)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(name: str) -> bytes:
    return resources.files("refcl.oracle.vectors").joinpath(name).read_bytes()
