"""In which administrative region (ADM2 of geoBoundaries) an image lies; models are tried where they did not learn."""

import logging
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyogrio
from pyogrio.errors import DataSourceError
from pyproj import CRS

from darts_assets.errors import TrainingError

_log = logging.getLogger(__name__)

NO_REGION = "none"
"""Of an image that no region overlaps: on the sea, or where the table ends."""

EQUAL_AREA = "EPSG:6931"
"""EASE-Grid 2.0 North: areas are true everywhere, and there is no antimeridian."""

_STEP = 0.1  # degrees


def read_regions(path: str | Path, around: gpd.GeoDataFrame, name: str = "shapeName") -> gpd.GeoDataFrame:
    """Regions of the latitudes of some footprints: `region` and valid `geometry`, in an equal-area CRS.

    Args:
        path: any vector file, such as geoBoundaries' `geoBoundariesCGAZ_ADM2`.
        around: footprints; the world's other regions are not read.
        name: column of the regions' names.

    Raises:
        TrainingError: if the file cannot be read, or has no such column or no CRS.
    """
    _, south, _, north = around.to_crs("EPSG:4326").total_bounds
    try:
        given = pyogrio.read_info(path)["crs"]
        band = (-180, south, 180, north) if given and CRS(given).is_geographic else None
        regions = gpd.read_file(path, bbox=band)
    except (DataSourceError, OSError, ValueError) as error:
        raise TrainingError(f"{path}: regions cannot be read: {error}") from error
    if name not in regions:
        raise TrainingError(f"{path}: no column {name!r}; it has {', '.join(map(str, regions.columns))}")
    if regions.crs is None:
        raise TrainingError(f"{path}: has no CRS")
    named = regions[[name, "geometry"]].rename(columns={name: "region"})
    if regions.crs.is_geographic:
        # Borders along parallels, of which the Arctic has long ones, are arcs in the equal-area CRS.
        named = named.set_geometry(named.geometry.segmentize(_STEP))
    return _flat(named[named["region"].notna()])


def regions_of(footprints: gpd.GeoDataFrame, regions: gpd.GeoDataFrame) -> "pd.Series[str]":
    """For each footprint the region that covers most of it, on the footprints' index; `NO_REGION` where none does.

    Equal shares, which no real footprint has, go to the first name. Parts of a region that are several rows are one.

    Args:
        footprints: with any index without repetitions, in any CRS.
        regions: as `read_regions` gives them.
    """
    flat = _flat(footprints[["geometry"]].rename_axis("footprint").reset_index())
    parts = flat.overlay(_flat(regions), how="intersection", keep_geom_type=True)
    shares = parts.assign(area=parts.area).groupby(["footprint", "region"])["area"].sum().reset_index()
    largest = shares.sort_values(["area", "region"], ascending=[False, True]).drop_duplicates("footprint")
    found = largest.set_index("footprint")["region"].reindex(footprints.index)
    if found.isna().any():
        _log.warning("%d footprints lie in no region: %s", found.isna().sum(), list(found.index[found.isna()])[:10])
    return found.fillna(NO_REGION).rename("region")


def _flat(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """In the equal-area CRS, with valid geometries."""
    projected = table.to_crs(EQUAL_AREA)
    return projected.set_geometry(projected.geometry.make_valid())
