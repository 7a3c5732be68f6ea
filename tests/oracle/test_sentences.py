"""What the instrument says stands in one table: each sentence is said somewhere, and what is said is there."""

import re
from pathlib import Path

import pytest

import refcl.oracle
from refcl.oracle.mistakes import CATALOGUE
from refcl.oracle.names.sentences import say, sentences

SAID = re.compile(r"\bsay\(\s*\"([^\"]+)\"")


def test_every_sentence_is_said_and_every_name_is_a_mistakes() -> None:
    code = [path.read_text(encoding="utf-8") for path in Path(refcl.oracle.__file__).parent.rglob("*.py")]
    assert {name for text in code for name in SAID.findall(text)} == set(sentences())
    assert {found.name for found in sentences().values()} - {""} <= set(CATALOGUE)


def test_a_sentence_holds_its_numbers_and_its_parts() -> None:
    said = say("masked with 0", "a 0", part=" of a's rows")
    assert said.lines() == [
        "a masked entry counts as exp(0) = 1 in the sums of a's rows: masked with 0 instead of -∞ [a 0].",
        "  measured 1; expected 0",
        "  change it to: mask with -∞",
    ]
    assert (said.name, say("masked with 0", name="", part="").name) == ("self-masked-with-zero", "")
    with pytest.raises(KeyError):
        say("masked with 0")
