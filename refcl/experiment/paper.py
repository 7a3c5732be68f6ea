"""The columns of the paper's Table 1, and what the paper measured in them.

In:  the records of a study, in any order.
Out: the same records by column, softmax first and each family by temperature; the names of the columns; the row of
CIFAR-10, which a study on small data is read against.
"""

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, NamedTuple, TypeAlias

from refcl.experiment.catalogue import CATALOGUE

Record: TypeAlias = Mapping[str, Any]


class Column(NamedTuple):
    """A loss at a temperature: one column of Table 1."""

    loss: str
    temperature: float | None  # None where the loss has none

    @property
    def label(self) -> str:
        """How tables and figures call the column."""
        return CATALOGUE[self.loss].label + ("" if self.temperature is None else f", τ = {self.temperature:g}")


class Measured(NamedTuple):
    """What Table 1 gives for one column."""

    accuracy: float  # of a linear classifier on the frozen features, a fraction
    uniformity: float  # −L_uniformity, t = 2: larger is more uniform
    tolerance: float  # mean cosine within a class


LOSSES = tuple(name for name, entry in CATALOGUE.items() if entry.group == "paper")  # in the order of the columns

CIFAR10 = {
    Column("softmax", 0.07): Measured(0.7975, 3.86, 0.04),
    Column("softmax", 0.3): Measured(0.8327, 3.60, 0.178),
    Column("softmax", 0.7): Measured(0.8269, 3.17, 0.333),
    Column("softmax", 1.0): Measured(0.8221, 2.96, 0.372),
    Column("simple", None): Measured(0.7483, 1.68, 0.61),
    Column("hard-softmax", 0.07): Measured(0.792, 3.88, 0.034),
    Column("hard-softmax", 0.3): Measured(0.8363, 3.89, 0.0267),
    Column("hard-softmax", 0.7): Measured(0.8419, 3.87, 0.030),
    Column("hard-softmax", 1.0): Measured(0.8419, 3.86, 0.030),
    Column("hard-simple", None): Measured(0.8484, 3.85, 0.030),
}


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
    >>> from refcl.experiment.paper import columns
    >>> records = [{"loss": "simple", "temperature": None}, {"loss": "softmax", "temperature": 0.3}]
    >>> [column.label for column in columns(records)]
    ['softmax, τ = 0.3', 'simple']
    """
    by_column: dict[Column, list[Record]] = {}
    for record in records:
        by_column.setdefault(Column(record["loss"], record["temperature"]), []).append(record)
    order = list(CATALOGUE)
    return dict(sorted(by_column.items(), key=lambda item: (order.index(item[0].loss), item[0].temperature or 0.0)))


def mean(records: Iterable[Record], field: str) -> float:
    """Return the mean of one measured field over records, as over the seeds of one column."""
    return fmean(float(record[field]) for record in records)
