"""Losses with several inputs, a memory, or settings that move the scalar: right ones pass, wrong ones do not."""

import inspect
from typing import Any

import numpy as np
import pytest

import refcl
from refcl.oracle import assert_correct, check, from_jax, from_module, from_torch, numeric

LOSSES = (
    "moco",
    "inst_disc",
    "nce",
    "cpc",
    "cmc",
    "pair_contrastive",
    "triplet_margin",
    "multi_positive",
    "per_anchor_contrastive",
    "sig_lip",
)


@pytest.mark.parametrize("loss", LOSSES)
def test_others_implementations(loss: str) -> None:
    torch = pytest.importorskip("torch", reason="they are written in PyTorch")
    from wrong.systems import system_cases

    torch.set_num_threads(1)
    cases = [case for case in system_cases() if case.loss == loss]
    assert {case.expected == "correct" for case in cases} == {True, False}
    for case in cases:
        report = check(case.candidate, loss)
        # What has no name is measured, and said where the measurement explains it.
        fair = ("unknown", "differs") if case.expected == "unknown" else (case.expected,)
        assert report.verdict in fair, f"{case.name}\n{report}"
        assert report.gradient_judged
        assert report.indistinguishable == []


@pytest.mark.parametrize("loss", LOSSES)
def test_refcls_own_pairs_need_no_wrapper(loss: str) -> None:
    assert_correct(getattr(refcl, loss), loss)


def test_every_gradient_of_cpc_is_judged() -> None:
    for k, name in enumerate(("context", "future", "weight")):

        def candidate(context: Any, future: Any, weight: Any, wrong: int = k) -> Any:
            value, grads = refcl.cpc(context, future, weight)
            return value, tuple(1.01 * g if j == wrong else g for j, g in enumerate(grads))

        report = check(candidate, "cpc")
        assert report.verdict == "scaled-by-constant"
        assert f"the gradient d{name} is 1.01 times" in report.differences[0].what
        assert {part.name for p in report.probes for part in p.parts if part.distance > 1} == {name}


def cmc_by_hand(views: tuple[Any, ...], temperature: float) -> Any:
    """Value alone, in NumPy."""
    z = [view / np.linalg.norm(view, axis=1, keepdims=True) for view in views]
    total = 0.0
    for a in z:
        for b in z:
            if a is not b:
                logits = a @ b.T / temperature
                top = logits.max(axis=1)
                total += np.mean(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - np.diag(logits))
    return total


def test_views_come_and_go_as_a_tuple() -> None:
    assert check(cmc_by_hand, "cmc").ok
    assert check(lambda views: cmc_by_hand(views, 0.2), "cmc", temperature=0.2).ok
    assert check(cmc_by_hand, "cmc", views=2).ok
    assert check(cmc_by_hand, "cmc", core=True).right_for == ["core=False"]
    report = check(numeric(cmc_by_hand), "cmc", temperature=0.2, passes_scalar=True, views=2)
    assert report.gradient_judged
    assert all(p.passed for p in report.probes if p.dtype == "float64" and p.name in ("ordinary", "prime batch"))


def test_views_of_your_own() -> None:
    views = tuple(np.random.default_rng(0).standard_normal((4, 5, 3)))
    for inputs in (views, (views,), [views]):
        report = check(refcl.cmc, "cmc", views=4, inputs=inputs, only_inputs=True)
        assert report.ok, str(report)
        assert [p.name for p in report.probes] == ["your own 0"]
    with pytest.raises(ValueError, match="inputs of cmc are view_0, view_1, view_2; got 4 arrays"):
        check(refcl.cmc, "cmc", inputs=views)


@pytest.mark.parametrize("views", [1, True, 2.0])
def test_a_view_alone_has_nothing_to_be_compared_with(views: Any) -> None:
    with pytest.raises(ValueError, match="views must be an int >= 2"):
        check(refcl.cmc, "cmc", views=views)
    with pytest.raises(TypeError, match="info_nce has no setting 'views'"):
        check(refcl.info_nce, "info_nce", views=3)


