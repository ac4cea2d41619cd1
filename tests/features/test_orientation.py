import numpy as np
import pytest
from pyproj import Geod, Transformer

from darts_assets.features import orientation


def azimuth_of_true_north(grid, row: int, column: int) -> float:
    """From the top of the grid, by walking one metre along the meridian."""
    a = grid.transform
    x, y = a.c + a.a * (column + 0.5), a.f + a.e * (row + 0.5)
    degrees = Transformer.from_crs(str(grid.crs), 4326, always_xy=True)
    longitude, latitude, _ = Geod(ellps="WGS84").fwd(*degrees.transform(x, y), 0, 1.0)
    there = degrees.transform(longitude, latitude, direction="INVERSE")
    return np.degrees(np.arctan2(there[0] - x, there[1] - y))


@pytest.mark.parametrize("longitude", [-89.9, -84.2])
def test_convergence_leads_to_true_north_on_a_whole_scene(world, longitude):
    tile = world.tile(10980, 10980, longitude=longitude, latitude=75)
    convergence = orientation.MeridianConvergence.of(tile)
    for row in (0, 170, 5000, 10979):
        line = convergence.over(slice(row, row + 1))
        assert line.shape == (1, 10980)
        assert line.dtype == np.float32
        for column in (0, 171, 9000, 10979):
            assert line[0, column] == pytest.approx(-azimuth_of_true_north(tile, row, column), abs=1e-4)


def test_convergence_of_a_tile_smaller_than_its_nodes(world):
    tile = world.tile(3, 2, longitude=-84.2)
    values = orientation.MeridianConvergence.of(tile).over(slice(1, 3))
    assert values.shape == (2, 2)
    assert values[0, 0] == pytest.approx(-azimuth_of_true_north(tile, 1, 0), abs=1e-4)


def test_darts_turn_is_its_formula_on_projected_coordinates(world):
    tile = world.tile(20, 30)
    a = tile.transform
    turn = orientation.darts_turn(tile)
    assert turn.shape == (20, 30)
    expected = np.degrees(np.arctan2(a.c + 10 * 29.5, a.f - 10 * 19.5)) + 90
    assert turn[19, 29] == pytest.approx(expected, abs=1e-4)
    assert orientation.darts_turn_at_centre(tile) == pytest.approx(
        np.degrees(np.arctan2(a.c + 150, a.f - 100)) + 90, abs=1e-9
    )
