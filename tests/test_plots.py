"""The figures and the report of a study: that they show what the records say, for whatever subset of runs there is."""

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from refcl.experiment import findings as finding
from refcl.experiment.findings import CLAIMS, findings
from refcl.experiment.paper import CIFAR10, Column, Measured, columns, mean
from refcl.experiment.plots import PLOTS, draw_figures
from refcl.experiment.plots.curves import (
    draw_accuracy,
    draw_relative_penalty,
    draw_uniformity_tolerance,
    penalty_curves,
)
from refcl.experiment.plots.dilemma import draw_dilemma
from refcl.experiment.plots.embedding import draw_embedding, draw_separation, principal_plane
from refcl.experiment.plots.labels import place
from refcl.experiment.plots.look import spread, style
from refcl.experiment.report import (
    read_dilemma,
    read_relative_penalty,
    read_separation,
    read_uniformity_tolerance,
    write_report,
)
from refcl.experiment.results import write_run

TABLE = list(CIFAR10)
SUBSETS = {
    "one loss, one temperature": ([Column("softmax", 0.3)], (0,)),
    "no temperature at all": ([Column("simple", None), Column("hard-simple", None)], (0,)),
    "one run without temperature": ([Column("hard-simple", None)], (0,)),
    "hard only": ([c for c in TABLE if c.loss == "hard-softmax"], (0,)),
    "no simple loss, several seeds": ([c for c in TABLE if c.temperature], (0, 3)),
    "a sweep": ([Column(loss, t) for loss in ("softmax", "hard-softmax") for t in np.geomspace(0.01, 5.0, 12)], (0,)),
}


def make_study(folder, table, seeds=(0,), *, anchors=60, dimension=6, nearest=10):
    """Write runs with made-up arrays, and return their records; measures follow the paper's table where it has them."""
    (folder / "runs").mkdir(parents=True)
    records = []
    for i, column in enumerate(table):
        paper = CIFAR10.get(column, Measured(0.8, 3.0 - 0.1 * i, 0.2 + 0.02 * i))
        for seed in seeds:
            rng = np.random.default_rng([seed, i])
            record = {
                "loss": column.loss,
                "temperature": column.temperature,
                "hardest": 0.0819 if column.loss.startswith("hard") else None,
                "keys": "bank",
                "seed": seed,
                "epochs": 3,
                "uniformity": paper.uniformity + 0.01 * seed,
                "tolerance": paper.tolerance + 0.002 * seed,
                "alignment": 0.125,
                "linear_accuracy": paper.accuracy + 0.001 * seed,
                "few_label_accuracy": paper.accuracy - 0.1 + 0.003 * seed,
                "seconds": 1.5,
                "settings": {"data": "<mine> & yours.npz", "hidden": [256, 256], "views": {"noise": 0.3}},
            }
            z, before = rng.standard_normal((2, anchors, dimension))
            arrays = {
                "embedding": (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32),
                "embedding_before": (before / np.linalg.norm(before, axis=1, keepdims=True)).astype(np.float32),
                "labels": rng.integers(0, 10, anchors),
                "positive_similarity": rng.uniform(0.8, 1.0, anchors).astype(np.float32),
                "nearest": -np.sort(-rng.uniform(0.2, 0.8, (anchors, nearest)).astype(np.float32)),
            }
            write_run(folder, record, arrays)
            records.append(record)
    return records


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Draw Table 1 with one seed, once for this file."""
    folder = tmp_path_factory.mktemp("study")
    records = make_study(folder, TABLE)
    return records, folder, draw_figures(records, folder), write_report(records, folder)


# --- figures ---


def test_all_figures_are_drawn_and_none_is_empty(study):
    _, folder, written, _ = study
    assert written == [folder / plot.file for plot in PLOTS]
    for path in written:
        pixels = imread(path)[:, :, :3]
        inked = np.any(pixels < 0.9, axis=-1)
        assert 0.01 < inked.mean() < 0.5, path.name
        assert inked[: len(inked) // 2].any()
        assert inked[len(inked) // 2 :].any()
    assert not list(folder.glob(".*")), "a file that was being written is left over"


@pytest.mark.parametrize("subset", SUBSETS)
def test_any_subset_of_runs(subset, tmp_path):
    table, seeds = SUBSETS[subset]
    records = make_study(tmp_path, table, seeds)
    written = {path.name for path in draw_figures(records, tmp_path)}
    expected = {"relative-penalty.png", "local-separation.png", "embedding.png"}
    expected |= {"dilemma.png"} if len(records) > 1 else set()
    expected |= {"uniformity-tolerance.png", "accuracy.png"} if any(c.temperature for c in table) else set()
    assert written == expected
    page = write_report(records, tmp_path).read_text(encoding="utf-8")
    assert page.count("data:image/png") == len(expected)


def test_figures_of_losses_that_were_not_run_are_left_out(tmp_path):
    """A study may hold none of the paper's losses."""
    assert [path.name for path in draw_figures([], tmp_path)] == ["relative-penalty.png"]  # it is a formula's


