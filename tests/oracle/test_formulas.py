"""Formulas in the place of -log p, and functions of the temperature, that no list of names holds."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import refcl
from refcl.oracle import check


def unit(x: Any) -> Any:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def softmax(logits: Any) -> Any:
    e = np.exp(logits - np.max(logits, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


def softplus(x: Any) -> Any:
    return np.logaddexp(0.0, x)


CHARGES: dict[str, Callable[[Any, Any, Any], Any]] = {  # of the logits, the similarities and the targets
    "the squared error of the probabilities (Brier's score)": lambda x, s, t: np.mean(np.sum((softmax(x) - t) ** 2, 1)),
    "the squared error of the logits, times 1/M": lambda x, s, t: np.mean((x - t) ** 2),
    "the squared error of the similarities, times 1/M": lambda x, s, t: np.mean((s - t) ** 2),
    "a binary cross-entropy of the softmax's probabilities": lambda x, s, t: np.mean(
        np.sum(-np.log(np.where(t > 0, softmax(x), 1 - softmax(x))), axis=1)
    ),
    "a sigmoid for each candidate (binary cross-entropy), not one softmax": lambda x, s, t: np.mean(
        np.sum(softplus(x) - t * x, axis=1)
    ),
    "each negative against the positive by itself (logistic)": lambda x, s, t: np.mean(
        np.sum((1 - t) * softplus(x - np.diag(x)[:, None]), axis=1)
    ),
    "a hinge of each negative, times 1/M": lambda x, s, t: np.mean(
        (1 - t) * np.maximum(1 + x - np.diag(x)[:, None], 0)
    ),
    "-p_p, the probability without its logarithm": lambda x, s, t: -np.mean(np.diag(softmax(x))),
    "the positive alone, without the denominator": lambda x, s, t: -np.mean(np.diag(x)),
    "softplus of the negatives' mean less the positive": lambda x, s, t: np.mean(
        softplus(np.sum((1 - t) * x, axis=1) / (len(x) - 1) - np.diag(x))
    ),
}


@pytest.mark.parametrize("said", CHARGES)
def test_what_is_charged_in_the_place_of_a_logarithm(said: str) -> None:
    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        s = unit(query) @ unit(key).T
        return CHARGES[said](s / temperature, s, np.eye(len(s)))

    report = check(candidate, "info_nce")
    assert report.verdict == "differs"
    assert said in report.differences[0].what
    assert report.picture["measured"].shape == report.picture["expected"].shape == (len(report.picture["entries"]),)


@pytest.mark.parametrize(
    ("law", "said"),
    [
        (lambda t: t + 0.1, "0.1 is added to the temperature"),
        (lambda t: t**1.5, "the temperature is what is passed to the power 1.5"),
        (lambda t: 1.3 * t, "the temperature is 1.3 times what is passed"),
        (lambda t: 1 / max(1 // t, 1e-30), "the scale is 1//τ, a whole number (integer division)"),
        (lambda t: 0.3 * math.atan(t), "the temperature is another function of what is passed: "),
    ],
)
@pytest.mark.parametrize("loss", ["info_nce", "nt_xent", "dcl"])
def test_a_function_of_the_temperature(loss: str, law: Callable[[float], float], said: str) -> None:
    pair = getattr(refcl, loss)
    report = check(lambda a, b, temperature: pair(a, b, law(float(temperature)))[0], loss)
    assert report.verdict == "differs"
    assert report.differences[0].what.startswith(said)


@pytest.mark.parametrize(
    ("scale", "said"), [(lambda s: 10**s, "the scale is 10^θ"), (lambda s: softplus(s), "the scale is softplus(θ)")]
)
def test_a_function_of_the_log_scale(scale: Callable[[float], float], said: str) -> None:
    def candidate(image: Any, text: Any, log_scale: Any) -> Any:
        return refcl.clip(image, text, math.log(scale(float(log_scale))))[0]

    report = check(candidate, "clip", clamp=None)
    assert report.differences[0].what.startswith(said)


@pytest.mark.parametrize(
    ("which", "scale", "said"),
    [
        ("both", lambda t: t, "within both inputs, times τ"),
        ("own", lambda t: 1 / t, "within its own input, divided by τ"),
        ("other", lambda t: 1.0, "within the other input"),
    ],
)
def test_targets_that_are_similarities_within_the_inputs(which: str, scale: Any, said: str) -> None:
    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        q, k = unit(query), unit(key)
        within = {"both": (q @ q.T + k @ k.T) / 2, "own": q @ q.T, "other": k @ k.T}[which]
        return -np.mean(np.sum(softmax(within * scale(temperature)) * np.log(softmax(q @ k.T / temperature)), axis=1))

    report = check(candidate, "info_nce")
    assert report.differences[0].what.endswith(said)


def test_a_mask_before_the_temperature_leaks_where_it_is_warm() -> None:
    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        s = unit(query) @ unit(key).T
        others = np.where(np.eye(len(s)) > 0, -10.0, s)
        return -np.mean(np.log(softmax(np.concatenate([np.diag(s)[:, None], others], axis=1) / temperature)[:, 0]))

    report = check(candidate, "info_nce")
    assert report.verdict == "finite-mask-leak"
    assert "-10, before the temperature: one candidate more" in report.findings[0].detail


def test_one_s_own_term_of_rows_that_are_not_of_length_one() -> None:
    def candidate(a: Any, b: Any) -> Any:
        z = np.concatenate([a, b])
        e = np.exp(z @ z.T / 2.0)
        return np.mean(
            np.log(np.sum(e, axis=1) - np.exp(1 / 2.0)) - np.sum(z * np.roll(z, len(a), axis=0), axis=1) / 2.0
        )

    report = check(candidate, "nt_xent", temperature=2.0, normalize=False)
    assert "self-term-wrong-constant" in report.verdict
    assert "never read" not in str(report)


@pytest.mark.parametrize(
    ("loss", "name", "candidate"),
    [
        (
            "sup_con",
            "labels",
            lambda z, temperature, labels: refcl.sup_con(z, temperature, labels=np.arange(len(z)) // 2)[0],
        ),
        (
            "moco",
            "queue",
            lambda query, key, temperature, queue: refcl.moco(query, key, temperature, queue=np.eye(len(key[0]))[:3])[
                0
            ],
        ),
        ("pair_contrastive", "same", lambda a, b, same: refcl.pair_contrastive(a, b, same=np.ones(len(a), bool))[0]),
    ],
)
def test_what_comes_by_name_and_is_never_read(loss: str, name: str, candidate: Any) -> None:
    assert check(candidate, loss).differences[0].what == f"{name} has no effect on the value: it is never read (unused)"


def moco_like(query: Any, key: Any, temperature: Any, queue: Any) -> Any:
    """Divide the positive by the number of dimensions: a mean where a sum belongs."""
    q, k = unit(query), unit(key)
    logits = np.concatenate([np.mean(q * k, axis=1, keepdims=True), q @ queue.T], axis=1) / temperature
    return -np.mean(np.log(softmax(logits)[:, 0]))


def test_the_positive_s_own_temperature_is_named_and_its_target_goes_along() -> None:
    report = check(moco_like, "moco")
    assert len(report.differences) == 1
    assert "D times that" in report.differences[0].what


def test_a_mean_over_the_candidates_is_a_factor_with_a_name() -> None:
    report = check(
        lambda query, key, temperature: refcl.info_nce(query, key, temperature)[0] * len(query) / len(key),
        "info_nce",
        extra_keys=3,
    )
    assert report.verdict == "scaled-by-constant"
    assert "multiplied by N/M" in report.findings[0].detail


def test_the_largest_similarity_in_the_place_of_the_positive() -> None:
    def candidate(s: Any, temperature: Any) -> Any:
        return -np.mean(np.log(np.max(softmax(s / temperature), axis=1)))

    report = check(candidate, "softmax_contrastive")
    assert report.differences[0].what.startswith("the largest similarity of each anchor is taken for its positive")


def test_what_is_ignored_counts_as_a_number() -> None:
    ignore = np.zeros((4, 6), dtype=bool)
    ignore[[0, 1, 3, 3], [4, 5, 0, 4]] = True

    def candidate(s: Any, temperature: Any) -> Any:
        logits = np.where(ignore, 0.0, s) / temperature
        return -np.mean(np.log(np.diag(softmax(logits))))

    report = check(candidate, "softmax_contrastive", shape=(4, 6), ignore=ignore)
    assert report.differences[0].what.startswith("ignored entries count in the sums, each with the logit 0")


@pytest.mark.parametrize("axis", [0, 1])
def test_logits_that_are_multiplied_by_their_softmax(axis: int) -> None:
    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        logits = unit(query) @ unit(key).T / temperature
        turned = softmax(logits) if axis else softmax(logits.T).T
        return -np.mean(np.log(np.diag(softmax(logits * turned))))

    report = check(candidate, "info_nce")
    assert "each logit is multiplied by its softmax over" in report.differences[0].what
    assert ("dual softmax" in report.differences[0].what) == (axis == 0)


READINGS: dict[str, Callable[[Any], Any]] = {
    "1 - 2 arccos(s)/π, the angle": lambda s: 1 - 2 * np.arccos(np.clip(s, -1, 1)) / np.pi,
    "-log(1 + d²), d² = 2 - 2s, Student's t kernel": lambda s: -np.log1p(2 - 2 * s),
    "(1 + s)², a polynomial kernel": lambda s: (1 + s) ** 2,
    "tanh(s)": np.tanh,
}


@pytest.mark.parametrize("said", READINGS)
@pytest.mark.parametrize("loss", ["info_nce", "moco"])
def test_what_is_read_in_the_place_of_a_similarity(loss: str, said: str) -> None:
    def candidate(query: Any, key: Any, temperature: Any, queue: Any = None) -> Any:
        q, k = unit(query), unit(key)
        s = q @ k.T if loss == "info_nce" else np.hstack((np.sum(q * k, axis=1, keepdims=True), q @ queue.T))
        p = softmax(READINGS[said](s) / temperature)
        return -np.mean(np.log(np.diag(p) if loss == "info_nce" else p[:, 0]))

    report = check(candidate, loss)
    assert report.differences[0].what == f"in the place of each similarity s stands {said}"


def test_a_temperature_that_is_applied_twice_to_the_negatives() -> None:
    def candidate(query: Any, key: Any, temperature: Any, queue: Any) -> Any:
        q = unit(query)
        x = np.hstack((np.sum(q * unit(key), axis=1, keepdims=True), q @ queue.T / temperature)) / temperature
        return -np.mean(np.log(softmax(x)[:, 0]))

    assert check(candidate, "moco").differences[0].what == "the temperature is applied twice to the negatives"


def info_nce(query: Any, key: Any, temperature: Any) -> Any:
    return refcl.info_nce(query, key, temperature)[0]


def mse(query: Any, key: Any) -> Any:
    return np.mean(np.sum((unit(query) - unit(key)) ** 2, axis=1))


@pytest.mark.parametrize(
    ("term", "said"),
    [
        (
            lambda q, k: 0.02 * np.mean(np.sum(q * q, axis=1)),
            "0.02 times the mean squared length of its rows, of query",
        ),
        (lambda q, k: 0.1 * (np.mean(np.abs(q)) + np.mean(np.abs(k))), "0.1 times the mean of its absolute values, of"),
        (lambda q, k: 0.5 * mse(q, k), "0.5 times the mean squared distance of the pairs' rows, brought to length 1"),
        (
            lambda q, k: 0.3 * np.mean(np.maximum(1 - q.std(0, ddof=1), 0)),
            "0.3 times the hinge max(1 - standard deviation, 0) of its columns",
        ),
    ],
)
def test_a_term_beside_the_loss(term: Any, said: str) -> None:
    report = check(lambda query, key, temperature: info_nce(query, key, temperature) + term(query, key), "info_nce")
    assert report.differences[0].what.startswith(f"a further term is added to the loss: {said}")


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_rows_that_are_standardized_first(axis: int, ddof: int) -> None:
    def of(x: Any) -> Any:
        return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, ddof=ddof, keepdims=True) + 1e-5)

    report = check(lambda query, key, temperature: info_nce(of(query), of(key), temperature), "info_nce")
    assert ("batch norm" if axis == 0 else "layer norm") in report.differences[0].what


def test_negatives_that_are_averaged_are_no_margin() -> None:
    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        logits = unit(query) @ unit(key).T / temperature
        e = np.exp(logits - np.max(logits, axis=1, keepdims=True))
        p = np.diag(e)
        return np.mean(np.log(p + (np.sum(e, axis=1) - p) / (len(key) - 1)) - np.log(p))

    assert "the 3 negatives are averaged, not added" in check(candidate, "info_nce").differences[0].what


def test_a_positive_that_is_read_after_the_exponential() -> None:
    def candidate(query: Any, key: Any) -> Any:
        logits = unit(query) @ unit(key).T / 0.5
        np.exp(logits, out=logits)
        return np.mean(np.log(np.sum(logits, axis=1)) - np.diag(logits))

    report = check(candidate, "info_nce", temperature=0.5)
    assert report.differences[0].what.startswith("-exp(l_p) stands where the positive's -l_p belongs")
