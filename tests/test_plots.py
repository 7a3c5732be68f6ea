"""The figures and the report of a study: that they show what the records say, for whatever subset of runs there is."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text
from scipy import stats

from refcl.experiment.plots import PLOTS, draw_figures, look
from refcl.experiment.plots.curves import (
    draw_accuracy,
    draw_relative_penalty,
    draw_uniformity_tolerance,
    penalty_curves,
)
from refcl.experiment.plots.dilemma import draw_dilemma
from refcl.experiment.plots.embedding import draw_embedding, draw_separation, draw_separation_training, principal_plane
from refcl.experiment.plots.labels import place
from refcl.experiment.plots.look import Shown, spread, style
from refcl.experiment.report import claims
from refcl.experiment.report.captions import (
    ALTERNATIVES,
    READINGS,
    Seen,
    read_dilemma,
    read_relative_penalty,
    read_separation,
    read_uniformity_tolerance,
)
from refcl.experiment.report.claims import CLAIMS, findings
from refcl.experiment.report.page import write_report
from refcl.experiment.report.paper import CIFAR10, SEPARATION, Measured
from refcl.experiment.report.resampling import Values, holm, interval, p_value, resample
from refcl.experiment.results import Column, columns, mean, run_path, write_arrays

TABLE = list(CIFAR10)
SUBSETS = {
    "one loss, one temperature": ([Column("info_nce", 0.3)], (0,)),
    "no temperature at all": ([Column("simple_loss", None), Column("hard_simple_loss", None)], (0,)),
    "one run without temperature": ([Column("hard_simple_loss", None)], (0,)),
    "hard only": ([c for c in TABLE if c.loss == "hard_info_nce"], (0,)),
    "no simple loss, several seeds": ([c for c in TABLE if c.temperature], (0, 3)),
    "a sweep": ([Column(loss, t) for loss in ("info_nce", "hard_info_nce") for t in np.geomspace(0.01, 5.0, 12)], (0,)),
}


def make_study(folder, table, seeds=(0,), *, anchors=60, dimension=6, nearest=10, data="digits", noise=0.0):
    """Write runs with made-up arrays, and return their records; measures follow the paper's table where it has them."""
    (folder / "runs").mkdir(parents=True)
    records = []
    for i, column in enumerate(table):
        paper = CIFAR10.get(column, Measured(0.8, 3.0 - 0.1 * i, 0.2 + 0.02 * i))
        for seed in seeds:
            rng = np.random.default_rng([seed, i])
            shift = noise * rng.standard_normal()
            positive, near = rng.uniform(0.8, 1.0, anchors), -np.sort(-rng.uniform(0.2, 0.8, (anchors, nearest)))
            record = {
                "loss": column.loss,
                "temperature": column.temperature,
                "hardest": 0.0819 if column.loss.startswith("hard") else None,
                "seed": seed,
                "keys": "bank",
                "epochs": 3,
                "uniformity": paper.uniformity + 0.01 * seed,
                "tolerance": paper.tolerance + 0.002 * seed,
                "alignment": 0.125,
                "linear_accuracy": paper.accuracy + 0.001 * seed + shift,
                "few_label_accuracy": paper.accuracy - 0.1 + 0.003 * seed + shift,
                "separation": float(np.mean(positive - near[:, 0])),
                "separation_training": float(np.mean(positive - near[:, 0])) - 0.1,
                "positive_training": float(np.mean(positive)),
                "seconds": 1.5,
                "elsewhere": None,
                "settings": {
                    "data": data,
                    "hidden": [256, 256],
                    "views": {"noise": 0.3},
                    "classes": list("0123456789"),
                },
            }
            z, before = rng.standard_normal((2, anchors, dimension))
            spread_out = 0.05 * np.linspace(-1.0, 1.0, anchors)
            arrays = {
                "embedding": (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32),
                "embedding_before": (before / np.linalg.norm(before, axis=1, keepdims=True)).astype(np.float32),
                "labels": np.arange(anchors) % 10,
                "linear_correct": record["linear_accuracy"] + spread_out,
                "few_label_correct": record["few_label_accuracy"] + spread_out,
                "uniformity_score": np.full(anchors, np.exp(-record["uniformity"])),
                "tolerance_score": record["tolerance"] + spread_out,
                "anchors": np.arange(anchors),
                "positive_similarity": positive.astype(np.float32),
                "nearest": near.astype(np.float32),
                "anchors_training": np.arange(anchors),
                "positive_similarity_training": positive.astype(np.float32),
                "nearest_training": (near + 0.1).astype(np.float32),
            }
            write_arrays(run_path(folder, record), arrays)
            records.append(record)
    return records


