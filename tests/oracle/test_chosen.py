"""Losses that choose among negatives, or compare pairs: each kind of mistake is said in words, right code is right."""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logsumexp

import refcl
from refcl.oracle import check, numeric


def unit(x: Any) -> Any:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def own(s: Any) -> Any:
    return np.eye(*s.shape, dtype=bool)


def softmax_loss(s: Any, keep: Any, t: float) -> Any:
    """Return InfoNCE against the negatives that are kept."""
    return (logsumexp(np.where(keep | own(s), s / t, -np.inf), axis=1) - np.diag(s) / t).mean()


def simple_loss(s: Any, keep: Any, t: float) -> Any:
    return (np.sum(np.where(keep, s, 0), axis=1) / np.maximum(keep.sum(1), 1) - np.diag(s)).mean()


def top(x: Any, k: int, axis: int = 1) -> Any:
    """Return which are among the k largest along an axis; minus infinity is none of them."""
    least = np.sort(x, axis=axis).take([-min(k, np.sum(np.isfinite(x), axis=axis).min())], axis=axis)
    return (x >= least) & np.isfinite(x)


def negatives(s: Any) -> Any:
    return np.where(own(s), -np.inf, s)


def positives(s: Any) -> Any:
    return np.diag(s)[:, None]


# how similarities are written, none of which is another to more than rounding
WRITTEN = {
    "a product": lambda q, k: unit(q) @ unit(k).T,
    "squared distances": lambda q, k: 1 - ((unit(q)[:, None] - unit(k)[None]) ** 2).sum(-1) / 2,
    "a loop": lambda q, k: np.array([[float(np.dot(unit(y), unit(x))) for y in k] for x in q], dtype=q.dtype),
}


def kept(s: Any, hardest: float) -> Any:
    """Keep just k a row, whichever of a tie sorts first."""
    k = hardest if isinstance(hardest, int) else max(1, round(hardest * (s.shape[1] - 1)))
    order = np.argsort(np.argsort(-negatives(s), axis=1, kind="stable"), axis=1, kind="stable")
    return (order < k) & ~own(s)


@pytest.mark.parametrize("hardest", [1, 2, 3, 0.25, 0.5])
@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("loss", ["hard_info_nce", "hard_simple_loss"])
def test_a_tie_is_broken_as_one_likes(loss: str, written: str, hardest: float) -> None:
    made = softmax_loss if loss == "hard_info_nce" else simple_loss

    def candidate(query: Any, key: Any, temperature: float = 0.0) -> Any:
        s = WRITTEN[written](query, key)
        return made(s, kept(s, hardest), temperature)

    def simple(query: Any, key: Any) -> Any:
        return candidate(query, key)

    f = candidate if loss == "hard_info_nce" else simple
    assert check(numeric(f), loss, hardest=hardest).ok


@pytest.mark.parametrize("hardest", [1, 2, 0.5])
@pytest.mark.parametrize("loss", ["hard_softmax_contrastive", "hard_simple_contrastive"])
def test_a_tie_of_similarities_is_broken_as_one_likes(loss: str, hardest: float) -> None:
    def candidate(s: Any, temperature: float) -> Any:
        return softmax_loss(s, kept(s, hardest), temperature)

    def simple(s: Any) -> Any:
        return simple_loss(s, kept(s, hardest), 0.0)

    f = candidate if loss == "hard_softmax_contrastive" else simple
    assert check(numeric(f), loss, hardest=hardest).ok


def said(candidate: Any, loss: str, **settings: Any) -> str:
    report = check(candidate, loss, **settings)
    assert report.verdict not in ("correct", "unknown"), str(report)
    return "\n".join(d.what for d in report.differences)


