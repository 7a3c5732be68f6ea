"""The probes, on embeddings whose accuracy is known."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from refcl.experiment.probe import PENALTY, few_label_accuracy, linear_accuracy
from refcl.experiment.seeding import generator


def overlapping(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return samples of three classes in the plane, which overlap."""
    y = rng.integers(0, 3, size=n)
    centres = np.array([[0.0, 1.0], [1.0, -0.5], [-1.0, -0.5]])
    return centres[y] + 0.5 * rng.standard_normal((n, 2)), y


def test_the_linear_probe_separates_what_lines_separate(rng: np.random.Generator) -> None:
    y = np.repeat([0, 1, 2], 20)
    x = np.eye(3)[y] + 0.05 * rng.standard_normal((60, 3))
    assert linear_accuracy(x, y, x, y) == 1.0
    assert linear_accuracy(x, y, x, (y + 1) % 3) == 0.0


def test_the_linear_probe_is_logistic_regression(rng: np.random.Generator) -> None:
    x, y = overlapping(rng, 60)
    new, truth = overlapping(rng, 400)
    mean, deviation = x.mean(axis=0), x.std(axis=0)

    def logits(flat: np.ndarray, points: np.ndarray) -> np.ndarray:
        weight = flat.reshape(3, 3)
        return (points - mean) / deviation @ weight[:2] + weight[2]

    def negative_log_likelihood(flat: np.ndarray) -> float:
        each = logsumexp(logits(flat, x), axis=1) - logits(flat, x)[np.arange(60), y]
        return float(each.mean() + 0.5 * PENALTY * np.sum(flat[:6] ** 2))

    best = minimize(negative_log_likelihood, np.zeros(9), method="BFGS").x  # by differences: no gradient of ours
    expected = np.mean(np.argmax(logits(best, new), axis=1) == truth)
    assert linear_accuracy(x, y, new, truth) == pytest.approx(expected, abs=0.006)


def test_the_linear_probe_takes_a_constant_column() -> None:
    y = np.repeat([0, 1], 10)
    x = np.stack([y + 0.0, np.ones(20)], axis=1)
    assert linear_accuracy(x, y, x, y) == 1.0


def test_the_few_label_probe_is_one_nearest_neighbour(rng: np.random.Generator) -> None:
    x, y = overlapping(rng, 80)
    new, truth = overlapping(rng, 50)
    x, new = (points / np.linalg.norm(points, axis=1, keepdims=True) for points in (x, new))
    rng = generator(4, "few labels")
    right = 0
    for _ in range(10):
        known = [n for c in range(3) for n in rng.choice(np.flatnonzero(y == c), 5, replace=False)]
        for point, label in zip(new, truth, strict=True):
            right += y[min(known, key=lambda n: float(np.linalg.norm(point - x[n])))] == label
    assert few_label_accuracy(x, y, new, truth, seed=4) == pytest.approx(right / 500)


def test_a_seed_draws_the_same_labels(rng: np.random.Generator) -> None:
    x, y = overlapping(rng, 80)
    new, truth = overlapping(rng, 50)
    first, again = (few_label_accuracy(x, y, new, truth, seed=0) for _ in range(2))
    assert first == again
    assert len({few_label_accuracy(x, y, new, truth, seed=seed) for seed in range(5)}) > 1
