"""The factors and offsets by which one loss is mistaken for another, and who uses which on purpose.

In:  the sizes of a batch and the temperature.
Out: named numbers, to be compared with what was measured.
"""

import math
from collections.abc import Callable
from typing import NamedTuple


class Facts(NamedTuple):
    """What a constant can depend on."""

    n: int  # rows of the first input
    m: int  # rows of the second input, or columns of the similarities
    d: int  # dimensions
    anchors: int  # over which the mean is taken
    negatives: int  # of one anchor
    temperature: float | None
    ranks: int = 1
    views: int = 2
    steps: int = 0


class Named(NamedTuple):
    name: str
    at: Callable[[Facts], float | None]


def _with_temperature(f: Callable[[float], float]) -> Callable[[Facts], float | None]:
    return lambda x: None if x.temperature is None else f(x.temperature)


# Where N and M are the same, those of N alone are said.
BY_COLUMNS = (
    Named("M, M candidates", lambda x: float(x.m) if x.m else None),
    Named("1/M, M candidates", lambda x: 1 / x.m if x.m else None),
    Named("N M, M candidates", lambda x: float(x.n * x.m) or None),
    Named("1/(N M), M candidates", lambda x: 1 / (x.n * x.m) if x.m else None),
)

# Plain numbers first: where two names fit, the simpler one is said first.
SCALES = (
    Named("2", lambda x: 2.0),
    Named("1/2", lambda x: 0.5),
    Named("-1", lambda x: -1.0),
    Named("N", lambda x: x.n),
    Named("1/N", lambda x: 1 / x.n),
    Named("2N", lambda x: 2.0 * x.n),
    Named("1/(2N)", lambda x: 0.5 / x.n),
    Named("N/(N-1)", lambda x: x.n / (x.n - 1) if x.n > 1 else None),
    Named("(N-1)/N", lambda x: (x.n - 1) / x.n),
    Named("2N/(2N-1)", lambda x: 2 * x.n / (2 * x.n - 1)),
    Named("N-1", lambda x: x.n - 1.0),
    Named("1/(N-1)", lambda x: 1 / (x.n - 1) if x.n > 1 else None),
    Named("1/(2N-1)", lambda x: 1 / (2 * x.n - 1)),
    Named("number of anchors", lambda x: x.anchors),
    Named("1/number of anchors", lambda x: 1 / x.anchors),
    Named("N/M, M candidates", lambda x: x.n / x.m if x.m not in (0, x.n) else None),
    Named("M/N, M candidates", lambda x: x.m / x.n if x.m not in (0, x.n) else None),
    Named("number of candidates", lambda x: x.negatives + 1.0),
    Named("1/number of candidates", lambda x: 1 / (x.negatives + 1)),
    Named("number of negatives", lambda x: x.negatives),
    Named("1/number of negatives", lambda x: 1 / x.negatives if x.negatives else None),
    Named("K/(K+1), K negatives", lambda x: x.negatives / (x.negatives + 1)),
    Named("1/V, V views", lambda x: 1 / x.views if x.views > 2 else None),
    Named("1/(V(V-1)), V views", lambda x: 1 / (x.views * (x.views - 1)) if x.views > 2 else None),
    Named("number of steps", lambda x: float(x.steps) if x.steps else None),
    Named("1/number of steps", lambda x: 1 / x.steps if x.steps else None),
    Named("world size", lambda x: float(x.ranks) if x.ranks > 1 else None),
    Named("1/world size", lambda x: 1 / x.ranks if x.ranks > 1 else None),
    Named("τ", _with_temperature(lambda t: t)),
    Named("1/τ", _with_temperature(lambda t: 1 / t)),
    Named("2τ", _with_temperature(lambda t: 2 * t)),
    Named("τ²", _with_temperature(lambda t: t * t)),
    Named("1/τ²", _with_temperature(lambda t: 1 / (t * t))),
    Named("τ/0.07", _with_temperature(lambda t: t / 0.07)),
    Named("0.07/τ", _with_temperature(lambda t: 0.07 / t)),
    Named("1/ln 2 (bits)", lambda x: 1 / math.log(2)),
    Named("ln 2", lambda x: math.log(2)),
    Named("D", lambda x: x.d),
    Named("1/D", lambda x: 1 / x.d),
    Named("N²", lambda x: float(x.n * x.n)),
    Named("1/N²", lambda x: 1 / (x.n * x.n)),
    *BY_COLUMNS,
)

_LOGARITHMS: tuple[tuple[str, Callable[[Facts], float | None]], ...] = (
    ("ln N", lambda x: math.log(x.n)),
    ("ln 2", lambda x: math.log(2)),
    ("ln(2N)", lambda x: math.log(2 * x.n)),
    ("ln(number of candidates)", lambda x: math.log(x.negatives + 1)),
    ("ln(number of negatives)", lambda x: math.log(x.negatives) if x.negatives else None),
    ("ln τ", _with_temperature(math.log)),
    ("1/τ", _with_temperature(lambda t: 1 / t)),
    ("1", lambda x: 1.0),
)


def _less(f: Callable[[Facts], float | None]) -> Callable[[Facts], float | None]:
    return lambda x: None if (y := f(x)) is None else -y


OFFSETS = tuple(named for name, f in _LOGARITHMS for named in (Named(name, f), Named(f"-{name}", _less(f))))

# Who multiplies the same loss by what, on purpose: value over the mean of the paper.
CONVENTIONS = {
    "2": "google-research/simclr (TensorFlow 2) and tensorflow/similarity: the two directions are added, not averaged",
    "N/(N-1)": "lucidrains/contrastive-learner",
    "τ/0.07": "HobbitLong/SupContrast: temperature / base temperature, 0.07",
    "2τ": "MoCo v3 and solo-learn mocov3",
    "1/world size": "distributed data parallel with a gather that has no gradient",
}


def scale_named(name: str) -> Named:
    """Return the scale of a name, such as "N/(N-1)" or "τ/0.07"; "tau" may be written for τ."""
    wanted = name.replace("tau", "τ").replace(" ", "")
    for named in SCALES:
        if named.name.replace(" ", "") == wanted:
            return named
    raise ValueError(f"scale: no scale is called {name!r}; known are {', '.join(s.name for s in SCALES)}, or a number.")
