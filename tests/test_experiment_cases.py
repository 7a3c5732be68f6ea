"""Data as they came in public reports: what is recognised, what is refused, and that it says how to mend it.

Each file of ``tests/experiment/cases`` states where it came from (LINK), what is right (RIGHT) and a pattern (EXPECTED)
that what the study prints matches. They run as they are, from a shell.
"""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "experiment" / "cases"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(CASES.glob("cd*.py")), ids=lambda path: path.stem)
def test_a_public_case_is_answered(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CASES))
    root = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", root + (":" + ":".join(sys.path) if sys.path else ""))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    case = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(case)
    verdict, text, _ = case.run()
    assert re.search(case.EXPECTED, f"{verdict}\n{text}", re.IGNORECASE | re.DOTALL), text
    assert "Traceback" not in text
