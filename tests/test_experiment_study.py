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
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from refcl.__main__ import main
from refcl.experiment import results, study
from refcl.experiment.command import HARDEST
from refcl.experiment.data import load
from refcl.experiment.errors import StudyError
from refcl.experiment.objectives import PAPERS, Run
from refcl.experiment.plots import draw_figures
from refcl.experiment.report.page import write_report
from refcl.experiment.report.paper import CIFAR10
from refcl.experiment.report.resampling import resample
from refcl.experiment.study import plan_runs, run_study, workers
from refcl.experiment.train import Settings

DIGITS = load()
SETTINGS = Settings(epochs=2, hidden=(16,), dimension=5)
RUNS = plan_runs(["hard_simple_loss", "info_nce"], [0.3], 0.1, [1, 0])
FIELDS = [
    *("loss", "temperature", "hardest", "seed", "keys", "epochs"),
    *("uniformity", "tolerance", "alignment", "linear_accuracy", "few_label_accuracy"),
    *("separation", "separation_training", "positive_training", "seconds", "elsewhere", "settings"),
]
posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


def run(
    folder: Path, plan: list[Run] = RUNS, *, executor: Any = None, settings: Settings = SETTINGS, **others: Any
) -> list[dict[str, Any]]:
    """Run a study in a thread: processes, and their imports, have tests of their own."""
    with ThreadPoolExecutor(1) as thread:
        return run_study(DIGITS, plan, settings, folder, executor=executor or thread, **others)


def leave_out_the_report(patch: pytest.MonkeyPatch) -> None:
    """Skip what comes after the runs, which takes several times as long as these do."""
    patch.setattr(study, "resample", lambda records, folder: None)
    patch.setattr(study, "draw_figures", lambda shown: None)
    patch.setattr(study, "write_report", lambda shown, others: None)


@pytest.fixture(autouse=True)
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_the_report(monkeypatch)


@pytest.fixture
def reported(unreported: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the figures only."""
    monkeypatch.setattr(study, "resample", resample)
    monkeypatch.setattr(study, "write_report", write_report)


def bits(folder: Path) -> tuple[Any, dict[str, bytes]]:
    """Return everything that a study must give again: the records without their seconds, and the arrays' files."""
    records = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    timeless = [{name: value for name, value in record.items() if name != "seconds"} for record in records]
    return timeless, {path.name: path.read_bytes() for path in sorted((folder / "runs").iterdir())}


def unfinished(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's runs, without its figures and its report."""
    folder = tmp_path_factory.mktemp("whole") / "study"
    with pytest.MonkeyPatch.context() as patch:
        leave_out_the_report(patch)
        run(folder)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "study"))


def test_the_default_plan_is_table_1() -> None:
    runs = plan_runs(list(PAPERS), [0.07, 0.3, 0.7, 1.0], 0.0819, [0])
    assert [(r.loss, r.temperature) for r in runs] == list(CIFAR10)
    assert {(r.loss, r.hardest) for r in runs} == {
        ("info_nce", None),
        ("simple_loss", None),
        ("hard_info_nce", 0.0819),
        ("hard_simple_loss", 0.0819),
    }


