"""What every loss of similarities, and of embeddings, promises: what counts, what is reduced, what detaches."""

from typing import Any

import numpy as np
import pytest
from backends import Backend, check_near, check_same_bits, flat, leaves
from cards import KEY, MEMORY, QUERY, S, both, roles, unit
from cases import core_pairs

import refcl

N, M = S.shape
WHO = roles(np.random.default_rng(12), N, M)
POSITIVE, IGNORE = WHO["positive"], WHO["ignore"]
IS_POSITIVE = np.arange(M) == POSITIVE[:, None]
FRIENDS = np.eye(N, M, dtype=bool)
FRIENDS[:2, -2] = True

# A loss of similarities, its numbers and its settings.
LOSSES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "softmax": ("softmax_contrastive", (0.2,), {}),
    "hard softmax": ("hard_softmax_contrastive", (0.2,), {"hardest": 3}),
    "simple": ("simple_contrastive", (0.6,), {}),
    "hard simple": ("hard_simple_contrastive", (0.6,), {"hardest": 3}),
    "triplet": ("triplet", (), {"margin": 0.5}),
    "semi-hard triplet": ("semi_hard_triplet", (), {"margin": 0.5}),
    "decoupled": ("decoupled_contrastive", (0.2,), {}),
    "weighted decoupled": ("weighted_decoupled_contrastive", (0.2,), {}),
    "reweighted": ("reweighted_contrastive", (0.2,), {"tau_plus": 0.1, "beta": 1.0}),
    "plain reweighted": ("reweighted_contrastive", (0.2,), {"tau_plus": 0.0}),
    "detached reweighted": ("reweighted_contrastive", (0.2,), {"tau_plus": 0.1, "beta": 1.0, "detach": True}),
    "model-aware": ("model_aware_contrastive", (0.2,), {}),
    "model-aware, let through": ("model_aware_contrastive", (0.2,), {"detach": False}),
    "per anchor": ("per_anchor_contrastive", (np.linspace(0.1, 0.5, N),), {}),
    "fixed entropy": ("fixed_entropy_contrastive", (), {"entropy": 0.9, "detach": False}),
    "supervised": ("supervised_contrastive", (0.2,), {"positives": FRIENDS}),
}
SHARED = {"weighted decoupled", "model-aware", "model-aware, let through"}  # a weight or a temperature of all anchors
LINEAR = {"simple", "hard simple"}  # whose pull does not depend on negatives
every_loss = pytest.mark.parametrize("name", LOSSES)
with_roles = pytest.mark.parametrize("name", [name for name in LOSSES if name != "supervised"])
of_one_positive = pytest.mark.parametrize(
    "name", [name for name in LOSSES if name not in {"supervised", "fixed entropy"}]
)
NUMPY = Backend("numpy", np, "float64")

# Of each loss of embeddings in one direction, that of similarities that it is.
ON_EMBEDDINGS = {
    "info_nce": "softmax",
    "hard_info_nce": "hard softmax",
    "simple_loss": "simple",
    "hard_simple_loss": "hard simple",
    "fixed_entropy": "fixed entropy",
}
every_loss_of_embeddings = pytest.mark.parametrize("name", ON_EMBEDDINGS)
KEYS = np.concatenate([KEY, MEMORY[:3]])


