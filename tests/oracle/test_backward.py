"""Backwards written by hand, wrong in one thing beside a value that is right: what is said of each kind of mistake."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import refcl
from refcl.oracle import check, from_torch


def unit(x: Any) -> Any:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def inner(x: Any, y: Any) -> Any:
    return np.sum(x * y, axis=1, keepdims=True)


def project(dz: Any, x: Any) -> Any:
    return (dz - unit(x) * inner(unit(x), dz)) / np.linalg.norm(x, axis=1, keepdims=True)


def softmax(logits: Any, targets: Any) -> tuple[Any, Any]:
    """Return each row's cross-entropy and its gradient by the logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -np.sum(np.where(targets > 0, targets * log_p, 0.0), axis=1), np.exp(log_p) - targets


def said(candidate: Callable[..., Any], loss: str, **settings: Any) -> str:
    report = check(candidate, loss, **settings)
    assert not report.ok
    return str(report)


# What stands in the place of the projection of the normalization.

PROJECTIONS = {
    "holds the raw rows: x ⟨x, dz⟩": lambda d, x, y, n: (d - x * inner(x, d)) / n,
    "holds a raw row: x ⟨z, dz⟩": lambda d, x, y, n: (d - x * inner(unit(x), d)) / n,
    "has the other sign": lambda d, x, y, n: (d + unit(x) * inner(unit(x), d)) / n,
    "counts 2 times": lambda d, x, y, n: (d - 2 * unit(x) * inner(unit(x), d)) / n,
    "over the whole batch, without an axis": lambda d, x, y, n: (d - unit(x) * np.sum(unit(x) * d)) / n,
    "is that of the rows of key: y ⟨y, dz⟩, y of length 1": lambda d, x, y, n: (d - unit(y) * inner(unit(y), d)) / n,
    "belongs, and nothing is divided by ‖x‖": lambda d, x, y, n: d - x * inner(x, d),
    "which is missing": lambda d, x, y, n: d / n,
}


@pytest.mark.parametrize("words", PROJECTIONS)
def test_a_projection(words: str) -> None:
    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        q, k = unit(query), unit(key)
        loss, g = softmax(q @ k.T / temperature, np.eye(len(q), len(k)))
        g /= len(q) * temperature
        dquery = PROJECTIONS[words](g @ k, query, key, np.linalg.norm(query, axis=1, keepdims=True))
        return loss.mean(), (dquery, project(g.T @ q, key))

    text = said(candidate, "info_nce")
    assert "dquery is right but for the projection" in text
    assert words in text
    assert ("over the whole batch" in text) == ("over the whole batch" in words)


# How often a part of a gradient counts.


def off(g: Any, times: float, same: Any) -> Any:
    """Return a gradient by logits in which the pull, -1/N of each, counts some times."""
    return g - (times - 1) * same / len(g)


SIDES: dict[str, Callable[..., Any]] = {
    "": lambda g, same: g,
    "the pull of the positive, -s_ip/τ, counts N (5) times": lambda g, same: off(g, len(g), same),
    "the pull of the positive, -s_ip/τ, counts -1 times": lambda g, same: off(g, -1, same),
    "the share of the negatives counts 1/(N-1) (0.25) times": lambda g, same: np.where(same, g, g / (len(g) - 1)),
    "the share of the positives counts 0 times": lambda g, same: np.where(same, 0.0, g),
    "what the loss of the last anchor sends counts 0 times": lambda g, same: (
        g * (np.arange(len(g)) < len(g) - 1)[:, None]
    ),
    "with ∂L/∂s transposed stands where": lambda g, same: g.T,
}


@pytest.mark.parametrize("words", SIDES)
def test_a_part_of_the_gradient_of_keys_and_of_the_temperature(words: str) -> None:
    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        q, k, same = unit(query), unit(key), np.eye(len(query), dtype=bool)
        s = q @ k.T
        loss, g = softmax(s / temperature, same)
        g /= len(q)
        h = SIDES[words](g, same)
        dtemperature = -np.sum((g if "transposed" in words else h) * s) / temperature**2
        return loss.mean(), (project(g @ k, query) / temperature, project(h.T @ q, key) / temperature, dtemperature)

    if not words:
        assert check(candidate, "info_nce").ok
        return
    text = said(candidate, "info_nce")
    assert f"{words}" in text.split("dkey is right but for one part: ")[1].split("\n")[0]
    assert ("gradient of the temperature is wrong: " + words in text) == ("transposed" not in words)


