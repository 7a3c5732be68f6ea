"""What several losses share in plain Python: lists, loops and ``math``, and no code of refcl.

In:  nested lists, and the settings of refcl.  Out: numbers, and nested lists.
Written to be evidently right, not to be exact: at extreme temperatures the golden data judge. What belongs to one loss
or to one room stands on its card.
"""

import math
from collections.abc import Callable
from typing import Any

Row = list[float]
Matrix = list[Row]
Mask = list[list[bool]]


def l2_normalize(h: Matrix, *, eps: float = 1e-12) -> Matrix:
    return [[value / max(math.sqrt(sum(v * v for v in h_n)), eps) for value in h_n] for h_n in h]


def inner_product(z: Matrix, other: Matrix) -> Matrix:
    return [[sum(a * b for a, b in zip(z_i, z_k, strict=True)) for z_k in other] for z_i in z]


def similarities(query: Matrix, key: Matrix, normalize: bool = True, eps: float = 1e-12) -> Matrix:
    if normalize:
        query, key = l2_normalize(query, eps=eps), l2_normalize(key, eps=eps)
    return inner_product(query, key)


def chosen(values: Row, mask: list[bool]) -> Row:
    return [value for value, counts in zip(values, mask, strict=True) if counts]


def hardest_negatives(s_neg: Matrix, negatives: Mask, *, hardest: float | int) -> Mask:
    kept = []
    for s_i, mask in zip(s_neg, negatives, strict=True):
        ranked = sorted(chosen(s_i, mask), reverse=True)
        count = hardest if isinstance(hardest, int) else max(1, round(hardest * len(ranked)))
        threshold = ranked[min(count, len(ranked)) - 1] if ranked else math.inf
        kept.append([counts and s >= threshold for s, counts in zip(s_i, mask, strict=True)])
    return kept


def roles(
    s: Matrix, positive: list[int] | None = None, ignore: Mask | None = None, hardest: float | int | None = None
) -> list[tuple[int, list[int]]]:
    """Return each anchor's positive column and the columns of its negatives, or of the hardest of them."""
    out = []
    for i, s_i in enumerate(s):
        p = positive[i] if positive is not None else i
        mask = [k != p and not (ignore is not None and ignore[i][k]) for k in range(len(s_i))]
        if hardest is not None:
            (mask,) = hardest_negatives([s_i], [mask], hardest=hardest)
        out.append((p, [k for k, counts in enumerate(mask) if counts]))
    return out


def reduce(loss: Any, *, reduction: str = "mean") -> Any:
    entries = [value for row in loss for value in row] if isinstance(loss[0], list) else loss
    if reduction == "none":
        return loss
    return sum(entries) / (len(entries) if reduction == "mean" else 1)


def softmax_contrastive(s: Matrix, temperature: Any, *, reduction: str = "mean", **who: Any) -> Any:
    """Take −log of the positive's probability; a list of temperatures has one for each anchor."""
    temperatures = temperature if isinstance(temperature, list) else [temperature] * len(s)
    loss = []
    for s_i, tau, (p, others) in zip(s, temperatures, roles(s, **who), strict=True):
        numerator = math.exp(s_i[p] / tau)
        loss.append(-math.log(numerator / (numerator + sum(math.exp(s_i[k] / tau) for k in others))))
    return reduce(loss, reduction=reduction)


def softmax_of_targets(
    s: Matrix,
    temperature: float,
    log_weight: Matrix | None = None,
    targets: Matrix | None = None,
    anchor_weight: Row | None = None,
    *,
    ignore: Mask | None = None,
    positive: list[int] | None = None,
    label_smoothing: float = 0.0,
    margin: float = 0.0,
    angular_margin: float = 0.0,
    reduction: str = "mean",
) -> Any:
    """Take −Σ t log p, with weights in the logits, margins on the positive, and what each anchor counts."""
    loss = []
    for i, s_i in enumerate(s):
        p = None if targets is not None else i if positive is None else positive[i]
        counts = [k for k in range(len(s_i)) if k == p or not (ignore is not None and ignore[i][k])]
        total = 0.0
        powers: Row = []
        for k in counts:
            cosine = s_i[k]
            if k == p and angular_margin:
                angle = math.acos(max(-1.0, min(1.0, cosine))) + angular_margin
                cosine = math.cos(angle) if angle <= math.pi else cosine - angular_margin * math.sin(angular_margin)
            cosine -= margin if k == p else 0.0
            powers.append(math.exp(cosine / temperature + (log_weight[i][k] if log_weight is not None else 0.0)))
        for k, power in zip(counts, powers, strict=True):
            target = targets[i][k] if targets is not None else float(k == p)
            target = (1 - label_smoothing) * target + label_smoothing / len(counts)
            total -= target * math.log(power / sum(powers)) if target else 0.0
        loss.append(total * (anchor_weight[i] if anchor_weight is not None else 1.0))
    return reduce(loss, reduction=reduction)


