"""Whether two families of scenes measure the same reflectance: values at the same places in the same month."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
import xarray as xr
from pyproj import CRS, Transformer
from shapely.geometry.base import BaseGeometry

from darts_assets.geo.equal_area import EQUAL_AREA
from darts_assets.tiles import geobox_of

BANDS = ("blue", "green", "red", "nir", "ndvi")
QUALITY = "quality_data_mask"

_CLEAR = 2  # of the quality mask
_LEAST_POINTS = 100

AGREEMENT_COLUMNS = {
    "one": "str", "other": "str", "band": "str", "points": "int64", "pairs": "int64", "bias": "float64",
    "one_p10": "float64", "one_median": "float64", "one_p90": "float64",
    "other_p10": "float64", "other_median": "float64", "other_p90": "float64",
}  # fmt: skip


def pairs_of(scenes: gpd.GeoDataFrame, most: int) -> list[tuple[str, str]]:
    """Pairs of scenes of different families, of one month (UTC) and with common ground.

    Args:
        scenes: `scene_id`, `family`, `datetime` and hulls in `EQUAL_AREA`, as in `Inventory.scenes`.
        most: number of pairs at most. They are taken from all months in turn, those with the most common ground first.

    Returns:
        Ids, in each pair by the name of the family.
    """
    by_month: defaultdict[int, list[tuple[float, str, str]]] = defaultdict(list)
    times: Sequence[dt.datetime] = list(scenes["datetime"].dt.to_pydatetime())
    months = np.array([time.year * 12 + time.month for time in times])
    for month in np.unique(months):
        table = scenes[months == month]
        for one, other in combinations(sorted(set(table["family"])), 2):
            first, second = table[table["family"] == one], table[table["family"] == other]
            hulls, others = first.geometry.to_numpy(), second.geometry.to_numpy()
            rows, columns = shapely.STRtree(others).query(hulls, predicate="intersects")
            common = shapely.area(shapely.intersection(hulls[rows], others[columns]))
            ids = first["scene_id"].to_numpy()[rows], second["scene_id"].to_numpy()[columns]
            by_month[int(month)] += [
                (-area, *pair) for area, pair in zip(common.tolist(), zip(*ids, strict=True), strict=True) if area > 0
            ]
    ranked = [sorted(pairs) for _, pairs in sorted(by_month.items())]
    turns = max(map(len, ranked), default=0)
    chosen = [pairs[turn][1:] for turn in range(turns) for pairs in ranked if turn < len(pairs)]
    return [(one, other) for one, other in chosen[:most]]


def common_points(one: BaseGeometry, other: BaseGeometry, count: int) -> npt.NDArray[np.float64]:
    """About `count` places on a regular grid within two hulls: float64 (n, 2), metres in `EQUAL_AREA`."""
    common = one & other
    if common.is_empty:
        return np.empty((0, 2))
    spacing = float(np.sqrt(common.area / count))
    west, south, east, north = common.bounds
    x, y = np.meshgrid(np.arange(west + spacing / 2, east, spacing), np.arange(south + spacing / 2, north, spacing))
    points = np.column_stack([x.ravel(), y.ravel()])
    shapely.prepare(common)
    return points[shapely.contains_xy(common, points[:, 0], points[:, 1])]


def values_at(tile: xr.Dataset, points: npt.NDArray[np.float64]) -> pd.DataFrame:
    """The values of a tile's pixels at some places, NaN where these are not clear.

    Args:
        tile: lazy preprocessed tile with `BANDS` and `quality_data_mask`.
        points: places (n, 2) in `EQUAL_AREA`.

    Returns:
        Columns `BANDS`, float32; one row per place.
    """
    geobox = geobox_of(tile)
    x, y = Transformer.from_crs(CRS(EQUAL_AREA), CRS(str(geobox.crs)), always_xy=True).transform(*points.T)
    column, row = (np.floor(axis).astype(np.int64) for axis in ~geobox.affine @ (np.asarray(x), np.asarray(y)))
    height, width = geobox.shape
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    table = pd.DataFrame(np.nan, index=range(len(points)), columns=list(BANDS), dtype=np.float32)
    if not inside.any():
        return table
    rows, columns = row[inside], column[inside]
    top, left = int(rows.min()), int(columns.min())
    window = tile.isel(y=slice(top, int(rows.max()) + 1), x=slice(left, int(columns.max()) + 1))
    clear = window[QUALITY].values[rows - top, columns - left] >= _CLEAR
    for name in BANDS:
        table.loc[inside, name] = np.where(clear, window[name].values[rows - top, columns - left], np.nan)
    return table


def agreement(samples: Mapping[tuple[str, str], Sequence[tuple[pd.DataFrame, pd.DataFrame]]]) -> pd.DataFrame:
    """Compare the values of families at the same places.

    Args:
        samples: two families -> values of each pair of their scenes, as of `values_at`.

    Returns:
        Columns `AGREEMENT_COLUMNS`, a row for each two families and band with at least 100 places: `bias`, the median
        of the differences (`one` minus `other`), and percentiles of both over the places where both are clear.
    """
    rows = []
    for (one, other), pairs in sorted(samples.items()):
        for band in BANDS:
            both = np.concatenate([np.column_stack([a[band], b[band]]) for a, b in pairs])
            both = both[np.isfinite(both).all(axis=1)]
            if len(both) < _LEAST_POINTS:
                continue
            percentiles = np.percentile(both, (10, 50, 90), axis=0)
            bias = float(np.median(both[:, 0] - both[:, 1]))
            figures = percentiles.T.ravel().tolist()
            rows.append((one, other, band, len(both), len(pairs), bias, *figures))
    return pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS)).astype(AGREEMENT_COLUMNS)
