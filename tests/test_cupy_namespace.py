"""Every name and keyword that the core asks of an array library exists in CuPy, NumPy and the standard.

Importing CuPy needs no GPU, so this holds the core to what a GPU has on a machine that has none.
"""

import ast
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import array_api_strict
import numpy as np
import pytest
from cases import core_modules

CORE = sorted({Path(module.__file__ or "") for module in core_modules()})
# What only one branch of arrays.py asks of CuPy.
CUPY_ONLY = {"asnumpy"}
# What is asked of NumPy alone, of copies on the host.
OF_THE_HOST = {"errstate"}
# What arrays.py asks of a library only where it has it.
WHERE_THERE = {"vecdot"}
# Keywords that arrays.py leaves away for CuPy, whose creation functions use the current device.
NOT_FOR_CUPY = {"device"}


class Use(NamedTuple):
    where: str
    name: str
    arguments: int | None  # positional; None where the name is not called
    keywords: tuple[str, ...]


def is_namespace(node: ast.expr) -> bool:
    """Tell whether an expression is an array namespace: xp, something.xp, or namespace(x)."""
    if isinstance(node, ast.Name):
        return node.id == "xp"
    if isinstance(node, ast.Attribute):
        return node.attr == "xp"
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "namespace"


def uses() -> Iterator[Use]:
    """Yield every use of a namespace in the core."""
    for path in CORE:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and is_namespace(node.value):
                call = called.get(id(node))
                keywords = tuple(keyword.arg for keyword in call.keywords if keyword.arg) if call else ()
                where = f"{path.name}:{node.lineno}"
                yield Use(where, node.attr, len(call.args) if call else None, keywords)


USES = list(uses())
# Methods and attributes that the core reads off arrays.
OF_ARRAYS = ("T", "shape", "dtype", "device", "ndim", "size")


@pytest.fixture(scope="module", params=["cupy", "numpy", "array_api_strict"])
def library(request: pytest.FixtureRequest) -> ModuleType:
    if request.param == "cupy":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CuPy warns on import where it finds no CUDA
            return pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)  # type: ignore[no-any-return]
    return np if request.param == "numpy" else array_api_strict


def test_the_scan_finds_what_the_core_uses() -> None:
    names = {use.name for use in USES}
    assert {"where", "sum", "exp", "log1p", "take_along_axis", "sort", "asarray", "isdtype", "float32"} <= names
    assert any("axis" in use.keywords for use in USES)
    assert any("keepdims" in use.keywords for use in USES)
    assert len(USES) > 80


def test_every_name_exists(library: ModuleType) -> None:
    own = OF_THE_HOST | (CUPY_ONLY if library.__name__ != "cupy" else WHERE_THERE)
    missing = [f"{use.where}: {use.name}" for use in USES if use.name not in own and not hasattr(library, use.name)]
    assert missing == []


def test_every_call_is_accepted(library: ModuleType) -> None:
    refused, checked = [], 0
    for use in USES:
        function = getattr(library, use.name, None)
        if use.arguments is None or not callable(function):
            continue
        keywords = [k for k in use.keywords if library.__name__ != "cupy" or k not in NOT_FOR_CUPY]
        try:
            signature = inspect.signature(function)
        except ValueError:  # written in C, as in older NumPy; of CuPy's, ufuncs: they take arrays only
            if library.__name__ == "cupy":
                refused += [f"{use.where}: {use.name}({k}=...)" for k in keywords]
            continue
        try:
            signature.bind(*[None] * use.arguments, **dict.fromkeys(keywords))
        except TypeError as error:
            refused.append(f"{use.where}: {use.name}: {error}")
        checked += 1
    assert refused == []
    assert checked > 30


def test_arrays_have_what_the_core_reads(library: ModuleType) -> None:
    array_type: Any = library.ndarray if hasattr(library, "ndarray") else type(library.asarray(0.0))
    assert [name for name in OF_ARRAYS if not hasattr(array_type, name)] == []


def test_no_star_hides_keywords_from_the_scan() -> None:
    """Only arrays.py passes **keywords to a namespace: the device, or nothing."""
    hidden = []
    for path in CORE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_namespace(node.func.value):
                hidden += [path.name for keyword in node.keywords if keyword.arg is None]
    assert set(hidden) == {"arrays.py"}


def test_the_arrays_of_cupy_name_no_namespace_themselves(library: ModuleType) -> None:
    """Why arrays.py knows CuPy by name."""
    if library.__name__ != "cupy":
        pytest.skip("of CuPy")
    assert not hasattr(library.ndarray, "__array_namespace__")
