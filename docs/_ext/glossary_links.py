"""The first use of a term on a page links to the glossary.

In:  the headings of ``docs/glossary.md``.
Out: links, made while building, so that the pages' own text stays readable.
"""

import re
from pathlib import Path
from typing import Any

from docutils import nodes

# Words of everyday English, and those that are headings for another reason, are not linked.
NOT_LINKED = {
    "room",
    "view",
    "key",
    "batch",
    "difference",
    "slope",
    "reduction",
    "hardness",
    "pair",
    "cache",
    "strip",
    "decoupled",
}
NOT_LINKED |= {
    "debiased",
    "candidate",
    "candidate under check",
    "verdict",
    "alignment",
    "pool",
    "entropy",
    "letters",
    "nat",
}
NOUNS = {"positive", "negative"}  # also adjectives: only where an article stands before
SKIPPED = (nodes.reference, nodes.literal, nodes.title, nodes.raw, nodes.math, nodes.literal_block, nodes.term)


def terms(source: Path) -> dict[str, tuple[re.Pattern[str], str]]:
    """Return each term's pattern and anchor, longer terms first."""
    found = {}
    titles = re.findall(r"^### (.+)$", source.read_text(encoding="utf-8"), re.MULTILINE)
    for title in sorted(titles, key=len, reverse=True):
        term = title.lower()
        if term in NOT_LINKED:
            continue
        before = r"(?<=\bthe )|(?<=\bits )|(?<=\bone )|(?<=\ba )|(?<=\beach )" if term in NOUNS else r"\b"
        anchor = re.sub(r"[^\w\- ]", "", term).replace(" ", "-")
        found[term] = re.compile(f"(?:{before}){re.escape(term)}s?\\b", re.IGNORECASE), anchor
    return found


def link(app: Any, tree: nodes.document, page: str) -> None:
    if page == "glossary" or page.startswith(("api/", "gallery/", "exercises/")) or app.builder.format != "html":
        return
    open_terms = dict(app.config.glossary_terms)
    home = app.builder.get_relative_uri(page, "glossary")
    for text in list(tree.findall(nodes.Text)):
        if any(isinstance(parent, SKIPPED) for parent in ancestors(text)) or not inside(text):
            continue
        split(text, open_terms, home)


def ancestors(node: Any) -> Any:
    while node.parent is not None:
        node = node.parent
        yield node


def inside(text: Any) -> bool:
    return any(isinstance(parent, nodes.paragraph) for parent in ancestors(text))


def split(text: nodes.Text, open_terms: dict[str, Any], home: str) -> None:
    """Put links into a text, each term once a page."""
    places = []
    for term, (pattern, anchor) in list(open_terms.items()):
        match = pattern.search(text)
        if match and not any(match.start() < end and start < match.end() for start, end, _ in places):
            places.append((match.start(), match.end(), anchor))
            del open_terms[term]
    if not places:
        return
    parts: list[nodes.Node] = []
    done = 0
    for start, end, anchor in sorted(places):
        word = str(text)[start:end]
        parts += [nodes.Text(str(text)[done:start])] if start > done else []
        parts.append(nodes.reference("", word, refuri=f"{home}#{anchor}", internal=True, classes=["term"]))
        done = end
    parts += [nodes.Text(str(text)[done:])] if done < len(text) else []
    text.parent.replace(text, parts)


def prepare(app: Any, config: Any) -> None:
    config.glossary_terms = terms(Path(app.srcdir, "glossary.md"))


def setup(app: Any) -> dict[str, Any]:
    app.add_config_value("glossary_terms", {}, "", [dict])
    app.connect("config-inited", prepare)
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
