"""A loss of a tuple of arrays as a loss of these arrays, one after the other.

In:  a pair that takes a tuple first, such as `cmc`, and how many views it is given.
Out: a pair with one argument a view, so that each has a gradient of its own to be judged.
"""

import inspect
from typing import Any

from refcl.core.pair import AnyPair, Pair

VIEWS = 3  # the fewest at which the core view and the full graph differ


def flat(pair: AnyPair, views: int) -> AnyPair:
    """Return a pair as one of ``view_0``, ``view_1`` and so on, then its scalar.

    Parameters
    ----------
    pair : Pair
        Its first argument is a tuple of views, its second a scalar.
    views : int
        How many, at least 2.
    """
    if isinstance(views, bool) or not isinstance(views, int) or views < 2:
        raise ValueError(f"check: views must be an int >= 2, got {views!r}.")

    def forward(*arguments: Any, **settings: Any) -> Any:
        return pair.forward(arguments[:views], *arguments[views:], **settings)

    def backward(dvalue: Any, cache: Any) -> Any:
        dviews, dscalar = pair.backward(dvalue, cache)
        return (*dviews, dscalar)

    _, *others = (p for p in inspect.signature(pair).parameters.values() if p.name != "upstream")
    each = [inspect.Parameter(f"view_{k}", inspect.Parameter.POSITIONAL_OR_KEYWORD) for k in range(views)]
    forward.__signature__ = inspect.Signature([*each, *others])  # type: ignore[attr-defined]
    forward.__name__ = pair.forward.__name__
    return Pair(forward, backward)
