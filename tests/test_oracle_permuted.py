"""Any order of the rows is named: a swap of two, of every pair, one drawn for each batch size; a wrong guess is not."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import refcl.losses
from refcl.oracle import check


def drawn(n: int) -> Any:
    return np.random.default_rng(n + 100).permutation(n)


def two_swapped(n: int) -> Any:
    return np.r_[1, 0, 2:n]


def pairs_swapped(n: int) -> Any:
    even = n // 2 * 2
    return np.r_[np.arange(even) ^ 1, even:n]


NEEDS: dict[str, dict[str, Any]] = {"hcl": {"tau_plus": 0.1, "beta": 1.0}, "hard_info_nce": {"hardest": 0.5}}


def shuffled(name: str, order: Callable[[int], Any], *, grads: bool, **settings: Any) -> Callable[..., Any]:
    """Return a loss whose second input comes in another order, with its gradient or without."""
    pair = getattr(refcl.losses, name)
    bias = (-10.0,) if name == "sig_lip" else ()

    def candidate(a: Any, b: Any, scalar: Any, upstream: Any = None) -> Any:
        at = order(len(b))
        value, (da, moved, *_) = pair(a, b[at], scalar, *bias, upstream=upstream, **settings)
        db = np.zeros_like(b)
        db[at] = moved
        return (value, (da, db)) if grads else value

    return candidate


LOSSES = ("nt_xent", "info_nce", "clip", "dcl", "hcl", "sig_lip", "simple_loss", "hard_info_nce")
EVERY = list(product(LOSSES, (drawn, two_swapped, pairs_swapped), (True, False)))
# All orders of one loss, and of each other a drawn one that its gradient tells and a swap that values tell.
QUICK = [one for one in EVERY if one[0] == "nt_xent" or one[1:] in ((drawn, True), (two_swapped, False))]


@pytest.mark.parametrize(
    ("name", "order", "grads"), [pytest.param(*one, marks=[] if one in QUICK else [pytest.mark.slow]) for one in EVERY]
)
def test_an_order_is_named(name: str, order: Callable[[int], Any], grads: bool) -> None:
    settings = NEEDS.get(name, {})
    report = check(shuffled(name, order, grads=grads, **settings), name, passes_scalar=True, **settings)
    assert report.verdict == "positives-permuted", str(report)


def test_the_order_is_reported() -> None:
    report = check(shuffled("nt_xent", two_swapped, grads=True), "nt_xent", passes_scalar=True)
    assert report.findings[0].detail == 'on probe "ordinary" the positives of rows are 0 → 1, 1 → 0'


def test_without_a_reduction_each_row_tells() -> None:
    candidate = shuffled("info_nce", drawn, grads=True, reduction="none")
    assert check(candidate, "info_nce", passes_scalar=True, reduction="none").verdict == "positives-permuted"


def test_in_a_large_batch_the_rows_of_the_gradient_are_assigned() -> None:
    candidate = shuffled("nt_xent", drawn, grads=True)
    assert check(candidate, "nt_xent", passes_scalar=True, shape=(20, 7)).verdict == "positives-permuted"


@pytest.mark.parametrize("grads", [True, False])
def test_columns_of_similarities(grads: bool) -> None:
    def candidate(s: Any, temperature: Any) -> Any:
        loss, found = refcl.softmax_contrastive(s, temperature, positive=two_swapped(len(s)))
        return (loss, (found.ds, found.dtemperature)) if grads else loss

    assert check(candidate, "softmax_contrastive").verdict == "positives-permuted"


def test_each_direction_by_the_same_order() -> None:
    """Positives are looked up by an order that is not its own inverse, from both sides."""

    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        at = drawn(len(a))
        z = np.concatenate([a, b])
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        logits = z @ z.T / temperature
        np.fill_diagonal(logits, -np.inf)
        top = logits.max(axis=1)
        positive = logits[np.arange(len(z)), np.r_[len(a) + at, at]]
        return np.mean(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - positive)

    assert check(candidate, "nt_xent").verdict == "positives-permuted"


def test_what_is_no_order_stays_unknown() -> None:
    """Two anchors that share a positive, and an order that the gradient does not follow."""

    def shared(s: Any, temperature: Any) -> Any:
        return refcl.softmax_contrastive(s, temperature, positive=np.r_[1, 1, 2 : len(s)])[0]

    report = check(shared, "softmax_contrastive")
    assert "anchor 0's positive is column 1, expected column 0" in report.differences[0].what
    wrong = shuffled("nt_xent", drawn, grads=True)

    def torn(a: Any, b: Any, temperature: Any) -> Any:
        value, _ = wrong(a, b, temperature)
        return value, refcl.nt_xent(a, b, temperature)[1][:2]

    assert check(torn, "nt_xent").verdict == "differs"
