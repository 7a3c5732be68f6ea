"""Of what is a gradient made, and how often does each part of it count?

In:  the gradient of an argument as it came and as it should be, on several batches.
Out: the parts that count otherwise than they should, and how often. A part is what some anchors' losses send, what some
similarities send, the pull of the positives, one step's share, some rows, or something that does not belong there.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.companions import MEMORY, OPTIONAL
from refcl.oracle.evidence import Result
from refcl.oracle.measure import settings
from refcl.oracle.question import Question
from refcl.oracle.roles import rank_of

SCALAR = -1  # the place of the scalar's gradient, behind all others
TINY = 1e-6  # how far each row is moved along a direction of its own, in which the gradients of others then show it
MOST = 40  # anchors of a batch that are asked one by one


class Part(NamedTuple):
    """What a gradient may hold."""

    said: str
    array: Any
    right: float = 1.0  # how often it should count


class Made(NamedTuple):
    """What the right gradients of a batch are made of."""

    by_anchor: list[tuple[Any, ...]]  # of every argument, the scalar's last, from each anchor's loss, or all at once
    losses: Any  # (A,), None where the anchors can't be told apart
    weight: Any  # (A,) of each loss in the value
    shape: tuple[int, ...]  # of the losses
    x: Any = None  # (T, D) all rows, of the inputs and then of a memory; or similarities
    place: Any = None  # (T,) whose rows; None of similarities
    names: tuple[str, ...] = ()
    c: Any = None  # (A, R, T) how much of row j each anchor's loss sends to row i; of similarities, dL/ds
    same: Any = None  # (R, T) whether j is a positive of i
    sizes: Any = None  # (T, T) what c is to be multiplied by to be dL/ds


def made_of(question: Question, r: Result) -> Made:
    """Return what the right gradients of a batch are made of."""
    under, recipe = question.under(r.probe), question.recipe
    under = replace(under, settings=under.settings | under.companions(r.wide), companions_needed=())
    scalar, k, d = r.probe.scalar, len(r.wide), r.wide[0].shape[-1]
    rows = question.row.by_inner_products and recipe.embeddings and all(y.shape[1:] == (d,) for y in r.wide)
    moved, x, place, names = _moved(under, r, rows=rows)
    inputs = r.wide if x is None else tuple(np.split(x, np.cumsum(np.bincount(place))[:-1])[:k])
    none = settings.changed(question, reduction="none")
    shape: tuple[int, ...] = ()
    losses, weight = None, r.upstream
    if none is not None:
        moved = replace(none, settings=none.settings | moved.settings | {"reduction": "none"}, companions_needed=())
        losses, shape = moved.expected(inputs, scalar, value_only=True).value, moved.value_shape(inputs, scalar)
        if weight is None:
            weight = np.full(len(losses), float(r.right.value) / float(np.sum(losses) or 1.0))
        losses = losses if len(losses) <= MOST else None
    asked = [weight] if losses is None else np.diag(weight)
    answers = [moved.expected(inputs, scalar, u) for u in asked]
    found = [(*a.grads, *map(np.asarray, a.dmore), np.asarray(a.dscalar or 0.0)) for a in answers]
    made = Made(found, losses, weight, shape)
    if rows:
        size = x[0, d]
        c = np.stack([np.concatenate([g[:, d:] for g in f[:k]]) for f in found]) / size
        found = [tuple(g[..., :d] if g.shape[-1:] == x.shape[1:] else g for g in f) for f in found]
        length = np.linalg.norm(x, axis=1) if recipe.normalization == "rows" else np.ones(len(x))
        same = _same_rows(under, place, names)[: c.shape[1]]
        return made._replace(
            by_anchor=found, x=x[:, :d], place=place, names=names, c=c, same=same, sizes=np.outer(length, length)
        )
    if question.row.batches == "futures" and r.wide[1].ndim == 3:
        s: Any = np.einsum("nd,tde,tme->tnm", *_with_form(r))
        steps, n, m = s.shape
        alone = np.eye(n), np.stack([np.eye(m)] * steps), s
        c = np.stack([moved.expected(alone, scalar, u).grads[2].reshape(-1, m) for u in asked])
        return made._replace(c=c, x=s.reshape(-1, m), same=np.tile(_same_columns(under, (n, m)), (steps, 1)))
    if not recipe.embeddings and k == 1:
        c = np.stack([f[0] for f in found])
        return made._replace(c=c, x=r.wide[0], same=_same_columns(under, c.shape[1:]))
    return made


def _with_form(r: Result) -> tuple[Any, Any, Any]:
    context, future, weight = r.wide
    return context, weight, future


def _moved(question: Question, r: Result, *, rows: bool) -> tuple[Question, Any, Any, tuple[str, ...]]:
    """Return the question with such a memory, all rows, each with a direction of its own, and whose they are."""
    if not rows:
        return question, None, None, ()
    memory = [str(n) for n in ("bank", "queue") if n in question.settings]
    every = [*r.wide, *(np.asarray(question.settings[n], dtype=np.float64) for n in memory)]
    x, place = np.concatenate(every), np.repeat(np.arange(len(every)), [len(y) for y in every])
    size = TINY * max(float(np.min(np.linalg.norm(x, axis=1))), 1e-300)
    x = np.concatenate([x, size * np.eye(len(x))], axis=1)
    wider = {name: x[place == len(r.wide) + j] for j, name in enumerate(memory)}
    if OPTIONAL[0] in question.settings:
        own = np.asarray(question.settings[OPTIONAL[0]])
        wider[OPTIONAL[0]] = np.concatenate([own, np.zeros((*own.shape[:-1], len(x)))], axis=-1)
    return replace(question, settings=question.settings | wider), x, place, (*question.inputs, *memory)


def _made(question: Question, r: Result) -> Made | None:
    try:
        return made_of(question, r)
    except (ValueError, TypeError, IndexError, KeyError):
        return None


def _same_columns(question: Question, shape: tuple[int, ...]) -> Any:
    if "positives" in question.settings:
        return np.asarray(question.settings["positives"], dtype=bool)
    right = np.arange(shape[0]) if question.positive is None else np.asarray(question.positive)
    return right[:, None] == np.arange(shape[1])


def _same_rows(question: Question, place: Any, names: tuple[str, ...]) -> Any:
    """Return which rows are positives of one another: of one class, of the same number, or as is said by name."""
    t = len(place)
    number = np.concatenate([np.arange(np.sum(place == k)) for k in range(len(names))])
    same = (number[:, None] == number) & (place[:, None] != place)
    for k, name in enumerate(names):
        if name in MEMORY:
            same[place == k] = same[:, place == k] = False
    if "labels" in question.settings:
        labels = np.asarray(question.settings["labels"])
        same = (labels[:, None] == labels) & ~np.eye(t, dtype=bool)
    if "index" in question.settings:
        n = int(np.sum(place == 0))
        same[np.arange(n), n + np.asarray(question.settings["index"])] = True
    if "positives" in question.settings:
        n = int(np.sum(place == 0))
        same[:n, n:] = np.asarray(question.settings["positives"])
        same[n:, :n] = same[:n, n:].T
    if question.positive is not None:
        of = np.asarray(question.positive) + (int(np.sum(place == 0)) if question.recipe.candidates == "other" else 0)
        same = np.zeros_like(same)
        same[np.arange(len(of)), of] = same[of, np.arange(len(of))] = True
    return same


def _ways(question: Question, made: Made, r: Result, k: int) -> Iterator[Callable[[Any], Any]]:
    """Yield how shares (R, T) may become the gradient of argument k; the right one gives the right gradient."""
    t, x = question.temperature(r.probe.scalar), made.x
    by_scalar = 0.0 if t is None else 1.0 if question.scalar == "log_scale" else -1 / t
    if made.place is None:
        if question.row.batches == "futures":
            context, form, future = _with_form(r)
            cut = (len(future), len(context), -1)
            yield (
                lambda c: np.einsum("tnm,tde,tme->nd", c.reshape(cut), form, future),
                lambda c: np.einsum("tnm,nd,tde->tme", c.reshape(cut), context, form),
                lambda c: np.einsum("tnm,nd,tme->tde", c.reshape(cut), context, future),
            )[k]
        else:
            yield (lambda c: c) if k == 0 else (lambda c: np.sum(c * x) * by_scalar)
        return
    n, off, inner = made.c.shape[1], 1.0 - np.eye(len(x)), x @ x.T
    once = np.where(np.arange(len(x)) < n, 0.5, 1.0)  # two rows share a similarity
    if k == SCALAR:
        yield lambda c: np.sum(c * (off * inner)[:n] * once) * by_scalar
        return
    if k >= len(question.inputs):  # what is added to each logit
        yield lambda c: np.sum(c * (off * made.sizes)[:n] * once) * (t or 1.0)
        return
    own = np.flatnonzero(made.place == k)
    square = np.maximum(np.diag(inner)[own], 1e-300)[:, None]
    yield (
        lambda c: (c * off[:n])[own] @ x - np.sum((c * (off * inner)[:n])[own] / square, axis=1, keepdims=True) * x[own]
    )
    yield lambda c: (c * off[:n])[own] @ x - np.sum((c * off[:n])[own], axis=1, keepdims=True) * x[own]
    yield lambda c: c[own] @ x


def unprojected(question: Question, k: int, r: Result, want: Any) -> Any:
    """Return dz/‖x‖, before the projection of the normalization that makes the right gradient of it, or None."""
    made = _made(question, r)
    if made is None or made.place is None or k >= len(question.inputs):
        return None
    c = np.sum(made.c, axis=0)
    if not _close(next(_ways(question, made, r, k))(c), want, r):
        return None
    own = np.flatnonzero(made.place == k)
    return (c[own] * (1.0 - np.eye(len(made.x)))[own]) @ made.x


def _pull(question: Question, made: Made, r: Result) -> Any:
    """Return the share (R, T) of the positives in the numerator, -Σ t_ip s_ip/τ, where the loss is a softmax's.

    Of a softmax p = t + (∂L/∂s)/κ and L = -Σ t ln p: that is looked at, with κ as it should be.
    """
    if made.losses is None or len(made.losses) > made.c.shape[1] or question.recipe.anchors == "second":
        return None
    t, share, apart = (
        question.temperature(r.probe.scalar),
        np.zeros(made.c.shape[1:]),
        question.recipe.inside == "apart",
    )
    for i, kappa in enumerate(made.weight / (1.0 if t is None else t)):
        p = made.same[i]
        if question.recipe.candidates == "other" and made.place is not None:
            p = p & (made.place != made.place[i])
        if not np.any(p):
            continue
        sizes = 1.0 if made.sizes is None else made.sizes[i, p]
        each = 1.0 if apart else 1 / np.sum(p)
        probability = made.c[i][i, p] * sizes / (kappa or 1.0) + each
        loss = -np.mean(np.log(np.maximum(probability, 1e-300)))
        told = not apart and bool(np.all(np.abs(probability) > 1e-6))  # smaller ones are lost beside the target
        if told and not abs(loss - made.losses[i]) <= 1e-6 * max(abs(made.losses[i]), 1e-3):
            return None
        share[i, p] -= kappa * each / sizes
    if made.place is not None:
        share[:, : len(share)] += share[:, : len(share)].T.copy()
    return share


def partitions(question: Question, k: int, r: Result, want: Any) -> dict[str, list[Part]]:
    """Return ways to take the right gradient of argument k apart; of each, the parts make the whole.

    Parts that should not count at all may stand beside them.
    """
    made = _made(question, r)
    if made is None:
        return {}
    found: dict[str, list[Part]] = {}
    total = sum(g[k] for g in made.by_anchor) if k < len(made.by_anchor[0]) - 1 else np.nan
    if np.shape(total) != np.shape(want) or not _close(total, want, r):
        return {}

    def two(kind: str, said: str, part: Any, rest: str = "the rest") -> None:
        found[kind] = [Part(said, part), Part(rest, want - part)]

    if np.ndim(want) in (1, 2):
        rows = np.arange(len(want)).reshape(-1, *(1,) * (np.ndim(want) - 1))
        two("first row", "what its first row holds", want * (rows == 0), "what its other rows hold")
        two("last row", "what its last row holds", want * (rows == len(want) - 1), "what its other rows hold")
        n = len(r.wide[0])
        two("rows past N", "what its rows past N hold", want * (rows >= n), "what its first N rows hold")
    if len(made.by_anchor) > 1:
        _by_anchor(question, made, k, two)
    if made.c is not None:
        _by_share(question, made, k, r, want, found, two)
    for j, name in enumerate(question.inputs):
        other = sum(g[j] for g in made.by_anchor)
        if j != k and np.shape(other) == np.shape(want):
            found[f"also d{name}"] = [Part("its own gradient", want), Part(f"the gradient of {name}", other, 0.0)]
    return found


def _by_anchor(question: Question, made: Made, k: int, two: Callable[..., None]) -> None:
    grads = np.stack([g[k] for g in made.by_anchor])  # (A, …)
    if question.two_sided and len(question.inputs) == 2:
        n = int(np.sum(made.place == 0)) if made.place is not None else len(grads) // 2
        said = [f"what the losses of {name}'s rows as anchors send" for name in question.inputs]
        two("sides", said[0], np.sum(grads[:n], axis=0), said[1])
    if len(made.shape) == 2 and not question.two_sided:
        steps = grads.reshape(*made.shape, *grads.shape[1:]).sum(axis=1)
        two("last step", "what the last step sends", steps[-1], "what the steps before it send")
        two("first step", "what the first step sends", steps[0], "what the later steps send")
    two("first anchor", "what the loss of the first anchor sends", grads[0], "what the other anchors' losses send")
    two("last anchor", "what the loss of the last anchor sends", grads[-1], "what the other anchors' losses send")
    if made.place is not None and len(grads) <= made.c.shape[1] and 0 <= k < len(question.inputs):
        first = len(grads) < made.c.shape[1] and question.recipe.anchors == "second"
        of = np.arange(len(grads)) + (made.c.shape[1] - len(grads) if first else 0)
        own = np.zeros_like(grads[0])
        start = int(np.flatnonzero(made.place == k)[0])
        for a, row in enumerate(of):
            if made.place[row] == k:
                own[row - start] = grads[a][row - start]
        two("roles", "what a row gets as an anchor", own, "what a row gets as a candidate of other anchors")


def _by_share(
    question: Question,
    made: Made,
    k: int,
    r: Result,
    want: Any,
    found: dict[str, list[Part]],
    two: Callable[..., None],
) -> None:
    c = np.sum(made.c, axis=0)
    made_by = next((way for way in _ways(question, made, r, k) if _close(way(c), want, r)), None)
    if made_by is None:
        return
    pull = _pull(question, made, r)
    if pull is not None:
        said = "the pull of the positive, -s_ip/τ," if question.recipe.scaled else "the pull of the positive, -s_ip,"
        two("pull", said, made_by(pull), "the push of all candidates")
        if {"labels", "positives"} & set(question.companions_needed):
            more = pull * np.maximum(np.sum(made.same, axis=1, keepdims=True), 1)
            found["pull of each"] = [
                Part("the pull of the positives, 1/P of each,", made_by(pull)),
                Part("a pull of 1 of each positive", made_by(more), 0.0),
                Part("the push of all candidates", want - made_by(pull)),
            ]
    two("positives", "the share of the positives", made_by(np.where(made.same, c, 0.0)), "the share of the negatives")
    if made.place is None:
        if question.row.batches == "futures" and len(r.wide[0]) == made.c.shape[2]:
            n = made.c.shape[2]
            turned = np.swapaxes(c.reshape(-1, n, n), 1, 2).reshape(c.shape)
            found["turned"] = _turned("the sum over pairs", want, made_by(turned), want)
        return
    if question.recipe.ranks > 1 and len(question.inputs) == 2:
        n, m = (len(x) for x in r.wide)
        rank = rank_of(n, m, question.recipe.ranks)
        own, others = "the share of the rank's own rows", "the share of the other ranks' rows"
        two("ranks", own, made_by(np.where(rank[:, None] == rank, c, 0.0)), others)
        if 0 <= k < 2:
            found["sent"] = [
                Part(s, made_by(x), right) for s, x, right in _sent(made, c, k, rank, question.recipe.ranks)
            ]
    some = 1e-12 * float(np.max(np.abs(want), initial=0.0))
    for kind, masks in (
        ("arrays", {"rows": np.ones_like(made.same)}),
        ("blocks", {"positives among the rows": made.same, "negatives among the rows": ~made.same}),
    ):
        shares = [
            Part(f"the share of the {said} of {name}", made_by(np.where((made.place == j) & mask, c, 0.0)))
            for j, name in enumerate(made.names)
            for said, mask in masks.items()
        ]
        found[kind] = [p for p in shares if np.any(np.abs(p.array) > some)]
    for j, name in enumerate(question.inputs if 0 <= k < len(question.inputs) else ()):
        mine, theirs = made.place == k, made.place == j
        if j == k:
            continue
        share = made_by(np.where(theirs, c, 0.0))
        past = theirs & (np.cumsum(theirs) > np.sum(mine))
        two(f"past {name}", f"the share of the rows of {name} past N", made_by(np.where(past, c, 0.0)))
        if np.sum(mine) == np.sum(theirs):
            at = np.ix_(mine[: len(c)], theirs)
            turned = np.zeros_like(c)
            turned[at] = (c * made.sizes[: len(c)])[at].T / made.sizes[: len(c)][at]
            found[f"turned {name}"] = _turned(f"the share of the rows of {name}", share, made_by(turned), want)


def _sent(made: Made, c: Any, k: int, rank: Any, ranks: int) -> Iterator[tuple[str, Any, float]]:
    """Yield what each rank's rows send to each rank, and what they would send there that is another rank's."""
    ds = c * made.sizes
    for to, of, whose in product(range(ranks), repeat=3) if ranks <= 4 else ():
        sent, into = (np.flatnonzero((made.place == k) & (rank == x)) for x in (whose, to))
        moved = np.zeros_like(c)
        moved[into] = np.where((rank == of) & (made.place != k), ds[sent] / made.sizes[into], 0.0)
        at = "" if to == whose else f", at rank {to},"
        yield f"what rank {of}'s rows send to rank {whose}{at}", moved, float(to == whose)


def _turned(said: str, share: Any, turned: Any, want: Any) -> list[Part]:
    return [Part(said, share), Part(f"{said} with ∂L/∂s transposed", turned, 0.0), Part("the rest", want - share)]


def otherwise(
    question: Question,
    k: int,
    of_one: list[tuple[Result, Any, Any]],
    named: Callable[[list[tuple[Result, float]]], tuple[str, Callable[[Result], float]] | None],
) -> list[tuple[str, str]]:
    """Return which parts of a gradient count otherwise than they should, and how often; nothing where that is not all.

    Parameters
    ----------
    question : Question
        What was asked.
    k : int
        The place of the argument; that of the scalar is behind the arrays.
    of_one : list of (Result, array, array)
        Answers, what came, and the right one.
    named : callable
        The numbers of several batches -> what they are, and what they are on any batch.
    """
    every = [partitions(question, k, r, want) for r, _, want in of_one]
    for kind in every[0]:
        if all(kind in p for p in every):
            found = _fitted([(r, got, p[kind]) for (r, got, _), p in zip(of_one, every, strict=True)], named)
            if found:
                return found
    return []


def _fitted(batches: list[tuple[Result, Any, list[Part]]], named: Callable[..., Any]) -> list[tuple[str, str]]:
    right = {p.said: p.right for _, _, parts in batches for p in parts}
    sharp = [batch for batch in batches if batch[0].outcome.eps < 1e-10] or batches
    # One number, such as dτ, tells of one part at a time.
    together = np.size(batches[0][1]) > len(right)
    for free in [list(right)] if together else [[said] for said in right]:
        numbers: dict[str, list[tuple[Result, float]]] = {said: [] for said in free}
        for r, got, parts in sharp:
            fixed = sum(p.right * p.array for p in parts if p.said not in free)
            times = _times(np.asarray(got - fixed), [p for p in parts if p.said in free])
            if times is None:
                break
            for said, c in times.items():
                numbers[said].append((r, c))
        else:
            law = {said: named(n) for said, n in numbers.items() if n}
            if not law or any(x is None for x in law.values()) or (not together and len(*numbers.values()) < 3):
                continue
            fits = all(
                _close(sum((law[p.said][1](r) if p.said in law else p.right) * p.array for p in parts), got, r)
                for r, got, parts in batches
            )
            wrong = [(said, law[said][0]) for said in law if law[said][0] != f"{right[said]:g}"]
            if fits and wrong:
                return wrong
    return []


def _times(got: Any, parts: list[Part]) -> dict[str, float] | None:
    """Return how often each part counts; nothing where parts can't be told apart, None where they do not explain it."""
    if not parts:
        return {} if not np.any(got) else None
    columns = np.stack([np.ravel(p.array) for p in parts], axis=1)
    size = np.linalg.norm(columns, axis=0)
    there = size > 1e-9 * max(float(np.max(size)), 1e-300)
    if not np.any(there):
        return {}
    counted = [p for p, here in zip(parts, there, strict=True) if here]
    found, _, rank, singular = np.linalg.lstsq(columns[:, there] / size[there], np.ravel(got), rcond=1e-7)
    left = columns[:, there] / size[there] @ found - np.ravel(got)
    if np.max(np.abs(left)) > 1e-5 * max(float(np.max(np.abs(got))), 1e-300):
        return None
    if rank < np.sum(there) or singular[-1] < 1e-3 * singular[0]:
        return {}
    return {p.said: float(c) for p, c in zip(counted, found / size[there], strict=True)}


def _close(a: Any, b: Any, r: Result | None = None) -> bool:
    scale, eps = float(np.max(np.abs(b), initial=0.0)), 0.0 if r is None else 1e4 * r.outcome.eps
    return bool(np.max(np.abs(np.asarray(a) - b), initial=0.0) <= max(2e-6, eps) * scale + 1e-12)
