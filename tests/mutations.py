"""Break the mathematics one expression at a time, and see whether a test notices.

    python tests/mutations.py --jobs 2 --json mutations.json

In:  the table at the end of this file: a function, an expression in it and what to write there instead.
Out: for each whether it was caught, which test was the first to fail, or that the expression was not found. Run by
hand, never by pytest; the checkout itself is not written to: each process breaks a copy of its own.

A function is looked for by its name in all of ``refcl/``; where none of its names holds the expression, the expression
is looked for by itself, and taken where it stands only once. So files may move and functions be renamed. An expression
that was reworded is reported as not found: write it anew in its row.

Tests are asked in two stages. ``fast``, about one mutation at a time: the test file that is named after the broken file
or function, and those named like ``--fast``. ``whole``, the whole suite, about all that is left at once; the tests that
fail are then asked about each alone. Nothing counts as caught by a test that fails while nothing is broken. ``--json``
is written as results come, and ``--resume`` goes on from there.
"""

import argparse
import ast
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tokenize
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import count, repeat
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

STAGES = {"fast": 900.0, "whole": 7200.0}  # seconds until tests count as hanging
LEFT_BEHIND = (".git", ".venv", "venv", "build", "dist", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis")
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no")
MOST_FAILURES = 100  # that the whole suite collects before it stops
# "unclear": what failed fails anyway. "ambiguous": the expression stands in several places.
KINDS = ("found", "untried", "caught", "survived", "hung", "unclear", "not found", "ambiguous")
FUNCTIONS = ast.FunctionDef | ast.ClassDef


class Mutation(NamedTuple):
    where: str  # function or class, or several names it may have: "this|that"
    text: str  # of the expression; white space does not matter
    instead: str


class Place(NamedTuple):
    path: Path  # in the checkout
    function: str
    start: int  # of the expression in the file
    end: int


class Result(NamedTuple):
    number: int
    where: str
    text: str
    instead: str
    status: str  # of KINDS
    place: str = ""  # file:function
    stage: str = ""  # that caught it, or the last that did not
    by: str = ""  # the first test to fail
    seconds: float = 0.0


class Ran(NamedTuple):
    status: str  # passed, failed or hung
    failed: list[str]  # tests
    output: str


def main() -> int:
    options = parsed()
    checkout = options.checkout.resolve()
    wanted = chosen(options.only)
    places = {number: found(checkout, MUTATIONS[number - 1]) for number in wanted}
    there = {number: place for number, place in places.items() if isinstance(place, Place)}
    for number, place in there.items():
        ast.parse(broken(place, MUTATIONS[number - 1]))
    status = "found" if options.check else "untried"
    results = {
        number: Result(number, *MUTATIONS[number - 1], status, name_of(place, checkout))
        if isinstance(place, Place)
        else Result(number, *MUTATIONS[number - 1], place)
        for number, place in places.items()
    }
    if options.resume:
        earlier = [Result(**result) for result in json.loads(options.json.read_text(encoding="utf-8"))]
        known = {old[1:4]: old for old in earlier}
        for number in there:
            old = known.get(MUTATIONS[number - 1], results[number])
            results[number] = old._replace(number=number)
    if there and not options.check:
        with tempfile.TemporaryDirectory(prefix="mutations-") as home:
            for result in tried(options, checkout, there, results, Path(home)):
                results[result.number] = result
                if options.json:
                    save(options.json, list(results.values()))
    in_order = [results[number] for number in wanted]
    show(["", *table(in_order), "", summary(in_order)])
    if options.compare:
        show(comparison(in_order, json.loads(options.compare.read_text(encoding="utf-8"))))
    if options.json:
        save(options.json, in_order)
    return 0 if all(result.status in ("caught", "found") for result in in_order) else 1


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="WHICH", help="numbers (7), slices (1:50), functions")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default 1)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="default: all of them")
    parser.add_argument("--fast", nargs="+", default=["golden"], metavar="WORD", help="in a file's name (golden)")
    parser.add_argument("--check", action="store_true", help="look for the expressions only")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results there")
    parser.add_argument("--resume", action="store_true", help="take what OUT says already, and ask about the rest")
    parser.add_argument("--compare", type=Path, metavar="EARLIER", help="results of an earlier --json")
    parser.add_argument("--checkout", type=Path, default=Path(__file__).parent.parent, help="default: this one")
    return parser.parse_args()


def chosen(only: Sequence[str]) -> list[int]:
    """Return the numbers of the mutations that were asked for, from 1 on; of all without any word."""
    every = range(1, len(MUTATIONS) + 1)
    numbers = set() if only else set(every)
    for word in only:
        if word.isdigit():
            numbers.add(int(word))
        elif ":" in word:
            first, last = word.split(":")
            numbers.update(every[int(first or 1) - 1 : int(last or len(every))])
        else:
            named = {number for number in every if word in MUTATIONS[number - 1].where}
            if not named:
                raise SystemExit(f"no mutation stands in a function named like {word!r}")
            numbers |= named
    if not numbers <= set(every):
        raise SystemExit(f"mutations have the numbers 1 to {len(every)}")
    return sorted(numbers)


# Looking for an expression


def found(checkout: Path, mutation: Mutation) -> Place | str:
    """Return where the expression stands, or "not found" or "ambiguous"."""
    names = mutation.where.split("|")
    everywhere = [
        Place(path, function, start, end)
        for path in sorted((checkout / "refcl").rglob("*.py"))
        for start, end in occurrences(path, mutation.text)
        for function in [around(path, start)]
    ]
    named = [place for place in everywhere if set(names) & set(place.function.split("."))]
    for places in (named, everywhere):
        if len(places) == 1:
            return places[0]
    return "ambiguous" if everywhere else "not found"


def occurrences(path: Path, text: str) -> list[tuple[int, int]]:
    """Return where an expression stands in the code of a file, comments and docstrings left out."""
    pieces = re.findall(r"\w+|[^\w\s]", text)
    edges = (r"(?<!\w)" if pieces[0][0].isidentifier() else ""), (r"\b" if re.match(r"\w", pieces[-1]) else "")
    pattern = edges[0] + r"\s*".join(map(re.escape, pieces)) + edges[1]
    return [match.span() for match in re.finditer(pattern, code(path))]


