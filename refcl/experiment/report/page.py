"""A study as one page.

In:  the records of the runs, the folder with their arrays and pictures, and their resamples.
Out: ``report.html``, the claims, tables, figures and what they say, in one file that needs no network, and
scripts for one figure alone; ``claims.json``, the claims with their evidence.
"""

import base64
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

import refcl
from refcl.experiment.plots import PLOTS
from refcl.experiment.plots.look import Shown
from refcl.experiment.report.captions import MINUS, READINGS, Seen, alternative
from refcl.experiment.report.claims import AS_THERE, CANNOT_TELL, DIFFERS, PROBES, Finding, as_json, findings
from refcl.experiment.report.explorable import allowed, explorable, scripts
from refcl.experiment.report.paper import CIFAR10, beside_paper
from refcl.experiment.report.resampling import RESAMPLES
from refcl.experiment.report.stylesheet import STYLESHEET
from refcl.experiment.results import Column, Record, columns, mean, write_json, write_whole

DASH = "\u2013"
CLAIMS_FILE, REPORT = "claims.json", "report.html"


def write_report(shown: Shown, *, others: int = 0) -> Path:
    """Write the report of a study and its claims, each whole or not at all.

    Parameters
    ----------
    shown : Shown
        One record a run, as in ``results.json``; at least one. The figures are those that
        `refcl.experiment.plots.draw_figures` left in the folder.
    others : int
        How many more records the study has, of other numbers of epochs.

    Returns
    -------
    Path
        ``folder/report.html``.
    """
    records, folder = shown.records, shown.folder
    found = findings(shown.evidence)
    seen = Seen(shown, {finding.name: finding for finding in found})
    sections = [
        _header(records, others),
        _findings(seen, found),
        _table(records),
        explorable(records),
        *(_figure(plot.file, plot.title, seen) for plot in PLOTS if (folder / plot.file).exists()),
        _not_drawn([plot.title for plot in PLOTS if not (folder / plot.file).exists()]),
        _settings(records),
    ]
    write_json(folder / CLAIMS_FILE, as_json(found))
    path = folder / REPORT
    write_whole(path, _page("\n".join(sections)).encode())
    return path


def _page(body: str) -> str:
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed()}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>What temperature does</title>
<style>
{STYLESHEET}</style>
</head>
<body>
<main>
{body}
</main>
{scripts()}
</body>
</html>
"""


def _header(records: Sequence[Record], others: int) -> str:
    seeds = len({record["seed"] for record in records})
    runs = f"{len(records)} {'run' if len(records) == 1 else 'runs'}"
    over = f", {seeds} seeds" if seeds > 1 else ""
    data = records[0]["settings"]["data"]
    on = "handwritten digits" if beside_paper(records) else _text(str(data))
    also = f" {others} more runs, of other numbers of epochs, are in results.json." if others else ""
    return f"""<header>
<h1>What temperature does</h1>
<p class="lead">The softmax contrastive loss pushes an anchor&rsquo;s negatives away, the near ones hardest; the
temperature τ says how much harder. Here one encoder is trained on {on} under losses of Wang and Liu,
<cite>Understanding the Behaviour of Contrastive Loss</cite> (CVPR 2021), or beside them, and measured on samples it has
not seen: {runs}{over}, {records[0]["epochs"]} epochs.{also}</p>
</header>"""


def _table(records: Sequence[Record]) -> str:
    beside = beside_paper(records) and any(column in CIFAR10 for column in columns(records))
    rows = "\n".join(_row(column, runs, beside) for column, runs in columns(records).items())
    several = any(len(runs) > 1 for runs in columns(records).values())
    spread = " Means over the seeds, ± their standard deviation." if several else ""
    title = "The runs, beside the paper&rsquo;s CIFAR-10" if beside else "The runs"
    compare = (
        " The paper trained a ResNet-18 on CIFAR-10: compare how the rows are ordered, not their values."
        if beside
        else ""
    )
    guess = records[0]["settings"].get("guess_accuracy")
    level = f" Guessing the largest class is right for {100 * guess:.1f}%." if guess is not None else ""
    span = 2 if beside else 1
    heads = "<th scope='col'>here</th><th scope='col' class='paper'>paper</th>"
    here = "<th scope='col'>here</th>"
    second = f"\n<tr>{heads * 3}{here * 2}</tr>" if beside else ""
    tall = ' rowspan="2"' if beside else ""
    return f"""<section>
