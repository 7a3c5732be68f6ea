"""A forward and its backward as one value."""

import inspect
from typing import Any

import numpy as np
import pytest
from backends import Backend, check_near, leaves, map_leaves
from cases import ONE_OF_EACH, Case, core_pairs, named

import refcl
from refcl import Pair


def scaled_forward(x: Any, factor: Any, *, shift: float = 0.0) -> tuple[Any, Any]:
    """Return x times a factor, and a shift."""
    return x * factor + shift, (x, factor)


def scaled_backward(dy: Any, cache: Any) -> tuple[Any, Any]:
    """Return dx and dfactor."""
    x, factor = cache
    return dy * factor, np.asarray(np.sum(dy * x))


scaled = Pair(scaled_forward, scaled_backward)


def test_a_pair_returns_the_value_and_a_gradient_for_each_argument() -> None:
    value, grads = scaled(np.array([1.0, 2.0]), np.array(3.0), shift=1.0)
    assert value.tolist() == [4.0, 7.0]
    assert grads._fields == ("dx", "dfactor")
    assert grads.dx.tolist() == [3.0, 3.0]
    assert float(grads.dfactor) == 3.0


def test_gradients_unpack_in_the_order_of_the_arguments() -> None:
    _, (dx, dfactor) = scaled(np.array([1.0, 2.0]), np.array(3.0))
    assert dx.shape == (2,)
    assert dfactor.shape == ()


def test_upstream_is_what_the_value_is_multiplied_by() -> None:
    _, grads = scaled(np.array([1.0, 2.0]), np.array(3.0), upstream=np.array([1.0, 10.0]))
    assert grads.dx.tolist() == [3.0, 30.0]
    assert float(grads.dfactor) == 21.0


def test_a_pair_says_what_it_is() -> None:
    assert (scaled.__name__, scaled.__doc__) == ("scaled", scaled_forward.__doc__)
    assert scaled.arguments == ("x", "factor")
    assert scaled.settings == ("shift",)
    assert list(inspect.signature(scaled).parameters) == ["x", "factor", "shift", "upstream"]
    assert repr(scaled).startswith("<refcl pair scaled(x")


def test_gradients_of_every_call_are_of_one_class_made_by_the_first() -> None:
    pair = Pair(scaled_forward, scaled_backward)
    assert "Grads" not in vars(pair)
    first, second = (pair(np.array([1.0, 2.0]), np.array(3.0))[1] for _ in range(2))
    assert type(first) is type(second) is pair.Grads


def test_one_argument_has_one_gradient_still_in_a_named_tuple() -> None:
    _, grads = refcl.triplet(np.array([[0.5, 0.75, 0.25]]))
    assert grads._fields == ("ds",)
    assert grads.ds.tolist() == [[-1.0, 1.0, 0.0]]


def test_several_values_take_several_upstreams() -> None:
    s = np.array([[0.5, 0.75, 0.25]])
    upstream = (np.array([2.0]), np.array([[7.0, 3.0, 5.0]]))
    _, grads = refcl.pairing.pairing(s, upstream=upstream)
    assert grads.ds.tolist() == [[2.0, 3.0, 5.0]]


@pytest.mark.parametrize(("name", "shape"), [("info_nce", (4,)), ("nt_xent", (8,)), ("clip", (2, 4))])
def test_upstream_weighs_each_anchor(backend: Backend, name: str, shape: tuple[int, ...]) -> None:
    """Gradients of Σ u L with reduction none are, at u = 1/size, those of the mean."""
    rng = np.random.default_rng(3)
    a, b = backend.array(rng.standard_normal((4, 3))), backend.array(rng.standard_normal((4, 3)))
    pair = core_pairs()[name]
    even = backend.array(np.full(shape, 1 / np.prod(shape)))
    value, grads = pair(a, b, 0.4, reduction="none", upstream=even)
    mean, mean_grads = pair(a, b, 0.4)
    assert value.shape == shape
    assert mean.shape == ()
    check_near(backend.host(value).mean(), backend.host(mean), rtol=1e-6)
    check_near(backend.hosts(tuple(grads)), backend.hosts(tuple(mean_grads)), rtol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_upstream_goes_with_reduction_none_only(reduction: str) -> None:
    with pytest.raises(ValueError, match=r'^softmax_contrastive: upstream goes with reduction="none" only; scale '):
        refcl.softmax_contrastive(np.eye(3)[:2], 0.2, reduction=reduction, upstream=np.ones(()))


def test_upstream_has_the_shape_of_the_value() -> None:
    with pytest.raises(ValueError, match=r"^softmax_contrastive: upstream must have the shape of the value, \(2,\)"):
        refcl.softmax_contrastive(np.eye(3)[:2], 0.2, reduction="none", upstream=np.ones(3))


def test_upstream_has_the_dtype_of_the_value() -> None:
    with pytest.raises(TypeError, match=r"^softmax_contrastive: value is float64 and upstream is float32"):
        refcl.softmax_contrastive(np.eye(3)[:2], 0.2, reduction="none", upstream=np.ones(2, dtype=np.float32))


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=named)
def test_every_pair_refuses_integers_in_each_of_its_arrays(case: Case) -> None:
    arrays = list(leaves(case.inputs))
    for position in range(len(arrays)):
        rest = [x.astype("int64") if p == position else x for p, x in enumerate(arrays)]
        inputs = map_leaves(lambda _, rest=rest: rest.pop(0), case.inputs)  # type: ignore[misc]
        with pytest.raises(TypeError, match="is int64"):
            case.function.forward(*inputs, **case.settings)
