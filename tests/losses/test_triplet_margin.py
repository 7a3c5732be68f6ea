"""The triplet loss of embeddings that come as triplets."""

from typing import Any

import numpy as np
import pytest
from backends import check_near
from cards import Builder, Built, Card, Sizes, rows, scalar
from digits import check_exact, differentiate, exact, mean, mp, mpf
from goldens import embeddings, golden
from loops import Matrix, reduce
from peers import F, N, X, Y, check_same, derived, of_torch, torch
from test_distance import KINDS, row_distance_in_loops

import refcl

Z = np.roll(X, 1, axis=0) - 0.25


def triplet_margin(
    anchor: Matrix,
    positive: Matrix,
    negative: Matrix,
    margin: float,
    *,
    distance: str = "euclidean",
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    near, far, swapped = (
        row_distance_in_loops(x, y, distance=distance)
        for x, y in ((anchor, positive), (anchor, negative), (positive, negative))
    )
    loss = [max(p - (min(n, s) if swap else n) + margin, 0.0) for p, n, s in zip(near, far, swapped, strict=True)]
    return reduce(loss, reduction=reduction)


def triplets(margin: float, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        return (*(rows(rng, z.n, z.d) for _ in range(3)), scalar(margin)), settings

    return build


def distance_of(x: Any, y: Any, kind: str) -> Any:
    if kind == "cosine":
        return 1 - mp.fdot(x, y) / mp.sqrt(mp.fdot(x, x) * mp.fdot(y, y))
    square = mp.fsum((p - q) ** 2 for p, q in zip(x, y, strict=True))
    return square if kind == "squared" else mp.sqrt(square)


def value_of(a: Any, p: Any, n: Any, margin: Any, kind: str, swap: bool) -> Any:
    losses = []
    for x, y, z in zip(a, p, n, strict=True):
        far = [distance_of(x, z, kind), *([distance_of(y, z, kind)] if swap else [])]
        losses.append(max(distance_of(x, y, kind) - min(far) + margin, mpf(0)))
    return mean(losses)


def golden_rows() -> Any:
    a, p, n = embeddings("plain", 3), embeddings("antipodal", 3) + 0.5, embeddings("plain", 3)[::-1] - 0.125
    for kind, swap in (("euclidean", False), ("squared", True), ("cosine", True)):
        yield golden(
            "triplet_margin",
            [a, p, n, 0.75],
            lambda x, y, z, m, kind=kind, swap=swap: value_of(x, y, z, m, kind, swap),
            exact_s=False,
            distance=kind,
            swap=swap,
        )


CARDS = [
    Card(
        refcl.triplet_margin,
        [
            *((kind, triplets(1.75, distance=kind)) for kind in KINDS),
            *((f"{kind}-swap", triplets(1.25, distance=kind, swap=True, reduction="sum")) for kind in KINDS),
            ("each", triplets(0.5, reduction="none")),
        ],
        triplet_margin,
        golden_rows,
    )
]


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("kind", ["euclidean", "squared"])
def test_it_is_exact_beside_its_terms(kind: str, swap: bool) -> None:
    """Differences of near embeddings lose nothing: numbers that are sums of few bits are taken as they are."""
    rng = np.random.default_rng(3)
    base = rng.integers(-8, 8, (1, 4)) / 4.0
    a, p, n = (base + rng.integers(-64, 64, (1, 4)) * 2.0**-30 for _ in range(3))
    margin = 2.0**-28
    value, grads = refcl.triplet_margin(a, p, n, margin, distance=kind, swap=swap)
    numbers = [exact(x[0].tolist()) for x in (a, p, n)]
    flat = [*numbers[0], *numbers[1], *numbers[2], mpf(margin)]

    def loss(at: Any) -> Any:
        return value_of([at[:4]], [at[4:8]], [at[8:12]], at[12], kind, swap)

    terms = mp.fsum(distance_of(*pair, kind) for pair in ((numbers[0], numbers[1]), (numbers[0], numbers[2]))) + margin
    check_exact(value, loss(flat), terms, 1.0, "value")
    got = [*grads.danchor[0], *grads.dpositive[0], *grads.dnegative[0], grads.dmargin]
    want = differentiate(loss, flat, mpf(2) ** -40)
    slope = mpf(1) if kind == "euclidean" else max(abs(x) for x in want[:12])
    for k, (mine, true) in enumerate(zip(got, want, strict=True)):
        check_exact(mine, true, abs(true) if k == 12 else slope, 1.0, f"gradient[{k}]")


def test_hinges_and_ties() -> None:
    """A triplet whose hinge stands at its kink, one whose two far distances tie, and rows that coincide."""
    anchor, positive = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0]])
    negative = np.array([[0.0, 1.5], [1.0, 1.0], [1.0, 1.0]])
    value, grads = refcl.triplet_margin(
        anchor, positive, negative, 0.5, distance="squared", swap=True, reduction="none"
    )
    assert value.tolist() == [0.0, 2.5, 0.5]
    assert grads.danchor.tolist() == [[0.0, 0.0], [-3.0, 1.0], [0.0, 0.0]]
    assert grads.dpositive.tolist() == [[0.0, 0.0], [3.0, 1.0], [0.0, 0.0]]
    assert float(grads.dmargin) == 2.0
    value, grads = refcl.triplet_margin(positive, positive, positive, 0.5)
    assert value == 0.5
    assert not any(np.any(d) for d in grads[:3])


def test_it_is_the_triplet_loss_of_distances() -> None:
    near, far = (np.linalg.norm(X - other, axis=1) for other in (Y, Z))
    s = -np.stack([near, far], axis=1)
    want, grads = refcl.triplet(s, margin=0.5, positive=np.zeros(N, dtype=int), reduction="none")
    value, mine = refcl.triplet_margin(X, Y, Z, 0.5, reduction="none")
    check_near(value, want, rtol=1e-14)
    by_hand = -grads.ds[:, :1] * (Y - X) / near[:, None]
    check_near(mine.dpositive, by_hand, rtol=1e-14)


@of_torch
@pytest.mark.parametrize("swap", [False, True])
def test_the_losses_of_pytorch(swap: bool) -> None:
    """With eps = 0: by default it adds 1e-6 to each entry of a difference."""
    theirs = torch.nn.TripletMarginLoss(margin=0.75, eps=0.0, swap=swap)

    def call(**settings: Any) -> Any:
        value, grads = refcl.triplet_margin(X, Y, Z, 0.75, swap=swap, **settings)
        return value, grads[:3]

    check_same(call(), derived(theirs, X, Y, Z))
    measures = {
        "cosine": lambda x, y: 1 - F.cosine_similarity(x, y),
        "squared": lambda x, y: ((x - y) ** 2).sum(dim=1),
    }
    for kind, measure in measures.items():
        theirs = torch.nn.TripletMarginWithDistanceLoss(distance_function=measure, margin=0.75, swap=swap)
        check_same(call(distance=kind), derived(theirs, X, Y, Z))
