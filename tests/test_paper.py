"""What the paper states, by the name of the statement."""

import math
from typing import Any

import numpy as np
import pytest
from backends import EPS, Backend, check_near, check_same_bits
from digits import exact, softmax_truth

import refcl
from refcl import hardness, metrics

SIMILARITIES = np.array([[0.8, 0.5, 0.1, -0.3, 0.7]])
RNG = np.random.default_rng(20)
S = RNG.uniform(-1, 1, (6, 40))
K = S.shape[1] - 1
PAIRS = {
    "softmax": lambda s, tau: refcl.softmax_contrastive(s, tau, reduction="none"),
    "hard-softmax": lambda s, tau: refcl.hard_softmax_contrastive(s, tau, hardest=0.2, reduction="none"),
}
every_softmax = pytest.mark.parametrize("name", PAIRS)


@pytest.mark.parametrize("temperature", [1e-3, 0.01, 0.07, 0.2, 0.5, 3.0, 100.0, 1e6])
@pytest.mark.parametrize("candidates", [2, 17, 513, 4096])
@every_softmax
def test_gradient_balance(name: str, candidates: int, temperature: float) -> None:
    """What the negatives receive is what the positive gives: the exact sum is 0 to 4 eps of the positive's gradient."""
    s = np.random.default_rng(candidates).uniform(-1, 1, (2, candidates))
    ds = PAIRS[name](s, temperature)[1].ds
    for i, row in enumerate(ds.tolist()):
        assert abs(math.fsum(row)) <= 4 * EPS["float64"] * abs(row[i])
        assert row[i] < 0
    check_near(hardness.balance(ds), np.ones(2), rtol=1e-14)


def test_gradient_balance_does_not_hold_for_a_simple_loss_of_another_weight() -> None:
    """The test above could fail: λ K is not 1 here."""
    ds = refcl.simple_contrastive(S, 0.5, reduction="none")[1].ds
    check_near(hardness.balance(ds), np.full(6, 0.5 * K), rtol=1e-14)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 0.5, 3.0])
@every_softmax
def test_gradient_at_negatives_is_proportional_to_the_exponential(name: str, temperature: float) -> None:
    """Eq. 5 and 8: ∂L/∂s_k over exp(s_k/τ) is one number a row."""
    ds = PAIRS[name](S, temperature)[1].ds
    for i, row in enumerate(ds):
        pushed = [k for k in range(K + 1) if k != i and row[k] != 0]
        ratio = row[pushed] / np.exp((S[i, pushed] - S[i, pushed].max()) / temperature)
        assert len(pushed) == (K if name == "softmax" else round(0.2 * K))
        assert np.ptp(ratio) <= 8 * EPS["float64"] * (1 + 2 / temperature) * ratio.max()
        assert ratio.min() > 0


@pytest.mark.parametrize("hardest", [None, 0.2])
def test_relative_penalty_is_the_gradient_over_the_positive_s(hardest: float | None) -> None:
    ds = PAIRS["softmax" if hardest is None else "hard-softmax"](S, 0.3)[1].ds
    r = hardness.relative_penalty(S, 0.3, hardest=hardest)
    given = -ds[np.arange(6), np.arange(6)]
    negatives = ~np.eye(6, K + 1, dtype=bool)
    check_near(np.where(negatives, ds / given[:, None], 0.0), r, rtol=1e-14)
    check_near(r.sum(axis=1), np.ones(6), rtol=1e-14)


@pytest.mark.parametrize("hardest", [None, 0.2])
def test_entropy_grows_strictly_with_the_temperature(hardest: float | None) -> None:
    temperatures = np.geomspace(0.02, 50.0, 60)
    entropies = np.array([hardness.penalty_entropy(S, float(tau), hardest=hardest) for tau in temperatures])
    slopes = np.array([hardness.entropy_slope(S, float(tau), hardest=hardest) for tau in temperatures])
    assert (np.diff(entropies, axis=0) > 0).all()
    assert (slopes > 0).all()


