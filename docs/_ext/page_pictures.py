"""Pictures of pages that derive nothing, drawn with refcl's own numbers.

In:  refcl.
Out: functions in the register of `picture_tools`; ``pictures.py`` draws them.
"""

from typing import Any

import numpy as np
from picture_tools import BLUE, INK, ORANGE, numbers, picture

import refcl


@picture(1, of="pages")
def exactness(axes: Any) -> None:
    """The loss of an anchor whose positive is ahead, by the textbook's formula and by refcl's."""
    from mpmath import mp

    negatives = np.linspace(-0.2, 0.2, 32)
    s = np.concatenate([[0.98], negatives])[None]
    temperatures = np.geomspace(0.015, 1, 60)
    errors = []
    with mp.workdps(60):
        for tau in temperatures:
            exact = mp.log1p(mp.fsum(mp.exp((mp.mpf(x) - mp.mpf(0.98)) / mp.mpf(tau)) for x in negatives))
            plain = np.log(np.exp(s / tau).sum()) - 0.98 / tau
            ours = refcl.softmax_contrastive(s, tau)[0]
            errors.append([float(abs(mp.mpf(float(value)) / exact - 1)) for value in (plain, ours)])
    textbook, ours = np.maximum(np.array(errors).T, 1e-17)
    axes.loglog(temperatures, textbook, color=ORANGE, label="log-sum-exp less the positive")
    axes.loglog(temperatures, ours, color=BLUE, label="softplus of the gap")
    axes.set(xlabel="temperature τ", ylabel="relative error of the loss", ylim=(3e-18, 30))
    axes.legend(loc="upper right")


@picture(2, of="pages")
def oracle(axes: Any) -> None:
    """What NT-Xent sends to each similarity, and what it sends with itself among the candidates."""
    views = np.array([[1.0, 0.1], [-0.2, 1.0], [0.9, 0.4], [0.1, 0.9]])
    z = views / np.linalg.norm(views, axis=1, keepdims=True)
    asked = {"positive": np.array([2, 3, 0, 1]), "reduction": "sum"}
    right = refcl.softmax_contrastive(z @ z.T, 0.5, ignore=np.eye(4, dtype=bool), **asked)[1].ds
    wrong = refcl.softmax_contrastive(z @ z.T, 0.5, **asked)[1].ds
    numbers(axes[0], right, "expected ∂L/∂s", digits=2)
    numbers(axes[1], wrong, "measured: each anchor pushes itself", digits=2)


@picture(1, of="pages")
def testing(axes: Any) -> None:
    """A gradient against differences of many steps: right, and wrong by a thousandth."""
    s, tau = np.random.default_rng(3).uniform(-0.5, 0.9, (1, 5)), 0.2
    push = np.random.default_rng(4).standard_normal(s.shape)

    def at(h: float) -> float:
        return float(refcl.softmax_contrastive(s + h * push, tau)[0])

    slope = float((refcl.softmax_contrastive(s, tau)[1].ds * push).sum())
    steps = np.geomspace(1e-7, 0.2, 70)
    differences = np.array([(8 * (at(h) - at(-h)) - at(2 * h) + at(-2 * h)) / (12 * h) for h in steps])
    for factor, colour, label in ((1.0, BLUE, "right"), (1.001, ORANGE, "wrong by a thousandth")):
        axes.loglog(steps, abs(differences / (factor * slope) - 1), color=colour, label=label)
    axes.axvline(3e-4, color=INK, lw=0.8, ls=":")
    axes.annotate("the tests' step", (3e-4, 1e-5), (5, 0), textcoords="offset points", color=INK)
    axes.set(xlabel="step", ylabel="gradient against differences")
    axes.legend(loc="upper center")
