"""How the site is built: ``python -m sphinx -W -b html docs docs/_build/html``.

In:  the pages beside this file, the docstrings of the package, ``examples/``.
Out: a site that needs no network and no server; it may be opened from the disk.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
sys.path.insert(0, str(HERE.parent))
os.environ.setdefault("MPLBACKEND", "Agg")

import gallery  # noqa: E402
import reference  # noqa: E402

import refcl  # noqa: E402

project = "refcl"
author = "The refcl authors"
copyright = author
release = version = refcl.__version__
language = "en"

extensions = [
    "sphinx.ext.autodoc",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "thumbnails",
    "mathml",
    "reference",
    "exercises",
    "touch",
    "page",
    "glossary_links",
    "source",
    "tables",
]
exclude_patterns = ["_build", "**/.*", "gallery/**/*.py", "gallery/**/*.ipynb", "gallery/sg_execution_times.rst"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown", ".myst": "markdown"}
suppress_warnings = ["config.cache"]  # the gallery's settings hold a function, which is never pickled

# Pages: Markdown that a code host shows as well
myst_enable_extensions = ["dollarmath", "deflist", "attrs_inline", "attrs_block"]
myst_heading_anchors = 4
myst_dmath_double_inline = True
myst_dmath_allow_digits = False
myst_links_external_new_tab = False
html_math_renderer = "mathml"
default_role = "code"  # a name between single backticks in a docstring

# Docstrings
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autodoc_typehints = "none"
autodoc_mock_imports = reference.OUTSIDE
autodoc_member_order = "bysource"

# Examples
sphinx_gallery_conf = gallery.settings(HERE)

# Appearance
html_theme = "pydata_sphinx_theme"
html_title = "refcl"
# Two of the figures' scripts are the package's: the study's report has them too.
html_static_path = ["_static", *(f"../refcl/experiment/report/{name}.js" for name in ("touch", "study"))]
html_css_files = ["refcl.css"]
html_copy_source = False
html_show_search_summary = False  # it would have to be fetched, which browsers refuse from the disk
html_show_sourcelink = False
html_last_updated_fmt = None
html_favicon = "_static/favicon.svg"
html_theme_options = {
    "logo": {"text": "refcl"},
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "show_nav_level": 1,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": {"**": ["page-toc"], "choosing": [], "exactness": []},  # tables that want the room
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}
html_sidebars = {"index": []}
