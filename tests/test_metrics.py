"""Alignment, uniformity, tolerance, local separation."""

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backends import EPS, Backend, check_near, check_same_bits, leaves
from cards import Builder, Card, on_similarities, roles, rows, two_views
from loops import Matrix, alignment, inner_product, uniformity
from loops import roles as roles_of
from mpmath import mp, mpf
from peers import X, Y, check_same, derived, of_torch, torch
from scipy import integrate

from refcl import metrics


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


def local_separation(s: Matrix, *, nearest: int = 10, **who: Any) -> Any:
    who_is = roles_of(s, **who)
    return (
        [s_i[p] for s_i, (p, _) in zip(s, who_is, strict=True)],
        [sorted((s_i[k] for k in others), reverse=True)[:nearest] for s_i, (_, others) in zip(s, who_is, strict=True)],
    )


def build_rows(t: float) -> Builder:
    return lambda rng, z: ((rows(rng, max(z.n, 2), z.d) / 3,), {"t": t})  # one row makes no pair


def build_labelled(normalized: bool, self_pairs: bool) -> Builder:
    settings = {"normalized": normalized, "self_pairs": self_pairs}
    return lambda rng, z: ((rows(rng, z.n, z.d), np.arange(z.n) // 2 % 3), settings)


BOTH = (True, False)
CARDS = [
    Card(metrics.alignment, [(f"{alpha}", two_views(alpha=alpha)) for alpha in (2.0, 1.5)], alignment),
    Card(metrics.uniformity, [(f"{t}", build_rows(t)) for t in (2.0, 0.3)], uniformity),
    Card(metrics.tolerance, [(f"{n}-{s}", build_labelled(n, s)) for n in BOTH for s in BOTH], tolerance),
    Card(
        metrics.local_separation,
        [("diagonal", on_similarities(nearest=3)), ("roles", on_similarities(nearest=1, roles=roles))],
        local_separation,
    ),
]


def sphere(rng: np.random.Generator, n: int, d: int) -> Any:
    z = rng.standard_normal((n, d))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


Z, LABELS = sphere(np.random.default_rng(14), 7, 3), np.array([0, 1, 0, 2, 1, 0, 3])


def test_alignment_of_unit_rows_is_two_less_two_cosines(rng: np.random.Generator) -> None:
    a, b = sphere(rng, 6, 4), sphere(rng, 6, 4)
    check_near(metrics.alignment(a, b)[0], 2 - 2 * np.mean(np.sum(a * b, axis=1)), rtol=1e-14)


POWERS = {0.5: (math.sqrt(2) + math.sqrt(5)) / 2, 1.0: 3.5, 2.0: 14.5, 3.0: 66.5}


@pytest.mark.parametrize(("alpha", "value"), POWERS.items())
def test_alignment_is_the_mean_of_powers_of_distances(alpha: float, value: float, backend: Backend) -> None:
    a, b = np.array([[2.0, 0.0], [3.0, 4.0]]), np.zeros((2, 2))
    got, grads = metrics.alignment(backend.array(a), backend.array(b), alpha=alpha)
    check_near(backend.host(got), value, rtol=8 * EPS[backend.dtype])
    check_near(backend.host(grads.da), -backend.host(grads.db), rtol=0.0)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5, 2.0])
def test_alignment_of_a_pair_that_coincides_has_gradient_zero(alpha: float, backend: Backend) -> None:
    a, b = backend.array(np.array([[1.0, 2.0], [1.0, 0.0]])), backend.array(np.array([[1.0, 2.0], [0.0, 0.0]]))
    _, grads = metrics.alignment(a, b, alpha=alpha)
    da = backend.host(grads.da)
    assert da[0].tolist() == [0.0, 0.0]
    assert da[1, 0] > 0


def test_uniformity_of_two_antipodal_rows_is_minus_four_t(backend: Backend) -> None:
    z = backend.array(np.array([[0.6, 0.8], [-0.6, -0.8]]))
    for t in (0.5, 2.0, 3.0):
        check_near(backend.host(metrics.uniformity(z, t=t)[0]), -4 * t, rtol=4 * EPS[backend.dtype])


