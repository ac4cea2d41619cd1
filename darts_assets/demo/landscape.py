"""Landscape of the demo world: hills, rivers, lakes and vegetation on a 10 m polar stereographic grid."""

from dataclasses import dataclass

import cv2
import numpy as np
from odc.geo.geobox import GeoBox

from darts_assets.demo.noise import Field, fractal, noise, smoothstep
from darts_assets.demo.polar_outlines import Outline, blob

# Spacing of the noise lattice (m) -> standard deviation of elevation (m).
_HILLS: dict[float, float] = {3000: 48, 1500: 22, 750: 9, 375: 3.4, 180: 1.2, 90: 0.40, 45: 0.12, 20: 0.04}
_VALLEY_HALF_WIDTH = 1100.0
_CHANNEL_HALF_WIDTH = 55.0
_LAKE_CELL = 1500.0
_LAKE_RELIEF = 16.0
"""Maximum relief of a lake shore in metres."""


@dataclass(frozen=True, slots=True, eq=False)
class Landscape:
    """The undisturbed ground; all fields are float32 on `geobox`.

    Attributes:
        geobox: 10 m grid in EPSG:3413.
        elevation: metres.
        water: 0 land, 1 water; soft over the shore pixel.
        turbidity: 0 clear lake, 1 river.
        sand: 0 to 1, bare river bars.
        greenness: 0 bare, 1 dense shrub.
        moisture: 0 dry, 1 wet.
        texture: unit-variance small-scale noise of brightness.
    """

    geobox: GeoBox
    elevation: Field
    water: Field
    turbidity: Field
    sand: Field
    greenness: Field
    moisture: Field
    texture: Field


def make_landscape(geobox: GeoBox, seed: int) -> Landscape:
    """The landscape of a seed on a grid; overlapping grids of one seed agree."""
    key = seed * 1000
    hills = 175 + fractal(geobox, _HILLS, key + 1) * (1 + 0.25 * noise(geobox, 2500, key + 2))
    river = _distance_to_river(geobox, key + 3)
    floor = 45 + 8 * noise(geobox, 6000, key + 4) + fractal(geobox, {300: 0.8, 90: 0.25}, key + 5)
    elevation: Field = floor + (hills - floor) * smoothstep(river, 1.6 * _CHANNEL_HALF_WIDTH, _VALLEY_HALF_WIDTH)
    channel = smoothstep(-river, -_CHANNEL_HALF_WIDTH - 6, -_CHANNEL_HALF_WIDTH + 6)
    elevation -= 3 * smoothstep(-river, -2 * _CHANNEL_HALF_WIDTH, -_CHANNEL_HALF_WIDTH)
    near = smoothstep(-river, -3.2 * _CHANNEL_HALF_WIDTH, -_CHANNEL_HALF_WIDTH)
    sand = near * smoothstep(noise(geobox, 170, key + 6) + 0.3 * noise(geobox, 50, key + 7), 0.5, 0.9)

    elevation, lakes = _dig_lakes(geobox, elevation, river, key)
    water = np.maximum(channel, lakes)

    greenness, moisture = _plants(geobox, elevation, river, key)
    return Landscape(
        geobox=geobox,
        elevation=elevation,
        water=water,
        turbidity=channel,
        sand=sand * (1 - water),
        greenness=greenness,
        moisture=moisture,
        texture=fractal(geobox, {90: 0.5, 40: 0.6, 16: 0.6}, key + 10),
    )


def hill_gradient(elevation: Field, resolution: float, sigma: float) -> tuple[Field, Field]:
    """Eastward and northward derivative (m/m) of the terrain smoothed over `sigma` metres."""
    smooth = cv2.GaussianBlur(elevation, (0, 0), sigma / resolution) if sigma else elevation
    dy, dx = np.gradient(smooth, resolution)
    return np.asarray(dx, dtype=np.float32), np.asarray(-dy, dtype=np.float32)


def _distance_to_river(geobox: GeoBox, key: int) -> Field:
    """Metres to the nearest river's centre line, which is where a smooth field changes sign."""
    field = fractal(geobox, {5500: 1.0, 2200: 0.15, 900: 0.05}, key)
    east, north = hill_gradient(field, geobox.resolution.x, 0)
    # To first order; the constant keeps saddles of the field from becoming far away from everything.
    return np.asarray(np.abs(field) / np.sqrt(east**2 + north**2 + np.float32(1e-8)), dtype=np.float32)


def _dig_lakes(geobox: GeoBox, elevation: Field, river: Field, key: int) -> tuple[Field, Field]:
    """Add lakes with level water and banks; returns elevation and a water field."""
    elevation, water = elevation.copy(), np.zeros_like(elevation)
    for lake in _lakes(geobox, key):
        window = lake.window(geobox, 2.0)
        if window is None:
            continue
        fraction, inside, _ = lake.local(geobox[window])
        ground = elevation[window]
        shore = ground[(inside < 0) & (inside > -40)]
        if shore.size == 0 or np.ptp(shore) > _LAKE_RELIEF or river[window][fraction < 1.3].min(initial=np.inf) < 200:
            continue
        level = float(np.quantile(shore, 0.15)) - 1
        # Banks: level up to the shore, the old ground from 120 m on.
        elevation[window] = level + (ground - level) * smoothstep(-inside, 0, 120)
        water[window] = np.maximum(water[window], smoothstep(inside, -5, 5))
    return elevation, water


def _lakes(geobox: GeoBox, key: int) -> list[Outline]:
    """One candidate lake for every other cell of a fixed lattice, from a generator seeded by the cell."""
    box = geobox.boundingbox
    columns = range(int(box.left // _LAKE_CELL) - 1, int(box.right // _LAKE_CELL) + 2)
    rows = range(int(box.bottom // _LAKE_CELL) - 1, int(box.top // _LAKE_CELL) + 2)
    lakes = []
    for column in columns:
        for row in rows:
            rng = np.random.default_rng([key, column % 2**32, row % 2**32])
            if rng.random() < 0.6:
                x, y = (np.array([column, row]) + rng.uniform(0.25, 0.75, 2)) * _LAKE_CELL
                radius = float(np.clip(rng.lognormal(np.log(210), 0.5), 70, 480))
                lakes.append(blob(rng, float(x), float(y), radius, stretch=rng.uniform(1, 1.9), rough=0.13))
    return lakes


def _plants(geobox: GeoBox, elevation: Field, river: Field, key: int) -> tuple[Field, Field]:
    """Greenness and moisture: shrubs in hollows and valleys, sedge on wet flats, bare ground on wind-swept ridges."""
    resolution = geobox.resolution.x
    position = elevation - cv2.GaussianBlur(elevation, (0, 0), 250 / resolution)
    slope = np.hypot(*hill_gradient(elevation, resolution, 30))
    flat = np.exp(-slope / np.float32(0.03))
    moisture = (
        0.38 - 0.05 * position + 0.25 * flat + 0.10 * noise(geobox, 600, key + 8) + 0.06 * noise(geobox, 120, key + 9)
    )
    moisture += 0.15 * np.exp(-river / np.float32(500))
    moisture = np.clip(moisture, 0, 1)
    greenness = 0.55 - 0.20 * np.tanh(position / 12) - 0.0005 * (elevation - 120) + 0.3 * slope
    greenness += fractal(geobox, {1200: 0.07, 350: 0.07, 120: 0.05, 40: 0.04}, key + 11)
    greenness -= 0.5 * smoothstep(position + 7 * noise(geobox, 250, key + 12), 17, 32)
    return np.clip(greenness, 0.02, 1).astype(np.float32), moisture.astype(np.float32)
