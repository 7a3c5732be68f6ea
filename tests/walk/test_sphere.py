"""h -> z: rows to length 1, and below eps."""

from typing import Any

import numpy as np
import pytest
from backends import EPS, Backend, check_near
from cards import Builder, Built, Card, Sizes, rows
from loops import l2_normalize as l2_normalize_in_loops
from peers import D, X, check_same, derived, of_torch, torch

from refcl.walk.sphere import l2_normalize


def build_normalize(eps: float) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        h = rows(rng, z.n, z.d)
        h[0] *= 0.1 / np.linalg.norm(h[0])
        return (h,), {"eps": eps}

    return build


CARDS = [
    Card(
        l2_normalize,
        [("plain", build_normalize(1e-12)), ("short-row", build_normalize(0.2))],
        l2_normalize_in_loops,
    )
]

H = np.random.default_rng(4).standard_normal((5, 3)) * np.array([[1e-3], [0.1], [1.0], [10.0], [1e4]])


def test_rows_have_length_one(backend: Backend) -> None:
    z = backend.host(l2_normalize(backend.array(H))[0]).astype("float64")
    assert np.abs(np.linalg.norm(z, axis=1) - 1).max() <= 4 * EPS[backend.dtype]


def test_a_worked_example(backend: Backend) -> None:
    h, dz = backend.array(np.array([[3.0, 4.0]])), backend.array(np.array([[1.0, 0.0]]))
    z, cache = l2_normalize.forward(h)
    check_near(backend.host(z), np.array([[0.6, 0.8]]), rtol=EPS[backend.dtype])
    check_near(backend.host(l2_normalize.backward(dz, cache)), np.array([[0.128, -0.096]]), rtol=4 * EPS[backend.dtype])


def test_the_gradient_is_at_right_angles_to_the_row() -> None:
    """Stretching a row does not move it on the sphere."""
    dz = np.random.default_rng(5).standard_normal(H.shape)
    _, cache = l2_normalize.forward(H)
    dh = l2_normalize.backward(dz, cache)
    along = np.abs(np.sum(H * dh, axis=1)) / (np.linalg.norm(H, axis=1) * np.linalg.norm(dh, axis=1))
    assert along.max() < 1e-14
    assert np.abs(dh).min() > 0


def test_the_gradient_is_the_smaller_the_longer_the_row() -> None:
    dz = np.random.default_rng(5).standard_normal(H.shape)
    near = l2_normalize.backward(dz, l2_normalize.forward(H)[1])
    far = l2_normalize.backward(dz, l2_normalize.forward(4 * H)[1])
    check_near(4 * far, near, rtol=1e-15)


@pytest.mark.parametrize("eps", [1e-12, 0.5])
def test_a_row_shorter_than_eps_is_divided_by_eps_and_its_gradient_too(eps: float, backend: Backend) -> None:
    short = np.array([[0.3, -0.4]]) * eps
    dz = np.array([[1.0, 2.0]])
    z, cache = l2_normalize.forward(backend.array(short), eps=eps)
    check_near(backend.host(z), np.array([[0.3, -0.4]]), rtol=4 * EPS[backend.dtype])
    check_near(backend.host(l2_normalize.backward(backend.array(dz), cache)), dz / eps, rtol=4 * EPS[backend.dtype])


def test_a_zero_row_stays_zero_with_a_finite_gradient(backend: Backend) -> None:
    z, grads = l2_normalize(backend.array(np.zeros((2, 3))))
    assert not backend.host(z).any()
    check_near(backend.host(grads.dh), np.full((2, 3), 1e12), rtol=4 * EPS[backend.dtype])


def test_a_row_as_long_as_eps_is_on_the_sphere() -> None:
    z, grads = l2_normalize(np.array([[0.0, 0.5]]), eps=0.5)
    assert z.tolist() == [[0.0, 1.0]]
    assert grads.dh.tolist() == [[2.0, 0.0]]


def test_one_dimension_is_a_sign_and_has_no_gradient() -> None:
    z, grads = l2_normalize(np.array([[3.0], [-0.25]]))
    assert z.tolist() == [[1.0], [-1.0]]
    assert not grads.dh.any()


@pytest.mark.parametrize(("dtype", "longest"), [("float32", 3e38), ("float64", 1e308)])
def test_rows_too_long_to_be_squared_are_on_the_sphere(dtype: str, longest: float) -> None:
    for length in (longest, longest**0.5, 1.0):
        z, grads = l2_normalize(np.full((1, 4), length / 2, dtype=dtype), upstream=np.eye(1, 4, dtype=dtype))
        check_near(z, np.full((1, 4), 0.5), rtol=4 * EPS[dtype])
        check_near(grads.dh * length, np.array([[0.75, -0.25, -0.25, -0.25]]), rtol=8 * EPS[dtype])


def test_nan_in_nan_out() -> None:
    z, _ = l2_normalize(np.array([[np.nan, 1.0], [3.0, 4.0]]))
    assert np.isnan(z[0]).all()
    assert np.isfinite(z[1]).all()


@of_torch
@pytest.mark.parametrize("eps", [1e-12, 2.0])
def test_l2_normalize_is_pytorch_s(eps: float, rng: np.random.Generator) -> None:
    """In value everywhere; below eps PyTorch's derivative is that of h/ε too."""
    weights = rng.standard_normal(X.shape)
    h = np.concatenate([X[:-1], np.zeros((1, D)) + 1e-14])

    def weighed(x: Any) -> Any:
        return (torch.tensor(weights) * torch.nn.functional.normalize(x, eps=eps)).sum()

    value, grads = l2_normalize(h, eps=eps, upstream=weights)
    check_same((np.sum(weights * value), tuple(grads)), derived(weighed, h))
