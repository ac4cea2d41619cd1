"""Scenes of one acquisition from several sources: the one that was registered first stands for the others."""

import datetime as dt
import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

import dagster as dg

from darts_assets.errors import SceneError
from darts_assets.orchestration.core.dagster_compat import partitions_like
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.scene_store import SceneRegistry

if TYPE_CHECKING:
    from darts_assets.scene import Scene
    from darts_assets.sources.stac.scene_ids import Acquisition

_SPAN = dt.timedelta(hours=1)


class TwinScenes:
    """Finds the registered scene of the same acquisition.

    Registered ids are compared by tile and day; only the items of those that agree are read.

    Args:
        instance: the Dagster instance.
        scenes: the registry, which has the items.
        family: the family of the scenes.
    """

    def __init__(self, instance: dg.DagsterInstance, scenes: SceneRegistry, family: SceneFamily) -> None:
        self._scenes, self._family = scenes, family
        self._instance = instance
        self._found: dict[tuple[str, dt.date], list[str]] = {}
        self._known: defaultdict[Acquisition, dict[str, tuple[str, str]]] = defaultdict(dict)
        self._read: set[str] = set()

    def twin_of(self, scene: "Scene") -> str | None:
        """Id of the scene of the same acquisition that is registered from another source; None if there is none.

        Two products of one source are never twins: they are reprocessings, or parts of a datatake that was downlinked
        in two parts. Such parts are compared by their datastrips, if both are known.
        """
        from darts_assets.sources.stac.scene_ids import acquisition_of, day_of_id, tile_of_id

        acquired = acquisition_of(scene.item)
        if acquired is None:
            return None
        acquisition, datastrip = acquired
        # A provider's id may have the other day around midnight.
        days = {day_of_id(scene.id), *((scene.datetime + shift).date() for shift in (-_SPAN, _SPAN))}
        tile = tile_of_id(scene.id) or acquisition.tile
        near = [other for day in sorted(filter(None, days)) for other in self._near(tile, day)]
        others = self._known[acquisition]
        if scene.id in near or scene.id in others:
            return None  # it is registered itself
        for other in near:
            if other not in self._read:
                self._read.add(other)
                self._add_registered(other)
        return next(
            (
                other
                for other, (source, strip) in others.items()
                if source != scene.source and (not strip or not datastrip or strip == datastrip)
            ),
            None,
        )

    def add(self, scene: "Scene") -> None:
        """Remember a scene that is being registered."""
        from darts_assets.sources.stac.scene_ids import acquisition_of

        if (acquired := acquisition_of(scene.item)) is not None:
            self._known[acquired[0]][scene.id] = (scene.source, acquired[1])

    def _add_registered(self, scene_id: str) -> None:
        try:
            self.add(self._scenes.scene(self._family, scene_id))
        except SceneError:
            return  # a partition without a usable item

    def _near(self, tile: str, day: dt.date) -> list[str]:
        """Ids of the registered scenes of a tile and a day."""
        from darts_assets.sources.stac.scene_ids import day_of_id, tile_of_id

        if (tile, day) not in self._found:
            # Some providers leave out the zero of a zone below 10.
            pairs = itertools.permutations((tile.lstrip("0"), f"{day:%Y%m%d}"))
            patterns = [f"%{first}%{second}%" for first, second in pairs]
            known = partitions_like(self._instance, str(self._family.partitions.name), patterns)
            self._found[tile, day] = [other for other in known if tile_of_id(other) == tile and day_of_id(other) == day]
        return self._found[tile, day]
