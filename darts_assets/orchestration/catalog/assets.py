"""Assets of the published catalog: the results of all scenes for pystac, DuckDB, GeoPandas, GIS programs and browsers.

They read the published products of all scenes, and the inventory, from the store.
"""

from collections import Counter
from datetime import timedelta
from typing import Any, TypedDict

import dagster as dg

from darts_assets.catalog.detection_columns import COLUMNS
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata, image_link, materialize_result, provenance
from darts_assets.orchestration.core.partitions import FAMILIES, OWNER, all_scenes
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Models, Store
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.inventory.area_assets import AREA_SAMPLE
from darts_assets.orchestration.inventory.assets import RTS, SLUMPS
from darts_assets.orchestration.inventory.chips_asset import CHIPS

CODE_VERSION = "2"
STAC_CODE_VERSION = "3"

GROUP = "catalog"
STAC = dg.AssetKey([GROUP, "stac"])
DETECTIONS = dg.AssetKey([GROUP, "detections"])
MAP = dg.AssetKey([GROUP, "map"])

_COLUMNS = dg.TableSchema([dg.TableColumn(name, kind, text) for name, (kind, text) in COLUMNS.items()])

_MAX_ROWS = 100
"""Maximum number of rows or names in metadata."""

_CELL = 0.5
"""Degrees; boxes within one cell are drawn once."""


class CatalogConfig(dg.Config):
    """How the catalog is published.

    Attributes:
        licence: licence of the results: an SPDX identifier, or `other`.
        rebuild: rewrite everything, not only what changed.
    """

    licence: str = "CC-BY-4.0"
    rebuild: bool = False


class StacConfig(CatalogConfig):
    """How the STAC catalog is published.

    Attributes:
        publish_checkpoints: copy the checkpoints of the models into the catalog; otherwise it has only their hashes.
    """

    publish_checkpoints: bool = True


class CatalogArguments(TypedDict):
    """Arguments of `dg.asset`."""

    key: dg.AssetKey
    group_name: str
    owners: list[str]
    code_version: str
    op_tags: dict[str, Any]
    pool: str


def build_catalog(ui_url: str | None = None) -> list[dg.AssetsDefinition]:
    """The assets of the catalog; with the URL of Dagster's UI for links of the map."""
    return [_stac, _detections, _build_map(ui_url)]


def _catalog_asset(key: dg.AssetKey, step: str = GROUP, code_version: str = CODE_VERSION) -> CatalogArguments:
    return {
        "key": key, "group_name": GROUP, "owners": [OWNER], "code_version": code_version, "pool": "catalog",
        "op_tags": op_tags(step),
    }  # fmt: skip


@dg.asset(
    **_catalog_asset(STAC, code_version=STAC_CODE_VERSION),
    deps=[*all_scenes("products"), dg.AssetDep(RTS, partition_mapping=dg.AllPartitionMapping()), SLUMPS],
    kinds={"stac"},
    description="STAC catalog of the results: an item with the products of each scene, the models that made them, and "
    "the inventory.",
)
@measured
def _stac(
    context: dg.AssetExecutionContext, config: StacConfig, store: Store, models: Models
) -> dg.MaterializeResult[None]:
    with domain_call(context.log):
        from darts_assets.catalog.stac_tree import update_stac

        update = update_stac(store.root, list(FAMILIES), models.headers, **config.model_dump())
    if update.unusable:
        context.log.warning(f"Unusable products; materialize them again: {_listed(update.unusable)}")
    metadata = {
        "path": dg.MetadataValue.path(f"{store.root}/catalog/catalog.json"),
        "items": sum(update.items.values()),
        "by_family": update.items,
        "written": update.written,
        "removed": update.removed,
        "deleted_objects": update.deleted,
        "unusable": len(update.unusable),
        "models": update.models[:_MAX_ROWS],
        "inventory": update.inventory[:_MAX_ROWS],
        **({"Map": _map(update.boxes)} if update.boxes else {}),
    }
    return _result(metadata, config, update.version, STAC_CODE_VERSION)


