"""How the gradient of a loss of similarities turns along a direction."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backends import check_near
from cards import Card, S, Sizes, on_similarities, roles, scalar, without_negatives
from digits import check_exact, every_corner, exact, lse, row, softmax, span
from loops import Matrix
from loops import roles as roles_of
from mpmath import mp, mpf
from peers import COSINES, NEAR, F, N, of_torch, torch

import refcl

TAU = 0.2


def hessian_vector_product(
    s: Matrix, v: Matrix, temperature: float, *, penalty: str = "softplus", reduction: str = "mean", **who: Any
) -> Matrix:
    """Return (P∘v − P⟨P, v⟩)/τ², P over the negatives and, for the softplus, the positive."""
    out = []
    for s_i, v_i, (p, others) in zip(s, v, roles_of(s, **who), strict=True):
        counted = [p, *others] if penalty == "softplus" else others
        powers = {k: math.exp(s_i[k] / temperature) for k in counted}
        share = {k: power / sum(powers.values()) for k, power in powers.items()}
        mean = sum(share[k] * v_i[k] for k in counted)
        # The identity has P⁺ in no denominator, so that v enters by its difference from 0 alone.
        row = [share[k] * (v_i[k] - mean) / temperature**2 if k in share else 0.0 for k in range(len(s_i))]
        out.append([x / len(s) for x in row] if reduction == "mean" else row)
    return out


def direction(rng: np.random.Generator, z: Sizes) -> Any:
    return rng.standard_normal((z.n, z.m))


CARDS = [
    Card(
        refcl.hessian_vector_product,
        [
            case
            for penalty in ("softplus", "identity")
            for case in (
                (penalty, on_similarities(direction, scalar(0.2), penalty=penalty)),
                (
                    f"{penalty}-hardest",
                    on_similarities(direction, scalar(0.3), penalty=penalty, hardest=0.4, roles=roles, reduction="sum"),
                ),
            )
        ],
        hessian_vector_product,
    )
]


@pytest.mark.parametrize("penalty", ["softplus", "identity"])
@every_corner
def test_second_order_is_exact(kind: Any, temperature: float, penalty: str) -> None:
    """Also where the positive dominates: P⁺(v⁺ − ⟨P, v⟩) of a P⁺ that rounds to 1 would be a difference of nothing."""
    s, v = row(kind), np.random.default_rng(5).standard_normal((1, 13))
    got = refcl.hessian_vector_product(s, v, temperature, penalty=penalty)
    ((s_i,), (v_i,)) = exact(s.tolist()), exact(v.tolist())
    negatives, tau, ratio = list(range(1, 13)), mpf(temperature), span(exact(s.tolist())[0]) / temperature
    with mp.workdps(400):
        r = softmax(s_i, negatives, tau)
        sigma, rest = mpf(1), mpf(0)
        if penalty == "softplus":
            x = mp.exp(lse(s_i, negatives, tau) - s_i[0] / tau)
            sigma, rest = x / (1 + x), 1 / (1 + x)
        share = {0: rest} | {k: sigma * r[k] for k in negatives}
        u = {k: abs(v_i[k] - v_i[0]) for k in negatives}
        mean_size = mp.fsum(r[k] * u[k] for k in negatives)
        mean = mp.fsum(share[k] * v_i[k] for k in share)
        want = [share[k] * (v_i[k] - mean) / tau**2 for k in range(13)]
    for k in range(13):
        size = sigma * rest * mean_size if k == 0 else sigma * r[k] * (u[k] + sigma * mean_size)
        check_exact(got[0, k], want[k], size / tau**2, 2 * ratio, f"product[{k}]")


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
def test_it_is_how_our_own_gradient_turns(penalty: str, pair: Any, settings: Any, reduction: str) -> None:
    s, rng = S, np.random.default_rng(4)
    v = rng.standard_normal(s.shape)
    roles = {"positive": np.array([2, 0, 5, 1]), "ignore": rng.uniform(size=s.shape) < 0.2}
    product = refcl.hessian_vector_product(s, v, TAU, penalty=penalty, reduction=reduction, **settings, **roles)

    def gradient_at(t: float) -> Any:
        return pair(s + t * v, TAU, reduction=reduction, **settings, **roles)[1].ds

    h = 3e-4
    turned = (8 * (gradient_at(h) - gradient_at(-h)) - (gradient_at(2 * h) - gradient_at(-2 * h))) / (12 * h)
    check_near(product, turned, rtol=1e-8)
    assert np.max(np.abs(product.sum(axis=1))) < 1e-13 * np.max(np.abs(product))


def test_it_is_symmetric_and_bends_upwards() -> None:
    s, rng = S, np.random.default_rng(4)
    u, v = rng.standard_normal((2, *s.shape))
    for penalty in ("softplus", "identity"):
        of_u = refcl.hessian_vector_product(s, u, TAU, penalty=penalty)
        of_v = refcl.hessian_vector_product(s, v, TAU, penalty=penalty)
        check_near(np.sum(u * of_v), np.sum(v * of_u), rtol=1e-13)
        assert np.sum(v * of_v) > 0


def test_without_negatives_it_is_zero() -> None:
    ignore = without_negatives(np.random.default_rng(0), *S.shape)
    for penalty in ("softplus", "identity"):
        product = refcl.hessian_vector_product(S, S, TAU, penalty=penalty, **ignore)
        assert not product[0].any()
        assert product[1:].any(axis=1).all()


@of_torch
def test_the_hessian_of_autograd(rng: np.random.Generator) -> None:
    v = rng.standard_normal(COSINES.shape)
    loss: Callable[..., Any] = lambda x: F.cross_entropy(x / 0.2, torch.arange(N))  # noqa: E731
    _, want = torch.autograd.functional.hvp(loss, torch.tensor(COSINES), torch.tensor(v))
    check_near(refcl.hessian_vector_product(COSINES, v, 0.2), want.numpy(), rtol=NEAR)
