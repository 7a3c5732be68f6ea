"""The built site, where there is one."""

from pathlib import Path

import docs_places
import pytest


@pytest.fixture
def site() -> Path:
    return docs_places.site()
