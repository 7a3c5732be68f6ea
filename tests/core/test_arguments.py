"""Every error message of the core: what was expected, what came, what to do; alike on every backend."""

import ast
import inspect
import math
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import array_api_strict
import numpy as np
import pytest
from backends import NUMPY, Backend, leaves, map_leaves
from cases import FUNCTION_CASES, ONE_OF_EACH, Case, core_functions, core_modules, core_pairs, in_turn, named

import refcl
from refcl.core import agreement, arguments
from refcl.core.arrays import Library, namespace
from refcl.walk.encoder import he_init


class Wrong(NamedTuple):
    call: str
    error: str  # its kind and its message


def refused(name: str) -> list[Wrong]:
    """Return the calls of a page, which stand in pairs of lines below its first paragraph."""
    page = Path(__file__).with_name(name).read_text(encoding="utf-8").partition("\n\n")[2]
    lines = [line for line in page.splitlines() if line and not line.startswith("#")]
    return [Wrong(*pair) for pair in zip(lines[::2], lines[1::2], strict=True)]


ALIKE, PARTICULAR = refused("refused.txt"), refused("refused_on_the_host.txt")


def half(backend: Backend) -> Any:
    """Return an array in half precision; the standard has none, so that there it is looked like."""
    if backend.xp is not array_api_strict:
        return backend.xp.ones((2, 3), dtype=backend.xp.float16)
    array = backend.array(np.ones((2, 3)))
    looks = {"__eq__": lambda *_: False, "__str__": lambda _: "float16", "__hash__": object.__hash__}
    array._dtype = type("float16", (), looks)()
    return array


def call(wrong: Wrong, backend: Backend) -> Any:
    rng = np.random.default_rng(0)
    names = {
        "ones": lambda *shape: backend.array(np.ones(shape)),
        "array": lambda nested: backend.array(np.array(nested)),
        "half": half(backend) if "half" in wrong.call else None,
        "params": backend.arrays(he_init(rng, (2, 3, 1), batch_norm=True)) if "params" in wrong.call else None,
        "tensor": type("Tensor", (), {"__module__": "torch"})(),
    }
    names |= {"namespace": namespace, "one_library": arguments.one_library, "Library": Library}
    names |= {"np": np, "strict": array_api_strict, "rng": rng, **vars(math)}
    return eval(wrong.call, core_functions() | core_pairs() | names)


def check_refused(wrong: Wrong, backend: Backend) -> None:
    info = np.finfo(backend.dtype)
    kind, _, message = wrong.error.partition(": ")
    said = {"dtype": backend.dtype, "smallest": f"{info.smallest_normal:.1e}", "largest": f"{info.max:.1e}"}
    for name, value in said.items():
        message = message.replace(f"{{{name}}}", value)
    with pytest.raises({"TypeError": TypeError, "ValueError": ValueError}[kind], match=f"^{re.escape(message)}$"):
        call(wrong, backend)


@in_turn("wrong", {"all": ALIKE})
def test_messages_are_alike_on_every_backend(wrong: Wrong, backend: Backend) -> None:
    check_refused(wrong, backend)


@pytest.mark.parametrize("wrong", PARTICULAR, ids=lambda wrong: wrong.call)
def test_messages_of_mixed_libraries_dtypes_and_devices(wrong: Wrong) -> None:
    check_refused(wrong, NUMPY)


