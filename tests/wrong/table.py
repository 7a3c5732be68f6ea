"""Print the confusion table into docs/oracle.md: ``PYTHONPATH=.:tests python tests/wrong/table.py``.

In:  every case of `wrong.cases`.
Out: for each mistake, how often it was tried and what the oracle said.
"""

import sys
from collections import Counter
from pathlib import Path

from refcl.oracle import check
from wrong.cases import Case, descendant_cases, numpy_cases, torch_cases

PAGE = Path(__file__).resolve().parents[2] / "docs" / "oracle.md"
BEGIN, END = "<!-- tests/wrong/table.py writes from here -->", "<!-- to here -->"


def judged(cases: list[Case]) -> list[tuple[Case, str]]:
    """Return each case with the verdict that it got."""
    return [(case, check(case.candidate, case.loss, **case.settings).verdict) for case in cases]


def table(verdicts: list[tuple[Case, str]]) -> str:
    """Return the table in Markdown, and what it comes to."""
    rows: dict[str, Counter[str]] = {}
    tried: dict[str, Counter[str]] = {}
    for case, verdict in verdicts:
        rows.setdefault(case.expected, Counter())[verdict] += 1
        tried.setdefault(case.expected, Counter())[case.library] += 1
    lines = ["| it is | tried in NumPy | in PyTorch | the oracle says |", "|---|---|---|---|"]
    for expected in sorted(rows, key=lambda name: (name != "correct", " + " in name, name)):
        said = ", ".join(f"{verdict} {count}" for verdict, count in rows[expected].most_common())
        lines.append(f"| {expected} | {tried[expected]['numpy']} | {tried[expected]['torch']} | {said} |")
    lines += [
        "",
        "| loss | wrong ones | detected | named right | right ones | called correct |",
        "|---|---|---|---|---|---|",
    ]
    for loss in dict.fromkeys(case.loss for case, _ in verdicts):
        of_loss = [(case, verdict) for case, verdict in verdicts if case.loss == loss]
        bad = [(case, verdict) for case, verdict in of_loss if case.expected != "correct"]
        good = [verdict for case, verdict in of_loss if case.expected == "correct"]
        found = sum(verdict not in ("correct", "not judged") for _, verdict in bad)
        right_name = sum(verdict == case.expected for case, verdict in bad)
        lines.append(f"| {loss} | {len(bad)} | {found} | {right_name} | {len(good)} | {good.count('correct')} |")
    wrong = [(case, verdict) for case, verdict in verdicts if case.expected != "correct"]
    right = [(case, verdict) for case, verdict in verdicts if case.expected == "correct"]
    detected = sum(verdict not in ("correct", "not judged") for _, verdict in wrong)
    named = sum(verdict == case.expected for case, verdict in wrong)
    misnamed = sum(verdict not in (case.expected, "unknown", "correct", "not judged") for case, verdict in wrong)
    alarms = sum(verdict != "correct" for _, verdict in right)
    lines += [
        "",
        f"Of {len(wrong)} wrong implementations {detected} are detected, {named} named right and {misnamed} named "
        f"wrongly; of {len(right)} right ones {alarms} {'is' if alarms == 1 else 'are'} called wrong.",
    ]
    return "\n".join(lines)


def with_table(page: str, text: str) -> str:
    """Return a page with the table between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        with_table(page, table(judged([*numpy_cases(), *descendant_cases(), *torch_cases()]))), encoding="utf-8"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
