"""STAC catalog and collections: scenes of a family, models, the inventory, and the table of detections."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pystac
from pystac.extensions.mlm import MLMExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.table import COLUMNS_PROP, TableExtension
from pystac.utils import str_to_datetime

from darts_assets.catalog.item_folder import ITEMS_TABLE
from darts_assets.catalog.scene_item import FILE_KINDS, PARQUET, link
from darts_assets.catalog.scene_regions import Box, covering
from darts_assets.geo.equal_area import EQUAL_AREA

TITLES = {
    "sentinel2": "Thaw slumps in Sentinel-2 scenes",
    "planet": "Thaw slumps in PlanetScope images",
    "models": "Segmentation models",
    "detections": "Detected thaw slumps, all scenes",
    "inventory": "Inventory of thaw slumps",
}
WORLD: Box = [-180.0, -90.0, 180.0, 90.0]
_KEYWORDS = ["permafrost", "retrogressive thaw slumps", "segmentation", "Arctic"]


def root_catalog(children: Sequence[str], releases: Mapping[str, str] | None = None) -> dict[str, Any]:
    """`catalog/catalog.json`.

    Args:
        children: names of the collections in `catalog/stac`.
        releases: title of the collection of each release of the data set -> its href.
    """
    catalog = pystac.Catalog(
        "darts-assets", "Thaw slumps mapped from satellite scenes by darts_assets.", "Retrogressive thaw slumps"
    )
    catalog.links = [link("child", f"./stac/{name}/collection.json", title=TITLES[name]) for name in children]
    catalog.links += [link("child", href, title=title) for title, href in (releases or {}).items()]
    return _document(catalog, link("root", "./catalog.json"))


def scenes_collection(
    family: str, entries: Mapping[str, Mapping[str, Any]], models: Sequence[str], licence: str
) -> dict[str, Any]:
    """`catalog/stac/<family>/collection.json`; its links to items hold the state for the next update.

    Args:
        family: family of the scenes.
        entries: scene -> link to its item, with `datetime`, `bbox` and other facts; not empty.
        models: hrefs of the items of the scenes' models, relative to the collection.
        licence: SPDX identifier, or `other`.
    """
    links = list(entries.values())
    collection = _collection(
        family, "Products of each scene: rasters, polygons, thumbnail.", licence,
        boxes=[entry["bbox"] for entry in links], times=[entry["datetime"] for entry in links],
    )  # fmt: skip
    ProjectionExtension.add_to(collection)
    objects = [entry["darts:objects"] for entry in links]
    collection.summaries = pystac.Summaries(
        {
            "proj:code": sorted({entry["darts:crs"] for entry in links}),
            "processing:level": ["L4"],
            "darts:objects": {"minimum": min(objects), "maximum": max(objects)},
        },
        maxcount=1000,
    )
    for stem, media in (
        ("probabilities", pystac.MediaType.COG), ("binarized", pystac.MediaType.COG), ("prediction_segments", PARQUET),
        ("prediction_extent", PARQUET), ("thumbnail", pystac.MediaType.JPEG),
    ):  # fmt: skip
        kind = FILE_KINDS[stem]
        definition = {"title": kind.title, "roles": kind.roles, "type": str(media)}
        collection.item_assets[stem] = pystac.ItemAssetDefinition(definition)
    collection.assets["items"] = pystac.Asset(
        f"./{ITEMS_TABLE}", "All items, stac-geoparquet", media_type=PARQUET, roles=["collection-mirror", "stac-items"]
    )
    collection.links = [link("related", href, pystac.MediaType.GEOJSON, title="Model") for href in models]
    document = _document(collection, *_upwards())
    return {**document, "links": [*document["links"], *links]}


def models_collection(models: Iterable[str], licence: str) -> dict[str, Any]:
    """`catalog/stac/models/collection.json`."""
    collection = _collection("models", "The models behind the results, by the hashes of their checkpoints.", licence)
    MLMExtension.add_to(collection)
    # As a JSON schema of the field, since the schema of MLM refuses the other form of summaries, lists of values.
    tasks = {"type": "array", "items": {"type": "string", "enum": ["semantic-segmentation"]}}
    collection.summaries = pystac.Summaries({"mlm:tasks": tasks})
    collection.links = [link("item", f"./{name}.json", pystac.MediaType.GEOJSON) for name in sorted(models)]
    return _document(collection, *_upwards())


def inventory_collection(entries: Mapping[str, Mapping[str, Any]], licence: str) -> dict[str, Any]:
    """`catalog/stac/inventory/collection.json`.

    Args:
        entries: id -> link to the item, with `start`, `end` and, if anything was observed, `bbox`; not empty.
        licence: SPDX identifier, or `other`.
    """
    links = list(entries.values())
    collection = _collection(
        "inventory", "Sites of thaw slumps by year, merged from the detections of all scenes, and slumps over the "
        "years.", licence,
        boxes=[entry["bbox"] for entry in links if "bbox" in entry],
        times=[entry[end] for entry in links for end in ("start", "end")],
    )  # fmt: skip
    ProjectionExtension.add_to(collection)
    collection.summaries = pystac.Summaries({"proj:code": [EQUAL_AREA], "processing:level": ["L4"]})
    document = _document(collection, *_upwards())
    return {**document, "links": [*document["links"], *links]}


def detections_collection(
    parts: Mapping[str, Mapping[str, Any]],
    scenes: Mapping[str, Mapping[str, Any]],
    columns: Sequence[Any],
    licence: str,
) -> dict[str, Any]:
    """`catalog/stac/detections/collection.json`, with the files of the table as assets.

    Args:
        parts: key of each file below `catalog/detections` -> its `rows`, `bbox`, `start` and `end`.
        scenes: state of each scene for the next update.
        columns: columns of the table.
        licence: SPDX identifier, or `other`.
    """
    collection = _collection(
        "detections", "All detected thaw slumps as GeoParquet, by year and region.", licence,
        boxes=[part["bbox"] for part in parts.values()],
        times=[part[end] for part in parts.values() for end in ("start", "end")],
    )  # fmt: skip
    table = TableExtension.ext(collection, add_if_missing=True)
    table.primary_geometry, table.row_count = "geometry", sum(part["rows"] for part in parts.values())
    collection.extra_fields |= {COLUMNS_PROP: list(columns), "darts:parts": parts, "darts:state": scenes}
    collection.assets = {
        key.removesuffix("/part.parquet").replace("/", ","): pystac.Asset(
            f"../../detections/{key}", media_type=PARQUET, roles=["data"],
            extra_fields={"table:row_count": part["rows"], "darts:bbox": part["bbox"]},
        )
        for key, part in sorted(parts.items())
    }  # fmt: skip
    return _document(collection, *_upwards())


def _collection(
    name: str, description: str, licence: str, boxes: Sequence[Sequence[float]] = (), times: Sequence[str] = ()
) -> pystac.Collection:
    bbox = covering(boxes) if boxes else WORLD
    interval = [str_to_datetime(end(times)) if times else None for end in (min, max)]
    return pystac.Collection(
        name, description, pystac.Extent(pystac.SpatialExtent([bbox]), pystac.TemporalExtent([interval])), TITLES[name],
        license=licence, keywords=_KEYWORDS,
        providers=[pystac.Provider("darts_assets", roles=[pystac.ProviderRole.PROCESSOR])],
    )  # fmt: skip


def _upwards() -> list[pystac.Link]:
    return [link("root", "../../catalog.json"), link("parent", "../../catalog.json")]


def _document(parent: pystac.Catalog, *links: pystac.Link) -> dict[str, Any]:
    """The JSON document of a catalog or collection, with `links` before its own."""
    parent.links = [*links, *parent.links]
    return parent.to_dict(transform_hrefs=False)
