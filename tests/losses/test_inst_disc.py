"""Instance discrimination against a memory bank."""

import math
from typing import Any

import numpy as np
import pytest
from backends import EPS, check_near
from cards import INDEX, MEMORY, QUERY, Builder, Built, Card, Sizes, both, ignored, made, rows, scalar, unit
from digits import cosines, everyone, exact, softmax_value
from goldens import EXACT_AND_NOT, golden, with_bank
from loops import of_embeddings, softmax_contrastive
from peers import BANK, F, X, check_same, derived, of_torch, torch
from peers import INDEX as OWN
from peers import unit as on_sphere

import refcl

RTOL = 64 * EPS["float64"]


def inst_disc(query: Any, temperature: float, *, bank: Any, index: list[int], **settings: Any) -> Any:
    return of_embeddings(softmax_contrastive)(query, bank, temperature, positive=index, **settings)


def against_bank(temperature: float, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        memory = {"bank": rows(rng, z.m, z.d), "index": rng.integers(0, z.m, z.n)}
        return (rows(rng, z.n, z.d), scalar(temperature)), {**memory, **made(settings, rng, z.n, z.m)}

    return build


def golden_rows() -> Any:
    for kind, tau, exact_s in EXACT_AND_NOT:
        query, bank, index = with_bank(kind, exact_s=exact_s)
        fixed, who = exact(bank.tolist()), everyone(3, 4, index.tolist())

        def value(query: Any, tau: Any, exact_s: bool = exact_s, fixed: Any = fixed, who: Any = who) -> Any:
            return softmax_value(query if exact_s else cosines(query, fixed), tau, who)

        yield golden("inst_disc", [query, tau], value, exact_s=exact_s, bank=bank, index=index, normalize=not exact_s)


CARDS = [
    Card(
        refcl.inst_disc,
        [
            ("plain", against_bank(0.2)),
            ("ignore", against_bank(0.2, ignore=ignored, reduction="sum")),
            ("each", against_bank(0.2, ignore=ignored, reduction="none")),
            ("as-they-are", against_bank(0.7, normalize=False)),
        ],
        inst_disc,
        golden_rows,
    )
]


def test_instance_discrimination_is_info_nce_without_the_gradient_of_the_bank() -> None:
    value, grads = refcl.inst_disc(QUERY, 0.2, bank=MEMORY, index=INDEX)
    same, others = refcl.info_nce(QUERY, MEMORY, 0.2, positive=INDEX)
    assert value == same
    check_near((grads.dquery, grads.dtemperature), (others.dquery, others.dtemperature), rtol=RTOL)


@pytest.mark.parametrize("length", [0.1, 7.0])
def test_a_memory_is_brought_to_the_sphere(length: float) -> None:
    check_near(
        both(refcl.inst_disc(QUERY, 0.2, bank=length * MEMORY, index=INDEX)),
        both(refcl.inst_disc(QUERY, 0.2, bank=unit(MEMORY), index=INDEX)),
        rtol=RTOL,
    )


def test_a_bank_that_is_not_on_the_sphere_is_taken_as_it_is_where_nothing_is_normalized() -> None:
    value, _ = refcl.inst_disc(unit(QUERY), 0.2, bank=MEMORY, index=INDEX, normalize=False)
    s = unit(QUERY) @ MEMORY.T / 0.2
    assert math.isclose(value, np.mean(np.log(np.exp(s).sum(axis=1)) - s[range(4), INDEX]), rel_tol=1e-13)


@of_torch
def test_instance_discrimination_is_a_cross_entropy_over_the_bank() -> None:
    bank = on_sphere(torch.tensor(BANK))

    def loss(query: Any, temperature: Any) -> Any:
        return F.cross_entropy(on_sphere(query) @ bank.T / temperature, torch.tensor(OWN))

    check_same(refcl.inst_disc(X, 0.2, bank=BANK, index=OWN), derived(loss, X, 0.2))