def test_entropy_runs_from_the_number_of_nearest_to_the_number_of_negatives() -> None:
    s = np.array([[0.0, 0.5, 0.5, 0.25, -0.5]])
    check_near(hardness.penalty_entropy(s, 1e-3), np.array([math.log(2)]), rtol=1e-12)
    check_near(hardness.penalty_entropy(s, 1e6), np.array([math.log(4)]), rtol=1e-12)


def test_entropy_of_equal_negatives_does_not_move() -> None:
    s = np.array([[0.9, 0.25, 0.25, 0.25]])
    assert hardness.entropy_slope(s, 0.3) == 0.0
    check_near(hardness.penalty_entropy(s, 0.3), np.array([math.log(3)]), rtol=1e-15)


HOT = np.geomspace(10.0, 1e4, 7)


def hot_errors() -> tuple[Any, Any]:
    """Return how far τ (L − log(K + 1)) and its gradient are from the simple loss's, times K/(K + 1), at each τ."""
    simple, simple_grads = refcl.simple_contrastive(S, 1 / K, reduction="none")
    values, gradients = [], []
    for temperature in HOT:
        loss, grads = refcl.softmax_contrastive(S, float(temperature), reduction="none")
        values.append(np.abs(temperature * (loss - math.log(K + 1)) - K / (K + 1) * simple))
        gradients.append(np.linalg.norm(temperature * grads.ds - K / (K + 1) * simple_grads.ds, axis=1))
    return np.array(values), np.array(gradients)


def test_large_temperature_is_the_simple_loss() -> None:
    """Eq. 7: τ (L − log(K + 1)) tends to the mean of all candidates less the positive, K/(K + 1) of the simple loss."""
    diagonal = S[np.arange(6), np.arange(6)]
    simple, _ = refcl.simple_contrastive(S, 1 / K, reduction="none")
    check_near(K / (K + 1) * simple, S.mean(axis=1) - diagonal, rtol=1e-14)
    values, gradients = hot_errors()
    assert values[-1].max() < 1e-4
    assert gradients[-1].max() < 1e-4


@pytest.mark.parametrize("which", [0, 1], ids=["values", "gradients"])
def test_large_temperature_error_falls_as_one_over_the_temperature(which: int) -> None:
    for errors in hot_errors()[which].T:
        rate = np.polyfit(np.log(HOT), np.log(errors), 1)[0]
        assert abs(rate + 1) < 0.02, rate


def test_large_temperature_error_is_half_the_variance_over_the_temperature() -> None:
    values, _ = hot_errors()
    check_near(values[-1] * HOT[-1], S.var(axis=1) / 2, rtol=1e-3)


def test_large_temperature_form_is_off_by_the_third_order() -> None:
    temperatures = np.geomspace(3.0, 100.0, 6)
    errors = []
    for tau in temperatures:
        loss = refcl.softmax_contrastive(S, float(tau), reduction="none")[0]
        errors.append(np.abs(hardness.large_temperature_form(S, float(tau)) - loss).max())
    rate = np.polyfit(np.log(temperatures), np.log(errors), 1)[0]
    assert abs(rate + 3) < 0.15, rate


COLD = [0.3, 0.1, 0.03, 0.01, 1e-3]


@pytest.mark.parametrize("temperature", COLD)
def test_small_temperature_loss_lies_in_its_bound(temperature: float) -> None:
    """Eq. 6: 0 ≤ L − max(0, max d/τ) ≤ log(K + 1)."""
    loss, _ = refcl.softmax_contrastive(S, temperature, reduction="none")
    lower, upper = hardness.small_temperature_bound(S, temperature)
    nearest = np.where(np.eye(6, K + 1, dtype=bool), -np.inf, S).max(axis=1) - S[np.arange(6), np.arange(6)]
    check_near(lower, np.maximum(nearest, 0) / temperature, rtol=1e-14)
    check_near(upper - lower, np.full(6, math.log(K + 1)), rtol=1e-12)
    slack = 4 * EPS["float64"] * (1 + 2 / temperature)
    assert (loss >= lower * (1 - slack)).all()
    assert (loss <= upper * (1 + slack)).all()


