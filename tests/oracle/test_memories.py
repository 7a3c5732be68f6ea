"""Losses with a memory, many views or steps: whom an anchor meets, and how the losses are put together."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from refcl.oracle import check


def unit(x: Any) -> Any:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def log_sum(x: Any, axis: int = -1) -> Any:
    top = np.max(x, axis=axis, keepdims=True)
    return np.squeeze(top, axis) + np.log(np.sum(np.exp(x - top), axis=axis))


def losses(logits: Any, positive: Any = None) -> Any:
    rows = np.arange(len(logits))
    return log_sum(logits) - logits[rows, rows if positive is None else positive]


def inst_disc(bank_of: Callable[..., Any] = lambda bank, index, z: (bank, index)) -> Any:
    def candidate(query: Any, temperature: Any, bank: Any, index: Any) -> Any:
        z = unit(query)
        rows, positive = bank_of(bank, index, z)
        return np.mean(losses(z @ rows.T / temperature, positive))

    return candidate


def updated(c: float, brought: bool) -> Any:
    def bank_of(bank: Any, index: Any, z: Any) -> Any:
        new, mixed = bank.copy(), c * bank[index] + (1 - c) * z
        new[index] = unit(mixed) if brought else mixed
        return new, index

    return bank_of


def nce(of: Callable[..., Any] = lambda index, noise: (index, noise), rate: str = "K/M") -> Any:
    def candidate(query: Any, temperature: Any, bank: Any, index: Any, noise: Any, log_normalizer: Any) -> Any:
        own, drawn = of(index, noise)
        k, m = noise.shape[1], len(bank)
        c = float(log_normalizer) + math.log({"K/M": k / m, "K": k, "1/M": 1 / m, "1": 1, "K/(M-1)": k / (m - 1)}[rate])
        z = unit(query)
        up = np.sum(z * bank[own], axis=1) / temperature - c
        down = np.einsum("nd,nkd->nk", z, bank[drawn]) / temperature - c
        return np.mean(np.logaddexp(0, -up) + np.sum(np.logaddexp(0, down), axis=1))

    return candidate


def moco(of: Callable[..., Any] = lambda q, k, queue: (k, queue)) -> Any:
    def candidate(query: Any, key: Any, temperature: Any, queue: Any) -> Any:
        q, k = unit(query), unit(key)
        own, rows = of(q, k, queue)
        up = np.sum(q * own, axis=1, keepdims=True)
        return np.mean(losses(np.hstack((up, q @ rows.T)) / temperature, np.zeros(len(q), int)))

    return candidate


def cmc(weight: Callable[[int, int], float] = lambda i, j: float(i != j)) -> Any:
    def candidate(views: Any, temperature: Any) -> Any:
        z = [unit(x) for x in views]
        every = [(i, j) for i in range(len(z)) for j in range(len(z))]
        return sum(weight(i, j) * np.mean(losses(z[i] @ z[j].T / temperature)) for i, j in every)

    return candidate


def to_means(mean: Callable[..., Any], back: float = 0.0) -> Any:
    def candidate(views: Any, temperature: Any) -> Any:
        z = [unit(x) for x in views]
        total = 0.0
        for i, x in enumerate(z):
            s = x @ mean(z, i).T / temperature
            total += np.mean(losses(s)) + back * np.mean(losses(s.T))
        return total

    return candidate


def cpc(scale: Callable[..., float] = lambda c, f: 1.0, together: Callable[[Any], Any] = np.mean) -> Any:
    def candidate(context: Any, future: Any, weight: Any) -> Any:
        s = np.einsum("nd,tde,tme->tnm", context, weight, future) * scale(context, future)
        return together(np.array([losses(x) for x in s]))

    return candidate


def two_views(brought: bool, own: bool, both: bool) -> Any:
    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        a, b = unit(a), unit(b)
        mean, itself = (a + b) / 2, np.eye(len(a), dtype=bool)
        mean = unit(mean) if brought else mean
        found = []
        for x in (a, b) if both else (a,):
            s = x @ mean.T / temperature
            found.append(np.mean(losses(np.where(itself, (a * b if own else x * mean).sum(1) / temperature, s))))
        return np.mean(found)

    return candidate


def shifted(z: Any, temperature: Any, same: Any, itself: bool) -> Any:
    """Return the mean loss where row maxima, of oneself too or not, are subtracted by columns."""
    others, s = ~np.eye(len(z), dtype=bool), z @ z.T / temperature
    s = s - np.max(np.where(others | itself, s, -np.inf), axis=1)
    positives, count = same & others, np.maximum(np.sum(same & others, axis=1), 1)
    each = log_sum(np.where(others, s, -np.inf)) - np.sum(np.where(positives, s, 0.0), axis=1) / count
    return np.mean(np.where(np.any(positives, axis=1), each, 0.0))


def nt_xent(itself: bool) -> Any:
    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        z = unit(np.concatenate((a, b)))
        return shifted(z, temperature, np.roll(np.eye(len(z), dtype=bool), len(a), axis=0), itself)

    return candidate


def sup_con(itself: bool) -> Any:
    return lambda z, temperature, labels: shifted(unit(z), temperature, labels[:, None] == labels, itself)


def one_matrix(together: Callable[[Any], Any]) -> Any:
    return lambda query, key, temperature: together(unit(query) @ unit(key).T / temperature)


def row_and_column(s: Any) -> Any:
    others = np.where(np.eye(len(s), dtype=bool), -np.inf, s.T)
    return np.mean(log_sum(np.hstack((s, others))) - np.diagonal(s))


RIGHT = [
    (inst_disc(), "inst_disc", {}),
    (nce(), "nce", {}),
    (moco(), "moco", {}),
    (cmc(), "cmc", {}),
    (cmc(), "cmc", {"views": 4}),
    (cpc(), "cpc", {}),
    (nt_xent(True), "nt_xent", {}),  # with oneself every maximum is 1/τ, which cancels
    (sup_con(True), "sup_con", {}),
]


@pytest.mark.parametrize(("candidate", "loss", "asked"), RIGHT)
def test_the_right_twins_are_right(candidate: Any, loss: str, asked: dict[str, Any]) -> None:
    assert check(candidate, loss, **asked).verdict == "correct"


def log_of_mean(x: Any) -> float:
    return -np.log(np.mean(np.exp(-x)))


WRONG: list[tuple[Any, str, dict[str, Any], str, str]] = [
    (inst_disc(updated(0.5, True)), "inst_disc", {}, "", "is 0.5 old + 0.5 query, brought to length 1"),
    (inst_disc(updated(0.9, False)), "inst_disc", {}, "", "is 0.9 old + 0.1 query, not brought"),
    (inst_disc(updated(0.0, True)), "inst_disc", {}, "", "is the query itself"),
    (inst_disc(lambda b, i, z: (b, np.arange(len(z)))), "inst_disc", {}, "positives-permuted", "is bank[i]"),
    (inst_disc(lambda b, i, z: (b[i], np.arange(len(z)))), "inst_disc", {}, "", "only the rows bank[index]"),
    (nce(lambda i, x: (np.arange(len(i)), x)), "nce", {}, "positives-permuted", "is bank[i]"),
    (nce(lambda i, x: (i, np.tile(x[:1], (len(x), 1)))), "nce", {}, "", "all anchors share that of the first"),
    (nce(lambda i, x: (i, np.tile(x.ravel(), (len(x), 1)))), "nce", {}, "", "each anchor meets those of all"),
    (nce(lambda i, x: (i, np.hstack((x, i[:, None])))), "nce", {}, "", "the own row bank[index[i]] stands among it"),
    (nce(rate="K"), "nce", {}, "", "the density of the noise, 1/M for M rows of the bank, is forgotten"),
    (nce(rate="1/M"), "nce", {}, "", "the number of draws K is forgotten"),
    (nce(rate="1"), "nce", {}, "", "the rate of the noise is forgotten"),
    (nce(rate="K/(M-1)"), "nce", {}, "", "density 1/(M - 1)"),
    (moco(lambda q, k, x: (k, np.concatenate((x, k)))), "moco", {}, "", "beside its own rows"),
    (moco(lambda q, k, x: (k, np.concatenate((x[len(k) :], k)))), "moco", {}, "", "pushed out its first N rows"),
    (moco(lambda q, k, x: (k, x[:-1])), "moco", {}, "", "its last row is left out"),
    (
        moco(lambda q, k, x: (unit(0.3 * q + 0.7 * k), x)),
        "moco",
        {},
        "",
        "0.7 key + 0.3 query, and brought to length 1",
    ),
    (cmc(lambda i, j: float(i < j)), "cmc", {}, "one-direction", "view_1 → view_0 0 times, expected 1"),
    (cmc(lambda i, j: float(i > j)), "cmc", {"views": 4}, "one-direction", "view_0 → view_1 0 times, expected 1"),
    (cmc(lambda i, j: float(abs(i - j) == 1)), "cmc", {}, "", "view_0 → view_2 0 times, expected 1"),
    (cmc(lambda i, j: 1.0), "cmc", {}, "", "views are compared with themselves"),
    (cmc(lambda i, j: 0.3 if i > j else float(i < j)), "cmc", {}, "", "view_2 → view_1 0.3 times, expected 1"),
    (
        to_means(lambda z, i: unit(sum(z) - z[i]), 1.0),
        "cmc",
        {},
        "",
        "the mean of the other views, brought to length 1",
    ),
    (to_means(lambda z, i: sum(z) / len(z)), "cmc", {"views": 4}, "", "meets the mean of all views in the place"),
    (cpc(lambda c, f: c.shape[1] ** -0.5), "cpc", {}, "", "1/√D times what they should be, D the dimension of context"),
    (cpc(lambda c, f: 1 / f.shape[2]), "cpc", {}, "", "1/D times what they should be, D the dimension of future"),
    (cpc(together=log_of_mean), "cpc", {}, "log-of-mean", "-log of the mean probability p"),
    (cpc(together=lambda x: np.mean([log_of_mean(y) for y in x])), "cpc", {}, "log-of-mean", "row by row"),
    (cpc(together=lambda x: np.mean(x[-1])), "cpc", {}, "", "of the last step (direction) alone"),
    (cpc(together=lambda x: np.sqrt(np.mean(x * x))), "cpc", {}, "", "the root of their mean square"),
    (
        two_views(True, True, True),
        "nt_xent",
        {},
        "",
        "(centroids) of both views, (z_a + z_b)/2, brought to length 1, one",
    ),
    (two_views(False, True, False), "info_nce", {}, "", "(centroids) of both views, (z_a + z_b)/2, one a sample"),
    (two_views(False, False, True), "nt_xent", {}, "", "the positive is its own mean too"),
    (two_views(True, False, False), "info_nce", {}, "", "0.5 key + 0.5 query, and brought to length 1"),
    (nt_xent(False), "nt_xent", {}, "", "is subtracted by columns (keepdim forgotten)"),
    (sup_con(False), "sup_con", {}, "", "is subtracted by columns (keepdim forgotten)"),
    (one_matrix(lambda x: np.mean(losses(x - x.max(1)))), "info_nce", {}, "", "is subtracted by columns"),
    (
        one_matrix(lambda x: log_sum(x.ravel()) - np.mean(np.diagonal(x))),
        "info_nce",
        {},
        "",
        "over all rows (the whole",
    ),
]


@pytest.mark.parametrize(("candidate", "loss", "asked", "name", "said"), WRONG)
def test_what_is_met_instead_is_said(candidate: Any, loss: str, asked: dict[str, Any], name: str, said: str) -> None:
    report = check(candidate, loss, **asked)
    assert report.verdict == (name or "differs")
    assert said in report.differences[0].what
    assert len(report.differences) == 1


def test_a_sum_is_shared_only_where_it_is_one() -> None:
    def twice(x: Any) -> Any:
        return log_sum((x + math.log(2) * np.eye(len(x))).ravel()) - np.mean(np.diagonal(x))

    def lowered(x: Any) -> Any:  # by something of another row that is in no list
        return np.mean(losses(x - 0.5 * np.max(x, axis=1) ** 2))

    shared = check(one_matrix(twice), "info_nce").differences[0].what
    assert shared.startswith("entries of different anchors share one sum")
    depends = check(one_matrix(lowered), "info_nce").differences[0].what
    assert depends.startswith("one anchor's loss depends on another anchor's similarities")


def test_an_anchor_that_meets_others_is_not_left_out_altogether() -> None:
    def candidate(query: Any, key: Any, temperature: Any, queue: Any) -> Any:
        q, k = unit(query), unit(key)
        s = np.hstack((np.sum(q * k, axis=1, keepdims=True), q @ queue.T)) / temperature
        s[-1, 1] = -np.inf  # the last anchor does not meet the first row
        return np.mean(losses(s, np.zeros(len(q), int)))

    what = check(candidate, "moco").differences[0].what
    assert "1 of 16 of the queue" in what
    assert "altogether" not in what
