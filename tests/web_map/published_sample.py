"""A sample of points in a store, as `area_estimation/sample` publishes it, around generated slumps."""

import geopandas as gpd
import pandas as pd
import shapely
from pyproj import Transformer

from darts_assets.area_estimation.area_sample_parameters import SampleParameters
from darts_assets.area_estimation.area_sample_store import write_sample
from darts_assets.area_estimation.sample_points import draw_sample
from darts_assets.area_estimation.strata import strata_of
from darts_assets.detection.chips import DrawnChip
from darts_assets.orchestration.inventory.point_pictures import PICTURE_COLUMNS, Pictures
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from tests.web_map.arctic_inventory import EQUAL_AREA, REGIONS, chip, scene_id

WITHOUT_TILE = 6
"""Position of the point whose scene has no tile."""


def publish_sample(root: StoreLocation, sites: gpd.GeoDataFrame, year: int, points: int) -> gpd.GeoDataFrame:
    """Publish a sample around the first region; returns its points by id."""
    x, y = Transformer.from_crs(4326, EQUAL_AREA, always_xy=True).transform(*REGIONS[0])
    observed = shapely.box(x - 2e5, y - 2e5, x + 2e5, y + 2e5)
    parameters = SampleParameters(points=points, min_points=2, by_region=False)
    table, strata = draw_sample(strata_of(observed, sites[sites["year"] == year], parameters), year, parameters)
    table = table.sort_values("sample_id", ignore_index=True)
    views = pd.DataFrame(
        {
            "sample_id": table["sample_id"],
            "scene": scene_id(0, year, 3),
            "family": "sentinel2",
            "datetime": pd.Timestamp(f"{year}-07-04", tz="UTC"),
            "clear_share": 1.0,
        }
    )
    picture = DrawnChip(0, chip(0.9, year), 600.0)
    images = {name: picture for number, name in enumerate(table["sample_id"]) if number != WITHOUT_TILE}
    assert list(views) == list(PICTURE_COLUMNS)[:5]
    facts = {"provenance": {"data_version": "1"}, "inventory_version": "of-the-sample", "year": year}
    place = Place(root.child("area_estimation", "sample", str(year), parameters.sample))
    write_sample(place, table, strata, facts, Pictures(views, images).write)
    return table
