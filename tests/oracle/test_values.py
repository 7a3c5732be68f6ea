"""What is done to logits, to the anchors' losses, to rows and to what goes with them: values alone tell."""

from typing import Any

import numpy as np
import pytest

from refcl.oracle import check

INF = np.inf


def unit(x: Any) -> Any:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def log_sum(x: Any, axis: int = -1) -> Any:
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.squeeze(top, axis) + np.log(np.sum(np.exp(x - top), axis=axis))


def losses(x: Any) -> Any:
    return log_sum(x) - np.diagonal(x)


def matrix(f: Any = np.copy, of: Any = lambda x: np.mean(losses(x)), keys: Any = unit) -> Any:
    """Return info_nce of similarities and temperature read otherwise, of keys made otherwise."""

    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        return of(f(unit(query) @ keys(key).T / temperature))

    return candidate


def together(f: Any) -> Any:
    return matrix(of=lambda x: f(losses(x)))


def nt_xent(f: Any) -> Any:
    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        z, n = unit(np.concatenate((a, b))), len(a)
        s = np.where(np.eye(2 * n) > 0, -INF, z @ z.T / temperature)
        return f(log_sum(s) - s[np.arange(2 * n), np.roll(np.arange(2 * n), n)])

    return candidate


def clip(f: Any, both: bool = True) -> Any:
    def candidate(image: Any, text: Any, log_scale: Any) -> Any:
        x = np.exp(log_scale) * (unit(image) @ unit(text).T)
        return (f(x) + f(x.T)) / 2 if both else f(x)

    return candidate


def share(c: float, to: Any = np.floor, first: int = -1) -> Any:
    return lambda x: np.mean(np.sort(x)[::first][: max(int(to(c * len(x))), 1)])


def sup_con(of: Any = lambda x, y: np.mean(x), late: Any = np.copy) -> Any:
    def candidate(z: Any, temperature: Any, labels: Any) -> Any:
        z, y, eye = unit(z), late(labels), np.eye(len(z), dtype=bool)
        x = z @ z.T / temperature
        like = (y[:, None] == y) & ~eye
        log_p = x - log_sum(np.where(eye, -INF, x))[:, None]
        return of(-np.sum(np.where(like, log_p, 0.0), 1) / np.maximum(np.sum(like, 1), 1), labels)

    return candidate


def class_mean(x: Any, y: Any) -> Any:
    return np.mean([np.mean(x[y == c]) for c in np.unique(y)])


def multi_positive(prototype: bool = True, late: Any = np.copy, lengths: Any = unit) -> Any:
    def candidate(query: Any, key: Any, temperature: Any, positives: Any) -> Any:
        positives = late(positives)
        q, k, has = unit(query), unit(key), np.any(positives, axis=1)
        x = q @ k.T / temperature
        mean = positives @ k / np.maximum(np.sum(positives, 1, keepdims=True), 1)
        p = np.sum(q * lengths(np.where(has[:, None], mean, 1.0)), axis=1) / temperature
        p = p if prototype else log_sum(np.where(positives, x, -INF))
        off = log_sum(np.where(positives, -INF, x))
        with np.errstate(invalid="ignore"):
            return np.mean(np.where(has, np.logaddexp(off, p) - p, 0.0))

    return candidate


def moco(queue_: Any = np.copy, pos: Any = np.copy) -> Any:
    def candidate(query: Any, key: Any, temperature: Any, queue: Any) -> Any:
        q, k = unit(query), unit(key)
        p = pos(np.sum(q * k, axis=1)) * np.ones(len(q)) / temperature
        x = np.concatenate((p[:, None], q @ queue_(queue).T / temperature), axis=1)
        return np.mean(log_sum(x) - p)

    return candidate


def inst_disc(of: Any = np.copy) -> Any:
    def candidate(query: Any, temperature: Any, bank: Any, index: Any) -> Any:
        x = unit(query) @ of(bank).T / temperature
        return np.mean(log_sum(x) - x[np.arange(len(x)), index])

    return candidate


