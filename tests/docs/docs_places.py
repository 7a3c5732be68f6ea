"""Where the tests of the pages find node, a browser and the built site; without them, they skip and say why."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "docs" / "_static"
REPORT = ROOT / "refcl" / "experiment" / "report"  # two of the scripts are also the study's


@functools.cache
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    return found


@functools.cache
def browser() -> str:
    found = os.environ.get("REFCL_BROWSER") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    asked = [node(), "-e", "require.resolve('playwright-core')"]
    if subprocess.run(asked, capture_output=True).returncode:
        pytest.skip("playwright-core is not where NODE_PATH says (npm install playwright-core)")
    return found


@functools.cache
def site() -> Path:
    found = Path(os.environ.get("REFCL_SITE", ROOT / "docs" / "_build" / "html"))
    if not (found / "index.html").exists():
        pytest.skip(f"no site at {found}: python -m sphinx -W -b html docs docs/_build/html")
    return found
