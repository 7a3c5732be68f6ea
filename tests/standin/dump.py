"""What the installed CuPy takes: its functions' signatures, as the stand-in binds calls against them.

    python tests/standin/dump.py        writes tests/standin/cupy/signatures.json

In:  an installed CuPy; no GPU is needed to import it.
Out: for each public callable its parameters ``[name, kind, whether it has a default]``; for a ufunc how many arrays go
in and its keywords; names that are no callables; the methods of an array, as their documentation begins, and those of a
random generator.
"""

import inspect
import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent / "cupy" / "signatures.json"
KEYWORDS_OF_A_UFUNC = ["out", "casting", "dtype"]


def parameters(function: Any) -> list[list[Any]]:
    """Return a function's parameters."""
    found = inspect.signature(function).parameters.values()
    return [[p.name, str(p.kind.name), p.default is not p.empty] for p in found]


def written(documentation: str) -> list[list[Any]]:
    """Return the parameters that the first line of a documentation names; ``name(self, axis=None) -> ...``."""
    inside = re.match(r"[\w.]+\((.*?)\)( ->|$|\n)", documentation)
    if inside is None:
        return [["args", "VAR_POSITIONAL", False], ["kwargs", "VAR_KEYWORD", False]]
    found: list[list[Any]] = []
    kind = "POSITIONAL_OR_KEYWORD"
    for part in inside[1].split(","):
        name = part.strip().partition("=")[0].split()[-1] if part.strip() else ""
        if name == "*":
            kind = "KEYWORD_ONLY"
        elif name.startswith("*"):
            found.append([name.lstrip("*"), "VAR_KEYWORD" if name.startswith("**") else "VAR_POSITIONAL", False])
            kind = "KEYWORD_ONLY"
        elif name and name not in ("/", "self"):
            found.append([name, kind, "=" in part])
    return found


def signatures(cupy: Any) -> dict[str, Any]:
    """Return everything that the stand-in knows about CuPy."""
    functions: dict[str, Any] = {}
    ufuncs: dict[str, int] = {}
    others = []
    for name in sorted(n for n in dir(cupy) if not n.startswith("_")):
        thing = getattr(cupy, name)
        if isinstance(thing, cupy.ufunc):
            ufuncs[name] = thing.nin
        elif inspect.isfunction(thing) or type(thing).__name__ == "_GUFunc":
            functions[name] = parameters(thing)
        elif not inspect.ismodule(thing):
            others.append(name)
    methods, attributes = {}, []
    for name in sorted(dir(cupy.ndarray)):
        thing = getattr(cupy.ndarray, name)
        if name.startswith("_") and name != "__array_namespace__":
            continue
        if callable(thing):
            methods[name] = written(thing.__doc__ or "")
        else:
            attributes.append(name)
    return {
        "version": cupy.__version__,
        "functions": functions,
        "ufuncs": ufuncs,
        "ufunc_keywords": KEYWORDS_OF_A_UFUNC,
        "others": others,
        "methods": methods,
        "attributes": attributes,
        "generator": {
            name: parameters(getattr(cupy.random.Generator, name))[1:]  # without self
            for name in sorted(vars(cupy.random.Generator))
            if not name.startswith("_")
        },
    }


def main() -> None:
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).parent]  # where the stand-in is
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy warns on import where it finds no CUDA
        import cupy
    rows = [f"{json.dumps(key)}: {_one_a_line(value)}" for key, value in signatures(cupy).items()]
    TARGET.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


def _one_a_line(value: Any) -> str:
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{\n" + ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n}"


if __name__ == "__main__":
    main()
