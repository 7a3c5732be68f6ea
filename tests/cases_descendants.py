"""Cases of the losses that grew from the softmax loss, for the table in `cases`.

In:  sizes.  Out: as there: inputs on which a pair is smooth. Where a setting detaches something, the gradient is not
that of the value: only what is let through stands here, and `test_family_descendants` holds the rest.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from cases import (
    Builder,
    Built,
    Sizes,
    build_gap,
    build_pool,
    cosines,
    on_similarities,
    roles,
    rows,
    scalar,
    two_sided,
    variants,
)

from refcl import losses, penalty, positives, reweighting


def many_positives(rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    """Draw any number of positives: at least two in the first row, none in the last of several."""
    mask = rng.uniform(size=(n, m)) < 0.4
    mask[0, :2], mask[:, -1] = True, False
    if n > 1:
        mask[-1] = False
    return {"positives": mask}


def many_roles(rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    ignore = rng.uniform(size=(n, m)) < 0.25
    ignore[:, -1] = False
    return {**many_positives(rng, n, m), "ignore": ignore}


def apart(rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    """Draw a second pool of about half the candidates, so that neither pool of the first row is empty."""
    mask = rng.uniform(size=(n, m)) < 0.5
    mask[:, -1], mask[:, -2] = True, False
    return {"apart": mask}


def on_many_positives(temperature: float, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        s = cosines(rng, z.n, z.m)
        made: dict[str, Any] = {}
        for name, value in settings.items():
            made |= value(rng, z.n, z.m) if callable(value) else {name: value}
        return (s, scalar(temperature)), made

    return build


def build_contest(rng: np.random.Generator, z: Sizes) -> Built:
    mask = many_positives(rng, z.n, z.m)["positives"]
    mask[-1, 0] = True  # a gap of −inf has no derivative by differences
    return (cosines(rng, z.n, z.m), scalar(0.2)), {"positives": mask, "negatives": ~mask}


def labelled(temperature: float, *, ignore: bool = False, **settings: Any) -> Builder:
    """Draw rows of three classes, and one row alone in its class."""

    def build(rng: np.random.Generator, z: Sizes) -> Built:
        labels = np.arange(z.m) % 3
        labels[-1] = 7
        mask = {"ignore": rng.uniform(size=(z.m, z.m)) < 0.25} if ignore else {}
        return (rows(rng, z.m, z.d), scalar(temperature)), {"labels": labels, **settings, **mask}

    return build


def build_debias(rng: np.random.Generator, z: Sizes) -> Built:
    """Draw gaps of which the first is above its floor and the second below."""
    over = np.where(np.arange(z.n) % 2, -1.0, 1.0) * rng.uniform(0.5, 2.0, z.n)
    count = np.full(z.n, 5.0)
    inputs = (np.log(0.2 * count) + over, rng.uniform(-0.5, 0.9, z.n), scalar(0.4))
    return inputs, {"count": count, "tau_plus": 0.2}


def build_unevenness(**settings: Any) -> Builder:
    return lambda rng, z: ((rng.uniform(-0.9, 0.9, z.n),), settings)


def build_views(**settings: Any) -> Builder:
    # One row makes no pair: two at least.
    return lambda rng, z: ((rows(rng, max(z.n, 2), z.d), rows(rng, max(z.n, 2), z.d)), settings)


def build_per_anchor(**settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        made: dict[str, Any] = {}
        for name, value in settings.items():
            made |= value(rng, z.n, z.m) if callable(value) else {name: value}
        return (cosines(rng, z.n, z.m), rng.uniform(0.1, 0.8, z.n)), made

    return build


def build_fixed_entropy(**settings: Any) -> Builder:
    """Draw embeddings whose inner products differ, also in one dimension."""

    def build(rng: np.random.Generator, z: Sizes) -> Built:
        normalize = {"normalize": False} if z.d == 1 else {}
        return (rows(rng, z.n, z.d), rows(rng, z.m, z.d)), {**settings, **normalize}

    return build


def few_ignored(rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    """Leave at least three negatives, so that an entropy of .7 can be had."""
    ignore = np.zeros((n, m), dtype=bool)
    ignore[:, -1] = True
    return {"positive": rng.integers(0, m - 1, n), "ignore": ignore}


def specs() -> Iterator[tuple[Any, str, Builder]]:
    yield positives.contest, "plain", build_contest
    yield positives.spread, "plain", on_many_positives(0.2, positives=many_positives)
    for beta in (0.0, 1.5):
        yield reweighting.reweighted_soft_maximum, f"{beta}", build_pool(scalar(0.3), beta=beta)
    yield reweighting.debias, "plain", build_debias
    yield reweighting.unevenness, "mean", build_unevenness(sigma=0.4)
    yield reweighting.unevenness, "sum", build_unevenness(sigma=0.4, mass=2.0)
    yield penalty.weighted_softplus, "let-through", lambda rng, z: (build_gap(rng, z)[0], {"detach": False})

    for form in ("out", "in"):
        yield losses.supervised_contrastive, form, on_many_positives(0.2, positives=many_positives, form=form)
        yield (
            losses.supervised_contrastive,
            f"{form}-roles",
            on_many_positives(0.2, positives=many_roles, form=form, reduction="sum", base_temperature=0.07),
        )
        yield losses.sup_con, form, labelled(0.2, form=form)
    yield losses.supervised_contrastive, "each", on_many_positives(0.3, positives=many_roles, reduction="none")
    yield (
        losses.supervised_contrastive,
        "skip",
        on_many_positives(0.2, positives=many_positives, no_positive="skip", base_temperature=0.1),
    )
    yield losses.supervised_contrastive, "cold", on_many_positives(0.03, positives=many_positives)
    yield losses.sup_con, "conventions", labelled(0.2, base_temperature=0.07, no_positive="skip", normalize=False)
    yield losses.sup_con, "ignore", labelled(0.2, ignore=True, reduction="none")

    for name, build in variants(on_similarities, scalar(0.2)):
        yield losses.decoupled_contrastive, name, build
        yield losses.weighted_decoupled_contrastive, name, build
    for name, build in variants(on_similarities, scalar(0.3), tau_plus=0.1, beta=0.7):
        yield losses.reweighted_contrastive, name, build
    for name, build in variants(on_similarities, scalar(0.2), alpha=0.7, alignment=0.1, detach=False):
        yield losses.model_aware_contrastive, name, build
    power = {"alpha": 2.0, "alignment": 0.1, "law": "power", "detach": False}
    yield losses.model_aware_contrastive, "power", on_similarities(scalar(0.2), roles=roles, **power)
    yield losses.macl, "power", two_sided(scalar(0.3), stacked=True, **power)
    yield losses.decoupled_contrastive, "apart", on_similarities(scalar(0.2), roles=apart)
    yield (
        losses.weighted_decoupled_contrastive,
        "apart",
        on_similarities(scalar(0.2), roles=apart, sigma=0.3, mass=2.0, reduction="none"),
    )
    yield losses.reweighted_contrastive, "plain-softmax", on_similarities(scalar(0.2), tau_plus=0.0)
    yield losses.reweighted_contrastive, "debiased", on_similarities(scalar(0.5), tau_plus=0.3, roles=roles)

    for pair, settings in (
        (losses.dcl, {}),
        (losses.dclw, {"sigma": 0.4}),
        (losses.debiased, {"tau_plus": 0.1}),
        (losses.hcl, {"tau_plus": 0.1, "beta": 1.0}),
        (losses.macl, {"detach": False}),
    ):
        yield pair, "plain", two_sided(scalar(0.4), stacked=True, **settings)
        yield pair, "ignore", two_sided(scalar(0.4), stacked=True, ignore=True, reduction="sum", **settings)
        yield pair, "each", two_sided(scalar(0.4), stacked=True, ignore=True, reduction="none", **settings)
        # Inner products of any size would turn MACL's temperature negative at the usual α.
        gentle = {"alpha": 0.05} if pair is losses.macl else {}
        yield pair, "as-they-are", two_sided(scalar(0.7), stacked=True, normalize=False, **settings, **gentle)
    yield losses.dcl, "by-view", two_sided(scalar(0.2), stacked=True, negatives="by_view", add_views=True)
    yield (
        losses.dclw,
        "by-view",
        two_sided(scalar(0.2), stacked=True, negatives="by_view", add_views=True, normalizer="sum"),
    )
    yield (
        losses.macl,
        "other-view",
        two_sided(scalar(0.2), stacked=False, ignore=True, candidates="other_view", detach=False, reduction="none"),
    )
    yield losses.align_uniform, "plain", build_views()
    yield losses.align_uniform, "settings", build_views(align_weight=0.7, uniform_weight=1.3, alpha=1.5, t=0.8)
    yield losses.align_uniform, "as-they-are", build_views(t=0.3, normalize=False)

    yield losses.per_anchor_contrastive, "diagonal", build_per_anchor()
    yield losses.per_anchor_contrastive, "roles", build_per_anchor(roles=roles, reduction="none")
    yield losses.fixed_entropy_contrastive, "diagonal", on_similarities(entropy=0.9, detach=False)
    yield (
        losses.fixed_entropy_contrastive,
        "roles",
        on_similarities(entropy=0.7, detach=False, roles=few_ignored, reduction="none"),
    )
    yield losses.fixed_entropy, "diagonal", build_fixed_entropy(entropy=0.9, detach=False)


def directed(temperature: float, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        made: dict[str, Any] = {}
        for name, value in settings.items():
            made |= value(rng, z.n, z.m) if callable(value) else {name: value}
        return (cosines(rng, z.n, z.m), rng.standard_normal((z.n, z.m)), scalar(temperature)), made

    return build


def function_specs() -> Iterator[tuple[Any, str, Builder]]:
    for penalty_name in ("softplus", "identity"):
        yield losses.hessian_vector_product, penalty_name, directed(0.2, penalty=penalty_name)
        yield (
            losses.hessian_vector_product,
            f"{penalty_name}-hardest",
            directed(0.3, penalty=penalty_name, hardest=0.4, roles=roles, reduction="sum"),
        )
