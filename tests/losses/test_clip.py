"""CLIP's loss."""

import math
from typing import Any

import goldens
import numpy as np
import pytest
from backends import check_near
from cards import KEY, QUERY, Card, both, freedoms, scalar, two_sided, two_views
from digits import cosines, everyone, soft_value, softmax_value
from goldens import OF_EMBEDDINGS, both_views, embeddings, golden
from loops import Matrix, reduce, softmax_of_embeddings
from mpmath import mp, mpf
from peers import F, N, X, Y, check_same, derived, of_torch, open_clip_loss, torch
from peers import unit as on_sphere

import refcl


def clip(
    image: Matrix,
    text: Matrix,
    log_scale: float,
    own_negatives: Any = None,
    log_weight: Any = None,
    targets: Any = None,
    anchor_weight: Any = None,
    *,
    clamp: tuple[float, float] | None = None,
    ignore: Any = None,
    reduction: str = "mean",
    **settings: Any,
) -> Any:
    if clamp is not None:
        log_scale = min(max(log_scale, clamp[0]), clamp[1])
    turned = ignore and [list(column) for column in zip(*ignore, strict=True)]
    loss = []
    for side, (anchors, candidates, mask) in enumerate(((image, text, ignore), (text, image, turned))):
        own = own_negatives if side == 0 else None
        of_side = [x and x[side] for x in (log_weight, targets, anchor_weight)]
        tau = 1 / math.exp(log_scale)
        loss.append(
            softmax_of_embeddings(anchors, candidates, tau, own, *of_side, ignore=mask, reduction="none", **settings)
        )
    return reduce(loss, reduction=reduction)


def golden_rows() -> Any:
    for kind in OF_EMBEDDINGS:
        yield golden(
            "clip",
            [*both_views(kind), 3.0],
            lambda x, y, scale: (
                sum(softmax_value(cosines(*z), mp.exp(-scale), everyone(3, 3)) for z in ((x, y), (y, x))) / 2
            ),
            exact_s=False,
        )
        yield golden(
            "clip",
            [*both_views(kind), 3.0, embeddings("plain", 6).reshape(3, 2, 2), *goldens.freedoms(3, 3, 2)],
            both_ways,
            exact_s=False,
        )


def both_ways(image: Any, text: Any, log_scale: Any, own: Any, weights: Any, targets: Any, each: Any) -> Any:
    """Return the mean over images, which have negatives of their own, and texts."""
    tau, none = mp.exp(-log_scale), [mpf(0)] * 2
    s = [[*row, *cosines([z], rows)[0]] for row, z, rows in zip(cosines(image, text), image, own, strict=True)]
    weight, target = ([[*row, *none] for row in x[0]] for x in (weights, targets))
    of_images = soft_value(s, tau, weight, target, each[0])
    return (of_images + soft_value(cosines(text, image), tau, weights[1], targets[1], each[1])) / 2


CARDS = [
    Card(
        refcl.clip,
        [
            *two_sided(1.5, stacked=False),
            ("clamped", two_views(scalar(1.5), clamp=(0.0, 2.0))),
            *[(name, two_views(scalar(1.2), *more, **how)) for name, more, how in freedoms("2 N", "N", "N")],
        ],
        clip,
        golden_rows,
    )
]


def test_clip_reports_images_first_then_texts() -> None:
    each = refcl.clip(QUERY, KEY, 2.0, reduction="none")[0]
    tau = math.exp(-2.0)
    check_near(each[0], refcl.info_nce(QUERY, KEY, tau, reduction="none")[0], rtol=1e-14)
    check_near(each[1], refcl.info_nce(KEY, QUERY, tau, reduction="none")[0], rtol=1e-14)


def test_clip_ignores_a_pair_in_both_directions() -> None:
    ignore = np.zeros((4, 4), dtype=bool)
    ignore[1, 3] = True
    each = refcl.clip(QUERY, KEY, 2.0, ignore=ignore, reduction="none")[0]
    plain = refcl.clip(QUERY, KEY, 2.0, reduction="none")[0]
    assert np.argwhere(each != plain).tolist() == [[0, 1], [1, 3]]


