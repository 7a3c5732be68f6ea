"""The command line: what goes where, and one line for everything that is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import refcl
from refcl.__main__ import build_parser, main
from refcl.experiment import command, study
from refcl.experiment.errors import StudyError
from refcl.experiment.table import format_table

TINY = ["--epochs", "1", "--losses", "softmax", "--temperatures", ".3", "--jobs", "1"]
RECORD = {
    "loss": "softmax", "temperature": 0.3, "hardest": None, "seed": 0, "keys": "bank", "epochs": 1,
    "uniformity": 2.5, "tolerance": 0.25, "alignment": 0.125, "linear_accuracy": 0.9375, "few_label_accuracy": 0.75,
    "seconds": 1.25, "settings": {},
}  # fmt: skip


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Return the exit status, standard output and standard error of a command."""
    try:
        status = main(words)
    except SystemExit as stop:
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Catch what a study is asked for instead of running it."""
    arguments: dict[str, Any] = {}

    def run_study(data: Any, runs: Any, settings: Any, folder: Path, **others: Any) -> list[dict[str, Any]]:
        arguments.update(data=data, runs=runs, settings=settings, folder=folder, **others)
        return [RECORD]

    monkeypatch.setattr(study, "run_study", run_study)
    return arguments


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version") == (0, f"refcl {refcl.__version__}\n", "")


def test_info_names_versions_and_devices(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(capsys, "info")
    assert (status, err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert rows["refcl"] == refcl.__version__
    assert rows["numpy"] == np.__version__
    assert rows["python"].startswith(sys.version.split()[0])
    assert {"scipy", "matplotlib", "cupy", "blas", "cpu", "gpu"} <= set(rows)
    assert "threads" in rows["blas"]


def test_a_study_without_options_is_the_papers_table(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(capsys, "study")
    assert status == 0
    assert len(asked["runs"]) == 10
    assert {run.hardest for run in asked["runs"]} == {None, 0.0819}
    assert asked["folder"] == Path("study")
    assert (asked["resume"], asked["progress"]) == (False, True)
    settings = asked["settings"]
    assert (settings.keys, settings.epochs, settings.batch, settings.optimizer) == ("bank", 100, 128, "adam")
    assert (settings.hidden, settings.dimension, settings.device) == ((256, 256), 32, "cpu")
    assert asked["data"].name == "digits"
    assert 1 <= asked["jobs"] <= (os.cpu_count() or 1)
    assert out == format_table([RECORD]) + "\n"
    assert err == f"report: {Path('study', 'report.html')}\n"


def test_every_option_arrives(asked: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", X=np.random.default_rng(0).standard_normal((40, 3)), y=np.repeat([0, 1], 20))
    words = (
        "study --losses hard-simple hard-softmax --temperatures .1 2 --hardest 50 --keys queue --seeds 3 4 --epochs 7 "
        "--batch 16 --optimizer sgd --learning-rate .5 --weight-decay 0 --jobs 9 --resume --quiet --json"
    )
    status, out, _ = said(capsys, *words.split(), "--out", str(tmp_path / "o"), "--data", str(tmp_path / "own.npz"))
    assert status == 0
    assert [(r.loss, r.temperature, r.hardest, r.seed) for r in asked["runs"]] == [
        *(("hard-simple", None, 50, 3), ("hard-simple", None, 50, 4)),
        *(("hard-softmax", 0.1, 50, 3), ("hard-softmax", 0.1, 50, 4)),
        *(("hard-softmax", 2.0, 50, 3), ("hard-softmax", 2.0, 50, 4)),
    ]
    settings = asked["settings"]
    assert (settings.keys, settings.epochs, settings.batch) == ("queue", 7, 16)
    assert (settings.optimizer, settings.learning_rate, settings.weight_decay) == ("sgd", 0.5, 0.0)
    assert (asked["jobs"], asked["resume"], asked["progress"]) == (9, True, False)
    assert asked["folder"] == tmp_path / "o"
    assert asked["data"].name == "own.npz"
    assert json.loads(out) == [RECORD]


def test_a_count_of_one_is_not_a_share_of_one(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    kept = []
    for word in ("1", "1.0"):
        assert said(capsys, "study", "--losses", "hard-simple", "--hardest", word)[0] == 0
        kept.append(asked["runs"][0].hardest)
    assert list(map(repr, kept)) == ["1", "1.0"]
    _, out, _ = said(capsys, "study", "--help")
    assert "1 is a count, one negative, and 1.0 a share, all of them" in " ".join(out.split())


def test_sgd_has_the_papers_rates(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "study", "--optimizer", "sgd")[0] == 0
    assert (asked["settings"].learning_rate, asked["settings"].weight_decay) == (0.03, 5e-4)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "the following arguments are required: VERB"),
        ("paint", "invalid choice: 'paint'"),
        ("study --epoch 3", "unrecognized arguments: --epoch 3"),
        ("study --losses", "expected at least one argument"),
        ("study --losses hinge", "argument --losses: invalid choice: 'hinge' (choose from"),
        ("study --losses simple simple", "argument --losses: expected no value twice"),
        ("study --temperatures 0", "argument --temperatures: expected a finite number > 0, got 0"),
        ("study --temperatures .3 -1", "expected a finite number > 0, got -1"),
        ("study --temperatures nan", "expected a finite number > 0, got nan"),
        ("study --temperatures inf", "expected a finite number > 0, got inf"),
        ("study --temperatures warm", "expected a finite number > 0, got 'warm'"),
        ("study --temperatures .3 0.30", "expected no value twice"),
        ("study --temperatures .3 0.3000001", "expected values that differ in the six digits that tables show"),
        ("study --temperatures 1e-300", "float32: expected a temperature from 1e-06 to 1e+06, got 1e-300"),
        ("study --temperatures 1e300", "float32: expected a temperature from 1e-06 to 1e+06, got 1e300"),
        ("study --out", "argument --out: expected one argument"),
        ("study --out=", "argument --out: expected a folder, such as study, got ''"),
        ("study --hardest 0", "expected a share > 0 and <= 1, such as .0819, or a count >= 1, such as 100, got 0"),
        ("study --hardest 1.5", "expected a share > 0 and <= 1"),
        ("study --hardest many", "got 'many'"),
        ("study --keys door", "argument --keys: invalid choice: 'door'"),
        ("study --seeds -1", "argument --seeds: expected an integer >= 0, got -1"),
        ("study --epochs 0", "argument --epochs: expected an integer >= 1, got 0"),
        ("study --epochs 2.5", "argument --epochs: expected an integer >= 1, got '2.5'"),
        ("study --batch 1", "argument --batch: expected an integer >= 2, got 1"),
        ("study --jobs 0", "argument --jobs: expected an integer >= 1, got 0"),
        ("study --learning-rate 0", "expected a finite number > 0, got 0"),
        ("study --weight-decay -1", "expected a finite number >= 0, got -1"),
        ("study --device tpu", "argument --device: invalid choice: 'tpu'"),
        ("study --data missing.npz", "missing.npz: no such file; give --data the path of an .npz file."),
        ("study --batch 5000 --out never", "1257 training samples are fewer than a batch of 5000"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(words: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(capsys, *words.split())
    assert (status, out) == (2, "")
    assert err.startswith(("refcl: error: ", "refcl study: error: "))
    assert err.count("\n") == 1
    assert sentence in err


def test_a_gpu_that_is_not_there_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # as where CuPy is not installed
    words = ("study", "--device", "gpu", "--out", str(tmp_path / "study"))
    status, out, err = said(capsys, *words)
    assert (status, out) == (2, "")
    assert err == (
        "refcl study: error: --device gpu: CuPy is not installed: the extras cuda12 and cuda13 of refcl bring it; "
        "--device cpu runs without one.\n"
    )
    assert not (tmp_path / "study").exists()


def test_a_gpu_without_a_driver_is_said_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cupy = pytest.importorskip("cupy", reason="cupy is not installed")
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        count = 0
    if count:
        pytest.skip("there is a GPU")
    status, _, err = said(capsys, "study", "--device", "gpu", "--out", str(tmp_path / "study"))
    assert status == 2
    assert err.startswith("refcl study: error: --device gpu: CuPy finds no GPU")
    assert err.endswith("; --device cpu runs without one.\n")
    assert err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    status, out, err = said(capsys, "study", *TINY, "--out", str(tmp_path / "file" / "study"))
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "Not a directory; give an --out that can be written." in err


@pytest.mark.parametrize(
    ("reason", "status", "sentence"),
    [
        (StudyError("two\nlines"), 2, "refcl study: error: two lines\n"),
        (
            OSError(28, "No space left on device", "a/results.json"), 2,
            "refcl study: error: a/results.json: No space left on device; make room, then go on with --resume.\n",
        ),
        (
            PermissionError(13, "Permission denied", "a"), 2,
            "refcl study: error: a: Permission denied; give an --out that can be written.\n",
        ),
        (KeyboardInterrupt(), 130, "refcl study: interrupted; go on with --resume.\n"),
    ],
)  # fmt: skip
def test_what_cuts_a_study_short_is_said_in_one_line(
    reason: BaseException, status: int, sentence: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def cut(*_: Any, **__: Any) -> None:
        raise reason

    monkeypatch.setattr(study, "run_study", cut)
    assert said(capsys, "study") == (status, "", sentence)


def test_a_study_of_ones_own_data_from_a_shell(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([5, 9, 11], 30)
    np.savez(tmp_path / "own.npz", X=3.0 * np.eye(3)[y % 3] + rng.standard_normal((90, 3)), y=y)
    done = subprocess.run(
        [sys.executable, "-m", "refcl", "study", *TINY, "--data", "own.npz", "--batch", "16", "--json"],
        cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(refcl.__file__).parents[1]), *sys.path])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"report: {Path('study', 'report.html')}\n"  # no progress bar: this is no terminal
    (record,) = json.loads(done.stdout)
    assert record == json.loads((tmp_path / "study" / "results.json").read_text(encoding="utf-8"))[0]
    assert record["settings"]["data"] == "own.npz"
    assert (tmp_path / "study" / "report.html").is_file()


SAY_WHEN = """import sys
class Say:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print("numpy", flush=True)
sys.meta_path.insert(0, Say())
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("started_as", ["module", "script"])
@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.1])
def test_ctrl_c_while_numpy_is_imported_is_said_in_one_line(started_as: str, delay: float, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SAY_WHEN)
    script = tmp_path / "refcl-bin" / "refcl"
    script.parent.mkdir()
    script.write_text("import sys\nfrom refcl.__main__ import main\nsys.exit(main())\n")
    how = ["-m", "refcl"] if started_as == "module" else [str(script)]
    command = subprocess.Popen(
        [sys.executable, *how, "study", *TINY, "--out", "study"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(refcl.__file__).parents[1])])},
    )  # fmt: skip
    with command:
        assert command.stdout is not None
        assert command.stdout.readline() == "numpy\n"
        time.sleep(delay)
        command.send_signal(signal.SIGINT)
        _, err = command.communicate(timeout=60)
    # Once the import is over, Python may end by the signal itself, which a shell calls 130 as well.
    assert command.returncode in (130, -signal.SIGINT), err
    assert err in ("refcl: interrupted.\n", "refcl study: interrupted; go on with --resume.\n")


