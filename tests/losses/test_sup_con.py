"""Supervised contrastive losses: several positives an anchor."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
from backends import check_near, check_same_bits
from cards import Builder, Built, Card, S, Sizes, many_positives, on_similarities, rows, scalar
from digits import (
    check_all_exact,
    cosines,
    derivatives,
    every_corner,
    exact,
    lse,
    mean,
    row,
    softmax,
    span,
)
from goldens import OF_FAMILY, golden, independent_views, similarities
from loops import Mask, Matrix, reduce
from loops import similarities as similarities_of
from mpmath import mp, mpf
from peers import D, check_same, derived, of_torch, torch
from peers import unit as on_sphere

import refcl

TAU = 0.2
N, M = S.shape


def supervised_contrastive(
    s: Matrix,
    temperature: float,
    *,
    positives: Mask,
    ignore: Mask | None = None,
    form: str = "out",
    no_positive: str = "zero",
    base_temperature: float | None = None,
    reduction: str = "mean",
) -> Any:
    """Go over every positive of every anchor: its log-probability among all that is not ignored."""
    scale = 1.0 if base_temperature is None else temperature / base_temperature
    loss = []
    for i, s_i in enumerate(s):
        friends = [k for k in range(len(s_i)) if positives[i][k]]
        everyone = [k for k in range(len(s_i)) if positives[i][k] or not (ignore is not None and ignore[i][k])]
        if not friends:
            if no_positive == "zero" or reduction != "mean":
                loss.append(0.0)
            continue
        total = sum(math.exp(s_i[a] / temperature) for a in everyone)
        probabilities = [math.exp(s_i[p] / temperature) / total for p in friends]
        if form == "out":
            loss.append(-scale * sum(math.log(x) for x in probabilities) / len(friends))
        else:
            loss.append(-scale * math.log(sum(probabilities) / (len(friends) if form == "in" else 1)))
    return reduce(loss, reduction=reduction) if loss else 0.0


def sup_con(
    z: Matrix, temperature: float, *, labels: list[int], ignore: Any = None, normalize: bool = True, **settings: Any
) -> Any:
    n = len(z)
    return supervised_contrastive(
        similarities_of(z, z, normalize),
        temperature,
        positives=[[i != k and labels[i] == labels[k] for k in range(n)] for i in range(n)],
        ignore=[[i == k or (ignore is not None and ignore[i][k]) for k in range(n)] for i in range(n)],
        **settings,
    )


def many_roles(rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    ignore = rng.uniform(size=(n, m)) < 0.25
    ignore[:, -1] = False
    return {**many_positives(rng, n, m), "ignore": ignore}


def labelled(temperature: float, *, ignore: bool = False, **settings: Any) -> Builder:
    """Draw rows of three classes, and one row alone in its class."""

    def build(rng: np.random.Generator, z: Sizes) -> Built:
        labels = np.arange(z.m) % 3
        labels[-1] = 7
        mask = {"ignore": rng.uniform(size=(z.m, z.m)) < 0.25} if ignore else {}
        return (rows(rng, z.m, z.d), scalar(temperature)), {"labels": labels, **settings, **mask}

    return build


def supervised_loss(s_i: Any, near: list[int], others: list[int], tau: Any, form: str) -> Any:
    charge = mp.log1p(mp.exp(lse(s_i, others, tau) - lse(s_i, near, tau)))
    if form == "in":
        return mp.log(len(near)) + charge
    return lse(s_i, near, tau) - mean([s_i[p] for p in near]) / tau + charge


def supervised_value(s: Any, tau: Any, friends: Any, everyone: Any, form: str) -> Any:
    """Return the mean over all anchors; one without positives adds 0."""
    losses = []
    for s_i, near, every in zip(s, friends, everyone, strict=True):
        others = [k for k in every if k not in near]
        losses.append(supervised_loss(s_i, near, others, tau, form) if near else mpf(0))
    return mean(losses)


def golden_of_similarities() -> Any:
    friends = [[0, 1], [1], []]
    positives = [[k in near for k in range(5)] for near in friends]
    for kind, tau in OF_FAMILY:
        for form in ("out", "in"):
            yield golden(
                "supervised_contrastive",
                [similarities(kind, 3, 5), tau],
                lambda s, t, form=form: supervised_value(s, t, friends, [range(5)] * 3, form) * (t / mpf(0.07)),
                exact_s=True,
                positives=positives,
                form=form,
                base_temperature=0.07,
            )


def golden_of_embeddings() -> Any:
    labels = [0, 1, 0, 1, 1, 2]
    rest = [[k for k in range(6) if k != i] for i in range(6)]
    friends = [[k for k in rest[i] if labels[k] == labels[i]] for i in range(6)]
    for kind in ("plain", "dominated"):
        for tau in (0.05, 0.5, 20.0):
            z = np.concatenate(independent_views(kind))
            yield golden(
                "sup_con",
                [z, tau],
                lambda x, t: supervised_value(cosines(x, x), t, friends, rest, "out"),
                exact_s=False,
                labels=labels,
            )


def with_positives(temperature: float, **settings: Any) -> Builder:
    return on_similarities(scalar(temperature), **settings)


CARDS = [
    Card(
        refcl.supervised_contrastive,
        [
            *((form, with_positives(0.2, positives=many_positives, form=form)) for form in ("out", "in", "sum")),
            *(
                (
                    f"{form}-roles",
                    with_positives(0.2, positives=many_roles, form=form, reduction="sum", base_temperature=0.07),
                )
                for form in ("out", "in")
            ),
            ("each", with_positives(0.3, positives=many_roles, reduction="none")),
            ("skip", with_positives(0.2, positives=many_positives, no_positive="skip", base_temperature=0.1)),
            ("cold", with_positives(0.03, positives=many_positives)),
        ],
        supervised_contrastive,
        golden_of_similarities,
    ),
    Card(
        refcl.sup_con,
        [
            *((form, labelled(0.2, form=form)) for form in ("out", "in", "sum")),
            ("conventions", labelled(0.2, base_temperature=0.07, no_positive="skip", normalize=False)),
            ("ignore", labelled(0.2, ignore=True, reduction="none")),
        ],
        sup_con,
        golden_of_embeddings,
    ),
]


@pytest.mark.parametrize("form", ["out", "in"])
@every_corner
def test_it_is_exact(kind: Any, temperature: float, form: str) -> None:
    friends, others = [0, 1, 2], list(range(3, 13))
    s = row(kind)
    s[0, 1:3] = s[0, 0] + np.array([-0.013, 0.004]) * (temperature if kind.__name__ == "collapsed" else 1.0)
    positives = np.arange(13)[None, :] < 3
    got = refcl.supervised_contrastive(s, temperature, positives=positives, form=form)
    (s_i,), tau = exact(s.tolist()), mpf(temperature)
    truth = derivatives(lambda at, t: supervised_loss(at, friends, others, t, form), s_i, temperature)
    q, r = softmax(s_i, friends, tau), softmax(s_i, others, tau)
    power = mp.exp(lse(s_i, others, tau) - lse(s_i, friends, tau))
    sigma, top = power / (1 + power), max(s_i[p] for p in friends)
    less = {p: 1 - mp.exp((s_i[p] - top) / tau) for p in friends}
    total = mp.fsum(mp.exp((s_i[p] - top) / tau) for p in friends)
    uneven = {p: (less[p] + mean(list(less.values()))) / total if form == "out" else mpf(0) for p in friends}
    pulls = [(sigma * q[k] + uneven[k]) / tau if k in q else sigma * r[k] / tau for k in range(13)]
    by_tau = mp.fsum(pull * abs(x - top) for pull, x in zip(pulls, s_i, strict=True)) / tau
    check_all_exact((got[0], *got[1]), truth, (None, pulls, by_tau), span(s_i) / temperature)


def test_sup_con_of_a_batch_of_one() -> None:
    for policy in ("zero", "skip"):
        value, grads = refcl.sup_con(np.array([[1.0, 2.0]]), 0.3, labels=np.array([4]), no_positive=policy)
        assert value == 0.0
        assert not any(np.any(x) for x in grads)


def test_an_anchor_with_positives_only_evens_them_out_or_does_nothing() -> None:
    s, every = np.array([[0.2, 0.5]]), np.ones((1, 2), dtype=bool)
    inside, flat = refcl.supervised_contrastive(s, TAU, positives=every, form="in")
    assert inside == np.log(2.0)
    assert not flat.ds.any()
    outside, grads = refcl.supervised_contrastive(s, TAU, positives=every)
    assert outside > inside
    assert grads.ds[0, 0] < 0 < grads.ds[0, 1]


def test_who_has_no_positive_is_left_out_or_counted_as_asked() -> None:
    s = S
    positives = np.zeros((N, M), dtype=bool)
    positives[0, :2] = positives[2, 3] = True
    each, _ = refcl.supervised_contrastive(s, TAU, positives=positives, reduction="none")
    zero, by_zero = refcl.supervised_contrastive(s, TAU, positives=positives)
    skip, by_skip = refcl.supervised_contrastive(s, TAU, positives=positives, no_positive="skip")
    assert each[1] == each[3] == 0.0
    check_near(zero, each.sum() / N, rtol=1e-15)
    check_near(skip, each.sum() / 2, rtol=1e-15)
    check_near(by_skip, tuple(2 * x for x in by_zero), rtol=1e-15)
    for reduction in ("sum", "none"):
        check_same_bits(
            refcl.supervised_contrastive(s, TAU, positives=positives, reduction=reduction)[0],
            refcl.supervised_contrastive(s, TAU, positives=positives, reduction=reduction, no_positive="skip")[0],
        )


def test_a_positive_wins_over_ignore() -> None:
    s = S
    positives = np.zeros((N, M), dtype=bool)
    positives[:, :2] = True
    first = refcl.supervised_contrastive(s, TAU, positives=positives, ignore=positives)
    check_same_bits(tuple(first[1]), tuple(refcl.supervised_contrastive(s, TAU, positives=positives)[1]))


def test_a_base_temperature_scales_value_and_gradient() -> None:
    rng = np.random.default_rng(3)
    z, labels = rows(rng, 9, 4), np.arange(9) % 3
    plain, grads = refcl.sup_con(z, 0.2, labels=labels)
    scaled, others = refcl.sup_con(z, 0.2, labels=labels, base_temperature=0.07)
    factor = 0.2 / 0.07
    check_near(scaled, factor * plain, rtol=1e-15)
    check_near(others.dz, factor * grads.dz, rtol=1e-14)
    check_near(others.dtemperature, factor * grads.dtemperature + plain / 0.07, rtol=1e-14)


# Peers.

Z, LABELS = rows(np.random.default_rng(17), 11, D), np.array([0, 1, 2, 0, 1, 2, 0, 0, 3, 1, 2])


def class_log_probabilities(z: Any, tau: Any) -> tuple[Any, Any]:
    """Return log-probabilities among all others, and which of them are positives."""
    itself = torch.eye(z.shape[0], dtype=torch.bool)
    logits = (on_sphere(z) @ on_sphere(z).T / tau).masked_fill(itself, -math.inf)
    labels = torch.tensor(LABELS)
    alike = (labels[:, None] == labels[None, :]) & ~itself
    return torch.log_softmax(logits, dim=1).masked_fill(itself, 0.0), alike


@of_torch
def test_sup_con_as_its_authors_compute_it() -> None:
    """ "Out", the mean over anchors, nobody without a positive divided by 0 but by 1, times τ/.07."""

    def loss(z: Any, tau: Any) -> Any:
        log_p, alike = class_log_probabilities(z, tau)
        return -(tau / 0.07) * ((log_p * alike).sum(1) / alike.sum(1).clamp(min=1)).mean()

    check_same(refcl.sup_con(Z, 0.2, labels=LABELS, base_temperature=0.07), derived(loss, Z, 0.2))


@of_torch
def test_sup_con_with_the_mean_inside_the_logarithm() -> None:
    def loss(z: Any, tau: Any) -> Any:
        log_p, alike = class_log_probabilities(z, tau)
        kept = alike.any(1)
        inside = (log_p.exp() * alike).sum(1)[kept] / alike.sum(1)[kept]
        return -inside.log().mean()

    check_same(refcl.sup_con(Z, 0.3, labels=LABELS, form="in", no_positive="skip"), derived(loss, Z, 0.3))


@of_torch
def test_sup_con_of_pytorch_metric_learning() -> None:
    """It leaves rows without positives out of its mean, as every loss that is 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peers = pytest.importorskip("pytorch_metric_learning.losses", reason="pytorch-metric-learning is not installed")
    theirs = peers.SupConLoss(temperature=0.2)
    value, (dz,) = derived(lambda z: theirs(z, torch.tensor(LABELS)), Z)
    ours, grads = refcl.sup_con(Z, 0.2, labels=LABELS, no_positive="skip")
    check_near(ours, value, rtol=1e-12)
    check_near(grads.dz, dz, rtol=1e-12)
