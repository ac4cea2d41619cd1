"""Digital numbers of a scene on one grid, as a lazy dataset or as a stream of row windows.

odc-stac resamples all bands to the grid of the finest file, by nearest neighbour. Numbers are not scaled.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import odc.stac
import pystac
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import MASKS, TOA_REFLECTANCE
from darts_assets.bands import band as codec
from darts_assets.errors import SceneError
from darts_assets.remote.byte_reader import MAX_CONNECTIONS, S3Options
from darts_assets.remote.gdal_options import gdal_path
from darts_assets.scene import Scene, SceneBand
from darts_assets.sources.rasters.downloads import Copies
from darts_assets.sources.rasters.integrity import Header, check_checksums, check_files, described
from darts_assets.sources.rasters.odc_driver import SceneDriver
from darts_assets.tiles import WINDOW_ROWS, TileStream, on_grid, row_windows

_MOST_ROWS = 2048
"""Windows are not aligned with internal tiles that have more rows than this."""


TOA = "toa"
"""Asset of Planet images whose digital numbers are reflectance at the top of the atmosphere."""


def scene_grid(scene: Scene, bands: Sequence[str], s3: S3Options | None = None) -> GeoBox:
    """The grid of the finest of the bands' files, read from the file.

    Raises:
        SceneError: if the scene lacks a band.
        RasterError: if a file is missing, damaged or unexpected (see `check_files`).
        SourceUnavailableError: if a service does not answer after bounded retries.
        SettingsError: if there are no keys for S3, or the service refuses them.
    """
    check_names(scene, bands)
    return _finest(check_files(scene, bands, s3)).grid


def open_raw(
    scene: Scene,
    bands: Sequence[str],
    *,
    grid: GeoBox | None = None,
    window_rows: int = WINDOW_ROWS,
    s3: S3Options | None = None,
) -> xr.Dataset:
    """Digital numbers of some bands on one grid, lazily.

    Files are checked at once (see `check_files`), and read when values are computed. Remote JPEG 2000 files are
    downloaded, and the copies kept as long as the dataset (see `downloads`). Checksums in the item are verified for
    local files and copies; remote GeoTIFFs are read by ranges and not verified.

    Args:
        scene: the scene.
        bands: canonical names of bands.
        grid: target grid; `scene_grid` of the bands if None.
        window_rows: rows of a chunk, rounded up to whole internal tiles of the files, so that none is decoded twice.
        s3: access to `s3://`.

    Returns:
        Dataset (y, x), dask-backed in chunks of full width: bands in the provider's dtype (uint16; `s2_scl` uint8;
        int16 in mosaics) with the attributes `scale_factor`, `add_offset` and `_FillValue`. Attributes of the dataset:
        see `scene_attributes`, and `checksums` (band -> verified multihash).

    Raises:
        SceneError, RasterError, SourceUnavailableError, SettingsError: as `scene_grid`, and if the disk is too small
            for the copies; computing values raises them too.
    """
    check_names(scene, bands)
    s3 = s3 or S3Options()
    copies = Copies.of(scene, bands, s3)
    headers = check_files(scene, bands, s3, area=grid, opened=copies.opened)
    checksums = check_checksums(scene, bands, copies.opened)
    raw = _lazy(scene, headers, grid, window_rows, s3, copies)
    return raw.assign_attrs(scene_attributes(scene), **({"checksums": checksums} if checksums else {}))


def fetch(
    scene: Scene,
    bands: Sequence[str],
    *,
    grid: GeoBox | None = None,
    window_rows: int = 2 * WINDOW_ROWS,
    s3: S3Options | None = None,
) -> TileStream:
    """Digital numbers of some bands on one grid, as a stream of row windows.

    The same as `open_raw`, for reading everything once: at most `MAX_CONNECTIONS` bands at a time, with one window in
    memory (270 MB for all bands of a Sentinel-2 scene).

    Raises:
        SceneError, RasterError, SourceUnavailableError, SettingsError: as `open_raw`; the windows raise them too.
    """
    return stream(open_raw(scene, bands, grid=grid, window_rows=window_rows, s3=s3))


def stream(raw: xr.Dataset) -> TileStream:
    """The result of `open_raw` as a stream, one window per row of chunks."""
    return TileStream(raw.odc.geobox, tuple(map(str, raw.data_vars)), _read_windows(raw), dict(raw.attrs))


def _read_windows(raw: xr.Dataset) -> Iterator[xr.Dataset]:
    rows = raw.chunksizes["y"][0]
    for window in row_windows(raw.sizes["y"], rows):
        yield raw.isel(y=window).compute(scheduler="threads", num_workers=MAX_CONNECTIONS)


def check_names(scene: Scene, bands: Sequence[str]) -> None:
    """Raise SceneError if `bands` is empty, or if the scene lacks one of them."""
    if missing := [name for name in bands if name not in scene.bands]:
        raise SceneError(f"scene {scene.id} has no band {', '.join(missing)}; it has {', '.join(scene.bands)}")
    if not bands:
        raise SceneError(f"scene {scene.id}: no band was requested; it has {', '.join(scene.bands)}")


def _finest(headers: dict[str, Header]) -> Header:
    return min(headers.values(), key=lambda header: abs(header.grid.resolution.x))


def _lazy(
    scene: Scene,
    headers: dict[str, Header],
    grid: GeoBox | None,
    window_rows: int,
    s3: S3Options,
    copies: Copies,
) -> xr.Dataset:
    hrefs = {name: copies.href(scene.bands[name].href) for name in headers}
    files = {
        (gdal_path(href), scene.bands[name].index): (href, described(scene, scene.bands[name]))
        for name, href in hrefs.items()
    }
    finest = _finest(headers)
    grid = grid or finest.grid
    block_rows = round(finest.block_rows * finest.grid.resolution.y / grid.resolution.y)
    if not 0 < block_rows <= _MOST_ROWS:
        block_rows = 1
    rows = -(-window_rows // block_rows) * block_rows
    keys = {name: f"{name}.{scene.bands[name].index}" for name in headers}
    loaded = odc.stac.load(
        [_stac_item(scene, headers, hrefs)],
        bands=list(keys.values()),
        geobox=grid,
        chunks={"y": rows, "x": grid.shape.x},
        resampling="nearest",
        groupby="id",
        fail_on_error=True,
        driver=SceneDriver(files, s3, copies),
    ).isel(time=0)
    raw = on_grid({name: loaded[key].data for name, key in keys.items()}, grid)
    for name, values in raw.data_vars.items():
        values.attrs |= band_attributes(scene.bands[str(name)])
    return raw


def _stac_item(scene: Scene, headers: dict[str, Header], hrefs: dict[str, str]) -> pystac.Item:
    """The scene for odc-stac: one asset per band, with the metadata of the files, not those of the catalog."""
    # Without geometry and bbox odc-stac uses the files' grids, which are right at the antimeridian, too.
    item = pystac.Item(scene.id, geometry=None, bbox=None, datetime=scene.datetime, properties={})
    item.stac_extensions = [
        "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
        "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    ]
    for name, header in headers.items():
        band = scene.bands[name]
        values = {"data_type": band.dtype, "nodata": band.nodata}
        fields = {
            "proj:code": f"EPSG:{scene.epsg}",
            "proj:shape": list(header.grid.shape),
            "proj:transform": list(header.grid.transform)[:6],
            "bands": [values] * band.index,
        }
        item.add_asset(name, pystac.Asset(gdal_path(hrefs[name]), roles=["data"], extra_fields=fields))
    return item


def scene_attributes(scene: Scene) -> dict[str, Any]:
    """Attributes of a dataset with a scene's digital numbers; unknown ones are left out."""
    properties = scene.item.get("properties", {})
    attributes = {
        "scene_id": scene.id,
        "source": scene.source,
        "datetime": scene.datetime.isoformat(),
        "sun_azimuth": scene.sun_azimuth,
        "sun_elevation": scene.sun_elevation,
        "tile": scene.tile,
        "processing_baseline": scene.processing_baseline,
        "item_updated": properties.get("updated"),
        "platform": properties.get("platform"),
        "reflectance": "toa" if any(band.asset == TOA for band in scene.bands.values()) else None,
    }
    return {key: value for key, value in attributes.items() if value is not None}


def band_attributes(band: SceneBand) -> dict[str, Any]:
    """CF attributes of a band's digital numbers."""
    if (mask := band.name.partition("-")[0]) in MASKS:
        return codec(mask).description()
    coefficients = {"scale_factor": band.scale, "add_offset": band.offset, "_FillValue": band.nodata}
    known = {key: value for key, value in coefficients.items() if value is not None}
    toa = {"standard_name": TOA_REFLECTANCE} if band.asset == TOA else {}
    return {**codec(band.name).description(), **toa, **known}
