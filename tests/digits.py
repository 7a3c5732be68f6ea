"""The losses at 50 digits: the truth against which float64 is measured.

In:  similarities or embeddings as nested lists of ``mpmath.mpf``.
Out: values; gradients by `differentiate`, or in closed form where thousands of candidates ask for it; and the bound

    |computed − true| ≤ 4 eps (1 + range/τ) |true|        or of the sum of magnitudes where terms have mixed signs
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from mpmath import mp, mpf

mp.dps = 50

EPS = float(np.finfo(np.float64).eps)
TINY = mpf(float(np.finfo(np.float64).tiny))

Row = list[mpf]
Matrix = list[Row]
Who = list[tuple[int, list[int]]]  # of each anchor the positive's column and those of the negatives that count


def exact(x: Any) -> Any:
    """Return nested lists of floats as they are, in mpmath."""
    return [exact(y) for y in x] if isinstance(x, list) else mpf(x)


def everyone(n: int, m: int, positive: list[int] | None = None, ignore: Any = None) -> Who:
    """Return who is whose positive and negative."""
    return [
        (p, [k for k in range(m) if k != p and not (ignore is not None and ignore[i][k])])
        for i, p in enumerate(positive if positive is not None else range(n))
    ]


def stacked(n: int) -> Who:
    """Return who is whose among the rows of two views: the other view's row, and all others but itself."""
    itself = [[i == k for k in range(2 * n)] for i in range(2 * n)]
    return everyone(2 * n, 2 * n, [(i + n) % (2 * n) for i in range(2 * n)], itself)


def hardest_of(s: Matrix, who: Who, count: int) -> Who:
    """Narrow the negatives to those not below the count-th largest."""
    kept = []
    for s_i, (p, others) in zip(s, who, strict=True):
        threshold = sorted((s_i[k] for k in others), reverse=True)[min(count, len(others)) - 1]
        kept.append((p, [k for k in others if s_i[k] >= threshold]))
    return kept


def cosines(a: Matrix, b: Matrix) -> Matrix:
    """Return the cosine of each row of a with each row of b."""
    unit_a, unit_b = ([[x / mp.sqrt(mp.fdot(row, row)) for x in row] for row in rows] for rows in (a, b))
    return [[mp.fdot(x, y) for y in unit_b] for x in unit_a]


def mean(values: Sequence[mpf]) -> mpf:
    return mp.fsum(values) / len(values)


def lse(s_i: Row, who: list[int], tau: mpf) -> mpf:
    top = max(s_i[k] for k in who)
    return top / tau + mp.log(mp.fsum(mp.exp((s_i[k] - top) / tau) for k in who))


def softmax(s_i: Row, who: list[int], tau: mpf) -> dict[int, mpf]:
    top = max(s_i[k] for k in who)
    powers = {k: mp.exp((s_i[k] - top) / tau) for k in who}
    total = mp.fsum(powers.values())
    return {k: power / total for k, power in powers.items()}


def span(s_i: Row) -> float:
    return float(max(s_i) - min(s_i))


# The losses that others are made of.


def softmax_loss(s_i: Row, p: int, others: list[int], tau: mpf) -> mpf:
    """Return log(1 + Σ exp(d/τ)): log1p, not the log of a probability, so that 1e-400 is a number here too."""
    return mp.log1p(mp.fsum(mp.exp((s_i[k] - s_i[p]) / tau) for k in others))


def softmax_value(s: Matrix, tau: mpf, who: Who) -> mpf:
    return mean([softmax_loss(s_i, p, others, tau) for s_i, (p, others) in zip(s, who, strict=True)])


def soft_value(
    s: Matrix, tau: mpf, log_weight: Matrix, targets: Matrix, anchor_weight: Row, ignore: Any = None, smoothing: Any = 0
) -> mpf:
    """Return the mean of a Σ −t log p, with t smoothed over the candidates that count."""
    losses = []
    for i, (s_i, w_i, t_i) in enumerate(zip(s, log_weight, targets, strict=True)):
        counts = [k for k in range(len(s_i)) if not (ignore is not None and ignore[i][k])]
        x = [a / tau + w for a, w in zip(s_i, w_i, strict=True)]
        surprise = {k: mp.log1p(mp.fsum(mp.exp(x[j] - x[k]) for j in counts if j != k)) for k in counts}
        t = {k: (1 - mpf(smoothing)) * t_i[k] + mpf(smoothing) / len(counts) for k in counts}
        losses.append(anchor_weight[i] * mp.fsum(t[k] * surprise[k] for k in counts))
    return mean(losses)


