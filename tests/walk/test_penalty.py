"""gap -> loss_i: softplus, identity, hinge, and the weighted softplus."""

import math

import numpy as np
import pytest
from backends import EPS, Backend, check_near
from cards import Card, on_gaps
from loops import Row
from mpmath import mp, mpf

from refcl.walk.penalty import hinge, identity, softplus, weighted_softplus


def softplus_in_loops(gap: Row) -> Row:
    return [math.log1p(math.exp(value)) for value in gap]


def weighted_softplus_in_loops(gap: Row, *, detach: bool) -> Row:
    return [math.log1p(math.exp(g)) * (1 + math.exp(-g)) for g in gap]


CARDS = [
    Card(softplus, [("plain", on_gaps())], softplus_in_loops),
    Card(identity, [("plain", on_gaps())], lambda gap: gap),
    Card(hinge, [("plain", on_gaps())], lambda gap: [max(value, 0.0) for value in gap]),
    Card(weighted_softplus, [("let-through", on_gaps(detach=False))], weighted_softplus_in_loops),
]

GAPS = [-745.0, -700.0, -50.0, -1.0, -1e-9, 0.0, 1e-300, 0.5, 37.0, 1e3, 1e300]


@pytest.mark.parametrize("gap", GAPS)
def test_softplus_and_its_slope_have_all_their_digits(gap: float) -> None:
    loss, grads = softplus(np.array([gap]))
    power = mp.exp(-abs(mpf(gap))) if abs(gap) < 1e5 else mpf(0)
    value = max(mpf(gap), 0) + mp.log1p(power)
    slope = (mpf(1) if gap >= 0 else power) / (1 + power)
    for got, want in ((loss[0], value), (grads.dgap[0], slope)):
        if want > float(np.finfo(np.float64).tiny):
            assert abs(mpf(float(got)) - want) <= 4 * EPS["float64"] * want
        else:
            assert abs(mpf(float(got)) - want) <= mpf(5e-324)


def test_softplus_at_infinity(backend: Backend) -> None:
    loss, grads = softplus(backend.array(np.array([-np.inf, np.inf])))
    assert backend.host(loss).tolist() == [0.0, np.inf]
    assert backend.host(grads.dgap).tolist() == [0.0, 1.0]


def test_softplus_of_a_gap_and_of_its_opposite_differ_by_the_gap() -> None:
    gap = np.array([0.1, 0.7, 3.0, 20.0])
    there, there_grads = softplus(gap)
    back, back_grads = softplus(-gap)
    check_near(there - back, gap, rtol=1e-15)
    check_near(there_grads.dgap + back_grads.dgap, np.ones(4), rtol=1e-15)
    check_near(softplus(np.zeros(1))[0], np.array([math.log(2)]), rtol=1e-15)


def test_softplus_warns_of_nothing_and_knows_nan() -> None:
    with np.errstate(all="raise", under="ignore"):
        loss, grads = softplus(np.array([np.nan, 1e3, -1e3]))
    assert np.isnan(loss[0])
    assert np.isnan(grads.dgap[0])
    assert np.isfinite(loss[1:]).all()


def test_identity_charges_the_gap(backend: Backend) -> None:
    gap = np.array([-0.5, 0.0, 2.0])
    loss, grads = identity(backend.array(gap))
    assert backend.host(loss).tolist() == gap.tolist()
    assert backend.host(grads.dgap).tolist() == [1.0, 1.0, 1.0]


def test_hinge_closes_at_zero(backend: Backend) -> None:
    loss, grads = hinge(backend.array(np.array([-0.5, -0.0, 0.0, 0.25, -np.inf])))
    assert backend.host(loss).tolist() == [0.0, 0.0, 0.0, 0.25, 0.0]
    assert backend.host(grads.dgap).tolist() == [0.0, 0.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("pair", [softplus, identity, hinge], ids=lambda pair: pair.__name__)
def test_penalties_grow_with_the_gap(pair: object) -> None:
    gap = np.linspace(-3, 3, 50)
    loss, grads = pair(gap)  # type: ignore[operator]
    assert (np.diff(loss) >= 0).all()
    assert (grads.dgap >= 0).all()
    assert (grads.dgap <= 1).all()
    assert loss[-1] > loss[0]


def test_the_weighted_softplus_never_falls_below_one() -> None:
    loss, grads = weighted_softplus(np.array([-np.inf, -800.0, -1e-300, 800.0]), detach=False)
    np.testing.assert_array_equal(loss, [0.0, 1.0, 2 * np.log(2.0), 800.0])
    np.testing.assert_array_equal(grads.dgap[[0, 1, 3]], [0.0, 0.0, 1.0])


def test_the_weighted_softplus_is_exact() -> None:
    gap = np.array([-700.0, -300.0, -40.0, -5.0, -1.0, -0.7, -1e-3, 0.0, 1e-3, 0.5, 2.0, 40.0, 700.0])
    loss, grads = weighted_softplus(gap, detach=False)
    with mp.workdps(800):
        for g, value, dgap in zip(gap, loss, grads.dgap, strict=True):
            x = mp.exp(mpf(float(g)))
            for got, want in ((value, mp.log1p(x) * (1 + x) / x), (dgap, 1 - mp.log1p(x) / x)):
                assert abs(mpf(float(got)) / want - 1) < 2e-15 * (1 + abs(float(g)) / 8), (g, got)
