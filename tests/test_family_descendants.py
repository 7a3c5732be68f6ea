"""What the losses that grew from the softmax loss promise by themselves: what is detached, kinks, corners, scales."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backends import Backend, check_near, check_same_bits
from cases import cosines, rows
from differences import check_gradient

import refcl
from refcl.experiment.schedules import cosine_temperature
from refcl.hardness import penalty_entropy, temperature_for_entropy
from refcl.penalty import weighted_softplus
from refcl.reweighting import debias, reweighted_soft_maximum, unevenness

TAU = 0.2
N, M = 4, 7


def similarities(n: int = N, m: int = M) -> Any:
    return cosines(np.random.default_rng(23), n, m)


def two_views(n: int = 5, d: int = 3) -> tuple[Any, Any]:
    rng = np.random.default_rng(29)
    return rows(rng, n, d), rows(rng, n, d)


def lse(x: Any) -> Any:
    return np.log(np.sum(np.exp(x), axis=1))


def off_diagonal(s: Any) -> Any:
    """Return each anchor's negatives, (N, M − 1)."""
    return s[~np.eye(*s.shape, dtype=bool)].reshape(s.shape[0], -1)


def check_frozen(grads: Any, frozen: Callable[[Any], float], s: Any) -> None:
    check_gradient(tuple(grads), frozen, (s, np.array(TAU)), step=3e-4)


class TestWhatIsDetachedIsAConstant:
    """The gradient is that of the loss with what is detached frozen where it stands."""

    def test_the_weights_of_dclw(self) -> None:
        s = similarities()
        _, grads = refcl.weighted_decoupled_contrastive(s, TAU, sigma=0.4, detach=True, reduction="sum")
        near = np.exp(np.diag(s) / 0.4)
        weight = 2 - near / near.mean()

        def frozen(at: Any) -> float:
            return float(np.sum(lse(off_diagonal(at[0]) / at[1]) - weight * np.diag(at[0]) / at[1]))

        check_frozen(grads, frozen, s)

    @pytest.mark.parametrize("tau_plus", [0.0, 0.1])
    def test_the_weights_of_hcl(self, tau_plus: float) -> None:
        s = similarities() - 0.3 * np.eye(N, M)
        _, grads = refcl.reweighted_contrastive(s, TAU, tau_plus=tau_plus, beta=0.8, detach=True, reduction="sum")
        hard = np.exp(0.8 * off_diagonal(s) / TAU)
        weight = hard / hard.mean(axis=1, keepdims=True)

        def frozen(at: Any) -> float:
            d = (off_diagonal(at[0]) - np.diag(at[0])[:, None]) / at[1]
            estimate = (np.sum(weight * np.exp(d), axis=1) - tau_plus * (M - 1)) / (1 - tau_plus)
            floor = (M - 1) * np.exp(-(1 + np.diag(at[0])) / at[1]) if tau_plus else 0.0
            return float(np.sum(np.log1p(np.maximum(estimate, floor))))

        check_frozen(grads, frozen, s)

    def test_the_weights_and_the_temperature_of_macl(self) -> None:
        s = similarities()
        _, grads = refcl.model_aware_contrastive(s, TAU, alpha=0.7, alignment=0.1, reduction="sum")
        growth = 1 + 0.7 * (np.diag(s).mean() - 0.1)

        def charges(at: Any) -> Any:
            tau = at[1] * growth
            return np.log1p(np.sum(np.exp((off_diagonal(at[0]) - np.diag(at[0])[:, None]) / tau), axis=1))

        weight = 1 / (1 - np.exp(-charges((s, TAU))))
        check_frozen(grads, lambda at: float(weight @ charges(at)), s)

    def test_the_temperatures_of_a_fixed_entropy(self) -> None:
        s = similarities()
        value, grads = refcl.fixed_entropy_contrastive(s, entropy=0.9, reduction="none")
        tau = temperature_for_entropy(s, 0.9)
        same, of_the_loss = refcl.per_anchor_contrastive(s, tau, reduction="none")
        check_same_bits((value, grads.ds), (same, of_the_loss.ds))
        _, let_through = refcl.fixed_entropy_contrastive(s, entropy=0.9, detach=False, reduction="none")
        assert np.linalg.norm(let_through.ds - grads.ds) > 1e-2 * np.linalg.norm(grads.ds)

    def test_detaching_leaves_the_value(self) -> None:
        a, b = two_views()
        for pair, settings in (
            (refcl.dclw, {}),
            (refcl.hcl, {"tau_plus": 0.1, "beta": 1.0}),
            (refcl.macl, {}),
        ):
            first, held = pair(a, b, 0.3, detach=True, **settings)
            second, through = pair(a, b, 0.3, detach=False, **settings)
            assert first == second
            assert np.max(np.abs(held.da - through.da)) > 1e-3


