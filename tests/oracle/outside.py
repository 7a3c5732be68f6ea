"""Cases from outside: try them, and print what came: ``PYTHONPATH=.:tests python tests/oracle/outside.py [pattern]``.

In:  tests/oracle/cases: ``public`` (made after public reports) and ``trial`` (written blind, with a verdict).
Out: a line a case, and a table; without a pattern, the table is written into docs/oracle.md. They need PyTorch and JAX;
"c21" needs pytorch-metric-learning.
"""

import importlib
import importlib.util
import json
import re
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent / "cases"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "oracle.md"
BEGIN, END = "<!-- tests/oracle/outside.py writes from here -->", "<!-- up to here -->"
WORDS = {"R": "right", "N": "with a name", "U": "without one", "P": "after public reports"}
GOOD = ("right", "explained", "pass")
NOISE = ("  compared", "  failed on", "  on ", "  File", "    return", "    ^")


class Came(NamedTuple):
    """What came of one case."""

    name: str
    kind: str
    verdict: str
    came: str
    seconds: float
    text: str


def trial() -> list[dict[str, Any]]:
    """Return the cases of the trial."""
    sys.path.insert(0, str(HERE / "trial"))
    try:
        for name in ("right", "named", "unlisted", "more", "second"):
            importlib.import_module("cases_" + name)
        return list(importlib.import_module("registry").CASES)
    finally:
        sys.path.remove(str(HERE / "trial"))


def try_trial(case: dict[str, Any], sentences: dict[str, Any]) -> Came:
    """Check one case of the trial."""
    from refcl.oracle import check, world

    start = time.perf_counter()
    try:
        f = case["f"]() if case["how"] == "build" else case["f"]
        f = case["wrap"](f) if case["wrap"] else f
        report = (world if case["how"] == "world" else check)(f, case["loss"], **case["settings"])
        verdict, text = report.verdict, str(report)
    except Exception as error:
        verdict, text = f"RAISED {type(error).__name__}", traceback.format_exc()
    told = sentences.get(case["name"], {"pattern": r"(?!)", "names": []})
    fair = verdict in (case["expected"], *case["also"], *told["names"]) and verdict != "unknown"
    says = bool(re.search(told["pattern"], text, re.IGNORECASE | re.DOTALL))
    if case["kind"] == "R":
        came = "right" if verdict == "correct" or fair else "false alarm"
    elif verdict.startswith("RAISED"):
        came = "crash"
    elif verdict == "correct":
        came = "called correct"
    elif verdict in ("unknown", "not judged"):
        came = "explained" if verdict == "not judged" and says else verdict
    elif fair or (case["kind"] == "U" and says):
        came = "explained"
    else:
        came = "differs, not in what" if verdict == "differs" else "wrong name"
    return Came(case["name"], case["kind"], verdict, came, time.perf_counter() - start, text)


def public() -> list[Path]:
    """Return the files of the cases after public reports."""
    return sorted((HERE / "public").glob("c[0-9]*.py"))


def try_public(path: Path) -> Came:
    """Try one case after a public report."""
    from refcl.oracle import check, explain_value, gradcheck, world

    start = time.perf_counter()
    ok = raised = False
    wrong = None
    sys.path.insert(0, str(HERE / "public"))
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        case: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(case)
        wrong, pattern = getattr(case, "WRONG", None), case.EXPECTED
        if case.TOOL in ("check", "world"):
            report = (check if case.TOOL == "check" else world)(case.candidate, case.LOSS, **case.SETTINGS)
            verdict, text, ok = report.verdict, str(report), report.ok
            lines = text.splitlines()[0 if verdict == "not judged" else 1 :]
            said = "\n".join([verdict, *(x for x in lines if not x.startswith(NOISE))])
        elif case.TOOL == "gradcheck":
            found = gradcheck(case.PAIR, *case.INPUTS)
            ok, text, verdict = found.ok, str(found), "ok" if found.ok else "WRONG"
            said = text
        else:
            answers = explain_value(*case.ARGS)
            verdict = str(answers[0]) if answers else "(nothing)"
            text = said = "\n".join(map(str, answers))
    except Exception as error:
        raised, verdict, text, said, pattern = (
            True,
            f"RAISED {type(error).__name__}",
            traceback.format_exc(),
            "",
            "(?!)",
        )
    finally:
        sys.path.remove(str(HERE / "public"))
    helpful = not raised and bool(re.search(pattern, verdict + "\n" + said, re.IGNORECASE | re.DOTALL))
    if raised:
        came = "crash"
    elif wrong is False:
        came = "pass" if verdict == "correct" or ok else "false alarm"
    elif wrong is True and ok:
        came = "called correct"
    else:
        came = "pass" if helpful else "no help"
    return Came(path.stem, "P", verdict, came, time.perf_counter() - start, text)


def sentences() -> dict[str, Any]:
    """Return, for each case without a name, what a report must say of it."""
    return dict(json.loads((HERE / "trial" / "sentences.json").read_text(encoding="utf-8")))


def table(rows: list[Came]) -> str:
    """Return in Markdown how the cases fared."""
    lines = ["| cases | tried | came |", "|---|---|---|"]
    for kind, words in WORDS.items():
        count = Counter(row.came for row in rows if row.kind == kind)
        if count:
            said = ", ".join(f"{what} {n}" for what, n in count.most_common())
            lines.append(f"| {words} | {sum(count.values())} | {said} |")
    return "\n".join(lines)


def with_table(page: str, text: str) -> str:
    """Return a page with the table between its marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}"


def main() -> int:
    """Print a line a case, and the table."""
    pattern = sys.argv[1] if len(sys.argv) > 1 else ""
    warnings.simplefilter("ignore")
    told, rows = sentences(), []
    for case in trial():
        if pattern in case["name"]:
            rows.append(try_trial(case, told))
            print(
                f"{rows[-1].kind} {rows[-1].name:36s} {rows[-1].verdict:40s} {rows[-1].came}  {rows[-1].seconds:.1f} s",
                flush=True,
            )
    for path in public():
        if pattern in path.stem:
            rows.append(try_public(path))
            print(
                f"P {rows[-1].name:44s} {rows[-1].verdict[:60]:60s} {rows[-1].came}  {rows[-1].seconds:.1f} s",
                flush=True,
            )
    print(table(rows))
    if not pattern:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), table(rows)), encoding="utf-8")
    seconds = sorted(row.seconds for row in rows)
    if seconds:
        print(f"\nseconds a check: median {seconds[len(seconds) // 2]:.2f}, worst {seconds[-1]:.2f}")
    return 0 if all(row.came in GOOD for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
