"""Every loss against golden data at 50 digits; ``golden/generate.py`` made them from the cards."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import EPS, Backend, flat, map_leaves
from cases import CARDS, in_turn
from mpmath import mp, mpf

import refcl
from refcl import Pair

FILES = sorted((Path(__file__).parent / "golden").glob("*.json"))
CASES: list[dict[str, Any]] = [case for path in FILES for case in json.loads(path.read_text(encoding="utf-8"))]
OF_SIMILARITIES = [case for case in CASES if case["exact"]]

# What a loss stretches similarities by is 1/τ, but for these.
BY_EXPONENTIAL = {"clip", "sig_lip"}
UNSTRETCHED = {"simple_contrastive", "hard_simple_contrastive", "simple_loss", "hard_simple_loss"}
UNSTRETCHED |= {"triplet", "semi_hard_triplet", "triplet_margin", "pair_contrastive", "cpc"}
FINDS_ITS_OWN = {"fixed_entropy_contrastive", "fixed_entropy", "align_uniform"}
# Sums of both signs, which may be zero: held to their terms.
SIMPLE = {"simple_contrastive", "hard_simple_contrastive", "simple_loss", "hard_simple_loss", "triplet"}
DECOUPLED = {"decoupled_contrastive", "weighted_decoupled_contrastive", "dcl", "dclw", "align_uniform"}
# Products of exponentials, of weights and floors: twice the rounding.
WEIGHED = DECOUPLED | FINDS_ITS_OWN | {"reweighted_contrastive", "debiased", "hcl", "model_aware_contrastive", "macl"}
WEIGHED |= {"supervised_contrastive", "sup_con", "per_anchor_contrastive"}
SLOPE_IS_ONE = DECOUPLED | {"macl", "model_aware_contrastive"} | SIMPLE


def by_loss(cases: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {loss: [c for c in cases if c["loss"] == loss] for loss in dict.fromkeys(c["loss"] for c in cases)}


# The inputs are float64 numbers.
in_float64 = pytest.mark.parametrize("backend", ["numpy", "strict-device1", "cupy"], indirect=True)
every_case = in_turn("case", by_loss(CASES))


def numbers(nested: Any) -> Any:
    """Return strings as an array of float64."""
    return np.array(nested, dtype=object).astype(float)


def arrays_of(case: dict[str, Any]) -> list[Any]:
    return [numbers(x) for x in case["inputs"] if numbers(x).ndim >= 2]


def stretch(case: dict[str, Any]) -> float:
    """Return by how much a similarity is stretched: 1/τ, e^θ, or 1; 10 where the loss finds its own."""
    if case["loss"] in UNSTRETCHED | FINDS_ITS_OWN:
        return 10.0 if case["loss"] in FINDS_ITS_OWN else 1.0
    number = next(numbers(x).min() for x in case["inputs"] if numbers(x).ndim < 2)
    return float(np.exp(number) if case["loss"] in BY_EXPONENTIAL else 1 / number)


def largest(case: dict[str, Any]) -> float:
    """Return the size of a product of the norms of the inputs, on which scores and their gradients depend."""
    return float(np.prod([np.max(np.linalg.norm(x, axis=-1)) for x in arrays_of(case)]))


def bound(case: dict[str, Any]) -> float:
    """Return what the design grants: 4 eps (1 + range/τ), and D eps/τ more for similarities that must be computed.

    Where a pair stands by itself the range is the size of its logit's terms.
    """
    eps, scale, first = EPS["float64"], stretch(case), arrays_of(case)[0]
    rounding = 0.0 if case["exact"] else first.shape[-1] * scale
    if case["loss"] in ("nce", "sig_lip"):
        bias = float(case["inputs"][-1]) if case["loss"] == "sig_lip" else case["settings"]["log_normalizer"]
        reach = scale + abs(bias) + (1.0 if case["loss"] == "nce" else 0.0)
    elif case["exact"]:
        reach = float(np.max(np.ptp(first, axis=1))) * scale
    else:
        size = largest(case) if case["loss"] == "cpc" else 1.0
        reach, rounding = (size if case["loss"] == "cpc" else 2.0) * scale, rounding * size
    return eps * (4 * (1 + reach) + rounding) * (2 if case["loss"] in WEIGHED else 1)


def value_terms(case: dict[str, Any]) -> float:
    """Return the size of the terms of a value whose signs are mixed; 0 where nothing cancels."""
    if case["loss"] in SIMPLE:
        return float(np.max(np.sum(np.abs(arrays_of(case)[0]), axis=1))) if case["exact"] else 2 / shortest(case)
    if case["loss"] in DECOUPLED:
        return stretch(case) + 2
    return {"semi_hard_triplet": 2.0, "pair_contrastive": 16.0, "triplet_margin": 16.0}.get(case["loss"], 0.0)


def gradient_terms(case: dict[str, Any]) -> float:
    """Return the size of the terms of a gradient by embeddings: Σ |∂L/∂s|, passed on over a row's length."""
    if case["loss"] in ("cpc", "pair_contrastive", "triplet_margin"):
        return largest(case)
    most = 4.0 if case["loss"] == "cmc" else 1.0  # directions
    slope = most if case["loss"] in SLOPE_IS_ONE else min(most, abs(float(case["value"])))
    return 2 * slope * stretch(case) / shortest(case)


