"""A loss that stands still: what does its value say?

In:  the value, the batch size and the temperature.
Out: the formulas that give it: a collapse of all embeddings to one point, under this or that scale.
"""

import math
from typing import NamedTuple


class Explanation(NamedTuple):
    """A formula that gives the value."""

    value: float
    formula: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.value:.6g} = {self.formula}: {self.meaning}"


_COLLAPSE = "every similarity is the same: all embeddings are equal, or the gradient never arrives"


def explain_value(
    loss: float, n: int, temperature: float | None = None, *, tolerance: float | None = None
) -> list[Explanation]:
    """Say what a stuck loss value means.

    Parameters
    ----------
    loss : float
        The value, in the digits that were printed.
    n : int
        Batch size: rows of one view.
    temperature : float, optional
        τ; without it, scales that depend on it are not tried.
    tolerance : float, optional
        Largest accepted difference; by default half a unit of the last digit that was given, and at least 2e-4 of the
        value.

    Returns
    -------
    found : list of Explanation
        The nearest first, and of equally near ones the plainest; empty where nothing fits.

    Raises
    ------
    ValueError
        Where the loss is not finite, n < 1 or the temperature is not positive.

    Notes
    -----
    With all similarities equal, the softmax loss is the logarithm of the number of candidates, whatever τ is.

    Examples
    --------
    >>> from refcl.oracle import explain_value
    >>> print(explain_value(8.909, 256, 0.1)[0])
    8.9091... = ln(2N-1) × τ/0.07: SupContrast's scale, τ / base temperature. ...
    """
    for name, x in (("loss", loss), ("n", n), ("temperature", 1.0 if temperature is None else temperature)):
        if isinstance(x, bool | str) or not hasattr(x, "__float__"):
            raise TypeError(f"explain_value: {name} must be a number, got {type(x).__name__}.")
    if not math.isfinite(loss):
        raise ValueError(f"explain_value: loss must be finite, got {loss}.")
    if n < 1:
        raise ValueError(f"explain_value: n must be >= 1, got {n}.")
    if temperature is not None and not temperature > 0:
        raise ValueError(f"explain_value: temperature must be > 0, got {temperature}.")
    last = 0.5 * 10.0 ** -len(repr(float(loss)).partition(".")[2])
    if tolerance is None:
        tolerance = max(last, 2e-4 * abs(loss))
    found = []
    for rank, (number, formula, what) in enumerate([*_aligned(n, temperature), *_candidates(n)]):
        for extra, (factor, scale, who) in enumerate(_scales(n, temperature)):
            value = number * factor
            if abs(value - loss) <= tolerance:
                meaning = f"{who}. {what}" if who else what
                found.append((extra + rank, Explanation(value, formula + scale, meaning)))
    if not found:
        found = [(0, explanation) for explanation in _other_counts(loss, n, max(last, 2e-6 * abs(loss)))]
    ends = _ends(loss, n, temperature)
    found.sort(key=lambda item: (item[0], abs(item[1].value - loss)))
    return [*(explanation for _, explanation in found), *ends]


_ALIGNED = "every positive is aligned (similarity 1) and everything else orthogonal (similarity 0)"


def _aligned(n: int, t: float | None) -> list[tuple[float, str, str]]:
    """Return the values at the other end: positives aligned, others orthogonal."""
    if t is None or n < 2:
        return []
    dcl = "a decoupled loss (DCL: the positive is not in the denominator)"
    both, one = math.log1p((2 * n - 2) * math.exp(-1 / t)), math.log1p((n - 1) * math.exp(-1 / t))
    return [
        (both, "ln(1 + (2N-2) exp(-1/τ))", f"NT-Xent where {_ALIGNED}"),
        (one, "ln(1 + (N-1) exp(-1/τ))", f"InfoNCE or CLIP where {_ALIGNED}"),
        (math.log(2 * n - 2) - 1 / t, "ln(2N-2) - 1/τ", f"{dcl} where {_ALIGNED}"),
        (math.log(n - 1) - 1 / t, "ln(N-1) - 1/τ", f"a decoupled loss of one direction where {_ALIGNED}"),
    ]


