"""Tables of the products, whose rows carry their scene, time, area, models and version, so that a row stands alone.

On floor 1, because exports complete the tables of earlier products in the same way.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import geopandas as gpd
import pandas as pd

from darts_assets.geo.geodesic import geodesic_area

UTC_MILLISECONDS = "datetime64[ms, UTC]"
"""GeoPackage stores milliseconds."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Origin of a scene's polygons.

    Attributes:
        scene_id: id of the scene.
        datetime: sensing time, with a time zone.
        models: names of the models.
        code_version: version of the code that made the polygons.
    """

    scene_id: str
    datetime: dt.datetime
    models: Sequence[str]
    code_version: str


def product_tables(tables: Mapping[str, gpd.GeoDataFrame], origin: Origin) -> dict[str, gpd.GeoDataFrame]:
    """The tables of a scene as the products contain them.

    Args:
        tables: result of `vectorize.detection_tables`, of this or an earlier version.
        origin: origin of all rows.

    Returns:
        `segments`, `segments-NAME` and `extent` with `area_m2` (float64: geodesic area on WGS 84; it replaces a planar
        one), `scene_id`, `datetime` (UTC, milliseconds), `model` (names, separated by commas; of `segments-NAME` only
        that one) and `code_version`, before the geometry. Empty tables have the same columns and dtypes. Other tables
        are unchanged.
    """
    return {
        name: table if name == "clear" else with_origin(table, origin, name.partition("-")[2])
        for name, table in tables.items()
    }


def with_origin(table: gpd.GeoDataFrame, origin: Origin, model: str = "") -> gpd.GeoDataFrame:
    """A table with `area_m2` (geodesic, m2) and the columns of its origin before the geometry.

    Args:
        table: polygons in a projected CRS in metres.
        origin: origin of all rows.
        model: the only model that made the rows; by default all of the origin.
    """
    time = pd.Timestamp(origin.datetime).tz_convert("UTC")
    columns = {
        "scene_id": pd.Series(origin.scene_id, table.index, dtype="str"),
        "datetime": pd.Series(time, table.index, dtype=UTC_MILLISECONDS),
        "model": pd.Series(model or ",".join(origin.models), table.index, dtype="str"),
        "code_version": pd.Series(origin.code_version, table.index, dtype="str"),
    }
    area = geodesic_area(table.geometry.to_numpy(), table.crs)
    complete = table.assign(area_m2=area, **columns)
    return complete[[*(name for name in complete.columns if name != "geometry"), "geometry"]]
