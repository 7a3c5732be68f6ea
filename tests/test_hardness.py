"""Relative penalty, entropy, balance, and both limits: what the paper does not state but users rely on."""

import math
from typing import Any

import numpy as np
import pytest
from backends import EPS, Backend, check_near
from cards import Card, on_similarities, positives_only, roles, scalar
from differences import derivative
from loops import Matrix, Row, penalty_entropy, relative_penalty
from loops import roles as roles_of
from loops import temperature_for_entropy as temperature_in_loops
from mpmath import mp, mpf

import refcl
from refcl import hardness


def entropy_slope(s: Matrix, temperature: float, **who: Any) -> Row:
    out = []
    for s_i, r in zip(s, relative_penalty(s, temperature, **who), strict=True):
        mean = sum(r_k * s_k for r_k, s_k in zip(r, s_i, strict=True))
        out.append(sum(r_k * (s_k - mean) ** 2 for r_k, s_k in zip(r, s_i, strict=True)) / temperature**3)
    return out


def balance(ds: Matrix, **who: Any) -> Row:
    return [abs(sum(d[k] for k in others)) / abs(d[p]) for d, (p, others) in zip(ds, roles_of(ds, **who), strict=True)]


def small_temperature_bound(s: Matrix, temperature: float, **who: Any) -> Any:
    lower, upper = [], []
    for s_i, (p, others) in zip(s, roles_of(s, **who), strict=True):
        lower.append(max(0.0, *((s_i[k] - s_i[p]) / temperature for k in others)))
        upper.append(lower[-1] + math.log(len(others) + 1))
    return lower, upper


def large_temperature_form(s: Matrix, temperature: float, **who: Any) -> Row:
    out = []
    for s_i, (p, others) in zip(s, roles_of(s, **who), strict=True):
        values = [s_i[k] for k in [p, *others]]
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        out.append(math.log(len(values)) - (s_i[p] - mean) / temperature + variance / (2 * temperature**2))
    return out


EVERYWHERE = [("diagonal", on_similarities(scalar(0.2))), ("roles", on_similarities(scalar(0.3), roles=roles))]
HARDEST = [*EVERYWHERE, ("hardest", on_similarities(scalar(0.3), roles=roles, hardest=0.4))]
CARDS = [
    Card(hardness.relative_penalty, HARDEST, relative_penalty),
    Card(hardness.penalty_entropy, HARDEST, penalty_entropy),
    Card(hardness.entropy_slope, HARDEST, entropy_slope),
    Card(hardness.small_temperature_bound, EVERYWHERE, small_temperature_bound),
    Card(hardness.large_temperature_form, EVERYWHERE, large_temperature_form),
    Card(hardness.temperature_for_entropy, [("diagonal", on_similarities(0.9))], temperature_in_loops),
    Card(
        hardness.balance,
        [("diagonal", on_similarities()), ("positive", on_similarities(roles=positives_only))],
        balance,
    ),
]

S = np.random.default_rng(13).uniform(-1, 1, (4, 9))
IGNORE = np.zeros((4, 9), dtype=bool)
IGNORE[0, 2:5] = True
IGNORE[2] = True  # no negatives


def test_relative_penalty_is_a_distribution_over_the_negatives(backend: Backend) -> None:
    r = backend.host(hardness.relative_penalty(backend.array(S), 0.2, ignore=backend.array(IGNORE)))
    check_near(r.sum(axis=1), np.array([1.0, 1.0, 0.0, 1.0]), rtol=4 * EPS[backend.dtype])
    assert not r[IGNORE].any()
    assert not np.diagonal(r).any()
    assert (r >= 0).all()


def test_relative_penalty_does_not_see_the_positive() -> None:
    other = S.copy()
    other[np.arange(4), np.arange(4)] = 0.99
    check_near(hardness.relative_penalty(other, 0.2), hardness.relative_penalty(S, 0.2), rtol=1e-13)


