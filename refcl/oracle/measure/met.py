"""Whom does an anchor meet? Other rows of a memory, other pairs of views, means of views.

In:  a question and answers that are not right.
Out: what stands in the place of what should, under which every value is right to rounding.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from refcl.losses.info_nce import info_nce
from refcl.oracle.companions import LABELS, OPTIONAL
from refcl.oracle.compare import agrees
from refcl.oracle.evidence import Result
from refcl.oracle.measure.lab import memory
from refcl.oracle.measure.settings import answer_of, changed, nice, roots
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.question import Question
from refcl.walk.sphere import l2_normalize


def unit_rows(x: Any) -> Any:
    """Return rows brought to length 1."""
    return l2_normalize.forward(x)[0]


def values_are(results: list[Result], values: Any) -> bool:
    """Return whether these are the values that came, to rounding."""
    return all(
        agrees(r.right._replace(value=np.asarray(v)), r.outcome, scalar=False, grads=False)
        for r, v in zip(results, values, strict=True)
    )


# What a memory may hold, or which of its rows may be met: of what is held, the rows and a number.
INDICES: dict[str, Callable[[Any, int], Any]] = {
    "bank[i], as the index is not used": lambda i, m: np.arange(len(i)),
    "bank[index[i] + 1], the row after": lambda i, m: (i + 1) % m,
    "bank[index[i] - 1], the row before": lambda i, m: (i - 1) % m,
    "that of the anchor before, index[i - 1]": lambda i, m: np.roll(i, 1),
    "that of the anchor after, index[i + 1]": lambda i, m: np.roll(i, -1),
    "that of the anchors in reverse order": lambda i, m: i[::-1],
}
OWN_ROWS: dict[str, Callable[[Any, Any, float], Any]] = {
    "the query itself": lambda old, z, c: z,
    "{c:.4g} old + {rest:.4g} query, brought to length 1": lambda old, z, c: unit_rows(c * old + (1 - c) * z),
    "{c:.4g} old + {rest:.4g} query, not brought to length 1": lambda old, z, c: c * old + (1 - c) * z,
}
TURNED: dict[str, Callable[[Any], Any]] = {
    "reshaped (view) to the shape of its transpose, not transposed: a column holds pieces of several rows": lambda x: (
        x.reshape(x.shape[::-1]).T
    ),
    "turned over feature by feature: its columns stand in reverse order": lambda x: x[:, ::-1],
}
QUEUES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "the keys of the batch are in it already, beside its own rows": lambda q, z, k: np.concatenate((q, k)),
    "the keys of the batch have pushed out its first N rows": lambda q, z, k: np.concatenate((k, q[len(k) :])),
    "the keys of the batch have pushed out its last N rows": lambda q, z, k: np.concatenate((q[: -len(k)], k)),
    "the queries of the batch stand in it too": lambda q, z, k: np.concatenate((q, z)),
    "its first row is left out": lambda q, z, k: q[1:],
    "its last row is left out": lambda q, z, k: q[:-1],
    **{f"it is {said}": lambda q, z, k, of=of: of(q) for said, of in TURNED.items()},  # type: ignore[misc]
}
HALVES: dict[str, Callable[[int], slice]] = {
    "the first half": lambda k: slice(max(k // 2, 1)),
    "the first half, rounded up,": lambda k: slice((k + 1) // 2),
    "the last half": lambda k: slice(k // 2, None),
    "the first": lambda k: slice(1),
    "every other one": lambda k: slice(0, None, 2),
}
DRAWS: dict[str, Callable[[Any, Any], Any]] = {
    "all anchors share that of the first": lambda x, own: x[:1].repeat(len(x), 0),
    "all anchors share that of the last": lambda x, own: x[-1:].repeat(len(x), 0),
    "an anchor meets that of the anchor before": lambda x, own: np.roll(x, 1, 0),
    "an anchor meets that of the anchor after": lambda x, own: np.roll(x, -1, 0),
    "each anchor meets those of all": lambda x, own: x.reshape(1, -1).repeat(len(x), 0),
    "the first row drawn is left out": lambda x, own: x[:, 1:],
    "the last row drawn is left out": lambda x, own: x[:, :-1],
    **{
        f"only {said} of each anchor's draws counts, though K counts all": lambda x, own, of=of: x[:, of(x.shape[1])]  # type: ignore[misc]
        for said, of in HALVES.items()
    },
    "the own row bank[index[i]] stands among it too, as a negative": lambda x, own: np.hstack((x, own[:, None])),
}


Held = dict[str, Any]
Memory = Callable[[Held, tuple[Any, ...], float], Held]  # what is held, the rows on the sphere, a number -> what is not


def _another_index(of: Callable[..., Any], held: Held, z: tuple[Any, ...], c: float) -> Held:
    return {"index": of(held["index"], len(held["bank"]))}


def _own_rows(of: Callable[..., Any], held: Held, z: tuple[Any, ...], c: float) -> Held:
    bank = np.array(held["bank"], dtype=float)
    bank[held["index"]] = of(bank[held["index"]], z[0], c)
    return {"bank": bank}


def _of_the_batch(held: Held, z: tuple[Any, ...], c: float) -> Held:
    return {"bank": held["bank"][held["index"]], "index": np.arange(len(z[0]))}


def _another_queue(of: Callable[..., Any], held: Held, z: tuple[Any, ...], c: float) -> Held:
    return {"queue": of(held["queue"], *z)}


def _another_bank(of: Callable[..., Any], held: Held, z: tuple[Any, ...], c: float) -> Held:
    return {"bank": of(held["bank"])}


def _no_own(held: Held, z: tuple[Any, ...], c: float) -> Held:
    """Send draws of the own row to one that is infinitely far off, at the same rate of the noise."""
    m, n = len(held["bank"]), len(z[0])
    noise = np.where(held["noise"] == held["index"][:, None], m + np.arange(n)[:, None], held["noise"])
    rate = held["log_normalizer"] + math.log((m + n) / m)
    return {"bank": np.concatenate((held["bank"], -1e9 * z[0])), "noise": noise, "log_normalizer": rate}


def _another_draw(of: Callable[..., Any], held: Held, z: tuple[Any, ...], c: float) -> Held:
    """Return other draws, where K stays what it was in the factor K/M."""
    noise = of(held["noise"], held["index"])
    return {"noise": noise, "log_normalizer": held["log_normalizer"] - math.log(noise.shape[1] / len(held["noise"][0]))}


# What is said, of what memory, and what it is instead.
MEMORIES: tuple[tuple[str, str, Memory], ...] = (
    *(
        (f"the positive of anchor i is {said}, where bank[index[i]] belongs", "index", partial(_another_index, of))
        for said, of in INDICES.items()
    ),
    *(
        (
            f"the bank is updated before the loss: the positive, bank[index[i]], is {said}",
            "index",
            partial(_own_rows, of),
        )
        for said, of in OWN_ROWS.items()
    ),
    ("only the rows bank[index] of the batch are candidates, the rest of the bank is left out", "index", _of_the_batch),
    *((f"another queue: {said}", "queue", partial(_another_queue, of)) for said, of in QUEUES.items()),
    *((f"the bank is {said}", "bank", partial(_another_bank, of)) for said, of in TURNED.items()),
    *((f"another draw of noise: {said}", "noise", partial(_another_draw, of)) for said, of in DRAWS.items()),
    ("draws of noise that hit the anchor's own row, bank[index[i]], are left out", "noise", _no_own),
)


class Rows:
    """The rows of all probes as they are compared, and what a loss makes of others in their place."""

    def __init__(self, question: Question, results: list[Result]) -> None:
        self.results, normalized = results, question.recipe.normalization == "rows"
        self.raw = changed(question, normalize=False) if normalized else question
        of = unit_rows if normalized else np.asarray
        self.z = [tuple(of(x) if x.ndim == 2 else x for x in r.wide) for r in results]
        held = [memory(question, r.wide, r.probe.companions) for r in results]
        self.held = [{n: of(x) if n in ("bank", "queue") else x for n, x in h.items()} for h in held]

    def value(self, k: int, z: tuple[Any, ...], held: dict[str, Any]) -> float:
        """Return the value of a probe where these rows are compared, and these are remembered."""
        r = self.results[k]
        there = (r.probe.companions or {}) | self.held[k] | held
        r = r._replace(probe=replace(r.probe, companions=there or None))
        answer = None if self.raw is None else answer_of(self.raw, r, inputs=z, value_only=True)
        return float("nan") if answer is None else float(answer.value)

    def number(self, value: Callable[..., float], *, numbered: bool = True) -> float | None:
        """Return the number for which all values are those that came; 0 where there is none in them."""
        came = float(self.results[0].outcome.value)
        for c in roots(lambda c: value(0, c) - came, 0.5, np.linspace(-0.45, 1.55, 21)) if numbered else (0.0,):
            if values_are(self.results, (value(k, nice(c)) for k in range(len(self.results)))):
                return nice(c)
        return None


def remembered(question: Question, results: list[Result]) -> Difference | None:
    """Say what the memory holds, or which of its rows are met, where that is not what was given."""
    if not question.row.memory:
        return None
    rows = Rows(question, results)

    def value(k: int, c: float, of: Memory) -> float:
        return rows.value(k, rows.z[k], of(rows.held[k], rows.z[k], c))

    for said, needs, of in MEMORIES:
        there = needs in rows.held[0]
        c = rows.number(partial(value, of=of), numbered="{c" in said) if there else None
        if c is not None:
            name = "positives-permuted" if said.startswith("the positive of") else None
            return say("another memory", name=name, what=said.format(c=c, rest=1 - c))
    return None


# In which order what goes with the rows may be read.
LATE: dict[str, Callable[[Any], Any]] = {
    "a row late: row i has what belongs to row i - 1": lambda x: np.roll(x, 1, 0),
    "a row early: row i has what belongs to row i + 1": lambda x: np.roll(x, -1, 0),
    "in reverse order": lambda x: x[::-1],
    "transposed": lambda x: x.T if x.ndim == 2 and x.shape[0] == x.shape[1] else None,
    "a column late: column k has what belongs to column k - 1": lambda x: np.roll(x, 1, 1) if x.ndim == 2 else None,
    "a column early: column k has what belongs to column k + 1": lambda x: np.roll(x, -1, 1) if x.ndim == 2 else None,
}


def read_late(question: Question, results: list[Result]) -> Difference | None:
    """Say whether labels, masks, targets or weights are read in another order of the rows."""
    given = [(q.settings | q.companions(r.wide)) for r in results for q in [question.under(r.probe)]]
    for name in (x for x in (*LABELS, *OPTIONAL[1:]) if np.ndim(given[0].get(x, 0.0))):
        for said, of in LATE.items():
            others = [of(held[name]) for held in given]
            if any(x is None for x in others):
                continue
            probes = (
                replace(r.probe, companions=(r.probe.companions or {}) | {name: x})
                for r, x in zip(results, others, strict=True)
            )
            answers = [
                answer_of(question, r._replace(probe=p), value_only=True) for r, p in zip(results, probes, strict=True)
            ]
            if values_are(results, (np.nan if a is None else a.value for a in answers)):
                return say("read late", name, it=name, how=said)
    return None


# With which of its own rows an input may be mixed.
NEIGHBOURS: dict[str, Callable[[Any], Any]] = {
    "i - 1, the one before": lambda x: np.roll(x, 1, 0),
    "i + 1, the one after": lambda x: np.roll(x, -1, 0),
    "N - 1 - i, in reverse order": lambda x: x[::-1],
}
HOW_MIXED = {  # of rows as they come, and whether the mean gets length 1
    ", and brought to length 1": (False, True),
    "": (False, False),
    ", before they are brought to length 1": (True, True),
}


def mixed(question: Question, results: list[Result]) -> Difference | None:
    """Say whether the rows of an input are mixed with others before they are compared, and how much."""
    names = question.inputs
    if not question.recipe.embeddings or question.row.batches == "futures":
        return None
    rows = Rows(question, results)

    def value(k: int, c: float, into: int, other: Callable[..., Any], raw: bool, brought: bool) -> float:
        z, x = rows.z[k], results[k].wide if raw else rows.z[k]
        n = min(len(x[into]), len(other(x)))
        made = c * x[into][:n] + (1 - c) * other(x)[:n]
        made = np.concatenate((unit_rows(made) if brought else made, z[into][n:]))
        return rows.value(k, (*z[:into], made, *z[into + 1 :]), {})

    for into, name in enumerate(names):
        others = [(f"i of {x}", x, lambda x, j=j: x[j]) for j, x in enumerate(names) if j != into]
        others += [(said, "of that", lambda x, into=into, of=of: of(x[into])) for said, of in NEIGHBOURS.items()]  # type: ignore[misc]
        for (row, with_, other), (how, (raw, brought)) in product(others, HOW_MIXED.items()):
            if not raw or question.recipe.normalization == "rows":
                c = rows.number(partial(value, into=into, other=other, raw=raw, brought=brought))
                if c is not None and abs(c) > 1e-6:  # at 0 it is not read, which is another matter
                    return say("rows mixed", name, into=name, row=row, other=with_, c=c, rest=1 - c, brought=how)
    return None


# What a view may meet, of the rows of all views.
MEANS: dict[str, Callable[[Any, int], Any]] = {
    "the mean of the other views": lambda z, i: (sum(z) - z[i]) / (len(z) - 1),
    "the sum of the other views": lambda z, i: sum(z) - z[i],
    "the mean of all views": lambda z, i: sum(z) / len(z),
}


def views(question: Question, results: list[Result]) -> Difference | None:
    """Say how often each view's rows are anchors against each other's, or that they meet means of the views."""
    if not question.in_a_tuple or not question.recipe.scaled:
        return None
    names, rows = question.inputs, Rows(question, results)
    every = list(product(range(len(names)), repeat=2))
    how = {"ignore": question.ignore, "reduction": question.recipe.reduction, "normalize": False}

    def losses(pairs: list[Any]) -> list[Any]:  # a pair: anchors and candidates on each probe
        return [
            [info_nce.forward(x, y, question.temperature(r.probe.scalar), **how)[0] for x, y in p]
            for p, r in zip(pairs, results, strict=True)
        ]

    def right(i: int, j: int) -> float:
        core = question.setting("core")
        return float(i != j and (core is False or (0 if core is True else core) in (i, j)))

    for pairs in ([p for p in every if p[0] != p[1]], every):
        by_pair = np.array(losses([[(z[i], z[j]) for i, j in pairs] for z in rows.z]))
        # of many views alike ones together: a way, neighbours or not, with the first or not
        kind = [(i, j) if len(pairs) < len(results) else (i > j, abs(i - j) < 2, i * j == 0, i == j) for i, j in pairs]
        kinds = list(dict.fromkeys(kind))
        often = _often(results, np.stack([by_pair[:, [x == y for y in kind]].sum(axis=1) for x in kinds], axis=1))
        if often is None:
            continue
        count = {p: often[kinds.index(x)] for p, x in zip(pairs, kind, strict=True)}
        off = [p for p in pairs if count[p] != right(*p)]
        some = "; ".join(f"{names[i]} → {names[j]} {count[i, j]:g} times, expected {right(i, j):g}" for i, j in off)
        one_way = all({c, count[j, i]} == {0.0, 1.0} for (i, j), c in count.items() if right(i, j))
        why = "pairs of views do not count as they should"
        why = why if any(count[p] for p in off) else "pairs of views are left out, never compared"
        why = why if pairs != every else "views are compared with themselves"
        why = "each pair of views is compared in one direction only" if one_way else why
        return say("directions of views", name="one-direction" if one_way else None, why=why, some=some)
    for (said, mean), raw, brought in product(MEANS.items(), (False, True), (True, False)):
        ways = []
        for z, r in zip(rows.z, results, strict=True):
            means = [mean(r.wide if raw else z, i) for i in range(len(names))]
            ways.append([(x, unit_rows(m) if brought else m) for x, m in zip(z, means, strict=True)])
        there, back = losses(ways), losses([[way[::-1] for way in z] for z in ways])
        often = _often(results, np.stack([np.sum(there, axis=1), np.sum(back, axis=1)], axis=1))
        if often is not None:
            said += ", of the rows as they come" * raw + ", brought to length 1," * brought
            return say("means of views", mean=said, first=often[0], second=often[1])
    return None


def _often(results: list[Result], losses: Any) -> Any:
    """Return how often each of some losses (P, K) counts in all values, None where these are not made of them."""
    values, size = (
        np.array([float(r.outcome.value) for r in results]),
        np.array([r.right.value_size * r.outcome.eps for r in results]),
    )
    if losses.shape[0] <= losses.shape[1] or not np.all(np.isfinite(losses)):
        return None
    found = np.linalg.lstsq(losses / size[:, None], values / size, rcond=None)[0]
    found = np.array([nice(round(float(c), 8)) + 0.0 for c in found])
    return found if values_are(results, losses @ found) else None
