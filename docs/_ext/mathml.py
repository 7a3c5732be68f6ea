"""Mathematics, rendered while the site is built.

In:  LaTeX of the pages and docstrings.
Out: MathML, which every browser of today shows without a script and screen readers can read. A long formula is several
     of them, between which a narrow screen may begin a new line.
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
# Few machines have a font for mathematics, and others' primes are raised already.
PRIMED = re.compile(
    r"<msu(?:bsu)?p>(<mi>[^<]*</mi>)(<mi>[^<]*</mi>|<mrow>(?:<m[ino]>[^<]*</m[ino]>)*</mrow>)?<mi>(&#x0203[23];)</mi></msu(?:bsu)?p>"
)
FUNCTION = re.compile(r"<mi>(log|exp|cos|sin|arccos|artanh)</mi>")
# A line never ends between a formula and what is written close to it.
CLOSE = re.compile(r"[.,;:!?)\]’”]+|-\w+")
FENCES = re.compile(r">\\([{}])<")  # large braces come back as they were written
LONG = 40  # characters of LaTeX: such a formula may be wider than a narrow screen, and breaks there, or scrolls
TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|.", re.DOTALL)
OPENS = {"{", "(", "[", r"\{", r"\langle", r"\left", r"\begin"}
CLOSES = {"}", ")", "]", r"\}", r"\rangle", r"\right", r"\end"}
SPACES, RELATIONS, SIGNS = {r"\qquad", r"\quad"}, {"=", r"\le", r"\ge", r"\approx"}, {"+", "-"}
ALONE = {",", "^", "_", ":", "&", r"\cdot"} | RELATIONS  # after these a sign is no sum
STYLES = {
    "double-struck": lambda letter: {"E": "𝔼", "R": "ℝ"}[letter],
    "script": lambda letter: chr(0x1D4D0 + ord(letter) - ord("A")),
}
ROWS = re.compile(r"\\begin\{(aligned|align)\}(.*?)\\end\{\1\}", re.DOTALL)


def split(latex: str, at: set[str]) -> list[str]:
    """Cut a formula before each of these symbols that stands in no bracket and has something on its left."""
    parts, depth, last = [""], 0, ","
    for token in TOKEN.findall(latex):
        depth += (token in OPENS) - (token in CLOSES)
        if token in at and depth == 0 and last not in (() if at is SPACES else ALONE | at):
            parts.append("")
        parts[-1] += token
        if not token.isspace():
            last = "script" if last in ("^", "_") else token
    return parts


def pieces(latex: str) -> list[list[str]]:
    """Return the equations of a formula, each as parts that begin with a relation or a sign: there a line may end."""
    found = []
    for equation in split(latex, SPACES):
        equation = re.sub(r"^\\q?quad(?![a-zA-Z])", "", equation).strip()
        parts = split(equation, RELATIONS) if len(equation) > LONG else [equation]
        found.append([part for one in parts for part in (split(one, SIGNS) if len(one) > LONG else [one])])
    return found


def lines(latex: str, display: str) -> str:
    """Return a formula as MathML elements with spaces between equations, and a place to break before each part."""

    def made(part: str, at: int) -> str:
        math = mathml(part, display).replace('display="block"', 'displaystyle="true"', 1)
        # What stands first would be taken for a sign, without room around it.
        return re.sub(r"(<math [^>]*><mrow>)<mo>", r'\1<mo form="infix">', math) if at else math

    equations = ("<wbr />".join(made(part, at) for at, part in enumerate(parts)) for parts in pieces(latex))
    return " ".join(f'<span class="equation">{equation}</span>' for equation in equations)


def primed(found: re.Match[str]) -> str:
    base, below, prime = found.groups()
    letter = f'<mrow>{base}<mi class="prime">{prime}</mi></mrow>'
    return f"<msub>{letter}{below}</msub>" if below else letter


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
    made = PRIMED.sub(primed, made)
    # A name of a function keeps a little distance from letters, and none from a bracket.
    made = FUNCTION.sub(r'<mo lspace=".17em" rspace=".17em">\1</mo>', made)
    made = re.sub(r' rspace="[^"]*"(>\w+</mo><mo [^>]*>\()', r' rspace="0"\1', made)
    return made.replace("<math ", f'<math alttext="{html.escape(" ".join(latex.split()), quote=True)}" ', 1)


def keep_close(app: Any, tree: nodes.document, page: str) -> None:
    """Give each formula in a sentence the bracket before it, and the comma or the like that follows."""
    if app.builder.format != "html":
        return
    for formula in list(tree.findall(nodes.math)):
        parent, at = formula.parent, formula.parent.index(formula)
        behind = parent[at + 1] if at + 1 < len(parent) else None
        if isinstance(behind, nodes.Text) and (found := CLOSE.match(behind)):
            formula["after"] = found.group()
            parent.replace(behind, nodes.Text(behind[found.end() :]))
        before = parent[at - 1] if at else None
        if isinstance(before, nodes.Text) and before.endswith("("):
            formula["open"] = True
            parent.replace(before, nodes.Text(before[:-1]))


def visit_inline(self: Any, node: nodes.math) -> None:
    latex = node.astext()
    made = f'<span class="long">{lines(latex, "inline")}</span>' if len(latex) > LONG else mathml(latex, "inline")
    if after := node.get("after"):
        made = f"<mtext>{after}</mtext></mrow></math>".join(made.rsplit("</mrow></math>", 1))
    if node.get("open"):
        made = made.replace("<mrow>", "<mrow><mtext>(</mtext>", 1)
    self.body.append(made)
    raise nodes.SkipNode


def visit_display(self: Any, node: nodes.math_block) -> None:
    latex = node.astext()
    made = mathml(latex, "block") if ROWS.search(latex) else lines(latex, "block")
    self.body.append(f'<div class="formula">{made}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_display, None))
    app.connect("doctree-resolved", keep_close)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