def test_same_study_same_bytes(tmp_path):
    records = make_study(tmp_path, TABLE[:2])
    first = [path.read_bytes() for path in draw_figures(records, tmp_path)]
    assert [path.read_bytes() for path in draw_figures(records, tmp_path)] == first


def test_users_matplotlib_is_left_alone(tmp_path):
    make_study(tmp_path, TABLE[:1])
    script = (
        "import sys, matplotlib\n"
        "from pathlib import Path\n"
        "import refcl.experiment.plots as plots\n"
        "assert 'matplotlib.figure' not in sys.modules, 'imported before anything is drawn'\n"
        "matplotlib.rcParams['font.size'] = 31\n"
        "def settings():  # but for the backend: looking at that loads pyplot\n"
        "    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != 'backend'}\n"
        "before = settings()\n"
        "records = [dict(loss='softmax', temperature=0.07, seed=0, uniformity=1.0, tolerance=0.1,\n"
        "                linear_accuracy=0.9, few_label_accuracy=0.8)]\n"
        "print(len(plots.draw_figures(records, Path(sys.argv[1]))))\n"
        "assert settings() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "5\n"


@pytest.mark.parametrize("temperature", [0.07, 0.3, 2.0])
def test_penalty_curves_are_the_boltzmann_law(temperature):
    similarity, (curve,) = penalty_curves([temperature])
    assert np.mean(curve) == pytest.approx(1.0, rel=1e-12)
    slope = np.diff(np.log(curve)) / np.diff(similarity)
    assert slope == pytest.approx(np.full(slope.size, 1.0 / temperature), rel=1e-9)


def test_relative_penalty_shows_the_temperatures_of_the_study(study):
    records, folder, *_ = study
    (axis,) = draw_relative_penalty(records, folder).axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [
        *("τ = 0.07", "τ = 0.3", "τ = 0.7", "τ = 1"),
        "simple loss (τ → ∞)",
    ]


def test_lines_are_means_over_seeds(tmp_path):
    records = make_study(tmp_path, TABLE, seeds=(0, 2))
    axes = draw_uniformity_tolerance(records, tmp_path).axes
    for axis, field in zip(axes, ("uniformity", "tolerance"), strict=True):
        lines = {line.get_label(): line for line in axis.lines}
        for loss, name in (("softmax", "softmax"), ("hard-softmax", "hard softmax")):
            x, y = lines[name].get_data()
            expected = [mean(r, field) for c, r in columns(records).items() if c.loss == loss]
            assert list(x) == [0.07, 0.3, 0.7, 1.0]
            assert list(y) == expected
        for loss, name in (("simple", "simple"), ("hard-simple", "hard simple")):
            level = mean(columns(records)[Column(loss, None)], field)
            assert list(lines[name].get_ydata()) == [level, level]


def test_accuracy_in_percent(study):
    records, folder, *_ = study
    linear, few = draw_accuracy(records, folder).axes
    assert list(linear.lines[0].get_ydata()) == pytest.approx([79.75, 83.27, 82.69, 82.21])
    assert list(few.lines[0].get_ydata()) == pytest.approx([69.75, 73.27, 72.69, 72.21])


def test_boxes_are_the_quartiles(tmp_path):
    (record,) = make_study(tmp_path, [Column("softmax", 0.3)], nearest=4)
    (axis,) = draw_separation([record], tmp_path).axes
    with np.load(tmp_path / "runs" / "softmax-0.3-seed0.npz", allow_pickle=False) as arrays:
        samples = [arrays["positive_similarity"], *arrays["nearest"].T]
    assert len(axis.patches) == 5
    for patch, sample in zip(axis.patches, samples, strict=True):
        drawn = (patch.get_y(), patch.get_y() + patch.get_height())
        assert drawn == pytest.approx(tuple(np.percentile(sample, [25, 75])), rel=1e-5)
    lowest, highest = np.percentile(samples[-1], 5), np.percentile(samples[0], 95)
    assert axis.get_ylim()[0] < lowest
    assert axis.get_ylim()[1] > highest
    assert axis.get_ylim()[0] > lowest - 0.1, "the axis starts at the ground, not at the whiskers"


@pytest.mark.parametrize("across", [1, 2, 3, 4])
def test_the_caption_of_the_separation_is_on_the_picture(across, tmp_path):
    records = make_study(tmp_path, [Column("hard-softmax", t) for t in (0.07, 0.3, 0.7, 1.0)[:across]])
    with style():
        figure = draw_separation(records, tmp_path)
        figure.draw_without_rendering()
        (caption,) = [text for text in figure.texts if "nearest negatives" in text.get_text()]
        left, bottom, right, top = caption.get_window_extent().extents
    assert min(left, bottom) >= 0.0
    assert right <= figure.bbox.width
    assert top <= figure.bbox.height


def test_embedding_shows_before_and_a_choice_of_columns(study):
    records, folder, *_ = study
    titles = [axis.get_title().split("\n")[0] for axis in draw_embedding(records, folder).axes]
    assert titles == [
        *("before training", "softmax, τ = 0.07", "softmax, τ = 1"),
        *("simple", "hard softmax, τ = 1", "hard simple"),
    ]


def test_principal_plane_of_points_on_a_plane():
    rng = np.random.default_rng(3)
    flat = rng.standard_normal((40, 2)) * [3.0, 0.5]
    basis, _ = np.linalg.qr(rng.standard_normal((7, 2)))
    plane, share = principal_plane(flat @ basis.T + 5.0)
    assert share == pytest.approx(1.0)
    assert np.linalg.norm(plane[:, None] - plane, axis=-1) == pytest.approx(
        np.linalg.norm(flat[:, None] - flat, axis=-1), abs=1e-9
    )
    assert plane[:, 0].std() > plane[:, 1].std()


def test_principal_plane_of_a_line_and_of_a_point():
    line, share = principal_plane(np.array([[-1.0], [1.0], [1.0]]))
    assert share == pytest.approx(1.0)
    assert np.all(line[:, 1] == 0.0)
    point, share = principal_plane(np.ones((5, 3)))
    assert share == 0.0
    assert np.all(point == 0.0)


@pytest.mark.parametrize(
    ("values", "count", "kept"),
    [([1.0, 2.0], 4, [1.0, 2.0]), ([1.0, 2.0, 3.0, 4.0, 5.0], 3, [1.0, 3.0, 5.0]), ([], 3, [])],
)
def test_spread(values, count, kept):
    assert spread(values, count) == kept


# --- labels ---


def boxes_overlap(a, b):
    return bool(np.all(np.minimum(a[2:], b[2:]) > np.maximum(a[:2], b[:2])))


@pytest.mark.parametrize("seed", range(8))
def test_labels_cover_neither_each_other_nor_a_point(seed):
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.uniform(40, 300, (5, 2)), rng.normal([220, 90], 9.0, (7, 2))])
    sizes = np.column_stack([rng.uniform(25, 40, 12), np.full(12, 10.0)])
    frame = np.array([0.0, 0.0, 400.0, 300.0])
    centres = place(points, sizes, frame, points)
    boxes = np.hstack([centres - sizes / 2.0, centres + sizes / 2.0])
    assert np.all(boxes[:, :2] >= frame[:2])
    assert np.all(boxes[:, 2:] <= frame[2:])
    for i, box in enumerate(boxes):
        assert not any(boxes_overlap(box, other) for other in boxes[i + 1 :])
        assert not any(np.all((box[:2] < point) & (point < box[2:])) for point in points)


