"""Docstrings: their sections, their parameters, and their shapes against real calls."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from backends import NUMPY, leaves
from calls import forward, run
from cases import FUNCTION_CASES, PAIR_CASES, Case, core_functions, core_pairs, named

PUBLIC = {**core_pairs(), **core_functions()}


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
    function = PUBLIC[name]
    parameters = list(inspect.signature(getattr(function, "__wrapped__", function)).parameters)  # as it was written
    described = [names for names, _, _ in entries(sections(function)["Parameters"])]
    assert sorted(entry for names in described for entry in names) == sorted(parameters)
    firsts = [names[0] for names in described]  # those that stand together may come before their turn
    assert firsts == sorted(firsts, key=parameters.index)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_references_lead_to_an_entry_of_that_name(name: str) -> None:
    """A function that is named by "As in" documents those parameters itself."""
    for names, _, text in entries(sections(PUBLIC[name]).get("Parameters", "")):
        for other in re.findall(r"As in `([\w.]+)`", text):
            there = entries(sections(PUBLIC[other.rpartition(".")[2]])["Parameters"])
            found = {entry: said for several, _, said in there for entry in several}
            assert set(names) <= set(found), f"{other} has no entry for {set(names) - set(found)}"
            assert not any("As in" in found[entry] for entry in names), f"{other} refers further"


def test_no_entry_stands_verbatim_more_than_three_times() -> None:
    """A parameter is explained once; its siblings say where. A reference may be said as often as it is needed."""
    said: dict[tuple[str, str, str], list[str]] = {}
    for function, value in PUBLIC.items():
        for names, kind, text in entries(sections(value).get("Parameters", "")):
            if "As in" not in text:
                said.setdefault((", ".join(names), kind, text.strip()), []).append(function)
    assert {entry: where for entry, where in said.items() if len(where) > 3} == {}


def test_raises_is_said_where_it_is_particular() -> None:
    said: dict[str, list[str]] = {}
    for function, value in PUBLIC.items():
        said.setdefault(sections(value).get("Raises", "").strip(), []).append(function)
    said.pop("")
    assert {text: where for text, where in said.items() if len(where) > 3} == {}


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


def kinds_of(function: Any) -> Iterator[tuple[str, str]]:
    """Yield each parameter and its type slot, there where a reference leads."""
    for names, kind, text in entries(sections(function)["Parameters"]):
        there = re.findall(r"As in `([\w.]+)`", text)
        kinds = dict(kinds_of(PUBLIC[there[0].rpartition(".")[2]])) if there else dict.fromkeys(names, kind)
        yield from ((name, kinds[name]) for name in names)


@pytest.mark.parametrize("case", PAIR_CASES + FUNCTION_CASES, ids=named)
def test_documented_shapes_are_those_of_calls(case: Case) -> None:
    is_pair = case.function.__name__ in core_pairs()
    function = case.function
    documented = sections(function)
    names = list(inspect.signature(function).parameters)
    passed = {**dict(zip(names, case.inputs, strict=False)), **case.settings}
    sizes = {"nearest": case.settings["nearest"]} if "nearest" in case.settings else {}
    checked = 0
    for name, kind in kinds_of(function):
        if isinstance(passed.get(name), np.ndarray) and SHAPE.search(kind):
            check_written(kind, passed[name].shape, sizes, name)
            checked += 1
    value = forward(case, case.inputs)[0] if is_pair else function(*case.inputs, **case.settings)
    many = ("grads", "bound", "separation")  # not one array each
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
    written = re.findall(r"\b(d\w+) \(([^()]*)\)", returns.partition("grads : ")[2])
    assert not written or [name for name, _ in written] == [d for d in grads if not isinstance(grads[d], tuple)]
    for name, shape in written:
        if grads[name] is not None:
            check_written(f"({shape})", grads[name].shape, sizes, name)
    return len(written)
