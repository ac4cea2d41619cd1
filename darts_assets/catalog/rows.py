"""Detections as rows of the published table: of one scene, and of the files that it consists of."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import shapely
from pyproj import CRS, Transformer

from darts_assets.catalog.detection_columns import COLUMNS
from darts_assets.catalog.published_products import Products
from darts_assets.catalog.region import region_of
from darts_assets.geo.antimeridian import lonlat_area

ROW_GROUP = 4096
"""Rows of a row group, which is what a query by area reads or skips: some megabytes of outlines."""

FILE = "prediction_segments.parquet"


@dataclass(frozen=True)
class Source:
    """Where the rows of a scene come from.

    Attributes:
        scene: its id.
        key: of its polygons, from the root of the store.
        part: the file of the table that they go to, below `catalog/detections`.
        version: what they depend on.
        constants: columns that are the same in all of them.
    """

    scene: str
    key: str
    part: str
    version: str
    constants: dict[str, Any]


def source_of(products: Products) -> Source | None:
    """The source of a scene's rows; None if its products have no polygons."""
    if FILE not in products.contents:
        return None
    said, grid = products.facts["metadata"], products.facts["grid"]
    polygons, moment = said["steps"]["polygons"], dt.datetime.fromisoformat(said["datetime"]).astimezone(dt.UTC)
    constants = {
        "scene": products.scene,
        "family": products.family,
        "datetime": pd.Timestamp(moment).as_unit("us"),
        "crs": grid["crs"],
        "models": said["model_hash"],
        "config_hash": said["config_hash"],
        "code_version": polygons["code_version"],
        "data_version": polygons["data_version"],
    }
    part = f"year={moment.year}/region={region_of(said.get('tile'), *_middle(grid))}/part.parquet"
    return Source(products.scene, products.key(FILE), part, str(polygons["data_version"]), constants)


def _middle(grid: Mapping[str, Any]) -> tuple[float, float]:
    """Longitude and latitude of the middle of a grid, which stays the same whatever was seen of it."""
    height, width = grid["shape"]
    a, b, left, d, e, top = grid["transform"]
    x, y = left + a * width / 2 + b * height / 2, top + d * width / 2 + e * height / 2
    lon, lat = Transformer.from_crs(grid["crs"], "EPSG:4326", always_xy=True).transform(x, y)
    return lon, lat


def rows_of(source: Source, raw: bytes) -> gpd.GeoDataFrame:
    """The rows of a scene in EPSG:4326, with the columns of `COLUMNS` but `bbox`; `raw` is its GeoParquet."""
    # Not by GeoPandas, which takes ten times as long to understand what the file says of its CRS.
    table = pq.read_table(BytesIO(raw)).replace_schema_metadata()
    outlines = shapely.from_wkb(table["geometry"].to_numpy())
    columns = table.drop_columns("geometry").to_pandas()
    columns = columns.assign(
        id=[f"{source.scene}/{number}" for number in columns["Region_ID"]],
        area_m2=shapely.area(outlines),
        **source.constants,
    )
    geometry = to_lonlat(outlines, _crs(source.constants["crs"]))
    wanted = [name for name in COLUMNS if name not in ("geometry", "bbox")]
    return gpd.GeoDataFrame(columns[wanted], geometry=geometry, crs="EPSG:4326")


@lru_cache
def _crs(name: str) -> CRS:
    return CRS(name)


def to_lonlat(geometry: "np.ndarray[Any, np.dtype[np.object_]]", crs: CRS) -> "np.ndarray[Any, np.dtype[np.object_]]":
    """Outlines of pixels, (n,) polygons, in EPSG:4326: valid, and cut at the antimeridian where they cross it."""
    found = gpd.GeoSeries(geometry, crs=crs).to_crs("EPSG:4326").to_numpy()
    bounds = shapely.bounds(found).reshape(-1, 4)
    for index in np.flatnonzero(bounds[:, 2] - bounds[:, 0] > 180):
        found[index] = lonlat_area(geometry[index], crs)
    invalid = ~shapely.is_valid(found)
    found[invalid] = shapely.make_valid(found[invalid])
    return found


def merged(
    before: gpd.GeoDataFrame | None, gone: Sequence[str], added: Sequence[gpd.GeoDataFrame]
) -> gpd.GeoDataFrame | None:
    """A file's rows without those of the scenes `gone`, and with `added`; None if nothing is left.

    Rows are ordered along a Hilbert curve over the whole Earth and then by id: neighbours stand beside each other, and
    the order depends on nothing else.
    """
    kept = [] if before is None else [before[~before["scene"].isin(gone)]]
    frames = [frame for frame in (*kept, *added) if len(frame)]
    if not frames:
        return None
    table = gpd.GeoDataFrame(pd.concat(frames, ignore_index=True), crs="EPSG:4326")
    curve = table.geometry.hilbert_distance(total_bounds=(-180, -90, 180, 90))
    order = np.lexsort((table["id"].to_numpy(dtype=str), curve.to_numpy()))
    return table.iloc[order].reset_index(drop=True)


def write_part(table: gpd.GeoDataFrame, path: Path, row_group: int = ROW_GROUP) -> None:
    """Write a file of the table: GeoParquet 1.1 with a covering `bbox` column, `row_group` rows in each row group."""
    table.to_parquet(
        path, index=False, schema_version="1.1.0", write_covering_bbox=True, compression="zstd",
        row_group_size=row_group,
    )  # fmt: skip
