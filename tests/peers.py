"""Published code that the tests are held against, where it cannot be imported in the ordinary way.

In:  a distribution that is installed, perhaps without what it depends on.
Out: the one module of it that stands by itself, or the test skipped.
"""

import importlib.metadata
import importlib.util
from types import ModuleType

import pytest


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
