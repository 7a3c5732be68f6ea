"""s, t -> loss_i: the softmax loss of a distribution over the candidates."""

from typing import Any

import numpy as np
import pytest
from backends import check_near, check_same_bits, leaves
from cards import Card, drawn, negatives, on_similarities, scalar
from digits import check_all_exact, derivatives, dominated, every_corner, exact, row, softmax, span
from loops import Mask, Matrix, Row, softmax_of_targets
from mpmath import mp, mpf

import refcl
from refcl.walk.pooling.soft_cross_entropy import soft_cross_entropy


def in_loops(
    s: Matrix,
    targets: Matrix,
    temperature: float,
    log_weight: Matrix | None = None,
    *,
    counted: Mask,
    label_smoothing: float = 0.0,
) -> Row:
    ignore = [[not counts for counts in row] for row in counted]
    settings: Any = {"ignore": ignore, "label_smoothing": label_smoothing, "reduction": "none"}
    return softmax_of_targets(s, temperature, log_weight, targets, **settings)  # type: ignore[no-any-return]


def mask(rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    return {"counted": negatives(rng, n, m)}


TARGETS = drawn("N M", "distribution")
CARDS = [
    Card(
        soft_cross_entropy,
        [
            ("plain", on_similarities(TARGETS, scalar(0.3), who=mask)),
            ("weighted", on_similarities(TARGETS, scalar(0.3), drawn("N M"), who=mask, label_smoothing=0.2)),
        ],
        in_loops,
    )
]


@every_corner
@pytest.mark.parametrize("share", [1.0, 0.875])
def test_value_and_gradient_are_exact(kind: Any, temperature: float, share: float) -> None:
    """Where the target is all of one, and where it leaves an eighth to the last: of mixed signs only what must be."""
    s = row(kind)
    t = np.zeros_like(s)
    t[0, 0], t[0, -1] = share, 1 - share
    loss, grads = soft_cross_entropy(s, t, temperature, counted=s < np.inf)
    every, tau = list(range(13)), mpf(temperature)
    x = exact(s[0].tolist())

    def of(x: Any, tau: Any) -> Any:
        rest = lambda p: mp.log1p(mp.fsum(mp.exp((x[k] - x[p]) / tau) for k in every if k != p))  # noqa: E731
        return share * rest(0) + ((1 - share) * rest(12) if share < 1 else 0)

    value, ds, dtau = derivatives(of, x, temperature)
    p = softmax(x, every, tau)
    ahead = {k: mp.fsum(p[j] for j in every if j != k) for k in every}  # 1 − p_k
    halves = [(p[k] * mpf(1 - t[0, k]) + mpf(t[0, k]) * ahead[k]) / tau for k in every]
    terms = mp.fsum(size * abs(x[k] - max(x)) / tau for k, size in zip(every, halves, strict=True))
    ratio = span(s[0]) / temperature
    check_all_exact((loss[0], grads.ds, grads.dtemperature), (value, ds, dtau), (None, halves, terms), ratio)


def test_the_gradient_of_the_targets_is_minus_the_logarithm_of_the_probabilities() -> None:
    s = row(dominated)  # the positive's probability rounds to 1, its logarithm does not to 0
    t = np.full_like(s, 1 / s.shape[1])
    _, grads = soft_cross_entropy(s, t, 0.05, counted=s < np.inf)
    x = exact(s[0].tolist())
    want = [mp.log1p(mp.fsum(mp.exp((y - x[k]) / mpf(0.05)) for j, y in enumerate(x) if j != k)) for k in range(13)]
    check_near(grads.dtargets[0] / np.array(want, dtype=float), np.ones(13), rtol=1e-13)


def test_a_row_without_candidates_costs_nothing_and_a_weight_of_0_leaves_one_out() -> None:
    rng = np.random.default_rng(2)
    s, t = rng.uniform(-1, 1, (2, 5)), rng.dirichlet(np.ones(5), 2)
    none = np.array([[True] * 5, [False] * 5])
    loss, grads = soft_cross_entropy(s, t, 0.2, counted=none)
    assert loss[1] == 0.0
    assert not any(g[1].any() for g in (grads.ds, grads.dtargets))
    t[:, 3], weight = 0.0, np.zeros((2, 5))
    weight[:, 3] = -np.inf
    out, others = soft_cross_entropy(s, t, 0.2, weight, counted=s < 2)
    kept = np.delete(np.arange(5), 3)
    fewer, of_fewer = soft_cross_entropy(s[:, kept], t[:, kept], 0.2, counted=s[:, kept] < 2)
    check_near((out, others.ds[:, kept], others.dtemperature), (fewer, of_fewer.ds, of_fewer.dtemperature), rtol=1e-15)
    assert not others.ds[:, 3].any()


def test_a_positive_that_is_all_of_the_target_is_info_nce_in_every_digit() -> None:
    """Also where it dominates, and the probability of the rest is far below what 1 − p could hold."""
    s = np.array([[0.95, 0.1, -0.2], [0.1, 0.3, -0.2]])
    want = refcl.softmax_contrastive(s, 0.01)
    got = refcl.softmax_contrastive(s, 0.01, None, np.eye(2, 3))
    check_near(got[0], want[0], rtol=1e-14)
    for row_got, row_want in zip(got[1].ds, want[1].ds, strict=True):
        check_near(row_got / row_want, np.ones(3), rtol=1e-14)
    check_near(got[1].dtemperature, want[1].dtemperature, rtol=1e-14)


def test_what_is_not_given_has_no_gradient() -> None:
    s, t = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4))
    for arguments, there in (((), 2), ((None, t), 3), ((t, None, np.ones(3)), 4), ((t, t, np.ones(3)), 5)):
        grads = refcl.softmax_contrastive(s, 0.2, *arguments)[1]
        assert len(list(leaves(tuple(grads)))) == there
        assert [x is None for x in (*arguments, None, None, None)][:3] == [g is None for g in grads[2:]]


def test_a_nan_stays_in_its_row() -> None:
    s, t = np.random.default_rng(0).uniform(0, 1, (2, 3, 4))
    s[1, 2] = np.nan
    loss, grads = soft_cross_entropy(s, t, 0.2, counted=t < 2)
    assert np.isnan(loss).tolist() == [False, True, False]
    alone = soft_cross_entropy(s[::2], t[::2], 0.2, counted=t[::2] < 2)
    check_same_bits((loss[::2], grads.ds[::2]), (alone[0], alone[1].ds))
