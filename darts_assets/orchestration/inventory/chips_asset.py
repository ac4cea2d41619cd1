"""`inventory/chips`: pictures of each slump in the years in which it was observed."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.inventory.table_schemas import CHIP_COLUMNS, CHIP_DESCRIPTIONS
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata, data_version, materialize_result, provenance
from darts_assets.orchestration.core.partitions import OWNER, all_scenes
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.inventory.assets import GROUP, RTS, SLUMPS
from darts_assets.stores.latest import LATEST
from darts_assets.stores.publish import Manifest

if TYPE_CHECKING:
    import pandas as pd

CHIPS = dg.AssetKey([GROUP, "chips"])
CODE_VERSION = "1"

_MAX_LISTED = 100
_SCHEMA = dg.TableSchema([dg.TableColumn(name, dtype, CHIP_DESCRIPTIONS[name]) for name, dtype in CHIP_COLUMNS.items()])


@dg.asset(
    key=CHIPS,
    group_name=GROUP,
    owners=[OWNER],
    kinds={"parquet"},
    pool=GROUP,
    code_version=CODE_VERSION,
    op_tags=op_tags(GROUP),
    metadata=as_metadata({"dagster/column_schema": dg.MetadataValue.table_schema(_SCHEMA)}),
    deps=[SLUMPS, dg.AssetDep(RTS, partition_mapping=dg.AllPartitionMapping()), *all_scenes("products")],
    description="A small picture of each slump in each year in which it was observed: of the products where a scene "
    "detects it, otherwise drawn from the stored tile of a scene of the same season. Only new pictures are drawn.",
)
@measured
def inventory_chips(context: dg.AssetExecutionContext, store: Store) -> dg.MaterializeResult[None]:
    """The asset."""
    import pandas as pd

    from darts_assets.inventory.chip_selection import DETECTION_FACTS, SCENE_FACTS, select_chips
    from darts_assets.inventory.inventory_store import OBSERVERS, years_of
    from darts_assets.inventory.table_schemas import OBSERVER_COLUMNS
    from darts_assets.orchestration.inventory.stored_chips import update_chips
    from darts_assets.stores.vectors import read_plain_table, read_table

    with domain_call(context.log):
        slumps = store.place(GROUP, "slumps")
        manifest = slumps.require()
        sites = read_table(slumps, manifest, "rts_sites")
        # Slumps of earlier releases lack the table.
        has_observers = f"{OBSERVERS}.parquet" in manifest.contents
        nobody = pd.DataFrame(columns=list(OBSERVER_COLUMNS)).astype(OBSERVER_COLUMNS)
        observers = read_plain_table(slumps, manifest, OBSERVERS) if has_observers else nobody
        detections, scenes = [], []
        for year in years_of(store.root.child(GROUP, "rts")):
            place = store.place(GROUP, "rts", str(year))
            if of_year := place.manifest():
                detections.append(read_plain_table(place, of_year, "detections", DETECTION_FACTS))
                scenes.append(read_plain_table(place, of_year, "scenes", SCENE_FACTS))
        selected = select_chips(sites, observers, pd.concat(detections), pd.concat(scenes))
        done = update_chips(store, store.place(GROUP, "chips"), selected, lambda table: _facts(manifest, table))
    if not has_observers:
        context.log.warning("years without a detection have no chips: inventory/slumps is of an earlier version")
    for scene, reason in done.problems.items():
        context.log.warning(f"{scene}: {reason}")
    context.log.info(f"{len(done.table)} chips: {', '.join(f'{count} {name}' for name, count in done.counts.items())}")
    metadata: dict[str, Any] = {
        "path": dg.MetadataValue.path(store.place(GROUP, "chips").location.child(LATEST).url),
        "dagster/row_count": len(done.table),
        "slumps": int(done.table["slump_id"].nunique()),
        **done.counts,
        "problems": dict(list(done.problems.items())[:_MAX_LISTED]),
    }
    return materialize_result(metadata, _facts(manifest, done.table)["provenance"])


def _facts(slumps: Manifest, table: "pd.DataFrame") -> dict[str, Any]:
    inputs = {
        "slumps": slumps.metadata["provenance"]["data_version"],
        "chips": data_version("", {"chips": table["made_from"].tolist()}),
    }
    return {"provenance": provenance(CODE_VERSION, {}, **inputs)}
