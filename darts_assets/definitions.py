"""Dagster definitions, built from settings."""

from typing import Any

import dagster as dg

from darts_assets.orchestration import jobs
from darts_assets.orchestration.auxiliary.assets import build_chunks
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.catalog.assets import build_catalog
from darts_assets.orchestration.catalog.dataset_assets import build_dataset
from darts_assets.orchestration.core.executor_config import executor_config
from darts_assets.orchestration.core.executors import executor
from darts_assets.orchestration.core.io_managers import StepValueIOManager, TileIOManager, VectorIOManager
from darts_assets.orchestration.core.partitions import PLANET, SENTINEL2
from darts_assets.orchestration.core.resources import Models, Room, SceneCatalogs, SourceAccess, Store
from darts_assets.orchestration.core.scene_store import RawScenes, SceneRegistry
from darts_assets.orchestration.inventory.accuracy_asset import build_accuracy
from darts_assets.orchestration.inventory.area_assets import build_area_assets
from darts_assets.orchestration.inventory.assets import build_inventory
from darts_assets.orchestration.inventory.chips_asset import inventory_chips
from darts_assets.orchestration.inventory.review_report import build_review_report
from darts_assets.orchestration.inventory.sensor_check import build_sensor_check
from darts_assets.orchestration.run_monitoring.console_logger import console
from darts_assets.orchestration.run_monitoring.failure_notifier import build_failure_sensor, build_notifier
from darts_assets.orchestration.run_monitoring.timings_asset import run_timings
from darts_assets.orchestration.scene_chain import build_chain, build_checks
from darts_assets.orchestration.scene_discovery.planet_selection import DeliveryFolders
from darts_assets.orchestration.scene_discovery.planet_sensor import build_planet_sensors
from darts_assets.orchestration.scene_discovery.sentinel2_sensor import build_sensors
from darts_assets.orchestration.scene_discovery.watched_areas import Watch
from darts_assets.orchestration.schedules import build_schedules
from darts_assets.orchestration.training.dataset import build_training_data
from darts_assets.orchestration.training.dataset_check import build_dataset_check
from darts_assets.orchestration.training.folds import build_cross_validation
from darts_assets.orchestration.training.images import build_training_images
from darts_assets.orchestration.training.labelled_scenes import build_training_scenes
from darts_assets.orchestration.training.matches import build_training_matched
from darts_assets.orchestration.training.model import build_training
from darts_assets.orchestration.training.polygon_samples import build_polygon_samples
from darts_assets.orchestration.training.reviewed import build_training_reviewed
from darts_assets.orchestration.training.study import build_tuning
from darts_assets.redaction import hidden, link_base
from darts_assets.settings import Settings, settings
from darts_assets.stores.location import StoreLocation


def _endpoint_of(room: str, location: StoreLocation, current: Settings) -> str | None:
    own = getattr(current, f"{room}_root_endpoint")
    return hidden(location.endpoint, f"DARTS_{room.upper()}_ROOT_ENDPOINT" if own else "DARTS_STORE_ENDPOINT")


def build_defs(current: Settings | None = None, **resources: Any) -> dg.Definitions:
    """The code location for `current` settings (default: environment and file); `resources` override ours by key.

    Raises:
        SettingsError: for unknown parameters and invalid values of steps in the settings file.
    """
    current = current or settings()
    store = Store(
        url=current.root.url,
        endpoint=hidden(current.store_endpoint, "DARTS_STORE_ENDPOINT"),
        region=current.store_region,
        rooms={
            name: Room(url=room.url, endpoint=_endpoint_of(name, room, current), region=room.region)
            for name, room in current.root.rooms
        },
        keep_replaced_hours=current.keep_replaced_hours,
        files_url=link_base(current.files_url) if current.files_url else None,
        keep_tiles=current.keep_tiles,
    )
    access = SourceAccess(
        endpoint=hidden(current.source_endpoint, "DARTS_SOURCE_ENDPOINT"),
        region=current.source_region,
        anonymous=current.source_anonymous,
        profile=current.source_profile,
        connections=current.source_connections,
        token_service=hidden(current.planetary_computer_tokens_url, "DARTS_PLANETARY_COMPUTER_TOKENS_URL"),
        earth_engine_project=current.earth_engine_project,
        earth_engine_url=hidden(current.earth_engine_url, "DARTS_EARTH_ENGINE_URL"),
        earth_engine_key_file=current.earth_engine_key_file,
    )
    sentinel2 = build_chain(SENTINEL2, current.scenes_per_run, current.file)
    planet = build_chain(PLANET, current.scenes_per_run, current.file)
    defaults: dict[str, Any] = {
        "store": store,
        "scenes": SceneRegistry(store=store, access=access),
        "catalogs": SceneCatalogs(
            access=access,
            cdse_url=hidden(current.cdse_url, "DARTS_CDSE_URL"),
            earth_search_url=hidden(current.earth_search_url, "DARTS_EARTH_SEARCH_URL"),
            planetary_computer_url=hidden(current.planetary_computer_url, "DARTS_PLANETARY_COMPUTER_URL"),
            eopf_url=hidden(current.eopf_url, "DARTS_EOPF_URL"),
            pause=current.catalog_pause,
            keys_are_of_store=not all(place.is_local for place in (current.root, *dict(current.root.rooms).values())),
            offline=current.offline,
        ),
        "raw": RawScenes(store=store, access=access, enabled=current.raw_store, offline=current.offline),
        "cubes": AuxiliaryCubes(
            store=store,
            access=access,
            layers=list(current.auxiliary),
            arcticdem=hidden(current.arcticdem, "DARTS_ARCTICDEM"),
            arcticdem_resolution=current.arcticdem_resolution,
            tcvis=hidden(current.tcvis, "DARTS_TCVIS"),
            offline=current.offline,
        ),
        "models": Models(store=store, checkpoints=[hidden(model, "DARTS_MODELS") for model in current.models]),
        "tiles": TileIOManager(store=store),
        "vectors": VectorIOManager(store=store),
        "step_values": StepValueIOManager(store=store),
        "notifier": build_notifier(current),
        "deliveries": DeliveryFolders(
            access=access,
            folders=[hidden(folder, "DARTS_PLANET") for folder in current.planet_folders],
            offline=current.offline,
        ),
        "watch": Watch(path=hidden(current.watch_file, "DARTS_WATCH")),
    }
    assets = [
        *build_chunks(),
        *sentinel2,
        *planet,
        *build_training_images(),
        *build_training_data(),
        *build_training_matched(),
        *build_training_scenes(),
        *build_polygon_samples(),
        *build_training_reviewed(),
        *build_training(),
        *build_cross_validation(),
        *build_tuning(),
        *build_catalog(current.ui_url),
        *build_inventory(),
        inventory_chips,
        *build_review_report(),
        *build_accuracy(),
        *build_area_assets(),
        *build_dataset(current.file),
        run_timings,
    ]
    return dg.Definitions(
        assets=assets,
        asset_checks=[*build_checks(SENTINEL2), *build_checks(PLANET), *build_sensor_check(), *build_dataset_check()],
        jobs=jobs.build_jobs([SENTINEL2, PLANET], current.file),
        sensors=[
            *build_sensors(SENTINEL2),
            *build_planet_sensors(),
            # A configured notifier is active from the start.
            build_failure_sensor(current.ui_url, running=bool(current.notify_webhook or "notifier" in resources)),
        ],
        schedules=build_schedules(),
        resources={**defaults, **resources},
        loggers={"console": console},
        executor=executor(current.executor, executor_config(current, assets)),
    )
