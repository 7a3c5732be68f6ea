"""Write the golden data of the systems: instance discrimination, NCE, MoCo, CMC, CPC, SigLIP and the margins.

    python tests/golden/generate_systems.py

As in ``generate.py``: values at 50 digits from the formulas, gradients from their differences at 110, inputs that are
float64 numbers. Where a case is marked ``exact`` its similarities are its inputs, or sums of them with 0 and 1, so that
nothing is rounded before the loss begins.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from generate import DIGITS, HERE, embeddings, similarities
from mpmath import mp, mpf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from oracle_mpmath import (
    Matrix,
    Row,
    cosines,
    differentiate,
    everyone,
    exact,
    separate_value,
    softmax_value,
    triplet_value,
)

Value = Callable[..., mpf]  # of the inputs: numbers, matrices and lists of matrices
Result = dict[str, Any]


def numbers_in(tree: Any) -> Row:
    """Return the numbers of nested lists in one row."""
    return [number for branch in tree for number in numbers_in(branch)] if isinstance(tree, list) else [tree]


def filled(tree: Any, numbers: Any) -> Any:
    """Return nested lists of the form of a tree, of numbers taken in turn."""
    return [filled(branch, numbers) for branch in tree] if isinstance(tree, list) else next(numbers)


def written(tree: Any, how: Callable[[Any], str]) -> Any:
    return [written(branch, how) for branch in tree] if isinstance(tree, list) else how(tree)


def case(loss: str, inputs: list[Any], value: Value, *, is_exact: bool = False, **settings: Any) -> Result:
    """Return a case: inputs, settings, the loss's value and its gradient by every number of the inputs."""
    host = [x.tolist() if isinstance(x, np.ndarray) else x for x in inputs]
    at = numbers_in(exact(host))
    scale = min([mpf(1), *(abs(mpf(x)) for x in host if isinstance(x, float))])
    gradient = differentiate(lambda entries: value(*filled(host, iter(entries))), at, scale)
    with mp.workdps(110):
        result = value(*exact(host))
    return {
        "loss": loss,
        "exact": is_exact,
        "inputs": written(host, lambda x: repr(float(x))),
        "settings": {name: x.tolist() if isinstance(x, np.ndarray) else x for name, x in settings.items()},
        "value": mp.nstr(result, DIGITS),
        "gradients": written(filled(host, iter(gradient)), lambda x: mp.nstr(x, DIGITS)),
    }


def own(n: int, m: int) -> list[tuple[int, list[int]]]:
    """Return who is whose where the positive comes first."""
    return [(0, list(range(1, m)))] * n


def at_columns(s: Any, index: Any) -> Any:
    """Return similarities with each row's diagonal entry moved to the column ``index``; the others keep their order."""
    made = np.zeros_like(s)
    for i, column in enumerate(index):
        made[i] = np.insert(np.delete(s[i], i), column, s[i, i])
    return made


def beside(first: Row, rest: Matrix) -> Matrix:
    return [[s, *row] for s, row in zip(first, rest, strict=True)]


def with_bank(kind: str, *, is_exact: bool) -> tuple[Any, Any, Any]:
    """Return queries, a bank, and whose row is whose; as similarities where exact."""
    index = np.array([2, 0, 1])
    if is_exact:
        return at_columns(similarities(kind), index), np.eye(4), index
    query, bank = embeddings(kind, 3), embeddings("plain", 4)
    if kind == "dominated":
        bank[index] = 0.5 * query
    return query, bank, index


def inst_disc(kind: str, temperature: float, *, is_exact: bool) -> Result:
    query, bank, index = with_bank(kind, is_exact=is_exact)
    fixed, who = exact(bank.tolist()), everyone(3, 4, index.tolist())

    def value(query: Matrix, tau: mpf) -> mpf:
        return softmax_value(query if is_exact else cosines(query, fixed), tau, who)

    return case(
        "inst_disc", [query, temperature], value, is_exact=is_exact, bank=bank, index=index, normalize=not is_exact
    )


