"""What holds for all inputs: symmetries and relations, on examples that hypothesis draws, the same in every run."""

from typing import Any

import numpy as np
from backends import EPS, check_near, check_same_bits, flat
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import refcl
from refcl import hardness, metrics

temperatures = st.floats(0.02, 50.0).filter(lambda tau: tau != 1.0)
fractions = st.floats(0.05, 1.0)
seeds = st.integers(0, 2**32 - 1)
cosine = st.floats(-1.0, 1.0, width=32)


@st.composite
def similarities(draw: st.DrawFn, rows: int = 5, columns: int = 9) -> Any:
    """Draw similarities (N, M) with M >= N: ties, zeros and ends of the range are likely."""
    n = draw(st.integers(1, rows))
    m = draw(st.integers(max(n, 2), columns))
    return draw(arrays(np.float64, (n, m), elements=cosine))


@st.composite
def embeddings(draw: st.DrawFn) -> tuple[Any, Any]:
    """Draw query (N, D) and key (M, D) with M >= N, of lengths between .3 and 5 or so."""
    n, d = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    m = draw(st.integers(n + 1, 9))
    rng = np.random.default_rng(draw(seeds))
    return tuple(rng.standard_normal((k, d)) * rng.uniform(0.3, 3.0, (k, 1)) for k in (n, m))  # type: ignore[return-value]


def check_agree(got: Any, want: Any, temperature: float = 1.0, terms: float = 1.0) -> None:
    """Check that two results agree to the rounding of the similarities over the temperature."""
    check_near(got, want, rtol=1e-12 * (1 + 2 / temperature), atol=1e-14 * terms * (1 + 1 / temperature))


