"""z, z' -> d: distances of rows, pair by pair."""

import math
from typing import Any

import numpy as np
import pytest
from backends import EPS, Backend, check_near
from cards import Builder, Built, Card, Sizes, rows
from digits import exact, mp, mpf
from loops import Matrix, l2_normalize

from refcl.walk.distance import row_distance

KINDS = ("euclidean", "squared", "cosine")


def row_distance_in_loops(z: Matrix, other: Matrix, *, distance: str = "euclidean") -> list[float]:
    if distance == "cosine":
        pairs = zip(l2_normalize(z), l2_normalize(other), strict=True)
        return [1 - sum(x * y for x, y in zip(u, v, strict=True)) for u, v in pairs]
    return [math.dist(x, y) ** (2 if distance == "squared" else 1) for x, y in zip(z, other, strict=True)]


def apart(**settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        return (rows(rng, z.n, z.d), rows(rng, z.n, z.d)), settings

    return build


CARDS = [Card(row_distance, [(kind, apart(distance=kind)) for kind in KINDS], row_distance_in_loops)]


def test_a_worked_example(backend: Backend) -> None:
    z, other = (backend.array(np.array(x)) for x in ([[3.0, 0.0], [1.0, 1.0]], [[0.0, 4.0], [1.0, 1.0]]))
    for kind, d, dz in (("euclidean", [5.0, 0.0], [0.6, -0.8]), ("squared", [25.0, 0.0], [6.0, -8.0])):
        value, grads = row_distance(z, other, distance=kind)
        assert backend.host(value).tolist() == d
        check_near(backend.host(grads.dz), np.array([dz, [0.0, 0.0]]), rtol=2 * EPS[backend.dtype])
        check_near(backend.host(grads.dother), -backend.host(grads.dz), rtol=0)


@pytest.mark.parametrize("power", [1, 0.9, -0.9, -1])
def test_a_distance_exists_where_its_square_does_not(power: float, backend: Backend) -> None:
    scale = 10.0 ** round(power * (300 if backend.dtype == "float64" else 36))
    z, other = (backend.array(np.array([row]) * scale) for row in ([3.0, 0.0], [0.0, 4.0]))
    d, grads = row_distance(z, other)
    check_near(backend.host(d) / scale, np.array([5.0]), rtol=4 * EPS[backend.dtype])
    check_near(backend.host(grads.dz), np.array([[0.6, -0.8]]), rtol=4 * EPS[backend.dtype])


def cosine_truth(x: Any, y: Any) -> tuple[mpf, list[mpf]]:
    """Return 1 − cos and its gradient by x, −(v − u cos)/‖x‖."""
    (u, v), length = ([[a / mp.sqrt(mp.fdot(r, r)) for a in r] for r in (x, y)]), mp.sqrt(mp.fdot(x, x))
    cos = mp.fdot(u, v)
    return 1 - cos, [-(b - a * cos) / length for a, b in zip(u, v, strict=True)]


@pytest.mark.parametrize("apart_by", [1.0, 1e-2, 1e-4, 1e-6])
def test_a_cosine_near_1_keeps_the_digits_of_what_is_left(apart_by: float, rng: np.random.Generator) -> None:
    """The directions are rounded, by eps: of a distance of δ²/2 is lost eps/δ, and not eps/δ² as of 1 − cos."""
    x = rng.standard_normal((5, 4))
    y = 1.5 * x + apart_by * rng.standard_normal((5, 4))
    d, grads = row_distance(x, y, distance="cosine")
    for i, (row, other) in enumerate(zip(exact(x.tolist()), exact(y.tolist()), strict=True)):
        want, dz = cosine_truth(row, other)
        allowed = 16 * EPS["float64"] * (1 + 1 / math.sqrt(2 * float(want)))
        assert abs(mpf(float(d[i])) - want) <= allowed * want
        length = mp.sqrt(mp.fsum(g * g for g in dz))
        assert max(abs(mpf(float(a)) - b) for a, b in zip(grads.dz[i], dz, strict=True)) <= allowed * length


def test_a_row_without_a_direction_is_at_distance_1() -> None:
    z, other = np.array([[0.0, 0.0], [1e-13, 0.0]]), np.array([[3.0, 4.0], [2.0, 0.0]])
    d, grads = row_distance(z, other, distance="cosine")
    check_near(d, np.array([1.0, 0.9]), rtol=1e-15)
    check_near(grads.dz, -np.array([[0.6, 0.8], [1.0, 0.0]]) / 1e-12, rtol=1e-15)
    check_near(row_distance(other, z, distance="cosine")[1].dother, grads.dz, rtol=1e-15)


def test_coinciding_rows_get_no_gradient_and_no_nan() -> None:
    z = np.array([[0.5, -2.0], [0.0, 3.0]])
    for kind in KINDS:
        d, grads = row_distance(z, z, distance=kind)
        assert d.tolist() == [0.0, 0.0]
        assert not np.any(grads.dz)
        assert not np.any(grads.dother)
