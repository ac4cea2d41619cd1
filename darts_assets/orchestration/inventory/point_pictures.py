"""Pictures of the points of a sample, drawn from the stored tiles of scenes that observe them."""

import io
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, cast

import geopandas as gpd
import numpy as np
import obstore
import pandas as pd

from darts_assets.area_estimation.area_sample_store import PICTURES, PICTURES_FILE
from darts_assets.area_estimation.clear_views import clear_shares, ranked_views
from darts_assets.detection.chips import BANDS, DrawnChip, draw_chips, read_directory, write_chip_file
from darts_assets.errors import DartsError
from darts_assets.geo.equal_area import to_equal_area
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.inventory.published_polygons import StoredPolygons
from darts_assets.stores.publish import Manifest, Place, Version
from darts_assets.stores.tiles import read_tile
from darts_assets.stores.vectors import read_plain_table, write_plain_table
from darts_assets.tiles import geobox_of

PICTURE_COLUMNS = {
    "sample_id": "str",
    "scene": "str",
    "family": "str",
    "datetime": "datetime64[ms, UTC]",
    "clear_share": "float64",
    "offset": "int64",
    "length": "int64",
    "width_m": "float64",
}
"""A row for each point: the scene of its picture, or else the clearest one; `length` is 0 without a picture."""


@dataclass(frozen=True)
class Pictures:
    """Pictures of points.

    Attributes:
        views: `sample_id scene family datetime clear_share`, a row for each point that a scene observes.
        images: sample id -> picture.
        problems: scene -> why its tile could not be read.
    """

    views: pd.DataFrame
    images: Mapping[str, DrawnChip]
    problems: dict[str, str] = field(default_factory=dict)

    def write(self, version: Version) -> list[str]:
        """Write the pictures and their table into a version; returns the file names."""
        buffer = io.BytesIO()
        write_chip_file(buffer, iter(sorted(self.images.items())))
        obstore.put(version.location.objects(), PICTURES_FILE, buffer.getvalue())
        buffer.seek(0)
        where = read_directory(buffer)
        ranges = [where.get(sample_id) for sample_id in self.views["sample_id"]]
        table = self.views.assign(
            offset=[each.offset if each else 0 for each in ranges],
            length=[each.length if each else 0 for each in ranges],
            width_m=[each.width_m if each else np.nan for each in ranges],
        )
        return [
            PICTURES_FILE,
            write_plain_table(version, PICTURES, table[list(PICTURE_COLUMNS)].astype(PICTURE_COLUMNS)),
        ]


def draw_pictures(
    store: Store,
    points: gpd.GeoDataFrame,
    scenes: pd.DataFrame,
    polygons: StoredPolygons,
    known: Pictures | None = None,
) -> Pictures:
    """Draw a picture of each point, from the clearest scene that observes it and has a stored tile.

    Args:
        store: the store.
        points: `sample_id` and points in EPSG:6931.
        scenes: of the inventory: `scene_id`, `family` and `datetime`.
        polygons: observed areas of the scenes.
        known: pictures that exist; only the others are drawn.
    """
    known = known or Pictures(pd.DataFrame(columns=list(PICTURE_COLUMNS)[:5]), {})
    missing = points[~points["sample_id"].isin(known.images)].reset_index(drop=True)
    scenes = scenes.reset_index(drop=True)
    shares = np.zeros((len(scenes), len(missing)))
    for number, scene in enumerate(scenes["scene_id"]):
        if len(missing):
            shares[number] = clear_shares(missing.geometry, to_equal_area(polygons.current_observed(scene)))
    views = ranked_views(shares, scenes["datetime"]) if len(scenes) else [[] for _ in range(len(missing))]
    tiles = [_tile(store, *pair) for pair in zip(scenes["family"], scenes["scene_id"], strict=True)]
    chosen: dict[int, int] = {}  # point -> scene
    for row, view in enumerate(views):
        if view:
            chosen[row] = next((scene for scene in view if tiles[scene] is not None), view[0])
    problems: dict[str, str] = {}
    images = dict(_drawn(store, missing, scenes, tiles, chosen, problems))
    facts = scenes.iloc[list(chosen.values())]
    fresh = pd.DataFrame(
        {
            "sample_id": missing["sample_id"].iloc[list(chosen)].to_numpy(),
            "scene": facts["scene_id"].to_numpy(),
            "family": facts["family"].to_numpy(),
            "datetime": facts["datetime"].array,
            "clear_share": [shares[scene, row] for row, scene in chosen.items()],
        }
    )
    kept = known.views[known.views["sample_id"].isin(known.images)]
    table = pd.concat([kept, fresh], ignore_index=True) if len(kept) else fresh
    return Pictures(table.sort_values("sample_id", ignore_index=True), {**known.images, **images}, problems)


def read_pictures(place: Place, manifest: Manifest) -> Pictures:
    """The published pictures of a sample.

    Raises:
        NotReadableError: if another run has replaced them since.
    """
    table = read_plain_table(place, manifest, PICTURES)
    objects = place.location.child(manifest.contents[PICTURES_FILE]).objects()
    content = bytes(obstore.get(objects, PICTURES_FILE).bytes())
    images = {
        name: DrawnChip(0, content[each.offset : each.offset + each.length], each.width_m)
        for name, each in read_directory(cast(IO[bytes], io.BytesIO(content))).items()
    }
    return Pictures(table[list(PICTURE_COLUMNS)[:5]], images)


def _tile(store: Store, family: str, scene: str) -> Manifest | None:
    """The stored tile of a scene, unless it was released."""
    manifest = store.place("tiles", family, "preprocessed_tile", scene).manifest()
    return None if manifest is None or manifest.released else manifest


def _drawn(
    store: Store,
    points: gpd.GeoDataFrame,
    scenes: pd.DataFrame,
    tiles: list[Manifest | None],
    chosen: Mapping[int, int],
    problems: dict[str, str],
) -> Iterator[tuple[str, DrawnChip]]:
    by_scene: dict[int, list[int]] = defaultdict(list)
    for row, scene in chosen.items():
        by_scene[scene].append(row)
    for scene, rows in sorted(by_scene.items()):
        manifest = tiles[scene]
        if manifest is None:
            continue
        family, scene_id = scenes["family"].iloc[scene], scenes["scene_id"].iloc[scene]
        try:
            names = [name for name in (*BANDS, "quality_data_mask") if name in manifest.contents]
            place = store.place("tiles", family, "preprocessed_tile", scene_id)
            tile = read_tile(place, names, manifest=manifest)
            shapes = points.geometry.iloc[rows].to_crs(str(geobox_of(tile).crs))
            for chip in draw_chips(tile, shapes):
                yield points["sample_id"].iloc[rows[chip.position]], chip
        except DartsError as error:
            problems[scene_id] = str(error)
