"""Match Sentinel-2 scenes to the footprints of Planet images.

The search results of each footprint are cached, and scores are computed from the cache. The score of a scene is
(cloud % / 5)^2 + ((100 - overlap %) / 5)^2 + (days / 2)^2; the lowest score is best.
"""

import datetime as dt
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import Any

import geopandas as gpd
import numpy as np
import obstore
import pandas as pd
import pyproj
import shapely
from pystac.utils import str_to_datetime
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from darts_assets.errors import TrainingError
from darts_assets.geo.antimeridian import footprint, lonlat_area
from darts_assets.sources.planet.names import EXPECTED, image_id
from darts_assets.sources.stac.acquisitions import sensing_time
from darts_assets.sources.stac.scene_selection import SceneCatalog, SceneFilter, Selection
from darts_assets.stores.location import StoreLocation
from darts_assets.training.regions import EQUAL_AREA
from darts_assets.training.sample_parameters import MatchParameters

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of finished footprints and the total."""

_DAY = dt.timedelta(days=1)
_ANY = 100.0
COLUMNS = ("image_id", "scene_id", "datetime", "cloud_cover", "overlap", "days", "score", "verdict", "best")


def match(
    footprints: gpd.GeoDataFrame,
    catalog: SceneCatalog,
    cache: StoreLocation,
    parameters: MatchParameters | None = None,
    *,
    catalog_name: str,
    refresh: bool = False,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Score all scenes that cover a footprint within the limits.

    Args:
        footprints: `image_id` (Planet id, which contains the acquisition time) and `geometry`, any CRS.
        catalog: scene catalog; searched for footprints that are not in the cache.
        cache: folder of search results and scores, one file each per image.
        parameters: limits.
        catalog_name: name of the catalog, part of the cache key.
        refresh: ignore the cache.
        progress: called after each footprint.

    Returns:
        One row per image and scene with `COLUMNS`, best first for each image. `verdict` is `accepted` or the reason of
        a rejection; `best` marks one accepted scene per image. Images without scenes have no row: see `unmatched`.

    Raises:
        TrainingError: if an image id is not a Planet id.
        SceneError, SettingsError, SourceUnavailableError: from the catalog; earlier results stay in the cache.
    """
    parameters = parameters or MatchParameters()
    shapes = footprints.to_crs("EPSG:4326").geometry
    tables = []
    for done, (image, shape) in enumerate(zip(footprints["image_id"], shapes, strict=True), 1):
        time = image_time(image)
        query = {
            "catalog": catalog_name, "days": parameters.days, "max_cloud_cover": parameters.max_cloud_cover,
            "footprint": hashlib.sha256(shapely.to_wkb(shape)).hexdigest(),
        }  # fmt: skip
        scenes = None if refresh else _cached(cache, image, query)
        if scenes is None:
            scenes = [_facts(item) for item in catalog.search(_selection(shape, time, parameters))]
            obstore.put(cache.objects(), f"{image}.json", json.dumps({"asked": query, "found": scenes}).encode())
        tables.append(score(image, shape, time, scenes, parameters))
        obstore.put(cache.objects(), f"{image}.parquet", _parquet(tables[-1]))
        if progress:
            progress(done, len(footprints))
    return _together(tables)


def read_scores(cache: StoreLocation) -> pd.DataFrame:
    """Scores of all images in the cache, as one table with `COLUMNS`."""
    names = sorted(key for key in cache.keys() if key.endswith(".parquet"))  # noqa: SIM118 - not a mapping
    return _together([pd.read_parquet(BytesIO(bytes(obstore.get(cache.objects(), name).bytes()))) for name in names])


