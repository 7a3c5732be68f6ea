"""A distributed loss in one process: every rank is a thread, and collectives hand arrays over.

In:  the function that one rank runs, with a communicator as its last argument.
Out: a report that also knows world-size factors, gradients that stay on their rank and missing rank offsets.
"""

import importlib
import inspect
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from refcl.oracle.candidate import CannotJudge
from refcl.oracle.check import check
from refcl.oracle.question import ask
from refcl.oracle.report import Report

# Steps come before rows, or a tuple before the arrays.
NOT_BY_ROWS = ("cpc", "cmc")


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
    framework: str = "numpy",
    **settings: Any,
) -> Report:
    """Run a distributed loss over simulated ranks and say what is wrong with it.

    Parameters
    ----------
    per_rank : callable
        ``f(*local_arrays, comm) -> value, grads`` with the gradients of the local arrays and, if it has one, of the
        temperature, or, with ``framework="torch"``, ``f(*local_tensors, comm) -> value``. ``comm`` is a `Communicator`.
        ``f(*local_arrays, temperature, comm)`` lets other temperatures be tried, the same on every rank; in PyTorch it
        is a tensor, whose gradient is judged.
    loss : str
        What the loss over the whole batch should be: "info_nce", "clip" or "nt_xent".
    ranks : int
        How many ranks share the batch equally.
    averaged : bool
        Whether gradients are averaged over ranks afterwards, as distributed data parallel does; False where they are
        added.
    framework : str
        "numpy" or "torch".
    **settings
        As for `check`.

    Returns
    -------
    report : Report
        As of `check`. The value compared is the mean over ranks.

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
    if ranks < 2:
        raise ValueError(f"world: ranks must be at least 2, got {ranks}.")
    if framework not in ("numpy", "torch"):
        raise ValueError(f'world: framework must be "numpy" or "torch", got {framework!r}.')
    run = _run_torch if framework == "torch" else _run_numpy
    question = ask(loss, ranks=ranks, **_of_the_loss(settings))
    if question.loss in NOT_BY_ROWS:
        raise ValueError(f"world: the arrays of {loss} are not split by their rows.")
    k = len(question.inputs)
    takes_scalar = question.scalar is not None and _takes(per_rank, k + 2)

    def whole(*arguments: Any) -> Any:
        value, grads = run(per_rank, arguments[:k], arguments[k:], ranks)
        return value, tuple(g / ranks if averaged else g for g in grads)

    return check(whole, loss, ranks=ranks, passes_scalar=takes_scalar, **settings)


def _of_the_loss(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings without those of `check` itself."""
    own = inspect.signature(check).parameters
    return {name: x for name, x in settings.items() if name not in own}


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Return whether a function requires that many arguments."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is p.empty for p in parameters) == count


class _Board:
    """Where ranks lay down what they hand over."""

    def __init__(self, size: int) -> None:
        self.slots: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=60.0)

    def exchange(self, rank: int, x: Any) -> list[Any]:
        self.slots[rank] = x
        self.barrier.wait()
        everyone = list(self.slots)
        self.barrier.wait()  # nobody overwrites a slot before all have read it
        return everyone


def _on_every_rank(per_rank: Callable[..., Any], shares: list[tuple[Any, ...]]) -> list[Any]:
    size = len(shares)
    board = _Board(size)
    returned: list[Any] = [None] * size
    errors: list[BaseException] = []

    def work(rank: int) -> None:
        try:
            returned[rank] = per_rank(*shares[rank], Communicator(rank, size, board))
        except threading.BrokenBarrierError as error:
            errors.append(error)
        except BaseException as error:
            errors.insert(0, error)
            board.barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        if isinstance(errors[0], threading.BrokenBarrierError):
            raise CannotJudge("the ranks did not all reach the same collectives.")
        raise errors[0]
    return returned


def _run_numpy(
    per_rank: Callable[..., Any], arrays: tuple[Any, ...], scalar: tuple[Any, ...], ranks: int
) -> tuple[Any, tuple[Any, ...]]:
    returned = _on_every_rank(per_rank, [(*share, *scalar) for share in _shares(arrays, ranks)])
    if not all(isinstance(r, tuple) and len(r) == 2 for r in returned):
        raise CannotJudge("each rank must return (value, grads), with the gradients of its local arrays.")
    values, grads = zip(*returned, strict=True)
    k = len(arrays)
    counts = sorted({len(g) for g in grads})
    if len(counts) > 1 or counts[0] not in (k, k + 1):
        raise CannotJudge(f"the ranks returned {' and '.join(map(str, counts))} gradients; expected {k} or {k + 1}.")
    local = tuple(np.concatenate([np.asarray(g[j]) for g in grads]) for j in range(k))
    shared = tuple(np.asarray(_sum([g[j] for g in grads])) for j in range(k, counts[0]))
    return np.mean([float(v) for v in values]), (*local, *shared)


def _run_torch(
    per_rank: Callable[..., Any], arrays: tuple[Any, ...], scalar: tuple[Any, ...], ranks: int
) -> tuple[Any, tuple[Any, ...]]:
    torch: Any = importlib.import_module("torch")

    held = tuple(np.asarray(x, dtype=arrays[0].dtype) for x in scalar)
    shares = [(*share, *held) for share in _shares(arrays, ranks)]
    leaves = [tuple(torch.tensor(x, requires_grad=True) for x in share) for share in shares]
    losses = _on_every_rank(per_rank, leaves)
    flat = [leaf for share in leaves for leaf in share]
    # Each rank calls backward on its own loss; what meets in a leaf is added.
    grads = torch.autograd.grad(_sum(losses), flat, allow_unused=True)
    filled = [np.zeros(x.shape) if g is None else g.numpy() for x, g in zip(flat, grads, strict=True)]
    k, each = len(arrays), len(arrays) + len(scalar)
    value = np.mean([float(x.detach()) for x in losses])
    local = tuple(np.concatenate(filled[j::each]) for j in range(k))
    shared = tuple(np.asarray(_sum(filled[j::each])) for j in range(k, each))
    return value.astype(arrays[0].dtype), (*local, *shared)


def _shares(arrays: tuple[Any, ...], ranks: int) -> list[tuple[Any, ...]]:
    split = [np.split(x, ranks) for x in arrays]
    return [tuple(part[r].copy() for part in split) for r in range(ranks)]


def _sum(items: list[Any]) -> Any:
    total = items[0]
    for item in items[1:]:
        total = total + item
    return total
