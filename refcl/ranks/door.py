"""The door of a call that many ranks make together: each asks its own arguments, and all hear the same answer.

In:  what one rank passed, and a communicator.
Out: the arguments made ready and a `World`; or, on every rank, the same TypeError or ValueError with a rank's number.
One allgather of a header (status, dtype, D, rows, settings) stands before anything else, so that no rank waits for rows
of another that has refused its own.
"""

import zlib
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, NamedTuple, NoReturn, ParamSpec, TypeVar

from refcl.core.agreement import Call, dtype_name
from refcl.core.arguments import Floats, Integers, Mask, choice, diagonal
from refcl.core.arrays import Array, constant, library_of, namespace, ones, to_host
from refcl.core.pair import Door
from refcl.strips.layout import on_host

P = ParamSpec("P")
Result = TypeVar("Result")

ASKED_OF_A_COMMUNICATOR = ("Get_rank", "Get_size", "allgather", "Allgatherv", "Alltoallv", "Isend", "Irecv")
OF_EACH_RANK = ("positive", "ignore", "labels", "upstream")  # given by all ranks or by none, for their own rows


class World(NamedTuple):
    """What a rank knows of a call once all headers are there."""

    comm: Any
    rank: int
    anchors: list[int]  # rows of the first array, rank by rank
    candidates: list[int]  # and of the second, or of the first where there is one

    @property
    def first(self) -> int:
        """The number of this rank's first anchor among all."""
        return sum(self.anchors[: self.rank])

    @property
    def first_candidate(self) -> int:
        """The number of this rank's first candidate among all."""
        return sum(self.candidates[: self.rank])

    def summed(self, scalars: list[Array], *, like: Array) -> list[Array]:
        """Return the sums over all ranks, added in order of rank: the same bits everywhere."""
        everyone = self.comm.allgather([to_host(x) for x in scalars])
        totals = list(everyone[0])
        for more in everyone[1:]:
            totals = [a + b for a, b in zip(totals, more, strict=True)]
        return [constant(total, like=like) for total in totals]


