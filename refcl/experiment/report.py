"""A study as one page.

In:  the records of the runs, and the folder with their embeddings and pictures.
Out: ``report.html``: tables, figures and what they say, in one file that needs no network and no scripts.
"""

import base64
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

import refcl
from refcl.experiment.findings import Finding, findings
from refcl.experiment.paper import CIFAR10, Column, Record, columns, mean
from refcl.experiment.plots import PLOTS
from refcl.experiment.plots.curves import penalty_curves, shown_temperatures
from refcl.experiment.plots.look import LIMITS, shown_columns
from refcl.experiment.results import load_run, write_whole
from refcl.experiment.stylesheet import STYLESHEET

MINUS, DASH = "\u2212", "\u2013"


def write_report(records: Sequence[Record], folder: Path) -> Path:
    """Write the report of a study, whole or not at all.

    Parameters
    ----------
    records : sequence of mapping
        One record per run, as in ``results.json``; at least one.
    folder : Path
        The study's folder. The figures are those that `refcl.experiment.plots.draw_figures` left there.

    Returns
    -------
    Path
        ``folder/report.html``.
    """
    held_out = load_run(folder, records[0])["labels"].shape[0]
    sections = [
        _header(records),
        _table(records),
        _findings(records, held_out),
        *(_figure(plot.file, plot.title, records, folder) for plot in PLOTS if (folder / plot.file).exists()),
        _settings(records),
    ]
    path = folder / "report.html"
    write_whole(path, _page("\n".join(sections)).encode())
    return path


