"""Who judges what: for each exercise the function that is asked for, and what holds it.

In:  an exercise's key.
Out: its judge. Small functions are compared with refcl's on random cases, losses are left to the oracle.
"""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

import refcl
from refcl.oracle.check import check
from refcl.oracle.exercises.judge import Function, Judge, Oracle, Value, apart, flat
from refcl.oracle.world import world

Random = np.random.Generator
SHAPES = ((4, 6), (3, 3), (7, 5))


def _each(draw: Callable[[Random, int, int], tuple[Any, ...]]) -> Callable[[Random], list[tuple[Any, ...]]]:
    """Return cases of several shapes, none of them square at N = D alone and none at τ = 1."""
    return lambda rng: [draw(rng, n, m) for n, m in SHAPES]


def _similarities(rng: Random, n: int, m: int) -> Any:
    return rng.uniform(-0.5, 0.9, (n, m))


def _row_factors(*case: Any) -> dict[str, float]:
    """The numbers by which a gradient of similarities is easily wrong."""
    arrays = [x for x in case if isinstance(x, np.ndarray)]
    found = {"N": float(len(arrays[0])), "2": 2.0}
    scalars = [x for x in case if isinstance(x, float)]
    return found | ({"τ": scalars[0], "τ²": scalars[0] ** 2} if scalars else {})


def _gap_cases(rng: Random) -> list[tuple[Any, ...]]:
    """Cases of (s_pos, s_neg, τ), two of them so cold that exponentials overflow, one with the positive far ahead."""
    drawn = [
        (rng.uniform(0.0, 0.9, n), _similarities(rng, n, m), tau)
        for (n, m), tau in zip(SHAPES, (0.3, 0.07, 0.001), strict=True)
    ]
    far = (np.array([-0.4, 0.99]), np.array([[0.9, 0.1], [-0.2, 0.3]]), 0.001)
    return [*drawn, far]


def _soft_maximum(s_pos: Any, s_neg: Any, temperature: float, **upstream: Any) -> Any:
    everyone = np.ones(s_neg.shape, dtype=bool)
    return refcl.walk.pooling.soft_maximum(s_pos, s_neg, temperature, negatives=everyone, **upstream)


def _pair(s: Any, positive: Any) -> Any:
    rows = np.arange(len(s))
    others = s.copy()
    others[rows, positive] = -np.inf
    return s[rows, positive], others


def _shares(s_neg: Any, temperature: float) -> Any:
    return refcl.hardness.relative_penalty(_with_positive(s_neg), temperature, positive=_last(s_neg))[:, :-1]


def _with_positive(s_neg: Any) -> Any:
    return np.concatenate([s_neg, np.zeros((len(s_neg), 1))], axis=1)


def _last(s_neg: Any) -> Any:
    return np.full(len(s_neg), s_neg.shape[1])


def _entropy(s_neg: Any, temperature: float) -> Any:
    s, positive = _with_positive(s_neg), _last(s_neg)
    return (
        refcl.hardness.penalty_entropy(s, temperature, positive=positive),
        refcl.hardness.entropy_slope(s, temperature, positive=positive),
    )


def _dtemperature(dgap: Any, d: Any, r: Any, temperature: float) -> Any:
    return _soft_maximum(np.zeros(len(d)), d, temperature, upstream=dgap)[1].dtemperature


def _dtemperature_case(rng: Random, n: int, m: int) -> tuple[Any, ...]:
    d, temperature = rng.uniform(-1.0, 0.4, (n, m)), 0.1 * n
    return rng.uniform(0.2, 1.0, n), d, _shares(d, temperature), temperature


def _triplet(s_pos: Any, s_neg: Any, margin: float) -> Any:
    s, positive = np.concatenate([s_neg, s_pos[:, None]], axis=1), _last(s_neg)
    loss, grads = refcl.triplet(s, margin=margin, positive=positive, reduction="none")
    return loss, grads.ds[:, -1], grads.ds[:, :-1]


def _triplet_cases(rng: Random) -> list[tuple[Any, ...]]:
    drawn = [
        (rng.uniform(0.0, 0.9, n), _similarities(rng, n, m), margin)
        for (n, m), margin in zip(SHAPES, (0.0, 0.3, 0.1), strict=True)
    ]
    ties = (np.array([0.25, 0.75]), np.array([[0.5, 0.5, 0.1], [0.5, 0.25, 0.5]]), 0.125)
    return [*drawn, ties]


def _hard(s: Any, temperature: float, count: int) -> Any:
    value, grads = refcl.hard_softmax_contrastive(s, temperature, hardest=count)
    return value, grads.ds, grads.dtemperature


