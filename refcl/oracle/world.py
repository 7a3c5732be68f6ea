"""A distributed loss in one process: every rank is a thread, and collectives hand arrays over.

In:  the function that one rank runs, with a communicator as its last argument.
Out: a report that also knows world-size factors, gradients that stay on their rank and missing rank offsets.
"""

import contextlib
import importlib
import inspect
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from refcl.oracle.adapters import loss_of
from refcl.oracle.candidate import SCALAR_NAMES
from refcl.oracle.check import check
from refcl.oracle.question import ask
from refcl.oracle.raised import CannotJudge
from refcl.oracle.report import Report
from refcl.oracle.returned import signature_of

FRAMEWORKS = ("numpy", "torch", "torch.distributed", "jax", "mpi")
Share: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]  # arrays and scalars of one rank, and what comes by name


class Communicator:
    """What one rank sees of the others: ``rank``, ``size``, ``all_gather``, ``all_reduce``, ``reduce_scatter``.

    Works on NumPy arrays and on PyTorch tensors. A gathered tensor carries no gradient unless ``gradient=True``, as
    with ``torch.distributed`` and ``torch.distributed.nn``.
    """

    def __init__(self, rank: int, size: int, board: "_Board") -> None:
        self.rank = rank
        self.size = size
        self._board = board

    def all_gather(self, x: Any, *, gradient: bool = False) -> list[Any]:
        """Return everyone's array, in order of rank."""
        everyone = self._board.exchange(self.rank, x)
        if gradient or not hasattr(x, "detach"):
            return everyone
        return [y.detach() for y in everyone]

    def all_reduce(self, x: Any) -> Any:
        """Return the sum of everyone's arrays."""
        return _sum(self.all_gather(x))

    def reduce_scatter(self, x: Any) -> Any:
        """Return this rank's share of the sum of everyone's arrays, split along the first axis."""
        total = self.all_reduce(x)
        each = len(total) // self.size
        return total[self.rank * each : (self.rank + 1) * each]


def world(
    per_rank: Callable[..., Any],
    loss: str,
    *,
    ranks: int = 2,
    averaged: bool = True,
    whole: bool = False,
    framework: str = "numpy",
    **settings: Any,
) -> Report:
    """Run a distributed loss over ranks, simulated or real, and say what is wrong with it.

    Parameters
    ----------
    per_rank : callable
        ``f(*local_arrays, comm) -> value, grads`` with the gradients of the local arrays and, if it has one, of the
        temperature, or a value alone; or, with ``framework="torch"``, ``f(*local_tensors, comm) -> value``. ``comm`` is
        a `Communicator`.
        ``f(*local_arrays, temperature, comm)`` lets other temperatures be tried, the same on every rank; in PyTorch it
        is a tensor, whose gradient is judged. Labels come by name, those of the rank's own rows.
    loss : str
        What the loss over the whole batch should be: "info_nce", "clip", "nt_xent" or any other whose arrays have a
        row for each sample.
    ranks : int
        How many ranks share the batch equally.
    averaged : bool
        Whether gradients are averaged over ranks afterwards, as distributed data parallel does; False where they are
        added.
    whole : bool
        Whether value and gradients are those of the loss over all ranks already, as `refcl.ranks` returns them: nothing
        is averaged or added, and what a rank holds of the temperature must be all of it.
    framework : str
        "numpy" or "torch", whose ranks are threads of this process. "torch.distributed": ``f(*local_tensors)``,
        without ``comm``, runs in one process a rank, with gloo on the loopback, so that it may communicate as it does
        in training, in backward too. "jax": ``f(*local_arrays)`` is mapped over ranks by ``jax.vmap``, along the axis
        that its collectives name. "mpi": every rank of a program under mpiexec calls `world`, and ``comm`` is
        mpi4py's ``MPI.COMM_WORLD``; there are as many ranks as the program has, and all get the report.
    **settings
        As for `check`.

    Returns
    -------
    report : Report
        As of `check`. The value compared is the mean over ranks; where gradients are added, their sum is as right.

    Raises
    ------
    ValueError
        Where ``ranks`` is less than 2, the framework is not known, or the loss is one whose arrays have no common rows.

    Notes
    -----
    The gradients that count are those that the optimiser sees: what rank r holds, over the number of ranks where they
    are averaged. A loss that each rank takes over its own anchors and all candidates, with a gather that has a
    gradient, is right when averaged. The temperature is a parameter that every rank holds: its gradients, each of a
    rank's own loss, are averaged or added like those of any other.
    """
    if framework not in FRAMEWORKS:
        raise ValueError(f"world: framework must be {', '.join(map(repr, FRAMEWORKS))}; got {framework!r}.")
    if framework == "mpi":
        from refcl.oracle.candidates import mpi

        ranks = mpi.size()
    if not isinstance(ranks, int) or ranks < 2:
        raise ValueError(f"world: ranks must be an int, at least 2; got {ranks!r}.")
    question = ask(loss, ranks=ranks, **_of_the_loss(settings))
    if not question.row.by_rows:
        raise ValueError(f"world: the arrays of {loss} are not split by their rows.")
    k = len(question.inputs)
    if framework != "mpi" and hasattr(per_rank, "notes"):  # an adapter's: its own function has the framework's arrays
        per_rank = getattr(per_rank, "__wrapped__", per_rank)
    if hasattr(per_rank, "takes_scalar"):
        line = f"lambda {', '.join(question.inputs)}, comm: module(…)"
        raise TypeError(f'world: from_module has no place for comm: world({line}, …, framework="torch").')
    notes: dict[str, str] = {}

    def judged(run: Callable[[list[Share]], list[Any]]) -> Report:
        report = of_values(run, np.mean)
        if averaged or report.ok:
            return report
        added = of_values(run, np.sum)  # the values of ranks add up where their gradients do
        return added if added.ok else report

    def of_values(run: Callable[[list[Share]], list[Any]], both: Callable[[Any], Any]) -> Report:
        def together(*arguments: Any, **named: Any) -> Any:
            shares = _shares(arguments, k, named, ranks)
            value, grads = _together(run(shares), shares, question.inputs, both)
            if grads is None:
                return value
            local, shared = grads[:k], grads[k:]
            if whole:
                return value, (*local, *(g / ranks for g in shared))
            return value, tuple(g / ranks if averaged else g for g in grads)

        together.notes = notes  # type: ignore[attr-defined]
        together.few_shapes = framework == "jax"  # type: ignore[attr-defined]
        try:
            _like(together, per_rank, question.scalar, framework)
        except CannotJudge as reason:
            return Report("not judged", loss, settings, reason=reason.reason)
        return check(together, loss, ranks=ranks, **settings)

    if framework == "mpi":
        return mpi.on_rank_0(judged, per_rank)
    if framework == "torch.distributed":
        from refcl.oracle.candidates.processes import Ranks

        running = Ranks(per_rank, ranks, notes)
        try:
            return judged(running)
        finally:
            running.close()
    if framework == "jax":
        from refcl.oracle.candidates.axis import along_an_axis

        return judged(along_an_axis(per_rank, notes))
    if framework == "torch":
        return judged(lambda shares: _run_torch(per_rank, shares, notes))
    return judged(lambda shares: _on_every_rank(per_rank, shares))


