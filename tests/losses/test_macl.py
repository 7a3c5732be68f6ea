"""Model-aware losses: a temperature that follows the alignment, and a penalty that never falls below 1."""

import math
from typing import Any

import numpy as np
import pytest
from cards import Card, S, on_similarities, roles, scalar, two_sided, two_views, variants
from cards import ignored as ignored_pairs
from differences import check_gradient
from digits import (
    check_exact,
    derivatives,
    every_corner,
    everyone,
    exact,
    lse,
    mean,
    row,
    softmax,
    span,
)
from goldens import OF_FAMILY, golden, independent_views, of_stacked, similarities
from loops import Matrix, of_embeddings, of_two_views, reduce
from loops import roles as roles_of
from mpmath import mp, mpf
from peers import X, Y, check_same, derived, of_torch, torch
from peers import unit as on_sphere
from test_hcl import parts

import refcl

TAU = 0.2


def model_aware(
    s: Matrix,
    temperature: float,
    *,
    alpha: float = 0.5,
    alignment: float = 0.0,
    law: str = "linear",
    detach: bool = True,
    reduction: str = "mean",
    **who: Any,
) -> Any:
    each = roles_of(s, **who)
    near = sum(s_i[p] for s_i, (p, _) in zip(s, each, strict=True)) / len(s) - alignment
    temperature = temperature * (alpha**near if law == "power" else 1 + alpha * near)
    loss = []
    for s_i, (p, others) in zip(s, each, strict=True):
        own = math.exp(s_i[p] / temperature)
        rest = sum(math.exp(s_i[k] / temperature) for k in others)
        loss.append(-math.log(own / (own + rest)) / (rest / (own + rest)) if others else 0.0)
    return reduce(loss, reduction=reduction)


def macl(a: Matrix, b: Matrix, temperature: float, *, candidates: str = "both_views", **settings: Any) -> Any:
    of = of_embeddings if candidates == "other_view" else of_two_views
    return of(model_aware)(a, b, temperature, **settings)


def model_aware_loss(s_i: Any, p: int, others: list[int], tau: Any) -> Any:
    x = mp.exp(lse(s_i, others, tau) - s_i[p] / tau)
    return mp.log1p(x) * (1 + x) / x


def model_aware_value(s: Any, tau_0: Any, who: Any) -> Any:
    tau = tau_0 * (1 + mean([s_i[p] for s_i, (p, _) in zip(s, who, strict=True)]) / 2)
    return mean([model_aware_loss(s_i, p, others, tau) for s_i, (p, others) in zip(s, who, strict=True)])


def golden_of_similarities() -> Any:
    for kind, tau in OF_FAMILY:
        yield golden(
            "model_aware_contrastive",
            [similarities(kind, 3, 5), tau],
            lambda s, t: model_aware_value(s, t, everyone(3, 5)),
            exact_s=True,
            detach=False,
        )


def golden_of_views() -> Any:
    for kind in ("plain", "dominated"):
        for tau in (0.05, 0.5, 20.0):
            inputs = [*independent_views(kind), tau]
            yield golden("macl", inputs, of_stacked(model_aware_value), exact_s=False, detach=False)


POWER = {"alpha": 2.0, "alignment": 0.1, "law": "power", "detach": False}
CARDS = [
    Card(
        refcl.model_aware_contrastive,
        [
            *variants(on_similarities, scalar(0.2), alpha=0.7, alignment=0.1, detach=False),
            ("power", on_similarities(scalar(0.2), roles=roles, **POWER)),
        ],
        model_aware,
        golden_of_similarities,
    ),
    Card(
        refcl.macl,
        [
            # Inner products of any size would turn its temperature negative at the usual α.
            *two_sided(0.4, stacked=True, other=0.7, gentle={"alpha": 0.05}, detach=False),
            ("power", two_views(scalar(0.3), stacked=True, **POWER)),
            (
                "other-view",
                two_views(scalar(0.2), ignore=ignored_pairs, candidates="other_view", detach=False, reduction="none"),
            ),
        ],
        macl,
        golden_of_views,
    ),
]


