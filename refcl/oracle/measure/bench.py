"""One similarity at a time: a candidate as a function of the inner products of all rows.

In:  a lab.
Out: a `Bench`: embeddings that have given inner products, and the derivative by each of these.
A loss that does not care for rotations is, with enough dimensions, a function of the Gram matrix of all rows: draw one
with unit diagonal, take its Cholesky factor times a random rotation as the embeddings, move one entry, factor again.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from refcl.oracle.companions import LABELS, MEMORY, OPTIONAL
from refcl.oracle.measure.lab import Lab, difference
from refcl.oracle.measure.settings import changed
from refcl.oracle.question import Question

STEP = 4e-3
OWN = OPTIONAL[0]  # those of them that are rows


@dataclass
class Bench:
    """Rows or similarities, and what of them can be moved.

    Attributes
    ----------
    rows : list of (str, int)
        Name of the input and number of the row; of similarities, the anchors.
    entries : list of (int, int)
        Which similarities there are: rows i < j of embeddings, or anchor and column.
    """

    lab: Lab
    right_question: Question
    rows: list[tuple[str, int]]
    entries: list[tuple[int, int]]
    shape: tuple[int, int]
    turn: Any  # (T, D) an orthonormal basis, or None on similarities
    companions: dict[str, Any]
    others: tuple[Any, ...]  # further arrays that stay as they are
    dtype: Any = np.float64
    each: int = 0  # own negatives of an anchor
    steps: int = 0  # of futures: contexts and futures are unit vectors, so that the forms are the similarities

    @property
    def gram(self) -> bool:
        return self.turn is not None

    def inputs(self, s: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arrays that have these similarities."""
        if self.steps:
            t, every = self.steps, self.shape[1]  # the futures of all steps are columns
            n = self.shape[0] // t
            return (np.eye(n), np.eye(every).reshape(t, -1, every), s.reshape(t, n, every)), self.companions
        if not self.gram:
            return (s.astype(self.dtype), *self.others), self.companions
        z = np.linalg.cholesky(s) @ self.turn
        arrays, k, companions = [], 0, dict(self.companions)
        for name in dict.fromkeys(name for name, _ in self.rows):
            count = sum(n == name for n, _ in self.rows)
            if name in MEMORY:
                companions[name] = z[k : k + count]
            elif name == OWN:
                companions[name] = z[k : k + count].reshape(-1, self.each, z.shape[1])
            else:
                arrays.append(z[k : k + count].astype(self.dtype))
            k += count
        return tuple(arrays), companions

    def value(self, s: Any, scalar: float | None = None) -> float:
        try:
            inputs, companions = self.inputs(s)
        except np.linalg.LinAlgError:
            return float("nan")
        return self.lab.value(inputs, scalar, companions)

    def right_value(self, s: Any, scalar: float | None = None) -> float:
        inputs, companions = self.inputs(s)
        probe = self.lab.probe(inputs, scalar, companions)
        return float(np.sum(self.right_question.under(probe).value(probe.inputs, probe.scalar)))

    def gradient(self, s: Any, scalar: float | None = None) -> Any:
        """Return the derivative of the candidate's value by each entry."""
        if self.lab.trusted:
            inputs, companions = self.inputs(s)
            got = self.lab.ask(inputs, scalar, companions)
            own = None if got is None or not self.each else self._own(got.dmore)
            if got is not None and got.grads is not None and (own is not None or not self.each):
                return self._entries(s, got.grads if own is None else (*got.grads, own))

        def along(entry: tuple[int, int]) -> float:
            return difference(lambda t: self.value(self.moved(s, entry, t), scalar), STEP)

        return np.array([along(e) for e in self.entries])

    def right_gradient(self, s: Any, scalar: float | None = None) -> Any:
        inputs, companions = self.inputs(s)
        probe = self.lab.probe(inputs, scalar, companions)
        right = self.right_question.answer(probe)
        return self._entries(s, (*right.grads, self._own(right.dmore)) if self.each else right.grads)

    def _own(self, dmore: tuple[Any, ...]) -> Any:
        """Return the gradients of the own negatives, row by row, where they came; they are the first of all."""
        return None if not dmore or dmore[0] is None else np.reshape(dmore[0], (-1, np.shape(dmore[0])[-1]))

    def moved(self, s: Any, entry: tuple[int, int], t: float) -> Any:
        """Return similarities of which one entry is moved."""
        moved = s.copy()
        moved[entry] += t
        if self.gram:
            moved[entry[::-1]] += t
        return moved

    def _entries(self, s: Any, grads: tuple[Any, ...]) -> Any:
        if not self.gram:
            ds = np.reshape(grads[-1 if self.steps else 0], self.shape)
            return np.array([ds[e] for e in self.entries], dtype=float)
        z = np.linalg.cholesky(s) @ self.turn
        dz = np.concatenate([np.asarray(g, dtype=float) for g in grads])
        a = dz @ np.linalg.pinv(z)  # (rows with a gradient, T): dz_i = Σ_j a_ij z_j
        k = len(a)
        return np.array([(a[i, j] + a[j, i]) / 2 if j < k else a[i, j] for i, j in self.entries])

    def draw(self, seed: int) -> Any:
        """Return random similarities: a Gram matrix with unit diagonal, or a plain matrix."""
        rng = np.random.default_rng((17, seed))
        if not self.gram:
            n, m = self.shape
            s = rng.uniform(-0.7, 0.5, (n, m))
            s[np.arange(min(n, m)), np.arange(min(n, m))] += 0.2
            return s
        t = len(self.rows)
        # Wide enough that no small eigenvalue is left, past which a step would lead out of the Gram matrices.
        x = rng.standard_normal((t, t + 3 if t < 10 else 2 * t))
        partner: dict[int, int] = {}
        for k, (_, i) in enumerate(self.rows):
            if i in partner:
                x[k] += 0.6 * x[partner[i]]
            else:
                partner[i] = k
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x @ x.T


