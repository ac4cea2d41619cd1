"""What is asked of a scene's files before any of their pixels is trusted."""

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType

import rasterio
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.io import DatasetReader

from darts_assets.errors import RasterError, SourceUnavailableError
from darts_assets.remote.byte_source import MAX_CONNECTIONS, ByteSource, S3Options, is_remote, local_path, shown
from darts_assets.scene import Scene, SceneBand
from darts_assets.sources.rasters.gdal import GdalFiles, gdal_path
from darts_assets.sources.rasters.jpeg2000 import is_jpeg2000, missing_part
from darts_assets.sources.rasters.multihash import Checksum

logger = logging.getLogger(__name__)

_NONE: Mapping[str, ByteSource] = MappingProxyType({})


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
    scene: Scene,
    bands: Iterable[str],
    s3: S3Options | None = None,
    *,
    area: GeoBox | None = None,
    opened: Mapping[str, ByteSource] = _NONE,
) -> dict[str, Header]:
    """Check the files of some bands, and read their headers.

    Each file must exist, have the size that the item promises, be complete (JPEG 2000 and GeoTIFF), open, and have the
    band; each band must have the dtype that its provider gives it, the scene's CRS, and cover the same area as the
    others. A grid other than the item promises is logged as a warning: the file is right about its own pixels.

    Args:
        scene: the scene.
        bands: canonical names of bands that the scene has.
        s3: how `s3://` is reached.
        area: a grid whose area all files must cover; that of the finest file if None.
        opened: href -> the file, or a copy of it, where it has been looked up already.

    Returns:
        Canonical name -> header, in the order of `bands`.

    Raises:
        RasterError: if one is not as it must be; the text names scene, band and file.
        SourceUnavailableError: if a service does not answer after bounded retries.
        SettingsError: if there are no keys for S3, or the service refuses them.
    """
    order = list(bands)
    files = by_file(scene, order)
    s3 = s3 or S3Options()
    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        checked = list(pool.map(lambda file: _check_file(scene, file, opened, s3), files))
    headers = {name: header for file in checked for name, header in file.items()}
    headers = {name: headers[name] for name in order}
    _check_same_area(scene, headers, area)
    _warn_of_other_grids(scene, headers)
    return headers


def check_checksums(scene: Scene, bands: Iterable[str], opened: Mapping[str, ByteSource] = _NONE) -> dict[str, str]:
    """Check the contents of local files, and of copies of remote ones, where the item gives checksums.

    Args:
        scene: the scene.
        bands: canonical names of bands that the scene has.
        opened: as for `check_files`.

    Returns:
        Canonical name -> multihash of those bands whose file was checked.

    Raises:
        RasterError: if a file has another checksum than the item promises.
    """
    files = [file for file in by_file(scene, bands) if file[0].checksum is not None]
    places = [(file, opened[file[0].href].href if file[0].href in opened else file[0].href) for file in files]
    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        checked = list(
            pool.map(lambda pair: _check_checksum(scene, *pair), [pair for pair in places if not is_remote(pair[1])])
        )
    found = {name: checksum for file in checked for name, checksum in file.items()}
    return {name: found[name] for name in scene.bands if name in found}


def by_file(scene: Scene, bands: Iterable[str]) -> list[list[SceneBand]]:
    """Bands, those together that share a file."""
    ordered = sorted((scene.bands[name] for name in bands), key=lambda band: band.href)
    return [list(group) for _, group in groupby(ordered, key=lambda band: band.href)]


def look_up(scene: Scene, bands: list[SceneBand], s3: S3Options) -> ByteSource:
    """The file of some bands, if there is one and it has the size that the item promises; raises as `check_files`."""
    where = described(scene, bands[0])
    try:
        source = ByteSource(bands[0].href, s3)
    except FileNotFoundError:
        raise RasterError(f"{where}: there is no such file") from None
    except SourceUnavailableError as error:
        raise SourceUnavailableError(f"{where}: {error}") from None
    for band in bands:
        if band.size is not None and band.size != source.size:
            kind = "is truncated" if source.size < band.size else "is not the promised one"
            raise RasterError(
                f"{described(scene, band)} {kind}: it has {source.size} bytes, the item promises {band.size}"
            )
    return source


def described(scene: Scene, band: SceneBand) -> str:
    """Scene, band and file, for messages."""
    return f"scene {scene.id}, band {band.name}, file {shown(band.href)}"


def _check_file(
    scene: Scene, bands: list[SceneBand], opened: Mapping[str, ByteSource], s3: S3Options
) -> dict[str, Header]:
    where = described(scene, bands[0])
    source = opened[bands[0].href] if bands[0].href in opened else look_up(scene, bands, s3)
    try:
        if is_jpeg2000(source) and (missing := missing_part(source)):
            raise RasterError(f"{where} is truncated or damaged: {missing}")
    except SourceUnavailableError as error:
        raise SourceUnavailableError(f"{where}: {error}") from None

    def headers() -> dict[str, Header]:
        with rasterio.open(gdal_path(source.href), sharing=False) as dataset:
            if dataset.driver == "GTiff":
                _check_blocks_within(dataset, source.size, where)
            return {band.name: _check_band(scene, band, dataset) for band in bands}

    return GdalFiles([source.href], s3).read(source.href, where, headers, "cannot be opened as a raster")


def _check_checksum(scene: Scene, bands: list[SceneBand], place: str) -> dict[str, str]:
    where, promised = described(scene, bands[0]), str(bands[0].checksum)
    checksum = Checksum.parse(promised)
    if checksum is None:
        logger.warning("%s: its checksum %s is of no kind that is known, and was not verified", where, promised)
        return {}
    if (found := checksum.of(local_path(place))) != checksum.digest:
        raise RasterError(
            f"{where} is damaged: its {checksum.function} is {found}, the item promises {checksum.digest}"
        )
    return {band.name: promised for band in bands}


def _check_band(scene: Scene, band: SceneBand, dataset: DatasetReader) -> Header:
    where = described(scene, band)
    if band.index > dataset.count:
        raise RasterError(f"{where} has {dataset.count} band(s), band {band.index} was expected")
    if (actual := dataset.dtypes[band.index - 1]) != band.dtype:
        raise RasterError(f"{where} has values of type {actual}, {band.dtype} was expected")
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
