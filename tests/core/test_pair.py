"""A forward and its backward as one value."""

import copy
import inspect
import multiprocessing
import pickle
import pydoc
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import Backend, check_near, check_same_bits
from cases import PAIR_CASES, core_pairs

import refcl
from refcl import Pair
from refcl.core.pair import value_signature


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


def test_upstream_stands_before_settings_that_a_forward_takes_by_any_name() -> None:
    def forward(x: Any, **settings: Any) -> tuple[Any, Any]:
        return x * settings["factor"], settings["factor"]

    pair = Pair(forward, lambda dy, factor: dy * factor)
    assert list(inspect.signature(pair).parameters) == ["x", "upstream", "settings"]
    assert pair(np.ones(2), factor=3.0)[1].dx.tolist() == [3.0, 3.0]


def test_gradients_of_every_call_are_of_one_class() -> None:
    first, second = (scaled(np.array([1.0, 2.0]), np.array(3.0))[1] for _ in range(2))
    assert type(first) is type(second) is scaled.Grads


@pytest.mark.parametrize("name", sorted(core_pairs()))
def test_pairs_pickle_before_a_call_and_after_it_and_so_do_gradients(name: str) -> None:
    pair = core_pairs()[name]
    assert pickle.loads(pickle.dumps(pair)) is pair
    case = next(case for case in PAIR_CASES if case.function is pair)
    _, grads = pair(*case.inputs, **case.settings)
    assert pickle.loads(pickle.dumps(pair)) is pair
    again = pickle.loads(pickle.dumps(grads))
    assert type(again) is type(grads) is pair.Grads
    check_same_bits(tuple(again), tuple(grads))
    assert copy.deepcopy(pair) is pair


def test_a_pair_of_a_user_s_own_pickles_too() -> None:
    _, grads = scaled(np.array([1.0, 2.0]), np.array(3.0))
    assert pickle.loads(pickle.dumps(scaled)) is scaled
    assert pickle.loads(pickle.dumps(grads)).dx.tolist() == [3.0, 3.0]


@pytest.mark.slow
def test_a_pool_of_processes_carries_pairs_and_gradients() -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 4, 3))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        value, grads = pool.submit(refcl.info_nce, a, b, 0.2).result()
    check_same_bits((value, tuple(grads)), (lambda pair: (pair[0], tuple(pair[1])))(refcl.info_nce(a, b, 0.2)))
    assert type(grads).__name__ == "InfoNCEGrads"


def test_an_argument_that_there_is_not_is_said_with_the_nearest_that_there_is() -> None:
    a = np.ones((2, 3))
    with pytest.raises(TypeError, match=r"^info_nce: there is no argument temperatur; did you mean temperature\?$"):
        refcl.info_nce(a, a, temperatur=0.1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^info_nce: missing a required argument: 'key'; see help\(refcl\.info_nce\)"):
        refcl.info_nce(a)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^info_nce: multiple values for argument 'query'"):
        refcl.info_nce(a, a, query=a)  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"^info_nce\.forward: there is no argument tile"):
        refcl.info_nce.forward(a, a, tile=2)


def test_a_backward_asks_for_an_array() -> None:
    a = np.ones((2, 3))
    _, cache = refcl.info_nce.forward(a, a)
    with pytest.raises(TypeError, match=r"^info_nce: upstream is float; expected an array"):
        refcl.info_nce.backward(1.0, cache)


def test_help_shows_the_public_call() -> None:
    text = pydoc.plain(pydoc.render_doc(refcl.info_nce))
    assert "upstream" in text
    assert "tile" in text
    assert "InfoNCEGrads" in text
    assert "cache" not in text


def test_one_argument_has_one_gradient_still_in_a_named_tuple() -> None:
    _, grads = refcl.triplet(np.array([[0.5, 0.75, 0.25]]))
    assert grads._fields == ("ds",)
    assert grads.ds.tolist() == [[-1.0, 1.0, 0.0]]


def test_several_values_take_several_upstreams() -> None:
    s = np.array([[0.5, 0.75, 0.25]])
    upstream = (np.array([2.0]), np.array([[7.0, 3.0, 5.0]]))
    _, grads = refcl.walk.pairing.pairing(s, upstream=upstream)
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


def test_a_loss_under_autograd_shows_no_upstream() -> None:
    assert str(value_signature(Pair(scaled_forward, scaled_backward))) == "(x, factor, *, shift=0.0)"
    pair = list(inspect.signature(refcl.info_nce).parameters)
    assert list(value_signature(refcl.info_nce).parameters) == [name for name in pair if name != "upstream"]


def test_a_small_call_asks_each_question_once() -> None:
    """Python's calls into the package, of which each costs a tenth of a microsecond or more; there were 134 once."""
    package, called = str(Path(refcl.__file__).parent), []

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(package):
            called.append(frame.f_code.co_name)

    anchors, keys = np.eye(4), np.eye(4)[::-1].copy()
    refcl.info_nce(anchors, keys, 0.1)
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        refcl.info_nce(anchors, keys, 0.1)
    finally:
        sys.setprofile(before)
    assert 20 < len(called) <= 60, called
