"""Checks of a scene's files before their pixels are used, and of a raw scene after it was stored."""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType

from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.io import DatasetReader

from darts_assets.bands import OPTICAL
from darts_assets.errors import RasterError, SourceUnavailableError
from darts_assets.remote.byte_reader import MAX_CONNECTIONS, ByteReader, S3Options, is_remote, shown
from darts_assets.remote.raster_files import open_raster
from darts_assets.remote.zip_members import open_reader
from darts_assets.scene import Scene, SceneBand
from darts_assets.sources.rasters.jpeg2000 import is_jpeg2000, missing_part
from darts_assets.sources.rasters.odc_driver import GdalFiles
from darts_assets.stores.statistics import BandStatistics

logger = logging.getLogger(__name__)

MAX_PIXELS = 2**29
MAX_BLOCKS = 2**18
"""Of a file; a Sentinel-2 band has 1.2e8 pixels in some 400 blocks, at most 10980 rows."""

_ALIGNED = 0.01
"""Largest difference between the corners of aligned bands, in pixels of the finest one."""

_READ = 1 << 22  # bytes

_NONE: Mapping[str, ByteReader] = MappingProxyType({})
_HASH_FUNCTIONS = {
    0x11: "sha1",
    0x12: "sha256",
    0x13: "sha512",
    0x14: "sha3_512",
    0x15: "sha3_384",
    0x16: "sha3_256",
    0x17: "sha3_224",
    0x20: "sha384",
    0xD5: "md5",
    0x1013: "sha224",
}


@dataclass(frozen=True, slots=True)
class Header:
    """Layout of a band's pixels in its file.

    Attributes:
        grid: the grid of the pixels.
        block_rows: rows of the internal tiles, the smallest unit that can be decoded.
    """

    grid: GeoBox
    block_rows: int


@dataclass(frozen=True, slots=True)
class Checksum:
    """The expected checksum of a file.

    Attributes:
        function: name of the hash function in `hashlib`.
        digest: expected digest, hexadecimal, lower case.
    """

    function: str
    digest: str

    @classmethod
    def parse(cls, multihash: str) -> "Checksum | None":
        """The checksum in a multihash, as in `file:checksum` of STAC items; None if malformed or of another function.

        A multihash is the code of the hash function and the length of the digest, both as varints, and the digest
        (https://multiformats.io/multihash), in hexadecimal. CDSE provides SHA3-256, Element 84 SHA2-256.
        """
        try:
            content = bytes.fromhex(multihash)
            code, begin = _varint(content, 0)
            length, begin = _varint(content, begin)
        except (ValueError, IndexError):
            return None
        function, digest = _HASH_FUNCTIONS.get(code), content[begin:]
        if function is None or len(digest) != length or length != hashlib.new(function).digest_size:
            return None
        return cls(function, digest.hex())

    def of(self, reader: ByteReader) -> str:
        """The digest of a local file; raises OSError."""
        digest = hashlib.new(self.function)
        for start in range(0, reader.size, _READ):
            digest.update(reader.read(start, _READ))
        return digest.hexdigest()