def test_relative_penalty_of_the_hardest_is_eq_8() -> None:
    r = hardness.relative_penalty(S, 0.2, hardest=3)
    assert (np.count_nonzero(r, axis=1) == 3).all()
    kept = r > 0
    ordinary = hardness.relative_penalty(S, 0.2)
    check_near(r, np.where(kept, ordinary / np.sum(np.where(kept, ordinary, 0), axis=1, keepdims=True), 0), rtol=1e-14)


@pytest.mark.parametrize("temperature", [0.01, 0.07, 0.3, 5.0, 1e4])
def test_entropy_has_its_digits_however_peaked(temperature: float) -> None:
    row = [mpf(float(s)) for s in S[0, 1:]]
    powers = [mp.exp(s / mpf(temperature)) for s in row]
    shares = [p / mp.fsum(powers) for p in powers]
    entropy = -mp.fsum(r * mp.log(r) for r in shares)
    got = hardness.penalty_entropy(S[:1], temperature)[0]
    assert abs(mpf(float(got)) - entropy) <= 8 * EPS["float64"] * (1 + 2 / temperature) * entropy


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.7])
def test_slope_is_the_derivative_of_the_entropy(temperature: float) -> None:
    for i in range(4):
        numeric = derivative(
            lambda h, i=i: float(hardness.penalty_entropy(S, temperature + h)[i]),  # type: ignore[misc]
            1e-3 * temperature,
        )
        check_near(hardness.entropy_slope(S, temperature)[i], numeric, rtol=1e-8)


def test_a_row_without_negatives_has_entropy_and_slope_zero(backend: Backend) -> None:
    s, ignore = backend.array(S), backend.array(IGNORE)
    assert backend.host(hardness.penalty_entropy(s, 0.2, ignore=ignore))[2] == 0.0
    assert backend.host(hardness.entropy_slope(s, 0.2, ignore=ignore))[2] == 0.0


def test_one_negative_has_entropy_zero() -> None:
    assert hardness.penalty_entropy(np.array([[0.5, 0.25]]), 0.2).tolist() == [0.0]


@pytest.mark.parametrize("entropy", [0.05, 0.5, 1.5, 2.0, 2.0793])
def test_temperature_for_entropy_is_the_inverse_of_the_entropy(entropy: float) -> None:
    temperatures = hardness.temperature_for_entropy(S, entropy)
    got = [hardness.penalty_entropy(S, float(tau))[i] for i, tau in enumerate(temperatures)]
    check_near(np.array(got), np.full(4, entropy), rtol=1e-11)


def test_temperature_for_entropy_is_each_row_s_own_whatever_the_others() -> None:
    together = hardness.temperature_for_entropy(S, 1.0)
    apart = [hardness.temperature_for_entropy(S[i : i + 1], 1.0, positive=np.array([i]))[0] for i in range(4)]
    check_near(together, np.array(apart), rtol=1e-12)


@pytest.mark.parametrize(
    ("row", "entropy"),
    [([0.9, 0.5, 0.5, 0.25], math.log(2)), ([0.9, 0.5, 0.5, 0.25], math.log(3)), ([0.9, 0.5, 0.5], 0.5), ([0.9], 0.5)],
    ids=str,
)
def test_an_entropy_that_no_temperature_has_is_refused(row: list[float], entropy: float) -> None:
    with pytest.raises(ValueError, match="must lie between log"):
        hardness.temperature_for_entropy(np.array([row]), entropy)


def test_balance_of_worked_gradients(backend: Backend) -> None:
    """0 where both are 0, infinite where the positive's alone is; of signs that cancel, what is left."""
    ds = np.array([[-2.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.5], [3.0, -1.0, 0.5, -4.0]])
    ratio = backend.host(hardness.balance(backend.array(ds), positive=backend.array(np.array([0, 1, 2, 3]))))
    assert ratio.tolist() == [1.0, 0.0, np.inf, 0.625]


