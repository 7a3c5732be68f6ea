"""What a record holds, and what stands beside it.

In:  records of runs.  Out: their fields and the arrays of a run, the JSON schema that both sides are held to, the names
of runs, and records by column.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from textwrap import shorten
from typing import Any, NamedTuple, TypeAlias

from refcl.experiment.objectives import OBJECTIVES

SETTINGS, RESULTS, RUNS = "settings.json", "results.json", "runs"

Record: TypeAlias = Mapping[str, Any]
Arrays: TypeAlias = Mapping[str, Any]


class Field(NamedTuple):
    """One entry of a record."""

    schema: dict[str, Any]  # JSON schema of the value
    meaning: str


_NUMBER = {"type": "number"}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_COUNT = {"type": "integer", "minimum": 0}

# One table: what is written, what is read back, the published schema and the page about the study all come from it.
FIELDS = {
    "loss": Field({"enum": list(OBJECTIVES)}, "the loss, by its name in the API, or the pretext task"),
    "temperature": Field({"type": ["number", "null"], "exclusiveMinimum": 0}, "τ; null where the loss has none"),
    "hardest": Field(
        {"type": ["number", "null"], "exclusiveMinimum": 0},
        "negatives that a hard loss keeps: a share (1.0 is all) or a count (1 is one); null for the others",
    ),
    "seed": Field(_COUNT, "of everything random in the run"),
    "keys": Field({"enum": ["bank", "same", "queue"]}, "what anchors are compared with"),
    "epochs": Field({"type": "integer", "minimum": 1}, "passes over the training part"),
    "uniformity": Field(_NUMBER, "−L_uniformity (the paper's Eq. 10) at t = 2, held out; larger is more uniform"),
    "tolerance": Field(
        {"type": "number", "minimum": -1.001, "maximum": 1.001}, "mean cosine within a class (Eq. 11), held out"
    ),
    "alignment": Field({"type": "number", "minimum": 0}, "mean squared distance of two views of a sample, held out"),
    "linear_accuracy": Field(_SHARE, "of logistic regression on the embedding, all training labels"),
    "few_label_accuracy": Field(_SHARE, "of the nearest of five labelled samples a class, mean of ten draws"),
    "separation": Field(
        {"type": "number"}, "mean similarity of the positive less that of the nearest negative, held-out anchors"
    ),
    "separation_training": Field({"type": "number"}, "the same for anchors of the training part, as in Fig. 8"),
    "positive_training": Field({"type": "number"}, "mean similarity of two views, anchors of the training part"),
    "seconds": Field({"type": "number", "minimum": 0}, "to train and to measure"),
    "elsewhere": Field(
        {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
        "null; with --mixed, what differed on the machine that ran it",
    ),
    "settings": Field({"type": "object"}, "everything else that the numbers depend on: settings.json"),
}
IDENTITY = ("loss", "temperature", "seed", "epochs")  # which run of a study a record is of

# Arrays of a run, each with the letters of its shape: N held-out samples, A and T anchors of either part, D, and
# n nearest. What is measured is there sample by sample, so that whoever reads it can resample it.
ARRAYS = {
    "embedding": ("ND", "of the held-out part, rows of length 1"),
    "embedding_before": ("ND", "the same by the encoder before training"),
    "labels": ("N", "classes of the held-out part"),
    "linear_correct": ("N", "1 where the linear classifier is right"),
    "few_label_correct": ("N", "share of the ten draws in which the nearest labelled sample is of the class"),
    "uniformity_score": ("N", "influence on exp(−uniformity): its mean over the samples is that number"),
    "tolerance_score": ("N", "influence on the tolerance: its mean over the samples is that number"),
    "anchors": ("A", "which held-out samples the two arrays below are of"),
    "positive_similarity": ("A", "between the two views of an anchor"),
    "nearest": ("An", "similarities to the nearest other samples, descending"),
    "anchors_training": ("T", "which training samples the two arrays below are of"),
    "positive_similarity_training": ("T", "between the two views of an anchor of the training part"),
    "nearest_training": ("Tn", "to the nearest other training samples, descending"),
}


class Column(NamedTuple):
    """A loss at a temperature: one column of the paper's Table 1, or one like it."""

    loss: str
    temperature: float | None  # None where the loss has none

    @property
    def label(self) -> str:
        """How tables and figures call the column."""
        return OBJECTIVES[self.loss].label + ("" if self.temperature is None else f", τ = {self.temperature:g}")


