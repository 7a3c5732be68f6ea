"""Distributed losses over simulated ranks: right ones pass, and what goes wrong between ranks has a name."""

from typing import Any

import numpy as np
import pytest

import refcl
from refcl.oracle import Communicator, world


def unit(h: Any) -> Any:
    return h / np.linalg.norm(h, axis=1, keepdims=True)


def info_nce_of_a_rank(query: Any, key: Any, comm: Communicator, *, offset: bool = True, remote: bool = True) -> Any:
    """Its own anchors against everyone's keys; what they send to others' keys goes back by a reduce-scatter."""
    keys = np.concatenate(comm.all_gather(key))
    n = len(query)
    positive = np.arange(n) + (comm.rank * n if offset else 0)
    loss, grads = refcl.info_nce(query, keys, 0.2, positive=positive)
    here = slice(comm.rank * n, (comm.rank + 1) * n)
    dkey = comm.reduce_scatter(grads.dkey) if remote else grads.dkey[here]
    return loss, (grads.dquery, dkey)


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_right_loss_is_right(ranks: int) -> None:
    report = world(info_nce_of_a_rank, "info_nce", ranks=ranks, temperature=0.2)
    assert report.ok, str(report)
    assert report.gradient_judged


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"offset": False}, "rank-offset-missing"), ({"remote": False}, "remote-gradients-dropped")],
)
def test_what_goes_wrong_between_ranks(settings: dict[str, bool], name: str) -> None:
    def per_rank(query: Any, key: Any, comm: Communicator) -> Any:
        return info_nce_of_a_rank(query, key, comm, **settings)

    assert world(per_rank, "info_nce", ranks=2, temperature=0.2).verdict == name


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
def test_a_world_size_factor(factor: float) -> None:
    def per_rank(query: Any, key: Any, comm: Communicator) -> Any:
        loss, grads = info_nce_of_a_rank(query, key, comm)
        return loss, tuple(g * factor for g in grads)

    report = world(per_rank, "info_nce", ranks=3, temperature=0.2)
    assert report.verdict == "world-size-factor"
    assert "world size" in report.findings[0].detail


def test_whether_gradients_are_averaged_matters() -> None:
    report = world(info_nce_of_a_rank, "info_nce", ranks=3, averaged=False, temperature=0.2)
    assert report.verdict == "world-size-factor"


def test_a_mistake_of_a_single_process_is_named_too() -> None:
    def per_rank(query: Any, key: Any, comm: Communicator) -> Any:
        keys = np.concatenate(comm.all_gather(key))
        n = len(query)
        positive = np.arange(n) + comm.rank * n
        loss, grads = refcl.info_nce(query, keys, 1.0, positive=positive)
        return loss, (grads.dquery, comm.reduce_scatter(grads.dkey))

    assert world(per_rank, "info_nce", ranks=2, temperature=0.2).verdict == "temperature-missing"


@pytest.mark.parametrize(
    ("gradient", "offset", "verdict"),
    [(True, True, "correct"), (False, True, "remote-gradients-dropped"), (True, False, "rank-offset-missing")],
)
def test_tensors_and_autograd(gradient: bool, offset: bool, verdict: str) -> None:
    torch = pytest.importorskip("torch", reason="a gather with and without gradient is PyTorch's")

    def per_rank(image: Any, text: Any, comm: Communicator) -> Any:
        image, text = (torch.nn.functional.normalize(x, dim=1) for x in (image, text))
        n = len(image)
        images, texts = comm.all_gather(image, gradient=gradient), comm.all_gather(text, gradient=gradient)
        images[comm.rank], texts[comm.rank] = image, text  # one's own keeps its gradient
        labels = torch.arange(n) + (comm.rank * n if offset else 0)
        entropy = torch.nn.functional.cross_entropy
        a, b = image @ torch.cat(texts).T / 0.2, text @ torch.cat(images).T / 0.2
        return (entropy(a, labels) + entropy(b, labels)) / 2

    report = world(per_rank, "clip", ranks=2, framework="torch", temperature=0.2)
    assert report.verdict == verdict, str(report)


def test_a_rank_that_fails_or_does_not_come_is_said() -> None:
    def fails(query: Any, key: Any, comm: Communicator) -> Any:
        if comm.rank == 1:
            raise KeyError("lost")
        comm.all_gather(key)
        return 0.0, (query, key)

    report = world(fails, "info_nce", temperature=0.2)
    assert "raised KeyError: 'lost'" in report.reason
    report = world(lambda query, key, comm: 1.0, "info_nce", temperature=0.2)
    assert report.reason == "each rank must return (value, grads), with the gradients of its local arrays."


def test_a_world_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="ranks must be at least 2"):
        world(info_nce_of_a_rank, "info_nce", ranks=1)
    with pytest.raises(ValueError, match="framework must be"):
        world(info_nce_of_a_rank, "info_nce", framework="mpi")
