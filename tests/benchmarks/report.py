"""What the numbers say.

In:  the records of a run.
Out: lines of tables, the issue of each goal, and what is wrong with the run itself.
"""

from collections.abc import Iterator, Mapping
from math import exp, isclose, log
from typing import Any

from contenders import CONTENDERS

# What the package promises itself: (geometric mean of the ratio to the fastest framework, at most) for each loss.
MEAN_RATIO = {"info_nce": 0.70, "nt_xent": 0.50}
FLOOR_FROM, FLOOR_RATIO = 4096, 1.10
MEMORY_ROWS, MEMORY_MIB = 65536, 256
GROWTH = 0.25
TRAINING_RATIO, IMPORT_RATIO = 0.7, 1.3
AGREE = 1e-3  # of values and norms in float32; contenders further apart do not compute the same thing
UNSTEADY = 0.15  # spread of a contender's rounds

LEGEND = "×: time as a multiple of the fastest framework's; ±: distance of the quartiles of the rounds"


def measured(records: Mapping[str, Any], field: str = "seconds") -> dict[str, float]:
    """Return one field of those contenders that have it."""
    return {name: record[field] for name, record in records.items() if record.get(field) is not None}


def fastest(records: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return the fastest framework and its seconds."""
    times = {name: seconds for name, seconds in measured(records).items() if CONTENDERS[name].framework}
    return min(times.items(), key=lambda item: item[1]) if times else None


def ratios(sizes: Mapping[str, Any], name: str, to: str | None = None) -> dict[int, float]:
    """Return by size a contender's time over another's, or over the fastest framework's."""
    found = {}
    for rows, records in sizes.items():
        times, best = measured(records), fastest(records)
        other = times.get(to) if to else best and best[1]
        if name in times and other:
            found[int(rows)] = times[name] / other
    return found


def geometric_mean(values: Mapping[int, float]) -> float:
    return exp(sum(map(log, values.values())) / len(values))


def loss_table(loss: str, sizes: Mapping[str, Any]) -> Iterator[str]:
    """Yield a row for each contender and a column for each size, then the ratios' geometric means."""
    names = [name for name in CONTENDERS if any(name in records for records in sizes.values())]
    yield f"{loss}: value and both gradients, by rows of the similarity"
    yield f"{'':18}" + "".join(f"{rows:>22}" for rows in sizes) + f"{'geometric mean':>18}"
    for name in names:
        cells = [cell(records.get(name, {}), fastest(records)) for records in sizes.values()]
        against = ratios(sizes, name)
        mean = f"× {geometric_mean(against):.2f}" if len(against) == len(sizes) else ""
        yield f"{CONTENDERS[name].title:18}" + "".join(f"{text:>22}" for text in cells) + f"{mean:>18}"
    yield from left_out(sizes)


def cell(record: Mapping[str, Any], best: tuple[str, float] | None) -> str:
    if "seconds" not in record:
        return "–"
    ratio = f" × {record['seconds'] / best[1]:.2f}" if best else ""
    return f"{duration(record['seconds'])}{ratio}{apart(record)}"


def apart(record: Mapping[str, Any]) -> str:
    """Return how far apart the rounds were; one round says nothing about it."""
    return f" ±{100 * record['spread']:.0f} %" if len(record["rounds"]) > 1 else ""


def left_out(groups: Mapping[str, Any]) -> Iterator[str]:
    """Yield who is missing where, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for group, records in groups.items():
        for name, record in records.items():
            if "left_out" in record:
                reasons.setdefault((name, record["left_out"]), []).append(group)
    for (name, reason), where in reasons.items():
        title = CONTENDERS[name].title if name in CONTENDERS else name
        yield f"  left out: {title} at {', '.join(where)}: {reason}"


def duration(seconds: float) -> str:
    if seconds < 1.0:
        return f"{1e3 * seconds:.3g} ms"
    return f"{seconds:.3g} s"


def memory_table(title: str, groups: Mapping[str, Any]) -> Iterator[str]:
    """Yield the peak memory of each contender beyond inputs and gradients; a group is a column."""
    names = [name for name in CONTENDERS if any(name in measured(records, "peak_bytes") for records in groups.values())]
    yield title
    if names:
        yield f"{'':18}" + "".join(f"{group:>14}" for group in groups)
    for name in names:
        weights = [measured(records, "peak_bytes").get(name) for records in groups.values()]
        cells = ["–" if weight is None else f"{weight / 2**20:.1f} MiB" for weight in weights]
        yield f"{CONTENDERS[name].title:18}" + "".join(f"{text:>14}" for text in cells)


def pair_table(title: str, records: Mapping[str, Any], over: str) -> Iterator[str]:
    """Yield the times of a few and their ratio to one of them."""
    times = measured(records)
    yield title
    for name, seconds in times.items():
        ratio = f"  × {seconds / times[over]:.2f}" if over in times else ""
        yield f"{name:18}{duration(seconds):>12}{ratio}{apart(records[name])}"
    yield from left_out({"this": records})


def growth_table(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield how refcl's time and memory grow between two sizes, over what they should."""
    yield "growth of refcl"
    for loss, records in results.items():
        (few, first), (many, last) = records.items()
        if "seconds" in first and "seconds" in last:
            time, memory, rows = factors(records)
            yield f"{loss:18}{few} to {many} rows: time × {time:.1f}, {time / rows**2:.2f} of (N'/N)²" + (
                f"; memory × {memory:.1f}, {memory / rows:.2f} of N'/N" if memory else ""
            )
        yield from left_out({loss: records})


def factors(records: Mapping[str, Any]) -> tuple[float, float | None, float]:
    """Return by what time, memory and rows grow between two sizes."""
    (few, first), (many, last) = records.items()
    memory = last["peak_bytes"] / first["peak_bytes"] if first["peak_bytes"] and last["peak_bytes"] else None
    return last["seconds"] / first["seconds"], memory, int(many) / int(few)


def goals(results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each goal that the run says something about, what was measured, and whether it is met."""
    for loss, sizes in results.get("losses", {}).items():
        if against := ratios(sizes, "refcl"):
            worst = max(against, key=lambda rows: against[rows])
            yield goal(f"{loss}: slowest against the fastest framework ({worst} rows)", against[worst], 1.0)
            yield goal(f"{loss}: geometric mean of {len(against)} sizes", geometric_mean(against), MEAN_RATIO[loss])
    products = ratios(results.get("losses", {}).get("info_nce", {}), "refcl", "floor")
    for size, ratio in products.items():
        if size >= FLOOR_FROM:
            yield goal(f"info_nce: against three products ({size} rows)", ratio, FLOOR_RATIO)
    if results.get("settings", {}).get("memory_rows") == MEMORY_ROWS:
        for loss, records in results.get("memory", {}).items():
            if "refcl" in (weights := measured(records, "peak_bytes")):
                yield goal(f"{loss}: peak memory at {MEMORY_ROWS} rows, MiB", weights["refcl"] / 2**20, MEMORY_MIB)
    for loss, records in results.get("growth", {}).items():
        if len(measured(records)) == 2:
            time, memory, rows = factors(records)
            yield goal(f"{loss}: growth of time over (N'/N)²", time / rows**2, 1 + GROWTH)
            if memory:
                yield goal(f"{loss}: growth of memory over N'/N", memory / rows, 1 + GROWTH)
    steps, modules = measured(results.get("training_step", {})), measured(results.get("import", {}))
    if {"refcl", "eager"} <= set(steps):
        yield goal("training step against PyTorch eager", steps["refcl"] / steps["eager"], TRAINING_RATIO)
    if len(modules) == 2:
        yield goal("import refcl against import numpy", modules["refcl"] / modules["numpy"], IMPORT_RATIO)


def goal(what: str, value: float, at_most: float) -> dict[str, Any]:
    return {"goal": what, "measured": value, "at_most": at_most, "met": value <= at_most}


def goal_table(found: list[dict[str, Any]]) -> Iterator[str]:
    yield "goals"
    for one in found:
        verdict = "met" if one["met"] else f"missed by {100 * (one['measured'] / one['at_most'] - 1):.0f} %"
        yield f"{one['goal']:62}{one['measured']:>9.2f}  at most {one['at_most']:<6g}  {verdict}"


def comparisons(results: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every group of contenders that computed the same thing."""
    for loss, sizes in results.get("losses", {}).items():
        for rows, records in sizes.items():
            yield f"{loss}, {rows} rows", records
    for loss, records in results.get("memory", {}).items():
        yield f"memory of {loss}", records
    if "training_step" in results:
        yield "training step", results["training_step"]


def faults(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield what makes the run worthless: refcl missing, or contenders that do not agree."""
    for where, records in comparisons(results):
        if "left_out" in (own := records["refcl"]):
            yield f"{where}: refcl is left out: {own['left_out']}"
            continue
        for name, record in records.items():
            pairs = zip(numbers(own), numbers(record), strict=False)
            if not all(isclose(mine, other, rel_tol=AGREE) for mine, other in pairs):
                yield f"{where}: {name} computes {numbers(record)}, refcl {numbers(own)}"


def numbers(record: Mapping[str, Any]) -> list[float]:
    """Return a contender's value and its gradients' norms, nothing where only its time counts."""
    return [] if record.get("value") is None else [record["value"], *record.get("norms", [])]


def unsteady(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield whose rounds were far apart."""
    for where, records in comparisons(results):
        names = [name for name, spread in measured(records, "spread").items() if spread > UNSTEADY]
        if names:
            yield f"{where}: rounds more than {100 * UNSTEADY:.0f} % apart: {', '.join(names)}"