def test_a_study_leaves_records_arrays_figures_and_a_report(
    whole: Path, reported: None, unrendered: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By two processes, whose bits are those of one; tests/test_plots.py has the pictures rendered."""
    monkeypatch.setattr(study, "draw_figures", draw_figures)
    folder = tmp_path / "study"
    run_study(DIGITS, RUNS, SETTINGS, folder, jobs=2)
    assert bits(folder) == bits(whole)
    records, runs = bits(folder)
    text = (folder / "results.json").read_text(encoding="utf-8")
    assert [list(record) for record in json.loads(text)] == [FIELDS] * 4
    assert [(r["loss"], r["seed"]) for r in records] == [
        *(("info_nce", 0), ("info_nce", 1), ("hard_simple_loss", 0), ("hard_simple_loss", 1)),
    ]
    assert [r["temperature"] for r in records] == [0.3, 0.3, None, None]
    assert [r["hardest"] for r in records] == [None, None, 0.1, 0.1]
    assert records[0]["settings"]["data"] == "digits"
    assert records[0]["settings"]["views"]["shift"] == 1
    assert list(runs) == [
        *(f"hard_simple_loss-seed{seed}-epochs2.npz" for seed in (0, 1)),
        *(f"info_nce-0.3-seed{seed}-epochs2.npz" for seed in (0, 1)),
    ]
    assert len(list(folder.glob("*.png"))) >= 3
    assert (folder / "report.html").stat().st_size > 10_000
    assert unfinished(folder) == []
    arrays = results.load_run(folder, records[0])
    assert arrays["embedding"].shape == arrays["embedding_before"].shape == (540, 5)
    assert (arrays["labels"].shape, arrays["positive_similarity"].shape) == ((540,), (540,))
    assert arrays["nearest"].shape == (540, 10)
    assert arrays["layer0_running_variance"].shape == (16,)


@posix
def test_a_folder_takes_one_study_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    with (
        results.alone_in(folder),
        pytest.raises(
            StudyError, match=r"another study is at work in .*study; wait for its end, or give another --out"
        ),
    ):
        run_study(DIGITS, RUNS, SETTINGS, folder, resume=True)
    assert list(folder.iterdir()) == []
    with results.alone_in(folder):
        pass


def test_a_pool_whose_own_thread_is_lost_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import process

    def run(self: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(process._ExecutorManagerThread, "run", run)
    hook = threading.excepthook
    with pytest.raises(StudyError, match=r"a thread of the study ended by MemoryError, .* go on with fewer --jobs"):
        run_study(DIGITS, RUNS, SETTINGS, tmp_path / "study", jobs=2)
    assert threading.excepthook is hook


def test_another_seed_gives_other_bits(whole: Path) -> None:
    records, _ = bits(whole)
    assert records[0]["uniformity"] != records[1]["uniformity"]


def test_a_study_there_already_is_refused_and_left_alone(copy: Path) -> None:
    before = bits(copy)
    with pytest.raises(StudyError, match="already holds a study; go on with it by --resume, or give another --out"):
        run(copy)
    assert bits(copy) == before


def test_other_settings_are_refused(copy: Path) -> None:
    with pytest.raises(StudyError, match="holds a study with batch 128, not 64; resume it with its own settings"):
        run(copy, resume=True, settings=SETTINGS._replace(batch=64))
    with pytest.raises(StudyError, match=r"holds a study with views: noise 0\.4, not 0\.5; resume"):
        run(copy, resume=True, settings=SETTINGS._replace(views=SETTINGS.views._replace(noise=0.5)))
    with pytest.raises(StudyError, match="holds a study with hidden 16, not 17; resume"):
        run(copy, resume=True, settings=SETTINGS._replace(hidden=(17,)))
    other = [r._replace(hardest=r.hardest and 7) for r in RUNS]
    with pytest.raises(StudyError, match=r"with hardest 0\.1, not 7"):
        run(copy, other, resume=True)
    with pytest.raises(StudyError, match="with data_fingerprint"):
        run_study(DIGITS._replace(fingerprint="0"), RUNS, SETTINGS, copy, resume=True)


def test_a_finished_study_is_resumed_without_training(
    copy: Path, whole: Path, reported: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "Pool", None)
    run_study(DIGITS, RUNS, SETTINGS, copy, resume=True)
    assert (copy / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    assert (copy / "report.html").is_file()


def test_resume_trains_what_is_missing(copy: Path, whole: Path) -> None:
    records = json.loads((copy / "results.json").read_text(encoding="utf-8"))
    del records[1]
    results.write_json(copy / "results.json", records)
    (copy / "runs" / "hard_simple_loss-seed0-epochs2.npz").unlink()  # of a record that is there
    (copy / "runs" / ".info_nce-0.3-seed0-epochs2.npz.part").write_bytes(b"half")
    run(copy, resume=True)
    assert bits(copy) == bits(whole)
    assert unfinished(copy) == []


def test_resume_starts_where_nothing_is(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    run(tmp_path / "study", resume=True)
    assert bits(tmp_path / "study") == bits(whole)


@pytest.mark.parametrize("name", ["settings.json", "results.json"])
def test_a_file_that_no_study_wrote_is_refused(copy: Path, name: str) -> None:
    (copy / name).write_text("{", encoding="utf-8")
    with pytest.raises(StudyError, match=rf"{name} is not the file that a study wrote"):
        run(copy, resume=True)


@pytest.mark.parametrize("broken", ["garbage", "empty", "cut", "an array", "other arrays", "no arrays"])
def test_a_broken_run_is_refused_by_name(copy: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy / "runs" / "info_nce-0.3-seed1-epochs2.npz"
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
    written = path.read_bytes()
    monkeypatch.setattr(study, "Pool", None)  # it is said before anything is trained
    with pytest.raises(
        StudyError, match=r"info_nce-0\.3-seed1-epochs2\.npz is not the file that a study wrote.*; delete it"
    ):
        run_study(DIGITS, RUNS, SETTINGS, copy, resume=True)
    assert path.read_bytes() == written
    if broken == "garbage":  # what is deleted is made again, whatever was wrong with it
        path.unlink()
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


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--losses", "nt_xent"], "the nt_xent loss goes with --keys same, not with bank."),
        (
            ["--losses", "rotation", "--data", "own.npz", "--batch", "16"],
            "rotation needs pictures, and the samples of own.npz are rows of features",
        ),
        (
            ["--batch", "2000"],
            "1257 training samples are fewer than a batch of 2000; give a smaller --batch, such as --batch 1024.",
        ),
    ],
)
@pytest.mark.parametrize("describe", [[], ["--describe"]])
def test_a_plan_that_cannot_be_run_is_refused_and_not_described(
    words: list[str],
    sentence: str,
    describe: list[str],
    rng: np.random.Generator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("own.npz", X=rng.standard_normal((40, 3)), y=np.arange(40) % 2)
    assert main(["study", *words, *describe]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("refcl study: error: ")
    assert sentence in err
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
LONG = ["--losses", "info_nce", "simple_loss", "--temperatures", ".3", "--epochs", "30", "--seeds", "0", "--jobs", "1"]
LONG_RUNS, LONG_SETTINGS = plan_runs(["info_nce", "simple_loss"], [0.3], HARDEST, [0]), Settings(epochs=30)


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
    for _ in range(1200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uncut") / "study"
    with pytest.MonkeyPatch.context() as patch:
        leave_out_the_report(patch)
        run(folder, LONG_RUNS, settings=LONG_SETTINGS)
    return folder


@posix
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["settings.json", "results.json"])
def test_an_interrupt_ends_in_one_line_and_can_be_resumed(moment: str, uncut: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    process = started(folder)
    wait_for(folder / moment, process)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does at Ctrl-C: every process of the group hears it
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (130, "", "refcl study: interrupted; go on with --resume.\n")
    assert not alive(process.pid)
    assert unfinished(folder) == []
    run(folder, LONG_RUNS, settings=LONG_SETTINGS, resume=True)
    assert bits(folder) == bits(uncut)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_the_study_waits_until_all_workers_are_started(number: int) -> None:
    before = signal.signal(number, signal.default_int_handler)
    over = threading.Event()
    threading.Thread(target=over.wait, daemon=True).start()  # as BLAS's threads, it lets the signal through
    held = []

    def start_workers() -> None:
        with workers._interrupts_held_back():
            os.kill(os.getpid(), number)
            time.sleep(0.05)
            held.append(True)

    try:
        with pytest.raises(KeyboardInterrupt):
            start_workers()
        over.set()
        assert held
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


@posix
@pytest.mark.slow
def test_a_killed_study_leaves_no_workers_and_can_be_resumed(uncut: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    process = started(folder)
    wait_for(folder / "results.json", process)
    process.kill()
    process.communicate(timeout=300)
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
    for _ in range(2000):
        workers = [int(word) for word in children.read_text().split()]
        spawned = [pid for pid in workers if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        if spawned:
            break
        time.sleep(0.05)
    os.kill(spawned[0], signal.SIGKILL)
    _, err = process.communicate(timeout=300)
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
    words = ["study", "--out", str(tmp_path / "study"), "--epochs", "1", "--losses", "simple_loss", "--jobs", "1"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "simple_loss-seed0-epochs1.trained.npz: File too large; make room, then go on with --resume." in done.stderr
    assert unfinished(tmp_path) == []


@posix
def test_a_terminal_sees_the_epochs_go_by(tmp_path: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    words = ["study", "--out", str(tmp_path / "study"), "--epochs", "3", "--losses", "simple_loss", "--seeds", "0"]
    words += ["--jobs", "1"]
    process = subprocess.Popen([sys.executable, "-m", "refcl", *words], stdout=subprocess.DEVNULL, stderr=inner)
    os.close(inner)
    seen = b""
    while b"3/3" not in seen:  # what comes after the last epoch is shown to nobody
        try:
            chunk = os.read(outer, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
        seen += chunk
    process.kill()
    process.wait(timeout=300)
    os.close(outer)
    assert b"0/3" in seen
    assert b"3/3" in seen
    assert b"Traceback" not in seen


# --- a study grows ---


def test_a_study_grows_by_seeds_losses_temperatures_and_epochs(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it came to what it holds, it holds the same bits."""
    folder = tmp_path / "study"
    first = plan_runs(["info_nce"], [0.3], 0.1, [1])
    run(folder, first)
    run(folder, plan_runs(["info_nce", "hard_simple_loss"], [0.3], 0.1, [0]), resume=True)
    records = run(folder, plan_runs(["hard_simple_loss"], [0.3], 0.1, [1]), resume=True)
    assert [(r["loss"], r["seed"]) for r in records] == [
        *(("info_nce", 0), ("info_nce", 1), ("hard_simple_loss", 0), ("hard_simple_loss", 1)),
    ]
    assert bits(folder) == bits(whole)
    assert (folder / "settings.json").read_bytes() == (whole / "settings.json").read_bytes()
    monkeypatch.setattr(study, "resample", resample)
    monkeypatch.setattr(study, "write_report", write_report)
    longer = run(folder, first, settings=SETTINGS._replace(epochs=1), resume=True)
    assert [(r["loss"], r["epochs"], r["seed"]) for r in longer][:3] == [
        *(("info_nce", 1, 1), ("info_nce", 2, 0), ("info_nce", 2, 1)),
    ]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "1 run, 1 epochs. 4 more runs, of other numbers of epochs, are in results.json." in page


def test_an_encoder_that_was_trained_is_not_trained_again(whole: Path, tmp_path: Path) -> None:
    """As after a study that ended between training and measuring."""
    folder = tmp_path / "study"
    (folder / "runs").mkdir(parents=True)
    shutil.copy(whole / "settings.json", folder)
    arrays = results.load_run(whole, results.read_records(whole / "results.json")[0])
    encoder = {name: array for name, array in arrays.items() if name.startswith("layer")}
    path = results.trained_path(folder, "info_nce-0.3-seed0-epochs2")
    results.write_arrays(path, {**encoder, "training_seconds": np.array(123.0)})
    plan = plan_runs(["info_nce"], [0.3], 0.1, [0])
    (record,) = run(folder, plan, resume=True)
    assert record["seconds"] > 123.0
    assert not path.exists()
    assert (folder / "runs" / "info_nce-0.3-seed0-epochs2.npz").read_bytes() == (
        whole / "runs" / "info_nce-0.3-seed0-epochs2.npz"
    ).read_bytes()
    path.write_bytes(b"half of one")
    assert results.load_trained(path) is None


@pytest.mark.parametrize("kind", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_any_executor_gives_the_same_bits(kind: str, whole: Path, tmp_path: Path) -> None:
    # A limit that this thread has set before must not keep the others from theirs.
    threadpool_limits(limits=2, user_api="blas").restore_original_limits()
    threads = kind == "threads"
    plan = RUNS if threads else RUNS[:2]
    with ThreadPoolExecutor(3) if threads else ProcessPoolExecutor(2, get_context("spawn")) as executor:
        run(tmp_path / "study", plan, executor=executor)
        assert executor.submit(int, 3).result() == 3  # it is left open
    (ours, arrays), (records, expected) = bits(tmp_path / "study"), bits(whole)
    assert len(ours) == len(arrays) == len(plan)
    assert all(record in records for record in ours)
    assert arrays.items() <= expected.items()


def test_every_run_that_waits_is_called_off() -> None:
    class Full(ThreadPoolExecutor):  # nothing runs yet; what is called off leaves the set that is being gone through
        def submit(self, *_: Any, **__: Any) -> Any:
            return Future()

    borrowed = workers.Borrowed(Full(1), cast(Any, None))
    futures = [borrowed.train(position, one) for position, one in enumerate(RUNS)]
    borrowed.stop(now=True)
    assert len(futures) > 1
    assert all(future.cancelled() for future in futures)
    assert not borrowed.futures


def test_workers_of_another_kind_are_refused_or_noted(
    tmp_path: Path, reported: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refcl.experiment.study import job

    here = job.machine()
    monkeypatch.setattr(job, "machine", lambda: {**here, "blas": "other kernels"})
    plan = plan_runs(["info_nce"], [0.3], 0.1, [0])
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(StudyError, match=r"has blas other kernels, and the study .*; make them alike, .* --mixed"):
            run_study(DIGITS, plan, SETTINGS, tmp_path / "a", executor=executor)
        (record,) = run_study(DIGITS, plan, SETTINGS, tmp_path / "b", executor=executor, mixed=True)
    assert record["elsewhere"]["blas"] == "other kernels"
    assert "run with other versions or kernels, by" in (tmp_path / "b" / "report.html").read_text(encoding="utf-8")


def test_no_memory_is_one_line_and_what_was_trained_is_kept(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refcl.experiment.study import job

    def full(*_: Any) -> None:
        raise MemoryError

    plan = plan_runs(["info_nce"], [0.3], 0.1, [0])
    with ThreadPoolExecutor(1) as executor:
        with monkeypatch.context() as patch:
            patch.setattr(job, "evaluate", full)
            with pytest.raises(StudyError, match=r"not enough memory to measure info_nce \(seed 0\); what was trained"):
                run_study(DIGITS, plan, SETTINGS, tmp_path / "study", executor=executor)
        kept = results.trained_path(tmp_path / "study", "info_nce-0.3-seed0-epochs2")
        assert kept.is_file()
        monkeypatch.setattr(job, "train", full)  # and is not needed again
        run_study(DIGITS, plan, SETTINGS, tmp_path / "study", executor=executor, resume=True)
    assert (tmp_path / "study" / "runs" / "info_nce-0.3-seed0-epochs2.npz").read_bytes() == (
        whole / "runs" / "info_nce-0.3-seed0-epochs2.npz"
    ).read_bytes()


# --- what is read back ---


def test_the_published_schema_is_the_one_that_is_written(whole: Path) -> None:
    import jsonschema

    published = json.loads((Path(__file__).parents[1] / "docs" / "results.schema.json").read_text(encoding="utf-8"))
    assert published == results.schema(), "python -c 'from refcl.experiment.results import *; ...' writes it anew"
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.validate(json.loads((whole / "results.json").read_bytes()), published)


def broken_records(good: dict[str, Any]) -> list[Any]:
    """Return what is nearly a list of records."""
    values = [None, True, -1, 0, 2.5, "", "x", [], {}, {"worker": 1}, 1e400]
    changed = [[good | {name: value}] for name in good for value in values]
    return [None, {}, "records", 3, [None], [3], [[]], [{}], [good | {"more": 1}], *changed] + [
        [{name: value for name, value in good.items() if name != left}] for left in good
    ]


def test_what_is_read_back_is_held_against_the_schema(whole: Path, tmp_path: Path) -> None:
    """The few lines that need no validator say of everything what a validator says."""
    import jsonschema

    good = json.loads((whole / "results.json").read_bytes())[0]
    path = tmp_path / "results.json"
    validator = jsonschema.Draft202012Validator(results.schema())
    refused = 0
    for found in broken_records(good):
        path.write_text(json.dumps(found), encoding="utf-8")
        # JSON has no infinity, which a validator takes for a number
        if validator.is_valid(found) and "Infinity" not in path.read_text(encoding="utf-8"):
            assert results.read_records(path) == found
        else:
            refused += 1
            with pytest.raises(StudyError, match=r"results\.json is not the file that a study wrote") as caught:
                results.read_records(path)
            assert "\n" not in str(caught.value)
    assert refused > 100


@pytest.mark.parametrize("text", ["null", "[{}]", "{", "[[[[", "[1]", '[{"loss": "info_nce"}]'])
def test_results_that_no_study_wrote_are_left_alone(copy: Path, text: str) -> None:
    (copy / "results.json").write_text(text, encoding="utf-8")
    with pytest.raises(StudyError, match=r"results\.json is not the file that a study wrote"):
        run(copy, resume=True)
    assert (copy / "results.json").read_text(encoding="utf-8") == text


def test_a_run_with_fewer_rows_is_refused(copy: Path) -> None:
    path = copy / "runs" / "info_nce-0.3-seed1-epochs2.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["linear_correct"] = arrays["linear_correct"][:-1]
    np.savez(path, **arrays)
    with pytest.raises(StudyError, match="linear_correct is missing or of another size"):
        run(copy, resume=True)
