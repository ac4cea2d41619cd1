"""Sensor that registers Planet images whose delivery is complete and requests their chains."""

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
from darts_assets.orchestration.scene_discovery.sensor_base import (
    RETRY,
    SceneRequest,
    chain_sensor,
    processed,
    read_cursor,
    request_runs,
)

if TYPE_CHECKING:
    from darts_assets.sources.planet.deliveries import Delivery

FOLDER_TAG = "darts/folder"

_INTERVAL = 5 * 60  # seconds
_SHOWN = 20
_LONGEST_TAG = 200


class Arriving(BaseModel):
    """The sensor's cursor: the state of deliveries at the last tick, of a limited number of images.

    Attributes:
        version: version of this format.
        seen: id -> signature of a delivery that may still be incomplete.
        broken: id -> signature of an unusable delivery; it is read again when its signature changes.
        turn: index of the folder that the next tick lists first.
    """

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    seen: dict[str, str] = Field(default_factory=dict)
    broken: dict[str, str] = Field(default_factory=dict)
    turn: int = 0


def build_planet_sensors(interval: int = _INTERVAL) -> list[dg.SensorDefinition]:
    """The sensor of Planet's deliveries, evaluated at most every `interval` seconds."""

    @chain_sensor(
        PLANET,
        "new_planet_images",
        interval,
        "Registers Planet images whose delivery to the folders of DARTS_PLANET is complete, and requests a run of the "
        "chain for each.",
    )
    def new_planet_images(
        context: dg.SensorEvaluationContext, scenes: SceneRegistry, deliveries: DeliveryFolders
    ) -> dg.SensorResult | dg.SkipReason:
        """Request one run for each complete image.

        A delivery is complete if it satisfies its manifest (if any), its files are older than `quiet_seconds`, and none
        was added, removed or changed since the last tick. As with Sentinel-2, images that have a run of their own or
        products are skipped; run keys are the ids.
        """
        if not deliveries.folders:
            return dg.SkipReason("No folders are watched: set DARTS_PLANET")
        try:
            deliveries.check(deliveries.folders)
        except DartsError as error:
            return dg.SkipReason(str(error))
        tick = _Tick(context, deliveries)
        tick.search()
        return request_runs(context, scenes, PLANET, tick.requests, tick.report, tick.cursor)

    return [new_planet_images]


@dataclass
class _Tick:
    """One search of the folders.

    Attributes:
        report: sentences for the log.
        requests: image id -> request.
        cursor: the cursor for the next tick.
    """

    context: dg.SensorEvaluationContext
    deliveries: DeliveryFolders
    report: list[str] = field(default_factory=list)
    requests: dict[str, SceneRequest] = field(default_factory=dict)
    cursor: Arriving = field(default_factory=Arriving)

    def __post_init__(self) -> None:
        self._now = dt.datetime.now(dt.UTC)
        self._last = read_cursor(self.context, Arriving, "all images wait for another tick")

    def search(self) -> None:
        """List the folders, and request the new images that are complete."""
        from darts_assets.sources.planet.deliveries import without_twins

        with in_time(self.deliveries.seconds) as call:
            images, problems = self._list(call)
            known = processed(self.context.instance, PLANET, {each.id.id for each in images})
            new = without_twins((each for each in images if each.id.id not in known), problems)
            # The oldest first, so that no number of new deliveries delays them.
            counts = self._sort(sorted(new, key=lambda delivery: (delivery.modified, delivery.id.id)), call)
        summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        self.report = [f"{len(images)} images: {summary or 'none new'}", *problems[:_SHOWN], *more, *self.report]

    def _list(self, call: Call) -> "tuple[list[Delivery], list[str]]":
        """The images in the folders, as far as the time limit permits, and problems."""
        from darts_assets.sources.planet.deliveries import find_deliveries

        folders, first = self.deliveries.folders, self._last.turn % len(self.deliveries.folders)
        images: list[Delivery] = []
        problems: list[str] = []
        for number in (*range(first, len(folders)), *range(first)):
            folder = folders[number]
            try:
                listing = call(partial(find_deliveries, folder, self.deliveries.s3))
            except TimeoutError:
                self.cursor.turn = number
                problems.append(f"{folder}: timed out after {self.deliveries.seconds:g} s; next tick starts here")
                # Images in unread folders keep their state.
                self.cursor.seen |= self._last.seen
                self.cursor.broken |= self._last.broken
                break
            except DartsError as error:
                problems.append(f"{error}; {RETRY}")
                continue
            images += listing.images
            problems += listing.problems
        return images, problems

    def _sort(self, new: "Sequence[Delivery]", call: Call) -> Mapping[str, int]:
        """Request the complete images and add the others to the cursor; returns the number of images by state."""
        seen: dict[str, str] = {}
        broken: dict[str, str] = {}
        late = False
        for delivery in new:
            image, signature = delivery.id.id, delivery.signature
            if self._last.broken.get(image) == signature:
                broken[image] = signature
            elif not self._is_complete(delivery) or late or len(self.requests) == self.deliveries.runs:
                seen[image] = signature
            else:
                try:
                    self._request(delivery, call)
                except TimeoutError:
                    seen[image], late = signature, True
                except (SceneError, RasterError) as error:
                    broken[image] = signature
                    self.report.append(str(error))
                except DartsError as error:
                    seen[image] = signature
                    self.report.append(f"{error}; {RETRY}")
        most = self.deliveries.remembered
        self.cursor.seen = dict([*seen.items(), *self.cursor.seen.items()][:most])
        self.cursor.broken = dict([*broken.items(), *self.cursor.broken.items()][:most])
        return {"complete and requested": len(self.requests), "incomplete": len(seen), "unusable": len(broken)}

    def _is_complete(self, delivery: "Delivery") -> bool:
        age = self._now - delivery.modified
        # A modification time in the future comes from another clock and is ignored.
        just_written = dt.timedelta(0) <= age < dt.timedelta(seconds=self.deliveries.quiet_seconds)
        unchanged = self._last.seen.get(delivery.id.id) == delivery.signature
        return unchanged and not just_written and not delivery.missing

    def _request(self, delivery: "Delivery", call: Call) -> None:
        from darts_assets.sources.planet.delivery_catalog import item_of

        item = call(partial(item_of, delivery, self.deliveries.s3))
        if item is not None:
            self.requests[delivery.id.id] = SceneRequest(item, {FOLDER_TAG: delivery.folder[-_LONGEST_TAG:]})
