"""Tests of the tests, and of what holds the house together: imports go one way, and comparisons compare."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import NUMPY, check_near, check_same_bits
from calls import given, run, weighed
from cases import ONE_OF_EACH, PAIR_CASES, Case, core_modules, named
from differences import along, check_against, check_gradient, derivative, gradient, noise

import refcl

HERE = Path(__file__).parent
TESTS = sorted(HERE.rglob("test_*.py"))
CORE = sorted({Path(module.__file__ or "") for module in core_modules()})


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions_that_test(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node


def asserts(function: ast.AST) -> bool:
    """Tell whether a function asserts: a statement, pytest.raises, or a helper named check_ or assert_."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("raises", "warns", "fail") or name.startswith(("check_", "assert_")):
                return True
    return False


def idle_comparisons(tree: ast.AST) -> list[int]:
    """Return the lines of comparisons, and of calls that only tell, whose result nobody looks at."""
    tells = ("allclose", "isclose", "array_equal", "all", "any", "equal")
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            name = getattr(getattr(node.value, "func", None), "attr", "")
            if isinstance(node.value, ast.Compare | ast.BoolOp | ast.UnaryOp) or name in tells:
                lines.append(node.lineno)
    return lines


def draws_in_turn(tree: ast.Module) -> list[int]:
    """Return the lines in functions that draw from the whole file's generator: who comes first gets other numbers."""
    shared = {
        name.id
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(getattr(node.value, "func", None), "attr", "") == "default_rng"
        for name in node.targets
        if isinstance(name, ast.Name)
    }
    lines = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            # Its body only: decorators run once, on import.
            names = [node for part in function.body for node in ast.walk(part) if isinstance(node, ast.Name)]
            own = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
            own |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
            lines |= {name.lineno for name in names if name.id in shared - own}
    return sorted(lines)


def in_tests(look: Callable[[ast.Module], Any]) -> list[tuple[str, Any]]:
    """Return what is found in the files of tests: the file, and a line or a name."""
    return [(str(path.relative_to(HERE)), found) for path in TESTS for found in look(parsed(path))]


def test_every_test_asserts() -> None:
    assert in_tests(lambda tree: [f.name for f in functions_that_test(tree) if not asserts(f)]) == []


def test_no_comparison_is_idle() -> None:
    assert in_tests(idle_comparisons) == []


def test_no_test_s_numbers_depend_on_another_s() -> None:
    assert in_tests(draws_in_turn) == []


def always_true(tree: ast.Module) -> list[int]:
    """Return the lines that assert a constant, or a tuple, which is true whatever it holds."""
    asserted = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    return [node.lineno for node in asserted if isinstance(node.test, ast.Constant | ast.Tuple)]


def test_no_assertion_is_always_true() -> None:
    assert in_tests(always_true) == []


def test_no_name_is_used_twice() -> None:
    """The second would hide the first, which would never run."""
    names = Counter(in_tests(lambda tree: [function.name for function in functions_that_test(tree)]))
    assert [name for name, count in names.items() if count > 1] == []


def test_the_walks_over_the_tests_see_what_they_look_for() -> None:
    bad = ast.parse("def test_a():\n    x = 1\n    x == 1\n    numpy.allclose(x, 1)\n    not x")
    assert not asserts(bad)
    assert idle_comparisons(bad) == [3, 4, 5]
    shared = "RNG = np.random.default_rng(0)\nX = RNG.random(3)\n"
    assert draws_in_turn(ast.parse(shared + "def f():\n    return RNG.random(3)")) == [4]
    assert always_true(ast.parse("assert (x, 1)\nassert 'x'\nassert x")) == [1, 2]
    assert draws_in_turn(ast.parse(shared + "def f(RNG):\n    return X + RNG.random(3)")) == []
    good = "def test_a():\n    assert x == 1", "def test_b():\n    check_near(x, 1)", "with pytest.raises(E):\n    f()"
    assert all(asserts(ast.parse(text)) and not idle_comparisons(ast.parse(text)) for text in good)


# Faults that a check must find: what it makes of a right gradient.
FAULTS: dict[str, Callable[[Any], Any]] = {
    "a part in a thousand too large": lambda g: g * 1.001,
    "a part in a million too large": lambda g: g * (1 + 1e-6),
    "zero": lambda g: g * 0.0,
    "doubled": lambda g: g * 2.0,
    "turned over": lambda g: -g,
}


def spoilt(tree: Any, fault: Callable[[Any], Any]) -> Any:
    return tuple(spoilt(branch, fault) for branch in tree) if isinstance(tree, tuple) else fault(tree)


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=named)
def test_planted_faults_are_found(case: Case) -> None:
    """In the gradient by each argument, one at a time, of every pair."""
    _, grads, upstream = run(case, NUMPY)
    function, inputs = weighed(case, upstream), given(case)
    numeric, rounding = gradient(function, inputs, step=case.step), noise(function, inputs, step=case.step)
    check_against(grads, numeric, rounding)
    for position in range(len(grads)):
        for fault in FAULTS.values():
            wrong = tuple(spoilt(g, fault) if p == position else g for p, g in enumerate(grads))
            with pytest.raises(AssertionError, match=f"gradient {position} is off by"):
                check_against(wrong, numeric, rounding)


