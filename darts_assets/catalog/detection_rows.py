"""Rows of the published table of detections: of one scene, and merged to files."""

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
from affine import Affine
from pyproj import CRS, Transformer

from darts_assets.catalog.catalog_store import Products
from darts_assets.catalog.detection_columns import COLUMNS
from darts_assets.geo.antimeridian import lonlat_polygons
from darts_assets.geo.geodesic import geodesic_area
from darts_assets.geo.grid_zones import region_of

ROW_GROUP = 4096
"""Rows per row group, the unit that spatial queries read or skip; some megabytes of outlines."""

FILE = "prediction_segments.parquet"


@dataclass(frozen=True)
class Source:
    """Source of a scene's rows.

    Attributes:
        scene: id of the scene.
        key: key of its polygons, from the root of the store.
        part: file of the table that holds the rows, below `catalog/detections`.
        version: data version of the polygons.
        constants: columns with the same value in all rows.
    """

    scene: str
    key: str
    part: str
    version: str
    constants: dict[str, Any]


def source_of(products: Products) -> Source | None:
    """The source of a scene's rows, None if its products lack polygons."""
    if FILE not in products.contents:
        return None
    metadata, grid = products.facts["metadata"], products.facts["grid"]
    polygons, time = metadata["steps"]["polygons"], dt.datetime.fromisoformat(metadata["datetime"]).astimezone(dt.UTC)
    constants = {
        "scene": products.scene,
        "family": products.family,
        "datetime": pd.Timestamp(time).as_unit("us"),
        "crs": grid["crs"],
        "models": metadata["model_hash"],
        "config_hash": metadata["config_hash"],
        "code_version": polygons["code_version"],
        "data_version": polygons["data_version"],
    }
    part = f"year={time.year}/region={region_of(metadata.get('tile'), *_centre(grid))}/part.parquet"
    return Source(products.scene, products.key(FILE), part, str(polygons["data_version"]), constants)


def _centre(grid: Mapping[str, Any]) -> tuple[float, float]:
    """Longitude and latitude of the centre of a grid; unlike that of the valid area it is constant."""
    height, width = grid["shape"]
    x, y = Affine(*grid["transform"]) @ (width / 2, height / 2)
    lon, lat = Transformer.from_crs(grid["crs"], "EPSG:4326", always_xy=True).transform(x, y)
    return lon, lat


def rows_of(source: Source, raw: bytes) -> gpd.GeoDataFrame:
    """The rows of a scene in EPSG:4326, with all `COLUMNS` except `bbox`; `raw` is its GeoParquet."""
    # Not read by GeoPandas, which takes ten times as long to parse the CRS.
    table = pq.read_table(BytesIO(raw)).replace_schema_metadata()
    outlines = shapely.from_wkb(table["geometry"].to_numpy())
    columns = table.drop_columns("geometry").to_pandas()
    crs = _crs(source.constants["crs"])
    for name in ("clear_fraction", "model_spread"):
        if name not in columns:
            columns[name] = np.nan
    if "area_m2" not in columns:
        columns["area_m2"] = geodesic_area(outlines, crs)
    columns = columns.assign(
        id=[f"{source.scene}/{number}" for number in columns["Region_ID"]],
        **source.constants,
    )
    geometry = lonlat_polygons(outlines, crs)
    names = [name for name in COLUMNS if name not in ("geometry", "bbox")]
    return gpd.GeoDataFrame(columns[names], geometry=geometry, crs="EPSG:4326")


@lru_cache
def _crs(name: str) -> CRS:
    return CRS(name)


def merged(
    before: gpd.GeoDataFrame | None, gone: Sequence[str], added: Sequence[gpd.GeoDataFrame]
) -> gpd.GeoDataFrame | None:
    """Rows of a file without those of the scenes `gone` and with `added`; None if no row is left.

    Rows are ordered along a Hilbert curve over the whole Earth, then by id, so that neighbours are adjacent and the
    order does not depend on the history of updates.
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
    """Write a file of the table as GeoParquet 1.1 with a covering `bbox` column and `row_group` rows per row group."""
    table.to_parquet(
        path, index=False, schema_version="1.1.0", write_covering_bbox=True, compression="zstd",
        row_group_size=row_group,
    )  # fmt: skip
