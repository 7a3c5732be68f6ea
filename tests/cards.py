"""What a card is made of: inputs on which a function is smooth, its twin in loops, its golden rows.

In:  sizes.  Out: inputs, in float64 on the host; never τ = 1, never N = D.
A card stands in the test file that is named after the function's module; `cases` collects them. So this file and the
cards import nothing from there.
"""

import inspect
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from backends import leaves


class Sizes(NamedTuple):
    n: int  # anchors
    m: int  # candidates
    d: int  # dimensions


SMALL, LARGE, ONE_ROW, ONE_COLUMN = Sizes(4, 7, 3), Sizes(24, 40, 16), Sizes(1, 5, 3), Sizes(4, 6, 1)

Built = tuple[tuple[Any, ...], dict[str, Any]]  # positional arguments, settings
Builder = Callable[[np.random.Generator, Sizes], Built]
Variants = Iterable[tuple[str, Builder]]


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


class Card(NamedTuple):
    function: Any  # a Pair, or a public function
    variants: Variants
    loops: Callable[..., Any]  # the same in plain Python: lists, loops and math, and no code of refcl
    golden: Callable[[], Iterator[dict[str, Any]]] | None = None  # its rows of golden data, at 50 digits

    def case(self, variant: str, build: Builder, sizes: Sizes) -> Case:
        name = f"{self.function.__name__}-{variant}"
        rng = np.random.default_rng([zlib.crc32(name.encode()), *sizes])
        inputs, settings = build(rng, sizes)
        return Case(name, self.function, (*inputs, *self._left_out(len(inputs))), settings)

    def _left_out(self, given: int) -> list[None]:
        """Return a None for each positional argument of a pair that a case stops before."""
        parameters = inspect.signature(self.function).parameters
        return [None for name in getattr(self.function, "arguments", ())[given:] if parameters[name].default is None]

    def cases(self, sizes: Sizes) -> list[Case]:
        return [self.case(variant, build, sizes) for variant, build in self.variants]


# Inputs.


def scalar(value: float) -> Any:
    return np.array(value)


def rows(rng: np.random.Generator, n: int, d: int) -> Any:
    """Draw rows of unequal length."""
    return rng.standard_normal((n, d)) * rng.uniform(0.5, 2.0, (n, 1))


def cosines(rng: np.random.Generator, n: int, m: int) -> Any:
    """Draw similarities in (−1, 1), no two of a row nearer than a quarter of their mean distance: no kink is near."""
    even = np.linspace(-0.95, 0.95, m) + rng.uniform(-0.35, 0.35, (n, m)) * 1.9 / max(m - 1, 1)
    return np.clip(rng.permuted(even, axis=1), -0.99, 0.99)


# Settings that depend on the sizes: who is what to whom.


