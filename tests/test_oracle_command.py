"""check, vectors and verify from a shell: exit status, one line where nothing can be judged, and a hang cut off."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from refcl.__main__ import build_parser, main
from refcl.oracle import command
from refcl.oracle.candidates import child
from refcl.oracle.command import load_candidate

MINE = """
import os, signal, subprocess, sys, time
import numpy as np
import refcl

def right(a, b, temperature):
    return refcl.nt_xent(a, b, temperature)

def baked(a, b):
    return refcl.nt_xent(a, b, 0.2)

def wrong(a, b, temperature):
    return refcl.nt_xent(a, b, 1.0)[0]

def hangs(a, b):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open("child", "w") as file:
        file.write(str(child.pid))
    time.sleep(600)

def raises(a, b):
    return inner(a)

def inner(a):
    return a[1000]

def cmc(views, temperature):
    return refcl.cmc(views, temperature)

def clip(image, text, log_scale):
    return refcl.clip(image, text, log_scale, clamp=(0.0, 3.0))

def hcl(a, b):
    return refcl.hcl(a, b, 0.5, tau_plus=0.1, beta=1.0)

def one(a):
    return 1.0

def matrix(a, b):
    return a

def nothing(a, b):
    return float("nan")

def prints(a, b, temperature):
    print("said by Python")
    os.write(1, b"said below it\\n")
    return refcl.nt_xent(a, b, temperature)

def leaves(a, b):
    os._exit(0)

def leaves_as_wrong(a, b):
    os._exit(1)

def crashes(a, b):
    os.kill(os.getpid(), signal.SIGSEGV)

class Losses:
    @staticmethod
    def right(a, b, temperature):
        return refcl.nt_xent(a, b, temperature)
"""
BROKEN = "import nothing_of_that_name\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine_for_refcl.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "broken_for_refcl.py").write_text(BROKEN, encoding="utf-8")
    root = str(Path(__file__).resolve().parents[1])
    monkeypatch.setenv("PYTHONPATH", root)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge here what `check` judges in a process of its own, where that is not what is asked about."""

    def answer_of(module: str, words: list[str], timeout: float) -> Any:
        assert module == "refcl.oracle.command"
        return json.loads(json.dumps(command.check_here(json.loads(words[0]))))

    monkeypatch.setattr(command, "answer_of", answer_of)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        ("mine_for_refcl:right --loss nt_xent", 0, "nt_xent(): CORRECT"),
        ("mine_for_refcl.py:right --loss nt_xent", 0, "nt_xent(): CORRECT"),
        ("mine_for_refcl:Losses.right --loss nt_xent", 0, "nt_xent(): CORRECT"),
        ("mine_for_refcl:baked --loss nt_xent --temperature 0.2", 0, "CORRECT"),
        ("mine_for_refcl:cmc --loss cmc --set views=2", 0, "cmc(views=2): CORRECT"),
        ("mine_for_refcl:cmc --loss cmc --set core=true", 1, "it is right for core=False"),
        ("mine_for_refcl:clip --loss clip --set clamp=[0,3]", 0, "CORRECT"),
        ("mine_for_refcl:hcl --loss hcl --temperature 0.5 --set tau_plus=0.1 --set beta=1", 0, "CORRECT"),
        ("mine_for_refcl:wrong --loss nt_xent", 1, "temperature-missing"),
        ("mine_for_refcl:right --loss nt_xent --direction first", 1, 'it is right for direction="both"'),
    ],
)
def test_judged(
    words: str, status: int, sentence: str,
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if not words.startswith("mine_for_refcl.py:"):
        in_this_process(monkeypatch)
    assert main(["check", *words.split()]) == status
    out, err = capfd.readouterr()
    assert sentence in out
    assert err == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("mine_for_refcl:raises --loss nt_xent --temperature 0.2", "the candidate raised IndexError: index 1000"),
        (
            "mine_for_refcl:one --loss nt_xent",
            "the candidate takes 1 positional arguments; nt_xent gives it 2: a, b.",
        ),
        ("mine_for_refcl:matrix --loss nt_xent --temperature 0.2", "the value has shape (5, 12); expected a scalar"),
        ("mine_for_refcl:baked --loss nt_xent", "its temperature is baked in and not known"),
        ("mine_for_refcl:absent --loss nt_xent", "mine_for_refcl has no absent; it has"),
        ("no_such_module:f --loss nt_xent", "can't import no_such_module: ModuleNotFoundError"),
        ("no_such.py:f --loss nt_xent", "no_such.py: no such file."),
        ("broken_for_refcl:f --loss nt_xent", "No module named 'nothing_of_that_name'"),
        ("mine_for_refcl --loss nt_xent", "mine_for_refcl: expected MODULE:FUNCTION."),
        ("mine_for_refcl:right --loss no_loss", "no loss is called 'no_loss'"),
        ("mine_for_refcl:right --loss nt_xent --scale odd", "no scale is called 'odd'"),
    ],
)
def test_not_judged(
    words: str, sentence: str, here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "raises" not in words and "absent" not in words:
        in_this_process(monkeypatch)
    assert main(["check", *words.split()]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("refcl check: ")
    assert sentence in err.splitlines()[0]
    if "raises" in words:
        assert "inner(a)" in err
        assert "refcl/oracle" not in err


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("leaves", "ended its process, with status 0, before anything could be judged."),
        ("leaves_as_wrong", "ended its process, with status 1, before anything could be judged."),
        ("crashes", "crashed: its process was ended by SIGSEGV before anything could be judged."),
    ],
)
def test_who_ends_the_process_gets_no_verdict(
    name: str, sentence: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", f"mine_for_refcl:{name}", "--loss", "nt_xent", "--temperature", "0.2"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err == f"refcl check: mine_for_refcl:{name} {sentence}\n"


def test_json(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "mine_for_refcl:wrong", "--loss", "nt_xent", "--json"]) == 1
    assert json.loads(capfd.readouterr().out)["verdict"] == "temperature-missing"


