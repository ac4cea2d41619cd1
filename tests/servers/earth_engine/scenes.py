"""Sentinel-2 in the local Earth Engine: scenes with metadata, grids and pixels, and the values expected of clients."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from tests.servers.earth_engine.images import Image, Layers, Lazy

HARMONIZED, ORIGINAL = "COPERNICUS/S2_SR_HARMONIZED", "COPERNICUS/S2_SR"

RESOLUTIONS = {
    "B1": 60, "B2": 10, "B3": 10, "B4": 10, "B5": 20, "B6": 20, "B7": 20, "B8": 10, "B8A": 20, "B9": 60, "B11": 20,
    "B12": 20, "SCL": 20,
}  # fmt: skip
DTYPES = {band: "uint8" if band == "SCL" else "uint16" for band in RESOLUTIONS}
CRS = "EPSG:32608"
CORNER = (499980, 7500000)
OUTSIDE = 36
"""Columns of 10 m at the left edge that are no part of a scene."""


@dataclass(frozen=True)
class Scene:
    """One product of a tile of a datatake.

    Attributes:
        sensed: when the datatake began.
        tile: MGRS tile, in UTM zone 8 North if anybody reads pixels.
        baseline: processing baseline; None if the image does not tell.
        cloud: percent.
        snow: percent; None if the image does not tell.
        zenith: of the sun, degrees.
        footprint: GeoJSON.
        datastrip: when the datastrip began.
        made: when the product was made.
        shape: rows and columns of 10 m.
    """

    sensed: dt.datetime
    tile: str = "08WNB"
    baseline: str | None = "05.09"
    cloud: float = 5.0
    snow: float | None = 0.0
    zenith: float = 50.25
    footprint: Mapping[str, Any] | None = None
    datastrip: dt.datetime | None = None
    made: dt.datetime | None = None
    shape: tuple[int, int] = (10980, 10980)

    @cached_property
    def index(self) -> str:
        return f"{_text(self.sensed)}_{_text(self.datastrip or self.sensed)}_T{self.tile}"

    @property
    def adds_1000(self) -> bool:
        """Whether ESA has added 1000 to the digital numbers."""
        return (self.baseline or "") >= "04.00"

    @cached_property
    def properties(self) -> dict[str, Any]:
        version = (self.baseline or "00.00").replace(".", "")
        made = _text(self.made or self.sensed + dt.timedelta(hours=5))
        fields = {
            "system:index": self.index,
            "system:time_start": (self.sensed + dt.timedelta(minutes=4, milliseconds=26)).timestamp() * 1000,
            "MGRS_TILE": self.tile,
            "CLOUDY_PIXEL_PERCENTAGE": self.cloud,
            "SNOW_ICE_PERCENTAGE": self.snow,
            "MEAN_SOLAR_AZIMUTH_ANGLE": 172.5,
            "MEAN_SOLAR_ZENITH_ANGLE": self.zenith,
            "PROCESSING_BASELINE": self.baseline,
            "DATASTRIP_ID": f"S2A_OPER_MSI_L2A_DS_2APS_{made}_S{_text(self.datastrip or self.sensed)}_N05.09",
            "SPACECRAFT_NAME": "Sentinel-2A",
        }
        if self.baseline is not None:
            fields["PRODUCT_ID"] = f"S2A_MSIL2A_{_text(self.sensed)}_N{version}_R100_T{self.tile}_{made}"
        return {key: value for key, value in fields.items() if value is not None}

    def image(self, collection: str) -> Image:
        """The scene in one of the collections."""
        rows, columns = self.shape

        def pixels(x: np.ndarray, y: np.ndarray) -> Layers:
            def layer(band: str) -> tuple[np.ndarray, np.ndarray]:
                size = RESOLUTIONS[band]
                col, row = np.floor((x - CORNER[0]) / size).astype(int), np.floor((CORNER[1] - y) / size).astype(int)
                return self.numbers(collection, band, row, col)

            return Lazy(RESOLUTIONS, layer)

        def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            col, row = (x - CORNER[0]) / 10, (CORNER[1] - y) / 10
            return (col >= OUTSIDE) & (col < columns) & (row >= 0) & (row < rows)

        outline = self.footprint or FOOTPRINT
        return Image(tuple(RESOLUTIONS), DTYPES, pixels, inside, CRS, self.properties, outline, _grids(self.shape))

    def numbers(self, collection: str, band: str, row: np.ndarray, col: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and masks of a band by row and column of its own resolution: here and there a pixel is masked."""
        if band == "SCL":
            return ((col + 3 * row) % 11 + 1).astype("uint8"), np.ones(col.shape, bool)
        order = list(RESOLUTIONS).index(band)
        values = (col * 31 + row * 17 + order * 101) % 9000 + 1 + 1000 * (self.adds_1000 and collection == ORIGINAL)
        return values.astype("uint16"), (col * 7 + row * 13 + order) % 211 != 0

    def expected(self, collection: str, band: str) -> np.ndarray:
        """A band on the 10 m grid, 0 where it is masked; every pixel of a coarser one repeated."""
        factor = RESOLUTIONS[band] // 10
        rows, columns = (-(-n // factor) for n in self.shape)
        values, mask = self.numbers(collection, band, *np.mgrid[:rows, :columns])
        whole = np.where(mask, values, 0).astype(values.dtype)
        whole = whole.repeat(factor, axis=0).repeat(factor, axis=1)[: self.shape[0], : self.shape[1]]
        whole[:, :OUTSIDE] = 0
        return whole


@cache
def _grids(shape: tuple[int, int]) -> dict[str, dict[str, Any]]:
    return {
        band: {
            "dimensions": [-(-n * 10 // size) for n in reversed(shape)],
            "crs": CRS,
            "crs_transform": [size, 0, CORNER[0], 0, -size, CORNER[1]],
        }
        for band, size in RESOLUTIONS.items()
    }


def _text(time: dt.datetime) -> str:
    return f"{time:%Y%m%dT%H%M%S}"


def polygon(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    """A rectangle in GeoJSON; it may go on past 180 degrees."""
    return {
        "type": "Polygon",
        "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
    }


def ring(outline: Mapping[str, Any]) -> dict[str, Any]:
    """The same as a ring, all longitudes from -180 to 180."""
    return {
        "type": "LinearRing",
        "coordinates": [[(lon + 180) % 360 - 180, lat] for lon, lat in outline["coordinates"][0]],
    }


FOOTPRINT = polygon(-135.0, 66.6, -132.5, 67.6)


def collections(*scenes: Scene) -> dict[str, tuple[Image, ...]]:
    """Both collections, in the order of time."""
    ordered = sorted(scenes, key=lambda scene: scene.index)
    return {name: tuple(scene.image(name) for scene in ordered) for name in (HARMONIZED, ORIGINAL)}
