"""The Planet images that labels were drawn on, found below folders or `s3://` prefixes.

In the layout of label archives an image is in the folder of its iteration: `iteration002/<image>/` or
`iteration001/<site>/<image>/`. A search ("pingo" in DARTS) takes it from wherever it is.
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
from darts_assets.remote.byte_source import S3Options
from darts_assets.sources.planet.deliveries import Delivery, find_deliveries, without_twins
from darts_assets.sources.planet.delivery_catalog import item_of
from darts_assets.sources.planet.folders import absolute
from darts_assets.stores.location import StoreLocation
from darts_assets.training.labels import iteration_of
from darts_assets.training.sample_store import Flavour

_log = logging.getLogger(__name__)

Layout = Literal["archive", "anywhere"]

FLAVOURS: dict[Layout, Flavour] = {"archive": "planet-archive", "anywhere": "planet-pingo"}
"""What the samples of images are that were found so."""

_DEPTHS = (2, 3)  # iteration/image, iteration/site/image
_FOUND = "images.json"
_AT_ONCE = 8


@dataclass(frozen=True)
class FoundImages:
    """Images of an archive.

    Attributes:
        deliveries: image id -> its files.
        missing: images that are not there, sorted.
        problems: what is wrong with folders and images, a sentence each.
    """

    deliveries: dict[str, Delivery]
    missing: list[str]
    problems: list[str]

    def items(self, images: Sequence[str], s3: S3Options) -> Iterator[dict[str, Any]]:
        """STAC items of some of them, whose files are all looked at; what is wrong with one is a problem more.

        Raises:
            SourceUnavailableError, SettingsError: from the service.
        """
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="planet") as pool:
            yield from filter(None, pool.map(lambda image: self._item(image, s3), images))

    def _item(self, image: str, s3: S3Options) -> dict[str, Any] | None:
        try:
            return item_of(self.deliveries[image], s3)
        except (SceneError, RasterError) as error:
            self.problems.append(str(error))
            return None


def find_images(roots: Sequence[str], footprints: gpd.GeoDataFrame, layout: Layout, s3: S3Options) -> FoundImages:
    """Find the images of footprints; no raster is opened.

    Args:
        roots: folders, or `s3://bucket/prefix`.
        footprints: `image_id`, `iteration`.
        layout: `archive`: only where the layout of archives has them; `anywhere`: wherever they are.
        s3: how `s3://` is reached.

    Raises:
        SettingsError: if there is no such folder, or S3 refuses the keys.
        SourceUnavailableError: if the service does not answer after bounded retries.
        TrainingError: if none of the images is there.
    """
    iterations = {row.image_id: str(row.iteration).split("+") for row in footprints.itertuples()}
    problems: list[str] = []
    wanted: list[Delivery] = []
    seen = 0
    for root in roots:
        below = find_deliveries(root, s3)
        _log.info("%s: %d Planet images", root, len(below.found))
        seen += len(below.found)
        problems += below.problems
        home = absolute(root) if layout == "archive" else None
        wanted += [
            delivery
            for delivery in below.found
            if delivery.id.id in iterations and (home is None or _is_home(home, delivery, iterations[delivery.id.id]))
        ]
    found = {delivery.id.id: delivery for delivery in without_twins(wanted, problems)}
    if not found:
        where = "in the folder of its iteration" if layout == "archive" else "among them"
        said = "; ".join(["", *problems]) if wanted else ""
        raise TrainingError(
            f"{', '.join(roots)}: none of the {len(iterations)} images of the label archive is {where}: {seen} Planet "
            f"images are below it{said}"
        )
    return FoundImages(found, sorted(set(iterations) - set(found)), problems)


def store_image_folders(place: StoreLocation, layout: Layout, folders: Mapping[str, str]) -> None:
    """Keep how and where images were found, beside what earlier searches have found.

    Args:
        place: `training/<set>` in a store.
        layout: that they were looked for by.
        folders: image id -> where it is.
    """
    now = {image: {"flavour": FLAVOURS[layout], "folder": folder} for image, folder in folders.items()}
    said = json.dumps({**_found(place), **now}, indent=0, sort_keys=True)
    obstore.put(place.objects(), _FOUND, said.encode())


def flavour_of(place: StoreLocation, image: str) -> Flavour:
    """How an image was found: by search, if no search by layout has been kept at `training/<set>`."""
    flavour: Flavour = _found(place).get(image, {}).get("flavour", FLAVOURS["anywhere"])
    return flavour


def _found(place: StoreLocation) -> dict[str, Any]:
    if place.is_local and not place.path.exists():
        return {}  # asking must not create the folder
    try:
        found: dict[str, Any] = json.loads(bytes(obstore.get(place.objects(), _FOUND).bytes()))
    except FileNotFoundError:
        return {}
    return found


def _is_home(root: str, delivery: Delivery, iterations: Sequence[str]) -> bool:
    """Whether an image is where the layout of archives has it."""
    parts = delivery.folder.removeprefix(f"{root}/").split("/")
    return len(parts) in _DEPTHS and iteration_of(parts[0]) in iterations
