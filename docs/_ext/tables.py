"""Tables of many words: on a narrow screen each row becomes a card, whose cells say which column they are of.

In:  a page's tree.
Out: a class for such a table, and in each of its cells the column's name, which is shown where it is needed; and a
     class for cells with a number, which is not to break.
"""

from typing import Any

from docutils import nodes

COLUMNS, WORDS = 3, 15  # from how many columns on, and how many characters a cell


def is_wide(head: list[str], rows: list[Any]) -> bool:
    """Say whether a table is one to read rather than to compare: its numbers stay beside each other."""
    return len(head) >= COLUMNS and sum(len(row.astext()) for row in rows) > WORDS * len(head) * len(rows)


def is_number(text: str) -> bool:
    """Say whether a cell holds a number, with its unit or its error, but no sentence."""
    return len(text) <= WORDS and any(letter.isdigit() for letter in text)


def name_columns(app: Any, tree: nodes.document, page: str) -> None:
    if app.builder.format != "html":
        return
    for table in tree.findall(nodes.table):
        head = [entry.astext() for thead in table.findall(nodes.thead) for entry in thead[0]]
        rows = [row for body in table.findall(nodes.tbody) for row in body]
        if not is_wide(head, rows):
            for entry in (entry for row in rows for entry in row if is_number(entry.astext())):
                entry["classes"].append("number")
            continue
        table["classes"].append("cards")
        for row in rows:
            for name, entry in zip(head, row, strict=True):
                if entry.astext() and isinstance(entry[0], nodes.paragraph):
                    entry[0].insert(0, nodes.inline("", name, classes=["column"]))


def setup(app: Any) -> dict[str, Any]:
    app.connect("doctree-resolved", name_columns)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
