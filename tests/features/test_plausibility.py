import pytest

from darts_assets.bands import FEATURES
from darts_assets.features.plausibility import feature_faults, reflectance_faults
from darts_assets.stores.statistics import BandStatistics


def of(median: float, pixels: int = 100) -> BandStatistics:
    return BandStatistics(pixels, median - 0.01, median + 0.01, (median - 0.01, median, median + 0.01))


TUNDRA = {name: of(0.5) for name in (*FEATURES, "dem")} | {
    "blue": of(0.03), "green": of(0.05), "red": of(0.057), "nir": of(0.25), "ndvi": of(0.63),
}  # fmt: skip


def test_tundra_is_plausible() -> None:
    assert reflectance_faults(TUNDRA) == []
    assert feature_faults(TUNDRA, 0.05) == []


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        # An offset of -0.1 of digital numbers that have none.
        (
            {"blue": -0.07, "green": -0.05, "red": -0.043, "nir": 0.15, "ndvi": 1.0},
            [
                "the median of blue is -0.070, expected -0.01 to 1.2",
                "the median of green is -0.050, expected -0.01 to 1.2",
                "the median of red is -0.043, expected -0.01 to 1.2",
                "ndvi is 1 in most pixels: their red reflectance is not positive",
            ],
        ),
        ({"red": -0.005, "ndvi": 1.0}, ["ndvi is 1 in most pixels: their red reflectance is not positive"]),
        ({"nir": 2.5}, ["the median of nir is 2.500, expected -0.01 to 1.2"]),
        ({"nir": -0.004, "ndvi": -1.0}, []),  # water
        ({"blue": 0.9, "green": 0.9, "red": 0.9, "nir": 0.8, "ndvi": -0.06}, []),  # snow
    ],
)
def test_values_that_are_no_reflectance(changes: dict[str, float], faults: list[str]) -> None:
    assert reflectance_faults(TUNDRA | {name: of(median) for name, median in changes.items()}) == faults


def test_a_scene_without_data_has_no_faults() -> None:
    assert reflectance_faults(dict.fromkeys(TUNDRA, BandStatistics(0))) == []