def test_jax_takes_views_and_memories() -> None:
    jax = pytest.importorskip("jax", reason="its own arrays")

    def cmc(views: Any, temperature: Any) -> Any:
        z = [view / jax.numpy.linalg.norm(view, axis=1, keepdims=True) for view in views]
        each = [jax.nn.log_softmax(a @ b.T / temperature, axis=1) for a in z for b in z if a is not b]
        return -sum(jax.numpy.mean(jax.numpy.diagonal(x)) for x in each)

    def inst_disc(query: Any, temperature: Any, bank: Any, index: Any) -> Any:
        z = query / jax.numpy.linalg.norm(query, axis=1, keepdims=True)
        logs = jax.nn.log_softmax(z @ bank.T / temperature, axis=1)
        return -jax.numpy.mean(logs[jax.numpy.arange(len(index)), index])

    own = tuple(np.random.default_rng(0).standard_normal((3, 4, 5)))
    for candidate, loss, inputs in ((cmc, "cmc", own), (inst_disc, "inst_disc", own[:1])):
        report = check(from_jax(candidate), loss, inputs=inputs, only_inputs=True)  # one shape: compiled once
        assert report.ok, str(report)
        assert report.scalar_judged


def test_a_key_that_is_detached_on_purpose() -> None:
    def momentum(query: Any, key: Any, temperature: Any, queue: Any) -> Any:
        value, (dquery, dkey, dtemperature) = refcl.moco(query, key, temperature, queue=queue)
        return value, (dquery, np.zeros_like(dkey), dtemperature)

    report = check(momentum, "moco")
    assert report.ok
    assert "key gets no gradient, as in the paper" in report.notes[0]
    assert check(momentum, "moco", detached=("key",)).ok
    assert check(refcl.cpc, "cpc", detached=("weight",)).verdict == "differs"


def test_the_scalar_stands_after_the_arrays() -> None:
    def candidate(query: Any, key: Any, queue: Any, temperature: Any) -> Any:
        return refcl.moco(query, key, temperature, queue=queue)

    assert check(candidate, "moco").reason == (
        "the candidate must take its temperature directly after query, key: "
        "lambda query, key, temperature, queue: mine(…), with its own arguments in their order."
    )


def test_batches_that_the_loss_does_not_take() -> None:
    with pytest.raises(ValueError, match="moco: query and key must agree on N"):
        check(refcl.moco, "moco", extra_keys=2)
    assert check(refcl.cpc, "cpc", extra_keys=2).ok
    assert {p.sizes for p in check(refcl.nce, "nce", shape=(4, 6)).probes} == {"4×6"}


def test_values_alone_are_differentiated() -> None:
    def per_anchor(s: Any, temperature: Any) -> Any:
        return refcl.per_anchor_contrastive(s, temperature)[0]

    def cpc(context: Any, future: Any, weight: Any) -> Any:
        return refcl.cpc(context, future, weight)[0]

    def inst_disc(query: Any, bank: Any, index: Any) -> Any:
        return refcl.inst_disc(query, 0.2, bank=bank.astype(query.dtype), index=index)[0]

    rng = np.random.default_rng(0)
    s, context, future = rng.uniform(-1, 1, (4, 5)), rng.standard_normal((4, 3)), rng.standard_normal((2, 4, 2))
    own: dict[str, Any] = {
        "per_anchor_contrastive": (per_anchor, (s, np.array([0.2, 0.5, 0.9, 0.4]))),
        "cpc": (cpc, (context, future, rng.standard_normal((2, 3, 2)))),
        "inst_disc": (inst_disc, (rng.standard_normal((4, 3)),)),
    }
    for loss, (candidate, inputs) in own.items():
        settings = {"temperature": 0.2} if loss == "inst_disc" else {}
        report = check(numeric(candidate), loss, inputs=inputs, only_inputs=True, **settings)
        assert report.ok, str(report)
        assert report.gradient_judged


def test_a_module_takes_a_queue_by_name() -> None:
    torch = pytest.importorskip("torch", reason="a module with a learned temperature")

    class Moco(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.temperature = torch.nn.Parameter(torch.tensor(0.2))

        def forward(self, query: Any, key: Any, *, queue: Any) -> Any:
            q, k = (torch.nn.functional.normalize(x, dim=1) for x in (query, key))
            logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ queue.T], dim=1) / self.temperature
            return torch.nn.functional.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))

    report = check(from_module(Moco()), "moco")
    assert report.ok, str(report)
    assert report.scalar_judged


