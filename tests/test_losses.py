"""The losses by name: closed forms, relations, corners. What the paper states of them is in `test_paper.py`."""

import math
from typing import Any

import numpy as np
import oracle_loops
import pytest
from backends import EPS, Backend, check_near, check_same_bits, flat
from cases import core_pairs

import refcl

RNG = np.random.default_rng(12)
S = RNG.uniform(-1, 1, (4, 7))
QUERY, KEY = RNG.standard_normal((4, 3)), RNG.standard_normal((7, 3))
A, B = RNG.standard_normal((5, 3)), RNG.standard_normal((5, 3))
POSITIVE = np.array([6, 0, 0, 3])
IGNORE = RNG.uniform(size=(4, 7)) < 0.3

# A loss of similarities, its scalars and its settings.
ON_SIMILARITIES: dict[str, tuple[tuple[float, ...], dict[str, Any]]] = {
    "softmax_contrastive": ((0.2,), {}),
    "hard_softmax_contrastive": ((0.2,), {"hardest": 3}),
    "simple_contrastive": ((0.6,), {}),
    "hard_simple_contrastive": ((0.6,), {"hardest": 3}),
    "triplet": ((), {"margin": 0.5}),
}
# Of each loss of embeddings in one direction, that of similarities that it is.
ON_EMBEDDINGS = {
    "info_nce": "softmax_contrastive",
    "hard_info_nce": "hard_softmax_contrastive",
    "simple_loss": "simple_contrastive",
    "hard_simple_loss": "hard_simple_contrastive",
}
every_loss_of_similarities = pytest.mark.parametrize("name", ON_SIMILARITIES)
every_loss_of_embeddings = pytest.mark.parametrize("name", ON_EMBEDDINGS)


