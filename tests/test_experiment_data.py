"""The digits, anyone's own data, and what is said of data that cannot be used."""

import zipfile
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refcl.experiment.data import load, stratified_split
from refcl.experiment.errors import StudyError

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((40, 3))
CLASSES = np.repeat([7, -2], 20)
HOLE = np.zeros((40, 3))
HOLE[3, 1] = np.nan
OUTLIER = np.zeros((40, 3), dtype=bool)
OUTLIER[stratified_split((CLASSES > 0).astype(np.int64))[1][0], 1] = True  # of the held-out part: no deviation knows it


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_the_digits_come_in_two_parts_of_fixed_size() -> None:
    digits = load()
    assert digits.training.x.shape == (1257, 64)
    assert digits.held_out.x.shape == (540, 64)
    assert digits.training.x.dtype == np.float32
    assert digits.image == (8, 8)
    assert digits.name == "digits"
    for part, size in ((digits.training, 1257), (digits.held_out, 540)):
        counts = np.bincount(part.y, minlength=10)
        assert counts.sum() == size
        assert counts.min() >= 0.095 * size


def test_the_digits_are_small_and_say_where_they_come_from() -> None:
    folder = resources.files("refcl.experiment")
    with resources.as_file(folder / "digits.npz") as file:
        assert file.stat().st_size <= 46_000
        with np.load(file, allow_pickle=False) as arrays:
            x, y = arrays["X"], arrays["y"]
    assert (x.shape, x.dtype, x.min(), x.max()) == ((1797, 8, 8), np.uint8, 0, 16)
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    notice = (folder / "digits.txt").read_text(encoding="utf-8")
    assert all(words in notice for words in ("Alpaydin", "Kaynak", "10.24432/C50P49", "CC BY 4.0", "Changes"))


def test_images_are_standardised_by_one_mean_and_one_deviation_of_the_training_part() -> None:
    digits = load()
    assert digits.training.x.mean(dtype=np.float64) == pytest.approx(0.0, abs=1e-6)
    assert digits.training.x.std(dtype=np.float64) == pytest.approx(1.0, abs=1e-6)
    assert digits.blank == pytest.approx(float(digits.training.x.min()), abs=1e-6)  # an empty pixel, the darkest


