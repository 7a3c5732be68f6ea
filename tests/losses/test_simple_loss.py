"""The simple loss, of similarities and of embeddings."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from backends import check_near
from cards import Card, S, on_embeddings, on_similarities, roles, scalar, variants
from digits import KINDS, check_all_exact, everyone, exact, row, simple_truth, simple_value
from digits import cosines as exact_cosines
from goldens import OF_EMBEDDINGS, TEMPERATURES, golden, query_and_key, similarities
from loops import Matrix, of_embeddings, reduce
from loops import roles as roles_of
from mpmath import mpf
from peers import COSINES, check_same, derived, of_torch, torch

import refcl


def simple_contrastive(s: Matrix, weight: float | None = None, *, reduction: str = "mean", **who: Any) -> Any:
    loss = []
    for s_i, (p, others) in zip(s, roles_of(s, **who), strict=True):
        each = weight if weight is not None else 1 / max(len(others), 1)
        loss.append(-s_i[p] + each * sum(s_i[k] for k in others))
    return reduce(loss, reduction=reduction)


def golden_of_similarities() -> Any:
    for kind in TEMPERATURES:
        value = partial(simple_value, who=everyone(3, 4))
        yield golden("simple_contrastive", [similarities(kind), 0.3], value, exact_s=True)


def golden_of_embeddings() -> Any:
    for kind in OF_EMBEDDINGS:
        yield golden(
            "simple_loss",
            [*query_and_key(kind), 0.7],
            lambda q, k, w: simple_value(exact_cosines(q, k), w, everyone(2, 3)),
            exact_s=False,
        )


CARDS = [
    Card(
        refcl.simple_contrastive,
        [*variants(on_similarities, scalar(0.7)), ("default-weight", on_similarities(None, roles=roles))],
        simple_contrastive,
        golden_of_similarities,
    ),
    Card(
        refcl.simple_loss,
        [*variants(on_embeddings, scalar(0.7)), ("default-weight", on_embeddings(None))],
        of_embeddings(simple_contrastive),
        golden_of_embeddings,
    ),
]


@pytest.mark.parametrize("weight", [None, 0.3, 1e-3])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_it_is_exact(kind: Any, weight: float | None) -> None:
    s = row(kind, 33)
    value, grads = refcl.simple_contrastive(s, weight)
    truth = simple_truth(exact(s[0].tolist()), 0, list(range(1, 33)), None if weight is None else mpf(weight))
    sizes = truth.loss_magnitude, None, truth.dscalar_magnitude
    check_all_exact((value, *grads), (truth.loss, truth.ds, truth.dscalar), sizes, float(truth.range))


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


@of_torch
def test_simple_contrastive_is_its_formula_in_pytorch() -> None:
    def simple(s: Any, weight: Any) -> Any:
        diagonal = torch.diagonal(s)
        return (-diagonal + weight * (s.sum(dim=1) - diagonal)).mean()

    check_same(refcl.simple_contrastive(COSINES, 0.3), derived(simple, COSINES, 0.3))
