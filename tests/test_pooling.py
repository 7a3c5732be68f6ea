"""s+, s- -> gap: soft maximum, maximum, weighted sum, and the hardest."""

import math
from typing import Any

import numpy as np
import pytest
from backends import EPS, Backend, check_near, check_same_bits
from oracle_loops import hardest_negatives as hardest_in_loops

from refcl.pooling import hardest_negatives, maximum, soft_maximum, weighted_sum

RNG = np.random.default_rng(9)
S_POS, S_NEG = RNG.uniform(-1, 1, 4), RNG.uniform(-1, 1, (4, 6))
EVERY = np.ones((4, 6), dtype=bool)
SOME = EVERY.copy()
SOME[0, :3] = SOME[1] = False  # the second anchor has no negatives


def pooled(name: str, backend: Backend, negatives: Any, s_neg: Any = S_NEG) -> tuple[Any, Any]:
    """Return gap and gradients, on the host."""
    pool, more = {
        "soft_maximum": (soft_maximum, [0.25]),
        "maximum": (maximum, []),
        "weighted_sum": (weighted_sum, [backend.array(np.full(4, 0.25))]),
    }[name]
    gap, grads = pool(backend.array(S_POS), backend.array(s_neg), *more, negatives=backend.array(negatives))
    return backend.host(gap), backend.hosts(tuple(grads))


every_pool = pytest.mark.parametrize("name", ["soft_maximum", "maximum", "weighted_sum"])


@every_pool
def test_what_does_not_count_changes_nothing(name: str, backend: Backend) -> None:
    gap, grads = pooled(name, backend, SOME)
    check_same_bits(pooled(name, backend, SOME, np.where(SOME, S_NEG, 0.9)), (gap, grads))
    assert not grads[1][~SOME].any()


@every_pool
def test_a_row_without_negatives_has_no_nan(name: str, backend: Backend) -> None:
    gap, grads = pooled(name, backend, SOME)
    want = -np.inf if name != "weighted_sum" else np.asarray(-S_POS[1]).astype(backend.dtype)
    assert gap[1] == want
    assert grads[0][1] == (0.0 if name != "weighted_sum" else -1.0)
    assert not grads[1][1].any()
    assert all(np.isfinite(g).all() for g in grads)


@every_pool
def test_the_positive_gives_what_the_negatives_receive(name: str) -> None:
    """The weighted sum gives 1 and receives the sum of its weights."""
    gap, grads = pooled(name, Backend("numpy", np, "float64"), EVERY)
    received = grads[1].sum(axis=1)
    check_near(received, -grads[0] * (6 * 0.25 if name == "weighted_sum" else 1.0), rtol=1e-14)
    assert np.isfinite(gap).all()


def test_soft_maximum_of_one_negative_is_its_difference() -> None:
    gap, grads = soft_maximum(np.array([0.5]), np.array([[0.75]]), 0.25, negatives=np.ones((1, 1), dtype=bool))
    assert gap.tolist() == [1.0]
    assert grads.ds_neg.tolist() == [[4.0]]
    assert grads.ds_pos.tolist() == [-4.0]
    assert float(grads.dtemperature) == -4.0


def test_soft_maximum_lies_between_the_maximum_and_log_k_above_it() -> None:
    gap, _ = soft_maximum(S_POS, S_NEG, 0.3, negatives=EVERY)
    top, _ = maximum(S_POS, S_NEG, negatives=EVERY)
    assert (gap > top / 0.3).all()
    assert (gap < top / 0.3 + math.log(6)).all()


def test_soft_maximum_of_equal_negatives_is_log_k_above_them() -> None:
    gap, grads = soft_maximum(np.array([0.5]), np.full((1, 6), 0.5), 0.01, negatives=np.ones((1, 6), dtype=bool))
    check_near(gap, np.array([math.log(6)]), rtol=1e-15)
    check_near(grads.ds_neg, np.full((1, 6), 100 / 6), rtol=1e-15)
    assert float(grads.dtemperature) == 0.0


@pytest.mark.parametrize("temperature", [1e-3, 1e-2])
def test_soft_maximum_does_not_overflow(temperature: float, backend: Backend) -> None:
    """exp(2/.001) is past the largest float64: the greatest difference is taken out first."""
    s_pos = backend.array(np.array([-1.0, 1.0]))
    s_neg = backend.array(np.array([[1.0, -1.0, 0.5], [-1.0, -0.9, -1.0]]))
    every = backend.array(np.ones((2, 3), dtype=bool))
    gap, grads = soft_maximum(s_pos, s_neg, temperature, negatives=every)
    want = np.array([2.0, -1.9]) / temperature + np.log1p([np.exp(-0.5 / temperature), 2 * np.exp(-0.1 / temperature)])
    check_near(backend.host(gap), want, rtol=EPS[backend.dtype] * 8)
    assert all(np.isfinite(backend.host(g)).all() for g in grads)


