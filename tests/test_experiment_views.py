"""What a view changes, and what it leaves alone."""

import numpy as np
import pytest
from backends import Backend

from refcl.experiment.views import Strength, view

STILL = Strength(shift=0, brightness=0.0, noise=0.0, dropout=0.0)
IMAGE, BLANK = (3, 4), -0.5
X = np.random.default_rng(0).standard_normal((200, 12)).astype(np.float32)


def changed(strength: Strength, *, seed: int = 1, image: tuple[int, int] | None = IMAGE) -> np.ndarray:
    return view(X, np.random.default_rng(seed), image=image, blank=BLANK, strength=strength)


def moved(picture: np.ndarray, down: int, right: int) -> np.ndarray:
    """Move a picture pixel by pixel; what moves in is blank."""
    out = np.full_like(picture, BLANK)
    for i in range(picture.shape[0]):
        for j in range(picture.shape[1]):
            if 0 <= i - down < picture.shape[0] and 0 <= j - right < picture.shape[1]:
                out[i, j] = picture[i - down, j - right]
    return out


def test_no_strength_changes_nothing() -> None:
    np.testing.assert_array_equal(changed(STILL), X)


def test_shifts_are_the_nine_of_at_most_one_pixel() -> None:
    pictures = changed(STILL._replace(shift=1)).reshape(-1, *IMAGE)
    seen = set()
    for before, after in zip(X.reshape(-1, *IMAGE), pictures, strict=True):
        shifts = [(d, r) for d in (-1, 0, 1) for r in (-1, 0, 1) if np.array_equal(moved(before, d, r), after)]
        assert len(shifts) == 1
        seen.update(shifts)
    assert len(seen) == 9


def test_brightness_scales_the_contrast_against_the_blank() -> None:
    contrast, before = changed(STILL._replace(brightness=0.3)) - BLANK, X - BLANK
    factor = np.sum(contrast * before, axis=1, keepdims=True) / np.sum(before**2, axis=1, keepdims=True)
    np.testing.assert_allclose(contrast, factor * before, atol=1e-6)  # one factor a sample
    assert 0.7 <= factor.min() < 0.75
    assert 1.25 < factor.max() <= 1.3001


def test_noise_has_its_standard_deviation() -> None:
    noise = changed(STILL._replace(noise=0.2)) - X
    assert noise.std() == pytest.approx(0.2, rel=0.05)
    assert noise.mean() == pytest.approx(0.0, abs=0.02)


def test_dropout_blanks_its_share() -> None:
    after = changed(STILL._replace(dropout=0.1))
    gone = after == np.float32(BLANK)
    assert np.mean(gone) == pytest.approx(0.1, abs=0.02)
    np.testing.assert_array_equal(after[~gone], X[~gone])


def test_features_are_neither_shifted_nor_brightened() -> None:
    np.testing.assert_array_equal(changed(STILL._replace(shift=1, brightness=0.5), image=None), X)


def test_a_seed_gives_one_view_and_the_next_call_another() -> None:
    np.testing.assert_array_equal(changed(Strength()), changed(Strength()))
    assert not np.array_equal(changed(Strength()), changed(Strength(), seed=2))
    rng = np.random.default_rng(1)
    first, second = (view(X, rng, image=IMAGE, blank=BLANK) for _ in range(2))
    assert not np.array_equal(first, second)


def test_views_are_the_same_in_every_library(backend: Backend) -> None:
    x = backend.array(X)
    out = view(x, np.random.default_rng(1), image=IMAGE, blank=BLANK)
    assert backend.owns(out)
    assert out.dtype == x.dtype
    np.testing.assert_allclose(backend.host(out), changed(Strength()), rtol=1e-6, atol=1e-6)


def test_the_channels_of_a_pixel_move_together() -> None:
    pictures = np.random.default_rng(0).standard_normal((50, 3, 4, 3)).astype(np.float32)
    strength = STILL._replace(shift=1)
    rng = np.random.default_rng(1)
    together = view(pictures.reshape(50, -1), rng, image=(3, 4, 3), blank=BLANK, strength=strength)
    for channel in range(3):
        alone = pictures[..., channel].reshape(50, -1)
        moved_alone = view(alone, np.random.default_rng(1), image=IMAGE, blank=BLANK, strength=strength)
        np.testing.assert_array_equal(together.reshape(50, 12, 3)[..., channel], moved_alone)
