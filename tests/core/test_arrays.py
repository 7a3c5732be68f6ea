"""Which library is this, and arrays born beside others."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import array_api_strict
import numpy as np
import pytest
from backends import EPS, Backend, HostReadError, backend_named, ban_host_reads

from refcl.core import arrays as core


def test_the_namespace_is_that_of_the_array(backend: Backend) -> None:
    assert core.namespace(backend.array(np.zeros(2))) is backend.xp


@pytest.mark.parametrize("other", [1.0, [1.0], None, np.float64(1.0), "text"], ids=str)
def test_what_is_no_array_has_no_namespace(other: object) -> None:
    assert core.library_of(other) is None
    with pytest.raises(TypeError, match=r"^expected an array, got \w+; convert it with numpy\.asarray"):
        core.namespace(other)


def test_arrays_are_born_beside_others(backend: Backend) -> None:
    like = backend.array(np.zeros((2, 3)))
    born = core.constant(0.5, like=like), core.constant([1.0, 2.0], like=like), core.ones((2,), like=like)
    assert all(backend.owns(x) and x.dtype == like.dtype for x in born)
    assert [backend.host(x).tolist() for x in born] == [0.5, [1.0, 2.0], [1.0, 1.0]]
    whole = core.integers([3, 1], like=like), core.arange(3, like=like)
    assert all(backend.owns(x) and x.dtype == backend.xp.int64 for x in whole)
    assert [backend.host(x).tolist() for x in whole] == [[3, 1], [0, 1, 2]]


@pytest.mark.parametrize("host", [np.arange(6.0).reshape(2, 3), np.array([True, False]), np.array(0.5)], ids=str)
def test_a_copy_on_the_host_holds_the_same(backend: Backend, host: Any) -> None:
    copy = core.to_host(backend.array(host))
    assert type(copy) is np.ndarray
    assert copy.tolist() == host.tolist()


class FakeCuPyArray:
    """What refcl asks an array before it calls CuPy: its type's module; CuPy's have no __array_namespace__."""

    __module__ = "cupy"
    dtype = np.dtype("float32")
    device = nullcontext()  # CuPy's devices are entered


@pytest.fixture
def fake_cupy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A CuPy whose creation functions, like the real ones, take no device."""

    def asarray(value: Any, dtype: Any = None) -> tuple[str, Any, Any]:
        return "asarray", value, dtype

    module = ModuleType("cupy")
    vars(module).update(
        asarray=asarray,
        full=lambda shape, value, dtype: ("full", value, dtype),
        asnumpy=lambda x: ("asnumpy", x),
        int64="int64",
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def test_cupy_is_found_by_its_arrays_and_asked_without_a_device(fake_cupy: ModuleType) -> None:
    x = FakeCuPyArray()
    assert core.library_of(x) == ("cupy", fake_cupy)
    assert core.constant(0.5, like=x) == ("full", 0.5, x.dtype)
    assert core.integers([1], like=x) == ("asarray", [1], "int64")
    assert core.to_host(x) == ("asnumpy", x)


def test_cupy_is_not_imported_to_look_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    assert core.library_of(FakeCuPyArray()) is None
    assert "cupy" not in sys.modules


READS: dict[str, Callable[[Any], Any]] = {
    "float(x)": lambda x: float(x[0]),
    "int(x)": lambda x: int(x[0]),
    "bool(x)": lambda x: bool(x[0] > 0),
    "if x": lambda x: 1 if x[0] > 0 else 2,
    "complex(x)": lambda x: complex(x[0]),
    "range(x)": lambda x: range(array_api_strict.asarray(3, device=x.device)),
    "for _ in x": lambda x: list(x),
    "a, b = x": lambda x: (lambda a, b: a)(*x),
    "x[mask]": lambda x: x[x > 0],
    "x[(mask,)]": lambda x: x[(x > 0,)],
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("device", ["strict-device1", "strict-no-float64"])
def test_the_ban_on_reading_arrays_on_the_host_bites(read: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = backend_named(device).array(np.array([1.0, 2.0]))
    READS[read](x)  # the standard allows it
    ban_host_reads(monkeypatch)
    with pytest.raises(HostReadError):
        READS[read](x)


def test_the_ban_is_in_force_for_the_backend_fixture(backend: Backend) -> None:
    x = backend.array(np.array([1.0, 2.0]))
    if backend.xp is array_api_strict:
        with pytest.raises(HostReadError):
            float(x[0])
    else:
        assert float(x[0]) == 1.0


def test_read_only_arrays_are_read_only() -> None:
    x = backend_named("numpy-read-only").array(np.zeros(2))
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 1.0


def test_the_tolerance_table_knows_both_precisions() -> None:
    assert EPS == {"float32": 2.0**-23, "float64": 2.0**-52}
