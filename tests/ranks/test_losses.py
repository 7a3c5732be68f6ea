"""The losses on ranks that are threads: the numbers of one process, and what each rank hears when one is wrong."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf
from rank_cases import Case, D, N, cases, dealt, failures, of_case

import refcl
from refcl import ranks
from refcl.ranks import exchange, on_threads
from refcl.ranks.threads import ThreadCommunicator

HOW = ("gather", "ring")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    ("size", "deal"),
    [
        *((1, "even"), (2, "even"), (2, "last"), (3, "unequal"), (4, "unequal")),
        *(
            pytest.param(size, deal, marks=pytest.mark.slow)
            for size, deal in ((3, "last"), (4, "even"), (7, "unequal"))
        ),
    ],
)
def test_numbers_of_one_process(size: int, how: str, deal: str) -> None:
    for wrong in on_threads(size, lambda comm: failures(comm, "float64", how, deal)):
        assert wrong == []


@pytest.mark.parametrize("how", HOW)
def test_float32(how: str) -> None:
    for wrong in on_threads(3, lambda comm: failures(comm, "float32", how, "unequal")):
        assert wrong == []


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("spoilt", ["a", "b", "queue", "upstream"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_wherever_one_process_has_it(spoilt: str, how: str) -> None:
    reached = 0
    for case in cases("float64", spoilt=spoilt):

        def of_rank(comm: Any, case: Case = case) -> Any:
            rows = dealt(comm, "unequal")
            value, grads = case.of_rank(comm, how, rows)
            return value, grads, rows

        results = on_threads(3, of_rank)
        wanted, wanted_grads = case.whole()
        for value, _, rows in results:
            part = wanted if case.own_value is None else case.own_value(wanted, rows)
            assert np.all(np.isnan(value) >= np.isnan(part)), case.name
        for field, want in wanted_grads._asdict().items():
            if want is not None:
                parts = [getattr(grads, field) for _, grads, _ in results]
                got = np.concatenate(parts) if want.ndim else np.stack(parts)
                expected = np.isnan(want[: got.shape[0]] if want.ndim else want)
                assert np.all(np.isnan(got) >= expected), f"{case.name}: {field}"
                reached += bool(expected.any())
    assert reached


@pytest.mark.parametrize("negatives", ["together", "by_view"])
@pytest.mark.parametrize("rows", [1, 3])
def test_without_negatives_nothing_is_lost_and_nothing_warned_of(
    rows: int, negatives: Any, rng: np.random.Generator
) -> None:
    a, b = rng.standard_normal((2, rows, D))
    ignore = np.ones((2 * rows, 2 * rows), dtype=bool)

    def of_rank(comm: Any) -> Any:
        own = [slice(0, rows), slice(rows, rows)][comm.Get_rank()]
        here = ignore if comm.Get_rank() == 0 else ignore[:0]
        return ranks.dcl(a[own], b[own], 0.3, negatives=negatives, ignore=here, comm=comm)

    for value, grads in on_threads(2, of_rank):
        assert value == 0
        assert not np.any(grads.da)
        assert not np.any(grads.db)


def test_the_comparison_finds_a_small_fault() -> None:
    case = next(cases("float64"))

    def with_fault(comm: Any, how: str, rows: slice) -> Any:
        value, grads = case.of_rank(comm, how, rows)
        return value, grads._replace(dkey=grads.dkey * (1 + 1e-9))

    wrong = on_threads(2, lambda comm: of_case(comm, case._replace(of_rank=with_fault), "float64", "ring", "even"))[0]
    assert len(wrong) == 1
    assert "dkey is off" in wrong[0]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("temperature", [0.02, 0.07, 0.5])
def test_a_positive_that_dominates_keeps_its_digits(how: str, temperature: float, rng: np.random.Generator) -> None:
    query = np.eye(6) + 0.05 * rng.standard_normal((6, 6))
    key = query + 0.05 * rng.standard_normal((6, 6))
    rows = [slice(0, 1), slice(1, 4), slice(4, 6)]

    def of_rank(comm: ThreadCommunicator) -> Any:
        r = rows[comm.Get_rank()]
        return ranks.info_nce(query[r], key[r], temperature, reduction="none", comm=comm, exchange=how)

    results = on_threads(3, of_rank)
    loss, dquery = np.concatenate([v for v, _ in results]), np.concatenate([g.dquery for _, g in results])
    dkey = np.concatenate([g.dkey for _, g in results])
    want, grads = refcl.info_nce(query, key, temperature, reduction="none")
    bound = (4 * (1 + 2 / temperature) + 6 / temperature) * np.finfo(float).eps
    truth = [exact_loss(query, key, i, temperature) for i in range(6)]
    assert float(max(truth)) < (1.0 if temperature > 0.1 else 1e-4)
    for got, one_process, true in zip(loss.tolist(), want.tolist(), truth, strict=True):
        assert abs(got - true) <= bound * true
        assert abs(got - one_process) <= bound * one_process
    for got, expected in ((dquery, grads.dquery), (dkey, grads.dkey)):
        lengths = np.linalg.norm(expected, axis=1)
        assert np.all(np.linalg.norm(got - expected, axis=1) <= 2 * bound * lengths)


def exact_loss(query: Any, key: Any, i: int, temperature: float) -> Any:
    """Return one anchor's loss at 50 digits."""

    def unit(row: Any) -> list[Any]:
        x = [mpf(float(v)) for v in row]
        length = mp.sqrt(mp.fsum(v * v for v in x))
        return [v / length for v in x]

    z = unit(query[i])
    s = [mp.fdot(z, unit(row)) for row in key]
    return mp.log1p(mp.fsum(mp.exp((x - s[i]) / mpf(temperature)) for k, x in enumerate(s) if k != i))


