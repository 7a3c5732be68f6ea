"""The losses that grew from the softmax loss again, in plain Python, as `oracle_loops` has the others.

In:  nested lists, and the settings of the function of the same name in refcl.  Out: numbers, and nested lists.
"""

import math
from typing import Any

from oracle_loops import (
    Mask,
    Matrix,
    Row,
    alignment,
    chosen,
    hard_roles,
    l2_normalize,
    penalty_entropy,
    reduce,
    roles,
    similarities,
    uniformity,
)


def contest(s: Matrix, temperature: float, *, positives: Mask, negatives: Mask) -> Row:
    return [
        math.log(sum(math.exp(x / temperature) for x in chosen(s_i, others)))
        - math.log(sum(math.exp(x / temperature) for x in chosen(s_i, friends)))
        for s_i, friends, others in zip(s, positives, negatives, strict=True)
    ]


def spread(s: Matrix, temperature: float, *, positives: Mask) -> Row:
    out = []
    for s_i, mask in zip(s, positives, strict=True):
        friends = chosen(s_i, mask)
        mean = sum(friends) / max(len(friends), 1)
        out.append(math.log(sum(math.exp((x - mean) / temperature) for x in friends)) if friends else 0.0)
    return out


def supervised_contrastive(
    s: Matrix,
    temperature: float,
    *,
    positives: Mask,
    ignore: Mask | None = None,
    form: str = "out",
    no_positive: str = "zero",
    base_temperature: float | None = None,
    reduction: str = "mean",
) -> Any:
    """Go over every positive of every anchor: its log-probability among all that is not ignored."""
    scale = 1.0 if base_temperature is None else temperature / base_temperature
    loss = []
    for i, s_i in enumerate(s):
        friends = [k for k in range(len(s_i)) if positives[i][k]]
        everyone = [k for k in range(len(s_i)) if positives[i][k] or not (ignore is not None and ignore[i][k])]
        if not friends:
            if no_positive == "zero" or reduction != "mean":
                loss.append(0.0)
            continue
        total = sum(math.exp(s_i[a] / temperature) for a in everyone)
        probabilities = [math.exp(s_i[p] / temperature) / total for p in friends]
        if form == "out":
            loss.append(-scale * sum(math.log(x) for x in probabilities) / len(friends))
        else:
            loss.append(-scale * math.log(sum(probabilities) / len(friends)))
    return reduce(loss, reduction=reduction) if loss else 0.0


def sup_con(
    z: Matrix,
    temperature: float,
    *,
    labels: list[int],
    ignore: Mask | None = None,
    normalize: bool = True,
    eps: float = 1e-12,
    **settings: Any,
) -> Any:
    n = len(z)
    return supervised_contrastive(
        similarities(z, z, normalize, eps),
        temperature,
        positives=[[i != k and labels[i] == labels[k] for k in range(n)] for i in range(n)],
        ignore=[[i == k or (ignore is not None and ignore[i][k]) for k in range(n)] for i in range(n)],
        **settings,
    )


def decoupled_contrastive(s: Matrix, temperature: float, **settings: Any) -> Any:
    return weighted_decoupled_contrastive(s, temperature, sigma=None, **settings)


def weighted_decoupled_contrastive(
    s: Matrix,
    temperature: float,
    *,
    sigma: float | None = 0.5,
    mass: float | None = None,
    positive: Any = None,
    ignore: Any = None,
    apart: Mask | None = None,
    reduction: str = "mean",
) -> Any:
    """Weigh each positive by 2 − m softmax(s⁺/σ), by 1 where there is no σ; sum each pool, take logarithms, add."""
    who = roles(s, positive, ignore)
    near = [s_i[p] for s_i, (p, _) in zip(s, who, strict=True)]
    loss = []
    for i, (s_i, (p, others)) in enumerate(zip(s, who, strict=True)):
        pools = [[k for k in others if not (apart is not None and apart[i][k])]]
        if apart is not None:
            pools.append([k for k in others if apart[i][k]])
        if not all(pools):
            loss.append(0.0)
            continue
        weight = 1.0
        if sigma is not None:
            share = math.exp(near[i] / sigma) / sum(math.exp(x / sigma) for x in near)
            weight = 2 - (len(s) if mass is None else mass) * share
        pooled = sum(math.log(sum(math.exp(s_i[k] / temperature) for k in pool)) for pool in pools)
        loss.append(-weight * s_i[p] / temperature + pooled)
    return reduce(loss, reduction=reduction)


