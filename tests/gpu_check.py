"""What a GPU does with refcl, in one command for whoever has one.

    python -m pip install ".[test,cuda12]" torch array-api-compat
    python tests/gpu_check.py --out gpu.json

In:  a GPU that CuPy finds; with --dry-run the stand-in for CuPy, at sizes that say nothing about speed.
Out: one JSON file, rewritten after each section, and a line a section. Each section has a process and a time limit of
its own: what it found until then is kept, and the next one starts. Status 1 where a number was wrong or a call waited
that should not; never because of a time.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from backends import EPS, Backend, flat, standin  # noqa: E402

import refcl  # noqa: E402

Row = dict[str, Any]
READS_ITS_NUMBERS = ("fixed_entropy", "fixed_entropy_contrastive")  # they search for the temperature on the host
DIMENSION = 128
BUSY_SECONDS = 0.2  # for how long the device has something to do while a call is watched


def rows_of(size: int, dtype: str = "float32") -> Any:
    """Return two sets of rows (N, D) on the host."""
    return np.random.default_rng(size).standard_normal((2, size, DIMENSION)).astype(dtype)


# --- the sections: each yields its rows as it finds them; a row that has "ok" is right or wrong ---


def versions(cupy: Any, dry: bool) -> Iterator[Row]:
    """Tell what is installed, and the device."""
    yield {"refcl": refcl.__version__, "python": platform.python_version(), "platform": platform.platform()}
    wanted = ("numpy", "cupy-cuda12x", "cupy-cuda13x", "torch", "jax", "array-api-compat")
    yield {name: _version(name) for name in wanted}
    runtime = cupy.cuda.runtime
    for i in range(runtime.getDeviceCount()):
        properties = runtime.getDeviceProperties(i)
        yield {"device": i, "name": properties["name"].decode(), "memory": int(properties["totalGlobalMem"])}
    yield {"cuda runtime": runtime.runtimeGetVersion(), "cuda driver": runtime.driverGetVersion()}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def parity(cupy: Any, dry: bool) -> Iterator[Row]:
    """Hold value and gradients of every loss, path, reduction and dtype to those of NumPy in the same dtype."""
    from cases import ONE_OF_EACH, PAIR_CASES

    for dtype in ("float64", "float32"):
        on_host, there = Backend("numpy", np, dtype), Backend("cupy", cupy, dtype)
        for case in ONE_OF_EACH if dry else PAIR_CASES:
            pair = case.function
            reductions = ("mean", "sum", "none")[: 1 if dry else 3] if "reduction" in pair.settings else (None,)
            for tile in (None, 2) if "tile" in pair.settings else (None,):
                worst = 0.0
                for reduction in reductions:
                    chosen = {} if reduction is None else {"reduction": reduction}
                    chosen |= {} if tile is None else {"tile": tile}
                    found = []
                    for backend in (on_host, there):
                        settings = {name: backend.arrays(value) for name, value in case.settings.items()} | chosen
                        value, grads = pair(*backend.arrays(case.inputs), **settings)
                        found.append([flat(x) for x in _given(backend.hosts((value, grads)))])
                    worst = max([worst, *map(_off, *found)])
                limit = 2000 * EPS[dtype]
                yield {
                    "loss": pair.__name__,
                    "case": case.name,
                    "dtype": dtype,
                    "path": "walk" if tile is None else "strips",
                    "error": worst,
                    "ok": bool(worst <= limit),
                }


def _given(tree: Any) -> list[Any]:
    """Return the leaves of value and gradients that are there."""
    if isinstance(tree, tuple):
        return [leaf for branch in tree for leaf in _given(branch)]
    return [] if tree is None else [tree]


def _off(want: Any, got: Any) -> float:
    """Return by how much of its norm an array is off; infinite where it is NaN."""
    norm = float(np.linalg.norm(want))
    error = float(np.linalg.norm(got - want)) / max(norm, float(np.sqrt(want.size)) * EPS["float32"])
    return error if error == error else float("inf")


def waits(cupy: Any, dry: bool) -> Iterator[Row]:
    """Tell which call returns before what was queued ahead of it is done: that one did not wait."""
    from cases import ONE_OF_EACH

    keep_busy = _keeping_busy(cupy, *((8, 0.0) if dry else (2048, BUSY_SECONDS)))
    there = Backend("cupy", cupy, "float32")
    for case in ONE_OF_EACH:
        name = case.function.__name__
        for tile in (None, 2) if "tile" in case.function.settings else (None,):
            inputs = there.arrays(case.inputs)
            settings = {key: there.arrays(value) for key, value in case.settings.items()}
            settings |= {} if tile is None else {"tile": tile}
            for _ in range(2):  # kernels are compiled, and memory is there
                case.function(*inputs, **settings)
            queued = keep_busy()
            case.function(*inputs, **settings)
            waited = bool(queued.done)
            cupy.cuda.Device().synchronize()
            path = "walk" if tile is None else "strips"
            yield {"loss": name, "path": path, "waited": waited, "ok": waited == (name in READS_ITS_NUMBERS)}


def _keeping_busy(cupy: Any, size: int, seconds: float) -> Callable[[], Any]:
    """Return a function that queues work for a while, and returns the event at its end."""
    a = cupy.ones((size, size), dtype="float32")
    out = cupy.empty_like(a)
    cupy.matmul(a, a, out=out)
    cupy.cuda.Device().synchronize()
    start = perf_counter()
    cupy.matmul(a, a, out=out)
    cupy.cuda.Device().synchronize()
    count = 1 + int(seconds / (perf_counter() - start))

    def queue() -> Any:
        for _ in range(count):
            cupy.matmul(a, a, out=out)
        event = cupy.cuda.Event()
        event.record()
        return event

    return queue


def tests(cupy: Any, dry: bool) -> Iterator[Row]:
    """Run the tests of the CuPy path, which take the GPU where there is one."""
    chosen = ["tests/test_contract.py", "tests/walk", "tests/strips", "tests/test_cupy_namespace.py", "-k", "cupy"]
    if dry:
        chosen = ["tests/walk/test_reduce.py", "-k", "cupy"]
    words = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *chosen]
    ended = subprocess.run(words, cwd=HERE.parent, capture_output=True, text=True, check=False)
    last = ended.stdout.strip().splitlines()[-15:]
    yield {"status": ended.returncode, "last lines": last, "ok": ended.returncode == 0}


def study(cupy: Any, dry: bool) -> Iterator[Row]:
    """Train and measure encoders on the device and on the CPU: another draw of views, the same outcome."""
    from refcl.experiment.data import load
    from refcl.experiment.info import machine
    from refcl.experiment.objectives import Run
    from refcl.experiment.study.job import Work, evaluate_run, train_run
    from refcl.experiment.train import Settings

    data = load()
    settings = Settings(epochs=2, hidden=(16,), dimension=5) if dry else Settings(epochs=20)
    for loss, temperature, hardest in (("info_nce", 0.2, None), ("hard_simple_loss", None, 0.1)):
        run, accuracy = Run(loss, temperature, hardest, 0), {}
        for device in ("gpu", "cpu"):
            work = Work(data, data.fingerprint, settings._replace(device=device), machine())
            start = perf_counter()
            trained = train_run(work, run)
            seconds = perf_counter() - start
            numbers, _ = evaluate_run(work, run, trained)
            accuracy[device] = numbers["linear_accuracy"]
            yield {"loss": loss, "device": device, "training seconds": seconds, "linear accuracy": accuracy[device]}
        yield {"loss": loss, "ok": abs(accuracy["gpu"] - accuracy["cpu"]) < 0.1}


def times(cupy: Any, dry: bool) -> Iterator[Row]:
    """Time value and both gradients of two losses against PyTorch's and three products, and tell the memory taken."""
    sizes = (16, 32) if dry else (1024, 4096, 16384, 65536)
    for size in sizes:
        for name, call, sync, peak in _contenders(cupy, size):
            row: Row = {"contender": name, "N": size, "D": DIMENSION}
            try:
                call()
                sync()  # kernels are compiled
                taken = []
                stop = perf_counter() + (0.0 if dry else 0.5)
                while len(taken) < 3 or (perf_counter() < stop and len(taken) < 50):
                    sync()
                    start = perf_counter()
                    call()
                    sync()
                    taken.append(perf_counter() - start)
                yield row | {"seconds": float(np.median(taken)), "peak bytes": peak(call)}
            except Exception as error:  # out of memory, mostly: each library has a class of its own
                yield row | {"left out": f"{type(error).__name__}: {str(error).splitlines()[:1]}"}