# A wrong value of each setting, whichever function has it.
NAN = float("nan")
WRONG: dict[str, list[tuple[Any, type[Exception], str]]] = {
    "sigma": [(0.0, ValueError, "must be > 0")],
    "mass": [(-1.0, ValueError, "must be > 0")],
    "beta": [(-0.5, ValueError, "must be >= 0")],
    "tau_plus": [(-0.1, ValueError, "must be >= 0"), (1, ValueError, "must be < 1, got 1")],
    "alpha": [(-0.1, ValueError, "must be >=? 0")],
    "t": [(0.0, ValueError, "must be > 0")],
    "alignment": [(NAN, ValueError, "must be")],
    "candidates": [("all", ValueError, 'must be "both_views" or "other_view"')],
    "negatives": [("all", ValueError, 'must be "together" or "by_view"'), (np.ones((3, 4)), TypeError, "is float64")],
    "normalizer": [("max", ValueError, 'must be "mean" or "sum"')],
    "form": [("both", ValueError, 'must be "out", "in" or "sum"')],
    "law": [("cubic", ValueError, 'must be "linear" or "power"')],
    "no_positive": [("nan", ValueError, 'must be "zero" or "skip"')],
    "otherwise": [("random", ValueError, 'must be "skip", "easiest" or "hardest"')],
    "penalty": [("hinge", ValueError, 'must be "softplus" or "identity"')],
    "hardest": [(0, ValueError, "as a count must be >= 1"), (True, TypeError, "must be a fraction")],
    "base_temperature": [(0, ValueError, "must be > 0")],
    "reduction": [("median", ValueError, 'must be "mean", "sum" or "none"')],
    "margin": [(-1.0, ValueError, "must be >=? 0")],
    "label_smoothing": [(-0.1, ValueError, "must be >= 0"), (1, ValueError, "must be < 1, got 1")],
    "angular_margin": [(-0.1, ValueError, "must be >= 0"), ("wide", TypeError, "must be a number")],
    "counted": [(np.ones((3, 4)), TypeError, "is float64")],
    "stabilizer": [(-1.0, ValueError, "must be >= 0")],
    "eps": [(-1.0, ValueError, "must be > 0"), (0.0, ValueError, "must be > 0")],
    "normalize": [("yes", TypeError, "must be True or False")],
    "detach": [(1, TypeError, "must be True or False")],
    "add_views": [(0, TypeError, "must be True or False")],
    "ignore": [(np.ones((3, 4)), TypeError, "is float64"), (np.zeros((3, 4), dtype=int), TypeError, "is int64")],
    "positive": [(np.ones(3), TypeError, "is float64"), (np.array([[0]]), ValueError, "must have shape")],
    "apart": [(np.ones((3, 4)), TypeError, "is float64")],
    "positives": [(np.ones((3, 4)), TypeError, "is float64")],
    "labels": [(np.ones(3), TypeError, "is float64")],
    "entropy": [(-1.0, ValueError, "must be > 0")],
}
# The pool of `decoupled` is chosen by a word; in the rooms, negatives are a mask.
OF_WORDS = ("dcl", "dclw")
BEHIND_A_DOOR = [*ONE_OF_EACH, *{case.function.__name__: case for case in reversed(FUNCTION_CASES)}.values()]


@pytest.mark.parametrize("case", BEHIND_A_DOOR, ids=named)
def test_a_function_says_its_own_name_and_its_caller_s_words(case: Case) -> None:
    """Not the name of the room in which the walk came to a halt; of every setting and of every argument it has."""
    name, asked = case.function.__name__, 0
    parameters = inspect.signature(case.function).parameters.values()
    for setting in sorted({p.name for p in parameters if p.kind is p.KEYWORD_ONLY} & set(WRONG)):
        for wrong, error, message in WRONG[setting]:
            if setting == "negatives" and isinstance(wrong, str) is not (name in OF_WORDS):
                continue
            asked += 1
            with pytest.raises(error, match=f"^{name}: {setting} {message}"):
                case.function(*case.inputs, **{**case.settings, setting: wrong})
    for position, x in enumerate(case.inputs):
        if isinstance(x, np.ndarray) and (name, position) != ("tolerance", 1):  # whose labels are integers
            asked += 1
            wrong = NAN if x.ndim == 0 else x.astype("int64")
            with pytest.raises((TypeError, ValueError), match=rf"^{name}: \w+ (is int64|must be .*finite, got nan)"):
                case.function(*case.inputs[:position], wrong, *case.inputs[position + 1 :], **case.settings)
    assert asked


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=named)
def test_every_pair_refuses_integers_in_each_of_its_arrays(case: Case) -> None:
    arrays = list(leaves(case.inputs))
    for position in range(len(arrays)):
        rest = [x.astype("int64") if p == position else x for p, x in enumerate(arrays)]
        inputs = map_leaves(lambda _, rest=rest: rest.pop(0), case.inputs)  # type: ignore[misc]
        with pytest.raises(TypeError, match="is int64"):
            case.function.forward(*inputs, **case.settings)


