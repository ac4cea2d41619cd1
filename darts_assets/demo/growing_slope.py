"""One slope of the demo's landscape in the summers of several years, with thaw slumps that grow."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.bands import VISIBLE_NIR
from darts_assets.demo.demo_scenes import ACQUISITIONS
from darts_assets.demo.landscape import make_landscape
from darts_assets.demo.layers import tcvis_grid, trends
from darts_assets.demo.optics import take_image
from darts_assets.demo.thaw_slumps import disturb
from darts_assets.tiles import on_grid

_FIRST_AREA = 0.3
"""Area of the slumps in the first year, as a fraction of that in the last one."""

_VINTAGE = 2024
"""Vintage for the strength and noise of the trends; one for all years, so that only slumps differ."""

_MARGIN = 800  # metres of ground around the scenes


@dataclass(frozen=True)
class Slope:
    """A slope through the years.

    Attributes:
        scenes: year -> scene: float32 reflectance `blue green red nir`, on one 10 m grid; `sun_azimuth`,
            `sun_elevation` and `datetime` as attributes.
        arcticdem: year -> float32 `dem` in metres and uint8 `arcticdem_data_mask` in EPSG:3413, of that summer.
        tcvis: year -> uint8 `tc_*` in EPSG:4326, the trends up to that summer.
        true_area: year -> area of the slumps, m2.
    """

    scenes: dict[int, xr.Dataset]
    arcticdem: dict[int, xr.Dataset]
    tcvis: dict[int, xr.Dataset]
    true_area: dict[int, float]


def growing_slope(years: Sequence[int] = range(2014, 2024), size: int = 240, seed: int = 5, slumps: int = 3) -> Slope:
    """Make a slope on which slumps grow to three times their area in equal steps.

    Args:
        years: years of the scenes, ascending, at least two.
        size: rows and columns of the scenes, 10 m pixels, even.
        seed: seed of all random numbers.
        slumps: number of slumps.
    """
    grid = ACQUISITIONS[0].geobox(size)
    box = grid.extent.to_crs("EPSG:3413", resolution=500).boundingbox
    left, top = (round(edge, -1) for edge in (box.left - _MARGIN, box.top + _MARGIN))
    shape = (int(box.span_y + 2 * _MARGIN) // 10, int(box.span_x + 2 * _MARGIN) // 10)
    area = GeoBox(shape, Affine(10, 0, left, 0, -10, top), "EPSG:3413")
    land = make_landscape(area, seed)
    inside = np.zeros(shape, dtype=bool)
    rim = (_MARGIN + 400) // 10
    inside[rim:-rim, rim:-rim] = True
    growth = np.linspace(_FIRST_AREA, 1, len(years))

    trends_grid = tcvis_grid(area)
    mask = np.ones(shape, dtype=np.uint8)
    slope = Slope({}, {}, {}, {})
    for year, grown in zip(years, growth.tolist(), strict=True):
        acquisition = dataclasses.replace(ACQUISITIONS[0], sensed=ACQUISITIONS[0].sensed.replace(year=year))
        ground = disturb(land, inside, inside, slumps, seed, grown=grown)
        image = take_image(ground, acquisition, grid, seed)
        bands = {name: (image.numbers[name] * 1e-4 + acquisition.offset).astype(np.float32) for name in VISIBLE_NIR}
        slope.scenes[year] = on_grid(bands, grid, {
            "sun_azimuth": acquisition.sun_azimuth, "sun_elevation": acquisition.sun_elevation,
            "datetime": acquisition.sensed.isoformat(),
        })  # fmt: skip
        elevation = np.round(ground.landscape.elevation, 2).astype(np.float32)
        slope.arcticdem[year] = on_grid({"dem": elevation, "arcticdem_data_mask": mask}, area)
        slope.tcvis[year] = on_grid(trends(ground, trends_grid, _VINTAGE, seed), trends_grid)
        slope.true_area[year] = sum(slump.polygon.area for slump in ground.slumps)
    return slope
