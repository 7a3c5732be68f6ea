"""A temperature for each anchor, and the one at which its relative penalties have a given entropy."""

from typing import Any

import numpy as np
from backends import check_near, check_same_bits
from cards import Builder, Built, Card, S, Sizes, few_ignored, on_similarities, roles, rows
from digits import (
    check_all_exact,
    cosines,
    derivatives,
    every_corner,
    everyone,
    exact,
    lse,
    mean,
    row,
    softmax_loss,
    span,
)
from goldens import OF_FAMILY, golden, independent_views, similarities
from loops import Matrix, of_embeddings, softmax_contrastive
from loops import temperature_for_entropy as temperature_in_loops
from mpmath import mp, mpf
from peers import COSINES, F, N, check_same, derived, of_torch, torch

import refcl
from refcl.hardness import penalty_entropy, temperature_for_entropy

TAU = 0.2


def fixed_entropy(s: Matrix, *, entropy: float, detach: bool = True, reduction: str = "mean", **who: Any) -> Any:
    return softmax_contrastive(s, temperature_in_loops(s, entropy, **who), reduction=reduction, **who)


def on_embeddings(**settings: Any) -> Builder:
    """Draw embeddings whose inner products differ, also in one dimension."""

    def build(rng: np.random.Generator, z: Sizes) -> Built:
        normalize = {"normalize": False} if z.d == 1 else {}
        return (rows(rng, z.n, z.d), rows(rng, z.m, z.d)), {**settings, **normalize}

    return build


def temperatures(rng: np.random.Generator, z: Sizes) -> Any:
    return rng.uniform(0.1, 0.8, z.n)


def per_anchor_value(s: Any, taus: Any, who: Any) -> Any:
    each = zip(s, taus, who, strict=True)
    return mean([mp.log1p(mp.exp(lse(s_i, others, tau) - s_i[p] / tau)) for s_i, tau, (p, others) in each])


def fixed_entropy_value(s: Any, who: Any) -> Any:
    """Return the loss at temperatures found by halving, and then by Newton's steps, to all digits."""

    def excess(s_i: Any, others: list[int], tau: Any) -> Any:
        total = lse(s_i, others, tau)
        return total - mp.fsum(mp.exp(s_i[k] / tau - total) * s_i[k] for k in others) / tau - 1

    taus = []
    for s_i, (_, others) in zip(s, who, strict=True):
        low, high = mpf("1e-2"), mpf(100)
        for _ in range(60):
            middle = mp.sqrt(low * high)
            low, high = (middle, high) if excess(s_i, others, middle) < 0 else (low, middle)
        taus.append(mp.findroot(lambda t, row=s_i, rest=others: excess(row, rest, t), (low, high)))
    return per_anchor_value(s, taus, who)


def golden_per_anchor() -> Any:
    for kind, tau in OF_FAMILY:
        taus = tau * np.array([1.0, 1.5, 0.8])
        inputs = [similarities(kind, 3, 5), taus]
        yield golden(
            "per_anchor_contrastive", inputs, lambda s, t: per_anchor_value(s, t, everyone(3, 5)), exact_s=True
        )


def golden_of_similarities() -> Any:
    for kind in ("plain", "dominated"):
        yield golden(
            "fixed_entropy_contrastive",
            [similarities(kind, 3, 5)],
            lambda s: fixed_entropy_value(s, everyone(3, 5)),
            exact_s=True,
            entropy=1.0,
            detach=False,
        )


def golden_of_embeddings() -> Any:
    query, key = independent_views("plain", 5)
    yield golden(
        "fixed_entropy",
        [query[:2], key],
        lambda q, k: fixed_entropy_value(cosines(q, k), everyone(2, 5)),
        exact_s=False,
        entropy=1.0,
        detach=False,
    )


CARDS = [
    Card(
        refcl.per_anchor_contrastive,
        [
            ("diagonal", on_similarities(temperatures)),
            ("roles", on_similarities(temperatures, roles=roles, reduction="none")),
        ],
        softmax_contrastive,
        golden_per_anchor,
    ),
    Card(
        refcl.fixed_entropy_contrastive,
        [
            ("diagonal", on_similarities(entropy=0.9, detach=False)),
            ("roles", on_similarities(entropy=0.7, detach=False, roles=few_ignored, reduction="none")),
        ],
        fixed_entropy,
        golden_of_similarities,
    ),
    Card(
        refcl.fixed_entropy,
        [("diagonal", on_embeddings(entropy=0.9, detach=False))],
        of_embeddings(fixed_entropy),
        golden_of_embeddings,
    ),
]


@every_corner
def test_per_anchor_is_exact(kind: Any, temperature: float) -> None:
    s = row(kind)
    got = refcl.per_anchor_contrastive(s, np.array([temperature]))
    (s_i,), negatives = exact(s.tolist()), list(range(1, 13))
    truth = derivatives(lambda at, tau: softmax_loss(at, 0, negatives, tau), s_i, temperature)
    by_tau = mp.fsum(abs(truth[1][k] * (s_i[k] - s_i[0])) for k in negatives) / mpf(temperature)
    check_all_exact((got[0], *got[1]), truth, (None, None, by_tau), span(s_i) / temperature)


def test_the_temperatures_of_a_fixed_entropy() -> None:
    s = S
    value, grads = refcl.fixed_entropy_contrastive(s, entropy=0.9, reduction="none")
    tau = temperature_for_entropy(s, 0.9)
    same, of_the_loss = refcl.per_anchor_contrastive(s, tau, reduction="none")
    check_same_bits((value, grads.ds), (same, of_the_loss.ds))
    _, let_through = refcl.fixed_entropy_contrastive(s, entropy=0.9, detach=False, reduction="none")
    assert np.linalg.norm(let_through.ds - grads.ds) > 1e-2 * np.linalg.norm(grads.ds)


def test_per_anchor_gradients_add_up_to_the_shared_one() -> None:
    s = S
    value, grads = refcl.softmax_contrastive(s, TAU)
    same, each = refcl.per_anchor_contrastive(s, np.full(len(S), TAU))
    check_near((same, each.ds, each.dtemperature.sum()), (value, grads.ds, grads.dtemperature), rtol=1e-14)


def test_the_entropy_is_what_was_asked_for() -> None:
    s = S
    tau = temperature_for_entropy(s, 1.1)
    for i in range(len(S)):
        check_near(penalty_entropy(s, tau[i])[i], 1.1, rtol=1e-12)


def test_the_gradient_leaves_the_entropy_alone_when_tau_is_let_through() -> None:
    """∂τ/∂s by differences of the solver itself."""
    s = S[:1, :6]
    _, cache = refcl.fixed_entropy_contrastive.forward(s, entropy=0.9, detach=False)
    for k in range(1, 6):
        moved = []
        for sign in (1, -1):
            at = s.copy()
            at[0, k] += sign * 1e-5
            moved.append(temperature_for_entropy(at, 0.9)[0])
        assert abs((moved[0] - moved[1]) / 2e-5 - cache.slope[0, k]) < 1e-7


@of_torch
def test_a_temperature_an_anchor_under_autograd() -> None:
    temperatures = np.linspace(0.1, 0.6, N)
    want = derived(lambda s, tau: F.cross_entropy(s / tau[:, None], torch.arange(N)), COSINES, temperatures)
    check_same(refcl.per_anchor_contrastive(COSINES, temperatures), want)
