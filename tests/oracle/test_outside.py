"""Cases from outside: none crashes, none that is wrong is called correct, and what must be said is said."""

import warnings

import pytest

from oracle.outside import GOOD, PAGE, Came, public, sentences, table, trial, try_public, try_trial, with_table

SHARES = 8
NUMPY_ONLY = (
    "c01",
    "c07",
    "c08",
    "c15",
    "c16",
    "c19",
    "c23",
    "c39",
    "c43",
    "c45",
    "c48",
    "c49",
    "c50",
    "c51",
    "c53",
    "c55",
)


@pytest.mark.parametrize("path", [p for p in public() if p.stem.split("_")[0] in NUMPY_ONLY], ids=lambda p: p.stem)
def test_after_public_reports_in_numpy(path) -> None:
    came = try_public(path)
    assert came.came in GOOD, came.text


def check_promised(rows: list[Came]) -> None:
    """Nothing right is called wrong, nothing wrong correct, nothing crashes, and what must be said is said."""
    assert [row[:4] for row in rows if row.came not in GOOD] == []


def test_the_table_says_what_the_other_tests_hold_to() -> None:
    """With every case as it should be the table follows from their number: the tests below try them one by one."""
    pytest.importorskip("torch", reason="most cases are written in PyTorch")
    pytest.importorskip("jax", reason="some cases are written in JAX")
    good = {"R": "right", "N": "explained", "U": "explained"}
    rows = [Came(case["name"], case["kind"], "", good[case["kind"]], 0.0, "") for case in trial()]
    rows += [Came(path.stem, "P", "", "pass", 0.0, "") for path in public()]
    page = PAGE.read_text(encoding="utf-8")
    assert with_table(page, table(rows)) == page


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
def test_written_blind(share: int) -> None:
    torch = pytest.importorskip("torch", reason="most cases are written in PyTorch")
    pytest.importorskip("jax", reason="some cases are written in JAX")
    torch.set_num_threads(1)
    told = sentences()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = [try_trial(case, told) for case in trial()[share::SHARES]]
    check_promised(rows)


@pytest.mark.slow
def test_after_public_reports() -> None:
    pytest.importorskip("torch", reason="half of the cases are written in PyTorch")
    pytest.importorskip("pytorch_metric_learning", reason="one case is its")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = [try_public(path) for path in public()]
    check_promised(rows)
