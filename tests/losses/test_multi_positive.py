"""InfoNCE with several positives, of two sets of embeddings."""

from typing import Any

import numpy as np
import pytest
from backends import check_near, check_same_bits
from cards import Card, many_positives, on_embeddings, scalar, unit
from digits import check_exact, cosines, dominated, exact, lse, mean, mp, mpf, reversed_, row, span
from goldens import golden, query_and_key
from loops import of_embeddings
from peers import BANK, X, check_same, derived, of_torch, torch
from peers import unit as on_sphere
from test_sup_con import many_roles, supervised_contrastive

import refcl

POSITIVES = np.array([[k % 3 == i % 3 for k in range(len(BANK))] for i in range(len(X))])


def multi_positive(s: Any, temperature: float, *, form: str = "sum", **settings: Any) -> Any:
    return supervised_contrastive(s, temperature, form=form, **settings)


def loss_of(s_i: Any, near: list[int], tau: Any) -> Any:
    others = [k for k in range(len(s_i)) if k not in near]
    return mp.log1p(mp.exp(lse(s_i, others, tau) - lse(s_i, near, tau)))


def golden_rows() -> Any:
    friends = [[0, 2], [1]]
    positives = [[k in near for k in range(3)] for near in friends]
    for kind, tau in (("plain", 0.05), ("dominated", 0.05), ("antipodal", 20.0)):
        yield golden(
            "multi_positive",
            [*query_and_key(kind), tau],
            lambda q, k, t: mean([loss_of(s_i, near, t) for s_i, near in zip(cosines(q, k), friends, strict=True)]),
            exact_s=False,
            positives=positives,
        )


CARDS = [
    Card(
        refcl.multi_positive,
        [
            ("sum", on_embeddings(scalar(0.2), roles=many_positives)),
            ("each", on_embeddings(scalar(0.2), roles=many_roles, reduction="none")),
            (
                "out",
                on_embeddings(scalar(0.3), roles=many_roles, form="out", no_positive="skip", base_temperature=0.07),
            ),
            ("in", on_embeddings(scalar(0.7), roles=many_positives, form="in", normalize=False, reduction="sum")),
        ],
        of_embeddings(multi_positive),
        golden_rows,
    )
]


@pytest.mark.parametrize("temperature", [0.01, 0.3])
@pytest.mark.parametrize("kind", [dominated, reversed_], ids=lambda kind: kind.__name__)
def test_the_sum_inside_is_exact_and_pulls_as_the_mean_inside(kind: Any, temperature: float) -> None:
    s = row(kind)
    s[0, 1:3] = s[0, 0] - 0.0625
    settings: dict[str, Any] = {"positives": np.arange(13)[None, :] < 3}
    value, grads = refcl.supervised_contrastive(s, temperature, form="sum", **settings)
    want = loss_of(exact(s[0].tolist()), [0, 1, 2], mpf(temperature))
    check_exact(value, want, want, span(s[0]) / temperature, "value")
    check_same_bits(tuple(grads), tuple(refcl.supervised_contrastive(s, temperature, form="in", **settings)[1]))


def test_without_positives_there_is_no_loss_and_with_positives_alone_none_either() -> None:
    query, key = X[:2], BANK
    positives = np.array([[False] * len(BANK), [True] * len(BANK)])
    value, grads = refcl.multi_positive(query, key, 0.2, positives=positives, reduction="none")
    assert value.tolist() == [0.0, 0.0]
    assert not any(np.any(d) for d in grads)


def test_two_sets_that_are_one_are_those_of_sup_con() -> None:
    labels, itself = np.arange(len(X)) % 2, np.eye(len(X), dtype=bool)
    alike = (labels[:, None] == labels[None, :]) & ~itself
    for form in ("out", "in", "sum"):
        value, grads = refcl.sup_con(X, 0.2, labels=labels, form=form)
        other, others = refcl.multi_positive(X, X, 0.2, positives=alike, ignore=itself, form=form)
        check_near(other, value, rtol=1e-15)
        check_near(others.dquery + others.dkey, grads.dz, rtol=1e-13)
        check_near(others.dtemperature, grads.dtemperature, rtol=1e-13)


@of_torch
def test_mil_nce_as_its_authors_compute_it() -> None:
    """log Σ over positives less log Σ over all: here of a mask instead of their blocks of captions."""

    def theirs(query: Any, key: Any, tau: Any) -> Any:
        logits = on_sphere(query) @ on_sphere(key).T / tau
        nominator = torch.logsumexp(logits.masked_fill(~torch.tensor(POSITIVES), -torch.inf), dim=1)
        return torch.mean(torch.logsumexp(logits, dim=1) - nominator)

    check_same(refcl.multi_positive(X, BANK, 0.2, positives=POSITIVES), derived(theirs, X, BANK, 0.2))


@of_torch
def test_sup_con_of_two_towers() -> None:
    """As CLIP-ReID writes it: the mean over an anchor's positives of their log-probabilities."""

    def theirs(image: Any, text: Any) -> Any:
        mask = torch.tensor(POSITIVES, dtype=torch.float64)
        logits = image @ text.T
        logits = logits - logits.max(dim=1, keepdim=True)[0].detach()
        log_p = logits - torch.log(torch.exp(logits).sum(1, keepdim=True))
        return -((mask * log_p).sum(1) / mask.sum(1)).mean()

    a, b = unit(X), unit(BANK)
    value, grads = refcl.multi_positive(a, b, 1.0, positives=POSITIVES, form="out", normalize=False)
    check_same((value, grads[:2]), derived(theirs, a, b))
