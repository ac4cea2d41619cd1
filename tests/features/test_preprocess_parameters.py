import math

import pytest

from darts_assets.errors import SettingsError
from darts_assets.features import PreprocessParameters, dem_buffer


@pytest.mark.parametrize(
    ("choices", "named"),
    [
        ({"terrain": "darts-2024"}, "terrain is 'darts-2024', expected 'darts-2025', 'darts-2026' or 'physical'"),
        ({"tpi_outer_radius": 0.0}, "tpi_outer_radius is 0.0"),
        ({"tpi_outer_radius": math.nan}, "tpi_outer_radius is nan"),
        ({"tpi_inner_radius": -1.0}, "tpi_inner_radius is -1.0"),
        ({"tpi_inner_radius": 100.0}, "tpi_inner_radius is 100.0"),
        ({"tpi_inner_radius": math.nan}, "tpi_inner_radius is nan"),
    ],
)
def test_nonsense_is_refused_by_name(choices, named):
    with pytest.raises(SettingsError, match=named):
        PreprocessParameters(**choices)


@pytest.mark.parametrize(("radius", "resolution", "pixels"), [(100, 10, 15), (100, 2, 71), (10, 10, 2)])
def test_dem_buffer_covers_the_diagonal(radius, resolution, pixels):
    assert dem_buffer(PreprocessParameters(tpi_outer_radius=radius), resolution) == pixels