<h2>{title}</h2>
<div class="wide" tabindex="0" role="region" aria-label="The runs"><table>
<thead>
<tr><th scope="col"{tall}>loss</th><th scope="colgroup" colspan="{span}">uniformity</th>
<th scope="colgroup" colspan="{span}">tolerance</th><th scope="colgroup" colspan="{span}">linear accuracy, %</th>
<th scope="col">few labels, %</th><th scope="col">alignment</th></tr>{second}
</thead>
<tbody>
{rows}
</tbody>
</table></div>
<p class="note">Uniformity is {MINUS}L<sub>uniformity</sub> with t = 2, larger is more uniform; tolerance is the mean
cosine within a class; alignment is the mean squared distance of two views, smaller is more
alike.{spread}{level}{compare}</p>
</section>"""


def _row(column: Column, runs: Sequence[Record], beside: bool) -> str:
    paper = CIFAR10.get(column)
    numbers = (
        ("uniformity", 1.0, 2, f"{paper.uniformity:.2f}" if paper else DASH),
        ("tolerance", 1.0, 3, f"{paper.tolerance:.3f}" if paper else DASH),
        ("linear_accuracy", 100.0, 1, f"{100.0 * paper.accuracy:.1f}" if paper else DASH),
    )
    cells = []
    for field, scale, digits, theirs in numbers:
        cells.append(_cell(runs, field, scale, digits))
        cells += [f'<td class="paper">{theirs}</td>'] if beside else []
    cells += [_cell(runs, "few_label_accuracy", 100.0, 1), _cell(runs, "alignment", 1.0, 3)]
    return f'<tr><th scope="row">{_text(column.label)}</th>{"".join(cells)}</tr>'


def _cell(runs: Sequence[Record], field: str, scale: float, digits: int) -> str:
    text = f"{scale * mean(runs, field):.{digits}f}".replace("-", MINUS)
    if len(runs) > 1:
        deviation = scale * float(np.std([record[field] for record in runs], ddof=1))
        text += f' <span class="spread">± {deviation:.{digits}f}</span>'
    return f"<td>{text}</td>"


def _findings(seen: Seen, found: Sequence[Finding]) -> str:
    if not found:
        return ""
    counts = Counter(finding.verdict for finding in found)
    summary = ", ".join(
        f"{counts[verdict]} {words}"
        for verdict, words in (
            (AS_THERE, "as there"),
            (DIFFERS, "the other way round"),
            (CANNOT_TELL, "cannot be told"),
        )
        if counts[verdict]
    )
    evidence = seen.shown.evidence
    left = (
        f" Left out, for they lack a seed that others have: {_text(', '.join(c.label for c in evidence.left_out))}."
        if evidence.left_out
        else ""
    )
    there = " on CIFAR-10 (local separation: CIFAR-100)" if seen.shown.beside_paper else ""
    return f"""<section>
<h2>The paper&rsquo;s claims, asked of these runs</h2>
<p>Of {len(found)} questions, {summary}. The list was made before the runs and holds what fails, too.</p>
<div class="wide" tabindex="0" role="region" aria-label="The paper's claims"><table class="words">
<thead><tr><th scope="col">the paper claims</th><th scope="col" class="paper">there{there}</th>
<th scope="col">here</th><th scope="col">by how much</th><th scope="col">verdict, and why</th></tr></thead>
<tbody>
{chr(10).join(map(_finding, found))}
</tbody>
</table></div>
<p class="note">By how much: the difference that the claim is about, positive where it holds, and its 95% interval over
{RESAMPLES} resamples, seeds first, then samples within a seed; all losses see the same draws. Where the best of several
is meant, it is chosen on one half of the samples and judged on the other, in every resample anew. A verdict needs
every seed on one side and p &lt; .05 after Holm&rsquo;s correction for {len(found)} questions.{left}</p>
</section>"""


def _finding(finding: Finding) -> str:
    mark = {AS_THERE: "yes", DIFFERS: "no"}.get(finding.verdict, "close")
    scale, unit = (100.0, " points") if any(name in finding.name for name in PROBES.values()) else (1.0, "")
    margin = (
        f"{_number(scale * finding.margin)}{unit} [{_number(scale * finding.low)}, {_number(scale * finding.high)}]"
    )
    return (
        f'<tr><th scope="row">{_text(finding.sentence)} <span class="spread">{escape(finding.where)}</span></th>'
        f'<td class="paper" data-label="there">{_text(finding.there)}</td>'
        f'<td data-label="here">{_text(finding.here)}</td>'
        f'<td data-label="by how much" class="margin">{margin}</td>'
        f'<td data-label="verdict"><span class="{mark}">{finding.verdict}</span>'
        f'<span class="spread why">{escape(finding.why)}</span></td></tr>'
    )


def _number(value: float) -> str:
    digits = 1 if abs(value) >= 10 else 2
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def _figure(file: str, title: str, seen: Seen) -> str:
    content = (seen.shown.folder / file).read_bytes()
    picture = base64.b64encode(content).decode("ascii")
    width, height = (int.from_bytes(content[k : k + 4], "big") for k in (16, 20))  # of a PNG: no jump while it loads
    if not beside_paper(seen.shown.records):
        title = title.partition(" (Fig")[0]
    return f"""<section>
<h2>{escape(title)}</h2>
<figure>
<img width="{width}" height="{height}" alt="{escape(alternative(file, seen))}" src="data:image/png;base64,{picture}">
<figcaption>{_text(READINGS[file](seen))}</figcaption>
</figure>
</section>"""


def _not_drawn(titles: Sequence[str]) -> str:
    if not titles:
        return ""
    names = "; ".join(title.partition(" (Fig")[0].lower() for title in titles)
    return f"""<section>
<h2>What is not drawn</h2>
<p>{escape(names[:1].upper() + names[1:])}: a figure against the temperature needs a loss that was run at one, and a
comparison two runs. <code>--resume</code> with more <code>--temperatures</code> or <code>--losses</code> adds them.</p>
</section>"""


def _settings(records: Sequence[Record]) -> str:
    settings = dict(_flat(records[0]["settings"]))
    settings["seconds, all runs added"] = round(sum(record["seconds"] for record in records))
    elsewhere = sorted({record["elsewhere"]["worker"] for record in records if record["elsewhere"]})
    if elsewhere:
        settings["run with other versions or kernels, by"] = elsewhere
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
        shown = list(map(_plain, value[:20]))
        return ", ".join([*shown, "..."] if len(value) > len(shown) else shown)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
