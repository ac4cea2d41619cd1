"""Synthetic Sentinel-2 images: reflectance, illumination, clouds, digital numbers and scene classification."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox
from rasterio.warp import Resampling, reproject

from darts_assets.bands import VISIBLE_NIR
from darts_assets.demo.demo_scenes import Acquisition
from darts_assets.demo.landscape import hill_gradient
from darts_assets.demo.noise import Field, noise, smoothstep
from darts_assets.demo.thaw_slumps import Disturbed
from darts_assets.demo.world_blocks import Block

# Reflectance of pure surfaces in blue, green, red, nir: plausible for late July at 69 degrees north.
_SURFACES = {
    "shrub": (0.024, 0.046, 0.032, 0.330),
    "tundra": (0.034, 0.058, 0.056, 0.225),
    "sedge": (0.027, 0.048, 0.042, 0.215),
    "lichen": (0.075, 0.098, 0.116, 0.200),
    "mud": (0.080, 0.112, 0.146, 0.190),
    "gravel": (0.086, 0.116, 0.142, 0.186),
    "sand": (0.120, 0.150, 0.175, 0.220),
    "lake": (0.030, 0.028, 0.016, 0.008),
    "river": (0.052, 0.066, 0.060, 0.024),
    "cloud": (0.480, 0.470, 0.465, 0.490),
}
_HAZE = (0.010, 0.006, 0.004, 0.002)
_NOISE = 0.0022
_CLOUD_HEIGHT = 900.0


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One scene as the provider delivers it.

    Attributes:
        geobox: 10 m grid.
        numbers: `blue green red nir` -> uint16 digital numbers, 0 = no data.
        classes: uint8 scene classification on the 20 m grid (half the shape).
    """

    geobox: GeoBox
    numbers: Mapping[str, npt.NDArray[np.uint16]]
    classes: npt.NDArray[np.uint8]

    @classmethod
    def blank(cls, geobox: GeoBox) -> "Image":
        """An image without any data."""
        numbers = {name: np.zeros(geobox.shape, dtype=np.uint16) for name in VISIBLE_NIR}
        return cls(geobox, numbers, np.zeros(geobox.zoom_out(2).shape, dtype=np.uint8))


