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
        ({"X": FEATURES.ravel(), "y": CLASSES}, r"shape \(120,\); expected \(N, features\): X\[:, None\]"),
        ({"X": np.ones((40, 2, 2, 9)), "y": CLASSES}, r"shape \(40, 2, 2, 9\); expected .*X\.reshape\(len\(X\), -1\)"),
        (
            {"X": FEATURES + HOLE, "y": CLASSES},
            r"NaN or infinity in 1 of 40 samples \(rows 3\); leave them out: keep = numpy\.isfinite",
        ),
        ({"X": np.where(np.isnan(HOLE), np.inf, FEATURES), "y": CLASSES}, "NaN or infinity"),
        ({"X": FEATURES * 1e300, "y": CLASSES}, r"X reaches .*e\+300, too far to be standardised in float32"),
        ({"X": FEATURES.reshape(40, 3, 1) * 1e200, "y": CLASSES}, "too far to be standardised"),
        ({"X": np.where(OUTLIER, 1e100, FEATURES), "y": CLASSES}, r"X reaches 1e\+100, too far"),
        ({"X": FEATURES, "y": CLASSES[1:]}, r"y has shape \(39,\)"),
        ({"X": CLASSES, "y": FEATURES}, r"X has shape \(40,\) and y \(40, 3\); .* swap them"),
        ({"X": FEATURES.T, "y": CLASSES}, r"X has shape \(3, 40\) and y \(40,\); expected a sample a row: X\.T"),
        ({"X": FEATURES, "y": np.arange(40)}, "40 different values, .* a quantity and no class; .*numpy.digitize"),
        ({"X": FEATURES, "y": np.zeros(40, dtype=int)}, "one class"),
        (
            {"X": FEATURES, "y": np.repeat([0, 1], [35, 5])},
            "class 1 has . training samples; expected at least 5.*keep = y != 1;",
        ),
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
        with pytest.raises(StudyError, match=r"an \.npz"):
            load(tmp_path / name)
    with pytest.raises(StudyError, match="no such file"):
        load(tmp_path / "missing.npz")
    with pytest.raises(StudyError, match="no folder of pictures; expected one folder a class"):
        load(tmp_path)


# --- labels of any kind ---

WORDS = np.array(["cat", "dog"])[np.arange(40) % 2]


