"""The published catalog: results of all scenes for pystac, DuckDB, GeoPandas and GIS programs.

These assets read what `products` have published in the store. They are not downstream of the chains in the graph: what
is selected downstream of a scene (`+`) is its map, and each scene's run would write the whole catalog again.
"""

from collections import Counter
from typing import Any, TypedDict

import dagster as dg

from darts_assets.catalog.detection_columns import COLUMNS
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata, image_link
from darts_assets.orchestration.core.models import Models
from darts_assets.orchestration.core.partitions import FAMILIES, OWNER
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.provenance import provenance
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.step_metrics import measured

CODE_VERSION = "1"

GROUP = "catalog"
STAC = dg.AssetKey([GROUP, "stac"])
DETECTIONS = dg.AssetKey([GROUP, "detections"])

_COLUMNS = dg.TableSchema([dg.TableColumn(name, kind, text) for name, (kind, text) in COLUMNS.items()])

_SHOWN = 100
"""Rows of a table, or names of a list, in the event log."""

_CELL = 0.5
"""Degrees: boxes that differ less are one on the map."""


class CatalogConfig(dg.Config):
    """How the catalog is published.

    Attributes:
        licence: of the results: an SPDX identifier, or `other`.
        rebuild: write everything anew, not only what has changed.
    """

    licence: str = "CC-BY-4.0"
    rebuild: bool = False


class CatalogArguments(TypedDict):
    """Arguments of `dg.asset`."""

    key: dg.AssetKey
    group_name: str
    owners: list[str]
    code_version: str
    op_tags: dict[str, Any]
    pool: str


def build_catalog() -> list[dg.AssetsDefinition]:
    """The assets of the catalog."""
    return [_stac, _detections]


def _of_catalog(key: dg.AssetKey) -> CatalogArguments:
    return {
        "key": key, "group_name": GROUP, "owners": [OWNER], "code_version": CODE_VERSION, "pool": "catalog",
        "op_tags": op_tags("catalog"),
    }  # fmt: skip


@dg.asset(
    **_of_catalog(STAC),
    kinds={"stac"},
    description="Results of all scenes as a STAC tree: items with the products of each, and the models behind them.",
)
@measured
def _stac(
    context: dg.AssetExecutionContext, config: CatalogConfig, store: Store, models: Models
) -> dg.MaterializeResult[None]:
    with domain_call(context.log):
        from darts_assets.catalog.stac_tree import update_stac

        done = update_stac(store.root, list(FAMILIES), models.headers, licence=config.licence, rebuild=config.rebuild)
    if done.unusable:
        context.log.warning(f"materialize the products of these again: {_some(done.unusable)}")
    said = {
        "path": dg.MetadataValue.path(f"{store.root}/catalog/catalog.json"),
        "items": sum(done.items.values()),
        "by_family": done.items,
        "written": done.written,
        "removed": done.removed,
        "deleted_objects": done.deleted,
        "unusable": len(done.unusable),
        "models": done.models[:_SHOWN],
        **({"map": _map(done.boxes)} if done.boxes else {}),
    }
    return _materialized(said, config, done.version)


@dg.asset(
    **_of_catalog(DETECTIONS),
    kinds={"parquet", "geopandas"},
    metadata=as_metadata({"dagster/column_schema": dg.MetadataValue.table_schema(_COLUMNS)}),
    description="Detected thaw slumps of all scenes: GeoParquet by year and region, rows in a spatial order.",
)
@measured
def _detections(context: dg.AssetExecutionContext, config: CatalogConfig, store: Store) -> dg.MaterializeResult[None]:
    with domain_call(context.log):
        from darts_assets.catalog.detections import update_detections

        done = update_detections(store.root, list(FAMILIES), licence=config.licence, rebuild=config.rebuild)
    if done.left_out:
        context.log.warning(f"products without polygons, or to be materialized again: {_some(done.left_out)}")
    said = {
        "path": dg.MetadataValue.path(f"{store.root}/catalog/detections/year=*/region=*/part.parquet"),
        "dagster/row_count": done.rows,
        "scenes": done.scenes,
        "left_out": len(done.left_out),
        "files": len(done.parts),
        "bytes": sum(part["bytes"] for part in done.parts.values()),
        "written": done.written[:_SHOWN],
        "deleted": done.deleted[:_SHOWN],
        "regions": _table(done.parts),
    }
    return _materialized(said, config, done.version)


def _materialized(said: dict[str, Any], config: CatalogConfig, content: str) -> dg.MaterializeResult[None]:
    facts = provenance(CODE_VERSION, config.model_dump(exclude={"rebuild"}), products=content)
    version = dg.DataVersion(facts["data_version"])
    return dg.MaterializeResult(metadata=as_metadata({**said, "provenance": facts}), data_version=version)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{', '.join(names[:10])}{more}"


def _table(parts: dict[str, dict[str, Any]]) -> dg.MetadataValue[Any]:
    """The files of the table; the largest, where there are many."""
    largest = sorted(parts.items(), key=lambda item: (-item[1]["rows"], item[0]))[:_SHOWN]
    records = []
    for key, part in largest:
        year, region = (name.partition("=")[2] for name in key.split("/")[:2])
        records.append(dg.TableRecord({"year": year, "region": region, "rows": part["rows"], "bytes": part["bytes"]}))
    columns = [("year", "string"), ("region", "string"), ("rows", "int"), ("bytes", "int")]
    schema = dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns])
    return dg.MetadataValue.table(records, schema)


def _map(boxes: list[list[float]]) -> dg.MetadataValue[Any]:
    """Where the scenes are, the darker the more."""
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