def test_settings_of_the_host_are_looked_at_and_arrays_are_not() -> None:
    """What a 0-d array holds would have to be fetched from a device: NaN in, NaN out."""
    s = np.array([[0.5, 0.25]])
    loss, grads = refcl.softmax_contrastive(s, np.array(np.nan))
    assert np.isnan(loss)
    assert np.isnan(grads.dtemperature)


@pytest.mark.parametrize("temperature", [np.float32(0.5), np.float64(0.5), 0.5, np.int64(2), 2], ids=repr)
def test_numbers_of_any_kind_are_taken(temperature: Any, backend: Backend) -> None:
    of = agreement.Call("f", backend.xp, backend.array(np.ones(1)), {})
    value = arguments.positive_scalar(of, "temperature", temperature)
    assert backend.owns(value)
    assert value.dtype == backend.array(np.ones(1)).dtype
    assert backend.host(value) == temperature


@pytest.mark.parametrize("value", [1e-50, 1e50, 10**400], ids=["tiny", "huge", "no float at all"])
def test_a_temperature_must_be_a_number_of_its_dtype(value: Any) -> None:
    a = np.ones((2, 2), dtype=np.float32)
    with pytest.raises(
        ValueError, match=r"^info_nce: temperature must be (between 1\.2e-38 and 3\.4e\+38|> 0 and fin)"
    ):
        refcl.info_nce(a, a, value)
    with pytest.raises(ValueError, match=r"^sig_lip: bias must be (at most 3\.4e\+38 in size in float32|finite)"):
        refcl.sig_lip(a, a, 1.0, max(value, 1e50))
    with pytest.raises(ValueError, match=r"^info_nce: eps must be > 0 and finite"):
        refcl.info_nce(a, a, eps=10**400)


def test_what_agreed_is_remembered_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    agreed: dict[Any, Any] = {}
    monkeypatch.setattr(agreement, "_AGREED", agreed)
    monkeypatch.setattr(agreement, "_MOST_AGREED", 2)
    for n in (1, 2, 3, 1, 3):
        assert agreement.floats("f", [("x", "N D", np.ones((n, 2))), ("y", "N", np.ones(n))]).xp is np
        assert len(agreed) <= 2
        with pytest.raises(ValueError, match="must agree on N"):
            agreement.floats("f", [("x", "N D", np.ones((n, 2))), ("y", "N", np.ones(n + 1))])


OF_GUESTS = {"_ask_tensors", "_functions", "to_host"}  # tests/arrays has what only PyTorch and JAX can get wrong


def raises_in(path: Path) -> dict[int, str]:
    """Return the lines on which a file raises, each with the first line of its statement."""
    found: dict[int, str] = {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    elsewhere = {id(node) for function in functions if function.name in OF_GUESTS for node in ast.walk(function)}
    for node in ast.walk(tree):
        if id(node) in elsewhere:
            continue
        what = getattr(getattr(node, "exc", None), "func", None)
        if isinstance(node, ast.Raise) and getattr(what, "id", "") != "AssertionError":  # which says: never reached
            where = f"{path.name}:{node.lineno}"
            found |= dict.fromkeys(range(node.lineno, (node.end_lineno or node.lineno) + 1), where)
    return found


def test_every_raise_of_the_core_has_a_row_here() -> None:
    files = {Path(module.__file__ or "") for module in core_modules()}
    lines = {(str(path), line): where for path in files for line, where in raises_in(path).items()}
    reached = set()
    for wrong in [*ALIKE, *PARTICULAR]:
        try:
            call(wrong, NUMPY)
        except (TypeError, ValueError):
            trace = sys.exc_info()[2]
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            assert trace is not None
            reached.add(lines.get((trace.tb_frame.f_code.co_filename, trace.tb_lineno)))
    assert set(lines.values()) - reached == set()


def test_a_count_of_the_hardest_is_no_float() -> None:
    of = agreement.Call("f", np, np.ones(1), {})
    assert arguments.hardest(of, "hardest", np.int64(3)) == 3
    assert type(arguments.hardest(of, "hardest", np.int64(3))) is int
    assert type(arguments.hardest(of, "hardest", np.float64(0.5))) is float
