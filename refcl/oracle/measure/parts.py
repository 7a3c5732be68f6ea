"""Of what is a gradient made, and how often does each part of it count?

In:  the gradient of an argument as it came and as it should be, on several batches.
Out: the parts that count otherwise than they should, and how often. A part is what some anchors' losses send, what some
similarities send, the pull of the positives, one step's share, some rows, or something that does not belong there.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from refcl.oracle.evidence import Result
from refcl.oracle.measure import settings
from refcl.oracle.measure.made import Made, made_of, with_form
from refcl.oracle.question import Question
from refcl.oracle.roles import rank_of

SCALAR = -1  # the place of the scalar's gradient, behind all others
CANDIDATE = "what a row gets as a candidate of other anchors"
CHUNKS = (2, 3, 4, 8, 16)  # anchors at a time


Way: TypeAlias = Callable[[Any], Any]  # shares (R, T) -> a gradient


class Part(NamedTuple):
    """What a gradient may hold."""

    said: str
    array: Any
    right: float = 1.0  # how often it should count


Kind: TypeAlias = tuple[str, list[Part]]


def _made(question: Question, r: Result) -> Made | None:
    try:
        return made_of(question, r)
    except (ValueError, TypeError, IndexError, KeyError):
        return None


def _ways(question: Question, made: Made, r: Result, k: int) -> Iterator[Callable[[Any], Any]]:
    """Yield how shares (R, T) may become the gradient of argument k; the right one gives the right gradient."""
    t, x = question.temperature(r.probe.scalar), made.x
    by_scalar = 0.0 if t is None else 1.0 if question.scalar == "log_scale" else -1 / t
    if made.place is None:
        if question.row.batches == "futures":
            context, form, future = with_form(r)
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


def _pull(question: Question, made: Made, r: Result) -> tuple[Any, Any]:
    """Return the share (R, T) of the positives in the numerator, -Σ t_ip s_ip/τ, where the loss is a softmax's.

    Of a softmax p = t + (∂L/∂s)/κ and L = -Σ t ln p: that is looked at, with κ as it should be. And the share of
    candidates were each softmax 1 at its largest logit; None where two are as large.
    """
    if made.losses is None or len(made.losses) > made.c.shape[1] or question.recipe.anchors == "second":
        return None, None
    t, apart = question.temperature(r.probe.scalar), question.recipe.inside == "apart"
    share, largest, tie = np.zeros(made.c.shape[1:]), np.zeros(made.c.shape[1:]), False
    for i, kappa in enumerate(made.weight / (1.0 if t is None else t)):
        p = made.same[i]
        if question.recipe.candidates == "other" and made.place is not None:
            p = p & (made.place != made.place[i])
        if not np.any(p):
            continue
        sizes = np.ones(len(p)) if made.sizes is None else made.sizes[i]
        each = 1.0 if apart else 1 / np.sum(p)
        probability = made.c[i][i, p] * sizes[p] / (kappa or 1.0) + each
        loss = -np.mean(np.log(np.maximum(probability, 1e-300)))
        told = not apart and bool(np.all(np.abs(probability) > 1e-6))  # smaller ones are lost beside the target
        if told and not abs(loss - made.losses[i]) <= 1e-6 * max(abs(made.losses[i]), 1e-3):
            return None, None
        share[i, p] -= kappa * each / sizes[p]
        s = made.x[i] if made.place is None else made.x @ made.x[i] / sizes
        there = np.flatnonzero(((made.c[i][i] != 0) | p) & ((np.arange(len(s)) != i) | (made.place is None)))
        first = there[np.argmax(s[there])]
        tie = tie or np.sum(s[there] >= s[first] - 1e-9 * abs(s[first])) > 1
        largest[i, first] += kappa / sizes[first]
    for x in (share, largest) if made.place is not None else ():
        x[:, : len(x)] += x[:, : len(x)].T.copy()
    return share, None if tie else largest


def partitions(question: Question, k: int, r: Result, want: Any) -> dict[str, list[Part]]:
    """Return ways to take the right gradient of argument k apart; of each, the parts make the whole.

    Parts that should not count at all may stand beside them; no parts at all, where a batch can't tell.
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
        made_by = _by_share(question, made, k, r, want, found, two)
        found.update(() if made_by is None else _by_pair(question, made, k, r, made_by, want))
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
    if len(made.shape) == 2 and question.row.batches == "futures":
        steps = grads.reshape(*made.shape, *grads.shape[1:]).sum(axis=1)
        two("last step", "what the last step sends", steps[-1], "what the steps before it send")
        two("first step", "what the first step sends", steps[0], "what the later steps send")
    two("first anchor", "what the loss of the first anchor sends", grads[0], "what the other anchors' losses send")
    two("last anchor", "what the loss of the last anchor sends", grads[-1], "what the other anchors' losses send")
    for many in CHUNKS:
        last = grads[(len(grads) - 1) // many * many :]
        rest = f"what the losses of the chunks before the last one of {many} anchors send"
        two(f"chunks of {many}", f"what the losses of the last chunk of {many} anchors send", sum(last), rest)


def _by_share(
    question: Question,
    made: Made,
    k: int,
    r: Result,
    want: Any,
    found: dict[str, list[Part]],
    two: Callable[..., None],
) -> Any:
    """Add what parts there are, and return what makes a gradient of shares."""
    c = np.sum(made.c, axis=0)
    made_by = next((way for way in _ways(question, made, r, k) if _close(way(c), want, r)), None)
    if made_by is None:
        return None
    pull, _ = _pull(question, made, r)
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
        return made_by
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
    return made_by


def _anchor_rows(question: Question, made: Made) -> Any:
    """Return the row that each anchor is, or None where that is not known."""
    if made.losses is None:
        return None
    if question.row.batches == "views":  # an anchor's row has a share of all its candidates, each of these one alone
        return np.argmax(np.sum(np.abs(made.c * (1.0 - np.eye(len(made.x)))), axis=2), axis=1)
    rows = np.arange(len(made.losses))
    second = made.place is not None and question.recipe.anchors == "second"
    rows += made.c.shape[1] - len(rows) if second else 0
    return rows if rows[0] >= 0 and rows[-1] < made.c.shape[1] else None


def _by_pair(question: Question, made: Made, k: int, r: Result, made_by: Way, want: Any) -> Iterator[Kind]:
    """Yield the parts that tell an anchor from its candidate, which of the two comes first, and what else may stand."""
    rows, c, alone = _anchor_rows(question, made), np.sum(made.c, axis=0), made.place is None
    height, width = c.shape
    # The place of a row: among all that are stacked, or in its own array, where anchors meet the rows of another.
    i, j = np.arange(height) % len(r.wide[0]) if alone else np.arange(height), np.arange(width)
    own = np.zeros(c.shape, dtype=bool) if alone else made.place[:height, None] == made.place
    if not alone and question.recipe.candidates == "other":
        j = np.concatenate([np.arange(n) for n in np.bincount(made.place)])
        i = j[:height]
    late, early = i[:, None] < j, i[:, None] > j

    def parts(shares: dict[str, Any]) -> list[Part]:
        return [Part(said, made_by(share)) for said, share in shares.items()]

    if rows is not None:
        sent = np.zeros_like(c)
        np.add.at(sent, rows, made.c[np.arange(len(rows)), rows])
        got = c * 0.0 if alone else c - sent
        # What a candidate gets stands at the same place of ∂L/∂s as what its anchor gets; of two arrays, it has sides.
        sides = not alone and question.recipe.candidates == "other"
        by_row = c * (made.place[:height, None] == 0) if sides else sent
        by_column = c - by_row if sides else got
        upper, lower = by_row * late + by_column * early, by_row * early + by_column * late
        triangles = {"the upper triangle of ∂L/∂s": upper, "the lower triangle of ∂L/∂s": lower}
        yield "triangles", parts(triangles | {"its diagonal": c - upper - lower})
    pull, largest = _pull(question, made, r)
    if pull is not None:
        push = Part("the push of all candidates by their softmax", want - made_by(pull))
        one = Part("a push of 1 of the largest logit", made_by(pull if largest is None else largest), 0.0)
        yield "largest", [] if largest is None else [push, one, Part("the pull of the positive", made_by(pull))]
    if alone:
        if question.recipe.pool == "triplet" and k == 0 and made.losses is not None:
            nearest = Part("what the nearest negative of each anchor sends", want)
            on = (made.x - np.sum(made.x * made.same, axis=1, keepdims=True) + question.recipe.margin > 0) & ~made.same
            every = (on - made.same * np.sum(on, axis=1, keepdims=True)) * made.weight[:, None]
            yield "violating", [nearest, Part("what every negative within the margin sends", every, 0.0)]
        return
    if rows is not None:
        yield "roles", parts({"what a row gets as an anchor": sent, CANDIDATE: got})
        roles = (("as an anchor, from candidates", sent), ("as a candidate, from anchors", got))
        views = (("its own view", own), ("other views", ~own))
        apart = {f"what a row gets {role} of {view}": x * of for role, x in roles for view, of in views}
        yield "roles by view", parts({said: x for said, x in apart.items() if np.any(x)})
    for many in CHUNKS if question.recipe.candidates == "other" else ():
        last = c * (j >= np.max(j) // many * many)
        said = f"the share of the last chunk of {many} rows", f"the share of the rows before the last chunk of {many}"
        yield f"chunks of {many} rows", parts(dict(zip(said, (last, c - last), strict=True)))
    own_rows = "the share of {} rows of the same array"
    halves = {own_rows.format("later"): c * (own & late), own_rows.format("earlier"): c * (own & early)}
    yield "order", parts(halves | {"the share of other arrays": c * ~own})
    masks = {f"the rows of {n}": made.place == at for at, n in enumerate(made.names)} | {"all rows": made.place >= 0}
    instead = {"raw and not normalized": np.linalg.norm(made.x, axis=1)}
    if question.recipe.normalization == "none":
        masks |= {"the positives": made.same, "the negatives": ~made.same}
        distance = np.linalg.norm(made.x[:height, None] - made.x, axis=2)
        distance = np.where(distance > 0, distance, 1.0)
        instead = {"divided by the distance once too often": 1 / distance, "not divided by the distance": distance}
    for (of, mask), (how, times) in product(masks.items(), instead.items()):
        other = Part(f"the share of {of}, {how},", made_by(c * mask * times), 0.0)
        yield f"{of}, {how}", [*parts({f"the share of {of}": c * mask, "the rest": c * ~mask}), other]
    if made.losses is not None and "ignore" not in question.settings:
        if question.recipe.inside == "model aware" and 0 <= k < len(question.inputs):
            yield from _temperature_of_its_own(question, made, k, r, made_by, want)
        if question.recipe.inside == "reweighted":
            yield from _corrected(question, made, r, made_by, want)


def _temperature_of_its_own(
    question: Question, made: Made, k: int, r: Result, made_by: Way, want: Any
) -> Iterator[Kind]:
    """Yield what goes through a temperature that follows the alignment, and through weights of the losses."""
    held, t, same = question.inside(r.wide), question.temperature(r.probe.scalar), made.same / np.sum(made.same)
    constant = settings.changed(question, detach=True)
    if constant is None or t is None:
        return
    base, alpha = constant.under(r.probe).expected(r.wide, r.probe.scalar, r.upstream), held["alpha"]
    excess = np.sum((made.x @ made.x.T * same) / made.sizes) - held["alignment"]
    slope = np.log(alpha) if held["law"] == "power" else alpha / (1 + alpha * excess)  # of ln τ
    through, right = made_by(2 * same / made.sizes * t * slope * (base.dscalar or 0.0)), float(not held["detach"])
    weights = Part("what goes through the weights", right * (want - base.grads[k] - through), right)
    yield "τ", [Part("what goes through the temperature", through, right), weights, Part("the rest", base.grads[k])]


def _corrected(question: Question, made: Made, r: Result, made_by: Way, want: Any) -> Iterator[Kind]:
    """Yield what the positive sends through the corrected negatives, and what goes past a clamp at their floor."""
    t, held, n = question.temperature(r.probe.scalar), question.inside(r.wide), made.c.shape[1]
    s, plus, beta = made.x @ made.x.T / made.sizes, held["tau_plus"], held.get("beta", 0.0)
    if t is None or n != len(s) or not np.all(np.sum(made.same, axis=1) == 1):
        return
    corrected, past = np.zeros_like(made.c[0]), np.zeros_like(made.c[0])
    for i, loss in enumerate(made.losses):
        p, few = np.flatnonzero(made.same[i])[0], ~made.same[i] & (np.arange(n) != i)
        up, down = (np.exp(b * (s[i, few] - 1) / t) for b in (1 + beta, beta))
        count = np.sum(few)
        total = count * np.sum(up) / np.sum(down) * np.exp((1 - s[i, p]) / t)  # over e^(s_p/τ), as all here
        push = up / np.sum(up) * (1 + beta) - down / np.sum(down) * beta
        push = total * (up / np.sum(up) if held.get("detach") else push)
        below = (total - plus * count) / (1 - plus) < count * np.exp((-1 - s[i, p]) / t)
        by = made.weight[i] * np.exp(-loss) / t / (1 - plus)
        (past if below else corrected)[i, p] -= by * plus * count
        past[i, few] += by * push * below
    sent, held_back = (np.nan_to_num(made_by((x + x.T) / made.sizes)) for x in (corrected, past))
    yield "corrected", [Part("the positive in the correction of the negatives", sent), Part("the rest", want - sent)]
    floor = Part("what a clamp of the negatives' sum at its floor holds back", held_back, 0.0)
    yield "floor", [floor, Part("its own gradient", want)]


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
    with np.errstate(all="ignore"):
        every = [partitions(question, k, r, want) for r, _, want in of_one]
    for kind in every[0]:
        if all(kind in p for p in every):
            there = [(r, got, p[kind]) for (r, got, _), p in zip(of_one, every, strict=True) if p[kind]]
            found = _fitted(there, named) if 2 * len(there) > len(every) else []
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
