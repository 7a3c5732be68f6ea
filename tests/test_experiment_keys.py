"""The three sources of g(x), each against plain loops, and each leaving what came in as it was."""

import numpy as np
from backends import Backend

from refcl.experiment import keys
from refcl.walk.encoder import he_init


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.standard_normal(shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_the_same_encoder_pairs_row_with_row(backend: Backend, rng: np.random.Generator) -> None:
    key = backend.array(unit(rng, 5, 3))
    candidates = keys.same_candidates(key)
    assert candidates.key is key
    assert candidates.ignore is None
    assert backend.host(candidates.positive).tolist() == [0, 1, 2, 3, 4]


def test_a_bank_starts_on_the_sphere() -> None:
    bank = keys.start_bank(np.random.default_rng(3), 50, 4, like=np.zeros(1, dtype=np.float32))
    assert bank.entries.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(bank.entries, axis=1), 1.0, rtol=1e-6)
    assert np.linalg.norm(bank.entries.mean(axis=0)) < 0.4  # in all directions


def test_an_anchor_meets_the_whole_bank_and_its_own_entry_is_the_positive(
    backend: Backend, rng: np.random.Generator
) -> None:
    entries = backend.array(unit(rng, 6, 3))
    candidates = keys.bank_candidates(keys.Bank(entries), np.array([4, 0]))
    assert candidates.key is entries
    assert candidates.ignore is None
    assert backend.host(candidates.positive).tolist() == [4, 0]


def test_a_bank_averages_the_entries_it_saw_and_keeps_the_others(backend: Backend, rng: np.random.Generator) -> None:
    entries, z, index = unit(rng, 6, 3), unit(rng, 2, 3), np.array([4, 1])
    bank = keys.Bank(backend.array(entries))
    after = backend.host(keys.updated_bank(bank, backend.array(z), index, momentum=0.3).entries)
    expected = entries.copy()
    for row, n in enumerate(index):
        average = 0.3 * entries[n] + 0.7 * z[row]
        expected[n] = average / np.sqrt(np.sum(average**2))
    tolerance = 1e-6 if backend.dtype == "float32" else 1e-14
    np.testing.assert_allclose(after, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(after[[0, 2, 3, 5]], backend.host(bank.entries)[[0, 2, 3, 5]])
    np.testing.assert_array_equal(backend.host(bank.entries), entries.astype(backend.dtype))


def small_queue(backend: Backend, size: int) -> keys.Queue:
    # Wide enough that no sample leaves all hidden units off: its output would be the zero row, which stays zero.
    params = backend.arrays(he_init(np.random.default_rng(1), (4, 32, 3), batch_norm=True))
    return keys.start_queue(np.random.default_rng(2), size, 3, params)


def test_a_queue_forgets_what_came_first(backend: Backend, rng: np.random.Generator) -> None:
    queue = small_queue(backend, 5)
    start = backend.host(queue.entries)
    first, second = unit(rng, 2, 3), unit(rng, 2, 3)
    after = keys.enqueued(queue, backend.array(first), np.array([8, 9]))
    after = keys.enqueued(after, backend.array(second), np.array([6, 7]))
    expected = np.concatenate([second, first, start[:1]])
    np.testing.assert_allclose(backend.host(after.entries), expected, rtol=1e-6)
    assert after.sample.tolist() == [6, 7, 8, 9, -1]
    np.testing.assert_array_equal(backend.host(queue.entries), start)
    assert queue.sample.tolist() == [-1] * 5


def test_a_batch_larger_than_the_queue_fills_it(backend: Backend, rng: np.random.Generator) -> None:
    z = unit(rng, 4, 3)
    after = keys.enqueued(small_queue(backend, 3), backend.array(z), np.arange(4))
    np.testing.assert_allclose(backend.host(after.entries), z[:3], rtol=1e-6)
    assert after.sample.tolist() == [0, 1, 2]


def test_queue_candidates_are_the_own_key_and_the_queue_without_the_own_past(
    backend: Backend, rng: np.random.Generator
) -> None:
    queue = keys.enqueued(small_queue(backend, 4), backend.array(unit(rng, 2, 3)), np.array([7, 9]))
    candidates = keys.queue_candidates(queue, backend.array(rng.standard_normal((3, 4))), np.array([9, 5, 7]))
    key, ignore = backend.host(candidates.key), backend.host(candidates.ignore)
    assert backend.host(candidates.positive).tolist() == [0, 1, 2]
    np.testing.assert_allclose(np.linalg.norm(key, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(key[3:], backend.host(queue.entries))
    assert ignore[:, :3].all()  # the positive wins over it; the others are left out as in MoCo
    assert ignore[:, 3:].tolist() == [[False, True, False, False], [False] * 4, [True, False, False, False]]


def test_the_momentum_encoder_follows_slowly(backend: Backend) -> None:
    queue = small_queue(backend, 4)
    target = backend.arrays(he_init(np.random.default_rng(5), (4, 32, 3), batch_norm=True))
    after = keys.followed(queue, target, momentum=0.9)
    before = backend.host(queue.params[0][0])
    expected = 0.9 * before + 0.1 * backend.host(target[0][0])
    np.testing.assert_allclose(backend.host(after.params[0][0]), expected, rtol=1e-5, atol=1e-7)
    assert after.entries is queue.entries