def test_a_loss_that_forgets_the_temperature_is_found() -> None:
    """The value right, the gradient by s not divided by τ."""
    case = next(case for case in PAIR_CASES if case.name == "softmax_contrastive-diagonal")
    _, (ds, dtemperature, *_), upstream = run(case, NUMPY)
    with pytest.raises(AssertionError, match="gradient 0 is off by"):
        check_gradient((ds * 0.2, dtemperature), weighed(case, upstream), given(case), step=case.step)


def test_differences_are_exact_for_polynomials_of_degree_four() -> None:
    assert abs(derivative(lambda x: 3 + 2 * x - x**2 + 5 * x**3 + x**4, 0.1) - 2) < 1e-12
    assert abs(derivative(lambda x: x**5, 0.1)) > 1e-5


def test_differences_walk_nested_inputs() -> None:
    inputs = (np.array([1.0, 2.0]), ((np.array(3.0), np.array([[4.0]])), ()))

    def product(tree: Any) -> float:
        (x, ((y, z), _)) = tree
        return float(x.sum() * y * z[0, 0])

    got = gradient(product, inputs, step=1e-3)
    check_near(got, (np.array([12.0, 12.0]), ((np.array(12.0), np.array([[9.0]])), ())), rtol=1e-11)
    direction = (np.array([1.0, 0.0]), ((np.array(2.0), np.array([[0.0]])), ()))
    check_near(along(product, inputs, direction, step=1e-3), 36.0, rtol=1e-11)


def test_nearness_is_relative_and_zeros_do_not_pass() -> None:
    want = np.array([1e-30, 2e-30])
    check_near(want * (1 + 1e-9), want, rtol=1e-8)
    for wrong in (want * 0, want * 2, want * 1.001, -want, want[::-1]):
        with pytest.raises(AssertionError, match="off by"):
            check_near(wrong, want, rtol=1e-8)
    with pytest.raises(AssertionError):
        check_near(np.array([np.nan]), np.array([1.0]), rtol=1.0)
    with pytest.raises(AssertionError):
        check_near(np.array([np.nan]), np.array([np.nan]), rtol=1.0)
    with pytest.raises(AssertionError):
        check_near(np.ones(2), np.ones(3), rtol=1.0)


def test_same_bits_sees_the_sign_of_zero_and_the_dtype() -> None:
    check_same_bits(np.array([0.0]), np.array([0.0]))
    for other in (np.array([-0.0]), np.array([0.0], dtype=np.float32), np.array([5e-324])):
        with pytest.raises(AssertionError):
            check_same_bits(np.array([0.0]), other)


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_core_imports_neither_outer_wing() -> None:
    wings = ("refcl.experiment", "refcl.oracle")
    assert [(path.name, name) for path in CORE for name in imported(path) if name.startswith(wings)] == []


@pytest.mark.parametrize("wing", ["experiment", "oracle"])
def test_the_outer_wings_do_not_import_each_other(wing: str) -> None:
    other = "refcl.oracle" if wing == "experiment" else "refcl.experiment"
    files = (Path(refcl.__file__).parent / wing).rglob("*.py")
    assert [path.name for path in files if any(name.startswith(other) for name in imported(path))] == []


def test_only_the_door_names_array_libraries() -> None:
    libraries = {"numpy", "cupy", "array_api_strict", "torch", "jax"}
    named_in = {path.name for path in CORE if {name.partition(".")[0] for name in imported(path)} & libraries}
    assert named_in == {"agreement.py", "arguments.py", "arrays.py"}


def test_the_core_calls_nothing_that_reads_an_array_on_the_host() -> None:
    """The backends' fixture bans it while the core runs; this finds what no test runs. Settings are exempt."""
    of_the_host = {"agreement.py", "arguments.py", "arrays.py"}
    inside = {"temperature_for_entropy", "_solve", "uniform_law_uniformity", "_core_is_a_view", "_negatives_at_most"}
    found = []
    for path in CORE:
        tree = parsed(path)
        allowed = {
            id(node)
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef) and function.name in inside
            for node in ast.walk(function)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or id(node) in allowed or path.name in of_the_host:
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in {"float", "int", "complex", "item", "tolist", "to_host", "nonzero"}:
                found.append(f"{path.name}:{node.lineno} {name}")
    assert found == []


def loaded_by(statement: str) -> set[str]:
    """Return the libraries that a fresh Python has loaded after a statement."""
    program = f"import sys; {statement}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_refcl_loads_nothing_heavy() -> None:
    heavy = {"scipy", "matplotlib", "cupy", "tqdm", "threadpoolctl", "torch", "jax", "mpmath"}
    assert loaded_by("import refcl") & heavy == set()
    assert "scipy" in loaded_by("import refcl, scipy")


def test_calling_a_loss_loads_nothing_heavy() -> None:
    call = "import numpy, refcl; refcl.info_nce(numpy.eye(3)[:, :2], numpy.eye(3)[:, :2])"
    assert loaded_by(call) & {"scipy", "matplotlib", "cupy", "tqdm", "threadpoolctl"} == set()
