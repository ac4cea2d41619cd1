"""`training/images`: the Planet images that labels were drawn on, found and made partitions of `planet_image`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.partitions import PLANET
from darts_assets.orchestration.core.provenance import provenance
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.scene_registry import SceneRegistry
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.scene_discovery.discovery import items_of_ids
from darts_assets.orchestration.scene_discovery.planet_selection import DeliveryFolders
from darts_assets.orchestration.scene_discovery.registration import Registered, register_stac_items
from darts_assets.orchestration.scene_discovery.selection import write_ids
from darts_assets.orchestration.training.common import IMAGES, SHOWN, LabelsConfig, materialized, of_training

if TYPE_CHECKING:
    from darts_assets.training.labelled_images import FoundImages

CODE_VERSION = "1"


class ImagesConfig(LabelsConfig):
    """Where the images are that labels were drawn on.

    Attributes:
        layout: `archive`: each in the folder of its iteration, as label archives have them; `anywhere`: found by its
            id, however deep it lies.
        folders: paths, or `s3://bucket/prefix`; none: the label archive itself, or `DARTS_PLANET` for `anywhere`.
        write_ids: JSON file for the ids of the images that can be used: a path, or `s3://`.
    """

    layout: Literal["archive", "anywhere"] = "archive"
    folders: list[str] = []  # noqa: RUF012 - pydantic copies defaults
    write_ids: str = ""


def build_training_images() -> list[dg.AssetsDefinition]:
    """The asset that finds labelled images."""
    return [_images]


@dg.asset(
    **of_training(IMAGES, "matches"),
    kinds={"json"},
    code_version=CODE_VERSION,
    description="Finds the Planet images of a label archive, by its layout or anywhere, and registers them.",
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
        from darts_assets.training.labelled_images import find_images, keep_found
        from darts_assets.training.labels import read_archive

        archive = read_archive(config.labels, match_prefix=config.match_prefix)
        for problem in archive.problems:
            context.log.warning(problem)
        roots = _roots(config, deliveries)
        images = find_images(roots, archive.footprints, config.layout, deliveries.s3)
        registered = _register(context, images, scenes, deliveries)
        usable = sorted(registered.scene_ids)
        folders = {image: images.deliveries[image].folder for image in usable}
        keep_found(store.root.child("training", config.dataset), config.layout, folders)
        if config.write_ids and usable:
            write_ids(config.write_ids, usable, store)
    wrong = [*images.problems, *registered.unusable.values()]
    for problem in wrong:
        context.log.warning(problem)
    if images.missing:
        context.log.warning(f"{len(images.missing)} of {len(archive.footprints)} labelled images are not there")
    facts = provenance(CODE_VERSION, config.model_dump(exclude={"write_ids"}), images=" ".join(usable))
    said = {
        "images": len(archive.footprints),
        "found": len(usable),
        "new": len(registered.new),
        **({"where": dg.MetadataValue.table(_rows(folders))} if folders else {}),
        "missing": images.missing[:SHOWN],
        "problems": wrong[:SHOWN],
        "left_out": archive.problems,
    }
    return materialized(said, facts)


def _roots(config: ImagesConfig, deliveries: DeliveryFolders) -> list[str]:
    from darts_assets.errors import SettingsError

    roots = config.folders or ([config.labels] if config.layout == "archive" else deliveries.folders)
    if not roots:
        raise SettingsError("there is no folder to look in: name some in folders, or in DARTS_PLANET")
    deliveries.check(roots)
    return roots


def _register(
    context: dg.AssetExecutionContext, images: "FoundImages", scenes: SceneRegistry, deliveries: DeliveryFolders
) -> Registered:
    """Images that are registered keep their items; the files of the others are looked at."""

    def search(asked: Sequence[str]) -> Iterator[dict[str, Any]]:
        return images.items(asked, deliveries.s3)

    items = items_of_ids(
        sorted(images.deliveries), family=PLANET, instance=context.instance, scenes=scenes, search=search
    )
    return register_stac_items(context.instance, scenes, PLANET, items, log=context.log.info)


def _rows(folders: Mapping[str, str]) -> Sequence[dg.TableRecord]:
    return [dg.TableRecord({"image": image, "folder": folder}) for image, folder in list(folders.items())[:SHOWN]]
