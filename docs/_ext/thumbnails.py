"""Pictures for the examples that draw none: what each of them shows, drawn with its own numbers.

In:  refcl.
Out: small pictures in ``docs/gallery_pictures``, made before the gallery asks for them.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import refcl

BLUE, ORANGE, INK = "#0072b2", "#d55e00", "#555555"


def gradient_step(axes: Any) -> None:
    """The loss along its gradient, and what the gradient promises."""
    query, key = np.random.default_rng(0).standard_normal((2, 8, 16))
    loss, grads = refcl.info_nce(query, key, 0.1)
    steps = np.linspace(0.0, 0.4, 40)
    along = [refcl.info_nce(query - step * grads.dquery, key, 0.1)[0] for step in steps]
    axes.plot(steps, along, color=BLUE, lw=3)
    axes.plot(steps, loss - steps * (grads.dquery**2).sum(), color=ORANGE, lw=2, ls="--")
    axes.set(ylim=(min(along) - 0.2, loss + 0.2), xlabel="step against the gradient", ylabel="loss")


def check_my_gradient(axes: Any) -> None:
    """A gradient with the projection forgotten, against the right one."""
    query, key = np.random.default_rng(1).standard_normal((2, 6, 4))
    _, grads = refcl.info_nce(query, key, 0.3)
    length = np.linalg.norm(query, axis=1, keepdims=True)
    unit = refcl.info_nce(query / length, key, 0.3, normalize=False)[1].dquery
    axes.plot([-1, 1], [-1, 1], color=INK, lw=1)
    axes.scatter(grads.dquery, grads.dquery, color=BLUE, s=30)
    axes.scatter(grads.dquery, unit, color=ORANGE, s=30, marker="x")
    axes.set(xlim=(-0.3, 0.3), ylim=(-0.9, 0.9), xlabel="right gradient", ylabel="yours")


def cpu_and_gpu(axes: Any) -> None:
    """One call, three libraries."""
    for k, name in enumerate(("NumPy", "CuPy", "array API")):
        axes.text(0.5, 0.85 - 0.2 * k, name, ha="center", va="center", fontsize=20, color=BLUE)
    axes.text(0.5, 0.15, "refcl.info_nce", ha="center", fontsize=16, color=ORANGE, family="monospace")
    axes.set_axis_off()


def train_in_pytorch(axes: Any) -> None:
    """A module on one side, the loss on the other, and the gradient on its way back."""
    for x, word, colour in ((0.22, "torch.nn\nModule", BLUE), (0.78, "refcl\n.torch", ORANGE)):
        axes.text(x, 0.5, word, ha="center", va="center", fontsize=17, color=colour)
    for y, start, end, word in ((0.75, 0.25, 0.75, "z"), (0.25, 0.75, 0.25, "dz")):
        axes.annotate("", (end, y), (start, y), arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 2})
        axes.text(0.5, y + 0.05, word, ha="center", fontsize=15, color=INK)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_axis_off()


def ranks(axes: Any) -> None:
    """Four ranks on a ring: each hands its block to the next."""
    angles = np.pi / 2 * np.arange(4) + np.pi / 4
    x, y = np.cos(angles), np.sin(angles)
    for k in range(4):
        following = (k + 1) % 4
        arrow = {"arrowstyle": "-|>", "color": INK, "lw": 2, "shrinkA": 20, "shrinkB": 20}
        axes.annotate("", (x[following], y[following]), (x[k], y[k]), arrowprops=arrow)
    axes.scatter(x, y, s=900, color=[BLUE, ORANGE, BLUE, ORANGE])
    for k in range(4):
        axes.text(x[k], y[k], str(k), ha="center", va="center", fontsize=16, color="white")
    axes.set(xlim=(-1.3, 1.3), ylim=(-1.2, 1.2), aspect="equal")
    axes.set_axis_off()


def train_and_probe(axes: Any) -> None:
    """What the study's runs are worth with five labels a class."""
    import json

    records = json.loads((Path(__file__).parents[1] / "data" / "results.json").read_text(encoding="utf-8"))
    softmax = [r for r in records if r["loss"] == "info_nce" and r["seed"] == 0]
    runs = sorted((r["temperature"], r["few_label_accuracy"]) for r in softmax)
    axes.semilogx(*zip(*runs, strict=True), "o-", color=BLUE, lw=3)
    axes.set(xlabel="temperature", ylabel="accuracy with few labels")


def family(axes: Any) -> None:
    """Tolerance against uniformity, one point a run."""
    import json

    records = json.loads((Path(__file__).parents[1] / "data" / "results.json").read_text(encoding="utf-8"))
    for loss, colour in (("info_nce", BLUE), ("hard_info_nce", ORANGE), ("simple_loss", INK)):
        runs = [r for r in records if r["loss"] == loss]
        axes.plot([r["uniformity"] for r in runs], [r["tolerance"] for r in runs], "o", color=colour, ms=9)
    axes.set(xlabel="uniformity", ylabel="tolerance")


PICTURES = (gradient_step, check_my_gradient, cpu_and_gpu, train_in_pytorch, ranks, train_and_probe, family)


def draw(app: Any) -> None:
    folder = Path(app.srcdir, "gallery_pictures")
    folder.mkdir(exist_ok=True)
    for picture in PICTURES:
        path = folder / f"{picture.__name__}.png"
        if path.exists():
            continue
        figure = Figure(figsize=(4, 2.8), dpi=100, layout="constrained")
        picture(figure.add_subplot())
        figure.savefig(path)


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", draw, priority=100)  # before the gallery
    return {"parallel_read_safe": True, "parallel_write_safe": True}
