"""What the numbers were measured on.

In:  this machine.  Out: a record for the results, and a warning where others are using it too.
"""

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from children import OF_THE_KERNELS, Child, Left, cores

BUSY = 0.15  # of the processors; more than that at the start is somebody else's work


def describe(threads: int) -> dict[str, Any]:
    """Return the machine, what runs on it now, and the BLAS and settings that the children have."""
    record: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu": _first_match("/proc/cpuinfo", r"^model name\s*:\s*(.+)$") or platform.processor() or platform.machine(),
        "processors": usable_processors(),
        "memory_bytes": _kibibytes("MemTotal"),
        "load_average": list(os.getloadavg()),
        "threads": threads,
        "kept_to_processors": cores(threads),
        "unset": {name: os.environ[name] for name in OF_THE_KERNELS if name in os.environ},
    }
    with Child(threads, kind="machine") as child:
        try:
            record |= child.first()
        except Left as reason:
            record |= {"blas": [], "blas_unknown": str(reason), "versions": {}}
    return record


def warnings(record: dict[str, Any]) -> list[str]:
    """Return what a reader of the numbers must know about the machine."""
    found = []
    load, processors = record["load_average"][0], record["processors"]
    if load > BUSY * processors:
        found.append(
            f"the load average was {load:.2f} on {processors} processors at the start: others are using this machine, "
            "and the times below are not worth quoting"
        )
    if record["processors"] < record["threads"]:
        found.append(f"{record['threads']} threads share {processors} processors")
    found += [f"{name}={value} was set; the children run without it" for name, value in record["unset"].items()]
    return found


def lines(record: dict[str, Any]) -> list[str]:
    """Return the record for a person."""
    blas = [
        f"{b['internal_api']} {b['version']}, kernel {b['architecture']}, {b['num_threads']} threads"
        for b in record["blas"]
    ]
    return [
        f"{record['cpu']}, {record['processors']} processors, {record['memory_bytes'] / 2**30:.0f} GiB",
        f"{record['platform']}, Python {record['python']}, {record['threads']} threads for each contender",
        f"BLAS of NumPy: {'; '.join(blas) or record.get('blas_unknown', 'unknown')}",
        "load average: " + " ".join(f"{load:.2f}" for load in record["load_average"]),
    ]


def usable_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_bytes() -> int:
    """Return how much memory could be had now without swapping."""
    return _kibibytes("MemAvailable")


def _kibibytes(field: str) -> int:
    return 1024 * int(_first_match("/proc/meminfo", rf"^{field}:\s+(\d+) kB$") or 0)


def _first_match(path: str, pattern: str) -> str | None:
    file = Path(path)
    found = re.search(pattern, file.read_text(), re.MULTILINE) if file.exists() else None
    return found[1] if found else None
