"""The losses at 50 digits: the truth against which float64 is measured.

In:  similarities or embeddings as nested lists of ``mpmath.mpf``.
Out: for losses of similarities values, gradients and, where the terms of a sum have mixed signs, the sum of their
magnitudes; for losses of embeddings values alone, of which `differentiate` takes the gradient.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from mpmath import mp, mpf

mp.dps = 50

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


def hardest_of(s: Matrix, who: Who, count: int) -> Who:
    """Narrow the negatives to those not below the count-th largest."""
    kept = []
    for s_i, (p, others) in zip(s, who, strict=True):
        threshold = sorted((s_i[k] for k in others), reverse=True)[min(count, len(others)) - 1]
        kept.append((p, [k for k in others if s_i[k] >= threshold]))
    return kept


class Truth(NamedTuple):
    """One anchor's loss; magnitudes are sums of the absolute values of the terms."""

    loss: mpf
    loss_magnitude: mpf
    ds: Row
    dscalar: mpf  # by the temperature or the weight
    dscalar_magnitude: mpf
    range: mpf  # of the similarities that count


def softmax_truth(s_i: Row, p: int, others: list[int], temperature: mpf) -> Truth:
    """Return the loss log(1 + Σ exp(d/τ)) and P/τ, −(1 − P_p)/τ and −Σ P d/τ²."""
    powers = {k: mp.exp((s_i[k] - s_i[p]) / temperature) for k in others}
    total = mp.fsum(powers.values())
    loss = mp.log1p(total)
    ds = [powers.get(k, mpf(0)) / (1 + total) / temperature for k in range(len(s_i))]
    ds[p] = -total / (1 + total) / temperature
    terms = [ds[k] * (s_i[k] - s_i[p]) / temperature for k in others]
    return Truth(loss, loss, ds, -mp.fsum(terms), mp.fsum(abs(x) for x in terms), _range(s_i, p, others))


def simple_truth(s_i: Row, p: int, others: list[int], weight: mpf | None) -> Truth:
    """Return the loss −s_p + λ Σ s_k, −1 and λ, and Σ s_k."""
    each = mpf(1) / max(len(others), 1) if weight is None else weight
    terms = [each * s_i[k] for k in others]
    ds = [mpf(0)] * len(s_i)
    for k in others:
        ds[k] = each
    ds[p] = mpf(-1)
    magnitude = abs(s_i[p]) + mp.fsum(abs(x) for x in terms)
    total, total_magnitude = mp.fsum(s_i[k] for k in others), mp.fsum(abs(s_i[k]) for k in others)
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
    counted = [s_i[p], *(s_i[k] for k in others)]
    return max(counted) - min(counted)


def softmax_value(s: Matrix, temperature: mpf, who: Who) -> mpf:
    """Return the mean loss −log P_p."""
    losses = []
    for s_i, (p, others) in zip(s, who, strict=True):
        # log1p of the sum, not the log of a probability: a dominated loss of 1e-400 is a number here too.
        losses.append(mp.log1p(mp.fsum(mp.exp((s_i[k] - s_i[p]) / temperature) for k in others)))
    return mp.fsum(losses) / len(losses)


def simple_value(s: Matrix, weight: mpf | None, who: Who) -> mpf:
    """Return the mean of −s_p + λ Σ s_k."""
    losses = []
    for s_i, (p, others) in zip(s, who, strict=True):
        each = mpf(1) / max(len(others), 1) if weight is None else weight
        losses.append(each * mp.fsum(s_i[k] for k in others) - s_i[p])
    return mp.fsum(losses) / len(losses)


def triplet_value(s: Matrix, margin: mpf, who: Who) -> mpf:
    """Return the mean of max(max d + margin, 0)."""
    losses = [
        max(max(s_i[k] for k in others) - s_i[p] + margin, mpf(0)) for s_i, (p, others) in zip(s, who, strict=True)
    ]
    return mp.fsum(losses) / len(losses)


def cosines(a: Matrix, b: Matrix) -> Matrix:
    """Return the cosine of each row of a with each row of b."""
    unit_a, unit_b = ([[x / mp.sqrt(mp.fdot(row, row)) for x in row] for row in rows] for rows in (a, b))
    return [[mp.fdot(x, y) for y in unit_b] for x in unit_a]


def differentiate(function: Callable[[Row], mpf], at: Row, scale: mpf) -> Row:
    """Return the gradient by central differences: at 100 digits and a step of 1e-30 of the scale, good to 50."""
    gradient = []
    with mp.workdps(110):
        step = scale * mpf(10) ** -30
        for index, here in enumerate(at):
            ahead, behind = list(at), list(at)
            ahead[index], behind[index] = here + step, here - step
            gradient.append((function(ahead) - function(behind)) / (2 * step))
    return gradient


def separate_value(s_pos: Row, s_neg: Matrix, scale: mpf, bias: mpf) -> mpf:
    """Return the mean over anchors of the sum of −log σ(±(scale s + bias)) over their pairs."""
    losses = []
    for own, others in zip(s_pos, s_neg, strict=True):
        pairs = [-(scale * own + bias), *(scale * s + bias for s in others)]
        # log1p, as above: a pair that is settled by thousands of nats is a number here too.
        losses.append(mp.fsum(mp.log1p(mp.exp(gap)) for gap in pairs))
    return mp.fsum(losses) / len(losses)