@pytest.mark.parametrize(("times", "words"), [(0.0, "counts 0 times"), (0.5, "counts 1/2 (0.5) times")])
def test_rows_past_n(times: float, words: str) -> None:
    def rows(query: Any, key: Any, temperature: Any) -> Any:
        value, grads = refcl.info_nce(query, key, temperature)
        dkey = grads.dkey.copy()
        dkey[len(query) :] *= times
        return value, (grads.dquery, dkey)

    assert f"dkey is right but for one part: what its rows past N hold {words}" in said(rows, "info_nce", extra_keys=2)


VIEWS = {
    "": lambda g, i, p, n: g + g.T,
    "what a row gets as an anchor counts 0 times": lambda g, i, p, n: g.T,
    "the pull of the positive, -s_ip/τ, counts 1/2 (0.5) times": lambda g, i, p, n: (
        g + g.T + (i == p[:, None]) / (2 * n)
    ),
    "the share of the rows of a counts 2 times": lambda g, i, p, n: (g + g.T) * (1 + ((i < n) == (i < n)[:, None])),
}


@pytest.mark.parametrize("words", VIEWS)
def test_two_views(words: str) -> None:
    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        n, x = len(a), np.concatenate([a, b])
        i = np.arange(2 * n)
        p = (i + n) % (2 * n)
        logits = unit(x) @ unit(x).T / temperature
        np.fill_diagonal(logits, -np.inf)
        loss, g = softmax(logits, np.eye(2 * n)[p])
        dx = project(VIEWS[words](g / (2 * n), i, p, n) @ unit(x) / temperature, x)
        return loss.mean(), (dx[:n], dx[n:])

    if words:
        assert f"da is right but for one part: {words} [da, db]" in said(candidate, "nt_xent")
    else:
        assert check(candidate, "nt_xent").ok


@pytest.mark.parametrize("shared", [True, False])
def test_a_pull_that_is_not_divided_among_positives(shared: bool) -> None:
    def candidate(s: Any, temperature: Any, positives: Any) -> Any:
        count = np.maximum(positives.sum(axis=1, keepdims=True), 1)
        targets, live = positives / count, positives.any(axis=1, keepdims=True)
        loss, g = softmax(s / temperature, targets)
        g = np.where(live, g + targets - (targets if shared else positives), 0.0)
        return np.sum(loss[live[:, 0]]) / len(s), (g / len(s) / temperature,)

    if shared:
        assert check(candidate, "supervised_contrastive").ok
    else:
        assert "a pull of 1 of each positive stands where" in said(candidate, "supervised_contrastive")


MARGINS = {
    "": lambda u, v, n: (u - v, -u, v),
    "danchor is right but for one part: the share of the rows of negative counts 0 times": lambda u, v, n: (u, -u, v),
    "danchor is right but for one part: the share of the rows of negative counts -1 times": lambda u, v, n: (
        u + v,
        -u,
        v,
    ),
    "the gradient dnegative is N or number of anchors (5) times": lambda u, v, n: (u - v, -u, n * v),
}


@pytest.mark.parametrize("words", MARGINS)
def test_three_arrays(words: str) -> None:
    def candidate(anchor: Any, positive: Any, negative: Any, margin: Any) -> Any:
        n, near, far = len(anchor), anchor - positive, anchor - negative
        dp, dn = (np.linalg.norm(x, axis=1, keepdims=True) for x in (near, far))
        hinge = dp - dn + margin
        u, v = (np.where(hinge > 0, x / np.maximum(d, 1e-300), 0.0) / n for x, d in ((near, dp), (far, dn)))
        return np.maximum(hinge, 0).mean(), MARGINS[words](u, v, n)

    if words:
        assert words in said(candidate, "triplet_margin")
    else:
        assert check(candidate, "triplet_margin").ok


