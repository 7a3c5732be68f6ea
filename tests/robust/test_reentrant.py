"""A call in the middle of a call: memory that is in use is not handed out again."""

import signal
import threading
from types import FrameType

import numpy as np
import pytest
from backends import check_same_bits

import refcl

SIZES = {"info_nce": (300, {}), "nt_xent": (200, {}), "clip": (300, {}), "sig_lip": (300, {}), "dcl": (150, {})}
SCALARS = {"info_nce": (0.2,), "nt_xent": (0.2,), "clip": (1.5,), "sig_lip": (1.5, -2.5), "dcl": (0.2,)}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
@pytest.mark.parametrize("inner", ["info_nce", "nt_xent"])
@pytest.mark.parametrize("outer", SIZES)
def test_a_signal_s_handler_may_call_a_loss(outer: str, inner: str, rng: np.random.Generator) -> None:
    """A handler that computes another batch of the same shape, again and again while the outer calls run."""
    n, settings = SIZES[outer]
    a, b, c, d = rng.standard_normal((4, n, 24))
    call = getattr(refcl, outer)
    want = call(a, b, *SCALARS[outer], tile=64, **settings)
    inner_call = getattr(refcl, inner)
    inner_want = inner_call(c, d, *SCALARS[inner], tile=64)
    came = []

    def handler(number: int, frame: FrameType | None) -> None:
        came.append(inner_call(c, d, *SCALARS[inner], tile=64))
        signal.setitimer(signal.ITIMER_REAL, 0.002)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        got = []
        while len(came) < 20 and len(got) < 2000:
            got.append(call(a, b, *SCALARS[outer], tile=64, **settings))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert came
    for value, grads in got:
        check_same_bits((value, tuple(grads)), (want[0], tuple(want[1])))
    for value, grads in came:
        check_same_bits((value, tuple(grads)), (inner_want[0], tuple(inner_want[1])))


def test_threads_do_not_share_memory(rng: np.random.Generator) -> None:
    batches = rng.standard_normal((4, 2, 200, 16))
    want = [refcl.info_nce(a, b, 0.2, tile=50) for a, b in batches]
    got: dict[int, list[object]] = {i: [] for i in range(4)}

    def work(i: int) -> None:
        for _ in range(10):
            got[i].append(refcl.info_nce(*batches[i], 0.2, tile=50))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        assert len(got[i]) == 10
        for value, grads in got[i]:  # type: ignore[misc]
            check_same_bits((value, tuple(grads)), (want[i][0], tuple(want[i][1])))
