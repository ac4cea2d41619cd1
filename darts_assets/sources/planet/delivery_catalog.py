"""Images below some folders: which are wanted, and what is wrong with those that cannot be used."""

import datetime as dt
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from darts_assets.errors import RasterError, SceneError, SettingsError
from darts_assets.geo.antimeridian import footprint
from darts_assets.remote.s3_auth import S3Options
from darts_assets.sources.planet.deliveries import Delivery, find_deliveries, without_twins
from darts_assets.sources.planet.image_item import make_item
from darts_assets.sources.planet.image_metadata import read_metadata
from darts_assets.sources.stac.scene_ids import listed
from darts_assets.sources.stac.scene_selection import Interval

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

logger = logging.getLogger(__name__)

_AT_ONCE = 8
_BATCH = 64


class PlanetFolders:
    """Planet images below folders (or `s3://bucket/prefix`).

    Args:
        roots: the folders.
        s3: how `s3://` is reached.

    Attributes:
        problems: what was wrong, a sentence each; everything else went on.
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
        """STAC items of the images that are wanted, by the time that their ids tell.

        Args:
            ids: only these; one that is nowhere is a problem. What is wrong with other folders is then only logged.
            intervals: only of these times; none: of any.
            area: only those whose footprint meets it, EPSG:4326.
            kept: id -> the item of an image that is registered; its files are not opened again.

        Raises:
            SettingsError: if none of the folders can be read, or S3 refuses the keys.
            SourceUnavailableError: if the service does not answer after bounded retries.
        """
        found = self._deliveries(only_log=bool(ids))
        if ids:
            known = {delivery.id.id for delivery in found}
            if unknown := [image for image in ids if image not in known]:
                where = ", ".join(self.roots) or "no folder"
                self.problems.append(f"{len(unknown)} Planet image(s) are not below {where}: {listed(unknown)}")
            found = [delivery for delivery in found if delivery.id.id in set(ids)]
        by_id: dict[str, list[Delivery]] = {}
        for delivery in found:
            if _within(delivery.id.time, intervals):
                by_id.setdefault(delivery.id.id, []).append(delivery)
        wanted = iter(by_id.items())
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="planet") as pool:
            while batch := list(itertools.islice(wanted, _BATCH)):
                for item in pool.map(lambda pair: kept(pair[0]) or self._item(pair[1], area), batch):
                    if item is not None and not _outside(item["geometry"], area):
                        yield item

    def _deliveries(self, *, only_log: bool) -> list[Delivery]:
        found, problems, refused = [], [], []
        for root in self.roots:
            try:
                below = find_deliveries(root, self._s3)
            except SettingsError as error:
                refused.append(error)
                self.problems.append(str(error))
                continue
            logger.info("%s: %d Planet images", root, len(below.found))
            found += below.found
            problems += below.problems
        if refused and len(refused) == len(self.roots):
            raise refused[0]
        for problem in problems:
            if only_log:
                logger.warning(problem)
            else:
                self.problems.append(problem)
        return sorted(found, key=lambda delivery: (delivery.id.time, delivery.id.id))

    def _item(self, same: Sequence[Delivery], area: "BaseGeometry | None") -> dict[str, Any] | None:
        try:
            return next((item_of(each, self._s3, area) for each in without_twins(same, self.problems)), None)
        except (SceneError, RasterError) as error:
            self.problems.append(str(error))
            return None


def item_of(delivery: Delivery, s3: S3Options, area: "BaseGeometry | None" = None) -> dict[str, Any] | None:
    """The item of an image whose files have all been looked at; None if it lies outside of an area.

    Raises:
        SceneError: if the delivery is not complete, or not as it must be.
        RasterError: if a raster is damaged.
        SourceUnavailableError, SettingsError: from the service.
    """
    from darts_assets.sources.planet.scenes import PlanetScenes

    delivery.check_complete()
    metadata = read_metadata(delivery, s3)
    if _outside(metadata.geometry, area):
        return None
    item = make_item(delivery, metadata, s3)
    if metadata.sun_azimuth is None or metadata.sun_elevation is None:
        logger.warning("%s: nothing tells where the sun was; its hillshade will be of the default sun", delivery)
    if _outside(item["geometry"], area):
        return None
    source = PlanetScenes()
    source.check(source.parse(item), s3)
    return item


def _outside(geometry: Any, area: "BaseGeometry | None") -> bool:
    shape = footprint(geometry) if area is not None and geometry else None
    return shape is not None and area is not None and not shape.intersects(area)


def _within(time: dt.datetime, intervals: Sequence[Interval]) -> bool:
    return not intervals or any(
        (start is None or start <= time) and (end is None or time < end) for start, end in intervals
    )
