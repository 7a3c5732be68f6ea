"""s+, s- -> gap: every pool, and the hardest."""

import math
from typing import Any

import numpy as np
import pytest
from backends import EPS, Backend, check_near, check_same_bits
from cards import Builder, Built, Card, Sizes, cosines, many_positives, negatives, on_pool, on_similarities, scalar
from digits import exact
from loops import Mask, Matrix, Row, chosen
from loops import hardest_negatives as hardest_in_loops
from mpmath import mp, mpf

from refcl.walk.pooling import pair_logits
from refcl.walk.pooling.hardest import hardest_negatives
from refcl.walk.pooling.maximum import maximum
from refcl.walk.pooling.reweighted import debias, reweighted_soft_maximum, weight_shortfall
from refcl.walk.pooling.several_positives import soft_maximum_difference, spread
from refcl.walk.pooling.soft_maximum import soft_maximum
from refcl.walk.pooling.weighted_sum import weighted_sum


def soft_maximum_in_loops(s_pos: Row, s_neg: Matrix, temperature: float, *, negatives: Mask) -> Row:
    return [
        math.log(sum(math.exp((s - p) / temperature) for s in chosen(s_i, mask)))
        for p, s_i, mask in zip(s_pos, s_neg, negatives, strict=True)
    ]


def maximum_in_loops(s_pos: Row, s_neg: Matrix, *, negatives: Mask, margin: float = 0.0) -> Row:
    return [max(chosen(s_i, mask)) - p + margin for p, s_i, mask in zip(s_pos, s_neg, negatives, strict=True)]


def weighted_sum_in_loops(s_pos: Row, s_neg: Matrix, weight: Row, *, negatives: Mask) -> Row:
    return [w * sum(chosen(s_i, m)) - p for p, s_i, w, m in zip(s_pos, s_neg, weight, negatives, strict=True)]


def pair_logits_in_loops(s_pos: Row, s_neg: Matrix, scale: float, bias: float, *, negatives: Mask) -> Any:
    return [-(scale * s + bias) for s in s_pos], [[scale * s + bias for s in s_i] for s_i in s_neg]


def difference_in_loops(s: Matrix, temperature: float, *, positives: Mask, negatives: Mask) -> Row:
    zeros = [0.0] * len(s)
    above, below = (soft_maximum_in_loops(zeros, s, temperature, negatives=who) for who in (negatives, positives))
    return [a - b for a, b in zip(above, below, strict=True)]


def spread_in_loops(s: Matrix, temperature: float, *, positives: Mask) -> Row:
    out = []
    for s_i, mask in zip(s, positives, strict=True):
        friends = chosen(s_i, mask)
        mean = sum(friends) / max(len(friends), 1)
        out.append(math.log(sum(math.exp((x - mean) / temperature) for x in friends)) if friends else 0.0)
    return out


def reweighted_in_loops(s_pos: Row, s_neg: Matrix, temperature: float, *, negatives: Mask, beta: float) -> Row:
    out = []
    for p, s_i, mask in zip(s_pos, s_neg, negatives, strict=True):
        others = chosen(s_i, mask)
        weights = [math.exp(beta * x / temperature) for x in others]
        powers = [math.exp((x - p) / temperature) for x in others]
        out.append(math.log(sum(w * e for w, e in zip(weights, powers, strict=True)) * len(others) / sum(weights)))
    return out


def debias_in_loops(gap: Row, s_pos: Row, temperature: float, *, count: Row, tau_plus: float) -> Row:
    out = []
    for g, s, k in zip(gap, s_pos, count, strict=True):
        estimate = (math.exp(g) - tau_plus * k) / (1 - tau_plus)
        out.append(math.log(max(estimate, k * math.exp(-(1 + s) / temperature)) if tau_plus else estimate))
    return out


def shortfall_in_loops(s_pos: Row, *, sigma: float = 0.5, mass: float | None = None) -> Row:
    total = sum(math.exp(x / sigma) for x in s_pos)
    return [(len(s_pos) if mass is None else mass) * math.exp(x / sigma) / total - 1 for x in s_pos]


def build_pair_logits(rng: np.random.Generator, z: Sizes) -> Built:
    inputs = (rng.uniform(-1, 1, z.n), cosines(rng, z.n, z.m), scalar(4.0), scalar(-1.5))
    return inputs, {"negatives": np.ones((z.n, z.m), dtype=bool)}  # where masked, a gap is −inf: see below


