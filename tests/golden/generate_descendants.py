"""Write the golden data of the losses that grew from the softmax loss, as generate.py does for the others.

    python tests/golden/generate_descendants.py

Values come from the formulas, gradients from differences of the values at 110 digits: no derivative is written down.
Inputs are float64 numbers, written so that they come back the same; results are strings of 40 digits.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mpmath import mp, mpf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from oracle_mpmath import Matrix, Row, Who, cosines, differentiate, everyone, exact

HERE = Path(__file__).resolve().parent
DIGITS = 40
Value = Callable[..., mpf]  # of the inputs, in order: matrices, a row, or a number


def lse(s_i: Row, who: list[int], tau: mpf) -> mpf:
    top = max(s_i[k] for k in who)
    return top / tau + mp.log(mp.fsum(mp.exp((s_i[k] - top) / tau) for k in who))


def mean(values: list[mpf]) -> mpf:
    return mp.fsum(values) / len(values)


def supervised_value(s: Matrix, tau: mpf, friends: list[list[int]], who: Who, form: str, base: mpf | None) -> mpf:
    """Return the mean over all anchors; one without positives adds 0."""
    losses = []
    for s_i, near, (_, everyone_else) in zip(s, friends, who, strict=True):
        if not near:
            losses.append(mpf(0))
            continue
        others = [k for k in everyone_else if k not in near]
        loss = mp.log1p(mp.exp(lse(s_i, others, tau) - lse(s_i, near, tau))) if others else mpf(0)
        if form == "in":
            loss += mp.log(len(near))
        else:
            loss += lse(s_i, near, tau) - mean([s_i[p] for p in near]) / tau
        losses.append(loss)
    return mean(losses) * (1 if base is None else tau / base)


def decoupled_value(
    s: Matrix, tau: mpf, who: Who, sigma: mpf | None, own: Callable[[int, int], bool] | None = None
) -> mpf:
    near = [s_i[p] for s_i, (p, _) in zip(s, who, strict=True)]
    losses = []
    for i, (s_i, (p, others)) in enumerate(zip(s, who, strict=True)):
        weight = mpf(1)
        if sigma is not None:
            weight = 2 - len(s) * mp.exp(near[i] / sigma) / mp.fsum(mp.exp(x / sigma) for x in near)
        pools = [others] if own is None else [[k for k in others if own(i, k) is side] for side in (True, False)]
        losses.append(-weight * s_i[p] / tau + mp.fsum(lse(s_i, pool, tau) for pool in pools))
    return mean(losses)


def reweighted_value(s: Matrix, tau: mpf, who: Who, tau_plus: mpf, beta: mpf) -> mpf:
    losses = []
    for s_i, (p, others) in zip(s, who, strict=True):
        weights = [mp.exp(beta * s_i[k] / tau) for k in others]
        amount = mp.fsum(w * mp.exp((s_i[k] - s_i[p]) / tau) for w, k in zip(weights, others, strict=True))
        estimate = (amount / mean(weights) - tau_plus * len(others)) / (1 - tau_plus)
        losses.append(mp.log1p(max(estimate, len(others) * mp.exp(-(1 + s_i[p]) / tau))))
    return mean(losses)


def model_aware_value(s: Matrix, tau_0: mpf, who: Who, alpha: mpf) -> mpf:
    tau = tau_0 * (1 + alpha * mean([s_i[p] for s_i, (p, _) in zip(s, who, strict=True)]))
    amounts = [mp.exp(lse(s_i, others, tau) - s_i[p] / tau) for s_i, (p, others) in zip(s, who, strict=True)]
    return mean([mp.log1p(x) * (1 + x) / x for x in amounts])


def per_anchor_value(s: Matrix, taus: Row, who: Who) -> mpf:
    return mean(
        [
            mp.log1p(mp.exp(lse(s_i, others, tau) - s_i[p] / tau))
            for s_i, tau, (p, others) in zip(s, taus, who, strict=True)
        ]
    )


def fixed_entropy_value(s: Matrix, who: Who, entropy: mpf) -> mpf:
    """Return the loss at temperatures found by halving, and then by Newton's steps, to all digits."""

    def excess(s_i: Row, others: list[int], tau: mpf) -> mpf:
        total = lse(s_i, others, tau)
        return total - mp.fsum(mp.exp(s_i[k] / tau - total) * s_i[k] for k in others) / tau - entropy

    taus = []
    for s_i, (_, others) in zip(s, who, strict=True):
        low, high = mpf("1e-2"), mpf(100)
        for _ in range(60):
            middle = mp.sqrt(low * high)
            low, high = (middle, high) if excess(s_i, others, middle) < 0 else (low, middle)
        taus.append(mp.findroot(lambda t, row=s_i, rest=others: excess(row, rest, t), (low, high)))
    return per_anchor_value(s, taus, who)


