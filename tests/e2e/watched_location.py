"""The code location of `test_sensor.py`: ours, but that its sensors look every second."""

import dagster as dg

from darts_assets.definitions import build_defs
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.scene_discovery.planet_sensor import build_planet_sensors
from darts_assets.orchestration.scene_discovery.sentinel2_sensor import build_sensors


def _impatient(ours: dg.Definitions) -> dg.Definitions:
    return dg.Definitions(
        assets=ours.assets,
        asset_checks=ours.asset_checks,
        jobs=ours.jobs,
        sensors=[*build_sensors(SENTINEL2, interval=1), *build_planet_sensors(interval=1)],
        resources=ours.resources,
        executor=ours.executor,
    )


defs = _impatient(build_defs())
