"""Calls of the candidate and of the right answer on inputs of choice.

In:  a question and the candidate.
Out: a `Lab`, whose numbers are NaN where the candidate raised.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from refcl.oracle.candidate import Outcome
from refcl.oracle.companions import MEMORY
from refcl.oracle.probes import Probe, base_scalar
from refcl.oracle.question import Question
from refcl.oracle.raised import CannotJudge
from refcl.oracle.returned import value_alone

STEP = 2e-3  # of differences; of fourth order, so that about eleven digits stay


@dataclass
class Lab:
    """Where a candidate and the right answer get the same input.

    Attributes
    ----------
    question : Question
        What was asked.
    call : callable
        The candidate: probe -> outcome.
    scalar : float or None
        The temperature, log-scale or weight of every call, where no other is given.
    trusted : bool
        Whether the candidate's own gradient was found to be that of its value.
    eps : float
        Spacing of the precision that its numbers come in.
    """

    question: Question
    call: Callable[[Probe], Outcome]
    scalar: float | None
    trusted: bool = False
    calls: int = field(default=0)
    eps: float = 2.0**-52

    @property
    def step(self) -> float:
        """Return the step of differences: as long as the precision asks, where that is single."""
        return max(STEP, float(self.eps**0.2))

    def probe(self, inputs: tuple[Any, ...], scalar: float | None = None, companions: Any = None) -> Probe:
        s = self.scalar if scalar is None else scalar
        upstream = None
        if self.question.recipe.reduction == "none":
            q = replace(self.question)
            probe = Probe("measured", inputs, s, None, companions=companions)
            upstream = np.ones(int(np.prod(q.under(probe).value_shape(inputs, s))))
        return Probe("measured", inputs, s, upstream, companions=companions)

    def ask(self, inputs: tuple[Any, ...], scalar: float | None = None, companions: Any = None) -> Outcome | None:
        self.calls += 1
        try:
            return self.call(self.probe(inputs, scalar, companions))
        except (CannotJudge, ValueError):
            return None

    def value(self, inputs: tuple[Any, ...], scalar: float | None = None, companions: Any = None) -> float:
        with value_alone():
            got = self.ask(inputs, scalar, companions)
        return float("nan") if got is None else float(np.sum(got.value))

    def right(self, inputs: tuple[Any, ...], scalar: float | None = None, companions: Any = None) -> Any:
        return self.question.answer(self.probe(inputs, scalar, companions))

    def right_value(self, inputs: tuple[Any, ...], scalar: float | None = None, companions: Any = None) -> float:
        try:
            probe = self.probe(inputs, scalar, companions)
            return float(np.sum(self.question.under(probe).value(probe.inputs, probe.scalar)))
        except ValueError:
            return float("nan")


def lab(question: Question, call: Callable[[Probe], Outcome]) -> Lab:
    return Lab(question, call, base_scalar(question))


def difference(f: Callable[[float], float], step: float = STEP) -> float:
    """Return the derivative of a function at 0, by differences of fourth order; shorter ones where a kink is near."""
    near, far = (f(step) - f(-step)) / (2 * step), (f(2 * step) - f(-2 * step)) / (4 * step)
    if step > 1e-4 and abs(near - far) > max(1e-2 * abs(near), 1e-3):
        return difference(f, step / 30)
    return (4 * near - far) / 3


def numeric_gradient(
    lab: Lab, inputs: tuple[Any, ...], scalar: float | None, companions: Any = None
) -> tuple[Any, ...]:
    """Return the gradient of the candidate's own value by every array."""
    found = []
    for k, x in enumerate(inputs):
        g = np.zeros(x.shape)
        size = lab.step * (float(np.sqrt(np.mean(x * x))) or 1.0)
        for where in np.ndindex(*x.shape):

            def along(t: float, k: int = k, where: tuple[int, ...] = where) -> float:
                moved = inputs[k].copy()
                moved[where] += t
                return lab.value(tuple(moved if j == k else y for j, y in enumerate(inputs)), scalar, companions)

            g[where] = difference(along, size)
        found.append(g)
    return tuple(found)


def memory(question: Question, inputs: tuple[Any, ...], companions: Any = None) -> dict[str, Any]:
    """Return the bank or queue that goes with a batch."""
    held = question.settings | question.companions(inputs) | (companions or {})
    return {name: held[name] for name in MEMORY if name in held}
