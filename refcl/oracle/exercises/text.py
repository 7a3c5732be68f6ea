"""The exercises as they stand in their files.

In:  Markdown: a title, what to read first, the question, and sections Gap, Hint, Solution and Wrong.
Out: `Exercise`, in order.
"""

import functools
import re
from importlib import resources
from typing import NamedTuple

FENCE = re.compile(r"^```python\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)


class Wrong(NamedTuple):
    """A typical wrong answer, and the sentence that helps."""

    says: str
    code: str


class Exercise(NamedTuple):
    """One exercise."""

    number: int
    key: str  # its name, which stays where numbers move
    title: str
    read: str  # the page that it goes with, under docs/
    question: str
    gap: str  # a file to fill in
    hints: tuple[str, ...]  # each says more than the one before
    solution: str  # the gap, filled
    reasoning: str
    wrong: tuple[Wrong, ...]


@functools.cache
def exercises() -> tuple[Exercise, ...]:
    """Return every exercise, in order.

    Returns
    -------
    exercises : tuple of Exercise
        In the order of their numbers, which begin with 1.

    Examples
    --------
    >>> from refcl.oracle.exercises import exercises
    >>> [e.number for e in exercises()][:3]
    [1, 2, 3]
    """
    files = [file for file in resources.files(__package__).iterdir() if file.name.endswith(".md")]
    return tuple(parse(file.name, file.read_text(encoding="utf-8")) for file in sorted(files, key=lambda f: f.name))


def exercise(number: int | str) -> Exercise:
    """Return one exercise.

    Parameters
    ----------
    number : int or str
        Its number, or its key.

    Returns
    -------
    exercise : Exercise

    Raises
    ------
    ValueError
        Where there is none of that number or key.

    Examples
    --------
    >>> from refcl.oracle.exercises import exercise
    >>> exercise("mean").number
    1
    """
    everything = exercises()
    for one in everything:
        if str(number) in (str(one.number), one.key):
            return one
    raise ValueError(f"exercise: there is no exercise {number}; there are 1 to {len(everything)}.")


def parse(name: str, text: str) -> Exercise:
    """Return the exercise that a file holds."""
    number, _, key = name.removesuffix(".md").partition("-")
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    title, _, rest = head.partition("\n")
    read, _, question = rest.strip().partition("\n")
    found: dict[str, list[tuple[str, str]]] = {"Gap": [], "Hint": [], "Solution": [], "Wrong": []}
    for section in sections:
        kind, _, body = section.partition("\n")
        code = FENCE.search(body)
        found[kind.strip()].append((FENCE.sub("", body).strip(), code.group(1) if code else ""))
    ((_, gap),) = found["Gap"]
    ((reasoning, solution),) = found["Solution"]
    return Exercise(
        number=int(number),
        key=key,
        title=title.removeprefix("# ").strip(),
        read=read.removeprefix("Read: ").strip(),
        question=question.strip(),
        gap=gap,
        hints=tuple(words for words, _ in found["Hint"]),
        solution=solution,
        reasoning=reasoning,
        wrong=tuple(Wrong(*section) for section in found["Wrong"]),
    )
