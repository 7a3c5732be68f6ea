"""The triplet loss of the hardest among the negatives that are further off than the positive."""

from typing import Any

import numpy as np
import pytest
from cards import Card, on_similarities, variants
from digits import mean, triplet_value
from goldens import golden, similarities
from loops import Matrix, reduce, roles
from mpmath import mpf
from peers import N, X, Y, check_same, derived, of_torch, torch
from peers import unit as on_sphere

import refcl


def semi_hard_triplet(
    s: Matrix, *, margin: float = 0.1, otherwise: str = "skip", reduction: str = "mean", **who: Any
) -> Any:
    loss = []
    for s_i, (p, others) in zip(s, roles(s, **who), strict=True):
        further = [s_i[k] for k in others if s_i[k] < s_i[p]]
        taken = further if further or otherwise == "skip" else [s_i[k] for k in others]
        if not taken:
            loss.append(0.0)
            continue
        hardest = min(taken) if not further and otherwise == "easiest" else max(taken)
        loss.append(max(hardest - s_i[p] + margin, 0.0))
    return reduce(loss, reduction=reduction)


def golden_rows() -> Any:
    for kind, otherwise in (("hard", "easiest"), ("hard", "hardest"), ("plain", "skip"), ("dominated", "skip")):
        s = similarities(kind)
        who = []
        for i, row in enumerate(s):
            others = [k for k in range(4) if k != i]
            further = [k for k in others if row[k] < row[i]]
            easiest = min(others, key=row.__getitem__)
            instead = {"skip": [], "easiest": [easiest], "hardest": others}[otherwise]
            who.append((i, further or instead))

        def value(s: Matrix, who: Any = who) -> Any:
            return mean([triplet_value([r], mpf(0.75), [w]) if w[1] else 0 * r[0] for r, w in zip(s, who, strict=True)])

        yield golden("semi_hard_triplet", [s], value, exact_s=True, margin=0.75, otherwise=otherwise)


CARDS = [
    Card(
        refcl.semi_hard_triplet,
        [
            (f"{name}-{otherwise}", build)
            for otherwise in ("skip", "easiest", "hardest")
            for name, build in variants(on_similarities, margin=0.7, otherwise=otherwise)
        ],
        semi_hard_triplet,
        golden_rows,
    )
]


S = np.array([[0.5, 0.75, 0.25, 0.0]])  # the positive, a nearer negative, two further off


def taken(s: Any, **settings: Any) -> tuple[float, Any]:
    value, grads = refcl.semi_hard_triplet(s, **settings)
    return float(value), grads.ds[0].tolist()


def test_the_nearest_of_those_further_off_is_taken() -> None:
    assert taken(S, margin=0.5) == (0.25, [-1.0, 0.0, 1.0, 0.0])


def test_beyond_the_margin_there_is_nothing_to_learn() -> None:
    assert taken(S, margin=0.125) == (0.0, [0.0] * 4)


def test_at_the_hinge_s_kink_the_gradient_is_0() -> None:
    assert taken(S, margin=0.25) == (0.0, [0.0] * 4)


def test_a_negative_as_near_as_the_positive_is_not_further_off() -> None:
    s = np.array([[0.5, 0.5, 0.25]])
    assert taken(s, margin=0.5) == (0.25, [-1.0, 0.0, 1.0])


def test_ties_share_the_gradient() -> None:
    s = np.array([[0.5, 0.25, 0.25]])
    assert taken(s, margin=0.5) == (0.25, [-1.0, 0.5, 0.5])


@pytest.mark.parametrize(
    ("otherwise", "want"),
    [
        ("skip", (0.0, [0.0, 0.0, 0.0])),
        ("easiest", (0.375, [-1.0, 1.0, 0.0])),
        ("hardest", (0.625, [-1.0, 0.0, 1.0])),
    ],
)
def test_where_no_negative_is_further_off_the_policy_says_what_happens(otherwise: str, want: Any) -> None:
    s = np.array([[0.25, 0.5, 0.75]])
    assert taken(s, margin=0.125, otherwise=otherwise) == want


