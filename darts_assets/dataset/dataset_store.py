"""Level 1, Level 2 and coverage in a store. Files of unchanged years are kept in the versions that have them."""

import hashlib
import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import obstore
import pandas as pd

from darts_assets.catalog.catalog_store import Tree
from darts_assets.dataset.coverage import ClearDays, SceneAreas, read_days, write_days, year_coverage
from darts_assets.dataset.published_detections import catalog_detections, level1, level2
from darts_assets.errors import NotReadableError
from darts_assets.inventory.inventory_store import read_year
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Manifest, Place, Version
from darts_assets.stores.store_layout import dataset_place, slumps_place, year_place
from darts_assets.stores.vectors import read_plain_table, read_table, write_table

LEVEL1, LEVEL2, COVERAGE = "level1", "level2", "coverage"
"""Names of the places below `dataset`."""

LAYOUT = "1"
"""Version of the tables; if it changes, those of all years are made again."""

_SITE_KEYS = ["site_id", "slump_id", "reviewed", "verdict"]


@dataclass(frozen=True)
class YearsUpdate:
    """Result of an update.

    Attributes:
        manifest: the published content.
        made: years whose files are new.
        versions: year -> version of what its files were made from.
    """

    manifest: Manifest
    made: list[int]
    versions: Mapping[int, str]


def inventory_years(root: StoreLocation) -> dict[int, str]:
    """The years in the slumps -> data versions of their inventories.

    Raises:
        NotReadableError: if there are no slumps, or the inventory of a year is newer.
    """
    inputs = slumps_place(root).require().metadata["provenance"]["inputs"]
    years = {int(name.removeprefix("rts_")): version for name, version in inputs.items() if name.startswith("rts_")}
    for year, version in years.items():
        current = year_place(root, year).require().metadata["provenance"]["data_version"]
        if current != version:
            raise NotReadableError(f"inventory/slumps is older than inventory/rts of {year}: materialize it again")
    return years


def update_level1(root: StoreLocation, place: Place) -> YearsUpdate:
    """Write `level1_<year>.parquet` of the years with changes in the inventory, the slumps or the catalog.

    Args:
        root: root of the store.
        place: `dataset/level1`.

    Raises:
        NotReadableError: if something is missing, or the catalog, the inventory and the slumps do not agree.
    """
    sites, parts = _followed_sites(root), _catalog(root)["darts:parts"]

    def write(year: int, version: Version) -> list[str]:
        inventory = year_place(root, year)
        manifest = inventory.require()
        members = read_plain_table(inventory, manifest, "detections", ["site_id", "scene_id", "region_id"])
        scenes = read_plain_table(inventory, manifest, "scenes", ["scene_id", "data_version"])
        table = level1(
            catalog_detections(root, [part for part in parts if part.startswith(f"year={year}/")]),
            members.merge(scenes, on="scene_id"),
            sites[sites["year"] == year],
        )
        return [write_table(version, f"{LEVEL1}_{year}", table)]

    return _update_years(place, _level1_versions(root, sites), write, {})


def update_level2(root: StoreLocation, place: Place, metadata: Mapping[str, Any]) -> tuple[Manifest, int]:
    """Write `level2.parquet`, unless it was made from the same slumps.

    Args:
        root: root of the store.
        place: `dataset/level2`.
        metadata: of the manifest, with the `provenance` of the table.

    Returns:
        The content and the number of rows.

    Raises:
        NotReadableError: if there are no slumps.
    """
    current = place.manifest()
    if current and current.metadata["provenance"] == metadata["provenance"]:
        return current, int(current.metadata["rows"])
    slumps = slumps_place(root)
    table = level2(read_table(slumps, slumps.require(), "rts_sites"))
    with place.new_version() as version:
        file = write_table(version, LEVEL2, table)
        manifest = Manifest({file: version.id}, {**metadata, "rows": len(table)})
        place.publish(version, manifest.contents, manifest.metadata)
    return manifest, len(table)


def update_coverage(
    root: StoreLocation, place: Place, areas_of: Callable[[gpd.GeoDataFrame], SceneAreas], cell: float
) -> YearsUpdate:
    """Write `images_<year>.parquet` and `days_<year>.tif` of the years with changes in their scenes.

    Args:
        root: root of the store.
        place: `dataset/coverage`.
        areas_of: returns the areas of the scenes of a table `scenes` of the inventory.
        cell: side of the cells, metres.

    Raises:
        NotReadableError: if something is missing.
    """
    scenes = _scenes(root)

    def write(year: int, version: Version) -> list[str]:
        coverage = year_coverage(scenes[year], areas_of(scenes[year]), cell)
        files = [write_table(version, f"images_{year}", coverage.images)]
        if coverage.days.blocks:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, f"days_{year}.tif")
                write_days(path, {year: coverage.days})
                obstore.put(version.location.objects(), path.name, path)
            files.append(path.name)
        return files

    return _update_years(place, _coverage_versions(scenes, cell), write, {"cell_m": cell})


def require_current(root: StoreLocation, years: Sequence[int]) -> dict[str, str]:
    """The versions of the tables of some years, by name.

    Args:
        root: root of the store.
        years: years of the inventory.

    Raises:
        NotReadableError: if tables are missing, or were made from something else than the inventory now contains.
    """
    slumps = slumps_place(root).require().metadata["provenance"]["data_version"]
    if dataset_place(root, LEVEL2).require().metadata["provenance"]["inputs"]["slumps"] != slumps:
        raise NotReadableError(f"dataset/{LEVEL2} is older than inventory/slumps: materialize it again")
    published = {name: dataset_place(root, name).require().metadata for name in (LEVEL1, COVERAGE)}
    wanted = {
        LEVEL1: _level1_versions(root, _followed_sites(root)),
        COVERAGE: _coverage_versions(_scenes(root), published[COVERAGE]["cell_m"]),
    }
    versions = {LEVEL2: slumps}
    for name, year in itertools.product(wanted, years):
        if published[name]["years"].get(str(year)) != wanted[name][year]:
            raise NotReadableError(
                f"dataset/{name} of {year} is older than the inventory or the catalog: materialize it again"
            )
        versions[f"{name}_{year}"] = wanted[name][year]
    return versions


