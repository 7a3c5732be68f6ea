"""The GPU check, dry: every section runs on the stand-in for CuPy, and a section that takes too long stops alone."""

import json
from pathlib import Path

import cases
import gpu_check
import pytest
from backends import standing_in


@pytest.mark.parametrize("section", [name for name in gpu_check.SECTIONS if name != "tests"])
def test_a_section_finds_nothing_wrong(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standing_in(monkeypatch)
    gpu_check.work(section, tmp_path / "part", dry=True)
    found = gpu_check.told(tmp_path / "part", "silence")
    assert found["ended"] == "done", found
    assert len(found["rows"]) > 3
    assert found["wrong"] == 0, [row for row in found["rows"] if not row.get("ok", True)]


def test_wrong_numbers_and_waits_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = standing_in(monkeypatch)
    few = [case for case in cases.ONE_OF_EACH if case.function.__name__ in ("fixed_entropy", "info_nce", "triplet")]
    monkeypatch.setattr(cases, "ONE_OF_EACH", few)
    monkeypatch.setattr(gpu_check, "READS_ITS_NUMBERS", ())
    wrong = {row["loss"] for row in gpu_check.waits(cupy, True) if not row["ok"]}
    assert wrong == {"fixed_entropy"}
    exact = cupy.exp
    monkeypatch.setattr(cupy, "exp", lambda x, **settings: exact(x, **settings) * (1 + 1e-3), raising=False)
    rows = list(gpu_check.parity(cupy, True))
    assert {row["loss"] for row in rows if not row["ok"]} == {"fixed_entropy", "info_nce"}
    assert all(row["ok"] for row in rows if row["loss"] == "triplet")


@pytest.mark.slow
def test_each_section_has_a_process_and_a_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gpu.json"
    assert gpu_check.main(["--dry-run", "--out", str(out), "--only", "parity", "--limit", "0.01"]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))["sections"]
    assert found["parity"]["ended"] == "cut off after 0.01 s"
    assert gpu_check.main(["--dry-run", "--out", str(out), "--only", "versions", "tests"]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))["sections"]
    assert [found[name]["ended"] for name in ("versions", "tests")] == ["done", "done"]
    assert " passed" in found["tests"]["rows"][0]["last lines"][-1]
    assert list(tmp_path.iterdir()) == [out]
    assert "versions   done; rows" in capsys.readouterr().out


def test_what_was_found_before_the_limit_is_kept(tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_text('{"ok": true}\n{"ok": false}\n{"o', encoding="utf-8")
    found = gpu_check.told(part, "cut off")
    assert (found["ended"], found["wrong"], len(found["rows"])) == ("cut off", 1, 2)
