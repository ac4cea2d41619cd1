"""Thousands of synthetic STAC items of Sentinel-2, and the table of their true properties.

Made of real MGRS tiles by a seeded generator: several processings of the same acquisition, datastrips that end inside a
tile, footprints that cross the antimeridian (cut there, or spanning the globe instead), and footprints that cross
themselves.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely.affinity import translate

Item = dict[str, Any]

_FIRST = dt.datetime(2017, 1, 1, tzinfo=dt.UTC)
_DAYS = 8 * 365
_BASELINES = ("02.14", "03.01", "04.00", "05.00", "05.09", "05.10", "05.11")
_SNOW = {"cdse": "eo:snow_cover", "earth_search": "s2:snow_ice_percentage"}


@dataclass(frozen=True)
class SceneArchive:
    """Items, and the table of their true properties.

    Attributes:
        items: as CDSE gives them.
        truth: a row for each item: id, tile, time, cloud, snow, baseline, made, datastrip, acquisition, published,
            and the true footprint, cut at the antimeridian.
    """

    items: list[Item]
    truth: gpd.GeoDataFrame

    def of_earth_search(self) -> tuple[list[Item], gpd.GeoDataFrame]:
        """The same as Earth Search gives them: other ids and properties, zones below 10 without the zero."""
        order = self.truth.sort_values(["published", "id"]).groupby(["satellite", "tile", self.truth.time.dt.date])
        number = order.cumcount().reindex(self.truth.index)
        truth = self.truth.assign(
            id=[
                f"{row.satellite}_{row.tile}_{row.time:%Y%m%d}_{number[index]}_L2A"
                for index, row in self.truth.iterrows()
            ]
        )
        items = []
        for new_id, item in zip(truth.id, self.items, strict=True):
            properties = dict(item["properties"])
            for new, old in (
                ("s2:snow_ice_percentage", "eo:snow_cover"), ("s2:processing_baseline", "processing:version"),
                ("created", "published"), ("s2:datastrip_id", "eopf:datastrip_id"),
            ):  # fmt: skip
                properties[new] = properties.pop(old, None)
            properties["grid:code"] = properties["grid:code"].replace("MGRS-0", "MGRS-")
            properties["s2:product_uri"] = f"{item['id']}.SAFE"
            items.append({**item, "id": new_id, "properties": {k: v for k, v in properties.items() if v is not None}})
        return items, truth


def newest(truth: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Of each acquisition the newest baseline, and of that the latest product of each datastrip."""
    best = truth[truth.baseline == truth.groupby("acquisition").baseline.transform("max")]
    return best[best.made == best.groupby(["acquisition", "datastrip"]).made.transform("max")]


def make_archive(shared: Path, count: int, seed: int = 4) -> SceneArchive:
    """An archive of `count` items over 160 tiles of the Arctic, twelve of them across the antimeridian."""
    random = np.random.default_rng(seed)
    grid = gpd.read_parquet(shared / "data/s2_grid/sentinel-2-grid_LAND.parquet").set_index("tile").geometry
    north = grid[grid.bounds.miny > 60]
    crossing = north[north.geom_type == "MultiPolygon"].index[:12]
    others = random.choice(sorted(set(north.index) - set(crossing)), 148, replace=False)
    tiles = np.array([*crossing, *others])
    items: list[Item] = []
    rows: list[dict[str, Any]] = []
    while len(items) < count:
        tile = str(random.choice(tiles))
        day = dt.timedelta(days=int(random.integers(_DAYS)))
        sensed = (_FIRST + day).replace(
            hour=int(random.integers(24)), minute=int(random.integers(60)), second=int(random.integers(60))
        ) + dt.timedelta(milliseconds=24)
        if random.random() < 0.02:  # the very first and the very last scene of a month
            sensed = sensed.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            sensed -= dt.timedelta(milliseconds=int(random.integers(2)))
        covers = random.beta(0.4, 0.6, 2).round(4) * 100
        shape = _footprint(grid[tile], random)
        satellite, orbit = f"S2{random.choice(list('ABC'))}", int(random.integers(1, 144))
        for baseline, start, made in _processings(sensed, random):
            rows.append({
                "satellite": satellite, "sensed": sensed, "orbit": orbit, "tile": tile, "time": sensed,
                "cloud": float(covers[0]), "snow": float(covers[1]) if random.random() > 0.02 else np.nan,
                "baseline": baseline,
                "datastrip": f"{start:%Y%m%dT%H%M%S}", "made": f"{made:%Y%m%dT%H%M%S}",
                "published": made + dt.timedelta(hours=float(random.exponential(30)) + 1),
                "acquisition": f"{satellite} {sensed:%Y%m%dT%H%M%S} {orbit} {tile}", "geometry": shape,
            })  # fmt: skip
            items.append(_item(rows[-1], random))
    truth = gpd.GeoDataFrame(rows[:count], geometry="geometry", crs="EPSG:4326")
    truth["time"], truth["published"] = pd.to_datetime(truth["time"]), pd.to_datetime(truth["published"])
    truth.insert(0, "id", [item["id"] for item in items[:count]])
    assert truth.id.is_unique
    return SceneArchive(items[:count], truth)


