"""The Planet images that labels were drawn on, found below a folder or an `s3://` prefix.

In the layout of label archives an image is in the folder of its iteration: `iteration002/<image>/` or
`iteration001/<site>/<image>/`. A search takes it from wherever it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import geopandas as gpd

from darts_assets.errors import TrainingError
from darts_assets.sources.access import S3Options
from darts_assets.sources.planet.deliveries import Delivery, find_deliveries, without_twins
from darts_assets.sources.planet.folders import absolute
from darts_assets.training.labels import iteration_of

Layout = Literal["archive", "anywhere"]

_DEPTHS = (2, 3)  # iteration/image, iteration/site/image


@dataclass(frozen=True)
class FoundImages:
    """Images of an archive.

    Attributes:
        deliveries: image id -> its files; `sources.planet.catalog.item_of` makes an item of them.
        missing: images that are not there, sorted.
        problems: what is wrong with folders and images, a sentence each.
    """

    deliveries: dict[str, Delivery]
    missing: list[str]
    problems: list[str]


def find_images(root: str, footprints: gpd.GeoDataFrame, layout: Layout, s3: S3Options) -> FoundImages:
    """Find the images of footprints; no raster is opened.

    Args:
        root: the folder.
        footprints: `image_id`, `iteration`.
        layout: `archive`: only where the layout of archives has them; `anywhere`: wherever they are.
        s3: how `s3://` is reached.

    Raises:
        SettingsError: if there is no such folder, or S3 refuses the keys.
        SourceUnavailableError: if the service does not answer after bounded retries.
        TrainingError: if none of the images is there.
    """
    below = find_deliveries(root, s3)
    problems = list(below.problems)
    iterations = {row.image_id: str(row.iteration).split("+") for row in footprints.itertuples()}
    wanted = [delivery for delivery in below.found if delivery.id.id in iterations]
    if layout == "archive":
        home = absolute(root)
        wanted = [delivery for delivery in wanted if _is_home(home, delivery, iterations[delivery.id.id])]
    found = {delivery.id.id: delivery for delivery in without_twins(wanted, problems)}
    missing = sorted(set(iterations) - set(found))
    if not found:
        where = "in the folder of its iteration" if layout == "archive" else "among them"
        raise TrainingError(
            f"{root}: none of the {len(iterations)} images of the label archive is {where}: "
            f"{len(below.found)} Planet images are below it"
        )
    return FoundImages(found, missing, problems)


def _is_home(root: str, delivery: Delivery, iterations: Sequence[str]) -> bool:
    """Whether an image is where the layout of archives has it."""
    parts = delivery.folder.removeprefix(f"{root}/").split("/")
    return len(parts) in _DEPTHS and iteration_of(parts[0]) in iterations
