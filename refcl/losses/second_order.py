"""How value and gradients of the softmax losses move along a direction: the Hessian in all arguments, times a vector.

In:  what a loss was called with, and a direction in each of its positional arguments.
Out: how fast the value moves, and each gradient. The Hessian is symmetric: this is also its transpose's product.

Letters: ``v`` is the direction of what it stands before, and the derivative along it of everything else.
"""

from typing import Any, NamedTuple

from refcl.core.arrays import Array, constant, namespace, row_dots, zeros
from refcl.losses.clip import clamp_forward
from refcl.walk.pairing import pairing_backward, pairing_forward
from refcl.walk.penalty import softplus_forward
from refcl.walk.pooling.soft_maximum import soft_maximum_forward
from refcl.walk.reduce import reduce_backward, reduce_forward
from refcl.walk.similarity import cosine_similarity_forward
from refcl.walk.sphere import NormalizeCache, l2_normalize_backward
from refcl.walk.two_views import two_view_similarity_forward


class Moved(NamedTuple):
    """A gradient, and how fast it moves."""

    d: Array
    vd: Array


def _softmax(
    s: Array,
    vs: Array,
    temperature: Array,
    vtemperature: Array,
    dvalue: Array,
    vdvalue: Array | None,
    *,
    positive: Array | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
) -> tuple[Array, Moved, Moved]:
    """Return the value's slope along the direction, and the gradients of s and τ with theirs.

    With the pool's r, the penalty's σ, Δ_k = s_k − s_p and u_k the slope of Δ_k/τ along the direction:

    dgap = E_r[u],  dr_k = r_k (u_k − E_r[u]),  dσ = σ (1 − σ) E_r[u].
    """
    xp = namespace(s)
    zero = constant(0.0, like=s)
    (s_pos, s_neg), pairing = pairing_forward(s, positive=positive, ignore=ignore)
    (vs_pos, vs_neg), _ = pairing_forward(vs, positive=positive, ignore=ignore)
    gap, pool = soft_maximum_forward(s_pos, s_neg, temperature, negatives=pairing.negatives)
    _, penalty = softplus_forward(gap)
    slope, complement = penalty.slope, softplus_forward(-gap)[1].slope  # σ and 1 − σ (N,), each to its digits
    counts = pairing.negatives & (pool.relative > 0)  # (N, M)
    d, vd = (xp.where(counts, neg - pos[:, None], zero) for neg, pos in ((s_neg, s_pos), (vs_neg, vs_pos)))
    u = vd / temperature - d * (vtemperature / temperature / temperature)  # (N, M)
    mean_u = xp.sum(pool.relative * u, axis=1)  # (N,)
    value, reduced = reduce_forward(slope * mean_u, reduction=reduction)
    dloss = reduce_backward(dvalue, reduced)  # (N,)
    vdloss = zero * dloss if vdvalue is None else reduce_backward(vdvalue, reduced)  # (N,)
    push = dloss * slope / temperature  # (N,) on all negatives together
    # Its own slope, less what the penalty's curvature adds to it, which the negatives' next line has from σ E_r[u].
    bare = vdloss * slope / temperature - push * (vtemperature / temperature)  # (N,)
    ds = pairing_backward(-push, push[:, None] * pool.relative, pairing)
    vds_neg = pool.relative * (bare[:, None] + push[:, None] * (u - (slope * mean_u)[:, None]))  # (N, M)
    vds = pairing_backward(-bare - push * complement * mean_u, vds_neg, pairing)
    # dτ is minus the sum of ds_neg d/τ over the negatives.
    scaled = d / temperature  # (N, M)
    dtemperature = -xp.sum(push[:, None] * pool.relative * scaled)
    vdtemperature = -xp.sum(vds_neg * scaled + push[:, None] * pool.relative * u)
    return value, Moved(ds, vds), Moved(dtemperature, vdtemperature)


def _along(x: Array, v: Array, on_sphere: NormalizeCache | None) -> Array:
    """Return how rows on the sphere move: the projection and its transpose are one."""
    return v if on_sphere is None else l2_normalize_backward(v, on_sphere)