def test_many_blocks_are_put_together_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks.walk, "WAITING", 2)
    for wrong in on_threads(4, lambda comm: failures(comm, "float64", "ring", "even")):
        assert wrong == []


def test_tiles_of_two_anchors_and_three_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks.walk, "room_rows", lambda tile, like, candidates: 2)
    monkeypatch.setattr(ranks.walk, "tile_side", lambda tile, like: 3)
    for how in HOW:
        for wrong in on_threads(2, lambda comm, how=how: failures(comm, "float64", how, "even")):
            assert wrong == []


def test_auto_gathers_what_is_small_and_sends_round_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(bytes_allowed: int) -> set[str]:
        monkeypatch.setattr(exchange, "GATHERED_BYTES", bytes_allowed)
        rows = np.ones((2, D))
        numbers = exchange.numbered([2, 2], like=rows)
        return {
            type(e).__name__ for e in on_threads(2, lambda comm: exchange.chosen("auto", comm, rows, numbers, None))
        }

    everything = 2 * 4 * D * 8
    assert chosen(everything) == {"Gather"}
    assert chosen(everything - 1) == {"Ring"}


class Counted(ThreadCommunicator):
    """A communicator that keeps the sizes of what it sends, and in which order it did what."""

    def __init__(self, comm: ThreadCommunicator) -> None:
        super().__init__(comm._rank, comm._shared)
        self.done: list[tuple[str, int]] = []

    def allgather(self, x: Any) -> list[Any]:
        self.done.append(("allgather", 0))
        return super().allgather(x)

    def Isend(self, x: Any, dest: int, tag: int) -> Any:
        self.done.append((f"Isend {tag}", x.size))
        return super().Isend(x, dest, tag)


