"""The losses of embeddings a strip of rows at a time: the same functions, in memory proportional to N D, not N M.

In:  what a loss was called with, already asked.  Out: its value and its gradients.
Not part of the walk: read this wing when you want to know how the same numbers are had fast. Only the door knows it.

``layout``     when strips are faster, and their sizes
``workers``    who computes them
``softmax``    the softmax loss in one direction: one pass makes value and gradient
``two_sided``  NT-Xent and CLIP: two passes, where nothing is left out and exp needs no shift; else they go one way
``freed``      the softmax losses with other targets than one, weights, margins or own negatives, through the rooms
``rooms``      every other loss, strip by strip through the dense rooms
``losses``     each loss in these terms

Results agree with the dense walk to rounding. Bits repeat: partial gradients are added in a fixed order, which depends
on the sizes and on how many threads BLAS has, not on which thread was first. BLAS has one while any call has several
workers: the last bits of a small call in another thread may then be others than in quiet.
"""

from collections.abc import Callable
from typing import Any

from refcl.core.agreement import Call
from refcl.core.arrays import Array, given_back, lent, library_of
from refcl.strips import layout, losses

__all__ = ["chosen"]


def chosen(call: Call, tile: int | None) -> Callable[..., Any] | None:
    """Return the function that computes a loss strip by strip, or None where the dense walk is faster.

    Raises where ``tile`` asks for strips of arrays whose library cannot write into given memory.
    """
    library = library_of(call.like)
    strips: Callable[..., Any] = getattr(losses, call.name)
    if tile is None and not layout.faster(call.name, call.sizes):
        return None
    if library is not None and library.name in ("numpy", "cupy"):
        return strips
    if lent(call.like) is not None:
        return _on_lent_memory(strips, call.like)
    if tile is None:
        return None
    raise ValueError(
        f"{call.name}: tile needs arrays whose memory NumPy or CuPy can use, got {library and library.name}; "
        "pass tile=None."
    )


def _on_lent_memory(strips: Callable[..., Any], like: Array) -> Callable[..., Any]:
    """Return a loss that takes a guest's arrays, works on their memory, and gives the guest's back."""

    def taken(tree: Any) -> Any:
        if isinstance(tree, tuple):
            return tuple([taken(branch) for branch in tree])
        return tree if library_of(tree) is None else lent(tree)

    def back(tree: Any) -> Any:
        if isinstance(tree, tuple):
            return tuple([back(branch) for branch in tree])
        return None if tree is None else given_back(tree, like=like)

    def loss(*inputs: Any, **settings: Any) -> Any:
        value, grads = strips(*taken(inputs), **{name: taken(x) for name, x in settings.items()})
        return back(value), back(tuple(grads))

    return loss
