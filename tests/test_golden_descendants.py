"""The losses that grew from the softmax loss against golden data at 50 digits; ``golden/generate_descendants.py``."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import EPS, Backend, flat

import refcl
from refcl import Pair

GOLDEN = Path(__file__).parent / "golden"
CASES: list[dict[str, Any]] = json.loads((GOLDEN / "descendants.json").read_text(encoding="utf-8"))
# Sums of mixed signs, held to their terms: 1/τ is what a positive adds to the value.
SIGNED = {"decoupled_contrastive", "weighted_decoupled_contrastive", "dcl", "dclw", "align_uniform"}


def named(case: dict[str, Any]) -> str:
    return f"{case['loss']}-{temperature_of(case)}"


def numbers(nested: Any) -> Any:
    """Return strings as an array of float64."""
    return np.array(nested, dtype=object).astype(float)


def temperature_of(case: dict[str, Any]) -> float:
    """Return the scale on which similarities count as different: .1 where the loss finds its own."""
    last = numbers(case["inputs"][-1])
    return float(last.min()) if last.ndim < 2 else 0.1


def bound(case: dict[str, Any]) -> float:
    """Return what the design grants: 4 eps (1 + range/τ), D eps/τ on embeddings; twice that for weights and floors."""
    dimensions = 0 if "contrastive" in case["loss"] else numbers(case["inputs"][0]).shape[1]
    return 2 * EPS["float64"] * (4 * (1 + 2 / temperature_of(case)) + dimensions / temperature_of(case))


@pytest.mark.parametrize("backend", ["numpy", "strict-device1", "cupy"], indirect=True)
@pytest.mark.parametrize("case", CASES, ids=named)
def test_values_and_gradients_are_exact(case: dict[str, Any], backend: Backend) -> None:
    pair: Pair = getattr(refcl, case["loss"])
    inputs = [backend.array(numbers(x)) for x in case["inputs"]]
    settings = {
        name: backend.array(np.array(value)) if isinstance(value, list) else value
        for name, value in case["settings"].items()
    }
    value, grads = pair(*inputs, **settings)
    want = float(case["value"])
    terms = 1 / temperature_of(case) + 2 if case["loss"] in SIGNED else 0.0
    assert abs(float(backend.host(value)) - want) <= bound(case) * (abs(want) + terms)
    for got, expected in zip(grads, case["gradients"], strict=True):
        expected = numbers(expected)
        error = float(np.linalg.norm(flat(backend.host(got)) - flat(expected)))
        assert error <= 4 * bound(case) * (float(np.linalg.norm(expected)) + pulled(case, want))


def pulled(case: dict[str, Any], value: float) -> float:
    """Return the size of what the entries of a gradient are sums of; 0 where nothing cancels."""
    tau = temperature_of(case)
    always = {"macl", "model_aware_contrastive"} | SIGNED
    slope = 1.0 if case["loss"] in always else min(1.0, abs(value))
    return 2 * slope / tau * (1 + 1 / tau)


def test_every_descendant_has_golden_data_and_some_are_dominated() -> None:
    losses = {case["loss"] for case in CASES}
    kept = {case["loss"] for case in json.loads((GOLDEN / "losses.json").read_text(encoding="utf-8"))}
    public = {name for name in refcl.__all__ if isinstance(getattr(refcl, name), Pair)}
    assert losses == {name for name in public if refcl_home(name) in HOMES}
    assert not losses & kept
    assert min(abs(float(case["value"])) for case in CASES) < 1e-30


HOMES = {"supervised", "decoupled", "reweighted", "align_uniform", "model_aware", "per_anchor"}


def refcl_home(name: str) -> str:
    return str(getattr(refcl, name).__module__).rpartition(".")[2]


@pytest.mark.parametrize("index", [0, 3, 4])
def test_a_case_made_again_is_the_same(index: int) -> None:
    spec = importlib.util.spec_from_file_location("generate_descendants", GOLDEN / "generate_descendants.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.on_similarities("plain", 0.3)[index] == CASES[index]


def test_an_error_of_a_millionth_part_would_be_seen() -> None:
    assert bound(CASES[0]) < 1e-12
    assert float(CASES[0]["value"]) > 0.1
