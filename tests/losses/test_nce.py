"""Noise-contrastive estimation against a memory bank, and its normalizer."""

import math
from typing import Any

import numpy as np
import pytest
from backends import EPS, Backend, check_near
from cards import INDEX, MEMORY, NOISE, QUERY, Builder, Built, Card, Sizes, both, ignored, made, rows, scalar, unit
from digits import cosines, exact, logistic_value
from goldens import EXACT_AND_NOT, golden, with_bank
from loops import Matrix, reduce, similarities
from mpmath import mp, mpf
from peers import BANK, M, N, X, check_same, derived, of_torch, torch
from peers import INDEX as OWN
from peers import NOISE as DRAWS
from peers import unit as on_sphere

import refcl

RTOL = 64 * EPS["float64"]
DRAWN = {"bank": MEMORY, "index": INDEX, "noise": NOISE}


def drawn_similarities(query: Matrix, bank: Matrix, index: Any, noise: Any, normalize: bool) -> Matrix:
    """Return, for each query, its similarity to its own row of the bank and then to the rows drawn for it."""
    s = similarities(query, bank, normalize)
    return [[s_i[j] for j in (own, *drawn)] for s_i, own, drawn in zip(s, index, noise, strict=True)]


def nce(
    query: Matrix,
    temperature: float,
    *,
    bank: Matrix,
    index: Any,
    noise: Any,
    log_normalizer: float,
    stabilizer: float = 0.0,
    ignore: Any = None,
    reduction: str = "mean",
    normalize: bool = True,
) -> Any:
    rate = len(noise[0]) / len(bank)
    loss = []
    for i, s_i in enumerate(drawn_similarities(query, bank, index, noise, normalize)):
        own, *drawn = [math.exp(s / temperature) / math.exp(log_normalizer) for s in s_i]
        loss_i = -math.log(own / (own + rate + stabilizer))
        for k, p in enumerate(drawn):
            if ignore is None or not ignore[i][k]:
                loss_i -= math.log(rate / (p + rate + stabilizer))
        loss.append(loss_i)
    return reduce(loss, reduction=reduction)


def nce_log_normalizer(
    query: Matrix, temperature: float, *, bank: Matrix, index: Any, noise: Any, normalize: bool = True
) -> float:
    s = drawn_similarities(query, bank, index, noise, normalize)
    powers = [math.exp(value / temperature) for s_i in s for value in s_i]
    return math.log(len(bank) * sum(powers) / len(powers))