def shortest(case: dict[str, Any]) -> float:
    return min(1.0, *(float(np.min(np.linalg.norm(x, axis=-1))) for x in arrays_of(case)))


def run(case: dict[str, Any], backend: Backend) -> tuple[Any, list[Any]]:
    """Return value and gradients on the host; those of views in one array."""
    inputs = [float(x) if isinstance(x, str) else numbers(x) for x in case["inputs"]]
    if case["loss"] == "cmc":
        inputs[0] = tuple(inputs[0])
    settings = {k: backend.array(np.array(v)) if isinstance(v, list) else v for k, v in case["settings"].items()}
    value, grads = getattr(refcl, case["loss"])(*backend.arrays(tuple(inputs)), **settings)
    hosts = map_leaves(backend.host, tuple(grads))
    return backend.host(value), [np.stack(d) if isinstance(d, tuple) else d for d in hosts]


def error(got: Any, want: str) -> float:
    return float(abs(mpf(float(got)) - mpf(want)))


@in_float64
@every_case
def test_values_are_exact_and_gradients_beside_their_terms(case: dict[str, Any], backend: Backend) -> None:
    value, grads = run(case, backend)
    assert error(value, case["value"]) <= bound(case) * max(abs(float(case["value"])), value_terms(case))

    for got, want in zip(grads, case["gradients"], strict=False):  # a weight that was left out has one too
        want = numbers(want)
        terms = gradient_terms(case) * (1.0 if want.ndim >= 2 else stretch(case))
        assert np.linalg.norm(got - want) <= 4 * bound(case) * max(float(np.linalg.norm(want)), terms)


ENTRY_BY_ENTRY = [case for case in OF_SIMILARITIES if case["loss"] not in WEIGHED]


@in_float64
@in_turn("case", by_loss(ENTRY_BY_ENTRY))
def test_gradients_of_similarities_are_exact_entry_by_entry(case: dict[str, Any], backend: Backend) -> None:
    """And that of a number beside the sum over pairs of ds times the similarity's distance from the positive's."""
    _, (ds, *others) = run(case, backend)
    for got, want in zip(ds.ravel(), np.array(case["gradients"][0]).ravel(), strict=True):
        if abs(mpf(want)) > np.finfo(np.float64).tiny:
            assert error(got, want) <= bound(case) * abs(float(want)), (got, want)
    s, size, scale = arrays_of(case)[0], np.abs(numbers(case["gradients"][0])), stretch(case)
    apart = case["loss"] in ("nce", "sig_lip", *UNSTRETCHED)
    stretched = float(np.sum(size * (np.abs(s) if apart else np.ptp(s, axis=1)[:, None])))
    terms = [stretched, float(np.sum(size)) / scale] if case["loss"] == "sig_lip" else [scale * stretched]
    given = [(got, want) for got, want in zip(others, case["gradients"][1:], strict=False) if isinstance(want, str)]
    for (got, want), most in zip(given, terms, strict=False):
        most += value_terms(case) if case["loss"] in SIMPLE else 0.0
        assert error(got, want) <= bound(case) * max(most, abs(float(want))), (got, want)


def test_every_loss_has_golden_data_with_its_corners() -> None:
    public = {name for name in refcl.__all__ if isinstance(getattr(refcl, name), Pair)}
    assert {case["loss"] for case in CASES} == public
    assert {path.stem for path in FILES} == {name for name, card in CARDS.items() if card.golden}
    for name in ("softmax_contrastive", "inst_disc", "moco", "per_anchor_contrastive"):
        least = min(abs(float(case["value"])) for case in CASES if case["loss"] == name)
        assert least < 1e-30, "a positive that dominates"
    assert max(stretch(case) for case in CASES) >= 1000
    assert min(stretch(case) for case in CASES) <= 1e-6


def test_golden_data_are_small_strings() -> None:
    assert sum(path.stat().st_size for path in FILES) < 450_000
    assert all(isinstance(case["value"], str) for case in CASES)
    assert all(type(x) is str for case in CASES for x in np.array(case["inputs"][0], dtype=object).ravel().tolist())


SLOW = {"fixed_entropy_contrastive", "fixed_entropy"}


@pytest.mark.parametrize("name", [path.stem for path in FILES if path.stem not in SLOW])
def test_the_first_case_made_again_is_the_same(name: str) -> None:
    made = CARDS[name].golden
    assert made is not None
    assert json.loads(json.dumps(next(made()))) == next(case for case in CASES if case["loss"] == name)
    assert mp.dps == 50


@pytest.mark.parametrize("name", sorted({case["loss"] for case in CASES}))
def test_an_error_of_a_billionth_part_would_be_seen(name: str) -> None:
    case = next(case for case in CASES if case["loss"] == name)
    assert bound(case) < 1e-11
    assert float(np.linalg.norm(flat(numbers(case["gradients"][0])))) * 1e3 > gradient_terms(case)
