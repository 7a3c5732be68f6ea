"""Σ w (z_p − z_q) against fractions, where what is left is far smaller than what cancels."""

from fractions import Fraction

import numpy as np

from refcl.walk.differences import weighted_differences


def test_a_weight_below_the_last_place_of_the_largest_keeps_its_digits() -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((1, 3)) + 1e-10 * rng.standard_normal((4, 3))
    weights = 2.0**-52 * rng.uniform(size=(4, 4))
    np.fill_diagonal(weights, 1.0)  # of a row's distance to itself, 0: it decides where the slices are cut
    got = weighted_differences([(slice(0, 4), weights)], z)
    for p in range(4):
        for d in range(3):
            terms = [Fraction(w) * (Fraction(z[p, d]) - Fraction(z[q, d])) for q, w in enumerate(weights[p])]
            assert abs(Fraction(got[p, d]) - sum(terms)) <= Fraction(1e-12) * sum(map(abs, terms))
