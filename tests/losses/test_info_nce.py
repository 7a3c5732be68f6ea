"""The softmax contrastive loss, of similarities and of embeddings."""

import math
from functools import partial
from typing import Any

import cards
import numpy as np
import pytest
from backends import EPS, Backend, check_near, check_same_bits, leaves
from cards import KEY, MEMORY, QUERY, Card, S, drawn, on_embeddings, on_similarities, roles, scalar, unit, variants
from digits import cosines as exact_cosines
from digits import dominated, everyone, exact, row, soft_value, softmax_truth, softmax_value
from goldens import OF_EMBEDDINGS, TEMPERATURES, embeddings, freedoms, golden, query_and_key, similarities
from loops import softmax_of_embeddings, softmax_of_targets
from mpmath import mp, mpf
from peers import BANK, COSINES, F, X, Y, check_same, derived, of_jax, of_torch, torch

import refcl

KEYS = np.concatenate([KEY, MEMORY[:3]])


def golden_of_similarities() -> Any:
    for kind, temperatures in TEMPERATURES.items():
        for tau in temperatures:
            value = partial(softmax_value, who=everyone(3, 4))
            yield golden("softmax_contrastive", [similarities(kind), tau], value, exact_s=True)

    for kind, tau in (("plain", 0.07), ("dominated", 0.01), ("hard", 0.5)):
        yield golden("softmax_contrastive", [similarities(kind), tau, *freedoms(3, 4)], soft_value, exact_s=True)
    for kind, margin, angle in (("plain", 0.25, 0.0), ("dominated", 0.0, 0.5), ("hard", 0.125, 0.5)):
        lowered = partial(lowered_value, margin=margin, angle=angle)
        settings = {"margin": margin, "angular_margin": angle}
        yield golden("softmax_contrastive", [similarities(kind), 0.07], lowered, exact_s=True, **settings)


def lowered_value(s: Any, tau: Any, margin: float, angle: float) -> Any:
    """Return the loss with the diagonal's cosines lowered: past π by a line."""
    s = [list(s_i) for s_i in s]
    for i, s_i in enumerate(s):
        turned = mp.acos(s_i[i]) + mpf(angle)
        s_i[i] = (mp.cos(turned) if turned <= mp.pi else s_i[i] - mpf(angle) * mp.sin(mpf(angle))) - mpf(margin)
    return softmax_value(s, tau, everyone(3, 4))


def with_own(query: Any, key: Any, tau: Any, own: Any, *more: Any) -> Any:
    """Return the loss of two anchors and three shared candidates, each with own negatives of weight 1."""
    weight, targets, each = more
    none = [mpf(0)] * len(own[0])
    pairs = zip(exact_cosines(query, key), query, own, strict=True)
    s = [[*s_i, *exact_cosines([q], own_i)[0]] for s_i, q, own_i in pairs]
    return soft_value(s, tau, [[*w, *none] for w in weight], [[*t, *none] for t in targets], each)


def golden_of_embeddings() -> Any:
    for kind in OF_EMBEDDINGS:
        for tau in (0.05, 20.0):
            yield golden(
                "info_nce",
                [*query_and_key(kind), tau],
                lambda q, k, t: softmax_value(exact_cosines(q, k), t, everyone(2, 3)),
                exact_s=False,
            )
    own = embeddings("plain", 4).reshape(2, 2, 2)
    for kind in OF_EMBEDDINGS:
        yield golden("info_nce", [*query_and_key(kind), 0.05, own, *freedoms(2, 3)], with_own, exact_s=False)


CARDS = [
    Card(
        refcl.softmax_contrastive,
        [
            *variants(on_similarities, scalar(0.2)),
            ("cold", on_similarities(scalar(0.03))),
            ("hot", on_similarities(scalar(30.0))),
            ("smoothed", on_similarities(scalar(0.3), roles=roles, label_smoothing=0.1, margin=0.2)),
            *[(name, on_similarities(scalar(0.3), *more, **how)) for name, more, how in cards.freedoms("N", "M")],
        ],
        softmax_of_targets,
        golden_of_similarities,
    ),
    Card(
        refcl.info_nce,
        [
            *variants(on_embeddings, scalar(0.2)),
            ("as-they-are", on_embeddings(scalar(0.7), normalize=False)),
            *[(name, on_embeddings(scalar(0.3), *more, **how)) for name, more, how in cards.freedoms("N", "M", "N")],
            ("own-as-they-are", on_embeddings(scalar(2.0), drawn("N H D"), roles=roles, normalize=False)),
        ],
        softmax_of_embeddings,
        golden_of_embeddings,
    ),
]


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


def test_more_keys_than_queries_are_negatives_shared_by_all() -> None:
    """MoCo: the first N keys are the positives, the rest a queue."""
    _, grads = refcl.info_nce(QUERY, KEYS, 0.2, reduction="sum")
    ds = refcl.softmax_contrastive(unit(QUERY) @ unit(KEYS).T, 0.2, reduction="sum")[1].ds
    assert (ds[:, 4:] > 0).all()
    assert np.abs(grads.dkey[4:]).min() > 0


