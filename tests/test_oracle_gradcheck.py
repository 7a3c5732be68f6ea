"""gradcheck: right backwards pass, planted faults fail, kinks are said, large inputs go along directions."""

from typing import Any

import numpy as np
import pytest

import refcl
from refcl import Pair
from refcl.losses.info_nce import info_nce_backward, info_nce_forward
from refcl.oracle import gradcheck
from refcl.oracle.gradcheck import derivative
from refcl.walk import encoder, layers, pairing, penalty, pooling, similarity, sphere

rng = np.random.default_rng(5)
H = rng.standard_normal((4, 6))
S = rng.uniform(-1, 1, (4, 6))
NEGATIVES = ~np.eye(4, 6, dtype=bool)


@pytest.mark.parametrize(
    ("pair", "inputs", "settings"),
    [
        (layers.linear, (H, rng.standard_normal((6, 3)), rng.standard_normal(3)), {}),
        (layers.relu, (H,), {}),
        (sphere.l2_normalize, (H,), {}),
        (similarity.inner_product, (H, rng.standard_normal((5, 6))), {}),
        (pairing.pairing, (S,), {"upstream": (np.array([1.0, -2.0, 0.5, 1.0]), np.where(NEGATIVES, S + 2, 0.0))}),
        (pooling.soft_maximum, (S[:, 0], S, 0.2), {"negatives": NEGATIVES}),
        (pooling.maximum, (S[:, 0], S), {"negatives": NEGATIVES}),
        (pooling.weighted_sum, (S[:, 0], S, np.full(4, 0.3)), {"negatives": NEGATIVES}),
        (penalty.softplus, (S[:, 0],), {}),
        (penalty.hinge, (S[:, 0],), {}),
        (refcl.softmax_contrastive, (S, 0.05), {"reduction": "none"}),
        (refcl.softmax_contrastive, (S, 1000.0), {}),
        (refcl.hard_softmax_contrastive, (S, 0.2), {"hardest": 2}),
        (refcl.simple_contrastive, (S,), {}),
        (refcl.info_nce, (H, rng.standard_normal((5, 6)), 0.07), {}),
        (refcl.nt_xent, (H, rng.standard_normal((4, 6)), 0.02), {}),
        (refcl.clip, (H, rng.standard_normal((4, 6)), 2.66), {"reduction": "none"}),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_every_room(pair: Any, inputs: Any, settings: Any) -> None:
    report = gradcheck(pair, *inputs, **settings)
    assert report.ok, str(report)
    assert max(argument.error for argument in report.arguments) < 1e-7


def test_nested_parameters_are_walked() -> None:
    params = encoder.he_init(np.random.default_rng(1), (6, 5, 3), batch_norm=True)
    report = gradcheck(encoder.mlp, H, params, training=True, running=encoder.initial_running(params))
    assert report.ok, str(report)
    assert [a.name for a in report.arguments][:3] == ["x", "params[0][0]", "params[0][1]"]


@pytest.mark.parametrize("factor", [0.0, 2.0, -1.0, 1.00001])
def test_planted_faults_fail(factor: float) -> None:
    def backward(dvalue: Any, cache: Any) -> Any:
        return tuple(g if g is None else g * factor for g in info_nce_backward(dvalue, cache))

    report = gradcheck(Pair(info_nce_forward, backward), H, H[::-1].copy(), 0.2)
    assert not report.ok
    assert "WRONG" in str(report)


def test_one_wrong_entry_is_found_and_shown() -> None:
    def backward(dvalue: Any, cache: Any) -> Any:
        dquery, dkey, dtemperature, *rest = info_nce_backward(dvalue, cache)
        dquery[2, 3] += 1e-4
        return dquery, dkey, dtemperature, *rest

    report = gradcheck((info_nce_forward, backward), H, H[::-1].copy(), 0.2)
    assert not report.ok
    assert report.arguments[0].where == (2, 3)
    assert report.arguments[0].failed == 1


def test_kinks_are_named_and_not_judged() -> None:
    report = gradcheck(layers.relu, np.array([[0.0, 1.0, -2.0]]))
    assert report.ok
    assert report.arguments[0].kinks == [(0, 0)]
    report = gradcheck(refcl.triplet, np.array([[0.75, 0.75, 0.625], [0.1, 0.8, 0.8]]))
    assert report.arguments[0].kinks == [(0, 0), (0, 1), (1, 1), (1, 2)]
    assert "kink" in str(report)


def test_nothing_but_kinks_is_not_right() -> None:
    assert not gradcheck(layers.relu, np.zeros((2, 2))).ok


def test_large_inputs_go_along_directions() -> None:
    big = np.random.default_rng(2).standard_normal((60, 40))
    report = gradcheck(refcl.info_nce, big, big[::-1].copy(), 0.3)
    assert report.ok, str(report)
    assert report.arguments[0].how == "directions"

    def backward(dvalue: Any, cache: Any) -> Any:
        dquery, dkey, dtemperature, *rest = info_nce_backward(dvalue, cache)
        return dquery * 1.0001, dkey, dtemperature, *rest

    assert not gradcheck((info_nce_forward, backward), big, big[::-1].copy(), 0.3).ok


def test_a_function_that_returns_value_and_gradients() -> None:
    assert gradcheck(lambda x: (np.sum(x**3), 3 * x**2), H).ok
    assert not gradcheck(lambda x: (np.sum(x**3), 2 * x**2), H).ok
    with pytest.raises(ValueError, match="must have a scalar value"):
        gradcheck(lambda x: (x, x), H)


def test_what_is_no_pair_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a pair or a callable, got int"):
        gradcheck(3, H)
    with pytest.raises(ValueError, match="no floating-point input"):
        gradcheck((lambda n: (np.ones(1), None), lambda d, c: None), 3)
    with pytest.raises(ValueError, match=r"the gradient of input0 must have shape \(4, 6\); got \(4,\)"):
        gradcheck((lambda x: (x.sum(), x), lambda d, x: x[:, 0]), H)


def test_a_tolerance_that_zeros_would_pass_is_refused() -> None:
    with pytest.raises(RuntimeError, match="a gradient of zeros would pass"):
        gradcheck(refcl.info_nce, H, H[::-1].copy(), 0.2, tolerance=2.0)


def test_derivatives_and_their_uncertainty() -> None:
    for f, wanted in ((np.sin, 1.0), (np.exp, 1.0), (lambda t: np.exp(50 * t), 50.0), (lambda t: 1e6 * t, 1e6)):
        found = derivative(f)
        assert abs(found.value - wanted) <= max(found.uncertainty, 1e-10 * wanted)
        assert not found.kink
    assert derivative(lambda t: abs(t) + t).kink
    assert not derivative(lambda t: abs(t) ** 1.0 if t > 5 else t * t).kink