def call(name: str, s: Any, backend: Backend, **settings: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return value and gradients of a loss of similarities, on the host."""
    scalars, own = ON_SIMILARITIES[name]
    value, grads = core_pairs()[name](backend.array(s), *scalars, **own, **settings)
    return backend.host(value), backend.hosts(tuple(grads))


NUMPY = Backend("numpy", np, "float64")


@pytest.mark.parametrize("hardest", [None, 3, 0.4])
def test_softmax_gradients_equal_plain_loops(hardest: float | None) -> None:
    who = oracle_loops.roles(S.tolist(), POSITIVE.tolist(), IGNORE.tolist())
    settings = {} if hardest is None else {"hardest": hardest}
    pair = refcl.softmax_contrastive if hardest is None else refcl.hard_softmax_contrastive
    if hardest is not None:
        who = oracle_loops.hard_roles(S.tolist(), POSITIVE.tolist(), IGNORE.tolist(), hardest)
    _, grads = pair(S, 0.2, positive=POSITIVE, ignore=IGNORE, reduction="sum", **settings)
    check_near(grads.ds, np.array(oracle_loops.softmax_gradient(S.tolist(), 0.2, who)), rtol=1e-14)


@pytest.mark.parametrize("weight", [None, 0.6])
@pytest.mark.parametrize("hardest", [None, 3, 0.4])
def test_simple_gradients_equal_plain_loops(hardest: float | None, weight: float | None) -> None:
    who = oracle_loops.roles(S.tolist(), POSITIVE.tolist(), IGNORE.tolist())
    settings = {} if hardest is None else {"hardest": hardest}
    pair = refcl.simple_contrastive if hardest is None else refcl.hard_simple_contrastive
    if hardest is not None:
        who = oracle_loops.hard_roles(S.tolist(), POSITIVE.tolist(), IGNORE.tolist(), hardest)
    _, grads = pair(S, weight, positive=POSITIVE, ignore=IGNORE, reduction="sum", **settings)
    check_near(grads.ds, np.array(oracle_loops.simple_gradient(S.tolist(), weight, who)), rtol=1e-15)


@every_loss_of_similarities
def test_the_mean_is_the_sum_over_the_anchors_and_none_is_one_by_one(name: str) -> None:
    each, each_grads = call(name, S, NUMPY, reduction="none")
    total, sum_grads = call(name, S, NUMPY, reduction="sum")
    mean, mean_grads = call(name, S, NUMPY)
    assert each.shape == (4,)
    check_near(each.sum(), total, rtol=1e-15)
    check_near(mean * 4, total, rtol=1e-15)
    check_same_bits(each_grads, sum_grads)
    check_near(4 * flat(mean_grads), sum_grads, rtol=1e-14)
    alone = [call(name, row[None, :], NUMPY, positive=np.array([i]))[0] for i, row in enumerate(S)]
    check_near(np.array(alone), each, rtol=1e-14)


@every_loss_of_similarities
def test_an_anchor_without_negatives_costs_nothing_to_learn(name: str, backend: Backend) -> None:
    """Loss and gradient 0, never NaN; of the simple losses, whose pull does not depend on negatives, −s⁺."""
    ignore = np.zeros((4, 7), dtype=bool)
    ignore[2] = True
    value, grads = call(name, S, backend, ignore=backend.array(ignore), reduction="none")
    simple = "simple" in name
    assert value[2] == (np.asarray(-S[2, 2]).astype(backend.dtype) if simple else 0.0)
    assert grads[0][2].tolist() == [0.0, 0.0, -1.0 if simple else 0.0, 0.0, 0.0, 0.0, 0.0]
    assert all(np.isfinite(g).all() for g in grads)
    alone, alone_grads = call(name, S[:1, :1], backend)
    assert np.isfinite(alone)
    assert alone_grads[0].tolist() == [[-1.0 if simple else 0.0]]


@every_loss_of_similarities
def test_what_is_ignored_changes_nothing(name: str) -> None:
    base = call(name, S, NUMPY, positive=POSITIVE, ignore=IGNORE)
    role = np.arange(7) == POSITIVE[:, None]
    other = np.where(IGNORE & ~role, 0.99, S)
    assert (other != S).any()
    check_same_bits(call(name, other, NUMPY, positive=POSITIVE, ignore=IGNORE), base)


@every_loss_of_similarities
def test_leaving_out_a_column_is_ignoring_it(name: str) -> None:
    ignore = np.zeros((4, 7), dtype=bool)
    ignore[:, 5] = True
    value, grads = call(name, S, NUMPY, ignore=ignore)
    fewer, fewer_grads = call(name, np.delete(S, 5, axis=1), NUMPY)
    check_near(value, fewer, rtol=1e-14)
    check_near(np.delete(grads[0], 5, axis=1), fewer_grads[0], rtol=1e-14)
    assert not grads[0][:, 5].any()


def test_all_similarities_equal_is_the_log_of_the_number_of_candidates(backend: Backend) -> None:
    loss, grads = refcl.softmax_contrastive(backend.array(np.full((3, 8), 0.25)), 0.07)
    check_near(backend.host(loss), math.log(8), rtol=2 * EPS[backend.dtype])
    assert float(backend.host(grads.dtemperature)) == 0.0


def test_the_positive_s_probability_is_the_exponential_of_minus_the_loss() -> None:
    loss, grads = refcl.softmax_contrastive(S, 0.3, reduction="none")
    probability = np.exp(S / 0.3) / np.exp(S / 0.3).sum(axis=1, keepdims=True)
    check_near(np.exp(-loss), np.diagonal(probability), rtol=1e-14)
    check_near(grads.ds, (probability - np.eye(4, 7)) / 0.3, rtol=1e-13)


def test_the_derivative_by_the_temperature_is_the_gradient_along_the_similarities() -> None:
    """The loss is a function of s/τ: ∂L/∂τ = −(1/τ) Σ s ∂L/∂s."""
    _, grads = refcl.softmax_contrastive(S, 0.3)
    check_near(grads.dtemperature, -np.sum(S * grads.ds) / 0.3, rtol=1e-13)


def test_scaling_similarities_and_temperature_alike_changes_nothing() -> None:
    check_same_bits(refcl.softmax_contrastive(4 * S, 1.2)[0], refcl.softmax_contrastive(S, 0.3)[0])


def test_hinges_and_ties_of_the_triplet() -> None:
    s = np.array([[0.5, 0.5, 0.25], [0.75, 0.25, 0.75]])
    value, grads = refcl.triplet(s, reduction="none")
    assert value.tolist() == [0.0, 0.5]
    assert grads.ds.tolist() == [[0.0, 0.0, 0.0], [0.5, -1.0, 0.5]]


@pytest.mark.parametrize("hardest", [1.0, 6, 100])
@pytest.mark.parametrize(
    ("hard", "ordinary", "number"),
    [("hard_softmax_contrastive", "softmax_contrastive", 0.2), ("hard_simple_contrastive", "simple_contrastive", None)],
)
def test_all_of_the_hardest_is_the_ordinary_loss(hard: str, ordinary: str, number: Any, hardest: float) -> None:
    value, grads = core_pairs()[hard](S, number, hardest=hardest)
    check_same_bits((value, tuple(grads)), tuple(map(tuple_of, core_pairs()[ordinary](S, number))))


def tuple_of(x: Any) -> Any:
    return tuple(x) if isinstance(x, tuple) else x


def test_the_single_hardest_is_the_triplet_s_negative() -> None:
    hard = refcl.hard_softmax_contrastive(S, 0.2, hardest=1, reduction="sum")[1].ds
    nearest = refcl.triplet(S, margin=4.0, reduction="sum")[1].ds
    assert ((hard != 0) == (nearest != 0)).all()


def test_the_default_weight_is_one_over_the_number_of_negatives() -> None:
    ignore = np.zeros((4, 7), dtype=bool)
    ignore[0, 1:4] = True
    _, grads = refcl.simple_contrastive(S, ignore=ignore, reduction="sum")
    check_near(grads.ds[0, 4:], np.full(3, 1 / 3), rtol=1e-15)
    check_near(grads.ds[1, 2:], np.full(5, 1 / 6), rtol=1e-15)
    _, kept = refcl.hard_simple_contrastive(S, hardest=2, reduction="sum")
    assert sorted(set(kept.ds.ravel().tolist())) == [-1.0, 0.0, 0.5]


def test_without_a_weight_dweight_is_by_an_amount_added_to_every_anchor_s() -> None:
    value, grads = refcl.simple_contrastive(S)
    moved = [refcl.simple_contrastive(S, 1 / 6 + h)[0] for h in (-1e-3, 1e-3)]
    check_near(grads.dweight, (moved[1] - moved[0]) / 2e-3, rtol=1e-11)
    check_near(refcl.simple_contrastive(S, 1 / 6)[0], value, rtol=1e-14)


def test_the_author_s_average_over_all_candidates_is_this_loss_but_for_a_factor() -> None:
    """−s_p + mean of all M candidates = (M − 1)/M of the loss with λ = 1/(M − 1)."""
    theirs = np.mean(-np.diagonal(S) + S.mean(axis=1))
    check_near(6 / 7 * refcl.simple_contrastive(S)[0], theirs, rtol=1e-14)


def cosines(a: Any, b: Any) -> Any:
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


@every_loss_of_embeddings
def test_losses_of_embeddings_are_those_of_cosines(name: str) -> None:
    scalars, settings = ON_SIMILARITIES[ON_EMBEDDINGS[name]]
    value, grads = core_pairs()[name](QUERY, KEY, *scalars, positive=POSITIVE, ignore=IGNORE, **settings)
    want, want_grads = call(ON_EMBEDDINGS[name], cosines(QUERY, KEY), NUMPY, positive=POSITIVE, ignore=IGNORE)
    check_near(value, want, rtol=1e-14)
    check_near(grads[2], want_grads[1], rtol=1e-13)


@every_loss_of_embeddings
def test_without_normalizing_similarities_are_inner_products(name: str) -> None:
    scalars, settings = ON_SIMILARITIES[ON_EMBEDDINGS[name]]
    value, grads = core_pairs()[name](QUERY, KEY, *scalars, normalize=False, **settings)
    want, want_grads = call(ON_EMBEDDINGS[name], QUERY @ KEY.T, NUMPY)
    check_near(value, want, rtol=1e-14)
    check_near(tuple(grads)[:2], (want_grads[0] @ KEY, want_grads[0].T @ QUERY), rtol=1e-13)


@every_loss_of_embeddings
def test_gradients_of_normalized_rows_are_at_right_angles_to_them(name: str) -> None:
    scalars, settings = ON_SIMILARITIES[ON_EMBEDDINGS[name]]
    _, grads = core_pairs()[name](QUERY, KEY, *scalars, **settings)
    for rows, gradient in ((QUERY, grads.dquery), (KEY, grads.dkey)):
        assert np.abs(np.sum(rows * gradient, axis=1)).max() < 1e-14
        assert np.abs(gradient).max() > 1e-3


def test_more_keys_than_queries_are_negatives_shared_by_all() -> None:
    """MoCo: the first N keys are the positives, the rest a queue."""
    _, grads = refcl.info_nce(QUERY, KEY, 0.2, reduction="sum")
    ds = refcl.softmax_contrastive(cosines(QUERY, KEY), 0.2, reduction="sum")[1].ds
    assert (ds[:, 4:] > 0).all()
    assert np.abs(grads.dkey[4:]).min() > 0


def test_nt_xent_has_both_views_rows_as_candidates() -> None:
    z = np.concatenate([A, B])
    s = cosines(z, z)
    loss = [
        -s[i, (i + 5) % 10] / 0.4 + math.log(sum(math.exp(s[i, k] / 0.4) for k in range(10) if k != i))
        for i in range(10)
    ]
    check_near(refcl.nt_xent(A, B, 0.4, reduction="none")[0], np.array(loss), rtol=1e-14)
    check_near(refcl.nt_xent(A, B, 0.4)[0], np.mean(loss), rtol=1e-14)


def test_nt_xent_is_info_nce_of_the_stacked_rows() -> None:
    z = np.concatenate([A, B])
    row = np.arange(10)
    value, grads = refcl.info_nce(z, z, 0.4, positive=(row + 5) % 10, ignore=np.eye(10, dtype=bool))
    got, got_grads = refcl.nt_xent(A, B, 0.4)
    check_near(got, value, rtol=1e-15)
    check_near(np.concatenate([got_grads.da, got_grads.db]), grads.dquery + grads.dkey, rtol=1e-14)


def test_nt_xent_of_one_pair_has_no_negatives(backend: Backend) -> None:
    loss, grads = refcl.nt_xent(backend.array(A[:1]), backend.array(B[:1]), 0.4)
    assert float(backend.host(loss)) == 0.0
    assert not any(backend.host(g).any() for g in grads)


def test_nt_xent_of_identical_embeddings_is_the_log_of_the_number_of_candidates() -> None:
    same = np.tile(A[:1], (6, 1))
    check_near(refcl.nt_xent(same, same, 0.1)[0], math.log(11), rtol=1e-14)


def test_nt_xent_ignores_what_it_is_told() -> None:
    ignore = np.zeros((10, 10), dtype=bool)
    ignore[:, [1, 6]] = True
    ignore[[1, 6]] = False
    kept = [0, 2, 3, 4]
    each = refcl.nt_xent(A, B, 0.4, ignore=ignore, reduction="none")[0]
    fewer = refcl.nt_xent(A[kept], B[kept], 0.4, reduction="none")[0]
    check_near(each[[0, 2, 3, 4, 5, 7, 8, 9]], fewer, rtol=1e-14)


def test_clip_is_the_mean_of_both_directions() -> None:
    scale = math.log(1 / 0.07)
    value, grads = refcl.clip(A, B, scale)
    forth, forth_grads = refcl.info_nce(A, B, 0.07)
    back, back_grads = refcl.info_nce(B, A, 0.07)
    check_near(value, (forth + back) / 2, rtol=1e-14)
    check_near(grads.dimage, (forth_grads.dquery + back_grads.dkey) / 2, rtol=1e-13)
    check_near(grads.dtext, (forth_grads.dkey + back_grads.dquery) / 2, rtol=1e-13)
    check_near(grads.dlog_scale, -0.07 * (forth_grads.dtemperature + back_grads.dtemperature) / 2, rtol=1e-13)


def test_clip_reports_images_first_then_texts() -> None:
    each = refcl.clip(A, B, 2.0, reduction="none")[0]
    tau = math.exp(-2.0)
    check_near(each[0], refcl.info_nce(A, B, tau, reduction="none")[0], rtol=1e-14)
    check_near(each[1], refcl.info_nce(B, A, tau, reduction="none")[0], rtol=1e-14)


def test_clip_ignores_a_pair_in_both_directions() -> None:
    ignore = np.zeros((5, 5), dtype=bool)
    ignore[1, 3] = True
    each = refcl.clip(A, B, 2.0, ignore=ignore, reduction="none")[0]
    plain = refcl.clip(A, B, 2.0, reduction="none")[0]
    assert np.argwhere(each != plain).tolist() == [[0, 1], [1, 3]]


def test_a_zero_row_has_a_finite_loss_and_gradient(backend: Backend) -> None:
    """Its cosines are 0; its gradient is that of a row of length eps."""
    query = QUERY.copy()
    query[1] = 0.0
    loss, grads = refcl.info_nce(backend.array(query), backend.array(KEY), 0.2, eps=1e-6)
    assert np.isfinite(backend.host(loss))
    assert all(np.isfinite(backend.host(g)).all() for g in grads)


@pytest.mark.parametrize("temperature", [1e-3, 0.01])
def test_antipodal_embeddings_at_a_small_temperature(temperature: float, backend: Backend) -> None:
    """A loss of 2/τ, which a finite mask constant or a raw exponential would spoil."""
    query, key = np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0], [1.0, 0.0]])
    loss, grads = refcl.info_nce(backend.array(query), backend.array(key), temperature)
    check_near(backend.host(loss), 2 / temperature, rtol=8 * EPS[backend.dtype])
    assert all(np.isfinite(backend.host(g)).all() for g in grads)


def test_nan_in_nan_out() -> None:
    s = S.copy()
    s[1, 4] = np.nan
    loss, grads = refcl.softmax_contrastive(s, 0.2, reduction="none")
    assert np.isnan(loss).tolist() == [False, True, False, False]
    assert np.isfinite(grads.ds[[0, 2, 3]]).all()