_read: dict[Path, tuple[str, str, list[tuple[int, int, str]]]] = {}


def read(path: Path) -> tuple[str, str, list[tuple[int, int, str]]]:
    """Return a file's text, its code, and from where to where each function goes, the outer ones first."""
    if path not in _read:
        text = path.read_text(encoding="utf-8")
        starts = [0]
        for line in text.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        spans = [
            (starts[first[0] - 1] + first[1], starts[last[0] - 1] + last[1])
            for kind, word, first, last, _ in tokenize.generate_tokens(io.StringIO(text).readline)
            if kind == tokenize.COMMENT or (kind == tokenize.STRING and '"""' in word)
        ]
        blank = list(text)
        for start, end in spans:
            blank[start:end] = ["\n" if letter == "\n" else " " for letter in text[start:end]]
        functions = [
            (starts[node.lineno - 1], starts[node.end_lineno or node.lineno], node.name)
            for node in ast.walk(ast.parse(text))
            if isinstance(node, FUNCTIONS)
        ]
        _read[path] = text, "".join(blank), sorted(functions)
    return _read[path]


def code(path: Path) -> str:
    """Return a file's text with spaces in place of comments and docstrings."""
    return read(path)[1]


def around(path: Path, position: int) -> str:
    """Return the names of the functions and classes around a position, the outermost first."""
    return ".".join(name for start, end, name in read(path)[2] if start <= position < end)


def broken(place: Place, mutation: Mutation) -> str:
    """Return the text of the file with the expression replaced."""
    text = read(place.path)[0]
    return text[: place.start] + mutation.instead + text[place.end :]


def name_of(place: Place, checkout: Path) -> str:
    return f"{place.path.relative_to(checkout)}:{place.function}"


# Asking the tests


def tried(
    options: argparse.Namespace, checkout: Path, there: dict[int, Place], results: dict[int, Result], home: Path
) -> Iterator[Result]:
    """Break each expression and yield what became of it, a survivor of the first stage too."""
    copies: SimpleQueue[Path] = SimpleQueue()
    for job in range(options.jobs):
        copies.put(copy_of(checkout, home / str(job)))
    ask = Asked(options, checkout, there, copies)
    ask.undisturbed()
    for stage in (stage for stage in STAGES if stage in options.stages):
        past = ("untried",) if stage == "fast" else ("untried", "survived")
        left = [result for number, result in results.items() if number in there and result.status in past]
        show([f"{stage}: {len(left)} to go"])
        for result in ask.together(left) if stage == "whole" else ask.one_by_one(left):
            show([line_of(result)])
            yield result
        caught = [
            result for result in results.values() if result.number in there and result.stage == stage and result.by
        ]
        unsound = ask.unsound(sorted({result.by for result in caught}))
        yield from (result._replace(status="unclear") for result in caught if result.by in unsound)


class Asked:
    """The tests of a checkout, to be asked about mutations in copies of it."""

    def __init__(
        self, options: argparse.Namespace, checkout: Path, there: dict[int, Place], copies: "SimpleQueue[Path]"
    ) -> None:
        self.jobs, self.checkout, self.there, self.copies = options.jobs, checkout, there, copies
        files = sorted(str(path.relative_to(checkout)) for path in (checkout / "tests").rglob("test_*.py"))
        self.texts = {path: (checkout / path).read_text(encoding="utf-8") for path in files}
        self.fast = [path for path in files if any(word in Path(path).name for word in options.fast)]
        self.versions = count(1)
        if not self.fast:
            raise SystemExit("no test file has a name like --fast")

    def undisturbed(self) -> None:
        """Check that it is the copies that are tested in them, and that fast tests pass while nothing is broken."""
        every = [self.copies.get() for _ in range(self.copies.qsize())]
        for copy in every:
            where = subprocess.run(
                [sys.executable, "-c", "import refcl; print(refcl.__file__)"],
                cwd=copy,
                env=environment(copy),
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            if not Path(where.strip()).is_relative_to(copy):
                raise SystemExit(f"tests in {copy} would test {where.strip()}")
            self.copies.put(copy)
        ran = self.asked([], ["-x", "-n", str(self.jobs), *self.fast], "whole")
        if ran.status != "passed":
            raise SystemExit(f"nothing is broken yet, and the tests have {ran.status}:\n{ran.output[-3000:]}")

    def unsound(self, tests: list[str]) -> list[str]:
        """Return which tests fail while nothing is broken."""
        ran = self.asked([], ["-n", str(self.jobs), *tests], "whole") if tests else Ran("passed", [], "")
        return [test for test in tests if test in ran.failed]

    def one_by_one(self, left: list[Result]) -> Iterator[Result]:
        """Break one expression in each copy at a time, and yield what the fast tests say about it."""

        def asked(before: Result) -> Result:
            return self.about(before, "fast", ["-n", "0", *self.own(self.there[before.number]), *self.fast])

        with ThreadPoolExecutor(self.jobs) as pool:
            for work in as_completed([pool.submit(asked, before) for before in left]):
                yield work.result()

    def together(self, left: list[Result]) -> Iterator[Result]:
        """Break all that is left at once: where the whole suite passes, none of it was noticed.

        Where it fails, the tests that failed are asked about each alone; then the others are broken without those that
        these tests notice. Expressions that overlap take turns.
        """
        while left:
            crowd: list[Result] = []
            for result in left:
                if not any(overlap(self.there[result.number], self.there[other.number]) for other in crowd):
                    crowd.append(result)
            left = [result for result in left if result not in crowd]
            while crowd:
                numbers = [result.number for result in crowd]
                ran = self.asked(numbers, [f"--maxfail={MOST_FAILURES}", "-n", str(self.jobs)], "whole")
                show(
                    [f"all of {' '.join(map(str, numbers))}: {ran.status}, {len(ran.failed)} tests of the whole suite"]
                )
                if ran.status == "passed":
                    yield from (result._replace(stage="whole", status="survived") for result in crowd)
                    break
                with ThreadPoolExecutor(self.jobs if ran.failed else 1) as pool:
                    tests = ["-n", "0", *ran.failed] if ran.failed else ["-n", str(self.jobs)]
                    after = list(pool.map(self.about, crowd, repeat("whole"), repeat(tests)))
                if all(result.status == "survived" for result in after):  # it took several to be noticed
                    yield from (self.about(result, "whole", ["-n", str(self.jobs)]) for result in crowd)
                    break
                yield from (result for result in after if result.status != "survived")
                crowd = [old for old, new in zip(crowd, after, strict=True) if new.status == "survived"]

    def about(self, before: Result, stage: str, tests: list[str]) -> Result:
        """Return what some tests say about one mutation."""
        started = time.monotonic()
        ran = self.asked([before.number], ["-x", *tests], stage)
        by = ran.failed[0] if ran.failed else ""
        status = {"passed": "survived", "failed": "caught", "hung": "hung"}[ran.status]
        seconds = round(before.seconds + time.monotonic() - started, 1)
        return before._replace(status=status, stage=stage, by=by, seconds=seconds)

    def asked(self, numbers: list[int], tests: list[str], stage: str) -> Ran:
        """Run tests in a copy that nobody else uses meanwhile, where some expressions are broken."""
        copy = self.copies.get()
        kept: dict[Path, tuple[bytes, os.stat_result]] = {}
        try:
            # From the end of a file on, so that what comes before stays in its place.
            for number in sorted(numbers, key=lambda number: self.there[number].start, reverse=True):
                place = self.there[number]
                victim = copy / place.path.relative_to(self.checkout)
                kept.setdefault(victim, (victim.read_bytes(), victim.stat()))
                text = victim.read_text(encoding="utf-8")
                victim.write_text(
                    text[: place.start] + MUTATIONS[number - 1].instead + text[place.end :], encoding="utf-8"
                )
                # A time that no other version of the file has, or Python would take what it compiled of that one.
                later = kept[victim][1].st_mtime + 10 * next(self.versions)
                os.utime(victim, (later, later))
            return run(tests, copy, STAGES[stage])
        finally:
            for victim, (content, stat) in kept.items():
                victim.write_bytes(content)
                os.utime(victim, (stat.st_atime, stat.st_mtime))
            self.copies.put(copy)

    def own(self, place: Place) -> list[str]:
        """Return the test file that is named after a function or the file it stands in, if there is any."""
        here = place.path.relative_to(self.checkout)
        plain = {re.sub(r"^_+|_(forward|backward)$", "", name) for name in place.function.split(".")}
        words = {*plain, here.stem, here.parent.name} - {"refcl", ""}
        pattern = re.compile(rf"\b({'|'.join(map(re.escape, sorted(words)))})\b")
        named = [path for path in self.texts if words & {*Path(path).parts[:-1], Path(path).stem.removeprefix("test_")}]
        often = {path: len(pattern.findall(self.texts[path])) / len(self.texts[path]) for path in named}
        return sorted(named, key=lambda path: -often[path])[:1]


def overlap(one: Place, other: Place) -> bool:
    return one.path == other.path and one.start < other.end and other.start < one.end


def copy_of(checkout: Path, copy: Path) -> Path:
    """Copy a checkout, without what was built in it."""
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(*LEFT_BEHIND), symlinks=True)
    return copy


