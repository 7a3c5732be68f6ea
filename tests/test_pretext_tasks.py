"""What each pretext task shows and asks: by plain loops over pixels, in every library, and what it refuses."""

from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import Backend, leaves

from refcl.experiment.data import load
from refcl.experiment.errors import StudyError
from refcl.experiment.pretext.colourisation import LUMINANCE, ink_level, without_colour, without_strength
from refcl.experiment.pretext.context import DIRECTIONS, cut, pairs_of
from refcl.experiment.pretext.jigsaw import orders, shuffle, shuffles
from refcl.experiment.pretext.pictures import Picture
from refcl.experiment.pretext.rotation import quarter_turns, rotate
from refcl.experiment.pretext.tasks import TASKS
from refcl.experiment.views import Strength, view

DIGITS = load()
STILL = Strength(shift=0, brightness=0.0, noise=0.0, dropout=0.0)
RNG = np.random.default_rng(0)
GREY = RNG.standard_normal((60, 8, 8)).astype(np.float32)
COLOURED = RNG.standard_normal((60, 8, 8, 3)).astype(np.float32)
every_task = pytest.mark.parametrize("name", TASKS)


def flattened(pictures: np.ndarray) -> np.ndarray:
    return pictures.reshape(pictures.shape[0], -1)


@pytest.mark.parametrize("pictures", [GREY, COLOURED], ids=["grey", "coloured"])
def test_rotation_turns_by_its_label(pictures: np.ndarray, rng: np.random.Generator) -> None:
    turned, label = rotate(flattened(pictures), rng, turns=quarter_turns(Picture(*pictures.shape[1:])))
    for before, after, k in zip(pictures, turned.reshape(pictures.shape), label, strict=True):
        np.testing.assert_array_equal(after, np.rot90(before, k))
    assert set(label) == {0, 1, 2, 3}


def test_jigsaw_asks_for_all_orders_of_four_tiles() -> None:
    assert sorted(map(tuple, orders(2))) == sorted(permutations(range(4)))


def test_jigsaw_s_orders_of_nine_tiles_agree_in_one_place_at_most() -> None:
    nine = orders(3)
    assert nine.shape == (72, 9)
    assert all(sorted(order) == list(range(9)) for order in nine.tolist())
    assert nine[0].tolist() == list(range(9))
    agree = np.sum(nine[:, None, :] == nine[None, :, :], axis=2)  # (72, 72)
    np.testing.assert_array_equal(np.diag(agree), 9)
    assert (agree - 9 * np.eye(72)).max() == 1


