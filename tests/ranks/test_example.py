"""The example of training over ranks reaches the curve of one process."""

import importlib.util
import re
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "examples" / "ranks.py"


@pytest.mark.parametrize("exchange", ["gather", "ring"])
def test_the_curve_is_that_of_one(exchange: str, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("example_ranks", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(["--ranks", "3", "--steps", "8", "--batch", "20", "--width", "8", "--exchange", exchange])
    said = capsys.readouterr().out
    together, alone = zip(*re.findall(r"loss (\S+) on 3 ranks, (\S+) on one", said), strict=True)
    assert len(together) == 8
    assert together[0] != together[-1]
    assert [float(x) for x in together] == pytest.approx([float(x) for x in alone], rel=1e-9)
    assert float(re.findall(r"at most (\S+) apart", said)[0]) < 1e-9
