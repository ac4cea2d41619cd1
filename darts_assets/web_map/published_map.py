"""Publishes the web map in the catalog: the page, `map.json`, and a version of the data files."""

import datetime as dt
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore

from darts_assets.geo.land import LAND_FILE
from darts_assets.redaction import link_base
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Manifest, Place, Retention, Version
from darts_assets.stores.store_layout import area_samples, slumps_place, year_place, years_folder
from darts_assets.stores.vectors import read_plain_table, read_table
from darts_assets.web_map.map_tables import MAP_CRS, observed_areas, ordered, outlines, points, sample_points

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

DATA_FORMAT = 1
"""Increased when the meaning of the data files changes."""

PAGE_FILES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "licences.txt": "text/plain; charset=utf-8",
}
"""Files of the page in `bundle/` -> their media type."""

INDEX = "catalog/map/index.html"
"""The page, from the root of the store."""

_MAP = "map.json"
_LICENCES = {"CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/"}


@dataclass(frozen=True)
class PublishedMap:
    """Result of an update.

    Attributes:
        description: content of `map.json`.
        inputs: versions of what the data files were made from.
        is_new: whether data files were written.
    """

    description: dict[str, Any]
    inputs: dict[str, str]
    is_new: bool


def update_map(
    root: StoreLocation,
    families: Sequence[str],
    *,
    ui_url: str | None = None,
    licence: str = "CC-BY-4.0",
    rebuild: bool = False,
    grace: dt.timedelta = dt.timedelta(days=1),
) -> PublishedMap:
    """Publish the map of the inventory in `catalog/map/`.

    The data files are written into a new version if the inventory, the chips, the samples of points or the STAC catalog
    have changed since the last one; `map.json`, which refers to them, is replaced last.

    Args:
        root: root of the store.
        families: families of scenes.
        ui_url: URL of Dagster's UI, for links to partitions.
        licence: licence of the results: SPDX identifier, or `other`.
        rebuild: write the data files also if nothing has changed.
        grace: time for which replaced versions are kept, for open pages.

    Raises:
        StoreError: if another run writes the map.
        NotReadableError: if the inventory was replaced while it was read.
    """
    folder = root.child("catalog", "map")
    place = Place(folder, Retention(grace, lambda: {str(_description(folder).get("folder"))}))
    slumps, chips = slumps_place(root), Place(root.child("inventory", "chips"))
    inventory, pictures = slumps.manifest(), chips.manifest()
    items = _items(root, families)
    years = {int(name): year_place(root, int(name)) for name in years_folder(root).folders()}
    scenes = {year: manifest for year, place in years.items() if (manifest := place.manifest())}
    samples = {name: manifest for name, place in area_samples(root).items() if (manifest := place.manifest())}
    inputs = {
        "format": str(DATA_FORMAT),
        "inventory": _version_of(inventory),
        "chips": _version_of(pictures),
        "scenes": hashlib.sha256(
            json.dumps([sorted(items.values()), {y: _version_of(m) for y, m in sorted(scenes.items())}]).encode()
        ).hexdigest()[:16],
        "samples": ",".join(_version_of(manifest) for _, manifest in sorted(samples.items())),
    }
    current = place.manifest()
    is_new = rebuild or current is None or current.metadata.get("inputs") != inputs
    if is_new:
        sites = ordered(read_table(slumps, inventory, "rts_sites")) if inventory else None
        tables = {year: read_table(years[year], manifest, "scenes") for year, manifest in scenes.items()}
        with place.new_version() as version:
            shown = read_plain_table(chips, pictures, "chips") if pictures else None
            facts = _write_data(version, sites, shown, observed_areas(tables, items))
            facts["samples"] = [_write_sample(root, version, name) for name in sorted(samples)]
            written = [*facts["files"].values(), *(each["file"] for each in facts["samples"])]
            place.publish(version, dict.fromkeys(written, version.id), {"inputs": inputs, "map": facts})
        current = place.require()
    assert current is not None
    for name, media in PAGE_FILES.items():
        _put(folder, name, files("darts_assets.web_map").joinpath("bundle", name).read_bytes(), media)
    _put(folder, LAND_FILE, files("darts_assets.geo").joinpath(LAND_FILE).read_bytes())
    description = {
        **current.metadata["map"],
        "inventory_version": inputs["inventory"],
        "updated": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "licence": licence,
        "licence_url": _LICENCES.get(licence),
        "ui_url": link_base(ui_url) if ui_url else None,
    }
    _put(folder, _MAP, json.dumps(description, indent=1).encode())
    return PublishedMap(description, inputs, is_new)


