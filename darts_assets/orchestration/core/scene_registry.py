"""STAC items of registered scenes, kept in the store: `scenes/<family>/<scene>.json`."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import dagster as dg
import obstore
from dagster import ResourceDependency

from darts_assets.errors import SceneError
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.source_resources import SourceAccess
from darts_assets.stores.location import StoreLocation

if TYPE_CHECKING:
    from obstore.store import LocalStore, S3Store

    from darts_assets.orchestration.core.partitions import SceneFamily
    from darts_assets.scene import Scene


class SceneRegistry(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The items of registered scenes, kept so that a run can be repeated: `scenes/<family>/<scene>.json`."""

    store: ResourceDependency[Store]
    access: ResourceDependency[SourceAccess]

    def register(self, family: "SceneFamily", hrefs: Sequence[str]) -> "list[Scene]":
        """Read, parse and keep the items at some places; nothing is kept unless all can be understood.

        Raises:
            SceneError: naming each item that cannot be used.
            SourceUnavailableError: if a service does not answer.
        """
        source = family.load_source()
        scenes, wrong = [], []
        for href in hrefs:
            try:
                scenes += [source.parse(item) for item in source.read(href, self.access.options)]
            except SceneError as error:
                wrong.append(str(error))
        if wrong:
            raise SceneError("; ".join(wrong))
        for scene in scenes:
            self.keep(family, scene)
        return scenes

    def scene(self, family: "SceneFamily", scene_id: str) -> "Scene":
        """A registered scene.

        Raises:
            SceneError: if it was never registered.
        """
        try:
            raw = obstore.get(self._objects(family), f"{scene_id}.json").bytes()
        except FileNotFoundError:
            raise SceneError(
                f"scene {scene_id} has a partition but no item in {self._folder(family)}; register it by its STAC item "
                "(of Planet: by its folder): darts-assets register ITEM.json"
            ) from None
        return family.load_source().parse(json.loads(bytes(raw)))

    def family_of(self, scene_id: str) -> "SceneFamily":
        """The family that a registered scene belongs to; raises SceneError if it was never registered."""
        from darts_assets.orchestration.core.partitions import FAMILIES

        family = next((each for each in FAMILIES.values() if self.is_kept(each, scene_id)), None)
        if family is None:
            raise SceneError(f"scene {scene_id} is not registered: there is no item of it in {self.store.root}/scenes")
        return family

    def keep(self, family: "SceneFamily", scene: "Scene") -> None:
        """Keep a scene's item; one that is there is replaced."""
        body = json.dumps(scene.item, indent=1).encode()
        obstore.put(self._objects(family), f"{scene.id}.json", body)

    def is_kept(self, family: "SceneFamily", scene_id: str) -> bool:
        """Whether there is an item of a scene."""
        try:
            obstore.head(self._objects(family), f"{scene_id}.json")
        except FileNotFoundError:
            return False
        return True

    def _objects(self, family: "SceneFamily") -> "LocalStore | S3Store":
        return _opened(self._folder(family))

    def _folder(self, family: "SceneFamily") -> StoreLocation:
        return self.store.root.child("scenes", family.name)


@lru_cache(maxsize=8)
def _opened(folder: StoreLocation) -> "LocalStore | S3Store":
    # One client for thousands of small items, and with it its connections.
    return folder.objects()