def read_level1(root: StoreLocation, years: Sequence[int]) -> gpd.GeoDataFrame:
    """Level 1 of some years, as `published_detections.level1` of each one after the other."""
    return _read(root, LEVEL1, [f"{LEVEL1}_{year}" for year in years])


def read_level2(root: StoreLocation) -> gpd.GeoDataFrame:
    """Level 2 of all years."""
    return _read(root, LEVEL2, [LEVEL2])


def read_images(root: StoreLocation, years: Sequence[int]) -> gpd.GeoDataFrame:
    """Footprints of the images of some years, by time."""
    return _read(root, COVERAGE, [f"images_{year}" for year in years])


def read_coverage(root: StoreLocation, years: Sequence[int]) -> dict[int, ClearDays]:
    """Days per cell of each year; without a block if nothing was seen."""
    place = dataset_place(root, COVERAGE)
    manifest = place.require()
    days: dict[int, ClearDays] = {}
    with tempfile.TemporaryDirectory() as folder:
        for year in years:
            name = f"days_{year}.tif"
            if name in manifest.contents:
                path = Path(folder, name)
                objects = place.location.child(manifest.contents[name]).objects()
                with path.open("wb") as file:
                    for chunk in obstore.get(objects, name):
                        file.write(chunk)
                days |= read_days(path)
    cell = next((counts.cell for counts in days.values()), 1.0)
    return {year: days.get(year, ClearDays(cell, {})) for year in years}


def _read(root: StoreLocation, name: str, tables: Sequence[str]) -> gpd.GeoDataFrame:
    place = dataset_place(root, name)
    manifest = place.require()
    if lacking := [table for table in tables if f"{table}.parquet" not in manifest.contents]:
        raise NotReadableError(f"{place.location} has no {lacking[0]}.parquet: materialize dataset/{name} again")
    frames = [read_table(place, manifest, table).drop(columns="bbox", errors="ignore") for table in tables]
    return gpd.GeoDataFrame(pd.concat(frames, ignore_index=True), crs="EPSG:4326")


def _catalog(root: StoreLocation) -> Mapping[str, Any]:
    """The collection of the published table of detections."""
    collection = Tree(root.child("catalog")).document("stac/detections/collection.json")
    if collection is None:
        raise NotReadableError(f"{root}: no table of detections; materialize catalog/detections first")
    return collection


def _followed_sites(root: StoreLocation) -> gpd.GeoDataFrame:
    slumps = slumps_place(root)
    return read_table(slumps, slumps.require(), "rts_sites")


def _scenes(root: StoreLocation) -> dict[int, gpd.GeoDataFrame]:
    """The scenes of the inventory by year."""
    places = {year: year_place(root, year) for year in inventory_years(root)}
    return {year: read_year(place, place.require(), year)[1] for year, place in places.items()}


def _level1_versions(root: StoreLocation, sites: pd.DataFrame) -> dict[int, str]:
    """Year -> version of its Level 1: inventory, products of its scenes, slumps and verdicts of its sites."""
    products: dict[str, list[tuple[str, str]]] = {}
    for scene, entry in _catalog(root)["darts:state"].items():
        products.setdefault(entry["part"].partition("/")[0], []).append((scene, entry["version"]))
    keys = sites[[name for name in ("year", *_SITE_KEYS) if name in sites]].sort_values("site_id")
    return {
        year: _digest(
            LAYOUT, version, sorted(products.get(f"year={year}", [])), keys[keys["year"] == year].to_csv(index=False)
        )
        for year, version in inventory_years(root).items()
    }


def _coverage_versions(scenes: Mapping[int, pd.DataFrame], cell: float) -> dict[int, str]:
    """Year -> version of its coverage: polygons of its scenes and size of the cells."""
    columns = ["scene_id", "datetime", "data_version"]
    return {
        year: _digest(LAYOUT, cell, table[columns].sort_values("scene_id").to_csv(index=False))
        for year, table in scenes.items()
    }


def _update_years(
    place: Place,
    wanted: Mapping[int, str],
    write: Callable[[int, Version], list[str]],
    metadata: Mapping[str, Any],
) -> YearsUpdate:
    """Publish the files of the years: those of unchanged years stay where they are.

    Args:
        place: names of its files end with the year, `<name>_<year>.<suffix>`.
        wanted: year -> version of its files.
        write: writes the files of a year into a version; returns their names.
        metadata: further facts of the manifest.
    """
    current = place.manifest()
    before = current.metadata["years"] if current else {}
    made = [year for year, version in wanted.items() if before.get(str(year)) != version]
    kept = {str(year) for year in wanted} - {str(year) for year in made}
    if current and not made and kept == before.keys():
        return YearsUpdate(current, [], wanted)
    with place.new_version() as version:
        base = version.base.contents if version.base else {}
        contents = {name: own for name, own in base.items() if Path(name).stem.rpartition("_")[2] in kept}
        for year in made:
            contents |= dict.fromkeys(write(year, version), version.id)
        manifest = Manifest(contents, {**metadata, "years": {str(year): own for year, own in wanted.items()}})
        place.publish(version, manifest.contents, manifest.metadata)
    return YearsUpdate(manifest, made, wanted)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