def test_a_program_that_uses_refcl_keeps_its_own_ctrl_c() -> None:
    script = "import signal, refcl; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", script, "refcl"], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_the_parser_imports_nothing_heavy() -> None:
    script = "import sys, refcl.__main__ as m; m.build_parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    roots = {name.partition(".")[0] for name in done.stdout.split()}
    assert not roots & {"scipy", "matplotlib", "tqdm", "threadpoolctl", "cupy"}


def test_a_verb_names_its_function() -> None:
    assert build_parser().parse_args(["study"]).function is command.study_command
    assert build_parser().parse_args(["info"]).function is command.info_command


def test_the_table_stands_beside_the_papers() -> None:
    lines = format_table([RECORD, RECORD | {"loss": "simple", "temperature": None}, RECORD | {"temperature": 0.2}])
    title, header, first, second, third = lines.splitlines()
    assert len({line.index("|") for line in (title, header, first, second, third)}) == 1
    assert header.split() == [
        *("loss", "τ", "seed", "uniformity", "tolerance", "alignment", "linear", "few-label", "seconds"),
        *("|", "accuracy", "uniformity", "tolerance"),
    ]
    assert " ".join(first.split()) == "softmax 0.3 0 2.500 0.250 0.125 0.938 0.750 1.2 | 0.833 3.60 0.178"
    assert second.split()[:3] == ["simple", "-", "0"]
    assert second.split("|")[1].split() == ["0.748", "1.68", "0.610"]
    assert third.split("|")[1].split() == ["-", "-", "-"]


def test_a_reader_that_leaves_early_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "refcl", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 141
