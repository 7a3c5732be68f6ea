"""The built site: whole, findable, and free of other hosts."""

import ast
import importlib
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from docs_places import ROOT


def extension(name):
    """Return a module of the site's own extensions, which want Sphinx."""
    pytest.importorskip("sphinx", reason='the site is not built here: python -m pip install ".[docs]"')
    folder = str(ROOT / "docs" / "_ext")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)


class Page(HTMLParser):
    """What is asked of a page: what it loads, links to and says of itself."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.links, self.ids, self.pictures = [], [], set(), []
        self.title, self.description, self.headings, self.deferred = "", "", [], []
        self.inside = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical",):
            self.loads.append(given["href"])
        elif tag in ("script", "img", "iframe", "source", "video", "audio", "embed", "object") and given.get("src"):
            self.loads.append(given["src"])
        if tag == "script":
            self.deferred.append((given.get("src"), given.get("type"), "defer" in given))
        if tag == "img":
            self.pictures.append(given)
        if tag == "meta" and given.get("name") == "description":
            self.description = given["content"]
        if tag in ("title", "h1"):
            self.inside = tag

    def handle_endtag(self, tag):
        if tag == self.inside:
            self.inside = None

    def handle_data(self, data):
        if self.inside == "title":
            self.title += data
        if self.inside == "h1":
            self.headings.append(data)


@pytest.fixture
def pages(site):
    return {
        path: Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts
    }


def test_no_page_loads_anything_from_another_host(pages):
    assert len(pages) > 80
    elsewhere = {address for page in pages.values() for address in page.loads if re.match(r"(\w+:)?//", address)}
    assert elsewhere == set()


def test_no_stylesheet_and_no_script_does(site):
    found = []
    for path in [*site.rglob("*.css"), *site.rglob("*.js")]:
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        if path.suffix == ".css":
            found += re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)'\"]*", text)
        else:
            found += re.findall(r"(?:fetch|import|importScripts)\(\s*['\"]https?:[^'\"]*", text)
            found += re.findall(r"\.src\s*=\s*['\"]https?:[^'\"]*", text)
    assert found == []


def test_links_inside_the_site_lead_somewhere(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link) or link == "#":
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].ids):
                broken.append((path.name, link))
    assert broken == []


def test_every_page_says_what_it_is(pages):
    special = {"genindex.html", "search.html", "py-modindex.html"}
    for path, page in pages.items():
        if path.name in special or "_modules" in path.parts:
            continue
        assert page.title.strip(), path
        assert page.headings, path
        assert 20 < len(page.description) <= 200, (path, page.description)


def test_every_picture_has_an_alternative_text(pages):
    for path, page in pages.items():
        for picture in page.pictures:
            # A thumbnail has its title below it, and says nothing beside that.
            assert picture.get("alt") or ("alt" in picture and "_thumb." in picture["src"]), (path, picture)


def test_scripts_of_figures_are_classic_and_deferred(site, pages):
    page = pages[site / "figures" / "knob.html"]
    ours = [entry for entry in page.deferred if entry[0] and re.search(r"_static/(refcl|touch|knob)\.js", entry[0])]
    assert [Path(source.partition("?")[0]).name for source, _, _ in ours] == ["refcl.js", "touch.js", "knob.js"]
    assert all(kind != "module" and deferred for _, kind, deferred in ours)
    assert not [entry for entry in pages[site / "walk.html"].deferred if entry[0] and "touch.js" in entry[0]]


def test_mathematics_is_there_without_a_script(site):
    text = (site / "derivations" / "pooling.html").read_text(encoding="utf-8")
    assert text.count("<math ") > 20
    assert "alttext=" in text
    assert not re.search(r"<script[^>]*(mathjax|katex)", text, re.IGNORECASE)


def defined_in(path):
    """Return the public names that a module's text defines, by its own name: functions, classes, and pairs."""
    halves = ("_forward", "_backward", "Cache")
    names = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign) and getattr(getattr(node.value, "func", None), "id", "") in MAKERS:
            names.append(node.targets[0].id)
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return {f"{dotted}.{name}" for name in names if not name.startswith("_") and not name.endswith(halves)}


MAKERS = ("room", "_under_autograd", "_under_transformations")


