"""The inventory of a year, and how it changes when scenes come, go or change.

A site is a pure function of its detections and of the valid areas around it, so only sites near a scene that changes
are worked out anew, and the result is what all scenes at once, in any order, would have given.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from darts_assets.inventory.equal_area import EQUAL_AREA, Geometries, hull_of, to_equal_area, to_lonlat
from darts_assets.inventory.links import sites_of
from darts_assets.inventory.records import SceneRecord
from darts_assets.inventory.site_parameters import InventoryParameters
from darts_assets.inventory.sites import describe, no_sites, reaches
from darts_assets.inventory.table_schemas import TIME

_SCENE_COLUMNS = {
    "scene_id": "str",
    "family": "str",
    "datetime": TIME,
    "data_version": "str",
}
_FACTS = ["family", "datetime", "data_version"]
_DETECTION_COLUMNS = {
    "site_id": "str",
    "scene_id": "str",
    "region_id": "int64",
    "datetime": TIME,
    "mean": "float64",
    "area_m2": "float64",
    "touches_edge": "bool",
}
_ORDER = ["datetime", "scene_id", "region_id"]


class SceneTables(Protocol):
    """Where the polygons of scenes are read, each table when it is needed."""

    def segments(self, scene_id: str) -> gpd.GeoDataFrame:
        """Detections: `Region_ID`, `touches_edge`, `mean` and polygons, as of `detection.segments`."""

    def extent(self, scene_id: str) -> gpd.GeoDataFrame:
        """The valid area, as of `detection.extent_polygons`."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """All that is known of a year; everything in EPSG:6931.

    Attributes:
        year: of the scenes.
        parameters: how detections became sites.
        scenes: the scenes that are in it, by id: `scene_id family datetime data_version`, and convex shapes around
            their valid areas.
        detections: their detections, by time, with the `site_id` of each.
        sites: columns as `SITE_COLUMNS`, and the outline; by id.
    """

    year: int
    parameters: InventoryParameters
    scenes: gpd.GeoDataFrame
    detections: gpd.GeoDataFrame
    sites: gpd.GeoDataFrame


@dataclass(frozen=True, slots=True)
class Changes:
    """What an update did.

    Attributes:
        added: scenes that came.
        changed: scenes whose polygons are others than before.
        removed: scenes that went.
        worked_out: sites that were made or worked out anew.
        kept: sites that were left as they were.
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
    """Bring an inventory to a set of scenes.

    Args:
        inventory: of the year; `empty_inventory` for one from scratch.
        scenes: all scenes that are to be in it, in any order.
        tables: their polygons. Segments are read of scenes that are new or have changed; extents also of their
            neighbours.

    Returns:
        An inventory that is equal, value for value, to one from scratch; and what was done.
    """
    wanted, before = _scene_table(scenes), pd.DataFrame(inventory.scenes)
    same = before.merge(wanted[["scene_id", *_FACTS]], on=["scene_id", *_FACTS])["scene_id"]
    coming, going = wanted[~wanted["scene_id"].isin(same)], before[~before["scene_id"].isin(same)]
    known, arrived, gone = (set(table["scene_id"]) for table in (before, coming, going))
    found = [_detections_of(scene, tables) for scene in scenes if scene.scene_id in arrived]
    coming = coming.assign(geometry=np.array([hull for _, hull in found], dtype=object))
    now = _mapped(_stacked([before[before["scene_id"].isin(same)], coming], _SCENE_COLUMNS, ["scene_id"]))

    near = _sites_near(inventory, np.concatenate([going["geometry"], coming["geometry"]]))
    kept = pd.DataFrame(inventory.sites[~inventory.sites["site_id"].isin(near)])
    remaining = pd.DataFrame(inventory.detections[inventory.detections["scene_id"].isin(same)])
    again = remaining["site_id"].isin(near)
    work = _stacked([remaining[again], *(rows for rows, _ in found)], _DETECTION_COLUMNS, _ORDER)
    numbers = sites_of(
        work["geometry"].to_numpy(),
        pd.factorize(work["scene_id"])[0].astype(np.int64),
        work["touches_edge"].to_numpy(),
        inventory.parameters,
    )
    made = describe(work, numbers, now, tables.extent, inventory.parameters, inventory.year)
    # From here on the sites that are kept have the first numbers.
    untouched = remaining[~again].assign(site=pd.Index(kept["site_id"]).get_indexer(remaining["site_id"][~again]))
    detections = _stacked([untouched, work.assign(site=len(kept) + numbers)], _DETECTION_COLUMNS, _ORDER)
    names = _names(detections, inventory.year)
    detections["site_id"] = names.iloc[detections.pop("site")].array
    sites = pd.concat([kept, made], ignore_index=True).assign(site_id=names.array)
    sites = sites.sort_values("site_id", ignore_index=True)
    result = Inventory(inventory.year, inventory.parameters, now, _mapped(detections), _mapped(sites))
    return result, Changes(
        sorted(arrived - known), sorted(arrived & known), sorted(gone - arrived), worked_out=len(made), kept=len(kept)
    )


def _scene_table(scenes: Sequence[SceneRecord]) -> pd.DataFrame:
    table = pd.DataFrame([asdict(scene) for scene in scenes], columns=["scene_id", *_FACTS])
    return table.astype(_SCENE_COLUMNS)


def _detections_of(scene: SceneRecord, tables: SceneTables) -> tuple[pd.DataFrame, BaseGeometry]:
    """The detections of a scene, and a convex shape around all of it, in `EQUAL_AREA`."""
    segments = tables.segments(scene.scene_id)
    shapes = to_equal_area(segments)
    detections = pd.DataFrame(
        {
            "site_id": "",
            "scene_id": scene.scene_id,
            "region_id": segments["Region_ID"].to_numpy(),
            "datetime": scene.datetime,
            "mean": segments["mean"].to_numpy(),
            "area_m2": shapely.area(shapes),
            "touches_edge": segments["touches_edge"].to_numpy(),
            "geometry": shapes,
        }
    )
    return detections, hull_of(tables.extent(scene.scene_id), segments)


def _sites_near(inventory: Inventory, hulls: Geometries) -> set[str]:
    """The sites that any of some scenes looks at, or that a detection of it may touch."""
    if not len(inventory.sites) or not len(hulls):
        return set()
    numbers, names = pd.factorize(inventory.detections["site_id"])
    around = reaches(inventory.detections.geometry.to_numpy(), numbers.astype(np.int64))
    # A metre more than can matter: hulls are exact to centimetres.
    reach = inventory.parameters.tolerance + 1
    return set(names[np.unique(shapely.STRtree(around).query(hulls, predicate="dwithin", distance=reach)[1])])


def _names(detections: pd.DataFrame, year: int) -> "pd.Series[str]":
    """Names of sites by their number: year and place of the first detection; if that is not unique, counted on."""
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
