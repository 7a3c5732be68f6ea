"""What the authors measured, which a study on small data is read against.

In:  nothing.  Out: the columns of Table 1 on CIFAR-10; their curves over the temperature (Figs. 4, 5 and 9), from the
notebooks of the first author (github.com/WangFeng18/InvariancePropagation, folder CLS, commit bd8f5f77); and the local
separation that Fig. 8 is drawn from, CIFAR-100 (CLS/info.csv).
"""

from collections.abc import Sequence
from typing import NamedTuple

from refcl.experiment.results import Column, Record

SOFTMAX, SIMPLE, HARD, HARD_SIMPLE = "info_nce", "simple_loss", "hard_info_nce", "hard_simple_loss"


DIGITS = "digits"  # the default data, the only ones that stand beside CIFAR-10: whoever brings others did not ask


def beside_paper(records: Sequence[Record]) -> bool:
    """Return whether a study is on the default data, so that the paper's numbers may stand beside its own."""
    return all(record["settings"].get("data") == DIGITS for record in records)


class Measured(NamedTuple):
    """What Table 1 gives for one column."""

    accuracy: float  # of a linear classifier on the frozen features, a fraction
    uniformity: float  # −L_uniformity, t = 2: larger is more uniform
    tolerance: float  # mean cosine within a class


CIFAR10 = {
    Column(SOFTMAX, 0.07): Measured(0.7975, 3.86, 0.04),
    Column(SOFTMAX, 0.3): Measured(0.8327, 3.60, 0.178),
    Column(SOFTMAX, 0.7): Measured(0.8269, 3.17, 0.333),
    Column(SOFTMAX, 1.0): Measured(0.8221, 2.96, 0.372),
    Column(SIMPLE, None): Measured(0.7483, 1.68, 0.61),
    Column(HARD, 0.07): Measured(0.792, 3.88, 0.034),
    Column(HARD, 0.3): Measured(0.8363, 3.89, 0.0267),
    Column(HARD, 0.7): Measured(0.8419, 3.87, 0.030),
    Column(HARD, 1.0): Measured(0.8419, 3.86, 0.030),
    Column(HARD_SIMPLE, None): Measured(0.8484, 3.85, 0.030),
}

_TEMPERATURES = (0.05, 0.07, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_CURVES: dict[tuple[str, str], tuple[float, ...]] = {
    ("uniformity", SOFTMAX): (
        *(3.85237, 3.86230, 3.85002, 3.73940, 3.59528, 3.45395),
        *(3.33806, 3.25955, 3.17244, 3.08452, 2.94624, 2.96450),
    ),
    ("tolerance", SOFTMAX): (
        *(0.05112, 0.04355, 0.04958, 0.10700, 0.17770, 0.23634),
        *(0.26939, 0.30619, 0.33324, 0.35574, 0.39796, 0.37174),
    ),
    ("linear_accuracy", SOFTMAX): (
        *(0.7610, 0.7975, 0.8182, 0.8378, 0.8327, 0.8322, 0.8254, 0.8297, 0.8269, 0.8267, 0.8197, 0.8221),
    ),
    ("linear_accuracy", HARD): (
        *(0.7622, 0.7920, 0.8040, 0.8328, 0.8363, 0.8414, 0.8431, 0.8460, 0.8419, 0.8460, 0.8445, 0.8419),
    ),
    ("neighbour_accuracy", SOFTMAX): (
        *(0.7865, 0.8091, 0.8153, 0.8104, 0.7992, 0.7800, 0.7623, 0.7582, 0.7509, 0.7450, 0.7255, 0.7200),
    ),
    ("neighbour_accuracy", HARD): (
        *(0.7752, 0.8075, 0.8186, 0.8250, 0.8319, 0.8319, 0.8340, 0.8346, 0.8331, 0.8340, 0.8323, 0.8325),
    ),
}
_OF_TABLE = {"uniformity": "uniformity", "tolerance": "tolerance", "linear_accuracy": "accuracy"}


def authors_curve(measure: str, loss: str) -> list[tuple[float, float]]:
    """Return (τ, value) on CIFAR-10: their curve where they left one, else the points of Table 1.

    Parameters
    ----------
    measure : str
        uniformity, tolerance, linear_accuracy, or neighbour_accuracy (200 weighted neighbours, all labels).
    loss : str
        info_nce or hard_info_nce.

    Returns
    -------
    list of tuple
        By temperature; empty where there is nothing.

    Examples
    --------
    >>> from refcl.experiment.report.paper import authors_curve
    >>> authors_curve("tolerance", "hard_info_nce")[0]
    (0.07, 0.034)
    """
    values = _CURVES.get((measure, loss))
    if values is not None:
        return list(zip(_TEMPERATURES, values, strict=True))
    field = _OF_TABLE.get(measure)
    if field is None:
        return []
    return [(c.temperature, getattr(m, field)) for c, m in CIFAR10.items() if c.loss == loss and c.temperature]


class Separated(NamedTuple):
    """Mean similarities of anchors, CIFAR-100."""

    positive: float
    nearest: float  # to the nearest negative; "rank_2", since the positive itself is ranked too
    second: float
    ninth: float  # "rank_10"


SEPARATION = {
    Column(SOFTMAX, 0.07): Separated(0.8586, 0.6368, 0.5987, 0.5302),
    Column(SOFTMAX, 0.2): Separated(0.9045, 0.8300, 0.8077, 0.7560),
    Column(SOFTMAX, 0.3): Separated(0.9143, 0.8781, 0.8613, 0.8199),
    Column(SOFTMAX, 0.5): Separated(0.9215, 0.9204, 0.9091, 0.8777),
    Column(SOFTMAX, 0.7): Separated(0.9227, 0.9455, 0.9373, 0.9119),
    Column(SOFTMAX, 1.0): Separated(0.9309, 0.9683, 0.9630, 0.9444),
    Column(HARD, 0.07): Separated(0.8487, 0.6100, 0.5717, 0.5027),
    Column(HARD, 0.2): Separated(0.8748, 0.6908, 0.6561, 0.5849),
    Column(HARD, 0.3): Separated(0.8772, 0.7175, 0.6847, 0.6167),
    Column(HARD, 0.5): Separated(0.8780, 0.7442, 0.7135, 0.6492),
}
