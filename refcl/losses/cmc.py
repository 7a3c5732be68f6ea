"""views -> L: contrastive multiview coding, InfoNCE between every two views, in both directions.

In:  a tuple of embeddings (N, D), one array a view; row i is the same sample in all of them.
Out: one loss and a tuple of gradients. Each pair of views walks by itself; a view collects what all its pairs send.
"""

import numbers
from itertools import combinations
from typing import Any, NamedTuple

from refcl.core.agreement import Call
from refcl.core.arguments import Reduction
from refcl.core.arrays import AnyArray, Array, Number, namespace
from refcl.core.pair import pair
from refcl.losses.info_nce import SoftmaxContrastiveCache, softmax_contrastive_backward, softmax_contrastive_forward
from refcl.walk.similarity import InnerProductCache, inner_product_backward, inner_product_forward
from refcl.walk.sphere import NormalizeCache, l2_normalize_backward, l2_normalize_forward


class ViewPairCache(NamedTuple):
    first: int  # which two views
    second: int
    product: InnerProductCache
    first_walk: SoftmaxContrastiveCache  # with the first view's rows as anchors
    second_walk: SoftmaxContrastiveCache  # with the second's


class CMCCache(NamedTuple):
    on_sphere: tuple[NormalizeCache | None, ...]  # of each view; None where rows were taken as they are
    view_pairs: tuple[ViewPairCache, ...]