def _hard_cases(rng: Random) -> list[tuple[Any, ...]]:
    drawn = [
        (_similarities(rng, n, m), tau, count) for n, m, tau, count in ((4, 6, 0.3, 2), (3, 8, 0.07, 4), (5, 5, 0.5, 1))
    ]
    ties = (np.array([[0.9, 0.5, 0.5, 0.5, 0.1], [0.25, 0.75, 0.25, 0.0, 0.25]]), 0.2, 2)
    return [*drawn, ties]


def _simple(s: Any) -> Any:
    value, grads = refcl.simple_contrastive(s)
    return value, grads.ds


def _uniformity(z: Any) -> Any:
    value, grads = refcl.metrics.uniformity(z)
    return value, grads.dz if hasattr(grads, "dz") else grads[0]


def _sphere(rng: Random, n: int, m: int) -> Any:
    z = rng.standard_normal((n, m))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def _embeddings(rng: Random) -> tuple[Any, ...]:
    return rng.standard_normal((6, 4)), rng.standard_normal((6, 4)), 0.3


def _small_memory(answer: Callable[..., Any]) -> str:
    """Complain where an answer holds a matrix of all similarities, or is wrong once there are several strips."""
    n = 2048
    query, key = np.random.default_rng(0).standard_normal((2, n, 8))
    tracemalloc.start()
    try:
        came = flat(answer(query, key, 0.2))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if peak <= 4 * n * n:  # bytes: half of the matrix
        value, grads = refcl.info_nce(query, key, 0.2)
        names = ("value", "dquery", "dkey", "dtemperature")
        for name, x, y in zip(names, came, (value, *grads[:3]), strict=True):
            if trouble := apart(name, np.asarray(x), np.asarray(y), {}, 1e-12):
                return f"At N = {n}: {trouble}"
        return ""
    return (
        f"it takes {peak / 1e6:.0f} MB at N = {n}, where a matrix of all similarities has {8 * n * n / 1e6:.0f} MB: "
        "go a strip of rows at a time."
    )


class _Alone:
    """A communicator of one rank, to recognise wrong answers with."""

    rank, size = 1, 2

    def all_gather(self, x: Any) -> list[Any]:
        return [x[::-1] + 0.1, x]

    def all_reduce(self, x: Any) -> Any:
        return 1.5 * x

    def reduce_scatter(self, x: Any) -> Any:
        half = len(x) // 2
        return 1.5 * x[half:]