def stacked(a: Matrix, b: Matrix, normalize: bool, eps: float, ignore: Mask | None) -> tuple[Matrix, dict[str, Any]]:
    """Return the similarities of all rows of both views, and who is whose positive."""
    n = len(a)
    left_out = [[i == k or (ignore is not None and ignore[i][k]) for k in range(2 * n)] for i in range(2 * n)]
    positive = [(i + n) % (2 * n) for i in range(2 * n)]
    return similarities([*a, *b], [*a, *b], normalize, eps), {"positive": positive, "ignore": left_out}


def dcl(a: Matrix, b: Matrix, temperature: float, **settings: Any) -> Any:
    return dclw(a, b, temperature, sigma=None, **settings)


def dclw(
    a: Matrix,
    b: Matrix,
    temperature: float,
    *,
    sigma: float | None = 0.5,
    normalizer: str = "mean",
    negatives: str = "together",
    add_views: bool = False,
    ignore: Mask | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> Any:
    n = len(a)
    s, who = stacked(a, b, normalize, eps, ignore)
    own = [[(i < n) == (k < n) for k in range(2 * n)] for i in range(2 * n)]
    loss = weighted_decoupled_contrastive(
        s,
        temperature,
        sigma=sigma,
        mass=2 * n if normalizer == "mean" else 2,
        apart=own if negatives == "by_view" else None,
        reduction=reduction,
        **who,
    )
    return 2 * loss if add_views and reduction == "mean" else loss


def reweighted_soft_maximum(s_pos: Row, s_neg: Matrix, temperature: float, *, negatives: Mask, beta: float) -> Row:
    out = []
    for p, s_i, mask in zip(s_pos, s_neg, negatives, strict=True):
        others = chosen(s_i, mask)
        weights = [math.exp(beta * x / temperature) for x in others]
        mean = sum(weights) / len(weights)
        out.append(math.log(sum(w / mean * math.exp((x - p) / temperature) for w, x in zip(weights, others))))  # noqa: B905
    return out


def debias(gap: Row, s_pos: Row, temperature: float, *, count: Row, tau_plus: float) -> Row:
    out = []
    for g, s, k in zip(gap, s_pos, count, strict=True):
        estimate = (math.exp(g) - tau_plus * k) / (1 - tau_plus)
        floor = k * math.exp(-(1 + s) / temperature)
        out.append(math.log(max(estimate, floor) if tau_plus else estimate))
    return out


def unevenness(s_pos: Row, *, sigma: float = 0.5, mass: float | None = None) -> Row:
    total = sum(math.exp(x / sigma) for x in s_pos)
    return [(len(s_pos) if mass is None else mass) * math.exp(x / sigma) / total - 1 for x in s_pos]


def reweighted_contrastive(
    s: Matrix,
    temperature: float,
    *,
    tau_plus: float,
    beta: float = 0.0,
    positive: Any = None,
    ignore: Any = None,
    reduction: str = "mean",
) -> Any:
    """Follow the authors' code: exponentials, importance weights, a difference, a clamp."""
    loss = []
    for s_i, (p, others) in zip(s, roles(s, positive, ignore), strict=True):
        if not others:
            loss.append(0.0)
            continue
        count = len(others)
        pos = math.exp(s_i[p] / temperature)
        neg = [math.exp(s_i[k] / temperature) for k in others]
        importance = [x**beta for x in neg]
        reweighted = sum(w * x for w, x in zip(importance, neg, strict=True)) / (sum(importance) / count)
        estimate = (reweighted - tau_plus * count * pos) / (1 - tau_plus)
        if tau_plus:
            estimate = max(estimate, count * math.exp(-1 / temperature))
        loss.append(-math.log(pos / (pos + estimate)))
    return reduce(loss, reduction=reduction)


def debiased(
    a: Matrix,
    b: Matrix,
    temperature: float,
    *,
    ignore: Mask | None = None,
    normalize: bool = True,
    eps: float = 1e-12,
    **settings: Any,
) -> Any:
    s, who = stacked(a, b, normalize, eps, ignore)
    return reweighted_contrastive(s, temperature, **who, **settings)


hcl = debiased


def align_uniform(
    a: Matrix,
    b: Matrix,
    *,
    align_weight: float = 1.0,
    uniform_weight: float = 1.0,
    alpha: float = 2.0,
    t: float = 2.0,
    normalize: bool = True,
    eps: float = 1e-12,
) -> float:
    if normalize:
        a, b = l2_normalize(a, eps=eps), l2_normalize(b, eps=eps)
    return align_weight * alignment(a, b, alpha=alpha) + uniform_weight * (uniformity(a, t=t) + uniformity(b, t=t)) / 2


def weighted_softplus(gap: Row, *, detach: bool) -> Row:
    return [math.log1p(math.exp(g)) * (1 + math.exp(-g)) for g in gap]


def model_aware_contrastive(
    s: Matrix,
    temperature: float,
    *,
    alpha: float = 0.5,
    alignment: float = 0.0,
    law: str = "linear",
    detach: bool = True,
    positive: Any = None,
    ignore: Any = None,
    reduction: str = "mean",
) -> Any:
    who = roles(s, positive, ignore)
    mean = sum(s_i[p] for s_i, (p, _) in zip(s, who, strict=True)) / len(s)
    temperature = temperature * (alpha ** (mean - alignment) if law == "power" else 1 + alpha * (mean - alignment))
    loss = []
    for s_i, (p, others) in zip(s, who, strict=True):
        own = math.exp(s_i[p] / temperature)
        rest = sum(math.exp(s_i[k] / temperature) for k in others)
        loss.append(-math.log(own / (own + rest)) / (rest / (own + rest)) if others else 0.0)
    return reduce(loss, reduction=reduction)


def macl(
    a: Matrix,
    b: Matrix,
    temperature: float,
    *,
    candidates: str = "both_views",
    ignore: Mask | None = None,
    normalize: bool = True,
    eps: float = 1e-12,
    **settings: Any,
) -> Any:
    if candidates == "other_view":
        return model_aware_contrastive(similarities(a, b, normalize, eps), temperature, ignore=ignore, **settings)
    s, who = stacked(a, b, normalize, eps, ignore)
    return model_aware_contrastive(s, temperature, **who, **settings)


def per_anchor_contrastive(
    s: Matrix, temperature: Row, *, positive: Any = None, ignore: Any = None, reduction: str = "mean"
) -> Any:
    loss = []
    for s_i, tau, (p, others) in zip(s, temperature, roles(s, positive, ignore), strict=True):
        own = math.exp(s_i[p] / tau)
        loss.append(-math.log(own / (own + sum(math.exp(s_i[k] / tau) for k in others))))
    return reduce(loss, reduction=reduction)


def fixed_entropy_contrastive(
    s: Matrix, *, entropy: float, detach: bool = True, reduction: str = "mean", **who: Any
) -> Any:
    """Halve an interval that holds an anchor's temperature until it is a point, then take the loss there."""
    temperatures = []
    for i in range(len(s)):
        low, high = 1e-2, 1e2
        for _ in range(200):
            middle = math.sqrt(low * high)
            below = penalty_entropy(s, middle, **who)[i] < entropy
            low, high = (middle, high) if below else (low, middle)
        temperatures.append(low)
    return per_anchor_contrastive(s, temperatures, reduction=reduction, **who)


def fixed_entropy(query: Matrix, key: Matrix, *, normalize: bool = True, eps: float = 1e-12, **settings: Any) -> Any:
    return fixed_entropy_contrastive(similarities(query, key, normalize, eps), **settings)


def hessian_vector_product(
    s: Matrix,
    v: Matrix,
    temperature: float,
    *,
    penalty: str = "softplus",
    hardest: Any = None,
    positive: Any = None,
    ignore: Any = None,
    reduction: str = "mean",
) -> Matrix:
    """Return (P∘v − P⟨P, v⟩)/τ², P over the negatives and, for the softplus, the positive."""
    who = roles(s, positive, ignore) if hardest is None else hard_roles(s, positive, ignore, hardest)
    out = []
    for s_i, v_i, (p, others) in zip(s, v, who, strict=True):
        counted = [p, *others] if penalty == "softplus" else others
        powers = {k: math.exp(s_i[k] / temperature) for k in counted}
        share = {k: power / sum(powers.values()) for k, power in powers.items()}
        mean = sum(share[k] * v_i[k] for k in counted)
        # The identity has P⁺ in no denominator, so that v enters by its difference from 0 alone.
        row = [share[k] * (v_i[k] - mean) / temperature**2 if k in share else 0.0 for k in range(len(s_i))]
        out.append([x / len(s) for x in row] if reduction == "mean" else row)
    return out