def test_a_zero_row_has_a_finite_loss_and_gradient(backend: Backend) -> None:
    """Its cosines are 0; its gradient is that of a row of length eps."""
    query = QUERY.copy()
    query[1] = 0.0
    loss, grads = refcl.info_nce(backend.array(query), backend.array(KEYS), 0.2, eps=1e-6)
    assert np.isfinite(backend.host(loss))
    assert all(np.isfinite(backend.host(g)).all() for g in leaves(tuple(grads)))


@pytest.mark.parametrize("temperature", [1e-3, 0.01])
def test_antipodal_embeddings_at_a_small_temperature(temperature: float, backend: Backend) -> None:
    """A loss of 2/τ, which a finite mask constant or a raw exponential would spoil."""
    query, key = np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0], [1.0, 0.0]])
    loss, grads = refcl.info_nce(backend.array(query), backend.array(key), temperature)
    check_near(backend.host(loss), 2 / temperature, rtol=8 * EPS[backend.dtype])
    assert all(np.isfinite(backend.host(g)).all() for g in leaves(tuple(grads)))


def test_nan_in_nan_out() -> None:
    s = S.copy()
    s[1, 4] = np.nan
    loss, grads = refcl.softmax_contrastive(s, 0.2, reduction="none")
    assert np.isnan(loss).tolist() == [False, True, False, False]
    assert np.isfinite(grads.ds[[0, 2, 3]]).all()


@pytest.mark.parametrize("temperature", [0.01, 0.07])
def test_a_positive_that_dominates_keeps_its_digits(temperature: float) -> None:
    """Where log-sum-exp less the positive is 0, or has lost most digits, the gap has all of them."""
    s = row(dominated, 33)
    naive = np.log(np.sum(np.exp((s - s.max()) / temperature))) + (s.max() - s[0, 0]) / temperature
    loss, grads = refcl.softmax_contrastive(s, temperature)
    truth = softmax_truth(exact(s[0].tolist()), 0, list(range(1, 33)), mpf(temperature))
    naive_error, error = (float(abs(mpf(float(got)) - truth.loss) / truth.loss) for got in (naive, loss))
    assert error < 1e-13
    assert naive_error > 50 * error
    assert grads.ds[0, 0] < 0


# Peers.

POSITIVE = np.array([8, 1, 0, 3, 3, 7])
_RNG = np.random.default_rng(18)
TARGETS, WEIGHTS, EACH = _RNG.dirichlet(np.ones(9), 6), _RNG.standard_normal((6, 9)), _RNG.uniform(0.5, 1.5, 6)


@of_torch
def test_softmax_contrastive_is_pytorch_s_cross_entropy() -> None:
    target = torch.tensor(POSITIVE)
    theirs = derived(lambda s, tau: torch.nn.functional.cross_entropy(s / tau, target), COSINES, 0.2)
    check_same(refcl.softmax_contrastive(COSINES, 0.2, positive=POSITIVE), theirs)


@of_torch
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_targets_and_weights_are_pytorch_s_cross_entropy_of_probabilities(smoothing: float) -> None:
    def theirs(s: Any, tau: Any, weight: Any, targets: Any, each: Any) -> Any:
        return (each * F.cross_entropy(s / tau + weight, targets, label_smoothing=smoothing, reduction="none")).mean()

    ours = refcl.softmax_contrastive(COSINES, 0.2, WEIGHTS, TARGETS, EACH, label_smoothing=smoothing)
    check_same(ours, derived(theirs, COSINES, 0.2, WEIGHTS, TARGETS, EACH))


@of_torch
def test_label_smoothing_of_one_positive_is_pytorch_s() -> None:
    target = torch.tensor(POSITIVE)
    theirs = derived(lambda s, tau: F.cross_entropy(s / tau, target, label_smoothing=0.1), COSINES, 0.2)
    check_same(refcl.softmax_contrastive(COSINES, 0.2, positive=POSITIVE, label_smoothing=0.1), theirs)


@of_torch
def test_own_negatives_are_more_columns_in_pytorch() -> None:
    own = np.random.default_rng(1).standard_normal((6, 3, 4))

    def theirs(query: Any, key: Any, tau: Any, own: Any) -> Any:
        z = F.normalize(query)
        s = torch.cat([z @ F.normalize(key).T, torch.einsum("nd,nhd->nh", z, F.normalize(own, dim=2))], dim=1)
        return F.cross_entropy(s / tau, torch.arange(6))

    check_same(refcl.info_nce(X, Y, 0.1, own), derived(theirs, X, Y, 0.1, own))


