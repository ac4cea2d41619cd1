"""What the products of a scene say of themselves, read once where they are at hand: catalogs need not open them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyarrow.parquet as pq
import pyogrio
import rasterio
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS
from shapely.geometry import mapping

from darts_assets.geo.antimeridian import lonlat_area

_DIGITS = 1e-6  # degrees: a tenth of a metre


def describe(folder: Path, geobox: GeoBox, vectors: Mapping[str, gpd.GeoDataFrame]) -> dict[str, Any]:
    """JSON facts about exported products.

    Args:
        folder: what `export` has written into.
        geobox: grid of the rasters.
        vectors: tables `segments` and `extent`.

    Returns:
        `grid`: `crs` (`EPSG:...`), `shape` (rows, columns) and affine `transform` (6 numbers, row by row);
        `footprint`: GeoJSON of what was looked at, see `footprint`;
        `summary`: `objects`, their `area_ha`, and `extent_km2` that was looked at;
        `files`: for each file its `bytes`, and of a raster the `bands`, of a table the `rows`, of GeoParquet also the
        `columns`, of a GeoPackage the `layer`.
    """
    objects, extent = vectors["segments"], vectors["extent"]
    return {
        "grid": {
            "crs": f"EPSG:{CRS(str(geobox.crs)).to_epsg()}",
            "shape": [int(side) for side in geobox.shape],
            "transform": [float(number) for number in tuple(geobox.affine)[:6]],
        },
        "footprint": footprint(extent, geobox),
        "summary": {
            "objects": len(objects),
            "area_ha": round(float(objects.area.sum()) / 1e4, 3),
            "extent_km2": round(float(extent.area.sum()) / 1e6, 3),
        },
        "files": {path.name: _file(path) for path in sorted(folder.iterdir()) if path.is_file()},
    }


def footprint(extent: gpd.GeoDataFrame, geobox: GeoBox) -> dict[str, Any]:
    """The convex hull of the valid area (of the grid, if that is empty) in EPSG:4326, cut at the antimeridian.

    The valid area itself has a hole for each cloud and a corner for each of its pixels.

    Returns:
        A GeoJSON Polygon or MultiPolygon, its outer rings counterclockwise, rounded to a tenth of a metre.
    """
    seen = shapely.geometrycollections(extent.geometry.to_numpy()) if len(extent) else geobox.extent.geom
    parts = lonlat_area(shapely.convex_hull(seen), CRS(str(geobox.crs)))
    rounded = shapely.orient_polygons(shapely.set_precision(parts, _DIGITS))
    pieces = shapely.get_parts(rounded)
    return dict(mapping(pieces[0] if len(pieces) == 1 else rounded))


def _file(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"bytes": path.stat().st_size}
    if path.suffix == ".tif":
        return facts | {"bands": _bands(path)}
    if path.suffix == ".gpkg":
        info = pyogrio.read_info(path)
        return facts | {"layer": info["layer_name"], "rows": int(info["features"])}
    if path.suffix == ".parquet":
        table = pq.ParquetFile(path)
        columns = [{"name": field.name, "type": str(field.type)} for field in table.schema_arrow]
        return facts | {"rows": table.metadata.num_rows, "columns": columns}
    return facts


def _bands(path: Path) -> list[dict[str, Any]]:
    with rasterio.open(path) as raster:
        described = zip(
            raster.descriptions,
            raster.dtypes,
            raster.nodatavals,
            raster.scales,
            raster.offsets,
            raster.units,
            strict=True,
        )
        return [
            {
                "name": name,
                "data_type": dtype,
                **({} if nodata is None else {"nodata": int(nodata)}),
                "scale": scale,
                "offset": offset,
                **({"unit": unit} if unit else {}),
            }
            for name, dtype, nodata, scale, offset, unit in described
        ]