@pytest.mark.parametrize(("name", "rounds"), [("info_nce", 2), ("sig_lip", 1)])
def test_a_ring_sends_one_block_at_a_time(name: str, rounds: int, rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((2, 8, D))

    def of_rank(comm: ThreadCommunicator) -> list[tuple[str, int]]:
        counted = Counted(comm)
        r = slice(2 * comm.Get_rank(), 2 * comm.Get_rank() + 2)
        scalars = (0.1,) if name == "info_nce" else (2.0, -1.0)
        getattr(ranks, name)(a[r], b[r], *scalars, comm=counted, exchange="ring")
        return counted.done

    for done in on_threads(4, of_rank):
        assert done[0][0] == "allgather"  # the header comes before any rows
        assert done[-1][0] == "allgather"  # the scalars of all ranks after them
        sizes = [size for what, size in done if what == f"Isend {exchange.ROWS}"]
        assert sizes == [2 * D] * (3 * rounds)
        assert [size for what, size in done if what == f"Isend {exchange.GRADIENTS}"] == [2 * D] * 4


def heard(size: int, call: Callable[[Any], Any]) -> list[str]:
    """Return what each rank raises."""

    def of_rank(comm: Any) -> str:
        with pytest.raises((TypeError, ValueError, RuntimeError)) as raised:
            call(comm)
        return f"{raised.type.__name__}: {raised.value}"

    return on_threads(size, of_rank)


X = np.random.default_rng(2).standard_normal((4, D))


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (
            {"key": X.astype(int)},
            "TypeError: info_nce: rank 1: key is int64; expected float32 or float64. Convert it to one of them first.",
        ),
        (
            {"query": X.astype("float32"), "key": X.astype("float32")},
            "TypeError: info_nce: rank 1: the dtype is float32, and float64 on rank 0; expected one on all ranks.",
        ),
        (
            {"query": X[:, :3], "key": X[:, :3]},
            f"ValueError: info_nce: rank 1: D is 3, and {D} on rank 0; expected one on all ranks.",
        ),
        (
            {"temperature": 0.2},
            "ValueError: info_nce: rank 1: temperature is 0.2, and 0.1 on rank 0; expected the same on all ranks.",
        ),
        ({"temperature": 0.0}, "ValueError: info_nce: rank 1: temperature must be > 0 and finite, got 0.0."),
        (
            {"reduction": "sum"},
            "ValueError: info_nce: rank 1: reduction is sum, and mean on rank 0; expected the same on all ranks.",
        ),
        (
            {"exchange": "ring"},
            "ValueError: info_nce: rank 1: exchange is ring, and gather on rank 0; expected the same on all ranks.",
        ),
        (
            {"ignore": np.zeros((4, 12), dtype=bool)},
            "ValueError: info_nce: rank 1: ignore is given, and None on rank 0; expected the same on all ranks.",
        ),
        (
            {"key": X[:3]},
            "ValueError: info_nce: rank 1: 4 anchors need at least as many candidates for positives on the diagonal; "
            "got 3. Pass positive=(N,) columns.",
        ),
        (
            {"query": X[:1], "key": X[:0]},
            "ValueError: info_nce: rank 1: 1 anchors need at least as many candidates for positives on the diagonal; "
            "got 0. Pass positive=(N,) columns.",
        ),
        (
            {"colour": 3},
            "TypeError: info_nce: rank 1: there is no argument colour; expected ",
        ),
        (
            {"upstream": np.ones(4)},
            'ValueError: info_nce: rank 1: upstream goes with reduction="none" only; scale the gradients yourself.',
        ),
    ],
)
def test_all_ranks_hear_what_is_wrong_on_one(bad: dict[str, Any], sentence: str) -> None:
    good = {"query": X, "key": X, "temperature": 0.1, "exchange": "gather"}

    def call(comm: Any) -> Any:
        return ranks.info_nce(**{**good, **(bad if comm.Get_rank() == 1 else {})}, comm=comm)

    sentences = heard(3, call)
    assert len(set(sentences)) == 1
    assert sentences[0].startswith(sentence)