def _processings(sensed: dt.datetime, random: np.random.Generator) -> list[tuple[str, dt.datetime, dt.datetime]]:
    """Baseline, start of the datastrip, and product time of the products of one acquisition."""
    first = int(random.integers(len(_BASELINES)))
    start = sensed - dt.timedelta(seconds=int(random.integers(2, 9)))
    made = sensed + dt.timedelta(hours=3)
    found = [(_BASELINES[first], start, made)]
    if random.random() < 0.05:  # the rest of the tile is in the next datastrip
        found.append((_BASELINES[first], start + dt.timedelta(minutes=4), made + dt.timedelta(minutes=20)))
    for later in _BASELINES[first + 1 :]:
        if random.random() < 0.2:  # another processing has another datastrip start
            made += dt.timedelta(days=int(random.integers(100, 900)))
            found.append((later, start + dt.timedelta(seconds=int(random.integers(3))), made))
    if random.random() < 0.05:
        found.append((found[-1][0], found[-1][1], made + dt.timedelta(days=2)))
    return found


def _footprint(tile: shapely.Geometry, random: np.random.Generator) -> shapely.Geometry:
    """All of a tile, or what one side of the edge of a swath leaves of it."""
    if random.random() < 0.5:
        return tile
    parts = _continued(tile)
    west, south, east, north = shapely.union_all(parts).bounds
    x = west + (east - west) * random.uniform(0.2, 0.8)
    side = shapely.Polygon([(west - 1, south - 1), (x, south - 1), (x + 0.1, north + 1), (west - 1, north + 1)])
    kept = [part & side for part in parts]
    return shapely.union_all([translate(p, -360 * (p.bounds[2] > 180)) for p in kept if not p.is_empty])


def _continued(shape: shapely.Geometry) -> list[shapely.Geometry]:
    """The parts of a footprint, side by side."""
    parts = shapely.get_parts(shape)
    return [translate(part, 360 * (part.bounds[0] < 0)) for part in parts] if len(parts) > 1 else list(parts)


def _item(row: dict[str, Any], random: np.random.Generator) -> Item:
    name = (
        f"{row['satellite']}_MSIL2A_{row['sensed']:%Y%m%dT%H%M%S}_N{row['baseline'].replace('.', '')}"
        f"_R{row['orbit']:03d}_T{row['tile']}_{row['made']}"
    )
    time = f"{row['time']:%Y-%m-%dT%H:%M:%S.%f}Z"
    properties = {
        "datetime": time, "start_datetime": time, "end_datetime": time, "platform": f"sentinel-{row['satellite'][1:]}",
        "eo:cloud_cover": row["cloud"], "eo:snow_cover": None if np.isnan(row["snow"]) else row["snow"],
        "grid:code": f"MGRS-{row['tile']}", "processing:version": row["baseline"],
        "published": f"{row['published']:%Y-%m-%dT%H:%M:%S.%f}Z",
        "eopf:datastrip_id": f"{row['satellite']}_OPER_MSI_L2A_DS_2BPS_{row['made']}_S{row['datastrip']}_N"
        + row["baseline"],
    }  # fmt: skip
    shape = row["geometry"]
    across = len(shapely.get_parts(shape)) > 1
    footprint = _as_published(shape, random)
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "links": [], "stac_extensions": [],
        "properties": {key: value for key, value in properties.items() if value is not None},
        "geometry": shapely.geometry.mapping(footprint),
        "bbox": [-180.0, shape.bounds[1], 180.0, shape.bounds[3]] if across else list(shape.bounds),
        "assets": {
            f"B0{n}_10m": {"href": f"s3://eodata/{name}/B0{n}.jp2", "proj:code": f"EPSG:326{row['tile'][:2]}"}
            for n in (2, 3, 4, 8)
        },
    }  # fmt: skip


def _as_published(shape: shapely.Geometry, random: np.random.Generator) -> shapely.Geometry:
    """Most footprints as they are; some that span the globe, and some that cross themselves."""
    parts = shapely.get_parts(shape)
    if len(parts) > 1:
        if random.random() < 0.5:
            return shape
        (ring,) = shapely.get_rings(shapely.union_all(_continued(shape)))
        corners = shapely.get_coordinates(ring)
        corners = corners[corners[:, 0] != 180]  # where it is cut otherwise
        return shapely.Polygon(np.stack([(corners[:, 0] + 180) % 360 - 180, corners[:, 1]], axis=1))
    corners = shapely.get_coordinates(shape)
    if len(corners) == 5 and random.random() < 0.01:
        middle = (corners[0] + corners[2]) / 2  # a bow tie, of which nothing lies outside of the footprint
        return shapely.Polygon([corners[0], corners[1], middle, corners[2], corners[3], middle, corners[0]])
    return shape
