"""Registration of scenes by their STAC items: single items, the results of a search, and the job `register_scenes`."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.errors import SceneError
from darts_assets.orchestration.core.dynamic_partitions import register as add_partitions
from darts_assets.orchestration.core.dynamic_partitions import registered
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.partitions import FAMILIES, PLANET, SENTINEL2, SceneFamily
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.twin_scenes import TwinScenes

if TYPE_CHECKING:
    from darts_assets.scene import Scene
    from darts_assets.sources import S3Options

_THREADS = 16  # that write items to the store
_BATCH = 256  # items in memory, besides a page of the catalog


@dataclass
class Registered:
    """Scenes of a search, after their registration.

    Attributes:
        scene_ids: ids of all scenes, ordered by tile and time.
        new: ids of the scenes that were not registered before, in the same order.
        unusable: id -> reason, for items that cannot be parsed.
        twins: id -> id of the scene that stands for it, because it was registered from another source.
    """

    scene_ids: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    twins: dict[str, str] = field(default_factory=dict)

    @property
    def known(self) -> int:
        """Number of scenes that were registered before."""
        return len(self.scene_ids) - len(self.new)


def register_items(
    instance: dg.DagsterInstance,
    scenes: SceneRegistry,
    family: SceneFamily,
    hrefs: list[str],
    *,
    repeat_acquisitions: bool = False,
    on_twin: Callable[[str, str], None] = lambda scene, twin: None,
) -> list[str]:
    """Read items and store them, then add their partitions; returns the scene ids in the order of the items.

    A scene whose acquisition is registered from another source is left out, and the registered scene returned.

    Args:
        instance: the Dagster instance.
        scenes: the registry, which stores the items.
        family: the family of the scenes.
        hrefs: locations of the items.
        repeat_acquisitions: register such scenes as well.
        on_twin: called with the ids of a scene that is left out, and of the scene that stands for it.

    Raises:
        SceneError: with the reason for each unusable item; nothing is registered.
    """
    twins = TwinScenes(instance, scenes, family)
    ids, new = [], []
    for scene in scenes.read(family, hrefs):
        twin = None if repeat_acquisitions else twins.twin_of(scene)
        ids.append(twin or scene.id)
        if twin:
            on_twin(scene.id, twin)
            continue
        twins.add(scene)
        new.append(scene)
    for scene in new:
        scenes.keep(family, scene)
    add_partitions(instance, family.partitions, [scene.id for scene in sorted(new, key=registration_order)])
    return list(dict.fromkeys(ids))


def family_at(href: str, s3: "S3Options") -> SceneFamily:
    """The family of a location: a folder without SAFE products has Planet images.

    Raises:
        SettingsError, SourceUnavailableError: if the folder cannot be listed.
    """
    from darts_assets.sources.eopf.eopf_item import is_store
    from darts_assets.sources.sentinel2.safe_products import is_folder, is_safe_location

    if is_store(href):
        return SENTINEL2
    return PLANET if is_folder(href) and not is_safe_location(href, s3) else SENTINEL2


def register_any(
    instance: dg.DagsterInstance,
    scenes: SceneRegistry,
    hrefs: list[str],
    *,
    repeat_acquisitions: bool = False,
    on_twin: Callable[[str, str], None] = lambda scene, twin: None,
) -> list[str]:
    """Register STAC items, SAFE products and folders of them or of Planet images; returns the scene ids.

    `repeat_acquisitions` and `on_twin`: see `register_items`.

    Raises:
        SceneError: with the reason for each unusable item; nothing of its family is registered.
        SettingsError, SourceUnavailableError: if a folder cannot be listed.
    """
    by_family: dict[str, list[str]] = {}
    for href in hrefs:
        by_family.setdefault(family_at(href, scenes.access.options).name, []).append(href)
    options: dict[str, Any] = {"repeat_acquisitions": repeat_acquisitions, "on_twin": on_twin}
    ids = (
        register_items(instance, scenes, FAMILIES[name], of_family, **options) for name, of_family in by_family.items()
    )
    return list(itertools.chain.from_iterable(ids))


def register_stac_items(
    instance: dg.DagsterInstance,
    scenes: SceneRegistry,
    family: SceneFamily,
    items: Iterable[dict[str, Any]],
    *,
    dry_run: bool = False,
    repeat_acquisitions: bool = False,
    on_scene: "Callable[[Scene, bool], None]" = lambda scene, is_new: None,
    log: Callable[[str], None] = lambda text: None,
) -> Registered:
    """Store STAC items batch by batch, then add the partitions of the new scenes.

    A registered scene keeps its item, because the item describes the data that were fetched. Partitions are added last,
    so that each has an item; the next run adds the partitions of an interrupted one. At most a few hundred items are in
    memory.

    Args:
        instance: the Dagster instance.
        scenes: the registry, which stores the items.
        family: the family of the scenes.
        items: STAC items, which may arrive slowly; if the iterator raises, no partition is added.
        dry_run: store and register nothing.
        repeat_acquisitions: register new scenes whose acquisition is registered from another source, too; otherwise
            that scene stands for them.
        on_scene: called with each scene and whether it is new, unless another one stands for it.
        log: called with progress messages.
    """
    source = family.load_source()
    result = Registered()
    twins = TwinScenes(instance, scenes, family)
    order: dict[str, Any] = {}
    new: set[str] = set()

    def parse(batch: list[dict[str, Any]]) -> "Iterator[Scene]":
        for item in batch:
            try:
                yield source.parse(item)
            except SceneError as error:
                result.unusable[str(item.get("id"))] = str(error)

    stream = iter(items)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="items") as pool:
        while batch := list(itertools.islice(stream, _BATCH)):
            parsed = {scene.id: scene for scene in parse(batch) if scene.id not in order}
            unknown = parsed.keys() - registered(instance, family.partitions, parsed)
            for scene in list(parsed.values()):
                if not repeat_acquisitions and scene.id in unknown and (twin := twins.twin_of(scene)):
                    result.twins[scene.id] = twin
                    order.setdefault(twin, registration_order(scene))
                    del parsed[scene.id]
                else:
                    twins.add(scene)
            unknown &= parsed.keys()
            if not dry_run:
                store = partial(_store_item, scenes, family, unknown)
                deque(pool.map(store, parsed.values()), maxlen=0)  # re-raises errors of the threads
            order |= {scene.id: registration_order(scene) for scene in parsed.values()}
            new |= unknown
            for scene in parsed.values():
                on_scene(scene, scene.id in unknown)
    result.scene_ids = sorted(order, key=order.__getitem__)
    result.new = [scene_id for scene_id in result.scene_ids if scene_id in new]
    if not dry_run:
        total = len(result.new)
        add_partitions(
            instance, family.partitions, result.new, lambda done: log(f"{done} of {total} scenes registered")
        )
    return result


def twin_note(scene: str, twin: str) -> str:
    """A sentence on a scene that is not registered."""
    return f"{scene} is not registered: {twin} is the same acquisition from another source (see repeat_acquisitions)"


def registration_order(scene: "Scene") -> Any:
    """Sort key of partitions: backfills batch partitions in registration order, so neighbours are kept together."""
    return scene.tile or "", scene.datetime, scene.id


def _store_item(scenes: SceneRegistry, family: SceneFamily, unknown: set[str], scene: "Scene") -> None:
    # A partition that was added by hand has no item.
    if scene.id in unknown or not scenes.is_kept(family, scene.id):
        scenes.keep(family, scene)


class RegisterConfig(dg.Config):
    """Scenes to register.

    Attributes:
        items: paths or URLs (`https://`, `s3://`) of STAC items, SAFE products (folders or zip archives), or folders of
            SAFE products or of Planet images (`s3://` with a trailing slash).
        repeat_acquisitions: register scenes whose acquisition is registered from another source, too.
    """

    items: list[str]
    repeat_acquisitions: bool = False


@dg.op(tags=op_tags("job"), description="Reads STAC items, stores them, and adds a partition for each scene.")
def register(context: dg.OpExecutionContext, config: RegisterConfig, scenes: SceneRegistry) -> None:
    """Register the scenes of `config.items`; all of a family, or none."""
    with domain_call(context.log):
        ids = register_any(
            context.instance,
            scenes,
            config.items,
            repeat_acquisitions=config.repeat_acquisitions,
            on_twin=lambda scene, twin: context.log.info(twin_note(scene, twin)),
        )
    context.add_output_metadata(as_metadata({"scenes": ids}))


@dg.job(
    description="Registers scenes by their STAC items, SAFE products and Planet images by their folders, as partitions."
)
def register_scenes() -> None:
    """Register scenes by their items."""
    register()
