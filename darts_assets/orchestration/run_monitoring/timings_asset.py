"""Asset `runs/timings`: time, memory and bytes of the steps of runs, as a table, a summary and a chart."""

import datetime as dt
import hashlib
from typing import TYPE_CHECKING, Any

import dagster as dg
import obstore
from pydantic import Field

from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import image_link, materialize_result, provenance
from darts_assets.orchestration.core.partitions import OWNER
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.run_monitoring.event_log import RunSelection, finished_runs, step_rows
from darts_assets.orchestration.run_monitoring.scene_results import timing_files

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

CODE_VERSION = "1"

TIMINGS = dg.AssetKey(["runs", "timings"])
_MAX_FAILURES = 50  # in the metadata; the table in the store has all
_COLORS = 128  # of the chart in the metadata


class TimingsConfig(dg.Config):
    """Selection of finished runs, and of the assets in them."""

    runs: list[str] = Field(default=[], description="Run ids.")
    backfill: str = Field(default="", description="Id of a backfill: the runs that it launched.")
    since: str = Field(
        default="", description="Earliest time of creation (UTC), for example 2026-07-01 or 2026-07-01T12:00."
    )
    until: str = Field(default="", description="Latest time of creation (UTC); a date includes that whole day.")
    days: float = Field(default=7.0, description="Without any of the filters above: runs of the last so many days.")
    assets: list[str] = Field(
        default=[], description="Asset keys (sentinel2/segmentation) or key prefixes (sentinel2); empty: all assets."
    )
    max_runs: int = Field(default=1000, ge=1, description="Maximum number of runs; older runs are left out.")

    def selection(self) -> RunSelection:
        """The filters of runs.

        Raises:
            SettingsError: if a time cannot be parsed.
        """
        since, until = _time("since", self.since), _time("until", self.until)
        if until and len(self.until) <= len("2026-07-01"):
            until += dt.timedelta(days=1)
        if not (self.runs or self.backfill or since or until):
            since = dt.datetime.now(dt.UTC) - dt.timedelta(days=self.days)
        return RunSelection(tuple(self.runs), self.backfill or None, since, until)

    def includes(self, asset: str) -> bool:
        """Whether the asset with this key is selected."""
        prefixes = (name.strip("/") for name in self.assets)
        return not self.assets or any(asset == prefix or asset.startswith(f"{prefix}/") for prefix in prefixes)


@dg.asset(
    key=TIMINGS,
    group_name=TIMINGS.path[0],
    owners=[OWNER],
    kinds={"parquet"},
    code_version=CODE_VERSION,
    description="Time, memory, bytes, result and error of each step of each scene, for a selection of runs.",
)
@measured
def run_timings(context: dg.AssetExecutionContext, config: TimingsConfig, store: Store) -> dg.MaterializeResult[None]:
    """Read the event log and publish table, summary and chart."""
    with domain_call(context.log):
        from darts_assets.timings import as_markdown, chart, steps_table, summary

        runs = list(finished_runs(context.instance, config.selection(), config.max_runs + 1))
        if len(runs) > config.max_runs:
            context.log.warning(f"more than {config.max_runs} runs (max_runs) match; older runs are left out")
            runs.pop()
        own = TIMINGS.to_user_string()
        steps = steps_table(
            row
            for run in runs
            for row in step_rows(context.instance, run)
            if row["asset"] != own and config.includes(row["asset"])
        )
        figure, by_step = chart(steps), summary(steps)
        folder = _publish(store, steps, figure)
    counts = {name: int((steps["result"] == name).sum()) for name in ("ok", "failed", "skipped")}
    context.log.info(f"{len(runs)} runs, {len(steps)} steps: {counts}")
    digest = hashlib.sha256(" ".join(sorted(run.run_id for run in runs)).encode()).hexdigest()[:16]
    facts = provenance(CODE_VERSION, config.model_dump(), runs=digest)
    metadata: dict[str, Any] = {
        "path": dg.MetadataValue.path(folder),
        "runs": len(runs),
        "steps": len(steps),
        **counts,
        "summary": dg.MetadataValue.md(as_markdown(by_step) if len(by_step) else "No finished steps in these runs."),
        **({"chart": dg.MetadataValue.md(_small(figure))} if figure else {}),
        **({"failures": _failures(steps)} if counts["failed"] else {}),
    }
    return materialize_result(metadata, facts)


def _time(name: str, value: str) -> dt.datetime | None:
    try:
        time = dt.datetime.fromisoformat(value) if value else None
    except ValueError:
        raise SettingsError(f"{name} is {value!r}: expected a date or a time such as 2026-07-01T12:00") from None
    return time.replace(tzinfo=dt.UTC) if time and time.tzinfo is None else time


def _publish(store: Store, steps: "pd.DataFrame", figure: "Image | None") -> str:
    """Write table and chart into a new version of `runs/timings`; returns its folder."""
    place = store.place(*TIMINGS.path)
    files = timing_files(steps, figure)
    with place.new_version() as version:
        for name, content in files.items():
            obstore.put(version.location.objects(), name, content)
        place.publish(version, dict.fromkeys(files, version.id), {})
    return version.location.url


def _small(figure: "Image") -> str:
    """The chart with few colours, because the event log stores it."""
    return image_link(figure.quantize(_COLORS), optimize=True)


def _failures(steps: "pd.DataFrame") -> dg.MetadataValue[Any]:
    failed = steps[steps["result"] == "failed"].tail(_MAX_FAILURES).iloc[::-1]
    columns = ["asset", "scene", "error", "run_id"]
    return dg.MetadataValue.table(
        [
            dg.TableRecord({str(name): str(value) for name, value in row.items()})
            for row in failed[columns].fillna("").to_dict("records")
        ]
    )
