"""What is asked of a scene's files before any of their pixels is trusted."""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.session import DummySession

from darts_assets.errors import RasterError
from darts_assets.scene import Scene, SceneBand
from darts_assets.sources.access import (
    MAX_CONNECTIONS,
    ByteSource,
    S3Options,
    gdal_options,
    gdal_path,
    shown,
)
from darts_assets.sources.jpeg2000 import is_jpeg2000, missing_part
from darts_assets.sources.layouts import SCL

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Header:
    """What a band's file says about its pixels.

    Attributes:
        grid: the grid of its pixels.
        block_rows: rows of its internal tiles, the least that can be decoded at a time.
    """

    grid: GeoBox
    block_rows: int


def check_files(
    scene: Scene, bands: Iterable[str], s3: S3Options | None = None, *, area: GeoBox | None = None
) -> dict[str, Header]:
    """Check the files of some bands, and read their headers.

    Each file must exist, have the size that the item promises, be complete (JPEG 2000 and GeoTIFF), open, and have the
    band; each band must have the dtype of its kind (uint16 digital numbers, uint8 scene classification), the scene's
    CRS, and cover the same area as the others. A grid other than the item promises is logged as a warning: the file is
    right about its own pixels.

    Args:
        scene: the scene.
        bands: canonical names of bands that the scene has.
        s3: how `s3://` is reached.
        area: a grid whose area all files must cover; that of the finest file if None.

    Returns:
        Canonical name -> header, in the order of `bands`.

    Raises:
        RasterError: if one is not as it must be; the text names scene, band and file.
        SourceUnavailableError: if a service does not answer after bounded retries.
    """
    order = list(bands)
    by_file = sorted((scene.bands[name] for name in order), key=lambda band: band.href)
    files = [list(group) for _, group in groupby(by_file, key=lambda band: band.href)]
    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        checked = list(pool.map(lambda file: _check_file(scene, file, s3 or S3Options()), files))
    headers = {name: header for file in checked for name, header in file.items()}
    headers = {name: headers[name] for name in order}
    _check_same_area(scene, headers, area)
    _warn_of_other_grids(scene, headers)
    return headers


def described(scene: Scene, band: SceneBand) -> str:
    """Scene, band and file, for messages."""
    return f"scene {scene.id}, band {band.name}, file {shown(band.href)}"


def words_of(error: BaseException) -> str:
    """What GDAL said, over the chain of an error's causes, safe to show."""
    said: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        if str(cause) and str(cause) not in said:
            said.append(str(cause))
        cause = cause.__cause__
    return shown("; ".join(said))


def _check_file(scene: Scene, bands: list[SceneBand], s3: S3Options) -> dict[str, Header]:
    where = described(scene, bands[0])
    try:
        source = ByteSource(bands[0].href, s3)
    except FileNotFoundError:
        raise RasterError(f"{where}: there is no such file") from None
    for band in bands:
        if band.size is not None and band.size != source.size:
            kind = "is truncated" if source.size < band.size else "is not the promised one"
            raise RasterError(f"{where} {kind}: it has {source.size} bytes, the item promises {band.size}")
    if is_jpeg2000(source) and (missing := missing_part(source)):
        raise RasterError(f"{where} is truncated or damaged: {missing}")
    try:
        with (
            rasterio.Env(DummySession(), **gdal_options(s3)),
            rasterio.open(gdal_path(source.href), sharing=False) as dataset,
        ):
            if dataset.driver == "GTiff":
                _check_blocks_within(dataset, source.size, where)
            return {band.name: _check_band(scene, band, dataset) for band in bands}
    except RasterioError as error:
        # Not chained: the original text carries the URL with its signature.
        raise RasterError(f"{where} cannot be opened as a raster: {words_of(error)}") from None


def _check_band(scene: Scene, band: SceneBand, dataset: DatasetReader) -> Header:
    where = described(scene, band)
    if band.index > dataset.count:
        raise RasterError(f"{where} has {dataset.count} band(s), band {band.index} was expected")
    expected = np.dtype("uint8" if band.name == SCL else "uint16").name
    if (actual := dataset.dtypes[band.index - 1]) != expected:
        raise RasterError(f"{where} has values of type {actual}, {expected} was expected")
    if dataset.crs is None or dataset.crs != CRS.from_epsg(scene.epsg):
        actual = "no CRS" if dataset.crs is None else f"CRS {dataset.crs.to_string()}"
        raise RasterError(f"{where} has {actual}, its item says EPSG:{scene.epsg}")
    height, width = dataset.shape
    return Header(
        GeoBox((height, width), dataset.transform, f"EPSG:{scene.epsg}"), dataset.block_shapes[band.index - 1][0]
    )


def _check_blocks_within(dataset: DatasetReader, size: int, where: str) -> None:
    """A TIFF says where each of its blocks is; one beyond the end of the file is missing."""
    for index in dataset.indexes:
        block_height, block_width = dataset.block_shapes[index - 1]
        for row in range(-(-dataset.height // block_height)):
            for column in range(-(-dataset.width // block_width)):
                offset = dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=index)
                length = dataset.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=index)
                # Sparse files leave out blocks without data, which then have neither.
                if offset and length and int(offset) + int(length) > size:
                    needed = int(offset) + int(length)
                    raise RasterError(f"{where} is truncated: it has {size} bytes, a block ends at byte {needed}")


def _check_same_area(scene: Scene, headers: dict[str, Header], area: GeoBox | None) -> None:
    if area is None:
        area = min((header.grid for header in headers.values()), key=lambda grid: abs(grid.resolution.x))
    expected = area.extent.boundingbox
    for name, header in headers.items():
        tolerance = max(abs(header.grid.resolution.x), abs(header.grid.resolution.y))
        covered = header.grid.extent.boundingbox
        if max(abs(a - b) for a, b in zip(covered, expected, strict=True)) > tolerance:
            where = described(scene, scene.bands[name])
            raise RasterError(f"{where} covers {covered.bbox}, {expected.bbox} was expected as of the other bands")


def _warn_of_other_grids(scene: Scene, headers: dict[str, Header]) -> None:
    differing: dict[str, list[str]] = {}
    for name, header in headers.items():
        promised = scene.bands[name].grid
        if promised is not None and promised != header.grid:
            pair = f"{_grid_in_words(header.grid)} (the item promises {_grid_in_words(promised)})"
            differing.setdefault(pair, []).append(name)
    if differing:
        found = "; ".join(f"{', '.join(names)}: {pair}" for pair, names in differing.items())
        logger.warning("scene %s: the files' grids are used, which are not the item's: %s", scene.id, found)


def _grid_in_words(grid: GeoBox) -> str:
    left, top = grid.transform.c, grid.transform.f
    return f"{grid.shape.x} x {grid.shape.y} px of {abs(grid.resolution.x):g} m from ({left:.0f}, {top:.0f}) on"