def softmax_of_embeddings(
    query: Matrix,
    key: Matrix,
    temperature: float,
    own_negatives: list[Matrix] | None = None,
    log_weight: Matrix | None = None,
    targets: Matrix | None = None,
    anchor_weight: Row | None = None,
    *,
    ignore: Mask | None = None,
    normalize: bool = True,
    **settings: Any,
) -> Any:
    """Compare with all keys, and with each anchor's own negatives, which have weight 1 and are no targets."""
    s = similarities(query, key, normalize)
    if own_negatives is not None:
        own = [similarities([q], rows, normalize)[0] for q, rows in zip(query, own_negatives, strict=True)]
        none: Any = [0.0] * len(own[0])
        s = [[*a, *b] for a, b in zip(s, own, strict=True)]
        log_weight = log_weight and [[*row, *none] for row in log_weight]
        targets = targets and [[*row, *none] for row in targets]
        ignore = ignore and [[*row, *none] for row in ignore]
    return softmax_of_targets(s, temperature, log_weight, targets, anchor_weight, ignore=ignore, **settings)


def of_embeddings(loss: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loss of similarities as one of two sets of embeddings."""

    def on_embeddings(query: Matrix, key: Matrix, *numbers: Any, normalize: bool = True, **settings: Any) -> Any:
        return loss(similarities(query, key, normalize), *numbers, **settings)

    return on_embeddings


def of_two_views(loss: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loss of similarities as one of all rows of two views, each other's positives."""

    def on_views(
        a: Matrix, b: Matrix, *numbers: Any, ignore: Mask | None = None, normalize: bool = True, **settings: Any
    ) -> Any:
        n, s = len(a), similarities([*a, *b], [*a, *b], normalize)
        left_out = [[i == k or (ignore is not None and ignore[i][k]) for k in range(2 * n)] for i in range(2 * n)]
        return loss(s, *numbers, positive=[(i + n) % (2 * n) for i in range(2 * n)], ignore=left_out, **settings)

    return on_views


def relative_penalty(s: Matrix, temperature: float, **who: Any) -> Matrix:
    out = []
    for s_i, (_, others) in zip(s, roles(s, **who), strict=True):
        top = max((s_i[k] for k in others), default=0.0)  # so that no power overflows
        powers = {k: math.exp((s_i[k] - top) / temperature) for k in others}
        out.append([powers.get(k, 0.0) / sum(powers.values()) for k in range(len(s_i))])
    return out


def penalty_entropy(s: Matrix, temperature: float, **who: Any) -> Row:
    return [-sum(r * math.log(r) for r in row if r > 0) for row in relative_penalty(s, temperature, **who)]


def temperature_for_entropy(s: Matrix, entropy: float, **who: Any) -> Row:
    """Halve an interval that holds the temperature until it is a point: the entropy grows with the temperature."""
    out = []
    for i in range(len(s)):
        low, high = 1e-9, 1e9
        for _ in range(200):
            middle = math.sqrt(low * high)
            below = penalty_entropy(s, middle, **who)[i] < entropy
            low, high = (middle, high) if below else (low, middle)
        out.append(low)
    return out


def alignment(a: Matrix, b: Matrix, *, alpha: float = 2.0) -> float:
    return math.fsum(math.dist(a_i, b_i) ** alpha for a_i, b_i in zip(a, b, strict=True)) / len(a)


def uniformity(z: Matrix, *, t: float = 2.0) -> float:
    pairs = [(i, j) for i in range(len(z)) for j in range(i)]
    return math.log(sum(math.exp(-t * math.dist(z[i], z[j]) ** 2) for i, j in pairs) / len(pairs))