def show(records, folder):
    """Return what figures are drawn from, with few resamples."""
    return Shown(records, folder, resample(records, folder, resamples=199))


def see(shown):
    return Seen(shown, {finding.name: finding for finding in findings(shown.evidence)})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Draw Table 1 with one seed, once for this file, in few pixels."""
    folder = tmp_path_factory.mktemp("study")
    shown = show(make_study(folder, TABLE), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(look, "DPI", 50)
        return shown, folder, draw_figures(shown), write_report(shown)


# --- figures ---


def test_all_figures_are_drawn_and_none_is_empty(study):
    _, folder, written, _ = study
    assert written == [folder / plot.file for plot in PLOTS]
    for path in written:
        pixels = imread(path)[:, :, :3]
        inked = np.any(pixels < 0.9, axis=-1)
        assert 0.008 < inked.mean() < 0.5, path.name
        assert inked[: len(inked) // 2].any()
        assert inked[len(inked) // 2 :].any()
    assert not list(folder.glob(".*")), "a file that was being written is left over"


LARGE = ("hard only", "no simple loss, several seeds", "a sweep")
OTHERS = {
    "other losses": ([Column("dcl", 0.1), Column("dcl", 0.5), Column("rotation", None)], (0, 1)),
    "pretext tasks alone": ([Column("rotation", None), Column("jigsaw", None)], (0,)),
}


@pytest.mark.parametrize(
    "subset", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in [*SUBSETS, *OTHERS]]
)
@pytest.mark.usefixtures("unrendered")
def test_any_subset_of_runs(subset, tmp_path):
    check_figures(subset, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("subset", [name for name in [*SUBSETS, *OTHERS] if name not in LARGE])
def test_any_subset_of_runs_is_rendered(subset, tmp_path):
    check_figures(subset, tmp_path)


def check_figures(subset, tmp_path):
    table, seeds = (SUBSETS | OTHERS)[subset]
    records = make_study(tmp_path, table, seeds)
    shown = show(records, tmp_path)
    written = {path.name for path in draw_figures(shown)}
    expected = {"relative-penalty.png", "local-separation.png", "local-separation-training.png", "embedding.png"}
    expected |= {"columns.png"} if len(table) > 1 else set()
    expected |= {"dilemma.png"} if len(records) > 1 else set()
    expected |= {"uniformity-tolerance.png", "accuracy.png"} if any(c.temperature for c in table) else set()
    assert written == expected
    page = write_report(shown).read_text(encoding="utf-8")
    assert page.count("data:image/png") == len(expected)
    assert ("What is not drawn" in page) == (len(expected) < len(PLOTS))


def test_a_figure_that_a_report_has_no_more_is_taken_away(tmp_path):
    (tmp_path / "accuracy.png").write_bytes(b"of before")
    draw_figures(show(make_study(tmp_path, [Column("jigsaw", None)]), tmp_path))
    assert not (tmp_path / "accuracy.png").exists()


@pytest.mark.slow
def test_same_study_same_bytes(tmp_path):
    records = make_study(tmp_path, TABLE[:2])
    first = [path.read_bytes() for path in draw_figures(show(records, tmp_path))]
    assert [path.read_bytes() for path in draw_figures(show(records, tmp_path))] == first


@pytest.mark.slow
def test_users_matplotlib_is_left_alone(tmp_path):
    records = make_study(tmp_path, TABLE[:1])
    (tmp_path / "records.json").write_text(json.dumps(records))
    script = (
        "import json, sys, matplotlib\n"
        "from pathlib import Path\n"
        "import refcl.experiment.plots as plots\n"
        "from refcl.experiment.report.resampling import resample\n"
        "assert 'matplotlib.figure' not in sys.modules, 'imported before anything is drawn'\n"
        "matplotlib.rcParams['font.size'] = 31\n"
        "def settings():  # but for the backend: looking at that loads pyplot\n"
        "    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != 'backend'}\n"
        "before, folder = settings(), Path(sys.argv[1])\n"
        "records = json.loads((folder / 'records.json').read_text())\n"
        "print(len(plots.draw_figures(plots.Shown(records, folder, resample(records, folder, resamples=9)))))\n"
        "assert settings() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "6\n"


@pytest.mark.parametrize("temperature", [0.07, 0.3, 2.0])
def test_penalty_curves_are_the_boltzmann_law(temperature):
    similarity, (curve,) = penalty_curves([temperature])
    assert np.mean(curve) == pytest.approx(1.0, rel=1e-12)
    slope = np.diff(np.log(curve)) / np.diff(similarity)
    assert slope == pytest.approx(np.full(slope.size, 1.0 / temperature), rel=1e-9)


def test_relative_penalty_shows_the_temperatures_of_the_study(study):
    (axis,) = draw_relative_penalty(study[0]).axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [
        *("τ = 0.07", "τ = 0.3", "τ = 0.7", "τ = 1"),
        "simple loss (τ → ∞)",
    ]


def test_lines_are_means_over_seeds(tmp_path):
    records = make_study(tmp_path, TABLE, seeds=(0, 2))
    axes = draw_uniformity_tolerance(show(records, tmp_path)).axes
    for axis, field in zip(axes[:2], ("uniformity", "tolerance"), strict=True):
        lines = {line.get_label(): line for line in axis.lines}
        for loss, name in (("info_nce", "softmax"), ("hard_info_nce", "hard softmax")):
            x, y = lines[name].get_data()
            expected = [mean(r, field) for c, r in columns(records).items() if c.loss == loss]
            assert list(x) == [0.07, 0.3, 0.7, 1.0]
            assert list(y) == expected
        for loss, name in (("simple_loss", "simple"), ("hard_simple_loss", "hard simple")):
            level = mean(columns(records)[Column(loss, None)], field)
            assert list(lines[name].get_ydata()) == [level, level]


def test_accuracy_in_percent(study):
    linear, few, theirs, _ = draw_accuracy(study[0]).axes
    assert list(linear.lines[0].get_ydata()) == pytest.approx([79.75, 83.27, 82.69, 82.21])
    assert list(few.lines[0].get_ydata()) == pytest.approx([69.75, 73.27, 72.69, 72.21])
    assert theirs.lines[0].get_ydata()[4] == pytest.approx(83.27)  # the authors' curve, τ = .3
    assert any("guessing the largest class: 10%" in text.get_text() for text in linear.texts)


def test_intervals_are_drawn(study):
    shown = study[0]
    for axis in draw_accuracy(shown).axes[:2]:
        ends = [segment[:, 1] for bars in axis.collections[:8] for segment in bars.get_segments()]
        assert len(ends) == 8  # four temperatures of two families
        assert all(high > low for low, high in ends)


@pytest.mark.usefixtures("unrendered")
def test_the_authors_stand_beside_the_default_data_alone(tmp_path):
    records = make_study(tmp_path, TABLE, data="<mine> & yours.npz")
    shown = show(records, tmp_path)
    assert len(draw_accuracy(shown).axes) == 2
    assert len(draw_uniformity_tolerance(shown).axes) == 2
    draw_figures(shown)
    text = write_report(shown).read_text(encoding="utf-8")
    assert "CIFAR" not in text
    assert "(Fig" not in text


def test_boxes_are_the_quartiles(tmp_path):
    (record,) = make_study(tmp_path, [Column("info_nce", 0.3)], nearest=4)
    (axis,) = draw_separation(show([record], tmp_path)).axes
    with np.load(tmp_path / "runs" / "info_nce-0.3-seed0-epochs3.npz", allow_pickle=False) as arrays:
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
    records = make_study(tmp_path, [Column("hard_info_nce", t) for t in (0.07, 0.3, 0.7, 1.0)[:across]])
    with style():
        figure = draw_separation(show(records, tmp_path))
        figure.draw_without_rendering()
        (caption,) = [text for text in figure.texts if "nearest negatives" in text.get_text()]
        left, bottom, right, top = caption.get_window_extent().extents
    assert min(left, bottom) >= 0.0
    assert right <= figure.bbox.width
    assert top <= figure.bbox.height


def test_embedding_shows_before_and_a_choice_of_columns(study):
    titles = [axis.get_title().split("\n")[0] for axis in draw_embedding(study[0]).axes]
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
    records = study[0].records
    with style():
        figure = draw_dilemma(study[0])
        figure.draw_without_rendering()
        axis = figure.axes[0]
        boxes = [np.array(Text.get_window_extent(text).extents) for text in axis.texts]  # without its leader line
        points = axis.transData.transform([(r["uniformity"], r["tolerance"]) for r in records])
    assert [text.get_text() for text in axis.texts] == [f"τ = {c.temperature:g}" for c in TABLE if c.temperature]
    for i, box in enumerate(boxes):
        assert not any(boxes_overlap(box, other) for other in boxes[i + 1 :])
        assert not any(np.all((box[:2] < point) & (point < box[2:])) for point in points)


# --- claims ---


def as_values(table, measure):
    """Return a table of numbers as measures without any chance in them."""
    return Values({c: k for k, c in enumerate(table)}, {measure: np.tile(list(table.values()), (1, 2, 1))}, [0.5, 0.5])


def test_every_claim_holds_for_the_paper_itself():
    for claim in CLAIMS:
        for measure in [claim.measure] if claim.measure else claims.PROBES:
            outcome = claim.ask(claims._papers(measure), measure)
            assert outcome is not None, claim.name
            assert outcome.margin[0] > 0.0, claim.name


def test_the_headline_and_what_fails_are_on_the_list():
    names = [claim.name for claim in CLAIMS]
    assert len(set(names)) == len(names)
    assert {"headline", "hard is flat", "hard simple beats the best", "separation"} <= set(names)


def test_claims_notice_the_opposite():
    """What turns the paper's numbers over turns the verdict; flatness has no opposite."""
    for claim in CLAIMS:
        measure = claim.measure or "linear_accuracy"
        there = claims._papers(measure)
        table = {c: float(-there.table[measure][0, 0, k]) for c, k in there.places.items()}
        outcome = claim.ask(as_values(table, measure), measure)
        if claim.name in ("hard moves less", "hard is flat"):
            assert outcome.margin[0] > 0.0
        elif claim.name != "headline":  # the best turned over is the worst, which may be of either family
            assert outcome.margin[0] < 0.0, claim.name


