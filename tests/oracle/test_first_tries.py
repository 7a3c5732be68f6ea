"""Calls as people first make them: what is said, and what to type instead."""

from typing import Any

import numpy as np
import pytest

import refcl
from refcl.oracle import check, explain_value, from_jax, from_module, from_torch, gradcheck, numeric, world


def info_nce(query: Any, key: Any, temperature: Any) -> Any:
    return refcl.info_nce(query, key, temperature)[0]


def one_waits(query: Any, key: Any, temperature: Any, comm: Any) -> Any:
    if comm.rank == 0:
        comm.all_gather(query)
    return 0.0


REFUSED = (
    (lambda: check(info_nce, "info_nce", shape=32), r"shape must be \(N, D\), two ints .* got 32"),
    (lambda: check(info_nce, "info_nce", shape=(1, 8)), r"N is at least 2; got \(1, 8\)"),
    (lambda: check(info_nce, "info_nce", extra_keys="two"), "extra_keys must be an int, at least 0; got 'two'"),
    (lambda: check(info_nce, "info_nce", temperature=[0.1]), "temperature must be a number, got list"),
    (lambda: check(info_nce, "info_nce", scale=[2]), "scale must be a number or the name of one, got list"),
    (lambda: check(info_nce, "info_nce", positive="diagonal"), r"positive must be an \(N,\) array of integers"),
    (lambda: check(info_nce, "info_nce", tau=0.1), "no setting 'tau'; say temperature="),
    (lambda: check(info_nce, "info_nce", temprature=0.1), "no setting 'temprature'; say temperature="),
    (lambda: check(info_nce, "info_nce", batch_size=32), r"say shape=\(N, D\)"),
    (lambda: check(info_nce, "simclr"), "did you mean nt_xent"),
    (lambda: check(info_nce, "info_nce", inputs={"query": 1}), "tuple of query, key, in this order; got a dict"),
    (lambda: check(info_nce, "info_nce", inputs=(np.ones((3, 4), np.float16),) * 2), "float64, got float16; convert"),
    (lambda: world(info_nce, "info_nce", ranks="2"), "ranks must be an int, at least 2; got '2'"),
    (lambda: world(info_nce, "info_nce", world_size=4), r"say world\(…, ranks=…\)"),
    (lambda: numeric(numeric(info_nce)), "wrapped already, by numeric"),
    (lambda: numeric(3.0), "expected a function, got a float: hand over the function"),
    (lambda: explain_value("6.2", 256), "loss must be a number, got str"),
    (lambda: gradcheck(np.sum, np.ones(3)), r"a function must return \(value, grads\); got a float64"),
    (lambda: gradcheck((np.tanh, np.tanh), np.ones(3)), r"a forward must return \(value, cache\); got a ndarray"),
)


@pytest.mark.parametrize(("call", "said"), REFUSED)
def test_what_cannot_be_asked(call: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        call()


def by_name_only(query: Any, key: Any, *, temperature: Any = 0.1) -> Any:
    return info_nce(query, key, temperature)


def built_for(query: Any, key: Any, temperature: Any) -> Any:
    assert len(query) == 32
    return info_nce(query, key, temperature)


NOT_JUDGED = (
    ("info_nce", by_name_only, {}, "lambda query, key, temperature: mine(query, key, temperature=temperature)"),
    ("info_nce", lambda *arrays: info_nce(*arrays), {}, "say passes_scalar=True"),
    ("info_nce", built_for, {}, "built for one batch size, say which: check(…, shape=(N, D))"),
    ("info_nce", lambda q, k, temperature: (0.0, q), {}, "one array of shape (5, 12) as gradients; expected (dquery"),
    ("info_nce", lambda q, k, temperature: {"total": 0.0}, {}, 'a dict with total; expected a value, or "loss"'),
    ("sup_con", lambda z, y, temperature: 0.0, {}, "comes by name, labels: lambda z, temperature, labels: mine(…)"),
    ("nt_xent", lambda z, temperature: 0.0, {}, 'holds all views, say inputs="stacked"'),
    ("nt_xent", lambda a, b, temperature: 0.0, {"inputs": "stacked"}, "hands over one array and temperature; the"),
)


@pytest.mark.parametrize(("loss", "candidate", "settings", "said"), NOT_JUDGED)
def test_what_cannot_be_judged(loss: str, candidate: Any, settings: dict[str, Any], said: str) -> None:
    report = check(candidate, loss, **settings)
    assert report.verdict == "not judged"
    assert said in report.reason


def test_what_comes_beside_the_value() -> None:
    for returned in (lambda x: (x, 0.75), lambda x: {"loss": x, "accuracy": 0.75}):
        report = check(lambda q, k, temperature: returned(info_nce(q, k, temperature)), "info_nce")  # noqa: B023
        assert report.ok
        assert "judged." in report.notes[0]


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        ("hard_info_nce", {"hardest": 2}),
        ("hard_simple_contrastive", {"hardest": 0.5}),
        ("debiased", {"tau_plus": 0.2}),
        ("hcl", {"tau_plus": 0.1, "beta": 0.7}),
        ("fixed_entropy", {"entropy": 0.8}),
    ],
)
def test_a_loss_that_must_be_told_a_number_is_told_the_one_that_was_asked(loss: str, settings: dict[str, Any]) -> None:
    report = check(getattr(refcl, loss), loss, **settings)
    assert report.ok, report.reason


