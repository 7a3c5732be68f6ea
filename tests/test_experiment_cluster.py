"""A cluster on the loopback: the same bits as one process, with a worker killed in the middle."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from refcl.experiment.data import load
from refcl.experiment.errors import StudyError
from refcl.experiment.info import machine
from refcl.experiment.results import load_run
from refcl.experiment.study import plan_runs, run_study
from refcl.experiment.study.cluster import cluster_at
from refcl.experiment.study.job import Work
from refcl.experiment.train import Settings

distributed = pytest.importorskip("distributed", reason="distributed (the extra cluster) is not installed")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

DIGITS = load()
SETTINGS = Settings(epochs=6, hidden=(32,), dimension=8)
RUNS = plan_runs(["info_nce", "simple_loss"], [0.3], 0.1, [0, 1])
WORK = Work(DIGITS, DIGITS.fingerprint, SETTINGS, machine())
ROOT = Path(__file__).parents[1]


def start(*words: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def end(process: "subprocess.Popen[bytes]", number: int = signal.SIGTERM) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:  # a worker may wait for a scheduler that has gone
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)


def start_worker(address: str, where: Path) -> "subprocess.Popen[bytes]":
    return start(
        "dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", f"{where}"
    )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[Any]]]:
    """A scheduler and two workers, which end with the test."""
    told = tmp_path / "scheduler.json"
    scheduler = start(
        "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(told)
    )
    workers: list[Any] = []
    try:
        for _ in range(600):
            if told.exists() and told.stat().st_size:
                break
            time.sleep(0.1)
        client = distributed.Client(scheduler_file=str(told), timeout=30, set_as_default=False)
        address = client.scheduler.address
        workers += [start_worker(address, tmp_path) for _ in range(2)]
        client.wait_for_workers(2, timeout=120)
        client.close()
        yield address, workers
    finally:
        for process in [*workers, scheduler]:
            end(process)


def bits(folder: Path, records: list[dict[str, Any]]) -> list[Any]:
    return [
        ({k: v for k, v in r.items() if k != "seconds"}, {n: a.tobytes() for n, a in load_run(folder, r).items()})
        for r in records
    ]


def test_a_cluster_that_loses_a_worker_gives_the_bits_of_one_process(
    cluster: tuple[str, list[Any]], tmp_path: Path
) -> None:
    address, workers = cluster
    alone = run_study(DIGITS, RUNS, SETTINGS, tmp_path / "alone", jobs=1)
    folder = tmp_path / "together"
    killer = subprocess.Popen(  # as soon as a first encoder is kept, one of the two goes without a word
        [sys.executable, "-c",
         "import os, signal, sys, time, pathlib\n"
         "while not any(pathlib.Path(sys.argv[1]).glob('runs/*.npz')): time.sleep(.02)\n"
         "os.killpg(int(sys.argv[2]), signal.SIGKILL)", str(folder), str(workers[0].pid)],
    )  # fmt: skip
    try:
        together = run_study(DIGITS, RUNS, SETTINGS, folder, cluster=address)
    finally:
        killer.wait(timeout=60)
    assert workers[0].wait(timeout=30) == -signal.SIGKILL
    assert bits(folder, together) == bits(tmp_path / "alone", alone)
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize("lost", [0, 1])
def test_no_worker_holds_the_samples_alone(cluster: tuple[str, list[Any]], lost: int) -> None:
    address, workers = cluster
    with cluster_at(address, WORK) as those:
        time.sleep(5)  # by then Dask has dropped the copies of what it could send again
        end(workers[lost], signal.SIGKILL)
        assert those.train(0, RUNS[0]).result(timeout=60)


def test_a_worker_that_joins_later_has_the_samples(cluster: tuple[str, list[Any]], tmp_path: Path) -> None:
    address, workers = cluster
    with cluster_at(address, WORK) as those:
        workers.append(start_worker(address, tmp_path))
        those.client.wait_for_workers(3, timeout=120)
        for process in workers[:2]:
            end(process, signal.SIGKILL)
        assert those.train(0, RUNS[0]).result(timeout=60)


def test_a_scheduler_that_goes_is_said(cluster: tuple[str, list[Any]], tmp_path: Path) -> None:
    address, _ = cluster
    killer = subprocess.Popen(
        [sys.executable, "-c",
         "import sys, time, pathlib\n"
         "while not any(pathlib.Path(sys.argv[1]).glob('runs/*.npz')): time.sleep(.02)\n"
         "import distributed\n"
         "client = distributed.Client(sys.argv[2])\n"
         "client.shutdown()", str(tmp_path / "study"), address],
    )  # fmt: skip
    with pytest.raises(StudyError, match=r"the cluster lost the run of .*; go on with --resume"):
        run_study(DIGITS, RUNS, SETTINGS._replace(epochs=100), tmp_path / "study", cluster=address)
    killer.wait(timeout=60)


def test_workers_that_would_give_other_bits_are_refused_by_name(
    cluster: tuple[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refcl.experiment import study

    address, _ = cluster
    here = study.machine()
    monkeypatch.setattr(study, "machine", lambda: {**here, "blas": "OpenBLAS of another kind"})
    with pytest.raises(StudyError, match=r"the worker tcp://127\.0\.0\.1:\d+ has blas .*, and the study OpenBLAS"):
        run_study(DIGITS, RUNS[:1], SETTINGS, tmp_path / "study", cluster=address)
    (record,) = run_study(DIGITS, RUNS[:1], SETTINGS, tmp_path / "study", cluster=address, mixed=True, resume=True)
    assert record["elsewhere"]["blas"] == here["blas"]


def test_an_interrupt_leaves_a_folder_that_resumes(cluster: tuple[str, list[Any]], tmp_path: Path) -> None:
    address, _ = cluster
    folder = tmp_path / "study"
    words = ["--losses", "info_nce", "simple_loss", "--temperatures", ".3", "--seeds", "0", "--epochs", "60"]
    command = [sys.executable, "-m", "refcl", "study", "--out", str(folder), *words, "--cluster", address]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    for _ in range(1200):
        if (folder / "settings.json").exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert err.splitlines()[-1] == "refcl study: interrupted; go on with --resume."
    settings = Settings()._replace(epochs=60)
    runs = plan_runs(["info_nce", "simple_loss"], [0.3], 0.0819, [0])
    assert len(run_study(DIGITS, runs, settings, folder, cluster=address, resume=True)) == 2


def test_nobody_at_the_address_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from refcl.experiment.study import cluster as module

    monkeypatch.setattr(module, "WAIT_SECONDS", 1)
    with pytest.raises(StudyError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9 .*; give --cluster"):
        run_study(DIGITS, RUNS[:1], SETTINGS, tmp_path / "study", cluster="tcp://127.0.0.1:9")
