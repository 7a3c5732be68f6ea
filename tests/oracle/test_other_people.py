"""What losses of other people do, which nobody wrote for the oracle: each kind of it, in a few lines of our own."""

import math
from typing import Any

import numpy as np
import pytest

import refcl
from refcl.oracle import check, from_module, from_torch


def unit(x: Any) -> Any:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def softmax_loss(logits: Any) -> Any:
    top = logits.max(axis=1)
    return np.mean(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - np.diag(logits))


# Numbers that are right to single precision, and wrong besides.


def test_a_constant_in_single_precision_hides_no_other_mistake() -> None:
    def raw_exponentials(query: Any, key: Any, temperature: Any) -> Any:
        e = np.exp(unit(query) @ unit(key).T / np.float64(np.float32(temperature)))
        return np.mean(-np.log(np.diag(e) / e.sum(axis=1)))

    report = check(raw_exponentials, "info_nce")
    assert report.verdict == "overflow-at-small-temperature", str(report)

    def with_itself(a: Any, b: Any, temperature: Any) -> Any:
        z, n = unit(np.concatenate([a, b])), len(a)
        logits = z @ z.T / np.float64(np.float32(temperature))
        return softmax_loss(np.roll(logits, n, axis=1))

    report = check(with_itself, "nt_xent")
    assert report.verdict == "self-in-denominator", str(report)
    assert "a constant in float32" in str(report)


def test_a_setting_is_found_through_a_constant_in_single_precision() -> None:
    def inside(z: Any, labels: Any) -> Any:
        s = unit(z) @ unit(z).T / 0.5
        other = ~np.eye(len(z), dtype=bool)
        same = (labels[:, None] == labels) & other
        count = same.sum(axis=1)
        if not count.all():
            raise ValueError("every row needs another one of its class")
        e = np.exp(s - s.max())
        near = np.log((e * same).sum(axis=1)) - np.float64(np.log(count.astype(np.float32)))
        return np.mean(np.log((e * other).sum(axis=1)) - near)

    report = check(inside, "sup_con", temperature=0.5)
    assert report.verdict.startswith("log-of-mean")
    assert report.right_for == ['form="in"'], str(report)
    report = check(inside, "sup_con", temperature=0.5, form="in")
    assert report.ok, str(report)


def test_single_precision_inside_is_no_wrong_gradient() -> None:
    torch = pytest.importorskip("torch", reason="single precision inside, with a gradient, is PyTorch's")

    def clipped(query: Any, key: Any) -> Any:
        s = (query @ key.T).float()
        logits = 3 * torch.tanh(s / 3)
        return torch.nn.functional.cross_entropy(logits, torch.arange(len(s)))

    report = check(from_torch(clipped), "info_nce", temperature=1.0, normalize=False)
    assert not report.ok
    assert "is not that of the value" not in str(report)


def test_a_shift_that_is_not_put_back() -> None:
    def shifted(query: Any, key: Any, temperature: Any) -> Any:
        loss, grads = refcl.info_nce(query, key, temperature)
        return loss - np.mean(np.max(unit(query) @ unit(key).T, axis=1)), grads

    said = str(check(shifted, "info_nce"))
    assert "the gradients are right, and are not those of this value" in said
    assert "is not that of the value" not in said


# What a loss refuses.


def refusing(error: type[Exception]) -> Any:
    def mine(z: Any, temperature: Any, labels: Any) -> Any:
        if error is ValueError and np.min(np.unique(labels, return_counts=True)[1]) < 2:
            raise ValueError("every class needs two rows")
        of_two = np.array([np.flatnonzero((labels == c) & (np.arange(len(z)) != i))[0] for i, c in enumerate(labels)])
        assert len(of_two) == len(z)
        return refcl.sup_con(z, temperature, labels=labels)

    return mine


def test_a_loss_may_refuse_a_class_of_one() -> None:
    report = check(refusing(ValueError), "sup_con", temperature=0.2)
    assert report.ok, str(report)
    assert "It refuses a batch, which was not judged: the candidate raised ValueError" in str(report)
    by_accident = check(refusing(IndexError), "sup_con", temperature=0.2)
    assert by_accident.verdict == "not judged"


# What gets no gradient on purpose.


def test_what_to_ask_where_the_temperature_is_a_plain_number() -> None:
    def plain(query: Any, key: Any, temperature: Any) -> Any:
        loss, grads = refcl.info_nce(query, key, temperature)
        return loss, (grads.dquery, grads.dkey, 0.0)

    report = check(plain, "info_nce")
    assert report.verdict == "temperature-gradient-wrong"
    assert 'it would be right for detached=("temperature",)' in str(report)
    assert check(plain, "info_nce", detached=("temperature",)).ok


