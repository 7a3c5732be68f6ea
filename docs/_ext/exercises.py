"""The exercises as pages, made from the package's data, with what is hidden until it is asked for.

In:  ``refcl.oracle.exercises``.
Out: ``docs/exercises``: a page for each, hints and solution folded away, and the list.
"""

from pathlib import Path
from typing import Any

from reference import put

from refcl.oracle.exercises import Exercise, exercises


def folded(title: str, text: str) -> str:
    """Return a part that opens when it is asked for."""
    return (
        f"```{{raw}} html\n<details><summary>{title}</summary>\n```\n\n{text}\n\n```{{raw}} html\n</details>\n```\n\n"
    )


def code(text: str) -> str:
    return f"```{{code-block}} python\n{text.rstrip()}\n```"


def page(one: Exercise) -> str:
    hints = "".join(folded(f"Hint {k}", words) for k, words in enumerate(one.hints, 1))
    wrong = "".join(f"{code(wrong.code)}\n\n{wrong.says}\n\n" for wrong in one.wrong)
    shell = f"python -m refcl exercise {one.number} > mine.py\npython -m refcl exercise {one.number} --check mine.py"
    return (
        f"# {one.number}. {one.title}\n\n{one.question}\n\nRead first: [](../{one.read}.md).\n\n"
        f"{code(one.gap)}\n\nFill the gap, and have it judged:\n\n```{{code-block}} sh\n{shell}\n```\n\n"
        f"{hints}{folded('Solution', code(one.solution) + chr(10) * 2 + one.reasoning)}"
        f"{folded('Typical wrong answers, and what is said to them', wrong)}"
    )


def write(app: Any) -> None:
    folder = Path(app.srcdir, "exercises")
    folder.mkdir(exist_ok=True)
    names = [f"{one.number:02d}-{one.key}" for one in exercises()]
    for name, one in zip(names, exercises(), strict=True):
        put(folder / f"{name}.myst", page(one))
    rows = "\n".join(f"{one.number}. [{one.title}]({name}.myst)" for name, one in zip(names, exercises(), strict=True))
    tree = "\n".join(names)
    put(
        folder / "index.myst",
        f"# Exercises\n\nIn the order of the walk. Each is a file with a gap, judged by the oracle on your machine.\n\n"
        f"{rows}\n\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n",
    )


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