def test_uniformity_of_rows_that_coincide_is_zero_with_gradient_zero(backend: Backend) -> None:
    value, grads = metrics.uniformity(backend.array(np.tile(Z[:1], (5, 1))))
    assert abs(float(backend.host(value))) <= EPS[backend.dtype]
    assert np.abs(backend.host(grads.dz)).max() <= 8 * EPS[backend.dtype]


@pytest.mark.parametrize("scale", [1e-12, 1e-8, 1e-4, 0.1, 1.0])
def test_uniformity_of_embeddings_that_nearly_collapsed_has_its_digits(scale: float, rng: np.random.Generator) -> None:
    z = Z[:1] + scale * rng.standard_normal((6, 3))
    rows = [[mpf(float(x)) for x in row] for row in z]
    pairs = [(rows[i], rows[j]) for i in range(6) for j in range(i)]
    potentials = [mp.exp(-2 * mp.fsum((x - y) ** 2 for x, y in zip(*pair, strict=True))) for pair in pairs]
    want = mp.log(mp.fsum(potentials) / len(pairs))
    got = mpf(float(metrics.uniformity(z)[0]))
    # Taking out the mean rounds each row by eps: relative to distances of size scale.
    assert abs(got - want) <= (1e-13 + 8 * EPS["float64"] / scale) * abs(want)


def test_uniformity_does_not_see_a_shift_or_a_rotation(rng: np.random.Generator) -> None:
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    value, grads = metrics.uniformity(Z)
    moved, moved_grads = metrics.uniformity(Z @ rotation + 3.0)
    check_near(moved, value, rtol=1e-13)
    check_near(moved_grads.dz, grads.dz @ rotation, rtol=1e-13)
    assert np.abs(grads.dz.sum(axis=0)).max() < 1e-15


def test_uniformity_leaves_out_pairs_of_a_row_with_itself() -> None:
    """The authors' code averages over all pairs of rows, i = j among them: another number."""
    value = math.exp(float(metrics.uniformity(Z)[0]))
    with_self = np.mean(np.exp(2 * 2 * (Z @ Z.T) - 2 * 2))
    check_near((6 * value + 1) / 7, with_self, rtol=1e-14)


def test_far_rows_do_not_underflow_to_minus_infinity(backend: Backend) -> None:
    value, grads = metrics.uniformity(backend.array(np.array([[0.0, 0.0], [40.0, 0.0], [0.0, 30.0]])))
    check_near(backend.host(value), -1800 - math.log(3), rtol=4 * EPS[backend.dtype])
    assert np.isfinite(backend.host(grads.dz)).all()


def test_a_sample_of_the_uniform_law_comes_near_to_the_law(rng: np.random.Generator) -> None:
    sample = metrics.uniformity(sphere(rng, 1500, 5))[0]
    assert abs(float(sample) - metrics.uniform_law_uniformity(5)) < 0.02


@pytest.mark.parametrize("t", [0.3, 2.0, 60.0, 150.0, 500.0])
@pytest.mark.parametrize("dimension", [2, 3, 8, 40])
def test_uniform_law_is_the_integral_over_the_sphere(dimension: int, t: float) -> None:
    """Of the density (1 − c²)^((D − 3)/2) of the cosine, with c = cos θ; on both sides of t = 100."""

    def density(angle: float) -> float:
        return math.sin(angle) ** (dimension - 2)

    def potential(angle: float) -> float:
        return density(angle) * math.exp(2 * t * (math.cos(angle) - 1))

    near = min(math.pi, 12 / math.sqrt(t))  # where the potential lives
    mean = integrate.quad(potential, 0, near, epsabs=0, epsrel=1e-12)[0] + integrate.quad(potential, near, math.pi)[0]
    total = integrate.quad(density, 0, math.pi)[0]
    check_near(metrics.uniform_law_uniformity(dimension, t=t), math.log(mean / total), rtol=1e-9)


