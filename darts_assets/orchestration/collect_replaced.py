"""Job that removes replaced versions of tiles, vectors, products and inventories."""

from datetime import timedelta

import dagster as dg

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Store

_LISTED = 10


@dg.op(
    out=dg.Out(dg.Nothing),
    tags=op_tags("job"),
    description="Removes replaced versions that are old enough and not referred to.",
)
def remove_replaced(context: dg.OpExecutionContext, store: Store) -> None:
    """Remove replaced versions from all places of the store."""
    from darts_assets.stores.replaced_versions import collect_replaced

    with domain_call(context.log):
        done = collect_replaced(store.root, timedelta(hours=store.keep_replaced_hours), context.log.info)
    context.log.info(f"{done.places} places, {done.removed} replaced versions removed")
    context.add_output_metadata(as_metadata({"places": done.places, "removed": done.removed}))
    if done.problems:
        shown = "; ".join(list(done.problems.values())[:_LISTED])
        raise dg.Failure(f"{len(done.problems)} places could not be cleaned: {shown}", allow_retries=False)


@dg.job(
    description="Removes versions that were replaced longer ago than DARTS_KEEP_REPLACED_HOURS, unless the catalog "
    "refers to them. Every run that writes a partition does the same for this partition."
)
def collect_replaced_versions() -> None:
    """Remove replaced versions."""
    remove_replaced()
