"""MoCo: a queue of negatives that all anchors share."""

import math
from typing import Any

import numpy as np
from backends import EPS, check_near
from cards import INDEX, KEY, MEMORY, QUERY, Builder, Built, Card, Sizes, both, ignored, made, rows, scalar
from digits import cosines, exact, softmax_value
from goldens import EXACT_AND_NOT, at_columns, both_views, embeddings, golden, similarities
from loops import Matrix, of_embeddings, reduce, softmax_contrastive
from mpmath import mp
from peers import BANK, F, N, X, Y, check_same, derived, of_torch, torch
from peers import unit as on_sphere

import refcl

RTOL = 64 * EPS["float64"]


def moco(
    query: Matrix, key: Matrix, tau: float, *, queue: Matrix, ignore: Any = None, reduction: str = "mean", **how: Any
) -> Any:
    """Take, for each query alone, its key and then the queue as candidates."""
    loss = []
    for i, (q, k) in enumerate(zip(query, key, strict=True)):
        mask = None if ignore is None else [[False, *ignore[i]]]
        loss += of_embeddings(softmax_contrastive)([q], [k, *queue], tau, ignore=mask, reduction="none", **how)
    return reduce(loss, reduction=reduction)


def against_queue(temperature: float, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        inputs = (rows(rng, z.n, z.d), rows(rng, z.n, z.d), scalar(temperature))
        return inputs, {"queue": rows(rng, z.m, z.d), **made(settings, rng, z.n, z.m)}

    return build


def golden_rows() -> Any:
    for kind, tau, exact_s in EXACT_AND_NOT:
        if exact_s:  # column 0 is the key's, the others the queue's
            query, key = at_columns(similarities(kind), [0, 0, 0]), np.tile(np.eye(4)[:1], (3, 1))
            queue = np.eye(4)[1:]
        else:
            (query, key), queue = both_views(kind), embeddings("plain", 4)
        fixed = exact(queue.tolist())

        def value(query: Any, key: Any, tau: Any, exact_s: bool = exact_s, fixed: Any = fixed) -> Any:
            if exact_s:
                s_pos = [mp.fdot(q, k) for q, k in zip(query, key, strict=True)]
                s_neg = [[mp.fdot(q, k) for k in fixed] for q in query]
            else:
                s_pos, s_neg = [row[i] for i, row in enumerate(cosines(query, key))], cosines(query, fixed)
            beside = [[s, *rest] for s, rest in zip(s_pos, s_neg, strict=True)]
            return softmax_value(beside, tau, [(0, list(range(1, len(fixed) + 1)))] * 3)

        yield golden("moco", [query, key, tau], value, exact_s=exact_s, queue=queue, normalize=not exact_s)


CARDS = [
    Card(
        refcl.moco,
        [
            ("plain", against_queue(0.2)),
            ("ignore", against_queue(0.2, ignore=ignored, reduction="sum")),
            ("each", against_queue(0.2, ignore=ignored, reduction="none")),
            ("as-they-are", against_queue(0.7, normalize=False)),
        ],
        moco,
        golden_rows,
    )
]


def test_moco_is_info_nce_with_the_other_keys_ignored() -> None:
    value, grads = refcl.moco(QUERY, KEY, 0.2, queue=MEMORY)
    other_keys = np.hstack([~np.eye(4, dtype=bool), np.zeros((4, 6), dtype=bool)])
    same, others = refcl.info_nce(QUERY, np.vstack([KEY, MEMORY]), 0.2, ignore=other_keys)
    check_near(both((value, grads)), (same, (others.dquery, others.dkey[:4], others.dtemperature)), rtol=RTOL)


def test_without_negatives_there_is_nothing_to_learn() -> None:
    every = np.ones((4, 6), dtype=bool)
    for value, grads in (
        refcl.moco(QUERY, KEY, 0.2, queue=MEMORY, ignore=every),
        refcl.inst_disc(QUERY, 0.2, bank=MEMORY, index=INDEX, ignore=every),
    ):
        assert value == 0.0
        assert not any(np.any(d) for d in grads)


def test_a_key_that_dominates_keeps_its_digits() -> None:
    """Cross-entropy of the stacked logits is 0 here."""
    query, queue = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    value, grads = refcl.moco(query, query, 0.01, queue=queue)
    assert math.isclose(value, math.exp(-100), rel_tol=1e-13)
    assert math.isclose(grads.dquery[0, 1], math.exp(-100) / 0.01, rel_tol=1e-13)


@of_torch
def test_moco_is_a_cross_entropy_with_label_0() -> None:
    queue = on_sphere(torch.tensor(BANK))

    def loss(query: Any, key: Any, temperature: Any) -> Any:
        query, key = on_sphere(query), on_sphere(key)
        logits = torch.cat([(query * key).sum(dim=1, keepdim=True), query @ queue.T], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(N, dtype=torch.long))

    check_same(refcl.moco(X, Y, 0.2, queue=BANK), derived(loss, X, Y, 0.2))
