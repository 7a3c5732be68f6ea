"""A temperature that goes up and down."""

from typing import Any

import pytest
from backends import Backend
from cards import S

import refcl
from refcl.experiment.schedules import cosine_temperature


def test_the_cosine_starts_high_and_is_low_after_half_a_period() -> None:
    settings = {"low": 0.07, "high": 0.5, "half_period": 30.0}
    assert cosine_temperature(0, **settings) == 0.5
    assert cosine_temperature(30, **settings) == 0.07
    assert cosine_temperature(15, **settings) == pytest.approx(0.285)
    for epoch in range(31):
        assert cosine_temperature(epoch, **settings) == pytest.approx(cosine_temperature(60 - epoch, **settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": -1.0}, "epoch must be >= 0"),
        ({"low": 0.0}, "low must be > 0"),
        ({"high": 0.05}, "high must be >= 0.1"),
        ({"half_period": 0}, "half_period must be > 0"),
    ],
)
def test_the_cosine_refuses_what_it_cannot_be(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cosine_temperature(**{"epoch": 3.0, **settings})


def test_a_host_constant_stays_on_its_device(backend: Backend) -> None:
    s = backend.array(S)
    schedule = cosine_temperature(40.0)
    value, grads = refcl.softmax_contrastive(s, schedule)
    assert backend.owns(value)
    assert backend.owns(grads.dtemperature)
