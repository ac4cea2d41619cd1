"""Locate labelled Planet images in folders or `s3://` prefixes.

In the layout of label archives an image lies in the folder of its iteration: `iteration002/<image>/` or
`iteration001/<site>/<image>/`. Layout `anywhere` ("pingo" in DARTS) accepts any subfolder.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import geopandas as gpd
import obstore

from darts_assets.errors import RasterError, SceneError, TrainingError
from darts_assets.remote.byte_reader import S3Options
from darts_assets.sources.folders import absolute
from darts_assets.sources.planet.deliveries import Delivery, find_deliveries, without_twins
from darts_assets.sources.planet.delivery_catalog import item_of
from darts_assets.stores.location import StoreLocation
from darts_assets.training.labels import iteration_of
from darts_assets.training.sample_store import Flavour

_log = logging.getLogger(__name__)

Layout = Literal["archive", "anywhere"]

FLAVOURS: dict[Layout, Flavour] = {"archive": "planet-archive", "anywhere": "planet-pingo"}
"""Flavour of the samples by layout of the images."""

_DEPTHS = (2, 3)  # iteration/image, iteration/site/image
_INDEX = "images.json"
_THREADS = 8


@dataclass(frozen=True)
class FoundImages:
    """Located images of an archive.

    Attributes:
        deliveries: files by image id.
        missing: ids of missing images, sorted.
        problems: one sentence for each unusable folder or image.
    """

    deliveries: dict[str, Delivery]
    missing: list[str]
    problems: list[str]

    def items(self, images: Sequence[str], s3: S3Options) -> Iterator[dict[str, Any]]:
        """Yield STAC items of `images` after checking their files; unusable images are added to `problems`.

        Raises:
            SourceUnavailableError, SettingsError: from the service.
        """
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="planet") as pool:
            yield from filter(None, pool.map(lambda image: self._item(image, s3), images))

    def _item(self, image: str, s3: S3Options) -> dict[str, Any] | None:
        try:
            return item_of(self.deliveries[image], s3)
        except (SceneError, RasterError) as error:
            self.problems.append(str(error))
            return None


def find_images(roots: Sequence[str], footprints: gpd.GeoDataFrame, layout: Layout, s3: S3Options) -> FoundImages:
    """Locate the images of footprints without opening rasters.

    Args:
        roots: folders or `s3://bucket/prefix`.
        footprints: `image_id`, `iteration`.
        layout: `archive`: only at the place given by the archive layout; `anywhere`: in any subfolder.
        s3: S3 access.

    Raises:
        SettingsError: if a folder does not exist, or S3 refuses the keys.
        SourceUnavailableError: if the service does not respond after bounded retries.
        TrainingError: if no image is located.
    """
    iterations = {row.image_id: str(row.iteration).split("+") for row in footprints.itertuples()}
    problems: list[str] = []
    candidates: list[Delivery] = []
    count = 0
    for root in roots:
        below = find_deliveries(root, s3)
        _log.info("%s: %d Planet images", root, len(below.images))
        count += len(below.images)
        problems += below.problems
        home = absolute(root) if layout == "archive" else None
        candidates += [
            delivery
            for delivery in below.images
            if delivery.id.id in iterations and (home is None or _is_home(home, delivery, iterations[delivery.id.id]))
        ]
    deliveries = {delivery.id.id: delivery for delivery in without_twins(candidates, problems)}
    if not deliveries:
        where = "in the folder of its iteration" if layout == "archive" else "among them"
        reasons = "; ".join(["", *problems]) if candidates else ""
        raise TrainingError(
            f"{', '.join(roots)}: {count} Planet images, but none of the {len(iterations)} images of the label archive "
            f"is {where}{reasons}"
        )
    return FoundImages(deliveries, sorted(set(iterations) - set(deliveries)), problems)


def store_image_folders(place: StoreLocation, layout: Layout, folders: Mapping[str, str]) -> None:
    """Add folder and flavour of images to the index of the dataset.

    Args:
        place: `training/<dataset>` in a store.
        layout: layout of the search.
        folders: folder by image id.
    """
    added = {image: {"flavour": FLAVOURS[layout], "folder": folder} for image, folder in folders.items()}
    index = json.dumps({**_read_index(place), **added}, indent=0, sort_keys=True)
    obstore.put(place.objects(), _INDEX, index.encode())


def flavour_of(place: StoreLocation, image: str) -> Flavour:
    """Flavour of an image in the index at `training/<dataset>`; default: `planet-pingo`."""
    flavour: Flavour = _read_index(place).get(image, {}).get("flavour", FLAVOURS["anywhere"])
    return flavour


def image_ids(place: StoreLocation) -> list[str]:
    """Ids of the images in the index at `training/<dataset>`, sorted."""
    return sorted(_read_index(place))


def _read_index(place: StoreLocation) -> dict[str, Any]:
    if place.is_local and not place.path.exists():
        return {}  # reading must not create the folder
    try:
        index: dict[str, Any] = json.loads(bytes(obstore.get(place.objects(), _INDEX).bytes()))
    except FileNotFoundError:
        return {}
    return index


def _is_home(root: str, delivery: Delivery, iterations: Sequence[str]) -> bool:
    """Whether an image lies at the place given by the archive layout."""
    parts = delivery.folder.removeprefix(f"{root}/").split("/")
    return len(parts) in _DEPTHS and iteration_of(parts[0]) in iterations
