"""NaN in, NaN out: no loss and no gradient is a plausible number where one of the numbers that made it is none."""

from typing import Any

import numpy as np
import pytest
from backends import NUMPY, Backend, backend_named, leaves, map_leaves
from cases import PAIR_CASES, Case, named

BACKENDS = [backend_named(name) for name in ("numpy", "strict-device1")]
LOOK_AT_NUMBERS = ("fixed_entropy", "fixed_entropy_contrastive")  # to find a temperature: they refuse what is none
LINEAR = ("reduce", "simple_contrastive", "hard_simple_contrastive", "simple_loss", "hard_simple_loss")
LINEAR_IN = ("targets", "anchor_weight")  # of the others, whose gradients by them know nothing of them
CASES = [
    case for case in PAIR_CASES if "reduction" in case.function.settings and case.settings.get("reduction") != "none"
]


def spoilt(case: Case) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the inputs once for each array among them, with one NaN in its first row."""
    found = []
    arrays = list(leaves(case.inputs))
    for place, array in enumerate(arrays):
        if array is None:
            continue
        wrong = np.array(array)
        wrong[(0,) * wrong.ndim] = np.nan
        rest = [wrong if i == place else x for i, x in enumerate(arrays)]
        found.append((f"array {place}", map_leaves(lambda _, rest=rest: rest.pop(0), case.inputs)))  # type: ignore[misc]
    return found


def reaches(case: Case, place: str) -> bool:
    """Tell whether a change of that array changes the value: an entry that is ignored or left out does not count."""
    moved = dict(spoilt(case))[place]
    plain = case.function(*case.inputs, **case.settings)[0]
    finite = map_leaves(lambda x: x if x is None else np.where(np.isnan(x), 0.123, x), moved)
    return not np.array_equal(np.asarray(case.function(*finite, **case.settings)[0]), np.asarray(plain))


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@pytest.mark.parametrize("case", CASES, ids=named)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_one_nan_makes_the_value_nan(case: Case, backend: Backend) -> None:
    settings = {name: backend.arrays(value) for name, value in case.settings.items()}
    for place, inputs in spoilt(case):
        if not reaches(case, place):
            continue
        try:
            value, _ = case.function(*backend.arrays(inputs), **settings)
        except ValueError:
            assert case.function.__name__ in LOOK_AT_NUMBERS
            continue
        assert np.isnan(backend.host(value)).all(), f"{place}: {value}"


@pytest.mark.parametrize("case", CASES, ids=named)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_gradient_of_a_spoilt_anchor_is_plausible(case: Case) -> None:
    """The gradient by a spoilt array is NaN in its spoilt row, unless the loss is linear there."""
    for place, inputs in spoilt(case):
        if not reaches(case, place):
            continue
        if case.function.__name__ in (*LOOK_AT_NUMBERS, *LINEAR):
            continue
        given = [name for name, x in zip(case.function.arguments, case.inputs, strict=False) for _ in leaves(x)]
        if given[int(place.split()[1])] in LINEAR_IN:
            continue
        _, grads = case.function(*inputs, **case.settings)
        gradient = list(leaves(tuple(grads)))[int(place.split()[1])]
        first = np.asarray(gradient).reshape((*np.shape(gradient)[:1], -1))[0] if np.ndim(gradient) else gradient
        assert np.isnan(first).any(), f"{place}: {first}"


STRIPS = [case for case in PAIR_CASES if "tile" in case.function.settings and "reduction" in case.function.settings]


@pytest.mark.parametrize("case", STRIPS, ids=named)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_strips_lose_no_nan(case: Case) -> None:
    for place, inputs in spoilt(case):
        dense = case.function(*inputs, **case.settings)
        strips = case.function(*inputs, **case.settings, tile=2)
        for ours, theirs in zip(leaves(strips), leaves(dense), strict=True):
            if ours is not None:
                assert np.all(np.isnan(ours) >= np.isnan(theirs)), place


def test_the_check_can_fail() -> None:
    case = next(case for case in CASES if case.function.__name__ == "info_nce")
    assert [place for place, _ in spoilt(case) if reaches(case, place)] == ["array 0", "array 1", "array 2"]
    assert not np.isnan(case.function(*case.inputs, **case.settings)[0])
    assert NUMPY.name == "numpy"
