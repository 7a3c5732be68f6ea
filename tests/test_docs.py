"""The pages say what the code does: every block runs, every link leads somewhere, every public name is explained.

A ``python`` block is run, page by page in one namespace; what it prints must be the ``text`` block that follows it, and
a block that nothing follows must print nothing.
"""

import contextlib
import importlib
import inspect
import io
import re
import types
from pathlib import Path
from typing import NamedTuple

import pytest
from mpmath import mp

import refcl
from refcl import hardness, metrics
from refcl.core.pair import Pair

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md")) + sorted(ROOT.glob("README.md"))
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAME = re.compile(r"`(refcl(?:\.\w+)+)`")


class Block(NamedTuple):
    language: str
    text: str
    line: int  # of its first line in the page, from 1
    follows: bool  # whether only blank space lies between it and the block before


def blocks_of(page: str) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    blocks, end = [], -1
    for fence in FENCE.finditer(page):
        line = page.count("\n", 0, fence.start(2)) + 1
        follows = end >= 0 and not page[end : fence.start()].strip()
        blocks.append(Block(fence.group(1), fence.group(2), line, follows))
        end = fence.end()
    return blocks


def run_blocks(page: str, name: str) -> list[str]:
    """Run the python blocks of a page in one namespace, and return what went otherwise than the page says."""
    surprises = []
    blocks = blocks_of(page)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for place, block in enumerate(blocks):
        if block.language != "python":
            continue
        printed = io.StringIO()
        # Blank lines in front let a traceback name the line of the page.
        code = compile("\n" * (block.line - 1) + block.text, name, "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        shown = [other.text for other in blocks[place + 1 : place + 2] if other.language == "text" and other.follows]
        expected = shown[0] if shown else ""
        if printed.getvalue().rstrip() != expected.rstrip():
            surprises.append(f"{name}, line {block.line}:\nexpected\n{expected}\ngot\n{printed.getvalue()}")
    return surprises


def anchors_of(page: str) -> set[str]:
    """Return the anchors that a code host gives to a page's headings."""
    prose = FENCE.sub("", page)
    headings = re.findall(r"^#+ +(.+?) *$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path, text: str) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    broken = []
    for target in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        there = linked.exists()
        if there and anchor and linked.suffix == ".md":
            there = anchor in anchors_of(linked.read_text(encoding="utf-8"))
        if not there:
            broken.append(target)
    return broken


def unresolved(text: str) -> list[str]:
    """Return the dotted names in backticks that are nothing in the package."""
    missing = []
    for dotted in NAME.findall(text):
        if (ROOT / dotted).exists():
            continue
        parts = dotted.split(".")[1:]
        found: object = refcl
        for depth, part in enumerate(parts):
            if isinstance(found, types.ModuleType) and not hasattr(found, part):
                module = ".".join(["refcl", *parts[: depth + 1]])
                try:
                    importlib.import_module(module)
                except ModuleNotFoundError as error:
                    if error.name != module:  # it is there, and needs a library that is not
                        break
            found = getattr(found, part, None)
        if found is None:
            missing.append(dotted)
    return missing


def public_names() -> list[str]:
    """Return the names of the contents page, and of what the two modules about the walk define."""
    names = list(refcl.__all__)
    for module in (hardness, metrics):
        for name, value in vars(module).items():
            here = getattr(value, "__module__", None) == module.__name__
            if here and not name.startswith("_") and isinstance(value, types.FunctionType | Pair):
                names.append(name.removesuffix("_forward").removesuffix("_backward"))
    return sorted(set(names))


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_pages() -> None:
    names = {identify(path) for path in PAGES}
    assert {"docs/index.md", "docs/conventions.md", "docs/walk.md", "docs/changelog.md"} <= names


@pytest.mark.parametrize("path", PAGES, ids=identify)
def test_blocks_print_what_the_page_shows(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mp, "dps", mp.dps)  # a page may ask for more digits
    surprises = run_blocks(path.read_text(encoding="utf-8"), identify(path))
    assert not surprises, "\n".join(surprises)


@pytest.mark.parametrize("path", PAGES, ids=identify)
def test_links_lead_somewhere(path: Path) -> None:
    assert broken_links(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "changelog.md"], ids=identify)
def test_dotted_names_resolve(path: Path) -> None:
    assert unresolved(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "room", ["encoder", "sphere", "similarity", "pairing", "pooling", "penalty", "reduce", "losses"]
)
def test_every_room_has_a_derivation_that_checks_itself(room: str) -> None:
    page = (ROOT / "docs" / "derivations" / f"{room}.md").read_text(encoding="utf-8")
    code = "".join(block.text for block in blocks_of(page) if block.language == "python")
    assert "mp.diff" in code, "no gradient is compared with 50 digits"
    assert "slope(" in code, "no gradient is compared with differences"
    assert not re.search(r"(digits|differences) False", page), "a check that the page shows as failed"


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_is_explained(name: str) -> None:
    docs = "\n".join(path.read_text(encoding="utf-8") for path in PAGES if path.name != "README.md")
    assert re.search(rf"`[^`\n]*\b{re.escape(name)}\b[^`\n]*`", docs), f"no page mentions {name}"


def test_every_room_function_is_public_and_named_as_the_pages_say() -> None:
    rooms = [
        refcl.walk.encoder,
        refcl.walk.sphere,
        refcl.walk.similarity,
        refcl.walk.pairing,
        refcl.walk.pooling,
        refcl.walk.penalty,
        refcl.walk.reduce,
    ]
    for room in rooms:
        for name, value in inspect.getmembers(room, lambda member: isinstance(member, Pair)):
            module = importlib.import_module(value.__module__)
            assert getattr(module, name) is value is getattr(room, name)
            assert {f"{name}_forward", f"{name}_backward"} <= set(vars(module))


class TestOfTheTests:
    """The checks above can fail."""

    def test_a_wrong_output_is_seen(self) -> None:
        page = "```python\nx = 1\nprint(x)\n```\n\n```text\n2\n```\n"
        assert len(run_blocks(page, "page")) == 1

    def test_an_output_that_is_not_shown_is_seen(self) -> None:
        assert len(run_blocks("```python\nprint(1)\n```\nprose\n```text\n1\n```\n", "page")) == 1

    def test_blocks_share_a_namespace(self) -> None:
        page = "```python\nx = 1\n```\n\n```python\nprint(x)\n```\n\n```text\n1\n```\n"
        assert run_blocks(page, "page") == []

    def test_a_traceback_names_the_line(self) -> None:
        with pytest.raises(ZeroDivisionError) as caught:
            run_blocks("one\n\n```python\nx = 1\n1 / 0\n```\n", "page")
        assert caught.traceback[-1].lineno == 4

    def test_a_broken_link_is_seen(self, tmp_path: Path) -> None:
        path = tmp_path / "page.md"
        text = "# A heading\n[a](page.md) [b](missing.md) [c](#a-heading) [d](page.md#missing) [e](https://x.org)\n"
        path.write_text(text, encoding="utf-8")
        assert broken_links(path, text) == ["missing.md", "page.md#missing"]

    def test_a_wrong_name_is_seen(self) -> None:
        assert unresolved("`refcl.walk.pooling.maximum` `refcl.walk.pooling.minimum`") == ["refcl.walk.pooling.minimum"]