STEPS = {
    "": (0, lambda d, g: d(g)),
    "dcontext is right but for one part: what the steps before it send counts 0 times": (
        0,
        lambda d, g: d(g * (np.arange(len(g)) == len(g) - 1)[:, None, None]),
    ),
    "dweight is right but for one part: what the later steps send counts 0 times": (
        2,
        lambda d, g: d(g * (np.arange(len(g)) == 0)[:, None, None]),
    ),
    "dfuture is right but for one part: the pull of the positive, -s_ip, counts 0 times": (
        1,
        lambda d, g: d(g + np.eye(g.shape[1]) / len(g) / g.shape[1]),
    ),
    "the gradient dcontext is 1/number of steps (0.5) times": (0, lambda d, g: d(g) / len(g)),
}


@pytest.mark.parametrize("words", STEPS)
def test_steps(words: str) -> None:
    def candidate(context: Any, future: Any, weight: Any) -> Any:
        steps, n = len(future), len(context)
        s = np.einsum("nd,tde,tme->tnm", context, weight, future)
        loss, g = softmax(s.reshape(-1, n), np.tile(np.eye(n), (steps, 1)))
        back = (
            lambda g: np.einsum("tnm,tde,tme->nd", g, weight, future),
            lambda g: np.einsum("tnm,nd,tde->tme", g, context, weight),
            lambda g: np.einsum("tnm,nd,tme->tde", g, context, future),
        )
        g = g.reshape(s.shape) / (steps * n)
        k, mistake = STEPS[words]
        return loss.mean(), tuple(mistake(d, g) if j == k else d(g) for j, d in enumerate(back))

    if words:
        assert words in said(candidate, "cpc")
    else:
        assert check(candidate, "cpc").ok


BIASES = {
    "": lambda g: np.sum(g),
    "the gradient dbias is 1/(N M), M candidates (0.0285714) times": np.mean,
    "the gradient dbias is N or number of anchors (5) times": lambda g: np.sum(g) * len(g),
    "dbias is right but for one part: the share of the negatives counts 0 times": np.trace,
    "the gradient dbias is not that of the value [dbias]": lambda g: np.sum(g**2),
}


@pytest.mark.parametrize("words", BIASES)
def test_a_gradient_that_is_one_number(words: str) -> None:
    def candidate(image: Any, text: Any, log_scale: Any, bias: Any) -> Any:
        u, v, t = unit(image), unit(text), np.exp(log_scale)
        y = 2 * np.eye(len(u), len(v)) - 1
        logits = t * u @ v.T + bias
        g = -y * np.exp(-np.logaddexp(0, y * logits)) / len(u)
        grads = project(t * g @ v, image), project(t * g.T @ u, text), np.sum(g * (logits - bias)), BIASES[words](g)
        return np.sum(np.logaddexp(0, -y * logits)) / len(u), grads

    if words:
        assert words in said(candidate, "sig_lip", extra_keys=2)
    else:
        assert check(candidate, "sig_lip", extra_keys=2).ok


UNIFORM = {
    "da is right but for one part: the share of the positives counts N (5) times": lambda align, x, y, n: (
        n * align + x / 2,
        -n * align + y / 2,
    ),
    "db is right but for one part: the share of the negatives counts 0 times": lambda align, x, y, n: (
        align + x / 2,
        -align,
    ),
}


@pytest.mark.parametrize("words", UNIFORM)
def test_alignment_and_uniformity(words: str) -> None:
    def spread(x: Any) -> Any:
        apart = x[:, None] - x
        e = np.exp(-2 * np.sum(apart**2, axis=2)) - np.eye(len(x))
        return np.log(e.sum() / (len(x) * (len(x) - 1))), -8 * np.sum(e[:, :, None] * apart, axis=1) / e.sum()

    def candidate(a: Any, b: Any) -> Any:
        x, y = unit(a), unit(b)
        (ux, dx), (uy, dy) = spread(x), spread(y)
        of = UNIFORM[words](2 * (x - y) / len(x), dx, dy, len(x))
        return np.mean(np.sum((x - y) ** 2, axis=1)) + (ux + uy) / 2, (project(of[0], a), project(of[1], b))

    assert words in said(candidate, "align_uniform")


WEIGHTED = {
    "hcl": {"tau_plus": 0.1, "beta": 1.0},
    "macl": {},
    "dcl": {},
}