def align_uniform_value(a: Matrix, b: Matrix, t: mpf) -> mpf:
    def distance(u: Row, v: Row) -> mpf:
        return 2 - 2 * cosines([u], [v])[0][0]

    def uniformity(z: Matrix) -> mpf:
        pairs = [(i, j) for i in range(len(z)) for j in range(i)]
        return mp.log(mean([mp.exp(-t * distance(z[i], z[j])) for i, j in pairs]))

    return mean([distance(u, v) for u, v in zip(a, b, strict=True)]) + (uniformity(a) + uniformity(b)) / 2


def case(loss: str, inputs: list[Any], value: Value, **settings: Any) -> dict[str, Any]:
    """Return a case: inputs, the loss's value and the gradient by every entry."""
    arrays = [np.asarray(x) for x in inputs]
    given = [exact(x.tolist()) for x in arrays]

    def unravelled(entries: Row) -> list[Any]:
        rest = iter(entries)

        def filled(shape: tuple[int, ...]) -> Any:
            return [filled(shape[1:]) for _ in range(shape[0])] if shape else next(rest)

        return [filled(x.shape) for x in arrays]

    at = [mpf(float(v)) for x in arrays for v in x.ravel()]
    numbers = [x for x in given if isinstance(x, mpf)]
    gradient = differentiate(lambda entries: value(*unravelled(entries)), at, min([mpf(1), *numbers]))
    with mp.workdps(110):
        result = value(*given)

    def written(x: Any, digits: int | None) -> Any:
        if isinstance(x, list):
            return [written(y, digits) for y in x]
        return repr(float(x)) if digits is None else mp.nstr(x, digits)

    return {
        "loss": loss,
        "inputs": [written(x, None) for x in given],
        "settings": settings,
        "value": mp.nstr(result, DIGITS),
        "gradients": [written(x, DIGITS) for x in unravelled(gradient)],
    }


def similarities(kind: str) -> Any:
    """Return similarities (3, 5) with the positives on the diagonal."""
    rng = np.random.default_rng(5)
    s = rng.uniform(-0.9, 0.9, (3, 5))
    if kind == "dominated":
        s = rng.uniform(-0.9, -0.3, (3, 5))
        s[np.arange(3), np.arange(3)] = [0.99, 0.9, 0.95]
    return s


def embeddings(kind: str, n: int, d: int = 2) -> tuple[Any, Any]:
    """Return two views (N, D) of unequal length."""
    rng = np.random.default_rng([7, n])
    a, b = (rng.standard_normal((n, d)) * rng.uniform(0.5, 3.0, (n, 1)) for _ in range(2))
    return (a, 0.5 * a + 0.01) if kind == "dominated" else (a, b)


def on_similarities(kind: str, tau: float) -> list[dict[str, Any]]:
    s, who = similarities(kind), everyone(3, 5)
    friends = [[0, 1], [1], []]
    positives = [[k in near for k in range(5)] for near in friends]
    everyone_else = [(0, list(range(5)))] * 3
    made = []
    for form in ("out", "in"):
        made.append(
            case(
                "supervised_contrastive",
                [s, tau],
                lambda x, t, f=form: supervised_value(x, t, friends, everyone_else, f, mpf(0.07)),
                positives=positives,
                form=form,
                base_temperature=0.07,
            )
        )
    made.append(case("decoupled_contrastive", [s, tau], lambda x, t: decoupled_value(x, t, who, None)))
    made.append(
        case("weighted_decoupled_contrastive", [s, tau], lambda x, t: decoupled_value(x, t, who, mpf(0.4)), sigma=0.4)
    )
    made.append(
        case(
            "reweighted_contrastive",
            [s, tau],
            lambda x, t: reweighted_value(x, t, who, mpf(0.1), mpf(0.7)),
            tau_plus=0.1,
            beta=0.7,
        )
    )
    made.append(
        case(
            "model_aware_contrastive",
            [s, tau],
            lambda x, t: model_aware_value(x, t, who, mpf(0.5)),
            detach=False,
        )
    )
    taus = tau * np.array([1.0, 1.5, 0.8])
    made.append(case("per_anchor_contrastive", [s, taus], lambda x, t: per_anchor_value(x, t, who)))
    return made


