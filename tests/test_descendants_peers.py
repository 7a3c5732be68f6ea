"""The losses that grew from the softmax loss against code that is not ours.

PyTorch's autograd of the formulas as their codes compute them, and published losses where they are installed. Agreement
is to float64 rounding, under the convention that each test names.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backends import check_near
from cases import rows

import refcl

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional

RNG = np.random.default_rng(17)
N, D = 6, 4
A, B = rows(RNG, N, D), rows(RNG, N, D) + 0.5
Z, LABELS = rows(RNG, 11, D), np.array([0, 1, 2, 0, 1, 2, 0, 0, 3, 1, 2])
RTOL = 1e-12


def autograd(loss: Callable[..., Any], *inputs: Any) -> tuple[float, tuple[Any, ...]]:
    """Return a loss of tensors and its gradients, on the host."""
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    value = loss(*tensors)
    value.backward()
    return float(value.detach()), tuple(x.grad.numpy() for x in tensors)


def check_agrees(call: tuple[Any, Any], want: tuple[float, tuple[Any, ...]], rtol: float = RTOL) -> None:
    value, grads = call
    check_near(value, want[0], rtol=rtol)
    for got, expected in zip(grads, want[1], strict=True):
        check_near(got, expected, rtol=rtol)


def unit(x: Any) -> Any:
    return F.normalize(x, dim=1)


def parts(a: Any, b: Any) -> tuple[Any, Any]:
    """Return each stacked row's similarity to its positive (2N,) and to its negatives (2N, 2N − 2)."""
    z = torch.cat([a, b])
    s = z @ z.T
    n = a.shape[0]
    partner = torch.arange(2 * n).roll(n)
    negative = torch.ones_like(s, dtype=torch.bool)
    negative[torch.arange(2 * n), torch.arange(2 * n)] = False
    negative[torch.arange(2 * n), partner] = False
    return s[torch.arange(2 * n), partner], s[negative].reshape(2 * n, -1)


def class_log_probabilities(z: Any, tau: Any) -> tuple[Any, Any]:
    """Return log-probabilities among all others, and which of them are positives."""
    itself = torch.eye(z.shape[0], dtype=torch.bool)
    logits = (unit(z) @ unit(z).T / tau).masked_fill(itself, -math.inf)
    labels = torch.tensor(LABELS)
    alike = (labels[:, None] == labels[None, :]) & ~itself
    return torch.log_softmax(logits, dim=1).masked_fill(itself, 0.0), alike


def test_sup_con_as_its_authors_compute_it() -> None:
    """ "Out", the mean over anchors, nobody without a positive divided by 0 but by 1, times τ/.07."""

    def loss(z: Any, tau: Any) -> Any:
        log_p, alike = class_log_probabilities(z, tau)
        return -(tau / 0.07) * ((log_p * alike).sum(1) / alike.sum(1).clamp(min=1)).mean()

    check_agrees(refcl.sup_con(Z, 0.2, labels=LABELS, base_temperature=0.07), autograd(loss, Z, 0.2))


def test_sup_con_with_the_mean_inside_the_logarithm() -> None:
    def loss(z: Any, tau: Any) -> Any:
        log_p, alike = class_log_probabilities(z, tau)
        kept = alike.any(1)
        inside = (log_p.exp() * alike).sum(1)[kept] / alike.sum(1)[kept]
        return -inside.log().mean()

    check_agrees(refcl.sup_con(Z, 0.3, labels=LABELS, form="in", no_positive="skip"), autograd(loss, Z, 0.3))


def test_sup_con_of_pytorch_metric_learning() -> None:
    """It leaves rows without positives out of its mean, as every loss that is 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peers = pytest.importorskip("pytorch_metric_learning.losses", reason="pytorch-metric-learning is not installed")
    theirs = peers.SupConLoss(temperature=0.2)
    value, (dz,) = autograd(lambda z: theirs(z, torch.tensor(LABELS)), Z)
    ours, grads = refcl.sup_con(Z, 0.2, labels=LABELS, no_positive="skip")
    check_near(ours, value, rtol=RTOL)
    check_near(grads.dz, dz, rtol=RTOL)


@pytest.mark.parametrize("weighted", [False, True])
def test_decoupled_as_lightly_computes_it(weighted: bool) -> None:
    """Unit rows, the logarithms of each view's sum added, weights detached, the mean of both directions."""

    def one_way(first: Any, second: Any, tau: Any) -> Any:
        n = first.shape[0]
        others = ~torch.eye(n, dtype=torch.bool)
        near = (first * second).sum(1)
        weight = 2 - n * torch.softmax(near.detach() / 0.5, 0) if weighted else 1.0
        pools = [(first @ view.T / tau)[others].reshape(n, -1).logsumexp(1) for view in (first, second)]
        return (-weight * near / tau + pools[0] + pools[1]).mean()

    def loss(a: Any, b: Any, tau: Any) -> Any:
        a, b = unit(a), unit(b)
        return (one_way(a, b, tau) + one_way(b, a, tau)) / 2

    pair, settings = (refcl.dclw, {"sigma": 0.5, "detach": True}) if weighted else (refcl.dcl, {})
    check_agrees(pair(A, B, 0.2, negatives="by_view", **settings), autograd(loss, A, B, 0.2))


