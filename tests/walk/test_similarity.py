"""z, z' -> s: inner products."""

import numpy as np
from backends import EPS, Backend, check_near
from cards import Built, Card, Sizes, rows
from loops import Matrix
from loops import inner_product as inner_product_in_loops

from refcl.walk.similarity import bilinear as bilinear_form
from refcl.walk.similarity import inner_product, rowwise_product
from refcl.walk.sphere import l2_normalize

RNG = np.random.default_rng(6)
Z, OTHER, DS = RNG.standard_normal((3, 2)), RNG.standard_normal((5, 2)), RNG.standard_normal((3, 5))


def rowwise(z: Matrix, other: list[Matrix]) -> Matrix:
    return [inner_product_in_loops([z_i], other_i)[0] for z_i, other_i in zip(z, other, strict=True)]


def bilinear(z: Matrix, other: Matrix, weight: Matrix) -> Matrix:
    return [
        [
            sum(z_i[a] * weight[a][b] * z_k[b] for a in range(len(weight)) for b in range(len(weight[0])))
            for z_k in other
        ]
        for z_i in z
    ]


def build_inner_product(rng: np.random.Generator, z: Sizes) -> Built:
    return (rows(rng, z.n, z.d), rows(rng, z.m, z.d)), {}


def build_rowwise_product(rng: np.random.Generator, z: Sizes) -> Built:
    return (rows(rng, z.n, z.d), rng.standard_normal((z.n, z.m, z.d))), {}


def build_bilinear(rng: np.random.Generator, z: Sizes) -> Built:
    return (rows(rng, z.n, z.d), rows(rng, z.m, z.d + 2), rows(rng, z.d, z.d + 2)), {}


CARDS = [
    Card(inner_product, [("plain", build_inner_product)], inner_product_in_loops),
    Card(rowwise_product, [("plain", build_rowwise_product)], rowwise),
    Card(bilinear_form, [("plain", build_bilinear)], bilinear),
]


def test_a_worked_example(backend: Backend) -> None:
    z, other, ds = (backend.array(np.array(v)) for v in ([[1.0, 2.0]], [[3.0, -1.0], [0.5, 0.25]], [[1.0, 4.0]]))
    s, cache = inner_product.forward(z, other)
    dz, dother = inner_product.backward(ds, cache)
    assert backend.host(s).tolist() == [[1.0, 1.0]]
    assert backend.host(dz).tolist() == [[5.0, 0.0]]
    assert backend.host(dother).tolist() == [[1.0, 2.0], [4.0, 8.0]]


def test_exchanging_the_sides_turns_the_matrix() -> None:
    s, cache = inner_product.forward(Z, OTHER)
    turned, turned_cache = inner_product.forward(OTHER, Z)
    check_near(turned, s.T, rtol=2 * EPS["float64"])
    dz, dother = inner_product.backward(DS, cache)
    check_near(inner_product.backward(np.ascontiguousarray(DS.T), turned_cache), (dother, dz), rtol=4 * EPS["float64"])


def test_on_the_sphere_similarities_are_cosines(rng: np.random.Generator) -> None:
    z, _ = l2_normalize(rng.standard_normal((4, 3)))
    s, _ = inner_product(z, z)
    assert np.abs(s).max() <= 1 + 4 * EPS["float64"]
    check_near(np.diagonal(s), np.ones(4), rtol=4 * EPS["float64"])


def test_a_rotation_of_both_changes_no_similarity(rng: np.random.Generator) -> None:
    rotation, _ = np.linalg.qr(rng.standard_normal((2, 2)))
    check_near(inner_product(Z @ rotation, OTHER @ rotation)[0], inner_product(Z, OTHER)[0], rtol=1e-14)


def test_one_array_may_be_both_sides_and_gets_a_gradient_from_each() -> None:
    s, grads = inner_product(Z, Z, upstream=DS[:, :3].copy())
    check_near(s, s.T, rtol=2 * EPS["float64"])
    check_near(grads.dz + grads.dother, (DS[:, :3] + DS[:, :3].T) @ Z, rtol=1e-14)