def test_what_to_ask_where_the_keys_are_the_momentum_encoders() -> None:
    def momentum(query: Any, key: Any, temperature: Any) -> Any:
        loss, grads = refcl.info_nce(query, key, temperature)
        return loss, (grads.dquery, np.zeros_like(key), grads.dtemperature)

    report = check(momentum, "info_nce")
    assert report.verdict == "keys-detached"
    assert 'it would be right for detached=("key",)' in str(report)


# Bounds of the log-scale.


def test_bounds_that_nobody_asked_for_are_said() -> None:
    def bounded(image: Any, text: Any, log_scale: Any) -> Any:
        return refcl.clip(image, text, float(np.clip(log_scale, 0.0, math.log(100))))[0]

    said = str(check(bounded, "clip"))
    assert "the temperature is clamped: at most 1, at least 0.01" in said


def test_a_parameter_that_is_clamped_in_place() -> None:
    torch = pytest.importorskip("torch", reason="the module is PyTorch's")
    normalize = torch.nn.functional.normalize

    class InPlace(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_scale = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, image: Any, text: Any) -> Any:
            self.log_scale.data.clamp_(0.0, math.log(100))
            logits = self.log_scale.exp() * normalize(image) @ normalize(text).T
            labels = torch.arange(len(image))
            both = (
                torch.nn.functional.cross_entropy(logits, labels),
                torch.nn.functional.cross_entropy(logits.T, labels),
            )
            return sum(both) / 2

    report = check(from_module(InPlace()), "clip", clamp=(0.0, math.log(100)))
    assert report.ok, str(report)
    assert "It moves its parameter log_scale in place" in str(report)


# Penalties and columns.


@pytest.mark.parametrize("distance", ["euclidean", "squared", "cosine"])
def test_a_soft_margin_of_a_triplet(distance: str) -> None:
    def soft(anchor: Any, positive: Any, negative: Any) -> Any:
        def far(x: Any) -> Any:
            if distance == "cosine":
                return 1 - np.sum(unit(anchor) * unit(x), axis=1)
            squares = np.sum((anchor - x) ** 2, axis=1)
            return squares if distance == "squared" else np.sqrt(squares)

        return np.mean(np.logaddexp(0.0, far(positive) - far(negative)))

    said = str(check(soft, "triplet_margin", distance=distance))
    assert "a softplus (soft margin, log(1 + exp)) stands where the hinge belongs: softplus of gap + 0." in said


def test_rows_that_are_cut_short() -> None:
    said = str(check(lambda a, b: refcl.info_nce(a[:, :3], b[:, :3], 0.2)[0], "info_nce", temperature=0.2))
    assert "the first 3 of 12 columns of the embeddings count, the others have no effect" in said


# What a loss comes in, and what to type.


def test_a_loss_in_a_dictionary() -> None:
    torch = pytest.importorskip("torch", reason="from_torch is PyTorch's")

    def value(s: Any) -> Any:
        return torch.nn.functional.cross_entropy(s / 0.2, torch.arange(len(s)))

    class Output(dict):  # type: ignore[type-arg]
        def __init__(self, loss: Any) -> None:
            super().__init__()
            self.loss = loss

    for wrapped in (
        lambda s: {"contrastive_loss": value(s), "logits": s},
        lambda s: Output(value(s)),
        lambda s: {"loss": value(s), "other_loss": s.sum()},
    ):
        report = check(from_torch(wrapped), "softmax_contrastive", temperature=0.2)
        assert report.ok, str(report)
    report = check(
        from_torch(lambda s: {"first_loss": value(s), "second_loss": value(s)}), "softmax_contrastive", temperature=0.2
    )
    assert report.reason == (
        "the function returned a dict with first_loss, second_loss; expected a tensor that is the loss, such as"
        ' lambda *x: mine(*x)["loss"] hands on.'
    )


def test_a_module_that_takes_more_than_the_loss_has() -> None:
    torch = pytest.importorskip("torch", reason="the module is PyTorch's")

    class Apart(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_scale = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, ref: Any, pos: Any, neg: Any) -> Any:
            return (ref * pos * neg).sum()

    report = check(from_module(Apart(), holds="log_scale"), "info_nce")
    assert report.reason == (
        "the candidate requires 3 positional arguments (ref, pos, neg); info_nce gives it query, key."
    )


def test_a_factor_that_is_meant_is_said_as_it_is_typed() -> None:
    report = check(lambda a, b: 2 * refcl.nt_xent(a, b, 0.2)[0], "nt_xent", temperature=0.2)
    assert 'if that is meant, say scale="2"' in str(report)


def test_a_setting_that_a_loss_does_not_have() -> None:
    with pytest.raises(ValueError, match="positive_in_denominator is for losses with one softmax an anchor, not for"):
        check(refcl.moco, "moco", positive_in_denominator=False)


def test_a_setting_out_of_its_range_is_said_by_the_loss_itself() -> None:
    with pytest.raises(ValueError, match="angular_margin"):
        check(refcl.nt_xent, "nt_xent", angular_margin=-0.1)
