"""Who is measured.

In:  two sets of embeddings (NumPy, float32), or the arrays of a training step.
Out: for each contender a call without arguments that computes the loss and the gradient of both embeddings.
A library is imported by the one contender that uses it, in a process of its own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

TEMPERATURE = 0.1

Call = Callable[[], tuple[Any, ...]]  # (loss, gradient, gradient), or nothing where only time counts
Prepare = Callable[[str, np.ndarray, np.ndarray], Call]


class Contender(NamedTuple):
    """One way to compute the losses."""

    title: str
    prepare: Prepare
    dense_bytes: Callable[[int], float]  # what it is expected to need at N rows; 0 where it does not hold N × N numbers
    framework: bool = True
    compiles: bool = False  # the first call compiles, which is neither timed nor weighed
    losses: tuple[str, ...] = ("info_nce", "nt_xent")


def positives_of_views(count: int) -> np.ndarray:
    """Return for each of 2N stacked views the row of the other view of its sample."""
    return np.concatenate([np.arange(count, 2 * count), np.arange(count)])


def prepare_refcl(loss: str, a: np.ndarray, b: np.ndarray) -> Call:
    """The public function; it returns the gradient of the temperature as well."""
    import refcl

    function = getattr(refcl, loss)

    def call() -> tuple[Any, ...]:
        value, (da, db, *_) = function(a, b, TEMPERATURE)
        return value, da, db

    return call


def prepare_bare(loss: str, a: np.ndarray, b: np.ndarray) -> Call:
    """The same arithmetic in bare NumPy."""
    import bare

    call: Call = bare.prepare_loss(loss, a, b, TEMPERATURE)
    return call


def prepare_floor(loss: str, a: np.ndarray, b: np.ndarray) -> Call:
    """The three matrix products of the dense computation into memory that is there already: S, and both gradients."""
    query, key = (a, b) if loss == "info_nce" else (np.concatenate([a, b]),) * 2
    s = np.empty((len(query), len(key)), dtype=np.float32)
    dquery, dkey = np.empty_like(query), np.empty_like(key)

    def call() -> tuple[Any, ...]:
        np.matmul(query, key.T, out=s)
        np.matmul(s, key, out=dquery)
        np.matmul(s.T, query, out=dkey)
        return ()

    return call


def torch_loss(loss: str, count: int) -> Callable[[Any, Any], Any]:
    """Cross-entropy on similarities, as its users write it."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    if loss == "info_nce":
        diagonal = torch.arange(count)

        def info_nce(a: Any, b: Any) -> Any:
            return cross_entropy(normalize(a, dim=1) @ normalize(b, dim=1).T / TEMPERATURE, diagonal)

        return info_nce
    target, self_pairs = torch.from_numpy(positives_of_views(count)), torch.eye(2 * count, dtype=torch.bool)

    def nt_xent(a: Any, b: Any) -> Any:
        z = normalize(torch.cat([a, b]), dim=1)
        return cross_entropy((z @ z.T / TEMPERATURE).masked_fill(self_pairs, -torch.inf), target)

    return nt_xent


def torch_call(function: Callable[[Any, Any], Any], a: np.ndarray, b: np.ndarray) -> Call:
    """Value and gradients of a PyTorch loss."""
    import torch

    leaves = [torch.from_numpy(x).requires_grad_() for x in (a, b)]

    def call() -> tuple[Any, ...]:
        value = function(*leaves)
        return value.detach(), *torch.autograd.grad(value, leaves)

    return call


def prepare_eager(loss: str, a: np.ndarray, b: np.ndarray) -> Call:
    return torch_call(torch_loss(loss, len(a)), a, b)


def prepare_compiled(loss: str, a: np.ndarray, b: np.ndarray) -> Call:
    import torch

    return torch_call(torch.compile(torch_loss(loss, len(a))), a, b)


def prepare_metric_learning(loss: str, a: np.ndarray, b: np.ndarray) -> Call:
    import torch
    from pytorch_metric_learning.losses import NTXentLoss

    function, labels = NTXentLoss(temperature=TEMPERATURE), torch.arange(len(a)).repeat(2)
    return torch_call(lambda x, y: function(torch.cat([x, y]), labels), a, b)


def prepare_jax(loss: str, a: np.ndarray, b: np.ndarray) -> Call:
    """Cross-entropy under jit, waiting for the result."""
    import jax
    import jax.numpy as jnp

    def unit(x: Any) -> Any:
        return x / jnp.linalg.norm(x, axis=1, keepdims=True)

    def info_nce(a: Any, b: Any) -> Any:
        return -jnp.diag(jax.nn.log_softmax(unit(a) @ unit(b).T / TEMPERATURE, axis=1)).mean()

    target = positives_of_views(len(a))

    def nt_xent(a: Any, b: Any) -> Any:
        z = unit(jnp.concatenate([a, b]))
        s = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, z @ z.T / TEMPERATURE)
        return -jnp.take_along_axis(jax.nn.log_softmax(s, axis=1), target[:, None], axis=1).mean()

    step = jax.jit(jax.value_and_grad(info_nce if loss == "info_nce" else nt_xent, argnums=(0, 1)))
    inputs = jnp.asarray(a), jnp.asarray(b)

    def call() -> tuple[Any, ...]:
        value, (da, db) = step(*inputs)
        return value.block_until_ready(), da.block_until_ready(), db.block_until_ready()

    return call


def matrices(count: float) -> Callable[[int], float]:
    """Return what so many N × N matrices of float32 weigh."""
    return lambda n: 4.0 * count * n * n


CONTENDERS = {
    "refcl": Contender("refcl", prepare_refcl, matrices(0), framework=False),
    "eager": Contender("PyTorch eager", prepare_eager, matrices(4)),
    "compile": Contender("torch.compile", prepare_compiled, matrices(4), compiles=True),
    "jax": Contender("JAX jit", prepare_jax, matrices(4), compiles=True),
    # It compares every positive with every negative pair: N × N² numbers, several times.
    "metric-learning": Contender(
        "NTXentLoss (pml)", prepare_metric_learning, lambda n: 20.0 * n**3, losses=("nt_xent",)
    ),
    "bare": Contender("bare NumPy", prepare_bare, matrices(2), framework=False),
    "floor": Contender("three products", prepare_floor, matrices(1), framework=False),
}
