"""What every page says about itself: a description for search engines, from its first paragraph.

In:  a page's tree.
Out: a meta element, unless the page has one of its own.
"""

import html
from textwrap import shorten
from typing import Any

from docutils import nodes


def describe(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    if tree is None or 'name="description"' in context.get("metatags", ""):
        return
    paragraphs = [node for node in tree.findall(nodes.paragraph) if isinstance(node.parent, nodes.section)]
    text = shorten(paragraphs[0].astext(), 160, placeholder=" …") if paragraphs else context.get("title", "")
    context["metatags"] = (
        context.get("metatags", "") + f'\n<meta name="description" content="{html.escape(text, quote=True)}" />'
    )


def setup(app: Any) -> dict[str, Any]:
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