def simple_value(s: Matrix, weight: mpf | None, who: Who) -> mpf:
    losses = []
    for s_i, (p, others) in zip(s, who, strict=True):
        each = mpf(1) / max(len(others), 1) if weight is None else weight
        losses.append(each * mp.fsum(s_i[k] for k in others) - s_i[p])
    return mean(losses)


def triplet_value(s: Matrix, margin: mpf, who: Who) -> mpf:
    return mean([triplet_truth(s_i, p, others, margin).loss for s_i, (p, others) in zip(s, who, strict=True)])


def logistic_value(s_pos: Row, s_neg: Matrix, scale: mpf, bias: mpf) -> mpf:
    """Return the mean over anchors of the sum of −log σ(±(scale s + bias)) over their pairs."""
    losses = []
    for own, others in zip(s_pos, s_neg, strict=True):
        pairs = [-(scale * own + bias), *(scale * s + bias for s in others)]
        losses.append(mp.fsum(mp.log1p(mp.exp(gap)) for gap in pairs))
    return mean(losses)


class Truth(NamedTuple):
    """One anchor's loss; magnitudes are sums of the absolute values of the terms."""

    loss: mpf
    loss_magnitude: mpf
    ds: Row
    dscalar: mpf  # by the temperature or the weight
    dscalar_magnitude: mpf
    range: mpf  # of the similarities that count


def softmax_truth(s_i: Row, p: int, others: list[int], temperature: mpf) -> Truth:
    """Return the loss and P/τ, −(1 − P_p)/τ and −Σ P d/τ²."""
    gaps = {k: (s_i[k] - s_i[p]) / temperature for k in others}
    powers = {k: mp.exp(gap) for k, gap in gaps.items()}
    total = mp.fsum(powers.values())
    loss, each = mp.log1p(total), 1 / (1 + total) / temperature
    ds = [mpf(0)] * len(s_i)
    for k, power in powers.items():
        ds[k] = power * each
    ds[p] = -total * each
    terms = [ds[k] * gap for k, gap in gaps.items()]
    return Truth(loss, loss, ds, -mp.fsum(terms), mp.fsum(terms, absolute=True), _range(s_i, p, others))


def decoupled_truth(s_i: Row, p: int, others: list[int], temperature: mpf) -> Truth:
    """Return the soft maximum itself as a loss: ds is r/τ and −1/τ, and log Σ exp(d/τ) a sum of two signs.

    Its logarithm is that of a sum of at least 1, whose rounding does not shrink with it: it counts as 1 or more.
    """
    r, top = softmax(s_i, others, temperature), max(s_i[k] for k in others)
    ds = [mpf(0)] * len(s_i)
    for k, share in r.items():
        ds[k] = share / temperature
    ds[p] = -1 / temperature
    terms = [ds[k] * (s_i[p] - s_i[k]) / temperature for k in others]
    rest = -mp.log(max(r.values()))
    gap, magnitude = (top - s_i[p]) / temperature + rest, abs(top - s_i[p]) / temperature + max(rest, 1)
    return Truth(gap, magnitude, ds, mp.fsum(terms), mp.fsum(terms, absolute=True), _range(s_i, p, others))


def simple_truth(s_i: Row, p: int, others: list[int], weight: mpf | None) -> Truth:
    """Return the loss −s_p + λ Σ s_k, −1 and λ, and Σ s_k."""
    each = mpf(1) / max(len(others), 1) if weight is None else weight
    terms = [each * s_i[k] for k in others]
    ds = [mpf(0)] * len(s_i)
    for k in others:
        ds[k] = each
    ds[p] = mpf(-1)
    magnitude = abs(s_i[p]) + mp.fsum(terms, absolute=True)
    total, total_magnitude = mp.fsum(s_i[k] for k in others), mp.fsum((s_i[k] for k in others), absolute=True)
    return Truth(mp.fsum(terms) - s_i[p], magnitude, ds, total, total_magnitude, _range(s_i, p, others))


def triplet_truth(s_i: Row, p: int, others: list[int], margin: mpf) -> Truth:
    """Return the loss max(max d + margin, 0), and its gradient, shared among ties."""
    top = max(s_i[k] for k in others)
    gap = top - s_i[p] + margin
    nearest = [k for k in others if s_i[k] == top]
    ds = [mpf(0)] * len(s_i)
    if gap > 0:
        for k in nearest:
            ds[k] = mpf(1) / len(nearest)
        ds[p] = mpf(-1)
    magnitude = abs(top) + abs(s_i[p]) + margin
    return Truth(max(gap, mpf(0)), magnitude, ds, mpf(0), mpf(0), _range(s_i, p, others))


