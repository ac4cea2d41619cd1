"""What sensors have in common: scenes are registered and requested, none twice, and ticks end in time."""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg
from pydantic import BaseModel, ValidationError

from darts_assets.orchestration.core.deadline import Call, T
from darts_assets.orchestration.core.dynamic_partitions import materialized, with_runs
from darts_assets.orchestration.core.partitions import STEPS, SceneFamily
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.registration import register_found

if TYPE_CHECKING:
    from darts_assets.orchestration.core.dagster_compat import RawSensorEvaluationFunction

C = TypeVar("C", bound=BaseModel)


@dataclass(frozen=True)
class Wanted:
    """A scene, and the run that it needs.

    Attributes:
        item: its STAC item.
        tags: of the run.
    """

    item: dict[str, Any]
    tags: dict[str, str]


def sensor_of(
    family: SceneFamily, name: str, interval: int, description: str
) -> "Callable[[RawSensorEvaluationFunction], dg.SensorDefinition]":
    """A sensor that requests runs of a family's chain, at most every `interval` seconds, once it is turned on."""
    return dg.sensor(
        name=name,
        job_name=f"{family.name}_chain",
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=description,
    )


def before(context: dg.SensorEvaluationContext, kind: type[C], otherwise: str) -> C:
    """The cursor of the last tick; a new one, with `otherwise` as a warning, where it is none of this sensor."""
    try:
        return kind.model_validate_json(context.cursor or "{}")
    except ValidationError:
        context.log.warning(f"{otherwise}: the cursor is none of this sensor: {context.cursor}")
        return kind()


def request(
    context: dg.SensorEvaluationContext,
    scenes: SceneRegistry,
    family: SceneFamily,
    wanted: Mapping[str, Wanted],
    said: Sequence[str],
    cursor: BaseModel,
) -> dg.SensorResult:
    """Register the scenes of a tick and ask for their runs, whose keys are the scenes' ids.

    Args:
        context: of the tick.
        scenes: where items are kept.
        family: of the scenes.
        wanted: by their ids.
        said: what the tick has seen, for people.
        cursor: for the next tick.
    """
    for sentence in said:
        context.log.info(sentence)
    registered = register_found(context.instance, scenes, family, [each.item for each in wanted.values()])
    runs = [dg.RunRequest(name, partition_key=name, tags=wanted[name].tags) for name in registered.scene_ids]
    return dg.SensorResult(
        run_requests=runs, skip_reason=None if runs else "; ".join(said), cursor=cursor.model_dump_json()
    )


def taken(instance: dg.DagsterInstance, family: SceneFamily, scenes: Collection[str]) -> set[str]:
    """Those of `scenes` that have a run of their own, or products."""
    return with_runs(instance, scenes) | materialized(instance, family.key(STEPS[-1]), scenes)


def pages(items: Iterator[T], size: int, call: "Call") -> Iterator[list[T]]:
    """Items as they come, many at a time; what came before an error, or before the time was up, comes before that.

    Raises:
        TimeoutError: when the time is up.
        Exception: what `items` raises.
    """
    more = True
    while more:
        page: list[T] = []
        error: Exception | None = None
        try:
            call(partial(_extend, page, items, size))
        except Exception as raised:
            error = raised
        came = list(page)  # after a timeout, the thread that fills the page still runs
        more = len(came) == size
        if came:
            yield came
        if error is not None:
            raise error


def _extend(page: list[T], items: Iterator[T], size: int) -> None:
    for item in itertools.islice(items, size):
        page.append(item)  # at once: the time may be up before the next one comes