def _write_sample(root: StoreLocation, version: Version, name: tuple[int, str]) -> dict[str, Any]:
    """Write the points of a sample, to be reviewed; returns its entry in `map.json`."""
    year, sample = name
    place = area_samples(root)[name]
    manifest = place.require()
    pictures = read_plain_table(place, manifest, "pictures")
    key = root.key_of(place.location.child(manifest.contents["pictures.zip"], "pictures.zip").url)
    records = sample_points(read_table(place, manifest, "points"), pictures, key)
    facts = {"year": year, "sample": sample, "inventory_version": manifest.metadata["inventory_version"]}
    file = f"sample-{year}-{sample}.json"
    _put(version.location, file, json.dumps({**facts, "points": records}, separators=(",", ":")).encode())
    return {**facts, "points": len(records), "file": file}


def _put(folder: StoreLocation, name: str, content: bytes, media: str = "application/json") -> None:
    """Write an object; on an object store with the type that a browser needs."""
    obstore.put(folder.objects(), name, content, attributes=None if folder.is_local else {"Content-Type": media})


def _description(folder: StoreLocation) -> dict[str, Any]:
    """The published `map.json`; empty without one."""
    try:
        return dict(json.loads(bytes(obstore.get(folder.objects(), _MAP).bytes())))
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def _version_of(manifest: Manifest | None) -> str:
    return max(manifest.versions, default="") if manifest else ""


def _items(root: StoreLocation, families: Sequence[str]) -> dict[tuple[str, str], str]:
    """Family and scene -> its STAC item, as a path from the page."""
    stac = root.child("catalog", "stac")
    if stac.is_local and not stac.path.is_dir():
        return {}
    return {
        (family, link["title"]): f"../stac/{family}/{link['href'].removeprefix('./')}"
        for family in families
        for link in _links(stac, family)
    }


def _links(stac: StoreLocation, family: str) -> Iterator[Mapping[str, str]]:
    try:
        collection = json.loads(bytes(obstore.get(stac.objects(), f"{family}/collection.json").bytes()))
    except FileNotFoundError:
        return
    yield from (link for link in collection["links"] if link["rel"] == "item")


def _write_data(
    version: Version, sites: "gpd.GeoDataFrame | None", chips: "pd.DataFrame | None", scenes: "gpd.GeoDataFrame"
) -> dict[str, Any]:
    """Write the data files; returns the facts about them for `map.json`."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import pyogrio

    names: dict[str, str] = {}
    bounds, years, slumps = None, list[int](), 0
    with tempfile.TemporaryDirectory() as folder:

        def layer(name: str, table: "gpd.GeoDataFrame") -> None:
            path = Path(folder) / f"{name}.fgb"
            # A layer in a file of its own, with an index, without which the page cannot read parts of it.
            pyogrio.write_dataframe(
                table, path, driver="FlatGeobuf", geometry_type="MultiPolygon", promote_to_multi=True,
                layer_options={"SPATIAL_INDEX": "YES"},
            )  # fmt: skip
            names[name] = path.name

        def columns(name: str, table: "pd.DataFrame", kind: "pa.DataType", encoding: str) -> None:
            path = Path(folder) / f"{name}.parquet"
            # Without nulls, in one page: the page then reads each column into a typed array.
            schema = pa.schema([pa.field(column, kind, nullable=False) for column in table])
            pq.write_table(
                pa.Table.from_pandas(table, schema, preserve_index=False), path, use_dictionary=False,
                column_encoding=dict.fromkeys(table, encoding), row_group_size=2**30, data_page_size=2**30,
                max_rows_per_page=2**30, write_statistics=False,
            )  # fmt: skip
            names[name] = path.name

        if sites is not None and len(sites):
            numbers = points(sites)
            ids = sites.drop_duplicates("slump")[["slump_id"]]
            columns("points", numbers, pa.int32(), "DELTA_BINARY_PACKED")
            columns("ids", ids, pa.string(), "DELTA_BYTE_ARRAY")
            layer("sites", outlines(sites, chips))
            bounds = [numbers[axis].agg(end).item() for end in ("min", "max") for axis in ("x", "y")]
            years, slumps = sorted({int(year) for year in sites["year"]}), len(ids)
        if len(scenes):
            layer("scenes", scenes)
        sizes = {}
        for file in names.values():
            sizes[file] = (Path(folder) / file).stat().st_size
            obstore.put(version.location.objects(), file, Path(folder) / file)
    return {
        "format": DATA_FORMAT,
        "crs": MAP_CRS,
        "folder": version.id,
        "files": names,
        "bytes": sizes,
        "sites": 0 if sites is None else len(sites),
        "slumps": slumps,
        "years": years,
        "bounds": bounds,
        "scenes": len(scenes),
        "has_reviews": bool(sites is not None and "verdict" in sites),
    }
