"""Every room and every loss again, in plain Python: lists, loops and ``math``, and no code of refcl.

In:  nested lists, and the settings of the function of the same name in refcl.  Out: numbers, and nested lists.
Written to be evidently right, not to be exact: at extreme temperatures the golden data judge.
"""

import math
from typing import Any

Row = list[float]
Matrix = list[Row]
Mask = list[list[bool]]


def linear(x: Matrix, weight: Matrix, bias: Row) -> Matrix:
    return [[sum(x_n[i] * weight[i][j] for i in range(len(weight))) + bias[j] for j in range(len(bias))] for x_n in x]


def batch_norm(x: Matrix, gamma: Row, beta: Row, *, training: bool, running: Any = None, eps: float = 1e-5) -> Matrix:
    out = [[0.0] * len(gamma) for _ in x]
    for j in range(len(gamma)):
        column = [x_n[j] for x_n in x]
        if training:
            mean = sum(column) / len(column)
            variance = sum((value - mean) ** 2 for value in column) / len(column)
        else:
            mean, variance = running[0][j], running[1][j]
        for n, value in enumerate(column):
            out[n][j] = gamma[j] * (value - mean) / math.sqrt(variance + eps) + beta[j]
    return out


def relu(x: Matrix) -> Matrix:
    return [[value if value > 0 else 0.0 for value in x_n] for x_n in x]


def mlp(x: Matrix, params: Any, *, training: bool = True, running: Any = None, eps: float = 1e-5) -> Matrix:
    for depth, layer in enumerate(params):
        x = linear(x, layer[0], layer[1])
        if len(layer) == 4:
            statistics = running[depth] if running else None
            x = batch_norm(x, layer[2], layer[3], training=training, running=statistics, eps=eps)
        if depth + 1 < len(params):
            x = relu(x)
    return x


def l2_normalize(h: Matrix, *, eps: float = 1e-12) -> Matrix:
    return [[value / max(math.sqrt(sum(v * v for v in h_n)), eps) for value in h_n] for h_n in h]


def inner_product(z: Matrix, other: Matrix) -> Matrix:
    return [[sum(a * b for a, b in zip(z_i, z_k, strict=True)) for z_k in other] for z_i in z]


def own_product(z: Matrix, other: list[Matrix]) -> Matrix:
    return [inner_product([z_i], other_i)[0] for z_i, other_i in zip(z, other, strict=True)]


def bilinear(z: Matrix, other: Matrix, weight: Matrix) -> Matrix:
    return [
        [
            sum(z_i[a] * weight[a][b] * z_k[b] for a in range(len(weight)) for b in range(len(weight[0])))
            for z_k in other
        ]
        for z_i in z
    ]


def pairing(s: Matrix, *, positive: list[int] | None = None, ignore: Mask | None = None) -> tuple[Row, Matrix]:
    return [s_i[p] for s_i, p in zip(s, positive or range(len(s)), strict=True)], s


def soft_maximum(s_pos: Row, s_neg: Matrix, temperature: float, *, negatives: Mask) -> Row:
    return [
        math.log(sum(math.exp((s - p) / temperature) for s in chosen(s_i, mask)))
        for p, s_i, mask in zip(s_pos, s_neg, negatives, strict=True)
    ]


def maximum(s_pos: Row, s_neg: Matrix, *, negatives: Mask, margin: float = 0.0) -> Row:
    return [max(chosen(s_i, mask)) - p + margin for p, s_i, mask in zip(s_pos, s_neg, negatives, strict=True)]


def weighted_sum(s_pos: Row, s_neg: Matrix, weight: Row, *, negatives: Mask) -> Row:
    return [w * sum(chosen(s_i, m)) - p for p, s_i, w, m in zip(s_pos, s_neg, weight, negatives, strict=True)]


def separate(s_pos: Row, s_neg: Matrix, scale: float, bias: float, *, negatives: Mask) -> tuple[Row, Matrix]:
    gap_neg = [
        [scale * s + bias if counts else -math.inf for s, counts in zip(s_i, mask, strict=True)]
        for s_i, mask in zip(s_neg, negatives, strict=True)
    ]
    return [-(scale * s + bias) for s in s_pos], gap_neg