def test_labels_of_the_dilemma_do_not_overlap(study):
    records, folder, *_ = study
    with style():
        figure = draw_dilemma(records, folder)
        figure.draw_without_rendering()
        axis = figure.axes[0]
        boxes = [np.array(Text.get_window_extent(text).extents) for text in axis.texts]  # without its leader line
        points = axis.transData.transform([(r["uniformity"], r["tolerance"]) for r in records])
    assert [text.get_text() for text in axis.texts] == [f"τ = {c.temperature:g}" for c in TABLE if c.temperature]
    for i, box in enumerate(boxes):
        assert not any(boxes_overlap(box, other) for other in boxes[i + 1 :])
        assert not any(np.all((box[:2] < point) & (point < box[2:])) for point in points)


# --- findings ---


def test_every_claim_holds_for_the_paper_itself():
    outcomes = {claim.sentence: claim.ask(CIFAR10) for claim in CLAIMS}
    assert all(outcome is not None and outcome.margin > 0.0 for outcome in outcomes.values()), outcomes


def test_claims_ask_the_numbers():
    falls = finding.uniformity_falls(CIFAR10)
    assert falls.margin == pytest.approx(0.90)
    assert falls.numbers == "3.86 at τ = 0.07, 2.96 at τ = 1"
    assert finding.tolerance_rises(CIFAR10).margin == pytest.approx(0.332)
    assert finding.best_between(CIFAR10).numbers == "83.3% at τ = 0.3"
    assert finding.hard_is_flat(CIFAR10).margin == pytest.approx(0.87)
    assert finding.hard_is_better(CIFAR10).margin == pytest.approx(0.0198)
    assert finding.simple_is_worst(CIFAR10).numbers == "74.8%; lowest other 79.2% (hard softmax, τ = 0.07)"
    assert finding.hard_rescues_simple(CIFAR10).margin == pytest.approx(0.1001)


