"""Several positives inside one logarithm, with a mistake in it: what is measured of the sums above and below."""

from typing import Any

import numpy as np
import pytest

from refcl.oracle import check
from refcl.walk.sphere import l2_normalize


def log_sum(x: Any, where: Any) -> tuple[Any, Any]:
    """Return log Σ exp over some entries of each row, 0 where there are none, and their shares."""
    top = np.max(np.where(where, x, -np.inf), axis=1, keepdims=True, initial=-1e300)
    e = np.where(where, np.exp(np.minimum(x - top, 0.0)), 0.0)
    total = np.maximum(np.sum(e, axis=1, keepdims=True), 1e-300)
    there = np.any(where, axis=1)
    return np.where(there, top[:, 0] + np.log(total[:, 0]), 0.0), e / total


def supervised(mistake: str, form: str) -> Any:
    """Return a candidate for SupCon with the positives inside the logarithm."""

    def candidate(z: Any, temperature: Any, labels: Any) -> Any:
        unit, cache = l2_normalize.forward(z)
        s, n = unit @ unit.T, len(z)
        itself = np.eye(n, dtype=bool)
        positives = (labels[:, None] == labels) & ~itself
        count = np.sum(positives, axis=1)
        above, above_slope = s / temperature, 1 / temperature
        below, each = s / temperature, np.ones(n)
        if mistake == "margin":
            above = below = np.where(positives, s - 0.1, s) / temperature
        elif mistake == "others twice":
            below = np.where(positives, below, below + np.log(2.0))
        elif mistake == "as many as positives":
            each = count.astype(float)
        if mistake == "largest":
            positives &= s == np.max(np.where(positives, s, -np.inf), axis=1, keepdims=True)
        elif mistake == "first":
            positives &= np.cumsum(positives, axis=1) == 1
        elif mistake == "warm":
            above, above_slope = s / 0.5, 2.0
        numerator, of_positives = log_sum(above, positives)
        if mistake == "mean":
            of_positives = positives / np.maximum(count, 1)[:, None]
            numerator = np.sum(of_positives * above, axis=1)
        denominator, of_all = log_sum(below, ~itself)
        losses = (denominator - numerator + (np.log(np.maximum(count, 1)) if form == "in" else 0.0)) * each
        live = np.where(count > 0, each / n, 0.0)[:, None]
        ds = live * (of_all / temperature - of_positives * above_slope)
        return np.sum(losses * (count > 0)) / n, (l2_normalize.backward((ds + ds.T) @ unit, cache),)

    return candidate


@pytest.mark.parametrize("form", ["in", "sum"])
@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("", "correct"),
        ("margin", "a margin of 0.1 on the similarity"),
        ("others twice", "rows of z count twice in the denominator"),
        ("as many as positives", "as many as it has positives (P), whose losses are added"),
        ("largest", "only the one with the largest similarity counts"),
        ("first", "the targets differ"),
        ("warm", "the positives in the numerator have another temperature: 0.5, expected 0.2"),
        ("mean", "the mean of the positives' logits"),
    ],
)
def test_what_stands_in_the_sums_is_measured(form: str, mistake: str, said: str) -> None:
    report = check(supervised(mistake, form), "sup_con", form=form)
    assert report.judged, report.reason
    if form == "sum" and mistake == "mean":
        said = 'it is right for form="out"'
    assert any(said in words for words in (report.verdict, *(d.what for d in report.differences)))
    assert report.ok == (mistake == "")


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("warm", "the positives in the numerator have another temperature: 0.5"),
        ("others twice", "rows of z count twice"),
    ],
)
def test_a_sum_inside_where_the_mean_was_asked_hides_no_other_mistake(mistake: str, said: str) -> None:
    inside, other = check(supervised(mistake, "sum"), "sup_con").differences
    assert inside.what == "the positives of an anchor are added inside the logarithm, not averaged outside it"
    assert other.what.startswith(said)


def test_one_logit_for_all_positives_is_no_mean_of_their_losses() -> None:
    def candidate(s: Any, temperature: Any, positives: Any) -> Any:
        count = np.sum(positives, axis=1, keepdims=True)
        mean = np.sum(s * positives, axis=1, keepdims=True) / np.maximum(count, 1) / temperature
        logits = np.hstack((mean, s / temperature))
        denominator, _ = log_sum(logits, np.hstack((count > 0, ~positives)))
        return np.mean(np.where(count[:, 0] > 0, denominator - mean[:, 0], 0.0))

    report = check(candidate, "supervised_contrastive")
    assert report.differences[0].what.startswith(
        "one logit, the mean of those of an anchor's positives, stands for all"
    )
