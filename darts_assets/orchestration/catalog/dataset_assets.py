"""Assets `dataset/level1`, `level2`, `coverage` and `release`: the data set that scientists publish."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.dataset.release_parameters import CoverageParameters, ReleaseParameters
from darts_assets.orchestration.catalog.assets import DETECTIONS, STAC, CatalogArguments
from darts_assets.orchestration.core.error_handling import StepConfig, domain_call
from darts_assets.orchestration.core.metadata import materialize_result, picture, provenance
from darts_assets.orchestration.core.partitions import OWNER
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.step_defaults import StepDefaults
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.inventory.assets import GROUP as INVENTORY
from darts_assets.orchestration.inventory.assets import RTS, SLUMPS
from darts_assets.settings_file import NO_FILE, SettingsFile
from darts_assets.stores.latest import LATEST

if TYPE_CHECKING:
    import geopandas as gpd

    from darts_assets.dataset.dataset_store import YearsUpdate
    from darts_assets.stores.publish import Place

CODE_VERSION = "1"
GROUP = "dataset"
LEVEL1, LEVEL2, COVERAGE, RELEASE = (dg.AssetKey([GROUP, name]) for name in ("level1", "level2", "coverage", "release"))


class CoverageConfig(StepConfig, CoverageParameters):
    """How coverage is computed."""


class ReleaseConfig(StepConfig, ReleaseParameters):
    """What a release contains, and who publishes it."""


def build_dataset(file: SettingsFile = NO_FILE) -> list[dg.AssetsDefinition]:
    """The assets of the data set; the table `release` of the settings file has defaults of the release."""
    return [_level1, _level2, _coverage, _build_release(file)]


def _dataset_asset(key: dg.AssetKey) -> CatalogArguments:
    return {
        "key": key, "group_name": GROUP, "owners": [OWNER], "code_version": CODE_VERSION, "pool": "catalog",
        "op_tags": op_tags(INVENTORY),  # they hold the sites of all years
    }  # fmt: skip


@dg.asset(
    **_dataset_asset(LEVEL1),
    kinds={"geoparquet"},
    deps=[DETECTIONS, SLUMPS],
    description="Level 1 of the data set: the detections that form the sites of the inventory, one row per object and "
    "scene, a file per year. Only changed years are written.",
)
@measured
def _level1(context: dg.AssetExecutionContext, store: Store) -> dg.MaterializeResult[None]:
    from darts_assets.dataset.dataset_store import update_level1

    with domain_call(context.log):
        place = store.place(GROUP, "level1")
        update = update_level1(store.root, place)
    return _of_years(place, update, provenance(CODE_VERSION, {}, **_by_year(update)))


@dg.asset(
    **_dataset_asset(LEVEL2),
    kinds={"geoparquet"},
    deps=[SLUMPS],
    description="Level 2 of the data set: the sites of all years, one row per slump and year.",
)
@measured
def _level2(context: dg.AssetExecutionContext, store: Store) -> dg.MaterializeResult[None]:
    from darts_assets.dataset.dataset_store import update_level2
    from darts_assets.stores.store_layout import slumps_place

    with domain_call(context.log):
        made_from = slumps_place(store.root).require().metadata["provenance"]["data_version"]
        facts, place = provenance(CODE_VERSION, {}, slumps=made_from), store.place(GROUP, "level2")
        manifest, rows = update_level2(store.root, place, {"provenance": facts})
    metadata = {
        "path": dg.MetadataValue.path(place.location.child(LATEST).url),
        "files": list(manifest.contents),
        "dagster/row_count": rows,
    }
    return materialize_result(metadata, facts)


@dg.asset(
    **_dataset_asset(COVERAGE),
    kinds={"geoparquet", "geotiff"},
    deps=[SLUMPS, dg.AssetDep(RTS, partition_mapping=dg.AllPartitionMapping())],
    description="Coverage of the data set: on how many days of each year a place was seen clear, and the footprints of "
    "the images. Only changed years are written.",
)
@measured
def _coverage(context: dg.AssetExecutionContext, config: CoverageConfig, store: Store) -> dg.MaterializeResult[None]:
    from darts_assets.dataset.dataset_store import update_coverage
    from darts_assets.orchestration.inventory.published_polygons import StoredPolygons, records_of

    def areas_of(scenes: "gpd.GeoDataFrame") -> StoredPolygons:
        return StoredPolygons(store, records_of(scenes))

    with domain_call(context.log):
        place = store.place(GROUP, "coverage")
        update = update_coverage(store.root, place, areas_of, config.cell_m)
    return _of_years(place, update, provenance(CODE_VERSION, config.model_dump(), **_by_year(update)))


def _build_release(file: SettingsFile) -> dg.AssetsDefinition:
    """The asset `dataset/release`."""

    @dg.asset(
        **_dataset_asset(RELEASE),
        kinds={"geopackage", "geoparquet", "stac"},
        deps=[LEVEL1, LEVEL2, COVERAGE, SLUMPS, STAC],
        description="A release of the data set: a folder for a journal or a repository, with layers, documents and "
        "checksums. A published version does not change.",
    )
    @measured
    @StepDefaults("", file).configure("release")
    def release(context: dg.AssetExecutionContext, config: ReleaseConfig, store: Store) -> dg.MaterializeResult[None]:
        from darts_assets.dataset.release import build_release, publish_release, read_inputs
        from darts_assets.maps import footprint_map

        with domain_call(context.log), tempfile.TemporaryDirectory() as folder:
            inputs = read_inputs(store.root, config)
            facts = build_release(Path(folder), inputs, config)
            made_from = provenance(CODE_VERSION, config.model_dump(), **inputs.versions)
            place = store.place(GROUP, "release", config.version)
            manifest, is_new = publish_release(place, Path(folder), {"provenance": made_from})
        context.log.info(f"release {config.version}: {'published' if is_new else 'unchanged'}, {dict(facts.counts)}")
        metadata = {
            "Images": picture(footprint_map([(shape, 1) for shape in inputs.images.geometry])),
            "path": dg.MetadataValue.path(place.location.child(LATEST).url),
            "files": list(manifest.contents),
            "is_new": is_new,
            "years": list(facts.years),
            **facts.counts,
            "models": list(facts.models),
        }
        return materialize_result(metadata, made_from)

    return release


def _by_year(update: "YearsUpdate") -> dict[str, str]:
    return {str(year): version for year, version in update.versions.items()}


def _of_years(place: "Place", update: "YearsUpdate", facts: dict[str, Any]) -> dg.MaterializeResult[None]:
    metadata = {
        "path": dg.MetadataValue.path(place.location.child(LATEST).url),
        "files": sorted(update.manifest.contents),
        "years": sorted(update.versions),
        "years_written": sorted(update.made),
    }
    return materialize_result(metadata, facts)