def nce(draws: Any = np.copy, kept: Any = lambda noise, index: 1.0) -> Any:
    def candidate(query: Any, temperature: Any, bank: Any, index: Any, noise: Any, log_normalizer: Any) -> Any:
        z, shift = unit(query), log_normalizer + np.log(noise.shape[1] / len(bank))
        some = draws(noise)
        off = np.logaddexp(0, np.einsum("nd,nkd->nk", z, bank[some]) / temperature - shift) * kept(some, index)
        return np.mean(np.logaddexp(0, shift - np.sum(z * bank[index], 1) / temperature) + np.sum(off, 1))

    return candidate


def per_anchor(f: Any) -> Any:
    def candidate(s: Any, temperature: Any) -> Any:
        return np.mean(losses(f(s, temperature[:, None])))

    return candidate


def softmax(x: Any) -> Any:
    return np.exp(x - log_sum(x)[:, None])


def blocks(size: int) -> Any:
    def value(x: Any) -> Any:
        top, total = np.full(len(x), -INF), np.zeros(len(x))
        for k in range(0, x.shape[1], size):
            top = np.maximum(top, np.max(x[:, k : k + size], axis=1))
            total = total + np.sum(np.exp(x[:, k : k + size] - top[:, None]), axis=1)
        return np.mean(top + np.log(total) - np.diagonal(x))

    return value


def standardized(s: Any, t: float = 1.0, ddof: int = 0, eps: float = 1e-5, within: bool = False) -> Any:
    v = np.var(s, axis=1, keepdims=True, ddof=ddof)
    return (s - np.mean(s, axis=1, keepdims=True)) / (np.sqrt(v + eps) if within else np.sqrt(v) + eps) / t


def standardized_first(query: Any, key: Any, temperature: Any) -> Any:
    return np.mean(losses(standardized(unit(query) @ unit(key).T, temperature)))


def cross(twice: bool) -> Any:
    def value(x: Any) -> Any:
        down = x.T if twice else np.where(np.eye(len(x)) > 0, -INF, x.T)
        return np.mean(log_sum(np.hstack((x, down))) - np.diagonal(x))

    return value


def mix(c: float, by: Any) -> Any:
    return lambda x: c * x + (1 - c) * by(x)


def before(x: Any) -> Any:
    return np.roll(x, 1, 0)


