"""The page about the oracle: its blocks for PyTorch and JAX run, and its table is what its program prints."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "oracle.md"
BLOCK = re.compile(r"^```py\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_blocks_of_other_libraries_run(library: str) -> None:
    pytest.importorskip(library, reason="the block is about it")
    blocks = [block for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")) if f"import {library}\n" in block]
    assert len(blocks) == 1
    exec(compile(blocks[0], str(PAGE), "exec"), {})


def test_the_confusion_table_is_up_to_date() -> None:
    """The tests of the mistakes ask for the right name one by one; with these, the table follows from the cases."""
    pytest.importorskip("torch", reason="half of the table is about PyTorch")
    from wrong.cases import descendant_cases, numpy_cases, torch_cases
    from wrong.table import table, with_table

    page = PAGE.read_text(encoding="utf-8")
    cases = [*numpy_cases(), *descendant_cases(), *torch_cases()]
    assert with_table(page, table([(case, case.expected) for case in cases])) == page


def test_the_table_counts_what_goes_wrong() -> None:
    from wrong.cases import Case
    from wrong.table import table

    def case(expected: str) -> Case:
        return Case(expected, "x", "numpy", "nt_xent", abs, {})

    text = table([(case("correct"), "a"), (case("a"), "a"), (case("a"), "b"), (case("a"), "correct")])
    assert "| a | 3 | 0 | a 1, b 1, correct 1 |" in text
    last = text.splitlines()[-1]
    assert last.startswith("Of 3 wrong implementations 2 are detected, 1 named right and 1 named wrongly;")
    assert last.endswith("of 1 right ones 1 is called wrong.")
