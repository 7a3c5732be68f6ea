"""Whatever cuts a verb short: one line, no traceback, and the status that the documentation promises."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import refcl

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and /dev/full are those of POSIX")

ROOT = Path(refcl.__file__).parents[1]
MINE = """import os, subprocess, sys, threading, time
import refcl

def right(a, b, temperature):
    return refcl.nt_xent(a, b, temperature)

def waits(a, b, temperature):
    open("begun", "w").close()
    time.sleep(60)
"""
ANSWER = "open('begun', 'w').close()\nwhile True:\n    pass\n"
STUDY = "study --epochs 1 --losses info_nce --temperatures .3 --seeds 0 --jobs 1 --quiet --out made"
VERBS = {
    "help": "--help",
    "info": "info",
    "exercise": "exercise 1",
    "vectors": "vectors --out made",
    "verify": "verify --partial answers.json",
    "check": "check mine.py:right --loss nt_xent",
    "study": STUDY,
}
# One that argparse ends, one that prints and one that judges: the door is the same for all.
QUICK = ("help", "info", "verify")
EACH = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in VERBS]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "answer.py").write_text(ANSWER, encoding="utf-8")
    (tmp_path / "answers.json").write_text('{"answers": [{"tcId": 1, "value": 0.0}]}', encoding="utf-8")
    return tmp_path


def started(here: Path, words: str, **how: Any) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])} | how.pop(
        "set", {}
    )
    for name in how.pop("unset", ()):
        environment.pop(name, None)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
    return subprocess.Popen(
        [sys.executable, "-m", "refcl", *words.split()], cwd=here, env=environment, text=True, encoding="utf-8", **pipes
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    with process:
        out, err = process.communicate(timeout=300)
    return process.returncode, out or "", err or ""


STATUS = {"verify": 1}  # its answer is wrong on purpose


@pytest.mark.parametrize("verb", EACH)
def test_a_reader_that_leaves(verb: str, here: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        status, _, err = ended(started(here, VERBS[verb], stdout=write))
    finally:
        os.close(write)
    assert (status, err) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("verb", EACH)
def test_a_full_disk_behind_standard_output(verb: str, here: Path) -> None:
    with open("/dev/full", "w") as full:
        status, _, err = ended(started(here, VERBS[verb], stdout=full))
    assert (status, err) == (2, "refcl: standard output: No space left on device.\n")


@pytest.mark.parametrize("verb", EACH)
def test_nothing_is_open(verb: str, here: Path) -> None:
    script = f"import os, sys; [os.close(i) for i in (0, 1, 2)]; os.execv({sys.executable!r}, sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    words = [sys.executable, "-c", script, sys.executable, "-m", "refcl", *VERBS[verb].split()]
    done = subprocess.run(words, cwd=here, env=environment, timeout=300, check=False)
    assert done.returncode == STATUS.get(verb, 0)
    assert all(path.stat().st_size < 1_000_000 for path in here.rglob("*"))


@pytest.mark.parametrize("verb", EACH)
def test_no_home_no_locale(verb: str, here: Path) -> None:
    bare = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "MPLCONFIGDIR": ""}
    status, out, err = ended(started(here, VERBS[verb], set=bare, unset=("HOME", "LANG", "XDG_CACHE_HOME")))
    assert status == STATUS.get(verb, 0), err
    assert out
    assert "Traceback" not in err


@pytest.mark.parametrize("verb", ["vectors", pytest.param("study", marks=pytest.mark.slow)])
def test_a_folder_that_cannot_be_made(verb: str, here: Path) -> None:
    (here / "made").write_text("a file", encoding="utf-8")
    status, out, err = ended(started(here, VERBS[verb]))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"refcl {verb}: ")
    (here / "made").unlink()
    # root may write where modes forbid it; nobody may make a folder there
    status, out, err = ended(started(here, VERBS[verb].replace("--out made", "--out /proc/made")))
    assert (status, out, err.count("\n")) == (2, "", 1)


INTERRUPTED_IN_A_STRING = """
import argparse, sys
from refcl import __main__ as line

def verb(asked):
    try:
        exec("raise KeyboardInterrupt")
    except KeyboardInterrupt:
        return 130

class Parser:
    def parse_args(self, words):
        return argparse.Namespace(function=verb)

line.build_parser = Parser
sys.exit(line.main([]))
"""


def test_an_interrupt_of_code_in_a_string_has_its_status(tmp_path: Path) -> None:
    (tmp_path / "verb.py").write_text(INTERRUPTED_IN_A_STRING, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(refcl.__file__).parents[1])}
    command = [sys.executable, "-m", "verb"]
    done = subprocess.run(command, check=False, timeout=120, cwd=tmp_path, env=environment)
    assert done.returncode == 130


@pytest.mark.parametrize(("number", "status", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
@pytest.mark.parametrize(
    "words",
    [
        "check mine.py:waits --loss nt_xent",
        "exercise 1 --check answer.py",
        pytest.param(STUDY.replace("--epochs 1", "--epochs 100000"), marks=pytest.mark.slow),
    ],
    ids=["check", "exercise", "study"],
)
def test_signals(words: str, number: str, status: int, word: str, here: Path) -> None:
    process = started(here, words)
    begun = here / ("made/settings.json" if "study" in words else "begun")
    end = time.monotonic() + 300
    while not begun.exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.02)
    assert begun.exists()
    process.send_signal(signal.Signals[number])
    came, out, err = ended(process)
    said = "refcl study: interrupted; go on with --resume.\n" if "study" in words else f"refcl: {word}.\n"
    assert (came, out, err) == (status, "", said)


def test_what_is_refcls_own_fault_is_no_verdict(here: Path) -> None:
    (here / "sitecustomize.py").write_text(
        "import refcl.experiment.info as info\ndef describe():\n    return {}[1]\ninfo.describe = describe\n",
        encoding="utf-8",
    )
    how = {"set": {"PYTHONPATH": os.pathsep.join([str(here), str(ROOT), *filter(None, sys.path)])}}
    status, out, err = ended(started(here, "info", **how))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("refcl: KeyError: 1 (")
    assert "please report" in err