def hardest_negatives(s_neg: Matrix, negatives: Mask, *, hardest: float | int) -> Mask:
    kept = []
    for s_i, mask in zip(s_neg, negatives, strict=True):
        similarities = sorted(chosen(s_i, mask), reverse=True)
        count = hardest if isinstance(hardest, int) else max(1, round(hardest * len(similarities)))
        count = min(count, len(similarities))
        threshold = similarities[count - 1] if similarities else math.inf
        kept.append([counts and s >= threshold for s, counts in zip(s_i, mask, strict=True)])
    return kept


def softplus(gap: Row) -> Row:
    return [math.log1p(math.exp(value)) for value in gap]


def identity(gap: Row) -> Row:
    return gap


def hinge(gap: Row) -> Row:
    return [max(value, 0.0) for value in gap]


def reduce(loss: Any, *, reduction: str = "mean") -> Any:
    entries = [value for row in loss for value in row] if isinstance(loss[0], list) else loss
    if reduction == "none":
        return loss
    return sum(entries) / (len(entries) if reduction == "mean" else 1)


def chosen(values: Row, mask: list[bool]) -> Row:
    return [value for value, counts in zip(values, mask, strict=True) if counts]


def roles(s: Matrix, positive: list[int] | None, ignore: Mask | None) -> list[tuple[int, list[int]]]:
    """Return each anchor's positive column and the columns of its negatives."""
    out = []
    for i, s_i in enumerate(s):
        p = positive[i] if positive is not None else i
        out.append((p, [k for k in range(len(s_i)) if k != p and not (ignore is not None and ignore[i][k])]))
    return out


def hard_roles(s: Matrix, positive: Any, ignore: Any, hardest: float | int) -> list[tuple[int, list[int]]]:
    """Return each anchor's positive and the columns of the hardest of its negatives."""
    out = []
    for s_i, (p, others) in zip(s, roles(s, positive, ignore), strict=True):
        mask = [k in others for k in range(len(s_i))]
        kept = hardest_negatives([s_i], [mask], hardest=hardest)[0]
        out.append((p, [k for k in range(len(s_i)) if kept[k]]))
    return out


def softmax_rows(s: Matrix, temperature: float, who: list[tuple[int, list[int]]]) -> Row:
    loss = []
    for s_i, (p, others) in zip(s, who, strict=True):
        numerator = math.exp(s_i[p] / temperature)
        denominator = numerator + sum(math.exp(s_i[k] / temperature) for k in others)
        loss.append(-math.log(numerator / denominator))
    return loss


def simple_rows(s: Matrix, weight: float | None, who: list[tuple[int, list[int]]]) -> Row:
    loss = []
    for s_i, (p, others) in zip(s, who, strict=True):
        each = weight if weight is not None else 1 / max(len(others), 1)
        loss.append(-s_i[p] + each * sum(s_i[k] for k in others))
    return loss


def softmax_contrastive(
    s: Matrix, temperature: float, *, positive: Any = None, ignore: Any = None, reduction: str = "mean"
) -> Any:
    return reduce(softmax_rows(s, temperature, roles(s, positive, ignore)), reduction=reduction)


def hard_softmax_contrastive(
    s: Matrix,
    temperature: float,
    *,
    hardest: float | int,
    positive: Any = None,
    ignore: Any = None,
    reduction: str = "mean",
) -> Any:
    return reduce(softmax_rows(s, temperature, hard_roles(s, positive, ignore, hardest)), reduction=reduction)


def simple_contrastive(
    s: Matrix, weight: float | None, *, positive: Any = None, ignore: Any = None, reduction: str = "mean"
) -> Any:
    return reduce(simple_rows(s, weight, roles(s, positive, ignore)), reduction=reduction)


def hard_simple_contrastive(
    s: Matrix,
    weight: float | None,
    *,
    hardest: float | int,
    positive: Any = None,
    ignore: Any = None,
    reduction: str = "mean",
) -> Any:
    return reduce(simple_rows(s, weight, hard_roles(s, positive, ignore, hardest)), reduction=reduction)


def triplet(
    s: Matrix, *, margin: float = 0.0, positive: Any = None, ignore: Any = None, reduction: str = "mean"
) -> Any:
    loss = []
    for s_i, (p, others) in zip(s, roles(s, positive, ignore), strict=True):
        loss.append(max(max(s_i[k] for k in others) - s_i[p] + margin, 0.0) if others else 0.0)
    return reduce(loss, reduction=reduction)


