"""A sensor for Planet's deliveries: images that have arrived whole are registered, and their chains requested."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field

from darts_assets.errors import DartsError, RasterError, SceneError
from darts_assets.orchestration.core.deadline import Call, in_time
from darts_assets.orchestration.core.partitions import PLANET
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.planet_selection import DeliveryFolders
from darts_assets.orchestration.scene_discovery.sensor_base import Wanted, before, request, sensor_of, taken

if TYPE_CHECKING:
    from darts_assets.sources.planet.deliveries import Delivery

FOLDER_TAG = "darts/folder"

_INTERVAL = 5 * 60  # seconds
_SHOWN = 20
_LONGEST_TAG = 200


class Arriving(BaseModel):
    """The sensor's cursor: of at most so many images, what they looked like in the last tick.

    Attributes:
        version: of this form.
        seen: id -> signature of a delivery that may still grow.
        broken: id -> signature of one that cannot be used as it is; it is looked at again when it has changed.
        turn: number of the folder that comes first in the next tick.
    """

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    seen: dict[str, str] = Field(default_factory=dict)
    broken: dict[str, str] = Field(default_factory=dict)
    turn: int = 0


def build_planet_sensors(interval: int = _INTERVAL) -> list[dg.SensorDefinition]:
    """The sensor of Planet's deliveries; between its ticks lie `interval` seconds at least."""

    @sensor_of(
        PLANET,
        "new_planet_images",
        interval,
        "Registers Planet images that have arrived whole in the folders of DARTS_PLANET, and requests a run of the "
        "chain for each.",
    )
    def new_planet_images(
        context: dg.SensorEvaluationContext, scenes: SceneRegistry, deliveries: DeliveryFolders
    ) -> dg.SensorResult | dg.SkipReason:
        """Request a run for each image that is complete, once.

        It is complete when its manifest, if there is one, is satisfied, nothing of it was written for a while, and no
        file came, went, grew or was written again since the last tick. As with Sentinel-2, images that have a run of
        their own or products are left alone; run keys are the ids.
        """
        if not deliveries.folders:
            return dg.SkipReason("nothing is watched: DARTS_PLANET names no folder")
        try:
            deliveries.check(deliveries.folders)
        except DartsError as error:
            return dg.SkipReason(str(error))
        tick = _Tick(context, deliveries)
        tick.look()
        return request(context, scenes, PLANET, tick.found, tick.said, tick.cursor)

    return [new_planet_images]


@dataclass
class _Tick:
    """One look at the folders.

    Attributes:
        said: for people.
        found: images to request, by their ids.
        cursor: for the next tick.
    """

    context: dg.SensorEvaluationContext
    deliveries: DeliveryFolders
    said: list[str] = field(default_factory=list)
    found: dict[str, Wanted] = field(default_factory=dict)
    cursor: Arriving = field(default_factory=Arriving)

    def __post_init__(self) -> None:
        self._now = dt.datetime.now(dt.UTC)
        self._before = before(self.context, Arriving, "images wait anew")

    def look(self) -> None:
        """Find what is new, and see which of it has arrived whole."""
        from darts_assets.sources.planet.deliveries import without_twins

        with in_time(self.deliveries.seconds) as call:
            found, problems = self._find(call)
            known = taken(self.context.instance, PLANET, {each.id.id for each in found})
            new = without_twins((each for each in found if each.id.id not in known), problems)
            # Those that rest the longest first: no number of new ones keeps them waiting.
            counts = self._sort(sorted(new, key=lambda delivery: (delivery.modified, delivery.id.id)), call)
        summary = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        self.said = [f"{len(found)} images: {summary or 'none is new'}", *problems[:_SHOWN], *more, *self.said]

    def _find(self, call: Call) -> "tuple[list[Delivery], list[str]]":
        """The images in all folders, as far as time allows, beginning with the one whose turn it is; and problems."""
        from darts_assets.sources.planet.deliveries import find_deliveries

        folders, first = self.deliveries.folders, self._before.turn % len(self.deliveries.folders)
        found: list[Delivery] = []
        problems: list[str] = []
        for number in (*range(first, len(folders)), *range(first)):
            folder = folders[number]
            try:
                below = call(partial(find_deliveries, folder, self.deliveries.s3))
            except TimeoutError:
                self.cursor.turn = number
                problems.append(f"{folder}: {self.deliveries.seconds:g} s were too short; it comes first next time")
                # What waits there must not begin to wait anew.
                self.cursor.seen |= self._before.seen
                self.cursor.broken |= self._before.broken
                break
            except DartsError as error:
                problems.append(f"{error}; it is tried again in the next tick")
                continue
            found += below.images
            problems += below.problems
        return found, problems

    def _sort(self, new: "Sequence[Delivery]", call: Call) -> Mapping[str, int]:
        """Take up what is complete, and remember the others; how many are what."""
        seen: dict[str, str] = {}
        broken: dict[str, str] = {}
        late = False
        for delivery in new:
            image, signature = delivery.id.id, delivery.signature
            if self._before.broken.get(image) == signature:
                broken[image] = signature
            elif not self._rests(delivery) or late or len(self.found) == self.deliveries.runs:
                seen[image] = signature
            else:
                try:
                    self._take(delivery, call)
                except TimeoutError:
                    seen[image], late = signature, True
                except (SceneError, RasterError) as error:
                    broken[image] = signature
                    self.said.append(str(error))
                except DartsError as error:
                    seen[image] = signature
                    self.said.append(f"{error}; it is tried again in the next tick")
        most = self.deliveries.remembered
        self.cursor.seen = dict([*seen.items(), *self.cursor.seen.items()][:most])
        self.cursor.broken = dict([*broken.items(), *self.cursor.broken.items()][:most])
        return {"complete and requested": len(self.found), "not complete yet": len(seen), "cannot be used": len(broken)}

    def _rests(self, delivery: "Delivery") -> bool:
        """Whether all has arrived, as far as can be told from outside."""
        age = self._now - delivery.modified
        # A time in the future says nothing: another machine's clock.
        just_written = dt.timedelta(0) <= age < dt.timedelta(seconds=self.deliveries.quiet_seconds)
        same = self._before.seen.get(delivery.id.id) == delivery.signature
        return same and not just_written and not delivery.missing

    def _take(self, delivery: "Delivery", call: Call) -> None:
        from darts_assets.sources.planet.delivery_catalog import item_of

        item = call(partial(item_of, delivery, self.deliveries.s3))
        if item is not None:
            self.found[delivery.id.id] = Wanted(item, {FOLDER_TAG: delivery.folder[-_LONGEST_TAG:]})