def _off_sphere(dz: Array, vdz: Array, vz: Array, v: Array, on_sphere: NormalizeCache | None) -> Array:
    """Return how dh = (dz − z⟨z, dz⟩)/‖h‖ moves, where z moves by vz and h by v."""
    if on_sphere is None:
        return vdz
    xp = namespace(dz)
    z, length, there = on_sphere
    dh = l2_normalize_backward(dz, on_sphere)
    zero = constant(0.0, like=dz)
    turned = vz * row_dots(z, dz)[:, None] + z * row_dots(vz, dz)[:, None] + dh * row_dots(z, v)[:, None]  # (N, D)
    return l2_normalize_backward(vdz, on_sphere) - xp.where(there, turned / length, zero)


class _Compared(NamedTuple):
    """Embeddings on their way to similarities, and the direction of each."""

    s: Array  # (N, M)
    vs: Array  # (N, M)
    z: Array  # (N, D)
    vz: Array
    other: Array  # (M, D)
    vother: Array
    back: Any  # Moved ds -> how dquery and dkey move


def _compared(query: Array, vquery: Array, key: Array, vkey: Array, *, normalize: bool, eps: float) -> _Compared:
    s, cache = cosine_similarity_forward(query, key, normalize=normalize, eps=eps)
    z, other = cache.product
    vz, vother = _along(query, vquery, cache.query), _along(key, vkey, cache.key)

    def back(ds: Moved) -> tuple[Array, Array]:
        vdz, vdother = ds.vd @ other + ds.d @ vother, ds.vd.T @ z + ds.d.T @ vz
        return (
            _off_sphere(ds.d @ other, vdz, vz, vquery, cache.query),
            _off_sphere(ds.d.T @ z, vdother, vother, vkey, cache.key),
        )

    return _Compared(s, vz @ other.T + z @ vother.T, z, vz, other, vother, back)


Arrays = tuple[Any, ...]
Answer = tuple[Array, Arrays]  # how the value moves, and each gradient


def softmax_contrastive_moved(inputs: Arrays, v: Arrays, dvalue: Array, vdvalue: Array | None, **roles: Any) -> Answer:
    """Return how value, ds and dτ of `softmax_contrastive` move."""
    s, temperature, vs, vtemperature = _made_ready(inputs[:2], v)
    value, ds, dtemperature = _softmax(s, vs, temperature, vtemperature, dvalue, vdvalue, **_plain(roles))
    return value, (ds.vd, dtemperature.vd, None, None, None)


def info_nce_moved(
    inputs: Arrays,
    v: Arrays,
    dvalue: Array,
    vdvalue: Array | None,
    *,
    normalize: bool = True,
    eps: float = 1e-12,
    **roles: Any,
) -> Answer:
    """Return how value, dquery, dkey and dτ of `info_nce` move."""
    query, key, temperature, vquery, vkey, vtemperature = _made_ready(inputs[:3], v)
    compared = _compared(query, vquery, key, vkey, normalize=normalize, eps=eps)
    value, ds, dtemperature = _softmax(
        compared.s, compared.vs, temperature, vtemperature, dvalue, vdvalue, **_plain(roles)
    )
    return value, (*compared.back(ds), dtemperature.vd, None, None, None, None)


def nt_xent_moved(
    inputs: Arrays,
    v: Arrays,
    dvalue: Array,
    vdvalue: Array | None,
    *,
    normalize: bool = True,
    eps: float = 1e-12,
    ignore: Array | None = None,
    reduction: str = "mean",
    add_views: bool = False,
    **freedoms: Any,
) -> Answer:
    """Return how value, da, db and dτ of `nt_xent` move."""
    a, b, temperature, va, vb, vtemperature = _made_ready(inputs[:3], v)
    xp = namespace(a)
    factor = 2.0 if add_views and reduction == "mean" else 1.0
    (_, roles), _ = two_view_similarity_forward(a, b, ignore=ignore, normalize=normalize, eps=eps)
    both, vboth = xp.concat((a, b), axis=0), xp.concat((va, vb), axis=0)  # (2N, D)
    compared = _compared(both, vboth, both, vboth, normalize=normalize, eps=eps)
    value, ds, dtemperature = _softmax(
        compared.s,
        compared.vs,
        temperature,
        vtemperature,
        factor * dvalue,
        None if vdvalue is None else factor * vdvalue,
        positive=roles.positive,
        ignore=roles.ignore,
        reduction=reduction,
    )
    as_anchor, as_candidate = compared.back(ds)
    moved = as_anchor + as_candidate  # (2N, D)
    n = a.shape[0]
    return factor * value, (moved[:n, :], moved[n:, :], dtemperature.vd, None, None, None, None)


