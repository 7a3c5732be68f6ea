"""One contender in a process of its own.

In:  what to measure, as JSON on the command line; on standard input one line to begin, then for how long to run, and
how long to rest before each call.
Out: a line of JSON each on standard output: that its libraries are loaded (several may load at once, but one at a time
begins); the value, the gradients' norms, the peak memory, the versions; then the seconds that the calls took.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

Begin = Callable[[], tuple[Callable[[], Any], dict[str, Any]]]

STEPS = 10  # of training before the timing starts
SLOW = 1.0  # seconds; calls longer than this are not preceded by an untimed one


def main() -> None:
    # Libraries print where they like; the parent must read nothing but our lines.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(reply: dict[str, Any]) -> None:
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    task = json.loads(sys.argv[1])
    if task["cores"]:
        os.sched_setaffinity(0, task["cores"])
    try:
        begin = {"loss": loss, "training_step": training_step, "machine": machine}[task["kind"]](task)
        say({"awake": True})
        sys.stdin.readline()
        call, first = begin()
        say(first)
        for line in sys.stdin:
            say({"seconds": list(turn(call, *map(float, line.split())))})
    except ModuleNotFoundError as missing:
        say({"left_out": f"{missing.name} is not installed"})
    except (Exception, MemoryError) as reason:
        say({"left_out": f"{type(reason).__name__}: {str(reason).strip().partition(chr(10))[0][:200]}"})


def turn(call: Callable[[], Any], least: float, pause: float) -> Iterator[float]:
    """Yield the seconds of each call, one call or as many as fit; the first only wakes caches and threads."""
    begun = perf_counter()
    call()
    first = perf_counter() - begun
    if first > SLOW:
        yield first
        return
    spent = 0.0
    while spent == 0.0 or spent < least:
        sleep(pause)  # threads that wait for work by spinning fall asleep
        begun = perf_counter()
        call()
        spent += (seconds := perf_counter() - begun)
        yield seconds


def loss(task: dict[str, Any]) -> Begin:
    """Wake a contender; to begin is to make its first call at the wanted size, and tell what that gave and needed."""
    import numpy as np
    from contenders import CONTENDERS

    contender = CONTENDERS[task["contender"]]
    small = contender.prepare(task["loss"], *inputs(np, task["loss"], 64, task["dimension"]))
    if not contender.compiles:  # libraries set themselves up in their first call: that is not the loss's memory
        small()
    return lambda: first_call(np, contender, task)


def first_call(np: Any, contender: Any, task: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Return a contender's call, and what the first one gave and needed."""
    call = contender.prepare(task["loss"], *inputs(np, task["loss"], task["rows"], task["dimension"]))
    if contender.compiles:
        call()
    before = memory("VmRSS")
    exact = forget_peak()
    begun = perf_counter()
    result = [np.asarray(array) for array in call()]
    seconds = perf_counter() - begun
    gradients = sum(array.nbytes for array in result[1:])
    first: dict[str, Any] = {"first_seconds": seconds, "versions": versions(), "value": None, "peak_bytes": None}
    if result:
        first |= {"value": float(result[0]), "norms": [float(np.linalg.norm(array)) for array in result[1:]]}
        first["peak_bytes"] = max(0, memory("VmHWM") - before - gradients) if exact else None
    return call, first


def inputs(np: Any, loss: str, rows: int, dimension: int) -> tuple[Any, Any]:
    """Return two views whose similarities make `rows` rows: for NT-Xent each view gives half of them."""
    count = rows if loss == "info_nce" else rows // 2
    rng = np.random.default_rng(0)
    a = rng.standard_normal((count, dimension), dtype=np.float32)
    b = rng.standard_normal((count, dimension), dtype=np.float32)
    b += a
    return a, b


def training_step(task: dict[str, Any]) -> Begin:
    """Wake a contender; to begin is to take some steps, and tell the loss before the first and the last."""
    from training import PREPARE

    call = PREPARE[task["contender"]]()

    def begin() -> tuple[Callable[[], Any], dict[str, Any]]:
        values = [float(call()[0]) for _ in range(STEPS)]
        return call, {"value": values[0], "value_later": values[-1], "versions": versions()}

    return begin


def machine(task: dict[str, Any]) -> Begin:
    """Tell the BLAS that NumPy uses under the settings of all children."""
    import numpy as np

    np.ones((2, 2)) @ np.ones((2, 2))
    from threadpoolctl import threadpool_info

    blas = [
        {key: library.get(key) for key in ("internal_api", "version", "architecture", "num_threads")}
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]
    return lambda: (lambda: None, {"blas": blas, "versions": versions()})


def memory(field: str) -> int:
    """Return the resident memory of this process in bytes, now (VmRSS) or at its peak (VmHWM)."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None, field
    return 1024 * int(found[1])


def forget_peak() -> bool:
    """Set the peak to what is resident now; tell whether the kernel did."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def versions() -> dict[str, str]:
    """Return the versions of those measured libraries that this process has loaded."""
    wanted = {"numpy", "torch", "jax", "jaxlib", "pytorch_metric_learning", "threadpoolctl"} & set(sys.modules)
    distributions = packages_distributions()
    found = {name: version(distributions[name][0]) for name in sorted(wanted)}
    if "refcl" in sys.modules:
        found["refcl"] = sys.modules["refcl"].__version__
    return found


if __name__ == "__main__":
    main()
