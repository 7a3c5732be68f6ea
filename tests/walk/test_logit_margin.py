"""s+ -> s+ less a margin."""

import math
from typing import Any

import numpy as np
from backends import EPS, Backend, check_near
from cards import Builder, Card, cosines
from digits import mp, mpf
from loops import Row

import refcl
from refcl.walk.logit_margin import logit_margin


def in_loops(s_pos: Row, *, margin: float = 0.0, angular_margin: float = 0.0) -> Row:
    out = []
    for s in s_pos:
        angle = math.acos(s) + angular_margin
        turned = math.cos(angle) if angle <= math.pi else s - angular_margin * math.sin(angular_margin)
        out.append((turned if angular_margin else s) - margin)
    return out


def of_positives(**settings: Any) -> Builder:
    return lambda rng, z: ((0.8 * cosines(rng, 1, z.n)[0],), settings)


CARDS = [
    Card(
        logit_margin,
        [
            ("additive", of_positives(margin=0.2)),
            ("angular", of_positives(angular_margin=0.5)),
            ("both", of_positives(angular_margin=0.3, margin=0.1)),
        ],
        in_loops,
    )
]


def test_the_angle_s_tip_and_what_lies_beyond_half_a_turn(backend: Backend) -> None:
    """At ±1 the slope is that of the part without a tip; past π the line goes on, a step lower, with slope 1."""
    alpha, s = 0.5, np.array([1.0, -1.0, -0.95, -math.cos(0.5) + 1e-3])
    lowered, grads = logit_margin(backend.array(s), angular_margin=alpha)
    got, rtol = backend.host(lowered), 8 * EPS[backend.dtype]
    check_near(got[:3], [math.cos(alpha), *(x - alpha * math.sin(alpha) for x in (-1.0, -0.95))], rtol=rtol)
    assert got[2] < -1 < got[3] < -0.99
    check_near(backend.host(grads.ds_pos)[:3], [math.cos(alpha), 1.0, 1.0], rtol=rtol)


def test_a_cosine_that_rounding_carried_beyond_1_is_1() -> None:
    lowered, grads = logit_margin(np.array([1.0, np.nextafter(1.0, 2.0)]), angular_margin=0.5)
    check_near(lowered, np.full(2, math.cos(0.5)), rtol=1e-15)
    assert np.isfinite(grads.ds_pos).all()


def test_near_the_tip_the_digits_are_kept() -> None:
    """acos of a cosine near 1 has lost half of them; the root of (1 − s)(1 + s) has not."""
    alpha = 0.5
    for s in (1 - 2.0**-52, 1 - 1e-12, -0.3, 0.99):
        lowered, grads = logit_margin(np.array([s]), angular_margin=alpha)
        angle = mp.acos(mpf(s))
        check_near(lowered, [float(mp.cos(angle + mpf(alpha)))], rtol=4e-16)
        check_near(grads.ds_pos, [float(mp.sin(angle + mpf(alpha)) / mp.sin(angle))], rtol=1e-15)


def test_on_the_sphere_the_gradient_at_the_tip_is_0() -> None:
    """A query on its positive and an angular margin: nowhere is nearer."""
    z = np.array([[0.6, 0.8]])
    _, grads = refcl.info_nce(z, z, 0.2, z[:, None, ::-1].copy(), angular_margin=0.3)
    check_near(grads.dkey, np.zeros((1, 2)), rtol=0.0, atol=1e-15)
