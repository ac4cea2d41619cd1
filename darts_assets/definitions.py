"""The front door: everything Dagster needs to know, put together from settings."""

from typing import Any

import dagster as dg

from darts_assets.orchestration import checks, compute, jobs
from darts_assets.orchestration.assets import build_chain
from darts_assets.orchestration.assets.auxiliary import arcticdem_chunk, tcvis_chunk
from darts_assets.orchestration.io_managers import TileIOManager, VectorIOManager
from darts_assets.orchestration.partitions import SENTINEL2
from darts_assets.orchestration.resources import AuxiliaryCubes, Models, RawScenes, SceneRegistry, SourceAccess, Store
from darts_assets.settings import Settings, settings


def build_defs(current: Settings | None = None, **resources: Any) -> dg.Definitions:
    """The code location for `current` settings (default: the environment's); `resources` replace ours by key."""
    current = current or settings()
    store = Store(url=current.root.url, endpoint=current.store_endpoint, region=current.store_region)
    access = SourceAccess(
        endpoint=current.source_endpoint, region=current.source_region, anonymous=current.source_anonymous
    )
    sentinel2 = build_chain(SENTINEL2)
    defaults: dict[str, Any] = {
        "store": store,
        "scenes": SceneRegistry(store=store, access=access),
        "raw": RawScenes(store=store, access=access, enabled=current.raw_store),
        "cubes": AuxiliaryCubes(
            store=store,
            layers=list(current.auxiliary),
            arcticdem=current.arcticdem,
            arcticdem_resolution=current.arcticdem_resolution,
            tcvis=current.tcvis,
            offline=current.offline,
        ),
        "models": Models(checkpoints=list(current.models)),
        "tiles": TileIOManager(store=store),
        "vectors": VectorIOManager(store=store),
    }
    return dg.Definitions(
        assets=[arcticdem_chunk, tcvis_chunk, *sentinel2],
        asset_checks=checks.build_checks(SENTINEL2),
        jobs=jobs.build_jobs(SENTINEL2),
        resources={**defaults, **resources},
        executor=compute.executor(current.executor),
    )