class TestKinks:
    def test_at_the_floor_the_gradient_is_the_estimates_as_a_clamp_has_it(self) -> None:
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

    def test_equal_numbers_count_as_above_the_floor(self) -> None:
        # (1 − 1/2)/(1 − 1/2) and e⁰: both are 1, and their logarithms 0 to the last bit
        corrected, grads = debias(np.log([1.0]), np.array([-1.0]), 0.5, count=np.array([1.0]), tau_plus=0.5)
        assert corrected[0] == 0.0
        assert grads.dgap[0] == 2.0
        assert grads.ds_pos[0] == 0.0

    def test_where_the_positive_dominates_the_negatives_get_nothing(self) -> None:
        s = np.array([[0.95, -0.9, -0.8, -0.7]])
        value, grads = refcl.reweighted_contrastive(s, 0.1, tau_plus=0.1)
        check_near(value, np.log1p(3 * np.exp(-1.95 / 0.1)), rtol=1e-14)
        assert not grads.ds[0, 1:].any()
        assert grads.ds[0, 0] < 0 < grads.dtemperature

    def test_the_floor_is_as_smooth_as_the_rest_on_either_side(self) -> None:
        s = np.array([[0.9, -0.6, -0.5, 0.1], [-0.4, 0.3, 0.5, 0.7]])

        def value(at: Any) -> float:
            return float(refcl.reweighted_contrastive(at[0], at[1], tau_plus=0.1, beta=0.5, reduction="sum")[0])

        _, grads = refcl.reweighted_contrastive(s, TAU, tau_plus=0.1, beta=0.5, reduction="sum")
        assert not grads.ds[0, [1, 2, 3]].any()
        assert grads.ds[1].all()
        check_gradient(tuple(grads), value, (s, np.array(TAU)), step=3e-4)


def everyone_ignored(shape: tuple[int, int]) -> Any:
    ignore = np.zeros(shape, dtype=bool)
    ignore[0] = True
    return ignore


