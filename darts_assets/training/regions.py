"""Administrative regions (ADM2 of geoBoundaries) of images, for splits by region."""

import logging
from pathlib import Path

import geopandas as gpd
import pandas as pd

from darts_assets.errors import TrainingError
from darts_assets.geo.vector_files import Box, read_vector

_log = logging.getLogger(__name__)

NO_REGION = "none"
"""Region of an image that no region overlaps."""

EQUAL_AREA = "EPSG:6931"
"""EASE-Grid 2.0 North: equal area, without an antimeridian."""

_STEP = 0.1  # degrees


def read_regions(path: str | Path, around: gpd.GeoDataFrame, name: str = "shapeName") -> gpd.GeoDataFrame:
    """Read the regions in the latitudes of footprints: `region` and valid `geometry` in an equal-area CRS.

    Args:
        path: vector file, for example `geoBoundariesCGAZ_ADM2` of geoBoundaries.
        around: footprints that limit the latitudes.
        name: column with the names of the regions.

    Raises:
        TrainingError: if the file cannot be read, or lacks the column or a CRS.
    """
    _, south, _, north = around.to_crs("EPSG:4326").total_bounds
    return named_regions(read_region_file(path, (-180, south, 180, north), name), name)


def read_region_file(path: str | Path, box: Box, name: str = "shapeName") -> gpd.GeoDataFrame:
    """The rows of a vector file in a box of longitude and latitude; raises as `read_regions`."""
    try:
        regions = read_vector(Path(path), lonlat_box=box)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: regions cannot be read: {error}") from error
    if name not in regions:
        raise TrainingError(f"{path}: no column {name!r}; columns are {', '.join(map(str, regions.columns))}")
    if regions.crs is None:
        raise TrainingError(f"{path}: no CRS")
    return regions


def named_regions(regions: gpd.GeoDataFrame, name: str) -> gpd.GeoDataFrame:
    """`region` and valid `geometry` in an equal-area CRS, from a table with the column `name`."""
    named = regions[[name, "geometry"]].rename(columns={name: "region"})
    if regions.crs.is_geographic:
        # Long borders along parallels are arcs in the equal-area CRS.
        named = named.set_geometry(named.geometry.segmentize(_STEP))
    return _flat(named[named["region"].notna()])


def regions_of(footprints: gpd.GeoDataFrame, regions: gpd.GeoDataFrame) -> "pd.Series[str]":
    """Region with the largest overlap of each footprint, indexed like `footprints`; `NO_REGION` without overlap.

    Several rows of a region are one region. Equal overlaps go to the first name.

    Args:
        footprints: footprints with a unique index, in any CRS.
        regions: result of `read_regions`.
    """
    flat = _flat(footprints[["geometry"]].rename_axis("footprint").reset_index())
    parts = flat.overlay(_flat(regions), how="intersection", keep_geom_type=True)
    shares = parts.assign(area=parts.area).groupby(["footprint", "region"])["area"].sum().reset_index()
    largest = shares.sort_values(["area", "region"], ascending=[False, True]).drop_duplicates("footprint")
    assigned = largest.set_index("footprint")["region"].reindex(footprints.index)
    outside = assigned.isna()
    if outside.any():
        _log.warning("%d footprints lie in no region: %s", outside.sum(), list(assigned.index[outside])[:10])
    return assigned.fillna(NO_REGION).rename("region")


def _flat(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Project to the equal-area CRS and repair geometries."""
    projected = table.to_crs(EQUAL_AREA)
    return projected.set_geometry(projected.geometry.make_valid())
