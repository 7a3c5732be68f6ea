"""The losses that have no recipe of their own: refcl's pair is the reference, and what lies around a loss is named."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import refcl.losses
from refcl import Pair
from refcl.oracle import check, from_torch
from refcl.oracle.questions import row_of

NEEDS: dict[str, dict[str, Any]] = {
    "fixed_entropy": {"entropy": 0.7},
    "fixed_entropy_contrastive": {"entropy": 0.5},
    "reweighted_contrastive": {"tau_plus": 0.1},
    "debiased": {"tau_plus": 0.1},
    "hcl": {"tau_plus": 0.1, "beta": 1.0},
}
FAMILY = sorted(
    name
    for name in refcl.losses.__all__
    if isinstance(getattr(refcl.losses, name), Pair) and "pool" not in row_of(name).recipe
)


def candidate_of(name: str, reduction: str) -> Callable[..., Any]:
    pair: Pair = getattr(refcl.losses, name)
    settings = dict(NEEDS.get(name, {}))
    if "reduction" in pair.settings:
        settings["reduction"] = reduction

    def candidate(*arguments: Any, upstream: Any = None, **companions: Any) -> Any:
        return pair(*arguments, upstream=upstream, **settings, **companions)

    given = [p for p in inspect.signature(pair).parameters.values() if p.name not in NEEDS.get(name, {})]
    candidate.__signature__ = inspect.Signature(given)  # type: ignore[attr-defined]
    return candidate


def passes(name: str) -> bool:
    arguments = getattr(refcl.losses, name).arguments
    return name != "per_anchor_contrastive" and ("temperature" in arguments or "log_scale" in arguments)


@pytest.mark.parametrize(
    ("name", "reduction"),
    [
        *((name, "mean") for name in FAMILY),
        *(pytest.param(name, "none", marks=[pytest.mark.slow] if i % 4 else []) for i, name in enumerate(FAMILY)),
    ],
)
def test_refcl_itself_is_correct(name: str, reduction: str) -> None:
    settings = dict(NEEDS.get(name, {}))
    if "reduction" in getattr(refcl.losses, name).settings:
        settings["reduction"] = reduction
    report = check(candidate_of(name, reduction), name, passes_scalar=passes(name), **settings)
    assert report.ok, str(report)
    assert report.gradient_judged
    assert report.indistinguishable == []
    assert all(p.worst.distance < 0.2 for p in report.probes)


@pytest.mark.parametrize(
    ("name", "factor", "verdict"),
    [
        *((name, 2.0, "scaled-by-constant") for name in FAMILY),
        *(
            pytest.param(name, 0.0, "gradient-zero", marks=[pytest.mark.slow] if i % 4 else [])
            for i, name in enumerate(FAMILY)
        ),
    ],
)
def test_zero_and_doubled_gradients_are_named(name: str, factor: float, verdict: str) -> None:
    right = candidate_of(name, "mean")

    def scaled(*arguments: Any, **companions: Any) -> Any:
        value, grads = right(*arguments, **companions)
        return value, tuple(
            tuple(x * factor for x in g) if isinstance(g, tuple) else g * factor for g in grads if g is not None
        )

    scaled.__signature__ = inspect.signature(right)  # type: ignore[attr-defined]
    report = check(scaled, name, passes_scalar=passes(name), **NEEDS.get(name, {}))
    assert report.verdict == verdict, str(report)


DCL = refcl.losses.dcl


def over(x: Any) -> Any:
    return x / np.linalg.norm(x)


@pytest.mark.parametrize(
    ("verdict", "wrong"),
    [
        ("temperature-missing", lambda a, b: DCL(a, b, 1.0)[0]),
        ("temperature-inverted", lambda a, b: DCL(a, b, 5.0)[0]),
        ("not-normalized", lambda a, b: DCL(a, b, 0.2, normalize=False)),
        ("normalized-whole-tensor", lambda a, b: DCL(over(a), over(b), 0.2, normalize=False)[0]),
        ("positives-permuted", lambda a, b: DCL(a, np.roll(b, 1, axis=0), 0.2)[0]),
        ("keys-detached", lambda a, b: (DCL(a, b, 0.2)[0], (DCL(a, b, 0.2)[1].da, np.zeros_like(b)))),
        ("offset-by-constant", lambda a, b: DCL(a, b, 0.2)[0] + np.log(len(a))),
        ("scaled-by-constant", lambda a, b: 2 * DCL(a, b, 0.2)[0]),
        ("temperature-missing + not-normalized", lambda a, b: DCL(a, b, 1.0, normalize=False)[0]),
        ("differs", lambda a, b: DCL(a, b, 0.05)[0]),
    ],
)  # fmt: skip
def test_what_lies_around_a_loss_is_named(verdict: str, wrong: Callable[..., Any]) -> None:
    report = check(lambda a, b: drop_scalar(wrong(a, b)), "dcl", temperature=0.2)
    assert report.verdict == verdict, str(report)


def drop_scalar(answer: Any) -> Any:
    return (answer[0], tuple(answer[1])[:2]) if isinstance(answer, tuple) else answer


def test_a_queue_comes_with_one_shape() -> None:
    queue = np.random.default_rng(0).standard_normal((5, 6))

    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        return refcl.moco(query, key, temperature, queue=queue.astype(query.dtype))

    assert check(candidate, "moco", queue=queue, shape=(4, 6)).ok

    def takes_it(query: Any, key: Any, temperature: Any, queue: Any) -> Any:
        return refcl.moco(query, key, temperature, queue=queue)

    assert check(takes_it, "moco", queue=queue, shape=(4, 6)).ok
    assert check(takes_it, "moco").ok  # one is made


def test_labels_are_handed_over_by_name() -> None:
    report = check(lambda z: 1.0, "sup_con", temperature=0.2)
    assert report.reason == (
        "sup_con needs labels: the candidate must take it by that name: "
        "lambda z, labels: mine(…), with its own arguments in their order."
    )


def test_peers_of_the_family() -> None:
    torch = pytest.importorskip("torch", reason="the peers are written in PyTorch")

    def sig_lip(image: Any, text: Any, log_scale: Any) -> Any:
        image, text = (torch.nn.functional.normalize(x, dim=1) for x in (image, text))
        logits = image @ text.T * log_scale.exp() - 10.0
        sign = 2 * torch.eye(len(logits), dtype=logits.dtype) - 1
        return -torch.nn.functional.logsigmoid(sign * logits).sum() / len(logits)

    assert check(from_torch(sig_lip), "sig_lip").ok
    assert check(from_torch(lambda i, t, log_scale: sig_lip(i, t, log_scale) / len(i)), "sig_lip").verdict == (
        "scaled-by-constant"
    )
    losses = pytest.importorskip("pytorch_metric_learning.losses", reason="a second opinion on SupCon")

    def sup_con(z: Any, labels: Any) -> Any:
        return losses.SupConLoss(temperature=0.1)(z, labels)

    assert check(from_torch(sup_con), "sup_con", temperature=0.1, no_positive="skip").ok