@of_torch
def test_sim_cse_s_hard_negatives_are_keys_with_a_weight() -> None:
    """As its trainer writes it: z3's similarities beside z2's, and a weight on each anchor's own hard negative."""
    hard = np.random.default_rng(2).standard_normal((6, 4))

    def theirs(z1: Any, z2: Any, z3: Any) -> Any:
        cosine = torch.nn.CosineSimilarity(dim=-1)
        s = torch.cat([cosine(z1[:, None], z2[None]) / 0.05, cosine(z1[:, None], z3[None]) / 0.05], 1)
        weights = torch.tensor(weight)
        return F.cross_entropy(s + weights, torch.arange(6))

    weight = np.concatenate([np.zeros((6, 6)), 0.7 * np.eye(6)], axis=1)
    value, grads = refcl.info_nce(X, np.concatenate([Y, hard]), 0.05, None, weight)
    dquery, dkey, *_ = grads
    check_same((value, (dquery, dkey[:6], dkey[6:])), derived(theirs, X, Y, hard))


@of_torch
@pytest.mark.parametrize(("name", "settings"), [("CosFaceLoss", {"margin": 0.2}), ("ArcFaceLoss", {"margin": 28.6})])
def test_margins_are_those_of_pytorch_metric_learning(name: str, settings: dict[str, float]) -> None:
    """Of a classifier: its classes are the candidates, and an anchor's own the positive."""
    losses = pytest.importorskip("pytorch_metric_learning.losses", reason="pytorch-metric-learning is not installed")
    loss = getattr(losses, name)(9, 4, scale=1 / 0.2, **settings)
    labels = torch.tensor(POSITIVE)

    def theirs(query: Any, key: Any) -> Any:
        del loss.W
        loss.W = key.T
        return loss(query, labels)

    ours = {"margin": 0.2} if name == "CosFaceLoss" else {"angular_margin": float(np.deg2rad(28.6))}
    value, grads = refcl.info_nce(X, BANK, 0.2, positive=POSITIVE, **ours)
    check_same((value, grads[:2]), derived(theirs, X, BANK))


@of_torch
def test_info_nce_is_pytorch_s_normalize_and_cross_entropy() -> None:
    functional = torch.nn.functional

    def info_nce(query: Any, key: Any, tau: Any) -> Any:
        logits = functional.normalize(query) @ functional.normalize(key).T / tau
        return functional.cross_entropy(logits, torch.arange(6))

    keys = np.concatenate([Y, BANK])
    check_same(refcl.info_nce(X, keys, 0.1), derived(info_nce, X, keys, 0.1))


@of_torch
def test_a_dominating_positive_loses_its_gradient_in_pytorch_not_here() -> None:
    """Why an oracle is not written with log-sum-exp less the positive."""
    s = np.array([[0.95, 0.1, -0.2]])
    theirs, (ds, _) = derived(
        lambda x, tau: torch.nn.functional.cross_entropy(x / tau, torch.zeros(1, dtype=torch.long)), s, 0.01
    )
    ours, grads = refcl.softmax_contrastive(s, 0.01)
    assert float(theirs) == 0.0
    assert ds[0, 0] == 0.0
    check_near(ours, np.exp(-85.0), rtol=1e-12)
    assert grads.ds[0, 0] < 0


@of_torch
def test_info_nce_is_the_package_s_of_that_name() -> None:
    package = pytest.importorskip("info_nce", reason="info-nce-pytorch is not installed")
    theirs = derived(lambda query, key: package.info_nce(query, key, temperature=0.1), X, Y)
    ours, grads = refcl.info_nce(X, Y, 0.1)
    check_same((ours, tuple(grads)[:2]), theirs)


@of_jax
def test_info_nce_is_jax_s(jax: Any) -> None:
    def info_nce(query: Any, key: Any, tau: Any) -> Any:
        z, other = (x / jax.numpy.linalg.norm(x, axis=1, keepdims=True) for x in (query, key))
        return -jax.numpy.mean(jax.numpy.diagonal(jax.nn.log_softmax(z @ other.T / tau, axis=1)))

    keys = np.concatenate([Y, BANK])
    value, grads = jax.value_and_grad(info_nce, argnums=(0, 1, 2))(X, keys, 0.1)
    check_same(refcl.info_nce(X, keys, 0.1), (np.asarray(value), tuple(map(np.asarray, grads))))


@of_jax
def test_second_derivatives_of_jax_agree_with_differences_of_our_gradient(jax: Any) -> None:
    """The Hessian in s is (diag P − P Pᵀ)/τ²: our gradient, differentiated, is symmetric and JAX's."""
    row = COSINES[:1]
    hessian = jax.hessian(lambda s: -jax.nn.log_softmax(s[0] / 0.3)[0])(row)[0, :, 0, :]
    steps = 1e-4 * np.eye(9)
    ahead, behind = (
        np.concatenate([refcl.softmax_contrastive(row + sign * h, 0.3)[1].ds for h in steps]) for sign in (1, -1)
    )
    ours = (ahead - behind) / 2e-4
    check_near(ours, np.asarray(hessian), rtol=1e-6)