@pytest.mark.parametrize("weighted", [False, True])
def test_decoupled_as_nakhli_computes_it(weighted: bool) -> None:
    """Rows as they are, one sum, weights 2 − softmax let through, both directions added, masks that leak 1e-45."""

    def one_way(first: Any, second: Any, tau: Any) -> Any:
        near = (first * second).sum(1)
        weight = 2 - torch.softmax(near / 0.5, 0) if weighted else 1.0
        logits = torch.cat([first @ first.T, first @ second.T], dim=1) / tau
        mask = math.log(1e-45) * torch.eye(first.shape[0], dtype=torch.float64).repeat(1, 2)
        return (-weight * near / tau + (logits + mask).logsumexp(1)).mean()

    def loss(a: Any, b: Any, tau: Any) -> Any:
        return one_way(a, b, tau) + one_way(b, a, tau)

    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (A, B))
    pair, settings = (refcl.dclw, {"normalizer": "sum"}) if weighted else (refcl.dcl, {})
    check_agrees(pair(a, b, 0.3, add_views=True, normalize=False, **settings), autograd(loss, a, b, 0.3))


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize(("tau_plus", "beta"), [(0.0, 0.0), (0.1, 0.0), (0.1, 1.0), (0.4, 0.5)])
def test_debiased_and_hard_negatives_as_their_authors_compute_them(tau_plus: float, beta: float, detach: bool) -> None:
    """Exponentials, importance weights over their mean, a difference, a clamp, −log of a quotient."""

    def loss(a: Any, b: Any, tau: Any) -> Any:
        near, others = parts(unit(a), unit(b))
        pos, neg = torch.exp(near / tau), torch.exp(others / tau)
        count = neg.shape[1]
        weight = neg.log().mul(beta).exp()
        weight = weight / weight.mean(1, keepdim=True)
        estimate = ((weight.detach() if detach else weight) * neg).sum(1)
        left = (estimate - tau_plus * count * pos) / (1 - tau_plus)
        left = torch.maximum(left, count * torch.exp(-1 / tau)) if tau_plus else left
        return -torch.log(pos / (pos + left)).mean()

    want = autograd(loss, A, B, 0.5)
    check_agrees(refcl.hcl(A, B, 0.5, tau_plus=tau_plus, beta=beta, detach=detach), want)
    if beta == 0.0:
        check_agrees(refcl.debiased(A, B, 0.5, tau_plus=tau_plus), want)


def test_macl_as_lightly_computes_it() -> None:
    """All rows of both views; alignment and weights detached. Its 1e-8 beside 1 − P is left out."""

    def loss(a: Any, b: Any, tau: Any) -> Any:
        near, others = parts(unit(a), unit(b))
        warm = tau * (1 + 0.5 * (near.detach().mean() - 0.2))
        log_p = torch.log_softmax(torch.cat([near[:, None], others], 1) / warm, 1)[:, 0]
        return -(log_p / (1 - log_p.exp()).detach()).mean()

    check_agrees(refcl.macl(A, B, 0.2, alpha=0.5, alignment=0.2), autograd(loss, A, B, 0.2))


@pytest.mark.parametrize(("law", "alpha"), [("linear", 1.0), ("power", 2.0)])
def test_macl_as_its_authors_compute_it(law: str, alpha: float) -> None:
    """One direction, the other view's rows alone as candidates; their defaults of α."""

    def loss(a: Any, b: Any, tau: Any) -> Any:
        s = unit(a) @ unit(b).T
        alignment = s.diag().mean().detach()
        p = torch.softmax(s / (tau * (1 + alpha * alignment if law == "linear" else alpha**alignment)), dim=1)
        rest = p.sum(1) - p.diag()
        return -(p.diag().log() / rest.detach()).mean()

    got = refcl.macl(A, B, 0.2, alpha=alpha, law=law, candidates="other_view")
    check_agrees(got, autograd(loss, A, B, 0.2))


def test_alignment_and_uniformity_as_their_authors_compute_them() -> None:
    def loss(a: Any, b: Any) -> Any:
        a, b = unit(a), unit(b)
        uniform = [torch.pdist(x).pow(2).mul(-2).exp().mean().log() for x in (a, b)]
        return 0.7 * (a - b).norm(dim=1).pow(2).mean() + 1.3 * (uniform[0] + uniform[1]) / 2

    check_agrees(refcl.align_uniform(A, B, align_weight=0.7, uniform_weight=1.3), autograd(loss, A, B))


def test_a_temperature_an_anchor_under_autograd(rng: np.random.Generator) -> None:
    temperatures = np.linspace(0.1, 0.6, N)

    def loss(s: Any, tau: Any) -> Any:
        return F.cross_entropy(s / tau[:, None], torch.arange(N))

    s = rng.uniform(-1, 1, (N, 9))
    check_agrees(refcl.per_anchor_contrastive(s, temperatures), autograd(loss, s, temperatures))


def test_the_hessian_of_autograd(rng: np.random.Generator) -> None:
    s, v = rng.uniform(-1, 1, (2, N, 9))

    def loss(x: Any) -> Any:
        return F.cross_entropy(x / 0.2, torch.arange(N))

    _, want = torch.autograd.functional.hvp(loss, torch.tensor(s), torch.tensor(v))
    check_near(refcl.hessian_vector_product(s, v, 0.2), want.numpy(), rtol=RTOL)
