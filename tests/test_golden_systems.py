"""The systems against golden data at 50 digits; ``golden/generate_systems.py`` made them."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import EPS, Backend
from mpmath import mp, mpf

import refcl

GOLDEN = Path(__file__).parent / "golden"
CASES: list[dict[str, Any]] = json.loads((GOLDEN / "systems.json").read_text(encoding="utf-8"))
EXACT = [case for case in CASES if case["exact"]]
in_float64 = pytest.mark.parametrize("backend", ["numpy", "strict-device1", "cupy"], indirect=True)


def named(case: dict[str, Any]) -> str:
    return "-".join([case["loss"], *(x for x in case["inputs"] if isinstance(x, str))])


def numbers(nested: Any) -> Any:
    return np.array(nested, dtype=object).astype(float)


def inputs_of(case: dict[str, Any]) -> list[Any]:
    """Return the inputs on the host: arrays, numbers, and for CMC a tuple of views."""
    inputs: list[Any] = [float(x) if isinstance(x, str) else numbers(x) for x in case["inputs"]]
    return [tuple(inputs[0]), *inputs[1:]] if case["loss"] == "cmc" else inputs


def run(case: dict[str, Any], backend: Backend) -> tuple[Any, list[Any]]:
    """Return value and gradients on the host; those of views in one array."""
    settings = {k: backend.array(v) if isinstance(v, list) else v for k, v in case["settings"].items()}
    inputs = [x if isinstance(x, float) else backend.array(x) for x in inputs_of(case) if not isinstance(x, tuple)]
    if case["loss"] == "cmc":
        inputs = [tuple(backend.array(view) for view in inputs_of(case)[0]), *inputs]
    value, grads = getattr(refcl, case["loss"])(*inputs, **settings)
    hosts = [np.stack([backend.host(x) for x in d]) if isinstance(d, tuple) else backend.host(d) for d in grads]
    return backend.host(value), hosts


def scale_of(case: dict[str, Any]) -> float:
    """Return by how much a similarity is stretched: 1/τ, e^θ, or 1."""
    if case["loss"] in ("cpc", "semi_hard_triplet", "pair_contrastive"):
        return 1.0
    number = next(float(x) for x in case["inputs"] if isinstance(x, str))
    return float(np.exp(number)) if case["loss"] == "sig_lip" else 1 / number


def relative_bound(case: dict[str, Any]) -> float:
    """Return 4 eps (1 + what the exponents are made of), and D eps more for each similarity that must be computed.

    For softmax losses that is range/τ. Where a pair stands by itself it is the size of its logit's terms.
    """
    eps, scale = EPS["float64"], scale_of(case)
    if case["loss"] in ("nce", "sig_lip"):
        settings = case["settings"]
        bias = float(case["inputs"][-1]) if case["loss"] == "sig_lip" else settings["log_normalizer"]
        reach = scale + abs(bias) + (1.0 if case["loss"] == "nce" else 0.0)
    elif case["exact"]:
        reach = float(np.max(np.ptp(numbers(case["inputs"][0]), axis=1))) * scale
    else:
        reach = (2.0 if case["loss"] != "cpc" else largest(case)) * scale
    rounding = 0.0 if case["exact"] else numbers(case["inputs"][0]).shape[-1] * scale
    return 4 * eps * (1 + reach) + eps * rounding * (largest(case) if case["loss"] == "cpc" else 1.0)


def largest(case: dict[str, Any]) -> float:
    """Return the size of a product of the norms of the inputs, on which scores and their gradients depend."""
    arrays = [numbers(x) for x in case["inputs"] if not isinstance(x, str)]
    return float(np.prod([np.max(np.linalg.norm(x, axis=-1)) for x in arrays]))


def terms_of(case: dict[str, Any]) -> float:
    """Return the size of the terms of a gradient, whose signs are mixed and which may cancel."""
    if case["loss"] in ("cpc", "pair_contrastive"):
        return largest(case)
    shortest = min(float(np.min(np.linalg.norm(numbers(x), axis=-1))) for x in case["inputs"] if isinstance(x, list))
    return 2 * min(float(case["value"]), 4.0) * scale_of(case) / min(shortest, 1.0)


def error(got: Any, want: str) -> float:
    return float(abs(mpf(float(got)) - mpf(want)))


@in_float64
@pytest.mark.parametrize("case", CASES, ids=named)
def test_values_are_exact(case: dict[str, Any], backend: Backend) -> None:
    value, _ = run(case, backend)
    terms = 2.0 if case["loss"] == "semi_hard_triplet" else 0.0
    if case["loss"] == "pair_contrastive":
        terms = case["settings"]["margin"] ** 2
    assert error(value, case["value"]) <= relative_bound(case) * max(float(case["value"]), terms)


@in_float64
@pytest.mark.parametrize("case", EXACT, ids=named)
def test_gradients_of_similarities_are_exact_entry_by_entry(case: dict[str, Any], backend: Backend) -> None:
    """The first input's: it is that of the similarities."""
    _, (ds, *_) = run(case, backend)
    bound = relative_bound(case)
    for got, want in zip(ds.ravel(), np.array(case["gradients"][0]).ravel(), strict=True):
        if abs(mpf(want)) > np.finfo(np.float64).tiny:
            assert error(got, want) <= bound * abs(float(want)), (got, want)


