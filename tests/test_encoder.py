"""x -> h: linear, batch norm, relu and the perceptron made of them."""

from typing import Any

import numpy as np
import pytest
from backends import EPS, Backend, check_near, check_same_bits, flat, leaves

from refcl.encoder import batch_norm, he_init, initial_running, linear, mlp, relu, updated_running


def test_linear_on_a_worked_example(backend: Backend) -> None:
    x, weight, bias = (
        backend.array(np.array(v)) for v in ([[1.0, 2.0]], [[1.0, 0.0, -1.0], [3.0, 1.0, 0.5]], [0.5, 0, 0])
    )
    y, cache = linear.forward(x, weight, bias)
    dx, dweight, dbias = linear.backward(backend.array(np.array([[1.0, 2.0, 4.0]])), cache)
    assert backend.host(y).tolist() == [[7.5, 2.0, 0.0]]
    assert backend.host(dx).tolist() == [[-3.0, 7.0]]
    assert backend.host(dweight).tolist() == [[1.0, 2.0, 4.0], [2.0, 4.0, 8.0]]
    assert backend.host(dbias).tolist() == [1.0, 2.0, 4.0]


def test_batch_norm_brings_columns_to_mean_beta_and_deviation_gamma(backend: Backend, rng: np.random.Generator) -> None:
    x = backend.array(rng.standard_normal((50, 3)) * [1.0, 10.0, 0.1] + 5)
    gamma, beta = np.array([1.0, 2.0, 0.5]), np.array([0.0, -1.0, 3.0])
    y, _ = batch_norm(x, backend.array(gamma), backend.array(beta), training=True, eps=1e-12)
    got = backend.host(y).astype("float64")
    check_near(got.mean(axis=0), beta, rtol=1e-5)
    check_near(got.std(axis=0), gamma, rtol=1e-4)


def test_batch_norm_in_training_does_not_see_shift_or_scale(rng: np.random.Generator) -> None:
    """So its gradient has no mean over the rows and, but for eps, no component along what comes out."""
    x, dy = rng.standard_normal((2, 7, 3))
    y, cache = batch_norm.forward(x, np.ones(3), np.zeros(3), training=True, eps=1e-14)
    dx, _, _ = batch_norm.backward(dy, cache)
    check_near(batch_norm.forward(4 * x - 3, np.ones(3), np.zeros(3), training=True, eps=1e-14)[0], y, rtol=1e-12)
    assert np.abs(dx.sum(axis=0)).max() < 1e-13
    assert np.abs((dx * y).sum(axis=0)).max() < 1e-12


def test_batch_norm_variance_is_biased_in_the_output() -> None:
    x = np.array([[1.0], [2.0], [6.0]])
    _, cache = batch_norm.forward(x, np.ones(1), np.zeros(1), training=True)
    assert cache.variance.tolist() == [x.var()]


def test_batch_norm_of_one_row_is_beta_and_passes_nothing_on(backend: Backend) -> None:
    x, gamma, beta = (backend.array(np.array(v)) for v in ([[3.0, -2.0]], [2.0, 0.5], [0.25, 1.0]))
    y, grads = batch_norm(x, gamma, beta, training=True)
    assert backend.host(y).tolist() == [[0.25, 1.0]]
    assert not backend.host(grads.dx).any()
    assert not backend.host(grads.dgamma).any()
    assert backend.host(grads.dbeta).tolist() == [1.0, 1.0]


def test_batch_norm_of_a_constant_column_is_beta() -> None:
    y, grads = batch_norm(np.full((4, 1), 7.0), np.ones(1), np.full(1, 0.5), training=True)
    assert (y == 0.5).all()
    assert np.isfinite(grads.dx).all()


def test_batch_norm_in_evaluation_is_affine_and_rows_do_not_meet(rng: np.random.Generator) -> None:
    x, dy = rng.standard_normal((2, 5, 2))
    gamma, beta, mean, variance = (
        np.array([2.0, 0.5]),
        np.array([1.0, -1.0]),
        np.array([0.5, 0.0]),
        np.array([4.0, 0.25]),
    )
    settings = {"training": False, "running": (mean, variance), "eps": 1e-5}
    y, cache = batch_norm.forward(x, gamma, beta, **settings)
    check_near(y, gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta, rtol=1e-14)
    dx, _, _ = batch_norm.backward(dy, cache)
    check_near(dx, dy * gamma / np.sqrt(variance + 1e-5), rtol=1e-14)
    check_near(batch_norm.forward(x[:1], gamma, beta, **settings)[0], y[:1], rtol=1e-15)


def test_batch_norm_looks_at_running_statistics_in_evaluation_only(rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 2))
    plain = batch_norm.forward(x, np.ones(2), np.zeros(2), training=True)[0]
    running = (np.full(2, 9.0), np.full(2, 9.0))
    check_same_bits(batch_norm.forward(x, np.ones(2), np.zeros(2), training=True, running=running)[0], plain)
    assert running[0].tolist() == [9.0, 9.0]


def test_relu_is_zero_at_its_kink_and_below(backend: Backend) -> None:
    y, grads = relu(backend.array(np.array([[-2.0, -0.0, 0.0, 3.0]])))
    assert backend.host(y).tolist() == [[0.0, 0.0, 0.0, 3.0]]
    assert backend.host(grads.dx).tolist() == [[0.0, 0.0, 0.0, 1.0]]


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
