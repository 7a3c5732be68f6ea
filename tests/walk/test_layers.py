"""x -> y: linear, batch norm and relu."""

import math
from typing import Any

import numpy as np
import pytest
from backends import Backend, check_near, check_same_bits
from cards import Builder, Built, Card, Sizes, rows
from loops import Matrix, Row
from peers import X, check_same, derived, of_torch, torch

from refcl.walk.layers import batch_norm, linear, relu


def linear_in_loops(x: Matrix, weight: Matrix, bias: Row) -> Matrix:
    return [[sum(x_n[i] * weight[i][j] for i in range(len(weight))) + bias[j] for j in range(len(bias))] for x_n in x]


def batch_norm_in_loops(
    x: Matrix, gamma: Row, beta: Row, *, training: bool, running: Any = None, eps: float = 1e-5
) -> Matrix:
    out = [[0.0] * len(gamma) for _ in x]
    for j in range(len(gamma)):
        column = [x_n[j] for x_n in x]
        if training:
            mean = sum(column) / len(column)
            variance = sum((value - mean) ** 2 for value in column) / len(column)
        else:
            mean, variance = running[0][j], running[1][j]
        for n, value in enumerate(column):
            out[n][j] = gamma[j] * (value - mean) / math.sqrt(variance + eps) + beta[j]
    return out


def relu_in_loops(x: Matrix) -> Matrix:
    return [[value if value > 0 else 0.0 for value in x_n] for x_n in x]


def build_linear(rng: np.random.Generator, z: Sizes) -> Built:
    return (rows(rng, z.n, z.d + 2), rows(rng, z.d + 2, z.d), rng.standard_normal(z.d)), {}


def build_batch_norm(training: bool) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        inputs = (rows(rng, z.n, z.d), rng.uniform(0.5, 2.0, z.d), rng.standard_normal(z.d))
        running = (rng.standard_normal(z.d), rng.uniform(0.5, 2.0, z.d))
        return inputs, {"training": training, "running": None if training else running, "eps": 1e-3}

    return build


def build_relu(rng: np.random.Generator, z: Sizes) -> Built:
    return (rng.uniform(0.1, 1.0, (z.n, z.d)) * rng.choice([-1.0, 1.0], (z.n, z.d)),), {}


CARDS = [
    Card(linear, [("plain", build_linear)], linear_in_loops),
    Card(
        batch_norm,
        [("training", build_batch_norm(True)), ("evaluation", build_batch_norm(False))],
        batch_norm_in_loops,
    ),
    Card(relu, [("plain", build_relu)], relu_in_loops),
]


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


@of_torch
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_pytorch_s(training: bool, rng: np.random.Generator) -> None:
    weights = rng.standard_normal(X.shape)
    gamma, beta = rng.uniform(0.5, 2, 4), rng.standard_normal(4)
    running = rng.standard_normal(4), rng.uniform(0.5, 2, 4)

    def weighed(x: Any, scale: Any, shift: Any) -> Any:
        mean, variance = (torch.tensor(v) for v in running)
        y = torch.nn.functional.batch_norm(x, mean, variance, scale, shift, training=training, eps=1e-5)
        return (torch.tensor(weights) * y).sum()

    value, grads = batch_norm(X, gamma, beta, training=training, running=running, upstream=weights)
    check_same((np.sum(weights * value), tuple(grads)), derived(weighed, X, gamma, beta))