@pytest.mark.parametrize("loss", WEIGHTED)
def test_anchors_whose_losses_do_not_reach_a_gradient(loss: str) -> None:
    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        n, pair, settings = len(a), getattr(refcl, loss), WEIGHTED[loss]
        first = np.repeat([0.5 / n, 0.0], n)
        value, grads = pair(a, b, temperature, **settings)
        _, half = pair(a, b, temperature, reduction="none", upstream=first, **settings)
        return value, (grads.da, half.db, half.dtemperature)

    text = said(candidate, loss, **WEIGHTED[loss])
    assert "db is right but for one part: what the losses of b's rows as anchors send counts 0 times" in text
    assert "gradient of the temperature is wrong: what the losses of b's rows as anchors send counts 0 times" in text


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        (lambda g: np.clip(g, -0.1, 0.1), "clipped: no entry is larger than 0.1"),
        (lambda g: g * min(1.0, 0.2 / np.linalg.norm(g)), "clipped: it is nowhere longer, as a whole, than 0.2"),
    ],
)
def test_a_gradient_that_is_clipped(clip: Callable[[Any], Any], words: str) -> None:
    def candidate(query: Any, key: Any) -> Any:
        value, grads = refcl.info_nce(query, key, 0.2)
        return value, (clip(grads.dquery), grads.dkey)

    assert words in said(candidate, "info_nce", temperature=0.2)


def test_what_is_no_part_is_not_said_to_be_one() -> None:
    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        value, grads = refcl.info_nce(query, key, temperature)
        noise = np.random.default_rng(len(query)).standard_normal(query.shape)
        return value, (grads.dquery + 0.01 * noise, grads.dkey)

    assert "the gradient dquery is not that of the value in" in said(candidate, "info_nce")


# A gradient of the temperature that is NaN: 0 times infinity.


@pytest.mark.parametrize(("beside", "verdict"), [(1.0, "temperature-gradient-wrong"), (2.0, "scaled-by-constant")])
def test_nan_for_the_gradient_of_the_temperature(beside: float, verdict: str) -> None:
    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        value, grads = refcl.nt_xent(a, b, temperature)
        return beside * value, (beside * grads.da, beside * grads.db, np.nan)

    report = check(candidate, "nt_xent")
    assert report.verdict == verdict
    text = str(report)
    assert "the gradient of the temperature is NaN on all" in text
    assert "mask after the temperature is applied, or mask with a finite number that is far below" in text


@pytest.mark.parametrize("late", [True, False])
def test_a_mask_before_the_temperature_is_applied(late: bool) -> None:
    torch = pytest.importorskip("torch", reason="0 times infinity on the way back is automatic differentiation's")

    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        z = torch.nn.functional.normalize(torch.cat([a, b]))
        s, itself = z @ z.T, torch.eye(len(z), dtype=torch.bool)
        masked = (s / temperature).masked_fill(itself, -torch.inf)
        logits = masked if late else s.masked_fill(itself, -torch.inf) / temperature
        return torch.nn.functional.cross_entropy(logits, torch.arange(len(z)).roll(len(a)))

    report = check(from_torch(candidate), "nt_xent")
    assert report.ok == late
    assert ("masked with -∞ before the temperature" in str(report)) == (not late)


# One gradient for another: of other rows, other candidates, another loss, another room.


def two_views(a: Any, b: Any, temperature: Any, *, itself: bool = False, loss: str = "nt_xent") -> tuple[Any, ...]:
    """Return the stacked rows, the value and ∂L/∂s of two views, row by row of their anchors."""
    n, x = len(a), np.concatenate([a, b])
    same = np.eye(2 * n)[(np.arange(2 * n) + n) % (2 * n)]
    logits = unit(x) @ unit(x).T / temperature
    _, g = softmax(logits if itself else logits - np.where(np.eye(2 * n), np.inf, 0.0), same)
    return x, getattr(refcl, loss)(a, b, temperature)[0], g / (2 * n * temperature)


def by_view(g: Any, own: float, others: float) -> Any:
    """Return what rows get as anchors and as candidates, where candidates of some views are detached."""
    n = len(g) // 2
    view = np.arange(2 * n) < n
    return g + g.T * np.where(view[:, None] == view, own, others)