def add_block(image: Image, ground: Disturbed, acquisition: Acquisition, block: Block, seed: int) -> None:
    """Add the part of a scene that lies in a block; in place."""
    window = block.window_of(image.geobox)
    if window is None:
        return
    part = take_image(ground, acquisition, image.geobox[window], seed, block.numbers)
    halved = tuple(slice(side.start // 2, side.stop // 2) for side in window)
    covered = block.covers(part.geobox.zoom_out(2))  # whole pixels of the classification
    np.copyto(image.classes[halved], part.classes, where=covered)
    covered = covered.repeat(2, axis=0).repeat(2, axis=1)
    for name, numbers in image.numbers.items():
        np.copyto(numbers[window], part.numbers[name], where=covered)


def take_image(
    ground: Disturbed, acquisition: Acquisition, geobox: GeoBox, seed: int, block: tuple[int, ...] = ()
) -> Image:
    """Image a landscape that covers `geobox`; `seed` and `block` determine weather and sensor noise.

    The weather is scaled to the grid; therefore a cloudy scene cannot be made in blocks.
    """
    rng = np.random.default_rng([seed, acquisition.orbit, acquisition.sensed.toordinal(), *block])
    fields = _on_scene(ground, geobox)
    reflectance = _surface(fields, acquisition)
    cloud, shadow, cirrus = _weather(acquisition, geobox, seed) if acquisition.cloudy else _clear(geobox)
    reflectance *= 1 - 0.55 * shadow
    veil = np.maximum(cloud, 0.16 * cirrus)
    for number in range(len(VISIBLE_NIR)):
        reflectance[number] += veil * (_SURFACES["cloud"][number] - reflectance[number]) + _HAZE[number]
    reflectance += rng.normal(0, _NOISE, reflectance.shape).astype(np.float32) * (1 + 2 * reflectance)

    seen = ~_beyond_swath(geobox) if acquisition.cloudy else np.ones(geobox.shape, dtype=bool)
    # A digital number of 0 is reserved for "no data".
    numbers = np.clip(np.rint((reflectance - np.float32(acquisition.offset)) * 10000), 1, 65535) * seen
    classes = _classify(reflectance, fields["water"], cloud, shadow, cirrus, seen)
    return Image(geobox, dict(zip(VISIBLE_NIR, numbers.astype(np.uint16), strict=True)), classes)


def _on_scene(ground: Disturbed, geobox: GeoBox) -> dict[str, Field]:
    """The fields of the ground, resampled to the grid of the scene."""
    land = ground.landscape
    sources = {
        "elevation": land.elevation, "water": land.water, "turbidity": land.turbidity, "sand": land.sand,
        "greenness": land.greenness, "moisture": land.moisture, "texture": land.texture,
        "mud": ground.mud, "gravel": ground.gravel, "burn": ground.burn,
    }  # fmt: skip
    fields = {}
    for name, values in sources.items():
        fields[name] = np.full(geobox.shape, np.nan, dtype=np.float32)
        reproject(
            values, fields[name], src_transform=land.geobox.affine, src_crs=str(land.geobox.crs),
            dst_transform=geobox.affine, dst_crs=str(geobox.crs), dst_nodata=np.nan, resampling=Resampling.bilinear,
        )  # fmt: skip
    return fields


def _surface(fields: Mapping[str, Field], acquisition: Acquisition) -> Field:
    """Surface reflectance (4, rows, columns): linear mixture of covers, illuminated by the sun."""
    green = np.clip(fields["greenness"] * acquisition.greenness, 0, 1)
    wet = smoothstep(fields["moisture"], 0.45, 0.85)
    lichen = 1 - smoothstep(green, 0.05, 0.35)
    shrub = smoothstep(green, 0.45, 1.05) * (1 - 0.5 * wet)
    bare_texture = 1 + 0.10 * fields["texture"]
    layers = []
    for number in range(len(VISIBLE_NIR)):
        pure = {name: np.float32(values[number]) for name, values in _SURFACES.items()}
        value = pure["tundra"] + shrub * (pure["shrub"] - pure["tundra"])
        value = value + wet * 0.6 * (pure["sedge"] - value)
        value = value + lichen * (pure["lichen"] - value)
        # Burns are decades old: the vegetation has recovered and is slightly darker.
        value = value * (1 - 0.05 * fields["burn"]) * (1 + 0.05 * fields["texture"])
        for cover in ("gravel", "sand", "mud"):
            value = value + fields[cover] * (pure[cover] * bare_texture - value)
        layers.append(value * _light(fields["elevation"], acquisition))
        water = pure["lake"] + fields["turbidity"] * (pure["river"] - pure["lake"])
        layers[-1] = layers[-1] + fields["water"] * (water - layers[-1])
    return np.stack(layers).astype(np.float32)


def _light(elevation: Field, acquisition: Acquisition) -> Field:
    """Illumination of a slope relative to flat ground, with a diffuse part."""
    east, north = hill_gradient(elevation, 10, 8)
    azimuth, zenith = np.radians(acquisition.sun_azimuth), np.radians(90 - acquisition.sun_elevation)
    toward = np.cos(zenith) - np.sin(zenith) * (np.sin(azimuth) * east + np.cos(azimuth) * north)
    incidence = np.maximum(toward / np.sqrt(1 + east**2 + north**2), 0) / np.cos(zenith)
    return np.asarray(0.3 + 0.7 * np.clip(incidence, 0, 1.8), dtype=np.float32)


def _clear(geobox: GeoBox) -> tuple[Field, Field, Field]:
    nothing = np.zeros(geobox.shape, dtype=np.float32)
    return nothing, nothing, nothing


def _weather(acquisition: Acquisition, geobox: GeoBox, seed: int) -> tuple[Field, Field, Field]:
    """Opacity of clouds, depth of their shadows and thickness of cirrus, each 0 to 1."""
    key = seed * 1000 + 40
    height, width = geobox.shape
    # Scaled to the window, so that small scenes have clouds as well.
    size = width * geobox.resolution.x
    reach = _CLOUD_HEIGHT / np.tan(np.radians(acquisition.sun_elevation)) / geobox.resolution.x
    azimuth = np.radians(acquisition.sun_azimuth)
    away_columns, away_rows = round(-reach * np.sin(azimuth)), round(reach * np.cos(azimuth))
    # Clouds beyond the scene's edge throw shadows into it.
    pad = int(np.ceil(reach))
    sky = geobox.pad(pad)
    bulk = noise(sky, 0.10 * size, key) + 0.5 * noise(sky, 0.03 * size, key + 1) + 0.2 * noise(sky, 90, key + 2)
    # More clouds in the east.
    bulk += 0.9 * np.linspace(-1, 1, sky.shape[1], dtype=np.float32)
    clouds = smoothstep(bulk, 1.1, 1.9)
    cloud = clouds[pad : pad + height, pad : pad + width]
    top, left = pad - away_rows, pad - away_columns
    shadow = smoothstep(clouds[top : top + height, left : left + width], 0.1, 0.6) * (1 - cloud)
    cirrus = smoothstep(noise(geobox, 0.25 * size, key + 3) + 0.3 * noise(geobox, 0.05 * size, key + 4), 0.9, 1.6)
    return cloud, shadow, cirrus * (1 - cloud)


def _beyond_swath(geobox: GeoBox) -> npt.NDArray[np.bool_]:
    """Mask of the wedge in the lower left outside the swath, in whole 20 m pixels."""
    rows, columns = (np.repeat(np.arange(n // 2), 2) / (n // 2) for n in geobox.shape)
    return np.asarray(columns[None, :] < 0.45 * (rows[:, None] - 0.45))


def _classify(
    reflectance: Field, water: Field, cloud: Field, shadow: Field, cirrus: Field, seen: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """SCL on the 20 m grid by simple rules on 2 x 2 means, the most obstructive rule last."""
    red, nir = _halved(reflectance[2]), _halved(reflectance[3])
    classes = np.where((nir - red) / (nir + red) > 0.3, 4, 5).astype(np.uint8)
    classes[(nir < 0.09) & (red < 0.05)] = 2
    classes[_halved(water) > 0.5] = 6
    classes[_halved(shadow) > 0.4] = 3
    classes[_halved(cirrus) > 0.35] = 10
    classes[_halved(cloud) > 0.12] = 8
    classes[_halved(cloud) > 0.6] = 9
    classes[~seen[::2, ::2]] = 0
    return classes


def _halved(values: Field) -> Field:
    rows, columns = values.shape
    return np.asarray(values.reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3)), dtype=np.float32)
