"""Contrastive predictive coding, and its bound of the mutual information."""

import math
from typing import Any

import numpy as np
from backends import EPS, check_near
from cards import MEMORY, QUERY, Builder, Built, Card, Sizes, made, roles, rows, unit
from digits import everyone, mean, softmax_value
from goldens import OF_EMBEDDINGS, OF_SYSTEMS, embeddings, golden, similarities
from loops import Matrix, reduce, softmax_contrastive
from mpmath import mp, mpf
from peers import D, F, M, N, X, check_same, derived, of_torch, torch
from test_similarity import bilinear

import refcl

RTOL = 64 * EPS["float64"]


def cpc(context: Matrix, future: Any, weight: Any, *, reduction: str = "mean", **settings: Any) -> Any:
    if not isinstance(weight[0][0], list):
        return softmax_contrastive(bilinear(context, future, weight), 1.0, reduction=reduction, **settings)
    steps = [
        softmax_contrastive(bilinear(context, z, w), 1.0, reduction="none", **settings)
        for z, w in zip(future, weight, strict=True)
    ]
    return reduce(steps, reduction=reduction)


def futures(steps: int | None, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        ahead = () if steps is None else (steps,)
        future, weight = (rng.standard_normal((*ahead, n, z.d + 2)) for n in (z.m, z.d))
        return (rows(rng, z.n, z.d), future, weight / z.d), made(settings, rng, z.n, z.m)

    return build


def golden_rows() -> Any:
    """Scores are inner products of D terms, unless the form and the futures are the identity."""
    exactly = dict.fromkeys(kind for kind, _ in OF_SYSTEMS)
    for kind, steps in [*((kind, None) for kind in exactly), *((kind, 2) for kind in OF_EMBEDDINGS)]:
        rng = np.random.default_rng(9)
        if steps is None:
            inputs = [similarities(kind), np.eye(4), np.eye(4)]
        else:
            inputs = [embeddings(kind, 3), rng.standard_normal((steps, 4, 3)), rng.standard_normal((steps, 2, 3))]

        def value(context: Matrix, future: Any, weight: Any, one: bool = steps is None) -> Any:
            losses = []
            for z, w in [(future, weight)] if one else zip(future, weight, strict=True):
                expected = [[mp.fdot(c, column) for column in zip(*w, strict=True)] for c in context]
                scores = [[mp.fdot(e, z_k) for z_k in z] for e in expected]
                losses.append(softmax_value(scores, mpf(1), everyone(3, 4)))
            return mean(losses)

        yield golden("cpc", inputs, value, exact_s=steps is None)


CARDS = [
    Card(
        refcl.cpc,
        [
            ("steps", futures(2)),
            ("roles", futures(3, roles=roles, reduction="sum")),
            ("each", futures(2, roles=roles, reduction="none")),
            ("one-step", futures(None, roles=roles, reduction="none")),
        ],
        cpc,
        golden_rows,
    )
]


def test_a_form_that_scales_is_info_nce() -> None:
    """W = I/τ on the sphere."""
    value, grads = refcl.cpc(unit(QUERY), unit(MEMORY), np.eye(3) / 0.2)
    same, others = refcl.info_nce(unit(QUERY), unit(MEMORY), 0.2, normalize=False)
    check_near((value, grads.dcontext, grads.dfuture), (same, others.dquery, others.dkey), rtol=1e-13)
    # dL/dτ of I/τ is −⟨dW, I⟩/τ².
    assert math.isclose(-np.trace(grads.dweight) / 0.2**2, others.dtemperature, rel_tol=1e-12)


def test_one_step_is_one_of_several(rng: np.random.Generator) -> None:
    future, weight = rng.standard_normal((1, 6, 5)), rng.standard_normal((1, 3, 5))
    several, one = refcl.cpc(QUERY, future, weight), refcl.cpc(QUERY, future[0], weight[0])
    check_near(several[0], one[0], rtol=RTOL)
    check_near((several[1].dcontext, several[1].dweight[0]), (one[1].dcontext, one[1].dweight), rtol=RTOL)


def test_steps_are_averaged(rng: np.random.Generator) -> None:
    future, weight = rng.standard_normal((3, 6, 5)), rng.standard_normal((3, 3, 5))
    steps = [refcl.cpc(QUERY, z, w) for z, w in zip(future, weight, strict=True)]
    value, grads = refcl.cpc(QUERY, future, weight)
    check_near(value, np.mean([step for step, _ in steps]), rtol=RTOL)
    check_near(grads.dcontext, np.mean([step.dcontext for _, step in steps], axis=0), rtol=RTOL)


def test_guessing_bounds_the_information_by_nothing() -> None:
    value, _ = refcl.cpc(QUERY, np.ones((6, 2)), np.ones((3, 2)))
    assert math.isclose(refcl.mutual_information_bound(float(value), 6), 0.0, abs_tol=1e-15)


def test_the_bound_holds_where_the_information_is_known() -> None:
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


@of_torch
def test_cpc_is_a_cross_entropy_of_bilinear_forms(rng: np.random.Generator) -> None:
    future, weight = rng.standard_normal((3, M, 5)), rng.standard_normal((3, D, 5)) / D

    def loss(context: Any, future: Any, weight: Any) -> Any:
        scores = torch.einsum("nd,tde,tme->tnm", context, weight, future)
        return F.cross_entropy(scores.flatten(0, 1), torch.arange(N).repeat(3))

    check_same(refcl.cpc(X, future, weight), derived(loss, X, future, weight))


@of_torch
def test_cpc_s_paper_transposes_the_form(rng: np.random.Generator) -> None:
    """z_jᵀ W c_i, with W in the shape of a linear layer from contexts to futures."""
    future, weight = rng.standard_normal((N, 5)), rng.standard_normal((5, D)) / D

    def loss(context: Any, future: Any, weight: Any) -> Any:
        return F.cross_entropy(F.linear(context, weight) @ future.T, torch.arange(N))

    value, grads = refcl.cpc(X, future, weight.T)
    check_same((value, (grads.dcontext, grads.dfuture, grads.dweight.T)), derived(loss, X, future, weight))
