"""z, z' -> s: inner products."""

import numpy as np
from backends import EPS, Backend, check_near

from refcl.similarity import inner_product
from refcl.sphere import l2_normalize

RNG = np.random.default_rng(6)
Z, OTHER, DS = RNG.standard_normal((3, 2)), RNG.standard_normal((5, 2)), RNG.standard_normal((3, 5))


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
