"""Second opinions: losses and layers written as a user of another library would, and that library's derivatives."""

from typing import Any

import numpy as np
import pytest
from backends import check_near

import refcl
from refcl import encoder, metrics, sphere

RNG = np.random.default_rng(15)
S = RNG.uniform(-1, 1, (6, 9))
A, B, QUEUE = RNG.standard_normal((6, 5)), RNG.standard_normal((6, 5)), RNG.standard_normal((4, 5))
POSITIVE = np.array([8, 1, 0, 3, 3, 7])
NEAR = 1e-12


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(scope="module")
def jax() -> Any:
    module = pytest.importorskip("jax", reason="JAX is not installed")
    module.config.update("jax_enable_x64", True)
    return module


def derived(torch: Any, function: Any, *inputs: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return value and gradients by PyTorch, on the host."""
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    value = function(*tensors)
    value.backward()
    return value.detach().numpy(), tuple(x.grad.numpy() for x in tensors)


def check_same(ours: tuple[Any, Any], theirs: tuple[Any, Any]) -> None:
    check_near(ours[0], theirs[0], rtol=NEAR)
    for mine, other in zip(ours[1], theirs[1], strict=True):
        check_near(mine, other, rtol=NEAR)


def test_softmax_contrastive_is_pytorch_s_cross_entropy(torch: Any) -> None:
    target = torch.tensor(POSITIVE)
    theirs = derived(torch, lambda s, tau: torch.nn.functional.cross_entropy(s / tau, target), S, 0.2)
    check_same(refcl.softmax_contrastive(S, 0.2, positive=POSITIVE), theirs)


def test_simple_contrastive_is_its_formula_in_pytorch(torch: Any) -> None:
    def simple(s: Any, weight: Any) -> Any:
        diagonal = torch.diagonal(s)
        return (-diagonal + weight * (s.sum(dim=1) - diagonal)).mean()

    check_same(refcl.simple_contrastive(S, 0.3), derived(torch, simple, S, 0.3))


def test_hard_softmax_is_cross_entropy_over_pytorch_s_topk(torch: Any) -> None:
    def hard(s: Any, tau: Any) -> Any:
        off = ~torch.eye(6, 9, dtype=torch.bool)
        nearest = s[off].reshape(6, 8).topk(3, dim=1).values
        logits = torch.cat([torch.diagonal(s)[:, None], nearest], dim=1) / tau
        return torch.nn.functional.cross_entropy(logits, torch.zeros(6, dtype=torch.long))

    check_same(refcl.hard_softmax_contrastive(S, 0.2, hardest=3), derived(torch, hard, S, 0.2))


def test_triplet_is_pytorch_s_hinge_of_the_maximum(torch: Any) -> None:
    def triplet(s: Any) -> Any:
        others = s.masked_fill(torch.eye(6, 9, dtype=torch.bool), -torch.inf)
        return torch.relu(others.amax(dim=1) - torch.diagonal(s) + 0.3).mean()

    check_same(refcl.triplet(S, margin=0.3), derived(torch, triplet, S))


def test_info_nce_is_pytorch_s_normalize_and_cross_entropy(torch: Any) -> None:
    functional = torch.nn.functional

    def info_nce(query: Any, key: Any, tau: Any) -> Any:
        logits = functional.normalize(query) @ functional.normalize(key).T / tau
        return functional.cross_entropy(logits, torch.arange(6))

    keys = np.concatenate([B, QUEUE])
    check_same(refcl.info_nce(A, keys, 0.1), derived(torch, info_nce, A, keys, 0.1))


def test_nt_xent_is_cross_entropy_of_the_stacked_views_in_pytorch(torch: Any) -> None:
    functional = torch.nn.functional

    def nt_xent(a: Any, b: Any, tau: Any) -> Any:
        z = functional.normalize(torch.cat([a, b]))
        logits = (z @ z.T / tau).masked_fill(torch.eye(12, dtype=torch.bool), -torch.inf)
        return functional.cross_entropy(logits, (torch.arange(12) + 6) % 12)

    check_same(refcl.nt_xent(A, B, 0.5), derived(torch, nt_xent, A, B, 0.5))


def test_clip_is_both_cross_entropies_in_pytorch(torch: Any) -> None:
    functional = torch.nn.functional

    def clip(image: Any, text: Any, log_scale: Any) -> Any:
        logits = log_scale.exp() * functional.normalize(image) @ functional.normalize(text).T
        target = torch.arange(6)
        return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2

    check_same(refcl.clip(A, B, 2.5), derived(torch, clip, A, B, 2.5))


@pytest.mark.parametrize("eps", [1e-12, 2.0])
def test_l2_normalize_is_pytorch_s(torch: Any, eps: float, rng: np.random.Generator) -> None:
    """In value everywhere; below eps PyTorch's derivative is that of h/ε too."""
    weights = rng.standard_normal(A.shape)
    h = np.concatenate([A[:-1], np.zeros((1, 5)) + 1e-14])

    def weighed(x: Any) -> Any:
        return (torch.tensor(weights) * torch.nn.functional.normalize(x, eps=eps)).sum()

    value, grads = sphere.l2_normalize(h, eps=eps, upstream=weights)
    check_same((np.sum(weights * value), tuple(grads)), derived(torch, weighed, h))


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_pytorch_s(torch: Any, training: bool, rng: np.random.Generator) -> None:
    weights = rng.standard_normal(A.shape)
    gamma, beta = rng.uniform(0.5, 2, 5), rng.standard_normal(5)
    running = rng.standard_normal(5), rng.uniform(0.5, 2, 5)

    def weighed(x: Any, scale: Any, shift: Any) -> Any:
        mean, variance = (torch.tensor(v) for v in running)
        y = torch.nn.functional.batch_norm(x, mean, variance, scale, shift, training=training, eps=1e-5)
        return (torch.tensor(weights) * y).sum()

    value, grads = encoder.batch_norm(A, gamma, beta, training=training, running=running, upstream=weights)
    check_same((np.sum(weights * value), tuple(grads)), derived(torch, weighed, A, gamma, beta))


def torch_encoder(torch: Any, params: Any) -> Any:
    """Return a stack of PyTorch's layers with our parameters, in float64."""
    layers: list[Any] = []
    for depth, (weight, bias, *norm) in enumerate(params):
        linear = torch.nn.Linear(*weight.shape, dtype=torch.float64)
        linear.weight.data, linear.bias.data = torch.tensor(weight.T.copy()), torch.tensor(bias)
        layers.append(linear)
        if norm:
            batch_norm = torch.nn.BatchNorm1d(weight.shape[1], dtype=torch.float64)
            batch_norm.weight.data, batch_norm.bias.data = torch.tensor(norm[0]), torch.tensor(norm[1])
            layers.append(batch_norm)
        if depth < len(params) - 1:
            layers.append(torch.nn.ReLU())
    return torch.nn.Sequential(*layers)


@pytest.mark.parametrize("norm", [False, True])
def test_mlp_is_a_stack_of_pytorch_s_layers(torch: Any, norm: bool, rng: np.random.Generator) -> None:
    params = encoder.he_init(np.random.default_rng(16), (5, 8, 7, 3), batch_norm=norm)
    params = tuple(tuple(x + 0.1 * rng.standard_normal(x.shape) for x in layer) for layer in params)
    stack = torch_encoder(torch, params)
    weights = rng.standard_normal((6, 3))
    x = torch.tensor(A, requires_grad=True)
    h = stack(x)
    (h * torch.tensor(weights)).sum().backward()
    value, grads = encoder.mlp(A, params, upstream=weights)
    check_near(value, h.detach().numpy(), rtol=NEAR)
    check_near(grads.dx, x.grad.numpy(), rtol=NEAR)
    theirs = [p.grad.numpy() for p in stack.parameters()]
    ours = [leaf.T if leaf.ndim == 2 else leaf for layer in grads.dparams for leaf in layer]
    scale = max(float(np.linalg.norm(g)) for g in theirs)
    for mine, other in zip(ours, theirs, strict=True):
        check_near(mine, other, rtol=NEAR, atol=1e-14 * scale)  # a bias before batch norm has gradient 0


def test_running_statistics_are_pytorch_s_over_several_batches(torch: Any) -> None:
    """Momentum as there, and the unbiased variance."""
    params = encoder.he_init(np.random.default_rng(16), (5, 8, 3), batch_norm=True)
    stack, running = torch_encoder(torch, params), encoder.initial_running(params)
    for batch in (A, B, A + 2 * B):
        stack(torch.tensor(batch))
        running = encoder.updated_running(encoder.mlp.forward(batch, params)[1], running)
    check_near(running[0], (stack[1].running_mean.numpy(), stack[1].running_var.numpy()), rtol=NEAR)
    evaluated, _ = encoder.mlp.forward(A, params, training=False, running=running)
    check_near(evaluated, stack.eval()(torch.tensor(A)).detach().numpy(), rtol=NEAR)


@pytest.mark.parametrize("t", [2.0, 0.5])
def test_uniformity_is_wang_and_isola_s_in_pytorch(torch: Any, t: float) -> None:
    theirs = derived(torch, lambda z: torch.pdist(z).pow(2).mul(-t).exp().mean().log(), A / 3)
    check_same(metrics.uniformity(A / 3, t=t), theirs)


@pytest.mark.parametrize("alpha", [2.0, 1.5])
def test_alignment_is_wang_and_isola_s_in_pytorch(torch: Any, alpha: float) -> None:
    theirs = derived(torch, lambda a, b: (a - b).norm(dim=1).pow(alpha).mean(), A, B)
    check_same(metrics.alignment(A, B, alpha=alpha), theirs)


def test_a_dominating_positive_loses_its_gradient_in_pytorch_not_here(torch: Any) -> None:
    """Why an oracle is not written with log-sum-exp less the positive."""
    s = np.array([[0.95, 0.1, -0.2]])
    theirs, (ds, _) = derived(
        torch, lambda x, tau: torch.nn.functional.cross_entropy(x / tau, torch.zeros(1, dtype=torch.long)), s, 0.01
    )
    ours, grads = refcl.softmax_contrastive(s, 0.01)
    assert float(theirs) == 0.0
    assert ds[0, 0] == 0.0
    check_near(ours, np.exp(-85.0), rtol=1e-12)
    assert grads.ds[0, 0] < 0


def test_info_nce_is_jax_s(jax: Any) -> None:
    def info_nce(query: Any, key: Any, tau: Any) -> Any:
        z, other = (x / jax.numpy.linalg.norm(x, axis=1, keepdims=True) for x in (query, key))
        return -jax.numpy.mean(jax.numpy.diagonal(jax.nn.log_softmax(z @ other.T / tau, axis=1)))

    keys = np.concatenate([B, QUEUE])
    value, grads = jax.value_and_grad(info_nce, argnums=(0, 1, 2))(A, keys, 0.1)
    check_same(refcl.info_nce(A, keys, 0.1), (np.asarray(value), tuple(map(np.asarray, grads))))


def test_second_derivatives_of_jax_agree_with_differences_of_our_gradient(jax: Any) -> None:
    """The Hessian in s is (diag P − P Pᵀ)/τ²: our gradient, differentiated, is symmetric and JAX's."""
    row = S[:1]
    hessian = jax.hessian(lambda s: -jax.nn.log_softmax(s[0] / 0.3)[0])(row)[0, :, 0, :]
    steps = 1e-4 * np.eye(9)
    ahead, behind = (
        np.concatenate([refcl.softmax_contrastive(row + sign * h, 0.3)[1].ds for h in steps]) for sign in (1, -1)
    )
    ours = (ahead - behind) / 2e-4
    check_near(ours, np.asarray(hessian), rtol=1e-6)


def test_nt_xent_is_optax_s(jax: Any) -> None:
    optax = pytest.importorskip("optax", reason="Optax is not installed")
    embeddings, labels = np.concatenate([A, B]), np.tile(np.arange(6), 2)
    theirs = optax.losses.ntxent(jax.numpy.asarray(embeddings), jax.numpy.asarray(labels), temperature=0.3)
    ours, _ = refcl.nt_xent(A, B, 0.3)
    check_near(ours, np.asarray(theirs), rtol=NEAR)


def test_nt_xent_is_pytorch_metric_learning_s(torch: Any) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses", reason="pytorch-metric-learning is not installed")
    labels = torch.tensor(np.tile(np.arange(6), 2))
    theirs = derived(torch, lambda a, b: losses.NTXentLoss(temperature=0.3)(torch.cat([a, b]), labels), A, B)
    ours, grads = refcl.nt_xent(A, B, 0.3)
    check_same((ours, tuple(grads)[:2]), theirs)


def test_info_nce_is_the_package_s_of_that_name(torch: Any) -> None:
    package = pytest.importorskip("info_nce", reason="info-nce-pytorch is not installed")
    theirs = derived(torch, lambda query, key: package.info_nce(query, key, temperature=0.1), A, B)
    ours, grads = refcl.info_nce(A, B, 0.1)
    check_same((ours, tuple(grads)[:2]), theirs)