@pytest.mark.parametrize("temperature", COLD)
def test_small_temperature_is_the_triplet_loss(temperature: float) -> None:
    loss, _ = refcl.softmax_contrastive(S, temperature, reduction="none")
    nearest, _ = refcl.triplet(S, reduction="none")
    assert (np.abs(temperature * loss - nearest) <= temperature * math.log(K + 1) * (1 + 1e-12)).all()


def test_small_temperature_gradient_is_the_triplet_s() -> None:
    """τ ∂L/∂s tends to −1 at the positive and 1 at the nearest negative, shared among ties; 0 where it is separated."""
    s = np.array([[0.25, 0.5, 0.75, -0.5], [0.75, 0.5, 0.0, 0.75], [0.125, 0.25, 0.875, 0.5]])
    ds = refcl.softmax_contrastive(s, 1e-3, reduction="none")[1].ds
    check_near(1e-3 * ds, refcl.triplet(s, reduction="none")[1].ds, rtol=1e-12)


@pytest.mark.parametrize("shift", [1.0, -2.0, 0.375])
@pytest.mark.parametrize(
    "name", ["softmax_contrastive", "hard_softmax_contrastive", "triplet", "simple_contrastive"], ids=str
)
def test_adding_a_constant_to_a_row_changes_nothing(name: str, shift: float, backend: Backend) -> None:
    """Bit for bit where the additions are exact: entries that are multiples of 1/64. (Simple: with λ = 1/K.)"""
    s = np.random.default_rng(8).integers(-64, 65, (4, 9)) / 64
    moved = s + shift * np.arange(1, 5)[:, None]
    pair = getattr(refcl, name)
    scalars = {"triplet": (), "simple_contrastive": (1 / 8,)}.get(name, (0.25,))
    settings = {"hardest": 3} if name.startswith("hard") else {}
    value, grads = pair(backend.array(s), *scalars, **settings)
    moved_value, moved_grads = pair(backend.array(moved), *scalars, **settings)
    check_same_bits(backend.host(moved_value), backend.host(value))
    check_same_bits(backend.host(moved_grads.ds), backend.host(grads.ds))
    if name.endswith("softmax_contrastive"):
        check_same_bits(backend.host(moved_grads.dtemperature), backend.host(grads.dtemperature))


GOLDEN = {
    # τ: L, ∂L/∂s⁺, P of the negatives, H(r), dH/dτ, dL/dτ
    0.07: (
        *(0.225908024919, -2.8886932110, (0.0109806317, 0.0000362197, 0.0000001195, 0.1911915539)),
        *(0.2127202713, 6.1717219023, 4.5793530814),
    ),
    0.2: (
        *(0.622695195829, -2.3175173796, (0.1197085553, 0.0162007912, 0.0021925387, 0.3254015907)),
        *(0.7405332574, 2.7075286608, 2.0551268019),
    ),
    0.3: (
        *(0.791608867697, -1.8229493129, (0.1666917688, 0.0439394732, 0.0115823194, 0.3246712325)),
        *(0.9559124355, 1.6779588682, 1.3996981829),
    ),
    1.0: (
        *(1.245626716255, -0.7122394926, (0.2131782271, 0.1428976390, 0.0957871520, 0.2603764745)),
        *(1.3210131944, 0.1196334560, 0.2953853300),
    ),
}


