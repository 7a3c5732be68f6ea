"""SigLIP: every pair by itself."""

import math
from typing import Any

import numpy as np
from backends import EPS, check_near
from cards import KEY, MEMORY, QUERY, Card, on_embeddings, scalar, unit, variants
from digits import cosines, logistic_value
from goldens import EXACT_AND_NOT, embeddings, golden, similarities
from loops import Matrix, of_embeddings, reduce, roles
from mpmath import mp
from peers import F, N, X, Y, check_same, derived, of_torch, torch
from peers import unit as on_sphere

import refcl

RTOL = 64 * EPS["float64"]


def pairwise(s: Matrix, log_scale: float, bias: float, *, reduction: str = "mean", **who: Any) -> Any:
    loss = []
    for s_i, (p, others) in zip(s, roles(s, **who), strict=True):
        logits = [(1, s_i[p]), *((-1, s_i[k]) for k in others)]
        loss.append(sum(math.log(1 + math.exp(-sign * (math.exp(log_scale) * v + bias))) for sign, v in logits))
    return reduce(loss, reduction=reduction)


def golden_rows() -> Any:
    for kind, tau, exact_s in EXACT_AND_NOT:
        scale, bias = (-float(np.log(tau)), -0.5 / tau) if exact_s else (2.3, -10.0)
        image, text = (similarities(kind), np.eye(4)) if exact_s else (embeddings(kind, 3), embeddings("plain", 4))
        if kind == "dominated" and not exact_s:
            text[:3] = 0.5 * image

        def value(image: Matrix, text: Matrix, log_scale: Any, bias: Any, exact_s: bool = exact_s) -> Any:
            s = [[mp.fdot(x, y) for y in text] for x in image] if exact_s else cosines(image, text)
            s_pos, s_neg = [row[i] for i, row in enumerate(s)], [[*row[:i], *row[i + 1 :]] for i, row in enumerate(s)]
            return logistic_value(s_pos, s_neg, mp.exp(log_scale), bias)

        yield golden("sig_lip", [image, text, scale, bias], value, exact_s=exact_s, normalize=not exact_s)


CARDS = [
    Card(
        refcl.sig_lip,
        [
            *variants(on_embeddings, scalar(1.5), scalar(-2.5)),
            ("as-they-are", on_embeddings(scalar(0.5), scalar(0.7), normalize=False)),
        ],
        of_embeddings(pairwise),
        golden_rows,
    )
]


def test_image_and_text_may_change_places() -> None:
    value, grads = refcl.sig_lip(QUERY, KEY, 1.5, -2.5)
    same, others = refcl.sig_lip(KEY, QUERY, 1.5, -2.5)
    check_near(
        (value, grads.dimage, grads.dtext, grads.dlog_scale, grads.dbias),
        (same, others.dtext, others.dimage, others.dlog_scale, others.dbias),
        rtol=RTOL,
    )


def test_a_pair_does_not_see_the_others() -> None:
    """Another text changes the loss of each image by its own pair's, and no pair's gradient."""
    few, few_grads = refcl.sig_lip(QUERY, KEY, 1.5, -2.5, reduction="sum")
    more, more_grads = refcl.sig_lip(QUERY, np.vstack([KEY, MEMORY[:1]]), 1.5, -2.5, reduction="sum")
    logits = math.exp(1.5) * (unit(QUERY) @ unit(MEMORY[0])) - 2.5
    assert math.isclose(more - few, np.log1p(np.exp(logits)).sum(), rel_tol=1e-13)
    check_near(more_grads.dtext[:4], few_grads.dtext, rtol=RTOL)


def test_the_two_that_pool_nothing_are_one() -> None:
    """NCE is SigLIP with a bias that is known: −log Z − log(K/M)."""
    query, bank = QUERY[:1], MEMORY
    noise = np.array([[1, 2, 3, 4, 5]])
    nce, nce_grads = refcl.nce(query, 0.3, bank=bank, index=np.array([0]), noise=noise, log_normalizer=1.2)
    bias = -1.2 - math.log(5 / 6)
    sig_lip, grads = refcl.sig_lip(query, bank, -math.log(0.3), bias)
    check_near((nce, nce_grads.dquery), (sig_lip, grads.dimage), rtol=1e-13)
    assert math.isclose(nce_grads.dtemperature, -grads.dlog_scale / 0.3, rel_tol=1e-12)


def test_pairs_that_are_settled_keep_their_digits() -> None:
    """A logit of ±100: log σ of it rounds to nothing where it is computed from a probability."""
    a = np.eye(2)
    value, grads = refcl.sig_lip(a, a, math.log(200.0), -100.0)
    assert math.isclose(value, 2 * math.exp(-100), rel_tol=1e-12)
    assert math.isclose(grads.dbias, 0.0, abs_tol=1e-50)


def test_it_starts_near_what_guessing_costs() -> None:
    """At b = −10 and scale 10 negatives cost next to nothing and a positive 10 − 10 s."""
    value, _ = refcl.sig_lip(np.eye(8), np.eye(8)[::-1], math.log(10.0), -10.0, ignore=~np.eye(8, dtype=bool))
    assert math.isclose(value, 10.0, rel_tol=1e-4)


@of_torch
def test_sig_lip_is_a_logistic_loss_of_labels_1_and_minus_1() -> None:
    labels = 2 * torch.eye(N, dtype=torch.float64) - 1

    def loss(image: Any, text: Any, log_scale: Any, bias: Any) -> Any:
        logits = on_sphere(image) @ on_sphere(text).T * torch.exp(log_scale) + bias
        return -F.logsigmoid(labels * logits).sum() / N

    check_same(refcl.sig_lip(X, Y, 1.5, -2.5), derived(loss, X, Y, 1.5, -2.5))
