"""Who does the work: a few Python threads, each with a BLAS of one thread.

In:  a function and the shares of its work.  Out: what each share returned, taken in the order of the shares.
Each thread keeps its strip in its own cache, where one BLAS of many threads would wait after every product. How many
threads BLAS uses is a setting of the whole process: it is held at one while any call is at work, and then restored.
"""

import itertools
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from typing import Any, TypeVar

import numpy as np

from refcl.core.arrays import Array, namespace
from refcl.strips.layout import on_host

MOST = 8  # each worker holds a partial gradient of all candidates
KEPT_BYTES = 1 << 22  # of each role's memory in each thread
LINE_BYTES = 64  # of a cache
TAUGHT_BYTES = 1 << 24  # the most that glibc would learn from is 32 MiB
# Fewer similarities than this are left to one worker, whose BLAS keeps its threads. Two would be a tenth faster from a
# quarter of it on, but twice as slow just after a product elsewhere: OpenBLAS's threads wait for the next one on the
# same cores, busily, for some 30 ms.
ENTRIES_FOR_TWO = 1 << 21

Result = TypeVar("Result")


def workers_for(like: Array, entries: int) -> AbstractContextManager[int]:
    """Say how many workers there are for so many similarities; where several, BLAS has one thread until they are done.

    A single worker leaves BLAS its threads. On a GPU there is one: the device works for itself.
    """
    if on_host(like):
        _keep_pages()
        if entries >= ENTRIES_FOR_TWO:
            return one_blas_thread()
    return nullcontext(1)


def at_once(
    work: Callable[..., Result],
    shares: Sequence[tuple[Any, ...]],
    *,
    workers: int,
    take: Callable[[Result], Any],
) -> None:
    """Call ``work(*share)`` for each share, and hand every result to ``take``, one by one in the order of the shares.

    The workers, one of which is the caller's own thread, draw the next share whenever they are ready for one: they end
    together, however unlike their cores. Where no thread can be had, as at the end of a program, the caller does all.
    """
    if len(shares) == 1:
        with borrowing():
            take(work(*shares[0]))
        return
    numbers, lock = itertools.count(), threading.Lock()
    ready: dict[int, Result] = {}
    following, stopped = 0, False

    def draw() -> None:
        nonlocal following, stopped
        try:
            while not stopped and (number := next(numbers)) < len(shares):
                with borrowing():
                    result = work(*shares[number])
                with lock:
                    ready[number] = result
                    while following in ready:
                        take(ready.pop(following))
                        following += 1
        except BaseException:  # an error or Ctrl-C: the others end after the share that they are at
            stopped = True
            raise

    others: list[Any] = []
    try:
        with suppress(RuntimeError):
            for _ in range(min(workers, len(shares)) - 1):
                others.append(_pool().submit(draw))
        draw()
    finally:
        _outlast(others)
    for other in others:
        other.result()


class Total:
    """The sum of what the shares return, arrays or tuples of them; the first array becomes the sum."""

    def __init__(self) -> None:
        self.sum: Any = None

    def take(self, part: Any) -> None:
        """Add a part."""
        self.sum = part if self.sum is None else _added(self.sum, part)


def _added(total: Any, part: Any) -> Any:
    if isinstance(part, tuple):
        return tuple(_added(a, b) for a, b in zip(total, part, strict=True))
    total += part
    return total


def _outlast(others: Sequence[Any]) -> None:
    """Wait for the other workers, through Ctrl-C too: they write into the caller's arrays."""
    from concurrent.futures import wait

    interrupt = None
    while True:
        try:
            wait(others)
        except KeyboardInterrupt as came:
            interrupt = came
        else:
            break
    if interrupt is not None:
        raise interrupt


class borrowing:
    """Give back, at the end, what this thread has borrowed by `scratch` since.

    What is lent is not lent again: a signal's handler, a finalizer or a callback may call refcl in the middle of a
    call.
    """

    def __enter__(self) -> None:
        _memory.lent.append({})

    def __exit__(self, *_: object) -> None:
        lent = _memory.lent.pop()
        _memory.kept.update({role: array for role, array in lent.items() if array.nbytes <= KEPT_BYTES})


