"""Fixtures: the backends and random numbers; hypothesis made repeatable, and mpmath at 50 digits."""

import gc
import os
import zlib
from pathlib import Path
from typing import Any

# Each of pytest's workers has a core, and threads of its BLAS or of PyTorch would wait for those of the others. It must
# be said before they are imported, and workers get it from the process that starts them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Children by the hundred import refcl: compiled once, not by each of them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import numpy as np
import pytest
from backends import HERE, Backend, backend_named, ban_host_reads, standin, standing_in
from hypothesis import HealthCheck, settings
from mpmath import mp

mp.dps = 50
# Collecting makes objects by the million, and all of them stay: there is no garbage to look for meanwhile.
gc.disable()

collect_ignore = ["core/typed_lines.py"]  # for a type checker: half of its lines must not run

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


def pytest_collection_finish() -> None:
    """Look for garbage again, but not among what was collected."""
    gc.freeze()
    gc.enable()


@pytest.fixture(params=HERE)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Each library in turn; on strict arrays, whatever a GPU would have to wait for raises."""
    chosen = backend_named(request.param)
    if chosen.name.startswith("strict"):
        ban_host_reads(monkeypatch)
    if chosen.xp is standin():
        standing_in(monkeypatch)
    return chosen


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Each test's own generator: its numbers depend on no other test's."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


BLANK = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a study's figures whole, and save blank files for them: laying out and rendering take most of the time."""

    def save(figure: Any, path: Path) -> Path:
        assert figure.axes
        path.write_bytes(BLANK)
        return path

    monkeypatch.setattr("refcl.experiment.plots.save", save)


@pytest.fixture(scope="session")
def jax() -> Any:
    """JAX in float64, or the test skipped."""
    module = pytest.importorskip("jax", reason="JAX is not installed")
    module.config.update("jax_enable_x64", True)
    return module