TWO_VIEWS: dict[str, Callable[[Any], Any]] = {
    "the upper triangle of ∂L/∂s counts 2 times, and the lower triangle of ∂L/∂s counts 0 times": lambda g: (
        2 * (np.triu(g, 1) + np.triu(g, 1).T)
    ),
    "the upper triangle of ∂L/∂s counts 0 times": lambda g: np.tril(g, -1) + np.tril(g, -1).T,
    "what a row gets as a candidate, from anchors of its own view counts 0 times": lambda g: by_view(g, 0, 1),
    "what the losses of b's rows as anchors send counts 0 times": lambda g: by_view(g, 1, 0),
    "the share of earlier rows of the same array counts 0 times": lambda g: (
        (g + g.T) * (1 - np.kron(np.eye(2), np.tril(np.ones((len(g) // 2,) * 2))))
    ),
}


@pytest.mark.parametrize("words", TWO_VIEWS)
def test_half_of_the_pairs_of_two_views(words: str) -> None:
    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        x, value, g = two_views(a, b, temperature)
        dx = project(TWO_VIEWS[words](g) @ unit(x), x)
        return value, (dx[: len(a)], dx[len(a) :])

    assert f"da is right but for one part: {words} [da" in said(candidate, "nt_xent")


@pytest.mark.parametrize("itself", [True, False])
@pytest.mark.parametrize("loss", ["nt_xent", "dcl"])
def test_another_softmax_in_the_backward(loss: str, itself: bool) -> None:
    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        x, value, g = two_views(a, b, temperature, itself=itself, loss=loss)
        dx = project((g + g.T) @ unit(x), x)
        return value, (dx[: len(a)], dx[len(a) :])

    if loss == "nt_xent" and not itself:
        assert check(candidate, loss).ok
        return
    text = said(candidate, loss)
    if loss == "nt_xent":
        assert "it is that of the same softmax with the anchor itself in it" in text
    if loss == "dcl" and not itself:
        assert "it is that of refcl.nt_xent, where another loss stands in the place of dcl" in text


def test_a_backward_without_the_positive() -> None:
    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        value, grads = refcl.nt_xent(a, b, temperature)
        other = refcl.dcl(a, b, temperature)[1]
        return value, ((other if len(a) > 1 else grads).da, (other if len(a) > 1 else grads).db)

    assert "positive_in_denominator=False" in said(candidate, "nt_xent")


def chunked(g: Any, size: int) -> Any:
    last = np.zeros_like(g)
    last[(len(g) - 1) // size * size :] = 1
    return g * last


KEYS: dict[str, Callable[..., Any]] = {
    "the chunks before the last one of 2 anchors send counts 0 times": lambda g, q, k, x, t: (chunked(g, 2).T @ q, k),
    "the chunks before the last one of 3 anchors send counts 0 times": lambda g, q, k, x, t: (chunked(g, 3).T @ q, k),
    "the share of the rows of query, raw and not normalized, stands": lambda g, q, k, x, t: (g.T @ x, k),
    "a push of 1 of the largest logit stands where": lambda g, q, k, x, t: (
        (np.eye(len(k))[np.argmax(q @ k.T, axis=1)] - np.eye(len(q), len(k))).T @ q / len(q) / t,
        k,
    ),
    "each row is divided by the length of its row of query, not of key": lambda g, q, k, x, t: (
        g.T @ q * np.linalg.norm(k, axis=1, keepdims=True) / np.linalg.norm(x, axis=1, keepdims=True),
        k,
    ),
}


@pytest.mark.parametrize("words", KEYS)
def test_a_gradient_of_keys(words: str) -> None:
    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        q, k = unit(query), unit(key)
        loss, g = softmax(q @ k.T / temperature, np.eye(len(q), len(k)))
        g /= len(q) * temperature
        made = KEYS[words](g, q, key if "divided" in words else k, query, temperature)[0]
        return loss.mean(), (project(g @ k, query), project(made, key))

    text = said(candidate, "info_nce")
    assert words in text
    assert "not that of the value" not in text


BOTH: dict[str, Callable[..., Any]] = {
    "the share of the rows before the last chunk of 4 counts 0 times": lambda g, q, x: chunked(g, 4).T @ q,
    "the share of the rows of image, raw and not normalized, stands": lambda g, q, x: g.T @ x,
}


@pytest.mark.parametrize("words", BOTH)
def test_a_gradient_of_both_directions(words: str) -> None:
    def candidate(image: Any, text: Any, log_scale: Any) -> Any:
        q, k, same = unit(image), unit(text), np.eye(len(image))
        logits = np.exp(log_scale) * q @ k.T
        (rows, g), (columns, h) = softmax(logits, same), softmax(logits.T, same)
        g = np.exp(log_scale) * (g + h.T) / 2 / len(q)
        return (rows.mean() + columns.mean()) / 2, (project(g @ k, image), project(BOTH[words](g, q, image), text))

    assert f"dtext is right but for one part: {words}" in said(candidate, "clip")


def test_raw_rows_of_two_views() -> None:
    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        x, value, g = two_views(a, b, temperature)
        dx = project((g + g.T) @ x, x)
        return value, (dx[: len(a)], dx[len(a) :])

    assert "the share of all rows, raw and not normalized, stands where" in said(candidate, "nt_xent")


@pytest.mark.parametrize("power", [2, 0])
def test_the_distance_in_the_gradient_of_a_triplet(power: int) -> None:
    def candidate(anchor: Any, positive: Any, negative: Any, margin: Any) -> Any:
        near, far = anchor - positive, anchor - negative
        dp, dn = (np.linalg.norm(x, axis=1, keepdims=True) for x in (near, far))
        hinge = dp - dn + margin
        u, v = (
            np.where((hinge > 0) & (d > 0), x / np.maximum(d, 1e-300) ** power, 0.0) / len(anchor)
            for x, d in ((near, dp), (far, dn))
        )
        return np.maximum(hinge, 0).mean(), (u - v, -u, v)

    text = said(candidate, "triplet_margin")
    how = "divided by the distance once too often" if power else "not divided by the distance"
    assert f"danchor is right but for one part: the share of all rows, {how}, stands where" in text
    assert "zzᵀ" not in text


@pytest.mark.parametrize("divided", [True, False])
def test_the_distance_in_the_gradient_of_unlike_pairs(divided: bool) -> None:
    def candidate(a: Any, b: Any, same: Any) -> Any:
        d = np.linalg.norm(a - b, axis=1)
        hinge = np.maximum(1 - d, 0)
        of_unlike = -hinge / np.where(d > 0, d, 1.0) if divided else -hinge
        g = np.where(same, 1.0, of_unlike)[:, None] * (a - b) / len(a)
        return np.where(same, d**2, hinge**2).mean() / 2, (g, -g)

    if divided:
        assert check(candidate, "pair_contrastive").ok
    else:
        text = said(candidate, "pair_contrastive")
        assert "the share of the negatives, not divided by the distance, stands where" in text
        assert "zzᵀ" not in text


@pytest.mark.parametrize("loss", ["debiased", "hcl"])
@pytest.mark.parametrize(
    "mistake", ["", "the positive in the correction of the negatives", "holds back counts 1 times"]
)
def test_corrected_negatives(loss: str, mistake: str) -> None:
    beta, plus, t = (1.0 if loss == "hcl" else 0.0), 0.1, 0.5

    def candidate(a: Any, b: Any) -> Any:
        n, x = len(a), np.concatenate([a, b])
        eye, same = np.eye(2 * n, dtype=bool), np.eye(2 * n, dtype=bool)[(np.arange(2 * n) + n) % (2 * n)]
        e = np.exp(unit(x) @ unit(x).T / t)
        rest, pos, count = ~eye & ~same, np.sum(e * same, axis=1, keepdims=True), 2 * n - 2
        up, down = e ** (1 + beta) * rest, e**beta * rest
        up_sum, down_sum = np.sum(up, axis=1, keepdims=True), np.sum(down, axis=1, keepdims=True)
        total = count * up_sum / np.maximum(down_sum, 1e-300)
        raw, floor = (total - plus * count * pos) / (1 - plus), count * np.exp(-1 / t)
        push = ((1 + beta) * up / np.maximum(up_sum, 1e-300) - beta * down / np.maximum(down_sum, 1e-300)) * total
        sent = plus * count * pos * same * ("correction" not in mistake)
        slope = (push - sent) / (1 - plus) * ((raw >= floor) | ("holds back" in mistake))
        negatives = np.maximum(raw, floor)
        g = (slope - same * negatives) / (pos + negatives) / (2 * n * t)
        dx = project((g + g.T) @ unit(x), x)
        return np.mean(np.log1p(negatives / pos)), (dx[:n], dx[n:])

    settings = {"temperature": t, "tau_plus": plus} | ({"beta": beta} if beta else {})
    if mistake:
        text = said(candidate, loss, **settings)
        assert mistake in text
        assert "not that of the value" not in text
    else:
        assert check(candidate, loss, **settings).ok


@pytest.mark.parametrize("more", [{}, {"law": "power"}, {"detach": False}, {"alpha": 0.25, "alignment": 0.1}])
def test_a_temperature_that_is_not_the_constant_asked_for(more: dict[str, Any]) -> None:
    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        value, grads = refcl.macl(a, b, temperature, **(more | {"detach": True}))
        excess = np.mean(np.sum(unit(a) * unit(b), axis=1)) - more.get("alignment", 0.0)
        alpha = more.get("alpha", 0.5)
        of = np.log(alpha) if "law" in more else alpha / (1 + alpha * excess)
        of *= float(grads.dtemperature) * temperature / len(a)
        if "detach" in more:  # the weights alone are detached
            return value, (grads.da + project(of * unit(b), a), grads.db + project(of * unit(a), b))
        return value, (grads.da + project(of * unit(b), a), grads.db + project(of * unit(a), b), grads.dtemperature)

    part = "the weights counts 0 times" if "detach" in more else "the temperature counts 1 times"
    assert f"da is right but for one part: what goes through {part} [da, db]" in said(candidate, "macl", **more)


@pytest.mark.parametrize("views", [2, 3, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("detached", [True, False])
def test_detached_candidates_of_several_views(views: int, detached: bool) -> None:
    def candidate(views: Any, temperature: Any) -> Any:
        x, z, n, t = views, [unit(y) for y in views], len(views[0]), temperature
        value, dz = 0.0, [np.zeros_like(y) for y in z]
        for i in range(len(z)):
            for j in set(range(len(z))) - {i}:
                loss, g = softmax(z[i] @ z[j].T / t, np.eye(n))
                value += loss.mean()
                dz[i] += g @ z[j] / n / t
                dz[j] += 0.0 if detached else g.T @ z[i] / n / t
        return value, tuple(project(d, y) for d, y in zip(dz, x, strict=True))

    report = check(candidate, "cmc", views=views)
    assert report.verdict == ("keys-detached" if detached else "correct")
    assert "step" not in str(report)


@pytest.mark.parametrize("loss", ["softmax_contrastive", "triplet"])
def test_other_entries_of_similarities(loss: str) -> None:
    def largest(s: Any, temperature: Any) -> Any:
        value, _ = refcl.softmax_contrastive(s, temperature)
        g = np.eye(s.shape[1])[np.argmax(s, axis=1)] - np.eye(*s.shape)
        return value, (g / len(s) / temperature,)

    def violating(s: Any) -> Any:
        hinge, same = s - np.diag(s)[:, None] + 0.2, np.eye(*s.shape, dtype=bool)
        on = (hinge > 0) & ~same
        value = np.maximum(np.where(same, 0.0, hinge), 0).max(axis=1).mean()
        return value, ((on - same * on.sum(axis=1, keepdims=True)) / len(s),)

    if loss == "triplet":
        words, text = "what every negative within the margin sends stands", said(violating, loss, margin=0.2)
    else:
        words, text = "a push of 1 of the largest logit stands", said(largest, loss)
    assert words in text


@pytest.mark.parametrize(("f", "words"), [(np.mean, "the mean of"), (np.sum, "the sum of")])
def test_temperatures_that_share_a_gradient(f: Callable[[Any], Any], words: str) -> None:
    def candidate(s: Any, temperature: Any) -> Any:
        value, (ds, dtemperature) = refcl.per_anchor_contrastive(s, temperature)
        return value, (ds, np.full_like(temperature, f(dtemperature)))

    assert f"the gradient dtemperature is {words} all its entries, in each" in said(candidate, "per_anchor_contrastive")
