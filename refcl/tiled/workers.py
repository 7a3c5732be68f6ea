"""Who does the work: a few Python threads, each with a BLAS of one thread.

In:  a function and the shares of its work.  Out: what each share returned, in the order of the shares.
Each thread keeps its strip in its own cache, where one BLAS of many threads would wait after every product. How many
threads BLAS uses is a setting of the whole process: it is held at one while any call is at work, and then restored.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, TypeVar

import numpy as np

from refcl.backend import Array, namespace
from refcl.tiled.layout import on_host

MOST = 8  # each worker holds a partial gradient of all candidates
KEPT_BYTES = 1 << 22  # of each role's memory in each thread
TAUGHT_BYTES = 1 << 24  # the most that glibc would learn from is 32 MiB
# Fewer similarities than this are left to one worker, whose BLAS keeps its threads. Two would be a tenth faster from a
# quarter of it on, but twice as slow just after a product elsewhere: OpenBLAS's threads wait for the next one on the
# same cores, busily, for some 30 ms.
ENTRIES_FOR_TWO = 1 << 21

Result = TypeVar("Result")


@contextmanager
def crew(like: Array, entries: int) -> Iterator[int]:
    """Say how many workers there are for so many similarities; where several, BLAS has one thread until they are done.

    A single worker leaves BLAS its threads. On a GPU there is one: the device is the crew.
    """
    if not on_host(like):
        yield 1
        return
    _keep_pages()
    if entries < ENTRIES_FOR_TWO:
        yield 1
        return
    with _one_blas_thread() as threads:
        yield min(threads, MOST)


def together(work: Callable[..., Result], shares: Sequence[tuple[Any, ...]]) -> list[Result]:
    """Call ``work(*share)`` for each share at once; the caller's own thread takes the first.

    Where no thread can be had, as at the end of a program, the caller takes what is left.
    """
    if len(shares) == 1:
        return [work(*shares[0])]
    others: list[Any] = []
    try:
        with suppress(RuntimeError):
            for share in shares[1:]:
                others.append(_pool().submit(work, *share))
        first, *rest = (work(*share) for share in (shares[0], *shares[1 + len(others) :]))
    finally:
        _outlast(others)
    return [first, *(other.result() for other in others), *rest]


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


def scratch(role: str, shape: tuple[int, ...], like: Array) -> Array:
    """Return memory for this thread to write into, the same when the role asks for that shape again, where it is small.

    Fresh pages of a few hundred kilobytes cost as much as what is computed in them.
    """
    kept = _kept.arrays.get(role)
    if kept is not None and kept.shape == shape and kept.dtype == like.dtype and type(kept) is type(like):
        return kept
    made = namespace(like).empty(shape, dtype=like.dtype)
    if on_host(like) and made.nbytes <= KEPT_BYTES:
        _kept.arrays[role] = made
    return made


@cache
def _keep_pages() -> None:
    """Teach malloc, once a process, to keep what is freed for what is allocated next.

    glibc gives freed memory back to the system above a limit that is twice the largest array freed so far. Before it
    has seen a large one, the arrays of a small call are given back after it and faulted in again at the next: a third
    of the time at N = 512. This one is never written to, so it takes no memory; elsewhere it does nothing.
    """
    np.empty(TAUGHT_BYTES, dtype=np.uint8)


class _Kept(threading.local):
    """This thread's memory by role."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}


_kept = _Kept()


class _Held:
    """How many calls hold BLAS at one thread, and how many threads it had before the first of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.threads: list[int] = []


_held = _Held()


@contextmanager
def _one_blas_thread() -> Iterator[int]:
    """Hold BLAS at one thread; yields how many it has otherwise, 1 where there is no BLAS that can be held."""
    held, libraries = _held, _blas()
    with held.lock:
        if held.users == 0:
            held.threads = [library.num_threads for library in libraries]
            _set_threads(libraries, [1] * len(libraries))
        held.users += 1
        most = max(held.threads, default=1)
    try:
        yield most
    finally:
        with held.lock:
            held.users -= 1
            if held.users == 0:
                _set_threads(libraries, held.threads)


def _set_threads(libraries: list[Any], threads: list[int]) -> None:
    for library, number in zip(libraries, threads, strict=True):
        # From 3.8 on, threadpoolctl lets only the thread that set the number first set it again, and silently so. Here
        # the first call may come from one thread and the last may leave from another: the lock above takes turns.
        release = getattr(library, "clear_controlling_thread", lambda force: None)
        release(force=True)
        library.set_num_threads(number)
        release(force=True)


@cache
def _blas() -> list[Any]:
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
        _set_threads(_blas(), held.threads)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
