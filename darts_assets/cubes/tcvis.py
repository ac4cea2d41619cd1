"""TCVIS: trends of the Tasseled Cap components of Landsat since 2000 (EPSG:4326), one cube per vintage.

The lattice is that of Earth Engine's 30 m grid in degrees, from the corner (-180, 90); the cube covers 90 to 45 degrees
north and continues 30 degrees past the antimeridian (see `grid`).
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.bands import TCVIS, band
from darts_assets.cubes._raster import read_onto, with_raster
from darts_assets.cubes.grid import CubeGrid, whole_chunks
from darts_assets.cubes.variables import ChunkData, CubeSpec
from darts_assets.errors import CubeError, RasterError

CRS = "EPSG:4326"
RESOLUTION = 0.00026949458523585647
VINTAGES = (2019, 2020, 2022, 2024)
"""Last years of the published trends."""

PROVIDER_NAMES = ("TCB_slope", "TCG_slope", "TCW_slope")
"""Names of the bands in Earth Engine."""

_PAST_ANTIMERIDIAN = 30


def vintage_for(year: int) -> int:
    """The vintage for scenes of a year: 2019 up to 2018, 2020 for 2019, 2022 for 2020 and 2021, then 2024."""
    for last_year, vintage in ((2018, 2019), (2019, 2020), (2021, 2022)):
        if year <= last_year:
            return vintage
    return 2024


def collection_of(vintage: int) -> str:
    """The image collection of a vintage in Earth Engine."""
    return f"users/ingmarnitze/TCTrend_SR_2000-{vintage}_TCVIS"


def tcvis_spec(vintage: int) -> CubeSpec:
    """The cube of a vintage: `tc_brightness tc_greenness tc_wetness`, uint8, 0 without data.

    Raises:
        CubeError: if the vintage does not exist.
    """
    if vintage not in VINTAGES:
        raise CubeError(f"TCVIS has the vintages {', '.join(map(str, VINTAGES))}, not {vintage}")
    geobox = whole_chunks(CRS, RESOLUTION, -180, 90, 360 + _PAST_ANTIMERIDIAN, 45)
    return CubeSpec(
        name=f"tcvis_{vintage}",
        grid=CubeGrid(str(vintage), geobox),
        variables=tuple(band(name) for name in TCVIS),
        title=f"Tasseled Cap trends of Landsat, 2000 to {vintage}",
        source=f"{collection_of(vintage)} (Earth Engine)",
    )


class TcvisRasters:
    """Rasters of the trends, one per vintage: three uint8 bands in EPSG:4326.

    Bands are identified by their descriptions (`tc_brightness ...` or `TCB_slope ...`), without any by position.

    Args:
        template: path, `http(s)://...` or public `s3://...` of the rasters, with `{vintage}` in it.
    """

    def __init__(self, template: str) -> None:
        self.template = template

    def read_chunk(self, vintage: int, geobox: GeoBox) -> ChunkData:
        """The part of a vintage's raster under a chunk; nearest neighbour where it is not on the cube's lattice.

        Args:
            vintage: last year of the trends.
            geobox: the chunk's grid, EPSG:4326; longitudes may exceed 180.

        Returns:
            Three uint8 arrays, 0 outside the raster.

        Raises:
            CubeError: if the path of the vintage's raster does not exist.
            RasterError: if the raster has unexpected properties, is corrupt, or does not exist at the URL.
            SourceUnavailableError: if the URL's service does not answer.
        """
        place = self.template.replace("{vintage}", str(vintage))
        if "://" not in place:
            place = str(Path(place).expanduser())
            if not Path(place).is_file():
                raise CubeError(f"no TCVIS raster of vintage {vintage}: {place} does not exist")

        def use(source: Any) -> npt.NDArray[np.uint8]:
            indexes = _indexes(source, place)
            values = np.zeros((len(TCVIS), *geobox.shape), dtype=np.uint8)
            for columns, side in sides(geobox):
                values[:, :, columns] = read_onto(source, side, indexes, fill=0)
            return values

        values = with_raster(place, use)
        has_data = values.any(axis=0)
        return ChunkData(
            values=dict(zip(TCVIS, values, strict=True)),
            sources=(_file_name(place),) if has_data.any() else (),
            fill_fraction=float(has_data.mean()),
        )


def _indexes(source: Any, path: str) -> list[int]:
    if source.crs is None or source.crs.to_epsg() != 4326:
        raise RasterError(f"{path} is in {source.crs}, expected {CRS}")
    if source.count < len(TCVIS) or set(source.dtypes) != {"uint8"}:
        raise RasterError(f"{path} has {source.count} band(s) of {source.dtypes[0]}, expected {len(TCVIS)} of uint8")
    described = {description: index for index, description in enumerate(source.descriptions, 1) if description}
    for names in (TCVIS, PROVIDER_NAMES):
        if set(names) <= set(described):
            return [described[name] for name in names]
    if described:
        raise RasterError(f"{path} has the bands {', '.join(described)}, expected {', '.join(TCVIS)}")
    return [1, 2, 3]


def sides(geobox: GeoBox) -> Iterator[tuple[slice, GeoBox]]:
    """The parts of a chunk west and east of the antimeridian, by pixel centres, both within -180..180 degrees."""
    width = int(geobox.shape[1])
    west = min(max(math.ceil((180 - geobox.boundingbox.left) / RESOLUTION - 0.5), 0), width)
    if west > 0:
        yield slice(0, west), geobox[:, :west]
    if west < width:
        east = geobox[:, west:]
        yield slice(west, width), GeoBox(east.shape, Affine.translation(-360, 0) @ east.affine, east.crs)


def _file_name(place: str) -> str:
    """The file's name, without the query of a URL, which may be a signature."""
    path = place.partition("?")[0] if "://" in place else place
    return path.rpartition("/")[2]
