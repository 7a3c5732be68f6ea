"""Every loss against golden data at 50 digits; ``golden/generate.py`` made them."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import EPS, Backend, flat
from mpmath import mp, mpf

import refcl
from refcl import Pair

GOLDEN = Path(__file__).parent / "golden"
CASES: list[dict[str, Any]] = json.loads((GOLDEN / "losses.json").read_text(encoding="utf-8"))
WITH_TEMPERATURE = {"softmax_contrastive", "hard_softmax_contrastive", "info_nce", "hard_info_nce", "nt_xent"}
SIGNED = {"simple_contrastive", "hard_simple_contrastive", "triplet", "simple_loss", "hard_simple_loss"}
ON_SIMILARITIES = {case["loss"] for case in CASES if len(case["inputs"]) == 1}


# The inputs are float64 numbers.
in_float64 = pytest.mark.parametrize("backend", ["numpy", "strict-device1", "cupy"], indirect=True)


def named(case: dict[str, Any]) -> str:
    return f"{case['loss']}-{case['number']}"


def numbers(nested: Any) -> Any:
    """Return strings as an array of float64."""
    return np.array(nested, dtype=object).astype(float)


def temperature_of(case: dict[str, Any]) -> float:
    """Return the scale on which similarities count as different: 1 where a loss has none."""
    if case["loss"] == "clip":
        return float(np.exp(-float(case["number"])))
    return (
        float(case["number"]) if "softmax" in case["loss"] or "nce" in case["loss"] or "xent" in case["loss"] else 1.0
    )


def relative_bound(case: dict[str, Any], eps: float) -> float:
    """Return what the design grants: 4 eps (1 + range/τ), and D eps/τ more on embeddings."""
    inputs, temperature = [numbers(x) for x in case["inputs"]], temperature_of(case)
    if len(inputs) == 1:
        return 4 * eps * (1 + float(np.max(np.ptp(inputs[0], axis=1))) / temperature)
    return 4 * eps * (1 + 2 / temperature) + float(inputs[0].shape[1]) * eps / temperature


def floor(case: dict[str, Any]) -> float:
    """Return the size of the terms of sums whose signs are mixed, which may cancel; 0 where nothing does."""
    bounded = case["loss"] in (
        "simple_contrastive",
        "hard_simple_contrastive",
        "triplet",
        "simple_loss",
        "hard_simple_loss",
    )
    if len(case["inputs"]) == 1:
        return float(np.max(np.sum(np.abs(numbers(case["inputs"][0])), axis=1))) if bounded else 0.0
    # Σ |∂L/∂s| is 2 σ/τ at most and σ at most the loss; a row passes it on over its length.
    pull = 2.0 if bounded else 2 * min(1.0, float(case["value"])) / temperature_of(case)
    shortest = min(float(np.min(np.linalg.norm(numbers(x), axis=1))) for x in case["inputs"])
    return pull / min(shortest, 1.0)


def run(case: dict[str, Any], backend: Backend) -> tuple[Any, list[Any], Any]:
    """Return value, gradients of the arrays, and the gradient of the number or None, on the host."""
    pair: Pair = getattr(refcl, case["loss"])
    inputs = [backend.array(numbers(x)) for x in case["inputs"]]
    number = [] if case["loss"] == "triplet" else [None if case["number"] is None else float(case["number"])]
    value, grads = pair(*inputs, *number, **case["settings"])
    on_host = [backend.host(x) for x in grads]
    return backend.host(value), on_host[: len(inputs)], on_host[-1] if case["number"] is not None else None


def error(got: Any, want: str) -> float:
    return float(abs(mpf(float(got)) - mpf(want)))


@in_float64
@pytest.mark.parametrize("case", CASES, ids=named)
def test_values_are_exact(case: dict[str, Any], backend: Backend) -> None:
    value, _, _ = run(case, backend)
    terms = floor(case) if case["loss"] in SIGNED else 0.0
    allowed = relative_bound(case, EPS["float64"]) * max(abs(float(case["value"])), terms)
    assert error(value, case["value"]) <= allowed


@in_float64
@pytest.mark.parametrize("case", [case for case in CASES if case["loss"] in ON_SIMILARITIES], ids=named)
def test_gradients_of_similarities_are_exact_entry_by_entry(case: dict[str, Any], backend: Backend) -> None:
    _, (ds,), dnumber = run(case, backend)
    bound = relative_bound(case, EPS["float64"])
    for got, want in zip(ds.ravel(), np.array(case["gradients"][0]).ravel(), strict=True):
        assert error(got, want) <= bound * abs(float(want)), (got, want)
    if dnumber is not None:
        terms = np.abs(numbers(case["gradients"][0])) * 2 / temperature_of(case)
        assert error(dnumber, case["dnumber"]) <= bound * max(
            abs(float(case["dnumber"])), float(terms.sum()), floor(case)
        )


@in_float64
@pytest.mark.parametrize("case", [case for case in CASES if case["loss"] not in ON_SIMILARITIES], ids=named)
def test_gradients_of_embeddings_are_exact_beside_their_terms(case: dict[str, Any], backend: Backend) -> None:
    _, grads, dnumber = run(case, backend)
    bound = 4 * relative_bound(case, EPS["float64"])
    for got, want in zip(grads, case["gradients"], strict=True):
        want = numbers(want)
        assert np.linalg.norm(got - want) <= bound * max(float(np.linalg.norm(want)), floor(case))
    if dnumber is not None:
        assert error(dnumber, case["dnumber"]) <= bound * (
            abs(float(case["dnumber"])) + floor(case) / temperature_of(case)
        )


def test_every_loss_has_golden_data_with_its_corners() -> None:
    golden = {case["loss"] for path in GOLDEN.glob("*.json") for case in json.loads(path.read_text(encoding="utf-8"))}
    assert golden == {name for name in refcl.__all__ if isinstance(getattr(refcl, name), Pair)}
    values = [abs(float(case["value"])) for case in CASES]
    assert min(values) < 1e-30, "a positive that dominates"
    temperatures = [temperature_of(case) for case in CASES]
    assert min(temperatures) <= 1e-3
    assert max(temperatures) >= 1e6


def test_golden_data_are_small_strings() -> None:
    assert (GOLDEN / "losses.json").stat().st_size < 150_000
    assert all(isinstance(case["value"], str) for case in CASES)
    assert all(type(x) is str for case in CASES for x in np.array(case["inputs"][0]).ravel().tolist())


@pytest.mark.parametrize("index", [0, 6])
def test_a_case_made_again_is_the_same(index: int) -> None:
    spec = importlib.util.spec_from_file_location("generate", GOLDEN / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    kept = CASES[index]
    kind, number = "plain", None if kept["number"] is None else float(kept["number"])
    assert generate.on_similarities(kept["loss"], kind, number, **kept["settings"]) == kept
    assert mp.dps == 50


def test_an_error_of_a_millionth_part_would_be_seen() -> None:
    case = CASES[0]
    assert relative_bound(case, EPS["float64"]) < 1e-12
    assert flat(numbers(case["gradients"][0])).all()