def _range(s_i: Row, p: int, others: list[int]) -> mpf:
    counted = sorted([s_i[p], *(s_i[k] for k in others)], key=float)
    return counted[-1] - counted[0]


# Gradients by differences, and the bound.


def differentiate(function: Callable[[Row], mpf], at: Row, scale: mpf, digits: int = 110) -> Row:
    """Return the gradient by central differences: at 110 digits and a step of 1e-30 of the scale, good to 50."""
    gradient = []
    with mp.workdps(digits):
        step = scale * mpf(10) ** -30
        for index, here in enumerate(at):
            ahead, behind = list(at), list(at)
            ahead[index], behind[index] = here + step, here - step
            gradient.append((function(ahead) - function(behind)) / (2 * step))
    return gradient


def derivatives(function: Callable[[Row, mpf], mpf], s: Row, temperature: float) -> tuple[mpf, Row, mpf]:
    """Return a loss of similarities and a temperature, its gradient by each and by the temperature.

    Its digits hold exp(−2/τ), or the smallest normal number, beside 1, and a step of 1e-40 with them.
    """
    tau, digits = mpf(temperature), 110 + min(320, int(1 / temperature))
    *ds, dtau = differentiate(lambda at: function(at[:-1], at[-1]), [*s, tau], min(tau, mpf(1)) / 10**10, digits)
    with mp.workdps(digits):
        return function(s, tau), ds, dtau


def check_exact(got: Any, want: mpf, magnitude: mpf, ratio: float, what: str) -> None:
    """Check a number against the bound, where the truth is a normal number."""
    if abs(want) < TINY and magnitude < TINY:
        return
    allowed = 4 * EPS * (1 + ratio) * magnitude
    excess = float(abs(mpf(float(got)) - want) / allowed) if allowed else float(got != 0)
    assert excess <= 1, f"{what}: {float(got)!r} is off by {excess:.3g} times the bound from {float(want)!r}"


def check_all_exact(got: Any, want: Any, sizes: Any, ratio: float) -> None:
    """Check (value, ds), or (value, ds, dτ); a size is that of the terms where their signs are mixed, else None."""
    for what, mine, true, size in zip(("value", "ds", "dτ")[: len(want)], got, want, sizes, strict=True):
        entries = true if isinstance(true, list) else [true]
        given = size if isinstance(size, list) else [size] * len(entries)
        for k, (x, y, magnitude) in enumerate(zip(np.ravel(mine).tolist(), entries, given, strict=True)):
            check_exact(x, y, abs(y) if magnitude is None else magnitude, ratio, f"{what}[{k}]")


# Kinds of similarities, the positive in column 0, on which float64 usually fails.


def random(rng: np.random.Generator, m: int) -> Any:
    return rng.uniform(-1, 1, m)


def dominated(rng: np.random.Generator, m: int) -> Any:
    s = rng.normal(0, 0.1, m)
    s[0] = 0.98
    return s


def reversed_(rng: np.random.Generator, m: int) -> Any:
    s = rng.uniform(0.6, 1.0, m)
    s[0] = -0.7
    return s


def tied(rng: np.random.Generator, m: int) -> Any:
    return rng.choice([-0.3, 0.1, 0.7], m)


def antipodal(rng: np.random.Generator, m: int) -> Any:
    return np.where(np.arange(m) % 2 == 0, 1.0, -1.0)


def collapsed(rng: np.random.Generator, m: int) -> Any:
    return 0.9999 + 1e-6 * rng.standard_normal(m)


def met(rng: np.random.Generator, m: int) -> Any:
    """The soft maximum g meets the positive, here at τ = .07: the logarithm of the sum and d_max/τ cancel."""
    s = np.full(m, 0.5)
    s[0] = 0.5 + 0.07 * np.log(max(m - 1, 1))
    return s


KINDS = (random, dominated, reversed_, tied, antipodal, collapsed, met)
TEMPERATURES = (1e-3, 0.01, 0.07, 0.3, 2.0, 100.0, 1e6)
# Each kind at two of the temperatures, each temperature with two of the kinds; at all of them where slow tests are.
every_corner = pytest.mark.parametrize(
    ("kind", "temperature"),
    [
        pytest.param(
            kind, tau, marks=[] if (j - i) % 7 in (0, 3) else [pytest.mark.slow], id=f"{kind.__name__}-{tau:g}"
        )
        for i, kind in enumerate(KINDS)
        for j, tau in enumerate(TEMPERATURES)
    ],
)


def row(kind: Any, m: int = 13) -> Any:
    """Return similarities (1, M), the positive in column 0."""
    return kind(np.random.default_rng(11), m)[None, :]