@pytest.mark.parametrize("detach", [True, False])
@every_corner
def test_it_is_exact(kind: Any, temperature: float, detach: bool) -> None:
    s = row(kind)
    value, grads = refcl.model_aware_contrastive(s, temperature, alpha=0.5, detach=detach)
    (s_i,), negatives = exact(s.tolist()), list(range(1, 13))
    frozen = (1 + s_i[0] / 2) * mpf(temperature)

    def gap(at: Any, tau: Any) -> Any:
        return lse(at, negatives, tau) - at[0] / tau

    def loss(at: Any, tau_0: Any) -> Any:
        return model_aware_loss(at, 0, negatives, tau_0 * (1 + at[0] / 2))

    # With the weight and τ's growth held, the slope is the gap's.
    truth, ds, dtau = derivatives(loss, s_i, temperature)
    if detach:
        _, ds, dtau = derivatives(lambda at, tau_0: gap(at, tau_0 * (1 + s_i[0] / 2)), s_i, temperature)
    ratio = span(s_i) / float(frozen)
    check_exact(value, truth, truth, ratio, "value")
    with mp.workdps(800):  # 1 − log(1 + x)/x at x = 1e-300
        x = mp.exp(gap(s_i, frozen))
        pushed = mpf(1) if detach else 1 - mp.log1p(x) / x
    r = softmax(s_i, negatives, frozen)
    bends = pushed * mp.fsum(r[k] * abs(s_i[k] - s_i[0]) for k in negatives) / frozen**2
    for k in negatives:
        check_exact(grads.ds[0, k], pushed * r[k] / frozen, pushed * r[k] / frozen, ratio, f"ds[{k}]")
    size = pushed / frozen + (mpf(0) if detach else bends * mpf(temperature) / 2)
    if size > mpf(10) ** -60:  # below, the differences have no digits left
        check_exact(grads.ds[0, 0], ds[0], size, ratio, "ds[0]")
        check_exact(grads.dtemperature, dtau, bends * frozen / mpf(temperature), ratio, "dtemperature")


def test_detached_weights_and_temperature_are_constants() -> None:
    _, grads = refcl.model_aware_contrastive(S, TAU, alpha=0.7, alignment=0.1, reduction="sum")
    growth = 1 + 0.7 * (np.diag(S).mean() - 0.1)

    def charges(at: Any) -> Any:
        d = at[0][~np.eye(4, 7, dtype=bool)].reshape(4, 6) - np.diag(at[0])[:, None]
        return np.log1p(np.sum(np.exp(d / (at[1] * growth)), axis=1))

    weight = 1 / (1 - np.exp(-charges((S, TAU))))
    check_gradient(tuple(grads), lambda at: float(weight @ charges(at)), (S, np.array(TAU)), step=3e-4)


def test_macl_warms_up_as_positives_come_near() -> None:
    far, near = np.array([[0.1, 0.0, -0.2]]), np.array([[0.9, 0.0, -0.2]])
    assert refcl.model_aware_contrastive(far, TAU)[1].ds[0, 0] == -1 / (TAU * 1.05)
    assert refcl.model_aware_contrastive(near, TAU)[1].ds[0, 0] == -1 / (TAU * 1.45)


def test_the_power_of_macl_has_the_linear_law_s_slope_at_its_alignment() -> None:
    """1 + log α (A − A₀) is where the power starts: at A = A₀ both laws have one value and one gradient."""
    s, at = S, {"alignment": float(np.diag(S).mean()), "detach": False}
    value, grads = refcl.model_aware_contrastive(s, TAU, alpha=2.0, law="power", **at)
    same, theirs = refcl.model_aware_contrastive(s, TAU, alpha=math.log(2.0), **at)
    assert value == pytest.approx(same, rel=1e-14)
    np.testing.assert_allclose(grads.ds, theirs.ds, rtol=1e-12, atol=1e-15)
    assert grads.dtemperature == pytest.approx(theirs.dtemperature, rel=1e-12)
    constant, _ = refcl.model_aware_contrastive(s, TAU, alpha=1.0, law="power")
    assert constant == refcl.model_aware_contrastive(s, TAU, alpha=0.0)[0]


def test_a_law_of_macl_is_checked() -> None:
    with pytest.raises(ValueError, match=r'law must be "linear" or "power"'):
        refcl.model_aware_contrastive(S, TAU, law="cubic")
    with pytest.raises(ValueError, match=r"^model_aware_contrastive: alpha must be > 0"):
        refcl.model_aware_contrastive(S, TAU, alpha=0.0, law="power")


@of_torch
def test_macl_as_lightly_computes_it() -> None:
    """All rows of both views; alignment and weights detached. Its 1e-8 beside 1 − P is left out."""

    def loss(a: Any, b: Any, tau: Any) -> Any:
        near, others = parts(on_sphere(a), on_sphere(b))
        warm = tau * (1 + 0.5 * (near.detach().mean() - 0.2))
        log_p = torch.log_softmax(torch.cat([near[:, None], others], 1) / warm, 1)[:, 0]
        return -(log_p / (1 - log_p.exp()).detach()).mean()

    check_same(refcl.macl(X, Y, 0.2, alpha=0.5, alignment=0.2), derived(loss, X, Y, 0.2))


@of_torch
@pytest.mark.parametrize(("law", "alpha"), [("linear", 1.0), ("power", 2.0)])
def test_macl_as_its_authors_compute_it(law: str, alpha: float) -> None:
    """One direction, the other view's rows alone as candidates; their defaults of α."""

    def loss(a: Any, b: Any, tau: Any) -> Any:
        s = on_sphere(a) @ on_sphere(b).T
        alignment = s.diag().mean().detach()
        p = torch.softmax(s / (tau * (1 + alpha * alignment if law == "linear" else alpha**alignment)), dim=1)
        rest = p.sum(1) - p.diag()
        return -(p.diag().log() / rest.detach()).mean()

    got = refcl.macl(X, Y, 0.2, alpha=alpha, law=law, candidates="other_view")
    check_same(got, derived(loss, X, Y, 0.2))