@dg.asset(
    **_catalog_asset(DETECTIONS),
    deps=all_scenes("products"),
    kinds={"parquet", "geopandas"},
    metadata=as_metadata({"dagster/column_schema": dg.MetadataValue.table_schema(_COLUMNS)}),
    description="Detected thaw slumps of all scenes as GeoParquet by year and region, rows in spatial order.",
)
@measured
def _detections(context: dg.AssetExecutionContext, config: CatalogConfig, store: Store) -> dg.MaterializeResult[None]:
    with domain_call(context.log):
        from darts_assets.catalog.detections import update_detections

        update = update_detections(store.root, list(FAMILIES), licence=config.licence, rebuild=config.rebuild)
    if update.left_out:
        context.log.warning(f"Left out (no polygons, or products to materialize again): {_listed(update.left_out)}")
    metadata = {
        "path": dg.MetadataValue.path(f"{store.root}/catalog/detections/year=*/region=*/part.parquet"),
        "dagster/row_count": update.rows,
        "scenes": update.scenes,
        "left_out": len(update.left_out),
        "files": len(update.parts),
        "bytes": sum(part["bytes"] for part in update.parts.values()),
        "written": update.written[:_MAX_ROWS],
        "deleted": update.deleted[:_MAX_ROWS],
        "regions": _table(update.parts),
    }
    return _result(metadata, config, update.version)


def _build_map(ui_url: str | None) -> dg.AssetsDefinition:
    """The asset `catalog/map`."""

    @dg.asset(
        **_catalog_asset(MAP, "inventory"),  # it reads all sites
        deps=[SLUMPS, CHIPS, STAC, dg.AssetDep(AREA_SAMPLE, partition_mapping=dg.AllPartitionMapping())],
        kinds={"html", "flatgeobuf"},
        description="Web map of the inventory, a static page: slumps by year, observing scenes, pictures, review of "
        "slumps and of samples of points.",
    )
    @measured
    def web_map(context: dg.AssetExecutionContext, config: CatalogConfig, store: Store) -> dg.MaterializeResult[None]:
        with domain_call(context.log):
            from darts_assets.web_map.published_map import INDEX, update_map

            grace = timedelta(hours=store.keep_replaced_hours)
            update = update_map(
                store.root, list(FAMILIES), ui_url=ui_url, licence=config.licence, rebuild=config.rebuild, grace=grace
            )
        facts = update.description
        metadata = {
            "path": dg.MetadataValue.path(f"{store.root}/{INDEX}"),
            "open": "darts-assets map-server",
            "slumps": facts["slumps"],
            "sites": facts["sites"],
            "years": facts["years"],
            "scenes": facts["scenes"],
            "bytes": sum(facts["bytes"].values()),
            "data_written": update.is_new,
        }
        inputs = provenance(CODE_VERSION, config.model_dump(exclude={"rebuild"}), **update.inputs)
        return materialize_result(metadata, inputs)

    return web_map


def _result(
    metadata: dict[str, Any], config: CatalogConfig, content: str, code_version: str = CODE_VERSION
) -> dg.MaterializeResult[None]:
    facts = provenance(code_version, config.model_dump(exclude={"rebuild"}), products=content)
    return materialize_result(metadata, facts)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{', '.join(names[:10])}{more}"


def _table(parts: dict[str, dict[str, Any]]) -> dg.MetadataValue[Any]:
    """The files of the table, largest first, at most `_MAX_ROWS`."""
    largest = sorted(parts.items(), key=lambda item: (-item[1]["rows"], item[0]))[:_MAX_ROWS]
    records = []
    for key, part in largest:
        year, region = (name.partition("=")[2] for name in key.split("/")[:2])
        records.append(dg.TableRecord({"year": year, "region": region, "rows": part["rows"], "bytes": part["bytes"]}))
    columns = [("year", "string"), ("region", "string"), ("rows", "int"), ("bytes", "int")]
    schema = dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns])
    return dg.MetadataValue.table(records, schema)


def _map(boxes: list[list[float]]) -> dg.MetadataValue[Any]:
    """Map of the scenes; darker where there are more."""
    import shapely

    from darts_assets.maps import footprint_map

    counts = Counter(tuple(round(side / _CELL) for side in box) for box in boxes)
    examples = {tuple(round(side / _CELL) for side in box): box for box in boxes}
    shapes = []
    for cell, count in counts.items():
        west, south, east, north = examples[cell]
        halves = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
        shapes.append((shapely.MultiPolygon([shapely.box(a, south, b, north) for a, b in halves]), count))
    return dg.MetadataValue.md(image_link(footprint_map(shapes), "webp", lossless=True))
