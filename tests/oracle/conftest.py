"""The cases are other people's code: tried by `test_outside`, not collected. Of long tables a third is quick."""

import zlib

import pytest

collect_ignore = ["cases"]
TABLES = (
    "test_backward.py",
    "test_chosen.py",
    "test_memories.py",
    "test_values.py",
    "test_weights_and_estimates.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark two of three rows of the long tables of mistakes as slow: each is a check of its own."""
    for item in items:
        if item.path.name in TABLES and zlib.crc32(item.nodeid.encode()) % 3:
            item.add_marker(pytest.mark.slow)