def test_numbers_and_masks_of_all_ranks_are_asked_for_together() -> None:
    positive = np.array([0, 1, 2, 8])
    for sentence in heard(2, lambda comm: ranks.info_nce(X, X, 0.1, positive=positive, comm=comm)):
        assert sentence == (
            "ValueError: info_nce: rank 0: positive[3] is 8; expected a number from 0 to 7, among all ranks."
        )
    mask = np.zeros((4, 4), dtype=bool)
    for sentence in heard(2, lambda comm: ranks.info_nce(X, X, 0.1, ignore=mask, comm=comm)):
        assert sentence == (
            "ValueError: info_nce: rank 0: ignore must have a column for each of the 8 candidates of all ranks; got 4."
        )


def test_a_queue_must_be_the_same_on_all_ranks() -> None:
    for sentence in heard(2, lambda comm: ranks.info_nce(X, X, 0.1, queue=X + comm.Get_rank(), comm=comm)):
        assert sentence.startswith("ValueError: info_nce: rank 1: queue is of shape (4, 5) with checksum ")


def test_ranks_that_call_different_losses_hear_of_it() -> None:
    calls = (ranks.info_nce, ranks.nt_xent)
    sentences = heard(2, lambda comm: calls[comm.Get_rank()](X, X, 0.1, comm=comm))
    assert sentences[0] == (
        "ValueError: info_nce: rank 1: the loss is nt_xent, and info_nce on rank 0; expected one on all ranks."
    )
    assert "the loss is nt_xent, and info_nce on rank 0" in sentences[1]


def test_no_rows_anywhere() -> None:
    for sentence in heard(2, lambda comm: ranks.nt_xent(X[:0], X[:0], 0.1, comm=comm)):
        assert sentence == "ValueError: nt_xent: no rank has a row of a; expected some on one of them."


def test_what_is_no_communicator() -> None:
    with pytest.raises(TypeError, match=r"comm must be a communicator such as mpi4py's MPI\.COMM_WORLD, got NoneType"):
        ranks.info_nce(X, X, 0.1, comm=None)


def test_an_upstream_of_another_shape() -> None:
    for sentence in heard(2, lambda comm: ranks.clip(X, X, 1.0, reduction="none", upstream=np.ones(4), comm=comm)):
        assert sentence == "ValueError: clip: rank 0: upstream must have shape (2, 4); got (4,)."


def test_an_error_that_is_not_one_of_the_doors() -> None:
    class Odd:
        ndim = property(lambda self: 1 / 0)

        def __array_namespace__(self) -> Any:
            return np

    sentences = heard(2, lambda comm: ranks.info_nce(Odd() if comm.Get_rank() else X, X, 0.1, comm=comm))
    assert set(sentences) == {"RuntimeError: info_nce: rank 1: ZeroDivisionError: division by zero"}


@pytest.mark.parametrize("how", HOW)
def test_inputs_stay_as_they_are_and_need_no_order_in_memory(how: str, rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((2, 2 * N, 2 * D))[:, ::2, ::2]
    a.flags.writeable = b.flags.writeable = False
    rows = [slice(0, 6), slice(6, N)]

    def of_rank(comm: Any) -> Any:
        r = rows[comm.Get_rank()]
        return ranks.nt_xent(a[r], b[r], 0.2, comm=comm, exchange=how)

    results = on_threads(2, of_rank)
    want, grads = refcl.nt_xent(a, b, 0.2)
    assert abs(results[0][0] - want) < 1e-14
    assert np.allclose(np.concatenate([g.da for _, g in results]), grads.da, rtol=0, atol=1e-14)


def test_ranks_wait_for_nobody_that_has_failed() -> None:
    def of_rank(comm: Any) -> Any:
        if comm.Get_rank() == 1:
            raise OSError("the disk is gone")
        return ranks.info_nce(X, X, 0.1, comm=comm, exchange="ring")

    with pytest.raises(OSError, match="the disk is gone"):
        on_threads(2, of_rank)
    with pytest.raises(ValueError, match="ranks must be >= 1"):
        on_threads(0, of_rank)


def test_import_needs_no_mpi() -> None:
    program = (
        "import sys; import refcl; assert 'refcl.ranks' not in sys.modules\n"
        "import refcl.ranks; assert 'mpi4py' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