def build_difference(rng: np.random.Generator, z: Sizes) -> Built:
    mask = many_positives(rng, z.n, z.m)["positives"]
    mask[:, 0] = True  # a gap of −inf has no derivative by differences
    return (cosines(rng, z.n, z.m), scalar(0.2)), {"positives": mask, "negatives": ~mask}


def build_debias(rng: np.random.Generator, z: Sizes) -> Built:
    """Draw gaps of which the first is above its floor and the second below."""
    over = np.where(np.arange(z.n) % 2, -1.0, 1.0) * rng.uniform(0.5, 2.0, z.n)
    count = np.full(z.n, 5.0)
    inputs = (np.log(0.2 * count) + over, rng.uniform(-0.5, 0.9, z.n), scalar(0.4))
    return inputs, {"count": count, "tau_plus": 0.2}


def near(**settings: Any) -> Builder:
    return lambda rng, z: ((rng.uniform(-0.9, 0.9, z.n),), settings)


def build_hardest(hardest: float | int) -> Builder:
    return lambda rng, z: ((cosines(rng, z.n, z.m), negatives(rng, z.n, z.m)), {"hardest": hardest})


CARDS = [
    Card(soft_maximum, [(f"{tau}", on_pool(scalar(tau))) for tau in (0.07, 0.3, 20.0)], soft_maximum_in_loops),
    Card(maximum, [("plain", on_pool()), ("margin", on_pool(margin=0.3))], maximum_in_loops),
    Card(weighted_sum, [("plain", on_pool(lambda rng, z: rng.uniform(0.1, 2.0, z.n)))], weighted_sum_in_loops),
    Card(pair_logits, [("plain", build_pair_logits)], pair_logits_in_loops),
    Card(soft_maximum_difference, [("plain", build_difference)], difference_in_loops),
    Card(spread, [("plain", on_similarities(scalar(0.2), positives=many_positives))], spread_in_loops),
    Card(
        reweighted_soft_maximum,
        [(f"{beta}", on_pool(scalar(0.3), beta=beta)) for beta in (0.0, 1.5)],
        reweighted_in_loops,
    ),
    Card(debias, [("plain", build_debias)], debias_in_loops),
    Card(weight_shortfall, [("mean", near(sigma=0.4)), ("sum", near(sigma=0.4, mass=2.0))], shortfall_in_loops),
    Card(hardest_negatives, [(f"{hardest}", build_hardest(hardest)) for hardest in (0.4, 2)], hardest_in_loops),
]

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
    """Neither above all that counts, nor as near as the nearest of it."""
    gap, grads = pooled(name, backend, SOME)
    nearest = np.where(SOME, S_NEG, -1.0).max(axis=1, keepdims=True)
    for uncounted in (0.9, nearest):
        check_same_bits(pooled(name, backend, SOME, np.where(SOME, S_NEG, uncounted)), (gap, grads))
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


@pytest.mark.parametrize("k", [3, 49, 1000])
@pytest.mark.parametrize("temperature", [0.07, 0.3, 1.0])
def test_tied_negatives_round_the_gradient_in_the_temperature_once(k: int, temperature: float) -> None:
    """All differences are one number d, so ∂gap/∂τ = −d/τ²: the shares' own rounding, k times alike, must not show."""
    for s_pos, s_neg in np.random.default_rng(k).uniform(-1, 1, (50, 2)):
        _, grads = soft_maximum(
            np.array([s_pos]), np.full((1, k), s_neg), temperature, negatives=np.ones((1, k), dtype=bool)
        )
        want = -mpf(float(s_neg - s_pos)) / mpf(temperature) ** 2
        assert abs(mpf(float(grads.dtemperature)) - want) <= 1.5 * np.finfo(float).eps * abs(want)


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


def test_a_masked_negative_has_no_gap_and_no_gradient(backend: Backend) -> None:
    s_pos, s_neg = backend.array(np.array([0.5])), backend.array(np.array([[0.25, np.nan]]))
    mask = backend.array(np.array([[True, False]]))
    (gap_pos, gap_neg), cache = pair_logits.forward(s_pos, s_neg, 4.0, -1.5, negatives=mask)
    assert backend.host(gap_pos).tolist() == [-0.5]
    assert backend.host(gap_neg).tolist() == [[-0.5, -np.inf]]
    dgaps = backend.array(np.array([2.0])), backend.array(np.array([[3.0, 7.0]]))
    grads = [backend.host(d).tolist() for d in pair_logits.backward(*dgaps, cache)]
    assert grads == [[-8.0], [[12.0, 0.0]], -0.25, 1.0]


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


