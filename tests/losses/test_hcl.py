"""Debiased negatives and hard negatives weighed by how near they are, of similarities and of two views."""

import math
from typing import Any

import numpy as np
import pytest
from backends import check_near
from cards import KEY, QUERY, Card, S, on_similarities, roles, scalar, two_sided, variants
from differences import check_gradient
from digits import (
    check_all_exact,
    derivatives,
    every_corner,
    everyone,
    exact,
    lse,
    mean,
    row,
    softmax,
    span,
)
from goldens import OF_FAMILY, golden, independent_views, of_stacked, similarities
from loops import Matrix, of_two_views, reduce
from loops import roles as roles_of
from mpmath import mp, mpf
from peers import X, Y, check_same, derived, of_torch, torch
from peers import unit as on_sphere

import refcl

TAU = 0.2
N, M = S.shape


def reweighted(
    s: Matrix, temperature: float, *, tau_plus: float, beta: float = 0.0, reduction: str = "mean", **who: Any
) -> Any:
    """Follow the authors' code: exponentials, importance weights, a difference, a clamp."""
    loss = []
    for s_i, (p, others) in zip(s, roles_of(s, **who), strict=True):
        if not others:
            loss.append(0.0)
            continue
        count = len(others)
        pos = math.exp(s_i[p] / temperature)
        neg = [math.exp(s_i[k] / temperature) for k in others]
        importance = [x**beta for x in neg]
        pooled = sum(w * x for w, x in zip(importance, neg, strict=True)) / (sum(importance) / count)
        estimate = (pooled - tau_plus * count * pos) / (1 - tau_plus)
        if tau_plus:
            estimate = max(estimate, count * math.exp(-1 / temperature))
        loss.append(-math.log(pos / (pos + estimate)))
    return reduce(loss, reduction=reduction)


def reweighted_value(s: Any, tau: Any, who: Any, tau_plus: float = 0.1, beta: float = 0.0) -> Any:
    losses, prior = [], mpf(tau_plus)
    for s_i, (p, others) in zip(s, who, strict=True):
        weights = [mp.exp(mpf(beta) * s_i[k] / tau) for k in others]
        amount = mp.fsum(w * mp.exp((s_i[k] - s_i[p]) / tau) for w, k in zip(weights, others, strict=True))
        estimate = (amount / mean(weights) - prior * len(others)) / (1 - prior)
        losses.append(mp.log1p(max(estimate, len(others) * mp.exp(-(1 + s_i[p]) / tau))))
    return mean(losses)


def golden_of_similarities() -> Any:
    for kind, tau in OF_FAMILY:
        yield golden(
            "reweighted_contrastive",
            [similarities(kind, 3, 5), tau],
            lambda s, t: reweighted_value(s, t, everyone(3, 5), beta=0.7),
            exact_s=True,
            tau_plus=0.1,
            beta=0.7,
        )


def golden_of_views(name: str, **beta: float) -> Any:
    for kind in ("plain", "dominated"):
        for tau in (0.05, 0.5, 20.0):
            value = of_stacked(reweighted_value, **beta)
            yield golden(name, [*independent_views(kind), tau], value, exact_s=False, tau_plus=0.1, **beta)


CARDS = [
    Card(
        refcl.reweighted_contrastive,
        [
            *variants(on_similarities, scalar(0.3), tau_plus=0.1, beta=0.7),
            ("plain-softmax", on_similarities(scalar(0.2), tau_plus=0.0)),
            ("debiased", on_similarities(scalar(0.5), tau_plus=0.3, roles=roles)),
        ],
        reweighted,
        golden_of_similarities,
    ),
    Card(
        refcl.hcl,
        two_sided(0.4, stacked=True, other=0.7, tau_plus=0.1, beta=1.0),
        of_two_views(reweighted),
        lambda: golden_of_views("hcl", beta=0.7),
    ),
]


@pytest.mark.parametrize(("tau_plus", "beta"), [(0.0, 0.0), (0.1, 0.0), (0.0, 1.0), (0.1, 0.7)])
@every_corner
def test_it_is_exact(kind: Any, temperature: float, tau_plus: float, beta: float) -> None:
    s = row(kind)
    got = refcl.reweighted_contrastive(s, temperature, tau_plus=tau_plus, beta=beta)
    (s_i,), tau = exact(s.tolist()), mpf(temperature)
    negatives, share, b = list(range(1, 13)), mpf(tau_plus), mpf(beta)

    def weighed(at: Any, t: Any) -> Any:
        """Return the reweighted soft maximum above the positive, over K."""
        cold = lse(at, negatives, t / b) if beta else mp.log(12)
        return lse(at, negatives, t / (1 + b)) - cold - at[0] / t

    def estimate(at: Any, t: Any) -> Any:
        return (mp.exp(weighed(at, t)) - share) / (1 - share) * 12

    def floor(at: Any, t: Any) -> Any:
        return 12 * mp.exp(-(1 + at[0]) / t)

    holds = tau_plus > 0 and estimate(s_i, tau) < floor(s_i, tau)
    pooled = floor if holds else estimate
    truth = derivatives(lambda at, t: mp.log1p(pooled(at, t)), s_i, temperature)
    left = 1 / (1 + pooled(s_i, tau))
    # The terms of N_g, e^gap and τ⁺, over what is left of them: what a difference costs.
    amount = (mp.exp(weighed(s_i, tau)) + share) / (1 - share) * 12
    q = softmax(s_i, negatives, tau / (1 + b))
    p = softmax(s_i, negatives, tau / b) if beta else dict.fromkeys(negatives, mpf(0))
    # σ times its slope is e^gap K/(1 − τ⁺) over 1 + N_g; a difference within N_g costs it σ N_g's share more.
    weight = mp.exp(weighed(s_i, tau)) * 12 / (1 - share) * left * (1 + (left * amount if tau_plus else 0))
    push = {k: weight * ((1 + b) * q[k] + b * p[k]) / tau for k in negatives}
    entries: list[Any] = [None if holds or not tau_plus else weight / tau]
    entries += [mpf(0) if holds else push[k] if beta or tau_plus else None for k in negatives]
    entries = [abs(true) if size is None else size for size, true in zip(entries, truth[1], strict=True)]
    by_tau = None if holds else mp.fsum(push[k] * abs(s_i[k] - s_i[0]) for k in negatives) / tau
    cost = None if holds or not tau_plus else truth[0] + left * amount
    # The floor is where all similarities are −1, which so are within the range.
    ratio = (1 + beta) * max(span(s_i), float(1 + max(s_i)) if tau_plus else 0.0) / temperature
    check_all_exact((got[0], *got[1]), truth, (cost, entries, by_tau), ratio)