class TestCorners:
    @pytest.mark.parametrize(
        ("pair", "settings"),
        [
            (refcl.decoupled_contrastive, {}),
            (refcl.weighted_decoupled_contrastive, {}),
            (refcl.reweighted_contrastive, {"tau_plus": 0.1, "beta": 1.0}),
            (refcl.reweighted_contrastive, {"tau_plus": 0.0}),
            (refcl.model_aware_contrastive, {}),
            (refcl.model_aware_contrastive, {"detach": False}),
        ],
        ids=["dcl", "dclw", "hcl", "softmax", "macl", "macl-let-through"],
    )
    def test_an_anchor_without_negatives_has_no_loss_and_pushes_no_negative(
        self, pair: Any, settings: Any, backend: Backend
    ) -> None:
        s, ignore = backend.array(similarities()), backend.array(everyone_ignored((N, M)))
        value, grads = pair(s, TAU, ignore=ignore, reduction="none", **settings)
        assert backend.host(value)[0] == 0.0
        ds = backend.host(grads.ds)
        assert np.isfinite(ds).all()
        assert not ds[0, 1:].any()
        alone = pair is refcl.weighted_decoupled_contrastive or settings == {"detach": False}
        # its positive still moves a weight or a temperature that all share
        assert bool(ds[0, 0]) is alone
        assert ds[1:].any(axis=1).all()

    @pytest.mark.parametrize(
        ("pair", "settings"),
        [
            (refcl.dcl, {}),
            (refcl.dcl, {"negatives": "by_view", "add_views": True}),
            (refcl.dclw, {}),
            (refcl.debiased, {"tau_plus": 0.1}),
            (refcl.hcl, {"tau_plus": 0.1, "beta": 1.0}),
            (refcl.macl, {}),
            (refcl.macl, {"candidates": "other_view", "detach": False}),
        ],
    )
    def test_a_batch_of_one_has_no_negatives(self, pair: Any, settings: Any) -> None:
        value, grads = pair(np.array([[1.0, 2.0]]), np.array([[0.5, -1.0]]), 0.3, **settings)
        assert value == 0.0
        assert not any(np.any(x) for x in grads)

    def test_sup_con_of_a_batch_of_one(self) -> None:
        for policy in ("zero", "skip"):
            value, grads = refcl.sup_con(np.array([[1.0, 2.0]]), 0.3, labels=np.array([4]), no_positive=policy)
            assert value == 0.0
            assert not any(np.any(x) for x in grads)

    def test_an_anchor_with_positives_only_evens_them_out_or_does_nothing(self) -> None:
        s, every = np.array([[0.2, 0.5]]), np.ones((1, 2), dtype=bool)
        inside, flat = refcl.supervised_contrastive(s, TAU, positives=every, form="in")
        assert inside == np.log(2.0)
        assert not flat.ds.any()
        outside, grads = refcl.supervised_contrastive(s, TAU, positives=every)
        assert outside > inside
        assert grads.ds[0, 0] < 0 < grads.ds[0, 1]

    def test_who_has_no_positive_is_left_out_or_counted_as_asked(self) -> None:
        s = similarities()
        positives = np.zeros((N, M), dtype=bool)
        positives[0, :2] = positives[2, 3] = True
        each, _ = refcl.supervised_contrastive(s, TAU, positives=positives, reduction="none")
        zero, by_zero = refcl.supervised_contrastive(s, TAU, positives=positives)
        skip, by_skip = refcl.supervised_contrastive(s, TAU, positives=positives, no_positive="skip")
        assert each[1] == each[3] == 0.0
        check_near(zero, each.sum() / N, rtol=1e-15)
        check_near(skip, each.sum() / 2, rtol=1e-15)
        check_near(by_skip, tuple(2 * x for x in by_zero), rtol=1e-15)
        for reduction in ("sum", "none"):
            check_same_bits(
                refcl.supervised_contrastive(s, TAU, positives=positives, reduction=reduction)[0],
                refcl.supervised_contrastive(s, TAU, positives=positives, reduction=reduction, no_positive="skip")[0],
            )

    def test_a_positive_wins_over_ignore(self) -> None:
        s = similarities()
        positives = np.zeros((N, M), dtype=bool)
        positives[:, :2] = True
        first = refcl.supervised_contrastive(s, TAU, positives=positives, ignore=positives)
        check_same_bits(tuple(first[1]), tuple(refcl.supervised_contrastive(s, TAU, positives=positives)[1]))

    def test_what_is_ignored_may_hold_anything(self) -> None:
        s, ignore = similarities(), np.zeros((N, M), dtype=bool)
        ignore[:, -1] = True
        filled = np.where(ignore, np.nan, s)
        positives = np.eye(N, M, dtype=bool)
        positives[:, -2] = True
        calls: list[Callable[[Any], Any]] = [
            lambda x: refcl.supervised_contrastive(x, TAU, positives=positives, ignore=ignore),
            lambda x: refcl.weighted_decoupled_contrastive(x, TAU, ignore=ignore),
            lambda x: refcl.reweighted_contrastive(x, TAU, tau_plus=0.1, beta=1.0, ignore=ignore),
            lambda x: refcl.model_aware_contrastive(x, TAU, detach=False, ignore=ignore),
            lambda x: refcl.fixed_entropy_contrastive(x, entropy=0.9, detach=False, ignore=ignore),
            lambda x: (refcl.hessian_vector_product(x, x, TAU, ignore=ignore), ()),
        ]
        for call in calls:
            (value, grads), (same, others) = call(filled), call(s)
            check_same_bits((value, tuple(grads)), (same, tuple(others)))

    def test_a_similarity_of_minus_infinity_counts_for_nothing(self) -> None:
        s, ignore = similarities(), np.zeros((N, M), dtype=bool)
        ignore[:, -1] = True
        infinite = np.where(ignore, -np.inf, s)
        positives = np.eye(N, M, dtype=bool)
        calls: list[Callable[..., Any]] = [
            lambda x, **more: refcl.supervised_contrastive(x, TAU, positives=positives, **more),
            lambda x, **more: refcl.weighted_decoupled_contrastive(x, TAU, **more),
            lambda x, **more: refcl.reweighted_contrastive(x, TAU, tau_plus=0.1, **more),
            lambda x, **more: refcl.reweighted_contrastive(x, TAU, tau_plus=0.1, beta=1.0, **more),
            lambda x, **more: refcl.model_aware_contrastive(x, TAU, detach=False, **more),
            lambda x, **more: refcl.per_anchor_contrastive(x, np.linspace(0.1, 0.5, N), **more),
            lambda x, **more: (refcl.hessian_vector_product(x, s, TAU, **more), ()),
        ]
        for call in calls:
            (value, grads), (same, others) = call(infinite), call(s, ignore=ignore)
            check_near((value, tuple(grads)), (same, tuple(others)), rtol=0.0)

    def test_an_empty_second_pool_silences_its_anchor(self) -> None:
        s, apart = similarities(), np.zeros((N, M), dtype=bool)
        apart[1:, -1] = True
        value, grads = refcl.decoupled_contrastive(s, TAU, apart=apart, reduction="none")
        assert value[0] == 0.0
        assert not grads.ds[0].any()
        assert grads.ds[1:].any(axis=1).all()

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_a_temperature_at_which_exponentials_overflow_is_no_trouble(self, dtype: str) -> None:
        s = np.array([[-0.9, 0.9, 0.95, -0.99], [0.1, 0.99, -0.5, -0.6]], dtype=dtype)
        positives = np.array([[True, False, False, True], [True, True, False, False]])
        for value, grads in (
            refcl.reweighted_contrastive(s, 1e-3, tau_plus=0.1, beta=2.0),
            refcl.reweighted_contrastive(s, 1e-3, tau_plus=0.1, beta=2.0, detach=True),
            refcl.weighted_decoupled_contrastive(s, 1e-3, sigma=1e-3),
            refcl.supervised_contrastive(s, 1e-3, positives=positives),
            refcl.model_aware_contrastive(s, 1e-3, detach=False),
            refcl.per_anchor_contrastive(s, np.array([1e-3, 1e-3], dtype=dtype)),
        ):
            assert value.dtype == dtype
            assert np.isfinite(value)
            assert all(np.isfinite(x).all() for x in grads)

    def test_the_weighted_softplus_never_falls_below_one(self) -> None:
        loss, grads = weighted_softplus(np.array([-np.inf, -800.0, -1e-300, 800.0]), detach=False)
        np.testing.assert_array_equal(loss, [0.0, 1.0, 2 * np.log(2.0), 800.0])
        np.testing.assert_array_equal(grads.dgap[[0, 1, 3]], [0.0, 0.0, 1.0])


