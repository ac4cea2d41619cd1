"""Sentinel-2 scenes for the footprints of Planet's images: asked for once, scored, and the best one chosen.

What a catalog answered is kept, a file a footprint; scores are computed from it whenever they are wanted, so limits can
be changed without asking again. The score is (cloud % / 5)^2 + ((100 - overlap %) / 5)^2 + (days / 2)^2, lowest wins.
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
"""Called with footprints done and footprints in all."""

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
    """Scores of all scenes around each footprint.

    Args:
        footprints: `image_id` (Planet's: it tells the time) and `geometry`, any CRS; all of an archive, or some.
        catalog: of scenes; asked for footprints that the cache does not know.
        cache: where answers and scores are kept, for each image by itself.
        parameters: limits.
        catalog_name: part of what the cache goes by: another catalog has other scenes.
        refresh: ask again.
        progress: told after each footprint.

    Returns:
        A row for each scene that the catalog has around an image: `COLUMNS`, best first for each image. `verdict` is
        `accepted`, or why the scene may not be taken; `best` marks one accepted scene of an image. Images without any
        scene have no row: see `unmatched`.

    Raises:
        TrainingError: if an image's id is not Planet's.
        SceneError, SettingsError, SourceUnavailableError: from the catalog; answers before that are kept.
    """
    parameters = parameters or MatchParameters()
    shapes = footprints.to_crs("EPSG:4326").geometry
    tables = []
    for done, (image, shape) in enumerate(zip(footprints["image_id"], shapes, strict=True), 1):
        time = image_time(image)
        asked = {
            "catalog": catalog_name, "days": parameters.days, "max_cloud_cover": parameters.max_cloud_cover,
            "footprint": hashlib.sha256(shapely.to_wkb(shape)).hexdigest(),
        }  # fmt: skip
        found = None if refresh else _kept(cache, image, asked)
        if found is None:
            found = [_facts(item) for item in catalog.search(_selection(shape, time, parameters))]
            obstore.put(cache.objects(), f"{image}.json", json.dumps({"asked": asked, "found": found}).encode())
        tables.append(score(image, shape, time, found, parameters))
        obstore.put(cache.objects(), f"{image}.parquet", _parquet(tables[-1]))
        if progress:
            progress(done, len(footprints))
    return _together(tables)


def read_scores(cache: StoreLocation) -> pd.DataFrame:
    """What `match` said last of each image that it was asked about, as one table by image; `COLUMNS`."""
    names = sorted(key for key in cache.keys() if key.endswith(".parquet"))  # noqa: SIM118 - not a mapping
    return _together([pd.read_parquet(BytesIO(bytes(obstore.get(cache.objects(), name).bytes()))) for name in names])


def score(
    image: str, shape: BaseGeometry, time: dt.datetime, scenes: Iterable[Mapping[str, Any]], limits: MatchParameters
) -> pd.DataFrame:
    """Scores of scenes for one image, best first; `COLUMNS`.

    Args:
        image: its id.
        shape: its footprint, EPSG:4326.
        time: when it was taken.
        scenes: `id`, `datetime` (ISO 8601), `cloud_cover` (percent, None where unknown) and `geometry` (GeoJSON).
        limits: which may be taken.
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
    # Of equal scores the first id, so that a second run chooses as the first one did.
    refused = (table["verdict"] != "accepted").rename("refused")
    table = table.assign(refused=refused).sort_values(["refused", "score", "scene_id"], ignore_index=True)
    table["best"] = (table.index == 0) & ~table["refused"].astype(bool)
    return table.drop(columns="refused")


def best_matches(scores: pd.DataFrame) -> dict[str, str]:
    """Image id -> scene id, for images that have a match."""
    best = scores[scores["best"].astype(bool)]
    return dict(zip(best["image_id"], best["scene_id"], strict=True))


def unmatched(footprints: gpd.GeoDataFrame, scores: pd.DataFrame) -> list[str]:
    """Images without a scene that may be taken."""
    return sorted(set(footprints["image_id"]) - set(best_matches(scores)))


def image_time(image: str) -> dt.datetime:
    """When an image was taken, UTC; noon where its id tells the day only (its column has days that there are not).

    Raises:
        TrainingError: if the id is not Planet's.
    """
    found = image_id(image)
    if found is None or found.id != image:
        raise TrainingError(
            f"image {image!r} has no id of Planet's, which tells when it was taken; expected {EXPECTED}"
        )
    return found.time if found.cell is None else found.time + _DAY / 2


def _together(tables: list[pd.DataFrame]) -> pd.DataFrame:
    kept = [table for table in tables if len(table)]
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=list(COLUMNS))


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _selection(shape: BaseGeometry, time: dt.datetime, limits: MatchParameters) -> Selection:
    reach = limits.days * _DAY
    covers = SceneFilter(
        max_cloud_cover=limits.max_cloud_cover, max_snow_cover=_ANY,
        start=(time - reach).date(), end=(time + reach).date(),
    )  # fmt: skip
    # Footprints that span the globe, because they cross the antimeridian uncut, are repaired first.
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


def _kept(cache: StoreLocation, image: str, asked: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """What the catalog answered when it was asked the same; None if it was not, or the file is damaged."""
    try:
        kept = json.loads(bytes(obstore.get(cache.objects(), f"{image}.json").bytes()))
        return list(kept["found"]) if kept["asked"] == asked else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        _log.warning("%s/%s.json is damaged (%s); the catalog is asked again", cache, image, error)
        return None


def _overlap(image: BaseGeometry, scene: BaseGeometry | None) -> float:
    """Share of an image's footprint that a scene covers."""
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