def test_features_are_standardised_by_column(tmp_path: Path) -> None:
    x = np.concatenate([100.0 + 5.0 * FEATURES, np.full((40, 1), 3.0)], axis=1)
    data = load(save(tmp_path / "own.npz", X=x, y=CLASSES))
    assert data.image is None
    assert data.blank == 0.0
    np.testing.assert_allclose(data.training.x.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(data.training.x.std(axis=0), [1.0, 1.0, 1.0, 0.0], atol=1e-6)
    assert np.all(data.held_out.x[:, 3] == 0.0)  # a column that is constant


def test_labels_of_any_value_become_classes(tmp_path: Path) -> None:
    data = load(save(tmp_path / "own.npz", X=FEATURES, y=CLASSES))
    assert np.bincount(data.training.y).tolist() == [14, 14]
    assert np.bincount(data.held_out.y).tolist() == [6, 6]


def test_small_integers_and_images_are_data_too(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.integers(0, 200, size=(40, 2, 5)).astype(np.uint8)
    data = load(save(tmp_path / "own.npz", X=x, y=CLASSES.astype(np.int8)))
    assert data.image == (2, 5)
    assert data.training.x.shape == (28, 10)


def test_colours_are_three_numbers_a_pixel(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.integers(0, 256, size=(40, 2, 5, 3)).astype(np.uint8)
    data = load(save(tmp_path / "own.npz", X=x, y=CLASSES))
    assert data.image == (2, 5, 3)
    assert data.training.x.shape == (28, 30)
    assert np.unique((data.training.x - data.blank) / x.max()).size <= 256  # one mean and deviation for all channels


def test_an_empty_pixel_is_blank_to_the_last_bit() -> None:
    digits = load()
    assert np.mean(digits.training.x == digits.blank) > 0.4


@pytest.mark.parametrize("counts", [(10, 10), (7, 9, 30), (11, 13, 17, 19)])
def test_a_split_is_disjoint_complete_fixed_and_fair(counts: tuple[int, ...]) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    training, held_out = stratified_split(y)
    assert np.sort(np.concatenate([training, held_out])).tolist() == list(range(y.size))
    assert training.size == int(0.7 * y.size)
    assert np.all(np.abs(np.bincount(y[training]) - 0.7 * np.array(counts)) < 1.0)
    np.testing.assert_array_equal(training, stratified_split(y)[0])


def test_the_fingerprint_tells_data_apart(tmp_path: Path) -> None:
    first = load(save(tmp_path / "a.npz", X=FEATURES, y=CLASSES))
    second = load(save(tmp_path / "b.npz", X=FEATURES + 1e-9, y=CLASSES))
    third = load(save(tmp_path / "c.npz", X=FEATURES, y=CLASSES[::-1]))
    assert len({first.fingerprint, second.fingerprint, third.fingerprint}) == 3
    assert load(tmp_path / "a.npz").fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"X": FEATURES}, "no y"),
        ({"y": CLASSES}, "no X"),
        ({"a": CLASSES}, "no X and no y"),
        ({"X": np.array([{}] * 40), "y": CLASSES}, "pickled objects"),
        ({"X": FEATURES.astype(complex), "y": CLASSES}, "expected real numbers"),
        ({"X": FEATURES.astype(str), "y": CLASSES}, "expected real numbers"),
        ({"X": FEATURES.ravel(), "y": CLASSES}, r"shape \(120,\); expected \(N, features\)"),
        ({"X": np.ones((40, 2, 2, 4)), "y": CLASSES}, r"shape \(40, 2, 2, 4\); expected .* or \(N, height, width, 3\)"),
        ({"X": FEATURES + HOLE, "y": CLASSES}, "NaN or infinity"),
        ({"X": np.where(np.isnan(HOLE), np.inf, FEATURES), "y": CLASSES}, "NaN or infinity"),
        ({"X": FEATURES * 1e300, "y": CLASSES}, r"X reaches .*e\+300, too far to be standardised in float32"),
        ({"X": FEATURES.reshape(40, 3, 1) * 1e200, "y": CLASSES}, "too far to be standardised"),
        ({"X": np.where(OUTLIER, 1e100, FEATURES), "y": CLASSES}, r"X reaches 1e\+100, too far"),
        ({"X": FEATURES, "y": CLASSES[1:]}, r"y has shape \(39,\)"),
        ({"X": FEATURES, "y": CLASSES.astype(float)}, "y is float64; expected integers"),
        ({"X": FEATURES, "y": np.zeros(40, dtype=int)}, "one class"),
        ({"X": FEATURES, "y": np.repeat([0, 1], [35, 5])}, "a class has . training samples; expected at least 5"),
    ],
)
def test_data_that_cannot_be_used_are_refused(tmp_path: Path, arrays: dict[str, Any], sentence: str) -> None:
    path = save(tmp_path / "own.npz", **arrays)
    with pytest.raises(StudyError, match=sentence) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "own.npz", X=FEATURES, y=CLASSES).read_bytes()
    (tmp_path / "text.npz").write_text("X, y")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "changed.npz").write_bytes(whole[:300] + bytes(8) + whole[308:])
    np.save(tmp_path / "array.npy", FEATURES)
    with zipfile.ZipFile(tmp_path / "bytes.npz", "w") as archive:
        archive.writestr("X.npy", "abc")
        archive.writestr("y.npy", "abc")
    for name in ("text.npz", "empty.npz", "cut.npz", "changed.npz", "array.npy", "bytes.npz"):
        with pytest.raises(StudyError, match=r"an \.npz file"):
            load(tmp_path / name)
    with pytest.raises(StudyError, match="no such file"):
        load(tmp_path / "missing.npz")
    with pytest.raises(StudyError, match="cannot be read"):
        load(tmp_path)
