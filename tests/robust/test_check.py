"""A check ends, with the verdict that was reached, whatever the candidate raises, starts or leaves behind."""

import time
from pathlib import Path
from typing import Any

import pytest

import refcl
from refcl.__main__ import main
from refcl.oracle import check

MINE = """import subprocess, sys, threading, time
import refcl

def lingers(a, b, temperature):
    threading.Thread(target=time.sleep, args=(600,)).start()
    return refcl.nt_xent(a, b, temperature)

def starts(a, b, temperature):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open("children", "a") as file:
        print(child.pid, file=file)
    return refcl.nt_xent(a, b, temperature)

def interrupts(a, b, temperature):
    raise KeyboardInterrupt
"""


class Own(BaseException):
    """No Exception."""


def small(loss: str, function: Any, **settings: Any) -> Any:
    return check(function, loss, shape=(3, 4), **settings)


@pytest.mark.parametrize("kind", [Own, SystemExit, GeneratorExit, RecursionError])
def test_whatever_is_raised_is_a_report(kind: type[BaseException]) -> None:
    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        raise kind("on purpose")

    report = small("nt_xent", candidate)
    assert not report.judged
    assert f"the candidate raised {kind.__name__}: on purpose" in report.reason


def test_a_class_that_raises_is_a_report() -> None:
    class Mine:
        def __init__(self) -> None:
            raise Own("made")

    assert "the candidate's class raised Own: made." in small("nt_xent", Mine).reason


def test_ctrl_c_is_the_caller_s() -> None:
    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small("nt_xent", candidate)


def by_name(*names: str) -> Any:
    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        loss, grads = refcl.info_nce(query, key, temperature)
        return loss, {name: getattr(grads, f"d{name.removeprefix('d')}", grads.dtemperature) for name in names}

    return candidate


@pytest.mark.parametrize("names", [("dkey", "dquery", "dtemperature"), ("tau", "key", "query"), ("key", "query")])
def test_gradients_in_a_dictionary_are_read_by_name(names: tuple[str, ...]) -> None:
    report = small("info_nce", by_name(*names))
    assert report.ok, str(report)
    assert report.gradient_judged
    assert report.scalar_judged == (len(names) == 3)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("query", "keys"), "it returned a gradient of 'keys'; expected dquery, dkey, dtemperature."),
        (("dquery",), "its gradients lack that of key; it returned dquery."),
        ((), "its gradients lack that of query; it returned none."),
        (("query", "dquery", "key"), "it returned two gradients of query;"),
    ],
)
def test_names_that_are_not_known_are_said(names: tuple[str, ...], sentence: str) -> None:
    report = small("info_nce", by_name(*names))
    assert not report.judged
    assert sentence in report.reason


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine_that_stays.py").write_text(MINE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(Path(refcl.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


WORDS = ["--loss", "nt_xent", "--shape", "3,4", "--timeout", "100"]


def test_a_verdict_waits_for_no_thread(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "mine_that_stays:lingers", *WORDS]) == 0
    assert "CORRECT" in capfd.readouterr().out


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")
def test_what_the_candidate_started_ends_with_the_check(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "mine_that_stays:starts", *WORDS]) == 0
    children = [int(line) for line in (here / "children").read_text(encoding="utf-8").split()]
    assert children
    end = time.monotonic() + 60
    while any(map(runs, children)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(runs, children))


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_candidate_s_own_ctrl_c_is_a_reason(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "mine_that_stays:interrupts", *WORDS]) == 2
    assert "the candidate raised KeyboardInterrupt while it was called." in capfd.readouterr().err
