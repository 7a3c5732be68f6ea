"""The triplet loss of the hardest negative."""

from typing import Any

import numpy as np
import pytest
from cards import Card, on_similarities, variants
from digits import KINDS, check_all_exact, everyone, exact, row, triplet_truth, triplet_value
from goldens import golden, similarities
from loops import Matrix, reduce, roles
from mpmath import mpf
from peers import COSINES, check_same, derived, of_torch, torch

import refcl


def triplet(s: Matrix, *, margin: float = 0.0, reduction: str = "mean", **who: Any) -> Any:
    loss = []
    for s_i, (p, others) in zip(s, roles(s, **who), strict=True):
        loss.append(max(max(s_i[k] for k in others) - s_i[p] + margin, 0.0) if others else 0.0)
    return reduce(loss, reduction=reduction)


def golden_rows() -> Any:
    for kind in ("plain", "hard", "dominated"):
        yield golden(
            "triplet",
            [similarities(kind)],
            lambda s: triplet_value(s, mpf(0.125), everyone(3, 4)),
            exact_s=True,
            margin=0.125,
        )


CARDS = [
    Card(
        refcl.triplet,
        [*variants(on_similarities), ("margin", on_similarities(margin=0.6))],
        triplet,
        golden_rows,
    )
]


@pytest.mark.parametrize("margin", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_it_is_exact(kind: Any, margin: float) -> None:
    s = row(kind, 33)
    value, grads = refcl.triplet(s, margin=margin)
    truth = triplet_truth(exact(s[0].tolist()), 0, list(range(1, 33)), mpf(margin))
    sizes = truth.loss_magnitude, None
    check_all_exact((value, grads.ds), (truth.loss, truth.ds), sizes, float(truth.range))


def test_hinges_and_ties_of_the_triplet() -> None:
    s = np.array([[0.5, 0.5, 0.25], [0.75, 0.25, 0.75]])
    value, grads = refcl.triplet(s, reduction="none")
    assert value.tolist() == [0.0, 0.5]
    assert grads.ds.tolist() == [[0.0, 0.0, 0.0], [0.5, -1.0, 0.5]]


@of_torch
def test_triplet_is_pytorch_s_hinge_of_the_maximum() -> None:
    def triplet(s: Any) -> Any:
        others = s.masked_fill(torch.eye(6, 9, dtype=torch.bool), -torch.inf)
        return torch.relu(others.amax(dim=1) - torch.diagonal(s) + 0.3).mean()

    check_same(refcl.triplet(COSINES, margin=0.3), derived(triplet, COSINES))
