"""Asset `inventory/review_report`: precision of the inventory from the verdicts of reviewers."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.orchestration.core.error_handling import StepConfig, domain_call
from darts_assets.orchestration.core.metadata import materialize_result, picture, provenance
from darts_assets.orchestration.core.partitions import OWNER
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.inventory.assets import GROUP, SLUMPS
from darts_assets.review.precision_parameters import PrecisionParameters
from darts_assets.stores.latest import LATEST

if TYPE_CHECKING:
    import pandas as pd

CODE_VERSION = "1"
REVIEW_REPORT = dg.AssetKey([GROUP, "review_report"])


class ReviewReportConfig(StepConfig, PrecisionParameters):
    """What the report shows."""


def build_review_report() -> list[dg.AssetsDefinition]:
    """The report of the reviews."""
    return [_review_report]


@dg.asset(
    key=REVIEW_REPORT,
    group_name=GROUP,
    owners=[OWNER],
    kinds={"csv"},
    pool=GROUP,
    code_version=CODE_VERSION,
    op_tags=op_tags(GROUP),
    deps=[SLUMPS],
    description="Precision of the slumps by probability and by region, from the verdicts of reviewers, and the "
    "threshold that reaches a wanted precision.",
)
@measured
def _review_report(
    context: dg.AssetExecutionContext, config: ReviewReportConfig, store: Store
) -> dg.MaterializeResult[None]:
    from darts_assets.review.precision import precision_report, write_report
    from darts_assets.review.precision_chart import precision_chart
    from darts_assets.stores.vectors import read_table

    with domain_call(context.log):
        slumps = store.place(GROUP, "slumps")
        manifest = slumps.require()
        report = precision_report(read_table(slumps, manifest, "rts_sites"), config)
        facts = provenance(CODE_VERSION, config.model_dump(), slumps=manifest.metadata["provenance"]["data_version"])
        place = store.place(GROUP, "review_report")
        written = write_report(place, report, {"provenance": facts})
    total = report.total
    context.log.info(f"{total['reviewed']:.0f} of {total['slumps']:.0f} slumps reviewed, {total['no']:.0f} rejected")
    metadata: dict[str, Any] = {
        "Chart": picture(precision_chart(report, config.wanted_precision)),
        "precision": None if total["precision"] != total["precision"] else float(total["precision"]),
        "interval": f"{total['low']:.3f} to {total['high']:.3f}",
        "threshold": report.threshold,
        "safe_threshold": report.safe_threshold,
        "by_probability": _table(report.bins),
        "by_region": _table(report.regions),
        "above_threshold": _table(report.thresholds),
        "reviewed": int(total["reviewed"]),
        "slumps": int(total["slumps"]),
        "path": dg.MetadataValue.path(place.location.child(LATEST).url),
        "files": list(written.contents),
    }
    return materialize_result(metadata, facts)


def _table(table: "pd.DataFrame") -> dg.MetadataValue[Any]:
    """A table of the report; empty cells where nothing is decided."""
    shown = table.round(3).astype(object).where(table.notna(), "")
    kinds = {str(name): "int" if dtype == "int64" else "string" for name, dtype in table.dtypes.items()}
    schema = dg.TableSchema([dg.TableColumn(name, kind) for name, kind in kinds.items()])
    records = [dg.TableRecord(dict(zip(kinds, row, strict=True))) for row in shown.itertuples(index=False)]
    return dg.MetadataValue.table(records, schema)
