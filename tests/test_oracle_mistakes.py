"""Every mistake with a name, written as its author would: detected, and named right; what has no name stays unknown."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from oracle.test_freed import cases as freed
from wrong import in_numpy
from wrong.cases import Case, descendant_cases, numpy_cases, torch_cases

import refcl
from refcl.oracle import check
from refcl.oracle.mistakes import CATALOGUE, DISTRIBUTED, links

NUMPY = [*numpy_cases(), *descendant_cases()]
# What is tried with τ as an argument is asked again with τ baked in, and differences of values are taken, where slow
# tests are: but for the first mistake in each loss that has no gradient of its own.
FREE = {case.name.removesuffix(", τ free") for case in NUMPY if case.name.endswith("τ free")}
BY_VALUES = [case for case in NUMPY if case.name.endswith("numeric")]
FIRST = [case for loss in {c.loss for c in BY_VALUES} for case in [c for c in BY_VALUES if c.loss == loss][1:2]]


def marks(case: Case) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if case.name in FREE or (case in BY_VALUES and case not in FIRST) else []


def named(case: Case) -> str:
    return f"{case.loss}, {case.name}".replace(" ", "-")


@pytest.mark.parametrize("case", [pytest.param(case, marks=marks(case), id=named(case)) for case in NUMPY])
def test_numpy(case: Case) -> None:
    report = check(case.candidate, case.loss, **case.settings)
    assert report.verdict == case.expected, str(report)


SHARES = 8


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
def test_torch(share: int) -> None:
    torch = pytest.importorskip("torch", reason="autograd's mistakes need PyTorch")
    torch.set_num_threads(1)  # batches of a few rows: threads only wait for each other
    wrong = []
    for case in torch_cases()[share::SHARES]:
        report = check(case.candidate, case.loss, **case.settings)
        if report.verdict != case.expected:
            wrong.append((named(case), case.expected, report.verdict))
    assert wrong == []


def test_every_name_of_a_single_process_is_earned_by_somebody() -> None:
    earned = {name for case in NUMPY for name in case.expected.split(" + ")}
    # PyTorch alone makes it: NumPy's authors return no gradient of the temperature here.
    earned.add("temperature-gradient-wrong")
    earned |= {case["verdict"] for case in freed("in_numpy") if case["verdict"] != "differs"}
    assert set(CATALOGUE) - set(DISTRIBUTED) == earned - {"correct"}


def test_a_wrong_gradient_of_the_temperature_is_named_in_numpy_too() -> None:
    def wrong(a: Any, b: Any, temperature: Any) -> Any:
        loss, grads = refcl.nt_xent(a, b, temperature)
        return loss, (*grads[:2], -grads.dtemperature)

    def missing(a: Any, b: Any, temperature: Any) -> Any:
        loss, grads = refcl.nt_xent(a, b, temperature)
        return loss, (*grads[:2], None)

    for candidate in (wrong, missing):
        report = check(candidate, "nt_xent")
        assert report.verdict == "temperature-gradient-wrong"
        assert not any(p.distance > 1 for probe in report.probes for p in probe.parts if p.name != "temperature")


def test_the_catalogue_says_everything() -> None:
    for id_, mistake in CATALOGUE.items():
        assert mistake.id == id_
        assert mistake.effect
        assert mistake.wrong != mistake.right
        assert all(address.startswith("https://github.com/") and " " not in address for address in links(mistake))


def unnamed() -> list[tuple[str, Callable[..., Any]]]:
    """Mistakes that no row of the list names: none of them may get a name that does not fit."""

    def squared_temperature(a: Any, b: Any, t: Any) -> Any:
        return in_numpy.right(a, b, t * t)

    def half_of_the_negatives(a: Any, b: Any, t: Any) -> Any:
        z, norm = in_numpy.unit(np.concatenate([a, b]))
        logits = z @ z.T / t
        n = len(a)
        far = np.abs(np.subtract.outer(np.arange(2 * n), np.arange(2 * n)))
        keep = (far <= n) & (far > 0)
        value, d = in_numpy.cross_entropy(np.where(keep, logits, -np.inf), in_numpy.partner(n))
        return value, in_numpy.finish(d, z, norm, t)

    def one_gradient_entry(a: Any, b: Any, t: Any) -> Any:
        value, (da, db) = in_numpy.right(a, b, t)
        da = da.copy()
        da[0, 0] *= 1.01
        return value, (da, db)

    def swapped_gradients(a: Any, b: Any, t: Any) -> Any:
        value, (da, db) = in_numpy.right(a, b, t)
        return value, (db, da)

    def value_of_another_batch(a: Any, b: Any, t: Any) -> Any:
        value, grads = in_numpy.right(a, b, t)
        return value + 0.01 * np.sum(a), grads

    def cosine_to_angle(a: Any, b: Any, t: Any) -> Any:
        z, _ = in_numpy.unit(np.concatenate([a, b]))
        logits = (1 - np.arccos(np.clip(z @ z.T, -1, 1)) / np.pi) / t
        np.fill_diagonal(logits, -np.inf)
        return in_numpy.cross_entropy(logits, in_numpy.partner(len(a)))[0]

    def euclidean(a: Any, b: Any, t: Any) -> Any:
        z, _ = in_numpy.unit(np.concatenate([a, b]))
        logits = -np.linalg.norm(z[:, None] - z[None], axis=2) / t
        np.fill_diagonal(logits, -np.inf)
        return in_numpy.cross_entropy(logits, in_numpy.partner(len(a)))[0]

    def slightly_scaled_negatives(a: Any, b: Any, t: Any) -> Any:
        z, norm = in_numpy.unit(np.concatenate([a, b]))
        logits = z @ z.T / t + np.log(1.001)
        rows, pos = np.arange(len(z)), in_numpy.partner(len(a))
        logits[rows, pos] -= np.log(1.001)
        np.fill_diagonal(logits, -np.inf)
        value, d = in_numpy.cross_entropy(logits, pos)
        return value, in_numpy.finish(d, z, norm, t)

    return [(f.__name__, f) for f in (
        squared_temperature, half_of_the_negatives, one_gradient_entry, swapped_gradients, value_of_another_batch,
        cosine_to_angle, euclidean, slightly_scaled_negatives,
    )]  # fmt: skip


SAID = {
    "squared_temperature": "the temperature is applied twice",
    "swapped_gradients": "gradients are swapped",
    "one_gradient_entry": "the gradient da is not that of the value",
    "euclidean": "the negative Euclidean distance, not squared",
    "cosine_to_angle": "the angle",
    "slightly_scaled_negatives": "count 0.999 times",
}


LATER = ("half_of_the_negatives", "value_of_another_batch", "cosine_to_angle")


@pytest.mark.parametrize(
    ("name", "function"),
    [pytest.param(name, f, marks=[pytest.mark.slow] if name in LATER else [], id=name) for name, f in unnamed()],
)
def test_what_has_no_name_is_measured(name: str, function: Callable[..., Any]) -> None:
    report = check(lambda a, b: function(a, b, 0.2), "nt_xent", temperature=0.2)
    assert report.verdict in ("differs", "unknown"), str(report)
    assert report.failed
    assert not report.findings
    said = " ".join(d.what for d in report.differences)
    assert SAID.get(name, "") in said, str(report)


def test_another_temperature_is_seen() -> None:
    report = check(lambda a, b: in_numpy.right(a, b, 0.04), "nt_xent", temperature=0.2)
    assert report.differences[0].what == "the temperature is applied twice: it is τ squared"


def test_another_loss_and_another_setting_are_seen() -> None:
    report = check(lambda s, temperature: refcl.simple_contrastive(s)[0], "softmax_contrastive")
    assert report.right_for == ["refcl.simple_contrastive"]
    report = check(refcl.clip, "clip", direction="first")
    assert report.right_for == ['direction="both"']
    report = check(refcl.info_nce, "info_nce", normalize=False)
    assert report.right_for == ["normalize=True"]


def test_broken_laws_are_said() -> None:
    def tilted(s: Any, temperature: Any) -> Any:
        loss, grads = refcl.softmax_contrastive(s, temperature)
        return loss, (grads.ds + 0.01, grads.dtemperature)

    report = check(tilted, "softmax_contrastive")
    assert report.verdict == "differs"
    broken = [law.name for law in report.invariants if not law.holds]
    assert broken == ["each row of ds sums to 0", "dtemperature follows from the others"]


PAIRS = (
    ("temperature-missing + one-direction", lambda a, b, t: in_numpy.one_direction(a, b, 1.0)),
    ("self-in-denominator + scaled-by-constant", lambda a, b, t: doubled(in_numpy.self_in_denominator(a, b, t))),
    ("log-of-mean + scaled-by-constant", lambda a, b, t: doubled(in_numpy.log_of_mean(a, b, t))),
    ("cross-view-only + gradient-zero", lambda a, b, t: zeroed(in_numpy.cross_view_only(a, b, t))),
    ("temperature-missing + not-normalized", lambda a, b, t: in_numpy.not_normalized(a, b, 1.0)),
)


def doubled(answer: Any) -> Any:
    value, (da, db) = answer
    return 2 * value, (2 * da, 2 * db)


def zeroed(answer: Any) -> Any:
    value, (da, db) = answer
    return value, (0 * da, 0 * db)


@pytest.mark.parametrize(("expected", "function"), PAIRS, ids=[names for names, _ in PAIRS])
def test_two_mistakes_at_once(expected: str, function: Callable[..., Any]) -> None:
    report = check(lambda a, b: function(a, b, 0.2), "nt_xent", temperature=0.2)
    assert set(report.verdict.split(" + ")) == set(expected.split(" + ")), str(report)


def test_a_documented_convention_is_said_and_can_be_a_setting() -> None:
    report = check(lambda a, b: in_numpy.twice(a, b, 0.2), "nt_xent", temperature=0.2)
    assert report.verdict == "scaled-by-constant"
    assert report.conventions == [
        "2: google-research/simclr (TensorFlow 2) and tensorflow/similarity: the two directions are added, not averaged"
    ]
    assert check(lambda a, b: in_numpy.twice(a, b, 0.2), "nt_xent", temperature=0.2, scale="2").ok
    assert check(in_numpy.base_temperature, "nt_xent", passes_scalar=True, scale="tau/0.07").ok
    assert check(lambda a, b: in_numpy.cross_view_only(a, b, 0.2), "nt_xent", temperature=0.2).verdict != "correct"
    dcl = in_numpy.positive_missing_from_denominator
    assert check(dcl, "nt_xent", passes_scalar=True, positive_in_denominator=False).ok
    one = in_numpy.one_direction
    assert check(one, "nt_xent", passes_scalar=True, direction="first").ok
    detached = in_numpy.keys_forgotten_in_backward
    assert check(detached, "nt_xent", passes_scalar=True, detached=("candidates",)).ok


def test_a_detached_key_is_a_setting() -> None:
    def moco(query: Any, key: Any, temperature: Any) -> Any:
        loss, grads = refcl.info_nce(query, key, temperature)
        return loss, (grads.dquery, np.zeros_like(key), grads.dtemperature)

    assert check(moco, "info_nce").verdict == "keys-detached"
    assert check(moco, "info_nce", detached=("key",)).ok


def test_a_temperature_of_one_says_what_it_hides() -> None:
    report = check(lambda a, b: in_numpy.right(a, b, 1.0), "nt_xent", temperature=1.0)
    assert report.ok
    hidden = {"temperature-missing", "temperature-inverted", "temperature-missing-on-positive"}
    assert hidden <= set(report.indistinguishable)
    assert "temperature-missing" in str(report)
    told = check(lambda a, b: in_numpy.right(a, b, 0.2), "nt_xent", temperature=0.2)
    assert told.indistinguishable == []
    value_only = check(lambda a, b: in_numpy.right(a, b, 0.2)[0], "nt_xent", temperature=0.2)
    assert set(value_only.indistinguishable) == {
        "normalization-jacobian-missing", "keys-detached", "denominator-detached"
    }  # fmt: skip


def test_a_factor_that_a_baked_in_temperature_hides_is_said() -> None:
    report = check(lambda a, b: in_numpy.temperature_forgotten_in_backward(a, b, 0.2), "nt_xent", temperature=0.2)
    assert "can't be told from it while τ is baked in" in report.findings[0].detail
    report = check(in_numpy.temperature_forgotten_in_backward, "nt_xent", passes_scalar=True)
    assert report.findings[0].detail == "the gradient is multiplied by τ (0.2 on the first probe)"


def test_names_that_fit_equally_are_all_said() -> None:
    # At τ = 1/e the logarithm of the scale is 1: s and s log(1/τ) are the same.
    report = check(lambda a, b: in_numpy.right(a, b, 1.0), "nt_xent", temperature=float(np.exp(-1)))
    assert report.verdict == "temperature-missing or log-scale-not-exponentiated"
    assert len(report.findings) == 2
    assert "change it to  logit_ik = s_ik/τ" in str(report)