def test_one_name_stands_for_a_tuple_of_one() -> None:
    assert "it has query, key" not in str(check(info_nce, "info_nce", detached="key"))


def test_nobody_waits_for_a_rank_that_has_returned() -> None:
    assert "one waits where another has returned" in world(one_waits, "info_nce").reason


def test_similarities_are_split_over_ranks_that_share_them_equally() -> None:
    report = world(lambda s, temperature, comm: 0.0, "softmax_contrastive")
    assert report.differences[0].what.startswith("the value is a constant")


def test_classes_and_modules() -> None:
    torch = pytest.importorskip("torch", reason="the modules are PyTorch's")

    class Loss(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, names: tuple[str, ...] = ("tau",)) -> None:
            super().__init__()
            for name in names:
                setattr(self, name, torch.nn.Parameter(torch.tensor(0.1)))

        def forward(self, query: Any, key: Any) -> Any:
            return (query @ key.T).sum() * self.tau

    class Function(torch.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(ctx: Any, query: Any, key: Any) -> Any:
            return query.sum()

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g, g

    for adapter in (from_torch, from_module):
        with pytest.raises(TypeError, match=r"Loss is a class; hand over an instance"):
            adapter(Loss)
    with pytest.raises(TypeError, match=r"hand over Function\.apply"):
        from_torch(Function)
    assert "check(from_torch(Function.apply), …" in check(Function, "info_nce").reason
    with pytest.raises(TypeError, match="no place for comm: world"):
        world(from_module(Loss()), "info_nce")
    assert "from_module(module) sets" in check(from_torch(Loss()), "info_nce").reason
    assert 'parameter="tau"' in check(from_module(Loss(("tau", "bias"))), "info_nce").reason


def test_what_torch_functions_return() -> None:
    torch = pytest.importorskip("torch", reason="the functions are PyTorch's")

    def loss(query: Any, key: Any) -> Any:
        unit = torch.nn.functional.normalize
        return torch.nn.functional.cross_entropy(unit(query) @ unit(key).T / 0.1, torch.arange(len(query)))

    report = check(from_torch(lambda q, k: (q @ k.T, loss(q, k))), "info_nce", temperature=0.1)
    assert report.ok
    assert "the only number of them was judged" in str(report)
    report = check(from_torch(lambda q, k: loss(q, k).item()), "info_nce", temperature=0.1)
    assert "no .item()" in report.reason
    report = check(from_torch(lambda q, k: loss(q.bfloat16(), k.bfloat16())), "info_nce", temperature=0.1)
    assert report.verdict == "low-precision"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert check(from_torch(loss), "info_nce", temperature=0.1).verdict == "low-precision"


def test_parameters_and_a_batch_are_not_the_arrays() -> None:
    pytest.importorskip("jax", reason="the function is JAX's")
    report = check(from_jax(lambda params, batch: params["w"] * batch["query"]), "info_nce", temperature=0.1)
    assert "lambda *x: mine(params, {…})" in report.reason
