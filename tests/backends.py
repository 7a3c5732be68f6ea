"""The libraries that the suite runs on, and the ways from and to the host, which live in the tests only.

In:  NumPy arrays in float64.  Out: the same numbers as arrays of each backend, and back.
A tree is an array, or a tuple of trees, or something that is no array at all, which is left as it is.
"""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import array_api_strict
import numpy as np
import pytest

STRICT_ARRAY = type(array_api_strict.asarray(0.0))
HOST_READS = ("__bool__", "__float__", "__int__", "__index__", "__complex__", "__iter__")
EPS = {"float32": float(np.finfo(np.float32).eps), "float64": float(np.finfo(np.float64).eps)}


class HostReadError(AssertionError):
    """The core looked at what an array holds: on a GPU it would wait there."""


class Backend(NamedTuple):
    name: str
    xp: Any  # the namespace of its arrays
    dtype: str  # of its floating-point arrays
    device: Any = None  # None: the library's default
    read_only: bool = False

    def array(self, host: Any) -> Any:
        """Return a host array's numbers here: floats in this backend's dtype, integers and booleans as they are."""
        host = np.array(host)
        if host.dtype.kind == "f":
            host = host.astype(self.dtype)
        if self.xp is np:
            host.setflags(write=not self.read_only)
            return host
        if self.name == "torch":
            return self.xp.asarray(host.copy())  # which shares memory with a NumPy array otherwise
        return self.xp.asarray(host) if self.device is None else self.xp.asarray(host, device=self.device)

    def host(self, x: Any) -> Any:
        """Return a host copy of an array of this backend."""
        if self.xp is np:
            return np.array(x)
        return self.xp.asnumpy(x) if self.name == "cupy" else np.from_dlpack(x).copy()

    def arrays(self, tree: Any) -> Any:
        """Return a tree of host arrays here."""
        return map_leaves(lambda x: self.array(x) if isinstance(x, np.ndarray) else x, tree)

    def hosts(self, tree: Any) -> Any:
        """Return a tree of this backend's arrays on the host."""
        return map_leaves(lambda x: self.host(x) if self.owns(x) else x, tree)

    def owns(self, x: Any) -> bool:
        """Tell whether something is an array (not a NumPy scalar) of this backend, on its device."""
        if type(x) is not _kind_of_array(self.name):
            return False
        return self.device is None or bool(x.device == self.device)


@cache
def _kind_of_array(name: str) -> type:
    return type(backend_named(name).array(np.zeros(1)))


@cache
def backend_named(name: str) -> Backend:
    """Return a backend, or skip the test that asks for it where this machine has none."""
    if name == "cupy":
        return _cupy()
    if name in ("torch", "jax"):
        return _guest(name)
    strict = array_api_strict
    return {
        "numpy": Backend("numpy", np, "float64"),
        "numpy-float32": Backend("numpy-float32", np, "float32"),
        "numpy-read-only": Backend("numpy-read-only", np, "float64", read_only=True),
        "strict-device1": Backend("strict-device1", strict, "float64", strict.Device("device1")),
        "strict-no-float64": Backend("strict-no-float64", strict, "float32", strict.Device("no_float64")),
    }[name]


BACKENDS = ("numpy", "numpy-float32", "numpy-read-only", "strict-device1", "strict-no-float64", "cupy", "torch", "jax")
NUMPY = backend_named("numpy")
# A test for each guest that is not here, skipped one by one, would be a tenth of the suite's tests.
HERE = [name for name in BACKENDS if name not in ("torch", "jax") or importlib.util.find_spec(name)]


def _cupy() -> Backend:
    """Return CuPy where a GPU answers, and elsewhere the stand-in for it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CuPy warns on import where it finds no CUDA
            cupy: Any = importlib.import_module("cupy")
        if cupy.cuda.runtime.getDeviceCount() > 0:
            return Backend("cupy", cupy, "float64")
    except Exception:  # no CuPy, or no GPU: each version of CUDA says so in its own words
        pass
    return Backend("cupy", standin(), "float64")


@cache
def standin() -> Any:
    """Return the module that stands in for CuPy, which ``sys.modules`` does not know: see `standing_in`."""
    folder = Path(__file__).parent / "standin" / "cupy"
    spec = importlib.util.spec_from_file_location(
        "cupy", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "cupy"}
    sys.modules["cupy"] = module
    try:
        spec.loader.exec_module(module)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "cupy"]:
            del sys.modules[name]
        sys.modules.update(before)
    return module


def standing_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put the stand-in where refcl finds CuPy, and return it."""
    module = standin()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def _guest(name: str) -> Backend:
    pytest.importorskip("array_api_compat", reason="array-api-compat is not installed")
    if name == "torch":
        pytest.importorskip("torch", reason="PyTorch is not installed")
        return Backend("torch", importlib.import_module("array_api_compat.torch"), "float64")
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    jax.config.update("jax_enable_x64", True)
    return Backend("jax", jax.numpy, "float64")


def ban_host_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make strict arrays raise where the core would read them on the host: the standard itself allows it."""

    def refuse(name: str) -> Callable[..., Any]:
        def method(self: Any, *_: Any) -> Any:
            raise HostReadError(f"array.{name} was called")

        return method

    plain_getitem = STRICT_ARRAY.__getitem__

    def getitem(self: Any, key: Any, /) -> Any:
        for part in key if isinstance(key, tuple) else (key,):
            if isinstance(part, STRICT_ARRAY) and part.dtype == array_api_strict.bool:
                raise HostReadError("an array was indexed by a boolean mask: the shape of the result must be read")
        return plain_getitem(self, key)

    for name in HOST_READS:
        monkeypatch.setattr(STRICT_ARRAY, name, refuse(name))
    monkeypatch.setattr(STRICT_ARRAY, "__getitem__", getitem)


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """Return a tree of the same form, of what ``function`` makes of each leaf."""
    if isinstance(tree, tuple):
        mapped = [map_leaves(function, branch) for branch in tree]
        return type(tree)(*mapped) if hasattr(tree, "_fields") else tuple(mapped)
    return None if tree is None else function(tree)


def leaves(tree: Any) -> Iterator[Any]:
    """Yield the leaves of a tree, left to right; None is no leaf, but what was left out."""
    if isinstance(tree, tuple):
        for branch in tree:
            yield from leaves(branch)
    elif tree is not None:
        yield tree


def flat(tree: Any) -> Any:
    """Return all numbers of a tree of host arrays in one row."""
    return np.concatenate([np.ravel(np.asarray(leaf, dtype="float64")) for leaf in leaves(tree)] or [np.zeros(0)])


def check_near(got: Any, want: Any, *, rtol: float, atol: float = 0.0) -> None:
    """Check that two trees of host arrays agree: the difference is small beside the norm of what is wanted."""
    got, want = flat(got), flat(want)
    assert got.shape == want.shape
    assert np.isfinite(want).all(), "nothing is near to what is not finite"
    error, allowed = float(np.linalg.norm(got - want)), rtol * float(np.linalg.norm(want)) + atol
    assert error <= allowed, f"off by {error:.3g}, allowed {allowed:.3g}: got {got}, want {want}"


def check_same_bits(got: Any, want: Any) -> None:
    """Check that two trees of host arrays hold the same bits."""
    got, want = list(leaves(got)), list(leaves(want))
    assert [np.asarray(x).dtype for x in got] == [np.asarray(x).dtype for x in want]
    assert [np.asarray(x).tobytes() for x in got] == [np.asarray(x).tobytes() for x in want]
