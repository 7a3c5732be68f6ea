"""Docstrings: their sections, their parameters, and their shapes against real calls."""

import inspect
import re
from typing import Any

import numpy as np
import pytest
from backends import NUMPY, leaves
from calls import forward, run
from cases import FUNCTION_CASES, PAIR_CASES, Case, core_functions, core_pairs, named

PUBLIC = {**{name: pair.forward for name, pair in core_pairs().items()}, **core_functions()}


def sections(function: Any) -> dict[str, str]:
    """Return the sections of a numpydoc docstring by their headings; what comes before them under \"\"."""
    parts = re.split(r"^(\w[\w ]*)\n-+$", inspect.getdoc(function) or "", flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


NUMPYDOC = ["Parameters", "Returns", "Raises", "Notes", "References", "Examples"]


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_docstrings_have_their_sections(name: str) -> None:
    found = sections(PUBLIC[name])
    headings = [heading for heading in found if heading]
    assert headings == [heading for heading in NUMPYDOC if heading in found], "unknown sections, or in another order"
    assert found[""].strip().splitlines()[0].endswith((".", ":", "?")), "one line of summary first"
    assert ">>>" in found["Examples"]
    if name != "initial_running":  # it says all in one line
        assert "Returns" in found


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_docstrings_describe_every_parameter(name: str) -> None:
    if name == "initial_running":
        pytest.skip("it says all in one line")
    described = [entry for names, _, _ in entries(sections(PUBLIC[name])["Parameters"]) for entry in names]
    assert described == list(inspect.signature(PUBLIC[name]).parameters)


def entries(section: str) -> list[tuple[list[str], str, str]]:
    """Return (names, type, description) of each entry of a section Parameters or Returns."""
    found = re.findall(r"^(\w[\w, ]*?) : (.+)\n((?:    .*\n?|\n)*)", section, flags=re.MULTILINE)
    return [(names.split(", "), kind, text) for names, kind, text in found]


SHAPE = re.compile(r"\(([^()]*)\)")


def agrees(written: str, shape: tuple[int, ...], sizes: dict[str, int]) -> bool:
    """Tell whether a written shape, such as \"N, M\" or \"2N, D\", is an array's; letters not seen yet are learnt."""
    if written == "...":
        return True
    words = [word.strip() for word in written.split(",") if word.strip()]
    if len(words) != len(shape):
        return False
    for word, size in zip(words, shape, strict=True):
        factor, letter = re.fullmatch(r"(\d*)(\w*)", word).groups()  # type: ignore[union-attr]
        if not letter:
            fits = int(factor) == size
        elif not factor:
            fits = sizes.setdefault(letter, size) == size
        else:
            fits = int(factor) * sizes[letter] == size
        if not fits:
            return False
    return True


def check_written(kind: str, shape: tuple[int, ...], sizes: dict[str, int], what: str) -> None:
    """Check an array's shape against a type slot: one of the shapes that it names must fit."""
    written = SHAPE.findall(kind)
    assert written, f"{what}: no shape in {kind!r}"
    trials = [dict(sizes) for _ in written]
    fitting = [trial for text, trial in zip(written, trials, strict=True) if agrees(text, shape, trial)]
    assert fitting, f"{what} is documented as {kind!r}; got {shape} with {sizes}"
    sizes.update(fitting[0])


@pytest.mark.parametrize("case", PAIR_CASES + FUNCTION_CASES, ids=named)
def test_documented_shapes_are_those_of_calls(case: Case) -> None:
    is_pair = case.function.__name__ in core_pairs()
    function = case.function.forward if is_pair else case.function
    documented = sections(function)
    names = list(inspect.signature(function).parameters)
    passed = {**dict(zip(names, case.inputs, strict=False)), **case.settings}
    sizes = {"nearest": case.settings["nearest"]} if "nearest" in case.settings else {}
    checked = 0
    for parameters, kind, _ in entries(documented["Parameters"]):
        for name in parameters:
            if isinstance(passed.get(name), np.ndarray) and "As in" not in kind and SHAPE.search(kind):
                check_written(kind, passed[name].shape, sizes, name)
                checked += 1
    value = forward(case, case.inputs)[0] if is_pair else function(*case.inputs, **case.settings)
    many = ("cache", "bound", "separation")  # not one array each
    returned = [entry for entry in entries(documented["Returns"]) if entry[0][0] not in many]
    for y, (y_names, kind, _) in zip(leaves(value), returned, strict=False):
        check_written(kind, y.shape, sizes, y_names[0])
        checked += 1
    if is_pair:
        checked += check_documented_gradients(case, documented["Returns"], sizes)
    assert checked >= (2 if is_pair else 1)


def check_documented_gradients(case: Case, returns: str, sizes: dict[str, int]) -> int:
    """Check shapes that the docstring gives to gradients, and tell how many there were."""
    grads = dict(zip(case.function.Grads._fields, run(case, NUMPY)[1], strict=True))
    written = re.findall(r"\b(d\w+) \(([^()]*)\)", returns)
    assert not written or [name for name, _ in written] == list(grads)
    for name, shape in written:
        check_written(f"({shape})", grads[name].shape, sizes, name)
    return len(written)
