import numpy as np
import pytest

from darts_assets.true_colour import NO_DATA, stretch, true_colours


def scene(low: float, high: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, (100, 100, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("low", "high", "black", "white"),
    [
        pytest.param(0.03, 0.14, 0.031, 0.139, id="tundra"),
        pytest.param(0.12, 0.45, 0.08, 0.447, id="bare ground keeps its detail up to 45 %"),
        pytest.param(0.008, 0.03, 0.008, 0.05, id="low sun: four times as bright as by 0.2, and noise is not contrast"),
        pytest.param(0.05, 0.05, 0.05, 0.09, id="one colour"),
        pytest.param(-0.02, 0.1, 0.0, 0.099, id="negative reflectance of dark water"),
    ],
)
def test_the_stretch_follows_the_ground_within_limits(low, high, black, white) -> None:
    assert stretch(scene(low, high)) == pytest.approx((black, white), abs=2e-3)


def test_the_ground_keeps_its_contrast_beside_snow_and_clouds() -> None:
    mixed, clear = scene(0.03, 0.14), np.ones((100, 100), bool)
    mixed[:60], clear[:60] = scene(0.6, 0.95)[:60], False
    assert stretch(mixed, clear) == pytest.approx((0.031, 0.139), abs=2e-3)
    pixels = true_colours(mixed, stretch(mixed, clear))
    assert (pixels[:60] == 255).all()
    assert pixels[60:].std() > 60


def test_a_scene_full_of_snow_shows_the_snow() -> None:
    snow = scene(0.6, 0.95)
    black, white = stretch(snow, np.zeros((100, 100), bool))
    assert (black, white) == (0.08, pytest.approx(0.946, abs=2e-3))
    assert true_colours(snow, (black, white)).std() > 15
    assert (true_colours(snow, (black, white)) == 255).mean() < 0.02


def test_pixels_without_data_do_not_count_and_have_their_own_colour() -> None:
    values = scene(0.03, 0.14)
    values[:90, :, 1] = np.nan
    assert stretch(values) == pytest.approx((0.031, 0.139), abs=3e-3)
    pixels = true_colours(values, stretch(values))
    assert (pixels[:90] == NO_DATA).all()
    assert stretch(np.full((4, 4, 3), np.nan)) == (0.0, 0.2)
