"""From a measured difference to words: what `sentences.txt` says of it.

In:  the name of a sentence, where it holds, and the numbers in it.
Out: a `Difference`.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

from refcl.oracle.names.difference import Difference

FORMULAS = re.compile(r"(?:measured (?P<measured>.*?))?(?:(?:; |^)expected (?P<expected>.*))?")


def say(sentence: str, where: str = "", *, name: str | None = None, **numbers: Any) -> Difference:
    """Return a difference in the words of a sentence.

    Parameters
    ----------
    sentence : str
        Its name in the table.
    where : str
        Which entries, inputs or batches.
    name : str, optional
        The id of the mistake, where it is not that of the table.
    **numbers
        What stands in braces there.
    """
    found = sentences()[sentence]
    what, measured, expected, change = (x.format(**numbers) for x in (found.what, *found[2:5]))
    return Difference(what, where, measured, expected, change, found.name if name is None else name)


@cache
def sentences() -> dict[str, Difference]:
    """Return the sentences by their names: blocks of a name, what is said, the formulas, and what to change."""
    text = Path(__file__).with_name("sentences.txt").read_text(encoding="utf-8")
    return dict(_read(block) for block in text.split("\n\n")[1:])


def _read(block: str) -> tuple[str, Difference]:
    head, what, *rest = (line.strip() for line in block.strip().splitlines())
    sentence, _, id_ = head.partition(" = ")
    formulas, change = {"measured": "", "expected": ""}, ""
    for line in rest:
        if line.startswith("change it to: "):
            change = line.removeprefix("change it to: ")
        elif found := FORMULAS.fullmatch(line):
            formulas = {k: x or "" for k, x in found.groupdict().items()}
    return sentence, Difference(what, "", change=change, name=id_, **formulas)