def clip_moved(
    inputs: Arrays,
    v: Arrays,
    dvalue: Array,
    vdvalue: Array | None,
    *,
    normalize: bool = True,
    eps: float = 1e-12,
    clamp: tuple[float, float] | None = None,
    ignore: Array | None = None,
    reduction: str = "mean",
    **freedoms: Any,
) -> Answer:
    """Return how value, dimage, dtext and dθ of `clip` move; where θ was clamped, it moves nothing."""
    image, text, log_scale, vimage, vtext, vlog_scale = _made_ready(inputs[:3], v)
    xp = namespace(image)
    zero = constant(0.0, like=image)
    log_scale, clamped = clamp_forward(log_scale, clamp)
    vlog_scale = xp.where(clamped.outside, zero, vlog_scale)
    temperature = xp.exp(-log_scale)  # ()
    vtemperature = -temperature * vlog_scale
    compared = _compared(image, vimage, text, vtext, normalize=normalize, eps=eps)
    like = zeros((2, image.shape[0]), like=image)
    _, reduced = reduce_forward(like, reduction=reduction)
    dloss = reduce_backward(dvalue, reduced)  # (2, N)
    vdloss = zero * dloss if vdvalue is None else reduce_backward(vdvalue, reduced)
    sides = []
    for side, (s, vs, mask) in enumerate(
        ((compared.s, compared.vs, ignore), (compared.s.T, compared.vs.T, None if ignore is None else ignore.T))
    ):
        sides.append(
            _softmax(s, vs, temperature, vtemperature, dloss[side, :], vdloss[side, :], ignore=mask, reduction="none")
        )
    (image_value, image_ds, image_dt), (text_value, text_ds, text_dt) = sides
    value, _ = reduce_forward(xp.stack((image_value, text_value)), reduction=reduction)
    ds = Moved(image_ds.d + text_ds.d.T, image_ds.vd + text_ds.vd.T)
    dtemperature, vdtemperature = image_dt.d + text_dt.d, image_dt.vd + text_dt.vd
    vdlog_scale = -vtemperature * dtemperature - temperature * vdtemperature  # of dθ = −τ dτ
    dlog_scale = xp.where(clamped.outside, zero, vdlog_scale)
    return value, (*compared.back(ds), dlog_scale, None, None, None, None)


def lacking(name: str, inputs: Arrays, settings: dict[str, Any]) -> str:
    """Return why a call has no second derivative, as a sentence; nothing where it has one."""
    if name not in SECOND_ORDER:
        return (
            f"there is no second derivative of it, only of {', '.join(SECOND_ORDER)}; differentiate refcl's gradients "
            "by differences."
        )
    plain = 2 if name == "softmax_contrastive" else 3
    if all(x is None for x in inputs[plain:]) and not any(settings.get(freedom) for freedom in FREEDOMS):
        return ""
    return (
        "there is a second derivative of it for one positive only, without weights, targets, own negatives, label "
        "smoothing and margins; differentiate refcl's gradients by differences."
    )


def _plain(roles: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in roles.items() if name not in FREEDOMS}


def _made_ready(inputs: Arrays, v: Arrays) -> Arrays:
    """Return inputs and directions: numbers as arrays, and no direction as 0."""
    like = inputs[0]
    ready = [constant(x, like=like) if isinstance(x, int | float) else x for x in inputs]
    moves = [
        zeros(x.shape, like=like) if direction is None else direction for x, direction in zip(ready, v, strict=False)
    ]
    return (*ready, *moves)


FREEDOMS = ("label_smoothing", "margin", "angular_margin")  # settings of which nobody has derived it
SECOND_ORDER: dict[str, Any] = {
    "softmax_contrastive": softmax_contrastive_moved,
    "info_nce": info_nce_moved,
    "nt_xent": nt_xent_moved,
    "clip": clip_moved,
}
