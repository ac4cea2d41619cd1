import logging

import numpy as np
import pytest
import rasterio
from pyproj import Geod, Transformer

from darts_assets.features import conventions
from darts_assets.features.conventions import Sun


def circular(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    difference = np.abs(first.astype(np.float64) - second)
    return np.minimum(difference, 360 - difference)


def test_physical_is_gdal_without_the_convergence(shared):
    folder = shared / "data" / "xdem_data"

    def read(path: str) -> np.ndarray:
        with rasterio.open(folder / path) as file:
            return file.read(1, masked=True).astype(np.float64).filled(np.nan)[1:-1, 1:-1]

    with rasterio.open(folder / "longyearbyen_dem_20m_reconstructed.tif") as file:
        dem = file.read(1, masked=True).filled(np.nan)
    ours = conventions.physical(dem, 20.0, Sun(315, 45), convergence=0)
    slope, aspect, bytes_ = (read(f"test_data/gdal/{name}_Horn.tif") for name in ("slope", "aspect", "hillshade"))
    # The reconstructed model lacks a row and a column of the original.
    both = np.isfinite(ours["slope"]) & np.isfinite(slope)
    assert both.sum() > 0.95 * slope.size
    assert np.abs(ours["slope"] - slope)[both].max() < 1e-3
    assert circular(ours["aspect"], aspect)[both & (slope > 0.5)].max() < 1e-2
    # GDAL writes 1 + 254 x shade, rounded.
    assert np.abs(ours["hillshade"] - (bytes_ - 1) / 254)[both].max() < 1 / 255


def test_physical_turns_aspect_and_sun_but_not_the_flat():
    dem = np.tile(-np.arange(9, dtype=np.float32), (6, 1))
    dem[:, 5:] = -5
    ours = conventions.physical(dem, 1.0, Sun(90, 45), convergence=-3.0)
    assert ours["aspect"][0, 0] == pytest.approx(87, abs=1e-4)
    assert ours["aspect"][0, -1] == -1
    # The sun 45 degrees above true east stands 3 degrees off the fall line.
    assert ours["hillshade"][0, 0] == pytest.approx(0.5 + 0.5 * np.cos(np.radians(3)), abs=1e-6)


def test_darts_turns_the_flat_too():
    flat = np.zeros((3, 3), dtype=np.float32)
    ours = conventions.darts(flat, 10.0, Sun(), turn=94.0, sun_turn=94.0, vintage="darts-2025")
    assert ours["aspect"] == 93
    assert ours["hillshade"] == pytest.approx((np.sin(np.radians(25)) + 1) / 2)


def test_darts_hillshades_differ_in_unit_and_range():
    # 45 degrees down to the east per metre is a cliff per 10 m cell.
    dem = np.tile(-10 * np.arange(9, dtype=np.float32), (3, 1))
    towards, away = ({"sun": Sun(azimuth, 45), "turn": 0.0, "sun_turn": 0.0} for azimuth in (90, 270))
    assert conventions.darts(dem, 10.0, **towards, vintage="darts-2026")["hillshade"] == pytest.approx(1)
    assert conventions.darts(dem, 10.0, **away, vintage="darts-2026")["hillshade"] == pytest.approx(0, abs=1e-6)
    shade = 11 / np.sqrt(2) / np.sqrt(101)
    per_cell = conventions.darts(dem, 10.0, **towards, vintage="darts-2025")["hillshade"]
    assert per_cell == pytest.approx((shade + 1) / 2, abs=1e-6)


def test_sun_is_rounded():
    assert Sun.of({"sun_azimuth": 165.3, "sun_elevation": np.float64(41.7)}) == Sun(165, 42)


@pytest.mark.parametrize("attrs", [{}, {"sun_azimuth": None, "sun_elevation": float("nan")}])
def test_missing_sun_falls_back_and_says_so(attrs, caplog):
    with caplog.at_level(logging.WARNING, logger="darts_assets.features"):
        assert Sun.of(attrs) == Sun(225, 25)
    assert "no sun_azimuth; hillshade uses the default of 225 degrees" in caplog.text
    assert "no sun_elevation; hillshade uses the default of 25 degrees" in caplog.text


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
    convergence = conventions.MeridianConvergence.of(tile)
    for row in (0, 170, 5000, 10979):
        line = convergence.over(slice(row, row + 1))
        assert line.shape == (1, 10980)
        assert line.dtype == np.float32
        for column in (0, 171, 9000, 10979):
            assert line[0, column] == pytest.approx(-azimuth_of_true_north(tile, row, column), abs=1e-4)


def test_convergence_of_a_tile_smaller_than_its_nodes(world):
    tile = world.tile(3, 2, longitude=-84.2)
    values = conventions.MeridianConvergence.of(tile).over(slice(1, 3))
    assert values.shape == (2, 2)
    assert values[0, 0] == pytest.approx(-azimuth_of_true_north(tile, 1, 0), abs=1e-4)


def test_darts_turn_is_its_formula_on_projected_coordinates(world):
    tile = world.tile(20, 30)
    a = tile.transform
    turn = conventions.darts_turn(tile)
    assert turn.shape == (20, 30)
    expected = np.degrees(np.arctan2(a.c + 10 * 29.5, a.f - 10 * 19.5)) + 90
    assert turn[19, 29] == pytest.approx(expected, abs=1e-4)
    assert conventions.darts_turn_at_centre(tile) == pytest.approx(
        np.degrees(np.arctan2(a.c + 150, a.f - 100)) + 90, abs=1e-9
    )