def test_units_of_similarity_grow_with_temperature_by_the_entropy() -> None:
    """g = s_p + τ gap has dg/dτ = H(r) ≥ 0."""
    gap, cache = soft_maximum.forward(S_POS[:1], S_NEG[:1], 0.3, negatives=EVERY[:1])
    _, _, dgap = soft_maximum.backward(np.ones(1), cache)
    entropy = -np.sum(cache.relative * np.log(cache.relative))
    check_near(gap[0] + 0.3 * dgap, entropy, rtol=1e-13)


def test_maximum_picks_the_nearest_and_adds_the_margin(backend: Backend) -> None:
    s_pos, s_neg = backend.array(np.array([0.5])), backend.array(np.array([[0.25, 0.75, -0.5]]))
    gap, grads = maximum(s_pos, s_neg, negatives=backend.array(np.ones((1, 3), dtype=bool)), margin=0.125)
    assert backend.host(gap).tolist() == [0.375]
    assert backend.host(grads.ds_neg).tolist() == [[0.0, 1.0, 0.0]]
    assert backend.host(grads.ds_pos).tolist() == [-1.0]


def test_maximum_shares_its_gradient_among_ties(backend: Backend) -> None:
    s_neg = backend.array(np.array([[0.75, 0.75, 0.25, 0.75], [0.5, 0.25, 0.5, 0.75]]))
    mask = backend.array(np.array([[True, True, True, True], [True, True, True, False]]))
    _, grads = maximum(backend.array(np.zeros(2)), s_neg, negatives=mask)
    third = np.asarray(1.0, backend.dtype) / np.asarray(3.0, backend.dtype)
    assert backend.host(grads.ds_neg).tolist() == [[third, third, 0.0, third], [0.5, 0.0, 0.5, 0.0]]


def test_weighted_sum_weighs_each_anchor(backend: Backend) -> None:
    s_pos = backend.array(np.array([0.5, 0.25]))
    s_neg = backend.array(np.array([[0.25, 0.75, 9.0], [0.5, -0.5, 0.25]]))
    mask = backend.array(np.array([[True, True, False], [True, True, True]]))
    gap, grads = weighted_sum(s_pos, s_neg, backend.array(np.array([0.5, 2.0])), negatives=mask)
    assert backend.host(gap).tolist() == [0.0, 0.25]
    assert backend.host(grads.ds_neg).tolist() == [[0.5, 0.5, 0.0], [2.0, 2.0, 2.0]]
    assert backend.host(grads.dweight).tolist() == [1.0, 0.25]


@pytest.mark.parametrize("hardest", [0.05, 0.25, 0.5, 0.75, 1.0, 1, 2, 5, 6, 100])
def test_the_hardest_are_the_nearest(hardest: float | int, backend: Backend) -> None:
    got = backend.host(hardest_negatives(backend.array(S_NEG), backend.array(SOME), hardest=hardest))
    assert got.tolist() == hardest_in_loops(S_NEG.tolist(), SOME.tolist(), hardest=hardest)


@pytest.mark.parametrize(
    ("negatives", "fraction", "kept"), [(5, 0.5, 2), (7, 0.5, 4), (10, 0.0819, 1), (50, 0.0819, 4), (3, 0.01, 1)]
)
def test_a_fraction_is_rounded_half_to_even_and_keeps_one_at_least(negatives: int, fraction: float, kept: int) -> None:
    s_neg = np.linspace(-1, 1, negatives)[None, :]
    assert hardest_negatives(s_neg, np.ones((1, negatives), dtype=bool), hardest=fraction).sum() == kept


def test_the_paper_s_fraction_keeps_4095_of_50000() -> None:
    s_neg = np.linspace(-1, 1, 50_000)[None, :]
    assert hardest_negatives(s_neg, np.ones((1, 50_000), dtype=bool), hardest=0.0819).sum() == 4095


def test_ties_at_the_threshold_are_all_kept(backend: Backend) -> None:
    s_neg = backend.array(np.array([[0.5, 0.75, 0.5, 0.5, 0.25]]))
    kept = hardest_negatives(s_neg, backend.array(np.ones((1, 5), dtype=bool)), hardest=2)
    assert backend.host(kept).tolist() == [[True, True, True, True, False]]


def test_a_count_of_one_is_not_all_whichever_is_asked_first() -> None:
    every = np.ones((1, 5), dtype=bool)
    s_neg = np.linspace(-1, 1, 5)[None, :]
    kept = [hardest_negatives(s_neg, every, hardest=hardest).sum() for hardest in (1.0, 1, 1.0)]
    assert kept == [5, 1, 5]


def test_a_fraction_is_of_each_row_s_own_negatives() -> None:
    s_neg = np.tile(np.linspace(0, 0.9, 10), (2, 1))
    mask = np.ones((2, 10), dtype=bool)
    mask[1, :6] = False
    assert hardest_negatives(s_neg, mask, hardest=0.5).sum(axis=1).tolist() == [5, 2]


def test_all_of_the_hardest_are_all() -> None:
    assert (hardest_negatives(S_NEG, SOME, hardest=1.0) == SOME).all()
    assert (hardest_negatives(S_NEG, SOME, hardest=6) == SOME).all()
    assert hardest_negatives(S_NEG, SOME, hardest=1).sum(axis=1).tolist() == [1, 0, 1, 1]
