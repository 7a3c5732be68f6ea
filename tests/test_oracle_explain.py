"""explain_value: values at which real trainings stood still, and what they mean."""

import math

import numpy as np
import pytest

import refcl
from refcl.oracle import explain_value


@pytest.mark.parametrize(
    ("loss", "n", "temperature", "formula"),
    [
        (8.909, 256, 0.1, "ln(2N-1) × τ/0.07"),
        (6.93, 512, None, "ln(2N-1)"),
        (math.log(31), 16, 0.5, "ln(2N-1)"),
        (math.log(16), 16, 0.5, "ln N"),
        (math.log(32), 16, 0.5, "ln(2N)"),
        (2 * math.log(31), 16, 0.5, "ln(2N-1) × 2"),
        (math.log2(16), 16, 0.07, "ln N / ln 2"),
        (16 * math.log(16), 16, 0.3, "ln N × N"),
    ],
)
def test_known_values(loss: float, n: int, temperature: float | None, formula: str) -> None:
    found = explain_value(loss, n, temperature)
    assert formula in [e.formula for e in found]
    assert abs(found[0].value - loss) <= max(5e-4 * loss, 0.005)
    assert "=" in str(found[0])


def test_a_collapse_has_this_value() -> None:
    collapsed = np.ones((8, 3))
    loss, _ = refcl.nt_xent(collapsed, collapsed, 0.2)
    assert explain_value(float(loss), 8, 0.2)[0].formula == "ln(2N-1)"
    loss, _ = refcl.info_nce(collapsed, collapsed, 0.2)
    assert explain_value(float(loss), 8, 0.2)[0].formula == "ln N"


def test_what_means_nothing_gets_no_meaning() -> None:
    (only,) = explain_value(1.2345678, 64, 0.2)
    assert "of the way from collapse" in only.meaning
    assert "ln(2N-1) = 4.844" in only.formula


def test_a_tolerance_can_be_given() -> None:
    assert explain_value(4.84, 64, tolerance=0.01)[0].formula == "ln(2N-1)"
    (only,) = explain_value(4.84, 64, tolerance=1e-6)
    assert only.formula == "100% of ln(2N-1) = 4.844"


def test_the_other_end_and_what_lies_below() -> None:
    assert explain_value(0.2395, 2, 0.5)[0].formula == "ln(1 + (2N-2) exp(-1/τ))"
    assert "twice in the batch" in explain_value(0.6931, 64, 0.05)[0].meaning
    (only,) = explain_value(-5.1, 64, 0.1)
    assert "decoupled" in only.meaning


@pytest.mark.parametrize(
    ("loss", "n", "temperature", "sentence"),
    [
        (math.nan, 4, None, "loss must be finite"),
        (1.0, 0, None, "n must be >= 1"),
        (1.0, 4, -1.0, "temperature must be > 0"),
    ],
)
def test_what_makes_no_sense_is_refused(loss: float, n: int, temperature: float | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        explain_value(loss, n, temperature)


@pytest.mark.parametrize(
    ("loss", "said"),
    [(6.2383, "ln(8 N): 512 candidates: 8 rows"), (5.54908, "ln(1 + 256): 257 candidates: the positive")],
)
def test_another_number_of_candidates(loss: float, said: str) -> None:
    """Several passages a query, or a queue: a value that is the logarithm of their number."""
    assert said in str(explain_value(loss, 64)[0])
    assert said not in str(explain_value(loss + 0.01, 64)[0])
