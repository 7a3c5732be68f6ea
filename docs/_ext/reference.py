"""The reference of every public name, from the docstrings.

In:  what the package exports, in reading order.
Out: a page for each group in ``docs/api``, and a signature for each pair, which autodoc would take for data.
"""

import functools
import importlib
import inspect
import pkgutil
import sys
import types
from pathlib import Path
from typing import Any

from sphinx.ext.autodoc.mock import mock
from sphinx.util.inspect import stringify_signature

import refcl
from refcl import Pair

ROOMS = ("encoder", "layers", "sphere", "similarity", "distance", "pairing", "pooling", "penalty", "reduce")
OUTSIDE = ["torch", "jax"]  # frameworks that the site is built without: stand-ins take their place
# The experiment's modules, in reading order; what draws and tells its results has a page of its own.
STUDY = ("data", "views", "keys", "objectives", "optim", "schedules", "seeding", "train", "device", "probe", "evaluate")
STUDY += ("study", "results", "describe", "info", "errors", "command")
REPORT = ("report", "plots")
# Page, title, and what stands there.
PAGES = (
    ("losses_of_similarities", "Losses of similarities", "They take a matrix s (N, M) of similarities."),
    ("losses_of_embeddings", "Losses of embeddings", "They take embeddings (N, D) and compare them first."),
    ("rooms", "The rooms", "What every loss is made of, in the order in which data walk through."),
    ("hardness", "Hardness", "The paper's analysis of the softmax loss."),
    ("metrics", "Metrics", "What an embedding looks like."),
    ("pair", "Pairs", "A forward and its backward as one value."),
    ("ranks", "Ranks", "The losses over many machines: each rank passes its rows, and a communicator."),
    ("torch", "Under PyTorch", "The losses as functions of tensors that autograd sees through."),
    ("jax", "Under JAX", "The losses as functions that JAX's transformations see through."),
    ("oracle", "The oracle", "Is my loss right, and if not, what did I get wrong?"),
    ("experiment", "The experiment", "What a study is made of, from data to results."),
    ("pretext", "Pretext tasks", "Questions about pictures, by which encoders were trained before contrastive losses."),
    ("report", "Figures and report", "What a study draws and says about its results."),
)


def names_of_losses() -> tuple[list[str], list[str]]:
    """Return the dotted names of the losses, from similarities and from embeddings, in the order of ``__all__``."""
    scores: list[str] = []
    rows: list[str] = []
    for name in refcl.__all__:
        value = getattr(refcl, name)
        if isinstance(value, types.ModuleType) or inspect.isclass(value):
            continue
        first = next(iter(inspect.signature(value).parameters))
        (scores if first in ("s", "gap") else rows).append(f"refcl.{name}")
    return scores, rows


def own_names(module: types.ModuleType) -> list[str]:
    """Return the dotted names of what a module offers: its ``__all__``, or else what it defines, pairs for halves."""
    listed = getattr(module, "__all__", None)
    if module.__name__.startswith("refcl.experiment"):
        listed = None  # theirs pass on what other modules define
    names = []
    for name, value in vars(module).items() if listed is None else ((n, getattr(module, n)) for n in listed):
        if name.startswith("_") or isinstance(value, types.ModuleType):
            continue
        half = name.endswith(("_forward", "_backward"))
        here = listed is not None or getattr(value, "__module__", None) == module.__name__
        if here and not half and callable(value) and not name.endswith("Cache"):
            names.append(f"{module.__name__}.{name}")
    return names


def names_on(page: str) -> list[tuple[str, list[str]]]:
    """Return (heading, dotted names) for each section of a page; a heading of "" is the page's own."""
    if page == "losses_of_similarities":
        return [("", names_of_losses()[0])]
    if page == "losses_of_embeddings":
        return [("", names_of_losses()[1])]
    if page == "rooms":
        return [(room, names_of_room(room)) for room in ROOMS]
    if page == "pair":
        return [("", ["refcl.Pair"])]
    if page in OUTSIDE:
        return [("", own_names(beside_stand_ins(f"refcl.{page}")))]
    groups = {"experiment": STUDY, "pretext": ("pretext",), "report": REPORT}.get(page)
    if groups is not None:
        modules = [module for group in groups for module in modules_under(f"refcl.experiment.{group}")]
        named = [(module.__name__.removeprefix("refcl.experiment."), own_names(module)) for module in modules]
        return [(heading, names) for heading, names in named if names]
    return [("", own_names(importlib.import_module(f"refcl.{page}")))]


