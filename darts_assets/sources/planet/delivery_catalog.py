"""Search for Planet images below folders, and their STAC items."""

import datetime as dt
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from darts_assets.errors import RasterError, SceneError, SettingsError
from darts_assets.geo.antimeridian import footprint
from darts_assets.redaction import shown
from darts_assets.remote.s3_auth import S3Options
from darts_assets.sources.planet.deliveries import Delivery, find_deliveries, without_twins
from darts_assets.sources.planet.image_item import make_item, parse_image_item
from darts_assets.sources.planet.image_metadata import read_metadata
from darts_assets.sources.rasters.integrity import check_files
from darts_assets.sources.stac.scene_ids import listed
from darts_assets.sources.stac.scene_selection import Interval

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

logger = logging.getLogger(__name__)

_THREADS = 8
_BATCH = 64


class PlanetFolders:
    """Planet images below folders (or `s3://bucket/prefix`).

    Args:
        roots: the folders.
        s3: how to reach `s3://`.

    Attributes:
        problems: one sentence for each image or folder that could not be used; the others are.
    """

    def __init__(self, roots: Sequence[str], s3: S3Options) -> None:
        self.roots = tuple(dict.fromkeys(roots))
        self.problems: list[str] = []
        self._s3 = s3

    def items(
        self,
        *,
        ids: Sequence[str] = (),
        intervals: Sequence[Interval] = (),
        area: "BaseGeometry | None" = None,
        kept: Callable[[str], dict[str, Any] | None] = lambda image: None,
    ) -> Iterator[dict[str, Any]]:
        """STAC items of the selected images, in the order of the time in their ids.

        Args:
            ids: select only these; missing ones are reported as a problem. Problems of other images are then only
                logged.
            intervals: select only these times; none: any time.
            area: select only images whose footprint intersects it, EPSG:4326.
            kept: id -> the item of a registered image; its files are not opened again.

        Raises:
            SettingsError: if none of the folders can be read, or S3 rejects the keys.
            SourceUnavailableError: if the service does not answer after bounded retries.
        """
        deliveries = self._deliveries(only_log=bool(ids))
        if ids:
            existing = {delivery.id.id for delivery in deliveries}
            if unknown := [image for image in ids if image not in existing]:
                where = ", ".join(self.roots) or "no folder"
                self.problems.append(f"{len(unknown)} Planet image(s) are not below {where}: {listed(unknown)}")
            deliveries = [delivery for delivery in deliveries if delivery.id.id in set(ids)]
        by_id: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            if _within(delivery.id.time, intervals):
                by_id.setdefault(delivery.id.id, []).append(delivery)
        remaining = iter(by_id.items())
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="planet") as pool:
            while batch := list(itertools.islice(remaining, _BATCH)):
                for item in pool.map(lambda pair: kept(pair[0]) or self._item(pair[1], area), batch):
                    if item is not None and not _outside(item["geometry"], area):
                        yield item

    def _deliveries(self, *, only_log: bool) -> list[Delivery]:
        deliveries, problems, refused = [], [], []
        for root in self.roots:
            try:
                below = find_deliveries(root, self._s3)
            except SettingsError as error:
                refused.append(error)
                self.problems.append(str(error))
                continue
            logger.info("%s: %d Planet images", shown(root), len(below.images))
            deliveries += below.images
            problems += below.problems
        if refused and len(refused) == len(self.roots):
            raise refused[0]
        for problem in problems:
            if only_log:
                logger.warning(problem)
            else:
                self.problems.append(problem)
        return sorted(deliveries, key=lambda delivery: (delivery.id.time, delivery.id.id))

    def _item(self, same: Sequence[Delivery], area: "BaseGeometry | None") -> dict[str, Any] | None:
        try:
            return next((item_of(each, self._s3, area) for each in without_twins(same, self.problems)), None)
        except (SceneError, RasterError) as error:
            self.problems.append(str(error))
            return None


def item_of(delivery: Delivery, s3: S3Options, area: "BaseGeometry | None" = None) -> dict[str, Any] | None:
    """The STAC item of an image, after a check of all its files; None if the image lies outside of `area`.

    Raises:
        SceneError: if the delivery is incomplete or invalid.
        RasterError: if a raster is damaged.
        SourceUnavailableError, SettingsError: from the service.
    """
    delivery.check_complete()
    metadata = read_metadata(delivery, s3)
    if _outside(metadata.geometry, area):
        return None
    item = make_item(delivery, metadata, s3)
    if metadata.sun_azimuth is None or metadata.sun_elevation is None:
        logger.warning("%s: its metadata have no sun angles; its hillshade will use the default sun", delivery)
    if _outside(item["geometry"], area):
        return None
    scene = parse_image_item(item)
    check_files(scene, scene.bands, s3)
    return item


def _outside(geometry: Any, area: "BaseGeometry | None") -> bool:
    shape = footprint(geometry) if area is not None and geometry else None
    return shape is not None and area is not None and not shape.intersects(area)


def _within(time: dt.datetime, intervals: Sequence[Interval]) -> bool:
    return not intervals or any(
        (start is None or start <= time) and (end is None or time < end) for start, end in intervals
    )
