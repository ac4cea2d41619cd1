"""STAC items of the demo data in the layouts of the providers."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

from darts_assets.demo.demo_scenes import Acquisition
from darts_assets.demo.layers import DEM_NODATA

_EXTENSION = "https://stac-extensions.github.io/{}/schema.json".format
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_SPECTRAL = {
    "B02": ("blue", "Blue (band 2)", 0.493, 0.267),
    "B03": ("green", "Green (band 3)", 0.56, 0.291),
    "B04": ("red", "Red (band 4)", 0.665, 0.342),
    "B08": ("nir", "NIR 1 (band 8)", 0.833, 0.454),
}
# Code of SCL -> (name of its class, name of its share in `statistics`); snow is in `eo:snow_cover`, class 0 is special.
_CLASSES = {
    0: ("no_data", "nodata"),
    1: ("saturated_or_defective", "saturated_defective"),
    2: ("dark_area_pixels", "dark_area"),
    3: ("cloud_shadows", "cloud_shadow"),
    4: ("vegetation", "vegetation"),
    5: ("not_vegetated", "not_vegetated"),
    6: ("water", "water"),
    7: ("unclassified", "unclassified"),
    8: ("cloud_medium_probability", "medium_proba_clouds"),
    9: ("cloud_high_probability", "high_proba_clouds"),
    10: ("thin_cirrus", "thin_cirrus"),
    11: ("snow", None),
}


def cdse_item(
    acquisition: Acquisition,
    geobox: GeoBox,
    classes: npt.NDArray[np.uint8],
    bands: dict[str, Path],
    classification: Path,
    folder: Path,
) -> dict[str, Any]:
    """An item of the collection `sentinel-2-l2a` in the layout of the Copernicus Data Space Ecosystem.

    Args:
        acquisition: the scene.
        geobox: its 10 m grid.
        classes: its scene classification, of which the item carries the statistics.
        bands: `B02`, `B03`, `B04`, `B08` -> file.
        classification: file of the scene classification.
        folder: where the item will lie; hrefs are relative to it.
    """
    shares = _percentages(classes)
    sensed, produced = (f"{time:%Y-%m-%dT%H:%M:%S}.024000Z" for time in (acquisition.sensed, acquisition.produced))
    name = f"sentinel-{acquisition.platform[1:].lower()}"
    coarse = geobox.zoom_out(2)
    assets = {f"{band}_10m": _band_asset(band, path, acquisition, geobox, folder) for band, path in bands.items()}
    assets["SCL_20m"] = {
        **_file(classification, folder),
        "title": "Scene classification map (SCL) - 20m",
        "roles": ["data", "sampling:original", "gsd:20m"],
        "data_type": "uint8",
        "nodata": 0,
        "gsd": 20,
        **_projection(coarse),
        "classification:classes": [
            {"value": code, "name": label, "percentage": shares[code]} | ({"nodata": True} if code == 0 else {})
            for code, (label, _) in _CLASSES.items()
        ],
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            _EXTENSION(extension)
            for extension in (
                "classification/v2.0.0", "eo/v2.0.0", "file/v2.1.0", "grid/v1.1.0", "processing/v1.2.0",
                "product/v1.0.0", "projection/v2.0.0", "raster/v2.0.0", "sat/v1.1.0", "view/v1.0.0",
            )
        ],
        "collection": "sentinel-2-l2a",
        "id": acquisition.id,
        "properties": {
            "created": produced,
            "updated": produced,
            "published": produced,
            "datetime": sensed,
            "start_datetime": sensed,
            "end_datetime": sensed,
            "platform": name,
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "gsd": 10,
            "processing:level": "L2",
            "processing:datetime": produced,
            "processing:version": acquisition.baseline,
            "product:type": "S2MSI2A",
            "eo:cloud_cover": round(shares[8] + shares[9] + shares[10], 2),
            "eo:snow_cover": shares[11],
            "sat:orbit_state": "descending",
            "sat:relative_orbit": acquisition.orbit,
            "sat:absolute_orbit": acquisition.absolute_orbit,
            "grid:code": f"MGRS-{acquisition.tile}",
            "view:sun_azimuth": acquisition.sun_azimuth,
            "view:sun_elevation": acquisition.sun_elevation,
            "statistics": {share: shares[code] for code, (_, share) in _CLASSES.items() if share},
        },
        **_footprint(geobox),
        "links": [],
        "assets": assets,
    }  # fmt: skip


def pgc_item(supertile: str, geobox: GeoBox, dem: Path, datamask: Path, known: float, folder: Path) -> dict[str, Any]:
    """An item of the collection `arcticdem-mosaics-v4.1-10m` in the layout of the Polar Geospatial Center.

    Args:
        supertile: `row_column`.
        geobox: grid of both rasters, EPSG:3413.
        dem: file of elevations.
        datamask: file of the valid-data mask.
        known: share of pixels with an elevation, 0 to 1.
        folder: where the item will lie; hrefs are relative to it.
    """
    identifier = f"{supertile}_10m_v4.1"
    projection = _projection(geobox)
    centre = geobox.extent.centroid.to_crs("EPSG:4326").coords[0]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [_EXTENSION("projection/v2.0.0")],
        "id": identifier,
        "collection": "arcticdem-mosaics-v4.1-10m",
        "properties": {
            "title": identifier,
            "created": "2022-08-10T00:00:00Z",
            "published": "2025-01-01T00:00:00Z",
            "datetime": "2010-01-01T00:00:00Z",
            "start_datetime": "2010-01-01T00:00:00Z",
            "end_datetime": "2021-01-01T00:00:00Z",
            "constellation": "maxar",
            "license": "CC-BY-4.0",
            "gsd": 10.0,
            **projection,
            "proj:geometry": geobox.extent.json,
            "proj:centroid": {"lat": centre[1], "lon": centre[0]},
            "pgc:supertile": supertile,
            "pgc:tile": supertile,
            "pgc:release_version": "4.1",
            "pgc:data_perc": known,
        },
        **_footprint(geobox),
        "links": [
            {"rel": "root", "href": "../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../catalog.json", "type": "application/json"},
        ],
        "assets": {
            "dem": {
                "title": "10m DEM", "href": _relative(dem, folder), "type": _COG, "roles": ["data"],
                "unit": "meter", "nodata": DEM_NODATA, "data_type": "float32",
            },
            "datamask": {
                "title": "Valid data mask", "href": _relative(datamask, folder), "type": _COG,
                "roles": ["metadata", "data-mask"], "nodata": 0, "data_type": "uint8",
            },
        },
    }  # fmt: skip


def static_catalog(identifier: str, description: str, items: list[Path], folder: Path) -> dict[str, Any]:
    """Static catalog in `folder` with links to items."""
    links = [{"rel": "root", "href": "./catalog.json", "type": "application/json"}]
    links += [{"rel": "item", "href": _relative(item, folder), "type": "application/geo+json"} for item in items]
    return {
        "type": "Catalog",
        "stac_version": "1.1.0",
        "id": identifier,
        "description": description,
        "links": links,
    }


def _band_asset(band: str, path: Path, acquisition: Acquisition, geobox: GeoBox, folder: Path) -> dict[str, Any]:
    common_name, title, wavelength, width = _SPECTRAL[band]
    return {
        **_file(path, folder),
        "title": f"{title} - 10m",
        "roles": ["data", "reflectance", "sampling:original", "gsd:10m"],
        "bands": [
            {
                "name": band, "description": title, "eo:common_name": common_name,
                "eo:center_wavelength": wavelength, "eo:full_width_half_max": width,
            }
        ],
        "data_type": "uint16",
        "nodata": 0,
        "raster:scale": 0.0001,
        "raster:offset": acquisition.offset,
        "gsd": 10,
        **_projection(geobox),
    }  # fmt: skip


def _file(path: Path, folder: Path) -> dict[str, Any]:
    return {
        "href": _relative(path, folder),
        "type": _COG,
        "file:size": path.stat().st_size,
        # Multihash: code 0x16 (SHA3-256), 0x20 bytes.
        "file:checksum": "1620" + hashlib.sha3_256(path.read_bytes()).hexdigest(),
    }


def _projection(geobox: GeoBox) -> dict[str, Any]:
    return {
        "proj:code": str(geobox.crs),
        "proj:shape": [int(n) for n in geobox.shape],
        "proj:bbox": list(geobox.boundingbox.bbox),
        "proj:transform": list(geobox.affine)[:6],
    }


def _footprint(geobox: GeoBox) -> dict[str, Any]:
    outline = geobox.extent.to_crs("EPSG:4326", resolution=5000)
    return {"bbox": list(outline.boundingbox.bbox), "geometry": outline.json}


def _relative(path: Path, folder: Path) -> str:
    return "./" + Path(os.path.relpath(path, folder)).as_posix()


def _percentages(classes: npt.NDArray[np.uint8]) -> list[float]:
    """Share of each of the 12 classes in percent: "no data" of all pixels, the others of the pixels with data."""
    counts = np.bincount(classes.ravel(), minlength=12)
    seen = max(int(counts[1:].sum()), 1)
    return [round(100 * int(counts[0]) / classes.size, 6), *(round(100 * int(n) / seen, 6) for n in counts[1:])]
