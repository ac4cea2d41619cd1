"""Common parts of the sensors: cursors, run requests without duplicates, and paged reading within a time limit."""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg
from pydantic import BaseModel

from darts_assets.orchestration.core.deadline import Call, T
from darts_assets.orchestration.core.dynamic_partitions import SCENE_TAG, materialized, with_runs
from darts_assets.orchestration.core.partitions import STEPS, SceneFamily
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.scene_discovery.registration import register_stac_items
from darts_assets.redaction import shown

if TYPE_CHECKING:
    from darts_assets.orchestration.core.dagster_compat import RawSensorEvaluationFunction

C = TypeVar("C", bound=BaseModel)

RETRY = "retrying in the next tick"


@dataclass(frozen=True)
class SceneRequest:
    """A scene to run the chain for.

    Attributes:
        item: the scene's STAC item.
        tags: tags of the run.
    """

    item: dict[str, Any]
    tags: dict[str, str]


def chain_sensor(
    family: SceneFamily, name: str, interval: int, description: str
) -> "Callable[[RawSensorEvaluationFunction], dg.SensorDefinition]":
    """Decorator of a sensor, off by default, that requests runs of a chain at most every `interval` seconds."""
    return dg.sensor(
        name=name,
        job_name=f"{family.name}_chain",
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=description,
    )


def read_cursor(context: dg.SensorEvaluationContext, kind: type[C], consequence: str) -> C:
    """The cursor of the last tick; a new one, with a warning that ends with `consequence`, if it is unreadable."""
    try:
        return kind.model_validate_json(context.cursor or "{}")
    except ValueError:  # also of text that is not Unicode
        context.log.warning(f"the cursor is not one of this sensor ({context.cursor!r:.1000}): {consequence}")
        return kind()


def request_runs(
    context: dg.SensorEvaluationContext,
    scenes: SceneRegistry,
    family: SceneFamily,
    requests: Mapping[str, SceneRequest],
    report: Sequence[str],
    cursor: BaseModel,
) -> dg.SensorResult:
    """Register scenes and request their runs; run keys are the scene ids.

    Args:
        context: the tick's context.
        scenes: the registry, which stores the items.
        family: the family of the scenes.
        requests: scene id -> request.
        report: sentences for the log, and for the tick's skip reason if there are no requests.
        cursor: the cursor for the next tick.
    """
    report = [shown(sentence) for sentence in report]
    for sentence in report:
        context.log.info(sentence)
    labels: dict[str, str] = {}
    registered = register_stac_items(
        context.instance, scenes, family, [each.item for each in requests.values()],
        on_scene=lambda scene, is_new: labels.update({scene.id: scene.label}),
    )  # fmt: skip
    runs = [
        dg.RunRequest(name, partition_key=name, tags={**requests[name].tags, SCENE_TAG: labels.get(name, name)})
        for name in registered.scene_ids
    ]
    return dg.SensorResult(
        run_requests=runs, skip_reason=None if runs else "; ".join(report), cursor=cursor.model_dump_json()
    )


def processed(instance: dg.DagsterInstance, family: SceneFamily, scene_ids: Collection[str]) -> set[str]:
    """The scenes that have a run of their own, or products."""
    return with_runs(instance, scene_ids) | materialized(instance, family.key(STEPS[-1]), scene_ids)


def pages(items: Iterator[T], size: int, call: "Call") -> Iterator[list[T]]:
    """Pages of at most `size` items; items read before an error or the time limit are yielded before it is raised.

    Raises:
        TimeoutError: when the time is up.
        Exception: errors of `items`.
    """
    more = True
    while more:
        page: list[T] = []
        error: Exception | None = None
        try:
            call(partial(_extend, page, items, size))
        except Exception as raised:
            error = raised
        received = list(page)  # a copy: after a timeout, the thread still appends to the page
        more = len(received) == size
        if received:
            yield received
        if error is not None:
            raise error


def _extend(page: list[T], items: Iterator[T], size: int) -> None:
    for item in itertools.islice(items, size):
        page.append(item)  # one by one, because the time limit may interrupt the page
