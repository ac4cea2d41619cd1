"""Inventories in a store, as GeoParquet and GeoPackage, with the state for the next update."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import obstore
import pandas as pd
import pyogrio

from darts_assets.inventory.area_intervals import area_by_year
from darts_assets.inventory.site_parameters import InventoryParameters
from darts_assets.inventory.slumps import Followed
from darts_assets.inventory.table_schemas import SITE_COLUMNS
from darts_assets.inventory.yearly_inventory import Inventory, empty_inventory
from darts_assets.qgis_styles import write_vector_style
from darts_assets.review.review_columns import REJECTED, REVIEW_COLUMNS
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Manifest, Place
from darts_assets.stores.vectors import read_table, write_plain_table, write_table

STATE_FORMAT = 4
"""Increased when the meaning of the tables changes; the inventory is then built from scratch."""

OBSERVERS = "observers"
"""Name of the table of `Followed.observers`."""

AREAS = "area_by_year"
"""Name of the table of `area_intervals.area_by_year`."""


def write_inventory(
    place: Place, inventory: Inventory, metadata: Mapping[str, Any], *, publish_rejected: bool = False
) -> Manifest:
    """Publish the inventory of a year: `rts_<year>` as `.parquet`, `.gpkg` and `.qml`, `detections` and `scenes`.

    Args:
        place: destination.
        inventory: its sites may have `REVIEW_COLUMNS`.
        metadata: of the manifest.
        publish_rejected: whether the GeoPackage contains sites with the verdict `no`; the Parquet file always does.
    """
    name = f"rts_{inventory.year}"
    tables = {name: inventory.sites, "detections": inventory.detections, "scenes": inventory.scenes}
    return _write(place, tables, [name], {**metadata, "state_format": STATE_FORMAT}, publish_rejected)


def read_inventory(place: Place, manifest: Manifest | None, year: int, parameters: InventoryParameters) -> Inventory:
    """The inventory of a year in the content of a manifest; empty without one, or if it has another `STATE_FORMAT`.

    Judgements of reviewers are no part of it: they are made again for each version.
    """
    if manifest is None or manifest.metadata.get("state_format") != STATE_FORMAT:
        return empty_inventory(year, parameters)
    tables = {name: read_table(place, manifest, name) for name in (f"rts_{year}", "detections", "scenes")}
    sites = tables[f"rts_{year}"].drop(columns=list(REVIEW_COLUMNS), errors="ignore")
    return Inventory(year, parameters, tables["scenes"], tables["detections"], sites)


def read_year(place: Place, manifest: Manifest, year: int) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    """The sites and the scenes of a year, both of one version.

    Columns that an earlier version lacks are NaN, numbers of days 0.

    Raises:
        NotReadableError: if the version has been replaced in the meantime.
    """
    sites = read_table(place, manifest, f"rts_{year}")
    lacking = {name: dtype for name, dtype in SITE_COLUMNS.items() if name not in sites}
    sites = sites.assign(**{name: 0 if dtype == "int64" else float("nan") for name, dtype in lacking.items()})
    return sites.astype(lacking), read_table(place, manifest, "scenes")


def write_followed(
    place: Place, followed: Followed, metadata: Mapping[str, Any], *, publish_rejected: bool = False
) -> Manifest:
    """Publish slumps over the years: `rts_slumps` and `rts_sites`, each as `.parquet`, `.gpkg` and `.qml`.

    `observers.parquet` has the scenes that observe a slump in a year without a site of it, `area_by_year.parquet` the
    areas of years and regions, without rejected sites as the GeoPackages. Arguments as `write_inventory`.
    """
    tables = {"rts_slumps": followed.slumps, "rts_sites": followed.sites}
    areas = area_by_year(followed.sites, with_rejected=publish_rejected)
    plain = {OBSERVERS: followed.observers, AREAS: areas}
    return _write(place, tables, list(tables), metadata, publish_rejected, plain)


def years_of(location: StoreLocation) -> list[int]:
    """Years with a published inventory, ascending."""
    return sorted(int(name) for name in location.folders())


def _write(
    place: Place,
    tables: Mapping[str, gpd.GeoDataFrame],
    geopackages: list[str],
    metadata: Mapping[str, Any],
    publish_rejected: bool,
    plain: Mapping[str, pd.DataFrame] | None = None,
) -> Manifest:
    with place.new_version() as version, tempfile.TemporaryDirectory() as folder:
        files = [write_table(version, name, table) for name, table in tables.items()]
        files += [write_plain_table(version, name, table) for name, table in (plain or {}).items()]
        for name in geopackages:
            path = Path(folder) / f"{name}.gpkg"
            layer = tables[name]
            if "verdict" in layer and not publish_rejected:
                layer = layer[layer["verdict"] != REJECTED]
            # A GeoPackage layer declares one geometry type, even if it is empty.
            pyogrio.write_dataframe(
                layer, path, layer=name, driver="GPKG", geometry_type="MultiPolygon", promote_to_multi=True
            )
            for file in (path, write_vector_style(path)):
                obstore.put(version.location.objects(), file.name, file)
                files.append(file.name)
        manifest = Manifest(dict.fromkeys(files, version.id), dict(metadata))
        place.publish(version, manifest.contents, manifest.metadata)
    return manifest
