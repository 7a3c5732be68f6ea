"""Contrastive multiview coding."""

import math
from typing import Any

import numpy as np
import pytest
from backends import EPS, check_near
from cards import KEY, MEMORY, QUERY, Builder, Built, Card, Sizes, both, ignored, made, rows, scalar
from digits import cosines, everyone, softmax_value
from goldens import embeddings, golden
from loops import of_embeddings, softmax_contrastive
from mpmath import mp
from peers import D, F, N, X, Y, check_same, derived, of_torch, torch
from peers import unit as on_sphere

import refcl

RTOL = 64 * EPS["float64"]


def cmc(views: Any, temperature: float, *, core: bool | int = False, reduction: str = "mean", **settings: Any) -> Any:
    numbers, first = range(len(views)), 0 if core is True else core
    pairs = [(i, j) for i in numbers for j in numbers if (i < j if core is False else j != i == first)]
    one_way = of_embeddings(softmax_contrastive)
    losses = [
        one_way(views[i], views[j], temperature, reduction=reduction, **settings)
        for pair in pairs
        for i, j in (pair, pair[::-1])
    ]
    return losses if reduction == "none" else sum(losses)


def many_views(count: int, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        views = tuple(rows(rng, z.n, z.d) for _ in range(count))
        return (views, scalar(0.3)), made(settings, rng, z.n, z.n)

    return build


def golden_rows() -> Any:
    for kind, tau, core in (("plain", 0.07, False), ("dominated", 0.07, True), ("plain", 5.0, 2)):
        views = [embeddings(kind, 3), embeddings("plain", 3) + 0.1, embeddings("antipodal", 3) - 0.2]
        if kind == "dominated":
            views = [views[0], 0.5 * views[0], 2.0 * views[0]]
        pairs = {False: [(0, 1), (0, 2), (1, 2)], True: [(0, 1), (0, 2)], 2: [(2, 0), (2, 1)]}[core]

        def value(z: Any, tau: Any, pairs: Any = pairs) -> Any:
            return mp.fsum(
                softmax_value(cosines(z[i], z[j]), tau, everyone(3, 3)) for pair in pairs for i, j in (pair, pair[::-1])
            )

        yield golden("cmc", [[view.tolist() for view in views], tau], value, exact_s=False, core=core)


CARDS = [
    Card(
        refcl.cmc,
        [
            ("all-pairs", many_views(4, core=False)),
            ("first", many_views(4, core=True)),
            ("core", many_views(4, core=2)),
            ("two-views", many_views(2, ignore=ignored, reduction="sum")),
            ("each", many_views(3, ignore=ignored, reduction="none")),
            ("as-they-are", many_views(3, normalize=False)),
        ],
        cmc,
        golden_rows,
    )
]


def test_two_views_are_twice_clip() -> None:
    value, grads = refcl.cmc((QUERY, KEY), 0.2)
    same, others = refcl.clip(QUERY, KEY, -math.log(0.2))
    check_near((value, *grads.dviews), tuple(2 * x for x in (same, others.dimage, others.dtext)), rtol=1e-13)


def test_a_core_view_is_all_pairs_less_those_without_it() -> None:
    a, b, c = QUERY, KEY, MEMORY[:4]
    full = refcl.cmc((a, b, c), 0.2)
    rest = refcl.cmc((a, c), 0.2)
    core = refcl.cmc((a, b, c), 0.2, core=1)
    check_near(core[0] + rest[0], full[0], rtol=RTOL)
    check_near(core[1].dviews[0] + rest[1].dviews[0], full[1].dviews[0], rtol=RTOL)


def test_true_is_the_first_view_and_so_is_0() -> None:
    views = (QUERY, KEY, MEMORY[:4])
    check_near(both(refcl.cmc(views, 0.2, core=True)), both(refcl.cmc(views, 0.2, core=0)), rtol=0.0)
    assert refcl.cmc(views, 0.2, core=0)[0] < refcl.cmc(views, 0.2)[0]


def test_ignored_samples_are_ignored_in_every_direction() -> None:
    ignore = np.zeros((4, 4), dtype=bool)
    ignore[2] = True
    each, _ = refcl.cmc((QUERY, KEY, MEMORY[:4]), 0.2, ignore=ignore, reduction="none")
    assert each.shape == (6, 4)
    assert not each[:, 2].any()
    assert np.delete(each, 2, axis=1).all()


def test_one_sample_has_no_negatives() -> None:
    value, grads = refcl.cmc((QUERY[:1], KEY[:1]), 0.2)
    assert value == 0.0
    assert not np.any(grads.dviews)


@of_torch
@pytest.mark.parametrize("core", [False, True, 2])
def test_cmc_adds_cross_entropies_in_both_directions(core: bool | int, rng: np.random.Generator) -> None:
    views = (X, Y, rows(rng, N, D))
    pairs = {False: [(0, 1), (0, 2), (1, 2)], True: [(0, 1), (0, 2)], 2: [(2, 0), (2, 1)]}[core]

    def loss(a: Any, b: Any, c: Any, temperature: Any) -> Any:
        z, diagonal = [on_sphere(x) for x in (a, b, c)], torch.arange(N)
        one_way = [(z[i] @ z[j].T / temperature, diagonal) for pair in pairs for i, j in (pair, pair[::-1])]
        return sum(F.cross_entropy(*logits) for logits in one_way)

    check_same(refcl.cmc(views, 0.2, core=core), derived(loss, *views, 0.2))
