"""One table of cases over every pair and every public function of the core.

In:  sizes.  Out: inputs, in float64 on the host, on which a pair is smooth; never τ = 1, never N = D.
The core is scanned: a pair or a function without a case fails `test_contract.py`.
"""

import importlib
import inspect
import pkgutil
import zlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from backends import leaves

import refcl
from refcl import Pair, encoder, hardness, losses, metrics, pairing, penalty, pooling, reduce, similarity, sphere

# The tiled losses are the core's own, but not written against the standard: test_tiled.py says what holds there.
OUTER_WINGS = ("refcl.experiment", "refcl.oracle", "refcl.tiled", "refcl.__main__")


class Sizes(NamedTuple):
    n: int  # anchors
    m: int  # candidates
    d: int  # dimensions


SMALL, LARGE, ONE_ROW, ONE_COLUMN = Sizes(4, 7, 3), Sizes(24, 40, 16), Sizes(1, 5, 3), Sizes(4, 6, 1)


class Case(NamedTuple):
    name: str
    function: Any  # a Pair, or a public function
    inputs: tuple[Any, ...]  # positional arguments: trees of arrays, and None where an argument is left out
    settings: dict[str, Any]  # keyword arguments

    @property
    def step(self) -> float:
        """Return the step of differences: small beside what the function bends over, which is the temperature."""
        scalars = [float(x) for x in leaves(self.inputs) if isinstance(x, np.ndarray) and x.ndim == 0]
        return min([3e-4, *(3e-3 * abs(x) for x in scalars)])


Built = tuple[tuple[Any, ...], dict[str, Any]]
Builder = Callable[[np.random.Generator, Sizes], Built]


class Spec(NamedTuple):
    function: Any
    variant: str
    build: Builder

    def case(self, sizes: Sizes) -> Case:
        name = f"{self.function.__name__}-{self.variant}"
        rng = np.random.default_rng([zlib.crc32(name.encode()), *sizes])
        inputs, settings = self.build(rng, sizes)
        return Case(name, self.function, inputs, settings)


def scalar(value: float) -> Any:
    return np.array(value)


def rows(rng: np.random.Generator, n: int, d: int) -> Any:
    """Draw rows of unequal length."""
    return rng.standard_normal((n, d)) * rng.uniform(0.5, 2.0, (n, 1))


def cosines(rng: np.random.Generator, n: int, m: int) -> Any:
    """Draw similarities in (−1, 1), no two of a row nearer than a quarter of their mean distance: no kink is near."""
    even = np.linspace(-0.95, 0.95, m) + rng.uniform(-0.35, 0.35, (n, m)) * 1.9 / max(m - 1, 1)
    return np.clip(rng.permuted(even, axis=1), -0.99, 0.99)


