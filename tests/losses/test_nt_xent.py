"""NT-Xent."""

import math
from typing import Any

import goldens
import numpy as np
import pytest
from backends import Backend, check_near, leaves
from cards import KEY, QUERY, Card, both, freedoms, scalar, two_sided, two_views
from digits import cosines, soft_value, softmax_value
from goldens import OF_EMBEDDINGS, both_views, embeddings, golden, of_stacked
from loops import Mask, Matrix, softmax_of_embeddings
from mpmath import mpf
from peers import NEAR, F, N, X, Y, check_same, derived, of_jax, of_torch, torch
from peers import unit as on_sphere

import refcl


def nt_xent(
    a: Matrix,
    b: Matrix,
    temperature: float,
    own_negatives: Any = None,
    log_weight: Any = None,
    targets: Any = None,
    anchor_weight: Any = None,
    *,
    ignore: Mask | None = None,
    add_views: bool = False,
    reduction: str = "mean",
    **settings: Any,
) -> Any:
    n, z = len(a), [*a, *b]
    left_out = [[i == k or (ignore is not None and ignore[i][k]) for k in range(2 * n)] for i in range(2 * n)]
    more = own_negatives, log_weight, targets, anchor_weight
    partner = [(i + n) % (2 * n) for i in range(2 * n)]
    each = softmax_of_embeddings(
        z, z, temperature, *more, positive=partner, ignore=left_out, reduction="none", **settings
    )
    if add_views:
        return sum(each[:n]) / n + sum(each[n:]) / n
    return each if reduction == "none" else sum(each) / (2 * n if reduction == "mean" else 1)


def golden_rows() -> Any:
    for kind in OF_EMBEDDINGS:
        for tau in (0.05, 20.0):
            yield golden("nt_xent", [*both_views(kind), tau], of_stacked(softmax_value), exact_s=False)
    itself = np.eye(6, dtype=bool).tolist()
    for kind in OF_EMBEDDINGS:
        yield golden(
            "nt_xent",
            [*both_views(kind), 0.05, embeddings("plain", 6).reshape(6, 1, 2), *goldens.freedoms(6, 6)],
            lambda a, b, tau, own, w, t, each: soft_value(
                [[*s, *cosines([z], rows)[0]] for s, z, rows in zip(cosines(a + b, a + b), a + b, own, strict=True)],
                tau,
                *([[*row, mpf(0)] for row in x] for x in (w, t)),
                each,
                [[*row, False] for row in itself],
            ),
            exact_s=False,
        )


CARDS = [
    Card(
        refcl.nt_xent,
        [
            *two_sided(0.5, stacked=True),
            ("views-added", two_views(scalar(0.5), stacked=True, add_views=True)),
            *[(name, two_views(scalar(0.5), *more, **how)) for name, more, how in freedoms("2N", "2N", "2N")],
        ],
        nt_xent,
        golden_rows,
    )
]


def test_it_is_info_nce_of_the_stacked_rows() -> None:
    z = np.concatenate([QUERY, KEY])
    value, grads = refcl.info_nce(z, z, 0.4, positive=(np.arange(8) + 4) % 8, ignore=np.eye(8, dtype=bool))
    got, got_grads = refcl.nt_xent(QUERY, KEY, 0.4)
    check_near(got, value, rtol=1e-15)
    check_near(np.concatenate([got_grads.da, got_grads.db]), grads.dquery + grads.dkey, rtol=1e-14)


def test_nt_xent_of_one_pair_has_no_negatives(backend: Backend) -> None:
    loss, grads = refcl.nt_xent(backend.array(QUERY[:1]), backend.array(KEY[:1]), 0.4)
    assert float(backend.host(loss)) == 0.0
    assert not any(backend.host(g).any() for g in leaves(tuple(grads)))


def test_nt_xent_of_identical_embeddings_is_the_log_of_the_number_of_candidates() -> None:
    same = np.tile(QUERY[:1], (6, 1))
    check_near(refcl.nt_xent(same, same, 0.1)[0], math.log(11), rtol=1e-14)


