"""The results of all scenes for readers: inventory of every year, catalog and map, by the assets of a Dagster instance.

`darts-assets publish` is the jobs `update_inventory`, for each year with scenes, and `publish_catalog`. The assets
compute only what has changed since the last time.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
from rich.console import Console

from darts_assets.errors import SceneError
from darts_assets.orchestration.core.error_handling import failure_message
from darts_assets.orchestration.core.partitions import FAMILIES
from darts_assets.orchestration.core.run_owner import owner_tags
from darts_assets.orchestration.inventory.assets import RTS, SLUMPS
from darts_assets.orchestration.inventory.chips_asset import CHIPS
from darts_assets.orchestration.inventory.published_polygons import published_polygons
from darts_assets.orchestration.inventory.review_report import REVIEW_REPORT

_LEVELS = ("CRITICAL", "INFO", "DEBUG")


class _Part(NamedTuple):
    title: str
    job: str
    year: str | None
    assets: Sequence[dg.AssetKey] | None


def publish_results(defs: dg.Definitions, home: Path, console: Console, verbosity: int = 0) -> int:
    """Update inventory, catalog and map.

    Args:
        defs: the code location.
        home: folder of the Dagster instance.
        console: receives a line per part, and the reason of a failure as the last line.
        verbosity: 1 shows Dagster's messages, 2 also its debug messages.

    Returns:
        The exit code: 1 if a part failed; the following ones are not updated then.

    Raises:
        DartsError: if no scene has polygons, or the store does not respond.
    """
    resources: dict[str, Any] = dict(defs.resources or {})
    polygons = published_polygons(resources["store"], resources["scenes"], FAMILIES.values())
    years = sorted({str(scene.datetime.year) for scene in polygons.scenes})
    if not years:
        raise SceneError("no scene has polygons to publish; map scenes first: darts-assets map")
    config = {"loggers": {"console": {"config": {"log_level": _LEVELS[min(verbosity, 2)]}}}}
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for part in _parts(years):
            began = time.monotonic()
            with console.status(part.title), interruptible():
                result = defs.resolve_job_def(part.job).execute_in_process(
                    instance=instance, partition_key=part.year, raise_on_error=False, run_config=config,
                    asset_selection=part.assets, tags=owner_tags(),
                )  # fmt: skip
            if not result.success:
                failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
                if any(failure.error_source and failure.error_source.name == "INTERRUPT" for failure in failures):
                    raise KeyboardInterrupt
                reason = failure_message(failures[0]) if failures else "the run failed outside of its steps"
                _print(console, f"{part.title}: failed (run {result.run_id})\n{reason}")
                return 1
            _print(console, f"{part.title}: {_figures(result)} ({time.monotonic() - began:.0f} s)")
    page = resources["store"].root.child("catalog", "map").url
    _print(
        console,
        f"Map: {page}/index.html; look at it with `darts-assets map-server`, judge it with `darts-assets review`",
    )
    return 0


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt where Dagster has its own error."""
    try:
        yield
    except dg.DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None


def _parts(years: list[str]) -> Iterator[_Part]:
    for year in years:
        yield _Part(f"Inventory of {year}", "update_inventory", year, [RTS])
    # The last year stands for the partition of the run only: these assets have none.
    yield _Part("Slumps through the years", "update_inventory", years[-1], [SLUMPS, CHIPS, REVIEW_REPORT])
    yield _Part("Catalog and map", "publish_catalog", None, None)


def _figures(result: dg.ExecuteInProcessResult) -> str:
    """`31 slumps, 42 chips`: the numbers of rows of the tables, by asset."""
    made = {event.asset_key: event.materialization.metadata for event in result.get_asset_materialization_events()}
    return ", ".join(
        f"{metadata['dagster/row_count'].value} {_ROWS.get(key.path[-1], key.path[-1])}"
        for key, metadata in made.items()
        if key is not None and "dagster/row_count" in metadata
    )


_ROWS = {"rts": "sites"}
"""Name of an asset -> what its rows are, where that differs."""


def _print(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)