def test_flat_is_a_tenth():
    table = {Column("info_nce", 0.1): 3.0, Column("info_nce", 1.0): 2.0, Column("hard_info_nce", 0.1): 3.0}
    for moved, flat in ((0.09, True), (0.11, False)):
        values = as_values(table | {Column("hard_info_nce", 1.0): 3.0 + moved}, "uniformity")
        assert (claims.hard_is_flat(values, "uniformity").margin[0] > 0.0) == flat
        assert claims.hard_moves_less(values, "uniformity").margin[0] > 0.0


def test_claims_without_their_columns_are_not_made():
    only = {Column("info_nce", 0.3): 0.5, Column("simple_loss", None): 0.4}
    values = as_values(only, "linear_accuracy")
    made = [c.name for c in CLAIMS if not c.measure and c.ask(values, "linear_accuracy") is not None]
    assert made == ["simple is worst"]
    large = as_values({Column(loss, 0.3): 0.5 for loss in ("info_nce", "hard_info_nce")}, "linear_accuracy")
    assert claims.hard_above_at_large(large, "linear_accuracy") is None


def test_the_best_is_chosen_on_one_half_and_judged_on_the_other():
    family = [Column("info_nce", t) for t in (0.1, 0.3)]
    halves = np.array([[[0.9, 0.1], [0.2, 0.6]]])  # each half has a favourite of its own
    values = Values({c: k for k, c in enumerate(family)}, {"linear_accuracy": halves}, np.array([0.5, 0.5]))
    best, _ = claims._best(values, family, "linear_accuracy")
    assert best[0] == pytest.approx((0.1 + 0.2) / 2)  # not (.9 + .6) / 2