@pytest.mark.parametrize(
    ("labels", "classes", "said"),
    [
        (WORDS, ("cat", "dog"), "labels are text"),
        (WORDS.astype("S"), ("cat", "dog"), "labels are text"),
        (WORDS == "dog", ("False", "True"), "labels are booleans"),
        ((WORDS == "dog").astype(float), ("0", "1"), "labels are floats"),
        (np.where(WORDS == "dog", 0.5, -1.5), ("-1.5", "0.5"), "labels are floats"),
        ((np.arange(40) % 2)[:, None], ("0", "1"), "labels came as (40, 1)"),
        (np.eye(2, dtype=int)[np.arange(40) % 2], ("0", "1"), "labels are one-hot, 2 wide"),
        (np.eye(2)[np.arange(40) % 2], ("0", "1"), "labels are one-hot"),
    ],
)
def test_labels_of_any_kind_become_classes(tmp_path: Path, labels: Any, classes: tuple[str, ...], said: str) -> None:
    data = load(save(tmp_path / "own.npz", X=FEATURES, y=labels))
    assert data.classes == classes
    assert np.bincount(data.training.y).tolist() == [14, 14]
    assert said in data.said
    assert "\n" not in data.said


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.linspace(0.0, 1.0, 40), r"40 different values in 40 samples, a quantity and no class; .*numpy\.digitize"),
        (np.where(np.arange(40) < 3, np.nan, 1.0), r"NaN or infinite for 3 of 40 samples; .*numpy\.isfinite\(y\)"),
        (np.ones((40, 3)), r"shape \(40, 3\) and is not one-hot; .*argmax"),
        (CLASSES.astype(complex), r"y is complex128; expected labels: .*numpy\.unique"),
        (CLASSES[:20], r"y has shape \(20,\).*numpy\.repeat\(y, 2\)"),
    ],
)
def test_labels_that_are_none_are_refused_with_a_way_out(tmp_path: Path, labels: Any, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        load(save(tmp_path / "own.npz", X=FEATURES, y=labels))


# --- layouts ---


@pytest.mark.parametrize(
    ("shape", "image", "said"),
    [
        ((40, 6, 7, 1), (6, 7), "40 grey pictures of 6 × 7 pixels"),
        ((40, 1, 6, 7), (6, 7), "grey pictures of 6 × 7 pixels, channels first"),
        ((40, 6, 7, 3), (6, 7, 3), "40 coloured pictures of 6 × 7 pixels"),
        ((40, 3, 6, 7), (6, 7, 3), "40 coloured pictures of 6 × 7 pixels, channels first"),
        ((40, 6, 7, 4), (6, 7, 3), "coloured with opacity pictures of 6 × 7 pixels, laid over black"),
        ((40, 4, 6, 7), (6, 7, 3), "channels first, laid over black"),
        ((40, 6, 7, 2), (6, 7), "grey with opacity"),
        ((40, 36), None, "40 samples of 36 features (if they are pictures, X.reshape(-1, 6, 6))"),
    ],
)
def test_layouts_are_recognised(
    tmp_path: Path, rng: np.random.Generator, shape: tuple[int, ...], image: Any, said: str
) -> None:
    x = rng.integers(0, 256, shape).astype(np.uint8)
    data = load(save(tmp_path / "own.npz", X=x, y=CLASSES))
    assert data.image == image
    assert said in data.said


def test_channels_first_is_channels_last_turned(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.integers(0, 256, (40, 6, 7, 3)).astype(np.uint8)
    last = load(save(tmp_path / "last.npz", X=x, y=CLASSES))
    first = load(save(tmp_path / "first.npz", X=x.transpose(0, 3, 1, 2), y=CLASSES))
    np.testing.assert_array_equal(first.training.x, last.training.x)
    assert first.fingerprint == last.fingerprint
    clear = np.concatenate([x, np.full((40, 6, 7, 1), 255, np.uint8)], axis=3)
    assert load(save(tmp_path / "clear.npz", X=clear, y=CLASSES)).fingerprint == last.fingerprint


# --- keys of an .npz ---


@pytest.mark.parametrize(
    "keys", [("x", "y"), ("x_train", "y_train"), ("train_images", "train_labels"), ("data", "target")]
)
def test_common_keys_are_known(tmp_path: Path, keys: tuple[str, str]) -> None:
    data = load(save(tmp_path / "own.npz", **{keys[0]: FEATURES, keys[1]: CLASSES}))
    assert f"arrays {keys[0]} and {keys[1]}" in data.said


def test_a_test_part_of_its_own_is_held_out(tmp_path: Path) -> None:
    arrays = {"x_train": FEATURES, "y_train": CLASSES, "x_test": FEATURES[15:25] + 1.0, "y_test": CLASSES[15:25]}
    data = load(save(tmp_path / "mnist.npz", **arrays))
    assert (data.training.y.size, data.held_out.y.size) == (40, 10)
    assert "held out are x_test and y_test" in data.said
    assert data.training.x.mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-6)  # by the training part alone
    assert abs(data.held_out.x.mean()) > 0.1
    train, test = (
        save(tmp_path / "a.npz", X=FEATURES, y=CLASSES),
        save(tmp_path / "b.npz", X=FEATURES[15:25] + 1.0, y=CLASSES[15:25]),
    )
    np.testing.assert_array_equal(load(train, test=test).held_out.x, data.held_out.x)
    save(tmp_path / "c.npz", X=FEATURES, y=np.repeat([7, 8], 20))
    with pytest.raises(StudyError, match="class 8 is not in the training part"):
        load(train, test=tmp_path / "c.npz")
    save(tmp_path / "d.npz", X=FEATURES[:, :2], y=CLASSES)
    with pytest.raises(StudyError, match=r"its samples are \(2,\), those of the training part \(3,\)"):
        load(train, test=tmp_path / "d.npz")


def test_keys_of_any_name_can_be_given_and_what_is_there_is_said(tmp_path: Path) -> None:
    path = save(tmp_path / "own.npz", pixels=FEATURES, kind=CLASSES)
    assert load(path, x=["pixels"], y="kind").training.x.shape == (28, 3)
    with pytest.raises(
        StudyError, match=r"no X and no y, but pixels \(40, 3\) float64, kind \(40,\) int64; .* --x pixels --y kind"
    ):
        load(path)
    with pytest.raises(StudyError, match="say which they are with --x and --y"):
        load(save(tmp_path / "three.npz", pixels=FEATURES, others=FEATURES, kind=CLASSES))
    with pytest.raises(StudyError, match=r"holds no array 'pixel', but pixels"):
        load(path, x=["pixel"], y="kind")


# --- other files ---


def test_a_table(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    rows = [f"{a},{word},{b}" for (a, b, _), word in zip(FEATURES, WORDS, strict=True)]
    path.write_text("\ufefflength,species,width\n" + "\n".join(rows) + "\n", encoding="utf-8")
    data = load(path)  # the column of labels by its name, and a mark that Excel leaves
    assert "a table of 2 features, labels from column 'species'" in data.said
    assert data.classes == ("cat", "dog")
    same = load(save(tmp_path / "own.npz", X=FEATURES[:, :2], y=WORDS))
    np.testing.assert_array_equal(data.training.x, same.training.x)
    assert load(path, x=["width"], y="species").training.x.shape == (28, 1)
    with pytest.raises(StudyError, match=r"column 'species' holds 'cat' .*, no number; leave the column out with --x"):
        load(path, x=["species"], y="width")
    with pytest.raises(StudyError, match="no column 'kind'; there are length, species, width"):
        load(path, y="kind")
    np.savetxt(tmp_path / "bare.csv", np.c_[FEATURES, CLASSES], delimiter=";")
    assert "labels from the column 3 of 4" in load(tmp_path / "bare.csv").said
    path.write_text("\n".join([",a,b,y", *(f"{k},{a:.3f},{b:.3f},{k % 2}" for k, (a, b, _) in enumerate(FEATURES))]))
    numbered = load(path)  # as data frames are written
    assert "a table of 2 features, labels from column 'y', the numbers of the rows left out; 2 classes" in numbered.said
    path.write_text(path.read_text(encoding="utf-8").replace(",", ";").replace(".", ","), encoding="utf-8")
    assert "decimals with commas" in load(path).said
    np.testing.assert_array_equal(load(path).training.x, numbered.training.x)
    path.write_text("a,b,y\n1,NA,0\n2,,1\n3,?,0\n4,2,1", encoding="utf-8")
    with pytest.raises(StudyError, match=r"NaN or infinity in 3 of 4 samples \(rows 0, 1, 2\)"):
        load(path)
    path.write_text("a,b,y\n1,2,0\n1,3,\n", encoding="utf-8")
    with pytest.raises(StudyError, match=r"1 samples have no label \(line 3, ...\)"):
        load(path)
    path.write_text("a,b,y\n1,2,0\n1,2\n", encoding="utf-8")
    with pytest.raises(StudyError, match="line 3 of the table has 2 values, expected 3"):
        load(path)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_as_mnist_has_them(tmp_path: Path, rng: np.random.Generator, packed: bool) -> None:
    import gzip

    x, y = rng.integers(0, 256, (40, 6, 7)).astype(np.uint8), (CLASSES > 0).astype(np.uint8)
    end = ".gz" if packed else ""
    for name, array in (("train-images-idx3-ubyte", x), ("train-labels-idx1-ubyte", y)):
        content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
        (tmp_path / (name + end)).write_bytes(gzip.compress(content) if packed else content)
    data = load(tmp_path / f"train-images-idx3-ubyte{end}")
    assert data.image == (6, 7)
    assert "an IDX file, labels in train-labels-idx1-ubyte" in data.said
    assert data.fingerprint == load(save(tmp_path / "own.npz", X=x, y=y)).fingerprint
    (tmp_path / f"train-labels-idx1-ubyte{end}").rename(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match="without labels beside it; name the file of labels with --y"):
        load(tmp_path / f"train-images-idx3-ubyte{end}")
    assert load(tmp_path / f"train-images-idx3-ubyte{end}", y=str(tmp_path / "elsewhere")).image == (6, 7)


def test_cifar_binary_files(tmp_path: Path, rng: np.random.Generator) -> None:
    x, y = rng.integers(0, 256, (40, 32, 32, 3)).astype(np.uint8), np.arange(40, dtype=np.uint8) % 2
    rows = np.concatenate([y[:, None], x.transpose(0, 3, 1, 2).reshape(40, -1)], axis=1)
    rows[:20].tofile(tmp_path / "data_batch_1.bin")
    rows[20:].tofile(tmp_path / "data_batch_2.bin")
    data = load(tmp_path)
    assert data.image == (32, 32, 3)
    assert "CIFAR-10 binary, 2 files" in data.said
    assert data.fingerprint == load(save(tmp_path / "own.npz", X=x, y=y)).fingerprint
    rows[:10].tofile(tmp_path / "test_batch.bin")
    assert load(tmp_path).held_out.y.size == 10
    (tmp_path / "data_batch_1.bin").write_bytes(b"12345")
    with pytest.raises(StudyError, match="5 bytes are no CIFAR records of 3073"):
        load(tmp_path)


def test_a_folder_of_pictures(tmp_path: Path, rng: np.random.Generator) -> None:
    image = pytest.importorskip("PIL.Image")
    x = rng.integers(0, 256, (40, 6, 7, 3)).astype(np.uint8)
    for k, word in enumerate(WORDS):
        (tmp_path / "pictures" / word).mkdir(parents=True, exist_ok=True)
        image.fromarray(x[k]).save(tmp_path / "pictures" / word / f"{k:02}.png")
    data = load(tmp_path / "pictures")
    assert (data.image, data.classes) == ((6, 7, 3), ("cat", "dog"))
    order = np.concatenate([np.flatnonzero(WORDS == "cat"), np.flatnonzero(WORDS == "dog")])
    assert data.fingerprint == load(save(tmp_path / "own.npz", X=x[order], y=WORDS[order])).fingerprint
    image.fromarray(x[0, :, :, 0]).save(tmp_path / "pictures" / "cat" / "00.png")  # a grey one among them
    assert load(tmp_path / "pictures").image == (6, 7, 3)
    image.fromarray(x[0, :5]).save(tmp_path / "pictures" / "dog" / "99.png")
    with pytest.raises(
        StudyError, match=r"7 × 5 pixels, and 00\.png has 7 × 6; make them one size, .*resize\(\(7, 6\)\)"
    ):
        load(tmp_path / "pictures")
    (tmp_path / "pictures" / "dog" / "99.png").write_bytes(b"no picture")
    with pytest.raises(StudyError, match=r"99\.png: not a picture that can be read"):
        load(tmp_path / "pictures")


# --- warnings ---


def test_what_is_odd_is_said_in_one_line_each(tmp_path: Path, rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((100, 3)), np.repeat([0, 1], [88, 12])
    x[1] = x[0]
    x[:, 2] = 4.0
    data = load(save(tmp_path / "own.npz", X=x, y=y))
    assert len(data.warnings) == 3
    assert "1 of 100 samples are duplicates of others" in data.warnings[0]
    assert "1 of 3 features is constant" in data.warnings[1]
    assert (
        "unbalanced, from 8 to 62 training samples: guessing the largest class, 0, is right for 8" in data.warnings[2]
    )
    assert load().warnings == ()
    (numbered,) = load(save(tmp_path / "numbered.npz", X=np.c_[FEATURES, 7 + np.arange(40)], y=CLASSES)).warnings
    assert "feature 3 numbers the samples" in numbered
    with pytest.raises(StudyError, match="every sample is the same, so that nothing can be learned"):
        load(save(tmp_path / "same.npz", X=np.ones((40, 3)), y=CLASSES))


@pytest.mark.parametrize("number", [30, 90, 100, 170])
def test_seven_tenths_are_counted_in_whole_numbers(number: int) -> None:
    """As floating-point numbers, .7 of 90 is less than 63, and .7 of 3 times 30 is not."""
    training, held_out = stratified_split(np.repeat([0, 1, 2], number))
    assert (training.size, held_out.size) == (21 * number // 10, 3 * number - 21 * number // 10)