def test_it_ignores_what_it_is_told() -> None:
    ignore = np.zeros((8, 8), dtype=bool)
    ignore[:, [1, 5]] = True
    ignore[[1, 5]] = False
    kept = [0, 2, 3]
    each = refcl.nt_xent(QUERY, KEY, 0.4, ignore=ignore, reduction="none")[0]
    fewer = refcl.nt_xent(QUERY[kept], KEY[kept], 0.4, reduction="none")[0]
    check_near(each[[0, 2, 3, 4, 6, 7]], fewer, rtol=1e-14)


class TestViewsAdded:
    def test_it_is_twice_the_mean(self) -> None:
        value, grads = refcl.nt_xent(QUERY, KEY, 0.5, add_views=True)
        same, others = refcl.nt_xent(QUERY, KEY, 0.5)
        check_near((value, *grads), tuple(2 * x for x in leaves((same, *others))), rtol=0.0)

    @pytest.mark.parametrize("reduction", ["sum", "none"])
    def test_where_nothing_is_averaged_it_changes_nothing(self, reduction: str) -> None:
        check_near(
            both(refcl.nt_xent(QUERY, KEY, 0.5, add_views=True, reduction=reduction)),
            both(refcl.nt_xent(QUERY, KEY, 0.5, reduction=reduction)),
            rtol=0.0,
        )


@of_torch
def test_nt_xent_is_cross_entropy_of_the_stacked_views_in_pytorch() -> None:
    functional = torch.nn.functional

    def nt_xent(a: Any, b: Any, tau: Any) -> Any:
        z = functional.normalize(torch.cat([a, b]))
        logits = (z @ z.T / tau).masked_fill(torch.eye(12, dtype=torch.bool), -torch.inf)
        return functional.cross_entropy(logits, (torch.arange(12) + 6) % 12)

    check_same(refcl.nt_xent(X, Y, 0.5), derived(nt_xent, X, Y, 0.5))


@of_torch
def test_nt_xent_with_views_added_is_the_tensorflow_code() -> None:
    """Two cross-entropies, each a mean over N, each with the other view first and the own view masked by −1e9."""

    def loss(a: Any, b: Any, temperature: Any) -> Any:
        a, b, masks = on_sphere(a), on_sphere(b), 1e9 * torch.eye(N, dtype=torch.float64)
        aa, bb, ab = (x @ y.T / temperature for x, y in ((a, a), (b, b), (a, b)))
        diagonal = torch.arange(N)
        loss_a = F.cross_entropy(torch.cat([ab, aa - masks], dim=1), diagonal)
        return loss_a + F.cross_entropy(torch.cat([ab.T, bb - masks], dim=1), diagonal)

    check_same(refcl.nt_xent(X, Y, 0.5, add_views=True), derived(loss, X, Y, 0.5))


@of_torch
def test_nt_xent_is_pytorch_metric_learning_s() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses", reason="pytorch-metric-learning is not installed")
    labels = torch.tensor(np.tile(np.arange(6), 2))
    theirs = derived(lambda a, b: losses.NTXentLoss(temperature=0.3)(torch.cat([a, b]), labels), X, Y)
    ours, grads = refcl.nt_xent(X, Y, 0.3)
    check_same((ours, tuple(grads)[:2]), theirs)


@of_jax
def test_nt_xent_is_optax_s(jax: Any) -> None:
    optax = pytest.importorskip("optax", reason="Optax is not installed")
    embeddings, labels = np.concatenate([X, Y]), np.tile(np.arange(6), 2)
    theirs = optax.losses.ntxent(jax.numpy.asarray(embeddings), jax.numpy.asarray(labels), temperature=0.3)
    ours, _ = refcl.nt_xent(X, Y, 0.3)
    check_near(ours, np.asarray(theirs), rtol=NEAR)