class Header(NamedTuple):
    """What one rank says of its part of a call."""

    error: tuple[str, str] | None = None  # class and sentence, where it was refused
    call: str = ""
    dtype: str = ""
    dimension: int = 0
    rows: tuple[int, ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()  # what all ranks must pass alike, scalars too
    positive: tuple[tuple[int, int], ...] = ()  # where its smallest and its greatest number stand, and these
    columns: int | None = None  # of the mask ignore
    queue: int = 0  # its rows


class Plan(NamedTuple):
    """What a loss over ranks asks beside what its arguments' names say."""

    rows: tuple[str, ...]  # the arrays that are dealt to the ranks by rows
    views: int = 1  # how many anchors a row of the first array is, and columns a row of the candidates
    upstream: Callable[[int], tuple[int, ...]] = lambda n: (n,)  # its shape for n rows


def over_ranks(plan: Plan, **asks: Any) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Put the door of all ranks before a function, whose ``comm`` is then a `World`."""
    asks = {
        "comm": lambda call, argument, value: value,
        "exchange": choice("auto", "gather", "ring"),
        "queue": Floats("Q D"),
        "positive": Integers("N"),
        "ignore": Mask("N K"),
        "upstream": Floats("..."),
        **asks,
    }

    def of(function: Callable[P, Result]) -> Callable[P, Result]:
        door = Door(function, asks)

        def call(*inputs: P.args, **settings: P.kwargs) -> Result:
            comm = settings.get("comm")
            _ask_communicator(door.name, comm)
            ready: dict[str, Any] = {}
            try:
                header, ready = _asked(door, plan, asks, inputs, settings)
            except Exception as error:  # whatever it is, the other ranks must hear of it
                header = Header(error=(type(error).__name__, str(error)))
            headers = comm.allgather(header)  # type: ignore[attr-defined]
            _agree(door.name, plan, headers)
            rank: int = comm.Get_rank()  # type: ignore[attr-defined]
            anchors, candidates = ([h.rows[i] for h in headers] for i in (0, -1))
            ready["comm"] = World(comm, rank, anchors, candidates)
            return function(**ready)  # type: ignore[call-arg]

        return update_wrapper(call, function)

    return of


def _ask_communicator(name: str, comm: Any) -> None:
    missing = [method for method in ASKED_OF_A_COMMUNICATOR if not hasattr(comm, method)]
    if missing:
        raise TypeError(
            f"{name}: comm must be a communicator such as mpi4py's MPI.COMM_WORLD, got {type(comm).__name__} without "
            f"{missing[0]}."
        )


def _asked(
    door: Door, plan: Plan, asks: dict[str, Any], inputs: tuple[Any, ...], settings: dict[str, Any]
) -> tuple[Header, dict[str, Any]]:
    """Ask this rank's arguments, and say what the others must know of them."""
    given = door.bind(inputs, settings)
    filled = _filled(plan, asks, given)
    call, ready = door((), filled)
    ready.update({name: given[name] for name in filled if filled[name] is not given[name]})
    rows = tuple(ready[name].shape[0] for name in plan.rows)
    if "positive" in ready and ready["positive"] is None:
        diagonal(Call(door.name, call.xp, call.like, {"N": rows[0], "M": rows[-1]}))
    upstream, shape = ready["upstream"], plan.upstream(rows[0])
    if upstream is not None and ready["reduction"] != "none":
        raise ValueError(f'{door.name}: upstream goes with reduction="none" only; scale the gradients yourself.')
    if upstream is not None and tuple(upstream.shape) != shape:
        raise ValueError(f"{door.name}: upstream must have shape {shape}; got {tuple(upstream.shape)}.")
    ignore, queue = ready.get("ignore"), ready.get("queue")
    return Header(
        call=door.name,
        dtype=dtype_name(call.like),
        dimension=ready[plan.rows[0]].shape[1],
        rows=rows,
        settings=tuple(_to_agree(plan, ready)),
        positive=_extremes(ready.get("positive")),
        columns=None if ignore is None else ignore.shape[1],
        queue=0 if queue is None else queue.shape[0],
    ), ready


def _filled(plan: Plan, asks: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Put a row where a rank has none: the door asks what it would be, and refuses what is empty."""
    filled = dict(given)
    for name in plan.rows:
        x = given[name]
        if _without_rows(x) and x.ndim == 2:
            filled[name] = ones((1, x.shape[1]), like=x)
    if not _without_rows(given[plan.rows[0]]):
        return filled
    for name in ("positive", "ignore", "labels"):
        own: Any = given.get(name)
        if _without_rows(own):
            views = 2 if getattr(asks.get(name), "shape", "").startswith("2") else 1
            filled[name] = namespace(own).zeros((views, *own.shape[1:]), dtype=own.dtype)
    return filled


def _without_rows(x: Any) -> bool:
    return library_of(x) is not None and x.ndim > 0 and x.shape[0] == 0


def _to_agree(plan: Plan, ready: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what must be alike on all ranks, as numbers and words of the host."""
    told: list[tuple[str, Any]] = []
    for name, value in ready.items():
        if name in ("comm", *plan.rows):
            continue
        if name in OF_EACH_RANK:
            told.append((name, "None" if value is None else "given"))
        elif name == "queue":
            told.append((name, "None" if value is None else _fingerprint(value)))
        elif library_of(value) is not None:
            told.append((name, float(value)))  # a scalar: a GPU is waited for here, as it is for the header anyway
        else:
            told.append((name, value))
    return told


def _fingerprint(queue: Array) -> str:
    """Return what tells two queues apart; on a GPU, from which all of it would have to come, the shape."""
    shape = f"of shape {tuple(queue.shape)}"
    return f"{shape} with checksum {zlib.crc32(queue.tobytes()):08x}" if on_host(queue) else shape


def _extremes(positive: Array | None) -> tuple[tuple[int, int], ...]:
    """Return place and number of the smallest and of the greatest entry."""
    if positive is None or positive.shape[0] == 0:
        return ()
    xp = namespace(positive)
    places = (int(xp.argmin(positive)), int(xp.argmax(positive)))
    return tuple((place, int(positive[place])) for place in places)


def _agree(name: str, plan: Plan, headers: list[Header]) -> None:
    """Raise, from the same headers and so alike on all ranks, what does not go together."""
    for rank, header in enumerate(headers):
        if header.error is not None:
            _refuse(name, rank, *header.error)
    zeroth = headers[0]
    for rank, header in enumerate(headers):
        for what, ours, theirs, error in (
            ("the loss", zeroth.call, header.call, "ValueError"),
            ("the dtype", zeroth.dtype, header.dtype, "TypeError"),
            ("D", zeroth.dimension, header.dimension, "ValueError"),
        ):
            if ours != theirs:
                _refuse(name, rank, error, f"{what} is {theirs}, and {ours} on rank 0; expected one on all ranks.")
        for (setting, ours), (_, theirs) in zip(zeroth.settings, header.settings, strict=True):
            if ours != theirs:
                text = f"{setting} is {theirs}, and {ours} on rank 0; expected the same on all ranks."
                _refuse(name, rank, "ValueError", text)
    anchors = sum(header.rows[0] for header in headers)
    if anchors == 0:
        raise ValueError(f"{name}: no rank has a row of {plan.rows[0]}; expected some on one of them.")
    candidates = plan.views * sum(header.rows[-1] for header in headers) + zeroth.queue
    for rank, header in enumerate(headers):
        for place, number in header.positive:
            if not 0 <= number < candidates:
                text = f"positive[{place}] is {number}; expected a number from 0 to {candidates - 1}, among all ranks."
                _refuse(name, rank, "ValueError", text)
        if header.columns not in (None, candidates):
            text = f"ignore must have a column for each of the {candidates} candidates of all ranks"
            _refuse(name, rank, "ValueError", f"{text}; got {header.columns}.")


def _refuse(name: str, rank: int, error: str, text: str) -> NoReturn:
    """Raise a TypeError or a ValueError, as the door does, and what else went wrong as a RuntimeError."""
    kind = {"TypeError": TypeError, "ValueError": ValueError}.get(error, RuntimeError)
    said = text.removeprefix(f"{name}: ") if kind is not RuntimeError else f"{error}: {text}"
    raise kind(f"{name}: rank {rank}: {said}")
