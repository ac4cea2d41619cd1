"""The published inventory as STAC items: the sites of each year, and the slumps over the years, with their files.

Tables are read from the store, by the manifests of their places. Items of unchanged places are kept unread.
"""

import datetime as dt
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import obstore
import pystac
import shapely
from pyproj import CRS
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.table import COLUMNS_PROP, TableExtension
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from darts_assets.catalog.catalog_store import SingleWriter, Tree
from darts_assets.catalog.item_folder import Entry, ItemFolder
from darts_assets.catalog.scene_item import MEDIA_TYPES, PROCESSING, TO_ROOT, link
from darts_assets.catalog.scene_regions import box_of
from darts_assets.catalog.stac_collections import inventory_collection
from darts_assets.errors import NotReadableError
from darts_assets.geo.antimeridian import lonlat_area
from darts_assets.geo.equal_area import EQUAL_AREA
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Manifest, Place
from darts_assets.stores.store_layout import slumps_place, year_place, years_folder
from darts_assets.stores.vectors import read_table

_log = logging.getLogger(__name__)

COLLECTION = "inventory"

LAYOUT = "2"
"""Version of the items' layout; if it changes, all items are written again."""

_DETAIL = 1000.0
"""Metres by which the outline of a footprint may deviate."""

_DIGITS = 1e-4  # degrees

_KINDS: Mapping[str, tuple[str, str, list[str]]] = {
    "rts_slumps": ("slumps", "Thaw slumps over the years, each with its last outline", ["data"]),
    "rts_sites": ("sites", "Sites of all years, with the slumps that they belong to", ["data"]),
    "observers": ("observers", "Scenes that observe a slump in a year without a site of it", ["metadata"]),
    "area_by_year": ("areas", "Areas of each year and region, with intervals", ["data"]),
    "detections": ("detections", "Detections of all scenes, with their sites", ["data"]),
    "scenes": ("scenes", "Scenes of the year, with their hulls", ["metadata"]),
}
"""Stem of a file -> key, title and roles of the asset; `rts_<year>` holds the sites of a year. Other keys are stems."""


@dataclass(frozen=True)
class _Source:
    """A place of the inventory that an item describes."""

    name: str
    title: str
    place: Place
    key: str
    table: str

    def tag(self, store: Tree) -> str:
        return store.tag(f"{self.key}/current.json")


def update_inventory(
    store: Tree, tree: Tree, writer: SingleWriter, *, licence: str, rebuild: bool = False
) -> dict[str, Entry]:
    """Update the collection `inventory` to the published inventory.

    Args:
        store: the store with the inventory.
        tree: the catalog.
        writer: the current writer of the catalog.
        licence: SPDX identifier, or `other`.
        rebuild: read all tables again.

    Returns:
        The links to the items, by id.

    Raises:
        StoreError: if another run has started to write the catalog.
    """
    folder, entries = ItemFolder(tree, COLLECTION), dict[str, Entry]()
    folder.remove_garbage()
    areas: dict[str, BaseGeometry] = {}

    def put(source: _Source, describe: Callable[[Manifest], dict[str, Any]], *others: str) -> None:
        state = " ".join([LAYOUT, source.tag(store), *others])
        old = folder.entries.get(source.name)
        if old is not None and old["darts:state"] == state and not rebuild:
            entries[source.name] = old
            return
        try:
            manifest = source.place.manifest()
            item = describe(manifest) if manifest is not None else None
        except NotReadableError as error:
            _log.warning("left out of the catalog: %s", error)
            return
        if item is not None:
            entries[source.name] = folder.put(item, source.key.rpartition("/")[2], **_facts(item, state))

    for source, year in _years(store.location):
        put(source, partial(_year_item, source, year))
    years = sorted(entries)
    for name in years:
        document = tree.document(f"{folder.key}/{entries[name]['href'].removeprefix('./')}")
        if document and document["geometry"]:
            areas[name] = shape(document["geometry"])
    slumps, links = _slumps(store.location), [entries[name] for name in years]
    put(slumps, partial(_slumps_item, slumps, areas, links), *(entry["href"] for entry in links))
    writer.check()
    folder.publish(inventory_collection(entries, licence) if entries else None)
    return entries


def _years(root: StoreLocation) -> Iterator[tuple[_Source, int]]:
    for name in years_folder(root).folders():
        if name.isdecimal():
            year = int(name)
            title = f"Sites of thaw slumps in {year}"
            yield _Source(f"rts_{year}", title, year_place(root, year), f"inventory/rts/{name}", f"rts_{year}"), year


def _slumps(root: StoreLocation) -> _Source:
    return _Source("rts_slumps", "Thaw slumps over the years", slumps_place(root), "inventory/slumps", "rts_slumps")


