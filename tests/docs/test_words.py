"""How the pages are written: what holds for each of them, whoever wrote it."""

import importlib
import itertools
import re
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
WRITTEN = [
    path for path in sorted(DOCS.rglob("*.md")) if not {"_build", "api", "gallery", "exercises"} & set(path.parts)
]
FENCE = re.compile(r"^```.*?^```[ \t]*$", re.MULTILINE | re.DOTALL)
DERIVATIONS = [path for path in WRITTEN if path.parent.name == "derivations" and path.name != "index.md"]


def prose(path):
    """Return a page without its code and its displayed formulas."""
    return re.sub(r"\$\$.*?\$\$", "", FENCE.sub("", path.read_text(encoding="utf-8")), flags=re.DOTALL)


def broken_formulas(text):
    """Return inline formulas that a line's end cuts in two."""
    text = re.sub(r"`[^`\n]*`", "", text)
    return [line for line in text.splitlines() if line.count("$") % 2]


def identify(path):
    return str(path.relative_to(DOCS))


@pytest.mark.parametrize("path", WRITTEN, ids=identify)
def test_no_formula_is_cut_by_the_end_of_a_line(path):
    assert broken_formulas(prose(path)) == []


def test_a_formula_that_is_cut_is_seen():
    assert broken_formulas("one $a +\nb$ two $c$") == ["one $a +", "b$ two $c$"]


SKELETON = {  # the parts of a derivation, in their order, and how each begins
    "the question": r"^\*\*The question\.\*\* ",
    "the answer": r"^\*\*The answer\.\*\* ",
    "the picture": r"^!\[[^\]]{20,}\]\(\.\./images/[\w/-]+\.\w+\)$",
    "the derivation": r"^\$\$",
    "the code": r"^## The code\n\n```\{source\}\nrefcl\.",
    "the check": r"^## The check$",
    "what to remember": r"^## What to remember\n\n\S",
    "exercises": r"^Exercises? \d[\d, andto]* of \[the exercises\]\(\.\./teaching\.md\)",
}


def missing_parts(text):
    """Return what a derivation lacks, or has in another place than it should."""
    found = {part: re.search(pattern, text, re.MULTILINE) for part, pattern in SKELETON.items()}
    lacking = [part for part, match in found.items() if match is None]
    there = [(part, match.start()) for part, match in found.items() if match]
    misplaced = [part for (_, before), (part, at) in itertools.pairwise(there) if at < before]
    answer = re.search(r"^\*\*The answer\.\*\* (.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    sentences = len(re.findall(r"[.?!](?=\s|$)", answer.group(1))) if answer else 0
    check = text.partition("## The check")[2].partition("## What to remember")[0]
    wrong = [] if sentences == 2 else [f"two sentences of answer, not {sentences}"]
    return lacking + misplaced + wrong + ([] if "```python" in check else ["a check that runs"])


@pytest.mark.parametrize("path", DERIVATIONS, ids=identify)
def test_a_derivation_has_the_skeleton_of_a_page(path):
    assert missing_parts(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        (lambda text: text.replace("## The check", "## Checks"), "the check"),
        (lambda text: re.sub(r"^!\[.*$", "", text, flags=re.MULTILINE), "the picture"),
        (lambda text: text.replace("**The answer.** ", "**The answer.** One. "), "two sentences of answer, not 3"),
        (lambda text: text.replace("```python", "```text"), "a check that runs"),
        (lambda text: "## The code\n\n```{source}\nrefcl.x\n```\n" + text, "the code"),
    ],
)
def test_a_page_that_lacks_a_part_is_seen(change, lacks):
    text = (DOCS / "derivations" / "sphere.md").read_text(encoding="utf-8")
    assert lacks in missing_parts(change(text))


@pytest.mark.parametrize("path", DERIVATIONS, ids=identify)
def test_a_derivation_shows_code_of_the_package(path):
    names = re.search(r"```\{source\}\n(.*?)\n```", path.read_text(encoding="utf-8"), re.DOTALL).group(1).split()
    for dotted in names:
        module, _, name = dotted.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name)), dotted


# Pages that lead elsewhere, or are looked up: they ask nothing.
LEADING = {"about", "changelog", "check", "cite", "contributing", "glossary", "index", "policy", "reading", "security"}
LEADING |= {"study_pages", "teaching", "understand"}


