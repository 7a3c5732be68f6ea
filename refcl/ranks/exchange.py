"""Rows to all ranks, gradients back to their owners: by one gather, or block by block round a ring.

In:  a communicator, this rank's candidates (m, D), and how many each rank has.
Out: visits. An anchor's loss needs every candidate, so each block of candidates is shown to this rank's anchors: to be
looked at (`look`), or to be pushed (`push`), when what all ranks' anchors send to this rank's own rows comes back.

The additions have one order, whatever arrives first: bits repeat, and no rank's differ from another's.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from refcl.core.arrays import Array, arange, namespace, zeros

# Messages of a ring: a user's own, of other tags, may be under way on the same communicator.
ROWS, GRADIENTS = 20117, 20118
# Gathered rows and their gradients up to so many bytes a rank are no burden, and one collective is quicker than a ring.
GATHERED_BYTES = 1 << 28


class Block(NamedTuple):
    """Some of the candidates."""

    rows: Array  # (m, D)
    numbers: Array  # (m,) their columns among all candidates
    constant: bool  # whether they take no gradient


Look = Callable[[Block], None]
Push = Callable[[Block], Array]  # -> what this rank's anchors send to the block's rows (m, D)


class Exchange(Protocol):
    """How candidates come to anchors."""

    def look(self, visit: Look) -> None:
        """Show every block to the anchors of this rank."""

    def push(self, visit: Push) -> Array:
        """Show every block once more; returns the gradient of this rank's rows (m, D), from the anchors of all."""


def chosen(how: str, comm: Any, rows: Array, numbers: list[Array], queue: Block | None) -> Exchange:
    """Return the exchange of that name; "auto" gathers what is small."""
    if how == "auto":
        everything = sum(n.shape[0] for n in numbers) * rows.shape[1] * rows.dtype.itemsize
        how = "gather" if 2 * everything <= GATHERED_BYTES else "ring"
    return (Gather if how == "gather" else Ring)(comm, rows, numbers, queue)


class Gather:
    """Everyone has all rows at once: an allgather, and its gradient, a reduce-scatter. Memory O(M D) a rank."""

    def __init__(self, comm: Any, rows: Array, numbers: list[Array], queue: Block | None) -> None:
        xp = namespace(rows)
        self.comm, self.queue = comm, queue
        self.own = rows.shape[0]
        self.entries = [n.shape[0] * rows.shape[1] for n in numbers]  # of each rank's rows
        everyone = _to_receive((sum(n.shape[0] for n in numbers), rows.shape[1]), like=rows)
        comm.Allgatherv(_to_send(rows), [everyone, self.entries])
        self.everyone = Block(everyone, xp.concat(numbers), constant=False)

    def look(self, visit: Look) -> None:
        """Show the gathered rows, and the queue."""
        for block in (self.everyone, self.queue):
            if block is not None and block.rows.shape[0]:
                visit(block)

    def push(self, visit: Push) -> Array:
        """Reduce and scatter: each rank gets its rows' part from every rank, and adds the parts in order of rank."""
        sent = visit(self.everyone) if self.everyone.rows.shape[0] else self.everyone.rows
        if self.queue is not None:
            visit(self.queue)
        size, dimension = len(self.entries), sent.shape[1]
        parts = _to_receive((size, self.own, dimension), like=sent)
        self.comm.Alltoallv([_to_send(sent), self.entries], [parts, [self.own * dimension] * size])
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