def test_claims_notice_the_opposite():
    upside_down = {c: Measured(1.0 - m.accuracy, -m.uniformity, -m.tolerance) for c, m in CIFAR10.items()}
    margins = {claim.ask.__name__: claim.ask(upside_down).margin for claim in CLAIMS}
    flat = margins.pop("hard_is_flat")  # ranges do not turn over
    assert flat > 0.0
    assert all(margin < 0.0 for margin in margins.values()), margins


def test_claims_without_their_columns_are_not_made():
    assert all(claim.ask({}) is None for claim in CLAIMS)
    only = {Column("softmax", 0.3): CIFAR10[Column("softmax", 0.3)], Column("simple", None): Measured(0.5, 1.0, 0.5)}
    made = [claim.ask.__name__ for claim in CLAIMS if claim.ask(only) is not None]
    assert made == ["simple_is_worst"]


def test_large_temperatures_are_asked_for_at_large_temperatures_only():
    def hard_and_soft(temperature):
        return {c: m for c, m in CIFAR10.items() if c.temperature == temperature}

    assert finding.hard_is_better(hard_and_soft(0.3)) is None
    assert finding.hard_is_better(hard_and_soft(0.7)).numbers == "84.2% against 82.7% at τ = 0.7"


def test_verdicts(study):
    records, *_ = study
    assert {f.verdict for f in findings(records, 10**6)} == {"as there"}
    few = {f.sentence: f.verdict for f in findings(records, 100)}  # a standard error of four points
    assert few["Softmax is most accurate at a temperature in between (linear)"] == "too close to tell"
    assert few["The larger the temperature, the less uniform is softmax"] == "as there"
    swapped = [record | {"linear_accuracy": 1.0 - record["linear_accuracy"]} for record in records]
    assert {f.sentence: f.verdict for f in findings(swapped, 10**6)}[
        "… and the hardest negatives alone mend it (linear)"
    ] == "differs"


