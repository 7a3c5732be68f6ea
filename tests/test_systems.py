"""The systems that the paper builds on, and what grew from it: corners, kinks, and what they are to each other."""

import math
from typing import Any

import numpy as np
import pytest
from backends import EPS, Backend, check_near
from cases import rows

import refcl
from refcl import pooling

RNG = np.random.default_rng(5)
QUERY, KEY, MEMORY = rows(RNG, 4, 3), rows(RNG, 4, 3), rows(RNG, 6, 3)
INDEX, NOISE = np.array([5, 0, 3, 0]), RNG.integers(0, 6, (4, 9))
DRAWN = {"bank": MEMORY, "index": INDEX, "noise": NOISE}
RTOL = 64 * EPS["float64"]


def unit(x: Any) -> Any:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def both(call: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return value and gradients of a call as a tree of plain tuples."""
    return call[0], tuple(call[1])


class TestMemory:
    def test_instance_discrimination_is_info_nce_without_the_gradient_of_the_bank(self) -> None:
        value, grads = refcl.inst_disc(QUERY, 0.2, bank=MEMORY, index=INDEX)
        same, others = refcl.info_nce(QUERY, MEMORY, 0.2, positive=INDEX)
        assert value == same
        check_near((grads.dquery, grads.dtemperature), (others.dquery, others.dtemperature), rtol=RTOL)

    def test_moco_is_info_nce_with_the_other_keys_ignored(self) -> None:
        value, grads = refcl.moco(QUERY, KEY, 0.2, queue=MEMORY)
        other_keys = np.hstack([~np.eye(4, dtype=bool), np.zeros((4, 6), dtype=bool)])
        same, others = refcl.info_nce(QUERY, np.vstack([KEY, MEMORY]), 0.2, ignore=other_keys)
        check_near(both((value, grads)), (same, (others.dquery, others.dkey[:4], others.dtemperature)), rtol=RTOL)

    @pytest.mark.parametrize("length", [0.1, 7.0])
    def test_a_memory_is_brought_to_the_sphere(self, length: float) -> None:
        check_near(
            both(refcl.inst_disc(QUERY, 0.2, bank=length * MEMORY, index=INDEX)),
            both(refcl.inst_disc(QUERY, 0.2, bank=unit(MEMORY), index=INDEX)),
            rtol=RTOL,
        )

    def test_a_bank_that_is_not_on_the_sphere_is_taken_as_it_is_where_nothing_is_normalized(self) -> None:
        value, _ = refcl.inst_disc(unit(QUERY), 0.2, bank=MEMORY, index=INDEX, normalize=False)
        s = unit(QUERY) @ MEMORY.T / 0.2
        assert math.isclose(value, np.mean(np.log(np.exp(s).sum(axis=1)) - s[range(4), INDEX]), rel_tol=1e-13)

    def test_without_negatives_there_is_nothing_to_learn(self) -> None:
        every = np.ones((4, 6), dtype=bool)
        for value, grads in (
            refcl.moco(QUERY, KEY, 0.2, queue=MEMORY, ignore=every),
            refcl.inst_disc(QUERY, 0.2, bank=MEMORY, index=INDEX, ignore=every),
        ):
            assert value == 0.0
            assert not any(np.any(d) for d in grads)

    def test_a_key_that_dominates_keeps_its_digits(self) -> None:
        """Cross-entropy of the stacked logits is 0 here."""
        query, queue = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
        value, grads = refcl.moco(query, query, 0.01, queue=queue)
        assert math.isclose(value, math.exp(-100), rel_tol=1e-13)
        assert math.isclose(grads.dquery[0, 1], math.exp(-100) / 0.01, rel_tol=1e-13)


class TestNce:
    def test_the_stabilizer_moves_the_threshold_and_adds_a_constant(self) -> None:
        """ε in the denominators is a greater K/M, but for the numerator of the noise."""
        rate, extra = 9 / 6, 0.25
        value, grads = refcl.nce(QUERY, 0.3, **DRAWN, log_normalizer=1.0, stabilizer=extra)
        moved, others = refcl.nce(QUERY, 0.3, **DRAWN, log_normalizer=1.0 + math.log((rate + extra) / rate))
        assert math.isclose(value, moved + 9 * math.log1p(extra / rate), rel_tol=1e-13)
        check_near(tuple(grads), tuple(others), rtol=RTOL)

    def test_noise_that_hits_the_own_row_counts_unless_it_is_ignored(self) -> None:
        noise = np.tile(INDEX[:, None], (1, 2))
        settings = {"bank": MEMORY, "index": INDEX, "log_normalizer": 1.0, "reduction": "none"}
        kept, _ = refcl.nce(QUERY, 0.3, noise=noise, **settings)
        left_out, _ = refcl.nce(QUERY, 0.3, noise=noise, ignore=noise == INDEX[:, None], **settings)
        logit = np.sum(unit(QUERY) * unit(MEMORY)[INDEX], axis=1) / 0.3 - 1.0 - math.log(2 / 6)
        check_near(left_out, np.log1p(np.exp(-logit)), rtol=1e-14)
        check_near(kept, np.log1p(np.exp(-logit)) + 2 * np.log1p(np.exp(logit)), rtol=1e-14)

    def test_at_a_small_temperature_its_normalizer_has_a_logarithm_only(self, backend: Backend) -> None:
        """Z = 6 e^1000 is no number of any precision."""
        one, six = backend.array(np.array([[1.0, 0.0]])), backend.array(np.tile([[1.0, 0.0]], (6, 1)))
        drawn = {"index": backend.array(np.array([0])), "noise": backend.array(np.array([[1, 2]]))}
        log_z = refcl.nce_log_normalizer(one, 1e-3, bank=six, **drawn)
        value, _ = refcl.nce(one, 1e-3, bank=six, **drawn, log_normalizer=log_z)
        # Each P is 1/6, and the rate 2/6: the own row is told from noise with probability 1/3.
        want = -math.log(1 / 3) - 2 * math.log(2 / 3)
        check_near(backend.host(value), np.array(want), rtol=2000 * EPS[backend.dtype])

    def test_the_constants_of_the_normalizer_have_no_gradient_and_no_effect_on_its_kind(self) -> None:
        log_z = refcl.nce_log_normalizer(QUERY, 0.3, **DRAWN)
        as_array = both(refcl.nce(QUERY, 0.3, **DRAWN, log_normalizer=log_z))
        check_near(as_array, both(refcl.nce(QUERY, 0.3, **DRAWN, log_normalizer=float(log_z))), rtol=0.0)


class TestManyViews:
    def test_two_views_are_twice_clip(self) -> None:
        value, grads = refcl.cmc((QUERY, KEY), 0.2)
        same, others = refcl.clip(QUERY, KEY, -math.log(0.2))
        check_near((value, *grads.dviews), tuple(2 * x for x in (same, others.dimage, others.dtext)), rtol=1e-13)

    def test_a_core_view_is_all_pairs_less_those_without_it(self) -> None:
        a, b, c = QUERY, KEY, MEMORY[:4]
        full = refcl.cmc((a, b, c), 0.2)
        rest = refcl.cmc((a, c), 0.2)
        core = refcl.cmc((a, b, c), 0.2, core=1)
        check_near(core[0] + rest[0], full[0], rtol=RTOL)
        check_near(core[1].dviews[0] + rest[1].dviews[0], full[1].dviews[0], rtol=RTOL)

    def test_true_is_the_first_view_and_so_is_0(self) -> None:
        views = (QUERY, KEY, MEMORY[:4])
        check_near(both(refcl.cmc(views, 0.2, core=True)), both(refcl.cmc(views, 0.2, core=0)), rtol=0.0)
        assert refcl.cmc(views, 0.2, core=0)[0] < refcl.cmc(views, 0.2)[0]

    def test_ignored_samples_are_ignored_in_every_direction(self) -> None:
        ignore = np.zeros((4, 4), dtype=bool)
        ignore[2] = True
        each, _ = refcl.cmc((QUERY, KEY, MEMORY[:4]), 0.2, ignore=ignore, reduction="none")
        assert each.shape == (6, 4)
        assert not each[:, 2].any()
        assert np.delete(each, 2, axis=1).all()

    def test_one_sample_has_no_negatives(self) -> None:
        value, grads = refcl.cmc((QUERY[:1], KEY[:1]), 0.2)
        assert value == 0.0
        assert not np.any(grads.dviews)


class TestPredictive:
    def test_a_form_that_scales_is_info_nce(self) -> None:
        """W = I/τ on the sphere."""
        value, grads = refcl.cpc(unit(QUERY), unit(MEMORY), np.eye(3) / 0.2)
        same, others = refcl.info_nce(unit(QUERY), unit(MEMORY), 0.2, normalize=False)
        check_near((value, grads.dcontext, grads.dfuture), (same, others.dquery, others.dkey), rtol=1e-13)
        # dL/dτ of I/τ is −⟨dW, I⟩/τ².
        assert math.isclose(-np.trace(grads.dweight) / 0.2**2, others.dtemperature, rel_tol=1e-12)

    def test_one_step_is_one_of_several(self, rng: np.random.Generator) -> None:
        future, weight = rng.standard_normal((1, 6, 5)), rng.standard_normal((1, 3, 5))
        several, one = refcl.cpc(QUERY, future, weight), refcl.cpc(QUERY, future[0], weight[0])
        check_near(several[0], one[0], rtol=RTOL)
        check_near((several[1].dcontext, several[1].dweight[0]), (one[1].dcontext, one[1].dweight), rtol=RTOL)

    def test_steps_are_averaged(self, rng: np.random.Generator) -> None:
        future, weight = rng.standard_normal((3, 6, 5)), rng.standard_normal((3, 3, 5))
        steps = [refcl.cpc(QUERY, z, w) for z, w in zip(future, weight, strict=True)]
        value, grads = refcl.cpc(QUERY, future, weight)
        check_near(value, np.mean([step for step, _ in steps]), rtol=RTOL)
        check_near(grads.dcontext, np.mean([step.dcontext for _, step in steps], axis=0), rtol=RTOL)

    def test_guessing_bounds_the_information_by_nothing(self) -> None:
        value, _ = refcl.cpc(QUERY, np.ones((6, 2)), np.ones((3, 2)))
        assert math.isclose(refcl.mutual_information_bound(float(value), 6), 0.0, abs_tol=1e-15)

    def test_the_bound_holds_where_the_information_is_known(self) -> None:
        """Two correlated normal numbers: I = −log(1 − ρ²)/2, and s = log p(z | c)/p(z) up to a term in c alone."""
        rho, n, batches = 0.9, 16, 400
        rng = np.random.default_rng(0)
        context = rng.standard_normal((batches, n))
        future = rho * context + math.sqrt(1 - rho**2) * rng.standard_normal((batches, n))
        losses = []
        for c, z in zip(context, future, strict=True):
            features = np.stack([z, z**2], axis=1)
            form = np.array([[rho, 0.0], [0.0, -(rho**2) / 2]]) / (1 - rho**2)
            losses.append(float(refcl.cpc(np.stack([c, np.ones(n)], axis=1), features, form)[0]))
        bound = refcl.mutual_information_bound(float(np.mean(losses)), n)
        truth = -math.log(1 - rho**2) / 2
        error = float(np.std(losses)) / math.sqrt(batches)
        assert bound < truth + 3 * error
        assert bound > 0.8 * truth


class TestPairwise:
    def test_a_masked_negative_has_no_gap_and_no_gradient(self, backend: Backend) -> None:
        s_pos, s_neg = backend.array(np.array([0.5])), backend.array(np.array([[0.25, np.nan]]))
        mask = backend.array(np.array([[True, False]]))
        (gap_pos, gap_neg), cache = pooling.separate.forward(s_pos, s_neg, 4.0, -1.5, negatives=mask)
        assert backend.host(gap_pos).tolist() == [-0.5]
        assert backend.host(gap_neg).tolist() == [[-0.5, -np.inf]]
        dgaps = backend.array(np.array([2.0])), backend.array(np.array([[3.0, 7.0]]))
        grads = [backend.host(d).tolist() for d in pooling.separate.backward(*dgaps, cache)]
        assert grads == [[-8.0], [[12.0, 0.0]], -0.25, 1.0]

    def test_image_and_text_may_change_places(self) -> None:
        value, grads = refcl.sig_lip(QUERY, KEY, 1.5, -2.5)
        same, others = refcl.sig_lip(KEY, QUERY, 1.5, -2.5)
        check_near(
            (value, grads.dimage, grads.dtext, grads.dlog_scale, grads.dbias),
            (same, others.dtext, others.dimage, others.dlog_scale, others.dbias),
            rtol=RTOL,
        )

    def test_a_pair_does_not_see_the_others(self) -> None:
        """Another text changes the loss of each image by its own pair's, and no pair's gradient."""
        few, few_grads = refcl.sig_lip(QUERY, KEY, 1.5, -2.5, reduction="sum")
        more, more_grads = refcl.sig_lip(QUERY, np.vstack([KEY, MEMORY[:1]]), 1.5, -2.5, reduction="sum")
        logits = math.exp(1.5) * (unit(QUERY) @ unit(MEMORY[0])) - 2.5
        assert math.isclose(more - few, np.log1p(np.exp(logits)).sum(), rel_tol=1e-13)
        check_near(more_grads.dtext[:4], few_grads.dtext, rtol=RTOL)

    def test_the_two_that_pool_nothing_are_one(self) -> None:
        """NCE is SigLIP with a bias that is known: −log Z − log(K/M)."""
        query, bank = QUERY[:1], MEMORY
        noise = np.array([[1, 2, 3, 4, 5]])
        nce, nce_grads = refcl.nce(query, 0.3, bank=bank, index=np.array([0]), noise=noise, log_normalizer=1.2)
        bias = -1.2 - math.log(5 / 6)
        sig_lip, grads = refcl.sig_lip(query, bank, -math.log(0.3), bias)
        check_near((nce, nce_grads.dquery), (sig_lip, grads.dimage), rtol=1e-13)
        assert math.isclose(nce_grads.dtemperature, -grads.dlog_scale / 0.3, rel_tol=1e-12)

    def test_pairs_that_are_settled_keep_their_digits(self) -> None:
        """A logit of ±100: log σ of it rounds to nothing where it is computed from a probability."""
        a = np.eye(2)
        value, grads = refcl.sig_lip(a, a, math.log(200.0), -100.0)
        assert math.isclose(value, 2 * math.exp(-100), rel_tol=1e-12)
        assert math.isclose(grads.dbias, 0.0, abs_tol=1e-50)

    def test_it_starts_near_what_guessing_costs(self) -> None:
        """At b = −10 and scale 10 negatives cost next to nothing and a positive 10 − 10 s."""
        value, _ = refcl.sig_lip(np.eye(8), np.eye(8)[::-1], math.log(10.0), -10.0, ignore=~np.eye(8, dtype=bool))
        assert math.isclose(value, 10.0, rel_tol=1e-4)


class TestClamp:
    LOG_100 = math.log(100.0)

    @pytest.mark.parametrize("log_scale", [0.0, 2.0, LOG_100])
    def test_within_the_bounds_and_on_them_it_changes_nothing(self, log_scale: float) -> None:
        check_near(
            both(refcl.clip(QUERY, KEY, log_scale, clamp=(0.0, self.LOG_100))),
            both(refcl.clip(QUERY, KEY, log_scale)),
            rtol=0.0,
        )

    @pytest.mark.parametrize(("log_scale", "bound"), [(-0.5, 0.0), (4.7, LOG_100)])
    def test_outside_the_bounds_the_scale_has_no_gradient(self, log_scale: float, bound: float) -> None:
        value, grads = refcl.clip(QUERY, KEY, log_scale, clamp=(0.0, self.LOG_100))
        same, others = refcl.clip(QUERY, KEY, bound)
        check_near((value, grads.dimage, grads.dtext), (same, others.dimage, others.dtext), rtol=0.0)
        assert grads.dlog_scale == 0.0
        assert others.dlog_scale != 0.0

    def test_in_float32_the_bound_is_that_of_float32(self) -> None:
        """float32(log 100) lies above log 100: it is no step outside."""
        image, text = QUERY.astype(np.float32), KEY.astype(np.float32)
        _, grads = refcl.clip(image, text, np.float32(self.LOG_100), clamp=(0.0, self.LOG_100))
        assert float(np.float32(self.LOG_100)) > self.LOG_100
        assert grads.dlog_scale != 0.0

    def test_nan_stays_nan(self) -> None:
        value, grads = refcl.clip(QUERY, KEY, np.array(np.nan), clamp=(0.0, 4.0))
        assert np.isnan(value)
        assert np.isnan(grads.dlog_scale)


class TestViewsAdded:
    def test_it_is_twice_the_mean(self) -> None:
        value, grads = refcl.nt_xent(QUERY, KEY, 0.5, add_views=True)
        same, others = refcl.nt_xent(QUERY, KEY, 0.5)
        check_near((value, *grads), tuple(2 * x for x in (same, *others)), rtol=0.0)

    @pytest.mark.parametrize("reduction", ["sum", "none"])
    def test_where_nothing_is_averaged_it_changes_nothing(self, reduction: str) -> None:
        check_near(
            both(refcl.nt_xent(QUERY, KEY, 0.5, add_views=True, reduction=reduction)),
            both(refcl.nt_xent(QUERY, KEY, 0.5, reduction=reduction)),
            rtol=0.0,
        )


class TestMargins:
    S = np.array([[0.5, 0.75, 0.25, 0.0]])  # the positive, a nearer negative, two further off

    def taken(self, s: Any, **settings: Any) -> tuple[float, Any]:
        value, grads = refcl.semi_hard_triplet(s, **settings)
        return float(value), grads.ds[0].tolist()

    def test_the_nearest_of_those_further_off_is_taken(self) -> None:
        assert self.taken(self.S, margin=0.5) == (0.25, [-1.0, 0.0, 1.0, 0.0])

    def test_beyond_the_margin_there_is_nothing_to_learn(self) -> None:
        assert self.taken(self.S, margin=0.125) == (0.0, [0.0] * 4)

    def test_at_the_hinge_s_kink_the_gradient_is_0(self) -> None:
        assert self.taken(self.S, margin=0.25) == (0.0, [0.0] * 4)

    def test_a_negative_as_near_as_the_positive_is_not_further_off(self) -> None:
        s = np.array([[0.5, 0.5, 0.25]])
        assert self.taken(s, margin=0.5) == (0.25, [-1.0, 0.0, 1.0])

    def test_ties_share_the_gradient(self) -> None:
        s = np.array([[0.5, 0.25, 0.25]])
        assert self.taken(s, margin=0.5) == (0.25, [-1.0, 0.5, 0.5])

    @pytest.mark.parametrize(
        ("otherwise", "want"),
        [
            ("skip", (0.0, [0.0, 0.0, 0.0])),
            ("easiest", (0.375, [-1.0, 1.0, 0.0])),
            ("hardest", (0.625, [-1.0, 0.0, 1.0])),
        ],
    )
    def test_where_no_negative_is_further_off_the_policy_says_what_happens(self, otherwise: str, want: Any) -> None:
        s = np.array([[0.25, 0.5, 0.75]])
        assert self.taken(s, margin=0.125, otherwise=otherwise) == want

    @pytest.mark.parametrize("otherwise", ["skip", "easiest", "hardest"])
    def test_without_negatives_the_loss_is_0(self, otherwise: str) -> None:
        assert self.taken(np.array([[0.25]]), margin=0.5, otherwise=otherwise) == (0.0, [0.0])

    def test_it_never_exceeds_the_hardest_triplet_and_has_its_value_where_all_are_further_off(
        self, rng: np.random.Generator
    ) -> None:
        s = rng.uniform(-1, 1, (50, 8))
        semi, _ = refcl.semi_hard_triplet(s, margin=0.3, positive=np.zeros(50, dtype=int), reduction="none")
        hard, _ = refcl.triplet(s, margin=0.3, positive=np.zeros(50, dtype=int), reduction="none")
        ahead = s[:, 0] > s[:, 1:].max(axis=1)
        assert (semi <= hard).all()
        assert (semi[ahead] == hard[ahead]).all()
        assert ahead.any()
        assert not ahead.all()

    def test_pairs_at_their_kinks(self) -> None:
        """An unlike pair at a distance of 0, of just the margin, and beyond; a like one at 0."""
        a = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
        b = np.array([[0.0, 0.0], [0.75, 0.0], [2.0, 0.0], [0.0, 0.0]])
        same = np.array([False, False, False, True])
        value, grads = refcl.pair_contrastive(a, b, same=same, margin=0.75, reduction="none")
        assert value.tolist() == [0.28125, 0.0, 0.0, 0.0]
        assert not np.any(grads.da)
        assert not np.any(grads.db)

    def test_pairs_as_others_write_it(self) -> None:
        """Hadsell, Chopra and LeCun: (1 − Y) D²/2 + Y max(m − D, 0)²/2, with Y = 1 for unlike pairs."""
        y = np.array([0.0, 1.0, 1.0, 0.0])
        distance = np.linalg.norm(QUERY - KEY, axis=1)
        want = (1 - y) * distance**2 / 2 + y * np.maximum(2.5 - distance, 0) ** 2 / 2
        value, _ = refcl.pair_contrastive(QUERY, KEY, same=y == 0, margin=2.5, reduction="none")
        check_near(value, want, rtol=1e-14)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("moco", lambda **s: refcl.moco(QUERY, KEY, 0.2, queue=MEMORY, **s)),
        ("inst_disc", lambda **s: refcl.inst_disc(QUERY, 0.2, bank=MEMORY, index=INDEX, **s)),
        ("nce", lambda **s: refcl.nce(QUERY, 0.2, bank=MEMORY, index=INDEX, noise=NOISE, log_normalizer=1.0, **s)),
        ("cmc", lambda **s: refcl.cmc((QUERY, KEY), 0.2, **s)),
        ("sig_lip", lambda **s: refcl.sig_lip(QUERY, KEY, 1.5, -2.5, **s)),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_loss_says_its_own_name(name: str, call: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: reduction must be"):
        call(reduction="median")
    with pytest.raises(ValueError, match=rf"^{name}: eps must be > 0"):
        call(eps=0.0)
    with pytest.raises(TypeError, match=rf"^{name}: ignore is int64"):
        call(ignore=np.zeros((4, 4), dtype=np.int64))
