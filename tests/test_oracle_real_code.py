"""What code that was found in public does wrong, and what the report says of it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import refcl
from refcl.oracle import Communicator, check, from_torch, world


def unit(h: Any) -> Any:
    return h / np.linalg.norm(h, axis=1, keepdims=True)


def cross_entropy(logits: Any, positive: Any) -> Any:
    top = np.max(logits, axis=1)
    total = top + np.log(np.sum(np.exp(logits - top[:, None]), axis=1))
    return np.mean(total - logits[np.arange(len(logits)), positive])


def without_itself(z: Any) -> Any:
    return np.where(np.eye(len(z), dtype=bool), -np.inf, z @ z.T / 0.5)


def raw_positives(a: Any, b: Any) -> Any:
    logits = without_itself(unit(np.concatenate([a, b])))
    top = np.max(logits, axis=1)
    total = top + np.log(np.sum(np.exp(logits - top[:, None]), axis=1))
    return np.mean(total - np.tile(np.sum(a * b, axis=1) / 0.5, 2))


def its_own_positive(a: Any, b: Any) -> Any:
    z = unit(np.concatenate([a, b]))
    return cross_entropy(z @ z.T / 0.5, np.arange(len(z)))


def epsilon_after_the_shift(a: Any, b: Any) -> Any:
    z = unit(np.concatenate([a, b]))
    logits = z @ z.T / 0.5
    e = np.exp(logits - logits.max(1, keepdims=True)) * (1 - np.eye(len(z)))
    positive = logits[np.arange(len(z)), np.roll(np.arange(len(z)), len(a))]
    return np.mean(np.log(e.sum(1) + 1e-6) + logits.max(1) - positive)


def epsilon_of_no_name(a: Any, b: Any) -> Any:
    z = unit(np.concatenate([a, b]))
    e = np.exp(without_itself(z))
    positive = e[np.arange(len(z)), np.roll(np.arange(len(z)), len(a))]
    return np.mean(np.log(e.sum(1) + 1e-4) - np.log(positive + 1e-4))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (raw_positives, "the positives alone are inner products of raw rows"),
        pytest.param(its_own_positive, "nothing is pulled together", marks=pytest.mark.slow),
        (epsilon_after_the_shift, "1e-06 added"),
        pytest.param(epsilon_of_no_name, "an epsilon", marks=pytest.mark.slow),
    ],
)
def test_what_is_said(function: Callable[..., Any], said: str) -> None:
    report = check(function, "nt_xent", temperature=0.5)
    assert report.judged
    assert not report.ok
    assert said in str(report), str(report)


def test_another_setting_is_said_with_what_it_does() -> None:
    said = str(check(lambda *x: refcl.triplet_margin(*x, distance="squared"), "triplet_margin"))
    assert 'distance="squared": the distance is squared, the root is missing' in said
    assert 'expected distance="euclidean"' in said


def test_the_epsilon_of_a_distance_is_named() -> None:
    def with_epsilon(a: Any, p: Any, n: Any) -> Any:
        near, far = (np.linalg.norm(a - x + 1e-6, axis=1) for x in (p, n))
        return np.mean(np.maximum(near - far + 1.0, 0.0))

    report = check(with_epsilon, "triplet_margin", margin=1.0)
    assert report.verdict == "differs"
    assert "an eps of 1e-06 to every coordinate" in report.differences[0].what


def linear_in_the_cosine(a: Any, b: Any, same: Any) -> Any:
    d = 1 - np.sum(unit(a) * unit(b), axis=1)
    return np.mean(np.where(same, d, np.maximum(0.5 - d, 0.0)))


def not_halved(a: Any, b: Any, same: Any) -> Any:
    d = np.linalg.norm(a - b + 1e-6, axis=1)
    return np.mean(np.where(same, d**2, np.maximum(1.0 - d, 0.0) ** 2))


@pytest.mark.parametrize(
    ("function", "settings", "said"),
    [
        (linear_in_the_cosine, {"distance": "cosine", "margin": 0.5}, "max(m - d, 0) is not squared"),
        (not_halved, {}, "the value is multiplied by 2"),
    ],
)
def test_of_pairs_the_function_of_the_distance_is_said(
    function: Callable[..., Any], settings: dict[str, Any], said: str
) -> None:
    assert said in str(check(function, "pair_contrastive", **settings))


def test_a_loss_that_comes_with_other_things() -> None:
    torch = pytest.importorskip("torch", reason="from_torch is PyTorch's")

    def loss_and_accuracy(a: Any, b: Any) -> Any:
        normalize = torch.nn.functional.normalize
        logits = normalize(a) @ normalize(b).T / 0.5
        return torch.nn.functional.cross_entropy(logits, torch.arange(len(a))), 0.5

    report = check(from_torch(loss_and_accuracy), "info_nce", temperature=0.5)
    assert report.ok
    assert "It returns 2 things: the first of them was judged." in report.notes


# Between ranks.


def local_labels(z: Any, labels: Any, comm: Communicator) -> Any:
    n, everyone = len(z), np.concatenate(comm.all_gather(z))
    return _supervised(everyone, labels, np.tile(labels, comm.size), comm.rank * n)


def _supervised(z: Any, labels: Any, of_all: Any, first: int) -> Any:
    z, rows = unit(z), np.arange(len(labels))
    logits = z[first + rows] @ z.T / 0.2
    itself = first + rows[:, None] == np.arange(len(z))[None, :]
    same = (labels[:, None] == of_all[None, :]) & ~itself
    e = np.where(itself, 0.0, np.exp(logits))
    log_p = logits - np.log(e.sum(1, keepdims=True))
    return -np.mean((log_p * same).sum(1) / np.maximum(same.sum(1), 1))


def read_as_two_views(a: Any, b: Any, comm: Communicator) -> Any:
    z = unit(np.concatenate(comm.all_gather(np.concatenate([a, b]))))
    logits = np.where(np.eye(len(z), dtype=bool), -np.inf, z @ z.T / 0.2)
    return cross_entropy(logits, np.roll(np.arange(len(z)), len(z) // 2))


def mask_of_rank_0(a: Any, b: Any, comm: Communicator) -> Any:
    n, first, second = len(a), np.concatenate(comm.all_gather(a)), np.concatenate(comm.all_gather(b))
    m, i, z = len(first), np.arange(n), unit(np.concatenate([first, second]))
    at = comm.rank * n + i
    logits = z[np.concatenate([at, m + at])] @ z.T / 0.2
    logits[i, i] = logits[n + i, m + i] = -np.inf
    return cross_entropy(logits, np.concatenate([m + at, at]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("per_rank", "loss", "said"),
    [
        (local_labels, "sup_con", "the labels are not gathered"),
        (read_as_two_views, "nt_xent", "gather each view for itself"),
        (mask_of_rank_0, "nt_xent", "the self mask is not shifted by the rank"),
    ],
)
def test_between_ranks(per_rank: Callable[..., Any], loss: str, said: str) -> None:
    report = world(per_rank, loss, temperature=0.2)
    assert not report.ok
    assert said in str(report), str(report)