class TestClamp:
    LOG_100 = math.log(100.0)

    @pytest.mark.parametrize("log_scale", [0.0, 2.0, LOG_100])
    def test_within_the_bounds_and_on_them_it_changes_nothing(self, log_scale: float) -> None:
        check_near(
            both(refcl.clip(QUERY, KEY, log_scale, clamp=(0.0, self.LOG_100))),
            both(refcl.clip(QUERY, KEY, log_scale)),
            rtol=0.0,
        )

    @pytest.mark.parametrize(("log_scale", "bound"), [(-0.5, 0.0), (4.7, LOG_100)])
    def test_outside_the_bounds_the_scale_has_no_gradient(self, log_scale: float, bound: float) -> None:
        value, grads = refcl.clip(QUERY, KEY, log_scale, clamp=(0.0, self.LOG_100))
        same, others = refcl.clip(QUERY, KEY, bound)
        check_near((value, grads.dimage, grads.dtext), (same, others.dimage, others.dtext), rtol=0.0)
        assert grads.dlog_scale == 0.0
        assert others.dlog_scale != 0.0

    def test_in_float32_the_bound_is_that_of_float32(self) -> None:
        """float32(log 100) lies above log 100: it is no step outside."""
        image, text = QUERY.astype(np.float32), KEY.astype(np.float32)
        _, grads = refcl.clip(image, text, np.float32(self.LOG_100), clamp=(0.0, self.LOG_100))
        assert float(np.float32(self.LOG_100)) > self.LOG_100
        assert grads.dlog_scale != 0.0

    def test_nan_stays_nan(self) -> None:
        value, grads = refcl.clip(QUERY, KEY, np.array(np.nan), clamp=(0.0, 4.0))
        assert np.isnan(value)
        assert np.isnan(grads.dlog_scale)


def test_the_scale_is_the_temperature_s_inverse() -> None:
    (_, grads), ways = refcl.clip(QUERY, KEY, -math.log(0.07)), ((QUERY, KEY), (KEY, QUERY))
    both_ways = [refcl.info_nce(*way, 0.07)[1].dtemperature for way in ways]
    check_near(grads.dlog_scale, -0.07 * sum(both_ways) / 2, rtol=1e-13)


@of_torch
def test_clip_is_both_cross_entropies_in_pytorch() -> None:
    functional = torch.nn.functional

    def clip(image: Any, text: Any, log_scale: Any) -> Any:
        logits = log_scale.exp() * functional.normalize(image) @ functional.normalize(text).T
        target = torch.arange(6)
        return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2

    check_same(refcl.clip(X, Y, 2.5), derived(clip, X, Y, 2.5))


@of_torch
@pytest.mark.parametrize("log_scale", [-0.25, 0.0, 2.0, float(np.log(100.0)), 4.75])
def test_clip_s_clamp_is_that_of_torch(log_scale: float) -> None:
    """At the bounds too, where the derivative is a matter of convention."""
    bounds = (0.0, float(np.log(100.0)))

    def loss(image: Any, text: Any, log_scale: Any) -> Any:
        logits = torch.exp(torch.clamp(log_scale, *bounds)) * on_sphere(image) @ on_sphere(text).T
        diagonal = torch.arange(N)
        return (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)) / 2

    check_same(refcl.clip(X, Y, log_scale, clamp=bounds), derived(loss, X, Y, log_scale))


@of_torch
def test_open_clip_s_loss() -> None:
    loss = open_clip_loss()
    scale = 4.0

    def clip(image: Any, text: Any) -> Any:
        return loss.ClipLoss()(on_sphere(image), on_sphere(text), scale)

    def sig_lip(image: Any, text: Any) -> Any:
        return loss.SigLipLoss()(on_sphere(image), on_sphere(text), scale, -2.5)

    value, grads = refcl.clip(X, Y, np.log(scale))
    check_same((value, grads[:2]), derived(clip, X, Y))
    value, grads = refcl.sig_lip(X, Y, np.log(scale), -2.5)
    check_same((value, grads[:2]), derived(sig_lip, X, Y))


@of_torch
def test_momentum_distillation_as_albef_writes_it() -> None:
    """Two distributions, one a direction, and minus their log-softmax's mean: the targets are constants."""
    rng = np.random.default_rng(4)
    to_text, to_image = rng.dirichlet(np.ones(N), (2, N))

    def theirs(image: Any, text: Any) -> Any:
        s = on_sphere(image) @ on_sphere(text).T / 0.07
        forth = -torch.sum(F.log_softmax(s, dim=1) * torch.tensor(to_text), dim=1).mean()
        back = -torch.sum(F.log_softmax(s.T, dim=1) * torch.tensor(to_image), dim=1).mean()
        return (forth + back) / 2

    value, grads = refcl.clip(X, Y, -math.log(0.07), None, None, np.stack([to_text, to_image]))
    check_same((value, grads[:2]), derived(theirs, X, Y))
