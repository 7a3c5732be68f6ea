"""views -> L: contrastive multiview coding, InfoNCE between every two views, in both directions.

In:  a tuple of embeddings (N, D), one array a view; row i is the same sample in all of them.
Out: one loss and a tuple of gradients. Each pair of views walks by itself; a view collects what all its pairs send.
"""

from itertools import combinations
from typing import Any, NamedTuple

from refcl import validate
from refcl.backend import Array, namespace
from refcl.losses.on_similarities import (
    SoftmaxContrastiveCache,
    softmax_contrastive_backward,
    softmax_contrastive_forward,
)
from refcl.pair import Pair
from refcl.pairing import check_roles
from refcl.similarity import InnerProductCache, inner_product_backward, inner_product_forward
from refcl.sphere import NormalizeCache, l2_normalize_backward, l2_normalize_forward


class BetweenCache(NamedTuple):
    one: int  # which two views
    other: int
    product: InnerProductCache
    forth: SoftmaxContrastiveCache  # the walk with the first as anchors
    back: SoftmaxContrastiveCache  # and with the second


class CmcCache(NamedTuple):
    on_sphere: tuple[NormalizeCache | None, ...]  # of each view; None where rows were taken as they are
    between: tuple[BetweenCache, ...]  # of each two views that are compared


def cmc_forward(
    views: tuple[Array, ...],
    temperature: Any = 0.07,
    *,
    core: bool | int = False,
    ignore: Array | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> tuple[Array, CmcCache]:
    r"""CMC: every view of a sample is to be told from the same view of other samples, by every other view.

    Parameters
    ----------
    views : tuple of two or more (N, D) arrays of float32 or float64
        Row i of each is the same sample.
    temperature : float or () array
        τ > 0, dimensionless.
    core : bool or int
        False: all pairs of views, the full graph. True: the first view with each of the others, the core view; a number
        makes another view the core (0 is the first, and not False).
    ignore : (N, N) array of booleans, optional
        True where sample k is no negative of anchor i, in every direction alike. The positive wins over it.
    reduction : str
        "mean" over the N anchors, "sum" or "none", which returns one row a direction: for each pair i < j of views (or
        the core and each other) first i as anchors, then j. The directions are added up, never averaged; with "none"
        the pair takes ``upstream``, an array like the value.
    normalize : bool
        Whether rows are brought to length 1 first, so that similarities are cosines.
    eps : float
        Shortest length to divide by when normalizing, > 0.

    Returns
    -------
    loss : () array, or (directions, N) array where the reduction is "none"
        In nats, >= 0.
    cache : CmcCache
        What the backward reads; the pair returns the gradients dviews, a tuple like ``views``, and dtemperature, a
        scalar, instead.

    Raises
    ------
    TypeError, ValueError
        Where an array is of another kind or shape, or a setting out of its range.

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
    >>> from refcl import cmc, info_nce
    >>> a, b, c = np.random.default_rng(0).standard_normal((3, 4, 8))
    >>> loss, grads = cmc((a, b, c), 0.1)
    >>> [dview.shape for dview in grads.dviews]
    [(4, 8), (4, 8), (4, 8)]
    >>> directions = [(a, b), (b, a), (a, c), (c, a), (b, c), (c, b)]
    >>> bool(np.isclose(loss, sum(info_nce(*direction, 0.1)[0] for direction in directions)))
    True
    """
    pairs = _pairs(views, core)
    xp = validate.floats("cmc", **{f"views[{i}]": (view, "N D") for i, view in enumerate(views)})
    temperature = validate.scalar("cmc", "temperature", temperature, like=views[0], positive=True)
    check_roles("cmc", views[0], views[0].shape[0], positive=None, ignore=ignore)
    validate.reduction("cmc", reduction)
    validate.setting("cmc", "eps", eps, above=0.0)
    on_sphere: tuple[NormalizeCache | None, ...] = (None,) * len(views)
    if normalize:
        views, on_sphere = zip(*(l2_normalize_forward(view, eps=eps) for view in views), strict=True)
    values, between = [], []
    for one, other in pairs:
        s, product = inner_product_forward(views[one], views[other])  # (N, N)
        forth, forth_walk = softmax_contrastive_forward(s, temperature, ignore=ignore, reduction=reduction)
        back, back_walk = softmax_contrastive_forward(s.T, temperature, ignore=ignore, reduction=reduction)
        values += [forth, back]
        between.append(BetweenCache(one, other, product, forth_walk, back_walk))
    value = xp.stack(values)  # (directions,) or (directions, N)
    return value if reduction == "none" else xp.asarray(xp.sum(value)), CmcCache(on_sphere, tuple(between))


def cmc_backward(dvalue: Array, cache: CmcCache) -> tuple[tuple[Array, ...], Array]:
    """Return dviews and dτ: a view receives from each of its pairs, as anchors and as candidates."""
    on_sphere, between = cache
    xp = namespace(dvalue)
    received: list[tuple[int, Array]] = []  # which view, and a part of its gradient
    dtemperatures = []
    for row, (one, other, product, forth, back) in enumerate(between):
        dforth, dback = (dvalue[2 * row, :], dvalue[2 * row + 1, :]) if dvalue.ndim else (dvalue, dvalue)
        ds_back, dtemperature_back = softmax_contrastive_backward(dback, back)
        ds_forth, dtemperature_forth = softmax_contrastive_backward(dforth, forth)
        dtemperatures += [dtemperature_forth, dtemperature_back]
        done, dother = inner_product_backward(ds_forth + ds_back.T, product)
        received += [(one, done), (other, dother)]
    dviews = []
    for view, sphere in enumerate(on_sphere):
        dz = sum(part for receiver, part in received if receiver == view)
        dviews.append(dz if sphere is None else l2_normalize_backward(dz, sphere))
    return tuple(dviews), xp.asarray(xp.sum(xp.stack(dtemperatures)))


def _pairs(views: Any, core: Any) -> list[tuple[int, int]]:
    """Return which two views are compared: all of them, or the core with each other."""
    if not isinstance(views, tuple):
        raise TypeError(f"cmc: views must be a tuple of (N, D) arrays, got {type(views).__name__}.")
    if len(views) < 2:
        raise ValueError(f"cmc: one view is compared with another; expected views of at least 2, got {len(views)}.")
    if core is False:
        return list(combinations(range(len(views)), 2))
    centre = 0 if core is True else core
    if not isinstance(centre, int) or not 0 <= centre < len(views):
        raise ValueError(f"cmc: core must be False, True or an int from 0 to {len(views) - 1}, got {core!r}.")
    return [(centre, view) for view in range(len(views)) if view != centre]


cmc = Pair(cmc_forward, cmc_backward)
