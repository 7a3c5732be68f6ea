"""Code of the package on a page, as it stands in its file, and exercises by their number.

In:  ``{source}`` with the dotted names of functions, one a line; sentences that begin "Exercises 2 and 3 of".
Out: the functions without their docstrings, which say what the page says; links to the exercises' pages.
"""

import ast
import importlib
import inspect
import re
import textwrap
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from refcl.oracle.exercises import exercises


def without_docstring(dotted: str) -> str:
    """Return the source of a function, its signature and statements."""
    module, _, name = dotted.rpartition(".")
    source = textwrap.dedent(inspect.getsource(getattr(importlib.import_module(module), name)))
    (defined,) = ast.parse(source).body
    assert isinstance(defined, ast.FunctionDef)
    lines = source.rstrip().splitlines()
    if ast.get_docstring(defined) is None:
        return "\n".join(lines)
    said = defined.body[0]
    return "\n".join([*lines[: said.lineno - 1], *lines[said.end_lineno :]])


class Source(SphinxDirective):
    has_content = True

    def run(self) -> list[nodes.Node]:
        text = "\n\n\n".join(map(without_docstring, self.content))
        return [nodes.literal_block(text, text, language="python", classes=["source"])]


def link(app: Any, tree: nodes.document, page: str) -> None:
    """Make the numbers of a derivation's exercises links to their pages."""
    if not page.startswith("derivations/") or app.builder.format != "html":
        return
    pages = {str(one.number): f"exercises/{one.number:02d}-{one.key}" for one in exercises()}
    for text in list(tree.findall(nodes.Text)):
        if not re.match(r"Exercises? \d", text):
            continue
        parts: list[nodes.Node] = []
        for word in re.split(r"(\d+)", str(text)):
            target = pages.get(word)
            parts.append(
                nodes.reference("", word, refuri=app.builder.get_relative_uri(page, target), internal=True)
                if target
                else nodes.Text(word)
            )
        text.parent.replace(text, parts)


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("source", Source)
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