def softmax_gradient(s: Matrix, temperature: float, who: list[tuple[int, list[int]]]) -> Matrix:
    """Return (P_ik − 1 at the positive)/τ: Eq. 4."""
    out = []
    for s_i, (p, others) in zip(s, who, strict=True):
        powers = {k: math.exp(s_i[k] / temperature) for k in [p, *others]}
        total = sum(powers.values())
        row = [powers.get(k, 0.0) / total / temperature for k in range(len(s_i))]
        row[p] = -sum(row[k] for k in others)
        out.append(row)
    return out


def simple_gradient(s: Matrix, weight: float | None, who: list[tuple[int, list[int]]]) -> Matrix:
    """Return −1 at the positive and λ at each negative: Eq. 4."""
    out = []
    for s_i, (p, others) in zip(s, who, strict=True):
        each = weight if weight is not None else 1 / max(len(others), 1)
        out.append([-1.0 if k == p else each if k in others else 0.0 for k in range(len(s_i))])
    return out


def similarities(query: Matrix, key: Matrix, normalize: bool, eps: float) -> Matrix:
    if normalize:
        query, key = l2_normalize(query, eps=eps), l2_normalize(key, eps=eps)
    return inner_product(query, key)


def info_nce(
    query: Matrix, key: Matrix, temperature: float, *, normalize: bool = True, eps: float = 1e-12, **settings: Any
) -> Any:
    return softmax_contrastive(similarities(query, key, normalize, eps), temperature, **settings)


def hard_info_nce(
    query: Matrix, key: Matrix, temperature: float, *, normalize: bool = True, eps: float = 1e-12, **settings: Any
) -> Any:
    return hard_softmax_contrastive(similarities(query, key, normalize, eps), temperature, **settings)


def simple_loss(
    query: Matrix, key: Matrix, weight: float | None, *, normalize: bool = True, eps: float = 1e-12, **settings: Any
) -> Any:
    return simple_contrastive(similarities(query, key, normalize, eps), weight, **settings)


def hard_simple_loss(
    query: Matrix, key: Matrix, weight: float | None, *, normalize: bool = True, eps: float = 1e-12, **settings: Any
) -> Any:
    return hard_simple_contrastive(similarities(query, key, normalize, eps), weight, **settings)


def nt_xent(
    a: Matrix,
    b: Matrix,
    temperature: float,
    *,
    ignore: Mask | None = None,
    reduction: str = "mean",
    add_views: bool = False,
    normalize: bool = True,
    eps: float = 1e-12,
) -> Any:
    n = len(a)
    s = similarities([*a, *b], [*a, *b], normalize, eps)
    positive = [(i + n) % (2 * n) for i in range(2 * n)]
    left_out = [[i == k or (ignore is not None and ignore[i][k]) for k in range(2 * n)] for i in range(2 * n)]
    if add_views:
        each = softmax_contrastive(s, temperature, positive=positive, ignore=left_out, reduction="none")
        return sum(each[:n]) / n + sum(each[n:]) / n
    return softmax_contrastive(s, temperature, positive=positive, ignore=left_out, reduction=reduction)


