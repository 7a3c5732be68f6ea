"""Whole studies: what they leave, the same bits on every way there, and every way of being cut short."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refcl.experiment import results, study
from refcl.experiment.data import load
from refcl.experiment.errors import StudyError
from refcl.experiment.paper import CIFAR10, LOSSES
from refcl.experiment.study import plan_runs, run_study
from refcl.experiment.train import Settings

DIGITS = load()
SETTINGS = Settings(epochs=2, hidden=(16,), dimension=5)
RUNS = plan_runs(["softmax", "hard-simple"], [0.3], 0.1, [1, 0])
FIELDS = [
    *("loss", "temperature", "hardest", "seed", "keys", "epochs"),
    *("uniformity", "tolerance", "alignment", "linear_accuracy", "few_label_accuracy", "seconds", "settings"),
]
posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


def run(folder: Path, *, jobs: int = 1, resume: bool = False, settings: Settings = SETTINGS) -> list[dict[str, Any]]:
    return run_study(DIGITS, RUNS, settings, folder, jobs=jobs, resume=resume, progress=False)


def bits(folder: Path) -> tuple[Any, dict[str, bytes]]:
    """Return everything that a study must give again: the records without their seconds, and the arrays' files."""
    records = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    timeless = [{name: value for name, value in record.items() if name != "seconds"} for record in records]
    return timeless, {path.name: path.read_bytes() for path in sorted((folder / "runs").iterdir())}


def unfinished(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "study"
    run(folder)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "study"))


def test_the_default_plan_is_table_1() -> None:
    runs = plan_runs(list(LOSSES), [0.07, 0.3, 0.7, 1.0], 0.0819, [0])
    assert [(r.loss, r.temperature) for r in runs] == list(CIFAR10)
    assert {(r.loss, r.hardest) for r in runs} == {
        ("softmax", None),
        ("simple", None),
        ("hard-softmax", 0.0819),
        ("hard-simple", 0.0819),
    }


def test_a_study_leaves_records_arrays_figures_and_a_report(whole: Path) -> None:
    records, runs = bits(whole)
    text = (whole / "results.json").read_text(encoding="utf-8")
    assert [list(record) for record in json.loads(text)] == [FIELDS] * 4
    assert [(r["loss"], r["seed"]) for r in records] == [
        *(("softmax", 1), ("softmax", 0), ("hard-simple", 1), ("hard-simple", 0)),
    ]
    assert [r["temperature"] for r in records] == [0.3, 0.3, None, None]
    assert [r["hardest"] for r in records] == [None, None, 0.1, 0.1]
    assert records[0]["settings"]["data"] == "digits"
    assert records[0]["settings"]["views"]["shift"] == 1
    assert list(runs) == [
        *("hard-simple-seed0.npz", "hard-simple-seed1.npz", "softmax-0.3-seed0.npz", "softmax-0.3-seed1.npz"),
    ]
    assert len(list(whole.glob("*.png"))) >= 3
    assert (whole / "report.html").stat().st_size > 10_000
    assert unfinished(whole) == []
    arrays = results.load_run(whole, records[0])
    assert arrays["embedding"].shape == arrays["embedding_before"].shape == (540, 5)
    assert (arrays["labels"].shape, arrays["positive_similarity"].shape) == ((540,), (540,))
    assert arrays["nearest"].shape == (540, 10)
    assert arrays["layer0_running_variance"].shape == (16,)


def test_the_bits_do_not_depend_on_jobs(whole: Path, tmp_path: Path) -> None:
    run(tmp_path / "study", jobs=3)
    assert bits(tmp_path / "study") == bits(whole)


def test_another_seed_gives_other_bits(whole: Path) -> None:
    records, _ = bits(whole)
    assert records[0]["uniformity"] != records[1]["uniformity"]


