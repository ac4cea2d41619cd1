"""The stored layout of the cubes, in literal numbers: a cube of another layout cannot be opened."""

import numpy as np
import pytest

from darts_assets.cubes import arcticdem_spec, tcvis_spec


@pytest.mark.parametrize(("resolution", "side"), [(2, 4_100_096), (10, 820_224), (32, 257_024)])
def test_layout_of_arcticdem(resolution: int, side: int) -> None:
    assert arcticdem_spec(resolution).layout() == {
        "cube": f"arcticdem_{resolution}m",
        "crs": "EPSG:3413",
        "transform": [resolution, 0, -4_100_000, 0, -resolution, 4_100_000],
        "shape": [side, side],
        "chunk": 1024,
        "variables": {"dem": ["int32", 0.01, 0, -(2**31)], "arcticdem_data_mask": ["uint8", None, 0, 0]},
    }


@pytest.mark.parametrize("vintage", [2019, 2020, 2022, 2024])
def test_layout_of_tcvis(vintage: int) -> None:
    assert tcvis_spec(vintage).layout() == {
        "cube": f"tcvis_{vintage}",
        "crs": "EPSG:4326",
        "transform": [0.00026949458523585647, 0, -180, 0, -0.00026949458523585647, 90],
        "shape": [167_936, 1_447_936],
        "chunk": 1024,
        "variables": {name: ["uint8", None, 0, 0] for name in ("tc_brightness", "tc_greenness", "tc_wetness")},
    }


def test_elevations_are_stored_in_centimetres_without_clipping() -> None:
    dem = arcticdem_spec(10).variables[0]
    assert (dem.valid, dem.clip) == ((-100, 3000), False)
    values = np.array([-250, -100.01, 0, 0.004, 3123.45, np.nan], np.float32)
    assert dem.encode(values).tolist() == [-25000, -10001, 0, 0, 312345, -(2**31)]
