"""s -> s+, s-: who is whose positive, negative, or neither."""

import itertools
from typing import Any

import numpy as np
import pytest
from backends import Backend
from cards import Card, on_similarities, roles
from loops import Matrix, Row
from loops import roles as roles_of

from refcl.walk.pairing import pairing


def pairing_in_loops(s: Matrix, **who: Any) -> tuple[Row, Matrix]:
    return [s_i[p] for s_i, (p, _) in zip(s, roles_of(s, **who), strict=True)], s


CARDS = [Card(pairing, [("diagonal", on_similarities()), ("roles", on_similarities(roles=roles))], pairing_in_loops)]

S = np.arange(12.0).reshape(3, 4) / 16


def test_the_diagonal_is_the_default() -> None:
    (s_pos, s_neg), cache = pairing.forward(S)
    assert s_pos.tolist() == [S[0, 0], S[1, 1], S[2, 2]]
    assert (cache.negatives == ~np.eye(3, 4, dtype=bool)).all()
    assert (s_neg[cache.negatives] == S[cache.negatives]).all()


def test_positives_may_stand_anywhere_and_share_a_column(backend: Backend) -> None:
    positive = backend.array(np.array([3, 0, 3]))
    (s_pos, _), cache = pairing.forward(backend.array(S), positive=positive)
    assert backend.host(s_pos).tolist() == [S[0, 3], S[1, 0], S[2, 3]]
    assert backend.host(cache.negatives).tolist() == [
        [True, True, True, False],
        [False, True, True, True],
        [True, True, True, False],
    ]


def test_what_is_ignored_is_no_negative(backend: Backend) -> None:
    ignore = np.zeros((3, 4), dtype=bool)
    ignore[0, 1] = ignore[2, 3] = True
    _, cache = pairing.forward(backend.array(S), ignore=backend.array(ignore))
    assert (backend.host(cache.negatives) == ~(np.eye(3, 4, dtype=bool) | ignore)).all()


def test_the_positive_wins_over_ignore() -> None:
    (s_pos, _), cache = pairing.forward(S, ignore=np.ones((3, 4), dtype=bool))
    assert s_pos.tolist() == [S[0, 0], S[1, 1], S[2, 2]]
    assert not cache.negatives.any()


def test_every_entry_is_one_of_three() -> None:
    """Positive, negative or neither, for every choice of a small matrix."""
    for positive, bits in itertools.product(range(3), itertools.product([False, True], repeat=3)):
        ignore = np.array([bits])
        _, cache = pairing.forward(S[:1, :3], positive=np.array([positive]), ignore=ignore)
        assert cache.is_positive.sum() == 1
        assert not (cache.is_positive & cache.negatives).any()
        assert (cache.is_positive | cache.negatives | ignore).all()


def test_gradients_go_where_values_came_from(backend: Backend) -> None:
    """The positive's to its column, the negatives' to theirs, nothing to what was ignored."""
    ignore = np.array([[False, False, True]])
    _, cache = pairing.forward(
        backend.array(S[:1, :3]), positive=backend.array(np.array([1])), ignore=backend.array(ignore)
    )
    ds = pairing.backward(backend.array(np.array([5.0])), backend.array(np.array([[2.0, 3.0, 7.0]])), cache)
    assert backend.host(ds).tolist() == [[2.0, 5.0, 0.0]]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_positives_are_integers_of_any_width(dtype: str) -> None:
    (s_pos, _), _ = pairing.forward(S, positive=np.array([1, 2, 3], dtype=dtype))
    assert s_pos.tolist() == [S[0, 1], S[1, 2], S[2, 3]]


def test_infinite_similarities_elsewhere_do_not_touch_the_positive() -> None:
    s = np.array([[0.5, -np.inf, np.inf, np.nan]])
    (s_pos, _), _ = pairing.forward(s)
    assert s_pos.tolist() == [0.5]


def test_one_anchor_and_one_candidate_have_no_negatives(backend: Backend) -> None:
    values: Any
    values, cache = pairing.forward(backend.array(np.array([[0.5]])))
    assert backend.host(values[0]).tolist() == [0.5]
    assert not backend.host(cache.negatives).any()