class Ring:
    """Blocks travel round, and each anchor meets one after the other. Memory O((M/P) D) a rank, one block in flight."""

    def __init__(self, comm: Any, rows: Array, numbers: list[Array], queue: Block | None) -> None:
        self.comm, self.rows, self.numbers, self.queue = comm, rows, numbers, queue
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self.before, self.behind = (self.rank - 1) % self.size, (self.rank + 1) % self.size

    def look(self, visit: Look) -> None:
        """Show each rank's rows, this rank's own first, and the queue."""
        for _, block in self._travelling():
            if block.rows.shape[0]:
                visit(block)
        if self.queue is not None:
            visit(self.queue)

    def push(self, visit: Push) -> Array:
        """Send a block's gradient after it, each rank adding its part, until it is home again with the last."""
        under_way: list[Any] = []
        total = self.rows  # for its type; replaced by the first block, which is this rank's own
        for owner, block in self._travelling():
            so_far, arriving = None, None
            if owner != self.rank:  # what the ranks before this one have added
                so_far = _to_receive(block.rows.shape, like=block.rows)
                arriving = self.comm.Irecv(so_far, source=self.before, tag=GRADIENTS)
            part = visit(block) if block.rows.shape[0] else zeros(block.rows.shape, like=block.rows)
            if arriving is not None:
                arriving.Wait()
                so_far += part
                part = so_far
            _wait(under_way)
            total = _to_send(part)
            if self.size > 1:
                under_way = [self.comm.Isend(total, dest=self.behind, tag=GRADIENTS)]
        if self.queue is not None:
            visit(self.queue)
        if self.size > 1:
            home = _to_receive(self.rows.shape, like=self.rows)
            under_way.append(self.comm.Irecv(home, source=self.before, tag=GRADIENTS))
            _wait(under_way)
            total = home
        return total

    def _travelling(self) -> Iterator[tuple[int, Block]]:
        """Yield each block and its owner; while the caller works on one, it goes on and the next one comes."""
        here = _to_send(self.rows)
        for step in range(self.size):
            owner = (self.rank - step) % self.size
            under_way: list[Any] = []
            coming = here
            if step < self.size - 1:
                following = self.numbers[(owner - 1) % self.size].shape[0]
                coming = _to_receive((following, here.shape[1]), like=here)
                under_way = [
                    self.comm.Irecv(coming, source=self.before, tag=ROWS),
                    self.comm.Isend(here, dest=self.behind, tag=ROWS),
                ]
            yield owner, Block(here, self.numbers[owner], constant=False)
            _wait(under_way)
            here = coming


def numbered(counts: list[int], *, like: Array, first: int = 0) -> list[Array]:
    """Return the numbers of each rank's rows among those of all (m,), in order of rank."""
    starts = [first + sum(counts[:rank]) for rank in range(len(counts))]
    return [arange(count, like=like) + start for count, start in zip(counts, starts, strict=True)]


def turned(comm: Any, mask: Array, counts: list[int]) -> Array:
    """Return this rank's columns of a mask of which each rank has its own rows, turned: (its columns, all rows)."""
    xp = namespace(mask)
    ends = [sum(counts[: rank + 1]) for rank in range(len(counts))]
    own, rank = mask.shape[0], comm.Get_rank()
    pieces = [xp.reshape(mask[:, end - count : end].T, (-1,)) for end, count in zip(ends, counts, strict=True)]
    received = _to_receive((counts[rank] * sum(counts),), like=mask)
    entries = [counts[rank] * count for count in counts]
    comm.Alltoallv([_to_send(xp.concat(pieces)), [own * count for count in counts]], [received, entries])
    starts = [counts[rank] * (end - count) for end, count in zip(ends, counts, strict=True)]
    parts = [
        xp.reshape(received[start : start + many], (counts[rank], count))
        for start, many, count in zip(starts, entries, counts, strict=True)
    ]
    return xp.concat(parts, axis=1)


def gathered(comm: Any, x: Array, counts: list[int]) -> Array:
    """Return everyone's entries of an array (n,) in order of rank."""
    everyone = _to_receive((sum(counts),), like=x)
    comm.Allgatherv(_to_send(x), [everyone, counts])
    return everyone


def _to_send(x: Array) -> Array:
    """Return an array without gaps in memory, written in full."""
    x = namespace(x).ascontiguousarray(x)
    _finished(x)
    return x


def _to_receive(shape: tuple[int, ...], *, like: Array) -> Array:
    """Return room for a message, which nothing that is still under way on a GPU reads or writes."""
    room: Array = namespace(like).empty(shape, dtype=like.dtype)
    _finished(room)
    return room


def _finished(x: Array) -> None:
    """Wait until a GPU has done what it was told: MPI does not."""
    device = getattr(namespace(x), "cuda", None)
    if device is not None:
        device.get_current_stream().synchronize()


def _wait(requests: list[Any]) -> None:
    for request in requests:
        request.Wait()