def test_uniform_law_in_one_dimension_is_two_points() -> None:
    check_near(metrics.uniform_law_uniformity(1, t=2.0), math.log((1 + math.exp(-8)) / 2), rtol=1e-14)


def test_uniform_law_has_no_seam_where_its_formula_changes() -> None:
    below, above = (metrics.uniform_law_uniformity(64, t=t) for t in (100.0, np.nextafter(100.0, 101)))
    check_near(below, above, rtol=1e-11)


@pytest.mark.parametrize("self_pairs", [False, True])
def test_tolerance_is_the_mean_over_classes_of_anchors(self_pairs: bool, backend: Backend) -> None:
    """A row alone in its class has no partner, and is left out."""
    got = metrics.tolerance(backend.array(Z), backend.array(LABELS), self_pairs=self_pairs)
    means = []
    for i in range(7):
        alike = [float(Z[i] @ Z[j]) for j in range(7) if LABELS[i] == LABELS[j] and (self_pairs or i != j)]
        if alike:
            means.append(sum(alike) / len(alike))
    assert len(means) == (7 if self_pairs else 5)
    check_near(backend.host(got), np.mean(means), rtol=20 * EPS[backend.dtype])


def test_tolerance_to_the_letter_counts_other_classes_as_zero() -> None:
    alike = LABELS[:, None] == LABELS[None, :]
    check_near(metrics.tolerance(Z, LABELS, normalized=False, self_pairs=True), np.mean(alike * (Z @ Z.T)), rtol=1e-14)


def test_tolerance_of_collapsed_embeddings_is_one() -> None:
    check_near(metrics.tolerance(np.tile(Z[:1], (4, 1)), np.array([0, 0, 1, 1])), 1.0, rtol=1e-15)


def test_tolerance_of_classes_of_one_is_nan(backend: Backend) -> None:
    assert np.isnan(backend.host(metrics.tolerance(backend.array(Z), backend.array(np.arange(7)))))
    assert np.isnan(
        backend.host(metrics.tolerance(backend.array(Z[:1]), backend.array(np.arange(1)), normalized=False))
    )


def test_tolerance_asks_only_which_labels_are_equal() -> None:
    check_near(metrics.tolerance(Z, 5 - 3 * LABELS), metrics.tolerance(Z, LABELS), rtol=0.0)


def test_local_separation_lists_the_nearest_first(backend: Backend) -> None:
    s = np.array([[0.5, 0.25, 0.75, -0.5], [0.125, -0.25, 0.0, 0.375]])
    positive, nearest = metrics.local_separation(backend.array(s), nearest=2)
    assert backend.host(positive).tolist() == [0.5, -0.25]
    assert backend.host(nearest).tolist() == [[0.75, 0.25], [0.375, 0.125]]


def test_local_separation_of_too_few_negatives_is_nan(backend: Backend) -> None:
    s = backend.array(np.array([[0.5, 0.25, 0.75, -0.5]]))
    ignore = backend.array(np.array([[False, True, False, True]]))
    nearest = backend.host(metrics.local_separation(s, nearest=2, ignore=ignore).nearest)
    assert nearest[0, 0] == 0.75
    assert np.isnan(nearest[0, 1])


# Strips of rows. What is asked of several strips is what one strip says.

KINDS = {
    "sphere": sphere(np.random.default_rng(21), 12, 3),
    "near": Z[:1] + 1e-4 * sphere(np.random.default_rng(22), 12, 3),
    "far": np.concat([Z, 30.0 * Z[:5]]),  # the greatest exponents of two strips are far apart
}
STRIPS = {1: 12, 25: 6, 50: 3, 72: 2, 100: 2, 143: 2, 144: 1}  # entries of a strip -> how many there are of 12 rows


@pytest.mark.parametrize(("entries", "strips"), STRIPS.items())
def test_strips_are_of_rows_and_of_about_one_size(entries: int, strips: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "STRIP_ENTRIES", entries)
    cut = metrics._strips(12, 12)
    assert [row for rows in cut for row in range(12)[rows]] == list(range(12))
    assert len(cut) == strips
    assert len({rows.stop - rows.start for rows in cut}) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("entries", [1, 25, 60, 100])