def test_one_seed_settles_nothing(study):
    found = findings(study[0].evidence)
    assert {f.verdict for f in found} == {"cannot tell"}
    assert {f.why for f in found} == {"one seed says nothing about another"}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three seeds that agree with the paper."""
    folder = tmp_path_factory.mktemp("three")
    records = make_study(folder, TABLE, seeds=(0, 1, 2))
    return Shown(records, folder, resample(records, folder, resamples=4999))


def test_three_seeds_that_agree_give_a_verdict(three):
    found = {f.name: f for f in findings(three.evidence)}
    assert found["uniformity falls"].verdict == "as there"
    assert found["hard mends simple, linear"].verdict == "as there"
    assert found["hard mends simple, linear"].margin == pytest.approx(0.1001)
    assert found["hard mends simple, linear"].low <= 0.1001 + 1e-9 <= found["hard mends simple, linear"].high + 2e-9
    assert found["hard mends simple, linear"].seeds == "3 of 3 seeds"


def test_seeds_that_disagree_are_not_averaged_into_a_verdict(tmp_path):
    records = make_study(tmp_path, TABLE, seeds=(0, 1, 2), noise=0.3)
    found = findings(resample(records, tmp_path, resamples=999))
    disagree = [f for f in found if f.why.startswith("seeds disagree")]
    assert disagree
    assert {f.verdict for f in disagree} == {"cannot tell"}


def test_columns_that_lack_a_seed_are_named(tmp_path):
    records = make_study(tmp_path, TABLE, seeds=(0, 1))
    fewer = [r for r in records if (r["loss"], r["seed"]) != ("simple_loss", 1)]
    evidence = resample(fewer, tmp_path, resamples=99)
    assert evidence.left_out == [Column("simple_loss", None)]
    assert not any(f.name.startswith("simple") for f in findings(evidence))


def test_resamples_of_one_seed_have_the_error_of_a_mean(tmp_path):
    """The spread of the resamples is the standard error that statistics gives, and halves make a whole."""
    (record,) = make_study(tmp_path, [Column("simple_loss", None)], anchors=400)
    evidence = resample([record], tmp_path, resamples=4000)
    with np.load(run_path(tmp_path, record)) as arrays:
        expected = stats.sem(arrays["linear_correct"])
        middle = arrays["linear_correct"].mean()
    drawn = evidence.resampled.of(Column("simple_loss", None), "linear_accuracy")
    assert drawn.std() == pytest.approx(expected, rel=0.05)
    assert drawn.mean() == pytest.approx(middle, abs=5 * expected / np.sqrt(4000))
    assert evidence.measured.of(Column("simple_loss", None), "linear_accuracy")[0] == pytest.approx(middle)
    low, high = interval(drawn)
    assert high - low == pytest.approx(2 * 1.96 * expected, rel=0.08)


def test_pairs_share_their_draws(tmp_path):
    """Two columns with the same scores but for a constant differ by the constant in every resample."""
    records = make_study(tmp_path, [Column("simple_loss", None), Column("hard_simple_loss", None)], seeds=(0, 1))
    evidence = resample(records, tmp_path, resamples=200)
    a, b = (
        evidence.resampled.of(Column(loss, None), "linear_accuracy") for loss in ("simple_loss", "hard_simple_loss")
    )
    assert a.std() > 1e-4
    assert np.ptp(b - a) < 1e-12


def test_large_data_are_put_into_blocks(tmp_path):
    (record,) = make_study(tmp_path, [Column("simple_loss", None)], anchors=3000)
    evidence = resample([record], tmp_path, resamples=2000)
    with np.load(run_path(tmp_path, record)) as arrays:
        expected = stats.sem(arrays["linear_correct"])
    drawn = evidence.resampled.of(Column("simple_loss", None), "linear_accuracy")
    assert drawn.std() == pytest.approx(expected, rel=0.1)


def test_holm_and_p_values():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    p = [0.001, 0.2, 0.013, 0.04]
    assert holm(p) == pytest.approx([min(1.0, x) for x in (0.004, 0.2, 0.039, 0.08)])
    assert p_value(np.ones(99)) == pytest.approx(0.02)
    assert p_value(np.array([-1.0, 1.0] * 50)) == 1.0


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
        if not {"style", "script"} & set(self.open):
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
    assert not {"link", "iframe"} & set(page.tags)
    text = report.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert not re.search(r"https?:|@import|url\(|fetch|XMLHttp", text)
    head, *_ = zip(*(source.split(",") for source in page.sources), strict=True)
    assert set(head) == {"data:image/png;base64"}
    pictures = [base64.b64decode(source.split(",")[1], validate=True) for source in page.sources]
    assert pictures == [path.read_bytes() for path in written]


def test_report_lets_only_its_own_scripts_run(study):
    text = study[3].read_text(encoding="utf-8")
    run = [script.encode() for script in re.findall(r"<script>(.*?)</script>", text, re.DOTALL)]
    digests = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in run]
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.endswith("script-src " + " ".join(f"'sha256-{digest}'" for digest in digests))
    assert len(run) == 2


def test_report_holds_every_run_for_its_figure(study):
    (held,) = re.findall(r'<script type="application/json">(.*?)</script>', study[3].read_text(encoding="utf-8"))
    shown = json.loads(held)
    records = study[0].records
    assert [(r["loss"], r["seed"], r["uniformity"]) for r in shown] == [
        (r["loss"], r["seed"], r["uniformity"]) for r in records
    ]


def test_report_shows_the_runs_beside_the_paper(page):
    row = next(row for row in page.rows if row[0] == "softmax, τ\u00a0=\u00a00.3")
    assert row[1:] == ["3.60", "3.60", "0.178", "0.178", "83.3", "83.3", "73.3", "0.125"]


def test_report_escapes_what_it_did_not_write(page):
    assert "views: noise" in page.text


def test_report_escapes_names_of_data(tmp_path):
    shown = show(make_study(tmp_path, TABLE[:1], data="<mine> & yours.npz"), tmp_path)
    assert "<mine> & yours.npz" in Page(write_report(shown).read_text(encoding="utf-8")).text


def test_every_picture_says_what_is_to_be_seen(study):
    text = study[3].read_text(encoding="utf-8")
    alternatives = re.findall(r'alt="([^"]*)"', text)
    assert len(alternatives) == len(PLOTS)
    assert all(len(words) > 80 for words in alternatives)
    assert set(ALTERNATIVES) == set(READINGS) == {plot.file for plot in PLOTS}
    assert "prefers-color-scheme: dark" in text


def test_claims_are_kept_with_their_evidence(study):
    found = json.loads((study[1] / "claims.json").read_text(encoding="utf-8"))
    assert [f["name"] for f in found] == [f.name for f in findings(study[0].evidence)]
    assert set(found[0]) >= {"there", "here", "margin", "low", "high", "p", "seeds", "verdict", "why"}


def test_report_of_seeds_and_unknown_columns(tmp_path):
    shown = show(make_study(tmp_path, [Column("info_nce", 0.25), *TABLE[:1]], seeds=(0, 2)), tmp_path)
    page = Page(write_report(shown).read_text(encoding="utf-8"))
    row = next(row for row in page.rows if row[0].startswith("softmax, τ\u00a0=\u00a00.25"))
    # two seeds that differ by d have a standard deviation of d / √2
    assert row[1:4] == ["3.01 ± 0.01", "–", "0.202 ± 0.003"]
    assert page.sources == []  # nothing was drawn


def test_reading_of_the_relative_penalty(study):
    reading = read_relative_penalty(see(study[0]))
    for temperature in (0.07, 0.3, 0.7, 1.0):
        exact = (1.0 - np.exp(-0.2 / temperature)) / (1.0 - np.exp(-2.0 / temperature))
        said = re.search(rf"(\d+)% at τ = {temperature:g}\b", reading)
        assert abs(int(said[1]) / 100.0 - exact) < 0.01


@pytest.mark.parametrize(
    ("table", "seeds", "said"),
    [
        ([Column("dcl", 0.1), Column("hcl", 0.5)], (0,), "Each point is a run; up is tolerant"),
        ([Column("info_nce", 0.3), Column("simple_loss", None)], (0, 1), "Each point is a run; up is tolerant"),
        (TABLE, (0,), "Each point is a run, lines join a family as τ grows; "),
        (TABLE, (0, 1), "Each point is a run, lines join the means over the seeds of a family as τ grows; "),
    ],
)
def test_reading_of_the_dilemma_speaks_of_lines_that_are_drawn(table, seeds, said, tmp_path):
    shown = show(make_study(tmp_path, table, seeds), tmp_path)
    assert read_dilemma(see(shown)).startswith(said)
    lines = draw_dilemma(shown).axes[0].lines
    assert any(len(line.get_xdata()) > 1 for line in lines) == ("lines" in said)


def test_reading_of_the_curves_speaks_of_limits_that_are_drawn(study):
    shown = study[0]
    assert "; a dashed line is the loss that" in read_uniformity_tolerance(see(shown))
    alone = [record for record in shown.records if record["loss"] == "info_nce"]
    assert "dashed" not in read_uniformity_tolerance(see(show(alone, shown.folder)))


def test_readings_say_how_sure_they_are(three):
    reading = read_uniformity_tolerance(see(three))
    assert "softmax gives up uniformity for tolerance" in reading
    assert "(as in the paper: all 3 seeds, p = " in reading


def test_reading_of_the_separation(tmp_path):
    (record,) = make_study(tmp_path, [Column("simple_loss", None)])
    with np.load(run_path(tmp_path, record), allow_pickle=False) as arrays:
        gap = np.mean(arrays["positive_similarity"]) - np.mean(arrays["nearest"][:, 0])
    shown = show([record], tmp_path)
    assert f"samples it has not seen: {gap:.2f} (simple)." in read_separation(see(shown))
    below = [record | {"separation": -0.2, "separation_training": -0.1}]
    assert "In every column another sample is on average nearer" in read_separation(see(show(below, tmp_path)))


def test_the_authors_means_stand_in_the_boxes(three):
    axes = {axis.get_title(): axis for axis in draw_separation_training(three).axes}
    (means,) = [line for line in axes["softmax, τ = 0.3"].lines if line.get_marker() == "D"]
    assert list(means.get_ydata()) == list(SEPARATION[Column("info_nce", 0.3)])
    assert not [line for line in draw_separation(three).axes[0].lines if line.get_marker() == "D"]
