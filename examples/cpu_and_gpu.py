"""The same code on the CPU and on a GPU
=====================================

The function below never says which library it runs on: it takes arrays and gives back arrays of the same kind. It runs
on NumPy, on CuPy where a GPU answers, and on array-api-strict where that is installed, and the results are compared.

From a shell::

    python examples/cpu_and_gpu.py
"""

# sphinx_gallery_thumbnail_path = 'gallery_pictures/cpu_and_gpu.png'

import argparse
import importlib

import numpy as np

import refcl
from refcl.core.arrays import namespace, to_host


def step(query, key):
    """Take one step of gradient descent on InfoNCE; return the loss before and after, on the arrays' own device."""
    before, grads = refcl.info_nce(query, key, 0.1)
    after, _ = refcl.info_nce(query - 0.5 * grads.dquery, key - 0.5 * grads.dkey, 0.1)
    return before, after


def libraries():
    """Yield each library that can compute here, its name and why another one cannot."""
    yield "numpy", np, None
    try:
        cupy = importlib.import_module("cupy")
        cupy.cuda.runtime.getDeviceCount()
        yield "cupy", cupy, None
    except ImportError:
        yield "cupy", None, 'not installed; python -m pip install ".[cuda12]" or ".[cuda13]"'
    except Exception as error:  # CuPy has an error class of its own for every way a driver can be missing
        yield "cupy", None, f"no GPU answers ({str(error).splitlines()[0]})"
    try:
        yield "array_api_strict", importlib.import_module("array_api_strict"), None
    except ImportError:
        yield "array_api_strict", None, "not installed"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--anchors", type=int, default=1024)
    parser.add_argument("--dimension", type=int, default=128)
    options = parser.parse_args(argv)

    rng = np.random.default_rng(0)
    query, key = rng.standard_normal((2, options.anchors, options.dimension))
    reference = None
    for name, library, missing in libraries():
        if library is None:
            print(f"{name:<17} {missing}")
            continue
        losses = step(library.asarray(query), library.asarray(key))
        kind = namespace(losses[0]).__name__
        before, after = (float(to_host(loss)) for loss in losses)
        reference = reference or (before, after)
        error = max(abs(before / reference[0] - 1.0), abs(after / reference[1] - 1.0))
        print(f"{name:<17} loss {before:.6f} -> {after:.6f}, an array of {kind}, {error:.0e} away from NumPy")


if __name__ == "__main__":
    main()
