"""Tables of objects with squares, in metres of the equal-area projection."""

from typing import Any

import geopandas as gpd
import shapely

from darts_assets.geo.equal_area import EQUAL_AREA
from darts_assets.validation.reference_layouts import POSITIVE, dates_of, objects_table

EAST, NORTH = -2_000_000, 500_000


def square(x: float, y: float = 0.0, side: float = 100.0) -> shapely.Polygon:
    """A square by its lower left corner, metres from `EAST, NORTH`."""
    return shapely.box(EAST + x, NORTH + y, EAST + x + side, NORTH + y + side)


def objects(shapes: dict[str, shapely.Geometry], when: Any = 2023, kind: str = POSITIVE) -> gpd.GeoDataFrame:
    """Objects by id, all of one date (as `dates_of` takes it) and kind."""
    polygons = gpd.GeoSeries(list(shapes.values()), crs=EQUAL_AREA)
    return objects_table(shapes, [dates_of(when)] * len(shapes), kind, "test", polygons)


def area(*shapes: shapely.Geometry, when: Any = None, regions: tuple[str, ...] = ()) -> gpd.GeoDataFrame:
    """Areas as `read_areas` returns them."""
    table = objects({str(number): shape for number, shape in enumerate(shapes)}, when)
    return table.rename(columns={"id": "region"}).assign(region=list(regions) or "").drop(columns="kind")
