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
        return loss, tuple(g * factor for g in grads if g is not None)

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
    assert "rank 1 of 2: 'lost'" in report.reason
    report = world(lambda q, k, comm: 1.0 if comm.rank else (1.0, (q, k)), "info_nce", temperature=0.2)
    assert report.reason == "each rank must return (value, grads), with the gradients of its local arrays."


def test_a_world_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="ranks must be an int, at least 2"):
        world(info_nce_of_a_rank, "info_nce", ranks=1)
    with pytest.raises(ValueError, match="cmc are not split by their rows"):
        world(info_nce_of_a_rank, "cmc")
    with pytest.raises(ValueError, match="framework must be"):
        world(info_nce_of_a_rank, "info_nce", framework="gloo")


def learned_temperature(query: Any, key: Any, temperature: Any, comm: Communicator) -> Any:
    keys = np.concatenate(comm.all_gather(key))
    positive = comm.rank * len(query) + np.arange(len(query))
    loss, grads = refcl.info_nce(query, keys, temperature, positive=positive)
    return loss, (grads.dquery, comm.reduce_scatter(grads.dkey), grads.dtemperature)


@pytest.mark.parametrize("averaged", [True, False])
@pytest.mark.parametrize("ranks", [2, 3])
def test_a_learned_temperature(ranks: int, averaged: bool) -> None:
    def per_rank(query: Any, key: Any, temperature: Any, comm: Communicator) -> Any:
        loss, grads = learned_temperature(query, key, temperature, comm)
        return loss, tuple(g if averaged else g / comm.size for g in grads if g is not None)

    report = world(per_rank, "info_nce", ranks=ranks, averaged=averaged)
    assert report.ok, str(report)
    assert report.scalar_judged
    assert len({p.scalar for p in report.probes}) > 3


def test_a_temperature_that_is_baked_in_has_its_gradient_judged_too() -> None:
    def per_rank(query: Any, key: Any, comm: Communicator) -> Any:
        return learned_temperature(query, key, 0.2, comm)

    report = world(per_rank, "info_nce", temperature=0.2)
    assert report.ok, str(report)
    assert report.scalar_judged


@pytest.mark.parametrize("how", ["already reduced", "of one rank", "sign"])
def test_a_wrong_gradient_of_the_temperature(how: str) -> None:
    def per_rank(query: Any, key: Any, temperature: Any, comm: Communicator) -> Any:
        loss, (dquery, dkey, dtemperature) = learned_temperature(query, key, temperature, comm)
        wrong = {
            "already reduced": comm.all_reduce(dtemperature),  # and averaged once more afterwards
            "of one rank": dtemperature if comm.rank == 0 else np.zeros(()),
            "sign": -dtemperature,
        }
        return loss, (dquery, dkey, wrong[how])

    assert world(per_rank, "info_nce", ranks=2).verdict == "temperature-gradient-wrong"


def test_a_world_size_factor_of_everything() -> None:
    def per_rank(query: Any, key: Any, temperature: Any, comm: Communicator) -> Any:
        loss, grads = learned_temperature(query, key, temperature, comm)
        return loss, tuple(g * comm.size for g in grads if g is not None)

    assert world(per_rank, "info_nce", ranks=3).verdict == "world-size-factor"


def test_ranks_that_return_other_numbers_of_gradients() -> None:
    def per_rank(query: Any, key: Any, comm: Communicator) -> Any:
        loss, grads = learned_temperature(query, key, 0.2, comm)
        return loss, grads[: 2 + comm.rank]

    report = world(per_rank, "info_nce", temperature=0.2)
    assert report.reason == "the ranks returned 2 and 3 gradients; expected 2 or 3."


@pytest.mark.parametrize(("detached", "verdict"), [(False, "correct"), (True, "temperature-gradient-wrong")])
def test_a_learned_log_scale_in_torch(detached: bool, verdict: str) -> None:
    torch = pytest.importorskip("torch", reason="a parameter that autograd differentiates by")

    def per_rank(image: Any, text: Any, log_scale: Any, comm: Communicator) -> Any:
        scale = (log_scale.detach() if detached and comm.rank else log_scale).exp()
        image, text = (torch.nn.functional.normalize(x, dim=1) for x in (image, text))
        images, texts = comm.all_gather(image, gradient=True), comm.all_gather(text, gradient=True)
        labels = torch.arange(len(image)) + comm.rank * len(image)
        entropy = torch.nn.functional.cross_entropy
        a, b = scale * image @ torch.cat(texts).T, scale * text @ torch.cat(images).T
        return (entropy(a, labels) + entropy(b, labels)) / 2

    report = world(per_rank, "clip", ranks=2, framework="torch")
    assert report.verdict == verdict, str(report)
    assert report.scalar_judged
