"""What a type checker knows of the public calls: arguments, settings and the names of gradients."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

LINES = Path(__file__).with_name("typed_lines.py")


@pytest.mark.slow
def test_mypy_refuses_the_wrong_lines_and_no_right_one(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", str(LINES)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.findall(rf"{LINES.name}:(\d+): error: .*  \[([\w-]+)\]$", ran.stdout, flags=re.MULTILINE)
    refused = {int(line): code for line, code in found}
    marked = {
        number: match.group(1)
        for number, line in enumerate(LINES.read_text(encoding="utf-8").splitlines(), start=1)
        if (match := re.search(r"# wrong: ([\w-]+)$", line))
    }
    assert marked
    assert refused == marked, ran.stdout + ran.stderr
