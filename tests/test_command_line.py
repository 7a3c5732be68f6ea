"""The command line: what goes where, and one line for everything that is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import refcl
from refcl.__main__ import build_parser, main
from refcl.experiment import command, study
from refcl.experiment.errors import StudyError
from refcl.experiment.report.table import format_table
from refcl.experiment.views import Strength

TINY = ["--epochs", "1", "--losses", "info_nce", "--temperatures", ".3", "--seeds", "0", "--jobs", "1"]
RECORD = {
    "loss": "info_nce", "temperature": 0.3, "hardest": None, "seed": 0, "keys": "bank", "epochs": 1,
    "uniformity": 2.5, "tolerance": 0.25, "alignment": 0.125, "linear_accuracy": 0.9375, "few_label_accuracy": 0.75,
    "seconds": 1.25, "settings": {"data": "digits"},
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
    assert len(asked["runs"]) == 30
    assert [run.seed for run in asked["runs"][::10]] == [0, 1, 2]
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
        "--batch 16 --optimizer sgd --learning-rate .5 --weight-decay 0 --jobs 9 --resume --quiet --json "
        "--views shift=2,noise=.1 --widths 8 9 --dimension 5 --cluster tcp://there:1 --mixed"
    )
    status, out, _ = said(capsys, *words.split(), "--out", str(tmp_path / "o"), "--data", str(tmp_path / "own.npz"))
    assert status == 0
    assert [(r.loss, r.temperature, r.hardest, r.seed) for r in asked["runs"]] == [
        (loss, temperature, 50, seed)
        for seed in (3, 4)
        for loss, temperature in (("hard_simple_loss", None), ("hard_info_nce", 0.1), ("hard_info_nce", 2.0))
    ]
    settings = asked["settings"]
    assert (settings.keys, settings.epochs, settings.batch) == ("queue", 7, 16)
    assert (settings.optimizer, settings.learning_rate, settings.weight_decay) == ("sgd", 0.5, 0.0)
    assert (asked["jobs"], asked["resume"], asked["progress"]) == (9, True, False)
    assert asked["folder"] == tmp_path / "o"
    assert asked["data"].name == "own.npz"
    assert (settings.hidden, settings.dimension) == ((8, 9), 5)
    assert settings.views == Strength(shift=2, noise=0.1)
    assert (asked["cluster"], asked["mixed"]) == ("tcp://there:1", True)
    assert json.loads(out) == [RECORD]


def test_a_count_of_one_is_not_a_share_of_one(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    kept = []
    for word in ("1", "1.0"):
        assert said(capsys, "study", "--losses", "hard_simple_loss", "--hardest", word)[0] == 0
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
        ("study --losses hinge", "argument --losses: no loss is called 'hinge'; choose from info_nce"),
        ("study --losses nt-xnet", "argument --losses: no loss is called 'nt-xnet'; did you mean nt_xent?"),
        ("study --losses moco", "no loss of a study is called 'moco': it is info_nce with --keys queue."),
        ("study --losses softmax info_nce", "argument --losses: expected no value twice"),
        ("study --views shfit=1", "got 'shfit=1'; did you mean shift?"),
        ("study --views shift=1,shift=2", "expected shift brightness noise dropout, each once, got 'shift=2'"),
        ("study --views noise", "got 'noise'; did you mean noise?"),
        ("study --views shift=.5", "expected an integer >= 0, got '.5'"),
        ("study --views dropout=2", "expected dropout from 0 to 1, got 2"),
        ("study --widths 0", "argument --widths: expected an integer >= 1, got 0"),
        ("study --dimension none", "argument --dimension: expected an integer >= 1, got 'none'"),
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
        ("study --data missing.npz", "missing.npz: no such file; give --data the path of a file or folder of samples."),
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


@pytest.mark.slow
def test_a_study_of_ones_own_data_from_a_shell(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([5, 9, 11], 30)
    np.savez(tmp_path / "own.npz", X=3.0 * np.eye(3)[y % 3] + rng.standard_normal((90, 3)), y=y)
    done = subprocess.run(
        [sys.executable, "-m", "refcl", "study", *TINY, "--data", "own.npz", "--batch", "16", "--json"],
        cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(refcl.__file__).parents[1]), *sys.path])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == (  # no progress bar: this is no terminal
        "own.npz: 90 samples of 3 features; 3 classes: 5 9 11; 63 for training, 27 held out.\n"
        f"report: {Path('study', 'report.html')}\n"
    )
    (record,) = json.loads(done.stdout)
    assert record == json.loads((tmp_path / "study" / "results.json").read_text(encoding="utf-8"))[0]
    assert record["settings"]["data"] == "own.npz"
    assert (tmp_path / "study" / "report.html").is_file()


INTERRUPT = """import os, signal, sys
class Interrupt:
    verbs = False
    def find_spec(self, name, path=None, target=None):
        self.verbs = self.verbs or name == "refcl.experiment.command"
        if self.verbs and name == os.environ.get("AT"):
            del os.environ["AT"]
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
"""


# numpy.random asks for zlib while one of its compiled modules is initialised, which makes an ImportError of Ctrl-C.
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize(
    ("at", "started_as"),
    [
        ("refcl.experiment.command", "module"),
        ("zlib", "module"),
        ("zlib", "script"),
        ("refcl.oracle.command", "script"),
    ],
)
def test_ctrl_c_while_the_verbs_are_imported_is_said_in_one_line(started_as: str, at: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT)
    script = tmp_path / "refcl-bin" / "refcl"
    script.parent.mkdir()
    script.write_text("import sys\nfrom refcl.__main__ import main\nsys.exit(main())\n")
    how = ["-m", "refcl"] if started_as == "module" else [str(script)]
    path = os.pathsep.join([str(tmp_path), str(Path(refcl.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, *how, "info"],
        cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False,
        env={**os.environ, "AT": at, "PYTHONPATH": path},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "refcl: interrupted.\n")


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
    lines = format_table([RECORD, RECORD | {"loss": "simple_loss", "temperature": None}, RECORD | {"temperature": 0.2}])
    title, header, first, second, third = lines.splitlines()
    assert len({line.index("|") for line in (title, header, first, second, third)}) == 1
    assert header.split() == [
        *("loss", "τ", "seed", "uniformity", "tolerance", "alignment", "linear", "few-label", "seconds"),
        *("|", "accuracy", "uniformity", "tolerance"),
    ]
    assert " ".join(first.split()) == "info_nce 0.3 0 2.500 0.250 0.125 0.938 0.750 1.2 | 0.833 3.60 0.178"
    assert second.split()[:3] == ["simple_loss", "-", "0"]
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


def test_describe_says_what_would_be_run_and_runs_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "study"
    status, out, err = said(capsys, "study", "--describe", "--out", str(folder), "--seeds", "5", "7", "--losses", "all")
    assert (status, err) == (0, "")
    assert [path.name for path in folder.iterdir()] == ["views.png"]
    for words in (
        "digits: 1797 grey pictures of 8 × 8 pixels; 10 classes: 0 1 2 3 4 5 6 7 8 9; 1257 for training, 540",
        "64 → 256 → 256 → 32", "shift 1, brightness 0.3, noise 0.4, dropout 0.1",
        "100 epochs of 9 steps of 128 samples",
        "8 of info_nce (softmax) at τ = 0.07, 0.3, 0.7, 1", "2 of rotation (rotation)", "5, 7", "MiB a job",
    ):  # fmt: skip
        assert words in out
    # what was only described is no study yet
    assert not (folder / "settings.json").exists()


def test_a_reader_that_goes_away_is_no_fault_of_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: Any, **__: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(study, "run_study", cut)
    with pytest.raises(BrokenPipeError):
        command.study_command(build_parser().parse_args(["study"]))
