"""Losses whose anchors have weights or temperatures of their own, or whose negatives are estimated: what differs."""

from typing import Any

import numpy as np
import pytest

from refcl.hardness import temperature_for_entropy
from refcl.oracle import check


def unit(x: Any) -> Any:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def stacked(a: Any, b: Any) -> tuple[Any, Any, Any]:
    """Return the positives' similarities (2N,), all of them (2N, 2N), and which are negatives."""
    z, n = unit(np.concatenate([a, b])), len(a)
    s = z @ z.T
    return s[np.arange(2 * n), np.roll(np.arange(2 * n), n)], s, ~np.tile(np.eye(n, dtype=bool), (2, 2))


def plain(s: Any) -> tuple[Any, Any, Any]:
    return np.diagonal(s), s, ~np.eye(*s.shape, dtype=bool)


def log_sum(x: Any, over: Any) -> Any:
    x = np.where(over, x, -np.inf)
    top = np.max(x, axis=1)
    return top + np.log(np.sum(np.exp(x - top[:, None]), axis=1))


def softmax_mean(x: Any) -> Any:
    return np.exp(x - np.max(x)) / np.mean(np.exp(x - np.max(x)))


def weighted(mistake: str, pos: Any, s: Any, off: Any, t: float, sigma: float = 0.5) -> Any:
    if mistake == "over tau":
        sigma = t
    r = softmax_mean(pos / sigma)
    w = {"not flipped": r, "wider": 2 - r**1.5, "added": 2 + r, "scaled": 1.25 * (2 - r), "squared": (2 - r) ** 2}
    weight, x = w.get(mistake, 2 - r), pos / t
    negatives = log_sum(s / t, off)
    if mistake == "everything":
        return weight * (negatives - x)
    if mistake == "negatives":
        return weight * negatives - x
    if mistake == "not flipped, everything":
        return r * (negatives - x)
    return negatives - weight * x


def estimated(mistake: str, pos: Any, s: Any, off: Any, t: float, plus: float, beta: float = 0.0) -> Any:
    count = np.sum(off, axis=1)
    power = {"sign of beta": -beta / t, "beta without tau": beta}.get(mistake, beta / t)
    w = np.where(off, np.exp(power * s), 0.0)
    mean = {"batch": np.full(len(s), w[off].mean()), "sum": np.sum(w, axis=1), "twice": 2 * np.sum(w, axis=1) / count}
    total = np.sum(w * np.exp((s - pos[:, None]) / t), axis=1) / mean.get(mistake, np.sum(w, axis=1) / count)
    k = {"count": len(s) / 2, "one": 1.0}.get(mistake, count)
    correction = {"added": -plus * k, "no share": k, "no correction": 0.0 * k}.get(mistake, plus * k)
    divisor = {"no division": 1.0, "plus": plus, "sign of divisor": 1 + plus}.get(mistake, 1 - plus)
    estimate = (total - correction) / divisor
    if mistake == "sum alone divided":
        estimate = total / divisor - correction
    floor = {"floor turned": np.exp(1 / t), "floor of tau": np.exp(-t), "high floor": 0.7}.get(mistake, np.exp(-1 / t))
    least = {"no K": floor, "added floor": 0.0 * count}.get(mistake, count * floor) * np.exp(-pos / t)
    return np.log1p(np.maximum(estimate, least))


def softmax(pos: Any, s: Any, off: Any, t: Any) -> Any:
    t = np.broadcast_to(t, pos.shape)
    return np.logaddexp(0.0, log_sum(s / t[:, None], off) - pos / t)


def aware(mistake: str, pos: Any, s: Any, off: Any, t: float, alpha: float = 0.5) -> Any:
    different = ~np.eye(*s.shape, dtype=bool)
    alignment = {"all": s[different].mean(), "negatives": s[off].mean(), "own": pos, "nearest": np.max(pos)}
    a = alignment.get(mistake, np.mean(pos))
    growth = {"sign": 1 - alpha * a, "inverse": 1 / (1 + alpha * a), "no one": alpha * a}
    loss = softmax(pos, s, off, t * growth.get(mistake, 1 + alpha * a))
    p = np.exp(-loss)
    weight = {"no weight": 1.0, "times": 1 - p, "of P": 1 / p, "mean": 1 / np.mean(1 - p), "root": (1 - p) ** -0.4}
    if mistake in weight:
        return loss * weight[mistake]
    return np.where(loss < 1e-12, 1.0, loss / -np.expm1(-np.maximum(loss, 1e-12)))


def by_anchor(mistake: str, pos: Any, s: Any, off: Any, t: Any) -> Any:
    tau = {
        "relative": t / np.mean(t),
        "of sum": t / np.sum(t),
        "more": t + 0.1,
        "mean": np.mean(t),
        "late": np.roll(t, 1),
    }
    weight = {"times": t, "over": 1 / t, "power": t**0.3, "relative weight": t / np.mean(t)}
    tau |= {"clamped": np.maximum(t, 0.25), "half": 0.5 * t + 0.5 * np.mean(t)}
    return softmax(pos, s, off, tau.get(mistake, t)) * weight.get(mistake, 1.0)