def of_one_entropy(kind: str) -> list[dict[str, Any]]:
    s, who = similarities(kind), everyone(3, 5)
    query, key = embeddings("plain", 5)[0][:2], embeddings("plain", 5)[1]
    return [
        case(
            "fixed_entropy_contrastive",
            [s],
            lambda x: fixed_entropy_value(x, who, mpf(1)),
            entropy=1.0,
            detach=False,
        ),
        case(
            "fixed_entropy",
            [query, key],
            lambda q, k: fixed_entropy_value(cosines(q, k), everyone(2, 5), mpf(1)),
            entropy=1.0,
            detach=False,
        ),
    ]


def on_embeddings(kind: str, tau: float) -> list[dict[str, Any]]:
    n = 3
    a, b = embeddings(kind, n)
    itself = [[i == k for k in range(2 * n)] for i in range(2 * n)]
    who = everyone(2 * n, 2 * n, [(i + n) % (2 * n) for i in range(2 * n)], itself)

    def stacked(value: Callable[[Matrix, mpf], mpf]) -> Value:
        return lambda x, y, t: value(cosines(x + y, x + y), t)

    labels = [0, 1, 0, 1, 1, 2]
    friends = [[k for k in range(6) if k != i and labels[k] == labels[i]] for i in range(6)]
    rest = [(0, [k for k in range(6) if k != i]) for i in range(6)]
    z = np.concatenate([a, b])
    return [
        case(
            "sup_con",
            [z, tau],
            lambda x, t: supervised_value(cosines(x, x), t, friends, rest, "out", None),
            labels=labels,
        ),
        case("dcl", [a, b, tau], stacked(lambda s, t: decoupled_value(s, t, who, None))),
        case(
            "dcl",
            [a, b, tau],
            stacked(lambda s, t: 2 * decoupled_value(s, t, who, None, lambda i, k: (i < n) == (k < n))),
            negatives="by_view",
            add_views=True,
        ),
        case("dclw", [a, b, tau], stacked(lambda s, t: decoupled_value(s, t, who, mpf(0.4))), sigma=0.4),
        case(
            "debiased",
            [a, b, tau],
            stacked(lambda s, t: reweighted_value(s, t, who, mpf(0.1), mpf(0))),
            tau_plus=0.1,
        ),
        case(
            "hcl",
            [a, b, tau],
            stacked(lambda s, t: reweighted_value(s, t, who, mpf(0.1), mpf(0.7))),
            tau_plus=0.1,
            beta=0.7,
        ),
        case(
            "macl",
            [a, b, tau],
            stacked(lambda s, t: model_aware_value(s, t, who, mpf(0.5))),
            detach=False,
        ),
    ]


def cases() -> list[dict[str, Any]]:
    """Return every case; the first ones are quick, for the test that makes them again."""
    made = on_similarities("plain", 0.3)
    for kind, tau in (("plain", 0.01), ("plain", 100.0), ("dominated", 0.01), ("dominated", 0.3)):
        made += on_similarities(kind, tau)
    for kind in ("plain", "dominated"):
        made += of_one_entropy(kind)
        for tau in (0.05, 0.5, 20.0):
            made += on_embeddings(kind, tau)
        a, b = embeddings(kind, 3)
        made.append(case("align_uniform", [a, b], lambda x, y: align_uniform_value(x, y, mpf(2))))
    return made


def main() -> None:
    """Write the file whole or not at all."""
    path = HERE / "descendants.json"
    temporary = path.with_suffix(".partial")
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in cases())
    temporary.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
