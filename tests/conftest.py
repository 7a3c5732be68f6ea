"""Fixtures: the backends and random numbers; hypothesis made repeatable, and mpmath at 50 digits."""

import zlib

import numpy as np
import pytest
from backends import BACKENDS, Backend, backend_named, ban_host_reads
from hypothesis import HealthCheck, settings
from mpmath import mp

mp.dps = 50

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Each library in turn; on strict arrays, whatever a GPU would have to wait for raises."""
    chosen = backend_named(request.param)
    if chosen.name.startswith("strict"):
        ban_host_reads(monkeypatch)
    return chosen


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Each test's own generator: its numbers depend on no other test's."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))