def entropy_of(s: Any, off: Any, t: float) -> Any:
    log_p = s / t - log_sum(s / t, off)[:, None]
    return -np.sum(np.where(off, np.exp(log_p) * log_p, 0.0), axis=1)


def fixed_entropy(mistake: str, pos: Any, s: Any, off: Any, entropy: float) -> Any:
    share = entropy * np.log(s.shape[1] - 1) if mistake == "share" else entropy
    t = temperature_for_entropy(s, share)
    if mistake == "with positive":
        wide = np.concatenate([s, np.zeros((len(s), 1))], axis=1)
        t = temperature_for_entropy(wide, entropy, positive=np.full(len(s), s.shape[1]))
    elif mistake == "batch":
        low, high = np.log(np.min(t)) - 1e-9, np.log(np.max(t)) + 1e-9
        for _ in range(60):
            middle = (low + high) / 2
            less = np.mean(entropy_of(s, off, np.exp(middle))) < entropy
            low, high = (middle, high) if less else (low, middle)
        t = np.exp(middle)
    return softmax(pos, s, off, {"mean": np.mean(t), "warm": 1.2 * t}.get(mistake, t))


def align_uniform(mistake: str) -> Any:
    def uniformity(z: Any) -> Any:
        d = np.sum((z[:, None] - z) ** 2, axis=-1)[~np.eye(len(z), dtype=bool)].reshape(len(z), -1)
        e = np.exp(-2 * (np.sqrt(d) if mistake == "not squared" else d))
        rows = {"rows": np.log(e.mean(1)).mean(), "sums": np.log(e.sum(1)).mean(), "sum": np.log(np.sum(e))}
        return (rows | {"no log": np.mean(e)}).get(mistake, np.log(np.mean(e)))

    def candidate(a: Any, b: Any) -> Any:
        a, b = unit(a), unit(b)
        d = np.linalg.norm(a - b, axis=1)
        aligned = {"power outside": np.mean(d) ** 2, "log": np.log(np.mean(d**2))}.get(mistake, np.mean(d**2))
        return aligned + (uniformity(a) + uniformity(b)) / 2

    return candidate


def candidate(loss: str, mistake: str, settings: dict[str, Any]) -> Any:
    """Return a loss of one kind with one mistake in it, without a gradient."""
    reduce = {"sum": np.sum, "none": np.asarray}.get(settings.get("reduction", "mean"), np.mean)
    t, numbers = settings.get("temperature"), [settings[k] for k in ("tau_plus", "beta", "entropy") if k in settings]
    if loss == "align_uniform":
        return align_uniform(mistake)
    if loss in ("dclw", "debiased", "hcl", "macl"):
        kind = {"dclw": weighted, "macl": aware}.get(loss, estimated)
        if t is None:
            return lambda a, b, temperature: reduce(kind(mistake, *stacked(a, b), temperature, *numbers))
        return lambda a, b: reduce(kind(mistake, *stacked(a, b), t, *numbers))
    if loss == "fixed_entropy_contrastive":
        return lambda s: reduce(fixed_entropy(mistake, *plain(s), *numbers))
    kinds = {"weighted_decoupled_contrastive": weighted, "reweighted_contrastive": estimated}
    kind = (kinds | {"model_aware_contrastive": aware}).get(loss, by_anchor)
    if t is not None:
        return lambda s: reduce(kind(mistake, *plain(s), t, *numbers))
    return lambda s, temperature: reduce(kind(mistake, *plain(s), temperature, *numbers))