def call(name: str, s: Any, backend: Backend = NUMPY, **settings: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return value and gradients of a loss of similarities, on the host."""
    loss, numbers, own = LOSSES[name]
    inputs = [backend.array(x[: len(s)]) if isinstance(x, np.ndarray) else x for x in numbers]
    made = {k: backend.array(v) if isinstance(v, np.ndarray) else v for k, v in {**own, **settings}.items()}
    value, grads = core_pairs()[loss](backend.array(s), *inputs, **made)
    return backend.host(value), backend.hosts(tuple(grads))


@every_loss
def test_the_mean_is_the_sum_over_the_anchors_and_none_is_one_by_one(name: str) -> None:
    each, each_grads = call(name, S, reduction="none")
    total, sum_grads = call(name, S, reduction="sum")
    mean, mean_grads = call(name, S)
    assert each.shape == (N,)
    check_near(each.sum(), total, rtol=1e-14)
    check_near(mean * N, total, rtol=1e-14)
    check_same_bits(each_grads, sum_grads)
    check_near(N * flat(mean_grads), sum_grads, rtol=1e-13)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in SHARED | {"supervised", "per anchor"}])
def test_an_anchor_s_loss_is_its_own(name: str) -> None:
    alone = [call(name, row[None, :], positive=np.array([i]))[0] for i, row in enumerate(S)]
    check_near(np.array(alone), call(name, S, reduction="none")[0], rtol=1e-13)


@of_one_positive
def test_an_anchor_without_negatives_costs_nothing_to_learn(name: str, backend: Backend) -> None:
    """Loss and gradient 0, never NaN; of the simple losses −s⁺. Its positive still moves what all anchors share."""
    ignore = np.zeros((N, M), dtype=bool)
    ignore[2] = True
    value, grads = call(name, S, backend, ignore=ignore, reduction="none")
    assert value[2] == (np.asarray(-S[2, 2]).astype(backend.dtype) if name in LINEAR else 0.0)
    moved = name in SHARED and name != "model-aware"
    if not moved:
        assert grads[0][2].tolist() == [0.0, 0.0, -1.0 if name in LINEAR else 0.0, 0.0, 0.0, 0.0, 0.0]
    assert not np.delete(grads[0][2], 2).any()
    assert bool(grads[0][2, 2]) is (moved or name in LINEAR)
    assert all(np.isfinite(g).all() for g in leaves(tuple(grads)))
    _, alone = call(name, S[:1, :1], backend)
    assert alone[0].tolist() == [[-1.0 if name in LINEAR else 0.0]]


@with_roles
@pytest.mark.parametrize("filled", [0.99, np.nan])
def test_what_is_ignored_may_hold_anything(name: str, filled: float) -> None:
    ignore = IGNORE.copy()
    ignore[:, :3] &= ~(IGNORE.sum(axis=1) > 3)[:, None]  # at least three negatives
    other = np.where(ignore & ~IS_POSITIVE, filled, S)
    settings = {"positive": POSITIVE, "ignore": ignore}
    check_same_bits(call(name, other, **settings), call(name, S, **settings))
    assert not np.array_equal(other, S)


def test_what_is_ignored_may_hold_anything_beside_several_positives() -> None:
    ignore = np.zeros((N, M), dtype=bool)
    ignore[:, -1] = True
    for filled in (np.nan, 0.99):
        got = call("supervised", np.where(ignore, filled, S), ignore=ignore)
        check_same_bits(got, call("supervised", S, ignore=ignore))


@every_loss
def test_a_similarity_of_minus_infinity_counts_for_nothing(name: str) -> None:
    if name in LINEAR | {"semi-hard triplet"}:
        pytest.skip("a sum of similarities, or the nearest below the positive")
    ignore = np.zeros((N, M), dtype=bool)
    ignore[:, -1] = True
    check_near(call(name, np.where(ignore, -np.inf, S)), call(name, S, ignore=ignore), rtol=0.0)


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_neither_turns_the_gradient(value: float) -> None:
    ignore = np.zeros((N, M), dtype=bool)
    ignore[:, -1] = True
    s, settings = np.where(ignore, value, S), {} if np.isinf(value) else {"ignore": ignore}
    got = refcl.hessian_vector_product(s, S, 0.2, **settings)
    check_near(got, refcl.hessian_vector_product(S, S, 0.2, ignore=ignore), rtol=0.0)


@every_loss
def test_leaving_out_a_column_is_ignoring_it(name: str) -> None:
    ignore = np.zeros((N, M), dtype=bool)
    ignore[:, -1] = True
    value, grads = call(name, S, ignore=ignore)
    fewer = {"positives": FRIENDS[:, :-1]} if name == "supervised" else {}
    want, want_grads = call(name, S[:, :-1], **fewer)
    check_near(value, want, rtol=1e-14)
    check_near(grads[0][:, :-1], want_grads[0], rtol=1e-14)
    assert not grads[0][:, -1].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name in LOSSES if name not in LINEAR | {"fixed entropy"}])
def test_a_temperature_at_which_exponentials_overflow_is_no_trouble(name: str, dtype: str) -> None:
    loss, numbers, settings = LOSSES[name]
    s = np.array([[-0.9, 0.9, 0.95, -0.99], [0.1, 0.99, -0.5, -0.6]], dtype=dtype)
    number = [np.full(2, 1e-3, dtype=dtype) if isinstance(x, np.ndarray) else 1e-3 for x in numbers]
    positives = np.array([[True, False, False, True], [True, True, False, False]])
    own = {**settings, **({"positives": positives} if name == "supervised" else {})}
    if name == "weighted decoupled":
        own["sigma"] = 1e-3
    value, grads = core_pairs()[loss](s, *number, **own)
    assert value.dtype == dtype
    assert np.isfinite(value)
    assert all(np.isfinite(x).all() for x in leaves(tuple(grads)))


# Losses of embeddings.


def of_embeddings(name: str, **settings: Any) -> tuple[Any, Any]:
    _, numbers, own = LOSSES[ON_EMBEDDINGS[name]]
    return core_pairs()[name](QUERY, KEYS, *numbers, **own, **settings)


@every_loss_of_embeddings
def test_losses_of_embeddings_are_those_of_cosines(name: str) -> None:
    value, grads = of_embeddings(name, positive=POSITIVE)
    want, want_grads = call(ON_EMBEDDINGS[name], unit(QUERY) @ unit(KEYS).T, positive=POSITIVE)
    check_near(value, want, rtol=1e-13)
    check_near(tuple(grads)[2:], want_grads[1:], rtol=1e-13)


@every_loss_of_embeddings
def test_without_normalizing_similarities_are_inner_products(name: str) -> None:
    value, grads = of_embeddings(name, normalize=False)
    want, want_grads = call(ON_EMBEDDINGS[name], QUERY @ KEYS.T)
    check_near(value, want, rtol=1e-13)
    check_near(tuple(grads)[:2], (want_grads[0] @ KEYS, want_grads[0].T @ QUERY), rtol=1e-12)


@every_loss_of_embeddings
def test_gradients_of_normalized_rows_are_at_right_angles_to_them(name: str) -> None:
    _, grads = of_embeddings(name)
    for rows, gradient in ((QUERY, grads.dquery), (KEYS, grads.dkey)):
        assert np.abs(np.sum(rows * gradient, axis=1)).max() < 1e-14
        assert np.abs(gradient).max() > 1e-3


OF_TWO_VIEWS: list[tuple[str, dict[str, Any]]] = [
    ("nt_xent", {}),
    ("dcl", {}),
    ("dcl", {"negatives": "by_view", "add_views": True}),
    ("dclw", {}),
    ("debiased", {"tau_plus": 0.1}),
    ("hcl", {"tau_plus": 0.1, "beta": 1.0}),
    ("macl", {}),
    ("macl", {"candidates": "other_view", "detach": False}),
]


@pytest.mark.parametrize(("name", "settings"), OF_TWO_VIEWS)
def test_a_batch_of_one_has_no_negatives(name: str, settings: Any) -> None:
    value, grads = core_pairs()[name](np.array([[1.0, 2.0]]), np.array([[0.5, -1.0]]), 0.3, **settings)
    assert value == 0.0
    assert not any(np.any(x) for x in leaves(tuple(grads)))


@pytest.mark.parametrize(("name", "settings"), [("dclw", {}), ("hcl", {"tau_plus": 0.1, "beta": 1.0}), ("macl", {})])
def test_detaching_leaves_the_value(name: str, settings: Any) -> None:
    pair = core_pairs()[name]
    (first, held), (second, through) = (both(pair(QUERY, KEY, 0.3, detach=d, **settings)) for d in (True, False))
    assert first == second
    assert np.max(np.abs(held[0] - through[0])) > 1e-3