def _page(body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>What temperature does</title>
<style>
{STYLESHEET}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def _header(records: Sequence[Record]) -> str:
    seeds = len({record["seed"] for record in records})
    runs = f"{len(records)} {'run' if len(records) == 1 else 'runs'}"
    over = f", {seeds} seeds" if seeds > 1 else ""
    return f"""<header>
<h1>What temperature does</h1>
<p class="lead">The softmax contrastive loss pushes an anchor&rsquo;s negatives away, the near ones hardest; the
temperature τ says how much harder. Here one encoder is trained under the losses of Wang and Liu,
<cite>Understanding the Behaviour of Contrastive Loss</cite> (CVPR 2021), and measured on samples it has not seen:
{runs}{over}.</p>
</header>"""


def _table(records: Sequence[Record]) -> str:
    rows = "\n".join(_row(column, runs) for column, runs in columns(records).items())
    several = any(len(runs) > 1 for runs in columns(records).values())
    spread = " Means over the seeds, ± their standard deviation." if several else ""
    return f"""<section>
<h2>The runs, beside the paper&rsquo;s CIFAR-10</h2>
<div class="wide"><table>
<thead>
<tr><th scope="col" rowspan="2">loss</th><th scope="colgroup" colspan="2">uniformity</th>
<th scope="colgroup" colspan="2">tolerance</th><th scope="colgroup" colspan="2">linear accuracy, %</th>
<th scope="col">few labels, %</th><th scope="col">alignment</th></tr>
<tr>{"<th scope='col'>here</th><th scope='col' class='paper'>paper</th>" * 3}{"<th scope='col'>here</th>" * 2}</tr>
</thead>
<tbody>
{rows}
</tbody>
</table></div>
<p class="note">Uniformity is {MINUS}L<sub>uniformity</sub> with t = 2, larger is more uniform; tolerance is the mean
cosine within a class; alignment is the mean squared distance of two views, smaller is more alike.{spread} The paper
trained a ResNet-18 on CIFAR-10: compare how the rows are ordered, not their values.</p>
</section>"""


def _row(column: Column, runs: Sequence[Record]) -> str:
    paper = CIFAR10.get(column)
    cells = [
        _cell(runs, "uniformity", 1.0, 2),
        _paper_cell(f"{paper.uniformity:.2f}" if paper else DASH),
        _cell(runs, "tolerance", 1.0, 3),
        _paper_cell(f"{paper.tolerance:.3f}" if paper else DASH),
        _cell(runs, "linear_accuracy", 100.0, 1),
        _paper_cell(f"{100.0 * paper.accuracy:.1f}" if paper else DASH),
        _cell(runs, "few_label_accuracy", 100.0, 1),
        _cell(runs, "alignment", 1.0, 3),
    ]
    return f'<tr><th scope="row">{_text(column.label)}</th>{"".join(cells)}</tr>'


def _cell(runs: Sequence[Record], field: str, scale: float, digits: int) -> str:
    text = f"{scale * mean(runs, field):.{digits}f}".replace("-", MINUS)
    if len(runs) > 1:
        deviation = scale * float(np.std([record[field] for record in runs], ddof=1))
        text += f' <span class="spread">± {deviation:.{digits}f}</span>'
    return f"<td>{text}</td>"


def _paper_cell(text: str) -> str:
    return f'<td class="paper">{text}</td>'


def _findings(records: Sequence[Record], held_out: int) -> str:
    found = findings(records, held_out)
    if not found:
        return ""
    counts = Counter(finding.verdict for finding in found)
    summary = f"{counts['as there']} of {len(found)} point the paper&rsquo;s way"
    if counts["too close to tell"]:
        summary += f", {counts['too close to tell']} are too close to tell"
    return f"""<section>
<h2>The paper&rsquo;s findings, asked of these runs</h2>
<p>{summary}.</p>
<div class="wide"><table class="words">
<thead><tr><th scope="col">the paper found</th><th scope="col" class="paper">there, CIFAR-10</th>
<th scope="col">here</th><td></td></tr></thead>
<tbody>
{chr(10).join(map(_finding, found))}
</tbody>
</table></div>
<p class="note">Accuracies closer than one standard error, that of a proportion of {held_out} held-out samples, are too
close to tell.</p>
</section>"""


def _finding(finding: Finding) -> str:
    mark = {"as there": "yes", "differs": "no"}.get(finding.verdict, "close")
    return (
        f'<tr><th scope="row">{_text(finding.sentence)}</th>'
        f'<td class="paper" data-label="there">{_text(finding.paper)}</td>'
        f'<td data-label="here">{_text(finding.here)}</td><td class="{mark}">{finding.verdict}</td></tr>'
    )


def _figure(file: str, title: str, records: Sequence[Record], folder: Path) -> str:
    picture = base64.b64encode((folder / file).read_bytes()).decode("ascii")
    reading = _text(READINGS[file](records, folder))
    return f"""<section>
<h2>{escape(title)}</h2>
<figure>
<img alt="{escape(title)}" src="data:image/png;base64,{picture}">
<figcaption>{reading}</figcaption>
</figure>
</section>"""


def read_relative_penalty(records: Sequence[Record], folder: Path) -> str:
    """Say which share of the push the nearest tenth of evenly spread negatives carries."""
    temperatures = shown_temperatures(records)
    similarity, push = penalty_curves(temperatures)
    shares = [
        f"{np.sum(curve[similarity >= 0.8]) / np.sum(curve):.0%} at τ = {temperature:g}"
        for temperature, curve in zip(temperatures, push, strict=True)
    ]
    return (
        f"Of negatives spread evenly over [{MINUS}1, 1], the nearest tenth takes this share of the push: "
        f"{_and(shares)}; under the simple loss, 10%."
    )


def read_uniformity_tolerance(records: Sequence[Record], folder: Path) -> str:
    """Say where each family starts and ends."""
    parts = []
    for loss, name in (("softmax", "softmax"), ("hard-softmax", "hard softmax")):
        family = [(c, runs) for c, runs in columns(records).items() if c.loss == loss]
        ends = [family[0], family[-1]] if len(family) > 1 else family
        at = [
            f"{_place(mean(runs, 'uniformity'), mean(runs, 'tolerance'))} at τ = {c.temperature:g}" for c, runs in ends
        ]
        if at:
            parts.append(f"{name} has {' and '.join(at)}")
    limits = any(record["loss"] in LIMITS.values() for record in records)
    dashed = "; a dashed line is the loss that its family becomes as τ grows" if limits else ""
    dotted = "The dotted line is the uniformity of points spread evenly over the sphere"
    return f"{_capital('; '.join(parts))}. {dotted}{dashed}."


def read_dilemma(records: Sequence[Record], folder: Path) -> str:
    """Say which run is the most accurate, and where it stands."""
    best = max(records, key=lambda r: r["few_label_accuracy"])
    worst = min(records, key=lambda r: r["few_label_accuracy"])
    return f"Each point is a run{_lines(records)}. With few labels {_stands(best)} is best and {_stands(worst)} worst."


def _lines(records: Sequence[Record]) -> str:
    """Say what the lines join, where there are any."""
    joined = [[runs for c, runs in columns(records).items() if c.loss == family] for family in LIMITS]
    drawn = [family for family in joined if len(family) > 1]
    if not drawn:
        return ""
    several = any(len(runs) > 1 for family in drawn for runs in family)
    return f"; lines join {'the means over the seeds of ' if several else ''}a family as τ grows"


def read_accuracy(records: Sequence[Record], folder: Path) -> str:
    """Say which column is the most accurate by either measure."""
    by_column = columns(records)
    best = []
    for field, name in (("linear_accuracy", "with a linear classifier"), ("few_label_accuracy", "with few labels")):
        column = max(by_column, key=lambda c: mean(by_column[c], field))
        best.append(f"{name}, {column.label} ({100.0 * mean(by_column[column], field):.1f}%)")
    return f"Most accurate: {'; '.join(best)}."


def read_separation(records: Sequence[Record], folder: Path) -> str:
    """Say how far the positive stands above the nearest and the last of the nearest negatives."""
    gaps = []
    for family in LIMITS.items():
        for column, runs in shown_columns(records, family, 2):
            loaded = [load_run(folder, run) for run in runs]
            positive = np.median(np.concatenate([run["positive_similarity"] for run in loaded]))
            nearest = np.median(np.concatenate([run["nearest"] for run in loaded]), axis=0)  # (n,)
            first, last = (_signed(positive - s) for s in (nearest[0], nearest[-1]))
            gaps.append(f"{first} and {last} ({column.label})")
    return (
        f"Median similarity of the positive, less that of the nearest negative and of number {nearest.size}: "
        f"{'; '.join(gaps)}. Below 0, another sample is more alike than the sample's own other view. Boxes hold the "
        "middle half, whiskers reach from the 5th to the 95th percentile."
    )


def read_embedding(records: Sequence[Record], folder: Path) -> str:
    """Say how the pictures came about."""
    return (
        "Every held-out sample as its label, on the first two principal axes of the embedding of its own panel: "
        "positions in one panel say nothing about another, and what the two axes leave out is not seen."
    )


READINGS = {
    "relative-penalty.png": read_relative_penalty,
    "uniformity-tolerance.png": read_uniformity_tolerance,
    "dilemma.png": read_dilemma,
    "accuracy.png": read_accuracy,
    "local-separation.png": read_separation,
    "embedding.png": read_embedding,
}


def _stands(record: Record) -> str:
    label = Column(record["loss"], record["temperature"]).label
    where = _place(record["uniformity"], record["tolerance"])
    return f"{label} ({100.0 * record['few_label_accuracy']:.1f}%, {where})"


def _place(uniformity: float, tolerance: float) -> str:
    return f"uniformity {_signed(uniformity)}, tolerance {_signed(tolerance)}"


def _signed(number: float) -> str:
    return f"{round(number, 2) + 0.0:.2f}".replace("-", MINUS)  # + 0.0: no minus before a zero


def _settings(records: Sequence[Record]) -> str:
    settings = dict(_flat(records[0]["settings"]))
    settings["seconds, all runs added"] = round(sum(record["seconds"] for record in records))
    settings["refcl"] = refcl.__version__
    items = "\n".join(f"<div><dt>{escape(str(k))}</dt><dd>{escape(_plain(v))}</dd></div>" for k, v in settings.items())
    return f"""<section>
<h2>Settings</h2>
<dl>
{items}
</dl>
</section>"""


def _text(text: str) -> str:
    """Return plain text as HTML that breaks no line inside "τ = 1"."""
    return escape(text).replace("τ = ", "τ&nbsp;=&nbsp;")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}: ")
        else:
            yield prefix + key.replace("_", " "), value


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