def clip(
    image: Matrix,
    text: Matrix,
    log_scale: float,
    *,
    clamp: tuple[float, float] | None = None,
    ignore: Mask | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> Any:
    if clamp is not None:
        log_scale = min(max(log_scale, clamp[0]), clamp[1])
    temperature = 1 / math.exp(log_scale)
    s = similarities(image, text, normalize, eps)
    loss = [
        softmax_contrastive(s, temperature, ignore=ignore, reduction="none"),
        softmax_contrastive(turned(s), temperature, ignore=turned(ignore) if ignore else None, reduction="none"),
    ]
    return reduce(loss, reduction=reduction)


def inst_disc(query: Matrix, temperature: float, *, bank: Matrix, index: list[int], **settings: Any) -> Any:
    return info_nce(query, bank, temperature, positive=index, **settings)


def moco(
    query: Matrix,
    key: Matrix,
    temperature: float,
    *,
    queue: Matrix,
    ignore: Mask | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> Any:
    """Take, for each query alone, its key and then the queue as candidates."""
    loss = []
    for i, (q, k) in enumerate(zip(query, key, strict=True)):
        mask = [[False, *ignore[i]]] if ignore is not None else None
        settings = {"positive": [0], "ignore": mask, "reduction": "sum", "normalize": normalize, "eps": eps}
        loss.append(info_nce([q], [k, *queue], temperature, **settings))
    return reduce(loss, reduction=reduction)


def drawn_similarities(query: Matrix, bank: Matrix, index: Any, noise: Any, normalize: bool, eps: float) -> Matrix:
    """Return, for each query, its similarity to its own row of the bank and then to the rows drawn for it."""
    s = similarities(query, bank, normalize, eps)
    return [[s_i[j] for j in (own, *drawn)] for s_i, own, drawn in zip(s, index, noise, strict=True)]


def nce(
    query: Matrix,
    temperature: float,
    *,
    bank: Matrix,
    index: list[int],
    noise: list[list[int]],
    log_normalizer: float,
    stabilizer: float = 0.0,
    ignore: Mask | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> Any:
    rate = len(noise[0]) / len(bank)
    loss = []
    for i, s_i in enumerate(drawn_similarities(query, bank, index, noise, normalize, eps)):
        own, *drawn = [math.exp(s / temperature) / math.exp(log_normalizer) for s in s_i]
        loss_i = -math.log(own / (own + rate + stabilizer))
        for k, p in enumerate(drawn):
            if ignore is None or not ignore[i][k]:
                loss_i -= math.log(rate / (p + rate + stabilizer))
        loss.append(loss_i)
    return reduce(loss, reduction=reduction)


def nce_log_normalizer(
    query: Matrix,
    temperature: float,
    *,
    bank: Matrix,
    index: list[int],
    noise: list[list[int]],
    normalize: bool = True,
    eps: float = 1e-12,
) -> float:
    s = drawn_similarities(query, bank, index, noise, normalize, eps)
    powers = [math.exp(value / temperature) for s_i in s for value in s_i]
    return math.log(len(bank) * sum(powers) / len(powers))


def cmc(
    views: tuple[Matrix, ...],
    temperature: float,
    *,
    core: bool | int = False,
    ignore: Mask | None = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> Any:
    numbers = range(len(views))
    if core is False:
        pairs = [(i, j) for i in numbers for j in numbers if i < j]
    else:
        pairs = [(int(core) if core is not True else 0, j) for j in numbers if j != (core if core is not True else 0)]
    settings = {"ignore": ignore, "reduction": reduction, "normalize": normalize, "eps": eps}
    losses = []
    for i, j in pairs:
        losses.append(info_nce(views[i], views[j], temperature, **settings))
        losses.append(info_nce(views[j], views[i], temperature, **settings))
    return losses if reduction == "none" else sum(losses)


def cpc(context: Matrix, future: Any, weight: Any, *, reduction: str = "mean", **settings: Any) -> Any:
    if not isinstance(weight[0][0], list):
        return softmax_contrastive(bilinear(context, future, weight), 1.0, reduction=reduction, **settings)
    steps = [
        softmax_contrastive(bilinear(context, z, w), 1.0, reduction="none", **settings)
        for z, w in zip(future, weight, strict=True)
    ]
    return reduce(steps, reduction=reduction)


def sig_lip(
    image: Matrix,
    text: Matrix,
    log_scale: float,
    bias: float,
    *,
    positive: Any = None,
    ignore: Any = None,
    reduction: str = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> Any:
    s = similarities(image, text, normalize, eps)
    loss = []
    for s_i, (p, others) in zip(s, roles(s, positive, ignore), strict=True):
        logits = [(1, s_i[p]), *((-1, s_i[k]) for k in others)]
        loss.append(sum(math.log(1 + math.exp(-sign * (math.exp(log_scale) * v + bias))) for sign, v in logits))
    return reduce(loss, reduction=reduction)


def semi_hard_triplet(
    s: Matrix,
    *,
    margin: float = 0.1,
    otherwise: str = "skip",
    positive: Any = None,
    ignore: Any = None,
    reduction: str = "mean",
) -> Any:
    loss = []
    for s_i, (p, others) in zip(s, roles(s, positive, ignore), strict=True):
        further = [s_i[k] for k in others if s_i[k] < s_i[p]]
        taken = further
        if not further and otherwise != "skip":
            taken = [s_i[k] for k in others]
        if not taken:
            loss.append(0.0)
            continue
        hardest = min(taken) if not further and otherwise == "easiest" else max(taken)
        loss.append(max(hardest - s_i[p] + margin, 0.0))
    return reduce(loss, reduction=reduction)


def pair_contrastive(a: Matrix, b: Matrix, *, same: list[bool], margin: float = 1.0, reduction: str = "mean") -> Any:
    loss = []
    for a_i, b_i, alike in zip(a, b, same, strict=True):
        distance = math.dist(a_i, b_i)
        loss.append(distance**2 / 2 if alike else max(margin - distance, 0.0) ** 2 / 2)
    return reduce(loss, reduction=reduction)


def turned(matrix: Any) -> Any:
    return [list(column) for column in zip(*matrix, strict=True)]


def _who(s: Matrix, positive: Any, ignore: Any, hardest: Any) -> list[tuple[int, list[int]]]:
    return roles(s, positive, ignore) if hardest is None else hard_roles(s, positive, ignore, hardest)


def relative_penalty(
    s: Matrix, temperature: float, *, positive: Any = None, ignore: Any = None, hardest: Any = None
) -> Matrix:
    out = []
    for s_i, (_, others) in zip(s, _who(s, positive, ignore, hardest), strict=True):
        powers = {k: math.exp(s_i[k] / temperature) for k in others}
        out.append([powers.get(k, 0.0) / sum(powers.values()) for k in range(len(s_i))])
    return out


def penalty_entropy(s: Matrix, temperature: float, **settings: Any) -> Row:
    return [-sum(r * math.log(r) for r in row if r > 0) for row in relative_penalty(s, temperature, **settings)]


def entropy_slope(s: Matrix, temperature: float, **settings: Any) -> Row:
    out = []
    for s_i, r in zip(s, relative_penalty(s, temperature, **settings), strict=True):
        mean = sum(r_k * s_k for r_k, s_k in zip(r, s_i, strict=True))
        out.append(sum(r_k * (s_k - mean) ** 2 for r_k, s_k in zip(r, s_i, strict=True)) / temperature**3)
    return out


def temperature_for_entropy(s: Matrix, entropy: float) -> Row:
    """Halve an interval that holds the temperature until it is a point: the entropy grows with the temperature."""
    out = []
    for i in range(len(s)):
        low, high = 1e-2, 1e2
        for _ in range(200):
            middle = math.sqrt(low * high)
            below = penalty_entropy(s, middle)[i] < entropy
            low, high = (middle, high) if below else (low, middle)
        out.append(low)
    return out


def balance(ds: Matrix, *, positive: Any = None) -> Row:
    return [
        abs(sum(d[k] for k in others)) / abs(d[p]) for d, (p, others) in zip(ds, roles(ds, positive, None), strict=True)
    ]


def small_temperature_bound(s: Matrix, temperature: float, *, positive: Any = None, ignore: Any = None) -> Any:
    lower, upper = [], []
    for s_i, (p, others) in zip(s, roles(s, positive, ignore), strict=True):
        lower.append(max(0.0, *((s_i[k] - s_i[p]) / temperature for k in others)))
        upper.append(lower[-1] + math.log(len(others) + 1))
    return lower, upper


def large_temperature_form(s: Matrix, temperature: float, *, positive: Any = None, ignore: Any = None) -> Row:
    out = []
    for s_i, (p, others) in zip(s, roles(s, positive, ignore), strict=True):
        values = [s_i[k] for k in [p, *others]]
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        out.append(math.log(len(values)) - (s_i[p] - mean) / temperature + variance / (2 * temperature**2))
    return out


def alignment(a: Matrix, b: Matrix, *, alpha: float = 2.0) -> float:
    return math.fsum(math.dist(a_i, b_i) ** alpha for a_i, b_i in zip(a, b, strict=True)) / len(a)


def uniformity(z: Matrix, *, t: float = 2.0) -> float:
    pairs = [(i, j) for i in range(len(z)) for j in range(i)]
    return math.log(sum(math.exp(-t * math.dist(z[i], z[j]) ** 2) for i, j in pairs) / len(pairs))


def tolerance(z: Matrix, labels: list[int], *, normalized: bool = True, self_pairs: bool = False) -> float:
    s = inner_product(z, z)
    n = len(z)
    means, total, pairs = [], 0.0, 0
    for i in range(n):
        partners = [j for j in range(n) if self_pairs or j != i]
        alike = [s[i][j] for j in partners if labels[i] == labels[j]]
        total, pairs = total + sum(alike), pairs + len(partners)
        if alike:
            means.append(sum(alike) / len(alike))
    return sum(means) / len(means) if normalized else total / pairs


def local_separation(s: Matrix, *, nearest: int = 10, positive: Any = None, ignore: Any = None) -> Any:
    who = roles(s, positive, ignore)
    return (
        [s_i[p] for s_i, (p, _) in zip(s, who, strict=True)],
        [sorted((s_i[k] for k in others), reverse=True)[:nearest] for s_i, (_, others) in zip(s, who, strict=True)],
    )