def _like(function: Callable[..., Any], per_rank: Callable[..., Any], scalar: str | None, framework: str) -> None:
    """Give a function the signature of a rank's, without its communicator: the last argument, or the one named so."""
    try:
        parameters = list(signature_of(per_rank).parameters.values())
    except (TypeError, ValueError):
        return
    last = next((p.name for p in reversed(parameters) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)), "")
    named = any(p.name == "comm" for p in parameters)
    passes = framework in ("numpy", "torch")
    if named and framework in ("torch.distributed", "jax"):
        raise CannotJudge(f'it takes comm, which framework="{framework}" does not hand over; "torch" and "numpy" do.')
    if passes and not named and last in SCALAR_NAMES.get(str(scalar), ()):
        raise CannotJudge(
            f"its last argument, {last}, would be given the communicator: let comm come last; or say which framework"
            f" it communicates with, {', '.join(map(repr, FRAMEWORKS[2:]))}."
        )
    dropped = {"comm", "upstream"} | ({last} if passes and not named else set())
    kept = [p for p in parameters if p.name not in dropped]
    function.__signature__ = inspect.Signature(kept)  # type: ignore[attr-defined]


def _takes_comm(per_rank: Callable[..., Any]) -> bool:
    """Return whether a rank's function takes its communicator by the name of comm, wherever it stands."""
    try:
        comm = inspect.signature(per_rank).parameters.get("comm")
    except (TypeError, ValueError):
        return False
    return comm is not None and comm.kind is not comm.POSITIONAL_ONLY