def columns(records: Iterable[Record]) -> dict[Column, list[Record]]:
    """Return the records by column, the columns in the table's order; a column holds one record per seed.

    Parameters
    ----------
    records : iterable of mapping
        Records of a study; read here: ``loss`` and ``temperature``.

    Returns
    -------
    dict
        Lists of records keyed by `Column`, in the order of Table 1, and what is not in it after that.

    Examples
    --------
    >>> from refcl.experiment.results import columns
    >>> records = [{"loss": "simple_loss", "temperature": None}, {"loss": "info_nce", "temperature": 0.3}]
    >>> [column.label for column in columns(records)]
    ['softmax, τ = 0.3', 'simple']
    """
    by_column: dict[Column, list[Record]] = {}
    for record in records:
        by_column.setdefault(Column(record["loss"], record["temperature"]), []).append(record)
    order = list(OBJECTIVES)
    return dict(sorted(by_column.items(), key=lambda item: (order.index(item[0].loss), item[0].temperature or 0.0)))


def in_order(records: Iterable[Record]) -> list[Record]:
    """Return records in the order of ``results.json``: by column, then epochs, then seed, however a study grew."""
    return [
        record
        for column in columns(records).values()
        for record in sorted(column, key=lambda record: (record["epochs"], record["seed"]))
    ]


def mean(records: Iterable[Record], field: str) -> float:
    """Return the mean of one measured field over records, as over the seeds of one column."""
    return fmean(float(record[field]) for record in records)


def schema() -> dict[str, Any]:
    """Return the JSON schema of ``results.json``, which ``docs/results.schema.json`` publishes.

    Returns
    -------
    dict
        Of draft 2020-12.

    Examples
    --------
    >>> from refcl.experiment.results import schema
    >>> schema()["items"]["properties"]["seed"]["minimum"]
    0
    """
    properties = {name: {**field.schema, "description": field.meaning} for name, field in FIELDS.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "results.json of a study",
        "description": "One record a run, by loss, temperature, epochs and seed.",
        "type": "array",
        "items": {
            "type": "object",
            "properties": properties,
            "required": list(FIELDS),
            "additionalProperties": False,
        },
    }


def run_name(loss: str, temperature: float | None, seed: int, epochs: int) -> str:
    """Return the name of a run, which is also its file's.

    Parameters
    ----------
    loss : str
        By its name in the API.
    temperature : float or None
        None where the loss has none.
    seed, epochs : int
        Of the run.

    Returns
    -------
    str
        Such as ``info_nce-0.07-seed0-epochs100``.

    Examples
    --------
    >>> from refcl.experiment.results import run_name
    >>> run_name("info_nce", 0.07, 0, 100), run_name("simple_loss", None, 1, 100)
    ('info_nce-0.07-seed0-epochs100', 'simple_loss-seed1-epochs100')
    """
    at = [] if temperature is None else [str(float(temperature))]
    return "-".join([loss, *at, f"seed{seed}", f"epochs{epochs}"])


def name_of(record: Record) -> str:
    """Return the name of the run that a record is of."""
    return run_name(*(record[field] for field in IDENTITY))


def run_path(folder: Path, record: Record) -> Path:
    """Return where the arrays of a run are."""
    return folder / RUNS / f"{name_of(record)}.npz"


def trained_path(folder: Path, name: str) -> Path:
    """Return where the encoder of a run waits to be measured."""
    return folder / RUNS / f"{name}.trained.npz"


def fault_of(found: Any) -> str | None:
    """Say what of `schema` does not hold. A dozen lines, so that running a study needs no validator."""
    if not isinstance(found, list):
        return "expected a list of records"
    for i, record in enumerate(found):
        if not isinstance(record, dict):
            return f"record {i} is no object"
        for name in [*FIELDS, *record]:
            if name not in FIELDS or name not in record:
                return f"record {i} has {'an unknown' if name not in FIELDS else 'no'} {name}"
            if not _fits(record[name], FIELDS[name].schema):
                return f"record {i} has {name} {shorten(json.dumps(record[name]), 40, placeholder=' ...')}"
    names = [name_of(record) for record in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    return None if twice is None else f"the run {twice} is in it twice"


_KINDS: dict[str, Any] = {"number": (int, float), "integer": int, "object": dict, "string": str, "null": type(None)}


def _fits(value: Any, asked: Mapping[str, Any]) -> bool:
    if "enum" in asked:
        return value in asked["enum"]
    kinds = [asked["type"]] if isinstance(asked["type"], str) else asked["type"]
    if isinstance(value, bool) or not any(isinstance(value, _KINDS[kind]) for kind in kinds):
        return False
    if isinstance(value, dict):
        inner = asked.get("additionalProperties")
        return inner is None or all(_fits(item, inner) for item in value.values())
    if not isinstance(value, int | float):
        return True
    return bool(
        math.isfinite(value)
        and asked.get("minimum", -math.inf) <= value <= asked.get("maximum", math.inf)
        and value > asked.get("exclusiveMinimum", -math.inf)
    )
