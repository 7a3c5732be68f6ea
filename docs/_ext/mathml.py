"""Mathematics, rendered while the site is built.

In:  LaTeX of the pages and docstrings.
Out: MathML, which every browser of today shows without a script and screen readers can read.
"""

import html
import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.errors import ExtensionError

LETTERS = re.compile(r'(?:<mi mathvariant="normal">[A-Za-z]</mi>){2,}')
WORDS = ("arg",)  # names of functions that the converter does not know
# Browsers know these letters, but not the attribute that asks for them.
STYLED = re.compile(r'<mi mathvariant="(double-struck|script)">([A-Z])</mi>')
FENCES = re.compile(r">\\([{}])<")  # large braces come back as they were written
LONG = 40  # characters of LaTeX: such a formula may be wider than a narrow screen, and scrolls there by itself
STYLES = {
    "double-struck": lambda letter: {"E": "𝔼", "R": "ℝ"}[letter],
    "script": lambda letter: chr(0x1D4D0 + ord(letter) - ord("A")),
}
ROWS = re.compile(r"\\begin\{(aligned|align)\}(.*?)\\end\{\1\}", re.DOTALL)


def mathml(latex: str, display: str) -> str:
    """Return a formula as MathML; refuse what the converter would garble."""
    # The converter knows arrays of columns, by which aligned equations are written as well as they need be.
    latex = ROWS.sub(r"\\begin{matrix}\2\\end{matrix}", latex.strip())
    for name in WORDS:
        latex = re.sub(rf"\\{name}(?![a-zA-Z])", rf"\\operatorname{{{name}}}", latex)
    made = convert(latex, display=display)
    made = FENCES.sub(r">\1<", made)
    if ">\\" in made:
        raise ExtensionError(f"this formula has a command that cannot be converted to MathML: {latex}")
    # An upright word is one identifier, not one for each letter.
    made = LETTERS.sub(lambda m: f"<mi>{re.sub('<[^>]*>', '', m.group())}</mi>", made)
    made = STYLED.sub(lambda m: f"<mi>{STYLES[m.group(1)](m.group(2))}</mi>", made)
    made = made.replace("<mi>&</mi>", "")
    return made.replace("<math ", f'<math alttext="{html.escape(" ".join(latex.split()), quote=True)}" ', 1)


def visit_inline(self: Any, node: nodes.math) -> None:
    made = mathml(node.astext(), "inline")
    self.body.append(f'<span class="long">{made}</span>' if len(node.astext()) > LONG else made)
    raise nodes.SkipNode


def visit_display(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
