"""CuPy arrays on ranks, on the stand-in: only CuPy's own buffers are sent, and the numbers are those of NumPy."""

from typing import Any

import numpy as np
import pytest
from backends import standing_in

from refcl import ranks
from refcl.ranks import on_threads
from refcl.ranks.threads import ThreadCommunicator

ROWS = [slice(0, 3), slice(3, 3), slice(3, 7)]


class OfADevice(ThreadCommunicator):
    """An MPI that reads a device's memory where it lies, as a CUDA-aware one does, and takes nothing else."""

    def __init__(self, comm: ThreadCommunicator, cupy: Any) -> None:
        super().__init__(comm._rank, comm._shared)
        self.cupy = cupy
        self.received = 0

    def memory(self, x: Any) -> Any:
        assert isinstance(x, self.cupy.ndarray)
        assert x.flags.c_contiguous
        return x._host

    def Allgatherv(self, own: Any, everyone: Any) -> None:
        self.received += 1
        super().Allgatherv(self.memory(own), [self.memory(everyone[0]), everyone[1]])

    def Alltoallv(self, sent: Any, received: Any) -> None:
        self.received += 1
        super().Alltoallv([self.memory(sent[0]), sent[1]], [self.memory(received[0]), received[1]])

    def Isend(self, x: Any, dest: int, tag: int) -> Any:
        return super().Isend(self.memory(x), dest, tag)

    def Irecv(self, buffer: Any, source: int, tag: int) -> Any:
        self.received += 1
        return super().Irecv(self.memory(buffer), source, tag)


def called(name: str, xp: Any, comm: Any, how: str) -> Any:
    """Return what a rank gets of a loss, of arrays of a library."""
    rng = np.random.default_rng(3)
    a, b, queue = (xp.asarray(x) for x in rng.standard_normal((3, 7, 4)))
    labels, mask = xp.asarray(rng.integers(0, 3, 7)), xp.asarray(rng.random((7, 7)) < 0.3)
    r, settings = ROWS[comm.Get_rank()], {"comm": comm, "exchange": how}
    if name == "sup_con":
        return ranks.sup_con(a[r], 0.2, labels=labels[r], ignore=mask[r], **settings)
    if name == "info_nce":
        return ranks.info_nce(a[r], b[r], 0.2, queue=queue, **settings)
    if name == "clip":
        return ranks.clip(a[r], b[r], 1.5, ignore=mask[r], **settings)
    if name == "sig_lip":
        return ranks.sig_lip(a[r], b[r], 1.5, -1.0, ignore=mask[r], **settings)
    return getattr(ranks, name)(a[r], b[r], 0.2, **settings)


@pytest.mark.parametrize("how", ["gather", "ring"])
@pytest.mark.parametrize("name", ["info_nce", "clip", "sig_lip", "nt_xent", "dcl", "sup_con"])
def test_arrays_of_a_device(name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = on_threads(3, lambda comm: called(name, np, comm, how))
    cupy = standing_in(monkeypatch)

    def of_rank(comm: ThreadCommunicator) -> Any:
        device = OfADevice(comm, cupy)
        return called(name, cupy, device, how), device.received

    got, received = zip(*on_threads(3, of_rank), strict=True)
    assert cupy.cuda.get_current_stream().waited >= sum(received) > 0  # nothing is written over that is still read
    for (value, grads), (expected, expected_grads) in zip(got, wanted, strict=True):
        for x, want in zip((value, *grads), (expected, *expected_grads), strict=True):
            if want is None:
                assert x is None
                continue
            assert isinstance(x, cupy.ndarray)
            assert (x.dtype, x.shape) == (want.dtype, want.shape)
            np.testing.assert_allclose(x.get(), want, rtol=1e-13, atol=1e-13)
