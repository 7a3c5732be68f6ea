"""One device that is none: what the study, the benchmarks and refcl ask of ``cupy.cuda``."""

from typing import Any


class Device:
    """The only device; entered, it is the current one, as it always is."""

    def __init__(self, number: int | None = None) -> None:
        self.id = number or 0

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: Any) -> None: ...

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def synchronize(self) -> None: ...


class Stream:
    """The order in which a device does what it is told; it counts how often it was waited for."""

    def __init__(self) -> None:
        self.waited = 0

    def synchronize(self) -> None:
        self.waited += 1


_STREAM = Stream()


def get_current_stream() -> Stream:
    return _STREAM


class Event:
    """A mark in the queue: done once something has waited for the device after it."""

    def record(self) -> None:
        self._waits = self._so_far()

    @property
    def done(self) -> bool:
        return self._so_far() > self._waits

    @staticmethod
    def _so_far() -> int:
        from . import waits

        return len(waits)


class runtime:
    """The calls of CUDA's own."""

    class CUDARuntimeError(RuntimeError): ...

    @staticmethod
    def getDeviceCount() -> int:
        return 1

    @staticmethod
    def getDeviceProperties(_: int) -> dict[str, Any]:
        return {"name": b"stand-in", "totalGlobalMem": 0}

    @staticmethod
    def runtimeGetVersion() -> int:
        return 0

    @staticmethod
    def driverGetVersion() -> int:
        return 0