# --- the report ---


class Page(HTMLParser):
    """Collect cells and pictures, and hold that every tag is closed."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.sources, self.rows, self.text = [], [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def page(study):
    return Page(study[3].read_text(encoding="utf-8"))


def test_report_needs_nothing_else(study, page):
    _, folder, written, report = study
    assert report == folder / "report.html"
    assert page.open == []
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"https?:|@import|url\(", report.read_text(encoding="utf-8"))
    head, *_ = zip(*(source.split(",") for source in page.sources), strict=True)
    assert set(head) == {"data:image/png;base64"}
    pictures = [base64.b64decode(source.split(",")[1], validate=True) for source in page.sources]
    assert pictures == [path.read_bytes() for path in written]


def test_report_shows_the_runs_beside_the_paper(page):
    row = next(row for row in page.rows if row[0] == "softmax, τ\u00a0=\u00a00.3")
    assert row[1:] == ["3.60", "3.60", "0.178", "0.178", "83.3", "83.3", "73.3", "0.125"]


def test_report_escapes_what_it_did_not_write(page):
    assert "<mine> & yours.npz" in page.text
    assert "views: noise" in page.text


def test_report_of_seeds_and_unknown_columns(tmp_path):
    records = make_study(tmp_path, [Column("softmax", 0.25)], seeds=(0, 2))
    page = Page(write_report(records, tmp_path).read_text(encoding="utf-8"))
    row = next(row for row in page.rows if row[0].startswith("softmax"))
    # two seeds that differ by d have a standard deviation of d / √2
    assert row[1:4] == ["3.01 ± 0.01", "–", "0.202 ± 0.003"]
    assert "asked of these runs" not in page.text  # one column settles none of the paper's findings
    assert page.sources == []  # nothing was drawn


def test_reading_of_the_relative_penalty(study):
    records, folder, *_ = study
    reading = read_relative_penalty(records, folder)
    for temperature in (0.07, 0.3, 0.7, 1.0):
        exact = (1.0 - np.exp(-0.2 / temperature)) / (1.0 - np.exp(-2.0 / temperature))
        said = re.search(rf"(\d+)% at τ = {temperature:g}\b", reading)
        assert abs(int(said[1]) / 100.0 - exact) < 0.01


@pytest.mark.parametrize(
    ("table", "seeds", "said"),
    [
        ([Column("dcl", 0.1), Column("hcl", 0.5)], (0,), "Each point is a run. "),
        ([Column("softmax", 0.3), Column("simple", None)], (0, 1), "Each point is a run. "),
        (TABLE, (0,), "Each point is a run; lines join a family as τ grows. "),
        (TABLE, (0, 1), "Each point is a run; lines join the means over the seeds of a family as τ grows. "),
    ],
)
def test_reading_of_the_dilemma_speaks_of_lines_that_are_drawn(table, seeds, said, tmp_path):
    records = make_study(tmp_path, table, seeds)
    assert read_dilemma(records, tmp_path).startswith(said)
    lines = draw_dilemma(records, tmp_path).axes[0].lines
    assert any(len(line.get_xdata()) > 1 for line in lines) == ("lines" in said)


def test_reading_of_the_curves_speaks_of_limits_that_are_drawn(study, tmp_path):
    records, folder, *_ = study
    assert "; a dashed line is the loss that" in read_uniformity_tolerance(records, folder)
    alone = [record for record in records if record["loss"] == "softmax"]
    assert "dashed" not in read_uniformity_tolerance(alone, folder)


def test_reading_of_the_separation(tmp_path):
    (record,) = make_study(tmp_path, [Column("simple", None)])
    with np.load(tmp_path / "runs" / "simple-seed0.npz", allow_pickle=False) as arrays:
        positive = np.median(arrays["positive_similarity"])
        first, tenth = (positive - np.median(arrays["nearest"][:, k]) for k in (0, 9))
    reading = read_separation([record], tmp_path)
    assert f"number 10: {first:.2f} and {tenth:.2f} (simple)." in reading