def score(
    image: str, shape: BaseGeometry, time: dt.datetime, scenes: Iterable[Mapping[str, Any]], limits: MatchParameters
) -> pd.DataFrame:
    """Scores of scenes for one image, best first; `COLUMNS`.

    Args:
        image: image id.
        shape: footprint of the image, EPSG:4326.
        time: acquisition time of the image.
        scenes: `id`, `datetime` (ISO 8601), `cloud_cover` (percent, None if unknown) and `geometry` (GeoJSON).
        limits: limits of accepted scenes.
    """
    rows = []
    for scene in scenes:
        days = abs(str_to_datetime(scene["datetime"]) - time) / _DAY
        cloud = np.nan if scene["cloud_cover"] is None else float(scene["cloud_cover"])
        overlap = _overlap(shape, footprint(scene["geometry"]))
        value = (cloud / 5) ** 2 + (100 * (1 - overlap) / 5) ** 2 + (days / 2) ** 2
        verdict = _verdict(days, cloud, overlap, limits)
        rows.append((image, scene["id"], scene["datetime"], cloud, overlap, days, value, verdict, False))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    # Equal scores are sorted by scene id, so that the result is reproducible.
    refused = (table["verdict"] != "accepted").rename("refused")
    table = table.assign(refused=refused).sort_values(["refused", "score", "scene_id"], ignore_index=True)
    table["best"] = (table.index == 0) & ~table["refused"].astype(bool)
    return table.drop(columns="refused")


def best_matches(scores: pd.DataFrame) -> dict[str, str]:
    """Scene id by image id, for matched images."""
    best = scores[scores["best"].astype(bool)]
    return dict(zip(best["image_id"], best["scene_id"], strict=True))


def unmatched(footprints: gpd.GeoDataFrame, scores: pd.DataFrame) -> list[str]:
    """Ids of images without an accepted scene."""
    return sorted(set(footprints["image_id"]) - set(best_matches(scores)))


def image_time(image: str) -> dt.datetime:
    """Acquisition time of an image, UTC; noon if its id contains only the date.

    Raises:
        TrainingError: if the id is not a Planet id.
    """
    parsed = image_id(image)
    if parsed is None or parsed.id != image:
        raise TrainingError(
            f"image {image!r}: not a Planet image id, which contains the acquisition time; expected {EXPECTED}"
        )
    return parsed.time if parsed.cell is None else parsed.time + _DAY / 2


def _together(tables: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=list(COLUMNS))


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _selection(shape: BaseGeometry, time: dt.datetime, limits: MatchParameters) -> Selection:
    margin = limits.days * _DAY
    covers = SceneFilter(
        max_cloud_cover=limits.max_cloud_cover, max_snow_cover=_ANY,
        start=(time - margin).date(), end=(time + margin).date(),
    )  # fmt: skip
    # An uncut footprint across the antimeridian would span the globe: repair it first.
    whole = footprint(mapping(shape)) or shape
    return Selection(area=lonlat_area(whole, pyproj.CRS.from_epsg(4326)), filter=covers)


def _facts(item: Mapping[str, Any]) -> dict[str, Any]:
    cloud = item["properties"].get("eo:cloud_cover")
    return {
        "id": item["id"],
        "datetime": sensing_time(item).isoformat(),
        "cloud_cover": float(cloud) if isinstance(cloud, int | float) else None,
        "geometry": item.get("geometry"),
    }


def _cached(cache: StoreLocation, image: str, query: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Cached search result of the same query; None if there is none or the file is damaged."""
    try:
        entry = json.loads(bytes(obstore.get(cache.objects(), f"{image}.json").bytes()))
        return list(entry["found"]) if entry["asked"] == query else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        _log.warning("%s/%s.json is damaged (%s); searching the catalog again", cache, image, error)
        return None


def _overlap(image: BaseGeometry, scene: BaseGeometry | None) -> float:
    """Fraction of the footprint of an image that a scene covers."""
    if scene is None:
        return 0.0
    both = gpd.GeoSeries([image, scene], crs="EPSG:4326").to_crs(EQUAL_AREA).make_valid()
    return float(both.iloc[0].intersection(both.iloc[1]).area / both.iloc[0].area)


def _verdict(days: float, cloud: float, overlap: float, limits: MatchParameters) -> str:
    if days > limits.days:
        return "too long ago or after"
    if not cloud <= limits.max_cloud_cover:
        return "clouds unknown" if np.isnan(cloud) else "too many clouds"
    return "accepted" if overlap >= limits.min_overlap else "too little overlap"
