"""No false alarm: other libraries' losses are correct under their own conventions, and where one is off it is shown."""

from typing import Any

import pytest
from peers import open_clip_loss

from refcl.oracle import check, from_jax, from_module, from_torch

torch = pytest.importorskip("torch", reason="the peers are written in PyTorch")
F = torch.nn.functional


def views_and_labels(a: Any, b: Any) -> Any:
    return torch.cat([a, b]), torch.arange(len(a)).repeat(2)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy(reduction: str) -> None:
    def candidate(s: Any, temperature: Any) -> Any:
        return F.cross_entropy(s / temperature, torch.arange(len(s)), reduction=reduction)

    report = check(from_torch(candidate), "softmax_contrastive", reduction=reduction)
    assert report.ok, str(report)
    assert report.gradient_judged
    assert report.scalar_judged


def test_triplet_by_hand() -> None:
    def candidate(s: Any) -> Any:
        nearest = s.masked_fill(torch.eye(*s.shape, dtype=torch.bool), -torch.inf).max(dim=1).values
        return F.relu(nearest - s.diagonal() + 0.2).mean()

    assert check(from_torch(candidate), "triplet", margin=0.2).ok


def test_pytorch_metric_learning() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses", reason="a second opinion on NT-Xent")
    for loss in (losses.NTXentLoss(temperature=0.2), losses.SupConLoss(temperature=0.2)):
        report = check(
            from_torch(lambda a, b, loss=loss: loss(*views_and_labels(a, b))),
            "nt_xent", temperature=0.2, passes_scalar=False,
        )  # fmt: skip
        assert report.ok, str(report)


def test_pytorch_metric_learning_is_shown_where_it_is_off() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses", reason="its log(p + tiny) is what is tested")

    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        return losses.NTXentLoss(temperature=temperature)(*views_and_labels(a, b))

    report = check(from_torch(candidate), "nt_xent")
    assert report.verdict == "epsilon-in-log", str(report)
    assert [p.name for p in report.failed] == ["cold float32", "coldest"]
    assert "finfo(dtype).tiny" in report.findings[0].detail


def test_info_nce_pytorch() -> None:
    info_nce = pytest.importorskip("info_nce", reason="a second opinion on InfoNCE")
    assert check(from_torch(lambda q, k, temperature: info_nce.info_nce(q, k, temperature=temperature)), "info_nce").ok
    assert check(from_module(info_nce.InfoNCE(temperature=0.1)), "info_nce", temperature=0.1).ok


def test_open_clip() -> None:
    """Its losses take rows that are on the sphere and the scale itself, not its logarithm."""
    losses = open_clip_loss()

    def clip(image: Any, text: Any, log_scale: Any) -> Any:
        return losses.ClipLoss()(F.normalize(image, dim=1), F.normalize(text, dim=1), log_scale.exp())

    def sig_lip(image: Any, text: Any, log_scale: Any) -> Any:
        bias = torch.tensor(-10.0, dtype=image.dtype)
        return losses.SigLipLoss()(F.normalize(image, dim=1), F.normalize(text, dim=1), log_scale.exp(), bias)

    for candidate, loss in ((clip, "clip"), (sig_lip, "sig_lip")):
        report = check(from_torch(candidate), loss)
        assert report.ok, str(report)
        assert report.gradient_judged
        assert report.scalar_judged
    as_they_come = check(from_torch(lambda i, t, log_scale: losses.ClipLoss()(i, t, log_scale.exp())), "clip")
    assert as_they_come.verdict == "not-normalized"
    assert check(
        from_torch(lambda i, t, log_scale: losses.ClipLoss()(i, t, log_scale.exp())), "clip", normalize=False
    ).ok


@pytest.mark.slow
def test_optax() -> None:
    jax = pytest.importorskip("jax", reason="optax needs JAX")
    optax = pytest.importorskip("optax", reason="a second opinion on NT-Xent")

    def candidate(a: Any, b: Any) -> Any:
        labels = jax.numpy.tile(jax.numpy.arange(len(a)), 2)
        return optax.losses.ntxent(jax.numpy.concatenate([a, b]), labels, 0.2)

    report = check(from_jax(candidate), "nt_xent", temperature=0.2)
    assert report.ok, str(report)
    assert report.gradient_judged


def test_jax_in_double_precision_with_its_temperature() -> None:
    jax = pytest.importorskip("jax", reason="the adapter is JAX's")

    def candidate(s: Any, temperature: Any) -> Any:
        logits = s / temperature
        return jax.numpy.mean(jax.nn.logsumexp(logits, axis=1) - jax.numpy.diagonal(logits))

    report = check(from_jax(candidate), "softmax_contrastive", shape=(4, 6))
    assert report.ok, str(report)
    assert report.scalar_judged
    wrong = check(from_jax(lambda s, temperature: candidate(s, 1.0)), "softmax_contrastive", shape=(4, 6))
    assert wrong.verdict == "temperature-missing"


class Learned(torch.nn.Module):
    def __init__(self, start: float) -> None:
        super().__init__()
        self.held = torch.nn.Parameter(torch.tensor(start))


class LearnedClip(Learned):
    def forward(self, image: Any, text: Any) -> Any:
        logits = self.held.exp() * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
        labels = torch.arange(len(image))
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


class LearnedInfoNCE(Learned):
    def forward(self, query: Any, key: Any) -> Any:
        logits = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T * self.scale()
        return F.cross_entropy(logits, torch.arange(len(query)))

    def scale(self) -> Any:
        return 1 / self.held


class LearnedScale(LearnedInfoNCE):
    def scale(self) -> Any:
        return self.held


class LearnedLogScale(LearnedInfoNCE):
    def scale(self) -> Any:
        return self.held.exp()


class LogScaleTakenForScale(LearnedInfoNCE):
    def scale(self) -> Any:
        return self.held


@pytest.mark.parametrize(
    ("module", "loss", "holds", "verdict"),
    [
        (LearnedClip(2.6), "clip", "temperature", "correct"),
        (LearnedInfoNCE(0.1), "info_nce", "temperature", "correct"),
        (LearnedScale(10.0), "info_nce", "scale", "correct"),
        (LearnedLogScale(2.3), "info_nce", "log_scale", "correct"),
        (LogScaleTakenForScale(2.3), "info_nce", "log_scale", "log-scale-not-exponentiated"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, torch.nn.Module) else str(x),
)
def test_modules_with_a_parameter(module: Any, loss: str, holds: str, verdict: str) -> None:
    report = check(from_module(module, holds=holds), loss)
    assert report.verdict == verdict, str(report)
    assert report.scalar_judged


def test_a_module_without_that_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match="the module has no parameter 'tau'; it has held"):
        from_module(LearnedClip(2.6), parameter="tau")
    with pytest.raises(ValueError, match="holds must be one of"):
        from_module(LearnedClip(2.6), holds="nothing")


def test_an_upstream_goes_through_autograd() -> None:
    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        z = F.normalize(torch.cat([a, b]), dim=1)
        logits = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
        labels = torch.arange(len(z)).roll(len(a))
        return F.cross_entropy(logits, labels, reduction="none")

    report = check(from_torch(candidate), "nt_xent", reduction="none")
    assert report.ok, str(report)
    assert report.notes == []


def test_a_tensor_without_its_adapter_is_said() -> None:
    report = check(lambda a, b: torch.ones(()), "nt_xent", temperature=0.2)
    assert report.reason == "the value is a torch tensor; wrap the function in from_torch."
    report = check(from_torch(lambda a, b: 1.0), "nt_xent", temperature=0.2)
    assert "returned a float; expected a tensor" in report.reason
