"""The products of a scene as a STAC item, with the extensions that describe grid, files, tables and acquisition.

pystac has no processing extension, and raster only in version 1, without `bands` of STAC 1.1; their fields are set
directly.
"""

import datetime as dt
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pystac
from affine import Affine
from pystac.extensions.classification import Classification, ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.table import COLUMNS_PROP, TableExtension
from rasterio.transform import array_bounds
from shapely.geometry import shape

from darts_assets.bands import Flag, band
from darts_assets.catalog.acquisition_properties import acquisition_extensions, acquisition_properties
from darts_assets.catalog.catalog_store import Products
from darts_assets.catalog.scene_regions import box_of
from darts_assets.qgis_styles import MEDIA_TYPE

PARQUET = "application/vnd.apache.parquet"
PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
_RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"

_ZARR = "https://stac-extensions.github.io/zarr/v1.1.0/schema.json"

TO_ROOT = "../../../../"
"""From the folder of an item, `catalog/stac/<family>/<scene>`, to the root of the store."""


class FileKind(NamedTuple):
    """Title and STAC roles of a product file."""

    title: str
    roles: list[str]


FILE_KINDS: Mapping[str, FileKind] = {
    "probabilities": FileKind("Probability of thaw slumps in percent, 255 outside the valid area", ["data"]),
    "binarized": FileKind("Detection mask: 1 thaw slump, 0 none", ["data"]),
    "prediction_segments": FileKind("Detected thaw slumps as polygons", ["data"]),
    "prediction_extent": FileKind("Valid area", ["data-mask"]),
    "thumbnail": FileKind("True colour with outlines of the detections", ["thumbnail"]),
    "chips": FileKind("A small picture of each detection, WebP by Region_ID", ["overview"]),
    "metadata": FileKind("Scene, parameters and versions", ["metadata"]),
}
"""Stem of a file -> kind; other files hold feature bands."""

_TILE_TITLES = {
    "raw_scene": "Digital numbers of the scene, Zarr",
    "preprocessed_tile": "Reflectance, terrain, vegetation trends and masks, Zarr",
    "segmentation": "Probabilities of the models, Zarr",
}

MEDIA_TYPES = {
    ".tif": pystac.MediaType.COG,
    ".gpkg": pystac.MediaType.GEOPACKAGE,
    ".parquet": PARQUET,
    ".jpg": pystac.MediaType.JPEG,
    ".json": pystac.MediaType.JSON,
    ".qml": MEDIA_TYPE,
    ".zip": "application/zip",
}


def link(rel: str, href: str, media_type: str = pystac.MediaType.JSON, title: str | None = None) -> pystac.Link:
    """A STAC link to a document."""
    return pystac.Link(rel, href, media_type, title)


