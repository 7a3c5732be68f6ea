"""Targets, weights, own negatives and margins, as strangers write them: right is correct, and wrong is explained."""

import importlib
import inspect
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import refcl
from refcl.oracle import check
from refcl.oracle.mistakes import variations
from refcl.oracle.probes import probes
from refcl.oracle.question import Question, ask

HERE = Path(__file__).parent / "cases" / "freed"
FREE = ("own_negatives", "log_weight", "targets", "anchor_weight")


def cases(module: str) -> list[dict[str, Any]]:
    """Return the cases of one file."""
    sys.path.insert(0, str(HERE))
    try:
        common = importlib.import_module("freed_common")
        before = len(common.CASES)
        made = vars(importlib.import_module(module)).setdefault("MADE", common.CASES[before:])
        return list(made)
    finally:
        sys.path.remove(str(HERE))
        sys.modules.pop("common", None)


def complaint(case: dict[str, Any]) -> str:
    """Return the report on a case, where it does not say what it should; else nothing."""
    function = case["wrap"](case["f"]) if case["wrap"] else case["f"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = check(function, case["loss"], **case["settings"])
    good = report.verdict == case["verdict"] and re.search(case["says"], str(report), re.DOTALL)
    return "" if good else str(report)


def marks(numpy: list[dict[str, Any]]) -> list[Any]:
    """The first right and the first wrong case that has a name, of all that is freed, are quick ones."""
    seen, found = set(), []
    for case in numpy:
        freed = str({name: x for name, x in case["settings"].items() if name in ("given", "label_smoothing", "margin")})
        first = case["verdict"] != "differs" and (case["verdict"] == "correct", freed) not in seen
        seen.add((case["verdict"] == "correct", freed))
        found.append(pytest.param(case, id=case["name"], marks=[] if first else [pytest.mark.slow]))
    return found


@pytest.mark.parametrize("case", marks(cases("in_numpy")))
def test_in_numpy(case: dict[str, Any]) -> None:
    assert complaint(case) == ""


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_in_other_libraries(library: str) -> None:
    module = pytest.importorskip(library, reason="the cases are written in it")
    if library == "torch":
        module.set_num_threads(1)  # batches of a few rows: threads only wait for each other
    found = cases(f"in_{library}")
    assert found
    for case in found:
        assert complaint(case) == ""


def asked(loss: str) -> list[dict[str, Any]]:
    """Return questions that free everything of a loss, in ways that go together."""
    free = tuple(name for name in FREE if name in getattr(refcl, loss).arguments)
    weights = tuple(name for name in free if name != "targets")
    return [
        {"given": free, "label_smoothing": 0.2},
        {"given": weights, "label_smoothing": 0.2, "margin": 0.1, "angular_margin": 0.3},
    ]


LOSSES = ("info_nce", *(pytest.param(n, marks=pytest.mark.slow) for n in ("softmax_contrastive", "nt_xent", "clip")))


@pytest.mark.parametrize("loss", LOSSES)
def test_refcl_itself_is_right(loss: str) -> None:
    for settings in asked(loss):
        own = {name: x for name, x in settings.items() if name != "given"}

        def candidate(*arrays: Any, own: dict[str, Any] = own, **given: Any) -> Any:
            return getattr(refcl, loss)(*arrays, **given, **own)

        candidate.__signature__ = inspect.signature(getattr(refcl, loss))  # type: ignore[attr-defined]
        report = check(candidate, loss, **settings)
        assert report.ok, str(report)
        assert report.more_judged == settings["given"]


def slope(f: Any, h: float = 1e-4) -> float:
    return float((8 * (f(h) - f(-h)) - f(2 * h) + f(-2 * h)) / (12 * h))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_gradient_of_every_mistake_is_that_of_its_value(loss: str) -> None:
    rng = np.random.default_rng(0)
    checked = 0
    for settings in asked(loss):
        question = ask(loss, **settings)
        probe = probes(question, passes_scalar=True)[1]
        given = question.companions(probe.inputs)
        names = (*question.inputs, str(question.scalar), *question.more)
        start = dict(zip(names, (*probe.inputs, probe.scalar, *(given[n] for n in question.more)), strict=True))
        along = {n: rng.standard_normal(np.shape(x)) * (np.asarray(x) != 0) for n, x in start.items()}
        for variation, recipe in variations(question.recipe):
            if (
                recipe.detached
                or recipe.jacobian != "full"
                or "gradient" in variation.detail
                or "dh" in variation.detail
            ):
                continue
            grads = answer(question, recipe, start, value_only=False)
            got = sum(float(np.sum(g * along[n])) for n, g in zip(names, grads, strict=True))

            def moved(h: float, recipe: Any = recipe, q: Question = question, at: Any = start, d: Any = along) -> float:
                return answer(q, recipe, {n: x + h * d[n] for n, x in at.items()})  # type: ignore[no-any-return]

            want = slope(moved)
            assert got == pytest.approx(want, rel=1e-6, abs=1e-8), (variation.id, variation.detail)
            checked += 1
    assert checked > 60


def answer(question: Question, recipe: Any, at: dict[str, Any], *, value_only: bool = True) -> Any:
    """Return the value of a recipe, or its gradients by everything."""
    inputs = tuple(at[n] for n in question.inputs)
    held = replace(question, settings=question.settings | {n: at[n] for n in question.more}, companions_needed=())
    found = held.evaluate(recipe, inputs, float(at[str(question.scalar)]), None, value_only=value_only)
    return float(np.sum(found.value)) if value_only else (*found.grads, found.dscalar, *found.dmore)


def softmax_loss(s: Any, temperature: Any, log_weight: Any) -> Any:
    x = s / temperature + log_weight
    return np.mean(np.log(np.sum(np.exp(x - x.max()), axis=1)) + x.max() - np.diagonal(x))


def test_arrays_of_ones_own() -> None:
    rng = np.random.default_rng(0)
    s, w = rng.uniform(-1, 1, (2, 4, 6))
    settings: dict[str, Any] = {"inputs": (s,), "only_inputs": True, "temperature": 0.2, "log_weight": w}
    assert check(softmax_loss, "softmax_contrastive", **settings).ok
    turned = check(lambda s, t, log_weight: softmax_loss(s, t, -log_weight), "softmax_contrastive", **settings)
    assert "log-weight-misplaced" in turned.verdict  # on one batch a factor explains a value as well


@pytest.mark.parametrize(
    ("loss", "settings", "said"),
    [
        ("moco", {"given": ("targets",)}, "moco has no 'targets'; it has none"),
        ("info_nce", {"given": ("target",)}, "no 'target'; it has own_negatives, log_weight, targets, anchor_weight"),
        ("info_nce", {"given": ("targets",), "margin": 0.1}, "targets or margin, not both"),
        ("info_nce", {"given": ("targets",), "ranks": 2}, "not judged over ranks"),
    ],
)
def test_questions_that_make_no_sense(loss: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ask(loss, **settings)


def test_what_was_not_asked_for_and_what_does_not_come() -> None:
    unasked = check(softmax_loss, "softmax_contrastive")
    assert unasked.verdict == "not judged"
    assert "say given=('log_weight',)" in unasked.reason
    missing = check(lambda s, temperature: 0.0, "softmax_contrastive", given=("log_weight",))
    assert "needs log_weight: the candidate must take it by that name" in missing.reason


def test_a_constant_on_purpose_is_told_how_to_say_so() -> None:
    def teacher(query: Any, key: Any, temperature: Any, targets: Any) -> Any:
        value, grads = refcl.info_nce(query, key, temperature, targets=targets)
        return value, (grads.dquery, grads.dkey, grads.dtemperature, np.zeros_like(targets))

    report = check(teacher, "info_nce", given=("targets",))
    assert 'it would be right for detached=("targets",)' in str(report)
    assert check(teacher, "info_nce", given=("targets",), detached=("targets",)).ok
