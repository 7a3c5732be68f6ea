"""What the fuzzer found: a file that ends in something else than a refusal in one line."""

from pathlib import Path

import numpy as np
import pytest

from refcl.experiment.data import load
from refcl.experiment.errors import StudyError
from refcl.experiment.results import load_trained


@pytest.fixture
def shortened(tmp_path: Path) -> Path:
    """An archive that lost a few of its first bytes: its list of contents points to before the file."""
    path = tmp_path / "short.npz"
    np.savez(path, X=np.zeros((20, 3)), y=np.repeat([0, 1], 10))
    whole = path.read_bytes()
    path.write_bytes(whole[:10] + whole[60:])
    with pytest.raises(OSError, match="Invalid argument"), np.load(path) as file:
        file["X"]
    return path


def test_a_broken_archive_is_no_trained_encoder(shortened: Path) -> None:
    assert load_trained(shortened) is None


def test_a_broken_archive_is_no_data(shortened: Path) -> None:
    with pytest.raises(StudyError, match=r"not an \.npz file of arrays"):
        load(shortened)