def test_a_bank_of_ones_own() -> None:
    bank = np.random.default_rng(0).standard_normal((9, 6))

    def candidate(query: Any, temperature: Any, bank: Any, index: Any) -> Any:
        return refcl.inst_disc(query, temperature, bank=bank, index=index)

    assert check(candidate, "inst_disc", bank=bank, shape=(4, 6)).ok
    report = check(
        lambda query, index: refcl.inst_disc(
            query, 0.2, bank=2 * bank.astype(query.dtype), index=index, normalize=False
        ),
        "inst_disc",
        bank=bank,
        temperature=0.2,
        shape=(4, 6),
    )
    assert not report.ok


@pytest.mark.parametrize("wrong", ["bias", "log_scale"])
def test_the_bias_of_sig_lip(wrong: str) -> None:
    def candidate(image: Any, text: Any, log_scale: Any, bias: Any) -> Any:
        value, grads = refcl.sig_lip(image, text, log_scale, bias)
        return value, grads._replace(**{f"d{wrong}": -getattr(grads, f"d{wrong}")})

    report = check(candidate, "sig_lip")
    assert report.verdict == {"bias": "scaled-by-constant", "log_scale": "temperature-gradient-wrong"}[wrong]
    assert report.more_judged == ("bias",)
    assert {part.name for p in report.probes for part in p.parts if part.distance > 1} == {wrong}


def test_a_bias_that_is_given_alone_or_not_at_all() -> None:
    def biased(image: Any, text: Any, bias: Any) -> Any:
        value, grads = refcl.sig_lip(image, text, 1.5, bias)
        return value, (grads.dimage, grads.dtext, grads.dbias)

    report = check(biased, "sig_lip", log_scale=1.5)
    assert report.ok, str(report)
    assert report.more_judged == ("bias",)
    assert not report.scalar_judged

    report = check(lambda image, text, log_scale: refcl.sig_lip(image, text, log_scale, -3.0)[0], "sig_lip", bias=-3.0)
    assert report.ok
    assert report.more_judged == ()
    assert "not judged: gradients (none were returned), gradient of the log_scale, gradient of the bias" in str(report)


def test_everything_doubled_with_the_bias_and_without() -> None:
    def candidate(image: Any, text: Any, log_scale: Any, bias: Any, *, keep: bool = False) -> Any:
        value, grads = refcl.sig_lip(image, text, log_scale, bias)
        doubled = tuple(2 * g for g in grads if g is not None)
        return 2 * value, (*doubled[:3], grads.dbias) if keep else doubled

    assert check(candidate, "sig_lip").verdict == "scaled-by-constant"
    half = check(lambda image, text, log_scale, bias: candidate(image, text, log_scale, bias, keep=True), "sig_lip")
    assert half.verdict == "differs"


BOUNDS = (0.0, 3.0)


def test_the_clamp_of_clip_is_tried_beyond_its_bounds() -> None:
    def through(image: Any, text: Any, log_scale: float) -> Any:
        """The gradient goes through, as of a parameter that is clamped after the step."""
        value, grads = refcl.clip(image, text, float(np.clip(log_scale, *BOUNDS)))
        return value, tuple(grads)

    report = check(lambda i, t, log_scale: refcl.clip(i, t, log_scale, clamp=BOUNDS), "clip", clamp=BOUNDS)
    assert report.ok, str(report)
    assert {"below the clamp", "above the clamp", "on the clamp"} <= {p.name for p in report.probes}
    report = check(refcl.clip, "clip", clamp=BOUNDS)
    assert not report.ok
    assert {p.name for p in report.failed} >= {"below the clamp", "above the clamp"}
    report = check(through, "clip", clamp=BOUNDS)
    assert report.verdict == "temperature-gradient-wrong", str(report)
    upper = check(lambda i, t, log_scale: refcl.clip(i, t, log_scale, clamp=(-50.0, 3.0)), "clip", clamp=BOUNDS)
    assert {p.name for p in upper.failed} == {"below the clamp", "warm"}


