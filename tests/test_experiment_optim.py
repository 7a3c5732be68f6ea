"""The optimisers, against their papers' formulas in plain loops and against PyTorch where it is installed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backends import Backend

from refcl.experiment.optim import adam, as_tree, in_one_row, sgd, start_adam, start_sgd, step_schedule, tree_map

RNG = np.random.default_rng(0)
PARAMS = ((RNG.standard_normal((3, 2)), RNG.standard_normal(2)), (RNG.standard_normal(4),))
GRADS = [tree_map(lambda p: RNG.standard_normal(p.shape), PARAMS) for _ in range(4)]


def leaves(tree: Any) -> list[np.ndarray]:
    return [leaf for branch in tree for leaf in leaves(branch)] if isinstance(tree, tuple) else [tree]


def walked(start: Callable[..., Any], step: Callable[..., Any], **settings: float) -> list[np.ndarray]:
    params, state = PARAMS, start(PARAMS)
    for grads in GRADS:
        params, state = step(params, grads, state, **settings)
    return leaves(params)


def test_adam_is_its_paper() -> None:
    after = walked(start_adam, adam, rate=0.05)
    for i, p in enumerate(leaves(PARAMS)):
        mean = square = np.zeros_like(p)
        for t, grads in enumerate(GRADS, start=1):
            g = leaves(grads)[i]
            mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
            p = p - 0.05 * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(after[i], p, rtol=1e-12)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_both_are_pytorchs(weight_decay: float) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for ours, theirs in (
        (walked(start_adam, adam, rate=0.05, weight_decay=weight_decay), lambda p: torch.optim.Adam(
            p, lr=0.05, weight_decay=weight_decay)),
        (walked(start_sgd, sgd, rate=0.05, momentum=0.8, weight_decay=weight_decay), lambda p: torch.optim.SGD(
            p, lr=0.05, momentum=0.8, weight_decay=weight_decay)),
    ):  # fmt: skip
        tensors = [torch.tensor(p, requires_grad=True) for p in leaves(PARAMS)]
        optimizer = theirs(tensors)
        for grads in GRADS:
            for tensor, g in zip(tensors, leaves(grads), strict=True):
                tensor.grad = torch.tensor(g)
            optimizer.step()
        for p, tensor in zip(ours, tensors, strict=True):
            np.testing.assert_allclose(p, tensor.detach().numpy(), rtol=1e-10)


def test_sgd_gathers_speed_and_decays_weights() -> None:
    params, state = (np.array([1.0]),), start_sgd((np.array([1.0]),))
    params, state = sgd(params, (np.array([2.0]),), state, rate=0.1, momentum=0.5, weight_decay=0.5)
    assert params[0] == pytest.approx(1.0 - 0.1 * 2.5)  # velocity 2 + 0.5 * 1
    params, state = sgd(params, (np.array([0.0]),), state, rate=0.1, momentum=0.5, weight_decay=0.0)
    assert params[0] == pytest.approx(0.75 - 0.1 * 1.25)


@pytest.mark.parametrize(("start", "step"), [(start_adam, adam), (start_sgd, sgd)])
def test_what_comes_in_is_left_as_it_was(start: Callable[..., Any], step: Callable[..., Any]) -> None:
    before = [p.copy() for p in leaves(PARAMS)]
    state = start(PARAMS)
    first, _ = step(PARAMS, GRADS[0], state, rate=0.1)
    second, _ = step(PARAMS, GRADS[0], state, rate=0.1)
    for p, b, one, two in zip(leaves(PARAMS), before, leaves(first), leaves(second), strict=True):
        np.testing.assert_array_equal(p, b)
        np.testing.assert_array_equal(one, two)


def test_single_precision_stays() -> None:
    params = tree_map(lambda p: p.astype(np.float32), PARAMS)
    grads = tree_map(lambda g: g.astype(np.float32), GRADS[0])
    for start, step in ((start_adam, adam), (start_sgd, sgd)):
        after, state = step(params, grads, start(params), rate=0.1, weight_decay=0.1)
        assert {leaf.dtype for leaf in leaves((after, state[0]))} == {np.dtype(np.float32)}


def test_the_schedule_drops_twice() -> None:
    rates = [step_schedule(1.0, epoch, 20) for epoch in range(20)]
    np.testing.assert_allclose(rates, [1.0] * 16 + [0.1] * 3 + [0.01])


def test_trees_must_be_nested_alike() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        tree_map(lambda a, b: a + b, (1, 2), (1,))


def test_a_row_is_a_copy_and_goes_back_where_it_came_from(backend: Backend) -> None:
    params = backend.arrays(PARAMS)
    row = in_one_row(params, params)
    assert backend.owns(row)
    assert row.shape == (3 * 2 + 2 + 4,)
    again = as_tree(row, params)
    assert [len(branch) for branch in again] == [2, 1]
    for back, leaf in zip(leaves(backend.hosts(again)), leaves(backend.hosts(params)), strict=True):
        np.testing.assert_array_equal(back, leaf)
    row *= 0
    np.testing.assert_array_equal(backend.host(params[0][0]), PARAMS[0][0].astype(backend.dtype))


def test_gradients_of_other_shapes_are_refused() -> None:
    transposed = tree_map(np.transpose, GRADS[0])
    for start, step in ((start_adam, adam), (start_sgd, sgd)):
        with pytest.raises(ValueError, match=r"expected arrays of shapes \[\(3, 2\), .*, got \[\(2, 3\)"):
            step(PARAMS, transposed, start(PARAMS), rate=0.1)
