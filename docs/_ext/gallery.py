"""The examples as a gallery: what each is run with, and in which order they stand.

In:  ``examples/*.py``.
Out: a page, a picture and a notebook for each, in ``docs/gallery``.
"""

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ORDER = (
    "gradient_step.py",
    "temperature_knob.py",
    "check_my_gradient.py",
    "train_and_probe.py",
    "family.py",
    "pretext_questions.py",
    "cpu_and_gpu.py",
    "train_in_pytorch.py",
)


def words(settings: Any, script: dict[str, Any]) -> list[str]:
    """Return the words of the command line with which an example is run here: small, and into no folder of ours."""
    name = Path(script["src_file"]).name
    if name == "family.py":
        out = str(Path(tempfile.mkdtemp(), "family"))
        return ["--epochs", "2", "--seeds", "0", "--losses", "info_nce", "nt_xent", "dcl", "sup_con", "--out", out]
    if name == "train_and_probe.py":
        return ["--epochs", "15"]
    if name == "ranks.py":
        return ["--ranks", "2"]  # threads: MPI is not needed to build the site
    return []


words.__repr__ = lambda: "gallery.words"  # type: ignore[method-assign]


def order(name: str) -> int:
    """Return the place of an example; new ones stand last."""
    return ORDER.index(name) if name in ORDER else len(ORDER)


def settings(here: Path) -> dict[str, Any]:
    """Return what sphinx-gallery is to do."""
    return {
        "examples_dirs": [str(here.parent / "examples")],
        "gallery_dirs": ["gallery"],
        # What needs PyTorch is shown without its output where there is none.
        "filename_pattern": r"\.py$" if find_spec("torch") else r"(?<!_in_pytorch)\.py$",
        "within_subsection_order": "gallery.by_place",
        "reset_argv": words,
        # In a notebook the words of the command line are the kernel's.
        "first_notebook_cell": '%matplotlib inline\nimport sys\n\nsys.argv = ["example"]',
        "download_all_examples": False,
        "min_reported_time": 1e9,
        "show_memory": False,
        "remove_config_comments": True,
        "write_computation_times": False,
    }


class by_place:
    """The key by which sphinx-gallery sorts."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, name: str) -> tuple[int, str]:
        return order(name), name

    def __repr__(self) -> str:
        return "<by_place>"