@in_float64
@pytest.mark.parametrize("case", EXACT, ids=named)
def test_gradients_of_numbers_are_exact_beside_their_terms(case: dict[str, Any], backend: Backend) -> None:
    """Each is a sum over pairs, of ds times the similarity, or times its difference from the positive's."""
    _, grads = run(case, backend)
    s, ds, scale = numbers(case["inputs"][0]), np.abs(numbers(case["gradients"][0])), scale_of(case)
    reach = np.ptp(s, axis=1)[:, None] if case["loss"] in ("inst_disc", "moco") else np.abs(s)
    stretched = float(np.sum(ds * reach))
    terms = {"inst_disc": [scale * stretched], "moco": [scale * stretched], "nce": [scale * stretched]}
    terms["sig_lip"] = [stretched, float(np.sum(ds)) / scale]
    numeric = [(got, want) for got, want in zip(grads, case["gradients"], strict=True) if isinstance(want, str)]
    for (got, want), size in zip(numeric, terms.get(case["loss"], []), strict=True):
        assert error(got, want) <= relative_bound(case) * max(size, abs(float(want)))


@in_float64
@pytest.mark.parametrize("case", CASES, ids=named)
def test_all_gradients_are_exact_beside_their_terms(case: dict[str, Any], backend: Backend) -> None:
    _, grads = run(case, backend)
    bound, terms = 4 * relative_bound(case), terms_of(case)
    for got, want in zip(grads, case["gradients"], strict=True):
        size = max(float(np.linalg.norm(numbers(want))), terms * (scale_of(case) if isinstance(want, str) else 1.0))
        assert np.linalg.norm(got - numbers(want)) <= bound * size


def test_the_corners_are_there() -> None:
    values = {name: [float(case["value"]) for case in CASES if case["loss"] == name] for name in ("inst_disc", "moco")}
    assert all(min(each) < 1e-30 for each in values.values()), "a positive that dominates"
    assert max(scale_of(case) for case in CASES) >= 500


def test_golden_data_are_small_strings() -> None:
    assert (GOLDEN / "systems.json").stat().st_size < 150_000
    assert all(isinstance(case["value"], str) for case in CASES)


def test_a_case_made_again_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(GOLDEN))
    spec = importlib.util.spec_from_file_location("generate_systems", GOLDEN / "generate_systems.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.pair_contrastive(4.0) == CASES[0]
    assert mp.dps == 50


@pytest.mark.parametrize("name", sorted({case["loss"] for case in CASES} - {"semi_hard_triplet"}))
def test_an_error_of_a_billionth_part_would_be_seen(name: str) -> None:
    case = next(case for case in CASES if case["loss"] == name)
    assert relative_bound(case) < 1e-11
    assert terms_of(case) < 1e3 * np.linalg.norm(numbers(case["gradients"][0]))
