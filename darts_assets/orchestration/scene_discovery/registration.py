"""Registering scenes by their STAC items: a few by hand, or thousands as a catalog gives them."""

import datetime as dt
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.errors import SceneError
from darts_assets.orchestration.core.dynamic_partitions import register, registered
from darts_assets.orchestration.core.partitions import FAMILIES, PLANET, SENTINEL2, SceneFamily
from darts_assets.orchestration.core.scene_store import SceneRegistry

if TYPE_CHECKING:
    from darts_assets.scene import Scene

_AT_ONCE = 16  # items that are written to the store at a time
_BATCH = 256  # items that are held at a time, beside a page of the catalog


def register_items(
    instance: dg.DagsterInstance, scenes: SceneRegistry, family: SceneFamily, hrefs: list[str]
) -> list[str]:
    """Read and keep items, then add their partitions; returns scene ids in the order of the items.

    Raises:
        SceneError: naming each item that cannot be used; then nothing is registered.
    """
    registered = scenes.register(family, hrefs)
    _add_partitions(instance, family, [_Found.of(scene) for scene in registered])
    return [scene.id for scene in registered]


def family_at(href: str) -> SceneFamily:
    """Whose scenes are at a place: Planet's in a folder (`s3://` with a slash at its end); else it is a STAC item."""
    is_folder = href.endswith("/") or ("://" not in href and Path(href).expanduser().is_dir())
    return PLANET if is_folder else SENTINEL2


def register_places(instance: dg.DagsterInstance, scenes: SceneRegistry, hrefs: list[str]) -> dict[str, list[str]]:
    """Register what is at some places, each with its family; family -> scene ids.

    Raises:
        SceneError: naming what cannot be used; then nothing of that family is registered.
    """
    by_family: dict[str, list[str]] = {}
    for href in hrefs:
        by_family.setdefault(family_at(href).name, []).append(href)
    return {name: register_items(instance, scenes, FAMILIES[name], places) for name, places in by_family.items()}


@dataclass(frozen=True, slots=True, order=True)
class _Found:
    """A scene in the order in which scenes are registered.

    Backfills batch partitions in that order: neighbours in space and time belong together.
    """

    tile: str
    time: dt.datetime
    id: str

    @classmethod
    def of(cls, scene: "Scene") -> "_Found":
        return cls(scene.tile or "", scene.datetime, scene.id)


@dataclass
class Registered:
    """What became of the items of a catalog.

    Attributes:
        scene_ids: of all scenes, by tile and time.
        new: those that were not registered before, in the same order.
        unusable: id -> why its item cannot be used.
    """

    scene_ids: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)

    @property
    def known(self) -> int:
        """How many were registered before."""
        return len(self.scene_ids) - len(self.new)


def register_found(
    instance: dg.DagsterInstance,
    scenes: SceneRegistry,
    family: SceneFamily,
    items: Iterable[dict[str, Any]],
    *,
    dry_run: bool = False,
    seen: "Callable[[Scene, bool], None]" = lambda scene, is_new: None,
    log: Callable[[str], None] = lambda text: None,
) -> Registered:
    """Keep STAC items as they come, many at a time, then add the partitions of those that are new.

    A scene that is registered keeps its item: it says what was fetched. Partitions come last, so that each has an item;
    what a broken run has kept is taken up by the next one. Of the items, a few hundred are in memory.

    Args:
        instance: Dagster's.
        scenes: where items are kept.
        family: of the scenes.
        items: may come slowly; what it raises is passed on, and no partition is added then.
        dry_run: only look; nothing is kept.
        seen: called with each scene, and whether it is new.
        log: told how far it is.
    """
    source = family.load_source()
    result = Registered()
    found: dict[str, _Found] = {}
    new: set[str] = set()

    def parse(batch: list[dict[str, Any]]) -> "Iterator[Scene]":
        for item in batch:
            try:
                scene = source.parse(item)
            except SceneError as error:
                result.unusable[str(item.get("id"))] = str(error)
            else:
                yield scene

    stream = iter(items)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="items") as pool:
        while batch := list(itertools.islice(stream, _BATCH)):
            parsed = {scene.id: scene for scene in parse(batch) if scene.id not in found}
            unknown = parsed.keys() - registered(instance, family.partitions, parsed)
            if not dry_run:
                keep = partial(_keep, scenes, family, unknown)
                deque(pool.map(keep, parsed.values()), maxlen=0)  # raises what keeping an item has raised
            found |= {scene.id: _Found.of(scene) for scene in parsed.values()}
            new |= unknown
            for scene in parsed.values():
                seen(scene, scene.id in unknown)
    ordered = sorted(found.values())
    result.scene_ids = [scene.id for scene in ordered]
    result.new = [scene_id for scene_id in result.scene_ids if scene_id in new]
    if not dry_run:
        _add_partitions(instance, family, [scene for scene in ordered if scene.id in new], log)
    return result


def _keep(scenes: SceneRegistry, family: SceneFamily, unknown: set[str], scene: "Scene") -> None:
    # Somebody may have added a partition by hand, which then has no item.
    if scene.id in unknown or not scenes.is_kept(family, scene.id):
        scenes.keep(family, scene)


def _add_partitions(
    instance: dg.DagsterInstance,
    family: SceneFamily,
    found: Iterable[_Found],
    log: Callable[[str], None] = lambda text: None,
) -> None:
    ids = [scene.id for scene in sorted(found)]
    register(instance, family.partitions, ids, lambda done: log(f"{done} of {len(ids)} scenes registered"))