def scratch(role: str, shape: tuple[int, ...], like: Array) -> Array:
    """Return memory for this thread to write into, the same when a role asks for that shape again.

    Fresh pages of a few hundred kilobytes cost as much as what is computed in them.
    """
    lent = _memory.lent[-1]
    for array in (lent.get(role), _memory.kept.pop(role, None)):
        if array is not None and array.shape == shape and array.dtype == like.dtype and type(array) is type(like):
            break
    else:
        array = _aligned(shape, like.dtype) if on_host(like) else namespace(like).empty(shape, dtype=like.dtype)
    if on_host(like):
        lent[role] = array
    return array


def _aligned(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return memory of the host that begins where a cache line does: exponentials take a twentieth longer elsewhere."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + LINE_BYTES, dtype=np.uint8)
    first = -memory.__array_interface__["data"][0] % LINE_BYTES
    return memory[first : first + size].view(dtype).reshape(shape)


@cache
def _keep_pages() -> None:
    """Teach malloc, once a process, to keep what is freed for what is allocated next.

    glibc gives freed memory back to the system above a limit that is twice the largest array freed so far. Before it
    has seen a large one, the arrays of a small call are given back after it and faulted in again at the next: a third
    of the time at N = 512. This one is never written to, so it takes no memory; elsewhere it does nothing.
    """
    np.empty(TAUGHT_BYTES, dtype=np.uint8)


class _Memory(threading.local):
    """This thread's memory by role: what is kept for the next who asks, and what the calls at work have borrowed."""

    def __init__(self) -> None:
        self.kept: dict[str, Array] = {}
        self.lent: list[dict[str, Array]] = []


_memory = _Memory()


class _Held:
    """How many hold BLAS at one thread, how many of them alone, and what threads it had before the first of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = self.alone = 0
        self.before: list[tuple[Any, int]] = []  # each library and its threads


_held = _Held()


@contextmanager
def one_blas_thread(*, alone: bool = False) -> Iterator[int]:
    """Hold BLAS at one thread; yields how many workers may share the work in its place.

    They are as many as BLAS has threads otherwise, up to ``MOST``, and 1 where there is no BLAS that can be held. While
    anybody holds it ``alone`` there is one worker everywhere: bits that must not depend on the machine's cores ask for
    that.
    """
    held = _held
    with held.lock:
        if held.users == 0:
            # SciPy brings a BLAS of its own, which is there once it is imported.
            held.before = [(library, library.num_threads) for library in _blas("scipy.linalg" in sys.modules)]
            _set_threads([(library, 1) for library, _ in held.before])
        held.users += 1
        held.alone += alone
        most = 1 if held.alone else min(max((threads for _, threads in held.before), default=1), MOST)
    try:
        yield most
    finally:
        with held.lock:
            held.users -= 1
            held.alone -= alone
            if held.users == 0:
                _set_threads(held.before)


def _set_threads(numbers: list[tuple[Any, int]]) -> None:
    for library, number in numbers:
        # From 3.8 on, threadpoolctl lets only the thread that set the number first set it again, and silently so. Here
        # the first call may come from one thread and the last may leave from another: the lock above takes turns.
        release = getattr(library, "clear_controlling_thread", lambda force: None)
        release(force=True)
        library.set_num_threads(number)
        release(force=True)


@cache
def _blas(with_scipy: bool) -> list[Any]:
    """Return what can be held; asked once more when SciPy has come."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


@cache
def _pool() -> Any:
    from concurrent.futures import ThreadPoolExecutor  # loads logging, which `import refcl` can do without

    return ThreadPoolExecutor(max_workers=MOST - 1, thread_name_prefix="refcl-tiled")


def _forget() -> None:
    """Start afresh in a forked child, where the parent's threads are gone and its lock may be held by one of them."""
    global _held
    _pool.cache_clear()
    held, _held = _held, _Held()
    if held.users:  # nobody is left to do it
        _set_threads(held.before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
