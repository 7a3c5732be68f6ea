"""Settings: booleans are booleans, counts are any integers, and what a scalar may be does not depend on the path."""

from collections.abc import Callable
from typing import Any

import array_api_strict
import numpy as np
import pytest
from backends import check_same_bits

import refcl
from refcl.walk.encoder import he_init

A, B = np.random.default_rng(3).standard_normal((2, 12, 5))
COUNTS: dict[str, Callable[[Any], Any]] = {
    "hardest": lambda n: refcl.hard_info_nce(A, B, hardest=n),
    "tile": lambda n: refcl.info_nce(A, B, tile=n),
    "core": lambda n: refcl.cmc((A, B, A[::-1].copy()), 0.2, core=n),
    "dimension": lambda n: (refcl.metrics.uniform_law_uniformity(n, t=2.0), ()),
    "nearest": lambda n: (0.0, refcl.metrics.local_separation(A @ B.T, nearest=n)),
    "n": lambda n: (refcl.mutual_information_bound(1.0, n), ()),
}


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint16])
@pytest.mark.parametrize("name", COUNTS)
def test_a_count_is_any_integer(name: str, kind: Any) -> None:
    value, grads = COUNTS[name](kind(2))
    want, want_grads = COUNTS[name](2)
    check_same_bits((np.asarray(value), tuple(grads)), (np.asarray(want), tuple(want_grads)))


@pytest.mark.parametrize("name", [name for name in COUNTS if name != "core"])
def test_no_count_is_a_boolean_or_broken(name: str) -> None:
    for wrong in (True, 2.5, "2"):
        with pytest.raises((TypeError, ValueError), match="must be"):
            COUNTS[name](wrong)


@pytest.mark.parametrize("wrong", ["no", 1, 0.0])
def test_a_boolean_is_one(wrong: Any) -> None:
    with pytest.raises(TypeError, match="normalize must be True or False"):
        refcl.info_nce(A, B, normalize=wrong)
    value, _ = refcl.info_nce(A, B, normalize=np.False_)
    assert value == refcl.info_nce(A, B, normalize=False)[0]


@pytest.mark.parametrize("dtype", ["int32", "float16", "complex128"])
def test_parameters_are_floats(dtype: str) -> None:
    with pytest.raises(ValueError, match='dtype must be "float64" or "float32"'):
        he_init(np.random.default_rng(0), (3, 4, 2), dtype=dtype)


def test_a_scalar_of_numpy_goes_with_any_array() -> None:
    s = np.clip(A @ B.T, -1, 1)
    want, _ = refcl.softmax_contrastive(s, 0.2)
    for temperature in (np.float64(0.2), np.array(0.2)[()]):
        value, _ = refcl.softmax_contrastive(array_api_strict.asarray(s), temperature)
        assert float(value) == float(want)
    with pytest.raises(TypeError, match="expected arrays from one library"):
        refcl.softmax_contrastive(array_api_strict.asarray(s), np.array(0.2))
