"""The bound of the design: every value and gradient of similarities in float64, against 50 digits.

|computed − true| ≤ 4 eps (1 + range/τ) |true|, or of the sum of the terms' magnitudes where their signs are mixed.
"""

from typing import Any

import numpy as np
import pytest
from backends import EPS
from mpmath import mpf
from oracle_mpmath import Truth, exact, hardest_of, simple_truth, softmax_truth, triplet_truth

import refcl

TINY = mpf(float(np.finfo(np.float64).tiny))
TEMPERATURES = [1e-3, 0.01, 0.07, 0.3, 2.0, 100.0, 1e6]


def plain(rng: np.random.Generator, m: int) -> Any:
    return rng.uniform(-1, 1, m)


def dominated(rng: np.random.Generator, m: int) -> Any:
    s = rng.uniform(-0.2, 0.4, m)
    s[0] = 0.97
    return s


def overwhelmed(rng: np.random.Generator, m: int) -> Any:
    s = rng.uniform(0.5, 0.9, m)
    s[0] = -0.8
    return s


def ties(rng: np.random.Generator, m: int) -> Any:
    return rng.choice([-0.25, 0.1, 0.7], m)


def antipodal(rng: np.random.Generator, m: int) -> Any:
    return np.where(np.arange(m) % 2 == 0, 1.0, -1.0)


def collapsed(rng: np.random.Generator, m: int) -> Any:
    return 0.9999 + 1e-10 * rng.standard_normal(m)


def balanced(rng: np.random.Generator, m: int) -> Any:
    """The soft maximum just meets the positive: d_max/τ and the logarithm of the sum cancel (here at τ = .07)."""
    s = np.full(m, 0.5)
    s[0] = 0.5 + 0.07 * np.log(m - 1)
    return s


KINDS = [plain, dominated, overwhelmed, ties, antipodal, collapsed, balanced]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
every_temperature = pytest.mark.parametrize("temperature", TEMPERATURES)


def row(kind: Any, m: int = 33) -> Any:
    """Return similarities (1, M), the positive in column 0."""
    return kind(np.random.default_rng(11), m)[None, :]


def check_exact(got: Any, want: mpf, magnitude: mpf, ratio: float, what: str) -> None:
    """Check a number against the bound, where the truth is a normal number."""
    if abs(want) < TINY and magnitude < TINY:
        return
    allowed = 4 * EPS["float64"] * (1 + ratio) * magnitude
    excess = float(abs(mpf(float(got)) - want) / allowed) if allowed else float(got != 0)
    assert excess <= 1, f"{what}: {float(got)!r} is off by {excess:.3g} times the bound from {float(want)!r}"


def check_row(value: Any, ds: Any, dscalar: Any, truth: Truth, temperature: float) -> None:
    ratio = float(truth.range) / temperature
    check_exact(value, truth.loss, truth.loss_magnitude, ratio, "value")
    for k, want in enumerate(truth.ds):
        check_exact(ds[0, k], want, abs(want), ratio, f"ds[{k}]")
    if dscalar is not None:
        check_exact(dscalar, truth.dscalar, truth.dscalar_magnitude, ratio, "dscalar")


@every_temperature
@every_kind
def test_softmax_is_exact(kind: Any, temperature: float) -> None:
    s = row(kind)
    value, grads = refcl.softmax_contrastive(s, temperature)
    (s_i,) = exact(s.tolist())
    check_row(
        value, grads.ds, grads.dtemperature, softmax_truth(s_i, 0, list(range(1, 33)), mpf(temperature)), temperature
    )


@every_temperature
@every_kind
def test_hard_softmax_is_exact(kind: Any, temperature: float) -> None:
    s = row(kind)
    value, grads = refcl.hard_softmax_contrastive(s, temperature, hardest=5)
    (s_i,) = exact(s.tolist())
    ((_, kept),) = hardest_of([s_i], [(0, list(range(1, 33)))], 5)
    check_row(value, grads.ds, grads.dtemperature, softmax_truth(s_i, 0, kept, mpf(temperature)), temperature)


@pytest.mark.parametrize("weight", [None, 0.3, 1e-3])
@every_kind
def test_simple_is_exact(kind: Any, weight: float | None) -> None:
    s = row(kind)
    value, grads = refcl.simple_contrastive(s, weight)
    (s_i,) = exact(s.tolist())
    truth = simple_truth(s_i, 0, list(range(1, 33)), None if weight is None else mpf(weight))
    check_row(value, grads.ds, grads.dweight, truth, 1.0)


@pytest.mark.parametrize("margin", [0.0, 0.3])
@every_kind
def test_triplet_is_exact(kind: Any, margin: float) -> None:
    s = row(kind)
    value, grads = refcl.triplet(s, margin=margin)
    (s_i,) = exact(s.tolist())
    check_row(value, grads.ds, None, triplet_truth(s_i, 0, list(range(1, 33)), mpf(margin)), 1.0)


@pytest.mark.slow
@every_temperature
@every_kind
def test_softmax_is_exact_with_4096_candidates(kind: Any, temperature: float) -> None:
    s = row(kind, 4096)
    value, grads = refcl.softmax_contrastive(s, temperature)
    (s_i,) = exact(s.tolist())
    check_row(
        value, grads.ds, grads.dtemperature, softmax_truth(s_i, 0, list(range(1, 4096)), mpf(temperature)), temperature
    )


@pytest.mark.parametrize("temperature", [0.01, 0.07])
def test_a_positive_that_dominates_keeps_its_digits(temperature: float) -> None:
    """Where log-sum-exp less the positive is 0, or has lost most digits, the gap has all of them."""
    s = row(dominated)
    naive = np.log(np.sum(np.exp((s - s.max()) / temperature))) + (s.max() - s[0, 0]) / temperature
    loss, grads = refcl.softmax_contrastive(s, temperature)
    truth = softmax_truth(exact(s.tolist())[0], 0, list(range(1, 33)), mpf(temperature))
    naive_error = float(abs(mpf(float(naive)) - truth.loss) / truth.loss)
    error = float(abs(mpf(float(loss)) - truth.loss) / truth.loss)
    assert error < 1e-13
    assert naive_error > 50 * error
    assert grads.ds[0, 0] < 0


def test_the_checker_sees_an_error_of_twice_the_bound() -> None:
    want = mpf(1) / 3
    check_exact(float(want) * (1 + 3 * EPS["float64"]), want, want, 0.0, "near")
    with pytest.raises(AssertionError, match="off by"):
        check_exact(float(want) * (1 + 8 * EPS["float64"]), want, want, 0.0, "far")
    with pytest.raises(AssertionError, match="off by"):
        check_exact(0.0, want, want, 0.0, "zero")
