"""Which steps of which scenes are missing, by Dagster's partition status."""

from collections.abc import Collection, Sequence

import dagster as dg

from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.dagster_compat import finished_partitions
from darts_assets.orchestration.core.partitions import STEPS, SceneFamily
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.tile_retention import released_inputs

Plan = dict[str, tuple[str, ...]]
"""Scene -> its steps to run, in the order of the chain."""


def steps_through(last: str) -> tuple[str, ...]:
    """The steps of the chain up to one of them; SettingsError if there is no such step."""
    if last not in STEPS:
        raise SettingsError(f"{last!r} is not a step; expected one of {', '.join(STEPS)}")
    return STEPS[: STEPS.index(last) + 1]


def missing_steps(
    instance: dg.DagsterInstance,
    root: StoreLocation,
    family: SceneFamily,
    scenes: Sequence[str],
    steps: Collection[str],
) -> Plan:
    """The steps of each scene that are missing or failed, and those after them; scenes without any are left out.

    Steps whose tiles were released run again if a later step needs them.

    Args:
        instance: Dagster's instance.
        root: root of the store.
        family: family of the scenes.
        scenes: ids of the scenes.
        steps: the steps to look at, in the order of the chain.

    Raises:
        StoreError: if a pointer cannot be read.
    """
    finished = {step: finished_partitions(instance, family.key(step), family.partitions) for step in steps}
    plan = {}
    for scene in scenes:
        missing = [step for step in steps if scene not in finished[step]]
        if missing:
            plan[scene] = _with_released(root, family, scene, _with_later(missing, steps))
    return plan


def _with_released(root: StoreLocation, family: SceneFamily, scene: str, steps: tuple[str, ...]) -> tuple[str, ...]:
    if steps[0] == STEPS[0]:
        return steps
    released = {name for step in steps for name in released_inputs(root, family.name, scene, step)}
    return tuple(step for step in STEPS if step in released or step in steps)


def _with_later(missing: Sequence[str], steps: Collection[str]) -> tuple[str, ...]:
    """The missing steps, and those that use what they make."""
    first = STEPS.index(missing[0])
    return tuple(step for step in steps if STEPS.index(step) >= first)