def environment(copy: Path) -> dict[str, str]:
    """Return what processes in a copy must know: where its package is."""
    path = os.pathsep.join(part for part in (str(copy), os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path, "MPLBACKEND": "Agg"}


def run(tests: list[str], copy: Path, limit: float) -> Ran:
    """Run tests in a copy; with all their processes they end where the limit is reached."""
    process = subprocess.Popen(
        [*PYTEST, *tests],
        cwd=copy,
        env=environment(copy),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        return Ran("hung", [], "")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode not in (0, 1, 2):
        raise RuntimeError(f"pytest ended with {process.returncode}:\n{output[-3000:]}")
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+?\.py(?:::.*?)?)(?: - .*)?$", output, re.MULTILINE)
    # A name with " - " in it was cut short: its file will do.
    failed = [test if test.count("[") == test.count("]") else test.partition("::")[0] for test in failed]
    return Ran("failed" if process.returncode else "passed", failed, output)


# Saying it


def save(path: Path, results: list[Result]) -> None:
    """Write results, each on lines of its own."""
    text = json.dumps([result._asdict() for result in results], indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def line_of(result: Result) -> str:
    """Return a result in one line."""
    function = result.place.rpartition(":")[2] or result.where
    change = f"{' '.join(result.text.split())}  ->  {' '.join(result.instead.split()) or '(nothing)'}"
    return f"{result.number:4} {result.status:9} {result.stage:5} {function}: {change}"


def table(results: list[Result]) -> Iterator[str]:
    """Yield a line a result, and below it the first test that failed."""
    for result in results:
        yield line_of(result)
        if result.by:
            yield f"{'':21}{result.by}"


def summary(results: list[Result]) -> str:
    """Return how many results there are of each kind."""
    counts = {status: sum(result.status == status for result in results) for status in KINDS}
    return f"{len(results)} mutations: " + ", ".join(f"{n} {status}" for status, n in counts.items() if n)


def comparison(now: list[Result], before: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what was caught before and is not now, and what survived before and is caught now."""
    then = {(result["where"], result["text"], result["instead"]): result["status"] for result in before}
    changed = [result for result in now if then.get(result[1:4], "not in the list") != result.status]
    yield f"{len(changed)} otherwise than before"
    for result in changed:
        yield f"{line_of(result)}  (before: {then.get(result[1:4], 'not in the list')})"


def show(lines: Any) -> None:
    for line in lines:
        print(line, flush=True)


def rows(*them: tuple[str, str, str]) -> list[Mutation]:
    return [Mutation(*row) for row in them]


# Numbers are places in this list: add at the end.
MUTATIONS = rows(
    # the encoder
    ("linear_forward", "y += bias", "y -= bias"),
    ("linear_backward", "cache.x.T @ dy", "-cache.x.T @ dy"),
    ("linear_backward", "column_sums(dy)", "dy[0, :]"),
    ("batch_norm_forward", "mean = column_sums(x) / x.shape[0]", "mean = column_sums(x) / (x.shape[0] + 1)"),
    ("batch_norm_forward", "column_sums(centred * centred) / x.shape[0]", "column_sums(centred * centred)"),
    ("batch_norm_forward", "xp.sqrt(variance + eps)", "xp.sqrt(variance)"),
    ("batch_norm_forward", "y += beta", "y += gamma"),
    ("batch_norm_backward", "column_sums(dy * centred) / deviation", "column_sums(dy * centred) / deviation**2"),
    ("batch_norm_backward", "if not training", "if training"),
    ("batch_norm_backward", "dx = dy - dbeta / n", "dx = dy * 1"),
    ("batch_norm_backward", "dx -= centred", "dx += centred"),
    ("relu_forward", "x > 0", "x >= 0"),
    ("mlp_forward", "depth < len(params) - 1", "depth < len(params) - 2"),
    ("mlp_backward", "to_input or depth > 0", "to_input or depth >= 0"),
    (
        "updated_running",
        "(1 - momentum) * mean + momentum * batch.mean",
        "momentum * mean + (1 - momentum) * batch.mean",
    ),
    ("updated_running", "momentum * n / (n - 1)", "momentum"),
    ("he_init", "(2.0 / fan_in) ** 0.5", "(2.0 / fan_out) ** 0.5"),
    ("he_init", "depth < len(widths) - 2", "depth < len(widths) - 1"),
    # the sphere
    ("l2_normalize_forward", "xp.maximum(norm, eps)", "norm + eps"),
    ("l2_normalize_forward", "norm >= eps", "norm > eps"),
    ("l2_normalize_backward", "cache.z * -along", "cache.z * along"),
    (
        "l2_normalize_backward",
        "xp.where(cache.on_sphere, row_dots(cache.z, dz)[:, None], 0.0)",
        "row_dots(cache.z, dz)[:, None]",
    ),
    ("l2_normalize_backward", "dh /= cache.length", "dh /= cache.length**2"),
    # similarities
    ("inner_product_forward", "z @ other.T", "-z @ other.T"),
    ("inner_product_backward", "ds.T @ cache.z", "-ds.T @ cache.z"),
    ("own_product_forward", "other @ z[:, :, None]", "other @ z[:1, :, None]"),
    ("own_product_backward", "(ds[:, None, :] @ cache.other)[:, 0, :]", "(ds[:, None, :] @ cache.other)[:, 0, :] * 2"),
    ("own_product_backward", "ds[:, :, None] * cache.z[:, None, :]", "ds[:, :, None] * cache.other"),
    ("bilinear_forward", "z @ weight @ other.T", "-z @ weight @ other.T"),
    ("bilinear_backward", "pulled @ weight.T", "-pulled @ weight.T"),
    ("bilinear_backward", "ds.T @ (z @ weight)", "2 * ds.T @ (z @ weight)"),
    # pairing
    (
        "pairing_forward",
        "arange(candidates, like=s) == column[:, None]",
        "arange(candidates, like=s) != column[:, None]",
    ),
    ("pairing_forward", "~(is_positive | ignore)", "~ignore"),
    ("pairing_backward", "xp.where(cache.negatives, ds_neg, 0.0)", "ds_neg"),
    ("pairing_backward", "xp.where(cache.is_positive, ds_pos[:, None], others)", "others"),
    ("not_ignored", "like=s_neg) > 0", "like=s_neg) > 1"),
    # the soft maximum
    ("soft_maximum_forward", "s_neg - s_pos[:, None]", "s_neg + s_pos[:, None]"),
    ("soft_maximum_forward", "top != nothing", "top == nothing"),
    ("soft_maximum_forward", "xp.where(occupied, top, zero)", "top"),
    ("soft_maximum_forward", "(d - top[:, None]) / temperature", "(d - top[:, None]) * temperature"),
    ("soft_maximum_forward", "(d - top[:, None]) / temperature", "d / temperature"),
    ("soft_maximum_forward", "xp.where(occupied, xp.sum(e, axis=1), one)", "xp.sum(e, axis=1)"),
    ("soft_maximum_forward", "top / temperature + xp.log(total)", "top + xp.log(total)"),
    ("soft_maximum_forward", "e / total[:, None]", "e"),
    ("soft_maximum_forward", "xp.where(relative > 0, d, zero)", "d"),
    ("soft_maximum_forward", "relative * (d - mean_difference[:, None])", "relative * zero"),
    ("soft_maximum_backward", "xp.where(occupied, dgap / temperature, constant(0.0, like=dgap))", "dgap / temperature"),
    ("soft_maximum_backward", "dgap / temperature", "dgap * temperature"),
    ("soft_maximum_backward", "-xp.sum(share * mean_difference) / temperature", "-xp.sum(share * mean_difference)"),
    ("soft_maximum_backward", "-share, share[:, None] * relative", "share, share[:, None] * relative"),
    ("soft_maximum_backward", "share[:, None] * relative", "share[:, None] * relative * relative"),
    # the maximum
    ("maximum_forward", "s_neg == top[:, None]", "s_neg != top[:, None]"),
    ("maximum_forward", "negatives & (s_neg == top[:, None])", "s_neg == top[:, None]"),
    ("maximum_forward", "xp.maximum(xp.sum(is_top, axis=1), one)", "xp.sum(is_top, axis=1)"),
    ("maximum_forward", "top - s_pos + margin", "top - s_pos - margin"),
    ("maximum_forward", "is_top / ties[:, None]", "is_top"),
    ("maximum_backward", "xp.where(cache.occupied, dgap, constant(0.0, like=dgap))", "dgap"),
    ("maximum_backward", "-dgap, dgap[:, None] * cache.share", "dgap, dgap[:, None] * cache.share"),
    # the weighted sum
    ("weighted_sum_forward", "weight * total - s_pos", "weight * total + s_pos"),
    ("weighted_sum_backward", "(dgap * cache.weight)[:, None]", "dgap[:, None]"),
    (
        "weighted_sum_backward",
        "xp.where(cache.negatives, each, constant(0.0, like=dgap))",
        "xp.where(cache.negatives, constant(0.0, like=dgap), each)",
    ),
    ("weighted_sum_backward", "dgap * cache.total", "dgap * cache.weight"),
    # each pair by itself
    ("separate_forward|pair_logits_forward", "scale * s_neg + bias", "scale * s_neg - bias"),
    ("separate_forward|pair_logits_forward", "-(scale * s_pos + bias)", "-(scale * s_pos - bias)"),
    (
        "separate_backward|pair_logits_backward",
        "xp.where(negatives, dgap_neg, constant(0.0, like=dgap_neg))",
        "dgap_neg",
    ),
    (
        "separate_backward|pair_logits_backward",
        "xp.sum(dgap_neg * s_neg) - xp.sum(dgap_pos * s_pos)",
        "xp.sum(dgap_neg * s_neg) + xp.sum(dgap_pos * s_pos)",
    ),
    (
        "separate_backward|pair_logits_backward",
        "xp.sum(dgap_neg) - xp.sum(dgap_pos)",
        "xp.sum(dgap_neg) + xp.sum(dgap_pos)",
    ),
    ("separate_backward|pair_logits_backward", "-scale * dgap_pos", "scale * dgap_pos"),
    # the hardest negatives
    ("hardest_negatives", "candidates - keep", "candidates - keep - 1"),
    ("hardest_mask", "s_neg < threshold", "s_neg <= threshold"),
    ("hardest_mask", "negatives & ~(s_neg < threshold)", "~(s_neg < threshold)"),
    ("_kept_of", "max(1, round(hardest * k))", "max(1, int(hardest * k))"),
    ("_kept_of", "max(1, round(hardest * k))", "round(hardest * k)"),
    # several positives
    ("contest_forward|several_positives_forward", "accompanied & pool_negatives.occupied", "pool_negatives.occupied"),
    ("contest_forward|several_positives_forward", "above - xp.where(accompanied", "above + xp.where(accompanied"),
    (
        "contest_backward|several_positives_backward",
        "xp.where(cache.contested, dgap, constant(0.0, like=dgap))",
        "dgap",
    ),
    ("contest_backward|several_positives_backward", "-dgap, cache.positives", "dgap, cache.positives"),
    (
        "contest_backward|several_positives_backward",
        "dtemperature_neg + dtemperature_pos",
        "dtemperature_neg - dtemperature_pos",
    ),
    ("spread_forward", "xp.sum(d, axis=1) / count / temperature", "xp.sum(d, axis=1) / temperature"),
    ("spread_forward", "xp.sum(less, axis=1) / count", "xp.sum(less, axis=1)"),
    ("spread_forward", "less - mean_less[:, None]", "less"),
    ("spread_backward", "-xp.sum(share * cache.mean_difference)", "xp.sum(share * cache.mean_difference)"),
    ("_nearest", "xp.where(accompanied, nearest, constant(0.0, like=s))", "nearest"),
    # reweighting
    ("reweighted_soft_maximum_forward", "xp.exp(beta * below)", "xp.exp(below)"),
    ("reweighted_soft_maximum_forward", "xp.exp((1 + beta) * below)", "xp.exp(beta * below)"),
    ("reweighted_soft_maximum_forward", "total * (count / total_weight)", "total * count"),
    ("reweighted_soft_maximum_forward", "if not detach", "if detach"),
    ("reweighted_soft_maximum_forward", "(1 + beta) * relative - beta", "(1 + beta) * relative + beta"),
    ("debias_forward", "(1 + s_pos) / temperature", "(1 - s_pos) / temperature"),
    ("debias_forward", "gap - log_count - math.log(tau_plus)", "gap - log_count + math.log(tau_plus)"),
    ("debias_forward", "math.log1p(-tau_plus)", "math.log1p(tau_plus)"),
    ("debias_forward", "log_count - headroom", "log_count + headroom"),
    ("debias_forward", "estimate < floor", "estimate > floor"),
    ("debias_forward", "estimate < floor", "estimate <= floor"),
    ("debias_forward", "1 / share_left", "share_left"),
    ("debias_backward", "xp.sum(at_floor * cache.headroom)", "-xp.sum(at_floor * cache.headroom)"),
    ("debias_backward", "-at_floor", "at_floor"),
    ("unevenness_forward", "mass * share - 1", "mass * share + 1"),
    ("unevenness_forward", "(less - xp.mean(less)) / xp.mean(e)", "less / xp.mean(e)"),
    ("unevenness_backward", "mass / sigma", "mass * sigma"),
    ("unevenness_backward", "dshortfall - xp.sum(share * dshortfall)", "dshortfall"),
    # penalties
    ("softplus_forward", "xp.exp(-xp.abs(gap))", "xp.exp(gap)"),
    ("softplus_forward", "xp.log1p(q)", "xp.log(1 + q)"),
    ("softplus_forward", "xp.exp(xp.minimum(gap, 0.0)) / (1 + q)", "xp.exp(xp.minimum(gap, 0.0))"),
    ("softplus_backward", "dloss * cache.slope", "dloss"),
    ("weighted_softplus_forward", "xp.where(gap >= 0, ahead, behind) * (1 + q)", "xp.where(gap >= 0, ahead, behind)"),
    ("weighted_softplus_forward", "1 / (2 * j + 3)", "1 / (2 * j + 1)"),
    ("weighted_softplus_forward", "SERIES_TERMS - 1", "SERIES_TERMS // 2"),
    ("weighted_softplus_forward", "1 - ahead * q", "1 + ahead * q"),
    ("weighted_softplus_forward", "r - 2 * r * r * series / (2 + q)", "r"),
    ("hinge_forward", "gap > 0", "gap >= 0"),
    ("hinge_backward", "xp.where(cache.open, dloss, cache.closed)", "xp.where(cache.open, cache.closed, dloss)"),
    # the reduction
    ("reduce_forward", "total / math.prod(loss.shape)", "total / loss.shape[0]"),
    ("reduce_backward", "dvalue / count", "dvalue"),
    # hardness
    ("_entropy", "largest < 0.5", "largest < 2.0"),
    ("_entropy", "-xp.log1p(-others)", "xp.log1p(-others)"),
    ("_entropy", "surprise + xp.sum(r * below", "surprise - xp.sum(r * below"),
    ("_slope", "variance / temperature**3", "variance / temperature**2"),
    ("_slope", "(below - mean) ** 2", "below ** 2"),
    ("temperature_for_entropy", "log_ties < entropy", "log_ties <= entropy"),
    ("_solve", "2.0 * float(xp.finfo(xp.float64).eps) * entropy", "1e9 * float(xp.finfo(xp.float64).eps) * entropy"),
    ("balance", "received / xp.where(given == 0, one, given)", "received * xp.where(given == 0, one, given)"),
    ("balance", "xp.where(received > 0, constant(xp.inf, like=ds), received)", "received"),
    ("small_temperature_bound", "gap / temperature", "gap * temperature"),
    ("small_temperature_bound", "lower + xp.log1p(", "lower + xp.log("),
    ("large_temperature_form", "variance / (2 * tau**2)", "variance / tau**2"),
    (
        "large_temperature_form",
        "xp.sum(xp.where(pairing.negatives, one, zero), axis=1) + 1",
        "xp.sum(xp.where(pairing.negatives, one, zero), axis=1)",
    ),
    ("_share", "nearest[:, None] - s_neg", "s_neg - nearest[:, None]"),
    # metrics
    ("alignment_forward", "xp.mean(distance**alpha)", "xp.sum(distance**alpha)"),
    ("alignment_backward", "alpha / difference.shape[0]", "2 / difference.shape[0]"),
    ("alignment_backward", "** (alpha - 2)", "** alpha"),
    ("alignment_backward", "da, -da", "da, da"),
    ("_exponents", "row[rows, None] != row[None, :]", "row[rows, None] > row[None, :]"),
    ("uniformity_forward", "z - xp.mean(z, axis=0)", "z"),
    ("uniformity_forward", "-t * distance", "-distance"),
    ("uniformity_forward", "n * (n - 1)", "n * n"),
    ("uniformity_forward", "less > -0.5", "less > 0.5"),
    ("uniformity_backward", "-4 * cache.t * dvalue", "-2 * cache.t * dvalue"),
    ("weighted_differences", "* cut[rows, :] - part @ cut", "* cut[rows, :] + part @ cut"),
    ("weighted_differences", "slices + 1", "slices"),
    ("_cut", "(x + unit) - unit", "x"),
    ("uniform_law_uniformity", "t * t))) - 2 * t", "t * t))) - t"),
    ("uniform_law_uniformity", "gammaln(order + 1) - order", "gammaln(order + 1) + order"),
    ("_in_class", "labels[rows, None] == labels[None, :]", "labels[rows, None] != labels[None, :]"),
    ("tolerance", "n * n if self_pairs else n * (n - 1)", "n * (n - 1) if self_pairs else n * n"),
    ("tolerance", "total / xp.maximum(count, 1.0)", "total"),
    ("_separation", "ascending[:, s.shape[1] - nearest :]", "ascending[:, :nearest]"),
    ("_separation", "descending == -xp.inf", "descending != -xp.inf"),
    # from embeddings
    ("compare_backward|cosine_similarity_backward", "l2_normalize_backward(dkey, cache.key)", "dkey"),
    ("compare_backward|cosine_similarity_backward", "inner_product_backward(ds,", "inner_product_backward(-ds,"),
    (
        "hard_info_nce_backward",
        "hard_softmax_contrastive_backward(dvalue,",
        "hard_softmax_contrastive_backward(-dvalue,",
    ),
    ("simple_loss_backward", "simple_contrastive_backward(dvalue,", "simple_contrastive_backward(2 * dvalue,"),
    # from similarities
    ("softmax_contrastive_backward", "pairing_backward(ds_pos,", "pairing_backward(-ds_pos,"),
    ("hard_softmax_contrastive_forward", "negatives=kept", "negatives=pairing.negatives"),
    ("simple_contrastive_backward", "xp.sum(dweights)", "xp.mean(dweights)"),
    ("hard_simple_contrastive_forward", "negatives=kept", "negatives=pairing.negatives"),
    ("hard_simple_contrastive_forward", "weight, kept, like=s", "weight, pairing.negatives, like=s"),
    ("weight_of_each", "1 / xp.maximum(count, one)", "1 / (count + one)"),
    ("triplet_forward", "negatives=pairing.negatives, margin=margin", "negatives=pairing.negatives"),
    # two views, two sides
    ("roles_of", "(anchor + n) % (2 * n)", "(anchor + n + 1) % (2 * n)"),
    ("roles_of", "itself | ignore[anchors, :]", "ignore[anchors, :]"),
    ("two_view_similarity_backward", "as_anchor + as_candidate", "as_anchor"),
    ("nt_xent_forward", 'add_views and reduction == "mean"', "add_views"),
    ("nt_xent_backward", "factor * dvalue", "dvalue"),
    ("clip_forward", "xp.exp(-log_scale)", "xp.exp(log_scale)"),
    ("clip_forward", "None if ignore is None else ignore.T", "None"),
    ("clip_backward", "ds_image + ds_text.T", "ds_image - ds_text.T"),
    ("clip_backward", "-temperature * (dtemperature_image", "temperature * (dtemperature_image"),
    ("clamp_backward", "xp.where(cache.outside, constant(0.0, like=dclamped), dclamped)", "dclamped"),
    ("_clamped", "log_scale > highest", "log_scale >= highest"),
    # many views
    ("cmc_forward", "s.T, temperature, ignore=ignore", "s.T, temperature, ignore=None"),
    ("cmc_backward", "dvalue[2 * i + 1, :]", "dvalue[2 * i, :]"),
    ("cmc_backward", "ds_first + ds_second.T", "ds_first"),
    ("_pairs", "if view != centre", "if view > centre"),
    # supervised
    ("supervised_contrastive_forward", "~(positives | ignore)", "~ignore"),
    (
        "supervised_contrastive_forward",
        "loss + xp.log(xp.maximum(count, one))",
        "loss - xp.log(xp.maximum(count, one))",
    ),
    ("supervised_contrastive_forward", "xp.sum(xp.minimum(count, one))", "xp.sum(count)"),
    ("supervised_contrastive_forward", "temperature / base_temperature", "base_temperature / temperature"),
    ("supervised_contrastive_backward", "ds + ds_spread", "ds - ds_spread"),
    ("supervised_contrastive_backward", "dscaled * cache.mean_factor * cache.unscaled", "dscaled * cache.unscaled"),
    ("sup_con_backward", "as_anchor + as_candidate", "as_anchor - as_candidate"),
    ("_roles_of", "(labels[anchors, None] == labels[None, :]) & ~itself", "labels[anchors, None] == labels[None, :]"),
    ("_of_those_with_positives", "same > 1", "same > 0"),
    # decoupled
    ("_pools_forward", "negatives & ~apart", "negatives"),
    ("two_soft_maxima_forward", "gap + from_zero", "gap - from_zero"),
    ("two_soft_maxima_forward", "occupied & second.occupied", "occupied"),
    ("two_soft_maxima_backward", "ds_neg + ds_second", "ds_neg"),
    ("two_soft_maxima_backward", "dtemperature + dtemperature_second", "dtemperature"),
    ("weighted_decoupled_contrastive_forward", "shortfall * s_pos / temperature", "shortfall * s_pos"),
    ("weighted_decoupled_contrastive_backward", "ds_pos + dproduct * shortfall", "ds_pos - dproduct * shortfall"),
    ("weighted_decoupled_contrastive_backward", "dproduct * s_pos, weighting", "dproduct, weighting"),
    (
        "weighted_decoupled_contrastive_backward",
        "xp.sum(dproduct * shortfall * s_pos) / temperature",
        "xp.sum(dproduct * shortfall * s_pos)",
    ),
    ("dclw_forward", 'None if normalizer == "mean" else 2.0', 'None if normalizer == "mean" else 1.0'),
    # targets, weights and margins of the softmax loss
    ("soft_cross_entropy_forward", "(1 - label_smoothing) * targets", "targets"),
    ("soft_cross_entropy_forward", "label_smoothing / number[:, None]", "label_smoothing"),
    ("soft_cross_entropy_forward", "e * other_targets - t * others", "e * other_targets + t * others"),
    ("soft_cross_entropy_forward", "behind[:, None] - d, zero", "behind[:, None] + d, zero"),
    ("soft_cross_entropy_backward", "(1 - cache.label_smoothing) * dloss", "dloss"),
    ("soft_cross_entropy_backward", "dlog_weight / cache.temperature, dtargets", "dlog_weight, dtargets"),
    ("logit_margin_forward", "s_pos * cos - sine * sin", "s_pos * cos + sine * sin"),
    ("logit_margin_forward", "s_pos >= -cos", "s_pos >= cos"),
    ("logit_margin_forward", "s_pos - angular_margin * sin", "s_pos - angular_margin"),
    ("logit_margin_forward", "lowered - margin", "lowered + margin"),
    ("own_similarity_backward", "l2_normalize_backward(dquery, compared.query)", "dquery"),
    ("own_similarity_backward", "l2_normalize_backward(rows, cache.on_sphere)", "rows"),
    ("weigh_backward", "dweighed * cache.anchor_weight", "dweighed"),
    # margins
    ("_further_negatives", "negatives & ~(s_neg >= s_pos[:, None])", "negatives & ~(s_neg > s_pos[:, None])"),
    ("_further_negatives", "s_neg == furthest[:, None]", "s_neg != furthest[:, None]"),
    ("pair_contrastive_forward", "violation**2", "violation"),
    ("pair_contrastive_forward", "violation**2) / 2", "violation**2)"),
    ("pair_contrastive_backward", "-violation / xp.where(coincide", "violation / xp.where(coincide"),
    ("pair_contrastive_backward", "xp.where(same, one, push)", "xp.where(same, push, one)"),
    # against a memory
    ("moco_backward", "ds_pos[:, None]", "-ds_pos[:, None]"),
    ("moco_backward", "l2_normalize_backward(dkey, key_on_sphere)", "dkey"),
    ("_recall_backward", "dz + ds @ cache.memory", "dz - ds @ cache.memory"),
    # a temperature that follows the batch
    ("model_aware_contrastive_forward", "xp.mean(s_pos) - alignment", "xp.mean(s_pos) + alignment"),
    ("model_aware_contrastive_forward", "1 + alpha * excess", "1 - alpha * excess"),
    ("model_aware_contrastive_forward", "math.log(alpha) * growth", "math.log(alpha)"),
    ("model_aware_contrastive_forward", "dgrowth / s.shape[0]", "dgrowth"),
    ("model_aware_contrastive_backward", "ds_pos + dtemperature * slope", "ds_pos - dtemperature * slope"),
    ("model_aware_contrastive_backward", "dtemperature * growth", "dtemperature"),
    # every pair by itself
    ("nce_forward", "noise.shape[1] / bank.shape[0]", "bank.shape[0] / noise.shape[1]"),
    ("nce_forward", "rate + stabilizer", "rate"),
    ("nce_forward", "math.log1p(stabilizer / rate) * draws", "math.log1p(stabilizer) * draws"),
    ("nce_backward", "-dscale / temperature**2", "-dscale / temperature"),
    ("nce_log_normalizer", "+ math.log(bank.shape[0])", ""),
    ("pairwise_sigmoid_backward", "scale * dscale", "dscale"),
    ("_charge_forward", "own + xp.sum(", "own - xp.sum("),
    (
        "pair_softplus_backward",
        "softplus_backward(dloss, cache.positives)",
        "softplus_backward(-dloss, cache.positives)",
    ),
    ("_draw_backward", "own[:, 0, :] + (ds_neg", "own[:, 0, :] - (ds_neg"),
    # predictive
    ("cpc_backward", "xp.sum(xp.stack(dcontexts), axis=0)", "dcontexts[0]"),
    ("mutual_information_bound", "math.log(n) - loss", "math.log(n) + loss"),
    # a temperature for each anchor
    (
        "per_anchor_contrastive_forward",
        "(s_neg - s_pos[:, None]) / temperature[:, None]",
        "(s_neg - s_pos[:, None]) * temperature[:, None]",
    ),
    (
        "per_anchor_contrastive_backward",
        "-dgap * pool.mean_difference / temperature",
        "dgap * pool.mean_difference / temperature",
    ),
    ("per_anchor_contrastive_backward", "dd / temperature[:, None]", "dd"),
    ("_temperature_slope", "below - xp.sum(relative * below, axis=1, keepdims=True)", "below"),
    ("fixed_entropy_contrastive_forward", "temperature / variance", "1 / variance"),
    ("fixed_entropy_contrastive_backward", "ds + dtemperature[:, None] * slope", "ds - dtemperature[:, None] * slope"),
    # second order
    ("hessian_vector_product", "slope / temperature / temperature", "slope / temperature"),
    ("hessian_vector_product", "scale / s.shape[0]", "scale"),
    ("hessian_vector_product", "v_neg - v_pos[:, None]", "v_neg"),
    ("hessian_vector_product", "u - (slope * mean)[:, None]", "u - mean[:, None]"),
    ("hessian_vector_product", "-scale * complement * mean", "scale * complement * mean"),
    # alignment and uniformity
    ("align_uniform_forward", "(align_weight, uniform_weight / 2)", "(align_weight, uniform_weight)"),
    ("align_uniform_backward", "weights[0] * dvalue", "dvalue"),
    ("align_uniform_backward", "db + uniformity_backward(duniform, uniformity_b)", "db"),
    # strips: what they have in common
    ("_worth", "ones((), like=like)", "2 * ones((), like=like)"),
    ("among_themselves", "dz += dother", "dz -= dother"),
    ("_among_themselves", "reduce_forward(factor * loss", "reduce_forward(loss"),
    ("among_themselves", "factor * upstream", "upstream"),
    ("nt_xent", "factor * upstream", "upstream"),
    ("nt_xent", "(arange(2 * n, like=z) + n) % (2 * n)", "(arange(2 * n, like=z) + n + 1) % (2 * n)"),
    ("nt_xent", "grads[0][...] += grads[1]", "grads[0][...] -= grads[1]"),
    ("clip", "rows[0] + cols[1]", "rows[0]"),
    ("clip", "-temperature * grads[2]", "temperature * grads[2]"),
    ("clip", "None if ignore is None else ignore.T", "None"),
    ("_off_sphere", "part[rows] for part in cache", "part[: rows.stop - rows.start] for part in cache"),
    # strips: one way
    ("softmax_strips", "other - mean, False", "other, False"),
    ("softmax_strips", "-row_dots(z, task.dz).sum() / temperature", "row_dots(z, task.dz).sum() / temperature"),
    ("_added", "total += part", "total -= part"),
    ("_strips", "s_pos if top is None else s_pos - top", "s_pos"),
    ("_strips", "u /= total", "u /= 2 * total"),
    ("_strips", "-total[tile.positives.rows]", "total[tile.positives.rows]"),
    ("_strips", "afresh=tile is tiles[0]", "afresh=True"),
    ("_strips", "afresh=anchors.start == first", "afresh=True"),
    ("_exponentials", "xp.where(top == -xp.inf, xp.zeros_like(top), top)", "top"),
    ("_exponentials", "e -= top[:, None]", "e -= 0"),
    ("_compare", "put(tile.e, tile.itself, -xp.inf)", "put(tile.e, tile.itself, 0)"),
    ("charge", "gap -= s_pos", "gap += s_pos"),
    ("charge", "xp.copyto(gap, -xp.inf, where=empty)", "xp.copyto(gap, 0, where=empty)"),
    ("band", "row * (step - 1) + column", "row * step + column"),
    ("_by_tile", "column[row] - cut.start", "column[row]"),
    # strips: both ways
    ("softmax_tiles", "2 if task.symmetric else 1", "1"),
    ("softmax_tiles", "Weights(pull / total, pull)", "Weights(pull, pull)"),
    ("_own_positives", "task.z.shape[0] - task.shift", "task.shift"),
    ("_totals", "if not tile.own", "if tile.own"),
    ("_gradients", "xp.add(row.push", "xp.subtract(row.push"),
    ("_gradients", "[entries.rows] + col.pull", "[entries.rows] - col.pull"),
    ("_exponentials", "put(e, tile.itself, 0)", "put(e, tile.itself, 1)"),
    ("take", "part if self.sum is None else _added(self.sum, part)", "part"),
    # strips: by rooms
    ("walk_of", "arange(anchors.stop, like=s)[anchors]", "arange(anchors.stop - anchors.start, like=s)"),
    ("_strips", "_added(dparameters, tuple(of_strip))", "tuple(of_strip)"),
    ("_strips", "dother += ds.T @ task.z[anchors]", "dother -= ds.T @ task.z[anchors]"),
    ("_added", "a + b", "a - b"),
    # strips: their sizes
    ("shares", "n * (i + 1) // number", "n * i // number + 1"),
    ("spans", "min(start + step, last)", "start + step"),
    ("reach", "math.sqrt(float(row_dots(z, z).max()))", "1.0"),
    ("mean_of_crowd", "column_sums(rows) / rows.shape[0]", "column_sums(rows)"),
    ("needs_no_shift", "float(temperature) * 0.45", "float(temperature) * 2.0"),
    # ranks
    ("pooled", "e /= temperature", "e /= 1"),
    ("pooled", "xp.log(xp.where(occupied, total, 1.0))", "total"),
    ("measured", "(pool.highest - reference) / temperature", "(pool.highest - reference)"),
    ("pushed", "r -= _or_zero(pool.above)[:, None]", "r -= 0"),
    ("pushed", "where=~counted", "where=counted"),
    ("pushed", "(highest - reference)", "(reference - highest)"),
    ("pushed", "-xp.sum(share * mean_difference) / temperature", "-xp.sum(share * mean_difference)"),
    ("one_positive", "loss - loss + 1", "constant(1.0, like=gap)"),
    ("one_positive", "(-dgap / temperature)[:, None]", "(dgap / temperature)[:, None]"),
    ("several_positives", "p.less * (1 + shrunk) + p.count * shrunk", "p.less + p.count * shrunk"),
    ("several_positives", "p.fall + p.count * lower", "p.fall"),
    ("several_positives", "above != -xp.inf", "above > -xp.inf"),
    ("several_positives", "pushed(-dgap, known.nearest", "pushed(dgap, known.nearest"),
    ("every_pair", "xp.where(xp.any(roles.positives, axis=1), gap_pos, nothing)", "gap_pos"),
    ("over_blocks", "dz[rows] += pushed.ds @ other", "dz[rows] = pushed.ds @ other"),
    ("over_blocks", "sent[columns] += pushed.ds.T @ z[rows]", "sent[columns] = pushed.ds.T @ z[rows]"),
    ("push", "total = total + part", "total = part"),
    ("push", "so_far += part", "so_far -= part"),
    ("turned", "mask[:, end - count : end].T", "mask[:, end - count : end]"),
    ("roles_by_number", "itself[rows, None] != numbers[None, :]", "itself[rows, None] == numbers[None, :]"),
    ("worth", "factor * dloss / count if", "factor * dloss if"),
    ("totals", "total / count if", "total if"),
    ("two_views", "(own + pairs) % (2 * pairs)", "(own + 1) % (2 * pairs)"),
)


if __name__ == "__main__":
    raise SystemExit(main())