@pytest.mark.parametrize("temperature", GOLDEN)
def test_worked_numbers(temperature: float) -> None:
    """Positive .8, negatives .5, .1, −.3, .7."""
    value, at_positive, probabilities, entropy, slope, by_temperature = GOLDEN[temperature]
    loss, grads = refcl.softmax_contrastive(SIMILARITIES, temperature)
    assert abs(float(loss) - value) < 1e-12
    assert abs(float(grads.ds[0, 0]) - at_positive) < 1e-10
    assert np.abs(temperature * grads.ds[0, 1:] - probabilities).max() < 1e-10
    assert abs(float(hardness.penalty_entropy(SIMILARITIES, temperature)[0]) - entropy) < 1e-10
    assert abs(float(hardness.entropy_slope(SIMILARITIES, temperature)[0]) - slope) < 1e-10
    assert abs(float(grads.dtemperature) - by_temperature) < 1e-10


def test_worked_numbers_at_a_large_temperature() -> None:
    loss, grads = refcl.softmax_contrastive(SIMILARITIES, 100.0)
    assert abs(float(loss) - 1.605046226492) < 1e-12
    assert abs(float(grads.ds[0, 0]) + 0.0079911973) < 1e-10
    assert abs(float(hardness.penalty_entropy(SIMILARITIES, 100.0)[0]) - 1.3862869914) < 1e-10
    first_order = math.log(5) - (0.8 - SIMILARITIES.mean()) / 100
    assert abs(first_order - 1.605037912434) < 1e-12
    assert abs(float(loss) - first_order - SIMILARITIES.var() / 2e4) < 1e-8


@pytest.mark.parametrize(
    ("temperature", "value"), [(0.07, 0.225871685111), (0.3, 0.734486202236), (1.0, 0.972918913126)]
)
def test_worked_numbers_of_the_hard_loss(temperature: float, value: float) -> None:
    """Eq. 9 with the two nearest negatives, .7 and .5."""
    assert abs(float(refcl.hard_softmax_contrastive(SIMILARITIES, temperature, hardest=2)[0]) - value) < 1e-12
    assert abs(float(refcl.hard_softmax_contrastive(SIMILARITIES, temperature, hardest=0.5)[0]) - value) < 1e-12


def test_the_derivative_by_the_temperature_from_entropy_and_gap() -> None:
    """∂L/∂τ = (σ/τ)(H(r) − gap): for the reader."""
    negatives = np.array([[False, True, True, True, True]])
    gap, _ = refcl.walk.pooling.soft_maximum(SIMILARITIES[:, 0], SIMILARITIES, 0.2, negatives=negatives)
    loss, grads = refcl.softmax_contrastive(SIMILARITIES, 0.2)
    learn = 1 - math.exp(-float(loss))
    entropy = hardness.penalty_entropy(SIMILARITIES, 0.2)
    check_near(grads.dtemperature, (learn / 0.2 * (entropy - gap))[0], rtol=1e-13)


def test_worked_numbers_agree_with_fifty_digits() -> None:
    truth = softmax_truth(exact(SIMILARITIES.tolist())[0], 0, [1, 2, 3, 4], exact(0.2))
    check_near(float(truth.loss), GOLDEN[0.2][0], rtol=1e-11)
    check_near(float(truth.dscalar), GOLDEN[0.2][5], rtol=1e-9)


UNIFORM_LAW = {
    (2, 2): -1.575027,
    (3, 2): -2.079777,
    (16, 2): -3.513036,
    (64, 2): -3.875236,
    (128, 2): -3.937530,
    (256, 2): -3.968754,
    (512, 2): -3.984375,
    (128, 1): -1.984377,
    (128, 3): -5.859527,
}


@pytest.mark.parametrize(("dimension", "t"), UNIFORM_LAW)
def test_uniformity_of_the_uniform_law(dimension: int, t: int) -> None:
    assert abs(metrics.uniform_law_uniformity(dimension, t=t) - UNIFORM_LAW[dimension, t]) < 6e-7


def test_every_uniformity_of_the_paper_s_table_is_below_the_uniform_law_s() -> None:
    """The greatest of Table 1 is 3.932 at D = 128: consistent with t = 2."""
    assert -metrics.uniform_law_uniformity(128) > 3.932