@pytest.mark.parametrize("tau_plus", [0.0, 0.1])
def test_detached_weights_are_constants(tau_plus: float) -> None:
    s = S - 0.3 * np.eye(N, M)
    _, grads = refcl.reweighted_contrastive(s, TAU, tau_plus=tau_plus, beta=0.8, detach=True, reduction="sum")
    others = ~np.eye(N, M, dtype=bool)
    hard = np.exp(0.8 * s[others].reshape(N, -1) / TAU)
    weight = hard / hard.mean(axis=1, keepdims=True)

    def frozen(at: Any) -> float:
        d = (at[0][others].reshape(N, -1) - np.diag(at[0])[:, None]) / at[1]
        estimate = (np.sum(weight * np.exp(d), axis=1) - tau_plus * (M - 1)) / (1 - tau_plus)
        floor = (M - 1) * np.exp(-(1 + np.diag(at[0])) / at[1]) if tau_plus else 0.0
        return float(np.sum(np.log1p(np.maximum(estimate, floor))))

    check_gradient(tuple(grads), frozen, (s, np.array(TAU)), step=3e-4)


def test_where_the_positive_dominates_the_negatives_get_nothing() -> None:
    s = np.array([[0.95, -0.9, -0.8, -0.7]])
    value, grads = refcl.reweighted_contrastive(s, 0.1, tau_plus=0.1)
    check_near(value, np.log1p(3 * np.exp(-1.95 / 0.1)), rtol=1e-14)
    assert not grads.ds[0, 1:].any()
    assert grads.ds[0, 0] < 0 < grads.dtemperature


def test_the_floor_is_as_smooth_as_the_rest_on_either_side() -> None:
    s = np.array([[0.9, -0.6, -0.5, 0.1], [-0.4, 0.3, 0.5, 0.7]])

    def value(at: Any) -> float:
        return float(refcl.reweighted_contrastive(at[0], at[1], tau_plus=0.1, beta=0.5, reduction="sum")[0])

    _, grads = refcl.reweighted_contrastive(s, TAU, tau_plus=0.1, beta=0.5, reduction="sum")
    assert not grads.ds[0, [1, 2, 3]].any()
    assert grads.ds[1].all()
    check_gradient(tuple(grads), value, (s, np.array(TAU)), step=3e-4)


def test_no_default_hides_a_prior() -> None:
    """τ⁺ of the data is asked for where no number fits all."""
    for pair in (refcl.debiased, refcl.hcl):
        with pytest.raises(TypeError, match="tau_plus"):
            pair(QUERY, KEY, 0.5)


def parts(a: Any, b: Any) -> tuple[Any, Any]:
    """Return each stacked row's similarity to its positive (2N,) and to its negatives (2N, 2N − 2)."""
    z = torch.cat([a, b])
    s = z @ z.T
    n = a.shape[0]
    partner = torch.arange(2 * n).roll(n)
    negative = torch.ones_like(s, dtype=torch.bool)
    negative[torch.arange(2 * n), torch.arange(2 * n)] = False
    negative[torch.arange(2 * n), partner] = False
    return s[torch.arange(2 * n), partner], s[negative].reshape(2 * n, -1)


@of_torch
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize(("tau_plus", "beta"), [(0.0, 0.0), (0.1, 0.0), (0.1, 1.0), (0.4, 0.5)])
def test_debiased_and_hard_negatives_as_their_authors_compute_them(tau_plus: float, beta: float, detach: bool) -> None:
    """Exponentials, importance weights over their mean, a difference, a clamp, −log of a quotient."""

    def loss(a: Any, b: Any, tau: Any) -> Any:
        near, others = parts(on_sphere(a), on_sphere(b))
        pos, neg = torch.exp(near / tau), torch.exp(others / tau)
        count = neg.shape[1]
        weight = neg.log().mul(beta).exp()
        weight = weight / weight.mean(1, keepdim=True)
        estimate = ((weight.detach() if detach else weight) * neg).sum(1)
        left = (estimate - tau_plus * count * pos) / (1 - tau_plus)
        left = torch.maximum(left, count * torch.exp(-1 / tau)) if tau_plus else left
        return -torch.log(pos / (pos + left)).mean()

    want = derived(loss, X, Y, 0.5)
    check_same(refcl.hcl(X, Y, 0.5, tau_plus=tau_plus, beta=beta, detach=detach), want)
    if beta == 0.0:
        check_same(refcl.debiased(X, Y, 0.5, tau_plus=tau_plus), want)
