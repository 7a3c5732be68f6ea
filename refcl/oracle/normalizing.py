"""The sphere's room, with the ways in which it is entered wrongly.

In:  the inputs of a loss and how they are brought to length 1.
Out: the embeddings and, on the way back, the gradients of the inputs.
"""

from typing import Any, NamedTuple

import numpy as np

from refcl.walk.sphere import NormalizeCache, l2_normalize


class Sphere(NamedTuple):
    how: str
    caches: tuple[NormalizeCache, ...]
    lengths: tuple[Any, ...]  # (rows, 1) for each input, or a number: what a gradient is divided by on the way back
    cuts: tuple[int, ...]  # where one input ends and the next begins, where they are stacked

    @property
    def inputs(self) -> int:
        """How many inputs were normalized."""
        return len(self.cuts) + 1

    @property
    def without_the_last(self) -> "Sphere":
        """As if the last input had not been normalized, row by row."""
        return self._replace(caches=self.caches[:-1], cuts=self.cuts[:-1])


def normalize(inputs: tuple[Any, ...], how: str, eps: float) -> tuple[tuple[Any, ...], Sphere | None]:
    """Bring the inputs to length 1: each row, or what was taken for it."""
    cuts = tuple(int(k) for k in np.cumsum([len(x) for x in inputs[:-1]]))
    if how == "none":
        return inputs, None
    if len(inputs) == 1:
        how = {"whole stack": "whole", "columns of the stack": "columns"}.get(how, how)  # it is the stack
    parts = (np.concatenate(inputs),) if how.endswith("stack") else inputs
    turned = tuple(_turn(x, how) for x in parts)
    done = [l2_normalize.forward(x, eps=eps) for x in turned]
    z = tuple(_turn_back(y, x, how) for (y, _), x in zip(done, parts, strict=True))
    caches = tuple(cache for _, cache in done)
    lengths = tuple(cache.length if how == "rows" else float(np.min(cache.length)) for cache in caches)
    if how.endswith("stack"):
        return tuple(np.split(z[0], cuts)), Sphere(how, caches, lengths * len(inputs), cuts)
    return z, Sphere(how, caches, lengths, cuts)


def denormalize(dz: tuple[Any, ...], sphere: Sphere | None, jacobian: str) -> tuple[Any, ...]:
    """Return the gradients of the inputs, through the Jacobian or what was taken for it."""
    if sphere is None or jacobian == "none":
        return dz
    parts = (np.concatenate(dz),) if sphere.how.endswith("stack") else dz
    back = []
    for d, cache in zip(parts, sphere.caches, strict=True):
        turned = _turn(d, sphere.how)
        if jacobian == "no projection":
            dh = turned / cache.length
        else:
            dh = l2_normalize.backward(turned, cache)
            dh = dh * cache.length if jacobian == "no length" else dh
        back.append(_turn_back(dh, d, sphere.how))
    if sphere.how.endswith("stack"):
        return tuple(np.split(back[0], sphere.cuts))
    return tuple(back)


def _turn(x: Any, how: str) -> Any:
    """Lay out as rows what gets one common length."""
    if how.startswith("whole"):
        return x.reshape(1, -1)
    return x.T if how.startswith("columns") else x


def _turn_back(y: Any, like: Any, how: str) -> Any:
    if how.startswith("whole"):
        return y.reshape(like.shape)
    return y.T if how.startswith("columns") else y