NEARER, ONE_BOUND, BATCH = "nearer than the positive are left out", "one bound for all", "hardest of the whole batch"
AMONG, COLUMN, EASIEST, FIRST = "the positive among them", "each column", "easiest of each", "in their order"
# the loss asked, its settings, which negatives the candidate keeps, what is said
RULES = [
    ("softmax_contrastive", {}, lambda s: s <= positives(s), NEARER),
    ("softmax_contrastive", {}, lambda s: s <= positives(s) + 0.1, "s_k > s_p + 0.1"),
    ("softmax_contrastive", {}, lambda s: s <= positives(s) - 0.2, "s_k > s_p - 0.2"),
    ("softmax_contrastive", {}, lambda s: s >= positives(s), "farther off than the positive are left out, s_k < s_p"),
    ("softmax_contrastive", {}, lambda s: s < 0.3, ONE_BOUND),
    ("softmax_contrastive", {}, lambda s: s > -0.4, "s_k < -0.4 are left out"),
    ("softmax_contrastive", {}, lambda s: top(negatives(s), 1), "only the 1 hardest of each anchor are kept"),
    ("softmax_contrastive", {}, lambda s: ~top(negatives(s), 1), "the 1 hardest of each anchor are left out"),
    (
        "softmax_contrastive",
        {},
        lambda s: (s < positives(s)) & (s > positives(s) - 0.5),
        f"{NEARER}, and those farther off by more than 0.5",
    ),
    ("simple_contrastive", {}, lambda s: s <= positives(s), NEARER),
    ("decoupled_contrastive", {}, lambda s: s <= positives(s) + 0.3, NEARER),
    (
        "hard_softmax_contrastive",
        {"hardest": 2},
        lambda s: top(s, 2),
        f"2 hardest candidates of each anchor are kept, {AMONG}",
    ),
    (
        "hard_softmax_contrastive",
        {"hardest": 3},
        lambda s: top(s, 3),
        f"3 hardest candidates of each anchor are kept, {AMONG}",
    ),
    ("hard_simple_contrastive", {"hardest": 2}, lambda s: top(s, 2), AMONG),
    ("hard_softmax_contrastive", {"hardest": 0.5}, lambda s: top(s, max(1, round(0.5 * s.shape[1]))), AMONG),
    (
        "hard_softmax_contrastive",
        {"hardest": 0.5},
        lambda s: negatives(s) >= np.quantile(s[~own(s)], 0.5),
        f"0.5 (a share) {BATCH}",
    ),
    (
        "hard_softmax_contrastive",
        {"hardest": 0.25},
        lambda s: negatives(s) >= np.quantile(s[~own(s)], 0.75),
        BATCH,
    ),
    ("hard_softmax_contrastive", {"hardest": 2}, lambda s: top(negatives(s), 2, 0), f"2 hardest of {COLUMN}"),
    ("hard_softmax_contrastive", {"hardest": 2}, lambda s: top(-s - 9 * own(s), 2), f"2 {EASIEST}"),
    ("hard_softmax_contrastive", {"hardest": 2}, lambda s: np.cumsum(~own(s), axis=1) <= 2, FIRST),
]


def by_rule(loss: str, rule: Any) -> Any:
    def softmax(s: Any, temperature: float) -> Any:
        return softmax_loss(s, rule(s) & ~own(s), temperature)

    def simple(s: Any) -> Any:
        return (np.sum(np.where(rule(s) & ~own(s), s, 0), axis=1) - np.diag(s)).mean()

    def simple_mean(s: Any) -> Any:
        return simple_loss(s, rule(s) & ~own(s), 0.0)

    def decoupled(s: Any, temperature: float) -> Any:
        x = np.where(rule(s) & ~own(s), s / temperature, -np.inf)
        none = ~np.any(np.isfinite(x), axis=1)
        return np.where(none, 0, logsumexp(np.where(none[:, None], 0, x), axis=1) - np.diag(s) / temperature).mean()

    made = {
        "simple_contrastive": simple_mean,
        "hard_simple_contrastive": simple_mean,
        "decoupled_contrastive": decoupled,
    }
    return made.get(loss, softmax)


@pytest.mark.parametrize("case", range(len(RULES)))
def test_which_negatives_count_is_said_as_a_rule(case: int) -> None:
    loss, settings, rule, words = RULES[case]
    assert words in said(by_rule(loss, rule), loss, **settings)


def test_a_rule_is_found_through_embeddings_and_in_both_directions() -> None:
    def query_key(query: Any, key: Any, temperature: float) -> Any:
        s = unit(query) @ unit(key).T
        return softmax_loss(s, s <= positives(s) + 1e-12, temperature)

    def clip(image: Any, text: Any, log_scale: float) -> Any:
        return (query_key(image, text, np.exp(-log_scale)) + query_key(text, image, np.exp(-log_scale))) / 2

    assert NEARER in said(query_key, "info_nce")
    assert NEARER in said(clip, "clip")


