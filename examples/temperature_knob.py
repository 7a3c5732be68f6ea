"""The temperature knob
====================

How an anchor shares its push among its negatives as τ moves.

Opens a window with a slider for τ. With `--save FILE.png` nothing is opened and the picture is written.

From a shell::

    python examples/temperature_knob.py
    python examples/temperature_knob.py --temperature 0.07 --save knob.png
"""

import argparse

import numpy as np

from refcl.hardness import penalty_entropy, relative_penalty

INK, BLUE = "#2b2b2b", "#0072B2"


class Knob:
    """The relative penalty of evenly spread negatives in a figure, and what it says in a title."""

    def __init__(self, figure, negatives):
        self.axes = figure.add_subplot()
        self.similarity = np.linspace(-1.0, 1.0, negatives)
        self.row = np.append(self.similarity, 1.0)[None]  # (1, negatives + 1): the positive stands last
        self.bars = self.axes.bar(self.similarity, np.ones(negatives), width=1.6 / negatives, color=BLUE)
        self.axes.axhline(1.0, color=INK, linestyle="--", linewidth=1.0)
        self.axes.annotate("equal shares: τ → ∞", (-0.99, 1.0), xytext=(0, 4), textcoords="offset points", color=INK)
        self.axes.set(
            xlabel="similarity of the negative to the anchor", ylabel="relative penalty × number of negatives"
        )
        self.axes.spines[["top", "right"]].set_visible(False)

    def turn(self, temperature):
        """Draw another temperature, and return what it says."""
        negatives = self.similarity.size
        last = np.array([negatives])  # the column of the positive
        share = relative_penalty(self.row, temperature, positive=last)[0, :-1]
        for bar, height in zip(self.bars, share * negatives, strict=True):
            bar.set_height(height)
        self.axes.set_ylim(0.0, max(1.5, 1.05 * negatives * share.max()))
        count = np.exp(penalty_entropy(self.row, temperature, positive=last))[0]
        said = f"τ = {temperature:.3g}: as if {count:.1f} of {negatives} negatives shared the push"
        self.axes.set_title(said, color=INK)
        return said


def add_slider(figure, knob, temperature):
    """Put a slider for τ, from .01 to 10 and logarithmic, under a knob."""
    from matplotlib.widgets import Slider

    figure.subplots_adjust(bottom=0.26)
    place = figure.add_axes((0.14, 0.06, 0.7, 0.04))
    slider = Slider(place, "τ", -2.0, 1.0, valinit=np.log10(temperature), color=BLUE)

    def follow(exponent):
        slider.valtext.set_text(f"{10.0**exponent:.3g}")  # the slider itself would show the exponent
        knob.turn(10.0**exponent)

    slider.on_changed(follow)
    follow(slider.val)
    return slider


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--temperature", type=float, default=0.2)
    parser.add_argument("--negatives", type=int, default=81)
    parser.add_argument("--save", metavar="FILE.png", help="write the picture and open no window")
    options = parser.parse_args(argv)

    if options.save:
        from matplotlib.figure import Figure  # draws without a display

        figure = Figure(figsize=(6.4, 3.9), dpi=160, layout="constrained")
        print(Knob(figure, options.negatives).turn(options.temperature))
        figure.savefig(options.save)
        print(f"written: {options.save}")
        return

    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(6.4, 4.6))
    knob = Knob(figure, options.negatives)
    slider = add_slider(figure, knob, options.temperature)
    if plt.get_backend().lower() == "agg":
        print("no display here: write the picture with --save FILE.png")
    else:
        plt.show()
        print(knob.turn(10.0**slider.val))


if __name__ == "__main__":
    main()
