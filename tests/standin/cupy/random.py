"""Random numbers drawn on the device: other ones than NumPy's of the same seed, and nothing is copied."""

from typing import Any

import numpy as np


class Generator:
    """Has the methods of a CuPy's generator, with NumPy's inside."""

    def __init__(self, seed: int) -> None:
        self._inside = np.random.Generator(np.random.Philox(seed))

    def __getattr__(self, name: str) -> Any:
        from . import _KNOWN, _bound, ndarray

        if name.startswith("_") or name not in _KNOWN["generator"]:
            raise AttributeError(f"'Generator' object has no attribute {name!r}")

        def draw(*args: Any, **kwargs: Any) -> ndarray:
            _bound(name, "generator").bind(*args, **kwargs)
            if any(isinstance(x, ndarray | np.ndarray) for x in (*args, *kwargs.values())):
                raise NotImplementedError(f"the stand-in's {name} takes numbers only")
            return ndarray(np.asarray(getattr(self._inside, name)(*args, **kwargs)))

        return draw


def default_rng(seed: int) -> Generator:
    """Return a generator of a seed."""
    return Generator(seed)