@pytest.mark.parametrize("temperature", [1e-3, 0.07, 0.5, 10.0])
def test_the_bound_holds_with_roles(temperature: float) -> None:
    positive = np.array([3, 0, 2, 8])
    loss, _ = refcl.softmax_contrastive(S, temperature, positive=positive, ignore=IGNORE, reduction="none")
    lower, upper = hardness.small_temperature_bound(S, temperature, positive=positive, ignore=IGNORE)
    slack = 1e-13 * (1 + loss)
    assert (loss >= lower - slack).all()
    assert (loss <= upper + slack).all()
    assert lower[2] == upper[2] == 0.0


@pytest.mark.parametrize("candidates", [2, 5, 9])
def test_the_bound_is_met_at_both_ends(candidates: int) -> None:
    """All equal: log(K + 1). One negative far above: (s_max − s_p)/τ."""
    equal = np.full((1, candidates), 0.25)
    check_near(
        refcl.softmax_contrastive(equal, 0.1)[0], hardness.small_temperature_bound(equal, 0.1).upper[0], rtol=1e-14
    )
    far = equal.copy()
    far[0, 1] = 0.95
    check_near(
        refcl.softmax_contrastive(far, 1e-3)[0], hardness.small_temperature_bound(far, 1e-3).lower[0], rtol=1e-14
    )


def test_the_large_temperature_form_leaves_out_what_does_not_count() -> None:
    positive = np.array([3, 0, 2, 8])
    got = hardness.large_temperature_form(S, 300.0, positive=positive, ignore=IGNORE)
    loss, _ = refcl.softmax_contrastive(S, 300.0, positive=positive, ignore=IGNORE, reduction="none")
    assert np.abs(got - loss).max() < 1e-7
    assert got[2] == 0.0


def test_a_similarity_of_minus_infinity_is_ignored(backend: Backend) -> None:
    s, ignore = S.copy(), np.zeros(S.shape, dtype=bool)
    s[:, -1], ignore[:, -1] = -np.inf, True
    for function in (hardness.penalty_entropy, hardness.entropy_slope, hardness.temperature_for_entropy):
        got = backend.host(function(backend.array(s), 0.7))
        np.testing.assert_array_equal(got, backend.host(function(backend.array(S), 0.7, ignore=backend.array(ignore))))


@pytest.mark.parametrize("nearest", [1, 3, 7])
def test_an_entropy_next_to_its_limit_has_a_temperature(nearest: int) -> None:
    """One number above the log of the number of the nearest, or below that of all: found, to rounding."""
    row = np.array([[0.9, *[0.8] * nearest, 0.3, 0.1, -0.4]])
    for entropy in (np.nextafter(np.log(nearest), 9.0), np.nextafter(np.log(nearest + 3), 0.0)):
        tau = hardness.temperature_for_entropy(row, float(entropy))[0]
        got = hardness.penalty_entropy(row, float(tau))[0]
        assert got == pytest.approx(entropy, rel=4 * EPS["float64"], abs=0)


@pytest.mark.parametrize("gap", [1e-12, 1e-100, 1e-300])
def test_scales_may_lie_far_apart(gap: float) -> None:
    row = np.array([[0.9, 0.0, -gap, -1.0]])
    for entropy in (0.3, 0.69, 0.7, 1.0):
        tau = hardness.temperature_for_entropy(row, entropy)[0]
        assert hardness.penalty_entropy(row, float(tau))[0] == pytest.approx(entropy, rel=1e-11, abs=0)


def test_differences_below_the_normal_numbers_are_ties() -> None:
    row = np.array([[0.9, 0.0, -1e-320, -1.0]])
    with pytest.raises(ValueError, match="between log 2 and log 3"):
        hardness.temperature_for_entropy(row, 0.3)
    assert np.isfinite(hardness.temperature_for_entropy(row, 0.9)).all()
