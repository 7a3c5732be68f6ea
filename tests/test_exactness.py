"""What docs/exactness.md says is what the program measures, and within the bound."""

import sys

import exactness
import numpy as np
import pytest
from backends import EPS
from digits import check_all_exact, check_exact
from mpmath import mpf


@pytest.mark.parametrize("dtype", exactness.DTYPES)
@pytest.mark.parametrize("sizes", [(2, 33), pytest.param(exactness.SIZES, marks=pytest.mark.slow)], ids=str)
def test_every_quantity_is_within_the_bound(sizes: tuple[int, ...], dtype: str) -> None:
    table, _ = exactness.measure(sizes, dtypes=(dtype,))
    assert {loss for loss, _ in table} >= {"softmax", "hard softmax", "DCL form", "simple", "triplet", "uniformity"}
    for (loss, quantity), by_dtype in table.items():
        worst = by_dtype[dtype]
        assert worst.count > 8, f"{loss}: {quantity} was hardly measured"
        assert worst.of_bound <= 1, f"{loss}: {quantity}, {worst.where}: {worst.of_bound} of the bound"


def test_an_error_beyond_the_bound_would_be_seen() -> None:
    worst = exactness.Worst("float64")
    worst.add(exactness.Measured(1 + 5 * worst.eps, mpf(1), mpf(1), 0.0), 1.0, "here")
    assert worst.of_bound == pytest.approx(1.25)
    worst.add(exactness.Measured(0.0, mpf(1), mpf(1), 100.0), 1.0, "there")
    assert worst.of_bound > 1e12
    assert worst.where == "there, τ = 1"
    worst.add(exactness.Measured(float("nan"), mpf(1), mpf(1), 0.0), 1.0, "nowhere")
    assert worst.of_bound == float("inf")
    assert worst.count == 3


@pytest.mark.parametrize("name", exactness.MODULES)
def test_a_library_s_errors_stand_beside(name: str) -> None:
    pytest.importorskip(exactness.MODULES[name])
    _, others = exactness.measure((2,), (name,))
    eps = float(np.finfo("float64").eps)
    for quantity in ("loss", "ds", "dτ"):
        worst = others[name]["softmax", quantity]["float64"]
        assert worst.count > 8
        assert worst.in_eps * eps >= 0.99, "nothing is left where the positive dominates"


def test_a_library_that_is_missing_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in exactness.MODULES.values():
        monkeypatch.setitem(sys.modules, module, None)
    assert exactness.installed() == {}
    made = exactness.tables((2,))
    _, _, first, *_, balance, _, _ = made["bound"].splitlines()
    assert first.count("| not installed ") == 4
    assert "not installed" not in balance
    assert "JAX" not in made["dominated-float64"]


def test_a_cross_entropy_loses_what_the_gap_keeps() -> None:
    head, lines = exactness.errors_where_the_positive_dominates("float64")
    by_temperature = {line[0]: dict(zip(head[2:], map(float, line[2:]), strict=False)) for line in lines}
    assert by_temperature["0.01"]["refcl: loss"] < 1e-14
    for name in head[4::2]:
        assert by_temperature["0.01"][name] == 1.0
        assert by_temperature["0.07"][name] > 1e-13


def test_what_underflows_is_subnormal_or_zero() -> None:
    """The bound of normal numbers holds on, but for one step of the last digit that is left."""
    for temperature, want, got in exactness.smallest():
        bound = 4 * EPS["float64"] * (1 + 1 / temperature) * want
        assert abs(mpf(got) - want) <= bound + mpf(2) ** -1074
    assert exactness.smallest()[-1][2] == 0


def test_the_page_holds_the_tables_of_the_program() -> None:
    page = exactness.PAGE.read_text(encoding="utf-8")
    made = exactness.tables((2,))
    assert exactness.written(page, made) != page, "the page holds the whole run, not this small one"
    first_columns = [line.split("|")[1:3] for line in made["bound"].splitlines()]
    bound = page.partition("<!-- bound -->\n")[2].partition("\n<!-- end -->")[0]
    assert [line.split("|")[1:3] for line in bound.splitlines()] == first_columns
    for line in bound.splitlines()[2:]:
        _, _, _, _, wide, _, _, _, narrow, *_ = line.split("|")
        assert float(wide) <= 1
        assert float(narrow) <= 1


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="must have one place for the table bound, has 0"):
        exactness.written("nothing here", {"bound": "| |"})


def test_the_checker_of_the_losses_sees_an_error_of_twice_the_bound() -> None:
    want = mpf(1) / 3
    check_exact(float(want) * (1 + 3 * EPS["float64"]), want, want, 0.0, "near")
    for wrong in (float(want) * (1 + 8 * EPS["float64"]), 0.0):
        with pytest.raises(AssertionError, match="off by"):
            check_exact(wrong, want, want, 0.0, "far")
        with pytest.raises(AssertionError, match=r"ds\[1\]: .* off by"):
            check_all_exact((float(want), [float(want), wrong]), (want, [want, want]), (None, None), 0.0)