@given(s=similarities(), temperature=temperatures, seed=seeds)
def test_reordering_candidates_reorders_the_gradient(s: Any, temperature: float, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(s.shape[1])
    where = np.argsort(order)[: s.shape[0]]
    loss, grads = refcl.softmax_contrastive(s, temperature)
    moved, moved_grads = refcl.softmax_contrastive(s[:, order], temperature, positive=where)
    check_agree(moved, loss, temperature)
    check_agree(moved_grads.ds, grads.ds[:, order], temperature)


@given(s=similarities(), temperature=temperatures, seed=seeds)
def test_reordering_anchors_reorders_the_losses(s: Any, temperature: float, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(s.shape[0])
    loss, grads = refcl.softmax_contrastive(s, temperature, reduction="none")
    moved, moved_grads = refcl.softmax_contrastive(s[order], temperature, positive=order, reduction="none")
    check_agree(moved, loss[order], temperature)
    check_agree(moved_grads.ds, grads.ds[order], temperature)


@given(pair=embeddings(), temperature=temperatures, seed=seeds)
def test_rotating_everything_rotates_the_gradients(pair: Any, temperature: float, seed: int) -> None:
    query, key = pair
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((query.shape[1],) * 2))
    loss, grads = refcl.info_nce(query, key, temperature)
    turned, turned_grads = refcl.info_nce(query @ rotation, key @ rotation, temperature)
    check_agree(turned, loss, temperature)
    check_agree(flat(tuple(turned_grads)[:2]), flat((grads.dquery @ rotation, grads.dkey @ rotation)), temperature, 1e3)


@given(pair=embeddings(), temperature=temperatures, power=st.integers(-8, 8))
def test_stretching_rows_shrinks_their_gradients_and_changes_no_loss(pair: Any, temperature: float, power: int) -> None:
    """Bit for bit where the stretch is a power of two."""
    query, key = pair
    loss, grads = refcl.info_nce(query, key, temperature)
    same, same_grads = refcl.info_nce(2.0**power * query, key, temperature)
    check_same_bits((same, 2.0**power * same_grads.dquery, same_grads.dkey), (loss, grads.dquery, grads.dkey))


@given(s=similarities(), temperature=temperatures, shift=st.floats(-3, 3))
def test_a_constant_added_to_a_row_changes_nothing_but_rounding(s: Any, temperature: float, shift: float) -> None:
    loss, grads = refcl.softmax_contrastive(s, temperature)
    moved, moved_grads = refcl.softmax_contrastive(s + shift, temperature)
    check_agree(moved, loss, temperature)
    check_agree(moved_grads.ds, grads.ds, temperature)


@given(s=similarities(), temperature=temperatures)
def test_the_softmax_loss_is_positive_and_its_rows_of_gradients_sum_to_zero(s: Any, temperature: float) -> None:
    loss, grads = refcl.softmax_contrastive(s, temperature, reduction="none")
    assert (loss > 0).all()
    residual = np.abs(grads.ds.sum(axis=1))
    assert (residual <= 32 * EPS["float64"] * np.abs(grads.ds).sum(axis=1)).all()


@given(s=similarities(), temperature=temperatures, hardest=fractions)
def test_the_hard_loss_is_never_more_than_the_ordinary_one(s: Any, temperature: float, hardest: float) -> None:
    hard, _ = refcl.hard_softmax_contrastive(s, temperature, hardest=hardest, reduction="none")
    loss, _ = refcl.softmax_contrastive(s, temperature, reduction="none")
    assert (hard > 0).all()
    assert (hard <= loss * (1 + 8 * EPS["float64"])).all()


@given(s=similarities(), temperature=temperatures, one=fractions, other=fractions)
def test_the_hard_loss_grows_with_what_is_kept(s: Any, temperature: float, one: float, other: float) -> None:
    fewer, more = (
        refcl.hard_softmax_contrastive(s, temperature, hardest=x, reduction="none")[0] for x in sorted((one, other))
    )
    assert (fewer <= more * (1 + 8 * EPS["float64"])).all()


@given(s=similarities(), temperature=temperatures)
def test_all_of_the_hardest_is_the_ordinary_loss(s: Any, temperature: float) -> None:
    hard, hard_grads = refcl.hard_softmax_contrastive(s, temperature, hardest=1.0)
    loss, grads = refcl.softmax_contrastive(s, temperature)
    check_same_bits((hard, tuple(hard_grads)), (loss, tuple(grads)))
    check_same_bits(refcl.hard_simple_contrastive(s, hardest=1.0)[0], refcl.simple_contrastive(s)[0])


@given(s=similarities())
def test_the_hard_simple_loss_is_never_less_than_the_simple_one(s: Any) -> None:
    """The mean of the nearest is at least the mean of all."""
    hard, _ = refcl.hard_simple_contrastive(s, hardest=0.5, reduction="none")
    simple, _ = refcl.simple_contrastive(s, reduction="none")
    assert (hard >= simple - 1e-15).all()


@given(s=similarities(), temperature=temperatures, warmer=st.floats(1.1, 4.0))
def test_relative_penalties_flatten_as_the_temperature_grows(s: Any, temperature: float, warmer: float) -> None:
    entropy = hardness.penalty_entropy(s, temperature)
    flatter = hardness.penalty_entropy(s, warmer * temperature)
    assert (flatter >= entropy * (1 - 1e-13) - 1e-300).all()
    assert (flatter <= np.log(s.shape[1] - 1) * (1 + 1e-15) + 1e-15).all()
    assert (hardness.entropy_slope(s, temperature) >= 0).all()


@given(s=similarities(), temperature=temperatures)
def test_the_loss_lies_in_its_small_temperature_bound(s: Any, temperature: float) -> None:
    loss, _ = refcl.softmax_contrastive(s, temperature, reduction="none")
    lower, upper = hardness.small_temperature_bound(s, temperature)
    slack = 8 * EPS["float64"] * (1 + 2 / temperature)
    assert (loss >= lower * (1 - slack)).all()
    assert (loss <= upper * (1 + slack)).all()


@given(pair=embeddings(), log_scale=st.floats(-1.0, 4.0))
def test_clip_is_the_mean_of_two_info_nce(pair: Any, log_scale: float) -> None:
    image, key = pair
    text = key[: len(image)]
    tau = float(np.exp(-log_scale))
    value, grads = refcl.clip(image, text, log_scale)
    forth, forth_grads = refcl.info_nce(image, text, tau)
    back, back_grads = refcl.info_nce(text, image, tau)
    check_agree(value, (forth + back) / 2, tau)
    check_agree(grads.dimage, (forth_grads.dquery + back_grads.dkey) / 2, tau, 1e2)
    swapped, swapped_grads = refcl.clip(text, image, log_scale)
    check_agree(swapped, value, tau)
    check_agree(swapped_grads.dtext, grads.dimage, tau, 1e2)


@given(pair=embeddings(), temperature=temperatures)
def test_nt_xent_does_not_mind_which_view_comes_first(pair: Any, temperature: float) -> None:
    a, b = pair[0], pair[1][: len(pair[0])]
    value, grads = refcl.nt_xent(a, b, temperature)
    swapped, swapped_grads = refcl.nt_xent(b, a, temperature)
    check_agree(swapped, value, temperature)
    check_agree(flat((swapped_grads.db, swapped_grads.da)), flat((grads.da, grads.db)), temperature, 1e2)
    assert float(value) >= 0


@given(pair=embeddings(), temperature=temperatures)
def test_more_negatives_never_lower_the_loss(pair: Any, temperature: float) -> None:
    query, key = pair
    fewer, _ = refcl.info_nce(query, key[:-1], temperature, reduction="none")
    more, _ = refcl.info_nce(query, key, temperature, reduction="none")
    assert (more >= fewer * (1 - 1e-12 * (1 + 2 / temperature))).all()


@given(pair=embeddings(), t=st.floats(0.1, 5.0))
def test_uniformity_is_between_its_least_and_zero(pair: Any, t: float) -> None:
    z, _ = refcl.walk.sphere.l2_normalize(pair[1])
    value, grads = metrics.uniformity(z, t=t)
    assert -4 * t - 1e-12 <= float(value) <= 0
    assert np.abs(grads.dz.sum(axis=0)).max() <= 1e-13 * t


@given(pair=embeddings())
def test_alignment_and_tolerance_of_unit_rows_keep_their_range(pair: Any) -> None:
    z, _ = refcl.walk.sphere.l2_normalize(pair[1])
    assert 0 <= float(metrics.alignment(z, -z)[0]) <= 4 + 1e-14
    assert float(metrics.alignment(z, z)[0]) == 0
    assert -1 - 1e-14 <= float(metrics.tolerance(z, np.zeros(len(z), dtype=int))) <= 1 + 1e-14


@given(s=similarities(), margin=st.floats(0.0, 1.0))
def test_the_triplet_loss_grows_with_its_margin_and_is_a_hinge(s: Any, margin: float) -> None:
    value, grads = refcl.triplet(s, margin=margin, reduction="none")
    less, _ = refcl.triplet(s, reduction="none")
    assert (value >= less).all()
    assert (value <= less + margin + 1e-15).all()
    assert ((grads.ds != 0).any(axis=1) == (value > 0)).all()