class TestScaleAndTemperature:
    def test_a_base_temperature_scales_value_and_gradient(self) -> None:
        rng = np.random.default_rng(3)
        z, labels = rows(rng, 9, 4), np.arange(9) % 3
        plain, grads = refcl.sup_con(z, 0.2, labels=labels)
        scaled, others = refcl.sup_con(z, 0.2, labels=labels, base_temperature=0.07)
        factor = 0.2 / 0.07
        check_near(scaled, factor * plain, rtol=1e-15)
        check_near(others.dz, factor * grads.dz, rtol=1e-14)
        check_near(others.dtemperature, factor * grads.dtemperature + plain / 0.07, rtol=1e-14)

    def test_per_anchor_gradients_add_up_to_the_shared_one(self) -> None:
        s = similarities()
        value, grads = refcl.softmax_contrastive(s, TAU)
        same, each = refcl.per_anchor_contrastive(s, np.full(N, TAU))
        check_near((same, each.ds, each.dtemperature.sum()), (value, grads.ds, grads.dtemperature), rtol=1e-14)

    def test_the_entropy_is_what_was_asked_for(self) -> None:
        s = similarities()
        tau = temperature_for_entropy(s, 1.1)
        for row in range(N):
            check_near(penalty_entropy(s, tau[row])[row], 1.1, rtol=1e-12)

    def test_the_gradient_leaves_the_entropy_alone_when_tau_is_let_through(self) -> None:
        """∂τ/∂s by differences of the solver itself."""
        s = similarities(1, 6)
        _, cache = refcl.fixed_entropy_contrastive.forward(s, entropy=0.9, detach=False)
        for k in range(1, 6):
            moved = []
            for sign in (1, -1):
                at = s.copy()
                at[0, k] += sign * 1e-5
                moved.append(temperature_for_entropy(at, 0.9)[0])
            assert abs((moved[0] - moved[1]) / 2e-5 - cache.slope[0, k]) < 1e-7

    def test_macl_warms_up_as_positives_come_near(self) -> None:
        far, near = np.array([[0.1, 0.0, -0.2]]), np.array([[0.9, 0.0, -0.2]])
        assert refcl.model_aware_contrastive(far, TAU)[1].ds[0, 0] == -1 / (TAU * 1.05)
        assert refcl.model_aware_contrastive(near, TAU)[1].ds[0, 0] == -1 / (TAU * 1.45)

    def test_the_power_of_macl_has_the_linear_law_s_slope_at_its_alignment(self) -> None:
        """1 + log α (A − A₀) is where the power starts: at A = A₀ both laws have one value and one gradient."""
        s, at = similarities(), {"alignment": float(np.diag(similarities()).mean()), "detach": False}
        value, grads = refcl.model_aware_contrastive(s, TAU, alpha=2.0, law="power", **at)
        same, theirs = refcl.model_aware_contrastive(s, TAU, alpha=math.log(2.0), **at)
        assert value == pytest.approx(same, rel=1e-14)
        np.testing.assert_allclose(grads.ds, theirs.ds, rtol=1e-12, atol=1e-15)
        assert grads.dtemperature == pytest.approx(theirs.dtemperature, rel=1e-12)
        constant, _ = refcl.model_aware_contrastive(s, TAU, alpha=1.0, law="power")
        assert constant == refcl.model_aware_contrastive(s, TAU, alpha=0.0)[0]

    def test_a_law_of_macl_is_checked(self) -> None:
        with pytest.raises(ValueError, match=r'law must be "linear" or "power"'):
            refcl.model_aware_contrastive(similarities(), TAU, law="cubic")
        with pytest.raises(ValueError, match=r"^model_aware_contrastive: alpha must be > 0"):
            refcl.model_aware_contrastive(similarities(), TAU, alpha=0.0, law="power")

    def test_the_cosine_starts_high_and_is_low_after_half_a_period(self) -> None:
        settings = {"low": 0.07, "high": 0.5, "half_period": 30.0}
        assert cosine_temperature(0, **settings) == 0.5
        assert cosine_temperature(30, **settings) == 0.07
        assert cosine_temperature(15, **settings) == pytest.approx(0.285)
        for epoch in range(31):
            assert cosine_temperature(epoch, **settings) == pytest.approx(cosine_temperature(60 - epoch, **settings))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"epoch": -1.0}, "epoch must be >= 0"),
            ({"low": 0.0}, "low must be > 0"),
            ({"high": 0.05}, "high must be >= 0.1"),
            ({"half_period": 0}, "half_period must be > 0"),
        ],
    )
    def test_the_cosine_refuses_what_it_cannot_be(self, settings: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            cosine_temperature(**{"epoch": 3.0, **settings})


class TestSecondOrder:
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize(
        ("penalty", "pair", "settings"),
        [
            ("softplus", refcl.softmax_contrastive, {}),
            ("softplus", refcl.hard_softmax_contrastive, {"hardest": 3}),
            ("identity", refcl.decoupled_contrastive, {}),
        ],
        ids=["softmax", "hard", "decoupled"],
    )
    def test_it_is_how_our_own_gradient_turns(self, penalty: str, pair: Any, settings: Any, reduction: str) -> None:
        s, rng = similarities(), np.random.default_rng(4)
        v = rng.standard_normal(s.shape)
        roles = {"positive": np.array([2, 0, 5, 1]), "ignore": rng.uniform(size=s.shape) < 0.2}
        product = refcl.hessian_vector_product(s, v, TAU, penalty=penalty, reduction=reduction, **settings, **roles)

        def gradient_at(t: float) -> Any:
            return pair(s + t * v, TAU, reduction=reduction, **settings, **roles)[1].ds

        h = 3e-4
        turned = (8 * (gradient_at(h) - gradient_at(-h)) - (gradient_at(2 * h) - gradient_at(-2 * h))) / (12 * h)
        check_near(product, turned, rtol=1e-8)
        assert np.max(np.abs(product.sum(axis=1))) < 1e-13 * np.max(np.abs(product))

    def test_it_is_symmetric_and_bends_upwards(self) -> None:
        s, rng = similarities(), np.random.default_rng(4)
        u, v = rng.standard_normal((2, *s.shape))
        for penalty in ("softplus", "identity"):
            of_u = refcl.hessian_vector_product(s, u, TAU, penalty=penalty)
            of_v = refcl.hessian_vector_product(s, v, TAU, penalty=penalty)
            check_near(np.sum(u * of_v), np.sum(v * of_u), rtol=1e-13)
            assert np.sum(v * of_v) > 0

    def test_without_negatives_it_is_zero(self) -> None:
        s = similarities()
        for penalty in ("softplus", "identity"):
            product = refcl.hessian_vector_product(s, s, TAU, penalty=penalty, ignore=everyone_ignored(s.shape))
            assert not product[0].any()
            assert product[1:].any(axis=1).all()


class TestRooms:
    def test_shares_of_a_reweighted_pool_sum_to_one_and_may_be_negative(self) -> None:
        s, every = similarities(), np.ones((N, M), dtype=bool)
        near = s.max(axis=1)
        for detach in (True, False):
            _, grads = reweighted_soft_maximum(near, s, TAU, negatives=every, beta=1.5, detach=detach)
            check_near(TAU * grads.ds_neg.sum(axis=1), np.ones(N), rtol=1e-13)
            assert np.any(grads.ds_neg < 0) == (not detach)

    def test_weights_average_one(self) -> None:
        s_pos = np.random.default_rng(2).uniform(-1, 1, 50)
        assert abs(unevenness(s_pos)[0].mean()) < 1e-15
        check_near(1 - unevenness(s_pos, mass=1.0)[0].sum(), 50.0, rtol=1e-14)

    def test_a_host_constant_stays_on_its_device(self, backend: Backend) -> None:
        s = backend.array(similarities())
        schedule = cosine_temperature(40.0)
        value, grads = refcl.softmax_contrastive(s, schedule)
        assert backend.owns(value)
        assert backend.owns(grads.dtemperature)


POSITIVES = np.eye(3, 4, dtype=bool)
ON_SIMILARITIES = [
    (refcl.supervised_contrastive, {"positives": POSITIVES}),
    (refcl.decoupled_contrastive, {}),
    (refcl.weighted_decoupled_contrastive, {}),
    (refcl.reweighted_contrastive, {"tau_plus": 0.1}),
    (refcl.model_aware_contrastive, {}),
]
ON_VIEWS = [
    (refcl.dcl, {}),
    (refcl.dclw, {}),
    (refcl.debiased, {"tau_plus": 0.1}),
    (refcl.hcl, {"tau_plus": 0.1, "beta": 1.0}),
    (refcl.macl, {}),
    (refcl.macl, {"candidates": "other_view"}),
]
WRONG = [
    ({"sigma": 0.0}, ValueError, "sigma must be > 0"),
    ({"mass": -1.0}, ValueError, "mass must be > 0"),
    ({"beta": -0.5}, ValueError, "beta must be >= 0"),
    ({"tau_plus": -0.1}, ValueError, "tau_plus must be >= 0"),
    ({"tau_plus": 1}, ValueError, "tau_plus must be < 1, got 1"),
    ({"alpha": -0.1}, ValueError, "alpha must be >=? 0"),
    ({"alignment": float("nan")}, ValueError, "alignment must be"),
    ({"candidates": "all"}, ValueError, 'candidates must be "both_views" or "other_view"'),
    ({"negatives": "all"}, ValueError, 'negatives must be "together" or "by_view"'),
    ({"normalizer": "max"}, ValueError, 'normalizer must be "mean" or "sum"'),
    ({"form": "both"}, ValueError, 'form must be "out" or "in"'),
    ({"no_positive": "nan"}, ValueError, 'no_positive must be "zero" or "skip"'),
    ({"base_temperature": 0}, ValueError, "base_temperature must be > 0"),
    ({"reduction": "median"}, ValueError, "reduction must be"),
    ({"eps": -1.0}, ValueError, "eps must be > 0"),
    ({"ignore": np.ones((3, 3))}, TypeError, "ignore is float64"),
    ({"apart": np.ones((3, 4))}, TypeError, "apart is float64"),
    ({"positives": np.ones((3, 4))}, TypeError, "positives is float64"),
    ({"labels": np.ones(3)}, TypeError, "labels is float64"),
    ({"entropy": -1.0}, ValueError, "entropy must be > 0"),
]


@pytest.mark.parametrize(
    ("pair", "good", "settings"),
    [
        *((pair, (np.ones((3, 4)), 0.3), settings) for pair, settings in ON_SIMILARITIES),
        *((pair, (np.ones((3, 2)), np.ones((3, 2)), 0.3), settings) for pair, settings in ON_VIEWS),
        (refcl.sup_con, (np.ones((3, 2)), 0.3), {"labels": np.zeros(3, dtype=int)}),
        (refcl.align_uniform, (np.ones((3, 2)), np.ones((3, 2))), {}),
        (refcl.per_anchor_contrastive, (np.ones((3, 4)), np.ones(3)), {}),
        (refcl.fixed_entropy_contrastive, (np.ones((3, 4)),), {"entropy": 0.5}),
        (refcl.fixed_entropy, (np.ones((3, 2)), np.ones((4, 2))), {"entropy": 0.5}),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_descendant_says_its_own_name(pair: Any, good: tuple[Any, ...], settings: dict[str, Any]) -> None:
    """Not the name of the room in which the walk came to a halt, and of every setting that it has."""
    name, asked = pair.__name__, 0
    for wrong, error, message in WRONG:
        if set(wrong) <= set(pair.settings):
            asked += 1
            with pytest.raises(error, match=f"^{name}: {message}"):
                pair(*good, **{**settings, **wrong})
    assert asked >= 2 or pair is refcl.align_uniform
    for position, argument in enumerate(pair.arguments):
        with pytest.raises((TypeError, ValueError), match=f"^{name}: {argument} (is int64|must be > 0)"):
            pair(*(-np.ones(np.shape(x), int) if p == position else x for p, x in enumerate(good)), **settings)


def test_the_hessian_says_its_own_name() -> None:
    s = np.ones((3, 4))
    for settings, message in (({"penalty": "hinge"}, 'penalty must be "softplus"'), ({"hardest": 0}, "hardest as a")):
        with pytest.raises(ValueError, match=f"^hessian_vector_product: {message}"):
            refcl.hessian_vector_product(s, s, 0.2, **settings)
    with pytest.raises(ValueError, match="hessian_vector_product: s and v must agree on M"):
        refcl.hessian_vector_product(s, s[:, :2], 0.2)


@pytest.mark.parametrize(
    "pair", list(dict.fromkeys(pair for pair, _ in [*ON_SIMILARITIES, *ON_VIEWS])), ids=lambda x: x.__name__
)
def test_a_descendant_is_exported_with_both_its_halves(pair: Any) -> None:
    name = pair.__name__
    assert name in refcl.__all__
    assert {name, f"{name}_forward", f"{name}_backward"} <= set(refcl.losses.__all__)
    assert getattr(refcl, name) is pair
    assert getattr(refcl.losses, f"{name}_backward") is pair.backward


def test_no_default_hides_a_prior() -> None:
    """τ⁺, β, σ of the data are asked for where no number fits all."""
    a, b = two_views()
    for pair in (refcl.debiased, refcl.hcl):
        with pytest.raises(TypeError, match="tau_plus"):
            pair(a, b, 0.5)
