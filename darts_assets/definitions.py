"""The front door: everything Dagster needs to know, put together from settings."""

from typing import Any

import dagster as dg

from darts_assets.orchestration import checks, jobs
from darts_assets.orchestration.assets import build_chain
from darts_assets.orchestration.assets.catalog import build_catalog
from darts_assets.orchestration.assets.chunks import build_chunks
from darts_assets.orchestration.assets.inventory import build_inventory
from darts_assets.orchestration.assets.run_timings import run_timings
from darts_assets.orchestration.assets.training import build_training
from darts_assets.orchestration.assets.training_data import build_training_data
from darts_assets.orchestration.assets.training_images import build_training_images
from darts_assets.orchestration.assets.training_matched import build_training_matched
from darts_assets.orchestration.auxiliary_cubes import AuxiliaryCubes
from darts_assets.orchestration.executors import executor
from darts_assets.orchestration.io_managers import StepValueIOManager, TileIOManager, VectorIOManager
from darts_assets.orchestration.notify import build_failure_sensor, build_notifier
from darts_assets.orchestration.partitions import PLANET, SENTINEL2
from darts_assets.orchestration.planet_choice import DeliveryFolders
from darts_assets.orchestration.planet_sensor import build_planet_sensors
from darts_assets.orchestration.resources import Models, RawScenes, SceneRegistry, Store
from darts_assets.orchestration.schedules import build_schedules
from darts_assets.orchestration.sensors import build_sensors
from darts_assets.orchestration.source_access import SceneCatalogs, SourceAccess
from darts_assets.orchestration.watched_areas import Watch
from darts_assets.settings import Settings, settings


def build_defs(current: Settings | None = None, **resources: Any) -> dg.Definitions:
    """The code location for `current` settings (default: the environment's); `resources` replace ours by key."""
    current = current or settings()
    store = Store(url=current.root.url, endpoint=current.store_endpoint, region=current.store_region)
    access = SourceAccess(
        endpoint=current.source_endpoint,
        region=current.source_region,
        anonymous=current.source_anonymous,
        profile=current.source_profile,
        connections=current.source_connections,
        earth_engine_project=current.earth_engine_project,
        earth_engine_url=current.earth_engine_url,
        earth_engine_key_file=current.earth_engine_key_file,
    )
    sentinel2 = build_chain(SENTINEL2, current.scenes_per_run)
    planet = build_chain(PLANET, current.scenes_per_run)
    defaults: dict[str, Any] = {
        "store": store,
        "scenes": SceneRegistry(store=store, access=access),
        "catalogs": SceneCatalogs(
            access=access,
            cdse_url=current.cdse_url,
            earth_search_url=current.earth_search_url,
            pause=current.catalog_pause,
            keys_are_of_store=not current.root.is_local,
            offline=current.offline,
        ),
        "raw": RawScenes(store=store, access=access, enabled=current.raw_store, offline=current.offline),
        "cubes": AuxiliaryCubes(
            store=store,
            layers=list(current.auxiliary),
            arcticdem=current.arcticdem,
            arcticdem_resolution=current.arcticdem_resolution,
            tcvis=current.tcvis,
            earth_engine_project=current.earth_engine_project,
            earth_engine_url=current.earth_engine_url,
            earth_engine_key_file=current.earth_engine_key_file,
            offline=current.offline,
        ),
        "models": Models(store=store, checkpoints=list(current.models)),
        "tiles": TileIOManager(store=store),
        "vectors": VectorIOManager(store=store),
        "step_values": StepValueIOManager(store=store),
        "notifier": build_notifier(current),
        "deliveries": DeliveryFolders(access=access, folders=current.planet_folders, offline=current.offline),
        "watch": Watch(path=current.watch_file),
    }
    return dg.Definitions(
        assets=[
            *build_chunks(),
            *sentinel2,
            *planet,
            *build_training_images(),
            *build_training_data(),
            *build_training_matched(),
            *build_training(),
            *build_catalog(),
            *build_inventory(),
            run_timings,
        ],
        asset_checks=[*checks.build_checks(SENTINEL2), *checks.build_checks(PLANET)],
        jobs=jobs.build_jobs([SENTINEL2, PLANET]),
        sensors=[
            *build_sensors(SENTINEL2),
            *build_planet_sensors(),
            # Who names somebody to be told wants them to be told.
            build_failure_sensor(current.ui_url, running=bool(current.notify_webhook or "notifier" in resources)),
        ],
        schedules=build_schedules(),
        resources={**defaults, **resources},
        executor=executor(current.executor, current.k8s_executor),
    )
