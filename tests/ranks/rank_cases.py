"""The losses over ranks beside those of one process: cases, and what may differ.

In:  a communicator of MPI or of threads.  Out: sentences about what is wrong, the same list on every rank.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import refcl
from refcl import ranks

N, D, QUEUE = 13, 5, 4
TAU = 0.13


class Case(NamedTuple):
    """One call, whole and dealt."""

    name: str
    whole: Callable[[], Any]  # value, grads of one process
    of_rank: Callable[[Any, str, Any], Any]  # comm, exchange, this rank's rows -> its value, grads
    worth: float  # of all anchors' losses together in the value
    own_value: Callable[[Any, Any], Any] | None = None  # this rank's part of a value that is not reduced


def dealt(comm: Any, deal: str) -> slice:
    """Return this rank's rows: unequal, evenly cut, or all on the last rank."""
    rank, size = comm.Get_rank(), comm.Get_size()
    if deal == "even":
        cuts = [N * r // size for r in range(size + 1)]
    elif deal == "unequal":
        inner = np.sort(np.random.default_rng(size).integers(0, N + 1, size - 1)).tolist()
        cuts = [0, *inner, N]
    else:
        cuts = [0] * size + [N]
    return slice(cuts[rank], cuts[rank + 1])


def cases(dtype: str, *, spoilt: str = "") -> Iterator[Case]:
    """Yield a case for each loss and each kind of setting; of the arrays, the one that is ``spoilt`` has a NaN."""
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((2, N, D)).astype(dtype)
    queue = rng.standard_normal((QUEUE, D)).astype(dtype)
    labels = np.concatenate([[99], rng.integers(0, 3, N - 1)])
    positive = rng.integers(0, N + QUEUE, N)
    ignore, ignore_two = rng.random((N, N)) < 0.3, rng.random((2 * N, 2 * N)) < 0.3
    ignore_queue = rng.random((N, N + QUEUE)) < 0.3
    upstream = rng.standard_normal(2 * N).astype(dtype)
    for name, array in {"a": a, "b": b, "queue": queue, "upstream": upstream}.items():
        if name == spoilt:
            array[(1,) * array.ndim] = np.nan
    scale = float(-np.log(TAU))

    def two(rows: slice) -> Any:
        return np.concatenate([np.arange(N)[rows], N + np.arange(N)[rows]])

    yield Case(
        "info_nce",
        lambda: refcl.info_nce(a, b, TAU),
        lambda comm, how, r: ranks.info_nce(a[r], b[r], TAU, comm=comm, exchange=how),
        1.0,
    )
    yield Case(
        "info_nce, a queue, a mask, sum",
        lambda: refcl.info_nce(a, np.concatenate([b, queue]), TAU, ignore=ignore_queue, reduction="sum"),
        lambda comm, how, r: ranks.info_nce(
            a[r], b[r], TAU, queue=queue, ignore=ignore_queue[r], reduction="sum", comm=comm, exchange=how
        ),
        N,
    )
    yield Case(
        "info_nce, positives anywhere",
        lambda: refcl.info_nce(a, np.concatenate([b, queue]), TAU, positive=positive),
        lambda comm, how, r: ranks.info_nce(
            a[r], b[r], TAU, queue=queue, positive=positive[r], comm=comm, exchange=how
        ),
        1.0,
    )
    yield Case(
        "info_nce, a bank and no keys",
        lambda: refcl.info_nce(a, queue, TAU, positive=positive % QUEUE),
        lambda comm, how, r: ranks.info_nce(
            a[r], b[:0], TAU, queue=queue, positive=positive[r] % QUEUE, comm=comm, exchange=how
        ),
        1.0,
    )
    yield Case(
        "info_nce, none, as they are",
        lambda: refcl.info_nce(a / 3, b / 3, TAU, reduction="none", upstream=upstream[:N], normalize=False),
        lambda comm, how, r: ranks.info_nce(
            a[r] / 3,
            b[r] / 3,
            TAU,
            reduction="none",
            upstream=upstream[:N][r],
            normalize=False,
            comm=comm,
            exchange=how,
        ),
        N,
        lambda value, r: value[r],
    )
    yield Case(
        "sig_lip",
        lambda: refcl.sig_lip(a, b, scale, -1.5, ignore=ignore),
        lambda comm, how, r: ranks.sig_lip(a[r], b[r], scale, -1.5, ignore=ignore[r], comm=comm, exchange=how),
        N,
    )
    yield Case(
        "clip, a mask",
        lambda: refcl.clip(a, b, scale, ignore=ignore),
        lambda comm, how, r: ranks.clip(a[r], b[r], scale, ignore=ignore[r], comm=comm, exchange=how),
        1.0,
    )
    yield Case(
        "clip, clamped, none",
        lambda: refcl.clip(a, b, 9.0, clamp=(0.0, scale), reduction="none", upstream=upstream.reshape(2, N)),
        lambda comm, how, r: ranks.clip(
            a[r],
            b[r],
            9.0,
            clamp=(0.0, scale),
            reduction="none",
            upstream=upstream.reshape(2, N)[:, r],
            comm=comm,
            exchange=how,
        ),
        2 * N,
        lambda value, r: value[:, r],
    )
    for add_views in (False, True):
        yield Case(
            f"nt_xent, add_views={add_views}",
            lambda v=add_views: refcl.nt_xent(a, b, TAU, add_views=v, ignore=ignore_two if v else None),
            lambda comm, how, r, v=add_views: ranks.nt_xent(
                a[r], b[r], TAU, add_views=v, ignore=ignore_two[two(r)] if v else None, comm=comm, exchange=how
            ),
            2.0,
        )
    yield Case(
        "nt_xent, none",
        lambda: refcl.nt_xent(a, b, TAU, reduction="none", upstream=upstream),
        lambda comm, how, r: ranks.nt_xent(
            a[r], b[r], TAU, reduction="none", upstream=upstream[two(r)], comm=comm, exchange=how
        ),
        2 * N,
        lambda value, r: value[two(r)],
    )
    for negatives in ("together", "by_view"):
        yield Case(
            f"dcl, {negatives}",
            lambda n=negatives: refcl.dcl(a, b, TAU, negatives=n, ignore=ignore_two),
            lambda comm, how, r, n=negatives: ranks.dcl(
                a[r], b[r], TAU, negatives=n, ignore=ignore_two[two(r)], comm=comm, exchange=how
            ),
            2.0,
        )
    yield Case(
        "dcl, by_view, as they are",
        lambda: refcl.dcl(a / 3, b / 3, TAU, negatives="by_view", normalize=False),
        lambda comm, how, r: ranks.dcl(
            a[r] / 3, b[r] / 3, TAU, negatives="by_view", normalize=False, comm=comm, exchange=how
        ),
        2.0,
    )
    for settings in (
        {},
        {"form": "in", "no_positive": "skip"},
        {"no_positive": "skip", "base_temperature": 0.07},
        {"form": "in", "base_temperature": 0.07, "reduction": "sum"},
    ):
        yield Case(
            f"sup_con, {settings}",
            lambda s=settings: refcl.sup_con(a, TAU, labels=labels, ignore=ignore, **s),
            lambda comm, how, r, s=settings: ranks.sup_con(
                a[r], TAU, labels=labels[r], ignore=ignore[r], comm=comm, exchange=how, **s
            ),
            2.0 * N if settings.get("reduction") else 4.0,
        )


def failures(comm: Any, dtype: str, how: str, deal: str) -> list[str]:
    """Run every case twice on these ranks, and say what is not as in one process, or not the same twice."""
    return [text for case in cases(dtype) for text in of_case(comm, case, dtype, how, deal)]


def of_case(comm: Any, case: Case, dtype: str, how: str, deal: str) -> list[str]:
    """Say what is wrong with one case."""
    rows = dealt(comm, deal)
    value, grads = case.of_rank(comm, how, rows)
    again, grads_again = case.of_rank(comm, how, rows)
    same = all(
        x.tobytes() == y.tobytes() for x, y in zip((value, *grads), (again, *grads_again), strict=True) if x is not None
    )
    everyone = comm.allgather((value, tuple(grads), rows, same))
    wanted, wanted_grads = case.whole()
    eps = float(np.finfo(dtype).eps)
    bound = (4 * (1 + 2 / TAU) + D / TAU) * eps * case.worth
    wrong = [] if all(s for *_, s in everyone) else ["two calls differ in their bits"]

    def compare(what: str, got: Any, want: Any, magnitude: float) -> None:
        if got.dtype != want.dtype or got.shape != want.shape:
            wrong.append(f"{what} is {got.dtype} {got.shape}, expected {want.dtype} {want.shape}")
        elif got.size and not np.max(np.abs(got - want)) <= bound * magnitude:
            wrong.append(f"{what} is off by {np.max(np.abs(got - want)):.3g}, allowed {bound * magnitude:.3g}")

    for rank, (v, *_) in enumerate(everyone):
        part = wanted if case.own_value is None else case.own_value(wanted, everyone[rank][2])
        compare(f"value on rank {rank}", v, part, 4 / TAU)
        if case.own_value is None and v.tobytes() != everyone[0][0].tobytes():
            wrong.append(f"the value's bits on rank {rank} are not those on rank 0")
    for j, want in enumerate(wanted_grads):
        if want is None:
            continue
        parts = [g[j] for _, g, *_ in everyone]
        field = wanted_grads._fields[j]
        if want.ndim == 0:
            for rank, part in enumerate(parts):
                compare(f"{field} on rank {rank}", part, want, 4 / TAU**2)
                if part.tobytes() != parts[0].tobytes():
                    wrong.append(f"{field}'s bits on rank {rank} are not those on rank 0")
        else:
            got = np.concatenate(parts)
            compare(field, got, want[: got.shape[0]], 4 / TAU)
    return [f"{case.name}, {dtype}, {how}, {deal}: {text}" for text in wrong]