JUDGES: dict[str, Judge] = {
    "mean": Function(
        "mean_backward",
        lambda dvalue, losses: dvalue * refcl.walk.reduce.reduce(losses)[1].dloss,
        lambda rng: [(0.7, rng.uniform(0.0, 3.0, n)) for n in (5, 3, 8)],
        ("dlosses",),
        lambda dvalue, losses: {"N": float(losses.size), "dvalue": dvalue},
    ),
    "linear": Function(
        "linear_backward",
        lambda dy, x, weight: tuple(refcl.walk.layers.linear(x, weight, np.zeros(weight.shape[1]), upstream=dy)[1]),
        lambda rng: [
            (rng.standard_normal((n, o)), rng.standard_normal((n, i)), rng.standard_normal((i, o)))
            for n, i, o in ((5, 3, 2), (4, 2, 6))
        ],
        ("dx", "dweight", "dbias"),
        _row_factors,
    ),
    "relu": Function(
        "relu_backward",
        lambda dy, x: np.where(x > 0, dy, 0.0),
        lambda rng: [
            (rng.standard_normal((4, 3)), np.round(rng.standard_normal((4, 3)))),
            (np.array([2.0, np.inf]), np.array([0.0, -1.0])),
        ],
        ("dx",),
    ),
    "sphere": Function(
        "normalize_backward",
        lambda dz, h: refcl.walk.sphere.l2_normalize(h, upstream=dz)[1].dh,
        _each(lambda rng, n, m: (rng.standard_normal((n, m)), 3 * rng.standard_normal((n, m)))),
        ("dh",),
    ),
    "similarity": Function(
        "similarity_backward",
        lambda ds, z, c: tuple(refcl.walk.similarity.inner_product(z, c, upstream=ds)[1]),
        _each(
            lambda rng, n, m: (rng.standard_normal((n, m)), rng.standard_normal((n, 2)), rng.standard_normal((m, 2)))
        ),
        ("dz", "dc"),
    ),
    "cosine": Function(
        "cosines",
        lambda query, key: refcl.walk.similarity.inner_product.forward(
            refcl.walk.sphere.l2_normalize.forward(query)[0], refcl.walk.sphere.l2_normalize.forward(key)[0]
        )[0],
        _each(lambda rng, n, m: (rng.standard_normal((n, 4)), rng.standard_normal((m, 4)))),
        ("s",),
    ),
    "pairing": Function(
        "pair",
        _pair,
        _each(lambda rng, n, m: (_similarities(rng, n, n + m), rng.integers(0, n + m, n))),
        ("s⁺", "the negatives"),
    ),
    "soft-maximum": Function("soft_maximum", lambda *case: _soft_maximum(*case)[0], _gap_cases, ("gap",), _row_factors),
    "relative-penalty": Function(
        "relative_penalty",
        _shares,
        lambda rng: [(_similarities(rng, n, m), tau) for (n, m), tau in zip(SHAPES, (0.3, 0.07, 0.001), strict=True)],
        ("r",),
    ),
    "soft-maximum-backward": Function(
        "soft_maximum_backward",
        lambda dgap, *case: tuple(_soft_maximum(*case, upstream=dgap)[1]),
        lambda rng: [(rng.uniform(0.2, 1.0, len(case[0])), *case) for case in _gap_cases(rng)],
        ("ds_pos", "ds_neg", "dtemperature"),
        _row_factors,
    ),
    "why-is-dtau-wrong": Function(
        "dtemperature", _dtemperature, _each(_dtemperature_case), ("dtemperature",), _row_factors
    ),
    "softplus": Function(
        "softplus",
        lambda gap: refcl.walk.penalty.softplus(gap)[0],
        lambda rng: [(rng.normal(0.0, 3.0, 6),), (np.array([1000.0, -700.0, -40.0, 0.0]),)],
        ("loss",),
        absolute=0.0,
    ),
    "softplus-backward": Function(
        "softplus_backward",
        lambda dloss, gap: refcl.walk.penalty.softplus(gap, upstream=dloss)[1].dgap,
        lambda rng: [
            (rng.uniform(0.2, 1.0, 6), rng.normal(0.0, 3.0, 6)),
            (np.array([0.5, 2.0, 3.0, 0.7]), np.array([700.0, -700.0, -40.0, 0.0])),
        ],
        ("dgap",),
        absolute=0.0,
    ),
    "triplet": Function("triplet", _triplet, _triplet_cases, ("the losses", "ds_pos", "ds_neg")),
    "simple": Function(
        "simple_contrastive",
        _simple,
        _each(lambda rng, n, m: (_similarities(rng, n, max(n, m)),)),
        ("value", "ds"),
        _row_factors,
    ),
    "softmax-value": Oracle(
        "softmax_contrastive",
        lambda answer: check(answer, "softmax_contrastive"),
        lambda rng: (_similarities(rng, 4, 6), 0.3),
        ("value",),
    ),
    "softmax-gradient": Oracle(
        "softmax_contrastive",
        lambda answer: check(answer, "softmax_contrastive"),
        lambda rng: (_similarities(rng, 4, 6), 0.3),
        ("value", "ds", "dtemperature"),
    ),
    "info-nce": Oracle(
        "info_nce", lambda answer: check(answer, "info_nce"), _embeddings, ("value", "dquery", "dkey", "dtemperature")
    ),
    "dcl": Oracle(
        "dcl",
        lambda answer: check(answer, "decoupled_contrastive"),
        lambda rng: (_similarities(rng, 4, 6), 0.3),
        ("value", "ds", "dtemperature"),
    ),
    "hardest": Function("hard_softmax", _hard, _hard_cases, ("value", "ds", "dtemperature"), _row_factors),
    "entropy": Function(
        "entropy_and_slope",
        _entropy,
        lambda rng: [(_similarities(rng, n, m), tau) for (n, m), tau in zip(SHAPES, (0.3, 0.07, 2.0), strict=True)],
        ("H", "dH/dτ"),
        _row_factors,
    ),
    "which-temperature": Value(0.20, 0.005),
    "stuck": Value("collapsed"),
    "uniformity": Function(
        "uniformity", _uniformity, _each(lambda rng, n, m: (_sphere(rng, n + 2, m),)), ("value", "dz"), _row_factors
    ),
    "clip": Oracle(
        "clip",
        lambda answer: check(answer, "clip"),
        lambda rng: (*_embeddings(rng)[:2], 1.2),
        ("value", "dimage", "dtext", "dlog_scale"),
    ),
    "nt-xent-value": Oracle("nt_xent", lambda answer: check(answer, "nt_xent"), _embeddings, ("value",)),
    "nt-xent-backward": Oracle(
        "nt_xent", lambda answer: check(answer, "nt_xent"), _embeddings, ("value", "da", "db", "dtemperature")
    ),
    "strips": Oracle(
        "info_nce",
        lambda answer: check(answer, "info_nce"),
        lambda rng: (rng.standard_normal((70, 4)), rng.standard_normal((70, 4)), 0.3),
        ("value", "dquery", "dkey", "dtemperature"),
        _small_memory,
    ),
    "two-ranks": Oracle(
        "one_rank",
        lambda answer: world(answer, "info_nce", ranks=2),
        lambda rng: (*_embeddings(rng), _Alone()),
        ("value", "dquery", "dkey", "dtemperature"),
    ),
}
