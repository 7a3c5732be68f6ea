"""Alignment and uniformity as one loss."""

from typing import Any

from cards import Card, two_views
from digits import cosines, mean
from goldens import golden, independent_views
from loops import Matrix, alignment, l2_normalize, uniformity
from mpmath import mp
from peers import X, Y, check_same, derived, of_torch, torch
from peers import unit as on_sphere

import refcl


def align_uniform(
    a: Matrix,
    b: Matrix,
    *,
    align_weight: float = 1.0,
    uniform_weight: float = 1.0,
    alpha: float = 2.0,
    t: float = 2.0,
    normalize: bool = True,
) -> float:
    if normalize:
        a, b = l2_normalize(a), l2_normalize(b)
    return align_weight * alignment(a, b, alpha=alpha) + uniform_weight * (uniformity(a, t=t) + uniformity(b, t=t)) / 2


def golden_rows() -> Any:
    def distance(u: Any, v: Any) -> Any:
        return 2 - 2 * cosines([u], [v])[0][0]

    def uniform(z: Any) -> Any:
        pairs = [(i, j) for i in range(len(z)) for j in range(i)]
        return mp.log(mean([mp.exp(-2 * distance(z[i], z[j])) for i, j in pairs]))

    def value(a: Any, b: Any) -> Any:
        return mean([distance(u, v) for u, v in zip(a, b, strict=True)]) + (uniform(a) + uniform(b)) / 2

    for kind in ("plain", "dominated"):
        yield golden("align_uniform", independent_views(kind), value, exact_s=False)


CARDS = [
    Card(
        refcl.align_uniform,
        [
            ("plain", two_views(least=2)),  # one row makes no pair
            ("settings", two_views(least=2, align_weight=0.7, uniform_weight=1.3, alpha=1.5, t=0.8)),
            ("as-they-are", two_views(least=2, t=0.3, normalize=False)),
        ],
        align_uniform,
        golden_rows,
    )
]


@of_torch
def test_alignment_and_uniformity_as_their_authors_compute_them() -> None:
    def loss(a: Any, b: Any) -> Any:
        a, b = on_sphere(a), on_sphere(b)
        uniform = [torch.pdist(x).pow(2).mul(-2).exp().mean().log() for x in (a, b)]
        return 0.7 * (a - b).norm(dim=1).pow(2).mean() + 1.3 * (uniform[0] + uniform[1]) / 2

    check_same(refcl.align_uniform(X, Y, align_weight=0.7, uniform_weight=1.3), derived(loss, X, Y))
