"""x -> h: the perceptron made of layers, its parameters and its running statistics."""

from typing import Any

import numpy as np
import pytest
from backends import EPS, Backend, check_near, check_same_bits, flat, leaves
from cards import Builder, Built, Card, Sizes, rows
from loops import Matrix
from peers import NEAR, X, Y, of_torch, torch
from test_layers import batch_norm_in_loops, linear_in_loops, relu_in_loops

from refcl.walk.encoder import he_init, initial_running, mlp, updated_running
from refcl.walk.layers import batch_norm, linear, relu


def mlp_in_loops(x: Matrix, params: Any, *, training: bool = True, running: Any = None, eps: float = 1e-5) -> Matrix:
    for depth, layer in enumerate(params):
        x = linear_in_loops(x, layer[0], layer[1])
        if len(layer) == 4:
            statistics = running[depth] if running else None
            x = batch_norm_in_loops(x, layer[2], layer[3], training=training, running=statistics, eps=eps)
        if depth + 1 < len(params):
            x = relu_in_loops(x)
    return x


def build_mlp(batch_norm: bool, training: bool = True) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        params = he_init(rng, (z.d + 2, 6, 5, z.d), batch_norm=batch_norm)
        params = tuple(tuple(x + 0.1 * rng.standard_normal(x.shape) for x in layer) for layer in params)
        settings: dict[str, Any] = {"training": training, "eps": 1e-3}
        if not training:
            settings["running"] = tuple(
                tuple(0.2 * rng.standard_normal(x.shape) + first for first, x in enumerate(layer))
                for layer in initial_running(params)
            )
        return (rows(rng, z.n, z.d + 2), params), settings

    return build


CARDS = [
    Card(
        mlp,
        [
            ("plain", build_mlp(False)),
            ("batch-norm", build_mlp(True)),
            ("evaluation", build_mlp(True, training=False)),
        ],
        mlp_in_loops,
    )
]


def test_mlp_is_its_layers_one_after_another(rng: np.random.Generator) -> None:
    params = he_init(np.random.default_rng(2), (3, 5, 2), batch_norm=True)
    (w1, b1, gamma, beta), (w2, b2) = params
    x = rng.standard_normal((6, 3))
    a, _ = linear.forward(x, w1, b1)
    a, _ = batch_norm.forward(a, gamma, beta, training=True)
    a, _ = relu.forward(a)
    a, _ = linear.forward(a, w2, b2)
    check_same_bits(mlp.forward(x, params)[0], a)


@pytest.mark.parametrize("widths", [(3, 2), (3, 4, 2), (3, 4, 5, 6, 2)], ids=str)
@pytest.mark.parametrize("norm", [False, True])
def test_mlp_takes_any_widths_and_returns_gradients_of_the_same_form(
    widths: tuple[int, ...], norm: bool, backend: Backend, rng: np.random.Generator
) -> None:
    params = backend.arrays(he_init(np.random.default_rng(2), widths, batch_norm=norm))
    h, grads = mlp(backend.array(rng.standard_normal((5, 3))), params)
    assert h.shape == (5, 2)
    assert [len(layer) for layer in grads.dparams] == [len(layer) for layer in params]
    for gradient, parameter in zip(leaves(grads.dparams), leaves(params), strict=True):
        assert gradient.shape == parameter.shape
        assert gradient.dtype == parameter.dtype


def test_bias_before_batch_norm_gets_no_gradient_in_training(rng: np.random.Generator) -> None:
    """The batch's own mean takes it out."""
    params = he_init(np.random.default_rng(2), (3, 5, 2), batch_norm=True)
    dparams = mlp(rng.standard_normal((6, 3)), params)[1].dparams
    assert np.abs(dparams[0][1]).max() < 1e-14
    assert np.abs(dparams[0][0]).max() > 0.1


@pytest.mark.parametrize("norm", [False, True])
def test_he_init_draws_weights_of_variance_two_over_fan_in(norm: bool) -> None:
    params = he_init(np.random.default_rng(3), (200, 300, 100), batch_norm=norm)
    for layer, fan_in in zip(params, (200, 300), strict=True):
        assert abs(layer[0].var() * fan_in / 2 - 1) < 0.02
        assert abs(layer[0].mean()) < 0.001
        assert not layer[1].any()
    assert [len(layer) for layer in params] == ([4, 2] if norm else [2, 2])
    if norm:
        assert (params[0][2] == 1).all()
        assert not params[0][3].any()


def test_he_init_is_its_generator_s_only() -> None:
    first, second = (he_init(np.random.default_rng(3), (4, 3, 2)) for _ in range(2))
    check_same_bits(first, second)
    single = he_init(np.random.default_rng(3), (4, 3, 2), dtype="float32")
    assert {x.dtype for x in leaves(single)} == {np.dtype("float32")}
    check_near(single, first, rtol=EPS["float32"])


