"""What a study would run on.

In:  this machine.  Out: lines for a person: versions, BLAS and its threads, devices.
"""

import os
import platform
import socket
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

import numpy  # noqa: F401 - threadpoolctl sees only libraries that are loaded
import scipy.linalg  # noqa: F401
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

import refcl
from refcl.experiment.device import describe_gpus

PACKAGES = ("numpy", "scipy", "matplotlib", "tqdm", "threadpoolctl")
CUPY = ("cupy-cuda12x", "cupy-cuda13x", "cupy")


def describe() -> str:
    """Return versions, BLAS libraries and devices, one a line."""
    cupy = [f"{name} {found}" for name in CUPY if (found := _version(name)) is not None]
    rows = [
        ("refcl", refcl.__version__),
        ("python", f"{platform.python_version()} ({platform.python_implementation()}, {platform.system()})"),
        *((name, _version(name) or "not installed") for name in PACKAGES),
        ("cupy", ", ".join(cupy) or "not installed"),
        *(("blas", _blas(library)) for library in threadpool_info() if library["user_api"] == "blas"),
        ("cpu", f"{usable_cores()} cores to use, {platform.machine()}"),
        ("gpu", describe_gpus()),
    ]
    return "\n".join(f"{name:<14}{value}" for name, value in rows)


@lru_cache(maxsize=1)
def machine() -> dict[str, str]:
    """Return everything of this process that the bits of a run depend on beside its settings.

    Examples
    --------
    >>> from refcl.experiment.info import machine
    >>> sorted(machine())[-2:]
    ['refcl', 'scipy']
    """
    kernels = sorted({_kernels(library) for library in threadpool_info() if library["user_api"] == "blas"})
    return {
        "refcl": refcl.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "numpy": _version("numpy") or "none",
        "scipy": _version("scipy") or "none",
        "blas": "; ".join(kernels) or "none",
    }


def process_name() -> str:
    """Return what this process may be called among others."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _kernels(library: dict[str, object]) -> str:
    return f"{library['internal_api']} {library['version']} {library.get('architecture', '')}".strip()


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _blas(library: dict[str, object]) -> str:
    return f"{library['internal_api']} {library['version']}, {library['num_threads']} threads, {library['filepath']}"