@pytest.mark.parametrize("number", [0.0, -1.0, -5.0])
def test_what_is_dropped_keeps_a_logit(number: float) -> None:
    def candidate(s: Any, temperature: float) -> Any:
        x = np.where(kept(s, 2) | own(s), s / temperature, number)
        return (logsumexp(x, axis=1) - np.diag(s) / temperature).mean()

    words = said(candidate, "hard_softmax_contrastive", hardest=2)
    assert f"stay in the sum at logit {number:g}: each adds exp({number:g})" in words


def test_what_is_dropped_keeps_a_similarity() -> None:
    def candidate(query: Any, key: Any, temperature: float) -> Any:
        s = unit(query) @ unit(key).T
        x = np.where(kept(s, 0.5) | own(s), s, 0.2) / temperature
        return (logsumexp(x, axis=1) - np.diag(s) / temperature).mean()

    assert "at similarity 0.2: each adds exp(0.2/τ)" in said(candidate, "hard_info_nce", hardest=0.5)


def nearest(s: Any, margin: float, pick: Any = np.max, who: Any = None) -> Any:
    """Return the hinge of a triplet that meets one of some negatives, 0 where there is none."""
    losses = []
    for i, row in enumerate(s):
        p = row[i]
        some = [x for k, x in enumerate(row) if k != i and (who is None or who(x, p))]
        losses.append(max(pick(some) - p + margin, 0) if some else 0.0)
    return np.asarray(np.mean(losses))


TRIPLETS = [
    ("triplet", lambda s, m: nearest(s, -m), "max(gap - 0.3, 0): the margin is subtracted"),
    ("triplet", lambda s, m: nearest(s, 0), "it is right where the margin is 0"),
    (
        "triplet",
        lambda s, m: 2 * nearest(s, m / 2),
        "max(2 gap + 0.3, 0): the gap counts 2 times (as with squared distances",
    ),
    (
        "triplet",
        lambda s, m: nearest(s * ~own(s) + 0, m + 0) * 0 + masked(s, 0.0, m),
        "one more candidate, of similarity 0",
    ),
    ("triplet", lambda s, m: masked(s, -0.2, m), "one more candidate, of similarity -0.2"),
    ("triplet", lambda s, m: nearest(s, m, np.min), "the furthest (the easiest) of all"),
    ("triplet", lambda s, m: nearest(s, m, np.mean), "their mean stands in the place of the nearest"),
    ("triplet", lambda s, m: nearest(s, m, who=lambda x, p: x < p), "the nearest of those farther off"),
    ("semi_hard_triplet", lambda s, m: nearest(s, m), "the nearest of all, with no condition"),
    ("semi_hard_triplet", lambda s, m: nearest(s, m, next_of, lambda x, p: p - m < x < p), "the first, in the order"),
    (
        "semi_hard_triplet",
        lambda s, m: nearest(s, m, np.min, lambda x, p: p - m < x < p),
        "furthest (the easiest) of those",
    ),
    (
        "semi_hard_triplet",
        lambda s, m: nearest(s, m, np.min, lambda x, p: x > p),
        "nearer than the positive (the comparison",
    ),
    ("semi_hard_triplet", lambda s, m: 2 * nearest(s, m / 2, who=lambda x, p: x < p), "max(2 gap + 0.3, 0)"),
]


def next_of(some: list[float]) -> float:
    return some[0]


def masked(s: Any, number: float, margin: float) -> Any:
    """Return the triplet loss whose positive is masked with a number."""
    return np.maximum(np.max(np.where(own(s), number, s), axis=1) - np.diag(s) + margin, 0).mean()


@pytest.mark.parametrize("case", range(len(TRIPLETS)))
def test_which_negative_a_triplet_meets(case: int) -> None:
    loss, f, words = TRIPLETS[case]
    assert words in said(lambda s: f(s, 0.3), loss, margin=0.3)


def test_no_hinge_is_read_off_one_batch_where_it_is_another_on_the_next() -> None:
    def active_pairs(s: Any) -> Any:
        h = np.maximum(np.where(own(s), -9, s - positives(s) + 0.3), 0)
        return h.sum() / max((h > 0).sum(), 1)

    def margin_times(s: Any) -> Any:
        return np.maximum(np.max(negatives(s), axis=1) - 0.3 * np.diag(s), 0).mean()

    for f in (active_pairs, margin_times):
        words = said(f, "triplet", margin=0.3)
        assert "hinge is another" not in words
        assert "ranked, mined or trimmed" not in words