@functools.cache
def beside_stand_ins(name: str) -> types.ModuleType:
    """Return a module as it is where the frameworks are stand-ins, and leave no trace of having imported it."""
    before = sys.modules.pop(name, None)
    try:
        with mock(OUTSIDE):
            return importlib.import_module(name)
    finally:
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before


def modules_under(name: str) -> list[types.ModuleType]:
    """Return a module and, where it is a folder, its own modules by name."""
    module = importlib.import_module(name)
    inside = pkgutil.walk_packages(getattr(module, "__path__", []), f"{name}.")
    return [module, *(importlib.import_module(found.name) for found in inside)]


def names_of_room(room: str) -> list[str]:
    """Return the dotted names of a room's pairs and functions; a room that is a folder has them in its files."""
    module = importlib.import_module(f"refcl.walk.{room}")
    names = []
    for name, value in vars(module).items():
        home = getattr(value, "__module__", "") or ""
        inside = home == module.__name__ or home.startswith(f"{module.__name__}.")
        half = name.endswith(("_forward", "_backward"))
        if inside and not half and not name.startswith("_") and (isinstance(value, Pair) or inspect.isfunction(value)):
            names.append(f"refcl.walk.{room}.{name}")
    return names


def public_names() -> list[str]:
    """Return every dotted name that has an entry in the reference."""
    return [name for page, _, _ in PAGES for _, names in names_on(page) for name in names]


def resolve(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    outside = module.rpartition(".")[2] in OUTSIDE
    return getattr(beside_stand_ins(module) if outside else importlib.import_module(module), name)


def entry(dotted: str) -> str:
    value = resolve(dotted)
    kind = "autoclass" if inspect.isclass(value) else "autofunction"
    # A named tuple's fields say nothing but their numbers.
    members = "   :members:\n" if kind == "autoclass" and not issubclass(value, tuple) else ""
    return f".. {kind}:: {dotted}\n{members}\n"


def summary(dotted: str) -> str:
    for framework in OUTSIDE:  # what each of these losses is, refcl's own says
        dotted = dotted.replace(f"refcl.{framework}.", "refcl.")
    doc = inspect.getdoc(resolve(dotted)) or ""
    return " ".join(doc.partition("\n\n")[0].split())


def contents(names: list[str]) -> str:
    rows = "".join(f"   * - :py:obj:`~{n}`\n     - {summary(n)}\n" for n in names)
    return f".. list-table::\n   :widths: 30 70\n   :class: names\n\n{rows}\n"


def write(app: Any) -> None:
    """Write the pages, each only where it changed, so that a second build has less to do."""
    folder = Path(app.srcdir, "api")
    folder.mkdir(exist_ok=True)
    lines = ["Reference", "=========", "", "Every public name, from its docstring.", "", ".. toctree::", ""]
    lines += [f"   {page}" for page, _, _ in PAGES]
    put(folder / "index.rst", "\n".join(lines) + "\n")
    for page, title, what in PAGES:
        text = f"{title}\n{'=' * len(title)}\n\n{what}\n\n"
        text += f".. automodule:: refcl.{page}\n   :no-index:\n\n" if page in OUTSIDE else ""
        for heading, names in names_on(page):
            text += f"{heading}\n{'-' * len(heading)}\n\n" if heading else ""
            text += contents(names) + "".join(map(entry, names))
        put(folder / f"{page}.rst", text)


def put(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def signature_of_pair(app: Any, what: str, name: str, value: Any, options: Any, sig: str, back: str) -> Any:
    """A pair is called with the signature of its forward and an upstream gradient, and returns value and gradients."""
    if not isinstance(value, Pair):
        return None
    bare = inspect.signature(value)
    parameters = [p.replace(annotation=p.empty) for p in bare.parameters.values()]
    fields = ", ".join(f"d{argument}" for argument in value.arguments)
    shown = stringify_signature(bare.replace(parameters=parameters, return_annotation=bare.empty))
    return shown, f"value, ({fields})"


def returns_of_pair(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Say how the two halves are called."""
    if isinstance(value, Pair):
        short = name.rpartition(".")[2]
        lines += [
            "",
            f"*A pair.* ``{short}.forward(…)`` returns the value and a cache, ``{short}.backward(upstream, cache)`` "
            f"the gradients; the module has them as ``{short}_forward`` and ``{short}_backward`` too.",
            "",
        ]


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", write)
    app.connect("autodoc-process-signature", signature_of_pair)
    app.connect("autodoc-process-docstring", returns_of_pair, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
