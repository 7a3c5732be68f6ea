"""The heads of the pretext tasks: gradients by differences and by PyTorch, exactness, and every backend."""

import importlib.util
from typing import Any

import numpy as np
import pytest
from backends import EPS, NUMPY, Backend, check_near, check_same_bits, flat, leaves
from calls import backward, forward, given, run, weighed
from cases import Case, rows
from differences import along, check_against, check_gradient, gradient, noise
from mpmath import mp
from test_contract import PoisonedError, paths, poisoned

import refcl
from refcl.experiment.pretext.heads import cross_entropy, side_by_side, squared_error

RNG = np.random.default_rng(5)
N, K, P = 5, 7, 6
LABEL = RNG.integers(0, K, N)
ASKED = RNG.uniform(size=(N, P)) < 0.6
CASES = [
    Case("side_by_side-one", side_by_side, (rows(RNG, N, 3),), {"patches": 1}),
    Case("side_by_side-two", side_by_side, (rows(RNG, 2 * N, 3),), {"patches": 2}),
    Case("side_by_side-three", side_by_side, (rows(RNG, 3 * N, 4),), {"patches": 3}),
    Case("cross_entropy-mean", cross_entropy, (rows(RNG, N, K),), {"label": LABEL}),
    Case("cross_entropy-sum", cross_entropy, (rows(RNG, N, K),), {"label": LABEL, "reduction": "sum"}),
    Case("cross_entropy-none", cross_entropy, (rows(RNG, N, K),), {"label": LABEL, "reduction": "none"}),
    Case("cross_entropy-one-row", cross_entropy, (rows(RNG, 1, 2),), {"label": np.array([1])}),
    Case("squared_error-all", squared_error, (rows(RNG, N, P),), {"target": rows(RNG, N, P)}),
    Case("squared_error-some", squared_error, (rows(RNG, N, P),), {"target": rows(RNG, N, P), "asked": ASKED}),
    Case("squared_error-one", squared_error, (np.array([[0.3]]),), {"target": np.array([[-0.8]])}),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@every_case
def test_the_backward_is_the_derivative(case: Case) -> None:
    _, grads, upstream = run(case, NUMPY)
    check_gradient(grads, weighed(case, upstream), given(case), step=case.step)
    assert flat(grads).any()


@every_case
def test_planted_faults_are_found(case: Case) -> None:
    _, grads, upstream = run(case, NUMPY)
    function, inputs = weighed(case, upstream), given(case)
    numeric, rounding = gradient(function, inputs, step=case.step), noise(function, inputs, step=case.step)
    for factor in (0.0, 2.0, -1.0, 1.001, 1 + 1e-6):
        with pytest.raises(AssertionError, match="gradient 0 is off by"):
            check_against(tuple(factor * g for g in grads), numeric, rounding)


def test_the_backward_is_the_adjoint_of_the_derivative_at_a_size_of_use() -> None:
    rng = np.random.default_rng(1)
    case = Case("cross_entropy-large", cross_entropy, (rows(rng, 64, 24),), {"label": rng.integers(0, 24, 64)})
    _, (dlogits,), upstream = run(case, NUMPY)
    direction = (rng.standard_normal((64, 24)),)
    numeric = along(weighed(case, upstream), case.inputs, direction, step=case.step)
    assert float(np.sum(dlogits * direction[0])) == pytest.approx(numeric, rel=1e-8)


@every_case
def test_the_backward_is_linear_in_the_upstream(case: Case) -> None:
    value, cache = forward(case, case.inputs)
    rng = np.random.default_rng(2)
    u, v = (np.array(rng.standard_normal(np.shape(value))) for _ in range(2))
    together = flat(backward(case, np.array(2.5 * u + v), cache))
    apart = 2.5 * flat(backward(case, u, cache)) + flat(backward(case, v, cache))
    check_near(together, apart, rtol=64 * EPS["float64"])


@every_case
def test_backends_agree_and_keep_library_device_dtype_and_shape(case: Case, backend: Backend) -> None:
    value, grads, _ = run(case, backend)
    want, want_grads, _ = run(case, NUMPY)
    check_near(backend.hosts(value), want, rtol=100 * EPS[backend.dtype])
    check_near(backend.hosts(grads), want_grads, rtol=200 * EPS[backend.dtype])
    assert all(backend.owns(x) for x in leaves((value, grads)))
    assert all(x.dtype == getattr(backend.xp, backend.dtype) for x in leaves((value, grads)))
    assert grads[0].shape == case.inputs[0].shape


@every_case
def test_a_call_is_repeatable_and_leaves_its_inputs_alone(case: Case) -> None:
    before = [np.array(x) for x in leaves((case.inputs, tuple(case.settings.values())))]
    check_same_bits(run(case, NUMPY), run(case, NUMPY))
    for x, y in zip(leaves((case.inputs, tuple(case.settings.values()))), before, strict=True):
        np.testing.assert_array_equal(x, y)
    value, grads = case.function(*case.inputs, **case.settings)
    assert grads._fields == tuple(f"d{argument}" for argument in case.function.arguments)
    _, cache = forward(case, case.inputs)
    check_same_bits(tuple(grads), backward(case, np.ones_like(value), cache))


def test_every_field_of_the_squared_error_s_cache_is_read() -> None:
    """The cross-entropy's is the softmax loss's, whose gradient by τ reads more than is asked for here."""
    (case,) = (case for case in CASES if case.name == "squared_error-some")
    value, cache = forward(case, case.inputs)
    for at in paths(cache):
        with pytest.raises(PoisonedError):
            backward(case, np.ones_like(value), poisoned(cache, at))
    assert len(list(paths(cache))) == 2


def test_the_cross_entropy_is_exact_where_the_right_class_dominates() -> None:
    """Against 50 digits, down to a loss of e⁻⁶⁰⁰, where a logarithm of a probability gives 0 from e⁻³⁷ on."""
    gaps = np.array([3.0, 40.0, 200.0, 600.0])
    logits = np.stack([gaps, np.zeros(4), np.full(4, -1.25)], axis=1)
    loss, grads = cross_entropy(logits, label=np.zeros(4, dtype=np.int64), reduction="none")
    for row, value, dlogits in zip(logits.tolist(), loss, grads.dlogits, strict=True):
        others = sum(mp.exp(mp.mpf(a) - mp.mpf(row[0])) for a in row[1:])
        bound = 4 * EPS["float64"] * (1 + np.ptp(row))
        assert abs(mp.mpf(float(value)) / mp.log1p(others) - 1) <= bound
        probabilities = [mp.exp(mp.mpf(a) - mp.mpf(row[0])) / (1 + others) for a in row[1:]]
        truth = [-sum(probabilities), *probabilities]
        assert all(abs(mp.mpf(float(d)) / t - 1) <= bound for d, t in zip(dlogits, truth, strict=True))


def test_the_cross_entropy_is_the_softmax_loss_at_temperature_one(rng: np.random.Generator) -> None:
    logits = rows(rng, N, K)
    loss, grads = cross_entropy(logits, label=LABEL)
    same, (ds, *_) = refcl.softmax_contrastive(logits, 1.0, positive=LABEL)
    check_same_bits((loss, grads.dlogits), (same, ds))
    np.testing.assert_allclose(grads.dlogits.sum(axis=1), 0.0, atol=1e-16)


def test_the_squared_error_does_not_see_what_is_not_asked(rng: np.random.Generator) -> None:
    prediction, target = rows(rng, N, P), rows(rng, N, P)
    loss, grads = squared_error(prediction, target=target, asked=ASKED)
    elsewhere, _ = squared_error(np.where(ASKED, prediction, 1e9), target=target, asked=ASKED)
    assert loss == elsewhere == pytest.approx(np.mean((prediction - target)[ASKED] ** 2), rel=1e-14)
    assert not grads.dprediction[~ASKED].any()
    nothing, none = squared_error(prediction, target=target, asked=np.zeros((N, P), dtype=bool))
    assert nothing == 0.0
    assert not none.dprediction.any()


def test_patches_of_a_sample_come_to_lie_in_one_row() -> None:
    h = np.arange(12.0).reshape(6, 2)
    side, _ = side_by_side.forward(h, patches=3)
    np.testing.assert_array_equal(side, [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: cross_entropy(np.ones((2, 3)), label=np.zeros(2)), TypeError, r"cross_entropy: label is float64"),
        (lambda: cross_entropy(np.ones((2, 3)), label=np.zeros(3, int)), ValueError, r"label must have shape \(2,\)"),
        (lambda: cross_entropy(np.ones(3), label=np.zeros(3, int)), ValueError, r"logits must have shape \(N, K\)"),
        (lambda: squared_error(np.ones((2, 3)), target=np.ones((2, 4))), ValueError, "must agree on P"),
        (
            lambda: squared_error(np.ones((2, 3)), target=np.ones((2, 3)), asked=np.ones((2, 3))),
            TypeError,
            "asked is float64; expected an array of booleans",
        ),
        (lambda: side_by_side(np.ones((5, 3)), patches=2), ValueError, "a multiple of patches 2; got 5"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_pytorch_agrees(rng: np.random.Generator) -> None:
    import torch

    F = torch.nn.functional
    logits, prediction, target = rows(rng, N, K), rows(rng, N, P), rows(rng, N, P)
    tensor = torch.tensor(logits, requires_grad=True)
    value = F.cross_entropy(tensor, torch.tensor(LABEL))
    value.backward()
    check_near(cross_entropy(logits, label=LABEL), (value.detach().numpy(), (tensor.grad.numpy(),)), rtol=1e-14)
    for asked in (None, ASKED):
        tensor, wanted = torch.tensor(prediction, requires_grad=True), torch.tensor(target)
        chosen = torch.ones(N, P, dtype=torch.bool) if asked is None else torch.tensor(asked)
        value = F.mse_loss(tensor[chosen], wanted[chosen])
        value.backward()
        got = squared_error(prediction, target=target, asked=asked)
        check_near(got, (value.detach().numpy(), (tensor.grad.numpy(),)), rtol=1e-14)
