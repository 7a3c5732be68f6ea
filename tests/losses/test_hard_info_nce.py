"""The softmax contrastive loss of the hardest negatives, of similarities and of embeddings."""

from functools import partial
from typing import Any

import pytest
from backends import check_same_bits
from cards import Card, S, both, on_embeddings, on_similarities, scalar, variants
from digits import cosines as exact_cosines
from digits import everyone, exact, hardest_of, softmax_value
from goldens import OF_EMBEDDINGS, TEMPERATURES, golden, query_and_key, similarities
from loops import of_embeddings, softmax_contrastive
from peers import COSINES, check_same, derived, of_torch, torch

import refcl


def golden_of_similarities() -> Any:
    for kind, temperatures in TEMPERATURES.items():
        s = similarities(kind)
        who = hardest_of(exact(s.tolist()), everyone(3, 4), 2)  # the threshold is a constant
        for tau in temperatures:
            value = partial(softmax_value, who=who)
            yield golden("hard_softmax_contrastive", [s, tau], value, exact_s=True, hardest=2)


def golden_of_embeddings() -> Any:
    for kind in OF_EMBEDDINGS:
        query, key = query_and_key(kind)
        who = hardest_of(exact_cosines(exact(query.tolist()), exact(key.tolist())), everyone(2, 3), 1)
        yield golden(
            "hard_info_nce",
            [query, key, 0.1],
            lambda q, k, t, who=who: softmax_value(exact_cosines(q, k), t, who),
            exact_s=False,
            hardest=1,
        )


CARDS = [
    Card(
        refcl.hard_softmax_contrastive,
        [*variants(on_similarities, scalar(0.2), hardest=0.4), ("count", on_similarities(scalar(0.3), hardest=2))],
        softmax_contrastive,
        golden_of_similarities,
    ),
    Card(
        refcl.hard_info_nce,
        variants(on_embeddings, scalar(0.2), hardest=0.4),
        of_embeddings(softmax_contrastive),
        golden_of_embeddings,
    ),
]


@pytest.mark.parametrize("hardest", [1.0, 6, 100])
def test_all_of_the_hardest_is_the_ordinary_loss(hardest: float) -> None:
    hard = refcl.hard_softmax_contrastive(S, 0.2, hardest=hardest)
    check_same_bits(both(hard), both(refcl.softmax_contrastive(S, 0.2)))
    check_same_bits(both(refcl.hard_simple_contrastive(S, hardest=hardest)), both(refcl.simple_contrastive(S)))


def test_the_single_hardest_is_the_triplet_s_negative() -> None:
    hard = refcl.hard_softmax_contrastive(S, 0.2, hardest=1, reduction="sum")[1].ds
    nearest = refcl.triplet(S, margin=4.0, reduction="sum")[1].ds
    assert ((hard != 0) == (nearest != 0)).all()


@of_torch
def test_hard_softmax_is_cross_entropy_over_pytorch_s_topk() -> None:
    def hard(s: Any, tau: Any) -> Any:
        off = ~torch.eye(6, 9, dtype=torch.bool)
        nearest = s[off].reshape(6, 8).topk(3, dim=1).values
        logits = torch.cat([torch.diagonal(s)[:, None], nearest], dim=1) / tau
        return torch.nn.functional.cross_entropy(logits, torch.zeros(6, dtype=torch.long))

    check_same(refcl.hard_softmax_contrastive(COSINES, 0.2, hardest=3), derived(hard, COSINES, 0.2))