@pytest.mark.parametrize("path", [path for path in WRITTEN if path.stem not in LEADING], ids=identify)
def test_a_page_opens_with_its_question_and_the_answer(path):
    text = path.read_text(encoding="utf-8")
    asked, answered = (text.find(f"**The {part}.** ") for part in ("question", "answer"))
    assert 0 < asked < answered < 1000


NOTHING_TO_SEE = {"arrays", "reliability"}  # rules, in tables
WITHOUT_EXERCISES = {"arrays", "benchmarks", "pretext", "reliability"}
OTHERS = [path for path in WRITTEN if path.stem not in LEADING and path not in DERIVATIONS]
SHARED = {  # the parts of any other page
    "the question": SKELETON["the question"],
    "the answer": SKELETON["the answer"],
    "the picture": r"^!\[[^\]]{20,}\]\((\.\./)?images/[\w/-]+\.\w+\)$|^```\{touch\} |^```text\nx ─encoder",
    "what to remember": SKELETON["what to remember"],
    "exercises": r"^Exercises? \d[\d, andto]* of \[the exercises\]\((\.\./)?teaching\.md\)",
}


def missing_from_page(path):
    """Return the parts that a page lacks; its code stands where it is talked about."""
    text = path.read_text(encoding="utf-8")
    spared = {"the picture"} if path.stem in NOTHING_TO_SEE else set()
    spared |= {"exercises"} if path.stem in WITHOUT_EXERCISES and path.parent == DOCS else set()
    found = {part: re.search(pattern, text, re.MULTILINE) for part, pattern in SHARED.items() if part not in spared}
    lacking = [part for part, match in found.items() if match is None]
    early = ["the question", "the answer", "the picture"]  # in this order
    places = [found[part].start() for part in early if found.get(part)]
    misplaced = [] if places == sorted(places) else ["the order of parts"]
    answer = re.search(r"^\*\*The answer\.\*\* (.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    sentences = len(re.findall(r"[.?!](?=\s|$)", answer.group(1))) if answer else 0
    return lacking + misplaced + ([] if sentences == 2 else [f"two sentences of answer, not {sentences}"])


@pytest.mark.parametrize("path", OTHERS, ids=identify)
def test_any_page_has_the_skeleton(path):
    assert missing_from_page(path) == []


def differences_called_d(text):
    """Return formulas in which d is a difference; before a name it is a derivative, and a letter has one meaning."""
    formulas = re.findall(r"\$[^$]+\$", re.sub(r"`[^`\n]*`", "", FENCE.sub("", text)))
    return [formula for formula in formulas if re.search(r"(?<![A-Za-z\\])d_[{a-z\\]", formula)]


@pytest.mark.parametrize("path", WRITTEN, ids=identify)
def test_d_is_a_derivative(path):
    assert differences_called_d(path.read_text(encoding="utf-8")) == []


def test_a_difference_called_d_is_seen():
    assert differences_called_d("with $d_k = s_k - s_p$ and $ds_k$") == ["$d_k = s_k - s_p$"]


def test_pictures_are_what_the_program_draws(tmp_path):
    sys.path.append(str(DOCS / "_ext"))
    pictures = importlib.import_module("pictures")
    kept = DOCS / "images"
    drawn = {Path(of, name.removesuffix("_picture")) for name, (_, _, of) in pictures.PICTURES.items()}
    assert drawn == {path.relative_to(kept).with_suffix("") for path in kept.rglob("*.svg")}
    assert {path.stem for path in DERIVATIONS} == {one.name for one in drawn if one.parts[0] != "pages"} | {"hardness"}
    for name in ("metrics_picture", "positives", "losses", "oracle"):  # numbers of refcl, written into them
        path = pictures.draw(name, tmp_path)
        there = kept / path.relative_to(tmp_path)
        words = [re.findall(r"<text[^>]*>([^<]+)", at.read_text(encoding="utf-8")) for at in (path, there)]
        assert len(words[0]) > 5
        assert words[0] == words[1]


@pytest.mark.parametrize("path", WRITTEN, ids=identify)
def test_every_picture_has_words_for_those_who_do_not_see_it(path):
    assert not re.findall(r"!\[\s*\]\(", path.read_text(encoding="utf-8"))


def test_a_term_of_the_glossary_stands_there_once():
    titles = re.findall(r"^### (.+)$", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(titles) > 30
    assert len(set(titles)) == len(titles)
