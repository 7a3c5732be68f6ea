"""The contrastive loss of pairs."""

from typing import Any

import numpy as np
from backends import check_near
from cards import KEY, QUERY, Builder, Built, Card, Sizes, rows
from digits import cosines, mean
from goldens import embeddings, golden
from loops import Matrix, reduce
from mpmath import mp, mpf
from peers import F, N, X, Y, check_same, derived, of_torch, torch
from test_distance import row_distance_in_loops

import refcl


def pair_contrastive(
    a: Matrix,
    b: Matrix,
    *,
    same: list[bool],
    margin: float = 1.0,
    distance: str = "euclidean",
    reduction: str = "mean",
) -> Any:
    loss = []
    for d, alike in zip(row_distance_in_loops(a, b, distance=distance), same, strict=True):
        loss.append(d**2 / 2 if alike else max(margin - d, 0.0) ** 2 / 2)
    return reduce(loss, reduction=reduction)


def pairs(**settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        return (rows(rng, z.n, z.d), rows(rng, z.n, z.d)), {"same": np.arange(z.n) % 2 == 0, **settings}

    return build


def golden_rows() -> Any:
    a, b, same = embeddings("plain", 4), embeddings("plain", 4)[::-1] + 0.1, np.array([True, False, False, True])

    def value(a: Matrix, b: Matrix) -> Any:
        losses = []
        for x, y, alike in zip(a, b, same, strict=True):
            d = mp.sqrt(mp.fsum((p - q) ** 2 for p, q in zip(x, y, strict=True)))
            losses.append((d if alike else max(4 - d, mpf(0))) ** 2 / 2)
        return mean(losses)

    yield golden("pair_contrastive", [a, b], value, exact_s=False, same=same, margin=4.0)

    def of_cosines(a: Matrix, b: Matrix) -> Any:
        distances = [1 - cosines([x], [y])[0][0] for x, y in zip(a, b, strict=True)]
        return mean(
            [(d if alike else max(mpf(1.5) - d, mpf(0))) ** 2 / 2 for d, alike in zip(distances, same, strict=True)]
        )

    yield golden("pair_contrastive", [a, b], of_cosines, exact_s=False, same=same, margin=1.5, distance="cosine")


CARDS = [
    Card(
        refcl.pair_contrastive,
        [
            *((reduction, pairs(margin=6.0, reduction=reduction)) for reduction in ("mean", "sum", "none")),
            ("cosine", pairs(margin=1.75, distance="cosine", reduction="none")),
        ],
        pair_contrastive,
        golden_rows,
    )
]


def test_pairs_at_their_kinks() -> None:
    """An unlike pair at a distance of 0, of just the margin, and beyond; a like one at 0."""
    a = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    b = np.array([[0.0, 0.0], [0.75, 0.0], [2.0, 0.0], [0.0, 0.0]])
    same = np.array([False, False, False, True])
    value, grads = refcl.pair_contrastive(a, b, same=same, margin=0.75, reduction="none")
    assert value.tolist() == [0.28125, 0.0, 0.0, 0.0]
    assert not np.any(grads.da)
    assert not np.any(grads.db)


def test_pairs_of_one_direction_and_of_opposite_ones() -> None:
    """The cosine's distance is 0 and 2 there, and level: a pair that coincides gets no gradient, and no NaN."""
    a = np.array([[3.0, 4.0], [3.0, 4.0], [0.6, 0.8], [0.0, 2.0]])
    b = np.array([[1.5, 2.0], [3.0, 4.0], [-0.3, -0.4], [0.0, 5.0]])
    same = np.array([False, True, True, False])
    value, grads = refcl.pair_contrastive(a, b, same=same, margin=0.5, distance="cosine", reduction="none")
    check_near(value, np.array([0.125, 0.0, 2.0, 0.125]), rtol=1e-15)
    check_near(grads.da, np.zeros((4, 2)), rtol=0, atol=1e-15)
    check_near(grads.db, np.zeros((4, 2)), rtol=0, atol=1e-15)


@of_torch
def test_pairs_of_sentence_transformers() -> None:
    """Its ContrastiveLoss with its defaults, in its own words."""
    labels = torch.tensor([1.0, 0.0] * (N // 2), dtype=torch.float64)

    def theirs(a: Any, b: Any) -> Any:
        distances = 1 - F.cosine_similarity(a, b)
        losses = 0.5 * (labels * distances.pow(2) + (1 - labels) * F.relu(0.5 - distances).pow(2))
        return losses.mean()

    near = np.where(np.arange(N)[:, None] % 4 == 1, X + 0.25, Y)
    same = labels.numpy() == 1
    ours = refcl.pair_contrastive(X, near, same=same, margin=0.5, distance="cosine")
    assert np.any(ours[1].da[~same])
    check_same(ours, derived(theirs, X, near))


def test_pairs_as_others_write_it() -> None:
    """Hadsell, Chopra and LeCun: (1 − Y) D²/2 + Y max(m − D, 0)²/2, with Y = 1 for unlike pairs."""
    y = np.array([0.0, 1.0, 1.0, 0.0])
    distance = np.linalg.norm(QUERY - KEY, axis=1)
    want = (1 - y) * distance**2 / 2 + y * np.maximum(2.5 - distance, 0) ** 2 / 2
    value, _ = refcl.pair_contrastive(QUERY, KEY, same=y == 0, margin=2.5, reduction="none")
    check_near(value, want, rtol=1e-14)


@of_torch
def test_the_contrastive_loss_of_pairs_under_derived() -> None:
    same = torch.tensor([True, False] * (N // 2))

    def loss(a: Any, b: Any) -> Any:
        distance = torch.linalg.vector_norm(a - b, dim=1)
        return torch.where(same, distance**2, torch.clamp(3.0 - distance, min=0) ** 2).mean() / 2

    call = refcl.pair_contrastive(X, Y, same=same.numpy(), margin=3.0)
    check_same(call, derived(loss, X, Y))