def cmc_forward(
    views: tuple[Array, ...],
    temperature: Array,
    *,
    core: bool | int = False,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> tuple[Array, CMCCache]:
    """Bring each view to the sphere, walk each pair of views in both directions, and add up."""
    xp = namespace(views[0])
    on_sphere: tuple[NormalizeCache | None, ...] = (None,) * len(views)
    if normalize:
        views, on_sphere = zip(*(l2_normalize_forward(view, eps=eps) for view in views), strict=True)
    values, view_pairs = [], []
    for first, second in _view_pairs(len(views), core):
        s, product = inner_product_forward(views[first], views[second])  # (N, N)
        first_value, first_walk = softmax_contrastive_forward(s, temperature, ignore=ignore, reduction=reduction)
        second_value, second_walk = softmax_contrastive_forward(s.T, temperature, ignore=ignore, reduction=reduction)
        values += [first_value, second_value]
        view_pairs.append(ViewPairCache(first, second, product, first_walk, second_walk))
    value = xp.stack(values)  # (directions,) or (directions, N)
    return value if reduction == "none" else xp.asarray(xp.sum(value)), CMCCache(on_sphere, tuple(view_pairs))


def cmc_backward(dvalue: Array, cache: CMCCache) -> tuple[tuple[Array, ...], Array]:
    """Return dviews and dτ: a view receives from each of its pairs, as anchors and as candidates."""
    on_sphere, view_pairs = cache
    xp = namespace(dvalue)
    received: list[tuple[int, Array]] = []  # which view, and a part of its gradient
    dtemperatures = []
    for i, (first, second, product, first_walk, second_walk) in enumerate(view_pairs):
        dfirst_value, dsecond_value = (dvalue[2 * i, :], dvalue[2 * i + 1, :]) if dvalue.ndim else (dvalue, dvalue)
        ds_second, dtemperature_second, *_ = softmax_contrastive_backward(dsecond_value, second_walk)
        ds_first, dtemperature_first, *_ = softmax_contrastive_backward(dfirst_value, first_walk)
        dtemperatures += [dtemperature_first, dtemperature_second]
        dz_first, dz_second = inner_product_backward(ds_first + ds_second.T, product)
        received += [(first, dz_first), (second, dz_second)]
    dviews = []
    for view, sphere in enumerate(on_sphere):
        dz = sum(part for receiver, part in received if receiver == view)
        dviews.append(dz if sphere is None else l2_normalize_backward(dz, sphere))
    return tuple(dviews), xp.asarray(xp.sum(xp.stack(dtemperatures)))


def _view_pairs(count: int, core: bool | int) -> list[tuple[int, int]]:
    """Return which two views are compared: all of them, or the core with each other."""
    if core is False:
        return list(combinations(range(count), 2))
    centre = 0 if core is True else core
    return [(centre, view) for view in range(count) if view != centre]


def _core_is_a_view(call: Call, arguments: dict[str, Any]) -> None:
    """Ask for a core that is the number of a view, or True or False."""
    views, core = len(arguments["views"]), arguments["core"]
    if not isinstance(core, numbers.Integral) or not 0 <= int(core) < views:
        raise ValueError(f"{call.name}: core must be False, True or an int from 0 to {views - 1}, got {core!r}.")


class Views(NamedTuple):
    """A tuple of two or more arrays of floats of one shape, asked together with the others."""

    shape: str

    def each(self, name: str, argument: str, value: Any) -> list[tuple[str, str, Any]]:
        """Return the arrays, each by a name of its own."""
        if not isinstance(value, tuple):
            shape = ", ".join(self.shape.split())
            raise TypeError(f"{name}: {argument} must be a tuple of ({shape}) arrays, got {type(value).__name__}.")
        if len(value) < 2:
            raise ValueError(
                f"{name}: one view is compared with another; expected {argument} of at least 2, got {len(value)}."
            )
        return [(f"{argument}[{i}]", self.shape, x) for i, x in enumerate(value)]


class CMCGrads(NamedTuple):
    dviews: tuple[Array, ...]  # each (N, D)
    dtemperature: Array  # ()


@pair(views=Views("N D"), ignore="N N", also=_core_is_a_view)
def cmc(
    views: tuple[AnyArray, ...],
    temperature: Number = 0.07,
    *,
    core: bool | int = False,
    ignore: AnyArray | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
    upstream: AnyArray | None = None,
) -> tuple[Array, CMCGrads]:
    r"""CMC: every view of a sample is to be told from the same view of other samples, by every other view.

    Parameters
    ----------
    views : tuple of two or more (N, D) arrays of float32 or float64
        Row i of each is the same sample.
    temperature : optional
        As in `softmax_contrastive`.
    core : bool or int
        False: all pairs of views, the full graph. True: the first view with each of the others, the core view; a number
        makes another view the core (0 is the first, and not False).
    ignore : (N, N) array of booleans, optional
        True where sample k is no negative of anchor i, in every direction alike. The positive wins over it.
    reduction : str
        "mean" over the N anchors, "sum" or "none", which returns one row a direction: for each pair i < j of views (or
        the core and each other) first i as anchors, then j. The directions are added up, never averaged.
    normalize, eps : optional
        As in `info_nce`.
    upstream : (directions, N) array, optional
        With the reduction "none": what each anchor's loss is worth in the gradients, a row a direction; by default 1.

    Returns
    -------
    loss : () array, or (directions, N) array where the reduction is "none"
        In nats, >= 0.
    grads : CMCGrads
        dviews, a tuple like ``views``, and dtemperature ().

    Notes
    -----
    .. math:: L = \sum_{i<j} \bigl(L^{i \to j} + L^{j \to i}\bigr) \quad\text{or}\quad
              L = \sum_{j \ne c} \bigl(L^{c \to j} + L^{j \to c}\bigr)

    with `info_nce` in each direction. The sum has no ½: two views give twice `clip`. The candidates are those of the
    batch, and gradients reach both ends. The original keeps a bank for each view and draws from it by default: that is
    `nce` (or, with its softmax, `inst_disc`) of each view against the other's bank, added up.

    References
    ----------
    Tian, Krishnan and Isola, "Contrastive Multiview Coding", ECCV 2020, Section 3: the loss of two views, the core view
    and the full graph.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl import cmc
    >>> from refcl import info_nce
    >>> a, b, c = np.random.default_rng(0).standard_normal((3, 4, 8))
    >>> loss, grads = cmc((a, b, c), 0.1)
    >>> [dview.shape for dview in grads.dviews]
    [(4, 8), (4, 8), (4, 8)]
    >>> directions = [(a, b), (b, a), (a, c), (c, a), (b, c), (c, b)]
    >>> bool(np.isclose(loss, sum(info_nce(*direction, 0.1)[0] for direction in directions)))
    True
    """