def bench(lab: Lab, shape: tuple[int, int] | None, extra: int, *, odd: bool = False) -> Bench | None:
    """Return the bench of a question, of an odd number of rows or not; None where there are no inner products."""
    q = lab.question
    if q.row.batches == "futures" and not shape:
        t, n = 2, 4 + odd
        rows = [(f"step {k} context", i) for k in range(t) for i in range(n)]
        every = t * (n + extra)
        entries = [(i, k) for i in range(t * n) for k in range(every)]
        return Bench(lab, q, rows, entries, (t * n, every), None, {}, (), steps=t)
    if not q.row.by_inner_products:
        return None
    through = {"detach": False} if "detach" in q.pair.settings else {}
    plain = changed(q, detached=(), **through) if q.recipe.detached or through else q
    right = plain or q
    ranks = q.recipe.ranks
    n = shape[0] if shape else (2 * ranks if ranks > 1 else 3 if OWN in q.given else 4 + odd)
    if not q.recipe.embeddings:
        m = shape[1] if shape else n + max(extra, 1 if q.row.all_arrays else 2)
        others = () if len(q.inputs) == 1 else (np.linspace(0.2, 0.5, n),)
        rows = [("row", i) for i in range(n)]
        entries = [(i, k) for i in range(n) for k in range(m)]
        return Bench(lab, right, rows, entries, (n, m), None, {}, others)
    companions, sizes = _companions(q, n, shape)
    rows = []
    for k, name in enumerate(q.inputs):
        count = sizes.get(name, n + (extra if k == 1 else 0))
        rows += [(name, i) for i in range(count)]
    held = {name: x for name, x in companions.items() if name in ("bank", "queue")}
    first_memory = len(rows)
    for name, x in held.items():
        rows += [(name, i) for i in range(len(x))]
        companions.pop(name)
    each = 2 if OWN in q.given else 0
    owners = n * len(q.inputs) if q.recipe.candidates == "all" else n
    rows += [(OWN, i) for i in range(each * owners)]
    t = len(rows)
    d = t + 1
    if shape and not q.in_a_tuple and shape[1] >= t:
        d = shape[1]
    turn = np.linalg.qr(np.random.default_rng(11).standard_normal((d, d)))[0][:t]
    entries = [(i, j) for i in range(t) for j in range(i + 1, t) if i < first_memory]
    return Bench(lab, right, rows, entries, (t, t), turn, companions, (), each=each)


def _companions(q: Question, n: int, shape: Any) -> tuple[dict[str, Any], dict[str, int]]:
    made: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    needed = (*q.companions_needed, *(name for name in (*MEMORY, *LABELS) if name in q.settings))
    rng = np.random.default_rng(4)
    if q.in_a_tuple:
        sizes = dict.fromkeys(q.inputs, 3)
    if "labels" in needed and "labels" not in q.settings:
        sizes = {q.inputs[0]: shape[0] if shape else 7 if q.recipe.ranks == 1 else 4 * q.recipe.ranks}
        count = next(iter(sizes.values()))
        made["labels"] = np.array([0, 1, 0, 2, 1, 0, 2, 1, 2, 0, 1, 2][:count] + [0] * max(0, count - 12))
    if "queue" in needed:
        made["queue"] = rng.standard_normal((4, 2))
    if "bank" in needed:
        rows = n + 3
        made["bank"] = rng.standard_normal((rows, 2))
        made["index"] = (2 * np.arange(n) + 1) % rows
        if "noise" in needed:
            other = np.array([[(i + 1 + k) % rows for k in range(3)] for i in made["index"]])
            made["noise"] = other
            made["log_normalizer"] = np.asarray(np.log(rows) + 0.5)
    return made, sizes


def entry_name(bench: Bench, e: int) -> str:
    """Return what a report calls an entry."""
    i, j = bench.entries[e]
    if not bench.gram:
        return f"{row_name(bench, i)} with {column_name(bench, j)}" if bench.steps else f"({i}, {j})"
    return f"{row_name(bench, i)} with {row_name(bench, j)}"


def column_name(bench: Bench, j: int) -> str:
    """Return what a report calls a column of similarities."""
    each = bench.shape[1] // max(bench.steps, 1)
    return f"step {j // each} future {j % each}" if bench.steps else f"column {j}"


def row_name(bench: Bench, i: int) -> str:
    """Return what a report calls a row."""
    name, k = bench.rows[i]
    return f"{name}[{k // bench.each}, {k % bench.each}]" if name == OWN else f"{name} {k}"