def _of_the_loss(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings without those of `check` itself."""
    own = inspect.signature(check).parameters
    return {name: x for name, x in settings.items() if name not in own}


class _Board:
    """Where ranks lay down what they hand over."""

    def __init__(self, size: int) -> None:
        self.slots: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=60.0)
        self.lock, self.entered, self.left = threading.Lock(), 0, False

    def exchange(self, rank: int, x: Any) -> list[Any]:
        with self.lock:
            self.entered += 1
            if self.left:
                self.barrier.abort()
        self.slots[rank] = x
        self.barrier.wait()
        everyone = list(self.slots)
        self.barrier.wait()  # nobody overwrites a slot before all have read it
        return everyone

    def leave(self) -> None:
        """Let nobody wait for a rank that has returned."""
        with self.lock:
            self.left = True
            if self.entered % len(self.slots):
                self.barrier.abort()


def _on_every_rank(per_rank: Callable[..., Any], shares: list[Share]) -> list[Any]:
    size = len(shares)
    board = _Board(size)
    by_name = _takes_comm(per_rank)
    returned: list[Any] = [None] * size
    errors: list[BaseException] = []

    def work(rank: int) -> None:
        try:
            arrays, named = shares[rank]
            comm = Communicator(rank, size, board)
            returned[rank] = per_rank(*arrays, comm=comm, **named) if by_name else per_rank(*arrays, comm, **named)
            board.leave()
        except threading.BrokenBarrierError as error:
            errors.append(error)
        except BaseException as error:
            said = f"rank {rank} of {size}: {error}"
            with contextlib.suppress(Exception):
                error.args = (said,) if error.args and isinstance(error.args[0], str) else error.args
            errors.insert(0, error)
            board.barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        if isinstance(errors[0], threading.BrokenBarrierError):
            raise CannotJudge("the ranks did not all reach the same collectives: one waits where another has returned.")
        raise errors[0]
    return returned


def _run_torch(per_rank: Callable[..., Any], shares: list[Share], notes: dict[str, str]) -> list[Any]:
    torch: Any = importlib.import_module("torch")

    leaves = [tuple(torch.tensor(x, requires_grad=True) for x in share) for share, _ in shares]
    named = [{name: torch.as_tensor(x) for name, x in share.items()} for _, share in shares]
    returned = _on_every_rank(per_rank, list(zip(leaves, named, strict=True)))
    losses = [loss_of(x, torch.Tensor, notes) for x in returned]
    flat = [leaf for share in leaves for leaf in share]
    # Each rank calls backward on its own loss; what meets in a leaf is added.
    grads = torch.autograd.grad(_sum(losses), flat, allow_unused=True)
    filled = [np.zeros(x.shape) if g is None else g.numpy() for x, g in zip(flat, grads, strict=True)]
    each = len(leaves[0])
    return [(x.detach(), filled[each * r : each * (r + 1)]) for r, x in enumerate(losses)]


def _together(
    answers: list[Any], shares: list[Share], names: tuple[str, ...], both: Callable[[Any], Any]
) -> tuple[Any, tuple[Any, ...] | None]:
    """Return the ranks' values as one, the gradients of all rows, and the sums of the shared scalars', if any."""
    k, dtype = len(names), shares[0][0][0].dtype
    if not any(isinstance(answer, tuple) for answer in answers):
        return np.asarray(both([float(value) for value in answers]), dtype=dtype), None
    if not all(isinstance(answer, tuple) and len(answer) == 2 for answer in answers):
        raise CannotJudge("each rank must return (value, grads), with the gradients of its local arrays.")
    values = [value for value, _ in answers]
    grads = [[g for g in of_rank if g is not None] for _, of_rank in answers]
    counts = sorted({len(g) for g in grads})
    if len(counts) > 1 or counts[0] < k:
        raise CannotJudge(f"the ranks returned {' and '.join(map(str, counts))} gradients; expected {k} or {k + 1}.")
    for name, x, g in zip(names, shares[0][0], grads[0], strict=False):
        if np.shape(g) != x.shape:
            raise CannotJudge(
                f"a rank's gradient of {name} has shape {np.shape(g)}; expected {x.shape}, of its own rows, with what"
                " all ranks send to them, as a reduce-scatter leaves it."
            )
    local = tuple(np.concatenate([np.asarray(g[j]) for g in grads]) for j in range(k))
    shared = tuple(np.asarray(_sum([g[j] for g in grads])) for j in range(k, counts[0]))
    return np.asarray(both([float(v) for v in values]), dtype=dtype), (*local, *shared)


def _shares(arguments: tuple[Any, ...], k: int, named: dict[str, Any], ranks: int) -> list[Share]:
    """Deal the rows of arrays and labels; scalars and memories go to all."""
    rows = len(arguments[0])
    held = tuple(np.asarray(x, dtype=arguments[0].dtype) for x in arguments[k:])
    split = [np.split(x, ranks) for x in arguments[:k]]
    dealt = {name: np.split(x, ranks) if len(x) == rows else [x] * ranks for name, x in named.items()}
    return [
        ((*(part[r].copy() for part in split), *held), {name: parts[r] for name, parts in dealt.items()})
        for r in range(ranks)
    ]


def _sum(items: list[Any]) -> Any:
    total = items[0]
    for item in items[1:]:
        total = total + item
    return total