def check_files(
    scene: Scene,
    bands: Iterable[str],
    s3: S3Options | None = None,
    *,
    area: GeoBox | None = None,
    opened: Mapping[str, ByteReader] = _NONE,
) -> dict[str, Header]:
    """Check the files of some bands and read their headers.

    Each file must exist, have the size in the item, be complete (JPEG 2000 and GeoTIFF), open, and contain the band;
    each band must have the dtype of its provider, the CRS of the scene, and cover the same area as the others, without
    a shift. A coarser band that is shifted by whole pixels of the finest one is logged as a warning. A grid other than
    the item's is logged as a warning, and the file's is used.

    Args:
        scene: the scene.
        bands: canonical names of bands of the scene.
        s3: access to `s3://`.
        area: a grid whose area all files must cover; that of the finest file if None.
        opened: href -> the opened file or its copy, for files that are open already.

    Returns:
        Canonical name -> header, in the order of `bands`.

    Raises:
        RasterError: if a check fails; the text contains scene, band and file.
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


def check_checksums(scene: Scene, bands: Iterable[str], opened: Mapping[str, ByteReader] = _NONE) -> dict[str, str]:
    """Check local files and copies of remote ones against the checksums in the item.

    Args:
        scene: the scene.
        bands: canonical names of bands of the scene.
        opened: as in `check_files`.

    Returns:
        Canonical name -> multihash, of the bands whose file was checked.

    Raises:
        RasterError: if a checksum differs.
    """
    files = [file for file in by_file(scene, bands) if file[0].checksum is not None]
    places = [(file, opened[file[0].href].href if file[0].href in opened else file[0].href) for file in files]
    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        checked = list(
            pool.map(lambda pair: _check_checksum(scene, *pair), [pair for pair in places if not is_remote(pair[1])])
        )
    checksums = {name: checksum for file in checked for name, checksum in file.items()}
    return {name: checksums[name] for name in scene.bands if name in checksums}


def by_file(scene: Scene, bands: Iterable[str]) -> list[list[SceneBand]]:
    """Bands, grouped by file."""
    ordered = sorted((scene.bands[name] for name in bands), key=lambda band: band.href)
    return [list(group) for _, group in groupby(ordered, key=lambda band: band.href)]


def open_file(scene: Scene, bands: list[SceneBand], s3: S3Options) -> ByteReader:
    """Open the file of some bands, which must have the size in the item; raises as `check_files`."""
    where = described(scene, bands[0])
    try:
        reader = open_reader(bands[0].href, s3)
    except FileNotFoundError:
        raise RasterError(f"{where}: there is no such file") from None
    except SourceUnavailableError as error:
        raise SourceUnavailableError(f"{where}: {error}", unreachable=error.unreachable) from None
    for band in bands:
        if band.size is not None and band.size != reader.size:
            problem = "is truncated" if reader.size < band.size else "has the wrong size"
            raise RasterError(
                f"{described(scene, band)} {problem}: it has {reader.size} bytes, its item states {band.size}"
            )
    return reader


def described(scene: Scene, band: SceneBand) -> str:
    """Scene, band and file, for messages."""
    return f"scene {scene.id}, band {band.name}, file {shown(band.href)}"


def band_faults(
    needed: Iterable[str],
    shapes: Mapping[str, tuple[int, int]],
    grid: tuple[int, int],
    statistics: Mapping[str, BandStatistics],
) -> list[str]:
    """Faults that make a raw scene unusable, as sentences.

    A scene without any data is complete; nothing can be detected in it.

    Args:
        needed: bands that the models use.
        shapes: rows and columns of each stored band.
        grid: rows and columns of the scene's grid.
        statistics: of the digital numbers of each band.
    """
    faults = [f"band {name} is missing" for name in needed if name not in shapes]
    faults += [
        f"band {name} has {shape[0]} x {shape[1]} pixels, its grid {grid[0]} x {grid[1]}"
        for name, shape in shapes.items()
        if tuple(shape) != tuple(grid)
    ]
    optical = {name: band for name, band in statistics.items() if name in OPTICAL}
    fullest = max(optical, key=lambda name: optical[name].pixels, default="")
    for name, band in optical.items():
        if not band.pixels and optical[fullest].pixels:
            share = optical[fullest].pixels / (grid[0] * grid[1])
            faults.append(f"band {name} has no data, but {fullest} covers {100 * share:.1f} % of the scene")
        elif band.is_constant:
            faults.append(f"band {name} is {band.low:g} in all pixels with data")
    return faults


def coverage_faults(coverage: Mapping[str, float], least: float, spread: float) -> list[str]:
    """Suspicious coverage of a raw scene with data, as sentences.

    Args:
        coverage: of each band, the fraction of pixels with data.
        least: smallest expected fraction.
        spread: largest expected difference between the fractions of the optical bands.
    """
    optical = {name: share for name, share in coverage.items() if name in OPTICAL}
    fullest, emptiest = max(optical, key=optical.__getitem__), min(optical, key=optical.__getitem__)
    faults = []
    if optical[fullest] < least:
        faults.append(f"only {100 * optical[fullest]:.1f} % of the scene holds data, less than {100 * least:g} %")
    if optical[fullest] - optical[emptiest] > spread:
        faults.append(
            f"bands hold data in different parts of the scene: {emptiest} in {100 * optical[emptiest]:.1f} %, "
            f"{fullest} in {100 * optical[fullest]:.1f} %"
        )
    return faults


def _check_file(
    scene: Scene, bands: list[SceneBand], opened: Mapping[str, ByteReader], s3: S3Options
) -> dict[str, Header]:
    where = described(scene, bands[0])
    reader = opened[bands[0].href] if bands[0].href in opened else open_file(scene, bands, s3)
    try:
        if is_jpeg2000(reader) and (missing := missing_part(reader)):
            raise RasterError(f"{where} is truncated or damaged: {missing}")
    except SourceUnavailableError as error:
        raise SourceUnavailableError(f"{where}: {error}", unreachable=error.unreachable) from None

    gdal = GdalFiles([reader.href], s3)

    def headers() -> dict[str, Header]:
        with open_raster(gdal.signed(reader.href)) as dataset:
            _check_size(dataset, where)
            if dataset.driver == "GTiff":
                _check_blocks_within(dataset, reader.size, where)
            return {band.name: _check_band(scene, band, dataset) for band in bands}

    return gdal.read(reader.href, where, headers, "cannot be opened as a raster")


def _check_checksum(scene: Scene, bands: list[SceneBand], href: str) -> dict[str, str]:
    where, multihash = described(scene, bands[0]), str(bands[0].checksum)
    checksum = Checksum.parse(multihash)
    if checksum is None:
        logger.warning("%s: the checksum %s is of an unknown kind and was not verified", where, multihash)
        return {}
    if (digest := checksum.of(open_reader(href))) != checksum.digest:
        raise RasterError(f"{where} is damaged: its {checksum.function} is {digest}, its item states {checksum.digest}")
    return {band.name: multihash for band in bands}


def _check_band(scene: Scene, band: SceneBand, dataset: DatasetReader) -> Header:
    where = described(scene, band)
    if band.index > dataset.count:
        raise RasterError(f"{where} has {dataset.count} band(s), band {band.index} was expected")
    if (actual := dataset.dtypes[band.index - 1]) != band.dtype:
        raise RasterError(f"{where} has values of type {actual}, {band.dtype} was expected")
    if dataset.crs is None or dataset.crs != CRS.from_epsg(scene.epsg):
        actual = "no CRS" if dataset.crs is None else f"CRS {dataset.crs.to_string()}"
        raise RasterError(f"{where} has {actual}, its item EPSG:{scene.epsg}")
    grid = GeoBox(dataset.shape, dataset.transform, f"EPSG:{scene.epsg}")
    return Header(grid, dataset.block_shapes[band.index - 1][0])


def _check_size(dataset: DatasetReader, where: str) -> None:
    """Sizes are declared: a file of some bytes can have any number of pixels and blocks."""
    if (pixels := dataset.height * dataset.width) > MAX_PIXELS:
        raise RasterError(f"{where} declares {dataset.width} x {dataset.height} pixels; at most {MAX_PIXELS} are read")
    blocks = sum(-(-dataset.height // rows) * -(-dataset.width // columns) for rows, columns in dataset.block_shapes)
    if blocks > MAX_BLOCKS:
        raise RasterError(f"{where} declares {blocks} blocks for {pixels} pixels; at most {MAX_BLOCKS} are read")


def _check_blocks_within(dataset: DatasetReader, size: int, where: str) -> None:
    """A TIFF stores the offset of each block; a block beyond the end of the file is missing."""
    for index in dataset.indexes:
        block_height, block_width = dataset.block_shapes[index - 1]
        for row in range(-(-dataset.height // block_height)):
            for column in range(-(-dataset.width // block_width)):
                offset = dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=index)
                length = dataset.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=index)
                # Sparse files leave out blocks without data, which then have neither.
                if offset and length and (end := int(offset) + int(length)) > size:
                    raise RasterError(f"{where} is truncated: it has {size} bytes, a block ends at byte {end}")


def _check_same_area(scene: Scene, headers: dict[str, Header], area: GeoBox | None) -> None:
    if area is None:
        area = min((header.grid for header in headers.values()), key=lambda grid: abs(grid.resolution.x))
    expected = area.extent.boundingbox
    for name, header in headers.items():
        tolerance = max(abs(header.grid.resolution.x), abs(header.grid.resolution.y))
        covered = header.grid.extent.boundingbox
        if max(abs(a - b) for a, b in zip(covered, expected, strict=True)) > tolerance:
            where = described(scene, scene.bands[name])
            raise RasterError(f"{where} covers {covered.bbox}, the other bands {expected.bbox}")
        _check_shift(described(scene, scene.bands[name]), header.grid, area)


def _check_shift(where: str, grid: GeoBox, area: GeoBox) -> None:
    """Raise RasterError, or warn, if a band's grid does not begin where the area does.

    A coarser band of a clipped scene may extend to whole pixels around the area.
    """
    pixel = abs(area.resolution.x)
    own, expected = grid.extent.boundingbox, area.extent.boundingbox
    shift = (own.left - expected.left, own.top - expected.top)
    slack = _ALIGNED * pixel
    if max(map(abs, shift)) <= slack:
        return
    covers = (
        own.left <= expected.left + slack
        and own.bottom <= expected.bottom + slack
        and own.right >= expected.right - slack
        and own.top >= expected.top - slack
    )
    is_whole = all(abs(metres / pixel - round(metres / pixel)) <= _ALIGNED for metres in shift)
    if covers and is_whole:
        return
    problem = f"{where} is shifted by {shift[0]:g} m east and {shift[1]:g} m north against the other bands"
    if not is_whole or abs(grid.resolution.x) <= (1 + _ALIGNED) * pixel:
        raise RasterError(f"{problem}; bands that begin at the same corner were expected")
    logger.warning("%s and is resampled as it lies", problem)


def _warn_of_other_grids(scene: Scene, headers: dict[str, Header]) -> None:
    differing: dict[str, list[str]] = {}
    for name, header in headers.items():
        in_item = scene.bands[name].grid
        if in_item is not None and in_item != header.grid:
            pair = f"{_grid_in_words(header.grid)} (in the item: {_grid_in_words(in_item)})"
            differing.setdefault(pair, []).append(name)
    if differing:
        grids = "; ".join(f"{', '.join(names)}: {pair}" for pair, names in differing.items())
        logger.warning("scene %s: grids of files differ from the item's and are used: %s", scene.id, grids)


def _grid_in_words(grid: GeoBox) -> str:
    left, top = grid.transform.c, grid.transform.f
    return f"{grid.shape.x} x {grid.shape.y} px of {abs(grid.resolution.x):g} m from ({left:.0f}, {top:.0f})"


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """An unsigned LEB128 integer and the position after it; raises IndexError."""
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