def test_parameters_do_not_share_memory() -> None:
    """An optimiser that steps in place must not move two of them."""
    arrays = list(leaves(he_init(np.random.default_rng(3), (4, 3, 2), batch_norm=True)))
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def test_running_statistics_start_at_zero_and_one(backend: Backend) -> None:
    params = backend.arrays(he_init(np.random.default_rng(3), (4, 3, 2), batch_norm=True))
    (mean, variance), none = initial_running(params)
    assert none == ()
    assert backend.owns(mean)
    assert backend.owns(variance)
    assert backend.host(mean).tolist() == [0.0] * 3
    assert backend.host(variance).tolist() == [1.0] * 3


@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0])
def test_running_statistics_move_to_the_batch_s_mean_and_unbiased_variance(
    momentum: float, backend: Backend, rng: np.random.Generator
) -> None:
    host_params = he_init(np.random.default_rng(3), (4, 3, 2), batch_norm=True)
    x = rng.standard_normal((6, 4))
    running = ((np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])), ())
    before = backend.arrays(running)
    _, cache = mlp.forward(backend.array(x), backend.arrays(host_params))
    after = updated_running(cache, before, momentum=momentum)
    a = x @ host_params[0][0]
    want = [
        (1 - momentum) * old + momentum * new
        for old, new in zip(running[0], (a.mean(0), a.var(0, ddof=1)), strict=True)
    ]
    check_near(backend.hosts(after), tuple(want), rtol=20 * EPS[backend.dtype])
    check_near(backend.hosts(before), running, rtol=0.0)
    assert all(backend.owns(v) and v.dtype == getattr(backend.xp, backend.dtype) for v in leaves(after))


def test_evaluation_with_the_batch_s_own_statistics_is_training(rng: np.random.Generator) -> None:
    params = he_init(np.random.default_rng(3), (4, 3, 2), batch_norm=True)
    x = rng.standard_normal((6, 4))
    h, cache = mlp.forward(x, params)
    (mean, variance), none = updated_running(cache, initial_running(params), momentum=1.0)
    biased: Any = ((mean, variance * 5 / 6), none)
    check_near(mlp.forward(x, params, training=False, running=biased)[0], h, rtol=1e-13)
    assert (
        np.linalg.norm(flat(mlp.forward(x, params, training=False, running=((mean, variance), ()))[0]) - flat(h)) > 1e-3
    )


@pytest.mark.parametrize("norm", [False, True])
def test_the_data_s_gradient_can_be_left_out(norm: bool, rng: np.random.Generator) -> None:
    h, cache = mlp.forward(rng.standard_normal((5, 4)), he_init(rng, (4, 6, 3), batch_norm=norm))
    dh = rng.standard_normal(h.shape)
    dx, wanted = mlp.backward(dh, cache)
    nothing, dparams = mlp.backward(dh, cache, to_input=False)
    assert dx.shape == (5, 4)
    assert nothing is None
    for layer, want in zip(dparams, wanted, strict=True):
        check_same_bits(layer, want)


def torch_encoder(params: Any) -> Any:
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


@of_torch
@pytest.mark.parametrize("norm", [False, True])
def test_mlp_is_a_stack_of_pytorch_s_layers(norm: bool, rng: np.random.Generator) -> None:
    params = he_init(np.random.default_rng(16), (4, 8, 7, 3), batch_norm=norm)
    params = tuple(tuple(x + 0.1 * rng.standard_normal(x.shape) for x in layer) for layer in params)
    stack = torch_encoder(params)
    weights = rng.standard_normal((6, 3))
    x = torch.tensor(X, requires_grad=True)
    h = stack(x)
    (h * torch.tensor(weights)).sum().backward()
    value, grads = mlp(X, params, upstream=weights)
    check_near(value, h.detach().numpy(), rtol=NEAR)
    check_near(grads.dx, x.grad.numpy(), rtol=NEAR)
    theirs = [p.grad.numpy() for p in stack.parameters()]
    ours = [leaf.T if leaf.ndim == 2 else leaf for layer in grads.dparams for leaf in layer]
    scale = max(float(np.linalg.norm(g)) for g in theirs)
    for mine, other in zip(ours, theirs, strict=True):
        check_near(mine, other, rtol=NEAR, atol=1e-14 * scale)  # a bias before batch norm has gradient 0


@of_torch
def test_running_statistics_are_pytorch_s_over_several_batches() -> None:
    """Momentum as there, and the unbiased variance."""
    params = he_init(np.random.default_rng(16), (4, 8, 3), batch_norm=True)
    stack, running = torch_encoder(params), initial_running(params)
    for batch in (X, Y, X + 2 * Y):
        stack(torch.tensor(batch))
        running = updated_running(mlp.forward(batch, params)[1], running)
    check_near(running[0], (stack[1].running_mean.numpy(), stack[1].running_var.numpy()), rtol=NEAR)
    evaluated, _ = mlp.forward(X, params, training=False, running=running)
    check_near(evaluated, stack.eval()(torch.tensor(X)).detach().numpy(), rtol=NEAR)
