"""Random points in strata, the same for the same strata and seed."""

import hashlib
import zlib

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from darts_assets.area_estimation.area_sample_parameters import SampleParameters
from darts_assets.area_estimation.sample_design import expected_error, planned_points

POINT_COLUMNS = {
    "sample_id": "str",
    "year": "int64",
    "lon": "float64",
    "lat": "float64",
    "stratum": "str",
    "region": "str",
    "map_class": "str",
}

_DEGREE_DIGITS = 7
_LEAST_BATCH = 64
_MOST_BATCH = 1 << 20


def draw_sample(
    strata: gpd.GeoDataFrame, year: int, parameters: SampleParameters
) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    """The points of a sample.

    Points are uniform in each stratum and independent of each other and of other strata. Their numbers follow a random
    order in which the strata are mixed: a reviewer learns nothing from them, and a review that ends early has seen a
    random sample of each stratum.

    Args:
        strata: result of `strata_of`.
        year: of the inventory.
        parameters: size and seed.

    Returns:
        Points: `POINT_COLUMNS` and `geometry` in the CRS of the strata, by `sample_id`; these are
        `area-YEAR-SAMPLE-DIGEST-NUMBER`, where the digest identifies the sample in all stores. And the strata with
        `weight` (share of the total area) and `points`.

    Raises:
        SettingsError: as `planned_points`.
    """
    weights = strata["area_ha"].to_numpy() / strata["area_ha"].sum()
    numbers = planned_points(weights, strata["expected_share"].to_numpy(), parameters)
    names = strata["stratum"].tolist()
    drawn = [
        _in_polygons(shape, int(count), np.random.default_rng([parameters.seed, zlib.crc32(name.encode())]))
        for shape, count, name in zip(strata.geometry, numbers, names, strict=True)
    ]
    rows = np.repeat(np.arange(len(strata)), numbers)
    order = np.random.default_rng(parameters.seed).permutation(len(rows))
    rows, places = rows[order], np.concatenate(drawn)[order]
    digest = hashlib.sha256(places.tobytes() + repr((year, parameters.sample, parameters.seed)).encode()).hexdigest()[
        :6
    ]
    degrees = gpd.GeoSeries(shapely.points(places), crs=strata.crs).to_crs("EPSG:4326")
    digits = max(4, len(str(len(rows))))
    table = pd.DataFrame(
        {
            "sample_id": [
                f"area-{year}-{parameters.sample}-{digest}-{number:0{digits}d}" for number in range(1, len(rows) + 1)
            ],
            "year": year,
            "lon": degrees.x.round(_DEGREE_DIGITS),
            "lat": degrees.y.round(_DEGREE_DIGITS),
            **{name: strata[name].to_numpy()[rows] for name in ("stratum", "region", "map_class")},
        }
    ).astype(POINT_COLUMNS)
    points = gpd.GeoDataFrame(table, geometry=shapely.points(places), crs=strata.crs)
    return points, strata.assign(weight=weights, points=numbers)


def expected_relative_error(strata: gpd.GeoDataFrame) -> float:
    """Expected standard error of the area, as a fraction of it, from the conjectured shares of slumps.

    Args:
        strata: of `draw_sample`.
    """
    return expected_error(strata["weight"].to_numpy(), strata["expected_share"].to_numpy(), strata["points"].to_numpy())


def _in_polygons(shape: BaseGeometry, count: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Uniform points in a geometry, (count, 2): a part by its area, then points in its box until one is inside."""
    parts = shapely.get_parts(shape)
    areas = shapely.area(parts)
    result = np.empty((count, 2))
    of_part = random.choice(len(parts), size=count, p=areas / areas.sum())
    for number in np.unique(of_part):
        part, rows = parts[number], np.flatnonzero(of_part == number)
        shapely.prepare(part)
        west, south, east, north = shapely.bounds(part)
        filled = 0
        hit_rate = areas[number] / ((east - west) * (north - south))
        while filled < len(rows):
            batch = int(np.clip((len(rows) - filled) / hit_rate * 1.2, _LEAST_BATCH, _MOST_BATCH))
            tried = random.uniform((west, south), (east, north), size=(batch, 2))
            inside = tried[shapely.contains_xy(part, tried[:, 0], tried[:, 1])][: len(rows) - filled]
            result[rows[filled : filled + len(inside)]] = inside
            filled += len(inside)
    return result