def _contenders(cupy: Any, size: int) -> Iterator[tuple[str, Callable[[], Any], Callable[[], None], Any]]:
    """Yield names, calls, what waits for the device, and what tells the most memory that a call takes."""
    q, k = map(cupy.asarray, rows_of(size))
    pool = cupy.get_default_memory_pool()

    def sync() -> None:
        cupy.cuda.Device().synchronize()

    def peak(call: Callable[[], Any]) -> int:
        pool.free_all_blocks()  # what it takes from now on it keeps: its size afterwards is the most
        before = pool.used_bytes()
        call()
        sync()
        return int(pool.total_bytes() - before)

    yield "refcl info_nce", lambda: refcl.info_nce(q, k, 0.1), sync, peak
    yield "refcl nt_xent", lambda: refcl.nt_xent(q[: size // 2], k[: size // 2], 0.1), sync, peak
    p = cupy.empty((size, size), dtype="float32") if size <= 16384 else None
    if p is not None:
        yield "three products", lambda: (cupy.matmul(q, k.T, out=p), cupy.matmul(p, k), cupy.matmul(p.T, q)), sync, peak
    pool.free_all_blocks()
    yield from _of_torch(size)


def _of_torch(size: int) -> Iterator[tuple[str, Callable[[], Any], Callable[[], None], Any]]:
    try:
        import torch

        import refcl.torch
    except ImportError:
        return
    if not torch.cuda.is_available():
        return
    q, k = (torch.from_numpy(x).cuda().requires_grad_() for x in rows_of(size))

    def written(q: Any, k: Any) -> Any:
        normalize = torch.nn.functional.normalize
        targets = torch.arange(q.shape[0], device=q.device)
        return torch.nn.functional.cross_entropy(normalize(q) @ normalize(k).T / 0.1, targets)

    def gradients(loss: Callable[..., Any]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(loss(q, k), (q, k))

    def peak(call: Callable[[], Any]) -> int:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)

    yield "PyTorch eager", gradients(written), torch.cuda.synchronize, peak
    yield "torch.compile", gradients(torch.compile(written)), torch.cuda.synchronize, peak
    yield "refcl.torch info_nce", gradients(lambda q, k: refcl.torch.info_nce(q, k, 0.1)), torch.cuda.synchronize, peak


# Limits in seconds: together under six minutes.
SECTIONS: dict[str, tuple[Callable[[Any, bool], Iterator[Row]], float]] = {
    "versions": (versions, 15),
    "parity": (parity, 90),
    "waits": (waits, 40),
    "study": (study, 50),
    "times": (times, 90),
    "tests": (tests, 70),
}


# --- a process for each, and what they found put together ---


def work(section: str, part: Path, *, dry: bool) -> None:
    """Write what a section finds, a line of JSON a row, and at the end how it ended."""
    with part.open("w", encoding="utf-8") as file:

        def write(row: Row) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        start = perf_counter()
        try:
            cupy = standin() if dry else __import__("cupy")
            if dry:
                sys.modules["cupy"] = cupy
            for row in SECTIONS[section][0](cupy, dry):
                write(row)
            write({"ended": "done", "took": perf_counter() - start})
        except Exception as error:
            write({"ended": f"{type(error).__name__}: {error}", "trace": traceback.format_exc().splitlines()[-6:]})


def watched(section: str, limit: float, folder: Path, *, dry: bool) -> dict[str, Any]:
    """Run a section in a process of its own, for no longer than its limit, and return what it found."""
    part = folder / f"{section}.jsonl"
    words = [sys.executable, str(Path(__file__)), "--section", section, "--part", str(part)]
    child = subprocess.Popen(words + ["--dry-run"] * dry, start_new_session=True)
    try:
        status = child.wait(limit)
        ended = f"its process ended with status {status}"
    except subprocess.TimeoutExpired:
        ended = f"cut off after {limit:g} s"
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)  # itself and its tests, which are in its session
            child.wait()
    return told(part, ended)


def told(part: Path, otherwise: str) -> dict[str, Any]:
    """Return the rows of a section's file and how it ended, ``otherwise`` where it does not say."""
    lines = part.read_text(encoding="utf-8").split("\n")[:-1] if part.exists() else []  # a line cut short is none
    rows = [json.loads(line) for line in lines]
    last = rows.pop() if rows and "ended" in rows[-1] else {"ended": otherwise}
    return {**last, "wrong": sum(not row.get("ok", True) for row in rows), "rows": rows}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="these sections")
    parser.add_argument("--dry-run", action="store_true", help="on the stand-in for CuPy, at tiny sizes")
    parser.add_argument("--limit", type=float, help="seconds for each section instead of its own limit")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.section:
        work(options.section, options.part, dry=options.dry_run)
        return 0
    if options.out is None:
        parser.error("--out is needed: the JSON file to write.")
    found: dict[str, Any] = {"dry run": options.dry_run, "sections": {}}
    with tempfile.TemporaryDirectory() as folder:
        for section in options.only:
            answer = watched(section, options.limit or SECTIONS[section][1], Path(folder), dry=options.dry_run)
            found["sections"][section] = answer
            print(f"{section:<10} {answer['ended']}; rows {len(answer['rows'])}, wrong {answer['wrong']}", flush=True)
            written = options.out.with_name(options.out.name + ".part")
            written.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            os.replace(written, options.out)
    answers = found["sections"].values()
    return int(any(answer["wrong"] or ": " in answer["ended"] for answer in answers))


if __name__ == "__main__":
    sys.exit(main())
