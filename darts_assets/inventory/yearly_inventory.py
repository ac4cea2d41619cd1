"""The inventory of a year and its incremental update.

The sites of a cluster of linked detections depend only on these and on the observed areas around them (but for the
intervals of areas, which are quickly made from the table of sites). So an update recomputes only clusters near added,
changed or removed scenes, and equals an inventory of all scenes from scratch, in
any order.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from darts_assets.geo.equal_area import EQUAL_AREA, Geometries, hull_of, to_equal_area, to_lonlat
from darts_assets.inventory.area_intervals import with_intervals
from darts_assets.inventory.links import clusters_of, find_links, links_within
from darts_assets.inventory.site_parameters import InventoryParameters
from darts_assets.inventory.sites import describe, divide_clusters, looks_at, no_sites, reaches
from darts_assets.inventory.table_schemas import TIME, SceneRecord

_SCENE_COLUMNS = {
    "scene_id": "str",
    "family": "str",
    "datetime": TIME,
    "data_version": "str",
    "clouded_detections": "int64",
}
_FACTS = ["family", "datetime", "data_version"]
_DETECTION_COLUMNS = {
    "site_id": "str",
    "cluster": "str",
    "scene_id": "str",
    "region_id": "int64",
    "datetime": TIME,
    "mean": "float64",
    "area_m2": "float64",
    "touches_edge": "bool",
}
_ORDER = ["datetime", "scene_id", "region_id"]


class SceneTables(Protocol):
    """Reads the polygons of scenes on demand."""

    def segments(self, scene_id: str) -> gpd.GeoDataFrame:
        """Detections, as returned by `detection.segments`: `Region_ID`, `touches_edge`, `mean` and polygons.

        Without `clear_fraction`, all of them are clear.
        """

    def observed(self, scene_id: str) -> gpd.GeoDataFrame:
        """The observed area as disjoint polygons: the clear part of the valid area."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The inventory of a year; all geometries in EPSG:6931.

    Attributes:
        year: year of the scenes.
        parameters: how detections are merged to sites.
        scenes: `scene_id family datetime data_version`, `clouded_detections` (number of detections that do not count)
            and convex hulls of detections and observed areas, by id.
        detections: detections of all scenes, by time, with their `site_id` and their `cluster` of linked detections,
            named by its first site.
        sites: columns `SITE_COLUMNS` and the outline, by id.
    """

    year: int
    parameters: InventoryParameters
    scenes: gpd.GeoDataFrame
    detections: gpd.GeoDataFrame
    sites: gpd.GeoDataFrame


@dataclass(frozen=True, slots=True)
class Changes:
    """Result of an update.

    Attributes:
        added: new scenes.
        changed: scenes with new polygons.
        removed: scenes no longer in the inventory.
        worked_out: number of new or recomputed sites.
        kept: number of unchanged sites.
    """

    added: list[str]
    changed: list[str]
    removed: list[str]
    worked_out: int
    kept: int


def empty_inventory(year: int, parameters: InventoryParameters) -> Inventory:
    """The inventory of a year without scenes."""
    detections = pd.DataFrame(columns=[*_DETECTION_COLUMNS, "geometry"]).astype(_DETECTION_COLUMNS)
    scenes = _mapped(_scene_table([]).assign(geometry=[]))
    return Inventory(year, parameters, scenes, _mapped(detections), no_sites(year))


def update(inventory: Inventory, scenes: Sequence[SceneRecord], tables: SceneTables) -> tuple[Inventory, Changes]:
    """Update an inventory to a set of scenes.

    Args:
        inventory: the year's inventory; `empty_inventory` to start from scratch.
        scenes: all scenes of the updated inventory, in any order.
        tables: their polygons. Segments are read for new and changed scenes, observed areas also for their neighbours.

    Returns:
        The inventory, equal in all values to one from scratch, and the changes.
    """
    selection, before = _scene_table(scenes), pd.DataFrame(inventory.scenes)
    same = before.merge(selection[["scene_id", *_FACTS]], on=["scene_id", *_FACTS])["scene_id"]
    coming, going = selection[~selection["scene_id"].isin(same)], before[~before["scene_id"].isin(same)]
    known, arrived, gone = (set(table["scene_id"]) for table in (before, coming, going))
    new = [_detections_of(scene, tables, inventory.parameters) for scene in scenes if scene.scene_id in arrived]
    coming = coming.assign(
        clouded_detections=np.array([clouded for _, clouded, _ in new], dtype=np.int64),
        geometry=np.array([hull for _, _, hull in new], dtype=object),
    )
    now = _mapped(_stacked([before[before["scene_id"].isin(same)], coming], _SCENE_COLUMNS, ["scene_id"]))

    near = _clusters_near(inventory, np.concatenate([going["geometry"], coming["geometry"]]))
    affected = inventory.detections["site_id"][inventory.detections["cluster"].isin(near)]
    kept = pd.DataFrame(inventory.sites[~inventory.sites["site_id"].isin(affected)])
    remaining = pd.DataFrame(inventory.detections[inventory.detections["scene_id"].isin(same)])
    again = remaining["cluster"].isin(near)
    work = _stacked([remaining[again], *(rows for rows, _, _ in new)], _DETECTION_COLUMNS, _ORDER)
    shapes, parameters = work["geometry"].to_numpy(), inventory.parameters
    number_of_scene = pd.factorize(work["scene_id"])[0].astype(np.int64)
    links = find_links(shapes, number_of_scene, work["touches_edge"].to_numpy(), parameters)
    family_of = dict(zip(now["scene_id"], now["family"], strict=True))
    families = work["scene_id"].map(family_of).to_numpy(dtype=object)
    if parameters.sensors == "apart":
        links = links_within(links, families)
    clusters = clusters_of(len(work), links)
    hulls = dict(zip(now["scene_id"], now.geometry, strict=True))
    looks = looks_at(reaches(shapes, clusters), hulls, tables.observed)
    if parameters.sensors == "apart":
        owners = families[np.unique(clusters, return_index=True)[1]]
        looks = [
            {scene: part for scene, part in look.items() if family_of[scene] == owner}
            for look, owner in zip(looks, owners, strict=True)
        ]
    divided = divide_clusters(work, clusters, links, looks, parameters)
    made = describe(work, divided, now, parameters, inventory.year)
    # From here on, unchanged sites and clusters have the first numbers.
    untouched = remaining[~again]
    untouched = untouched.assign(site=pd.Index(kept["site_id"]).get_indexer(untouched["site_id"]))
    work = work.assign(site=len(kept) + divided.site, cluster=[f"new {number}" for number in clusters])
    detections = _stacked([untouched, work], _DETECTION_COLUMNS, _ORDER)
    names = _names(detections, inventory.year)
    detections["site_id"] = names.iloc[detections.pop("site")].array
    detections["cluster"] = detections.groupby("cluster")["site_id"].transform("first").astype("str")
    sites = pd.concat([kept, made], ignore_index=True).assign(site_id=names.array)
    sites = sites.sort_values("site_id", ignore_index=True)
    # Variances are moderated by those of all sites, so that intervals change also where outlines do not.
    if parameters.sensors == "apart" and len(sites):
        by_family = [with_intervals(table) for _, table in sites.groupby("families")]
        sites = pd.concat(by_family).sort_values("site_id", ignore_index=True)
    else:
        sites = with_intervals(sites)
    result = Inventory(inventory.year, inventory.parameters, now, _mapped(detections), _mapped(sites))
    return result, Changes(
        sorted(arrived - known), sorted(arrived & known), sorted(gone - arrived), worked_out=len(made), kept=len(kept)
    )


def _scene_table(scenes: Sequence[SceneRecord]) -> pd.DataFrame:
    table = pd.DataFrame([asdict(scene) for scene in scenes], columns=["scene_id", *_FACTS])
    return table.assign(clouded_detections=0).astype(_SCENE_COLUMNS)


def _detections_of(
    scene: SceneRecord, tables: SceneTables, parameters: InventoryParameters
) -> tuple[pd.DataFrame, int, BaseGeometry]:
    """The clear detections of a scene, the number of others, and the convex hull of its polygons, in `EQUAL_AREA`."""
    every = tables.segments(scene.scene_id)
    segments = every[every["clear_fraction"] >= parameters.min_coverage] if "clear_fraction" in every else every
    shapes = to_equal_area(segments)
    detections = pd.DataFrame(
        {
            "site_id": "",
            "cluster": "",
            "scene_id": scene.scene_id,
            "region_id": segments["Region_ID"].to_numpy(),
            "datetime": scene.datetime,
            "mean": segments["mean"].to_numpy(),
            "area_m2": shapely.area(shapes),
            "touches_edge": segments["touches_edge"].to_numpy(),
            "geometry": shapes,
        }
    )
    return detections, len(every) - len(segments), hull_of(tables.observed(scene.scene_id), segments)


def _clusters_near(inventory: Inventory, hulls: Geometries) -> set[str]:
    """Names of clusters that a changed scene (hull) may observe or detect."""
    if not len(inventory.sites) or not len(hulls):
        return set()
    numbers, names = pd.factorize(inventory.detections["cluster"])
    around = reaches(inventory.detections.geometry.to_numpy(), numbers.astype(np.int64))
    # One metre of margin: hulls are exact to centimetres.
    reach = inventory.parameters.tolerance + 1
    return set(names[np.unique(shapely.STRtree(around).query(hulls, predicate="dwithin", distance=reach)[1])])


def _names(detections: pd.DataFrame, year: int) -> "pd.Series[str]":
    """Site ids by number: year and location of the first detection, with a counter where that is not unique."""
    first = detections.drop_duplicates("site")
    places = pd.Series(
        [
            f"rts-{year}-{lat:.4f}N-{abs(lon):.4f}{'W' if lon < 0 else 'E'}"
            for lon, lat in to_lonlat(shapely.point_on_surface(first["geometry"].to_numpy()))
        ],
        dtype="object",
    )
    count = places.groupby(places).cumcount()
    names = places.where(count == 0, places + "-" + (count + 1).astype("str"))
    return names.set_axis(first["site"]).sort_index().astype("str")


def _stacked(parts: Sequence[pd.DataFrame], columns: dict[str, str], order: list[str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True).astype(columns).sort_values(order, ignore_index=True)


def _mapped(table: pd.DataFrame) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(table, geometry="geometry", crs=EQUAL_AREA)