def nce(kind: str, temperature: float, stabilizer: float, *, is_exact: bool) -> Result:
    query, bank, index = with_bank(kind, is_exact=is_exact)
    noise = np.array([[0, 1, 1, 3, 0], [3, 1, 2, 2, 3], [0, 3, 2, 0, 0]])  # no own row: terms of one sign
    log_z = 0.5 / temperature
    fixed, rate = exact(bank.tolist()), mpf(noise.shape[1]) / 4

    def value(query: Matrix, tau: mpf) -> mpf:
        s = query if is_exact else cosines(query, fixed)
        s_pos = [row[i] for row, i in zip(s, index, strict=True)]
        s_neg = [[row[k] for k in drawn] for row, drawn in zip(s, noise, strict=True)]
        loss = separate_value(s_pos, s_neg, 1 / tau, -mpf(log_z) - mp.log(rate + mpf(stabilizer)))
        return loss + noise.shape[1] * mp.log1p(mpf(stabilizer) / rate)

    settings = {"bank": bank, "index": index, "noise": noise, "log_normalizer": log_z, "stabilizer": stabilizer}
    return case("nce", [query, temperature], value, is_exact=is_exact, **settings, normalize=not is_exact)


def moco(kind: str, temperature: float, *, is_exact: bool) -> Result:
    if is_exact:  # column 0 is the key's, the others the queue's
        query, key, queue = at_columns(similarities(kind), [0, 0, 0]), np.tile(np.eye(4)[:1], (3, 1)), np.eye(4)[1:]
    else:
        query, key, queue = embeddings(kind, 3), embeddings("plain", 3) + 0.1, embeddings("plain", 4)
        if kind == "dominated":
            key = 0.5 * query
    fixed = exact(queue.tolist())

    def value(query: Matrix, key: Matrix, tau: mpf) -> mpf:
        if is_exact:
            s_pos = [mp.fdot(q, k) for q, k in zip(query, key, strict=True)]
            s_neg = [[mp.fdot(q, k) for k in fixed] for q in query]
        else:
            s_pos, s_neg = [row[i] for i, row in enumerate(cosines(query, key))], cosines(query, fixed)
        return softmax_value(beside(s_pos, s_neg), tau, own(3, len(fixed) + 1))

    return case("moco", [query, key, temperature], value, is_exact=is_exact, queue=queue, normalize=not is_exact)


def cmc(kind: str, temperature: float, core: bool | int) -> Result:
    views = [embeddings(kind, 3), embeddings("plain", 3) + 0.1, embeddings("antipodal", 3) - 0.2]
    if kind == "dominated":
        views = [views[0], 0.5 * views[0], 2.0 * views[0]]
    pairs = {False: [(0, 1), (0, 2), (1, 2)], True: [(0, 1), (0, 2)], 2: [(2, 0), (2, 1)]}[core]

    def value(z: list[Matrix], tau: mpf) -> mpf:
        return mp.fsum(
            softmax_value(cosines(z[i], z[j]), tau, everyone(3, 3)) for pair in pairs for i, j in (pair, pair[::-1])
        )

    return case("cmc", [[view.tolist() for view in views], temperature], value, core=core)


def cpc(kind: str, steps: int | None) -> Result:
    """Scores are inner products of D terms, unless the form and the futures are the identity."""
    is_exact = steps is None
    context = similarities(kind) if is_exact else embeddings(kind, 3)
    rng = np.random.default_rng(9)
    future = np.eye(4) if is_exact else rng.standard_normal((steps, 4, 3))
    weight = np.eye(4) if is_exact else rng.standard_normal((steps, 2, 3))

    def score(context: Matrix, z: Matrix, w: Matrix) -> Matrix:
        expected = [[mp.fdot(c, column) for column in zip(*w, strict=True)] for c in context]
        return [[mp.fdot(e, z_k) for z_k in z] for e in expected]

    def value(context: Matrix, future: Any, weight: Any) -> mpf:
        ahead = [(future, weight)] if is_exact else list(zip(future, weight, strict=True))
        losses = [softmax_value(score(context, *step), mpf(1), everyone(3, 4)) for step in ahead]
        return mp.fsum(losses) / len(losses)

    return case("cpc", [context, future, weight], value, is_exact=is_exact)


