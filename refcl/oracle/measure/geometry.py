"""What of the embeddings counts? Rows are made longer, turned and shifted, and the value is watched.

In:  a lab.
Out: differences: lengths that count, coordinates that count, a mean that is taken out, an input that is not read.
"""

from typing import Any

import numpy as np

from refcl.oracle.companions import LABELS
from refcl.oracle.evidence import Result
from refcl.oracle.measure.lab import Lab
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say

TELLS = 1e-7  # a relative change of the value that is no rounding


def geometry(lab: Lab, r: Result) -> list[Difference]:
    """Say what of the embeddings counts that should not, and what does not that should."""
    q = lab.question
    if not q.recipe.embeddings or not q.row.by_inner_products:
        return []
    inputs, names = r.wide, q.inputs
    base, right = lab.value(inputs, r.probe.scalar, r.probe.companions), float(np.sum(r.right.value))
    if not np.isfinite(base):
        return []

    def moves(moved: tuple[Any, ...], companions: Any = r.probe.companions) -> tuple[bool, bool, float]:
        got = lab.value(moved, r.probe.scalar, companions)
        want = lab.right_value(moved, r.probe.scalar, companions)
        tell = TELLS + 1e3 * r.outcome.eps
        return abs(got - base) > tell * (abs(base) + 1e-3), abs(want - right) > tell * (abs(right) + 1e-3), got

    def with_input(k: int, x: Any) -> tuple[Any, ...]:
        return tuple(x if j == k else y for j, y in enumerate(inputs))

    found, counts = [], []
    rng = np.random.default_rng(5)
    for k, name in enumerate(names):
        x = inputs[k]
        if x.ndim != 2:
            continue
        got, want, now = moves(with_input(k, rng.standard_normal(x.shape) * np.linalg.norm(x) / np.sqrt(x.size)))
        gradient = r.outcome.grads[k] if r.outcome.grads is not None else np.zeros(1)
        if want and not got and np.isfinite(now) and not np.any(gradient):
            found.append(say("input unread", name, input=name, base=base))
            continue
        got, want, now = moves(with_input(k, x * np.linspace(3.0, 1.5, len(x))[:, None]))
        if got and not want:
            counts.append(name)
            found.append(say("length counts", name, input=name, base=base, now=now))
        elif want and not got:
            found.append(say("length has no effect", name, input=name))
        shift = np.broadcast_to(0.3 * rng.standard_normal(x.shape[1]), x.shape)
        got, want, _ = moves(with_input(k, x + shift))
        if want and not got:
            found.append(say("shift has no effect", name, input=name))
    held = q.companions(inputs) | (r.probe.companions or {})
    for name in q.companions_needed:  # labels, memories and what else comes by name
        x = held[name]
        if x.dtype.kind == "i" and name not in LABELS:
            continue  # whose row is whose is told by the rows that meet
        other = x + 0.5 if not x.ndim else np.roll(x, 1, axis=-1) if x.dtype.kind == "f" else rng.permutation(x)
        got, want, _ = moves(inputs, held | {name: other})
        if want and not got:
            found.append(say("input unread", name, input=name, base=base))
    longer = [x * np.linspace(3.0, 1.5, len(x))[:, None] if x.ndim == 2 else x for x in inputs]
    alike = len({len(x) for x in inputs}) == 1
    if len(counts) > 1 and alike and not moves(tuple(longer))[0]:
        who = " and ".join(counts)
        return [say("lengths of one another", who, inputs=who)]
    d = inputs[0].shape[-1]
    if (
        d > 1
        and all(x.ndim == 2 and x.shape[-1] == d for x in inputs)
        and lab.question.companions_needed in ((), ("labels",), ("same",))
    ):
        turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
        got, want, now = moves(tuple(x @ turn for x in inputs))
        # An epsilon added to every coordinate shows too, and explains nothing but itself.
        if got and not want and abs(now - base) > 1e-4 * abs(base):
            dead = [j for j in range(d) if not moves(tuple(_redrawn(x, j, rng) for x in inputs))[0]]
            found.append(_columns(dead, d) if dead else say("rotation counts", base=base, now=now))
    return found


def _redrawn(x: Any, column: int, rng: Any) -> Any:
    """Return rows with another column in the place of one."""
    moved = x.copy()
    moved[:, column] = rng.standard_normal(len(x)) * float(np.sqrt(np.mean(x * x)))
    return moved


def _columns(dead: list[int], d: int) -> Difference:
    """Say which columns of the embeddings do not count."""
    kept = [j for j in range(d) if j not in dead]
    which = f"the first {len(kept)}" if kept == list(range(len(kept))) else f"columns {', '.join(map(str, kept))}"
    return say("columns do not count", which=which, d=d, dead=", ".join(map(str, dead)))