DEBIASED = ("debiased", {"tau_plus": 0.1, "temperature": 0.5})
HCL = ("hcl", {"tau_plus": 0.2, "beta": 1.5, "temperature": 0.5})
REWEIGHTED = ("reweighted_contrastive", {"tau_plus": 0.15, "beta": 1.2, "temperature": 0.3})
WEIGHTED = ("weighted_decoupled_contrastive", {})
PER_ANCHOR, FIXED = ("per_anchor_contrastive", {}), ("fixed_entropy_contrastive", {"entropy": 0.9})
CASES = [
    (("dclw", {"temperature": 0.1}), "not flipped", '"2 -" is missing'),
    (("dclw", {"reduction": "sum"}), "everything", "multiplies the whole loss of an anchor"),
    (("dclw", {}), "not flipped, everything", '"2 -" is missing'),
    (WEIGHTED, "not flipped", '"2 -" is missing'),
    (WEIGHTED, "negatives", "multiplies the logarithm of the negatives' sum"),
    (WEIGHTED, "added", "the sign of r is turned"),
    (WEIGHTED, "scaled", "are 1.25 (2 - r)"),
    (WEIGHTED, "squared", "are (2 - r)²"),
    (WEIGHTED, "over tau", "it is right where sigma is τ"),
    (DEBIASED, "added", "it is added, not subtracted"),
    (DEBIASED, "no division", "the division by 1 - τ⁺ is missing"),
    (DEBIASED, "sign of divisor", "the sign in the divisor is turned"),
    (DEBIASED, "no correction", "it is left out (missing)"),
    (DEBIASED, "count", "counts is N, in the correction;"),
    (("debiased", {"tau_plus": 0.4, "temperature": 0.5}), "no K", "K is missing in it"),
    (("debiased", {"tau_plus": 0.4, "temperature": 0.5}), "high floor", "the floor (clamp) of the estimate is 0.7 K"),
    (
        ("debiased", {"tau_plus": 0.2, "temperature": 0.4, "reduction": "none"}),
        "no division",
        "the division by 1 - τ⁺ is missing",
    ),
    (HCL, "batch", "their mean over the whole batch"),
    (HCL, "sum", "divided by their sum"),
    (HCL, "twice", "divided by 2 times their mean"),
    (HCL, "sign of beta", "its sign is turned, far negatives weigh more"),
    (HCL, "sum alone divided", "the correction is not divided"),
    (REWEIGHTED, "added", "it is added, not subtracted"),
    (REWEIGHTED, "batch", "their mean over the whole batch"),
    (REWEIGHTED, "no share", "τ⁺ is missing in it"),
    (REWEIGHTED, "beta without tau", "beta · τ"),
    (("macl", {}), "no weight", "the weight 1/(1 - P) is missing"),
    (("macl", {}), "sign", "the sign of alpha is turned"),
    (("macl", {}), "all", "all pairs, not the positives alone"),
    (("macl", {"temperature": 0.3}), "inverse", "divided, not multiplied"),
    (("macl", {"temperature": 0.3}), "root", "weight (1 - P)^-0.4"),
    (("model_aware_contrastive", {}), "negatives", "the mean of the negatives' similarities"),
    (("model_aware_contrastive", {}), "own", "a temperature for each anchor, not one for all"),
    (("model_aware_contrastive", {}), "times", "multiplied, not divided"),
    (("model_aware_contrastive", {}), "mean", "one for all anchors, not each anchor's own"),
    (FIXED, "with positive", "the positive is among them"),
    (FIXED, "batch", "one for the whole batch, not one for each anchor"),
    (FIXED, "mean", "the mean of all anchors' temperatures"),
    (FIXED, "share", "H is taken for a share of the greatest"),
    (FIXED, "warm", "is 1.2 times that at which"),
    (PER_ANCHOR, "times", "multiplied (weighted, scaled) by its temperature τ_i"),
    (PER_ANCHOR, "power", "by τ_i^0.3"),
    (PER_ANCHOR, "relative weight", "τ_i over the mean of all"),
    (PER_ANCHOR, "relative", "is τ_i over the mean of all: they are relative"),
    (PER_ANCHOR, "more", "is τ_i + 0.1"),
    (PER_ANCHOR, "clamped", "is max(τ_i, 0.25)"),
    (PER_ANCHOR, "half", "mixed with the mean of all, 0.5 of that"),
    (PER_ANCHOR, "late", "that of the anchor before"),
    (("align_uniform", {}), "rows", "the logarithm is inside the mean, row by row"),
    (("align_uniform", {}), "sums", "log Σ e: the logarithm is inside the mean, row by row"),
    (("align_uniform", {}), "sum", "a sum, not a mean over the pairs"),
    (("align_uniform", {}), "no log", "the logarithm is missing"),
    (("align_uniform", {}), "not squared", "the distance is not squared"),
    (("align_uniform", {}), "power outside", "the power stands outside the mean"),
]


@pytest.mark.parametrize(("asked", "mistake", "said"), CASES)
def test_the_part_that_is_made_otherwise_is_said(asked: tuple[str, Any], mistake: str, said: str) -> None:
    loss, settings = asked
    report = check(candidate(loss, mistake, settings), loss, **settings)
    assert report.verdict == "differs"
    assert any(said in d.what for d in report.differences), [d.what for d in report.differences]


@pytest.mark.parametrize("asked", list({repr(case[0]): case[0] for case in CASES}.values()), ids=repr)
def test_without_a_mistake_it_is_correct(asked: tuple[str, Any]) -> None:
    assert check(candidate(asked[0], "", asked[1]), asked[0], **asked[1]).verdict == "correct"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "mistake"), [(("dclw", {"temperature": 0.1}), "wider"), (HCL, "odd"), (FIXED, "odd")]
)
def test_what_no_menu_has_is_not_said_of_a_sum(asked: tuple[str, Any], mistake: str) -> None:
    loss, settings = asked
    right = candidate(loss, mistake if mistake == "wider" else "", settings)
    other = right if mistake == "wider" else lambda *x: right(*x) + np.std(plain(x[0] @ x[-1].T)[0])
    report = check(other, loss, **settings)
    assert not report.ok
    assert not any("denominator" in d.what or "weight" in d.what.partition("count")[2] for d in report.differences)
