"""loss_i -> L: mean, sum, none."""

import numpy as np
import pytest
from backends import Backend
from cards import Builder, Card
from loops import reduce as reduce_in_loops

from refcl.walk.reduce import reduce

LOSS = np.array([[0.5, 1.5, 4.0], [2.0, -1.0, 5.0]])


def build_losses(reduction: str) -> Builder:
    return lambda rng, z: ((rng.standard_normal((2, z.n)),), {"reduction": reduction})


CARDS = [Card(reduce, [(how, build_losses(how)) for how in ("mean", "sum", "none")], reduce_in_loops)]


@pytest.mark.parametrize(("reduction", "value", "share"), [("mean", 2.0, 1 / 6), ("sum", 12.0, 1.0)])
def test_each_loss_has_its_share(reduction: str, value: float, share: float, backend: Backend) -> None:
    got, grads = reduce(backend.array(LOSS), reduction=reduction)
    assert got.shape == ()
    assert backend.owns(got)
    assert float(backend.host(got)) == value
    assert np.abs(backend.host(grads.dloss) - share).max() <= 1e-8
    assert grads.dloss.shape == (2, 3)


def test_none_passes_everything_through(backend: Backend) -> None:
    upstream = backend.array(2 * LOSS)
    value, grads = reduce(backend.array(LOSS), reduction="none", upstream=upstream)
    assert (backend.host(value) == LOSS).all()
    assert (backend.host(grads.dloss) == 2 * LOSS).all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_one_loss_is_itself(reduction: str) -> None:
    value, grads = reduce(np.array([3.0]), reduction=reduction)
    assert value.item() == 3.0
    assert grads.dloss.tolist() == [1.0]


def test_the_mean_is_the_default() -> None:
    assert float(reduce(LOSS)[0]) == 2.0
