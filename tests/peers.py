"""Second opinions: what is written as a user of another library would, and that library's derivatives.

In:  a function of tensors and inputs of the host.  Out: value and gradients, on the host.
Tests marked ``of_torch`` or ``of_jax`` are skipped where the library is not installed; ``-m peers`` runs them alone.
"""

import importlib.metadata
import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from backends import check_near, leaves
from cards import rows

try:
    import torch
except ImportError:
    torch: Any = None  # type: ignore[no-redef]
F: Any = None if torch is None else torch.nn.functional

NEAR = 1e-12

_RNG = np.random.default_rng(8)
N, D, M = 6, 4, 9
X, Y, BANK = rows(_RNG, N, D), rows(_RNG, N, D) + 0.5, rows(_RNG, M, D)
INDEX, NOISE = _RNG.integers(0, M, N), _RNG.integers(0, M, (N, 11))
COSINES = _RNG.uniform(-1, 1, (N, M))


def of_torch(test: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a test that needs PyTorch."""
    there = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")
    return pytest.mark.peers(there(test))  # type: ignore[no-any-return]


of_jax = pytest.mark.peers  # which takes JAX as a fixture


def derived(function: Callable[..., Any], *inputs: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return value and gradients by PyTorch, on the host."""
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    value = function(*tensors)
    value.backward()
    return value.detach().numpy(), tuple(x.grad.numpy() for x in tensors)


def check_same(ours: tuple[Any, Any], theirs: tuple[Any, Any]) -> None:
    """Check that two have one value and one gradient by each array."""
    check_near(ours[0], theirs[0], rtol=NEAR)
    for mine, other in zip(leaves(tuple(ours[1])), leaves(tuple(theirs[1])), strict=True):
        check_near(mine, other, rtol=NEAR)


def unit(x: Any) -> Any:
    return F.normalize(x, dim=1)


def open_clip_loss() -> ModuleType:
    """Return open_clip's losses, loaded from their own file: the package around them imports vision models."""
    pytest.importorskip("torch", reason="open_clip needs PyTorch")
    try:
        distribution = importlib.metadata.distribution("open_clip_torch")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("open_clip is not installed: python -m pip install --no-deps open_clip_torch")
    path = distribution.locate_file("open_clip/loss.py")
    spec = importlib.util.spec_from_file_location("open_clip_loss", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