def scene_item(
    products: Products, models: Collection[str] = (), source: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The STAC item of a scene's products, for `catalog/stac/<family>/<scene>/`.

    Args:
        products: products of the scene.
        models: ids of existing model items, which the item then links to.
        source: registered item of the scene, if it still exists: for clouds, view, sun and platform.
    """
    facts = products.facts
    acquisition = acquisition_properties(source, facts["metadata"])
    metadata, grid, files = facts["metadata"], facts["grid"], facts["files"]
    item = pystac.Item(
        products.scene, facts["footprint"], box_of(shape(facts["footprint"])), _utc(metadata["datetime"]),
        {
            "created": pystac.utils.datetime_to_str(_utc(metadata["export_date"])),
            **acquisition,
            "gsd": abs(grid["transform"][0]),
            "processing:level": "L4",
            "processing:datetime": pystac.utils.datetime_to_str(_utc(metadata["export_date"])),
            "processing:lineage": _lineage(metadata),
            "processing:software": _software(metadata),
            **{f"darts:{name}": value for name, value in facts["summary"].items()},
            **{f"darts:{name}": metadata[name] for name in ("models", "config_hash", "data_version", "item_hash")},
            "darts:source": metadata["source"],
            **({"darts:tile": metadata["tile"]} if metadata.get("tile") else {}),
        },
        collection=products.family,
        assets={
            **{_asset_key(name): _asset(products, name, file) for name, file in files.items()},
            **{step: _zarr_asset(products, step, tile) for step, tile in facts.get("tiles", {}).items()},
        },
    )  # fmt: skip
    ProjectionExtension.ext(item, add_if_missing=True).apply(
        code=grid["crs"], shape=grid["shape"], transform=grid["transform"],
        bbox=list(array_bounds(*grid["shape"], Affine(*grid["transform"]))),
    )  # fmt: skip
    item.stac_extensions += [PROCESSING, *acquisition_extensions(acquisition)]
    if files:
        FileExtension.add_to(item)
    if any("classification:classes" in asset.extra_fields for asset in item.assets.values()):
        ClassificationExtension.add_to(item)
    if "prediction_segments.parquet" in files:
        _fill_table(TableExtension.ext(item, add_if_missing=True), files["prediction_segments.parquet"])
    if any("bands" in file for file in files.values()):
        item.stac_extensions.append(_RASTER)
    if facts.get("tiles"):
        item.stac_extensions.append(_ZARR)
    used = [name for name in products.models if name in models]
    item.links = [
        link("root", "../../../catalog.json"),
        link("parent", "../collection.json"),
        link("collection", "../collection.json"),
        link(
            "derived_from", f"{TO_ROOT}scenes/{products.family}/{products.scene}.json", pystac.MediaType.GEOJSON,
            title="Registered scene",
        ),
        *(link("derived_from", f"../../models/{name}.json", pystac.MediaType.GEOJSON, "Model") for name in used),
        *([link("via", facts["item"], title="Scene at its provider")] if facts.get("item") else []),
    ]  # fmt: skip
    return item.to_dict(transform_hrefs=False)


def _utc(time: str) -> dt.datetime:
    return dt.datetime.fromisoformat(time).astimezone(dt.UTC)


def _asset_key(file: str) -> str:
    stem, _, suffix = file.rpartition(".")
    return f"{stem}-{suffix}" if suffix in ("gpkg", "qml") else stem


def _asset(products: Products, name: str, file: Mapping[str, Any]) -> pystac.Asset:
    stem, suffix = Path(name).stem, Path(name).suffix
    base, _, model = stem.partition("-")
    kind = FILE_KINDS.get(base) or FileKind(f"{base} on the scene's grid", ["data"])
    title = f"{kind.title} (model {model})" if model else kind.title
    if suffix == ".qml":
        title, kind = f"QGIS style: {title}", FileKind(title, ["style"])
    asset = pystac.Asset(
        products.href(products.key(name), TO_ROOT), title, media_type=MEDIA_TYPES[suffix], roles=kind.roles
    )
    if "bands" in file:
        asset.extra_fields["bands"] = [
            {
                **{key: each[key] for key in ("name", "data_type", "nodata", "unit") if key in each},
                "raster:scale": each["scale"],
                "raster:offset": each["offset"],
            }
            for each in file["bands"]
        ]
        if len(file["bands"]) == 1 and (classes := _classes(base, file["bands"][0])):
            asset.extra_fields["classification:classes"] = classes
    if "columns" in file:
        _fill_table(TableExtension.ext(asset), file)
    asset.extra_fields["file:size"] = file["bytes"]
    if "sha256" in file:
        asset.extra_fields["file:checksum"] = multihash(file["sha256"])
    return asset


def multihash(sha256: str) -> str:
    """A SHA-256 (hex) as the multihash of the file extension: function 0x12, length 0x20."""
    return f"1220{sha256}"


def _classes(name: str, described: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The classes of a mask by the name of its product; none for other rasters."""
    try:
        flags = band("binarized_segmentation" if name == "binarized" else name).flags
    except KeyError:
        return []
    nodata = described.get("nodata")
    if flags and nodata is not None and nodata not in {flag.value for flag in flags}:
        flags = (*flags, Flag(int(nodata), "not_seen", "#000000"))
    classes = []
    for flag in flags:
        each = Classification.create(
            flag.value, name=flag.meaning, title=flag.meaning.replace("_", " ").capitalize(),
            color_hint=flag.color.removeprefix("#").upper(), nodata=True if flag.value == nodata else None,
        )  # fmt: skip
        classes.append(each.to_dict())
    return classes


def _zarr_asset(products: Products, step: str, tile: Mapping[str, Any]) -> pystac.Asset:
    """A tile that the products were made from, as `xarray.open_zarr` opens it."""
    return pystac.Asset(
        products.href(tile["key"], TO_ROOT),
        _TILE_TITLES[step], media_type="application/vnd.zarr; version=3", roles=["data"],
        extra_fields={
            "zarr:node_type": "group", "zarr:zarr_format": 3, "zarr:consolidated": True,
            "bands": [{"name": name} for name in tile["bands"]],
        },
    )  # fmt: skip


def _fill_table(table: TableExtension[Any], file: Mapping[str, Any]) -> None:
    table.properties[COLUMNS_PROP] = file["columns"]  # pystac 1.15 does not serialize `Column` objects
    table.primary_geometry, table.row_count = "geometry", file["rows"]


def _lineage(metadata: Mapping[str, Any]) -> str:
    models = ", ".join(f"{name} ({sha256[:16]})" for name, sha256 in metadata["models"].items())
    return (
        f"Features of {metadata['scene_id']} ({metadata['source']}) with terrain convention {metadata['terrain']}; "
        f"segmentation by {models}; probabilities above {metadata['threshold']} in objects of at least "
        f"{metadata['min_object_size']} pixels."
    )


def _software(metadata: Mapping[str, Any]) -> dict[str, str]:
    own = str(metadata["code_version"]).partition("+")[0]
    steps = {f"darts_assets.{step}": str(facts["code_version"]) for step, facts in metadata["steps"].items()}
    return {"darts_assets": own or version("darts_assets"), **steps}
