"""A report as HTML: the verdict, the table of differences, and expected and measured derivatives side by side.

In:  a `Report`.
Out: a fragment for a notebook, or a page.
"""

from html import escape
from typing import Any

import numpy as np

STYLE = """
.refcl{font:14px/1.45 system-ui,sans-serif;color:#1b1f24;max-width:70em}
.refcl h2{font-size:1.15em;margin:.2em 0 .5em}
.refcl .ok{color:#116329}.refcl .wrong{color:#a40e26}
.refcl table{border-collapse:collapse;margin:.6em 0}
.refcl td,.refcl th{padding:.25em .6em;text-align:left;vertical-align:top;border-bottom:1px solid #d0d7de}
.refcl .grid td,.refcl .grid th{padding:.15em .35em;text-align:right;border:0;font:11px/1.2 ui-monospace,monospace}
.refcl .side{display:flex;flex-wrap:wrap;gap:2em}
.refcl pre{white-space:pre-wrap;background:#f6f8fa;padding:.7em}
"""


def fragment(report: Any) -> str:
    """Return a report as a piece of HTML."""
    kind = "ok" if report.ok else "wrong"
    parts = [
        f'<div class="refcl"><style>{STYLE}</style>',
        f'<h2>{escape(report.loss)}: <span class="{kind}">{escape(report.verdict)}</span></h2>',
    ]
    if report.reason:
        parts.append(f"<p>{escape(report.reason)}</p>")
    if report.differences:
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{escape(str(x))}</td>" for x in (d.what, d.where, d.measured, d.expected, d.change))
            + "</tr>"
            for d in report.differences
        )
        parts.append(
            "<table><tr><th>what</th><th>where</th><th>measured</th><th>expected</th><th>change it"
            f" to</th></tr>{rows}</table>"
        )
    parts.append(_picture(report.picture))
    if report.right_for:
        parts.append(f"<p>It would be right for {escape(', '.join(report.right_for))}.</p>")
    parts += [f"<p>{escape(note)}</p>" for note in report.notes]
    parts.append(f"<details><summary>as text</summary><pre>{escape(str(report))}</pre></details></div>")
    return "".join(parts)


def page(report: Any) -> str:
    """Return a report as a page of its own."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport"'
        f' content="width=device-width"><title>{escape(report.loss)}:'
        f" {escape(report.verdict)}</title></head><body>{fragment(report)}</body></html>\n"
    )


def _picture(picture: dict[str, Any]) -> str:
    """Return the derivatives by every similarity, measured and expected, anchors by candidates."""
    if not picture:
        return ""
    entries, gram, rows = picture["entries"], picture["gram"], picture["rows"]
    height = 1 + max(i for i, _ in entries)
    width = 1 + max(j for _, j in entries)
    if gram:
        height = width = max(height, width)
    names = [f"{name} {k}" for name, k in rows][:height]
    columns = [f"{name} {k}" for name, k in rows][:width] if gram else [str(k) for k in range(width)]
    largest = max(float(np.max(np.abs(picture[which]))) for which in ("measured", "expected")) or 1.0
    grids = []
    for which in ("expected", "measured"):
        grid = np.full((height, width), np.nan)
        for value, (i, j) in zip(picture[which], entries, strict=True):
            grid[i, j] = value
            if gram:
                grid[j, i] = value
        head = "".join(f"<th>{escape(c)}</th>" for c in columns)
        body = "".join(
            f"<tr><th>{escape(name)}</th>" + "".join(_cell(x, largest) for x in line) + "</tr>"
            for name, line in zip(names, grid, strict=True)
        )
        grids.append(f'<div><b>{which}</b><table class="grid"><tr><th></th>{head}</tr>{body}</table></div>')
    return (
        "<p>∂L/∂s for one random batch: blue is pulled together, red pushed apart, white has no effect.</p>"
        f'<div class="side">{"".join(grids)}</div>'
    )


def _cell(x: float, largest: float) -> str:
    if not np.isfinite(x):
        return '<td style="background:#eef0f2"></td>'
    share = min(1.0, abs(float(x)) / largest) ** 0.5
    low = round(255 * (1 - share))
    colour = f"rgb(255,{low},{low})" if x > 0 else f"rgb({low},{low},255)"
    ink = "#fff" if share > 0.6 and x < 0 else "#1b1f24"
    return f'<td style="background:{colour};color:{ink}">{0.0 if abs(x) < 1e-9 else x:.2g}</td>'
