"""STAC items of scenes that are plain GeoTIFFs, with all bands in one file."""

import datetime as dt
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from odc.geo.geobox import GeoBox

from darts_assets.bands import OPTICAL, VISIBLE_NIR
from darts_assets.errors import SceneError
from darts_assets.remote.byte_reader import S3Options, is_remote, local_path, shown
from darts_assets.remote.raster_files import open_raster
from darts_assets.sources.rasters.odc_driver import GdalFiles
from darts_assets.sources.sentinel2.safe_products import is_safe_location, read_safe_items
from darts_assets.sources.stac.read_item import read_item

SCALE = 1e-4
"""Reflectance of one digital number."""

SUFFIXES = (".tif", ".tiff")

_TIME = re.compile(r"(?<!\d)((?:19|20)\d{2})-?([01]\d)-?([0-3]\d)(?:T?([0-2]\d[0-5]\d[0-5]\d))?(?!\d)")
_DESCRIPTIONS = {
    "b2": "blue", "b02": "blue", "b3": "green", "b03": "green", "b4": "red", "b04": "red", "b8": "nir", "b08": "nir",
}  # fmt: skip


def items_at(href: str, bands: Sequence[str], s3: S3Options, *, offset: float = 0.0) -> list[dict[str, Any]]:
    """STAC items of the scenes at a location.

    Args:
        href: a STAC item (path or URL), a GeoTIFF (path or URL), a folder of both, or SAFE products.
        bands: see `raster_item`.
        s3: access to `s3://`.
        offset: see `raster_item`.

    Raises:
        SceneError: if there is no scene, or an item or a raster is unusable.
        RasterError: if a raster cannot be opened.
    """
    if is_safe_location(href, s3):
        return read_safe_items(href, s3)
    hrefs = [href]
    if not is_remote(href) and (folder := local_path(href)).is_dir():
        hrefs = [str(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in (".json", *SUFFIXES)]
        if not hrefs:
            raise SceneError(f"{href}: the folder has neither STAC items (*.json) nor GeoTIFFs (*.tif)")
    return [raster_item(each, bands, s3, offset=offset) if _is_raster(each) else read_item(each, s3) for each in hrefs]


def raster_item(href: str, bands: Sequence[str], s3: S3Options, *, offset: float = 0.0) -> dict[str, Any]:
    """The STAC item of a GeoTIFF.

    Args:
        href: GeoTIFF of uint16 in a UTM zone: reflectance x 10,000, 0 without data. Its name contains the date, such as
            `S2_20210821T210019_T08WMA.tif`, and is the id of the scene.
        bands: canonical names of the bands of the file, "" for those that are not used; empty: from the descriptions
            of the bands, or blue, green, red and nir of a file with four bands.
        s3: access to `s3://`.
        offset: reflectance of digital number 0: -0.1 for values with ESA's offset of 1000.

    Raises:
        SceneError: if the name has no date, or bands, data type or CRS are unusable.
        RasterError: if the file cannot be opened.
    """
    name = shown(href)

    def read() -> tuple[GeoBox, int | None, tuple[str | None, ...], tuple[str, ...]]:
        with open_raster(href) as dataset:
            epsg = dataset.crs.to_epsg() if dataset.crs else None
            grid = GeoBox(dataset.shape, dataset.transform, dataset.crs or None)
            return grid, epsg, tuple(dataset.descriptions), tuple(dataset.dtypes)

    grid, epsg, descriptions, dtypes = GdalFiles([href], s3).read(href, name, read, "cannot be opened as a raster")
    if epsg is None:
        raise SceneError(f"{name}: its CRS has no EPSG code; a UTM zone was expected")
    if set(dtypes) != {"uint16"}:
        raise SceneError(
            f"{name}: its pixels are {', '.join(sorted(set(dtypes)))}; uint16, reflectance x 10,000, was expected"
        )
    names = _band_names(name, bands, descriptions)
    described = [
        {
            "name": band or f"band_{number}",
            **({"eo:common_name": band} if band else {}),
            "data_type": "uint16", "nodata": 0, "raster:scale": SCALE, "raster:offset": offset,
        }
        for number, band in enumerate(names, 1)
    ]  # fmt: skip
    file = href if is_remote(href) else str(local_path(href).absolute())
    outline = grid.footprint("EPSG:4326")
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": Path(name.rpartition("/")[2]).stem,
        "geometry": outline.json, "bbox": list(outline.boundingbox),
        "properties": {"datetime": _time(name), "proj:code": f"EPSG:{epsg}"},
        "links": [],
        "assets": {
            "image": {
                "href": file, "type": "image/tiff; application=geotiff", "roles": ["data"], "bands": described,
                "proj:shape": list(grid.shape), "proj:transform": list(grid.affine)[:6],
            }
        },
    }  # fmt: skip


def _is_raster(href: str) -> bool:
    return href.partition("?")[0].lower().endswith(SUFFIXES)


def _band_names(file: str, given: Sequence[str], descriptions: Sequence[str | None]) -> list[str]:
    if unknown := [name for name in given if name and name not in OPTICAL]:
        raise SceneError(f'unknown bands {", ".join(unknown)}; known are {", ".join(OPTICAL)}, and "" for unused ones')
    names = list(given)
    if not names:
        texts = [(text or "").strip().lower() for text in descriptions]
        names = [text if text in OPTICAL else _DESCRIPTIONS.get(text, "") for text in texts]
        if not any(names) and len(names) == len(VISIBLE_NIR):
            names = list(VISIBLE_NIR)
    if len(names) > len(descriptions) or any(names.count(band) != 1 for band in VISIBLE_NIR):
        described = ", ".join(text or "-" for text in descriptions)
        raise SceneError(
            f"{file} has {len(descriptions)} bands ({described}); set `bands` to their names in this order, with "
            f'{", ".join(VISIBLE_NIR)} once each, and "" for bands that are not used'
        )
    return names


def _time(file: str) -> str:
    match = _TIME.search(file.rpartition("/")[2])
    try:
        if match:
            time = dt.datetime.strptime("".join(match.groups(default="000000")), "%Y%m%d%H%M%S").replace(tzinfo=dt.UTC)
            return time.isoformat().replace("+00:00", "Z")
    except ValueError:
        pass
    raise SceneError(f"{file}: its name has no date; one such as 20210821 or 2021-08-21 was expected")