@pytest.mark.parametrize("otherwise", ["skip", "easiest", "hardest"])
def test_without_negatives_the_loss_is_0(otherwise: str) -> None:
    assert taken(np.array([[0.25]]), margin=0.5, otherwise=otherwise) == (0.0, [0.0])


def test_it_never_exceeds_the_hardest_triplet_and_has_its_value_where_all_are_further_off(
    rng: np.random.Generator,
) -> None:
    s = rng.uniform(-1, 1, (50, 8))
    semi, _ = refcl.semi_hard_triplet(s, margin=0.3, positive=np.zeros(50, dtype=int), reduction="none")
    hard, _ = refcl.triplet(s, margin=0.3, positive=np.zeros(50, dtype=int), reduction="none")
    ahead = s[:, 0] > s[:, 1:].max(axis=1)
    assert (semi <= hard).all()
    assert (semi[ahead] == hard[ahead]).all()
    assert ahead.any()
    assert not ahead.all()


def tensorflow_addons_semi_hard(s: Any, labels: Any, margin: float) -> Any:
    """Return the loss of every ordered pair of one label: TensorFlow Addons' rule, on similarities, by loops.

    The nearest negative further off than the positive, or else the furthest one; the mean over all pairs.
    """
    losses = []
    for i in range(len(s)):
        negatives = [s[i, k] for k in range(len(s)) if labels[k] != labels[i]]
        for j in range(len(s)):
            if j != i and labels[j] == labels[i]:
                further = [x for x in negatives if x < s[i, j]]
                taken = torch.stack(further).max() if further else torch.stack(negatives).min()
                losses.append(torch.clamp(taken - s[i, j] + margin, min=0))
    return torch.stack(losses).mean()


@of_torch
def test_semi_hard_triplets_as_tensorflow_addons_mines_them(rng: np.random.Generator) -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])  # one positive each
    s = rng.uniform(-1, 1, (N, N))
    settings = {
        "positive": np.array([1, 0, 3, 2, 5, 4]),
        "ignore": np.eye(N, dtype=bool),
        "margin": 0.4,
        "otherwise": "easiest",
    }
    want = derived(lambda s: tensorflow_addons_semi_hard(s, labels, 0.4), s)
    check_same(refcl.semi_hard_triplet(s, **settings), want)
    assert refcl.semi_hard_triplet(s, **{**settings, "otherwise": "skip"})[0] < want[0], "no row needs the policy"


@of_torch
def test_pytorch_metric_learning_s_semi_hard_miner() -> None:
    """It keeps all of the band, of which the loss here takes the hardest."""
    miners = pytest.importorskip("pytorch_metric_learning.miners", reason="pytorch-metric-learning is not installed")
    from pytorch_metric_learning.distances import CosineSimilarity

    embeddings, labels = torch.tensor(np.concatenate([X, Y])), torch.arange(N).repeat(2)
    miner = miners.TripletMarginMiner(margin=0.3, type_of_triplets="semihard", distance=CosineSimilarity())
    anchors, positives, negatives = (x.numpy() for x in miner(embeddings, labels))
    z = on_sphere(embeddings).numpy()
    s = z @ z.T
    partner = (np.arange(2 * N) + N) % (2 * N)
    loss, grads = refcl.semi_hard_triplet(
        s, margin=0.3, positive=partner, ignore=np.eye(2 * N, dtype=bool), reduction="none"
    )
    assert set(anchors) == set(np.flatnonzero(loss)), "an anchor has semi-hard negatives where its loss is not 0"
    assert (positives == partner[anchors]).all()
    taken = {(int(i), int(k)) for i, k in np.argwhere(grads.ds > 0)}
    assert taken <= set(zip(anchors.tolist(), negatives.tolist(), strict=True))