def test_what_the_candidate_prints_is_not_in_the_report(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "mine_for_refcl:prints", "--loss", "nt_xent", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["ok"]
    assert "said by Python" in err
    assert "said below it" in err


def test_what_hangs_is_cut_off_with_all_that_it_started(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["check", "mine_for_refcl:hangs", "--loss", "nt_xent", "--temperature", "0.2", "--timeout", "50"]
    told, real = here / "child", time.monotonic

    def until_it_hangs() -> float:
        """Be a clock that stands still until there is something to cut off, however busy the machine is."""
        return real() + 1000 * (told.exists() and told.stat().st_size > 0)

    monkeypatch.setattr(child, "time", SimpleNamespace(monotonic=until_it_hangs))
    assert main(words) == 2
    assert "took longer than 50 s and was cut off" in capfd.readouterr().err
    deadline = real() + 60
    while runs(int(told.read_text(encoding="utf-8"))) and real() < deadline:
        time.sleep(0.05)
    assert not runs(int(told.read_text(encoding="utf-8")))


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_timeout_must_be_positive(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "mine_for_refcl:right", "--loss", "nt_xent", "--timeout", "0"]) == 2
    assert "--timeout must be > 0" in capfd.readouterr().err


def test_torch_from_a_shell(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="--framework torch needs it")
    text = "import torch\n\ndef ce(s, temperature):\n" + (
        "    return torch.nn.functional.cross_entropy(s / temperature, torch.arange(len(s)))\n"
    )
    (here / "tensors_for_refcl.py").write_text(text, encoding="utf-8")
    words = ["check", "tensors_for_refcl:ce", "--loss", "softmax_contrastive", "--framework", "torch"]
    assert main(words) == 0
    assert "gradient of the temperature" in capfd.readouterr().out


def test_the_help_says_that_it_runs_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["check", "--help"])
    assert "RUNS ITS CODE" in capsys.readouterr().out


def test_every_option_arrives() -> None:
    words = "check m:f --loss hard_info_nce --hardest 3 --shape 4,6 --no-normalize --detached key --detached query"
    asked = build_parser().parse_args(words.split())
    assert (asked.hardest, asked.shape, asked.normalize, asked.detached) == (3, (4, 6), False, ["key", "query"])
    assert asked.function is command.check_command
    with pytest.raises(SystemExit):
        build_parser().parse_args([*words.split(), "--shape", "4"])


def test_vectors_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vectors", "--out", str(tmp_path / "v")]) == 0
    assert "contrastive.schema.json" in capsys.readouterr().out
    vectors = json.loads((tmp_path / "v" / "contrastive.json").read_text(encoding="utf-8"))
    test = vectors["testGroups"][0]["tests"]
    vectors["answers"] = [{"tcId": t["tcId"], "value": t["value"], "gradients": t["gradients"]} for t in test]
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(vectors), encoding="utf-8")
    assert main(["verify", "--partial", str(answers)]) == 0
    assert "12 of 12 tests answered" in capsys.readouterr().out
    assert main(["verify", str(answers)]) == 2
    assert "tests are not answered; --partial judges the rest alone." in capsys.readouterr().err
    for answer in vectors["answers"]:
        answer["value"] *= 2
    answers.write_text(json.dumps(vectors), encoding="utf-8")
    assert main(["verify", "--json", str(answers)]) == 1
    assert json.loads(capsys.readouterr().out)[0]["verdict"] == "scaled-by-constant"
    vectors["answers"][0]["value"] = "none"
    answers.write_text(json.dumps(vectors), encoding="utf-8")
    assert main(["verify", str(answers)]) == 2


def test_what_cannot_be_read_or_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main(["vectors", "--out", str(tmp_path / "file")]) == 2
    assert main(["verify", str(tmp_path / "absent")]) == 2
    assert main(["verify", str(tmp_path / "file")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("refcl vectors: ")
    assert lines[1].endswith("No such file or directory.")
    assert "not JSON" in lines[2]


def test_loading_leaves_the_path_alone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load_candidate("mine_for_refcl:Losses.right").__name__ == "right"


def test_the_plugin(tmp_path: Path) -> None:
    """The fixture, in a run of pytest of its own."""
    (tmp_path / "test_mine.py").write_text(
        "import refcl\n\n"
        "def test_right(contrastive_oracle):\n"
        '    contrastive_oracle(refcl.nt_xent, "nt_xent")\n\n'
        "def test_wrong(contrastive_oracle):\n"
        '    contrastive_oracle(lambda a, b: refcl.nt_xent(a, b, 1.0), "nt_xent", temperature=0.2)\n',
        encoding="utf-8",
    )
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "refcl.oracle.plugin", "."]
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        words, cwd=tmp_path, env={"PYTHONPATH": root, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "AssertionError: temperature-missing" in done.stdout
