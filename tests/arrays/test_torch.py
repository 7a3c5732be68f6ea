"""refcl.torch: refcl's gradients under autograd, and a clear word where there are none."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import map_leaves
from cases import PAIR_CASES, Case, named

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("array_api_compat", reason="array-api-compat is not installed")

import refcl  # noqa: E402
import refcl.torch as under_autograd  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # PyTorch's own

LOSSES = [case for case in PAIR_CASES if case.function.__name__ in under_autograd.__all__]
ONE_EACH = {case.function.__name__: case for case in reversed(LOSSES)}


def tensors(tree: Any) -> Any:
    return map_leaves(lambda x: torch.from_numpy(np.array(x)) if isinstance(x, np.ndarray) else x, tree)


def learnable(tree: Any) -> Any:
    return map_leaves(lambda x: x.requires_grad_() if isinstance(x, torch.Tensor) else x, tree)


def given(rng_seed: int = 0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(rng_seed)
    q, k = (torch.from_numpy(rng.standard_normal((n, 3))) for n in (4, 5))
    return q, k, torch.tensor(0.3, dtype=torch.float64)


def test_every_loss_is_there() -> None:
    pairs = {name for name in refcl.losses.__all__ if isinstance(getattr(refcl, name), refcl.Pair)}
    assert set(under_autograd.__all__) == pairs


@pytest.mark.parametrize("name", sorted(ONE_EACH))
def test_gradcheck(name: str) -> None:
    case = ONE_EACH[name]
    settings = {key: tensors(value) for key, value in case.settings.items()}
    inputs = learnable(tensors(case.inputs))
    flat, spots = [], []
    for argument in inputs:
        parts = argument if isinstance(argument, tuple) else (argument,)
        spots.append(len(parts) if isinstance(argument, tuple) else None)
        flat += parts

    def loss(*arrays: Any) -> Any:
        rest, arguments = list(arrays), []
        for count in spots:
            arguments.append(rest.pop(0) if count is None else tuple(rest.pop(0) for _ in range(count)))
        return getattr(under_autograd, name)(*arguments, **settings)

    if name.startswith("fixed_entropy") and case.settings.get("detach", True):
        settings["detach"] = False  # elsewhere the gradient is another function's on purpose
    assert torch.autograd.gradcheck(loss, flat, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", LOSSES, ids=named)
def test_value_and_gradients_are_refcls(case: Case) -> None:
    inputs = learnable(tensors(case.inputs))
    settings = {key: tensors(value) for key, value in case.settings.items()}
    value = getattr(under_autograd, case.function.__name__)(*inputs, **settings)
    value.backward(torch.ones_like(value))
    want, grads = case.function(*case.inputs, **case.settings)
    np.testing.assert_allclose(value.detach().numpy(), want, rtol=1e-12, atol=1e-13)
    for x, gradient in zip(inputs, grads, strict=True):
        for one, wanted in zip(
            x if isinstance(x, tuple) else (x,), gradient if isinstance(gradient, tuple) else (gradient,), strict=True
        ):
            if one is not None:
                np.testing.assert_allclose(one.grad.numpy(), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ["softmax_contrastive", "info_nce", "nt_xent", "clip"])
def test_second_order(name: str, reduction: str) -> None:
    rng = np.random.default_rng(3)
    n = 4 if name in ("nt_xent", "clip") else 5
    if name == "softmax_contrastive":
        arrays = (rng.uniform(-1, 1, (4, 5)), np.array(0.3))
    else:
        arrays = (rng.standard_normal((4, 3)), rng.standard_normal((n, 3)), np.array(0.3))
    rows = {"nt_xent": 8, "clip": 4}.get(name, 4)
    ignore = torch.from_numpy(rng.uniform(size=(rows, {"nt_xent": 8}.get(name, n))) < 0.2)
    inputs = learnable(tensors(arrays))
    loss = getattr(under_autograd, name)
    assert torch.autograd.gradgradcheck(lambda *x: loss(*x, reduction=reduction, ignore=ignore), inputs, atol=1e-6)
    if name != "softmax_contrastive":
        assert torch.autograd.gradgradcheck(
            lambda *x: loss(*x, reduction=reduction, normalize=False), inputs, atol=1e-6
        )


def test_transforms_agree_with_autograd_of_the_written_out_loss() -> None:
    q, k, t = given()

    def written(q: Any, k: Any, t: Any) -> Any:
        s = torch.nn.functional.normalize(q) @ torch.nn.functional.normalize(k).T
        return torch.nn.functional.cross_entropy(s / t, torch.arange(4))

    f, func = under_autograd.info_nce, torch.func
    want = func.hessian(written, argnums=(0, 1, 2))(q, k, t)
    for got in (
        func.hessian(f, argnums=(0, 1, 2))(q, k, t),
        func.jacrev(func.jacfwd(f, argnums=(0, 1, 2)), argnums=(0, 1, 2))(q, k, t),
        torch.autograd.functional.hessian(f, (q, k, t)),
    ):
        for a, b in zip(torch.utils._pytree.tree_leaves(got), torch.utils._pytree.tree_leaves(want), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    along = torch.func.jvp(f, (q, k, t), (k[:4], k, t))[1]
    torch.testing.assert_close(along, torch.func.jvp(written, (q, k, t), (k[:4], k, t))[1])
    stacked = torch.stack([q, 2 * q + 1])
    each = torch.stack([func.grad(f)(x, k, t) for x in stacked])
    torch.testing.assert_close(func.vmap(func.grad(f), (0, None, None))(stacked, k, t), each)


def test_nothing_is_silently_zero() -> None:
    q, k, t = given()
    simple, info = under_autograd.simple_loss, under_autograd.info_nce
    func = torch.func
    learnt = q.clone().requires_grad_()
    first = torch.autograd.grad(simple(learnt, k), learnt, create_graph=True)[0]
    for second in (
        lambda: torch.autograd.grad(first.sum(), learnt),
        lambda: func.grad(lambda x: func.grad(lambda y: simple(y, k))(x).sum())(q),
        lambda: func.hessian(lambda x: simple(x, k))(q),
        lambda: func.hessian(lambda x: info(x, k, t, label_smoothing=0.1))(q),
        lambda: func.hessian(lambda x: info(x, k, t, None, None, torch.ones(4, 5, dtype=q.dtype) / 5))(q),
        lambda: func.jacfwd(func.jacfwd(lambda x: info(x, k, t)))(q),
        lambda: func.grad(lambda x: func.hessian(lambda y: info(y, k, t))(x).sum())(q),
        lambda: func.jvp(lambda x: info(x, k, t, reduction="none"), (q,), (q,)),
    ):
        with pytest.raises(NotImplementedError, match=r"^refcl\.torch\.\w+: "):
            second()


def test_half_precision_is_computed_in_float32_and_comes_back() -> None:
    q, k, _ = given()
    half, other = q.bfloat16().requires_grad_(), k.bfloat16()
    loss = under_autograd.info_nce(half, other, 0.2)
    loss.backward()
    want, grads = refcl.info_nce(half.detach().float(), other.float(), 0.2)
    assert loss.dtype == torch.float32
    assert half.grad.dtype == torch.bfloat16
    assert torch.equal(loss.detach(), want)
    assert torch.equal(half.grad, grads.dquery.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = under_autograd.info_nce(q.float(), k.float(), 0.2)
    assert torch.equal(inside, refcl.info_nce(q.float(), k.float(), 0.2)[0])


NO_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of inductor itself
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, NO_COMPILER])])
def test_the_dense_walk_compiles_to_one_graph(backend: str) -> None:
    q, k, t = given()

    def step(q: Any, k: Any, t: Any) -> Any:
        return under_autograd.info_nce(q, k, t) * 2

    inputs = learnable((q, k, t))
    compiled = torch.compile(step, fullgraph=True, backend=backend)(*inputs)
    got = torch.autograd.grad(compiled, inputs)
    for a, b in zip(got, torch.autograd.grad(step(*inputs), inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel keeps the account of memory")
def test_the_example_trains_and_never_holds_the_matrix() -> None:
    """In a process of its own, where nothing has taken memory before."""
    root = Path(__file__).parents[2]
    words = [sys.executable, "examples/train_in_pytorch.py", "--steps", "40", "--rows", "8192"]
    ran = subprocess.run(
        words, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=True
    )
    assert ran.stderr == ""
    training, memory = ran.stdout.splitlines()
    first, last, start, end = map(float, re.findall(r"\d+\.\d+", training))
    assert last < first
    assert end != start
    taken, matrix = map(int, re.findall(r"(\d+) MiB", memory))
    assert matrix == 256
    assert 0 < taken < matrix


def test_large_inputs_go_strip_by_strip_on_their_own_memory() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 200, 4))
    learnt = torch.from_numpy(a).requires_grad_()
    under_autograd.info_nce(learnt, torch.from_numpy(b), 0.1).backward()
    np.testing.assert_array_equal(learnt.grad.numpy(), refcl.info_nce(a, b, 0.1)[1].dquery)


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "a gradient that would stop": (
        lambda q, k: refcl.info_nce(q.requires_grad_(), k, 0.1),
        TypeError,
        r"^info_nce: query requires a gradient, which would not flow on from here; refcl\.torch has",
    ),
    "half": (lambda q, k: refcl.info_nce(q.half(), k.half(), 0.1), TypeError, "^info_nce: query is float16; expected"),
    "meta": (
        lambda q, k: refcl.info_nce(q.to("meta"), k.to("meta"), 0.1),
        TypeError,
        "on device meta, where no numbers",
    ),
    "libraries": (
        lambda q, k: refcl.info_nce(q, k.numpy(), 0.1),
        TypeError,
        "^info_nce: query is from torch and key from numpy; expected arrays from one library",
    ),
    "an index": (
        lambda q, k: refcl.info_nce(q, k, 0.1, positive=torch.tensor([0, 1, 2, 9])),
        ValueError,
        r"^info_nce: positive\[3\] is 9; expected a number from 0 to 4",
    ),
    "upstream": (lambda q, k: under_autograd.info_nce(q, k, upstream=q), TypeError, "no argument upstream; autograd"),
    "no tensors": (
        lambda q, k: under_autograd.info_nce(q.numpy(), k.numpy()),
        TypeError,
        "expected tensors of PyTorch",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what: str) -> None:
    call, error, sentence = REFUSED[what]
    q, k, _ = given()
    with pytest.raises(error, match=sentence):
        call(q, k)


def test_an_index_out_of_range_is_nan_inside_a_vmap() -> None:
    q, k, _ = given()
    columns = torch.tensor([[0, 1, 2, 9], [0, 1, 2, 3]])
    value = torch.func.vmap(lambda p: under_autograd.info_nce(q, k, 0.1, positive=p, reduction="none"))(columns)
    assert torch.isnan(value).tolist() == [[False, False, False, True], [False] * 4]
