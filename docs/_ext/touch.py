"""Figures to touch: a directive that puts one on a page, with the numbers and words that refcl makes for it.

In:  ``{touch} name`` and, as its content, what a reader without scripts is told.
Out: an element that ``_static/name.js`` fills. Scripts stand on the pages that need them only, as classic deferred
ones, which also run where the site is opened from the disk.
"""

import json
from typing import Any

import figure_data
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

FIGURES = {
    "knob": None,
    "dilemma": None,
    "walk": figure_data.walk,
    "mistake": figure_data.mistakes,
    "study": figure_data.study,
}


class touch(nodes.General, nodes.Element):
    """Where a figure goes."""


class Touch(SphinxDirective):
    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in FIGURES:
            raise self.error(f"there is no figure {name!r}; there are {', '.join(FIGURES)}.")
        made = FIGURES[name]
        node = touch(figure=name, data=json.dumps(made(), ensure_ascii=False) if made else "")
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


def visit(self: Any, node: touch) -> None:
    # "</" would end the script that holds the data.
    held = node["data"].replace("</", "<\\/")
    data = f'<script type="application/json">{held}</script>' if held else ""
    self.body.append(f'<div class="touch" data-figure="{node["figure"]}">{data}<noscript>')


def depart(self: Any, node: touch) -> None:
    self.body.append("</noscript></div>\n")


def scripts(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    names = dict.fromkeys(node["figure"] for node in tree.findall(touch)) if tree else {}
    for name in ("refcl", "touch", *names) if names else ():
        app.add_js_file(f"{name}.js", loading_method="defer")


def setup(app: Any) -> dict[str, Any]:
    skip = (lambda self, node: (_ for _ in ()).throw(nodes.SkipNode), None)
    app.add_node(touch, html=(visit, depart), text=skip, latex=skip)
    app.add_directive("touch", Touch)
    app.connect("html-page-context", scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
