"""Pretext questions
=================

What each pretext task shows the encoder, and what it asks, on some of the digits.

One row a digit. The pictures are drawn as the encoder gets them, shifted and noisy; below stands the right answer.

From a shell::

    python examples/pretext_questions.py
    python examples/pretext_questions.py --seed 3 --save questions.png
"""

import argparse

import numpy as np

from refcl.experiment.data import load
from refcl.experiment.pretext.context import DIRECTIONS
from refcl.experiment.pretext.jigsaw import orders
from refcl.experiment.pretext.tasks import TASKS
from refcl.experiment.views import Strength

INK = "#2b2b2b"
NAMES = {-1: ("above", "left"), 0: ("", ""), 1: ("below", "right")}
PLACES = [" ".join(filter(None, (NAMES[down][0], NAMES[right][1]))) for down, right in DIRECTIONS]


def questions(digits, x, seed):
    """Return (title, pictures, answers) of each column of the figure."""
    size = x.shape[0]
    asked = {name: prepare(digits, Strength()).ask(x, np.random.default_rng(seed)) for name, prepare in TASKS.items()}
    turns, order, place = (asked[name].answer["label"] for name in ("rotation", "jigsaw", "context"))
    first, second = np.split(asked["context"].x, 2)
    answer = asked["colourisation"].answer
    strength = np.where(answer["asked"], answer["target"], digits.blank)
    return [
        ("the picture", x, [""] * size),
        ("rotation", asked["rotation"].x, [f"turned by {90 * k}°" for k in turns]),
        ("jigsaw", asked["jigsaw"].x, ["tiles " + " ".join(map(str, orders(2)[k] + 1)) for k in order]),
        ("context: first", first, [""] * size),
        ("second", second, [PLACES[k] for k in place]),
        ("colourisation", asked["colourisation"].x, ["how much ink?"] * size),
        ("its answer", strength, [""] * size),
    ]


def draw(figure, columns, blank):
    """Draw a row for each digit and a column for each question."""
    size = columns[0][1].shape[0]
    axes = figure.subplots(size, len(columns), squeeze=False)
    for column, (title, pictures, answers) in zip(axes.T, columns, strict=True):
        column[0].set_title(title, fontsize=10, color=INK)
        for axis, picture, answer in zip(column, pictures, answers, strict=True):
            axis.imshow(picture.reshape(8, 8), cmap="gray_r", vmin=blank, vmax=2.0)
            axis.set(xticks=[], yticks=[])
            axis.set_xlabel(answer, fontsize=9, color=INK)
            axis.spines[:].set_color("#b8b8b8")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--digits", type=int, default=3, metavar="N", help="how many of them (default: 3)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the questions (default: 0)")
    parser.add_argument("--save", metavar="FILE", help="write the picture instead of opening a window")
    options = parser.parse_args(argv)

    from matplotlib.figure import Figure

    digits = load()
    columns = questions(digits, digits.training.x[: options.digits], options.seed)
    size = {"figsize": (9.4, 0.4 + 1.45 * options.digits), "layout": "constrained"}
    if options.save:
        figure = Figure(**size)
        draw(figure, columns, digits.blank)
        figure.savefig(options.save, dpi=110)
        print(f"written: {options.save}")
        return
    from matplotlib import pyplot

    draw(pyplot.figure(**size), columns, digits.blank)
    pyplot.show()


if __name__ == "__main__":
    main()
