"""Asset `training/images`: locates the labelled Planet images and registers them as partitions of `planet_image`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import materialize_result, provenance
from darts_assets.orchestration.core.partitions import PLANET
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.scene_discovery.discovery import items_of_ids
from darts_assets.orchestration.scene_discovery.planet_selection import DeliveryFolders
from darts_assets.orchestration.scene_discovery.registration import Registered, register_stac_items
from darts_assets.orchestration.scene_discovery.selection import write_ids
from darts_assets.orchestration.training.common import (
    IMAGES,
    MAX_ROWS,
    LabelsConfig,
    training_asset,
)

if TYPE_CHECKING:
    from darts_assets.training.labelled_images import FoundImages

CODE_VERSION = "1"


class ImagesConfig(LabelsConfig):
    """Location of the labelled images.

    Attributes:
        layout: `archive`: each image in the folder of its iteration, as in label archives; `anywhere`: search all
            subfolders for the image id.
        folders: paths or `s3://bucket/prefix`; empty: the label archive, or `DARTS_PLANET` for `anywhere`.
        write_ids: JSON file for the ids of the usable images: a path or `s3://...`.
    """

    layout: Literal["archive", "anywhere"] = "archive"
    folders: list[str] = []  # noqa: RUF012 - pydantic copies defaults
    write_ids: str = ""


def build_training_images() -> list[dg.AssetsDefinition]:
    """The asset that locates labelled images."""
    return [_images]


@dg.asset(
    **training_asset(IMAGES, "matches"),
    kinds={"json"},
    code_version=CODE_VERSION,
    description="Locates the Planet images of a label archive and registers them.",
)
@measured
def _images(
    context: dg.AssetExecutionContext,
    config: ImagesConfig,
    store: Store,
    scenes: SceneRegistry,
    deliveries: DeliveryFolders,
) -> dg.MaterializeResult[None]:
    with domain_call(context.log):
        from darts_assets.training.labelled_images import find_images, store_image_folders
        from darts_assets.training.labels import read_archive

        archive = read_archive(config.labels, match_prefix=config.match_prefix)
        for problem in archive.problems:
            context.log.warning(problem)
        roots = _roots(config, deliveries)
        images = find_images(roots, archive.footprints, config.layout, deliveries.s3)
        registered = _register(context, images, scenes, deliveries)
        usable = sorted(registered.scene_ids)
        folders = {image: images.deliveries[image].folder for image in usable}
        store_image_folders(store.root.child("training", config.dataset), config.layout, folders)
        if config.write_ids and usable:
            write_ids(config.write_ids, usable, store)
    problems = [*images.problems, *registered.unusable.values()]
    for problem in problems:
        context.log.warning(problem)
    if images.missing:
        context.log.warning(f"{len(images.missing)} of {len(archive.footprints)} labelled images are missing")
    facts = provenance(CODE_VERSION, config.model_dump(exclude={"write_ids"}), images=" ".join(usable))
    metadata = {
        "images": len(archive.footprints),
        "found": len(usable),
        "new": len(registered.new),
        **({"where": dg.MetadataValue.table(_rows(folders))} if folders else {}),
        "missing": images.missing[:MAX_ROWS],
        "problems": problems[:MAX_ROWS],
        "left_out": archive.problems,
    }
    return materialize_result(metadata, facts)


def _roots(config: ImagesConfig, deliveries: DeliveryFolders) -> list[str]:
    from darts_assets.errors import SettingsError

    roots = config.folders or ([config.labels] if config.layout == "archive" else deliveries.folders)
    if not roots:
        raise SettingsError("No folders to search: set folders or DARTS_PLANET.")
    deliveries.check(roots)
    return roots


def _register(
    context: dg.AssetExecutionContext, images: "FoundImages", scenes: SceneRegistry, deliveries: DeliveryFolders
) -> Registered:
    """Register the images. Only files of images that are not registered yet are read."""

    def search(image_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        return images.items(image_ids, deliveries.s3)

    items = items_of_ids(
        sorted(images.deliveries), family=PLANET, instance=context.instance, scenes=scenes, search=search
    )
    return register_stac_items(context.instance, scenes, PLANET, items, log=context.log.info)


def _rows(folders: Mapping[str, str]) -> Sequence[dg.TableRecord]:
    return [dg.TableRecord({"image": image, "folder": folder}) for image, folder in list(folders.items())[:MAX_ROWS]]
