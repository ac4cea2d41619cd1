"""Assets of the inventory: sites per year, merged from the polygons of all scenes, and slumps over the years.

They read the published polygons from the store. A year depends on the polygons of all scenes, since Dagster cannot map
scenes to years.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any, TypedDict

import dagster as dg
from pydantic import Field

from darts_assets.errors import SettingsError
from darts_assets.inventory.site_parameters import FollowParameters, InventoryParameters
from darts_assets.inventory.table_schemas import DESCRIPTIONS, SITE_COLUMNS, SLUMP_COLUMNS
from darts_assets.orchestration.core.error_handling import StepConfig, domain_call
from darts_assets.orchestration.core.metadata import (
    as_metadata,
    data_version,
    image_link,
    materialize_result,
    provenance,
)
from darts_assets.orchestration.core.partitions import FAMILIES, OWNER, SceneFamily, all_scenes
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.review.review_columns import REVIEW_COLUMNS
from darts_assets.stores.latest import LATEST
from darts_assets.stores.publish import Manifest

if TYPE_CHECKING:
    import geopandas as gpd

    from darts_assets.inventory.yearly_inventory import Inventory

CODE_VERSION = "6"

GROUP = "inventory"
RTS = dg.AssetKey([GROUP, "rts"])
SLUMPS = dg.AssetKey([GROUP, "slumps"])

YEARS = dg.TimeWindowPartitionsDefinition(start="2014", fmt="%Y", cron_schedule="0 0 1 1 *", end_offset=1)
"""Years since the first PlanetScope images: `2014`, `2015`, ..."""

_MAX_ROWS = 100
"""Maximum number of rows or names in metadata."""


class ReviewedConfig(StepConfig):
    """What follows from the verdicts of reviewers."""

    publish_rejected: bool = Field(
        False,
        description="Keep sites and slumps with the verdict `no` in the GeoPackages. Parquet files always have them.",
    )


class RtsConfig(ReviewedConfig, InventoryParameters):
    """How detections become sites."""

    families: list[str] = Field(list(FAMILIES), description="Scene families in the inventory: `sentinel2`, `planet`.")
    rebuild: bool = Field(False, description="Compute all sites, not only those that changed.")

    def scene_families(self) -> list[SceneFamily]:
        """The families; raises SettingsError for unknown ones."""
        unknown = set(self.families) - set(FAMILIES)
        if unknown or not self.families:
            raise SettingsError(f"families: one or more of {', '.join(FAMILIES)}, not {', '.join(sorted(unknown))!r}")
        return [family for name, family in FAMILIES.items() if name in self.families]


class SlumpsConfig(ReviewedConfig, FollowParameters):
    """How sites are followed from year to year."""


class InventoryArguments(TypedDict):
    """Arguments of `dg.asset`."""

    key: dg.AssetKey
    group_name: str
    owners: list[str]
    kinds: set[str]
    code_version: str
    op_tags: dict[str, Any]
    pool: str
    metadata: dict[str, Any]


def build_inventory() -> list[dg.AssetsDefinition]:
    """The assets of the inventory."""
    return [_rts, _slumps]


def _inventory_asset(key: dg.AssetKey, columns: dict[str, str]) -> InventoryArguments:
    table = [dg.TableColumn(name, dtype, DESCRIPTIONS[name]) for name, dtype in (columns | REVIEW_COLUMNS).items()]
    schema = dg.TableSchema([*table, dg.TableColumn("geometry", "multipolygon", "outline, EPSG:6931")])
    return {
        "key": key, "group_name": GROUP, "owners": [OWNER], "kinds": {"geoparquet", "geopackage"}, "pool": GROUP,
        "code_version": CODE_VERSION, "op_tags": op_tags(GROUP),
        "metadata": as_metadata({"dagster/column_schema": dg.MetadataValue.table_schema(schema)}),
    }  # fmt: skip


@dg.asset(
    **_inventory_asset(RTS, SITE_COLUMNS),
    partitions_def=YEARS,
    deps=all_scenes("polygons"),
    description="Thaw slump sites of a year: merged overlapping detections of all scenes, with the number of scenes "
    "that detect and that observe each site. Only sites of changed scenes are recomputed.",
)
@measured
def _rts(
    context: dg.AssetExecutionContext, config: RtsConfig, store: Store, scenes: SceneRegistry
) -> dg.MaterializeResult[None]:
    from dataclasses import replace

    from darts_assets.inventory.inventory_store import read_inventory, write_inventory
    from darts_assets.inventory.yearly_inventory import update
    from darts_assets.orchestration.inventory.published_polygons import StoredPolygons, published_polygons
    from darts_assets.review.judgement import judge, review_version, verdict_table
    from darts_assets.review.verdict_store import read_verdicts

    year = int(context.partition_key)
    with domain_call(context.log):
        published = published_polygons(store, scenes, config.scene_families())
        records = [scene for scene in published.scenes if scene.datetime.year == year]
        versions = {scene.scene_id: scene.data_version for scene in records}
        options = config.model_dump(exclude={"rebuild"})
        made_from = {"polygons": data_version("", versions)}
        facts = provenance(CODE_VERSION, options, **made_from)
        place = store.place(GROUP, "rts", str(year))
        current = None if config.rebuild else place.manifest()
        before = read_inventory(place, current if _is_compatible(current, facts) else None, year, config)
        inventory, changes = update(before, records, StoredPolygons(store, records))
        judged = judge(inventory.sites, verdict_table(read_verdicts(store.root)), config)
        inventory = replace(inventory, sites=judged)
        facts = provenance(CODE_VERSION, options, **made_from, verdicts=review_version(judged, "site_id"))
        manifest = write_inventory(place, inventory, {"provenance": facts}, publish_rejected=config.publish_rejected)
    for scene, reason in published.unusable.items():
        context.log.warning(f"{scene} left out: {reason}")
    context.log.info(
        f"{year}: {len(inventory.sites)} sites in {len(records)} scenes; {changes.worked_out} recomputed, "
        f"{changes.kept} unchanged"
    )
    metadata = {
        "path": dg.MetadataValue.path(place.location.child(LATEST).url),
        "files": list(manifest.contents),
        **_summary(inventory),
        "scenes_added": len(changes.added),
        "scenes_changed": len(changes.changed),
        "scenes_removed": len(changes.removed),
        "sites_worked_out": changes.worked_out,
        "sites_kept": changes.kept,
        "scenes_left_out": dict(list(published.unusable.items())[:_MAX_ROWS]),
    }
    return materialize_result(metadata, facts)


@dg.asset(
    **_inventory_asset(SLUMPS, SLUMP_COLUMNS),
    deps=[dg.AssetDep(RTS, partition_mapping=dg.AllPartitionMapping())],
    description="Thaw slumps over the years: overlapping sites of different years share one slump id. "
    "Years without a detection count in `observable`.",
)
@measured
def _slumps(context: dg.AssetExecutionContext, config: SlumpsConfig, store: Store) -> dg.MaterializeResult[None]:
    from dataclasses import replace

    from darts_assets.inventory.inventory_store import read_year, write_followed, years_of
    from darts_assets.inventory.slumps import follow
    from darts_assets.orchestration.inventory.published_polygons import StoredPolygons, records_of
    from darts_assets.review.judgement import judge, judge_slumps, review_version, verdict_table
    from darts_assets.review.verdict_store import read_verdicts

    with domain_call(context.log):
        places = {year: store.place(GROUP, "rts", str(year)) for year in years_of(store.root.child(GROUP, "rts"))}
        manifests = {year: manifest for year, place in places.items() if (manifest := place.manifest())}
        provenances = {year: manifest.metadata["provenance"] for year, manifest in manifests.items()}
        tables = {year: read_year(places[year], manifest, year) for year, manifest in manifests.items()}
        sites, scenes = ({year: tables[year][which] for year in tables} for which in (0, 1))
        polygons = StoredPolygons(store, [record for table in scenes.values() for record in records_of(table)])
        followed = follow(sites, scenes, polygons.current_observed, config)
        judged = judge(followed.sites, verdict_table(read_verdicts(store.root)), config)
        followed = replace(followed, sites=judged, slumps=judge_slumps(followed.slumps, judged))
        inputs = {f"rts_{year}": made["data_version"] for year, made in provenances.items()}
        inputs["verdicts"] = review_version(judged, "site_id")
        facts = provenance(CODE_VERSION, config.model_dump(), **inputs)
        place = store.place(GROUP, "slumps")
        manifest = write_followed(place, followed, {"provenance": facts}, publish_rejected=config.publish_rejected)
    if polygons.missing:
        context.log.warning(f"scenes without polygons observe nothing: {', '.join(polygons.missing[:_MAX_ROWS])}")
    context.log.info(f"{len(followed.slumps)} slumps in {len(provenances)} years")
    metadata = {
        "path": dg.MetadataValue.path(place.location.child(LATEST).url),
        "files": list(manifest.contents),
        "dagster/row_count": len(followed.slumps),
        "verdicts": _verdicts(followed.slumps),
        "years": sorted(provenances),
        "seen_of_observable": _counted(followed.slumps, seen="int", observable="int"),
        "scenes_without_polygons": len(polygons.missing),
        "events": _counted(followed.sites, year="int", event="string"),
    }
    return materialize_result(metadata, facts)


def _is_compatible(manifest: Manifest | None, facts: dict[str, Any]) -> bool:
    """Whether the sites of the published inventory were made by the same code version and parameters."""
    before = manifest.metadata["provenance"] if manifest else {}
    own = {name: value for name, value in facts["parameters"].items() if name not in ReviewedConfig.model_fields}
    return before.get("code_version") == facts["code_version"] and own.items() <= before["parameters"].items()


def _verdicts(judged: "gpd.GeoDataFrame") -> dict[str, int]:
    """Number of sites or slumps by verdict, for those that reviewers have judged."""
    return dict(Counter(judged.loc[judged["reviewed"], "verdict"]))


def _summary(inventory: "Inventory") -> dict[str, Any]:
    from darts_assets.maps import site_map

    sites, scenes = inventory.sites, inventory.scenes
    figure = site_map(sites, scenes)
    return {
        "dagster/row_count": len(sites),
        "sites": len(sites),
        "verdicts": _verdicts(sites),
        "area_ha": round(float(sites["area_ha"].sum()), 3),
        "detections": len(inventory.detections),
        "scenes": len(scenes),
        "scenes_by_family": dict(Counter(scenes["family"])),
        "scenes_without_valid_area": int(scenes.geometry.is_empty.sum()),
        "clouded_detections": int(scenes["clouded_detections"].sum()),
        "seen_of_observable": _counted(sites, seen="int", observable="int"),
        **({"Map": dg.MetadataValue.md(image_link(figure, "webp", lossless=True))} if figure else {}),
    }


def _counted(sites: "gpd.GeoDataFrame", **kinds: str) -> dg.MetadataValue[Any]:
    """Number of sites for each pair of values of two columns, for the most frequent pairs."""
    pairs = Counter(zip(*(sites[name].tolist() for name in kinds), strict=True)).most_common(_MAX_ROWS)
    schema = dg.TableSchema([dg.TableColumn(name, kind) for name, kind in {**kinds, "sites": "int"}.items()])
    records = [dg.TableRecord({**dict(zip(kinds, pair, strict=True)), "sites": count}) for pair, count in sorted(pairs)]
    return dg.MetadataValue.table(records, schema)
