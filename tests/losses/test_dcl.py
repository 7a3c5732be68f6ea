"""Decoupled losses: the positive left out of the denominator, and weighed."""

import math
from typing import Any

import numpy as np
import pytest
from cards import Card, S, on_similarities, scalar, two_sided, two_views, variants
from differences import check_gradient
from digits import (
    check_all_exact,
    decoupled_truth,
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
from loops import Mask, Matrix, of_two_views, reduce
from loops import roles as roles_of
from mpmath import mp, mpf
from peers import X, Y, check_same, derived, of_torch, torch
from peers import unit as on_sphere

import refcl

TAU = 0.2


def weighted(
    s: Matrix,
    temperature: float,
    *,
    sigma: float | None = 0.5,
    mass: float | None = None,
    apart: Mask | None = None,
    reduction: str = "mean",
    **who: Any,
) -> Any:
    """Weigh each positive by 2 − m softmax(s⁺/σ), by 1 where there is no σ; sum each pool, take logarithms, add."""
    each = roles_of(s, **who)
    near = [s_i[p] for s_i, (p, _) in zip(s, each, strict=True)]
    loss = []
    for i, (s_i, (p, others)) in enumerate(zip(s, each, strict=True)):
        pools = [[k for k in others if not (apart is not None and apart[i][k])]]
        if apart is not None:
            pools.append([k for k in others if apart[i][k]])
        if not all(pools):
            loss.append(0.0)
            continue
        weight = 1.0
        if sigma is not None:
            share = math.exp(near[i] / sigma) / sum(math.exp(x / sigma) for x in near)
            weight = 2 - (len(s) if mass is None else mass) * share
        pooled = sum(math.log(sum(math.exp(s_i[k] / temperature) for k in pool)) for pool in pools)
        loss.append(-weight * s_i[p] / temperature + pooled)
    return reduce(loss, reduction=reduction)


def unweighted(s: Matrix, temperature: float, **settings: Any) -> Any:
    return weighted(s, temperature, sigma=None, **settings)


def dclw(
    a: Matrix,
    b: Matrix,
    temperature: float,
    *,
    normalizer: str = "mean",
    negatives: str = "together",
    add_views: bool = False,
    reduction: str = "mean",
    **settings: Any,
) -> Any:
    n = len(a)
    own = [[(i < n) == (k < n) for k in range(2 * n)] for i in range(2 * n)]
    pools = {"apart": own} if negatives == "by_view" else {}
    mass = 2 * n if normalizer == "mean" else 2
    loss = of_two_views(weighted)(a, b, temperature, mass=mass, reduction=reduction, **pools, **settings)
    return 2 * loss if add_views and reduction == "mean" else loss


def dcl(a: Matrix, b: Matrix, temperature: float, **settings: Any) -> Any:
    return dclw(a, b, temperature, sigma=None, **settings)


def apart(rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    """Draw a second pool of about half the candidates, so that neither pool of the first row is empty."""
    mask = rng.uniform(size=(n, m)) < 0.5
    mask[:, -1], mask[:, -2] = True, False
    return {"apart": mask}


def decoupled_value(s: Any, tau: Any, who: Any, sigma: Any = None, own: Any = None) -> Any:
    near = [s_i[p] for s_i, (p, _) in zip(s, who, strict=True)]
    losses = []
    for i, (s_i, (p, others)) in enumerate(zip(s, who, strict=True)):
        weight = mpf(1)
        if sigma is not None:
            weight = 2 - len(s) * mp.exp(near[i] / mpf(sigma)) / mp.fsum(mp.exp(x / mpf(sigma)) for x in near)
        pools = [others] if own is None else [[k for k in others if own(i, k) is side] for side in (True, False)]
        losses.append(-weight * s_i[p] / tau + mp.fsum(lse(s_i, pool, tau) for pool in pools))
    return mean(losses)


def golden_of_similarities(**sigma: float) -> Any:
    for kind, tau in OF_FAMILY:
        yield golden(
            "weighted_decoupled_contrastive" if sigma else "decoupled_contrastive",
            [similarities(kind, 3, 5), tau],
            lambda s, t: decoupled_value(s, t, everyone(3, 5), **sigma),
            exact_s=True,
            **sigma,
        )


def golden_of_views(**sigma: float) -> Any:
    for kind in ("plain", "dominated"):
        for tau in (0.05, 0.5, 20.0):
            inputs = [*independent_views(kind), tau]
            name = "dclw" if sigma else "dcl"
            yield golden(name, inputs, of_stacked(decoupled_value, **sigma), exact_s=False, **sigma)
            if not sigma:
                by_view = of_stacked(decoupled_value, own=lambda i, k: (i < 3) == (k < 3))
                yield golden(
                    "dcl",
                    inputs,
                    lambda *x, by_view=by_view: 2 * by_view(*x),
                    exact_s=False,
                    negatives="by_view",
                    add_views=True,
                )


CARDS = [
    Card(
        refcl.decoupled_contrastive,
        [*variants(on_similarities, scalar(0.2)), ("apart", on_similarities(scalar(0.2), roles=apart))],
        unweighted,
        golden_of_similarities,
    ),
    Card(
        refcl.weighted_decoupled_contrastive,
        [
            *variants(on_similarities, scalar(0.2)),
            ("apart", on_similarities(scalar(0.2), roles=apart, sigma=0.3, mass=2.0, reduction="none")),
        ],
        weighted,
        lambda: golden_of_similarities(sigma=0.4),
    ),
    Card(
        refcl.dcl,
        [
            *two_sided(0.4, stacked=True, other=0.7),
            ("by-view", two_views(scalar(0.2), stacked=True, negatives="by_view", add_views=True)),
        ],
        dcl,
        golden_of_views,
    ),
    Card(
        refcl.dclw,
        [
            *two_sided(0.4, stacked=True, other=0.7, sigma=0.4),
            ("by-view", two_views(scalar(0.2), stacked=True, negatives="by_view", add_views=True, normalizer="sum")),
        ],
        dclw,
        lambda: golden_of_views(sigma=0.4),
    ),
]


@every_corner
def test_decoupled_is_exact(kind: Any, temperature: float) -> None:
    """Of three candidates too: a negative that ties the positive, and one so far below that the loss is all but 0."""
    for m in (13, 3):
        s = row(kind, m)
        value, grads = refcl.decoupled_contrastive(s, temperature)
        truth = decoupled_truth(exact(s[0].tolist()), 0, list(range(1, m)), mpf(temperature))
        sizes = truth.loss_magnitude, None, truth.dscalar_magnitude
        check_all_exact((value, *grads), (truth.loss, truth.ds, truth.dscalar), sizes, float(truth.range) / temperature)


@pytest.mark.parametrize("detach", [False, True])
@every_corner
def test_weighted_decoupled_is_exact(kind: Any, temperature: float, detach: bool) -> None:
    """Three anchors, whose positives stand in column 0; the gradient of the sum of their losses."""
    rng, n, m, sigma = np.random.default_rng(3), 3, 6, mpf(0.4)
    s = np.stack([kind(rng, m) for _ in range(n)])
    value, grads = refcl.weighted_decoupled_contrastive(
        s, temperature, sigma=0.4, detach=detach, positive=np.zeros(n, dtype=int), reduction="none"
    )
    matrix, tau, negatives = exact(s.tolist()), mpf(temperature), list(range(1, m))
    near = [r[0] for r in matrix]
    share = softmax(near, [0, 1, 2], sigma)

    def losses(entries: Any, t: Any) -> Any:
        rows = [entries[m * i : m * (i + 1)] for i in range(n)]
        shares = share if detach else softmax([r[0] for r in rows], [0, 1, 2], sigma)
        return [lse(r, negatives, t) - (2 - n * shares[i]) * r[0] / t for i, r in enumerate(rows)]

    flat = [x for r in matrix for x in r]
    _, ds, dtau = derivatives(lambda at, t: mp.fsum(losses(at, t)), flat, temperature)
    pull = [(1 + abs(n * share[i] - 1) + n * share[i]) / tau for i in range(n)]
    spread = mp.fsum(share[i] * abs(near[i]) for i in range(n))
    values, entries, by_tau = [], [], mpf(0)
    for i, r in enumerate(matrix):
        values.append(max(abs(x - near[i]) for x in r) / tau + mp.log(m - 1) + pull[i] * abs(near[i]))
        moved = mpf(0) if detach else n * share[i] * (abs(near[i]) + spread) / sigma / tau
        relative = softmax(r, negatives, tau)
        entries += [pull[i] + moved, *(relative[k] / tau for k in negatives)]
        by_tau += mp.fsum(relative[k] * abs(r[k] - r[0]) for k in negatives) / tau + pull[i] * abs(r[0])
    ratio = max(span(r) for r in matrix) / temperature + span(near) / 0.4
    check_all_exact((value, *grads), (losses(flat, tau), ds, dtau), (values, entries, by_tau / tau), ratio)


def test_detached_weights_are_constants() -> None:
    _, grads = refcl.weighted_decoupled_contrastive(S, TAU, sigma=0.4, detach=True, reduction="sum")
    near = np.exp(np.diag(S) / 0.4)
    weight = 2 - near / near.mean()

    def frozen(at: Any) -> float:
        others = at[0][~np.eye(4, 7, dtype=bool)].reshape(4, 6)
        pooled = np.log(np.sum(np.exp(others / at[1]), axis=1))
        return float(np.sum(pooled - weight * np.diag(at[0]) / at[1]))

    check_gradient(tuple(grads), frozen, (S, np.array(TAU)), step=3e-4)


def test_an_empty_second_pool_silences_its_anchor() -> None:
    s, apart = S, np.zeros(S.shape, dtype=bool)
    apart[1:, -1] = True
    value, grads = refcl.decoupled_contrastive(s, TAU, apart=apart, reduction="none")
    assert value[0] == 0.0
    assert not grads.ds[0].any()
    assert grads.ds[1:].any(axis=1).all()


@of_torch
@pytest.mark.parametrize("weighted", [False, True])
def test_decoupled_as_lightly_computes_it(weighted: bool) -> None:
    """Unit rows, the logarithms of each view's sum added, weights detached, the mean of both directions."""

    def one_way(first: Any, second: Any, tau: Any) -> Any:
        n = first.shape[0]
        others = ~torch.eye(n, dtype=torch.bool)
        near = (first * second).sum(1)
        weight = 2 - n * torch.softmax(near.detach() / 0.5, 0) if weighted else 1.0
        pools = [(first @ view.T / tau)[others].reshape(n, -1).logsumexp(1) for view in (first, second)]
        return (-weight * near / tau + pools[0] + pools[1]).mean()

    def loss(a: Any, b: Any, tau: Any) -> Any:
        a, b = on_sphere(a), on_sphere(b)
        return (one_way(a, b, tau) + one_way(b, a, tau)) / 2

    pair, settings = (refcl.dclw, {"sigma": 0.5, "detach": True}) if weighted else (refcl.dcl, {})
    check_same(pair(X, Y, 0.2, negatives="by_view", **settings), derived(loss, X, Y, 0.2))


@of_torch
@pytest.mark.parametrize("weighted", [False, True])
def test_decoupled_as_nakhli_computes_it(weighted: bool) -> None:
    """Rows as they are, one sum, weights 2 − softmax let through, both directions added, masks that leak 1e-45."""

    def one_way(first: Any, second: Any, tau: Any) -> Any:
        near = (first * second).sum(1)
        weight = 2 - torch.softmax(near / 0.5, 0) if weighted else 1.0
        logits = torch.cat([first @ first.T, first @ second.T], dim=1) / tau
        mask = math.log(1e-45) * torch.eye(first.shape[0], dtype=torch.float64).repeat(1, 2)
        return (-weight * near / tau + (logits + mask).logsumexp(1)).mean()

    def loss(a: Any, b: Any, tau: Any) -> Any:
        return one_way(a, b, tau) + one_way(b, a, tau)

    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (X, Y))
    pair, settings = (refcl.dclw, {"normalizer": "sum"}) if weighted else (refcl.dcl, {})
    check_same(pair(a, b, 0.3, add_views=True, normalize=False, **settings), derived(loss, a, b, 0.3))