def test_a_study_there_already_is_refused_and_left_alone(copy: Path) -> None:
    before = bits(copy)
    with pytest.raises(StudyError, match="already holds a study; go on with it by --resume, or give another --out"):
        run(copy)
    assert bits(copy) == before


def test_other_settings_are_refused(copy: Path) -> None:
    with pytest.raises(StudyError, match="holds a study with epochs 2, not 3; resume it with its own settings"):
        run(copy, resume=True, settings=SETTINGS._replace(epochs=3))
    with pytest.raises(StudyError, match=r"holds a study with runs softmax-0\.3-seed1 .*, not hard-simple-seed1 hard"):
        run_study(DIGITS, RUNS[2:], SETTINGS, copy, jobs=1, resume=True, progress=False)
    other = [r._replace(hardest=r.hardest and 7) for r in RUNS]
    with pytest.raises(StudyError, match=r"with hardest 0\.1, not 7"):
        run_study(DIGITS, other, SETTINGS, copy, jobs=1, resume=True, progress=False)
    with pytest.raises(StudyError, match="with data_fingerprint"):
        run_study(DIGITS._replace(fingerprint="0"), RUNS, SETTINGS, copy, jobs=1, resume=True, progress=False)


def test_a_finished_study_is_resumed_without_training(copy: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "ProcessPoolExecutor", None)
    (copy / "report.html").unlink()
    run(copy, resume=True)
    assert (copy / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    assert (copy / "report.html").is_file()


def test_resume_trains_what_is_missing(copy: Path, whole: Path) -> None:
    records = json.loads((copy / "results.json").read_text(encoding="utf-8"))
    del records[1]
    results.write_json(copy / "results.json", records)
    (copy / "runs" / "hard-simple-seed0.npz").unlink()  # of a record that is there
    (copy / "runs" / ".softmax-0.3-seed0.npz.part").write_bytes(b"half")
    run(copy, resume=True, jobs=2)
    assert bits(copy) == bits(whole)
    assert unfinished(copy) == []


def test_resume_starts_where_nothing_is(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    run(tmp_path / "study", resume=True, jobs=2)
    assert bits(tmp_path / "study") == bits(whole)


@pytest.mark.parametrize("name", ["settings.json", "results.json"])
def test_a_file_that_no_study_wrote_is_refused(copy: Path, name: str) -> None:
    (copy / name).write_text("{", encoding="utf-8")
    with pytest.raises(StudyError, match=rf"{name} is not the file that a study wrote"):
        run(copy, resume=True)


@pytest.mark.parametrize("broken", ["garbage", "empty", "cut", "an array", "other arrays", "no arrays"])
def test_a_broken_run_is_refused_by_name(copy: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy / "runs" / "softmax-0.3-seed1.npz"
    whole = path.read_bytes()
    with path.open("wb") as file:
        if broken == "an array":
            np.save(file, np.zeros(3))
        elif broken == "other arrays":
            np.savez(file, weights=np.zeros(3))
        elif broken == "no arrays":
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("embedding.npy", "abc")
        else:
            file.write({"garbage": b"garbage\n", "empty": b"", "cut": whole[: len(whole) // 2]}[broken])
    monkeypatch.setattr(study, "ProcessPoolExecutor", None)  # it is said before anything is trained
    with pytest.raises(StudyError, match=r"softmax-0\.3-seed1\.npz is not the file that a study wrote; delete it"):
        run(copy, resume=True)
    path.unlink()
    monkeypatch.undo()
    run(copy, resume=True)
    assert path.read_bytes() == whole


def test_results_without_settings_are_refused(copy: Path) -> None:
    (copy / "settings.json").unlink()
    with pytest.raises(StudyError, match=r"settings\.json is missing"):
        run(copy, resume=True)


def test_fewer_samples_than_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="1257 training samples are fewer than a batch of 2000; give a smaller"):
        run(tmp_path / "study", settings=SETTINGS._replace(batch=2000))
    assert not (tmp_path / "study").exists()


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    results.write_whole(path, b"first")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        results.write_whole(path, b"second")
    assert caught.value.filename == str(path)
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
    assert path.read_bytes() == b"first"


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.write_json(tmp_path / "results.json", {"uniformity": np.nan})
    assert list(tmp_path.iterdir()) == []


# --- from outside, as a shell runs it ---

# Two runs, one after the other, long enough for a cut to fall in the middle of one.
LONG = ["--losses", "softmax", "simple", "--temperatures", ".3", "--epochs", "40", "--jobs", "1"]


def started(folder: Path, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "refcl", "study", "--out", str(folder), *LONG, *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
    )


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    for _ in range(1200):
        if path.exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    assert path.exists(), process.communicate()


def alive(group: int) -> bool:
    """Tell whether a process of a session is still there; zombies count until they are waited for."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uncut") / "study"
    process = started(folder)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.count("\n") == 4
    return folder


@posix
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["settings.json", "results.json"])
def test_an_interrupt_ends_in_one_line_and_can_be_resumed(moment: str, uncut: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    process = started(folder)
    wait_for(folder / moment, process)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does at Ctrl-C: every process of the group hears it
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "refcl study: interrupted; go on with --resume.\n")
    assert not alive(process.pid)
    assert unfinished(folder) == []
    _, err = (process := started(folder, "--resume")).communicate(timeout=300)
    assert process.returncode == 0, err
    assert bits(folder) == bits(uncut)


@posix
def test_an_interrupt_waits_until_all_workers_are_started() -> None:
    over = threading.Event()
    threading.Thread(target=over.wait, daemon=True).start()  # as BLAS's threads, it lets the signal through
    held = []

    def start_workers() -> None:
        with study._interrupts_held_back():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            held.append(True)

    with pytest.raises(KeyboardInterrupt):
        start_workers()
    over.set()
    assert held
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@posix
@pytest.mark.slow
def test_a_killed_study_leaves_no_workers_and_can_be_resumed(uncut: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    process = started(folder)
    wait_for(folder / "results.json", process)
    process.kill()
    process.communicate(timeout=60)
    assert not alive(process.pid)
    _, err = (process := started(folder, "--resume", "--jobs", "2")).communicate(timeout=300)
    assert process.returncode == 0, err
    assert bits(folder) == bits(uncut)


@posix
@pytest.mark.slow
def test_a_killed_worker_is_told_in_one_line(tmp_path: Path) -> None:
    process = started(tmp_path / "study", "--epochs", "100000")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(tmp_path / "study" / "settings.json", process)
    for _ in range(200):
        workers = [int(word) for word in children.read_text().split()]
        spawned = [pid for pid in workers if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        if spawned:
            break
        time.sleep(0.05)
    os.kill(spawned[0], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == (
        "refcl study: error: a worker process ended, perhaps for lack of memory; "
        "go on with fewer --jobs and --resume.\n"
    )
    assert not alive(process.pid)


@posix
def test_a_disk_that_fills_up_is_told_in_one_line(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the arrays of a run do not fit."""
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from refcl.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["study", "--out", str(tmp_path / "study"), "--epochs", "1", "--losses", "simple", "--jobs", "1"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "simple-seed0.npz: File too large; make room, then go on with --resume." in done.stderr
    assert unfinished(tmp_path) == []


@posix
def test_a_terminal_sees_the_epochs_go_by(tmp_path: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    words = ["study", "--out", str(tmp_path / "study"), "--epochs", "3", "--losses", "simple", "--jobs", "1"]
    process = subprocess.Popen([sys.executable, "-m", "refcl", *words], stdout=subprocess.DEVNULL, stderr=inner)
    os.close(inner)
    seen = b""
    try:
        while chunk := os.read(outer, 4096):
            seen += chunk
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(outer)
    assert process.wait(timeout=60) == 0
    assert b"0/3" in seen
    assert b"3/3" in seen
    assert b"Traceback" not in seen