def test_at_the_floor_the_gradient_is_the_estimates_as_a_clamp_has_it() -> None:
    """e^gap chosen so that the estimate is the floor, on either side of it, and where they are one number."""
    s_pos, tau, count, tau_plus = np.array([0.25]), 0.5, np.array([4.0]), 0.25
    floor = 4 * np.exp(-(1 + s_pos) / tau)
    edge = np.log((1 - tau_plus) * floor + tau_plus * 4)
    for side, floored in ((-1e-9, True), (1e-9, False)):
        corrected, grads = debias(edge + side, s_pos, tau, count=count, tau_plus=tau_plus)
        assert abs(corrected[0] - np.log(floor[0])) < 1e-8
        assert bool(grads.dgap[0] == 0) is floored
        assert bool(grads.ds_pos[0] == -1 / tau) is floored
        assert bool(abs(grads.dtemperature - (1 + s_pos[0]) / tau**2) < 1e-12) is floored


def test_equal_numbers_count_as_above_the_floor() -> None:
    # (1 − 1/2)/(1 − 1/2) and e⁰: both are 1, and their logarithms 0 to the last bit
    corrected, grads = debias(np.log([1.0]), np.array([-1.0]), 0.5, count=np.array([1.0]), tau_plus=0.5)
    assert corrected[0] == 0.0
    assert grads.dgap[0] == 2.0
    assert grads.ds_pos[0] == 0.0


def test_shares_of_a_reweighted_pool_sum_to_one_and_may_be_negative() -> None:
    s, every = S_NEG, EVERY
    near = s.max(axis=1)
    for detach in (True, False):
        _, grads = reweighted_soft_maximum(near, s, 0.2, negatives=every, beta=1.5, detach=detach)
        check_near(0.2 * grads.ds_neg.sum(axis=1), np.ones(4), rtol=1e-13)
        assert np.any(grads.ds_neg < 0) == (not detach)


def test_weights_average_one() -> None:
    s_pos = np.random.default_rng(2).uniform(-1, 1, 50)
    assert abs(weight_shortfall(s_pos)[0].mean()) < 1e-15
    check_near(1 - weight_shortfall(s_pos, mass=1.0)[0].sum(), 50.0, rtol=1e-14)


def test_even_positives_keep_the_digits_of_what_sets_them_apart() -> None:
    """q − 1/P of two positives that differ by 1e-12 is a difference that a softmax less 1/2 would not have."""
    s = np.array([[0.9, 0.9 + 1e-12, 0.0]])
    _, grads = spread(s, 0.1, positives=np.array([[True, True, False]]))
    d = exact(s.tolist())[0][0] - exact(s.tolist())[0][1]
    q = mp.exp(d / mpf("0.1")) / (1 + mp.exp(d / mpf(0.1)))
    want = (q - mpf(1) / 2) / mpf(0.1)
    assert abs(mpf(float(grads.ds[0, 0])) - want) <= abs(want) * mpf(1e-14)
    e = np.exp(s[0, :2] / 0.1)
    assert abs(mpf(float((e[0] / e.sum() - 0.5) / 0.1)) - want) > abs(want) * mpf(1e-6)


@pytest.mark.parametrize("tau_plus", [1e-6, 0.1, 0.9])
def test_a_correction_keeps_the_digits_that_its_terms_have(tau_plus: float) -> None:
    """log(e^gap − τ⁺ K) from near its zero to far from it."""
    over = np.array([1e-9, 1e-4, 0.1, 0.69, 0.7, 3.0, 50.0])
    count = np.full(over.shape, 12.0)
    gap = np.log(12 * tau_plus) + over
    # at a τ so small that the floor is nothing
    corrected, grads = debias(gap, np.full(over.shape, 0.5), 1e-2, count=count, tau_plus=tau_plus)
    for k, got in enumerate(corrected):
        amount = mp.exp(mpf(float(gap[k])))
        left = amount - mpf(tau_plus) * 12
        want = mp.log(left / (1 - mpf(tau_plus)))
        cost = (amount + mpf(tau_plus) * 12) / left  # of a relative error in the terms of the difference
        size = 8 * np.finfo(float).eps * (1 + abs(float(gap[k]))) * float(cost)
        assert abs(mpf(float(got)) - want) <= size
        assert abs(mpf(float(grads.dgap[k])) * left / amount - 1) <= size