def test_mistakes_are_named_under_a_clamp() -> None:
    def rolled(image: Any, text: Any, log_scale: float) -> Any:
        return refcl.clip(image, np.roll(text, 1, axis=0), log_scale, clamp=BOUNDS)[0]

    assert check(rolled, "clip", clamp=BOUNDS).verdict == "positives-permuted"


def test_a_clamp_in_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch.clamp has a gradient of its own on the bound")

    def clip(image: Any, text: Any, log_scale: Any) -> Any:
        image, text = (torch.nn.functional.normalize(x, dim=1) for x in (image, text))
        logits = log_scale.clamp(*BOUNDS).exp() * image @ text.T
        labels = torch.arange(len(image))
        entropy = torch.nn.functional.cross_entropy
        return (entropy(logits, labels) + entropy(logits.T, labels)) / 2

    report = check(from_torch(clip), "clip", clamp=BOUNDS)
    assert report.ok, str(report)
    assert all(p.passed for p in report.probes)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_added_views(reduction: str) -> None:
    def candidate(a: Any, b: Any, temperature: float) -> Any:
        return refcl.nt_xent(a, b, temperature, add_views=True, reduction=reduction)

    asked: dict[str, Any] = {"reduction": reduction, "add_views": True}
    assert check(candidate, "nt_xent", **asked).ok
    averaged = check(
        lambda a, b, temperature: refcl.nt_xent(a, b, temperature, reduction=reduction), "nt_xent", **asked
    )
    # Only the mean knows how many views there are.
    assert averaged.verdict == ("scaled-by-constant" if reduction == "mean" else "correct")


def test_mistakes_are_named_where_views_are_added() -> None:
    def candidate(a: Any, b: Any, temperature: float) -> Any:
        return refcl.nt_xent(a, np.roll(b, 1, axis=0), temperature, add_views=True)[0]

    report = check(candidate, "nt_xent", add_views=True)
    assert report.verdict == "positives-permuted", str(report)


@pytest.mark.parametrize(("loss", "count"), [("inst_disc", 9), ("moco", 10), ("nce", 6)])
def test_candidates_in_a_memory_are_counted(loss: str, count: int) -> None:
    """The first batch has five anchors."""
    pair = getattr(refcl, loss)

    def over_candidates(*arrays: Any, **memory: Any) -> Any:
        rows = memory["noise"].shape[1] + 1 if loss == "nce" else len(next(iter(memory.values()))) + (loss == "moco")
        value, grads = pair(*arrays, **memory)
        return value / rows, tuple(g / rows for g in grads if g is not None)

    over_candidates.__signature__ = inspect.signature(pair)  # type: ignore[attr-defined]
    report = check(over_candidates, loss)
    assert report.verdict == "scaled-by-constant"
    assert f"1/number of candidates ({1 / count:.6g} on the first probe)" in report.findings[0].detail


@pytest.mark.parametrize(
    ("loss", "settings"),
    [("info_nce", {"label_smoothing": 0.1}), ("nt_xent", {"margin": 0.2}), ("clip", {"angular_margin": 0.3})],
)
def test_smoothing_and_margins_are_asked_for_by_name(loss: str, settings: dict[str, float]) -> None:
    """What was meant is right; without a word about it, it is another loss."""
    pair = getattr(refcl, loss)
    smoothed = lambda *arguments: pair(*arguments, **settings)  # noqa: E731
    smoothed.__signature__ = inspect.signature(pair)  # type: ignore[attr-defined]
    assert_correct(smoothed, loss, **settings)
    assert not check(smoothed, loss).ok


@pytest.mark.parametrize(
    ("loss", "asked", "said"),
    [("cmc", {"core": False}, "core=True"), ("cmc", {"core": True}, "core=False"), ("macl", {}, "detach=False")],
)
def test_another_setting_at_which_it_is_right_is_said(loss: str, asked: dict[str, Any], said: str) -> None:
    name, _, value = said.partition("=")
    pair = getattr(refcl, loss)
    report = check(lambda *arrays: pair(*arrays, 0.2, **{name: value == "True"}), loss, temperature=0.2, **asked)
    assert report.verdict == "differs"
    assert report.right_for == [said]
