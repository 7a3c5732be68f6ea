"""The examples at toy size: each shows what its docstring says, in numbers."""

import importlib.util
import re
import runpy
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from refcl.experiment.data import load

EXAMPLES = Path(__file__).parents[1] / "examples"
ALL = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def load_example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def numbers(text):
    return [float(number) for number in re.findall(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", text)]


@pytest.mark.parametrize("name", ALL)
def test_import_does_nothing_and_the_docstring_says_how_to_run(name, capsys):
    module = load_example(name)
    assert capsys.readouterr().out == ""
    assert f"python examples/{name}.py" in module.__doc__


@pytest.mark.parametrize("name", ALL)
def test_runs_as_a_script(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 0
    assert load_example(name).__doc__.splitlines()[0].split()[0] in capsys.readouterr().out


def test_gradient_step(capsys):
    load_example("gradient_step").main(["--anchors", "4", "--dimension", "3", "--temperature", "0.3"])
    lines = capsys.readouterr().out.splitlines()
    (compared,) = [line for line in lines if line.startswith("by hand")]
    assert max(numbers(compared)) < 1e-14
    (step,) = [line for line in lines if line.startswith("one step")]
    before, after = numbers(step)
    assert after < before
    fell, promised = (float(found) for found in re.findall(r"\d\.\d+e-\d+", lines[-1]))
    assert fell == pytest.approx(promised, rel=0.02)


def test_pretext_questions_saves_a_picture(tmp_path, capsys):
    example, picture = load_example("pretext_questions"), tmp_path / "questions.png"
    example.main(["--digits", "2", "--save", str(picture)])
    assert str(picture) in capsys.readouterr().out
    image = matplotlib.image.imread(picture)[..., :3]
    assert image.shape[1] > 900
    assert 0.05 < np.mean(image.min(axis=2) < 0.5) < 0.5


def test_pretext_questions_tells_the_right_answers():
    example, digits = load_example("pretext_questions"), load()
    columns = {title: (x, answers) for title, x, answers in example.questions(digits, digits.training.x[:40], seed=1)}
    tiles = {answer.removeprefix("tiles ") for answer in columns["jigsaw"][1]}
    assert all(sorted(order.split()) == ["1", "2", "3", "4"] for order in tiles)
    assert set(columns["rotation"][1]) == {f"turned by {angle}°" for angle in (0, 90, 180, 270)}
    diagonal = {f"{a} {b}" for a in ("above", "below") for b in ("left", "right")}
    assert set(columns["second"][1]) == {"above", "below", "left", "right"} | diagonal
    strength, _ = columns["its answer"]
    np.testing.assert_array_equal(np.sort(np.unique(strength)), np.unique(digits.training.x[:40]))


def test_temperature_knob_saves_a_picture(tmp_path, capsys):
    picture = tmp_path / "knob.png"
    said = {}
    for temperature in ("0.05", "5"):
        load_example("temperature_knob").main(
            ["--temperature", temperature, "--negatives", "41", "--save", str(picture)]
        )
        said[temperature] = numbers(capsys.readouterr().out.splitlines()[0])[1]
        pixels = matplotlib.image.imread(picture)
        assert 0.005 < np.mean(pixels[:, :, :3] < 0.9) < 0.7
    # at τ = .05 the steps of .05 make r geometric with ratio 1/e: entropy 1.04; at τ = 5 nearly all share
    assert said["0.05"] == pytest.approx(np.exp(1.04), abs=0.06)
    assert 40.0 < said["5"] <= 41.0


def test_temperature_knob_follows_its_slider():
    from matplotlib.figure import Figure

    example = load_example("temperature_knob")
    figure = Figure()
    knob = example.Knob(figure, 21)
    slider = example.add_slider(figure, knob, 0.2)
    heights = {}
    for temperature in (0.1, 1.0):
        slider.set_val(np.log10(temperature))
        heights[temperature] = np.array([bar.get_height() for bar in knob.bars])
        assert f"τ = {temperature:g}" in knob.axes.get_title()
        assert slider.valtext.get_text() == f"{temperature:g}"
        share = np.exp(knob.similarity / temperature)
        assert heights[temperature] == pytest.approx(21 * share / share.sum())
    assert heights[0.1][-1] > 3 * heights[1.0][-1]


def test_train_and_probe_improves(capsys):
    load_example("train_and_probe").main(["--epochs", "15", "--width", "128"])
    untrained, trained = (numbers(line) for line in capsys.readouterr().out.splitlines())
    assert trained[0] > untrained[0] + 5.0  # few labels, per cent
    assert trained[2] > untrained[2] + 1.0  # uniformity


def test_check_my_gradient_tells_right_from_wrong(capsys):
    load_example("check_my_gradient").main(["--anchors", "3", "--candidates", "4", "--dimension", "2"])
    right, missing, projection = capsys.readouterr().out.splitlines()[2:]
    assert right.endswith("right")
    value, to_differences, to_reference = numbers(right)
    assert value < 1e-13
    assert to_differences < 1e-9
    assert to_reference < 1e-13
    value, to_differences, to_reference = numbers(missing)
    assert missing.endswith("another loss, and its gradient fits it")
    assert value > 0.1
    assert to_differences < 1e-9
    assert to_reference > 0.1
    value, to_differences, to_reference = numbers(projection)
    assert projection.endswith("the gradient does not fit the value")
    assert value < 1e-13
    assert to_differences > 0.1
    assert to_reference > 0.1


def test_cpu_and_gpu_agree(capsys):
    load_example("cpu_and_gpu").main(["--anchors", "32", "--dimension", "8"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == ["numpy", "cupy", "array_api_strict"]
    computed = {name: numbers(line[len(name) :]) for name, line in lines.items() if "loss" in line}
    assert "numpy" in computed
    for name, (before, after, error) in computed.items():
        assert after < before
        assert error < 1e-12
        assert f"an array of {name}" in lines[name]
    assert all(re.search("not installed|no GPU answers", line) for line in lines.values() if "loss" not in line)


@pytest.mark.slow
def test_family_compares_losses_of_every_kind(tmp_path, capsys):
    losses = ["info_nce", "nt_xent", "sig_lip", "sup_con", "rotation"]
    load_example("family").main(
        ["--epochs", "1", "--seeds", "0", "--losses", *losses, "--out", str(tmp_path / "family")]
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:-1]] == losses
    pixels = matplotlib.image.imread(tmp_path / "family" / "dilemma.png")
    assert 0.005 < np.mean(pixels[:, :, :3] < 0.9) < 0.7