def _ends(loss: float, n: int, temperature: float | None) -> list[Explanation]:
    """Return what the value would be at collapse and at the other end, and where between them it lies."""
    if n < 2:
        return []
    high = math.log(2 * n - 1)
    if temperature is None:
        return [
            Explanation(
                loss,
                f"{loss / high:.0%} of ln(2N-1) = {high:.4g}",
                "NT-Xent's value at collapse, where every similarity is the same; "
                "give the temperature to see the other end",
            )
        ]
    low = math.log1p((2 * n - 2) * math.exp(-1 / temperature))
    if loss < 0:
        bottom = math.log(2 * n - 2) - 1 / temperature
        return [
            Explanation(
                loss,
                f"between ln(2N-2) - 1/τ = {bottom:.4g} and ln(2N-2) = {math.log(2 * n - 2):.4g}",
                "negative: only a decoupled loss is, which leaves the positive out of the denominator (DCL); its"
                f" lower end is where {_ALIGNED}",
            )
        ]
    share = (high - loss) / (high - low) if high > low else 0.0
    if loss > high * 1.0001:
        where = "above collapse: positives are less similar than negatives, or the value is scaled"
    elif loss < low:
        where = "below both ends: negatives are opposite to their anchors, or the value is scaled"
    else:
        where = f"{share:.0%} of the way from collapse to where {_ALIGNED}"
    return [
        Explanation(loss, f"between ln(1 + (2N-2) exp(-1/τ)) = {low:.4g} and ln(2N-1) = {high:.4g} (NT-Xent)", where)
    ]


def _other_counts(loss: float, n: int, tolerance: float) -> list[Explanation]:
    """Return which other number of candidates the value is the logarithm of, where its digits tell them apart."""
    queue = (2**k for k in range(4, 21))
    counts = [(1 + k, f"ln(1 + {k})", f"the positive and a queue of {k}") for k in queue]
    if loss < 30.0 and (k := round(math.exp(loss) / n)) >= 2 and tolerance * k < 0.05:
        several = f"{k} rows of each anchor (passages, hard negatives), or of {k} machines"
        counts.append((k * n, f"ln({k} N)", several))
    near = [
        Explanation(math.log(m), said, f"{m} candidates: {what}, collapsed: {_COLLAPSE}") for m, said, what in counts
    ]
    return [x for x in near if abs(x.value - loss) <= tolerance]


def _candidates(n: int) -> list[tuple[float, str, str]]:
    two = (
        "a choice between two: the positive has one equal among the negatives, every sample is twice in the batch"
        " (duplicates), or left to chance"
    )
    missing = f"the positive is missing from the denominator, and collapsed: {_COLLAPSE}"
    return [
        (math.log(2 * n - 1), "ln(2N-1)", f"NT-Xent over 2N - 1 candidates, collapsed: {_COLLAPSE}"),
        (math.log(n), "ln N", f"InfoNCE or CLIP over N candidates, collapsed: {_COLLAPSE}"),
        (math.log(2 * n), "ln(2N)", f"2N candidates: oneself is among them, and collapsed: {_COLLAPSE}"),
        (math.log(n + 1), "ln(N+1)", f"N + 1 candidates: the positive and N others, collapsed: {_COLLAPSE}"),
        (math.log(2 * n - 2) if n > 1 else math.nan, "ln(2N-2)", missing),
        (math.log(2.0), "ln 2", two),
        (0.0, "0", "no negatives, or positives that dominate everything"),
    ]


def _scales(n: int, temperature: float | None) -> list[tuple[float, str, str]]:
    found = [
        (1.0, "", ""),
        (2.0, " × 2", "Both directions are added, not averaged"),
        (0.5, " / 2", "Half the value"),
        (1 / math.log(2.0), " / ln 2", "In bits"),
    ]
    if temperature is not None:
        found += [
            (temperature / 0.07, " × τ/0.07", "SupContrast's scale, τ / base temperature"),
            (2 * temperature, " × 2τ", "MoCo v3's scale"),
            (temperature, " × τ", "Multiplied by the temperature"),
            (1 / temperature, " / τ", "Divided by the temperature"),
        ]
    found += [
        (float(n), " × N", "The sum over N anchors"),
        (2.0 * n, " × 2N", "The sum over 2N anchors"),
    ]
    if n > 1:
        found.append((n / (n - 1), " × N/(N-1)", "Averaged over one anchor too few"))
    return found