def roles(rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    """Draw positives off the diagonal, and ignore about a quarter of the candidates, but not all."""
    ignore = rng.uniform(size=(n, m)) < 0.25
    positive = rng.integers(0, m, n)
    ignore[np.arange(n), (positive + 1) % m] = False
    return {"positive": positive, "ignore": ignore}


def drawn(letters: str, how: str = "normal") -> Any:
    """Return what draws an array of these letters: normal, rows that are a distribution, or weights around 1."""

    def draw(rng: np.random.Generator, z: Sizes) -> Any:
        size = {"N": z.n, "2N": 2 * z.n, "M": z.m, "D": z.d, "H": 2, "2": 2}
        shape = tuple(size[letter] for letter in letters.split())
        if how == "distribution":
            return rng.dirichlet(np.full(shape[-1], 0.7), shape[:-1])
        return rng.uniform(0.5, 1.5, shape) if how == "weight" else rng.standard_normal(shape)

    return draw


def freedoms(rows: str, columns: str, own: str = "") -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Return what the softmax losses take beside one positive: a name, positional arguments and settings each."""
    entries, first = f"{rows} {columns}", [drawn(f"{own} H D")] if own else []
    targets, weights, each = drawn(entries, "distribution"), drawn(entries), drawn(rows, "weight")
    alone = [] if own else [("targets", (None, targets), {"label_smoothing": 0.2, "reduction": "none"})]
    return [
        *alone,
        ("weights", (*first, weights, None, each), {"angular_margin": 0.4, "margin": 0.1}),
        ("everything", (*first, weights, targets, each), {"label_smoothing": 0.1, "reduction": "sum"}),
    ]


def positives_only(rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    return {"positive": rng.integers(0, m, n)}


def without_negatives(rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    ignore = np.zeros((n, m), dtype=bool)
    ignore[0] = True
    return {"ignore": ignore}


def few_ignored(rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    """Leave at least three negatives, so that an entropy of .7 can be had."""
    ignore = np.zeros((n, m), dtype=bool)
    ignore[:, -1] = True
    return {"positive": rng.integers(0, m - 1, n), "ignore": ignore}


def ignored(rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    return {"ignore": rng.uniform(size=(n, m)) < 0.25}


def many_positives(rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    """Draw any number of positives: at least two in the first row, none in the last of several."""
    mask = rng.uniform(size=(n, m)) < 0.4
    mask[0, :2], mask[:, -1] = True, False
    if n > 1:
        mask[-1] = False
    return {"positives": mask}


def negatives(rng: np.random.Generator, n: int, m: int) -> Any:
    mask = rng.uniform(size=(n, m)) < 0.7
    mask[:, -1] = True
    return mask


def made(settings: dict[str, Any], rng: np.random.Generator, n: int, m: int) -> dict[str, Any]:
    """Return settings; those that are functions are called with the generator and the sizes, and are several."""
    out: dict[str, Any] = {}
    for name, value in settings.items():
        out |= value(rng, n, m) if callable(value) else {name: value}
    return out


# Builders: what a case is drawn from.


def on_similarities(*others: Any, **settings: Any) -> Builder:
    """Draw similarities; other arguments that are functions are called with the generator and the sizes."""

    def build(rng: np.random.Generator, z: Sizes) -> Built:
        s = cosines(rng, z.n, z.m)
        return (s, *(x(rng, z) if callable(x) else x for x in others)), made(settings, rng, z.n, z.m)

    return build


def on_embeddings(*scalars: Any, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        others = [x(rng, z) if callable(x) else x for x in scalars]
        return (rows(rng, z.n, z.d), rows(rng, z.m, z.d), *others), made(settings, rng, z.n, z.m)

    return build


def two_views(*numbers: Any, stacked: bool = False, least: int = 1, **settings: Any) -> Builder:
    """Draw two views of as many rows, at least so many; masks are of one view's candidates, or of both stacked."""

    def build(rng: np.random.Generator, z: Sizes) -> Built:
        n = max(z.n, least)
        of = 2 * n if stacked else n
        rest = made(settings, rng, of, of) if "ignore" in settings else settings
        others = [x(rng, z) if callable(x) else x for x in numbers]
        return (rows(rng, n, z.d), rows(rng, n, z.d), *others), rest

    return build


def on_pool(*last: Any, **settings: Any) -> Builder:
    def build(rng: np.random.Generator, z: Sizes) -> Built:
        s_neg = cosines(rng, z.n, z.m)
        others = [x(rng, z) if callable(x) else x for x in last]
        return (rng.uniform(-1, 1, z.n), s_neg, *others), {"negatives": negatives(rng, z.n, z.m), **settings}

    return build


def on_gaps(**settings: Any) -> Builder:
    return lambda rng, z: ((rng.uniform(0.1, 3.0, z.n) * np.where(np.arange(z.n) % 2, -1.0, 1.0),), settings)


def variants(build: Callable[..., Builder], *scalars: Any, **settings: Any) -> list[tuple[str, Builder]]:
    """Return the cases that every loss of anchors by candidates has."""
    return [
        ("diagonal", build(*scalars, **settings)),
        ("roles", build(*scalars, roles=roles, reduction="sum", **settings)),
        ("each", build(*scalars, roles=roles, reduction="none", **settings)),
        ("without-negatives", build(*scalars, roles=without_negatives, reduction="none", **settings)),
    ]


def two_sided(
    number: float, *, stacked: bool, other: float | None = None, gentle: Any = None, **settings: Any
) -> Variants:
    """Return the cases that every loss of two views has; ``other`` is the number where nothing is normalized."""
    build: Any = lambda x, **more: two_views(scalar(x), stacked=stacked, **settings, **more)  # noqa: E731
    return [
        ("plain", build(number)),
        ("ignore", build(number, ignore=ignored, reduction="sum")),
        ("each", build(number, ignore=ignored, reduction="none")),
        ("as-they-are", build(number if other is None else other, normalize=False, **(gentle or {}))),
    ]


# A small sample for worked relations.

_RNG = np.random.default_rng(5)
QUERY, KEY, MEMORY = rows(_RNG, 4, 3), rows(_RNG, 4, 3), rows(_RNG, 6, 3)
INDEX, NOISE = np.array([5, 0, 3, 0]), _RNG.integers(0, 6, (4, 9))
S = cosines(np.random.default_rng(23), 4, 7)


def unit(x: Any) -> Any:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def both(call: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return value and gradients of a call as a tree of plain tuples."""
    return call[0], tuple(call[1])