@pytest.mark.parametrize("shape", [(8, 8), (4, 6), (9, 7), (8, 8, 3), (12, 14), (13, 12, 3)], ids=str)
def test_jigsaw_lays_the_tile_that_the_order_names(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    pictures = rng.standard_normal((90, *shape))
    across = 3 if min(shape[:2]) >= 12 else 2
    shuffled, label = shuffle(flattened(pictures), rng, table=shuffles(Picture(*shape)))
    down, right = shape[0] // across, shape[1] // across
    for before, after, number in zip(pictures, shuffled.reshape(pictures.shape), label, strict=True):
        for place, tile in enumerate(orders(across)[number]):
            there, came = (divmod(k, across) for k in (place, tile))
            for i in range(down):
                for j in range(right):
                    pixel = before[came[0] * down + i, came[1] * right + j]
                    assert np.all(after[there[0] * down + i, there[1] * right + j] == pixel)
        np.testing.assert_array_equal(after[across * down :], before[across * down :])
        np.testing.assert_array_equal(after[:, across * right :], before[:, across * right :])
    assert len(set(label)) > 20


@pytest.mark.parametrize("shape", [(8, 8), (4, 7), (8, 8, 3), (12, 15), (32, 33)], ids=str)
def test_context_cuts_neighbours_that_lie_as_the_label_says(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    height, width = shape[:2]
    place = np.arange(height * width, dtype=np.float64).reshape(1, height, width)  # each pixel says where it came from
    pictures = np.repeat(place if len(shape) == 2 else np.repeat(place[..., None], 3, axis=3), 800, axis=0)
    patches, label = cut(flattened(pictures), rng, pairs=pairs_of(Picture(*shape)))
    first, second = patches.reshape(2, 800, height, width, -1)[..., 0]
    across = 3 if min(height, width) >= 12 else 2
    gap = [side // 16 for side in (height, width)]
    size = [(side - (across - 1) * g) // across for side, g in zip((height, width), gap, strict=True)]
    seen = Counter()
    for one, two, number in zip(first, second, label, strict=True):
        corners = [divmod(int(patch[0, 0]), width) for patch in (one, two)]
        moved = tuple((corners[1][axis] - corners[0][axis]) / (size[axis] + gap[axis]) for axis in (0, 1))
        assert moved == DIRECTIONS[number]
        for patch, (top, left) in zip((one, two), corners, strict=True):
            i, j = np.arange(height) * size[0] // height, np.arange(width) * size[1] // width
            np.testing.assert_array_equal(patch, (top + i[:, None]) * width + left + j)
        seen[number, corners[0]] += 1
    assert len({number for number, _ in seen}) == 8
    assert len(seen) == {2: 12, 3: 40}[across]
    counts = np.bincount(label, minlength=8)
    assert counts.min() > 60  # of 800: directions are drawn evenly, though diagonal pairs are fewer


def test_colourisation_of_grey_pictures_leaves_the_outline() -> None:
    x = np.array([[-1.0, -0.5, 3.0, -1.0]])
    outline, inked = without_strength(x, blank=-1.0, ink=0.25)
    np.testing.assert_array_equal(outline, [[-1.0, 0.25, 0.25, -1.0]])
    np.testing.assert_array_equal(inked, [[False, True, True, False]])
    pixels = DIGITS.training.x
    assert ink_level(DIGITS) == pytest.approx(pixels[pixels > pixels.min()].mean(), rel=1e-5)


def test_colourisation_of_coloured_pictures_leaves_the_luminance() -> None:
    grey, colour = without_colour(flattened(COLOURED))
    weights = np.array(LUMINANCE)
    luminance = COLOURED @ weights
    np.testing.assert_allclose(grey.reshape(COLOURED.shape), np.repeat(luminance[..., None], 3, axis=3), atol=1e-6)
    np.testing.assert_allclose(grey + colour, flattened(COLOURED), atol=1e-6)
    np.testing.assert_allclose(colour.reshape(COLOURED.shape) @ weights, 0.0, atol=1e-6)  # nothing seen is asked for


def test_colourisation_moves_question_and_answer_together_and_spoils_the_question_alone() -> None:
    task = TASKS["colourisation"](DIGITS, Strength(shift=1, brightness=0.3, noise=0.1, dropout=0.0))
    x = DIGITS.training.x[:100]
    question = task.ask(x, np.random.default_rng(3))
    target, asked = question.answer["target"], question.answer["asked"]
    moved = view(x, np.random.default_rng(3), image=(8, 8), blank=DIGITS.blank, strength=STILL._replace(shift=1))
    np.testing.assert_array_equal(target, moved)
    np.testing.assert_array_equal(asked, moved > np.float32(DIGITS.blank))
    outline, _ = without_strength(moved, blank=DIGITS.blank, ink=ink_level(DIGITS))
    assert np.std(question.x - outline) == pytest.approx(0.1, rel=0.05)
    np.testing.assert_array_equal(np.unique(outline), np.float32([DIGITS.blank, ink_level(DIGITS)]))


@pytest.mark.parametrize("name", ["rotation", "jigsaw", "context"])
def test_the_other_tasks_look_at_a_view_of_the_picture(name: str) -> None:
    """What is turned or cut is the view that a contrastive loss would have of the same sample."""
    strength = Strength()
    task = TASKS[name](DIGITS, strength)
    x = DIGITS.training.x[:50]
    question = task.ask(x, np.random.default_rng(3))
    seen = view(x, np.random.default_rng(3), image=(8, 8), blank=DIGITS.blank, strength=strength)
    for n in range(50):
        shown = question.x[n::50]  # the sample's patches
        assert np.isin(shown, seen[n]).all()
        assert name == "context" or np.array_equal(np.sort(shown[0]), np.sort(seen[n]))


@every_task
def test_questions_are_the_same_every_time_and_in_every_library(name: str, backend: Backend) -> None:
    task = TASKS[name](DIGITS, Strength())
    x = DIGITS.training.x[:40]
    want = task.ask(x.astype(np.float64), np.random.default_rng(1))
    got = task.ask(backend.array(x), np.random.default_rng(1))
    assert all(backend.owns(leaf) for leaf in leaves((got.x, *got.answer.values())))
    for ours, theirs in zip((got.x, *got.answer.values()), (want.x, *want.answer.values()), strict=True):
        np.testing.assert_allclose(backend.host(ours), theirs, rtol=1e-6, atol=1e-6)
    other = task.ask(x, np.random.default_rng(2))
    assert not np.array_equal(other.x, task.ask(x, np.random.default_rng(1)).x)


def features(rng: np.random.Generator, folder: Path, **changes: Any) -> Any:
    x = rng.standard_normal((60, 5))
    np.savez(folder / "own.npz", **({"X": x, "y": np.arange(60) % 3} | changes))
    return load(folder / "own.npz")


@every_task
def test_what_is_no_picture_is_refused(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(StudyError, match=rf"^{name} needs pictures, and the samples of own\.npz are rows of features"):
        TASKS[name](features(rng, tmp_path), Strength())


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("rotation", (4, 6), "square pictures, and these are 4 x 6: turned by a quarter, they would be 6 x 4"),
        ("jigsaw", (3, 9), "jigsaw needs pictures of at least 4 x 4 pixels, and these are 3 x 9"),
        ("context", (9, 3), "context needs pictures of at least 4 x 4 pixels, and these are 9 x 3"),
        ("colourisation", (4, 4), "needs empty pixels, of value 0, beside ink of more than one strength"),
    ],
)
def test_pictures_that_a_task_cannot_use_are_refused(
    name: str, shape: tuple[int, int], message: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    with pytest.raises(StudyError, match=message):
        TASKS[name](features(rng, tmp_path, X=1.0 + rng.uniform(size=(60, *shape))), Strength())


def test_ink_of_one_strength_leaves_nothing_to_find(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(StudyError, match="ink of more than one strength"):
        TASKS["colourisation"](features(rng, tmp_path, X=rng.integers(0, 2, (60, 4, 4))), Strength())


@every_task
def test_coloured_pictures_can_be_asked_too(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    data = features(rng, tmp_path, X=rng.integers(0, 256, (60, 8, 8, 3)).astype(np.uint8))
    assert data.image == (8, 8, 3)
    task = TASKS[name](data, Strength())
    question = task.ask(data.training.x, np.random.default_rng(0))
    assert question.x.shape == (task.patches * data.training.x.shape[0], 192)
    assert name != "colourisation" or question.answer["target"].shape == (42, task.outputs) == (42, 192)
