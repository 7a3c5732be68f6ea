"""The bound of the design for the losses that grew from the softmax loss, against 50 digits.

Truths are formulas; their gradients are differences at hundreds of digits. What is a sum of mixed signs is held to the
sum of its terms' magnitudes, written down beside each loss; everything else to its own size.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf
from oracle_mpmath import Row, exact
from test_exactness import check_exact, every_kind, every_temperature, row

import refcl
from refcl.penalty import weighted_softplus
from refcl.positives import spread
from refcl.reweighting import debias

M = 13
FRIENDS = [0, 1, 2]  # positives, where there are several
OTHERS = list(range(3, M))


def derivatives(function: Callable[[Row, mpf], mpf], s: Row, temperature: float) -> tuple[Row, mpf]:
    """Return the gradient by similarities and the derivative by the temperature, also where they are 1e-308."""
    tau, gradient = mpf(temperature), []
    with mp.workdps(digits(temperature)):
        step = min(mpf(1), tau) * mpf(10) ** -40
        for index in range(len(s) + 1):
            ahead, behind = [*s, tau], [*s, tau]
            ahead[index], behind[index] = ahead[index] + step, behind[index] - step
            gradient.append((function(ahead[:-1], ahead[-1]) - function(behind[:-1], behind[-1])) / (2 * step))
    return gradient[:-1], gradient[-1]


def digits(temperature: float) -> int:
    """Return how many digits hold exp(−2/τ), or the smallest normal number, beside 1, and a step of 1e-40 with them."""
    return 110 + min(320, int(1 / temperature))


def value_of(function: Callable[[Row, mpf], mpf], s: Row, temperature: float) -> mpf:
    with mp.workdps(digits(temperature)):
        return function(s, mpf(temperature))


def lse(s: Row, who: list[int], tau: mpf) -> mpf:
    top = max(s[k] for k in who)
    return top / tau + mp.log(mp.fsum(mp.exp((s[k] - top) / tau) for k in who))


def softmax(s: Row, who: list[int], tau: mpf) -> dict[int, mpf]:
    total = lse(s, who, tau)
    return {k: mp.exp(s[k] / tau - total) for k in who}


def slope(gap: mpf) -> mpf:
    return mp.exp(gap) / (1 + mp.exp(gap))


def span(s: Row) -> float:
    return float(max(s) - min(s))


@pytest.mark.parametrize("form", ["out", "in"])
@every_temperature
@every_kind
def test_supervised_is_exact(kind: Any, temperature: float, form: str) -> None:
    s = row(kind, M)
    s[0, 1:3] = s[0, 0] + np.array([-0.013, 0.004]) * (temperature if kind.__name__ == "collapsed" else 1.0)
    positives = np.zeros((1, M), dtype=bool)
    positives[0, FRIENDS] = True
    value, grads = refcl.supervised_contrastive(s, temperature, positives=positives, form=form)
    (s_i,) = exact(s.tolist())

    def loss(at: Row, tau: mpf) -> mpf:
        charge = mp.log1p(mp.exp(lse(at, OTHERS, tau) - lse(at, FRIENDS, tau)))
        if form == "in":
            return mp.log(len(FRIENDS)) + charge
        return lse(at, FRIENDS, tau) - mp.fsum(at[p] for p in FRIENDS) / len(FRIENDS) / tau + charge

    ds, dtau = derivatives(loss, s_i, temperature)
    tau, ratio = mpf(temperature), span(s_i) / temperature
    truth = value_of(loss, s_i, temperature)
    check_exact(value, truth, truth, ratio, "value")
    q, r = softmax(s_i, FRIENDS, tau), softmax(s_i, OTHERS, tau)
    sigma = slope(lse(s_i, OTHERS, tau) - lse(s_i, FRIENDS, tau))
    top = max(s_i[p] for p in FRIENDS)
    less = {p: 1 - mp.exp((s_i[p] - top) / tau) for p in FRIENDS}
    mean = mp.fsum(less.values()) / len(FRIENDS)
    total = mp.fsum(mp.exp((s_i[p] - top) / tau) for p in FRIENDS)
    uneven = {p: (less[p] + mean) / total if form == "out" else mpf(0) for p in FRIENDS}
    for k in range(M):
        size = (sigma * q[k] + uneven[k]) / tau if k in q else sigma * r[k] / tau
        check_exact(grads.ds[0, k], ds[k], size, ratio, f"ds[{k}]")
    terms = [sigma * r[k] * abs(s_i[k] - top) for k in OTHERS]
    terms += [(sigma * q[p] + uneven[p]) * abs(s_i[p] - top) for p in FRIENDS]
    check_exact(grads.dtemperature, dtau, mp.fsum(terms) / tau**2, ratio, "dtemperature")


def test_even_positives_keep_the_digits_of_what_sets_them_apart() -> None:
    """q − 1/P of two positives that differ by 1e-12 is a difference that a softmax less 1/2 would not have."""
    s = np.array([[0.9, 0.9 + 1e-12, 0.0]])
    _, grads = spread(s, 0.1, positives=np.array([[True, True, False]]))
    d = exact(s.tolist())[0][0] - exact(s.tolist())[0][1]
    q = mp.exp(d / mpf("0.1")) / (1 + mp.exp(d / mpf(0.1)))
    want = (q - mpf(1) / 2) / mpf(0.1)
    assert abs(mpf(float(grads.ds[0, 0])) - want) <= abs(want) * mpf(1e-14)
    e = np.exp(s[0, :2] / 0.1)
    assert abs(mpf(float((e[0] / e.sum() - 0.5) / 0.1)) - want) > abs(want) * mpf(1e-6)


@every_temperature
@every_kind
def test_decoupled_is_exact(kind: Any, temperature: float) -> None:
    s = row(kind, M)
    value, grads = refcl.decoupled_contrastive(s, temperature)
    (s_i,) = exact(s.tolist())
    negatives = list(range(1, M))

    def loss(at: Row, tau: mpf) -> mpf:
        return lse(at, negatives, tau) - at[0] / tau

    ds, dtau = derivatives(loss, s_i, temperature)
    tau, ratio = mpf(temperature), span(s_i) / temperature
    top = max(s_i[k] for k in negatives)
    size = abs(top - s_i[0]) / tau + mp.log(M - 1)
    check_exact(value, value_of(loss, s_i, temperature), size, ratio, "value")
    r = softmax(s_i, negatives, tau)
    for k in range(M):
        check_exact(grads.ds[0, k], ds[k], r[k] / tau if k else 1 / tau, ratio, f"ds[{k}]")
    size = mp.fsum(r[k] * abs(s_i[k] - s_i[0]) for k in negatives) / tau**2
    check_exact(grads.dtemperature, dtau, size, ratio, "dtemperature")


@pytest.mark.parametrize("detach", [False, True])
@every_temperature
@every_kind
def test_weighted_decoupled_is_exact(kind: Any, temperature: float, detach: bool) -> None:
    """Three anchors, whose positives stand in column 0; the gradient of the sum of their losses."""
    rng = np.random.default_rng(3)
    s, sigma, n = np.stack([kind(rng, 9) for _ in range(3)]), mpf(0.4), 3
    positive = np.zeros(n, dtype=int)
    value, grads = refcl.weighted_decoupled_contrastive(
        s, temperature, sigma=0.4, detach=detach, positive=positive, reduction="none"
    )
    matrix, tau, negatives = exact(s.tolist()), mpf(temperature), list(range(1, 9))
    near = [r[0] for r in matrix]
    share = softmax(near, [0, 1, 2], sigma)
    ratio = max(span(r) for r in matrix) / temperature + span(near) / 0.4

    def losses(entries: Row, t: mpf) -> list[mpf]:
        rows = [entries[9 * i : 9 * (i + 1)] for i in range(n)]
        shares = share if detach else softmax([r[0] for r in rows], [0, 1, 2], sigma)
        return [lse(r, negatives, t) - (2 - n * shares[i]) * r[0] / t for i, r in enumerate(rows)]

    flat = [x for r in matrix for x in r]
    ds, dtau = derivatives(lambda at, t: mp.fsum(losses(at, t)), flat, temperature)
    pull = [(1 + abs(n * share[i] - 1) + n * share[i]) / tau for i in range(n)]
    for i, want in enumerate(losses(flat, tau)):
        size = max(abs(x - near[i]) for x in matrix[i]) / tau + mp.log(8) + pull[i] * abs(near[i])
        check_exact(value[i], want, size, ratio, f"value[{i}]")
    mean = mp.fsum(share[i] * abs(near[i]) for i in range(n))
    for i in range(n):
        r = softmax(matrix[i], negatives, tau)
        moved = mpf(0) if detach else n * share[i] * (abs(near[i]) + mean) / sigma / tau
        check_exact(grads.ds[i, 0], ds[9 * i], pull[i] + moved, ratio, f"ds[{i}, 0]")
        for k in negatives:
            check_exact(grads.ds[i, k], ds[9 * i + k], r[k] / tau, ratio, f"ds[{i}, {k}]")
    size = mp.fsum(
        mp.fsum(softmax(r, negatives, tau)[k] * abs(r[k] - r[0]) for k in negatives) / tau + pull[i] * abs(r[0])
        for i, r in enumerate(matrix)
    )
    check_exact(grads.dtemperature, dtau, size / tau, ratio, "dtemperature")


@pytest.mark.parametrize(("tau_plus", "beta"), [(0.0, 0.0), (0.1, 0.0), (0.0, 1.0), (0.1, 0.7)])
@every_temperature
@every_kind
def test_reweighted_is_exact(kind: Any, temperature: float, tau_plus: float, beta: float) -> None:
    s = row(kind, M)
    value, grads = refcl.reweighted_contrastive(s, temperature, tau_plus=tau_plus, beta=beta)
    (s_i,) = exact(s.tolist())
    negatives, share, b = list(range(1, M)), mpf(tau_plus), mpf(beta)
    tau = mpf(temperature)

    def weighed(at: Row, t: mpf) -> mpf:
        """Return the reweighted soft maximum above the positive, over K."""
        hot = lse(at, negatives, t / (1 + b))
        cold = lse(at, negatives, t / b) if beta else mp.log(M - 1)
        return hot - cold - at[0] / t

    def estimate(at: Row, t: mpf) -> mpf:
        return (mp.exp(weighed(at, t)) - share) / (1 - share) * (M - 1)

    def floor(at: Row, t: mpf) -> mpf:
        return (M - 1) * mp.exp(-(1 + at[0]) / t)

    holds = tau_plus > 0 and estimate(s_i, tau) < floor(s_i, tau)
    pooled = floor if holds else estimate

    def loss(at: Row, t: mpf) -> mpf:
        return mp.log1p(pooled(at, t))

    ds, dtau = derivatives(loss, s_i, temperature)
    # The floor is where all similarities are −1, which so are within the range.
    ratio = (1 + beta) * max(span(s_i), float(1 + max(s_i)) if tau_plus else 0.0) / temperature
    truth = value_of(loss, s_i, temperature)
    left = 1 / (1 + pooled(s_i, tau))
    # The terms of N_g, e^gap and τ⁺, over what is left of them: what a difference costs.
    amount = (mp.exp(weighed(s_i, tau)) + share) / (1 - share) * (M - 1)
    cost = truth if holds or not tau_plus else truth + left * amount
    check_exact(value, truth, cost, ratio, "value")
    q = softmax(s_i, negatives, tau / (1 + b))
    p = softmax(s_i, negatives, tau / b) if beta else dict.fromkeys(negatives, mpf(0))
    # σ times its slope is e^gap K/(1 − τ⁺) over 1 + N_g; a difference within N_g costs it σ N_g's share more.
    weight = mp.exp(weighed(s_i, tau)) * (M - 1) / (1 - share) * left
    weight *= 1 + (left * amount if tau_plus else 0)
    for k in negatives:
        size = mpf(0) if holds else weight * ((1 + b) * q[k] + b * p[k]) / tau
        check_exact(grads.ds[0, k], ds[k], size if beta or tau_plus else abs(ds[k]), ratio, f"ds[{k}]")
    size = abs(ds[0]) if holds or not tau_plus else weight / tau
    check_exact(grads.ds[0, 0], ds[0], size, ratio, "ds[0]")
    if holds:
        size = abs(dtau)
    else:
        size = weight * mp.fsum(((1 + b) * q[k] + b * p[k]) * abs(s_i[k] - s_i[0]) for k in negatives) / tau**2
    check_exact(grads.dtemperature, dtau, size, ratio, "dtemperature")


@pytest.mark.parametrize("detach", [True, False])
@every_temperature
@every_kind
def test_model_aware_is_exact(kind: Any, temperature: float, detach: bool) -> None:
    s = row(kind, M)
    value, grads = refcl.model_aware_contrastive(s, temperature, alpha=0.5, detach=detach)
    (s_i,) = exact(s.tolist())
    negatives, half = list(range(1, M)), mpf(1) / 2
    frozen = (1 + half * s_i[0]) * mpf(temperature)

    def gap(at: Row, tau: mpf) -> mpf:
        return lse(at, negatives, tau) - at[0] / tau

    def loss(at: Row, tau_0: mpf) -> mpf:
        x = mp.exp(gap(at, tau_0 * (1 + half * at[0])))
        return mp.log1p(x) * (1 + x) / x

    def gradient_of(at: Row, tau_0: mpf) -> mpf:
        """Return the function whose gradient is taken: with the weight and τ's growth held, its slope is the gap's."""
        return gap(at, tau_0 * (1 + half * s_i[0])) if detach else loss(at, tau_0)

    ds, dtau = derivatives(gradient_of, s_i, temperature)
    ratio = span(s_i) / float(frozen)
    truth = value_of(loss, s_i, temperature)
    check_exact(value, truth, truth, ratio, "value")
    with mp.workdps(800):  # 1 − log(1 + x)/x at x = 1e-300
        x = mp.exp(gap(s_i, frozen))
        pushed = mpf(1) if detach else 1 - mp.log1p(x) / x
    r = softmax(s_i, negatives, frozen)
    bends = pushed * mp.fsum(r[k] * abs(s_i[k] - s_i[0]) for k in negatives) / frozen**2
    for k in negatives:
        check_exact(grads.ds[0, k], pushed * r[k] / frozen, pushed * r[k] / frozen, ratio, f"ds[{k}]")
    size = pushed / frozen + (mpf(0) if detach else bends * mpf(temperature) * half)
    if size > mpf(10) ** -60:  # below, the differences have no digits left
        check_exact(grads.ds[0, 0], ds[0], size, ratio, "ds[0]")
        check_exact(grads.dtemperature, dtau, bends * frozen / mpf(temperature), ratio, "dtemperature")


def test_the_weighted_softplus_is_exact() -> None:
    gap = np.array([-700.0, -300.0, -40.0, -5.0, -1.0, -0.7, -1e-3, 0.0, 1e-3, 0.5, 2.0, 40.0, 700.0])
    loss, grads = weighted_softplus(gap, detach=False)
    with mp.workdps(800):
        for g, value, dgap in zip(gap, loss, grads.dgap, strict=True):
            x = mp.exp(mpf(float(g)))
            for got, want in ((value, mp.log1p(x) * (1 + x) / x), (dgap, 1 - mp.log1p(x) / x)):
                assert abs(mpf(float(got)) / want - 1) < 2e-15 * (1 + abs(float(g)) / 8), (g, got)


@every_temperature
@every_kind
def test_per_anchor_is_exact(kind: Any, temperature: float) -> None:
    s = row(kind, M)
    value, grads = refcl.per_anchor_contrastive(s, np.array([temperature]))
    (s_i,) = exact(s.tolist())
    negatives = list(range(1, M))

    def loss(at: Row, tau: mpf) -> mpf:
        return mp.log1p(mp.exp(lse(at, negatives, tau) - at[0] / tau))

    ds, dtau = derivatives(loss, s_i, temperature)
    tau, ratio = mpf(temperature), span(s_i) / temperature
    truth = value_of(loss, s_i, temperature)
    check_exact(value, truth, truth, ratio, "value")
    for k in range(M):
        check_exact(grads.ds[0, k], ds[k], abs(ds[k]), ratio, f"ds[{k}]")
    size = mp.fsum(abs(ds[k] * (s_i[k] - s_i[0])) for k in negatives) / tau
    check_exact(grads.dtemperature[0], dtau, size, ratio, "dtemperature")


@pytest.mark.parametrize("penalty", ["softplus", "identity"])
@every_temperature
@every_kind
def test_second_order_is_exact(kind: Any, temperature: float, penalty: str) -> None:
    """Also where the positive dominates: P⁺(v⁺ − ⟨P, v⟩) of a P⁺ that rounds to 1 would be a difference of nothing."""
    s, v = row(kind, M), np.random.default_rng(5).standard_normal((1, M))
    got = refcl.hessian_vector_product(s, v, temperature, penalty=penalty)
    ((s_i,), (v_i,)) = exact(s.tolist()), exact(v.tolist())
    negatives, tau, ratio = list(range(1, M)), mpf(temperature), span(exact(s.tolist())[0]) / temperature
    with mp.workdps(400):
        r = softmax(s_i, negatives, tau)
        sigma, rest = mpf(1), mpf(0)
        if penalty == "softplus":
            x = mp.exp(lse(s_i, negatives, tau) - s_i[0] / tau)
            sigma, rest = x / (1 + x), 1 / (1 + x)
        share = {0: rest} | {k: sigma * r[k] for k in negatives}
        u = {k: abs(v_i[k] - v_i[0]) for k in negatives}
        mean_size = mp.fsum(r[k] * u[k] for k in negatives)
        mean = mp.fsum(share[k] * v_i[k] for k in share)
        want = [share[k] * (v_i[k] - mean) / tau**2 for k in range(M)]
    for k in range(M):
        size = sigma * rest * mean_size if k == 0 else sigma * r[k] * (u[k] + sigma * mean_size)
        check_exact(got[0, k], want[k], size / tau**2, 2 * ratio, f"product[{k}]")


@pytest.mark.parametrize("tau_plus", [1e-6, 0.1, 0.9])
def test_a_correction_keeps_the_digits_that_its_terms_have(tau_plus: float) -> None:
    """log(e^gap − τ⁺ K) from near its zero to far from it."""
    over = np.array([1e-9, 1e-4, 0.1, 0.69, 0.7, 3.0, 50.0])
    count = np.full(over.shape, 12.0)
    gap = np.log(12 * tau_plus) + over
    # at a τ so small that the floor is nothing
    corrected, grads = debias(gap, np.full(over.shape, 0.5), 1e-2, count=count, tau_plus=tau_plus)
    for k, got in enumerate(corrected):
        amount = mp.exp(mpf(float(gap[k])))
        left = amount - mpf(tau_plus) * 12
        want = mp.log(left / (1 - mpf(tau_plus)))
        cost = (amount + mpf(tau_plus) * 12) / left  # of a relative error in the terms of the difference
        size = 8 * np.finfo(float).eps * (1 + abs(float(gap[k]))) * float(cost)
        assert abs(mpf(float(got)) - want) <= size
        assert abs(mpf(float(grads.dgap[k])) * left / amount - 1) <= size