def sig_lip(kind: str, log_scale: float, bias: float, *, is_exact: bool) -> Result:
    image, text = (similarities(kind), np.eye(4)) if is_exact else (embeddings(kind, 3), embeddings("plain", 4))
    if kind == "dominated" and not is_exact:
        text[:3] = 0.5 * image

    def value(image: Matrix, text: Matrix, log_scale: mpf, bias: mpf) -> mpf:
        s = [[mp.fdot(x, y) for y in text] for x in image] if is_exact else cosines(image, text)
        s_pos, s_neg = [row[i] for i, row in enumerate(s)], [[*row[:i], *row[i + 1 :]] for i, row in enumerate(s)]
        return separate_value(s_pos, s_neg, mp.exp(log_scale), bias)

    return case("sig_lip", [image, text, log_scale, bias], value, is_exact=is_exact, normalize=not is_exact)


def semi_hard_triplet(kind: str, otherwise: str) -> Result:
    s, margin = similarities(kind), 0.75
    who = []
    for i, row in enumerate(s):
        others = [k for k in range(4) if k != i]
        further = [k for k in others if row[k] < row[i]]
        instead = {"skip": [], "easiest": [min(others, key=lambda k: row[k])], "hardest": others}[otherwise]
        who.append((i, further or instead))

    def value(s: Matrix) -> mpf:
        counted = [(row, roles) for row, roles in zip(s, who, strict=True) if roles[1]]
        if not counted:
            return mpf(0) * s[0][0]
        rows_that_count, roles = zip(*counted, strict=True)
        return triplet_value(list(rows_that_count), mpf(margin), list(roles)) * len(counted) / len(s)

    return case("semi_hard_triplet", [s], value, is_exact=True, margin=margin, otherwise=otherwise)


def pair_contrastive(margin: float) -> Result:
    a, b, same = embeddings("plain", 4), embeddings("plain", 4)[::-1] + 0.1, np.array([True, False, False, True])

    def value(a: Matrix, b: Matrix) -> mpf:
        losses = []
        for x, y, alike in zip(a, b, same, strict=True):
            d = mp.sqrt(mp.fsum((p - q) ** 2 for p, q in zip(x, y, strict=True)))
            losses.append((d if alike else max(mpf(margin) - d, mpf(0))) ** 2 / 2)
        return mp.fsum(losses) / len(losses)

    return case("pair_contrastive", [a, b], value, same=same, margin=margin)


TEMPERATURES = {"plain": (0.07, 30.0), "dominated": (0.01,), "hard": (0.002, 0.5), "collapsed": (1e-3,)}


def cases() -> list[Result]:
    """Return every case; the first is quick, for the test that makes one again."""
    made = [pair_contrastive(4.0)]
    for kind, temperatures in TEMPERATURES.items():
        for temperature in temperatures:
            made.append(inst_disc(kind, temperature, is_exact=True))
            made.append(moco(kind, temperature, is_exact=True))
            made.append(nce(kind, temperature, 1e-7 if kind == "plain" else 0.0, is_exact=True))
            made.append(sig_lip(kind, -float(np.log(temperature)), -0.5 / temperature, is_exact=True))
        made.append(cpc(kind, None))
    for kind in ("plain", "dominated", "antipodal"):
        made.append(inst_disc(kind, 0.1, is_exact=False))
        made.append(moco(kind, 0.1, is_exact=False))
        made.append(nce(kind, 0.1, 0.0, is_exact=False))
        made.append(sig_lip(kind, 2.3, -10.0, is_exact=False))
        made.append(cpc(kind, 2))
    made += [cmc("plain", 0.07, False), cmc("dominated", 0.07, True), cmc("plain", 5.0, 2)]
    made += [semi_hard_triplet("hard", otherwise) for otherwise in ("easiest", "hardest")]
    made += [semi_hard_triplet(kind, "skip") for kind in ("plain", "dominated")]
    return made


def main() -> None:
    """Write the file whole or not at all."""
    path = HERE / "systems.json"
    temporary = path.with_suffix(".partial")
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in cases())
    temporary.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