def test_triplets_that_are_right() -> None:
    assert check(lambda s: nearest(s, 0.3), "triplet", margin=0.3).ok
    assert check(lambda s: nearest(s, 0.3, who=lambda x, p: x < p), "semi_hard_triplet", margin=0.3).ok


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_a_triplet_whose_distance_is_a_mean_over_columns(distance: str) -> None:
    def candidate(anchor: Any, positive: Any, negative: Any, margin: float) -> Any:
        def d(x: Any, y: Any) -> Any:
            square = ((x - y) ** 2).mean(1)
            return square if distance == "squared" else np.sqrt(square)

        return np.maximum(d(anchor, positive) - d(anchor, negative) + margin, 0).mean()

    words = said(candidate, "triplet_margin", distance=distance)
    assert ("1/D" if distance == "squared" else "1/√D") in words


@pytest.mark.parametrize(("like", "unlike"), [("P", "Q"), ("2P", "2Q"), ("P", "P"), ("N", "Q")])
def test_like_and_unlike_pairs_averaged_apart(like: str, unlike: str) -> None:
    def candidate(a: Any, b: Any, same: Any) -> Any:
        d = np.linalg.norm(a - b, axis=1)
        n, p, q = len(d), max(np.sum(same), 1), max(np.sum(~same), 1)
        by = {"N": n, "P": p, "Q": q, "2P": 2 * p, "2Q": 2 * q}
        return (np.where(same, d**2 / by[like], np.maximum(1 - d, 0) ** 2 / by[unlike]) / 2).sum()

    words = said(candidate, "pair_contrastive")
    assert f"(same) are divided by {like} and those of the Q unlike pairs by {unlike}" in words
    assert "distance" not in words


READINGS: list[tuple[Any, str]] = [
    (expit, "a sigmoid of l, where its logit l belongs: a loss that takes logits is handed probabilities"),
    (np.tanh, "tanh(l)"),
    (lambda x: 0.5 * x, "0.5 l"),
    (lambda x: np.clip(x, -3, 3), "l, held between ±3"),
    (lambda x: np.maximum(x, -9), "max(l, -9)"),
]


@pytest.mark.parametrize("case", range(len(READINGS)))
def test_a_pair_s_logit_is_read_otherwise(case: int) -> None:
    f, words = READINGS[case]

    def candidate(image: Any, text: Any, log_scale: float, bias: float) -> Any:
        logits = f(np.exp(log_scale) * unit(image) @ unit(text).T + bias)
        return np.sum(np.logaddexp(0, np.where(own(logits), -logits, logits))) / len(logits)

    assert f"every pair is judged at {words}" in said(candidate, "sig_lip")


@pytest.mark.parametrize("weight", [0.3, 2.5])
def test_the_weight_on_the_positive(weight: float) -> None:
    def candidate(s: Any) -> Any:
        return (np.sum(np.where(own(s), 0, s), axis=1) - weight * np.diag(s)).mean()

    words = said(candidate, "simple_contrastive", weight=weight)
    assert f"the positives weigh {weight:g} times what they should (λ)" in words
    assert "(1/λ)" in words


@pytest.mark.parametrize("number", [0.0, 0.5])
@pytest.mark.parametrize("loss", ["decoupled_contrastive", "dcl"])
def test_losses_that_are_cut_off(loss: str, number: float) -> None:
    none = getattr(refcl, loss)

    def similarities(s: Any, temperature: float) -> Any:
        return np.maximum(none(s, temperature, reduction="none")[0], number).mean()

    def views(a: Any, b: Any, temperature: float) -> Any:
        return np.maximum(none(a, b, temperature, reduction="none")[0], number).mean()

    words = said(views if loss == "dcl" else similarities, loss)
    assert f"max(L_i, {number:g})" in words


def test_an_anchor_is_left_out_only_where_nothing_of_it_counts() -> None:
    def candidate(query: Any, key: Any, temperature: float, queue: Any) -> Any:
        q, p = unit(query), np.sum(unit(query) * unit(key), axis=1, keepdims=True)
        x = np.concatenate([p, q @ unit(queue[:-1]).T], axis=1) / temperature
        return (logsumexp(x, axis=1) - x[:, 0]).mean()

    words = said(candidate, "moco")
    assert "queue" in words
    assert "left out altogether" not in words
