"""How fast and how lean the losses are, against the frameworks and against the bare matrix products.

    python tests/benchmarks/run.py --out results.json

In:  sizes, and which sections to run.
Out: tables on standard output; with ``--out`` the results as JSON and a picture beside it, each whole or not at all.
It ends with status 1 where refcl could not be measured or the contenders do not agree, never because of a time.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import machine
import report
import sections
from contenders import CONTENDERS, TEMPERATURE

SIZES = (256, 1024, 4096, 8192, 16384)
SECTIONS = ("losses", "memory", "growth", "training", "import")
GROWTH = (8192, 65536)


def main() -> int:
    options = parsed()
    effort = sections.Effort(
        threads=options.threads,
        dimension=options.dimension,
        rounds=options.rounds,
        least=options.seconds,
        pause=options.pause,
        without=tuple(options.without),
    )
    about = machine.describe(options.threads)
    warned = machine.warnings(about)
    show(machine.lines(about) + [f"WARNING: {text}" for text in warned] + [""])
    results: dict[str, Any] = {"machine": about, "settings": settings(options, effort)}

    def save() -> None:
        if options.out:
            write_whole(options.out, (json.dumps(results, indent=2, allow_nan=False) + "\n").encode())

    save()  # a folder that is not there is noticed now
    for section in options.sections:
        measure(section, results, effort, options, save)
        save()
    faults = list(report.faults(results))
    if not options.smoke:  # whose times say nothing
        results["goals"] = list(report.goals(results))
        show(report.goal_table(results["goals"]))
    show(f"WARNING: {text}" for text in [*warned, *report.unsteady(results)])
    show(f"FAULT: {text}" for text in faults)
    save()
    if options.out and "losses" in results:
        import picture

        write_whole(options.out.with_suffix(".png"), picture.draw(results))
    return 1 if faults else 0


def measure(
    section: str, results: dict[str, Any], effort: sections.Effort, options: argparse.Namespace, save: Any
) -> None:
    """Run one section, put its records into the results, and print its table."""
    if section == "losses":
        results["losses"] = {}
        for loss in ("info_nce", "nt_xent"):
            sizes = results["losses"][loss] = {}
            for rows in options.sizes:
                sizes[str(rows)] = sections.compare(loss, rows, effort, tick)
                save()
            show([*report.loss_table(loss, sizes), f"  {report.LEGEND}", ""])
            show([*report.memory_table(f"{loss}: peak memory beyond inputs and gradients", sizes), ""])
    elif section == "memory":
        found = results["memory"] = sections.weigh(options.memory_size, effort, tick)
        title = f"peak memory beyond inputs and gradients, {options.memory_size} rows"
        show([*report.memory_table(title, found), *report.left_out(found), ""])
    elif section == "growth":
        results["growth"] = sections.grow(*GROWTH, effort, tick)
        show([*report.growth_table(results["growth"]), ""])
    elif section == "training":
        records = results["training_step"] = sections.train(effort, tick)
        show([*report.pair_table("one training step", records, "eager"), ""])
    else:
        records = results["import"] = sections.imports(effort, tick)
        show([*report.pair_table("import", records, "numpy"), ""])


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure refcl against the frameworks and the bare matrix products.")
    parser.add_argument("--sizes", type=rows, nargs="+", default=list(SIZES), metavar="N", help="rows, even")
    parser.add_argument("--rounds", type=positive, default=7, help="of which the median is taken (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.3, help="least time of a contender a round (%(default)s)")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds before each call: 0 is calls in a loop")
    parser.add_argument("--threads", type=positive, default=2, help="of every contender (%(default)s)")
    parser.add_argument("--dimension", type=positive, default=128, help="D (%(default)s)")
    parser.add_argument("--memory-size", type=rows, default=65536, metavar="N", help="(%(default)s)")
    parser.add_argument("--growth", action="store_true", help=f"also time refcl from {GROWTH[0]} to {GROWTH[1]} rows")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="these sections and no others")
    parser.add_argument("--without", nargs="+", choices=[*CONTENDERS], default=[], help="leave these contenders out")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the results, and FILE.png beside them")
    parser.add_argument("--smoke", action="store_true", help="two small sizes, one round: no torch.compile, no goals")
    options = parser.parse_args()
    if "refcl" in options.without:
        parser.error("refcl is what is measured")
    if options.smoke:
        # One thread each: on a busy machine two would spend most of the time waiting for each other.
        options.sizes, options.rounds, options.seconds, options.threads = [32, 96], 1, 0.01, 1
        options.without = [*options.without, "compile"]
    by_flag = {"growth"} - ({"growth"} if options.growth else set()) | ({"memory"} if options.smoke else set())
    options.sections = options.only or [name for name in SECTIONS if name not in by_flag]
    return options


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text}")
    return number


def rows(text: str) -> int:
    if (number := positive(text)) % 2 or number < 4:
        raise argparse.ArgumentTypeError(f"expected an even number of at least 4, got {text}: NT-Xent has two views")
    return number


def settings(options: argparse.Namespace, effort: sections.Effort) -> dict[str, Any]:
    return {
        **effort._asdict(),
        "sizes": options.sizes,
        "memory_rows": options.memory_size,
        "sections": options.sections,
        "temperature": TEMPERATURE,
        "dtype": "float32",
    }


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def show(lines: Any) -> None:
    for line in lines:
        print(line, flush=True)


def tick(what: str) -> None:
    """Say what is going on, to a person only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