def _year_item(source: _Source, year: int, manifest: Manifest) -> dict[str, Any]:
    scenes = read_table(source.place, manifest, "scenes")
    start, end = dt.datetime(year, 1, 1, tzinfo=dt.UTC), dt.datetime(year, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    hulls = [hull for hull in scenes.geometry if not hull.is_empty]
    properties = {"darts:scenes": len(scenes), "darts:families": sorted(set(scenes["family"]))}
    return _item(source, manifest, _lonlat(shapely.union_all(hulls)), start, end, properties)


def _slumps_item(
    source: _Source, areas: Mapping[str, BaseGeometry], years: list[Entry], manifest: Manifest
) -> dict[str, Any]:
    start, end = (
        pystac.utils.str_to_datetime(pick([year[key] for year in years] or ["2014-01-01T00:00:00Z"]))
        for pick, key in ((min, "start"), (max, "end"))
    )
    return _item(source, manifest, shapely.union_all(list(areas.values())), start, end, {})


def _lonlat(area: BaseGeometry) -> BaseGeometry:
    """An area in `EQUAL_AREA` in degrees, coarse and cut at the antimeridian."""
    if area.is_empty:
        return shapely.Polygon()
    coarse = lonlat_area(shapely.simplify(area, _DETAIL), CRS(EQUAL_AREA))
    return shapely.set_precision(coarse, _DIGITS)


def _item(
    source: _Source,
    manifest: Manifest,
    area: BaseGeometry,
    start: dt.datetime,
    end: dt.datetime,
    properties: Mapping[str, Any],
) -> dict[str, Any]:
    facts, utc = manifest.metadata.get("provenance", {}), pystac.utils.datetime_to_str
    version = max(manifest.versions)
    area = shapely.orient_polygons(area)
    item = pystac.Item(
        source.name, None if area.is_empty else dict(mapping(area)), None if area.is_empty else box_of(area), None,
        {
            "title": source.title,
            "start_datetime": utc(start),
            "end_datetime": utc(end),
            "created": utc(dt.datetime.strptime(version[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)),
            "processing:level": "L4",
            "processing:software": {f"darts_assets.{source.key.split('/')[1]}": str(facts.get("code_version", ""))},
            **properties,
            "darts:data_version": str(facts.get("data_version", "")),
            "darts:parameters": facts.get("parameters", {}),
        },
        collection=COLLECTION,
    )  # fmt: skip
    ProjectionExtension.ext(item, add_if_missing=True).apply(code=EQUAL_AREA)
    item.stac_extensions.append(PROCESSING)
    FileExtension.add_to(item)
    _fill_table(TableExtension.ext(item, add_if_missing=True), source.place, manifest, source.table)
    for name in sorted(manifest.contents):
        key, asset = _asset(source, manifest, name)
        item.assets[key] = asset
    item.links = [
        link("root", "../../../catalog.json"), link("parent", "../collection.json"),
        link("collection", "../collection.json"),
    ]  # fmt: skip
    return item.to_dict(transform_hrefs=False)


def _asset(source: _Source, manifest: Manifest, name: str) -> tuple[str, pystac.Asset]:
    stem, suffix, version = Path(name).stem, Path(name).suffix, manifest.contents[name]
    of_others = ("sites", source.title, ["data"]) if stem == source.table else (stem, stem, ["data"])
    key, title, roles = _KINDS.get(stem, of_others)
    if suffix == ".qml":
        title, roles = f"QGIS style: {title}", ["style"]
    size = obstore.head(source.place.location.child(version).objects(), name)["size"]
    asset = pystac.Asset(
        f"{TO_ROOT}{source.key}/{version}/{name}", title, media_type=MEDIA_TYPES[suffix], roles=roles,
        extra_fields={"file:size": int(size)},
    )  # fmt: skip
    return f"{key}-{suffix[1:]}" if suffix in (".gpkg", ".qml") else key, asset


def _fill_table(table: TableExtension[Any], place: Place, manifest: Manifest, name: str) -> None:
    import pyarrow.parquet as pq

    file = f"{name}.parquet"
    location = place.location.child(manifest.contents[file])
    with pq.ParquetFile(location.file(file), filesystem=location.filesystem()) as parquet:
        columns = [{"name": field.name, "type": str(field.type)} for field in parquet.schema_arrow]
        table.properties[COLUMNS_PROP] = columns
        table.primary_geometry, table.row_count = "geometry", parquet.metadata.num_rows


def _facts(item: Mapping[str, Any], state: str) -> dict[str, Any]:
    """Of the link to an item: values that the collection summarizes, and state for the next update."""
    properties = item["properties"]
    return {
        "start": properties["start_datetime"], "end": properties["end_datetime"],
        "darts:rows": properties["table:row_count"], "darts:state": state,
        **({"bbox": item["bbox"]} if item.get("bbox") else {}),
    }  # fmt: skip
