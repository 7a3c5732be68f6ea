"""Where the arrays of a run live.

In:  "cpu" or "gpu".  Out: the function that moves a NumPy array there, and random numbers that are drawn there.
The only file of the experiment that names CuPy; everything else asks the arrays which library they belong to.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from refcl.core.arrays import Array, library_of
from refcl.experiment.errors import StudyError
from refcl.experiment.seeding import generator

DEVICES = ("cpu", "gpu")


def sender(device: str) -> Callable[[np.ndarray], Array]:
    """Return the function that moves a NumPy array to a device.

    Parameters
    ----------
    device : str
        "cpu" or "gpu".

    Returns
    -------
    callable
        ``numpy.asarray`` or ``cupy.asarray``.

    Raises
    ------
    StudyError
        Where "gpu" is asked for without CuPy or without a GPU.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.device import sender
    >>> sender("cpu")(np.array([1.0]))
    array([1.])
    """
    if device == "cpu":
        return np.asarray
    try:
        cupy, _ = _cupy()
    except StudyError as error:
        raise StudyError(f"--device gpu: {error}; --device cpu runs without one.") from None
    send: Callable[[np.ndarray], Array] = cupy.asarray
    return send


def generator_beside(seed: int, purpose: str, *, like: Array) -> Any:
    """Return the generator of a seed for one purpose, one that draws on the GPU where ``like`` is there.

    Parameters
    ----------
    seed, purpose
        As in `refcl.experiment.seeding.generator`.
    like : array
        Where the numbers are needed.

    Returns
    -------
    numpy.random.Generator or cupy.random.Generator
        Of one seed, the two draw other numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.device import generator_beside
    >>> generator_beside(0, "views", like=np.zeros(3))
    Generator(PCG64) at ...
    """
    rng, library = generator(seed, purpose), library_of(like)
    if library is None or library.name != "cupy":
        return rng
    with like.device:
        return library.xp.random.default_rng(int(rng.integers(1 << 63)))


def describe_gpus() -> str:
    """Return the names of the GPUs that CuPy sees, or why it sees none, for a person."""
    try:
        cupy, count = _cupy()
    except StudyError as error:
        return f"none ({error})"
    names = [cupy.cuda.runtime.getDeviceProperties(i)["name"].decode() for i in range(count)]
    return ", ".join(names)


def _cupy() -> tuple[Any, int]:
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        raise StudyError("CuPy is not installed: the extras cuda12 and cuda13 of refcl bring it") from None
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise StudyError(f"CuPy finds no GPU ({error})") from None
    if count == 0:
        raise StudyError("CuPy finds no GPU")
    return cupy, count