def test_every_public_name_is_in_the_reference(pages):
    """The names are read from the files, not from what the site's own program lists."""
    import refcl
    import refcl.oracle
    import refcl.ranks

    named = {"refcl": refcl.__all__, "refcl.oracle": refcl.oracle.__all__, "refcl.ranks": refcl.ranks.__all__}
    public = {f"{module}.{name}" for module, names in named.items() for name in names}
    public -= {"refcl.hardness", "refcl.metrics", "refcl.walk", "refcl.losses"}  # modules
    package = ROOT / "refcl"
    files = [package / f"{name}.py" for name in ("torch", "jax", "hardness", "metrics")]
    files += [package / "walk" / f"{room}.py" for room in refcl.walk.__all__ if room != "pooling"]
    public |= set().union(*map(defined_in, [*files, *(package / "experiment").rglob("*.py")]))
    public |= {f"refcl.walk.pooling.{name}" for name in refcl.walk.pooling.__all__ if not name.endswith("ward")}
    reached = set().union(*(page.ids for path, page in pages.items() if path.parent.name == "api"))
    assert len(public) > 350
    assert sorted(public - reached) == []


def test_large_braces_are_braces():
    mathml = extension("mathml").mathml
    assert "\\" not in re.sub(r'alttext="[^"]*"', "", mathml(r"\max\Bigl\{a, b\Bigr\}", "inline"))


@pytest.mark.parametrize(
    ("latex", "parts"),
    [
        (r"a = b, \qquad c = d", [["a = b,"], ["c = d"]]),  # short equations are not cut
        (
            r"L = \log(1 + \sum_{k = 1}^K e^{s_k + t}) + s^+ - x, \quad y",
            [["L ", r"= \log(1 + \sum_{k = 1}^K e^{s_k + t}) ", "+ s^+ ", "- x,"], ["y"]],
        ),
        (
            r"\frac{\partial L}{\partial s_p} = -\frac1\tau =: q",
            [[r"\frac{\partial L}{\partial s_p} ", r"= -\frac1\tau ", "=: q"]],
        ),
    ],
)
def test_a_long_formula_may_break_before_relations_and_signs(latex, parts):
    assert extension("mathml").pieces(latex) == parts


def test_a_comma_stays_with_its_formula(site):
    text = (site / "derivations" / "hardness.html").read_text(encoding="utf-8")
    assert "<mtext>.</mtext></mrow></math>" in text
    assert not re.findall(r"</math>(?:</span>)*[.,;:)]", text)


def test_a_table_of_words_says_its_columns_in_each_cell(site):
    text = (site / "choosing.html").read_text(encoding="utf-8")
    rows = text.partition('class="cards')[2].partition("</table>")[0].count("<tr")
    assert text.count('<span class="column">pool</span>') == rows - 1 > 20
    numbers = (site / "benchmarks.html").read_text(encoding="utf-8")
    assert "PyTorch eager</span>" not in numbers  # those are compared, and stay beside each other


def test_search_knows_the_names(site):
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    assert all(name in text for name in ("info_nce", "relative_penalty", "nt_xent"))


def test_every_example_has_a_page_a_picture_and_a_notebook(site, pages):
    for script in (ROOT / "examples").glob("*.py"):
        assert site / "gallery" / f"{script.stem}.html" in pages
        assert list((site / "_downloads").rglob(f"{script.stem}.ipynb"))
        assert list((site / "_images").glob(f"sphx_glr_{script.stem}_thumb.*"))
        notebook = json.loads(next((site / "_downloads").rglob(f"{script.stem}.ipynb")).read_text(encoding="utf-8"))
        assert "sys.argv" in "".join(notebook["cells"][0]["source"])


def test_every_exercise_has_a_page_that_hides_its_solution(site):
    from refcl.oracle.exercises import exercises

    for one in exercises():
        text = (site / "exercises" / f"{one.number:02d}-{one.key}.html").read_text(encoding="utf-8")
        assert text.count("<details><summary>Hint") == len(one.hints)
        assert text.count("<details><summary>Solution") == 1


def test_the_walk_s_code_is_found_in_the_package():
    figure_data = extension("figure_data")

    about = figure_data.walk()["about"]
    for name, entry in about.items():
        assert entry["line"] > 0, f"{name}: no line of its room's code is marked"
        assert entry["formula"].startswith("<math")


def test_the_oracle_sees_each_mistake_for_what_it_is():
    figure_data = extension("figure_data")

    cases = figure_data.mistakes()
    assert len(cases) == 6
    assert len({tuple(case["report"].splitlines()[:1]) for case in cases}) == 6
    for case in cases:
        assert case["measured"] != case["expected"]
        assert "correct" not in case["report"].splitlines()[0]
