"""The losses a strip of rows at a time: the dense walk's numbers, its exactness, and what threads must leave behind."""

import ast
import os
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np
import pytest
from backends import EPS, backend_named, check_near, check_same_bits, leaves
from calls import backward, forward, settings_on, upstream_for
from cases import ONE_COLUMN, ONE_ROW, Case, Sizes, cases, named
from mpmath import mp
from threadpoolctl import ThreadpoolController

import refcl
from refcl.core import pair as door
from refcl.strips import layout, losses, softmax, workers

TILED = {pair.__name__ for pair in vars(refcl).values() if isinstance(pair, refcl.Pair) and "tile" in pair.settings}
ODD = Sizes(37, 53, 6)
every_tiled_case = pytest.mark.parametrize(
    "case",
    [case for sizes in (ODD, ONE_ROW, ONE_COLUMN) for case in cases(sizes) if case.function.__name__ in TILED],
    ids=named,
)


@pytest.fixture(params=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers whatever the size and however many threads BLAS has, and tiles that small sizes do not fit in."""
    for module in ("softmax", "two_sided", "rooms"):
        monkeypatch.setattr(f"refcl.strips.{module}.workers_for", lambda like, entries: nullcontext(2))
    monkeypatch.setattr(layout, "TILE_ENTRIES", 80)


@pytest.fixture(scope="module", autouse=True)
def _two_threads() -> Iterator[None]:
    """As many workers as on a machine of two cores, whatever this one has and the suite leaves to BLAS."""
    libraries = workers._blas("scipy.linalg" in sys.modules)
    before = [(library, library.num_threads) for library in libraries]
    workers._set_threads([(library, 2) for library in libraries])
    yield
    workers._set_threads(before)


def views(n: int, m: int, d: int, dtype: str = "float64", seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng([n, m, d, seed])
    return rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((m, d)).astype(dtype)


def asked(name: str, a: Any, b: Any, number: float) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the inputs and settings of a loss of two sets of embeddings and a temperature or scale."""
    if name == "sig_lip":
        return (a, b, number, -2.0), {}
    if name == "inst_disc":
        return (a, number), {"bank": b, "index": a.__array_namespace__().arange(a.shape[0])}
    if name == "sup_con":
        xp = a.__array_namespace__()
        return (xp.concat([a, b]), number), {"labels": xp.asarray(np.tile(np.arange(a.shape[0]) // 2, 2))}
    if name == "multi_positive":
        positives = np.arange(a.shape[0])[:, None] // 2 == np.arange(b.shape[0]) // 2
        return (a, b, number), {"positives": a.__array_namespace__().asarray(positives)}
    return (a, b, number), {"hardest": 2} if "hard" in name else {}


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_losses_of_embeddings_have_tiles() -> None:
    of_the_paper = {"info_nce", "hard_info_nce", "simple_loss", "hard_simple_loss"}
    assert of_the_paper | {"nt_xent", "clip", "sig_lip", "sup_con", "multi_positive", "dcl", "inst_disc"} == TILED


@every_tiled_case
@pytest.mark.usefixtures("two_workers")
def test_strips_give_what_the_dense_walk_gives(case: Case, dtype: str) -> None:
    backend = backend_named("numpy" if dtype == "float64" else "numpy-float32")
    inputs = backend.arrays(case.inputs)
    want, dense = forward(case, inputs, backend)
    upstream = np.ones_like(want)
    settings = settings_on(case, backend)
    if case.settings.get("reduction") == "none":
        settings["upstream"] = upstream = backend.arrays(upstream_for(want, case.name))
    want_grads = backward(case, upstream, dense)
    # A parameter's gradient is a sum over pairs of mixed signs: its rounding goes by the terms, as large as Σ |z dz|.
    turned = sum(float(np.sum(np.abs(x * dx))) for x, dx in zip(inputs, want_grads, strict=True) if np.ndim(x) == 2)
    for tile in (1, 5, 64):
        got, got_grads = case.function(*inputs, **settings, tile=tile)
        assert (type(got), got.dtype, got.shape) == (np.ndarray, want.dtype, want.shape), tile
        check_near(got, want, rtol=60 * EPS[dtype], atol=4 * EPS[dtype])
        for got_grad, want_grad in zip(leaves(got_grads), leaves(want_grads), strict=True):
            assert (type(got_grad), got_grad.dtype, got_grad.shape) == (np.ndarray, want_grad.dtype, want_grad.shape)
            atol = 40 * EPS[dtype] * max(1.0, turned if want_grad.ndim == 0 else 0.0)
            check_near(got_grad, want_grad, rtol=200 * EPS[dtype], atol=atol)


@pytest.mark.parametrize("name", sorted(TILED))
@pytest.mark.usefixtures("two_workers")
def test_no_upstream_means_ones(name: str) -> None:
    inputs, settings = asked(name, *views(7, 7, 3), 0.5)
    value, grads = getattr(refcl, name)(*inputs, **settings, tile=3, reduction="none")
    again = getattr(refcl, name)(*inputs, **settings, tile=3, reduction="none", upstream=np.ones_like(value))
    check_same_bits((again[0], tuple(again[1])), (value, tuple(grads)))


def test_value_and_gradient_are_made_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    strips = softmax.softmax_strips
    monkeypatch.setattr(losses, "softmax_strips", lambda *a, **k: passes.append(k["dloss"]) or strips(*a, **k))
    refcl.info_nce(*views(8, 9, 3), 0.2, tile=3)
    assert [dloss is not None for dloss in passes] == [True]


def test_a_constant_bank_takes_no_third_product(monkeypatch: pytest.MonkeyPatch) -> None:
    products = []
    gather = softmax.gather

    def counted(xp: Any, weight: Any, rows: Any, *rest: Any, **how: Any) -> None:
        products.append(weight.shape)
        gather(xp, weight, rows, *rest, **how)

    monkeypatch.setattr(softmax, "gather", counted)
    a, b = views(4, 9, 3)
    _, grads = refcl.inst_disc(a, 0.5, bank=b, index=np.arange(4), tile=4)
    assert products == [(4, 9)]
    check_near(grads.dquery, refcl.info_nce(a, b, 0.5, tile=4)[1].dquery, rtol=1e-14)
    assert products == [(4, 9), (4, 9), (9, 4)]


@pytest.fixture
def small_strips(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Strips from 64 similarities on; which losses went through them."""
    went = set()
    for place, name in ((door, "ENTRIES_FOR_STRIPS"), (layout, "SOFTMAX_FROM"), (layout, "ROOMS_FROM")):
        monkeypatch.setattr(place, name, 64)
    for name in TILED:
        strips = getattr(losses, name)
        monkeypatch.setattr(losses, name, lambda *a, n=name, f=strips, **k: went.add(n) or f(*a, **k))
    return went


@pytest.mark.parametrize("name", sorted(TILED))
def test_size_chooses(name: str, small_strips: set[str]) -> None:
    n = {"nt_xent": 8, "dcl": 8, "sup_con": 4}.get(name, 8)
    for few, strips in ((n - 1, False), (n, True)):
        inputs, settings = asked(name, *views(few, few, 3), 0.5)
        getattr(refcl, name)(*inputs, **settings)
        assert (name in small_strips) is strips


@pytest.mark.parametrize("name", sorted(TILED))
def test_a_tile_is_a_number_of_rows(name: str) -> None:
    pair = getattr(refcl, name)
    inputs, settings = asked(name, *views(4, 4, 3), 0.5)
    for wrong in (True, 2.0, "64"):
        with pytest.raises(TypeError, match=rf"^{name}: tile must be a number of rows \(int >= 1\) or None, got "):
            pair(*inputs, tile=wrong, **settings)
    with pytest.raises(ValueError, match=rf"^{name}: tile must be a number of rows >= 1, got 0\.$"):
        pair(*inputs, tile=0, **settings)
    value, _ = pair(*inputs, tile=np.int64(2), **settings)
    check_near(value, pair(*inputs, **settings)[0], rtol=1e-14)


@pytest.mark.parametrize("name", sorted(TILED))
def test_other_libraries_have_no_tiles(name: str, small_strips: set[str]) -> None:
    pair = getattr(refcl, name)
    inputs, settings = asked(name, *(array_api_strict.asarray(x) for x in views(9, 9, 3)), 0.5)
    pair(*inputs, **settings)
    assert small_strips == set()
    with pytest.raises(
        ValueError, match=rf"^{name}: tile needs arrays whose memory NumPy or CuPy can use, got array_api_strict; "
    ):
        pair(*inputs, tile=2, **settings)


def test_a_wrong_upstream_is_refused_in_the_pairs_own_words() -> None:
    a, b = views(4, 4, 3)
    with pytest.raises(ValueError, match=r'^info_nce: upstream goes with reduction="none" only'):
        refcl.info_nce(a, b, tile=2, upstream=np.ones(()))
    with pytest.raises(ValueError, match=r"^info_nce: upstream must have the shape of the value, \(4,\); got \(3,\)"):
        refcl.info_nce(a, b, tile=2, reduction="none", upstream=np.ones(3))
    with pytest.raises(TypeError, match=r"^info_nce: value is float64 and upstream is float32"):
        refcl.info_nce(a, b, tile=2, reduction="none", upstream=np.ones(4, dtype=np.float32))
    with pytest.raises(TypeError, match=r"^info_nce: upstream is list"):
        refcl.info_nce(a, b, tile=2, reduction="none", upstream=[1.0] * 4)


# Exactness: where the positive dominates, and elsewhere.


def exact_info_nce(query: Any, key: Any, temperature: float) -> tuple[Any, Any, Any]:
    """Return losses, dquery and dkey of unit rows at 50 digits, the rows taken as they are."""
    n, m, d = len(query), len(key), query.shape[1]
    q = [[mp.mpf(float(x)) for x in row] for row in query]
    k = [[mp.mpf(float(x)) for x in row] for row in key]
    losses, dq, dk = [], np.zeros((n, d), object), np.zeros((m, d), object)
    for i in range(n):
        e = [mp.exp(mp.fdot(q[i], row) / mp.mpf(temperature)) for row in k]
        negatives = mp.fsum(e[:i] + e[i + 1 :])  # a difference would cancel, at 50 digits too
        losses.append(mp.log1p(negatives / e[i]))
        for c in range(m):
            share = (e[c] if c != i else -negatives) / (negatives + e[i]) / mp.mpf(temperature)
            dq[i] += [share * x for x in k[c]]
            dk[c] += [share * x for x in q[i]]
    return losses, dq, dk


def worst(got: Any, want: Any) -> float:
    """Return the worst error of a row, relative to the row's norm; rows of subnormal numbers are outside."""
    worst, smallest = mp.mpf(0), float(np.finfo(got.dtype).tiny / np.finfo(got.dtype).eps)
    counted = 0
    for got_row, want_row in zip(np.reshape(got, (len(got), -1)), np.reshape(want, (len(got), -1)), strict=True):
        norm = mp.sqrt(mp.fsum(x * x for x in want_row))
        if norm < smallest:
            continue
        counted += 1
        error = mp.sqrt(mp.fsum((mp.mpf(float(g)) - w) ** 2 for g, w in zip(got_row, want_row, strict=True)))
        worst = max(worst, error / norm)
    assert counted >= len(got) - 2
    return float(worst)


@pytest.mark.parametrize("temperature", [0.01, 0.03, 0.07, 0.5, 100.0])
@pytest.mark.parametrize("kind", ["random", "dominated", "collapsed"])
def test_strips_lose_no_digit_where_the_positive_dominates(temperature: float, kind: str, dtype: str) -> None:
    rng = np.random.default_rng(5)
    d = 16
    query, key = rng.standard_normal((2, 6, d))
    if kind == "dominated":
        key = query + 0.02 * key
    if kind == "collapsed":
        query, key = query[:1] + 0.01 * query, query[:1] + 0.01 * key
    query, key = ((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(dtype) for x in (query, key))
    number = float(np.asarray(temperature, dtype))
    losses, dq, dk = exact_info_nce(query, key, number)
    # No normalising, whose own rounding would be seen too: the rows are of length 1 to rounding already.
    got, grads = refcl.info_nce(query, key, np.asarray(number, dtype), reduction="none", tile=2, normalize=False)
    allowed = EPS[dtype] * (4 * (1 + 2 / number) + d / number)
    assert worst(got, losses) <= allowed
    # Gradient rows are sums of keys: the rounding of each entry counts against the row's share of 1/τ.
    assert worst(grads[0], dq) <= allowed * (60 if kind == "collapsed" else 2)
    assert worst(grads[1], dk) <= allowed * (60 if kind == "collapsed" else 2)


@pytest.mark.parametrize("name", ["info_nce", "nt_xent", "clip"])
def test_float32_strips_agree_with_float64_where_the_positive_dominates(name: str) -> None:
    """A positive left in the sums, to be subtracted again, is off by 6e-3 here."""
    rng = np.random.default_rng(2)
    a = rng.standard_normal((40, 16)).astype("float32")
    b = (a + 0.05 * rng.standard_normal((40, 16))).astype("float32")
    for temperature in (0.07, 0.03):
        number = -np.log(temperature) if name == "clip" else temperature
        pair = getattr(refcl, name)
        want, want_grads = pair(a.astype("float64"), b.astype("float64"), number)
        got, grads = pair(a, b, number, tile=16)
        allowed = EPS["float32"] * 20 / temperature
        check_near(got, want, rtol=allowed)
        for gradient, wanted in zip(leaves(grads), leaves(want_grads), strict=True):
            check_near(gradient, wanted, rtol=allowed)


@pytest.mark.parametrize("name", ["info_nce", "nt_xent", "clip"])
@pytest.mark.parametrize("temperature", [0.07, 1.0, 1e4])
def test_crowded_rows_keep_the_digits_of_the_temperature_s_gradient(name: str, temperature: float) -> None:
    """Σ ds s is what is left of terms a thousand times as large: the mean of the candidates is taken out first."""
    rng = np.random.default_rng(5)
    a, b = (unit(1 + 0.03 * rng.standard_normal((200, 24))).astype("float32") for _ in range(2))
    assert layout.mean_of_crowd(b, normalize=True) is not None
    number = float(np.float32(-np.log(temperature) if name == "clip" else temperature))
    settings: dict[str, Any] = {"normalize": False} | ({"clamp": None} if name == "clip" else {})
    want = getattr(refcl, name)(a.astype("float64"), b.astype("float64"), number, **settings, tile=64)[1]
    got = getattr(refcl, name)(a, b, number, **settings, tile=64)[1]
    dense, _ = refcl.walk.similarity.inner_product(unit(a.astype("float64")), unit(b.astype("float64")))
    spread = float(np.ptp(dense))  # Σ |ds| |s - s_p| is at most 2 spread/τ
    allowed = 2 * spread / temperature * (temperature if name == "clip" else 1 / temperature)
    assert abs(float(got[2]) - float(want[2])) <= 4 * EPS["float32"] * (1 + spread / temperature) * allowed


@pytest.mark.parametrize("name", ["info_nce", "nt_xent", "clip", "inst_disc"])
def test_crowded_rows_give_the_dense_numbers(name: str) -> None:
    rng = np.random.default_rng(6)
    a, b = (1 + 0.3 * rng.standard_normal((40, 6)) for _ in range(2))
    inputs, settings = asked(name, a, b, 0.3)
    want, wanted = getattr(refcl, name)(*inputs, **settings)
    got, grads = getattr(refcl, name)(*inputs, **settings, tile=9)
    check_near((got, *grads), (want, *wanted), rtol=1e-12)


def test_only_the_mean_of_a_crowd_is_taken_out() -> None:
    a, _ = views(400, 1, 8)
    assert layout.mean_of_crowd(unit(a), normalize=True) is None
    assert layout.mean_of_crowd(a, normalize=False) is None
    assert layout.mean_of_crowd(np.full((3, 2), 1e200), normalize=False) is None  # whose squares overflow
    assert layout.mean_of_crowd(np.full((3, 2), np.nan), normalize=True) is None
    np.testing.assert_allclose(layout.mean_of_crowd(a + 3, normalize=False), (a + 3).mean(axis=0), rtol=1e-14)


def test_a_loss_that_underflows_is_zero_or_subnormal_without_a_warning() -> None:
    a = np.eye(6, 8)
    for temperature in (1e-3, 0.0014):
        loss, grads = refcl.info_nce(a, a, temperature, tile=2)
        assert 0.0 <= float(loss) < 1e-300
        assert all(np.isfinite(x).all() for x in leaves(tuple(grads)))


@pytest.mark.parametrize("temperature", [0.1, 1e-3])  # with and without the maximum taken out
def test_anchors_without_negatives_have_no_loss(temperature: float) -> None:
    a, b = views(5, 7, 3)
    ignore = np.zeros((5, 7), bool)
    ignore[2] = True
    loss, grads = refcl.info_nce(a, b, temperature, ignore=ignore, tile=2, reduction="none")
    assert loss[2] == 0.0
    assert not grads.dquery[2].any()
    one, grads = refcl.nt_xent(a[:1], b[:1], temperature, tile=4)
    assert one == 0.0
    assert not any(x.any() for x in leaves(tuple(grads)))


def test_nan_comes_out_where_nan_went_in() -> None:
    a, b = views(6, 6, 3)
    a[4, 1] = np.nan
    loss, grads = refcl.info_nce(a, b, 0.1, tile=2, reduction="none")
    assert np.isnan(loss).tolist() == [False] * 4 + [True, False]
    assert np.isnan(grads.dquery[4]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isnan(refcl.info_nce(*views(6, 6, 3), np.array(np.nan), tile=2)[0])


# Sizes, memory and threads.


def test_memory_grows_with_the_rows_and_not_with_the_matrix() -> None:
    query, key = views(3000, 3000, 8, "float32")
    matrix = 3000 * 3000 * 4
    for pair in (refcl.info_nce, refcl.nt_xent, refcl.clip):
        pair(query[:4], key[:4], 0.5)
        tracemalloc.start()
        pair(query, key, 0.5, tile=64)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # nt_xent has four times the entries; both two-sided losses keep tiles for their second pass where they fit
        assert peak < (layout.KEPT_BYTES + matrix // 3 if pair is not refcl.info_nce else matrix // 6), pair


@pytest.mark.parametrize("length", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("name", ["info_nce", "nt_xent", "clip"])
@pytest.mark.usefixtures("two_workers")
def test_rows_taken_as_they_are_may_have_any_length(name: str, length: float, dtype: str) -> None:
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) * np.float32(length) for x in views(37, 37, 5, dtype))
    shifted = length > 1  # exp(900/τ) is out of reach
    assert layout.needs_no_shift(a, 0.5, layout.reach(a, b, False)) is not shifted
    want, want_grads = getattr(refcl, name)(a, b, 0.5, normalize=False)
    got, got_grads = getattr(refcl, name)(a, b, 0.5, normalize=False, tile=8)
    check_near(got, want, rtol=60 * EPS[dtype])
    for gradient, wanted in zip(leaves(got_grads), leaves(want_grads), strict=True):
        check_near(gradient, wanted, rtol=200 * EPS[dtype], atol=200 * EPS[dtype] * length**2)


def test_how_far_a_similarity_reaches() -> None:
    a, b = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[0.0, 2.0]])
    assert layout.reach(a, b, True) == 1.0
    assert layout.reach(a, b, False) == 10.0
    assert layout.reach(1e200 * a, b, False) == float("inf")
    assert not layout.needs_no_shift(a, 1.0, layout.reach(np.nan * a, b, False))


@pytest.mark.parametrize("name", ["info_nce", "nt_xent", "clip", "sig_lip"])
def test_rows_leave_the_sphere_some_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SPHERE_ROWS", 10)
    inputs, settings = asked(name, *views(37, 37, 5), 0.5)
    want, wanted = getattr(refcl, name)(*inputs, **settings)
    got, grads = getattr(refcl, name)(*inputs, **settings, tile=8)
    check_near((got, *grads), (want, *wanted), rtol=1e-13)


@pytest.mark.parametrize("kept", [0, 1 << 30])
@pytest.mark.parametrize("name", ["nt_xent", "clip"])
@pytest.mark.usefixtures("two_workers")
def test_tiles_are_kept_or_computed_again(name: str, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "KEPT_BYTES", kept)
    a, b = views(37, 37, 5)
    got, got_grads = getattr(refcl, name)(a, b, 0.5, tile=8)
    want, want_grads = getattr(refcl, name)(a, b, 0.5)
    check_near(got, want, rtol=1e-14)
    for gradient, wanted in zip(leaves(got_grads), leaves(want_grads), strict=True):
        check_near(gradient, wanted, rtol=1e-13)


@pytest.mark.parametrize("name", sorted(TILED))
def test_the_way_of_a_gpu_gives_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One tile a strip, and each row's maximum taken out: what a temperature on a device holds is not looked at."""
    pair = getattr(refcl, name)
    inputs, settings = asked(name, *views(37, 37, 5), 0.3)
    want, want_grads = pair(*inputs, **settings)
    monkeypatch.setattr(layout, "on_host", lambda like: False)
    for tile in (None, 16):
        monkeypatch.setattr(layout, "SOFTMAX_FROM", 0)
        monkeypatch.setattr(layout, "ROOMS_FROM", 0)
        got, got_grads = pair(*inputs, tile=tile, **settings)
        check_near(got, want, rtol=1e-14)
        for gradient, wanted in zip(leaves(got_grads), leaves(want_grads), strict=True):
            check_near(gradient, wanted, rtol=1e-13)


@pytest.mark.parametrize("n", [300, 1500], ids=["one worker", "several"])
def test_bits_repeat_also_from_several_threads_at_once(n: int) -> None:
    assert (n * n >= workers.ENTRIES_FOR_TWO) == (n == 1500)
    a, b = views(n, n, 16, "float32")
    calls = [lambda: refcl.info_nce(a, b, 0.1), lambda: refcl.nt_xent(a, b, 0.1), lambda: refcl.clip(a, b, 2.0)]
    want = [call() for call in calls]
    got: list[Any] = [None] * 12

    def work(place: int) -> None:
        got[place] = calls[place % 3]()

    threads = [threading.Thread(target=work, args=(place,)) for place in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, (value, grads) in enumerate(got):
        check_same_bits((value, *grads), (want[place % 3][0], *want[place % 3][1]))


def test_a_thread_holds_blas_although_another_set_its_number_before() -> None:
    limiter = ThreadpoolController().limit(limits=2, user_api="blas")  # the main thread's, from now on
    seen: list[Any] = []
    a, _ = views(3, 3, 2)

    def work() -> None:
        with workers.workers_for(a, workers.ENTRIES_FOR_TWO):
            seen.append(blas_threads())

    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert seen == [[1] * len(blas_threads())]
        assert set(blas_threads()) == {2}
    finally:
        limiter.restore_original_limits()


def test_the_first_to_come_may_leave_before_the_last() -> None:
    before, a = blas_threads(), views(3, 3, 2)[0]
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with workers.workers_for(a, workers.ENTRIES_FOR_TWO):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=work)
    with workers.workers_for(a, workers.ENTRIES_FOR_TWO):
        thread.start()
        entered.wait()
    assert set(blas_threads()) == {1}
    leave.set()
    thread.join()
    assert blas_threads() == before


def blas_threads() -> list[int]:
    return [library.num_threads for library in ThreadpoolController().select(user_api="blas").lib_controllers]


def test_the_threads_of_blas_are_restored() -> None:
    before = blas_threads()
    a, b = views(300, 300, 8)
    refcl.info_nce(a, b)
    assert blas_threads() == before
    with workers.workers_for(a, workers.ENTRIES_FOR_TWO):
        assert set(blas_threads()) == {1}
        with workers.workers_for(a, workers.ENTRIES_FOR_TWO):
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}, "the first to leave must not restore what the other still needs"
    assert blas_threads() == before


def test_who_holds_blas_alone_has_one_worker_everywhere() -> None:
    program = """
from threading import Thread
import numpy as np
import scipy.linalg
from refcl.strips import workers
a = np.zeros((1, 1))
libraries = workers._blas(True)
workers._set_threads([(library, 2) for library in libraries])
def work():
    with workers.one_blas_thread(alone=True) as most, workers.workers_for(a, workers.ENTRIES_FOR_TWO) as inside:
        print(most, inside, *sorted({library.num_threads for library in libraries}))
work()
for thread in (Thread(target=work), Thread(target=work)):
    thread.start()
    thread.join()
with workers.workers_for(a, workers.ENTRIES_FOR_TWO) as after:
    print(after)
print(*sorted({library.num_threads for library in libraries}))
"""
    assert " ".join(printed(program)) == "1 1 1 " * 3 + "2 2"


@pytest.mark.parametrize("failing", [0, 1])
def test_the_threads_of_blas_are_restored_after_an_error(failing: int) -> None:
    before = blas_threads()
    done, both_at_work = [], threading.Barrier(2)

    def work(share: int) -> None:
        both_at_work.wait()
        if share == failing:
            raise MemoryError(f"share {share}")
        time.sleep(0.1)
        done.append(share)

    a, _ = views(3, 3, 2)
    with pytest.raises(MemoryError, match=f"share {failing}"), workers.workers_for(a, workers.ENTRIES_FOR_TWO):
        workers.at_once(work, [(0,), (1,)], workers=2, take=lambda _: None)
    assert done == [1 - failing], "nobody leaves before the others are done"
    assert blas_threads() == before


def printed(program: str) -> list[str]:
    """Return the words that a program prints in a process of its own."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout.split()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_computes_too() -> None:
    program = """
import os, numpy as np, refcl
a = np.random.default_rng(0).standard_normal((300, 8))
want = refcl.info_nce(a, a)[0]
child = os.fork()
if child == 0:
    os._exit(0 if refcl.info_nce(a, a)[0] == want else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert printed(program) == ["0"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_during_a_call_has_its_blas_threads_back() -> None:
    program = """
import os, numpy as np
from refcl.strips import workers
libraries = workers._blas(False)
workers._set_threads([(library, 2) for library in libraries])
with workers.workers_for(np.zeros((1, 1)), workers.ENTRIES_FOR_TWO):
    child = os.fork()
    if child == 0:
        os._exit(0 if all(library.num_threads == 2 for library in libraries) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert printed(program) == ["0"]


def test_where_no_thread_can_be_had_the_caller_does_it_all() -> None:
    """A thread that outlives the main one: the interpreter starts no more."""
    program = """
import threading, numpy as np, refcl
from refcl.strips import workers
a = np.random.default_rng(0).standard_normal((1500, 4))
assert a.shape[0] ** 2 >= workers.ENTRIES_FOR_TWO
def work():
    threading.main_thread().join()
    print(float(refcl.info_nce(a, a)[0]))
threading.Thread(target=work).start()
print(float(refcl.info_nce(a, a)[0]))
"""
    first, second = printed(program)
    assert first == second


def test_ctrl_c_does_not_leave_the_other_workers_behind() -> None:
    program = """
import os, signal, threading, time
from refcl.strips import workers
done, at_work = [], threading.Event()
def work(share):
    if threading.current_thread() is threading.main_thread():
        at_work.set()
        time.sleep(600)
    else:
        at_work.wait()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        done.append("written")
try:
    workers.at_once(work, [(0,), (1,)], workers=2, take=done.append)
except KeyboardInterrupt:
    print("interrupted", *done)
"""
    assert printed(program)[:2] == ["interrupted", "written"]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64"])
@pytest.mark.usefixtures("two_workers")
def test_a_positive_may_be_an_integer_of_any_size(dtype: str) -> None:
    a, b = views(30, 900, 3)
    positive = np.random.default_rng(0).integers(0, 200, 30)
    want, wanted = refcl.info_nce(a, b, 0.3, positive=positive, tile=None)
    got, grads = refcl.info_nce(a, b, 0.3, positive=positive.astype(dtype), tile=10)
    check_near((got, *grads), (want, *wanted), rtol=1e-11)


@pytest.mark.parametrize("upstream", [None, np.arange(18.0).reshape(2, 9) / 7])
def test_clip_of_one_array_with_itself_is_no_nt_xent(upstream: Any) -> None:
    a = unit(views(9, 9, 4)[0])
    settings: dict[str, Any] = {"normalize": False}
    if upstream is not None:
        settings |= {"reduction": "none", "upstream": upstream}
    want, wanted = refcl.clip(a, a.copy(), 1.0, **settings)
    got, grads = refcl.clip(a, a, 1.0, **settings, tile=4)
    check_near((got, *grads), (want, *wanted), rtol=1e-12)
    assert not np.shares_memory(grads.dimage, grads.dtext)


def test_inputs_may_be_read_only_and_are_left_alone() -> None:
    a, b = views(40, 40, 5)
    kept = a.copy(), b.copy()
    for x in (a, b):
        x.setflags(write=False)
    for normalize in (True, False):
        for pair in (refcl.info_nce, refcl.nt_xent, refcl.clip, refcl.simple_loss):
            pair(a, b, 0.5, tile=7, normalize=normalize)
    check_same_bits((a, b), kept)


def test_strips_use_what_numpy_and_cupy_share() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy warns on import where it finds no CUDA
        cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    names = set()
    for path in Path(refcl.strips.__file__ or "").parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "xp":
                names.add(node.attr)
    assert {"matmul", "exp", "divide", "copyto"} <= names
    for library in (np, cupy):
        assert {name for name in names if not hasattr(library, name)} == set()