SAID = [
    (together(share(0.5)), "info_nce", "mean of the 0.5 N (rounded down) largest (hardest anchors) alone"),
    (together(share(0.7, np.ceil)), "info_nce", "mean of the 0.7 N (rounded up) largest"),
    (together(lambda x: np.mean(np.sort(x)[-3:])), "info_nce", "mean of the 3 largest"),
    (together(share(0.5, first=1)), "info_nce", "mean of the 0.5 N (rounded down) smallest (easiest anchors) alone"),
    (together(lambda x: np.sum(np.sort(x)[: len(x) // 2]) / len(x)), "info_nce", "divided by the number of all"),
    (nt_xent(share(0.25)), "nt_xent", "mean of the 0.25 N (rounded down) largest"),
    (clip(lambda x: share(0.5)(losses(x))), "clip", "largest (hardest anchors) alone, direction by direction"),
    (sup_con(class_mean), "sup_con", "the mean of each class is taken first"),
    (together(lambda x: np.mean(x + 1 - np.exp(-x))), "info_nce", "L_i + 1 (1 - p_i)"),
    (nt_xent(lambda x: np.mean(x - 0.7 * (1 - np.exp(-x)))), "nt_xent", "L_i + -0.7 (1 - p_i)"),
    (together(lambda x: np.mean(1 - np.exp(-0.7 * x)) / 0.7), "info_nce", "q = 0.7, p_i"),
    (nt_xent(lambda x: np.mean(1 - np.exp(-0.35 * x)) / 0.35), "nt_xent", "q = 0.35, p_i"),
    (clip(cross(True), both=False), "clip", "so that the positive counts twice"),
    (
        matrix(keys=lambda k: unit(mix(0.9, before)(k))),
        "info_nce",
        "row i - 1, the one before, 0.9 key + 0.1 of that, before",
    ),
    (matrix(keys=lambda k: unit(mix(0.8, np.flipud)(unit(k)))), "info_nce", "0.8 key + 0.2 of that, and brought to"),
    (matrix(keys=lambda k: mix(0.6, before)(unit(k))), "info_nce", "row i - 1, the one before, 0.6 key + 0.4 of that"),
    (multi_positive(), "multi_positive", "(a prototype), stands for all of them"),
    (multi_positive(lengths=np.copy), "multi_positive", "one logit, the mean of those"),
    (multi_positive(False, before), "multi_positive", "positives: read a row late"),
    (moco(lambda x: x.reshape(x.shape[::-1]).T), "moco", "another queue: it is reshaped (view)"),
    (moco(lambda x: x[:, ::-1]), "moco", "its columns stand in reverse order"),
    (inst_disc(lambda x: x.reshape(x.shape[::-1]).T), "inst_disc", "the bank is reshaped (view)"),
    (moco(pos=np.sum), "moco", "share one logit of the positive: the sum"),
    (moco(pos=np.mean), "moco", "share one logit of the positive: the mean"),
    (nce(lambda x: x[:, : x.shape[1] // 2]), "nce", "only the first half of each anchor's draws counts, though K"),
    (nce(lambda x: x[:, ::2]), "nce", "only every other one of each anchor's draws"),
    (nce(kept=lambda x, i: x != i[:, None]), "nce", "hit the anchor's own row, bank[index[i]], are left out"),
    (matrix(of=blocks(2)), "info_nce", "blocks of 2 candidates"),
    (matrix(of=blocks(3)), "info_nce", "blocks of 3 candidates"),
    (clip(blocks(2)), "clip", "blocks of 2 candidates"),
    (sup_con(late=before), "sup_con", "labels: read a row late"),
    (sup_con(late=np.flipud), "sup_con", "labels: read in reverse order"),
    (standardized_first, "info_nce", "similarities are standardized in each row"),
    (matrix(standardized), "info_nce", "logits are standardized in each row: mean 0, standard deviation (+ 1e-05) 1"),
    (matrix(lambda x: standardized(x, 1.0, 1, 0.0, True)), "info_nce", "over M - 1"),
    (
        matrix(lambda x: x - log_sum(x, 0)),
        "info_nce",
        "the log-sum-exp of each column, over the anchors, is subtracted",
    ),
    (clip(lambda x: np.mean(losses(x - log_sum(x, 0)))), "clip", "the log-sum-exp of each column"),
]
NAMED = [
    (per_anchor(lambda s, t: softmax(s / t)), "double-softmax"),
    (per_anchor(lambda s, t: s), "temperature-missing"),
    (per_anchor(lambda s, t: s * t), "temperature-inverted"),
]
RIGHT = [
    (together(np.mean), "info_nce"),
    (nt_xent(np.mean), "nt_xent"),
    (clip(lambda x: np.mean(losses(x))), "clip"),
    (sup_con(), "sup_con"),
    (multi_positive(False), "multi_positive"),
    (moco(), "moco"),
    (inst_disc(), "inst_disc"),
    (nce(), "nce"),
    (per_anchor(lambda s, t: s / t), "per_anchor_contrastive"),
]


@pytest.mark.parametrize(("candidate", "loss", "said"), SAID, ids=lambda x: x if isinstance(x, str) else "")
def test_what_is_done_is_said(candidate: Any, loss: str, said: str) -> None:

    report = check(candidate, loss)
    assert said in report.differences[0].what


@pytest.mark.parametrize(("candidate", "name"), NAMED, ids=lambda x: x if isinstance(x, str) else "")
def test_what_has_a_name_gets_it(candidate: Any, name: str) -> None:
    assert check(candidate, "per_anchor_contrastive").verdict == name


@pytest.mark.parametrize(("candidate", "loss"), RIGHT, ids=lambda x: x if isinstance(x, str) else "")
def test_what_is_right_is_correct(candidate: Any, loss: str) -> None:
    assert check(candidate, loss).verdict == "correct"