def roles(rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    """Draw positives off the diagonal, and ignore about a quarter of the candidates, but not all."""
    ignore = rng.uniform(size=(n, m)) < 0.25
    positive = rng.integers(0, m, n)
    ignore[np.arange(n), (positive + 1) % m] = False
    return {"positive": positive, "ignore": ignore}


def negatives(rng: np.random.Generator, n: int, m: int) -> Any:
    mask = rng.uniform(size=(n, m)) < 0.7
    mask[:, -1] = True
    return mask


def build_linear(rng: np.random.Generator, z: Sizes) -> Built:
    return (rows(rng, z.n, z.d + 2), rows(rng, z.d + 2, z.d), rng.standard_normal(z.d)), {}


def build_batch_norm(training: bool) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        inputs = (rows(rng, z.n, z.d), rng.uniform(0.5, 2.0, z.d), rng.standard_normal(z.d))
        running = (rng.standard_normal(z.d), rng.uniform(0.5, 2.0, z.d))
        return inputs, {"training": training, "running": None if training else running, "eps": 1e-3}

    return build


def build_relu(rng: np.random.Generator, z: Sizes) -> Built:
    return (rng.uniform(0.1, 1.0, (z.n, z.d)) * rng.choice([-1.0, 1.0], (z.n, z.d)),), {}


def build_mlp(batch_norm: bool, training: bool = True) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        params = encoder.he_init(rng, (z.d + 2, 6, 5, z.d), batch_norm=batch_norm)
        params = tuple(tuple(x + 0.1 * rng.standard_normal(x.shape) for x in layer) for layer in params)
        settings: dict[str, Any] = {"training": training, "eps": 1e-3}
        if not training:
            settings["running"] = tuple(
                tuple(0.2 * rng.standard_normal(x.shape) + first for first, x in enumerate(layer))
                for layer in encoder.initial_running(params)
            )
        return (rows(rng, z.n, z.d + 2), params), settings

    return build


def build_normalize(eps: float) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        h = rows(rng, z.n, z.d)
        h[0] *= 0.1 / np.linalg.norm(h[0])
        return (h,), {"eps": eps}

    return build


def build_inner_product(rng: np.random.Generator, z: Sizes) -> Built:
    return (rows(rng, z.n, z.d), rows(rng, z.m, z.d)), {}


def build_similarities(**settings: Any) -> Builder:
    """Similarities alone; settings that are functions are called with the generator and the sizes."""

    def build(rng: np.random.Generator, z: Sizes) -> Built:
        return (cosines(rng, z.n, z.m),), _settings(settings, rng, z.n, z.m)

    return build


def build_pool(*last: Any, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        s_neg = cosines(rng, z.n, z.m)
        others = [x(rng, z) if callable(x) else x for x in last]
        return (rng.uniform(-1, 1, z.n), s_neg, *others), {"negatives": negatives(rng, z.n, z.m), **settings}

    return build


def build_gap(rng: np.random.Generator, z: Sizes) -> Built:
    return (rng.uniform(0.1, 3.0, z.n) * np.where(np.arange(z.n) % 2, -1.0, 1.0),), {}


def build_losses(reduction: str) -> Builder:
    return lambda rng, z: ((rng.standard_normal((2, z.n)),), {"reduction": reduction})


def _settings(settings: dict[str, Any], rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in settings.items():
        made |= value(rng, n, m) if name == "roles" else {name: value}
    return made


def on_similarities(*scalars: Any, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        return (cosines(rng, z.n, z.m), *scalars), _settings(settings, rng, z.n, z.m)

    return build


def on_embeddings(*scalars: Any, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        return (rows(rng, z.n, z.d), rows(rng, z.m, z.d), *scalars), _settings(settings, rng, z.n, z.m)

    return build


def two_sided(number: Any, *, stacked: bool, ignore: bool = False, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        n = 2 * z.n if stacked else z.n
        mask = {"ignore": rng.uniform(size=(n, n)) < 0.25} if ignore else {}
        return (rows(rng, z.n, z.d), rows(rng, z.n, z.d), number), {**settings, **mask}

    return build


def build_own_product(rng: np.random.Generator, z: Sizes) -> Built:
    return (rows(rng, z.n, z.d), rng.standard_normal((z.n, z.m, z.d))), {}


def build_bilinear(rng: np.random.Generator, z: Sizes) -> Built:
    return (rows(rng, z.n, z.d), rows(rng, z.m, z.d + 2), rows(rng, z.d, z.d + 2)), {}


def build_separate(rng: np.random.Generator, z: Sizes) -> Built:
    inputs = (rng.uniform(-1, 1, z.n), cosines(rng, z.n, z.m), scalar(4.0), scalar(-1.5))
    return inputs, {"negatives": np.ones((z.n, z.m), dtype=bool)}  # where masked, a gap is −inf: see test_pairwise


def against_bank(temperature: float, *, ignore: bool = False, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        memory = {"bank": rows(rng, z.m, z.d), "index": rng.integers(0, z.m, z.n)}
        mask = {"ignore": rng.uniform(size=(z.n, z.m)) < 0.25} if ignore else {}
        return (rows(rng, z.n, z.d), scalar(temperature)), {**memory, **mask, **settings}

    return build


def against_noise(temperature: float, *, ignore: bool = False, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        inputs, memory = against_bank(temperature)(rng, z)
        memory["noise"] = rng.integers(0, z.m, (z.n, z.m + 2))
        if ignore:
            memory["ignore"] = rng.uniform(size=(z.n, z.m + 2)) < 0.25
        return inputs, {**memory, **settings}

    return build


def against_queue(temperature: float, *, ignore: bool = False, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        mask = {"ignore": rng.uniform(size=(z.n, z.m)) < 0.25} if ignore else {}
        inputs = (rows(rng, z.n, z.d), rows(rng, z.n, z.d), scalar(temperature))
        return inputs, {"queue": rows(rng, z.m, z.d), **mask, **settings}

    return build


def build_many_views(count: int, *, ignore: bool = False, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        mask = {"ignore": rng.uniform(size=(z.n, z.n)) < 0.25} if ignore else {}
        views = tuple(rows(rng, z.n, z.d) for _ in range(count))
        return (views, scalar(0.3)), {**mask, **settings}

    return build


def build_futures(steps: int | None, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        ahead = () if steps is None else (steps,)
        future, weight = (rng.standard_normal((*ahead, n, z.d + 2)) for n in (z.m, z.d))
        return (rows(rng, z.n, z.d), future, weight / z.d), _settings(settings, rng, z.n, z.m)

    return build


def build_pairs(**settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        return (rows(rng, z.n, z.d), rows(rng, z.n, z.d)), {"same": np.arange(z.n) % 2 == 0, **settings}

    return build


def without_negatives(rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    ignore = np.zeros((n, m), dtype=bool)
    ignore[0] = True
    return {"ignore": ignore}


def variants(build: Callable[..., Builder], *scalars: Any, **settings: Any) -> Iterator[tuple[str, Builder]]:
    """Yield the cases that every loss of anchors by candidates has."""
    yield "diagonal", build(*scalars, **settings)
    yield "roles", build(*scalars, roles=roles, reduction="sum", **settings)
    yield "each", build(*scalars, roles=roles, reduction="none", **settings)
    yield "without-negatives", build(*scalars, roles=without_negatives, reduction="none", **settings)


def _specs() -> Iterator[tuple[Any, str, Builder]]:
    yield encoder.linear, "plain", build_linear
    yield encoder.batch_norm, "training", build_batch_norm(True)
    yield encoder.batch_norm, "evaluation", build_batch_norm(False)
    yield encoder.relu, "plain", build_relu
    yield encoder.mlp, "plain", build_mlp(False)
    yield encoder.mlp, "batch-norm", build_mlp(True)
    yield encoder.mlp, "evaluation", build_mlp(True, training=False)
    yield sphere.l2_normalize, "plain", build_normalize(1e-12)
    yield sphere.l2_normalize, "short-row", build_normalize(0.2)
    yield similarity.inner_product, "plain", build_inner_product
    yield similarity.own_product, "plain", build_own_product
    yield similarity.bilinear, "plain", build_bilinear
    yield pairing.pairing, "diagonal", build_similarities()
    yield pairing.pairing, "roles", build_similarities(roles=roles)
    for temperature in (0.07, 0.3, 20.0):
        yield pooling.soft_maximum, f"{temperature}", build_pool(scalar(temperature))
    yield pooling.maximum, "plain", build_pool()
    yield pooling.maximum, "margin", build_pool(margin=0.3)
    yield pooling.weighted_sum, "plain", build_pool(lambda rng, z: rng.uniform(0.1, 2.0, z.n))
    yield pooling.separate, "plain", build_separate
    yield penalty.softplus, "plain", build_gap
    yield penalty.identity, "plain", build_gap
    yield penalty.hinge, "plain", build_gap
    for reduction in ("mean", "sum", "none"):
        yield reduce.reduce, reduction, build_losses(reduction)

    for name, build in variants(on_similarities, scalar(0.2)):
        yield losses.softmax_contrastive, name, build
    yield losses.softmax_contrastive, "cold", on_similarities(scalar(0.03))
    yield losses.softmax_contrastive, "hot", on_similarities(scalar(30.0))
    for name, build in variants(on_similarities, scalar(0.7)):
        yield losses.simple_contrastive, name, build
    yield losses.simple_contrastive, "default-weight", on_similarities(None, roles=roles)
    for name, build in variants(on_similarities, scalar(0.2), hardest=0.4):
        yield losses.hard_softmax_contrastive, name, build
    yield losses.hard_softmax_contrastive, "count", on_similarities(scalar(0.3), hardest=2)
    for name, build in variants(on_similarities, scalar(0.7), hardest=0.4):
        yield losses.hard_simple_contrastive, name, build
    yield losses.hard_simple_contrastive, "default-weight", on_similarities(None, hardest=2, roles=roles)
    for name, build in variants(on_similarities):
        yield losses.triplet, name, build
    yield losses.triplet, "margin", on_similarities(margin=0.6)

    for name, build in variants(on_embeddings, scalar(0.2)):
        yield losses.info_nce, name, build
    yield losses.info_nce, "as-they-are", on_embeddings(scalar(0.7), normalize=False)
    for name, build in variants(on_embeddings, scalar(0.7)):
        yield losses.simple_loss, name, build
    yield losses.simple_loss, "default-weight", on_embeddings(None)
    for name, build in variants(on_embeddings, scalar(0.2), hardest=0.4):
        yield losses.hard_info_nce, name, build
    for name, build in variants(on_embeddings, scalar(0.7), hardest=2):
        yield losses.hard_simple_loss, name, build
    for pair, stacked, number in ((losses.nt_xent, True, scalar(0.5)), (losses.clip, False, scalar(1.5))):
        yield pair, "plain", two_sided(number, stacked=stacked)
        yield pair, "ignore", two_sided(number, stacked=stacked, ignore=True, reduction="sum")
        yield pair, "each", two_sided(number, stacked=stacked, ignore=True, reduction="none")
        yield pair, "as-they-are", two_sided(number, stacked=stacked, normalize=False)
    yield losses.nt_xent, "views-added", two_sided(scalar(0.5), stacked=True, add_views=True)
    yield losses.clip, "clamped", two_sided(scalar(1.5), stacked=False, clamp=(0.0, 2.0))

    for pair, build in ((losses.inst_disc, against_bank), (losses.moco, against_queue)):
        yield pair, "plain", build(0.2)
        yield pair, "ignore", build(0.2, ignore=True, reduction="sum")
        yield pair, "each", build(0.2, ignore=True, reduction="none")
        yield pair, "as-they-are", build(0.7, normalize=False)
    for name, settings in (
        ("plain", {}),
        ("stabilizer", {"stabilizer": 0.05, "ignore": True, "reduction": "sum"}),
        ("each", {"reduction": "none"}),
        ("as-they-are", {"normalize": False}),
    ):
        yield losses.nce, name, against_noise(0.3, log_normalizer=1.7, **settings)
    for name, core in (("all-pairs", False), ("first", True), ("core", 2)):
        yield losses.cmc, name, build_many_views(4, core=core)
    yield losses.cmc, "two-views", build_many_views(2, ignore=True, reduction="sum")
    yield losses.cmc, "each", build_many_views(3, ignore=True, reduction="none")
    yield losses.cmc, "as-they-are", build_many_views(3, normalize=False)
    yield losses.cpc, "steps", build_futures(2)
    yield losses.cpc, "roles", build_futures(3, roles=roles, reduction="sum")
    yield losses.cpc, "each", build_futures(2, roles=roles, reduction="none")
    yield losses.cpc, "one-step", build_futures(None, roles=roles, reduction="none")
    for name, build in variants(on_embeddings, scalar(1.5), scalar(-2.5)):
        yield losses.sig_lip, name, build
    yield losses.sig_lip, "as-they-are", on_embeddings(scalar(0.5), scalar(0.7), normalize=False)
    for otherwise in ("skip", "easiest", "hardest"):
        for name, build in variants(on_similarities, margin=0.7, otherwise=otherwise):
            yield losses.semi_hard_triplet, f"{name}-{otherwise}", build
    for reduction in ("mean", "sum", "none"):
        yield losses.pair_contrastive, reduction, build_pairs(margin=6.0, reduction=reduction)

    for alpha in (2.0, 1.5):
        yield metrics.alignment, f"{alpha}", build_views(alpha)
    for t in (2.0, 0.3):
        yield metrics.uniformity, f"{t}", build_embeddings(t)


def _function_specs() -> Iterator[tuple[Any, str, Builder]]:
    for function in (hardness.relative_penalty, hardness.penalty_entropy, hardness.entropy_slope):
        yield function, "diagonal", on_similarities(scalar(0.2))
        yield function, "roles", on_similarities(scalar(0.3), roles=roles)
        yield function, "hardest", on_similarities(scalar(0.3), roles=roles, hardest=0.4)
    for limit in (hardness.small_temperature_bound, hardness.large_temperature_form):
        yield limit, "diagonal", on_similarities(scalar(0.2))
        yield limit, "roles", on_similarities(scalar(0.3), roles=roles)
    yield losses.nce_log_normalizer, "plain", against_noise(0.3)
    yield losses.nce_log_normalizer, "as-they-are", against_noise(0.3, normalize=False)
    yield hardness.temperature_for_entropy, "diagonal", on_similarities(0.9)
    yield hardness.balance, "diagonal", build_similarities()
    yield hardness.balance, "positive", build_similarities(roles=lambda rng, n, m: {"positive": rng.integers(0, m, n)})
    for normalized in (True, False):
        for self_pairs in (True, False):
            yield metrics.tolerance, f"{normalized}-{self_pairs}", build_labelled(normalized, self_pairs)
    yield metrics.local_separation, "diagonal", build_similarities(nearest=3)
    yield metrics.local_separation, "roles", build_similarities(nearest=1, roles=roles)
    for hardest in (0.4, 2):
        yield pooling.hardest_negatives, f"{hardest}", build_hardest(hardest)


def build_views(alpha: float) -> Builder:
    return lambda rng, z: ((rows(rng, z.n, z.d), rows(rng, z.n, z.d)), {"alpha": alpha})


def build_embeddings(t: float) -> Builder:
    # One row makes no pair: two at least.
    return lambda rng, z: ((rows(rng, max(z.n, 2), z.d) / 3,), {"t": t})


def build_labelled(normalized: bool, self_pairs: bool) -> Builder:
    settings = {"normalized": normalized, "self_pairs": self_pairs}
    return lambda rng, z: ((rows(rng, z.n, z.d), np.arange(z.n) // 2 % 3), settings)


def build_hardest(hardest: float | int) -> Builder:
    return lambda rng, z: ((cosines(rng, z.n, z.m), negatives(rng, z.n, z.m)), {"hardest": hardest})


# Their builders come from this file: it has to stand before they are read.
descendants = importlib.import_module("cases_descendants")
SPECS = [Spec(*spec) for spec in [*_specs(), *descendants.specs()]]
FUNCTION_SPECS = [Spec(*spec) for spec in [*_function_specs(), *descendants.function_specs()]]
PAIR_CASES = [spec.case(SMALL) for spec in SPECS]
# One case of each pair, its first that leaves no argument out.
WHOLE = [case for case in PAIR_CASES if all(x is not None for x in case.inputs)]
ONE_OF_EACH = list({case.function.__name__: case for case in reversed(WHOLE)}.values())
FUNCTION_CASES = [spec.case(SMALL) for spec in FUNCTION_SPECS]


def named(case: Any) -> str:
    """Return how pytest calls a case."""
    return str(case.name)


def core_modules() -> list[ModuleType]:
    """Return every module of the middle wing."""
    names = [
        info.name for info in pkgutil.walk_packages(refcl.__path__, "refcl.") if not info.name.startswith(OUTER_WINGS)
    ]
    return [refcl, *(importlib.import_module(name) for name in names)]


def core_pairs() -> dict[str, Pair]:
    """Return every pair that the core defines, by its name."""
    found = [value for module in core_modules() for value in vars(module).values() if isinstance(value, Pair)]
    return {pair.__name__: pair for pair in found}


# Of the core's functions that are no pair's, those that users do not call.
INTERNAL_MODULES = ("refcl.backend", "refcl.interrupt", "refcl.validate")
INTERNAL = {"check_roles", "all_but_ignored", "compare_forward", "compare_backward"}
INTERNAL |= {"check_similarities", "check_views", "roles_of", "stack_forward", "stack_backward"}
# Functions of no array, or of parameters: their own files test them.
OF_THE_HOST = {"he_init", "initial_running", "updated_running", "uniform_law_uniformity", "mutual_information_bound"}


def core_functions() -> dict[str, Callable[..., Any]]:
    """Return every public function of the core that is not half of a pair."""
    halves = {half for pair in core_pairs().values() for half in (pair.forward, pair.backward)}
    return {
        name: value
        for module in core_modules()
        if module.__name__ not in INTERNAL_MODULES
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and value not in halves
        and name not in INTERNAL
    }
