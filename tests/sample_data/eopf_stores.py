"""Sentinel-2 L2A products of EOPF, small, with known pixels: Zarr stores of both formats, and items of the service."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numcodecs import Blosc

from tests.servers.s3.eodata import EPSG, LEFT, TOP

PRODUCT = "S2A_MSIL2A_20230615T210021_N0509_R100_T08WNB_20230616T001122"
SIDE = 240
RESOLUTIONS = {"b02": 10, "b03": 10, "b04": 10, "b08": 10, "b05": 20, "b09": 60, "scl": 20}
NAMES = {
    "blue": "b02",
    "green": "b03",
    "red": "b04",
    "nir": "b08",
    "rededge071": "b05",
    "nir09": "b09",
    "s2_scl": "scl",
}

Format = Literal["2", "3", "sharded"]

DISCOVERY = {
    "type": "Feature",
    "id": f"{PRODUCT}.SAFE",
    "geometry": {
        "type": "Polygon",
        "coordinates": [[[-135.0, 67.6], [-135.0, 67.58], [-134.94, 67.58], [-134.94, 67.6], [-135.0, 67.6]]],
    },
    "bbox": [-135.0, 67.58, -134.94, 67.6],
    "properties": {
        "datetime": "2023-06-15T21:00:21.024Z", "platform": "sentinel-2a", "proj:code": f"EPSG:{EPSG}",
        "eo:cloud_cover": 3.5, "eo:snow_cover": 1.25, "product:type": "S02MSIL2A",
        "eopf:datatake_id": "GS2A_20230615T210021_041700_N05.09",
    },
}  # fmt: skip

OTHER = {
    "mean_sun_zenith_angle_in_deg_for_all_bands_all_detectors": 45.75,
    "mean_sun_azimuth_angle_in_deg_for_all_bands_all_detectors": 170.5,
}


def group_of(name: str) -> str:
    resolution = f"r{RESOLUTIONS[name]}m"
    return (
        f"conditions/mask/l2a_classification/{resolution}"
        if name == "scl"
        else f"measurements/reflectance/{resolution}"
    )


def pixels(seed: int = 7) -> dict[str, np.ndarray]:
    """Digital numbers of each array."""
    random = np.random.default_rng(seed)
    values = {}
    for name, resolution in RESOLUTIONS.items():
        side = SIDE * 10 // resolution
        high, dtype = (12, np.uint8) if name == "scl" else (12000, np.uint16)
        values[name] = random.integers(1, high, (side, side)).astype(dtype)
    return values


def write_store(
    folder: Path,
    values: dict[str, np.ndarray],
    layout: Format = "2",
    *,
    chunk: int = 120,
    offset: float = -0.1,
    compressor: Any = None,
) -> Path:
    """Write a store with `chunk` pixels of 10 m per chunk (and shards of four chunks); returns its folder."""
    path = folder / f"{PRODUCT}.zarr"
    zarr_format = 2 if layout == "2" else 3
    root = zarr.create_group(str(path), zarr_format=zarr_format)
    root.attrs.update({"stac_discovery": DISCOVERY, "other_metadata": OTHER})
    for name, numbers in values.items():
        side, resolution = len(numbers), RESOLUTIONS[name]
        chunks = (min(chunk * 10 // resolution, side),) * 2
        options: dict[str, Any] = {}
        if layout == "2":
            options["compressors"] = compressor or Blosc(cname="zstd", shuffle=Blosc.BITSHUFFLE)
        elif layout == "sharded":
            options["shards"] = (side, side)
        attributes: dict[str, Any] = {"proj:epsg": EPSG, "_eopf_attrs": {}}
        if name != "scl":
            attributes |= {"scale_factor": 0.0001, "add_offset": offset, "units": "digital_counts"}
        group = root.require_group(group_of(name))
        array = group.create_array(
            name, shape=numbers.shape, chunks=chunks, dtype=numbers.dtype, fill_value=0, **options
        )
        array.attrs.update(attributes)
        array[:] = numbers
        if "x" not in group:
            centres = (np.arange(side) + 0.5) * resolution
            for axis, coordinate in (("x", LEFT + centres), ("y", TOP - centres)):
                group.create_array(axis, data=coordinate.astype(np.int64))
    zarr.consolidate_metadata(str(path), zarr_format=zarr_format)
    return path


def band_item(root: str) -> dict[str, Any]:
    """An item of the service with an asset for each band."""
    assets: dict[str, Any] = {"product": {"href": root}}
    for name, resolution in RESOLUTIONS.items():
        side = SIDE * 10 // resolution
        asset: dict[str, Any] = {
            "href": f"{root}/{group_of(name)}/{name}",
            "type": "application/vnd+zarr",
            "proj:code": f"EPSG:{EPSG}",
            "proj:shape": [side, side],
            "proj:transform": [resolution, 0, LEFT, 0, -resolution, TOP],
        }
        if name != "scl":
            asset |= {"raster:scale": 0.0001, "raster:offset": -0.1}
        assets[f"{name.upper()}_{resolution}m"] = asset
    sun = {"view:sun_azimuth": 170.5, "view:sun_elevation": 44.25}
    return _item(assets, sun)


def group_item(root: str) -> dict[str, Any]:
    """An item of the service with an asset for all bands, as its template for Zarr format 3 has it."""
    zarr_type = "application/vnd.zarr; version=3; profile=multiscales"
    assets = {
        "reflectance": {
            "href": f"{root}/measurements/reflectance", "type": zarr_type, "proj:code": f"EPSG:{EPSG}",
            "proj:shape": [10980, 10980], "nodata": 0, "raster:scale": 0.0001, "raster:offset": -0.1,
            "bands": [{"name": "b02", "eo:common_name": "blue"}],
        },
        "scl": {"href": f"{root}/conditions/mask/l2a_classification", "type": zarr_type, "nodata": 0},
        "product": {"href": root},
    }  # fmt: skip
    return _item(assets, {"view:sun_azimuth": 170.5, "view:sun_elevation": 45.75})  # of the zenith, as in the template


def _item(assets: dict[str, Any], sun: dict[str, float]) -> dict[str, Any]:
    properties = {**DISCOVERY["properties"], **sun, "grid:code": "MGRS-08WNB"}  # type: ignore[dict-item]
    geometry = DISCOVERY["geometry"]
    item = {"type": "Feature", "stac_version": "1.1.0", "id": PRODUCT, "geometry": geometry, "links": []}
    copied: dict[str, Any] = json.loads(json.dumps({**item, "properties": properties, "assets": assets}))
    return copied