def test_uniformity_of_several_strips_is_that_of_one(
    kind: str, entries: int, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = backend.array(KINDS[kind])
    value, grads = metrics.uniformity(z)
    monkeypatch.setattr(metrics, "STRIP_ENTRIES", entries)
    again, grads_again = metrics.uniformity(z)
    # Where some rows lie far off, the distances of the others are small differences of large numbers.
    rtol = (200 if kind == "far" else 20) * EPS[backend.dtype]
    check_near(backend.host(again), backend.host(value), rtol=rtol)
    check_near(backend.host(grads_again.dz), backend.host(grads.dz), rtol=rtol)


@pytest.mark.parametrize("entries", [1, 25, 100])
def test_tolerance_of_several_strips_is_that_of_one(
    entries: int, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    z, labels = backend.array(KINDS["sphere"]), backend.array(np.arange(12) // 3 % 3)
    for normalized in (True, False):
        for self_pairs in (True, False):
            want = metrics.tolerance(z, labels, normalized=normalized, self_pairs=self_pairs)
            with monkeypatch.context() as patch:
                patch.setattr(metrics, "STRIP_ENTRIES", entries)
                got = metrics.tolerance(z, labels, normalized=normalized, self_pairs=self_pairs)
            check_near(backend.host(got), backend.host(want), rtol=20 * EPS[backend.dtype])


@pytest.mark.parametrize("entries", [1, 25, 60])
def test_local_separation_of_several_strips_has_the_bits_of_one(
    entries: int, backend: Backend, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = backend.array(rng.uniform(-1, 1, (7, 12)))
    roles = {"positive": backend.array(rng.integers(0, 12, 7)), "ignore": backend.array(rng.random((7, 12)) < 0.5)}
    for settings in ({}, roles):
        want = metrics.local_separation(s, nearest=9, **settings)
        with monkeypatch.context() as patch:
            patch.setattr(metrics, "STRIP_ENTRIES", entries)
            got = metrics.local_separation(s, nearest=9, **settings)
        check_same_bits(backend.hosts(got), backend.hosts(want))


def test_a_cache_of_uniformity_holds_no_matrix_of_pairs() -> None:
    _, cache = metrics.uniformity.forward(KINDS["sphere"])
    assert max(np.size(x) for x in leaves(cache)) == KINDS["sphere"].size


def peak(function: Callable[..., Any], *inputs: Any) -> int:
    """Return the most bytes that were held at one time."""
    tracemalloc.start()
    function(*inputs)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_memory_is_that_of_a_few_strips(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "STRIP_ENTRIES", 1 << 17)
    z = sphere(rng, 2200, 16).astype("float32")
    strip = metrics.STRIP_ENTRIES * z.itemsize
    assert z.shape[0] ** 2 * z.itemsize > 30 * strip
    assert peak(metrics.uniformity, z) < 10 * strip
    assert peak(metrics.tolerance, z, rng.integers(0, 10, 2200)) < 4 * strip
    assert peak(metrics.local_separation, z[:1500] @ z.T) < 4 * strip


@of_torch
@pytest.mark.parametrize("t", [2.0, 0.5])
def test_uniformity_is_wang_and_isola_s_in_pytorch(t: float) -> None:
    theirs = derived(lambda z: torch.pdist(z).pow(2).mul(-t).exp().mean().log(), X / 3)
    check_same(metrics.uniformity(X / 3, t=t), theirs)


@of_torch
@pytest.mark.parametrize("alpha", [2.0, 1.5])
def test_alignment_is_wang_and_isola_s_in_pytorch(alpha: float) -> None:
    theirs = derived(lambda a, b: (a - b).norm(dim=1).pow(alpha).mean(), X, Y)
    check_same(metrics.alignment(X, Y, alpha=alpha), theirs)
