"""Records -> a table for a terminal.

In:  the records of a study.  Out: one line a run; on the default data, beside it what the paper measured on CIFAR-10.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from refcl.experiment.report.paper import CIFAR10, beside_paper
from refcl.experiment.results import Column

HEADER = ("loss", "τ", "seed", "uniformity", "tolerance", "alignment", "linear", "few-label", "seconds")
PAPER_HEADER = ("accuracy", "uniformity", "tolerance")


def format_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the records as lines of aligned columns.

    Parameters
    ----------
    records : sequence of mapping
        Of a study.

    Returns
    -------
    str
        One or two lines of header, and a line for each record, without a line break at the end.

    Examples
    --------
    >>> from refcl.experiment.report.table import format_table
    >>> record = {"loss": "simple_loss", "temperature": None, "seed": 0, "uniformity": 1.5, "tolerance": 0.6}
    >>> record |= {"alignment": 0.1, "linear_accuracy": 0.9, "few_label_accuracy": 0.7, "seconds": 2.5}
    >>> record["settings"] = {"data": "digits"}
    >>> print(format_table([record]).splitlines()[-1])
    simple_loss  -     0       1.500      0.600      0.100   0.900      0.700      2.5 |    0.748        1.68      0.610
    """
    beside = beside_paper(records) and any(_column(record) in CIFAR10 for record in records)
    rows = [HEADER, *(_cells(record) for record in records)]
    left = _aligned(rows, words=2)
    if not beside:
        return "\n".join(left)
    right = _aligned([PAPER_HEADER, *(_paper_cells(record) for record in records)])
    title = f"{'':{len(left[0])}} | paper, CIFAR-10"
    return "\n".join([title, *(f"{a} | {b}" for a, b in zip(left, right, strict=True))])


def _cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    temperature = record["temperature"]
    return (
        record["loss"],
        "-" if temperature is None else f"{temperature:g}",
        str(record["seed"]),
        *(f"{record[field]:.3f}" for field in ("uniformity", "tolerance", "alignment")),
        *(f"{record[field]:.3f}" for field in ("linear_accuracy", "few_label_accuracy")),
        f"{record['seconds']:.1f}",
    )


def _column(record: Mapping[str, Any]) -> Column:
    return Column(record["loss"], record["temperature"])


def _paper_cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    measured = CIFAR10.get(_column(record))
    if measured is None:
        return ("-",) * len(PAPER_HEADER)
    return f"{measured.accuracy:.3f}", f"{measured.uniformity:.2f}", f"{measured.tolerance:.3f}"


def _aligned(rows: Sequence[Sequence[str]], *, words: int = 0) -> list[str]:
    """Pad cells to columns: the first ``words`` of them to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
