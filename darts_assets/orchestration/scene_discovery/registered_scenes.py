"""Search among registered scenes, without a catalog."""

import datetime as dt
import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.discovery import DiscoveredScenes, stored_item
from darts_assets.orchestration.scene_discovery.selection import SceneChoice, read_area

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from darts_assets.scene import Scene
    from darts_assets.sources.stac.scene_selection import SceneFilter

_THREADS = 16
_BATCH = 256


def find_registered(config: SceneChoice, *, instance: dg.DagsterInstance, scenes: SceneRegistry) -> DiscoveredScenes:
    """The registered Sentinel-2 scenes of tiles or of an area that match the filters, by their stored items.

    Raises:
        SettingsError: if a filter is invalid, or the area cannot be read.
        SceneError: if a tile is malformed.
    """
    from darts_assets.sources.stac.scene_ids import tile_ids

    config.check()
    result = DiscoveredScenes(searched=["registered scenes"])
    tiles = set(tile_ids(config.tiles))
    result.area = None if tiles else read_area(config.aoi, scenes.access.options, config.aoi_layer)
    source, chosen = SENTINEL2.load_source(), config.as_filter()
    keys = iter(instance.get_dynamic_partitions(str(SENTINEL2.partitions.name)))
    matches = []
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="items") as pool:
        while batch := list(itertools.islice(keys, _BATCH)):
            for item in pool.map(partial(stored_item, SENTINEL2, scenes), batch):
                scene = source.parse(item) if item is not None else None
                if scene is None or not _is_in_place(scene, tiles, result.area) or not _passes(scene, chosen):
                    continue
                if config.source in ("auto", scene.source):
                    matches.append(scene)
    matches.sort(key=lambda scene: (scene.tile or "", scene.datetime, scene.id))
    for scene in matches:
        result.add(scene, is_new=False)
    result.registered.scene_ids = [scene.id for scene in matches]
    return result


def _is_in_place(scene: "Scene", tiles: set[str], area: "BaseGeometry | None") -> bool:
    from darts_assets.geo.antimeridian import footprint

    if area is None:
        return scene.tile in tiles
    shape = footprint(scene.geometry)
    return shape is not None and bool(shape.intersects(area))


def _passes(scene: "Scene", chosen: "SceneFilter") -> bool:
    intervals = chosen.intervals(dt.datetime.now(dt.UTC).date())
    in_time = not intervals or any(
        (start is None or scene.datetime >= start) and (end is None or scene.datetime < end) for start, end in intervals
    )
    covers = {"cloud": scene.cloud_cover, "snow": scene.snow_cover}
    is_clear = all(
        (cover := covers[name]) is not None and cover <= limit for name, limit in chosen.covers("cloud", "snow")
    )
    return in_time and is_clear and chosen.baseline in (None, scene.processing_baseline)