def against_noise(temperature: float, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        drawn = {"bank": rows(rng, z.m, z.d), "index": rng.integers(0, z.m, z.n)}
        drawn["noise"] = rng.integers(0, z.m, (z.n, z.m + 2))
        return (rows(rng, z.n, z.d), scalar(temperature)), {**drawn, **made(settings, rng, z.n, z.m + 2)}

    return build


def golden_rows() -> Any:
    for kind, tau, exact_s in EXACT_AND_NOT:
        query, bank, index = with_bank(kind, exact_s=exact_s)
        noise = np.array([[0, 1, 1, 3, 0], [3, 1, 2, 2, 3], [0, 3, 2, 0, 0]])  # no own row: terms of one sign
        log_z, stabilizer = 0.5 / tau, 1e-7 if kind == "plain" and exact_s else 0.0
        fixed, rate = exact(bank.tolist()), mpf(noise.shape[1]) / 4

        def value(query: Any, tau: Any, of: Any = (exact_s, fixed, index, noise, log_z, stabilizer, rate)) -> Any:
            exact_s, fixed, index, noise, log_z, extra, rate = of
            s = query if exact_s else cosines(query, fixed)
            s_pos = [row[i] for row, i in zip(s, index, strict=True)]
            s_neg = [[row[k] for k in drawn] for row, drawn in zip(s, noise, strict=True)]
            loss = logistic_value(s_pos, s_neg, 1 / tau, -mpf(log_z) - mp.log(rate + mpf(extra)))
            return loss + noise.shape[1] * mp.log1p(mpf(extra) / rate)

        settings = {"bank": bank, "index": index, "noise": noise, "log_normalizer": log_z, "stabilizer": stabilizer}
        yield golden("nce", [query, tau], value, exact_s=exact_s, **settings, normalize=not exact_s)


CARDS = [
    Card(
        refcl.nce,
        [
            ("plain", against_noise(0.3, log_normalizer=1.7)),
            ("stabilizer", against_noise(0.3, log_normalizer=1.7, stabilizer=0.05, ignore=ignored, reduction="sum")),
            ("each", against_noise(0.3, log_normalizer=1.7, reduction="none")),
            ("as-they-are", against_noise(0.3, log_normalizer=1.7, normalize=False)),
        ],
        nce,
        golden_rows,
    ),
    Card(
        refcl.nce_log_normalizer,
        [("plain", against_noise(0.3)), ("as-they-are", against_noise(0.3, normalize=False))],
        nce_log_normalizer,
    ),
]


def test_the_stabilizer_moves_the_threshold_and_adds_a_constant() -> None:
    """ε in the denominators is a greater K/M, but for the numerator of the noise."""
    rate, extra = 9 / 6, 0.25
    value, grads = refcl.nce(QUERY, 0.3, **DRAWN, log_normalizer=1.0, stabilizer=extra)
    moved, others = refcl.nce(QUERY, 0.3, **DRAWN, log_normalizer=1.0 + math.log((rate + extra) / rate))
    assert math.isclose(value, moved + 9 * math.log1p(extra / rate), rel_tol=1e-13)
    check_near(tuple(grads), tuple(others), rtol=RTOL)


def test_noise_that_hits_the_own_row_counts_unless_it_is_ignored() -> None:
    noise = np.tile(INDEX[:, None], (1, 2))
    settings = {"bank": MEMORY, "index": INDEX, "log_normalizer": 1.0, "reduction": "none"}
    kept, _ = refcl.nce(QUERY, 0.3, noise=noise, **settings)
    left_out, _ = refcl.nce(QUERY, 0.3, noise=noise, ignore=noise == INDEX[:, None], **settings)
    logit = np.sum(unit(QUERY) * unit(MEMORY)[INDEX], axis=1) / 0.3 - 1.0 - math.log(2 / 6)
    check_near(left_out, np.log1p(np.exp(-logit)), rtol=1e-14)
    check_near(kept, np.log1p(np.exp(-logit)) + 2 * np.log1p(np.exp(logit)), rtol=1e-14)


def test_at_a_small_temperature_its_normalizer_has_a_logarithm_only(backend: Backend) -> None:
    """Z = 6 e^1000 is no number of any precision."""
    one, six = backend.array(np.array([[1.0, 0.0]])), backend.array(np.tile([[1.0, 0.0]], (6, 1)))
    drawn = {"index": backend.array(np.array([0])), "noise": backend.array(np.array([[1, 2]]))}
    log_z = refcl.nce_log_normalizer(one, 1e-3, bank=six, **drawn)
    value, _ = refcl.nce(one, 1e-3, bank=six, **drawn, log_normalizer=log_z)
    # Each P is 1/6, and the rate 2/6: the own row is told from noise with probability 1/3.
    want = -math.log(1 / 3) - 2 * math.log(2 / 3)
    check_near(backend.host(value), np.array(want), rtol=2000 * EPS[backend.dtype])


def test_the_constants_of_the_normalizer_have_no_gradient_and_no_effect_on_its_kind() -> None:
    log_z = refcl.nce_log_normalizer(QUERY, 0.3, **DRAWN)
    as_array = both(refcl.nce(QUERY, 0.3, **DRAWN, log_normalizer=log_z))
    check_near(as_array, both(refcl.nce(QUERY, 0.3, **DRAWN, log_normalizer=float(log_z))), rtol=0.0)


@of_torch
@pytest.mark.parametrize("stabilizer", [0.0, 1e-7, 1e-2])
def test_nce_as_its_authors_compute_it(stabilizer: float) -> None:
    """Probabilities over a fixed Z, their ratios to the noise, logarithms of both, over the batch."""
    bank, z = on_sphere(torch.tensor(BANK)), 40.0
    columns = torch.tensor(np.concatenate([OWN[:, None], DRAWS], axis=1))

    def loss(query: Any, temperature: Any) -> Any:
        p = torch.exp(torch.einsum("nkd,nd->nk", bank[columns], on_sphere(query)) / temperature) / z
        noise = 11 / M
        own = torch.log(p[:, 0] / (p[:, 0] + noise + stabilizer))
        drawn = torch.log(noise / (p[:, 1:] + noise + stabilizer))
        return -(own.sum() + drawn.sum()) / N

    call = refcl.nce(X, 0.3, bank=BANK, index=OWN, noise=DRAWS, log_normalizer=np.log(z), stabilizer=stabilizer)
    check_same(call, derived(loss, X, 0.3))


@of_torch
def test_nce_s_normalizer_as_its_authors_estimate_it() -> None:
    """The mean of the exponentials of the first batch, times the size of the bank."""
    bank, query = on_sphere(torch.tensor(BANK)), on_sphere(torch.tensor(X))
    columns = torch.tensor(np.concatenate([OWN[:, None], DRAWS], axis=1))
    z = torch.exp(torch.einsum("nkd,nd->nk", bank[columns], query) / 0.3).mean() * M
    log_z = refcl.nce_log_normalizer(X, 0.3, bank=BANK, index=OWN, noise=DRAWS)
    check_near(log_z, np.log(float(z)), rtol=1e-12)
