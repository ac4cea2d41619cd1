"""Maps of footprints, locations and sites."""

import geopandas as gpd
import numpy as np
import pytest
import shapely

from darts_assets.maps import LAND, SEA, _equal_area, footprint_map, location_map, site_map

MARK = np.array((214, 62, 38))


def mark(footprint: shapely.Geometry) -> tuple[float, float]:
    """The middle of the mark, in pixels to the right of and below the middle of the left map."""
    image = np.asarray(location_map(footprint)).astype(int)
    assert image.shape == (256, 516, 3)
    rows, columns = np.nonzero((np.abs(image[:, :256] - MARK) < 12).all(axis=-1))
    assert len(rows) > 10
    return columns.mean() - 127.5, rows.mean() - 127.5


@pytest.mark.parametrize(
    ("lon", "lat", "right", "down"),
    [(-90, 60, 0, 1), (90, 60, 0, -1), (0, 60, 1, 0), (-179.8, 60, -1, 0), (179.8, 60, -1, 0), (20, 89.9, 0, 0)],
)
def test_the_pole_is_in_the_middle_and_america_below(lon: float, lat: float, right: int, down: int) -> None:
    x, y = mark(shapely.box(lon - 0.1, lat - 0.1, lon + 0.1, min(lat + 0.1, 90)))
    assert (round(x / 85), round(y / 85)) == (right, down)


def test_the_globe_has_coastlines() -> None:
    image = np.asarray(location_map(shapely.box(-135, 68, -133, 69))).astype(int)[:, :256]
    pixels = 128 / abs(_equal_area(-90, 90).transform(-90, 45)[1])

    def color(lon: float, lat: float) -> list[int]:
        x, y = _equal_area(-90, 90).transform(lon, lat)
        window = image[round(128 - y * pixels) - 2 :, round(128 + x * pixels) - 2 :][:5, :5]
        return np.median(window.reshape(-1, 3), axis=0).tolist()

    land, sea = ([int(name[at : at + 2], 16) for at in (1, 3, 5)] for name in (LAND, SEA))
    for lon, lat in ((-45, 77), (95, 62), (-110, 57), (-153, 68)):
        assert color(lon, lat) == land, (lon, lat)
    for lon, lat in ((0, 88), (-160, 80), (-85, 58), (-25, 55), (75, 76)):
        assert color(lon, lat) == sea, (lon, lat)


def test_a_map_of_a_region_has_coastlines_and_that_of_a_scene_has_none() -> None:
    sea = [int(SEA[at : at + 2], 16) for at in (1, 3, 5)]
    wide, narrow = (
        np.asarray(footprint_map([(shapely.box(-140, 69, -140 + width, 71), 1)])).astype(int) for width in (20, 0.5)
    )
    assert (wide == sea).all(axis=-1)[:60].mean() > 0.6, "the Beaufort Sea"
    assert not (wide == sea).all(axis=-1)[190:].any(), "the Yukon"
    assert not (narrow == sea).all(axis=-1).any()


def test_a_footprint_across_the_antimeridian_is_in_one_piece() -> None:
    halves = shapely.MultiPolygon([shapely.box(179, 69, 180, 70), shapely.box(-180, 69, -179, 70)])
    near = np.asarray(location_map(halves))[:, 260:].astype(int)
    green = (near[..., 1] > near[..., 0] + 20).any(axis=0)
    assert green.sum() > 120
    assert np.diff(np.flatnonzero(green)).max() <= 2


def test_a_scene_of_the_south_has_the_globe_around_it() -> None:
    x, y = mark(shapely.box(13, -33, 14, -32))
    assert abs(x) < 3
    assert abs(y) < 3


def test_many_scenes_are_darker_and_the_area_is_red() -> None:
    boxes = [shapely.box(lon, 69, lon + 1, 70) for lon in (-140, -138, -136)]
    area = shapely.box(-141, 68.5, -134, 70.5)
    image = np.asarray(footprint_map(list(zip(boxes, (1, 10, 100), strict=True)), area)).astype(int)
    assert image.shape == (256, 256, 3)
    row = image[128]
    few, some, many = (np.median(part[part[:, 1] > part[:, 0] + 20].sum(axis=1)) for part in np.array_split(row, 3))
    assert few > some > many
    assert (np.abs(image - MARK) < 12).all(axis=-1).any(axis=0).sum() > 150


def test_sites_are_dots_over_the_scenes_that_observed_them() -> None:
    scenes = gpd.GeoDataFrame(geometry=[shapely.box(5e5, 7.6e6, 6e5, 7.7e6), shapely.Polygon()], crs=32608)
    centres = gpd.GeoSeries.from_xy([5.2e5, 5.8e5], [7.65e6, 7.65e6], crs=32608).to_crs(4326)
    sites = gpd.GeoDataFrame({"lon": centres.x, "lat": centres.y, "seen": [1, 9], "observable": [10, 9]})
    image = site_map(sites, scenes)
    assert image is not None
    pixels = np.asarray(image)[:256].astype(int)
    red, green, blue = np.moveaxis(pixels, -1, 0)
    yellow, dark = (red > 220) & (green > 170) & (blue < 160), (red < 150) & (green < 30)
    assert np.nonzero(yellow)[1].mean() < 100
    assert np.nonzero(dark)[1].mean() > 156
    assert site_map(sites, scenes.iloc[1:]) is None
